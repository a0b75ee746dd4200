//! One job: paused, resumed, rescheduled; cancelled with a grace.

use proptest::prelude::*;
use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::executor::Outcome;
use tidegate_protocol::calls::jobs::{Call, Change, Enqueue, Reply};
use tidegate_protocol::calls::once::{Dedupe, DedupeRule, Once};
use tidegate_protocol::event::JobState;
use tidegate_protocol::http::{Job, Reason, Why};
use tidegate_protocol::ids::JobId;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::super::{Effect, RUNNING_MAX};
use super::bench::*;

const GRACE_MS: u64 = 4000;

fn try_change(bench: &mut Bench, job: JobId, change: Change) -> (Result<Job, Error>, alloc::vec::Vec<Effect>) {
    let caller = caller("ann");
    let (reply, effects) = bench.call(Call::Change { job, caller, change });
    let shown = reply.map(|reply| match reply {
        Reply::Job(job) => *job,
        other => panic!("{other:?}"),
    });
    (shown, effects)
}

fn change(bench: &mut Bench, job: JobId, what: Change) -> Job {
    try_change(bench, job, what).0.unwrap()
}

fn why(bench: &mut Bench, job: JobId) -> Why {
    let caller = caller("ann");
    match bench.call(Call::Why { job, caller }).0 {
        Ok(Reply::Why(text)) => serde_json::from_str(text.as_str()).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn cancel(bench: &mut Bench, job: JobId) -> alloc::vec::Vec<Effect> {
    let caller = caller("ann");
    let (reply, effects) = bench.call(Call::Cancel { job, caller });
    assert_eq!(reply, Ok(Reply::Done));
    effects
}

fn graceful() -> Enqueue {
    let mut enqueue = followed();
    enqueue.job.policy.cancel_grace_ms = GRACE_MS;
    enqueue
}

/// Until when a report says that the attempt may bring itself to an end.
fn told(reply: &Result<Reply, Error>) -> Option<UnixMs> {
    match reply {
        Ok(Reply::Continue { cancelled_until, .. }) => *cancelled_until,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_paused_job_does_not_start_until_it_is_resumed_crash_or_not() {
    let mut bench = Bench::new();
    let (job, _) = bench.enqueue(delayed(bench.now.plus(1000)));
    let since = bench.now;
    let shown = change(&mut bench, job, Change::Pause);
    assert_eq!((shown.status, shown.run_at), (JobState::Paused, None));
    let reason = Reason::PausedAlone {
        by: plain().job.user,
        since,
    };
    assert_eq!(why(&mut bench, job).waits_for, core::slice::from_ref(&reason));
    bench.later(3_600_000);
    assert!(executions(&bench.wake()).is_empty());
    bench.crash();
    assert!(executions(&bench.wake()).is_empty());
    assert_eq!(change(&mut bench, job, Change::Pause).status, JobState::Paused);
    assert_eq!(why(&mut bench, job).waits_for, [reason], "the first who paused it");
    let (shown, effects) = try_change(&mut bench, job, Change::Resume);
    assert_eq!(shown.unwrap().status, JobState::Scheduled);
    let execute = execution(&effects);
    assert_eq!((execute.job, execute.attempt), (job, 1));
    bench.finish(&execute, success()).0.unwrap();
    assert_eq!(bench.status(job), JobState::Succeeded);
}

#[test]
fn a_resumed_job_waits_where_it_waited() {
    let mut bench = Bench::new();
    let at = bench.now.plus(60_000);
    let (job, _) = bench.enqueue(delayed(at));
    change(&mut bench, job, Change::Pause);
    bench.later(1000);
    let shown = change(&mut bench, job, Change::Resume);
    assert_eq!((shown.status, shown.run_at), (JobState::Scheduled, Some(at)));
    bench.now = UnixMs(at.0 - 1);
    assert!(executions(&bench.wake()).is_empty(), "never early");
    assert_eq!(execution(&bench.alarm()).job, job);

    // One between its attempts goes on with the next.
    let execute = bench.start(plain());
    bench.finish(&execute, failure(true)).0.unwrap();
    change(&mut bench, execute.job, Change::Pause);
    bench.later(BACKOFF_MS * 5);
    assert!(executions(&bench.wake()).is_empty());
    let (shown, effects) = try_change(&mut bench, execute.job, Change::Resume);
    assert_eq!(shown.unwrap().status, JobState::Retrying);
    assert_eq!(execution(&effects).attempt, 2);
}

#[test]
fn a_paused_job_holds_up_none_behind_it() {
    let mut bench = Bench::new();
    let running: alloc::vec::Vec<_> = (0..RUNNING_MAX).map(|_| bench.start(plain())).collect();
    let (first, _) = bench.enqueue(plain());
    let (second, _) = bench.enqueue(plain());
    change(&mut bench, first, Change::Pause);
    let (_, effects) = bench.finish(&running[0], success());
    assert_eq!(execution(&effects).job, second);
    change(&mut bench, first, Change::Resume);
    let (_, effects) = bench.finish(&running[1], success());
    assert_eq!(execution(&effects).job, first);
}

#[test]
fn a_paused_job_can_be_cancelled_expires_and_is_listed() {
    let mut bench = Bench::new();
    let (job, _) = bench.enqueue(delayed(bench.now.plus(1000)));
    change(&mut bench, job, Change::Pause);
    assert_eq!(bench.get(job).status, JobState::Paused);
    assert_eq!(
        code(
            &bench
                .call(Call::Retry {
                    job,
                    caller: caller("ann"),
                    payload: None,
                })
                .0
        ),
        ErrorCode::Conflict
    );
    cancel(&mut bench, job);
    assert_eq!(bench.status(job), JobState::Cancelled);

    let mut enqueue = delayed(bench.now.plus(1000));
    enqueue.job.policy.queue_timeout_ms = Some(5000);
    let (job, _) = bench.enqueue(enqueue);
    change(&mut bench, job, Change::Pause);
    bench.later(5999);
    bench.wake();
    assert_eq!(bench.status(job), JobState::Paused);
    bench.later(1);
    bench.wake();
    assert_eq!(bench.status(job), JobState::Expired);
    assert_eq!(
        try_change(&mut bench, job, Change::Resume).0.unwrap_err().code,
        ErrorCode::Conflict
    );
}

#[test]
fn only_a_job_that_waits_can_be_changed_and_only_by_those_who_may() {
    let mut bench = Bench::new();
    let execute = bench.start(plain());
    for what in [Change::Pause, Change::Resume, Change::Reschedule(bench.now)] {
        let error = try_change(&mut bench, execute.job, what).0.unwrap_err();
        assert_eq!(error.code, ErrorCode::Conflict);
        assert!(error.message.contains("running"), "{}", error.message);
    }
    let (job, _) = bench.enqueue(delayed(bench.now.plus(1000)));
    let eve = caller("eve");
    let (reply, _) = bench.call(Call::Change {
        job,
        caller: eve.clone(),
        change: Change::Pause,
    });
    assert_eq!(code(&reply), ErrorCode::NotFound);
    let reader = Caller { reads_all: true, ..eve };
    let (reply, _) = bench.call(Call::Change {
        job,
        caller: reader,
        change: Change::Pause,
    });
    assert_eq!(code(&reply), ErrorCode::Forbidden);
    assert_eq!(bench.status(job), JobState::Scheduled);
}

#[test]
fn a_rescheduled_job_starts_at_its_new_time_earlier_or_later() {
    for (to_ms, from_ms) in [(120_000, 60_000), (5000, 60_000)] {
        let mut bench = Bench::new();
        let (job, _) = bench.enqueue(delayed(bench.now.plus(from_ms)));
        let at = bench.now.plus(to_ms);
        let shown = change(&mut bench, job, Change::Reschedule(at));
        assert_eq!((shown.status, shown.run_at), (JobState::Scheduled, Some(at)));
        bench.crash();
        bench.now = UnixMs(at.0 - 1);
        assert!(executions(&bench.wake()).is_empty());
        assert_eq!(execution(&bench.alarm()).job, job);
        assert_eq!(bench.now, at);
    }
}

#[test]
fn a_job_rescheduled_into_the_past_starts_now_and_a_queued_one_can_be_put_off() {
    let mut bench = Bench::new();
    let (job, _) = bench.enqueue(delayed(bench.now.plus(60_000)));
    let past = UnixMs(bench.now.0 - 60_000);
    let (_, effects) = try_change(&mut bench, job, Change::Reschedule(past));
    assert_eq!(execution(&effects).job, job);

    let running: alloc::vec::Vec<_> = (1..RUNNING_MAX).map(|_| bench.start(plain())).collect();
    let (queued, _) = bench.enqueue(plain());
    let at = bench.now.plus(1000);
    assert_eq!(
        change(&mut bench, queued, Change::Reschedule(at)).status,
        JobState::Scheduled
    );
    let (_, effects) = bench.finish(&running[0], success());
    assert!(executions(&effects).is_empty());
    assert_eq!(execution(&bench.alarm()).job, queued);
    assert_eq!(bench.now, at);
}

#[test]
fn a_paused_job_that_is_rescheduled_stays_paused() {
    let mut bench = Bench::new();
    let (job, _) = bench.enqueue(delayed(bench.now.plus(1000)));
    change(&mut bench, job, Change::Pause);
    let at = bench.now.plus(60_000);
    assert_eq!(change(&mut bench, job, Change::Reschedule(at)).status, JobState::Paused);
    bench.now = at.plus(1);
    assert!(executions(&bench.wake()).is_empty());
    assert_eq!(execution(&try_change(&mut bench, job, Change::Resume).1).job, job);
}

#[test]
fn limits_of_time_count_from_the_new_time_and_a_begun_job_cannot_outlast_its_own() {
    let mut bench = Bench::new();
    let mut enqueue = delayed(bench.now.plus(1000));
    enqueue.job.policy.queue_timeout_ms = Some(5000);
    let (job, _) = bench.enqueue(enqueue);
    let at = bench.now.plus(60_000);
    change(&mut bench, job, Change::Reschedule(at));
    bench.later(30_000);
    bench.wake();
    assert_eq!(bench.status(job), JobState::Scheduled, "its wait begins later");
    bench.now = at;
    let execute = execution(&bench.wake());
    bench.finish(&execute, success()).0.unwrap();

    let mut enqueue = plain();
    enqueue.job.policy.total_timeout_ms = Some(30_000);
    let execute = bench.start(enqueue);
    let ends = bench.now.plus(30_000);
    bench.finish(&execute, failure(true)).0.unwrap();
    let error = try_change(&mut bench, execute.job, Change::Reschedule(ends))
        .0
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
    change(&mut bench, execute.job, Change::Reschedule(UnixMs(ends.0 - 1)));
    bench.now = UnixMs(ends.0 - 1);
    assert_eq!(execution(&bench.wake()).attempt, 2);
}

/// A job of a dedupe rule, under the one key of these tests.
fn deduped(rule: DedupeRule) -> Enqueue {
    let mut enqueue = delayed(UnixMs(0));
    let key = "d".into();
    enqueue.job.once = Some(Once::Dedupe(Dedupe {
        key,
        rule,
        key_life: None,
    }));
    enqueue
}

#[test]
fn a_paused_job_is_replaced_and_taken_over_as_one_that_waits() {
    let mut bench = Bench::new();
    let mut enqueue = deduped(DedupeRule::ReplaceWaiting);
    enqueue.job.run_at = Some(bench.now.plus(1000));
    let (first, _) = bench.enqueue(enqueue.clone());
    change(&mut bench, first, Change::Pause);
    let (second, _) = bench.enqueue(enqueue);
    assert_eq!(bench.status(first), JobState::Cancelled);
    assert_eq!(bench.status(second), JobState::Scheduled);

    let mut bench = Bench::new();
    let enqueue = deduped(DedupeRule::KeepLast {
        wait_ms: 1000,
        max_wait_ms: 60_000,
    });
    let (job, _) = bench.enqueue(enqueue.clone());
    change(&mut bench, job, Change::Pause);
    bench.later(500);
    let mut last = enqueue;
    last.job.payload = value("2");
    assert_eq!(bench.enqueue(last).0, job);
    assert_eq!(bench.status(job), JobState::Paused);
    bench.crash();
    bench.later(60_000);
    assert!(executions(&bench.wake()).is_empty(), "a later request resumes nothing");
    let execute = execution(&try_change(&mut bench, job, Change::Resume).1);
    assert_eq!(execute.payload, value("2"));
}

#[test]
fn a_cancelled_attempt_hears_of_it_and_ends_within_its_grace() {
    let mut bench = Bench::new();
    let execute = bench.start(graceful());
    assert_eq!(execute.cancel_grace_ms, GRACE_MS);
    let until = bench.now.plus(GRACE_MS);
    let effects = cancel(&mut bench, execute.job);
    assert!(effects.iter().all(|effect| matches!(effect, Effect::Reply { .. })));
    assert_eq!(bench.status(execute.job), JobState::Running);
    assert_eq!(told(&bench.report(&execute, None, None).0), Some(until));
    bench.later(1000);
    cancel(&mut bench, execute.job);
    assert_eq!(
        told(&bench.report(&execute, Some(percent(5.0)), None).0),
        Some(until),
        "asked again, it has no longer"
    );
    let outcome = Outcome::Failed {
        error: Error::new(ErrorCode::Cancelled, "cleaned up"),
    };
    bench.finish(&execute, outcome).0.unwrap();
    let job = bench.get(execute.job);
    assert_eq!(
        (job.status, job.error.unwrap().code),
        (JobState::Cancelled, ErrorCode::Cancelled)
    );
    bench.later(GRACE_MS);
    bench.wake();
    assert_eq!(bench.get(execute.job).seq, job.seq, "it ends once");
}

#[test]
fn whatever_the_attempt_says_in_its_grace_the_job_ends_as_cancelled() {
    let outcomes = [
        success(),
        Outcome::Succeeded { result: stored("r") },
        failure(true),
        failure(false),
        Outcome::Unfinished,
        Outcome::Snoozed { ms: 5 },
    ];
    for outcome in outcomes {
        let mut bench = Bench::new();
        let execute = bench.start(graceful());
        cancel(&mut bench, execute.job);
        let (_, effects) = bench.finish(&execute, outcome.clone());
        assert_eq!(bench.status(execute.job), JobState::Cancelled, "{outcome:?}");
        let deleted = effects
            .iter()
            .any(|effect| matches!(effect, Effect::DeleteBlobs { .. }));
        assert_eq!(deleted, outcome == Outcome::Succeeded { result: stored("r") });
        bench.later(3_600_000);
        assert!(executions(&bench.wake()).is_empty());
    }
}

#[test]
fn an_attempt_that_does_not_listen_is_ended_by_force_crash_or_not() {
    for crashes in [false, true] {
        let mut bench = Bench::new();
        let execute = bench.start(graceful());
        bench.later(3000);
        cancel(&mut bench, execute.job);
        if crashes {
            bench.crash();
        }
        bench.later(GRACE_MS - 1);
        told(&bench.report(&execute, None, None).0);
        bench.wake();
        assert_eq!(bench.status(execute.job), JobState::Running);
        bench.later(1);
        assert!(bench.next_wake().unwrap() <= bench.now, "an alarm is set for it");
        bench.wake();
        assert_eq!(bench.status(execute.job), JobState::Cancelled);
        let (late, _) = bench.finish(&execute, success());
        assert_eq!(code(&late), ErrorCode::LeaseLost);
    }
}

#[test]
fn a_cancel_ends_the_lease_of_an_attempt_that_was_handed_over() {
    let mut bench = Bench::new();
    let execute = bench.start(graceful());
    bench.finish(&execute, Outcome::HandedOver).0.unwrap();
    cancel(&mut bench, execute.job);
    assert_eq!(
        told(&bench.report(&execute, None, None).0),
        Some(bench.now.plus(GRACE_MS)),
        "whoever goes on with it hears of it"
    );
    bench.later(GRACE_MS);
    bench.wake();
    assert_eq!(bench.status(execute.job), JobState::Cancelled);
}

#[derive(Debug, Clone)]
enum Step {
    Enqueue(u64),
    Change(usize, Change, u64),
    Cancel(usize),
    Finish(usize),
    Later(u64),
    Crash,
}

fn steps() -> impl Strategy<Value = alloc::vec::Vec<Step>> {
    let change = (0..6usize, 0..3u8, 0..8000u64).prop_map(|(at, what, ms)| {
        let what = match what {
            0 => Change::Pause,
            1 => Change::Resume,
            _ => Change::Reschedule(UnixMs(0)),
        };
        Step::Change(at, what, ms)
    });
    let step = prop_oneof![
        (0..4000u64).prop_map(Step::Enqueue),
        change,
        (0..6usize).prop_map(Step::Cancel),
        (0..6usize).prop_map(Step::Finish),
        (0..3000u64).prop_map(Step::Later),
        Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    /// A model of each job: its time and whether it is held back say alone when it starts.
    #[test]
    fn a_job_starts_at_its_last_time_and_never_while_it_is_paused(steps in steps()) {
        let mut bench = Bench::new();
        // Each job: when it may start, whether it is paused, and its attempt where it runs.
        let mut jobs: alloc::vec::Vec<(JobId, UnixMs, bool, Option<tidegate_protocol::calls::executor::Execute>, bool)> =
            alloc::vec::Vec::new();
        for step in steps {
            let mut effects = alloc::vec::Vec::new();
            match step {
                Step::Enqueue(ms) => {
                    let at = bench.now.plus(ms + 1);
                    let (job, done) = bench.enqueue({ let mut e = delayed(at); e.job.policy.cancel_grace_ms = ms % 2 * 500; e });
                    jobs.push((job, at, false, None, false));
                    effects = done;
                }
                Step::Change(at, what, ms) => {
                    let what = match what { Change::Reschedule(_) => Change::Reschedule(bench.now.plus(ms)), other => other };
                    if let Some((job, ..)) = jobs.get(at).cloned() {
                        let (shown, done) = try_change(&mut bench, job, what);
                        let (_, due, paused, attempt, ended) = &mut jobs[at];
                        prop_assert_eq!(shown.is_err(), attempt.is_some() || *ended);
                        if shown.is_ok() {
                            match what {
                                Change::Pause => *paused = true,
                                Change::Resume => *paused = false,
                                Change::Reschedule(at) => *due = at,
                            }
                        }
                        effects = done;
                    }
                }
                Step::Cancel(at) => {
                    if let Some((job, _, _, attempt, ended)) = jobs.get_mut(at) && !*ended {
                        let id = *job;
                        let graceful = attempt.as_ref().is_some_and(|execute| execute.cancel_grace_ms > 0);
                        if !graceful { *ended = true; *attempt = None; }
                        effects = cancel(&mut bench, id);
                    }
                }
                Step::Finish(at) => {
                    if let Some((_, _, _, attempt, ended)) = jobs.get_mut(at) && let Some(execute) = attempt.take() {
                        *ended = true;
                        effects = bench.finish(&execute, success()).1;
                    }
                }
                Step::Later(ms) => bench.later(ms),
                Step::Crash => bench.crash(),
            }
            effects.extend(bench.wake());
            for effect in &effects {
                if let Effect::Abandon { job, token } = effect {
                    let known = jobs.iter_mut().find(|(id, ..)| id == job).unwrap();
                    known.3.take_if(|execute| execute.token == *token);
                }
            }
            for execute in executions(&effects) {
                let known = jobs.iter_mut().find(|(job, ..)| *job == execute.job).unwrap();
                prop_assert!(known.1 <= bench.now && !known.2 && !known.4, "{:?}", known);
                prop_assert!(known.3.is_none());
                known.3 = Some(execute);
            }
            for (job, due, paused, attempt, ended) in &mut jobs {
                let status = bench.status(*job);
                if status == JobState::Cancelled { *ended = true; *attempt = None; }
                prop_assert!(status.is_ended() == *ended);
                prop_assert_eq!(status == JobState::Paused, *paused && !*ended);
                prop_assert!(*ended || *paused || attempt.is_some() || *due > bench.now, "{} waits for nothing", job);
            }
        }
    }
}
