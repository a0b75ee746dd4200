//! Requests that wait to be decided, because only the home of a limit knows whether it is full.

use alloc::vec::Vec;

use tidegate_protocol::calls::jobs::Enqueue;
use tidegate_protocol::calls::queueing::{Counted, WhenFull};

use super::not_now;
use crate::database::{Database, DatabaseError};
use crate::jobs::gates::{Gate, LimitKey};
use crate::jobs::places::{Parked, Waiter, Who};
use crate::jobs::{CallId, Turn, WAITERS_MAX};

impl<D: Database> Turn<'_, D> {
    /// Sets a request aside that a limit would refuse, until the others were asked for its places; those of the keys
    /// `asked` were. Gives back what is to be decided now.
    pub(in crate::jobs) fn park(
        &mut self,
        call: CallId,
        enqueue: Enqueue,
        asked: &[LimitKey],
    ) -> Result<Option<Enqueue>, DatabaseError> {
        let refuses = |counted: &&Counted| counted.when_full == WhenFull::Refuse;
        let now_due = enqueue.job.run_at.is_none_or(|at| at <= self.now);
        let may_refuse = now_due && enqueue.job.queueing.limits.iter().any(|counted| refuses(&counted));
        if !may_refuse || !self.state.gates.places.are_shared() {
            return Ok(Some(enqueue));
        }
        self.learn_limits(&enqueue.job.queueing)?;
        let gates = &self.state.gates;
        let keys = enqueue.job.queueing.limits.iter().filter(refuses).map(LimitKey::from);
        let shape = crate::jobs::lanes::Shape::of(&enqueue.job);
        let full = |key: &LimitKey| {
            let gate = Gate::Limit(key.clone());
            let elsewhere = gates.home_elsewhere(key).is_some() || gates.places.given_in_all(key) > 0;
            // Where jobs wait already, there is no room.
            let first = self.state.jobs_standing(key, self.now) == 0;
            gates.is_shared(key) && elsewhere && first && !gates.lets(&gate, &shape, self.now)
        };
        let found = keys.filter(|key| !asked.contains(key)).find(full);
        let Some(key) = found.filter(|_| gates.places.parked.len() < WAITERS_MAX) else {
            return Ok(Some(enqueue));
        };
        let mut asked = asked.to_vec();
        asked.push(key.clone());
        self.state.gates.places.touch(&key);
        self.state
            .gates
            .places
            .parked
            .insert(call, Parked { enqueue, key, asked });
        Ok(None)
    }

    /// At the home of a key: requests that were set aside are decided where there is room, or all others were asked.
    pub(super) fn decide_parked(&mut self, key: &LimitKey) -> Result<(), DatabaseError> {
        if !self.state.gates.places.parks(key) {
            return Ok(());
        }
        let places = &self.state.gates.places;
        let own = places
            .lines
            .get(key)
            .and_then(|line| line.waiters.iter().find(|waiter| waiter.is_own()));
        // It waits for an answer to a recall, which is on its way or about to be.
        if own.is_some_and(|own| !own.asked_around) && self.state.gates.free(key) == 0 {
            return Ok(());
        }
        self.unpark(key, true)
    }

    pub(super) fn unpark(&mut self, key: &LimitKey, reached: bool) -> Result<(), DatabaseError> {
        let parked = &self.state.gates.places.parked;
        let calls: Vec<CallId> = parked
            .iter()
            .filter(|(_, parked)| parked.key == *key)
            .map(|(call, _)| *call)
            .collect();
        self.state.gates.places.touch(key);
        for call in calls {
            let Some(parked) = self.state.gates.places.parked.remove(&call) else {
                continue;
            };
            if reached {
                self.enqueue_asking(call, parked.enqueue, &parked.asked)?;
                // It was acknowledged, and turns that begin without a call of their own write nothing behind it.
                self.write_packs()?;
            } else {
                self.reply(call, Err(not_now()));
            }
        }
        Ok(())
    }

    /// Makes room for a newer job under a key that objects share, by ending no more than one.
    pub(in crate::jobs) fn replace_shared(&mut self, key: &LimitKey) -> Result<(), DatabaseError> {
        if self.state.gates.home_elsewhere(key).is_some() {
            let grant = self.state.gates.places.grants.entry(key.clone()).or_default();
            grant.force = true;
            self.state.gates.places.touch(key);
            return Ok(());
        }
        if self.state.gates.places.given_in_all(key) == 0 && self.end_oldest(key)? {
            self.state.gates.places.lines.entry(key.clone()).or_default().credit += 1;
            return Ok(());
        }
        let line = self.state.gates.places.lines.entry(key.clone()).or_default();
        line.waiters.retain(|waiter| !waiter.is_own());
        line.waiters.push_front(Waiter {
            who: Who::Own,
            deadline: None,
            brief: false,
            force: true,
            asking_around: false,
            asked_around: false,
        });
        self.state.gates.places.touch(key);
        Ok(())
    }
}
