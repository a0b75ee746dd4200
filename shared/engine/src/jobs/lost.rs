//! Why an attempt no longer holds its lease, in words for whoever makes it.

use alloc::format;

use tidegate_protocol::event::JobState;
use tidegate_protocol::ids::{FencingToken, JobId};
use tidegate_protocol::{Error, ErrorCode};

use super::Turn;
use crate::database::{Database, DatabaseError};

impl<D: Database> Turn<'_, D> {
    /// The refusal of what an attempt says that does not hold the lease `token` of the job.
    pub(super) fn lease_lost(&self, id: JobId, token: FencingToken) -> Result<Error, DatabaseError> {
        let why = match self.load(id)? {
            None => "the job is no longer kept".into(),
            Some(job) if job.state == JobState::Cancelled => "the job was cancelled".into(),
            Some(job) if job.state.is_ended() => format!("the job has ended, as {}", job.state.as_str()),
            Some(job) if job.token != token => "it ran out, and another attempt has taken over".into(),
            Some(_) => "it ran out or was given up, and the job waits for its next attempt".into(),
        };
        let message = format!("This attempt no longer holds the job's lease: {why}.");
        Ok(Error::new(ErrorCode::LeaseLost, message))
    }
}
