//! Results that go before their jobs.

use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::executor::Outcome;
use tidegate_protocol::calls::jobs::{Call, Enqueue, Reply};
use tidegate_protocol::event::{Happening, JobState, Payload};
use tidegate_protocol::ids::JobId;

use super::super::SWEEP_MS;
use super::bench::*;

/// How long a result is kept here. Milliseconds.
const RESULT_MS: u64 = 60_000;

fn brief(mut enqueue: Enqueue) -> Enqueue {
    enqueue.job.policy.result_retention_ms = Some(RESULT_MS);
    enqueue
}

fn result(bench: &mut Bench, job: JobId) -> Result<Payload, ErrorCode> {
    let caller = caller("ann");
    match bench.call(Call::Result { job, caller }).0 {
        Ok(Reply::Result { result }) => Ok(result),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.code),
    }
}

#[test]
fn a_result_past_its_retention_is_gone_while_its_job_is_kept() {
    let mut bench = Bench::new();
    let execute = bench.start(brief(keyed("k")));
    bench
        .finish(&execute, Outcome::Succeeded { result: stored("blob") })
        .0
        .unwrap();
    bench.later(RESULT_MS - 1);
    assert_eq!(result(&mut bench, execute.job), Ok(stored("blob")));
    // By the clock alone, before any sweep.
    bench.later(1);
    let check = |bench: &mut Bench| {
        assert_eq!(result(bench, execute.job), Err(ErrorCode::Gone));
        let job = bench.get(execute.job);
        assert_eq!((job.status, job.result), (JobState::Succeeded, None));
        assert!(job.result_url.is_some(), "where it is said to be gone");
        // The same key is given the same job, and no result that was never there.
        let (reply, _) = bench.call(Call::Enqueue(alloc::boxed::Box::new(brief(keyed("k")))));
        let Happening::Completed { result } = &ended(&reply).what else {
            panic!("{reply:?}")
        };
        assert!(matches!(result, Payload::Stored { .. }));
    };
    check(&mut bench);
    let effects = bench.alarm();
    assert_eq!(deleted(&effects), ["blob"]);
    check(&mut bench);
    bench.crash();
    check(&mut bench);
    bench.later(RETENTION_MS + SWEEP_MS);
    assert!(deleted(&bench.wake()).is_empty(), "what is gone is not deleted again");
    assert_eq!(bench.count("SELECT count(*) FROM job"), 0);
}

#[test]
fn a_small_result_goes_from_its_row() {
    let mut bench = Bench::new();
    let execute = bench.start(brief(plain()));
    bench.finish(&execute, success()).0.unwrap();
    bench.crash();
    bench.later(RESULT_MS);
    let before = bench.count("SELECT length(outcome) FROM job");
    assert!(bench.next_wake().unwrap() <= bench.now, "an alarm is set for it");
    bench.wake();
    assert_eq!(
        bench.count("SELECT count(*) FROM job WHERE result_until IS NOT NULL"),
        0
    );
    assert_ne!(bench.count("SELECT length(outcome) FROM job"), before);
    assert_eq!(result(&mut bench, execute.job), Err(ErrorCode::Gone));
}

#[test]
fn what_has_no_result_or_goes_with_its_job_pays_nothing() {
    let mut longer = brief(plain());
    longer.job.policy.result_retention_ms = Some(RETENTION_MS);
    for (enqueue, outcome) in [
        (plain(), success()),
        (longer, success()),
        (brief(plain()), failure(false)),
    ] {
        let mut bench = Bench::new();
        let execute = bench.start(enqueue);
        bench.finish(&execute, outcome).0.unwrap();
        assert_eq!(
            bench.count("SELECT count(*) FROM job WHERE result_until IS NOT NULL"),
            0
        );
        bench.later(RESULT_MS);
        assert_ne!(result(&mut bench, execute.job), Err(ErrorCode::Gone));
    }
}
