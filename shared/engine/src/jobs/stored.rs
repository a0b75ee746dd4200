//! Rows as a turn sees them: those of running jobs from memory, all others from the database.
//!
//! Every change of a row that a running job may have goes through here, so that memory and row stay the same.

use tidegate_protocol::event::{JobState, Payload};
use tidegate_protocol::ids::{JobId, JobNumber};
use tidegate_protocol::time::UnixMs;

use super::Turn;
use super::lanes::Shape;
use super::row::Job;
use crate::database::{Database, DatabaseError, Value};

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
            None if self.state.packs.holds(number) => Ok(self.state.packs.load(self.db, number)?.map(|(job, _)| job)),
            None => Ok(Job::load_number(self.db, number)?.map(|job| job.faded(self.now))),
        }
    }

    /// Writes what can change of a job, but not `due_at`. One row. A job that waits in a pack leaves it.
    pub(super) fn save(&mut self, job: &Job) -> Result<(), DatabaseError> {
        self.save_with(job, None)
    }

    /// The same, where the job's input may be known.
    pub(super) fn save_with(&mut self, job: &Job, payload: Option<&Payload>) -> Result<(), DatabaseError> {
        if self.state.packs.holds(job.id.number()) {
            self.leave_pack(job, payload)?;
        } else {
            job.update(self.db)?;
        }
        if job.state == JobState::Running {
            self.state.rows.insert(job.id.number(), job.clone());
        } else {
            self.state.rows.remove(&job.id.number());
        }
        Ok(())
    }

    /// `job`, which did not wait, waits from its `due_at` on.
    pub(super) fn wait(&mut self, job: &Job) -> Result<(), DatabaseError> {
        self.state.backlog.enters(job);
        self.line_up(job)
    }

    /// `job`, which waits, stands in its lane from its `due_at` on.
    pub(super) fn line_up(&mut self, job: &Job) -> Result<(), DatabaseError> {
        let shape = Shape::of(&job.spec);
        let due = job.due_at.unwrap_or(self.now);
        self.state.lanes.add(&shape.name()?, &shape, due);
        Ok(())
    }

    /// `job`, which waited and whose row says so no longer, is taken out of its lane.
    pub(super) fn wait_no_more(&mut self, job: &Job) -> Result<(), DatabaseError> {
        let lane = Shape::of(&job.spec).name()?;
        let head = self.head(&lane, 1)?;
        self.state.lanes.remove(&lane, head);
        Ok(())
    }

    /// The `due_at` of `job`, which waits, has changed.
    pub(super) fn wait_otherwise(&mut self, job: &Job) -> Result<(), DatabaseError> {
        let lane = Shape::of(&job.spec).name()?;
        if let Some(head) = self.head(&lane, 0)? {
            self.state.lanes.set_head(&lane, head);
        }
        Ok(())
    }

    /// When the first job of a lane may start. So many of its jobs wait no longer, but are still counted. Entries of running
    /// and ended jobs are passed over: there are few.
    pub(super) fn head(&self, lane: &str, leaving: u64) -> Result<Option<UnixMs>, DatabaseError> {
        let packed = self.state.packs.head(lane);
        if !self.state.wait_in_rows(lane, leaving) {
            return Ok(packed);
        }
        let rows = self.db.run(
            "-- jobs::head
            SELECT due_at FROM job WHERE lane = CAST(? AS TEXT) AND due_at IS NOT NULL AND state < 3 ORDER BY due_at LIMIT 1",
            &[Value::Text(lane)],
        )?;
        let head = rows.into_iter().next().map(|mut row| row.number()).transpose()?;
        Ok(head.map(UnixMs).into_iter().chain(packed).min())
    }
}
