//! Jobs that are cancelled once nobody follows them: only those whose every request asked, and none that a socket follows.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_engine::database::Database;
use tidegate_engine::jobs::Effect;
use tidegate_protocol::calls::jobs::{Call, JobRef, Reply};
use tidegate_protocol::ids::{JobId, JobNumber};
use tidegate_protocol::time::UnixMs;

use super::once::key_name;
use super::{CANCELLED, RUNNING, RowView};
use crate::jobs::{Turn, own_reply};
use crate::setting::NEWEST;
use crate::world::{Check, World};

type Rows = BTreeMap<JobNumber, RowView>;

/// What is known of who follows a job that asked to be cancelled without.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Company {
    /// For how long nobody may follow it. Milliseconds.
    max_ms: Option<u64>,
    /// When somebody last came, by the object's clock.
    came_at: u64,
    /// The same by the one clock that never jumps.
    truly_came_at: u64,
}

impl World {
    /// Notes what was asked for, and that nothing is cancelled by an alarm that should not be.
    pub(super) fn check_left(
        &mut self,
        shard: usize,
        turn: &Turn,
        effects: &[Effect],
        before: &Rows,
        after: &Rows,
        now: UnixMs,
    ) -> Check {
        if let Turn::Handle(id, call) = turn
            && !matches!(own_reply(*id, effects), Some(Err(_) | Ok(Reply::Elsewhere { .. })))
        {
            self.note_company(shard, call, before, after, now);
        }
        self.check_away_rows(shard, after)?;
        let Turn::Wake = turn else { return Ok(()) };
        let stopping = |row: &RowView| row.state == RUNNING && row.controlled;
        for (number, new) in after {
            let Some(old) = before.get(number).filter(|old| !old.ended() && !stopping(old)) else {
                continue;
            };
            // A schedule that cancels the old does that by an alarm as well, and so may a job that takes another's place.
            let facts = self.oracle.jobs.get(&old.id);
            let replaced = old.state == RUNNING
                && facts.is_some_and(|facts| facts.action.as_ref().is_some_and(|action| action.as_str() == NEWEST));
            if (new.state == CANCELLED || stopping(new)) && !self.oracle.ticks.made(old.id) && !replaced {
                self.check_company(old.id, now)?;
            }
        }
        Ok(())
    }

    fn note_company(&mut self, shard: usize, call: &Call, before: &Rows, after: &Rows, now: UnixMs) {
        let came: Vec<JobId> = match call {
            Call::Enqueue(enqueue) => {
                let tenant = self.shards[shard].tenant;
                let of_key = key_name(enqueue).and_then(|key| {
                    let name = (tenant, enqueue.job.action.as_str().to_owned(), key);
                    self.oracle.keys.get(&name).map(|known| known.job)
                });
                let fresh: Vec<JobId> = after
                    .iter()
                    .filter(|(number, _)| !before.contains_key(number))
                    .map(|(_, row)| row.id)
                    .collect();
                for job in &fresh {
                    self.oracle.company.entry(*job).or_default().max_ms = enqueue.away_max_ms;
                }
                let again = of_key.filter(|_| fresh.is_empty());
                if let Some(job) = again.filter(|_| enqueue.away_max_ms.is_none()) {
                    self.oracle.company.entry(job).or_default().max_ms = None;
                }
                fresh.into_iter().chain(again).collect()
            }
            Call::Follow {
                job: JobRef::Id(job), ..
            }
            | Call::Watch { job, .. } => vec![*job],
            _ => Vec::new(),
        };
        let truly = self.time;
        for job in came {
            if let Some(company) = self.oracle.company.get_mut(&job) {
                (company.came_at, company.truly_came_at) = (now.0, truly);
            }
        }
    }

    /// A request that had to wait became this job.
    pub(super) fn note_company_of(&mut self, job: JobId, max_ms: Option<u64>, now: UnixMs) {
        let company = Company {
            max_ms,
            came_at: now.0,
            truly_came_at: self.time,
        };
        self.oracle.company.insert(job, company);
    }

    /// A row for each job that has not ended and whose every request asked, and no other.
    fn check_away_rows(&self, shard: usize, after: &Rows) -> Check {
        let rows = self.shards[shard].db.run("SELECT number, max_ms FROM away", &[]);
        for mut row in rows.map_err(|error| error.message)? {
            let of = |error: tidegate_engine::database::DatabaseError| error.message;
            let (number, max_ms) = (JobNumber(row.number().map_err(of)?), row.number().map_err(of)?);
            let job = after.get(&number).filter(|row| !row.ended());
            let asked = job.and_then(|job| self.oracle.company.get(&job.id)?.max_ms);
            if asked != Some(max_ms) {
                return Err(format!("{job:?} is watched over, which was not asked for: {asked:?}"));
            }
        }
        Ok(())
    }

    /// An alarm cancelled this job: everybody who asked for it wanted that, and nobody was there.
    fn check_company(&mut self, job: JobId, now: UnixMs) -> Check {
        let company = self.oracle.company.get(&job).copied().unwrap_or_default();
        let Some(max_ms) = company.max_ms else {
            return Err(format!("{job} was cancelled by an alarm, and nobody asked for it"));
        };
        // The object's clock may have jumped back since, and counted the time from then on.
        let early = company.came_at <= now.0 && now.0 < company.came_at + max_ms;
        if early && self.time < company.truly_came_at + max_ms {
            return Err(format!("{job} was cancelled before anybody could come back"));
        }
        let followed: BTreeSet<JobId> = self.hubs.iter().flat_map(|hub| hub.follows()).collect();
        if followed.contains(&job) {
            return Err(format!("{job} was cancelled although a socket follows it"));
        }
        self.counters.jobs_left += 1;
        Ok(())
    }
}
