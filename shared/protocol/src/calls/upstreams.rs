//! What those who call upstreams ask and tell a tenant's gate, which owns the breakers.
//!
//! One call does both: it tells outcomes, and learns how the breaker stands. A rule travels with each, because the gate
//! reads no composition.

use alloc::string::String;

use serde::{Deserialize, Serialize};

/// When a breaker opens and closes. A number of 0 switches its criterion off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerRule {
    /// So many failures in a row open it.
    pub consecutive: u32,
    /// So many percent of failures in the window open it.
    pub failure_percent: u32,
    /// So many percent of slow calls in the window open it.
    pub slow_percent: u32,
    /// The window is the last calls, so many; 0 where it is a time.
    pub window_calls: u32,
    /// The window is the last milliseconds, where it counts no calls.
    pub window_ms: u64,
    /// Fewer calls than these in the window say nothing.
    pub calls_min: u32,
    /// How long it stays open before it lets a probe through. Milliseconds.
    pub open_ms: u64,
    /// Probes under way at once, at most.
    pub probes: u32,
    /// So many probes that succeed close it.
    pub successes: u32,
}

/// How calls of an upstream went, in numbers. The successes came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Outcomes {
    /// Succeeded in time.
    pub succeeded: u32,
    /// Succeeded slowly.
    pub slow: u32,
    /// Failed in time.
    pub failed: u32,
    /// Failed slowly.
    pub failed_slow: u32,
}

impl Outcomes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether one of them speaks against the upstream.
    pub fn speak_against(&self) -> bool {
        self.slow > 0 || self.failed > 0 || self.failed_slow > 0
    }
}

/// Outcomes told, and perhaps a call asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consult {
    /// The upstream: `<instance>.<name>`.
    pub upstream: String,
    /// The key of the breaker; empty where the upstream has one breaker.
    pub key: String,
    /// The breaker's rule.
    pub rule: BreakerRule,
    /// Under which standing the calls were made. Those of an earlier one count nothing.
    pub generation: u64,
    /// How they went.
    pub outcomes: Outcomes,
    /// The probe that the outcome is of. Without an outcome it is given back.
    pub probe: Option<u64>,
    /// Whether a call is to be made now: of a breaker that is half-open, it needs a probe.
    pub wants: bool,
    /// How long a probe may take before its place is given to another. Milliseconds.
    pub probe_ms: u64,
}

/// How a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Calls are made, and counted.
    Closed,
    /// No call is made for a time.
    Open,
    /// A few calls are made, to see whether the upstream is back.
    HalfOpen,
    /// No call is made until someone closes it by hand.
    HeldOpen,
    /// Calls are made and not counted, until someone closes it by hand.
    Disabled,
}

impl BreakerState {
    /// The state as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::HeldOpen => "held_open",
            Self::Disabled => "disabled",
        }
    }
}

/// How a breaker stands, as whoever calls its upstream is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The state.
    pub state: BreakerState,
    /// Rises with each change of the state. 0 counts nothing.
    pub generation: u64,
    /// How long no call is to be made. Milliseconds.
    pub wait_ms: u64,
    /// The probe that may be made, where one was asked for.
    pub probe: Option<u64>,
}

/// What can be done to a breaker by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BreakerChange {
    /// No more calls.
    Open,
    /// Begin anew, closed.
    Close,
    /// Calls whatever happens.
    Disable,
}
