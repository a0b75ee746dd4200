//! How a tenant is.

use hyper::Method;
use serde::{Deserialize, Serialize};
use tidegate_protocol::time::UnixMs;

use super::{Ask, Http};
use crate::error::Error;

/// What is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HealthReason {
    /// What kind of thing it is, such as `breaker_open`.
    pub code: String,
    /// What it is about; empty where it is the tenant as a whole.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// In words, with what can be done.
    pub message: String,
}

/// How an upstream is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UpstreamHealth {
    /// The upstream: the pattern's instance and the upstream's name in it, with a dot between.
    pub upstream: String,
    /// The key of its breaker; empty for that of the upstream as a whole.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// The state of its breaker: `closed`, `open`, `half_open`, `held_open`, `disabled`, or what a later version adds.
    pub state: String,
    /// Since when it has that state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<UnixMs>,
    /// Calls in the breaker's window.
    #[serde(default)]
    pub calls: u32,
    /// How many of a hundred of them failed.
    #[serde(default)]
    pub failed_percent: u32,
}

/// How the job queue is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QueueHealth {
    /// Jobs that run.
    #[serde(default)]
    pub running: u64,
    /// Jobs that wait.
    #[serde(default)]
    pub waiting: u64,
    /// Since when the job waits that could have started first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_waiting_at: Option<UnixMs>,
    /// Dead letters.
    #[serde(default)]
    pub dead_letters: u64,
    /// How many objects the tenant's jobs are spread over.
    #[serde(default)]
    pub shards: u16,
    /// How many there will be, while the tenant grows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growing_to: Option<u16>,
}

/// How a tenant is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Health {
    /// `healthy`, `degraded` or `unhealthy`.
    pub status: String,
    /// Why it is not healthy.
    #[serde(default)]
    pub reasons: Vec<HealthReason>,
    /// The upstreams whose breakers were heard of.
    #[serde(default)]
    pub upstreams: Vec<UpstreamHealth>,
    /// The job queue.
    #[serde(default)]
    pub queue: QueueHealth,
}

impl Http {
    /// `GET /v1/admin/health`: how the tenant is.
    ///
    /// Errors: [`Error::Api`] (`FORBIDDEN` without the scope `admin`), [`Error::Unreachable`].
    pub async fn health(&self) -> Result<Health, Error> {
        self.fetch(Ask::new(Method::GET, "/v1/admin/health")).await
    }
}
