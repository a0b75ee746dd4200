//! Workers on sockets: jobs that they lease, and what their attempts say.
//!
//! A `lease` is one call with an end, as over HTTP: the hub asks the shards for it, and forgets it with its answer. A worker
//! asks again when it was answered; so no wish outlives the hub's memory, and a hub without workers sleeps. What was dealt to a
//! socket that has gone meanwhile is given back, and costs no attempt.

use alloc::format;
use alloc::vec::Vec;

use tidegate_protocol::calls::executor::{Execute, Outcome};
use tidegate_protocol::calls::jobs::{Call, LeaseJobs, Reply};
use tidegate_protocol::frames::ServerFrame;
use tidegate_protocol::http::{LeaseBody, LeaseRenewed};
use tidegate_protocol::ids::{ConnectionId, PoolName, RequestId, ShardIndex};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::outgoing::{send, send_error};
use super::pending::{Asked, Asker, Question};
use super::{Effect, Hub, Moment};
use crate::leasing::{Ask, Search};
use tidegate_protocol::SortedMap;

/// Calls for jobs that one socket may have under way. A worker needs one for each of its pools, and one to leave.
pub const LEASES_MAX: usize = 16;

/// An attempt that a worker is to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Dealt {
    /// The shard that holds its job.
    pub shard: ShardIndex,
    /// The attempt.
    pub job: Execute,
    /// From when on its lease runs.
    pub leased_at: UnixMs,
}

/// A call of a worker that is under way.
#[derive(Debug, Clone)]
struct Lease {
    to: ConnectionId,
    request_id: RequestId,
    pool: PoolName,
    body: LeaseBody,
    search: Search,
    /// Shards whose answers are awaited.
    open: usize,
    jobs: Vec<Dealt>,
    refused: Option<Error>,
}

/// All of them, by a number of this instance.
#[derive(Debug, Clone, Default)]
pub(super) struct Leases {
    calls: SortedMap<u64, Lease>,
    next: u64,
}

impl Hub {
    /// A worker asks for jobs.
    pub(super) fn lease(
        &mut self,
        moment: &mut Moment<'_>,
        from: &ConnectionId,
        request_id: RequestId,
        pool: PoolName,
        body: LeaseBody,
        effects: &mut Vec<Effect>,
    ) {
        let works = self
            .sessions
            .get(from)
            .is_some_and(|session| session.principal.scopes.contains("jobs:work"));
        let own = self.leases.calls.values().filter(|lease| lease.to == *from).count();
        let error = if !works {
            Error::new(
                ErrorCode::Forbidden,
                "Running a tenant's jobs takes the scope `jobs:work`.",
            )
        } else if own >= LEASES_MAX {
            let message = format!("This socket has {LEASES_MAX} calls for jobs under way.");
            Error::new(ErrorCode::RateLimited, message).retry_after(1000)
        } else {
            let until = moment.now.plus(body.wait_ms);
            let search = Search::new(self.spreads.shards(), body.max, until, (moment.random)());
            let lease = Lease {
                to: from.clone(),
                request_id,
                pool,
                body,
                search,
                open: 0,
                jobs: Vec::new(),
                refused: None,
            };
            let number = self.leases.next;
            self.leases.next += 1;
            self.leases.calls.insert(number, lease);
            return self.go_on(moment.now, number, effects);
        };
        effects.push(send_error(from, Some(request_id), error, moment.now));
    }

    /// Asks the next shards, or answers where there are none.
    fn go_on(&mut self, now: UnixMs, number: u64, effects: &mut Vec<Effect>) {
        let Some(lease) = self.leases.calls.get_mut(&number) else {
            return;
        };
        let listens = self.sessions.contains_key(&lease.to);
        let asks = if listens && lease.refused.is_none() {
            lease.search.next(now)
        } else {
            Vec::new()
        };
        if asks.is_empty() {
            if let Some(lease) = self.leases.calls.remove(&number) {
                self.answer_lease(now, lease, listens, effects);
            }
            return;
        }
        self.ask(number, &asks, effects);
    }

    fn ask(&mut self, number: u64, asks: &[Ask], effects: &mut Vec<Effect>) {
        for ask in asks {
            let Some(lease) = self.leases.calls.get_mut(&number) else {
                return;
            };
            lease.open += 1;
            let call = Call::Lease(LeaseJobs {
                pool: lease.pool.clone(),
                worker: lease.body.worker.clone(),
                max: ask.max,
                actions: lease.body.actions.clone(),
                wait_ms: ask.wait_ms,
            });
            let asked = Asked {
                asker: Asker::Worker(number, ask.shard),
                request_id: lease.request_id.clone(),
                question: Question::Lease,
            };
            self.call(asked, ask.shard, call, effects);
        }
    }

    /// A shard answered a call of a worker.
    pub(super) fn dealt(
        &mut self,
        now: UnixMs,
        number: u64,
        shard: ShardIndex,
        reply: Result<Reply, Error>,
        effects: &mut Vec<Effect>,
    ) {
        // What was given back finds nobody.
        let Some(lease) = self.leases.calls.get_mut(&number) else {
            return;
        };
        lease.open = lease.open.saturating_sub(1);
        let mut ended = Vec::new();
        match reply {
            Ok(Reply::Leased { jobs, now: leased_at }) => {
                ended = lease.search.answered(shard, jobs.len());
                lease
                    .jobs
                    .extend(jobs.into_iter().map(|job| Dealt { shard, job, leased_at }));
            }
            Ok(_) => {
                lease.refused = Some(Error::new(
                    ErrorCode::InternalError,
                    "A shard answered another question.",
                ))
            }
            Err(error) => lease.refused = Some(error),
        }
        let open = lease.open;
        self.ask(number, &ended, effects);
        if open == 0 && ended.is_empty() {
            self.go_on(now, number, effects);
        }
    }

    fn answer_lease(&mut self, now: UnixMs, lease: Lease, listens: bool, effects: &mut Vec<Effect>) {
        let Lease {
            to,
            request_id,
            jobs,
            refused,
            ..
        } = lease;
        if !listens {
            return self.give_back(to, &request_id, jobs, effects);
        }
        // One shard that cannot be reached keeps nothing of the others from the worker.
        match refused.filter(|_| jobs.is_empty()) {
            Some(error) => effects.push(send_error(&to, Some(request_id), error, now)),
            None => effects.push(Effect::Lease { to, request_id, jobs }),
        }
    }

    /// Nobody is there to make these attempts: others may, at once.
    fn give_back(&mut self, from: ConnectionId, request_id: &RequestId, jobs: Vec<Dealt>, effects: &mut Vec<Effect>) {
        for Dealt { shard, job, .. } in jobs {
            let asked = Asked {
                asker: Asker::Socket(from.clone(), None),
                request_id: request_id.clone(),
                question: Question::Lease,
            };
            let call = Call::Finish {
                job: job.job,
                token: job.token,
                outcome: Outcome::Snoozed { ms: 0 },
            };
            self.call(asked, shard, call, effects);
        }
    }

    /// What an attempt said was taken or refused: `None` is an end that was taken.
    pub fn attempted(
        &self,
        now: UnixMs,
        to: &ConnectionId,
        request_id: RequestId,
        result: Result<Option<LeaseRenewed>, Error>,
    ) -> Vec<Effect> {
        if !self.sessions.contains_key(to) {
            return Vec::new();
        }
        alloc::vec![match result {
            Ok(Some(lease)) => send(to, &ServerFrame::Renewed { request_id, lease }),
            Ok(None) => send(to, &ServerFrame::Ok { request_id }),
            Err(error) => send_error(to, Some(request_id), error, now),
        }]
    }
}
