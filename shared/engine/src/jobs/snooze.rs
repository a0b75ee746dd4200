//! Attempts that put themselves off: what they wait for is not there yet.

use alloc::format;

use tidegate_protocol::changes::ChangeKind;
use tidegate_protocol::event::{Happening, JobState};
use tidegate_protocol::{Error, ErrorCode};

use super::row::Job;
use super::{SNOOZES_MAX, Turn};
use crate::database::{Database, DatabaseError};

impl<D: Database> Turn<'_, D> {
    /// Lets a running job wait for `ms` milliseconds, and then go on with the same attempt. The limit on the whole goes
    /// on counting, and so does the number of times in a row that nothing came of it.
    pub(super) fn snooze(&mut self, mut job: Job, ms: u64) -> Result<(), DatabaseError> {
        job.snoozes += 1;
        if job.snoozes > SNOOZES_MAX {
            let message = format!("The attempt put itself off {SNOOZES_MAX} times without progress or a checkpoint.");
            let error = Error::new(ErrorCode::ProcessingFailed, message);
            return self.end(job, JobState::Failed, Happening::Failed { error });
        }
        self.state.release(job.id.number());
        job.state = JobState::Scheduled;
        job.changed_at = self.now;
        self.save(&job)?;
        job.set_due(self.db, Some(self.now.plus(ms)))?;
        self.note_change(&job, ChangeKind::Waiting, None);
        self.wait(&job)
    }
}
