//! The published schema of `TIDEGATE_ISSUERS` and its reader say the same.
//!
//! Whatever is read, the schema takes. Whatever the schema takes and is not read has only faults that a schema cannot
//! express, and those are listed here.

#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use common::{config, jwks};
use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_identity::issuers::schema;
use tidegate_identity::{Algorithm, Issuers};

/// Words of the faults that a schema cannot express: what is there twice, what the bits of a key must be, what hangs on
/// two members at once, the parts of an address, and a whole number that is written with a point.
const BEYOND_SCHEMA: [&str; 10] = [
    "an issuer that is there once",
    "an id that no other key of this type has",
    "an algorithm that one of the keys is for",
    "an algorithm for a public key",
    "base64url text without padding",
    "an odd modulus",
    "an odd exponent",
    "a point on the curve P-256",
    "a public key on Ed25519",
    "an https address",
];
const WHOLE_SECONDS: &str = "whole seconds from";

fn validator() -> jsonschema::Validator {
    jsonschema::draft202012::meta::validate(&schema()).unwrap();
    jsonschema::draft202012::new(&schema()).unwrap()
}

/// Holds one document against both. Says whether it is read.
fn agree(validator: &jsonschema::Validator, document: &Value) -> bool {
    let read = Issuers::parse(&document.to_string());
    let taken = validator.is_valid(document);
    match &read {
        Ok(_) => assert!(taken, "is read, but the schema refuses {document}"),
        Err(faults) if taken => {
            for fault in faults {
                let known = BEYOND_SCHEMA.iter().any(|words| fault.expected.contains(words))
                    || fault.expected.contains(WHOLE_SECONDS) && document.to_string().contains(".0");
                assert!(known, "the schema takes {document}, but: {fault}");
            }
        }
        Err(_) => {}
    }
    read.is_ok()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// An issuer that uses every member; `changes` replace some of them, `null` removes one.
fn issuer(changes: Value) -> Value {
    let mut issuer = json!({
        "issuer": "https://id.example/", "audience": ["a", "b"], "tenant_claim": "org",
        "jwks_url": "https://id.example:8443/keys?v=1", "algorithms": ["RS256", "ES256"], "leeway_seconds": 120,
    });
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(issuer.as_object_mut().unwrap().remove(name)),
            value => issuer[name] = value.clone(),
        }
    }
    issuer
}

fn with_keys(keys: Value) -> Value {
    json!([issuer(
        json!({"jwks_url": null, "algorithms": null, "keys": {"keys": keys}})
    )])
}

fn public(algorithm: Algorithm) -> Value {
    jwks(&[algorithm])["keys"][0].clone()
}

fn changed(mut key: Value, name: &str, value: Value) -> Value {
    key[name] = value;
    key
}

#[test]
fn the_published_schema_is_that_of_the_reader() {
    let text = fs::read_to_string(root().join("docs/reference/issuers.schema.json")).unwrap();
    let published: Value = serde_json::from_str(&text).unwrap();
    assert!(
        published == schema(),
        "write it again: cargo run -p tidegate-identity --features schema --example issuers_schema \
         > docs/reference/issuers.schema.json"
    );
}

#[test]
fn every_member_has_a_description() {
    fn walk(schema: &Value, path: &str) {
        for (name, member) in schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let path = format!("{path}/{name}");
            let only_compares = member.is_boolean() || member.get("const").is_some();
            assert!(only_compares || member.get("description").is_some(), "{path}");
            walk(member, &path);
        }
    }
    for (name, part) in schema()["$defs"].as_object().unwrap() {
        assert!(part.get("description").is_some(), "{name}");
        walk(part, name);
    }
}

/// The JSON in the pages of the documentation that begins as a list of issuers does.
fn examples(folder: &Path, found: &mut Vec<(PathBuf, Value)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            examples(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let text = fs::read_to_string(&path).unwrap();
            for block in text
                .split("```json\n")
                .skip(1)
                .filter_map(|rest| rest.split("```").next())
            {
                if let Ok(document @ Value::Array(_)) = serde_json::from_str(block)
                    && document[0].get("issuer").is_some()
                {
                    found.push((path.clone(), document));
                }
            }
        }
    }
}

#[test]
fn the_examples_of_the_documentation_are_right_for_both() {
    let (validator, mut found) = (validator(), Vec::new());
    examples(&root().join("docs"), &mut found);
    assert!(!found.is_empty());
    for (path, document) in found {
        assert!(agree(&validator, &document), "{}", path.display());
    }
}

#[test]
fn good_documents_are_right_for_both() {
    let validator = validator();
    let ec = public(Algorithm::Es256);
    for document in [
        json!([]),
        config(),
        json!([issuer(json!({}))]),
        json!([
            issuer(json!({"tenant_claim": null, "tenant": "eu.acme-1"})),
            issuer(json!({"issuer": "other"}))
        ]),
        json!([issuer(
            json!({"audience": "one", "algorithms": null, "leeway_seconds": null})
        )]),
        json!([issuer(json!({"jwks_url": "http://[::1]:9000/"}))]),
        json!([issuer(json!({"jwks_url": "https://[2001:db8::1]/keys"}))]),
        // Passed over: another type, another curve, another use.
        with_keys(
            json!([{"kty": "new", "use": 5}, {"kty": "EC", "crv": "P-521", "x": 1}, {"kty": "RSA", "use": "enc"}, ec]),
        ),
        with_keys(json!([{"kty": "oct", "key_ops": ["sign"]}, changed(ec.clone(), "key_ops", json!(["verify"]))])),
        with_keys(json!([changed(ec, "x5c", json!(["anything"]))])),
    ] {
        assert!(agree(&validator, &document), "{document}");
    }
}

#[test]
fn bad_documents_are_wrong_for_both() {
    let validator = validator();
    let (ec, rsa) = (public(Algorithm::Es256), public(Algorithm::Rs256));
    let one = |changes| json!([issuer(changes)]);
    for document in [
        json!({}),
        json!(["https://id.example/"]),
        Value::Array(vec![issuer(json!({})); 257]),
        one(json!({"issuer": null})),
        one(json!({"issuer": ""})),
        one(json!({"issuer": "a\u{0}b"})),
        one(json!({"issuer": "a".repeat(1025)})),
        one(json!({"isuer": "x"})),
        one(json!({"audience": null})),
        one(json!({"audience": []})),
        one(json!({"audience": ["a", 1]})),
        one(json!({"tenant": "acme"})),
        one(json!({"tenant_claim": null})),
        one(json!({"tenant_claim": null, "tenant": "Acme"})),
        one(json!({"tenant_claim": null, "tenant": "us.acme"})),
        one(json!({"tenant_claim": null, "tenant": "a:b"})),
        one(json!({"jwks_url": null})),
        one(json!({"keys": jwks(&[Algorithm::Rs256])})),
        one(json!({"jwks_url": "http://id.example/keys"})),
        one(json!({"jwks_url": "https://user:password@id.example/"})),
        one(json!({"jwks_url": "https://id.example/#part"})),
        one(json!({"jwks_url": "https://id.example/a b"})),
        one(json!({"jwks_url": "http://localhost.example/"})),
        one(json!({"algorithms": []})),
        one(json!({"algorithms": ["none"]})),
        one(json!({"algorithms": "RS256"})),
        one(json!({"leeway_seconds": 121})),
        one(json!({"leeway_seconds": -1})),
        one(json!({"leeway_seconds": 1.5})),
        with_keys(json!({})),
        with_keys(json!([])),
        with_keys(json!([{"kty": "new"}])),
        with_keys(json!([5, ec])),
        with_keys(json!([{"crv": "P-256"}, ec])),
        with_keys(json!([{"kty": "EC"}, ec])),
        with_keys(json!([{"kty": "oct", "k": "c2hvcnQ"}])),
        with_keys(json!([changed(ec.clone(), "x", json!("AQAB"))])),
        with_keys(json!([changed(ec.clone(), "d", json!("AQAB"))])),
        with_keys(json!([changed(ec.clone(), "alg", json!("RS256"))])),
        with_keys(json!([changed(ec.clone(), "use", json!(["sig"]))])),
        with_keys(json!([changed(ec, "kid", json!(""))])),
        with_keys(json!([changed(rsa.clone(), "n", json!("AQAB"))])),
        with_keys(json!([changed(rsa, "e", json!("AQ=="))])),
    ] {
        assert!(!agree(&validator, &document), "is read: {document}");
        assert!(!validator.is_valid(&document), "the schema takes {document}");
    }
}

/// The pointers of every value inside `value`, its own first.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(members) => {
            members
                .iter()
                .for_each(|(name, value)| pointers(value, &format!("{at}/{name}"), found));
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(index, item)| pointers(item, &format!("{at}/{index}"), found));
        }
        _ => {}
    }
}

fn value() -> impl Strategy<Value = Value> {
    let known = json!([
        null, true, 0, 1, 30, 30.0, 120, 121, -1, 1.5, "", "a", "acme", "eu.acme", "Acme", "a\n", "é", [], {}, ["a"], [1], [""],
        "RS256", "HS256", ["HS256"], ["RS256"], ["ES256", "HS256"], "oct", "RSA", "EC", "OKP", "P-256", "Ed25519", "P-521", "new",
        "sig", "enc", ["verify"], ["sign"], ["verify", 1], "https://a.example/", "http://a.example/", "http://localhost:1/",
        "https://a.example:99999/", "https://[1]/", "https://a:b@c.example/", "AQAB", "AQ", "A", "A".repeat(43), "_".repeat(43),
        "A".repeat(44), "AQAB".repeat(86), "é".repeat(1024), "é".repeat(1025), "k".repeat(256), "k".repeat(257),
        {"keys": []}, {"keys": 1}, {"kty": "oct", "k": "A".repeat(43)}, {"kty": "oct"},
    ]);
    prop::sample::select(known.as_array().unwrap().clone())
}

/// Puts a value somewhere, takes one away, or adds one under a name that may be known.
fn change(document: &mut Value, place: usize, what: u8, name: &str, value: Value) {
    let mut places = Vec::new();
    pointers(document, "", &mut places);
    let pointer = &places[place % places.len()];
    match what {
        0..=3 => *document.pointer_mut(pointer).unwrap() = value,
        4..=5 => {
            if let Some(Value::Object(members)) = document.pointer_mut(pointer) {
                members.insert(name.to_owned(), value);
            }
        }
        _ => {
            let Some((parent, name)) = pointer.rsplit_once('/') else {
                return;
            };
            match document.pointer_mut(parent) {
                Some(Value::Object(members)) => drop(members.remove(name)),
                Some(Value::Array(items)) => drop(items.remove(name.parse().unwrap())),
                _ => {}
            }
        }
    }
}

#[test]
fn a_mutated_document_is_right_for_both_or_wrong_for_both() {
    let validator = validator();
    let counts = [Cell::new(0_u32), Cell::new(0)];
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let documents = vec![
        config(),
        json!([issuer(json!({}))]),
        json!([issuer(json!({"tenant_claim": null, "tenant": "acme"}))]),
    ];
    let names = prop::sample::select(vec![
        "issuer",
        "audience",
        "tenant",
        "tenant_claim",
        "keys",
        "jwks_url",
        "algorithms",
        "leeway_seconds",
        "kty",
        "crv",
        "use",
        "key_ops",
        "alg",
        "kid",
        "d",
        "k",
        "x",
        "y",
        "n",
        "e",
        "other",
    ]);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), 0_u8..7, names, value()), 1..3);
    let outcome = runner.run(
        &(prop::sample::select(documents), changes),
        |(mut document, changes)| {
            for (place, what, name, value) in changes {
                change(&mut document, place.index(10_000), what, name, value);
            }
            let count = &counts[usize::from(agree(&validator, &document))];
            count.set(count.get() + 1);
            Ok(())
        },
    );
    outcome.unwrap();
    assert!(
        counts.iter().all(|count| count.get() > 200),
        "a lopsided corpus: {counts:?}"
    );
}
