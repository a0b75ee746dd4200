//! The books of places under limits on jobs that run at once, where a tenant has several objects.
//!
//! Each key of a limit has a home, which keeps the ledger: what it has given to the others is a row, written in the turn
//! that gives it. What another object was given is in its memory alone: one that has lost it starts nothing under the key
//! until it has asked. An object may start where fewer attempts hold the key than it has places; the home, where what all
//! have is less than the limit. So the limit holds whatever is lost, and what goes astray lies with the home's books, to
//! be recalled.
//!
//! This file keeps the books and decides nothing; [`super::sharing`] does.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use tidegate_cbor::{Decode, Encode};
use tidegate_protocol::calls::jobs::Enqueue;
use tidegate_protocol::ids::ShardIndex;
use tidegate_protocol::time::UnixMs;

use super::CallId;
use super::gates::LimitKey;
use crate::database::{Database, DatabaseError, Value, from_blob, to_blob};
use tidegate_protocol::{SortedMap, SortedSet};

/// What the home of a key has given to another object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(super) struct Given {
    pub shard: ShardIndex,
    /// So many places, those that its jobs hold included.
    pub places: u32,
    /// Drawn anew with each answer, so that a word from before it changes nothing.
    pub version: u64,
}

/// What an object has of a key whose home is elsewhere.
#[derive(Debug, Clone, Default)]
pub(super) struct Grant {
    pub places: u32,
    /// The version of what it was last given; zero: of nothing.
    pub version: u64,
    /// What its home believes that it has, as far as it knows.
    pub told: u32,
    /// Whether its home has said so since this object woke up.
    pub known: bool,
    /// The question under way: its number, until when an answer may come, and how many places it said there are.
    pub asked: Option<(u64, UnixMs, u32)>,
    /// Not to be asked for before.
    pub retry_at: Option<UnixMs>,
    /// How often in a row asking came to nothing.
    pub tries: u32,
    /// Until when a place that nothing holds yet is kept, although others wait for it.
    pub kept_until: UnixMs,
    /// Whether others wait for what it gives up.
    pub contended: bool,
    /// Whether the next question ends the oldest job of someone.
    pub force: bool,
}

/// Who waits at the home of a key.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Who {
    /// The home itself.
    Own,
    /// Another object, with its call.
    Other {
        shard: ShardIndex,
        call: CallId,
        /// What it said that it has, and under which version.
        has: (u32, u64),
        /// How many it could use in all.
        total: u32,
    },
}

/// One that waits at the home of a key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Waiter {
    pub who: Who,
    /// Until when; the home itself for as long as it wants.
    pub deadline: Option<UnixMs>,
    /// Whether it waits only until the others have given back what they do not use.
    pub brief: bool,
    /// Whether the oldest job of someone is to be ended for it.
    pub force: bool,
    /// Whether all others are asked to give back what they do not use since it came …
    pub asking_around: bool,
    /// … and whether they have answered.
    pub asked_around: bool,
}

impl Waiter {
    pub fn is_own(&self) -> bool {
        self.who == Who::Own
    }

    pub fn is_of(&self, other: ShardIndex) -> bool {
        matches!(self.who, Who::Other { shard, .. } if shard == other)
    }
}

/// Who waits for a key at its home, first come, first served.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    pub waiters: VecDeque<Waiter>,
    /// Places that are the home's own next, whoever waits.
    pub credit: u32,
    /// Until when they are, although nothing of its own starts by them.
    pub credit_until: UnixMs,
    /// Whom a recall is on its way to.
    pub recalling: SortedSet<ShardIndex>,
    /// When the others are to be asked again for what they do not use.
    pub recall_at: Option<UnixMs>,
    pub recalls: u32,
}

impl Line {
    pub fn has_others(&self) -> bool {
        self.waiters.iter().any(|waiter| !waiter.is_own())
    }

    fn is_idle(&self) -> bool {
        self.waiters.is_empty() && self.credit == 0 && self.recalling.is_empty()
    }
}

/// A request that is decided once the places of some keys were asked for.
#[derive(Debug, Clone)]
pub(super) struct Parked {
    pub enqueue: Enqueue,
    /// The key that is asked for.
    pub key: LimitKey,
    /// Keys that were asked for already.
    pub asked: Vec<LimitKey>,
}

/// The books. All but the ledger is memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    /// Whether the tenant has, or may have, more objects than this.
    shared: bool,
    ledger: SortedMap<LimitKey, Vec<Given>>,
    pub lines: SortedMap<LimitKey, Line>,
    pub grants: SortedMap<LimitKey, Grant>,
    /// Keys to be looked at before the turn ends.
    touched: SortedSet<LimitKey>,
    /// Keys whose home is elsewhere and of which the object has more than its jobs hold: what these are kept for may go in
    /// any turn.
    unused: SortedSet<LimitKey>,
    /// When keys are to be looked at although nothing happens.
    due: SortedMap<LimitKey, UnixMs>,
    dues: SortedSet<(UnixMs, LimitKey)>,
    pub parked: SortedMap<CallId, Parked>,
    /// Whether the object had no place for another attempt at the end of the last turn.
    pub was_full: bool,
}

/// Equal where the same is stored.
impl PartialEq for Places {
    fn eq(&self, other: &Self) -> bool {
        self.ledger == other.ledger
    }
}

impl Places {
    /// Reads the ledger.
    pub fn recover(db: &impl Database) -> Result<Self, DatabaseError> {
        let mut places = Self::default();
        let rows = db.run("-- places::recover\nSELECT name, key, given FROM limit_place", &[])?;
        for mut row in rows {
            let (limit, key) = (row.text()?, row.text()?);
            places.ledger.insert(LimitKey { limit, key }, from_blob(&row.blob()?)?);
        }
        places.shared = !places.ledger.is_empty();
        Ok(places)
    }

    /// Whether other objects may hold places: one look, which is all that a tenant with one shard pays.
    pub fn are_shared(&self) -> bool {
        self.shared
    }

    /// Others may hold places from now on.
    pub fn share(&mut self) {
        self.shared = true;
    }

    /// What all others were given of a key.
    pub fn given_in_all(&self, key: &LimitKey) -> u32 {
        let given = self.ledger.get(key).into_iter().flatten();
        given.fold(0, |sum, given| sum.saturating_add(given.places))
    }

    /// What is not free although no attempt of the home holds it.
    pub fn taken(&self, key: &LimitKey) -> u32 {
        let credit = self.lines.get(key).map_or(0, |line| line.credit);
        self.given_in_all(key).saturating_add(credit)
    }

    /// What an object was given: places and version.
    pub fn given(&self, key: &LimitKey, shard: ShardIndex) -> (u32, u64) {
        let mut given = self.ledger.get(key).into_iter().flatten();
        let found = given.find(|given| given.shard == shard);
        found.map_or((0, 0), |given| (given.places, given.version))
    }

    /// Who has places of a key.
    pub fn holders(&self, key: &LimitKey) -> Vec<Given> {
        self.ledger.get(key).cloned().unwrap_or_default()
    }

    /// Whether the home of a key may start another job of its own, `free` places being nobody's.
    pub fn is_own_turn(&self, key: &LimitKey, free: u32) -> bool {
        match self.lines.get(key) {
            Some(line) if line.credit > 0 => true,
            Some(line) if line.has_others() => false,
            _ => free > 0,
        }
    }

    /// How many places the object has of a key whose home is elsewhere.
    pub fn granted(&self, key: &LimitKey) -> u32 {
        self.grants.get(key).map_or(0, |grant| grant.places)
    }

    /// An attempt under a key has begun.
    pub fn started(&mut self, key: &LimitKey) {
        if !self.shared {
            return;
        }
        if let Some(line) = self.lines.get_mut(key) {
            line.credit = line.credit.saturating_sub(1);
        }
        if let Some(grant) = self.grants.get_mut(key) {
            grant.tries = 0;
        }
    }

    /// An attempt under a key is over; `left` others hold it here. What others wait for is nobody's from then on.
    pub fn ended(&mut self, key: &LimitKey, left: u32, elsewhere: bool) {
        if elsewhere {
            let grant = self.grants.entry(key.clone()).or_default();
            if grant.contended {
                grant.places = grant.places.min(left);
            }
        }
        self.touch(key);
    }

    /// Whether the object has more of a key than its jobs hold.
    pub fn note_unused(&mut self, key: &LimitKey, is_unused: bool) {
        if is_unused {
            self.unused.insert(key.clone());
        } else {
            self.unused.remove(key);
        }
    }

    /// Keys of which the object has more than its jobs hold are looked at in every turn.
    pub fn touch_unused(&mut self) {
        self.touched.extend(self.unused.iter().cloned());
    }

    /// The key is looked at before the turn ends.
    pub fn touch(&mut self, key: &LimitKey) {
        if self.shared {
            self.touched.insert(key.clone());
        }
    }

    /// All keys of a limit are.
    pub fn touch_limit(&mut self, limit: &str) {
        if self.shared {
            let known = self.ledger.keys().chain(self.lines.keys()).chain(self.grants.keys());
            let keys: Vec<LimitKey> = known.filter(|key| key.limit == limit).cloned().collect();
            self.touched.extend(keys);
        }
    }

    /// The keys to be looked at.
    pub fn take_touched(&mut self) -> SortedSet<LimitKey> {
        core::mem::take(&mut self.touched)
    }

    /// Keys whose time has come are to be looked at as well.
    pub fn take_due(&mut self, now: UnixMs) {
        while let Some((at, key)) = self.dues.first().cloned() {
            if at > now {
                return;
            }
            self.set_due(&key, None);
            self.touched.insert(key);
        }
    }

    /// When a key is to be looked at although nothing happens.
    pub fn set_due(&mut self, key: &LimitKey, at: Option<UnixMs>) {
        if let Some(old) = self.due.remove(key) {
            self.dues.remove(&(old, key.clone()));
        }
        if let Some(at) = at {
            self.due.insert(key.clone(), at);
            self.dues.insert((at, key.clone()));
        }
    }

    /// When the first key is to be looked at.
    pub fn next_due(&self) -> Option<UnixMs> {
        self.dues.first().map(|(at, _)| *at)
    }

    /// Whether requests wait for the places of a key.
    pub fn parks(&self, key: &LimitKey) -> bool {
        self.parked.values().any(|parked| parked.key == *key)
    }

    /// Writes down that `shard` has so many places of a key, under a version. None is no entry. One row.
    pub fn give(
        &mut self,
        db: &impl Database,
        key: &LimitKey,
        shard: ShardIndex,
        places: u32,
        version: u64,
    ) -> Result<(), DatabaseError> {
        let all = self.ledger.entry(key.clone()).or_default();
        all.retain(|given| given.shard != shard);
        if places > 0 {
            all.push(Given { shard, places, version });
        }
        if all.is_empty() {
            self.ledger.remove(key);
            db.run(
                "-- places::give
                DELETE FROM limit_place WHERE name = ? AND key = ?",
                &[Value::Text(&key.limit), Value::Text(&key.key)],
            )?;
            return Ok(());
        }
        db.run(
            "-- places::give
            INSERT INTO limit_place (name, key, given) VALUES (?, ?, ?)
            ON CONFLICT (name, key) DO UPDATE SET given = excluded.given",
            &[
                Value::Text(&key.limit),
                Value::Text(&key.key),
                Value::Blob(&to_blob(all)?),
            ],
        )?;
        Ok(())
    }

    /// `shard` goes on with so many places under `version`. Taken only where nothing was given to it since.
    pub fn lower(
        &mut self,
        db: &impl Database,
        key: &LimitKey,
        shard: ShardIndex,
        places: u32,
        version: u64,
    ) -> Result<(), DatabaseError> {
        let (given, latest) = self.given(key, shard);
        if version == latest && places < given {
            self.give(db, key, shard, places, version)?;
            self.touch(key);
        }
        Ok(())
    }

    /// Forgets lines at which nobody waits any more.
    pub fn drop_idle_line(&mut self, key: &LimitKey) {
        if self.lines.get(key).is_some_and(Line::is_idle) {
            self.lines.remove(key);
        }
    }
}
