//! Which composition a job runs with, whatever is activated while it waits.

use alloc::vec;
use alloc::vec::Vec;

use tidegate_protocol::calls::executor::{Execute, Outcome};
use tidegate_protocol::calls::jobs::{Call, Enqueue, Reply};
use tidegate_protocol::calls::once::{Dedupe, DedupeRule, Once};
use tidegate_protocol::calls::schedules::Schedule;
use tidegate_protocol::calls::versions::RevisionRule;
use tidegate_protocol::event::JobState;
use tidegate_protocol::ids::Revision;
use tidegate_protocol::{Error, ErrorCode};

use super::super::SWEEP_MS;
use super::bench::*;
use super::schedules::every_minute;

fn revision(text: &str) -> Revision {
    Revision::parse(text).unwrap()
}

/// A job of an action with this rule, accepted under this revision.
fn under(text: &str, rule: RevisionRule, mut enqueue: Enqueue) -> Enqueue {
    enqueue.job.revision = revision(text);
    enqueue.job.policy.revision = rule;
    enqueue
}

fn said(execute: &Execute) -> (&str, RevisionRule, u32) {
    (execute.revision.as_str(), execute.runs, execute.attempt)
}

/// The attempt that the next alarm starts.
fn next(bench: &mut Bench) -> Execute {
    execution(&bench.alarm())
}

#[test]
fn every_attempt_is_told_what_was_frozen_at_acceptance() {
    for rule in [RevisionRule::Accepted, RevisionRule::Latest] {
        let mut bench = Bench::new();
        let (job, _) = bench.enqueue(under("r1", rule, delayed(bench.now.plus(5000))));
        // Meanwhile another composition is active, and jobs are accepted under it.
        let other = bench.start(under("r2", RevisionRule::Accepted, plain()));
        assert_eq!(said(&other), ("r2", RevisionRule::Accepted, 1));
        bench.finish(&other, success()).0.unwrap();
        bench.crash();
        let first = next(&mut bench);
        assert_eq!((first.job, said(&first)), (job, ("r1", rule, 1)));
        // A lost lease, a failure, a run that goes on: each follows the same rule.
        bench.crash();
        bench.later(LEASE_MS);
        let again = execution(&bench.wake());
        assert_eq!(said(&again), ("r1", rule, 1));
        bench.finish(&again, failure(true)).0.unwrap();
        bench.crash();
        let second = next(&mut bench);
        assert_eq!(said(&second), ("r1", rule, 2));
        let (_, effects) = bench.finish(&second, Outcome::Unfinished);
        assert_eq!(said(&execution(&effects)), ("r1", rule, 2));
    }
}

#[test]
fn a_job_without_a_row_follows_the_rule_as_well() {
    for rule in [RevisionRule::Accepted, RevisionRule::Latest] {
        let mut bench = Bench::new();
        let (_, effects) = bench.send(Call::Enqueue(under("r1", rule, waiting(1000)).into()));
        assert_eq!(said(&execution(&effects)), ("r1", rule, 1));
        assert_eq!(bench.count("SELECT count(*) FROM job"), 0);
        // Its row remembers.
        bench.later(1000);
        bench.wake();
        bench.crash();
        bench.later(LEASE_MS);
        assert_eq!(said(&execution(&bench.wake())), ("r1", rule, 1));
    }
}

#[test]
fn a_redrive_takes_the_revision_and_the_rule_of_the_old_job() {
    for rule in [RevisionRule::Accepted, RevisionRule::Latest] {
        let mut bench = Bench::new();
        let old = bench.fail(under("r1", rule, plain()));
        bench.crash();
        let (_, effects) = bench.retry(old, None);
        assert_eq!(said(&execution(&effects)), ("r1", rule, 1));
    }
}

#[test]
fn a_job_whose_action_is_gone_is_a_dead_letter_at_once_and_can_be_redriven() {
    let mut bench = Bench::new();
    let execute = bench.start(under("r1", RevisionRule::Latest, plain()));
    let error = Error::new(ErrorCode::InvalidAction, "The active composition has no action `a`.");
    bench.finish(&execute, Outcome::Failed { error }).0.unwrap();
    let job = bench.get(execute.job);
    assert_eq!((job.status, job.attempt), (JobState::Failed, 1), "no retry mends it");
    let letters = bench.dead_letters(everything()).dead_letters;
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((letter.job_id, letter.attempts), (execute.job, 1));
    assert_eq!(letter.error.code, ErrorCode::InvalidAction);
    assert!(letter.error.message.contains("no action `a`"), "{letters:?}");
    let (_, effects) = bench.retry(execute.job, None);
    let again = execution(&effects);
    assert_eq!(said(&again), ("r1", RevisionRule::Latest, 1));
    bench.finish(&again, success()).0.unwrap();
    assert!(bench.dead_letters(everything()).dead_letters.is_empty());
}

#[test]
fn a_waiting_job_that_a_newer_request_takes_over_runs_as_that_one_was_accepted() {
    let mut bench = Bench::new();
    let debounced = |text, rule| {
        let mut enqueue = under(text, rule, plain());
        enqueue.job.once = Some(Once::Dedupe(Dedupe {
            key: "k".into(),
            rule: DedupeRule::KeepLast {
                wait_ms: 5000,
                max_wait_ms: 60_000,
            },
            key_life: None,
        }));
        enqueue
    };
    let (job, _) = bench.enqueue(debounced("r1", RevisionRule::Latest));
    bench.later(1000);
    let (same, _) = bench.enqueue(debounced("r2", RevisionRule::Accepted));
    assert_eq!(same, job);
    bench.crash();
    let execute = next(&mut bench);
    assert_eq!((execute.job, said(&execute)), (job, ("r2", RevisionRule::Accepted, 1)));
}

/// Every minute, as the activation of this revision says.
fn schedule(text: &str) -> Schedule {
    let mut schedule = every_minute();
    schedule.job.revision = revision(text);
    schedule
}

fn activate(bench: &mut Bench, version: u64, schedules: Vec<Schedule>) {
    let (reply, _) = bench.call(Call::SetSchedules { version, schedules });
    assert_eq!(reply, Ok(Reply::Done));
}

#[test]
fn a_schedule_fires_under_its_newest_activation_and_what_it_has_fired_stays_as_it_was() {
    let mut bench = Bench::new();
    activate(&mut bench, 1, vec![schedule("r1")]);
    let first = next(&mut bench);
    assert_eq!(said(&first), ("r1", RevisionRule::Accepted, 1));
    bench.finish(&first, failure(true)).0.unwrap();
    // Activated while the first one waits for its next attempt, and taken away again later.
    activate(&mut bench, 2, vec![schedule("r2")]);
    bench.crash();
    let again = next(&mut bench);
    assert_eq!(
        (again.job, said(&again)),
        (first.job, ("r1", RevisionRule::Accepted, 2))
    );
    bench.finish(&again, success()).0.unwrap();
    let second = next(&mut bench);
    assert_eq!(said(&second), ("r2", RevisionRule::Accepted, 1));
    bench.finish(&second, failure(true)).0.unwrap();
    activate(&mut bench, 3, vec![]);
    bench.crash();
    let again = next(&mut bench);
    assert_eq!(
        (again.job, said(&again)),
        (second.job, ("r2", RevisionRule::Accepted, 2))
    );
    bench.finish(&again, success()).0.unwrap();
    bench.later(SWEEP_MS);
    assert!(
        executions(&bench.wake()).is_empty(),
        "a schedule that is gone fires nothing"
    );
}
