//! The audit trail of a tenant: what was done by hand, by whom, and when. Kept by the gate, newest first.
//!
//! Objects of the job queue write what is done in them into an outbox, in the turn in which they do it, and tell the gate
//! until it has confirmed it. Each numbers its entries from one up and tells them in order, so that here one number for
//! each object is enough to know what was taken down already. An act that takes several objects, as a bulk redrive does,
//! is one entry: its parts find each other by the request, and add up.
//!
//! An act that changes nothing leaves no entry, nor does one that is refused.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::tenant::{AuditQuery, Recorded};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::{AuditEntry, AuditPage, AuditTarget, AuditWhat};
use tidegate_protocol::ids::ShardIndex;
use tidegate_protocol::time::UnixMs;

use crate::database::{Database, DatabaseError, Value};

/// Entries kept of a tenant. Some 300 bytes each, 2 KiB at most.
pub const ENTRIES_MAX: u64 = 20_000;
/// How long an entry is kept. Milliseconds: 400 days.
pub const KEPT_MS: u64 = 400 * 86_400_000;
/// Entries deleted in one turn at most.
pub const SWEPT_MAX: u64 = 100;
/// Entries of one page at most.
pub const PAGE_MAX: u32 = 200;

/// The number that stands for the gate among the sources of entries. No object of the job queue has it.
const GATE: u16 = u16::MAX;

/// The tables of the gate. `request` is only there for acts that have parts.
pub const TRAIL: &[&str] = &[
    "-- audit::schema
    CREATE TABLE audit (
        seq INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        what TEXT NOT NULL,
        user TEXT NOT NULL,
        request TEXT,
        entry TEXT NOT NULL
    ) STRICT",
    "-- audit::schema
    CREATE INDEX audit_request ON audit(request) WHERE request IS NOT NULL",
    "-- audit::schema
    CREATE TABLE audit_heard (source INTEGER PRIMARY KEY, number INTEGER NOT NULL) STRICT",
];

/// Takes down what an object of the job queue tells. What it told before changes nothing.
///
/// Errors: the database's.
pub fn record(db: &impl Database, now: UnixMs, source: ShardIndex, entries: &[Recorded]) -> Result<(), DatabaseError> {
    let heard = heard(db, source)?;
    let mut last = heard;
    for told in entries {
        if told.number > last {
            take_down(db, now, told.entry.as_str())?;
            last = told.number;
        }
    }
    if last > heard {
        db.run(
            "-- audit::record
            INSERT INTO audit_heard (source, number) VALUES (?, ?)
            ON CONFLICT (source) DO UPDATE SET number = excluded.number",
            &[Value::Number(source.0.into()), Value::Number(last)],
        )?;
    }
    sweep(db, now)
}

/// Takes down what `caller` did with the gate itself.
///
/// Errors: the database's.
pub fn note(
    db: &impl Database,
    now: UnixMs,
    caller: &Caller,
    what: AuditWhat,
    target: AuditTarget,
) -> Result<(), DatabaseError> {
    let entry = AuditEntry::new(caller, now, GATE, last(db)? + 1, what, target);
    insert(db, &entry, written(&entry)?.as_str())?;
    sweep(db, now)
}

/// A page of the trail, newest first. What is older than [`KEPT_MS`] is not shown, whether it is deleted already or not.
///
/// Errors: the database's.
pub fn list(db: &impl Database, now: UnixMs, query: &AuditQuery) -> Result<AuditPage, DatabaseError> {
    let limit = u64::from(query.limit.clamp(1, PAGE_MAX));
    let oldest = UnixMs(now.0.saturating_sub(KEPT_MS));
    let optional = |text: Option<&str>| text.map_or(Value::Null, |_| Value::Number(1));
    let (what, user) = (
        query.what.as_deref(),
        query.user.as_ref().map(tidegate_protocol::ids::UserId::as_str),
    );
    let rows = db.run(
        "-- audit::list
        SELECT seq, entry FROM audit
        WHERE seq < CAST(?1 AS INTEGER) AND at >= CAST(?2 AS INTEGER) AND at < CAST(?3 AS INTEGER)
            AND (?4 IS NULL OR what = ?5) AND (?6 IS NULL OR user = ?7)
        ORDER BY seq DESC LIMIT CAST(?8 AS INTEGER)",
        &[
            Value::Number(query.below.unwrap_or(NUMBERS_END)),
            Value::Number(query.from.unwrap_or(oldest).max(oldest).0),
            Value::Number(query.to.map_or(NUMBERS_END, |to| to.0)),
            optional(what),
            Value::Text(what.unwrap_or_default()),
            optional(user),
            Value::Text(user.unwrap_or_default()),
            Value::Number(limit + 1),
        ],
    )?;
    let full = u64::try_from(rows.len()).unwrap_or(u64::MAX) > limit;
    let mut page = AuditPage {
        entries: Vec::with_capacity(rows.len()),
        cursor: None,
    };
    let mut below = 0;
    for mut row in rows.into_iter().take(usize::try_from(limit).unwrap_or(usize::MAX)) {
        below = row.number()?;
        page.entries.extend(JsonText::parse(&row.text()?));
    }
    page.cursor = full.then(|| below.to_string());
    Ok(page)
}

/// Above every number that a row takes.
const NUMBERS_END: u64 = (1 << 53) - 1;

/// Deletes the oldest entries that are too many or too old, a bounded number at a time.
///
/// Errors: the database's.
pub fn sweep(db: &impl Database, now: UnixMs) -> Result<(), DatabaseError> {
    let newest = last(db)?;
    db.run(
        "-- audit::sweep
        DELETE FROM audit WHERE seq IN (
            SELECT seq FROM (SELECT seq, at FROM audit ORDER BY seq LIMIT CAST(?1 AS INTEGER))
            WHERE seq <= CAST(?2 AS INTEGER) OR at < CAST(?3 AS INTEGER))",
        &[
            Value::Number(SWEPT_MAX),
            Value::Number(newest.saturating_sub(ENTRIES_MAX)),
            Value::Number(now.0.saturating_sub(KEPT_MS)),
        ],
    )?;
    Ok(())
}

/// The number of the last entry that an object told; 0 where it told none.
fn heard(db: &impl Database, source: ShardIndex) -> Result<u64, DatabaseError> {
    let rows = db.run(
        "-- audit::heard
        SELECT number FROM audit_heard WHERE source = CAST(? AS INTEGER)",
        &[Value::Number(source.0.into())],
    )?;
    rows.into_iter().next().map_or(Ok(0), |mut row| row.number())
}

/// The number of the newest entry; 0 where there is none.
fn last(db: &impl Database) -> Result<u64, DatabaseError> {
    let rows = db.run("-- audit::last\nSELECT max(seq) FROM audit", &[])?;
    let last = rows.into_iter().next().map(|mut row| row.optional_number());
    Ok(last.transpose()?.flatten().unwrap_or(0))
}

fn take_down(db: &impl Database, now: UnixMs, text: &str) -> Result<(), DatabaseError> {
    let Some(entry) = read(text) else {
        // Told by newer code than this: kept as it is, so that nothing behind it waits.
        return insert_row(db, now, ("", ""), None, text);
    };
    if let Some(known) = first_part(db, &entry)? {
        let (seq, mut first) = known;
        first.take_part(entry);
        db.run(
            "-- audit::take_part
            UPDATE audit SET entry = ? WHERE seq = CAST(? AS INTEGER)",
            &[Value::Text(written(&first)?.as_str()), Value::Number(seq)],
        )?;
        return Ok(());
    }
    insert(db, &entry, text)
}

/// The entry that another part of the same act has made.
fn first_part(db: &impl Database, part: &AuditEntry) -> Result<Option<(u64, AuditEntry)>, DatabaseError> {
    let Some(request) = part.request_id.as_ref().filter(|_| part.what.has_parts()) else {
        return Ok(None);
    };
    let rows = db.run(
        "-- audit::first_part
        SELECT seq, entry FROM audit WHERE request = ?",
        &[Value::Text(request.as_str())],
    )?;
    for mut row in rows {
        let seq = row.number()?;
        let entry = read(&row.text()?);
        if let Some(entry) = entry.filter(|entry| entry.what == part.what && entry.who == part.who) {
            return Ok(Some((seq, entry)));
        }
    }
    Ok(None)
}

fn insert(db: &impl Database, entry: &AuditEntry, text: &str) -> Result<(), DatabaseError> {
    let request = entry.request_id.as_ref().filter(|_| entry.what.has_parts());
    let request = request.map(tidegate_protocol::ids::RequestId::as_str);
    insert_row(
        db,
        entry.at,
        (entry.what.as_str(), entry.who.user.as_str()),
        request,
        text,
    )
}

fn insert_row(
    db: &impl Database,
    at: UnixMs,
    (what, user): (&str, &str),
    request: Option<&str>,
    text: &str,
) -> Result<(), DatabaseError> {
    db.run(
        "-- audit::insert
        INSERT INTO audit (at, what, user, request, entry) VALUES (?, ?, ?, ?, ?)",
        &[
            Value::Number(at.0),
            Value::Text(what),
            Value::Text(user),
            request.map_or(Value::Null, Value::Text),
            Value::Text(text),
        ],
    )?;
    Ok(())
}

#[inline(never)]
fn read(text: &str) -> Option<AuditEntry> {
    serde_json::from_str(text).ok()
}

/// An entry as it is kept, told and shown.
#[inline(never)]
pub(crate) fn written(entry: &AuditEntry) -> Result<JsonText, DatabaseError> {
    JsonText::of(entry).ok_or_else(|| DatabaseError::new(String::from("an entry of the audit trail cannot be written")))
}

#[cfg(test)]
#[cfg(feature = "native")]
mod tests;
