//! The shell around a `Jobs` object, as the real one behaves: a turn is one transaction, the alarm is set with it, the
//! effects follow. It dies at every point where a real one can.

use std::collections::BTreeMap;

use tidegate_engine::database::native::Native;
use tidegate_engine::database::{DatabaseError, migrate};
use tidegate_engine::jobs::{self, CallId, Effect, STEPS, State};
use tidegate_protocol::Error;
use tidegate_protocol::calls::hub::Delivery;
use tidegate_protocol::calls::jobs::{Call, Enqueue, Reply};
use tidegate_protocol::ids::{HubIndex, JobId, ShardIndex, TenantId};
use tidegate_protocol::time::UnixMs;

use crate::usage::Who;
use crate::world::{Check, Event, From, Telling, World, describe};

/// The batches on their way to one hub.
#[derive(Default)]
struct Outbox {
    in_flight: Option<(u64, Vec<Delivery>)>,
    next: Vec<Delivery>,
}

/// A `Jobs` object. The rows and the alarm outlive it; the rest is its memory.
pub struct JobsObject {
    pub tenant: usize,
    /// Among how many objects it knows itself, where it was told of a growth.
    pub shards: u16,
    pub db: Native,
    pub alarm: Option<UnixMs>,
    /// How late the alarm will be.
    pub alarm_lag: u64,
    pub timer_lag: u64,
    /// Rises when the object dies, so that what was meant for an earlier life is told.
    pub life: u64,
    pub state: Option<State>,
    calls: BTreeMap<CallId, From>,
    /// Requests of batches that wait for the object's next look at sockets and timers.
    held: Vec<(CallId, Box<Enqueue>)>,
    next_call: u64,
    outboxes: BTreeMap<HubIndex, Outbox>,
    /// Calls to the gate that are not answered.
    pub telling: u32,
}

/// One turn of the object.
#[derive(Debug, Clone)]
pub enum Turn {
    Handle(CallId, Box<Call>),
    /// Requests of batches that came together.
    Together(Vec<(CallId, Box<Enqueue>)>),
    Wake,
    Tick,
    /// Another object of the tenant answered.
    Told {
        by: ShardIndex,
        call: Box<Call>,
        reply: Result<Reply, Error>,
    },
    Delivered {
        hub: HubIndex,
        deliveries: Vec<Delivery>,
        not_followed: Vec<JobId>,
    },
    Undelivered {
        deliveries: Vec<Delivery>,
    },
    Recorded {
        number: u64,
    },
    Probed {
        hub: HubIndex,
        asked: (JobId, UnixMs),
        not_followed: Vec<JobId>,
    },
}

/// Where a crash hits a turn.
#[derive(Clone, Copy, PartialEq)]
enum Crash {
    No,
    BeforeCommit,
    AfterCommit,
    Between(usize),
}

impl JobsObject {
    pub fn new(tenant: usize, _index: u16, _id: &TenantId) -> Result<Self, String> {
        let db = Native::in_memory().map_err(|error| error.message)?;
        db.transaction(|db| migrate(db, STEPS)).map_err(|error| error.message)?;
        Ok(Self {
            tenant,
            shards: 0,
            db,
            alarm: None,
            alarm_lag: 0,
            timer_lag: 0,
            life: 0,
            state: None,
            calls: BTreeMap::new(),
            held: Vec::new(),
            next_call: 0,
            outboxes: BTreeMap::new(),
            telling: 0,
        })
    }

    pub fn timer(&self) -> Option<UnixMs> {
        self.state.as_ref().and_then(State::next_tick)
    }

    /// Whether somebody waits for it.
    pub fn waits(&self) -> bool {
        !self.calls.is_empty()
    }

    pub fn lives(&self, life: u64) -> bool {
        self.state.is_some() && self.life == life
    }

    /// The number of a call.
    fn number(&mut self, from: From) -> CallId {
        let id = CallId(self.next_call);
        self.next_call += 1;
        self.calls.insert(id, from);
        id
    }
}

impl World {
    /// A call arrives.
    pub fn jobs_called(&mut self, shard: usize, call: Call, from: From, number: u64) -> Check {
        self.note_order(shard, &from, number);
        self.jobs_turn_for(shard, call, from)
    }

    /// A turn for a call.
    pub fn jobs_turn_for(&mut self, shard: usize, call: Call, from: From) -> Check {
        if !self.construct(shard)? {
            self.unavailable(from);
            return Ok(());
        }
        let call = match call {
            Call::Enqueue(enqueue) if is_plain(&enqueue) && self.random.permille(700) => {
                self.hold_back(shard, enqueue, from);
                return Ok(());
            }
            call => call,
        };
        // Calls are decided in the order in which they came.
        self.decide_held(shard)?;
        if !self.construct(shard)? {
            self.unavailable(from);
            return Ok(());
        }
        let id = self.shards[shard].number(from);
        self.turn(shard, Turn::Handle(id, Box::new(call)), false)
    }

    /// A request waits for the object's next look at sockets and timers, with others that come until then.
    fn hold_back(&mut self, shard: usize, enqueue: Box<Enqueue>, from: From) {
        let object = &mut self.shards[shard];
        let id = object.number(from);
        object.held.push((id, enqueue));
        let life = object.life;
        if object.held.len() == 1 {
            let ms = self.random.below(40);
            self.after(ms, Event::Breathed { shard, life });
        }
    }

    /// The object has looked at sockets and timers.
    pub fn breathed(&mut self, shard: usize, life: u64) -> Check {
        if self.shards[shard].lives(life) {
            self.decide_held(shard)?;
        }
        Ok(())
    }

    fn decide_held(&mut self, shard: usize) -> Check {
        let held = std::mem::take(&mut self.shards[shard].held);
        if held.is_empty() {
            return Ok(());
        }
        self.counters.requests_decided_together += if held.len() > 1 { held.len() as u64 } else { 0 };
        self.turn(shard, Turn::Together(held), false)
    }

    /// The alarm goes off.
    pub fn alarm(&mut self, shard: usize) -> Check {
        if self.shards[shard].alarm_lag > 0 {
            self.counters.alarms_late += 1;
        }
        self.trace(|| format!("shard {shard}: alarm"));
        // The wake-up of a constructor may be the one that was due.
        if self.construct(shard)? && self.shards[shard].alarm.is_some_and(|at| at <= self.clock()) {
            self.turn(shard, Turn::Wake, true)?;
        }
        if self.sleepy {
            self.evict_jobs(shard)?;
        }
        Ok(())
    }

    pub fn timer(&mut self, shard: usize) -> Check {
        self.trace(|| format!("shard {shard}: timer"));
        self.turn(shard, Turn::Tick, false)
    }

    /// Makes sure that the object is in memory. False where it died while it got there.
    fn construct(&mut self, shard: usize) -> Result<bool, String> {
        if self.shards[shard].state.is_some() {
            return Ok(true);
        }
        let now = self.clock();
        let object = &mut self.shards[shard];
        let mut state = State::recover(&object.db, now).map_err(|error| format!("a recovery: {error}"))?;
        if self.random.permille(700) {
            // Few turns have two jobs to pack here.
            state.pack_each();
        }
        object.state = Some(state);
        if object.alarm.is_some_and(|at| at <= now) {
            self.turn(shard, Turn::Wake, true)?;
        }
        Ok(self.shards[shard].state.is_some())
    }

    fn crash_point(&mut self) -> Crash {
        if !self.fault(25) {
            return Crash::No;
        }
        match self.random.below(4) {
            0 => Crash::BeforeCommit,
            1 => Crash::AfterCommit,
            _ => Crash::Between(1 + self.random.below(3) as usize),
        }
    }

    pub fn turn(&mut self, shard: usize, turn: Turn, by_alarm: bool) -> Check {
        let crash = self.crash_point();
        let now = self.clock();
        let Some(mut state) = self.shards[shard].state.take() else {
            return Ok(());
        };
        let (db, random) = (&self.shards[shard].db, &mut self.random);
        let mut random = || random.next();
        let done = db.transaction(|db| {
            let effects = match turn.clone() {
                Turn::Handle(id, call) => jobs::handle(db, &mut state, now, &mut random, [(id, *call)])?,
                Turn::Together(calls) => {
                    let calls = calls.into_iter().map(|(id, enqueue)| (id, Call::Enqueue(enqueue)));
                    jobs::handle(db, &mut state, now, &mut random, calls)?
                }
                Turn::Wake => jobs::wake(db, &mut state, now, &mut random)?,
                Turn::Tick => jobs::tick(db, &mut state, now, &mut random)?,
                Turn::Told { by, call, reply } => jobs::told(db, &mut state, now, &mut random, (by, &call, reply))?,
                Turn::Delivered {
                    hub,
                    deliveries,
                    not_followed,
                } => {
                    if !jobs::delivered_without_rows(&mut state, hub, &deliveries, &not_followed) {
                        jobs::delivered(db, &mut state, now, hub, &deliveries, &not_followed)?;
                    }
                    Vec::new()
                }
                Turn::Undelivered { deliveries } => {
                    jobs::undelivered(&mut state, now, &deliveries);
                    Vec::new()
                }
                Turn::Recorded { number } => jobs::recorded(db, &mut state, now, number)?,
                Turn::Probed {
                    hub,
                    asked,
                    not_followed,
                } => {
                    jobs::probed(db, &mut state, now, hub, &[asked], &not_followed)?;
                    Vec::new()
                }
            };
            let (wake, accepted) = (state.next_wake(), state.take_accepted());
            if crash == Crash::BeforeCommit {
                Err(DatabaseError::new("crash"))
            } else {
                Ok((effects, wake, accepted))
            }
        });
        let (effects, wake, accepted) = match done {
            Ok(done) => done,
            Err(_) if crash == Crash::BeforeCommit => {
                self.trace(|| format!("shard {shard}: crash before commit"));
                self.counters.jobs_crashed_before_commit += 1;
                return self.crash_jobs(shard);
            }
            Err(error) => return Err(format!("the database refused a turn: {error}")),
        };
        let (lag, timer_lag) = (self.alarm_lag(), self.random.below(20));
        let object = &mut self.shards[shard];
        object.state = Some(state);
        object.timer_lag = timer_lag;
        if by_alarm {
            object.alarm = None;
        }
        if let Some(at) = wake.filter(|at| object.alarm.is_none_or(|alarm| *at < alarm)) {
            object.alarm = Some(at);
            object.alarm_lag = lag;
        }
        self.trace(|| {
            let names: Vec<_> = effects.iter().map(describe).collect();
            format!(
                "shard {shard}: {} committed, {names:?}, alarm {:?}",
                name(&turn),
                self.shards[shard].alarm
            )
        });
        if let (Some(state), db) = (&self.shards[shard].state, &self.shards[shard].db)
            && !state.mirrors(db).map_err(|error| error.message)?
        {
            return Err("what is remembered of running jobs is not what their rows hold".into());
        }
        self.observe(shard, &turn, &effects, now)?;
        self.count(Who::Shard(shard), accepted)?;
        if crash == Crash::AfterCommit {
            self.trace(|| format!("shard {shard}: crash after commit"));
            self.counters.jobs_crashed_after_commit += 1;
            return self.crash_by_alarm(shard, by_alarm, now);
        }
        let last = effects.len();
        for (number, effect) in effects.into_iter().enumerate() {
            if crash == Crash::Between(number) {
                self.trace(|| format!("shard {shard}: crash after {number} of {last} effects"));
                self.counters.jobs_crashed_between_effects += 1;
                return self.crash_by_alarm(shard, by_alarm, now);
            }
            self.perform(shard, effect)?;
        }
        self.send_batches(shard);
        Ok(())
    }

    /// An alarm whose handler died comes again.
    fn crash_by_alarm(&mut self, shard: usize, by_alarm: bool, now: UnixMs) -> Check {
        if by_alarm {
            self.counters.alarms_repeated += 1;
            self.shards[shard].alarm = Some(now);
        }
        self.crash_jobs(shard)
    }

    fn alarm_lag(&mut self) -> u64 {
        if self.fault(150) {
            self.random.within(1..=8000)
        } else {
            0
        }
    }

    fn perform(&mut self, shard: usize, effect: Effect) -> Check {
        match effect {
            Effect::Reply { call, reply } => {
                let Some(from) = self.shards[shard].calls.remove(&call) else {
                    return Err(format!("a call was answered twice, or never made: {call:?} {reply:?}"));
                };
                self.reply_from_jobs(from, reply)?;
            }
            Effect::Execute(execute) => self.execute(shard, *execute),
            Effect::Abandon { job, token } => {
                let ms = self.latency();
                self.after(ms, Event::Abandon { job, token });
            }
            Effect::Deliver { hub, delivery } => {
                self.shards[shard].outboxes.entry(hub).or_default().next.push(delivery);
            }
            Effect::RingDoorbell { job } => {
                if self.fault(150) {
                    self.counters.doorbells_lost += 1;
                    // What the queue gives up comes out of the queue of the dead, later, or not at all.
                    if self.fault(500) {
                        let (ms, number) = (self.latency() + self.random.below(60_000), self.id());
                        let call = Box::new(Call::DoorbellLost { job });
                        let from = From::Nobody;
                        self.after(
                            ms,
                            Event::ToJobs {
                                shard,
                                call,
                                from,
                                number,
                            },
                        );
                    }
                    return Ok(());
                }
                let again = self.fault(100);
                self.counters.doorbells_doubled += u64::from(again);
                for _ in 0..=u8::from(again) {
                    let (ms, number) = (self.latency() + self.random.below(3000), self.id());
                    self.after(
                        ms,
                        Event::ToJobs {
                            shard,
                            call: Box::new(Call::Start { job }),
                            from: From::Nobody,
                            number,
                        },
                    );
                }
            }
            Effect::Record { entries } => self.tell_gate(shard, entries),
            // No simulated composition asks for it: the engine's own tests have a world for that.
            Effect::TellChanges { .. } => {}
            Effect::Probe { hub, job, at } => self.ask_hub(shard, hub, (job, at)),
            Effect::Tell { shard: to, call } => {
                match &*call {
                    Call::Ask(ask) if ask.want > 0 => self.counters.places_asked += 1,
                    Call::Ask(_) => self.counters.places_returned += 1,
                    _ => self.counters.places_recalled += 1,
                }
                let id = self.id();
                let life = self.shards[shard].life;
                self.tellings.insert(
                    id,
                    Telling {
                        shard,
                        life,
                        to,
                        call: call.clone(),
                    },
                );
                let at = self.tenants[self.shards[shard].tenant].first_shard + usize::from(to.0);
                self.call_jobs(at, *call, From::Peer { shard, life, id })?;
            }
            Effect::DeleteBlobs { keys } => {
                self.check_deleted(shard, &keys)?;
                self.delete(shard, &keys)?;
            }
        }
        Ok(())
    }

    /// One batch is in flight for each hub; the next one fills.
    fn send_batches(&mut self, shard: usize) {
        let first_hub = self.tenants[self.shards[shard].tenant].first_hub;
        let mut ready = Vec::new();
        for (hub, outbox) in &mut self.shards[shard].outboxes {
            if outbox.in_flight.is_none() && !outbox.next.is_empty() {
                ready.push((*hub, std::mem::take(&mut outbox.next)));
            }
        }
        for (hub, deliveries) in ready {
            let batch = self.id();
            if let Some(outbox) = self.shards[shard].outboxes.get_mut(&hub) {
                outbox.in_flight = Some((batch, deliveries.clone()));
            }
            self.send_batch(shard, first_hub + usize::from(hub.0), batch, deliveries);
        }
    }

    /// A hub answered a batch, or could not be reached.
    pub fn batch_answered(
        &mut self,
        shard: usize,
        life: u64,
        hub: usize,
        batch: u64,
        reply: Result<Vec<JobId>, Error>,
    ) -> Check {
        if !self.shards[shard].lives(life) {
            return Ok(());
        }
        let hub = HubIndex((hub - self.tenants[self.shards[shard].tenant].first_hub) as u16);
        let outbox = self.shards[shard].outboxes.entry(hub).or_default();
        let Some((_, deliveries)) = outbox.in_flight.take_if(|(number, _)| *number == batch) else {
            return Ok(());
        };
        match reply {
            Ok(not_followed) => self.turn(
                shard,
                Turn::Delivered {
                    hub,
                    deliveries,
                    not_followed,
                },
                false,
            ),
            Err(_) => self.turn(shard, Turn::Undelivered { deliveries }, false),
        }
    }

    /// A question to a hub sets out, at times twice, or gets lost.
    fn ask_hub(&mut self, shard: usize, hub: HubIndex, asked: (JobId, UnixMs)) {
        self.counters.hubs_asked += 1;
        let life = self.shards[shard].life;
        let hub = self.tenants[self.shards[shard].tenant].first_hub + usize::from(hub.0);
        if self.fault(50) {
            self.counters.questions_lost += 1;
            return;
        }
        for _ in 0..=u8::from(self.fault(50)) {
            let ms = self.latency();
            self.after(
                ms,
                Event::Question {
                    shard,
                    life,
                    hub,
                    asked,
                },
            );
        }
    }

    /// A hub's answer arrives.
    pub fn question_answered(
        &mut self,
        shard: usize,
        life: u64,
        hub: usize,
        asked: (JobId, UnixMs),
        not_followed: Vec<JobId>,
    ) -> Check {
        if !self.shards[shard].lives(life) {
            return Ok(());
        }
        let hub = HubIndex((hub - self.tenants[self.shards[shard].tenant].first_hub) as u16);
        let turn = Turn::Probed {
            hub,
            asked,
            not_followed,
        };
        self.turn(shard, turn, false)
    }

    /// Another object answered, or could not be reached.
    pub fn peer_answered(&mut self, shard: usize, life: u64, id: u64, reply: Result<Reply, Error>) -> Check {
        let Some(Telling { to: by, call, .. }) = self.tellings.remove(&id) else {
            return Ok(());
        };
        if !self.shards[shard].lives(life) {
            return Ok(());
        }
        self.turn(shard, Turn::Told { by, call, reply }, false)
    }

    /// The object loses its memory, and everything that waited in it.
    pub fn crash_jobs(&mut self, shard: usize) -> Check {
        self.lose_memory(shard);
        self.use_forgotten(Who::Shard(shard), false)
    }

    fn lose_memory(&mut self, shard: usize) {
        let object = &mut self.shards[shard];
        object.life += 1;
        object.state = None;
        object.held.clear();
        object.outboxes.clear();
        object.telling = 0;
        let calls = std::mem::take(&mut object.calls);
        for from in calls.into_values() {
            self.unavailable(from);
        }
        self.attempts_orphaned(shard);
        self.oracle.forgotten(shard);
    }

    /// An idle object is put to sleep.
    pub fn evict_jobs(&mut self, shard: usize) -> Check {
        let object = &self.shards[shard];
        let busy = !object.calls.is_empty()
            || object.telling > 0
            || object.outboxes.values().any(|outbox| outbox.in_flight.is_some())
            || self
                .tellings
                .values()
                .any(|telling| telling.shard == shard && telling.life == object.life)
            || self
                .attempts
                .values()
                .any(|attempt| attempt.shard == shard && attempt.life == object.life && !attempt.away);
        if object.state.is_some() && !busy {
            self.trace(|| format!("shard {shard}: evicted"));
            self.counters.jobs_evicted += 1;
            self.lose_memory(shard);
            self.use_forgotten(Who::Shard(shard), true)?;
        }
        Ok(())
    }

    /// In the end every place is free, and a recovery finds nothing to do.
    pub fn jobs_at_rest(&mut self, shard: usize) -> Check {
        let now = self.clock();
        let object = &self.shards[shard];
        let found = State::recover(&object.db, now).map_err(|error| format!("a recovery: {error}"))?;
        if found.next_schedule().is_some() {
            return Err("at rest, a schedule that nobody wants is due".into());
        }
        for state in object.state.iter().chain([&found]) {
            if state.running() != 0 || state.waiting() != 0 {
                return Err(format!("at rest, {} run and {} wait", state.running(), state.waiting()));
            }
            if let Some(unused) = state.unused_places() {
                return Err(format!("at rest, shard {shard} has places for nothing: {unused}"));
            }
        }
        Ok(())
    }
}

fn name(turn: &Turn) -> &'static str {
    match turn {
        Turn::Handle(_, call) => match **call {
            Call::Enqueue(_) => "enqueue",
            Call::Follow { .. } => "follow",
            Call::Watch { .. } => "watch",
            Call::Cancel { .. } => "cancel",
            Call::Get { .. } => "get",
            Call::Result { .. } => "result",
            Call::List { .. } => "list",
            Call::Why { .. } => "why",
            Call::Holders { .. } => "holders",
            Call::Pause { .. } => "pause",
            Call::Resume { .. } => "resume",
            Call::Queue { .. } => "queue",
            Call::Retry { .. } => "retry",
            Call::DeadLetters { .. } => "dead letters",
            Call::Many { .. } => "many",
            Call::Start { .. } => "start",
            Call::Report { .. } => "report",
            Call::Finish { .. } => "finish",
            Call::SetSchedules { .. } => "set schedules",
            Call::SetEndpoints { .. } => "set endpoints",
            Call::Schedules { .. } => "schedules",
            Call::PauseSchedule { .. } => "pause",
            Call::ResumeSchedule { .. } => "resume",
            Call::TriggerSchedule { .. } => "trigger",
            Call::Backfill { .. } => "backfill",
            Call::Change { .. } => "change",
            Call::Events { .. } => "events",
            Call::Output { .. } => "output",
            Call::Grow(_) => "grow",
            Call::Lease(_) => "lease",
            Call::Input { .. } => "input",
            Call::Batch { .. } => "batch",
            Call::Ask(_) => "ask",
            Call::Recall(_) => "recall",
            Call::DoorbellLost { .. } => "doorbell lost",
        },
        Turn::Together(_) => "enqueue together",
        Turn::Wake => "wake",
        Turn::Tick => "tick",
        Turn::Told { .. } => "told",
        Turn::Delivered { .. } => "delivered",
        Turn::Undelivered { .. } => "undelivered",
        Turn::Recorded { .. } => "recorded",
        Turn::Probed { .. } => "probed",
    }
}

/// Whether a request of a batch is one that nothing ever looks for but by its number, its batch or its turn.
fn is_plain(enqueue: &Enqueue) -> bool {
    let job = &enqueue.job;
    let special = enqueue.keyed.is_some() || enqueue.answer_within_ms.is_some() || enqueue.away_max_ms.is_some();
    job.batch.is_some() && job.once.is_none() && !special
}

/// The reply that a turn gave to its own call, where it gave one.
pub fn own_reply(id: CallId, effects: &[Effect]) -> Option<&Result<Reply, Error>> {
    effects.iter().find_map(|effect| match effect {
        Effect::Reply { call, reply } if *call == id => Some(reply),
        _ => None,
    })
}
