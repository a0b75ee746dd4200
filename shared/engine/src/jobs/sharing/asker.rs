//! The object that asks the home of a key for places, uses them, and gives back what it does not use.

use alloc::boxed::Box;

use tidegate_protocol::calls::jobs::{Call, Reply};
use tidegate_protocol::calls::places::{Ask, Places as Answer, Recall};
use tidegate_protocol::ids::ShardIndex;

use super::{ASK_WAIT_MS, KEEP_MS, backoff, not_now, places_until};
use crate::database::{Database, DatabaseError};
use crate::jobs::gates::{Gate, LimitKey};
use crate::jobs::places::Grant;
use crate::jobs::{CallId, Effect, Turn};

/// How much longer an answer may take before the question counts as lost. Milliseconds.
const ANSWER_MS: u64 = 10_000;
/// The first wait after a question that came to nothing, and the longest. Milliseconds.
const RETRY_MS: (u64, u64) = (250, 8_000);
/// Places asked for at once: more are asked for as these are used.
const WANT_MAX: u32 = 16;
/// Questions under way at once in one object. Each is an open call.
const ASKS_MAX: usize = 256;

impl<D: Database> Turn<'_, D> {
    /// What an object asks, or gives back, of a key whose home is `home`.
    pub(super) fn look_after(&mut self, home: ShardIndex, key: &LimitKey) {
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

    pub(super) fn ask_home(&mut self, home: ShardIndex, key: &LimitKey, mut grant: Grant, want: u32, held: u32) {
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

    /// The home of a key wants back what this object does not use of it.
    pub(in crate::jobs) fn recalled(&mut self, call: CallId, recall: &Recall) -> Result<(), DatabaseError> {
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

    pub(super) fn answered(&mut self, ask: &Ask, answer: Option<Answer>) -> Result<(), DatabaseError> {
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
}
