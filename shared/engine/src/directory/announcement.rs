//! What a gate has still to tell the directory. Kept by the gate: what it told last is a row, and whatever differs from that
//! is told again until the directory has confirmed it.

use tidegate_protocol::time::UnixMs;

use crate::access;
use crate::database::{Database, DatabaseError, Value};

/// The table of the gate.
pub const ANNOUNCED: &[&str] = &["-- directory::announced
    CREATE TABLE announced (id INTEGER PRIMARY KEY CHECK (id = 1), suspended_at INTEGER) STRICT"];

/// What the directory has to be told: the version of the tenant's description, and since when the tenant is suspended.
///
/// Errors: the database's.
pub fn untold(db: &impl Database) -> Result<Option<(u64, Option<UnixMs>)>, DatabaseError> {
    let suspended_at = access::read(db)?.suspended_at;
    let told = db
        .run(
            "-- directory::told\nSELECT suspended_at FROM announced WHERE id = 1",
            &[],
        )?
        .into_iter()
        .next()
        .map(|mut row| row.optional_number())
        .transpose()?;
    if told == Some(suspended_at.map(|at| at.0)) {
        return Ok(None);
    }
    let version = db
        .run("-- directory::untold\nSELECT version FROM tenant WHERE id = 1", &[])?
        .into_iter()
        .next()
        .map_or(Ok(0), |mut row| row.number())?;
    Ok(Some((version, suspended_at)))
}

/// The directory has heard it.
///
/// Errors: the database's.
pub fn told(db: &impl Database, suspended_at: Option<UnixMs>) -> Result<(), DatabaseError> {
    db.run(
        "-- directory::tell
        INSERT OR REPLACE INTO announced (id, suspended_at) VALUES (1, ?)",
        &[Value::optional(suspended_at.map(|at| at.0))],
    )?;
    Ok(())
}
