//! What an isolate remembers of an upstream: how its breaker stood when it heard last, what it has not told yet, how many
//! calls are under way, and what it may spend on retries.
//!
//! While the breaker is closed and calls go on, nobody is asked before a call: successes are gathered and told with one call
//! in a while, whose answer says how the breaker stands; what speaks against the upstream is told at once. What an isolate
//! heard is good for [`HEARD_MS`]: after that the gate is asked first. Losing all of this loses nothing that matters: a
//! call more may be made, or a success not counted.

use tidegate_protocol::calls::upstreams::{BreakerState, Outcomes, Standing};
use tidegate_protocol::time::UnixMs;

/// How long an isolate goes by what it heard. What is done by hand is known everywhere after this. Milliseconds.
pub const HEARD_MS: u64 = 5_000;
/// How long successes are gathered before they are told. Milliseconds.
pub const GATHERED_MS: u64 = 1_000;
/// Retries that an isolate may make in a row before earlier calls have earned them.
const SAVED_MAX: u32 = 10;
/// What one retry costs. A call earns its percent.
const RETRY_COST: u32 = 100;

/// Whether a call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// It may, and counts under this standing.
    Go {
        /// The standing.
        generation: u64,
    },
    /// The gate is to be asked first.
    Ask,
    /// No call is made.
    Refused {
        /// For so long. Milliseconds.
        wait_ms: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Heard {
    state: BreakerState,
    generation: u64,
    until: UnixMs,
    at: UnixMs,
}

/// What an isolate remembers of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    heard: Option<Heard>,
    untold: Outcomes,
    untold_since: UnixMs,
    lost_probe: Option<u64>,
    saved: u32,
    under_way: u32,
}

impl Default for Edge {
    fn default() -> Self {
        Self {
            heard: None,
            untold: Outcomes::default(),
            untold_since: UnixMs(0),
            lost_probe: None,
            saved: SAVED_MAX * RETRY_COST,
            under_way: 0,
        }
    }
}

impl Edge {
    /// Whether a call may be made now.
    pub fn passage(&self, now: UnixMs) -> Passage {
        let Some(heard) = &self.heard else { return Passage::Ask };
        if now.since(heard.at) >= HEARD_MS || self.untold.speak_against() || self.lost_probe.is_some() {
            return Passage::Ask;
        }
        match heard.state {
            BreakerState::Closed | BreakerState::Disabled => Passage::Go {
                generation: heard.generation,
            },
            BreakerState::Open | BreakerState::HalfOpen | BreakerState::HeldOpen if heard.until > now => {
                Passage::Refused {
                    wait_ms: heard.until.since(now),
                }
            }
            BreakerState::Open | BreakerState::HalfOpen | BreakerState::HeldOpen => Passage::Ask,
        }
    }

    /// What goes on where the gate was asked in vain: what was heard last, however old. A breaker guards an upstream; where
    /// nobody knows how it stands, calls are made, and count nothing.
    pub fn unheard(&self, now: UnixMs) -> Passage {
        match &self.heard {
            Some(heard) if heard.until > now => Passage::Refused {
                wait_ms: heard.until.since(now),
            },
            _ => Passage::Go { generation: 0 },
        }
    }

    /// Takes in what the gate said.
    pub fn hear(&mut self, now: UnixMs, standing: &Standing) {
        if self.heard.is_none_or(|heard| heard.generation != standing.generation) {
            // Of another standing, what is left to tell would count nothing.
            self.untold = Outcomes::default();
        }
        self.heard = Some(Heard {
            state: standing.state,
            generation: standing.generation,
            // Of a half-open one whose probes are all lent, too: not every call asks while they are under way.
            until: now.plus(standing.wait_ms),
            at: now,
        });
    }

    /// Notes how a call went that was made under the standing `generation`. Says whether it is time to tell the gate.
    pub fn note(&mut self, now: UnixMs, generation: u64, failed: bool, slow: bool) -> bool {
        let known = self.heard.filter(|heard| heard.generation == generation);
        if known.is_none_or(|heard| heard.state != BreakerState::Closed) {
            return false;
        }
        if self.untold.is_empty() {
            self.untold_since = now;
        }
        let many = match (failed, slow) {
            (false, false) => &mut self.untold.succeeded,
            (false, true) => &mut self.untold.slow,
            (true, false) => &mut self.untold.failed,
            (true, true) => &mut self.untold.failed_slow,
        };
        *many = many.saturating_add(1);
        self.untold.speak_against() || now.since(self.untold_since) >= GATHERED_MS
    }

    /// Notes a probe of which nothing was heard any more.
    pub fn lose_probe(&mut self, probe: u64) {
        self.lost_probe = Some(probe);
    }

    /// What is to be told, with the standing that it counts under, and the probe that failed where one was lost.
    pub fn take(&mut self) -> (u64, Outcomes, Option<u64>) {
        let generation = self.heard.map_or(0, |heard| heard.generation);
        let mut outcomes = core::mem::take(&mut self.untold);
        let probe = self.lost_probe.take();
        if probe.is_some() {
            outcomes = Outcomes {
                failed: 1,
                ..Outcomes::default()
            };
        }
        (generation, outcomes, probe)
    }

    /// Takes one of `places` for a call, where one is free. To be given back.
    pub fn enter(&mut self, places: u32) -> bool {
        let free = self.under_way < places;
        if free {
            self.under_way += 1;
        }
        free
    }

    /// Gives a place back.
    pub fn leave(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// A first call earns its percent of a retry.
    pub fn earn(&mut self, percent: u32) {
        self.saved = self.saved.saturating_add(percent).min(SAVED_MAX * RETRY_COST);
    }

    /// Pays for a retry, where enough is left.
    pub fn spend(&mut self) -> bool {
        match self.saved.checked_sub(RETRY_COST) {
            Some(left) => {
                self.saved = left;
                true
            }
            None => false,
        }
    }
}
