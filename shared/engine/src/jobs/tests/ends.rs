//! How an end reaches those who follow: deliveries that are confirmed, made again, and forgotten; retention.

use alloc::vec;

use tidegate_protocol::calls::executor::Outcome;
use tidegate_protocol::calls::jobs::{Call, JobRef, Reply};
use tidegate_protocol::event::{JobState, Payload};
use tidegate_protocol::ids::{HubIndex, Seq};

use super::super::{REDELIVERY_MS, SWEEP_MS, TURN_ROWS_MAX};
use super::bench::*;

const DUE: &str = "SELECT count(*) FROM job WHERE due_at IS NOT NULL";

#[test]
fn an_end_is_delivered_again_until_every_hub_has_it() {
    let mut bench = Bench::new();
    let execute = bench.start(followed());
    let other = HubIndex(9);
    let follow = Call::Follow {
        job: JobRef::Id(execute.job),
        caller: caller("ann"),
        hub: other,
        after: None,
    };
    bench.call(follow).0.unwrap();
    let (_, effects) = bench.finish(&execute, success());
    let told = deliveries(&effects);
    assert_eq!(told.len(), 2);
    bench.delivered(other, &told[..1], &[]);
    bench.undelivered(&told[..1]);
    for _ in 0..3 {
        assert_eq!(bench.next_wake(), Some(bench.now.plus(REDELIVERY_MS)));
        let again = deliveries(&bench.alarm());
        assert_eq!(again, told[..1]);
    }
    assert_eq!(
        bench.count(DUE),
        1,
        "an end that outlived an alarm is found after a crash"
    );
    bench.delivered(HUB, &told[..1], &[]);
    assert_eq!(bench.count(DUE), 0);
    bench.later(REDELIVERY_MS);
    assert!(deliveries(&bench.wake()).is_empty());
}

#[test]
fn a_crash_before_an_end_was_confirmed_delivers_it_again() {
    let mut bench = Bench::new();
    let execute = bench.start(followed());
    let (_, effects) = bench.finish(&execute, success());
    let told = deliveries(&effects);
    bench.crash();
    assert_eq!(bench.next_wake(), Some(bench.now));
    assert_eq!(deliveries(&bench.wake()), told);
    bench.crash();
    assert_eq!(
        deliveries(&bench.wake()),
        told,
        "the second crash finds it by the index"
    );
    bench.delivered(HUB, &told, &[]);
    bench.crash();
    assert!(deliveries(&bench.wake()).is_empty());
}

#[test]
fn progress_that_was_not_delivered_is_not_sent_again() {
    let mut bench = Bench::new();
    let execute = bench.start(followed());
    let (_, effects) = bench.report(&execute, Some(percent(1.0)), None);
    bench.undelivered(&deliveries(&effects));
    bench.later(REDELIVERY_MS);
    assert!(deliveries(&bench.wake()).is_empty());
}

#[test]
fn a_hub_without_sockets_for_a_job_is_told_no_more() {
    let mut bench = Bench::new();
    let execute = bench.start(followed());
    let (_, effects) = bench.report(&execute, Some(percent(1.0)), None);
    bench.delivered(HUB, &deliveries(&effects), &[execute.job]);
    let (_, effects) = bench.finish(&execute, success());
    assert!(deliveries(&effects).is_empty());
}

/// The hub said that nobody follows; before that reached the object, a socket of the same hub attached.
#[test]
fn a_hub_that_follows_anew_while_a_batch_is_on_its_way_stays_a_follower() {
    let mut bench = Bench::new();
    let execute = bench.start(followed());
    let (_, effects) = bench.report(&execute, Some(percent(1.0)), None);
    let batch = deliveries(&effects);
    let follow = Call::Follow {
        job: JobRef::Id(execute.job),
        caller: caller("ann"),
        hub: HUB,
        after: None,
    };
    bench.call(follow).0.unwrap();
    bench.delivered(HUB, &batch, &[execute.job]);
    let (_, effects) = bench.finish(&execute, success());
    assert_eq!(deliveries(&effects).len(), 1);
}

#[test]
fn a_job_past_its_retention_is_deleted_with_what_it_owns() {
    let mut bench = Bench::new();
    let mut enqueue = plain();
    enqueue.job.payload = Payload::Stored {
        key: "in".into(),
        bytes: 1,
    };
    let execute = bench.start(enqueue);
    bench.later(1000);
    let result = Payload::Stored {
        key: "out".into(),
        bytes: 1,
    };
    bench.finish(&execute, Outcome::Succeeded { result }).0.unwrap();
    bench.later(RETENTION_MS - 1);
    assert!(deleted(&bench.wake()).is_empty());
    assert_eq!(bench.status(execute.job), JobState::Succeeded);
    assert_eq!(bench.next_wake(), Some(bench.now.plus(1)));
    assert_eq!(deleted(&bench.alarm()), ["in", "out"]);
    assert_eq!(bench.count("SELECT count(*) FROM job"), 0);
    assert_eq!(bench.next_wake(), None);
}

#[test]
fn a_sweep_is_bounded_and_goes_on() {
    let mut bench = Bench::new();
    for _ in 0..TURN_ROWS_MAX + 5 {
        let execute = bench.start(plain());
        bench.finish(&execute, success()).0.unwrap();
    }
    bench.later(RETENTION_MS);
    bench.wake();
    assert_eq!(bench.count("SELECT count(*) FROM job"), 5);
    bench.alarm();
    assert_eq!(bench.count("SELECT count(*) FROM job"), 0);
}

#[test]
fn an_end_that_nobody_confirmed_is_not_swept() {
    let mut bench = Bench::new();
    let execute = bench.start(followed());
    let (_, effects) = bench.finish(&execute, success());
    let told = deliveries(&effects);
    bench.later(RETENTION_MS);
    assert_eq!(deliveries(&bench.wake()), told);
    assert_eq!(bench.count("SELECT count(*) FROM job"), 1);
    bench.delivered(HUB, &told, &[]);
    bench.later(SWEEP_MS);
    bench.wake();
    assert_eq!(bench.count("SELECT count(*) FROM job"), 0);
}

#[test]
fn a_key_is_free_again_after_its_retention() {
    let mut bench = Bench::new();
    let first = bench.start(keyed("k"));
    bench.finish(&first, success()).0.unwrap();
    bench.later(RETENTION_MS);
    bench.wake();
    let second = bench.start(keyed("k"));
    assert_ne!(first.job, second.job);
}

#[test]
fn a_follower_gets_what_it_missed_or_where_the_job_stands() {
    let mut bench = Bench::new();
    let execute = bench.start(plain());
    for percentage in [10.0, 20.0, 30.0] {
        bench.report(&execute, Some(percent(percentage)), None).0.unwrap();
    }
    let mut follow = |after: Option<u64>| {
        let (job, hub) = (JobRef::Id(execute.job), HUB);
        let call = Call::Follow {
            job,
            caller: caller("ann"),
            hub,
            after: after.map(Seq),
        };
        match bench.call(call).0 {
            Ok(Reply::Following {
                snapshot,
                events,
                ended,
                ..
            }) => {
                let seqs: vec::Vec<u64> = events.iter().map(|event| event.seq.0).collect();
                (snapshot.map(|snapshot| (snapshot.seq.0, snapshot.gap)), seqs, ended)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(follow(None), (Some((4, false)), vec![], false));
    assert_eq!(follow(Some(0)), (None, vec![2, 3, 4], false));
    assert_eq!(follow(Some(3)), (None, vec![4], false));
    assert_eq!(follow(Some(4)), (None, vec![], false));
    assert_eq!(follow(Some(99)), (Some((4, false)), vec![], false));
    let (_, effects) = bench.finish(&execute, success());
    assert_eq!(deliveries(&effects).len(), 1);
    let mut follow = |after: Option<u64>| {
        let call = Call::Watch {
            job: execute.job,
            caller: caller("ann"),
            after: after.map(Seq),
            wait_ms: 1000,
            until_end: true,
        };
        match bench.call(call).0 {
            Ok(Reply::Following {
                events, ended: true, ..
            }) => events.len(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((follow(None), follow(Some(4)), follow(Some(5))), (4, 1, 0));
}

#[test]
fn a_cursor_older_than_the_log_gets_a_snapshot_that_says_so() {
    let mut bench = Bench::new();
    let execute = bench.start(plain());
    for n in 0..100 {
        bench.report(&execute, Some(percent(f64::from(n))), None).0.unwrap();
    }
    let call = |after| Call::Follow {
        job: JobRef::Id(execute.job),
        caller: caller("ann"),
        hub: HUB,
        after,
    };
    let (reply, _) = bench.call(call(Some(Seq(5))));
    let Ok(Reply::Following {
        snapshot: Some(snapshot),
        events,
        ..
    }) = reply
    else {
        panic!("{reply:?}")
    };
    assert!(snapshot.gap && events.is_empty());
    assert_eq!((snapshot.seq, snapshot.progress.percentage), (Seq(101), 99.0));
    bench.finish(&execute, success()).0.unwrap();
    let (reply, _) = bench.call(call(Some(Seq(5))));
    let Ok(Reply::Following {
        snapshot: None,
        events,
        ended: true,
        ..
    }) = reply
    else {
        panic!("{reply:?}")
    };
    assert_eq!(events.len(), 1, "the snapshot of an ended job is its end");
    for after in [events[0].seq, Seq(999)] {
        let (reply, _) = bench.call(call(Some(after)));
        let again = matches!(&reply, Ok(Reply::Following { events: told, ended: true, .. }) if *told == events);
        assert!(again, "who attaches to an ended job is told its end: {reply:?}");
    }
}
