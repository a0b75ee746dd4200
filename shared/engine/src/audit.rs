//! The audit trail of a tenant: what was done by hand, by whom, and when. Kept by the gate, newest first.
//!
//! Objects of the job queue write what is done in them into an outbox, in the turn in which they do it, and tell the gate
//! until it has confirmed it. Each numbers its entries from one up and tells them in order, so that here one number for
//! each object is enough to know what was taken down already.
//!
//! What is taken down is never changed: each entry is chained to the one before by its hash
//! ([`tidegate_protocol::chain`]). An act that takes several objects, as a bulk redrive does, is an entry for each part, of
//! which all but the first say whose part they are; a [`page`](list) adds them up. The oldest entries are stored elsewhere
//! before they are deleted ([`archive`]).
//!
//! An act that changes nothing leaves no entry, nor does one that is refused.

pub mod archive;
mod page;
pub mod refusals;

use alloc::string::{String, ToString};

use serde_json::Value as Json;
use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::tenant::Recorded;
use tidegate_protocol::chain::{self, Hash, Head};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::{AuditEntry, AuditTarget, AuditWhat, AuditWho};
use tidegate_protocol::ids::ShardIndex;
use tidegate_protocol::time::UnixMs;

pub use archive::{ENTRIES_MAX, ENTRIES_MIN, KEPT_MS, Segment};
pub use page::{PAGE_MAX, list};

use crate::database::{Database, DatabaseError, Value};

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

/// What came with the chain. An entry of before it has no hash. `part_of` is the number of the first part of the same act;
/// `previous` is kept beside `hash`, so that an entry can be checked by itself, and shown without the one before.
pub const CHAIN: &[&str] = &[
    "-- audit::schema
    ALTER TABLE audit ADD COLUMN part_of INTEGER",
    "-- audit::schema
    ALTER TABLE audit ADD COLUMN previous TEXT",
    "-- audit::schema
    ALTER TABLE audit ADD COLUMN hash TEXT",
    "-- audit::schema
    CREATE TABLE audit_archived (id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL, hash TEXT NOT NULL) STRICT",
];

/// Takes down what an object of the job queue tells. What it told before changes nothing.
///
/// Errors: the database's.
pub fn record(db: &impl Database, now: UnixMs, source: ShardIndex, entries: &[Recorded]) -> Result<(), DatabaseError> {
    let heard = heard(db, source)?;
    let mut last = heard;
    for told in entries {
        if told.number > last {
            take_down(db, now, &told.entry)?;
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
    Ok(())
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
    let entry = AuditEntry::new(caller, now, GATE, head(db)?.seq.saturating_add(1), what, target);
    take_down(db, now, &written(&entry)?)
}

/// Takes down what `who` did, where no request asked for it.
///
/// Errors: the database's.
pub fn note_by(
    db: &impl Database,
    now: UnixMs,
    who: AuditWho,
    what: AuditWhat,
    target: AuditTarget,
) -> Result<(), DatabaseError> {
    let entry = AuditEntry::by(who, now, GATE, head(db)?.seq.saturating_add(1), what, target);
    take_down(db, now, &written(&entry)?)
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

/// The newest entry: what the next one is chained to. Read from its row, so that an entry costs no row beside its own.
fn head(db: &impl Database) -> Result<Head, DatabaseError> {
    let rows = db.run(
        "-- audit::head
        SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1",
        &[],
    )?;
    match rows.into_iter().next() {
        Some(mut row) => read_head(row.number()?, row.optional_text()?),
        None => Ok(archive::checkpoint(db)?.unwrap_or(Head::unchained(0))),
    }
}

/// An entry as a head. One without a hash is of before the chain, or of older code.
fn read_head(seq: u64, hash: Option<String>) -> Result<Head, DatabaseError> {
    let Some(hash) = hash else {
        return Ok(Head::unchained(seq));
    };
    let hash = Hash::parse(&hash).ok_or_else(|| DatabaseError::new("a hash of the audit trail cannot be read"))?;
    Ok(Head { seq, hash })
}

/// Appends an entry, as it was told: also one of newer code than this, so that nothing behind it waits.
fn take_down(db: &impl Database, now: UnixMs, told: &JsonText) -> Result<(), DatabaseError> {
    let mut json: Json = serde_json::from_str(told.as_str()).unwrap_or_default();
    let text_of = |json: &Json, name: &str| json.get(name).and_then(Json::as_str).map(String::from);
    let what = text_of(&json, "what").unwrap_or_default();
    let who = json.get("who").and_then(|who| text_of(who, "user")).unwrap_or_default();
    let at = text_of(&json, "at").and_then(|at| UnixMs::parse(&at)).unwrap_or(now);
    let has_parts = AuditWhat::parse(&what).is_some_and(AuditWhat::has_parts);
    let request = text_of(&json, "request_id").filter(|_| has_parts);
    let first = match &request {
        Some(request) => first_part(db, request, &what, &who)?,
        None => None,
    };
    if let (Some(first), Json::Object(members)) = (first, &mut json) {
        members.insert(String::from("part_of"), first.into());
    }
    let text = chain::kept(&json);
    let before = head(db)?;
    let after = before.link(&text);
    let (previous, hash) = (before.hash.to_string(), after.hash.to_string());
    db.run(
        "-- audit::take_down
        INSERT INTO audit (seq, at, what, user, request, entry, part_of, previous, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        &[
            Value::Number(after.seq),
            Value::Number(at.0),
            Value::Text(&what),
            Value::Text(&who),
            request.as_deref().map_or(Value::Null, Value::Text),
            Value::Text(&text),
            Value::optional(first),
            Value::Text(&previous),
            Value::Text(&hash),
        ],
    )?;
    Ok(())
}

/// The number of the entry that is the first part of the same act.
fn first_part(db: &impl Database, request: &str, what: &str, user: &str) -> Result<Option<u64>, DatabaseError> {
    let rows = db.run(
        "-- audit::first_part
        SELECT seq FROM audit WHERE request = ? AND part_of IS NULL AND what = ? AND user = ? ORDER BY seq LIMIT 1",
        &[Value::Text(request), Value::Text(what), Value::Text(user)],
    )?;
    rows.into_iter().next().map(|mut row| row.number()).transpose()
}

/// An entry as it is kept, told and shown.
#[inline(never)]
pub(crate) fn written(entry: &AuditEntry) -> Result<JsonText, DatabaseError> {
    JsonText::of(entry).ok_or_else(|| DatabaseError::new(String::from("an entry of the audit trail cannot be written")))
}

#[cfg(test)]
#[cfg(feature = "native")]
mod tests;
