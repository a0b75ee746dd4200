//! What an object writes of itself into a backup, and how it comes back from one.
//!
//! It is a dump of every table that there is, and not of a list of known things, so that a table that is added some day cannot
//! be forgotten. All of it is read in one turn, which makes it one moment, and put by in rows of the object itself; from there
//! it is carried into object storage while the object goes on. So the moment costs no more than its turn, and a crash on the
//! way costs nothing.

mod part;
mod tables;
#[cfg(test)]
#[cfg(feature = "native")]
mod tests;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

pub use part::{Item, items, stored};
pub use tables::{First, restore, restored, snapshot, steps};

use tidegate_protocol::chain::Hash;

use crate::database::{Database, DatabaseError, Value};

/// How long an object answers nothing at most, before it puts by what it holds. Where the others are not there by then, the
/// moment is lost, and another one is tried. Milliseconds.
pub const HOLD_MS: u64 = 10_000;
/// Bytes of a part that holds rows, before its last row. A value that an object stores is 2 MB at most.
const PART_BYTES: usize = 768 * 1024;
/// Parts that are read from where they are put by at once. Bounds the memory: [`PART_BYTES`] and a row each.
const UPLOADED_AT_ONCE: u64 = 4;

/// Where parts are put by, and keys of object storage that are to be deleted once the backup has what lies there. What begins
/// like these is no part of a backup.
const OWN: &str = "backup_";

/// The SHA-256 of a part, in hex.
pub fn sha256(bytes: &[u8]) -> String {
    Hash::of(bytes).to_string()
}

/// A part that is put by.
#[derive(Debug, Clone, PartialEq)]
pub struct Staged {
    /// Its number in the object, from 1.
    pub number: u64,
    /// Rows that it holds.
    pub rows: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The parts that are put by behind `after`, some at a time.
///
/// Errors: the database's.
pub fn staged(db: &impl Database, after: u64) -> Result<Vec<Staged>, DatabaseError> {
    let rows = db.run(
        "-- backup::staged
        SELECT number, rows, bytes FROM backup_part WHERE number > CAST(? AS INTEGER)
        ORDER BY number LIMIT CAST(? AS INTEGER)",
        &[Value::Number(after), Value::Number(UPLOADED_AT_ONCE)],
    )?;
    rows.into_iter()
        .map(|mut row| {
            Ok(Staged {
                number: row.number()?,
                rows: row.number()?,
                bytes: row.blob()?,
            })
        })
        .collect()
}

/// Parts up to `last` are in object storage.
///
/// Errors: the database's.
pub fn uploaded(db: &impl Database, last: u64) -> Result<(), DatabaseError> {
    db.run(
        "-- backup::uploaded\nDELETE FROM backup_part WHERE number <= CAST(? AS INTEGER)",
        &[Value::Number(last)],
    )?;
    Ok(())
}

/// Whether a backup has what this object was at its moment, and is still copying what lies in object storage.
///
/// Errors: the database's.
pub fn is_under_way(db: &impl Database) -> Result<bool, DatabaseError> {
    exists(db, "backup_part")
}

/// Whether a part was brought back, and the rest was not yet.
///
/// Errors: the database's.
pub fn is_restoring(db: &impl Database) -> Result<bool, DatabaseError> {
    exists(db, "backup_restoring")
}

fn exists(db: &impl Database, table: &str) -> Result<bool, DatabaseError> {
    let found = db.run(
        "-- backup::exists\nSELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?",
        &[Value::Text(table)],
    )?;
    Ok(!found.is_empty())
}

/// Remembers keys of object storage whose deletion waits for the end of a backup.
///
/// Errors: the database's.
pub fn keep(db: &impl Database, keys: &[String]) -> Result<(), DatabaseError> {
    for key in keys {
        db.run(
            "-- backup::keep\nINSERT OR IGNORE INTO backup_kept (key) VALUES (?)",
            &[Value::Text(key)],
        )?;
    }
    Ok(())
}

/// The backup has all that it needs: what is put by goes. Gives the keys whose deletion had to wait.
///
/// Errors: the database's.
pub fn released(db: &impl Database) -> Result<Vec<String>, DatabaseError> {
    if !is_under_way(db)? {
        return Ok(Vec::new());
    }
    let rows = db.run("-- backup::released\nSELECT key FROM backup_kept", &[])?;
    let keys = rows.into_iter().map(|mut row| row.text()).collect::<Result<_, _>>()?;
    tables::drop_staged(db)?;
    Ok(keys)
}
