//! What holds a waiting job back: pauses, and limits that have no room.
//!
//! Places under a limit are counted from the attempts that hold them, never stored, so that no crash can leak one. How
//! far the starts of a rate have got is stored with each start, so that no crash gives out a unit twice.

use alloc::string::String;
use alloc::vec::Vec;

use tidegate_protocol::calls::places::home_of;
use tidegate_protocol::calls::queueing::{Counted, Pause, PauseScope, Rule};
use tidegate_protocol::calls::spread::Place;
use tidegate_protocol::ids::{PoolName, ShardIndex, UserId};
use tidegate_protocol::time::UnixMs;

use super::lanes::Shape;
use super::places::Places;
use super::spread::Spread;
use crate::database::{Database, DatabaseError, Value, from_blob, to_blob};
use tidegate_protocol::SortedMap;

/// A limit, for one of its keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LimitKey {
    pub limit: String,
    pub key: String,
}

impl From<&Counted> for LimitKey {
    fn from(counted: &Counted) -> Self {
        Self {
            limit: counted.limit.clone(),
            key: counted.key.clone(),
        }
    }
}

/// What a lane can be held back by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gate {
    Paused(PauseScope),
    Limit(LimitKey),
}

/// How far the starts of a rate have got: the theoretical arrival time of GCRA. Microseconds since 1970, because a rate
/// may allow many starts in a millisecond.
type ArrivalUs = u64;

/// The clock's tick. Microseconds.
const TICK_US: u64 = 1000;
/// Arrival times in memory from which on those that have passed are looked for. Some hundred bytes each.
const ARRIVALS_SWEPT: usize = 8192;

/// Every gate that may be closed.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Gates {
    /// Each rule, and since when the object knows it.
    rules: SortedMap<String, (Rule, UnixMs)>,
    held: SortedMap<LimitKey, u32>,
    /// Attempts under way that workers make, by their pool.
    pulled: SortedMap<PoolName, u32>,
    arrivals: SortedMap<LimitKey, ArrivalUs>,
    pauses: SortedMap<PauseScope, (UserId, UnixMs)>,
    /// The object's part of each rule.
    place: Place,
    /// Since when rates have room here; `None`: not yet. Zero: always.
    opened_at: Option<UnixMs>,
    /// How many objects the tenant began with: they keep count of its limits.
    first: u16,
    /// What objects give each other of the limits on jobs that run at once.
    pub places: Places,
}

impl Gates {
    /// Reads what is stored: the rules, the rates' arrival times, the pauses. Who holds which place comes later.
    pub fn recover(db: &impl Database) -> Result<Self, DatabaseError> {
        let mut gates = Self {
            places: Places::recover(db)?,
            ..Self::default()
        };
        gates.divide(&Spread::recover(db)?);
        for mut row in db.run("-- gates::recover\nSELECT name, rule, since FROM limit_rule", &[])? {
            let (name, rule) = (row.text()?, from_blob(&row.blob()?)?);
            gates.rules.insert(name, (rule, UnixMs(row.number()?)));
        }
        let rows = db.run(
            "-- gates::recover\nSELECT name, key, arrival_us FROM limit_arrival",
            &[],
        )?;
        for mut row in rows {
            let (limit, key) = (row.text()?, row.text()?);
            gates.arrivals.insert(LimitKey { limit, key }, row.number()?);
        }
        for mut row in db.run("-- gates::recover\nSELECT pause FROM pause", &[])? {
            let pause: Pause = from_blob(&row.blob()?)?;
            gates.pauses.insert(pause.scope, (pause.by, pause.since));
        }
        Ok(gates)
    }

    /// Takes over the rules that came with a job. A row for each that is new or another.
    pub fn learn(&mut self, db: &impl Database, now: UnixMs, limits: &[Counted]) -> Result<bool, DatabaseError> {
        let mut changed = false;
        for counted in limits {
            if self.whole(&counted.limit) != Some(counted.rule) {
                changed = true;
                self.learn_rule(db, &counted.limit, counted.rule, now)?;
            }
        }
        Ok(changed)
    }

    /// Takes over a rule that holds since `since`. One row.
    pub fn learn_rule(
        &mut self,
        db: &impl Database,
        limit: &str,
        rule: Rule,
        since: UnixMs,
    ) -> Result<(), DatabaseError> {
        self.rules.insert(limit.into(), (rule, since));
        self.places.touch_limit(limit);
        db.run(
            "-- gates::learn
            INSERT INTO limit_rule (name, rule, since) VALUES (?, ?, ?)
            ON CONFLICT (name) DO UPDATE SET rule = excluded.rule, since = excluded.since",
            &[
                Value::Text(limit),
                Value::Blob(&to_blob(&rule)?),
                Value::Number(since.0),
            ],
        )?;
        Ok(())
    }

    /// Holds back what `pause` says. One row.
    pub fn pause(&mut self, db: &impl Database, pause: &Pause) -> Result<(), DatabaseError> {
        db.run(
            "-- gates::pause
            INSERT INTO pause (scope, pause) VALUES (?, ?) ON CONFLICT (scope) DO NOTHING",
            &[Value::Blob(&to_blob(&pause.scope)?), Value::Blob(&to_blob(pause)?)],
        )?;
        self.pauses
            .entry(pause.scope.clone())
            .or_insert((pause.by.clone(), pause.since));
        Ok(())
    }

    /// Lets go again. One row.
    pub fn resume(&mut self, db: &impl Database, scope: &PauseScope) -> Result<(), DatabaseError> {
        db.run(
            "-- gates::resume
            DELETE FROM pause WHERE scope = ?",
            &[Value::Blob(&to_blob(scope)?)],
        )?;
        self.pauses.remove(scope);
        Ok(())
    }

    /// Every pause.
    pub fn pauses(&self) -> Vec<Pause> {
        let pauses = self.pauses.iter().map(|(scope, (by, since))| Pause {
            scope: scope.clone(),
            by: by.clone(),
            since: *since,
        });
        pauses.collect()
    }

    /// A job starts: it holds its places, and its units are gone. A row for each rate.
    pub fn take(&mut self, db: &impl Database, now: UnixMs, shape: &Shape) -> Result<(), DatabaseError> {
        self.hold(shape);
        let mut grows = false;
        for (key, cost) in shape.limits() {
            let Some(rule) = self.rule(&key.limit) else { continue };
            let Some((interval_us, _)) = rate(&rule) else { continue };
            // The clock ticks in milliseconds. What a start has lost by waiting for the next tick is made up for, or a
            // rate whose interval is no whole number of them would never be reached.
            let arrived = match self.arrival(key, &rule) {
                arrival if arrival.saturating_add(TICK_US) > us(now) => arrival,
                _ => us(now),
            };
            let arrival = arrived.saturating_add(interval_us.saturating_mul(cost.into()));
            grows |= self.arrivals.insert(key.clone(), arrival).is_none();
            db.run(
                "-- gates::take
                INSERT INTO limit_arrival (name, key, arrival_us) VALUES (?, ?, ?)
                ON CONFLICT (name, key) DO UPDATE SET arrival_us = excluded.arrival_us",
                &[Value::Text(&key.limit), Value::Text(&key.key), Value::Number(arrival)],
            )?;
        }
        // Keys come and go by the thousand: each doubling is an occasion to forget those whose time has passed.
        if grows && self.arrivals.len() >= ARRIVALS_SWEPT && self.arrivals.len().is_power_of_two() {
            self.sweep(db, now)?;
        }
        Ok(())
    }

    /// Counts the places of an attempt that starts, or is under way already.
    pub fn hold(&mut self, shape: &Shape) {
        for (key, _) in shape.limits() {
            *self.held.entry(key.clone()).or_default() += 1;
            self.places.started(key);
        }
        if let Some(pool) = shape.pool() {
            *self.pulled.entry(pool.clone()).or_default() += 1;
        }
    }

    /// An attempt has ended: its places are free.
    pub fn give_back(&mut self, shape: &Shape) {
        for (key, _) in shape.limits() {
            if let Some(held) = self.held.get_mut(key) {
                *held = held.saturating_sub(1);
                let left = *held;
                if left == 0 {
                    self.held.remove(key);
                }
                if self.is_shared(key) {
                    let elsewhere = self.home_elsewhere(key).is_some();
                    self.places.ended(key, left, elsewhere);
                }
            }
        }
        let pool = shape.pool().and_then(|pool| self.pulled.get_mut(pool));
        if let Some(pulled) = pool {
            *pulled = pulled.saturating_sub(1);
            self.pulled.retain(|_, pulled| *pulled > 0);
        }
    }

    /// How many attempts are under way at workers.
    pub fn pulled(&self) -> usize {
        let pulled: u32 = self.pulled.values().sum();
        usize::try_from(pulled).unwrap_or(usize::MAX)
    }

    /// How many of them at workers of this pool.
    pub fn pulled_in(&self, pool: &PoolName) -> u32 {
        self.pulled.get(pool).copied().unwrap_or(0)
    }

    /// The pools whose workers make attempts.
    pub fn pulled_pools(&self) -> impl Iterator<Item = &PoolName> {
        self.pulled.keys()
    }

    /// How many attempts hold a place under a limit.
    pub fn held(&self, key: &LimitKey) -> u32 {
        self.held.get(key).copied().unwrap_or(0)
    }

    /// What a limit allows in this object: of a rate its part, of jobs that run at once what the tenant may.
    pub fn rule(&self, limit: &str) -> Option<Rule> {
        let place = self.place;
        Some(match self.whole(limit)? {
            Rule::Concurrency { max } => Rule::Concurrency { max },
            Rule::Rate { units, per_ms, burst } => Rule::Rate {
                units: place.part(units),
                per_ms,
                burst: place.part(burst).max(1),
            },
        })
    }

    /// What a limit allows in the whole tenant.
    pub fn whole(&self, limit: &str) -> Option<Rule> {
        self.rules.get(limit).map(|(rule, _)| *rule)
    }

    /// The rule of the whole tenant, and since when the object knows it.
    pub fn known_rule(&self, limit: &str) -> Option<(Rule, UnixMs)> {
        self.rules.get(limit).copied()
    }

    /// How many jobs may run at once under a limit in the whole tenant; `None`: it is no such limit.
    pub fn at_once(&self, limit: &str) -> Option<u32> {
        match self.whole(limit)? {
            Rule::Concurrency { max } => Some(max),
            Rule::Rate { .. } => None,
        }
    }

    /// The object that keeps count of a key; `None`: this one.
    pub fn home_elsewhere(&self, key: &LimitKey) -> Option<ShardIndex> {
        if self.place.shards < 2 {
            return None;
        }
        Some(home_of(&key.limit, &key.key, self.first)).filter(|home| *home != self.place.shard)
    }

    /// This object's index.
    pub fn shard(&self) -> ShardIndex {
        self.place.shard
    }

    /// Whether objects share the places of a key.
    pub fn is_shared(&self, key: &LimitKey) -> bool {
        self.places.are_shared() && self.at_once(&key.limit).is_some()
    }

    /// Places of a key that this object, its home, has neither given nor in use.
    pub fn free(&self, key: &LimitKey) -> u32 {
        let max = self.at_once(&key.limit).unwrap_or(0);
        max.saturating_sub(self.held(key))
            .saturating_sub(self.places.taken(key))
    }

    fn has_place_under(&self, key: &LimitKey, max: u32) -> bool {
        if !self.places.are_shared() {
            return self.held(key) < max;
        }
        match self.home_elsewhere(key) {
            Some(_) => self.held(key) < max.min(self.places.granted(key)),
            None => self.places.is_own_turn(key, self.free(key)),
        }
    }

    /// The object has this place among others from now on.
    pub fn divide(&mut self, spread: &Spread) {
        self.place = spread.place();
        self.opened_at = spread.opened_at();
        self.first = spread.first();
        if self.place.shards > 1 {
            self.places.share();
        }
    }

    /// How far the starts of a rate have got. An object that joins others begins with its part of the burst used up:
    /// those who were there before may have used all of it.
    fn arrival(&self, key: &LimitKey, rule: &Rule) -> ArrivalUs {
        let joined = match (self.opened_at, rate(rule)) {
            (Some(at), Some((interval_us, burst))) if at > UnixMs(0) => {
                us(at).saturating_add(interval_us.saturating_mul(burst.into()))
            }
            _ => 0,
        };
        self.arrivals.get(key).copied().unwrap_or(0).max(joined)
    }

    /// Every gate that holds a job of this shape back.
    pub fn closed<'a>(&'a self, shape: &'a Shape, now: UnixMs) -> impl Iterator<Item = Gate> + 'a {
        let paused = self.pauses.keys().filter(|scope| shape.is_paused_by(scope));
        let full = shape
            .limits()
            .filter(move |(key, cost)| !self.has_room(key, *cost, now))
            .map(|(key, _)| Gate::Limit(key.clone()));
        paused.cloned().map(Gate::Paused).chain(full)
    }

    /// Whether `gate` lets a job of this shape through.
    pub fn lets(&self, gate: &Gate, shape: &Shape, now: UnixMs) -> bool {
        match gate {
            Gate::Paused(scope) => !self.pauses.contains_key(scope),
            Gate::Limit(key) => self.has_room(key, shape.cost(key), now),
        }
    }

    fn has_room(&self, key: &LimitKey, cost: u32, now: UnixMs) -> bool {
        match self.rule(&key.limit) {
            Some(Rule::Concurrency { max }) => self.has_place_under(key, max),
            Some(Rule::Rate { .. }) if self.opened_at.is_none() => false,
            // A part of nothing, by a rule from before there were so many objects: the next rule gives it more.
            Some(Rule::Rate { units: 0, .. }) => false,
            Some(Rule::Rate { .. }) => self.room_at(key, cost).is_none_or(|at| at <= now),
            None => true,
        }
    }

    /// When a rate will have room for `cost` units; `None` where only an event can make room. GCRA: a start conforms
    /// where the arrival time after it lies at most the whole burst ahead.
    pub fn room_at(&self, key: &LimitKey, cost: u32) -> Option<UnixMs> {
        self.opened_at?;
        let rule = self.rule(&key.limit)?;
        let (interval_us, burst) = rate(&rule)?;
        let arrival = self.arrival(key, &rule);
        // What costs more than the burst starts once the whole burst is there.
        let cost = cost.min(burst);
        let early = interval_us.saturating_mul((burst - cost).into());
        // Rounded up: never early.
        Some(UnixMs(arrival.saturating_sub(early).div_ceil(1000)))
    }

    /// Forgets arrival times that lie in the past: they say nothing that their absence would not.
    pub fn sweep(&mut self, db: &impl Database, now: UnixMs) -> Result<(), DatabaseError> {
        let before = self.arrivals.len();
        self.arrivals.retain(|_, arrival| *arrival > us(now));
        if self.arrivals.len() < before {
            db.run(
                "-- gates::sweep
                DELETE FROM limit_arrival WHERE arrival_us <= CAST(? AS INTEGER)",
                &[Value::Number(us(now))],
            )?;
        }
        Ok(())
    }
}

fn us(at: UnixMs) -> u64 {
    at.0.saturating_mul(1000)
}

/// The interval between two units in microseconds, rounded up, and the burst.
fn rate(rule: &Rule) -> Option<(u64, u32)> {
    match rule {
        Rule::Concurrency { .. } | Rule::Rate { units: 0, .. } => None,
        Rule::Rate { units, per_ms, burst } => {
            let interval = per_ms.saturating_mul(1000).div_ceil(u64::from(*units).max(1));
            Some((interval, (*burst).max(1)))
        }
    }
}
