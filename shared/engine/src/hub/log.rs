//! What the request log is told of the requests of sockets: one [`Effect::Log`] for each, once it has its first answer.
//!
//! Whether its line is written, and what stands in it, is decided by [`crate::request_log`].

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use tidegate_protocol::calls::jobs;
use tidegate_protocol::event::Happening;
use tidegate_protocol::frames::{Mode, Request};
use tidegate_protocol::ids::{ActionName, ConnectionId, JobId, RequestId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::pending::Question;
use super::{Answers, Effect};

/// What is kept of requests for the log, while they are under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Logging {
    /// Nothing: no request is told.
    #[default]
    Off,
    /// What they ask for.
    Requests,
    /// Their frames as well.
    Frames,
}

/// A request of a socket that has begun.
#[derive(Debug, Clone, PartialEq)]
pub struct Begun {
    /// When.
    pub at: UnixMs,
    /// What is asked for, where that could be read.
    pub action: Option<ActionName>,
    /// How the answer is wanted.
    pub mode: Option<Mode>,
    /// Bytes of the frame.
    pub bytes: usize,
    /// The frame, where that is [kept](Logging::Frames).
    pub frame: Option<String>,
}

/// What a request came to at first.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The status that HTTP would have answered with.
    pub status: u16,
    /// What it was refused with, or failed with.
    pub error: Option<(ErrorCode, Cow<'static, str>)>,
    /// The job that it became.
    pub job: Option<JobId>,
}

/// A request of a socket that was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged {
    /// The request.
    pub begun: Begun,
    /// Its id.
    pub request_id: RequestId,
    /// The socket.
    pub connection: ConnectionId,
    /// What it came to.
    pub outcome: Outcome,
    /// How long that took. Milliseconds.
    pub duration_ms: u64,
    /// Bytes of the frame that it was answered with; 0 where its socket is gone.
    pub bytes_out: usize,
}

impl Logging {
    /// A request begins, by the frame `text`.
    pub(super) fn begin(self, now: UnixMs, request: Option<&Request<'_>>, text: &str) -> Option<Box<Begun>> {
        if self == Self::Off {
            return None;
        }
        Some(Box::new(Begun {
            at: now,
            action: request.map(|request| request.action.clone()),
            mode: request.map(|request| request.mode),
            bytes: text.len(),
            frame: (self == Self::Frames).then(|| text.into()),
        }))
    }

    /// A request was answered by the last frame of `effects`.
    pub(super) fn note(
        begun: Option<Box<Begun>>,
        now: UnixMs,
        to: &ConnectionId,
        request_id: RequestId,
        outcome: Outcome,
        effects: &mut Vec<Effect>,
    ) {
        let Some(begun) = begun else { return };
        let sent = effects.iter().rev().find_map(|effect| match effect {
            Effect::Send { to: other, frame } if other == to => Some(frame.len()),
            _ => None,
        });
        let of = Logged {
            duration_ms: now.since(begun.at),
            begun: *begun,
            request_id,
            connection: to.clone(),
            outcome,
            bytes_out: sent.unwrap_or(0),
        };
        effects.push(Effect::Log { of: Box::new(of) });
    }
}

impl Outcome {
    /// It was answered.
    pub(super) fn answered(status: u16, job: Option<JobId>) -> Self {
        Self {
            status,
            error: None,
            job,
        }
    }

    /// It was refused, or failed.
    pub(super) fn refused(error: &Error) -> Self {
        Self {
            status: error.status(),
            error: Some((error.code, error.message.clone())),
            job: None,
        }
    }

    /// What the reply of a `Jobs` object comes to.
    pub(super) fn of(reply: &Result<jobs::Reply, Error>, question: &Question) -> Self {
        let on_the_spot = matches!(
            question,
            Question::Request {
                answers: Answers::OnTheSpot,
                ..
            }
        );
        match reply {
            Err(error) => Self::refused(error),
            Ok(jobs::Reply::Ended { job, event, .. }) => match &event.what {
                Happening::Failed { error } if on_the_spot => Self {
                    job: Some(*job),
                    ..Self::refused(error)
                },
                _ => Self::answered(if on_the_spot { 200 } else { 202 }, Some(*job)),
            },
            Ok(jobs::Reply::Acknowledged { job, .. }) => Self::answered(202, Some(*job)),
            Ok(_) => Self::answered(500, None),
        }
    }
}
