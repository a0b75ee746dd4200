//! Takes a tenant back to a time, by what the platform keeps of each of its objects (point-in-time recovery).
//!
//! All or nothing: every object is asked first whether it can go back, and what undoes that. Only where all of them can is
//! anything written, here in the directory, which does not go back itself; from then on each object is told, and told again until it
//! has heard, whenever the operator asks again. To be told twice is to go back to the same time.
//!
//! The gate is told first, because at that time the tenant was let in, as a rule: it is suspended anew before any other object goes
//! back, so that whatever slips in before that goes with the rest.

#[cfg(test)]
#[cfg(feature = "native")]
mod tests;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::directory::Reply;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::{RecoveredObject, RecoveryView, TenantState};
use tidegate_protocol::ids::{HubIndex, ObjectName, ShardIndex, TenantId, UserId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode, Fault};

use super::{backups, note};
use crate::database::{Database, DatabaseError, Value};

/// How far back the platform goes. Milliseconds: 30 days.
pub const BACK_MS_MAX: u64 = 30 * 86_400_000;
/// How long after a step that was not seen to succeed it is taken again: longer than what a directory that died has sent is on its
/// way. Milliseconds.
pub const RETRY_MS: u64 = 5_000;
/// Bytes of the names of objects in a refusal, before its last.
const NAMED_BYTES_MAX: usize = 256;

/// The table. `next` is the place of the step in their order: the gate goes back, is suspended, and the others go back. `not_before` is
/// absent once all have heard; the row stays until the tenant is resumed, so that whoever lost the answer can have it again.
pub(super) const TABLES: &[&str] = &["-- recovery::schema
    CREATE TABLE recovery (
        tenant TEXT PRIMARY KEY,
        back_to INTEGER NOT NULL,
        user TEXT NOT NULL,
        version INTEGER NOT NULL,
        answer TEXT NOT NULL,
        next INTEGER NOT NULL,
        not_before INTEGER
    ) STRICT, WITHOUT ROWID"];

/// What somebody wants.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The tenant.
    pub tenant: TenantId,
    /// The time that it goes back to.
    pub at: UnixMs,
    /// Who asks.
    pub by: Caller,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Somebody wants it.
    Asked,
    /// The objects have said what the platform calls them at that time, and now; the gate's description has this version.
    Answered(u64, Vec<(ObjectName, Answer)>),
    /// The step was taken.
    Took(Outcome),
}

/// The two bookmarks of an object, or why it cannot go back.
pub type Answer = Result<Vec<String>, Error>;

/// What comes next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// The [`objects`] of the tenant are asked for their bookmarks. Nothing is written yet.
    Ask,
    /// This step is taken.
    Take(Step),
    /// Every object has heard.
    Done(Reply),
}

/// What is done with an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// An object is told to go back to this bookmark.
    GoBack(ObjectName, String),
    /// The gate, which is back, is told to let nobody in; its description goes on above this version.
    Suspend(ObjectName, u64, Caller),
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The object has heard, and goes back when it starts again, which it is about to.
    Told,
    /// The gate is suspended, with this version of its description.
    Suspended(u64),
    /// It is not known to have been done.
    Failed,
}

/// The row of a recovery.
struct Found {
    at: UnixMs,
    user: String,
    version: u64,
    answer: String,
    next: u64,
    not_before: Option<UnixMs>,
    /// The object of the next step, and where it goes back to.
    object: Option<String>,
    bookmark: Option<String>,
}

/// The objects of a tenant that is spread over so many hubs and shards, in the order in which they go back.
pub fn objects(tenant: &TenantId, hubs: u16, shards: u16) -> Vec<ObjectName> {
    let gate = ObjectName::Tenant(tenant.clone());
    let shards = (0..shards).map(|index| ObjectName::Jobs(tenant.clone(), ShardIndex(index)));
    let hubs = (0..hubs).map(|index| ObjectName::Hub(tenant.clone(), HubIndex(index)));
    core::iter::once(gate).chain(shards).chain(hubs).collect()
}

/// What comes after `event`.
///
/// Errors: the database's; within, `NOT_FOUND`; `VALIDATION_ERROR` with all that is wrong with the time; `CONFLICT` where the tenant is
/// not suspended, something else is being done with it, or objects that are named cannot go back; `NOT_IMPLEMENTED` where the platform
/// cannot; `UNAVAILABLE` where an object was not reached, or the steps are being taken. Nothing has changed then.
pub fn advance(
    db: &impl Database,
    now: UnixMs,
    wanted: &Wanted,
    event: Event,
) -> Result<Result<Next, Error>, DatabaseError> {
    if matches!(event, Event::Asked | Event::Answered(..)) {
        match begin(db, now, wanted)? {
            Ok(Begun::GoOn) => {}
            Ok(Begun::New) => match event {
                Event::Answered(version, answers) => {
                    if let Err(refusal) = all_can(&answers) {
                        return Ok(Err(refusal));
                    }
                    write(db, now, wanted, version, answers)?;
                }
                _ => return Ok(Ok(Next::Ask)),
            },
            Err(refusal) => return Ok(Err(refusal)),
        }
    } else if let Event::Took(outcome) = event {
        took(db, now, &wanted.tenant, outcome)?;
    }
    next(db, &wanted.tenant)
}

/// The refusal of whoever asks while the steps are being taken, or one was not seen to succeed: to be asked again after so many milliseconds.
pub fn unfinished(after_ms: u64) -> Error {
    let message = "Not every object has gone back yet: ask again for the same time.";
    Error::new(ErrorCode::Unavailable, message).retry_after(after_ms)
}

/// Whether it is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    New,
    GoOn,
}

/// Whether a tenant may be taken back.
fn begin(db: &impl Database, now: UnixMs, wanted: &Wanted) -> Result<Result<Begun, Error>, DatabaseError> {
    let Some(entry) = super::find(db, &wanted.tenant)? else {
        return Ok(Err(Error::not_found()));
    };
    let known = find(db, &wanted.tenant)?;
    let is_same = known.as_ref().is_some_and(|known| known.at == wanted.at);
    if !is_same && let Err(refusal) = check(now, entry.created_at, wanted.at) {
        return Ok(Err(refusal));
    }
    if entry.state != TenantState::Suspended {
        let message = "Only a suspended tenant goes back to an earlier time: suspend it first.";
        return Ok(Err(Error::new(ErrorCode::Conflict, message)));
    }
    match known {
        Some(known) if is_same => {
            return Ok(match known.not_before.filter(|at| *at > now) {
                None => Ok(Begun::GoOn),
                // Whoever takes its steps may be at it. One that has died may have told an object something that is still on its way.
                Some(at) => Err(unfinished(at.since(now))),
            });
        }
        Some(known) if known.not_before.is_some() => {
            let message = format!(
                "The tenant is on its way back to {}: ask for that time to go on.",
                known.at
            );
            return Ok(Err(Error::new(ErrorCode::Conflict, message)));
        }
        _ => {}
    }
    Ok(backups::at_rest(db, &wanted.tenant)?.map(|()| Begun::New))
}

/// What is wrong with the time.
fn check(now: UnixMs, created_at: UnixMs, at: UnixMs) -> Result<(), Error> {
    let wrong = [
        (at > now, "a time that has passed"),
        (
            now.since(at) > BACK_MS_MAX,
            "a time within the last 30 days, which is how far back the platform goes",
        ),
        (at < created_at, "a time at which there was the tenant already"),
    ];
    let faults: Vec<Fault> = wrong
        .into_iter()
        .filter(|(is_wrong, _)| *is_wrong)
        .map(|(_, expected)| Fault::new("/at", expected, &at.to_string()))
        .collect();
    if faults.is_empty() {
        return Ok(());
    }
    Err(Error::invalid("The tenant cannot go back to that time.", faults))
}

/// Every object will go back.
fn write(
    db: &impl Database,
    now: UnixMs,
    wanted: &Wanted,
    version: u64,
    answers: Vec<(ObjectName, Answer)>,
) -> Result<(), DatabaseError> {
    let mut view = RecoveryView {
        tenant: wanted.tenant.clone(),
        at: wanted.at,
        objects: Vec::with_capacity(answers.len()),
    };
    for (object, answer) in answers {
        let mut bookmarks = answer.unwrap_or_default().into_iter();
        view.objects.push(RecoveredObject {
            object: object.to_string(),
            bookmark: bookmarks.next().unwrap_or_default(),
            undo: bookmarks.next().unwrap_or_default(),
        });
    }
    let answer = JsonText::of(&view).ok_or_else(|| DatabaseError::new("a recovery that cannot be written"))?;
    db.run(
        "-- recovery::write
        INSERT OR REPLACE INTO recovery (tenant, back_to, user, version, answer, next, not_before)
        VALUES (?, ?, ?, ?, ?, 0, ?)",
        &[
            Value::Text(wanted.tenant.as_str()),
            Value::Number(wanted.at.0),
            Value::Text(wanted.by.user.as_str()),
            Value::Number(version),
            Value::Text(answer.as_str()),
            Value::Number(now.plus(RETRY_MS).0),
        ],
    )?;
    note(db, now, &wanted.tenant, "recovered", &wanted.by)
}

/// Whether every object can go back.
fn all_can(answers: &[(ObjectName, Answer)]) -> Result<(), Error> {
    let mut named = String::new();
    for (name, answer) in answers {
        match answer {
            Err(error) if error.code != ErrorCode::Conflict => return Err(error.clone()),
            Err(_) if named.len() < NAMED_BYTES_MAX => {
                named.push(' ');
                named.push_str(&name.to_string());
            }
            _ => {}
        }
    }
    if named.is_empty() {
        return Ok(());
    }
    let message = format!("Nothing was changed, because these objects cannot go back to that time:{named}");
    Err(Error::new(ErrorCode::Conflict, message))
}

/// The next step of a tenant's recovery, or what became of it.
fn next(db: &impl Database, tenant: &TenantId) -> Result<Result<Next, Error>, DatabaseError> {
    let Some(found) = find(db, tenant)? else {
        return Ok(Err(Error::not_found()));
    };
    if found.not_before.is_none() {
        return Ok(super::shown(JsonText::parse(&found.answer)).map(Next::Done));
    }
    let gate = || ObjectName::Tenant(tenant.clone());
    Ok(Ok(Next::Take(
        match (
            found.next,
            found.object.as_deref().map(ObjectName::parse),
            found.bookmark,
        ) {
            (1, ..) => Step::Suspend(gate(), found.version, by(&found.user)?),
            (_, Some(Some(object)), Some(bookmark)) => Step::GoBack(object, bookmark),
            _ => return Err(DatabaseError::new("a recovery of no object")),
        },
    )))
}

fn by(user: &str) -> Result<Caller, DatabaseError> {
    Ok(Caller {
        user: UserId::parse(user).ok_or_else(|| DatabaseError::new("a recovery by nobody"))?,
        reads_all: false,
        writes_all: false,
        act: None,
    })
}

/// A step was taken: the same that is the next one, because only one at a time takes them.
fn took(db: &impl Database, now: UnixMs, tenant: &TenantId, outcome: Outcome) -> Result<(), DatabaseError> {
    if let Outcome::Suspended(version) = outcome
        && let Some(mut entry) = super::find(db, tenant)?
    {
        entry.version = entry.version.max(version);
        super::write(db, &entry)?;
    }
    let done = u64::from(outcome != Outcome::Failed);
    db.run(
        "-- recovery::took
        UPDATE recovery SET next = next + CAST(?1 AS INTEGER), not_before = CASE
            WHEN next + CAST(?1 AS INTEGER) <= json_array_length(answer, '$.objects') THEN CAST(?2 AS INTEGER) END
        WHERE tenant = ?3 AND not_before IS NOT NULL",
        &[
            Value::Number(done),
            Value::Number(now.plus(RETRY_MS).0),
            Value::Text(tenant.as_str()),
        ],
    )?;
    Ok(())
}

/// Whether objects of the tenant are still to be told.
pub(super) fn is_under_way(db: &impl Database, tenant: &TenantId) -> Result<bool, DatabaseError> {
    Ok(find(db, tenant)?.is_some_and(|found| found.not_before.is_some()))
}

/// The tenant is let in again: what has ended is no longer told.
pub(super) fn resumed(db: &impl Database, tenant: &TenantId) -> Result<(), DatabaseError> {
    if is_under_way(db, tenant)? {
        return Ok(());
    }
    forget(db, tenant)
}

/// Nothing is known of any recovery of the tenant any more.
pub(super) fn forget(db: &impl Database, tenant: &TenantId) -> Result<(), DatabaseError> {
    db.run(
        "-- recovery::forget\nDELETE FROM recovery WHERE tenant = ?",
        &[Value::Text(tenant.as_str())],
    )?;
    Ok(())
}

fn find(db: &impl Database, tenant: &TenantId) -> Result<Option<Found>, DatabaseError> {
    let rows = db.run(
        "-- recovery::find
        SELECT back_to, user, version, answer, next, not_before,
            json_extract(answer, '$.objects[' || max(next - 1, 0) || '].object'),
            json_extract(answer, '$.objects[' || max(next - 1, 0) || '].bookmark')
        FROM recovery WHERE tenant = ?",
        &[Value::Text(tenant.as_str())],
    )?;
    let Some(mut row) = rows.into_iter().next() else {
        return Ok(None);
    };
    Ok(Some(Found {
        at: UnixMs(row.number()?),
        user: row.text()?,
        version: row.number()?,
        answer: row.text()?,
        next: row.number()?,
        not_before: row.optional_number()?.map(UnixMs),
        object: row.optional_text()?,
        bookmark: row.optional_text()?,
    }))
}
