//! Random requests, ends, waits and crashes against a model of each rule that says in a few lines what is meant.

use alloc::boxed::Box;
use alloc::vec::Vec;

use proptest::prelude::*;
use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::executor::Execute;
use tidegate_protocol::calls::jobs::{Call, Enqueue};
use tidegate_protocol::calls::once::{DedupeRule, KeyLife};
use tidegate_protocol::event::{JobState, Payload};
use tidegate_protocol::ids::JobId;

use super::super::bench::*;
use super::aliases::both;
use super::{cancel, hold_back, job_of, let_go, living, same};
use tidegate_protocol::SortedMap;

/// The keys, few so that they meet.
const KEYS: [&str; 2] = ["x", "y"];
/// Keys of the client's, which meet too.
const CLIENT_KEYS: [&str; 3] = ["one", "two", "three"];
const TTL_MS: u64 = 40_000;
const WINDOW_MS: u64 = 7000;
const WAIT_MS: u64 = 3000;
const MAX_WAIT_MS: u64 = 8000;

#[derive(Debug, Clone, Copy)]
enum Mode {
    Key { frees: bool },
    Dedupe(DedupeRule),
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Request(usize),
    /// The same with a key of the client's, where the mode is a dedupe: the second is that key.
    Both(usize, usize),
    Succeed(usize),
    Fail(usize),
    FailForNow(usize),
    Cancel(usize),
    Wait(u64),
    Pause,
    Resume,
    Crash,
}

/// What the model knows of a job.
#[derive(Debug, Clone, Copy)]
struct Made {
    key: usize,
    job: JobId,
    accepted: u64,
    /// The request whose input it has.
    input: u64,
    begun: bool,
    /// Whether it succeeded, where it has ended.
    ended: Option<bool>,
    /// Not before.
    start: u64,
}

/// What the model knows of a client's key that came with a dedupe key: whose it is, the body that it came with, and until
/// when it names an ended job.
#[derive(Debug, Clone, Copy)]
struct Given {
    at: usize,
    body: usize,
    until: u64,
}

/// What a request is to be answered with.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    /// The job at this place.
    Given(usize),
    /// A new one; the one at this place is cancelled.
    New(Option<usize>),
}

fn expected(mode: Mode, made: &[Made], key: usize, now: u64) -> Expected {
    // Each key is the latest job's.
    let Some(at) = made.iter().rposition(|made| made.key == key) else {
        return Expected::New(None);
    };
    let latest = &made[at];
    let given = match mode {
        Mode::Key { frees } => match latest.ended {
            None => true,
            Some(false) if frees => false,
            Some(_) => now < latest.accepted + TTL_MS,
        },
        Mode::Dedupe(DedupeRule::Window { ms }) => now < latest.accepted + ms,
        Mode::Dedupe(DedupeRule::UntilEnded) => latest.ended.is_none(),
        Mode::Dedupe(DedupeRule::KeepLast { .. }) => !latest.begun && latest.ended.is_none(),
        Mode::Dedupe(DedupeRule::ReplaceWaiting) => {
            let waits = !latest.begun && latest.ended.is_none();
            return Expected::New(waits.then_some(at));
        }
    };
    if given {
        Expected::Given(at)
    } else {
        Expected::New(None)
    }
}

struct Play {
    bench: Bench,
    mode: Mode,
    made: Vec<Made>,
    running: SortedMap<JobId, Execute>,
    requests: u64,
    paused: bool,
    /// Whether a failed job frees the client's keys that came with a dedupe key.
    frees: bool,
    given: SortedMap<usize, Given>,
}

impl Play {
    fn new(mode: Mode, frees: bool) -> Self {
        Self {
            bench: Bench::new(),
            mode,
            made: Vec::new(),
            running: SortedMap::new(),
            requests: 0,
            paused: false,
            frees,
            given: SortedMap::new(),
        }
    }

    fn started(&mut self, executions: Vec<Execute>) {
        for execute in executions {
            let now = self.bench.now.0;
            let made = self.made.iter_mut().find(|made| made.job == execute.job).unwrap();
            assert!(now >= made.start, "early");
            assert!(made.ended.is_none() && !self.paused);
            let Payload::Inline(payload) = &execute.payload else {
                panic!("{execute:?}")
            };
            if matches!(self.mode, Mode::Dedupe(_)) {
                assert_eq!(
                    payload.as_str(),
                    alloc::format!("{}", made.input),
                    "the input that it was left with"
                );
            }
            made.begun = true;
            self.running.insert(execute.job, execute);
        }
    }

    /// The job that a client's key names, where it came with a dedupe key.
    fn known(&self, client: usize) -> Option<Given> {
        let given = *self.given.get(&client)?;
        let names = match self.made[given.at].ended {
            None => true,
            Some(false) if self.frees => false,
            Some(_) => self.bench.now.0 < given.until,
        };
        names.then_some(given)
    }

    /// A request with both keys: the client's is looked at first, and names whatever the dedupe key finds from then on.
    fn ask_with_both(&mut self, key: usize, client: usize, rule: DedupeRule) {
        let life = KeyLife {
            ttl_ms: Some(TTL_MS),
            failed_frees: self.frees,
        };
        if let Some(given) = self.known(client) {
            let again = both(CLIENT_KEYS[client], KEYS[key], rule, 0, life);
            let (reply, effects) = self.bench.call(Call::Enqueue(Box::new(again)));
            if given.body == key {
                assert_eq!(job_of(&reply), (self.made[given.at].job, true), "same key, same job");
            } else {
                assert_eq!(code(&reply), ErrorCode::IdempotencyMismatch);
            }
            return self.started(executions(&effects));
        }
        let made = self.made.len();
        let asked = both(CLIENT_KEYS[client], KEYS[key], rule, self.requests + 1, life);
        self.request(key, Some(asked));
        let latest = self.made.iter().rposition(|made| made.key == key).unwrap();
        assert!(self.made.len() == made || latest == made);
        let until = self.bench.now.0 + TTL_MS;
        let given = Given {
            at: latest,
            body: key,
            until,
        };
        self.given.insert(client, given);
    }

    fn request(&mut self, key: usize, asked: Option<Enqueue>) {
        self.requests += 1;
        let n = self.requests;
        let enqueue = asked.unwrap_or_else(|| match self.mode {
            Mode::Key { frees } => living(KEYS[key], Some(TTL_MS), frees),
            Mode::Dedupe(rule) => same(KEYS[key], rule, n),
        });
        let now = self.bench.now.0;
        let expected = expected(self.mode, &self.made, key, now);
        let (reply, effects) = self.bench.call(Call::Enqueue(Box::new(enqueue)));
        let (job, deduplicated) = job_of(&reply);
        match expected {
            Expected::Given(at) => {
                assert_eq!((job, deduplicated), (self.made[at].job, true));
                if let Mode::Dedupe(DedupeRule::KeepLast { wait_ms, max_wait_ms }) = self.mode {
                    let made = &mut self.made[at];
                    made.input = n;
                    made.start = (now + wait_ms).min(made.accepted + max_wait_ms);
                }
            }
            Expected::New(replaced) => {
                assert!(!deduplicated && self.made.iter().all(|made| made.job != job));
                if let Some(at) = replaced {
                    self.made[at].ended = Some(false);
                    let old = self.made[at].job;
                    assert_eq!(self.bench.status(old), JobState::Cancelled);
                }
                let start = match self.mode {
                    Mode::Dedupe(DedupeRule::KeepLast { wait_ms, .. }) => now + wait_ms,
                    _ => now,
                };
                self.made.push(Made {
                    key,
                    job,
                    accepted: now,
                    input: n,
                    begun: false,
                    ended: None,
                    start,
                });
            }
        }
        self.started(executions(&effects));
    }

    fn finish(&mut self, at: usize, outcome: tidegate_protocol::calls::executor::Outcome, ended: Option<bool>) {
        let Some(job) = self.running.keys().nth(at % self.running.len().max(1)).copied() else {
            return;
        };
        let execute = self.running.remove(&job).unwrap();
        let (reply, effects) = self.bench.finish(&execute, outcome);
        if reply.is_err() {
            // Its lease was lost: it goes on elsewhere.
            return self.started(executions(&effects));
        }
        let made = self.made.iter_mut().find(|made| made.job == job).unwrap();
        made.ended = ended;
        if ended.is_none() && self.bench.status(job) == JobState::Failed {
            self.made.iter_mut().find(|made| made.job == job).unwrap().ended = Some(false);
        }
        self.started(executions(&effects));
    }

    /// Nothing ends but by what the model knows of.
    fn check_open(&mut self) {
        for at in 0..self.made.len() {
            let ended = self.bench.status(self.made[at].job).is_ended();
            assert_eq!(ended, self.made[at].ended.is_some(), "{:?}", self.made[at]);
        }
    }

    fn step(&mut self, step: Step) {
        self.play(step);
        self.check_open();
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Request(key) => self.request(key, None),
            Step::Both(key, client) => match self.mode {
                Mode::Key { .. } => self.request(key, None),
                Mode::Dedupe(rule) => self.ask_with_both(key, client, rule),
            },
            Step::Succeed(at) => self.finish(at, success(), Some(true)),
            Step::Fail(at) => self.finish(at, failure(false), Some(false)),
            Step::FailForNow(at) => self.finish(at, failure(true), None),
            Step::Cancel(at) => {
                let open: Vec<JobId> = self.made.iter().filter(|m| m.ended.is_none()).map(|m| m.job).collect();
                if let Some(job) = open.get(at % open.len().max(1)) {
                    cancel(&mut self.bench, *job);
                    self.running.remove(job);
                    self.made.iter_mut().find(|made| made.job == *job).unwrap().ended = Some(false);
                }
            }
            Step::Wait(ms) => {
                // Alarms come when they are due, so that what waits starts then.
                let end = self.bench.now.plus(ms);
                while let Some(at) = self.bench.next_wake().filter(|at| *at <= end) {
                    self.bench.now = self.bench.now.max(at);
                    let effects = self.bench.wake();
                    self.started(executions(&effects));
                    self.note_ends();
                }
                self.bench.now = end;
                let late = |made: &&Made| !made.begun && made.ended.is_none() && made.start <= end.0;
                assert!(self.paused || !self.made.iter().any(|made| late(&made)), "late");
            }
            Step::Pause => {
                hold_back(&mut self.bench);
                self.paused = true;
            }
            Step::Resume => {
                self.paused = false;
                let started = let_go(&mut self.bench);
                self.started(started);
            }
            Step::Crash => self.bench.crash(),
        }
    }

    /// What attempts, lost leases and limits ended by themselves.
    fn note_ends(&mut self) {
        for at in 0..self.made.len() {
            if self.made[at].ended.is_none() {
                let status = self.bench.status(self.made[at].job);
                if status.is_ended() {
                    self.made[at].ended = Some(status == JobState::Succeeded);
                    self.running.remove(&self.made[at].job);
                }
            }
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..KEYS.len()).prop_map(Step::Request),
        4 => (0..KEYS.len(), 0..CLIENT_KEYS.len()).prop_map(|(key, client)| Step::Both(key, client)),
        2 => (0..4_usize).prop_map(Step::Succeed),
        1 => (0..4_usize).prop_map(Step::Fail),
        1 => (0..4_usize).prop_map(Step::FailForNow),
        1 => (0..4_usize).prop_map(Step::Cancel),
        4 => prop_oneof![1..1500_u64, 1500..9000_u64, Just(TTL_MS)].prop_map(Step::Wait),
        1 => Just(Step::Pause),
        2 => Just(Step::Resume),
        1 => Just(Step::Crash),
    ]
}

fn mode() -> impl Strategy<Value = Mode> {
    prop::sample::select(alloc::vec![
        Mode::Key { frees: false },
        Mode::Key { frees: true },
        Mode::Dedupe(DedupeRule::Window { ms: WINDOW_MS }),
        Mode::Dedupe(DedupeRule::UntilEnded),
        Mode::Dedupe(DedupeRule::ReplaceWaiting),
        Mode::Dedupe(DedupeRule::KeepLast {
            wait_ms: WAIT_MS,
            max_wait_ms: MAX_WAIT_MS,
        }),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// After each turn memory is compared with the rows as well, see [`Bench`].
    #[test]
    fn every_request_is_answered_as_its_rule_says(
        mode in mode(), frees in any::<bool>(), steps in prop::collection::vec(step(), 1..60)
    ) {
        let mut play = Play::new(mode, frees);
        for step in steps {
            play.step(step);
        }
    }
}
