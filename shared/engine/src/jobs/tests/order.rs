//! Which waiting job is next: time, priority, shares.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;
use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::executor::Execute;
use tidegate_protocol::calls::jobs::{Call, Enqueue};
use tidegate_protocol::calls::queueing::{PauseScope, Priority, Share};
use tidegate_protocol::event::JobState;
use tidegate_protocol::ids::ActionName;
use tidegate_protocol::time::UnixMs;

use super::super::lanes::{LOW_OFFSET_MS, NORMAL_OFFSET_MS};
use super::super::{Effect, RUNNING_MAX};
use super::bench::{Bench, caller, delayed, executions, plain, success};
use tidegate_protocol::SortedMap;

/// An object all of whose places are taken, and the attempts that take them.
fn full() -> (Bench, Vec<Execute>) {
    let mut bench = Bench::new();
    bench.compares = false;
    let running = (0..RUNNING_MAX).map(|_| bench.start(plain())).collect();
    (bench, running)
}

fn with(priority: Priority) -> Enqueue {
    let mut enqueue = plain();
    enqueue.job.queueing.priority = priority;
    enqueue
}

fn of_share(key: &str, weight: u32) -> Enqueue {
    let mut enqueue = plain();
    enqueue.job.metadata.insert("key".into(), key.into());
    enqueue.job.queueing.share = Some(Share {
        key: key.into(),
        weight,
    });
    enqueue
}

fn started(effects: &[Effect]) -> Vec<Execute> {
    executions(effects)
}

#[test]
fn the_more_urgent_goes_first_and_the_less_urgent_has_its_turn_in_bounded_time() {
    let (mut bench, mut running) = full();
    let low = bench.enqueue(with(Priority::Low)).0;
    let normal = bench.enqueue(with(Priority::Normal)).0;
    let high = bench.enqueue(with(Priority::High)).0;
    for expected in [high, normal, low] {
        let done = running.remove(0);
        let effects = bench.finish(&done, success()).1;
        assert_eq!(started(&effects).iter().map(|e| e.job).collect::<Vec<_>>(), [expected]);
        running.extend(started(&effects));
    }
    // However many urgent jobs keep coming, those that came later than the bound wait.
    let low = bench.enqueue(with(Priority::Low)).0;
    bench.later(LOW_OFFSET_MS - NORMAL_OFFSET_MS + 1);
    let normal = bench.enqueue(with(Priority::Normal)).0;
    bench.later(NORMAL_OFFSET_MS + 1);
    let high = bench.enqueue(with(Priority::High)).0;
    for expected in [low, normal, high] {
        let done = running.remove(0);
        let effects = bench.finish(&done, success()).1;
        assert_eq!(started(&effects)[0].job, expected);
        running.extend(started(&effects));
    }
}

#[test]
fn equal_jobs_start_in_the_order_in_which_they_may() {
    let (mut bench, mut running) = full();
    let later = bench.enqueue(delayed(bench.now.plus(500))).0;
    let first = bench.enqueue(plain()).0;
    let second = bench.enqueue(plain()).0;
    bench.later(1000);
    for expected in [first, second, later] {
        let effects = bench.finish(&running.remove(0), success()).1;
        assert_eq!(started(&effects)[0].job, expected);
    }
}

#[test]
fn an_urgent_job_is_not_early_either() {
    let (mut bench, mut running) = full();
    let mut early = with(Priority::High);
    early.job.run_at = Some(bench.now.plus(10_000));
    bench.enqueue(early);
    let low = bench.enqueue(with(Priority::Low)).0;
    assert_eq!(started(&bench.finish(&running.remove(0), success()).1)[0].job, low);
    assert!(started(&bench.finish(&running.remove(0), success()).1).is_empty());
}

/// Runs jobs of the given shares, a place at a time, and counts the starts of each.
fn starts(bench: &mut Bench, mut running: Vec<Execute>, turns: usize) -> SortedMap<String, u64> {
    let mut counts = SortedMap::new();
    for _ in 0..turns {
        let effects = bench.finish(&running.remove(0), success()).1;
        for execute in started(&effects) {
            if let Some(key) = execute.metadata.get("key") {
                *counts.entry(key.clone()).or_default() += 1;
            }
            running.push(execute);
        }
    }
    counts
}

/// R. Jain, D. Chiu, W. Hawe, "A Quantitative Measure of Fairness", 1984.
fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    let count: f64 = shares.iter().map(|_| 1.0).sum();
    sum * sum / (count * squares)
}

#[test]
fn a_thousand_jobs_of_one_key_do_not_hold_up_the_one_of_another() {
    let (mut bench, running) = full();
    for _ in 0..1000 {
        bench.enqueue(of_share("loud", 1));
    }
    bench.enqueue(of_share("quiet", 1));
    let counts = starts(&mut bench, running, 2);
    assert_eq!((counts["loud"], counts["quiet"]), (1, 1));
}

#[test]
fn equal_keys_have_equal_shares_under_a_skew_of_a_thousand_to_one() {
    let (mut bench, running) = full();
    for _ in 0..4000 {
        bench.enqueue(of_share("loud", 1));
    }
    // Nine quiet ones keep four waiting; the loud one has a thousand times as many.
    let quiet: Vec<String> = (0..9).map(|n| format!("quiet-{n}")).collect();
    for key in &quiet {
        for _ in 0..4 {
            bench.enqueue(of_share(key, 1));
        }
    }
    let mut counts: SortedMap<String, u64> = SortedMap::new();
    let mut running = running;
    for _ in 0..2000 {
        let effects = bench.finish(&running.remove(0), success()).1;
        for execute in started(&effects) {
            if let Some(key) = execute.metadata.get("key").cloned() {
                if key != "loud" {
                    bench.enqueue(of_share(&key, 1));
                }
                *counts.entry(key).or_default() += 1;
            }
            running.push(execute);
        }
    }
    let shares: Vec<f64> = counts.values().map(|n| f64::from(u32::try_from(*n).unwrap())).collect();
    assert_eq!(shares.len(), 10);
    assert!(jain(&shares) >= 0.999, "{} of {counts:?}", jain(&shares));
}

#[test]
fn shares_follow_their_weights() {
    let (mut bench, running) = full();
    for _ in 0..400 {
        bench.enqueue(of_share("three", 3));
        bench.enqueue(of_share("one", 1));
    }
    let counts = starts(&mut bench, running, 400);
    assert_eq!((counts["three"], counts["one"]), (300, 100));
}

#[test]
fn coming_back_with_one_job_at_a_time_gains_nothing() {
    let (mut bench, mut running) = full();
    for _ in 0..300 {
        bench.enqueue(of_share("steady", 1));
    }
    bench.enqueue(of_share("returning", 1));
    let mut counts: SortedMap<String, u32> = SortedMap::new();
    for _ in 0..200 {
        let effects = bench.finish(&running.remove(0), success()).1;
        for execute in started(&effects) {
            if let Some(key) = execute.metadata.get("key").cloned() {
                *counts.entry(key.clone()).or_default() += 1;
                if key == "returning" {
                    bench.enqueue(of_share("returning", 1));
                }
            }
            running.push(execute);
        }
    }
    assert!(counts["steady"].abs_diff(counts["returning"]) <= 1, "{counts:?}");
}

#[test]
fn a_share_that_was_held_back_has_saved_up_nothing() {
    let (mut bench, mut running) = full();
    let scope = PauseScope::Key("held".into());
    let operator = || Caller {
        writes_all: true,
        ..caller("op")
    };
    let pause = Call::Pause {
        scope: scope.clone(),
        caller: operator(),
    };
    bench.call(pause).0.unwrap();
    for key in ["held", "busy"] {
        for _ in 0..200 {
            bench.enqueue(of_share(key, 1));
        }
    }
    let later = running.split_off(60);
    assert_eq!(starts(&mut bench, running, 60)["busy"], 60);
    let resume = Call::Resume {
        scope,
        caller: operator(),
    };
    bench.call(resume).0.unwrap();
    let counts = starts(&mut bench, later, 20);
    assert_eq!((counts["held"], counts["busy"]), (10, 10));
}

#[test]
fn a_recovery_goes_on_with_the_same_lanes() {
    let (mut bench, mut running) = full();
    let low = bench.enqueue(with(Priority::Low)).0;
    let high = bench.enqueue(with(Priority::High)).0;
    bench.enqueue(of_share("k\"\n", 7));
    bench.crash();
    assert_eq!(bench.state.waiting(), 3);
    let effects = bench.finish(&running.remove(0), success()).1;
    let second = bench.finish(&running.remove(0), success()).1;
    // A key of its own and the others have one each, the more urgent first.
    let jobs: Vec<_> = started(&effects)
        .iter()
        .chain(&started(&second))
        .map(|e| e.job)
        .collect();
    assert!(jobs.contains(&high) && !jobs.contains(&low), "{jobs:?}");
}

#[test]
fn a_clock_that_jumps_back_makes_a_head_early_again_and_rings_no_alarm_before_its_time() {
    let (mut bench, mut running) = full();
    let due = bench.now.plus(1000);
    let job = bench.enqueue(delayed(due)).0;
    // It is due while there is no place, and no longer when one becomes free.
    bench.later(2000);
    bench.wake();
    bench.enqueue(plain());
    bench.finish(&running.remove(0), success()).0.unwrap();
    bench.now = UnixMs(due.0 - 500);
    for _ in 0..3 {
        let done = running.remove(0);
        bench.finish(&done, success()).0.unwrap();
    }
    assert!(bench.next_wake() >= Some(bench.now.plus(1)), "{:?}", bench.next_wake());
    bench.now = due;
    let started = started(&bench.wake());
    assert!(started.iter().any(|e| e.job == job) || bench.status(job) != JobState::Scheduled);
}

/// A deployment that is rolled back and forward again leaves rows that name no lane.
#[test]
fn a_row_that_names_no_lane_is_given_its_own() {
    use crate::database::Database;

    let (mut bench, mut running) = full();
    let waits = bench.enqueue(with(Priority::Low)).0;
    bench.db.run("UPDATE job SET lane = ''", &[]).unwrap();
    bench.crash();
    // One that ran goes back to wait, one that waited starts.
    let unfinished = running.remove(0);
    let effects = bench
        .finish(&unfinished, tidegate_protocol::calls::executor::Outcome::Unfinished)
        .1;
    let other = running.remove(0);
    let again = bench.finish(&other, success()).1;
    let started: Vec<_> = started(&effects)
        .iter()
        .chain(&started(&again))
        .map(|e| e.job)
        .collect();
    assert!(
        started.contains(&unfinished.job) && started.contains(&waits),
        "{started:?}"
    );
}

#[test]
fn jobs_of_a_schema_without_lanes_wait_in_the_lane_of_their_action() {
    use crate::database::native::Native;
    use crate::database::{Database, Value, migrate};

    let db = Native::in_memory().unwrap();
    migrate(&db, &super::super::STEPS[..1]).unwrap();
    let mut bench = Bench::new();
    let running: Vec<Execute> = (0..RUNNING_MAX).map(|_| bench.start(plain())).collect();
    let mut odd = plain();
    odd.job.action = ActionName::parse("odd-name.1").unwrap();
    let job = bench.enqueue(odd).0;
    drop(running);
    // The row as the first version wrote it.
    let mut rows = bench
        .db
        .run(
            "SELECT number, tail, spec, payload, progress, log, followers FROM job WHERE action = ?",
            &[Value::Text("odd-name.1")],
        )
        .unwrap();
    let mut row = rows.remove(0);
    let (number, tail) = (row.number().unwrap(), row.number().unwrap());
    let blobs: Vec<Vec<u8>> = (0..5).map(|_| row.blob().unwrap()).collect();
    db.run(
        "INSERT INTO job (number, tail, state, due_at, user, action, created_at, spec, payload, token, attempt,
            attempt_until, losses, seq, progress, log, followers, changed_at)
        VALUES (?1, ?2, 1, ?3, 'ann', 'odd-name.1', ?3, ?4, ?5, 0, 0, 0, 0, 1, ?6, ?7, ?8, ?3)",
        &[
            Value::Number(number),
            Value::Number(tail),
            Value::Number(bench.now.0),
            Value::Blob(&blobs[0]),
            Value::Blob(&blobs[1]),
            Value::Blob(&blobs[2]),
            Value::Blob(&blobs[3]),
            Value::Blob(&blobs[4]),
        ],
    )
    .unwrap();
    migrate(&db, super::super::STEPS).unwrap();
    bench.db = db;
    bench.alter(&[]);
    bench.crash();
    let effects = bench.wake();
    assert_eq!(started(&effects).iter().map(|e| e.job).collect::<Vec<_>>(), [job]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 48, ..ProptestConfig::default() })]

    /// Whatever waits, in whatever shares and priorities: each place that frees starts exactly one job that is due, and
    /// inside a share the one with the earliest time, priority counted.
    #[test]
    fn each_freed_place_starts_the_right_job(
        jobs in proptest::collection::vec((0_u64..4, 0_usize..3, 0_u64..20_000), 1..40),
        pauses in proptest::collection::vec(0_u64..8000, 40),
    ) {
        let (mut bench, mut running) = full();
        let mut waiting: Vec<(String, usize, UnixMs, tidegate_protocol::ids::JobId)> = Vec::new();
        for (key, priority, delay) in jobs {
            let mut enqueue = of_share(&key.to_string(), 1 + u32::try_from(key).unwrap());
            enqueue.job.queueing.priority = Priority::ALL[priority];
            let due = bench.now.plus(delay);
            enqueue.job.run_at = Some(due);
            let job = bench.enqueue(enqueue).0;
            waiting.push((key.to_string(), priority, due, job));
        }
        let offset = [0, NORMAL_OFFSET_MS, LOW_OFFSET_MS];
        for pause in pauses {
            bench.later(pause);
            let effects = bench.finish(&running.remove(0), success()).1;
            let now = started(&effects);
            let due = waiting.iter().filter(|(_, _, due, _)| *due <= bench.now).count();
            prop_assert_eq!(now.len(), usize::from(due > 0).max(now.len().min(due)));
            for execute in now {
                let at = waiting.iter().position(|(.., job)| *job == execute.job).unwrap();
                let (key, priority, due, _) = waiting.remove(at);
                prop_assert!(due <= bench.now);
                let rank = due.0 + offset[priority];
                let better = waiting.iter().find(|(k, p, d, _)| *k == key && *d <= bench.now && d.0 + offset[*p] < rank);
                prop_assert!(better.is_none(), "{better:?} waits, and {key} {rank} started");
                running.push(execute);
            }
        }
    }
}
