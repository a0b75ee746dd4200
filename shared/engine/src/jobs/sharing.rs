//! How the objects of a tenant share the places of a limit on jobs that run at once.
//!
//! An object asks the home of a key where a lane stands at that gate, and gives back what it does not use; the home deals
//! out what is free, first come, first served, itself being one of those that wait, and recalls what others do not use
//! where nothing is. See [`super::places`] for why no message that goes astray can have a place used twice.
//!
//! A job under two limits may have a place of one while it waits for the other. It keeps that place where the key it
//! waits for is the later of the two: so those that wait for each other cannot stand in a circle. Any other is recalled.

use alloc::boxed::Box;
#[cfg(feature = "native")]
use alloc::string::String;
use alloc::vec::Vec;

use tidegate_protocol::calls::jobs::{Call, Enqueue, Reply};
use tidegate_protocol::calls::places::{Ask, Places as Answer, Recall};
use tidegate_protocol::calls::queueing::{Counted, WhenFull};
use tidegate_protocol::calls::spread::Place;
use tidegate_protocol::ids::{PoolName, ShardIndex};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::gates::{Gate, LimitKey};
use super::places::{Grant, Parked, Waiter, Who};
use super::state::State;
use super::{CallId, Effect, Turn, WAITERS_MAX};
use crate::database::{Database, DatabaseError};

/// How long a question waits at the home of a key where nothing is free. Milliseconds.
pub const ASK_WAIT_MS: u64 = 20_000;
/// How much longer an answer may take before the question counts as lost. Milliseconds.
const ANSWER_MS: u64 = 10_000;
/// The first wait after a question that came to nothing, and the longest. Milliseconds.
const RETRY_MS: (u64, u64) = (250, 8_000);
/// The first wait before what others do not use is recalled again, and the longest. Milliseconds.
const RECALL_MS: (u64, u64) = (1_000, 16_000);
/// How long a place that was asked for is kept for a worker that asks anew. Milliseconds.
const KEEP_MS: u64 = 1_000;
/// Places asked for at once: more are asked for as these are used.
const WANT_MAX: u32 = 16;
/// Questions under way at once in one object. Each is an open call.
const ASKS_MAX: usize = 256;
/// How often unused places are recalled because a limit was lowered: from then on each comes back as it is given up.
const OVER_RECALLS_MAX: u32 = 4;
/// How often one turn deals out places that the home itself then uses. What is left is dealt out by the next.
const ROUNDS_MAX: usize = 8;

impl State {
    /// When places are to be looked at again, by an object that lives and by one that has died meanwhile alike.
    pub(super) fn next_share(&self) -> Option<UnixMs> {
        self.gates.places.next_due()
    }

    /// A key whose home is elsewhere and of which no attempt holds all that the object has, in words.
    #[cfg(feature = "native")]
    pub fn unused_places(&self) -> Option<String> {
        let mut grants = self.gates.places.grants.iter();
        let unused = grants.find(|(key, grant)| grant.places > self.gates.held(key));
        unused.map(|(key, grant)| alloc::format!("{key:?}: {grant:?}"))
    }

    fn is_asked(&self, pool: &str, now: UnixMs) -> bool {
        PoolName::parse(pool).is_some_and(|pool| self.pull.is_asked(&pool, now))
    }

    /// Jobs that stand at the gate of a key and could start now if it opened.
    fn jobs_standing(&self, key: &LimitKey, now: UnixMs) -> u32 {
        let gate = Gate::Limit(key.clone());
        let asked = |pool: &str| self.is_asked(pool, now);
        u32::try_from(self.lanes.jobs_at(&gate, self.has_place(), asked)).unwrap_or(u32::MAX)
    }

    /// The same, with requests that are set aside.
    fn jobs_at(&self, key: &LimitKey, now: UnixMs) -> u32 {
        self.jobs_standing(key, now)
            .saturating_add(u32::from(self.gates.places.parks(key)))
    }

    /// Whether a job that may start counts under a key, whatever it waits for.
    fn needs(&self, key: &LimitKey, now: UnixMs) -> bool {
        let asked = |pool: &str| self.is_asked(pool, now);
        self.gates.places.parks(key) || self.lanes.needs(key, self.has_place(), asked)
    }

    /// How many places of a contended key an object keeps: those in use, and one for a job that waits for a later key
    /// too, or that may start in a moment.
    fn keeps(&self, key: &LimitKey, until: UnixMs, now: UnixMs) -> u32 {
        let spare = (now < until && self.needs(key, now)) || self.stands_beyond(key, now);
        self.gates.held(key).saturating_add(u32::from(spare))
    }

    /// Whether a job that counts under a key waits for a later key: it keeps its place of this one meanwhile.
    fn stands_beyond(&self, key: &LimitKey, now: UnixMs) -> bool {
        let wanted = |other: &LimitKey| self.gates.at_once(&other.limit).is_some();
        let asked = |pool: &str| self.is_asked(pool, now);
        self.lanes.stands_beyond(key, wanted, self.has_place(), asked)
    }
}

/// How long to wait after `tries` that came to nothing, a part of it by chance.
fn backoff((first, longest): (u64, u64), tries: u32, random: u64) -> u64 {
    let wait = first.saturating_mul(1 << tries.min(10)).min(longest);
    wait / 2 + random % (wait / 2 + 1)
}

fn places_until(grant: Option<&Grant>) -> UnixMs {
    grant.map_or(UnixMs(0), |grant| grant.kept_until)
}

impl<D: Database> Turn<'_, D> {
    /// A number that is not drawn twice, and survives a double.
    fn draw(&mut self) -> u64 {
        ((self.random)() >> 11) | 1
    }

    /// The end of a turn: whatever has changed of places that objects share is dealt out, asked for or given back.
    pub(super) fn share(&mut self) -> Result<(), DatabaseError> {
        if !self.state.gates.places.are_shared() {
            return Ok(());
        }
        self.touch_standing_where_freed();
        self.state.gates.places.touch_unused();
        for _ in 0..ROUNDS_MAX {
            let came = self.state.lanes.take_came();
            let (now, places) = (self.now, &mut self.state.gates.places);
            came.iter().for_each(|key| places.touch(key));
            places.take_due(now);
            let touched = places.take_touched();
            if touched.is_empty() {
                return Ok(());
            }
            for key in touched {
                if self.state.gates.at_once(&key.limit).is_none() {
                    self.forget(&key);
                } else if let Some(home) = self.state.gates.home_elsewhere(&key) {
                    self.look_after(home, &key);
                } else {
                    self.deal_out(&key)?;
                }
            }
            if self.place_freed {
                self.fill()?;
                self.serve()?;
            }
        }
        // What is left is looked at soon.
        let (soon, places) = (self.now.plus(1), &mut self.state.gates.places);
        for key in places.take_touched() {
            places.set_due(&key, Some(soon));
        }
        Ok(())
    }

    /// An object that had no place left asked for nothing: once it has one, it looks again at what waits.
    fn touch_standing_where_freed(&mut self) {
        let full = !self.state.has_place();
        let was_full = core::mem::replace(&mut self.state.gates.places.was_full, full);
        if was_full && !full {
            self.touch_standing();
        }
    }

    /// Looks again at every key at whose gate a lane stands.
    pub(super) fn touch_standing(&mut self) {
        if self.state.gates.places.are_shared() {
            for key in self.state.lanes.keys_held() {
                self.state.gates.places.touch(&key);
            }
        }
    }

    /// The limit is none of jobs that run at once any more.
    fn forget(&mut self, key: &LimitKey) {
        let line = self.state.gates.places.lines.remove(key);
        for waiter in line.into_iter().flat_map(|line| line.waiters) {
            if let Who::Other { call, .. } = waiter.who {
                self.reply(call, Err(not_now()));
            }
        }
        self.state.gates.places.grants.remove(key);
        self.state.gates.places.note_unused(key, false);
        self.state.gates.places.set_due(key, None);
    }

    /// What an object asks, or gives back, of a key whose home is `home`.
    fn look_after(&mut self, home: ShardIndex, key: &LimitKey) {
        let held = self.state.gates.held(key);
        let jobs = self.state.jobs_at(key, self.now);
        let places = &mut self.state.gates.places;
        if jobs > 0 {
            places.grants.entry(key.clone()).or_default();
        }
        let Some(grant) = places.grants.get(key).cloned() else {
            return;
        };
        let mut grant = grant;
        if let Some((_, until, said)) = grant.asked {
            if self.now < until && grant.places >= said {
                return;
            }
            // It is asked anew: the answer is lost, or there are fewer places by now than it was told of.
            grant.asked = None;
            grant.tries += u32::from(self.now >= until);
        }
        let keeps = if grant.places <= held {
            grant.places
        } else if grant.contended {
            self.state.keeps(key, grant.kept_until, self.now)
        } else if self.state.needs(key, self.now) {
            grant.places
        } else {
            held
        };
        let unused = keeps < grant.places;
        if unused {
            grant.places = keeps;
            if jobs > 0 {
                // It was there, and nothing could start by it: whatever that was, asking at once would change nothing.
                grant.tries += 1;
                let ms = backoff(RETRY_MS, grant.tries, (self.random)());
                grant.retry_at = Some(self.now.plus(ms));
            }
        }
        let parks = self.state.gates.places.parks(key);
        self.state.gates.places.note_unused(key, grant.places > held);
        let waits = grant.retry_at.filter(|at| *at > self.now && !parks);
        let want = if waits.is_none() && grant.places <= held {
            jobs.min(WANT_MAX)
        } else {
            0
        };
        let says = want > 0 || ((grant.places < grant.told || !grant.known) && (unused || waits.is_none()));
        let places = &mut self.state.gates.places;
        if says {
            let under_way = places
                .grants
                .values()
                .filter(|grant| grant.asked.is_some())
                .take(ASKS_MAX);
            if under_way.count() >= ASKS_MAX {
                // Answers to the others are on their way.
                places.grants.insert(key.clone(), grant);
                places.set_due(key, Some(self.now.plus(RETRY_MS.0)));
                return;
            }
            self.ask_home(home, key, grant, want, held);
            return;
        }
        let kept = Some(grant.kept_until).filter(|at| grant.contended && grant.places > held && *at > self.now);
        let waits = waits.into_iter().chain(kept).min();
        if grant.places == 0 && held == 0 && jobs == 0 && waits.is_none() {
            places.grants.remove(key);
            places.set_due(key, None);
        } else {
            places.grants.insert(key.clone(), grant);
            places.set_due(key, waits);
        }
    }

    fn ask_home(&mut self, home: ShardIndex, key: &LimitKey, mut grant: Grant, want: u32, held: u32) {
        let Some((rule, since)) = self.state.gates.known_rule(&key.limit) else {
            return;
        };
        let brief = self.state.gates.places.parks(key);
        let wait_ms = if want > 0 { ASK_WAIT_MS } else { 0 };
        let number = self.draw();
        let until = self.now.plus(wait_ms + ANSWER_MS);
        let ask = Ask {
            limit: key.limit.clone(),
            key: key.key.clone(),
            rule,
            since,
            shard: self.state.gates.shard(),
            home,
            first: self.state.spread.first(),
            number,
            version: grant.version,
            // What an object that has lost its memory holds is known by its attempts.
            places: grant.places.max(if grant.known { 0 } else { held }),
            want,
            wait_ms,
            brief,
            force: want > 0 && core::mem::take(&mut grant.force),
        };
        grant.asked = Some((number, until, ask.places));
        if want > 0 {
            grant.retry_at = None;
        }
        let places = &mut self.state.gates.places;
        places.grants.insert(key.clone(), grant);
        places.set_due(key, Some(until));
        self.effects.push(Effect::Tell {
            shard: home,
            call: Box::new(Call::Ask(Box::new(ask))),
        });
    }

    /// Another object asks for places of a key whose home this one is.
    pub(super) fn asked(&mut self, call: CallId, ask: &Ask) -> Result<(), DatabaseError> {
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
    fn answer(
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
    fn is_contended(&self, key: &LimitKey, shard: ShardIndex) -> bool {
        let line = self.state.gates.places.lines.get(key);
        line.is_some_and(|line| line.waiters.iter().any(|waiter| !waiter.is_of(shard)))
    }

    /// The home of a key gives what is free to those who wait, in their order.
    fn deal_out(&mut self, key: &LimitKey) -> Result<(), DatabaseError> {
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

    fn give_to(
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
        if more > 0 {
            let version = self.draw();
            self.state
                .gates
                .places
                .give(self.db, key, shard, given.saturating_add(more), version)?;
        }
        self.answer(call, key, shard, has)
    }

    /// One that waits is told that there is nothing.
    fn send_away(&mut self, key: &LimitKey, waiter: Waiter) -> Result<(), DatabaseError> {
        match waiter.who {
            Who::Own => Ok(()),
            Who::Other { shard, call, has, .. } => self.answer(call, key, shard, has),
        }
    }

    /// Nothing is free, or nobody waits: what others do not use is recalled.
    fn wait_for_places(&mut self, key: &LimitKey) -> Result<(), DatabaseError> {
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
    fn is_over(&self, key: &LimitKey) -> bool {
        let (gates, places) = (&self.state.gates, &self.state.gates.places);
        let all = gates.held(key).saturating_add(places.taken(key));
        let recalls = places.lines.get(key).map_or(0, |line| line.recalls);
        all > gates.at_once(&key.limit).unwrap_or(0) && recalls < OVER_RECALLS_MAX
    }

    fn recall(&mut self, key: &LimitKey, shard: ShardIndex, version: u64, force: bool) {
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
    fn force(&mut self, key: &LimitKey) -> Result<(), DatabaseError> {
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

    /// The home of a key wants back what this object does not use of it.
    pub(super) fn recalled(&mut self, call: CallId, recall: &Recall) -> Result<(), DatabaseError> {
        let key = LimitKey {
            limit: recall.limit.clone(),
            key: recall.key.clone(),
        };
        if self.state.gates.home_elsewhere(&key).is_none() {
            self.reply(call, Err(not_now()));
            return Ok(());
        }
        let held = self.state.gates.held(&key);
        let kept_until = places_until(self.state.gates.places.grants.get(&key));
        let keeps = self.state.keeps(&key, kept_until, self.now);
        let jobs = self.state.jobs_at(&key, self.now);
        let random = (self.random)();
        let now = self.now;
        let grant = self.state.gates.places.grants.entry(key.clone()).or_default();
        // An answer to what was asked before would be older than this.
        grant.asked = None;
        grant.contended = true;
        let takes = grant.places > keeps;
        if takes {
            grant.places = keeps;
            if jobs > 0 {
                grant.tries += 1;
                grant.retry_at = Some(now.plus(backoff(RETRY_MS, grant.tries, random)));
            }
        }
        if !grant.known {
            (grant.known, grant.places) = (true, held);
        }
        if recall.force && !takes && grant.places <= held {
            self.end_oldest(&key)?;
        }
        self.place_freed = true;
        let grant = self.state.gates.places.grants.entry(key.clone()).or_default();
        (grant.version, grant.told) = (recall.version, grant.places);
        let answer = Answer {
            places: grant.places,
            version: recall.version,
            contended: true,
        };
        self.state.gates.places.touch(&key);
        self.reply(call, Ok(Reply::Places(answer)));
        Ok(())
    }

    /// What `shard` answered to an ask or a recall of this object.
    pub(super) fn told(
        &mut self,
        shard: ShardIndex,
        call: &Call,
        reply: Result<Reply, Error>,
    ) -> Result<(), DatabaseError> {
        let answer = match reply {
            Ok(Reply::Places(answer)) => Some(answer),
            _ => None,
        };
        match call {
            Call::Ask(ask) => self.answered(ask, answer),
            Call::Recall(recall) => {
                let key = LimitKey {
                    limit: recall.limit.clone(),
                    key: recall.key.clone(),
                };
                let places = &mut self.state.gates.places;
                if let Some(line) = places.lines.get_mut(&key) {
                    line.recalling.remove(&shard);
                }
                places.touch(&key);
                match answer {
                    Some(answer) => places.lower(self.db, &key, shard, answer.places, answer.version),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn answered(&mut self, ask: &Ask, answer: Option<Answer>) -> Result<(), DatabaseError> {
        let key = LimitKey {
            limit: ask.limit.clone(),
            key: ask.key.clone(),
        };
        let random = (self.random)();
        let now = self.now;
        let places = &mut self.state.gates.places;
        let Some(grant) = places.grants.get_mut(&key) else {
            return Ok(());
        };
        if grant.asked.is_none_or(|(number, ..)| number != ask.number) {
            return Ok(());
        }
        grant.asked = None;
        let reached = answer.is_some();
        match answer {
            Some(answer) => {
                (grant.places, grant.told) = (answer.places, answer.places);
                (grant.version, grant.contended) = (answer.version, answer.contended);
                grant.known = true;
                grant.kept_until = now.plus(KEEP_MS);
            }
            None => {
                grant.tries += 1;
                grant.retry_at = Some(now.plus(backoff(RETRY_MS, grant.tries, random)));
            }
        }
        places.touch(&key);
        self.state.lanes.opened(&Gate::Limit(key.clone()));
        self.place_freed = true;
        if ask.want > 0 {
            self.unpark(&key, reached)?;
        }
        Ok(())
    }

    /// Sets a request aside that a limit would refuse, until the others were asked for its places; those of the keys
    /// `asked` were. Gives back what is to be decided now.
    pub(super) fn park(
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
        let shape = super::lanes::Shape::of(&enqueue.job);
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
    fn decide_parked(&mut self, key: &LimitKey) -> Result<(), DatabaseError> {
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

    fn unpark(&mut self, key: &LimitKey, reached: bool) -> Result<(), DatabaseError> {
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
            } else {
                self.reply(call, Err(not_now()));
            }
        }
        Ok(())
    }

    /// Makes room for a newer job under a key that objects share, by ending no more than one.
    pub(super) fn replace_shared(&mut self, key: &LimitKey) -> Result<(), DatabaseError> {
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

fn not_now() -> Error {
    Error::new(
        ErrorCode::Unavailable,
        "A limit that shards share could not be asked for.",
    )
    .retry_after(1000)
}
