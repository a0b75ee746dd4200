//! Who may come in: whether a verified caller was revoked since, or its whole tenant suspended.
//!
//! The gate owns the list and tells every hub of a change at once; a hub ends the sockets that it concerns and looks at
//! whoever comes. What does not pass a hub looks at what the gate said within the last second.

mod keys;
mod revocations;
#[cfg(test)]
#[cfg(feature = "native")]
mod tests;

use sha2::{Digest, Sha256};
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::access::{Access, Credential, Revocation, Revoked};
use tidegate_protocol::ids::TokenId;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use crate::digest::short;

pub use keys::{KEYS_MAX, USED_MS, identify, list as keys};
pub use revocations::{Changed, REVOCATIONS_MAX, change, list as revocations, read, told, untold, untold_of};

/// The tables of the gate.
pub const TABLES: &[&str] = &[
    "-- access::schema
    CREATE TABLE api_key (
        id TEXT PRIMARY KEY,
        hash TEXT NOT NULL UNIQUE,
        old_hash TEXT,
        old_until INTEGER,
        name TEXT NOT NULL,
        user TEXT NOT NULL,
        scopes TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        created_by TEXT NOT NULL,
        expires_at INTEGER,
        used_at INTEGER
    ) STRICT, WITHOUT ROWID",
    "-- access::schema
    CREATE UNIQUE INDEX api_key_old ON api_key(old_hash) WHERE old_hash IS NOT NULL",
    "-- access::schema
    CREATE TABLE revocation (
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        at INTEGER NOT NULL,
        until INTEGER NOT NULL,
        PRIMARY KEY (kind, name)
    ) STRICT, WITHOUT ROWID",
    "-- access::schema
    CREATE TABLE access (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        suspended_at INTEGER,
        version INTEGER NOT NULL,
        told INTEGER NOT NULL
    ) STRICT",
];

/// A token's `jti` as revocations name it: as it stands, or by its hash where it is too long for that or not printable.
/// `None` where it is empty.
pub fn token_id(jti: &str) -> Option<TokenId> {
    let hashed = || alloc::format!("sha256:{}", short(Sha256::new_with_prefix(jti.as_bytes())));
    TokenId::parse(jti).or_else(|| TokenId::parse(&hashed()).filter(|_| !jti.is_empty()))
}

/// Whether `principal`, whose credential was good by itself, may come in.
///
/// Errors: `TENANT_SUSPENDED`; `UNAUTHORIZED` where the credential was revoked.
pub fn check(access: &Access, principal: &Principal, now: UnixMs) -> Result<(), Error> {
    if access.suspended_at.is_some() {
        let message = "The tenant is suspended. Its operator can say why.";
        return Err(Error::new(ErrorCode::TenantSuspended, message));
    }
    if access.revocations.iter().any(|one| revokes(one, principal, now)) {
        return Err(Error::new(ErrorCode::Unauthorized, "The credential was revoked."));
    }
    Ok(())
}

fn revokes(revocation: &Revocation, principal: &Principal, now: UnixMs) -> bool {
    if revocation.until <= now {
        return false;
    }
    // What does not say when it was issued may have been there already.
    let was_there = || {
        principal
            .credential
            .issued_at()
            .is_none_or(|issued_at| issued_at <= revocation.at)
    };
    match (&revocation.of, &principal.credential) {
        (Revoked::Token(revoked), Credential::Token { id: Some(id), .. }) => revoked == id,
        (Revoked::Key(revoked), Credential::Key { id, .. }) => revoked == id,
        (Revoked::Token(_) | Revoked::Key(_), _) => false,
        (Revoked::User(user), _) => *user == principal.user && was_there(),
        (Revoked::Everyone, _) => was_there(),
    }
}
