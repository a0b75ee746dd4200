//! What those who call upstreams ask and tell a tenant's gate, which owns the breakers.
//!
//! One call does both: it tells outcomes, and learns how the breaker stands. A rule travels with each, because the gate
//! reads no composition. Both travel as lists of numbers: what reads and writes a list is in the bundle already. A list is
//! only ever made longer; what it lacks is 0.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use tidegate_cbor::{Decode, Encode};

use super::Caller;

/// When a breaker opens and closes. A number of 0 switches its criterion off.
#[derive(Debug, Clone, PartialEq, Eq)]
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

impl BreakerRule {
    /// The rule of these numbers, in the order of its fields.
    pub fn read(numbers: &mut Numbers) -> Self {
        Self {
            consecutive: numbers.take_small(),
            failure_percent: numbers.take_small(),
            slow_percent: numbers.take_small(),
            window_calls: numbers.take_small(),
            window_ms: numbers.take(),
            calls_min: numbers.take_small(),
            open_ms: numbers.take(),
            probes: numbers.take_small(),
            successes: numbers.take_small(),
        }
    }
}

/// How calls of an upstream went, in numbers. The successes came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[serde(into = "(String, String, Vec<u64>)", from = "(String, String, Vec<u64>)")]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
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
    /// Every state, in the order of their numbers.
    const ALL: [Self; 5] = [Self::Closed, Self::Open, Self::HalfOpen, Self::HeldOpen, Self::Disabled];

    /// The state as a number.
    pub fn number(self) -> u64 {
        match self {
            Self::Closed => 0,
            Self::Open => 1,
            Self::HalfOpen => 2,
            Self::HeldOpen => 3,
            Self::Disabled => 4,
        }
    }

    /// The state of this number; of a later version's, closed: then calls are made.
    pub fn of_number(number: u64) -> Self {
        let known = Self::ALL.into_iter().find(|state| state.number() == number);
        known.unwrap_or(Self::Closed)
    }

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
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[serde(into = "Vec<u64>", from = "Vec<u64>")]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerChange {
    /// No more calls.
    Open,
    /// Begin anew, closed.
    Close,
    /// Calls whatever happens.
    Disable,
}

/// A breaker is opened, closed or disabled by hand.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[serde(into = "(String, String, u64, Caller)", from = "(String, String, u64, Caller)")]
pub struct SetBreaker {
    /// The upstream.
    pub upstream: String,
    /// The breaker's key; empty: that of the upstream, which holds for all of its keys.
    pub key: String,
    /// What is done.
    pub change: BreakerChange,
    /// Who does it.
    pub caller: Caller,
}

impl From<SetBreaker> for (String, String, u64, Caller) {
    fn from(set: SetBreaker) -> Self {
        let change = match set.change {
            BreakerChange::Close => 0,
            BreakerChange::Open => 1,
            BreakerChange::Disable => 2,
        };
        (set.upstream, set.key, change, set.caller)
    }
}

impl From<(String, String, u64, Caller)> for SetBreaker {
    fn from((upstream, key, change, caller): (String, String, u64, Caller)) -> Self {
        Self {
            upstream,
            key,
            change: match change {
                1 => BreakerChange::Open,
                2 => BreakerChange::Disable,
                _ => BreakerChange::Close,
            },
            caller,
        }
    }
}

/// A list of numbers, taken apart from the left.
pub struct Numbers(alloc::vec::IntoIter<u64>);

impl Numbers {
    /// Of this list.
    pub fn new(list: Vec<u64>) -> Self {
        Self(list.into_iter())
    }

    /// The next number; 0 behind the end.
    pub fn take(&mut self) -> u64 {
        self.0.next().unwrap_or(0)
    }

    /// The next number, where it is to be a small one.
    pub fn take_small(&mut self) -> u32 {
        u32::try_from(self.take()).unwrap_or(u32::MAX)
    }

    /// The next number, where there may be none: those are one higher than they mean.
    fn take_optional(&mut self) -> Option<u64> {
        self.take().checked_sub(1)
    }
}

fn optional(number: Option<u64>) -> u64 {
    number.map_or(0, |number| number.saturating_add(1))
}

impl From<Consult> for (String, String, Vec<u64>) {
    fn from(consult: Consult) -> Self {
        let (rule, outcomes) = (&consult.rule, &consult.outcomes);
        let numbers = [
            rule.consecutive.into(),
            rule.failure_percent.into(),
            rule.slow_percent.into(),
            rule.window_calls.into(),
            rule.window_ms,
            rule.calls_min.into(),
            rule.open_ms,
            rule.probes.into(),
            rule.successes.into(),
            consult.generation,
            outcomes.succeeded.into(),
            outcomes.slow.into(),
            outcomes.failed.into(),
            outcomes.failed_slow.into(),
            optional(consult.probe),
            consult.wants.into(),
            consult.probe_ms,
        ];
        (consult.upstream, consult.key, numbers.into())
    }
}

impl From<(String, String, Vec<u64>)> for Consult {
    fn from((upstream, key, numbers): (String, String, Vec<u64>)) -> Self {
        let mut numbers = Numbers::new(numbers);
        Self {
            upstream,
            key,
            rule: BreakerRule::read(&mut numbers),
            generation: numbers.take(),
            outcomes: Outcomes {
                succeeded: numbers.take_small(),
                slow: numbers.take_small(),
                failed: numbers.take_small(),
                failed_slow: numbers.take_small(),
            },
            probe: numbers.take_optional(),
            wants: numbers.take() > 0,
            probe_ms: numbers.take(),
        }
    }
}

impl From<Standing> for Vec<u64> {
    fn from(standing: Standing) -> Self {
        [
            standing.state.number(),
            standing.generation,
            standing.wait_ms,
            optional(standing.probe),
        ]
        .into()
    }
}

impl From<Vec<u64>> for Standing {
    fn from(numbers: Vec<u64>) -> Self {
        let mut numbers = Numbers::new(numbers);
        Self {
            state: BreakerState::of_number(numbers.take()),
            generation: numbers.take(),
            wait_ms: numbers.take(),
            probe: numbers.take_optional(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_is_shorter_or_longer_than_ours_is_read() {
        let standing = |list: &[u64]| Standing::from(Vec::from(list));
        let closed = standing(&[]);
        assert_eq!(
            (closed.state, closed.generation, closed.probe),
            (BreakerState::Closed, 0, None)
        );
        let later = standing(&[2, 7, 5, 4, 99, 99]);
        assert_eq!((later.state, later.generation), (BreakerState::HalfOpen, 7));
        assert_eq!((later.wait_ms, later.probe), (5, Some(3)));
        assert_eq!(standing(&[77]).state, BreakerState::Closed);
        for state in BreakerState::ALL {
            assert_eq!(BreakerState::of_number(state.number()), state);
        }
    }
}
