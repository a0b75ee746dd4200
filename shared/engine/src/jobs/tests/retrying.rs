//! Trying a job again: now, or as a new job.

use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::jobs::{Call, Reply};
use tidegate_protocol::event::JobState;
use tidegate_protocol::ids::JobId;
use tidegate_protocol::{Error, ErrorCode};

use super::super::{RUNNING_MAX, SWEEP_MS, WAITING_MAX, payload_name};
use super::bench::*;

fn refused(bench: &mut Bench, job: JobId, caller: Caller) -> ErrorCode {
    let payload = None;
    code(&bench.call(Call::Retry { job, caller, payload }).0)
}

#[test]
fn a_scheduled_job_that_is_retried_starts_now() {
    let mut bench = Bench::new();
    let at = bench.now.plus(3_600_000);
    let (job, _) = bench.enqueue(delayed(at));
    let (shown, effects) = bench.retry(job, None);
    assert_eq!(
        (shown.job_id, shown.status, shown.run_at),
        (job, JobState::Running, None)
    );
    let execute = execution(&effects);
    assert_eq!((execute.job, execute.attempt), (job, 1));
    bench.finish(&execute, success()).0.unwrap();
    assert_eq!(bench.status(job), JobState::Succeeded);
}

#[test]
fn a_retrying_job_that_is_retried_makes_its_next_attempt_now() {
    let mut bench = Bench::new();
    let execute = bench.start(plain());
    bench.finish(&execute, failure(true)).0.unwrap();
    let (shown, effects) = bench.retry(execute.job, None);
    assert_eq!((shown.status, shown.attempt), (JobState::Running, 2));
    assert_eq!(execution(&effects).attempt, 2);
    bench.later(BACKOFF_MS);
    assert!(executions(&bench.wake()).is_empty(), "it is tried once");
}

#[test]
fn a_retried_job_that_finds_no_place_is_the_next_one_and_survives_a_crash() {
    let mut bench = Bench::new();
    let (job, _) = bench.enqueue(delayed(bench.now.plus(3_600_000)));
    let running: alloc::vec::Vec<_> = (0..RUNNING_MAX).map(|_| bench.start(plain())).collect();
    let (shown, effects) = bench.retry(job, None);
    assert_eq!(shown.status, JobState::Queued);
    assert!(executions(&effects).is_empty());
    let (again, _) = bench.retry(job, None);
    assert_eq!(again.status, JobState::Queued, "asking again changes nothing");
    bench.crash();
    let (_, effects) = bench.finish(&running[0], success());
    assert_eq!(execution(&effects).job, job);
}

#[test]
fn a_redrive_makes_exactly_one_new_job_and_the_old_one_stays_ended() {
    let mut bench = Bench::new();
    let mut enqueue = noted("k", "v");
    enqueue.keyed = keyed("key").keyed;
    let old = bench.fail(enqueue);
    let before = bench.get(old);
    let (new, effects) = bench.retry(old, None);
    let execute = execution(&effects);
    assert_ne!(new.job_id, old);
    assert_eq!((execute.job, execute.payload.clone()), (new.job_id, value("{\"n\":1}")));
    assert_eq!((execute.attempt, &execute.revision), (1, &plain().job.revision));
    assert_eq!((new.redriven_from, new.metadata), (Some(old), before.metadata.clone()));

    bench.crash();
    for _ in 0..2 {
        let (again, effects) = bench.retry(old, Some(value("2")));
        assert_eq!(again.job_id, new.job_id);
        assert!(executions(&effects).is_empty(), "the same new job, no other attempt");
    }
    let after = bench.get(old);
    assert_eq!(after.redriven_to, Some(new.job_id));
    assert_eq!(
        (after.status, after.seq, after.error),
        (JobState::Failed, before.seq, before.error)
    );
    assert_eq!(bench.count("SELECT count(*) FROM job"), 2);
}

#[test]
fn each_end_without_a_result_can_be_redriven_and_no_other() {
    let mut bench = Bench::new();
    let failed = bench.fail(plain());
    bench.retry(failed, None);
    let (cancelled, _) = bench.enqueue(delayed(bench.now.plus(1000)));
    let caller_of_it = caller("ann");
    bench
        .call(Call::Cancel {
            job: cancelled,
            caller: caller_of_it,
        })
        .0
        .unwrap();
    assert_eq!(bench.retry(cancelled, None).0.redriven_from, Some(cancelled));
    assert_eq!(bench.get(cancelled).status, JobState::Cancelled);

    let execute = bench.start(plain());
    assert_eq!(refused(&mut bench, execute.job, caller("ann")), ErrorCode::Conflict);
    bench.finish(&execute, success()).0.unwrap();
    assert_eq!(refused(&mut bench, execute.job, caller("ann")), ErrorCode::Conflict);
    assert_eq!(bench.get(execute.job).redriven_to, None);
}

#[test]
fn a_retry_takes_the_rights_of_a_cancel() {
    let mut bench = Bench::new();
    let job = bench.fail(plain());
    let reader = Caller {
        reads_all: true,
        ..caller("eve")
    };
    let writer = Caller {
        writes_all: true,
        ..caller("eve")
    };
    assert_eq!(refused(&mut bench, job, caller("eve")), ErrorCode::NotFound);
    assert_eq!(refused(&mut bench, job, reader), ErrorCode::Forbidden);
    assert_eq!(bench.count("SELECT count(*) FROM job"), 1);
    let payload = None;
    let reply = bench
        .call(Call::Retry {
            job,
            caller: writer,
            payload,
        })
        .0;
    assert!(
        matches!(&reply, Ok(Reply::Job(new)) if new.user.as_str() == "ann"),
        "the job stays its owner's: {reply:?}"
    );
}

#[test]
fn another_payload_is_for_a_redrive_alone() {
    let mut bench = Bench::new();
    let (waiting, _) = bench.enqueue(delayed(bench.now.plus(1000)));
    let retry = |job, key: &str| Call::Retry {
        job,
        caller: caller("ann"),
        payload: Some(stored(key)),
    };
    let (reply, _) = bench.call(retry(waiting, "a"));
    assert_eq!(code(&reply), ErrorCode::ValidationError);
    assert_eq!(bench.status(waiting), JobState::Scheduled);
    let old = bench.fail(large("own"));
    let (_, effects) = bench.call(retry(old, "b"));
    assert_eq!(execution(&effects).payload, stored("b"));
    bench.later(RETENTION_MS);
    assert_eq!(
        deleted(&bench.wake()),
        ["own"],
        "the old job keeps and takes along its own"
    );
}

/// The same call may come twice: what the first one's job has taken must not be deleted by the second.
#[test]
fn the_payload_of_a_redrive_that_is_asked_for_twice_stays_with_its_job() {
    let mut bench = Bench::new();
    let old = bench.fail(plain());
    let (_, effects) = bench.retry(old, Some(stored("b")));
    execution(&effects);
    let (_, effects) = bench.retry(old, Some(stored("b")));
    assert!(deleted(&effects).is_empty());
    let name = payload_name(old, "{\"n\":2}");
    assert_eq!(name, payload_name(old, "{\"n\":2}"));
    assert_ne!(name, payload_name(old, "{\"n\":3}"));
    let other = JobId::new(old.number(), old.tail() ^ 1);
    assert_ne!(name, payload_name(other, "{\"n\":2}"));
}

/// A payload in object storage is deleted with the row that names it: there must be one such row at every moment.
#[test]
fn a_large_payload_passes_on_to_the_new_job_and_is_deleted_with_that() {
    let mut bench = Bench::new();
    let old = bench.fail(large("in"));
    bench.later(SWEEP_MS);
    let (new, effects) = bench.retry(old, None);
    let execute = execution(&effects);
    assert_eq!(execute.payload, stored("in"));
    bench.finish(&execute, failure(false)).0.unwrap();
    bench.later(RETENTION_MS - SWEEP_MS);
    assert!(deleted(&bench.wake()).is_empty(), "the new job has it");
    assert_eq!(bench.count("SELECT count(*) FROM job"), 1, "the old one is forgotten");
    let (newest, effects) = bench.retry(new.job_id, None);
    let execute = execution(&effects);
    assert_eq!(execute.payload, stored("in"));
    bench.finish(&execute, success()).0.unwrap();
    bench.later(2 * RETENTION_MS);
    let mut gone = deleted(&bench.wake());
    bench.later(SWEEP_MS);
    gone.extend(deleted(&bench.wake()));
    assert_eq!(gone, ["in"], "once, with {}", newest.job_id);
}

#[test]
fn a_redrive_for_which_there_is_no_room_leaves_everything_as_it_was() {
    let mut bench = Bench::new();
    let old = bench.fail(large("in"));
    bench.crowd(WAITING_MAX);
    assert_eq!(refused(&mut bench, old, caller("ann")), ErrorCode::QueueFull);
    assert_eq!(bench.get(old).redriven_to, None);
    bench.crash();
    let (_, effects) = bench.retry(old, None);
    assert_eq!(execution(&effects).payload, stored("in"));
}

#[test]
fn a_refusal_says_why() {
    let mut bench = Bench::new();
    let execute = bench.start(plain());
    let retry = |job| Call::Retry {
        job,
        caller: caller("ann"),
        payload: None,
    };
    let message = |reply: Result<Reply, Error>| reply.unwrap_err().message;
    assert!(message(bench.call(retry(execute.job)).0).contains("running"));
    bench.finish(&execute, success()).0.unwrap();
    assert!(message(bench.call(retry(execute.job)).0).contains("succeeded"));
}
