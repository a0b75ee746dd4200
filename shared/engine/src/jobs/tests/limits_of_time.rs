//! Limits of time, each from the moment it counts from: for the first attempt, for the whole, for silence. And runs that
//! put themselves off.

use alloc::boxed::Box;
use alloc::vec::Vec;

use tidegate_protocol::calls::executor::{Execute, Outcome};
use tidegate_protocol::calls::jobs::{Call, Enqueue, Reply};
use tidegate_protocol::error::{Retry, TimeLimit};
use tidegate_protocol::event::{Happening, JobState};
use tidegate_protocol::{Error, ErrorCode};

use super::super::{Effect, RUNNING_MAX, SNOOZES_MAX, TURN_ROWS_MAX};
use super::bench::*;

const LIMIT_MS: u64 = 4000;

fn within_queue(mut enqueue: Enqueue, ms: u64) -> Enqueue {
    enqueue.job.policy.queue_timeout_ms = Some(ms);
    enqueue
}

fn within_total(mut enqueue: Enqueue, ms: u64) -> Enqueue {
    enqueue.job.policy.total_timeout_ms = Some(ms);
    enqueue
}

fn within_silence(mut enqueue: Enqueue, ms: u64) -> Enqueue {
    enqueue.job.policy.heartbeat_timeout_ms = Some(ms);
    enqueue
}

/// Takes every place, with jobs whose leases last.
fn fill_up(bench: &mut Bench) -> Vec<Execute> {
    let mut lasting = plain();
    lasting.job.policy.lease_ms = 1000 * LEASE_MS;
    (0..RUNNING_MAX).map(|_| bench.start(lasting.clone())).collect()
}

/// The errors that ended jobs, as the followers were told.
fn ends(effects: &[Effect]) -> Vec<Error> {
    let told = deliveries(effects).into_iter();
    told.filter_map(|delivery| match delivery.event.what {
        Happening::Failed { error } => Some(error),
        _ => None,
    })
    .collect()
}

/// Nothing ends until `ms` have passed; then, the alarm does what it does. Crashes make no difference.
fn not_before(bench: &mut Bench, ms: u64) -> Vec<Effect> {
    pass(bench, ms);
    assert_eq!(
        bench.next_wake().map(|at| at <= bench.now),
        Some(true),
        "the alarm is there in time"
    );
    bench.wake()
}

/// Nothing ends while `ms` pass, with every alarm on the way but the last, and a crash before each.
fn pass(bench: &mut Bench, ms: u64) {
    let due = bench.now.plus(ms);
    while bench.now < due {
        let next = bench.next_wake().expect("a limit has an alarm").min(due);
        assert!(next > bench.now || next == due, "an alarm that is over and over due");
        bench.now = next.max(bench.now.plus(1)).min(due);
        bench.crash();
        if bench.now < due {
            assert!(ends(&bench.wake()).is_empty(), "an end before its time");
        }
    }
}

#[test]
fn a_job_that_waits_too_long_for_its_first_attempt_expires_and_never_runs() {
    let mut bench = Bench::new();
    let places = fill_up(&mut bench);
    let (job, _) = bench.enqueue(within_queue(followed(), LIMIT_MS));
    assert_eq!(bench.status(job), JobState::Queued);
    let effects = not_before(&mut bench, LIMIT_MS);
    assert_eq!(ends(&effects), [Error::expired(TimeLimit::Queue, LIMIT_MS)]);
    assert_eq!((bench.status(job), bench.get(job).attempt), (JobState::Expired, 0));
    assert_eq!(bench.state.waiting(), 0);
    let (_, effects) = bench.finish(&places[0], success());
    assert!(executions(&effects).is_empty());
    assert!(ends(&bench.wake()).is_empty(), "it ends once");
}

#[test]
fn the_wait_for_the_first_attempt_counts_from_when_the_job_may_start() {
    let mut bench = Bench::new();
    let in_time = within_queue(delayed(bench.now.plus(20_000)), 1000);
    let (job, _) = bench.enqueue(in_time);
    pass(&mut bench, 19_999);
    bench.later(1);
    assert_eq!(execution(&bench.wake()).job, job);

    let mut bench = Bench::new();
    fill_up(&mut bench);
    let mut late = within_queue(delayed(bench.now.plus(20_000)), 1000);
    late.follower = followed().follower;
    let (job, _) = bench.enqueue(late);
    let effects = not_before(&mut bench, 21_000);
    assert_eq!(ends(&effects), [Error::expired(TimeLimit::Queue, 1000)]);
    assert_eq!(bench.status(job), JobState::Expired);
}

#[test]
fn the_limit_on_waiting_is_over_with_the_first_attempt() {
    let mut bench = Bench::new();
    let execute = bench.start(within_queue(followed(), 500));
    bench.later(600);
    assert!(ends(&bench.wake()).is_empty());
    bench.finish(&execute, failure(true)).0.unwrap();
    bench.later(BACKOFF_MS);
    assert_eq!(
        execution(&bench.wake()).attempt,
        2,
        "a wait between attempts is no wait for the first"
    );

    let mut bench = Bench::new();
    let places = fill_up(&mut bench);
    let (job, _) = bench.enqueue(within_queue(followed(), LIMIT_MS));
    let (_, effects) = bench.finish(&places[0], success());
    assert_eq!(execution(&effects).job, job);
    bench.later(LIMIT_MS);
    assert!(ends(&bench.wake()).is_empty());
    assert_eq!(bench.status(job), JobState::Running);
}

#[test]
fn a_job_that_takes_too_long_loses_its_attempt_and_fails_with_the_limit() {
    let mut bench = Bench::new();
    let execute = bench.start(within_total(followed(), LIMIT_MS));
    let effects = not_before(&mut bench, LIMIT_MS);
    assert_eq!(ends(&effects), [Error::timed_out(TimeLimit::Total, LIMIT_MS)]);
    let (job, token) = (execute.job, execute.token);
    assert!(effects.contains(&Effect::Abandon { job, token }));
    let before = bench.get(job);
    assert_eq!(before.status, JobState::Failed);
    for (reply, effects) in [
        bench.report(&execute, Some(percent(90.0)), Some("late")),
        bench.finish(&execute, success()),
    ] {
        assert_eq!((code(&reply), effects.len()), (ErrorCode::LeaseLost, 1));
    }
    assert_eq!((bench.get(job), bench.state.running()), (before, 0));
}

#[test]
fn the_whole_counts_from_when_the_job_may_start_over_all_its_attempts() {
    let mut bench = Bench::new();
    let at = bench.now.plus(50_000);
    let mut enqueue = within_total(delayed(at), LIMIT_MS);
    enqueue.follower = followed().follower;
    let (job, _) = bench.enqueue(enqueue);
    pass(&mut bench, 49_999);
    bench.later(1);
    let first = execution(&bench.wake());
    bench.finish(&first, failure(true)).0.unwrap();
    bench.later(BACKOFF_MS);
    let second = execution(&bench.wake());
    assert_eq!((second.job, second.attempt), (job, 2));
    let effects = not_before(&mut bench, LIMIT_MS - BACKOFF_MS);
    assert_eq!(ends(&effects), [Error::timed_out(TimeLimit::Total, LIMIT_MS)]);
}

#[test]
fn a_job_that_never_began_within_the_whole_has_expired_and_one_that_did_has_failed() {
    let mut bench = Bench::new();
    fill_up(&mut bench);
    let (never, _) = bench.enqueue(within_total(followed(), LIMIT_MS));
    let effects = not_before(&mut bench, LIMIT_MS);
    assert_eq!(ends(&effects), [Error::expired(TimeLimit::Total, LIMIT_MS)]);
    assert_eq!(bench.status(never), JobState::Expired);

    let mut bench = Bench::new();
    let places = fill_up(&mut bench);
    bench.finish(&places[0], success()).0.unwrap();
    let first = bench.start(within_total(followed(), LIMIT_MS));
    bench.finish(&first, failure(true)).0.unwrap();
    bench.start(plain());
    let effects = not_before(&mut bench, LIMIT_MS);
    assert_eq!(ends(&effects), [Error::timed_out(TimeLimit::Total, LIMIT_MS)]);
    assert_eq!(bench.status(first.job), JobState::Failed);
}

#[test]
fn the_nearer_of_two_limits_is_the_one_that_ends_a_waiting_job() {
    for (queue_ms, total_ms, limit, ms) in [
        (2000, 3000, TimeLimit::Queue, 2000),
        (3000, 2000, TimeLimit::Total, 2000),
        (2000, 2000, TimeLimit::Queue, 2000),
    ] {
        let mut bench = Bench::new();
        fill_up(&mut bench);
        bench.enqueue(within_total(within_queue(followed(), queue_ms), total_ms));
        let effects = not_before(&mut bench, ms);
        assert_eq!(ends(&effects), [Error::expired(limit, ms)]);
    }
}

#[test]
fn no_retry_is_set_that_could_not_begin_before_the_whole_is_over() {
    for (limit_ms, again) in [(BACKOFF_MS + 501, true), (BACKOFF_MS + 500, false)] {
        let mut bench = Bench::new();
        let execute = bench.start(within_total(followed(), limit_ms));
        bench.later(500);
        let (_, effects) = bench.finish(&execute, failure(true));
        let state = bench.status(execute.job);
        if again {
            assert_eq!((state, ends(&effects).len()), (JobState::Retrying, 0));
            bench.later(BACKOFF_MS);
            assert_eq!(execution(&bench.wake()).attempt, 2);
        } else {
            assert_eq!(state, JobState::Failed);
            let codes: Vec<_> = ends(&effects).iter().map(|error| error.code).collect();
            assert_eq!(codes, [ErrorCode::UpstreamError], "the attempt's own error");
            assert_eq!(bench.count("SELECT count(give_up_at) FROM job"), 0);
        }
    }
}

#[test]
fn a_place_that_becomes_free_starts_nothing_that_is_over_although_its_alarm_is_late() {
    let mut bench = Bench::new();
    let places = fill_up(&mut bench);
    let (over, _) = bench.enqueue(within_queue(followed(), LIMIT_MS));
    let (rung, _) = bench.enqueue(within_total(rung(), LIMIT_MS));
    bench.later(LIMIT_MS);
    let (_, effects) = bench.finish(&places[0], success());
    assert!(executions(&effects).is_empty(), "{effects:?}");
    assert_eq!(bench.status(over), JobState::Expired);
    bench.send(Call::Start { job: rung });
    assert_eq!((bench.status(rung), bench.state.waiting()), (JobState::Expired, 0));
}

#[test]
fn an_attempt_without_a_sign_of_its_own_fails_and_is_tried_again() {
    let mut bench = Bench::new();
    let execute = bench.start(within_silence(followed(), LIMIT_MS));
    for _ in 0..4 {
        // Signs of life renew the lease, and are no progress.
        bench.later(LIMIT_MS / 4 - 1);
        bench.report(&execute, None, None).0.unwrap();
        assert!(bench.wake().is_empty());
    }
    let effects = not_before(&mut bench, 4);
    let told = deliveries(&effects);
    let expected = Error::timed_out(TimeLimit::Heartbeat, LIMIT_MS);
    assert!(expected.retryable);
    assert!(matches!(&told[0].event.what, Happening::Retrying { error, .. } if *error == expected));
    let (job, token) = (execute.job, execute.token);
    assert!(effects.contains(&Effect::Abandon { job, token }));
    assert_eq!(code(&bench.finish(&execute, success()).0), ErrorCode::LeaseLost);
    bench.later(BACKOFF_MS);
    assert_eq!(execution(&bench.wake()).attempt, 2);
}

#[test]
fn progress_and_checkpoints_are_signs_and_so_is_a_claim() {
    let mut bench = Bench::new();
    let mut execute = bench.start(within_silence(plain(), LIMIT_MS));
    for n in 0..12 {
        bench.later(LIMIT_MS - 1);
        assert!(executions(&bench.wake()).is_empty());
        let progress = (n % 2 == 0).then(|| percent(f64::from(n)));
        let checkpoint = (n % 2 == 1).then_some("c");
        bench.report(&execute, progress, checkpoint).0.unwrap();
    }
    assert_eq!(bench.status(execute.job), JobState::Running);
    bench.later(1000);
    execute = execution(&bench.finish(&execute, Outcome::Unfinished).1);
    bench.later(LIMIT_MS - 1);
    bench.wake();
    assert_eq!(bench.get(execute.job).attempt, 1, "the next run has all its time");
}

#[test]
fn a_silent_attempt_is_found_after_a_crash() {
    let mut bench = Bench::new();
    let execute = bench.start(within_silence(plain(), LIMIT_MS));
    bench.later(1000);
    bench.report(&execute, Some(percent(1.0)), None).0.unwrap();
    not_before(&mut bench, LIMIT_MS);
    assert_eq!(bench.status(execute.job), JobState::Retrying);
}

#[test]
fn a_limit_on_silence_costs_no_row() {
    let mut bench = Bench::new();
    let (limited, unlimited) = (within_silence(plain(), 90_000), plain());
    let mut changes = Vec::new();
    for enqueue in [unlimited, limited] {
        let before = bench.count("SELECT total_changes()");
        let execute = bench.start(enqueue);
        bench.report(&execute, Some(percent(1.0)), None).0.unwrap();
        bench.finish(&execute, success()).0.unwrap();
        changes.push(bench.count("SELECT total_changes()") - before);
    }
    assert_eq!(changes[0], changes[1]);
    assert_eq!(
        bench.count("SELECT count(give_up_at) FROM job"),
        0,
        "nor one of the index"
    );
}

#[test]
fn a_job_without_limits_has_no_entry_and_one_with_them_has_none_once_it_has_ended() {
    let entries = "SELECT count(give_up_at) FROM job";
    let mut bench = Bench::new();
    let plain_one = bench.start(plain());
    bench.enqueue(delayed(bench.now.plus(9)));
    assert_eq!((bench.count(entries), bench.state.give_up_at), (0, None));
    let one = bench.start(within_total(plain(), LIMIT_MS));
    let other = bench.start(within_queue(plain(), LIMIT_MS));
    assert_eq!(
        bench.count(entries),
        1,
        "a first attempt that starts at once did not wait"
    );
    for execute in [plain_one, one, other] {
        bench.finish(&execute, success()).0.unwrap();
    }
    assert_eq!(bench.count(entries), 0);
}

#[test]
fn an_alarm_for_a_limit_whose_job_has_ended_takes_the_next_and_rings_no_more() {
    let mut bench = Bench::new();
    let first = bench.start(within_total(plain(), LIMIT_MS));
    bench.later(1);
    let second = bench.start(within_total(plain(), LIMIT_MS));
    bench.finish(&first, success()).0.unwrap();
    bench.later(LIMIT_MS - 1);
    bench.wake();
    assert_eq!(bench.state.give_up_at, Some(bench.now.plus(1)));
    bench.finish(&second, success()).0.unwrap();
    bench.later(1);
    bench.wake();
    assert_eq!(bench.state.give_up_at, None);
}

#[test]
fn many_jobs_that_are_over_together_are_given_up_a_bounded_number_a_turn() {
    let mut bench = Bench::new();
    fill_up(&mut bench);
    let jobs = TURN_ROWS_MAX + 50;
    for _ in 0..jobs {
        bench.enqueue(within_queue(plain(), LIMIT_MS));
    }
    bench.later(LIMIT_MS);
    let expired = "SELECT count(*) FROM job WHERE state = 7";
    bench.wake();
    assert_eq!(bench.count(expired), TURN_ROWS_MAX);
    assert_eq!(bench.next_wake(), Some(bench.now.plus(1)));
    bench.alarm();
    assert_eq!((bench.count(expired), bench.state.waiting()), (jobs, 0));
}

#[test]
fn a_caller_that_waits_is_told_of_the_end_and_a_short_limit_has_its_row_at_once() {
    let mut bench = Bench::new();
    let (call, effects) = bench.send(Call::Enqueue(Box::new(within_total(waiting(60_000), LIMIT_MS))));
    assert!(replies(&effects).is_empty());
    assert_eq!(
        bench.count("SELECT count(*) FROM job"),
        1,
        "what has no row has no alarm"
    );
    bench.later(LIMIT_MS);
    let effects = bench.wake();
    let replies = replies(&effects);
    assert_eq!(failure_code(ended(&replies[&call])), Some(ErrorCode::Timeout));
    let (_, effects) = bench.send(Call::Enqueue(Box::new(within_silence(waiting(60_000), 60_000))));
    assert_eq!(executions(&effects).len(), 1);
    assert_eq!(bench.count("SELECT count(*) FROM job"), 2);
    bench.send(Call::Enqueue(Box::new(within_total(waiting(LIMIT_MS), LIMIT_MS + 1))));
    assert_eq!(bench.count("SELECT count(*) FROM job"), 2, "its deadline comes first");
    bench.later(LIMIT_MS);
    bench.tick();
    assert_eq!(
        bench.state.give_up_at,
        Some(bench.now.plus(1)),
        "from when it was accepted"
    );
}

#[test]
fn a_run_that_puts_itself_off_goes_on_later_in_the_same_attempt_with_all_its_time() {
    let mut bench = Bench::new();
    let mut execute = bench.start(followed());
    for run in 0..10 {
        let (token, until) = (execute.token, bench.now.plus(90_000));
        let (reply, effects) = bench.finish(&execute, Outcome::Snoozed { ms: 90_000 });
        assert_eq!((reply, deliveries(&effects).len()), (Ok(Reply::Done), 0));
        let shown = bench.get(execute.job);
        assert_eq!((shown.status, shown.run_at), (JobState::Scheduled, Some(until)));
        bench.send(Call::Start { job: execute.job });
        assert!(executions(&not_before_start(&mut bench, 89_999)).is_empty());
        bench.later(1);
        execute = execution(&bench.wake());
        assert_eq!(
            (execute.attempt, execute.deadline),
            (1, bench.now.plus(TIMEOUT_MS)),
            "run {run}"
        );
        assert!(execute.token > token);
    }
    bench.finish(&execute, failure(true)).0.unwrap();
    bench.later(BACKOFF_MS);
    assert_eq!(execution(&bench.wake()).attempt, 2, "only what failed is counted");
}

/// Lets the time pass with a crash in the middle; nothing may start.
fn not_before_start(bench: &mut Bench, ms: u64) -> Vec<Effect> {
    bench.later(ms / 2);
    bench.crash();
    let mut effects = bench.wake();
    bench.later(ms - ms / 2);
    effects.extend(bench.wake());
    effects
}

#[test]
fn a_job_that_only_puts_itself_off_is_given_up_unless_it_gets_on() {
    let snooze = |bench: &mut Bench, execute: &Execute| {
        let (_, effects) = bench.finish(execute, Outcome::Snoozed { ms: 5 });
        bench.later(5);
        (bench.wake(), effects)
    };
    for (progress, checkpoint) in [(Some(percent(1.0)), None), (None, Some("c"))] {
        let mut bench = Bench::new();
        let mut execute = bench.start(followed());
        for n in 0..SNOOZES_MAX + 20 {
            match n {
                20 => drop(bench.report(&execute, progress.clone(), checkpoint)),
                // A sign of life is none of getting on.
                30 => drop(bench.report(&execute, None, None)),
                _ => {}
            }
            execute = execution(&snooze(&mut bench, &execute).0);
        }
        let (_, effects) = snooze(&mut bench, &execute);
        let codes: Vec<_> = ends(&effects).iter().map(|error| error.code).collect();
        assert_eq!(codes, [ErrorCode::ProcessingFailed]);
        assert_eq!(bench.status(execute.job), JobState::Failed);
        assert_eq!((bench.state.running(), bench.state.waiting()), (0, 0));
    }
}

#[test]
fn the_limit_on_the_whole_goes_on_while_a_job_is_put_off() {
    let mut bench = Bench::new();
    let execute = bench.start(within_total(within_queue(followed(), 100), LIMIT_MS));
    bench.later(1000);
    bench.finish(&execute, Outcome::Snoozed { ms: 600_000 }).0.unwrap();
    let effects = not_before(&mut bench, LIMIT_MS - 1000);
    assert_eq!(ends(&effects), [Error::timed_out(TimeLimit::Total, LIMIT_MS)]);
    assert_eq!(bench.status(execute.job), JobState::Failed);
}

#[test]
fn a_job_without_a_row_gets_one_when_it_is_put_off() {
    let mut bench = Bench::new();
    let (call, effects) = bench.send(Call::Enqueue(Box::new(waiting(60_000))));
    let execute = execution(&effects);
    let (_, effects) = bench.finish(&execute, Outcome::Snoozed { ms: 7000 });
    let replies = replies(&effects);
    let Some(Ok(Reply::Acknowledged { status, run_at, .. })) = replies.get(&call) else {
        panic!("{replies:?}")
    };
    assert_eq!((*status, *run_at), (JobState::Scheduled, Some(bench.now.plus(7000))));
}

#[test]
fn an_error_is_tried_again_as_it_says_and_by_default_as_its_code_says() {
    for code in ErrorCode::ALL {
        let own = Error::new(*code, "no");
        let by_code = matches!(code.retry(), Retry::Later);
        let (never, later) = (
            own.clone().with_retry(Retry::Never),
            own.clone().with_retry(Retry::Later),
        );
        for (error, again) in [(own, by_code), (never, false), (later, true)] {
            let mut bench = Bench::new();
            let execute = bench.start(plain());
            bench.finish(&execute, Outcome::Failed { error }).0.unwrap();
            let state = if again { JobState::Retrying } else { JobState::Failed };
            assert_eq!(bench.status(execute.job), state, "{code:?}");
        }
        // A fault of the input stays one. What was only refused for now, or came too early, may go well later.
        let refused_for_now = code.status() == 429 || *code == ErrorCode::IdempotencyInProgress;
        let of_the_input = (400..500).contains(&code.status()) && !refused_for_now;
        assert!(!of_the_input || !by_code, "{code:?}");
    }
}

#[test]
fn a_row_of_the_version_before_has_no_limit_and_was_never_put_off() {
    use super::super::{STEPS, State};
    use crate::database::native::Native;
    use crate::database::{Database, migrate};
    let db = Native::in_memory().unwrap();
    let before = STEPS
        .iter()
        .position(|step| step.iter().any(|sql| sql.contains("ADD COLUMN give_up_at")))
        .unwrap();
    migrate(&db, &STEPS[..before]).unwrap();
    db.run(
        "INSERT INTO job (number, tail, state, user, action, created_at, spec, payload, token, attempt, attempt_until,
            losses, seq, progress, log, followers, changed_at, ended_at)
        VALUES (1, 0, 4, 'u', 'a', 0, x'', x'', 0, 0, 0, 0, 0, x'', x'', x'', 0, 0)",
        &[],
    )
    .unwrap();
    migrate(&db, STEPS).unwrap();
    let mut kept = db.run("SELECT give_up_at, snoozes FROM job", &[]).unwrap().remove(0);
    assert_eq!((kept.optional_number().unwrap(), kept.number().unwrap()), (None, 0));
    assert_eq!(State::earliest_give_up(&db).unwrap(), None);
}
