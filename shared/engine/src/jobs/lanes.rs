//! Which waiting job is next.
//!
//! Jobs that nothing but their time tells apart wait in one lane, first in, first out: the same action, priority, share
//! and limits. So a decision looks at lanes, of which there are few, and at the head of the chosen one.
//!
//! Between the keys that divide a tenant's places, the next one is the one that has had least for its weight (start-time
//! fair queueing; P. Goyal, H. Vin, H. Cheng, 1996); inside a key, the job whose time comes first when its priority is
//! counted as a head start. A lane whose head is held back waits at the gate that holds it, and is looked at again
//! only when that gate may have opened: what waits at closed gates costs nothing, however much it is.
//!
//! All of this is memory, built again from the rows; what a share has had is forgotten with it.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use tidegate_protocol::calls::jobs::NewJob;
use tidegate_protocol::calls::queueing::{PauseScope, Priority};
use tidegate_protocol::ids::{ActionName, PoolName};
use tidegate_protocol::time::UnixMs;

use super::gates::{Gate, Gates, LimitKey};
use crate::database::DatabaseError;
use tidegate_protocol::{SortedMap, SortedSet};

/// How much later than a job of high priority one of normal priority counts as waiting. Milliseconds.
pub const NORMAL_OFFSET_MS: u64 = 60_000;
/// How much later than a job of high priority one of low priority counts as waiting: a job of low priority that has
/// waited so long goes before every later one. Milliseconds.
pub const LOW_OFFSET_MS: u64 = 300_000;
/// What one start costs a share with the weight 1.
const STRIDE: u64 = 1 << 20;

const fn offset_ms(priority: Priority) -> u64 {
    match priority {
        Priority::High => 0,
        Priority::Normal => NORMAL_OFFSET_MS,
        Priority::Low => LOW_OFFSET_MS,
    }
}

/// What tells the jobs of a lane from those of others. As text it is the lane's name, in every row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    action: ActionName,
    priority: Priority,
    /// Key and weight.
    share: Option<(String, u32)>,
    /// Limit and cost.
    limits: Vec<(LimitKey, u32)>,
    /// Whose workers run it; `None`: the executor.
    pool: Option<PoolName>,
}

/// A limit and its key stand in a lane's name as a pair.
impl Serialize for LimitKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.limit, &self.key).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for LimitKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (limit, key) = Deserialize::deserialize(deserializer)?;
        Ok(Self { limit, key })
    }
}

impl Shape {
    pub fn of(job: &NewJob) -> Self {
        let queueing = &job.queueing;
        Self {
            action: job.action.clone(),
            priority: queueing.priority,
            share: queueing
                .share
                .as_ref()
                .map(|share| (share.key.clone(), share.weight.max(1))),
            limits: queueing
                .limits
                .iter()
                .map(|counted| (counted.into(), counted.cost))
                .collect(),
            pool: job.policy.pool.clone(),
        }
    }

    /// The lane's name: its pool, where there is one, and the rest as a JSON array.
    pub fn name(&self) -> Result<String, DatabaseError> {
        let Self {
            action,
            priority,
            share,
            limits,
            pool,
        } = self;
        let mut name = serde_json::to_string(&(action, priority, share, limits))
            .map_err(|error| DatabaseError::new(alloc::format!("a lane has no name: {error}")))?;
        if let Some(pool) = pool {
            name.insert_str(0, pool.as_str());
        }
        Ok(name)
    }

    /// The shape that a lane's name tells.
    pub fn parse(name: &str) -> Result<Self, DatabaseError> {
        let (pool, rest) = name.split_at(name.find('[').unwrap_or(0));
        let (action, priority, share, limits) = serde_json::from_str(rest)
            .map_err(|error| DatabaseError::new(alloc::format!("a lane's name was not read: {error}")))?;
        Ok(Self {
            action,
            priority,
            share,
            limits,
            pool: PoolName::parse(pool),
        })
    }

    pub fn action(&self) -> &ActionName {
        &self.action
    }

    pub fn pool(&self) -> Option<&PoolName> {
        self.pool.as_ref()
    }

    pub fn limits(&self) -> impl Iterator<Item = (&LimitKey, u32)> {
        self.limits.iter().map(|(key, cost)| (key, *cost))
    }

    /// The units that a job of this shape takes of a limit.
    pub fn cost(&self, key: &LimitKey) -> u32 {
        self.limits
            .iter()
            .find(|(own, _)| own == key)
            .map_or(1, |(_, cost)| *cost)
    }

    pub fn is_paused_by(&self, scope: &PauseScope) -> bool {
        match scope {
            PauseScope::Tenant => true,
            PauseScope::Action(pattern) => pattern.matches(&self.action),
            PauseScope::Key(key) => self.share.as_ref().is_some_and(|(own, _)| own == key),
        }
    }

    fn share(&self) -> (&str, u64) {
        match &self.share {
            Some((key, weight)) => (key, STRIDE / u64::from((*weight).max(1))),
            None => ("", STRIDE),
        }
    }
}

/// A lane's name, shared by all that point to it.
pub(super) type LaneName = Arc<str>;
type ShareName = Arc<str>;

/// Where a lane stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Spot {
    /// The time of its head has not come.
    Early,
    /// It may be next.
    Ready,
    /// A gate holds its head back.
    At(Gate),
}

#[derive(Debug, Clone, PartialEq)]
struct Lane {
    shape: Arc<Shape>,
    share: ShareName,
    jobs: u64,
    /// When the head may start.
    head: UnixMs,
    spot: Spot,
}

impl Lane {
    fn rank(&self) -> u64 {
        self.head.0.saturating_add(offset_ms(self.shape.priority))
    }
}

/// Lanes side by side, in the order in which they are next.
#[derive(Debug, Clone, Default, PartialEq)]
struct Row {
    shares: SortedSet<(u64, ShareName)>,
    lanes: SortedMap<ShareName, SortedSet<(u64, LaneName)>>,
}

impl Row {
    fn first(&self) -> Option<&LaneName> {
        let (_, share) = self.shares.first()?;
        self.lanes.get(share)?.first().map(|(_, lane)| lane)
    }

    /// All of them, the next one first.
    fn in_order(&self) -> impl Iterator<Item = &LaneName> {
        let lanes = self.shares.iter().filter_map(|(_, share)| self.lanes.get(share));
        lanes.flatten().map(|(_, lane)| lane)
    }

    fn insert(&mut self, pass: u64, share: &ShareName, rank: u64, lane: LaneName) {
        self.shares.insert((pass, share.clone()));
        self.lanes.entry(share.clone()).or_default().insert((rank, lane));
    }

    fn remove(&mut self, pass: u64, share: &ShareName, rank: u64, lane: &LaneName) {
        if let Some(lanes) = self.lanes.get_mut(share) {
            lanes.remove(&(rank, lane.clone()));
            if lanes.is_empty() {
                self.lanes.remove(share);
                self.shares.remove(&(pass, share.clone()));
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }
}

/// What a share has had, and where its lanes stand.
#[derive(Debug, Clone, Default, PartialEq)]
struct Standing {
    /// The starts that it has had, each divided by its weight.
    pass: u64,
    lanes: u64,
    /// How many of its lanes stand in the row of each gate; without a gate: are ready.
    rows: SortedMap<Option<Gate>, u64>,
}

/// All lanes with waiting jobs.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Lanes {
    lanes: SortedMap<LaneName, Lane>,
    standings: SortedMap<ShareName, Standing>,
    /// Shares without lanes whose pass is ahead of the clock, so that coming back gains them nothing.
    resting: SortedSet<(u64, ShareName)>,
    /// The pass at which the latest start was made.
    clock: u64,
    early: SortedSet<(UnixMs, LaneName)>,
    ready: Row,
    held: SortedMap<Gate, Row>,
    /// Gates at which lanes wait and which may have opened.
    opened: SortedSet<Gate>,
    /// When gates open by themselves.
    openings: SortedSet<(UnixMs, Gate)>,
    jobs: u64,
    /// Jobs that wait, by action.
    actions: SortedMap<ActionName, u64>,
    /// Lanes, by what they count under.
    counting: SortedMap<LimitKey, u64>,
    /// Keys that several objects share at whose gates lanes have come to stand since somebody looked.
    came: Vec<LimitKey>,
}

impl Lanes {
    /// How many jobs wait.
    pub fn jobs(&self) -> u64 {
        self.jobs
    }

    /// How many jobs of the lane `name` wait.
    pub fn jobs_of(&self, name: &str) -> u64 {
        self.lanes.get(name).map_or(0, |lane| lane.jobs)
    }

    /// The time of the head that is the earliest.
    pub fn oldest(&self) -> Option<UnixMs> {
        self.lanes.values().map(|lane| lane.head).min()
    }

    /// How many jobs of each action wait.
    pub fn by_action(&self) -> impl Iterator<Item = (&ActionName, u64)> {
        self.actions.iter().map(|(action, jobs)| (action, *jobs))
    }

    /// `jobs` more wait, the first from `head` on.
    pub fn add_many(&mut self, name: &str, shape: &Shape, head: UnixMs, jobs: u64) {
        self.jobs += jobs;
        *self.actions.entry(shape.action.clone()).or_default() += jobs;
        if let Some(lane) = self.lanes.get_mut(name) {
            lane.jobs += jobs;
            if head < lane.head {
                self.set_head(name, head);
            }
            return;
        }
        let share: ShareName = shape.share().0.into();
        let name: LaneName = name.into();
        let clock = self.clock;
        let standing = self.standings.entry(share.clone()).or_default();
        if standing.lanes == 0 {
            self.resting.remove(&(standing.pass, share.clone()));
            standing.pass = standing.pass.max(clock);
        }
        standing.lanes += 1;
        let lane = Lane {
            shape: Arc::new(shape.clone()),
            share,
            jobs,
            head,
            spot: Spot::Early,
        };
        for (key, _) in shape.limits() {
            *self.counting.entry(key.clone()).or_default() += 1;
        }
        self.early.insert((head, name.clone()));
        self.lanes.insert(name, lane);
    }

    /// One job fewer waits, by a start or otherwise; `head` is the time of the one that is now first. Without one, no job
    /// waits in the lane, whatever was counted.
    pub fn remove(&mut self, name: &str, head: Option<UnixMs>) {
        let Some(lane) = self.lanes.get_mut(name) else { return };
        let gone = if head.is_some() { 1 } else { lane.jobs };
        self.jobs = self.jobs.saturating_sub(gone);
        lane.jobs = lane.jobs.saturating_sub(gone);
        let action = lane.shape.action.clone();
        if let Some(jobs) = self.actions.get_mut(&action) {
            *jobs = jobs.saturating_sub(gone);
            if *jobs == 0 {
                self.actions.remove(&action);
            }
        }
        match head {
            Some(head) => self.set_head(name, head),
            None => self.close(name),
        }
    }

    /// The job that is first in a lane may start from `head` on. A lane that is ready is looked at anew, because a clock
    /// that jumped back makes its head early again.
    pub fn set_head(&mut self, name: &str, head: UnixMs) {
        let Some((name, lane)) = self.lanes.get_key_value(name) else {
            return;
        };
        let name = name.clone();
        if lane.head == head && lane.spot != Spot::Ready {
            return;
        }
        self.leave(&name);
        if let Some(lane) = self.lanes.get_mut(&name) {
            lane.head = head;
        }
        self.early.insert((head, name));
    }

    fn close(&mut self, name: &str) {
        let Some(name) = self.lanes.get_key_value(name).map(|(name, _)| name.clone()) else {
            return;
        };
        self.leave(&name);
        let Some(lane) = self.lanes.remove(&name) else { return };
        for (key, _) in lane.shape.limits() {
            if let Some(lanes) = self.counting.get_mut(key) {
                *lanes = lanes.saturating_sub(1);
                if *lanes == 0 {
                    self.counting.remove(key);
                }
            }
        }
        if let Some(standing) = self.standings.get_mut(&lane.share) {
            standing.lanes = standing.lanes.saturating_sub(1);
            if standing.lanes == 0 {
                if standing.pass > self.clock {
                    self.resting.insert((standing.pass, lane.share));
                } else {
                    self.standings.remove(&lane.share);
                }
            }
        }
    }

    /// The lane whose head is to start next, if any may: of one of the actions `only`, or of any.
    pub fn next(&mut self, gates: &Gates, now: UnixMs, only: Option<&[ActionName]>) -> Option<LaneName> {
        while let Some((_, gate)) = self.openings.pop_first_if(|(at, _)| *at <= now) {
            self.opened.insert(gate);
        }
        loop {
            while let Some((_, name)) = self.early.pop_first_if(|(head, _)| *head <= now) {
                self.stand(&name, Spot::Ready);
            }
            let moved = self.let_through(gates, now);
            let Some(name) = self.first_ready(only).cloned() else {
                if moved {
                    continue;
                }
                return None;
            };
            let shape = self.lanes.get(&name).map(|lane| lane.shape.clone())?;
            let Some(gate) = gates.closed(&shape, now).next() else {
                return Some(name);
            };
            if let Gate::Limit(key) = &gate
                && let Some(at) = gates.room_at(key, shape.cost(key))
            {
                self.openings.insert((at, gate.clone()));
            }
            if let Gate::Limit(key) = &gate
                && gates.is_shared(key)
            {
                self.came.push(key.clone());
            }
            self.leave(&name);
            self.stand(&name, Spot::At(gate));
        }
    }

    /// Keys that several objects share at whose gates lanes have come to stand since the last time.
    pub fn take_came(&mut self) -> Vec<LimitKey> {
        core::mem::take(&mut self.came)
    }

    /// Every key of a limit at whose gate a lane stands.
    pub fn keys_held(&self) -> impl Iterator<Item = &LimitKey> {
        self.held.keys().filter_map(|gate| match gate {
            Gate::Limit(key) => Some(key),
            Gate::Paused(_) => None,
        })
    }

    /// How many jobs the lanes hold that stand at a gate.
    pub fn jobs_at(&self, gate: &Gate) -> u64 {
        let lanes = self.held.get(gate).into_iter().flat_map(Row::in_order);
        let jobs = lanes.filter_map(|name| self.lanes.get(name)).map(|lane| lane.jobs);
        jobs.sum()
    }

    /// Whether a lane whose head's time has come counts under `key`.
    pub fn needs(&self, key: &LimitKey) -> bool {
        let rows = || core::iter::once(&self.ready).chain(self.held.values());
        self.counting.contains_key(key) && rows().flat_map(Row::in_order).any(|name| self.counts(name, key))
    }

    /// Whether a lane that counts under `key` stands at the gate of a later key of which `wanted` says so.
    pub fn stands_beyond(&self, key: &LimitKey, wanted: impl Fn(&LimitKey) -> bool) -> bool {
        let beyond = self.held.iter().filter(|(gate, _)| match gate {
            Gate::Limit(other) => other > key && wanted(other),
            Gate::Paused(_) => false,
        });
        self.counting.contains_key(key)
            && beyond
                .flat_map(|(_, row)| row.in_order())
                .any(|name| self.counts(name, key))
    }

    fn counts(&self, name: &LaneName, key: &LimitKey) -> bool {
        let lane = self.lanes.get(name);
        lane.is_some_and(|lane| lane.shape.limits().any(|(own, _)| own == key))
    }

    fn first_ready(&self, only: Option<&[ActionName]>) -> Option<&LaneName> {
        let Some(actions) = only else {
            return self.ready.first();
        };
        let wanted = |name: &&LaneName| {
            let lane = self.lanes.get(*name);
            lane.is_some_and(|lane| actions.contains(&lane.shape.action))
        };
        self.ready.in_order().find(wanted)
    }

    /// Takes one lane from each gate that lets it through. True where there was one.
    fn let_through(&mut self, gates: &Gates, now: UnixMs) -> bool {
        let mut moved = false;
        for gate in core::mem::take(&mut self.opened) {
            let first = self.held.get(&gate).and_then(Row::first).cloned();
            let Some((name, shape)) = first.and_then(|name| {
                let shape = self.lanes.get(&name)?.shape.clone();
                Some((name, shape))
            }) else {
                continue;
            };
            if gates.lets(&gate, &shape, now) {
                self.leave(&name);
                self.stand(&name, Spot::Ready);
                self.opened.insert(gate);
                moved = true;
            } else if let Gate::Limit(key) = &gate
                && let Some(at) = gates.room_at(key, shape.cost(key))
            {
                self.openings.insert((at, gate));
            }
        }
        moved
    }

    /// Whether others may wait for what a job of this shape counts under.
    pub fn may_wait_beside(&self, shape: &Shape) -> bool {
        self.jobs > 0 && !shape.limits.is_empty()
    }

    /// A gate may have opened.
    pub fn opened(&mut self, gate: Gate) {
        if self.held.contains_key(&gate) {
            self.opened.insert(gate);
        }
    }

    /// Any gate may have opened, because a rule has changed.
    pub fn all_opened(&mut self) {
        self.opened.extend(self.held.keys().cloned());
    }

    /// The head of a lane starts: its share has had one more. Called before [`Self::remove`].
    pub fn charge(&mut self, name: &str) {
        let Some(lane) = self.lanes.get(name) else { return };
        let (share, stride) = (lane.share.clone(), lane.shape.share().1);
        let Some(standing) = self.standings.get(&share) else {
            return;
        };
        let (old, clock) = (standing.pass, standing.pass.max(self.clock));
        self.clock = clock;
        self.set_pass(&share, old, clock.saturating_add(stride));
        while let Some((_, rested)) = self.resting.pop_first_if(|(pass, _)| *pass <= clock) {
            self.standings.remove(&rested);
        }
    }

    fn set_pass(&mut self, share: &ShareName, old: u64, new: u64) {
        let Some(standing) = self.standings.get_mut(share) else {
            return;
        };
        standing.pass = new;
        for gate in standing.rows.keys() {
            let row = match gate {
                None => Some(&mut self.ready),
                Some(gate) => self.held.get_mut(gate),
            };
            if let Some(row) = row
                && row.shares.remove(&(old, share.clone()))
            {
                row.shares.insert((new, share.clone()));
            }
        }
    }

    /// Takes a lane out of wherever it stands.
    fn leave(&mut self, name: &LaneName) {
        let Some(lane) = self.lanes.get_mut(name) else { return };
        let (share, rank, head) = (lane.share.clone(), lane.rank(), lane.head);
        let spot = core::mem::replace(&mut lane.spot, Spot::Early);
        let Some(standing) = self.standings.get_mut(&share) else {
            return;
        };
        let place = match spot {
            Spot::Early => {
                self.early.remove(&(head, name.clone()));
                return;
            }
            Spot::Ready => None,
            Spot::At(gate) => Some(gate),
        };
        let row = match &place {
            None => Some(&mut self.ready),
            Some(gate) => self.held.get_mut(gate),
        };
        if let Some(row) = row {
            row.remove(standing.pass, &share, rank, name);
            if let Some(gate) = place.as_ref().filter(|_| row.is_empty()) {
                self.held.remove(gate);
            }
        }
        if let Some(lanes) = standing.rows.get_mut(&place) {
            *lanes = lanes.saturating_sub(1);
            if *lanes == 0 {
                standing.rows.remove(&place);
            }
        }
    }

    /// Puts a lane that stands nowhere into the row of the ready, or of a gate.
    fn stand(&mut self, name: &LaneName, spot: Spot) {
        let Some(lane) = self.lanes.get_mut(name) else { return };
        let (share, rank) = (lane.share.clone(), lane.rank());
        lane.spot = spot.clone();
        let place = match spot {
            Spot::Early => return,
            Spot::Ready => None,
            Spot::At(gate) => Some(gate),
        };
        // A share that had nothing ready was not passed over while the others went on: it gains nothing by that.
        let behind = self
            .standings
            .get(&share)
            .map(|s| s.pass)
            .filter(|pass| *pass < self.clock);
        let unready = self.standings.get(&share).is_some_and(|s| !s.rows.contains_key(&None));
        if let (Some(pass), None, true) = (behind, &place, unready) {
            self.set_pass(&share, pass, self.clock);
        }
        let Some(standing) = self.standings.get_mut(&share) else {
            return;
        };
        *standing.rows.entry(place.clone()).or_default() += 1;
        let row = match place {
            None => &mut self.ready,
            Some(gate) => self.held.entry(gate).or_default(),
        };
        row.insert(standing.pass, &share, rank, name.clone());
    }

    /// Whether the ready lanes are one alone.
    pub fn one_is_ready(&self) -> bool {
        self.ready.lanes.len() == 1 && self.ready.lanes.values().all(|lanes| lanes.len() == 1) && self.opened.is_empty()
    }

    /// When a job may become the next, places permitting: at once where one may be ready.
    pub fn next_time(&self) -> Option<UnixMs> {
        if !self.ready.is_empty() || !self.opened.is_empty() {
            return Some(UnixMs(0));
        }
        self.next_change()
    }

    /// When time alone may make another lane ready.
    pub fn next_change(&self) -> Option<UnixMs> {
        let early = self.early.first().map(|(head, _)| *head);
        let opening = self.openings.first().map(|(at, _)| *at);
        early.into_iter().chain(opening).min()
    }

    #[cfg(feature = "native")]
    /// Every lane: its name, how many wait in it, and the time of the first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64, UnixMs)> {
        self.lanes.iter().map(|(name, lane)| (&**name, lane.jobs, lane.head))
    }
}

/// `SortedSet::pop_first`, where the first is as it should be.
trait PopFirstIf<T> {
    fn pop_first_if(&mut self, wanted: impl FnOnce(&T) -> bool) -> Option<T>;
}

impl<T: Ord> PopFirstIf<T> for SortedSet<T> {
    fn pop_first_if(&mut self, wanted: impl FnOnce(&T) -> bool) -> Option<T> {
        if self.first().is_some_and(wanted) {
            self.pop_first()
        } else {
            None
        }
    }
}
