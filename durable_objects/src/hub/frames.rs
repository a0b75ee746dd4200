//! The sockets: frames that come, and what becomes of them.

use std::rc::Rc;

use js_sys::Uint8Array;
use tidegate_engine::hub::{Effect, Logged};
use tidegate_engine::request_log::{Record, Transport};
use tidegate_protocol::calls::usage::Meter;
use tidegate_protocol::frames::CloseCode;
use tidegate_protocol::ids::{ActionName, ConnectionId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, Fault};
use worker::WebSocket;
use worker::worker_sys::ext::WebSocketExt;

use super::active::Known;
use super::{HELD_BYTES_MAX, HELD_FRAMES_MAX, Shell, busy};
use crate::platform::{beside, log_error, now};
use crate::request_log;
use tidegate_protocol::SortedSet;

impl Shell {
    /// A text frame. What is active is nearly always known: then it is decided in this very turn.
    pub(super) fn text(self: &Rc<Self>, socket: &WebSocket, text: String) {
        let Some(from) = self.sockets.borrow().connection(socket) else {
            return;
        };
        self.usage.add_len(Meter::BytesIn, text.len());
        let known = self.known.borrow().clone();
        if let Some(known) = known
            && self.held.borrow().is_empty()
        {
            let now = now();
            self.renew(&known, now);
            return self.frame(&known, now, &from, &text);
        }
        let first = {
            let mut held = self.held.borrow_mut();
            let bytes: usize = held.iter().map(|(_, text)| text.len()).sum();
            if held.len() >= HELD_FRAMES_MAX || bytes + text.len() > HELD_BYTES_MAX {
                drop(held);
                return self.not_now(&from, &text, busy());
            }
            held.push((from, text));
            held.len() == 1
        };
        if first {
            let shell = self.clone();
            beside(&self.state, async move { shell.release().await });
        }
    }

    /// Decides the frames that were held, in the order in which they came.
    pub(super) async fn release(self: &Rc<Self>) {
        let active = self.active().await;
        for (from, text) in self.held.take() {
            match &active {
                Ok(known) => self.frame(known, now(), &from, &text),
                Err(error) => self.not_now(&from, &text, error.clone()),
            }
        }
    }

    pub(super) fn frame(self: &Rc<Self>, known: &Known, now: UnixMs, from: &ConnectionId, text: &str) {
        let effects = self.decide(known, now, |memory, moment, plan| {
            memory.frame(moment, plan, from, text)
        });
        self.perform(effects);
    }

    pub(super) fn binary(self: &Rc<Self>, socket: &WebSocket) {
        let Some(from) = self.sockets.borrow().connection(socket) else {
            return;
        };
        let fault = Fault::new("", "a text frame", "a binary frame");
        let error = Error::invalid("Frames are text.", vec![fault]);
        let effects = self.memory.borrow_mut().unreadable(now(), &from, error);
        self.perform(effects);
    }

    pub(super) fn not_now(self: &Rc<Self>, from: &ConnectionId, text: &str, error: Error) {
        let effects = self.memory.borrow_mut().not_now(now(), from, text, error);
        self.perform(effects);
    }

    /// A socket was closed by its client: the close is answered.
    pub(super) fn ended(self: &Rc<Self>, socket: &WebSocket, code: u16) {
        self.gone(socket);
        // 1005 and 1006 say that there was no code: they may not be sent.
        let code = Some(code).filter(|code| !matches!(code, 1005 | 1006 | 1015));
        let _already_closed = socket.close(code, Some(""));
    }

    pub(super) fn gone(self: &Rc<Self>, socket: &WebSocket) {
        let connection = self.sockets.borrow().connection(socket);
        if let Some(connection) = connection {
            self.sockets.borrow_mut().remove(&connection);
            let effects = self.memory.borrow_mut().closed(now(), &connection);
            self.perform(effects);
        }
    }

    pub(super) fn perform(self: &Rc<Self>, effects: Vec<Effect>) {
        let mut changed = SortedSet::new();
        for effect in effects {
            match effect {
                Effect::Send { to, frame } => self.send(&to, &frame),
                Effect::Broadcast { to, frames } => self.broadcast(&to, &frames),
                Effect::Save { of } => {
                    changed.insert(of);
                }
                Effect::Close { to, code, reason } => self.close(&to, code, reason),
                Effect::Channel { id, channel, call } => self.ask_channel(id, channel, *call),
                Effect::Call { id, shard, call } => self.call(id, shard, *call),
                Effect::Run { id, run } => self.run(id, *run),
                Effect::Lease { to, request_id, jobs } => self.lease(&to, request_id, jobs),
                Effect::Attempt {
                    to,
                    request_id,
                    attempt_token,
                    said,
                } => self.attempt(to, request_id, attempt_token, *said),
                Effect::Authenticate { to, request_id, token } => self.authenticate(to, request_id, token),
                Effect::Ask { ask } => self.ask_gate(ask),
                Effect::TellRefused { refused } => self.tell_refused(refused),
                Effect::Log { of } => self.log(&of),
                Effect::Answer { to, reply } => {
                    if let Some(sender) = self.asking.borrow_mut().remove(&to) {
                        // Whoever no longer listens has gone.
                        let _gone = sender.send(reply);
                    }
                }
            }
        }
        for connection in changed {
            self.save(&connection);
        }
        self.keep_feeds();
    }

    /// Writes the line of a request, where the rules of the deployment mean it.
    fn log(&self, logged: &Logged) {
        let memory = self.memory.borrow();
        let (begun, outcome) = (&logged.begun, &logged.outcome);
        let session = memory.session(&logged.connection);
        request_log::write(
            &self.env,
            &Record {
                at: begun.at,
                request_id: &logged.request_id,
                tenant: self.name.as_ref().map(|(tenant, _)| tenant),
                who: session.map(|session| &session.principal),
                transport: Transport::Socket,
                method: "request",
                route: "/v1/connect",
                action: begun.action.as_ref().map(ActionName::as_str),
                mode: begun.mode,
                status: outcome.status,
                code: outcome.error.as_ref().map(|(code, _)| code.as_str()),
                message: outcome.error.as_ref().map(|(_, message)| message.clone()),
                duration_ms: logged.duration_ms,
                bytes_in: u64::try_from(begun.bytes).ok(),
                bytes_out: u64::try_from(logged.bytes_out).ok(),
                job: outcome.job,
                body: begun.frame.as_deref(),
                connection: Some(logged.connection.as_str()),
            },
        );
    }

    /// Carries out effects that keep sessions, and nothing else.
    pub(super) fn save_all(&self, effects: Vec<Effect>) {
        for effect in effects {
            if let Effect::Save { of } = effect {
                self.save(&of);
            }
        }
    }

    pub(super) fn send(self: &Rc<Self>, to: &ConnectionId, frame: &str) {
        let sockets = self.sockets.borrow();
        let Some(socket) = sockets.get(to) else { return };
        if socket.is_stalled(frame.len()) {
            drop(sockets);
            self.close(to, CloseCode::SlowConsumer, "the client does not read");
        } else if let Err(cause) = socket.socket.send_with_str(frame) {
            log_error("a frame", cause);
        } else {
            self.usage.add(Meter::MessagesOut, 1);
            self.usage.add_len(Meter::BytesOut, frame.len());
        }
    }

    pub(super) fn close(self: &Rc<Self>, to: &ConnectionId, code: CloseCode, reason: &str) {
        let socket = self.sockets.borrow_mut().remove(to);
        let effects = self.memory.borrow_mut().closed(now(), to);
        self.perform(effects);
        if let Some(socket) = socket {
            let _already_closed = socket.close(Some(code.number()), Some(reason));
        }
    }

    pub(super) fn save(&self, connection: &ConnectionId) {
        let sockets = self.sockets.borrow();
        let memory = self.memory.borrow();
        let (Some(socket), Some(session)) = (sockets.get(connection), memory.session(connection)) else {
            return;
        };
        let Some(bytes) = session.to_attachment() else { return };
        let attachment = Uint8Array::from(bytes.as_slice()).into();
        if WebSocketExt::serialize_attachment(socket.socket.as_ref(), attachment).is_err() {
            log_error("a session", "its attachment was not taken");
        }
    }
}
