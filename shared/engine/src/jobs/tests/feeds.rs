//! What happens to jobs is told to the channels that tell it: each change once, in the order of each job; and only where that is
//! asked for.

mod world;

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::channel::Keep;
use tidegate_protocol::calls::executor::Outcome;
use tidegate_protocol::calls::feeds::{Changes, Feeds};
use tidegate_protocol::calls::jobs::{Call, Change, Enqueue};
use tidegate_protocol::changes::{ChangeKind, JobChange};
use tidegate_protocol::event::JobState;
use tidegate_protocol::ids::{ChannelName, UserId};

use super::super::{Effect, PROGRESS_MS, REDELIVERY_MS, changes_told};
use super::bench::*;
use crate::composition::{Plan, TEST_MANIFESTS, compile};
use tidegate_protocol::Error;

/// As compositions ask for it.
fn feeds(channels: &str) -> Feeds {
    let document = alloc::format!(r#"{{"tidegate":1,"patterns":{{}},"actions":{{}},"channels":{channels}}}"#);
    let plan: Plan = compile(&document, TEST_MANIFESTS).unwrap();
    plan.channels.feeds()
}

const BOTH: &str = r#"{"tenant": {"jobs": true, "history": {"messages": 100000}}, "user": {"jobs": true, "history": {"messages": 100000}}}"#;
const TENANT: &str = r#"{"tenant": {"jobs": true}}"#;

fn told_of(channels: &str, mut enqueue: Enqueue) -> Enqueue {
    enqueue.job.policy.feeds = feeds(channels);
    enqueue
}

/// What channels are told.
fn told(effects: &[Effect]) -> Vec<(ChannelName, Vec<Changes>, Keep)> {
    let told = effects.iter().filter_map(|effect| match effect {
        Effect::TellChanges { channel, rows, keep } => Some((channel.clone(), rows.clone(), *keep)),
        _ => None,
    });
    told.collect()
}

/// The changes of the one call among the effects, and the number up to which they go.
fn changes(effects: &[Effect]) -> (Vec<JobChange>, u64) {
    match told(effects).as_slice() {
        [] => (vec![], 0),
        [(_, rows, _)] => {
            let all = rows.iter().flat_map(|row| &row.changes);
            let read = all.map(|text| serde_json::from_str(text.as_str()).unwrap());
            (read.collect(), rows.last().unwrap().number)
        }
        other => panic!("{other:?}"),
    }
}

fn tenant_jobs() -> ChannelName {
    ChannelName::parse("tenant:jobs").unwrap()
}

fn confirm(bench: &mut Bench, said: Result<u64, Error>) -> Vec<Effect> {
    changes_told(&bench.db, &mut bench.state, bench.now, &tenant_jobs(), said).unwrap()
}

/// What a turn tells, which is confirmed at once.
fn heard(bench: &mut Bench, effects: &[Effect]) -> Vec<(ChangeKind, JobState)> {
    let (changes, number) = changes(effects);
    if number > 0 {
        assert_eq!(told(&confirm(bench, Ok(number))), []);
    }
    changes.iter().map(|change| (change.kind, change.status)).collect()
}

#[test]
fn each_change_of_a_job_is_told_as_it_is_then() {
    use ChangeKind::{Acknowledgment, Complete, Error, Paused, Progress, Retrying, Started, Waiting};
    let mut bench = Bench::new();
    let (job, effects) = bench.enqueue(told_of(TENANT, plain()));
    let (first, _) = changes(&effects);
    assert_eq!((first[0].job_id, first[0].seq.0, first[0].attempt), (job, 1, 1));
    assert_eq!((first[0].user.as_str(), first[0].action.as_str()), ("ann", "a"));
    assert_eq!(
        (first[0].at, first[0].percentage, first[0].code),
        (bench.now, None, None)
    );
    let mut execute = execution(&effects);
    assert_eq!(heard(&mut bench, &effects), [(Acknowledgment, JobState::Running)]);
    let (_, effects) = bench.report(&execute, Some(percent(20.0)), None);
    assert_eq!(changes(&effects).0[0].percentage, Some(20.0));
    assert_eq!(heard(&mut bench, &effects), [(Progress, JobState::Running)]);
    let (_, effects) = bench.finish(&execute, failure(true));
    assert_eq!(changes(&effects).0[0].code, Some(ErrorCode::UpstreamError));
    assert_eq!(heard(&mut bench, &effects), [(Retrying, JobState::Retrying)]);
    let change = |bench: &mut Bench, change| {
        let caller = caller("ann");
        let (_, effects) = bench.call(Call::Change { job, caller, change });
        heard(bench, &effects)
    };
    assert_eq!(change(&mut bench, Change::Pause), [(Paused, JobState::Paused)]);
    assert_eq!(change(&mut bench, Change::Pause), [], "it is paused already");
    assert_eq!(change(&mut bench, Change::Resume), [(Waiting, JobState::Retrying)]);
    let effects = bench.alarm();
    assert_eq!(heard(&mut bench, &effects), [(Started, JobState::Running)]);
    execute = execution(&effects);
    assert_eq!(execute.attempt, 2);
    let (_, effects) = bench.finish(&execute, Outcome::Snoozed { ms: 5 });
    assert_eq!(heard(&mut bench, &effects), [(Waiting, JobState::Scheduled)]);
    bench.later(5);
    let effects = bench.wake();
    assert_eq!(heard(&mut bench, &effects), [(Started, JobState::Running)]);
    // Its lease is lost, and it goes on at once.
    bench.later(LEASE_MS);
    let effects = bench.wake();
    let both = [(Waiting, JobState::Queued), (Started, JobState::Running)];
    assert_eq!(heard(&mut bench, &effects), both);
    execute = execution(&effects);
    let (_, effects) = bench.finish(&execute, success());
    let (last, _) = changes(&effects);
    assert_eq!((last[0].seq, last[0].attempt), (bench.get(job).seq, 2));
    assert_eq!(heard(&mut bench, &effects), [(Complete, JobState::Succeeded)]);
    // Others: one that is cancelled before it starts, and its redrive.
    let (job, effects) = bench.enqueue(told_of(TENANT, delayed(bench.now.plus(1000))));
    assert_eq!(heard(&mut bench, &effects), [(Acknowledgment, JobState::Scheduled)]);
    let caller = caller("ann");
    let (_, effects) = bench.call(Call::Cancel { job, caller });
    assert_eq!(changes(&effects).0[0].code, Some(ErrorCode::Cancelled));
    assert_eq!(heard(&mut bench, &effects), [(Error, JobState::Cancelled)]);
    let (redriven, effects) = bench.retry(job, None);
    assert_eq!(changes(&effects).0[0].job_id, redriven.job_id);
    assert_eq!(bench.count("SELECT count(*) FROM feed"), 1, "that was not confirmed");
}

#[test]
fn progress_is_told_once_a_second_and_the_newest_wins() {
    let mut bench = Bench::new();
    let execute = bench.start(told_of(TENANT, plain()));
    // What the start of it tells is under way all the time.
    let mut told = Vec::new();
    for n in 1..=30_u32 {
        bench.later(100);
        bench.report(&execute, Some(percent(f64::from(n))), None).0.unwrap();
        if bench.state.next_tick().is_some_and(|at| at <= bench.now) {
            bench.tick();
        }
    }
    assert_eq!(
        bench.state.next_tick(),
        Some(bench.now.plus(100)),
        "the newest is held back"
    );
    bench.later(100);
    bench.tick();
    assert_eq!(bench.state.next_tick(), None);
    let (_, number) = (0, bench.count("SELECT min(number) FROM feed"));
    let effects = confirm(&mut bench, Ok(number));
    let (changes, _) = changes(&effects);
    told.extend(changes.iter().map(|change| (change.percentage, change.at)));
    let percentages: Vec<_> = told.iter().filter_map(|(percentage, _)| *percentage).collect();
    assert_eq!(percentages, [1.0, 11.0, 21.0, 30.0]);
    let apart = told.windows(2).all(|pair| pair[1].1.since(pair[0].1) >= PROGRESS_MS);
    assert!(apart, "{told:?}");
    // What is held back when the job ends is not told after that.
    bench.later(100);
    bench.report(&execute, Some(percent(50.0)), None).0.unwrap();
    bench.finish(&execute, success()).0.unwrap();
    assert_eq!(bench.state.next_tick(), None);
}

#[test]
fn what_is_not_confirmed_is_told_again_whatever_dies() {
    let mut bench = Bench::new();
    let (_, effects) = bench.enqueue(told_of(TENANT, plain()));
    let execute = execution(&effects);
    let (first, number) = changes(&effects);
    // The effect is lost with the object: the alarm, which was set with the row, tells again.
    bench.crash();
    assert!(bench.next_wake().is_some_and(|at| at <= bench.now), "an alarm is set");
    let effects = bench.wake();
    assert_eq!(
        changes(&effects),
        (first.clone(), number),
        "the same under the same number"
    );
    assert!(bench.next_wake().is_some_and(|at| at <= bench.now.plus(REDELIVERY_MS)));
    // No answer comes.
    bench.later(REDELIVERY_MS);
    assert_eq!(changes(&bench.wake()), (first.clone(), number));
    // A call that fails waits longer each time, and what came meanwhile goes with the next.
    let lost = || Err(Error::new(ErrorCode::Unavailable, "lost"));
    assert_eq!(told(&confirm(&mut bench, lost())), []);
    assert_eq!(told(&bench.wake()), [], "not in a circle without a pause");
    let (_, effects) = bench.finish(&execute, success());
    assert_eq!(told(&effects), []);
    bench.later(500);
    let (both, last) = changes(&bench.wake());
    assert_eq!((both.len(), &both[0]), (2, &first[0]));
    assert!(last > number);
    // The first alone was taken: the second follows at once.
    let (second, _) = changes(&confirm(&mut bench, Ok(number)));
    assert_eq!(second, both[1..]);
    assert_eq!(told(&confirm(&mut bench, Ok(last))), []);
    assert_eq!(bench.count("SELECT count(*) FROM feed"), 0);
    // An answer that comes late changes nothing, and no number is given twice, not even by a clock that jumps back.
    assert_eq!(told(&confirm(&mut bench, Ok(last))), []);
    bench.crash();
    bench.now = bench.now.plus(0);
    bench.now.0 -= 3_600_000;
    let (_, effects) = bench.enqueue(told_of(TENANT, plain()));
    assert!(changes(&effects).1 > last);
}

#[test]
fn rows_that_went_back_in_time_do_not_give_numbers_again() {
    let mut bench = Bench::new();
    let (_, effects) = bench.enqueue(told_of(TENANT, plain()));
    let (_, number) = changes(&effects);
    // As after a recovery of the platform's: an object of before, at a later time.
    let mut recovered = Bench::new();
    recovered.now = bench.now.plus(1);
    recovered.crash();
    let (_, effects) = recovered.enqueue(told_of(TENANT, plain()));
    assert!(changes(&effects).1 > number);
}

#[test]
fn many_changes_of_a_turn_share_rows_and_calls_are_bounded() {
    let mut bench = Bench::new();
    let calls = (0..250).map(|_| Call::Enqueue(Box::new(told_of(TENANT, delayed(bench.now.plus(1000))))));
    let calls: Vec<_> = calls.collect();
    let (_, mut effects) = bench.send_all(calls);
    assert_eq!(bench.count("SELECT count(*) FROM feed"), 3);
    let (mut sizes, mut jobs) = (Vec::new(), Vec::new());
    loop {
        let (changes, number) = changes(&effects);
        if changes.is_empty() {
            break;
        }
        sizes.push(changes.len());
        jobs.extend(changes.iter().map(|change| change.job_id.number()));
        effects = confirm(&mut bench, Ok(number));
    }
    assert_eq!(sizes, [100, 100, 50]);
    assert_eq!(jobs.len(), 250);
    assert!(jobs.is_sorted(), "in the order in which they were accepted");
}

#[test]
fn whoever_does_not_ask_for_it_writes_no_row_of_it() {
    let mut bench = Bench::new();
    let rows = |bench: &Bench| bench.count("SELECT total_changes()");
    let before = rows(&bench);
    let execute = bench.start(plain());
    bench.finish(&execute, success()).0.unwrap();
    assert_eq!(rows(&bench) - before, 2, "the insert and the update of the job");
    assert_eq!(bench.count("SELECT count(*) FROM feed_numbers"), 0);
    // Nor is one that asked for it told where its user cannot be named.
    let mut enqueue = told_of(r#"{"user": {"jobs": true}}"#, plain());
    enqueue.job.user = UserId::parse(&"@".repeat(100)).unwrap();
    let (_, effects) = bench.enqueue(enqueue);
    assert_eq!(told(&effects), []);
}

#[test]
fn a_job_and_its_end_cost_what_is_written_down() {
    let mut bench = Bench::new();
    let rows = |bench: &Bench| bench.count("SELECT total_changes()");
    for (n, channels, expected) in [(0, TENANT, 7), (1, TENANT, 6), (2, BOTH, 10)] {
        let before = rows(&bench);
        let (_, effects) = bench.enqueue(told_of(channels, plain()));
        let execute = execution(&effects);
        let (_, ended) = bench.finish(&execute, success());
        let mut effects: Vec<_> = effects.into_iter().chain(ended).collect();
        while !effects.is_empty() {
            let mut next = Vec::new();
            for (channel, rows, _) in told(&effects) {
                let number = rows.last().unwrap().number;
                next.extend(changes_told(&bench.db, &mut bench.state, bench.now, &channel, Ok(number)).unwrap());
            }
            effects = next;
        }
        // Two of the job; two for each row of the outbox, which come and go; one for a thousand of their numbers.
        assert_eq!(rows(&bench) - before, expected, "{n}");
    }
}
