//! Results that go before their jobs: the job stays, and says that its result is gone.
//!
//! Whether a result is past its retention is decided when it is asked for, by the clock alone. The sweep takes the bytes
//! away later. In between and afterwards an outcome names a place where nothing lies, so that whatever tells of a large
//! result by its place tells of this one in the same way.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tidegate_protocol::event::{Event, Happening, JobState, Payload};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::follow::stored_key;
use super::row::Job;
use super::state::State;
use super::{TURN_ROWS_MAX, Turn};
use crate::database::{Database, DatabaseError, Value, from_blob, to_blob};

/// What stands for a result that is gone.
fn nowhere() -> Payload {
    Payload::Stored {
        key: String::new(),
        bytes: 0,
    }
}

impl Job {
    /// When the result goes, where that is before the job does.
    fn result_until(&self) -> Option<UnixMs> {
        let kept_ms = self
            .spec
            .policy
            .result_retention_ms
            .filter(|_| self.state == JobState::Succeeded)?;
        let until = self.ended_at?.plus(kept_ms);
        Some(until).filter(|until| self.expires_at.is_none_or(|expires_at| *until < expires_at))
    }

    /// Whether there was a result that is past its retention.
    pub(super) fn has_faded(&self, now: UnixMs) -> bool {
        self.result_until().is_some_and(|until| until <= now)
    }

    /// The job as it is to be seen now: without a result that is past its retention.
    pub(super) fn faded(mut self, now: UnixMs) -> Self {
        if self.has_faded(now)
            && let Some(Event {
                what: Happening::Completed { result },
                ..
            }) = &mut self.outcome
        {
            *result = nowhere();
        }
        self
    }
}

/// The refusal of a result that is past its retention.
pub(super) fn gone(job: &Job) -> Error {
    let message = match job.result_until() {
        Some(until) => format!("The job has succeeded, but its result was kept until {until} alone."),
        None => "The result is past its retention.".into(),
    };
    Error::new(ErrorCode::Gone, message)
}

impl State {
    /// When the first stored result goes before its job.
    pub(super) fn first_result_until(db: &impl Database) -> Result<Option<UnixMs>, DatabaseError> {
        let rows = db.run(
            "-- jobs::first_result_until
            SELECT min(result_until) FROM job WHERE result_until IS NOT NULL",
            &[],
        )?;
        let until = rows
            .into_iter()
            .next()
            .map(|mut row| row.optional_number())
            .transpose()?;
        Ok(until.flatten().map(UnixMs))
    }
}

impl<D: Database> Turn<'_, D> {
    /// There is something to sweep at `at`.
    pub(super) fn sweep_by(&mut self, at: UnixMs) {
        self.state.sweep_at = Some(self.state.sweep_at.map_or(at, |known| known.min(at)));
    }

    /// Notes when the result of a job that has just ended goes before the job. Two rows where it does, else none.
    pub(super) fn limit_result(&mut self, job: &Job) -> Result<(), DatabaseError> {
        let Some(until) = job.result_until() else {
            return Ok(());
        };
        self.db.run(
            "-- jobs::limit_result
            UPDATE job SET result_until = ? WHERE number = CAST(? AS INTEGER)",
            &[Value::Number(until.0), Value::Number(job.id.number().0)],
        )?;
        self.sweep_by(until);
        Ok(())
    }

    /// Takes results away that are past their retention, a bounded number at a time, and adds to `keys` what they own in
    /// object storage. Says whether there may be more.
    pub(super) fn sweep_results(&mut self, keys: &mut Vec<String>) -> Result<bool, DatabaseError> {
        let rows = self.db.run(
            "-- jobs::sweep_results
            SELECT number, outcome FROM job WHERE result_until <= CAST(? AS INTEGER) AND due_at IS NULL
            ORDER BY result_until LIMIT CAST(? AS INTEGER)",
            &[Value::Number(self.now.0), Value::Number(TURN_ROWS_MAX)],
        )?;
        let full = u64::try_from(rows.len()).unwrap_or(u64::MAX) >= TURN_ROWS_MAX;
        for mut row in rows {
            let number = row.number()?;
            let mut outcome: Option<Event> = row.optional_blob()?.map(|bytes| from_blob(&bytes)).transpose()?;
            if let Some(Event {
                what: Happening::Completed { result },
                ..
            }) = &mut outcome
            {
                keys.extend(stored_key(result).map(Into::into));
                *result = nowhere();
            }
            let outcome = outcome.as_ref().map(to_blob).transpose()?;
            self.db.run(
                "-- jobs::sweep_results
                UPDATE job SET outcome = ?, result_until = NULL WHERE number = CAST(? AS INTEGER)",
                &[
                    outcome.as_deref().map_or(Value::Null, Value::Blob),
                    Value::Number(number),
                ],
            )?;
        }
        Ok(full)
    }
}
