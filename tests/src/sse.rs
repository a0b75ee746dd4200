//! Server-Sent Events of a job, checked like every other stream.

use std::io::{BufRead, BufReader};
use std::sync::Arc;

use serde_json::Value;

use crate::history::{Observer, Stream};
use crate::http;

/// A stream of one job's events that is being read.
pub struct Events {
    lines: Box<dyn BufRead + Send>,
    stream: Stream,
    observer: Arc<Observer>,
}

impl Events {
    /// Opens the events of `job`, after the event `last` where there is one.
    ///
    /// # Panics
    /// Where the answer is no event stream.
    pub fn open(client: &http::Client, observer: &Arc<Observer>, job: &str, last: Option<u64>) -> Self {
        let last = last.map(|seq| seq.to_string());
        let mut headers = vec![("accept", "text/event-stream")];
        headers.extend(last.as_deref().map(|seq| ("last-event-id", seq)));
        let path = format!("/v1/jobs/{job}/events");
        let answer = client
            .open("GET", &path, &headers, &[])
            .expect("an answer to the event stream");
        assert_eq!(answer.status(), 200, "GET {path}");
        let kind = answer
            .headers()
            .get("content-type")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        assert!(
            kind.starts_with("text/event-stream"),
            "the media type of {path} is {kind}"
        );
        Self {
            lines: Box::new(BufReader::new(answer.into_body().into_reader())),
            stream: Stream::default(),
            observer: Arc::clone(observer),
        }
    }

    /// The next event; `None` at the end of the stream, or where it was cut.
    ///
    /// # Panics
    /// Where an event is no JSON, its `id` is not its `seq`, or it breaks a guarantee.
    pub fn next_event(&mut self) -> Option<Value> {
        let (mut id, mut data) = (None, String::new());
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end_matches(['\r', '\n']);
            if let Some(value) = line.strip_prefix("data:") {
                data.push_str(value.strip_prefix(' ').unwrap_or(value));
            } else if let Some(value) = line.strip_prefix("id:") {
                id = value.trim().parse::<u64>().ok();
            } else if line.is_empty() && !data.is_empty() {
                break;
            }
        }
        let event: Value = serde_json::from_str(&data).unwrap_or_else(|_| panic!("an event that is no JSON: {data}"));
        assert!(
            id.is_some() && id == event["seq"].as_u64(),
            "the id of an event is its seq: {id:?}, {event}"
        );
        self.stream.see(&self.observer, &event);
        Some(event)
    }

    /// Reads to the end of the job and gives every event.
    ///
    /// # Panics
    /// Where the stream ends before the job does.
    pub fn until_end(mut self) -> Vec<Value> {
        let mut events = Vec::new();
        while !self.stream.ended() {
            let event = self
                .next_event()
                .unwrap_or_else(|| panic!("the stream ended before the job: {events:#?}"));
            events.push(event);
        }
        events
    }
}
