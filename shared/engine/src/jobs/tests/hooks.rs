//! Endpoints that are told of ends: exactly one job for each, of a kind that tells nobody itself.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use serde_json::{Value, json};
use tidegate_protocol::Error;
use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::executor::{Backoff, Execute, Jitter, Outcome, Policy};
use tidegate_protocol::calls::hooks::{HOOK_ACTION, Hook, OnEnd};
use tidegate_protocol::calls::jobs::{Call, Enqueue, Filter, Reply};
use tidegate_protocol::error::Retry;
use tidegate_protocol::event::{JobState, Payload};
use tidegate_protocol::http;
use tidegate_protocol::ids::{ActionName, JobId};

use super::super::{Effect, RUNNING_MAX};
use super::bench::*;
use crate::composition::defaults::{ON_END_HOST_MAX, ON_END_WAITS_MS};

const URL: &str = "https://hooks.example.com/x";

fn on_end() -> OnEnd {
    let ended = JobState::ALL.iter().copied().filter(|state| state.is_ended());
    OnEnd {
        url: URL.into(),
        events: ended.collect(),
        include_result: true,
        policy: Policy {
            attempts_max: 10,
            backoff: Backoff::Table {
                waits_ms: ON_END_WAITS_MS.to_vec(),
            },
            jitter: Some(Jitter::None),
            ..plain().job.policy
        },
    }
}

fn told(on_end: OnEnd) -> Enqueue {
    let mut enqueue = plain();
    enqueue.job.hook = Some(Hook::OnEnd(Box::new(on_end)));
    enqueue.job.metadata.insert("k".into(), "v".into());
    enqueue
}

fn hooks(bench: &mut Bench) -> Vec<http::Job> {
    let filter = Filter {
        action: ActionName::parse(HOOK_ACTION),
        ..everything()
    };
    match bench
        .call(Call::List {
            caller: caller("ann"),
            filter,
        })
        .0
    {
        Ok(Reply::Jobs(page)) => page.jobs,
        other => panic!("{other:?}"),
    }
}

fn event(execute: &Execute) -> Value {
    match &execute.payload {
        Payload::Inline(text) => serde_json::from_str(text.as_str()).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn writer() -> Caller {
    Caller {
        writes_all: true,
        ..caller("root")
    }
}

fn refused(retry_after_ms: Option<u64>) -> Outcome {
    let error = Error::new(ErrorCode::UpstreamError, "no").with_retry(Retry::Later);
    Outcome::Failed {
        error: Error {
            retry_after_ms,
            ..error
        },
    }
}

/// The one message that the effects send.
fn sent(effects: &[Effect]) -> Execute {
    let mut messages = executions(effects);
    messages.retain(|execute| execute.message.is_some());
    assert_eq!(messages.len(), 1, "{effects:?}");
    messages.remove(0)
}

#[test]
fn an_end_and_its_message_are_one_turn() {
    let mut bench = Bench::new();
    let execute = bench.start(told(on_end()));
    assert_eq!(execute.message, None);
    assert!(hooks(&mut bench).is_empty(), "nothing is told before the end");
    let (_, effects) = bench.finish(&execute, success());
    let telling = sent(&effects);
    let message = telling.message.clone().unwrap();
    assert_eq!(
        (message.url.as_str(), message.id),
        (URL, std::format!("evt_{}", execute.job))
    );
    let event = event(&telling);
    assert_eq!(event["id"], std::format!("evt_{}", execute.job));
    assert_eq!(
        (&event["type"], &event["specversion"]),
        (&json!("job.succeeded"), &json!("1.0"))
    );
    let data = &event["data"];
    assert_eq!(data["job_id"], execute.job.to_string());
    assert_eq!((&data["result"], &data["metadata"]), (&json!(42), &json!({ "k": "v" })));
    assert_eq!((&data["status"], &data["user"]), (&json!("succeeded"), &json!("ann")));
    assert_eq!((&data["result_url"], &data["error"]), (&Value::Null, &Value::Null));
    assert_eq!(data["started_at"], json!(bench.now), "it began as it was accepted");
    let found = hooks(&mut bench);
    assert_eq!((found.len(), found[0].job_id), (1, telling.job));
    assert_eq!(found[0].metadata["job_id"], execute.job.to_string());
    assert_eq!(found[0].metadata["event"], "job.succeeded");
    bench.finish(&telling, success()).0.unwrap();
    bench.crash();
    assert_eq!(hooks(&mut bench).len(), 1, "a message is told to nobody");
    assert_eq!(bench.get(telling.job).status, JobState::Succeeded);
}

#[test]
fn a_job_that_tells_nobody_costs_what_it_did() {
    let rows = |enqueue: Enqueue| {
        let mut bench = Bench::new();
        let execute = bench.start(enqueue);
        bench.finish(&execute, success()).0.unwrap();
        bench.count("SELECT count(*) FROM job")
    };
    assert_eq!(rows(plain()), 1);
    let mut silent = on_end();
    silent.events = vec![JobState::Failed];
    assert_eq!(rows(told(silent)), 1);
    assert_eq!(rows(told(on_end())), 2);
}

#[test]
fn each_way_to_end_is_told_once_and_says_which_it_was() {
    let check = |end: &dyn Fn(&mut Bench) -> JobId, kind: &str, code: &str| {
        let mut bench = Bench::new();
        let job = end(&mut bench);
        let found = hooks(&mut bench);
        assert_eq!(found.len(), 1, "{kind}");
        assert_eq!(found[0].metadata["event"], kind);
        let payload = super::super::row::payload(&bench.db, found[0].job_id.number()).unwrap();
        let Payload::Inline(text) = payload else { panic!() };
        let event: Value = serde_json::from_str(text.as_str()).unwrap();
        assert_eq!(
            (&event["type"], &event["data"]["error"]["code"]),
            (&json!(kind), &json!(code))
        );
        assert_eq!(event["data"]["job_id"], job.to_string());
    };
    check(
        &|bench| {
            let execute = bench.start(told(on_end()));
            bench.finish(&execute, failure(false)).0.unwrap();
            execute.job
        },
        "job.failed",
        "UPSTREAM_ERROR",
    );
    check(
        &|bench| {
            let execute = bench.start(told(on_end()));
            let cancel = || Call::Cancel {
                job: execute.job,
                caller: caller("ann"),
            };
            bench.call(cancel()).0.unwrap();
            bench.call(cancel()).0.unwrap();
            // What the attempt still says ends nothing a second time.
            assert!(bench.finish(&execute, success()).0.is_err());
            execute.job
        },
        "job.cancelled",
        "CANCELLED",
    );
    check(
        &|bench| {
            let mut enqueue = told(on_end());
            enqueue.job.run_at = Some(bench.now.plus(1000));
            enqueue.job.policy.queue_timeout_ms = Some(500);
            let call = Call::Pause {
                scope: tidegate_protocol::calls::queueing::PauseScope::Tenant,
                caller: writer(),
            };
            bench.call(call).0.unwrap();
            let (job, _) = bench.enqueue(enqueue);
            bench.later(2000);
            bench.wake();
            assert_eq!(bench.status(job), JobState::Expired);
            job
        },
        "job.expired",
        "EXPIRED",
    );
}

#[test]
fn a_large_result_or_one_that_is_not_to_be_told_is_named_by_its_place() {
    let large = std::format!("\"{}\"", "x".repeat(40_000));
    let mut reserved = on_end();
    reserved.include_result = false;
    for (on_end, result) in [
        (on_end(), value(&large)),
        (on_end(), stored("r")),
        (reserved, value("1")),
    ] {
        let mut bench = Bench::new();
        let execute = bench.start(told(on_end));
        let (_, effects) = bench.finish(&execute, Outcome::Succeeded { result });
        let event = event(&sent(&effects));
        assert_eq!(event["data"]["result"], Value::Null);
        let url = event["data"]["result_url"].as_str().unwrap();
        assert_eq!(url, std::format!("/v1/jobs/{}/result", execute.job));
    }
}

#[test]
fn an_endpoint_is_told_again_after_the_waits_of_standard_webhooks_until_it_is_a_dead_letter() {
    let mut bench = Bench::new();
    let execute = bench.start(told(on_end()));
    let (_, effects) = bench.finish(&execute, success());
    let mut telling = sent(&effects);
    let (job, message) = (telling.job, telling.message.clone());
    let seconds = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];
    for wait in seconds {
        bench.finish(&telling, refused(None)).0.unwrap();
        let next = bench.now.plus(wait * 1000);
        while bench.get(job).status == JobState::Retrying {
            let before = bench.now;
            let effects = bench.alarm();
            if executions(&effects).is_empty() {
                // A sweep, or another alarm in between: the message itself is never early.
                assert!(bench.now >= before && bench.now < next);
                continue;
            }
            assert_eq!(bench.now, next, "after {wait} s");
            telling = sent(&effects);
        }
        assert_eq!(
            (telling.job, &telling.message),
            (job, &message),
            "the same message each time"
        );
    }
    bench.finish(&telling, refused(None)).0.unwrap();
    let letters = bench.dead_letters(everything()).dead_letters;
    assert_eq!((letters.len(), letters[0].job_id, letters[0].attempts), (1, job, 10));
}

#[test]
fn an_endpoint_that_says_when_is_not_told_before_and_one_that_is_gone_never_again() {
    let mut bench = Bench::new();
    let execute = bench.start(told(on_end()));
    let telling = sent(&bench.finish(&execute, success()).1);
    bench.finish(&telling, refused(Some(60_000))).0.unwrap();
    assert_eq!(bench.get(telling.job).run_at, Some(bench.now.plus(60_000)));
    let telling = sent(&bench.alarm());
    bench.finish(&telling, failure(false)).0.unwrap();
    assert_eq!(bench.status(telling.job), JobState::Failed);
}

#[test]
fn a_message_is_redriven_as_it_was_and_by_a_writer_alone() {
    let mut bench = Bench::new();
    let execute = bench.start(told(on_end()));
    let telling = sent(&bench.finish(&execute, success()).1);
    bench.finish(&telling, failure(false)).0.unwrap();
    let retry = |caller: Caller, payload: Option<Payload>| Call::Retry {
        job: telling.job,
        caller,
        payload,
    };
    let own = bench.call(retry(caller("ann"), None)).0;
    assert_eq!(code(&own), ErrorCode::Forbidden);
    let edited = bench.call(retry(writer(), Some(value("{}")))).0;
    assert_eq!(
        code(&edited),
        ErrorCode::ValidationError,
        "nobody has something else signed"
    );
    let (reply, effects) = bench.call(retry(writer(), None));
    reply.unwrap();
    let again = sent(&effects);
    assert_ne!(again.job, telling.job);
    assert_eq!((again.message, again.payload), (telling.message, telling.payload));
    let cancel = Call::Cancel {
        job: again.job,
        caller: caller("ann"),
    };
    assert_eq!(code(&bench.call(cancel).0), ErrorCode::Forbidden);
}

#[test]
fn a_redriven_job_tells_its_own_end() {
    let mut bench = Bench::new();
    let execute = bench.start(told(on_end()));
    let first = sent(&bench.finish(&execute, failure(false)).1);
    let (again, effects) = bench.retry(execute.job, None);
    let execute = execution(&effects);
    let second = sent(&bench.finish(&execute, success()).1);
    assert_ne!(first.message, second.message);
    assert_eq!(event(&second)["data"]["redriven_from"], event(&first)["data"]["job_id"]);
    assert_eq!(event(&second)["data"]["job_id"], again.job_id.to_string());
}

#[test]
fn a_job_that_is_told_of_is_stored_before_it_is_answered() {
    let mut bench = Bench::new();
    let mut enqueue = told(on_end());
    enqueue.answer_within_ms = Some(1000);
    let (_, effects) = bench.send(Call::Enqueue(Box::new(enqueue)));
    let execute = execution(&effects);
    assert_eq!(bench.count("SELECT count(*) FROM job"), 1);
    sent(&bench.finish(&execute, success()).1);
}

#[test]
fn a_host_that_hangs_leaves_places_to_everything_else() {
    let mut bench = Bench::new();
    let jobs: Vec<Execute> = (0..40).map(|_| bench.start(told(on_end()))).collect();
    let mut messages = 0;
    for execute in &jobs {
        messages += executions(&bench.finish(execute, success()).1).len();
    }
    assert_eq!(messages, usize::try_from(ON_END_HOST_MAX).unwrap());
    let mut other = on_end();
    other.url = "https://other.example.com/".into();
    let execute = bench.start(told(other));
    sent(&bench.finish(&execute, success()).1);
    let hosts = usize::try_from(ON_END_HOST_MAX).unwrap() + 1;
    for _ in hosts..RUNNING_MAX {
        bench.start(plain());
    }
}

#[test]
fn a_message_outlives_a_crash_and_a_full_queue() {
    let mut bench = Bench::new();
    let execute = bench.start(told(on_end()));
    bench.crowd(super::super::WAITING_MAX);
    let telling = sent(&bench.finish(&execute, success()).1);
    bench.crash();
    bench.later(LEASE_MS + 1);
    let again = sent(&bench.wake());
    assert_eq!((again.job, again.message), (telling.job, telling.message));
}
