//! Cancelling a job: at once where it waits; where it runs, after a grace in which its attempt may bring itself to an end.

use alloc::format;

use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::executor::Outcome;
use tidegate_protocol::calls::jobs::Reply;
use tidegate_protocol::event::{Happening, JobState};
use tidegate_protocol::ids::JobId;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::change::Control;
use super::follow::stored_key;
use super::row::Job;
use super::{CallId, Effect, Turn};
use crate::database::{Database, DatabaseError};

impl Job {
    /// Until when the attempt under way may bring itself to an end, where the job was cancelled.
    pub(super) fn cancelled_until(&self) -> Option<UnixMs> {
        match self.control {
            Some(Control::Cancelled { until }) => Some(until),
            Some(Control::Paused { .. }) | None => None,
        }
    }
}

impl<D: Database> Turn<'_, D> {
    /// Ends a job because someone asked for it.
    pub(super) fn cancel(&mut self, call: CallId, id: JobId, caller: &Caller) -> Result<(), DatabaseError> {
        let done = self.cancel_job(id, caller, false)?;
        self.reply(call, done.map(|()| Reply::Done));
        Ok(())
    }

    /// Ends a job, or with `dry_run` only tells whether it would.
    ///
    /// One that runs under a policy with a grace is asked to stop: its attempt hears of it with its next report, and
    /// whatever it says or fails to say by the end of the grace, the job ends as cancelled. Without a grace it loses its
    /// lease at once, so that what it still says changes nothing.
    pub(super) fn cancel_job(
        &mut self,
        id: JobId,
        caller: &Caller,
        dry_run: bool,
    ) -> Result<Result<(), Error>, DatabaseError> {
        let job = match self.changeable(id, caller, "Cancelling")? {
            Ok(job) => job,
            Err(error) => return Ok(Err(error)),
        };
        if job.state == JobState::Cancelled || job.cancelled_until().is_some() {
            return Ok(Ok(()));
        }
        if job.state.is_ended() {
            let message = format!("The job has ended already: it {}.", job.state.as_str());
            return Ok(Err(Error::new(ErrorCode::Conflict, message)));
        }
        if dry_run {
            return Ok(Ok(()));
        }
        self.cancel_loaded(job)?;
        Ok(Ok(()))
    }

    /// Ends a job that has not ended, or gives the attempt that makes it its grace.
    pub(super) fn cancel_loaded(&mut self, mut job: Job) -> Result<(), DatabaseError> {
        let grace_ms = job.spec.policy.cancel_grace_ms;
        match self.state.running.get_mut(&job.id.number()) {
            Some(lease) if grace_ms > 0 => {
                let until = self.now.plus(grace_ms);
                lease.until = lease.until.min(until);
                lease.stored_until = lease.stored_until.min(until);
                job.control = Some(Control::Cancelled { until });
                self.save(&job)
            }
            _ => self.cancel_by_force(job),
        }
    }

    /// Ends a job that has not ended, at once, whatever its grace: where another is to take its place.
    pub(super) fn cancel_by_force(&mut self, job: Job) -> Result<(), DatabaseError> {
        if let Some(lease) = self.state.running.get(&job.id.number()) {
            let token = lease.token;
            self.effects.push(Effect::Abandon { job: job.id, token });
        }
        self.end(job, JobState::Cancelled, Happening::Failed { error: cancelled() })?;
        self.place_freed = true;
        Ok(())
    }

    /// The attempt of a cancelled job is over, however: the job ends as its caller was told.
    pub(super) fn end_cancelled(&mut self, job: Job, outcome: Outcome) -> Result<(), DatabaseError> {
        if let Outcome::Succeeded { result } = &outcome
            && let Some(key) = stored_key(result)
        {
            let keys = alloc::vec![key.into()];
            self.effects.push(Effect::DeleteBlobs { keys });
        }
        self.end(job, JobState::Cancelled, Happening::Failed { error: cancelled() })
    }
}

/// The end of a cancelled job.
pub(super) fn cancelled() -> Error {
    Error::new(ErrorCode::Cancelled, "The job was cancelled.")
}
