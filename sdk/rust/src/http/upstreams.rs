//! Upstreams: how their breakers stand, and what is done to them by hand.

use hyper::Method;
use serde::{Deserialize, Serialize};
use tidegate_protocol::time::UnixMs;

use super::types::escape;
use super::{Ask, Http};
use crate::error::Error;

/// A change of a breaker's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BreakerChanged {
    /// When.
    pub at: UnixMs,
    /// What it became.
    pub to: String,
    /// Why, in a few words.
    #[serde(default)]
    pub why: String,
}

/// The breaker of an upstream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Breaker {
    /// The upstream: the pattern's instance and the upstream's name in it, with a dot between.
    pub upstream: String,
    /// The key; empty for the breaker of the upstream as a whole.
    #[serde(default)]
    pub key: String,
    /// `closed`, `open`, `half_open`, `held_open`, `disabled`, or what a later version adds.
    pub state: String,
    /// When an open one lets a probe through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixMs>,
    /// Failures in a row, of late.
    #[serde(default)]
    pub streak: u32,
    /// Calls in its window …
    #[serde(default)]
    pub calls: u32,
    /// … of which so many failed …
    #[serde(default)]
    pub failed: u32,
    /// … and so many were slow.
    #[serde(default)]
    pub slow: u32,
    /// Probes under way.
    #[serde(default)]
    pub probes: u32,
    /// The latest changes of its state, oldest first.
    #[serde(default)]
    pub changes: Vec<BreakerChanged>,
}

/// The breakers of a tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Upstreams {
    /// The breakers, by upstream and key.
    pub breakers: Vec<Breaker>,
}

/// What can be done to a breaker by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerChange {
    /// No more calls, until it is closed.
    Open,
    /// Begin anew.
    Close,
    /// Calls whatever happens, until it is closed.
    Disable,
}

impl Http {
    /// `GET /v1/admin/upstreams`: how the breakers stand.
    ///
    /// Errors: [`Error::Api`] (`FORBIDDEN` without the scope `admin`), [`Error::Unreachable`].
    pub async fn upstreams(&self) -> Result<Upstreams, Error> {
        self.fetch(Ask::new(Method::GET, "/v1/admin/upstreams")).await
    }

    /// `POST /v1/admin/upstreams/{name}:open`, `:close` or `:disable`: changes a breaker by hand; with a `key`, the one of
    /// that key.
    ///
    /// Errors: [`Error::Invalid`] for a name that can be none; [`Error::Api`], [`Error::Unreachable`].
    pub async fn set_breaker(&self, name: &str, key: Option<&str>, change: BreakerChange) -> Result<Upstreams, Error> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(Error::Invalid(format!("`{name}` is no name of an upstream.")));
        }
        let what = match change {
            BreakerChange::Open => "open",
            BreakerChange::Close => "close",
            BreakerChange::Disable => "disable",
        };
        let key = key.map(|key| format!("/{}", escape(key, b""))).unwrap_or_default();
        self.fetch(Ask::new(
            Method::POST,
            format!("/v1/admin/upstreams/{name}{key}:{what}"),
        ))
        .await
    }
}
