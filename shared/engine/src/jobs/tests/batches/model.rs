//! Random jobs of batches, ends, waits, pauses, cancels and crashes: the counts are always those of the jobs.

use alloc::boxed::Box;
use alloc::vec::Vec;

use proptest::prelude::*;
use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::executor::Execute;
use tidegate_protocol::calls::jobs::{BatchAsk, Call, Change, Reply};
use tidegate_protocol::ids::JobId;
use tidegate_protocol::time::UnixMs;

use super::super::super::{Effect, packed};
use super::super::bench::*;
use super::{ask, cancel, in_batch, read};
use crate::database::Database;
use tidegate_protocol::{SortedMap, SortedSet};

const BATCHES: usize = 3;
const GRACE_MS: u64 = 2000;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// So many jobs, each for its batch or for none, in one turn.
    Accept {
        batch: usize,
        jobs: usize,
        kind: u8,
    },
    Finish {
        at: usize,
        kind: u8,
    },
    Cancel(usize),
    CancelOne(usize),
    Pause(usize),
    Resume(usize),
    Retry(usize),
    Await(usize),
    Wait(u64),
    Crash,
}

struct Play {
    bench: Bench,
    jobs: Vec<(usize, JobId)>,
    running: SortedMap<JobId, Execute>,
    /// The terminal event that hubs were told of each job.
    ended: SortedMap<JobId, u64>,
    cancelled: SortedSet<usize>,
    /// Calls that wait, and for which batch.
    waiting: SortedMap<super::super::super::CallId, usize>,
}

impl Play {
    fn took(&mut self, effects: &[Effect]) {
        for delivery in deliveries(effects) {
            if delivery.event.what.is_terminal() {
                let seq = *self.ended.entry(delivery.job).or_insert(delivery.event.seq.0);
                assert_eq!(seq, delivery.event.seq.0, "one end");
            }
        }
        for execute in executions(effects) {
            if let Some((batch, _)) = self.jobs.iter().find(|(_, job)| *job == execute.job) {
                assert!(
                    !self.cancelled.contains(batch),
                    "it started after its batch was cancelled"
                );
            }
            assert!(!self.ended.contains_key(&execute.job));
            self.running.insert(execute.job, execute);
        }
        for (call, reply) in replies(effects) {
            if self.waiting.remove(&call).is_some()
                && let Ok(Reply::Batch(_)) = &reply
            {
                let view = read(&reply);
                assert!(view.open() == 0 || self.bench.state.next_tick().is_none_or(|at| at >= self.bench.now));
            }
        }
    }

    fn accept(&mut self, batch: usize, jobs: usize, kind: u8) {
        let now = self.bench.now;
        let one = |kind: u8| {
            let mut enqueue = match kind % 4 {
                0 => followed(),
                1 => delayed(now.plus(3000)),
                _ => followed(),
            };
            enqueue.follower = Some(HUB);
            if kind % 3 == 2 {
                enqueue.job.policy.cancel_grace_ms = GRACE_MS;
            }
            if kind % 5 == 4 {
                enqueue.job.policy.queue_timeout_ms = Some(1500);
                enqueue.job.run_at = Some(now.plus(1000));
            }
            Call::Enqueue(Box::new(in_batch(batch, enqueue)))
        };
        let (ids, effects) = self.bench.send_all((0..jobs).map(|_| one(kind)));
        let told = replies(&effects);
        for call in ids {
            match &told[&call] {
                Ok(Reply::Acknowledged { job, .. }) => {
                    assert!(!self.cancelled.contains(&batch), "taken after the cancel");
                    self.jobs.push((batch, *job));
                }
                Err(error) => {
                    assert!(
                        self.cancelled.contains(&batch) && error.code == ErrorCode::Cancelled,
                        "{error:?}"
                    );
                }
                other => panic!("{other:?}"),
            }
        }
        self.took(&effects);
    }

    fn job(&self, at: usize) -> Option<JobId> {
        self.jobs.get(at % self.jobs.len().max(1)).map(|(_, job)| *job)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Accept { batch, jobs, kind } => self.accept(batch, jobs, kind),
            Step::Finish { at, kind } => {
                let Some(job) = self.running.keys().nth(at % self.running.len().max(1)).copied() else {
                    return;
                };
                if let Some(execute) = self.running.remove(&job) {
                    let outcome = match kind % 4 {
                        0 => failure(true),
                        1 => failure(false),
                        _ => success(),
                    };
                    let (_, effects) = self.bench.finish(&execute, outcome);
                    self.took(&effects);
                }
            }
            Step::Cancel(batch) => {
                let (_, effects) = cancel(&mut self.bench, batch);
                self.cancelled.insert(batch);
                self.took(&effects);
            }
            Step::CancelOne(at) => self.one(at, |job| Call::Cancel {
                job,
                caller: caller("ann"),
            }),
            Step::Pause(at) => self.one(at, |job| Call::Change {
                job,
                caller: caller("ann"),
                change: Change::Pause,
            }),
            Step::Resume(at) => self.one(at, |job| Call::Change {
                job,
                caller: caller("ann"),
                change: Change::Resume,
            }),
            Step::Retry(at) => self.one(at, |job| Call::Retry {
                job,
                caller: caller("ann"),
                payload: None,
            }),
            Step::Await(batch) => {
                let (call, effects) = self.bench.send(ask(batch, "ann", BatchAsk::Show { wait_ms: 4000 }));
                self.waiting.insert(call, batch);
                self.took(&effects);
            }
            Step::Wait(ms) => self.wait(ms),
            Step::Crash => {
                self.bench.crash();
                self.waiting.clear();
            }
        }
        self.check();
    }

    fn one(&mut self, at: usize, call: impl Fn(JobId) -> Call) {
        if let Some(job) = self.job(at) {
            let (_, effects) = self.bench.send(call(job));
            self.took(&effects);
        }
    }

    fn wait(&mut self, ms: u64) {
        let end = self.bench.now.plus(ms);
        let next = |bench: &Bench| -> Option<UnixMs> {
            let times = bench.next_wake().into_iter().chain(bench.state.next_tick());
            times.min().filter(|at| *at <= end)
        };
        while let Some(at) = next(&self.bench) {
            self.bench.now = self.bench.now.plus(1).max(at);
            let effects = self.bench.wake();
            self.took(&effects);
            self.check();
        }
        self.bench.now = self.bench.now.max(end);
    }

    /// The counts of each batch, by those of its rows.
    fn check(&mut self) {
        let rows = self.bench.db.run("SELECT number, state FROM job", &[]).unwrap();
        let rows = rows
            .into_iter()
            .map(|mut row| (row.number().unwrap(), row.number().unwrap()));
        let mut kept: SortedMap<u64, u64> = rows.collect();
        let packed = packed(&self.bench.db).unwrap().into_iter();
        kept.extend(packed.map(|job| (job.id.number().0, job.state)));
        for batch in 0..BATCHES {
            let jobs = self
                .jobs
                .iter()
                .filter(|(of, _)| *of == batch)
                .map(|(_, job)| job.number().0);
            let jobs: Vec<u64> = jobs.collect();
            let states: Vec<u64> = jobs.iter().filter_map(|job| kept.get(job).copied()).collect();
            let (reply, _) = self.bench.call(ask(batch, "ann", BatchAsk::Show { wait_ms: 0 }));
            if states.is_empty() {
                let marked = reply.is_ok() && read(&reply).accepted == 0;
                assert!(marked || code(&reply) == ErrorCode::NotFound, "{reply:?}");
                continue;
            }
            let view = read(&reply);
            let count = |wanted: &[u64]| states.iter().filter(|state| wanted.contains(state)).count() as u64;
            assert_eq!(view.running, count(&[3]));
            assert_eq!(view.waiting, count(&[0, 1, 2, 8]));
            assert_eq!(view.accepted, jobs.len() as u64);
            // Ended jobs may be past their retention: the counts remember them.
            let swept = (jobs.len() - states.len()) as u64;
            let counted = [view.succeeded, view.failed, view.cancelled, view.expired];
            for (state, counted) in (4..).zip(counted) {
                let kept = count(&[state]);
                assert!((kept..=kept + swept).contains(&counted), "{view:?} {states:?}");
            }
            assert_eq!(view.accepted, view.open() + counted.iter().sum::<u64>());
            assert_eq!(view.ended_at.is_some(), view.open() == 0);
            assert_eq!(view.cancelled_at.is_some(), self.cancelled.contains(&batch));
            assert!((0.0..=100.0).contains(&view.progress));
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..BATCHES, 1..6_usize, any::<u8>()).prop_map(|(batch, jobs, kind)| Step::Accept { batch, jobs, kind }),
        5 => (0..8_usize, any::<u8>()).prop_map(|(at, kind)| Step::Finish { at, kind }),
        1 => (0..BATCHES).prop_map(Step::Cancel),
        1 => (0..30_usize).prop_map(Step::CancelOne),
        1 => (0..30_usize).prop_map(Step::Pause),
        1 => (0..30_usize).prop_map(Step::Resume),
        1 => (0..30_usize).prop_map(Step::Retry),
        1 => (0..BATCHES).prop_map(Step::Await),
        3 => prop_oneof![1..1500_u64, 1500..9000_u64].prop_map(Step::Wait),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// After each turn memory is compared with the rows as well, see [`Bench`].
    #[test]
    fn the_counts_of_a_batch_are_those_of_its_jobs(steps in prop::collection::vec(step(), 1..50)) {
        let mut play = Play {
            bench: Bench::new(),
            jobs: Vec::new(),
            running: SortedMap::new(),
            ended: SortedMap::new(),
            cancelled: SortedSet::new(),
            waiting: SortedMap::new(),
        };
        for step in steps {
            play.step(step);
        }
        // Left alone, a cancelled batch comes to an end.
        for batch in play.cancelled.clone() {
            play.wait(GRACE_MS + LEASE_MS + 1);
            let (reply, _) = play.bench.call(ask(batch, "ann", BatchAsk::Show { wait_ms: 0 }));
            if reply.is_ok() {
                assert_eq!(read(&reply).open(), 0);
            }
        }
    }
}
