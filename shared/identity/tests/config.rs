//! The configuration: what is accepted, and that every fault is found, placed, explained, and keeps secrets to itself.

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

use common::*;
use serde_json::{Value, json};
use tidegate_identity::{Algorithm, Issuers, KeySet, Reason};

/// Pointers and suggestions of all faults.
fn faults(config: &Value) -> Vec<(String, Option<String>)> {
    let faults = Issuers::parse(&config.to_string()).expect_err("faults");
    faults
        .into_iter()
        .map(|fault| (fault.pointer, fault.suggestion))
        .collect()
}

#[test]
fn all_faults_are_reported_at_once_with_place_and_suggestion() {
    let config = json!([
        {"isuer": "a", "audience": [], "tenant": "Acme", "tenant_claim": "tid", "keys": jwks(&[Algorithm::Es256])},
        {"issuer": "b", "audience": ["x", 1], "tenant": "Acme", "jwks_url": "http://b.example/", "algorithms": ["ES265", 7],
            "leeway_seconds": 121, "a/b": 1},
        {"issuer": "b", "audience": "x", "tenant": "acme", "keys": {"keys": [{"kty": "oct", "k": "c2hvcnQ"}, {"kty": "RSA"}]}},
        "c",
    ]);
    let found = faults(&config);
    let expected = [
        ("/0/isuer", Some("issuer")),
        ("/0/issuer", None),
        ("/0/audience", None),
        ("/0", None),
        ("/1/a~1b", None),
        ("/1/audience/1", None),
        ("/1/tenant", None),
        ("/1/algorithms/0", Some("ES256")),
        ("/1/algorithms/1", None),
        ("/1/jwks_url", None),
        ("/1/leeway_seconds", None),
        ("/2/issuer", None),
        ("/2/keys/keys/0/k", None),
        ("/2/keys/keys/1/n", None),
        ("/2/keys/keys/1/e", None),
        ("/3", None),
    ];
    let expected: Vec<_> = expected
        .iter()
        .map(|(at, hint)| (at.to_string(), hint.map(str::to_string)))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn each_member_is_required_once_and_in_its_form() {
    let base = config()[0].clone();
    for (name, value, pointer) in [
        ("issuer", json!(""), "/0/issuer"),
        ("issuer", json!("a\nb"), "/0/issuer"),
        ("issuer", json!(1), "/0/issuer"),
        ("audience", Value::Null, "/0/audience"),
        ("audience", json!({}), "/0/audience"),
        ("tenant_claim", Value::Null, "/0"),
        ("tenant_claim", json!(""), "/0/tenant_claim"),
        ("tenant", json!("acme"), "/0"),
        ("keys", Value::Null, "/0"),
        ("keys", json!([]), "/0/keys"),
        ("keys", json!({}), "/0/keys/keys"),
        ("keys", json!({"keys": []}), "/0/keys/keys"),
        ("keys", json!({"keys": [{"kty": "EC", "crv": "P-521"}]}), "/0/keys/keys"),
        ("jwks_url", json!("https://id.example/jwks"), "/0"),
        ("algorithms", json!([]), "/0/algorithms"),
        ("algorithms", json!("ES256"), "/0/algorithms"),
        ("algorithms", json!(["none"]), "/0/algorithms/0"),
        ("leeway_seconds", json!(-1), "/0/leeway_seconds"),
        ("leeway_seconds", json!(1.5), "/0/leeway_seconds"),
        ("leeway_seconds", json!("30"), "/0/leeway_seconds"),
    ] {
        let found = faults(&json!([with(base.clone(), name, value.clone())]));
        assert_eq!(found.len(), 1, "{name}: {value}: {found:?}");
        assert_eq!(found[0].0, pointer, "{name}: {value}");
    }
    assert!(Issuers::parse("[]").is_ok());
    for text in [
        "",
        "{}",
        "[",
        "[{\"issuer\":\"a\",\"issuer\":\"b\"}]",
        &"[".repeat(200_000),
        &" ".repeat(300_000),
    ] {
        assert_eq!(Issuers::parse(text).unwrap_err()[0].pointer, "", "{text:.40}");
    }
}

#[test]
fn algorithms_that_no_key_is_for_are_a_fault() {
    let only = |algorithms: Value| {
        json!([with(
            with(config()[0].clone(), "keys", jwks(&[Algorithm::Es256])),
            "algorithms",
            algorithms
        )])
    };
    assert_eq!(faults(&only(json!(["RS256"])))[0].0, "/0/algorithms");
    assert!(Issuers::parse(&only(json!(["RS256", "ES256"])).to_string()).is_ok());
    let fetched = json!([{"issuer": "a", "audience": "b", "tenant": "c", "jwks_url": "https://a.example/", "algorithms": ["HS256"]}]);
    assert_eq!(faults(&fetched)[0].0, "/0/algorithms");
}

/// Pointers of the faults of a set with one key.
fn key_faults(key: &Value) -> Vec<String> {
    match KeySet::parse(&json!({"keys": [key]}).to_string()) {
        Ok(_) => vec![],
        Err(faults) => faults.into_iter().map(|fault| fault.pointer).collect(),
    }
}

#[test]
fn a_weak_or_broken_key_is_a_fault() {
    let rsa = signing_key(Algorithm::Rs256).verifying_jwk();
    let ec = signing_key(Algorithm::Es256).verifying_jwk();
    let ed = signing_key(Algorithm::EdDsa).verifying_jwk();
    let oct = signing_key(Algorithm::Hs256).verifying_jwk();
    let octets = |byte: u8, length: usize| {
        use base64::Engine;
        json!(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(vec![byte; length]))
    };
    let zero_padded = {
        use base64::Engine;
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        json!(engine.encode([vec![0; 256], vec![0x7f; 255]].concat()))
    };
    for (key, name, value, pointer) in [
        (&rsa, "n", octets(0xff, 255), "/keys/0/n"),
        (&rsa, "n", octets(0x7f, 256), "/keys/0/n"),
        (&rsa, "n", zero_padded, "/keys/0/n"),
        (&rsa, "n", octets(0xff, 513), "/keys/0/n"),
        (&rsa, "n", octets(0xfe, 256), "/keys/0/n"),
        (&rsa, "n", json!(""), "/keys/0/n"),
        (&rsa, "n", json!("!"), "/keys/0/n"),
        (&rsa, "n", Value::Null, "/keys/0/n"),
        (&rsa, "e", json!("AQ"), "/keys/0/e"),
        (&rsa, "e", json!("Ag"), "/keys/0/e"),
        (&rsa, "e", json!(""), "/keys/0/e"),
        (&rsa, "e", octets(0xff, 5), "/keys/0/e"),
        (&rsa, "d", json!("AQAB"), "/keys/0/d"),
        (&rsa, "alg", json!("HS256"), "/keys/0/alg"),
        (&rsa, "alg", json!("PS256"), "/keys/0/alg"),
        (&rsa, "use", json!(["sig"]), "/keys/0/use"),
        (&rsa, "key_ops", json!("verify"), "/keys/0/key_ops"),
        (&rsa, "kid", json!(1), "/keys/0/kid"),
        (&rsa, "kid", json!(""), "/keys/0/kid"),
        (&rsa, "kty", json!(1), "/keys/0/kty"),
        (&rsa, "kty", Value::Null, "/keys/0/kty"),
        (&ec, "x", octets(1, 32), "/keys/0"),
        (&ec, "x", octets(0, 32), "/keys/0"),
        (&ec, "x", octets(1, 31), "/keys/0/x"),
        (&ec, "y", octets(1, 33), "/keys/0/y"),
        (&ec, "crv", Value::Null, "/keys/0/crv"),
        (&ec, "d", octets(1, 32), "/keys/0/d"),
        // The neutral element, and a point of order four: anything would verify under them.
        (
            &ed,
            "x",
            json!("AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
            "/keys/0/x",
        ),
        (&ed, "x", octets(0, 32), "/keys/0/x"),
        (&ed, "x", octets(1, 16), "/keys/0/x"),
        (
            &ed,
            "x",
            json!("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURp"),
            "/keys/0/x",
        ),
        (&oct, "k", octets(1, 31), "/keys/0/k"),
        (&oct, "k", json!(""), "/keys/0/k"),
        (&oct, "alg", json!("RS256"), "/keys/0/alg"),
    ] {
        assert_eq!(
            key_faults(&with(key.clone(), name, value.clone())),
            [pointer],
            "{name}: {value}"
        );
    }
    for key in [rsa, ec, ed, oct] {
        assert!(key_faults(&key).is_empty(), "{key}");
    }
}

#[test]
fn keys_for_other_purposes_and_of_unknown_types_are_skipped() {
    let key = signing_key(Algorithm::Es256).verifying_jwk();
    for other in [
        with(key.clone(), "use", json!("enc")),
        with(key.clone(), "key_ops", json!(["sign"])),
        with(key.clone(), "key_ops", json!([])),
        with(key.clone(), "crv", json!("P-384")),
        json!({"kty": "OKP", "crv": "X25519", "x": "AA"}),
        json!({"kty": "AKP", "alg": "ML-DSA-44"}),
    ] {
        let set = KeySet::parse(&json!({"keys": [other, key]}).to_string()).unwrap();
        assert_eq!(set.keys().len(), 1, "{other}");
        assert_eq!(key_faults(&other), ["/keys"], "{other}");
    }
    let allowed = with(key, "key_ops", json!(["verify"]));
    assert!(key_faults(&allowed).is_empty());
}

#[test]
fn two_keys_with_one_id_are_a_fault_unless_their_types_differ() {
    let (es, rs) = (
        signing_key(Algorithm::Es256).verifying_jwk(),
        signing_key(Algorithm::Rs256).verifying_jwk(),
    );
    let named = |key: &Value| with(key.clone(), "kid", json!("1"));
    let parse = |keys: Value| KeySet::parse(&json!({"keys": keys}).to_string());
    assert_eq!(
        parse(json!([named(&es), named(&es)])).unwrap_err()[0].pointer,
        "/keys/1/kid"
    );
    let set = parse(json!([named(&es), named(&rs)])).unwrap();
    assert_eq!(
        set.select(Some("1"), Algorithm::Rs256).unwrap().algorithm(),
        Algorithm::Rs256
    );
    let twice = parse(json!([
        with(es.clone(), "kid", json!("a")),
        with(es, "kid", json!("b"))
    ]))
    .unwrap();
    assert_eq!(twice.select(None, Algorithm::Es256).unwrap_err(), Reason::KeyAmbiguous);
    assert_eq!(twice.select(Some("b"), Algorithm::Es256).unwrap().kid(), Some("b"));
}

#[test]
fn of_a_fetched_set_the_usable_part_is_used() {
    let usable = signing_key(Algorithm::Es256).verifying_jwk();
    let secret = signing_key(Algorithm::Hs256).verifying_jwk();
    let private = signing_key(Algorithm::EdDsa).private_jwk();
    let weak = json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"});
    let set = json!({"keys": [secret, private, weak, 7, usable]});
    let fetched = KeySet::parse_fetched(&set.to_string()).unwrap();
    assert_eq!(fetched.keys().len(), 1);
    assert_eq!(fetched.keys()[0].algorithm(), Algorithm::Es256);
    let too_many = json!({"keys": vec![usable; 65]}).to_string();
    for text in [
        "",
        "[]",
        "{}",
        r#"{"keys":[]}"#,
        &json!({"keys": [secret]}).to_string(),
        &too_many,
        &" ".repeat(600_000),
    ] {
        assert!(KeySet::parse_fetched(text).is_err(), "{text:.60}");
    }
}

#[test]
fn no_fault_repeats_key_material() {
    let secret = "S3cr3tS3cr3tS3cr3tS3cr3t";
    let key = json!({"kty": "oct", "k": secret, "alg": "RS256", "use": {"k": secret}, "kid": [secret]});
    let config = json!([{"issuer": "a", "audience": "b", "tenant": "c", "keys": {"keys": [key, secret]},
        "jwks_url": format!("https://user:{secret}@id.example/")},
        {"issuer": "d", "audience": "b", "tenant": "c", "jwks_url": format!("https://user:{secret}@id.example/")},
        {"issuer": "e", "audience": "b", "tenant": "c", "keys": secret},
        {"issuer": "f", "audience": "b", "tenant": "c", "keys": {"keys": [{"kty": "oct", "k": secret}, {"kty": "RSA", "d": secret}]}}]);
    let faults = Issuers::parse(&config.to_string()).unwrap_err();
    assert!(faults.len() >= 6);
    for fault in faults {
        assert!(!format!("{fault} {fault:?}").contains(secret), "{fault}");
    }
}
