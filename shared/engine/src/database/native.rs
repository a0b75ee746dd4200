//! SQLite on this machine, behaving as a Durable Object's does: numbers are bound as REAL, and come back as doubles.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::cell::Cell as Counter;
use std::path::Path;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, StatementStatus, ToSql};

use super::{Cell, Database, DatabaseError, Row, Value, gives_rows};

/// A native database.
pub struct Native {
    connection: Connection,
    compiled_again: Counter<u64>,
}

impl From<rusqlite::Error> for DatabaseError {
    fn from(error: rusqlite::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Value::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            #[expect(clippy::cast_precision_loss, reason = "below 2^53 by the trait's contract")]
            Value::Number(number) => ToSqlOutput::Borrowed(ValueRef::Real(*number as f64)),
            Value::Real(number) => ToSqlOutput::Borrowed(ValueRef::Real(*number)),
            Value::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Value::Blob(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}

impl Native {
    /// A database in memory.
    ///
    /// Errors: where SQLite cannot be had.
    pub fn in_memory() -> Result<Self, DatabaseError> {
        Ok(Self {
            connection: Connection::open_in_memory()?,
            compiled_again: Counter::new(0),
        })
    }

    /// A database in a file.
    ///
    /// Errors: where the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        Ok(Self {
            connection: Connection::open(path)?,
            compiled_again: Counter::new(0),
        })
    }

    /// How many times a statement that was compiled already was compiled again, by a run that found it out of date: after a
    /// change of the schema, and where a bare `?` is compared in a way that the choice of a partial index could depend on.
    /// An object keeps its statements, so that each of the latter costs it a compilation at every run.
    pub fn compiled_again(&self) -> u64 {
        self.compiled_again.get()
    }

    /// Runs `turn` in one transaction: everything it writes stays, or where it fails, nothing.
    ///
    /// Errors: those of `turn`, and whatever the database refuses.
    pub fn transaction<T>(&self, turn: impl FnOnce(&Self) -> Result<T, DatabaseError>) -> Result<T, DatabaseError> {
        self.connection.execute_batch("SAVEPOINT turn")?;
        let result = turn(self);
        let end = if result.is_ok() {
            "RELEASE turn"
        } else {
            "ROLLBACK TO turn; RELEASE turn"
        };
        self.connection.execute_batch(end)?;
        result
    }
}

impl Database for Native {
    fn run(&self, sql: &'static str, values: &[Value<'_>]) -> Result<Vec<Row>, DatabaseError> {
        self.run_made(sql, values)
    }

    fn run_made(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, DatabaseError> {
        let mut statement = self
            .connection
            .prepare_cached(sql)
            .map_err(|error| DatabaseError::new(format!("{error} in: {sql}")))?;
        let columns = statement.column_count();
        let mut rows = statement.query(rusqlite::params_from_iter(values))?;
        let mut read = Vec::new();
        while let Some(row) = rows.next()? {
            let mut cells = Vec::with_capacity(columns);
            for column in 0..columns {
                cells.push(match row.get_ref(column)? {
                    ValueRef::Null => Cell::Null,
                    #[expect(clippy::cast_precision_loss, reason = "an object gives doubles")]
                    ValueRef::Integer(number) => Cell::Number(number as f64),
                    ValueRef::Real(number) => Cell::Number(number),
                    ValueRef::Text(text) => Cell::Text(alloc::string::String::from_utf8_lossy(text).into_owned()),
                    ValueRef::Blob(bytes) => Cell::Blob(bytes.to_vec()),
                });
            }
            read.push(Row::new(cells));
        }
        drop(rows);
        let again = statement.reset_status(StatementStatus::RePrepare);
        self.compiled_again
            .set(self.compiled_again.get() + u64::try_from(again).unwrap_or(0));
        if columns > 0 && !gives_rows(sql) {
            return Err(DatabaseError::new(format!("rows that an object would not read: {sql}")));
        }
        Ok(read)
    }
}
