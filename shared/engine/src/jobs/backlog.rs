//! How much waits, in jobs and in bytes, and how fast it gets less: the bounds of a queue, and when to try again.
//!
//! Whatever has not ended and does not run counts: also what is held back alone, which stands in no lane. The counts are
//! memory, built again from the rows. How fast jobs left is memory alone: an object that has just begun knows nothing of it.

use alloc::format;

use tidegate_protocol::calls::queueing::Queueing;
use tidegate_protocol::event::Payload;
use tidegate_protocol::ids::ActionName;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::row::Job;
use super::{Turn, WAITING_MAX};
use crate::database::{Database, DatabaseError, Row};
use tidegate_protocol::SortedMap;

/// How far back an object remembers what left the queue: between one such time and two. Milliseconds.
const REMEMBERED_MS: u64 = 30_000;
/// The soonest that a refused request is asked to come again. Milliseconds.
const RETRY_MIN_MS: u64 = 1_000;
/// The latest. Milliseconds.
const RETRY_MAX_MS: u64 = 60_000;
/// When it is asked to come where nothing is known yet. Milliseconds.
const RETRY_UNKNOWN_MS: u64 = 5_000;
/// The part of a bound that is to be free when a refused request comes again, so that many of them find room.
const FREED_PART: u64 = 10;
/// Actions whose speed is remembered at most.
const SPEEDS_MAX: usize = 1_000;

/// The size of each waiting job's input, and an index of those that are held back alone. Jobs from before count as much as
/// their row holds.
pub(super) const BYTES: &[&str] = &[
    "-- jobs::schema
    ALTER TABLE job ADD COLUMN payload_bytes INTEGER NOT NULL DEFAULT 0",
    "-- jobs::schema
    UPDATE job SET payload_bytes = length(payload) WHERE state < 4 OR state = 8",
    "-- jobs::schema
    CREATE INDEX job_paused ON job(action) WHERE state = 8",
];

/// So many jobs, with so many bytes of input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Count {
    pub jobs: u64,
    pub bytes: u64,
}

impl Count {
    fn of(job: &Job) -> Self {
        Self {
            jobs: 1,
            bytes: job.payload_bytes,
        }
    }

    fn add(&mut self, more: Self) {
        self.jobs = self.jobs.saturating_add(more.jobs);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }

    fn take(&mut self, less: Self) {
        self.jobs = self.jobs.saturating_sub(less.jobs);
        self.bytes = self.bytes.saturating_sub(less.bytes);
    }
}

/// The bytes of an input that a job waits with, wherever they lie.
pub(super) fn payload_bytes(payload: &Payload) -> u64 {
    match payload {
        Payload::Inline(value) => u64::try_from(value.as_str().len()).unwrap_or(u64::MAX),
        Payload::Stored { bytes, .. } => *bytes,
    }
}

/// How much left lately: in the window under way, and in the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Speed {
    since: UnixMs,
    window: UnixMs,
    left: Count,
    before: Count,
}

impl Speed {
    fn new(now: UnixMs) -> Self {
        Self {
            since: now,
            window: now,
            left: Count::default(),
            before: Count::default(),
        }
    }

    /// Begins a new window where the one under way is over. A clock that jumped back begins anew.
    fn turn(&mut self, now: UnixMs) {
        let passed = now.since(self.window);
        if now < self.window {
            *self = Self::new(now);
        } else if passed >= 2 * REMEMBERED_MS {
            (self.window, self.left, self.before) = (now, Count::default(), Count::default());
        } else if passed >= REMEMBERED_MS {
            self.window = self.window.plus(REMEMBERED_MS);
            (self.before, self.left) = (self.left, Count::default());
        }
    }

    fn note(&mut self, now: UnixMs, left: Count) {
        self.turn(now);
        self.left.add(left);
    }

    /// How long it takes until `needed` has left, at the speed of the last while. `of` says which of the two is meant.
    fn wait_ms(&self, now: UnixMs, needed: u64, of: fn(Count) -> u64) -> u64 {
        let mut seen = *self;
        seen.turn(now);
        let left = of(seen.left).saturating_add(of(seen.before));
        let watched = now.since(seen.since);
        if left == 0 {
            // Nothing left for as long as was looked.
            return watched.clamp(RETRY_UNKNOWN_MS, RETRY_MAX_MS);
        }
        let earlier = if seen.before == Count::default() {
            0
        } else {
            REMEMBERED_MS
        };
        let looked = now.since(seen.window).saturating_add(earlier).min(watched).max(1);
        let ms = u128::from(needed) * u128::from(looked) / u128::from(left);
        u64::try_from(ms)
            .unwrap_or(RETRY_MAX_MS)
            .clamp(RETRY_MIN_MS, RETRY_MAX_MS)
    }
}

/// What waits, in all and by action.
#[derive(Debug, Clone)]
pub(super) struct Backlog {
    total: Count,
    actions: SortedMap<ActionName, Count>,
    speed: Speed,
    speeds: SortedMap<ActionName, Speed>,
}

/// Two of them are the same where the same waits.
impl PartialEq for Backlog {
    fn eq(&self, other: &Self) -> bool {
        self.total == other.total && self.actions == other.actions
    }
}

impl Backlog {
    /// Nothing waits, and nothing has left.
    pub fn new(now: UnixMs) -> Self {
        Self {
            total: Count::default(),
            actions: SortedMap::new(),
            speed: Speed::new(now),
            speeds: SortedMap::new(),
        }
    }

    /// What waits beyond the lanes: jobs that are held back alone.
    pub fn recover_paused(&mut self, db: &impl Database) -> Result<(), DatabaseError> {
        let rows = db.run(
            "-- jobs::recover_paused
            SELECT action, count(*), sum(payload_bytes) FROM job INDEXED BY job_paused WHERE state = 8 GROUP BY action",
            &[],
        )?;
        for mut row in rows {
            let action = ActionName::parse(&row.text()?);
            let action = action.ok_or_else(|| DatabaseError::new("an action without a name"))?;
            self.add(&action, Self::count(&mut row)?);
        }
        Ok(())
    }

    /// Reads a number of jobs and one of bytes.
    pub fn count(row: &mut Row) -> Result<Count, DatabaseError> {
        Ok(Count {
            jobs: row.number()?,
            bytes: row.number()?,
        })
    }

    /// So much more waits of an action.
    pub fn add(&mut self, action: &ActionName, more: Count) {
        self.total.add(more);
        match self.actions.get_mut(action) {
            Some(count) => count.add(more),
            None => drop(self.actions.insert(action.clone(), more)),
        }
    }

    fn take(&mut self, action: &ActionName, less: Count) {
        self.total.take(less);
        if let Some(count) = self.actions.get_mut(action) {
            count.take(less);
            if count.jobs == 0 {
                self.actions.remove(action);
            }
        }
    }

    fn of(&self, action: &ActionName) -> Count {
        self.actions.get(action).copied().unwrap_or_default()
    }

    /// `job` waits.
    pub fn enters(&mut self, job: &Job) {
        self.add(&job.spec.action, Count::of(job));
    }

    /// `job`, which waited, starts or ends.
    pub fn leaves(&mut self, job: &Job, now: UnixMs) {
        let (action, count) = (&job.spec.action, Count::of(job));
        self.take(action, count);
        self.speed.note(now, count);
        if let Some(speed) = self.speeds.get_mut(action) {
            return speed.note(now, count);
        }
        if self.speeds.len() >= SPEEDS_MAX {
            self.speeds.clear();
        }
        let mut speed = Speed::new(self.speed.since);
        speed.note(now, count);
        self.speeds.insert(action.clone(), speed);
    }

    /// `old`, which waits, is `new` from now on.
    pub fn changes(&mut self, old: &Job, new: &Job) {
        self.take(&old.spec.action, Count::of(old));
        self.enters(new);
    }

    /// How long a refused request is to wait, where `needed` must leave. Milliseconds.
    fn retry_after(&self, action: Option<&ActionName>, now: UnixMs, needed: u64, of: fn(Count) -> u64) -> u64 {
        let speed = match action {
            None => self.speed,
            Some(action) => self
                .speeds
                .get(action)
                .copied()
                .unwrap_or_else(|| Speed::new(self.speed.since)),
        };
        speed.wait_ms(now, needed, of)
    }
}

/// A bound, what stands under it, and what it is called.
struct Bound<'a> {
    max: Option<u64>,
    waiting: Count,
    of: fn(Count) -> u64,
    name: &'static str,
    /// Whose it is; `None`: the tenant's.
    action: Option<&'a ActionName>,
}

fn jobs(count: Count) -> u64 {
    count.jobs
}

fn bytes(count: Count) -> u64 {
    count.bytes
}

impl<D: Database> Turn<'_, D> {
    /// Why there is no room for `more` that waits in this way, after `freed` of the same action has left.
    #[inline(never)]
    pub(super) fn full(&self, action: &ActionName, queueing: &Queueing, more: Count, freed: Count) -> Option<Error> {
        let (backlog, bounds) = (&self.state.backlog, &queueing.bounds);
        let place = self.state.spread.place();
        let part = |max: Option<u32>| max.map(|max| u64::from(place.part(max).max(1)));
        let part_of_bytes = |max: Option<u64>| max.map(|max| (max / u64::from(place.shards.max(1))).max(1));
        let (all, own) = (backlog.total, backlog.of(action));
        let bound = |max, waiting, of, name, action| Bound {
            max,
            waiting,
            of,
            name,
            action,
        };
        let checked = [
            bound(Some(WAITING_MAX), all, jobs as fn(Count) -> u64, "", None),
            bound(part(bounds.tenant), all, jobs, "queue.waiting", None),
            bound(
                part_of_bytes(bounds.tenant_bytes),
                all,
                bytes,
                "queue.waiting_bytes",
                None,
            ),
            bound(part(queueing.waiting_max), own, jobs, "waiting", Some(action)),
            bound(part_of_bytes(bounds.bytes), own, bytes, "waiting_bytes", Some(action)),
        ];
        for Bound {
            max,
            mut waiting,
            of,
            name,
            action,
        } in checked
        {
            waiting.take(freed);
            let (Some(max), there) = (max, of(waiting)) else {
                continue;
            };
            // What is larger than its bound by itself waits alone.
            if there == 0 || there.saturating_add(of(more)) <= max {
                continue;
            }
            let message = match action {
                None if name.is_empty() => format!("{max} jobs are waiting already."),
                None => format!("`{name}` allows {max}, and {there} wait already."),
                Some(action) => format!("`{name}` of the action `{action}` allows {max}, and {there} wait already."),
            };
            let needed = (max / FREED_PART).max(there.saturating_add(of(more)).saturating_sub(max));
            let retry_ms = backlog.retry_after(action, self.now, needed, of);
            return Some(Error::new(ErrorCode::QueueFull, message).retry_after(retry_ms));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: UnixMs = UnixMs(1_800_000_000_000);

    fn one(bytes: u64) -> Count {
        Count { jobs: 1, bytes }
    }

    #[test]
    fn who_is_refused_is_told_how_long_the_queue_needs_at_its_speed() {
        // One job a second, each of ten bytes.
        let mut speed = Speed::new(START);
        for second in 1..=20 {
            speed.note(START.plus(second * 1000), one(10));
        }
        let now = START.plus(20_000);
        for (needed, ms) in [(1, 1000), (5, 5000), (30, 30_000), (1000, 60_000)] {
            assert_eq!(speed.wait_ms(now, needed, jobs), ms, "{needed}");
            assert_eq!(speed.wait_ms(now, needed * 10, bytes), ms, "{needed}");
        }
    }

    #[test]
    fn only_what_left_lately_counts() {
        let mut speed = Speed::new(START);
        for second in 1..=100 {
            for _ in 0..100 {
                speed.note(START.plus(second * 1000), one(1));
            }
        }
        let fast = speed.wait_ms(START.plus(100_000), 1000, jobs);
        assert!((9_000..11_000).contains(&fast), "{fast}");
        // It stands still, and a job leaves every ten seconds from then on.
        assert_eq!(speed.wait_ms(START.plus(170_000), 1, jobs), RETRY_MAX_MS);
        for at in (170..300).step_by(10) {
            speed.note(START.plus(at * 1000), one(1));
        }
        let slow = speed.wait_ms(START.plus(295_000), 2, jobs);
        assert!((15_000..25_000).contains(&slow), "{slow}");
    }

    #[test]
    fn where_nothing_is_known_the_wait_grows_with_the_time_that_was_looked() {
        let speed = Speed::new(START);
        for (ms, wait) in [(0, 5000), (4000, 5000), (20_000, 20_000), (400_000, 60_000)] {
            assert_eq!(speed.wait_ms(START.plus(ms), 1, jobs), wait, "{ms}");
        }
        // A clock that jumps back begins anew.
        let mut speed = Speed::new(START);
        speed.note(START.plus(1000), one(1));
        assert_eq!(speed.wait_ms(UnixMs(START.0 - 50_000), 1, jobs), RETRY_UNKNOWN_MS);
    }
}
