//! The arithmetic of one bucket: what it holds, what is lent out of it, and when there is room again.

use alloc::vec::Vec;

use tidegate_cbor::{Decode, Encode};
use tidegate_protocol::calls::admission::Rule;
use tidegate_protocol::ids::HubIndex;
use tidegate_protocol::time::UnixMs;

/// Steps in which the window of a quota slides. A unit is counted for the window and up to one step more.
const STEPS: u64 = 60;

/// A lease that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Outstanding {
    pub hub: HubIndex,
    pub serial: u64,
    pub units: u64,
    pub until: UnixMs,
}

/// What is counted of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
enum Meter {
    /// Parts of units that can be taken. A unit has as many parts as its rule's time has milliseconds, so that a
    /// millisecond brings as many parts as the rule has units: whole numbers throughout.
    Rate(u64),
    /// Units that were taken, by step, in order.
    Quota(Vec<(u64, u64)>),
}

/// One bucket. Its time never goes back: where the clock does, it stands still.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct State {
    rule: Rule,
    meter: Meter,
    at: UnixMs,
    serial: u64,
    leases: Vec<Outstanding>,
}

impl State {
    /// A bucket from which nothing was taken.
    pub fn new(rule: Rule, now: UnixMs) -> Self {
        let meter = match rule {
            Rule::Rate { per_ms, burst, .. } => Meter::Rate(burst.saturating_mul(per_ms)),
            Rule::Quota { .. } => Meter::Quota(Vec::new()),
        };
        Self {
            rule,
            meter,
            at: now,
            // Higher than that of any lease of an earlier row of the same bucket.
            serial: now.0,
            leases: Vec::new(),
        }
    }

    /// The bucket as it is at `now`, under `rule`. What was taken under another rule stays taken.
    pub fn advance(&mut self, rule: Rule, now: UnixMs) {
        self.leases.sort_by_key(|lease| lease.until);
        while self.leases.first().is_some_and(|lease| lease.until <= now) {
            // Until then it kept its part of the bucket; what was not returned counts as used.
            let ended = self.leases.remove(0);
            self.fill(ended.until, ended.units);
        }
        self.fill(now, 0);
        if rule != self.rule {
            self.change(rule);
        }
    }

    /// Goes on to `now`, with `more` units lent until then.
    fn fill(&mut self, now: UnixMs, more: u64) {
        let now = now.max(self.at);
        let room = self.room(more);
        match &mut self.meter {
            Meter::Rate(parts) => {
                let come = now.since(self.at).saturating_mul(self.rule.units());
                // What is there already stays, whatever the bucket holds.
                *parts = parts.saturating_add(come).min(room.max(*parts));
            }
            Meter::Quota(taken) => {
                let first = step_of(&self.rule, now).saturating_sub(STEPS);
                taken.retain(|(step, units)| *step >= first && *units > 0);
            }
        }
        self.at = now;
    }

    /// Parts that the bucket holds beside what is lent.
    fn room(&self, more: u64) -> u64 {
        let held = self.rule.units_max().saturating_sub(self.lent()).saturating_sub(more);
        held.saturating_mul(self.rule.per_ms())
    }

    fn lent(&self) -> u64 {
        self.leases.iter().map(|lease| lease.units).sum()
    }

    /// Takes another rule over.
    fn change(&mut self, rule: Rule) {
        let missing = self.missing();
        let at = self.at;
        let fresh = Self::new(rule, at);
        self.rule = rule;
        self.meter = fresh.meter;
        self.remove(missing, at);
    }

    /// Units that were taken and have not come back.
    fn missing(&self) -> u64 {
        match &self.meter {
            Meter::Rate(parts) => {
                let full = self.rule.units_max().saturating_mul(self.rule.per_ms());
                full.saturating_sub(*parts).div_ceil(self.rule.per_ms().max(1))
            }
            Meter::Quota(taken) => sum(taken),
        }
    }

    /// Units that can be taken.
    pub fn available(&self) -> u64 {
        match &self.meter {
            Meter::Rate(parts) => parts / self.rule.per_ms().max(1),
            Meter::Quota(taken) => self.rule.units().saturating_sub(sum(taken)),
        }
    }

    /// Takes units that are there.
    pub fn take(&mut self, units: u64) {
        self.remove(units, self.at);
    }

    /// Counts units as taken at `when`.
    fn remove(&mut self, units: u64, when: UnixMs) {
        match &mut self.meter {
            Meter::Rate(parts) => *parts = parts.saturating_sub(units.saturating_mul(self.rule.per_ms())),
            Meter::Quota(taken) => {
                let step = step_of(&self.rule, when);
                match taken.binary_search_by_key(&step, |(step, _)| *step) {
                    Ok(index) => {
                        if let Some((_, counted)) = taken.get_mut(index) {
                            *counted = counted.saturating_add(units);
                        }
                    }
                    Err(index) => taken.insert(index, (step, units)),
                }
            }
        }
    }

    /// Puts back units that were counted at `when`.
    fn put_back(&mut self, mut units: u64, when: UnixMs) {
        let room = self.room(0);
        let last = step_of(&self.rule, when);
        match &mut self.meter {
            Meter::Rate(parts) => {
                let back = units.saturating_mul(self.rule.per_ms());
                *parts = parts.saturating_add(back).min(room.max(*parts));
            }
            // From steps that leave the window no later than theirs, so that no other unit is counted too short.
            Meter::Quota(taken) => {
                for (_, counted) in taken.iter_mut().rev().filter(|(step, _)| *step <= last) {
                    let back = units.min(*counted);
                    *counted -= back;
                    units -= back;
                }
            }
        }
    }

    /// Lends units that are there to `hub`; gives the lease's number.
    pub fn lend(&mut self, hub: HubIndex, units: u64, lasts_ms: u64) -> u64 {
        let until = self.at.plus(lasts_ms);
        // They may be used as late as that.
        self.remove(units, until);
        self.serial += 1;
        self.leases.push(Outstanding {
            hub,
            serial: self.serial,
            units,
            until,
        });
        self.serial
    }

    /// Ends a lease of which `left` units were not used. One that has ended changes nothing.
    pub fn returned(&mut self, hub: HubIndex, serial: u64, left: u64) {
        let ends = |lease: &Outstanding| lease.hub == hub && lease.serial == serial;
        if let Some(index) = self.leases.iter().position(ends) {
            let lease = self.leases.remove(index);
            self.put_back(left.min(lease.units), lease.until);
        }
    }

    /// Puts back units that were counted at `when` for a request that was then refused for another reason.
    pub fn refund(&mut self, units: u64, when: UnixMs) {
        self.put_back(units, when);
    }

    /// Ends all leases of `hub`, which knows of none: it has started again since, or the answer that brought them was lost.
    /// `true`: there were some.
    pub fn forgotten(&mut self, hub: HubIndex) -> bool {
        let before = self.leases.len();
        self.leases.retain(|lease| lease.hub != hub);
        self.leases.len() != before
    }

    /// The last lease of each hub beside `asking` that has units of this bucket.
    pub fn lent_to(&self, asking: HubIndex) -> Vec<(HubIndex, u64)> {
        let mut last: Vec<(HubIndex, u64)> = Vec::new();
        for lease in self.leases.iter().filter(|lease| lease.hub != asking) {
            match last.iter_mut().find(|(hub, _)| *hub == lease.hub) {
                Some((_, serial)) => *serial = lease.serial.max(*serial),
                None => last.push((lease.hub, lease.serial)),
            }
        }
        last
    }

    /// When `cost` units can be there at the earliest, if nobody takes any before. Milliseconds from now.
    pub fn wait_ms(&self, cost: u64) -> u64 {
        match &self.meter {
            Meter::Rate(parts) => {
                let missing = cost.saturating_mul(self.rule.per_ms()).saturating_sub(*parts);
                let fills = missing.div_ceil(self.rule.units().max(1));
                // What is lent leaves no room for them before it ends.
                let mut held = self.lent();
                let fits = |held: u64| held.saturating_add(cost) <= self.rule.units_max();
                let mut until = self.at;
                let mut leases: Vec<&Outstanding> = self.leases.iter().collect();
                leases.sort_by_key(|lease| lease.until);
                for lease in leases {
                    if fits(held) {
                        break;
                    }
                    held = held.saturating_sub(lease.units);
                    until = lease.until;
                }
                fills.max(until.since(self.at))
            }
            Meter::Quota(taken) => {
                let mut there = self.available();
                for (step, units) in taken {
                    if there >= cost {
                        break;
                    }
                    there = there.saturating_add(*units);
                    if there >= cost {
                        return leaves_at(&self.rule, *step).since(self.at);
                    }
                }
                0
            }
        }
    }

    /// When nothing is missing any more, if nobody takes any. Milliseconds from now.
    pub fn reset_ms(&self) -> u64 {
        let lent = self.leases.iter().map(|lease| lease.until.since(self.at)).max();
        let fills = match &self.meter {
            Meter::Rate(parts) => {
                let full = self.rule.units_max().saturating_mul(self.rule.per_ms());
                full.saturating_sub(*parts).div_ceil(self.rule.units().max(1))
            }
            Meter::Quota(taken) => match taken.last() {
                Some((step, _)) => leaves_at(&self.rule, *step).since(self.at),
                None => 0,
            },
        };
        fills.max(lent.unwrap_or(0))
    }

    /// What the bucket is under.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// When it is as if nothing had ever been taken, but for the numbers of its leases.
    pub fn full_at(&self) -> UnixMs {
        self.at.plus(self.reset_ms())
    }
}

fn sum(taken: &[(u64, u64)]) -> u64 {
    taken.iter().map(|(_, units)| units).sum()
}

/// How long a step of a quota's window is. Milliseconds.
fn step_ms(rule: &Rule) -> u64 {
    rule.per_ms().div_ceil(STEPS).max(1)
}

fn step_of(rule: &Rule, when: UnixMs) -> u64 {
    when.0 / step_ms(rule)
}

/// When units of a step are no longer counted.
fn leaves_at(rule: &Rule, step: u64) -> UnixMs {
    UnixMs((step + STEPS + 1).saturating_mul(step_ms(rule)))
}
