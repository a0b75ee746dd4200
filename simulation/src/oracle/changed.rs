//! One job: paused, resumed and rescheduled, and cancelled with a grace.

use std::collections::BTreeMap;

use tidegate_engine::jobs::Effect;
use tidegate_protocol::calls::jobs::{Call, Change, Reply};
use tidegate_protocol::ids::{JobId, JobNumber};
use tidegate_protocol::time::UnixMs;

use super::{CANCELLED, Oracle, PAUSED, RUNNING, RowView};
use crate::jobs::{Turn, own_reply};
use crate::setting::GRACE_MS;
use crate::world::{Check, World};

type Rows = BTreeMap<JobNumber, RowView>;

impl Oracle {
    /// Whether a job is held back alone.
    pub fn holds(&self, job: JobId) -> bool {
        self.held().iter().any(|(_, held)| *held == job)
    }

    /// The jobs that are held back alone, and where.
    pub fn held(&self) -> Vec<(usize, JobId)> {
        let of = |(shard, rows): (&usize, &Rows)| {
            let held = rows.values().filter(|row| row.state == PAUSED);
            held.map(|row| (*shard, row.id)).collect::<Vec<_>>()
        };
        self.rows.iter().flat_map(of).collect()
    }
}

impl World {
    /// A job is held back and let go by those who asked for that alone; a cancelled attempt ends as cancelled, in time.
    pub(super) fn check_changed(
        &mut self,
        turn: &Turn,
        effects: &[Effect],
        before: &Rows,
        after: &Rows,
        now: UnixMs,
    ) -> Check {
        let changed = match turn {
            Turn::Handle(id, call) => match (&**call, own_reply(*id, effects)) {
                (Call::Change { job, change, .. }, Some(Ok(Reply::Job(_)))) => Some((*job, *change)),
                _ => None,
            },
            _ => None,
        };
        for (number, new) in after {
            let Some(old) = before.get(number) else { continue };
            let asked = changed.filter(|(job, _)| *job == new.id).map(|(_, change)| change);
            match (old.state == PAUSED, new.state == PAUSED) {
                (false, true) if asked == Some(Change::Pause) => self.counters.jobs_held += 1,
                (false, true) => return Err(format!("{} is held back, and nobody asked: {turn:?}", new.id)),
                (true, false) if asked != Some(Change::Resume) && !new.ended() => {
                    return Err(format!("{} was let go, and nobody asked: {turn:?}", new.id));
                }
                _ => {}
            }
            self.check_stopping(turn, old, new, now)?;
        }
        if let Some((job, Change::Reschedule(at))) = changed {
            self.counters.jobs_rescheduled += 1;
            let created_at = after.get(&job.number()).map_or(0, |row| row.created_at);
            let facts = self.oracle.jobs.entry(job).or_default();
            facts.not_before = at.0;
            if facts.attempt == 0 {
                facts.limited_from(at.0.max(created_at));
            }
        }
        Ok(())
    }

    fn check_stopping(&mut self, turn: &Turn, old: &RowView, new: &RowView, now: UnixMs) -> Check {
        let stopping = |row: &RowView| row.state == RUNNING && row.controlled;
        let facts = self.oracle.jobs.entry(new.id).or_default();
        if stopping(new) && !stopping(old) {
            facts.stop_by = Some(now.0 + GRACE_MS);
        }
        if stopping(old) && !stopping(new) && new.state != CANCELLED {
            return Err(format!("{} was cancelled, and went on as {new:?}", new.id));
        }
        if matches!(turn, Turn::Wake) && stopping(new) && facts.stop_by.is_some_and(|by| by <= now.0) {
            return Err(format!("{} was cancelled, and runs beyond its grace", new.id));
        }
        if matches!(turn, Turn::Wake) && stopping(old) && new.ended() {
            self.counters.jobs_stopped_by_force += 1;
        }
        Ok(())
    }
}
