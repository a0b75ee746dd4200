//! How the objects of a tenant share the places of a limit on jobs that run at once.
//!
//! An object asks the home of a key where a lane stands at that gate, and gives back what it does not use; the home deals
//! out what is free, first come, first served, itself being one of those that wait, and recalls what others do not use
//! where nothing is. See [`super::places`] for why no message that goes astray can have a place used twice.
//!
//! A job under two limits may have a place of one while it waits for the other. It keeps that place where the key it
//! waits for is the later of the two: so those that wait for each other cannot stand in a circle. Any other is recalled.

mod asker;
mod home;
mod parked;

#[cfg(feature = "native")]
use alloc::string::String;

use tidegate_protocol::calls::jobs::{Call, Reply};
use tidegate_protocol::ids::{PoolName, ShardIndex};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::Turn;
use super::gates::{Gate, LimitKey};
use super::places::{Grant, Who};
use super::state::State;
use crate::database::{Database, DatabaseError};

/// How long a question waits at the home of a key where nothing is free. Milliseconds.
pub const ASK_WAIT_MS: u64 = 20_000;
/// How long a place that was asked for is kept for a worker that asks anew. Milliseconds.
const KEEP_MS: u64 = 1_000;
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
}

fn not_now() -> Error {
    Error::new(
        ErrorCode::Unavailable,
        "A limit that shards share could not be asked for.",
    )
    .retry_after(1000)
}
