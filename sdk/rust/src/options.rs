//! What a caller can say about a request, and the request as the server reads it.

use std::collections::BTreeMap;

use serde::Serialize;
use tidegate_protocol::calls::queueing::Priority;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::frames::{Mode, OnDisconnect};
use tidegate_protocol::time::UnixMs;

/// When a request may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// At once.
    #[default]
    Now,
    /// Not before so many milliseconds from when the server takes it.
    After(u64),
    /// Not before this moment.
    At(UnixMs),
}

/// What a caller can say about a request beside its action and its payload.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CallOptions {
    /// How the answer is wanted.
    pub mode: Mode,
    /// The caller's name for the work: same key, same execution. A random one is sent where this is absent.
    pub idempotency_key: Option<String>,
    /// How soon it is wanted where it has to wait; as its action says where this is absent.
    pub priority: Option<Priority>,
    /// How long one attempt may take. Milliseconds.
    pub timeout_ms: Option<u64>,
    /// How long the job may wait for its first attempt. Milliseconds.
    pub queue_timeout_ms: Option<u64>,
    /// When it may start.
    pub start: Start,
    /// The caller's own notes on it.
    pub metadata: BTreeMap<String, String>,
    /// The caller's trace (W3C `traceparent`).
    pub traceparent: Option<String>,
    /// The URL of an endpoint that is told of the job's end, where the action lets requests name one.
    pub on_end: Option<String>,
    /// What becomes of the job where nobody follows it any more; as its action says where this is absent.
    pub on_disconnect: Option<OnDisconnect>,
}

/// Who is told of the job's end.
#[derive(Debug, Clone, Serialize)]
struct OnEnd<'a> {
    url: &'a str,
}

/// A `request` frame, or the body of `POST /v1/requests`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Request<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    action: &'a str,
    payload: &'a JsonText,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: &'a BTreeMap<String, String>,
    mode: Mode,
    idempotency_key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<Priority>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_at: Option<UnixMs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_end: Option<OnEnd<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_disconnect: Option<OnDisconnect>,
}

impl<'a> Request<'a> {
    /// The request `id` to run `action`, with the key `key`.
    pub fn new(id: &'a str, action: &'a str, key: &'a str, payload: &'a JsonText, options: &'a CallOptions) -> Self {
        let (delay_ms, run_at) = match options.start {
            Start::Now => (None, None),
            Start::After(ms) => (Some(ms), None),
            Start::At(moment) => (None, Some(moment)),
        };
        Self {
            kind: "request",
            id,
            action,
            payload,
            metadata: &options.metadata,
            mode: options.mode,
            idempotency_key: key,
            priority: options.priority,
            timeout_ms: options.timeout_ms,
            queue_timeout_ms: options.queue_timeout_ms,
            delay_ms,
            run_at,
            traceparent: options.traceparent.as_deref(),
            on_end: options.on_end.as_deref().map(|url| OnEnd { url }),
            on_disconnect: options.on_disconnect,
        }
    }

    /// The request as JSON.
    pub fn encode(&self) -> String {
        // Text keys and finite numbers only, so that this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_protocol::frames::{ClientFrame, Start as Read};

    #[test]
    fn what_the_client_writes_the_server_reads() {
        let payload = JsonText::parse(r#"{"a":1}"#).unwrap();
        let options = CallOptions {
            mode: Mode::Async,
            priority: Some(Priority::Low),
            timeout_ms: Some(5),
            queue_timeout_ms: Some(7),
            start: Start::After(10),
            metadata: BTreeMap::from([("k".into(), "v".into())]),
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
            on_end: Some("https://hooks.example.com/x".into()),
            on_disconnect: Some(OnDisconnect::Cancel),
            ..CallOptions::default()
        };
        let text = Request::new("r1", "core.echo", "key", &payload, &options).encode();
        let Ok(ClientFrame::Request(request)) = ClientFrame::parse(&text) else {
            panic!("{text}")
        };
        assert_eq!(request.action.as_str(), "core.echo");
        assert_eq!(request.idempotency_key.unwrap().as_str(), "key");
        assert_eq!((request.mode, request.start), (Mode::Async, Read::After(10)));
        assert_eq!(request.priority, Some(Priority::Low));
        assert_eq!((request.timeout_ms, request.queue_timeout_ms), (Some(5), Some(7)));
        assert_eq!(request.on_end.as_deref(), Some("https://hooks.example.com/x"));
        assert_eq!(request.on_disconnect, Some(OnDisconnect::Cancel));
        assert_eq!(request.payload.unwrap().get(), r#"{"a":1}"#);
    }
}
