//! What the HTTP API tells of the breakers of upstreams.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::calls::upstreams::BreakerState;
use crate::time::UnixMs;

/// The breakers of a tenant that the gate has heard of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UpstreamsView {
    /// The breakers, by upstream and key.
    pub breakers: Vec<BreakerView>,
}

/// A breaker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BreakerView {
    /// The upstream: the pattern's instance and the upstream's name in it, with a dot between.
    pub upstream: String,
    /// The key; empty for the breaker of the upstream as a whole.
    pub key: String,
    /// Its state.
    pub state: BreakerState,
    /// When an open one lets a probe through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixMs>,
    /// Failures in a row, of late.
    pub streak: u32,
    /// Calls in its window …
    pub calls: u32,
    /// … of which so many failed …
    pub failed: u32,
    /// … and so many were slow.
    pub slow: u32,
    /// Probes under way.
    pub probes: u32,
    /// The latest changes of its state, oldest first.
    pub changes: Vec<BreakerChanged>,
}

/// A change of a breaker's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BreakerChanged {
    /// When.
    pub at: UnixMs,
    /// What it became.
    pub to: BreakerState,
    /// Why, in a few words.
    pub why: String,
}
