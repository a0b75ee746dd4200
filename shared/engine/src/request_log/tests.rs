//! What lines say, and which are written.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Value, json};
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::access::Credential;
use tidegate_protocol::calls::network::Network;
use tidegate_protocol::frames::Mode;
use tidegate_protocol::ids::{ApiKeyId, RequestId, TenantId, UserId};
use tidegate_protocol::time::UnixMs;

use super::{Config, Record, Transport};
use tidegate_protocol::SortedSet;

fn request_id(text: &str) -> RequestId {
    RequestId::parse(text).unwrap()
}

fn principal() -> Principal {
    Principal {
        tenant: TenantId::parse("acme").unwrap(),
        user: UserId::parse("ann@example.com").unwrap(),
        scopes: SortedSet::new(),
        expires_at: Principal::NEVER,
        credential: Credential::Key {
            id: ApiKeyId::parse("key_1").unwrap(),
            created_at: UnixMs(0),
        },
        network: Network::of("203.0.113.7"),
    }
}

fn record<'a>(request_id: &'a RequestId, tenant: &'a TenantId) -> Record<'a> {
    Record {
        at: UnixMs(1_795_244_400_000),
        request_id,
        tenant: Some(tenant),
        who: None,
        transport: Transport::Http,
        method: "POST",
        route: "/v1/requests",
        action: Some("core.echo"),
        mode: None,
        status: 200,
        code: None,
        message: None,
        duration_ms: 7,
        bytes_in: None,
        bytes_out: None,
        job: None,
        body: None,
        connection: None,
    }
}

#[test]
fn a_line_says_who_asked_for_what_and_what_came_of_it() {
    let config =
        r#"{"rules":[{"rate":1}],"network":true,"payload":"redacted","redact":{"emails":true,"keys":["iban"]}}"#;
    let config = Config::parse(config).unwrap();
    let (id, principal) = (request_id("req_1"), principal());
    let record = Record {
        who: Some(&principal),
        mode: Some(Mode::Async),
        status: 422,
        code: Some("VALIDATION_ERROR"),
        message: Some(Cow::Owned("password=hunter2 is no\nnumber".into())),
        bytes_in: Some(90),
        bytes_out: Some(120),
        body: Some("{\"action\":\"a\",\n \"payload\":{\"iban\":\"DE1\",\"n\":1}}"),
        ..record(&id, &principal.tenant)
    };
    let line = config.line(&record).unwrap();
    assert!(!line.contains('\n'), "{line}");
    let line: Value = serde_json::from_str(&line).unwrap();
    let expected = json!({
        "timestamp": "2026-11-21T07:00:00.000Z", "severity": "WARN", "event.name": "tidegate.request",
        "request_id": "req_1", "network.protocol.name": "http", "http.request.method": "POST",
        "http.route": "/v1/requests", "http.response.status_code": 422, "duration_ms": 7, "tenant": "acme",
        "user.id": "[redacted]", "credential.kind": "api_key", "credential.key_id": "key_1",
        "client.address": "203.0.113.7", "action": "core.echo", "mode": "async", "error.type": "VALIDATION_ERROR",
        "error.message": "password=[redacted] is no\nnumber", "http.request.body.size": 90,
        "http.response.body.size": 120, "request": { "action": "a", "payload": { "iban": "[redacted]", "n": 1 } },
        "sampled_by": "rules/0", "sample_rate": 1,
    });
    assert_eq!(line, expected);
}

#[test]
fn neither_payload_nor_network_is_shown_unless_that_is_asked_for() {
    let config = Config::parse("all").unwrap();
    let (id, principal) = (request_id("req_1"), principal());
    let record = Record {
        who: Some(&principal),
        body: Some("{\"payload\":1}"),
        ..record(&id, &principal.tenant)
    };
    let line: Value = serde_json::from_str(&config.line(&record).unwrap()).unwrap();
    assert_eq!(
        (&line["request"], &line["client.address"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(line["user.id"], "ann@example.com");
    assert_eq!(line["sampled_by"], "all");
}

#[test]
fn a_payload_that_is_too_long_is_cut_behind_its_redaction() {
    let config = Config::parse(r#"{"rules":[],"payload":"redacted"}"#).unwrap();
    let (id, tenant) = (request_id("req_1"), TenantId::parse("acme").unwrap());
    let body = format!("{{\"payload\":\"{}\",\"token\":\"abc123456\"}}", "ä".repeat(10_000));
    for body in [body.as_str(), "no json, token=abc123456"] {
        let record = Record {
            body: Some(body),
            ..record(&id, &tenant)
        };
        let line: Value = serde_json::from_str(&config.line(&record).unwrap()).unwrap();
        let cut = line["request.cut"].as_str().unwrap();
        assert!(
            cut.len() <= super::PAYLOAD_BYTES_MAX && !cut.contains("abc123456"),
            "{cut}"
        );
        assert_eq!(line["sampled_by"], "unnamed");
    }
}

#[test]
fn the_first_rule_that_means_a_request_decides() {
    let config = r#"{"rules":[
        {"name":"limits","status":429,"rate":0},
        {"name":"codes","code":["TIMEOUT","CIRCUIT_OPEN"],"rate":1},
        {"name":"mine","tenant":"acme","action":"core.*","status":["2xx"],"slower_than":"100ms","rate":1},
        {"name":"jobs","route":"/v1/jobs*","rate":1},
        {"rate":0}
    ]}"#;
    let config = Config::parse(config).unwrap();
    let (id, acme, other) = (
        request_id("req_1"),
        TenantId::parse("acme").unwrap(),
        TenantId::parse("b").unwrap(),
    );
    let base = record(&id, &acme);
    let slow = Record {
        duration_ms: 101,
        ..base.clone()
    };
    for (record, by) in [
        (
            Record {
                status: 429,
                code: Some("TIMEOUT"),
                ..base.clone()
            },
            None,
        ),
        (
            Record {
                status: 504,
                code: Some("TIMEOUT"),
                ..base.clone()
            },
            Some("codes"),
        ),
        (
            Record {
                duration_ms: 100,
                ..base.clone()
            },
            None,
        ),
        (slow.clone(), Some("mine")),
        (
            Record {
                tenant: Some(&other),
                ..slow.clone()
            },
            None,
        ),
        (
            Record {
                tenant: None,
                ..slow.clone()
            },
            None,
        ),
        (
            Record {
                action: Some("report.x"),
                ..slow.clone()
            },
            None,
        ),
        (
            Record {
                action: Some("not an action"),
                ..slow.clone()
            },
            None,
        ),
        (
            Record {
                status: 302,
                ..slow.clone()
            },
            None,
        ),
        (
            Record {
                route: "/v1/jobs/{id}",
                ..base.clone()
            },
            Some("jobs"),
        ),
        (
            Record {
                route: "/v1/job",
                ..base
            },
            None,
        ),
    ] {
        assert_eq!(config.sample(&record).map(|(name, _)| name), by, "{record:?}");
    }
}

#[test]
fn a_part_of_the_requests_is_written_and_each_always_or_never() {
    let config = Config::parse(r#"{"rules":[{"rate":0.1}]}"#).unwrap();
    let tenant = TenantId::parse("acme").unwrap();
    let is_written = |n: u64| {
        let id = RequestId::generate(
            UnixMs(1_795_244_400_000 + n / 50),
            n.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        );
        let [once, again] = [0, 1].map(|_| config.sample(&record(&id, &tenant)).is_some());
        assert_eq!(once, again);
        once
    };
    let written = (0..20_000).filter(|n| is_written(*n)).count();
    assert!((1_800..2_200).contains(&written), "{written}");
    // Ids that clients count up.
    let counted = (0..20_000).filter(|n| {
        let id = request_id(&format!("order-{n}"));
        config.sample(&record(&id, &tenant)).is_some()
    });
    let counted = counted.count();
    assert!((1_600..2_400).contains(&counted), "{counted}");
}

#[test]
fn without_a_configuration_failures_and_slow_ones_are_written_and_little_else() {
    let config = Config::default();
    let (id, tenant) = (request_id("req_1"), TenantId::parse("acme").unwrap());
    let rate = |status, duration_ms| {
        let rule = config.rule(&Record {
            status,
            duration_ms,
            ..record(&id, &tenant)
        });
        (String::from(rule.0), rule.1)
    };
    assert_eq!(rate(500, 1), ("failed".into(), 1.0));
    assert_eq!(rate(404, 1), ("failed".into(), 1.0));
    assert_eq!(rate(429, 60_000), ("limited".into(), 0.01));
    assert_eq!(rate(200, 5_001), ("slow".into(), 1.0));
    assert_eq!(rate(200, 5_000), ("rest".into(), 0.01));
}

#[test]
fn every_fault_of_a_configuration_is_named_with_what_was_meant() {
    let config = r#"{"rule":[],"rules":[
        {"rate":2,"status":"6xx","code":"TIMEOUTS","action":"a b","tenant":"A","route":"jobs","slower_than":5,"name":""},
        {"status":[200,"x"],"rates":1},
        7
    ],"payload":"all","network":1,"redact":{"keys":[1],"email":true}}"#;
    let error = Config::parse(config).unwrap_err();
    let mut pointers: Vec<&str> = error.details.iter().map(|fault| fault.pointer.as_str()).collect();
    pointers.sort_unstable();
    assert_eq!(
        pointers,
        [
            "/network",
            "/payload",
            "/redact/email",
            "/redact/keys",
            "/rule",
            "/rules/0/action",
            "/rules/0/code",
            "/rules/0/name",
            "/rules/0/rate",
            "/rules/0/route",
            "/rules/0/slower_than",
            "/rules/0/status",
            "/rules/0/tenant",
            "/rules/1/rate",
            "/rules/1/rates",
            "/rules/1/status",
            "/rules/2",
        ]
    );
    let meant = |pointer: &str| {
        error
            .details
            .iter()
            .find(|fault| fault.pointer == pointer)
            .unwrap()
            .suggestion
            .clone()
    };
    assert_eq!(meant("/rules/0/code").as_deref(), Some("TIMEOUT"));
    assert_eq!(meant("/rule").as_deref(), Some("rules"));
    assert_eq!(meant("/rules/1/rates").as_deref(), Some("rate"));
    assert_eq!(meant("/redact/email").as_deref(), Some("emails"));
    for text in ["", "on", "[]", "{}", "{"] {
        assert!(!Config::parse(text).unwrap_err().details.is_empty(), "{text}");
    }
}

#[test]
fn what_writes_nothing_is_off() {
    for (config, is_off) in [
        ("off", true),
        (" off ", true),
        (r#"{"rules":[{"rate":0}]}"#, true),
        ("all", false),
        (r#"{"rules":[{"rate":0,"status":200}]}"#, false),
        (r#"{"rules":[]}"#, false),
    ] {
        assert_eq!(Config::parse(config).unwrap().is_off(), is_off, "{config}");
    }
    assert!(!Config::default().is_off());
}
