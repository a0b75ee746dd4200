//! Takes a tenant back to a time, by what the platform keeps of each of its objects (point-in-time recovery).
//!
//! All or nothing: every object is asked first whether it can go back, and what undoes that. Only where all of them can is
//! anything written, here in the directory, which does not go back itself; from then on each object is told, and told again until it
//! has heard, whoever dies meanwhile. To be told twice is to go back to the same time.
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
use crate::database::{Database, DatabaseError, Row, Value};

/// How far back the platform goes. Milliseconds: 30 days.
pub const BACK_MS_MAX: u64 = 30 * 86_400_000;
/// How long after a step that was not seen to succeed it is taken again: longer than what a directory that died has sent is on its
/// way. Milliseconds.
pub const RETRY_MS: u64 = 5_000;
/// Objects that are named in a refusal at most.
const NAMED_MAX: usize = 5;

/// The tables. What has ended stays until the tenant is resumed, so that whoever lost the answer can have it again.
pub(super) const TABLES: &[&str] = &[
    "-- recovery::schema
    CREATE TABLE recovery (
        tenant TEXT PRIMARY KEY,
        back_to INTEGER NOT NULL,
        user TEXT NOT NULL,
        begun_at INTEGER NOT NULL,
        version INTEGER NOT NULL,
        is_suspended INTEGER NOT NULL,
        not_before INTEGER,
        finished_at INTEGER
    ) STRICT, WITHOUT ROWID",
    "-- recovery::schema
    CREATE TABLE recovery_object (
        tenant TEXT NOT NULL,
        place INTEGER NOT NULL,
        object TEXT NOT NULL,
        bookmark TEXT NOT NULL,
        undo TEXT NOT NULL,
        is_told INTEGER NOT NULL,
        PRIMARY KEY (tenant, place)
    ) STRICT, WITHOUT ROWID",
];

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
    /// A step was taken.
    Took(Step, Outcome),
    /// It has waited for its next step.
    Woken,
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
    begun_at: UnixMs,
    version: u64,
    is_suspended: bool,
    not_before: Option<UnixMs>,
    finished_at: Option<UnixMs>,
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
                    if let Err(refusal) = all_can(wanted.at, &answers) {
                        return Ok(Err(refusal));
                    }
                    write(db, now, wanted, version, &answers)?;
                }
                _ => return Ok(Ok(Next::Ask)),
            },
            Err(refusal) => return Ok(Err(refusal)),
        }
    } else if let Event::Took(step, outcome) = event {
        took(db, now, &wanted.tenant, &step, outcome)?;
    }
    Ok(match step(db, &wanted.tenant)? {
        Some(step) => Ok(Next::Take(step)),
        None => show(db, &wanted.tenant)?.map(Next::Done),
    })
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
                Some(at) => {
                    let message = "The tenant is going back to that time. Ask again for what came of it.";
                    Err(Error::new(ErrorCode::Unavailable, message).retry_after(at.since(now)))
                }
            });
        }
        Some(known) if known.finished_at.is_none() => {
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
    let mut faults = Vec::new();
    let mut fault = |expected: String| faults.push(Fault::new("/at", expected, &at.to_string()));
    if at > now {
        fault(format!("a time that has passed: it is {now}"));
    }
    if now.since(at) > BACK_MS_MAX {
        fault("a time within the last 30 days, which is how far back the platform goes".into());
    }
    if at < created_at {
        fault(format!(
            "a time at which there was the tenant: it was made at {created_at}"
        ));
    }
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
    answers: &[(ObjectName, Answer)],
) -> Result<(), DatabaseError> {
    forget(db, &wanted.tenant)?;
    let tenant = Value::Text(wanted.tenant.as_str());
    db.run(
        "-- recovery::write
        INSERT INTO recovery (tenant, back_to, user, begun_at, version, is_suspended, not_before)
        VALUES (?, ?, ?, ?, ?, 0, ?)",
        &[
            tenant,
            Value::Number(wanted.at.0),
            Value::Text(wanted.by.user.as_str()),
            Value::Number(now.0),
            Value::Number(version),
            Value::Number(now.plus(RETRY_MS).0),
        ],
    )?;
    for (place, (object, answer)) in (0_u64..).zip(answers) {
        let Ok([bookmark, undo]) = answer.as_deref() else {
            return Err(DatabaseError::new("an object without bookmarks"));
        };
        db.run(
            "-- recovery::write
            INSERT INTO recovery_object (tenant, place, object, bookmark, undo, is_told) VALUES (?, ?, ?, ?, ?, 0)",
            &[
                tenant,
                Value::Number(place),
                Value::Text(&object.to_string()),
                Value::Text(bookmark),
                Value::Text(undo),
            ],
        )?;
    }
    note(db, now, &wanted.tenant, "recovered", &wanted.by)
}

/// Whether every object can go back.
fn all_can(at: UnixMs, answers: &[(ObjectName, Answer)]) -> Result<(), Error> {
    let refusals = || {
        answers
            .iter()
            .filter_map(|(name, answer)| Some((name, answer.as_ref().err()?)))
    };
    let Some((_, first)) = refusals().next() else {
        return Ok(());
    };
    if let Some((_, lacking)) = refusals().find(|(_, error)| error.code == ErrorCode::NotImplemented) {
        return Err(lacking.clone());
    }
    if first.code == ErrorCode::Unavailable || refusals().any(|(_, error)| error.code != ErrorCode::Conflict) {
        let message = "Not every object of the tenant could be asked. Nothing was changed.";
        return Err(Error::new(ErrorCode::Unavailable, message).retry_after(RETRY_MS));
    }
    let named: Vec<String> = refusals()
        .take(NAMED_MAX)
        .map(|(name, error)| format!("`{name}` ({})", error.message))
        .collect();
    let message = format!(
        "Nothing was changed: {} of {} objects cannot go back to {at}: {}.",
        refusals().count(),
        answers.len(),
        named.join(", ")
    );
    Err(Error::new(ErrorCode::Conflict, message))
}

/// The next step of a tenant's recovery; `None` where there is none.
fn step(db: &impl Database, tenant: &TenantId) -> Result<Option<Step>, DatabaseError> {
    let Some(found) = find(db, tenant)?.filter(|found| found.finished_at.is_none()) else {
        return Ok(None);
    };
    let rows = db.run(
        "-- recovery::step
        SELECT place, object, bookmark FROM recovery_object WHERE tenant = ? AND is_told = 0 ORDER BY place LIMIT 1",
        &[Value::Text(tenant.as_str())],
    )?;
    let Some(mut row) = rows.into_iter().next() else {
        return Ok(Some(suspend(tenant, &found)?));
    };
    let place = row.number()?;
    if place > 0 && !found.is_suspended {
        return Ok(Some(suspend(tenant, &found)?));
    }
    let object = ObjectName::parse(&row.text()?).ok_or_else(|| DatabaseError::new("a recovery of no object"))?;
    Ok(Some(Step::GoBack(object, row.text()?)))
}

fn suspend(tenant: &TenantId, found: &Found) -> Result<Step, DatabaseError> {
    let gate = ObjectName::Tenant(tenant.clone());
    Ok(Step::Suspend(gate, found.version, by(&found.user)?))
}

fn by(user: &str) -> Result<Caller, DatabaseError> {
    Ok(Caller {
        user: UserId::parse(user).ok_or_else(|| DatabaseError::new("a recovery by nobody"))?,
        reads_all: false,
        writes_all: false,
        act: None,
    })
}

/// A step was taken.
fn took(
    db: &impl Database,
    now: UnixMs,
    tenant: &TenantId,
    step: &Step,
    outcome: Outcome,
) -> Result<(), DatabaseError> {
    let of = Value::Text(tenant.as_str());
    match (step, outcome) {
        (Step::GoBack(object, bookmark), Outcome::Told) => {
            db.run(
                "-- recovery::told
                UPDATE recovery_object SET is_told = 1 WHERE tenant = ? AND object = ? AND bookmark = ?",
                &[of, Value::Text(&object.to_string()), Value::Text(bookmark)],
            )?;
        }
        (Step::Suspend(..), Outcome::Suspended(version)) => {
            db.run(
                "-- recovery::suspended\nUPDATE recovery SET is_suspended = 1 WHERE tenant = ?",
                &[of],
            )?;
            if let Some(mut entry) = super::find(db, tenant)? {
                entry.version = entry.version.max(version);
                super::write(db, &entry)?;
            }
        }
        _ => {}
    }
    db.run(
        "-- recovery::took
        UPDATE recovery SET not_before = CAST(? AS INTEGER) WHERE tenant = ? AND finished_at IS NULL",
        &[Value::Number(now.plus(RETRY_MS).0), of],
    )?;
    db.run(
        "-- recovery::took
        UPDATE recovery SET not_before = NULL, finished_at = CAST(? AS INTEGER)
        WHERE tenant = ? AND finished_at IS NULL AND is_suspended = 1
        AND NOT EXISTS (SELECT 1 FROM recovery_object AS object WHERE object.tenant = recovery.tenant AND is_told = 0)",
        &[Value::Number(now.0), of],
    )?;
    Ok(())
}

/// A recovery that has waited for its next step.
///
/// Errors: the database's.
pub fn due(db: &impl Database, now: UnixMs) -> Result<Option<Wanted>, DatabaseError> {
    let rows = db.run(
        "-- recovery::due
        SELECT tenant, back_to, user FROM recovery WHERE not_before <= CAST(? AS INTEGER) ORDER BY not_before LIMIT 1",
        &[Value::Number(now.0)],
    )?;
    let Some(mut row) = rows.into_iter().next() else {
        return Ok(None);
    };
    Ok(Some(Wanted {
        tenant: TenantId::parse(&row.text()?).ok_or_else(|| DatabaseError::new("a recovery of no tenant"))?,
        at: UnixMs(row.number()?),
        by: by(&row.text()?)?,
    }))
}

/// When the next step of any recovery is due; `None` where there is none.
///
/// Errors: the database's.
pub fn next_wake(db: &impl Database) -> Result<Option<UnixMs>, DatabaseError> {
    let rows = db.run("-- recovery::next_wake\nSELECT min(not_before) FROM recovery", &[])?;
    let at = rows.into_iter().next().map(|mut row| row.optional_number());
    Ok(at.transpose()?.flatten().map(UnixMs))
}

/// What became of a tenant's recovery.
fn show(db: &impl Database, tenant: &TenantId) -> Result<Result<Reply, Error>, DatabaseError> {
    let Some(found) = find(db, tenant)? else {
        return Ok(Err(Error::not_found()));
    };
    let rows = db.run(
        "-- recovery::show\nSELECT object, bookmark, undo FROM recovery_object WHERE tenant = ? ORDER BY place",
        &[Value::Text(tenant.as_str())],
    )?;
    let object = |mut row: Row| {
        Ok(RecoveredObject {
            object: row.text()?,
            bookmark: row.text()?,
            undo: row.text()?,
        })
    };
    let view = RecoveryView {
        tenant: tenant.clone(),
        at: found.at,
        begun_at: found.begun_at,
        begun_by: by(&found.user)?.user,
        finished_at: found.finished_at,
        objects: rows.into_iter().map(object).collect::<Result<_, DatabaseError>>()?,
    };
    Ok(super::shown(JsonText::of(&view)))
}

/// Whether objects of the tenant are still to be told.
pub(super) fn is_under_way(db: &impl Database, tenant: &TenantId) -> Result<bool, DatabaseError> {
    Ok(find(db, tenant)?.is_some_and(|found| found.finished_at.is_none()))
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
    for sql in [
        "-- recovery::forget\nDELETE FROM recovery WHERE tenant = ?",
        "-- recovery::forget\nDELETE FROM recovery_object WHERE tenant = ?",
    ] {
        db.run(sql, &[Value::Text(tenant.as_str())])?;
    }
    Ok(())
}

fn find(db: &impl Database, tenant: &TenantId) -> Result<Option<Found>, DatabaseError> {
    let rows = db.run(
        "-- recovery::find
        SELECT back_to, user, begun_at, version, is_suspended, not_before, finished_at FROM recovery WHERE tenant = ?",
        &[Value::Text(tenant.as_str())],
    )?;
    let found = |mut row: Row| {
        Ok(Found {
            at: UnixMs(row.number()?),
            user: row.text()?,
            begun_at: UnixMs(row.number()?),
            version: row.number()?,
            is_suspended: row.number()? != 0,
            not_before: row.optional_number()?.map(UnixMs),
            finished_at: row.optional_number()?.map(UnixMs),
        })
    };
    rows.into_iter().next().map(found).transpose()
}
