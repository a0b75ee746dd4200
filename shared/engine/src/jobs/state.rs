//! What an object remembers between turns. All of it can be built again from the rows.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use tidegate_protocol::calls::hub::Delivery;
use tidegate_protocol::calls::jobs::Enqueue;
use tidegate_protocol::event::{JobState, Progress};
use tidegate_protocol::ids::{FencingToken, HubIndex, JobId, JobNumber, Seq};
use tidegate_protocol::time::UnixMs;

use super::away::Away;
use super::backlog::Backlog;
use super::batches::Batches;
use super::endpoints::Endpoints;
use super::feeds::Feeds;
use super::gates::{Gate, Gates};
use super::lanes::Shape;
use super::packing::PACK_JOBS_MIN;
use super::packs::Packs;
use super::pull::Pull;
use super::queues::Queues;
use super::row::{Job, columns, state_number};
use super::schedules::Watch;
use super::spread::Spread;
use super::trail::Trail;
use super::{CallId, RUNNING_MAX};
use crate::database::{Database, DatabaseError, Value, from_blob};
use tidegate_protocol::{SortedMap, SortedSet};

/// The lease of an attempt under way. It is renewed in memory, so that a heartbeat costs no row; each alarm that finds
/// it alive stores how far it has got.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lease {
    pub token: FencingToken,
    pub until: UnixMs,
    /// How far the row says that the lease goes: what is left of it where this memory is lost. Never beyond `until`.
    pub stored_until: UnixMs,
    /// Whether the row has an entry in the index of due rows.
    pub indexed: bool,
    /// What the attempt counts under.
    pub shape: Arc<Shape>,
}

impl Lease {
    /// A lease of `job`, as far as its row tells: to the time of its index entry, or for one lease from its last change.
    pub fn stored(job: &Job) -> Self {
        let until = job
            .changed_at
            .plus(job.spec.policy.lease_ms)
            .max(job.due_at.unwrap_or_default());
        let until = job.cancelled_until().map_or(until, |at| until.min(at));
        Self {
            token: job.token,
            until,
            stored_until: until,
            indexed: job.due_at.is_some(),
            shape: Arc::new(Shape::of(&job.spec)),
        }
    }
}

/// A job without a key whose deadline has not come: it has an id and an attempt, and no row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unstored {
    pub id: JobId,
    pub enqueue: Enqueue,
    pub token: FencingToken,
    pub progress: Option<Progress>,
    pub checkpoint: Option<String>,
    pub started_at: UnixMs,
    /// What the attempt counts under.
    pub shape: Arc<Shape>,
}

/// The end of a job that some hubs have not confirmed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Undelivered {
    pub hubs: SortedSet<HubIndex>,
    pub indexed: bool,
    pub retry_at: UnixMs,
}

/// What a call waits for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Waiting {
    /// The outcome; at the deadline, an acknowledgment.
    Outcome { deduplicated: bool },
    /// Events after a place; at the deadline, an empty answer.
    Events { after: Seq, until_end: bool },
}

/// A call that waits.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Waiter {
    pub job: JobNumber,
    pub deadline: UnixMs,
    pub waiting: Waiting,
}

/// What an object remembers between turns.
#[derive(Debug, Clone)]
pub struct State {
    pub(super) last: JobNumber,
    pub(super) watermark: JobNumber,
    pub(super) running: SortedMap<JobNumber, Lease>,
    /// The rows of the running jobs, as they are stored: an outcome need not read back what its own turns wrote.
    pub(super) rows: SortedMap<JobNumber, Job>,
    pub(super) unstored: SortedMap<JobNumber, Unstored>,
    pub(super) undelivered: SortedMap<JobNumber, Undelivered>,
    pub(super) lanes: Queues,
    pub(super) backlog: Backlog,
    pub(super) gates: Gates,
    pub(super) waiters: SortedMap<CallId, Waiter>,
    pub(super) sweep_at: Option<UnixMs>,
    /// No job is to be given up before. Never later than the earliest of the rows; it may be earlier, where that ended.
    pub(super) give_up_at: Option<UnixMs>,
    /// Hubs that came to follow a job since their last batch was answered. What that answer says of the job is older.
    pub(super) followed: SortedSet<(HubIndex, JobNumber)>,
    pub(super) schedules: Watch,
    pub(super) spread: Spread,
    pub(super) pull: Pull,
    pub(super) batches: Batches,
    /// Whether any job has a further key. Where none has one, no request looks for it.
    pub(super) aliases: bool,
    /// What was done by hand, as far as the gate has not confirmed it.
    pub(super) trail: Trail,
    pub(super) endpoints: Endpoints,
    /// What channels are to be told.
    pub(super) feeds: Feeds,
    pub(super) away: Away,
    /// Waiting jobs that have no rows of their own.
    pub(super) packs: Packs,
    /// How many jobs a pack holds at least.
    pub(super) pack_jobs_min: usize,
    /// Jobs that were stored and not counted elsewhere yet.
    pub(super) accepted: u64,
}

impl State {
    /// How many jobs were stored since this was asked last: of requests, schedules and redrives.
    pub fn take_accepted(&mut self) -> u64 {
        core::mem::take(&mut self.accepted)
    }

    /// Whether jobs wait in a lane with rows of their own. `leaving` jobs of it wait no longer, but are still counted.
    pub fn wait_in_rows(&self, lane: &str, leaving: u64) -> bool {
        self.lanes.jobs_of(lane) > self.packs.jobs_of(lane).saturating_add(leaving)
    }

    /// Builds the state from the rows, after whatever stopped the object. The schema is in place already.
    ///
    /// A running job has the lease that its row tells of, and every end that may not have been delivered is delivered
    /// by the next [`super::wake`]. Errors: the database's.
    pub fn recover(db: &impl Database, now: UnixMs) -> Result<Self, DatabaseError> {
        let one = |sql: &'static str| -> Result<Option<u64>, DatabaseError> {
            db.run(sql, &[])?
                .into_iter()
                .next()
                .map(|mut row| row.optional_number())
                .transpose()
                .map(Option::flatten)
        };
        let watermark = JobNumber(one("-- jobs::recover\nSELECT number FROM watermark WHERE id = 1")?.unwrap_or(0));
        // Numbers go on above the watermark as well: the rows that it was raised for may be deleted.
        let last = JobNumber(one("-- jobs::recover\nSELECT max(number) FROM job")?.unwrap_or(0)).max(watermark);
        let spread = Spread::recover(db)?;
        name_lanes(db, watermark)?;
        let packs = Packs::recover(db)?;
        let last = last.max(packs.last().unwrap_or_default());
        let (lanes, backlog) = recover_lanes(db, now, &packs)?;
        let mut state = Self {
            last: last.max(spread.after()),
            watermark,
            running: SortedMap::new(),
            rows: SortedMap::new(),
            unstored: SortedMap::new(),
            undelivered: SortedMap::new(),
            lanes,
            backlog,
            gates: Gates::recover(db)?,
            waiters: SortedMap::new(),
            sweep_at: None,
            give_up_at: Self::earliest_give_up(db)?,
            followed: SortedSet::new(),
            schedules: Watch::recover(db)?,
            spread,
            pull: Pull::default(),
            batches: Batches::recover(db)?,
            aliases: Self::any_alias(db)?,
            trail: Trail::recover(db, now)?,
            endpoints: Endpoints::recover(db)?,
            feeds: Feeds::recover(db, now)?,
            away: Away::recover(db, now)?,
            packs,
            pack_jobs_min: PACK_JOBS_MIN,
            accepted: 0,
        };
        let indexed = db.run(columns!("WHERE due_at IS NOT NULL AND state >= 3"), &[])?;
        let young = db.run(
            columns!("WHERE number > CAST(? AS INTEGER) AND due_at IS NULL AND state >= 3"),
            &[Value::Number(watermark.0)],
        )?;
        let mut found = Job::all(indexed)?;
        found.extend(Job::all(young)?);
        // And what has left a pack since an alarm last gave entries to what runs.
        for number in state.packs.gone().filter(|number| *number <= watermark) {
            let job = Job::load_number(db, number)?;
            found.extend(job.filter(|job| job.due_at.is_none() && state_number(job.state) >= 3));
        }
        for job in found {
            state.remember(job, now);
        }
        state.sweep_at =
            one("-- jobs::recover\nSELECT expires_at FROM job WHERE expires_at IS NOT NULL ORDER BY number LIMIT 1")?
                .map(UnixMs)
                .into_iter()
                .chain(Self::first_result_until(db)?)
                .min();
        Ok(state)
    }

    fn remember(&mut self, job: Job, now: UnixMs) {
        let indexed = job.due_at.is_some();
        if job.state == JobState::Running {
            let lease = Lease::stored(&job);
            self.gates.hold(&lease.shape);
            self.running.insert(job.id.number(), lease);
            self.rows.insert(job.id.number(), job);
        } else if job.state.is_ended() && (indexed || !job.followers.is_empty()) {
            let hubs = job.followers.iter().copied().collect();
            self.undelivered.insert(
                job.id.number(),
                Undelivered {
                    hubs,
                    indexed,
                    retry_at: now,
                },
            );
        }
    }

    /// The attempt of a job is over, or no longer ours: its places are free.
    pub(super) fn release(&mut self, number: JobNumber) -> Option<Lease> {
        let lease = self.running.remove(&number)?;
        self.give_back(&lease.shape);
        Some(lease)
    }

    pub(super) fn give_back(&mut self, shape: &Shape) {
        self.gates.give_back(shape);
        for (key, _) in shape.limits() {
            self.lanes.opened(&Gate::Limit(key.clone()));
        }
    }

    /// Whether another attempt may start.
    pub(super) fn has_place(&self) -> bool {
        self.places() > 0
    }

    /// `hub` has these events. Gives the ended jobs that every hub has been told of now, and whose rows say otherwise.
    pub(super) fn confirmed(&mut self, hub: HubIndex, deliveries: &[Delivery]) -> Vec<JobNumber> {
        let mut indexed = Vec::new();
        for delivery in deliveries.iter().filter(|delivery| delivery.event.what.is_terminal()) {
            let number = delivery.job.number();
            let Some(undelivered) = self.undelivered.get_mut(&number) else {
                continue;
            };
            undelivered.hubs.remove(&hub);
            if undelivered.hubs.is_empty() {
                if undelivered.indexed {
                    indexed.push(number);
                }
                self.undelivered.remove(&number);
            }
        }
        indexed
    }

    /// Whether a row changes when `hub` has these events, and has no socket that follows the jobs of `not_followed`.
    pub(super) fn needs_rows(&self, hub: HubIndex, deliveries: &[Delivery], not_followed: &[JobId]) -> bool {
        let lost = |id: &JobId| !self.followed.contains(&(hub, id.number()));
        let told = |delivery: &Delivery| {
            let undelivered = self.undelivered.get(&delivery.job.number());
            delivery.event.what.is_terminal()
                && undelivered.is_some_and(|one| one.indexed && one.hubs.iter().all(|other| *other == hub))
        };
        not_followed.iter().any(lost) || deliveries.iter().any(told)
    }

    /// How many more attempts of the executor may start.
    pub(super) fn places(&self) -> u64 {
        if !self.spread.is_awake() {
            return 0;
        }
        let ours = self.running().saturating_sub(self.gates.pulled());
        u64::try_from(RUNNING_MAX.saturating_sub(ours)).unwrap_or(0)
    }

    pub(super) fn redeliver_at(&mut self, number: JobNumber, at: UnixMs) {
        if let Some(undelivered) = self.undelivered.get_mut(&number) {
            undelivered.retry_at = at;
        }
    }

    /// The calls that wait for `number`, taken out where `ready` says so.
    pub(super) fn take_waiters(
        &mut self,
        number: JobNumber,
        mut ready: impl FnMut(&Waiter) -> bool,
    ) -> Vec<(CallId, Waiter)> {
        let calls: Vec<CallId> = self
            .waiters
            .iter()
            .filter(|(_, w)| w.job == number && ready(w))
            .map(|(id, _)| *id)
            .collect();
        calls
            .into_iter()
            .filter_map(|id| self.waiters.remove(&id).map(|waiter| (id, waiter)))
            .collect()
    }

    /// When the object must be woken, whatever happens to it: the time of its alarm.
    pub fn next_wake(&self) -> Option<UnixMs> {
        let leases = self.running.values().map(|lease| lease.stored_until);
        let deliveries = self.undelivered.values().map(|undelivered| undelivered.retry_at);
        let due = match (self.lanes.jobs() > 0, self.has_place()) {
            (false, _) => None,
            (true, true) => self.lanes.next_time(),
            (true, false) => None,
        };
        // A place, of the object or under a limit, may be held by a job without a row, which has no lease; its
        // deadline gives it one.
        let unstored = if self.lanes.jobs() > 0 && !self.unstored.is_empty() {
            self.next_tick()
        } else {
            None
        };
        let due = due
            .into_iter()
            .chain(unstored)
            .chain(self.limits_at())
            .chain(self.next_share());
        let others = due
            .chain(self.sweep_at)
            .chain(self.schedules.due)
            .chain(self.batches.due)
            .chain(self.trail.next_wake())
            .chain(self.feeds.next_wake())
            .chain(self.away.next_look());
        leases.chain(deliveries).chain(others).min()
    }

    /// When [`super::tick`] is to be called, as long as this instance lives.
    pub fn next_tick(&self) -> Option<UnixMs> {
        let waiters = self.waiters.values().map(|waiter| waiter.deadline);
        let waiters = waiters.chain(self.batches.next_deadline());
        let waiters = waiters.chain(self.feeds.next_tick());
        waiters.chain(self.next_poll()).chain(self.next_share()).min()
    }

    /// When the first schedule is due.
    pub fn next_schedule(&self) -> Option<UnixMs> {
        self.schedules.due
    }

    /// Whether nothing is held back because the tenant grows.
    pub fn is_open(&self) -> bool {
        self.spread.opened_at().is_some()
    }

    /// How many attempts are under way.
    pub fn running(&self) -> usize {
        self.running.len() + self.unstored.len()
    }

    /// How many jobs wait.
    pub fn waiting(&self) -> u64 {
        self.lanes.jobs()
    }

    /// Packs even a job that would lie in its pack alone, until this memory is lost. For checks: it shows with one call a
    /// turn what else takes many.
    #[cfg(feature = "native")]
    pub fn pack_each(&mut self) {
        self.pack_jobs_min = 1;
    }

    /// Whether what is remembered of rows is what they hold, for every running job and no other.
    ///
    /// Errors: the database's.
    #[cfg(feature = "native")]
    pub fn mirrors(&self, db: &impl Database) -> Result<bool, DatabaseError> {
        if !self.running.keys().eq(self.rows.keys()) {
            return Ok(false);
        }
        for (number, job) in &self.rows {
            if Job::load_number(db, *number)?.as_ref() != Some(job) {
                return Ok(false);
            }
        }
        // Gates that someone holds, and lanes, are those of a recovery.
        let mut gates = Gates::recover(db)?;
        let unstored = self.unstored.values().map(|unstored| &unstored.shape);
        self.running
            .values()
            .map(|lease| &lease.shape)
            .chain(unstored)
            .for_each(|shape| gates.hold(shape));
        let packs = Packs::recover(db)?;
        let (lanes, backlog) = recover_lanes(db, UnixMs(0), &packs)?;
        Ok(packs == self.packs
            && gates == self.gates
            && Spread::recover(db)? == self.spread
            && self.batches.mirror(db)?
            && Trail::recover(db, UnixMs(0))? == self.trail
            && Away::recover(db, UnixMs(0))?.mirrors(&self.away)
            && lanes.iter().eq(self.lanes.iter())
            && backlog == self.backlog)
    }
}

/// Gives its lane's name to every row that may wait and has none: code from before there were lanes has run in between,
/// as where a deployment was rolled back. The two searches are by an index and by the watermark; they nearly always find nothing.
fn name_lanes(db: &impl Database, watermark: JobNumber) -> Result<(), DatabaseError> {
    let mut rows = db.run(
        "-- jobs::name_lanes
        SELECT number, spec FROM job WHERE lane = '' AND due_at IS NOT NULL AND state < 4",
        &[],
    )?;
    rows.extend(db.run(
        "-- jobs::name_lanes
        SELECT number, spec FROM job WHERE number > CAST(? AS INTEGER) AND due_at IS NULL AND state < 4 AND lane = ''",
        &[Value::Number(watermark.0)],
    )?);
    for mut row in rows {
        let (number, spec) = (row.number()?, row.blob()?);
        db.run(
            "-- jobs::name_lanes
            UPDATE job SET lane = ? WHERE number = CAST(? AS INTEGER)",
            &[
                Value::Text(&Shape::of(&from_blob(&spec)?).name()?),
                Value::Number(number),
            ],
        )?;
    }
    Ok(())
}

/// The lanes of all jobs that wait, and how much that is.
fn recover_lanes(db: &impl Database, now: UnixMs, packs: &Packs) -> Result<(Queues, Backlog), DatabaseError> {
    let mut lanes = Queues::default();
    let mut backlog = Backlog::new(now);
    backlog.recover_paused(db)?;
    let rows = db.run(
        "-- jobs::recover_lanes
        SELECT lane, min(due_at), count(*), sum(payload_bytes) FROM job WHERE due_at IS NOT NULL AND state < 3 GROUP BY lane",
        &[],
    )?;
    for mut row in rows {
        let name = row.text()?;
        let (head, waiting) = (UnixMs(row.number()?), Backlog::count(&mut row)?);
        let shape = Shape::parse(&name)?;
        backlog.add(shape.action(), waiting);
        lanes.add_many(&name, &shape, head, waiting.jobs);
    }
    for (name, head, waiting) in packs.each() {
        let shape = Shape::parse(name)?;
        backlog.add(shape.action(), waiting);
        lanes.add_many(name, &shape, head, waiting.jobs);
    }
    Ok((lanes, backlog))
}
