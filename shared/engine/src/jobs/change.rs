//! One job that waits: holding it back, letting it go, putting it off.

use alloc::boxed::Box;
use alloc::format;

use tidegate_cbor::{Decode, Encode};
use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::jobs::{Change, Reply};
use tidegate_protocol::changes::ChangeKind;
use tidegate_protocol::event::JobState;
use tidegate_protocol::http::AuditWhat;
use tidegate_protocol::ids::{JobId, UserId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::row::Job;
use super::{CallId, Turn};
use crate::database::{Database, DatabaseError, Value, to_blob};

/// What someone wants of a job that has not ended. Stored in its row.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub(super) enum Control {
    /// That it is held back: its state is [`JobState::Paused`], and it has no place in a lane.
    Paused {
        /// The state in which it waited.
        was: JobState,
        /// When it may start.
        due_at: UnixMs,
        /// Who holds it back.
        by: UserId,
        /// Since when.
        since: UnixMs,
    },
    /// That its attempt stops: it runs until then at most.
    Cancelled {
        /// The end of the grace.
        until: UnixMs,
    },
}

impl<D: Database> Turn<'_, D> {
    /// Pauses, resumes or reschedules a job, and shows it as it is then.
    pub(super) fn change(
        &mut self,
        call: CallId,
        id: JobId,
        caller: &Caller,
        change: Change,
    ) -> Result<(), DatabaseError> {
        let reply = match self.change_job(id, caller, change)? {
            Ok((job, changed)) => {
                if changed {
                    let what = match change {
                        Change::Pause => AuditWhat::JobPaused,
                        Change::Resume => AuditWhat::JobResumed,
                        Change::Reschedule(_) => AuditWhat::JobRescheduled,
                    };
                    self.note_of_other(caller, what, &job.spec.user, id)?;
                }
                Ok(Reply::Job(Box::new(self.shown(&job)?)))
            }
            Err(error) => Err(error),
        };
        self.reply(call, reply);
        Ok(())
    }

    /// Changes a job. Gives it as it is then, and whether that is another than before.
    fn change_job(
        &mut self,
        id: JobId,
        caller: &Caller,
        change: Change,
    ) -> Result<Result<(Job, bool), Error>, DatabaseError> {
        let what = match change {
            Change::Pause => "Pausing",
            Change::Resume => "Resuming",
            Change::Reschedule(_) => "Rescheduling",
        };
        let mut job = match self.changeable(id, caller, what)? {
            Ok(job) => job,
            Err(error) => return Ok(Err(error)),
        };
        if !job.state.is_waiting() && job.state != JobState::Paused {
            let message = match job.state {
                JobState::Running => format!("{what} takes a job that waits; this one is running."),
                ended => format!("{what} takes a job that waits; this one {}.", ended.as_str()),
            };
            return Ok(Err(Error::new(ErrorCode::Conflict, message)));
        }
        let was = job.state;
        match change {
            Change::Pause => self.hold(&mut job, &caller.user)?,
            Change::Resume => self.let_go(&mut job)?,
            Change::Reschedule(start) => {
                if let Some(error) = too_late(&job, start) {
                    return Ok(Err(error));
                }
                self.put_off(&mut job, start)?;
            }
        }
        let changed = job.state != was || matches!(change, Change::Reschedule(_));
        Ok(Ok((job, changed)))
    }

    /// Takes a job out of its lane. One that is paused already stays as it is.
    fn hold(&mut self, job: &mut Job, by: &UserId) -> Result<(), DatabaseError> {
        if job.state == JobState::Paused {
            return Ok(());
        }
        job.control = Some(Control::Paused {
            was: job.state,
            due_at: job.due_at.unwrap_or(self.now),
            by: by.clone(),
            since: self.now,
        });
        job.state = JobState::Paused;
        job.changed_at = self.now;
        self.save(job)?;
        job.set_due(self.db, None)?;
        self.note_change(job, ChangeKind::Paused, None);
        self.wait_no_more(job)
    }

    /// Puts a paused job back into its lane, as it was. One that waits stays as it is.
    fn let_go(&mut self, job: &mut Job) -> Result<(), DatabaseError> {
        let Some(Control::Paused { was, due_at, .. }) = job.control.take() else {
            return Ok(());
        };
        job.state = was;
        job.changed_at = self.now;
        self.save(job)?;
        job.set_due(self.db, Some(due_at))?;
        self.note_change(job, ChangeKind::Waiting, None);
        self.place_freed = true;
        self.line_up(job)
    }

    /// Lets a job start not before `start`, or at once where that has passed. Its limits of time count from there.
    fn put_off(&mut self, job: &mut Job, start: UnixMs) -> Result<(), DatabaseError> {
        let now = self.now;
        let scheduled = |state| match state {
            JobState::Retrying => JobState::Retrying,
            _ if start > now => JobState::Scheduled,
            _ => JobState::Queued,
        };
        let due = start.max(now);
        job.changed_at = self.now;
        if job.attempt == 0 {
            job.spec.run_at = Some(start);
            self.db.run(
                "-- jobs::put_off
                UPDATE job SET spec = ? WHERE number = CAST(? AS INTEGER)",
                &[Value::Blob(&to_blob(&job.spec)?), Value::Number(job.id.number().0)],
            )?;
            self.limit_again(job)?;
        }
        if let Some(Control::Paused { was, due_at, .. }) = &mut job.control {
            (*was, *due_at) = (scheduled(*was), due);
            return self.save(job);
        }
        job.state = scheduled(job.state);
        self.save(job)?;
        job.set_due(self.db, Some(due))?;
        self.note_change(job, ChangeKind::Waiting, None);
        self.place_freed = true;
        self.wait_otherwise(job)
    }
}

/// Why a job that has begun cannot start again so late: a limit of time would end it before.
fn too_late(job: &Job, start: UnixMs) -> Option<Error> {
    let ends = job.give_up_at.filter(|at| job.attempt > 0 && start >= *at)?;
    let message = format!("The job's `total_timeout` ends it at {ends}: it can be rescheduled to before that.");
    Some(Error::new(ErrorCode::Conflict, message))
}
