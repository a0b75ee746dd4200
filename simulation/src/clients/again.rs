//! What a client does about jobs that came to nothing: retries them, redrives and discards dead letters, cancels many.

use tidegate_protocol::calls::jobs::{Call, Change, Filter, ManyAction, Reply, Selection};
use tidegate_protocol::event::{JsonText, Payload};
use tidegate_protocol::http::BulkItem;
use tidegate_protocol::ids::JobId;
use tidegate_protocol::{Error, ErrorCode};

use crate::world::{Check, From, World};

impl World {
    /// Does something about what came to nothing: mostly a client that has such jobs.
    pub(super) fn try_again(&mut self, client: usize) -> Check {
        let all = 0..self.clients.len();
        let with: Vec<usize> = all.filter(|client| !self.failed_jobs(*client).is_empty()).collect();
        let client = match self.random.index(with.len()) {
            Some(at) if self.random.permille(800) => with[at],
            _ => client,
        };
        match self.random.below(20) {
            15.. => self.ask_about_batch(client),
            12.. => self.change_one(client),
            0..=4 => self.retry(client),
            5..=8 => self.change_many(client),
            _ => self.list_dead_letters(client),
        }
    }

    /// Retries a job, at times with another payload, and at times one that belongs to somebody else.
    fn retry(&mut self, client: usize) -> Check {
        let foreign = self.random.permille(100);
        let job = if foreign {
            self.foreign_job(client)
        } else if self.random.permille(500) {
            self.failed_job(client)
        } else if self.random.permille(700) {
            self.waiting_job(client)
        } else {
            self.some_job(client)
        };
        let Some(job) = job else { return Ok(()) };
        let payload = self.random.permille(250).then(|| self.other_payload(client, job));
        let caller = self.principal(client, usize::MAX).caller();
        let call = Call::Retry { job, caller, payload };
        let from = if foreign {
            From::Probe { client, foreign }
        } else {
            From::Retry { client, job }
        };
        let shard = self.shard_of_job(client, job);
        // At times twice, as a client does that was not answered in time.
        for _ in 0..self.random.within(1..=2) {
            self.call_jobs(shard, call.clone(), from.clone())?;
        }
        Ok(())
    }

    /// Pauses, resumes or reschedules a job: mostly one that waits, of a client that has such jobs.
    fn change_one(&mut self, client: usize) -> Check {
        let all = 0..self.clients.len();
        let with: Vec<usize> = all.filter(|client| self.has_waiting_job(*client)).collect();
        let client = match self.random.index(with.len()) {
            Some(at) if self.random.permille(700) => with[at],
            _ => client,
        };
        let job = match self.random.below(10) {
            0..=4 => self.waiting_job(client),
            5..=7 => self.paused_job(client),
            _ => self.some_job(client),
        };
        let Some(job) = job else { return Ok(()) };
        let change = match self.random.below(4) {
            0 | 1 => Change::Pause,
            2 => Change::Resume,
            _ => Change::Reschedule(self.clock().plus(self.random.below(6000))),
        };
        let caller = self.principal(client, usize::MAX).caller();
        let shard = self.shard_of_job(client, job);
        self.call_jobs(shard, Call::Change { job, caller, change }, From::Retry { client, job })
    }

    fn has_waiting_job(&self, client: usize) -> bool {
        self.clients[client].jobs.keys().any(|job| self.oracle.waits(*job))
    }

    /// A job of this client that is held back.
    fn paused_job(&mut self, client: usize) -> Option<JobId> {
        let jobs = self.clients[client].jobs.keys().copied();
        let paused: Vec<JobId> = jobs.filter(|job| self.oracle.holds(*job)).collect();
        self.random.index(paused.len()).map(|at| paused[at])
    }

    /// A job of this client that ended without a result.
    fn failed_job(&mut self, client: usize) -> Option<JobId> {
        let failed = self.failed_jobs(client);
        self.random.index(failed.len()).map(|at| failed[at])
    }

    /// A job of this client that waits for its time.
    fn waiting_job(&mut self, client: usize) -> Option<JobId> {
        let jobs = self.clients[client].jobs.keys().copied();
        let waiting: Vec<JobId> = jobs.filter(|job| self.oracle.waits(*job)).collect();
        self.random.index(waiting.len()).map(|at| waiting[at])
    }

    fn failed_jobs(&self, client: usize) -> Vec<JobId> {
        let jobs = self.clients[client].jobs.keys().copied();
        jobs.filter(|job| self.oracle.came_to_nothing(*job)).collect()
    }

    fn other_payload(&mut self, client: usize, job: JobId) -> Payload {
        let (mark, n) = (self.clients[client].mark.clone(), self.random.below(3));
        let text = format!("{{\"of\":\"{mark}\",\"other\":{n}}}");
        let text = JsonText::parse(&text).expect("JSON");
        if self.random.permille(500) {
            self.store_redriven(job, text)
        } else {
            Payload::Inline(text)
        }
    }

    /// Does the same to several jobs of one shard, by a filter or by name.
    fn change_many(&mut self, client: usize) -> Check {
        let caller = self.principal(client, usize::MAX).caller();
        let tenant = self.clients[client].tenant;
        let (first, shards) = (
            self.tenants[tenant].first_shard,
            u64::from(self.describe(tenant)?.reach()),
        );
        let mut shard = first + self.random.below(shards) as usize;
        let action = match self.random.below(10) {
            0..=3 => ManyAction::Redrive {
                payload: None,
                start: self.clock(),
                interval_us: self.random.below(3) * 700_000,
            },
            4..=7 => ManyAction::Discard,
            _ => ManyAction::Cancel,
        };
        let mut which = Selection::Filter(Filter {
            limit: self.random.within(1..=4) as u32,
            ..Filter::default()
        });
        if self.random.permille(300)
            && let Some(job) = self.failed_job(client)
        {
            // Whoever changes several looks for each from owner to owner.
            shard = self.oracle.shard_of(job).unwrap_or(shard);
            which = Selection::Ids(vec![job]);
        }
        let call = Call::Many {
            caller,
            which,
            action,
            dry_run: self.random.permille(250),
        };
        self.call_jobs(shard, call, From::Many { client })
    }

    fn list_dead_letters(&mut self, client: usize) -> Check {
        // Most objects have none: who looks for them looks where a job failed.
        let failed = self.failed_job(client);
        let Some(job) = failed.or_else(|| self.some_job(client)) else {
            return Ok(());
        };
        let caller = self.principal(client, usize::MAX).caller();
        let filter = Filter {
            limit: 100,
            ..Filter::default()
        };
        let shard = self.shard_of_job(client, job);
        let foreign = false;
        self.call_jobs(
            shard,
            Call::DeadLetters { caller, filter },
            From::Probe { client, foreign },
        )
    }

    pub(super) fn retried(&mut self, client: usize, job: JobId, reply: Result<Reply, Error>) -> Check {
        match reply {
            Ok(Reply::Job(tried)) if tried.user == self.clients[client].user => {
                if tried.job_id != job {
                    self.oracle.check_redriven(job, tried.job_id)?;
                    if tried.redriven_from != Some(job) {
                        return Err(format!("{job} was redriven as {tried:?}"));
                    }
                }
                self.clients[client].jobs.entry(tried.job_id).or_default();
                Ok(())
            }
            Ok(other) => Err(format!("the retry of {job} was answered by {other:?}")),
            Err(error) if error.code == ErrorCode::Conflict => Ok(()),
            Err(error) => self.refused(client, Some(job), &error),
        }
    }

    pub(super) fn changed_many(&mut self, client: usize, reply: Result<Reply, Error>) -> Check {
        let jobs: Vec<BulkItem> = match reply {
            Ok(Reply::Many { jobs, .. }) => jobs,
            Ok(other) => return Err(format!("a change of several jobs was answered by {other:?}")),
            Err(_) => return Ok(()),
        };
        for item in jobs {
            if let Some(error) = &item.error {
                self.refused(client, Some(item.job_id), error)?;
            }
            if let Some(next) = item.redriven_to {
                self.oracle.check_redriven(item.job_id, next)?;
                self.clients[client].jobs.entry(next).or_default();
            }
        }
        Ok(())
    }
}
