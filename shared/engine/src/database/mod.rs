//! The one seam between decisions and storage: synchronous SQL.
//!
//! A Durable Object's SQLite is synchronous, so the engine is written against this small trait. The shell gives it the
//! object's SQLite, tests give it a native one that behaves the same ([`native`]). What both share, and what statements
//! must therefore respect: every bound number arrives as REAL (so tables are STRICT and expressions CAST), numbers stay
//! below 2^53, there are no booleans. A statement begins with `-- module::function`, so that a slow one names its place.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use tidegate_cbor::{Decode, Encode};

#[cfg(feature = "native")]
pub mod native;
pub mod suite;
#[cfg(test)]
pub(crate) mod vectors;

/// Whether a statement may give rows: all but an `INSERT`, `UPDATE` or `DELETE` that returns nothing, and what changes the
/// schema. Where it says no, the shell reads none.
pub fn gives_rows(sql: &str) -> bool {
    let first = sql
        .lines()
        .map(str::trim_start)
        .find(|line| !line.is_empty() && !line.starts_with("--"));
    let writes = ["INSERT ", "UPDATE ", "DELETE ", "CREATE ", "ALTER ", "DROP "];
    let is_write = first.is_some_and(|first| writes.iter().any(|word| first.starts_with(word)));
    !is_write || sql.contains("RETURNING")
}

/// A value bound to a statement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// NULL.
    Null,
    /// A whole number below 2^53.
    Number(u64),
    /// A number as the platform has them.
    Real(f64),
    /// Text.
    Text(&'a str),
    /// Bytes.
    Blob(&'a [u8]),
}

impl Value<'_> {
    /// A number, or NULL.
    pub fn optional(number: Option<u64>) -> Self {
        number.map_or(Self::Null, Self::Number)
    }
}

/// A value of a row that was read.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// NULL.
    Null,
    /// A number; whole ones cannot be told from others that have no fraction.
    Number(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// A row that was read, taken apart from the left.
#[derive(Debug, Clone)]
pub struct Row {
    cells: alloc::vec::IntoIter<Cell>,
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.cells.as_slice() == other.cells.as_slice()
    }
}

/// Why storage did not do what it was told. The turn is rolled back, and the object starts again from its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseError {
    /// What the database said. For logs alone: it never reaches a client.
    pub message: String,
}

impl DatabaseError {
    /// An error with the database's own words.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }

    fn shape(expected: &str, cell: &Cell) -> Self {
        let kind = match cell {
            Cell::Null => "NULL",
            Cell::Number(_) => "a number",
            Cell::Text(_) => "text",
            Cell::Blob(_) => "bytes",
        };
        Self::new(alloc::format!("a row holds {kind} where {expected} was expected"))
    }
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for DatabaseError {}

/// Numbers from here on are not exact in a double.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

impl Row {
    /// A row of these cells.
    pub fn new(cells: Vec<Cell>) -> Self {
        Self {
            cells: cells.into_iter(),
        }
    }

    /// Passes over the next cell.
    ///
    /// Errors: where there is none.
    pub fn skip(&mut self) -> Result<(), DatabaseError> {
        self.next().map(drop)
    }

    fn next(&mut self) -> Result<Cell, DatabaseError> {
        self.cells
            .next()
            .ok_or_else(|| DatabaseError::new("a row has fewer columns than were expected"))
    }

    /// The next cell, as a whole number from 0, or `None` for NULL.
    ///
    /// Errors: where it is something else.
    pub fn optional_number(&mut self) -> Result<Option<u64>, DatabaseError> {
        match self.next()? {
            Cell::Null => Ok(None),
            Cell::Number(number) if (0.0..EXACT_MAX).contains(&number) && number % 1.0 == 0.0 => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "whole, from 0, below 2^53"
                )]
                let whole = number as u64;
                Ok(Some(whole))
            }
            other => Err(DatabaseError::shape("a whole number", &other)),
        }
    }

    /// The next cell, as a whole number from 0.
    ///
    /// Errors: where it is something else.
    pub fn number(&mut self) -> Result<u64, DatabaseError> {
        self.optional_number()?
            .ok_or_else(|| DatabaseError::shape("a whole number", &Cell::Null))
    }

    /// The next cell, as text, or `None` for NULL.
    ///
    /// Errors: where it is something else.
    pub fn optional_text(&mut self) -> Result<Option<String>, DatabaseError> {
        match self.next()? {
            Cell::Null => Ok(None),
            Cell::Text(text) => Ok(Some(text)),
            other => Err(DatabaseError::shape("text", &other)),
        }
    }

    /// The next cell, as text.
    ///
    /// Errors: where it is something else.
    pub fn text(&mut self) -> Result<String, DatabaseError> {
        self.optional_text()?
            .ok_or_else(|| DatabaseError::shape("text", &Cell::Null))
    }

    /// The next cell, as bytes, or `None` for NULL.
    ///
    /// Errors: where it is something else.
    pub fn optional_blob(&mut self) -> Result<Option<Vec<u8>>, DatabaseError> {
        match self.next()? {
            Cell::Null => Ok(None),
            Cell::Blob(bytes) => Ok(Some(bytes)),
            other => Err(DatabaseError::shape("bytes", &other)),
        }
    }

    /// The next cell, as bytes.
    ///
    /// Errors: where it is something else.
    pub fn blob(&mut self) -> Result<Vec<u8>, DatabaseError> {
        self.optional_blob()?
            .ok_or_else(|| DatabaseError::shape("bytes", &Cell::Null))
    }
}

impl From<Row> for Vec<Cell> {
    fn from(row: Row) -> Self {
        row.cells.collect()
    }
}

/// Synchronous SQL. The shell wraps each turn in one transaction; the engine never begins or ends one.
pub trait Database {
    /// Runs one statement and gives the rows it answers.
    ///
    /// Errors: whatever the database refuses. The turn is then rolled back as a whole.
    fn run(&self, sql: &'static str, values: &[Value<'_>]) -> Result<Vec<Row>, DatabaseError>;

    /// As [`Database::run`], for a statement that is made of the names that the schema has. Nothing from outside may be in it,
    /// and no object keeps it compiled.
    ///
    /// Errors: as [`Database::run`].
    fn run_made(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, DatabaseError>;
}

/// Brings the schema to the newest version: runs each of `steps` that has not run yet, in order, and notes it.
///
/// A step is only ever appended. Errors: whatever the database refuses.
pub fn migrate(db: &impl Database, steps: &[&[&'static str]]) -> Result<(), DatabaseError> {
    db.run(
        "-- database::migrate\nCREATE TABLE IF NOT EXISTS migration (version INTEGER PRIMARY KEY) STRICT",
        &[],
    )?;
    let rows = db.run(
        "-- database::migrate\nSELECT CAST(coalesce(max(version), 0) AS INTEGER) FROM migration",
        &[],
    )?;
    let done = match rows.into_iter().next() {
        Some(mut row) => row.number()?,
        None => 0,
    };
    for (version, step) in (1_u64..).zip(steps).filter(|(version, _)| *version > done) {
        for sql in *step {
            db.run(sql, &[])?;
        }
        db.run(
            "-- database::migrate\nINSERT INTO migration (version) VALUES (?)",
            &[Value::Number(version)],
        )?;
    }
    Ok(())
}

/// The names of the tables that were made here: the platform's own and SQLite's are not among them.
///
/// Errors: the database's.
pub fn made(db: &impl Database) -> Result<Vec<String>, DatabaseError> {
    let rows = db.run(
        "-- database::made
        SELECT name FROM sqlite_master
        WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_cf\\_%' ESCAPE '\\'",
        &[],
    )?;
    rows.into_iter().map(|mut row| row.text()).collect()
}

/// Writes a value into a column, in CBOR.
///
/// Errors: none of the value. Whoever writes a row is ready for the database's.
pub fn to_blob<T: Encode>(value: &T) -> Result<Vec<u8>, DatabaseError> {
    Ok(tidegate_cbor::to_vec(value))
}

/// Reads a value out of a column.
///
/// Errors: where the bytes are not what [`to_blob`] wrote.
pub fn from_blob<T: Decode>(bytes: &[u8]) -> Result<T, DatabaseError> {
    tidegate_cbor::from_slice(bytes).map_err(unread)
}

fn unread(error: tidegate_cbor::Error) -> DatabaseError {
    DatabaseError::new(alloc::format!("a stored value was not read: {error}"))
}
