//! Attempt tokens: what lets whoever makes an attempt of a job, anywhere, report on that attempt and on nothing else.
//!
//! A token names a tenant, a job, and the fencing token of one lease. Whether that lease is still held is for the job's
//! object to know. The form is a version, the claims, and an HMAC over both, in base64url.

use alloc::string::String;
use alloc::vec::Vec;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;

use crate::deployment_key::DeploymentKey;
use crate::error::{IdentityError, Reason};
use crate::principal::Tenant;

/// Characters of an attempt token at most: its numbers, the longest tenant, the tag, and room for what may be added.
pub const ATTEMPT_TOKEN_CHARS_MAX: usize = 512;

/// The first byte of a token. The purpose of the key names it too, so that no version can pass for another.
const VERSION: u8 = 1;
const PURPOSE: &str = "attempt v1";
const TAG_BYTES: usize = 32;

/// What an attempt token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptClaims {
    /// The tenant.
    pub tenant: Tenant,
    /// The `Jobs` object that holds the job. It stays there for good.
    pub shard: u16,
    /// The job's number.
    pub number: u64,
    /// The part of the job's id that comes from chance.
    pub tail: u32,
    /// The fencing token of the lease.
    pub lease: u64,
    /// When the token expires, unix ms. The lease may be lost long before.
    pub expires_at_ms: u64,
}

/// Makes a token.
pub fn mint(key: &DeploymentKey, claims: &AttemptClaims) -> String {
    let tenant = claims.tenant.as_str().as_bytes();
    let mut token = Vec::with_capacity(128);
    token.push(VERSION);
    token.extend_from_slice(&claims.shard.to_be_bytes());
    token.extend_from_slice(&claims.number.to_be_bytes());
    token.extend_from_slice(&claims.tail.to_be_bytes());
    token.extend_from_slice(&claims.lease.to_be_bytes());
    token.extend_from_slice(&claims.expires_at_ms.to_be_bytes());
    token.extend_from_slice(tenant);
    let tag = key.derive(PURPOSE).chain_update(&token).finalize().into_bytes();
    token.extend_from_slice(&tag);
    URL_SAFE_NO_PAD.encode(&token)
}

/// Opens a token at `now_ms`.
///
/// Errors: `AttemptTokenMalformed`, `AttemptTokenForged`, `AttemptTokenExpired`.
pub fn open(key: &DeploymentKey, token: &str, now_ms: u64) -> Result<AttemptClaims, IdentityError> {
    if token.len() > ATTEMPT_TOKEN_CHARS_MAX {
        return Err(Reason::AttemptTokenMalformed.into());
    }
    let bytes = URL_SAFE_NO_PAD
        .decode(token)
        .map_err(|_| Reason::AttemptTokenMalformed)?;
    let (body, tag) = bytes
        .split_last_chunk::<TAG_BYTES>()
        .ok_or(Reason::AttemptTokenMalformed)?;
    key.derive(PURPOSE)
        .chain_update(body)
        .verify_slice(tag)
        .map_err(|_| Reason::AttemptTokenForged)?;
    let claims = decode(body).ok_or(Reason::AttemptTokenMalformed)?;
    if now_ms >= claims.expires_at_ms {
        return Err(Reason::AttemptTokenExpired.into());
    }
    Ok(claims)
}

/// Fixed fields, and the tenant is the rest. Numbers are big-endian.
fn decode(body: &[u8]) -> Option<AttemptClaims> {
    let (version, rest) = body.split_first()?;
    let (shard, rest) = rest.split_first_chunk()?;
    let (number, rest) = rest.split_first_chunk()?;
    let (tail, rest) = rest.split_first_chunk()?;
    let (lease, rest) = rest.split_first_chunk()?;
    let (expires_at_ms, rest) = rest.split_first_chunk()?;
    let tenant = Tenant::parse(core::str::from_utf8(rest).ok()?)?;
    (*version == VERSION).then_some(AttemptClaims {
        tenant,
        shard: u16::from_be_bytes(*shard),
        number: u64::from_be_bytes(*number),
        tail: u32::from_be_bytes(*tail),
        lease: u64::from_be_bytes(*lease),
        expires_at_ms: u64::from_be_bytes(*expires_at_ms),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn key(digit: &str) -> DeploymentKey {
        DeploymentKey::parse(&digit.repeat(64)).unwrap()
    }

    fn claims() -> AttemptClaims {
        AttemptClaims {
            tenant: Tenant::parse("eu.acme").unwrap(),
            shard: 1023,
            number: (1 << 53) - 1,
            tail: 77,
            lease: 3,
            expires_at_ms: NOW + 60_000,
        }
    }

    fn reason(key: &DeploymentKey, token: &str, now_ms: u64) -> Reason {
        open(key, token, now_ms).unwrap_err().reason
    }

    #[test]
    fn a_token_says_what_it_was_made_with_until_it_expires() {
        let token = mint(&key("5"), &claims());
        assert_eq!(open(&key("5"), &token, NOW), Ok(claims()));
        assert_eq!(open(&key("5"), &token, NOW + 59_999), Ok(claims()));
        assert_eq!(reason(&key("5"), &token, NOW + 60_000), Reason::AttemptTokenExpired);
    }

    #[test]
    fn no_other_byte_and_no_other_key_opens_it() {
        let token = mint(&key("5"), &claims());
        assert_eq!(reason(&key("6"), &token, NOW), Reason::AttemptTokenForged);
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for place in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[place] ^= 1;
            let altered = URL_SAFE_NO_PAD.encode(altered);
            assert_eq!(reason(&key("5"), &altered, NOW), Reason::AttemptTokenForged, "{place}");
        }
        for length in 0..bytes.len() {
            assert!(open(&key("5"), &URL_SAFE_NO_PAD.encode(&bytes[..length]), NOW).is_err());
        }
        for wrong in ["", "=", "a.b.c", &"A".repeat(ATTEMPT_TOKEN_CHARS_MAX + 1)] {
            assert_eq!(reason(&key("5"), wrong, NOW), Reason::AttemptTokenMalformed, "{wrong}");
        }
    }

    #[test]
    fn what_was_tagged_for_another_purpose_is_no_token() {
        let key = key("5");
        let bytes = URL_SAFE_NO_PAD.decode(mint(&key, &claims())).unwrap();
        let (body, _) = bytes.split_last_chunk::<TAG_BYTES>().unwrap();
        let tag = key.derive("ticket v1").chain_update(body).finalize().into_bytes();
        let token = URL_SAFE_NO_PAD.encode([body, &tag[..]].concat());
        assert_eq!(reason(&key, &token, NOW), Reason::AttemptTokenForged);
    }

    #[test]
    fn the_longest_tenant_fits() {
        let tenant = Tenant::parse(&"a".repeat(48)).unwrap();
        let claims = AttemptClaims { tenant, ..claims() };
        let token = mint(&key("5"), &claims);
        assert!(token.len() <= ATTEMPT_TOKEN_CHARS_MAX);
        assert_eq!(open(&key("5"), &token, NOW), Ok(claims));
    }
}
