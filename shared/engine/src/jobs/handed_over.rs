//! Attempts that somebody else goes on with: an endpoint that took the work and said that it will report.
//!
//! The executor gives no sign of life for them, and the endpoint need not: the lease lasts as long as the attempt may
//! take. It is stored in the index of due rows, from which a recovery takes it. Who wants to know sooner that an endpoint
//! has gone sets a `heartbeat_timeout`.

use tidegate_protocol::time::UnixMs;

use super::Turn;
use super::row::Job;
use crate::database::{Database, DatabaseError};

impl Job {
    /// How far the lease of an attempt goes that was handed over.
    pub(super) fn handed_over_until(&self) -> Option<UnixMs> {
        self.due_at.filter(|at| *at == self.attempt_until)
    }
}

impl<D: Database> Turn<'_, D> {
    /// The attempt of `job` goes on elsewhere, under the token that it has. Doing it again changes nothing. Two rows, three
    /// where another entry of the index makes way.
    pub(super) fn hand_over(&mut self, mut job: Job) -> Result<(), DatabaseError> {
        let (number, until) = (job.id.number(), job.attempt_until);
        job.set_due(self.db, Some(until))?;
        if let Some(lease) = self.state.running.get_mut(&number) {
            lease.until = until;
            lease.stored_until = until;
            lease.indexed = true;
        }
        self.state.rows.insert(number, job);
        Ok(())
    }
}
