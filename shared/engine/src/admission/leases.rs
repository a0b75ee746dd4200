//! What a hub decides by itself: it admits out of leases, asks where they do not reach, and never refuses but on the gate's
//! word.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use tidegate_protocol::calls::admission::{
    Ask, Bucket, Consults, Decided, Force, Need, Recalled, Refund, Refusal, Returned, Rule, Standing, Verdict, Wanted,
};
use tidegate_protocol::ids::HubIndex;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode, LimitState};

use super::LOOK_MS;
use tidegate_protocol::SortedMap;

/// Buckets that a hub remembers at most. Some 300 bytes each; for those beyond, the gate is asked.
const ENTRIES_MAX: usize = 8192;
/// How long a refusal of the gate holds for the requests after it, at most: units may come back from other hubs, or be
/// given by a new composition. Milliseconds.
const REFUSED_MS_MAX: u64 = 1_000;
/// What a hub wants to have in advance: what it uses in this time. Milliseconds.
const AHEAD_MS: u64 = 2_000;
/// Refunds that wait for the next question at most; those beyond are lost.
const REFUNDS_MAX: usize = 1024;
/// The least time from which is seen how much a hub uses. Milliseconds.
const SEEN_MS_MIN: u64 = 250;

/// What a hub's leases say to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// All of its limits have room, and have counted it: at this moment of the gate's clock, or later.
    Admitted {
        /// The moment.
        counted_at: UnixMs,
    },
    /// The gate has refused such requests just now.
    Refused(Refusal),
    /// The gate has to be asked; nothing was counted.
    Short,
}

/// Units in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    serial: u64,
    units: u64,
    left: u64,
    until: UnixMs,
    /// When they were counted, by the gate's clock.
    counted_at: UnixMs,
}

/// What a hub knows of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    rule: Rule,
    held: Vec<Held>,
    /// The highest number of a lease that was seen, or taken back before it came.
    seen: u64,
    refused: Option<(UnixMs, Refusal)>,
    /// Units that were admitted since.
    used: u64,
    since: UnixMs,
    used_at: UnixMs,
}

impl Entry {
    fn new(rule: Rule, now: UnixMs) -> Self {
        Self {
            rule,
            held: Vec::new(),
            seen: 0,
            refused: None,
            used: 0,
            since: now,
            used_at: now,
        }
    }

    fn left(&self, now: UnixMs) -> u64 {
        let good = self.held.iter().filter(|held| held.until > now);
        good.map(|held| held.left).sum()
    }

    /// Takes units that are there, those that end first before others; gives when the first of them was counted.
    fn take(&mut self, mut cost: u64, now: UnixMs) -> Option<UnixMs> {
        let mut counted_at = None;
        for held in self.held.iter_mut().filter(|held| held.until > now && held.left > 0) {
            let taken = cost.min(held.left);
            if taken > 0 {
                counted_at.get_or_insert(held.counted_at);
            }
            held.left -= taken;
            cost -= taken;
        }
        counted_at
    }

    fn note(&mut self, cost: u64, now: UnixMs) {
        self.used = self.used.saturating_add(cost);
        self.used_at = now;
    }

    /// Whether what is in hand will soon be used up or over, and somebody will miss it.
    fn runs_out(&self, now: UnixMs) -> bool {
        let lent: u64 = self.held.iter().map(|held| held.units).sum();
        // Before it goes back as one that ends.
        let soon = now.plus(3 * LOOK_MS);
        let good = self.held.iter().filter(|held| held.until > soon);
        let left: u64 = good.map(|held| held.left).sum();
        // Having asked without success is no reason to ask with every request.
        let asked = now.since(self.since) < SEEN_MS_MIN;
        lent > 0 && left.saturating_mul(4) <= lent && !asked && self.demand(now) > 0
    }

    /// What it uses in the time ahead, as it does now.
    fn demand(&self, now: UnixMs) -> u64 {
        self.used.saturating_mul(AHEAD_MS) / now.since(self.since).max(SEEN_MS_MIN)
    }

    fn empty(&self, now: UnixMs) -> bool {
        self.held.is_empty() && self.refused.as_ref().is_none_or(|(until, _)| *until <= now)
    }
}

/// The leases of one hub.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leases {
    entries: SortedMap<Bucket, Entry>,
    /// Buckets of which more is wanted before anybody has to wait for it.
    running_out: Vec<Bucket>,
    refunds: Vec<Refund>,
}

impl Leases {
    /// Admits a request out of what is in hand, or says that the gate has to be asked. All of its limits count it, or none.
    pub fn take(&mut self, now: UnixMs, needs: &[Need]) -> Taken {
        let mut covered = true;
        for need in needs {
            let entry = self.entries.get(&need.bucket).filter(|entry| entry.rule == need.rule);
            let refused = entry.and_then(|entry| entry.refused.as_ref());
            if let Some((until, refusal)) = refused
                && *until > now
                && need.cost >= refusal.cost
                && need.force == Force::Refuses
            {
                return Taken::Refused(refusal.clone());
            }
            covered =
                covered && need.consults == Consults::Leased && entry.is_some_and(|entry| entry.left(now) >= need.cost);
        }
        if !covered {
            return Taken::Short;
        }
        let mut counted_at = None;
        for need in needs {
            if let Some(entry) = self.entries.get_mut(&need.bucket) {
                let first = entry.take(need.cost, now);
                counted_at = first.into_iter().chain(counted_at).min();
                entry.note(need.cost, now);
                if entry.runs_out(now) && !self.running_out.contains(&need.bucket) {
                    self.running_out.push(need.bucket.clone());
                }
            }
        }
        Taken::Admitted {
            counted_at: counted_at.unwrap_or(now),
        }
    }

    /// The question to the gate for `requests`, and for what the hub will need next. What it has of their buckets goes back
    /// with it, so that the gate knows all that is left.
    pub fn ask(&mut self, now: UnixMs, hub: HubIndex, requests: Vec<Vec<Need>>) -> Ask {
        let mut ask = Ask {
            hub,
            requests: Vec::new(),
            returned: Vec::new(),
            refunds: core::mem::take(&mut self.refunds),
            wanted: Vec::new(),
        };
        for need in requests.iter().flatten() {
            self.make_room(now);
            if self.entries.len() >= ENTRIES_MAX && !self.entries.contains_key(&need.bucket) {
                continue;
            }
            let entry = self
                .entries
                .entry(need.bucket.clone())
                .or_insert_with(|| Entry::new(need.rule, now));
            if entry.rule != need.rule {
                entry.rule = need.rule;
                entry.refused = None;
            }
            ask.returned.extend(give_back(&need.bucket, entry, now));
            if need.consults == Consults::Leased {
                want(&need.bucket, entry, now, &mut ask.wanted);
            }
        }
        for bucket in core::mem::take(&mut self.running_out) {
            if let Some(entry) = self.entries.get_mut(&bucket).filter(|entry| entry.runs_out(now)) {
                want(&bucket, entry, now, &mut ask.wanted);
            }
        }
        ask.requests = requests;
        ask
    }

    /// Takes over what the gate decided. `asked_at`: when it was asked, by the hub's clock; leases last from then on.
    pub fn decided(&mut self, now: UnixMs, asked_at: UnixMs, ask: &Ask, decided: &Decided) {
        for lease in &decided.leases {
            let Some(entry) = self.entries.get_mut(&lease.bucket) else {
                continue;
            };
            // One that was taken back before it came is not used.
            if lease.serial > entry.seen {
                entry.seen = lease.serial;
                entry.held.push(Held {
                    serial: lease.serial,
                    units: lease.units,
                    left: lease.units,
                    until: asked_at.plus(lease.lasts_ms),
                    counted_at: decided.at.plus(lease.lasts_ms),
                });
            }
        }
        for (needs, verdict) in ask.requests.iter().zip(&decided.verdicts) {
            match verdict {
                Verdict::Admitted => {
                    for need in needs {
                        if let Some(entry) = self.entries.get_mut(&need.bucket) {
                            entry.refused = None;
                            entry.note(need.cost, now);
                        }
                    }
                }
                Verdict::Refused(refusal) => {
                    if let Some(entry) = self.entries.get_mut(&refusal.bucket) {
                        let until = now.plus(refusal.after_ms.min(REFUSED_MS_MAX));
                        entry.refused = Some((until, refusal.clone()));
                    }
                }
            }
        }
    }

    /// The gate takes leases back, for others.
    pub fn recalled(&mut self, now: UnixMs, recalled: &[Recalled]) -> Vec<Returned> {
        let mut returned = Vec::new();
        for recall in recalled {
            let Some(entry) = self.entries.get_mut(&recall.bucket) else {
                continue;
            };
            returned.extend(give_back(&recall.bucket, entry, now));
            if recall.serial > entry.seen {
                // It has not come yet, and will not be used when it does.
                entry.seen = recall.serial;
                returned.push(Returned {
                    bucket: recall.bucket.clone(),
                    serial: recall.serial,
                    left: u64::MAX,
                });
            }
        }
        returned
    }

    /// A request was admitted, counted at this moment of the gate's clock, and then refused for another reason: it has consumed
    /// nothing. The gate hears of it with the next question.
    pub fn refund(&mut self, needs: &[Need], counted_at: UnixMs) {
        for need in needs {
            let same = |refund: &&mut Refund| refund.bucket == need.bucket && refund.counted_at == counted_at;
            if let Some(refund) = self.refunds.iter_mut().find(same) {
                refund.units = refund.units.saturating_add(need.cost);
            } else if self.refunds.len() < REFUNDS_MAX {
                self.refunds.push(Refund {
                    bucket: need.bucket.clone(),
                    units: need.cost,
                    counted_at,
                });
            }
        }
    }

    /// Whether the gate should be asked before anybody has to wait for it.
    pub fn runs_out(&self) -> bool {
        !self.running_out.is_empty()
    }

    /// Leases that end, or that nobody used for a while: what is left of them goes back. To be looked at every
    /// [`LOOK_MS`] while there are [any](Self::any).
    pub fn idle(&mut self, now: UnixMs) -> Vec<Returned> {
        let mut returned = Vec::new();
        for (bucket, entry) in &mut self.entries {
            let unused = now.since(entry.used_at) >= LOOK_MS;
            // It has to be there before the lease ends, and the next look may be late.
            let soon = now.plus(2 * LOOK_MS);
            entry.held.retain(|held| {
                let ends = unused || held.until <= soon || held.left == 0;
                if ends && held.left > 0 && held.until > now {
                    returned.push(Returned {
                        bucket: bucket.clone(),
                        serial: held.serial,
                        left: held.left,
                    });
                }
                !ends
            });
        }
        self.entries
            .retain(|_, entry| !entry.empty(now) || now.since(entry.used_at) < AHEAD_MS);
        returned
    }

    /// Whether there are units to be put back.
    pub fn has_refunds(&self) -> bool {
        !self.refunds.is_empty()
    }

    /// Whether there are leases or refunds to be looked after.
    pub fn any(&self) -> bool {
        !self.refunds.is_empty() || self.entries.values().any(|entry| !entry.held.is_empty())
    }

    fn make_room(&mut self, now: UnixMs) {
        if self.entries.len() >= ENTRIES_MAX {
            self.entries.retain(|_, entry| !entry.empty(now));
        }
    }
}

/// Ends the leases of a bucket; gives what is left of them.
fn give_back(bucket: &Bucket, entry: &mut Entry, now: UnixMs) -> Vec<Returned> {
    let held = core::mem::take(&mut entry.held);
    let good = held.into_iter().filter(|held| held.until > now);
    let returned = good.map(|held| Returned {
        bucket: bucket.clone(),
        serial: held.serial,
        left: held.left,
    });
    returned.collect()
}

/// Notes what a hub would like to have of a bucket, once.
fn want(bucket: &Bucket, entry: &mut Entry, now: UnixMs, wanted: &mut Vec<Wanted>) {
    let units = entry.demand(now);
    if units > 0 && !wanted.iter().any(|wanted| wanted.bucket == *bucket) {
        wanted.push(Wanted {
            bucket: bucket.clone(),
            rule: entry.rule,
            units,
        });
        entry.used = 0;
        entry.since = now;
    }
}

/// The standings that are near their end: a tenth or less is left.
pub fn near(standings: &[Standing]) -> impl Iterator<Item = &Standing> {
    standings
        .iter()
        .filter(|standing| standing.remaining.saturating_mul(10) <= standing.rule.units_max())
}

/// With what code a limit of this rule refuses.
pub(super) fn code_of(rule: &Rule) -> ErrorCode {
    match rule {
        Rule::Rate { .. } => ErrorCode::RateLimited,
        Rule::Quota { .. } => ErrorCode::QuotaExceeded,
    }
}

/// What a refused request is told: which limit, what it allows, and when to come again.
pub fn refusal(refusal: &Refusal) -> Error {
    let Refusal {
        bucket,
        rule,
        remaining,
        after_ms,
        ..
    } = refusal;
    let code = code_of(rule);
    let what = match rule {
        Rule::Rate { .. } => "The rate limit",
        Rule::Quota { .. } => "The quota",
    };
    let message = format!(
        "{what} `{}` has no room: it allows {} in {}.",
        bucket.limit,
        rule.units(),
        time(rule.per_ms())
    );
    let limit = LimitState {
        name: bucket.limit.clone(),
        units: rule.units(),
        per_ms: rule.per_ms(),
        remaining: *remaining,
        reset_ms: *after_ms,
    };
    Error {
        limit: Some(Box::new(limit)),
        ..Error::new(code, message).retry_after(*after_ms)
    }
}

/// A time as a composition writes it.
fn time(ms: u64) -> alloc::string::String {
    for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if ms.is_multiple_of(unit) {
            return format!("{}{name}", ms / unit);
        }
    }
    format!("{ms}ms")
}
