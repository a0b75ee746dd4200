//! The shell of a `Hub` object. Every decision is in [`tidegate_engine::hub`].
#![expect(missing_docs, reason = "the attribute macro makes public methods without comments")]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Waker};

use futures_channel::oneshot;
use js_sys::Uint8Array;
use tidegate_engine::composition::Plan;
use tidegate_engine::database::{Database, DatabaseError, Value, migrate};
use tidegate_engine::hub::{CallId, Effect, HttpId, Hub as Memory, Moment, Run};
use tidegate_protocol::calls::hub::{Call, Reply};
use tidegate_protocol::calls::jobs::{self, Batch};
use tidegate_protocol::calls::tenant::{self, Description};
use tidegate_protocol::calls::{Answered, PRINCIPAL_HEADER, Principal};
use tidegate_protocol::event::Payload;
use tidegate_protocol::frames::{CloseCode, PING, PONG, PROTOCOL};
use tidegate_protocol::ids::{ConnectionId, HubIndex, ObjectName, ShardIndex, TenantId};
use tidegate_protocol::limits::PAYLOAD_ROW_BYTES_MAX;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode, Fault};
use wasm_bindgen::prelude::*;
use worker::worker_sys::ext::WebSocketExt;
use worker::{DurableObject, Env, Request, Response, Result, State, WebSocket, WebSocketPair, durable_object};

use crate::outbox::Outbox;
use crate::platform::{log_error, now, random, unavailable};
use crate::sockets::{Sockets, attached};
use crate::sql::ObjectDatabase;
use crate::{plans, remote, runtime, storage};

/// How old the hub's idea of the active composition may be before it asks again, beside its work. The gate tells of
/// every change at once; this mends a message that was lost. Milliseconds.
const DESCRIPTION_MS: u64 = 30_000;
/// How long a spent ticket is remembered: longer than any is good. Milliseconds.
const TICKET_MS: u64 = 60_000;
/// The header that carries a ticket's id from the Worker. Stripped from everything that comes from outside.
pub const TICKET_HEADER: &str = "x-tidegate-ticket";

/// Frames that are held while the gate is asked what is active, which takes milliseconds. The rest are refused.
const HELD_FRAMES_MAX: usize = 1024;
/// Bytes of the frames that are held: far below the memory of an isolate, which all of its objects share.
const HELD_BYTES_MAX: usize = 8 * 1024 * 1024;

const STEPS: &[&[&str]] = &[&["-- hub::schema
    CREATE TABLE spent_ticket (id TEXT PRIMARY KEY, spent_at INTEGER NOT NULL) STRICT, WITHOUT ROWID"]];

/// One hub of a tenant: its sockets.
///
/// The handlers of its sockets are exported below, by hand: those of the `worker` crate make a promise and a task for
/// each frame, which cost several times what most frames need.
#[durable_object(fetch)]
pub struct Hub {
    shell: AssertUnwindSafe<Rc<Shell>>,
}

/// Calls on their way to one `Jobs` object.
type CallBox = Outbox<(CallId, jobs::Call)>;

struct Known {
    description: Description,
    plan: Rc<Plan>,
    at: UnixMs,
}

struct Shell {
    env: Env,
    state: State,
    db: ObjectDatabase,
    migrated: Cell<bool>,
    name: Option<(TenantId, HubIndex)>,
    memory: RefCell<Memory>,
    sockets: RefCell<Sockets>,
    /// Frames that came before this instance knew what is active.
    held: RefCell<Vec<(ConnectionId, String)>>,
    known: RefCell<Option<Rc<Known>>>,
    asking: RefCell<BTreeMap<HttpId, oneshot::Sender<core::result::Result<Reply, Error>>>>,
    next_http: Cell<u64>,
    outboxes: RefCell<BTreeMap<ShardIndex, Rc<CallBox>>>,
}

impl DurableObject for Hub {
    fn new(state: State, env: Env) -> Self {
        let text = state.id().name();
        let name = match text.as_deref().and_then(ObjectName::parse) {
            Some(ObjectName::Hub(tenant, index)) => Some((tenant, index)),
            _ => None,
        };
        worker::console_debug!("constructed Hub {}", text.unwrap_or_default());
        if let Ok(pair) = worker::WebSocketRequestResponsePair::new(PING, PONG) {
            state.set_websocket_auto_response(&pair);
        }
        let mut memory = Memory::new(name.as_ref().map_or(HubIndex(0), |(_, index)| *index));
        let mut sockets = Sockets::default();
        for socket in state.get_websockets() {
            match attached(&socket) {
                Some(session) => {
                    sockets.insert(session.connection.clone(), socket);
                    memory.restore(session);
                }
                None => Sockets::disown(&socket),
            }
        }
        let db = ObjectDatabase::new(&state);
        let shell = Shell {
            env,
            state,
            db,
            migrated: Cell::new(false),
            name,
            memory: RefCell::new(memory),
            sockets: RefCell::new(sockets),
            held: RefCell::new(Vec::new()),
            known: RefCell::new(None),
            asking: RefCell::new(BTreeMap::new()),
            next_http: Cell::new(0),
            outboxes: RefCell::new(BTreeMap::new()),
        };
        Self {
            shell: AssertUnwindSafe(Rc::new(shell)),
        }
    }

    async fn fetch(&self, mut request: Request) -> Result<Response> {
        let shell = self.shell.0.clone();
        match request.path().as_str() {
            "/connect" => shell.connect(&request),
            "/rows-written" => Response::ok(shell.db.rows_written().to_string()),
            _ => {
                let name = shell.name.clone().map(|(tenant, index)| ObjectName::Hub(tenant, index));
                let answered: Answered<Reply> = match remote::receive(&mut request, name.as_ref()).await {
                    Ok(call) => shell.answer(call).await.into(),
                    Err(error) => Err(error).into(),
                };
                remote::respond(&answered)
            }
        }
    }
}

#[wasm_bindgen]
impl Hub {
    /// A frame came on a socket. What it needs beyond this turn is waited for beside it.
    #[wasm_bindgen(js_name = webSocketMessage)]
    pub fn on_message(&self, socket: web_sys::WebSocket, message: &JsValue) {
        let socket = WebSocket::from(socket);
        match message.as_string() {
            Some(text) => self.shell.text(&socket, text),
            None => self.shell.binary(&socket),
        }
    }

    /// A socket was closed by its client.
    #[wasm_bindgen(js_name = webSocketClose)]
    pub fn on_close(&self, socket: web_sys::WebSocket, code: u16) {
        self.shell.ended(&WebSocket::from(socket), code);
    }

    /// A socket broke.
    #[wasm_bindgen(js_name = webSocketError)]
    pub fn on_error(&self, socket: web_sys::WebSocket) {
        self.shell.gone(&WebSocket::from(socket));
    }
}

/// Where the answer to a caller over HTTP comes.
type Answer = oneshot::Receiver<core::result::Result<Reply, Error>>;

async fn answered(receiver: Answer) -> core::result::Result<Reply, Error> {
    receiver
        .await
        .unwrap_or_else(|_| Err(Error::new(ErrorCode::Unavailable, "The hub is restarting.").retry_after(1000)))
}

fn busy() -> Error {
    Error::new(ErrorCode::Unavailable, "The hub is starting.").retry_after(1000)
}

impl Shell {
    /// A text frame. What is active is nearly always known: then it is decided in this very turn.
    fn text(self: &Rc<Self>, socket: &WebSocket, text: String) {
        let Some(from) = self.sockets.borrow().connection(socket) else {
            return;
        };
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
            self.state.wait_until(async move { shell.release().await });
        }
    }

    /// Decides the frames that were held, in the order in which they came.
    async fn release(self: &Rc<Self>) {
        let active = self.active().await;
        for (from, text) in self.held.take() {
            match &active {
                Ok(known) => self.frame(known, now(), &from, &text),
                Err(error) => self.not_now(&from, &text, error.clone()),
            }
        }
    }

    fn frame(self: &Rc<Self>, known: &Known, now: UnixMs, from: &ConnectionId, text: &str) {
        let effects = self.decide(known, now, |memory, moment, plan| {
            memory.frame(moment, plan, from, text)
        });
        self.perform(effects);
    }

    fn binary(self: &Rc<Self>, socket: &WebSocket) {
        let Some(from) = self.sockets.borrow().connection(socket) else {
            return;
        };
        let fault = Fault::new("", "a text frame", "a binary frame");
        let error = Error::invalid("Frames are text.", vec![fault]);
        let effects = self.memory.borrow_mut().unreadable(now(), &from, error);
        self.perform(effects);
    }

    fn not_now(self: &Rc<Self>, from: &ConnectionId, text: &str, error: Error) {
        let effects = self.memory.borrow_mut().not_now(now(), from, text, error);
        self.perform(effects);
    }

    /// A socket was closed by its client: the close is answered.
    fn ended(&self, socket: &WebSocket, code: u16) {
        self.gone(socket);
        // 1005 and 1006 say that there was no code: they may not be sent.
        let code = Some(code).filter(|code| !matches!(code, 1005 | 1006 | 1015));
        let _already_closed = socket.close(code, Some(""));
    }

    /// Accepts the socket of a principal that the Worker verified.
    fn connect(self: &Rc<Self>, request: &Request) -> Result<Response> {
        let principal = match self.principal(request) {
            Ok(principal) => principal,
            Err(error) => return remote::respond(&Answered::<Reply>::Refused(error)),
        };
        let pair = WebSocketPair::new()?;
        let opened = {
            let mut chance = random;
            let mut moment = Moment {
                now: now(),
                random: &mut chance,
            };
            self.memory.borrow_mut().open(&mut moment, principal)
        };
        let (connection, effects) = match opened {
            Ok(opened) => opened,
            Err(error) => return remote::respond(&Answered::<Reply>::Refused(error)),
        };
        self.state.accept_web_socket(&pair.server);
        self.sockets.borrow_mut().insert(connection, pair.server);
        self.perform(effects);
        let response = Response::from_websocket(pair.client)?;
        if request.headers().get("sec-websocket-protocol")?.is_some() {
            let headers = worker::Headers::new();
            headers.set("sec-websocket-protocol", PROTOCOL)?;
            return Ok(response.with_headers(headers));
        }
        Ok(response)
    }

    fn principal(&self, request: &Request) -> core::result::Result<Principal, Error> {
        let forbidden = || {
            Error::new(
                ErrorCode::InternalError,
                "A connection reached the hub without a principal.",
            )
        };
        let header = request
            .headers()
            .get(PRINCIPAL_HEADER)
            .ok()
            .flatten()
            .ok_or_else(forbidden)?;
        let principal: Principal = serde_json::from_str(&header).map_err(|_| forbidden())?;
        if self.name.as_ref().is_none_or(|(tenant, _)| *tenant != principal.tenant) {
            return Err(forbidden());
        }
        if let Some(ticket) = request.headers().get(TICKET_HEADER).ok().flatten() {
            self.spend(&ticket)?;
        }
        Ok(principal)
    }

    /// Spends a ticket: the first to come with it passes.
    fn spend(&self, ticket: &str) -> core::result::Result<(), Error> {
        let turn = self.db.transaction(|db| {
            if !self.migrated.get() {
                migrate(db, STEPS)?;
            }
            let now = now();
            db.run(
                "-- hub::spend
                DELETE FROM spent_ticket WHERE spent_at < CAST(? AS INTEGER)",
                &[Value::Number(now.0.saturating_sub(TICKET_MS))],
            )?;
            let spent = db.run(
                "-- hub::spend
                INSERT INTO spent_ticket (id, spent_at) VALUES (?, ?) ON CONFLICT (id) DO NOTHING RETURNING 1",
                &[Value::Text(ticket), Value::Number(now.0)],
            )?;
            Ok::<_, DatabaseError>(!spent.is_empty())
        });
        match turn {
            Ok(true) => {
                self.migrated.set(true);
                Ok(())
            }
            Ok(false) => Err(Error::new(
                ErrorCode::Unauthorized,
                "The ticket was used already: it is good once.",
            )),
            Err(error) => {
                log_error("a ticket", error);
                Err(Error::new(ErrorCode::Unavailable, "The ticket cannot be checked right now.").retry_after(1000))
            }
        }
    }

    async fn answer(self: &Rc<Self>, call: Call) -> core::result::Result<Reply, Error> {
        match call {
            Call::Deliver { deliveries } => {
                let (effects, not_followed) = self.memory.borrow_mut().deliver(now(), deliveries);
                self.perform(effects);
                Ok(Reply::Delivered { not_followed })
            }
            Call::Refresh { description } => {
                self.learn(description).await?;
                Ok(Reply::Done)
            }
            Call::Batch {
                principal,
                items,
                traceparent,
            } => {
                let known = self.active().await?;
                let (id, receiver) = self.http_caller();
                let effects = self.decide(&known, now(), |memory, moment, plan| {
                    memory.batch(moment, plan, id, &principal, &items, traceparent.as_deref())
                });
                self.perform(effects);
                answered(receiver).await
            }
            Call::Request {
                principal,
                body,
                idempotency_key,
                traceparent,
                prefer,
            } => {
                let known = self.active().await?;
                let (id, receiver) = self.http_caller();
                let effects = self.decide(&known, now(), |memory, moment, plan| {
                    let (key, trace) = (idempotency_key.as_deref(), traceparent.as_deref());
                    memory.request(moment, plan, id, &principal, &body, key, trace, prefer)
                });
                self.perform(effects);
                answered(receiver).await
            }
        }
    }

    /// A number for a caller over HTTP, and where its answer will come.
    fn http_caller(&self) -> (HttpId, Answer) {
        let id = HttpId(self.next_http.get());
        self.next_http.set(id.0 + 1);
        let (sender, receiver) = oneshot::channel();
        self.asking.borrow_mut().insert(id, sender);
        (id, receiver)
    }

    /// What is active, from memory where that is recent, else from the gate.
    async fn active(self: &Rc<Self>) -> core::result::Result<Rc<Known>, Error> {
        let known = self.known.borrow().clone();
        let Some(known) = known else { return self.ask().await };
        self.renew(&known, now());
        Ok(known)
    }

    /// Asks the gate again, beside the work and once, where what is known has become old.
    fn renew(self: &Rc<Self>, known: &Rc<Known>, now: UnixMs) {
        if now.since(known.at) <= DESCRIPTION_MS {
            return;
        }
        let fresh = Known {
            description: known.description.clone(),
            plan: known.plan.clone(),
            at: now,
        };
        *self.known.borrow_mut() = Some(Rc::new(fresh));
        let shell = self.clone();
        self.state.wait_until(async move {
            if let Err(error) = shell.ask().await {
                log_error("the gate was not reached", error);
            }
        });
    }

    async fn ask(&self) -> core::result::Result<Rc<Known>, Error> {
        let (tenant, _) = self.name.as_ref().ok_or_else(Error::not_found)?;
        match remote::tenant(&self.env, tenant, &tenant::Call::Describe).await? {
            tenant::Reply::Description(description) => self.learn(description).await,
            tenant::Reply::Document(_) => Err(Error::new(
                ErrorCode::InternalError,
                "The gate answered another question.",
            )),
        }
    }

    async fn learn(&self, description: Description) -> core::result::Result<Rc<Known>, Error> {
        let (tenant, _) = self.name.as_ref().ok_or_else(Error::not_found)?;
        let plan = plans::plan(&self.env, tenant, description.revision.as_ref()).await?;
        let mut kept = self.known.borrow_mut();
        if let Some(newer) = kept
            .as_ref()
            .filter(|known| known.description.version > description.version)
        {
            return Ok(newer.clone());
        }
        let known = Rc::new(Known {
            description,
            plan,
            at: now(),
        });
        *kept = Some(known.clone());
        Ok(known)
    }

    fn decide(
        &self,
        known: &Known,
        now: UnixMs,
        decide: impl FnOnce(&mut Memory, &mut Moment<'_>, &Plan) -> Vec<Effect>,
    ) -> Vec<Effect> {
        let mut chance = random;
        let mut moment = Moment {
            now,
            random: &mut chance,
        };
        decide(&mut self.memory.borrow_mut(), &mut moment, &known.plan)
    }

    fn gone(&self, socket: &WebSocket) {
        let connection = self.sockets.borrow().connection(socket);
        if let Some(connection) = connection {
            self.sockets.borrow_mut().remove(&connection);
            self.memory.borrow_mut().closed(&connection);
        }
    }

    fn perform(self: &Rc<Self>, effects: Vec<Effect>) {
        let mut changed = BTreeSet::new();
        for effect in effects {
            match effect {
                Effect::Send { to, frame } => self.send(&to, &frame),
                Effect::Save { of } => {
                    changed.insert(of);
                }
                Effect::Close { to, code, reason } => self.close(&to, code, reason),
                Effect::Call { id, shard, call } => self.call(id, shard, *call),
                Effect::Run { id, run } => self.run(id, *run),
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
    }

    fn send(&self, to: &ConnectionId, frame: &str) {
        let sockets = self.sockets.borrow();
        let Some(socket) = sockets.get(to) else { return };
        if socket.is_stalled(frame.len()) {
            drop(sockets);
            self.close(to, CloseCode::SlowConsumer, "the client does not read");
        } else if let Err(cause) = socket.socket.send_with_str(frame) {
            log_error("a frame", cause);
        }
    }

    fn close(&self, to: &ConnectionId, code: CloseCode, reason: &str) {
        let socket = self.sockets.borrow_mut().remove(to);
        self.memory.borrow_mut().closed(to);
        if let Some(socket) = socket {
            let _already_closed = socket.close(Some(code.number()), Some(reason));
        }
    }

    fn save(&self, connection: &ConnectionId) {
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

    /// Runs a synchronous action. One that is ready at once is answered in this very turn.
    fn run(self: &Rc<Self>, id: CallId, run: Run) {
        let (Some((tenant, _)), Some(known)) = (self.name.clone(), self.known.borrow().clone()) else {
            return;
        };
        let (env, shell) = (self.env.clone(), self.clone());
        let mut work: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async move {
            let result = runtime::run_here(env, tenant, &known.plan, run).await;
            let effects = shell.memory.borrow_mut().ran(now(), id, result);
            shell.perform(effects);
        });
        if work
            .as_mut()
            .poll(&mut TaskContext::from_waker(Waker::noop()))
            .is_pending()
        {
            self.state.wait_until(work);
        }
    }

    fn call(self: &Rc<Self>, id: CallId, shard: ShardIndex, call: jobs::Call) {
        let shell = self.clone();
        let large = match &call {
            jobs::Call::Enqueue(enqueue) => match &enqueue.job.payload {
                Payload::Inline(value) => value.as_str().len() > PAYLOAD_ROW_BYTES_MAX,
                Payload::Stored { .. } => false,
            },
            _ => false,
        };
        let waits = matches!(&call, jobs::Call::Enqueue(enqueue) if enqueue.answer_within_ms.is_some());
        if large || waits {
            // Its answer may take long, so that it must not hold up others in one batch.
            self.state.wait_until(async move {
                let reply = match shell.check_in(call).await {
                    Ok(call) => shell.exchange(shard, call).await,
                    Err(error) => Err(error),
                };
                shell.replied(id, reply);
            });
            return;
        }
        let outbox = self.outboxes.borrow_mut().entry(shard).or_default().clone();
        if outbox.push((id, call)) {
            self.state.wait_until(async move {
                while let Some(batch) = outbox.next() {
                    shell.exchange_batch(shard, batch).await;
                }
            });
        }
    }

    fn replied(self: &Rc<Self>, id: CallId, reply: core::result::Result<jobs::Reply, Error>) {
        let effects = self.memory.borrow_mut().replied(now(), id, reply);
        self.perform(effects);
    }

    async fn exchange(&self, shard: ShardIndex, call: jobs::Call) -> core::result::Result<jobs::Reply, Error> {
        let (tenant, _) = self.name.clone().ok_or_else(Error::not_found)?;
        remote::jobs(&self.env, &ObjectName::Jobs(tenant, shard), call).await
    }

    async fn exchange_batch(self: &Rc<Self>, shard: ShardIndex, batch: Vec<(CallId, jobs::Call)>) {
        let Some((tenant, _)) = self.name.clone() else { return };
        let (ids, calls): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let name = ObjectName::Jobs(tenant, shard);
        match remote::jobs_batch(&self.env, &name, &Batch { calls }).await {
            Ok(replies) => {
                let mut replies = replies.into_iter();
                for id in ids {
                    let reply = match replies.next() {
                        Some(answered) => answered.into_result(),
                        None => Err(Error::new(ErrorCode::InternalError, "An object answered too little.")),
                    };
                    self.replied(id, reply);
                }
            }
            Err(error) => {
                for id in ids {
                    self.replied(id, Err(error.clone()));
                }
            }
        }
    }

    /// Puts a large payload into object storage, and its claim check into the call.
    async fn check_in(&self, call: jobs::Call) -> core::result::Result<jobs::Call, Error> {
        let jobs::Call::Enqueue(mut enqueue) = call else {
            return Ok(call);
        };
        if let Payload::Inline(value) = &enqueue.job.payload
            && value.as_str().len() > PAYLOAD_ROW_BYTES_MAX
        {
            let (tenant, _) = self.name.as_ref().ok_or_else(Error::not_found)?;
            let bytes = value.as_str().as_bytes().to_vec();
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let chance = u128::from(random()) << 64 | u128::from(random());
            let key = storage::payload(tenant, chance);
            let bucket = self.env.bucket("OBJECTS").map_err(unavailable("the binding OBJECTS"))?;
            bucket
                .put(key.as_str(), bytes)
                .execute()
                .await
                .map_err(unavailable("storing a payload"))?;
            enqueue.job.payload = Payload::Stored { key, bytes: length };
        }
        Ok(jobs::Call::Enqueue(enqueue))
    }
}
