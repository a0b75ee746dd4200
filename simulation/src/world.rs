//! Everything there is, the one clock, and the order in which things happen.

use std::collections::BTreeMap;

use tidegate_engine::hub;
use tidegate_engine::jobs::Effect;
use tidegate_engine::tenancy::Step;
use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::executor::Outcome;
use tidegate_protocol::calls::hub::{Delivery, Prefer, Reply};
use tidegate_protocol::calls::jobs::{self as calls, Call, Change};
use tidegate_protocol::calls::queueing::{ActionPattern, PauseScope};
use tidegate_protocol::calls::tenant::{self, Description, Recorded, Scale};
use tidegate_protocol::calls::usage::Report;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::{FencingToken, JobId, ShardIndex, TenantId, UserId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use crate::clients::{Client, Socket};
use crate::counters::Counters;
use crate::executor::Attempt;
use crate::gates::Gate;
use crate::hubs::HubObject;
use crate::jobs::JobsObject;
use crate::oracle::Oracle;
use crate::random::Random;
use crate::setting::{SHARDS_MAX, TENANTS};
use crate::usage::{Uses, Who};

/// A rule that was broken, in words.
pub type Check = Result<(), String>;

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The history.
    pub seed: u64,
    /// Events before the faults stop and everything drains.
    pub steps: u64,
    /// Whether to print every event.
    pub trace: bool,
}

/// Who gets a reply of a `Jobs` object. Callers inside an object say in which of its lives they asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum From {
    Hub { hub: usize, life: u64, call: hub::CallId },
    Attempt(u64),
    Watch { client: usize, job: JobId },
    Probe { client: usize, foreign: bool },
    Gate { gate: usize, version: u64 },
    Grow { gate: usize, step: Step, shard: ShardIndex },
    Retry { client: usize, job: JobId },
    Many { client: usize },
    Batch { client: usize, foreign: bool },
    Worker { shard: usize },
    Peer { shard: usize, life: u64, id: u64 },
    Nobody,
}

/// Something that happens at a moment.
#[derive(Debug, Clone)]
pub enum Event {
    /// The next move of a client, or a fault.
    Move,
    /// Clients look after what they still wait for, once the faults have stopped.
    LookAfter,
    ToJobs {
        shard: usize,
        call: Box<calls::Call>,
        from: From,
        number: u64,
    },
    FromJobs {
        to: From,
        reply: Result<calls::Reply, Error>,
    },
    /// A shard has looked at its sockets and timers.
    Breathed {
        shard: usize,
        life: u64,
    },
    ToHub {
        hub: usize,
        deliveries: Vec<Delivery>,
        shard: usize,
        life: u64,
        batch: u64,
    },
    FromHub {
        shard: usize,
        life: u64,
        hub: usize,
        batch: u64,
        reply: Result<Vec<JobId>, Error>,
    },
    /// A shard asks a hub which of these jobs its sockets follow.
    Question {
        shard: usize,
        life: u64,
        hub: usize,
        asked: (JobId, UnixMs),
    },
    /// What the hub said.
    Answer {
        shard: usize,
        life: u64,
        hub: usize,
        asked: (JobId, UnixMs),
        not_followed: Vec<JobId>,
    },
    HttpToHub {
        hub: usize,
        client: usize,
        http: u64,
        body: String,
        key: Option<String>,
        prefer: Prefer,
    },
    HttpToClient {
        client: usize,
        http: u64,
        reply: Result<Reply, Error>,
    },
    Ran {
        hub: usize,
        life: u64,
        call: hub::CallId,
        result: Result<JsonText, Error>,
    },
    Connected {
        socket: usize,
    },
    FrameUp {
        socket: usize,
        text: String,
    },
    FrameDown {
        socket: usize,
        text: String,
    },
    /// The hub learns that the socket is gone.
    Gone {
        socket: usize,
    },
    /// The client learns it.
    Cut {
        socket: usize,
    },
    ToGate {
        gate: usize,
        call: tenant::Call,
        from: Option<(usize, u64)>,
    },
    /// An object tells its gate what was done by hand.
    Record {
        shard: usize,
        life: u64,
        entries: Vec<Recorded>,
    },
    /// The gate has taken that down, or was not reached.
    Recorded {
        shard: usize,
        life: u64,
        number: Option<u64>,
    },
    /// The alarm of a gate.
    Retell {
        gate: usize,
    },
    /// An operator goes on with the objects of a tenant from this one on.
    Hold {
        tenant: usize,
        from: u16,
        scope: PauseScope,
        back: bool,
    },
    FromGate {
        hub: usize,
        life: u64,
        reply: Result<Description, Error>,
    },
    Refresh {
        hub: usize,
        description: Description,
    },
    Attempt {
        id: u64,
    },
    Outcome {
        shard: usize,
        life: u64,
        job: JobId,
        token: FencingToken,
        outcome: Outcome,
    },
    Abandon {
        job: JobId,
        token: FencingToken,
    },
    /// An object looks whether it has become quiet.
    Quiet {
        who: Who,
        run: u64,
    },
    /// An object tells its gate what it has counted.
    Used {
        who: Who,
        run: u64,
        report: Report,
    },
    /// The gate has taken that in, or was not reached.
    UseTold {
        who: Who,
        run: u64,
        seq: Option<u64>,
    },
}

impl Event {
    /// Whether it is in the memory of the server, so that a crash of the server takes it.
    fn dies_with_the_server(&self) -> bool {
        !matches!(
            self,
            Self::Move
                | Self::LookAfter
                | Self::HttpToClient { .. }
                | Self::Retell { .. }
                | Self::Hold { .. }
                | Self::FrameDown { .. }
                | Self::Cut { .. }
                | Self::FromJobs {
                    to: From::Watch { .. }
                        | From::Probe { .. }
                        | From::Retry { .. }
                        | From::Many { .. }
                        | From::Batch { .. }
                        | From::Worker { .. },
                    ..
                }
        )
    }
}

/// A call of one `Jobs` object to another that is not answered yet.
pub struct Telling {
    pub shard: usize,
    pub life: u64,
    pub to: ShardIndex,
    pub call: Box<Call>,
}

/// A tenant, and where its objects are.
pub struct Tenant {
    pub id: TenantId,
    pub scale: Scale,
    pub first_hub: usize,
    pub first_shard: usize,
}

/// Everything there is.
pub struct World {
    pub options: Options,
    pub random: Random,
    /// Milliseconds since the beginning. Never goes back.
    pub time: u64,
    /// What the server's clock adds to the time.
    pub offset: u64,
    /// The latest moment that the server's clock has shown.
    pub latest_clock: u64,
    pub faults: bool,
    /// Whether idle objects are put to sleep at once, so that each alarm meets an object without memory.
    pub sleepy: bool,
    pub counters: Counters,
    pub tenants: Vec<Tenant>,
    pub gates: Vec<Gate>,
    pub hubs: Vec<HubObject>,
    pub shards: Vec<JobsObject>,
    pub clients: Vec<Client>,
    pub sockets: Vec<Socket>,
    pub attempts: BTreeMap<u64, Attempt>,
    pub oracle: Oracle,
    /// Object storage.
    pub blobs: BTreeMap<String, JsonText>,
    pub next_id: u64,
    pub latest_call: BTreeMap<(usize, usize), u64>,
    /// What objects tell each other, until they are answered.
    pub tellings: BTreeMap<u64, Telling>,
    pub uses: Uses,
    queue: BTreeMap<(u64, u64), Event>,
}

/// The server's clock at the beginning.
const BEGINNING: u64 = 1_800_000_000_000;
/// How long everything may take to come to rest once the faults have stopped. Milliseconds.
const DRAIN_MS_MAX: u64 = 30 * 60_000;
/// As many events as it may take: an alarm that rings for nothing, at once and for ever, lets no time pass.
const DRAIN_EVENTS_MAX: u64 = 100_000;

/// Runs one history.
///
/// Errors: the rule that was broken.
pub fn run(options: Options) -> Result<Counters, String> {
    let mut world = World::new(options)?;
    world.after(0, Event::Move);
    while world.counters.events < options.steps {
        world.step()?;
    }
    world.calm()?;
    let end = world.time + DRAIN_MS_MAX;
    let mut quiet_since = None;
    loop {
        world.step()?;
        if world.unsettled().is_none() {
            // Late copies of old calls may still be on their way: they must not wake anything.
            if world.time > *quiet_since.get_or_insert(world.time) + 60_000 {
                break;
            }
        } else {
            quiet_since = None;
        }
        if world.time > end || world.counters.events_while_draining > DRAIN_EVENTS_MAX {
            let what = world.unsettled().unwrap_or_default();
            return Err(format!("did not come to rest: {what}"));
        }
    }
    world.check_at_rest()?;
    Ok(world.counters)
}

impl World {
    fn new(options: Options) -> Result<Self, String> {
        let mut world = Self {
            options,
            random: Random::new(options.seed),
            time: 0,
            offset: BEGINNING,
            latest_clock: BEGINNING,
            faults: true,
            sleepy: options.seed.is_multiple_of(3),
            counters: Counters::default(),
            tenants: Vec::new(),
            gates: Vec::new(),
            hubs: Vec::new(),
            shards: Vec::new(),
            clients: Vec::new(),
            sockets: Vec::new(),
            attempts: BTreeMap::new(),
            oracle: Oracle::default(),
            blobs: BTreeMap::new(),
            next_id: 0,
            latest_call: BTreeMap::new(),
            tellings: BTreeMap::new(),
            uses: Uses::default(),
            queue: BTreeMap::new(),
        };
        for (number, name) in TENANTS.into_iter().enumerate() {
            let id = TenantId::parse(name).ok_or("a tenant's name")?;
            let scale = Scale {
                hubs: world.random.within(1..=2) as u16,
                shards: 1 + world.random.below(4) as u16 / 3,
            };
            world.gates.push(Gate::new(name, scale)?);
            let (first_hub, first_shard) = (world.hubs.len(), world.shards.len());
            world
                .hubs
                .extend((0..scale.hubs).map(|index| HubObject::new(number, index)));
            // Those beyond the scale are there for the tenant to grow.
            for index in 0..SHARDS_MAX {
                world.shards.push(JobsObject::new(number, index, &id)?);
            }
            // Two devices of one user, and one of another.
            for user in ["u0", "u0", "u1"] {
                world.clients.push(Client::new(number, name, user, scale.hubs));
            }
            world.tenants.push(Tenant {
                id,
                scale,
                first_hub,
                first_shard,
            });
            world.after(0, Event::Retell { gate: number });
        }
        Ok(world)
    }

    /// The server's clock.
    pub fn clock(&self) -> UnixMs {
        UnixMs(self.time + self.offset)
    }

    pub fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub fn after(&mut self, ms: u64, event: Event) {
        let id = self.id();
        self.queue.insert((self.time + ms, id), event);
    }

    /// An event that comes after all others of its kind, as frames of one socket do.
    pub fn at(&mut self, time: u64, event: Event) {
        let id = self.id();
        self.queue.insert((time.max(self.time), id), event);
    }

    /// A fault that comes `permille` times in a thousand while there are faults.
    pub fn fault(&mut self, permille: u64) -> bool {
        self.faults && self.random.permille(permille)
    }

    pub fn trace(&self, line: impl FnOnce() -> String) {
        if self.options.trace {
            println!("{:>8} {}", self.time, line());
        }
    }

    /// The next thing that happens: an event, an alarm, or a timer.
    fn step(&mut self) -> Check {
        let due = |at: UnixMs, lag: u64| (at.0 + lag).saturating_sub(self.offset);
        let mut next = self.queue.first_key_value().map(|(key, _)| (key.0, None));
        for (shard, object) in self.shards.iter().enumerate() {
            let alarm = object.alarm.map(|at| (due(at, object.alarm_lag), Some((shard, true))));
            let timer = object
                .timer()
                .map(|at| (due(at, object.timer_lag), Some((shard, false))));
            for candidate in [alarm, timer].into_iter().flatten() {
                if next.is_none_or(|(time, _)| candidate.0 < time) {
                    next = Some(candidate);
                }
            }
        }
        let Some((time, what)) = next else {
            return Err("nothing is left to happen".into());
        };
        self.time = self.time.max(time);
        self.counters.events += 1;
        if !self.faults {
            self.counters.events_while_draining += 1;
        }
        match what {
            None => match self.queue.pop_first() {
                Some((_, event)) => self.happen(event),
                None => Ok(()),
            },
            Some((shard, true)) => self.alarm(shard),
            Some((shard, false)) => self.timer(shard),
        }
    }

    fn happen(&mut self, event: Event) -> Check {
        if self.options.trace && !matches!(event, Event::Move | Event::LookAfter) {
            let mut text = format!("{event:?}");
            text.truncate(text.char_indices().nth(400).map_or(text.len(), |(at, _)| at));
            self.trace(|| text);
        }
        match event {
            Event::Move => self.make_move(),
            Event::LookAfter => self.look_after(),
            Event::ToJobs {
                shard,
                call,
                from,
                number,
            } => self.jobs_called(shard, *call, from, number),
            Event::FromJobs { to, reply } => self.jobs_replied(to, reply),
            Event::Breathed { shard, life } => self.breathed(shard, life),
            Event::ToHub {
                hub,
                deliveries,
                shard,
                life,
                batch,
            } => self.hub_delivered(hub, deliveries, shard, life, batch),
            Event::FromHub {
                shard,
                life,
                hub,
                batch,
                reply,
            } => self.batch_answered(shard, life, hub, batch, reply),
            Event::Question {
                shard,
                life,
                hub,
                asked,
            } => self.question(shard, life, hub, asked),
            Event::Answer {
                shard,
                life,
                hub,
                asked,
                not_followed,
            } => self.question_answered(shard, life, hub, asked, not_followed),
            Event::HttpToHub {
                hub,
                client,
                http,
                body,
                key,
                prefer,
            } => self.http_requested(hub, client, http, body, key, prefer),
            Event::HttpToClient { client, http, reply } => self.http_answered(client, http, reply),
            Event::Ran {
                hub,
                life,
                call,
                result,
            } => self.ran(hub, life, call, result),
            Event::Connected { socket } => self.connected(socket),
            Event::FrameUp { socket, text } => self.frame_up(socket, text),
            Event::FrameDown { socket, text } => self.frame_down(socket, &text),
            Event::Gone { socket } => self.gone(socket),
            Event::Cut { socket } => self.cut_seen(socket),
            Event::ToGate { gate, call, from } => self.gate_called(gate, call, from),
            Event::Retell { gate } => self.retell(gate),
            Event::Hold {
                tenant,
                from,
                scope,
                back,
            } => self.hold_on(tenant, from, scope, back),
            Event::FromGate { hub, life, reply } => self.described(hub, life, reply),
            Event::Refresh { hub, description } => self.refreshed(hub, description),
            Event::Record { shard, life, entries } => self.record(shard, life, entries),
            Event::Recorded { shard, life, number } => self.recorded(shard, life, number),
            Event::Attempt { id } => self.attempt_goes_on(id),
            Event::Outcome {
                shard,
                life,
                job,
                token,
                outcome,
            } => self.outcome_came(shard, life, job, token, outcome),
            Event::Abandon { job, token } => self.abandoned(job, token),
            Event::Quiet { who, run } => self.use_waited(who, run),
            Event::Used { who, run, report } => self.use_heard(who, run, report),
            Event::UseTold { who, run, seq } => self.use_told(who, run, seq),
        }
    }

    /// A move of a client, or a fault from outside; then the next one.
    fn make_move(&mut self) -> Check {
        if !self.faults {
            return Ok(());
        }
        let pause = if self.random.permille(30) {
            self.random.within(2000..=12_000)
        } else {
            self.random.within(1..=400)
        };
        self.after(pause, Event::Move);
        match self.random.below(1000) {
            0..=9 => self.crash_server()?,
            10..=39 => {
                let shard = self.random.below(self.shards.len() as u64) as usize;
                self.evict_jobs(shard)?;
            }
            40..=79 => {
                let hub = self.random.below(self.hubs.len() as u64) as usize;
                self.evict_hub(hub)?;
            }
            80..=89 => {
                let hub = self.random.below(self.hubs.len() as u64) as usize;
                self.trace(|| format!("hub {hub} crashes"));
                self.crash_hub(hub)?;
            }
            90..=104 => {
                let ms = self.random.within(500..=30_000);
                self.trace(|| format!("the clock jumps {ms} ms forward"));
                self.offset += ms;
                self.counters.clock_jumped_forward += 1;
            }
            105..=119 => {
                let ms = self.random.within(1..=2000);
                self.trace(|| format!("the clock jumps {ms} ms back"));
                self.offset -= ms;
                self.counters.clock_jumped_back += 1;
            }
            120..=134 => self.activate(false),
            165..=179 => self.activate(true),
            150..=164 => self.operate(),
            180..=219 => {
                let shard = self.random.below(self.shards.len() as u64) as usize;
                self.worker_asks(shard)?;
            }
            135..=149 => {
                let shard = self.random.below(self.shards.len() as u64) as usize;
                if self.shards[shard].alarm.is_some() {
                    self.counters.alarms_repeated += 1;
                    self.shards[shard].alarm = Some(self.clock());
                }
            }
            _ => {
                let client = self.random.below(self.clients.len() as u64) as usize;
                self.client_moves(client)?;
            }
        }
        Ok(())
    }

    /// The whole server dies: every object, executor, socket and doorbell. Rows and alarms are kept.
    fn crash_server(&mut self) -> Check {
        self.trace(|| "the server crashes".into());
        self.counters.server_crashed += 1;
        let lost: Vec<Event> = {
            let all = std::mem::take(&mut self.queue);
            let (lost, kept): (BTreeMap<_, _>, BTreeMap<_, _>) =
                all.into_iter().partition(|(_, event)| event.dies_with_the_server());
            self.queue = kept;
            lost.into_values().collect()
        };
        for shard in 0..self.shards.len() {
            self.crash_jobs(shard)?;
        }
        for hub in 0..self.hubs.len() {
            self.crash_hub(hub)?;
        }
        self.attempts.clear();
        for event in lost {
            match event {
                Event::ToJobs { from, .. } => self.unavailable(from),
                Event::FromJobs { to, .. } => self.unavailable(to),
                Event::HttpToHub { client, http, .. } => {
                    self.after(
                        5,
                        Event::HttpToClient {
                            client,
                            http,
                            reply: Err(unavailable()),
                        },
                    );
                }
                Event::Connected { socket } => self.after(5, Event::Cut { socket }),
                _ => {}
            }
        }
        Ok(())
    }

    /// The faults stop; what waits for a client's care gets it from now on.
    fn calm(&mut self) -> Check {
        self.trace(|| "the faults stop".into());
        self.faults = false;
        self.after(1, Event::LookAfter);
        self.unschedule();
        self.stir_uses()
    }

    /// Operators let go of whatever is still held back.
    pub fn resume_all(&mut self) {
        for (shard, scope) in self.oracle.paused() {
            self.hold(shard, scope, false, 1);
        }
        for (shard, job) in self.oracle.held() {
            let (caller, change) = (operator(), Change::Resume);
            self.send_at(shard, Call::Change { job, caller, change }, 1);
        }
    }

    /// An operator pauses jobs of a tenant, or resumes them, on whichever objects are reached.
    fn operate(&mut self) {
        let scopes = pause_scopes();
        let scope = scopes[self.random.below(scopes.len() as u64) as usize].clone();
        let tenant = self.random.below(self.tenants.len() as u64) as usize;
        let back = self.random.permille(400);
        let from = 0;
        self.after(
            0,
            Event::Hold {
                tenant,
                from,
                scope,
                back,
            },
        );
    }

    /// Pauses or resumes on every object that there is by now, and then on those that have come meanwhile.
    fn hold_on(&mut self, tenant: usize, from: u16, scope: PauseScope, back: bool) -> Check {
        let reach = self.describe(tenant)?.reach();
        let mut last = 0;
        for index in from..reach {
            let shard = self.tenants[tenant].first_shard + usize::from(index);
            let ms = self.latency();
            last = last.max(ms);
            self.hold(shard, scope.clone(), back, ms);
        }
        if from < reach {
            let from = reach;
            self.after(
                last + 1,
                Event::Hold {
                    tenant,
                    from,
                    scope,
                    back,
                },
            );
        }
        Ok(())
    }

    fn hold(&mut self, shard: usize, scope: PauseScope, back: bool, ms: u64) {
        let caller = operator();
        let call = if back {
            Call::Pause { scope, caller }
        } else {
            Call::Resume { scope, caller }
        };
        self.send_at(shard, call, ms);
    }

    fn send_at(&mut self, shard: usize, call: Call, ms: u64) {
        let number = self.id();
        let from = From::Nobody;
        self.after(
            ms,
            Event::ToJobs {
                shard,
                call: Box::new(call),
                from,
                number,
            },
        );
    }

    /// What is not at rest yet.
    fn unsettled(&self) -> Option<String> {
        let rows = self.oracle.unsettled();
        let clients = || self.clients.iter().find_map(|client| client.unsettled(&self.oracle));
        let calls = || {
            let waiting = self.shards.iter().any(|object| object.timer().is_some());
            waiting.then(|| "a call still waits".to_owned())
        };
        let growth = || {
            let growing = (0..self.gates.len()).any(|gate| self.gate_at_rest(gate).is_err());
            growing.then(|| "a gate has something to tell".to_owned())
        };
        let trail = || {
            let untold = (0..self.shards.len()).any(|shard| self.trail_is_told(shard) != Ok(true));
            untold.then(|| "the audit trail is not told".to_owned())
        };
        rows.or_else(clients).or_else(calls).or_else(growth).or_else(trail)
    }

    /// What must be true in the end.
    fn check_at_rest(&mut self) -> Check {
        for shard in 0..self.shards.len() {
            self.jobs_at_rest(shard)?;
        }
        for gate in 0..self.gates.len() {
            self.gate_at_rest(gate)?;
            self.trail_at_rest(gate)?;
        }
        for hub in &self.hubs {
            hub.at_rest()?;
        }
        self.uses_at_rest()?;
        self.oracle.at_rest()
    }
}

/// What operators pause.
fn pause_scopes() -> [PauseScope; 3] {
    [
        PauseScope::Tenant,
        PauseScope::Action(ActionPattern::parse("b*").expect("a pattern")),
        PauseScope::Key("u0".into()),
    ]
}

fn operator() -> Caller {
    Caller {
        user: UserId::parse("operator").expect("a user"),
        reads_all: true,
        writes_all: true,
        act: None,
    }
}

/// What a caller is told whose call came to nothing.
pub fn unavailable() -> Error {
    Error::new(ErrorCode::Unavailable, "The object could not be reached.").retry_after(100)
}

/// Whether an effect names work that must not be lost.
pub fn describe(effect: &Effect) -> &'static str {
    match effect {
        Effect::Reply { .. } => "reply",
        Effect::Execute(_) => "execute",
        Effect::Abandon { .. } => "abandon",
        Effect::Deliver { .. } => "deliver",
        Effect::RingDoorbell { .. } => "ring",
        Effect::DeleteBlobs { .. } => "delete",
        Effect::Record { .. } => "record",
        Effect::TellChanges { .. } => "changes",
        Effect::Probe { .. } => "probe",
        Effect::Tell { .. } => "tell",
    }
}
