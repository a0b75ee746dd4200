//! Accepting: stored before it is acknowledged, once for each key, a row only where one is needed.

use alloc::boxed::Box;
use alloc::vec;

use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::jobs::{Call, Enqueue, Reply};
use tidegate_protocol::event::JobState;
use tidegate_protocol::ids::{HubIndex, Seq};

use super::super::{DOORBELL_GRACE_MS, Effect, RUNNING_MAX};
use super::bench::*;

#[test]
fn a_plain_job_starts_at_once_and_ends_with_its_result() {
    let mut bench = Bench::new();
    let (reply, effects) = bench.call(Call::Enqueue(Box::new(plain())));
    let execute = execution(&effects);
    let expected = Reply::Acknowledged {
        job: execute.job,
        status: JobState::Running,
        seq: Seq(1),
        deduplicated: false,
        run_at: None,
    };
    assert_eq!(reply, Ok(expected));
    assert_eq!(execute.payload, value("{\"n\":1}"));
    assert_eq!((execute.attempt, execute.deadline), (1, bench.now.plus(TIMEOUT_MS)));
    assert_eq!(bench.finish(&execute, success()).0, Ok(Reply::Done));
    let job = bench.get(execute.job);
    assert_eq!(
        (job.status, job.seq, job.progress.percentage),
        (JobState::Succeeded, Seq(2), 100.0)
    );
    assert_eq!(job.result.unwrap().as_str(), "42");
    assert_eq!((bench.state.running(), bench.state.waiting()), (0, 0));
}

#[test]
fn a_plain_job_writes_two_rows() {
    let mut bench = Bench::new();
    let before = bench.count("SELECT total_changes()");
    let execute = bench.start(plain());
    bench.finish(&execute, success()).0.unwrap();
    assert_eq!(bench.count("SELECT total_changes()") - before, 2);
    assert_eq!(bench.count("SELECT count(*) FROM job WHERE due_at IS NOT NULL"), 0);
}

#[test]
fn a_known_key_finds_its_job_while_it_runs_and_its_answer_afterwards() {
    let mut bench = Bench::new();
    let execute = bench.start(keyed("k"));
    let again = Enqueue {
        follower: Some(HUB),
        ..keyed("k")
    };
    let (reply, effects) = bench.call(Call::Enqueue(Box::new(again.clone())));
    assert!(executions(&effects).is_empty());
    let Ok(Reply::Acknowledged {
        job,
        deduplicated: true,
        ..
    }) = reply
    else {
        panic!("{reply:?}")
    };
    assert_eq!(job, execute.job);
    let (_, effects) = bench.finish(&execute, success());
    assert_eq!(deliveries(&effects).len(), 1, "the second caller's hub follows");
    let (reply, effects) = bench.call(Call::Enqueue(Box::new(again)));
    assert_eq!(ended(&reply).seq, Seq(2));
    assert!(matches!(reply, Ok(Reply::Ended { deduplicated: true, .. })));
    assert_eq!(effects.len(), 1);
}

#[test]
fn a_key_belongs_to_its_action() {
    let mut bench = Bench::new();
    let first = bench.start(keyed("k"));
    let mut other = keyed("k");
    other.job.action = tidegate_protocol::ids::ActionName::parse("b").unwrap();
    let second = bench.start(other);
    assert_ne!(first.job, second.job);
}

#[test]
fn a_key_with_another_body_is_refused_and_consumes_nothing() {
    let mut bench = Bench::new();
    let execute = bench.start(keyed("k"));
    for _ in 0..2 {
        let mut other = keyed("k");
        other.keyed.as_mut().unwrap().fingerprint = "g".into();
        let (reply, effects) = bench.call(Call::Enqueue(Box::new(other)));
        assert_eq!(code(&reply), ErrorCode::IdempotencyMismatch);
        assert_eq!(effects.len(), 1);
    }
    bench.finish(&execute, success()).0.unwrap();
    assert_eq!(bench.count("SELECT count(*) FROM job"), 1);
}

#[test]
fn an_answer_before_the_deadline_leaves_no_row() {
    let mut bench = Bench::new();
    let (call, effects) = bench.send(Call::Enqueue(Box::new(waiting(1000))));
    let execute = execution(&effects);
    bench.report(&execute, Some(percent(5.0)), Some("c1")).0.unwrap();
    bench.later(999);
    assert!(bench.tick().is_empty());
    let (reply, effects) = bench.finish(&execute, success());
    assert_eq!(reply, Ok(Reply::Done));
    assert_eq!(ended(&replies(&effects)[&call]).seq, Seq(2));
    assert_eq!(deleted(&effects), ["c1"]);
    assert_eq!(bench.count("SELECT count(*) FROM job"), 0);
    assert_eq!(bench.state.running(), 0);
    assert_eq!(bench.state.next_tick(), None);
}

#[test]
fn at_the_deadline_the_job_is_stored_and_goes_on_under_the_same_token() {
    for late in [0, 1, 5000] {
        let mut bench = Bench::new();
        let (call, effects) = bench.send(Call::Enqueue(Box::new(Enqueue {
            follower: Some(HUB),
            ..waiting(1000)
        })));
        let execute = execution(&effects);
        bench.report(&execute, Some(percent(30.0)), Some("c1")).0.unwrap();
        assert_eq!(bench.state.next_tick(), Some(bench.now.plus(1000)));
        bench.later(1000 + late);
        let effects = bench.tick();
        assert_eq!(executions(&effects), vec![]);
        let expected = Reply::Acknowledged {
            job: execute.job,
            status: JobState::Running,
            seq: Seq(1),
            deduplicated: false,
            run_at: None,
        };
        assert_eq!(replies(&effects)[&call], Ok(expected));
        assert!(bench.next_wake().is_some(), "a stored job has an alarm");
        let job = bench.get(execute.job);
        assert_eq!((job.progress.percentage, job.attempt), (30.0, 1));
        let (reply, effects) = bench.finish(&execute, success());
        assert_eq!(reply, Ok(Reply::Done));
        assert_eq!(deliveries(&effects).len(), 1);
        assert_eq!(bench.status(execute.job), JobState::Succeeded);
        assert_eq!(bench.state.running(), 0);
    }
}

#[test]
fn the_alarm_stores_as_the_timer_does() {
    let mut bench = Bench::new();
    let (call, effects) = bench.send(Call::Enqueue(Box::new(waiting(1000))));
    let execute = execution(&effects);
    bench.later(1000);
    let effects = bench.wake();
    assert!(matches!(replies(&effects)[&call], Ok(Reply::Acknowledged { .. })));
    bench.finish(&execute, success()).0.unwrap();
}

#[test]
fn a_job_that_spills_below_the_watermark_survives_a_crash() {
    let mut bench = Bench::new();
    let (_, effects) = bench.send(Call::Enqueue(Box::new(waiting(1000))));
    let execute = execution(&effects);
    bench.start(plain());
    bench.later(500);
    bench.wake();
    bench.later(500);
    assert_eq!(replies(&bench.tick()).len(), 1);
    bench.crash();
    assert_eq!(bench.finish(&execute, success()).0, Ok(Reply::Done));
}

#[test]
fn a_retryable_failure_before_the_deadline_stores_the_job_and_acknowledges_it() {
    let mut bench = Bench::new();
    let (call, effects) = bench.send(Call::Enqueue(Box::new(waiting(1000))));
    let execute = execution(&effects);
    let (reply, effects) = bench.finish(&execute, failure(true));
    assert_eq!(reply, Ok(Reply::Done));
    let reply = &replies(&effects)[&call];
    assert!(
        matches!(
            reply,
            Ok(Reply::Acknowledged {
                status: JobState::Retrying,
                seq: Seq(2),
                ..
            })
        ),
        "{reply:?}"
    );
    let again = execution(&bench.alarm());
    assert_eq!((again.job, again.attempt), (execute.job, 2));
}

#[test]
fn a_last_failure_before_the_deadline_is_the_answer() {
    let mut once = waiting(1000);
    once.job.policy.attempts_max = 1;
    for (enqueue, retryable) in [(waiting(1000), false), (once, true)] {
        let mut bench = Bench::new();
        let (call, effects) = bench.send(Call::Enqueue(Box::new(enqueue)));
        let (_, effects) = bench.finish(&execution(&effects), failure(retryable));
        assert_eq!(
            failure_code(ended(&replies(&effects)[&call])),
            Some(ErrorCode::UpstreamError)
        );
        assert_eq!(bench.count("SELECT count(*) FROM job"), 0);
    }
}

#[test]
fn with_a_key_the_row_comes_first_and_all_callers_get_one_answer() {
    let mut bench = Bench::new();
    let ask = Enqueue {
        answer_within_ms: Some(1000),
        ..keyed("k")
    };
    let (first, effects) = bench.send(Call::Enqueue(Box::new(ask.clone())));
    let execute = execution(&effects);
    assert_eq!(bench.count("SELECT count(*) FROM job"), 1);
    let (second, effects) = bench.send(Call::Enqueue(Box::new(ask)));
    assert!(effects.is_empty());
    let (_, effects) = bench.finish(&execute, success());
    let replies = replies(&effects);
    assert_eq!(ended(&replies[&first]), ended(&replies[&second]));
    assert!(matches!(replies[&second], Ok(Reply::Ended { deduplicated: true, .. })));
}

#[test]
fn a_delayed_job_is_never_early() {
    let mut bench = Bench::new();
    let at = bench.now.plus(50_000);
    let (reply, effects) = bench.call(Call::Enqueue(Box::new(delayed(at))));
    assert!(executions(&effects).is_empty());
    let Ok(Reply::Acknowledged {
        job,
        status: JobState::Scheduled,
        run_at,
        ..
    }) = reply
    else {
        panic!("{reply:?}")
    };
    assert_eq!((run_at, bench.next_wake()), (Some(at), Some(at)));
    bench.later(49_999);
    assert!(executions(&bench.wake()).is_empty());
    assert_eq!(
        code(
            &bench
                .finish_as(job, tidegate_protocol::ids::FencingToken(0), success())
                .0
        ),
        ErrorCode::LeaseLost
    );
    bench.send(Call::Start { job });
    assert_eq!(bench.status(job), JobState::Scheduled);
    bench.later(1);
    assert_eq!(execution(&bench.wake()).job, job);
}

#[test]
fn a_doorbell_starts_a_job_once_and_a_lost_one_only_delays_it() {
    let mut bench = Bench::new();
    let (job, effects) = bench.enqueue(rung());
    assert!(effects.contains(&Effect::RingDoorbell { job }));
    assert!(executions(&effects).is_empty());
    assert_eq!(execution(&bench.send(Call::Start { job }).1).job, job);
    assert!(executions(&bench.send(Call::Start { job }).1).is_empty());

    let (job, _) = bench.enqueue(rung());
    bench.later(DOORBELL_GRACE_MS);
    assert!(executions(&bench.wake()).iter().any(|execute| execute.job == job));
}

/// Found by the simulation (seed 1): the lease lasted until the doorbell's grace was over.
#[test]
fn the_lease_of_a_rung_job_is_as_long_as_any_others() {
    let mut bench = Bench::new();
    let (job, _) = bench.enqueue(rung());
    let first = execution(&bench.send(Call::Start { job }).1);
    assert_eq!(bench.next_wake(), Some(bench.now.plus(LEASE_MS)));
    bench.later(LEASE_MS);
    assert_eq!(execution(&bench.wake()).job, first.job);
}

#[test]
fn jobs_beyond_the_places_wait_for_one_and_have_an_alarm() {
    let mut bench = Bench::new();
    let running: vec::Vec<_> = (0..RUNNING_MAX).map(|_| bench.start(plain())).collect();
    let (job, effects) = bench.enqueue(plain());
    assert!(executions(&effects).is_empty());
    assert_eq!((bench.state.running(), bench.state.waiting()), (RUNNING_MAX, 1));
    assert_eq!(bench.next_wake(), Some(bench.now.plus(LEASE_MS)));
    let (_, effects) = bench.finish(&running[0], success());
    assert_eq!(execution(&effects).job, job);
    assert_eq!((bench.state.running(), bench.state.waiting()), (RUNNING_MAX, 0));
}

/// Every place is taken by jobs that have no row, so that no lease sets an alarm.
#[test]
fn a_waiting_job_has_an_alarm_though_only_unstored_jobs_run() {
    let mut bench = Bench::new();
    for _ in 0..RUNNING_MAX {
        bench.send(Call::Enqueue(Box::new(waiting(60_000))));
    }
    let (job, _) = bench.enqueue(plain());
    let alarm = bench.next_wake().expect("acknowledged work has an alarm");
    bench.crash();
    bench.now = bench.now.max(alarm);
    assert_eq!(execution(&bench.wake()).job, job);
}

#[test]
fn numbers_rise_though_the_clock_jumps_back_over_a_crash() {
    let mut bench = Bench::new();
    let first = bench.start(followed());
    bench.finish(&first, success()).0.unwrap();
    bench.crash();
    bench.now = tidegate_protocol::time::UnixMs(bench.now.0 - 5000);
    let second = bench.start(Enqueue {
        follower: Some(HubIndex(0)),
        ..plain()
    });
    assert!(second.job.number() > first.job.number());
}
