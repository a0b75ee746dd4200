//! What an object has in memory, and what is taken out of object storage: they agree with the rows.

use std::collections::BTreeMap;

use tidegate_engine::database::{Database, Value};
use tidegate_engine::jobs::State;
use tidegate_protocol::ids::JobNumber;
use tidegate_protocol::time::UnixMs;

use super::{PAUSED, RUNNING, RowView, is_limited};
use crate::setting::{AWAY, LEASE_MS};
use crate::world::{Check, World};

impl World {
    /// The memory agrees with the rows, and what is due has an alarm.
    pub(super) fn check_state(&mut self, shard: usize, rows: &BTreeMap<JobNumber, RowView>, now: UnixMs) -> Check {
        let object = &self.shards[shard];
        let Some(state) = &object.state else { return Ok(()) };
        let unstored = self
            .oracle
            .jobs
            .values()
            .filter(|f| f.shard == shard && !f.stored && f.open.is_some())
            .count();
        let running = rows.values().filter(|row| row.state == RUNNING).count();
        let waiting = rows.values().filter(|row| row.state < RUNNING).count() as u64;
        if state.running() != running + unstored || state.waiting() != waiting {
            return Err(format!(
                "{} run and {} wait in memory; {running} (and {unstored} without a row) and {waiting} in rows",
                state.running(),
                state.waiting()
            ));
        }
        for row in rows.values().filter(|row| !row.ended()) {
            let open = self.oracle.jobs.get(&row.id).and_then(|facts| facts.open);
            if (row.state == RUNNING) != (open == Some(row.token)) || (row.state != RUNNING && open.is_some()) {
                return Err(format!("{row:?}, and {open:?} is awaited"));
            }
            let facts = self.oracle.jobs.get(&row.id);
            let (user, action) = match facts.map(|facts| (&facts.user, &facts.action)) {
                Some((Some(user), Some(action))) => (user, action),
                _ => return Err(format!("{} is stored, and nobody asked for it", row.id)),
            };
            let limited = is_limited(action);
            let latest = match (row.state, row.due_at) {
                // A lease that was renewed in memory goes as far as the alarm that found it alive has stored.
                (RUNNING, at) => Some(at.unwrap_or(0).max(self.latest_clock + LEASE_MS)),
                (PAUSED, None) => None,
                (_, None) => return Err(format!("{} waits for no moment", row.id)),
                // What the gate tells it next lets it go.
                _ if !state.is_open() => None,
                // A resume lets it go.
                _ if self.oracle.pauses(shard, user, action) => None,
                // What is a worker's waits for one that asks.
                _ if action.as_str() == AWAY => None,
                // What a limit holds back waits for a place to be given back, or for the time of its throttle.
                _ if limited => Some(u64::MAX),
                (_, Some(at)) => Some(at.max(self.latest_clock)),
            };
            let silence = facts.and_then(|facts| facts.silence);
            let silent_at = silence.filter(|_| row.state == RUNNING).map(|ms| row.changed_at + ms);
            let limits = row.give_up_at.into_iter().chain(silent_at).min();
            let limits = limits.map(|at| at.max(self.latest_clock));
            let Some(latest) = latest.into_iter().chain(limits).min() else {
                continue;
            };
            if object.alarm.is_none_or(|alarm| alarm.0 > latest) {
                return Err(format!("{row:?} has no alarm in time: {:?}", object.alarm));
            }
        }
        self.check_clock_alarm(shard)?;
        let object = &self.shards[shard];
        let due_ends = rows.values().any(|row| row.ended() && row.due_at.is_some());
        if due_ends && object.alarm.is_none() {
            return Err("an end that is not delivered has no alarm".into());
        }
        if self.random.permille(60) {
            self.counters.recoveries_compared += 1;
            let found = State::recover(&object.db, now).map_err(|error| format!("a recovery: {error}"))?;
            if found.running() != running || found.waiting() != waiting {
                return Err(format!("a recovery finds {} running of {running}", found.running()));
            }
        }
        self.oracle.undelivered.insert(shard, due_ends);
        Ok(())
    }

    /// What is deleted must not be needed any more.
    pub fn check_deleted(&mut self, shard: usize, keys: &[String]) -> Check {
        for key in keys {
            let rows = self.shards[shard]
                .db
                .run(
                    "SELECT number FROM job WHERE checkpoint = ? AND state < 4",
                    &[Value::Text(key)],
                )
                .map_err(|error| error.message)?;
            if !rows.is_empty() {
                return Err(format!("a checkpoint that is needed was deleted: {key}"));
            }
        }
        Ok(())
    }
}
