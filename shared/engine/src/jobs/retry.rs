//! Trying a job again: one that waits becomes due now, one that ended without a result is done again by a new job.
//!
//! An ended job stays ended. Old and new job lie in the same object and are changed in the same turn, so that a redrive
//! makes exactly one new job, however often it is asked for.

use alloc::boxed::Box;
use alloc::vec;

use sha2::{Digest, Sha256};
use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::hooks::Hook;
use tidegate_protocol::calls::jobs::{Enqueue, NewJob, Reply};
use tidegate_protocol::changes::ChangeKind;
use tidegate_protocol::event::{JobState, Payload};
use tidegate_protocol::http::{AuditTarget, AuditWhat};
use tidegate_protocol::ids::JobId;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode, Fault};

use super::follow::stored_key;
use super::letters::{redriven_to, set_redriven_to};
use super::ordered::{HELD, is_ordered};
use super::row::{Job, payload};
use super::trail::target;
use super::{CallId, Effect, Turn};
use crate::database::{Database, DatabaseError};

/// 128 bits that name `payload` as the input with which `job` is redriven.
///
/// Asking for the same redrive twice names it the same, so that the repetition stores nothing beside what is there, and
/// nothing has to be deleted that a job may have taken in the meantime.
pub fn payload_name(job: JobId, payload: &str) -> u128 {
    let mut hash = Sha256::new();
    hash.update(job.number().0.to_le_bytes());
    hash.update(job.tail().to_le_bytes());
    hash.update(payload.as_bytes());
    let digest = hash.finalize();
    digest
        .iter()
        .take(16)
        .fold(0, |name, byte| name << 8 | u128::from(*byte))
}

/// The job that does another one again, and whether this very call made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Redriven {
    pub job: JobId,
    pub fresh: bool,
}

impl<D: Database> Turn<'_, D> {
    /// Tries a job again, and shows the job that is tried: itself, or the new one.
    pub(super) fn retry(
        &mut self,
        call: CallId,
        id: JobId,
        caller: &Caller,
        replaced: Option<Payload>,
    ) -> Result<(), DatabaseError> {
        let tried = self.try_again(call, id, caller, replaced)?;
        let reply = match tried {
            Err(error) => Err(error),
            Ok(id) => match self.load(id)? {
                Some(job) => Ok(Reply::Job(Box::new(self.shown(&job)?))),
                None => Err(Error::not_found()),
            },
        };
        self.reply(call, reply);
        Ok(())
    }

    fn try_again(
        &mut self,
        call: CallId,
        id: JobId,
        caller: &Caller,
        replaced: Option<Payload>,
    ) -> Result<Result<JobId, Error>, DatabaseError> {
        let found = self.changeable(id, caller, "Retrying")?;
        let refusal = match found {
            Err(error) => error,
            Ok(job) => match job.state {
                JobState::Failed | JobState::Cancelled | JobState::Expired => {
                    let redriven = self.redrive(call, &job, replaced, None)?;
                    if let Ok(Redriven { job: next, fresh: true }) = redriven {
                        let target = AuditTarget {
                            redriven_to: Some(next),
                            ..target(id)
                        };
                        self.note(caller, AuditWhat::JobRetried, target, None)?;
                    }
                    return Ok(redriven.map(|redriven| redriven.job));
                }
                JobState::Scheduled | JobState::Queued | JobState::Retrying if replaced.is_none() => {
                    self.note_of_other(caller, AuditWhat::JobRetried, &job.spec.user, id)?;
                    self.make_due(job)?;
                    return Ok(Ok(id));
                }
                JobState::Scheduled | JobState::Queued | JobState::Retrying => {
                    let expected = "no payload: the job has not ended, and keeps its own";
                    let fault = Fault::new("/payload", expected, "a payload");
                    Error::invalid("The job cannot be retried that way.", vec![fault])
                }
                JobState::Paused => Error::new(ErrorCode::Conflict, "The job is paused: resume it first."),
                JobState::Running => {
                    let message = "The job is running: it can be tried again once it has ended.";
                    Error::new(ErrorCode::Conflict, message)
                }
                JobState::Succeeded => {
                    let message = "The job has succeeded: there is nothing to try again.";
                    Error::new(ErrorCode::Conflict, message)
                }
            },
        };
        Ok(Err(refusal))
    }

    /// A job that waits for its time need not wait any longer. One that waits for a place keeps its turn.
    fn make_due(&mut self, mut job: Job) -> Result<(), DatabaseError> {
        match job.state {
            JobState::Scheduled => job.state = JobState::Queued,
            JobState::Retrying => {}
            _ => return Ok(()),
        }
        job.changed_at = self.now;
        self.save(&job)?;
        if job.due_at.is_some_and(|due_at| due_at > self.now) {
            job.set_due(self.db, Some(self.now))?;
            self.wait_otherwise(&job)?;
        }
        self.note_change(&job, ChangeKind::Waiting, None);
        self.fill()
    }

    /// Does an ended job again by a new one, which takes its place in everything but its end. Asked again, it gives the
    /// same new job; another payload that comes with that is not used.
    pub(super) fn redrive(
        &mut self,
        call: CallId,
        old: &Job,
        replaced: Option<Payload>,
        run_at: Option<UnixMs>,
    ) -> Result<Result<Redriven, Error>, DatabaseError> {
        let number = old.id.number();
        if let Some(job) = redriven_to(self.db, number)? {
            return Ok(Ok(Redriven { job, fresh: false }));
        }
        if replaced.is_some() && matches!(old.spec.hook, Some(Hook::Tells(_))) {
            let expected = "no payload: what an endpoint is told, and is signed, stays as it was";
            let fault = Fault::new("/payload", expected, "a payload");
            return Ok(Err(Error::invalid("The job cannot be redriven that way.", vec![fault])));
        }
        let own = match &replaced {
            Some(_) => None,
            None => Some(payload(self.db, number)?),
        };
        // The rules of its limits are those of today: an old job brings no old ones back.
        let mut queueing = old.spec.queueing.clone();
        for counted in &mut queueing.limits {
            counted.rule = self.state.gates.whole(&counted.limit).unwrap_or(counted.rule);
        }
        let ordered = is_ordered(&old.spec);
        let gives_payload = own.as_ref().and_then(stored_key).is_some();
        let enqueue = Enqueue {
            job: NewJob {
                payload: replaced.or(own).unwrap_or_else(|| old.spec.payload.clone()),
                // It goes behind those that wait already.
                run_at: if ordered { Some(HELD) } else { run_at },
                queueing,
                redriven_from: Some(old.id),
                // It is not what the old one's key names.
                once: None,
                // A batch tells what became of its own call.
                batch: None,
                ..old.spec.clone()
            },
            // The same object: where it has lost this partition, it numbers the job in one of its own.
            partition: number.partition(),
            keyed: None,
            answer_within_ms: None,
            follower: None,
            away_max_ms: None,
        };
        match self.accept(call, enqueue)? {
            Ok(job) => {
                set_redriven_to(self.db, number, job, gives_payload)?;
                if ordered {
                    self.advance(&old.spec)?;
                }
                Ok(Ok(Redriven { job, fresh: true }))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// Accepts a job as every job is accepted, and takes back the answer, which is not the call's own.
    fn accept(&mut self, call: CallId, enqueue: Enqueue) -> Result<Result<JobId, Error>, DatabaseError> {
        let before = self.effects.len();
        self.enqueue(call, enqueue)?;
        let is_answer = |effect: &Effect| matches!(effect, Effect::Reply { call: answered, .. } if *answered == call);
        let at = self.effects.iter().skip(before).position(is_answer);
        match at.map(|at| self.effects.remove(before + at)) {
            Some(Effect::Reply {
                reply: Ok(Reply::Acknowledged { job, .. }),
                ..
            }) => Ok(Ok(job)),
            Some(Effect::Reply { reply: Err(error), .. }) => Ok(Err(error)),
            // A job without a key that nobody waits for is acknowledged or refused at once.
            _ => Err(DatabaseError::new("a job was not acknowledged")),
        }
    }
}
