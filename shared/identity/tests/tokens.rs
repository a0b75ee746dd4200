//! Tokens: those of the RFCs, and who the accepted ones speak for.

#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]

mod common;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::*;
use serde_json::{Value, json};
use tidegate_identity::jws::Token;
use tidegate_identity::jwt::{self, Checks};
use tidegate_identity::mint::{NewToken, SigningKey};
use tidegate_identity::{Algorithm, KeySet, Reason};

#[test]
fn the_examples_of_the_rfcs_verify() {
    for example in rfc() {
        let keys = json!({"keys": [public(&example["key"])]}).to_string();
        let keys = KeySet::parse(&keys).unwrap();
        let algorithm = Algorithm::parse(example["algorithm"].as_str().unwrap()).unwrap();
        let text = example["token"].as_str().unwrap();
        let token = Token::read(text).unwrap();
        assert_eq!(token.header().algorithm, algorithm);
        assert_eq!(
            token.check_signature(&keys, &[algorithm]),
            Ok(()),
            "{}",
            example["source"]
        );
        if algorithm == Algorithm::EdDsa {
            assert_eq!(token.unverified_payload(), b"Example of Ed25519 signing");
            continue;
        }
        if token.unverified_payload().starts_with(b"It") {
            // A sentence out of a novel: the signature holds, and there are no claims.
            let checks = Checks {
                issuer: "joe",
                audiences: &[],
                algorithms: &[algorithm],
                leeway_seconds: 0,
            };
            let reason = jwt::verify(text, &checks, &keys, NOW_MS).unwrap_err().reason;
            assert_eq!(reason, Reason::ClaimsMalformed, "{}", example["source"]);
            continue;
        }
        // The example's claims name no audience, which is the next thing to be missed once the time is right.
        let audiences = ["tidegate".to_string()];
        let checks = Checks {
            issuer: "joe",
            audiences: &audiences,
            algorithms: &[algorithm],
            leeway_seconds: 0,
        };
        let reason = |now_ms| jwt::verify(text, &checks, &keys, now_ms).unwrap_err().reason;
        assert_eq!(reason(1_300_819_379_999), Reason::AudienceMissing);
        assert_eq!(reason(1_300_819_380_000), Reason::Expired);
        assert_eq!(reason(NOW_MS), Reason::Expired);
    }
}

/// Examples whose signatures hold, or that need none, and that are refused for what they are signed with.
#[test]
fn the_examples_of_other_algorithms_are_refused_for_their_algorithm() {
    let examples: Vec<Value> = serde_json::from_str(include_str!("vectors/refused.json")).unwrap();
    assert_eq!(examples.len(), 4);
    for example in examples {
        let text = example["token"].as_str().unwrap();
        let reason = Token::read(text).map(|_| ()).unwrap_err().reason;
        assert_eq!(reason.name(), example["reason"], "{}", example["source"]);
    }
}

/// The key without its private members.
fn public(key: &Value) -> Value {
    ["d", "p", "q"]
        .iter()
        .fold(key.clone(), |key, name| with(key, name, Value::Null))
}

#[test]
fn a_token_of_each_algorithm_says_who_is_calling() {
    for algorithm in Algorithm::ALL {
        let text = token(algorithm, &header(algorithm), &claims());
        let principal = issuers(&config()).verify(&text, NOW_MS, None).unwrap();
        assert_eq!(principal.tenant.as_str(), "acme");
        assert_eq!(principal.user.as_str(), "ada");
        assert_eq!(
            principal.scopes.iter().map(String::as_str).collect::<Vec<_>>(),
            ["admin", "jobs:read"]
        );
        assert_eq!(principal.expires_at_ms, NOW_MS + 600_000);
        assert_eq!(principal.token_id.as_deref(), Some("t-1"));
        assert_eq!(principal.issuer, "https://id.example");
    }
}

#[test]
fn the_leeway_is_the_configured_one_and_at_most_two_minutes() {
    let text = token(
        Algorithm::Hs256,
        &header(Algorithm::Hs256),
        &with(claims(), "exp", json!(NOW)),
    );
    for (leeway, good_for_ms) in [(json!(0), 0), (Value::Null, 30_000), (json!(120), 120_000)] {
        let issuers = issuers(&json!([with(config()[0].clone(), "leeway_seconds", leeway)]));
        assert_eq!(
            issuers.verify(&text, NOW_MS + good_for_ms, None).unwrap_err().reason,
            Reason::Expired
        );
        if good_for_ms > 0 {
            assert!(issuers.verify(&text, NOW_MS + good_for_ms - 1, None).is_ok());
        }
    }
    let audiences = ["tidegate".to_string()];
    let checks = |leeway_seconds| Checks {
        issuer: "https://id.example",
        audiences: &audiences,
        algorithms: &Algorithm::ALL,
        leeway_seconds,
    };
    let keys = key_set(&Algorithm::ALL);
    assert!(jwt::verify(&text, &checks(u64::MAX), &keys, NOW_MS + 119_999).is_ok());
    assert!(jwt::verify(&text, &checks(u64::MAX), &keys, NOW_MS + 120_000).is_err());
}

#[test]
fn the_claims_are_checked_against_the_issuer_that_was_asked_for() {
    let audiences = ["tidegate".to_string()];
    let text = token(Algorithm::Es256, &header(Algorithm::Es256), &claims());
    let verify = |issuer| {
        let checks = Checks {
            issuer,
            audiences: &audiences,
            algorithms: &Algorithm::ALL,
            leeway_seconds: 0,
        };
        jwt::verify(&text, &checks, &key_set(&[Algorithm::Es256]), NOW_MS).map_err(|error| error.reason)
    };
    assert!(verify("https://id.example").is_ok());
    assert_eq!(verify("https://id.example/other").unwrap_err(), Reason::IssuerUnknown);
}

#[test]
fn a_fetched_key_set_is_asked_for_and_used() {
    let entry = with(
        with(config()[0].clone(), "keys", Value::Null),
        "jwks_url",
        json!("https://id.example/jwks"),
    );
    let issuers = issuers(&json!([entry]));
    let text = token(Algorithm::Rs256, &header(Algorithm::Rs256), &claims());
    assert_eq!(
        issuers.needs(&text).map(|url| url.as_str()),
        Some("https://id.example/jwks")
    );
    assert_eq!(issuers.jwks_urls().count(), 1);
    assert_eq!(
        issuers.verify(&text, NOW_MS, None).unwrap_err().reason,
        Reason::KeysUnavailable
    );
    let fetched = |algorithms: &[Algorithm]| KeySet::parse_fetched(&jwks(algorithms).to_string()).unwrap();
    assert!(
        issuers
            .verify(&text, NOW_MS, Some(&fetched(&[Algorithm::Rs256])))
            .is_ok()
    );
    let rotated = issuers.verify(&text, NOW_MS, Some(&fetched(&[Algorithm::Es256])));
    assert_eq!(rotated.unwrap_err().reason, Reason::KeyNotFound);
    let stranger = token(
        Algorithm::Rs256,
        &header(Algorithm::Rs256),
        &with(claims(), "iss", json!("https://evil.example")),
    );
    for refused in ["", "a.b.c", &stranger] {
        assert_eq!(issuers.needs(refused), None, "{refused}");
    }
}

#[test]
fn configured_keys_win_over_keys_that_are_passed_in() {
    let forger = SigningKey::generate(Algorithm::EdDsa, "EdDSA", [3; 32]).unwrap();
    let theirs = KeySet::parse(&json!({"keys": [forger.verifying_jwk()]}).to_string()).unwrap();
    let text = forger.sign(&header(Algorithm::EdDsa), &claims()).unwrap();
    let error = issuers(&config()).verify(&text, NOW_MS, Some(&theirs)).unwrap_err();
    assert_eq!(error.reason, Reason::SignatureInvalid);
}

#[test]
fn a_fixed_tenant_is_not_changed_by_a_claim() {
    let entry = with(
        with(config()[0].clone(), "tenant_claim", Value::Null),
        "tenant",
        json!("eu.fixed"),
    );
    let text = token(
        Algorithm::Es256,
        &header(Algorithm::Es256),
        &with(claims(), "tid", json!("victim")),
    );
    let principal = issuers(&json!([entry])).verify(&text, NOW_MS, None).unwrap();
    assert_eq!(principal.tenant.as_str(), "eu.fixed");
}

#[test]
fn only_an_issuer_of_operators_makes_operators() {
    let text = token(
        Algorithm::Es256,
        &header(Algorithm::Es256),
        &with(claims(), "scope", json!("operator admin")),
    );
    for (operator, expected) in [
        (Value::Null, ["admin"].as_slice()),
        (json!(false), &["admin"]),
        (json!(true), &["admin", "operator"]),
    ] {
        let entry = with(config()[0].clone(), "operator", operator);
        let principal = issuers(&json!([entry])).verify(&text, NOW_MS, None).unwrap();
        assert_eq!(
            principal.scopes.iter().map(String::as_str).collect::<Vec<_>>(),
            expected
        );
    }
    let entry = with(config()[0].clone(), "operator", json!("yes"));
    let faults = tidegate_identity::Issuers::parse(&json!([entry]).to_string()).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:?}");
}

#[test]
fn a_key_of_one_issuer_signs_nothing_for_another() {
    let other = SigningKey::generate(Algorithm::Es256, "ES256", [4; 32]).unwrap();
    let config = json!([
        config()[0],
        {"issuer": "https://other.example", "audience": "tidegate", "tenant": "other", "keys": {"keys": [other.verifying_jwk()]}},
    ]);
    let issuers = issuers(&config);
    let own = with(claims(), "iss", json!("https://other.example"));
    assert_eq!(
        issuers
            .verify(&other.sign(&header(Algorithm::Es256), &own).unwrap(), NOW_MS, None)
            .unwrap()
            .tenant
            .as_str(),
        "other"
    );
    let stolen = other.sign(&header(Algorithm::Es256), &claims()).unwrap();
    assert_eq!(
        issuers.verify(&stolen, NOW_MS, None).unwrap_err().reason,
        Reason::SignatureInvalid
    );
}

#[test]
fn no_error_repeats_the_token_or_a_key() {
    let text = token(
        Algorithm::Hs256,
        &header(Algorithm::Hs256),
        &with(claims(), "sub", json!("")),
    );
    let error = issuers(&config()).verify(&text, NOW_MS, None).unwrap_err();
    let shown = format!("{error} {error:?} {:?}", issuers(&config()));
    let secret = signing_key(Algorithm::Hs256).private_jwk()["k"]
        .as_str()
        .unwrap()
        .to_string();
    let octets = format!("{:?}", URL_SAFE_NO_PAD.decode(&secret).unwrap());
    assert!(!shown.contains(&secret) && !shown.contains(octets.trim_matches(['[', ']'])) && !shown.contains(&text));
    assert_eq!(error.code(), "UNAUTHORIZED");
}

#[test]
fn a_generated_key_mints_tokens_that_verify() {
    for algorithm in Algorithm::ALL {
        let key = SigningKey::generate(algorithm, "dev", [1; 32]).unwrap();
        assert_eq!(key.algorithm(), algorithm);
        let again = SigningKey::from_jwk(&key.private_jwk().to_string()).unwrap();
        assert_eq!(again.verifying_jwk(), key.verifying_jwk());
        let issuers = issuers(&json!([{
            "issuer": "dev", "audience": "tidegate", "tenant_claim": "tid", "keys": {"keys": [key.verifying_jwk()]},
        }]));
        let token = NewToken {
            issuer: "dev",
            audience: "tidegate",
            user: "ada",
            tenant: Some(("tid", "acme")),
            scopes: ["admin".to_string()].into(),
            now_ms: NOW_MS,
            lifetime_seconds: 60,
            token_id: Some("j"),
        };
        let principal = issuers.verify(&token.mint(&key).unwrap(), NOW_MS, None).unwrap();
        assert_eq!(
            (principal.expires_at_ms, principal.token_id.as_deref()),
            (NOW_MS + 60_000, Some("j"))
        );
        assert!(
            !format!("{key:?}").contains(
                key.private_jwk()
                    .as_object()
                    .unwrap()
                    .values()
                    .find_map(|v| v.as_str().filter(|t| t.len() > 40))
                    .unwrap()
            )
        );
    }
}

#[test]
fn the_tokens_that_wasm_verifies_are_those_that_are_minted() {
    let stored: Value = serde_json::from_str(include_str!("vectors/tokens.json")).unwrap();
    assert_eq!(stored["now_ms"], NOW_MS);
    assert_eq!(stored["issuers"], config());
    let tokens = stored["tokens"].as_array().unwrap();
    for (algorithm, vector) in Algorithm::ALL.iter().zip(tokens) {
        let text = vector["token"].as_str().unwrap();
        let parts: Vec<_> = text.split('.').collect();
        let read = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        assert_eq!(vector["algorithm"], algorithm.name());
        assert_eq!((read(parts[0]), read(parts[1])), (header(*algorithm), claims()));
        assert!(issuers(&config()).verify(text, NOW_MS, None).is_ok(), "{algorithm}");
    }
    assert_eq!(tokens.len(), Algorithm::ALL.len());
}
