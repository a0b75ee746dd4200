//! Backups of a tenant, taken and restored one step after the other.
//!
//! A backup is one moment of all objects of a tenant: each of them stops to answer, then each puts by what it holds, and goes
//! on. Nothing that one of them sent after its moment is in what another holds at its own, so that what comes back is what a
//! crash of all of them at once would have left, which they are made for. What lies in object storage is copied after that, and
//! deletions of it wait until it is.
//!
//! A restoration reads and checks every part before it writes anything. The gate comes last: until it is back, there is no
//! tenant that anybody could come to. Every step can be taken twice, so that a crash costs no more than the step.

mod manifest;
#[cfg(test)]
#[cfg(feature = "native")]
mod tests;
mod work;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::directory::{BackupAct, Reply};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::{BackupList, BackupState, TenantState};
use tidegate_protocol::ids::{BackupId, ObjectName, TenantId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

pub use manifest::{Part, text as manifest};
pub use work::Work;
use work::{Phase, Progress};

use super::{Entry, note};
use crate::database::{Database, DatabaseError, Value};

/// Backups of a tenant at most, so that a list is one answer.
pub const BACKUPS_MAX: usize = 100;
/// How long after a step that failed it is taken again. Milliseconds.
pub const RETRY_MS: u64 = 5_000;
/// Bytes of a large thing that make a part of their own. Object storage takes pieces of 5 MiB and more, all of the same size.
pub const PIECE_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes of small things that make a part.
pub const PACKED_BYTES: usize = 4 * 1024 * 1024;
/// How often a moment is tried before the backup comes to nothing: objects that are too busy, or too large, to put by what they
/// hold within the time for which they answer nothing.
const MOMENTS_MAX: u64 = 5;

/// The tables.
pub(super) const TABLES: &[&str] = &[
    "-- backups::schema
    CREATE TABLE backup (
        tenant TEXT NOT NULL,
        id TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        not_before INTEGER,
        body BLOB NOT NULL,
        PRIMARY KEY (tenant, id)
    ) STRICT, WITHOUT ROWID",
    "-- backups::schema
    CREATE TABLE backup_part (
        tenant TEXT NOT NULL,
        id TEXT NOT NULL,
        number INTEGER NOT NULL,
        line TEXT NOT NULL,
        PRIMARY KEY (tenant, id, number)
    ) STRICT, WITHOUT ROWID",
    "-- backups::schema
    ALTER TABLE erasure ADD COLUMN keeps_backups INTEGER NOT NULL DEFAULT 0",
];

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The gate says how the tenant is spread.
    Spread,
    /// All objects put by what they hold, at one moment.
    Cut(Vec<ObjectName>, u64),
    /// An object carries parts into object storage: those behind its own `after`, the first as part `number`.
    Upload(ObjectName, u64, u64),
    /// What lies under a kind of prefix, behind this key, or from this byte of it on, becomes part `number`.
    Copy(u16, String, u64, u64),
    /// The manifest is written.
    Manifest,
    /// An object is told that the backup needs nothing more.
    Release(ObjectName, Option<Caller>),
    /// The manifest is read.
    Read,
    /// A part is checked.
    Check(Part),
    /// A part is written to where it came from. With the steps of the schema, where it is the first of its object.
    Write(Part, Option<u64>),
    /// An object is told that all is back; the gate's description begins above this version.
    Finish(ObjectName, u64, Caller),
    /// An object goes on with its work.
    Open(ObjectName),
    /// What is stored of the backup is deleted.
    Delete,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Over so many hubs and shards is the tenant spread.
    Spread(u16, u16),
    /// The moment is taken; so long did objects answer nothing, in milliseconds.
    Cut(u64),
    /// These parts are in object storage. None: there are no more in that place.
    Parts(Vec<String>),
    /// As [`Outcome::Parts`]; the next ones are behind this key, or from this byte of it on. `None`: there are no more.
    Copied(Option<String>, Option<(String, u64)>),
    /// The manifest has this SHA-256.
    Manifest(String),
    /// The manifest that was read, and its SHA-256.
    Read(String, String),
    /// The gate is back, with this version of its description.
    Finished(u64),
    /// It is done, or so much of it; there is more of the same.
    Done,
    /// The same is to be done again, at once.
    More,
    /// It cannot be done, for this reason.
    Broken(String),
    /// It is to be taken again after a while.
    Failed,
}

/// Does what an operator asks about backups.
///
/// Errors: the database's; within, `NOT_FOUND` and `CONFLICT`.
pub(super) fn act(
    db: &impl Database,
    now: UnixMs,
    tenant: &TenantId,
    backup: Option<&BackupId>,
    (act, by): (BackupAct, &Caller),
) -> Result<Result<Reply, Error>, DatabaseError> {
    let entry = super::find(db, tenant)?;
    let found = match backup {
        Some(id) => work::find(db, tenant, id)?,
        None => None,
    };
    let changed = match (act, backup, found) {
        (BackupAct::Show, None, _) => {
            let backups = work::all(db, tenant)?;
            if entry.is_none() && backups.is_empty() {
                return Ok(Err(Error::not_found()));
            }
            let backups = backups.into_iter().map(Work::into_view).collect();
            return Ok(super::shown(JsonText::of(&BackupList { backups })));
        }
        // It asks objects before it decides, which takes more than a turn: `recovery::advance` is what the shell goes by.
        (BackupAct::Recover(_), ..) => Err(Error::new(ErrorCode::InternalError, "A recovery is no turn.")),
        (BackupAct::Take, Some(id), None) => take(db, now, tenant, id, entry.as_ref(), by)?,
        (BackupAct::Bring, Some(id), found) => bring(db, now, tenant, id, found, by)?,
        (BackupAct::Show, Some(_), Some(found)) => Ok(found),
        (BackupAct::Restore, Some(_), Some(found)) => restore(db, now, entry, found, by)?,
        (BackupAct::Delete, Some(_), Some(found)) => delete(db, now, found)?,
        _ => Err(Error::not_found()),
    };
    Ok(match changed {
        Ok(work) => super::shown(JsonText::of(&work.into_view())),
        Err(refusal) => Err(refusal),
    })
}

fn conflict<T>(message: impl Into<alloc::borrow::Cow<'static, str>>) -> Result<T, Error> {
    Err(Error::new(ErrorCode::Conflict, message))
}

/// Whether no backup is under way.
pub(super) fn at_rest(db: &impl Database, tenant: &TenantId) -> Result<Result<(), Error>, DatabaseError> {
    let backups = work::all(db, tenant)?;
    let other = backups.iter().find(|other| other.is_under_way());
    Ok(other.map_or(Ok(()), |other| {
        conflict(format!(
            "Backup {} of this tenant is under way: wait for its end.",
            other.id
        ))
    }))
}

/// Whether there is room for one backup more, and none is under way.
fn room(db: &impl Database, tenant: &TenantId) -> Result<Result<(), Error>, DatabaseError> {
    if let Err(refusal) = at_rest(db, tenant)? {
        return Ok(Err(refusal));
    }
    let backups = work::all(db, tenant)?;
    if backups.len() >= BACKUPS_MAX {
        return Ok(conflict("A tenant has at most 100 backups: delete one first."));
    }
    Ok(Ok(()))
}

fn take(
    db: &impl Database,
    now: UnixMs,
    tenant: &TenantId,
    id: &BackupId,
    entry: Option<&Entry>,
    by: &Caller,
) -> Result<Result<Work, Error>, DatabaseError> {
    match entry.map(|entry| entry.state) {
        Some(TenantState::Active | TenantState::Suspended) => {}
        None => return Ok(Err(Error::not_found())),
        Some(_) => return Ok(conflict("The tenant is not there, or not whole, right now.")),
    }
    if super::recovery::is_under_way(db, tenant)? {
        return Ok(conflict(
            "The tenant is on its way back to an earlier time: wait for its end.",
        ));
    }
    if let Err(refusal) = room(db, tenant)? {
        return Ok(Err(refusal));
    }
    let work = Work::new(tenant, id, now, by, Phase::Spread);
    work.write(db)?;
    note(db, now, tenant, "backed_up", by)?;
    Ok(Ok(work))
}

fn bring(
    db: &impl Database,
    now: UnixMs,
    tenant: &TenantId,
    id: &BackupId,
    found: Option<Work>,
    by: &Caller,
) -> Result<Result<Work, Error>, DatabaseError> {
    match found {
        Some(work) if work.phase == Phase::Uploading => Ok(Ok(work)),
        // What came was broken: it may come again.
        Some(mut work) if work.phase == Phase::Failed && !work.is_own => {
            work.go_to(Phase::Uploading, now);
            work.reason = None;
            work.write(db)?;
            Ok(Ok(work))
        }
        Some(_) => Ok(conflict("The backup is whole, and does not change any more.")),
        None => {
            if let Err(refusal) = room(db, tenant)? {
                return Ok(Err(refusal));
            }
            let mut work = Work::new(tenant, id, now, by, Phase::Uploading);
            work.is_own = false;
            work.write(db)?;
            Ok(Ok(work))
        }
    }
}

fn restore(
    db: &impl Database,
    now: UnixMs,
    entry: Option<Entry>,
    mut work: Work,
    by: &Caller,
) -> Result<Result<Work, Error>, DatabaseError> {
    if work.state() == BackupState::Restoring {
        return Ok(Ok(work));
    }
    let is_whole = match work.phase {
        Phase::Kept | Phase::Waits | Phase::Uploading => true,
        Phase::Failed => !work.is_own || work.manifest.is_some(),
        _ => false,
    };
    if !is_whole {
        return Ok(conflict("The backup is not whole."));
    }
    match entry.as_ref().map(|entry| entry.state) {
        None | Some(TenantState::Erased) => {}
        Some(TenantState::Erasing) => {
            return Ok(conflict(
                "The tenant is being erased. It can be restored when that has ended.",
            ));
        }
        Some(_) => {
            let message = "There is a tenant of this id. It can be restored once it is erased, with its backups kept.";
            return Ok(conflict(message));
        }
    }
    work.was_erased = entry.is_some();
    work.by = by.clone();
    work.restored_at = None;
    work.reason = None;
    work.go_to(Phase::Read, now);
    work.write(db)?;
    let mut entry = entry.unwrap_or_else(|| Entry::new(work.tenant.clone(), now, false));
    entry.version += 2;
    entry.state = TenantState::Restoring;
    entry.changed_at = now;
    super::write(db, &entry)?;
    note(db, now, &work.tenant, "restored", by)?;
    Ok(Ok(work))
}

fn delete(db: &impl Database, now: UnixMs, mut work: Work) -> Result<Result<Work, Error>, DatabaseError> {
    match work.phase {
        Phase::Kept | Phase::Failed | Phase::Uploading | Phase::Delete => {}
        Phase::Waits | Phase::Open => {
            return Ok(conflict("The tenant that was restored from it was not resumed yet."));
        }
        _ => return Ok(conflict("It is under way: wait for its end.")),
    }
    work.go_to(Phase::Delete, now);
    work.write(db)?;
    Ok(Ok(work))
}

/// The tenant is erased. Its backups go with it, or stay as far as they are whole.
pub(super) fn erased(db: &impl Database, now: UnixMs, tenant: &TenantId, keeps: bool) -> Result<(), DatabaseError> {
    if keeps {
        for mut work in work::all(db, tenant)? {
            let before = work.phase;
            match work.state() {
                BackupState::Restoring => work.go_to(Phase::Kept, now),
                BackupState::Running => work.fail(now, "The tenant was erased.".into()),
                _ if matches!(before, Phase::Waits | Phase::Open) => work.go_to(Phase::Kept, now),
                _ => continue,
            }
            work.write(db)?;
        }
        return Ok(());
    }
    db.run(
        "-- backups::erased\nDELETE FROM backup WHERE tenant = ?",
        &[Value::Text(tenant.as_str())],
    )?;
    db.run(
        "-- backups::erased\nDELETE FROM backup_part WHERE tenant = ?",
        &[Value::Text(tenant.as_str())],
    )?;
    Ok(())
}

/// The tenant is let in again. Where it was restored, its shards go on with their work.
pub(super) fn resumed(db: &impl Database, now: UnixMs, tenant: &TenantId) -> Result<(), DatabaseError> {
    for mut work in work::all(db, tenant)? {
        if work.phase == Phase::Waits {
            work.go_to(Phase::Open, now);
            work.write(db)?;
        }
    }
    Ok(())
}

/// The backup whose next step has waited longest; `None` where none is due.
///
/// Errors: the database's.
pub fn due(db: &impl Database, now: UnixMs) -> Result<Option<Work>, DatabaseError> {
    work::due(db, now)
}

/// When the next step of any backup is due; `None` where there is none.
///
/// Errors: the database's.
pub fn next_wake(db: &impl Database) -> Result<Option<UnixMs>, DatabaseError> {
    let rows = db.run("-- backups::next_wake\nSELECT min(not_before) FROM backup", &[])?;
    let at = rows.into_iter().next().map(|mut row| row.optional_number());
    Ok(at.transpose()?.flatten().map(UnixMs))
}

/// What is to be done next.
///
/// Errors: the database's.
pub fn step(db: &impl Database, work: &Work) -> Result<Step, DatabaseError> {
    let lost = || DatabaseError::new("a backup has lost its place");
    Ok(match work.phase {
        Phase::Spread => Step::Spread,
        Phase::Cut => Step::Cut(work.objects(), work.moments),
        Phase::Parts => match work.place() {
            Some(Progress::Object(object)) => Step::Upload(object, work.after, work.parts + 1),
            Some(Progress::Stored(kind)) => Step::Copy(kind, work.key.clone(), work.after, work.parts + 1),
            None => Step::Manifest,
        },
        Phase::Release => {
            let object = work.object().ok_or_else(lost)?;
            let is_gate = matches!(object, ObjectName::Tenant(_));
            Step::Release(object, is_gate.then(|| work.by.clone()))
        }
        Phase::Read => Step::Read,
        Phase::Check => Step::Check(manifest::part(db, work, work.next + 1)?.ok_or_else(lost)?),
        Phase::Write => {
            let part = manifest::part(db, work, work.next + 1)?.ok_or_else(lost)?;
            let before = manifest::part(db, work, work.next)?;
            let is_first = before.is_none_or(|before| before.of != part.of);
            let schema = is_first.then_some(part.schema);
            Step::Write(part, schema)
        }
        Phase::Finish => {
            let version = super::find(db, &work.tenant)?.map_or(0, |entry| entry.version);
            Step::Finish(work.object().ok_or_else(lost)?, version, work.by.clone())
        }
        Phase::Open => Step::Open(work.object().ok_or_else(lost)?),
        Phase::Delete => Step::Delete,
        Phase::Kept | Phase::Waits | Phase::Failed | Phase::Uploading => return Err(lost()),
    })
}

/// A step was taken: how far the backup has got then. What was changed meanwhile by somebody else is not taken back.
///
/// Errors: the database's.
pub fn took(db: &impl Database, now: UnixMs, work: &Work, outcome: Outcome) -> Result<Option<Work>, DatabaseError> {
    let current = work::find(db, &work.tenant, &work.id)?;
    let Some(mut current) = current.filter(|current| current == work) else {
        return Ok(None);
    };
    let was = current.phase;
    match outcome {
        Outcome::Failed => {
            if was == Phase::Cut {
                current.moments += 1;
            }
            if current.moments >= MOMENTS_MAX && was == Phase::Cut {
                let reason = "The tenant's objects did not put by what they hold within the time for it, five times.";
                current.fail(now, reason.into());
            } else {
                current.not_before = Some(now.plus(RETRY_MS));
            }
        }
        Outcome::Broken(reason) => fail(db, now, &mut current, reason)?,
        Outcome::Spread(hubs, shards) => {
            (current.hubs, current.shards) = (hubs, shards);
            current.go_to(Phase::Cut, now);
        }
        Outcome::Cut(held_ms) => {
            current.taken_at = Some(now);
            current.held_ms = held_ms;
            current.go_to(Phase::Parts, now);
        }
        Outcome::Parts(lines) => match lines.last() {
            Some(_) => {
                for line in &lines {
                    manifest::add(db, &mut current, line)?;
                    current.after += 1;
                }
            }
            None => current.next_place(),
        },
        Outcome::Copied(line, next) => {
            if let Some(line) = line {
                manifest::add(db, &mut current, &line)?;
            }
            match next {
                Some((key, offset)) => (current.key, current.after) = (key, offset),
                None => current.next_place(),
            }
        }
        Outcome::Manifest(sha256) => {
            current.manifest = Some(sha256);
            current.go_to(Phase::Release, now);
        }
        Outcome::Read(text, sha256) => match manifest::read(db, &mut current, &text, &sha256)? {
            Ok(()) => current.go_to(Phase::Check, now),
            Err(reason) => fail(db, now, &mut current, reason)?,
        },
        Outcome::Finished(version) => restored(db, now, &mut current, version)?,
        Outcome::Done => done(db, now, &mut current)?,
        Outcome::More => {}
    }
    if was == Phase::Delete && current.phase == Phase::Failed {
        current.forget(db)?;
        return Ok(None);
    }
    current.write(db)?;
    Ok(Some(current))
}

/// A step that has nothing to tell is done.
fn done(db: &impl Database, now: UnixMs, work: &mut Work) -> Result<(), DatabaseError> {
    work.next += 1;
    let is_last = match work.phase {
        Phase::Check | Phase::Write => work.next >= work.parts,
        // The gate says that it is back by another word.
        Phase::Release | Phase::Open => work.object().is_none(),
        Phase::Finish => false,
        _ => true,
    };
    if is_last {
        match work.phase {
            Phase::Check => work.go_to(Phase::Write, now),
            Phase::Write => work.go_to(Phase::Finish, now),
            Phase::Release => {
                manifest::forget(db, work)?;
                work.finished_at = Some(now);
                work.go_to(Phase::Kept, now);
            }
            Phase::Open => work.go_to(Phase::Kept, now),
            // Deleted.
            _ => work.go_to(Phase::Failed, now),
        }
    }
    Ok(())
}

/// All is back, the gate too: the tenant is there, and suspended.
fn restored(db: &impl Database, now: UnixMs, work: &mut Work, version: u64) -> Result<(), DatabaseError> {
    manifest::forget(db, work)?;
    work.restored_at = Some(now);
    work.finished_at.get_or_insert(now);
    work.go_to(Phase::Waits, now);
    if let Some(mut entry) = super::find(db, &work.tenant)? {
        entry.state = TenantState::Suspended;
        entry.suspended_at = Some(now);
        entry.changed_at = now;
        entry.version = entry.version.max(version);
        super::write(db, &entry)?;
    }
    Ok(())
}

/// It comes to nothing. Where nothing of a restoration was written yet, the tenant is what it was before.
fn fail(db: &impl Database, now: UnixMs, work: &mut Work, reason: String) -> Result<(), DatabaseError> {
    if work.phase == Phase::Write {
        // Checked a moment ago, and broken now: what is written already can be erased, or the part be mended.
        work.reason = Some(reason);
        work.not_before = Some(now.plus(RETRY_MS));
        return Ok(());
    }
    manifest::forget(db, work)?;
    let was_restoring = work.state() == BackupState::Restoring;
    work.fail(now, reason);
    let entry = super::find(db, &work.tenant)?;
    let Some(mut entry) = entry.filter(|_| was_restoring) else {
        return Ok(());
    };
    if work.was_erased {
        entry.state = TenantState::Erased;
        super::write(db, &entry)
    } else {
        db.run(
            "-- backups::fail\nDELETE FROM tenants WHERE id = ?",
            &[Value::Text(work.tenant.as_str())],
        )
        .map(drop)
    }
}

/// The name of the part `number`, below the prefix of the backup.
pub fn part_name(number: u64) -> String {
    format!("{number:08}")
}

/// What the names of all parts of a backup begin with, below the prefix of the tenant.
pub fn folder(id: &BackupId) -> String {
    id.to_string() + "/"
}
