//! What is done by hand reaches the audit trail, whatever dies in between; and only that.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::audit::{Act, Via};
use tidegate_protocol::calls::jobs::{BatchAsk, Call, Change, ManyAction, Selection};
use tidegate_protocol::calls::queueing::PauseScope;
use tidegate_protocol::calls::tenant::Recorded;
use tidegate_protocol::http::{AuditCounts, AuditEntry, AuditWhat};
use tidegate_protocol::ids::{JobId, RequestId, ShardIndex};

use super::super::{Effect, REDELIVERY_MS, recorded};
use super::batches;
use super::bench::*;
use crate::audit;
use crate::database::native::Native;
use crate::database::{Database, migrate};

fn operator() -> Caller {
    Caller {
        reads_all: true,
        writes_all: true,
        act: Some(Box::new(Act {
            request_id: RequestId::parse("req_1").unwrap(),
            via: Via::Token,
            traceparent: None,
        })),
        ..caller("op")
    }
}

fn told(effects: &[Effect]) -> Vec<Recorded> {
    let told = effects.iter().filter_map(|effect| match effect {
        Effect::Record { entries } => Some(entries.clone()),
        _ => None,
    });
    told.flatten().collect()
}

fn read(told: &[Recorded]) -> Vec<AuditEntry> {
    told.iter()
        .map(|one| serde_json::from_str(one.entry.as_str()).unwrap())
        .collect()
}

/// What the acts of these effects were.
fn acts(effects: &[Effect]) -> Vec<AuditWhat> {
    read(&told(effects)).iter().map(|entry| entry.what).collect()
}

/// The gate has confirmed what was told.
fn confirm(bench: &mut Bench, told: &[Recorded]) -> Vec<Effect> {
    let last = told.last().map_or(0, |one| one.number);
    recorded(&bench.db, &mut bench.state, bench.now, last).unwrap()
}

fn pause() -> Call {
    Call::Pause {
        scope: PauseScope::Tenant,
        caller: operator(),
    }
}

fn resume() -> Call {
    Call::Resume {
        scope: PauseScope::Tenant,
        caller: operator(),
    }
}

#[test]
fn what_was_done_is_told_until_it_is_confirmed_whatever_dies() {
    let mut bench = Bench::new();
    let (_, effects) = bench.call(pause());
    let first = told(&effects);
    assert_eq!(read(&first)[0].who.user, operator().user);
    // The effect is lost with the object. The alarm tells again, the same entry under the same number.
    bench.crash();
    assert_eq!(bench.next_wake(), Some(bench.now), "an alarm is set");
    assert_eq!(told(&bench.alarm()), first);
    assert_eq!(bench.next_wake(), Some(bench.now.plus(REDELIVERY_MS)));
    bench.later(REDELIVERY_MS);
    assert_eq!(told(&bench.wake()), first, "and again, while nobody confirms");
    assert_eq!(confirm(&mut bench, &first), []);
    assert_eq!(bench.next_wake(), None);
    assert_eq!(bench.count("SELECT count(*) FROM audit_outbox"), 0);
    // No number is given twice, although the rows are gone.
    bench.crash();
    let (_, effects) = bench.call(resume());
    assert_eq!(told(&effects)[0].number, first[0].number + 1);
    // A confirmation of the earlier entry says nothing of this one.
    confirm(&mut bench, &first);
    assert!(bench.next_wake().is_some());
}

#[test]
fn many_entries_are_told_in_order_a_bounded_number_at_a_time() {
    let mut bench = Bench::new();
    let gate = Native::in_memory().unwrap();
    migrate(&gate, &[audit::TRAIL, audit::CHAIN]).unwrap();
    let calls = (0..60).flat_map(|_| [pause(), resume()]);
    let (_, effects) = bench.send_all(calls);
    let mut batch = told(&effects);
    let mut sizes = Vec::new();
    while !batch.is_empty() {
        sizes.push(batch.len());
        audit::record(&gate, bench.now, ShardIndex(0), &batch).unwrap();
        let effects = confirm(&mut bench, &batch);
        batch = told(&effects);
    }
    assert_eq!(sizes, [50, 50, 20]);
    let rows = gate
        .run("SELECT count(*) FROM audit WHERE part_of IS NULL", &[])
        .unwrap();
    // All parts of one request: two acts.
    assert_eq!(rows.into_iter().next().unwrap().number().unwrap(), 2);
}

#[test]
fn a_call_about_several_jobs_is_one_entry_with_its_counts_and_a_dry_run_is_none() {
    let mut bench = Bench::new();
    let dead: Vec<JobId> = (0..12).map(|_| bench.fail(plain())).collect();
    let running = bench.start(plain()).job;
    let redrive = ManyAction::Redrive {
        payload: None,
        start: bench.now,
        interval_us: 0,
    };
    let many = |which: Selection, action: &ManyAction, dry_run| Call::Many {
        caller: operator(),
        which,
        action: action.clone(),
        dry_run,
    };
    let all = || Selection::Filter(everything());
    let (_, effects) = bench.call(many(all(), &redrive, true));
    assert_eq!(acts(&effects), []);
    let ids = dead[..2].iter().copied().chain([running]).collect();
    let (_, effects) = bench.call(many(Selection::Ids(ids), &redrive, false));
    let entry = &read(&told(&effects))[0];
    assert_eq!(entry.what, AuditWhat::DeadLettersRedriven);
    assert_eq!(entry.counts, Some(AuditCounts { done: 2, refused: 1 }));
    assert_eq!(entry.target.jobs, dead[..2]);
    confirm(&mut bench, &told(&effects));
    // Redriven before: nothing is done, and nothing is noted.
    let (_, effects) = bench.call(many(Selection::Ids(vec![dead[0]]), &redrive, false));
    assert_eq!(acts(&effects), []);
    let (_, effects) = bench.call(many(all(), &ManyAction::Discard, false));
    let entry = &read(&told(&effects))[0];
    assert_eq!(entry.what, AuditWhat::DeadLettersDiscarded);
    assert_eq!(entry.counts, Some(AuditCounts { done: 10, refused: 0 }));
    assert!(entry.target.filter.is_some());
    confirm(&mut bench, &told(&effects));
    // Discarded before.
    let (_, effects) = bench.call(many(Selection::Ids(vec![dead[5]]), &ManyAction::Discard, false));
    assert_eq!(acts(&effects), []);
    let (_, effects) = bench.call(many(all(), &ManyAction::Cancel, false));
    assert_eq!(acts(&effects), [AuditWhat::JobsCancelled]);
}

#[test]
fn what_an_owner_does_with_their_own_job_is_no_entry_and_what_another_does_is_one() {
    let mut bench = Bench::new();
    let soon = bench.now.plus(60_000);
    let calls = |job, caller: &Caller| {
        let change = |change| Call::Change {
            job,
            caller: caller.clone(),
            change,
        };
        let caller = caller.clone();
        [
            change(Change::Pause),
            change(Change::Resume),
            change(Change::Reschedule(soon)),
            Call::Cancel { job, caller },
        ]
    };
    for (caller, expected) in [
        (caller("ann"), vec![]),
        (
            operator(),
            vec![
                AuditWhat::JobPaused,
                AuditWhat::JobResumed,
                AuditWhat::JobRescheduled,
                AuditWhat::JobCancelled,
            ],
        ),
    ] {
        let (job, _) = bench.enqueue(delayed(soon));
        let (_, effects) = bench.send_all(calls(job, &caller));
        assert_eq!(acts(&effects), expected);
        confirm(&mut bench, &told(&effects));
        // A second time changes nothing.
        let (_, effects) = bench.call(Call::Cancel { job, caller });
        assert_eq!(acts(&effects), []);
    }
}

#[test]
fn a_retry_by_hand_names_both_jobs_once() {
    let mut bench = Bench::new();
    let job = bench.fail(plain());
    let retry = || Call::Retry {
        job,
        caller: operator(),
        payload: None,
    };
    let (_, effects) = bench.call(retry());
    let entry = read(&told(&effects)).remove(0);
    assert_eq!((entry.what, entry.target.jobs), (AuditWhat::JobRetried, vec![job]));
    assert!(entry.target.redriven_to.is_some());
    confirm(&mut bench, &told(&effects));
    let (_, effects) = bench.call(retry());
    assert_eq!(acts(&effects), [], "the same redrive again");
}

#[test]
fn a_pause_that_is_there_already_is_not_noted_again() {
    let mut bench = Bench::new();
    let (_, effects) = bench.send_all([pause(), pause(), resume(), resume()]);
    assert_eq!(acts(&effects), [AuditWhat::QueuePaused, AuditWhat::QueueResumed]);
    // Whoever may not do it leaves no trace of trying.
    let (_, effects) = bench.call(Call::Pause {
        scope: PauseScope::Tenant,
        caller: caller("eve"),
    });
    assert_eq!(acts(&effects), []);
}

#[test]
fn a_plain_jobs_life_writes_nothing_of_it() {
    let mut bench = Bench::new();
    let execute = bench.start(plain());
    bench.report(&execute, Some(percent(50.0)), None).0.unwrap();
    let (_, effects) = bench.finish(&execute, success());
    assert_eq!(acts(&effects), []);
    assert_eq!(bench.count("SELECT count(*) FROM audit_outbox"), 0);
}

#[test]
fn the_cancel_of_a_batch_is_an_entry_that_names_it_and_a_second_one_is_none() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.start(batches::of_batch(1));
    }
    let cancel = || Call::Batch {
        batch: batches::id(1),
        caller: operator(),
        ask: BatchAsk::Cancel {
            owner: caller("ann").user,
        },
    };
    let (_, effects) = bench.call(cancel());
    let entry = &read(&told(&effects))[0];
    assert_eq!(entry.what, AuditWhat::BatchCancelled);
    assert_eq!(entry.counts, Some(AuditCounts { done: 3, refused: 0 }));
    let named = entry.target.filter.as_ref().and_then(|filter| filter.batch.clone());
    assert_eq!(named, Some(batches::id(1)));
    confirm(&mut bench, &told(&effects));
    let (_, effects) = bench.call(cancel());
    assert_eq!(acts(&effects), []);
}
