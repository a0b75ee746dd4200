//! What a client asks over HTTP, and whether the answer is one that it may get.

use tidegate_protocol::calls::hub::{Prefer, Reply as HubReply};
use tidegate_protocol::calls::jobs::{Call, Filter, Reply};
use tidegate_protocol::ids::{JobId, Seq};
use tidegate_protocol::{Error, ErrorCode};

use crate::setting::AWAY;
use crate::world::{Check, Event, From, World};

impl World {
    pub(super) fn ask_over_http(&mut self, client: usize) -> Check {
        let (http, key) = (self.id(), self.key());
        let (name, body) = if self.random.permille(400) {
            self.some_batch(client, http)
        } else {
            (None, self.body(client, &format!("h{http}"), key))
        };
        let prefer = Prefer {
            respond_async: self.random.permille(200),
            wait_ms: self.random.permille(300).then(|| self.random.within(0..=4000)),
        };
        let hub = self.tenants[self.clients[client].tenant].first_hub + self.clients[client].hub;
        self.clients[client].http.insert(http);
        let ms = self.latency();
        self.after(
            ms,
            Event::HttpToHub {
                hub,
                client,
                http,
                body,
                key: name,
                prefer,
            },
        );
        Ok(())
    }

    /// A batch: without a name, under one, or one that was sent before, under the same name.
    fn some_batch(&mut self, client: usize, http: u64) -> (Option<String>, String) {
        if self.random.permille(400) {
            return (None, self.batch(client, http));
        }
        let name = format!("b{}", self.random.below(2));
        let again = self.random.permille(800);
        if let Some(body) = self.clients[client].named.get(&name).filter(|_| again) {
            self.counters.batches_repeated += 1;
            return (Some(name), body.clone());
        }
        let body = self.batch(client, http);
        self.clients[client].named.insert(name.clone(), body.clone());
        (Some(name), body)
    }

    /// The body of a batch: some requests, at times with the same key, and at times one that is nonsense.
    fn batch(&mut self, client: usize, http: u64) -> String {
        if self.random.permille(300) {
            return self.alike(client);
        }
        let mut items = Vec::new();
        for n in 0..self.random.within(1..=5) {
            let key = self.key();
            items.push(self.body(client, &format!("h{http}.{n}"), key));
        }
        if self.random.permille(200) {
            items.push("{\"nonsense\":1}".into());
        }
        format!("[{}]", items.join(","))
    }

    /// A batch of requests that differ in their input alone: those that wait for the same lie in one row.
    fn alike(&mut self, client: usize) -> String {
        let action = ["work", "back", "brief", AWAY][self.random.below(4) as usize];
        let delay = if self.random.permille(300) {
            format!(",\"delay_ms\":{}", self.random.within(1..=15_000))
        } else {
            String::new()
        };
        let mark = self.clients[client].mark.clone();
        let count = self.random.within(3..=8);
        let items: Vec<String> = (0..count)
            .map(|n| {
                format!(
                    "{{\"action\":\"{action}\",\"mode\":\"async\",\"payload\":{{\"of\":\"{mark}\",\"n\":{n}}}{delay}}}"
                )
            })
            .collect();
        format!("[{}]", items.join(","))
    }

    /// Looks at jobs over HTTP: one's own, a stranger's, a list.
    pub(super) fn look(&mut self, client: usize) -> Check {
        let caller = self.principal(client, usize::MAX).caller();
        let foreign = self.random.permille(400);
        let job = if foreign {
            self.foreign_job(client)
        } else {
            self.some_job(client)
        };
        let Some(job) = job else { return Ok(()) };
        let call = match self.random.below(3) {
            0 => Call::Get { job, caller },
            1 if foreign => Call::Cancel { job, caller },
            1 => Call::Result { job, caller },
            _ => Call::List {
                caller,
                filter: Filter {
                    limit: 10,
                    ..Filter::default()
                },
            },
        };
        let foreign = foreign && !matches!(call, Call::List { .. });
        let shard = self.shard_of_job(client, job);
        self.call_jobs(shard, call, From::Probe { client, foreign })
    }

    pub(super) fn watch(&mut self, client: usize) -> Check {
        match self.some_job(client) {
            Some(job) => self.watch_job(client, job),
            None => Ok(()),
        }
    }

    pub(super) fn watch_job(&mut self, client: usize, job: JobId) -> Check {
        let caller = self.principal(client, usize::MAX).caller();
        let known = self.clients[client].jobs.entry(job).or_default();
        if known.watched || known.ended {
            return Ok(());
        }
        known.watched = true;
        let after = Some(Seq(known.seq));
        let (wait_ms, until_end) = (self.random.within(0..=8000), self.random.permille(400));
        let shard = self.shard_of_job(client, job);
        self.call_jobs(
            shard,
            Call::Watch {
                job,
                caller,
                after,
                wait_ms,
                until_end,
            },
            From::Watch { client, job },
        )
    }

    /// A reply of a `Jobs` object reaches the one who called.
    pub fn jobs_replied(&mut self, to: From, reply: Result<Reply, Error>) -> Check {
        if let (Some(tenant), Ok(Reply::Elsewhere { .. })) = (self.tenant_of(&to), &reply)
            && let Ok(Reply::Elsewhere { shard, call }) = reply
        {
            let shard = self.tenants[tenant].first_shard + usize::from(shard.0);
            return self.call_jobs(shard, *call, to);
        }
        match to {
            From::Hub { hub, life, call } => self.hub_replied(hub, life, call, reply),
            From::Attempt(id) => {
                self.attempt_told(id, &reply);
                Ok(())
            }
            From::Watch { client, job } => self.watched(client, job, reply),
            From::Probe { client, foreign } => self.looked(client, foreign, reply),
            From::Gate { gate, version } => self.confirmed(gate, version, reply),
            From::Grow { gate, step, shard } => self.grown(gate, step, shard, reply),
            From::Retry { client, job } => self.retried(client, job, reply),
            From::Many { client } => self.changed_many(client, reply),
            From::Batch { client, foreign } => self.batch_told(client, foreign, reply),
            From::Worker { shard } => self.worker_told(shard, reply),
            From::Peer { shard, life, id } => self.peer_answered(shard, life, id, reply),
            From::Nobody => Ok(()),
        }
    }

    pub(super) fn watched(&mut self, client: usize, job: JobId, reply: Result<Reply, Error>) -> Check {
        let known = self.clients[client].jobs.entry(job).or_default();
        known.watched = false;
        match reply {
            Ok(Reply::Following {
                events,
                ended,
                snapshot,
                ..
            }) => {
                self.counters.watches_answered += 1;
                for event in &events {
                    if self.oracle.event(job, event.seq.0) != Some(event) {
                        return Err(format!("a watch of {job} saw {event:?}, which never happened"));
                    }
                    known.ended |= event.what.is_terminal();
                    known.seq = known.seq.max(event.seq.0);
                }
                known.seq = known.seq.max(snapshot.map_or(0, |snapshot| snapshot.seq.0));
                if ended && !self.clients[client].jobs[&job].ended {
                    return Err(format!("a watch of {job} saw it ended, but not its end"));
                }
                Ok(())
            }
            Err(error) => self.refused(client, Some(job), &error),
            Ok(other) => Err(format!("a watch was answered by {other:?}")),
        }
    }

    pub(super) fn looked(&mut self, client: usize, foreign: bool, reply: Result<Reply, Error>) -> Check {
        let user = &self.clients[client].user;
        match reply {
            Err(error) if error.code == ErrorCode::NotFound => self.counters.intrusions_refused += u64::from(foreign),
            Err(_) => {}
            Ok(Reply::Job(job)) if !foreign && job.user == *user => {}
            Ok(Reply::Jobs(page)) if page.jobs.iter().all(|job| job.user == *user) => {}
            Ok(Reply::DeadLetters(page)) if page.dead_letters.iter().all(|letter| letter.user == *user) => {}
            Ok(Reply::Result { .. } | Reply::Done) if !foreign => {}
            Ok(other) => return Err(format!("{} saw {other:?}", self.clients[client].mark)),
        }
        Ok(())
    }

    pub fn http_answered(&mut self, client: usize, http: u64, reply: Result<HubReply, Error>) -> Check {
        if !self.clients[client].http.remove(&http) {
            return Err(format!("request h{http} over HTTP was answered twice"));
        }
        self.counters.http_answered += 1;
        match reply {
            Ok(HubReply::Batch { answers, batch }) => {
                self.counters.batches_answered += 1;
                self.clients[client].batches.extend(batch);
                let mut answers = answers.into_iter();
                answers.try_for_each(|answer| self.http_told(client, http, answer.into_result()))
            }
            other => self.http_told(client, http, other),
        }
    }

    /// What became of one request over HTTP.
    fn http_told(&mut self, client: usize, http: u64, reply: Result<HubReply, Error>) -> Check {
        match reply {
            Ok(HubReply::Accepted(accepted)) => {
                self.oracle.check_acknowledged(accepted.job_id)?;
                let known = self.clients[client].jobs.entry(accepted.job_id).or_default();
                known.seq = known.seq.max(accepted.seq.0);
                Ok(())
            }
            Ok(HubReply::Answer { result, job, .. }) => match (result, job) {
                (Ok(data), Some(job)) => self.oracle.check_result(job, data.as_str()),
                (Ok(data), None) => self.only_own(client, data.as_str()),
                (Err(_), _) => Ok(()),
            },
            Err(error) if error.code == ErrorCode::NotFound => Err(format!("h{http}: {error}")),
            Err(error) => {
                self.counters.mismatched += u64::from(error.code == ErrorCode::IdempotencyMismatch);
                Ok(())
            }
            Ok(other) => Err(format!("h{http} was answered by {other:?}")),
        }
    }
}
