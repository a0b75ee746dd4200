//! What holds jobs back: limits with their keys, throttles, pauses. And what is said of it.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use proptest::prelude::*;
use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::executor::{Execute, Outcome};
use tidegate_protocol::calls::jobs::{Call, Enqueue, Reply};
use tidegate_protocol::calls::queueing::{ActionPattern, Counted, PauseScope, Rule, Share, WhenFull};
use tidegate_protocol::event::JobState;
use tidegate_protocol::http::{Reason, Why};
use tidegate_protocol::ids::{ActionName, JobId};
use tidegate_protocol::time::UnixMs;

use super::super::RUNNING_MAX;
use super::bench::{
    BACKOFF_MS, Bench, LEASE_MS, caller, code, delayed, executions, failure, percent, plain, rung, success, waiting,
};
use tidegate_protocol::SortedMap;

fn concurrency(limit: &str, key: &str, max: u32) -> Counted {
    Counted {
        limit: limit.into(),
        key: key.into(),
        rule: Rule::Concurrency { max },
        cost: 1,
        when_full: WhenFull::Wait,
    }
}

fn throttle(units: u32, per_ms: u64, burst: u32, cost: u32) -> Counted {
    Counted {
        rule: Rule::Rate { units, per_ms, burst },
        cost,
        ..concurrency("rate", "", 1)
    }
}

fn under(limits: &[Counted]) -> Enqueue {
    let mut enqueue = plain();
    enqueue.job.queueing.limits = limits.to_vec();
    enqueue
}

fn operator() -> Caller {
    Caller {
        reads_all: true,
        writes_all: true,
        ..caller("op")
    }
}

fn why(bench: &mut Bench, job: JobId) -> Why {
    match bench
        .call(Call::Why {
            job,
            caller: operator(),
        })
        .0
    {
        Ok(Reply::Why(why)) => serde_json::from_str(why.as_str()).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn pause(bench: &mut Bench, scope: PauseScope) {
    let reply = bench.call(Call::Pause {
        scope,
        caller: operator(),
    });
    assert_eq!(reply.0, Ok(Reply::Done));
}

fn resume(bench: &mut Bench, scope: PauseScope) -> Vec<Execute> {
    let (reply, effects) = bench.call(Call::Resume {
        scope,
        caller: operator(),
    });
    assert_eq!(reply, Ok(Reply::Done));
    executions(&effects)
}

#[test]
fn the_strictest_of_all_limits_wins_and_a_freed_place_is_taken_at_once() {
    let mut bench = Bench::new();
    let limits = |key: &str| [concurrency("tenant", "", 3), concurrency("customer", key, 2)];
    let running: Vec<Execute> = (0..2).map(|_| bench.start(under(&limits("a")))).collect();
    let third = bench.enqueue(under(&limits("a"))).0;
    assert_eq!(bench.status(third), JobState::Queued);
    // Another key has room, up to the limit of all.
    let other = bench.start(under(&limits("b")));
    let last = bench.enqueue(under(&limits("b"))).0;
    assert_eq!(bench.status(last), JobState::Queued);
    // A place for `a` frees one of the tenant too: the one that has waited longest and may.
    let started = executions(&bench.finish(&running[0], success()).1);
    assert_eq!(started.iter().map(|e| e.job).collect::<Vec<_>>(), [third]);
    let started = executions(&bench.finish(&other, success()).1);
    assert_eq!(started.iter().map(|e| e.job).collect::<Vec<_>>(), [last]);
}

#[test]
fn a_lost_lease_and_a_crash_leak_no_place() {
    let mut bench = Bench::new();
    let first = bench.start(under(&[concurrency("one", "", 1)]));
    let second = bench.enqueue(under(&[concurrency("one", "", 1)])).0;
    bench.crash();
    assert_eq!(bench.status(second), JobState::Queued);
    // The lease runs out: one of the two has the place.
    bench.later(LEASE_MS);
    let started = executions(&bench.alarm());
    assert_eq!(started.len(), 1);
    assert_eq!(code(&bench.finish(&first, success()).0), ErrorCode::LeaseLost);
    let next = executions(&bench.finish(&started[0], success()).1);
    assert_eq!(next.len(), 1);
    assert_eq!(bench.state.running(), 1);
}

#[test]
fn a_job_that_waits_for_its_next_attempt_holds_no_place() {
    let mut bench = Bench::new();
    let first = bench.start(under(&[concurrency("one", "", 1)]));
    let second = bench.enqueue(under(&[concurrency("one", "", 1)])).0;
    let started = executions(&bench.finish(&first, failure(true)).1);
    assert_eq!(started[0].job, second);
    bench.later(2 * BACKOFF_MS);
    assert!(
        executions(&bench.wake()).is_empty(),
        "the next attempt waits for the place"
    );
    let again = executions(&bench.finish(&started[0], success()).1);
    assert_eq!((again[0].job, again[0].attempt), (first.job, 2));
}

#[test]
fn a_job_without_a_row_holds_its_place_too() {
    let mut bench = Bench::new();
    let mut quick = waiting(1000);
    quick.job.queueing.limits = [concurrency("one", "", 1)].to_vec();
    let (_, effects) = bench.send(Call::Enqueue(Box::new(quick)));
    let first = executions(&effects).remove(0);
    let second = bench.enqueue(under(&[concurrency("one", "", 1)])).0;
    assert_eq!(bench.status(second), JobState::Queued);
    assert_eq!(executions(&bench.finish(&first, success()).1)[0].job, second);
}

#[test]
fn the_newest_rule_holds_for_all_and_outlives_a_crash() {
    let mut bench = Bench::new();
    let two = [concurrency("l", "", 2)];
    let running: Vec<Execute> = (0..2).map(|_| bench.start(under(&two))).collect();
    bench.enqueue(under(&two));
    // Lowered: one place free is none.
    let lowered = bench.enqueue(under(&[concurrency("l", "", 1)])).0;
    bench.crash();
    assert!(executions(&bench.finish(&running[0], success()).1).is_empty());
    assert_eq!(bench.status(lowered), JobState::Queued);
    // Raised: both may.
    let (_, effects) = bench.enqueue(under(&[concurrency("l", "", 9)]));
    assert_eq!(executions(&effects).len(), 3);
}

#[test]
fn a_full_limit_refuses_where_it_says_so_and_nothing_is_consumed() {
    let mut bench = Bench::new();
    let refusing = || Counted {
        when_full: WhenFull::Refuse,
        ..concurrency("single", "k", 1)
    };
    let first = bench.start(under(&[refusing()]));
    let rows = bench.count("SELECT count(*) FROM job");
    let (reply, _) = bench.call(Call::Enqueue(Box::new(under(&[refusing()]))));
    let error = reply.unwrap_err();
    assert_eq!(error.code, ErrorCode::QueueFull);
    assert!(error.message.contains("single") && error.retry_after_ms.is_some());
    assert_eq!(bench.count("SELECT count(*) FROM job"), rows);
    bench.finish(&first, success()).0.unwrap();
    bench.start(under(&[refusing()]));
}

/// One job at once for the key, the newest.
fn replacing() -> Counted {
    Counted {
        when_full: WhenFull::Replace,
        ..concurrency("latest", "k", 1)
    }
}

#[test]
fn a_full_limit_replaces_the_oldest_where_it_says_so() {
    let mut bench = Bench::new();
    let first = bench.start(under(&[replacing()]));
    let second = bench.start(under(&[replacing()]));
    let ended = bench.get(first.job);
    assert_eq!(ended.status, JobState::Cancelled);
    assert!(ended.error.unwrap().message.contains("latest"));
    assert_eq!(code(&bench.finish(&first, success()).0), ErrorCode::LeaseLost);
    assert_eq!(bench.status(second.job), JobState::Running);
}

#[test]
fn what_is_replaced_in_the_turn_in_which_it_began_is_not_run() {
    let mut bench = Bench::new();
    let both = [(), ()].map(|()| Call::Enqueue(Box::new(under(&[replacing()]))));
    let (_, effects) = bench.send_all(both);
    let started = executions(&effects);
    assert_eq!(started.len(), 1, "{effects:?}");
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, crate::jobs::Effect::Abandon { .. }))
    );
    assert_eq!(bench.status(started[0].job), JobState::Running);
    assert_eq!(
        bench.count("SELECT count(*) FROM job"),
        2,
        "both have an end to be asked for"
    );
}

#[test]
fn more_of_an_action_than_may_wait_are_refused() {
    let mut bench = Bench::new();
    let bounded = || {
        let mut enqueue = under(&[concurrency("one", "", 1)]);
        enqueue.job.queueing.waiting_max = Some(2);
        enqueue
    };
    bench.start(bounded());
    let waits = [bench.enqueue(bounded()).0, bench.enqueue(bounded()).0];
    assert_eq!(
        code(&bench.call(Call::Enqueue(Box::new(bounded()))).0),
        ErrorCode::QueueFull
    );
    // Another action has its own bound.
    let mut other = bounded();
    other.job.action = ActionName::parse("other").unwrap();
    bench.enqueue(other);
    bench
        .call(Call::Cancel {
            job: waits[0],
            caller: operator(),
        })
        .0
        .unwrap();
    bench.enqueue(bounded());
}

#[test]
fn starts_of_a_throttle_keep_their_distance_across_crashes() {
    let mut bench = Bench::new();
    let slow = || under(&[throttle(2, 1000, 1, 1)]);
    bench.start(slow());
    for _ in 0..3 {
        bench.enqueue(slow());
    }
    let begin = bench.now;
    let mut starts = Vec::new();
    for _ in 0..6 {
        // The alarm that was set outlives the object.
        let alarm = bench.next_wake().unwrap();
        bench.crash();
        bench.now = bench.now.max(alarm);
        starts.extend(executions(&bench.wake()).iter().map(|_| bench.now.since(begin)));
        starts.truncate(3);
    }
    assert_eq!(starts, [500, 1000, 1500]);
}

#[test]
fn a_start_of_a_throttle_is_not_early_by_a_part_of_a_millisecond() {
    let mut bench = Bench::new();
    let third = || under(&[throttle(3, 1000, 1, 1)]);
    bench.start(third());
    for _ in 0..3 {
        bench.enqueue(third());
    }
    let begin = bench.now;
    let mut starts = Vec::new();
    while starts.len() < 3 {
        bench.now = bench.now.max(bench.next_wake().unwrap());
        starts.extend(executions(&bench.wake()).iter().map(|_| bench.now.since(begin)));
    }
    // A third of a second after the start before, 333.334 ms, and no millisecond sooner.
    assert_eq!(starts, [334, 667, 1001]);
}

#[test]
fn a_throttle_lets_a_burst_through_and_counts_units() {
    let mut bench = Bench::new();
    let of = |cost| under(&[throttle(1, 1000, 5, cost)]);
    bench.start(of(3));
    bench.start(of(2));
    let third = bench.enqueue(of(4)).0;
    assert_eq!(
        why(&mut bench, third).waits_for,
        [Reason::Throttled {
            limit: "rate".to_string(),
            key: "".to_string(),
            until: bench.now.plus(4000)
        }]
    );
    bench.later(3999);
    assert!(executions(&bench.wake()).is_empty());
    bench.later(1);
    assert_eq!(executions(&bench.wake())[0].job, third);
    // What costs more than the whole burst starts once the whole burst is there.
    let dear = bench.enqueue(of(50)).0;
    bench.later(5000);
    assert_eq!(executions(&bench.wake())[0].job, dear);
}

#[test]
fn keys_of_a_throttle_whose_time_has_passed_are_forgotten() {
    let mut bench = Bench::new();
    bench.compares = false;
    for n in 0..20_000_u32 {
        let mut counted = throttle(1, 1000, 1, 1);
        counted.key = n.to_string();
        let execute = bench.start(under(&[counted]));
        bench.finish(&execute, success()).0.unwrap();
        bench.later(1);
    }
    assert!(bench.count("SELECT count(*) FROM limit_arrival") <= 8192 + 1000);
}

#[test]
fn a_pause_holds_back_what_waits_and_survives_a_crash() {
    let mut bench = Bench::new();
    let named = |name: &str| {
        let mut enqueue = plain();
        enqueue.job.action = ActionName::parse(name).unwrap();
        enqueue
    };
    let scope = PauseScope::Action(ActionPattern::parse("mail.*").unwrap());
    let runs = bench.start(named("mail.send"));
    pause(&mut bench, scope.clone());
    let held = bench.enqueue(named("mail.send")).0;
    bench.start(named("report"));
    bench.crash();
    bench.wake();
    assert_eq!(bench.status(held), JobState::Queued);
    assert!(matches!(&why(&mut bench, held).waits_for[..], [Reason::Paused(pause)] if pause.scope == scope));
    // What runs goes on to its end.
    bench.finish(&runs, success()).0.unwrap();
    assert_eq!(resume(&mut bench, scope)[0].job, held);
}

#[test]
fn a_tenant_and_a_key_can_be_paused_and_each_pause_holds_by_itself() {
    let mut bench = Bench::new();
    let mut keyed = plain();
    keyed.job.queueing.share = Some(Share {
        key: "ann".into(),
        weight: 1,
    });
    pause(&mut bench, PauseScope::Tenant);
    pause(&mut bench, PauseScope::Key("ann".into()));
    let held = bench.enqueue(keyed).0;
    let other = bench.enqueue(plain()).0;
    assert_eq!(why(&mut bench, held).waits_for.len(), 2);
    assert_eq!(resume(&mut bench, PauseScope::Tenant)[0].job, other);
    assert_eq!(bench.status(held), JobState::Queued);
    assert_eq!(resume(&mut bench, PauseScope::Key("ann".into()))[0].job, held);
}

#[test]
fn pausing_takes_the_right_to_write_all_jobs() {
    let mut bench = Bench::new();
    for call in [
        Call::Pause {
            scope: PauseScope::Tenant,
            caller: caller("ann"),
        },
        Call::Resume {
            scope: PauseScope::Tenant,
            caller: caller("ann"),
        },
        Call::Queue { caller: caller("ann") },
    ] {
        assert_eq!(code(&bench.call(call).0), ErrorCode::Forbidden);
    }
    bench.start(plain());
}

#[test]
fn a_doorbell_starts_nothing_that_something_else_holds_back() {
    let mut bench = Bench::new();
    pause(&mut bench, PauseScope::Tenant);
    let job = bench.enqueue(rung()).0;
    let (_, effects) = bench.call(Call::Start { job });
    assert!(executions(&effects).is_empty());
    // The bell has rung: the resume starts it, without the grace.
    assert_eq!(resume(&mut bench, PauseScope::Tenant)[0].job, job);
}

#[test]
fn why_names_all_that_a_job_waits_for() {
    let mut bench = Bench::new();
    let limits = [concurrency("one", "k", 1)];
    let holder = bench.start(under(&limits));
    let mut delayed = delayed(bench.now.plus(5000));
    delayed.job.queueing.limits = limits.to_vec();
    let first = bench.enqueue(under(&limits)).0;
    let second = bench.enqueue(under(&limits)).0;
    let later = bench.enqueue(delayed).0;
    let limit = Reason::Limit {
        limit: "one".into(),
        key: "k".into(),
        max: 1,
        held_by: [holder.job].to_vec(),
    };
    assert_eq!(why(&mut bench, first).waits_for, core::slice::from_ref(&limit));
    assert_eq!(
        why(&mut bench, second).waits_for,
        [limit.clone(), Reason::Behind { ahead: 1 }]
    );
    let until = bench.now.plus(5000);
    assert_eq!(
        why(&mut bench, later).waits_for,
        [Reason::Delayed { until }, limit, Reason::Behind { ahead: 2 }]
    );
    assert!(why(&mut bench, holder.job).waits_for.is_empty());
    // Another user's job is not there, and is not named either.
    let reply = bench.call(Call::Why {
        job: first,
        caller: caller("eve"),
    });
    assert_eq!(code(&reply.0), ErrorCode::NotFound);
}

#[test]
fn why_tells_of_places_doorbells_and_retries() {
    let mut bench = Bench::new();
    let mut running: Vec<Execute> = (0..RUNNING_MAX).map(|_| bench.start(plain())).collect();
    let waits = bench.enqueue(plain()).0;
    assert_eq!(why(&mut bench, waits).waits_for, [Reason::Places { running: 128 }]);
    let failed = running.remove(0);
    bench.finish(&failed, failure(true)).0.unwrap();
    let rung = bench.enqueue(rung()).0;
    assert!(matches!(
        why(&mut bench, failed.job).waits_for[0],
        Reason::Retrying { .. }
    ));
    assert!(matches!(why(&mut bench, rung).waits_for[0], Reason::Doorbell { .. }));
}

#[test]
fn a_newer_job_does_not_overtake_one_that_waits_at_a_throttle() {
    let mut bench = Bench::new();
    let slow = || under(&[throttle(1, 1000, 1, 1)]);
    bench.start(slow());
    let older = bench.enqueue(slow()).0;
    // There is room again, and the alarm is some milliseconds late: a request comes first.
    bench.later(1005);
    let (_, effects) = bench.enqueue(slow());
    let started: Vec<JobId> = executions(&effects).iter().map(|execute| execute.job).collect();
    assert_eq!(started, [older]);
}

#[test]
fn a_job_that_cannot_start_replaces_nothing() {
    let mut bench = Bench::new();
    let first = bench.start(under(&[replacing()]));
    pause(&mut bench, PauseScope::Tenant);
    bench.enqueue(under(&[replacing()]));
    assert_eq!(bench.status(first.job), JobState::Running);
}

#[test]
fn a_newer_job_replaces_one_without_a_row_too() {
    let mut bench = Bench::new();
    let mut quick = waiting(1000);
    quick.job.queueing.limits = [replacing()].to_vec();
    bench.send(Call::Enqueue(Box::new(quick)));
    let newer = bench.enqueue(under(&[replacing()])).0;
    assert_eq!(bench.status(newer), JobState::Running);
}

#[test]
fn a_throttle_gives_as_many_starts_as_it_says_whatever_its_interval() {
    for units in [300, 700] {
        let mut bench = Bench::new();
        bench.compares = false;
        let of = || under(&[throttle(units, 1000, 1, 1)]);
        let begin = bench.now;
        let mut running: Vec<Execute> = [bench.start(of())].to_vec();
        for _ in 0..units + 5 {
            bench.enqueue(of());
        }
        let mut starts = 1;
        loop {
            for execute in running.drain(..) {
                bench.finish(&execute, success()).0.unwrap();
            }
            running = executions(&bench.alarm());
            if bench.now.since(begin) > 1000 {
                break;
            }
            starts += u32::try_from(running.len()).unwrap();
        }
        assert!(
            (units - 1..=units + 1).contains(&starts),
            "{starts} in a second, not {units}"
        );
    }
}

/// What a property test does next.
#[derive(Debug, Clone)]
enum Step {
    Enqueue { key: u8, group: u8, max: u32 },
    Finish { which: usize, how: u8 },
    Cancel { which: usize },
    Pause { key: u8 },
    Resume { key: u8 },
    Later { ms: u64 },
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u8..4, 0_u8..2, 1_u32..4).prop_map(|(key, group, max)| Step::Enqueue { key, group, max }),
        5 => (0_usize..64, 0_u8..3).prop_map(|(which, how)| Step::Finish { which, how }),
        1 => (0_usize..64).prop_map(|which| Step::Cancel { which }),
        1 => (0_u8..4).prop_map(|key| Step::Pause { key }),
        1 => (0_u8..4).prop_map(|key| Step::Resume { key }),
        2 => (0_u64..4000).prop_map(|ms| Step::Later { ms }),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 32, ..ProptestConfig::default() })]

    /// Whatever happens: no limit is exceeded by a start, nothing that is paused starts, nothing that may start waits,
    /// and in the end every place is free.
    #[test]
    fn limits_hold_and_waste_nothing(steps in proptest::collection::vec(step(), 1..80)) {
        let mut bench = Bench::new();
        let mut jobs: SortedMap<JobId, (u8, u8)> = SortedMap::new();
        let mut running: SortedMap<JobId, Execute> = SortedMap::new();
        let mut max_of = SortedMap::from([(0_u8, 3_u32), (1, 3)]);
        let mut paused: Vec<u8> = Vec::new();
        for step in steps {
            let before: Vec<JobId> = running.keys().copied().collect();
            let effects = match step {
                Step::Enqueue { key, group, max } => {
                    let mut enqueue = under(&[
                        concurrency(&format!("group-{group}"), "", max),
                        concurrency("key", &key.to_string(), 2),
                    ]);
                    enqueue.job.queueing.share = Some(Share { key: key.to_string(), weight: 1 });
                    max_of.insert(group, max);
                    let (job, effects) = bench.enqueue(enqueue);
                    jobs.insert(job, (key, group));
                    effects
                }
                Step::Finish { which, how } => {
                    let Some(execute) = running.values().nth(which % running.len().max(1)).cloned() else { continue };
                    running.remove(&execute.job);
                    let outcome = match how {
                        0 => success(),
                        1 => failure(true),
                        _ => Outcome::Unfinished,
                    };
                    bench.finish(&execute, outcome).1
                }
                Step::Cancel { which } => {
                    let Some(job) = jobs.keys().nth(which % jobs.len().max(1)).copied() else { continue };
                    running.remove(&job);
                    bench.call(Call::Cancel { job, caller: operator() }).1
                }
                Step::Pause { key } => {
                    paused.push(key);
                    pause(&mut bench, PauseScope::Key(key.to_string()));
                    Vec::new()
                }
                Step::Resume { key } => {
                    paused.retain(|own| *own != key);
                    let started = resume(&mut bench, PauseScope::Key(key.to_string()));
                    running.extend(started.into_iter().map(|execute| (execute.job, execute)));
                    Vec::new()
                }
                Step::Later { ms } => {
                    bench.later(ms);
                    // A lease that ran out is another attempt.
                    let effects = bench.wake();
                    let still = bench.numbers("SELECT number FROM job WHERE state = 3");
                    running.retain(|job, _| still.contains(&job.number().0));
                    effects
                }
                Step::Crash => {
                    bench.crash();
                    bench.wake()
                }
            };
            for execute in executions(&effects) {
                prop_assert!(!paused.contains(&jobs[&execute.job].0), "a paused job started");
                running.insert(execute.job, execute);
            }
            let count = |what: &dyn Fn(&(u8, u8)) -> bool| {
                u32::try_from(running.keys().filter(|job| what(&jobs[*job])).count()).unwrap()
            };
            for key in 0..4 {
                prop_assert!(count(&|job| job.0 == key) <= 2);
            }
            for (group, max) in &max_of {
                // A rule that was lowered ends nothing; it starts nothing either.
                let new = running.keys().any(|job| !before.contains(job) && jobs[job].1 == *group);
                prop_assert!(!new || count(&|job| job.1 == *group) <= *max);
            }
            let numbers = bench.numbers("SELECT number FROM job WHERE state = 1 ORDER BY number");
            let idle: Vec<JobId> = jobs.keys().copied().filter(|job| numbers.contains(&job.number().0)).collect();
            for job in idle {
                let (key, group) = jobs[&job];
                let room = count(&|job| job.0 == key) < 2 && count(&|job| job.1 == group) < max_of[&group];
                prop_assert!(!room || paused.contains(&key), "{job} may start, and waits");
            }
        }
    }
}

/// What a property test asks for.
#[derive(Debug, Clone)]
enum Ask {
    Enqueue { key: u8, delayed: bool },
    Finish { which: usize, how: u8 },
    Report { which: usize, checkpoint: bool },
}

fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        3 => (0_u8..3, any::<bool>()).prop_map(|(key, delayed)| Ask::Enqueue { key, delayed }),
        3 => (0_usize..16, 0_u8..4).prop_map(|(which, how)| Ask::Finish { which, how }),
        1 => (0_usize..16, any::<bool>()).prop_map(|(which, checkpoint)| Ask::Report { which, checkpoint }),
    ]
}

/// The call that is asked for, where there is an attempt for it.
fn call_of(ask: &Ask, now: UnixMs, running: &mut Vec<Execute>) -> Option<Call> {
    Some(match ask {
        Ask::Enqueue { key, delayed } => {
            let mut enqueue = under(&[concurrency("key", &key.to_string(), 2), concurrency("all", "", 4)]);
            enqueue.job.run_at = delayed.then(|| now.plus(5000));
            Call::Enqueue(Box::new(enqueue))
        }
        Ask::Finish { which, how } => {
            let execute = running.remove(which.checked_rem(running.len())?);
            let outcome = match how {
                0 | 1 => success(),
                2 => failure(true),
                _ => Outcome::Unfinished,
            };
            let (job, token) = (execute.job, execute.token);
            Call::Finish { job, token, outcome }
        }
        Ask::Report { which, checkpoint } => {
            let execute = running.get(which.checked_rem(running.len())?)?;
            Call::Report {
                job: execute.job,
                token: execute.token,
                progress: Some(percent(1.0)),
                checkpoint: checkpoint.then(|| "c".into()),
                notes: None,
            }
        }
    })
}

/// Every row, as far as a turn decides it.
fn rows(bench: &Bench) -> Vec<Vec<u64>> {
    use crate::database::Database;

    let sql = "SELECT number, tail, state, due_at, token, attempt, attempt_until, losses, seq, changed_at, ended_at
        FROM job ORDER BY number";
    let rows = bench.db.run(sql, &[]).unwrap();
    let read = |mut row: crate::database::Row| (0..11).map(|_| row.optional_number().unwrap().unwrap_or(0)).collect();
    rows.into_iter().map(read).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 48, ..ProptestConfig::default() })]

    /// A batch of calls decided in one turn comes to what its calls come to one by one.
    #[test]
    fn calls_of_one_turn_come_to_what_they_come_to_one_by_one(
        rounds in proptest::collection::vec((proptest::collection::vec(ask(), 1..8), 0_u64..4000), 1..12),
    ) {
        let (mut together, mut apart) = (Bench::new(), Bench::new());
        let mut running: Vec<Execute> = Vec::new();
        for (asks, pause) in rounds {
            let now = apart.now;
            let mut there = running.clone();
            let calls: Vec<Call> = asks.iter().filter_map(|ask| call_of(ask, now, &mut there)).collect();
            together.send_all(calls.clone());
            for call in calls {
                if let Call::Finish { job, .. } = &call {
                    running.retain(|execute| execute.job != *job);
                }
                running.extend(executions(&apart.send(call).1));
            }
            prop_assert_eq!(rows(&together), rows(&apart));
            for bench in [&mut together, &mut apart] {
                bench.later(pause);
            }
            together.wake();
            running.extend(executions(&apart.wake()));
            let alive = apart.numbers("SELECT number FROM job WHERE state = 3");
            running.retain(|execute| alive.contains(&execute.job.number().0));
        }
    }
}
