//! The HTTP API of the client against a server in the same process.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "these are tests"
)]

#[path = "fake/mod.rs"]
mod fake;

use std::sync::atomic::{AtomicU32, Ordering};

use fake::{Fake, Reply, within};
use serde_json::json;
use tidegate_sdk::http::{Cause, JobFilter, PauseScope, Posted, Prefer, Reason, Scope};
use tidegate_sdk::{CallOptions, Client, Error, JobId, Seq};

fn job() -> JobId {
    JobId::parse("job_1").unwrap()
}

#[tokio::test]
async fn a_request_says_how_it_wants_its_answer_and_always_carries_a_key() {
    let fake = Fake::start(|request| match request.header("prefer") {
        Some("respond-async") => Some(Reply::json(
            202,
            &json!({"request_id":"r","job_id":"job_1","status":"queued","deduplicated":false,"seq":0}),
        )),
        _ => Some(Reply::json(200, &json!({"request_id":"r","data":[1],"new":true}))),
    })
    .await;
    let client = Client::new(&fake.url, "t").unwrap();
    let options = CallOptions::default();
    let posted = client.http().request("a", &(), &options, Prefer::RespondAsync).await;
    assert!(matches!(posted, Ok(Posted::Accepted(accepted)) if accepted.job_id == job()));
    let posted = client.http().request("a", &(), &options, Prefer::Wait(5)).await;
    assert!(matches!(posted, Ok(Posted::Answered(answer)) if answer.data.as_str() == "[1]"));
    for request in fake.received() {
        assert_eq!(request.header("authorization"), Some("Bearer t"));
        assert!(request.json()["idempotency_key"].is_string());
    }
}

#[tokio::test]
async fn a_problem_document_becomes_a_typed_error() {
    let fake = Fake::start(|_| {
        let fault = json!({"pointer":"/action","expected":"a name","got":"7"});
        Some(Reply::json(
            422,
            &json!({"code":"VALIDATION_ERROR","detail":"No.","status":422,"retryable":false,"details":[fault]}),
        ))
    })
    .await;
    let client = Client::new(&fake.url, "t").unwrap();
    match client.http().job(&job(), None).await {
        Err(Error::Api(error)) => assert_eq!((error.status, error.details.len()), (Some(422), 1)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_file_is_sent_with_its_length_and_comes_back_byte_by_byte() {
    let content: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let stored = content.clone();
    let fake = Fake::start(move |request| match request.method.as_str() {
        "PUT" => Some(Reply::json(
            200,
            &json!({"key":"a b/c","size":request.body.len(),"etag":"\"e\""}),
        )),
        "GET" | "HEAD" => Some(Reply::bytes("text/csv", stored.clone())),
        "DELETE" => Some(Reply::bytes("text/plain", "")),
        _ => None,
    })
    .await;
    let client = Client::new(&fake.url, "t").unwrap();
    let reader = std::io::Cursor::new(content.clone());
    let info = client
        .http()
        .put_object("a b/c", reader, 300_000, Some("text/csv"))
        .await;
    assert_eq!(info.unwrap().size, 300_000);
    let sent = fake.received().pop().unwrap();
    assert_eq!(
        (sent.path.as_str(), sent.header("content-length")),
        ("/v1/objects/a%20b/c", Some("300000"))
    );
    assert_eq!(sent.header("transfer-encoding"), None);
    assert!(sent.body == content);

    let mut back = Vec::new();
    let mut download = client.http().get_object("a b/c").await.unwrap();
    assert_eq!(download.content_type(), Some("text/csv"));
    assert_eq!(download.write_to(&mut back).await.unwrap(), 300_000);
    assert!(back == content);
    let head = client.http().head_object("a b/c").await.unwrap().unwrap();
    assert_eq!(head.size, Some(300_000));
    client.http().delete_object("a b/c").await.unwrap();
}

#[tokio::test]
async fn a_file_that_becomes_shorter_is_an_error_and_not_a_shorter_object() {
    let fake = Fake::start(|_| Some(Reply::json(200, &json!({"key":"k","size":1})))).await;
    let client = Client::new(&fake.url, "t").unwrap();
    let reader = std::io::Cursor::new(vec![1; 10]);
    assert!(client.http().put_object("k", reader, 20, None).await.is_err());
}

#[tokio::test]
async fn an_absent_object_has_no_head() {
    let fake = Fake::start(|_| None).await;
    let client = Client::new(&fake.url, "t").unwrap();
    assert_eq!(client.http().head_object("k").await.unwrap(), None);
}

#[tokio::test]
async fn jobs_events_results_tickets_and_health_have_their_routes() {
    let fake = Fake::start(|request| {
        let job = json!({"job_id":"job_1","action":"a","status":"succeeded","result":null});
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/v1/jobs/job_1?wait=5") => Some(Reply::json(200, &job)),
            ("GET", "/v1/jobs?status=failed&limit=2") => Some(Reply::json(200, &json!({"jobs":[job],"cursor":"c"}))),
            ("GET", "/v1/jobs/job_1/events") if request.header("last-event-id") == Some("4") => Some(Reply::json(
                200,
                &json!({"events":[{"type":"progress"}],"gap":false,"ended":true}),
            )),
            ("GET", "/v1/jobs/job_1/output/a%2Fb?offset=3&wait=7") => Some(Reply::json(
                200,
                &json!({"stream":"a/b","offset":5,"text":"x","next_offset":6,"written":9,"gap":true,"ended":false,"seq":4}),
            )),
            ("GET", "/v1/jobs/job_1/result") => Some(Reply::bytes("application/json", "[1]")),
            ("POST", "/v1/jobs/job_1:cancel") => Some(Reply::json(202, &json!({}))),
            ("POST", "/v1/tickets") => Some(Reply::json(
                200,
                &json!({"ticket":"x","expires_at":"2026-11-21T07:00:00.000Z"}),
            )),
            ("GET", "/healthz") => Some(Reply::bytes("text/plain", "ok")),
            _ => None,
        }
    })
    .await;
    let client = Client::new(&fake.url, "t").unwrap();
    let http = client.http();
    let read = http.job(&job(), Some(5)).await.unwrap();
    assert_eq!(read.result.unwrap().as_str(), "null");
    let filter = JobFilter {
        status: Some("failed".into()),
        limit: Some(2),
        ..JobFilter::default()
    };
    assert_eq!(http.jobs(&filter).await.unwrap().cursor.as_deref(), Some("c"));
    assert!(http.events(&job(), Some(Seq(4))).await.unwrap().ended);
    let page = http.output(&job(), "a/b", 3, 7).await.unwrap();
    assert_eq!(
        (page.offset, page.text.as_str(), page.next_offset, page.gap),
        (5, "x", 6, true)
    );
    let mut result = Vec::new();
    http.result(&job()).await.unwrap().write_to(&mut result).await.unwrap();
    assert_eq!(result, b"[1]");
    http.cancel(&job()).await.unwrap();
    assert_eq!(http.ticket().await.unwrap().ticket, "x");
    http.healthz().await.unwrap();
}

#[tokio::test]
async fn the_queue_is_shown_and_held_back_and_a_job_says_what_it_waits_for() {
    let fake = Fake::start(|request| {
        let pauses = match request.path.as_str() {
            "/v1/queue:pause" => json!([{"scope":{"key":"ann"},"by":"op","since":"2026-11-21T07:00:00.000Z"}]),
            _ => json!([]),
        };
        let queue = json!({"running":1,"waiting":2,"actions":[{"action":"a","waiting":2}],"pauses":pauses,"new":true});
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/v1/jobs/job_1/why") => Some(Reply::json(
                200,
                &json!({"job_id":"job_1","status":"queued","waits_for":[{"kind":"behind","about":{"ahead":3}}]}),
            )),
            ("GET", "/v1/queue") | ("POST", "/v1/queue:pause" | "/v1/queue:resume") => Some(Reply::json(200, &queue)),
            _ => None,
        }
    })
    .await;
    let client = Client::new(&fake.url, "t").unwrap();
    let http = client.http();
    let why = http.why(&job()).await.unwrap();
    assert_eq!(why.waits_for, [Reason::Known(Cause::Behind { ahead: 3 })]);
    let queue = http.queue().await.unwrap();
    assert_eq!((queue.running, queue.waiting, queue.pauses.len()), (1, 2, 0));
    let scope = PauseScope::Key("ann".into());
    let paused = http.pause_queue(&scope).await.unwrap();
    assert_eq!(paused.pauses[0].scope, Scope::Known(scope.clone()));
    http.resume_queue(&scope).await.unwrap();
    let sent = fake.received();
    assert_eq!(
        (sent[2].json(), sent[3].json()),
        (json!({"key":"ann"}), json!({"key":"ann"}))
    );
}

#[tokio::test]
async fn a_request_that_gets_no_answer_is_sent_again_with_the_same_key() {
    let attempts = AtomicU32::new(0);
    let fake = Fake::start(move |_| {
        // An answer that breaks off in its head: the connection ends before it is whole.
        assert!(
            attempts.fetch_add(1, Ordering::SeqCst) > 0,
            "the first connection breaks"
        );
        Some(Reply::json(200, &json!({"data":1})))
    })
    .await;
    let client = Client::new(&fake.url, "t").unwrap();
    let posted = within(client.http().request("a", &(), &CallOptions::default(), Prefer::Unsaid)).await;
    assert!(matches!(posted, Ok(Posted::Answered(_))));
    let keys: Vec<_> = fake
        .received()
        .iter()
        .map(|r| r.json()["idempotency_key"].clone())
        .collect();
    assert!(keys.len() == 2 && keys[0] == keys[1]);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = Client::new(&url, "t").unwrap();
    assert!(matches!(
        within(client.http().healthz()).await,
        Err(Error::Unreachable(_))
    ));
}
