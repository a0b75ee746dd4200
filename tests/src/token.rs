//! Tokens: good ones, and every kind of bad one.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

/// The issuer that the test servers trust.
pub const ISSUER: &str = "https://dev.tidegate.invalid";
/// The audience that the test servers are.
pub const AUDIENCE: &str = "tidegate";
const KEY_ID: &str = "dev";
const KEY: &[u8; 32] = b"a key for tests only, 32 bytes..";

/// The value of `TIDEGATE_ISSUERS` for a server that trusts [`mint`], and `others`.
pub fn issuers(others: &[Value]) -> String {
    let mut issuers = vec![json!({
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "tenant_claim": "tid",
        "keys": { "keys": [{ "kty": "oct", "kid": KEY_ID, "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(KEY) }] },
    })];
    issuers.extend_from_slice(others);
    Value::Array(issuers).to_string()
}

/// Seconds since 1970.
pub fn now_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The claims of a good token of `user` in `tenant`, for an hour.
pub fn claims(tenant: &str, user: &str, scope: &str) -> Value {
    let now = now_seconds();
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "tid": tenant, "sub": user, "scope": scope, "iat": now, "exp": now + 3600,
    })
}

/// The header of a good token.
pub fn header() -> Value {
    json!({ "alg": "HS256", "typ": "JWT", "kid": KEY_ID })
}

/// A token with this header and these claims, signed with the servers' key.
pub fn sign(header: &Value, claims: &Value) -> String {
    sign_with(KEY, header, claims)
}

/// A token with this header and these claims, signed with `key`.
pub fn sign_with(key: &[u8], header: &Value, claims: &Value) -> String {
    let signed = unsigned(header, claims);
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// The part of a token that is signed.
pub fn unsigned(header: &Value, claims: &Value) -> String {
    format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    )
}

/// A good token of `user` in `tenant`, for an hour, with `scope` (space-separated).
pub fn mint(tenant: &str, user: &str, scope: &str) -> String {
    sign(&header(), &claims(tenant, user, scope))
}
