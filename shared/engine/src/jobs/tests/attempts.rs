//! Attempts: signs of life, outcomes, retries, lost leases, cancels, and tokens that are worth nothing any more.

use alloc::boxed::Box;
use alloc::vec::Vec;

use tidegate_protocol::calls::executor::{Execute, Outcome};
use tidegate_protocol::calls::jobs::{Call, Reply};
use tidegate_protocol::error::TimeLimit;
use tidegate_protocol::event::{Happening, JobState, Payload};
use tidegate_protocol::ids::{FencingToken, Seq};
use tidegate_protocol::{Error, ErrorCode};

use super::super::{Effect, LOSSES_MAX, RUNNING_MAX};
use super::bench::*;

#[test]
fn a_retryable_failure_is_followed_by_the_next_attempt_not_before_its_time() {
    let mut bench = Bench::new();
    let first = bench.start(followed());
    let (_, effects) = bench.finish(&first, failure(true));
    let told = deliveries(&effects);
    let next_attempt_at = bench.now.plus(BACKOFF_MS);
    assert!(matches!(&told[0].event.what, Happening::Retrying { next_attempt_at: at, .. } if *at == next_attempt_at));
    assert_eq!(
        (bench.status(first.job), bench.next_wake()),
        (JobState::Retrying, Some(next_attempt_at))
    );
    bench.send(Call::Start { job: first.job });
    assert_eq!(
        bench.status(first.job),
        JobState::Retrying,
        "a doorbell does not shorten the wait"
    );
    bench.later(BACKOFF_MS - 1);
    assert!(executions(&bench.wake()).is_empty());
    bench.later(1);
    let second = execution(&bench.wake());
    assert_eq!((second.attempt, second.deadline), (2, bench.now.plus(TIMEOUT_MS)));
    assert!(second.token > first.token);
}

#[test]
fn the_handler_may_ask_for_a_longer_wait() {
    let mut bench = Bench::new();
    let first = bench.start(plain());
    let Outcome::Failed { error } = failure(true) else {
        panic!()
    };
    bench
        .finish(
            &first,
            Outcome::Failed {
                error: error.retry_after(70_000),
            },
        )
        .0
        .unwrap();
    assert_eq!(bench.next_wake(), Some(bench.now.plus(70_000)));
}

#[test]
fn the_last_attempt_ends_the_job() {
    let mut bench = Bench::new();
    let mut execute = bench.start(followed());
    for attempt in 1..=3 {
        assert_eq!(execute.attempt, attempt);
        let (_, effects) = bench.finish(&execute, failure(true));
        if attempt < 3 {
            execute = execution(&bench.alarm());
        } else {
            assert_eq!(
                failure_code(&deliveries(&effects)[0].event),
                Some(ErrorCode::UpstreamError)
            );
        }
    }
    assert_eq!(bench.get(execute.job).seq, Seq(4));
    assert_eq!(bench.status(execute.job), JobState::Failed);
}

#[test]
fn a_failure_that_is_final_is_not_tried_again() {
    let mut bench = Bench::new();
    let execute = bench.start(plain());
    bench.finish(&execute, failure(false)).0.unwrap();
    assert_eq!(bench.status(execute.job), JobState::Failed);
}

#[test]
fn an_unfinished_run_goes_on_in_the_same_attempt_from_its_checkpoint() {
    let mut bench = Bench::new();
    let mut execute = bench.start(plain());
    for run in 0..20 {
        bench
            .report(&execute, Some(percent(f64::from(run))), Some("c"))
            .0
            .unwrap();
        let token = execute.token;
        let (_, effects) = bench.finish(&execute, Outcome::Unfinished);
        execute = execution(&effects);
        assert_eq!((execute.attempt, execute.checkpoint.as_deref()), (1, Some("c")));
        assert!(execute.token > token);
    }
    assert_eq!(bench.get(execute.job).progress.percentage, 19.0);
    bench.finish(&execute, success()).0.unwrap();
}

#[test]
fn progress_never_goes_backwards_within_an_attempt_and_starts_again_in_the_next() {
    let mut bench = Bench::new();
    let mut execute = bench.start(followed());
    for (sent, seen) in [
        (10.0, 10.0),
        (5.0, 10.0),
        (f64::NAN, 10.0),
        (-3.0, 10.0),
        (400.0, 100.0),
    ] {
        let (_, effects) = bench.report(&execute, Some(percent(sent)), None);
        let told = deliveries(&effects);
        assert!(
            matches!(&told[0].event.what, Happening::Progress(p) if p.percentage == seen),
            "{told:?}"
        );
    }
    bench.finish(&execute, failure(true)).0.unwrap();
    execute = execution(&bench.alarm());
    let (_, effects) = bench.report(&execute, Some(percent(1.0)), None);
    let told = deliveries(&effects);
    assert!(matches!(&told[0].event.what, Happening::Progress(p) if p.percentage == 1.0));
    assert_eq!((told[0].event.seq, told[0].event.attempt), (Seq(8), 2));
}

#[test]
fn a_report_renews_the_lease_but_not_beyond_the_attempts_time() {
    let mut bench = Bench::new();
    let execute = bench.start(plain());
    let end = bench.now.plus(TIMEOUT_MS + LEASE_MS);
    for _ in 0..13 {
        bench.later(5000);
        let limit = bench.now.plus(LEASE_MS).min(end);
        assert_eq!(
            bench.report(&execute, None, None).0,
            Ok(Reply::Continue {
                lease_until: limit,
                cancelled_until: None
            })
        );
        assert!(executions(&bench.wake()).is_empty());
    }
    bench.later(5000);
    let effects = bench.wake();
    assert!(effects.contains(&Effect::Abandon {
        job: execute.job,
        token: execute.token
    }));
    assert_eq!(
        bench.status(execute.job),
        JobState::Retrying,
        "out of time is a failed attempt"
    );
}

#[test]
fn a_heartbeat_writes_no_row() {
    let mut bench = Bench::new();
    let execute = bench.start(plain());
    let before = bench.count("SELECT total_changes()");
    bench.report(&execute, None, None).0.unwrap();
    assert_eq!(bench.count("SELECT total_changes()"), before);
}

#[test]
fn a_lost_lease_is_claimed_again_from_the_checkpoint_in_the_same_attempt() {
    let mut bench = Bench::new();
    let first = bench.start(plain());
    bench.report(&first, Some(percent(40.0)), Some("c1")).0.unwrap();
    bench.later(LEASE_MS);
    let effects = bench.wake();
    assert!(effects.contains(&Effect::Abandon {
        job: first.job,
        token: first.token
    }));
    let second = execution(&effects);
    assert_eq!(
        (second.attempt, second.checkpoint.as_deref(), second.deadline),
        (1, Some("c1"), first.deadline)
    );
    assert_eq!(bench.get(first.job).progress.percentage, 40.0);
}

#[test]
fn a_late_report_or_outcome_of_a_lost_lease_is_refused_and_changes_nothing() {
    let mut bench = Bench::new();
    let first = bench.start(followed());
    bench.later(LEASE_MS);
    let second = execution(&bench.wake());
    let before = bench.get(first.job);
    for (reply, effects) in [
        bench.report(&first, Some(percent(90.0)), Some("late")),
        bench.finish(&first, success()),
        bench.finish(&first, failure(true)),
    ] {
        assert_eq!(code(&reply), ErrorCode::LeaseLost);
        assert_eq!(effects.len(), 1);
    }
    assert_eq!(bench.get(first.job), before);
    bench.finish(&second, success()).0.unwrap();
}

#[test]
fn an_outcome_given_twice_counts_once() {
    let mut bench = Bench::new();
    let execute = bench.start(followed());
    bench.finish(&execute, success()).0.unwrap();
    let (reply, effects) = bench.finish(&execute, failure(false));
    assert_eq!(code(&reply), ErrorCode::LeaseLost);
    assert!(deliveries(&effects).is_empty());
    assert_eq!(bench.status(execute.job), JobState::Succeeded);
}

#[test]
fn a_guessed_tail_or_a_future_token_holds_no_lease() {
    let mut bench = Bench::new();
    let execute = bench.start(plain());
    let guessed = tidegate_protocol::ids::JobId::new(execute.job.number(), execute.job.tail() ^ 1);
    assert_eq!(
        code(&bench.finish_as(guessed, execute.token, success()).0),
        ErrorCode::LeaseLost
    );
    let future = FencingToken(execute.token.0 + 1);
    assert_eq!(
        code(&bench.finish_as(execute.job, future, success()).0),
        ErrorCode::LeaseLost
    );
    assert_eq!(bench.status(execute.job), JobState::Running);
}

#[test]
fn a_job_that_never_gets_on_is_given_up() {
    let mut bench = Bench::new();
    let mut enqueue = followed();
    enqueue.job.policy.timeout_ms = 100 * LEASE_MS;
    let mut execute = bench.start(enqueue);
    for _ in 0..LOSSES_MAX {
        bench.later(LEASE_MS);
        let effects = bench.wake();
        execute = execution(&effects);
    }
    bench.later(LEASE_MS);
    let effects = bench.wake();
    assert!(executions(&effects).is_empty());
    let told: alloc::vec::Vec<_> = deliveries(&effects)
        .iter()
        .filter_map(|d| failure_code(&d.event))
        .collect();
    assert_eq!(told, [ErrorCode::ProcessingFailed]);
    assert_eq!(bench.status(execute.job), JobState::Failed);
    assert_eq!((bench.state.running(), bench.state.waiting()), (0, 0));
}

#[test]
fn an_attempt_that_outlives_its_time_names_the_limit_that_passed() {
    let mut bench = Bench::new();
    let mut enqueue = followed();
    (enqueue.job.policy.timeout_ms, enqueue.job.policy.attempts_max) = (1234, 1);
    bench.start(enqueue);
    bench.later(1234 + LEASE_MS);
    let told = deliveries(&bench.wake());
    let [Happening::Failed { error }] = told.iter().map(|d| &d.event.what).collect::<alloc::vec::Vec<_>>()[..] else {
        panic!("{told:?}")
    };
    assert_eq!(*error, Error::timed_out(TimeLimit::Action, 1234));
}

#[test]
fn a_new_checkpoint_makes_way_for_the_old_one_and_forgives_lost_leases() {
    let mut bench = Bench::new();
    let mut execute = bench.start(plain());
    for round in 0..2 * LOSSES_MAX {
        let (_, effects) = bench.report(&execute, None, Some(&alloc::format!("c{round}")));
        let gone = if round == 0 {
            None
        } else {
            Some(alloc::format!("c{}", round - 1))
        };
        assert_eq!(deleted(&effects), gone.into_iter().collect::<alloc::vec::Vec<_>>());
        bench.now = bench.now.plus(LEASE_MS);
        let effects = bench.wake();
        if bench.status(execute.job) == JobState::Retrying {
            execute = execution(&bench.alarm());
        } else {
            execute = execution(&effects);
        }
        if execute.attempt == 3 {
            return;
        }
    }
}

/// A job without a row drops the checkpoint that a newer one replaces, as a stored one does.
#[test]
fn an_unstored_job_lets_go_of_replaced_checkpoints() {
    let mut bench = Bench::new();
    let (_, effects) = bench.send(Call::Enqueue(Box::new(waiting(1000))));
    let execute = execution(&effects);
    bench.report(&execute, None, Some("c1")).0.unwrap();
    bench.report(&execute, None, Some("c1")).0.unwrap();
    let (_, effects) = bench.report(&execute, None, Some("c2"));
    assert_eq!(deleted(&effects), ["c1"]);
}

#[test]
fn a_waiting_job_is_cancelled_and_never_runs() {
    for enqueue in [rung(), delayed(Bench::new().now.plus(5000))] {
        let mut bench = Bench::new();
        let (job, _) = bench.enqueue(enqueue);
        let (reply, _) = bench.call(Call::Cancel {
            job,
            caller: caller("ann"),
        });
        assert_eq!(reply, Ok(Reply::Done));
        assert_eq!((bench.status(job), bench.state.waiting()), (JobState::Cancelled, 0));
        assert!(executions(&bench.send(Call::Start { job }).1).is_empty());
        bench.later(100_000);
        assert!(executions(&bench.wake()).is_empty());
        assert_eq!(
            bench
                .call(Call::Cancel {
                    job,
                    caller: caller("ann")
                })
                .0,
            Ok(Reply::Done),
            "again is no fault"
        );
    }
}

#[test]
fn a_running_job_is_cancelled_and_its_attempt_changes_nothing_any_more() {
    let mut bench = Bench::new();
    let execute = bench.start(followed());
    bench.report(&execute, None, Some("c1")).0.unwrap();
    let (reply, effects) = bench.call(Call::Cancel {
        job: execute.job,
        caller: caller("ann"),
    });
    assert_eq!(reply, Ok(Reply::Done));
    assert!(effects.contains(&Effect::Abandon {
        job: execute.job,
        token: execute.token
    }));
    assert_eq!(deleted(&effects), ["c1"]);
    assert_eq!(failure_code(&deliveries(&effects)[0].event), Some(ErrorCode::Cancelled));
    assert_eq!(code(&bench.finish(&execute, success()).0), ErrorCode::LeaseLost);
    assert_eq!(bench.status(execute.job), JobState::Cancelled);
    assert_eq!(bench.state.running(), 0);
}

#[test]
fn an_ended_job_is_not_cancelled_and_a_stranger_cancels_nothing() {
    let mut bench = Bench::new();
    let execute = bench.start(plain());
    let stranger = bench
        .call(Call::Cancel {
            job: execute.job,
            caller: caller("eve"),
        })
        .0;
    assert_eq!(code(&stranger), ErrorCode::NotFound);
    let reader = tidegate_protocol::calls::Caller {
        reads_all: true,
        ..caller("eve")
    };
    let refused = bench
        .call(Call::Cancel {
            job: execute.job,
            caller: reader,
        })
        .0;
    assert_eq!(code(&refused), ErrorCode::Forbidden);
    bench.finish(&execute, success()).0.unwrap();
    let late = bench
        .call(Call::Cancel {
            job: execute.job,
            caller: caller("ann"),
        })
        .0;
    assert_eq!(code(&late), ErrorCode::Conflict);
}

#[test]
fn a_large_result_is_a_claim_check() {
    let mut bench = Bench::new();
    let execute = bench.start(plain());
    let result = Payload::Stored {
        key: "t/acme/r".into(),
        bytes: 1 << 20,
    };
    bench
        .finish(&execute, Outcome::Succeeded { result: result.clone() })
        .0
        .unwrap();
    let job = bench.get(execute.job);
    assert!(job.result.is_none() && job.result_url.is_some());
    let (reply, _) = bench.call(Call::Result {
        job: execute.job,
        caller: caller("ann"),
    });
    assert_eq!(reply, Ok(Reply::Result { result }));
}

#[test]
fn a_place_that_becomes_free_goes_to_the_job_that_waits_before_a_later_call_of_the_same_turn() {
    let mut bench = Bench::new();
    let running: Vec<_> = (0..RUNNING_MAX).map(|_| bench.start(plain())).collect();
    let (waiting, effects) = bench.enqueue(plain());
    assert!(executions(&effects).is_empty(), "every place is taken");
    let first = &running[0];
    let finish = Call::Finish {
        job: first.job,
        token: first.token,
        outcome: success(),
    };
    let (_, effects) = bench.send_all([finish, Call::Enqueue(Box::new(plain()))]);
    assert_eq!(execution(&effects).job, waiting);
}

#[test]
fn places_that_become_free_together_are_filled_once_and_to_the_last() {
    let mut bench = Bench::new();
    let running: Vec<_> = (0..RUNNING_MAX).map(|_| bench.start(plain())).collect();
    let waiting: Vec<_> = (0..20).map(|_| bench.enqueue(plain()).0).collect();
    let finish = |execute: &Execute| Call::Finish {
        job: execute.job,
        token: execute.token,
        outcome: success(),
    };
    let (_, effects) = bench.send_all(running.iter().take(12).map(finish));
    let mut started: Vec<_> = executions(&effects).iter().map(|execute| execute.job).collect();
    started.sort();
    assert_eq!(started, waiting[..12]);
    assert_eq!((bench.state.running(), bench.state.waiting()), (RUNNING_MAX, 8));
}
