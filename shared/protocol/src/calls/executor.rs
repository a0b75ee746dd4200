//! What the executor is asked, and what comes of an attempt.

use alloc::string::String;
use alloc::vec::Vec;

use tidegate_cbor::{Decode, Encode};

use super::feeds::Feeds;
use super::hooks::Message;
use super::reporting::Reporting;
use super::versions::RevisionRule;
use crate::SortedMap;
use crate::error::Error;
use crate::event::Payload;
use crate::ids::{ActionName, FencingToken, JobId, PoolName, Revision, ShardIndex, TenantId, TraceParent, UserId};
use crate::time::UnixMs;

/// By what a wait is multiplied each time, in millionths: 12.1825 is 12,182,500.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[serde(transparent)]
pub struct Factor(pub u64);

impl Factor {
    /// One, which lets nothing grow.
    pub const ONE: Self = Self(1_000_000);
}

impl Default for Factor {
    /// Two: what every exponential wait had before it could be chosen.
    fn default() -> Self {
        Self(2 * Self::ONE.0)
    }
}

/// How the wait before the next attempt grows. The wait after attempt `n`, from 1, before its jitter.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// The same wait each time. Milliseconds.
    Constant {
        /// The wait.
        ms: u64,
    },
    /// So much more each time, up to a cap. Milliseconds.
    Linear {
        /// The first wait.
        initial_ms: u64,
        /// What each further wait has more.
        increment_ms: u64,
        /// The longest wait.
        cap_ms: u64,
    },
    /// So many times the wait each time, up to a cap. Milliseconds.
    Exponential {
        /// The first wait.
        initial_ms: u64,
        /// How many times.
        #[serde(default)]
        factor: Factor,
        /// The longest wait.
        cap_ms: u64,
    },
    /// `n` to a power, times a unit, up to a cap. Milliseconds.
    Polynomial {
        /// The unit, which is the first wait.
        unit_ms: u64,
        /// The power.
        power: u32,
        /// The longest wait.
        cap_ms: u64,
    },
    /// The waits themselves, of which the last repeats. Milliseconds.
    Table {
        /// The waits. Where there are none, there is no wait.
        waits_ms: Vec<u64>,
    },
}

impl Backoff {
    /// What spreads its waits where nothing is said: half of an exponential wait, nothing of the others, which say
    /// exactly what is meant.
    pub const fn own_jitter(&self) -> Jitter {
        match self {
            Self::Exponential { .. } => Jitter::Equal,
            Self::Constant { .. } | Self::Linear { .. } | Self::Polynomial { .. } | Self::Table { .. } => Jitter::None,
        }
    }
}

/// How chance spreads a wait `w`, so that jobs that failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Jitter {
    /// Exactly `w`.
    None,
    /// From 0 to `w`.
    Full,
    /// From half of `w` to `w`.
    Equal,
    /// From so many percent less than `w` to so many more.
    PlusMinus {
        /// Percent of `w`. What is over a hundred counts as a hundred.
        percent: u8,
    },
}

/// What brings a job to its attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Dispatch {
    /// The `Jobs` object starts it at once.
    #[default]
    Direct,
    /// A doorbell through the queue starts it: background work, paced by the queue.
    Queue,
    /// The `Jobs` object starts it at once where it has a place and no limit or pause holds it back; else a doorbell does.
    Auto,
}

impl Dispatch {
    /// Whether the job starts as it is accepted, where there is a place for it.
    pub fn starts_at_once(self) -> bool {
        self != Self::Queue
    }

    /// Whether a job that does not start as it is accepted waits for a doorbell.
    pub fn rings(self) -> bool {
        self != Self::Direct
    }
}

/// Whether attempts may share one invocation of the executor. An invocation has one bound on CPU time and one on open
/// connections for all that runs in it, and ends as a whole where the platform ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// Next to no work and no connections: a call for each attempt would cost more than the attempt.
    Shared,
    /// An invocation of its own.
    #[default]
    Alone,
}

/// How a job is tried: frozen when it is accepted.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Policy {
    /// Attempts at most.
    pub attempts_max: u32,
    /// The wait between them.
    pub backoff: Backoff,
    /// How chance spreads that wait; `None` as the backoff's own kind does.
    #[serde(default)]
    pub jitter: Option<Jitter>,
    /// How long one attempt may take. Milliseconds.
    pub timeout_ms: u64,
    /// How long the job may wait for its first attempt, from when it may start; `None` without end. Milliseconds.
    #[serde(default)]
    pub queue_timeout_ms: Option<u64>,
    /// How long the job may take with all its attempts and waits, from when it may start; `None` without end.
    /// Milliseconds.
    #[serde(default)]
    pub total_timeout_ms: Option<u64>,
    /// How long an attempt may go without progress, text or a checkpoint; `None` without end. Milliseconds.
    #[serde(default)]
    pub heartbeat_timeout_ms: Option<u64>,
    /// How long a lease lasts without a sign of life. Milliseconds.
    pub lease_ms: u64,
    /// How long an attempt under way may take to bring itself to an end once its job is cancelled. Milliseconds.
    #[serde(default)]
    pub cancel_grace_ms: u64,
    /// How long the ended job and its key are kept. Milliseconds.
    pub retention_ms: u64,
    /// How long its result is kept, where that is shorter; `None`: as long as the job. Milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_retention_ms: Option<u64>,
    /// What starts it.
    pub dispatch: Dispatch,
    /// Whether its attempts may share an invocation.
    pub sharing: Sharing,
    /// How often its attempts report, and how much of what they write is kept.
    #[serde(default, skip_serializing_if = "Reporting::is_default")]
    pub reporting: Reporting,
    /// Whose workers make its attempts; `None`: the executor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolName>,
    /// Which composition says what its attempts do.
    #[serde(default, skip_serializing_if = "RevisionRule::is_default")]
    pub revision: RevisionRule,
    /// In which channels its changes are told.
    #[serde(default, skip_serializing_if = "Feeds::are_none")]
    pub feeds: Feeds,
}

/// Asks the executor to make one attempt.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
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
    pub metadata: SortedMap<String, String>,
    /// The object that holds the latest checkpoint.
    pub checkpoint: Option<String>,
    /// When the attempt must be done.
    pub deadline: UnixMs,
    /// How long a lease lasts without a sign of life. Milliseconds.
    pub lease_ms: u64,
    /// How long the attempt may take to bring itself to an end once its job is cancelled. Milliseconds.
    #[serde(default)]
    pub cancel_grace_ms: u64,
    /// Whether the attempt may share an invocation.
    pub sharing: Sharing,
    /// How often the attempt reports.
    #[serde(default, skip_serializing_if = "Reporting::is_default")]
    pub reporting: Reporting,
    /// The caller's trace.
    pub traceparent: Option<TraceParent>,
    /// The message that the attempt is to send, instead of running the action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Message>,
    /// Which composition says what the attempt does: that of `revision`, or whichever is active when it starts.
    #[serde(default, skip_serializing_if = "RevisionRule::is_default")]
    pub runs: RevisionRule,
}

/// Attempts for one invocation, and where their reports and outcomes go.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Assignment {
    /// The tenant of all of them.
    pub tenant: TenantId,
    /// The `Jobs` object that holds their jobs.
    pub shard: ShardIndex,
    /// The attempts.
    pub attempts: Vec<Execute>,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
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
    /// What it waits for is not there yet: it wants to run again later. Costs no attempt.
    Snoozed {
        /// How much later. Milliseconds.
        ms: u64,
    },
    /// Somebody else goes on with it, under its token; the executor lets go.
    HandedOver,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{decode, encode};

    /// What rows and parts of the version before held.
    #[derive(Encode)]
    #[serde(rename_all = "snake_case")]
    enum FormerBackoff {
        Constant { ms: u64 },
        Exponential { initial_ms: u64, cap_ms: u64 },
    }

    #[derive(Encode)]
    struct FormerPolicy {
        attempts_max: u32,
        backoff: FormerBackoff,
        timeout_ms: u64,
        lease_ms: u64,
        retention_ms: u64,
        dispatch: Dispatch,
        sharing: Sharing,
    }

    #[test]
    fn a_policy_that_was_stored_before_there_were_limits_and_factors_means_what_it_meant() {
        let (initial_ms, cap_ms) = (1000, 60_000);
        let factor = Factor::default();
        for (former, now, jitter) in [
            (
                FormerBackoff::Exponential { initial_ms, cap_ms },
                Backoff::Exponential {
                    initial_ms,
                    factor,
                    cap_ms,
                },
                Jitter::Equal,
            ),
            (
                FormerBackoff::Constant { ms: 7 },
                Backoff::Constant { ms: 7 },
                Jitter::None,
            ),
        ] {
            let bytes = encode(&FormerPolicy {
                attempts_max: 3,
                backoff: former,
                timeout_ms: 1,
                lease_ms: 2,
                retention_ms: 3,
                dispatch: Dispatch::Queue,
                sharing: Sharing::Alone,
            });
            let policy: Policy = decode(&bytes).unwrap();
            assert_eq!((&policy.backoff, policy.jitter), (&now, None));
            assert_eq!(policy.backoff.own_jitter(), jitter);
            assert_eq!((policy.queue_timeout_ms, policy.total_timeout_ms), (None, None));
            assert_eq!((policy.heartbeat_timeout_ms, factor), (None, Factor(2_000_000)));
            assert_eq!(policy.reporting, Reporting::default());
            assert_eq!(policy.revision, RevisionRule::Accepted);
            assert!(policy.feeds.are_none());
        }
    }
}
