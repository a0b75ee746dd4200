//! The shell of a `Channel` object. Every decision is in [`tidegate_engine::channels`].
#![expect(missing_docs, reason = "the attribute macro makes public methods without comments")]

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use js_sys::Uint8Array;
use tidegate_engine::channels::{Channel as Memory, Effect, Moment, STEPS};
use tidegate_engine::database::{DatabaseError, migrate};
use tidegate_protocol::calls::Answered;
use tidegate_protocol::calls::channel::{Batch, Call, Replies};
use tidegate_protocol::calls::directory::Erased;
use tidegate_protocol::calls::tenant::Channels;
use tidegate_protocol::calls::{hub, tenant};
use tidegate_protocol::channels::{Cursor, Message};
use tidegate_protocol::ids::{ChannelName, HubIndex, ObjectName, Offset, TenantId};
use tidegate_protocol::presence::Told;
use tidegate_protocol::{Error, ErrorCode, SortedMap};
use wasm_bindgen::prelude::*;
use worker::{DurableObject, Env, Request, Response, Result, State, durable_object};

use crate::erase;
use crate::platform::{beside, log_error, now, random};
use crate::remote::{self, Way};
use crate::sql::ObjectDatabase;

/// One channel of a tenant.
#[durable_object(alarm)]
pub struct Channel {
    shell: AssertUnwindSafe<Rc<Shell>>,
}

struct Shell {
    env: Env,
    state: State,
    db: ObjectDatabase,
    name: Option<(TenantId, ChannelName)>,
    memory: RefCell<Option<Memory>>,
    ways: RefCell<SortedMap<HubIndex, Rc<Way>>>,
}

impl DurableObject for Channel {
    fn new(state: State, env: Env) -> Self {
        let text = state.id().name();
        let name = match text.as_deref().and_then(ObjectName::parse) {
            Some(ObjectName::Channel(tenant, channel)) => Some((tenant, channel)),
            _ => None,
        };
        worker::console_debug!("constructed Channel {}", text.unwrap_or_default());
        let shell = Rc::new(Shell {
            db: ObjectDatabase::new(&state),
            env,
            state,
            name,
            memory: RefCell::new(None),
            ways: RefCell::new(SortedMap::new()),
        });
        Self {
            shell: AssertUnwindSafe(shell),
        }
    }

    /// What tests ask. Calls come to `answer`.
    async fn fetch(&self, request: Request) -> Result<Response> {
        match request.path().as_str() {
            "/rows-written" => Response::ok(self.shell.0.db.rows_written().to_string()),
            _ => Response::error("Not Found", 404),
        }
    }

    /// Hubs that have not confirmed are asked, and what is too old goes.
    async fn alarm(&self) -> Result<Response> {
        match self.shell.0.run(|db, memory, moment| memory.wake(db, moment.now)) {
            Ok(effects) => {
                self.shell.0.perform(effects);
                Response::ok("")
            }
            // The platform tries this alarm again.
            Err(_) => Err(worker::Error::RustError("a turn was rolled back".into())),
        }
    }
}

#[wasm_bindgen]
impl Channel {
    /// Calls of a hub.
    pub fn answer(&self, call: &Uint8Array) -> core::result::Result<JsValue, JsValue> {
        let shell = self.shell.0.clone();
        let name = shell.object();
        remote::respond(
            call,
            name.as_ref(),
            |batch: Batch| async move { shell.answer(batch).await },
        )
    }

    /// The tenant is erased.
    pub fn erase(&self, call: &Uint8Array) -> core::result::Result<JsValue, JsValue> {
        let shell = self.shell.0.clone();
        let name = shell.object();
        remote::respond_erased(call, name.as_ref(), Box::pin(async move { shell.erase().await }))
    }
}

fn restarting() -> Error {
    Error::new(ErrorCode::Unavailable, "The channel is restarting.").retry_after(1000)
}

impl Shell {
    fn object(&self) -> Option<ObjectName> {
        let (tenant, channel) = self.name.clone()?;
        Some(ObjectName::Channel(tenant, channel))
    }

    async fn answer(self: &Rc<Self>, batch: Batch) -> Replies {
        let refused = |error: &Error| batch.calls.iter().map(|_| Answered::Refused(error.clone())).collect();
        if let Err(error) = self.make_known(&batch.calls).await {
            return refused(&error);
        }
        let calls = batch.calls.clone();
        match self.run(|db, memory, moment| memory.handle(db, moment, calls)) {
            Ok((replies, effects)) => {
                self.perform(effects);
                replies.into_iter().map(Answered::from).collect()
            }
            Err(error) => refused(&error),
        }
    }

    /// Before this object stores anything, the tenant's gate knows of it: it could not be erased otherwise.
    async fn make_known(&self, calls: &[Call]) -> core::result::Result<(), Error> {
        let stores = calls
            .iter()
            .any(|call| matches!(call, Call::Follow { .. } | Call::Publish { .. }));
        if !stores || !self.run(|_, memory, _| Ok(memory.is_new()))? {
            return Ok(());
        }
        let (tenant, channel) = self.name.as_ref().ok_or_else(Error::not_found)?;
        let call = tenant::Call::Channels(Channels::Note(channel.clone()));
        remote::tenant(&self.env, tenant, &call).await.map(drop)
    }

    /// One turn: everything that it decides is stored, with the alarm, or nothing is.
    fn run<T>(
        &self,
        decide: impl FnOnce(&ObjectDatabase, &mut Memory, &mut Moment<'_>) -> core::result::Result<T, DatabaseError>,
    ) -> core::result::Result<T, Error> {
        if self.name.is_none() {
            return Err(Error::not_found());
        }
        let turn = self.db.transaction(|db| {
            let mut chance = random;
            let mut moment = Moment {
                now: now(),
                random: &mut chance,
            };
            let mut kept = self.memory.borrow_mut();
            let mut memory = match kept.take() {
                Some(memory) => memory,
                None => {
                    migrate(db, STEPS)?;
                    Memory::load(db, &mut moment)?
                }
            };
            let decided = decide(db, &mut memory, &mut moment)?;
            if let Some(at) = memory.next_alarm(moment.now) {
                // An alarm at this very moment could be lost inside the handler.
                db.set_alarm(at.max(moment.now.plus(1)))?;
            }
            *kept = Some(memory);
            Ok(decided)
        });
        turn.map_err(|error| {
            log_error("a turn was rolled back", error);
            self.memory.borrow_mut().take();
            restarting()
        })
    }

    fn perform(self: &Rc<Self>, effects: Vec<Effect>) {
        for effect in effects {
            let shell = self.clone();
            match effect {
                Effect::Tell {
                    hub,
                    after,
                    messages,
                    until,
                } => beside(
                    &self.state,
                    async move { shell.tell(hub, after, messages, until).await },
                ),
                Effect::TellPresence { hub, told } => {
                    beside(&self.state, async move { shell.tell_presence(hub, told).await });
                }
            }
        }
    }

    /// Tells a hub, and decides what its answer changes.
    async fn tell(self: &Rc<Self>, hub: HubIndex, after: Cursor, messages: Vec<Message>, until: Offset) {
        let Some((way, channel)) = self.way(hub) else { return };
        let call = hub::Call::Messages {
            channel,
            after,
            messages,
            until,
        };
        let said = match way.hub(&self.env, &call).await {
            Ok(hub::Reply::Heard(at)) => Ok(at),
            Ok(_) => Err(Error::new(ErrorCode::InternalError, "A hub answered another question.")),
            Err(error) => Err(error),
        };
        if let Err(error) = &said {
            log_error("a hub was not told of a channel", error);
        }
        // Where the turn is rolled back, the alarm tells again.
        if let Ok(effects) = self.run(|db, memory, moment| memory.told(db, moment, hub, said)) {
            self.perform(effects);
        }
    }

    /// Tells a hub who is there, and decides what its answer changes.
    async fn tell_presence(self: &Rc<Self>, hub: HubIndex, told: Told) {
        let Some((way, channel)) = self.way(hub) else { return };
        let said = match way.hub(&self.env, &hub::Call::Presence { channel, told }).await {
            Ok(hub::Reply::HeardPresence(heard)) => Ok(heard),
            Ok(_) => Err(Error::new(ErrorCode::InternalError, "A hub answered another question.")),
            Err(error) => Err(error),
        };
        if let Err(error) = &said {
            log_error("a hub was not told who is in a channel", error);
        }
        if let Ok(effects) = self.run(|db, memory, moment| memory.heard_presence(db, moment.now, hub, said)) {
            self.perform(effects);
        }
    }

    fn way(&self, hub: HubIndex) -> Option<(Rc<Way>, ChannelName)> {
        let (tenant, channel) = self.name.as_ref()?;
        let new = || Rc::new(Way::new(ObjectName::Hub(tenant.clone(), hub)));
        let way = self.ways.borrow_mut().entry(hub).or_insert_with(new).clone();
        Some((way, channel.clone()))
    }

    async fn erase(&self) -> core::result::Result<Erased, Error> {
        self.memory.borrow_mut().take();
        self.ways.borrow_mut().clear();
        erase::everything(&self.state, &self.db, false).await
    }
}
