//! The executor: runs take their time, say how far they are, fail, fall silent, answer twice or late.

use tidegate_protocol::calls::executor::{Execute, Outcome};
use tidegate_protocol::calls::jobs::{Call, Reply};
use tidegate_protocol::calls::reporting::{MetadataPatch, Notes, PatchOp, Written};
use tidegate_protocol::event::{JsonText, Payload, Progress};
use tidegate_protocol::ids::{FencingToken, JobId, StreamName};
use tidegate_protocol::{Error, ErrorCode};

use crate::world::{Check, Event, From, World};

/// One run of one attempt.
pub struct Attempt {
    pub execute: Execute,
    pub shard: usize,
    /// The life of the object that waits for the outcome.
    pub life: u64,
    percentage: f64,
    moves: u64,
    checkpointed: bool,
    noted: u64,
    /// Whether a worker makes it: it outlives the object, and says its outcome to whoever is there.
    pub away: bool,
}

impl Attempt {
    /// The next notes: text of one stream or two, and at times a change of the metadata.
    fn notes(&mut self, roll: u64) -> Notes {
        self.noted += 1;
        let mut notes = Notes {
            number: Some(self.noted),
            ..Notes::default()
        };
        for (name, there) in [("log", true), ("tokens", roll.is_multiple_of(2))] {
            if let Some(stream) = StreamName::parse(name).filter(|_| there) {
                let chunk = format!("{} of {};", self.noted, self.execute.token.0);
                notes.output.push(Written { stream, chunk });
            }
        }
        if let Some(value) = JsonText::parse("1").filter(|_| roll.is_multiple_of(4)) {
            notes.metadata_patch.push(MetadataPatch {
                op: PatchOp::Increment,
                key: "noted".into(),
                value,
            });
        }
        notes
    }
}

impl World {
    pub fn execute(&mut self, shard: usize, execute: Execute) {
        self.attempt(shard, execute, false);
    }

    /// An attempt begins, here or at a worker.
    pub fn attempt(&mut self, shard: usize, execute: Execute, away: bool) {
        if self.fault(40) {
            self.counters.attempts_lost += 1;
            return;
        }
        let doubled = self.fault(25);
        if doubled {
            self.counters.attempts_doubled += 1;
        }
        for _ in 0..=u8::from(doubled) {
            let id = self.id();
            let moves = if self.faults {
                self.random.below(8)
            } else {
                self.random.below(3)
            };
            let life = self.shards[shard].life;
            let attempt = Attempt {
                execute: execute.clone(),
                shard,
                life,
                percentage: 0.0,
                moves,
                checkpointed: false,
                noted: 0,
                away,
            };
            self.attempts.insert(id, attempt);
            let ms = self.latency();
            self.after(ms, Event::Attempt { id });
        }
    }

    pub fn attempt_goes_on(&mut self, id: u64) -> Check {
        let (hangs, faults) = (self.fault(25), self.faults);
        let (roll, jump) = (self.random.below(100), self.random.below(40) as f64);
        let Some(attempt) = self.attempts.get_mut(&id) else {
            return Ok(());
        };
        if hangs {
            self.attempts.remove(&id);
            self.counters.attempts_hung += 1;
            return Ok(());
        }
        if attempt.moves == 0 {
            return self.attempt_ends(id);
        }
        attempt.moves -= 1;
        let (job, token, shard) = (attempt.execute.job, attempt.execute.token, attempt.shard);
        // A handler may say that it went back; clients must not see it.
        attempt.percentage = if roll < 10 {
            attempt.percentage / 2.0
        } else {
            (attempt.percentage + jump).min(100.0)
        };
        let percentage = attempt.percentage;
        let saves = (60..75).contains(&roll);
        attempt.checkpointed |= saves;
        let notes = roll.is_multiple_of(3).then(|| attempt.notes(roll));
        let number = self.id();
        let progress = (roll < 75).then(|| Progress {
            percentage,
            message: (roll % 2 == 0).then(|| format!("step {number}")),
            metadata: None,
        });
        let checkpoint = saves.then(|| format!("checkpoint-{number}"));
        self.call_jobs(
            shard,
            Call::Report {
                job,
                token,
                progress,
                checkpoint,
                notes: notes.clone(),
            },
            From::Attempt(id),
        )?;
        // One that does not know whether its report has arrived sends the notes again.
        if notes.is_some() && self.random.permille(200) {
            let (progress, checkpoint) = (None, None);
            let again = Call::Report {
                job,
                token,
                progress,
                checkpoint,
                notes,
            };
            self.call_jobs(shard, again, From::Attempt(id))?;
        }
        let ms = if faults && self.random.permille(40) {
            self.random.within(2000..=9000)
        } else {
            self.random.within(10..=900)
        };
        self.after(ms, Event::Attempt { id });
        Ok(())
    }

    fn attempt_ends(&mut self, id: u64) -> Check {
        let Some(attempt) = self.attempts.remove(&id) else {
            return Ok(());
        };
        let Attempt {
            execute,
            shard,
            life,
            checkpointed,
            away,
            ..
        } = attempt;
        let (job, token) = (execute.job, execute.token);
        let number = self.id();
        let outcome = match self.random.below(100) {
            0..=13 if self.faults => {
                let error = Error {
                    retryable: true,
                    ..Error::new(ErrorCode::UpstreamError, "try again")
                };
                let error = if number.is_multiple_of(4) {
                    error.retry_after(4000)
                } else {
                    error
                };
                Outcome::Failed { error }
            }
            14..=21 if self.faults => Outcome::Failed {
                error: Error::new(ErrorCode::UpstreamError, "never"),
            },
            22..=32 if self.faults && checkpointed => Outcome::Unfinished,
            33..=40 if self.faults => Outcome::Snoozed {
                ms: self.random.below(5000),
            },
            _ => {
                let text = format!(
                    "{{\"of\":\"{}/{}\",\"job\":\"{job}\",\"token\":{},\"run\":{number}}}",
                    self.tenants[self.shards[shard].tenant].id, execute.user, token.0
                );
                Outcome::Succeeded {
                    result: Payload::Inline(JsonText::parse(&text).ok_or("a result is JSON")?),
                }
            }
        };
        let mut ms = self.latency();
        if self.fault(40) {
            self.counters.outcomes_late += 1;
            ms += self.random.within(3000..=30_000);
        }
        let doubled = self.fault(40);
        let again = if doubled { self.random.below(4000) } else { 0 };
        self.counters.outcomes_doubled += u64::from(doubled);
        for at in [Some(ms), doubled.then_some(ms + again)].into_iter().flatten() {
            let outcome = outcome.clone();
            let event = if away {
                Event::ToJobs {
                    shard,
                    call: Box::new(Call::Finish { job, token, outcome }),
                    from: From::Nobody,
                    number: self.id(),
                }
            } else {
                Event::Outcome {
                    shard,
                    life,
                    job,
                    token,
                    outcome,
                }
            };
            self.after(at, event);
        }
        Ok(())
    }

    /// An outcome comes back as the answer to the object's own call, so that it dies with the object.
    pub fn outcome_came(
        &mut self,
        shard: usize,
        life: u64,
        job: JobId,
        token: FencingToken,
        outcome: Outcome,
    ) -> Check {
        if !self.shards[shard].lives(life) {
            self.counters.outcomes_lost += 1;
            return Ok(());
        }
        self.jobs_turn_for(shard, Call::Finish { job, token, outcome }, From::Nobody)
    }

    /// What an attempt is told in answer to a report.
    pub fn attempt_told(&mut self, id: u64, reply: &Result<Reply, Error>) {
        let lost = matches!(reply, Err(error) if error.code == ErrorCode::LeaseLost);
        // Some do not listen, and go on: their tokens must be worth nothing.
        if lost && !self.random.permille(200) {
            self.attempts.remove(&id);
        }
        let cancelled = matches!(
            reply,
            Ok(Reply::Continue {
                cancelled_until: Some(_),
                ..
            })
        );
        if cancelled && let Some(attempt) = self.attempts.get_mut(&id) {
            self.counters.attempts_asked_to_stop += 1;
            // Most listen, and end with their next move.
            if self.random.permille(700) {
                attempt.moves = 0;
            }
        }
    }

    pub fn abandoned(&mut self, job: JobId, token: FencingToken) -> Check {
        if !self.random.permille(200) {
            self.attempts
                .retain(|_, attempt| attempt.execute.job != job || attempt.execute.token != token);
        }
        Ok(())
    }

    /// The object died: some of its runs die with it, others go on and find nobody.
    pub fn attempts_orphaned(&mut self, shard: usize) {
        let orphans: Vec<u64> = self
            .attempts
            .iter()
            .filter(|(_, attempt)| attempt.shard == shard && !attempt.away)
            .map(|(id, _)| *id)
            .collect();
        for id in orphans {
            if self.random.permille(500) {
                self.attempts.remove(&id);
                self.counters.attempts_killed += 1;
            }
        }
    }
}
