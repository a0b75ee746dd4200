//! Reads the server's frames as a client must: a type or a field that it does not know is passed over.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::Seq;
use tidegate_protocol::time::UnixMs;

use crate::channels::{Cursor, Epoch, Message, Offset};
use crate::error::ApiError;
use crate::event::{Acknowledged, Completed, Progress, Retrying, Snapshot, Started, Written};
use crate::ids::JobId;
use crate::link::ChannelFrame;

/// What the server says of itself at the start of a connection.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Welcome {
    /// The connection's id.
    #[serde(default)]
    pub connection_id: String,
    /// The tenant of the token.
    #[serde(default)]
    pub tenant: String,
    /// The user of the token.
    #[serde(default)]
    pub user: String,
    /// What the server takes.
    #[serde(default)]
    pub limits: Limits,
    /// How often to send a ping. Milliseconds.
    #[serde(default = "heartbeat_ms")]
    pub heartbeat_ms: u64,
}

const fn heartbeat_ms() -> u64 {
    30_000
}

/// The limits that the server states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes of one frame.
    pub frame_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: tidegate_protocol::limits::FRAME_BYTES_MAX,
        }
    }
}

/// Said by the server just before a close that it starts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Goodbye {
    /// The close code that follows.
    #[serde(default)]
    pub code: u16,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// Whether to come back.
    #[serde(default = "yes")]
    pub reconnect: bool,
    /// Not before so many milliseconds.
    #[serde(default)]
    pub after_ms: Option<u64>,
}

const fn yes() -> bool {
    true
}

/// An `error` frame.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Failure {
    /// The job that ended, where this is a job's outcome.
    #[serde(default)]
    pub job_id: Option<JobId>,
    /// The event's place, where this is a job's outcome.
    #[serde(default)]
    pub seq: Option<Seq>,
    /// What failed.
    pub error: ApiError,
}

/// An answer to a request or an attach.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The answer, on the spot.
    Response(JsonText),
    /// The request is stored as a job.
    Acknowledgment(Acknowledged),
    /// An attempt got further.
    Progress(Progress),
    /// An attempt failed, another follows.
    Retrying(Retrying),
    /// An attempt wrote text.
    Output(Written),
    /// An attempt began.
    Started(Started),
    /// The job ended with a result.
    Complete(Completed),
    /// Where the job stands.
    Snapshot(Snapshot),
    /// The frame was refused, or the job failed.
    Error(Failure),
    /// A message is stored. What the frame says, as it came.
    Published(JsonText),
    /// Done.
    Ok,
}

impl Answer {
    /// The job that the answer speaks of.
    pub fn job_id(&self) -> Option<&JobId> {
        match self {
            Self::Response(_) | Self::Published(_) | Self::Ok => None,
            Self::Acknowledgment(event) => Some(&event.job_id),
            Self::Progress(event) => Some(&event.job_id),
            Self::Retrying(event) => Some(&event.job_id),
            Self::Output(event) => Some(&event.job_id),
            Self::Started(event) => Some(&event.job_id),
            Self::Complete(event) => Some(&event.job_id),
            Self::Snapshot(event) => Some(&event.job_id),
            Self::Error(failure) => failure.job_id.as_ref(),
        }
    }
}

/// A frame from the server.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerFrame {
    /// The first frame of a connection.
    Welcome(Welcome),
    /// The answer to a ping.
    Pong,
    /// An answer, with the id of the frame that it answers.
    Answer(Option<String>, Box<Answer>),
    /// A frame of a channel, with the id of the frame that it answers.
    Channel(Option<String>, Box<ChannelFrame>),
    /// The token expires soon.
    AuthExpiring(Option<UnixMs>),
    /// The server is about to close.
    Goodbye(Goodbye),
    /// A frame that this version does not know or cannot read.
    Unknown,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    request_id: Option<Cow<'a, str>>,
}

impl ServerFrame {
    /// Reads a text frame. Never fails: what cannot be read is [`ServerFrame::Unknown`].
    pub fn parse(text: &str) -> Self {
        Self::read(text).unwrap_or(Self::Unknown)
    }

    fn read(text: &str) -> Option<Self> {
        fn of<T: DeserializeOwned>(text: &str) -> Option<T> {
            serde_json::from_str(text).ok()
        }
        #[derive(Deserialize)]
        struct Response {
            data: JsonText,
        }
        #[derive(Deserialize)]
        struct Expiring {
            #[serde(default)]
            expires_at: Option<UnixMs>,
        }
        let head: Head<'_> = serde_json::from_str(text).ok()?;
        if let Some(frame) = channel_frame(head.kind.as_ref(), text) {
            return Some(Self::Channel(head.request_id.map(Cow::into_owned), Box::new(frame)));
        }
        let answer = match head.kind.as_ref() {
            "welcome" => return of(text).map(Self::Welcome),
            "pong" => return Some(Self::Pong),
            "goodbye" => return of(text).map(Self::Goodbye),
            "auth_expiring" => return of::<Expiring>(text).map(|frame| Self::AuthExpiring(frame.expires_at)),
            "response" => Answer::Response(of::<Response>(text)?.data),
            "acknowledgment" => Answer::Acknowledgment(of(text)?),
            "progress" => Answer::Progress(of(text)?),
            "retrying" => Answer::Retrying(of(text)?),
            "output" => Answer::Output(of(text)?),
            "started" => Answer::Started(of(text)?),
            "complete" => Answer::Complete(of(text)?),
            "snapshot" => Answer::Snapshot(of(text)?),
            "error" => Answer::Error(of(text)?),
            "published" => Answer::Published(JsonText::parse(text)?),
            "ok" => Answer::Ok,
            _ => return None,
        };
        Some(Self::Answer(head.request_id.map(Cow::into_owned), Box::new(answer)))
    }
}

/// Reads a frame of a channel; `None`: it is none, or cannot be read.
fn channel_frame(kind: &str, text: &str) -> Option<ChannelFrame> {
    #[derive(Deserialize)]
    struct Subscribed {
        channel: String,
        epoch: Epoch,
        offset: Offset,
        #[serde(default)]
        recovered: bool,
    }
    #[derive(Deserialize)]
    struct Unsubscribed {
        channel: String,
        error: ApiError,
    }
    #[derive(Deserialize)]
    struct OfChannel {
        channel: String,
    }
    let frame = match kind {
        "subscribed" => {
            let Subscribed {
                channel,
                epoch,
                offset,
                recovered,
            } = serde_json::from_str(text).ok()?;
            let at = Cursor { epoch, offset };
            ChannelFrame::Subscribed { channel, at, recovered }
        }
        "unsubscribed" => {
            let Unsubscribed { channel, error } = serde_json::from_str(text).ok()?;
            ChannelFrame::Unsubscribed { channel, error }
        }
        "message" => {
            let OfChannel { channel } = serde_json::from_str(text).ok()?;
            let message: Message = serde_json::from_str(text).ok()?;
            ChannelFrame::Message { channel, message }
        }
        _ => return None,
    };
    Some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tidegate_protocol::Fault;
    use tidegate_protocol::frames::{Limits as ServerLimits, ServerFrame as Sent};
    use tidegate_protocol::ids as server;

    fn request_id() -> server::RequestId {
        server::RequestId::parse("r1").unwrap()
    }

    fn job_id() -> server::JobId {
        server::JobId::new(server::JobNumber(7), 9)
    }

    #[test]
    fn what_the_server_writes_the_client_reads() {
        let welcome = Sent::Welcome {
            connection_id: server::ConnectionId::parse("con_1").unwrap(),
            protocol: "tidegate.v1",
            tenant: server::TenantId::parse("acme").unwrap(),
            user: server::UserId::parse("ada").unwrap(),
            server_time: UnixMs(0),
            limits: ServerLimits {
                frame_bytes: 1000,
                in_flight: 4,
            },
            heartbeat_ms: 25_000,
        };
        let ServerFrame::Welcome(read) = ServerFrame::parse(&welcome.encode()) else {
            panic!("no welcome")
        };
        assert_eq!((read.limits.frame_bytes, read.heartbeat_ms), (1000, 25_000));
        let error = tidegate_protocol::Error::invalid("m", vec![Fault::new("/a", "b", "c")]);
        let frames = [
            Sent::Response {
                request_id: request_id(),
                success: true,
                data: JsonText::parse("[1]").unwrap(),
            },
            Sent::Output {
                request_id: request_id(),
                job_id: job_id(),
                seq: Seq(3),
                attempt: 1,
                output: tidegate_protocol::event::Output {
                    stream: server::StreamName::parse("log").unwrap(),
                    offset: 7,
                    chunk: "a\nb".into(),
                },
                timestamp: UnixMs(0),
            },
            Sent::Acknowledgment {
                request_id: request_id(),
                job_id: job_id(),
                status: tidegate_protocol::event::JobState::Queued,
                message: "stored",
                deduplicated: false,
                run_at: None,
                seq: Seq(0),
            },
            Sent::Retrying {
                request_id: request_id(),
                job_id: job_id(),
                seq: Seq(2),
                attempt: 1,
                next_attempt_at: UnixMs(5),
                error: error.clone(),
            },
            Sent::Started {
                request_id: request_id(),
                job_id: job_id(),
                seq: Seq(2),
                attempt: 1,
                timestamp: UnixMs(5),
            },
            Sent::Error {
                request_id: Some(request_id()),
                job_id: Some(job_id()),
                seq: Some(Seq(3)),
                error,
                timestamp: UnixMs(5),
            },
        ];
        for frame in frames {
            let text = frame.encode();
            assert!(
                matches!(ServerFrame::parse(&text), ServerFrame::Answer(Some(id), _) if id == "r1"),
                "{text}"
            );
        }
    }

    #[test]
    fn unknown_fields_and_types_are_passed_over() {
        let text = r#"{"type":"progress","request_id":"r","job_id":"job_1","seq":4,"percentage":12.5,"mood":{"a":[]},"metadata":{"rows":3}}"#;
        let progress = match ServerFrame::parse(text) {
            ServerFrame::Answer(_, answer) => match *answer {
                Answer::Progress(progress) => progress,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        assert_eq!(progress.metadata.unwrap().as_str(), r#"{"rows":3}"#);
        for text in [
            r#"{"type":"usage","limit":4}"#,
            r#"{"type":"news"}"#,
            "{}",
            "nonsense",
            "[]",
        ] {
            assert_eq!(ServerFrame::parse(text), ServerFrame::Unknown, "{text}");
        }
    }

    #[test]
    fn a_result_of_null_is_not_an_absent_result() {
        let complete = |text| match ServerFrame::parse(text) {
            ServerFrame::Answer(_, answer) => match *answer {
                Answer::Complete(completed) => completed.result,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        let null = complete(r#"{"type":"complete","job_id":"j","seq":1,"result":null}"#);
        assert_eq!(null.unwrap().as_str(), "null");
        assert_eq!(
            complete(r#"{"type":"complete","job_id":"j","seq":1,"result_url":"/x"}"#),
            None
        );
    }

    proptest! {
        #[test]
        fn reading_a_frame_never_panics(text in "\\PC{0,200}") {
            let _ = ServerFrame::parse(&text);
        }
    }
}
