//! Outcomes that are said again, because the answer to the first was lost.

use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::executor::{Execute, Outcome};
use tidegate_protocol::calls::jobs::Reply;

use super::bench::*;

/// Says `outcome` again: whether it counts as done already. Nothing may come of it.
fn said_again(bench: &mut Bench, execute: &Execute, outcome: Outcome) -> bool {
    let before = bench.get(execute.job);
    let (reply, effects) = bench.finish(execute, outcome);
    assert_eq!(effects.len(), 1, "{effects:?}");
    assert_eq!(bench.get(execute.job), before);
    match reply {
        Ok(Reply::Done) => true,
        Err(error) if error.code == ErrorCode::LeaseLost => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_outcome_of_an_attempt_said_again_is_done_already_and_another_one_is_refused() {
    let other = Outcome::Succeeded { result: value("43") };
    for outcome in [
        success(),
        Outcome::Succeeded { result: stored("k") },
        failure(false),
        failure(true),
        Outcome::Snoozed { ms: 5000 },
    ] {
        let mut bench = Bench::new();
        let execute = bench.start(followed());
        bench.finish(&execute, outcome.clone()).0.unwrap();
        assert!(said_again(&mut bench, &execute, outcome.clone()), "{outcome:?}");
        bench.crash();
        assert!(said_again(&mut bench, &execute, outcome.clone()), "{outcome:?}");
        assert!(!said_again(&mut bench, &execute, other.clone()), "{outcome:?}");
    }
}

#[test]
fn an_outcome_is_not_known_any_more_once_the_job_was_claimed_again() {
    for outcome in [failure(true), Outcome::Snoozed { ms: 500 }] {
        let mut bench = Bench::new();
        let first = bench.start(plain());
        bench.finish(&first, outcome.clone()).0.unwrap();
        let second = execution(&bench.alarm());
        assert!(!said_again(&mut bench, &first, outcome.clone()));
        bench.finish(&second, outcome.clone()).0.unwrap();
        assert!(!said_again(&mut bench, &first, outcome));
    }
}

#[test]
fn a_cancelled_job_knows_no_outcome_of_its_attempt() {
    let mut bench = Bench::new();
    let execute = bench.start(plain());
    let caller = caller("ann");
    let job = execute.job;
    bench
        .call(tidegate_protocol::calls::jobs::Call::Cancel { job, caller })
        .0
        .unwrap();
    let (reply, _) = bench.call(tidegate_protocol::calls::jobs::Call::Result {
        job,
        caller: super::bench::caller("ann"),
    });
    let error = reply.expect_err("the error of the cancel");
    assert!(!said_again(&mut bench, &execute, Outcome::Failed { error }));
    assert!(!said_again(&mut bench, &execute, success()));
}
