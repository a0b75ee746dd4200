//! `GET /v1/channels/{channel}/events`, `GET /v1/jobs/{id}/events` and long polls: clients without a socket of their own. The Worker
//! holds their answer and a [`Bridge`] to the user's hub, beneath which every object can sleep. What frames become is decided in
//! [`tidegate_engine::event_streams`].
//!
//! Whoever leaves is noticed when something is written, at the latest with the next keep-alive: the platform then lets go of the stream,
//! and that of the bridge.

use futures_util::StreamExt;
use futures_util::stream::{self, LocalBoxStream};
use tidegate_durable_objects::platform::random;
use tidegate_engine::event_streams::{CHUNK_BYTES, KEEP_ALIVE, KEEP_ALIVE_MS, Next, Told, read, retry_hint, subscribe};
use tidegate_protocol::channels::Cursor;
use tidegate_protocol::frames::PING;
use tidegate_protocol::ids::ChannelName;
use tidegate_protocol::{Error, ErrorCode, Fault};
use worker::{Env, Method, Request, Response};

use crate::answer;
use crate::bridge::Bridge;
use crate::connect::Caller;
use crate::jobs::queries;

/// Pings without an answer after which a hub counts as gone.
const UNANSWERED_MAX: u32 = 2;

/// What an event stream is called.
pub const EVENT_STREAM: &str = "text/event-stream";

/// Chunks of a stream.
pub type Chunks = LocalBoxStream<'static, Result<Vec<u8>, worker::Error>>;

/// `GET /v1/channels/{channel}/events`: the messages of a channel as they come, behind a cursor where one is given.
///
/// Errors: `NOT_ACCEPTABLE`; `VALIDATION_ERROR` for a channel or cursor that cannot be one; the hub's refusals. All before the stream
/// begins.
pub async fn channel(request: &Request, env: &Env, caller: &Caller, channel: &str) -> Result<Response, Error> {
    let header = |name: &str| request.headers().get(name).ok().flatten();
    if !takes(&header("accept").unwrap_or_default(), EVENT_STREAM) {
        let message =
            "This path gives `text/event-stream`. Pages of messages are at `/v1/channels/{channel}/messages`.";
        return Err(Error::new(ErrorCode::NotAcceptable, message));
    }
    let mut faults = Vec::new();
    let name = ChannelName::parse(channel);
    if name.is_none() {
        faults.push(Fault::new("/path/channel", ChannelName::EXPECTED, channel));
    }
    let after = match header("last-event-id").filter(|id| !id.is_empty()) {
        Some(id) => Some(("/header/last-event-id", id)),
        None => {
            let pairs = queries(request)?.into_iter();
            let mut after = pairs.filter(|(name, _)| name == "after");
            after.next().map(|(_, text)| ("/query/after", text))
        }
    };
    let cursor = after.as_ref().and_then(|(_, text)| Cursor::parse(text));
    if let (Some((pointer, text)), None) = (&after, &cursor) {
        faults.push(Fault::new(*pointer, Cursor::EXPECTED, text));
    }
    let Some(name) = name.filter(|_| faults.is_empty()) else {
        return Err(Error::invalid("The request cannot be used.", faults));
    };
    let (bridge, subscribed) = follow(env, caller, &name, cursor.as_ref()).await?;
    if request.method() == Method::Head {
        return respond(stream::empty().boxed_local());
    }
    let mut begin = retry_hint(random());
    begin.push_str(&subscribed);
    respond(Live::new(bridge, begin).chunks())
}

/// Follows a channel over a new bridge; gives the first event.
///
/// Errors: the hub's refusals, and `UNAVAILABLE`.
pub async fn follow(
    env: &Env,
    caller: &Caller,
    channel: &ChannelName,
    after: Option<&Cursor>,
) -> Result<(Bridge, String), Error> {
    let bridge = Bridge::open(env, caller).await?;
    bridge.send(&subscribe(channel, after));
    loop {
        match bridge.next_within(ANSWER_MS).await {
            Next::Frame(frame) => match read(&frame) {
                Told::Event(event) | Told::Last(event) => return Ok((bridge, event)),
                Told::Refused { error, .. } => return Err(error),
                Told::Welcome | Told::Nothing => {}
            },
            Next::Nothing | Next::End => {
                let message = "The tenant's hub did not answer.";
                return Err(Error::new(ErrorCode::Unavailable, message).retry_after(1000));
            }
        }
    }
}

/// How long the hub may take to answer a `subscribe`, for which it asks the channel. Milliseconds.
const ANSWER_MS: u64 = 30_000;

/// Waits until something happens to a channel that is followed, at most so long.
pub async fn wait(bridge: &Bridge, ms: u64) {
    while let Next::Frame(frame) = bridge.next_within(ms).await {
        if !matches!(read(&frame), Told::Nothing | Told::Welcome) {
            return;
        }
    }
}

/// Whether a client takes `kind`.
pub fn takes(accept: &str, kind: &str) -> bool {
    accept.is_empty() || accept.contains("*/*") || accept.contains("text/*") || accept.contains(kind)
}

/// An event stream.
///
/// Errors: `INTERNAL_ERROR` where the platform does not take it.
pub fn respond(chunks: Chunks) -> Result<Response, Error> {
    let builder = Response::builder()
        .with_header("content-type", EVENT_STREAM)
        .and_then(|builder| builder.with_header("cache-control", "no-store"))
        .map_err(answer::broken)?;
    builder.from_stream(chunks).map_err(answer::broken)
}

/// A bridge whose frames are written to a client.
pub struct Live {
    bridge: Bridge,
    /// What is written before anything of it.
    begin: String,
    unanswered: u32,
    ended: bool,
}

impl Live {
    /// What comes over `bridge`, behind `begin`.
    pub fn new(bridge: Bridge, begin: String) -> Self {
        Self {
            bridge,
            begin,
            unanswered: 0,
            ended: false,
        }
    }

    /// The chunks of the stream.
    pub fn chunks(self) -> Chunks {
        stream::unfold(self, |mut live| async move {
            let chunk = live.chunk().await?;
            Some((Ok(chunk.into_bytes()), live))
        })
        .boxed_local()
    }

    /// The next events, or a comment where there are none for a while. `None`: the stream has ended.
    pub async fn chunk(&mut self) -> Option<String> {
        let mut chunk = core::mem::take(&mut self.begin);
        while chunk.is_empty() && !self.ended {
            match self.bridge.next_within(KEEP_ALIVE_MS).await {
                Next::Frame(frame) => self.write(&frame, &mut chunk),
                Next::Nothing if self.unanswered >= UNANSWERED_MAX => self.ended = true,
                Next::Nothing => {
                    self.unanswered += 1;
                    // To the letter, so that the platform answers it and the hub sleeps on.
                    self.bridge.send(PING);
                    chunk.push_str(KEEP_ALIVE);
                }
                Next::End => self.ended = true,
            }
        }
        while !self.ended && chunk.len() < CHUNK_BYTES {
            let Next::Frame(frame) = self.bridge.at_hand() else {
                break;
            };
            self.write(&frame, &mut chunk);
        }
        Some(chunk).filter(|chunk| !chunk.is_empty())
    }

    fn write(&mut self, frame: &str, chunk: &mut String) {
        self.unanswered = 0;
        match read(frame) {
            Told::Nothing | Told::Welcome => {}
            Told::Event(event) => chunk.push_str(&event),
            Told::Last(event) | Told::Refused { event, .. } => {
                chunk.push_str(&event);
                self.ended = true;
            }
        }
    }
}
