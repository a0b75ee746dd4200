//! The published schema and the validator say the same.
//!
//! Whatever compiles, the schema takes. Whatever the schema takes and does not compile has only faults that a schema
//! cannot express, and those are listed here.

extern crate std;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::Cell;

use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_protocol::fault::escape_pointer;

use super::tests::MANIFESTS;
use super::{DEFAULT, compile};

const SCHEMA: &str = include_str!("../../../../docs/reference/composition.schema.json");
const REPORTS: &str = include_str!("../../../../examples/compositions/reports.json");
const MINIMAL: &str = include_str!("../../../../examples/compositions/minimal.json");
const QUEUE: &str = include_str!("../../../../examples/compositions/queue.json");
const CHAT: &str = include_str!("../../../../examples/chat/composition.json");
const LIVE_JOBS: &str = include_str!("../../../../examples/live-jobs/composition.json");
const STREAMS: &str = include_str!("../../../../examples/compositions/streams.json");
/// How-tos whose compositions use the patterns that are known here.
const HOW_TOS: &[&str] = &[
    include_str!("../../../../docs/how-to/write-a-composition.md"),
    include_str!("../../../../docs/how-to/run-on-a-schedule.md"),
    include_str!("../../../../docs/how-to/share-and-limit.md"),
    include_str!("../../../../docs/how-to/limit-requests.md"),
    include_str!("../../../../docs/how-to/see-what-a-tenant-uses.md"),
    include_str!("../../../../docs/how-to/decide-who-may-do-what.md"),
    include_str!("../../../../docs/how-to/follow-what-a-job-says.md"),
    include_str!("../../../../docs/how-to/grow-a-tenant.md"),
    include_str!("../../../../docs/how-to/receive-webhooks.md"),
    include_str!("../../../../docs/how-to/use-channels.md"),
    include_str!("../../../../docs/how-to/use-from-a-browser.md"),
    include_str!("../../../../docs/explanation/which-composition-a-job-runs-with.md"),
];

/// A document that uses every field.
const FULL: &str = r#"{
    "$schema": "composition.schema.json", "tidegate": 1, "scale": {"hubs": 2, "shards": 3},
    "retention": {"jobs": "30d", "results": "7d"},
    "patterns": {"core": {"use": "core", "config": {}}, "reports": {"use": "report", "config": {"columns": 5}}},
    "admission": {"limits": {
        "per-user": {"actions": ["a", "b*"], "key": "user", "rate": {"units": 100, "per": "1m", "burst": 20}, "cost": 2,
            "overrides": {"ann": {"units": 1000, "burst": 200}, "bob": {"units": 7}}, "exact": true, "shadow": true},
        "chatty": {"channels": ["chat", "typ*"], "key": ["user", "channel"], "rate": {"units": 5, "per": "1s"}},
        "daily": {"actions": "*", "key": ["user", "payload.a[0]"], "quota": {"units": 10000, "per": "1d"},
            "cost": "payload.pages", "overrides": {"[\"ann\",\"7\"]": {"units": 5}}}},
        "budgets": {
            "plan": {"meter": "jobs", "per": "month", "units": 100000, "warn_percent": 90},
            "daily": {"meter": "requests", "per": "day", "units": 5000}}},
    "policies": {
        "large": {"description": "d", "priority": 7, "actions": ["a", "b*"], "when": "payload_bytes > 1000 && !has(claims.x)",
            "effect": {"require_scope": "large"}},
        "night": {"actions": "*", "when": "now.getHours('Europe/Berlin') < 6", "effect": "deny"},
        "staff": {"priority": 1000, "when": "claims.role in ['staff']", "effect": "allow"}},
    "queue": {"share": {"key": "user", "weights": {"a": 2}}, "limits": {
        "one": {"actions": "*", "key": ["user", "payload.a[0]"], "concurrency": 7, "when_full": "replace"},
        "two": {"actions": ["a", "b*"], "throttle": {"units": 9, "per": "1m", "burst": 2}, "cost": "payload.n",
            "when_full": "refuse"}}, "waiting": 5000, "waiting_bytes": 50000000},
    "actions": {
        "a": {"run": "reports.summarize", "description": "d", "mode": "async", "timeout": "5m", "lease": "1s",
            "retry": {"attempts": 7, "backoff": "exponential", "initial": "2s", "cap": "1h"}, "scopes": ["a:b", "c"],
            "retention": "1d", "dispatch": "auto", "with": {"columns": 5}, "queue_timeout": "1m", "total_timeout": "1h",
            "heartbeat_timeout": "30s", "progress": {"every": "250ms", "durability": "all"}, "output": {"keep": "2MiB"},
            "cancel_grace": "10s", "idempotency": {"ttl": "1d", "failed": "free"},
            "on_end": {"url": "https://hooks.example.com/x", "from_request": ["https://hooks.example.com/*"],
                "events": ["succeeded", "failed"], "timeout": "5s", "retry": {"attempts": 2}, "include_result": false}},
        "b": {"run": "core.guess", "mode": "auto", "deadline": "1s", "dispatch": "direct", "total_timeout": "1d",
            "retry": {"backoff": "linear", "initial": "5s", "increment": "1s", "cap": "1m", "jitter": "full"},
            "priority": "low", "waiting": 9, "waiting_bytes": 4096, "revision": "latest",
            "on_disconnect": "cancel", "disconnect_grace": "5s"},
        "c": {"run": "core.echo", "retention": {"jobs": "2d", "results": "1d"}, "retry": {"backoff": "constant", "initial": "5s"}},
        "d": {"run": "core.delay", "retry": {"factor": 1.5, "jitter": "plus_minus", "percent": 20}},
        "e": {"run": "core.delay", "retry": {"backoff": "polynomial", "unit": "5s", "power": 4, "cap": "1m"}},
        "f": {"run": "core.delay", "retry": {"backoff": "table", "waits": ["1s", "5m"], "jitter": "equal"},
            "mode": "async", "dedupe": {"key": ["user", "payload.a"], "mode": "keep_last", "wait": "2s", "max_wait": "5m"}},
        "g": {"run": "core.echo", "dedupe": {"key": "payload", "mode": "window", "window": "5m"}},
        "h": {"run": "core.echo", "idempotency": {"ttl": "2h"}, "dedupe": {"key": "payload.x", "mode": "until_ended"}}
    },
    "schedules": {
        "nightly": {"cron": "0 3 * * *", "time_zone": "Europe/Berlin", "action": "a", "payload": {"a": [1], "n": 3},
            "metadata": {"team": "blue"}, "user": "ann", "overlap": "queue_one", "catch_up": "1h", "jitter": "30s",
            "paused": true},
        "s2": {"cron": "@daily", "action": "c"}
    },
    "browsers": {"origins": ["https://app.example.com", "http://localhost:*", "https://[::1]:8443", "*"]},
    "channels": {
        "*": {},
        "chat": {"description": "d", "subscribe": {"scopes": ["a:b"], "when": "channel.endsWith(user)"}, "publish": {"scopes": ["c"]},
            "cache": true, "history": {"messages": 5, "age": "1h", "bytes": "1MiB"}},
        "typing": {"subscribe": true, "publish": {"when": "true"}, "ephemeral": true,
            "presence": {"scopes": ["d"]}, "presence_grace": "0s"}},
    "webhooks": {
        "pay": {"description": "d", "preset": "stripe", "action": "a", "secret": "pay", "user": "ann", "tolerance": "1m",
            "events": ["invoice.*", "x"], "headers": ["X-A"]},
        "own": {"action": "c", "secret": "own", "verify": {"header": "X-Sign", "algorithm": "hmac-sha512", "encoding": "base64",
            "secret_encoding": "base64", "separator": ",", "prefix": "v1=", "content": "{id}.{timestamp}.{body}",
            "timestamp": {"item": "t="}, "id": {"header": "X-Id"}, "type": {"field": "data.type"}}}
    }
}"#;

/// Words of the faults that a schema cannot express: names that must exist, bounds of durations, what hangs on the
/// operation's own default, and what is the pattern's.
const BEYOND_SCHEMA: &[&str] = &[
    "an instance named in `patterns`",
    "an operation of the pattern",
    "a pattern of this deployment",
    "a mode that `",
    "a duration from ",
    "a size from ",
    "below the timeout of ",
    "not below `initial`",
    "not below `unit`",
    "not below `wait`",
    "at most six decimals",
    "only where the mode is `",
    "a path such as",
    "or the path to one",
    "a whole number from 1: what the limit `",
    "there is never room for more",
    "room for the cost of a request",
    "at least the number of shards",
    "a pattern that means an action",
    "a pattern that means a namespace",
    ", at character ",
    "a cron expression",
    "a time zone of the IANA database",
    "an action of the composition",
    "bytes of JSON",
    "no longer than the jobs are kept",
    "a public host",
    "a URL",
    "the URL of an endpoint",
    "no port, 443",
    "a port from 1",
    "a path ",
    "a host of",
    "an IPv4 address",
    "an IPv6 address",
    "what is signed",
    "`{id}`",
    "`{timestamp}`",
    "one of `header`, `",
    "an origin as browsers send it",
    // The schema counts characters, and what is stored are bytes.
    "a string of at most 1024 bytes",
];

fn schema() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    jsonschema::draft202012::meta::validate(&schema).unwrap();
    jsonschema::draft202012::new(&schema).unwrap()
}

/// Holds one document against both. Says whether it compiles.
fn agree(schema: &jsonschema::Validator, document: &Value) -> bool {
    let compiled = compile(&document.to_string(), MANIFESTS);
    let taken = schema.is_valid(document);
    match &compiled {
        Ok(_) => assert!(taken, "compiles, but the schema refuses {document}"),
        Err(error) if taken => {
            for fault in &error.details {
                let patterns_own = fault.pointer.contains("/config") || fault.pointer.contains("/with");
                let known = patterns_own || BEYOND_SCHEMA.iter().any(|words| fault.expected.contains(words));
                assert!(known, "the schema takes {document}, but: {fault}");
            }
        }
        Err(_) => {}
    }
    compiled.is_ok()
}

#[test]
fn the_documents_of_the_repository_are_right_for_both() {
    let schema = schema();
    for text in [DEFAULT, REPORTS, MINIMAL, QUEUE, STREAMS, CHAT, LIVE_JOBS, FULL] {
        assert!(agree(&schema, &serde_json::from_str(text).unwrap()), "{text}");
    }
}

/// The blocks of JSON in a document for people.
fn blocks(text: &str) -> Vec<Value> {
    let blocks = text.split("```json\n").skip(1);
    let json = blocks.filter_map(|block| block.split("```").next());
    json.map(|json| serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}")))
        .collect()
}

/// A block that is a whole composition stands by itself; one that is a section of it is tried in the one before.
#[test]
fn what_the_how_tos_show_of_a_composition_is_right() {
    let schema = schema();
    for text in HOW_TOS {
        let mut whole = Value::Null;
        for block in blocks(text) {
            if block.get("tidegate").is_some() {
                whole = block;
            } else if let Some(queue) = block.get("queue") {
                whole["queue"] = queue.clone();
            } else if let Some(policies) = block.get("policies") {
                whole["policies"] = policies.clone();
            } else {
                continue;
            }
            assert!(agree(&schema, &whole), "{whole}");
        }
        assert!(whole.is_object(), "no composition: {text}");
    }
}

#[test]
fn every_field_has_a_description() {
    fn walk(schema: &Value, path: &str) {
        for (name, field) in schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let path = std::format!("{path}/{name}");
            assert!(field.get("description").is_some(), "{path}");
            walk(field, &path);
        }
    }
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    walk(&schema, "");
    for (name, part) in schema["$defs"].as_object().unwrap() {
        assert!(part.get("description").is_some(), "{name}");
        walk(part, name);
    }
}

/// The pointers of every value inside `value`, its own first.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    let join = |at: &str, name: &str| std::format!("{at}/{}", escape_pointer(name));
    found.push(at.to_string());
    match value {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, value)| pointers(value, &join(at, name), found)),
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(index, item)| pointers(item, &join(at, &index.to_string()), found));
        }
        _ => {}
    }
}

#[derive(Debug, Clone)]
enum Mutation {
    Remove,
    Put(Value),
    Rename(String),
    Add(String, Value),
}

fn apply(document: &mut Value, place: usize, mutation: Mutation) {
    let mut places = Vec::new();
    pointers(document, "", &mut places);
    let pointer = places[place % places.len()].clone();
    let Some((parent, name)) = pointer.rsplit_once('/') else {
        return;
    };
    let name = name.replace("~1", "/").replace("~0", "~");
    match mutation {
        Mutation::Put(value) => *document.pointer_mut(&pointer).unwrap() = value,
        Mutation::Add(name, value) => {
            if let Some(Value::Object(fields)) = document.pointer_mut(&pointer) {
                fields.insert(name, value);
            }
        }
        Mutation::Remove | Mutation::Rename(_) => match (document.pointer_mut(parent), mutation) {
            (Some(Value::Object(fields)), Mutation::Rename(to)) => {
                let value = fields.remove(&name).unwrap();
                fields.insert(to, value);
            }
            (Some(Value::Object(fields)), _) => drop(fields.remove(&name)),
            (Some(Value::Array(items)), _) => drop(items.remove(name.parse().unwrap())),
            _ => {}
        },
    }
}

fn name() -> impl Strategy<Value = String> {
    let known: &'static [&'static str] = &[
        "run",
        "mode",
        "use",
        "config",
        "with",
        "timeout",
        "deadline",
        "lease",
        "retry",
        "attempts",
        "backoff",
        "initial",
        "cap",
        "factor",
        "increment",
        "unit",
        "power",
        "waits",
        "jitter",
        "percent",
        "queue_timeout",
        "total_timeout",
        "heartbeat_timeout",
        "cancel_grace",
        "on_disconnect",
        "disconnect_grace",
        "scopes",
        "retention",
        "dispatch",
        "description",
        "scale",
        "hubs",
        "shards",
        "core",
        "reports",
        "a",
        "",
        "A",
        "9",
        "a.b",
        "a b",
        "a/b",
        "é",
        "tidegate",
        "$schema",
        "patterns",
        "actions",
        "queue",
        "share",
        "weights",
        "limits",
        "key",
        "concurrency",
        "throttle",
        "units",
        "per",
        "burst",
        "cost",
        "when_full",
        "admission",
        "policies",
        "when",
        "effect",
        "require_scope",
        "allow",
        "deny",
        "claims.role == 'x'",
        "rate",
        "quota",
        "overrides",
        "exact",
        "shadow",
        "per-user",
        "priority",
        "waiting",
        "waiting_bytes",
        "idempotency",
        "ttl",
        "failed",
        "dedupe",
        "window",
        "wait",
        "max_wait",
        "schedules",
        "cron",
        "time_zone",
        "action",
        "payload",
        "metadata",
        "user",
        "overlap",
        "catch_up",
        "jitter",
        "paused",
        "schedule",
        "scheduled_for",
        "nightly",
        "revision",
        "webhooks",
        "preset",
        "verify",
        "secret",
        "header",
        "field",
        "item",
        "content",
        "separator",
    ];
    prop_oneof![
        prop::sample::select(known).prop_map(String::from),
        "[a-zA-Z0-9._ -]{0,130}"
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let scopes: Vec<String> = (0..33).map(|n| n.to_string()).collect();
    let known = json!([
        null, true, false, 0, 1, 2, -1, 1.5, 100, 101, 256, 257, 1024, 1025, 1e30, "", "1s", "0s", "5m", "2h", "7d", "400d",
        "1500ms", "s", "-1s", "1 s", "99999999999999999999s", "sync", "async", "auto", "direct", "queue", "constant",
        "exponential", "linear", "polynomial", "table", "none", "full", "equal", "plus_minus", 8, 9, 1.000_000_1, 12.1825,
        ["1s"], ["1s", 1], {"backoff": "table"}, {"backoff": "table", "waits": ["1s"]}, {"jitter": "plus_minus"},
        "core", "report", "core.echo", "core.delay", "core.guess", "reports.summarize", "core.x",
        "core.X", "a.b.c", ".", "Core.echo", [], {}, ["a"], ["a", "a"], ["a b"], ["é"], [""], [1], {"a": 1}, scopes,
        "x".repeat(128), "x".repeat(129), "x".repeat(1001), ["x".repeat(128)], ["x".repeat(129)], {"run": "core.echo"},
        {"use": "core"}, {"attempts": 1}, {"backoff": "constant", "cap": "1s"}, {"columns": 3},
        "é".repeat(1000), "é".repeat(1001), "1s\n", "core.echo\n",
    ]);
    let of_queues = json!([
        "high", "low", "wait", "refuse", "replace", "user", "payload.a.b", "payload[0]", "metadata", "*", "core.*",
        ["user", "action"], ["*", "a.*"], {"key": "user"}, {"concurrency": 5}, {"units": 5, "per": "1m"}, 1_000_000, 1_000_001,
        {"throttle": {"units": 5, "per": "1m"}, "cost": 3}, {"limits": {"a": {"concurrency": 1}}}, 100_000, 100_001
    ]);
    let of_requests = json!([
        {"rate": {"units": 5, "per": "1m"}}, {"quota": {"units": 5, "per": "1m"}}, {"units": 5, "per": "1d"}, {"units": 5},
        {"units": 5, "burst": 2}, {"ann": {"units": 5}}, {"ann": {"units": 5, "burst": 2}}, 1_000_000_000, 1_000_000_001,
        {"limits": {"a": {"quota": {"units": 5, "per": "1h"}, "cost": 6}}}, {"ann": {"units": 1_000_001}}
    ]);
    let of_keys = json!([
        "window", "until_ended", "replace_waiting", "keep_last", "keep", "free", "1h", "30d", {"ttl": "2h"}, {"failed": "free"},
        {"key": "user", "mode": "window"}, {"key": "user", "mode": "keep_last"}, {"mode": "until_ended"},
        {"key": "user", "mode": "replace_waiting", "wait": "1s"}, {"key": "user", "mode": "until_ended", "window": "1m"}
    ]);
    let of_schedules = json!([
        "0 3 * * *", "* * * * * *", "@hourly", "0 0 30 2 *", "0 3 * * é", "Europe/Berlin", "Europe/Atlantis", "b", "skip",
        "allow", "cancel_old", {"cron": "0 3 * * *", "action": "a"}, {"cron": "0 3 * * *"}, {"schedule": "x"},
        {"k": "v"}, {"": "v"}, "x".repeat(257), "u\u{7}", {"p": "x".repeat(33_000)}
    ]);
    let of_versions = json!(["accepted", "latest", {"run": "core.echo", "mode": "sync", "revision": "latest"}]);
    let of_webhooks = json!([
        "stripe", "github", "slack", "{body}", "{id}.{body}", "{timestamp}{body}", "{body", "hmac-sha512", "base64", ",", " ", "t=",
        "X-Sign", {"header": "X"}, {"field": "a.b"}, {"item": "t="}, {"field": "a..b"}, {"header": "X", "item": "t="},
        {"preset": "github", "action": "a", "secret": "s"}, {"action": "a", "secret": "s", "verify": {"header": "X"}}, ["a*"]
    ]);
    let of_browsers = json!([
        "https://a.example", "https://a.example/", "http://localhost:*", "https://a.example:*", "https://[::1]:1", "https://a:65536",
        "HTTPS://A", "x+y://a_b", {"origins": ["*"]}, {"origins": []}, {"origins": ["a"]}, ["null", "https://a:443", "https://b"]
    ]);
    let all = [
        known,
        of_queues,
        of_requests,
        of_keys,
        of_schedules,
        of_versions,
        of_webhooks,
        of_browsers,
    ];
    let all: Vec<Value> = all.iter().filter_map(Value::as_array).flatten().cloned().collect();
    prop::sample::select(all)
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        1 => Just(Mutation::Remove),
        4 => value().prop_map(Mutation::Put),
        1 => name().prop_map(Mutation::Rename),
        2 => (name(), value()).prop_map(|(name, value)| Mutation::Add(name, value)),
    ]
}

#[test]
fn a_mutated_document_is_right_for_both_or_wrong_for_both() {
    let schema = schema();
    let counts = [Cell::new(0_u32), Cell::new(0)];
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 4000,
        ..ProptestConfig::default()
    });
    let document = prop::sample::select(&[DEFAULT, REPORTS, MINIMAL, QUEUE, FULL, FULL, FULL][..]);
    let mutations = prop::collection::vec((any::<prop::sample::Index>(), mutation()), 1..4);
    let outcome = runner.run(&(document, mutations), |(text, mutations)| {
        let mut document: Value = serde_json::from_str(text).unwrap();
        for (place, mutation) in mutations {
            apply(&mut document, place.index(10_000), mutation);
        }
        let count = &counts[usize::from(agree(&schema, &document))];
        count.set(count.get() + 1);
        Ok(())
    });
    outcome.unwrap();
    assert!(
        counts.iter().all(|count| count.get() > 200),
        "a lopsided corpus: {counts:?}"
    );
}
