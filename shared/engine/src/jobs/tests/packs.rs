//! Packs: several waiting jobs of a batch lie in one row, and nothing but the number of rows tells of it.

mod model;

use alloc::boxed::Box;
use alloc::vec::Vec;

use tidegate_protocol::calls::executor::Execute;
use tidegate_protocol::calls::jobs::{BatchAsk, Call, Change, Enqueue, Reply};
use tidegate_protocol::calls::queueing::{Counted, PauseScope, Rule, WhenFull};
use tidegate_protocol::event::JobState;
use tidegate_protocol::http::{Reason, Why};
use tidegate_protocol::ids::{JobId, UserId};

use super::super::packs::{PACK_BYTES_MAX, PACK_JOBS_MAX};
use super::super::{RUNNING_MAX, SWEEP_MS, packed};
use super::batches::{ask, in_batch, of_batch};
use super::bench::*;

/// A job of which two run at once.
fn narrow() -> Enqueue {
    let mut enqueue = plain();
    enqueue.job.queueing.limits = alloc::vec![Counted {
        limit: "two".into(),
        key: "".into(),
        rule: Rule::Concurrency { max: 2 },
        cost: 1,
        when_full: WhenFull::Wait,
    }];
    enqueue
}

fn accept(bench: &mut Bench, jobs: impl IntoIterator<Item = Enqueue>) -> (Vec<JobId>, Vec<Execute>) {
    let calls: Vec<Call> = jobs.into_iter().map(|job| Call::Enqueue(Box::new(job))).collect();
    let (_, effects) = bench.send_all(calls);
    let ids = replies(&effects).into_values().map(|reply| match reply {
        Ok(Reply::Acknowledged { job, .. }) => job,
        other => panic!("{other:?}"),
    });
    (ids.collect(), executions(&effects))
}

fn packs(bench: &Bench) -> u64 {
    bench.count("SELECT count(*) FROM pack")
}

fn rows(bench: &Bench) -> u64 {
    bench.count("SELECT count(*) FROM job")
}

/// The rows that SQLite has inserted, updated or deleted, without those of indexes.
fn written(bench: &Bench) -> u64 {
    bench.count("SELECT total_changes()")
}

#[test]
fn a_thousand_jobs_wait_in_a_few_rows_and_write_two_more_each() {
    let mut bench = Bench::new();
    // All places are taken.
    let (_, running) = accept(&mut bench, (0..RUNNING_MAX).map(|_| plain()));
    let before = written(&bench);
    // As they come: some hundreds in one turn.
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.extend(accept(&mut bench, (0..250).map(|_| of_batch(1))).0);
    }
    let waiting = written(&bench) - before;
    assert!(waiting <= 24, "16 packs and the batch in 4 turns: {waiting}");
    assert_eq!((packs(&bench), rows(&bench)), (16, RUNNING_MAX as u64));
    // Each of them runs.
    let finish = |execute: Execute| Call::Finish {
        job: execute.job,
        token: execute.token,
        outcome: success(),
    };
    let (mut running, mut turns) = (running, 0);
    let mut order = Vec::new();
    while !running.is_empty() {
        bench.later(1);
        let calls: Vec<Call> = running.drain(..).map(finish).collect();
        let (_, effects) = bench.send_all(calls);
        running = executions(&effects);
        order.extend(running.iter().map(|execute| execute.job));
        turns += 1;
        assert_eq!(
            bench.count("SELECT count(*) FROM job WHERE due_at IS NOT NULL"),
            0,
            "no entry in an index"
        );
    }
    assert_eq!(order, jobs, "first in, first out");
    let all = written(&bench) - before - RUNNING_MAX as u64;
    assert!(all <= 2000 + waiting + 16 + turns, "{all}");
    assert_eq!(packs(&bench), 0, "and nothing is left of the packs");
}

#[test]
fn one_job_of_a_batch_is_stored_as_any_other() {
    let mut bench = Bench::new();
    accept(&mut bench, (0..RUNNING_MAX).map(|_| plain()));
    bench.enqueue(of_batch(1));
    // And so is each of several that have nothing in common.
    let now = bench.now;
    accept(&mut bench, (0..3).map(|n| in_batch(1, delayed(now.plus(1000 + n)))));
    assert_eq!((packs(&bench), rows(&bench)), (0, RUNNING_MAX as u64 + 4));
}

#[test]
fn what_a_lookup_finds_by_more_than_its_number_has_a_row_of_its_own() {
    let mut bench = Bench::new();
    let mut limited = narrow();
    limited.job.policy.queue_timeout_ms = Some(5000);
    let later = delayed(bench.now.plus(5000));
    let mut given_up = later.clone();
    given_up.job.policy.total_timeout_ms = Some(60_000);
    for special in [keyed("k"), rung(), limited, given_up] {
        let mut bench = Bench::new();
        accept(&mut bench, [narrow(), narrow()]);
        let mut own = in_batch(1, special.clone());
        own.job.queueing = narrow().job.queueing;
        let mut other = own.clone();
        other.keyed = own.keyed.as_ref().and_then(|_| keyed("l").keyed);
        accept(&mut bench, [own, other]);
        assert_eq!((packs(&bench), rows(&bench)), (0, 4), "{special:?}");
    }
    // Without a batch there is nothing to pack.
    accept(&mut bench, [later.clone(), later.clone()]);
    assert_eq!((packs(&bench), rows(&bench)), (0, 2));
    accept(&mut bench, [in_batch(1, later.clone()), in_batch(1, later)]);
    assert_eq!((packs(&bench), rows(&bench)), (1, 2));
}

#[test]
fn a_packed_job_is_shown_listed_and_found_as_any_other() {
    let mut bench = Bench::new();
    let (jobs, _) = accept(
        &mut bench,
        (0..6).map(|n| in_batch(1, if n == 3 { plain() } else { narrow() })),
    );
    assert_eq!((packs(&bench), rows(&bench)), (1, 3));
    let shown = bench.get(jobs[4]);
    assert_eq!((shown.status, shown.attempt, shown.seq.0), (JobState::Queued, 0, 1));
    assert_eq!((shown.job_id, shown.created_at), (jobs[4], bench.now));
    let stranger = Call::Get {
        job: jobs[4],
        caller: caller("eve"),
    };
    assert!(bench.call(stranger).0.is_err());
    let list = |bench: &mut Bench, filter| match bench
        .call(Call::List {
            caller: caller("ann"),
            filter,
        })
        .0
    {
        Ok(Reply::Jobs(page)) => page.jobs.iter().map(|job| job.job_id).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let mut all = jobs.clone();
    all.reverse();
    assert_eq!(list(&mut bench, everything()), all);
    let mut filter = everything();
    filter.status = Some(JobState::Queued);
    assert_eq!(list(&mut bench, filter), [jobs[5], jobs[4], jobs[2]]);
    let why = |bench: &mut Bench, job| match bench
        .call(Call::Why {
            job,
            caller: caller("ann"),
        })
        .0
    {
        Ok(Reply::Why(why)) => serde_json::from_str::<Why>(why.as_str()).unwrap().waits_for,
        other => panic!("{other:?}"),
    };
    assert!(why(&mut bench, jobs[5]).contains(&Reason::Behind { ahead: 2 }));
    assert!(
        !why(&mut bench, jobs[2])
            .iter()
            .any(|reason| matches!(reason, Reason::Behind { .. }))
    );
    assert_eq!((packs(&bench), rows(&bench)), (1, 3), "looking writes nothing");
}

#[test]
fn a_change_of_one_packed_job_leaves_the_others_where_they_are() {
    let mut bench = Bench::new();
    let (jobs, running) = accept(&mut bench, (0..8).map(|_| in_batch(1, narrow())));
    let before = written(&bench);
    let cancel = Call::Cancel {
        job: jobs[3],
        caller: caller("ann"),
    };
    assert_eq!(bench.call(cancel).0, Ok(Reply::Done));
    assert_eq!(written(&bench) - before, 2, "its row and that of the batch");
    let change = |job, change| Call::Change {
        job,
        caller: caller("ann"),
        change,
    };
    bench.call(change(jobs[4], Change::Pause)).0.unwrap();
    bench
        .call(change(jobs[5], Change::Reschedule(bench.now.plus(60_000))))
        .0
        .unwrap();
    bench.crash();
    let states: Vec<JobState> = jobs.iter().map(|job| bench.status(*job)).collect();
    let expected = [
        JobState::Running,
        JobState::Running,
        JobState::Queued,
        JobState::Cancelled,
        JobState::Paused,
        JobState::Scheduled,
        JobState::Queued,
        JobState::Queued,
    ];
    assert_eq!(states, expected);
    assert_eq!(
        (packs(&bench), packed(&bench.db).unwrap().len(), rows(&bench)),
        (1, 3, 5)
    );
    // The others go on in their order.
    let mut order = Vec::new();
    let mut running = running;
    while !running.is_empty() {
        let execute = running.remove(0);
        running.extend(executions(&bench.finish(&execute, success()).1));
        order.push(execute.job);
    }
    assert_eq!(order[2..], [jobs[2], jobs[6], jobs[7]]);
}

/// A claim gives its row no entry in an index, and the number may be below the watermark long since.
#[test]
fn what_runs_out_of_a_pack_is_found_again_after_any_crash() {
    let mut bench = Bench::new();
    let (jobs, running) = accept(&mut bench, (0..6).map(|_| in_batch(1, narrow())));
    bench.later(1000);
    bench.wake();
    let next = execution(&bench.finish(&running[0], success()).1);
    assert_eq!(next.job, jobs[2]);
    let indexed = "SELECT count(*) FROM job WHERE due_at IS NOT NULL AND state = 3";
    assert_eq!(bench.count(indexed), 1, "of the one that has outlived an alarm");
    bench.crash();
    assert_eq!((bench.state.running(), bench.state.waiting()), (2, 3));
    bench
        .report(&next, Some(percent(3.0)), None)
        .0
        .expect("it holds its lease");
    // An alarm sees to it, and takes it out of its pack.
    bench.later(1000);
    bench.wake();
    assert_eq!(bench.count(indexed), 2);
    bench.crash();
    assert_eq!((bench.state.running(), bench.state.waiting()), (2, 3));
    // The last one leaves: the pack stays as long as it is needed to find one.
    let third = execution(&bench.finish(&next, success()).1);
    let fourth = execution(&bench.finish(&running[1], success()).1);
    let fifth = execution(&bench.finish(&third, success()).1);
    assert_eq!((packs(&bench), fifth.job), (1, jobs[5]));
    bench.crash();
    assert_eq!((bench.state.running(), bench.state.waiting()), (2, 0));
    bench.finish(&fourth, success()).0.unwrap();
    bench.finish(&fifth, success()).0.unwrap();
    assert_eq!(packs(&bench), 0);
}

#[test]
fn a_swept_job_never_comes_back_out_of_its_pack() {
    let mut bench = Bench::new();
    let (jobs, running) = accept(&mut bench, (0..5).map(|_| in_batch(1, narrow())));
    // Two of the packed ones run and end; the others are held back for longer than these are kept.
    let next = [0, 1].map(|n| execution(&bench.finish(&running[n], success()).1));
    let operator = tidegate_protocol::calls::Caller {
        reads_all: true,
        writes_all: true,
        user: UserId::parse("op").unwrap(),
        act: None,
    };
    let pause = Call::Pause {
        scope: PauseScope::Tenant,
        caller: operator,
    };
    bench.call(pause).0.unwrap();
    for execute in &next {
        bench.finish(execute, success()).0.unwrap();
    }
    for _ in 0..8 {
        bench.later(RETENTION_MS.max(SWEEP_MS));
        bench.wake();
        bench.crash();
        assert_eq!((bench.state.running(), bench.state.waiting()), (0, 1));
    }
    let gone = Call::Get {
        job: next[0].job,
        caller: caller("ann"),
    };
    assert!(bench.call(gone).0.is_err());
    assert_eq!((packs(&bench), rows(&bench)), (1, 0));
    assert_eq!(bench.status(jobs[4]), JobState::Queued);
}

#[test]
fn a_batch_of_packed_jobs_is_cancelled_as_one() {
    let mut bench = Bench::new();
    accept(&mut bench, (0..RUNNING_MAX).map(|_| plain()));
    let mut jobs = Vec::new();
    for batch in [1, 2, 1, 1] {
        let (ids, _) = accept(&mut bench, (0..200).map(|_| of_batch(batch)));
        if batch == 1 {
            jobs.extend(ids);
        }
    }
    let owner = caller("ann").user;
    bench.call(ask(1, "ann", BatchAsk::Cancel { owner })).0.unwrap();
    for _ in 0..8 {
        bench.later(1);
        bench.wake();
    }
    for job in &jobs {
        assert_eq!(bench.status(*job), JobState::Cancelled);
    }
    assert_eq!(bench.state.waiting(), 200);
    assert_eq!(packs(&bench), 4, "those of the other batch");
    let outcome = match bench.call(Call::Events {
        job: jobs[7],
        caller: caller("ann"),
        after: tidegate_protocol::ids::Seq(0),
    }) {
        (Ok(Reply::History(text)), _) => text,
        other => panic!("{other:?}"),
    };
    assert!(outcome.as_str().contains("CANCELLED"));
}

#[test]
fn a_pack_is_bounded_by_jobs_and_by_bytes() {
    let mut bench = Bench::new();
    let later = bench.now.plus(5000);
    let large = |bytes: usize| {
        let mut enqueue = in_batch(1, delayed(later));
        enqueue.job.payload = value(&alloc::format!("\"{}\"", "x".repeat(bytes)));
        enqueue
    };
    accept(&mut bench, (0..PACK_JOBS_MAX + 2).map(|_| large(1)));
    assert_eq!((packs(&bench), rows(&bench)), (2, 0));
    accept(&mut bench, (0..10).map(|_| large(60_000)));
    assert_eq!((packs(&bench), rows(&bench)), (5, 0), "4, 4 and 2");
    assert!(bench.count("SELECT max(length(jobs)) FROM pack") <= PACK_BYTES_MAX as u64);
    accept(&mut bench, [large(PACK_BYTES_MAX), large(1), large(PACK_BYTES_MAX)]);
    assert_eq!((packs(&bench), rows(&bench)), (5, 3), "each by itself");
    // All of them start with what they came with.
    bench.later(5000);
    let (mut lengths, mut running) = (Vec::new(), executions(&bench.wake()));
    while !running.is_empty() {
        let execute = running.remove(0);
        running.extend(executions(&bench.finish(&execute, success()).1));
        let tidegate_protocol::event::Payload::Inline(text) = &execute.payload else {
            panic!("{execute:?}")
        };
        lengths.push(text.as_str().len() - 2);
    }
    let ones = core::iter::repeat_n(1, PACK_JOBS_MAX + 2);
    let expected = ones.chain(core::iter::repeat_n(60_000, 10));
    let expected: Vec<usize> = expected.chain([PACK_BYTES_MAX, 1, PACK_BYTES_MAX]).collect();
    assert_eq!(lengths, expected);
}
