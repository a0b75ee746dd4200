//! The decisions of one `Hub`: what a frame or request comes to, and what a socket is told of the jobs it follows.
//!
//! A hub owns sessions and nothing else. What it must not forget is in the sockets' attachments; it must not know how
//! a job runs, nor keep a row for one. [`Hub`] is the memory of one instance; [`Hub::restore`] fills it again.

mod admit;
mod session;

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::hub::{Delivery, Prefer, Reply};
use tidegate_protocol::calls::jobs::{self, JobRef};
use tidegate_protocol::event::{Event, Happening, JobState, JsonText, Payload};
use tidegate_protocol::frames::{
    BadFrame, ClientFrame, CloseCode, Limits, PROTOCOL, Request, ServerFrame, Target, result_url,
};
use tidegate_protocol::http::Accepted;
use tidegate_protocol::ids::{
    ConnectionId, HubIndex, IdempotencyKey, JobId, Partition, RequestId, Revision, Seq, ShardIndex, TraceParent, fnv1a,
};
use tidegate_protocol::limits::{FOLLOWS_MAX, FRAME_BYTES_MAX};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode, Fault};

pub use admit::{Admitted, Answers, Context, Run, admit, hub_of, shard_of};
pub use session::{Follow, SCOPES_BYTES_MAX, Session};

use crate::composition::Plan;

/// How often a client sends a ping. Milliseconds.
pub const HEARTBEAT_MS: u64 = 30_000;
/// Bad frames in a row before the socket is closed. Enough for a person at a console, too few for a flood.
pub const FAULTS_MAX: u32 = 50;
/// Frames over the limit in a row before the socket is closed.
pub const OVERSIZE_MAX: u32 = 5;
/// Events kept for a job whose acknowledgment is still on its way. Each is at most some 70 KiB, most are tiny.
pub const PARKED_MAX: usize = 512;

/// Something the hub waits for. The hub numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A caller over HTTP. The shell numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpId(pub u64);

/// What the shell does after a turn. All of it may be lost with the hub: the client comes back and attaches.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send a text frame.
    Send {
        /// The socket.
        to: ConnectionId,
        /// The frame.
        frame: String,
    },
    /// Keep the session in the socket's attachment.
    Save {
        /// The socket.
        of: ConnectionId,
    },
    /// Close the socket.
    Close {
        /// The socket.
        to: ConnectionId,
        /// Why, and whether to come back.
        code: CloseCode,
        /// In words.
        reason: &'static str,
    },
    /// Call a `Jobs` object, then [`Hub::replied`].
    Call {
        /// This call.
        id: CallId,
        /// The object.
        shard: ShardIndex,
        /// What it is asked.
        call: Box<jobs::Call>,
    },
    /// Run an action here, then [`Hub::ran`].
    Run {
        /// This run.
        id: CallId,
        /// What is run.
        run: Box<Run>,
    },
    /// Answer a caller over HTTP.
    Answer {
        /// The caller.
        to: HttpId,
        /// The reply or refusal.
        reply: Result<Reply, Error>,
    },
}

/// Who waits for what comes of a call.
#[derive(Debug, Clone, PartialEq)]
enum Asker {
    Socket(ConnectionId),
    Http(HttpId),
}

/// What a reply means to the one who asked.
#[derive(Debug, Clone, PartialEq)]
enum Question {
    Request { answers: Answers },
    Attach { after: Option<Seq> },
    Cancel,
    Run,
}

#[derive(Debug, Clone, PartialEq)]
struct Pending {
    asker: Asker,
    request_id: RequestId,
    question: Question,
}

/// The memory of one hub.
#[derive(Debug, Clone)]
pub struct Hub {
    index: HubIndex,
    sessions: BTreeMap<ConnectionId, Session>,
    followers: BTreeMap<JobId, BTreeSet<ConnectionId>>,
    pending: BTreeMap<CallId, Pending>,
    /// Events of jobs that no socket follows yet, while an acknowledgment may still be on its way.
    parked: VecDeque<Delivery>,
    next_call: u64,
}

/// What a hub needs to know to take a request: the tenant's active composition.
#[derive(Debug, Clone, Copy)]
pub struct Active<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Its revision.
    pub revision: &'a Revision,
}

/// The moment and the chance of a turn.
pub struct Moment<'a> {
    /// The clock.
    pub now: UnixMs,
    /// Randomness.
    pub random: &'a mut dyn FnMut() -> u64,
}

impl Hub {
    /// A hub with no sockets.
    pub fn new(index: HubIndex) -> Self {
        Self {
            index,
            sessions: BTreeMap::new(),
            followers: BTreeMap::new(),
            pending: BTreeMap::new(),
            parked: VecDeque::new(),
            next_call: 0,
        }
    }

    /// Takes in a socket that slept through the hub's restart.
    pub fn restore(&mut self, session: Session) {
        for follow in &session.follows {
            self.followers
                .entry(follow.job)
                .or_default()
                .insert(session.connection.clone());
        }
        self.sessions.insert(session.connection.clone(), session);
    }

    /// The session of a socket.
    pub fn session(&self, connection: &ConnectionId) -> Option<&Session> {
        self.sessions.get(connection)
    }

    /// How many sockets there are.
    pub fn sockets(&self) -> usize {
        self.sessions.len()
    }

    /// A socket was accepted for `principal`.
    ///
    /// Errors: `FORBIDDEN` for a token whose scopes a sleeping socket cannot keep.
    pub fn open(
        &mut self,
        moment: &mut Moment<'_>,
        principal: Principal,
    ) -> Result<(ConnectionId, Vec<Effect>), Error> {
        if principal.scopes.iter().map(|scope| scope.len() + 4).sum::<usize>() > SCOPES_BYTES_MAX {
            let message = format!("A token for a socket names at most {SCOPES_BYTES_MAX} bytes of scopes.");
            return Err(Error::new(ErrorCode::Forbidden, message));
        }
        let connection = ConnectionId::generate(moment.now, (moment.random)());
        let session = Session::new(connection.clone(), principal);
        let welcome = ServerFrame::Welcome {
            connection_id: connection.clone(),
            protocol: PROTOCOL,
            tenant: session.tenant.clone(),
            user: session.user.clone(),
            server_time: moment.now,
            limits: Limits {
                frame_bytes: FRAME_BYTES_MAX,
                in_flight: FOLLOWS_MAX,
            },
            heartbeat_ms: HEARTBEAT_MS,
        };
        self.sessions.insert(connection.clone(), session);
        let effects = alloc::vec![
            Effect::Save { of: connection.clone() },
            Effect::Send {
                to: connection.clone(),
                frame: welcome.encode()
            },
        ];
        Ok((connection, effects))
    }

    /// A socket is gone. Its jobs go on.
    pub fn closed(&mut self, connection: &ConnectionId) {
        if let Some(session) = self.sessions.remove(connection) {
            for follow in &session.follows {
                self.unfollow(follow.job, connection);
            }
        }
    }

    fn unfollow(&mut self, job: JobId, connection: &ConnectionId) {
        if let Some(connections) = self.followers.get_mut(&job) {
            connections.remove(connection);
            if connections.is_empty() {
                self.followers.remove(&job);
            }
        }
    }

    /// A binary frame, or one whose text was refused before it got here.
    pub fn unreadable(&mut self, now: UnixMs, from: &ConnectionId, error: Error) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.refuse_frame(now, from, None, error, &mut effects);
        effects
    }

    /// A text frame from a socket.
    pub fn frame(
        &mut self,
        moment: &mut Moment<'_>,
        active: Active<'_>,
        from: &ConnectionId,
        text: &str,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(session) = self.sessions.get_mut(from) else {
            return effects;
        };
        if session.expires_at <= moment.now {
            close(from, CloseCode::TokenExpired, "token expired", true, &mut effects);
            return effects;
        }
        match ClientFrame::parse(text) {
            Err(BadFrame { id, error }) => self.refuse_frame(moment.now, from, id, error, &mut effects),
            Ok(frame) => {
                if session.faults > 0 {
                    session.faults = 0;
                    effects.push(Effect::Save { of: from.clone() });
                }
                self.understood(moment, active, from, frame, &mut effects);
            }
        }
        effects
    }

    fn refuse_frame(
        &mut self,
        now: UnixMs,
        from: &ConnectionId,
        request_id: Option<RequestId>,
        error: Error,
        effects: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.get_mut(from) else {
            return;
        };
        session.faults += 1;
        let (faults, oversize) = (session.faults, error.code == ErrorCode::PayloadTooLarge);
        effects.push(Effect::Save { of: from.clone() });
        effects.push(send_error(from, request_id, error, now));
        if oversize && faults >= OVERSIZE_MAX {
            close(from, CloseCode::FrameTooBig, "frames over the limit", true, effects);
        } else if faults >= FAULTS_MAX {
            close(
                from,
                CloseCode::ProtocolError,
                "too many bad frames in a row",
                false,
                effects,
            );
        }
    }

    fn understood(
        &mut self,
        moment: &mut Moment<'_>,
        active: Active<'_>,
        from: &ConnectionId,
        frame: ClientFrame<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.get(from) else { return };
        let principal = session.principal();
        let mut id_or_new =
            |id: Option<RequestId>| id.unwrap_or_else(|| RequestId::generate(moment.now, (moment.random)()));
        let shards = active.plan.scale.shards;
        match frame {
            ClientFrame::Request(request) => {
                let request_id = id_or_new(request.id.clone());
                let asker = Asker::Socket(from.clone());
                if let Err(error) = self.has_room(from) {
                    effects.push(send_error(from, Some(request_id), error, moment.now));
                    return;
                }
                let context = Context {
                    plan: active.plan,
                    revision: active.revision,
                    principal: &principal,
                    now: moment.now,
                    follower: Some(self.index),
                };
                match admit(context, &request, &request_id, Prefer::default(), (moment.random)()) {
                    Ok(admitted) => self.dispatch(asker, request_id, admitted, effects),
                    Err(error) => effects.push(send_error(from, Some(request_id), error, moment.now)),
                }
            }
            ClientFrame::Attach { id, target, after } => {
                let request_id = id_or_new(id);
                if let Err(error) = self.has_room(from) {
                    effects.push(send_error(from, Some(request_id), error, moment.now));
                    return;
                }
                let (shard, job) = match target {
                    Target::Job(id) => (shard_of(id.number().partition(), shards), JobRef::Id(id)),
                    Target::Key(action, key) => {
                        let hash = fnv1a(&[action.as_str().as_bytes(), key.as_str().as_bytes()]);
                        (shard_of(Partition::of_hash(hash), shards), JobRef::Key(action, key))
                    }
                };
                let call = jobs::Call::Follow {
                    job,
                    caller: principal.caller(),
                    hub: self.index,
                    after,
                };
                let pending = Pending {
                    asker: Asker::Socket(from.clone()),
                    request_id,
                    question: Question::Attach { after },
                };
                self.call(pending, shard, call, effects);
            }
            ClientFrame::Detach { id, job } => {
                let request_id = id_or_new(id);
                if let Some(session) = self.sessions.get_mut(from) {
                    session.follows.retain(|follow| follow.job != job);
                }
                self.unfollow(job, from);
                effects.push(Effect::Save { of: from.clone() });
                effects.push(send(from, &ServerFrame::Ok { request_id }));
            }
            ClientFrame::Cancel { id, job } => {
                let request_id = id_or_new(id);
                let call = jobs::Call::Cancel {
                    job,
                    caller: principal.caller(),
                };
                let asker = Asker::Socket(from.clone());
                let shard = shard_of(job.number().partition(), shards);
                self.call(
                    Pending {
                        asker,
                        request_id,
                        question: Question::Cancel,
                    },
                    shard,
                    call,
                    effects,
                );
            }
            ClientFrame::Auth { id, .. } => {
                let error = Error::new(
                    ErrorCode::NotImplemented,
                    "Replacing the token of a live socket is not there yet: connect again with the new one.",
                );
                effects.push(send_error(from, id, error, moment.now));
            }
        }
    }

    /// Requests under way and jobs followed share one bound.
    fn has_room(&self, connection: &ConnectionId) -> Result<(), Error> {
        let follows = self.sessions.get(connection).map_or(0, |session| session.follows.len());
        if follows < FOLLOWS_MAX {
            let asker = Asker::Socket(connection.clone());
            let asking = self
                .pending
                .values()
                .filter(|pending| pending.asker == asker)
                .take(FOLLOWS_MAX)
                .count();
            if follows + asking < FOLLOWS_MAX {
                return Ok(());
            }
        }
        let message = format!("This socket has {FOLLOWS_MAX} requests under way and jobs followed: limit `in_flight`.");
        Err(Error::new(ErrorCode::RateLimited, message).retry_after(1000))
    }

    /// A request over HTTP.
    #[expect(clippy::too_many_arguments, reason = "each is one part of one HTTP request")]
    pub fn request(
        &mut self,
        moment: &mut Moment<'_>,
        active: Active<'_>,
        from: HttpId,
        principal: &Principal,
        body: &str,
        idempotency_key: Option<&str>,
        traceparent: Option<&str>,
        prefer: Prefer,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        let (now, random) = (moment.now, (moment.random)());
        let admitted = Request::parse(body).and_then(|mut request| {
            take_headers(&mut request, idempotency_key, traceparent)?;
            let request_id = request.id.clone().unwrap_or_else(|| RequestId::generate(now, random));
            let context = Context {
                plan: active.plan,
                revision: active.revision,
                principal,
                now,
                follower: None,
            };
            let admitted = admit(context, &request, &request_id, prefer, (moment.random)())?;
            Ok((request_id, admitted))
        });
        match admitted {
            Ok((request_id, admitted)) => self.dispatch(Asker::Http(from), request_id, admitted, &mut effects),
            Err(error) => effects.push(Effect::Answer {
                to: from,
                reply: Err(error),
            }),
        }
        effects
    }

    fn dispatch(&mut self, asker: Asker, request_id: RequestId, admitted: Admitted, effects: &mut Vec<Effect>) {
        match admitted {
            Admitted::Here(run) => {
                let id = self.expect(Pending {
                    asker,
                    request_id,
                    question: Question::Run,
                });
                effects.push(Effect::Run { id, run });
            }
            Admitted::Job {
                shard,
                enqueue,
                answers,
            } => {
                let pending = Pending {
                    asker,
                    request_id,
                    question: Question::Request { answers },
                };
                self.call(pending, shard, jobs::Call::Enqueue(*enqueue), effects);
            }
        }
    }

    fn expect(&mut self, pending: Pending) -> CallId {
        let id = CallId(self.next_call);
        self.next_call += 1;
        self.pending.insert(id, pending);
        id
    }

    fn call(&mut self, pending: Pending, shard: ShardIndex, call: jobs::Call, effects: &mut Vec<Effect>) {
        let id = self.expect(pending);
        effects.push(Effect::Call {
            id,
            shard,
            call: Box::new(call),
        });
    }

    /// A synchronous run came to its end.
    pub fn ran(&mut self, now: UnixMs, id: CallId, result: Result<JsonText, Error>) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(Pending { asker, request_id, .. }) = self.pending.remove(&id) else {
            return effects;
        };
        match asker {
            Asker::Socket(to) => effects.push(match result {
                Ok(data) => send(
                    &to,
                    &ServerFrame::Response {
                        request_id,
                        success: true,
                        data,
                    },
                ),
                Err(error) => send_error(&to, Some(request_id), error, now),
            }),
            Asker::Http(to) => {
                let reply = Reply::Answer {
                    request_id,
                    result,
                    job: None,
                    deduplicated: false,
                    result_url: None,
                };
                effects.push(Effect::Answer { to, reply: Ok(reply) });
            }
        }
        effects
    }

    /// A `Jobs` object replied, or could not be reached.
    pub fn replied(&mut self, now: UnixMs, id: CallId, reply: Result<jobs::Reply, Error>) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(Pending {
            asker,
            request_id,
            question,
        }) = self.pending.remove(&id)
        {
            match asker {
                Asker::Socket(to) => self.tell_socket(now, &to, request_id, &question, reply, &mut effects),
                Asker::Http(to) => {
                    let reply = reply.map(|reply| http_reply(request_id, reply));
                    effects.push(Effect::Answer { to, reply });
                }
            }
        }
        if !self.pending.values().any(|pending| follows_from(&pending.question)) {
            self.parked.clear();
        }
        effects
    }

    fn tell_socket(
        &mut self,
        now: UnixMs,
        to: &ConnectionId,
        request_id: RequestId,
        question: &Question,
        reply: Result<jobs::Reply, Error>,
        effects: &mut Vec<Effect>,
    ) {
        if !self.sessions.contains_key(to) {
            return;
        }
        match reply {
            Err(error) => effects.push(send_error(to, Some(request_id), error, now)),
            Ok(jobs::Reply::Acknowledged {
                job,
                status,
                seq,
                deduplicated,
                run_at,
            }) => {
                effects.push(send(
                    to,
                    &acknowledgment(request_id.clone(), job, status, seq, deduplicated, run_at),
                ));
                self.follow(to, job, seq, request_id, effects);
            }
            Ok(jobs::Reply::Ended {
                job,
                event,
                deduplicated,
                ..
            }) => {
                let frame = match (question, &event.what) {
                    (
                        Question::Request {
                            answers: Answers::OnTheSpot,
                        },
                        Happening::Completed { result },
                    ) => match result {
                        Payload::Inline(data) => Some(ServerFrame::Response {
                            request_id: request_id.clone(),
                            success: true,
                            data: data.clone(),
                        }),
                        Payload::Stored { .. } => None,
                    },
                    (
                        Question::Request {
                            answers: Answers::OnTheSpot,
                        },
                        Happening::Failed { error },
                    ) => {
                        effects.push(send_error(to, Some(request_id), error.clone(), event.at));
                        return;
                    }
                    _ => None,
                };
                if let Some(frame) = frame {
                    effects.push(send(to, &frame));
                    return;
                }
                let status = ended_state(&event);
                let before = Seq(event.seq.0.saturating_sub(1));
                effects.push(send(
                    to,
                    &acknowledgment(request_id.clone(), job, status, before, deduplicated, None),
                ));
                effects.push(send(to, &ServerFrame::event(request_id, job, &event)));
            }
            Ok(jobs::Reply::Following {
                job,
                snapshot,
                events,
                ended,
            }) => {
                let mut seq = match question {
                    Question::Attach { after } => after.unwrap_or_default(),
                    Question::Request { .. } | Question::Cancel | Question::Run => Seq(0),
                };
                if let Some(snapshot) = snapshot {
                    // It takes the cursor's place, also where that was beyond anything that happened.
                    seq = snapshot.seq;
                    effects.push(send(to, &ServerFrame::snapshot(request_id.clone(), job, snapshot)));
                }
                for event in events {
                    seq = seq.max(event.seq);
                    effects.push(send(to, &ServerFrame::event(request_id.clone(), job, &event)));
                }
                if !ended {
                    self.follow(to, job, seq, request_id, effects);
                }
            }
            Ok(jobs::Reply::Done) => effects.push(send(to, &ServerFrame::Ok { request_id })),
            Ok(
                jobs::Reply::Job(_) | jobs::Reply::Result { .. } | jobs::Reply::Jobs(_) | jobs::Reply::Continue { .. },
            ) => effects.push(send_error(to, Some(request_id), unexpected(), now)),
        }
    }

    /// Lets a socket follow a job, and gives it what came while the acknowledgment was on its way.
    fn follow(&mut self, to: &ConnectionId, job: JobId, seq: Seq, request_id: RequestId, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(to) else {
            return;
        };
        session.follow(job, seq, request_id);
        self.followers.entry(job).or_default().insert(to.clone());
        let missed: Vec<Event> = self
            .parked
            .iter()
            .filter(|delivery| delivery.job == job)
            .map(|delivery| delivery.event.clone())
            .collect();
        for event in missed {
            self.pass_on(to, job, &event, effects);
        }
        effects.push(Effect::Save { of: to.clone() });
    }

    /// Events for the sockets that follow their jobs. Gives the jobs that none of them follows.
    pub fn deliver(&mut self, now: UnixMs, deliveries: Vec<Delivery>) -> (Vec<Effect>, Vec<JobId>) {
        let (mut effects, mut not_followed) = (Vec::new(), Vec::new());
        let awaiting = self.pending.values().any(|pending| follows_from(&pending.question));
        for delivery in deliveries {
            let connections: Vec<ConnectionId> = self
                .followers
                .get(&delivery.job)
                .into_iter()
                .flatten()
                .cloned()
                .collect();
            if connections.is_empty() && !awaiting && !not_followed.contains(&delivery.job) {
                not_followed.push(delivery.job);
            }
            for connection in connections {
                let expired = self
                    .sessions
                    .get(&connection)
                    .is_some_and(|session| session.expires_at <= now);
                if expired {
                    close(
                        &connection,
                        CloseCode::TokenExpired,
                        "token expired",
                        true,
                        &mut effects,
                    );
                    continue;
                }
                self.pass_on(&connection, delivery.job, &delivery.event, &mut effects);
                effects.push(Effect::Save { of: connection });
            }
            // A second socket may be about to follow the same job, so that the event is kept for it as well.
            // The oldest makes way: an acknowledgment names a newer place than what came long before it.
            if awaiting {
                self.parked.push_back(delivery);
                if self.parked.len() > PARKED_MAX {
                    self.parked.pop_front();
                }
            }
        }
        (effects, not_followed)
    }

    /// Sends an event to a socket, under every request that it answers there, unless the socket has it.
    fn pass_on(&mut self, to: &ConnectionId, job: JobId, event: &Event, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(to) else {
            return;
        };
        for follow in session
            .follows
            .iter_mut()
            .filter(|follow| follow.job == job && follow.seq < event.seq)
        {
            follow.seq = event.seq;
            effects.push(send(to, &ServerFrame::event(follow.request_id.clone(), job, event)));
        }
        if event.what.is_terminal() {
            session.follows.retain(|follow| follow.job != job);
            self.unfollow(job, to);
        }
    }
}

/// Whether the one who asked will follow a job whose events may overtake the reply.
fn follows_from(question: &Question) -> bool {
    match question {
        Question::Request { .. } | Question::Attach { .. } => true,
        Question::Cancel | Question::Run => false,
    }
}

fn send(to: &ConnectionId, frame: &ServerFrame) -> Effect {
    Effect::Send {
        to: to.clone(),
        frame: frame.encode(),
    }
}

fn send_error(to: &ConnectionId, request_id: Option<RequestId>, error: Error, timestamp: UnixMs) -> Effect {
    send(
        to,
        &ServerFrame::Error {
            request_id,
            job_id: None,
            seq: None,
            error,
            timestamp,
        },
    )
}

fn close(to: &ConnectionId, code: CloseCode, reason: &'static str, reconnect: bool, effects: &mut Vec<Effect>) {
    let goodbye = ServerFrame::Goodbye {
        code: code.number(),
        reason,
        reconnect,
        after_ms: None,
    };
    effects.push(send(to, &goodbye));
    effects.push(Effect::Close {
        to: to.clone(),
        code,
        reason,
    });
}

fn acknowledgment(
    request_id: RequestId,
    job_id: JobId,
    status: JobState,
    seq: Seq,
    deduplicated: bool,
    run_at: Option<UnixMs>,
) -> ServerFrame {
    let message = if deduplicated {
        "This key's job is stored already."
    } else {
        "The job is stored."
    };
    ServerFrame::Acknowledgment {
        request_id,
        job_id,
        status,
        message,
        deduplicated,
        run_at,
        seq,
    }
}

fn ended_state(event: &Event) -> JobState {
    match &event.what {
        Happening::Failed { error } if error.code == ErrorCode::Cancelled => JobState::Cancelled,
        Happening::Failed { error } if error.code == ErrorCode::Expired => JobState::Expired,
        Happening::Failed { .. } => JobState::Failed,
        Happening::Completed { .. } | Happening::Progress(_) | Happening::Retrying { .. } => JobState::Succeeded,
    }
}

fn http_reply(request_id: RequestId, reply: jobs::Reply) -> Reply {
    match reply {
        jobs::Reply::Acknowledged {
            job,
            status,
            seq,
            deduplicated,
            run_at,
        } => Reply::Accepted(Accepted {
            request_id,
            job_id: job,
            status,
            deduplicated,
            seq,
            run_at,
        }),
        jobs::Reply::Ended {
            job,
            event,
            deduplicated,
            stored,
        } => {
            let (result, url) = match event.what {
                Happening::Completed {
                    result: Payload::Inline(data),
                } => (Ok(data), None),
                Happening::Completed {
                    result: Payload::Stored { .. },
                } => (Ok(JsonText::null()), Some(result_url(job))),
                Happening::Failed { error } => (Err(error), None),
                Happening::Progress(_) | Happening::Retrying { .. } => (Err(unexpected()), None),
            };
            Reply::Answer {
                request_id,
                result,
                job: stored.then_some(job),
                deduplicated,
                result_url: url,
            }
        }
        jobs::Reply::Following { .. }
        | jobs::Reply::Job(_)
        | jobs::Reply::Result { .. }
        | jobs::Reply::Jobs(_)
        | jobs::Reply::Continue { .. }
        | jobs::Reply::Done => Reply::Answer {
            request_id,
            result: Err(unexpected()),
            job: None,
            deduplicated: false,
            result_url: None,
        },
    }
}

fn unexpected() -> Error {
    Error::new(
        ErrorCode::InternalError,
        "An object gave an answer that does not fit the question.",
    )
}

/// Takes the key and the trace from the headers, where the body has none.
fn take_headers(
    request: &mut Request<'_>,
    idempotency_key: Option<&str>,
    traceparent: Option<&str>,
) -> Result<(), Error> {
    if let Some(text) = idempotency_key {
        let bare = text
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .unwrap_or(text);
        let key = IdempotencyKey::parse(bare).ok_or_else(|| {
            let fault = Fault::new("/headers/idempotency-key", IdempotencyKey::EXPECTED, bare);
            Error::invalid("The header Idempotency-Key cannot be used.", alloc::vec![fault])
        })?;
        match &request.idempotency_key {
            Some(own) if *own != key => {
                let fault = Fault::new(
                    "/idempotency_key",
                    "the same key as in the header, or none",
                    own.as_str(),
                );
                return Err(Error::invalid(
                    "The request has two idempotency keys.",
                    alloc::vec![fault],
                ));
            }
            _ => request.idempotency_key = Some(key),
        }
    }
    if request.traceparent.is_none() {
        // A broken trace header must not fail the work that it accompanies (W3C Trace Context, section 4.3).
        request.traceparent = traceparent.and_then(TraceParent::parse);
    }
    Ok(())
}
