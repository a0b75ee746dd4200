//! Doorbells that the platform's queue could not bring. No job is lost by one, since its time brings it to its attempt; what is
//! noted here lets an operator see that it happened, and to which jobs.

use alloc::format;

use tidegate_protocol::calls::jobs::Filter;
use tidegate_protocol::event::Happening;
use tidegate_protocol::http::{DeadLetter, LostDoorbell};
use tidegate_protocol::ids::{JobId, JobNumber};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::letters::letter;
use super::row::Job;
use super::select::{Found, Source, Whose};
use super::{CallId, Turn};
use crate::database::{Database, DatabaseError, Row, Value};

/// Lost doorbells, a row for each job that lost one. No other job has one.
pub(super) const LOST_DOORBELLS: &[&str] = &["-- jobs::schema
    CREATE TABLE lost_doorbell (
        number INTEGER PRIMARY KEY, times INTEGER NOT NULL, first_at INTEGER NOT NULL, last_at INTEGER NOT NULL
    ) STRICT"];

impl<D: Database> Turn<'_, D> {
    /// A doorbell from the queue of the dead: noted, and rung once more. One of a job that is no longer there is neither.
    pub(super) fn doorbell_lost(&mut self, call: CallId, id: JobId) -> Result<(), DatabaseError> {
        if self.load(id)?.is_some() {
            self.db.run(
                "-- doorbells::doorbell_lost
                INSERT INTO lost_doorbell (number, times, first_at, last_at) VALUES (?1, 1, ?2, ?2)
                ON CONFLICT (number) DO UPDATE SET times = times + 1, last_at = excluded.last_at",
                &[Value::Number(id.number().0), Value::Number(self.now.0)],
            )?;
        }
        self.start(call, id)
    }

    /// The letters that fit: failed jobs, and those of which a lost doorbell is noted. The code `DOORBELL_LOST` means the
    /// latter alone, any other the former.
    pub(super) fn letters(&self, filter: &Filter, whose: &Whose) -> Result<Found, DatabaseError> {
        let lost = Filter {
            code: None,
            ..filter.clone()
        };
        match filter.code {
            Some(ErrorCode::DoorbellLost) => self.select(Source::LostDoorbells, &lost, whose),
            Some(_) => self.select(Source::DeadLetters, filter, whose),
            None => {
                let dead = self.select(Source::DeadLetters, filter, whose)?;
                Ok(dead.with(self.select(Source::LostDoorbells, &lost, whose)?, filter))
            }
        }
    }

    /// The letter of a job: why it failed, or that its doorbell was lost where it did not, or was redriven or discarded since.
    pub(super) fn letter_of(&self, job: Job) -> Result<Option<DeadLetter>, DatabaseError> {
        let doorbell = lost_doorbell(self.db, job.id.number())?;
        let error = match job.outcome.as_ref().map(|event| &event.what) {
            Some(Happening::Failed { error }) if doorbell.is_none() || is_dead(self.db, job.id.number())? => {
                error.clone()
            }
            _ if doorbell.is_some() => {
                let state = job.state.as_str();
                let message = format!(
                    "The platform's queue could not bring a doorbell of the job. It is not lost by that: its state is \
                     `{state}`."
                );
                Error::new(ErrorCode::DoorbellLost, message)
            }
            _ => return Ok(None),
        };
        Ok(Some(letter(job, error, doorbell)))
    }

    /// The refusal to redrive a job that has not failed: `error`, unless it is listed for a lost doorbell.
    pub(super) fn not_failed(&self, job: &Job, error: Error) -> Result<Error, DatabaseError> {
        if lost_doorbell(self.db, job.id.number())?.is_none() {
            return Ok(error);
        }
        let state = job.state.as_str();
        let message = format!(
            "The job has not failed, its doorbell alone was lost: its state is `{state}`, and there is nothing to do again."
        );
        Ok(Error::new(ErrorCode::Conflict, message))
    }
}

/// What is noted of lost doorbells of a job.
pub(super) fn lost_doorbell(db: &impl Database, number: JobNumber) -> Result<Option<LostDoorbell>, DatabaseError> {
    let rows = db.run(
        "-- doorbells::lost_doorbell
        SELECT times, first_at, last_at FROM lost_doorbell WHERE number = CAST(? AS INTEGER)",
        &[Value::Number(number.0)],
    )?;
    let noted = |mut row: Row| {
        Ok(LostDoorbell {
            times: row.number()?,
            first_at: UnixMs(row.number()?),
            last_at: UnixMs(row.number()?),
        })
    };
    rows.into_iter().next().map(noted).transpose()
}

/// Forgets it. One row, where there is one.
pub(super) fn forget_lost_doorbell(db: &impl Database, number: JobNumber) -> Result<(), DatabaseError> {
    db.run(
        "-- doorbells::forget_lost_doorbell
        DELETE FROM lost_doorbell WHERE number = CAST(? AS INTEGER)",
        &[Value::Number(number.0)],
    )?;
    Ok(())
}

/// Whether any doorbell was lost that is still noted.
pub(super) fn any_lost_doorbell(db: &impl Database) -> Result<bool, DatabaseError> {
    let rows = db.run(
        "-- doorbells::any_lost_doorbell
        SELECT EXISTS (SELECT 1 FROM lost_doorbell)",
        &[],
    )?;
    let any = rows.into_iter().next().map(|mut row| row.number()).transpose()?;
    Ok(any == Some(1))
}

/// Whether a failed job is neither redriven nor discarded.
fn is_dead(db: &impl Database, number: JobNumber) -> Result<bool, DatabaseError> {
    let rows = db.run(
        "-- doorbells::is_dead
        SELECT 1 FROM job
        WHERE number = CAST(? AS INTEGER) AND state = 5 AND redriven_to IS NULL AND discarded_at IS NULL",
        &[Value::Number(number.0)],
    )?;
    Ok(!rows.is_empty())
}
