//! Batches: their counts are those of their jobs, and a cancel ends each of them once.

mod model;

use alloc::boxed::Box;
use alloc::vec::Vec;

use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::jobs::{BatchAsk, Call, Enqueue, Filter, Reply};
use tidegate_protocol::event::{Happening, JobState};
use tidegate_protocol::http::BatchView;
use tidegate_protocol::ids::{BatchId, JobId};

use super::super::{Effect, RUNNING_MAX, TURN_ROWS_MAX};
use super::bench::*;

pub(super) fn id(n: usize) -> BatchId {
    BatchId::parse(&alloc::format!("bat_{n:018}")).unwrap()
}

/// A plain job of a batch.
pub(super) fn of_batch(n: usize) -> Enqueue {
    in_batch(n, plain())
}

pub(super) fn in_batch(n: usize, mut enqueue: Enqueue) -> Enqueue {
    enqueue.job.batch = Some(id(n));
    enqueue
}

pub(super) fn ask(n: usize, who: &str, ask: BatchAsk) -> Call {
    Call::Batch {
        batch: id(n),
        caller: caller(who),
        ask,
    }
}

fn cancel_of(n: usize) -> Call {
    let owner = caller("ann").user;
    ask(n, "ann", BatchAsk::Cancel { owner })
}

pub(super) fn read(reply: &Result<Reply, tidegate_protocol::Error>) -> BatchView {
    let Ok(Reply::Batch(text)) = reply else {
        panic!("{reply:?}")
    };
    serde_json::from_str(text.as_str()).unwrap()
}

pub(super) fn show(bench: &mut Bench, n: usize) -> BatchView {
    read(&bench.call(ask(n, "ann", BatchAsk::Show { wait_ms: 0 })).0)
}

pub(super) fn cancel(bench: &mut Bench, n: usize) -> (BatchView, Vec<Effect>) {
    let (reply, effects) = bench.call(cancel_of(n));
    (read(&reply), effects)
}

/// Accepts so many jobs of one batch in one turn.
fn accept(bench: &mut Bench, n: usize, jobs: usize) -> (Vec<JobId>, Vec<Effect>) {
    let (_, effects) = bench.send_all((0..jobs).map(|_| Call::Enqueue(Box::new(of_batch(n)))));
    let ids = replies(&effects).into_values().map(|reply| match reply {
        Ok(Reply::Acknowledged { job, .. }) => job,
        other => panic!("{other:?}"),
    });
    (ids.collect(), effects)
}

fn parts(view: &BatchView) -> [u64; 7] {
    [
        view.accepted,
        view.waiting,
        view.running,
        view.succeeded,
        view.failed,
        view.cancelled,
        view.expired,
    ]
}

#[test]
fn a_handle_tells_how_the_jobs_of_its_batch_stand() {
    let mut bench = Bench::new();
    let (_, effects) = accept(&mut bench, 1, 3);
    bench.start(plain());
    bench.enqueue(in_batch(1, delayed(bench.now.plus(5000))));
    let created = bench.now;
    let view = show(&mut bench, 1);
    assert_eq!((parts(&view), view.progress), ([4, 1, 3, 0, 0, 0, 0], 0.0));
    let running = executions(&effects);
    bench.later(10);
    bench.report(&running[0], Some(percent(50.0)), None).0.unwrap();
    bench.finish(&running[1], success()).0.unwrap();
    bench.finish(&running[2], failure(false)).0.unwrap();
    let view = show(&mut bench, 1);
    assert_eq!((parts(&view), view.progress), ([4, 1, 1, 1, 1, 0, 0], 62.5));
    assert_eq!(
        (view.created_at, view.ended_at, view.cancelled_at),
        (created, None, None)
    );
    bench.crash();
    assert_eq!(show(&mut bench, 1), view, "none of it is lost");
    assert_eq!(bench.get(running[0].job).batch_id, Some(id(1)));
    // Nobody else's business, and no other batch.
    for (n, who) in [(1, "eve"), (2, "ann")] {
        let shown = bench.call(ask(n, who, BatchAsk::Show { wait_ms: 0 })).0;
        assert_eq!(code(&shown), ErrorCode::NotFound);
    }
    let reader = Caller {
        reads_all: true,
        ..caller("eve")
    };
    let call = |ask| Call::Batch {
        batch: id(1),
        caller: reader.clone(),
        ask,
    };
    assert!(bench.call(call(BatchAsk::Show { wait_ms: 0 })).0.is_ok());
    let owner = caller("ann").user;
    assert_eq!(
        code(&bench.call(call(BatchAsk::Cancel { owner })).0),
        ErrorCode::Forbidden
    );
    let owner = caller("ann").user;
    let stranger = ask(1, "eve", BatchAsk::Cancel { owner });
    assert_eq!(code(&bench.call(stranger).0), ErrorCode::NotFound);
    assert_eq!(show(&mut bench, 1).cancelled_at, None);
}

#[test]
fn one_row_tells_of_all_jobs_of_a_batch_and_is_written_once_a_turn() {
    let mut bench = Bench::new();
    let before = bench.count("SELECT total_changes()");
    let (_, effects) = accept(&mut bench, 1, 100);
    assert_eq!(
        bench.count("SELECT total_changes()") - before,
        101,
        "a row for each job that starts, and one"
    );
    let finishes = executions(&effects).into_iter().map(|execute| Call::Finish {
        job: execute.job,
        token: execute.token,
        outcome: success(),
    });
    let before = bench.count("SELECT total_changes()");
    bench.send_all(finishes);
    assert_eq!(bench.count("SELECT total_changes()") - before, 101);
    assert_eq!(parts(&show(&mut bench, 1)), [100, 0, 0, 100, 0, 0, 0]);
}

#[test]
fn the_jobs_of_a_batch_are_listed_and_no_others() {
    let mut bench = Bench::new();
    let mut own = Vec::new();
    for n in 0..12 {
        bench.later(5);
        let (job, _) = bench.enqueue(of_batch(n % 2));
        if n % 2 == 1 {
            own.push(job);
        }
        bench.enqueue(plain());
    }
    own.reverse();
    let filter = |batch, below| Filter {
        batch: Some(id(batch)),
        below,
        limit: 4,
        ..Filter::default()
    };
    let mut page = |filter: Filter| match bench
        .call(Call::List {
            caller: caller("ann"),
            filter,
        })
        .0
    {
        Ok(Reply::Jobs(page)) => page,
        other => panic!("{other:?}"),
    };
    let (mut seen, mut below) = (Vec::new(), None);
    loop {
        let page = page(filter(1, below));
        seen.extend(page.jobs.iter().map(|job| job.job_id));
        let Some(cursor) = page.cursor else { break };
        below = Some(tidegate_protocol::ids::JobNumber(cursor.parse().unwrap()));
    }
    assert_eq!(seen, own);
    assert!(page(filter(7, None)).jobs.is_empty());
}

#[test]
fn a_cancel_ends_what_is_open_and_what_comes_later_is_refused() {
    let mut bench = Bench::new();
    let (jobs, effects) = accept(&mut bench, 1, RUNNING_MAX + 3);
    let other = bench.enqueue(plain()).0;
    let running = executions(&effects);
    bench.finish(&running[0], success()).0.unwrap();
    let (view, effects) = cancel(&mut bench, 1);
    assert_eq!(parts(&view), [131, 0, 0, 1, 0, 130, 0]);
    assert_eq!(
        (view.progress, view.ended_at, view.cancelled_at),
        (100.0, Some(bench.now), Some(bench.now))
    );
    let started = executions(&effects);
    assert_eq!(
        started.iter().map(|e| e.job).collect::<Vec<_>>(),
        [other],
        "the places are for others"
    );
    for job in &jobs {
        assert!(bench.status(*job).is_ended());
    }
    assert_eq!(code(&bench.finish(&running[1], success()).0), ErrorCode::LeaseLost);
    bench.crash();
    assert_eq!(
        code(&bench.call(Call::Enqueue(Box::new(of_batch(1)))).0),
        ErrorCode::Cancelled
    );
    // A repetition finds the jobs as they are; another cancel changes nothing.
    assert_eq!(cancel(&mut bench, 1).0, view);
}

#[test]
fn a_long_cancel_goes_on_by_itself_and_nothing_of_the_batch_starts_meanwhile() {
    let mut bench = Bench::new();
    let jobs = RUNNING_MAX + 2 * usize::try_from(TURN_ROWS_MAX).unwrap();
    let (_, effects) = accept(&mut bench, 1, jobs);
    let running = executions(&effects);
    assert_eq!(running.len(), RUNNING_MAX);
    let (view, effects) = cancel(&mut bench, 1);
    assert!(view.cancelled >= TURN_ROWS_MAX && view.waiting > 0, "{view:?}");
    assert!(executions(&effects).is_empty(), "none of those that wait starts");
    bench.crash();
    assert!(bench.next_wake().is_some_and(|at| at <= bench.now), "it is stored");
    let mut turns = 0;
    while show(&mut bench, 1).waiting > 0 {
        assert!(executions(&bench.alarm()).is_empty());
        turns += 1;
        assert!(turns < 5);
    }
    assert!(turns > 0);
    let open = "SELECT count(*) FROM job WHERE state < 4 OR state = 8";
    assert_eq!((bench.count(open), show(&mut bench, 1).cancelled), (0, jobs as u64));
    let ends = "SELECT count(*) FROM batch WHERE due_at IS NOT NULL";
    bench.wake();
    assert_eq!(bench.count(ends), 0, "and comes to an end");
}

#[test]
fn a_running_job_of_a_cancelled_batch_has_its_grace() {
    let mut bench = Bench::new();
    let mut enqueue = of_batch(1);
    enqueue.job.policy.cancel_grace_ms = 3000;
    let execute = bench.start(enqueue);
    let (view, _) = cancel(&mut bench, 1);
    assert_eq!((view.running, view.cancelled, view.ended_at), (1, 0, None));
    let (told, _) = bench.report(&execute, None, None);
    assert!(
        matches!(
            told,
            Ok(Reply::Continue {
                cancelled_until: Some(_),
                ..
            })
        ),
        "{told:?}"
    );
    bench.finish(&execute, success()).0.unwrap();
    let view = show(&mut bench, 1);
    assert_eq!((view.running, view.cancelled, view.ended_at), (0, 1, Some(bench.now)));
}

#[test]
fn an_object_that_has_nothing_of_a_cancelled_batch_takes_nothing_of_it() {
    let mut bench = Bench::new();
    let (view, _) = cancel(&mut bench, 1);
    assert_eq!(parts(&view), [0; 7]);
    bench.crash();
    assert_eq!(
        code(&bench.call(Call::Enqueue(Box::new(of_batch(1)))).0),
        ErrorCode::Cancelled
    );
    assert_eq!(bench.count("SELECT count(*) FROM job"), 0);
    bench.alarm();
    assert_eq!(bench.count("SELECT count(*) FROM batch"), 0, "the mark goes by itself");
    assert_eq!(bench.next_wake(), None);
}

#[test]
fn a_call_waits_for_the_end_of_a_batch() {
    let mut bench = Bench::new();
    let (_, effects) = accept(&mut bench, 1, 2);
    let running = executions(&effects);
    let (call, effects) = bench.send(ask(1, "ann", BatchAsk::Show { wait_ms: 5000 }));
    let (late, _) = bench.send(ask(1, "ann", BatchAsk::Show { wait_ms: 1000 }));
    assert!(effects.is_empty());
    let (_, effects) = bench.finish(&running[0], success());
    assert_eq!(replies(&effects).len(), 1, "one of two has ended");
    bench.later(1000);
    assert_eq!(bench.state.next_tick(), Some(bench.now));
    let told = replies(&bench.tick());
    assert_eq!(read(&told[&late]).running, 1);
    let (_, effects) = bench.finish(&running[1], failure(false));
    let view = read(&replies(&effects)[&call]);
    assert_eq!((view.succeeded, view.failed, view.ended_at), (1, 1, Some(bench.now)));
    assert_eq!(bench.state.next_tick(), None);
    let (now, _) = bench.call(ask(1, "ann", BatchAsk::Show { wait_ms: 5000 }));
    assert_eq!(read(&now), view, "what has ended is not waited for");
}

#[test]
fn a_batch_goes_with_the_last_of_its_jobs() {
    let mut bench = Bench::new();
    let first = bench.start(of_batch(1));
    bench.finish(&first, success()).0.unwrap();
    bench.enqueue(in_batch(1, delayed(bench.now.plus(RETENTION_MS / 2))));
    bench.later(RETENTION_MS / 2);
    let second = execution(&bench.wake());
    bench.finish(&second, success()).0.unwrap();
    bench.later(RETENTION_MS / 2);
    bench.wake();
    assert_eq!(bench.count("SELECT count(*) FROM job"), 1);
    assert_eq!(parts(&show(&mut bench, 1)), [2, 0, 0, 2, 0, 0, 0], "the counts stay");
    bench.later(2 * RETENTION_MS);
    bench.wake();
    assert_eq!(bench.count("SELECT count(*) FROM job"), 0);
    assert_eq!(bench.count("SELECT count(*) FROM batch"), 0);
}

#[test]
fn what_does_a_job_of_a_batch_again_is_not_of_it() {
    let mut bench = Bench::new();
    let failed = bench.fail(of_batch(1));
    let before = show(&mut bench, 1);
    let (new, _) = bench.retry(failed, None);
    assert_eq!((new.batch_id, bench.get(failed).batch_id), (None, Some(id(1))));
    assert_eq!(show(&mut bench, 1), before);
}

#[test]
fn a_job_of_a_batch_ends_once_when_all_is_cancelled() {
    let mut bench = Bench::new();
    let mut enqueue = of_batch(1);
    enqueue.follower = Some(HUB);
    let (job, _) = bench.enqueue(enqueue);
    let (_, effects) = cancel(&mut bench, 1);
    let ends = deliveries(&effects);
    assert_eq!(ends.len(), 1);
    assert!(matches!(&ends[0].event.what, Happening::Failed { error } if error.code == ErrorCode::Cancelled));
    assert_eq!(bench.status(job), JobState::Cancelled);
}
