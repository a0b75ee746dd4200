//! The shell of a `Hub` object. Every decision is in [`tidegate_engine::hub`].
#![expect(missing_docs, reason = "the attribute macro makes public methods without comments")]

mod active;
mod calls;
mod channels;
mod connect;
mod frames;
mod limits;
mod tokens;
mod used;
mod workers;

use std::cell::{Cell, RefCell};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use futures_channel::oneshot;
use js_sys::Uint8Array;
use tidegate_engine::hub::{CallId, HttpId, Hub as Memory, batch_part_max, tickets};
use tidegate_protocol::calls::Answered;
use tidegate_protocol::calls::directory::Erased;
use tidegate_protocol::calls::hub::{Call, Reply};
use tidegate_protocol::calls::jobs;
use tidegate_protocol::calls::usage::{Meter, Source};
use tidegate_protocol::frames::{CloseCode, PING, PONG};
use tidegate_protocol::ids::{ChannelName, ConnectionId, HubIndex, ObjectName, ShardIndex, TenantId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};
use wasm_bindgen::prelude::*;
use worker::{DurableObject, Env, Request, Response, Result, State, WebSocket, durable_object};

use self::active::Known;
use self::channels::ChannelBox;
use crate::backup::{self, BackedUp, BackupState};
use crate::company::company;
use crate::erase;
use crate::outbox::Outbox;
use crate::platform::now;
use crate::remote;
use crate::request_log;
use crate::sockets::{Sockets, attached};
use crate::sql::ObjectDatabase;
use crate::timer::sleep;
use crate::usage::Usage;
use tidegate_protocol::SortedMap;

/// How old the hub's idea of the active composition may be before it asks again, beside its work. The gate tells of
/// every change at once; this mends a message that was lost. Milliseconds.
const DESCRIPTION_MS: u64 = 30_000;
/// The header that carries a ticket's id from the Worker. Stripped from everything that comes from outside.
pub const TICKET_HEADER: &str = "x-tidegate-ticket";

/// Frames that are held while the gate is asked what is active, which takes milliseconds. The rest are refused.
const HELD_FRAMES_MAX: usize = 1024;
/// Bytes of the frames that are held: far below the memory of an isolate, which all of its objects share.
const HELD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// One hub of a tenant: its sockets.
///
/// The handlers of its sockets are exported below, by hand: those of the `worker` crate make a promise and a task for
/// each frame, which cost several times what most frames need.
#[durable_object(alarm)]
pub struct Hub {
    shell: AssertUnwindSafe<Rc<Shell>>,
}

/// Calls on their way to one `Jobs` object.
type CallBox = Outbox<(CallId, jobs::Call)>;

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
    asking: RefCell<SortedMap<HttpId, oneshot::Sender<core::result::Result<Reply, Error>>>>,
    next_http: Cell<u64>,
    outboxes: RefCell<SortedMap<ShardIndex, Rc<CallBox>>>,
    channels: RefCell<SortedMap<ChannelName, Rc<ChannelBox>>>,
    /// Whether somebody is about to keep how far channels are.
    keeps_feeds: Cell<bool>,
    /// The alarm, as far as this instance has set it.
    alarm: Cell<Option<UnixMs>>,
    /// Whether somebody looks after the leases.
    looks: Cell<bool>,
    usage: Usage,
    backup: BackupState,
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
        memory.log(request_log::level(&env));
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
        let usage = Usage::new(
            Source::hub(name.as_ref().map_or(HubIndex(0), |(_, index)| *index)),
            name.as_ref().map(|(tenant, _)| (env.clone(), tenant.clone())),
        );
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
            asking: RefCell::new(SortedMap::new()),
            next_http: Cell::new(0),
            outboxes: RefCell::new(SortedMap::new()),
            channels: RefCell::new(SortedMap::new()),
            keeps_feeds: Cell::new(false),
            alarm: Cell::new(None),
            looks: Cell::new(false),
            usage,
            backup: BackupState::default(),
        };
        Self {
            shell: AssertUnwindSafe(Rc::new(shell)),
        }
    }

    /// A socket that connects, and what tests ask. Calls come to `answer`.
    async fn fetch(&self, request: Request) -> Result<Response> {
        let shell = self.shell.0.clone();
        match request.path().as_str() {
            "/connect" => {
                shell.called();
                shell.connect(&request).await
            }
            "/rows-written" => Response::ok(shell.db.rows_written().to_string()),
            _ => Response::error("Not Found", 404),
        }
    }

    /// The tokens of sockets expire.
    async fn alarm(&self) -> Result<Response> {
        self.shell.0.event();
        self.shell.0.expire();
        Response::ok("")
    }
}

#[wasm_bindgen]
impl Hub {
    /// A call of another object or the Worker.
    pub fn answer(&self, call: &Uint8Array) -> core::result::Result<JsValue, JsValue> {
        let shell = self.shell.0.clone();
        let name = shell.name.clone().map(|(tenant, index)| ObjectName::Hub(tenant, index));
        shell.called();
        remote::respond(call, name.as_ref(), |call| async move {
            Answered::from(shell.answer(call).await)
        })
    }

    /// The tenant is erased.
    pub fn erase(&self, call: &Uint8Array) -> core::result::Result<JsValue, JsValue> {
        let shell = self.shell.0.clone();
        let name = shell.name.clone().map(|(tenant, index)| ObjectName::Hub(tenant, index));
        remote::respond_erased(call, name.as_ref(), Box::pin(async move { shell.erase().await }))
    }

    /// Something about a backup of the tenant.
    pub fn backup(&self, call: &Uint8Array) -> core::result::Result<JsValue, JsValue> {
        backup::respond(call, self.shell.0.clone())
    }

    /// A frame came on a socket. What it needs beyond this turn is waited for beside it.
    #[wasm_bindgen(js_name = webSocketMessage)]
    pub fn on_message(&self, socket: web_sys::WebSocket, message: &JsValue) {
        let socket = WebSocket::from(socket);
        self.shell.event();
        self.shell.usage.add(Meter::MessagesIn, 1);
        match message.as_string() {
            Some(text) => self.shell.text(&socket, text),
            None => self.shell.binary(&socket),
        }
    }

    /// A socket was closed by its client.
    #[wasm_bindgen(js_name = webSocketClose)]
    pub fn on_close(&self, socket: web_sys::WebSocket, code: u16) {
        self.shell.event();
        self.shell.ended(&WebSocket::from(socket), code);
    }

    /// A socket broke.
    #[wasm_bindgen(js_name = webSocketError)]
    pub fn on_error(&self, socket: web_sys::WebSocket) {
        self.shell.event();
        self.shell.gone(&WebSocket::from(socket));
    }
}

impl BackedUp for Shell {
    fn place(&self) -> (&Env, &State, &ObjectDatabase, &BackupState) {
        (&self.env, &self.state, &self.db, &self.backup)
    }

    fn name(&self) -> Option<ObjectName> {
        let (tenant, index) = self.name.clone()?;
        Some(ObjectName::Hub(tenant, index))
    }

    fn schema(&self) -> &'static [&'static [&'static str]] {
        tickets::STEPS
    }

    fn forget(&self) {
        self.migrated.set(false);
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
    async fn answer(self: &Rc<Self>, call: Call) -> core::result::Result<Reply, Error> {
        if let Some((tenant, _)) = &self.name {
            call.check(tenant)?;
        }
        match call {
            Call::Deliver { deliveries } => {
                let (effects, not_followed) = self.memory.borrow_mut().deliver(now(), deliveries);
                self.perform(effects);
                Ok(Reply::Delivered { not_followed })
            }
            Call::Messages {
                channel,
                after,
                messages,
                until,
            } => Ok(Reply::Heard(self.hear(&channel, after, messages, until))),
            Call::Presence { channel, told } => Ok(Reply::HeardPresence(self.hear_presence(&channel, told))),
            Call::Channel {
                principal,
                channel,
                asked,
            } => self.channel(principal, channel, asked).await,
            Call::Followed { jobs } => {
                let not_followed = self.memory.borrow().not_followed(jobs);
                Ok(Reply::Delivered { not_followed })
            }
            Call::Recall { recalled } => {
                let returned = self.memory.borrow_mut().recalled(now(), &recalled);
                Ok(Reply::Returned(returned))
            }
            Call::RecallPlaces => Ok(Reply::Places(self.memory.borrow_mut().recall_places())),
            Call::Refresh { description } => {
                self.learn(description).await?;
                Ok(Reply::Done)
            }
            Call::Batch {
                principal,
                items,
                traceparent,
                idempotency_key,
            } => {
                for item in &items {
                    self.usage.add_len(Meter::BytesIn, item.len());
                }
                let known = self.active().await?;
                let (id, receiver) = self.http_caller();
                let key = idempotency_key.as_deref();
                let begun = self.decide(&known, now(), |memory, moment, _| {
                    memory.begin_batch(moment, id, &principal, items.len(), key)
                });
                let mut parts = match begun {
                    Ok(parts) => parts,
                    Err(error) => {
                        self.asking.borrow_mut().remove(&id);
                        return Err(error);
                    }
                };
                let mut rest = items.as_slice();
                while !rest.is_empty() {
                    let part_max = batch_part_max(company(&principal.tenant, now()));
                    let (items, others) = rest.split_at(rest.len().min(part_max));
                    rest = others;
                    let effects = self.decide(&known, now(), |memory, moment, plan| {
                        memory.batch_part(moment, plan, &principal, &mut parts, items, traceparent.as_deref())
                    });
                    self.perform(effects);
                    if !rest.is_empty() {
                        // Sockets and timers are looked at meanwhile.
                        sleep(0).await;
                    }
                }
                answered(receiver).await
            }
            Call::Request {
                principal,
                body,
                idempotency_key,
                traceparent,
                prefer,
            } => {
                self.usage.add_len(Meter::BytesIn, body.len());
                let known = self.active().await?;
                let (id, receiver) = self.http_caller();
                let effects = self.decide(&known, now(), |memory, moment, plan| {
                    let (key, trace) = (idempotency_key.as_deref(), traceparent.as_deref());
                    memory.request(moment, plan, id, &principal, &body, key, trace, prefer)
                });
                self.perform(effects);
                let reply = answered(receiver).await;
                if let Ok(Reply::Answer { result: Ok(data), .. }) = &reply {
                    self.usage.add_len(Meter::BytesOut, data.as_str().len());
                }
                reply
            }
        }
    }

    /// Forgets everything, in memory and in rows. What is under way comes to its end, and nobody hears of that.
    async fn erase(&self) -> core::result::Result<Erased, Error> {
        let index = self.name.as_ref().map_or(HubIndex(0), |(_, index)| *index);
        let busy = {
            let mut memory = self.memory.borrow_mut();
            let busy = !memory.is_idle();
            *memory = Memory::new(index);
            memory.log(request_log::level(&self.env));
            busy
        };
        for socket in self.state.get_websockets() {
            // One that is closing already needs no other reason.
            let _closing = socket.close(Some(CloseCode::TenantSuspended.number()), Some("the tenant is erased"));
        }
        self.asking.borrow_mut().clear();
        self.held.borrow_mut().clear();
        self.known.borrow_mut().take();
        self.migrated.set(false);
        self.alarm.set(None);
        let erased = erase::everything(&self.state, &self.db, busy).await;
        self.usage.forget(&self.db);
        erased
    }

    /// A number for a caller over HTTP, and where its answer will come.
    fn http_caller(&self) -> (HttpId, Answer) {
        let id = HttpId(self.next_http.get());
        self.next_http.set(id.0 + 1);
        let (sender, receiver) = oneshot::channel();
        self.asking.borrow_mut().insert(id, sender);
        (id, receiver)
    }
}
