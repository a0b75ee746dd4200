//! What a client may send: untrusted text, read whole, every fault of it reported at once.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::PING;
use crate::SortedMap;
use crate::calls::queueing::Priority;
use crate::channels::{Cursor, Publication};
use crate::error::{Error, ErrorCode};
use crate::fault::Fault;
use crate::fields::Fields;
use crate::http::{FinishBody, LeaseBody, ReportBody};
use crate::ids::{ActionName, ChannelName, IdempotencyKey, JobId, PoolName, RequestId, Seq, TraceParent};
use crate::limits::{
    DELAY_MS_MAX, FRAME_BYTES_MAX, ID_CHARS_MAX, METADATA_ENTRIES_MAX, METADATA_VALUE_BYTES_MAX, QUEUE_TIMEOUT_MS_MAX,
    TIMEOUT_MS_MAX,
};
use crate::presence::Attend;
use crate::time::UnixMs;

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

/// What becomes of a job that nobody follows any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnDisconnect {
    /// It goes on.
    #[default]
    Continue,
    /// It is cancelled, once nobody has followed it for the action's `disconnect_grace`.
    Cancel,
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
    pub metadata: SortedMap<String, String>,
    /// How the answer is wanted.
    pub mode: Mode,
    /// The client's name for the work: same key, same execution.
    pub idempotency_key: Option<IdempotencyKey>,
    /// How soon it is wanted; `None`: as the action says.
    pub priority: Option<Priority>,
    /// How long one attempt may take, shortened from the action's own limit. Milliseconds.
    pub timeout_ms: Option<u64>,
    /// How long the job may wait for its first attempt, shortened from the action's own limit. Milliseconds.
    pub queue_timeout_ms: Option<u64>,
    /// When it may start.
    pub start: Start,
    /// The caller's trace.
    pub traceparent: Option<TraceParent>,
    /// The URL of an endpoint that is told of the job's end, where the action allows it.
    pub on_end: Option<String>,
    /// What becomes of the job where nobody follows it any more; `None`: as the action says.
    pub on_disconnect: Option<OnDisconnect>,
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
    /// Follow a channel, from the messages after `after`.
    Subscribe {
        /// The client's id for this frame.
        id: Option<RequestId>,
        /// The channel.
        channel: ChannelName,
        /// Where the client was.
        after: Option<Cursor>,
        /// What it wants of presence.
        presence: Option<Attend>,
    },
    /// Who is in a channel.
    Presence {
        /// The client's id for this frame.
        id: Option<RequestId>,
        /// The channel.
        channel: ChannelName,
    },
    /// Stop following a channel.
    Unsubscribe {
        /// The client's id for this frame.
        id: Option<RequestId>,
        /// The channel.
        channel: ChannelName,
    },
    /// Publish a message.
    Publish {
        /// The client's id for this frame.
        id: Option<RequestId>,
        /// The channel.
        channel: ChannelName,
        /// The message.
        publication: Publication,
    },
    /// Replace the token before it expires.
    Auth {
        /// The client's id for this frame.
        id: Option<RequestId>,
        /// The new token.
        token: String,
    },
    /// Give a worker jobs of a pool.
    Lease {
        /// The client's id for this frame.
        id: Option<RequestId>,
        /// The pool.
        pool: PoolName,
        /// What the worker asks for.
        body: LeaseBody,
    },
    /// Something that an attempt says which a worker makes.
    Attempt {
        /// The client's id for this frame.
        id: Option<RequestId>,
        /// The attempt's own token.
        attempt_token: String,
        /// What it says.
        said: AttemptSaid,
    },
}

/// What an attempt says that a worker makes.
#[derive(Debug, Clone, PartialEq)]
pub enum AttemptSaid {
    /// A sign of life, with progress or without.
    Report(ReportBody),
    /// How it ended.
    Finish(FinishBody),
}

impl ClientFrame<'_> {
    /// The client's id for this frame.
    pub fn id(&self) -> Option<&RequestId> {
        match self {
            Self::Request(request) => request.id.as_ref(),
            Self::Attach { id, .. }
            | Self::Detach { id, .. }
            | Self::Cancel { id, .. }
            | Self::Subscribe { id, .. }
            | Self::Unsubscribe { id, .. }
            | Self::Publish { id, .. }
            | Self::Presence { id, .. }
            | Self::Auth { id, .. }
            | Self::Lease { id, .. }
            | Self::Attempt { id, .. } => id.as_ref(),
        }
    }
}

/// What is wrong with a frame, and the request it names, where that could be read.
#[derive(Debug, Clone)]
pub struct BadFrame {
    /// The frame's id, where it could be read.
    pub id: Option<RequestId>,
    /// All its faults.
    pub error: Error,
}

impl BadFrame {
    fn new(id: Option<RequestId>, error: Error) -> Box<Self> {
        Box::new(Self { id, error })
    }
}

pub(super) const TYPES: [&str; 13] = [
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
    "lease",
    "report",
    "finish",
];

/// The fields of a `request` frame, and of the body of `POST /v1/requests`.
pub const REQUEST_FIELDS: [&str; 15] = [
    "type",
    "id",
    "action",
    "payload",
    "metadata",
    "mode",
    "idempotency_key",
    "priority",
    "timeout_ms",
    "queue_timeout_ms",
    "delay_ms",
    "run_at",
    "traceparent",
    "on_end",
    "on_disconnect",
];

impl<'a> ClientFrame<'a> {
    /// Reads a text frame. The keep-alive is answered by the platform and never reaches this.
    ///
    /// Errors: `PAYLOAD_TOO_LARGE` over the frame limit; `VALIDATION_ERROR` with every fault of the frame;
    /// `NOT_IMPLEMENTED` for a type that the protocol names and that is not there yet.
    pub fn parse(text: &'a str) -> Result<Self, Box<BadFrame>> {
        if text.len() > FRAME_BYTES_MAX {
            return Err(BadFrame::new(None, frame_too_large(text.len())));
        }
        let mut fields = Fields::split(text).map_err(|error| BadFrame::new(None, error))?;
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
            return Err(BadFrame::new(id, error.unwrap_or_else(Error::not_found)));
        };
        let bad = |error| BadFrame::new(id.clone(), error);
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
            "subscribe" | "unsubscribe" | "publish" | "presence" => {
                Self::read_channel(fields, id.clone(), kind).map_err(bad)
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
            "lease" => Self::read_lease(fields, id.clone()).map_err(bad),
            "report" | "finish" => Self::read_attempt(fields, id.clone(), kind).map_err(bad),
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

    fn read_channel(mut fields: Fields<'a>, id: Option<RequestId>, kind: &str) -> Result<Self, Error> {
        fields.refuse_others(match kind {
            "subscribe" => &["type", "id", "channel", "after", "presence"],
            "publish" => &["type", "id", "channel", "data", "idempotency_key"],
            _ => &["type", "id", "channel"],
        });
        let channel = fields.required_text("channel", ChannelName::EXPECTED, ChannelName::parse);
        let (mut after, mut presence, mut publication) = (None, None, None);
        match kind {
            "subscribe" => {
                after = Cursor::read(&mut fields, "after");
                presence = Attend::read(&mut fields);
            }
            "publish" => publication = Publication::read(&mut fields),
            _ => {}
        }
        fields.finish("The frame cannot be used.")?;
        let channel = channel.ok_or_else(Error::not_found)?;
        Ok(match (kind, publication) {
            ("subscribe", _) => Self::Subscribe {
                id,
                channel,
                after,
                presence,
            },
            ("presence", _) => Self::Presence { id, channel },
            (_, Some(publication)) => {
                publication.check_size()?;
                Self::Publish {
                    id,
                    channel,
                    publication,
                }
            }
            (_, None) => Self::Unsubscribe { id, channel },
        })
    }

    fn read_lease(mut fields: Fields<'a>, id: Option<RequestId>) -> Result<Self, Error> {
        fields.refuse_others(&["type", "id", "pool", "body"]);
        let pool = fields.required_text("pool", "the name of a pool", PoolName::parse);
        let body = read_body(&mut fields, LeaseBody::parse);
        fields.finish("The frame cannot be used.")?;
        let (pool, body) = pool.zip(body).ok_or_else(Error::not_found)?;
        Ok(Self::Lease { id, pool, body })
    }

    fn read_attempt(mut fields: Fields<'a>, id: Option<RequestId>, kind: &str) -> Result<Self, Error> {
        fields.refuse_others(&["type", "id", "attempt_token", "body"]);
        let token = fields.required_text("attempt_token", "the token of an attempt", |text| {
            Some(String::from(text))
        });
        let said = if kind == "report" {
            read_body(&mut fields, ReportBody::parse).map(AttemptSaid::Report)
        } else {
            read_body(&mut fields, FinishBody::parse).map(AttemptSaid::Finish)
        };
        fields.finish("The frame cannot be used.")?;
        let (attempt_token, said) = token.zip(said).ok_or_else(Error::not_found)?;
        Ok(Self::Attempt {
            id,
            attempt_token,
            said,
        })
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
        let priority = fields.optional_text("priority", "`high`, `normal` or `low`", Priority::parse);
        let timeout_ms = fields.optional_number(
            "timeout_ms",
            "milliseconds from 1 to 86400000 (a day)",
            1,
            TIMEOUT_MS_MAX,
        );
        let queue_timeout_ms = fields.optional_number(
            "queue_timeout_ms",
            "milliseconds from 1 to 2592000000 (30 days)",
            1,
            QUEUE_TIMEOUT_MS_MAX,
        );
        let start = read_start(&mut fields);
        let traceparent = fields.optional_text("traceparent", TraceParent::EXPECTED, TraceParent::parse);
        let on_end = read_on_end(&mut fields);
        let on_disconnect = fields.optional_text("on_disconnect", "`continue` or `cancel`", |text| match text {
            "continue" => Some(OnDisconnect::Continue),
            "cancel" => Some(OnDisconnect::Cancel),
            _ => None,
        });
        let metadata = read_metadata(&mut fields);
        let payload = fields.raw("payload");
        fields.finish("The request cannot be used.")?;
        let action = action.ok_or_else(Error::not_found)?;
        Ok(Self {
            id,
            action,
            payload,
            metadata,
            mode: mode.unwrap_or_default(),
            idempotency_key: key,
            priority,
            timeout_ms,
            queue_timeout_ms,
            start,
            traceparent,
            on_end,
            on_disconnect,
        })
    }
}

/// Reads the body that says when a job is to start: `delay_ms` or `run_at`.
///
/// Errors: `VALIDATION_ERROR` with every fault.
pub fn reschedule(text: &str) -> Result<Start, Error> {
    let mut fields = Fields::split(text)?;
    fields.refuse_others(&["delay_ms", "run_at"]);
    if fields.raw("delay_ms").is_none() && fields.raw("run_at").is_none() {
        fields
            .faults
            .push(Fault::new("", "one of `delay_ms` and `run_at`", "neither"));
    }
    let start = read_start(&mut fields);
    fields.finish("The body does not say when.")?;
    Ok(start)
}

/// Reads what stands in a frame as it would in the body of a call over HTTP; an absent one as an empty one.
fn read_body<T>(fields: &mut Fields<'_>, parse: impl FnOnce(&str) -> Result<T, Error>) -> Option<T> {
    match parse(fields.raw("body").map_or("{}", RawValue::get)) {
        Ok(read) => Some(read),
        Err(error) => {
            let below = |fault: Fault| Fault {
                pointer: format!("/body{}", fault.pointer),
                ..fault
            };
            if error.details.is_empty() {
                fields.fault("body", "an object", "something else");
            }
            fields.faults.extend(error.details.into_iter().map(below));
            None
        }
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

/// The URL alone is taken out; whether it may be told anything is decided with the action.
fn read_on_end(fields: &mut Fields<'_>) -> Option<String> {
    let raw = fields.raw("on_end")?;
    let url = Fields::split(raw.get()).ok().and_then(|mut inner| {
        inner.refuse_others(&["url"]);
        let url = inner.required_text("url", "a URL", |text| Some(String::from(text)));
        inner.faults.is_empty().then_some(url)?
    });
    if url.is_none() {
        fields.fault("on_end", "an object with the one field `url`", raw.get());
    }
    url
}

fn read_metadata(fields: &mut Fields<'_>) -> SortedMap<String, String> {
    let Some(raw) = fields.raw("metadata") else {
        return SortedMap::new();
    };
    let Ok(entries) = serde_json::from_str::<SortedMap<String, &RawValue>>(raw.get()) else {
        fields.fault("metadata", "an object of strings", raw.get());
        return SortedMap::new();
    };
    if entries.len() > METADATA_ENTRIES_MAX {
        fields.fault(
            "metadata",
            format!("at most {METADATA_ENTRIES_MAX} entries"),
            &format!("{}", entries.len()),
        );
    }
    let mut metadata = SortedMap::new();
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
