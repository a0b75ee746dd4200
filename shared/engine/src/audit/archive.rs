//! What becomes of the oldest entries of the audit trail: they are stored elsewhere, in segments, and only then deleted.
//!
//! A segment has the name of its entries' numbers, and entries never change: storing one twice, or one that overlaps
//! another because an answer was lost, does no harm. The number and hash of the last entry that was deleted stay, so that
//! what is left can be checked as well.

use alloc::string::{String, ToString};

use tidegate_protocol::chain::Head;
use tidegate_protocol::time::UnixMs;

use super::page::shown;
use super::read_head;
use crate::database::{Database, DatabaseError, Value};

/// Entries kept of a tenant, and so many more as one [`Segment`] has. Some 500 bytes each, 2 KiB at most.
pub const ENTRIES_MAX: u64 = 20_000;
/// Entries kept of a tenant at least, whatever a deployment says: what was done of late is at hand.
pub const ENTRIES_MIN: u64 = 100;
/// How long an entry is kept. Milliseconds: 400 days.
pub const KEPT_MS: u64 = 400 * 86_400_000;
/// By how much the oldest entry is too old before it goes, so that a segment is not for one entry. Milliseconds: a day.
const AGED_MS: u64 = 86_400_000;
/// Entries of one segment at most: 400 KiB, in one turn.
pub const SEGMENT_MAX: u64 = 200;

/// Entries that are to be stored before they are deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The number of the first.
    pub first: u64,
    /// The last one.
    pub last: Head,
    /// All of them, as the API shows them, a line each.
    pub text: String,
}

/// The oldest entries, where there are more than `kept` and a segment besides, or where they are too old. They are read, and
/// nothing else.
///
/// Errors: the database's.
pub fn due(db: &impl Database, now: UnixMs, kept: u64) -> Result<Option<Segment>, DatabaseError> {
    let rows = db.run(
        "-- audit::due
        SELECT seq, at, (SELECT max(seq) FROM audit) FROM audit ORDER BY seq LIMIT 1",
        &[],
    )?;
    let Some(mut row) = rows.into_iter().next() else {
        return Ok(None);
    };
    let (first, at, newest) = (row.number()?, row.number()?, row.number()?);
    let kept = kept.clamp(ENTRIES_MIN, ENTRIES_MAX);
    let surplus = newest.saturating_add(1).saturating_sub(first.saturating_add(kept));
    let too_old = now.0.saturating_sub(KEPT_MS);
    if surplus < SEGMENT_MAX && at >= too_old.saturating_sub(AGED_MS) {
        return Ok(None);
    }
    let surplus_end = if surplus < SEGMENT_MAX {
        0
    } else {
        first.saturating_add(surplus)
    };
    // Only from the oldest on, without a gap: an entry that was told late is older than those before it.
    let rows = db.run(
        "-- audit::due
        SELECT at, hash, seq, previous, hash, entry, NULL FROM audit ORDER BY seq LIMIT CAST(? AS INTEGER)",
        &[Value::Number(SEGMENT_MAX)],
    )?;
    let mut segment: Option<Segment> = None;
    for mut row in rows {
        let (at, hash) = (row.number()?, row.optional_text()?);
        let (seq, mut line, _) = shown(row)?;
        if seq >= surplus_end && at >= too_old {
            break;
        }
        let last = read_head(seq, hash)?;
        line.push('\n');
        match &mut segment {
            Some(segment) => {
                segment.last = last;
                segment.text.push_str(&line);
            }
            None => {
                segment = Some(Segment {
                    first: seq,
                    last,
                    text: line,
                });
            }
        }
    }
    Ok(segment)
}

/// Deletes entries up to `last`, whose segments are stored. Repeating it changes nothing.
///
/// Errors: the database's.
pub fn archived(db: &impl Database, last: Head) -> Result<(), DatabaseError> {
    if checkpoint(db)?.is_some_and(|before| before.seq >= last.seq) {
        return Ok(());
    }
    db.run(
        "-- audit::archived
        DELETE FROM audit WHERE seq <= CAST(? AS INTEGER)",
        &[Value::Number(last.seq)],
    )?;
    db.run(
        "-- audit::archived
        INSERT INTO audit_archived (id, seq, hash) VALUES (1, ?, ?)
        ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
        &[Value::Number(last.seq), Value::Text(&last.hash.to_string())],
    )?;
    Ok(())
}

/// The last entry that was deleted.
///
/// Errors: the database's.
pub fn checkpoint(db: &impl Database) -> Result<Option<Head>, DatabaseError> {
    let rows = db.run(
        "-- audit::checkpoint
        SELECT seq, hash FROM audit_archived WHERE id = 1",
        &[],
    )?;
    let row = rows.into_iter().next();
    row.map(|mut row| read_head(row.number()?, row.optional_text()?))
        .transpose()
}
