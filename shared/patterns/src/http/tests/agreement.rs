//! The published schema of the pattern's configuration and settings agrees with what reads them, and the example that
//! uses the pattern is right.

use alloc::vec::Vec;

use serde_json::{Value, json};
use tidegate_engine::composition::compile;
use tidegate_protocol::Fault;

use super::super::{Config, MANIFEST, Settings};
use super::good_config;

const SCHEMA: &str = include_str!("../../../../../docs/reference/composition.schema.json");
const EXAMPLE: &str = include_str!("../../../../../examples/compositions/http-upstream.json");

/// Words of the faults that the schema does not express: the parts of a URL, bounds of durations, names that must exist
/// and names that are not to be set.
const BEYOND_SCHEMA: &[&str] = &[
    "a URL",
    "a host",
    "a public host",
    "an IPv4 address",
    "an IPv6 address",
    "a port",
    "a path",
    "a duration from ",
    "an upstream of the configuration",
    "the name of a header that",
    "each header once",
    "each name once",
    "no body where the method",
    "another upstream of the configuration",
    "a cap not below",
    "no more calls than the window holds",
    "a path such as",
    "references to secrets",
];

fn schema(part: &str) -> jsonschema::Validator {
    let mut schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let definitions = schema["$defs"].take();
    let schema = json!({"$ref": alloc::format!("#/$defs/{part}"), "$defs": definitions});
    jsonschema::draft202012::new(&schema).unwrap()
}

/// Every document that differs from `document` in one place: a value replaced or taken away, or a field put in.
fn neighbours(document: &Value) -> Vec<Value> {
    let values = json!([
        null, true, 0, 1.5, "", "a", "main", "mains", "1s", "0s", "16m", "99999999999999999999s", "GET", "get", "HEAD",
        "/", "/a", "/a/../b", "a/b", "https://a.example", "HTTP://a.example/x", "ftp://a.example", "https://localhost",
        "https://a.example?x", "x".repeat(2049), "x\r\ny", "é", "x".repeat(4096), "x".repeat(4097), [], {}, ["a"],
        ["a", "a"], ["A", "a"], [""], ["a b"], ["host"], [1], ["x".repeat(128)], ["x".repeat(129)], {"a": "b"}, {"a": 1},
        {"A": "1", "a": "2"}, {"host": "a"}, {"a b": "c"}, {"base_url": "https://b.example"},
        {"main": {"base_url": "https://b.example"}}, {"m n": {"base_url": "https://b.example"}}, "/a\n", "1s\n",
        "off", "standard", "payments", 1000, 1001, 100, 101, 50, -1, ["5xx"], ["503", "timeout"], ["600"], ["050"], ["5xx", 1],
        {"preset": "standard"}, {"preset": "off"}, {"attempts": 11}, {"window": "2s", "window_calls": 5}, {"calls": 2}, {"after": "1s"},
        {"body": null}, {"upstream": "main"}, {"body": 1, "upstream": "other"}, "payload.x", "unreachable", "none",
        (0..33).map(|n| alloc::format!("n{n}")).collect::<Vec<_>>(), (0..65).map(|n| alloc::format!("n{n}")).collect::<Vec<_>>(),
    ]);
    let mut places = Vec::new();
    collect(document, "", &mut places);
    let mut found = Vec::new();
    for place in &places {
        for value in values.as_array().unwrap() {
            let mut other = document.clone();
            *other.pointer_mut(place).unwrap() = value.clone();
            found.push(other);
            for name in [
                "x",
                "path",
                "body",
                "headers",
                "timeout",
                "allow_private",
                "a b",
                "accepts",
                "preset",
                "window_calls",
                "upstream",
                "retry",
                "breaker",
                "fallback",
            ] {
                let mut other = document.clone();
                if let Some(Value::Object(fields)) = other.pointer_mut(place) {
                    fields.insert(name.into(), value.clone());
                    found.push(other);
                }
            }
        }
        let (parent, name) = place.rsplit_once('/').unwrap_or_default();
        let mut other = document.clone();
        if let Some(Value::Object(fields)) = other.pointer_mut(parent) {
            fields.remove(name);
            found.push(other);
        }
    }
    found
}

fn collect(value: &Value, at: &str, found: &mut Vec<alloc::string::String>) {
    found.push(at.into());
    for (name, value) in value.as_object().into_iter().flatten() {
        collect(value, &alloc::format!("{at}/{name}"), found);
    }
}

pub(super) fn agree(part: &str, document: &Value, read: impl Fn(&Value, &mut Vec<Fault>)) {
    let schema = schema(part);
    let (mut right, mut wrong) = (0, 0);
    for document in neighbours(document) {
        let mut faults = Vec::new();
        read(&document, &mut faults);
        let taken = schema.is_valid(&document);
        if faults.is_empty() {
            right += 1;
            assert!(taken, "read, but the schema refuses {document}");
        } else if taken {
            for fault in &faults {
                let known = BEYOND_SCHEMA.iter().any(|words| fault.expected.starts_with(words));
                assert!(known, "the schema takes {document}, but: {fault}");
            }
        } else {
            wrong += 1;
        }
    }
    assert!(
        right > 20 && wrong > 20,
        "a lopsided corpus: {right} right, {wrong} wrong"
    );
}

#[test]
fn a_configuration_is_right_for_both_or_wrong_for_both() {
    let upstream = json!({"base_url": "https://api.example.com/v1", "timeout": "10s", "headers": {"x-a": "b"}, "allow_private": false});
    agree(
        "http_config",
        &json!({"upstreams": {"main": upstream}}),
        |document, faults| {
            Config::read(document, "", faults);
        },
    );
}

#[test]
fn settings_are_right_for_both_or_wrong_for_both() {
    let accepts = json!({"path": true, "query": ["q"], "headers": ["x-b"], "body": false});
    let document = json!({"upstream": "main", "method": "POST", "path": "/charges", "accepts": accepts});
    let config = good_config();
    agree("http_call", &document, |document, faults| {
        Settings::read(document, &config, "", faults);
    });
}

#[test]
fn the_example_compiles_and_its_faults_are_found_where_they_stand() {
    let plan = compile(EXAMPLE, &[MANIFEST]).unwrap();
    assert_eq!(plan.actions.len(), 2);
    assert!(
        plan.actions
            .values()
            .all(|action| action.pattern == "http" && action.runs_in_hub)
    );
    for action in plan.actions.values() {
        let config = Config::parse(&plan.patterns[&action.instance].config).unwrap();
        Settings::parse(&action.settings, &config).unwrap();
    }
    let broken = EXAMPLE
        .replace("https://api.example.com", "http://169.254.169.254")
        .replacen("\"path\": \"/charges\"", "\"path\": \"/../x\"", 1);
    let error = compile(&broken, &[MANIFEST]).unwrap_err();
    let places: Vec<&str> = error.details.iter().map(|fault| fault.pointer.as_str()).collect();
    let expected = [
        "/patterns/bank/config/upstreams/main/base_url",
        "/actions/charges.create/with/path",
    ];
    assert_eq!(places, expected);
}
