//! The lanes of the jobs that the executor runs, and beside them those of each pool of workers.
//!
//! What holds a lane back is the same for all: a gate that opens is told to every one of them.

use alloc::string::String;
use alloc::vec::Vec;

use tidegate_protocol::ids::{ActionName, PoolName};
use tidegate_protocol::time::UnixMs;

use super::gates::{Gate, Gates, LimitKey};
use super::lanes::{LaneName, Lanes, Shape};
use tidegate_protocol::SortedMap;

/// All lanes with waiting jobs.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Queues {
    own: Lanes,
    /// By the pool's name. One without jobs is not kept.
    pools: SortedMap<String, Lanes>,
}

/// The pool that a lane belongs to, as the lane's name tells: empty for the executor's own.
fn pool_of(lane: &str) -> &str {
    lane.split_once('[').map_or("", |(pool, _)| pool)
}

impl Queues {
    fn all(&self) -> impl Iterator<Item = &Lanes> {
        core::iter::once(&self.own).chain(self.pools.values())
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Lanes> {
        core::iter::once(&mut self.own).chain(self.pools.values_mut())
    }

    /// Changes the lanes among which the lane `name` is.
    fn change(&mut self, name: &str, change: impl FnOnce(&mut Lanes)) {
        match pool_of(name) {
            "" => change(&mut self.own),
            pool => {
                if let Some(lanes) = self.pools.get_mut(pool) {
                    change(lanes);
                    if lanes.jobs() == 0 {
                        self.pools.remove(pool);
                    }
                }
            }
        }
    }

    /// How many jobs wait.
    pub fn jobs(&self) -> u64 {
        self.all().map(Lanes::jobs).sum()
    }

    /// How many jobs wait for a worker of `pool`.
    pub fn jobs_in(&self, pool: &PoolName) -> u64 {
        self.pools.get(pool.as_str()).map_or(0, Lanes::jobs)
    }

    /// How many jobs of the lane `name` wait.
    pub fn jobs_of(&self, name: &str) -> u64 {
        let lanes = match pool_of(name) {
            "" => Some(&self.own),
            pool => self.pools.get(pool),
        };
        lanes.map_or(0, |lanes| lanes.jobs_of(name))
    }

    /// The pools in which jobs wait.
    pub fn pools(&self) -> impl Iterator<Item = PoolName> {
        self.pools.keys().filter_map(|pool| PoolName::parse(pool))
    }

    /// When the job could have started that could have first, gates aside.
    pub fn oldest(&self) -> Option<UnixMs> {
        self.all().filter_map(Lanes::oldest).min()
    }

    /// How many jobs of each action wait.
    pub fn by_action(&self) -> impl Iterator<Item = (ActionName, u64)> {
        let mut sums: SortedMap<ActionName, u64> = SortedMap::new();
        for (action, jobs) in self.all().flat_map(Lanes::by_action) {
            *sums.entry(action.clone()).or_default() += jobs;
        }
        sums.into_iter()
    }

    /// One more job waits, from `due` on.
    pub fn add(&mut self, name: &str, shape: &Shape, due: UnixMs) {
        self.add_many(name, shape, due, 1);
    }

    /// `jobs` more wait, the first from `head` on.
    pub fn add_many(&mut self, name: &str, shape: &Shape, head: UnixMs, jobs: u64) {
        let lanes = match pool_of(name) {
            "" => &mut self.own,
            pool => self.pools.entry(pool.into()).or_default(),
        };
        lanes.add_many(name, shape, head, jobs);
    }

    /// See [`Lanes::remove`].
    pub fn remove(&mut self, name: &str, head: Option<UnixMs>) {
        self.change(name, |lanes| lanes.remove(name, head));
    }

    /// See [`Lanes::set_head`].
    pub fn set_head(&mut self, name: &str, head: UnixMs) {
        self.change(name, |lanes| lanes.set_head(name, head));
    }

    /// See [`Lanes::charge`].
    pub fn charge(&mut self, name: &str) {
        self.change(name, |lanes| lanes.charge(name));
    }

    /// The lane whose head the executor is to start next, if any may.
    pub fn next(&mut self, gates: &Gates, now: UnixMs) -> Option<LaneName> {
        self.own.next(gates, now, None)
    }

    /// The lane of `pool` whose head is to be leased next, if any may: of one of these actions, or of any.
    pub fn next_in(
        &mut self,
        pool: &PoolName,
        only: Option<&[ActionName]>,
        gates: &Gates,
        now: UnixMs,
    ) -> Option<LaneName> {
        self.pools.get_mut(pool.as_str())?.next(gates, now, only)
    }

    /// See [`Lanes::one_is_ready`], of those that the executor runs.
    pub fn one_is_ready(&self) -> bool {
        self.own.one_is_ready()
    }

    /// See [`Lanes::may_wait_beside`], of those that the executor runs.
    pub fn may_wait_beside(&self, shape: &Shape) -> bool {
        self.own.may_wait_beside(shape)
    }

    /// See [`Lanes::take_came`].
    pub fn take_came(&mut self) -> Vec<LimitKey> {
        self.all_mut().flat_map(Lanes::take_came).collect()
    }

    /// Every key of a limit at whose gate a lane stands.
    pub fn keys_held(&self) -> Vec<LimitKey> {
        self.all().flat_map(Lanes::keys_held).cloned().collect()
    }

    /// The lanes from which jobs start by now: the executor's where it has a place, and those of the pools for which
    /// workers wait.
    fn starting<'a>(&'a self, places: bool, asked: impl Fn(&str) -> bool + 'a) -> impl Iterator<Item = &'a Lanes> {
        let own = places.then_some(&self.own).into_iter();
        let pools = self.pools.iter().filter(move |(pool, _)| asked(pool));
        own.chain(pools.map(|(_, lanes)| lanes))
    }

    /// How many jobs stand at a gate, of those that may start by now; see [`Self::starting`].
    pub fn jobs_at(&self, gate: &Gate, places: bool, asked: impl Fn(&str) -> bool) -> u64 {
        self.starting(places, asked).map(|lanes| lanes.jobs_at(gate)).sum()
    }

    /// See [`Lanes::needs`] and [`Self::starting`].
    pub fn needs(&self, key: &LimitKey, places: bool, asked: impl Fn(&str) -> bool) -> bool {
        self.starting(places, asked).any(|lanes| lanes.needs(key))
    }

    /// See [`Lanes::stands_beyond`] and [`Self::starting`].
    pub fn stands_beyond(
        &self,
        key: &LimitKey,
        wanted: impl Fn(&LimitKey) -> bool,
        places: bool,
        asked: impl Fn(&str) -> bool,
    ) -> bool {
        self.starting(places, asked)
            .any(|lanes| lanes.stands_beyond(key, &wanted))
    }

    /// A gate may have opened.
    pub fn opened(&mut self, gate: &Gate) {
        self.all_mut().for_each(|lanes| lanes.opened(gate.clone()));
    }

    /// Any gate may have opened, because a rule has changed.
    pub fn all_opened(&mut self) {
        self.all_mut().for_each(Lanes::all_opened);
    }

    /// When the executor's next job may start, places permitting.
    pub fn next_time(&self) -> Option<UnixMs> {
        self.own.next_time()
    }

    /// When time alone makes a job of `pool` ready that is not ready now.
    pub fn next_time_in(&self, pool: &PoolName) -> Option<UnixMs> {
        self.pools.get(pool.as_str())?.next_change()
    }

    /// Every lane: its name, how many wait in it, and the time of the first.
    #[cfg(feature = "native")]
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64, UnixMs)> {
        self.all().flat_map(Lanes::iter)
    }
}
