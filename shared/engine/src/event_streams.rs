//! Clients without a socket: what they are told of what a hub says to the socket that the Worker holds for them. Frames become
//! Server-Sent Events (HTML Standard, "Server-sent events"); what a slow reader has not taken is bounded.
//!
//! It must not know how a socket or a stream is held.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;

use tidegate_protocol::channels::Cursor;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::fields::Fields;
use tidegate_protocol::frames::CloseCode;
use tidegate_protocol::ids::{ChannelName, Epoch, JobId, Offset, RequestId, Seq};
use tidegate_protocol::{Error, ErrorCode};

#[cfg(test)]
mod tests;

/// How long a stream may be silent. Proxies close what is silent for a minute, and a client that has left is noticed by what is
/// written to it. Milliseconds.
pub const KEEP_ALIVE_MS: u64 = 15_000;
/// What a silent stream says.
pub const KEEP_ALIVE: &str = ": keep-alive\n\n";
/// Bytes of frames that wait for a reader: as many as a hub lets wait for a socket. Beyond that the stream ends, and its client comes
/// back with its cursor.
pub const BACKLOG_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of events that are written at once, where more than one waits.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// Frames that came from the hub and were not taken yet.
#[derive(Debug, Default)]
pub struct Backlog {
    frames: VecDeque<String>,
    bytes: usize,
    ended: bool,
}

/// What waits in a backlog.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A frame.
    Frame(String),
    /// Nothing yet.
    Nothing,
    /// Nothing, and nothing will come.
    End,
}

/// Whether a backlog takes more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It does.
    Left,
    /// It is given up: its reader is too slow. Nothing of it is kept, since its cursor brings all of it again.
    None,
}

impl Backlog {
    /// A frame came.
    pub fn push(&mut self, frame: String) -> Room {
        if self.ended {
            return Room::None;
        }
        self.bytes += frame.len();
        self.frames.push_back(frame);
        if self.bytes <= BACKLOG_BYTES_MAX {
            return Room::Left;
        }
        *self = Self::default();
        self.ended = true;
        Room::None
    }

    /// The socket is closed.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Takes the oldest frame.
    pub fn take(&mut self) -> Next {
        match self.frames.pop_front() {
            Some(frame) => {
                self.bytes -= frame.len();
                Next::Frame(frame)
            }
            None if self.ended => Next::End,
            None => Next::Nothing,
        }
    }
}

/// What a frame of the hub is to the client of a stream.
#[derive(Debug, PartialEq)]
pub enum Told {
    /// Nothing: it is between the hub and the Worker.
    Nothing,
    /// The connection stands.
    Welcome,
    /// An event.
    Event(String),
    /// The last event: nothing of what is followed comes behind it.
    Last(String),
    /// What was asked for is refused, or ends: a problem where no stream has begun, and else its last event.
    Refused {
        /// Why.
        error: Error,
        /// The same as an event.
        event: String,
    },
}

/// Reads a frame of the hub.
pub fn read(frame: &str) -> Told {
    let Some(mut fields) = Fields::split_trusted(frame) else {
        return Told::Nothing;
    };
    let Some(kind) = text(&fields, "type") else {
        return Told::Nothing;
    };
    let seq = fields.raw("seq").map(|seq| seq.get());
    match kind {
        "welcome" => Told::Welcome,
        "pong" | "ok" => Told::Nothing,
        "subscribed" | "message" => {
            let place = text(&fields, "epoch").zip(fields.raw("offset"));
            let id = place.map(|(epoch, offset)| format!("{epoch}:{}", offset.get()));
            Told::Event(event(id.as_deref(), kind, frame))
        }
        "unsubscribed" => Told::Last(event(None, kind, frame)),
        "goodbye" => {
            let error = farewell(&fields);
            let mut events = event(None, kind, frame);
            let frame = serde_json::to_string(&error).unwrap_or_default();
            events.push_str(&event(None, "error", &format!(r#"{{"type":"error","error":{frame}}}"#)));
            Told::Refused { error, event: events }
        }
        "complete" => Told::Last(event(seq, kind, frame)),
        "error" if seq.is_some() => Told::Last(event(seq, kind, frame)),
        "error" => Told::Refused {
            error: fields.optional::<Error>("error", "an error").unwrap_or_else(broken),
            event: event(None, kind, frame),
        },
        _ => Told::Event(event(seq, kind, frame)),
    }
}

/// The frame by which a channel is followed.
pub fn subscribe(channel: &ChannelName, after: Option<&Cursor>) -> String {
    // Neither names nor epochs have characters that JSON would escape.
    match after {
        None => format!(r#"{{"type":"subscribe","channel":"{channel}"}}"#),
        Some(Cursor { epoch, offset }) => format!(
            r#"{{"type":"subscribe","channel":"{channel}","after":{{"epoch":"{epoch}","offset":{}}}}}"#,
            offset.0
        ),
    }
}

/// The frame by which a job is followed, behind an event. What is sent then answers `request_id`.
pub fn attach(request_id: &RequestId, job: JobId, after: Seq) -> String {
    format!(
        r#"{{"type":"attach","id":"{}","job_id":"{job}","after":{}}}"#,
        request_id.as_str(),
        after.0
    )
}

/// Where a poll waits: the end of the log that an empty page tells of. `None` where the page says something, be it that there is a
/// gap behind the cursor.
pub fn waits_behind(page: &JsonText, after: Option<&Cursor>) -> Option<Cursor> {
    let mut fields = Fields::split_trusted(page.as_str())?;
    let is = |fields: &Fields<'_>, name: &str, json: &str| fields.raw(name).is_some_and(|raw| raw.get() == json);
    if !is(&fields, "messages", "[]") || (after.is_some() && !is(&fields, "recovered", "true")) {
        return None;
    }
    end_of(&mut fields)
}

/// The page with a cursor to go on with, also where it is the last one.
pub fn with_next(page: JsonText) -> JsonText {
    let Some(mut fields) = Fields::split_trusted(page.as_str()) else {
        return page;
    };
    match (fields.raw("next"), end_of(&mut fields), page.as_str().strip_suffix('}')) {
        (None, Some(end), Some(open)) => JsonText::stored(format!(r#"{open},"next":"{end}"}}"#)),
        _ => page,
    }
}

fn end_of(page: &mut Fields<'_>) -> Option<Cursor> {
    let epoch = page.required_text("epoch", Epoch::EXPECTED, Epoch::parse)?;
    let offset = Offset(page.raw("offset")?.get().parse().ok()?);
    Some(Cursor { epoch, offset })
}

/// An event as the HTML Standard writes it. `data` is JSON, in which a line can end between values alone.
pub fn event(id: Option<&str>, kind: &str, data: &str) -> String {
    let mut text = String::with_capacity(data.len() + 64);
    if let Some(id) = id {
        text.push_str("id: ");
        text.push_str(id);
        text.push('\n');
    }
    text.push_str("event: ");
    text.push_str(kind);
    text.push_str("\ndata: ");
    // An end of a line would be one of the event.
    text.extend(data.chars().map(|character| match character {
        '\n' | '\r' => ' ',
        other => other,
    }));
    text.push_str("\n\n");
    text
}

/// How long a client is to wait before it comes back, as an event stream says it: one to three seconds, so that those whose streams
/// end together do not come together.
pub fn retry_hint(chance: u64) -> String {
    format!("retry: {}\n\n", 1000 + chance % 2000)
}

/// Why the hub closes a socket, as an error.
fn farewell(fields: &Fields<'_>) -> Error {
    let code = fields.raw("code").and_then(|code| code.get().parse::<u16>().ok());
    let is = |of: CloseCode| code == Some(of.number());
    let code = if is(CloseCode::TokenExpired) || is(CloseCode::Unauthorized) {
        ErrorCode::Unauthorized
    } else if is(CloseCode::Forbidden) {
        ErrorCode::Forbidden
    } else if is(CloseCode::TenantSuspended) {
        ErrorCode::TenantSuspended
    } else if is(CloseCode::TooManyConnections) {
        ErrorCode::RateLimited
    } else {
        ErrorCode::Unavailable
    };
    let reason = text(fields, "reason").unwrap_or_default();
    let error = Error::new(code, format!("The connection to the tenant's hub ended: {reason}."));
    match code {
        ErrorCode::RateLimited | ErrorCode::Unavailable => error.retry_after(1000),
        _ => error,
    }
}

fn broken() -> Error {
    Error::new(ErrorCode::InternalError, "The hub gave an answer that cannot be read.")
}

/// A text of ours, in which nothing is escaped.
fn text<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a str> {
    fields.raw(name)?.get().strip_prefix('"')?.strip_suffix('"')
}
