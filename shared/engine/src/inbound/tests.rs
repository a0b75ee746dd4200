//! What is read of a webhook, what is believed, and which job it asks for.

extern crate std;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::{ActionName, SecretName, UserId, WebhookSource};
use tidegate_protocol::time::UnixMs;

use super::*;

type Headers<'a> = &'a [(&'a str, &'a str)];

fn scheme(preset: &str) -> Scheme {
    crate::composition::webhook_preset(preset).unwrap()
}

fn look<'a>(headers: Headers<'a>) -> impl Fn(&str) -> Option<String> + 'a {
    move |name| {
        let mut found = headers.iter().filter(|(known, _)| *known == name);
        found.next().map(|(_, value)| (*value).to_string())
    }
}

fn read(preset: &str, headers: Headers<'_>) -> Result<Signed, Unsigned> {
    signed(&scheme(preset), look(headers))
}

fn webhook(preset: &str) -> Webhook {
    Webhook {
        action: ActionName::parse("bill").unwrap(),
        scopes: SortedSet::new(),
        user: UserId::parse("webhook:in").unwrap(),
        secret: SecretName::parse("signing").unwrap(),
        scheme: scheme(preset),
        tolerance_ms: TOLERANCE_MS,
        events: Vec::new(),
        headers: Vec::new(),
    }
}

const NOW: UnixMs = UnixMs(1_800_000_000_000);

fn taken(webhook: &Webhook, signed: &Signed, headers: Headers<'_>, body: &str) -> Taken {
    let source = WebhookSource::parse("in").unwrap();
    let came = Came {
        source: &source,
        tag: "tag",
        signed,
        body: body.as_bytes(),
        now: NOW,
    };
    take(webhook, came, look(headers)).unwrap()
}

fn request(webhook: &Webhook, signed: &Signed, headers: Headers<'_>, body: &str) -> (String, Value) {
    match taken(webhook, signed, headers, body) {
        Taken::Request { key, body } => (key, serde_json::from_str(&body).unwrap()),
        other => panic!("{other:?}"),
    }
}

fn just(id: Option<&str>) -> Signed {
    Signed {
        signatures: Vec::new(),
        id: id.map(String::from),
        timestamp: None,
    }
}

/// The examples of those who send: what they sign, as their documentation writes it down.
#[test]
fn what_is_signed_is_what_each_sender_says() {
    for (preset, headers, body, content, signatures) in [
        (
            "standard",
            &[
                ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
                ("webhook-timestamp", "1614265330"),
                (
                    "webhook-signature",
                    "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= v1a,x v1,second=",
                ),
            ][..],
            "{\"test\": 2432232314}",
            "msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\"test\": 2432232314}",
            &["g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "second="][..],
        ),
        (
            "svix",
            &[
                ("svix-id", "msg_1"),
                ("svix-timestamp", "1"),
                ("svix-signature", "v1,a="),
            ],
            "b",
            "msg_1.1.b",
            &["a="],
        ),
        (
            "stripe",
            &[("stripe-signature", "t=1492774577,v1=5257a869,v1=aa,v0=6ffbb59b")],
            "{}",
            "1492774577.{}",
            &["5257a869", "aa"],
        ),
        (
            "github",
            &[("x-hub-signature-256", "sha256=7571")],
            "Hello, World!",
            "Hello, World!",
            &["7571"],
        ),
        (
            "slack",
            &[
                ("x-slack-signature", "v0=a2114d57"),
                ("x-slack-request-timestamp", "1531420618"),
            ],
            "token=xyzz0",
            "v0:1531420618:token=xyzz0",
            &["a2114d57"],
        ),
    ] {
        let signed = read(preset, headers).unwrap();
        assert_eq!(signed.signatures, signatures, "{preset}");
        let scheme = scheme(preset);
        let parts = content_of(&scheme, &signed, body.as_bytes());
        assert_eq!(String::from_utf8(parts.concat()).unwrap(), content, "{preset}");
    }
}

#[test]
fn what_is_missing_is_named() {
    for (preset, headers, expected) in [
        ("github", &[][..], Unsigned::NoSignature),
        ("github", &[("x-hub-signature-256", "sha1=aa")], Unsigned::NoSignature),
        ("github", &[("x-hub-signature-256", "sha256=")], Unsigned::NoSignature),
        ("github", &[("x-hub-signature", "sha1=aa")], Unsigned::NoSignature),
        ("stripe", &[("stripe-signature", "t=1,v0=a")], Unsigned::NoSignature),
        ("stripe", &[("stripe-signature", "v1=a")], Unsigned::NoTimestamp),
        ("stripe", &[("stripe-signature", "t=,v1=a")], Unsigned::NoTimestamp),
        ("stripe", &[("stripe-signature", "t=1e9,v1=a")], Unsigned::NoTimestamp),
        ("stripe", &[("stripe-signature", "t=+1,v1=a")], Unsigned::NoTimestamp),
        ("stripe", &[("stripe-signature", "t=-1,v1=a")], Unsigned::NoTimestamp),
        (
            "stripe",
            &[("stripe-signature", "t=999999999999,v1=a")],
            Unsigned::NoTimestamp,
        ),
        (
            "svix",
            &[("svix-signature", "v1,a"), ("svix-timestamp", "1")],
            Unsigned::NoId,
        ),
        (
            "svix",
            &[("svix-signature", "v1,a"), ("svix-id", "m")],
            Unsigned::NoTimestamp,
        ),
        (
            "svix",
            &[("svix-signature", "v1,a"), ("svix-timestamp", "1"), ("svix-id", "")],
            Unsigned::NoId,
        ),
    ] {
        assert_eq!(read(preset, headers), Err(expected), "{preset} {headers:?}");
    }
    let long = format!("sha256={}", "a".repeat(5000));
    assert_eq!(
        read("github", &[("x-hub-signature-256", &long)]),
        Err(Unsigned::NoSignature)
    );
    let many = format!("t=1{}", ",v1=a".repeat(100));
    assert_eq!(
        read("stripe", &[("stripe-signature", &many)]).unwrap().signatures.len(),
        8
    );
}

#[test]
fn a_time_too_far_from_now_is_refused_both_ways() {
    let at = |seconds: u64| Signed {
        timestamp: Some(seconds.to_string()),
        ..just(None)
    };
    let now = NOW.0 / 1000;
    for (seconds, expected) in [
        (now, Ok(())),
        (now - 300, Ok(())),
        (now - 301, Err(Unsigned::TooOld)),
        (now + 300, Ok(())),
        (now + 301, Err(Unsigned::TooNew)),
        (0, Err(Unsigned::TooOld)),
        (99_999_999_999, Err(Unsigned::TooNew)),
    ] {
        assert_eq!(at(seconds).is_of_now(NOW, TOLERANCE_MS), expected, "{seconds}");
    }
    assert_eq!(just(None).is_of_now(NOW, TOLERANCE_MS), Ok(()), "GitHub signs none");
}

#[test]
fn one_event_has_one_key_whatever_else_of_it_changes() {
    let stripe = webhook("stripe");
    let key = |webhook: &Webhook, signed: &Signed, body: &str| request(webhook, signed, &[], body).0;
    let first = key(&stripe, &just(None), r#"{"id":"evt_1","pending_webhooks":1}"#);
    assert!(first.starts_with("webhook:in:") && first.len() <= 128, "{first}");
    assert_eq!(
        first,
        key(&stripe, &just(None), r#"{"pending_webhooks":0, "id":"evt_1"}"#)
    );
    assert_ne!(
        first,
        key(&stripe, &just(None), r#"{"id":"evt_2","pending_webhooks":1}"#)
    );
    assert_ne!(first, key(&stripe, &just(None), r#"{"object":{"id":"evt_1"}}"#));
    // A signed id in a header.
    let standard = webhook("standard");
    assert_eq!(
        key(&standard, &just(Some("m")), "{}"),
        key(&standard, &just(Some("m")), "[]")
    );
    assert_ne!(
        key(&standard, &just(Some("m")), "{}"),
        key(&standard, &just(Some("n")), "{}")
    );
    // Nothing but the body is signed: another delivery's id, which anybody could say, is no other event.
    let github = webhook("github");
    let of = |delivery: &str, body: &str| request(&github, &just(None), &[("x-github-delivery", delivery)], body).0;
    assert_eq!(of("1", "{}"), of("2", "{}"));
    assert_ne!(of("1", "{}"), of("1", "{ }"));
    // An id is never taken for a body.
    assert_ne!(key(&standard, &just(Some("x")), "x"), key(&github, &just(None), "x"));
}

#[test]
fn the_job_is_given_the_body_as_it_is_and_what_was_asked_for() {
    let mut github = webhook("github");
    github.headers = ["x-github-delivery", "x-not-there"].map(String::from).to_vec();
    let headers = [
        ("x-github-event", "push"),
        ("x-github-delivery", "7\"2"),
        ("x-secret", "no"),
    ];
    let body = "{\"a\": 1.50, \"b\":\n[\"é\"]}";
    let Taken::Request { body: written, .. } = taken(&github, &just(None), &headers, body) else {
        panic!("ignored")
    };
    assert!(written.contains(body), "not rebuilt: {written}");
    let asked: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(
        asked,
        json!({ "action": "bill", "mode": "async", "payload": {
            "source": "in", "type": "push", "received_at": NOW.to_string(),
            "headers": { "x-github-delivery": "7\"2" }, "body": { "a": 1.5, "b": ["é"] },
        } })
    );
    // What is no JSON is a text: a form, as Slack sends it.
    let (_, asked) = request(&webhook("slack"), &just(None), &[], "command=%2Fgo&text=\"x\"");
    assert_eq!(asked["payload"]["body"], "command=%2Fgo&text=\"x\"");
    let (_, asked) = request(&webhook("slack"), &just(None), &[], "");
    assert_eq!(asked["payload"]["body"], "");
    let (_, asked) = request(&webhook("stripe"), &just(None), &[], r#"{"id":7,"type":null}"#);
    assert_eq!(
        (&asked["payload"]["id"], &asked["payload"]["type"]),
        (&json!("7"), &Value::Null)
    );
}

#[test]
fn only_what_is_asked_for_becomes_a_job() {
    let mut stripe = webhook("stripe");
    let is_job = |webhook: &Webhook, headers: Headers<'_>, body: &str| {
        matches!(taken(webhook, &just(None), headers, body), Taken::Request { .. })
    };
    assert!(is_job(&stripe, &[], "{}"));
    stripe.events = ["invoice.*", "charge.failed"].map(String::from).to_vec();
    for (body, expected) in [
        (r#"{"type":"invoice.paid"}"#, true),
        (r#"{"type":"invoice."}"#, true),
        (r#"{"type":"invoice"}"#, false),
        (r#"{"type":"charge.failed"}"#, true),
        (r#"{"type":"charge.failed.x"}"#, false),
        (r#"{"type":["invoice.paid"]}"#, false),
        ("{}", false),
        ("invoice.paid", false),
    ] {
        assert_eq!(is_job(&stripe, &[], body), expected, "{body}");
    }
    // A ping tries the address, and is a job where it is asked for by name.
    let mut github = webhook("github");
    assert!(!is_job(&github, &[("x-github-event", "ping")], "{}"));
    assert!(is_job(&github, &[("x-github-event", "push")], "{}"));
    github.events = alloc::vec!["p*".into()];
    assert!(is_job(&github, &[("x-github-event", "ping")], "{}"));
    // Slack's question about the address.
    let slack = webhook("slack");
    let question = r#"{"type":"url_verification","challenge":"3eZbrw1a"}"#;
    assert_eq!(
        taken(&slack, &just(None), &[], question),
        Taken::Challenge(JsonText::parse(r#"{"challenge":"3eZbrw1a"}"#).unwrap())
    );
    assert!(is_job(&stripe, &[], r#"{"type":"invoice.url_verification"}"#));
    let event = r#"{"type":"event_callback","event":{"type":"app_mention"},"event_id":"Ev1"}"#;
    let (_, asked) = request(&slack, &just(None), &[], event);
    assert_eq!(
        (&asked["payload"]["type"], &asked["payload"]["id"]),
        (&json!("app_mention"), &json!("Ev1"))
    );
}

#[test]
fn a_body_that_cannot_be_passed_on_is_told_so() {
    let source = WebhookSource::parse("in").unwrap();
    let (github, signed) = (webhook("github"), just(None));
    let try_take = |body: &[u8]| {
        let came = Came {
            source: &source,
            tag: "t",
            signed: &signed,
            body,
            now: NOW,
        };
        take(&github, came, |_| None).map(drop)
    };
    assert!(try_take(&[0xff]).unwrap_err().message.contains("UTF-8"));
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    try_take(nested(62).as_bytes()).unwrap();
    assert_eq!(try_take(nested(63).as_bytes()).unwrap_err().details.len(), 1);
    try_take("[".repeat(100).as_bytes()).unwrap();
}

proptest! {
    #[test]
    fn a_pattern_means_what_its_stars_can_stand_for(parts in prop::collection::vec("[ab.]{0,3}", 1..5), text in "[ab.]{0,8}") {
        let pattern = parts.join("*");
        // By trying every place, as the definition says.
        fn means(parts: &[String], text: &str) -> bool {
            match parts {
                [] => false,
                [last] => text == last,
                [first, rest @ ..] => text.strip_prefix(first.as_str()).is_some_and(|left| {
                    (0..=left.len()).any(|at| left.get(at..).is_some_and(|left| means(rest, left)))
                }),
            }
        }
        prop_assert_eq!(fits(&pattern, &text), means(&parts, &text), "{} {}", pattern, text);
    }

    #[test]
    fn whatever_comes_is_a_request_that_says_it(text in ".{0,200}", kind in ".{0,20}") {
        let github = Webhook { headers: alloc::vec!["x-github-event".into()], ..webhook("github") };
        let headers = [("x-github-event", kind.as_str())];
        if let Taken::Request { body, .. } = taken(&github, &just(None), &headers, &text) {
            let asked: Value = serde_json::from_str(&body).unwrap();
            let body = &asked["payload"]["body"];
            let same = serde_json::from_str::<Value>(&text).map_or(body == &Value::from(text.as_str()), |json| *body == json);
            prop_assert!(same, "{}", body);
            prop_assert_eq!(&asked["payload"]["headers"]["x-github-event"], &Value::from(kind.as_str()));
        }
    }
}
