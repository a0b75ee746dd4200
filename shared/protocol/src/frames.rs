//! The frames on the socket: what a client may send, and what it is sent.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorCode};
use crate::event::{Event, Happening, JobState, JsonText, Payload, Progress, Snapshot};
use crate::fields::Fields;
use crate::ids::{ActionName, ConnectionId, IdempotencyKey, JobId, RequestId, Seq, TenantId, TraceParent, UserId};
use crate::limits::{
    DELAY_MS_MAX, FRAME_BYTES_MAX, ID_CHARS_MAX, METADATA_ENTRIES_MAX, METADATA_VALUE_BYTES_MAX, TIMEOUT_MS_MAX,
};
use crate::time::UnixMs;

/// The subprotocol's name.
pub const PROTOCOL: &str = "tidegate.v1";
/// The keep-alive of a client, to the letter. The platform answers it without waking the object.
pub const PING: &str = r#"{"type":"ping"}"#;
/// The answer to [`PING`], to the letter.
pub const PONG: &str = r#"{"type":"pong"}"#;

/// How a request wants its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// As the action is declared; an action declared `auto` runs at once and turns into a job at its deadline.
    #[default]
    Auto,
    /// On the spot.
    Sync,
    /// An acknowledgment now, the outcome later.
    Async,
}

/// When a job may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At once.
    Now,
    /// Not before so many milliseconds from now.
    After(u64),
    /// Not before this moment.
    At(UnixMs),
}

/// A request to run an action: a `request` frame, or the body of `POST /v1/requests`.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The client's id for it; made by the server where the client sent none.
    pub id: Option<RequestId>,
    /// What to run.
    pub action: ActionName,
    /// Its input.
    pub payload: Option<&'a RawValue>,
    /// The client's own notes on it.
    pub metadata: BTreeMap<String, String>,
    /// How the answer is wanted.
    pub mode: Mode,
    /// The client's name for the work: same key, same execution.
    pub idempotency_key: Option<IdempotencyKey>,
    /// How long one attempt may take, shortened from the action's own limit. Milliseconds.
    pub timeout_ms: Option<u64>,
    /// When it may start.
    pub start: Start,
    /// The caller's trace.
    pub traceparent: Option<TraceParent>,
}

/// Which job an `attach` means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The job with this id.
    Job(JobId),
    /// The job of this action that was requested with this key.
    Key(ActionName, IdempotencyKey),
}

/// A frame from a client.
#[derive(Debug, Clone)]
pub enum ClientFrame<'a> {
    /// Run an action.
    Request(Request<'a>),
    /// Follow a job, from the events after `after`.
    Attach {
        /// The client's id for this frame.
        id: Option<RequestId>,
        /// The job.
        target: Target,
        /// The last event the client has.
        after: Option<Seq>,
    },
    /// Stop following a job.
    Detach {
        /// The client's id for this frame.
        id: Option<RequestId>,
        /// The job.
        job: JobId,
    },
    /// End a job.
    Cancel {
        /// The client's id for this frame.
        id: Option<RequestId>,
        /// The job.
        job: JobId,
    },
    /// Replace the token before it expires.
    Auth {
        /// The client's id for this frame.
        id: Option<RequestId>,
        /// The new token.
        token: String,
    },
}

/// What is wrong with a frame, and the request it names, where that could be read.
#[derive(Debug, Clone)]
pub struct BadFrame {
    /// The frame's id, where it could be read.
    pub id: Option<RequestId>,
    /// All its faults.
    pub error: Error,
}

const TYPES: [&str; 10] = [
    "request",
    "ping",
    "attach",
    "detach",
    "cancel",
    "subscribe",
    "unsubscribe",
    "publish",
    "presence",
    "auth",
];

/// The fields of a `request` frame, and of the body of `POST /v1/requests`.
pub const REQUEST_FIELDS: [&str; 12] = [
    "type",
    "id",
    "action",
    "payload",
    "metadata",
    "mode",
    "idempotency_key",
    "priority",
    "timeout_ms",
    "delay_ms",
    "run_at",
    "traceparent",
];

impl<'a> ClientFrame<'a> {
    /// Reads a text frame. The keep-alive is answered by the platform and never reaches this.
    ///
    /// Errors: `PAYLOAD_TOO_LARGE` over the frame limit; `VALIDATION_ERROR` with every fault of the frame;
    /// `NOT_IMPLEMENTED` for a type that the protocol names and that is not there yet.
    pub fn parse(text: &'a str) -> Result<Self, BadFrame> {
        if text.len() > FRAME_BYTES_MAX {
            return Err(BadFrame {
                id: None,
                error: frame_too_large(text.len()),
            });
        }
        let mut fields = Fields::split(text).map_err(|error| BadFrame { id: None, error })?;
        let id = fields.optional_text("id", RequestId::EXPECTED, RequestId::parse);
        let kind = match fields.raw("type") {
            None => Some("request"),
            Some(_) => fields.optional_text("type", "a frame type", |text| TYPES.into_iter().find(|t| *t == text)),
        };
        let Some(kind) = kind else {
            if let (Some(fault), Some(raw)) = (fields.faults.pop(), fields.raw("type")) {
                fields.faults.push(fault.suggest(raw.get().trim_matches('"'), TYPES));
            }
            let error = fields.finish("The frame has no known type.").err();
            return Err(BadFrame {
                id,
                error: error.unwrap_or_else(Error::not_found),
            });
        };
        let bad = |error| BadFrame { id: id.clone(), error };
        match kind {
            "request" => Request::read(fields, id.clone()).map(Self::Request).map_err(bad),
            "attach" => Self::read_attach(fields, id.clone()).map_err(bad),
            "detach" | "cancel" => {
                fields.refuse_others(&["type", "id", "job_id"]);
                let job = fields.required_text("job_id", "a job id", JobId::parse);
                fields.finish("The frame cannot be used.").map_err(bad)?;
                let job = job.ok_or_else(Error::not_found).map_err(bad)?;
                Ok(if kind == "cancel" {
                    Self::Cancel { id, job }
                } else {
                    Self::Detach { id, job }
                })
            }
            "auth" => {
                fields.refuse_others(&["type", "id", "token"]);
                let token = fields.required_text("token", "a token", |text| Some(String::from(text)));
                fields.finish("The frame cannot be used.").map_err(bad)?;
                Ok(Self::Auth {
                    id,
                    token: token.unwrap_or_default(),
                })
            }
            "ping" => Err(bad(Error::new(
                ErrorCode::ValidationError,
                format!("A ping is exactly the text {PING}, with nothing else in it."),
            ))),
            other => Err(bad(Error::new(
                ErrorCode::NotImplemented,
                format!("The frame type `{other}` is part of the protocol, but not there yet."),
            ))),
        }
    }

    fn read_attach(mut fields: Fields<'a>, id: Option<RequestId>) -> Result<Self, Error> {
        fields.refuse_others(&["type", "id", "job_id", "action", "idempotency_key", "after"]);
        let after = fields
            .optional_number("after", "a seq: a whole number from 0", 0, 1 << 53)
            .map(Seq);
        let target = if fields.raw("job_id").is_some() {
            if fields.raw("action").is_some() || fields.raw("idempotency_key").is_some() {
                fields.fault("job_id", "either job_id, or action and idempotency_key", "both");
            }
            fields
                .optional_text("job_id", "a job id", JobId::parse)
                .map(Target::Job)
        } else {
            let action = fields.required_text("action", ActionName::EXPECTED, ActionName::parse);
            let key = fields.required_text("idempotency_key", IdempotencyKey::EXPECTED, IdempotencyKey::parse);
            action.zip(key).map(|(action, key)| Target::Key(action, key))
        };
        fields.finish("The frame cannot be used.")?;
        target
            .map(|target| Self::Attach { id, target, after })
            .ok_or_else(Error::not_found)
    }
}

/// The error for a frame of `bytes` bytes.
pub fn frame_too_large(bytes: usize) -> Error {
    Error::new(
        ErrorCode::PayloadTooLarge,
        format!("A frame holds at most {FRAME_BYTES_MAX} bytes; this one has {bytes}. Put large input into an object."),
    )
}

impl<'a> Request<'a> {
    /// Reads the body of `POST /v1/requests`: a `request` frame, whose `type` may be missing.
    ///
    /// Errors: as [`ClientFrame::parse`].
    pub fn parse(text: &'a str) -> Result<Self, Error> {
        let mut fields = Fields::split(text)?;
        let id = fields.optional_text("id", RequestId::EXPECTED, RequestId::parse);
        fields.optional_text("type", "`request`", |text| (text == "request").then_some(()));
        Self::read(fields, id)
    }

    fn read(mut fields: Fields<'a>, id: Option<RequestId>) -> Result<Self, Error> {
        fields.refuse_others(&REQUEST_FIELDS);
        let action = fields.required_text("action", ActionName::EXPECTED, ActionName::parse);
        let mode = fields.optional_text("mode", "`auto`, `sync` or `async`", |text| match text {
            "auto" => Some(Mode::Auto),
            "sync" => Some(Mode::Sync),
            "async" => Some(Mode::Async),
            _ => None,
        });
        let key = fields.optional_text("idempotency_key", IdempotencyKey::EXPECTED, IdempotencyKey::parse);
        let priority = fields.optional_text("priority", "`high`, `normal` or `low`", |text| match text {
            "high" | "low" => Some(false),
            "normal" => Some(true),
            _ => None,
        });
        let timeout_ms = fields.optional_number(
            "timeout_ms",
            "milliseconds from 1 to 86400000 (a day)",
            1,
            TIMEOUT_MS_MAX,
        );
        let start = read_start(&mut fields);
        let traceparent = fields.optional_text("traceparent", TraceParent::EXPECTED, TraceParent::parse);
        let metadata = read_metadata(&mut fields);
        let payload = fields.raw("payload");
        fields.finish("The request cannot be used.")?;
        if priority == Some(false) {
            return Err(Error::new(
                ErrorCode::NotImplemented,
                "Priorities other than `normal` are not there yet.",
            ));
        }
        let action = action.ok_or_else(Error::not_found)?;
        Ok(Self {
            id,
            action,
            payload,
            metadata,
            mode: mode.unwrap_or_default(),
            idempotency_key: key,
            timeout_ms,
            start,
            traceparent,
        })
    }
}

fn read_start(fields: &mut Fields<'_>) -> Start {
    let after = fields.optional_number("delay_ms", "milliseconds from 0 to ten years", 0, DELAY_MS_MAX);
    let at = fields.optional_text("run_at", "a time as RFC 3339 text", UnixMs::parse);
    match (after, at) {
        (Some(_), Some(_)) => {
            fields.fault("run_at", "either delay_ms or run_at", "both");
            Start::Now
        }
        (Some(0) | None, None) => Start::Now,
        (Some(ms), None) => Start::After(ms),
        (None, Some(at)) => Start::At(at),
    }
}

fn read_metadata(fields: &mut Fields<'_>) -> BTreeMap<String, String> {
    let Some(raw) = fields.raw("metadata") else {
        return BTreeMap::new();
    };
    let Ok(entries) = serde_json::from_str::<BTreeMap<String, &RawValue>>(raw.get()) else {
        fields.fault("metadata", "an object of strings", raw.get());
        return BTreeMap::new();
    };
    if entries.len() > METADATA_ENTRIES_MAX {
        fields.fault(
            "metadata",
            format!("at most {METADATA_ENTRIES_MAX} entries"),
            &format!("{}", entries.len()),
        );
    }
    let mut metadata = BTreeMap::new();
    for (name, raw) in entries {
        let pointer = format!("metadata/{}", crate::fault::escape_pointer(&name));
        if name.is_empty() || name.chars().count() > ID_CHARS_MAX {
            let fault = crate::Fault::new(format!("/{pointer}"), "a name of 1 to 128 characters", &name);
            fields.faults.push(fault);
        }
        match serde_json::from_str::<String>(raw.get()) {
            Ok(value) if value.len() <= METADATA_VALUE_BYTES_MAX => {
                metadata.insert(name, value);
            }
            _ => {
                let expected = format!("a string of at most {METADATA_VALUE_BYTES_MAX} bytes");
                fields
                    .faults
                    .push(crate::Fault::new(format!("/{pointer}"), expected, raw.get()));
            }
        }
    }
    metadata
}

/// The limits that a client is told at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Limits {
    /// Bytes of one frame.
    pub frame_bytes: usize,
    /// Jobs followed and requests under way at once.
    pub in_flight: usize,
}

/// A frame to a client.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame {
    /// The first frame of a connection.
    Welcome {
        /// The connection's id.
        connection_id: ConnectionId,
        /// The protocol spoken: `tidegate.v1`.
        protocol: &'static str,
        /// The tenant of the token.
        tenant: TenantId,
        /// The user of the token.
        user: UserId,
        /// The server's clock.
        server_time: UnixMs,
        /// What the server takes.
        limits: Limits,
        /// How often to send a ping. Milliseconds.
        heartbeat_ms: u64,
    },
    /// The answer to a request, on the spot.
    Response {
        /// The request.
        request_id: RequestId,
        /// Always true.
        success: bool,
        /// What the action gave.
        data: JsonText,
    },
    /// The request is stored as a job.
    Acknowledgment {
        /// The request.
        request_id: RequestId,
        /// The job.
        job_id: JobId,
        /// The job's state now.
        status: JobState,
        /// A sentence for a person.
        message: &'static str,
        /// Whether the job was there already, by its idempotency key.
        deduplicated: bool,
        /// Not before this moment.
        #[serde(skip_serializing_if = "Option::is_none")]
        run_at: Option<UnixMs>,
        /// The latest event of the job.
        seq: Seq,
    },
    /// An attempt got further.
    Progress {
        /// The request or attach that this answers.
        request_id: RequestId,
        /// The job.
        job_id: JobId,
        /// The event's place.
        seq: Seq,
        /// The attempt.
        attempt: u32,
        /// 0 to 100, and what else is known.
        #[serde(flatten)]
        progress: Progress,
        /// When it was stored.
        timestamp: UnixMs,
    },
    /// An attempt failed, another follows.
    Retrying {
        /// The request or attach that this answers.
        request_id: RequestId,
        /// The job.
        job_id: JobId,
        /// The event's place.
        seq: Seq,
        /// The attempt that failed.
        attempt: u32,
        /// Not before then.
        next_attempt_at: UnixMs,
        /// Why it failed.
        error: Error,
    },
    /// The job ended with a result.
    Complete {
        /// The request or attach that this answers.
        request_id: RequestId,
        /// The job.
        job_id: JobId,
        /// The event's place.
        seq: Seq,
        /// The attempt.
        attempt: u32,
        /// The result, where it is small.
        #[serde(skip_serializing_if = "Option::is_none")]
        result: Option<JsonText>,
        /// Where the result is, where it is large.
        #[serde(skip_serializing_if = "Option::is_none")]
        result_url: Option<String>,
        /// When it was stored.
        timestamp: UnixMs,
    },
    /// Where a job stands.
    Snapshot {
        /// The attach that this answers.
        request_id: RequestId,
        /// The job.
        job_id: JobId,
        /// The latest event that this contains.
        seq: Seq,
        /// The job's state.
        status: JobState,
        /// How far it is.
        #[serde(flatten)]
        progress: Progress,
        /// Whether stored events after the client's cursor are no longer kept.
        gap: bool,
    },
    /// Something failed.
    Error {
        /// The request that failed, where it could be read.
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<RequestId>,
        /// The job that ended.
        #[serde(skip_serializing_if = "Option::is_none")]
        job_id: Option<JobId>,
        /// The event's place, where it is a job's.
        #[serde(skip_serializing_if = "Option::is_none")]
        seq: Option<Seq>,
        /// What failed.
        error: Error,
        /// When.
        timestamp: UnixMs,
    },
    /// Done.
    Ok {
        /// The frame that this answers.
        request_id: RequestId,
    },
    /// The token expires soon; send another with `auth`.
    AuthExpiring {
        /// When it expires.
        expires_at: UnixMs,
    },
    /// The server is about to close.
    Goodbye {
        /// The close code that follows.
        code: u16,
        /// Why.
        reason: &'static str,
        /// Whether to come back.
        reconnect: bool,
        /// Not before so many milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        after_ms: Option<u64>,
    },
}

impl ServerFrame {
    /// The frame's text.
    pub fn encode(&self) -> String {
        // Every variant has text keys and finite numbers, so that this cannot fail; the fallback is an honest frame.
        serde_json::to_string(self).unwrap_or_else(|_| {
            String::from(r#"{"type":"error","error":{"code":"INTERNAL_ERROR","message":"A frame could not be written.","retryable":true}}"#)
        })
    }

    /// The frame for `event` of `job`, as the answer to `request_id`.
    pub fn event(request_id: RequestId, job_id: JobId, event: &Event) -> Self {
        let Event {
            seq,
            attempt,
            at: timestamp,
            what,
        } = event;
        let (seq, attempt, timestamp) = (*seq, *attempt, *timestamp);
        match what {
            Happening::Progress(progress) => Self::Progress {
                request_id,
                job_id,
                seq,
                attempt,
                progress: progress.clone(),
                timestamp,
            },
            Happening::Retrying { next_attempt_at, error } => {
                let (next_attempt_at, error) = (*next_attempt_at, error.clone());
                Self::Retrying {
                    request_id,
                    job_id,
                    seq,
                    attempt,
                    next_attempt_at,
                    error,
                }
            }
            Happening::Completed { result } => {
                let (result, result_url) = match result {
                    Payload::Inline(value) => (Some(value.clone()), None),
                    Payload::Stored { .. } => (None, Some(result_url(job_id))),
                };
                Self::Complete {
                    request_id,
                    job_id,
                    seq,
                    attempt,
                    result,
                    result_url,
                    timestamp,
                }
            }
            Happening::Failed { error } => Self::Error {
                request_id: Some(request_id),
                job_id: Some(job_id),
                seq: Some(seq),
                error: error.clone(),
                timestamp,
            },
        }
    }

    /// The frame for a snapshot of `job`, as the answer to `request_id`.
    pub fn snapshot(request_id: RequestId, job_id: JobId, snapshot: Snapshot) -> Self {
        let Snapshot {
            seq,
            status,
            progress,
            gap,
            ..
        } = snapshot;
        Self::Snapshot {
            request_id,
            job_id,
            seq,
            status,
            progress,
            gap,
        }
    }
}

/// Where the result of `job` can be read.
pub fn result_url(job: JobId) -> String {
    format!("/v1/jobs/{job}/result")
}

/// How a connection ends, and whether the client should come back (3000-3499) or stop (3500-3999).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CloseCode {
    /// Nothing more to say.
    Normal = 1000,
    /// Frames over the limit, repeatedly.
    FrameTooBig = 1009,
    /// The server restarts.
    Restart = 1012,
    /// The client does not read.
    SlowConsumer = 3008,
    /// The token expired; refresh it first.
    TokenExpired = 3011,
    /// The token is not good.
    Unauthorized = 3500,
    /// The token may not do this.
    Forbidden = 3501,
    /// The tenant is suspended.
    TenantSuspended = 3502,
    /// The client does not speak the protocol, repeatedly.
    ProtocolError = 3503,
}

impl CloseCode {
    /// The number on the wire.
    pub const fn number(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::FrameTooBig => 1009,
            Self::Restart => 1012,
            Self::SlowConsumer => 3008,
            Self::TokenExpired => 3011,
            Self::Unauthorized => 3500,
            Self::Forbidden => 3501,
            Self::TenantSuspended => 3502,
            Self::ProtocolError => 3503,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            "mode":"async","idempotency_key":"key 1","priority":"normal","timeout_ms":5000,"delay_ms":10,
            "traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}"#;
        let Ok(ClientFrame::Request(request)) = ClientFrame::parse(text) else {
            panic!("no request")
        };
        assert_eq!(request.id.unwrap().as_str(), "r1");
        assert_eq!(request.payload.unwrap().get(), r#"{"a":[1,2]}"#);
        assert_eq!(request.mode, Mode::Async);
        assert_eq!(request.start, Start::After(10));
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
        let text = r#"{"id":5,"action":"a b","mode":"later","timeout_ms":-1,"delay_ms":1,"run_at":"2026-01-01T00:00:00Z","metadata":{"x":1},"paylod":1}"#;
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
            (r#"{"type":"subscribe","channel":"c"}"#, ErrorCode::NotImplemented),
            (r#"{"type":"publish"}"#, ErrorCode::NotImplemented),
            (r#"{"action":"a","priority":"high"}"#, ErrorCode::NotImplemented),
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
}
