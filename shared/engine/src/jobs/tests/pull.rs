//! Workers that ask for jobs: who is given which, what holds a job back from them, and what becomes of lost ones.

use alloc::borrow::ToOwned;
use alloc::vec::Vec;

use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::executor::{Execute, Outcome};
use tidegate_protocol::calls::jobs::{Call, Enqueue, LeaseJobs, Reply};
use tidegate_protocol::calls::queueing::{Counted, PauseScope, Priority, Rule, WhenFull};
use tidegate_protocol::event::JobState;
use tidegate_protocol::http::{PoolQueue, QueueView, Reason, Why};
use tidegate_protocol::ids::{ActionName, JobId, PoolName, UserId};

use super::super::{CallId, Effect, LEASED_MAX, POLLS_MAX, RUNNING_MAX, WORKER_SEEN_MS};
use super::bench::*;

fn pool(name: &str) -> PoolName {
    PoolName::parse(name).unwrap()
}

/// A job for the workers of the pool `gpu`.
fn pulled() -> Enqueue {
    let mut enqueue = plain();
    enqueue.job.policy.pool = Some(pool("gpu"));
    enqueue
}

fn of_action(name: &str) -> Enqueue {
    let mut enqueue = pulled();
    enqueue.job.action = ActionName::parse(name).unwrap();
    enqueue
}

fn under(limit: &str, rule: Rule) -> Enqueue {
    let mut enqueue = pulled();
    enqueue.job.queueing.limits = alloc::vec![Counted {
        limit: limit.into(),
        key: "".into(),
        rule,
        cost: 1,
        when_full: WhenFull::Wait,
    }];
    enqueue
}

fn asks(worker: &str, max: u32, wait_ms: u64) -> Call {
    Call::Lease(LeaseJobs {
        pool: pool("gpu"),
        worker: worker.into(),
        max,
        actions: None,
        wait_ms,
    })
}

/// What a call of a worker is answered with, where it is answered.
fn leased(call: CallId, effects: &[Effect]) -> Option<Vec<Execute>> {
    match replies(effects).remove(&call)? {
        Ok(Reply::Leased { jobs, .. }) => Some(jobs),
        other => panic!("{other:?}"),
    }
}

/// What a worker is given that does not wait.
fn take(bench: &mut Bench, max: u32) -> Vec<Execute> {
    let (call, effects) = bench.send(asks("w", max, 0));
    assert!(executions(&effects).is_empty(), "the executor has no part in it");
    leased(call, &effects).expect("an answer at once")
}

fn ids(jobs: &[Execute]) -> Vec<JobId> {
    jobs.iter().map(|job| job.job).collect()
}

fn operator() -> Caller {
    Caller {
        user: UserId::parse("root").unwrap(),
        reads_all: true,
        writes_all: true,
        act: None,
    }
}

fn view(bench: &mut Bench) -> QueueView {
    match bench.call(Call::Queue { caller: operator() }).0 {
        Ok(Reply::Queue(view)) => view,
        other => panic!("{other:?}"),
    }
}

fn reasons(bench: &mut Bench, job: JobId) -> Vec<Reason> {
    match bench
        .call(Call::Why {
            job,
            caller: operator(),
        })
        .0
    {
        Ok(Reply::Why(text)) => serde_json::from_str::<Why>(text.as_str()).unwrap().waits_for,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_job_of_a_pool_waits_for_a_worker_and_never_goes_to_the_executor() {
    let mut bench = Bench::new();
    let (job, effects) = bench.enqueue(pulled());
    assert!(executions(&effects).is_empty());
    let (_, effects) = bench.send(Call::Start { job });
    assert!(executions(&effects).is_empty(), "not by a doorbell");
    bench.later(LEASE_MS);
    assert!(executions(&bench.wake()).is_empty(), "not by an alarm");
    bench.crash();
    assert!(executions(&bench.wake()).is_empty(), "not by a recovery");
    assert_eq!(bench.status(job), JobState::Queued);
    let jobs = take(&mut bench, 5);
    assert_eq!(ids(&jobs), [job]);
    assert_eq!((jobs[0].attempt, jobs[0].deadline), (1, bench.now.plus(TIMEOUT_MS)));
    assert_eq!(bench.status(job), JobState::Running);
    bench.finish(&jobs[0], success()).0.unwrap();
    assert_eq!(bench.status(job), JobState::Succeeded);
}

#[test]
fn a_job_has_one_live_lease_whoever_asks() {
    let mut bench = Bench::new();
    let jobs: Vec<JobId> = (0..3).map(|_| bench.enqueue(pulled()).0).collect();
    let first = take(&mut bench, 2);
    assert_eq!(ids(&first), jobs[..2]);
    let second = take(&mut bench, 2);
    assert_eq!(ids(&second), jobs[2..]);
    assert!(take(&mut bench, 2).is_empty());
    bench.crash();
    assert!(take(&mut bench, 2).is_empty(), "a recovery knows the leases");
    for job in first.iter().chain(&second) {
        bench.finish(job, success()).0.unwrap();
    }
    assert_eq!((bench.state.running(), bench.state.waiting()), (0, 0));
}

#[test]
fn a_worker_that_dies_loses_its_job_to_another_and_its_late_outcome_counts_for_nothing() {
    let mut bench = Bench::new();
    let (job, _) = bench.enqueue(pulled());
    let first = take(&mut bench, 1).remove(0);
    bench.later(LEASE_MS - 1);
    bench.report(&first, None, None).0.unwrap();
    bench.wake();
    assert!(take(&mut bench, 1).is_empty(), "it is alive");
    bench.later(LEASE_MS);
    bench.wake();
    let second = take(&mut bench, 1).remove(0);
    assert_eq!((second.job, second.attempt), (job, 1));
    assert!(second.token > first.token);
    for (reply, _) in [bench.report(&first, None, None), bench.finish(&first, success())] {
        assert_eq!(code(&reply), ErrorCode::LeaseLost);
    }
    bench.finish(&second, success()).0.unwrap();
}

#[test]
fn a_call_that_waits_is_answered_by_the_turn_that_brings_a_job() {
    let mut bench = Bench::new();
    let (call, effects) = bench.send(asks("w", 1, 20_000));
    assert!(effects.is_empty());
    assert_eq!(bench.state.next_tick(), Some(bench.now.plus(20_000)));
    let (job, effects) = bench.enqueue(pulled());
    assert_eq!(ids(&leased(call, &effects).unwrap()), [job]);
    assert_eq!(bench.state.next_tick(), None, "nobody waits any more");
}

#[test]
fn a_call_is_answered_when_time_alone_makes_a_job_ready() {
    let mut bench = Bench::new();
    let (call, _) = bench.send(asks("w", 1, 20_000));
    let mut enqueue = pulled();
    enqueue.job.run_at = Some(bench.now.plus(3000));
    let (job, effects) = bench.enqueue(enqueue);
    assert_eq!(leased(call, &effects), None);
    assert_eq!(bench.state.next_tick(), Some(bench.now.plus(3000)));
    bench.later(2999);
    assert!(bench.tick().is_empty(), "never early");
    bench.later(1);
    assert_eq!(ids(&leased(call, &bench.tick()).unwrap()), [job]);
}

#[test]
fn a_call_whose_time_is_over_is_answered_with_nothing_and_gets_nothing_later() {
    let mut bench = Bench::new();
    let (call, _) = bench.send(asks("w", 1, 1000));
    bench.later(1000);
    assert_eq!(leased(call, &bench.tick()), Some(Vec::new()));
    let (_, effects) = bench.enqueue(pulled());
    assert_eq!(leased(call, &effects), None);
    assert_eq!(take(&mut bench, 1).len(), 1);
}

#[test]
fn a_failed_attempt_goes_to_whoever_waits_once_its_wait_is_over() {
    let mut bench = Bench::new();
    bench.enqueue(pulled());
    let first = take(&mut bench, 1).remove(0);
    let (call, _) = bench.send(asks("v", 1, 20_000));
    let (_, effects) = bench.finish(&first, failure(true));
    assert_eq!(leased(call, &effects), None, "never early");
    bench.later(BACKOFF_MS);
    let second = leased(call, &bench.tick()).unwrap().remove(0);
    assert_eq!((second.job, second.attempt), (first.job, 2));
}

#[test]
fn several_calls_are_served_one_job_each_in_the_order_in_which_they_came() {
    let mut bench = Bench::new();
    let calls: Vec<CallId> = ["a", "b", "c"]
        .map(|worker| bench.send(asks(worker, 10, 20_000)).0)
        .to_vec();
    let enqueue = |enqueue: Enqueue| Call::Enqueue(alloc::boxed::Box::new(enqueue));
    let (_, effects) = bench.send_all((0..4).map(|_| enqueue(pulled())));
    let counts: Vec<usize> = calls
        .iter()
        .map(|call| leased(*call, &effects).unwrap().len())
        .collect();
    assert_eq!(counts, [2, 1, 1]);
    let calls: Vec<CallId> = ["c", "a"].map(|worker| bench.send(asks(worker, 10, 20_000)).0).to_vec();
    let (_, effects) = bench.enqueue(pulled());
    assert_eq!(leased(calls[0], &effects).map(|jobs| jobs.len()), Some(1));
    assert_eq!(leased(calls[1], &effects), None);
}

#[test]
fn a_worker_that_asks_anew_has_left_its_older_call_behind() {
    let mut bench = Bench::new();
    let (older, _) = bench.send(asks("w", 1, 20_000));
    let (newer, effects) = bench.send(asks("w", 1, 20_000));
    assert_eq!(leased(older, &effects), Some(Vec::new()));
    let (_, effects) = bench.enqueue(pulled());
    assert_eq!(leased(newer, &effects).map(|jobs| jobs.len()), Some(1));
}

#[test]
fn a_worker_that_leaves_ends_its_call_and_is_given_nothing() {
    let mut bench = Bench::new();
    let (waiting, _) = bench.send(asks("w", 1, 20_000));
    let (leaving, effects) = bench.send(asks("w", 0, 0));
    assert_eq!(leased(waiting, &effects), Some(Vec::new()));
    assert_eq!(leased(leaving, &effects), Some(Vec::new()));
    assert!(view(&mut bench).pools.is_empty(), "it is not seen any more");
    let (job, effects) = bench.enqueue(pulled());
    assert!(replies(&effects).len() == 1 && bench.status(job) == JobState::Queued);
}

#[test]
fn a_worker_is_given_only_the_actions_that_it_names_and_those_of_its_pool() {
    let mut bench = Bench::new();
    bench.enqueue(of_action("train"));
    let (render, _) = bench.enqueue(of_action("render"));
    let mut elsewhere = pulled();
    elsewhere.job.policy.pool = Some(pool("cpu"));
    bench.enqueue(elsewhere);
    let only = |wait_ms| {
        Call::Lease(LeaseJobs {
            pool: pool("gpu"),
            worker: "w".into(),
            max: 10,
            actions: Some(alloc::vec![ActionName::parse("render").unwrap()]),
            wait_ms,
        })
    };
    let (call, effects) = bench.send(only(0));
    assert_eq!(ids(&leased(call, &effects).unwrap()), [render]);
    let (call, effects) = bench.send(only(5000));
    assert_eq!(leased(call, &effects), None);
    assert_eq!(
        bench.state.next_tick(),
        Some(bench.now.plus(5000)),
        "what is ready for others does not wake it"
    );
    assert_eq!(take(&mut bench, 10).len(), 1);
}

#[test]
fn pools_that_wait_side_by_side_are_given_their_own_jobs() {
    let mut bench = Bench::new();
    let elsewhere = Call::Lease(LeaseJobs {
        pool: pool("cpu"),
        worker: "w".into(),
        max: 1,
        actions: None,
        wait_ms: 20_000,
    });
    let (cpu, _) = bench.send(elsewhere);
    let (gpu, _) = bench.send(asks("w", 1, 20_000));
    let (job, effects) = bench.enqueue(pulled());
    assert_eq!(leased(cpu, &effects), None);
    assert_eq!(ids(&leased(gpu, &effects).unwrap()), [job]);
}

#[test]
fn limits_hold_over_workers_and_executor_together() {
    let one = Rule::Concurrency { max: 1 };
    let mut bench = Bench::new();
    let mut own = under("l", one);
    own.job.policy.pool = None;
    let running = bench.start(own.clone());
    bench.enqueue(under("l", one));
    bench.enqueue(under("l", one));
    assert!(take(&mut bench, 10).is_empty());
    let (call, _) = bench.send(asks("w", 10, 20_000));
    let (_, effects) = bench.finish(&running, success());
    let jobs = leased(call, &effects).expect("the place that became free");
    assert_eq!(jobs.len(), 1, "and no more than that");
    let (_, effects) = bench.enqueue(own);
    assert!(executions(&effects).is_empty(), "the worker holds the place");
    assert!(take(&mut bench, 10).is_empty());
    bench.crash();
    assert!(take(&mut bench, 10).is_empty(), "after a recovery too");
}

#[test]
fn a_rate_holds_for_workers_and_wakes_those_that_wait() {
    let mut bench = Bench::new();
    let rate = Rule::Rate {
        units: 1,
        per_ms: 2000,
        burst: 1,
    };
    for _ in 0..2 {
        bench.enqueue(under("r", rate));
    }
    assert_eq!(take(&mut bench, 10).len(), 1);
    let (call, effects) = bench.send(asks("w", 10, 20_000));
    assert_eq!(leased(call, &effects), None);
    assert_eq!(bench.state.next_tick(), Some(bench.now.plus(2000)));
    bench.later(2000);
    assert_eq!(leased(call, &bench.tick()).map(|jobs| jobs.len()), Some(1));
}

#[test]
fn what_is_paused_is_leased_to_nobody_until_it_is_resumed() {
    let mut bench = Bench::new();
    let (job, _) = bench.enqueue(pulled());
    let (scope, caller) = (PauseScope::Tenant, operator());
    bench.call(Call::Pause { scope, caller }).0.unwrap();
    let (call, effects) = bench.send(asks("w", 10, 20_000));
    assert_eq!(leased(call, &effects), None);
    let (scope, caller) = (PauseScope::Tenant, operator());
    let (_, effects) = bench.call(Call::Resume { scope, caller });
    assert_eq!(ids(&leased(call, &effects).unwrap()), [job]);
}

#[test]
fn the_more_urgent_job_is_leased_first() {
    let mut bench = Bench::new();
    let (normal, _) = bench.enqueue(pulled());
    let mut urgent = pulled();
    urgent.job.queueing.priority = Priority::High;
    let (urgent, _) = bench.enqueue(urgent);
    assert_eq!(ids(&take(&mut bench, 2)), [urgent, normal]);
}

#[test]
fn workers_and_executor_have_places_of_their_own() {
    let mut bench = Bench::new();
    bench.compares = false;
    for _ in 0..=LEASED_MAX {
        bench.enqueue(pulled());
    }
    let mut held = 0;
    for _ in 0..20 {
        held += take(&mut bench, 100).len();
    }
    assert_eq!(held, LEASED_MAX);
    let (call, effects) = bench.send(asks("late", 1, 20_000));
    assert_eq!(leased(call, &effects), None);
    assert_eq!(
        bench.state.next_tick(),
        Some(bench.now.plus(20_000)),
        "no timer in vain"
    );
    for _ in 0..RUNNING_MAX {
        bench.start(plain());
    }
    let (_, effects) = bench.enqueue(plain());
    assert!(executions(&effects).is_empty());
    bench.compares = true;
    assert!(bench.state.mirrors(&bench.db).unwrap());
}

#[test]
fn calls_that_wait_are_bounded() {
    let mut bench = Bench::new();
    for number in 0..POLLS_MAX {
        bench.send(asks(&alloc::format!("w{number}"), 1, 20_000));
    }
    let (reply, _) = bench.call(asks("one-more", 1, 20_000));
    assert_eq!(code(&reply), ErrorCode::Unavailable);
}

#[test]
fn a_job_that_nobody_asks_for_ends_with_its_limit_of_time() {
    let mut bench = Bench::new();
    let mut enqueue = pulled();
    enqueue.job.policy.queue_timeout_ms = Some(5000);
    let (job, _) = bench.enqueue(enqueue);
    assert_eq!(bench.next_wake(), Some(bench.now.plus(5000)));
    bench.alarm();
    assert_eq!(bench.status(job), JobState::Expired);
    assert!(take(&mut bench, 1).is_empty());
}

#[test]
fn an_attempt_reads_its_input_under_its_lease_and_no_other() {
    let mut bench = Bench::new();
    let mut enqueue = large("payload");
    enqueue.job.policy.pool = Some(pool("gpu"));
    bench.enqueue(enqueue);
    let execute = take(&mut bench, 1).remove(0);
    let (job, token) = (execute.job, execute.token);
    let result = stored("payload");
    assert_eq!(bench.call(Call::Input { job, token }).0, Ok(Reply::Result { result }));
    bench.finish(&execute, Outcome::Snoozed { ms: 10 }).0.unwrap();
    assert_eq!(code(&bench.call(Call::Input { job, token }).0), ErrorCode::LeaseLost);
}

#[test]
fn the_queue_shows_pools_and_their_workers_and_why_says_what_is_missing() {
    let mut bench = Bench::new();
    let (first, _) = bench.enqueue(pulled());
    let waits = |asked_at| Reason::Worker {
        pool: pool("gpu"),
        asked_at,
    };
    assert_eq!(reasons(&mut bench, first), [waits(None)]);
    let (second, _) = bench.enqueue(pulled());
    take(&mut bench, 1);
    assert!(reasons(&mut bench, first).is_empty());
    assert_eq!(reasons(&mut bench, second).len(), 1);
    let shown = view(&mut bench);
    let [
        PoolQueue {
            waiting,
            leased,
            workers,
            ..
        },
    ] = shown.pools.as_slice()
    else {
        panic!("{shown:?}")
    };
    assert_eq!((*waiting, *leased, shown.running, shown.waiting), (1, 1, 1, 1));
    assert_eq!((workers[0].worker.as_str(), workers[0].seen_at), ("w", bench.now));
    bench.later(WORKER_SEEN_MS);
    assert!(view(&mut bench).pools[0].workers.is_empty());
}

#[test]
fn a_lane_of_a_pool_keeps_its_name_and_one_without_has_the_name_it_always_had() {
    use super::super::lanes::Shape;
    let name = Shape::of(&pulled().job).name().unwrap();
    assert_eq!(name, r#"gpu["a","normal",null,[]]"#);
    assert_eq!(Shape::parse(&name).unwrap(), Shape::of(&pulled().job));
    assert_eq!(Shape::of(&plain().job).name().unwrap(), r#"["a","normal",null,[]]"#);
}

#[test]
fn whoever_lost_a_lease_is_told_why() {
    let mut bench = Bench::new();
    let why = |bench: &mut Bench, job, token| match bench.finish_as(job, token, success()).0 {
        Err(error) => error.message.rsplit(": ").next().unwrap().to_owned(),
        other => panic!("{other:?}"),
    };
    let taken = |bench: &mut Bench| {
        bench.enqueue(pulled());
        let (call, effects) = bench.send(asks("w", 1, 0));
        let jobs = leased(call, &effects).unwrap();
        (jobs[0].job, jobs[0].token)
    };
    let (job, token) = taken(&mut bench);
    bench.later(LEASE_MS);
    bench.wake();
    assert_eq!(
        why(&mut bench, job, token),
        "it ran out or was given up, and the job waits for its next attempt."
    );
    let (call, effects) = bench.send(asks("v", 1, 0));
    let second = leased(call, &effects).unwrap()[0].token;
    assert_eq!(
        why(&mut bench, job, token),
        "it ran out, and another attempt has taken over."
    );
    bench.finish_as(job, second, success()).0.unwrap();
    assert_eq!(why(&mut bench, job, token), "the job has ended, as succeeded.");
    let (job, token) = taken(&mut bench);
    let caller = caller("ann");
    bench.call(Call::Cancel { job, caller }).0.unwrap();
    assert_eq!(why(&mut bench, job, token), "the job was cancelled.");
}
