//! Server-Sent Events of a channel, read as the HTML Standard says, and checked like every other stream: in order, without a gap that
//! is not told.

use std::io::{BufRead, BufReader};

use serde_json::Value;

use crate::http::{Answer, Client};

/// A stream of a channel's messages that is being read.
pub struct ChannelEvents {
    lines: Box<dyn BufRead + Send>,
    /// The id of the latest event that had one: what a client comes back with.
    pub last_id: String,
    /// How long the server asks a client to wait before it comes back. Milliseconds.
    pub retry_ms: Option<u64>,
    /// Comments so far.
    pub comments: u64,
    at: Option<(String, u64)>,
}

/// An event.
#[derive(Debug)]
pub struct Event {
    /// Its name.
    pub kind: String,
    /// What it says.
    pub data: Value,
}

impl ChannelEvents {
    /// Opens `path` (`/v1/channels/{channel}/events`), behind the id `last` where there is one.
    ///
    /// # Panics
    /// Where no answer comes.
    pub fn try_open(client: &Client, path: &str, last: Option<&str>) -> Result<Self, Box<Answer>> {
        let mut headers = vec![("accept", "text/event-stream")];
        headers.extend(last.map(|id| ("last-event-id", id)));
        let answer = client
            .open("GET", path, &headers, &[])
            .expect("an answer to the event stream");
        if answer.status() != 200 {
            let (parts, body) = answer.into_parts();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut body.into_reader(), &mut bytes).expect("a whole answer");
            return Err(Box::new(Answer {
                status: parts.status.as_u16(),
                headers: parts.headers,
                body: bytes,
            }));
        }
        let header = |name: &str| {
            answer
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        assert!(
            header("content-type").starts_with("text/event-stream"),
            "{}",
            header("content-type")
        );
        assert_eq!(header("cache-control"), "no-store");
        Ok(Self {
            lines: Box::new(BufReader::new(answer.into_body().into_reader())),
            last_id: last.unwrap_or_default().to_owned(),
            retry_ms: None,
            comments: 0,
            at: None,
        })
    }

    /// The same, where it is not refused, and the `subscribed` event with which it begins.
    ///
    /// # Panics
    /// Where it is refused, or begins with anything else.
    pub fn open(client: &Client, path: &str, last: Option<&str>) -> (Self, Value) {
        let mut events =
            Self::try_open(client, path, last).unwrap_or_else(|answer| panic!("{path}: {}", answer.text()));
        let first = events.next_event().expect("the stream begins");
        assert_eq!(first.kind, "subscribed", "{first:?}");
        assert!(events.retry_ms.is_some(), "the stream says when to come back");
        if last.is_some() && first.data["recovered"] == true {
            assert_eq!(
                last,
                Some(events.last_id.as_str()),
                "a recovered cursor stays where it is"
            );
        }
        (events, first.data)
    }

    /// The next event; `None` at the end of the stream, or where it was cut.
    ///
    /// # Panics
    /// Where its data is no JSON, its `id` is not its place, or a message is out of order.
    pub fn next_event(&mut self) -> Option<Event> {
        let (mut kind, mut data, mut id) = (String::new(), String::new(), None);
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end_matches(['\r', '\n']);
            if line.is_empty() && !data.is_empty() {
                break;
            }
            if line.starts_with(':') {
                self.comments += 1;
            }
            let (field, value) = line.split_once(": ").unwrap_or((line, ""));
            match field {
                "id" => id = Some(value.to_owned()),
                "event" => value.clone_into(&mut kind),
                "data" => data.push_str(value),
                "retry" => self.retry_ms = value.parse().ok(),
                _ => {}
            }
        }
        let data: Value = serde_json::from_str(&data).unwrap_or_else(|_| panic!("an event that is no JSON: {data}"));
        assert_eq!(data["type"], kind.as_str(), "{data}");
        if let (Some(epoch), Some(offset)) = (data["epoch"].as_str(), data["offset"].as_u64()) {
            assert_eq!(id, Some(format!("{epoch}:{offset}")), "{data}");
            if kind == "message" {
                let expected = self.at.as_ref().map(|(epoch, offset)| (epoch.as_str(), offset + 1));
                assert_eq!(Some((epoch, offset)), expected, "in order and without a gap: {data}");
            }
            self.at = Some((epoch.to_owned(), offset));
        }
        if let Some(id) = id {
            self.last_id = id;
        }
        Some(Event { kind, data })
    }

    /// The next message.
    ///
    /// # Panics
    /// Where another event comes, or the stream ends.
    pub fn message(&mut self) -> Value {
        let event = self.next_event().expect("the stream goes on");
        assert_eq!(event.kind, "message", "{event:?}");
        event.data
    }
}
