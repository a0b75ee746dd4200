//! What the tenant's gate decides: it counts, lends, takes back, and refuses.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use tidegate_protocol::calls::admission::{
    Ask, Bucket, Decided, Force, Lease, LimitCounts, Need, Recalled, Refusal, Returned, Rule, Standing, Verdict,
};
use tidegate_protocol::http::{BucketView, LimitsView};
use tidegate_protocol::ids::HubIndex;
use tidegate_protocol::time::UnixMs;

use super::LEASE_MS;
use super::bucket::State;
use super::leases::code_of;
use crate::audit::refusals::{About, Journal};
use crate::database::{Database, DatabaseError, Value, from_blob, to_blob};
use tidegate_protocol::SortedMap;

/// A part of what is there that a hub is lent at most: the fourth, so that others find some as well.
const LENT_PART: u64 = 4;
/// Rows that are looked at, for such as say nothing any more, each time others are written.
const SWEPT: u64 = 4;
/// How long a row is kept once its bucket is full: whatever was said of its leases has arrived by then. Milliseconds.
const KEPT_MS: u64 = 60_000;
/// Limits that are counted by name at most: names of compositions that are no longer active go first.
const COUNTED_MAX: usize = 256;

/// The buckets that something was taken from. One that is full says nothing, and may go.
pub const BUCKETS: &[&str] = &["-- admission::schema
    CREATE TABLE bucket (
        limit_name TEXT NOT NULL,
        key TEXT NOT NULL,
        full_at INTEGER NOT NULL,
        state BLOB NOT NULL,
        PRIMARY KEY (limit_name, key)
    ) STRICT, WITHOUT ROWID"];

/// Whether other hubs can still be asked for what they have not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recalls {
    /// They have not been asked.
    Possible,
    /// They have been: what is decided now is final.
    Done,
}

/// What comes of an [`Ask`].
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It is decided, and stored.
    Decided(Decided),
    /// Somebody would be refused while others have units that they may not need. Nothing is stored: what they give back is to be
    /// [returned](Gate::give_back), and the gate asked again.
    Recall(Vec<(HubIndex, Vec<Recalled>)>),
}

/// What the gate keeps in memory: nothing that a decision hangs on.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    counts: SortedMap<String, LimitCounts>,
    since: Option<UnixMs>,
    swept_to: Option<Bucket>,
    /// What was refused, on its way into the audit trail.
    pub refusals: Journal,
}

/// The buckets of one turn.
struct Turn<'a, D> {
    db: &'a D,
    now: UnixMs,
    /// In the order of their buckets.
    found: Vec<Found>,
}

/// A bucket of a turn.
struct Found {
    bucket: Bucket,
    state: State,
    changed: Changed,
}

/// Whether a bucket has to be stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Changed {
    No,
    Yes,
}

impl Gate {
    /// Decides what a hub asks. A request is admitted where all of its limits have room, and then all of them count it; where
    /// one refuses, none has counted anything.
    ///
    /// Errors: the database's, and nothing has happened.
    pub fn decide(
        &mut self,
        db: &impl Database,
        now: UnixMs,
        ask: &Ask,
        recalls: Recalls,
    ) -> Result<Outcome, DatabaseError> {
        let mut turn = Turn::new(db, now);
        turn.take_back(ask.hub, &ask.returned)?;
        for refund in &ask.refunds {
            if turn.find(&refund.bucket)?.is_some() {
                turn.change(&refund.bucket, |state| state.refund(refund.units, refund.counted_at));
            }
        }
        let mut recalled = Recall::default();
        let mut verdicts = Vec::with_capacity(ask.requests.len());
        let mut would_have = Vec::new();
        for needs in &ask.requests {
            verdicts.push(turn.judge(ask.hub, needs, &mut recalled, &mut would_have)?);
        }
        if recalls == Recalls::Possible && !recalled.0.is_empty() {
            return Ok(Outcome::Recall(recalled.0));
        }
        self.count(now, &verdicts, &would_have);
        let refused = verdicts.iter().filter_map(|verdict| match verdict {
            Verdict::Refused(refusal) => Some((code_of(&refusal.rule), About::Limit(&refusal.bucket.limit), 1)),
            Verdict::Admitted => None,
        });
        self.refusals.note(db, now, refused)?;
        let leases = turn.lend(ask)?;
        let standings = turn.standings(ask);
        turn.store()?;
        let idle = turn.found.iter().all(|found| found.changed == Changed::No);
        self.sweep(db, now, idle)?;
        Ok(Outcome::Decided(Decided {
            at: now,
            verdicts,
            leases,
            standings,
        }))
    }

    /// Takes back what `hub` has not used.
    ///
    /// Errors: the database's, and nothing has happened.
    pub fn give_back(
        &mut self,
        db: &impl Database,
        now: UnixMs,
        hub: HubIndex,
        returned: &[Returned],
    ) -> Result<(), DatabaseError> {
        let mut turn = Turn::new(db, now);
        turn.take_back(hub, returned)?;
        turn.store()
    }

    /// How often each limit has refused, or would have, and how full the buckets of one limit are, from the key
    /// `from` on.
    ///
    /// Errors: the database's.
    pub fn show(
        &self,
        db: &impl Database,
        now: UnixMs,
        limit: &str,
        from: &str,
        count: u32,
    ) -> Result<LimitsView, DatabaseError> {
        let rows = db.run(
            "-- admission::show
            SELECT key, state FROM bucket WHERE limit_name = ? AND key >= ? ORDER BY key LIMIT ?",
            &[
                Value::Text(limit),
                Value::Text(from),
                Value::Number(u64::from(count).saturating_add(1)),
            ],
        )?;
        let mut buckets = Vec::with_capacity(rows.len());
        for mut row in rows {
            let (key, mut state) = (row.text()?, from_blob::<State>(&row.blob()?)?);
            state.advance(state.rule(), now);
            buckets.push(BucketView {
                key,
                units: state.rule().units(),
                per_ms: state.rule().per_ms(),
                remaining: state.available(),
                reset_ms: state.reset_ms(),
            });
        }
        let more = usize::try_from(count).is_ok_and(|count| buckets.len() > count);
        let cursor = if more { buckets.pop().map(|next| next.key) } else { None };
        Ok(LimitsView {
            since: self.since.unwrap_or(now),
            counts: self.counts.clone(),
            buckets,
            cursor,
        })
    }

    fn count(&mut self, now: UnixMs, verdicts: &[Verdict], would_have: &[String]) {
        self.since.get_or_insert(now);
        let refused = verdicts.iter().filter_map(|verdict| match verdict {
            Verdict::Refused(refusal) => Some((&refusal.bucket.limit, 1, 0)),
            Verdict::Admitted => None,
        });
        for (limit, refused, would) in refused.chain(would_have.iter().map(|limit| (limit, 0, 1))) {
            if self.counts.len() >= COUNTED_MAX && !self.counts.contains_key(limit) {
                self.counts.clear();
                self.since = Some(now);
            }
            let counts = self.counts.entry(limit.clone()).or_default();
            counts.refused += refused;
            counts.would_have_refused += would;
        }
    }

    /// Looks at a few rows after those of the last time, and drops what is full.
    fn sweep(&mut self, db: &impl Database, now: UnixMs, idle: bool) -> Result<(), DatabaseError> {
        if idle {
            return Ok(());
        }
        let from = self.swept_to.take();
        let (limit, key) = from
            .as_ref()
            .map_or(("", ""), |from| (from.limit.as_str(), from.key.as_str()));
        let rows = db.run(
            "-- admission::sweep
            SELECT limit_name, key, full_at FROM bucket WHERE (limit_name, key) > (?, ?) ORDER BY limit_name, key LIMIT ?",
            &[Value::Text(limit), Value::Text(key), Value::Number(SWEPT)],
        )?;
        for mut row in rows {
            let (bucket, full_at) = (
                Bucket {
                    limit: row.text()?,
                    key: row.text()?,
                },
                row.number()?,
            );
            if full_at.saturating_add(KEPT_MS) <= now.0 {
                db.run(
                    "-- admission::sweep
                    DELETE FROM bucket WHERE limit_name = ? AND key = ?",
                    &[Value::Text(&bucket.limit), Value::Text(&bucket.key)],
                )?;
            }
            self.swept_to = Some(bucket);
        }
        Ok(())
    }
}

/// What other hubs are asked to give back.
#[derive(Default)]
struct Recall(Vec<(HubIndex, Vec<Recalled>)>);

impl Recall {
    fn note(&mut self, bucket: &Bucket, lent_to: Vec<(HubIndex, u64)>) {
        for (hub, serial) in lent_to {
            let recalled = Recalled {
                bucket: bucket.clone(),
                serial,
            };
            match self.0.iter_mut().find(|(of, _)| *of == hub) {
                Some((_, of_hub)) if of_hub.iter().any(|known| known.bucket == *bucket) => {}
                Some((_, of_hub)) => of_hub.push(recalled),
                None => self.0.push((hub, vec![recalled])),
            }
        }
    }
}

impl<'a, D: Database> Turn<'a, D> {
    fn new(db: &'a D, now: UnixMs) -> Self {
        Self {
            db,
            now,
            found: Vec::new(),
        }
    }

    /// The bucket as it is, if anything was ever taken from it.
    fn find(&mut self, bucket: &Bucket) -> Result<Option<&mut Found>, DatabaseError> {
        let index = match self.place(bucket) {
            Ok(index) => index,
            Err(index) => {
                let rows = self.db.run(
                    "-- admission::find
                    SELECT state FROM bucket WHERE limit_name = ? AND key = ?",
                    &[Value::Text(&bucket.limit), Value::Text(&bucket.key)],
                )?;
                let Some(mut row) = rows.into_iter().next() else {
                    return Ok(None);
                };
                let mut state: State = from_blob(&row.blob()?)?;
                state.advance(state.rule(), self.now);
                self.insert(index, bucket, state);
                index
            }
        };
        Ok(self.found.get_mut(index))
    }

    /// The bucket under the rule of its limit.
    fn under(&mut self, bucket: &Bucket, rule: Rule) -> Result<Option<&mut Found>, DatabaseError> {
        let now = self.now;
        if self.find(bucket)?.is_none()
            && let Err(index) = self.place(bucket)
        {
            self.insert(index, bucket, State::new(rule, now));
        }
        let Some(found) = self.find(bucket)? else {
            return Ok(None);
        };
        found.state.advance(rule, now);
        Ok(Some(found))
    }

    /// Where the bucket is, or belongs.
    fn place(&self, bucket: &Bucket) -> Result<usize, usize> {
        self.found.binary_search_by(|found| found.bucket.cmp(bucket))
    }

    fn insert(&mut self, index: usize, bucket: &Bucket, state: State) {
        let found = Found {
            bucket: bucket.clone(),
            state,
            changed: Changed::No,
        };
        self.found.insert(index, found);
    }

    fn state(&self, bucket: &Bucket) -> Option<&State> {
        let index = self.place(bucket).ok()?;
        self.found.get(index).map(|found| &found.state)
    }

    fn change(&mut self, bucket: &Bucket, change: impl FnOnce(&mut State)) {
        if let Ok(index) = self.place(bucket)
            && let Some(found) = self.found.get_mut(index)
        {
            change(&mut found.state);
            found.changed = Changed::Yes;
        }
    }

    fn take_back(&mut self, hub: HubIndex, returned: &[Returned]) -> Result<(), DatabaseError> {
        for Returned { bucket, serial, left } in returned {
            if self.find(bucket)?.is_some() {
                self.change(bucket, |state| state.returned(hub, *serial, *left));
            }
        }
        Ok(())
    }

    /// Whether all limits of a request have room, and then counts it.
    fn judge(
        &mut self,
        hub: HubIndex,
        needs: &[Need],
        recalled: &mut Recall,
        would_have: &mut Vec<String>,
    ) -> Result<Verdict, DatabaseError> {
        let mut refusal: Option<Refusal> = None;
        let mut taken = Vec::with_capacity(needs.len());
        for need in needs {
            // What the hub has of this bucket came back with its question.
            let Some(found) = self.under(&need.bucket, need.rule)? else {
                continue;
            };
            if found.state.forgotten(hub) {
                found.changed = Changed::Yes;
            }
            let state = &found.state;
            if state.available() >= need.cost {
                taken.push(need);
                continue;
            }
            recalled.note(&need.bucket, state.lent_to(hub));
            if need.force == Force::Counts {
                would_have.push(need.bucket.limit.clone());
                continue;
            }
            let after_ms = state.wait_ms(need.cost).max(1);
            if refusal.as_ref().is_none_or(|longest| longest.after_ms < after_ms) {
                refusal = Some(Refusal {
                    bucket: need.bucket.clone(),
                    rule: need.rule,
                    cost: need.cost,
                    remaining: state.available(),
                    after_ms,
                });
            }
        }
        if let Some(refusal) = refusal {
            return Ok(Verdict::Refused(refusal));
        }
        for need in taken {
            self.change(&need.bucket, |state| state.take(need.cost));
        }
        Ok(Verdict::Admitted)
    }

    fn lend(&mut self, ask: &Ask) -> Result<Vec<Lease>, DatabaseError> {
        let mut leases = Vec::new();
        for wanted in &ask.wanted {
            let units = wanted.units.min(
                self.under(&wanted.bucket, wanted.rule)?
                    .map_or(0, |found| found.state.available())
                    / LENT_PART,
            );
            if units == 0 {
                continue;
            }
            let mut serial = 0;
            self.change(&wanted.bucket, |state| serial = state.lend(ask.hub, units, LEASE_MS));
            leases.push(Lease {
                bucket: wanted.bucket.clone(),
                serial,
                units,
                lasts_ms: LEASE_MS,
            });
        }
        Ok(leases)
    }

    fn standings(&self, ask: &Ask) -> Vec<Standing> {
        let needed = ask.requests.iter().flatten().map(|need| &need.bucket);
        let mut buckets: Vec<&Bucket> = needed.chain(ask.wanted.iter().map(|wanted| &wanted.bucket)).collect();
        buckets.sort_unstable();
        buckets.dedup();
        let of = |bucket| Some(standing(bucket, self.state(bucket)?));
        buckets.into_iter().filter_map(of).collect()
    }

    /// A row for each bucket that has changed.
    fn store(&self) -> Result<(), DatabaseError> {
        for Found { bucket, state, .. } in self.found.iter().filter(|found| found.changed == Changed::Yes) {
            self.db.run(
                "-- admission::store
                INSERT INTO bucket (limit_name, key, full_at, state) VALUES (?, ?, ?, ?)
                ON CONFLICT (limit_name, key) DO UPDATE SET full_at = excluded.full_at, state = excluded.state",
                &[
                    Value::Text(&bucket.limit),
                    Value::Text(&bucket.key),
                    Value::Number(state.full_at().0),
                    Value::Blob(&to_blob(state)?),
                ],
            )?;
        }
        Ok(())
    }
}

fn standing(bucket: &Bucket, state: &State) -> Standing {
    Standing {
        bucket: bucket.clone(),
        rule: state.rule(),
        remaining: state.available(),
        reset_ms: state.reset_ms(),
    }
}
