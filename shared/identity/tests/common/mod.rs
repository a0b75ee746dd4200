//! What the native tests share: keys of the RFCs' examples, one issuer that trusts all four, and its tokens.

#![allow(dead_code, reason = "each test file uses a part")]

use serde_json::{Value, json};
use tidegate_identity::mint::SigningKey;
use tidegate_identity::{Algorithm, Issuers, KeySet};

/// The moment that the tests happen at, unix ms.
pub const NOW_MS: u64 = 1_800_000_000_000;
/// The same moment in seconds.
pub const NOW: u64 = NOW_MS / 1000;

/// The examples of the RFCs.
pub fn rfc() -> Vec<Value> {
    serde_json::from_str(include_str!("../vectors/rfc.json")).unwrap()
}

/// The RFC's key for an algorithm, its id being the algorithm's name.
pub fn signing_key(algorithm: Algorithm) -> SigningKey {
    let example = rfc()
        .into_iter()
        .find(|example| example["algorithm"] == algorithm.name())
        .unwrap();
    let mut key = example["key"].clone();
    key["kid"] = algorithm.name().into();
    SigningKey::from_jwk(&key.to_string()).unwrap()
}

/// The keys that check what [`signing_key`] signs.
pub fn jwks(algorithms: &[Algorithm]) -> Value {
    json!({"keys": algorithms.iter().map(|one| signing_key(*one).verifying_jwk()).collect::<Vec<_>>()})
}

pub fn key_set(algorithms: &[Algorithm]) -> KeySet {
    KeySet::parse(&jwks(algorithms).to_string()).unwrap()
}

/// The configuration of one issuer that may use all four algorithms.
pub fn config() -> Value {
    json!([{
        "issuer": "https://id.example", "audience": ["tidegate", "other"], "tenant_claim": "tid",
        "keys": jwks(&Algorithm::ALL),
    }])
}

pub fn issuers(config: &Value) -> Issuers {
    Issuers::parse(&config.to_string()).unwrap()
}

/// Claims that are accepted.
pub fn claims() -> Value {
    json!({
        "iss": "https://id.example", "aud": "tidegate", "sub": "ada", "tid": "acme", "iat": NOW - 10, "nbf": NOW - 10,
        "exp": NOW + 600, "scope": "jobs:read admin", "jti": "t-1",
    })
}

/// A header that is accepted.
pub fn header(algorithm: Algorithm) -> Value {
    json!({"alg": algorithm.name(), "typ": "JWT", "kid": algorithm.name()})
}

/// A token with this header and these claims, signed with the RFC's key for `algorithm`.
pub fn token(algorithm: Algorithm, header: &Value, claims: &Value) -> String {
    signing_key(algorithm).sign(header, claims).unwrap()
}

/// `value` with its member `name` set, or taken away with `null`.
pub fn with(mut value: Value, name: &str, member: Value) -> Value {
    match (&mut value, member) {
        (Value::Object(object), Value::Null) => {
            object.remove(name);
        }
        (Value::Object(object), member) => {
            object.insert(name.to_string(), member);
        }
        _ => panic!("not an object"),
    }
    value
}
