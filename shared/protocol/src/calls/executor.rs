//! What the executor is asked, and what comes of an attempt.

use alloc::collections::BTreeMap;
use alloc::string::String;

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
}

/// Asks the executor to make one attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Execute {
    /// The tenant.
    pub tenant: TenantId,
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
    /// The caller's trace.
    pub traceparent: Option<TraceParent>,
}

/// An attempt, and where its reports and its outcome go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The `Jobs` object that holds the job.
    pub shard: ShardIndex,
    /// The attempt.
    pub execute: Execute,
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
