//! Bodies about API keys and revocations.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::calls::access::NewKey;
use crate::error::Error;
use crate::event::JsonText;
use crate::fields::Fields;
use crate::ids::{ApiKeyId, TokenId, UserId};
use crate::time::UnixMs;

/// Scopes of an API key at most, as of a token.
const SCOPES_MAX: usize = 128;
/// Bytes of a scope's name at most, as in a token.
const SCOPE_BYTES_MAX: usize = 128;
/// The scope that no key can have: it administers the deployment, and tokens of an issuer configured for it alone have it.
const OPERATOR: &str = "operator";
/// How long the old text of a rotated key stays good where nothing else is said. Milliseconds: a day.
pub(super) const OVERLAP_MS: u64 = 86_400_000;
/// How long it may. Milliseconds: 30 days.
pub(super) const OVERLAP_MS_MAX: u64 = 30 * 86_400_000;
/// How long a revocation is remembered at most, and where nothing else is said. Milliseconds: 400 days.
const REMEMBERED_MS_MAX: u64 = 400 * 86_400_000;
/// Characters of a key's name.
const NAME_CHARS_MAX: usize = 64;

/// Reads the body of `POST /v1/admin/keys`.
///
/// Errors: `VALIDATION_ERROR` with every fault.
pub fn parse_new_key(text: &str, now: UnixMs) -> Result<NewKey, Error> {
    let mut fields = Fields::split(text)?;
    fields.refuse_others(&["name", "user", "scopes", "expires_at"]);
    let name = fields.required_text("name", "1 to 64 printable characters", |text| {
        let fits = (1..=NAME_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        fits.then(|| text.to_string())
    });
    let user = fields.required_text("user", UserId::EXPECTED, UserId::parse);
    let scopes: Vec<String> = fields
        .optional("scopes", "a list of names of scopes")
        .unwrap_or_default();
    if scopes.len() > SCOPES_MAX {
        fields.fault("scopes", "at most 128 scopes", &scopes.len().to_string());
    }
    for scope in scopes.iter().take(SCOPES_MAX) {
        if scope == OPERATOR {
            fields.fault("scopes", "scopes other than `operator`, which no key can have", scope);
        } else if !is_scope(scope) {
            fields.fault("scopes", "names without space, quote and backslash", scope);
        }
    }
    let expires_at = fields.optional_text("expires_at", "a moment to come, as RFC 3339 text", |text| {
        UnixMs::parse(text).filter(|at| *at > now)
    });
    fields.finish("The API key cannot be made.")?;
    let (Some(name), Some(user)) = (name, user) else {
        return Err(Error::not_found());
    };
    Ok(NewKey {
        name,
        user,
        scopes,
        expires_at,
    })
}

/// Whether `name` can be a scope (RFC 6749, section 3.3).
fn is_scope(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    (1..=SCOPE_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

/// Reads the body of `POST /v1/admin/keys/{id}:rotate`, which may be empty: how long the old text stays good. Milliseconds.
///
/// Errors: `VALIDATION_ERROR` with every fault.
pub fn parse_rotation(text: &str) -> Result<u64, Error> {
    if text.trim().is_empty() {
        return Ok(OVERLAP_MS);
    }
    let mut fields = Fields::split(text)?;
    fields.refuse_others(&["overlap_ms"]);
    let expected = "milliseconds, at most 2592000000 (30 days)";
    let overlap_ms = fields.optional_number("overlap_ms", expected, 0, OVERLAP_MS_MAX);
    fields.finish("The API key cannot be rotated.")?;
    Ok(overlap_ms.unwrap_or(OVERLAP_MS))
}

/// The body of `POST /v1/admin/revocations`: whose credentials, and for how long that has to be remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokeBody {
    /// Whose.
    pub of: RevokeWhom,
    /// Milliseconds.
    pub for_ms: u64,
}

/// Whose credentials a body names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RevokeWhom {
    /// The token with this `jti`, as it stands in the token.
    Token(String),
    /// All that a user has by now.
    User(UserId),
    /// All that anybody of the tenant has by now.
    Everyone,
}

impl RevokeBody {
    /// Reads the body.
    ///
    /// Errors: `VALIDATION_ERROR` with every fault.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut fields = Fields::split(text)?;
        fields.refuse_others(&["token", "user", "everyone", "for_ms"]);
        let token = fields.optional_text("token", "the `jti` of a token: 1 to 256 characters", |text| {
            (1..=256).contains(&text.chars().count()).then(|| text.to_string())
        });
        let user = fields.optional_text("user", UserId::EXPECTED, UserId::parse);
        let everyone = fields.optional::<bool>("everyone", "true");
        if everyone == Some(false) {
            fields.fault("everyone", "true, or another field instead", "false");
        }
        let named = ["token", "user", "everyone"];
        let count = named.iter().filter(|name| fields.raw(name).is_some()).count();
        if count != 1 {
            fields.fault("", "one of `token`, `user` and `everyone`", &format!("{count} of them"));
        }
        let expected = "milliseconds, from 1 to 34560000000 (400 days)";
        let for_ms = fields.optional_number("for_ms", expected, 1, REMEMBERED_MS_MAX);
        fields.finish("The revocation cannot be used.")?;
        let of = match (token, user) {
            (Some(token), _) => RevokeWhom::Token(token),
            (None, Some(user)) => RevokeWhom::User(user),
            (None, None) => RevokeWhom::Everyone,
        };
        Ok(Self {
            of,
            for_ms: for_ms.unwrap_or(REMEMBERED_MS_MAX),
        })
    }
}

/// An API key, without what opens anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KeyView {
    /// Its id.
    pub key_id: ApiKeyId,
    /// What people call it.
    pub name: String,
    /// Whom it speaks for.
    pub user: UserId,
    /// What it allows beyond the user's own things.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: UnixMs,
    /// Who made it.
    pub created_by: UserId,
    /// When it is no longer good; absent: it does not expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UnixMs>,
    /// Until when the text that it had before its last rotation is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_text_until: Option<UnixMs>,
    /// When it was used last, to the hour; absent: never yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_at: Option<UnixMs>,
}

/// The API keys of a tenant, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KeyList {
    /// The keys.
    pub keys: Vec<KeyView>,
}

/// A key that was made or rotated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KeyMade {
    /// The key's text, for `X-Api-Key`. It is kept nowhere and not shown again.
    pub api_key: String,
    /// The key.
    #[cfg_attr(feature = "schema", schemars(with = "KeyView"))]
    pub key: JsonText,
}

/// A revocation that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RevocationView {
    /// The token that is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenId>,
    /// The API key that was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<ApiKeyId>,
    /// The user whose credentials of before `at` are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// True where all credentials of before `at` are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub everyone: Option<bool>,
    /// When.
    pub at: UnixMs,
    /// Until when it is remembered.
    pub until: UnixMs,
}

/// The revocations in force, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RevocationList {
    /// The revocations.
    pub revocations: Vec<RevocationView>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_cannot_be_made_is_told_of_all_its_faults() {
        let now = UnixMs::parse("2026-11-21T07:00:00Z").unwrap();
        let good = r#"{"name":"ci","user":"bot","scopes":["jobs:read"],"expires_at":"2026-11-22T07:00:00Z"}"#;
        let key = parse_new_key(good, now).unwrap();
        assert_eq!((key.name.as_str(), key.user.as_str()), ("ci", "bot"));
        assert!(
            parse_new_key(r#"{"name":"ci","user":"bot"}"#, now)
                .unwrap()
                .scopes
                .is_empty()
        );
        for (body, faults) in [
            ("{}", 2),
            (
                r#"{"name":"","user":"","scopes":"x","expires_at":"2026-11-21T07:00:00Z","more":1}"#,
                5,
            ),
            (r#"{"name":"a","user":"b","scopes":["operator","a b","ok"]}"#, 2),
        ] {
            assert_eq!(parse_new_key(body, now).unwrap_err().details.len(), faults, "{body}");
        }
    }

    #[test]
    fn a_revocation_names_one_and_no_more() {
        let parse = |text: &str| RevokeBody::parse(text).map(|body| (body.of, body.for_ms));
        let (all, user) = (REMEMBERED_MS_MAX, UserId::parse("ann").unwrap());
        assert_eq!(parse(r#"{"everyone":true}"#), Ok((RevokeWhom::Everyone, all)));
        assert_eq!(parse(r#"{"user":"ann","for_ms":5}"#), Ok((RevokeWhom::User(user), 5)));
        assert_eq!(parse(r#"{"token":"t"}"#), Ok((RevokeWhom::Token("t".into()), all)));
        for (body, faults) in [
            ("{}", 1),
            (r#"{"everyone":false}"#, 1),
            (r#"{"user":"ann","token":"t"}"#, 1),
            (r#"{"user":"ann","for_ms":0}"#, 1),
            (r#"{"usr":"ann"}"#, 2),
        ] {
            assert_eq!(RevokeBody::parse(body).unwrap_err().details.len(), faults, "{body}");
        }
    }

    #[test]
    fn a_rotation_overlaps_a_day_where_nothing_else_is_said() {
        assert_eq!(parse_rotation(" "), Ok(OVERLAP_MS));
        assert_eq!(parse_rotation("{}"), Ok(OVERLAP_MS));
        assert_eq!(parse_rotation(r#"{"overlap_ms":0}"#), Ok(0));
        assert!(parse_rotation(r#"{"overlap_ms":2592000001}"#).is_err());
    }
}
