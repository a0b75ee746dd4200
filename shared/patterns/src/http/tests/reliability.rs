//! What an upstream's configuration may say of calls that fail: presets, fields, faults, and the published schema.

use alloc::vec::Vec;

use serde_json::{Value, json};

use super::super::{Config, Fallback};
use super::agreement::agree;
use super::{check, config};

fn upstream(sections: &Value) -> Value {
    let mut upstream = json!({ "base_url": "https://api.example.com" });
    for (name, value) in sections.as_object().unwrap() {
        upstream[name] = value.clone();
    }
    upstream
}

fn read(sections: &Value) -> super::super::Reliability {
    let (config, faults) = config(&upstream(sections));
    assert_eq!(faults, [], "{sections}");
    config.upstreams["main"].reliability.clone()
}

#[test]
fn nothing_is_on_where_nothing_is_said() {
    for sections in [
        json!({}),
        json!({ "retry": "off", "breaker": "off", "idempotent": false }),
    ] {
        assert_eq!(read(&sections), super::super::Reliability::default());
    }
}

#[test]
fn a_preset_is_where_a_section_begins() {
    let named = read(&json!({ "retry": "payments", "breaker": "payments" }));
    let begun = read(&json!({ "retry": { "preset": "payments" }, "breaker": { "preset": "payments" } }));
    assert_eq!(named, begun);
    let retry = named.retry.unwrap();
    let waits: Vec<u64> = (1..5).map(|made| retry.full_ms(made)).collect();
    assert_eq!((retry.calls, waits), (4, [1_000, 2_000, 4_000, 4_000].to_vec()));
    let breaker = named.breaker.unwrap();
    assert_eq!((breaker.rule.consecutive, breaker.rule.open_ms), (3, 60_000));
    let own = read(&json!({
        "retry": { "attempts": 2, "initial": "10s", "jitter": "none", "on": ["503", "4xx"] },
        "breaker": { "consecutive_failures": 0, "window_calls": 8, "slow_after": "1s", "key": "payload.query.region" },
        "fallback": { "body": null }, "hedge": { "after": "200ms" }, "bulkhead": { "calls": 7 },
    }));
    let retry = own.retry.unwrap();
    assert_eq!((retry.calls, retry.cap_ms, retry.full_jitter), (2, 10_000, false));
    let breaker = own.breaker.unwrap();
    assert_eq!(
        (
            breaker.rule.consecutive,
            breaker.rule.window_calls,
            breaker.rule.calls_min
        ),
        (0, 8, 8)
    );
    assert_eq!((breaker.slow_ms, breaker.key.is_some()), (1_000, true));
    assert!(matches!(own.fallback, Some(Fallback::Body(body)) if body.as_str() == "null"));
    assert_eq!((own.hedge_ms, own.bulkhead), (Some(200), Some(7)));
}

#[test]
fn every_fault_is_named_where_it_is() {
    let at = "/upstreams/main";
    let place = |rest: &str| alloc::format!("{at}/{rest}");
    for (sections, expected) in [
        (json!({ "retry": "standart" }), &["retry | an object | standard"][..]),
        (json!({ "breaker": 3 }), &["breaker | an object"]),
        (
            json!({ "retry": { "attempts": 0, "initial": "10s", "cap": "1s", "on": ["600"], "jitter": "some", "x": 1 } }),
            &[
                "retry/attempts | 1 to 10",
                "retry/cap | not below",
                "retry/on | statuses",
                "retry/jitter | `full`",
                "retry/x | no such",
            ],
        ),
        (
            json!({ "breaker": { "preset": "off", "failure_percent": 101, "window": "1s", "window_calls": 5, "minimum_calls": 6,
                "open": "1ms", "probes": 0, "key": "body.x", "slow_after": 5 } }),
            &[
                "breaker/preset | `standard`",
                "breaker/failure_percent | 0 to 100",
                "breaker/window | either",
                "breaker/minimum_calls | no more calls",
                "breaker/open | a duration from",
                "breaker/probes | 1 to 100",
                "breaker/key | a path",
                "breaker/slow_after | a duration",
            ],
        ),
        (
            json!({ "retry": { "preset": "payments", "initial": "10s", "cap": "4s" } }),
            &["retry/cap | not below"],
        ),
        (
            json!({ "retry": { "initial": "10s", "cap": "now" }, "breaker": { "window_calls": 5, "minimum_calls": 0 } }),
            &["retry/cap | a duration", "breaker/minimum_calls | 1 to"],
        ),
        (json!({ "fallback": {} }), &["fallback | either"]),
        (
            json!({ "fallback": { "body": 1, "upstream": "x" } }),
            &["fallback | either", "fallback/upstream | another upstream"],
        ),
        (
            json!({ "fallback": { "upstream": "main" } }),
            &["fallback/upstream | another upstream"],
        ),
        (
            json!({ "bulkhead": {}, "hedge": {} }),
            &["bulkhead/calls | calls under way", "hedge/after | how long"],
        ),
        (
            json!({ "bulkhead": 5, "idempotent": 1 }),
            &["bulkhead | an object", "idempotent | true or false"],
        ),
    ] {
        let (_, faults) = config(&upstream(&sections));
        let expected: Vec<_> = expected.iter().map(|wanted| place(wanted)).collect();
        let expected: Vec<&str> = expected.iter().map(|wanted| wanted.as_str()).collect();
        check(&faults, &expected, &sections);
    }
}

#[test]
fn a_configuration_is_right_for_the_schema_where_it_is_read() {
    let full = json!({
        "base_url": "https://api.example.com/v1", "idempotent": true,
        "retry": { "preset": "payments", "attempts": 3, "initial": "1s", "cap": "2s", "jitter": "full", "budget_percent": 20, "on": ["5xx"] },
        "breaker": { "preset": "payments", "consecutive_failures": 3, "failure_percent": 50, "slow_percent": 0, "slow_after": "1s",
            "window": "30s", "minimum_calls": 10, "open": "1s", "probes": 1, "successes": 2, "key": "user" },
        "bulkhead": { "calls": 5 }, "fallback": { "upstream": "other" }, "hedge": { "after": "1s" },
    });
    let by_calls = json!({
        "base_url": "https://api.example.com", "retry": "standard", "breaker": { "window_calls": 100 }, "fallback": { "body": [] },
    });
    agree(
        "http_config",
        &json!({ "upstreams": { "main": full, "other": by_calls } }),
        |document, faults| {
            Config::read(document, "", faults);
        },
    );
}
