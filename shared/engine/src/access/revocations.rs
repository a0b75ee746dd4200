//! What is refused from now on, and that every hub hears of it, whatever dies in between.
//!
//! A change and what is still to be told of it are one commit. What has no confirmation is told again, by an alarm, until
//! it has one; the version makes that harmless.

use alloc::vec::Vec;

use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::access::{Access, Change, Revocation, Revoked};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::{AuditTarget, AuditWhat, RevocationList, RevocationView};
use tidegate_protocol::ids::{ApiKeyId, TokenId, UserId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::keys;
use crate::database::{Database, DatabaseError, Row, Value};
use crate::{audit, usage};

/// Revocations in force at most. Every hub keeps them all, some 100 bytes each.
pub const REVOCATIONS_MAX: usize = 1_000;
/// How long the deletion of a key is remembered: longer than any isolate trusts what it heard of a key. Milliseconds: a day.
const KEY_REMEMBERED_MS: u64 = 86_400_000;

/// What became of a change.
#[derive(Debug, Clone, PartialEq)]
pub enum Changed {
    /// Who may come in is as it was.
    Nothing(JsonText),
    /// Every hub has to hear of it.
    Access(JsonText),
}

/// Carries out `change` by `caller`.
///
/// Errors: the database's; within, `NOT_FOUND` and `CONFLICT`.
pub fn change(
    db: &impl Database,
    now: UnixMs,
    change: Change,
    caller: &Caller,
) -> Result<Result<Changed, Error>, DatabaseError> {
    match change {
        Change::CreateKey { id, hash, key } => {
            if keys::count(db)? >= keys::KEYS_MAX {
                let message = "A tenant has at most 1000 API keys: delete one first.";
                return Ok(Err(Error::new(ErrorCode::Conflict, message)));
            }
            keys::insert(db, now, &id, &hash, &key, caller)?;
            let target = AuditTarget {
                key_id: Some(id.clone()),
                user: Some(key.user),
                ..AuditTarget::default()
            };
            audit::note(db, now, caller, AuditWhat::KeyCreated, target)?;
            Ok(shown_key(db, &id)?.map(Changed::Nothing))
        }
        Change::RotateKey { id, hash, overlap_ms } => {
            if keys::find(db, &id)?.is_none() {
                return Ok(Err(Error::not_found()));
            }
            keys::rotate(db, &id, &hash, now.plus(overlap_ms))?;
            audit::note(db, now, caller, AuditWhat::KeyRotated, of_key(&id))?;
            Ok(shown_key(db, &id)?.map(Changed::Access))
        }
        Change::RevokeKey { id } => {
            if keys::find(db, &id)?.is_none() {
                return Ok(Err(Error::not_found()));
            }
            keys::delete(db, &id)?;
            audit::note(db, now, caller, AuditWhat::KeyRevoked, of_key(&id))?;
            revoke(db, now, Revoked::Key(id), KEY_REMEMBERED_MS)
        }
        Change::Revoke { of, for_ms } => {
            let target = AuditTarget {
                token: match &of {
                    Revoked::Token(token) => Some(token.clone()),
                    _ => None,
                },
                user: match &of {
                    Revoked::User(user) => Some(user.clone()),
                    _ => None,
                },
                ..AuditTarget::default()
            };
            let revoked = revoke(db, now, of, for_ms)?;
            if revoked.is_ok() {
                audit::note(db, now, caller, AuditWhat::CredentialsRevoked, target)?;
            }
            Ok(revoked)
        }
        Change::Suspend => suspend(db, now, Some(now), caller),
        Change::Resume => suspend(db, now, None, caller),
    }
}

fn of_key(id: &ApiKeyId) -> AuditTarget {
    AuditTarget {
        key_id: Some(id.clone()),
        ..AuditTarget::default()
    }
}

fn unwritable() -> Error {
    Error::new(ErrorCode::InternalError, "What was changed could not be written.")
}

fn shown_key(db: &impl Database, id: &ApiKeyId) -> Result<Result<JsonText, Error>, DatabaseError> {
    let key = keys::find(db, id)?;
    Ok(key.as_ref().and_then(JsonText::of).ok_or_else(unwritable))
}

fn revoke(db: &impl Database, now: UnixMs, of: Revoked, for_ms: u64) -> Result<Result<Changed, Error>, DatabaseError> {
    db.run(
        "-- access::forget
        DELETE FROM revocation WHERE until <= CAST(? AS INTEGER)",
        &[Value::Number(now.0)],
    )?;
    let revocation = Revocation {
        of,
        at: now,
        until: now.plus(for_ms),
    };
    // The deletion of a key is never refused.
    let known = revocations(db)?;
    let is_new = known.iter().all(|one| one.of != revocation.of);
    if is_new && known.len() >= REVOCATIONS_MAX && !matches!(revocation.of, Revoked::Key(_)) {
        let message = "There are 1000 revocations in force: revoke what users have instead of single tokens.";
        return Ok(Err(Error::new(ErrorCode::Conflict, message)));
    }
    let (kind, name) = written(&revocation.of);
    db.run(
        "-- access::revoke
        INSERT INTO revocation (kind, name, at, until) VALUES (?, ?, ?, ?)
        ON CONFLICT (kind, name) DO UPDATE SET at = excluded.at, until = max(until, excluded.until)",
        &[
            Value::Text(kind),
            Value::Text(name),
            Value::Number(revocation.at.0),
            Value::Number(revocation.until.0),
        ],
    )?;
    let shown = JsonText::of(&view(revocation)).ok_or_else(unwritable);
    Ok(shown.map(Changed::Access))
}

fn suspend(
    db: &impl Database,
    now: UnixMs,
    at: Option<UnixMs>,
    caller: &Caller,
) -> Result<Result<Changed, Error>, DatabaseError> {
    let before = suspended_at(db)?;
    let suspended_at = at.map(|at| before.unwrap_or(at));
    // Said here and not by a view: only the Worker knows of which tenant.
    let shown = suspended_at
        .as_ref()
        .map_or_else(|| JsonText::parse("null"), JsonText::of);
    let Some(shown) = shown else {
        return Ok(Err(unwritable()));
    };
    if suspended_at == before {
        return Ok(Ok(Changed::Nothing(shown)));
    }
    db.run(
        "-- access::suspend
        INSERT INTO access (id, suspended_at, version, told) VALUES (1, ?, 0, 1)
        ON CONFLICT (id) DO UPDATE SET suspended_at = excluded.suspended_at",
        &[Value::optional(suspended_at.map(|at| at.0))],
    )?;
    let what = match suspended_at {
        Some(_) => AuditWhat::TenantSuspended,
        None => AuditWhat::TenantResumed,
    };
    audit::note(db, now, caller, what, AuditTarget::default())?;
    Ok(Ok(Changed::Access(shown)))
}

fn suspended_at(db: &impl Database) -> Result<Option<UnixMs>, DatabaseError> {
    let rows = db.run(
        "-- access::suspended\nSELECT suspended_at FROM access WHERE id = 1",
        &[],
    )?;
    let at = rows
        .into_iter()
        .next()
        .map(|mut row| row.optional_number())
        .transpose()?;
    Ok(at.flatten().map(UnixMs))
}

/// Who may not come in. Revocations that are no longer in force may be among them.
///
/// Errors: the database's.
pub fn read(db: &impl Database) -> Result<Access, DatabaseError> {
    Ok(Access {
        suspended_at: suspended_at(db)?,
        revocations: revocations(db)?,
        spent: usage::spent(db)?,
    })
}

fn revocations(db: &impl Database) -> Result<Vec<Revocation>, DatabaseError> {
    let rows = db.run(
        "-- access::revocations
        SELECT kind, name, at, until FROM revocation ORDER BY at DESC, kind, name",
        &[],
    )?;
    rows.into_iter().map(|mut row| revocation(&mut row)).collect()
}

/// The revocations in force, as the API shows them, the newest first.
///
/// Errors: the database's.
pub fn list(db: &impl Database, now: UnixMs) -> Result<RevocationList, DatabaseError> {
    let in_force = revocations(db)?.into_iter().filter(|one| one.until > now);
    Ok(RevocationList {
        revocations: in_force.map(view).collect(),
    })
}

/// Notes that the hubs have to hear of `version`.
///
/// Errors: the database's.
pub fn untold_of(db: &impl Database, version: u64) -> Result<(), DatabaseError> {
    db.run(
        "-- access::untold_of
        INSERT INTO access (id, version, told) VALUES (1, ?, 0)
        ON CONFLICT (id) DO UPDATE SET version = excluded.version, told = 0",
        &[Value::Number(version)],
    )?;
    Ok(())
}

/// Whether hubs still have to hear of a change.
///
/// Errors: the database's.
pub fn untold(db: &impl Database) -> Result<bool, DatabaseError> {
    let rows = db.run("-- access::untold\nSELECT 1 FROM access WHERE id = 1 AND told = 0", &[])?;
    Ok(!rows.is_empty())
}

/// All hubs have heard of `version`.
///
/// Errors: the database's.
pub fn told(db: &impl Database, version: u64) -> Result<(), DatabaseError> {
    db.run(
        "-- access::told
        UPDATE access SET told = 1 WHERE id = 1 AND told = 0 AND version <= CAST(? AS INTEGER)",
        &[Value::Number(version)],
    )?;
    Ok(())
}

fn written(of: &Revoked) -> (&'static str, &str) {
    match of {
        Revoked::Token(token) => ("token", token.as_str()),
        Revoked::Key(key) => ("key", key.as_str()),
        Revoked::User(user) => ("user", user.as_str()),
        Revoked::Everyone => ("everyone", ""),
    }
}

fn revocation(row: &mut Row) -> Result<Revocation, DatabaseError> {
    let (kind, name) = (row.text()?, row.text()?);
    let of = match kind.as_str() {
        "token" => TokenId::parse(&name).map(Revoked::Token),
        "key" => ApiKeyId::parse(&name).map(Revoked::Key),
        "user" => UserId::parse(&name).map(Revoked::User),
        "everyone" => Some(Revoked::Everyone),
        _ => None,
    };
    Ok(Revocation {
        of: of.ok_or_else(|| DatabaseError::new("a revocation of nobody"))?,
        at: UnixMs(row.number()?),
        until: UnixMs(row.number()?),
    })
}

fn view(revocation: Revocation) -> RevocationView {
    let mut view = RevocationView {
        token: None,
        key_id: None,
        user: None,
        everyone: None,
        at: revocation.at,
        until: revocation.until,
    };
    match revocation.of {
        Revoked::Token(token) => view.token = Some(token),
        Revoked::Key(key) => view.key_id = Some(key),
        Revoked::User(user) => view.user = Some(user),
        Revoked::Everyone => view.everyone = Some(true),
    }
    view
}
