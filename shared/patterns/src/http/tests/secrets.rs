//! Where secrets may stand, and that their values stand nowhere else.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::pin::pin;
use core::task::{Poll, Waker};

use serde_json::json;
use tidegate_engine::composition::compile;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::{ActionName, SecretName, UserId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::super::{referred, run};
use super::config;
use crate::operation::{Context, Done, Incoming, Invocation, Outgoing, SecretValue};
use crate::testing::stores_nothing;

/// An outside with these secrets, whose upstream repeats in a refusal what it was sent.
struct World {
    secrets: Vec<(&'static str, String)>,
    status: u16,
    asked: RefCell<Vec<Vec<String>>>,
    sent: RefCell<Vec<Outgoing>>,
}

impl Context for World {
    stores_nothing!();
    fn now(&self) -> UnixMs {
        UnixMs(1_000_000)
    }
    async fn sleep(&self, _: u64) {}
    async fn fetch(&self, request: Outgoing) -> Result<Incoming, Error> {
        let body = match self.status {
            204 => String::new(),
            299 => serde_json::to_string(&request.headers).unwrap(),
            _ => format!("{:?}", request.headers),
        };
        self.sent.borrow_mut().push(request);
        Ok(Incoming {
            status: self.status,
            content_type: Some("application/json".into()),
            retry_after: Some("Bearer hunter2-hunter2".into()),
            body: Some(body.into_bytes()),
        })
    }
    async fn secrets(&self, names: &[SecretName]) -> Result<Vec<Rc<SecretValue>>, Error> {
        self.asked
            .borrow_mut()
            .push(names.iter().map(ToString::to_string).collect());
        let value = |name: &SecretName| {
            let found = self.secrets.iter().find(|(known, _)| *known == name.as_str());
            let found = found.map(|(_, value)| Rc::new(SecretValue::new(value.clone())));
            found.ok_or_else(|| Error::secret_unusable(name, "is not set"))
        };
        names.iter().map(value).collect()
    }
}

fn world(secrets: &[(&'static str, &str)], status: u16) -> World {
    World {
        secrets: secrets
            .iter()
            .map(|(name, value)| (*name, (*value).to_string()))
            .collect(),
        status,
        asked: RefCell::default(),
        sent: RefCell::default(),
    }
}

fn call(world: &World, headers: &serde_json::Value, payload: &serde_json::Value) -> Result<JsonText, Error> {
    let upstream = json!({ "base_url": "https://api.example.com", "headers": headers });
    let settings = json!({ "upstream": "main", "method": "GET", "accepts": { "headers": ["x-mine"], "query": ["q"] } });
    let text = |value: &serde_json::Value| JsonText::parse(&value.to_string()).unwrap();
    let invocation = Invocation {
        pattern: "http".into(),
        operation: "call".into(),
        instance: "up".into(),
        action: ActionName::parse("a").unwrap(),
        config: text(&json!({ "upstreams": { "main": upstream } })),
        settings: text(&settings),
        payload: text(payload),
        user: UserId::parse("u").unwrap(),
        attempt: 1,
        effect_key: None,
        traceparent: None,
        timeout_ms: 5_000,
        job: None,
    };
    let mut future = pin!(run(world, &invocation));
    let Poll::Ready(done) = future
        .as_mut()
        .poll(&mut core::task::Context::from_waker(Waker::noop()))
    else {
        panic!("it waits for nothing here")
    };
    match done? {
        Done::Result(result) => Ok(result),
        other => panic!("{other:?}"),
    }
}

fn sent(world: &World, name: &str) -> Option<String> {
    let sent = world.sent.borrow();
    let headers = &sent.first()?.headers;
    headers
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.clone())
}

#[test]
fn a_configured_header_is_filled_in_and_one_of_a_payload_is_not() {
    let world = world(&[("bank", "hunter2"), ("b", "$&${secret:bank}")], 204);
    let headers = json!({
        "Authorization": "Bearer ${secret:bank}",
        "x-both": "${secret:bank}:${secret:b}",
        "x-plain": "$1 ${x} $${",
    });
    let payload = json!({ "headers": { "x-mine": "${secret:bank}" }, "query": { "q": "${secret:bank}" } });
    call(&world, &headers, &payload).unwrap();
    assert_eq!(sent(&world, "authorization").as_deref(), Some("Bearer hunter2"));
    // What a secret holds is not read for references.
    assert_eq!(sent(&world, "x-both").as_deref(), Some("hunter2:$&${secret:bank}"));
    assert_eq!(sent(&world, "x-plain").as_deref(), Some("$1 ${x} $${"));
    assert_eq!(sent(&world, "x-mine").as_deref(), Some("${secret:bank}"));
    assert!(!world.sent.borrow()[0].url.contains("hunter2"));
    // Each is asked for once, and nobody is asked where nothing refers.
    assert_eq!(*world.asked.borrow(), [vec!["bank".to_string(), "b".into()]]);
    let plain = self::world(&[], 204);
    call(&plain, &json!({ "x-a": "b" }), &payload).unwrap();
    assert_eq!(plain.asked.borrow().len(), 0);
}

#[test]
fn an_attempt_without_its_secret_fails_and_sends_nothing() {
    let long = "x".repeat(4_090);
    for (value, words) in [
        (None, "is not set"),
        (Some("hunter2\n"), "cannot stand in a header"),
        (Some("hunter2é"), "cannot stand in a header"),
        (Some(long.as_str()), "cannot stand in a header"),
    ] {
        let known: Vec<(&'static str, &str)> = value.map(|value| ("bank", value)).into_iter().collect();
        let world = world(&known, 200);
        let error = call(&world, &json!({ "authorization": "Bearer ${secret:bank}" }), &json!({})).unwrap_err();
        assert_eq!((error.code, error.retryable), (ErrorCode::SecretUnusable, false));
        assert!(
            error.message.contains("`bank`") && error.message.contains(words),
            "{error}"
        );
        assert!(
            !error.to_string().contains("hunter2") && !error.to_string().contains("xxxx"),
            "{error}"
        );
        assert_eq!(world.sent.borrow().len(), 0);
    }
}

#[test]
fn an_upstream_that_repeats_a_secret_does_not_get_it_into_an_error() {
    for status in [301, 400, 401, 404, 418, 429, 500, 503] {
        let world = world(&[("bank", "hunter2-hunter2")], status);
        let error = call(&world, &json!({ "authorization": "Bearer ${secret:bank}" }), &json!({})).unwrap_err();
        assert_eq!(error.code, ErrorCode::UpstreamError);
        let whole = format!("{error:?} {error} {}", serde_json::to_string(&error).unwrap());
        assert!(!whole.contains("hunter2"), "{whole}");
    }
    // An answer that is no JSON although it says so is not repeated either.
    let world = world(&[("bank", "hunter2-hunter2")], 200);
    let error = call(&world, &json!({ "authorization": "Bearer ${secret:bank}" }), &json!({})).unwrap_err();
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    let value = SecretValue::new("hunter2".into());
    assert_eq!(format!("{value:?}"), "SecretValue(…)");
}

#[test]
fn an_upstream_that_repeats_a_secret_does_not_get_it_into_a_result() {
    for (value, repeated) in [
        ("hunter2-hunter2", false),
        (r#"hunter2 "quoted" \ it"#, false),
        ("hunter2", true),
    ] {
        let world = world(&[("bank", value)], 299);
        let result = call(&world, &json!({ "authorization": "Bearer ${secret:bank}" }), &json!({})).unwrap();
        assert_eq!(sent(&world, "authorization"), Some(format!("Bearer {value}")));
        assert_eq!(result.as_str().contains("hunter2"), repeated, "{}", result.as_str());
        assert_eq!(
            result.as_str().contains("Bearer [secret]"),
            !repeated,
            "{}",
            result.as_str()
        );
    }
}

#[test]
fn a_broken_reference_is_a_fault_of_the_composition() {
    for (value, faults) in [
        ("${secret:bank}", 0),
        ("a${secret:b_1-x}b${secret:c}", 0),
        ("${secre:bank}", 0),
        ("$secret:bank", 0),
        ("${secret:", 1),
        ("${secret:}", 1),
        ("${secret:Bank}", 1),
        ("${secret:a b}", 1),
        ("${secret:${secret:a}}", 1),
        ("${secret:a}${secret:b", 1),
    ] {
        let upstream = json!({ "base_url": "https://api.example.com", "headers": { "x": value } });
        let (_, found) = config(&upstream);
        assert_eq!(found.len(), faults, "{value} {found:?}");
        assert!(found.iter().all(|fault| fault.pointer == "/upstreams/main/headers/x"));
        assert!(
            found
                .iter()
                .all(|fault| fault.expected.starts_with("references to secrets") && fault.got == "another one")
        );
    }
}

#[test]
fn a_composition_says_which_secrets_it_refers_to_and_where() {
    let upstream = |headers: serde_json::Value| json!({ "base_url": "https://a.example", "headers": headers });
    let document = json!({
        "tidegate": 1,
        "patterns": {
            "core": { "use": "core" },
            "one": { "use": "http", "config": { "upstreams": {
                "main": upstream(json!({ "Authorization": "Bearer ${secret:bank}", "x": "plain" })),
                "other": upstream(json!({ "x-a": "${secret:a}${secret:bank}" })),
            } } },
        },
        "actions": { "call": { "run": "one.call", "with": { "upstream": "main", "method": "GET" } } },
    });
    let plan = compile(&document.to_string(), crate::MANIFESTS).unwrap();
    let found: Vec<(String, String)> = referred(&plan)
        .into_iter()
        .map(|(at, of)| (at, of.to_string()))
        .collect();
    let found: Vec<(&str, &str)> = found.iter().map(|(at, of)| (at.as_str(), of.as_str())).collect();
    assert_eq!(
        found,
        [
            ("/patterns/one/config/upstreams/main/headers/Authorization", "bank"),
            ("/patterns/one/config/upstreams/other/headers/x-a", "a"),
            ("/patterns/one/config/upstreams/other/headers/x-a", "bank"),
        ]
    );
    for (at, _) in found {
        assert!(document.pointer(at).is_some(), "{at}");
    }
}
