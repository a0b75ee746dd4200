//! Requests with a key of the client's for an action that tells its requests apart by their own values.

use alloc::boxed::Box;
use alloc::vec::Vec;

use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::jobs::{Call, Enqueue, JobRef, Keyed, Reply};
use tidegate_protocol::calls::once::{DedupeRule, KeyLife, Once};
use tidegate_protocol::event::JobState;
use tidegate_protocol::ids::{ActionName, IdempotencyKey, ShardIndex};

use super::super::super::alias::ALIASES_MAX;
use super::super::bench::*;
use super::{HOUR_MS, LAST, WINDOW, ask, attached, cancel, hold_back, job_of, same};

/// The request of the dedupe key `of` with a key of the client's, whose body is that dedupe key.
pub(super) fn both(key: &str, of: &str, rule: DedupeRule, n: u64, life: KeyLife) -> Enqueue {
    let mut enqueue = same(of, rule, n);
    enqueue.keyed = Some(Keyed {
        key: IdempotencyKey::parse(key).unwrap(),
        fingerprint: of.into(),
    });
    if let Some(Once::Dedupe(dedupe)) = &mut enqueue.job.once {
        dedupe.key_life = Some(life);
    }
    enqueue
}

fn kept(key: &str, rule: DedupeRule, n: u64) -> Enqueue {
    both(key, "d", rule, n, KeyLife::default())
}

#[test]
fn a_key_whose_request_was_given_a_job_names_that_job_whatever_dedupe_does_later() {
    for rule in [WINDOW, DedupeRule::UntilEnded] {
        let mut bench = Bench::new();
        let first = bench.start(kept("one", rule, 1));
        assert_eq!(ask(&mut bench, kept("two", rule, 2)), (first.job, true));
        assert_eq!(ask(&mut bench, same("d", rule, 3)), (first.job, true), "without a key");
        bench.finish(&first, success()).0.unwrap();
        bench.later(HOUR_MS);
        bench.crash();
        let second = bench.start(kept("three", rule, 4));
        assert_ne!(second.job, first.job);
        for (key, job) in [("one", first.job), ("two", first.job), ("three", second.job)] {
            assert_eq!(ask(&mut bench, kept(key, rule, 5)), (job, true), "{key}");
            assert_eq!(attached(&mut bench, key), Some(job), "{key}");
        }
    }
}

#[test]
fn another_body_under_a_further_key_is_a_mistake_and_changes_nothing() {
    let mut bench = Bench::new();
    let (job, _) = bench.enqueue(kept("one", LAST, 1));
    assert_eq!(ask(&mut bench, kept("two", LAST, 2)), (job, true));
    for key in ["one", "two"] {
        let other = both(key, "e", LAST, 3, KeyLife::default());
        let refused = bench.call(Call::Enqueue(Box::new(other))).0;
        assert_eq!(code(&refused), ErrorCode::IdempotencyMismatch, "{key}");
    }
    assert_eq!(bench.count("SELECT count(*) FROM job"), 1);
    bench.later(5000);
    assert_eq!(execution(&bench.wake()).payload, value("2"));
}

/// What was asked first must not become the input again because an answer got lost.
#[test]
fn a_request_sent_again_under_its_key_does_not_take_the_place_of_a_newer_one() {
    let mut bench = Bench::new();
    let start = bench.now;
    let (job, _) = bench.enqueue(kept("one", LAST, 1));
    assert_eq!(ask(&mut bench, kept("two", LAST, 2)), (job, true));
    bench.later(3000);
    assert_eq!(ask(&mut bench, kept("one", LAST, 1)), (job, true));
    assert_eq!(bench.next_wake(), Some(start.plus(5000)), "it waits no longer for that");
    assert_eq!(execution(&bench.alarm()).payload, value("2"));
}

#[test]
fn a_replaced_job_keeps_its_key_and_a_request_sent_again_hears_of_the_replacement() {
    let rule = DedupeRule::ReplaceWaiting;
    let mut bench = Bench::new();
    hold_back(&mut bench);
    let (first, _) = bench.enqueue(kept("one", rule, 1));
    let (second, deduplicated) = ask(&mut bench, kept("two", rule, 2));
    assert!(second != first && !deduplicated);
    assert_eq!(bench.status(first), JobState::Cancelled);
    assert_eq!(ask(&mut bench, kept("one", rule, 1)), (first, true));
    assert_eq!(ask(&mut bench, kept("two", rule, 2)), (second, true));
    assert_eq!(bench.status(second), JobState::Queued);
}

#[test]
fn a_further_key_is_freed_by_a_failure_where_its_action_says_so() {
    for (frees, fails, free) in [(true, true, true), (true, false, false), (false, true, false)] {
        let life = KeyLife {
            ttl_ms: None,
            failed_frees: frees,
        };
        let asked = |key| both(key, "d", DedupeRule::UntilEnded, 1, life);
        let mut bench = Bench::new();
        let first = bench.start(asked("one"));
        assert_eq!(ask(&mut bench, asked("two")), (first.job, true));
        let outcome = if fails { failure(false) } else { success() };
        bench.finish(&first, outcome).0.unwrap();
        assert_eq!(attached(&mut bench, "two").is_none(), free);
        let (again, deduplicated) = ask(&mut bench, asked("two"));
        assert_eq!((again != first.job, deduplicated), (free, !free), "{frees} {fails}");
        assert_eq!(attached(&mut bench, "two"), Some(again));
    }
    // A window gives a failed job too, but no key that it would free at once.
    let mut bench = Bench::new();
    let life = KeyLife {
        ttl_ms: None,
        failed_frees: true,
    };
    let first = bench.fail(both("one", "d", WINDOW, 1, life));
    assert_eq!(ask(&mut bench, both("two", "d", WINDOW, 1, life)), (first, true));
    assert_eq!(bench.count("SELECT count(*) FROM alias"), 0);
    assert_eq!(attached(&mut bench, "two"), None);
}

#[test]
fn a_cancelled_job_keeps_its_further_keys() {
    let mut bench = Bench::new();
    let (job, _) = bench.enqueue(kept("one", LAST, 1));
    ask(&mut bench, kept("two", LAST, 2));
    cancel(&mut bench, job);
    assert_eq!(ask(&mut bench, kept("two", LAST, 2)), (job, true));
    assert_ne!(ask(&mut bench, kept("three", LAST, 3)).0, job);
}

/// The life of each key counts from its own request, and the job stays until the last is over: of one that has ended
/// already as well.
#[test]
fn a_job_is_kept_for_the_last_of_its_keys_and_no_further_key_outlives_it() {
    let ttl_ms = 3 * RETENTION_MS;
    let life = KeyLife {
        ttl_ms: Some(ttl_ms),
        failed_frees: false,
    };
    for ended_first in [false, true] {
        let mut bench = Bench::new();
        let start = bench.now;
        let asked = |key| both(key, "d", WINDOW, 1, life);
        let first = bench.start(asked("one"));
        if ended_first {
            bench.finish(&first, success()).0.unwrap();
        }
        bench.later(20_000);
        if !ended_first {
            bench.report(&first, None, None).0.unwrap();
        }
        assert_eq!(ask(&mut bench, asked("two")), (first.job, true));
        if !ended_first {
            bench.finish(&first, success()).0.unwrap();
        }
        let end = start.plus(20_000 + ttl_ms);
        while bench.now < end {
            bench.now = bench.now.plus(RETENTION_MS / 2).min(end);
            if bench.now == end {
                bench.now = bench.now.plus(HOUR_MS);
            }
            bench.wake();
            let named = attached(&mut bench, "two");
            assert_eq!(named.is_some(), bench.now < end, "{}", bench.now);
            assert_eq!(attached(&mut bench, "one").is_some(), bench.now < start.plus(ttl_ms));
        }
        assert_eq!(bench.count("SELECT count(*) FROM job"), 0);
        assert_eq!(bench.count("SELECT count(*) FROM alias"), 0);
    }
}

#[test]
fn keys_whose_time_is_over_make_room_for_new_jobs_and_leave_no_row_of_theirs() {
    let life = KeyLife {
        ttl_ms: Some(HOUR_MS),
        failed_frees: false,
    };
    let mut bench = Bench::new();
    let asked = |key, n| both(key, "d", DedupeRule::UntilEnded, n, life);
    let first = bench.start(asked("one", 1));
    ask(&mut bench, asked("two", 2));
    bench.finish(&first, success()).0.unwrap();
    bench.later(HOUR_MS);
    let second = bench.start(asked("two", 3));
    assert_ne!(second.job, first.job);
    assert_eq!(bench.count("SELECT count(*) FROM alias"), 0, "it is the job's own now");
    assert_eq!(ask(&mut bench, asked("one", 4)), (second.job, true));
    assert_eq!(bench.count("SELECT count(*) FROM job WHERE key = 'one'"), 0);
}

#[test]
fn a_job_has_a_bounded_number_of_further_keys() {
    let rule = DedupeRule::UntilEnded;
    let mut bench = Bench::new();
    let first = bench.start(kept("one", rule, 1));
    ask(&mut bench, kept("first", rule, 2));
    assert_eq!(
        bench.count("UPDATE alias SET place = 9999 RETURNING place"),
        ALIASES_MAX - 1
    );
    ask(&mut bench, kept("last", rule, 2));
    let call = Call::Enqueue(Box::new(kept("more", rule, 2)));
    let refused = bench.call(call).0;
    assert_eq!(code(&refused), ErrorCode::QueueFull);
    assert!(refused.unwrap_err().message.contains("further keys"));
    for key in ["one", "first", "last"] {
        assert_eq!(ask(&mut bench, kept(key, rule, 3)), (first.job, true), "{key}");
    }
}

#[test]
fn requests_of_one_turn_meet_under_either_key() {
    let mut bench = Bench::new();
    let asked = [("one", 1), ("two", 2), ("one", 1), ("two", 2)];
    let calls = asked.map(|(key, n)| Call::Enqueue(Box::new(kept(key, DedupeRule::UntilEnded, n))));
    let (calls, effects) = bench.send_all(calls);
    let answers: Vec<_> = calls.iter().map(|call| job_of(&replies(&effects)[call])).collect();
    assert!(answers.iter().all(|(job, _)| *job == answers[0].0));
    assert_eq!(
        answers.iter().map(|(_, again)| *again).collect::<Vec<_>>(),
        [false, true, true, true]
    );
}

#[test]
fn a_further_key_costs_two_rows_and_a_job_with_both_keys_as_much_as_one_with_either() {
    let mut bench = Bench::new();
    let before = bench.count("SELECT total_changes()");
    let first = bench.start(kept("one", DedupeRule::UntilEnded, 1));
    let made = bench.count("SELECT total_changes()") - before;
    ask(&mut bench, kept("two", DedupeRule::UntilEnded, 2));
    // SQLite does not count the entry of the index.
    assert_eq!(bench.count("SELECT total_changes()") - before - made, 1);
    bench.finish(&first, success()).0.unwrap();
    assert_eq!((made, bench.count("SELECT total_changes()") - before), (1, 3));
}

/// The key does not say where it lies: whoever attaches by it is sent from object to object.
#[test]
fn a_key_is_looked_for_in_each_object_in_turn_and_found_where_it_is() {
    let mut bench = Bench::new();
    let (job, _) = bench.enqueue(kept("one", LAST, 1));
    ask(&mut bench, kept("two", LAST, 2));
    let attach = |key: &str, at: u16, shards: u16| Call::Follow {
        job: JobRef::Anywhere {
            action: ActionName::parse("a").unwrap(),
            key: IdempotencyKey::parse(key).unwrap(),
            at: ShardIndex(at),
            shards,
        },
        caller: caller("ann"),
        hub: HUB,
        after: None,
    };
    for key in ["one", "two"] {
        match bench.call(attach(key, 1, 3)).0 {
            Ok(Reply::Following { job: found, .. }) => assert_eq!(found, job),
            other => panic!("{other:?}"),
        }
    }
    match bench.call(attach("three", 1, 3)).0 {
        Ok(Reply::Elsewhere { shard, call }) => {
            assert_eq!((shard, *call), (ShardIndex(2), attach("three", 2, 3)));
        }
        other => panic!("{other:?}"),
    }
    let last = bench.call(attach("three", 2, 3)).0;
    assert_eq!(code(&last), ErrorCode::NotFound);
}
