//! The secrets of a tenant: what is kept of each, and for how long.
//!
//! The gate keeps ciphertexts alone; the Worker seals and opens them. Which version a value is, is part of what it is
//! sealed with, so whoever sets a secret says which version it will be, and is refused where somebody else was quicker. At
//! most two versions of a name are kept: the current one, and until its time the one before. A version whose time has come
//! is erased by whatever is asked next about secrets.
//!
//! Setting a secret costs one row, and the entries of the audit trail; deleting it the same. Reading costs none.

use alloc::string::String;
use alloc::vec::Vec;

use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::secrets::Sealed;
use tidegate_protocol::calls::tenant::{Call, Reply};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::{AuditTarget, AuditWhat, SecretList, SecretView};
use tidegate_protocol::ids::SecretName;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode, Fault};

use crate::audit;
use crate::database::{Database, DatabaseError, Row, Value};
use crate::tenancy::shown;

/// Secrets of one tenant at most. 44 KiB each at most, with the version before.
pub const SECRETS_MAX: u64 = 100;

/// The table of the gate. What is long stands last: SQLite reads no further than it has to.
pub const SECRETS: &[&str] = &["-- secrets::schema
    CREATE TABLE secret (
        name TEXT PRIMARY KEY,
        version INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        rotated_at INTEGER,
        old_version INTEGER,
        old_until INTEGER,
        sealed TEXT NOT NULL,
        old_sealed TEXT
    ) STRICT, WITHOUT ROWID"];

/// Answers what is asked about secrets, and no other question.
///
/// Errors: the database's; within, those of [`set`] and [`delete`].
pub fn handle(db: &impl Database, now: UnixMs, call: Call) -> Result<Result<Reply, Error>, DatabaseError> {
    erase(db, now)?;
    Ok(match call {
        Call::SetSecret {
            secret,
            overlap_ms,
            caller,
        } => match set(db, now, &secret, overlap_ms, &caller)? {
            Ok(view) => shown(JsonText::of(&view)),
            Err(refusal) => Err(refusal),
        },
        Call::DeleteSecret { name, caller } => delete(db, now, &name, &caller)?.map(|()| Reply::Ended),
        Call::ListSecrets { key } => shown(JsonText::of(&list(db, &key)?)),
        Call::Secrets { names } => {
            let mut found = Vec::new();
            for name in &names {
                found.append(&mut live(db, now, name)?);
            }
            Ok(Reply::Secrets(found))
        }
        _ => {
            let message = "A question reached the wrong part of the gate.";
            Err(Error::new(ErrorCode::InternalError, message))
        }
    })
}

/// Keeps `secret` as the current version of its name. The version before stays good for `overlap_ms`; the one before that
/// is good no longer. What is current already changes nothing.
///
/// Errors: the database's; within, `CONFLICT` where it is not the next version's, and where there are too many secrets.
pub fn set(
    db: &impl Database,
    now: UnixMs,
    secret: &Sealed,
    overlap_ms: u64,
    caller: &Caller,
) -> Result<Result<SecretView, Error>, DatabaseError> {
    let current = live(db, now, &secret.name)?.into_iter().next();
    let what = match &current {
        Some(current) if current == secret => return view(db, &secret.name),
        None if secret.version == 1 => {
            if count(db)? >= SECRETS_MAX {
                let message = "A tenant has at most 100 secrets: delete one first.";
                return Ok(Err(Error::new(ErrorCode::Conflict, message)));
            }
            AuditWhat::SecretCreated
        }
        Some(current) if secret.version == current.version + 1 => AuditWhat::SecretRotated,
        _ => {
            let message = "The secret was changed by somebody else meanwhile.";
            return Ok(Err(Error::new(ErrorCode::Conflict, message)));
        }
    };
    // Without an overlap, nothing of the version before is kept.
    let old = (overlap_ms > 0).then(|| now.plus(overlap_ms).0);
    db.run(
        "-- secrets::set
        INSERT INTO secret (name, version, created_at, sealed)
        VALUES (?1, CAST(?2 AS INTEGER), CAST(?3 AS INTEGER), ?4)
        ON CONFLICT (name) DO UPDATE SET
            old_until = CAST(?5 AS INTEGER),
            old_version = CASE WHEN ?5 IS NULL THEN NULL ELSE version END,
            old_sealed = CASE WHEN ?5 IS NULL THEN NULL ELSE sealed END,
            version = excluded.version, sealed = excluded.sealed, rotated_at = excluded.created_at",
        &[
            Value::Text(secret.name.as_str()),
            Value::Number(secret.version),
            Value::Number(now.0),
            Value::Text(&secret.text),
            Value::optional(old),
        ],
    )?;
    audit::note(db, now, caller, what, of_secret(&secret.name))?;
    view(db, &secret.name)
}

/// Deletes a secret with all its versions.
///
/// Errors: the database's; within, `NOT_FOUND`.
pub fn delete(
    db: &impl Database,
    now: UnixMs,
    name: &SecretName,
    caller: &Caller,
) -> Result<Result<(), Error>, DatabaseError> {
    if !is_set(db, name)? {
        return Ok(Err(Error::not_found()));
    }
    db.run(
        "-- secrets::delete
        DELETE FROM secret WHERE name = CAST(? AS TEXT)",
        &[Value::Text(name.as_str())],
    )?;
    audit::note(db, now, caller, AuditWhat::SecretDeleted, of_secret(name))?;
    Ok(Ok(()))
}

/// The versions of a secret that are good, the current one first. Whoever sends it takes that; whoever verifies with it
/// takes both. Empty where there is no such secret.
///
/// Errors: the database's.
pub fn live(db: &impl Database, now: UnixMs, name: &SecretName) -> Result<Vec<Sealed>, DatabaseError> {
    let rows = db.run(
        "-- secrets::live
        SELECT version, sealed, old_until, old_version, old_sealed FROM secret WHERE name = CAST(? AS TEXT)",
        &[Value::Text(name.as_str())],
    )?;
    let Some(mut row) = rows.into_iter().next() else {
        return Ok(Vec::new());
    };
    let sealed = |version, text| Sealed {
        name: name.clone(),
        version,
        text,
    };
    let mut found = alloc::vec![sealed(row.number()?, row.text()?)];
    if row.optional_number()?.is_some_and(|until| now.0 < until) {
        found.push(sealed(row.number()?, row.text()?));
    }
    Ok(found)
}

/// All secrets, in the order of their names. `key` is what ciphertexts begin with that are of the deployment's key of now.
///
/// Errors: the database's.
pub fn list(db: &impl Database, key: &str) -> Result<SecretList, DatabaseError> {
    let rows = db.run(
        "-- secrets::list
        SELECT name, version, created_at, rotated_at, old_until,
            substr(sealed, 1, length(CAST(?1 AS TEXT))) <> CAST(?1 AS TEXT)
                OR substr(coalesce(old_sealed, CAST(?1 AS TEXT)), 1, length(CAST(?1 AS TEXT))) <> CAST(?1 AS TEXT)
        FROM secret ORDER BY name",
        &[Value::Text(key)],
    )?;
    let secrets: Result<Vec<SecretView>, DatabaseError> = rows.into_iter().map(read).collect();
    Ok(SecretList { secrets: secrets? })
}

/// The refusal of a composition that refers to secrets which are not set: all of them, each by the pointer to where it is
/// meant.
///
/// Errors: the database's.
pub fn missing(db: &impl Database, referred: &[(String, SecretName)]) -> Result<Option<Error>, DatabaseError> {
    let mut faults = Vec::new();
    for (pointer, name) in referred {
        if !is_set(db, name)? {
            let expected = "a secret that is set: set it first";
            faults.push(Fault::new(pointer.as_str(), expected, name.as_str()));
        }
    }
    if faults.is_empty() {
        return Ok(None);
    }
    let known = list(db, "")?.secrets;
    let faults = faults.into_iter().map(|fault| {
        let name = fault.got.clone();
        fault.suggest(&name, known.iter().map(|secret| secret.name.as_str()))
    });
    Ok(Some(Error::invalid(
        "The composition refers to secrets that are not set.",
        faults.collect(),
    )))
}

/// Erases versions whose time has come. Costs a row for each, and none where there is none.
fn erase(db: &impl Database, now: UnixMs) -> Result<(), DatabaseError> {
    db.run(
        "-- secrets::erase
        UPDATE secret SET old_version = NULL, old_until = NULL, old_sealed = NULL
        WHERE old_until <= CAST(? AS INTEGER)",
        &[Value::Number(now.0)],
    )?;
    Ok(())
}

fn is_set(db: &impl Database, name: &SecretName) -> Result<bool, DatabaseError> {
    let rows = db.run(
        "-- secrets::is_set
        SELECT 1 FROM secret WHERE name = CAST(? AS TEXT)",
        &[Value::Text(name.as_str())],
    )?;
    Ok(!rows.is_empty())
}

fn count(db: &impl Database) -> Result<u64, DatabaseError> {
    let rows = db.run("-- secrets::count\nSELECT COUNT(*) FROM secret", &[])?;
    rows.into_iter().next().map_or(Ok(0), |mut row| row.number())
}

/// A secret that was set just now, so by the deployment's key of now; of the version before nothing is said.
fn view(db: &impl Database, name: &SecretName) -> Result<Result<SecretView, Error>, DatabaseError> {
    let rows = db.run(
        "-- secrets::view
        SELECT name, version, created_at, rotated_at, old_until, 0 FROM secret WHERE name = CAST(? AS TEXT)",
        &[Value::Text(name.as_str())],
    )?;
    let view = rows.into_iter().next().map(read).transpose()?;
    Ok(view.ok_or_else(Error::not_found))
}

fn read(mut row: Row) -> Result<SecretView, DatabaseError> {
    let name = SecretName::parse(&row.text()?);
    Ok(SecretView {
        name: name.ok_or_else(|| DatabaseError::new("a secret without a name"))?,
        version: row.number()?,
        created_at: UnixMs(row.number()?),
        rotated_at: row.optional_number()?.map(UnixMs),
        old_value_until: row.optional_number()?.map(UnixMs),
        old_deployment_key: row.number()? != 0,
    })
}

fn of_secret(name: &SecretName) -> AuditTarget {
    AuditTarget {
        secret: Some(name.clone()),
        ..AuditTarget::default()
    }
}

#[cfg(test)]
#[cfg(feature = "native")]
mod tests;
