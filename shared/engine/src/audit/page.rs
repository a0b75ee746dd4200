//! What is shown of the audit trail: acts, newest first, the parts of each added up; or, behind a number, the entries as
//! they were written, oldest first, which is what a follower or a check of the chain reads.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::Value as Json;
use tidegate_protocol::calls::tenant::AuditQuery;
use tidegate_protocol::chain;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::{AUDIT_JOBS_MAX, AuditPage};
use tidegate_protocol::time::UnixMs;

use super::archive::{KEPT_MS, checkpoint};
use super::head;
use crate::database::{Database, DatabaseError, Row, Value};

/// Entries of one page at most.
pub const PAGE_MAX: u32 = 200;

/// Above every number that a row takes.
const NUMBERS_END: u64 = (1 << 53) - 1;

/// A page of the trail. Acts older than [`KEPT_MS`] are not shown, whether they are archived already or not; entries behind a
/// number are, so that the chain has no gap.
///
/// Errors: the database's.
pub fn list(db: &impl Database, now: UnixMs, query: &AuditQuery) -> Result<AuditPage, DatabaseError> {
    let limit = u64::from(query.limit.clamp(1, PAGE_MAX));
    let oldest = UnixMs(now.0.saturating_sub(KEPT_MS));
    let oldest = if query.after.is_some() { UnixMs(0) } else { oldest };
    let given = |text: Option<&str>| text.map_or(Value::Null, |_| Value::Number(1));
    let (what, user) = (
        query.what.as_deref(),
        query.user.as_ref().map(tidegate_protocol::ids::UserId::as_str),
    );
    let values = [
        Value::Number(query.after.or(query.below).unwrap_or(NUMBERS_END)),
        Value::Number(query.from.unwrap_or(oldest).max(oldest).0),
        Value::Number(query.to.map_or(NUMBERS_END, |to| to.0)),
        given(what),
        Value::Text(what.unwrap_or_default()),
        given(user),
        Value::Text(user.unwrap_or_default()),
        Value::Number(limit + 1),
    ];
    let rows = if query.after.is_some() {
        db.run(
            "-- audit::list
            SELECT seq, previous, hash, entry, NULL FROM audit
            WHERE seq > CAST(?1 AS INTEGER) AND at >= CAST(?2 AS INTEGER) AND at < CAST(?3 AS INTEGER)
                AND (?4 IS NULL OR what = ?5) AND (?6 IS NULL OR user = ?7)
            ORDER BY seq LIMIT CAST(?8 AS INTEGER)",
            &values,
        )?
    } else {
        db.run(
            "-- audit::list
            SELECT seq, previous, hash, entry, CASE WHEN EXISTS (
                SELECT 1 FROM audit AS part WHERE part.request = audit.request AND part.part_of = audit.seq
            ) THEN request END FROM audit
            WHERE seq < CAST(?1 AS INTEGER) AND at >= CAST(?2 AS INTEGER) AND at < CAST(?3 AS INTEGER)
                AND (?4 IS NULL OR what = ?5) AND (?6 IS NULL OR user = ?7) AND part_of IS NULL
            ORDER BY seq DESC LIMIT CAST(?8 AS INTEGER)",
            &values,
        )?
    };
    let full = u64::try_from(rows.len()).unwrap_or(u64::MAX) > limit;
    let mut page = AuditPage {
        entries: Vec::with_capacity(rows.len()),
        cursor: None,
        head: Some(head(db)?.to_string()),
        checkpoint: checkpoint(db)?.map(|checkpoint| checkpoint.to_string()),
    };
    let mut last = 0;
    for row in rows.into_iter().take(usize::try_from(limit).unwrap_or(usize::MAX)) {
        let (seq, mut text, request) = shown(row)?;
        last = seq;
        if let Some(request) = request {
            text = added_up(db, seq, &text, &request)?;
        }
        page.entries.extend(JsonText::parse(&text));
    }
    page.cursor = full.then(|| last.to_string());
    Ok(page)
}

/// The number of a row, its entry as it is shown, and what comes behind these columns.
pub(super) fn shown(mut row: Row) -> Result<(u64, String, Option<String>), DatabaseError> {
    let (seq, previous, hash) = (row.number()?, row.optional_text()?, row.optional_text()?);
    let chained = previous.as_deref().zip(hash.as_deref());
    let text = chain::shown(seq, chained, &row.text()?);
    Ok((seq, text, row.optional_text()?))
}

/// An act of several parts as one entry: the first, with the sum of their counts, and the numbers of the others.
fn added_up(db: &impl Database, seq: u64, first: &str, request: &str) -> Result<String, DatabaseError> {
    let mut sum: Json = serde_json::from_str(first).unwrap_or_default();
    let rows = db.run(
        "-- audit::added_up
        SELECT seq, entry FROM audit WHERE request = ? AND part_of = CAST(? AS INTEGER) ORDER BY seq",
        &[Value::Text(request), Value::Number(seq)],
    )?;
    let mut parts = Vec::with_capacity(rows.len());
    for mut row in rows {
        parts.push(row.number()?.to_string());
        if let Ok(part) = serde_json::from_str(&row.text()?) {
            add(&mut sum, &part);
        }
    }
    let parts = alloc::format!("{{\"seq\":{seq},\"parts\":[{}],", parts.join(","));
    Ok(parts + chain::canonical(&sum).strip_prefix('{').unwrap_or("}"))
}

/// Takes another part of the same act into the first one: its counts, its outcome, and its jobs as far as one entry names them.
/// On JSON, so that what newer code tells of the first part stays.
fn add(sum: &mut Json, part: &Json) {
    for name in ["done", "refused"] {
        let count = |json: &Json| json.get("counts")?.get(name)?.as_u64();
        let total = count(sum).unwrap_or(0).saturating_add(count(part).unwrap_or(0));
        if let Some(count) = sum.get_mut("counts").and_then(|counts| counts.get_mut(name)) {
            *count = total.into();
        }
    }
    let outcome = part.get("outcome").filter(|outcome| outcome.as_str() == Some("partly"));
    if let (Some(ours), Some(partly)) = (sum.get_mut("outcome"), outcome) {
        *ours = partly.clone();
    }
    let jobs = part.get("target").and_then(|target| target.get("jobs")?.as_array());
    if let (Some(Json::Object(target)), Some(jobs)) = (sum.get_mut("target"), jobs) {
        let ours = target.entry("jobs").or_insert_with(|| Json::Array(Vec::new()));
        if let Json::Array(ours) = ours {
            let free = AUDIT_JOBS_MAX.saturating_sub(ours.len());
            ours.extend(jobs.iter().take(free).cloned());
        }
    }
}
