//! Rows as a turn sees them: those of running jobs from memory, all others from the database.
//!
//! Every change of a row that a running job may have goes through here, so that memory and row stay the same.

use tidegate_protocol::event::JobState;
use tidegate_protocol::ids::{JobId, JobNumber};

use super::Turn;
use super::row::Job;
use crate::database::{Database, DatabaseError};

impl<D: Database> Turn<'_, D> {
    /// The job `id`, where it is there. The part of the id that comes from chance must be right too.
    pub(super) fn load(&self, id: JobId) -> Result<Option<Job>, DatabaseError> {
        let found = self.load_number(id.number())?;
        Ok(found.filter(|job| job.id == id))
    }

    /// The job of this number, where it is there.
    pub(super) fn load_number(&self, number: JobNumber) -> Result<Option<Job>, DatabaseError> {
        match self.state.rows.get(&number) {
            Some(job) => Ok(Some(job.clone())),
            None => Job::load_number(self.db, number),
        }
    }

    /// Writes what can change of a job, but not `due_at`. One row.
    pub(super) fn save(&mut self, job: &Job) -> Result<(), DatabaseError> {
        job.update(self.db)?;
        if job.state == JobState::Running {
            self.state.rows.insert(job.id.number(), job.clone());
        } else {
            self.state.rows.remove(&job.id.number());
        }
        Ok(())
    }
}
