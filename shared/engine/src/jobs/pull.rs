//! Jobs for workers elsewhere: they wait in the lanes of their pool, and go to whoever asks for them.
//!
//! A worker's call waits like any other that waits: in memory, bounded, until a turn finds a job for it or its time is
//! over. Jobs are dealt out one by one between the calls that wait, in the order in which these came. The answer may be lost on
//! the way, or its caller be gone: the end of the lease mends that. A worker that asks anew is told apart by its name, and
//! the call that it left behind gets nothing more.

use alloc::string::String;
use alloc::vec::Vec;

use tidegate_protocol::calls::executor::Execute;
use tidegate_protocol::calls::jobs::{LeaseJobs, Reply};
use tidegate_protocol::event::Payload;
use tidegate_protocol::http::{PoolQueue, WorkerSeen};
use tidegate_protocol::ids::{ActionName, FencingToken, JobId, PoolName};
use tidegate_protocol::time::UnixMs;

use super::enqueue::busy;
use super::heads::Heads;
use super::row::payload;
use super::state::State;
use super::{CallId, TURN_ROWS_MAX, Turn};
use crate::database::{Database, DatabaseError};
use tidegate_protocol::{SortedMap, SortedSet};

/// Jobs that workers hold at once in one object. Each is a row in memory, and an alarm looks at each.
pub const LEASED_MAX: usize = 1000;
/// Calls of workers that wait in one object. Each holds an open request of some KiB.
pub const POLLS_MAX: usize = 1000;
/// How long a worker is shown after its last call. Milliseconds.
pub const WORKER_SEEN_MS: u64 = 60_000;
/// Workers remembered in one object at most.
const WORKERS_MAX: usize = 1000;
/// Pools, and workers of a pool, shown at most.
const SHOWN_MAX: usize = 100;

/// A call of a worker that waits.
#[derive(Debug, Clone, PartialEq)]
struct Poll {
    pool: PoolName,
    worker: String,
    max: usize,
    actions: Option<Vec<ActionName>>,
    deadline: UnixMs,
    /// What it was dealt in this turn.
    jobs: Vec<Execute>,
}

/// What an object remembers of workers. Nothing of it is stored: who waits asks again.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Pull {
    polls: SortedMap<CallId, Poll>,
    seen: SortedMap<(PoolName, String), UnixMs>,
    /// A turn dealt as much as one turn may, and left the rest to the next.
    goes_on_at: Option<UnixMs>,
}

impl Pull {
    fn note(&mut self, pool: &PoolName, worker: &str, now: UnixMs) {
        if self.seen.len() >= WORKERS_MAX {
            self.seen.retain(|_, at| now.since(*at) < WORKER_SEEN_MS);
        }
        if self.seen.len() < WORKERS_MAX {
            self.seen.insert((pool.clone(), worker.into()), now);
        }
    }

    /// Whether a worker waits for jobs of `pool`, or asked for some a moment ago and may again.
    pub fn is_asked(&self, pool: &PoolName, now: UnixMs) -> bool {
        let seen = self.seen.range((pool.clone(), String::new())..);
        let mut seen = seen.take_while(|((of, _), _)| of == pool);
        seen.any(|(_, at)| now.since(*at) < WORKER_SEEN_MS) || self.polls.values().any(|poll| poll.pool == *pool)
    }

    fn waits_at(&self, pool: &PoolName, worker: &str) -> bool {
        self.polls
            .values()
            .any(|poll| poll.pool == *pool && poll.worker == worker)
    }
}

impl State {
    /// When a worker of the pool last asked for jobs here, as far back as workers are shown.
    pub(super) fn asked_at(&self, pool: &PoolName, now: UnixMs) -> Option<UnixMs> {
        if self.pull.polls.values().any(|poll| poll.pool == *pool) {
            return Some(now);
        }
        let seen = self.pull.seen.iter();
        let seen = seen.filter(|((of, _), at)| of == pool && now.since(**at) < WORKER_SEEN_MS);
        seen.map(|(_, at)| *at).max()
    }

    /// How many more jobs may be leased to workers.
    fn leases_left(&self) -> usize {
        if !self.spread.is_awake() {
            return 0;
        }
        LEASED_MAX.saturating_sub(self.gates.pulled())
    }

    /// Whether one more job may be leased to a worker.
    pub(super) fn has_lease(&self) -> bool {
        self.leases_left() > 0
    }

    /// When a call of a worker has waited long enough, or a job for one may be there.
    pub(super) fn next_poll(&self) -> Option<UnixMs> {
        let polls = self.pull.polls.values();
        let ends = polls.clone().map(|poll| poll.deadline);
        // What is ready already was offered to every call that waits.
        let jobs = polls.filter_map(|poll| self.lanes.next_time_in(&poll.pool));
        let jobs = jobs.filter(|_| self.has_lease());
        ends.chain(jobs).chain(self.pull.goes_on_at).min()
    }

    /// The pools in which jobs wait, are leased, or are asked for; of each, its workers of the last minute.
    pub(super) fn pools(&self, now: UnixMs) -> Vec<PoolQueue> {
        let known = self.lanes.pools().chain(self.gates.pulled_pools().cloned());
        let seen = self.pull.seen.iter();
        let seen =
            seen.filter(|((pool, worker), at)| now.since(**at) < WORKER_SEEN_MS || self.pull.waits_at(pool, worker));
        let mut workers: SortedMap<PoolName, Vec<WorkerSeen>> = known.map(|pool| (pool, Vec::new())).collect();
        for ((pool, worker), at) in seen {
            let of_pool = workers.entry(pool.clone()).or_default();
            if of_pool.len() < SHOWN_MAX {
                of_pool.push(WorkerSeen {
                    worker: worker.clone(),
                    seen_at: *at,
                });
            }
        }
        let pools = workers.into_iter().take(SHOWN_MAX);
        pools
            .map(|(pool, workers)| PoolQueue {
                waiting: self.lanes.jobs_in(&pool),
                leased: self.gates.pulled_in(&pool).into(),
                workers,
                pool,
            })
            .collect()
    }
}

impl<D: Database> Turn<'_, D> {
    /// A worker asks for jobs. It is answered by this turn where there are some, or when its time is over.
    pub(super) fn lease(&mut self, call: CallId, asked: LeaseJobs) -> Result<(), DatabaseError> {
        // The answer to an older call of this worker would reach nobody.
        let left: Vec<CallId> = self.polls_where(|poll| poll.pool == asked.pool && poll.worker == asked.worker);
        for older in left {
            self.answer_poll(older);
        }
        if asked.max == 0 {
            self.state.pull.seen.remove(&(asked.pool, asked.worker));
            let (jobs, now) = (Vec::new(), self.now);
            self.reply(call, Ok(Reply::Leased { jobs, now }));
            return Ok(());
        }
        if self.state.pull.polls.len() >= POLLS_MAX {
            self.reply(call, Err(busy()));
            return Ok(());
        }
        self.state.pull.note(&asked.pool, &asked.worker, self.now);
        let poll = Poll {
            pool: asked.pool,
            worker: asked.worker,
            max: usize::try_from(asked.max).unwrap_or(usize::MAX),
            actions: asked.actions,
            deadline: self.now.plus(asked.wait_ms),
            jobs: Vec::new(),
        };
        self.state.pull.polls.insert(call, poll);
        self.touch_standing();
        Ok(())
    }

    /// Deals jobs to the calls that wait, and answers those that have some or whose time is over. Part of every turn: any
    /// may have made a job ready.
    pub(super) fn serve(&mut self) -> Result<(), DatabaseError> {
        if self.state.pull.polls.is_empty() {
            return Ok(());
        }
        self.state.pull.goes_on_at = None;
        let pools: SortedSet<PoolName> = self.state.pull.polls.values().map(|poll| poll.pool.clone()).collect();
        for pool in pools {
            self.deal(&pool)?;
        }
        let now = self.now;
        for call in self.polls_where(|poll| !poll.jobs.is_empty() || poll.deadline <= now) {
            self.answer_poll(call);
        }
        Ok(())
    }

    fn deal(&mut self, pool: &PoolName) -> Result<(), DatabaseError> {
        let mut hungry = self.polls_where(|poll| poll.pool == *pool);
        let mut heads = Heads::new();
        let mut turns = TURN_ROWS_MAX;
        while !hungry.is_empty() {
            for call in core::mem::take(&mut hungry) {
                let Some(execution) = self.next_for(call, pool, &mut heads, &mut turns)? else {
                    continue;
                };
                let Some(poll) = self.state.pull.polls.get_mut(&call) else {
                    continue;
                };
                poll.jobs.push(execution);
                if poll.jobs.len() < poll.max {
                    hungry.push(call);
                }
            }
        }
        if turns == 0 {
            self.state.pull.goes_on_at = Some(self.now.plus(1));
        }
        Ok(())
    }

    /// Claims the next job that the call may have.
    fn next_for(
        &mut self,
        call: CallId,
        pool: &PoolName,
        heads: &mut Heads,
        turns: &mut u64,
    ) -> Result<Option<Execute>, DatabaseError> {
        while *turns > 0 && self.state.has_lease() {
            let only = self
                .state
                .pull
                .polls
                .get(&call)
                .and_then(|poll| poll.actions.as_deref());
            let Some(lane) = self.state.lanes.next_in(pool, only, &self.state.gates, self.now) else {
                return Ok(None);
            };
            *turns -= 1;
            match heads.take((self.db, self.state), &lane, self.now, 1)? {
                Some((job, payload)) => {
                    if let Some(execution) = self.claim(job, payload, None)? {
                        return Ok(Some(*execution));
                    }
                }
                None => self.look_again(&lane)?,
            }
        }
        Ok(None)
    }

    fn polls_where(&self, wanted: impl Fn(&Poll) -> bool) -> Vec<CallId> {
        let polls = self.state.pull.polls.iter();
        polls.filter(|(_, poll)| wanted(poll)).map(|(call, _)| *call).collect()
    }

    fn answer_poll(&mut self, call: CallId) {
        if let Some(poll) = self.state.pull.polls.remove(&call) {
            self.state.pull.note(&poll.pool, &poll.worker, self.now);
            let reply = Reply::Leased {
                jobs: poll.jobs,
                now: self.now,
            };
            self.reply(call, Ok(reply));
        }
    }

    /// The input of the attempt that holds the lease `token`: for one that was too large to come with it.
    pub(super) fn input(&mut self, call: CallId, id: JobId, token: FencingToken) -> Result<(), DatabaseError> {
        let reply = if self.holds(id, token) {
            let payload: Payload = payload(self.db, id.number())?;
            Ok(Reply::Result { result: payload })
        } else {
            Err(self.lease_lost(id, token)?)
        };
        self.reply(call, reply);
        Ok(())
    }
}
