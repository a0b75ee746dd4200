//! Idempotency keys: one execution, however often and from how many sides it is asked for.

use std::sync::{Arc, Barrier};
use std::thread;

use serde_json::{Value, json};
use tidegate_tests::socket::job_of;
use tidegate_tests::stage::{Between, Follower, Stage};
use tidegate_tests::tenant::Tenant;
use tidegate_tests::unique;
use tidegate_tests::upstream::Upstream;

use crate::three_ways;

three_ways! {
    twenty_sockets_with_one_key_make_one_job(super::twenty_sockets);
    the_same_key_with_another_body_is_a_mismatch(super::mismatch);
    a_sync_answer_with_a_key_is_given_again(super::sync_answer_is_stored);
    a_job_can_be_found_by_its_key(super::attach_by_key);
}

const SOCKETS: usize = 20;

fn twenty_sockets(between: Between) {
    let upstream = Upstream::start(std::time::Duration::from_millis(1000));
    let mut stage = Stage::new(between, Some(&upstream));
    let key = unique();
    let at_once = Arc::new(Barrier::new(SOCKETS));
    let sent: Vec<_> = (0..SOCKETS)
        .map(|_| {
            let mut socket = stage.tenant.socket("alice");
            let (at_once, key) = (Arc::clone(&at_once), key.clone());
            thread::spawn(move || {
                at_once.wait();
                let request = socket.ask(json!({ "action": "hit.async", "idempotency_key": key, "payload": {} }));
                let acknowledgment = socket.answer(&request);
                assert_eq!(acknowledgment["type"], "acknowledgment", "{acknowledgment}");
                let follower = Follower::new(socket, "alice", request, job_of(&acknowledgment));
                (follower, acknowledgment["deduplicated"] == true)
            })
        })
        .collect();
    let asked: Vec<(Follower, bool)> = sent
        .into_iter()
        .map(|sent| sent.join().expect("a socket's thread"))
        .collect();
    let job = asked[0].0.job.clone();
    assert!(asked.iter().all(|(follower, _)| follower.job == job), "one job for all");
    assert_eq!(
        asked.iter().filter(|(_, deduplicated)| !deduplicated).count(),
        1,
        "one of them made it"
    );
    stage.interrupt();
    let ends: Vec<Value> = asked
        .into_iter()
        .map(|(follower, _)| stage.resume(follower).end())
        .collect();
    assert!(
        ends.iter()
            .all(|end| end["type"] == "complete" && end["seq"] == ends[0]["seq"]),
        "{ends:#?}"
    );
    match between {
        Between::Nothing | Between::Eviction => assert_eq!(upstream.hits(), 1),
        // What a kill interrupts is run again: handlers run at least once.
        Between::Kill => assert!((1..=2).contains(&upstream.hits()), "{}", upstream.hits()),
    }
    stage.finish(Some(&job));
}

fn mismatch(between: Between) {
    let mut stage = Stage::new(between, None);
    let key = unique();
    let body = |ms: u64| json!({ "action": "slow", "idempotency_key": key, "payload": { "ms": ms } });
    let client = stage.tenant.client("alice");
    let first = client.post("/v1/requests", &body(300)).json(202);
    client
        .post("/v1/requests", &body(301))
        .problem(422, "IDEMPOTENCY_MISMATCH");
    stage.interrupt();
    let client = stage.tenant.client("alice");
    client
        .post("/v1/requests", &body(301))
        .problem(422, "IDEMPOTENCY_MISMATCH");
    let mut socket = stage.tenant.socket("alice");
    let request = socket.ask(body(302));
    let error = socket.answer(&request);
    assert_eq!(error["error"]["code"], "IDEMPOTENCY_MISMATCH", "{error}");
    // The refusals consumed nothing: the first request is what the key stands for.
    let again = client.post_with("/v1/requests", &[("prefer", "wait=20")], &body(300));
    let again = again.json(again.status);
    assert_eq!(again["deduplicated"], true, "{again}");
    let job = job_of(&first);
    assert_eq!(
        client.get(&format!("/v1/jobs/{job}?wait=20")).json(200)["result"]["waited_ms"],
        300
    );
    // A key belongs to its action: another action may use the same text.
    let other = json!({ "action": "spill", "idempotency_key": key, "payload": { "ms": 1 } });
    assert_eq!(client.post("/v1/requests", &other).json(200)["data"]["waited_ms"], 1);
    stage.finish(None);
}

fn sync_answer_is_stored(between: Between) {
    let upstream = Upstream::start(std::time::Duration::ZERO);
    let mut stage = Stage::new(between, Some(&upstream));
    let key = unique();
    let mut socket = stage.tenant.socket("alice");
    let request = json!({ "action": "hit.sync", "idempotency_key": key, "payload": {} });
    let id = socket.ask(request.clone());
    let first = socket.answer(&id);
    assert_eq!(first["type"], "response", "{first}");
    stage.interrupt();
    let mut socket = stage.socket(socket, "alice");
    let id = socket.ask(request);
    let second = socket.answer(&id);
    assert_eq!(second["type"], "response", "{second}");
    assert_eq!(second["data"], first["data"]);
    // The header is the same key; quoted, as its draft standard writes it.
    let quoted = format!("\"{key}\"");
    let body = json!({ "action": "hit.sync", "payload": {} });
    let client = stage.tenant.client("alice");
    let third = client
        .post_with("/v1/requests", &[("idempotency-key", &quoted)], &body)
        .json(200);
    assert_eq!(third["data"], first["data"], "{third}");
    assert_eq!(third["deduplicated"], true, "{third}");
    assert_eq!(upstream.hits(), 1);
    stage.finish(None);
}

fn attach_by_key(between: Between) {
    let mut stage = Stage::new(between, None);
    let key = unique();
    let mut socket = stage.tenant.socket("alice");
    let frame = json!({ "action": "slow", "idempotency_key": key, "payload": { "ms": 1500, "steps": 3 } });
    let (_, job) = socket.enqueue(frame);
    socket.cut();
    stage.interrupt();
    let mut socket = stage.tenant.socket("alice");
    let attach = socket.ask(json!({ "type": "attach", "action": "slow", "idempotency_key": key }));
    let end = socket.end(&attach);
    assert_eq!(end["job_id"], job, "{end}");
    assert_eq!(end["type"], "complete", "{end}");
    stage.finish(Some(&job));
}

#[test]
fn twenty_sync_requests_with_one_key_at_once_run_once() {
    let upstream = Upstream::start(std::time::Duration::from_millis(300));
    let tenant = Tenant::shared();
    tenant.compose(Some(&upstream));
    let key = unique();
    let at_once = Barrier::new(SOCKETS);
    let answers: Vec<Value> = thread::scope(|scope| {
        let asked: Vec<_> = (0..SOCKETS)
            .map(|_| {
                scope.spawn(|| {
                    let mut socket = tenant.socket("alice");
                    at_once.wait();
                    let frame = json!({ "action": "hit.sync", "idempotency_key": key, "payload": {} });
                    let id = socket.ask(frame);
                    socket.answer(&id)
                })
            })
            .collect();
        asked
            .into_iter()
            .map(|asked| asked.join().expect("a socket's thread"))
            .collect()
    });
    assert!(
        answers
            .iter()
            .all(|answer| answer["type"] == "response" && answer["data"] == answers[0]["data"]),
        "{answers:#?}"
    );
    assert_eq!(upstream.hits(), 1);
}

#[test]
fn a_key_is_the_tenants_own() {
    let upstream = Upstream::start(std::time::Duration::ZERO);
    let key = unique();
    for _ in 0..2 {
        let tenant = Tenant::shared();
        tenant.compose(Some(&upstream));
        let body = json!({ "action": "hit.sync", "idempotency_key": key, "payload": {} });
        let answer = tenant.client("alice").post("/v1/requests", &body).json(200);
        assert_ne!(answer["deduplicated"], true, "{answer}");
    }
    assert_eq!(upstream.hits(), 2);
}
