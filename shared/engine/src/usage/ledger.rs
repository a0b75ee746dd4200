//! The gate's ledger: what was told, added up by the hour, each report once.
//!
//! A report counts in the hour in which the gate hears of it, by the gate's own clock. One row holds the hour that is open, the
//! sums of its day and month, and what was heard last of whom: so a report writes one row, whatever it tells. An hour that is
//! over gets a row of its own; those of a day that is long gone become one.

use alloc::vec::Vec;

use tidegate_protocol::calls::usage::{Counts, Report};
use tidegate_protocol::time::UnixMs;

use super::calendar::{DAY_MS, Window};
use crate::database::{Database, DatabaseError, Value, from_blob, to_blob};

/// The tables of the gate.
pub const LEDGER: &[&str] = &[
    "-- usage::schema
    CREATE TABLE usage_open (id INTEGER PRIMARY KEY CHECK (id = 1), hour INTEGER NOT NULL, state BLOB NOT NULL) STRICT",
    "-- usage::schema
    CREATE TABLE usage_hour (at INTEGER PRIMARY KEY, counts BLOB NOT NULL) STRICT",
    "-- usage::schema
    CREATE TABLE usage_day (at INTEGER PRIMARY KEY, counts BLOB NOT NULL) STRICT",
    super::budgets::TABLE,
];

/// How long hours are kept: longer than any month. Milliseconds.
pub const HOURS_KEPT_MS: u64 = 35 * DAY_MS;
/// How long days are kept: thirteen months. Milliseconds.
pub const DAYS_KEPT_MS: u64 = 400 * DAY_MS;
/// Hours that become days in one turn at most.
const FOLDED_MAX: u64 = 48;
/// Instances of one object that are remembered. A report that is still under way ends with the instance that sent it, or soon
/// after, so that none is heard of behind so many others.
pub const RUNS_KEPT: usize = 4;

/// The last report that was heard of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Heard {
    source: u64,
    run: u64,
    seq: u64,
}

/// The hour that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Open {
    hour: UnixMs,
    of_hour: Counts,
    of_day: Counts,
    of_month: Counts,
    /// In the order in which the instances were heard of first.
    heard: Vec<Heard>,
}

impl Open {
    fn new(hour: UnixMs) -> Self {
        Self {
            hour,
            of_hour: Counts::default(),
            of_day: Counts::default(),
            of_month: Counts::default(),
            heard: Vec::new(),
        }
    }

    /// What was used so far in the window.
    pub fn used(&self, window: Window) -> &Counts {
        match window {
            Window::Hour => &self.of_hour,
            Window::Day => &self.of_day,
            Window::Month => &self.of_month,
        }
    }

    /// Counts a report, if it was not counted before.
    fn take(&mut self, report: &Report) -> bool {
        let Report {
            source,
            run,
            seq,
            counts,
        } = report;
        let known = self
            .heard
            .iter_mut()
            .find(|heard| heard.source == source.0 && heard.run == *run);
        match known {
            Some(heard) if heard.seq >= *seq => return false,
            Some(heard) => heard.seq = *seq,
            None => {
                let of_source = |heard: &Heard| heard.source == source.0;
                if self.heard.iter().filter(|heard| of_source(heard)).count() >= RUNS_KEPT
                    && let Some(oldest) = self.heard.iter().position(of_source)
                {
                    self.heard.remove(oldest);
                }
                self.heard.push(Heard {
                    source: source.0,
                    run: *run,
                    seq: *seq,
                });
            }
        }
        self.of_hour.add_all(counts);
        self.of_day.add_all(counts);
        self.of_month.add_all(counts);
        true
    }

    fn to_bytes(&self) -> Result<Vec<u8>, DatabaseError> {
        let heard = self.heard.iter().flat_map(|heard| [heard.source, heard.run, heard.seq]);
        let parts: [&[u64]; 4] = [
            &self.of_hour.0,
            &self.of_day.0,
            &self.of_month.0,
            &heard.collect::<Vec<u64>>(),
        ];
        // One list behind another, each behind its length: numbers alone need no code that others do not need as well.
        let mut numbers = Vec::new();
        for part in parts {
            numbers.push(u64::try_from(part.len()).unwrap_or(0));
            numbers.extend(part);
        }
        to_blob(&numbers)
    }

    fn of_bytes(hour: UnixMs, bytes: &[u8]) -> Result<Self, DatabaseError> {
        let numbers: Vec<u64> = from_blob(bytes)?;
        let mut rest = numbers.as_slice();
        let mut part = || {
            let (length, behind) = rest.split_first()?;
            let (part, behind) = behind.split_at_checked(usize::try_from(*length).ok()?)?;
            rest = behind;
            Some(part.to_vec())
        };
        let unreadable = || DatabaseError::new("the open hour of the ledger cannot be read");
        let mut part = || part().ok_or_else(unreadable);
        let (of_hour, of_day, of_month, heard) = (part()?, part()?, part()?, part()?);
        let heard = heard.chunks_exact(3).filter_map(|chunk| match chunk {
            [source, run, seq] => Some(Heard {
                source: *source,
                run: *run,
                seq: *seq,
            }),
            _ => None,
        });
        Ok(Self {
            hour,
            of_hour: Counts(of_hour),
            of_day: Counts(of_day),
            of_month: Counts(of_month),
            heard: heard.collect(),
        })
    }
}

/// Counts what `reports` tell, each once. Gives the open hour, where that changed.
///
/// Errors: the database's.
pub(super) fn take(
    db: &impl Database,
    now: UnixMs,
    reports: impl Iterator<Item = Report>,
) -> Result<Option<Open>, DatabaseError> {
    let mut open = at(db, now)?;
    let mut changed = false;
    for report in reports {
        changed |= open.take(&report);
    }
    if !changed {
        return Ok(None);
    }
    write(db, &open)?;
    Ok(Some(open))
}

fn write(db: &impl Database, open: &Open) -> Result<(), DatabaseError> {
    let state = open.to_bytes()?;
    db.run(
        "-- usage::write
        INSERT INTO usage_open (id, hour, state) VALUES (1, ?, ?)
        ON CONFLICT (id) DO UPDATE SET hour = excluded.hour, state = excluded.state",
        &[Value::Number(open.hour.0), Value::Blob(&state)],
    )?;
    Ok(())
}

fn stored(db: &impl Database) -> Result<Option<Open>, DatabaseError> {
    let rows = db.run("-- usage::stored\nSELECT hour, state FROM usage_open WHERE id = 1", &[])?;
    let Some(mut row) = rows.into_iter().next() else {
        return Ok(None);
    };
    let hour = UnixMs(row.number()?);
    Open::of_bytes(hour, &row.blob()?).map(Some)
}

/// The hour of `now`, open. Where another one was open, that gets its row, and its rows are added up anew: the clock may have
/// gone to another day, or back.
pub(super) fn at(db: &impl Database, now: UnixMs) -> Result<Open, DatabaseError> {
    let hour = Window::Hour.start(now);
    let Some(open) = stored(db)? else {
        return Ok(Open::new(hour));
    };
    if open.hour == hour {
        return Ok(open);
    }
    add_to_hour(db, open.hour, &open.of_hour)?;
    let again = take_hour(db, hour)?;
    fold(db, now)?;
    let mut next = Open {
        heard: open.heard,
        of_hour: again,
        ..Open::new(hour)
    };
    next.of_day = sum(db, Window::Day.start(now), Window::Day.end(now))?;
    next.of_month = sum(db, Window::Month.start(now), Window::Month.end(now))?;
    next.of_day.add_all(&next.of_hour);
    next.of_month.add_all(&next.of_hour);
    write(db, &next)?;
    Ok(next)
}

/// The row of an hour that is open again, because the clock went back.
fn take_hour(db: &impl Database, hour: UnixMs) -> Result<Counts, DatabaseError> {
    let counts = counts_at(db.run(
        "-- usage::take_hour
        SELECT at, counts FROM usage_hour WHERE at = CAST(? AS INTEGER)",
        &[Value::Number(hour.0)],
    )?)?;
    if counts.is_empty() {
        return Ok(Counts::default());
    }
    db.run(
        "-- usage::taken_hour
        DELETE FROM usage_hour WHERE at = CAST(? AS INTEGER)",
        &[Value::Number(hour.0)],
    )?;
    Ok(counts.into_iter().next().map(|(_, counts)| counts).unwrap_or_default())
}

fn add_to_hour(db: &impl Database, hour: UnixMs, counts: &Counts) -> Result<(), DatabaseError> {
    let mut all = take_hour(db, hour)?;
    all.add_all(counts);
    if all.is_empty() {
        return Ok(());
    }
    db.run(
        "-- usage::add_to_hour
        INSERT OR REPLACE INTO usage_hour (at, counts) VALUES (?, ?)",
        &[Value::Number(hour.0), Value::Blob(&to_blob(&all.0)?)],
    )?;
    Ok(())
}

fn counts_at(rows: Vec<crate::database::Row>) -> Result<Vec<(UnixMs, Counts)>, DatabaseError> {
    rows.into_iter()
        .map(|mut row| Ok((UnixMs(row.number()?), Counts(from_blob(&row.blob()?)?))))
        .collect()
}

fn hours(db: &impl Database, from: UnixMs, to: UnixMs, most: u64) -> Result<Vec<(UnixMs, Counts)>, DatabaseError> {
    counts_at(db.run(
        "-- usage::hours
        SELECT at, counts FROM usage_hour WHERE at >= CAST(? AS INTEGER) AND at < CAST(? AS INTEGER)
        ORDER BY at LIMIT CAST(? AS INTEGER)",
        &[Value::Number(from.0), Value::Number(to.0), Value::Number(most)],
    )?)
}

fn days(db: &impl Database, from: UnixMs, to: UnixMs) -> Result<Vec<(UnixMs, Counts)>, DatabaseError> {
    counts_at(db.run(
        "-- usage::days
        SELECT at, counts FROM usage_day WHERE at >= CAST(? AS INTEGER) AND at < CAST(? AS INTEGER) ORDER BY at",
        &[Value::Number(from.0), Value::Number(to.0)],
    )?)
}

/// All that is in rows of their own for these hours, which may lie in days already.
fn sum(db: &impl Database, from: UnixMs, to: UnixMs) -> Result<Counts, DatabaseError> {
    let mut all = Counts::default();
    for (_, counts) in days(db, from, to)?.into_iter().chain(hours(db, from, to, HOURS_MAX)?) {
        all.add_all(&counts);
    }
    Ok(all)
}

/// Rows of hours that there can be, with room for some that were not folded in time.
const HOURS_MAX: u64 = 2_000;

/// Makes days of the hours that are no longer kept, some at a time, and forgets the days that are not.
fn fold(db: &impl Database, now: UnixMs) -> Result<(), DatabaseError> {
    let before = UnixMs(now.0.saturating_sub(HOURS_KEPT_MS));
    for (hour, counts) in hours(db, UnixMs(0), Window::Day.start(before), FOLDED_MAX)? {
        let day = Window::Day.start(hour);
        let mut all = days(db, day, day.plus(1))?
            .pop()
            .map(|(_, counts)| counts)
            .unwrap_or_default();
        all.add_all(&counts);
        db.run(
            "-- usage::fold
            INSERT OR REPLACE INTO usage_day (at, counts) VALUES (?, ?)",
            &[Value::Number(day.0), Value::Blob(&to_blob(&all.0)?)],
        )?;
        db.run(
            "-- usage::folded
            DELETE FROM usage_hour WHERE at = CAST(? AS INTEGER)",
            &[Value::Number(hour.0)],
        )?;
    }
    db.run(
        "-- usage::forget
        DELETE FROM usage_day WHERE at < CAST(? AS INTEGER)",
        &[Value::Number(now.0.saturating_sub(DAYS_KEPT_MS))],
    )?;
    Ok(())
}

/// What was used in each window of this length from `from` until `to`, the oldest first. Windows in which nothing was used are
/// left out, and hours of days that are no longer kept by the hour.
///
/// Errors: the database's.
pub fn windows(
    db: &impl Database,
    window: Window,
    from: UnixMs,
    to: UnixMs,
) -> Result<Vec<(UnixMs, Counts)>, DatabaseError> {
    let mut all = tidegate_protocol::SortedMap::<UnixMs, Counts>::new();
    let open = stored(db)?.map(|open| (open.hour, open.of_hour));
    let open = open.filter(|(hour, _)| (from..to).contains(hour));
    let days = match window {
        Window::Hour => Vec::new(),
        Window::Day | Window::Month => days(db, from, to)?,
    };
    let rows = days.into_iter().chain(hours(db, from, to, HOURS_MAX)?);
    for (at, counts) in rows.chain(open) {
        all.entry(window.start(at)).or_default().add_all(&counts);
    }
    Ok(all.into_iter().filter(|(_, counts)| !counts.is_empty()).collect())
}
