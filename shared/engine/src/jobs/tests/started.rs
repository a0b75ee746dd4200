//! When an attempt began: what a job tells of it, and the event of each start where all are kept.

use alloc::vec::Vec;

use tidegate_protocol::calls::executor::Outcome;
use tidegate_protocol::calls::jobs::{Call, Enqueue, Reply};
use tidegate_protocol::calls::reporting::Durability;
use tidegate_protocol::event::{Event, Happening, JobState};
use tidegate_protocol::ids::{JobId, Seq};
use tidegate_protocol::time::UnixMs;

use super::super::{Effect, STEPS, State};
use super::bench::*;
use crate::database::native::Native;
use crate::database::{Database, Value, migrate};

fn kept(mut enqueue: Enqueue) -> Enqueue {
    enqueue.job.policy.reporting.durability = Durability::All;
    enqueue
}

impl Bench {
    fn started_at(&mut self, job: JobId) -> Option<UnixMs> {
        self.get(job).started_at
    }

    /// The stored events of a job, all of them.
    fn history_of(&mut self, job: JobId) -> Vec<Event> {
        let call = Call::Watch {
            job,
            caller: caller("ann"),
            after: Some(Seq(0)),
            wait_ms: 0,
            until_end: false,
        };
        let Ok(Reply::Following {
            snapshot: None, events, ..
        }) = self.call(call).0
        else {
            panic!("an answer without a gap")
        };
        events
    }
}

fn starts(events: &[Event]) -> Vec<(u64, u32, UnixMs)> {
    let starts = events.iter().filter(|event| event.what == Happening::Started);
    starts.map(|event| (event.seq.0, event.attempt, event.at)).collect()
}

fn told(effects: &[Effect]) -> Vec<Event> {
    deliveries(effects).into_iter().map(|delivery| delivery.event).collect()
}

#[test]
fn a_job_tells_when_its_attempt_began_and_nothing_before_the_first() {
    let mut bench = Bench::new();
    let (job, _) = bench.enqueue(delayed(bench.now.plus(5000)));
    assert_eq!(bench.started_at(job), None);
    let first = execution(&bench.alarm());
    let begun = bench.now;
    assert_eq!(bench.started_at(job), Some(begun));
    bench.later(100);
    bench.report(&first, Some(percent(10.0)), None).0.unwrap();
    bench.finish(&first, failure(true)).0.unwrap();
    assert_eq!(
        bench.started_at(job),
        Some(begun),
        "the last attempt, while the next one waits"
    );
    let second = execution(&bench.alarm());
    let again = bench.now;
    assert!(again > begun);
    assert_eq!(bench.started_at(job), Some(again));
    bench.later(100);
    bench.finish(&second, success()).0.unwrap();
    bench.crash();
    assert_eq!(bench.started_at(job), Some(again), "and after the end");
}

#[test]
fn a_job_that_starts_at_once_began_as_it_was_accepted_and_its_places_are_as_ever() {
    let mut bench = Bench::new();
    let execute = bench.start(followed());
    assert_eq!(bench.started_at(execute.job), Some(bench.now));
    assert_eq!(bench.get(execute.job).seq, Seq(1));
    bench.finish(&execute, failure(true)).0.unwrap();
    let effects = bench.alarm();
    execution(&effects);
    assert_eq!(told(&effects), [], "whoever follows is told of no start");
    assert_eq!(bench.get(execute.job).seq, Seq(2), "the failure alone has a place");
    assert_eq!(bench.count("SELECT count(*) FROM event"), 0);
}

#[test]
fn an_attempt_that_goes_on_in_another_run_began_with_its_first() {
    let mut bench = Bench::new();
    let mut execute = bench.start(kept(followed()));
    let (job, begun) = (execute.job, bench.now);
    for outcome in [Some(Outcome::Snoozed { ms: 700 }), Some(Outcome::Unfinished), None] {
        bench.later(50);
        let effects = match outcome {
            Some(outcome) => bench.finish(&execute, outcome).1,
            // Its lease runs out.
            None => Vec::new(),
        };
        let again = executions(&effects).pop().unwrap_or_else(|| execution(&bench.alarm()));
        assert!(
            again.token > execute.token && again.attempt == 1,
            "another run of the same attempt"
        );
        assert!(bench.now > begun);
        assert_eq!(bench.started_at(job), Some(begun));
        execute = again;
        bench.crash();
    }
    assert_eq!(starts(&bench.history_of(job)), [(2, 1, begun)], "and has one start");
}

#[test]
fn where_each_event_is_kept_the_start_of_each_attempt_has_a_place_and_is_told_in_order() {
    let mut bench = Bench::new();
    let (reply, effects) = bench.call(Call::Enqueue(kept(followed()).into()));
    let first = execution(&effects);
    let Ok(Reply::Acknowledged { job, status, seq, .. }) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(
        (status, seq),
        (JobState::Running, Seq(2)),
        "the acknowledgment tells of the first"
    );
    assert_eq!(told(&effects), [], "so that it is not told again");
    let begun = bench.now;
    let (_, effects) = bench.report(&first, Some(percent(10.0)), None);
    assert_eq!(told(&effects).first().map(|event| event.seq), Some(Seq(3)));
    bench.finish(&first, failure(true)).0.unwrap();
    let effects = bench.alarm();
    let second = execution(&effects);
    let again = bench.now;
    assert_eq!(
        starts(&told(&effects)),
        [(5, 2, again)],
        "those that follow are told of a later one"
    );
    bench.crash();
    bench.finish(&second, success()).0.unwrap();
    let events = bench.history_of(job);
    let places: Vec<u64> = events.iter().map(|event| event.seq.0).collect();
    assert_eq!(places, [2, 3, 4, 5, 6], "no hole, and none twice");
    assert_eq!(starts(&events), [(2, 1, begun), (5, 2, again)]);
    assert!(events.last().is_some_and(|event| event.what.is_terminal()));
}

#[test]
fn a_job_that_gets_its_row_late_began_when_its_attempt_did() {
    let mut bench = Bench::new();
    let (call, effects) = bench.send(Call::Enqueue(kept(waiting(1000)).into()));
    let execute = execution(&effects);
    let begun = bench.now;
    bench.later(1000);
    let effects = bench.tick();
    let Ok(Reply::Acknowledged { job, seq, .. }) = &replies(&effects)[&call] else {
        panic!("an acknowledgment")
    };
    assert_eq!((*job, *seq), (execute.job, Seq(2)));
    assert_eq!(bench.started_at(execute.job), Some(begun));
    assert_eq!(starts(&bench.history_of(execute.job)), [(2, 1, begun)]);
    // Its lease is reckoned from now on all the same, as memory has it.
    bench.crash();
    assert_eq!(bench.next_wake(), Some(bench.now.plus(LEASE_MS)));
    bench.finish(&execute, success()).0.unwrap();
}

#[test]
fn a_watch_is_answered_by_the_start_of_an_attempt_that_is_kept() {
    let mut bench = Bench::new();
    let mut enqueue = kept(plain());
    enqueue.job.run_at = Some(bench.now.plus(5000));
    let (job, _) = bench.enqueue(enqueue);
    let (call, _) = bench.send(Call::Watch {
        job,
        caller: caller("ann"),
        after: Some(Seq(1)),
        wait_ms: 60_000,
        until_end: false,
    });
    let effects = bench.alarm();
    let Ok(Reply::Following { events, .. }) = &replies(&effects)[&call] else {
        panic!("an answer")
    };
    assert_eq!(starts(events), [(2, 1, bench.now)]);
}

#[test]
fn a_job_of_the_version_before_tells_of_no_start_until_its_next_attempt() {
    let db = Native::in_memory().unwrap();
    let before = STEPS
        .iter()
        .position(|step| step.iter().any(|sql| sql.contains("started_at")))
        .unwrap();
    migrate(&db, &STEPS[..before]).unwrap();
    let now = UnixMs(1_800_000_000_000);
    let (spec, empty) = (
        crate::database::to_blob(&plain().job).unwrap(),
        crate::database::to_blob(&Vec::<u8>::new()).unwrap(),
    );
    let progress = crate::database::to_blob(&tidegate_protocol::event::Progress::default()).unwrap();
    db.run(
        "INSERT INTO job (number, tail, state, due_at, user, action, created_at, spec, payload, token, attempt,
            attempt_until, losses, seq, progress, log, followers, changed_at, lane)
        VALUES (1, 1, 2, 5, 'ann', 'a', 1, ?1, ?2, 1, 1, 0, 0, 2, ?3, ?4, ?4, 1, '[\"a\",\"normal\",null,[]]')",
        &[
            Value::Blob(&spec),
            Value::Blob(&crate::database::to_blob(&plain().job.payload).unwrap()),
            Value::Blob(&progress),
            Value::Blob(&empty),
        ],
    )
    .unwrap();
    migrate(&db, STEPS).unwrap();
    let state = State::recover(&db, now).unwrap();
    let mut bench = Bench::of(db, state, now);
    let job = JobId::new(tidegate_protocol::ids::JobNumber(1), 1);
    assert_eq!((bench.get(job).attempt, bench.started_at(job)), (1, None));
    let execute = execution(&bench.wake());
    assert_eq!((execute.attempt, bench.started_at(job)), (2, Some(now)));
}
