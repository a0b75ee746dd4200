//! What brings a job to its attempt: its object at once, or a doorbell.

use alloc::vec::Vec;

use tidegate_protocol::calls::executor::Dispatch;
use tidegate_protocol::calls::jobs::{Call, Enqueue, Reply};
use tidegate_protocol::calls::queueing::PauseScope;
use tidegate_protocol::event::JobState;
use tidegate_protocol::http::{Reason, Why};
use tidegate_protocol::ids::JobId;

use super::super::{DOORBELL_GRACE_MS, Effect, RUNNING_MAX};
use super::bench::*;

fn auto() -> Enqueue {
    let mut enqueue = plain();
    enqueue.job.policy.dispatch = Dispatch::Auto;
    enqueue
}

fn rung_for(effects: &[Effect]) -> Vec<JobId> {
    let rung = effects.iter().filter_map(|effect| match effect {
        Effect::RingDoorbell { job } => Some(*job),
        _ => None,
    });
    rung.collect()
}

fn waits_for(bench: &mut Bench, job: JobId) -> Vec<Reason> {
    let caller = caller("ann");
    match bench.call(Call::Why { job, caller }).0 {
        Ok(Reply::Why(text)) => serde_json::from_str::<Why>(text.as_str()).unwrap().waits_for,
        other => panic!("{other:?}"),
    }
}

fn pause(bench: &mut Bench) {
    let mut caller = caller("op");
    caller.writes_all = true;
    let scope = PauseScope::Tenant;
    bench.call(Call::Pause { scope, caller }).0.unwrap();
}

#[test]
fn an_auto_job_starts_at_once_where_there_is_a_place_and_costs_what_a_direct_one_does() {
    let rows = |enqueue: Enqueue| {
        let mut bench = Bench::new();
        let (job, effects) = bench.enqueue(enqueue);
        assert_eq!((executions(&effects).len(), rung_for(&effects)), (1, Vec::new()));
        assert_eq!(bench.status(job), JobState::Running);
        bench.count("SELECT count(*) FROM job WHERE due_at IS NOT NULL")
    };
    assert_eq!((rows(auto()), rows(plain())), (0, 0), "no entry in the index");
}

#[test]
fn an_auto_job_without_a_place_waits_for_its_doorbell_and_says_so() {
    let mut bench = Bench::new();
    let running: Vec<_> = (0..RUNNING_MAX).map(|_| bench.start(auto())).collect();
    let (job, effects) = bench.enqueue(auto());
    assert_eq!((executions(&effects).len(), rung_for(&effects)), (0, alloc::vec![job]));
    let until = bench.now.plus(DOORBELL_GRACE_MS);
    assert_eq!(waits_for(&mut bench, job)[0], Reason::Doorbell { until });
    // A place that becomes free before it rings is not for this one.
    let (_, effects) = bench.finish(&running[0], success());
    assert_eq!(executions(&effects).len(), 0);
    // It rings: the job starts.
    let (_, effects) = bench.call(Call::Start { job });
    assert_eq!(execution(&effects).job, job);
}

#[test]
fn an_auto_job_whose_doorbell_is_lost_starts_without_it() {
    let mut bench = Bench::new();
    let running: Vec<_> = (0..RUNNING_MAX).map(|_| bench.start(auto())).collect();
    let (job, _) = bench.enqueue(auto());
    for execute in &running {
        bench.finish(execute, success()).0.unwrap();
    }
    bench.crash();
    bench.later(DOORBELL_GRACE_MS);
    assert_eq!(execution(&bench.wake()).job, job);
}

#[test]
fn an_auto_job_that_something_holds_back_rings_and_then_waits_for_that_alone() {
    let mut bench = Bench::new();
    pause(&mut bench);
    let (job, effects) = bench.enqueue(auto());
    assert_eq!(rung_for(&effects), [job]);
    let reasons = waits_for(&mut bench, job);
    assert!(matches!(reasons[0], Reason::Doorbell { .. }), "{reasons:?}");
    assert!(matches!(reasons[1], Reason::Paused(_)), "{reasons:?}");
    // It rings while the tenant is paused: from then on the job is one that waits like any other.
    bench.call(Call::Start { job }).0.unwrap();
    let reasons = waits_for(&mut bench, job);
    assert!(matches!(reasons[..], [Reason::Paused(_)]), "{reasons:?}");
    let mut caller = caller("op");
    caller.writes_all = true;
    let scope = PauseScope::Tenant;
    let (_, effects) = bench.call(Call::Resume { scope, caller });
    assert_eq!(execution(&effects).job, job);
}

#[test]
fn a_delayed_auto_job_is_started_by_its_time_and_rings_nobody() {
    let mut bench = Bench::new();
    let mut later = auto();
    later.job.run_at = Some(bench.now.plus(1000));
    let (job, effects) = bench.enqueue(later);
    assert_eq!(rung_for(&effects), []);
    bench.later(1000);
    assert_eq!(execution(&bench.wake()).job, job);
}

#[test]
fn with_every_doorbell_lost_all_jobs_run() {
    let mut bench = Bench::new();
    let jobs: Vec<JobId> = (0..300).map(|_| bench.enqueue(rung()).0).collect();
    let mut done = Vec::new();
    for _ in 0..1000 {
        if done.len() == jobs.len() {
            break;
        }
        // Nothing but the alarm: every effect that rings is dropped, and the memory goes now and then.
        if done.len() % 64 == 63 {
            bench.crash();
        }
        let mut started = executions(&bench.alarm());
        while let Some(execute) = started.pop() {
            let (_, effects) = bench.finish(&execute, success());
            started.extend(executions(&effects));
            done.push(execute.job);
        }
    }
    done.sort_unstable();
    assert_eq!(done, jobs, "each once");
}
