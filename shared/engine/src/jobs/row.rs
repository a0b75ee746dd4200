//! A job's row: read and written whole, so that no statement has its own idea of it.

use alloc::string::String;
use alloc::vec::Vec;

use tidegate_protocol::calls::jobs::{Keyed, NewJob};
use tidegate_protocol::calls::once::Once;
use tidegate_protocol::calls::reporting::Durability;
use tidegate_protocol::event::{Event, Happening, JobState, JsonText, Payload, Progress, Snapshot};
use tidegate_protocol::ids::{FencingToken, HubIndex, JobId, JobNumber, Seq};
use tidegate_protocol::time::UnixMs;

use super::change::Control;
use super::history::Reported;
use super::lanes::Shape;
use super::{LOG_BYTES_MAX, LOG_EVENTS_MAX};
use crate::database::{Database, DatabaseError, Row, Value, from_blob, to_blob};

/// What is stored of a job. Its payload stays behind in the row, see [`payload`].
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Job {
    pub id: JobId,
    pub state: JobState,
    /// Whether the row has an entry in the index of due rows, and for when.
    pub due_at: Option<UnixMs>,
    pub created_at: UnixMs,
    /// As it was accepted; the payload in it is empty.
    pub spec: NewJob,
    pub token: FencingToken,
    /// The attempt under way, or the last; 0 before the first.
    pub attempt: u32,
    /// When the attempt must be done.
    pub attempt_until: UnixMs,
    /// Leases lost since the last sign of getting on.
    pub losses: u64,
    pub seq: Seq,
    pub progress: Progress,
    /// The latest events, oldest first. Where tables beyond the row hold a part of the history, with gaps for that.
    pub log: Vec<Event>,
    pub followers: Vec<HubIndex>,
    pub checkpoint: Option<String>,
    pub changed_at: UnixMs,
    pub ended_at: Option<UnixMs>,
    pub expires_at: Option<UnixMs>,
    /// The terminal event.
    pub outcome: Option<Event>,
    /// When a limit of time ends the job, whatever becomes of it until then. An entry of an index of its own.
    pub give_up_at: Option<UnixMs>,
    /// Times in a row that an attempt put itself off since the last sign of getting on.
    pub snoozes: u64,
    /// What someone wants of it.
    pub control: Option<Control>,
    /// What is in the tables beyond the row.
    pub reported: Option<Reported>,
    /// The size of the input, wherever that lies.
    pub payload_bytes: u64,
    /// When the attempt under way began, or the last one. Not known of one that began before this was kept.
    pub started_at: Option<UnixMs>,
}

/// The order in which states are stored. Those that wait come first, so that a comparison finds them.
const STATES: [JobState; 9] = [
    JobState::Scheduled,
    JobState::Queued,
    JobState::Retrying,
    JobState::Running,
    JobState::Succeeded,
    JobState::Failed,
    JobState::Cancelled,
    JobState::Expired,
    JobState::Paused,
];

pub(super) fn state_number(state: JobState) -> u64 {
    (0..).zip(STATES).find(|(_, s)| *s == state).map_or(0, |(n, _)| n)
}

pub(super) fn state_of(number: u64) -> Result<JobState, DatabaseError> {
    (0..)
        .zip(STATES)
        .find(|(n, _)| *n == number)
        .map(|(_, s)| s)
        .ok_or_else(|| DatabaseError::new("an unknown state"))
}

/// A statement that reads jobs; with more columns, those come before the job's own.
macro_rules! columns {
    ($rest:literal) => {
        columns!("", $rest)
    };
    ($more:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            $more,
            "number, tail, state, due_at, created_at, spec, token, attempt, attempt_until, losses, seq, progress, \
             log, followers, checkpoint, changed_at, ended_at, expires_at, outcome, give_up_at, snoozes, control, \
             reported, payload_bytes, started_at FROM job ",
            $rest
        )
    };
}
pub(super) use columns;

impl Job {
    /// Reads the columns of `columns!`.
    pub fn read(mut row: Row) -> Result<Self, DatabaseError> {
        let number = JobNumber(row.number()?);
        let tail = u32::try_from(row.number()?).map_err(|_| DatabaseError::new("a tail out of range"))?;
        Ok(Self {
            id: JobId::new(number, tail),
            state: state_of(row.number()?)?,
            due_at: row.optional_number()?.map(UnixMs),
            created_at: UnixMs(row.number()?),
            spec: from_blob(&row.blob()?)?,
            token: FencingToken(row.number()?),
            attempt: u32::try_from(row.number()?).map_err(|_| DatabaseError::new("an attempt out of range"))?,
            attempt_until: UnixMs(row.number()?),
            losses: row.number()?,
            seq: Seq(row.number()?),
            progress: from_blob(&row.blob()?)?,
            log: from_blob(&row.blob()?)?,
            followers: from_blob(&row.blob()?)?,
            checkpoint: row.optional_text()?,
            changed_at: UnixMs(row.number()?),
            ended_at: row.optional_number()?.map(UnixMs),
            expires_at: row.optional_number()?.map(UnixMs),
            outcome: row.optional_blob()?.map(|bytes| from_blob(&bytes)).transpose()?,
            give_up_at: row.optional_number()?.map(UnixMs),
            snoozes: row.number()?,
            control: row.optional_blob()?.map(|bytes| from_blob(&bytes)).transpose()?,
            reported: row.optional_blob()?.map(|bytes| from_blob(&bytes)).transpose()?,
            payload_bytes: row.number()?,
            started_at: row.optional_number()?.map(UnixMs),
        })
    }

    pub fn load_number(db: &impl Database, number: JobNumber) -> Result<Option<Self>, DatabaseError> {
        let sql = columns!("WHERE number = CAST(? AS INTEGER)");
        Self::first(db.run(sql, &[Value::Number(number.0)])?)
    }

    pub fn load_key(db: &impl Database, action: &str, key: &str) -> Result<Option<Self>, DatabaseError> {
        let sql = columns!("WHERE action = CAST(? AS TEXT) AND key = CAST(? AS TEXT)");
        Self::first(db.run(sql, &[Value::Text(action), Value::Text(key)])?)
    }

    pub fn all(rows: Vec<Row>) -> Result<Vec<Self>, DatabaseError> {
        rows.into_iter().map(Self::read).collect()
    }

    fn first(rows: Vec<Row>) -> Result<Option<Self>, DatabaseError> {
        rows.into_iter().next().map(Self::read).transpose()
    }

    /// Inserts the row, with its payload and key. One row, one more for `due_at`, one for `give_up_at`, one for a key
    /// of either kind.
    pub fn insert(&self, db: &impl Database, payload: &Payload, keyed: Option<&Keyed>) -> Result<(), DatabaseError> {
        let key = keyed.map_or(Value::Null, |keyed| Value::Text(keyed.key.as_str()));
        let fingerprint = keyed.map_or(Value::Null, |keyed| Value::Text(&keyed.fingerprint));
        let dedupe = self.spec.once.as_ref().and_then(Once::dedupe);
        let dedupe = dedupe.map_or(Value::Null, |dedupe| Value::Text(&dedupe.key));
        let batch = self
            .spec
            .batch
            .as_ref()
            .map_or(Value::Null, |id| Value::Text(id.as_str()));
        let outcome = self.outcome.as_ref().map(to_blob).transpose()?;
        let reported = self.reported.as_ref().map(to_blob).transpose()?;
        db.run(
            "-- jobs::insert
            INSERT INTO job (number, tail, state, due_at, user, action, key, fingerprint, created_at, spec, payload,
                token, attempt, attempt_until, losses, seq, progress, log, followers, checkpoint, changed_at,
                ended_at, expires_at, outcome, give_up_at, snoozes, lane, dedupe, batch, payload_bytes,
                started_at, reported)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            &[
                Value::Number(self.id.number().0),
                Value::Number(u64::from(self.id.tail())),
                Value::Number(state_number(self.state)),
                Value::optional(self.due_at.map(|at| at.0)),
                Value::Text(self.spec.user.as_str()),
                Value::Text(self.spec.action.as_str()),
                key,
                fingerprint,
                Value::Number(self.created_at.0),
                Value::Blob(&to_blob(&self.spec)?),
                Value::Blob(&to_blob(payload)?),
                Value::Number(self.token.0),
                Value::Number(u64::from(self.attempt)),
                Value::Number(self.attempt_until.0),
                Value::Number(self.losses),
                Value::Number(self.seq.0),
                Value::Blob(&to_blob(&self.progress)?),
                Value::Blob(&to_blob(&self.log)?),
                Value::Blob(&to_blob(&self.followers)?),
                self.checkpoint.as_deref().map_or(Value::Null, Value::Text),
                Value::Number(self.changed_at.0),
                Value::optional(self.ended_at.map(|at| at.0)),
                Value::optional(self.expires_at.map(|at| at.0)),
                outcome.as_deref().map_or(Value::Null, Value::Blob),
                Value::optional(self.give_up_at.map(|at| at.0)),
                Value::Number(self.snoozes),
                Value::Text(&Shape::of(&self.spec).name()?),
                dedupe,
                batch,
                Value::Number(self.payload_bytes),
                Value::optional(self.started_at.map(|at| at.0)),
                reported.as_deref().map_or(Value::Null, Value::Blob),
            ],
        )?;
        Ok(())
    }

    /// Writes what can change, but not `due_at` and `give_up_at`. One row.
    pub fn update(&self, db: &impl Database) -> Result<(), DatabaseError> {
        let outcome = self.outcome.as_ref().map(to_blob).transpose()?;
        let control = self.control.as_ref().map(to_blob).transpose()?;
        let reported = self.reported.as_ref().map(to_blob).transpose()?;
        db.run(
            "-- jobs::update
            UPDATE job SET state = ?, token = ?, attempt = ?, attempt_until = ?, losses = ?, seq = ?, progress = ?,
                log = ?, followers = ?, checkpoint = ?, changed_at = ?, ended_at = ?, expires_at = ?, outcome = ?,
                snoozes = ?, control = ?, reported = ?, started_at = ?
            WHERE number = CAST(? AS INTEGER)",
            &[
                Value::Number(state_number(self.state)),
                Value::Number(self.token.0),
                Value::Number(u64::from(self.attempt)),
                Value::Number(self.attempt_until.0),
                Value::Number(self.losses),
                Value::Number(self.seq.0),
                Value::Blob(&to_blob(&self.progress)?),
                Value::Blob(&to_blob(&self.log)?),
                Value::Blob(&to_blob(&self.followers)?),
                self.checkpoint.as_deref().map_or(Value::Null, Value::Text),
                Value::Number(self.changed_at.0),
                Value::optional(self.ended_at.map(|at| at.0)),
                Value::optional(self.expires_at.map(|at| at.0)),
                outcome.as_deref().map_or(Value::Null, Value::Blob),
                Value::Number(self.snoozes),
                control.as_deref().map_or(Value::Null, Value::Blob),
                reported.as_deref().map_or(Value::Null, Value::Blob),
                Value::optional(self.started_at.map(|at| at.0)),
                Value::Number(self.id.number().0),
            ],
        )?;
        Ok(())
    }

    /// Moves the row's entry in the index of due rows. Two rows, three where one entry makes way for another.
    pub fn set_due(&mut self, db: &impl Database, due_at: Option<UnixMs>) -> Result<(), DatabaseError> {
        if self.due_at != due_at {
            self.due_at = due_at;
            set_due(db, self.id.number(), due_at)?;
        }
        Ok(())
    }

    /// Notes that `what` happened: gives it the next place and keeps it in the log, which forgets its oldest.
    pub fn append(&mut self, now: UnixMs, what: Happening) -> Result<Event, DatabaseError> {
        self.seq = self.seq.next();
        self.changed_at = now;
        let event = Event {
            seq: self.seq,
            attempt: self.attempt,
            at: now,
            what,
        };
        if event.what.is_terminal() {
            self.outcome = Some(event.clone());
        } else if self.keeps(&event.what) {
            self.log.push(event.clone());
            while self.log.len() > LOG_EVENTS_MAX || (self.log.len() > 1 && to_blob(&self.log)?.len() > LOG_BYTES_MAX) {
                self.log.remove(0);
            }
        }
        Ok(event)
    }

    /// Whether the row keeps it; what it does not keep is in a table beyond it. Why attempts failed is in the row whatever
    /// else is kept, because a dead letter shows it.
    fn keeps(&self, what: &Happening) -> bool {
        match what {
            Happening::Output(_) | Happening::Started => false,
            Happening::Progress(_) => self.spec.policy.reporting.durability == Durability::Last,
            Happening::Retrying { .. } | Happening::Completed { .. } | Happening::Failed { .. } => true,
        }
    }

    /// Where the job stands.
    pub fn snapshot(&self, gap: bool) -> Snapshot {
        Snapshot {
            seq: self.seq,
            attempt: self.attempt,
            status: self.state,
            progress: self.progress.clone(),
            gap,
            at: self.changed_at,
        }
    }
}

/// The place of the acknowledgment: the first of every job.
pub(super) const FIRST: Seq = Seq(1);

pub(super) fn set_due(db: &impl Database, number: JobNumber, due_at: Option<UnixMs>) -> Result<(), DatabaseError> {
    db.run(
        "-- jobs::set_due
        UPDATE job SET due_at = ? WHERE number = CAST(? AS INTEGER)",
        &[Value::optional(due_at.map(|at| at.0)), Value::Number(number.0)],
    )?;
    Ok(())
}

/// The payload of a job.
pub(super) fn payload(db: &impl Database, number: JobNumber) -> Result<Payload, DatabaseError> {
    let rows = db.run(
        "-- jobs::payload
        SELECT payload FROM job WHERE number = CAST(? AS INTEGER)",
        &[Value::Number(number.0)],
    )?;
    match rows.into_iter().next() {
        Some(mut row) => from_blob(&row.blob()?),
        None => Ok(Payload::Inline(JsonText::null())),
    }
}

/// The fingerprint that came with the key of a job.
pub(super) fn fingerprint(db: &impl Database, number: JobNumber) -> Result<Option<String>, DatabaseError> {
    let rows = db.run(
        "-- jobs::fingerprint
        SELECT fingerprint FROM job WHERE number = CAST(? AS INTEGER)",
        &[Value::Number(number.0)],
    )?;
    rows.into_iter()
        .next()
        .map(|mut row| row.optional_text())
        .transpose()
        .map(Option::flatten)
}
