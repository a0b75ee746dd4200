//! The shell of a `Jobs` object. Every decision is in [`tidegate_engine::jobs`].
#![expect(missing_docs, reason = "the attribute macro makes public methods without comments")]

use std::cell::{Cell, RefCell};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;

use futures_channel::oneshot;
use futures_util::future::{Either, select};
use js_sys::Uint8Array;
use tidegate_engine::breath::{Breath, Step};
use tidegate_engine::database::{DatabaseError, migrate};
use tidegate_engine::jobs::{self, CallId, Effect, State as Memory};
use tidegate_engine::usage::Standing;
use tidegate_protocol::calls::Answered;
use tidegate_protocol::calls::channel::{self, Keep};
use tidegate_protocol::calls::directory::Erased;
use tidegate_protocol::calls::executor::{Assignment, Execute, Outcome, Sharing};
use tidegate_protocol::calls::feeds::Changes;
use tidegate_protocol::calls::hub::{self, Delivery};
use tidegate_protocol::calls::jobs::{Batch, Call, Reply};
use tidegate_protocol::calls::tenant::{self, Recorded};
use tidegate_protocol::calls::usage::{Meter, Source};
use tidegate_protocol::ids::{ChannelName, HubIndex, JobId, ObjectName, ShardIndex, TenantId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};
use wasm_bindgen::prelude::*;
use worker::{DurableObject, Env, Request, Response, Result, State, durable_object};

use crate::backup::{self, BackedUp, BackupState};
use crate::company::company;
use crate::erase;
use crate::outbox::Outbox;
use crate::platform::{beside, log_error, now, random};
use crate::remote::{self, Way};
use crate::sql::ObjectDatabase;
use crate::timer::sleep;
use crate::trace::Trace;
use crate::usage::{self, Counts, Usage};
use tidegate_protocol::SortedMap;

/// How often a batch for a hub is sent again before its jobs are left to the alarm.
const DELIVERY_ATTEMPTS: u32 = 3;
/// Attempts that share one invocation of the executor at most. What ends the invocation ends all of them.
const INVOCATION_ATTEMPTS_MAX: usize = 32;

/// One shard of a tenant's job queue.
#[durable_object(alarm)]
pub struct Jobs {
    shell: AssertUnwindSafe<Rc<Shell>>,
}

struct Shell {
    env: Env,
    state: State,
    db: ObjectDatabase,
    name: Option<(TenantId, ShardIndex)>,
    memory: RefCell<Option<Memory>>,
    /// When the alarm is set for, as far as this instance knows.
    alarm: Cell<Option<UnixMs>>,
    /// When this instance's timer fires, and what keeps it from ending before.
    timer: RefCell<Option<(UnixMs, oneshot::Sender<()>)>>,
    asking: RefCell<SortedMap<CallId, oneshot::Sender<core::result::Result<Reply, Error>>>>,
    next_call: Cell<u64>,
    outboxes: RefCell<SortedMap<HubIndex, Rc<Outbox<Delivery>>>>,
    /// The calls of all jobs come through it, so that none of them can keep the process to themselves.
    breath: RefCell<Breath<(CallId, Call)>>,
    trace: Rc<Trace>,
    usage: Usage,
    backup: BackupState,
    /// Invocations of the executor that are under way.
    invoking: Cell<u32>,
}

impl DurableObject for Jobs {
    fn new(state: State, env: Env) -> Self {
        let text = state.id().name();
        let name = match text.as_deref().and_then(ObjectName::parse) {
            Some(ObjectName::Jobs(tenant, shard)) => Some((tenant, shard)),
            _ => None,
        };
        worker::console_debug!("constructed Jobs {}", text.unwrap_or_default());
        let db = ObjectDatabase::new(&state);
        let shard = name.as_ref().map_or(ShardIndex(0), |(_, shard)| *shard);
        let place = name.as_ref().map(|(tenant, _)| (env.clone(), tenant.clone()));
        let shell = Rc::new(Shell {
            usage: Usage::new(Source::jobs(shard), place),
            invoking: Cell::new(0),
            trace: Rc::new(Trace::new(&env)),
            env,
            state,
            db,
            name,
            memory: RefCell::new(None),
            alarm: Cell::new(None),
            timer: RefCell::new(None),
            asking: RefCell::new(SortedMap::new()),
            next_call: Cell::new(0),
            outboxes: RefCell::new(SortedMap::new()),
            breath: RefCell::new(Breath::new(jobs::COST_ALONE_MAX, jobs::COST_EARLY, |(_, call)| {
                jobs::cost(call)
            })),
            backup: BackupState::default(),
        });
        Self {
            shell: AssertUnwindSafe(shell),
        }
    }

    /// What tests ask. Calls come to `answer`.
    async fn fetch(&self, request: Request) -> Result<Response> {
        let shell = self.shell.0.clone();
        match request.path().as_str() {
            "/rows-written" => Response::ok(shell.db.rows_written().to_string()),
            "/sql-suite" => Response::ok(shell.db.check()),
            _ => Response::error("Not Found", 404),
        }
    }

    async fn alarm(&self) -> Result<Response> {
        let shell = self.shell.0.clone();
        shell.alarm.set(None);
        if shell.run(|db, memory, now, random| jobs::wake(db, memory, now, random)) {
            Response::ok("")
        } else {
            // Nothing has set the next alarm: the platform has to try this one again.
            Err(worker::Error::RustError("a turn was rolled back".into()))
        }
    }
}

#[wasm_bindgen]
impl Jobs {
    /// Calls of another object or the Worker.
    pub fn answer(&self, calls: &Uint8Array) -> core::result::Result<JsValue, JsValue> {
        let shell = self.shell.0.clone();
        let name = shell.name.clone();
        let name = name.map(|(tenant, shard)| ObjectName::Jobs(tenant, shard));
        shell.usage.add(Meter::ObjectCalls, 1);
        remote::respond(calls, name.as_ref(), |batch| async move {
            let open = backup::open(&*shell).await;
            shell.answer(batch, open).await
        })
    }

    /// Something about a backup of the tenant.
    pub fn backup(&self, call: &Uint8Array) -> core::result::Result<JsValue, JsValue> {
        backup::respond(call, self.shell.0.clone())
    }

    /// The tenant is erased.
    pub fn erase(&self, call: &Uint8Array) -> core::result::Result<JsValue, JsValue> {
        let shell = self.shell.0.clone();
        let name = shell.name.clone();
        let name = name.map(|(tenant, shard)| ObjectName::Jobs(tenant, shard));
        remote::respond_erased(call, name.as_ref(), Box::pin(async move { shell.erase().await }))
    }
}

impl Counts for Shell {
    fn usage(&self) -> &Usage {
        &self.usage
    }

    fn db(&self) -> &ObjectDatabase {
        &self.db
    }

    fn standing(&self) -> Standing {
        if self.invoking.get() > 0 || !self.asking.borrow().is_empty() {
            Standing::Busy
        } else {
            Standing::Forgetful
        }
    }
}

impl BackedUp for Shell {
    fn place(&self) -> (&Env, &State, &ObjectDatabase, &BackupState) {
        (&self.env, &self.state, &self.db, &self.backup)
    }

    fn name(&self) -> Option<ObjectName> {
        let (tenant, shard) = self.name.clone()?;
        Some(ObjectName::Jobs(tenant, shard))
    }

    fn schema(&self) -> &'static [&'static [&'static str]] {
        jobs::STEPS
    }

    fn forget(&self) {
        self.memory.borrow_mut().take();
        self.alarm.set(None);
    }

    fn open(self: Rc<Self>) {
        self.run(|db, memory, now, random| jobs::wake(db, memory, now, random));
    }
}

impl Shell {
    /// Forgets everything, in memory and in rows. An attempt that is under way hears with its next report that its lease is
    /// gone.
    async fn erase(&self) -> core::result::Result<Erased, Error> {
        let kept = self.memory.borrow_mut().take();
        let busy = self.db.transaction(|db| match kept {
            Some(memory) => Ok(memory.running() > 0),
            None if db.is_blank()? => Ok(false),
            // Nothing was asked since the object awoke: its rows tell what runs.
            None => {
                migrate(db, jobs::STEPS)?;
                Ok(Memory::recover(db, now())?.running() > 0)
            }
        });
        let busy = busy.unwrap_or(true);
        self.asking.borrow_mut().clear();
        self.timer.borrow_mut().take();
        self.outboxes.borrow_mut().clear();
        self.alarm.set(None);
        let erased = erase::everything(&self.state, &self.db, busy).await;
        self.usage.forget(&self.db);
        erased
    }

    /// Answers the calls of one batch.
    async fn answer(self: &Rc<Self>, batch: Batch, open: core::result::Result<(), Error>) -> Vec<Answered<Reply>> {
        if let Err(refusal) = open {
            return batch.calls.iter().map(|_| Answered::Refused(refusal.clone())).collect();
        }
        let mut receivers = Vec::with_capacity(batch.calls.len());
        let mut calls = Vec::with_capacity(batch.calls.len());
        for call in batch.calls {
            let id = self.next_call_id();
            let (sender, receiver) = oneshot::channel();
            self.asking.borrow_mut().insert(id, sender);
            receivers.push(receiver);
            calls.push((id, call));
        }
        self.trace.asked(&calls);
        self.take(calls);
        let mut answers = Vec::with_capacity(receivers.len());
        for receiver in receivers {
            let reply = receiver.await.unwrap_or_else(|_| {
                Err(Error::new(ErrorCode::Unavailable, "The job queue is restarting.").retry_after(1000))
            });
            answers.push(reply.into());
        }
        answers
    }

    /// Decides calls, as many in one transaction as there is room for before the next look at sockets and timers.
    fn take(self: &Rc<Self>, calls: Vec<(CallId, Call)>) {
        self.allow();
        let step = self.breath.borrow_mut().take(calls);
        if self.decide(step) {
            let shell = self.clone();
            beside(&self.state, async move { shell.look().await });
        }
    }

    /// Decides what was held back, some after each look, until there is no need to look.
    async fn look(self: &Rc<Self>) {
        loop {
            sleep(0).await;
            self.allow();
            let step = self.breath.borrow_mut().looked();
            if !self.decide(step) {
                return;
            }
        }
    }

    /// Does as much between two looks as is fair to whoever else is here.
    fn allow(&self) {
        if let Some((tenant, _)) = &self.name {
            let most = jobs::allowance(company(tenant, now()));
            self.breath.borrow_mut().allow(most);
        }
    }

    /// Whether sockets and timers are to be looked at.
    fn decide(self: &Rc<Self>, step: Step<(CallId, Call)>) -> bool {
        let Step { now: calls, look } = step;
        if !calls.is_empty() {
            self.run(|db, memory, now, random| jobs::handle(db, memory, now, random, calls));
        }
        look
    }

    /// One turn: reads the clock once, decides inside one transaction, sets the alarm, carries out the effects. `false`: it
    /// was rolled back, and nothing of it has happened.
    fn run(
        self: &Rc<Self>,
        decide: impl FnOnce(
            &ObjectDatabase,
            &mut Memory,
            UnixMs,
            &mut dyn FnMut() -> u64,
        ) -> core::result::Result<Vec<Effect>, DatabaseError>,
    ) -> bool {
        if self.name.is_none() {
            log_error("an object without a name of ours", "it does nothing");
            return true;
        }
        usage::event(&self.state, self);
        let now = now();
        let turn = self.db.transaction(|db| {
            let mut kept = self.memory.borrow_mut();
            let mut memory = match kept.take() {
                Some(memory) => memory,
                None => {
                    migrate(db, jobs::STEPS)?;
                    Memory::recover(db, now)?
                }
            };
            let effects = decide(db, &mut memory, now, &mut random)?;
            self.trace.decided(&effects);
            let wake = memory.next_wake();
            let tick = memory.next_tick();
            let accepted = memory.take_accepted();
            // Only a turn that comes to its end keeps its memory; any other leaves it to be built again.
            *kept = Some(memory);
            Ok((effects, wake, tick, accepted))
        });
        let stands = turn.is_ok();
        match turn {
            Ok((effects, wake, tick, accepted)) => {
                self.usage.add(Meter::Jobs, accepted);
                self.arm(wake);
                self.start_timer(tick);
                self.perform(effects);
            }
            Err(error) => {
                log_error("a turn was rolled back", error);
                *self.memory.borrow_mut() = None;
                // Whoever waits is told, by the end of its channel, to try again.
                self.asking.borrow_mut().clear();
            }
        }
        self.trace.performed(&self.state);
        stands
    }

    fn arm(&self, wake: Option<UnixMs>) {
        let Some(at) = wake else { return };
        if self.alarm.get().is_none_or(|set| at < set) {
            // An alarm in the past fires at once; one at this very moment could be lost inside the handler.
            let at = UnixMs(at.0.max(now().0 + 1));
            match self.db.set_alarm(at) {
                Ok(()) => self.alarm.set(Some(at)),
                Err(error) => log_error("an alarm was not set", error),
            }
        }
    }

    /// Has this instance woken at `tick`. Without one its timer ends: a timer that nobody waits for keeps the object awake.
    fn start_timer(self: &Rc<Self>, tick: Option<UnixMs>) {
        let Some(at) = tick else {
            self.timer.take();
            return;
        };
        if self.timer.borrow().as_ref().is_some_and(|(set, _)| *set <= at) {
            return;
        }
        let (kept, dropped) = oneshot::channel();
        self.timer.replace(Some((at, kept)));
        let shell = self.clone();
        beside(&self.state, async move {
            let timer = pin!(sleep(at.since(now())));
            if let Either::Left(_) = select(timer, dropped).await {
                shell.timer.take();
                shell.run(|db, memory, now, random| jobs::tick(db, memory, now, random));
            }
        });
    }

    fn perform(self: &Rc<Self>, effects: Vec<Effect>) {
        let mut attempts = Vec::new();
        let mut probes: SortedMap<HubIndex, Vec<(JobId, UnixMs)>> = SortedMap::new();
        for effect in effects {
            match effect {
                Effect::Reply { call, reply } => {
                    if let Some(sender) = self.asking.borrow_mut().remove(&call) {
                        // Whoever no longer listens has gone.
                        let _gone = sender.send(reply);
                    }
                }
                Effect::Execute(execute) => attempts.push(*execute),
                // The executor hears of it with its next report.
                Effect::Abandon { .. } => {}
                Effect::Deliver { hub, delivery } => self.deliver(hub, delivery),
                Effect::RingDoorbell { job } => self.ring(job),
                Effect::DeleteBlobs { keys } => self.delete(keys),
                Effect::Record { entries } => self.record(entries),
                Effect::TellChanges { channel, rows, keep } => self.tell_changes(channel, rows, keep),
                Effect::Probe { hub, job, at } => probes.entry(hub).or_default().push((job, at)),
                Effect::Tell { shard, call } => self.tell(shard, *call),
            }
        }
        for (hub, asked) in probes {
            self.probe(hub, asked);
        }
        self.execute(attempts);
    }

    /// Has attempts made: those that may, together.
    fn execute(self: &Rc<Self>, attempts: Vec<Execute>) {
        self.usage.add_len(Meter::Attempts, attempts.len());
        let (together, alone): (Vec<_>, Vec<_>) = attempts
            .into_iter()
            .partition(|attempt| attempt.sharing == Sharing::Shared);
        let mut together = together.into_iter().peekable();
        while together.peek().is_some() {
            self.invoke(together.by_ref().take(INVOCATION_ATTEMPTS_MAX).collect());
        }
        for attempt in alone {
            self.invoke(vec![attempt]);
        }
    }

    fn invoke(self: &Rc<Self>, attempts: Vec<Execute>) {
        let shell = self.clone();
        beside(&self.state, async move {
            let leases: Vec<_> = attempts.iter().map(|attempt| (attempt.job, attempt.token)).collect();
            // Each attempt reports its outcome itself. Only that it never got so far is told here.
            shell.invoking.set(shell.invoking.get().saturating_add(1));
            let made = shell.call_executor(attempts).await;
            shell.invoking.set(shell.invoking.get().saturating_sub(1));
            let Err(error) = made else { return };
            let outcome = Outcome::Failed { error };
            let finish = |(job, token)| {
                let outcome = outcome.clone();
                (shell.next_call_id(), Call::Finish { job, token, outcome })
            };
            shell.take(leases.into_iter().map(finish).collect());
        });
    }

    /// The number of a new call.
    fn next_call_id(&self) -> CallId {
        let id = CallId(self.next_call.get());
        self.next_call.set(id.0 + 1);
        id
    }

    async fn call_executor(&self, attempts: Vec<Execute>) -> core::result::Result<(), Error> {
        let (tenant, shard) = self.name.clone().ok_or_else(Error::not_found)?;
        let assignment = Assignment {
            tenant,
            shard,
            attempts,
        };
        remote::executor(&self.env, &assignment).await
    }

    fn deliver(self: &Rc<Self>, hub: HubIndex, delivery: Delivery) {
        let Some((tenant, _)) = &self.name else { return };
        let new = || Rc::new(Outbox::new(ObjectName::Hub(tenant.clone(), hub)));
        let outbox = self.outboxes.borrow_mut().entry(hub).or_insert_with(new).clone();
        if outbox.push(delivery) {
            let shell = self.clone();
            beside(&self.state, async move {
                while let Some(batch) = outbox.next() {
                    shell.deliver_batch(hub, outbox.way(), batch).await;
                }
            });
        }
    }

    async fn deliver_batch(self: &Rc<Self>, hub: HubIndex, way: &Way, deliveries: Vec<Delivery>) {
        let call = hub::Call::Deliver {
            deliveries: deliveries.clone(),
        };
        for attempt in 1..=DELIVERY_ATTEMPTS {
            match way.hub(&self.env, &call).await {
                Ok(hub::Reply::Delivered { not_followed }) => {
                    self.trace.delivered(hub, &deliveries);
                    self.delivered(hub, &deliveries, &not_followed);
                    return;
                }
                Ok(_) => break,
                Err(error) => {
                    log_error("a delivery", error);
                    sleep(100 * u64::from(attempt)).await;
                }
            }
        }
        self.run(|_, memory, now, _| {
            jobs::undelivered(memory, now, &deliveries);
            Ok(Vec::new())
        });
    }

    /// A hub took these events.
    fn delivered(self: &Rc<Self>, hub: HubIndex, deliveries: &[Delivery], not_followed: &[JobId]) {
        let mut kept = self.memory.borrow_mut();
        let settled = kept
            .as_mut()
            .is_some_and(|memory| jobs::delivered_without_rows(memory, hub, deliveries, not_followed));
        drop(kept);
        if !settled {
            self.run(|db, memory, now, _| {
                jobs::delivered(db, memory, now, hub, deliveries, not_followed).map(|()| Vec::new())
            });
        }
    }

    /// Asks a hub which of these jobs its sockets follow. A question that is lost is put again by the next alarm.
    fn probe(self: &Rc<Self>, hub: HubIndex, asked: Vec<(JobId, UnixMs)>) {
        let Some((tenant, _)) = &self.name else { return };
        let name = ObjectName::Hub(tenant.clone(), hub);
        let shell = self.clone();
        beside(&self.state, async move {
            let jobs = asked.iter().map(|(job, _)| *job).collect();
            match remote::hub(&shell.env, &name, &hub::Call::Followed { jobs }).await {
                Ok(hub::Reply::Delivered { not_followed }) => {
                    shell.run(|db, memory, now, _| {
                        jobs::probed(db, memory, now, hub, &asked, &not_followed).map(|()| Vec::new())
                    });
                }
                Ok(_) => {}
                Err(error) => log_error("a hub was not asked", error),
            }
        });
    }

    /// Calls another object of the tenant, and decides what its answer changes.
    fn tell(self: &Rc<Self>, to: ShardIndex, call: Call) {
        let Some((tenant, _)) = &self.name else { return };
        let name = ObjectName::Jobs(tenant.clone(), to);
        let shell = self.clone();
        beside(&self.state, async move {
            let batch = Batch {
                calls: vec![call.clone()],
            };
            let answered = remote::jobs_batch(&shell.env, &name, &batch).await;
            let reply = answered.and_then(|replies| match replies.into_iter().next() {
                Some(answered) => answered.into_result(),
                None => Err(Error::new(ErrorCode::InternalError, "An object answered nothing.")),
            });
            shell.run(|db, memory, now, random| jobs::told(db, memory, now, random, (to, &call, reply)));
        });
    }

    fn ring(&self, job: tidegate_protocol::ids::JobId) {
        let Some((tenant, shard)) = self.name.clone() else {
            return;
        };
        let env = self.env.clone();
        beside(&self.state, async move {
            let text = format!("{} {job}", ObjectName::Jobs(tenant, shard));
            let rung = match env.queue("DOORBELLS") {
                Ok(queue) => {
                    let message = worker::RawMessageBuilder::new(wasm_bindgen::JsValue::from_str(&text));
                    queue
                        .send_raw(message.build_with_content_type(worker::QueueContentType::Text))
                        .await
                }
                Err(cause) => Err(cause),
            };
            if let Err(cause) = rung {
                // The job starts without its doorbell once the grace is over.
                log_error("a doorbell", cause);
            }
        });
    }

    /// Tells the tenant's gate what was done by hand, and forgets what it has taken down.
    fn record(self: &Rc<Self>, entries: Vec<Recorded>) {
        let (Some((tenant, shard)), Some(last)) = (self.name.clone(), entries.last().map(|told| told.number)) else {
            return;
        };
        let shell = self.clone();
        beside(&self.state, async move {
            let call = tenant::Call::Record { shard, entries };
            match remote::tenant(&shell.env, &tenant, &call).await {
                Ok(_) => {
                    shell.run(|db, memory, now, _| jobs::recorded(db, memory, now, last));
                }
                // The alarm tells it again.
                Err(error) => log_error("the gate was not told of what was done by hand", error),
            }
        });
    }

    /// Tells a channel what happened to jobs.
    fn tell_changes(self: &Rc<Self>, channel: ChannelName, rows: Vec<Changes>, keep: Keep) {
        let Some((tenant, source)) = self.name.clone() else {
            return;
        };
        let shell = self.clone();
        beside(&self.state, async move {
            // A flood of changes goes round between two objects: others are looked at in between.
            sleep(0).await;
            let calls = vec![channel::Call::Take { source, rows, keep }];
            let batch = channel::Batch { calls };
            let name = ObjectName::Channel(tenant, channel.clone());
            let answered = remote::channel(&shell.env, &name, &batch).await;
            let said = match answered.map(|replies| replies.into_iter().next()) {
                Ok(Some(answered)) => answered.into_result(),
                Ok(None) => Err(Error::new(ErrorCode::InternalError, "A channel answered nothing.")),
                Err(error) => Err(error),
            };
            let said = said.and_then(|reply| match reply {
                channel::Reply::Taken(number) => Ok(number),
                _ => Err(Error::new(
                    ErrorCode::InternalError,
                    "A channel answered another question.",
                )),
            });
            if let Err(error) = &said {
                // The alarm tells it again.
                log_error("a channel was not told of jobs", error);
            }
            shell.run(|db, memory, now, _| jobs::changes_told(db, memory, now, &channel, said));
        });
    }

    fn delete(&self, keys: Vec<String>) {
        // A backup may not have copied them yet.
        let Some(keys) = backup::keep(self, keys) else { return };
        let env = self.env.clone();
        beside(&self.state, async move {
            let deleted = match env.bucket("OBJECTS") {
                Ok(bucket) => bucket.delete_multiple(keys).await,
                Err(cause) => Err(cause),
            };
            if let Err(cause) = deleted {
                log_error("deleting objects", cause);
            }
        });
    }
}
