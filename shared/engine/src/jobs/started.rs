//! When attempts began: in the row of every job, and, where each event is kept, in the history as well.

use tidegate_protocol::calls::reporting::Durability;
use tidegate_protocol::event::{Event, Happening};
use tidegate_protocol::time::UnixMs;

use super::Turn;
use super::row::Job;
use crate::database::{Database, DatabaseError};

/// When the attempt under way began, or the last one: NULL before the first, and of one that began before this was kept.
pub(super) const STARTED: &[&str] = &["-- jobs::schema
    ALTER TABLE job ADD COLUMN started_at INTEGER"];

impl<D: Database> Turn<'_, D> {
    /// Puts the start of an attempt at `at` into the history of `job`, where each event is kept: gives that event, with
    /// which the row is yet to be written. One row of the history; none of any other job, whose places stay as they were.
    pub(super) fn note_start(&mut self, job: &mut Job, at: UnixMs) -> Result<Option<Event>, DatabaseError> {
        if job.spec.policy.reporting.durability != Durability::All {
            return Ok(None);
        }
        let changed_at = job.changed_at;
        let event = self.record_at(job, at, Happening::Started)?;
        // The row says so now, even of an attempt that began before it had one: its lease is reckoned from there.
        job.changed_at = changed_at;
        Ok(Some(event))
    }
}
