//! A schedule's row: read and written whole.

use alloc::vec::Vec;

use tidegate_protocol::calls::schedules::Schedule;
use tidegate_protocol::ids::{JobId, JobNumber, ScheduleName, fnv1a};
use tidegate_protocol::time::UnixMs;

use crate::database::{Database, DatabaseError, Row, Value, from_blob, to_blob};
use crate::schedules::Timetable;

/// What is stored of a schedule.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::jobs) struct Kept {
    pub schedule: Schedule,
    /// Whether it is held back now, by the composition or by hand.
    pub paused: bool,
    /// The next nominal time; `None` while it is held back, and where none is left.
    pub nominal: Option<UnixMs>,
    /// When the object looks at `nominal`.
    pub due_at: Option<UnixMs>,
    /// Every nominal time up to here is done with.
    pub done_until: UnixMs,
    /// The nominal time that waits for the end of the last job.
    pub held: Option<UnixMs>,
    pub last_job: Option<JobId>,
    /// The nominal time of `last_job`.
    pub last_fired: Option<UnixMs>,
    pub fired: u64,
    pub skipped: u64,
    pub missed: u64,
}

const COLUMNS: usize = 12;

impl Kept {
    /// A schedule that is new here.
    pub fn new(schedule: Schedule, now: UnixMs) -> Self {
        Self {
            paused: schedule.paused,
            schedule,
            nominal: None,
            due_at: None,
            done_until: now,
            held: None,
            last_job: None,
            last_fired: None,
            fired: 0,
            skipped: 0,
            missed: 0,
        }
    }

    /// Its timetable. What was stored has been checked; `None` only where a zone has since left the database of zones.
    pub fn timetable(&self) -> Option<Timetable> {
        Timetable::parse(&self.schedule.cron, &self.schedule.time_zone).ok()
    }

    /// Makes the first nominal time after all that is done the next one, unless it is held back.
    pub fn advance(&mut self, timetable: Option<&Timetable>) {
        self.nominal = match timetable {
            Some(timetable) if !self.paused => timetable.next_after(self.done_until),
            _ => None,
        };
        self.due_at = self.nominal.map(|nominal| self.fires_at(nominal));
    }

    /// When `nominal` fires: later by a hash of name and time, so that it is the same whoever asks, and never earlier.
    pub fn fires_at(&self, nominal: UnixMs) -> UnixMs {
        let hash = fnv1a(&[self.schedule.name.as_str().as_bytes(), &nominal.0.to_le_bytes()]);
        nominal.plus(hash % self.schedule.jitter_ms.saturating_add(1))
    }

    fn read(mut row: Row) -> Result<Self, DatabaseError> {
        let paused = row.number()? != 0;
        let nominal = row.optional_number()?.map(UnixMs);
        let due_at = row.optional_number()?.map(UnixMs);
        let done_until = UnixMs(row.number()?);
        let held = row.optional_number()?.map(UnixMs);
        let number = row.optional_number()?.map(JobNumber);
        let tail = u32::try_from(row.optional_number()?.unwrap_or(0))
            .map_err(|_| DatabaseError::new("a tail out of range"))?;
        Ok(Self {
            paused,
            nominal,
            due_at,
            done_until,
            held,
            last_job: number.map(|number| JobId::new(number, tail)),
            last_fired: row.optional_number()?.map(UnixMs),
            fired: row.number()?,
            skipped: row.number()?,
            missed: row.number()?,
            schedule: from_blob(&row.blob()?)?,
        })
    }

    /// Writes the row. One row.
    pub fn write(&self, db: &impl Database) -> Result<(), DatabaseError> {
        let moment = |at: Option<UnixMs>| Value::optional(at.map(|at| at.0));
        let definition = to_blob(&self.schedule)?;
        let values: [Value<'_>; COLUMNS + 1] = [
            Value::Text(self.schedule.name.as_str()),
            Value::Number(u64::from(self.paused)),
            moment(self.nominal),
            moment(self.due_at),
            Value::Number(self.done_until.0),
            moment(self.held),
            Value::optional(self.last_job.map(|job| job.number().0)),
            Value::optional(self.last_job.map(|job| u64::from(job.tail()))),
            moment(self.last_fired),
            Value::Number(self.fired),
            Value::Number(self.skipped),
            Value::Number(self.missed),
            Value::Blob(&definition),
        ];
        db.run(
            "-- jobs::schedules::write
            INSERT INTO schedule (name, paused, nominal, due_at, done_until, held, last_number, last_tail, last_fired,
                fired, skipped, missed, definition)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (name) DO UPDATE SET paused = excluded.paused, nominal = excluded.nominal,
                due_at = excluded.due_at, done_until = excluded.done_until, held = excluded.held,
                last_number = excluded.last_number, last_tail = excluded.last_tail, last_fired = excluded.last_fired,
                fired = excluded.fired, skipped = excluded.skipped, missed = excluded.missed,
                definition = excluded.definition",
            &values,
        )?;
        Ok(())
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "-- jobs::schedules::select\nSELECT paused, nominal, due_at, done_until, held, last_number, last_tail, \
             last_fired, fired, skipped, missed, definition FROM schedule ",
            $rest
        )
    };
}

fn all(rows: Vec<Row>) -> Result<Vec<Kept>, DatabaseError> {
    rows.into_iter().map(Kept::read).collect()
}

/// Every schedule, by name.
pub(in crate::jobs) fn load_all(db: &impl Database) -> Result<Vec<Kept>, DatabaseError> {
    all(db.run(select!("ORDER BY name"), &[])?)
}

/// The schedules that are due, the longest due first.
pub(in crate::jobs) fn load_due(db: &impl Database, now: UnixMs) -> Result<Vec<Kept>, DatabaseError> {
    all(db.run(
        select!("WHERE due_at <= CAST(? AS INTEGER) ORDER BY due_at, name"),
        &[Value::Number(now.0)],
    )?)
}

/// The schedules with a nominal time that waits for the end of a job.
pub(in crate::jobs) fn load_held(db: &impl Database) -> Result<Vec<Kept>, DatabaseError> {
    all(db.run(select!("WHERE held IS NOT NULL ORDER BY held, name"), &[])?)
}

/// The schedule of this name.
pub(in crate::jobs) fn load(db: &impl Database, name: &ScheduleName) -> Result<Option<Kept>, DatabaseError> {
    let rows = db.run(select!("WHERE name = ?"), &[Value::Text(name.as_str())])?;
    Ok(all(rows)?.pop())
}

/// Forgets a schedule. Its jobs stay.
pub(in crate::jobs) fn delete(db: &impl Database, name: &ScheduleName) -> Result<(), DatabaseError> {
    db.run(
        "-- jobs::schedules::delete\nDELETE FROM schedule WHERE name = ?",
        &[Value::Text(name.as_str())],
    )?;
    Ok(())
}

/// The tenant's version that the schedules come from; 0 before the first.
pub(in crate::jobs) fn version(db: &impl Database) -> Result<u64, DatabaseError> {
    let rows = db.run(
        "-- jobs::schedules::version\nSELECT version FROM schedule_set WHERE id = 1",
        &[],
    )?;
    rows.into_iter().next().map_or(Ok(0), |mut row| row.number())
}

/// Notes the tenant's version that the schedules come from.
pub(in crate::jobs) fn set_version(db: &impl Database, version: u64) -> Result<(), DatabaseError> {
    db.run(
        "-- jobs::schedules::set_version
        INSERT INTO schedule_set (id, version) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET version = excluded.version",
        &[Value::Number(version)],
    )?;
    Ok(())
}
