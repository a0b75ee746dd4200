//! The section `webhooks`: what it means, and every fault of it.

extern crate std;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::{Value, json};

use super::tests::MANIFESTS;
use super::{Plan, compile, webhook_secrets};
use crate::inbound::{Algorithm, Encoding, Part, Place, SecretForm, TOLERANCE_MS};

fn document(webhooks: &Value) -> String {
    let action = json!({ "run": "core.echo", "scopes": ["bills:write", "bills:read"] });
    json!({
        "tidegate": 1, "patterns": { "core": { "use": "core" } }, "actions": { "bill": action }, "webhooks": webhooks,
    })
    .to_string()
}

fn plan(webhooks: &Value) -> Plan {
    compile(&document(webhooks), MANIFESTS).unwrap_or_else(|error| panic!("{error:?}"))
}

/// The pointers of all faults, and what was expected there.
fn faults(webhooks: &Value) -> Vec<(String, String)> {
    let error = compile(&document(webhooks), MANIFESTS).unwrap_err();
    let faults = error.details.into_iter();
    faults
        .map(|fault| (fault.pointer, fault.expected.to_string()))
        .collect()
}

fn pointers(webhooks: &Value) -> Vec<String> {
    faults(webhooks).into_iter().map(|(pointer, _)| pointer).collect()
}

#[test]
fn a_preset_fills_in_everything_but_action_and_secret() {
    for preset in crate::inbound::PRESETS {
        let plan = plan(&json!({ "in": { "preset": preset, "action": "bill", "secret": "signing" } }));
        let (source, webhook) = plan.webhooks.iter().next().unwrap();
        assert_eq!((source.as_str(), webhook.user.as_str()), ("in", "webhook:in"));
        assert_eq!(webhook.tolerance_ms, TOLERANCE_MS);
        assert!(webhook.scopes.contains("bills:write") && webhook.scopes.len() == 2);
        assert!(webhook.wants(None) && webhook.wants(Some("x")));
        let secrets: Vec<_> = webhook_secrets(&plan)
            .map(|(at, name)| (at, name.to_string()))
            .collect();
        assert_eq!(secrets, [("/webhooks/in/secret".to_string(), "signing".to_string())]);
    }
}

#[test]
fn a_configuration_can_say_what_a_preset_says() {
    let own = plan(&json!({ "in": {
        "action": "bill", "secret": "s", "tolerance": "1m", "user": "shop", "events": ["orders/*"], "headers": ["X-Shop"],
        "verify": {
            "algorithm": "hmac-sha512", "header": "X-Sign", "encoding": "base64", "secret_encoding": "base64",
            "separator": ";", "prefix": "h1=", "content": "{timestamp}:{body}!", "timestamp": { "item": "ts=" },
            "id": { "field": "data.id" }, "type": { "header": "X-Topic" },
        },
    } }));
    let webhook = own.webhooks.values().next().unwrap();
    let scheme = &webhook.scheme;
    assert_eq!((webhook.user.as_str(), webhook.tolerance_ms), ("shop", 60_000));
    assert_eq!(webhook.headers, ["x-shop"]);
    assert_eq!(
        (scheme.algorithm, scheme.encoding, scheme.secret, scheme.separator),
        (Algorithm::HmacSha512, Encoding::Base64, SecretForm::Base64, Some(';'))
    );
    assert_eq!((&*scheme.header, &*scheme.prefix), ("x-sign", "h1="));
    assert_eq!(
        scheme.content,
        [
            Part::Timestamp,
            Part::Text(":".into()),
            Part::Body,
            Part::Text("!".into())
        ]
    );
    assert_eq!(scheme.timestamp, Some(Place::Item("ts=".into())));
    assert_eq!(scheme.id, Some(Place::Field(["data", "id"].map(Into::into).to_vec())));
    assert_eq!(scheme.kinds, [Place::Header("x-topic".into())]);
    // The preset of Stripe, word for word.
    let written = plan(&json!({ "in": { "action": "bill", "secret": "s", "verify": {
        "header": "Stripe-Signature", "separator": ",", "prefix": "v1=", "content": "{timestamp}.{body}",
        "timestamp": { "item": "t=" }, "id": { "field": "id" }, "type": { "field": "type" },
    } } }));
    let preset = plan(&json!({ "in": { "action": "bill", "secret": "s", "preset": "stripe" } }));
    assert_eq!(written.webhooks, preset.webhooks);
    // And of GitHub, but for its pings.
    let least = plan(&json!({ "in": { "action": "bill", "secret": "s", "verify": { "header": "x-sign" } } }));
    assert_eq!(least.webhooks.values().next().unwrap().scheme.content, [Part::Body]);
}

#[test]
fn all_faults_are_told_at_once_with_their_places() {
    assert_eq!(
        pointers(&json!({
            "Bad name": { "preset": "stripe", "action": "bill", "secret": "s" },
            "a": { "preset": "strip", "action": "bil", "secret": "S", "user": "", "tolerance": "1", "events": [], "more": 1 },
            "b": { "preset": "github", "verify": {}, "action": "bill", "secret": "s" },
            "c": { "action": "bill", "secret": "s" },
            "d": { "verify": { "algorithm": "md5", "encoding": "hexa", "content": "{bdy}", "timestamp": {}, "sepa": 1 } },
            "e": 7,
        })),
        [
            "/webhooks/Bad name",
            "/webhooks/a/action",
            "/webhooks/a/preset",
            "/webhooks/a/secret",
            "/webhooks/a/user",
            "/webhooks/a/tolerance",
            "/webhooks/a/events",
            "/webhooks/a/more",
            "/webhooks/b",
            "/webhooks/c",
            "/webhooks/d/action",
            "/webhooks/d/verify/header",
            "/webhooks/d/verify/algorithm",
            "/webhooks/d/verify/encoding",
            "/webhooks/d/verify/content",
            "/webhooks/d/verify/timestamp",
            "/webhooks/d/verify/sepa",
            "/webhooks/d/secret",
            "/webhooks/e",
        ]
    );
    let error = compile(
        &document(&json!({ "a": { "preset": "strip", "action": "bil", "secret": "s" } })),
        MANIFESTS,
    );
    let suggested: Vec<_> = error
        .unwrap_err()
        .details
        .into_iter()
        .map(|fault| fault.suggestion)
        .collect();
    assert_eq!(suggested, [Some("bill".to_string()), Some("stripe".to_string())]);
}

#[test]
fn what_is_not_signed_is_not_taken_for_signed() {
    let verify = |verify: Value| {
        let mut verify = verify;
        verify["header"] = json!("x");
        faults(&json!({ "a": { "action": "bill", "secret": "s", "verify": verify } }))
    };
    for (wrong, pointer, words) in [
        (
            json!({ "timestamp": { "header": "x" } }),
            "timestamp",
            "a `content` with `{timestamp}`",
        ),
        (json!({ "id": { "header": "x" } }), "id", "a `content` with `{id}`"),
        (json!({ "id": { "item": "i=" } }), "id", "a `content` with `{id}`"),
        (json!({ "content": "{id}.{body}" }), "id", "`{id}` of `content`"),
        (
            json!({ "content": "{id}{body}", "id": { "field": "id" } }),
            "id",
            "`{id}` of `content`",
        ),
        (
            json!({ "content": "{timestamp}.{body}" }),
            "timestamp",
            "`{timestamp}` of `content`",
        ),
        (json!({ "content": "{timestamp}" }), "content", "`{body}`"),
        (json!({ "content": "{body}{body}" }), "content", "`{body}`"),
        (json!({ "content": "{body" }), "content", "`{body}`"),
        (json!({ "content": "body}{body}" }), "content", "`{body}`"),
        (json!({ "content": "" }), "content", "`{body}`"),
        (
            json!({ "id": { "header": "x", "field": "y" }, "content": "{id}{body}" }),
            "id",
            "one of",
        ),
        (json!({ "timestamp": { "field": "x" } }), "timestamp", "one of"),
    ] {
        let found = verify(wrong.clone());
        let fits = |(at, expected): &(String, String)| {
            *at == std::format!("/webhooks/a/verify/{pointer}") && expected.contains(words)
        };
        assert!(found.iter().any(fits), "{wrong}: {found:?}");
    }
    let timeless = json!({ "a": { "preset": "github", "action": "bill", "secret": "s", "tolerance": "5m" } });
    assert_eq!(pointers(&timeless), ["/webhooks/a/tolerance"]);
}

#[test]
fn sources_lists_and_names_are_bounded() {
    let one = json!({ "preset": "github", "action": "bill", "secret": "s" });
    let many = |count: usize| {
        let sources = (0..count).map(|number| (std::format!("s{number}"), one.clone()));
        Value::Object(sources.collect())
    };
    assert_eq!(plan(&many(32)).webhooks.len(), 32);
    assert_eq!(faults(&many(33)).len(), 1);
    let with = |name: &str, value: Value| {
        let mut one = one.clone();
        one[name] = value;
        compile(&document(&json!({ "a": one })), MANIFESTS).is_ok()
    };
    assert!(with("events", json!(["*", "a b".replace(' ', "/"), "x".repeat(128)])));
    for bad in [
        json!(["a b"]),
        json!(["x".repeat(129)]),
        json!([""]),
        json!(["é"]),
        json!("a"),
        json!([1]),
    ] {
        assert!(!with("events", bad.clone()), "{bad}");
    }
    assert!(with("headers", json!(["X-A", "x_b"])));
    for bad in [
        json!(["X A"]),
        json!(["x".repeat(65)]),
        json!((0..17).map(|n| n.to_string()).collect::<Vec<_>>()),
        json!([""]),
    ] {
        assert!(!with("headers", bad.clone()), "{bad}");
    }
}
