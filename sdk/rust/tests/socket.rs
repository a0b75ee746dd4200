//! The client against a server in the same process, over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "these are tests"
)]

#[path = "fake/mod.rs"]
mod fake;

use fake::{Fake, Reply, within};
use serde_json::{Value, json};
use tidegate_sdk::{CallOptions, Client, Error, ErrorCode, JobId, Outcome, Target, Update};

async fn fake() -> (Fake, Client) {
    let fake = Fake::start(|_| None).await;
    let client = Client::new(&fake.url, "token-1").unwrap();
    (fake, client)
}

fn acknowledgment(request: &Value, seq: u64) -> Value {
    json!({"type":"acknowledgment","request_id":request["id"],"job_id":"job_1","status":"queued","message":"stored",
        "deduplicated":false,"seq":seq})
}

fn progress(request: &Value, seq: u64) -> Value {
    json!({"type":"progress","request_id":request["id"],"job_id":"job_1","seq":seq,"attempt":1,"percentage":seq * 10,
        "timestamp":"2026-11-21T07:00:00.000Z"})
}

fn complete(request: &Value, seq: u64) -> Value {
    json!({"type":"complete","request_id":request["id"],"job_id":"job_1","seq":seq,"attempt":1,"result":{"rows":3},
        "timestamp":"2026-11-21T07:00:00.000Z"})
}

async fn all(mut call: tidegate_sdk::Handle) -> Vec<Update> {
    let mut updates = Vec::new();
    while let Some(update) = within(call.next()).await {
        updates.push(update);
    }
    updates
}

fn seqs(updates: &[Update]) -> Vec<u64> {
    let seq = |update: &Update| match update {
        Update::Progress(event) => Some(event.seq.0),
        Update::Snapshot(event) => Some(event.seq.0),
        Update::Ended(Outcome::Completed(event)) => Some(event.seq.0),
        _ => None,
    };
    updates.iter().filter_map(seq).collect()
}

#[tokio::test]
async fn a_call_is_answered_on_the_spot() {
    let (mut fake, client) = fake().await;
    let call = client
        .call("core.echo", &json!({"a": 1}), CallOptions::default())
        .unwrap();
    let mut socket = fake.welcomed().await;
    assert_eq!(socket.authorization, "Bearer token-1");
    let request = socket.frame().await;
    assert_eq!(
        (&request["action"], &request["payload"]),
        (&json!("core.echo"), &json!({"a": 1}))
    );
    assert!(request["idempotency_key"].as_str().unwrap().len() > 20);
    socket
        .send(json!({"type":"response","request_id":request["id"],"success":true,"data":{"a":1}}))
        .await;
    match within(call.outcome()).await {
        Outcome::Answered { data } => assert_eq!(data.as_str(), r#"{"a":1}"#),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_job_is_followed_over_a_cut_from_its_last_event_and_nothing_comes_twice() {
    let (mut fake, client) = fake().await;
    let call = client.call("a", &(), CallOptions::default()).unwrap();
    let mut socket = fake.welcomed().await;
    let request = socket.frame().await;
    for frame in [
        acknowledgment(&request, 0),
        progress(&request, 1),
        progress(&request, 2),
    ] {
        socket.send(frame).await;
    }
    socket.close(1012, "restart").await;

    let mut socket = fake.welcomed().await;
    let attach = socket.frame().await;
    assert_eq!(attach["type"], "attach");
    assert_eq!((&attach["job_id"], &attach["after"]), (&json!("job_1"), &json!(2)));
    for frame in [
        progress(&attach, 2),
        progress(&attach, 3),
        progress(&attach, 3),
        complete(&attach, 4),
        complete(&attach, 4),
    ] {
        socket.send(frame).await;
    }
    let updates = all(call).await;
    assert_eq!(seqs(&updates), [1, 2, 3, 4]);
    assert!(matches!(updates.last(), Some(Update::Ended(Outcome::Completed(_)))));
    assert!(
        updates
            .iter()
            .any(|update| matches!(update, Update::Reconnecting { .. }))
    );
    assert!(updates.iter().any(|update| matches!(update, Update::Reconnected)));
}

#[tokio::test]
async fn a_request_without_its_acknowledgment_is_sent_again_with_the_same_key() {
    let (mut fake, client) = fake().await;
    let call = client.call("a", &(), CallOptions::default()).unwrap();
    let mut socket = fake.welcomed().await;
    let first = socket.text().await;
    // Dropped, not closed: the connection breaks.
    drop(socket);
    let mut socket = fake.welcomed().await;
    let second = socket.text().await;
    assert_eq!(first, second);
    let request: Value = serde_json::from_str(&second).unwrap();
    socket.send(acknowledgment(&request, 3)).await;
    socket.send(complete(&request, 4)).await;
    assert!(matches!(within(call.outcome()).await, Outcome::Completed(_)));
}

#[tokio::test]
async fn a_close_from_3500_on_ends_every_call_and_a_later_call_tries_anew() {
    let (mut fake, client) = fake().await;
    let one = client.call("a", &(), CallOptions::default()).unwrap();
    let two = client.call("b", &(), CallOptions::default()).unwrap();
    let socket = fake.welcomed().await;
    socket.close(3502, "tenant suspended").await;
    for call in [one, two] {
        match within(call.outcome()).await {
            Outcome::Lost {
                error: error @ Error::Closed { code: 3502, .. },
                ..
            } => assert_eq!(error.known_code(), Some(ErrorCode::TenantSuspended)),
            other => panic!("{other:?}"),
        }
    }
    let later = client.call("c", &(), CallOptions::default()).unwrap();
    let mut socket = fake.welcomed().await;
    let request = socket.frame().await;
    socket
        .send(json!({"type":"response","request_id":request["id"],"data":1}))
        .await;
    assert!(matches!(within(later.outcome()).await, Outcome::Answered { .. }));
}

#[tokio::test]
async fn a_refused_upgrade_is_told_with_the_servers_own_words() {
    let fake = Fake::start(|_| Some(Reply::problem(401, "UNAUTHORIZED"))).await;
    let client = Client::new(&fake.url, "bad").unwrap();
    let call = client.call("a", &(), CallOptions::default()).unwrap();
    match within(call.outcome()).await {
        Outcome::Rejected(error) => {
            assert_eq!(
                (error.code.as_str(), error.message.as_str()),
                ("UNAUTHORIZED", "This is UNAUTHORIZED.")
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fake.received().len(), 1, "not tried again");
}

#[tokio::test]
async fn a_server_that_leaves_pings_unanswered_is_left() {
    let (mut fake, client) = fake().await;
    let call = client.call("a", &(), CallOptions::default()).unwrap();
    let mut socket = fake.socket().await;
    socket.welcome(20).await;
    let request = socket.frame().await;
    socket.send(acknowledgment(&request, 0)).await;
    assert_eq!(socket.text().await, r#"{"type":"ping"}"#);
    // No pong: the client comes back on another socket.
    let mut second = fake.welcomed().await;
    let attach = second.frame().await;
    assert_eq!(attach["type"], "attach");
    second.send(complete(&attach, 1)).await;
    assert!(matches!(within(call.outcome()).await, Outcome::Completed(_)));
}

#[tokio::test]
async fn calls_share_one_socket_and_a_dropped_handle_is_detached() {
    let (mut fake, client) = fake().await;
    let mut first = client.call("a", &(), CallOptions::default()).unwrap();
    let mut socket = fake.welcomed().await;
    let request = socket.frame().await;
    socket.send(acknowledgment(&request, 0)).await;
    assert!(matches!(within(first.next()).await, Some(Update::Acknowledged(_))));
    let job = JobId::parse("job_9").unwrap();
    let second = client.follow(Target::Job(job), None).unwrap();
    assert_eq!(socket.frame().await["type"], "attach");
    drop(first);
    let detach = socket.frame().await;
    assert_eq!(
        (&detach["type"], &detach["job_id"]),
        (&json!("detach"), &json!("job_1"))
    );
    drop(second);
    assert_eq!(socket.frame().await["job_id"], "job_9");
    drop(client);
    socket.gone().await;
    assert_eq!(fake.received().len(), 1, "one upgrade for all");
}

#[tokio::test]
async fn a_new_token_goes_to_the_open_connection_and_to_later_requests() {
    let (mut fake, client) = fake().await;
    let mut call = client.call("a", &(), CallOptions::default()).unwrap();
    let mut socket = fake.welcomed().await;
    let request = socket.frame().await;
    socket
        .send(json!({"type":"auth_expiring","expires_at":"2026-11-21T07:00:00.000Z"}))
        .await;
    assert!(matches!(within(call.next()).await, Some(Update::TokenExpiring { .. })));
    client.set_token("token-2").unwrap();
    let auth = socket.frame().await;
    assert_eq!((&auth["type"], &auth["token"]), (&json!("auth"), &json!("token-2")));
    socket.send(acknowledgment(&request, 0)).await;
    socket.close(3011, "token expired").await;
    assert_eq!(fake.socket().await.authorization, "Bearer token-2");
}

#[tokio::test]
async fn a_cancelled_job_ends_with_cancelled() {
    let (mut fake, client) = fake().await;
    let call = client.call("a", &(), CallOptions::default()).unwrap();
    call.cancel();
    let mut socket = fake.welcomed().await;
    let request = socket.frame().await;
    socket.send(acknowledgment(&request, 0)).await;
    let cancel = socket.frame().await;
    assert_eq!(
        (&cancel["type"], &cancel["job_id"]),
        (&json!("cancel"), &json!("job_1"))
    );
    socket.send(json!({"type":"ok","request_id":cancel["id"]})).await;
    let error = json!({"code":"CANCELLED","message":"The job was cancelled.","retryable":false});
    socket
        .send(json!({"type":"error","request_id":request["id"],"job_id":"job_1","seq":1,"error":error}))
        .await;
    match within(call.outcome()).await {
        Outcome::Failed { error, .. } => assert_eq!(error.code.as_str(), "CANCELLED"),
        other => panic!("{other:?}"),
    }
}
