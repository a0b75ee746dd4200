//! What both kinds of frames guarantee.

use super::*;
use crate::error::{Error, ErrorCode};
use crate::event::{JsonText, Progress};
use crate::ids::{JobId, RequestId, Seq};
use crate::limits::FRAME_BYTES_MAX;
use crate::limits::PRESENCE_DATA_BYTES_MAX;
use crate::presence::Attend;
use crate::time::UnixMs;
use alloc::string::String;
use alloc::string::ToString;
use alloc::vec::Vec;
use proptest::prelude::*;

fn error_of(text: &str) -> Error {
    ClientFrame::parse(text).expect_err(text).error
}

fn pointers(text: &str) -> Vec<String> {
    error_of(text).details.into_iter().map(|fault| fault.pointer).collect()
}

#[test]
fn a_request_is_read_with_all_its_fields() {
    let text = r#"{"type":"request","id":"r1","action":"core.echo","payload":{"a":[1,2]},"metadata":{"k":"v"},
        "mode":"async","idempotency_key":"key 1","priority":"normal","timeout_ms":5000,"queue_timeout_ms":7000,"delay_ms":10,
        "traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}"#;
    let Ok(ClientFrame::Request(request)) = ClientFrame::parse(text) else {
        panic!("no request")
    };
    assert_eq!(request.id.unwrap().as_str(), "r1");
    assert_eq!(request.payload.unwrap().get(), r#"{"a":[1,2]}"#);
    assert_eq!(request.mode, Mode::Async);
    assert_eq!(request.start, Start::After(10));
    assert_eq!((request.timeout_ms, request.queue_timeout_ms), (Some(5000), Some(7000)));
    assert_eq!(request.metadata.get("k").map(String::as_str), Some("v"));
}

#[test]
fn the_type_is_request_where_it_is_missing() {
    assert!(matches!(
        ClientFrame::parse(r#"{"action":"a"}"#),
        Ok(ClientFrame::Request(_))
    ));
}

#[test]
fn all_faults_of_a_frame_are_reported_together() {
    let text = r#"{"id":5,"action":"a b","mode":"later","timeout_ms":-1,"queue_timeout_ms":2592000001,"delay_ms":1,"run_at":"2026-01-01T00:00:00Z","metadata":{"x":1},"paylod":1}"#;
    let mut found = pointers(text);
    found.sort();
    assert_eq!(
        found,
        [
            "/action",
            "/id",
            "/metadata/x",
            "/mode",
            "/paylod",
            "/queue_timeout_ms",
            "/run_at",
            "/timeout_ms"
        ]
    );
    let suggestions: Vec<_> = error_of(text)
        .details
        .into_iter()
        .filter_map(|f| f.suggestion)
        .collect();
    assert_eq!(suggestions, ["payload"]);
}

#[test]
fn the_id_is_echoed_with_the_faults_of_its_frame() {
    let bad = ClientFrame::parse(r#"{"id":"r9","type":"cancel","job_id":"nonsense"}"#).unwrap_err();
    assert_eq!(bad.id.unwrap().as_str(), "r9");
}

#[test]
fn bad_text_gets_a_clear_error() {
    let deep = alloc::format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let large = alloc::format!(r#"{{"action":"a","payload":"{}"}}"#, "x".repeat(FRAME_BYTES_MAX));
    for (text, code) in [
        ("", ErrorCode::ValidationError),
        ("{", ErrorCode::ValidationError),
        ("hello", ErrorCode::ValidationError),
        ("[]", ErrorCode::ValidationError),
        ("{\"action\":\"a\"} x", ErrorCode::ValidationError),
        (deep.as_str(), ErrorCode::ValidationError),
        (large.as_str(), ErrorCode::PayloadTooLarge),
        (r#"{"type":"unknown"}"#, ErrorCode::ValidationError),
        (r#"{"type":5}"#, ErrorCode::ValidationError),
        (r#"{"type":"ping","x":1}"#, ErrorCode::ValidationError),
        (
            r#"{"type":"subscribe","channel":"c","presence":"yes"}"#,
            ErrorCode::ValidationError,
        ),
        (r#"{"type":"presence"}"#, ErrorCode::ValidationError),
        (r#"{"type":"publish"}"#, ErrorCode::ValidationError),
        (r#"{"type":"subscribe"}"#, ErrorCode::ValidationError),
        (r#"{"action":"a","priority":"urgent"}"#, ErrorCode::ValidationError),
        (r#"{"action":"a","action":"a"}"#, ErrorCode::ValidationError),
    ] {
        assert_eq!(error_of(text).code, code, "{}", crate::fault::shorten(text));
    }
    assert_eq!(
        error_of(r#"{"type":"cancle"}"#).details[0].suggestion.as_deref(),
        Some("cancel")
    );
}

#[test]
fn what_one_wants_of_presence_is_said_in_one_field() {
    let read = |presence: &str| {
        let text = alloc::format!(r#"{{"type":"subscribe","channel":"c","presence":{presence}}}"#);
        match ClientFrame::parse(&text) {
            Ok(ClientFrame::Subscribe { presence, .. }) => Ok(presence),
            Ok(other) => panic!("{other:?}"),
            Err(bad) => Err(bad
                .error
                .details
                .into_iter()
                .map(|fault| fault.pointer)
                .collect::<Vec<_>>()),
        }
    };
    let member = |data: Option<&str>| Attend::Member {
        data: data.map(|data| JsonText::parse(data).unwrap()),
    };
    assert_eq!(read("false"), Ok(None));
    assert_eq!(read("true"), Ok(Some(member(None))));
    assert_eq!(read("{}"), Ok(Some(member(None))));
    assert_eq!(read(r#"{"data":null}"#), Ok(Some(member(Some("null")))));
    assert_eq!(read(r#"{"data":{"a":[1]}}"#), Ok(Some(member(Some(r#"{"a":[1]}"#)))));
    assert_eq!(read(r#"{"member":false}"#), Ok(Some(Attend::Watcher)));
    // Every fault at once.
    let faults = read(r#"{"member":false,"data":1,"x":2}"#).unwrap_err();
    assert_eq!(faults, ["/presence/x", "/presence/data"]);
    let large = alloc::format!(r#"{{"data":"{}"}}"#, "x".repeat(PRESENCE_DATA_BYTES_MAX));
    assert_eq!(read(&large).unwrap_err(), ["/presence/data"]);
    assert_eq!(read(r#"{"member":"no"}"#).unwrap_err(), ["/presence/member"]);
    assert_eq!(read("[]").unwrap_err(), ["/presence"]);
}

#[test]
fn an_attach_names_a_job_in_one_of_two_ways() {
    let job = JobId::new(crate::ids::JobNumber(123_456_789), 7).to_string();
    let by_id = alloc::format!(r#"{{"type":"attach","job_id":"{job}","after":3}}"#);
    assert!(matches!(
        ClientFrame::parse(&by_id),
        Ok(ClientFrame::Attach {
            target: Target::Job(_),
            after: Some(Seq(3)),
            ..
        })
    ));
    assert!(matches!(
        ClientFrame::parse(r#"{"type":"attach","action":"a","idempotency_key":"k"}"#),
        Ok(ClientFrame::Attach {
            target: Target::Key(..),
            after: None,
            ..
        })
    ));
    assert_eq!(pointers(r#"{"type":"attach"}"#), ["/action", "/idempotency_key"]);
}

#[test]
fn a_frame_carries_its_type_and_its_fields_flat() {
    let frame = ServerFrame::Progress {
        request_id: RequestId::parse("r").unwrap(),
        job_id: JobId::new(crate::ids::JobNumber(1), 1),
        seq: Seq(2),
        attempt: 1,
        progress: Progress {
            percentage: 12.5,
            message: Some("half".into()),
            metadata: JsonText::parse("{\"n\":1}"),
        },
        timestamp: UnixMs(0),
    };
    assert_eq!(
        frame.encode(),
        r#"{"type":"progress","request_id":"r","job_id":"job_00000000001000001","seq":2,"attempt":1,"percentage":12.5,"message":"half","metadata":{"n":1},"timestamp":"1970-01-01T00:00:00.000Z"}"#
    );
}

proptest! {
    #[test]
    fn reading_a_frame_never_panics(text in "\\PC{0,200}") {
        let _ = ClientFrame::parse(&text);
    }

    #[test]
    fn reading_nearly_a_frame_never_panics(text in "\\{(\"(type|id|action|payload|mode)\":(\"[a-z.]{0,9}\"|[0-9]{1,3}|null|\\{\\}),){0,5}\"x\":1\\}") {
        let _ = ClientFrame::parse(&text);
    }
}

/// The type of a frame, as its text says it. Without a default: a new kind of frame does not compile until it is here, and
/// then has to be in the reference, which the end-to-end matrix of frames reads.
fn type_of(frame: &ClientFrame<'_>) -> &'static str {
    match frame {
        ClientFrame::Request(_) => "request",
        ClientFrame::Attach { .. } => "attach",
        ClientFrame::Detach { .. } => "detach",
        ClientFrame::Cancel { .. } => "cancel",
        ClientFrame::Subscribe { .. } => "subscribe",
        ClientFrame::Unsubscribe { .. } => "unsubscribe",
        ClientFrame::Publish { .. } => "publish",
        ClientFrame::Presence { .. } => "presence",
        ClientFrame::Auth { .. } => "auth",
        ClientFrame::Lease { .. } => "lease",
        ClientFrame::Attempt { said, .. } => match said {
            AttemptSaid::Report(_) => "report",
            AttemptSaid::Finish(_) => "finish",
        },
    }
}

#[test]
fn the_reference_names_each_type_of_frame_and_no_other() {
    let reference = include_str!("../../../../docs/reference/protocol.md");
    let (_, part) = reference.split_once("### From the client").unwrap();
    let (part, _) = part.split_once("\n### ").unwrap();
    let rows = part
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let mut named: Vec<&str> = rows.collect();
    named.sort_unstable();
    let job = JobId::new(crate::ids::JobNumber(1), 2);
    let mut taken: Vec<&str> = [
        r#"{"action":"a"}"#.into(),
        alloc::format!(r#"{{"type":"attach","job_id":"{job}"}}"#),
        alloc::format!(r#"{{"type":"detach","job_id":"{job}"}}"#),
        alloc::format!(r#"{{"type":"cancel","job_id":"{job}"}}"#),
        r#"{"type":"subscribe","channel":"c"}"#.into(),
        r#"{"type":"presence","channel":"c"}"#.into(),
        r#"{"type":"unsubscribe","channel":"c"}"#.into(),
        r#"{"type":"publish","channel":"c","data":null}"#.into(),
        r#"{"type":"auth","token":"t"}"#.into(),
        r#"{"type":"lease","pool":"p","body":{"max":1,"worker":"w"}}"#.into(),
        r#"{"type":"report","attempt_token":"t"}"#.into(),
        r#"{"type":"finish","attempt_token":"t","body":{"outcome":"succeeded"}}"#.into(),
    ]
    .iter()
    .map(|text: &String| type_of(&ClientFrame::parse(text).expect(text)))
    .chain(["ping"])
    .collect();
    taken.sort_unstable();
    assert_eq!(named, taken);
    // What is neither is refused as what it is: part of the protocol and not there yet, or unknown.
    for kind in client::TYPES.iter().filter(|kind| !taken.contains(kind)) {
        let error = error_of(&alloc::format!(r#"{{"type":"{kind}"}}"#));
        assert_eq!(error.code, ErrorCode::NotImplemented, "{kind}");
    }
    for kind in taken {
        assert!(client::TYPES.contains(&kind), "{kind}");
    }
}
