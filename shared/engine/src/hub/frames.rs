//! Frames from a socket: what each of them asks for, and what becomes of those that cannot be read.

use alloc::boxed::Box;
use alloc::vec::Vec;

use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::audit::{Act, Via};
use tidegate_protocol::calls::hub::Prefer;
use tidegate_protocol::calls::jobs::{self, JobRef};
use tidegate_protocol::frames::{ClientFrame, CloseCode, Request, ServerFrame, Target};
use tidegate_protocol::ids::{ConnectionId, JobId, Partition, RequestId, Seq, ShardIndex, fnv1a};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::log::{Begun, Logging, Outcome};
use super::outgoing::{close, send, send_error};
use super::pending::{Asked, Asker, Question};
use super::{Context, Effect, FAULTS_MAX, Hub, Moment, OVERSIZE_MAX, admit};
use crate::composition::Plan;

impl Hub {
    /// A frame that is no text.
    pub fn unreadable(&mut self, now: UnixMs, from: &ConnectionId, error: Error) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.refuse_frame(now, from, None, error, &mut effects);
        effects
    }

    /// A text frame that cannot be decided now, through no fault of its sender: it is told so under its own id, and the
    /// socket is held to account only for what is wrong with the frame itself.
    pub fn not_now(&mut self, now: UnixMs, from: &ConnectionId, text: &str, error: Error) -> Vec<Effect> {
        let mut effects = Vec::new();
        if !self.sessions.contains_key(from) {
            return effects;
        }
        match ClientFrame::parse(text) {
            Ok(frame) => {
                let (id, outcome) = (frame.id().cloned(), Outcome::refused(&error));
                effects.push(send_error(from, id.clone(), error, now));
                if let ClientFrame::Request(request) = &frame {
                    let id = id.unwrap_or_else(|| RequestId::generate(now, fnv1a(&[text.as_bytes()])));
                    let begun = self.logging.begin(now, Some(request), text);
                    Logging::note(begun, now, from, id, outcome, &mut effects);
                }
            }
            Err(bad) => self.refuse_frame(now, from, bad.id, bad.error, &mut effects),
        }
        effects
    }

    /// A text frame from a socket.
    pub fn frame(&mut self, moment: &mut Moment<'_>, plan: &Plan, from: &ConnectionId, text: &str) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(session) = self.sessions.get_mut(from) else {
            return effects;
        };
        if session.principal.expires_at <= moment.now {
            close(from, CloseCode::TokenExpired, "token expired", true, &mut effects);
            return effects;
        }
        match ClientFrame::parse(text) {
            Err(bad) => {
                let logged = self.logging.begin(moment.now, None, text).map(|begun| {
                    let id = bad.id.clone();
                    let id = id.unwrap_or_else(|| RequestId::generate(moment.now, (moment.random)()));
                    (begun, id, Outcome::refused(&bad.error))
                });
                self.refuse_frame(moment.now, from, bad.id, bad.error, &mut effects);
                if let Some((begun, id, outcome)) = logged {
                    Logging::note(Some(begun), moment.now, from, id, outcome, &mut effects);
                }
            }
            Ok(frame) => {
                if session.faults > 0 {
                    session.faults = 0;
                    effects.push(Effect::Save { of: from.clone() });
                }
                self.understood(moment, plan, from, frame, text, &mut effects);
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
        plan: &Plan,
        from: &ConnectionId,
        frame: ClientFrame<'_>,
        text: &str,
        effects: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.get(from) else { return };
        let caller = || session.principal.caller();
        let mut id_or_new =
            |id: Option<RequestId>| id.unwrap_or_else(|| RequestId::generate(moment.now, (moment.random)()));
        match frame {
            ClientFrame::Request(request) => {
                let request_id = id_or_new(request.id.clone());
                let begun = self.logging.begin(moment.now, Some(&request), text);
                self.requested(moment, plan, (from, begun), &request, request_id, effects);
            }
            ClientFrame::Attach { id, target, after } => {
                let request_id = id_or_new(id);
                let caller = caller();
                match self.has_room(from) {
                    Ok(()) => {
                        let target = self.find(plan, target);
                        self.attach(from, caller, request_id, target, after, effects);
                    }
                    Err(error) => effects.push(send_error(from, Some(request_id), error, moment.now)),
                }
            }
            ClientFrame::Detach { id, job } => {
                let request_id = id_or_new(id);
                self.detach(from, request_id, job, effects);
            }
            ClientFrame::Cancel { id, job } => {
                let request_id = id_or_new(id);
                let act = Act {
                    request_id: request_id.clone(),
                    via: Via::Socket,
                    traceparent: None,
                };
                let asked = Asked {
                    asker: Asker::Socket(from.clone(), None),
                    request_id,
                    question: Question::Cancel,
                };
                let caller = session.principal.acting(act);
                let call = jobs::Call::Cancel { job, caller };
                let shard = self.spreads.for_number(job.number());
                self.call(asked, shard, call, effects);
            }
            ClientFrame::Lease { id, pool, body } => {
                let request_id = id_or_new(id);
                self.lease(moment, from, request_id, pool, body, effects);
            }
            ClientFrame::Attempt {
                id,
                attempt_token,
                said,
            } => effects.push(Effect::Attempt {
                to: from.clone(),
                request_id: id_or_new(id),
                attempt_token,
                said: Box::new(said),
            }),
            ClientFrame::Subscribe {
                id,
                channel,
                after,
                presence,
            } => {
                let request_id = id_or_new(id);
                self.subscribe(moment, plan, from, request_id, channel, (after, presence), effects);
            }
            ClientFrame::Unsubscribe { id, channel } => {
                let request_id = id_or_new(id);
                self.unsubscribe(from, request_id, &channel, effects);
            }
            ClientFrame::Presence { id, channel } => {
                let request_id = id_or_new(id);
                self.presence(moment, plan, from, request_id, channel, effects);
            }
            ClientFrame::Publish {
                id,
                channel,
                publication,
            } => {
                let request_id = id_or_new(id);
                self.publish(moment, plan, from, request_id, channel, publication, effects);
            }
            ClientFrame::Auth { id, token } => effects.push(Effect::Authenticate {
                to: from.clone(),
                request_id: id_or_new(id),
                token,
            }),
        }
    }

    fn requested(
        &mut self,
        moment: &mut Moment<'_>,
        plan: &Plan,
        (from, begun): (&ConnectionId, Option<Box<Begun>>),
        request: &Request<'_>,
        request_id: RequestId,
        effects: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.get(from) else { return };
        let may = self.check_budgets(moment.now).and_then(|()| self.has_room(from));
        let admitted = may.and_then(|()| {
            let context = Context {
                plan,
                spreads: &self.spreads,
                deployment: &self.deployment,
                principal: &session.principal,
                now: moment.now,
                follower: Some(self.index),
            };
            admit(context, request, &request_id, Prefer::default(), (moment.random)())
        });
        match admitted {
            Ok(admitted) => self.pass(
                moment.now,
                Asker::Socket(from.clone(), begun),
                request_id,
                admitted,
                effects,
            ),
            Err(error) => {
                let refused = self.refusals.note(moment.now, error.code);
                effects.extend(refused.map(|refused| Effect::TellRefused { refused }));
                let outcome = Outcome::refused(&error);
                effects.push(send_error(from, Some(request_id.clone()), error, moment.now));
                Logging::note(begun, moment.now, from, request_id, outcome, effects);
            }
        }
    }

    /// Which object is asked for a job first, and how. A key of an action whose requests are told apart by their own
    /// values lies where those say, which the key does not tell.
    fn find(&self, plan: &Plan, target: Target) -> (ShardIndex, JobRef) {
        let (action, key) = match target {
            Target::Job(id) => return (self.spreads.for_number(id.number()), JobRef::Id(id)),
            Target::Key(action, key) => (action, key),
        };
        let shards = self.spreads.shards();
        let of_values = |action| plan.action(action).is_ok_and(|action| action.once.dedupe.is_some());
        if shards > 1 && of_values(&action) {
            let at = ShardIndex(0);
            return (
                at,
                JobRef::Anywhere {
                    action,
                    key,
                    at,
                    shards,
                },
            );
        }
        let hash = fnv1a(&[action.as_str().as_bytes(), key.as_str().as_bytes()]);
        let shard = self.spreads.for_key(Partition::of_hash(hash));
        (shard, JobRef::Key(action, key))
    }

    fn attach(
        &mut self,
        from: &ConnectionId,
        caller: Caller,
        request_id: RequestId,
        (shard, job): (ShardIndex, JobRef),
        after: Option<Seq>,
        effects: &mut Vec<Effect>,
    ) {
        let call = jobs::Call::Follow {
            job,
            caller,
            hub: self.index,
            after,
        };
        let asked = Asked {
            asker: Asker::Socket(from.clone(), None),
            request_id,
            question: Question::Attach { after },
        };
        self.call(asked, shard, call, effects);
    }

    fn detach(&mut self, from: &ConnectionId, request_id: RequestId, job: JobId, effects: &mut Vec<Effect>) {
        if let Some(session) = self.sessions.get_mut(from) {
            session.follows.retain(|follow| follow.job != job);
        }
        self.unfollow(job, from);
        effects.push(Effect::Save { of: from.clone() });
        effects.push(send(from, &ServerFrame::Ok { request_id }));
    }
}
