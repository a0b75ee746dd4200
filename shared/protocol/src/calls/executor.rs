//! What the executor is asked, and what comes of an attempt.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::event::Payload;
use crate::ids::{ActionName, FencingToken, JobId, Revision, ShardIndex, TenantId, TraceParent, UserId};
use crate::time::UnixMs;

/// How the wait before the next attempt grows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// The same wait each time. Milliseconds.
    Constant {
        /// The wait.
        ms: u64,
    },
    /// Twice the wait each time, up to a cap. Milliseconds.
    Exponential {
        /// The first wait.
        initial_ms: u64,
        /// The longest wait.
        cap_ms: u64,
    },
}

/// What brings a job to its attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dispatch {
    /// The `Jobs` object starts it at once.
    #[default]
    Direct,
    /// A doorbell through the queue starts it: background work, paced by the queue.
    Queue,
}

/// Whether attempts may share one invocation of the executor. An invocation has one bound on CPU time and one on open
/// connections for all that runs in it, and ends as a whole where the platform ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// Next to no work and no connections: a call for each attempt would cost more than the attempt.
    Shared,
    /// An invocation of its own.
    #[default]
    Alone,
}

/// How a job is tried: frozen when it is accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Attempts at most.
    pub attempts_max: u32,
    /// The wait between them.
    pub backoff: Backoff,
    /// How long one attempt may take. Milliseconds.
    pub timeout_ms: u64,
    /// How long a lease lasts without a sign of life. Milliseconds.
    pub lease_ms: u64,
    /// How long the ended job and its key are kept. Milliseconds.
    pub retention_ms: u64,
    /// What starts it.
    pub dispatch: Dispatch,
    /// Whether its attempts may share an invocation.
    pub sharing: Sharing,
}

/// Asks the executor to make one attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Execute {
    /// The job.
    pub job: JobId,
    /// The lease that the attempt holds.
    pub token: FencingToken,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Whose job it is.
    pub user: UserId,
    /// What to run.
    pub action: ActionName,
    /// Under which composition.
    pub revision: Revision,
    /// Its input.
    pub payload: Payload,
    /// The client's own notes on it.
    pub metadata: BTreeMap<String, String>,
    /// The object that holds the latest checkpoint.
    pub checkpoint: Option<String>,
    /// When the attempt must be done.
    pub deadline: UnixMs,
    /// How long a lease lasts without a sign of life. Milliseconds.
    pub lease_ms: u64,
    /// Whether the attempt may share an invocation.
    pub sharing: Sharing,
    /// The caller's trace.
    pub traceparent: Option<TraceParent>,
}

/// Attempts for one invocation, and where their reports and outcomes go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The tenant of all of them.
    pub tenant: TenantId,
    /// The `Jobs` object that holds their jobs.
    pub shard: ShardIndex,
    /// The attempts.
    pub attempts: Vec<Execute>,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It gave a result.
    Succeeded {
        /// The result, or where it lies.
        result: Payload,
    },
    /// It failed; the error says whether trying again may help.
    Failed {
        /// Why.
        error: Error,
    },
    /// It did as much as one run may do, and goes on from its checkpoint. Costs no attempt.
    Unfinished,
}
