//! What a payload can make of a request.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_protocol::ids::TraceParent;
use tidegate_protocol::{Error, ErrorCode};

use super::super::{Around, Settings, prepare};
use super::{check, good_config, settings};
use crate::operation::Outgoing;

const AROUND: Around<'_> = Around {
    effect_key: Some("job_1"),
    traceparent: None,
    timeout_ms: 60_000,
};

fn all_accepted(method: &str) -> Settings {
    let accepts = json!({"path": true, "query": ["q", "a b", "page"], "headers": ["X-Customer"]});
    let with = json!({"upstream": "main", "method": method, "path": "/charges", "accepts": accepts});
    let (settings, faults) = settings(&with);
    assert_eq!(faults, []);
    settings.unwrap()
}

fn outgoing(settings: &Settings, payload: &Value) -> Result<Outgoing, Error> {
    prepare(&good_config(), settings, &payload.to_string(), AROUND)
}

fn header<'a>(request: &'a Outgoing, name: &str) -> Vec<&'a str> {
    let named = request.headers.iter().filter(|(known, _)| known == name);
    named.map(|(_, value)| value.as_str()).collect()
}

#[test]
fn a_request_is_made_of_what_the_configuration_the_settings_and_the_payload_say() {
    let payload = json!({
        "path": ["ch_1", "re funds", "ü"], "query": {"q": "a&b=c#d", "a b": [1, true], "page": 2},
        "headers": {"x-customer": "c 1"}, "body": {"amount": 5},
    });
    let request = outgoing(&all_accepted("POST"), &payload).unwrap();
    assert_eq!(request.method, "POST");
    assert_eq!(
        request.url,
        "https://api.example.com/v1/charges/ch_1/re%20funds/%C3%BC?a%20b=1&a%20b=true&page=2&q=a%26b%3Dc%23d"
    );
    assert_eq!(request.body.as_deref(), Some(r#"{"amount":5}"#));
    for (name, value) in [
        ("authorization", "Bearer secret"),
        ("x-a", "b"),
        ("x-customer", "c 1"),
        ("accept", "application/json"),
        ("content-type", "application/json"),
        ("idempotency-key", "job_1"),
    ] {
        assert_eq!(header(&request, name), [value], "{name}");
    }
    assert_eq!(request.timeout_ms, 10_000, "the upstream's");
}

#[test]
fn the_key_and_the_trace_are_passed_on_and_two_keys_stay_two() {
    let trace = TraceParent::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
    let sent = |key| {
        let around = Around {
            effect_key: key,
            traceparent: Some(&trace),
            timeout_ms: 5,
        };
        prepare(&good_config(), &all_accepted("GET"), "null", around).unwrap()
    };
    let request = sent(Some("a b\r\nx: é%0A"));
    assert_eq!(header(&request, "idempotency-key"), ["a%20b%0D%0Ax:%20%C3%A9%250A"]);
    assert_eq!(header(&request, "traceparent"), [trace.as_str()]);
    assert_eq!(request.timeout_ms, 5, "the run's");
    assert_eq!(
        (request.url.as_str(), request.body),
        ("https://api.example.com/v1/charges", None)
    );
    assert!(header(&sent(None), "idempotency-key").is_empty());
}

#[test]
fn a_url_always_has_a_path() {
    let (config, _) = super::config(&json!({"base_url": "https://a.example"}));
    for (with, payload, url) in [
        (json!({"upstream": "main"}), "{}", "https://a.example/"),
        (json!({"upstream": "main", "path": "/"}), "null", "https://a.example/"),
        (
            json!({"upstream": "main", "path": "/", "accepts": {"path": true, "query": ["q"]}}),
            r#"{"path":["a"],"query":{"q":1}}"#,
            "https://a.example/a?q=1",
        ),
        (
            json!({"upstream": "main", "accepts": {"query": ["q"]}}),
            r#"{"path":[],"query":{"q":"x"}}"#,
            "",
        ),
        (
            json!({"upstream": "main", "accepts": {"query": ["q"]}}),
            r#"{"query":{"q":"/"}}"#,
            "https://a.example/?q=%2F",
        ),
    ] {
        let settings = Settings::read(&with, &config, "", &mut Vec::new()).unwrap();
        let request = prepare(&config, &settings, payload, AROUND);
        match url {
            "" => assert!(request.is_err(), "a path is not accepted"),
            url => assert_eq!(request.unwrap().url, url),
        }
    }
}

#[test]
fn a_payload_reaches_nothing_that_is_not_accepted() {
    let long = "v".repeat(4097);
    let many: Vec<String> = (0..17).map(|n| n.to_string()).collect();
    for (payload, expected) in [
        (json!([]), &["/payload | a JSON object"][..]),
        (json!({"url": "https://b.example"}), &["/payload/url | no such field"]),
        (json!({"method": "DELETE"}), &["/payload/method | no such field"]),
        (json!({"path": "a"}), &["/payload/path | a list"]),
        (json!({"path": many}), &["/payload/path | at most 16"]),
        (json!({"path": [".."]}), &["/payload/path | path segments"]),
        (json!({"path": ["."]}), &["/payload/path | path segments"]),
        (json!({"path": ["..;a"]}), &["/payload/path | path segments"]),
        (json!({"path": [""]}), &["/payload/path | path segments"]),
        (json!({"path": ["a/b"]}), &["/payload/path | path segments"]),
        (json!({"path": ["a\\b"]}), &["/payload/path | path segments"]),
        (json!({"path": ["%2e%2e"]}), &["/payload/path | path segments"]),
        (json!({"path": ["a\r\nHost: b"]}), &["/payload/path | path segments"]),
        (
            json!({"query": {"other": 1}}),
            &["/payload/query | only the parameters that the action accepts: q, a b, page"],
        ),
        (
            json!({"query": {"q": {"a": 1}}}),
            &["/payload/query | an object of texts"],
        ),
        (json!({"query": "q=1"}), &["/payload/query | an object of texts"]),
        (
            json!({"headers": {"Host": "b.example"}}),
            &["/payload/headers | only the headers"],
        ),
        (
            json!({"headers": {"Authorization": "Bearer x"}}),
            &["/payload/headers | only the headers"],
        ),
        (
            json!({"headers": {"x-a": "c"}}),
            &["/payload/headers | only the headers"],
        ),
        (
            json!({"headers": {"Content-Length": "1"}}),
            &["/payload/headers | only the headers"],
        ),
        (
            json!({"headers": {"Idempotency-Key": "mine"}}),
            &["/payload/headers | only the headers"],
        ),
        (
            json!({"headers": {"x-customer": "a\r\nx: b"}}),
            &["/payload/headers | printable ASCII"],
        ),
        (
            json!({"headers": {"x-customer": "a\u{0}"}}),
            &["/payload/headers | printable ASCII"],
        ),
        (
            json!({"headers": {"x-customer": "é"}}),
            &["/payload/headers | printable ASCII"],
        ),
        (
            json!({"headers": {"x-customer": long}}),
            &["/payload/headers | printable ASCII"],
        ),
        (
            json!({"headers": {"x-customer": "a", "X-Customer": "b"}}),
            &["/payload/headers | each once"],
        ),
        (
            json!({"headers": {"x-customer\r\nHost": "b"}}),
            &["/payload/headers | only the headers"],
        ),
        (
            json!({"query": {"q": "a".repeat(9000)}}),
            &["/payload/query | a URL of at most 8192"],
        ),
        (
            json!({"path": [".."], "query": {"z": 1}, "headers": {"z": 1}, "z": 1}),
            &[
                "/payload/path | path segments",
                "/payload/query | only the parameters",
                "/payload/headers | only the headers",
                "/payload/z | no such field",
            ],
        ),
    ] {
        let error = outgoing(&all_accepted("POST"), &payload).unwrap_err();
        assert_eq!(error.code, ErrorCode::ValidationError);
        check(&error.details, expected, &payload);
    }
    let (bare, _) = settings(&json!({"upstream": "main", "method": "GET"}));
    let bare = bare.unwrap();
    for payload in [
        json!({"path": ["a"]}),
        json!({"query": {"q": 1}}),
        json!({"headers": {"x-customer": "a"}}),
        json!({"body": {}}),
    ] {
        let error = outgoing(&bare, &payload).unwrap_err();
        assert!(error.details[0].expected.contains("the action accepts none"), "{error}");
    }
}

#[test]
fn every_fault_of_settings_is_found_with_its_place() {
    for (with, expected) in [
        (json!([]), &[" | an object"][..]),
        (json!({}), &["/upstream | an upstream"]),
        (json!({"upstream": "mian"}), &["/upstream | an upstream"]),
        (json!({"upstream": "mai"}), &["/upstream | an upstream | main"]),
        (json!({"upstream": 1}), &["/upstream | an upstream"]),
        (
            json!({"upstream": "main", "method": "post"}),
            &["/method | `GET`, `HEAD`, `POST` | POST"],
        ),
        (json!({"upstream": "main", "method": "CONNECT"}), &["/method | `GET`"]),
        (
            json!({"upstream": "main", "path": "charges"}),
            &["/path | begins with '/'"],
        ),
        (
            json!({"upstream": "main", "path": "/../x"}),
            &["/path | without the segments"],
        ),
        (
            json!({"upstream": "main", "path": "/a?b=c"}),
            &["/path | need no escape"],
        ),
        (
            json!({"upstream": "main", "path": "//b.example"}),
            &["/path | empty segments"],
        ),
        (
            json!({"upstream": "main", "path": "/a\r\n"}),
            &["/path | need no escape"],
        ),
        (json!({"upstream": "main", "path": 1}), &["/path | a path"]),
        (
            json!({"upstream": "main", "acepts": {}}),
            &["/acepts | no such field | accepts"],
        ),
        (
            json!({"upstream": "main", "method": "GET", "accepts": {"body": true, "path": 1, "query": [""], "x": 1}}),
            &[
                "/accepts/body | no body",
                "/accepts/path | true or false",
                "/accepts/query/0 | a query parameter's name",
                "/accepts/x | no such field",
            ],
        ),
        (
            json!({"upstream": "main", "accepts": {"headers": [
                "x-b", "X-B", "x-a", "authorization", "Cookie", "host", "content-type", "traceparent", "a b", 1,
            ]}}),
            &[
                "/accepts/headers/1 | each name once",
                "/accepts/headers/2 | the name of a header that a payload may give",
                "/accepts/headers/3 | the name of a header that a payload may give",
                "/accepts/headers/4 | the name of a header that a payload may give",
                "/accepts/headers/5 | the name of a header that a payload may give",
                "/accepts/headers/6 | the name of a header that a payload may give",
                "/accepts/headers/7 | the name of a header that a payload may give",
                "/accepts/headers/8 | the name of a header that a payload may give",
                "/accepts/headers/9 | the name of a header that a payload may give",
            ],
        ),
    ] {
        check(&settings(&with).1, expected, &with);
    }
}

#[test]
fn each_default_of_the_settings_is_what_the_reference_says() {
    for (method, body) in [
        (None, true),
        (Some("POST"), true),
        (Some("PUT"), true),
        (Some("PATCH"), true),
        (Some("DELETE"), false),
        (Some("GET"), false),
        (Some("HEAD"), false),
    ] {
        let with = match method {
            Some(method) => json!({"upstream": "main", "method": method}),
            None => json!({"upstream": "main"}),
        };
        let settings = settings(&with).0.unwrap();
        assert_eq!(
            (settings.method, settings.accepts.body),
            (method.unwrap_or("POST"), body)
        );
        assert_eq!((settings.path.as_str(), settings.accepts.path), ("", false));
        assert!(settings.accepts.query.is_empty() && settings.accepts.headers.is_empty());
    }
}

proptest! {
    /// Whatever a payload says, a reader of the URL standard sees the configured scheme, host, port and path in front.
    #[test]
    fn no_payload_moves_a_request_elsewhere(
        path in proptest::collection::vec("(\\PC{0,8}|[./\\\\%@:;?#a-z0-9]{0,8})", 0..5),
        query in "\\PC{0,20}", value in "\\PC{0,20}",
    ) {
        let payload = json!({"path": path, "query": {"q": query}, "headers": {"x-customer": value}});
        if let Ok(request) = outgoing(&all_accepted("GET"), &payload) {
            let read = url::Url::parse(&request.url).unwrap();
            prop_assert_eq!(read.as_str(), request.url.as_str(), "already in the one spelling");
            prop_assert_eq!((read.scheme(), read.host_str(), read.port()), ("https", Some("api.example.com"), None));
            prop_assert!(read.path() == "/v1/charges" || read.path().starts_with("/v1/charges/"));
            prop_assert_eq!(read.path_segments().unwrap().count(), 2 + path.len());
            let pairs: Vec<(String, String)> = read.query_pairs().into_owned().collect();
            prop_assert_eq!(pairs, [("q".to_string(), query)]);
            prop_assert!(read.username().is_empty() && read.fragment().is_none());
            let lines = request.headers.iter().all(|(name, value)| !name.contains(['\r', '\n', ':']) && !value.contains(['\r', '\n']));
            prop_assert!(lines);
        }
    }

    #[test]
    fn no_payload_makes_it_panic(payload in "\\PC{0,100}") {
        let _ = prepare(&good_config(), &all_accepted("POST"), &payload, AROUND);
    }
}
