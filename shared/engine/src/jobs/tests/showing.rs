//! Calls that look and calls that wait.

use alloc::boxed::Box;
use alloc::vec::Vec;

use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::jobs::{Call, Enqueue, Filter, JobRef, Reply, Sort};
use tidegate_protocol::event::JobState;
use tidegate_protocol::http::JobPage;
use tidegate_protocol::ids::{ActionName, IdempotencyKey, JobId, JobNumber, Seq, UserId};

use super::super::SCAN_ROWS_MAX;
use super::bench::*;

fn watch(job: JobId, after: u64, until_end: bool) -> Call {
    Call::Watch {
        job,
        caller: caller("ann"),
        after: Some(Seq(after)),
        wait_ms: 2000,
        until_end,
    }
}

#[test]
fn a_watch_is_answered_by_the_next_event_or_with_nothing_at_its_deadline() {
    let mut bench = Bench::new();
    let execute = bench.start(plain());
    let (call, effects) = bench.send(watch(execute.job, 1, false));
    assert!(effects.is_empty());
    let (_, effects) = bench.report(&execute, Some(percent(3.0)), None);
    let reply = &replies(&effects)[&call];
    assert!(
        matches!(reply, Ok(Reply::Following { events, ended: false, .. }) if events.len() == 1),
        "{reply:?}"
    );
    let (reply, _) = bench.call(watch(execute.job, 1, false));
    assert!(
        matches!(reply, Ok(Reply::Following { events, .. }) if events.len() == 1),
        "there is something already"
    );

    let (call, _) = bench.send(watch(execute.job, 2, false));
    bench.later(1999);
    assert!(bench.tick().is_empty());
    bench.later(1);
    let reply = replies(&bench.tick()).remove(&call).unwrap();
    assert!(matches!(reply, Ok(Reply::Following { events, ended: false, .. }) if events.is_empty()));
}

#[test]
fn a_watch_until_the_end_is_answered_by_the_end_alone() {
    let mut bench = Bench::new();
    let execute = bench.start(plain());
    let (call, _) = bench.send(watch(execute.job, 0, true));
    let (_, effects) = bench.report(&execute, Some(percent(3.0)), None);
    assert!(!replies(&effects).contains_key(&call));
    let (_, effects) = bench.finish(&execute, success());
    let reply = &replies(&effects)[&call];
    assert!(
        matches!(reply, Ok(Reply::Following { ended: true, events, .. }) if events.len() == 2),
        "{reply:?}"
    );
}

#[test]
fn a_stranger_sees_nothing_of_a_job() {
    let mut bench = Bench::new();
    let execute = bench.start(keyed("k"));
    let job = execute.job;
    let eve = || caller("eve");
    let by_key = JobRef::Key(ActionName::parse("a").unwrap(), IdempotencyKey::parse("k").unwrap());
    for call in [
        Call::Get { job, caller: eve() },
        Call::Result { job, caller: eve() },
        Call::Watch {
            job,
            caller: eve(),
            after: None,
            wait_ms: 10,
            until_end: false,
        },
        Call::Follow {
            job: JobRef::Id(job),
            caller: eve(),
            hub: HUB,
            after: None,
        },
        Call::Follow {
            job: by_key,
            caller: eve(),
            hub: HUB,
            after: None,
        },
        Call::Get {
            job: JobId::new(job.number(), job.tail() ^ 1),
            caller: caller("ann"),
        },
    ] {
        let (reply, effects) = bench.call(call);
        assert_eq!((code(&reply), effects.len()), (ErrorCode::NotFound, 1));
    }
    let reader = Caller {
        reads_all: true,
        ..eve()
    };
    assert!(bench.call(Call::Get { job, caller: reader }).0.is_ok());
}

#[test]
fn a_result_is_there_once_the_job_has_ended() {
    let mut bench = Bench::new();
    let execute = bench.start(plain());
    let ask = || Call::Result {
        job: execute.job,
        caller: caller("ann"),
    };
    assert_eq!(code(&bench.call(ask()).0), ErrorCode::Conflict);
    bench.finish(&execute, success()).0.unwrap();
    assert_eq!(bench.call(ask()).0, Ok(Reply::Result { result: value("42") }));
}

fn page(bench: &mut Bench, user: &str, filter: Filter) -> JobPage {
    match bench
        .call(Call::List {
            caller: caller(user),
            filter,
        })
        .0
    {
        Ok(Reply::Jobs(page)) => page,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_list_is_newest_first_in_pages_and_shows_a_user_their_own() {
    let mut bench = Bench::new();
    let mut own = Vec::new();
    for n in 0..25 {
        bench.later(10);
        let mut enqueue = plain();
        if n % 5 == 4 {
            enqueue.job.user = UserId::parse("eve").unwrap();
        }
        let execute = bench.start(enqueue);
        if n % 5 != 4 {
            own.push(execute.job);
        }
    }
    own.reverse();
    let mut seen = Vec::new();
    let mut below = None;
    loop {
        let page = page(
            &mut bench,
            "ann",
            Filter {
                below,
                limit: 7,
                ..Filter::default()
            },
        );
        seen.extend(page.jobs.iter().map(|job| job.job_id));
        match page.cursor {
            Some(cursor) => below = Some(JobNumber(cursor.parse().unwrap())),
            None => break,
        }
    }
    assert_eq!(seen, own);
    let of_eve = Filter {
        user: UserId::parse("eve"),
        limit: 100,
        ..Filter::default()
    };
    assert!(page(&mut bench, "ann", of_eve.clone()).jobs.is_empty());
    assert_eq!(page(&mut bench, "eve", of_eve).jobs.len(), 5);
}

#[test]
fn a_list_is_narrowed_by_state_and_action() {
    let mut bench = Bench::new();
    let done = bench.start(plain());
    bench.finish(&done, success()).0.unwrap();
    let mut other = plain();
    other.job.action = ActionName::parse("b").unwrap();
    let running = bench.start(other);
    let mut ids = |filter: Filter| -> Vec<JobId> {
        page(&mut bench, "ann", Filter { limit: 10, ..filter })
            .jobs
            .iter()
            .map(|job| job.job_id)
            .collect()
    };
    assert_eq!(
        ids(Filter {
            status: Some(JobState::Succeeded),
            ..Filter::default()
        }),
        [done.job]
    );
    assert_eq!(
        ids(Filter {
            status: Some(JobState::Running),
            ..Filter::default()
        }),
        [running.job]
    );
    assert_eq!(
        ids(Filter {
            action: ActionName::parse("b"),
            ..Filter::default()
        }),
        [running.job]
    );
    assert_eq!(ids(Filter::default()), [running.job, done.job]);
}

/// A job that waits for its first attempt because every place is taken is answered like any other.
#[test]
fn a_caller_that_waits_for_a_queued_job_is_acknowledged_at_its_deadline() {
    let mut bench = Bench::new();
    for _ in 0..super::super::RUNNING_MAX {
        bench.start(plain());
    }
    let (call, effects) = bench.send(Call::Enqueue(Box::new(Enqueue {
        follower: Some(HUB),
        ..waiting(1000)
    })));
    assert!(effects.is_empty());
    bench.later(1000);
    let reply = replies(&bench.tick()).remove(&call).unwrap();
    assert!(
        matches!(
            reply,
            Ok(Reply::Acknowledged {
                status: JobState::Queued,
                ..
            })
        ),
        "{reply:?}"
    );
}

#[test]
fn the_oldest_come_first_where_that_is_asked_page_by_page_and_bounded() {
    let mut bench = Bench::new();
    let jobs: Vec<JobId> = (0..7)
        .map(|n| {
            bench.later(1000);
            let note = if n == 3 { "no" } else { "yes" };
            bench.enqueue(noted("fits", note)).0
        })
        .collect();
    let oldest = || Filter {
        sort: Sort::Oldest,
        limit: 3,
        ..everything()
    };
    let list = |bench: &mut Bench, filter: Filter| {
        let call = Call::List {
            caller: caller("ann"),
            filter,
        };
        match bench.call(call).0 {
            Ok(Reply::Jobs(page)) => {
                let cursor = page.cursor.map(|text| JobNumber(text.parse().unwrap()));
                (page.jobs.iter().map(|job| job.job_id).collect::<Vec<_>>(), cursor)
            }
            other => panic!("{other:?}"),
        }
    };
    let (first, cursor) = list(&mut bench, oldest());
    assert_eq!(first, jobs[..3]);
    let next = Filter {
        above: cursor,
        metadata: [("fits".into(), "yes".into())].into(),
        ..oldest()
    };
    let (second, cursor) = list(&mut bench, next);
    assert_eq!(second, jobs[4..]);
    let rest = Filter {
        above: cursor,
        ..oldest()
    };
    assert_eq!(list(&mut bench, rest), (Vec::new(), None));
    // Both moments narrow it as they do the other way round.
    let between = Filter {
        created_after: Some(jobs[2].number().moment()),
        created_before: Some(jobs[4].number().moment()),
        ..oldest()
    };
    assert_eq!(list(&mut bench, between.clone()), (jobs[2..4].to_vec(), None));
    let newest = Filter {
        sort: Sort::Newest,
        ..between
    };
    assert_eq!(list(&mut bench, newest), ([jobs[3], jobs[2]].to_vec(), None));
    // A page looks at so many rows in this order as well.
    for _ in 0..SCAN_ROWS_MAX {
        bench.enqueue(delayed(bench.now.plus(60_000)));
    }
    let none = Filter {
        status: Some(JobState::Failed),
        ..oldest()
    };
    let (found, cursor) = list(&mut bench, none);
    assert!(found.is_empty() && cursor > Some(jobs[6].number()));
}
