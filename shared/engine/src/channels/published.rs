//! Messages that were published under a key: the same key, the same message.

use alloc::string::String;

use tidegate_protocol::channels::Publication;
use tidegate_protocol::ids::{Offset, UserId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use crate::database::{Database, DatabaseError, Value};
use crate::hub::fingerprint_text;

/// How long a key is remembered: longer than any client repeats a message. Milliseconds.
pub const KEY_MS: u64 = 600_000;

fn print(publication: &Publication, publisher: Option<&UserId>) -> String {
    fingerprint_text(publisher.map_or("", UserId::as_str), publication.data.as_str())
}

/// Where the message stands that was published under the key of this one; `None`: under none, or nowhere.
///
/// Errors: within, `IDEMPOTENCY_MISMATCH` for another message under the same key; else the database's.
pub(super) fn find(
    db: &impl Database,
    now: UnixMs,
    publication: &Publication,
    publisher: Option<&UserId>,
) -> Result<Result<Option<Offset>, Error>, DatabaseError> {
    let Some(key) = &publication.idempotency_key else {
        return Ok(Ok(None));
    };
    let rows = db.run(
        "-- published::find
        SELECT place, print FROM published WHERE key = ? AND at >= CAST(? AS INTEGER)",
        &[Value::Text(key.as_str()), Value::Number(now.0.saturating_sub(KEY_MS))],
    )?;
    let Some(mut row) = rows.into_iter().next() else {
        return Ok(Ok(None));
    };
    let place = Offset(row.number()?);
    if row.text()? == print(publication, publisher) {
        return Ok(Ok(Some(place)));
    }
    let message = "Another message was published in this channel under the same idempotency key.";
    Ok(Err(Error::new(ErrorCode::IdempotencyMismatch, message)))
}

/// Keeps the key of a message, and forgets those that are too old.
///
/// Errors: the database's.
pub(super) fn note(
    db: &impl Database,
    now: UnixMs,
    publication: &Publication,
    publisher: Option<&UserId>,
    offset: Offset,
) -> Result<(), DatabaseError> {
    let Some(key) = &publication.idempotency_key else {
        return Ok(());
    };
    forget(db, now)?;
    db.run(
        "-- published::note
        INSERT OR REPLACE INTO published (key, place, at, print) VALUES (?, ?, ?, ?)",
        &[
            Value::Text(key.as_str()),
            Value::Number(offset.0),
            Value::Number(now.0),
            Value::Text(&print(publication, publisher)),
        ],
    )?;
    Ok(())
}

/// Forgets the keys that are too old.
///
/// Errors: the database's.
pub(super) fn forget(db: &impl Database, now: UnixMs) -> Result<(), DatabaseError> {
    db.run(
        "-- published::forget
        DELETE FROM published WHERE at < CAST(? AS INTEGER)",
        &[Value::Number(now.0.saturating_sub(KEY_MS))],
    )?;
    Ok(())
}
