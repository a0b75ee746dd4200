use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_protocol::frames::{ClientFrame, ServerFrame};
use tidegate_protocol::time::UnixMs;

use super::*;

fn shown(frame: &Value) -> Told {
    read(&frame.to_string())
}

/// An event stream, as the HTML Standard says that it is read: the id that counts, and the events with their names and data.
fn dispatched(stream: &str) -> (String, Vec<(String, String)>) {
    let (mut last_id, mut kind, mut data) = (String::new(), String::new(), Vec::<&str>::new());
    let mut events = Vec::new();
    for line in stream.split('\n').flat_map(|line| line.split('\r')) {
        if line.is_empty() {
            if !data.is_empty() {
                events.push((core::mem::take(&mut kind), data.join("\n")));
            }
            (kind, data) = (String::new(), Vec::new());
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => last_id = value.into(),
            "event" => kind = value.into(),
            "data" => data.push(value),
            _ => {}
        }
    }
    (last_id, events)
}

#[test]
fn each_frame_becomes_the_event_of_its_name_and_place() {
    let error = json!({ "code": "FORBIDDEN", "message": "No.", "retryable": false });
    for (frame, id) in [
        (
            json!({ "type": "subscribed", "channel": "c", "epoch": "e1", "offset": 4, "recovered": false }),
            "e1:4",
        ),
        (
            json!({ "type": "message", "channel": "c", "epoch": "e1", "offset": 5, "data": { "epoch": "x" } }),
            "e1:5",
        ),
        (
            json!({ "type": "progress", "job_id": "j", "seq": 7, "percentage": 1 }),
            "7",
        ),
        (
            json!({ "type": "snapshot", "job_id": "j", "seq": 8, "status": "running" }),
            "8",
        ),
        (json!({ "type": "auth_expiring", "expires_at": "soon" }), ""),
    ] {
        let Told::Event(text) = shown(&frame) else {
            panic!("{frame}")
        };
        let (last_id, events) = dispatched(&text);
        assert_eq!((last_id.as_str(), events.len()), (id, 1), "{text}");
        assert_eq!(events[0].0, frame["type"].as_str().unwrap());
        assert_eq!(serde_json::from_str::<Value>(&events[0].1).unwrap(), frame);
    }
    for (frame, id) in [
        (json!({ "type": "complete", "job_id": "j", "seq": 9, "result": 1 }), "9"),
        (json!({ "type": "error", "job_id": "j", "seq": 9, "error": error }), "9"),
        (json!({ "type": "unsubscribed", "channel": "c", "error": error }), ""),
    ] {
        let Told::Last(text) = shown(&frame) else {
            panic!("{frame}")
        };
        assert_eq!(dispatched(&text).0, id, "{text}");
    }
    assert_eq!(shown(&json!({ "type": "welcome" })), Told::Welcome);
    for frame in [
        "{\"type\":\"pong\"}",
        "{\"type\":\"ok\",\"request_id\":\"r\"}",
        "7",
        "{}",
        "",
        "{\"type\":7}",
    ] {
        assert_eq!(read(frame), Told::Nothing, "{frame}");
    }
}

#[test]
fn a_refusal_keeps_its_code_its_faults_and_when_to_come_back() {
    let error = Error::invalid(
        "No.",
        alloc::vec![tidegate_protocol::Fault::new("/channel", "a name", "a b")],
    );
    let frame = ServerFrame::Error {
        request_id: Some(RequestId::generate(UnixMs(1), 1)),
        job_id: None,
        seq: None,
        error: error.clone(),
        timestamp: UnixMs(1),
    };
    let Told::Refused { error: told, event } = read(&frame.encode()) else {
        panic!("{frame:?}")
    };
    assert_eq!(told, error);
    assert_eq!(dispatched(&event).1[0].0, "error");
    for (code, expected) in [
        (3011, ErrorCode::Unauthorized),
        (3500, ErrorCode::Unauthorized),
        (3501, ErrorCode::Forbidden),
        (3502, ErrorCode::TenantSuspended),
        (3505, ErrorCode::RateLimited),
        (3008, ErrorCode::Unavailable),
        (1012, ErrorCode::Unavailable),
    ] {
        let frame = json!({ "type": "goodbye", "code": code, "reason": "it is so", "reconnect": true });
        let Told::Refused { error, event } = shown(&frame) else {
            panic!("{frame}")
        };
        assert_eq!(error.code, expected, "{code}");
        assert!(error.message.contains("it is so"), "{}", error.message);
        let (id, events) = dispatched(&event);
        let kinds: Vec<&str> = events.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!((id.as_str(), kinds), ("", alloc::vec!["goodbye", "error"]));
        assert_eq!(
            serde_json::from_str::<Value>(&events[1].1).unwrap()["error"]["code"],
            expected.as_str()
        );
    }
}

#[test]
fn lines_that_a_publisher_breaks_end_no_event() {
    let frame =
        "{\"type\":\"message\",\"channel\":\"c\",\"epoch\":\"e\",\"offset\":1,\"data\":[1,\r\n\n2,\r\"a\\nb\"]}";
    let Told::Event(text) = read(frame) else {
        panic!("no event")
    };
    let (id, events) = dispatched(&text);
    assert_eq!((id.as_str(), events.len()), ("e:1", 1), "{text:?}");
    let data: Value = serde_json::from_str(&events[0].1).unwrap();
    assert_eq!(data["data"], json!([1, 2, "a\nb"]));
}

#[test]
fn what_nests_as_deep_as_a_payload_may_is_read() {
    let deep = format!("{}{}", "[".repeat(64), "]".repeat(64));
    let frame = format!(r#"{{"type":"complete","job_id":"j","seq":3,"result":{deep}}}"#);
    assert!(matches!(read(&frame), Told::Last(text) if text.starts_with("id: 3\nevent: complete\n")));
}

#[test]
fn the_frames_that_are_sent_are_frames_of_a_client() {
    let channel = ChannelName::parse("a.b_c:d-1").unwrap();
    let cursor = Cursor::parse("e9:12").unwrap();
    for after in [None, Some(cursor)] {
        match ClientFrame::parse(&subscribe(&channel, after.as_ref())) {
            Ok(ClientFrame::Subscribe {
                channel: of,
                after: from,
                ..
            }) => assert_eq!((of, from), (channel.clone(), after)),
            other => panic!("{other:?}"),
        }
    }
    let job = JobId::new(
        tidegate_protocol::ids::JobNumber::first_at(UnixMs(1_795_244_400_000)),
        7,
    );
    let id = RequestId::generate(UnixMs(1), 1);
    match ClientFrame::parse(&attach(&id, job, Seq(5))) {
        Ok(ClientFrame::Attach {
            id: Some(of),
            target,
            after,
        }) => {
            assert_eq!((of, after), (id, Some(Seq(5))));
            assert_eq!(target, tidegate_protocol::frames::Target::Job(job));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_poll_waits_only_where_the_page_says_nothing() {
    let page = |recovered: bool, messages: Value, next: Option<&str>| {
        let mut page = json!({ "epoch": "e1", "offset": 9, "recovered": recovered, "messages": messages });
        if let Some(next) = next {
            page["next"] = json!(next);
        }
        JsonText::of(&page).unwrap()
    };
    let end = Cursor::parse("e1:9");
    let at = end.as_ref();
    assert_eq!(waits_behind(&page(true, json!([]), None), at), end);
    assert_eq!(
        waits_behind(&page(false, json!([]), None), None),
        end,
        "there is no cursor to lose anything behind"
    );
    assert_eq!(
        waits_behind(&page(false, json!([]), None), at),
        None,
        "there is a gap to tell of"
    );
    assert_eq!(waits_behind(&page(true, json!([{ "offset": 9 }]), None), at), None);
    let next = |page: JsonText| serde_json::from_str::<Value>(with_next(page).as_str()).unwrap()["next"].clone();
    assert_eq!(next(page(true, json!([]), None)), "e1:9");
    assert_eq!(next(page(true, json!([{ "offset": 4 }]), Some("e1:4"))), "e1:4");
}

#[test]
fn clients_whose_streams_end_together_come_back_apart() {
    for chance in [0, 1, 1999, 2000, u64::MAX] {
        let hint = retry_hint(chance);
        let ms: u64 = hint
            .strip_prefix("retry: ")
            .and_then(|ms| ms.trim_end().parse().ok())
            .unwrap();
        assert!((1000..3000).contains(&ms), "{hint}");
    }
    assert_ne!(retry_hint(1), retry_hint(2));
}

proptest! {
    /// A reader gets a prefix of what came, in order; where it is not all, the backlog has ended, and it was never over its bound.
    #[test]
    fn a_backlog_is_bounded_and_gives_a_prefix(steps in prop::collection::vec(prop_oneof![
        (0_usize..300_000).prop_map(Some),
        Just(None),
    ], 1..60)) {
        let mut backlog = Backlog::default();
        let (mut pushed, mut taken, mut given_up) = (0_u32, 0_u32, false);
        for step in steps {
            match step {
                Some(bytes) => {
                    let frame = format!("{pushed}{}", " ".repeat(bytes));
                    pushed += 1;
                    given_up |= backlog.push(frame) == Room::None;
                }
                None => match backlog.take() {
                    Next::Frame(frame) => {
                        prop_assert!(!given_up);
                        prop_assert_eq!(frame.trim_end(), taken.to_string());
                        taken += 1;
                    }
                    Next::Nothing => prop_assert!(!given_up && taken == pushed),
                    Next::End => prop_assert!(given_up),
                },
            }
            let held: usize = backlog.frames.iter().map(String::len).sum();
            prop_assert_eq!(held, backlog.bytes);
            prop_assert!(held <= BACKLOG_BYTES_MAX);
        }
    }
}

#[test]
fn what_came_before_the_end_is_given_before_it() {
    let mut backlog = Backlog::default();
    assert_eq!(backlog.push("a".into()), Room::Left);
    backlog.end();
    assert_eq!(backlog.push("b".into()), Room::None);
    assert_eq!((backlog.take(), backlog.take()), (Next::Frame("a".into()), Next::End));
}
