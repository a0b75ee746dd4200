//! Who a caller is, as the verified token says.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use core::fmt;

use serde_json::{Map, Value};

use crate::error::Reason;

/// Jurisdictions that a tenant's id can begin with, each followed by a dot.
pub(crate) const JURISDICTIONS: [&str; 1] = ["eu"];
/// Characters of a tenant's id, without the jurisdiction. With it and `t:…:jobs:…` around it, an object's name stays short.
pub(crate) const TENANT_CHARS_MAX: usize = 48;
/// Characters of a user's name. A hub keeps it in a socket's attachment (16 KiB), next to the scopes.
pub const USER_CHARS_MAX: usize = 128;
/// Scopes of one token. More than any issuer seen in practice; checked so that a principal stays bounded by itself.
pub const SCOPES_MAX: usize = 128;
/// Bytes of one scope's name.
pub const SCOPE_BYTES_MAX: usize = 128;

/// A tenant's id: `[a-z0-9-]{1,48}`, with an optional leading `eu.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant(String);

impl Tenant {
    /// Reads a tenant's id.
    pub fn parse(text: &str) -> Option<Self> {
        let name = match text.split_once('.') {
            Some((jurisdiction, name)) if JURISDICTIONS.contains(&jurisdiction) => name,
            Some(_) => return None,
            None => text,
        };
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = (1..=TENANT_CHARS_MAX).contains(&name.len()) && name.bytes().all(plain);
        fits.then(|| Self(text.to_string()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The jurisdiction that the id begins with.
    pub fn jurisdiction(&self) -> Option<&str> {
        self.0.split_once('.').map(|(jurisdiction, _)| jurisdiction)
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A user of a tenant: 1 to 128 characters without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct User(String);

impl User {
    /// Reads a user's name.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.chars().count() <= USER_CHARS_MAX && !text.chars().any(char::is_control);
        fits.then(|| Self(text.to_string()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who is calling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The tenant, as the deployment's configuration or the configured claim says.
    pub tenant: Tenant,
    /// The user: the token's subject.
    pub user: User,
    /// What the token allows beyond the user's own things.
    pub scopes: BTreeSet<String>,
    /// The token's `exp`, unix ms. With a leeway it may lie a little in the past.
    pub expires_at_ms: u64,
    /// The token's `iat`, unix ms, for revocation.
    pub issued_at_ms: Option<u64>,
    /// The token's `jti`, for revocation.
    pub token_id: Option<String>,
    /// Who issued the token.
    pub issuer: String,
    /// Every claim of the token.
    pub claims: Map<String, Value>,
}

/// Reads a scope list as OAuth 2.0 writes it (RFC 6749, section 3.3): names separated by single spaces.
///
/// Errors: `ScopeInvalid` for a character that a name cannot have, a name that is too long, or too many of them.
pub(crate) fn parse_scopes(text: &str) -> Result<BTreeSet<String>, Reason> {
    let mut scopes = BTreeSet::new();
    for name in text.split(' ').filter(|name| !name.is_empty()) {
        if !is_scope(name) {
            return Err(Reason::ScopeInvalid);
        }
        scopes.insert(name.to_string());
        if scopes.len() > SCOPES_MAX {
            return Err(Reason::ScopeInvalid);
        }
    }
    Ok(scopes)
}

/// Whether `name` can be a scope: printable ASCII without space, quote and backslash.
pub(crate) fn is_scope(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    (1..=SCOPE_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_id_is_48_plain_characters_behind_a_known_jurisdiction() {
        let long = "a".repeat(48);
        for good in [
            "a",
            "acme",
            "acme-2",
            "-",
            "eu.acme",
            &long,
            &alloc::format!("eu.{long}"),
        ] {
            assert!(Tenant::parse(good).is_some(), "{good}");
        }
        let too_long = "a".repeat(49);
        for bad in [
            "", "Acme", "a:b", "a/b", "a b", "a_b", "eu.", "eu", "us.acme", ".acme", "eu.eu.a", "a.", "ä", "a\n",
            "a\0", &too_long,
        ] {
            assert_eq!(Tenant::parse(bad).is_some(), bad == "eu", "{bad}");
        }
        assert_eq!(Tenant::parse("eu.acme").unwrap().jurisdiction(), Some("eu"));
        assert_eq!(Tenant::parse("acme").unwrap().jurisdiction(), None);
    }

    #[test]
    fn a_user_is_128_characters_without_control_characters() {
        assert!(User::parse(&"ä".repeat(128)).is_some());
        assert!(User::parse(&"ä".repeat(129)).is_none());
        for bad in ["", "a\nb", "a\u{7f}", "a\u{85}", "\0"] {
            assert!(User::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn scopes_are_bounded_in_number_length_and_alphabet() {
        assert_eq!(
            parse_scopes("b a  b ")
                .unwrap()
                .into_iter()
                .collect::<alloc::vec::Vec<_>>(),
            ["a", "b"]
        );
        assert!(parse_scopes("").unwrap().is_empty());
        for bad in ["a\tb", "a\"", "a\\", "ä", &"x".repeat(129)] {
            assert_eq!(parse_scopes(bad), Err(Reason::ScopeInvalid), "{bad}");
        }
        let many = |n: usize| (0..n).map(|i| alloc::format!("s{i} ")).collect::<String>();
        assert!(parse_scopes(&many(SCOPES_MAX)).is_ok());
        assert!(parse_scopes(&many(SCOPES_MAX + 1)).is_err());
    }
}
