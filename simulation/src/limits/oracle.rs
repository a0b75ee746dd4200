//! What must hold of limits: it sees what was admitted, lent and lost, and knows nothing of how buckets count.
//!
//! Its time is that of the clock without its jumps back: what the gate's time goes on by is never more.

use std::collections::BTreeMap;

use tidegate_engine::admission::LEASE_MS;
use tidegate_protocol::calls::admission::{Ask, Decided, Returned, Verdict};

use super::ACTIONS;
use crate::world::Check;

/// Units of the quota …
pub const QUOTA: u64 = 16;
/// … in any time of this length. Milliseconds.
pub const QUOTA_MS: u64 = 60_000;
/// Units of the rate …
pub const RATE: u64 = 10;
/// … in this time. Milliseconds.
pub const RATE_MS: u64 = 2_000;
/// Units of the rate at once.
pub const BURST: u64 = 8;

/// How long after it was admitted a unit may still be counted: its lease may have ended so much later, the window slides in
/// steps of a sixtieth, and a hub goes by the gate's word for a second. Milliseconds.
const COUNTED_MS: u64 = QUOTA_MS + 2 * (QUOTA_MS / 60) + LEASE_MS + 1_000;

/// A lease of the quota.
struct Lent {
    at: u64,
    hub: usize,
    serial: u64,
    units: u64,
    /// Those that were not given back.
    left: u64,
}

/// What a hub may lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// What it has: it dies.
    Leases,
    /// What it was ever lent: what it gives back may come after the end of its lease as well.
    Returns,
}

/// What is known.
#[derive(Default)]
pub struct Oracle {
    forward: u64,
    /// How far the clock went back, and when.
    back: Vec<(u64, u64)>,
    /// When units of each limit were admitted.
    admitted: BTreeMap<&'static str, Vec<u64>>,
    lent: Vec<Lent>,
    /// When which hub admitted a unit of the quota by itself.
    used: Vec<(u64, usize)>,
    /// When which hub may have lost what, at most.
    disturbed: Vec<(u64, usize, Loss)>,
    /// Requests that were carried out.
    pub answered: u64,
}

/// The limits of an action.
fn limits(action: &str) -> Result<&'static [&'static str], String> {
    let found = ACTIONS.iter().find(|(name, _)| *name == action);
    found
        .map(|(_, limits)| *limits)
        .ok_or_else(|| format!("an action `{action}`"))
}

fn limit(name: &str) -> Result<&'static str, String> {
    let all = ["quota", "rate"];
    let found = all.into_iter().find(|limit| *limit == name);
    found.ok_or_else(|| format!("a limit `{name}`"))
}

impl Oracle {
    fn at(&self, time: u64) -> u64 {
        time + self.forward
    }

    /// The clock jumps: leases end before anybody gives them back.
    pub fn jumped_forward(&mut self, time: u64, ms: u64) {
        self.forward += ms;
        self.all_disturbed(time);
    }

    /// The clock jumps: a hub may think of a lease as good that the gate has seen the end of.
    pub fn jumped_back(&mut self, time: u64, ms: u64) {
        self.back.push((self.at(time), ms));
        self.all_disturbed(time);
    }

    fn all_disturbed(&mut self, time: u64) {
        (0..usize::from(super::HUBS)).for_each(|hub| self.disturbed(time, hub, Loss::Returns));
    }

    /// A hub may have lost something.
    pub fn disturbed(&mut self, time: u64, hub: usize, loss: Loss) {
        self.disturbed.push((self.at(time), hub, loss));
    }

    /// A hub has admitted a request out of its leases.
    pub fn used(&mut self, time: u64, hub: usize, action: &str) -> Check {
        for limit in limits(action)? {
            if *limit == "quota" {
                self.used.push((self.at(time), hub));
            }
            self.admit(time, limit)?;
        }
        Ok(())
    }

    /// The gate has decided.
    pub fn decided(&mut self, time: u64, is_calm: bool, hub: usize, ask: &Ask, decided: &Decided) -> Check {
        if decided.verdicts.len() != ask.requests.len() {
            return Err(format!("{} requests got {:?}", ask.requests.len(), decided.verdicts));
        }
        self.returned(hub, &ask.returned);
        for (needs, verdict) in ask.requests.iter().zip(&decided.verdicts) {
            match verdict {
                Verdict::Admitted => {
                    for need in needs {
                        self.admit(time, limit(&need.bucket.limit)?)?;
                    }
                }
                Verdict::Refused(refusal) => self.check_refusal(time, is_calm, &refusal.bucket.limit)?,
            }
        }
        let at = self.at(time);
        let of_quota = decided.leases.iter().filter(|lease| lease.bucket.limit == "quota");
        self.lent.extend(of_quota.map(|lease| Lent {
            at,
            hub,
            serial: lease.serial,
            units: lease.units,
            left: lease.units,
        }));
        Ok(())
    }

    /// The gate was given back what a hub has not used.
    pub fn returned(&mut self, hub: usize, returned: &[Returned]) {
        for back in returned.iter().filter(|back| back.bucket.limit == "quota") {
            let is_meant = |lent: &&mut Lent| lent.hub == hub && lent.serial == back.serial;
            for lent in self.lent.iter_mut().filter(is_meant) {
                lent.left = lent.left.saturating_sub(back.left);
            }
        }
    }

    /// One more unit is admitted: in no window there are too many.
    fn admit(&mut self, time: u64, limit: &'static str) -> Check {
        let now = self.at(time);
        let admitted = self.admitted.entry(limit).or_default();
        admitted.push(now);
        for (units, from) in (1..).zip(admitted.iter().rev()) {
            // A lease may have been lent, and its end been seen, before the clock went back.
            let back = self.back.iter().filter(|(at, _)| at + LEASE_MS >= *from);
            let back: u64 = back.map(|(_, ms)| ms).sum();
            let passed = now - from + back;
            let too_many = match limit {
                "quota" => passed < QUOTA_MS && units > QUOTA,
                _ => units * RATE_MS > BURST * RATE_MS + passed * RATE,
            };
            if too_many {
                return Err(format!("the limit `{limit}` admitted {units} in {passed} ms"));
            }
        }
        Ok(())
    }

    /// A request was refused. By the quota, that is right where too much was admitted before, beside what hubs have lost that
    /// died or were not reached: at most what they had been lent and not used.
    pub fn check_refusal(&self, time: u64, is_calm: bool, limit: &str) -> Check {
        if limit != "quota" {
            return Ok(());
        }
        // While the clock makes up for a jump back, the gate's time stands still.
        let back: u64 = self.back.iter().map(|(_, ms)| ms).sum();
        let from = self.at(time).saturating_sub(COUNTED_MS + back);
        let admitted = self.admitted.get("quota").into_iter().flatten();
        let admitted = admitted.filter(|at| **at >= from).count() as u64;
        let lost = |hub: usize| {
            let of_hub = self.disturbed.iter().filter(|(at, of, _)| *of == hub && *at >= from);
            let losses: Vec<Loss> = of_hub.map(|(.., loss)| *loss).collect();
            let returns = !is_calm || losses.contains(&Loss::Returns);
            if !returns && losses.is_empty() {
                return 0;
            }
            // What was used since may have been lent before.
            let is_meant = |lent: &&Lent| lent.hub == hub && lent.at + 2 * LEASE_MS >= from;
            let lent = self.lent.iter().filter(is_meant);
            let lent: u64 = lent.map(|lent| if returns { lent.units } else { lent.left }).sum();
            let used = self.used.iter().filter(|(at, of)| *of == hub && *at >= from).count() as u64;
            lent.saturating_sub(used)
        };
        let lost: u64 = (0..usize::from(super::HUBS)).map(lost).sum();
        if admitted + lost >= QUOTA {
            return Ok(());
        }
        Err(format!(
            "a request was refused while {admitted} of {QUOTA} were admitted and {lost} lost"
        ))
    }
}
