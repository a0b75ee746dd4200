//! Dead letters, and the filters of every list.

use alloc::vec::Vec;

use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::jobs::{Call, Filter, ManyAction, Reply, Selection};
use tidegate_protocol::event::JobState;
use tidegate_protocol::ids::{ActionName, JobId, JobNumber, UserId};
use tidegate_protocol::time::UnixMs;

use super::super::{SCAN_ROWS_MAX, STEPS};
use super::bench::*;

fn dead(bench: &mut Bench) -> Vec<JobId> {
    let page = bench.dead_letters(everything());
    page.dead_letters.iter().map(|letter| letter.job_id).collect()
}

fn discard(bench: &mut Bench, job: JobId) -> Option<ErrorCode> {
    let call = Call::Many {
        caller: caller("ann"),
        which: Selection::Ids(alloc::vec![job]),
        action: ManyAction::Discard,
        dry_run: false,
    };
    match bench.call(call).0 {
        Ok(Reply::Many { mut jobs, .. }) => jobs.remove(0).error.map(|error| error.code),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_failed_job_is_a_dead_letter_until_it_is_redriven_or_discarded() {
    let mut bench = Bench::new();
    let (one, two, three) = (bench.fail(plain()), bench.fail(plain()), bench.fail(plain()));
    let execute = bench.start(plain());
    bench.finish(&execute, success()).0.unwrap();
    let (cancelled, _) = bench.enqueue(delayed(bench.now.plus(1000)));
    let cancel = Call::Cancel {
        job: cancelled,
        caller: caller("ann"),
    };
    bench.call(cancel).0.unwrap();
    assert_eq!(dead(&mut bench), [three, two, one], "newest first, failures alone");
    bench.retry(two, None);
    assert_eq!(discard(&mut bench, three), None);
    bench.crash();
    assert_eq!(dead(&mut bench), [one]);
    assert_eq!(discard(&mut bench, three), None, "discarding again changes nothing");
    assert_eq!(discard(&mut bench, two), Some(ErrorCode::Conflict));
    assert_eq!(discard(&mut bench, execute.job), Some(ErrorCode::Conflict));
    assert_eq!(bench.status(three), JobState::Failed, "the job stays as it ended");
    assert_eq!(
        bench.retry(three, None).0.redriven_from,
        Some(three),
        "and can still be retried by name"
    );
}

#[test]
fn a_dead_letter_tells_why_each_attempt_failed() {
    let mut bench = Bench::new();
    let mut execute = bench.start(plain());
    for attempt in 2..=3 {
        bench.finish(&execute, failure(true)).0.unwrap();
        execute = execution(&bench.alarm());
        assert_eq!(execute.attempt, attempt);
    }
    bench.finish(&execute, failure(true)).0.unwrap();
    let letter = bench.dead_letters(everything()).dead_letters.remove(0);
    assert_eq!((letter.job_id, letter.attempts), (execute.job, 3));
    assert_eq!(letter.error.code, ErrorCode::UpstreamError);
    let earlier: Vec<_> = letter.earlier_errors.iter().map(|error| error.attempt).collect();
    assert_eq!(earlier, [1, 2]);
    assert_eq!(letter.failed_at, Some(bench.now));
}

#[test]
fn a_stranger_sees_no_dead_letter_and_a_reader_all() {
    let mut bench = Bench::new();
    let job = bench.fail(plain());
    let mut seen_by = |caller: Caller, user: Option<&str>| {
        let filter = Filter {
            user: user.and_then(UserId::parse),
            ..everything()
        };
        match bench.call(Call::DeadLetters { caller, filter }).0 {
            Ok(Reply::DeadLetters(page)) => page.dead_letters.len(),
            other => panic!("{other:?}"),
        }
    };
    let reader = || Caller {
        reads_all: true,
        ..caller("eve")
    };
    assert_eq!(seen_by(caller("eve"), None), 0);
    assert_eq!(seen_by(caller("eve"), Some("ann")), 0);
    assert_eq!(seen_by(reader(), None), 1);
    assert_eq!(seen_by(reader(), Some("ann")), 1);
    assert_eq!(seen_by(reader(), Some("eve")), 0, "{job}");
}

#[test]
fn each_condition_narrows_a_list_of_jobs_and_of_dead_letters() {
    let mut bench = Bench::new();
    let old = bench.fail(noted("k", "v"));
    bench.later(5000);
    let mut other = noted("k", "w");
    other.job.action = ActionName::parse("b").unwrap();
    let new = bench.fail(other);
    let start = bench.now;
    let cases: [(Filter, &[JobId]); 9] = [
        (everything(), &[new, old]),
        (
            Filter {
                action: ActionName::parse("a"),
                ..everything()
            },
            &[old],
        ),
        (
            Filter {
                metadata: [("k".into(), "v".into())].into(),
                ..everything()
            },
            &[old],
        ),
        (
            Filter {
                metadata: [("j".into(), "v".into())].into(),
                ..everything()
            },
            &[],
        ),
        (
            Filter {
                code: Some(ErrorCode::UpstreamError),
                ..everything()
            },
            &[new, old],
        ),
        (
            Filter {
                code: Some(ErrorCode::Timeout),
                ..everything()
            },
            &[],
        ),
        (
            Filter {
                created_after: Some(start),
                ..everything()
            },
            &[new],
        ),
        (
            Filter {
                created_before: Some(start),
                ..everything()
            },
            &[old],
        ),
        (
            Filter {
                created_after: Some(UnixMs(0)),
                created_before: UnixMs::parse("9999-12-31T23:59:59Z"),
                ..everything()
            },
            &[new, old],
        ),
    ];
    for (filter, expected) in cases {
        let page = bench.dead_letters(filter.clone());
        let letters: Vec<_> = page.dead_letters.iter().map(|letter| letter.job_id).collect();
        assert_eq!(letters, expected, "{filter:?}");
        let list = Call::List {
            caller: caller("ann"),
            filter: filter.clone(),
        };
        let Ok(Reply::Jobs(page)) = bench.call(list).0 else {
            panic!("no page")
        };
        let jobs: Vec<_> = page.jobs.iter().map(|job| job.job_id).collect();
        assert_eq!(jobs, expected, "{filter:?}");
    }
}

#[test]
fn a_page_looks_at_a_bounded_number_of_rows_and_says_where_to_go_on() {
    let mut bench = Bench::new();
    let at = bench.now.plus(3_600_000);
    let mut first = noted("k", "v");
    first.job.run_at = Some(at);
    let (first, _) = bench.enqueue(first);
    for _ in 0..SCAN_ROWS_MAX {
        bench.enqueue(delayed(at));
    }
    let mut filter = Filter {
        metadata: [("k".into(), "v".into())].into(),
        ..everything()
    };
    let mut pages = 0;
    loop {
        let list = Call::List {
            caller: caller("ann"),
            filter: filter.clone(),
        };
        let Ok(Reply::Jobs(page)) = bench.call(list).0 else {
            panic!("no page")
        };
        pages += 1;
        if let Some(found) = page.jobs.first() {
            assert_eq!((found.job_id, pages), (first, 2));
            break;
        }
        let cursor = page.cursor.expect("there is more");
        filter.below = cursor.parse().ok().map(JobNumber);
    }
}

#[test]
fn a_job_that_failed_before_there_were_dead_letters_is_one() {
    let mut bench = Bench::new();
    // As before their step, in a table that has what later steps brought.
    bench.alter(&[
        "DROP INDEX job_dead",
        "ALTER TABLE job DROP COLUMN redriven_to",
        "ALTER TABLE job DROP COLUMN discarded_at",
    ]);
    let job = bench.fail(plain());
    bench.alter(STEPS[4]);
    assert_eq!(dead(&mut bench), [job]);
}
