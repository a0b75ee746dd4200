//! Finding jobs by a filter: a bounded number of rows is looked at, and where the search stopped is told.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::jobs::{Filter, NewJob, Sort};
use tidegate_protocol::event::{Event, Happening};
use tidegate_protocol::ids::{JobNumber, UserId};
use tidegate_protocol::time::UnixMs;

use super::row::state_number;
use super::{SCAN_ROWS_MAX, Turn};
use crate::database::{Database, DatabaseError, Row, Value, from_blob};

/// Jobs found at most, whatever the filter's limit says.
const FOUND_MAX: u32 = 100;
/// Rows of one statement: their notes are in memory at once, at most some 40 KiB each.
const CHUNK_ROWS: u64 = 200;
const _: () = assert!(SCAN_ROWS_MAX.is_multiple_of(CHUNK_ROWS));

/// Beyond every number.
const TOP: u64 = 1 << 53;

/// What is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// All jobs.
    Jobs,
    /// Those that have not ended.
    Open,
    /// Failed ones that are neither redriven nor discarded, by their own index.
    DeadLetters,
    /// Those of which a lost doorbell is noted, by its table.
    LostDoorbells,
}

/// Whose jobs are searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whose {
    Everyone,
    Only(UserId),
    Nobody,
}

impl Whose {
    /// Those that the caller may see.
    pub fn readable(caller: &Caller, filter: &Filter) -> Self {
        Self::of(caller, filter, caller.reads_all || caller.writes_all)
    }

    /// Those that the caller may change.
    pub fn changeable(caller: &Caller, filter: &Filter) -> Self {
        Self::of(caller, filter, caller.writes_all)
    }

    fn of(caller: &Caller, filter: &Filter, all: bool) -> Self {
        match &filter.user {
            Some(user) if all || *user == caller.user => Self::Only(user.clone()),
            Some(_) => Self::Nobody,
            None if all => Self::Everyone,
            None => Self::Only(caller.user.clone()),
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The jobs, in the order of the filter.
    pub numbers: Vec<JobNumber>,
    /// Jobs below this one were not looked at; where the oldest come first, those above it.
    pub below: Option<JobNumber>,
}

impl Found {
    /// This and another search for the same filter as one, as far as both have come. A job that both have found is there once.
    pub fn with(mut self, other: Self, filter: &Filter) -> Self {
        // The way to a job in the order of the filter.
        let way = |number: &JobNumber| match filter.sort {
            Sort::Newest => TOP.saturating_sub(number.0),
            Sort::Oldest => number.0,
        };
        let mut below = [self.below, other.below].into_iter().flatten().min_by_key(way);
        self.numbers.extend(other.numbers);
        self.numbers.sort_by_key(way);
        self.numbers.dedup();
        if let Some(end) = &below {
            self.numbers.retain(|number| way(number) <= way(end));
        }
        let limit = found_max(filter);
        if self.numbers.len() > limit {
            self.numbers.truncate(limit);
            below = self.numbers.last().copied();
        }
        Self {
            numbers: self.numbers,
            below,
        }
    }

    /// Where the next page begins, as clients are given it.
    pub fn cursor(&self) -> Option<String> {
        self.below.map(|number| number.0.to_string())
    }
}

/// Each row with NULL where it does not fit, else its notes where those are asked for, and its outcome likewise.
macro_rules! select {
    ($from:literal) => {
        [
            select!(
                $from,
                " number < CAST(?1 AS INTEGER) AND number >= CAST(?7 AS INTEGER)",
                "DESC"
            ),
            select!(
                $from,
                " number > CAST(?1 AS INTEGER) AND number < CAST(?7 AS INTEGER)",
                "ASC"
            ),
        ]
    };
    ($from:literal, $range:literal, $order:literal) => {
        concat!(
            "-- jobs::select
            SELECT number,
                CASE WHEN (?2 IS NULL OR user = ?2) AND (?3 IS NULL OR action = ?3) AND (?4 IS NULL OR state = ?4)
                    AND (?9 IS NULL OR batch = ?9)
                    THEN CASE WHEN ?5 IS NULL THEN x'' ELSE spec END END,
                CASE WHEN ?6 IS NOT NULL AND state = 5 THEN outcome END
            FROM (
                SELECT number, state, user, action, spec, outcome, batch FROM ",
            $from,
            $range,
            " ORDER BY number ",
            $order,
            " LIMIT CAST(?8 AS INTEGER)) ORDER BY number ",
            $order
        )
    };
}

impl<D: Database> Turn<'_, D> {
    /// The jobs that fit, in the order that the filter asks for. The moments of a filter are held against the jobs' numbers, which tell when they
    /// were accepted.
    pub(super) fn select(&self, source: Source, filter: &Filter, whose: &Whose) -> Result<Found, DatabaseError> {
        let [newest_first, oldest_first] = match source {
            Source::Jobs => select!("job WHERE"),
            Source::Open => select!("job WHERE (state < 4 OR state = 8) AND"),
            Source::DeadLetters => {
                select!("job INDEXED BY job_dead WHERE state = 5 AND redriven_to IS NULL AND discarded_at IS NULL AND")
            }
            Source::LostDoorbells => select!("lost_doorbell CROSS JOIN job USING (number) WHERE"),
        };
        let user = match whose {
            Whose::Everyone => Value::Null,
            Whose::Only(user) => Value::Text(user.as_str()),
            Whose::Nobody => {
                return Ok(Found {
                    numbers: Vec::new(),
                    below: None,
                });
            }
        };
        let action = filter.action.as_ref();
        let limit = found_max(filter);
        let mut floor = filter.created_after.map_or(0, first_number);
        let mut top = filter.created_before.map_or(TOP, first_number);
        if let Some(batch) = &filter.batch {
            let Some((first, last)) = self.span_of(batch)? else {
                return Ok(Found {
                    numbers: Vec::new(),
                    below: None,
                });
            };
            floor = floor.max(first.0);
            top = top.min(last.0.saturating_add(1));
        }
        // Where the search stands, what lies beyond it, and how that is read.
        let (mut below, end, sql) = match filter.sort {
            Sort::Newest => (
                filter.below.map_or(TOP, |number| number.0).min(top),
                floor,
                newest_first,
            ),
            Sort::Oldest => {
                let above = filter.above.map_or(0, |number| number.0.min(TOP));
                (above.max(floor.saturating_sub(1)), top, oldest_first)
            }
        };
        let (mut looked_at, mut numbers) = (0, Vec::new());
        while looked_at < SCAN_ROWS_MAX {
            let rows = self.db.run(
                sql,
                &[
                    Value::Number(below),
                    user,
                    action.map_or(Value::Null, |action| Value::Text(action.as_str())),
                    Value::optional(filter.status.map(state_number)),
                    Value::optional((!filter.metadata.is_empty()).then_some(1)),
                    Value::optional(filter.code.map(|_| 1)),
                    Value::Number(end),
                    Value::Number(CHUNK_ROWS),
                    filter.batch.as_ref().map_or(Value::Null, |id| Value::Text(id.as_str())),
                ],
            )?;
            let chunk = self.with_packed(rows, source, filter.sort, below, end)?;
            let count = u64::try_from(chunk.len()).unwrap_or(CHUNK_ROWS);
            looked_at += count;
            for (number, row) in chunk {
                below = number;
                let fits = match row {
                    Some(row) => fits(row, filter)?,
                    None => self.packed_fits(JobNumber(number), filter, whose)?,
                };
                if fits {
                    numbers.push(JobNumber(below));
                }
                if numbers.len() >= limit {
                    let below = Some(JobNumber(below));
                    return Ok(Found { numbers, below });
                }
            }
            if count < CHUNK_ROWS {
                return Ok(Found { numbers, below: None });
            }
        }
        let below = Some(JobNumber(below));
        Ok(Found { numbers, below })
    }

    /// The next jobs of a search that stands at `below` and goes to `end`: `rows`, without their numbers, and among them the
    /// packed ones, which have none.
    fn with_packed(
        &self,
        rows: Vec<Row>,
        source: Source,
        sort: Sort,
        below: u64,
        end: u64,
    ) -> Result<Vec<(u64, Option<Row>)>, DatabaseError> {
        let mut chunk = Vec::with_capacity(rows.len());
        for mut row in rows {
            chunk.push((row.number()?, Some(row)));
        }
        if source == Source::DeadLetters {
            return Ok(chunk);
        }
        let packs = &self.state.packs;
        let most = usize::try_from(CHUNK_ROWS).unwrap_or(usize::MAX);
        let packed = |number: JobNumber| (number.0, None);
        match sort {
            Sort::Newest => {
                let before = packs.between(JobNumber(end), JobNumber(below));
                chunk.extend(before.rev().take(most).map(packed));
                chunk.sort_by_key(|(number, _)| core::cmp::Reverse(*number));
            }
            Sort::Oldest => {
                let after = packs.between(JobNumber(below.saturating_add(1)), JobNumber(end));
                chunk.extend(after.take(most).map(packed));
                chunk.sort_by_key(|(number, _)| *number);
            }
        }
        chunk.truncate(most);
        Ok(chunk)
    }

    /// Whether a packed job is what is asked for.
    fn packed_fits(&self, number: JobNumber, filter: &Filter, whose: &Whose) -> Result<bool, DatabaseError> {
        let batch = self.state.packs.batch_of(number);
        if filter.code.is_some() || filter.batch.as_ref().is_some_and(|id| batch != Some(id)) {
            return Ok(false);
        }
        let Some((job, _)) = self.state.packs.load(self.db, number)? else {
            return Ok(false);
        };
        let spec = &job.spec;
        let noted = |(name, value)| spec.metadata.get(name) == Some(value);
        let own = match whose {
            Whose::Everyone => true,
            Whose::Only(user) => *user == spec.user,
            Whose::Nobody => false,
        };
        Ok(filter.status.is_none_or(|status| status == job.state)
            && filter.action.as_ref().is_none_or(|action| *action == spec.action)
            && own
            && filter.metadata.iter().all(noted))
    }
}

/// How many jobs a search finds at most.
fn found_max(filter: &Filter) -> usize {
    usize::try_from(filter.limit.clamp(1, FOUND_MAX)).unwrap_or(1)
}

/// Whether the rest of a row, after its number, is what the filter asks for.
fn fits(mut row: Row, filter: &Filter) -> Result<bool, DatabaseError> {
    let (spec, outcome) = (row.optional_blob()?, row.optional_blob()?);
    let Some(spec) = spec else { return Ok(false) };
    if !filter.metadata.is_empty() {
        let spec: NewJob = from_blob(&spec)?;
        if filter
            .metadata
            .iter()
            .any(|(name, value)| spec.metadata.get(name) != Some(value))
        {
            return Ok(false);
        }
    }
    let Some(code) = filter.code else { return Ok(true) };
    let event: Option<Event> = outcome.map(|outcome| from_blob(&outcome)).transpose()?;
    Ok(matches!(event.map(|event| event.what), Some(Happening::Failed { error }) if error.code == code))
}

/// The first number that can be given out at `moment`, or one beyond all where no number is of a moment so late.
fn first_number(moment: UnixMs) -> u64 {
    let first = JobNumber::first_at(moment);
    if first.moment() < moment { TOP } else { first.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_beyond_all_numbers_is_beyond_all_jobs() {
        for (text, beyond) in [
            ("1970-01-01T00:00:00Z", false),
            ("2026-11-21T07:00:00Z", false),
            ("2094-01-01T00:00:00Z", false),
            ("2095-01-01T00:00:00Z", true),
            ("9999-12-31T23:59:59Z", true),
        ] {
            let moment = UnixMs::parse(text).unwrap();
            assert_eq!(first_number(moment) == TOP, beyond, "{text}");
        }
        assert_eq!(first_number(UnixMs(0)), 0);
    }
}
