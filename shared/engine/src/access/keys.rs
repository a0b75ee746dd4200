//! The API keys of a tenant: what is kept of each, and whom it speaks for.

use alloc::string::String;
use alloc::vec::Vec;

use tidegate_protocol::calls::access::{Credential, NewKey};
use tidegate_protocol::calls::network::Network;
use tidegate_protocol::calls::{Caller, Principal};
use tidegate_protocol::http::{KeyList, KeyView};
use tidegate_protocol::ids::{ApiKeyId, TenantId, UserId};
use tidegate_protocol::time::UnixMs;

use crate::database::{Database, DatabaseError, Row, Value};

/// API keys of one tenant at most. Some 300 bytes each; a list of them is one answer.
pub const KEYS_MAX: u64 = 1_000;
/// How coarsely the last use of a key is kept: each costs a row. Milliseconds.
pub const USED_MS: u64 = 3_600_000;

/// Whom the key with this hash speaks for. Costs a row where its last use is longer ago than [`USED_MS`].
///
/// Errors: the database's.
pub fn identify(
    db: &impl Database,
    now: UnixMs,
    tenant: &TenantId,
    hash: &str,
) -> Result<Option<Principal>, DatabaseError> {
    let rows = db.run(
        "-- access::identify
        SELECT id, name, user, scopes, created_at, created_by, expires_at, old_until, used_at, hash
        FROM api_key WHERE hash = CAST(?1 AS TEXT) OR (old_hash IS NOT NULL AND old_hash = CAST(?1 AS TEXT))",
        &[Value::Text(hash)],
    )?;
    let Some(mut row) = rows.into_iter().next() else {
        return Ok(None);
    };
    let key = view(&mut row)?;
    let is_old = row.text()? != hash;
    let old_ended = is_old && key.old_text_until.is_none_or(|until| until <= now);
    if old_ended || key.expires_at.is_some_and(|at| at <= now) {
        return Ok(None);
    }
    if key.used_at.is_none_or(|at| now.since(at) >= USED_MS) {
        db.run(
            "-- access::used
            UPDATE api_key SET used_at = CAST(? AS INTEGER) WHERE id = CAST(? AS TEXT)",
            &[Value::Number(now.0), Value::Text(key.key_id.as_str())],
        )?;
    }
    let ends = key.expires_at.unwrap_or(Principal::NEVER);
    let old_ends = key.old_text_until.filter(|_| is_old).unwrap_or(Principal::NEVER);
    Ok(Some(Principal {
        tenant: tenant.clone(),
        user: key.user,
        scopes: key.scopes.into_iter().collect(),
        expires_at: ends.min(old_ends),
        credential: Credential::Key {
            id: key.key_id,
            created_at: key.created_at,
        },
        network: Network::default(),
    }))
}

/// All keys, the oldest first.
///
/// Errors: the database's.
pub fn list(db: &impl Database) -> Result<KeyList, DatabaseError> {
    let rows = db.run(
        "-- access::keys
        SELECT id, name, user, scopes, created_at, created_by, expires_at, old_until, used_at
        FROM api_key ORDER BY id",
        &[],
    )?;
    let keys: Result<Vec<KeyView>, DatabaseError> = rows.into_iter().map(|mut row| view(&mut row)).collect();
    Ok(KeyList { keys: keys? })
}

/// One key.
///
/// Errors: the database's.
pub(super) fn find(db: &impl Database, id: &ApiKeyId) -> Result<Option<KeyView>, DatabaseError> {
    let rows = db.run(
        "-- access::key
        SELECT id, name, user, scopes, created_at, created_by, expires_at, old_until, used_at
        FROM api_key WHERE id = CAST(? AS TEXT)",
        &[Value::Text(id.as_str())],
    )?;
    rows.into_iter().next().map(|mut row| view(&mut row)).transpose()
}

/// How many there are.
///
/// Errors: the database's.
pub(super) fn count(db: &impl Database) -> Result<u64, DatabaseError> {
    let rows = db.run("-- access::count_keys\nSELECT COUNT(*) FROM api_key", &[])?;
    rows.into_iter().next().map_or(Ok(0), |mut row| row.number())
}

/// Keeps a new key. Costs two rows.
///
/// Errors: the database's.
pub(super) fn insert(
    db: &impl Database,
    now: UnixMs,
    id: &ApiKeyId,
    hash: &str,
    key: &NewKey,
    by: &Caller,
) -> Result<(), DatabaseError> {
    db.run(
        "-- access::create_key
        INSERT INTO api_key (id, hash, name, user, scopes, created_at, created_by, expires_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        &[
            Value::Text(id.as_str()),
            Value::Text(hash),
            Value::Text(&key.name),
            Value::Text(key.user.as_str()),
            Value::Text(&key.scopes.join(" ")),
            Value::Number(now.0),
            Value::Text(by.user.as_str()),
            key.expires_at.map_or(Value::Null, |at| Value::Number(at.0)),
        ],
    )?;
    Ok(())
}

/// Gives a key another text. The one it has now stays good until `old_until`; one of before that is good no longer.
///
/// Errors: the database's.
pub(super) fn rotate(db: &impl Database, id: &ApiKeyId, hash: &str, old_until: UnixMs) -> Result<(), DatabaseError> {
    db.run(
        "-- access::rotate_key
        UPDATE api_key SET old_hash = hash, old_until = CAST(? AS INTEGER), hash = CAST(? AS TEXT)
        WHERE id = CAST(? AS TEXT)",
        &[Value::Number(old_until.0), Value::Text(hash), Value::Text(id.as_str())],
    )?;
    Ok(())
}

/// Deletes a key.
///
/// Errors: the database's.
pub(super) fn delete(db: &impl Database, id: &ApiKeyId) -> Result<(), DatabaseError> {
    db.run(
        "-- access::delete_key
        DELETE FROM api_key WHERE id = CAST(? AS TEXT)",
        &[Value::Text(id.as_str())],
    )?;
    Ok(())
}

fn view(row: &mut Row) -> Result<KeyView, DatabaseError> {
    let strange = |what: &'static str| move || DatabaseError::new(what);
    let key_id = ApiKeyId::parse(&row.text()?).ok_or_else(strange("an API key without an id"))?;
    let name = row.text()?;
    let user = UserId::parse(&row.text()?).ok_or_else(strange("an API key without a user"))?;
    let scopes = row
        .text()?
        .split(' ')
        .filter(|name| !name.is_empty())
        .map(String::from)
        .collect();
    let created_at = UnixMs(row.number()?);
    let created_by = UserId::parse(&row.text()?).ok_or_else(strange("an API key that nobody made"))?;
    Ok(KeyView {
        key_id,
        name,
        user,
        scopes,
        created_at,
        created_by,
        expires_at: row.optional_number()?.map(UnixMs),
        old_text_until: row.optional_number()?.map(UnixMs),
        used_at: row.optional_number()?.map(UnixMs),
    })
}
