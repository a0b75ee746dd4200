//! What the request log is told of the requests of sockets: each once, with its first answer.

use super::*;
use crate::hub::{Logged, Logging};

fn logged(effects: &[Effect]) -> Vec<&Logged> {
    let logged = effects.iter().filter_map(|effect| match effect {
        Effect::Log { of } => Some(&**of),
        _ => None,
    });
    logged.collect()
}

/// The id, the action, the status, the code, and whether there is a job.
fn said(effects: &[Effect]) -> Vec<(&str, &str, u16, &str, bool)> {
    let said = logged(effects).into_iter().map(|logged| {
        let action = logged.begun.action.as_ref().map_or("", ActionName::as_str);
        let code = logged.outcome.error.as_ref().map_or("", |(code, _)| code.as_str());
        (
            logged.request_id.as_str(),
            action,
            logged.outcome.status,
            code,
            logged.outcome.job.is_some(),
        )
    });
    said.collect()
}

fn bench(logging: Logging) -> (Bench, ConnectionId) {
    let mut bench = Bench::new();
    bench.hub.log(logging);
    let socket = bench.open();
    (bench, socket)
}

#[test]
fn each_request_is_told_once_with_its_first_answer() {
    let (mut bench, socket) = bench(Logging::Requests);
    let effects = bench.frame(&socket, r#"{"id":"a","action":"work"}"#);
    assert_eq!(said(&effects), []);
    let (id, _) = call(&effects);
    bench.now = bench.now.plus(7);
    let effects = bench.replied(id, acknowledged(1));
    assert_eq!(said(&effects), [("a", "work", 202, "", true)]);
    let told = logged(&effects)[0];
    let sent: Vec<usize> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send { frame, .. } => Some(frame.len()),
            _ => None,
        })
        .collect();
    assert_eq!(
        (told.duration_ms, told.begun.bytes, sent),
        (7, 26, vec![told.bytes_out])
    );
    assert_eq!(told.begun.frame, None);
    // What comes later of the job is no answer to the request.
    assert_eq!(said(&bench.deliver(vec![end(2)]).0), []);
    let refusal = |code| Err(Error::new(code, "no"));
    let effects = bench.frame(&socket, r#"{"id":"b","action":"work"}"#);
    let (id, _) = call(&effects);
    let effects = bench.replied(id, refusal(ErrorCode::QueueFull));
    assert_eq!(said(&effects), [("b", "work", 429, "QUEUE_FULL", false)]);
    for (id, frame, action, status, code) in [
        ("c", r#"{"id":"c","action":"none"}"#, "none", 404, "INVALID_ACTION"),
        ("d", r#"{"id":"d","action":"secret"}"#, "secret", 403, "FORBIDDEN"),
        ("e", r#"{"id":"e","action":7}"#, "", 422, "VALIDATION_ERROR"),
    ] {
        let effects = bench.frame(&socket, frame);
        assert_eq!(said(&effects), [(id, action, status, code, false)], "{frame}");
    }
    // Frames of other types are no requests.
    let effects = bench.frame(
        &socket,
        &format!(r#"{{"type":"cancel","id":"f","job_id":"{}"}}"#, job()),
    );
    let (id, _) = call(&effects);
    assert_eq!(said(&bench.replied(id, Ok(Reply::Done))), []);
}

#[test]
fn a_request_whose_socket_is_gone_is_told_all_the_same() {
    let (mut bench, socket) = bench(Logging::Frames);
    let effects = bench.frame(&socket, r#"{"id":"a","action":"work"}"#);
    let (id, _) = call(&effects);
    assert_eq!(bench.hub.closed(bench.now, &socket), []);
    let effects = bench.replied(id, acknowledged(1));
    assert_eq!(said(&effects), [("a", "work", 202, "", true)]);
    let told = logged(&effects)[0];
    assert_eq!(
        (told.bytes_out, told.begun.frame.as_deref()),
        (0, Some(r#"{"id":"a","action":"work"}"#))
    );
}

#[test]
fn a_hub_that_cannot_decide_yet_tells_of_what_it_sent_away() {
    let (mut bench, socket) = bench(Logging::Requests);
    let busy = || Error::new(ErrorCode::Unavailable, "starting");
    let effects = bench
        .hub
        .not_now(bench.now, &socket, r#"{"id":"a","action":"work"}"#, busy());
    assert_eq!(said(&effects), [("a", "work", 503, "UNAVAILABLE", false)]);
}

#[test]
fn nothing_is_told_where_the_log_is_off() {
    let (mut bench, socket) = bench(Logging::Off);
    for frame in [r#"{"id":"a","action":"none"}"#, r#"{"action":7}"#] {
        assert_eq!(said(&bench.frame(&socket, frame)), []);
    }
    let (id, _) = call(&bench.frame(&socket, r#"{"action":"work"}"#));
    assert_eq!(said(&bench.replied(id, acknowledged(1))), []);
}
