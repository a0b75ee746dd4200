//! Attempts that somebody else goes on with.

use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::executor::{Execute, Outcome};
use tidegate_protocol::calls::jobs::{Call, Enqueue};
use tidegate_protocol::event::JobState;

use super::bench::*;

fn handed_over(enqueue: Enqueue) -> (Bench, Execute) {
    let mut bench = Bench::new();
    let execute = bench.start(enqueue);
    bench.finish(&execute, Outcome::HandedOver).0.unwrap();
    // Asked again, because an answer was lost: nothing changes.
    bench.finish(&execute, Outcome::HandedOver).0.unwrap();
    (bench, execute)
}

#[test]
fn it_goes_on_without_a_sign_of_life_for_as_long_as_the_attempt_may_take() {
    for crashes in [false, true] {
        let (mut bench, execute) = handed_over(plain());
        let end = bench.now.plus(TIMEOUT_MS);
        while bench.now < end {
            if crashes {
                bench.crash();
            }
            assert_eq!(bench.status(execute.job), JobState::Running);
            assert!(bench.next_wake().unwrap() <= end, "the end of it has an alarm");
            bench.later(LEASE_MS / 2);
            if bench.now < end {
                assert!(executions(&bench.wake()).is_empty());
            }
        }
        bench.now = end;
        bench.wake();
        let job = bench.get(execute.job);
        assert_eq!((job.status, job.attempt), (JobState::Retrying, 1), "its time is over");
        assert_eq!(code(&bench.finish(&execute, success()).0), ErrorCode::LeaseLost);
    }
}

#[test]
fn whoever_has_it_ends_it_by_its_token() {
    let (mut bench, execute) = handed_over(plain());
    bench.later(TIMEOUT_MS - 1);
    bench.crash();
    let (reply, _) = bench.report(&execute, Some(percent(50.0)), None);
    reply.unwrap();
    bench.finish(&execute, success()).0.unwrap();
    assert_eq!(bench.status(execute.job), JobState::Succeeded);
    assert_eq!(bench.state.running(), 0);
}

#[test]
fn a_report_does_not_shorten_its_lease() {
    for crashes in [false, true] {
        let (mut bench, execute) = handed_over(plain());
        bench.later(1000);
        bench.report(&execute, Some(percent(10.0)), None).0.unwrap();
        if crashes {
            bench.crash();
        }
        bench.later(LEASE_MS + 1);
        assert!(executions(&bench.wake()).is_empty());
        assert_eq!(bench.status(execute.job), JobState::Running);
    }
}

#[test]
fn with_a_limit_on_silence_whoever_has_it_must_speak() {
    let mut enqueue = plain();
    enqueue.job.policy.heartbeat_timeout_ms = Some(LEASE_MS);
    let (mut bench, execute) = handed_over(enqueue);
    bench.later(LEASE_MS - 1);
    bench.report(&execute, Some(percent(10.0)), None).0.unwrap();
    bench.later(LEASE_MS - 1);
    bench.wake();
    assert_eq!(bench.status(execute.job), JobState::Running);
    bench.alarm();
    assert_eq!(bench.status(execute.job), JobState::Retrying);
}

#[test]
fn a_cancel_takes_it_away() {
    let (mut bench, execute) = handed_over(plain());
    let cancel = Call::Cancel {
        job: execute.job,
        caller: caller("ann"),
    };
    bench.call(cancel).0.unwrap();
    assert_eq!(code(&bench.finish(&execute, success()).0), ErrorCode::LeaseLost);
}

#[test]
fn a_job_without_a_row_gets_one_before_it_is_handed_over() {
    let mut bench = Bench::new();
    let (id, effects) = bench.send(Call::Enqueue(alloc::boxed::Box::new(waiting(1000))));
    let execute = execution(&effects);
    let (_, effects) = bench.finish(&execute, Outcome::HandedOver);
    assert!(
        replies(&effects).contains_key(&id),
        "whoever waits is told that it is a job"
    );
    bench.crash();
    bench.finish(&execute, success()).0.unwrap();
    assert_eq!(bench.status(execute.job), JobState::Succeeded);
}
