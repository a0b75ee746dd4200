//! Bounds on what waits, in jobs and in bytes, and when who was refused is asked to come again.

use alloc::boxed::Box;
use alloc::vec::Vec;

use tidegate_protocol::calls::jobs::{Call, Change, Enqueue};
use tidegate_protocol::calls::once::{Dedupe, DedupeRule, Once};
use tidegate_protocol::calls::queueing::Bounds;
use tidegate_protocol::calls::spread::Place;
use tidegate_protocol::event::JobState;
use tidegate_protocol::ids::{ActionName, JobId, ShardIndex};
use tidegate_protocol::{Error, ErrorCode};

use super::bench::*;

/// A job that waits, with an input of so many bytes.
fn of(bytes: usize, bounds: Bounds) -> Enqueue {
    let mut enqueue = delayed(tidegate_protocol::time::UnixMs(1_800_000_000_000 + 3_600_000));
    enqueue.job.payload = value(&alloc::format!("\"{}\"", "x".repeat(bytes - 2)));
    enqueue.job.queueing.bounds = bounds;
    enqueue
}

fn own(bytes: u64) -> Bounds {
    Bounds {
        bytes: Some(bytes),
        ..Bounds::default()
    }
}

fn refused(bench: &mut Bench, enqueue: Enqueue) -> Error {
    let reply = bench.call(Call::Enqueue(Box::new(enqueue))).0;
    assert_eq!(code(&reply), ErrorCode::QueueFull);
    reply.unwrap_err()
}

fn change(bench: &mut Bench, job: JobId, change: Change) {
    let caller = caller("ann");
    bench.call(Call::Change { job, caller, change }).0.unwrap();
}

#[test]
fn more_bytes_of_an_action_than_may_wait_are_refused_until_some_have_left() {
    let mut bench = Bench::new();
    let first = bench.enqueue(of(600, own(1000))).0;
    bench.enqueue(of(400, own(1000)));
    let error = refused(&mut bench, of(2, own(1000)));
    assert!(
        error.message.contains("`waiting_bytes` of the action `a` allows 1000"),
        "{error:?}"
    );
    // What another action has waiting is another's, and so is what runs.
    let mut other = of(900, own(1000));
    other.job.action = ActionName::parse("other").unwrap();
    bench.enqueue(other);
    let mut now = plain();
    now.job.queueing.bounds = own(1000);
    let job = bench.enqueue(of(2, Bounds::default())).0;
    refused(&mut bench, now);
    for job in [first, job] {
        let caller = caller("ann");
        bench.call(Call::Cancel { job, caller }).0.unwrap();
    }
    bench.crash();
    refused(&mut bench, of(601, own(1000)));
    bench.enqueue(of(600, own(1000)));
}

#[test]
fn what_is_larger_than_its_bound_waits_alone() {
    let mut bench = Bench::new();
    bench.enqueue(of(3000, own(1000)));
    refused(&mut bench, of(2, own(1000)));
}

#[test]
fn the_bounds_of_a_tenant_count_the_jobs_of_all_actions() {
    for (bounds, name) in [
        (
            Bounds {
                tenant: Some(2),
                ..Bounds::default()
            },
            "`queue.waiting` allows 2",
        ),
        (
            Bounds {
                tenant_bytes: Some(800),
                ..Bounds::default()
            },
            "`queue.waiting_bytes` allows 800",
        ),
    ] {
        let mut bench = Bench::new();
        for action in ["a", "b"] {
            let mut enqueue = of(400, bounds);
            enqueue.job.action = ActionName::parse(action).unwrap();
            bench.enqueue(enqueue);
        }
        let mut third = of(400, bounds);
        third.job.action = ActionName::parse("c").unwrap();
        let error = refused(&mut bench, third);
        assert!(error.message.contains(name), "{error:?}");
    }
}

#[test]
fn each_object_of_a_tenant_keeps_its_part_of_a_bound() {
    let mut bench = Bench::new();
    let part = |bytes| {
        let mut enqueue = of(bytes, own(4000));
        enqueue.job.queueing.place = Place {
            shard: ShardIndex(1),
            shards: 4,
        };
        enqueue
    };
    bench.enqueue(part(900));
    let error = refused(&mut bench, part(101));
    assert!(error.message.contains("allows 1000"), "{error:?}");
    bench.enqueue(part(100));
}

#[test]
fn a_paused_job_waits_as_well() {
    let mut bench = Bench::new();
    let bounded = || {
        let mut enqueue = of(500, own(1000));
        enqueue.job.queueing.waiting_max = Some(2);
        enqueue
    };
    let (first, second) = (bench.enqueue(bounded()).0, bench.enqueue(bounded()).0);
    change(&mut bench, first, Change::Pause);
    refused(&mut bench, bounded());
    bench.crash();
    let error = refused(&mut bench, bounded());
    assert!(error.message.contains("`waiting` of the action"), "{error:?}");
    change(&mut bench, first, Change::Resume);
    refused(&mut bench, bounded());
    change(&mut bench, second, Change::Pause);
    let caller = caller("ann");
    bench.call(Call::Cancel { job: second, caller }).0.unwrap();
    assert_eq!(bench.status(second), JobState::Cancelled);
    bench.enqueue(bounded());
}

#[test]
fn an_input_in_object_storage_counts_as_much_as_one_in_the_row() {
    let mut bench = Bench::new();
    let mut asked = of(2, own(1000));
    asked.job.payload = stored("k");
    let bytes = super::super::backlog::payload_bytes(&asked.job.payload);
    assert!(bytes > 0);
    asked.job.queueing.bounds = own(bytes);
    bench.enqueue(asked.clone());
    refused(&mut bench, asked);
}

#[test]
fn a_debounced_job_takes_a_larger_input_only_where_there_is_room() {
    let mut bench = Bench::new();
    let asked = |bytes| {
        let mut enqueue = of(bytes, own(1000));
        enqueue.job.once = Some(Once::Dedupe(Dedupe {
            key: "k".into(),
            rule: DedupeRule::KeepLast {
                wait_ms: 5000,
                max_wait_ms: 60_000,
            },
            key_life: None,
        }));
        enqueue
    };
    let job = bench.enqueue(asked(300)).0;
    bench.enqueue(of(500, own(1000)));
    bench.enqueue(asked(500));
    refused(&mut bench, asked(501));
    bench.enqueue(asked(100));
    bench.enqueue(of(400, own(1000)));
    bench.later(60_000);
    let execute = execution(&bench.wake());
    assert_eq!((execute.job, execute.payload), (job, asked(100).job.payload));
}

#[test]
fn who_is_refused_comes_again_when_the_queue_has_got_shorter_at_its_speed() {
    let mut bench = Bench::new();
    let bounded = || {
        let mut enqueue = of(100, Bounds::default());
        enqueue.job.queueing.waiting_max = Some(4);
        enqueue
    };
    let mut waiting: Vec<JobId> = (0..4).map(|_| bench.enqueue(bounded()).0).collect();
    assert_eq!(
        refused(&mut bench, bounded()).retry_after_ms,
        Some(5000),
        "nothing is known"
    );
    bench.later(20_000);
    assert_eq!(
        refused(&mut bench, bounded()).retry_after_ms,
        Some(20_000),
        "nothing leaves"
    );
    for _ in 0..10 {
        bench.later(1000);
        let caller = caller("ann");
        let job = waiting.remove(0);
        bench.call(Call::Cancel { job, caller }).0.unwrap();
        waiting.push(bench.enqueue(bounded()).0);
    }
    // Ten in the last ten seconds, of the thirty that the object looked at.
    assert_eq!(refused(&mut bench, bounded()).retry_after_ms, Some(3000));
    bench.later(300_000);
    let stalled = refused(&mut bench, bounded());
    assert_eq!(stalled.retry_after_ms, Some(60_000), "{stalled:?}");
}

#[test]
fn rows_from_before_sizes_were_kept_count_as_well() {
    use crate::database::native::Native;
    use crate::database::{Database, Value, migrate};
    use crate::jobs::{STEPS, State};

    let db = Native::in_memory().unwrap();
    let before = STEPS
        .iter()
        .position(|step| step.iter().any(|sql| sql.contains("payload_bytes")));
    let (old, _) = STEPS.split_at(before.unwrap());
    migrate(&db, old).unwrap();
    let spec = crate::database::to_blob(&plain().job).unwrap();
    db.run(
        "INSERT INTO job (number, tail, state, due_at, user, action, created_at, spec, payload, token, attempt,
            attempt_until, losses, seq, progress, log, followers, changed_at, lane)
        VALUES (1, 1, 1, 5, 'ann', 'a', 1, ?, zeroblob(700), 0, 0, 0, 0, 1, x'', x'', x'', 1, '[\"a\",\"normal\",null,[]]')",
        &[Value::Blob(&spec)],
    )
    .unwrap();
    migrate(&db, STEPS).unwrap();
    let now = tidegate_protocol::time::UnixMs(1_800_000_000_000);
    let state = State::recover(&db, now).unwrap();
    let mut bench = Bench::of(db, state, now);
    refused(&mut bench, of(301, own(1000)));
    bench.enqueue(of(300, own(1000)));
}
