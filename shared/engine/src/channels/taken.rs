//! What shards tell of their jobs: taken once, in order, however often it is told.

use alloc::vec::Vec;

use tidegate_protocol::calls::feeds::Changes;
use tidegate_protocol::ids::ShardIndex;
use tidegate_protocol::time::UnixMs;

use super::log::Log;
use crate::database::{Database, DatabaseError, Value};

/// Up to which number each shard was heard.
pub(super) const SOURCES: &[&str] = &["-- channels::schema
    CREATE TABLE source (shard INTEGER PRIMARY KEY, number INTEGER NOT NULL) STRICT"];

/// Adds a message for each change that has not come before, and says up to which number everything is stored. A row for each
/// message, and one for all of them.
///
/// Errors: the database's.
pub(super) fn take(
    db: &impl Database,
    now: UnixMs,
    log: &mut Log,
    source: ShardIndex,
    told: Vec<Changes>,
) -> Result<u64, DatabaseError> {
    let rows = db.run(
        "-- taken::take
        SELECT number FROM source WHERE shard = CAST(? AS INTEGER)",
        &[Value::Number(source.0.into())],
    )?;
    let known = rows.into_iter().next().map(|mut row| row.number()).transpose()?;
    let known = known.unwrap_or(0);
    let mut newest = known;
    for Changes { number, changes } in told {
        if number <= newest {
            continue;
        }
        for change in &changes {
            log.append(db, now, change, None)?;
        }
        newest = number;
    }
    if newest > known {
        db.run(
            "-- taken::take
            INSERT INTO source (shard, number) VALUES (?, ?) ON CONFLICT (shard) DO UPDATE SET number = excluded.number",
            &[Value::Number(source.0.into()), Value::Number(newest)],
        )?;
    }
    Ok(newest)
}
