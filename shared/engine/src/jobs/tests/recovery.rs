//! What a crash may cost: memory, never a job. Any history, and the state that is built again from the rows.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;
use tidegate_protocol::calls::executor::{Execute, Outcome};
use tidegate_protocol::calls::hub::Delivery;
use tidegate_protocol::calls::jobs::{Call, Reply};
use tidegate_protocol::event::JobState;

use super::super::{Effect, State, packed};
use super::batches::in_batch;
use super::bench::*;

#[test]
fn a_running_job_survives_a_crash_at_every_point_of_its_way() {
    for alarms in 0..3 {
        let mut bench = Bench::new();
        let execute = bench.start(followed());
        let lease_until = bench.now.plus(LEASE_MS);
        for _ in 0..alarms {
            bench.later(1000);
            bench.wake();
        }
        bench.crash();
        assert_eq!(bench.state.running(), 1);
        assert_eq!(bench.next_wake(), Some(lease_until), "the lease that the row tells of");
        assert_eq!(
            bench.report(&execute, None, None).0.map(drop),
            Ok(()),
            "its attempt may live on"
        );
        // The first alarm may find the lease renewed; the second finds it lost.
        let alarms: Vec<_> = (0..2).flat_map(|_| executions(&bench.alarm())).collect();
        let again = alarms.first().expect("the job is claimed again");
        assert_eq!((again.job, again.attempt), (execute.job, 1));
        bench.crash();
        let last = execution(&bench.alarm());
        assert_eq!(bench.finish(&last, success()).0, Ok(Reply::Done));
        bench.crash();
        assert_eq!(
            (bench.status(execute.job), bench.state.running()),
            (JobState::Succeeded, 0)
        );
    }
}

/// Found on workerd: an idle object sleeps between its alarms, and each awakening is a recovery. One that gave every
/// running job a fresh lease kept a job for ever whose executor had died.
#[test]
fn a_dead_attempt_is_given_up_although_the_object_sleeps_between_its_alarms() {
    let mut bench = Bench::new();
    let execute = bench.start(followed());
    let mut alarms = 0;
    let again = loop {
        bench.crash();
        let at = bench.next_wake().expect("a running job has an alarm");
        bench.later(at.since(bench.now));
        bench.crash();
        let effects = bench.wake();
        if let Some(Effect::Execute(again)) = effects.into_iter().find(|e| matches!(e, Effect::Execute(_))) {
            break again;
        }
        alarms += 1;
        assert!(alarms < 3, "the lease is renewed by nothing but sleep");
    };
    assert_eq!((again.job, again.attempt), (execute.job, 1));
}

/// A lease that heartbeats renewed in memory is stored by the alarm, so that a crash of the object alone does not take
/// the job from its living attempt.
#[test]
fn a_living_attempt_keeps_its_lease_over_a_crash_of_the_object() {
    let mut bench = Bench::new();
    let execute = bench.start(followed());
    for _ in 0..20 {
        bench.later(LEASE_MS / 3);
        if bench.next_wake().is_some_and(|at| at <= bench.now) {
            bench.wake();
        }
        bench.report(&execute, None, None).0.expect("it holds its lease");
    }
    bench.crash();
    assert!(bench.next_wake() > Some(bench.now));
    bench.report(&execute, None, None).0.expect("it still holds its lease");
}

#[test]
fn a_waiting_job_survives_a_crash() {
    let at = Bench::new().now.plus(5000);
    for enqueue in [rung(), delayed(at)] {
        let mut bench = Bench::new();
        let (job, _) = bench.enqueue(enqueue);
        bench.crash();
        assert_eq!(bench.state.waiting(), 1);
        assert_eq!(execution(&bench.alarm()).job, job);
        assert_eq!(bench.state.waiting(), 0);
    }
}

#[test]
fn a_retrying_job_survives_a_crash() {
    let mut bench = Bench::new();
    let execute = bench.start(plain());
    bench.finish(&execute, failure(true)).0.unwrap();
    bench.crash();
    let again = execution(&bench.alarm());
    assert_eq!((again.attempt, bench.state.waiting()), (2, 0));
}

#[test]
fn a_turn_that_fails_leaves_the_rows_as_they_were() {
    let mut bench = Bench::new();
    let execute = bench.start(plain());
    let mut state = bench.state.clone();
    let now = bench.now;
    let failed: Result<(), _> = bench.db.transaction(|db| {
        let call = Call::Finish {
            job: execute.job,
            token: execute.token,
            outcome: success(),
        };
        super::super::handle(db, &mut state, now, &mut || 0, [(super::super::CallId(99), call)])?;
        Err(crate::database::DatabaseError::new("no"))
    });
    assert!(failed.is_err());
    bench.crash();
    assert_eq!(bench.finish(&execute, success()).0, Ok(Reply::Done));
}

/// One step of a random history. Numbers choose among what is there.
#[derive(Debug, Clone)]
enum Step {
    Enqueue {
        kind: u8,
        key: Option<u8>,
    },
    /// So many jobs of a batch, in one turn: they wait in a pack.
    Batch {
        jobs: u8,
        ms: u64,
    },
    Report(u8),
    Finish {
        which: u8,
        outcome: u8,
    },
    Old {
        which: u8,
    },
    Cancel(u8),
    Start(u8),
    Confirm,
    Wake,
    Tick,
    Later(u64),
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..9, proptest::option::of(0_u8..3)).prop_map(|(kind, key)| Step::Enqueue { kind, key }),
        1 => (1_u8..6, 1_u64..3000).prop_map(|(jobs, ms)| Step::Batch { jobs, ms }),
        3 => any::<u8>().prop_map(Step::Report),
        4 => (any::<u8>(), 0_u8..5).prop_map(|(which, outcome)| Step::Finish { which, outcome }),
        2 => any::<u8>().prop_map(|which| Step::Old { which }),
        1 => any::<u8>().prop_map(Step::Cancel),
        1 => any::<u8>().prop_map(Step::Start),
        2 => Just(Step::Confirm),
        3 => Just(Step::Wake),
        2 => Just(Step::Tick),
        4 => prop_oneof![Just(1_u64), 1_u64..3000, Just(LEASE_MS)].prop_map(Step::Later),
        1 => Just(Step::Crash),
    ]
}

#[derive(Default)]
struct History {
    live: Vec<Execute>,
    old: Vec<Execute>,
    told: Vec<Delivery>,
}

fn apply(bench: &mut Bench, history: &mut History, step: Step) {
    let pick = |n: usize, which: u8| usize::from(which) % n.max(1);
    let effects = match step {
        Step::Enqueue { kind, key } => {
            let mut enqueue = match kind {
                0 => plain(),
                1 => followed(),
                2 => waiting(1500),
                3 | 5 => rung(),
                4 | 6 => delayed(bench.now.plus(2500)),
                _ => followed(),
            };
            let policy = &mut enqueue.job.policy;
            match kind {
                5 | 6 => policy.queue_timeout_ms = Some(1200),
                7 => policy.total_timeout_ms = Some(7000),
                8 => policy.heartbeat_timeout_ms = Some(2500),
                _ => {}
            }
            enqueue.keyed = key.and_then(|key| keyed(&alloc::format!("k{key}")).keyed);
            bench.send(Call::Enqueue(Box::new(enqueue))).1
        }
        Step::Batch { jobs, ms } => {
            let mut later = delayed(bench.now.plus(ms));
            later.follower = Some(HUB);
            let call = || Call::Enqueue(Box::new(in_batch(1, later.clone())));
            bench.send_all((0..jobs).map(|_| call())).1
        }
        Step::Report(which) if !history.live.is_empty() => {
            let execute = history.live[pick(history.live.len(), which)].clone();
            bench
                .report(
                    &execute,
                    Some(percent(f64::from(which) / 3.0)),
                    (which % 2 == 0).then_some("c"),
                )
                .1
        }
        Step::Finish { which, outcome } if !history.live.is_empty() => {
            let execute = history.live.remove(pick(history.live.len(), which));
            let outcome = match outcome {
                0 => success(),
                1 => failure(true),
                2 => failure(false),
                3 => Outcome::Unfinished,
                _ => Outcome::Snoozed { ms: 1700 },
            };
            let effects = bench.finish(&execute, outcome).1;
            history.old.push(execute);
            effects
        }
        Step::Old { which } if !history.old.is_empty() => {
            let execute = history.old[pick(history.old.len(), which)].clone();
            let before = bench
                .call(Call::Get {
                    job: execute.job,
                    caller: caller("ann"),
                })
                .0;
            // Another outcome than any that was said: that one would be done already.
            let (reply, effects) = bench.finish(&execute, Outcome::Succeeded { result: value("43") });
            assert!(reply.is_err(), "an old token changed something");
            assert_eq!(
                bench
                    .call(Call::Get {
                        job: execute.job,
                        caller: caller("ann")
                    })
                    .0,
                before
            );
            effects
        }
        Step::Cancel(which) if !history.live.is_empty() => {
            let job = history.live[pick(history.live.len(), which)].job;
            bench
                .send(Call::Cancel {
                    job,
                    caller: caller("ann"),
                })
                .1
        }
        Step::Start(which) if !history.live.is_empty() => {
            let job = history.live[pick(history.live.len(), which)].job;
            bench.send(Call::Start { job }).1
        }
        Step::Confirm => {
            let told = core::mem::take(&mut history.told);
            bench.delivered(HUB, &told, &[]);
            Vec::new()
        }
        Step::Wake => bench.wake(),
        Step::Tick => bench.tick(),
        Step::Later(ms) => {
            bench.later(ms);
            Vec::new()
        }
        Step::Crash => {
            bench.crash();
            history.told.clear();
            Vec::new()
        }
        _ => Vec::new(),
    };
    for execute in executions(&effects) {
        let (gone, live) = history.live.drain(..).partition(|other| other.job == execute.job);
        history.live = live;
        let gone: Vec<Execute> = gone;
        history.old.extend(gone);
        history.live.push(execute);
    }
    history.told.extend(deliveries(&effects));
}

/// What a recovery must find: the same leases and counters, at least the deliveries, and no later alarm for work.
fn check(bench: &Bench) {
    let found = State::recover(&bench.db, bench.now).unwrap();
    let live = &bench.state;
    let tokens = |state: &State| {
        state
            .running
            .iter()
            .map(|(n, lease)| (*n, lease.token))
            .collect::<Vec<_>>()
    };
    assert_eq!(tokens(&found), tokens(live));
    assert_eq!(found.waiting(), live.waiting());
    assert_eq!(found.watermark, live.watermark);
    for (number, undelivered) in &live.undelivered {
        assert!(undelivered.hubs.is_subset(&found.undelivered[number].hubs));
        assert_eq!(undelivered.indexed, found.undelivered[number].indexed);
    }
    for (number, lease) in &live.running {
        assert_eq!(lease.indexed, found.running[number].indexed);
    }
    let rows = |sql| bench.count(sql);
    let packed = packed(&bench.db).unwrap().len() as u64;
    assert_eq!(
        live.waiting(),
        packed + rows("SELECT count(*) FROM job WHERE state < 3")
    );
    let orphans = "SELECT number FROM job WHERE state < 4 AND due_at IS NULL
        AND number <= coalesce((SELECT number FROM watermark), 0)";
    let of_packs: Vec<u64> = live.packs.gone().map(|number| number.0).collect();
    let orphans = bench.numbers(orphans).into_iter();
    let orphans: Vec<u64> = orphans.filter(|number| !of_packs.contains(number)).collect();
    assert!(orphans.is_empty(), "rows that no recovery finds: {orphans:?}");
    // What a live object knows of the earliest limit may be too early, never too late.
    assert!(
        found
            .give_up_at
            .is_none_or(|at| live.give_up_at.is_some_and(|live| live <= at))
    );
    let spare = "SELECT count(*) FROM job WHERE state > 3 AND give_up_at IS NOT NULL";
    assert_eq!(rows(spare), 0, "an ended job is given up once more");
    let acknowledged = packed + rows("SELECT count(*) FROM job WHERE state < 4") > 0;
    assert!(
        !acknowledged || bench.next_wake().is_some(),
        "acknowledged work without an alarm"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_can_be_recovered_at_every_turn_and_every_job_ends_in_the_end(
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let (mut bench, mut history) = (Bench::new(), History::default());
        for step in steps {
            apply(&mut bench, &mut history, step);
            check(&bench);
        }
        for _ in 0..400 {
            for execute in core::mem::take(&mut history.live) {
                let effects = bench.finish(&execute, success()).1;
                history.live.extend(executions(&effects));
            }
            bench.later(1000);
            let effects = bench.wake();
            history.live.extend(executions(&effects));
            let told = deliveries(&effects);
            bench.delivered(HUB, &told, &[]);
            check(&bench);
        }
        prop_assert_eq!(bench.count("SELECT count(*) FROM job WHERE state < 4"), 0);
        prop_assert_eq!((bench.state.running(), bench.state.waiting()), (0, 0));
        prop_assert_eq!(bench.state.undelivered.len(), 0);
        prop_assert_eq!(bench.state.next_tick(), None);
    }
}
