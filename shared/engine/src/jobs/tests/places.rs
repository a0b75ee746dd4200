//! Objects of one tenant that share limits, over a network that loses, doubles and reorders what they say.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;
use tidegate_protocol::calls::executor::Execute;
use tidegate_protocol::calls::jobs::{Call, Enqueue, Reply};
use tidegate_protocol::calls::places::{Ask, Places, home_of};
use tidegate_protocol::calls::queueing::{Counted, PauseScope, Rule, WhenFull};
use tidegate_protocol::calls::spread::Place;
use tidegate_protocol::event::JobState;
use tidegate_protocol::ids::{JobId, ShardIndex};
use tidegate_protocol::{Error, ErrorCode};

use super::batches::of_batch;
use super::bench::*;
use crate::jobs::{CallId, Effect, handle, told, wake};
use tidegate_protocol::SortedMap;

type Answered = Result<Reply, Error>;
/// An object, in one of its lives.
type Life = (usize, u64);

/// Something on its way.
#[derive(Clone)]
enum Message {
    /// A call: from whom, in which of its lives, to whom.
    Call(Option<Life>, usize, Call),
    /// The answer of an object to a call.
    Answer(Life, usize, Call, Answered),
}

/// All objects of a tenant.
struct Net {
    shards: Vec<Bench>,
    lives: Vec<u64>,
    /// What runs, and where.
    running: Vec<(usize, Execute)>,
    /// What waits for an answer, and who asked.
    asked: SortedMap<(usize, CallId), (Option<Life>, Call)>,
    /// Answers to calls from outside.
    answers: SortedMap<(usize, CallId), Answered>,
    wires: Vec<Message>,
    calls: u64,
    random: u64,
    /// The most that may run at once, by limit and key.
    max: SortedMap<(String, String), usize>,
    limits: SortedMap<JobId, Vec<(String, String)>>,
}

impl Net {
    fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards).map(|_| Bench::new()).collect(),
            lives: vec![0; shards],
            running: Vec::new(),
            asked: SortedMap::new(),
            answers: SortedMap::new(),
            wires: Vec::new(),
            calls: 0,
            random: 1,
            max: SortedMap::new(),
            limits: SortedMap::new(),
        }
    }

    /// A turn of an object: nothing that it decides may break a limit.
    fn turn(&mut self, shard: usize, what: impl FnOnce(&mut Bench, &mut dyn FnMut() -> u64) -> Vec<Effect>) {
        let random = &mut self.random;
        let mut draw = || {
            *random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            *random ^ (*random >> 33)
        };
        let bench = &mut self.shards[shard];
        let effects = what(bench, &mut draw);
        assert!(bench.state.mirrors(&bench.db).unwrap(), "memory is what the rows say");
        for effect in effects {
            match effect {
                Effect::Reply { call, reply } => match self.asked.remove(&(shard, call)) {
                    Some((Some(from), call)) => self.wires.push(Message::Answer(from, shard, call, reply)),
                    Some((None, _)) => {
                        self.answers.insert((shard, call), reply);
                    }
                    None => panic!("nobody asked"),
                },
                Effect::Execute(execute) => self.running.push((shard, *execute)),
                Effect::Abandon { job, token } => {
                    self.running.retain(|(_, held)| held.job != job || held.token != token);
                }
                Effect::Tell { shard: to, call } => {
                    let from = Some((shard, self.lives[shard]));
                    self.wires.push(Message::Call(from, usize::from(to.0), *call));
                }
                _ => {}
            }
        }
        let mut held: SortedMap<&(String, String), usize> = SortedMap::new();
        for (_, execute) in &self.running {
            for key in self.limits.get(&execute.job).into_iter().flatten() {
                *held.entry(key).or_default() += 1;
            }
        }
        for (key, count) in held {
            assert!(count <= self.max[key], "{count} run under {key:?}");
        }
    }

    fn call(&mut self, from: Option<Life>, shard: usize, call: Call) -> (usize, CallId) {
        self.calls += 1;
        let id = CallId(self.calls);
        self.asked.insert((shard, id), (from, call.clone()));
        self.turn(shard, |bench, draw| {
            let (state, now) = (&mut bench.state, bench.now);
            bench
                .db
                .transaction(|db| handle(db, state, now, draw, [(id, call)]))
                .unwrap()
        });
        (shard, id)
    }

    /// Asks an object for a job under these limits.
    fn enqueue(&mut self, shard: usize, limits: &[(&str, &str, u32, WhenFull)]) -> (usize, CallId) {
        self.enqueue_as(plain(), shard, limits)
    }

    fn enqueue_as(
        &mut self,
        mut enqueue: Enqueue,
        shard: usize,
        limits: &[(&str, &str, u32, WhenFull)],
    ) -> (usize, CallId) {
        let shards = u16::try_from(self.shards.len()).unwrap();
        enqueue.job.queueing.place = Place {
            shard: ShardIndex(u16::try_from(shard).unwrap()),
            shards,
        };
        enqueue.job.queueing.limits = limits
            .iter()
            .map(|(limit, key, max, when_full)| Counted {
                limit: (*limit).into(),
                key: (*key).into(),
                rule: Rule::Concurrency { max: *max },
                cost: 1,
                when_full: *when_full,
            })
            .collect();
        let names: Vec<_> = limits
            .iter()
            .map(|(limit, key, ..)| ((*limit).into(), (*key).into()))
            .collect();
        for (name, (_, _, max, _)) in names.iter().zip(limits) {
            self.max.insert(name.clone(), *max as usize);
        }
        let before: Vec<JobId> = self.jobs(shard);
        self.calls += 1;
        let id = CallId(self.calls);
        let call = Call::Enqueue(Box::new(enqueue));
        self.asked.insert((shard, id), (None, call.clone()));
        // Known before it starts: the limits of a job are looked at in its first turn.
        self.turn(shard, |bench, draw| {
            let (state, now) = (&mut bench.state, bench.now);
            bench
                .db
                .transaction(|db| handle(db, state, now, draw, [(id, call)]))
                .unwrap()
        });
        for job in self.jobs(shard).into_iter().filter(|job| !before.contains(job)) {
            self.limits.insert(job, names.clone());
        }
        (shard, id)
    }

    fn jobs(&self, shard: usize) -> Vec<JobId> {
        let rows = self.shards[shard].state.rows.values().map(|job| job.id);
        let ran = self
            .running
            .iter()
            .filter(|(at, _)| *at == shard)
            .map(|(_, execute)| execute.job);
        let mut all: Vec<JobId> = rows.chain(ran).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn job_of(&self, call: (usize, CallId)) -> Result<JobId, ErrorCode> {
        match &self.answers[&call] {
            Ok(Reply::Acknowledged { job, .. }) => Ok(*job),
            Err(error) => Err(error.code),
            other => panic!("{other:?}"),
        }
    }

    /// A message arrives; an answer only where the one who asked still lives.
    fn deliver(&mut self, message: Message) {
        match message {
            Message::Call(from, to, call) => {
                self.call(from, to, call);
            }
            Message::Answer((to, life), by, call, reply) => {
                if self.lives[to] == life {
                    let by = ShardIndex(u16::try_from(by).unwrap());
                    self.turn(to, |bench, draw| {
                        let (state, now) = (&mut bench.state, bench.now);
                        let answer = (by, &call, reply);
                        bench.db.transaction(|db| told(db, state, now, draw, answer)).unwrap()
                    });
                }
            }
        }
    }

    /// A message is lost: whoever asked is told so.
    fn lose(&mut self, message: Message) {
        let gone = || Err(Error::new(ErrorCode::Unavailable, "lost"));
        match message {
            Message::Call(Some(from), to, call) | Message::Answer(from, to, call, _) => {
                self.deliver(Message::Answer(from, to, call, gone()));
            }
            Message::Call(None, ..) => {}
        }
    }

    fn finish(&mut self, at: usize) {
        let (shard, execute) = self.running.remove(at);
        let (job, token) = (execute.job, execute.token);
        let outcome = success();
        self.call(None, shard, Call::Finish { job, token, outcome });
    }

    /// An object loses its memory, and what it was asked; its attempts go on.
    fn crash(&mut self, shard: usize) {
        self.lives[shard] += 1;
        self.shards[shard].crash();
        let gone: Vec<_> = self.asked.keys().filter(|(at, _)| *at == shard).copied().collect();
        for key in gone {
            if let Some((Some(from), call)) = self.asked.remove(&key) {
                self.wires.push(Message::Answer(
                    from,
                    shard,
                    call,
                    Err(Error::new(ErrorCode::Unavailable, "died")),
                ));
            }
        }
    }

    fn wake(&mut self, shard: usize) {
        self.turn(shard, |bench, draw| {
            let (state, now) = (&mut bench.state, bench.now);
            bench.db.transaction(|db| wake(db, state, now, draw)).unwrap()
        });
    }

    fn later(&mut self, ms: u64) {
        for shard in 0..self.shards.len() {
            self.shards[shard].later(ms);
            let now = self.shards[shard].now;
            // An attempt that runs is heard of before its lease ends.
            for (_, execute) in self.running.clone().into_iter().filter(|(at, _)| *at == shard) {
                let (job, token) = (execute.job, execute.token);
                let (progress, checkpoint, notes) = (None, None, None);
                self.call(
                    None,
                    shard,
                    Call::Report {
                        job,
                        token,
                        progress,
                        checkpoint,
                        notes,
                    },
                );
            }
            if self.shards[shard].next_wake().is_some_and(|at| at <= now) {
                self.wake(shard);
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..1000 {
            if self.wires.is_empty() {
                return;
            }
            let message = self.wires.remove(0);
            self.deliver(message);
        }
        let calls = self.wires.iter().map(|message| match message {
            Message::Call(from, to, call) => alloc::format!("{from:?} asks {to}: {call:?}"),
            Message::Answer(to, by, _, reply) => alloc::format!("{by} answers {to:?}: {reply:?}"),
        });
        panic!("they never stop: {:?}", calls.collect::<Vec<_>>());
    }

    /// Without faults everything comes to its end: all jobs run, and all places come back but those that a crash left
    /// with the books.
    fn drain(&mut self) {
        for _ in 0..2000 {
            self.settle();
            if !self.running.is_empty() {
                self.finish(0);
            } else if self.shards.iter().any(|bench| bench.state.waiting() > 0) {
                self.later(500);
            } else if self.wires.is_empty() {
                break;
            }
        }
        self.later(60_000);
        self.settle();
        for bench in &self.shards {
            assert_eq!((bench.state.waiting(), bench.state.running()), (0, 0));
            assert_eq!(bench.state.unused_places(), None);
        }
    }

    fn given(&self) -> usize {
        let rows = |bench: &Bench| {
            let rows = crate::database::Database::run(&bench.db, "SELECT name FROM limit_place", &[]);
            rows.unwrap().len()
        };
        self.shards.iter().map(rows).sum()
    }
}

const ONE: &[(&str, &str, u32, WhenFull)] = &[("one", "k", 1, WhenFull::Wait)];

/// An object that is not the home of `one` for `k` among four.
fn not_home() -> usize {
    (usize::from(home_of("one", "k", 4).0) + 1) % 4
}

#[test]
fn a_limit_of_one_is_kept_over_four_shards_and_all_its_places_come_back() {
    let mut net = Net::new(4);
    for job in 0..40 {
        net.enqueue(job % 4, ONE);
        net.settle();
        assert_eq!(net.running.len(), 1);
    }
    net.drain();
    assert_eq!(net.given(), 0);
}

#[test]
fn no_shard_waits_for_ever_while_another_has_always_more_to_do() {
    let mut net = Net::new(4);
    for _ in 0..20 {
        net.enqueue(0, ONE);
        net.enqueue(1, ONE);
    }
    net.settle();
    for shard in [2, 3] {
        net.enqueue(shard, ONE);
        net.settle();
        let waits = |net: &Net| net.shards[shard].state.waiting() > 0;
        for _ in 0..8 {
            if waits(&net) {
                net.finish(0);
                net.settle();
            }
        }
        assert!(!waits(&net), "shard {shard}");
    }
    net.drain();
}

#[test]
fn an_object_that_was_alone_writes_no_row_for_its_places() {
    let mut net = Net::new(1);
    for _ in 0..4 {
        net.enqueue(0, ONE);
    }
    assert!(net.wires.is_empty());
    net.drain();
    assert_eq!(net.given(), 0);
}

#[test]
fn a_full_limit_refuses_on_whichever_shard_and_accepts_where_there_is_room() {
    let refuse = &[("one", "k", 1, WhenFull::Refuse)];
    for (first, second) in [(0, 1), (1, 2), (2, 3), (3, 0)] {
        let mut net = Net::new(4);
        let accepted = net.enqueue(first, refuse);
        net.settle();
        net.job_of(accepted).unwrap();
        let refused = net.enqueue(second, refuse);
        net.settle();
        assert_eq!(net.job_of(refused), Err(ErrorCode::QueueFull));
        net.finish(0);
        // What has ended gives its place up, although the home may not have heard of it yet.
        let again = net.enqueue(second, refuse);
        net.settle();
        net.job_of(again).unwrap();
        net.drain();
    }
}

/// Found by the simulation (seed 422): the turn in which the place came wrote no packs, so that the job was acknowledged and lost.
#[test]
fn a_job_of_a_batch_that_waited_for_a_place_is_stored_when_it_is_acknowledged() {
    let refuse = &[("one", "k", 1, WhenFull::Refuse)];
    for shard in 0..4 {
        let mut net = Net::new(4);
        // It may be accepted, and not start.
        let mut caller = caller("op");
        caller.writes_all = true;
        let scope = PauseScope::Tenant;
        net.call(None, shard, Call::Pause { scope, caller });
        let accepted = net.enqueue_as(of_batch(1), shard, refuse);
        net.settle();
        let job = net.job_of(accepted).unwrap();
        net.crash(shard);
        assert_eq!(net.shards[shard].get(job).status, JobState::Queued, "{shard}");
    }
}

#[test]
fn a_newer_job_replaces_one_on_whichever_shard_and_no_more_than_one() {
    let replace = &[("two", "k", 2, WhenFull::Replace)];
    for newest in 0..4 {
        let mut net = Net::new(4);
        let older: Vec<_> = [1, 2].map(|shard| net.enqueue(shard, replace)).into();
        net.settle();
        let newer = net.enqueue(newest, replace);
        net.settle();
        let mut status = |call: (usize, CallId)| {
            let job = net.job_of(call).unwrap();
            net.shards[call.0].get(job).status
        };
        assert_eq!(status(newer), JobState::Running, "{newest}");
        let cancelled = older.iter().filter(|call| status(**call) == JobState::Cancelled);
        assert_eq!(cancelled.count(), 1, "{newest}");
        net.drain();
    }
}

#[test]
fn a_grant_that_its_object_forgot_is_recalled_for_another() {
    let mut net = Net::new(4);
    let shard = not_home();
    net.enqueue(shard, ONE);
    net.settle();
    net.crash(shard);
    // It ends in the life after: the home is asked what the object has, and given it back.
    net.finish(0);
    net.settle();
    assert_eq!(net.given(), 0);
    net.enqueue((shard + 1) % 4, ONE);
    net.settle();
    assert_eq!(net.running.len(), 1);
    net.drain();
}

#[test]
fn a_word_from_before_the_last_answer_gives_nothing_back() {
    let home = home_of("one", "k", 4);
    let mut net = Net::new(4);
    let mut ask = |shard: u16, want: u32, version: u64| {
        let ask = Ask {
            limit: "one".into(),
            key: "k".into(),
            rule: Rule::Concurrency { max: 1 },
            since: net.shards[0].now,
            shard: ShardIndex(shard),
            home,
            first: 4,
            number: 1,
            version,
            places: 0,
            want,
            wait_ms: 1000,
            brief: false,
            force: false,
        };
        let call = net.call(None, usize::from(home.0), Call::Ask(Box::new(ask)));
        net.answers.get(&call).map(|answer| match answer {
            Ok(Reply::Places(Places { places, version, .. })) => (*places, *version),
            other => panic!("{other:?}"),
        })
    };
    let [one, two] = [(home.0 + 1) % 4, (home.0 + 2) % 4];
    let (places, first) = ask(one, 1, 0).unwrap();
    assert_eq!(places, 1);
    // It has lost the answer, and asks again; what it gave back in between comes late.
    let (places, second) = ask(one, 1, 0).unwrap();
    assert_eq!(places, 1);
    assert_ne!(first, second);
    assert_eq!(ask(one, 0, first).unwrap().0, 1, "it may be in use");
    assert_eq!(ask(two, 1, 0), None, "nothing is free");
    let third = ask(one, 0, 0).unwrap().1;
    assert_eq!(ask(one, 0, third).unwrap().0, 0);
}

#[derive(Debug, Clone)]
enum Step {
    Enqueue(usize, usize),
    Finish(usize),
    Deliver(usize),
    Lose(usize),
    Double(usize),
    Crash(usize),
    Later(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_usize, 0..4_usize).prop_map(|(shard, which)| Step::Enqueue(shard, which)),
        4 => any::<usize>().prop_map(Step::Finish),
        12 => any::<usize>().prop_map(Step::Deliver),
        1 => any::<usize>().prop_map(Step::Lose),
        2 => any::<usize>().prop_map(Step::Double),
        1 => (0..4_usize).prop_map(Step::Crash),
        2 => (1..3000_u64).prop_map(Step::Later),
    ]
}

/// What jobs count under: one limit, the other, both in either order of their names' homes.
fn limits_of(which: usize) -> Vec<(&'static str, &'static str, u32, WhenFull)> {
    let (a, b) = (("a", "x", 2, WhenFull::Wait), ("b", "y", 1, WhenFull::Wait));
    match which {
        0 => vec![a],
        1 => vec![b],
        2 => vec![a, b],
        _ => vec![b, a],
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]

    /// Whatever is lost, doubled, late or forgotten: no limit is exceeded, and in the end all jobs have run.
    #[test]
    fn shared_limits_hold_and_nothing_waits_for_ever(steps in proptest::collection::vec(step(), 1..120)) {
        let mut net = Net::new(4);
        for step in steps {
            let wires = net.wires.len();
            match step {
                Step::Enqueue(shard, which) => {
                    net.enqueue(shard, &limits_of(which));
                }
                Step::Finish(at) if !net.running.is_empty() => {
                    let at = at % net.running.len();
                    net.finish(at);
                }
                Step::Deliver(at) if wires > 0 => {
                    let message = net.wires.remove(at % wires);
                    net.deliver(message);
                }
                Step::Lose(at) if wires > 0 => {
                    let message = net.wires.remove(at % wires);
                    net.lose(message);
                }
                Step::Double(at) if wires > 0 => {
                    if let Message::Call(_, to, call) = net.wires[at % wires].clone() {
                        net.wires.push(Message::Call(None, to, call));
                    }
                }
                Step::Crash(shard) => net.crash(shard),
                Step::Later(ms) => net.later(ms),
                _ => {}
            }
        }
        net.drain();
    }
}
