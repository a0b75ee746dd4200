//! The shell of a `Tenant` object. Every decision is in [`tidegate_engine::tenancy`].
#![expect(missing_docs, reason = "the attribute macro makes public methods without comments")]

mod archive;
mod standing;
mod used;

use std::cell::{Cell, RefCell};
use std::num::NonZeroU32;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;

use futures_util::future::{Either, join_all, select};
use js_sys::Uint8Array;
use tidegate_engine::access;
use tidegate_engine::admission::{Gate, Outcome, Recalls};
use tidegate_engine::audit::refusals::About;
use tidegate_engine::connections::{self, Lent};
use tidegate_engine::database::DatabaseError;
use tidegate_engine::health;
use tidegate_engine::idempotency::Keys;
use tidegate_engine::tenancy::{self, Effect, Step};
use tidegate_engine::upstreams::{Breakers, Changed};
use tidegate_protocol::calls::admission::{Ask, Returned};
use tidegate_protocol::calls::schedules::Schedule;
use tidegate_protocol::calls::spread::Growth;
use tidegate_protocol::calls::tenant::{Call, Description, Reply};
use tidegate_protocol::calls::usage::{Meter, Report, Source};
use tidegate_protocol::calls::{Answered, Caller, hub, jobs};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::{AuditRefusal, LimitsView};
use tidegate_protocol::ids::{HubIndex, ObjectName, ShardIndex};
use tidegate_protocol::{Error, ErrorCode};
use wasm_bindgen::prelude::*;
use worker::{DurableObject, Env, Request, Response, Result, State, durable_object};

pub use self::standing::is_gone;
use crate::backup::{self, BackedUp, BackupState};
use crate::directory::Directory;
use crate::platform::{beside, log_error, now};
use crate::remote;
use crate::sql::ObjectDatabase;
use crate::timer::sleep;
use crate::usage::Usage;

/// A tenant's gate; or the directory of tenants, by its name.
#[durable_object(alarm)]
pub struct Tenant {
    shell: AssertUnwindSafe<Rc<Shell>>,
    directory: AssertUnwindSafe<Option<Rc<Directory>>>,
}

struct Shell {
    env: Env,
    state: State,
    db: ObjectDatabase,
    name: Option<ObjectName>,
    migrated: Cell<bool>,
    limits: RefCell<Gate>,
    breakers: RefCell<Breakers>,
    keys: RefCell<Keys>,
    archiving: Cell<bool>,
    /// Whether the directory knows the tenant, as far as this instance has looked.
    begun: Cell<bool>,
    usage: Usage,
    erased: Cell<Option<standing::Tombstone>>,
    backup: BackupState,
}

impl DurableObject for Tenant {
    fn new(state: State, env: Env) -> Self {
        let text = state.id().name();
        let name = text.as_deref().and_then(ObjectName::parse);
        let name = name.filter(|name| matches!(name, ObjectName::Tenant(_)));
        worker::console_debug!("constructed Tenant {}", text.as_deref().unwrap_or_default());
        let directory = Directory::of(&state, &env, &text.unwrap_or_default());
        let db = ObjectDatabase::new(&state);
        let shell = Shell {
            env,
            state,
            db,
            name,
            migrated: Cell::new(false),
            limits: RefCell::default(),
            breakers: RefCell::default(),
            keys: RefCell::default(),
            archiving: Cell::new(false),
            begun: Cell::new(false),
            usage: Usage::new(Source::GATE, None),
            erased: Cell::new(None),
            backup: BackupState::default(),
        };
        Self {
            shell: AssertUnwindSafe(Rc::new(shell)),
            directory: AssertUnwindSafe(directory),
        }
    }

    /// What tests ask. Calls come to `answer`.
    async fn fetch(&self, request: Request) -> Result<Response> {
        match request.path().as_str() {
            "/rows-written" => {
                let of_directory = self.directory.0.as_ref().map(|directory| directory.rows_written());
                let rows = of_directory.unwrap_or_else(|| self.shell.0.db.rows_written());
                Response::ok(rows.to_string())
            }
            _ => Response::error("Not Found", 404),
        }
    }

    async fn alarm(&self) -> Result<Response> {
        match self.directory.0.clone() {
            Some(directory) => directory.wake().await,
            None => self.shell.0.wake(),
        }
        Response::ok("")
    }
}

#[wasm_bindgen]
impl Tenant {
    /// A call of another object or the Worker.
    pub fn answer(&self, call: &Uint8Array) -> core::result::Result<JsValue, JsValue> {
        if let Some(directory) = &self.directory.0 {
            return directory.answer(call);
        }
        let shell = self.shell.0.clone();
        let name = shell.name.clone();
        shell.usage.add(Meter::ObjectCalls, 1);
        let awake = shell.awake();
        remote::respond(call, name.as_ref(), |call| async move {
            let _awake = awake;
            backup::passed(&*shell).await;
            match shell.begin_tenant(&call).await {
                Ok(None) => {}
                Ok(Some(reply)) => return Answered::Reply(reply),
                Err(error) => return Answered::Refused(error),
            }
            Answered::from(match call {
                Call::Admit(ask) => shell.admit(&ask).await,
                Call::GiveBack { hub, returned } => shell.take_back(hub, &returned),
                Call::Connect { hub, live, most } => shell.lend_places(hub, live, most).await,
                Call::Refused { refused } => shell.note_refused(&refused),
                call @ Call::Audit(_) => shell.settle_refusals().and_then(|()| shell.answer(call)),
                Call::Identify { hash } => shell.identify(&hash),
                Call::Limits { limit, from, count } => shell.show_limits(&limit, &from, count),
                call @ Call::Health { .. } => shell.health(&call),
                call @ (Call::Consult(_) | Call::Upstreams | Call::SetBreaker(_)) => shell.about_breakers(&call),
                Call::Begin {
                    name,
                    fingerprint,
                    token,
                } => shell.begin(&name, &fingerprint, token),
                Call::End { name, token, answer } => shell.end(&name, token, answer.as_deref()),
                Call::Used(numbers) => shell.hear_used(Report::of_numbers(&numbers)).map(|()| Reply::Ended),
                call @ Call::Usage { .. } => shell.hear_used(None).and_then(|()| shell.answer(call)),
                call @ (Call::ChangeEndpoints { .. } | Call::SetLimits { .. }) => shell.tell_everyone(call).await,
                call => shell.answer(call),
            })
        })
    }

    /// The tenant is erased.
    pub fn erase(&self, call: &Uint8Array) -> core::result::Result<JsValue, JsValue> {
        let shell = self.shell.0.clone();
        let name = shell.name.clone();
        remote::respond_erased(call, name.as_ref(), Box::pin(async move { shell.erase().await }))
    }

    /// Something about a backup of the tenant.
    pub fn backup(&self, call: &Uint8Array) -> core::result::Result<JsValue, JsValue> {
        backup::respond(call, self.shell.0.clone())
    }
}

impl BackedUp for Shell {
    fn place(&self) -> (&Env, &State, &ObjectDatabase, &BackupState) {
        (&self.env, &self.state, &self.db, &self.backup)
    }

    fn name(&self) -> Option<ObjectName> {
        self.name.clone()
    }

    fn schema(&self) -> &'static [&'static [&'static str]] {
        tenancy::STEPS
    }

    fn forget(&self) {
        self.forget_memory();
    }

    fn finished(&self, version: u64, by: &Caller) -> core::result::Result<u64, DatabaseError> {
        self.db.transaction(|db| tenancy::restored(db, now(), version, by))
    }

    fn released(self: Rc<Self>, by: &Caller) -> core::result::Result<(), DatabaseError> {
        let effects = self.db.transaction(|db| tenancy::backed_up(db, now(), by))?;
        self.perform(effects);
        Ok(())
    }
}

/// How long a hub may take to give back its leases. It decides nothing for that. Milliseconds.
const RECALL_MS: u64 = 1_000;

/// How long whoever changes what objects go by waits at most for all of them to have heard of it. Milliseconds.
const HEARD_MS: u64 = 2_000;
/// How often is looked whether they have. Milliseconds.
const HEARD_LOOK_MS: u64 = 10;

fn restarting() -> Error {
    Error::new(ErrorCode::Unavailable, "The tenant's gate is restarting.").retry_after(1000)
}

impl Shell {
    fn answer(self: &Rc<Self>, call: Call) -> core::result::Result<Reply, Error> {
        let changes_access = matches!(call, Call::Access { .. });
        let turn = |db: &ObjectDatabase| tenancy::handle(db, now(), call);
        let (reply, effects) = self
            .db
            .migrated(&self.migrated, tenancy::STEPS, turn)
            .map_err(|_| restarting())?;
        self.perform(effects);
        if changes_access {
            self.announce();
        }
        reply
    }

    /// A turn about limits on requests, or about keys.
    fn turn<T>(
        &self,
        turn: impl FnOnce(&mut Gate, &ObjectDatabase) -> core::result::Result<T, DatabaseError>,
    ) -> core::result::Result<T, Error> {
        let turn = |db: &ObjectDatabase| turn(&mut self.limits.borrow_mut(), db);
        let done = self.db.migrated(&self.migrated, tenancy::STEPS, turn);
        done.map_err(|_| restarting())
    }

    /// Decides whether limits have room. Before it refuses, it asks other hubs for what they have not used.
    async fn admit(self: &Rc<Self>, ask: &Ask) -> core::result::Result<Reply, Error> {
        let first = self.turn(|gate, db| gate.decide(db, now(), ask, Recalls::Possible))?;
        let recalls = match first {
            Outcome::Decided(decided) => return Ok(Reply::Decided(Box::new(decided))),
            Outcome::Recall(recalls) => recalls,
        };
        let name = self.name.as_ref().ok_or_else(Error::not_found)?;
        let asked = recalls.into_iter().map(|(index, recalled)| async move {
            let hub = ObjectName::Hub(name.tenant().clone(), index);
            let call = hub::Call::Recall { recalled };
            // One that cannot be reached, or hangs, keeps its leases until they end.
            let (recall, over) = (pin!(remote::hub(&self.env, &hub, &call)), pin!(sleep(RECALL_MS)));
            match select(recall, over).await {
                Either::Left((Ok(hub::Reply::Returned(returned)), _)) => (index, returned),
                Either::Left((Err(error), _)) => {
                    log_error("a hub did not give back its leases", error);
                    (index, Vec::new())
                }
                Either::Left(_) | Either::Right(_) => (index, Vec::new()),
            }
        });
        let returned = join_all(asked).await;
        let decided = self.turn(|gate, db| {
            for (hub, returned) in &returned {
                gate.give_back(db, now(), *hub, returned)?;
            }
            gate.decide(db, now(), ask, Recalls::Done)
        })?;
        match decided {
            Outcome::Decided(decided) => Ok(Reply::Decided(Box::new(decided))),
            Outcome::Recall(_) => Err(restarting()),
        }
    }

    /// Lends a hub places for connections. Before it has none for one more, it asks other hubs for those that they do not need.
    async fn lend_places(&self, hub: HubIndex, live: u32, most: NonZeroU32) -> core::result::Result<Reply, Error> {
        let recalled = match self.turn(|_, db| connections::lend(db, hub, live, most, Recalls::Possible))? {
            Lent::Places(held) => return Ok(Reply::Places(held)),
            Lent::Recall(recalled) => recalled,
        };
        let name = self.name.as_ref().ok_or_else(Error::not_found)?;
        let asked = recalled.into_iter().map(|recalled| async move {
            let hub = ObjectName::Hub(name.tenant().clone(), recalled.hub);
            // One that cannot be reached, or hangs, keeps its places.
            let recall = pin!(remote::hub(&self.env, &hub, &hub::Call::RecallPlaces));
            match select(recall, pin!(sleep(RECALL_MS))).await {
                Either::Left((Ok(hub::Reply::Places(needed)), _)) => (recalled, needed),
                Either::Left((Err(error), _)) => {
                    log_error("a hub did not give back its places", error);
                    (recalled, None)
                }
                Either::Left(_) | Either::Right(_) => (recalled, None),
            }
        });
        let returned = join_all(asked).await;
        let lent = self.turn(|_, db| {
            for (recalled, needed) in &returned {
                if let Some(needed) = needed {
                    connections::returned(db, *recalled, *needed)?;
                }
            }
            connections::lend(db, hub, live, most, Recalls::Done)
        })?;
        match lent {
            Lent::Places(held) => Ok(Reply::Places(held)),
            Lent::Recall(_) => Err(restarting()),
        }
    }

    /// Whom an API key speaks for.
    fn identify(&self, hash: &str) -> core::result::Result<Reply, Error> {
        let name = self.name.as_ref().ok_or_else(Error::not_found)?;
        let holder = self.turn(|_, db| access::identify(db, now(), name.tenant(), hash))?;
        Ok(Reply::Principal(holder.map(Box::new)))
    }

    fn take_back(&self, hub: HubIndex, returned: &[Returned]) -> core::result::Result<Reply, Error> {
        self.turn(|gate, db| gate.give_back(db, now(), hub, returned))?;
        Ok(Reply::TakenBack)
    }

    fn note_refused(&self, refused: &[AuditRefusal]) -> core::result::Result<Reply, Error> {
        let refused = refused.iter().map(|known| (known.code, About::of(known), known.count));
        self.turn(|gate, db| gate.refusals.note(db, now(), refused))?;
        Ok(Reply::TakenBack)
    }

    /// Whoever reads the audit trail finds in it what was refused until now.
    fn settle_refusals(&self) -> core::result::Result<(), Error> {
        self.turn(|gate, db| gate.refusals.settle(db, now()))
    }

    fn show_limits(&self, limit: &str, from: &str, count: u32) -> core::result::Result<Reply, Error> {
        let view = self.turn(|gate, db| {
            Ok(LimitsView {
                deployment: tenancy::set_limits(db)?,
                ..gate.show(db, now(), limit, from, count)?
            })
        })?;
        JsonText::of(&view)
            .map(Reply::Limits)
            .ok_or_else(|| Error::new(ErrorCode::InternalError, "The limits could not be written."))
    }

    /// A turn about breakers. What is in memory goes with what was not stored.
    fn about_breakers(&self, call: &Call) -> core::result::Result<Reply, Error> {
        match self.turn(|_, db| self.breakers.borrow_mut().handle(db, now(), call)) {
            Ok((reply, changes)) => {
                self.log_changes(&changes);
                reply.ok_or_else(|| Error::new(ErrorCode::InternalError, "The breakers could not be written."))
            }
            Err(error) => {
                *self.breakers.borrow_mut() = Breakers::default();
                Err(error)
            }
        }
    }

    /// How the tenant is.
    fn health(&self, call: &Call) -> core::result::Result<Reply, Error> {
        self.turn(|_, db| health::handle(db, &mut self.breakers.borrow_mut(), now(), call))?
    }

    /// A line of JSON for each change of a breaker's state: the events by which operators are warned.
    fn log_changes(&self, changes: &[Changed]) {
        let Some(name) = &self.name else { return };
        for changed in changes {
            let key = JsonText::of(&changed.key).unwrap_or_else(JsonText::null);
            worker::console_warn!(
                r#"{{"event":"breaker","tenant":"{}","upstream":"{}","key":{},"from":"{}","to":"{}","why":"{}"}}"#,
                name.tenant(),
                changed.upstream,
                key.as_str(),
                changed.from.as_str(),
                changed.to.as_str(),
                changed.why.as_str()
            );
        }
    }

    /// A request with an idempotency key begins.
    fn begin(&self, name: &str, fingerprint: &str, token: u64) -> core::result::Result<Reply, Error> {
        let begun = self.turn(|_, db| self.keys.borrow_mut().begin(db, now(), (name, fingerprint), token))?;
        Ok(Reply::Begun(begun?))
    }

    /// It has ended.
    fn end(&self, name: &str, token: u64, answer: Option<&str>) -> core::result::Result<Reply, Error> {
        self.turn(|_, db| Keys::end(db, now(), name, token, answer))?;
        Ok(Reply::Ended)
    }

    /// The alarm: what was not confirmed is told again.
    fn wake(self: &Rc<Self>) {
        // Set by something that was under way when the tenant was erased.
        if self.db.is_blank().unwrap_or(false) {
            return;
        }
        let _awake = self.awake();
        match self.db.migrated(&self.migrated, tenancy::STEPS, tenancy::unfinished) {
            Ok(effects) => {
                self.perform(effects);
                self.announce();
            }
            Err(_) => self.arm(),
        }
    }

    fn perform(self: &Rc<Self>, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Refresh { description } => self.refresh(description),
                Effect::TellAccess { description } => {
                    self.arm();
                    self.tell_access(description);
                }
                Effect::TellSchedules { version, schedules } => {
                    // Before anything is awaited, so that it commits with the rows that say there is something to tell.
                    self.arm();
                    self.tell(version, schedules);
                }
                Effect::TellEndpoints {
                    version,
                    shards,
                    endpoints,
                } => {
                    self.arm();
                    let shell = self.clone();
                    beside(&self.state, async move {
                        shell.tell_endpoints(version, shards, endpoints).await
                    });
                }
                Effect::Grow { step, growth } => {
                    self.arm();
                    self.grow(step, growth);
                }
                Effect::Archive => self.archive(),
            }
        }
    }

    fn arm(&self) {
        if let Err(error) = self.db.set_alarm(now().plus(tenancy::RETELL_MS)) {
            log_error("an alarm was not set", error);
        }
    }

    /// Tells the first object of the job queue which schedules there are.
    fn tell(self: &Rc<Self>, version: u64, schedules: Vec<Schedule>) {
        let Some(name) = &self.name else { return };
        let queue = ObjectName::Jobs(name.tenant().clone(), ShardIndex(0));
        let shell = self.clone();
        beside(&self.state, async move {
            let call = jobs::Call::SetSchedules { version, schedules };
            if let Err(error) = remote::jobs(&shell.env, &queue, call).await {
                log_error("the job queue was not told of schedules", error);
                return;
            }
            if let Err(error) = shell.db.transaction(|db| tenancy::told(db, version)) {
                log_error("a turn was rolled back", error);
            }
        });
    }

    /// A change of endpoints, or of the deployment's limits: whoever asked for it is answered when every object of the job queue,
    /// or every hub, has heard of it, or has had the time to.
    async fn tell_everyone(self: &Rc<Self>, call: Call) -> core::result::Result<Reply, Error> {
        let reply = self.answer(call);
        let heard = || {
            let told = |db: &ObjectDatabase| {
                Ok(tenancy::untold_endpoints(db)?.is_none() && tenancy::untold_access(db)?.is_none())
            };
            let told = self.db.transaction(told);
            told.unwrap_or(true)
        };
        let until = now().plus(HEARD_MS);
        while !heard() && now() < until {
            sleep(HEARD_LOOK_MS).await;
        }
        reply
    }

    /// Tells every object of the job queue which endpoints there are. Where one is not reached, all are told again, by the
    /// alarm.
    async fn tell_endpoints(self: &Rc<Self>, version: u64, shards: u16, endpoints: JsonText) {
        let Some(name) = &self.name else { return };
        let told = (0..shards).map(|shard| {
            let queue = ObjectName::Jobs(name.tenant().clone(), ShardIndex(shard));
            let endpoints = endpoints.clone();
            async move { remote::jobs(&self.env, &queue, jobs::Call::SetEndpoints { version, endpoints }).await }
        });
        if let Some(error) = join_all(told).await.into_iter().find_map(core::result::Result::err) {
            return log_error("an object was not told of endpoints", error);
        }
        match self.db.transaction(|db| tenancy::endpoints_told(db, version)) {
            Ok(effects) => self.perform(effects),
            Err(error) => log_error("a turn was rolled back", error),
        }
    }

    /// Tells every hub who may not come in any more. One that is not reached is told again, by the alarm.
    fn tell_access(self: &Rc<Self>, description: Description) {
        let Some(name) = self.name.clone() else { return };
        let shell = self.clone();
        beside(&self.state, async move {
            let (hubs, version) = (description.scale.hubs, description.version);
            let call = hub::Call::Refresh { description };
            let told = (0..hubs).map(|index| {
                let hub = ObjectName::Hub(name.tenant().clone(), HubIndex(index));
                let (env, call) = (&shell.env, &call);
                async move { remote::hub(env, &hub, call).await }
            });
            if let Some(error) = join_all(told).await.into_iter().find_map(core::result::Result::err) {
                return log_error("a hub was not told who may not come in", error);
            }
            if let Err(error) = shell.db.transaction(|db| access::told(db, version)) {
                log_error("a turn was rolled back", error);
            }
        });
    }

    /// Tells an object of the job queue of the tenant's growth, and goes on once it has confirmed that.
    fn grow(self: &Rc<Self>, step: Step, growth: Growth) {
        let Some(name) = &self.name else { return };
        let shard = growth.shard;
        let queue = ObjectName::Jobs(name.tenant().clone(), shard);
        let shell = self.clone();
        beside(&self.state, async move {
            let grown = match remote::jobs(&shell.env, &queue, jobs::Call::Grow(growth)).await {
                Ok(jobs::Reply::Grown(grown)) => grown,
                Ok(_) => return,
                Err(error) => return log_error("an object was not told of a growth", error),
            };
            match shell.db.transaction(|db| tenancy::grown(db, step, shard, grown)) {
                Ok(effects) => shell.perform(effects),
                Err(error) => log_error("a turn was rolled back", error),
            }
        });
    }

    /// Tells every hub what is active now. One that is not reached asks again by itself.
    fn refresh(self: &Rc<Self>, description: Description) {
        let Some(name) = &self.name else { return };
        for index in 0..description.scale.hubs {
            let hub = ObjectName::Hub(name.tenant().clone(), HubIndex(index));
            let (env, call) = (
                self.env.clone(),
                hub::Call::Refresh {
                    description: description.clone(),
                },
            );
            beside(&self.state, async move {
                if let Err(error) = remote::hub(&env, &hub, &call).await {
                    log_error("a hub was not told of a new composition", error);
                }
            });
        }
    }
}
