//! Limits on requests, and the leases that hubs admit out of: several hubs with skewed demand, and one gate.
//!
//! The hubs and the gate are those that ship, a small world for themselves beside the one of jobs: there no request is ever
//! refused for a limit, so that everything else can be followed. Calls between them get lost with what they carry, take their
//! time, and come after their caller has died; a recall that is late is given up, as the shell of the gate does it. No call is
//! made twice, but for what is given back: no shell makes one again whose answer it has not seen.

mod oracle;

use std::collections::BTreeMap;

use serde_json::json;
use tidegate_engine::admission::{Gate, LOOK_MS, Outcome, Recalls};
use tidegate_engine::composition::{Admission, Plan};
use tidegate_engine::database::native::Native;
use tidegate_engine::database::{DatabaseError, migrate};
use tidegate_engine::hub::{Effect, HttpId, Hub, Moment};
use tidegate_engine::tenancy;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::admission::{Ask, Decided, Recalled, Returned, Verdict};
use tidegate_protocol::calls::hub::Prefer;
use tidegate_protocol::calls::tenant::Scale;
use tidegate_protocol::ids::{ActionName, HubIndex, TenantId, UserId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode, SortedSet};

use self::oracle::{Loss, Oracle};
use crate::counters::Counters;
use crate::random::Random;
use crate::setting::{REVISIONS, TENANTS, plan};
use crate::world::{Check, Options, unavailable};

/// Hubs of the tenant.
const HUBS: u16 = 3;
/// Requests, faults and jumps of one history.
const MOVES: u64 = 80;
/// How long the gate waits for leases that it wants back, as its shell does. Milliseconds.
const RECALL_MS: u64 = 1_000;
/// The clock at the beginning.
const BEGINNING: u64 = 1_800_000_000_000;
/// After this time without requests everything that was ever taken has come back: longer than each window, and than the lease of
/// a unit that was counted at its end. Milliseconds.
const QUIET_MS: u64 = 120_000;

/// The actions, and under which limits each is.
const ACTIONS: [(&str, &[&str]); 3] = [("day", &["quota"]), ("pace", &["rate"]), ("both", &["quota", "rate"])];

/// What is in a request's way.
fn admission() -> Result<Admission, String> {
    let means = |limit: &str| {
        let means = ACTIONS.iter().filter(|(_, limits)| limits.contains(&limit));
        means.map(|(action, _)| *action).collect::<Vec<_>>()
    };
    let section = json!({ "limits": {
        "quota": { "actions": means("quota"), "quota": { "units": oracle::QUOTA, "per": format!("{}ms", oracle::QUOTA_MS) } },
        "rate": {
            "actions": means("rate"),
            "rate": { "units": oracle::RATE, "per": format!("{}ms", oracle::RATE_MS), "burst": oracle::BURST }
        },
    } });
    let mut faults = Vec::new();
    let admission = Admission::read(&section, "/admission", &mut faults);
    match faults.first() {
        Some(fault) => Err(format!("the limits: {fault:?}")),
        None => Ok(admission),
    }
}

/// The plan of the jobs' world, with actions that run in the hub and are under limits.
fn limited() -> Result<Plan, String> {
    let (admission, mut plan) = (admission()?, plan(REVISIONS[0], Scale { hubs: HUBS, shards: 1 }));
    let echo = plan.actions.values().find(|action| action.runs_in_hub).cloned();
    let echo = echo.ok_or("an action that runs in the hub")?;
    for (name, _) in ACTIONS {
        let name = ActionName::parse(name).ok_or("an action's name")?;
        let mut action = (*echo).clone();
        (action.name, action.admission) = (name.clone(), admission.rules_of(&name));
        plan.actions.insert(name, action.into());
    }
    Ok(plan)
}

/// Something that happens at a moment.
enum Event {
    /// A request, or a fault; then the next one.
    Move,
    /// A hub's question arrives at the gate.
    Asked { hub: usize, life: u64, ask: Box<Ask> },
    /// The gate wants leases back.
    Recall {
        recall: u64,
        hub: usize,
        recalled: Vec<Recalled>,
    },
    /// They are given back, or are not: a hub was not reached, or hangs.
    Recalled {
        recall: u64,
        hub: usize,
        returned: Vec<Returned>,
    },
    /// The answer to a hub's question.
    Decided {
        hub: usize,
        life: u64,
        decided: Box<Result<Decided, Error>>,
    },
    /// A hub gives back what it does not use.
    GivenBack { hub: usize, returned: Vec<Returned> },
    /// A hub looks after its leases.
    Look { hub: usize, life: u64 },
}

/// A question that waits for leases of other hubs.
struct Recalling {
    hub: usize,
    life: u64,
    ask: Box<Ask>,
    awaited: usize,
    returned: Vec<(HubIndex, Vec<Returned>)>,
}

/// A hub. All of it is memory.
struct HubObject {
    hub: Hub,
    life: u64,
    looks: bool,
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
    principal: Principal,
    hubs: Vec<HubObject>,
    db: Native,
    gate: Gate,
    recalling: BTreeMap<u64, Recalling>,
    oracle: Oracle,
    counters: Counters,
}

/// Runs one history.
///
/// Errors: the rule that was broken.
pub fn run(options: Options) -> Result<Counters, String> {
    let mut world = World::new(options)?;
    world.after(0, Event::Move);
    world.drain()?;
    world.faults = false;
    // Whatever was lost is over with its leases and their windows: everybody together gets all of it again, and no more.
    world.time += QUIET_MS;
    let before = world.oracle.answered;
    for n in 0..=oracle::QUOTA {
        world.request(n as usize % usize::from(HUBS), "day")?;
        world.settle()?;
        let (answered, right) = (world.oracle.answered - before, (n + 1).min(oracle::QUOTA));
        if answered != right {
            return Err(format!(
                "of a quota that was left alone, {answered} were there, and not {right}"
            ));
        }
    }
    Ok(world.counters)
}

impl World {
    fn new(options: Options) -> Result<Self, String> {
        let db = Native::in_memory().map_err(|error| error.message)?;
        migrate(&db, tenancy::STEPS).map_err(|error| error.message)?;
        let hubs = (0..HUBS).map(|index| HubObject {
            hub: Hub::new(HubIndex(index)),
            life: 0,
            looks: false,
        });
        Ok(Self {
            options,
            random: Random::new(options.seed ^ 0x4c49_4d49_5453),
            time: 0,
            offset: BEGINNING,
            faults: true,
            queue: BTreeMap::new(),
            next: 0,
            moves: MOVES,
            plan: limited()?,
            principal: Principal {
                tenant: TenantId::parse(TENANTS[0]).ok_or("a tenant's name")?,
                user: UserId::parse("u0").ok_or("a user's name")?,
                scopes: SortedSet::new(),
                expires_at: Principal::NEVER,
                credential: Default::default(),
                network: Default::default(),
            },
            hubs: hubs.collect(),
            db,
            gate: Gate::default(),
            recalling: BTreeMap::new(),
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

    /// A fault that comes `permille` times in a thousand in every other history: in the others nothing is lost or late between
    /// the parts, and hubs still die.
    fn fault(&mut self, permille: u64) -> bool {
        self.faults && !self.is_calm() && self.random.permille(permille)
    }

    /// Whether calls arrive at once, one after the other.
    fn is_calm(&self) -> bool {
        self.options.seed.is_multiple_of(2)
    }

    fn latency(&mut self) -> u64 {
        match self.is_calm() || !self.faults {
            true => 0,
            false if self.random.permille(20) => self.random.within(1000..=12_000),
            false => self.random.within(1..=30),
        }
    }

    fn trace(&self, line: impl FnOnce() -> String) {
        if self.options.trace {
            println!("{:>8} limits: {}", self.time, line());
        }
    }

    /// What happens at this moment.
    fn settle(&mut self) -> Check {
        while let Some(next) = self.queue.first_entry().filter(|next| next.key().0 <= self.time) {
            let event = next.remove();
            self.happen(event)?;
        }
        Ok(())
    }

    fn drain(&mut self) -> Check {
        while let Some(((time, _), event)) = self.queue.pop_first() {
            self.time = self.time.max(time);
            self.happen(event)?;
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Check {
        match event {
            Event::Move => self.make_move(),
            Event::Asked { hub, life, ask } => self.asked(hub, life, ask),
            Event::Recall { recall, hub, recalled } => self.recall(recall, hub, &recalled),
            Event::Recalled { recall, hub, returned } => self.recalled(recall, hub, returned),
            Event::Decided { hub, life, decided } => self.decided(hub, life, *decided),
            Event::GivenBack { hub, returned } => self.given_back(hub, &returned),
            Event::Look { hub, life } => self.look(hub, life),
        }
    }

    fn make_move(&mut self) -> Check {
        if self.moves == 0 {
            return Ok(());
        }
        self.moves -= 1;
        let pause = match self.random.below(100) {
            0..=3 => self.random.within(3_000..=40_000),
            4..=40 => self.random.within(1..=400),
            _ => self.random.below(20),
        };
        self.after(pause, Event::Move);
        match self.random.below(1000) {
            0..=11 => {
                let hub = self.random.below(HUBS.into()) as usize;
                self.trace(|| format!("hub {hub} dies"));
                self.counters.limits_hubs_crashed += 1;
                self.oracle.disturbed(self.time, hub, Loss::Leases);
                let object = &mut self.hubs[hub];
                object.hub = Hub::new(HubIndex(hub as u16));
                object.life += 1;
                object.looks = false;
            }
            12..=17 => {
                let ms = self.random.within(500..=12_000);
                self.trace(|| format!("the clock jumps {ms} ms forward"));
                self.offset += ms;
                self.oracle.jumped_forward(self.time, ms);
            }
            18..=23 => {
                let ms = self.random.within(1..=2_000);
                self.trace(|| format!("the clock jumps {ms} ms back"));
                self.offset -= ms;
                self.oracle.jumped_back(self.time, ms);
            }
            24..=28 => {
                // What it keeps in memory decides nothing.
                self.gate = Gate::default();
            }
            _ => {
                // One hub has most of the demand, for a while.
                let busy = (self.moves / 40) as usize % usize::from(HUBS);
                let hub = if self.random.permille(800) {
                    busy
                } else {
                    self.random.below(HUBS.into()) as usize
                };
                let (action, _) = ACTIONS[self.random.below(3) as usize];
                self.request(hub, action)?;
            }
        }
        Ok(())
    }

    /// A request over HTTP. Gives whether it was admitted at once.
    fn request(&mut self, hub: usize, action: &str) -> Result<bool, String> {
        self.next += 1;
        let (now, http) = (self.clock(), HttpId(self.next));
        let (object, random) = (&mut self.hubs[hub], &mut self.random);
        let mut random = || random.next();
        let mut moment = Moment {
            now,
            random: &mut random,
        };
        let body = json!({ "action": action, "payload": {} }).to_string();
        let prefer = Prefer::default();
        let (plan, principal) = (&self.plan, &self.principal);
        let effects = object
            .hub
            .request(&mut moment, plan, http, principal, &body, None, None, prefer);
        let admitted = effects.iter().any(|effect| matches!(effect, Effect::Run { .. }));
        if admitted {
            self.trace(|| format!("hub {hub} admits `{action}`"));
            self.counters.limits_admitted_by_leases += 1;
            self.oracle.used(self.time, hub, action)?;
        }
        self.perform(hub, effects)?;
        Ok(admitted)
    }

    fn perform(&mut self, hub: usize, effects: Vec<Effect>) -> Check {
        for effect in effects {
            match effect {
                Effect::Ask { ask } => {
                    self.counters.limits_asked += 1;
                    let life = self.hubs[hub].life;
                    if self.fault(40) {
                        self.counters.limits_calls_lost += 1;
                        self.oracle.disturbed(self.time, hub, Loss::Returns);
                        self.unreached(hub, life);
                    } else {
                        let ms = self.latency();
                        self.after(ms, Event::Asked { hub, life, ask });
                    }
                }
                Effect::Run { id, run } => {
                    let now = self.clock();
                    let effects = self.hubs[hub].hub.ran(now, id, Ok(run.payload));
                    self.perform(hub, effects)?;
                }
                Effect::Answer { reply: Ok(_), .. } => self.oracle.answered += 1,
                Effect::Answer { reply: Err(error), .. } => self.refused(&error)?,
                Effect::Log { .. } => {}
                other => return Err(format!("a request under limits made {other:?}")),
            }
        }
        self.look_after(hub);
        Ok(())
    }

    /// A caller was refused: by the gate's word alone.
    fn refused(&mut self, error: &Error) -> Check {
        match error.code {
            ErrorCode::RateLimited | ErrorCode::QuotaExceeded => {
                self.counters.limits_refused += 1;
                // Where answers take their time, it was right when the gate said so: that was looked at then.
                let limit = error.limit.as_deref().filter(|_| self.is_calm());
                limit.map_or(Ok(()), |limit| self.oracle.check_refusal(self.time, true, &limit.name))
            }
            ErrorCode::Unavailable => Ok(()),
            _ => Err(format!("a request under limits was answered {error:?}")),
        }
    }

    /// A hub that has leases looks after them.
    fn look_after(&mut self, hub: usize) {
        let object = &mut self.hubs[hub];
        if !object.looks && object.hub.has_leases() {
            object.looks = true;
            let life = object.life;
            self.after(LOOK_MS, Event::Look { hub, life });
        }
    }

    fn look(&mut self, hub: usize, life: u64) -> Check {
        if self.hubs[hub].life != life {
            return Ok(());
        }
        self.hubs[hub].looks = false;
        let now = self.clock();
        let (returned, effects) = self.hubs[hub].hub.idle_leases(now);
        self.perform(hub, effects)?;
        if !returned.is_empty() {
            if self.fault(60) {
                self.counters.limits_calls_lost += 1;
                self.oracle.disturbed(self.time, hub, Loss::Returns);
            } else {
                for _ in 0..=u8::from(self.fault(60)) {
                    let (ms, returned) = (self.latency(), returned.clone());
                    self.after(ms, Event::GivenBack { hub, returned });
                }
            }
        }
        self.look_after(hub);
        Ok(())
    }

    fn unreached(&mut self, hub: usize, life: u64) {
        let ms = self.random.within(50..=3_000);
        let decided = Box::new(Err(unavailable()));
        self.after(ms, Event::Decided { hub, life, decided });
    }

    /// A turn of the gate, which may fail as a whole.
    fn turn<T>(
        &mut self,
        turn: impl FnOnce(&mut Gate, &Native) -> Result<T, DatabaseError>,
    ) -> Result<Option<T>, String> {
        let fails = self.fault(30);
        let gate = &mut self.gate;
        let done = self.db.transaction(|db| {
            let done = turn(gate, db)?;
            if fails {
                Err(DatabaseError::new("crash"))
            } else {
                Ok(done)
            }
        });
        match done {
            Ok(done) => Ok(Some(done)),
            Err(_) if fails => {
                self.counters.limits_gates_crashed += 1;
                self.gate = Gate::default();
                Ok(None)
            }
            Err(error) => Err(format!("the gate's database: {}", error.message)),
        }
    }

    fn asked(&mut self, hub: usize, life: u64, ask: Box<Ask>) -> Check {
        let now = self.clock();
        match self.turn(|gate, db| gate.decide(db, now, &ask, Recalls::Possible))? {
            None => {
                self.oracle.disturbed(self.time, hub, Loss::Returns);
                self.unreached(hub, life);
                Ok(())
            }
            Some(Outcome::Decided(decided)) => self.answer(hub, life, &ask, decided),
            Some(Outcome::Recall(recalls)) => {
                self.next += 1;
                let recall = self.next;
                self.counters.limits_recalls += 1;
                self.recalling.insert(
                    recall,
                    Recalling {
                        hub,
                        life,
                        ask,
                        awaited: recalls.len(),
                        returned: Vec::new(),
                    },
                );
                for (hub, recalled) in recalls {
                    let hub = usize::from(hub.0);
                    if self.fault(80) {
                        self.counters.limits_calls_lost += 1;
                        self.oracle.disturbed(self.time, hub, Loss::Returns);
                        let returned = Vec::new();
                        self.after(RECALL_MS, Event::Recalled { recall, hub, returned });
                    } else {
                        let ms = self.latency();
                        self.after(ms, Event::Recall { recall, hub, recalled });
                    }
                }
                Ok(())
            }
        }
    }

    /// A hub is asked for its leases. One that answers late has lost them: nobody waits any more.
    fn recall(&mut self, recall: u64, hub: usize, recalled: &[Recalled]) -> Check {
        let now = self.clock();
        let mut returned = self.hubs[hub].hub.recalled(now, recalled);
        let ms = self.latency();
        if ms >= RECALL_MS || self.fault(60) {
            self.counters.limits_calls_lost += 1;
            self.oracle.disturbed(self.time, hub, Loss::Returns);
            returned.clear();
        }
        self.after(ms.min(RECALL_MS), Event::Recalled { recall, hub, returned });
        Ok(())
    }

    fn recalled(&mut self, recall: u64, hub: usize, returned: Vec<Returned>) -> Check {
        let Some(recalling) = self.recalling.get_mut(&recall) else {
            return Ok(());
        };
        recalling.returned.push((HubIndex(hub as u16), returned));
        recalling.awaited -= 1;
        if recalling.awaited > 0 {
            return Ok(());
        }
        let Some(Recalling {
            hub,
            life,
            ask,
            returned,
            ..
        }) = self.recalling.remove(&recall)
        else {
            return Ok(());
        };
        let now = self.clock();
        let decided = self.turn(|gate, db| {
            for (hub, returned) in &returned {
                gate.give_back(db, now, *hub, returned)?;
            }
            gate.decide(db, now, &ask, Recalls::Done)
        })?;
        match decided {
            Some(Outcome::Decided(decided)) => {
                for (hub, returned) in &returned {
                    self.oracle.returned(usize::from(hub.0), returned);
                }
                self.answer(hub, life, &ask, decided)
            }
            Some(Outcome::Recall(_)) => Err("the gate wants leases back twice for one question".into()),
            None => {
                (0..usize::from(HUBS)).for_each(|hub| self.oracle.disturbed(self.time, hub, Loss::Returns));
                self.unreached(hub, life);
                Ok(())
            }
        }
    }

    /// The gate has decided: what it admits is admitted now, and its answer may get lost.
    fn answer(&mut self, hub: usize, life: u64, ask: &Ask, decided: Decided) -> Check {
        self.trace(|| format!("hub {hub} asks {ask:?}: {decided:?}"));
        self.oracle.decided(self.time, self.is_calm(), hub, ask, &decided)?;
        self.counters.limits_leases += decided.leases.len() as u64;
        if self.fault(50) {
            self.counters.limits_calls_lost += 1;
            self.oracle.disturbed(self.time, hub, Loss::Returns);
            self.unreached(hub, life);
            return Ok(());
        }
        let (ms, decided) = (self.latency(), Box::new(Ok(decided)));
        self.after(ms, Event::Decided { hub, life, decided });
        Ok(())
    }

    fn decided(&mut self, hub: usize, life: u64, decided: Result<Decided, Error>) -> Check {
        if self.hubs[hub].life != life {
            return Ok(());
        }
        let now = self.clock();
        let by_gate = decided.iter().flat_map(|decided| &decided.verdicts);
        let by_gate = by_gate.filter(|verdict| **verdict == Verdict::Admitted).count();
        let effects = self.hubs[hub].hub.decided(now, decided);
        // Those that came while the gate was asked pass out of what it has lent.
        let runs = effects.iter().filter_map(|effect| match effect {
            Effect::Run { run, .. } => Some(run.action.name.as_str()),
            _ => None,
        });
        for action in runs.skip(by_gate) {
            self.counters.limits_admitted_by_leases += 1;
            self.oracle.used(self.time, hub, action)?;
        }
        self.perform(hub, effects)
    }

    fn given_back(&mut self, hub: usize, returned: &[Returned]) -> Check {
        self.trace(|| format!("hub {hub} gives back {returned:?}"));
        let now = self.clock();
        let index = HubIndex(hub as u16);
        match self.turn(|gate, db| gate.give_back(db, now, index, returned))? {
            Some(()) => self.oracle.returned(hub, returned),
            None => self.oracle.disturbed(self.time, hub, Loss::Returns),
        }
        Ok(())
    }
}
