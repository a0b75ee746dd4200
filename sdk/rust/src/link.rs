//! One connection and the calls that hang on it: when to connect, what to send, whom to tell.
//!
//! Does no I/O and reads no clock: moments (milliseconds of a clock that never goes back) and randomness are arguments,
//! what is to be done comes out of [`Link::poll`]. So every history of cuts can be tested.

mod channels;

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use tidegate_protocol::ErrorCode;
use tidegate_protocol::frames::PING;

pub use self::channels::ChannelFrame;
use crate::backoff::full_jitter;
use crate::call::{Call, Reaction};
use crate::channels::{ChannelUpdate, Follower};
use crate::error::{ApiError, Error};
use crate::event::{Outcome, Update};
use crate::frame::{Answer, Goodbye, Limits, ServerFrame, Welcome};

/// A moment or a span. Milliseconds.
pub type Ms = u64;

/// How long an attempt to connect may take, the `welcome` included.
pub const CONNECT_MS_MAX: Ms = 15_000;
/// A connection that lived so long ends a series of failures: the next wait is a short one.
pub const STABLE_MS: Ms = 5_000;
/// No ping comes sooner after another, whatever the server asks for.
pub const HEARTBEAT_MS_MIN: Ms = 10;

/// How long a link goes on trying. `None`: for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Until the first connection of the link. Milliseconds.
    pub first_ms: Option<Ms>,
    /// After a connection was lost. Milliseconds.
    pub again_ms: Option<Ms>,
}

impl Default for Patience {
    /// 30 s until the first connection, so that a wrong address is told; then for ever.
    fn default() -> Self {
        Self {
            first_ms: Some(30_000),
            again_ms: None,
        }
    }
}

/// What the owner of the link is to do.
#[derive(Debug)]
pub enum Output {
    /// Open a socket. The answer is [`Link::opened`] or [`Link::lost`].
    Connect,
    /// Send this text on the socket.
    Send(String),
    /// Give up the socket, or the attempt to open one. No answer is expected.
    Drop,
    /// Tell the caller of this call. After [`Update::Ended`] nothing follows for it.
    Deliver(String, Box<Update>),
    /// Tell the application of this subscription. After [`ChannelUpdate::Ended`] nothing follows for it.
    Tell(String, Box<ChannelUpdate>),
}

/// Why there is no connection.
#[derive(Debug, Clone)]
pub enum Loss {
    /// The upgrade was refused in a way that trying again does not mend.
    Refused(Error),
    /// The server closed the socket.
    Closed {
        /// The close code.
        code: u16,
        /// Why.
        reason: String,
    },
    /// Anything else: trying again may help.
    Failed {
        /// What happened.
        why: String,
        /// The earliest time at which the server wants to see another attempt. Milliseconds from now.
        retry_after_ms: Option<Ms>,
    },
}

#[derive(Debug)]
enum State {
    /// No connection, none needed.
    Idle,
    /// The next attempt is made at `until`.
    Waiting { until: Ms },
    /// An attempt is under way, and is given up at `deadline`.
    Connecting { deadline: Ms },
    /// The server has welcomed us.
    Open {
        since: Ms,
        heartbeat_ms: Ms,
        next_ping: Ms,
        /// When the oldest ping without its pong was sent.
        unanswered: Option<Ms>,
    },
}

/// One connection, its calls and its subscriptions.
#[derive(Debug)]
pub struct Link {
    patience: Patience,
    state: State,
    calls: BTreeMap<String, Call>,
    followers: BTreeMap<String, Follower>,
    /// When a call or a subscription whose server could not tell is asked again.
    again: BTreeMap<String, Ms>,
    limits: Limits,
    /// Attempts to connect that failed in a row.
    failures: u32,
    /// What the server said before it closed.
    goodbye: Option<Goodbye>,
    /// Since when there has been no connection, while one is needed.
    down_since: Option<Ms>,
    welcomed: bool,
    outputs: VecDeque<Output>,
}

impl Link {
    /// A link without a connection. It connects when there is a call.
    pub fn new(patience: Patience) -> Self {
        Self {
            patience,
            state: State::Idle,
            calls: BTreeMap::new(),
            followers: BTreeMap::new(),
            again: BTreeMap::new(),
            limits: Limits::default(),
            failures: 0,
            goodbye: None,
            down_since: None,
            welcomed: false,
            outputs: VecDeque::new(),
        }
    }

    /// The next thing to do, until there is nothing more.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Link::tick`] has something to do, unless something happens before.
    pub fn next_timeout(&self) -> Option<Ms> {
        match &self.state {
            State::Idle => None,
            State::Waiting { until } => Some(*until),
            State::Connecting { deadline } => Some(*deadline),
            State::Open {
                heartbeat_ms,
                next_ping,
                unanswered,
                ..
            } => {
                let cut = unanswered.map(|sent| sent.saturating_add(heartbeat_ms.saturating_mul(2)));
                let again = self.again.values().min().copied();
                [Some(*next_ping), cut, again].into_iter().flatten().min()
            }
        }
    }

    /// Takes on a call.
    pub fn start(&mut self, now: Ms, call: Call) {
        let id = call.id().to_owned();
        self.calls.insert(id.clone(), call);
        match self.state {
            State::Open { .. } => self.ask(&id),
            State::Idle => self.connect(now),
            State::Waiting { .. } | State::Connecting { .. } => {}
        }
    }

    /// The caller of `id` does not follow it any more. The job goes on.
    pub fn abandon(&mut self, id: &str) {
        self.again.remove(id);
        let Some(call) = self.calls.remove(id) else {
            return;
        };
        let shared = self.calls.values().any(|other| other.job() == call.job());
        if let (State::Open { .. }, false, Some(frame)) = (&self.state, shared, call.detach_frame()) {
            self.outputs.push_back(Output::Send(frame));
        }
    }

    /// The caller of `id` wants the job to end.
    pub fn cancel(&mut self, id: &str) {
        let frame = self.calls.get_mut(id).and_then(Call::cancel);
        if let (State::Open { .. }, Some(frame)) = (&self.state, frame) {
            self.outputs.push_back(Output::Send(frame));
        }
    }

    /// There is a new token: an open connection goes on with it.
    pub fn refresh(&mut self, token: &str) {
        #[derive(Serialize)]
        struct Auth<'a> {
            #[serde(rename = "type")]
            kind: &'static str,
            id: &'static str,
            token: &'a str,
        }
        if let State::Open { .. } = self.state {
            let frame = Auth {
                kind: "auth",
                id: "auth",
                token,
            };
            let text = serde_json::to_string(&frame).unwrap_or_default();
            self.outputs.push_back(Output::Send(text));
        }
    }

    /// The socket is open. The link waits for the `welcome` before it sends anything.
    pub fn opened(&mut self, now: Ms) {
        if let State::Connecting { deadline } = &mut self.state {
            *deadline = now.saturating_add(CONNECT_MS_MAX);
        }
    }

    /// A text frame came.
    pub fn received(&mut self, now: Ms, roll: u64, text: &str) {
        match ServerFrame::parse(text) {
            ServerFrame::Welcome(welcome) => self.welcome(now, &welcome),
            ServerFrame::Pong => {
                if let State::Open { unanswered, .. } = &mut self.state {
                    *unanswered = None;
                }
            }
            ServerFrame::Answer(request_id, answer) => self.answered(now, roll, request_id.as_deref(), *answer),
            ServerFrame::Channel(request_id, frame) => self.channel_frame(now, roll, request_id.as_deref(), &frame),
            ServerFrame::AuthExpiring(expires_at) => {
                self.tell_all(|| Update::TokenExpiring { expires_at });
                self.tell_followers(|| ChannelUpdate::TokenExpiring { expires_at });
            }
            ServerFrame::Goodbye(goodbye) => self.goodbye = Some(goodbye),
            ServerFrame::Unknown => {}
        }
    }

    /// The socket is gone, or could not be opened.
    pub fn lost(&mut self, now: Ms, roll: u64, loss: Loss) {
        if let State::Open { since, .. } = self.state
            && now.saturating_sub(since) >= STABLE_MS
        {
            self.failures = 0;
        }
        let goodbye = self.goodbye.take();
        self.again.clear();
        self.followers.values_mut().for_each(Follower::lost);
        self.state = State::Idle;
        let (why, after_ms) = match loss {
            Loss::Refused(error) => return self.stop(&error),
            Loss::Closed { code, reason } => {
                let reason = match &goodbye {
                    Some(goodbye) if reason.is_empty() => goodbye.reason.clone(),
                    _ => reason,
                };
                if (3500..4000).contains(&code) || goodbye.as_ref().is_some_and(|goodbye| !goodbye.reconnect) {
                    return self.stop(&Error::Closed { code, reason });
                }
                let after_ms = goodbye.and_then(|goodbye| goodbye.after_ms);
                (format!("closed by the server (code {code}) {reason}"), after_ms)
            }
            Loss::Failed { why, retry_after_ms } => match goodbye {
                Some(Goodbye {
                    reconnect: false,
                    code,
                    reason,
                    ..
                }) => return self.stop(&Error::Closed { code, reason }),
                Some(goodbye) => (why, goodbye.after_ms.max(retry_after_ms)),
                None => (why, retry_after_ms),
            },
        };
        self.try_again(now, roll, why.trim_end(), after_ms.unwrap_or(0));
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Ms, roll: u64) {
        match &mut self.state {
            State::Idle => {}
            State::Waiting { until } => {
                if now >= *until {
                    self.connect(now);
                }
            }
            State::Connecting { deadline } => {
                if now >= *deadline {
                    self.cut(now, roll, "no answer to the attempt to connect");
                }
            }
            State::Open {
                heartbeat_ms,
                next_ping,
                unanswered,
                ..
            } => {
                if unanswered.is_some_and(|sent| now.saturating_sub(sent) >= heartbeat_ms.saturating_mul(2)) {
                    return self.cut(now, roll, "the server no longer answers pings");
                }
                if now >= *next_ping {
                    *next_ping = now.saturating_add(*heartbeat_ms);
                    unanswered.get_or_insert(now);
                    self.outputs.push_back(Output::Send(PING.to_owned()));
                }
                let due = |(id, at): (&String, &Ms)| (*at <= now).then(|| id.clone());
                let due: Vec<String> = self.again.iter().filter_map(due).collect();
                for id in due {
                    self.again.remove(&id);
                    self.ask(&id);
                }
            }
        }
    }

    fn connect(&mut self, now: Ms) {
        self.down_since.get_or_insert(now);
        self.goodbye = None;
        self.state = State::Connecting {
            deadline: now.saturating_add(CONNECT_MS_MAX),
        };
        self.outputs.push_back(Output::Connect);
    }

    fn cut(&mut self, now: Ms, roll: u64, why: &str) {
        self.outputs.push_back(Output::Drop);
        let why = why.to_owned();
        self.lost(
            now,
            roll,
            Loss::Failed {
                why,
                retry_after_ms: None,
            },
        );
    }

    fn try_again(&mut self, now: Ms, roll: u64, why: &str, after_ms: Ms) {
        if self.calls.is_empty() && self.followers.is_empty() {
            self.down_since = None;
            return;
        }
        let wait = after_ms.saturating_add(full_jitter(self.failures, roll));
        self.failures = self.failures.saturating_add(1);
        let down_since = *self.down_since.get_or_insert(now);
        let limit = if self.welcomed {
            self.patience.again_ms
        } else {
            self.patience.first_ms
        };
        let down_ms = now.saturating_sub(down_since).saturating_add(wait);
        if limit.is_some_and(|limit| down_ms > limit) {
            return self.stop(&Error::Unreachable(why.to_owned()));
        }
        self.state = State::Waiting {
            until: now.saturating_add(wait),
        };
        let attempt = self.failures;
        self.tell_all(|| Update::Reconnecting {
            attempt,
            in_ms: wait,
            why: why.to_owned(),
        });
        self.tell_followers(|| ChannelUpdate::Reconnecting {
            attempt,
            in_ms: wait,
            why: why.to_owned(),
        });
    }

    /// Ends every call and subscription: the server cannot be asked any more. A later call tries anew.
    fn stop(&mut self, error: &Error) {
        self.state = State::Idle;
        self.failures = 0;
        self.down_since = None;
        self.again.clear();
        self.end_followers(error);
        for (id, mut call) in std::mem::take(&mut self.calls) {
            // An upgrade that is refused is the answer to a request that was never sent.
            let outcome = match error {
                Error::Api(refusal) if !call.was_asked() => Some(Outcome::Rejected((**refusal).clone())),
                other => call.lose(other.clone()),
            };
            if let Some(outcome) = outcome {
                self.outputs
                    .push_back(Output::Deliver(id, Box::new(Update::Ended(outcome))));
            }
        }
    }

    fn welcome(&mut self, now: Ms, welcome: &Welcome) {
        let State::Connecting { .. } = self.state else {
            return;
        };
        let heartbeat_ms = welcome.heartbeat_ms.max(HEARTBEAT_MS_MIN);
        self.state = State::Open {
            since: now,
            heartbeat_ms,
            next_ping: now.saturating_add(heartbeat_ms),
            unanswered: None,
        };
        self.limits = welcome.limits;
        self.welcomed = true;
        self.down_since = None;
        if self.failures > 0 {
            self.tell_all(|| Update::Reconnected);
            self.tell_followers(|| ChannelUpdate::Reconnected);
        }
        let ids: Vec<String> = self.calls.keys().chain(self.followers.keys()).cloned().collect();
        for id in ids {
            self.ask(&id);
        }
    }

    /// Sends the frames of a call or a subscription. One that is too big would be refused without a name, so it ends here.
    fn ask(&mut self, id: &str) {
        let Some(call) = self.calls.get_mut(id) else {
            return self.ask_to_follow(id);
        };
        for frame in call.ask() {
            if frame.len() > self.limits.frame_bytes {
                let message = format!(
                    "A frame holds at most {} bytes; this one has {}. Put large input into an object.",
                    self.limits.frame_bytes,
                    frame.len()
                );
                let error = ApiError::new(ErrorCode::PayloadTooLarge, message);
                return self.deliver(id, Update::Ended(Outcome::Rejected(error)));
            }
            self.outputs.push_back(Output::Send(frame));
        }
    }

    fn answered(&mut self, now: Ms, roll: u64, request_id: Option<&str>, answer: Answer) {
        if let (Some(id), Answer::Error(failure)) = (request_id, &answer)
            && self.subscribe_refused(now, roll, id, &failure.error)
        {
            return;
        }
        for (id, name) in self.addressees(request_id, &answer) {
            self.answer_one(now, roll, &id, &name, answer.clone());
        }
    }

    /// The calls that an answer is for, each with the frame that it answers.
    ///
    /// The one that made the frame; where there is none, those that follow the job. A job's end is told to all of them:
    /// two calls can follow one job, and the server may answer under one name.
    fn addressees(&self, request_id: Option<&str>, answer: &Answer) -> Vec<(String, String)> {
        let named = request_id.and_then(|name| {
            let call = self.calls.values().find(|call| call.owns(name))?;
            Some((call.id().to_owned(), name.to_owned()))
        });
        let terminal = match answer {
            Answer::Complete(_) => true,
            Answer::Snapshot(snapshot) => snapshot.status.is_ended(),
            Answer::Error(failure) => failure.job_id.is_some() && failure.seq.is_some(),
            _ => false,
        };
        if named.is_some() && !terminal {
            return named.into_iter().collect();
        }
        let named_id = named.as_ref().map(|(id, _)| id.clone());
        let follows = |call: &&Call| {
            let job = answer.job_id();
            job.is_some() && call.job() == job && Some(call.id()) != named_id.as_deref()
        };
        let by_job = self.calls.values().filter(follows);
        named
            .into_iter()
            .chain(by_job.map(|call| (call.id().to_owned(), call.id().to_owned())))
            .collect()
    }

    fn answer_one(&mut self, now: Ms, roll: u64, id: &str, name: &str, answer: Answer) {
        let Some(call) = self.calls.get_mut(id) else {
            return;
        };
        let acknowledged = matches!(answer, Answer::Acknowledgment(_));
        match call.answer(name, answer) {
            Reaction::Nothing => {}
            Reaction::Update(update) => {
                let cancel = match acknowledged && call.cancel_wanted() {
                    true => call.cancel(),
                    false => None,
                };
                self.deliver(id, *update);
                self.outputs.extend(cancel.map(Output::Send));
            }
            Reaction::AskAgain(after_ms) => self.ask_later(now, roll, id, after_ms),
        }
    }

    fn deliver(&mut self, id: &str, update: Update) {
        if let Update::Ended(_) = update {
            self.calls.remove(id);
            self.again.remove(id);
        }
        self.outputs.push_back(Output::Deliver(id.to_owned(), Box::new(update)));
    }

    fn tell_all(&mut self, update: impl Fn() -> Update) {
        for id in self.calls.keys() {
            self.outputs.push_back(Output::Deliver(id.clone(), Box::new(update())));
        }
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
