//! The claims of a token (RFC 7519), checked as RFC 8725 asks: who issued it, for whom, until when, about whom.
//!
//! The clock is an argument. The library's own checks of `exp` and `nbf` are not used, because they read a clock.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};

use serde_json::{Map, Value};

use crate::algorithm::Algorithm;
use crate::error::{IdentityError, Reason};
use crate::jws::Token;
use crate::keys::KeySet;
use crate::principal::{User, parse_scopes};
use crate::strict_json::{self, TOKEN_DEPTH_MAX};

/// Clocks may differ by this much, unless the configuration says otherwise.
pub const LEEWAY_SECONDS_DEFAULT: u64 = 30;
/// The most that a configuration may allow: beyond it, an expired token is an expired token.
pub const LEEWAY_SECONDS_MAX: u64 = 120;
/// How far ahead of us a token may claim to have been issued: a sign of a broken clock, or of a forger's guess.
pub const ISSUED_AHEAD_MS_MAX: u64 = 5 * 60 * 1000;
/// Characters of `jti`.
pub const TOKEN_ID_CHARS_MAX: usize = 256;

/// The last second of the year 9999. A later date is a unit mistaken (milliseconds for seconds), not a date.
const LAST_SECOND: u64 = 253_402_300_799;

/// What a token has to say to be accepted.
#[derive(Debug, Clone, Copy)]
pub struct Checks<'a> {
    /// The issuer, compared as text.
    pub issuer: &'a str,
    /// The audiences, of which the token has to name one.
    pub audiences: &'a [String],
    /// The algorithms that the issuer may use.
    pub algorithms: &'a [Algorithm],
    /// How much clocks may differ; more than [`LEEWAY_SECONDS_MAX`] counts as that.
    pub leeway_seconds: u64,
}

/// What a verified token says.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub user: User,
    /// `exp`, unix ms, without the leeway.
    pub expires_at_ms: u64,
    /// `iat`, unix ms, without its fraction of a second.
    pub issued_at_ms: Option<u64>,
    /// `scope`.
    pub scopes: BTreeSet<String>,
    /// `jti`.
    pub token_id: Option<String>,
    /// All of them.
    pub all: Map<String, Value>,
}

impl Claims {
    /// Any claim of the verified token.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.all.get(name)
    }
}

/// Verifies a token: its form, its signature with one of `keys`, and its claims at `now_ms`.
pub fn verify(token: &str, checks: &Checks<'_>, keys: &KeySet, now_ms: u64) -> Result<Claims, IdentityError> {
    let token = Token::read(token)?;
    token.check_signature(keys, checks.algorithms)?;
    let claims = read_claims(&token)?;
    Ok(check_claims(claims, checks, now_ms)?)
}

/// The issuer that a token names, for choosing the keys to check it with. Nothing else may be decided by it.
pub(crate) fn unverified_issuer(token: &Token<'_>) -> Result<String, Reason> {
    match read_claims(token)?.get("iss") {
        Some(Value::String(issuer)) => Ok(issuer.to_string()),
        Some(_) => Err(Reason::ClaimsMalformed),
        None => Err(Reason::IssuerMissing),
    }
}

/// The claims of a token whose signature has been checked.
pub(crate) fn check_verified(token: &Token<'_>, checks: &Checks<'_>, now_ms: u64) -> Result<Claims, Reason> {
    check_claims(read_claims(token)?, checks, now_ms)
}

fn read_claims(token: &Token<'_>) -> Result<Map<String, Value>, Reason> {
    match strict_json::parse(token.unverified_payload(), TOKEN_DEPTH_MAX) {
        Ok(Value::Object(claims)) => Ok(claims),
        _ => Err(Reason::ClaimsMalformed),
    }
}

fn check_claims(claims: Map<String, Value>, checks: &Checks<'_>, now_ms: u64) -> Result<Claims, Reason> {
    let issuer = match claims.get("iss") {
        Some(Value::String(issuer)) if issuer == checks.issuer => issuer.to_string(),
        Some(Value::String(_)) => return Err(Reason::IssuerUnknown),
        Some(_) => return Err(Reason::ClaimsMalformed),
        None => return Err(Reason::IssuerMissing),
    };
    let (expires_at_ms, issued_at_ms) =
        check_times(&claims, checks.leeway_seconds.min(LEEWAY_SECONDS_MAX) * 1000, now_ms)?;
    check_audience(claims.get("aud"), checks.audiences)?;
    let user = match claims.get("sub") {
        Some(Value::String(name)) => User::parse(name).ok_or(Reason::SubjectInvalid)?,
        Some(_) => return Err(Reason::SubjectInvalid),
        None => return Err(Reason::SubjectMissing),
    };
    let scopes = match claims.get("scope") {
        None => BTreeSet::new(),
        Some(Value::String(scopes)) => parse_scopes(scopes)?,
        Some(_) => return Err(Reason::ScopeInvalid),
    };
    let token_id = match claims.get("jti") {
        None => None,
        Some(Value::String(id)) if id.chars().count() <= TOKEN_ID_CHARS_MAX => Some(id.to_string()),
        Some(_) => return Err(Reason::ClaimsMalformed),
    };
    Ok(Claims {
        issuer,
        user,
        expires_at_ms,
        issued_at_ms,
        scopes,
        token_id,
        all: claims,
    })
}

/// Checks `exp`, `nbf` and `iat`, and gives `exp` and `iat` in unix ms.
fn check_times(claims: &Map<String, Value>, leeway_ms: u64, now_ms: u64) -> Result<(u64, Option<u64>), Reason> {
    let date = |name: &str| {
        claims
            .get(name)
            .map(|value| Date::read(value).ok_or(Reason::ClaimsMalformed))
            .transpose()
    };
    let (expiry, not_before, issued) = (date("exp")?, date("nbf")?, date("iat")?);
    // A fraction of a second is rounded against the token.
    let expires_at_ms = expiry.ok_or(Reason::ExpiryMissing)?.second * 1000;
    if now_ms >= expires_at_ms.saturating_add(leeway_ms) {
        return Err(Reason::Expired);
    }
    if not_before.is_some_and(|date| date.ceiling_ms() > now_ms.saturating_add(leeway_ms)) {
        return Err(Reason::NotYetValid);
    }
    if issued.is_some_and(|date| date.second * 1000 > now_ms.saturating_add(ISSUED_AHEAD_MS_MAX)) {
        return Err(Reason::IssuedInFuture);
    }
    // A fraction of a second is rounded against the token here as well: what was issued before a moment may be revoked.
    Ok((expires_at_ms, issued.map(|date| date.second * 1000)))
}

/// A `NumericDate`: seconds since 1970, a fraction allowed (RFC 7519, section 2).
#[derive(Clone, Copy)]
struct Date {
    second: u64,
    fraction: bool,
}

impl Date {
    fn read(value: &Value) -> Option<Self> {
        let Value::Number(number) = value else { return None };
        if let Some(second) = number.as_u64() {
            return (second <= LAST_SECOND).then_some(Self {
                second,
                fraction: false,
            });
        }
        // Below 2^53, where every whole number is exact.
        let seconds = number
            .as_f64()
            .filter(|seconds| (0.0..=253_402_300_799.0).contains(seconds))?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "in range, and to be cut off"
        )]
        let second = seconds as u64;
        #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
        let fraction = seconds > second as f64;
        Some(Self { second, fraction })
    }

    const fn ceiling_ms(self) -> u64 {
        (self.second + if self.fraction { 1 } else { 0 }) * 1000
    }
}

fn check_audience(claim: Option<&Value>, audiences: &[String]) -> Result<(), Reason> {
    let is_ours = |name: &str| audiences.iter().any(|audience| audience == name);
    let ours = match claim {
        Some(Value::String(name)) => is_ours(name),
        Some(Value::Array(names)) if names.iter().all(Value::is_string) => {
            names.iter().filter_map(Value::as_str).any(is_ours)
        }
        Some(_) => return Err(Reason::ClaimsMalformed),
        None => return Err(Reason::AudienceMissing),
    };
    ours.then_some(()).ok_or(Reason::AudienceWrong)
}
