//! Endpoints that are told of the ends of jobs: one object of the job queue, the gate that owns the list, and receivers.
//!
//! A small world for itself beside the one of jobs, because its clients are others: here nobody asks for a job but to see it
//! end. The object and the gate are those that ship; they die at every point where real ones can, and what they tell each
//! other gets lost and comes twice. Receivers hear and answer, hear and fall silent, fail, and say that they are gone.

mod oracle;

use std::collections::BTreeMap;

use serde_json::json;
use tidegate_engine::composition::Plan;
use tidegate_engine::database::native::Native;
use tidegate_engine::database::{Database, DatabaseError, migrate};
use tidegate_engine::jobs::{self, CallId, STEPS, State};
use tidegate_engine::tenancy::{self, RETELL_MS};
use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::executor::{Backoff, Execute, Outcome, Policy};
use tidegate_protocol::calls::hooks::{Hook, OnEnd};
use tidegate_protocol::calls::jobs::{Call, Enqueue, ManyAction, NewJob, Reply, Selection};
use tidegate_protocol::calls::tenant::{self, EndpointChange, Recorded, Scale};
use tidegate_protocol::event::{JobState, JsonText, Payload};
use tidegate_protocol::ids::{ActionName, EndpointId, Partition, RequestId, Revision, ShardIndex, UserId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode, SortedMap};

use self::oracle::Oracle;
use crate::counters::Counters;
use crate::gates::Gate;
use crate::random::Random;
use crate::setting::{REVISIONS, TENANTS, plan};
use crate::world::{Check, Options};

/// Jobs, faults, and what operators do in one history.
const MOVES: u64 = 20;
/// The clock at the beginning.
const BEGINNING: u64 = 1_800_000_000_000;
/// How long everything may take to come to rest. Milliseconds: a message is tried for two days and more.
const REST_MS_MAX: u64 = 20 * 86_400_000;
/// Events that it may take.
const REST_EVENTS_MAX: u64 = 20_000;
/// Times that what is dead is tried again, in the end.
const REDRIVES_MAX: u32 = 4;
/// The endpoints: the second one wants its messages in order.
const ENDPOINTS: [(&str, bool); 3] = [("end_plain", false), ("end_ordered", true), ("end_frail", false)];
/// Where the hooks of jobs go.
const HOOK: &str = "https://hook.example.com/";

#[derive(Debug, Clone)]
enum Event {
    Move,
    /// An attempt reaches what it is for.
    Attempt(Box<Execute>),
    /// What an attempt came to.
    Finish(Box<Execute>, Outcome),
    /// The gate tells which endpoints there are.
    Told {
        version: u64,
        endpoints: JsonText,
    },
    /// The object has heard it.
    Confirmed {
        version: u64,
    },
    /// The object tells of endpoints that it has disabled.
    Record(Vec<Recorded>),
    Recorded {
        life: u64,
        number: u64,
    },
    /// The alarm of the gate.
    Retell,
}

/// How a receiver answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    Well,
    /// Now and then, with a failure in between.
    Badly,
    /// That it wants to hear no more.
    Gone,
}

/// What is asked of the object in one turn.
#[derive(Clone)]
enum Turn {
    Handle(Box<Call>),
    Wake,
    Tick,
    Recorded(u64),
}

struct World {
    options: Options,
    random: Random,
    time: u64,
    offset: u64,
    faults: bool,
    queue: BTreeMap<(u64, u64), Event>,
    next: u64,
    moves: u64,
    plan: Plan,
    gate: Gate,
    armed: bool,
    db: Native,
    state: Option<State>,
    alarm: Option<UnixMs>,
    life: u64,
    receivers: BTreeMap<String, Answers>,
    oracle: Oracle,
    counters: Counters,
}

/// Runs one history.
///
/// Errors: the rule that was broken.
pub fn run(options: Options) -> Result<Counters, String> {
    let mut world = World::new(options)?;
    // An operator who is refused tries again until they are there.
    world.faults = false;
    for (name, ordered) in ENDPOINTS {
        let body = json!({ "url": format!("https://{name}.example.com/"), "ordered": ordered }).to_string();
        world.change(EndpointChange::Create { id: id(name)?, body })?;
    }
    world.faults = true;
    world.after(0, Event::Move);
    while world.moves > 0 {
        world.step()?;
    }
    world.heal()?;
    for _ in 0..REDRIVES_MAX {
        world.rest()?;
        if !world.redrive()? {
            world.oracle.check_at_rest()?;
            return Ok(world.counters);
        }
    }
    Err("messages are still dead that were sent again to endpoints which hear".into())
}

fn id(name: &str) -> Result<EndpointId, String> {
    EndpointId::parse(name).ok_or_else(|| format!("an endpoint `{name}`"))
}

fn operator() -> Caller {
    Caller {
        user: UserId::parse("operator").expect("a user"),
        reads_all: true,
        writes_all: true,
        act: None,
    }
}

impl World {
    fn new(options: Options) -> Result<Self, String> {
        let scale = Scale { hubs: 1, shards: 1 };
        let db = Native::in_memory().map_err(|error| error.message)?;
        db.transaction(|db| migrate(db, STEPS)).map_err(|error| error.message)?;
        let receivers = ENDPOINTS.map(|(name, _)| (name.to_owned(), Answers::Well));
        Ok(Self {
            options,
            random: Random::new(options.seed ^ 0x0045_4e44_504f_494e),
            time: 0,
            offset: BEGINNING,
            faults: true,
            queue: BTreeMap::new(),
            next: 0,
            moves: MOVES,
            plan: plan(REVISIONS[0], scale),
            // A tenant without schedules.
            gate: Gate::new(TENANTS[1], scale)?,
            armed: false,
            db,
            state: None,
            alarm: None,
            life: 0,
            receivers: receivers
                .into_iter()
                .chain([("hook".to_owned(), Answers::Well)])
                .collect(),
            oracle: Oracle::default(),
            counters: Counters::default(),
        })
    }

    fn clock(&self) -> UnixMs {
        UnixMs(self.time + self.offset)
    }

    fn after(&mut self, ms: u64, event: Event) {
        self.next += 1;
        self.queue.insert((self.time + ms, self.next), event);
    }

    fn fault(&mut self, permille: u64) -> bool {
        self.faults && self.random.permille(permille)
    }

    fn latency(&mut self) -> u64 {
        match self.fault(20) {
            true => self.random.within(1_000..=40_000),
            false => self.random.within(1..=40),
        }
    }

    fn trace(&self, line: impl FnOnce() -> String) {
        if self.options.trace {
            println!("{:>8} endpoints: {}", self.time, line());
        }
    }

    /// The next thing that happens.
    fn step(&mut self) -> Check {
        let due = |at: UnixMs| at.0.saturating_sub(self.offset);
        let mut next = self.queue.first_key_value().map(|(key, _)| (key.0, None));
        let timer = self.state.as_ref().and_then(State::next_tick);
        for (at, turn) in [(self.alarm, Turn::Wake), (timer, Turn::Tick)] {
            if let Some(at) = at.map(due)
                && next.as_ref().is_none_or(|(time, _)| at < *time)
            {
                next = Some((at, Some(turn)));
            }
        }
        let Some((time, turn)) = next else {
            return Err("nothing is left to happen".into());
        };
        self.time = self.time.max(time);
        match turn {
            Some(turn) => self.turn(turn),
            None => match self.queue.pop_first() {
                Some((_, event)) => self.happen(event),
                None => Ok(()),
            },
        }
    }

    fn happen(&mut self, event: Event) -> Check {
        self.trace(|| format!("{event:?}").chars().take(300).collect());
        match event {
            Event::Move => self.make_move(),
            Event::Attempt(execute) => self.attempt(execute),
            Event::Finish(execute, outcome) => self.finish(*execute, outcome),
            Event::Told { version, endpoints } => {
                let call = Call::SetEndpoints { version, endpoints };
                self.turn(Turn::Handle(Box::new(call)))
            }
            Event::Confirmed { version } => {
                let told = tenancy::endpoints_told(&self.gate.db, version);
                told.map(drop).map_err(|error| error.message)
            }
            Event::Record(entries) => self.record(entries),
            Event::Recorded { life, number } if life == self.life => self.turn(Turn::Recorded(number)),
            Event::Recorded { .. } => Ok(()),
            Event::Retell => {
                self.armed = false;
                let untold = tenancy::untold_endpoints(&self.gate.db).map_err(|error| error.message)?;
                self.tell(untold);
                Ok(())
            }
        }
    }

    fn make_move(&mut self) -> Check {
        self.moves = self.moves.saturating_sub(1);
        let pause = match self.random.below(10) {
            0 => self.random.within(1_000..=90_000),
            _ => self.random.within(1..=800),
        };
        self.after(pause, Event::Move);
        let (name, _) = ENDPOINTS[self.random.below(3) as usize];
        match self.random.below(100) {
            0..=5 => {
                self.counters.endpoints_object_crashed += 1;
                self.crash();
                Ok(())
            }
            6..=9 => {
                let ms = self.random.within(500..=900_000);
                self.trace(|| format!("the clock jumps {ms} ms forward"));
                self.offset += ms;
                Ok(())
            }
            10..=12 => {
                self.offset -= self.random.within(1..=2_000);
                Ok(())
            }
            13..=22 => {
                let answers = [Answers::Well, Answers::Badly, Answers::Gone][self.random.below(3) as usize];
                self.trace(|| format!("{name} answers {answers:?}"));
                self.receivers.insert(name.to_owned(), answers);
                Ok(())
            }
            23..=34 => {
                let body = match self.random.below(3) {
                    0 => json!({ "enabled": false }),
                    1 => json!({ "enabled": true }),
                    // Something else of it changes, while it may be disabled.
                    _ => json!({ "url": format!("https://{name}.example.com/{}", self.next) }),
                };
                let body = body.to_string();
                self.change(EndpointChange::Change { id: id(name)?, body })
            }
            _ => self.enqueue(),
        }
    }

    /// A job that comes to an end soon, of which somebody may want to hear by itself.
    fn enqueue(&mut self) -> Check {
        let action = self.plan.actions.values().find(|action| action.name.as_str() == "work");
        let action = action.ok_or("an action")?.clone();
        let policy = Policy {
            attempts_max: 2,
            backoff: Backoff::Constant { ms: 200 },
            // Nothing of it is forgotten while it is looked at.
            retention_ms: 4 * REST_MS_MAX,
            ..action.policy.clone()
        };
        let hook = self.random.permille(500).then(|| {
            let all = JobState::ALL.iter().copied().filter(|state| state.is_ended());
            let events = all.filter(|state| *state != JobState::Cancelled).collect();
            Hook::OnEnd(Box::new(OnEnd {
                url: HOOK.into(),
                events,
                include_result: true,
                policy: Policy {
                    attempts_max: 4,
                    ..policy.clone()
                },
            }))
        });
        let job = NewJob {
            request_id: RequestId::parse("r").ok_or("an id")?,
            user: UserId::parse("u0").ok_or("a user")?,
            action: ActionName::parse("work").ok_or("an action")?,
            revision: Revision::parse(REVISIONS[0]).ok_or("a revision")?,
            policy,
            queueing: Default::default(),
            payload: Payload::Inline(JsonText::parse("1").ok_or("JSON")?),
            metadata: SortedMap::new(),
            run_at: None,
            traceparent: None,
            redriven_from: None,
            once: None,
            hook,
            batch: None,
        };
        let enqueue = Enqueue {
            job,
            partition: Partition::of_hash(7),
            keyed: None,
            answer_within_ms: None,
            follower: None,
            away_max_ms: None,
        };
        self.turn(Turn::Handle(Box::new(Call::Enqueue(Box::new(enqueue)))))
    }

    /// An operator changes an endpoint, or a customer does.
    fn change(&mut self, change: EndpointChange) -> Check {
        let (now, caller) = (self.clock(), operator());
        let call = tenant::Call::ChangeEndpoints { change, caller };
        self.gate_turn(now, call)
    }

    fn gate_turn(&mut self, now: UnixMs, call: tenant::Call) -> Check {
        let (before, after) = (self.fault(40), self.fault(40));
        let turn = self.gate.db.transaction(|db| {
            let done = tenancy::handle(db, now, call)?;
            if before {
                Err(DatabaseError::new("crash"))
            } else {
                Ok(done)
            }
        });
        match turn {
            Err(_) if before => Ok(()),
            Err(error) => Err(format!("the gate's database: {}", error.message)),
            Ok((Err(refusal), _)) => Err(format!("the gate refused: {refusal}")),
            Ok((Ok(_), effects)) => {
                // The alarm is set with the rows; a gate that dies carries out nothing else.
                let tells = effects
                    .into_iter()
                    .find(|effect| matches!(effect, tenancy::Effect::TellEndpoints { .. }));
                if after {
                    self.arm();
                } else {
                    self.tell(tells);
                }
                Ok(())
            }
        }
    }

    fn arm(&mut self) {
        if !self.armed {
            self.armed = true;
            self.after(RETELL_MS, Event::Retell);
        }
    }

    fn tell(&mut self, effect: Option<tenancy::Effect>) {
        let Some(tenancy::Effect::TellEndpoints { version, endpoints, .. }) = effect else {
            return;
        };
        self.arm();
        if self.fault(150) {
            self.counters.endpoints_calls_lost += 1;
            return;
        }
        for _ in 0..=u8::from(self.fault(80)) {
            let (ms, endpoints) = (self.latency(), endpoints.clone());
            self.after(ms, Event::Told { version, endpoints });
        }
    }

    fn record(&mut self, entries: Vec<Recorded>) -> Check {
        let (now, life) = (self.clock(), self.life);
        let Some(number) = entries.last().map(|entry| entry.number) else {
            return Err("an object told nothing".into());
        };
        let shard = ShardIndex(0);
        self.gate_turn(now, tenant::Call::Record { shard, entries })?;
        if self.fault(100) {
            self.counters.endpoints_calls_lost += 1;
            return Ok(());
        }
        let ms = self.latency();
        self.after(ms, Event::Recorded { life, number });
        Ok(())
    }

    /// An attempt is made: of a job, or to tell somebody.
    fn attempt(&mut self, execute: Box<Execute>) -> Check {
        let Some(message) = execute.message.clone() else {
            let outcome = match self.random.below(10) {
                0 => failed(ErrorCode::UpstreamError, true),
                1 => failed(ErrorCode::UpstreamError, false),
                _ => succeeded()?,
            };
            self.answer(execute, outcome);
            return Ok(());
        };
        if message.held.is_some() {
            self.counters.endpoints_messages_held += 1;
            self.answer(execute, failed(ErrorCode::Conflict, false));
            return Ok(());
        }
        let name = message.endpoint.as_ref().map_or("hook", EndpointId::as_str).to_owned();
        let answers = self.receivers.get(&name).copied().unwrap_or(Answers::Well);
        let hears = match answers {
            Answers::Well => true,
            Answers::Badly => self.random.permille(300),
            Answers::Gone => false,
        };
        if hears {
            self.counters.endpoints_messages_heard += 1;
            self.oracle.heard(&name, &execute)?;
        }
        let outcome = match answers {
            Answers::Gone => failed(ErrorCode::UpstreamError, false),
            _ if hears => succeeded()?,
            _ => failed(ErrorCode::UpstreamError, true),
        };
        self.answer(execute, outcome);
        Ok(())
    }

    /// An outcome sets out; it gets lost, is late, or comes twice.
    fn answer(&mut self, execute: Box<Execute>, outcome: Outcome) {
        if self.fault(60) {
            self.counters.endpoints_outcomes_lost += 1;
            return;
        }
        for _ in 0..=u8::from(self.fault(50)) {
            let (ms, execute, outcome) = (self.latency(), execute.clone(), outcome.clone());
            self.after(ms, Event::Finish(execute, outcome));
        }
    }

    fn finish(&mut self, execute: Execute, outcome: Outcome) -> Check {
        let is_gone =
            matches!(&outcome, Outcome::Failed { error } if error.code == ErrorCode::UpstreamError && !error.retryable);
        let endpoint = execute.message.and_then(|message| message.endpoint).filter(|_| is_gone);
        self.oracle.says_gone = endpoint.map(|endpoint| endpoint.to_string());
        let (job, token) = (execute.job, execute.token);
        let done = self.turn(Turn::Handle(Box::new(Call::Finish { job, token, outcome })));
        self.oracle.says_gone = None;
        done
    }

    /// The object loses its memory.
    fn crash(&mut self) {
        self.trace(|| "the object dies".into());
        self.state = None;
        self.life += 1;
    }

    /// One turn of the object, in which it may die before it is stored, after that, or between two effects.
    fn turn(&mut self, turn: Turn) -> Check {
        let now = self.clock();
        let mut state = match self.state.take() {
            Some(state) => state,
            None => State::recover(&self.db, now).map_err(|error| format!("a recovery: {error}"))?,
        };
        let dies = self.fault(50).then(|| self.random.below(4));
        let random = &mut self.random;
        let mut random = || random.next();
        let done = self.db.transaction(|db| {
            let effects = match turn.clone() {
                Turn::Handle(call) => jobs::handle(db, &mut state, now, &mut random, [(CallId(1), *call)])?,
                Turn::Wake => jobs::wake(db, &mut state, now, &mut random)?,
                Turn::Tick => jobs::tick(db, &mut state, now, &mut random)?,
                Turn::Recorded(number) => jobs::recorded(db, &mut state, now, number)?,
            };
            let wake = state.next_wake();
            if dies == Some(0) {
                Err(DatabaseError::new("crash"))
            } else {
                Ok((effects, wake))
            }
        });
        let by_alarm = matches!(turn, Turn::Wake);
        let (effects, wake) = match done {
            Ok(done) => done,
            Err(_) if dies == Some(0) => {
                self.counters.endpoints_object_crashed += 1;
                // An alarm whose handler died comes again.
                self.alarm = if by_alarm { Some(now) } else { self.alarm };
                self.crash();
                return Ok(());
            }
            Err(error) => return Err(format!("the database refused a turn: {error}")),
        };
        self.state = Some(state);
        if by_alarm {
            self.alarm = None;
        }
        if let Some(at) = wake.filter(|at| self.alarm.is_none_or(|alarm| *at < alarm)) {
            self.alarm = Some(at);
        }
        self.oracle.committed(&self.db, &turn, &effects)?;
        let count = effects.len() as u64;
        for (number, effect) in (0..).zip(effects) {
            if dies.is_some_and(|dies| number + 1 >= dies) {
                self.trace(|| format!("the object dies after {number} of {count} effects"));
                self.counters.endpoints_object_crashed += 1;
                self.alarm = if by_alarm { Some(now) } else { self.alarm };
                self.crash();
                return Ok(());
            }
            self.perform(&turn, effect)?;
        }
        Ok(())
    }

    fn perform(&mut self, turn: &Turn, effect: jobs::Effect) -> Check {
        match effect {
            jobs::Effect::Execute(execute) => {
                self.oracle.check_sent(&execute)?;
                if self.fault(40) {
                    self.counters.endpoints_outcomes_lost += 1;
                    return Ok(());
                }
                let ms = self.latency();
                self.after(ms, Event::Attempt(execute));
            }
            jobs::Effect::Reply { reply, .. } => {
                if let (Turn::Handle(call), Ok(Reply::Done)) = (turn, &reply)
                    && let Call::SetEndpoints { version, .. } = **call
                    && !self.fault(80)
                {
                    let ms = self.latency();
                    self.after(ms, Event::Confirmed { version });
                }
            }
            jobs::Effect::Record { entries } => {
                if self.fault(120) {
                    self.counters.endpoints_calls_lost += 1;
                    return Ok(());
                }
                for _ in 0..=u8::from(self.fault(80)) {
                    let (ms, entries) = (self.latency(), entries.clone());
                    self.after(ms, Event::Record(entries));
                }
            }
            jobs::Effect::Abandon { .. } => {}
            other => return Err(format!("jobs that tell of ends made {other:?}")),
        }
        Ok(())
    }

    /// Receivers hear again, and whoever was disabled is enabled.
    fn heal(&mut self) -> Check {
        self.trace(|| "everything heals".into());
        self.faults = false;
        self.queue.retain(|_, event| !matches!(event, Event::Move));
        self.receivers.values_mut().for_each(|answers| *answers = Answers::Well);
        // What was seen before it is told first, so that nobody is disabled again by it.
        self.rest()?;
        for (name, _) in ENDPOINTS {
            let body = json!({ "enabled": true, "url": format!("https://{name}.example.com/") }).to_string();
            self.change(EndpointChange::Change { id: id(name)?, body })?;
        }
        Ok(())
    }

    /// Goes on until nothing waits, runs, or has to be told.
    fn rest(&mut self) -> Check {
        let (end, mut events) = (self.time + REST_MS_MAX, 0);
        loop {
            let open = self.number("SELECT count(*) FROM job WHERE state < 4 OR state > 7")?;
            let untold = "SELECT count(*) FROM audit_outbox
                WHERE number > coalesce((SELECT number FROM audit_told WHERE id = 1), 0)";
            let untold = self.number(untold)?;
            let gate = tenancy::untold_endpoints(&self.gate.db).map_err(|error| error.message)?;
            if open == 0 && untold == 0 && gate.is_none() && self.queue.is_empty() {
                return Ok(());
            }
            if self.time > end || events > REST_EVENTS_MAX {
                return Err(format!(
                    "{open} jobs do not end, {untold} entries are not told, {gate:?}"
                ));
            }
            events += 1;
            self.step()?;
        }
    }

    fn number(&self, sql: &'static str) -> Result<u64, String> {
        let rows = self.db.run(sql, &[]).map_err(|error| error.message)?;
        let mut row = rows.into_iter().next().ok_or("no row")?;
        row.number().map_err(|error| error.message)
    }

    /// Sends what is dead once more. Gives whether there was anything.
    fn redrive(&mut self) -> Result<bool, String> {
        let dead = self.oracle.dead(&self.db)?;
        if dead.is_empty() {
            return Ok(false);
        }
        self.counters.endpoints_messages_redriven += dead.len() as u64;
        let action = ManyAction::Redrive {
            payload: None,
            start: self.clock(),
            interval_us: 0,
        };
        for page in dead.chunks(50) {
            let call = Call::Many {
                caller: operator(),
                which: Selection::Ids(page.to_vec()),
                action: action.clone(),
                dry_run: false,
            };
            self.turn(Turn::Handle(Box::new(call)))?;
        }
        Ok(true)
    }
}

fn succeeded() -> Result<Outcome, String> {
    let result = Payload::Inline(JsonText::parse("1").ok_or("JSON")?);
    Ok(Outcome::Succeeded { result })
}

fn failed(code: ErrorCode, retryable: bool) -> Outcome {
    let error = Error {
        retryable,
        ..Error::new(code, "no")
    };
    Outcome::Failed { error }
}
