//! The home of a key: it deals out what is free, and recalls what others do not use.

use alloc::boxed::Box;
use alloc::vec::Vec;

use tidegate_protocol::calls::jobs::{Call, Reply};
use tidegate_protocol::calls::places::{Ask, Places as Answer, Recall};
use tidegate_protocol::calls::spread::Place;
use tidegate_protocol::ids::ShardIndex;

use super::{KEEP_MS, backoff, not_now};
use crate::database::{Database, DatabaseError};
use crate::jobs::gates::{Gate, LimitKey};
use crate::jobs::places::{Waiter, Who};
use crate::jobs::{CallId, Effect, Turn, WAITERS_MAX};

/// The first wait before what others do not use is recalled again, and the longest. Milliseconds.
const RECALL_MS: (u64, u64) = (1_000, 16_000);
/// How often unused places are recalled because a limit was lowered: from then on each comes back as it is given up.
const OVER_RECALLS_MAX: u32 = 4;

impl<D: Database> Turn<'_, D> {
    /// Another object asks for places of a key whose home this one is.
    pub(in crate::jobs) fn asked(&mut self, call: CallId, ask: &Ask) -> Result<(), DatabaseError> {
        let key = LimitKey {
            limit: ask.limit.clone(),
            key: ask.key.clone(),
        };
        self.learn_its_place(Place {
            shard: ask.home,
            shards: ask.first,
        })?;
        // Two that disagree about how the tenant began would disagree about the homes of limits.
        if self.state.spread.first() != ask.first || self.state.gates.home_elsewhere(&key).is_some() {
            self.reply(call, Err(not_now()));
            return Ok(());
        }
        self.state.gates.places.share();
        let newer = match self.state.gates.known_rule(&key.limit) {
            Some((rule, since)) => rule != ask.rule && since < ask.since,
            None => true,
        };
        if newer {
            self.state.gates.learn_rule(self.db, &key.limit, ask.rule, ask.since)?;
            self.state.lanes.all_opened();
            self.place_freed = true;
        }
        let places = &mut self.state.gates.places;
        places.lower(self.db, &key, ask.shard, ask.places, ask.version)?;
        let (given, _) = places.given(&key, ask.shard);
        if ask.want == 0 || given > ask.places {
            return self.answer(call, &key, ask.shard, (ask.places, ask.version));
        }
        let waiter = Waiter {
            who: Who::Other {
                shard: ask.shard,
                call,
                has: (ask.places, ask.version),
                total: ask.places.saturating_add(ask.want),
            },
            deadline: Some(self.now.plus(ask.wait_ms)),
            brief: ask.brief,
            force: ask.force,
            asking_around: false,
            asked_around: false,
        };
        let waiting: usize = places.lines.values().map(|line| line.waiters.len()).sum();
        let line = places.lines.entry(key.clone()).or_default();
        let older = line.waiters.iter_mut().find(|waiter| waiter.is_of(ask.shard));
        let refused = match older {
            // It has lost the answer, or its memory: it keeps its place in the line.
            Some(older) => Some(core::mem::replace(older, waiter)),
            None if waiting >= WAITERS_MAX => Some(waiter),
            None if ask.force => {
                line.waiters.push_front(waiter);
                None
            }
            None => {
                line.waiters.push_back(waiter);
                None
            }
        };
        places.touch(&key);
        if let Some(Waiter {
            who: Who::Other { call, .. },
            ..
        }) = refused
        {
            self.reply(call, Err(not_now()));
        }
        Ok(())
    }

    /// Says what `shard` has, which said what it believes that it has. Anything else has a version of its own.
    pub(super) fn answer(
        &mut self,
        call: CallId,
        key: &LimitKey,
        shard: ShardIndex,
        believed: (u32, u64),
    ) -> Result<(), DatabaseError> {
        let (places, mut version) = self.state.gates.places.given(key, shard);
        if places > 0 && (places, version) != believed {
            version = self.draw();
            self.state.gates.places.give(self.db, key, shard, places, version)?;
        }
        let contended = self.is_contended(key, shard);
        let answer = Answer {
            places,
            version,
            contended,
        };
        self.reply(call, Ok(Reply::Places(answer)));
        Ok(())
    }

    /// Whether others than `shard` wait for a key.
    pub(super) fn is_contended(&self, key: &LimitKey, shard: ShardIndex) -> bool {
        let line = self.state.gates.places.lines.get(key);
        line.is_some_and(|line| line.waiters.iter().any(|waiter| !waiter.is_of(shard)))
    }

    /// The home of a key gives what is free to those who wait, in their order.
    pub(super) fn deal_out(&mut self, key: &LimitKey) -> Result<(), DatabaseError> {
        let jobs = self.state.jobs_at(key, self.now);
        let beyond = self.state.stands_beyond(key, self.now);
        let needs = self.state.needs(key, self.now);
        let given = self.state.gates.places.given_in_all(key);
        let over = self.is_over(key);
        let (now, places) = (self.now, &mut self.state.gates.places);
        if !places.lines.contains_key(key) && (given == 0 || jobs == 0) && !over {
            return self.decide_parked(key);
        }
        let parks = places.parks(key);
        let line = places.lines.entry(key.clone()).or_default();
        if !beyond && (now >= line.credit_until || !needs) {
            // What the home was to start by it has gone, or waits for something else.
            line.credit = 0;
        }
        if jobs == 0 {
            line.waiters.retain(|waiter| !waiter.is_own());
        } else if let Some(own) = line.waiters.iter_mut().find(|waiter| waiter.is_own()) {
            own.brief |= parks;
        } else if given > 0 || line.has_others() {
            line.waiters.push_back(Waiter {
                who: Who::Own,
                deadline: None,
                brief: parks,
                force: false,
                asking_around: false,
                asked_around: false,
            });
        }
        let late: Vec<Waiter> = {
            let is_late = |waiter: &Waiter| waiter.deadline.is_some_and(|at| at <= now);
            let late = line.waiters.iter().filter(|waiter| is_late(waiter)).cloned().collect();
            line.waiters.retain(|waiter| !is_late(waiter));
            late
        };
        for waiter in late {
            self.send_away(key, waiter)?;
        }
        while self.state.gates.free(key) > 0 {
            let Some(line) = self.state.gates.places.lines.get_mut(key) else {
                break;
            };
            let Some(waiter) = line.waiters.pop_front() else { break };
            match waiter.who {
                Who::Own => {
                    line.credit += 1;
                    line.credit_until = now.plus(KEEP_MS);
                    self.state.lanes.opened(&Gate::Limit(key.clone()));
                    self.place_freed = true;
                    // Whatever the home does not use of it is dealt out in the next round.
                    self.state.gates.places.touch(key);
                    break;
                }
                Who::Other {
                    shard,
                    call,
                    has,
                    total,
                } => self.give_to(key, (shard, call), has, total)?,
            }
        }
        self.decide_parked(key)?;
        self.wait_for_places(key)?;
        self.decide_parked(key)
    }

    pub(super) fn give_to(
        &mut self,
        key: &LimitKey,
        (shard, call): (ShardIndex, CallId),
        has: (u32, u64),
        total: u32,
    ) -> Result<(), DatabaseError> {
        let free = self.state.gates.free(key);
        // One by one, where others wait.
        let most = if self.is_contended(key, shard) { 1 } else { free };
        let (given, _) = self.state.gates.places.given(key, shard);
        let more = total.saturating_sub(given).min(most);
        if more == 0 {
            return self.answer(call, key, shard, has);
        }
        let (places, version) = (given.saturating_add(more), self.draw());
        self.state.gates.places.give(self.db, key, shard, places, version)?;
        // What is answered is what was just written: one row, not two.
        self.answer(call, key, shard, (places, version))
    }

    /// One that waits is told that there is nothing.
    pub(super) fn send_away(&mut self, key: &LimitKey, waiter: Waiter) -> Result<(), DatabaseError> {
        match waiter.who {
            Who::Own => Ok(()),
            Who::Other { shard, call, has, .. } => self.answer(call, key, shard, has),
        }
    }

    /// Nothing is free, or nobody waits: what others do not use is recalled.
    pub(super) fn wait_for_places(&mut self, key: &LimitKey) -> Result<(), DatabaseError> {
        let holders = self.state.gates.places.holders(key);
        let over = self.is_over(key);
        let (now, places) = (self.now, &mut self.state.gates.places);
        let Some(line) = places.lines.get_mut(key) else {
            return Ok(());
        };
        if line.waiters.is_empty() && !over {
            line.recall_at = None;
            line.recalls = 0;
            places.drop_idle_line(key);
            places.set_due(key, None);
            return Ok(());
        }
        // One that waits for what it has itself has nothing to give back.
        let others = |shard: ShardIndex| over || line.waiters.iter().any(|waiter| !waiter.is_of(shard));
        let asked: Vec<_> = holders.iter().filter(|given| others(given.shard)).collect();
        if line.recalling.is_empty() {
            for waiter in &mut line.waiters {
                waiter.asked_around |= waiter.asking_around;
            }
        }
        let hasty = line.waiters.iter().any(|w| (w.brief || w.force) && !w.asking_around);
        let is_time = hasty || line.recall_at.is_none_or(|at| at <= now);
        let mut recalls = Vec::new();
        if asked.is_empty() {
            for waiter in &mut line.waiters {
                (waiter.asking_around, waiter.asked_around) = (true, true);
            }
        } else if is_time {
            for given in asked {
                line.recalling.insert(given.shard);
                recalls.push((given.shard, given.version));
            }
            line.waiters.iter_mut().for_each(|waiter| waiter.asking_around = true);
            line.recalls += 1;
        }
        let tries = line.recalls;
        let forced = line.waiters.iter_mut().find(|w| w.force && w.asked_around);
        let forced = forced.map(|waiter| core::mem::take(&mut waiter.force)).is_some();
        let gone: Vec<Waiter> = {
            let goes = |waiter: &Waiter| waiter.brief && waiter.asked_around && !waiter.is_own();
            let gone = line.waiters.iter().filter(|waiter| goes(waiter)).cloned().collect();
            line.waiters.retain(|waiter| !goes(waiter));
            gone
        };
        for waiter in gone {
            self.send_away(key, waiter)?;
        }
        if !recalls.is_empty() {
            let at = now.plus(backoff(RECALL_MS, tries.saturating_sub(1), (self.random)()));
            if let Some(line) = self.state.gates.places.lines.get_mut(key) {
                line.recall_at = Some(at);
            }
        }
        for (shard, version) in recalls {
            self.recall(key, shard, version, false);
        }
        if forced {
            self.force(key)?;
        }
        let places = &mut self.state.gates.places;
        let line = places.lines.get(key);
        let deadlines = line
            .into_iter()
            .flat_map(|line| &line.waiters)
            .filter_map(|w| w.deadline);
        let recall_at = line.filter(|_| !holders.is_empty()).and_then(|line| line.recall_at);
        let credit_until = line.filter(|line| line.credit > 0).map(|line| line.credit_until);
        // What has passed waits for something to happen.
        let due = deadlines
            .chain(recall_at)
            .chain(credit_until)
            .filter(|at| *at > now)
            .min();
        places.set_due(key, due);
        Ok(())
    }

    /// Whether more is in use, or given, than the limit allows, because it was lowered; and some of that may be unused.
    pub(super) fn is_over(&self, key: &LimitKey) -> bool {
        let (gates, places) = (&self.state.gates, &self.state.gates.places);
        let all = gates.held(key).saturating_add(places.taken(key));
        let recalls = places.lines.get(key).map_or(0, |line| line.recalls);
        all > gates.at_once(&key.limit).unwrap_or(0) && recalls < OVER_RECALLS_MAX
    }

    pub(super) fn recall(&mut self, key: &LimitKey, shard: ShardIndex, version: u64, force: bool) {
        let recall = Recall {
            limit: key.limit.clone(),
            key: key.key.clone(),
            version,
            force,
        };
        self.effects.push(Effect::Tell {
            shard,
            call: Box::new(Call::Recall(recall)),
        });
    }

    /// One job is to end for one that is newer: the oldest here, or the oldest of another object.
    pub(super) fn force(&mut self, key: &LimitKey) -> Result<(), DatabaseError> {
        if self.end_oldest(key)? {
            self.state.gates.places.touch(key);
            self.place_freed = true;
            return Ok(());
        }
        if let Some(given) = self.state.gates.places.holders(key).first().copied() {
            if let Some(line) = self.state.gates.places.lines.get_mut(key) {
                line.recalling.insert(given.shard);
            }
            self.recall(key, given.shard, given.version, true);
        }
        Ok(())
    }
}
