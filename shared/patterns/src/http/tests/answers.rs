//! What an upstream's answer means, and a whole call through a context.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::Future;
use core::pin::pin;
use core::task::{Poll, Waker};

use proptest::prelude::*;
use serde_json::json;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::{ActionName, UserId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::super::{ANSWER_BYTES_MAX, RETRY_AFTER_MS_MAX, classify, result, run};
use crate::operation::{Context, Done, Incoming, Invocation, Outgoing};
use crate::testing::stores_nothing;

/// 1994-11-06T08:49:27Z: ten seconds before the date of RFC 9110's example.
const NOW: UnixMs = UnixMs(784_111_767_000);

#[test]
fn a_status_says_whether_to_try_again_and_when() {
    for (status, retry_after, expected) in [
        (200, None, None),
        (204, Some("5"), None),
        (299, None, None),
        (100, None, Some((false, None))),
        (301, Some("5"), Some((false, None))),
        (302, None, Some((false, None))),
        (307, None, Some((false, None))),
        (400, Some("5"), Some((false, None))),
        (401, None, Some((false, None))),
        (404, None, Some((false, None))),
        (409, None, Some((false, None))),
        (422, None, Some((false, None))),
        (408, None, Some((true, None))),
        (425, None, Some((true, None))),
        (429, Some("5"), Some((true, Some(5000)))),
        (429, Some(" 0 "), Some((true, Some(0)))),
        (500, None, Some((true, None))),
        (503, Some("Sun, 06 Nov 1994 08:49:37 GMT"), Some((true, Some(10_000)))),
        (503, Some("Sun, 06 Nov 1994 08:49:07 GMT"), Some((true, Some(0)))),
        (
            503,
            Some("Sun, 06 Nov 2094 08:49:37 GMT"),
            Some((true, Some(RETRY_AFTER_MS_MAX))),
        ),
        (
            503,
            Some("99999999999999999999999"),
            Some((true, Some(RETRY_AFTER_MS_MAX))),
        ),
        (503, Some("-5"), Some((true, None))),
        (503, Some("soon"), Some((true, None))),
        (503, Some(""), Some((true, None))),
        (503, Some("Sun, 06 Nov 1994 08:49:37 CET"), Some((true, None))),
        (503, Some("Sun, 06 Foo 1994 08:49:37 GMT"), Some((true, None))),
        (599, None, Some((true, None))),
        (600, None, Some((false, None))),
        (999, None, Some((false, None))),
    ] {
        let found = classify(status, retry_after, NOW);
        if let Err(error) = &found {
            assert_eq!(error.code, ErrorCode::UpstreamError, "{status}");
        }
        let found = found.err().map(|error| (error.retryable, error.retry_after_ms));
        assert_eq!(found, expected, "{status} {retry_after:?}");
    }
}

fn answer(content_type: Option<&str>, body: Option<&[u8]>) -> Incoming {
    Incoming {
        status: 201,
        content_type: content_type.map(ToString::to_string),
        retry_after: None,
        body: body.map(<[u8]>::to_vec),
    }
}

#[test]
fn a_body_is_given_on_as_what_it_is() {
    let deep = alloc::format!("{}{}", "[".repeat(64), "]".repeat(64));
    for (content_type, body, expected) in [
        (
            Some("application/json"),
            &br#"{"a":1.0}"#[..],
            Some(r#"{"status":201,"body":{"a":1.0}}"#),
        ),
        (
            Some("Application/Problem+JSON; charset=utf-8"),
            b"[1]",
            Some(r#"{"status":201,"body":[1]}"#),
        ),
        (Some("text/plain"), b"a\"b", Some(r#"{"status":201,"body":"a\"b"}"#)),
        (None, b"[1]", Some(r#"{"status":201,"body":"[1]"}"#)),
        (Some("application/json"), b"", Some(r#"{"status":201,"body":null}"#)),
        (Some("application/json"), b"{", None),
        (Some("application/json"), b"1} , {\"x\":2", None),
        (Some("application/json"), deep.as_bytes(), None),
        (Some("image/png"), b"\x89PNG\xff", None),
    ] {
        let found = result(&answer(content_type, Some(body)), NOW);
        match expected {
            Some(expected) => assert_eq!(found.unwrap().as_str(), expected),
            None => {
                let error = found.unwrap_err();
                assert_eq!(
                    (error.code, error.retryable),
                    (ErrorCode::UpstreamError, false),
                    "{body:?}"
                );
            }
        }
    }
}

#[test]
fn an_answer_over_the_bound_is_an_error() {
    let fits = alloc::vec![b'a'; ANSWER_BYTES_MAX];
    assert!(result(&answer(None, Some(&fits)), NOW).is_ok());
    let over = alloc::vec![b'a'; ANSWER_BYTES_MAX + 1];
    assert!(result(&answer(None, Some(&over)), NOW).is_err());
    assert!(result(&answer(None, None), NOW).is_err());
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic(status: u16, retry_after in "\\PC{0,40}", body: Vec<u8>, json: bool) {
        let content_type = json.then(|| "application/json".to_string());
        let _ = result(&Incoming { status, content_type, retry_after: Some(retry_after), body: Some(body) }, NOW);
    }
}

/// Answers every request with the same, and remembers it.
struct Upstream {
    answer: Incoming,
    asked: RefCell<Vec<Outgoing>>,
}

impl Context for Upstream {
    stores_nothing!();
    fn now(&self) -> UnixMs {
        NOW
    }
    async fn sleep(&self, _: u64) {}
    async fn fetch(&self, request: Outgoing) -> Result<Incoming, Error> {
        self.asked.borrow_mut().push(request);
        Ok(self.answer.clone())
    }
}

/// Runs a future that never has to wait.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut context = core::task::Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("it waits"),
    }
}

fn invocation(payload: &str) -> Invocation {
    let text = |value: serde_json::Value| JsonText::parse(&value.to_string()).unwrap();
    Invocation {
        pattern: "http".into(),
        operation: "call".into(),
        instance: "here".into(),
        action: ActionName::parse("act").unwrap(),
        config: text(json!({"upstreams": {"main": {"base_url": "https://api.example.com/v1"}}})),
        settings: text(json!({"upstream": "main", "path": "/charges"})),
        payload: JsonText::parse(payload).unwrap(),
        user: UserId::parse("u").unwrap(),
        attempt: 1,
        effect_key: Some(String::from("job_1")),
        traceparent: None,
        timeout_ms: 1000,
        job: None,
    }
}

#[test]
fn a_call_asks_once_and_gives_the_answer() {
    let upstream = Upstream {
        answer: answer(Some("application/json"), Some(b"{\"id\":\"ch_1\"}")),
        asked: RefCell::default(),
    };
    let done = at_once(run(&upstream, &invocation(r#"{"body":{"amount":5}}"#))).unwrap();
    let expected = JsonText::parse(r#"{"status":201,"body":{"id":"ch_1"}}"#).unwrap();
    assert_eq!(done, Done::Result(expected));
    let asked = upstream.asked.borrow();
    assert_eq!(
        (asked.len(), asked[0].url.as_str()),
        (1, "https://api.example.com/v1/charges")
    );
    assert_eq!(asked[0].timeout_ms, 1000);
}

#[test]
fn a_call_that_cannot_be_sent_asks_nobody() {
    let upstream = Upstream {
        answer: answer(None, Some(b"")),
        asked: RefCell::default(),
    };
    let error = at_once(run(&upstream, &invocation(r#"{"path":["a"]}"#))).unwrap_err();
    assert_eq!(error.code, ErrorCode::ValidationError);
    assert!(upstream.asked.borrow().is_empty());
}
