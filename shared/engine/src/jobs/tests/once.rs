//! One piece of work, once: the life of keys, and requests that are told apart by their own values.

extern crate std;

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;

use tidegate_protocol::calls::executor::Execute;
use tidegate_protocol::calls::jobs::{Call, Enqueue, JobRef, Reply};
use tidegate_protocol::calls::once::{Dedupe, DedupeRule, KeyLife, Once};
use tidegate_protocol::calls::queueing::{Counted, PauseScope, Priority, Rule, WhenFull};
use tidegate_protocol::event::JobState;
use tidegate_protocol::ids::{ActionName, IdempotencyKey, JobId, RequestId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::super::{RUNNING_MAX, WAITING_MAX};
use super::bench::*;

mod aliases;
mod model;

const HOUR_MS: u64 = 3_600_000;

const WINDOW: DedupeRule = DedupeRule::Window { ms: 600_000 };
const LAST: DedupeRule = DedupeRule::KeepLast {
    wait_ms: 5000,
    max_wait_ms: 12_000,
};

/// A job under a key that lives so long.
fn living(key: &str, ttl_ms: Option<u64>, failed_frees: bool) -> Enqueue {
    let mut enqueue = keyed(key);
    enqueue.job.once = Some(Once::Key(KeyLife { ttl_ms, failed_frees }));
    enqueue
}

/// The request `n` of a key that the composition found.
fn same(key: &str, rule: DedupeRule, n: u64) -> Enqueue {
    let mut enqueue = plain();
    enqueue.job.payload = value(&n.to_string());
    enqueue.job.request_id = RequestId::parse(&n.to_string()).unwrap();
    enqueue.job.metadata.insert("n".into(), n.to_string());
    let key = key.into();
    enqueue.job.once = Some(Once::Dedupe(Dedupe {
        key,
        rule,
        key_life: None,
    }));
    enqueue
}

/// The job that a request is answered with, and whether that was there.
fn job_of(reply: &Result<Reply, Error>) -> (JobId, bool) {
    match reply {
        Ok(Reply::Acknowledged { job, deduplicated, .. } | Reply::Ended { job, deduplicated, .. }) => {
            (*job, *deduplicated)
        }
        other => panic!("{other:?}"),
    }
}

fn ask(bench: &mut Bench, enqueue: Enqueue) -> (JobId, bool) {
    job_of(&bench.call(Call::Enqueue(Box::new(enqueue))).0)
}

/// The job that attaching to a key gives.
fn attached(bench: &mut Bench, key: &str) -> Option<JobId> {
    let action = ActionName::parse("a").unwrap();
    let call = Call::Follow {
        job: JobRef::Key(action, IdempotencyKey::parse(key).unwrap()),
        caller: caller("ann"),
        hub: HUB,
        after: None,
    };
    match bench.call(call).0 {
        Ok(Reply::Following { job, .. }) => Some(job),
        Err(error) if error.code == ErrorCode::NotFound => None,
        other => panic!("{other:?}"),
    }
}

fn hold_back(bench: &mut Bench) {
    let mut caller = caller("ann");
    caller.writes_all = true;
    let scope = PauseScope::Tenant;
    bench.call(Call::Pause { scope, caller }).0.unwrap();
}

fn let_go(bench: &mut Bench) -> Vec<Execute> {
    let mut caller = caller("ann");
    caller.writes_all = true;
    let scope = PauseScope::Tenant;
    executions(&bench.call(Call::Resume { scope, caller }).1)
}

fn cancel(bench: &mut Bench, job: JobId) {
    let caller = caller("ann");
    bench.call(Call::Cancel { job, caller }).0.unwrap();
}

#[test]
fn a_key_names_its_job_until_its_time_is_over_and_a_new_one_from_then_on() {
    let mut bench = Bench::new();
    let asked = || living("k", Some(HOUR_MS), false);
    let first = bench.start(asked());
    bench.finish(&first, success()).0.unwrap();
    bench.later(HOUR_MS - 1);
    assert_eq!(ask(&mut bench, asked()), (first.job, true));
    assert_eq!(attached(&mut bench, "k"), Some(first.job));
    bench.later(1);
    assert_eq!(attached(&mut bench, "k"), None, "the key names nothing");
    let second = bench.start(asked());
    assert_ne!(second.job, first.job);
    assert_eq!(attached(&mut bench, "k"), Some(second.job));
    assert_eq!(
        bench.status(first.job),
        JobState::Succeeded,
        "the old one can still be read"
    );
    bench.crash();
    assert_eq!(ask(&mut bench, asked()), (second.job, true));
}

#[test]
fn a_key_whose_time_is_over_names_its_job_until_that_has_ended() {
    let mut bench = Bench::new();
    hold_back(&mut bench);
    let (job, _) = bench.enqueue(living("k", Some(HOUR_MS), true));
    bench.later(2 * HOUR_MS);
    assert_eq!(ask(&mut bench, living("k", Some(HOUR_MS), true)), (job, true));
    let running = let_go(&mut bench).remove(0);
    assert_eq!(ask(&mut bench, living("k", Some(HOUR_MS), true)), (job, true));
    bench.finish(&running, success()).0.unwrap();
    let (next, deduplicated) = ask(&mut bench, living("k", Some(HOUR_MS), true));
    assert!(next != job && !deduplicated);
}

#[test]
fn a_job_is_kept_as_long_as_its_key_lives_and_a_freed_key_keeps_none() {
    let ttl_ms = 3 * RETENTION_MS;
    for (frees, outcome, lives) in [
        (false, success(), true),
        (false, failure(false), true),
        (true, success(), true),
        (true, failure(false), false),
    ] {
        let mut bench = Bench::new();
        let asked = || living("k", Some(ttl_ms), frees);
        let first = bench.start(asked());
        bench.finish(&first, outcome).0.unwrap();
        while bench.now.0 + 1 < UnixMs(1_800_000_000_000).0 + ttl_ms {
            bench.later((RETENTION_MS / 2).min(UnixMs(1_800_000_000_000).0 + ttl_ms - 1 - bench.now.0));
            bench.wake();
        }
        assert_eq!(bench.count("SELECT count(*) FROM job") == 1, lives, "{frees}");
        assert_eq!(ask(&mut bench, asked()).1, lives, "{frees}");
    }
}

#[test]
fn what_ended_without_a_result_frees_its_key_only_where_that_is_said() {
    type End = fn(&mut Bench, &Execute);
    let fail: End = |bench, execute| drop(bench.finish(execute, failure(false)));
    let cancel: End = |bench, execute| cancel(bench, execute.job);
    let succeed: End = |bench, execute| drop(bench.finish(execute, success()));
    for (end, frees, free) in [
        (fail, true, true),
        (cancel, true, true),
        (succeed, true, false),
        (fail, false, false),
        (cancel, false, false),
    ] {
        let mut bench = Bench::new();
        let first = bench.start(living("k", None, frees));
        end(&mut bench, &first);
        assert_eq!(attached(&mut bench, "k").is_none(), free);
        let (second, deduplicated) = ask(&mut bench, living("k", None, frees));
        assert_eq!((second != first.job, deduplicated), (free, !free));
    }
    // One that never began, because its time was over.
    let mut bench = Bench::new();
    hold_back(&mut bench);
    let mut asked = living("k", None, true);
    asked.job.policy.queue_timeout_ms = Some(1000);
    let (first, _) = bench.enqueue(asked.clone());
    bench.later(1000);
    bench.wake();
    assert_eq!(bench.status(first), JobState::Expired);
    assert_ne!(ask(&mut bench, asked).0, first);
}

#[test]
fn a_failed_attempt_that_is_tried_again_frees_nothing() {
    let mut bench = Bench::new();
    let first = bench.start(living("k", None, true));
    bench.finish(&first, failure(true)).0.unwrap();
    assert_eq!(bench.status(first.job), JobState::Retrying);
    assert_eq!(ask(&mut bench, living("k", None, true)), (first.job, true));
}

/// Another body under a key that names nothing any more is no mistake.
#[test]
fn a_freed_key_may_be_used_for_another_request() {
    let mut bench = Bench::new();
    let first = bench.start(living("k", None, true));
    let mut other = living("k", None, true);
    other.keyed.as_mut().unwrap().fingerprint = "g".into();
    let refused = bench.call(Call::Enqueue(Box::new(other.clone()))).0;
    assert_eq!(code(&refused), ErrorCode::IdempotencyMismatch);
    bench.finish(&first, failure(false)).0.unwrap();
    assert!(!ask(&mut bench, other).1);
}

/// The outcome of a redrive is not that of the key, and the redrive takes no key.
#[test]
fn a_redrive_has_no_key() {
    for asked in [living("k", None, false), same("k", DedupeRule::UntilEnded, 1)] {
        let mut bench = Bench::new();
        let first = bench.fail(asked.clone());
        let (redriven, _) = bench.retry(first, None);
        let again = ask(&mut bench, asked.clone()).0;
        assert_ne!(again, redriven.job_id);
        assert_eq!(again == first, asked.keyed.is_some());
    }
}

#[test]
fn a_sync_request_with_a_key_is_answered_anew_when_its_time_is_over() {
    let mut bench = Bench::new();
    let asked = || Enqueue {
        answer_within_ms: Some(1000),
        ..living("k", Some(HOUR_MS), false)
    };
    let (call, effects) = bench.send(Call::Enqueue(Box::new(asked())));
    let first = execution(&effects);
    let (_, effects) = bench.finish(&first, success());
    assert_eq!(job_of(&replies(&effects)[&call]), (first.job, false));
    assert_eq!(ask(&mut bench, asked()), (first.job, true));
    bench.later(HOUR_MS);
    let (_, effects) = bench.send(Call::Enqueue(Box::new(asked())));
    assert_ne!(execution(&effects).job, first.job);
}

#[test]
fn delayed_and_paused_jobs_and_those_of_one_turn_keep_their_key_and_free_it() {
    let mut bench = Bench::new();
    let at = bench.now.plus(2 * HOUR_MS);
    let asked = || {
        let mut asked = living("k", Some(HOUR_MS), true);
        asked.job.run_at = Some(at);
        asked
    };
    let calls = [asked(), asked()].map(|asked| Call::Enqueue(Box::new(asked)));
    let (calls, effects) = bench.send_all(calls);
    let answers: Vec<_> = calls.iter().map(|call| job_of(&replies(&effects)[call])).collect();
    assert_eq!(answers[0].0, answers[1].0);
    assert_eq!((answers[0].1, answers[1].1), (false, true));
    bench.later(HOUR_MS + 1);
    hold_back(&mut bench);
    assert_eq!(ask(&mut bench, asked()), (answers[0].0, true));
    cancel(&mut bench, answers[0].0);
    assert_ne!(ask(&mut bench, asked()).0, answers[0].0);
}

#[test]
fn inside_the_window_a_request_is_answered_with_the_job_and_then_with_its_outcome() {
    let mut bench = Bench::new();
    let first = bench.start(same("k", WINDOW, 1));
    assert_eq!(ask(&mut bench, same("k", WINDOW, 2)), (first.job, true));
    assert!(
        !ask(&mut bench, same("other", WINDOW, 2)).1,
        "another key is another job"
    );
    bench.finish(&first, success()).0.unwrap();
    bench.crash();
    bench.later(599_999);
    let (reply, effects) = bench.call(Call::Enqueue(Box::new(same("k", WINDOW, 3))));
    assert_eq!(ended(&reply), &ended_of(&mut bench, first.job));
    assert!(executions(&effects).is_empty());
    bench.later(1);
    let (second, deduplicated) = ask(&mut bench, same("k", WINDOW, 4));
    assert!(second != first.job && !deduplicated);
    assert_eq!(
        ask(&mut bench, same("k", WINDOW, 5)),
        (second, true),
        "a window of its own"
    );
}

fn ended_of(bench: &mut Bench, job: JobId) -> tidegate_protocol::event::Event {
    let call = Call::Watch {
        job,
        caller: caller("ann"),
        after: None,
        wait_ms: 0,
        until_end: true,
    };
    match bench.call(call).0 {
        Ok(Reply::Following { events, .. }) => events.last().unwrap().clone(),
        other => panic!("{other:?}"),
    }
}

/// A job whose retention is shorter than the window would take its answer with it.
#[test]
fn a_job_is_kept_for_its_window() {
    let mut bench = Bench::new();
    let rule = DedupeRule::Window { ms: 2 * RETENTION_MS };
    let first = bench.start(same("k", rule, 1));
    bench.finish(&first, success()).0.unwrap();
    bench.later(2 * RETENTION_MS - 1);
    bench.wake();
    assert_eq!(ask(&mut bench, same("k", rule, 2)), (first.job, true));
    bench.later(2 * RETENTION_MS);
    bench.wake();
    assert_eq!(bench.count("SELECT count(*) FROM job"), 0, "the key goes with its row");
}

#[test]
fn until_it_has_ended_a_job_takes_every_request_of_its_key() {
    let mut bench = Bench::new();
    let rule = DedupeRule::UntilEnded;
    let first = bench.start(same("k", rule, 1));
    bench.finish(&first, failure(true)).0.unwrap();
    assert_eq!(
        ask(&mut bench, same("k", rule, 2)),
        (first.job, true),
        "between its attempts"
    );
    bench.later(BACKOFF_MS);
    let again = execution(&bench.wake());
    bench.crash();
    assert_eq!(ask(&mut bench, same("k", rule, 3)), (first.job, true));
    bench.finish(&again, failure(false)).0.unwrap();
    assert_ne!(ask(&mut bench, same("k", rule, 4)).0, first.job);
}

/// A caller who waits is answered with the outcome, whoever asked first.
#[test]
fn a_caller_who_waits_beside_another_is_given_the_outcome() {
    let mut bench = Bench::new();
    let asked = |n| Enqueue {
        answer_within_ms: Some(1000),
        ..same("k", DedupeRule::UntilEnded, n)
    };
    let (first, effects) = bench.send(Call::Enqueue(Box::new(asked(1))));
    let execute = execution(&effects);
    let (second, effects) = bench.send(Call::Enqueue(Box::new(asked(2))));
    assert!(executions(&effects).is_empty());
    let (_, effects) = bench.finish(&execute, success());
    let replies = replies(&effects);
    assert_eq!(job_of(&replies[&first]), (execute.job, false));
    assert_eq!(job_of(&replies[&second]), (execute.job, true));
}

#[test]
fn a_newer_request_takes_the_place_of_a_job_that_waits_and_says_so() {
    let mut bench = Bench::new();
    let rule = DedupeRule::ReplaceWaiting;
    let running = bench.start(same("k", rule, 1));
    hold_back(&mut bench);
    let (second, _) = bench.enqueue(Enqueue {
        follower: Some(HUB),
        ..same("k", rule, 2)
    });
    assert_ne!(second, running.job, "one that runs goes on");
    let (reply, effects) = bench.call(Call::Enqueue(Box::new(same("k", rule, 3))));
    let (third, deduplicated) = job_of(&reply);
    assert!(third != second && !deduplicated);
    let end = deliveries(&effects).remove(0);
    assert_eq!(
        (end.job, failure_code(&end.event)),
        (second, Some(ErrorCode::Cancelled))
    );
    let tidegate_protocol::event::Happening::Failed { error } = end.event.what else {
        panic!("{end:?}")
    };
    assert!(error.message.contains(&third.to_string()), "{}", error.message);
    assert_eq!(bench.status(second), JobState::Cancelled);
    assert_eq!(bench.state.waiting(), 1);
    bench.crash();
    let started = let_go(&mut bench);
    assert_eq!(started.len(), 1);
    assert_eq!((started[0].job, &started[0].payload), (third, &value("3")));
    bench.finish(&running, success()).0.unwrap();
}

/// Between its attempts a job is under way: what it did so far is not thrown away.
#[test]
fn a_job_that_has_begun_is_not_replaced() {
    for rule in [DedupeRule::ReplaceWaiting, LAST] {
        let mut bench = Bench::new();
        let (job, _) = bench.enqueue(same("k", rule, 1));
        if rule == LAST {
            bench.later(5000);
            let first = execution(&bench.wake());
            bench.finish(&first, failure(true)).0.unwrap();
        } else {
            bench
                .finish_as(job, tidegate_protocol::ids::FencingToken(1), failure(true))
                .0
                .unwrap();
        }
        assert_eq!(bench.status(job), JobState::Retrying);
        let (second, deduplicated) = ask(&mut bench, same("k", rule, 2));
        assert!(second != job && !deduplicated, "{rule:?}");
        assert_eq!(bench.status(job), JobState::Retrying);
    }
}

/// There are no more of them than before.
#[test]
fn a_full_queue_takes_what_replaces_one_that_waits_and_a_refusal_cancels_nothing() {
    let mut bench = Bench::new();
    hold_back(&mut bench);
    let rule = DedupeRule::ReplaceWaiting;
    let (first, _) = bench.enqueue(same("k", rule, 1));
    bench.crowd(WAITING_MAX - 1);
    let full = bench.call(Call::Enqueue(Box::new(same("other", rule, 2)))).0;
    assert_eq!(code(&full), ErrorCode::QueueFull);
    let (second, _) = ask(&mut bench, same("k", rule, 3));
    assert_eq!(bench.status(first), JobState::Cancelled);
    bench.crash();
    let_go(&mut bench);

    // One that a limit refuses leaves the waiting one where it is.
    let mut bench = Bench::new();
    let counted = |when_full| Counted {
        limit: "l".into(),
        key: "".into(),
        rule: Rule::Concurrency { max: 1 },
        cost: 1,
        when_full,
    };
    let limited = |n, when_full| {
        let mut asked = same("k", rule, n);
        asked.job.queueing.limits = [counted(when_full)].into();
        asked
    };
    let mut holds = plain();
    holds.job.queueing.limits = [counted(WhenFull::Wait)].into();
    bench.start(holds);
    let (first, _) = bench.enqueue(limited(1, WhenFull::Wait));
    let refused = bench.call(Call::Enqueue(Box::new(limited(2, WhenFull::Refuse)))).0;
    assert_eq!(code(&refused), ErrorCode::QueueFull);
    assert_eq!(bench.status(first), JobState::Queued);
    let (third, _) = ask(&mut bench, limited(3, WhenFull::Wait));
    assert_eq!(bench.status(first), JobState::Cancelled, "it had kept its key");
    assert!(third != first && second != third);
}

#[test]
fn the_last_of_several_requests_is_what_runs_once_it_is_quiet() {
    let mut bench = Bench::new();
    let start = bench.now;
    let (reply, effects) = bench.call(Call::Enqueue(Box::new(same("k", LAST, 1))));
    assert!(executions(&effects).is_empty());
    let Ok(Reply::Acknowledged {
        job, status, run_at, ..
    }) = reply
    else {
        panic!("{reply:?}")
    };
    assert_eq!((status, run_at), (JobState::Scheduled, Some(start.plus(5000))));
    bench.later(4000);
    let asked = Enqueue {
        follower: Some(HUB),
        ..same("k", LAST, 2)
    };
    let (reply, _) = bench.call(Call::Enqueue(Box::new(asked)));
    let expected = Reply::Acknowledged {
        job,
        status: JobState::Scheduled,
        seq: tidegate_protocol::ids::Seq(1),
        deduplicated: true,
        run_at: Some(start.plus(9000)),
    };
    assert_eq!(reply, Ok(expected));
    bench.later(4999);
    assert!(executions(&bench.wake()).is_empty(), "not early");
    bench.crash();
    assert_eq!(bench.next_wake(), Some(start.plus(9000)));
    let execute = execution(&bench.alarm());
    assert_eq!(
        (execute.job, &execute.payload, execute.metadata["n"].as_str()),
        (job, &value("2"), "2")
    );
    assert_eq!(bench.get(job).request_id.as_str(), "2");
    // It runs: the next request is for another job, which waits anew.
    let (next, deduplicated) = ask(&mut bench, same("k", LAST, 3));
    assert!(next != job && !deduplicated);
    let (_, effects) = bench.finish(&execute, success());
    assert_eq!(deliveries(&effects).len(), 1, "who asked later follows it as well");
    assert_eq!(execution(&bench.alarm()).payload, value("3"));
}

#[test]
fn requests_that_never_pause_still_let_their_job_run() {
    let mut bench = Bench::new();
    let start = bench.now;
    let (job, _) = bench.enqueue(same("k", LAST, 0));
    for n in 1..=5 {
        bench.later(2000);
        assert_eq!(ask(&mut bench, same("k", LAST, n)), (job, true));
    }
    assert_eq!(bench.next_wake(), Some(start.plus(12_000)));
    let execute = execution(&bench.alarm());
    assert_eq!((execute.job, &execute.payload), (job, &value("5")));
}

/// Its new input may be wanted sooner, or be held back by something else.
#[test]
fn a_job_with_a_new_input_waits_where_that_belongs() {
    let mut bench = Bench::new();
    let (job, _) = bench.enqueue(same("k", LAST, 1));
    let mut urgent = same("k", LAST, 2);
    urgent.job.queueing.priority = Priority::High;
    urgent.job.queueing.limits = [Counted {
        limit: "l".into(),
        key: "2".into(),
        rule: Rule::Concurrency { max: 1 },
        cost: 1,
        when_full: WhenFull::Wait,
    }]
    .into();
    assert_eq!(ask(&mut bench, urgent.clone()), (job, true));
    let mut holds = plain();
    holds.job.queueing.limits = urgent.job.queueing.limits;
    let holds = bench.start(holds);
    bench.later(5000);
    assert!(executions(&bench.wake()).is_empty(), "its limit has no room");
    let (_, effects) = bench.finish(&holds, success());
    assert_eq!(execution(&effects).job, job);
}

#[test]
fn the_limits_of_time_of_a_debounced_job_count_from_its_new_start() {
    let mut bench = Bench::new();
    hold_back(&mut bench);
    let asked = |n| {
        let mut asked = same("k", LAST, n);
        asked.job.policy.queue_timeout_ms = Some(1000);
        asked
    };
    let start = bench.now;
    let (job, _) = bench.enqueue(asked(1));
    bench.later(4000);
    ask(&mut bench, asked(2));
    bench.now = start.plus(9999);
    bench.wake();
    assert_eq!(bench.status(job), JobState::Scheduled);
    bench.crash();
    bench.now = start.plus(10_000);
    bench.wake();
    assert_eq!(bench.status(job), JobState::Expired);
}

#[test]
fn an_input_in_object_storage_is_deleted_when_another_takes_its_place() {
    let mut bench = Bench::new();
    let asked = |key: &str| {
        let mut asked = same("k", LAST, 1);
        asked.job.payload = stored(key);
        asked
    };
    bench.enqueue(asked("one"));
    let (_, effects) = bench.send(Call::Enqueue(Box::new(asked("two"))));
    assert_eq!(deleted(&effects), ["one"]);
    let (_, effects) = bench.send(Call::Enqueue(Box::new(asked("two"))));
    assert!(deleted(&effects).is_empty(), "the same, sent again");
    bench.later(5000);
    assert_eq!(execution(&bench.wake()).payload, stored("two"));
}

/// All places are taken, so that the job waits beyond its time: its turn is not lost.
#[test]
fn a_debounced_job_that_has_waited_long_enough_keeps_its_place_in_line() {
    let mut bench = Bench::new();
    let running: Vec<_> = (0..RUNNING_MAX).map(|_| bench.start(plain())).collect();
    let (job, _) = bench.enqueue(same("k", LAST, 1));
    bench.later(20_000 - LEASE_MS * 2);
    for execute in &running {
        bench.report(execute, None, None).0.unwrap();
    }
    bench.later(LEASE_MS - 1);
    for execute in &running {
        bench.report(execute, None, None).0.unwrap();
    }
    bench.later(5000);
    assert_eq!(ask(&mut bench, same("k", LAST, 2)), (job, true));
    let (_, effects) = bench.finish(&running[0], success());
    let execute = execution(&effects);
    assert_eq!((execute.job, &execute.payload), (job, &value("2")));
}

#[test]
fn only_a_job_with_such_a_key_has_an_entry_for_it_and_no_job_a_row_more() {
    let written = |enqueue: Enqueue| {
        let mut bench = Bench::new();
        let before = bench.count("SELECT total_changes()");
        let execute = bench.start(enqueue);
        bench.finish(&execute, success()).0.unwrap();
        let entries = bench.count("SELECT count(*) FROM job INDEXED BY job_dedupe WHERE dedupe IS NOT NULL");
        (bench.count("SELECT total_changes()") - before, entries)
    };
    assert_eq!(written(plain()), (2, 0));
    assert_eq!(written(keyed("k")), (2, 0));
    assert_eq!(written(same("k", WINDOW, 1)), (2, 1));
}
