//! What may follow a call that failed: another one, and when.

use alloc::string::String;
use alloc::vec::Vec;

/// How calls of an upstream are made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Calls in all, the first one included.
    pub calls: u32,
    /// The first wait, before chance. Doubles each time. Milliseconds.
    pub initial_ms: u64,
    /// The longest wait, before chance: an upstream that asks for a longer one is not called again here. Milliseconds.
    pub cap_ms: u64,
    /// Whether a wait is anything between nothing and its full length, by chance.
    pub full_jitter: bool,
    /// What each call earns of a retry. Percent.
    pub budget_percent: u32,
    /// What is tried again: statuses (`503`), classes of them (`5xx`), `timeout`, `unreachable`.
    pub on: Vec<String>,
}

/// How a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The upstream answered so.
    Status(u16),
    /// It did not answer in time.
    Timeout,
    /// It was not reached.
    Unreachable,
}

/// A call that failed, and what surrounds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tried {
    /// How it failed.
    pub failure: Failure,
    /// Calls made so far, this one included.
    pub made: u32,
    /// The upstream asked not to be called for so long. Milliseconds.
    pub retry_after_ms: Option<u64>,
    /// What is left until nobody waits any more. Milliseconds.
    pub left_ms: u64,
    /// Whether the call may be made twice.
    pub repeatable: bool,
    /// Whether the breaker lets no call through.
    pub open: bool,
}

impl Retry {
    /// The wait before another call; `None` where none is made. What the budget says is not asked here.
    pub fn wait_ms(&self, tried: &Tried, random: u64) -> Option<u64> {
        if tried.open || !tried.repeatable || tried.made >= self.calls || !self.matches(tried.failure) {
            return None;
        }
        let asked = tried.retry_after_ms.unwrap_or(0);
        if asked > self.cap_ms {
            return None;
        }
        let full = self.full_ms(tried.made);
        let own = if self.full_jitter {
            random % full.saturating_add(1)
        } else {
            full
        };
        Some(own.max(asked)).filter(|wait| *wait < tried.left_ms)
    }

    /// The wait after so many calls, before chance. Milliseconds.
    pub fn full_ms(&self, made: u32) -> u64 {
        let doublings = made.saturating_sub(1).min(32);
        self.initial_ms.saturating_mul(1 << doublings).min(self.cap_ms)
    }

    fn matches(&self, failure: Failure) -> bool {
        self.on.iter().any(|on| match failure {
            Failure::Timeout => on == "timeout",
            Failure::Unreachable => on == "unreachable",
            Failure::Status(status) => match on.strip_suffix("xx") {
                Some(class) => class.parse() == Ok(status / 100),
                None => on.parse() == Ok(status),
            },
        })
    }
}
