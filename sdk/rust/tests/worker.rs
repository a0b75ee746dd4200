//! A worker against a server in the same process.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "these are tests"
)]

#[path = "fake/mod.rs"]
mod fake;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use fake::{Fake, Received, Reply, within};
use serde_json::{Value, json};
use tidegate_sdk::Client;
use tidegate_sdk::worker::{Drained, Failure, Worker};
use tokio::sync::oneshot;

/// A job named `job_<n>` with this lease.
fn job(n: u32, lease_ms: u64) -> Value {
    json!({
        "job_id": format!("job_{n}"), "action": "a", "attempt": 1, "payload": { "n": n }, "metadata": {},
        "effect_key": format!("job_{n}"), "deadline": "2030-01-01T00:00:00.000Z",
        "lease_until": "2030-01-01T00:00:00.000Z", "lease_ms": lease_ms, "attempt_token": format!("token-{n}"),
    })
}

fn renewed() -> Reply {
    Reply::json(200, &json!({ "lease_until": "2030-01-01T00:00:00.000Z" }))
}

/// A server that gives `jobs` to the first call, and answers the rest of the protocol as `rest` says.
async fn server(jobs: Vec<Value>, rest: impl Fn(&Received) -> Option<Reply> + Send + Sync + 'static) -> Fake {
    let given = AtomicBool::new(false);
    Fake::start(move |request| {
        if request.path == "/v1/workers/gpu:lease" {
            let asks = request.json()["max"] != json!(0);
            let jobs = if asks && !given.swap(true, Ordering::SeqCst) {
                jobs.clone()
            } else {
                Vec::new()
            };
            if jobs.is_empty() && asks {
                // The call of a real server would wait.
                std::thread::sleep(Duration::from_millis(20));
            }
            return Some(Reply::json(200, &json!({ "jobs": jobs })));
        }
        rest(request).or_else(|| {
            if request.path.ends_with(":report") {
                return Some(renewed());
            }
            request.path.ends_with(":finish").then(|| Reply::json(200, &json!({})))
        })
    })
    .await
}

fn finishes(fake: &Fake) -> Vec<(String, Value)> {
    let received = fake.received();
    let ends = received.iter().filter(|request| request.path.ends_with(":finish"));
    ends.map(|request| (request.header("authorization").unwrap().to_owned(), request.json()))
        .collect()
}

/// Runs a worker until `enough` outcomes were said, then stops it.
async fn run_until(fake: &Fake, worker: Worker, enough: usize) -> Drained {
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(worker.run(async {
        let _ = stopped.await;
    }));
    within(async {
        while finishes(fake).len() < enough {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    stop.send(()).unwrap();
    within(running).await.unwrap().unwrap()
}

#[tokio::test]
async fn each_kind_of_outcome_is_said_under_the_attempts_own_token() {
    let fake = server((1..=5).map(|n| job(n, 60_000)).collect(), |_| None).await;
    let client = Client::new(&fake.url, "t").unwrap();
    let worker = Worker::builder(&client, "gpu")
        .concurrency(5)
        .name("w")
        .handler("a", |job, _| async move {
            let payload: Value = serde_json::from_str(job.payload.as_str())?;
            match payload["n"].as_u64() {
                Some(1) => Ok(json!({ "done": job.effect_key })),
                Some(2) => Err(Failure::permanent("never")),
                Some(3) => Err(Failure::retry_after(5000, "later")),
                Some(4) => Err(Failure::snooze(7)),
                _ => panic!("as bad as it gets"),
            }
        })
        .build()
        .unwrap();
    let drained = run_until(&fake, worker, 5).await;
    let expected = Drained {
        succeeded: 1,
        failed: 3,
        snoozed: 1,
        ..Drained::default()
    };
    assert_eq!(drained, expected);
    let mut said = finishes(&fake);
    said.sort_by_key(|(token, _)| token.clone());
    let failed = |message: &str, retryable| json!({ "outcome": "failed", "error": { "message": message, "retryable": retryable } });
    assert_eq!(
        said[0].1,
        json!({ "outcome": "succeeded", "result": { "done": "job_1" } })
    );
    assert_eq!(said[1].1, failed("never", false));
    assert_eq!(said[2].1["error"]["retry_after_ms"], 5000);
    assert_eq!(said[3].1, json!({ "outcome": "snoozed", "ms": 7 }));
    assert_eq!(said[4].1, failed("The handler panicked.", true));
    for (n, (token, _)) in (1..).zip(&said) {
        assert_eq!(token, &format!("Bearer token-{n}"));
    }
    let asks = fake.received().remove(0).json();
    assert_eq!(
        (&asks["max"], &asks["worker"], &asks["actions"]),
        (&json!(5), &json!("w"), &json!(["a"]))
    );
}

#[tokio::test]
async fn a_lease_is_kept_alive_while_the_handler_is_silent_and_progress_is_told() {
    let fake = server(vec![job(1, 600)], |_| None).await;
    let client = Client::new(&fake.url, "t").unwrap();
    let worker = Worker::builder(&client, "gpu")
        .any_action(|_, context| async move {
            context.progress(40.0, "half");
            tokio::time::sleep(Duration::from_millis(900)).await;
            Ok::<_, Failure>(1)
        })
        .build()
        .unwrap();
    run_until(&fake, worker, 1).await;
    let received = fake.received();
    let reports: Vec<Value> = received
        .iter()
        .filter(|request| request.path == "/v1/attempts/job_1:report")
        .map(Received::json)
        .collect();
    assert!((3..=6).contains(&reports.len()), "{reports:?}");
    let told = json!({ "progress": { "percentage": 40.0, "message": "half" } });
    assert_eq!(
        reports.iter().filter(|report| **report == told).count(),
        1,
        "{reports:?}"
    );
    assert!(received[0].json().get("actions").is_none());
}

#[tokio::test]
async fn a_handler_is_told_when_its_lease_is_lost_and_says_nothing_more() {
    let fake = server(vec![job(1, 600)], |request| {
        let report = request.path.ends_with(":report");
        report.then(|| Reply::problem(409, "LEASE_LOST"))
    })
    .await;
    let client = Client::new(&fake.url, "t").unwrap();
    let (told, heard) = oneshot::channel();
    let told = std::sync::Mutex::new(Some(told));
    let worker = Worker::builder(&client, "gpu")
        .handler("a", move |_, context| {
            let told = told.lock().unwrap().take();
            async move {
                context.stopped().await;
                assert!(context.is_stopped());
                let _ = told.map(|told| told.send(()));
                Ok::<_, Failure>(1)
            }
        })
        .build()
        .unwrap();
    let running = tokio::spawn(worker.run(async {
        let _ = heard.await;
    }));
    let drained = within(running).await.unwrap().unwrap();
    assert_eq!((drained.lost, drained.succeeded), (1, 0));
    assert!(finishes(&fake).is_empty());
}

#[tokio::test]
async fn one_that_is_told_to_stop_leaves_finishes_what_it_can_and_gives_back_the_rest() {
    let fake = server(vec![job(1, 60_000), job(2, 60_000)], |_| None).await;
    let client = Client::new(&fake.url, "t").unwrap();
    let begun = Arc::new(AtomicU32::new(0));
    let counted = begun.clone();
    let worker = Worker::builder(&client, "gpu")
        .concurrency(3)
        .grace(Duration::from_millis(600))
        .handler("a", move |job, context| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                if job.id.as_str() == "job_1" {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                } else {
                    context.stopped().await;
                }
                Ok::<_, Failure>(1)
            }
        })
        .build()
        .unwrap();
    let drained = worker.run(async {
        while begun.load(Ordering::SeqCst) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let drained = within(drained).await.unwrap();
    assert_eq!((drained.succeeded, drained.handed_back), (1, 1));
    let said = finishes(&fake);
    assert_eq!(said[1].1, json!({ "outcome": "snoozed", "ms": 0 }));
    let received = fake.received();
    let mut leases = received.iter().filter(|request| request.path.ends_with(":lease"));
    assert!(
        leases.any(|request| request.json()["max"] == 0),
        "it says that it leaves"
    );
}

#[tokio::test]
async fn an_outcome_is_said_until_it_is_taken_and_a_server_that_refuses_the_worker_ends_it() {
    let tries = AtomicU32::new(0);
    let fake = server(vec![job(1, 60_000)], move |request| {
        let ends = request.path.ends_with(":finish");
        (ends && tries.fetch_add(1, Ordering::SeqCst) < 2)
            .then(|| Reply::json(503, &json!({ "status": 503, "code": "UNAVAILABLE", "retryable": true })))
    })
    .await;
    let client = Client::new(&fake.url, "t").unwrap();
    let handler = |_, _| async { Ok::<_, Failure>(1) };
    let worker = Worker::builder(&client, "gpu").handler("a", handler).build().unwrap();
    assert_eq!(run_until(&fake, worker, 3).await.succeeded, 1);

    let fake = Fake::start(|_| Some(Reply::problem(403, "FORBIDDEN"))).await;
    let client = Client::new(&fake.url, "t").unwrap();
    let worker = Worker::builder(&client, "gpu").handler("a", handler).build().unwrap();
    let refused = within(worker.run(std::future::pending())).await.unwrap_err();
    assert!(refused.to_string().contains("FORBIDDEN"), "{refused}");
}

#[tokio::test]
async fn a_handler_hears_that_its_job_was_cancelled_and_still_says_how_it_ended() {
    let fake = server(vec![job(1, 900)], |request| {
        let cancelled = json!({
            "lease_until": "2030-01-01T00:00:00.000Z", "cancelled_until": "2030-01-01T00:00:00.000Z",
        });
        request.path.ends_with(":report").then(|| Reply::json(200, &cancelled))
    })
    .await;
    let client = Client::new(&fake.url, "t").unwrap();
    let worker = Worker::builder(&client, "gpu")
        .handler("a", |_, context| async move {
            context.stopped().await;
            Err::<(), _>(Failure::permanent("tidied up"))
        })
        .build()
        .unwrap();
    run_until(&fake, worker, 1).await;
    let (_, said) = &finishes(&fake)[0];
    assert_eq!(said["error"]["message"], "tidied up", "{said}");
}
