//! The same change to several jobs.

use alloc::vec;
use alloc::vec::Vec;

use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::jobs::{Call, Filter, ManyAction, Reply, Selection};
use tidegate_protocol::event::JobState;
use tidegate_protocol::http::BulkItem;
use tidegate_protocol::ids::{JobId, JobNumber};

use super::super::{Effect, WAITING_MAX};
use super::bench::*;

/// What became of each, where to go on, and everything the turn wants done.
fn many(
    bench: &mut Bench,
    caller: Caller,
    which: Selection,
    action: ManyAction,
    dry_run: bool,
) -> (Vec<BulkItem>, Option<JobNumber>, Vec<Effect>) {
    let call = Call::Many {
        caller,
        which,
        action,
        dry_run,
    };
    match bench.call(call) {
        (Ok(Reply::Many { jobs, next }), effects) => (jobs, next, effects),
        other => panic!("{other:?}"),
    }
}

fn redrive(bench: &Bench, per_second: u64) -> ManyAction {
    ManyAction::Redrive {
        payload: None,
        start: bench.now,
        interval_us: 1_000_000_u64.checked_div(per_second).unwrap_or(0),
    }
}

fn errors(items: &[BulkItem]) -> Vec<Option<ErrorCode>> {
    let code = |item: &BulkItem| item.error.as_ref().map(|error| error.code);
    items.iter().map(code).collect()
}

#[test]
fn a_dry_run_changes_nothing_and_tells_what_would_be_done() {
    let mut bench = Bench::new();
    let jobs = [bench.fail(plain()), bench.fail(plain())];
    let (waiting, _) = bench.enqueue(delayed(bench.now.plus(1000)));
    let all = || Selection::Filter(everything());
    for (action, expected) in [
        (redrive(&bench, 1), vec![jobs[1], jobs[0]]),
        (ManyAction::Discard, vec![jobs[1], jobs[0]]),
        (ManyAction::Cancel, vec![waiting]),
    ] {
        let (items, _, effects) = many(&mut bench, caller("ann"), all(), action.clone(), true);
        let ids: Vec<JobId> = items.iter().map(|item| item.job_id).collect();
        assert_eq!((ids, effects.len()), (expected, 1), "{action:?}: the answer alone");
    }
    assert_eq!(bench.count("SELECT count(*) FROM job"), 3);
    assert_eq!(bench.dead_letters(everything()).dead_letters.len(), 2);
    assert_eq!(bench.status(waiting), JobState::Scheduled);
}

#[test]
fn a_redrive_of_several_spreads_their_starts_and_makes_each_once() {
    let mut bench = Bench::new();
    for _ in 0..4 {
        bench.fail(plain());
    }
    let action = redrive(&bench, 2);
    let which = Selection::Filter(Filter {
        limit: 3,
        ..everything()
    });
    let (items, next, effects) = many(&mut bench, caller("ann"), which, action, false);
    assert_eq!(executions(&effects).len(), 1, "the first starts, the others wait");
    let starts: Vec<_> = items.iter().map(|item| item.run_at.unwrap()).collect();
    assert_eq!(starts, [0, 500, 1000].map(|ms| bench.now.plus(ms)));
    let scheduled = items[2].redriven_to.unwrap();
    assert_eq!(bench.get(scheduled).run_at, Some(bench.now.plus(1000)));
    assert_eq!(bench.get(scheduled).redriven_from, Some(items[2].job_id));

    let action = redrive(&bench, 2);
    let ids = items.iter().map(|item| item.job_id).collect();
    let (again, _, effects) = many(&mut bench, caller("ann"), Selection::Ids(ids), action.clone(), false);
    assert_eq!(effects.len(), 1, "the same new jobs, nothing else");
    assert!(
        again
            .iter()
            .zip(&items)
            .all(|(a, b)| a.redriven_to == b.redriven_to && a.run_at.is_none())
    );
    let rest = Selection::Filter(Filter {
        below: next,
        ..everything()
    });
    let (last, next, _) = many(&mut bench, caller("ann"), rest, action, false);
    assert_eq!((last.len(), next), (1, None));
    assert!(bench.dead_letters(everything()).dead_letters.is_empty());
}

#[test]
fn each_of_several_jobs_has_its_own_result() {
    let mut bench = Bench::new();
    let failed = bench.fail(plain());
    let execute = bench.start(plain());
    let unknown = JobId::new(JobNumber(1), 1);
    let ids = || Selection::Ids(vec![failed, execute.job, unknown]);
    let action = redrive(&bench, 0);
    let (items, _, _) = many(&mut bench, caller("ann"), ids(), action, false);
    assert_eq!(
        errors(&items),
        [None, Some(ErrorCode::Conflict), Some(ErrorCode::NotFound)]
    );
    let (items, _, effects) = many(&mut bench, caller("ann"), ids(), ManyAction::Cancel, false);
    assert_eq!(
        errors(&items),
        [Some(ErrorCode::Conflict), None, Some(ErrorCode::NotFound)]
    );
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Abandon { job, .. } if *job == execute.job))
    );
    assert_eq!(bench.status(execute.job), JobState::Cancelled);
}

#[test]
fn a_filter_reaches_no_further_than_the_rights_of_its_caller() {
    let mut bench = Bench::new();
    let job = bench.fail(plain());
    let all = || Selection::Filter(everything());
    let reader = Caller {
        reads_all: true,
        ..caller("eve")
    };
    for caller in [caller("eve"), reader] {
        let (items, _, _) = many(&mut bench, caller, all(), ManyAction::Discard, false);
        assert!(items.is_empty());
    }
    let (items, _, _) = many(
        &mut bench,
        caller("eve"),
        Selection::Ids(vec![job]),
        ManyAction::Discard,
        false,
    );
    assert_eq!(errors(&items), [Some(ErrorCode::NotFound)]);
    let writer = Caller {
        writes_all: true,
        ..caller("eve")
    };
    let (items, _, _) = many(&mut bench, writer, all(), ManyAction::Discard, false);
    assert_eq!(errors(&items), [None]);
}

/// Where the queue is full, the next call begins with the job for which there was no room.
#[test]
fn a_redrive_that_finds_no_more_room_leaves_nothing_out() {
    let mut bench = Bench::new();
    let one = bench.fail(plain());
    let two = bench.fail(plain());
    bench.crowd(WAITING_MAX - 1);
    let action = ManyAction::Redrive {
        payload: None,
        start: bench.now.plus(1000),
        interval_us: 0,
    };
    let all = Selection::Filter(everything());
    let (items, next, _) = many(&mut bench, caller("ann"), all, action.clone(), false);
    assert_eq!(errors(&items), [None, Some(ErrorCode::QueueFull)]);
    assert_eq!(next, Some(JobNumber(one.number().0 + 1)), "it is not passed over");
    bench.crash();
    let rest = Selection::Filter(Filter {
        below: next,
        ..everything()
    });
    let (items, next, _) = many(&mut bench, caller("ann"), rest, action, false);
    assert_eq!((items[0].job_id, items.len(), next), (one, 1, None));
    assert_eq!(items[0].error, None);
    assert!(bench.get(two).redriven_to.is_some());
}

#[test]
fn places_that_a_cancel_of_several_frees_are_filled() {
    let mut bench = Bench::new();
    let running: Vec<_> = (0..super::super::RUNNING_MAX).map(|_| bench.start(plain())).collect();
    let (waiting, _) = bench.enqueue(plain());
    let ids = Selection::Ids(vec![running[0].job, running[1].job]);
    let (items, _, effects) = many(&mut bench, caller("ann"), ids, ManyAction::Cancel, false);
    assert_eq!(errors(&items), [None, None]);
    assert_eq!(execution(&effects).job, waiting);
}
