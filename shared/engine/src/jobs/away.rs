//! Jobs that are cancelled once nobody follows them any more, because their request asked for that.
//!
//! Somebody follows a job who waits for it in a call to this object, or has a socket at a hub that follows it. Only the hub knows
//! its sockets, and it may die without a word: so it is asked, from time to time and after every recovery. What has been
//! noticed is stored, with its time, and nothing else is: a lost question is put again. A job that did not ask has no row here.

use alloc::vec::Vec;

use tidegate_protocol::ids::{HubIndex, JobId, JobNumber};
use tidegate_protocol::time::UnixMs;

use super::{Effect, TURN_ROWS_MAX, Turn};
use crate::database::{Database, DatabaseError, Value};
use tidegate_protocol::{SortedMap, SortedSet};

/// The shortest time between two questions to a hub about a job. Milliseconds.
pub const PROBE_MS_MIN: u64 = 5_000;
/// The longest. A hub that dies with a job's last socket is found out so late at most. Milliseconds.
pub const PROBE_MS_MAX: u64 = 60_000;

/// A job that is cancelled once nobody follows it.
#[derive(Debug, Clone, PartialEq)]
struct Left {
    /// For how long nobody may follow it. Milliseconds.
    max_ms: u64,
    /// Since when nobody does, as far as was noticed. As the row says.
    since: Option<UnixMs>,
    look_at: UnixMs,
    /// Hubs that were asked, and when. An answer to an older question is passed over.
    asked: SortedMap<HubIndex, UnixMs>,
}

/// All of these jobs.
#[derive(Debug, Clone, Default)]
pub(super) struct Away {
    jobs: SortedMap<JobNumber, Left>,
    looks: SortedSet<(UnixMs, JobNumber)>,
}

impl Away {
    /// Reads the rows. Whoever was not known to be away is looked for at once.
    pub fn recover(db: &impl Database, now: UnixMs) -> Result<Self, DatabaseError> {
        let mut away = Self::default();
        for mut row in db.run("-- away::recover\nSELECT number, max_ms, since FROM away", &[])? {
            let (number, max_ms) = (JobNumber(row.number()?), row.number()?);
            let since = row.optional_number()?.map(UnixMs);
            let look_at = since.map_or(now, |since| since.plus(max_ms));
            away.put(number, max_ms, since, look_at);
        }
        Ok(away)
    }

    /// When a job is to be looked at next.
    pub fn next_look(&self) -> Option<UnixMs> {
        self.looks.first().map(|(at, _)| *at)
    }

    /// Whether the rows are the same: what is not stored does not count.
    #[cfg(feature = "native")]
    pub fn mirrors(&self, other: &Self) -> bool {
        let stored = |away: &Self| -> Vec<_> {
            let jobs = away.jobs.iter();
            jobs.map(|(number, left)| (*number, left.max_ms, left.since)).collect()
        };
        stored(self) == stored(other)
    }

    fn put(&mut self, number: JobNumber, max_ms: u64, since: Option<UnixMs>, look_at: UnixMs) {
        self.looks.insert((look_at, number));
        let asked = SortedMap::new();
        let left = Left {
            max_ms,
            since,
            look_at,
            asked,
        };
        self.jobs.insert(number, left);
    }

    fn look_at(&mut self, number: JobNumber, at: UnixMs) {
        if let Some(left) = self.jobs.get_mut(&number) {
            self.looks.remove(&(left.look_at, number));
            left.look_at = at;
            self.looks.insert((at, number));
        }
    }

    fn due(&self, now: UnixMs) -> Vec<JobNumber> {
        let due = self.looks.iter().take_while(|(at, _)| *at <= now);
        let bound = usize::try_from(TURN_ROWS_MAX).unwrap_or(usize::MAX);
        due.map(|(_, number)| *number).take(bound).collect()
    }
}

impl Left {
    fn probe_ms(&self) -> u64 {
        self.max_ms.clamp(PROBE_MS_MIN, PROBE_MS_MAX)
    }
}

impl<D: Database> Turn<'_, D> {
    /// The job `number`, whose row is new, is cancelled once nobody has followed it for `max_ms`, where that is given. One row.
    pub(super) fn cancel_when_left(&mut self, number: JobNumber, max_ms: Option<u64>) -> Result<(), DatabaseError> {
        let Some(max_ms) = max_ms else { return Ok(()) };
        self.db.run(
            "-- away::cancel_when_left
            INSERT INTO away (number, max_ms, since) VALUES (?, ?, NULL)",
            &[Value::Number(number.0), Value::Number(max_ms)],
        )?;
        let at = self.now.plus(max_ms.clamp(PROBE_MS_MIN, PROBE_MS_MAX));
        self.state.away.put(number, max_ms, None, at);
        Ok(())
    }

    /// Another request is given the job `number`. One that did not ask for a cancel must not lose it by one.
    pub(super) fn asked_again(&mut self, number: JobNumber, max_ms: Option<u64>) -> Result<(), DatabaseError> {
        match max_ms {
            Some(_) => self.somebody_came(number),
            None => self.stays(number),
        }
    }

    /// The job `number` is no longer cancelled for want of followers.
    pub(super) fn stays(&mut self, number: JobNumber) -> Result<(), DatabaseError> {
        let Some(left) = self.state.away.jobs.remove(&number) else {
            return Ok(());
        };
        self.state.away.looks.remove(&(left.look_at, number));
        self.db.run(
            "-- away::stays
            DELETE FROM away WHERE number = CAST(? AS INTEGER)",
            &[Value::Number(number.0)],
        )?;
        Ok(())
    }

    /// Somebody follows the job `number`, or did just now.
    pub(super) fn somebody_came(&mut self, number: JobNumber) -> Result<(), DatabaseError> {
        let Some(left) = self.state.away.jobs.get(&number).filter(|left| left.since.is_some()) else {
            return Ok(());
        };
        let at = self.now.plus(left.probe_ms());
        self.store_since(number, None)?;
        self.state.away.look_at(number, at);
        Ok(())
    }

    /// A hub follows the job `number` from now on: what it may say to an earlier question is worth nothing.
    pub(super) fn followed_by(&mut self, number: JobNumber, hub: HubIndex) -> Result<(), DatabaseError> {
        if let Some(left) = self.state.away.jobs.get_mut(&number) {
            left.asked.remove(&hub);
        }
        self.somebody_came(number)
    }

    /// A hub no longer follows the job `number`.
    pub(super) fn not_followed_by_one(&mut self, number: JobNumber) {
        self.state.away.look_at(number, self.now);
    }

    /// Looks whether anybody follows the jobs whose time for that has come, and cancels those that were left for too long.
    pub(super) fn look_for_followers(&mut self) -> Result<(), DatabaseError> {
        let due = self.state.away.due(self.now);
        if due.is_empty() {
            return Ok(());
        }
        let waited_for: SortedSet<JobNumber> = self.state.waiters.values().map(|waiter| waiter.job).collect();
        for number in due {
            self.look_for_follower(number, &waited_for)?;
        }
        Ok(())
    }

    fn look_for_follower(&mut self, number: JobNumber, waited_for: &SortedSet<JobNumber>) -> Result<(), DatabaseError> {
        let now = self.now;
        let job = self.load_number(number)?;
        let Some(job) = job.filter(|job| !job.state.is_ended() && job.cancelled_until().is_none()) else {
            return self.stays(number);
        };
        let Some(left) = self.state.away.jobs.get_mut(&number) else {
            return Ok(());
        };
        let (max_ms, since, again) = (left.max_ms, left.since, now.plus(left.probe_ms()));
        if waited_for.contains(&number) || !job.followers.is_empty() {
            for hub in &job.followers {
                left.asked.insert(*hub, now);
                let (hub, job, at) = (*hub, job.id, now);
                self.effects.push(Effect::Probe { hub, job, at });
            }
            if since.is_some() {
                self.store_since(number, None)?;
            }
            self.state.away.look_at(number, again);
            return Ok(());
        }
        match since {
            Some(since) if now >= since.plus(max_ms) => {
                self.stays(number)?;
                self.stop(job)
            }
            Some(since) => {
                self.state.away.look_at(number, since.plus(max_ms));
                Ok(())
            }
            None => {
                self.store_since(number, Some(now))?;
                self.state.away.look_at(number, now.plus(max_ms));
                Ok(())
            }
        }
    }

    /// A hub answered which of the jobs that it was asked about are followed by none of its sockets.
    pub(super) fn probed(
        &mut self,
        hub: HubIndex,
        asked: &[(JobId, UnixMs)],
        not_followed: &[JobId],
    ) -> Result<(), DatabaseError> {
        for (id, at) in asked {
            let number = id.number();
            let Some(left) = self.state.away.jobs.get_mut(&number) else {
                continue;
            };
            if left.asked.get(&hub) != Some(at) {
                continue;
            }
            left.asked.remove(&hub);
            if !not_followed.contains(id) {
                continue;
            }
            if let Some(mut job) = self.load(*id)?.filter(|job| !job.state.is_ended()) {
                job.followers.retain(|follower| *follower != hub);
                self.save(&job)?;
                self.not_followed_by_one(number);
            }
        }
        Ok(())
    }

    fn store_since(&mut self, number: JobNumber, since: Option<UnixMs>) -> Result<(), DatabaseError> {
        self.db.run(
            "-- away::store_since
            UPDATE away SET since = ?1 WHERE number = CAST(?2 AS INTEGER)",
            &[Value::optional(since.map(|at| at.0)), Value::Number(number.0)],
        )?;
        if let Some(left) = self.state.away.jobs.get_mut(&number) {
            left.since = since;
        }
        Ok(())
    }
}
