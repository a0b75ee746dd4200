//! Tickets: a browser's way to open a socket without a token in its address.
//!
//! A ticket carries a verified principal for at most 30 seconds, to one hub. That it is spent once is that hub's to
//! see to, by the ticket's id. The form is a version, the claims, and an HMAC over both, in base64url.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;

use crate::deployment_key::DeploymentKey;
use crate::error::{IdentityError, Reason};
use crate::principal::{Tenant, User, is_scope};

/// How long a ticket is good at most, ms.
pub const LIFETIME_MS_MAX: u64 = 30_000;
/// How much the clock that opens a ticket may lag behind the one that made it, ms.
pub const CLOCK_SKEW_MS_MAX: u64 = 5_000;
/// Characters of a ticket. A token of 8 KiB holds at most 6 KiB of claims, which base64url makes 8 KiB again; the rest
/// is the ticket's own fields. An address of 16 KiB still holds it.
pub const TICKET_CHARS_MAX: usize = 10 * 1024;

/// The first byte of a ticket. The purpose of the key names it too, so that no version can pass for another.
const VERSION: u8 = 2;
const PURPOSE: &str = "ticket v2";
const TAG_BYTES: usize = 32;

/// What makes a ticket the only one of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketId(pub [u8; 16]);

impl fmt::Display for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a ticket says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketClaims {
    /// Random, made by the caller.
    pub id: TicketId,
    /// The tenant.
    pub tenant: Tenant,
    /// The user.
    pub user: User,
    /// What the caller was authenticated by, in whatever form the minting side reads again: for revocation.
    pub credential: String,
    /// What the token allowed.
    pub scopes: BTreeSet<String>,
    /// When the token behind the ticket expires, unix ms: the socket must not outlive it.
    pub token_expires_at_ms: u64,
    /// When the ticket expires, unix ms.
    pub expires_at_ms: u64,
    /// The hub that spends it.
    pub hub: u32,
}

/// Makes a ticket.
///
/// Errors: `TicketTooLong` if it would be good for more than [`LIFETIME_MS_MAX`] from `now_ms`, or longer than its
/// token; `TicketExpired` if it would already have expired; `TicketTooLarge`; `ScopeInvalid`.
pub fn mint(key: &DeploymentKey, claims: &TicketClaims, now_ms: u64) -> Result<String, IdentityError> {
    let last_ms = now_ms.saturating_add(LIFETIME_MS_MAX).min(claims.token_expires_at_ms);
    if claims.expires_at_ms > last_ms {
        return Err(Reason::TicketTooLong.into());
    }
    if claims.expires_at_ms <= now_ms {
        return Err(Reason::TicketExpired.into());
    }
    if !claims.scopes.iter().all(|scope| is_scope(scope)) {
        return Err(Reason::ScopeInvalid.into());
    }
    let mut ticket = encode(claims).ok_or(Reason::TicketTooLarge)?;
    let tag = key.derive(PURPOSE).chain_update(&ticket).finalize().into_bytes();
    ticket.extend_from_slice(&tag);
    let text = URL_SAFE_NO_PAD.encode(&ticket);
    if text.len() > TICKET_CHARS_MAX {
        return Err(Reason::TicketTooLarge.into());
    }
    Ok(text)
}

/// Opens a ticket at `now_ms`. Whether it has been spent is for the hub that it names to know.
///
/// Errors: `TicketMalformed`, `TicketForged`, `TicketExpired`, `TicketTooLong`.
pub fn open(key: &DeploymentKey, ticket: &str, now_ms: u64) -> Result<TicketClaims, IdentityError> {
    if ticket.len() > TICKET_CHARS_MAX {
        return Err(Reason::TicketMalformed.into());
    }
    let bytes = URL_SAFE_NO_PAD.decode(ticket).map_err(|_| Reason::TicketMalformed)?;
    let (body, tag) = bytes.split_last_chunk::<TAG_BYTES>().ok_or(Reason::TicketMalformed)?;
    key.derive(PURPOSE)
        .chain_update(body)
        .verify_slice(tag)
        .map_err(|_| Reason::TicketForged)?;
    let claims = decode(body).ok_or(Reason::TicketMalformed)?;
    if now_ms >= claims.expires_at_ms {
        return Err(Reason::TicketExpired.into());
    }
    if claims.expires_at_ms > now_ms.saturating_add(LIFETIME_MS_MAX + CLOCK_SKEW_MS_MAX) {
        return Err(Reason::TicketTooLong.into());
    }
    Ok(claims)
}

/// The body: fixed fields first, then the texts, each behind its length. Numbers are big-endian.
fn encode(claims: &TicketClaims) -> Option<Vec<u8>> {
    let mut body = Vec::with_capacity(128);
    body.push(VERSION);
    body.extend_from_slice(&claims.id.0);
    body.extend_from_slice(&claims.hub.to_be_bytes());
    body.extend_from_slice(&claims.expires_at_ms.to_be_bytes());
    body.extend_from_slice(&claims.token_expires_at_ms.to_be_bytes());
    body.extend_from_slice(&u16::try_from(claims.scopes.len()).ok()?.to_be_bytes());
    let texts = [claims.tenant.as_str(), claims.user.as_str(), &claims.credential];
    for text in texts.into_iter().chain(claims.scopes.iter().map(String::as_str)) {
        body.extend_from_slice(&u16::try_from(text.len()).ok()?.to_be_bytes());
        body.extend_from_slice(text.as_bytes());
    }
    Some(body)
}

fn decode(body: &[u8]) -> Option<TicketClaims> {
    let mut body = Reader(body);
    if body.array::<1>()? != [VERSION] {
        return None;
    }
    let id = TicketId(body.array()?);
    let hub = u32::from_be_bytes(body.array()?);
    let expires_at_ms = u64::from_be_bytes(body.array()?);
    let token_expires_at_ms = u64::from_be_bytes(body.array()?);
    let scopes = u16::from_be_bytes(body.array()?);
    let tenant = Tenant::parse(body.text()?)?;
    let user = User::parse(body.text()?)?;
    let credential = body.text()?.to_string();
    let scopes = (0..scopes)
        .map(|_| body.text().map(ToString::to_string))
        .collect::<Option<_>>()?;
    body.0.is_empty().then_some(TicketClaims {
        id,
        tenant,
        user,
        credential,
        scopes,
        token_expires_at_ms,
        expires_at_ms,
        hub,
    })
}

/// What has not been read yet of a body.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::from(u16::from_be_bytes(self.array()?));
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        core::str::from_utf8(head).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn key() -> DeploymentKey {
        DeploymentKey::parse(&"5a".repeat(32)).unwrap()
    }

    fn claims() -> TicketClaims {
        TicketClaims {
            id: TicketId([7; 16]),
            tenant: Tenant::parse("eu.acme").unwrap(),
            user: User::parse("jürgen").unwrap(),
            credential: "{}".into(),
            scopes: ["jobs:read", "admin"].map(String::from).into(),
            token_expires_at_ms: NOW + 60_000,
            expires_at_ms: NOW + 30_000,
            hub: 3,
        }
    }

    /// A body that this deployment signed, whatever it holds.
    fn signed(body: &[u8]) -> String {
        let tag = key().derive(PURPOSE).chain_update(body).finalize().into_bytes();
        URL_SAFE_NO_PAD.encode([body, &tag].concat())
    }

    fn refusal(ticket: &str, now_ms: u64) -> Reason {
        open(&key(), ticket, now_ms).unwrap_err().reason
    }

    #[test]
    fn a_ticket_says_what_was_put_into_it() {
        let ticket = mint(&key(), &claims(), NOW).unwrap();
        assert_eq!(open(&key(), &ticket, NOW + 29_999), Ok(claims()));
        assert_eq!(claims().id.to_string(), "07".repeat(16));
    }

    #[test]
    fn a_ticket_expires_and_cannot_be_made_to_last() {
        let ticket = mint(&key(), &claims(), NOW).unwrap();
        assert_eq!(refusal(&ticket, NOW + 30_000), Reason::TicketExpired);
        assert_eq!(refusal(&ticket, NOW - 5_001), Reason::TicketTooLong);
        for (expires_at_ms, token_expires_at_ms, reason) in [
            (NOW + 30_001, NOW + 60_000, Reason::TicketTooLong),
            (NOW + 10_000, NOW + 9_999, Reason::TicketTooLong),
            (NOW, NOW + 60_000, Reason::TicketExpired),
            (u64::MAX, u64::MAX, Reason::TicketTooLong),
        ] {
            let claims = TicketClaims {
                expires_at_ms,
                token_expires_at_ms,
                ..claims()
            };
            assert_eq!(mint(&key(), &claims, NOW).unwrap_err().reason, reason);
        }
    }

    #[test]
    fn a_ticket_of_another_deployment_or_purpose_is_refused() {
        let other = DeploymentKey::parse(&"5b".repeat(32)).unwrap();
        assert_eq!(
            refusal(&mint(&other, &claims(), NOW).unwrap(), NOW),
            Reason::TicketForged
        );
        let body = encode(&claims()).unwrap();
        let tag = key().derive("executor v1").chain_update(&body).finalize().into_bytes();
        assert_eq!(
            refusal(&URL_SAFE_NO_PAD.encode([&body[..], &tag].concat()), NOW),
            Reason::TicketForged
        );
    }

    #[test]
    fn no_bit_of_a_ticket_can_be_changed() {
        let ticket = mint(&key(), &claims(), NOW).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(&ticket).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                refusal(&URL_SAFE_NO_PAD.encode(&changed), NOW),
                Reason::TicketForged,
                "bit {bit}"
            );
        }
        for end in 0..ticket.len() {
            assert!(open(&key(), ticket.split_at(end).0, NOW).is_err(), "{end}");
        }
        for text in [
            alloc::format!("{ticket}="),
            alloc::format!("{ticket} "),
            ticket.repeat(80),
            "é".into(),
        ] {
            assert_eq!(refusal(&text, NOW), Reason::TicketMalformed);
        }
    }

    #[test]
    fn a_signed_body_of_another_form_is_refused() {
        let good = encode(&claims()).unwrap();
        let mut version = good.clone();
        version[0] = VERSION - 1;
        let mut tenant = good.clone();
        *tenant.iter_mut().find(|byte| **byte == b'a').unwrap() = b':';
        for body in [
            version,
            tenant,
            [&good[..], &[0]].concat(),
            good[..good.len() - 1].to_vec(),
            alloc::vec![],
        ] {
            assert_eq!(refusal(&signed(&body), NOW), Reason::TicketMalformed);
        }
        assert!(open(&key(), &signed(&good), NOW).is_ok());
    }

    #[test]
    fn a_ticket_holds_every_scope_that_a_token_can() {
        let scopes = |count: usize, length: usize| (0..count).map(|i| alloc::format!("{i:0>length$}")).collect();
        let full = TicketClaims {
            scopes: scopes(128, 47),
            ..claims()
        };
        let ticket = mint(&key(), &full, NOW).unwrap();
        assert_eq!(open(&key(), &ticket, NOW), Ok(full));
        let over = TicketClaims {
            scopes: scopes(128, 128),
            ..claims()
        };
        assert_eq!(mint(&key(), &over, NOW).unwrap_err().reason, Reason::TicketTooLarge);
    }
}
