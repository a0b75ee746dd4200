//! Rows: their numbers, their times, and what a turn may make of each.

use std::collections::BTreeMap;

use tidegate_protocol::calls::jobs::Call;
use tidegate_protocol::calls::spread::owner;
use tidegate_protocol::ids::{JobId, JobNumber};
use tidegate_protocol::time::UnixMs;

use super::{CANCELLED, EXPIRED, FAILED, RETRYING, RowView};
use crate::jobs::Turn;
use crate::world::{Check, World};

impl World {
    /// What a turn may do to rows.
    pub(super) fn check_rows(
        &mut self,
        shard: usize,
        turn: &Turn,
        before: &BTreeMap<JobNumber, RowView>,
        after: &BTreeMap<JobNumber, RowView>,
        now: UnixMs,
    ) -> Check {
        for (number, old) in before {
            let Some(new) = after.get(number) else {
                if !old.ended() || old.expires_at.is_none_or(|at| at > now.0) || old.due_at.is_some() {
                    return Err(format!("{} is gone before its time: {old:?}", old.id));
                }
                self.counters.jobs_swept += 1;
                self.oracle.jobs.entry(old.id).or_default().swept = true;
                self.oracle.keys.retain(|_, key| key.job != old.id);
                continue;
            };
            let same = new.id == old.id && new.seq >= old.seq && new.token >= old.token && new.attempt >= old.attempt;
            let stays = !old.ended() || new.as_it_ended() == old.as_it_ended();
            if !same || !stays {
                return Err(format!("a row went from {old:?} to {new:?} by {turn:?}"));
            }
            if new.state == CANCELLED && old.state != CANCELLED {
                self.counters.jobs_cancelled += 1;
            }
            self.check_times(turn, old, new, now)?;
        }
        for new in after.values().filter(|row| !before.contains_key(&row.id.number())) {
            self.counters.jobs_stored += 1;
            let facts = self.oracle.jobs.entry(new.id).or_default();
            if facts.open.is_some() {
                self.counters.jobs_spilled += 1;
            }
            if facts.forgotten {
                return Err(format!("{} came back from nothing", new.id));
            }
            (facts.shard, facts.stored) = (shard, true);
            self.check_number(shard, new.id, turn)?;
        }
        Ok(())
    }

    /// A sealed object gives out numbers of its own partitions, whatever it was asked for.
    pub(super) fn check_number(&mut self, shard: usize, job: JobId, turn: &Turn) -> Check {
        let partition = job.number().partition();
        if let Turn::Handle(_, call) = turn
            && let Call::Enqueue(enqueue) = &**call
        {
            self.counters.jobs_renumbered += u64::from(enqueue.partition != partition);
        }
        let shards = self.shards[shard].shards;
        let index = shard - self.tenants[self.shards[shard].tenant].first_shard;
        if shards > 0 && usize::from(owner(partition, shards).0) != index && self.oracle.jobs[&job].open.is_none() {
            return Err(format!("{job} is numbered in {partition:?}, which the object has lost"));
        }
        Ok(())
    }

    /// Limits of time: nothing ends early by one, nothing goes on after one, and what expired never ran.
    pub(super) fn check_times(&mut self, turn: &Turn, old: &RowView, new: &RowView, now: UnixMs) -> Check {
        let facts = self.oracle.jobs.entry(new.id).or_default();
        let passed = |limit: Option<u64>| limit.is_some_and(|at| at <= now.0);
        if new.state == EXPIRED && old.state != EXPIRED {
            self.counters.jobs_expired += 1;
            if facts.attempt != 0 || new.attempt != 0 {
                return Err(format!("{} expired although it ran: {old:?}", new.id));
            }
            if !passed(facts.first_by) && !passed(facts.end_by) {
                return Err(format!("{} expired early: {old:?} {:?}", new.id, facts.first_by));
            }
        }
        if new.state == RETRYING && facts.end_by.is_some_and(|at| new.due_at.is_none_or(|due| due >= at)) {
            return Err(format!("{} waits for an attempt that could not begin: {new:?}", new.id));
        }
        let by_alarm = matches!(turn, Turn::Wake);
        if by_alarm && new.state == FAILED && old.give_up_at.is_some_and(|at| at <= now.0) && !old.ended() {
            self.counters.jobs_over_time += 1;
        }
        if by_alarm && !new.ended() && passed(new.give_up_at) {
            return Err(format!("{} goes on after its limit was handled: {new:?}", new.id));
        }
        if new.ended() && new.give_up_at.is_some() {
            return Err(format!("{} has ended, and is to be given up: {new:?}", new.id));
        }
        Ok(())
    }
}
