//! What the HTTP API tells of how a tenant is.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::calls::upstreams::BreakerState;
use crate::time::UnixMs;

/// How a tenant is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HealthView {
    /// How it is, all in all.
    pub status: HealthStatus,
    /// Why it is not healthy; empty where it is.
    pub reasons: Vec<HealthReason>,
    /// The upstreams whose breakers were heard of.
    pub upstreams: Vec<UpstreamHealth>,
    /// The job queue.
    pub queue: QueueHealth,
}

/// How something is, all in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// There is nothing to do.
    Healthy,
    /// It works, and somebody should look.
    Degraded,
    /// A part of the tenant itself does not answer.
    Unhealthy,
}

/// What is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HealthReason {
    /// What kind of thing it is. Later versions add others.
    pub code: HealthCode,
    /// What it is about: an upstream, with its breaker's key behind a slash; a secret; an object of the queue; a pause.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// In words, with what can be done.
    pub message: String,
}

/// What kind of thing is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum HealthCode {
    /// An object of the job queue does not answer.
    QueueUnreachable,
    /// An upstream fails, and is not called, or only to see whether it is back.
    BreakerOpen,
    /// A breaker is held open, or does nothing, until someone closes it.
    BreakerHeld,
    /// Jobs failed for good, and nobody has redriven or discarded them.
    DeadLetters,
    /// A job has been waiting for long.
    JobsWaiting,
    /// Jobs are held back by hand.
    QueuePaused,
    /// A secret was sealed with an earlier key of the deployment.
    SecretOfOldKey,
}

/// How an upstream is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UpstreamHealth {
    /// The upstream: the pattern's instance and the upstream's name in it, with a dot between.
    pub upstream: String,
    /// The key of its breaker; empty for that of the upstream as a whole.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// The state of its breaker.
    pub state: BreakerState,
    /// Since when it has that state; absent where it never had another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<UnixMs>,
    /// Calls in the breaker's window; one that is not closed counts none.
    pub calls: u32,
    /// How many of a hundred of them failed.
    pub failed_percent: u32,
}

/// How the job queue is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QueueHealth {
    /// Jobs that run.
    pub running: u64,
    /// Jobs that wait.
    pub waiting: u64,
    /// Since when the job waits that could have started first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_waiting_at: Option<UnixMs>,
    /// Dead letters.
    pub dead_letters: u64,
    /// How many objects the tenant's jobs are spread over.
    pub shards: u16,
    /// How many there will be, while the tenant grows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growing_to: Option<u16>,
}
