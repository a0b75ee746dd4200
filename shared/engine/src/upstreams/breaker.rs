//! One breaker: when it opens, whom it lets through, and when it closes.
//!
//! Closed, it counts: failures in a row, and the shares of failures and of slow calls in a window of calls or of time. Open,
//! it lets nobody through for a time. Then it is half-open: a few probes pass, a bounded number at once. Each probe has a
//! lease, so that one that is lost holds up nobody for ever; enough that succeed close the breaker, one that fails opens it
//! again. By hand it is held open, closed, or disabled. The calls of an earlier standing count nothing: what began before
//! a breaker opened says nothing of the upstream's recovery.

use alloc::vec::Vec;

use tidegate_protocol::calls::upstreams::{BreakerChange, BreakerRule, BreakerState, Numbers, Outcomes, Standing};
use tidegate_protocol::time::UnixMs;

/// Parts in which a window of time slides: what is forgotten at once is a tenth of it.
const SLOTS: u64 = 10;
/// How long a call waits that found every place of a probe taken: a probe ends about now, one way or the other.
/// Milliseconds.
const PROBED_MS: u64 = 1_000;
/// How long callers of a breaker that is held open are told to wait. Nobody knows when someone closes it. Milliseconds.
const HELD_MS: u64 = 30_000;
const FAILED: u8 = 1;
const SLOW: u8 = 2;

/// Why a breaker changed its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// So many calls failed one after the other.
    FailuresInARow,
    /// Too many of the window's calls failed.
    FailureShare,
    /// Too many of the window's calls were slow.
    SlowShare,
    /// It was open for its time, and a call is there to probe.
    TimeToProbe,
    /// A probe failed.
    ProbeFailed,
    /// Enough probes succeeded.
    ProbesSucceeded,
    /// Somebody did it.
    ByHand,
}

impl Reason {
    /// Every reason, in the order of their numbers.
    const ALL: [Self; 7] = [
        Self::FailuresInARow,
        Self::FailureShare,
        Self::SlowShare,
        Self::TimeToProbe,
        Self::ProbeFailed,
        Self::ProbesSucceeded,
        Self::ByHand,
    ];

    /// The reason as a number.
    pub fn number(self) -> u64 {
        let place = Self::ALL.iter().position(|reason| *reason == self);
        place.and_then(|place| u64::try_from(place).ok()).unwrap_or(0)
    }

    /// The reason of this number, if it is one.
    pub fn of_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.number() == number)
    }

    /// The reason in a few words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FailuresInARow => "failures in a row",
            Self::FailureShare => "share of failures",
            Self::SlowShare => "share of slow calls",
            Self::TimeToProbe => "time to probe",
            Self::ProbeFailed => "a probe failed",
            Self::ProbesSucceeded => "probes succeeded",
            Self::ByHand => "by hand",
        }
    }
}

/// A part of a window of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// The number of the part.
    slot: u64,
    /// Calls.
    pub calls: u32,
    /// Of them failed.
    pub failed: u32,
    /// Of them slow.
    pub slow: u32,
}

/// A probe under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Probe {
    id: u64,
    lapses: UnixMs,
}

/// The state of a breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    state: BreakerState,
    generation: u64,
    until: UnixMs,
    streak: u32,
    recent: Vec<u8>,
    slots: Vec<Counts>,
    probes: Vec<Probe>,
    succeeded: u32,
    last_probe: u64,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            state: BreakerState::Closed,
            generation: 1,
            until: UnixMs(0),
            streak: 0,
            recent: Vec::new(),
            slots: Vec::new(),
            probes: Vec::new(),
            succeeded: 0,
            last_probe: 0,
        }
    }
}

impl Breaker {
    /// Writes it at the end of a list of numbers, for its row.
    pub fn write(&self, list: &mut Vec<u64>) {
        let many = |count: usize| u64::try_from(count).unwrap_or(0);
        list.extend([
            self.state.number(),
            self.generation,
            self.until.0,
            self.streak.into(),
            self.succeeded.into(),
            self.last_probe,
            many(self.slots.len()),
            many(self.probes.len()),
            many(self.recent.len()),
        ]);
        for part in &self.slots {
            list.extend([part.slot, part.calls.into(), part.failed.into(), part.slow.into()]);
        }
        for probe in &self.probes {
            list.extend([probe.id, probe.lapses.0]);
        }
        for outcome in &self.recent {
            list.push(u64::from(*outcome));
        }
    }

    /// Reads what [`Self::write`] wrote.
    pub fn read(list: &mut Numbers) -> Self {
        let mut breaker = Self {
            state: BreakerState::of_number(list.take()),
            generation: list.take(),
            until: UnixMs(list.take()),
            streak: list.take_small(),
            succeeded: list.take_small(),
            last_probe: list.take(),
            ..Self::default()
        };
        let (slots, probes, recent) = (list.take(), list.take(), list.take());
        // Loops, where a line would do: each kind of `collect` is half a kilobyte of the bundle.
        for _ in 0..slots {
            breaker.slots.push(Counts {
                slot: list.take(),
                calls: list.take_small(),
                failed: list.take_small(),
                slow: list.take_small(),
            });
        }
        for _ in 0..probes {
            breaker.probes.push(Probe {
                id: list.take(),
                lapses: UnixMs(list.take()),
            });
        }
        for _ in 0..recent {
            breaker.recent.push(u8::try_from(list.take()).unwrap_or(0));
        }
        breaker
    }

    /// Its state.
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Until when an open one lets nobody through.
    pub fn until(&self) -> UnixMs {
        self.until
    }

    /// Failures in a row.
    pub fn streak(&self) -> u32 {
        self.streak
    }

    /// Probes whose leases last.
    pub fn probes(&self, now: UnixMs) -> u32 {
        let under_way = self.probes.iter().filter(|probe| probe.lapses > now).count();
        u32::try_from(under_way).unwrap_or(u32::MAX)
    }

    /// What the window holds: of the last calls where the rule counts calls, else of the last time.
    pub fn window(&self, now: UnixMs, rule: &BreakerRule) -> Counts {
        if rule.window_calls == 0 {
            let oldest = (now.0 / slot_ms(rule)).saturating_sub(SLOTS - 1);
            return add(self.slots.iter().filter(|part| part.slot >= oldest));
        }
        self.counted()
    }

    /// What it holds of either kind of window, whatever the rule.
    pub fn counted(&self) -> Counts {
        let mut counts = add(self.slots.iter());
        for outcome in &self.recent {
            counts.calls = counts.calls.saturating_add(1);
            counts.failed = counts.failed.saturating_add(u32::from(outcome & FAILED != 0));
            counts.slow = counts.slow.saturating_add(u32::from(outcome & SLOW != 0));
        }
        counts
    }

    /// Counts how calls went that were made under the standing `generation`; `probe` is the one that they are the outcome of.
    pub fn record(
        &mut self,
        rule: &BreakerRule,
        now: UnixMs,
        generation: u64,
        outcomes: &Outcomes,
        probe: Option<u64>,
    ) -> Option<Reason> {
        if generation != self.generation {
            return None;
        }
        match self.state {
            BreakerState::Closed => self.count(rule, now, outcomes),
            BreakerState::HalfOpen => self.probed(rule, now, outcomes, probe?),
            BreakerState::Open | BreakerState::HeldOpen | BreakerState::Disabled => None,
        }
    }

    fn count(&mut self, rule: &BreakerRule, now: UnixMs, outcomes: &Outcomes) -> Option<Reason> {
        let succeeded = outcomes.succeeded.saturating_add(outcomes.slow);
        let failed = outcomes.failed.saturating_add(outcomes.failed_slow);
        if succeeded > 0 {
            self.streak = 0;
        }
        self.streak = self.streak.saturating_add(failed);
        self.fill_window(rule, now, outcomes);
        let window = self.window(now, rule);
        let reason = if rule.consecutive > 0 && self.streak >= rule.consecutive {
            Reason::FailuresInARow
        } else if window.calls < rule.calls_min.max(1) {
            return None;
        } else if is_share(window.failed, window.calls, rule.failure_percent) {
            Reason::FailureShare
        } else if is_share(window.slow, window.calls, rule.slow_percent) {
            Reason::SlowShare
        } else {
            return None;
        };
        self.become_state(BreakerState::Open);
        self.until = now.plus(rule.open_ms);
        Some(reason)
    }

    fn fill_window(&mut self, rule: &BreakerRule, now: UnixMs, outcomes: &Outcomes) {
        if rule.window_calls == 0 {
            self.recent.clear();
            let slot = now.0 / slot_ms(rule);
            // A clock that went back counts on in the part where it was.
            self.slots.retain(|part| part.slot + SLOTS > slot && part.slot <= slot);
            if self.slots.last().is_none_or(|part| part.slot != slot) {
                self.slots.push(Counts {
                    slot,
                    ..Counts::default()
                });
            }
            if let Some(part) = self.slots.last_mut() {
                let failed = outcomes.failed.saturating_add(outcomes.failed_slow);
                let slow = outcomes.slow.saturating_add(outcomes.failed_slow);
                let calls = outcomes.succeeded.saturating_add(outcomes.slow).saturating_add(failed);
                part.calls = part.calls.saturating_add(calls);
                part.failed = part.failed.saturating_add(failed);
                part.slow = part.slow.saturating_add(slow);
            }
            return;
        }
        self.slots.clear();
        for (many, kind) in [
            (outcomes.succeeded, 0),
            (outcomes.slow, SLOW),
            (outcomes.failed, FAILED),
            (outcomes.failed_slow, FAILED | SLOW),
        ] {
            let many = usize::try_from(many.min(rule.window_calls)).unwrap_or_default();
            self.recent.resize(self.recent.len() + many, kind);
        }
        let kept = usize::try_from(rule.window_calls).unwrap_or_default();
        let past = self.recent.len().saturating_sub(kept);
        self.recent.drain(..past);
    }

    fn probed(&mut self, rule: &BreakerRule, now: UnixMs, outcomes: &Outcomes, id: u64) -> Option<Reason> {
        let place = self.probes.iter().position(|probe| probe.id == id)?;
        self.probes.swap_remove(place);
        if outcomes.is_empty() {
            return None;
        }
        let slow = outcomes.slow > 0 && rule.slow_percent > 0;
        if slow || outcomes.failed > 0 || outcomes.failed_slow > 0 {
            self.become_state(BreakerState::Open);
            self.until = now.plus(rule.open_ms);
            return Some(Reason::ProbeFailed);
        }
        self.succeeded = self.succeeded.saturating_add(1);
        if self.succeeded < rule.successes {
            return None;
        }
        self.become_state(BreakerState::Closed);
        Some(Reason::ProbesSucceeded)
    }

    /// How it stands for a call that is to be made now. A half-open one lends it a probe for `probe_ms`, where a place is
    /// free.
    pub fn ask(&mut self, rule: &BreakerRule, now: UnixMs, probe_ms: u64) -> (Standing, Option<Reason>) {
        let mut reason = None;
        if self.state == BreakerState::Open && self.until <= now {
            self.become_state(BreakerState::HalfOpen);
            reason = Some(Reason::TimeToProbe);
        }
        let mut standing = self.standing(now);
        if self.state == BreakerState::HalfOpen {
            self.probes.retain(|probe| probe.lapses > now);
            // No more than are still needed to close it.
            let places = rule.probes.min(rule.successes.saturating_sub(self.succeeded)).max(1);
            if self.probes(now) < places {
                self.last_probe += 1;
                self.probes.push(Probe {
                    id: self.last_probe,
                    lapses: now.plus(probe_ms.max(1)),
                });
                standing.probe = Some(self.last_probe);
            } else {
                standing.wait_ms = PROBED_MS;
            }
        }
        (standing, reason)
    }

    /// How it stands, for whoever asks for nothing.
    pub fn standing(&self, now: UnixMs) -> Standing {
        let wait_ms = match self.state {
            BreakerState::Closed | BreakerState::HalfOpen | BreakerState::Disabled => 0,
            BreakerState::Open => self.until.since(now),
            BreakerState::HeldOpen => HELD_MS,
        };
        Standing {
            state: self.state,
            generation: self.generation,
            wait_ms,
            probe: None,
        }
    }

    /// Does what somebody wants by hand. Says whether that changed anything.
    pub fn set(&mut self, change: BreakerChange) -> bool {
        let wanted = match change {
            BreakerChange::Open => BreakerState::HeldOpen,
            BreakerChange::Close => BreakerState::Closed,
            BreakerChange::Disable => BreakerState::Disabled,
        };
        let changes = wanted != self.state;
        if changes {
            self.become_state(wanted);
        }
        changes
    }

    /// Begins another standing, with nothing counted.
    fn become_state(&mut self, state: BreakerState) {
        *self = Self {
            state,
            generation: self.generation + 1,
            last_probe: self.last_probe,
            ..Self::default()
        };
    }
}

fn slot_ms(rule: &BreakerRule) -> u64 {
    (rule.window_ms / SLOTS).max(1)
}

fn add<'a>(parts: impl Iterator<Item = &'a Counts>) -> Counts {
    parts.fold(Counts::default(), |sum, part| Counts {
        slot: 0,
        calls: sum.calls.saturating_add(part.calls),
        failed: sum.failed.saturating_add(part.failed),
        slow: sum.slow.saturating_add(part.slow),
    })
}

/// Whether `part` of `calls` is `percent` or more. 0 percent is none.
fn is_share(part: u32, calls: u32, percent: u32) -> bool {
    percent > 0 && u64::from(part) * 100 >= u64::from(calls) * u64::from(percent)
}
