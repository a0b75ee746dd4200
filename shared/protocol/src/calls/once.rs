//! One piece of work, once: how long an idempotency key names its job, and which requests without one are the same.

use alloc::string::String;

use tidegate_cbor::{Decode, Encode};

use crate::time::UnixMs;

/// How long an idempotency key names its job. Frozen when the job is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct KeyLife {
    /// From the acceptance of the job on; `None`: for as long as the job is kept. Milliseconds.
    pub ttl_ms: Option<u64>,
    /// Whether a job that ended without a result gives its key back at once.
    pub failed_frees: bool,
}

/// What becomes of a request whose key an earlier job has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum DedupeRule {
    /// It is answered with the job, for so long from the job's acceptance on.
    Window {
        /// Milliseconds.
        ms: u64,
    },
    /// It is answered with the job until that has ended.
    UntilEnded,
    /// It takes the place of the job where that has not begun.
    ReplaceWaiting,
    /// It becomes the job's input where that has not begun, and the job waits anew.
    KeepLast {
        /// How long the job waits from the last request on. Milliseconds.
        wait_ms: u64,
        /// How long it waits in all, from the first request on. Milliseconds.
        max_wait_ms: u64,
    },
}

/// The key that a request has by its own values.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Dedupe {
    /// The key, the user's own: it names its user as well.
    pub key: String,
    /// What the key is for.
    pub rule: DedupeRule,
    /// How long the client's key lives that came with the request as well, where that is not as long as its job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_life: Option<KeyLife>,
}

/// What makes several requests one job. A job may have a key of either kind.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Once {
    /// The client's idempotency key, with a life of its own.
    Key(KeyLife),
    /// A key that the composition finds in the request.
    Dedupe(Dedupe),
}

impl Once {
    /// The key that the composition found.
    pub fn dedupe(&self) -> Option<&Dedupe> {
        match self {
            Self::Key(_) => None,
            Self::Dedupe(dedupe) => Some(dedupe),
        }
    }

    /// How long the client's key lives, where that is not as long as its job.
    pub fn key_life(&self) -> Option<KeyLife> {
        match self {
            Self::Key(life) => Some(*life),
            Self::Dedupe(dedupe) => dedupe.key_life,
        }
    }

    /// How long a job accepted at `accepted` must be kept for the sake of its key, now that it has ended, `failed` or not.
    pub fn keeps_until(&self, accepted: UnixMs, failed: bool) -> Option<UnixMs> {
        let key = self.key_life().filter(|life| !(failed && life.failed_frees));
        let key = key.and_then(|life| life.ttl_ms);
        let window = match self.dedupe().map(|dedupe| dedupe.rule) {
            Some(DedupeRule::Window { ms }) => Some(ms),
            _ => None,
        };
        key.max(window).map(|ms| accepted.plus(ms))
    }
}
