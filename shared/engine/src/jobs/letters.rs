//! Dead letters: failed jobs that nobody has redriven or discarded yet, and what becomes of them.
//!
//! Being one costs no row of its own: the partial index `job_dead` takes a failed job in and lets it go as the row's
//! columns say. The job itself stays as it ended.

use alloc::vec::Vec;

use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::jobs::{Filter, Reply};
use tidegate_protocol::event::{Happening, JobState};
use tidegate_protocol::http::{AttemptError, DeadLetter, DeadLetterPage, LostDoorbell};
use tidegate_protocol::ids::{JobId, JobNumber};
use tidegate_protocol::{Error, ErrorCode};

use super::doorbells::{forget_lost_doorbell, lost_doorbell};
use super::row::Job;
use super::select::Whose;
use super::{CallId, Turn};
use crate::database::{Database, DatabaseError, Value, to_blob};
use tidegate_protocol::event::{JsonText, Payload};

/// Dead letters that are counted: beyond that, there are many.
const COUNTED_MAX: u64 = 1_000;

/// How many dead letters there are, up to [`COUNTED_MAX`].
///
/// Errors: the database's.
pub(super) fn count(db: &impl Database) -> Result<u64, DatabaseError> {
    let rows = db.run(
        "-- letters::count
        SELECT COUNT(*) FROM (SELECT 1 FROM job INDEXED BY job_dead
            WHERE state = 5 AND redriven_to IS NULL AND discarded_at IS NULL LIMIT CAST(? AS INTEGER))",
        &[Value::Number(COUNTED_MAX)],
    )?;
    rows.into_iter().next().map_or(Ok(0), |mut row| row.number())
}

impl<D: Database> Turn<'_, D> {
    /// A page of dead letters, newest first. Like every page it looks at a bounded number of rows.
    pub(super) fn dead_letters(&mut self, call: CallId, caller: &Caller, filter: &Filter) -> Result<(), DatabaseError> {
        let found = self.letters(filter, &Whose::readable(caller, filter))?;
        let mut page = DeadLetterPage {
            dead_letters: Vec::with_capacity(found.numbers.len()),
            cursor: found.cursor(),
        };
        for number in found.numbers {
            if let Some(job) = self.load_number(number)? {
                page.dead_letters.extend(self.letter_of(job)?);
            }
        }
        self.reply(call, Ok(Reply::DeadLetters(page)));
        Ok(())
    }

    /// Takes a dead letter out of the list, or with `dry_run` only tells whether it would. Doing it again changes
    /// nothing. Gives whether this did.
    pub(super) fn discard(
        &mut self,
        id: JobId,
        caller: &Caller,
        dry_run: bool,
    ) -> Result<Result<bool, Error>, DatabaseError> {
        let job = match self.changeable(id, caller, "Discarding")? {
            Ok(job) => job,
            Err(error) => return Ok(Err(error)),
        };
        // What is noted of a lost doorbell goes whatever became of the job.
        let noted = lost_doorbell(self.db, id.number())?.is_some();
        let mut refusal = check_dead(&job).err();
        if refusal.is_none()
            && let Some(next) = redriven_to(self.db, id.number())?
        {
            let message = alloc::format!("The job was redriven already, as {next}.");
            refusal = Some(Error::new(ErrorCode::Conflict, message));
        }
        match refusal {
            Some(error) if !noted => return Ok(Err(error)),
            _ if dry_run => return Ok(Ok(false)),
            _ if noted => forget_lost_doorbell(self.db, id.number())?,
            _ => {}
        }
        if refusal.is_some() {
            return Ok(Ok(true));
        }
        let discarded = self.db.run(
            "-- jobs::discard
            UPDATE job SET discarded_at = CAST(? AS INTEGER)
            WHERE number = CAST(? AS INTEGER) AND discarded_at IS NULL RETURNING number",
            &[Value::Number(self.now.0), Value::Number(id.number().0)],
        )?;
        Ok(Ok(noted || !discarded.is_empty()))
    }
}

/// Refuses a job that did not fail: only those are dead letters.
pub(super) fn check_dead(job: &Job) -> Result<(), Error> {
    if job.state == JobState::Failed {
        return Ok(());
    }
    let state = job.state.as_str();
    let message = alloc::format!("The job is no dead letter: its state is `{state}`.");
    Err(Error::new(ErrorCode::Conflict, message))
}

/// The job that does this one again.
pub(super) fn redriven_to(db: &impl Database, number: JobNumber) -> Result<Option<JobId>, DatabaseError> {
    let rows = db.run(
        "-- jobs::redriven_to
        SELECT redriven_to FROM job WHERE number = CAST(? AS INTEGER)",
        &[Value::Number(number.0)],
    )?;
    let text = match rows.into_iter().next() {
        Some(mut row) => row.optional_text()?,
        None => None,
    };
    text.map(|text| JobId::parse(&text).ok_or_else(|| DatabaseError::new("a job's id cannot be read")))
        .transpose()
}

/// Notes which job does `number` again. With `gives_payload`, the payload is that job's from now on: what lies in object
/// storage belongs to one row, and is deleted with it.
pub(super) fn set_redriven_to(
    db: &impl Database,
    number: JobNumber,
    next: JobId,
    gives_payload: bool,
) -> Result<(), DatabaseError> {
    let nothing = to_blob(&Payload::Inline(JsonText::null()))?;
    let next = alloc::string::ToString::to_string(&next);
    db.run(
        "-- jobs::set_redriven_to
        UPDATE job SET redriven_to = ?, payload = coalesce(?, payload) WHERE number = CAST(? AS INTEGER)",
        &[
            Value::Text(&next),
            if gives_payload {
                Value::Blob(&nothing)
            } else {
                Value::Null
            },
            Value::Number(number.0),
        ],
    )?;
    Ok(())
}

/// The letter of a job that failed with `error`, or of which that is to be told.
pub(super) fn letter(job: Job, error: Error, doorbell: Option<LostDoorbell>) -> DeadLetter {
    let earlier = job.log.into_iter().filter_map(|event| match event.what {
        Happening::Retrying { error, .. } => Some(AttemptError {
            attempt: event.attempt,
            at: event.at,
            error,
        }),
        Happening::Progress(_)
        | Happening::Output(_)
        | Happening::Started
        | Happening::Completed { .. }
        | Happening::Failed { .. } => None,
    });
    DeadLetter {
        job_id: job.id,
        request_id: job.spec.request_id,
        action: job.spec.action,
        user: job.spec.user,
        metadata: job.spec.metadata,
        created_at: job.created_at,
        failed_at: job.ended_at.filter(|_| job.state == JobState::Failed),
        expires_at: job.expires_at,
        attempts: job.attempt,
        error,
        earlier_errors: earlier.collect(),
        redriven_from: job.spec.redriven_from,
        status: job.state,
        doorbell,
    }
}
