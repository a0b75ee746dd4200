//! What is read of a webhook's headers and body, by every preset; and that what is taken is a request.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_engine::composition::{compile, webhook_preset};
use tidegate_engine::inbound::{Came, PRESETS, Part, Taken, Webhook, content_of, signed, take};
use tidegate_protocol::frames::Request;
use tidegate_protocol::ids::{ActionName, SecretName, UserId, WebhookSource};
use tidegate_protocol::time::UnixMs;

fuzz_target!(|input: (&str, &str, &str, &str, &[u8])| {
    let (first, second, third, content, body) = input;
    let source = WebhookSource::parse("in").expect("a name");
    for preset in PRESETS {
        let scheme = webhook_preset(preset).expect("a preset");
        let header = |name: &str| {
            Some(match name {
                _ if *name == *scheme.header => first.to_owned(),
                name if name.ends_with("timestamp") => second.to_owned(),
                _ => third.to_owned(),
            })
        };
        let Ok(read) = signed(&scheme, header) else {
            continue;
        };
        assert!((1..=8).contains(&read.signatures.len()));
        assert!(!scheme.content.contains(&Part::Timestamp) || read.at().is_some());
        assert!(content_of(&scheme, &read, body).contains(&body));
        let webhook = Webhook {
            action: ActionName::parse("a").expect("a name"),
            scopes: Default::default(),
            user: UserId::parse("webhook:in").expect("a user"),
            secret: SecretName::parse("s").expect("a name"),
            scheme: scheme.clone(),
            tolerance_ms: 300_000,
            events: Vec::new(),
            headers: vec!["x-a".into()],
        };
        let came = Came {
            source: &source,
            tag: "tag",
            signed: &read,
            body,
            now: UnixMs(1_800_000_000_000),
        };
        if let Ok(Taken::Request { key, body }) = take(&webhook, came, header) {
            assert!(key.len() <= 128);
            let request = Request::parse(&body).expect("a request");
            assert_eq!(request.action.as_str(), "a");
        }
    }
    // A template that a composition has, taken apart.
    let content = serde_json::Value::from(content);
    let document = format!(
        r#"{{"tidegate":1,"patterns":{{}},"actions":{{}},"webhooks":{{"a":{{"action":"a","secret":"s",
        "verify":{{"header":"x","content":{content}}}}}}}}}"#
    );
    assert!(compile(&document, &[]).is_err(), "there is no action");
});
