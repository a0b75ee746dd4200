//! `mode: auto`: at its deadline a request turns into a job, under the same id, without running twice, and goes on
//! whoever stays or leaves.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::socket::job_of;
use tidegate_tests::stage::{Between, Follower, Stage};
use tidegate_tests::tenant::{DEADLINE_MS, Tenant};
use tidegate_tests::upstream::Upstream;
use tidegate_tests::{eventually, unique};

use crate::three_ways;

three_ways! {
    a_spilled_request_completes_under_its_own_id(super::spills_and_completes);
    a_spilled_http_request_runs_on_after_its_202(super::http_spills_and_completes);
}

/// When the upstream answers, around the deadline. Milliseconds.
const AROUND_THE_DEADLINE: [u64; 8] = [50, 350, 470, 490, 500, 510, 530, 2000];

fn hit() -> Value {
    json!({ "action": "hit.auto", "payload": {} })
}

fn spills_and_completes(between: Between) {
    let upstream = Upstream::start(Duration::from_millis(2500));
    let mut stage = Stage::new(between, Some(&upstream));
    let mut socket = stage.tenant.socket("alice");
    let (request, job) = socket.enqueue(hit());
    stage.interrupt();
    let mut follower = stage.resume(Follower::new(socket, "alice", request, job));
    let end = follower.end();
    assert_eq!(end["type"], "complete", "{end}");
    assert_ran(&upstream, between);
    stage.finish(Some(&follower.job));
}

fn http_spills_and_completes(between: Between) {
    let upstream = Upstream::start(Duration::from_millis(2500));
    let mut stage = Stage::new(between, Some(&upstream));
    let job = job_of(&stage.tenant.client("alice").post("/v1/requests", &hit()).json(202));
    stage.interrupt();
    let done = stage
        .tenant
        .client("alice")
        .get(&format!("/v1/jobs/{job}?wait=30"))
        .json(200);
    assert_eq!(done["status"], "succeeded", "{done}");
    assert_ran(&upstream, between);
    stage.finish(None);
}

fn assert_ran(upstream: &Upstream, between: Between) {
    match between {
        Between::Nothing | Between::Eviction => assert_eq!(upstream.hits(), 1),
        // What a kill interrupts is run again: handlers run at least once.
        Between::Kill => assert!((1..=2).contains(&upstream.hits()), "{}", upstream.hits()),
    }
}

/// Runs `play` once for each time around the deadline, all at once, each with an upstream and a tenant of its own.
fn around_the_deadline(play: impl Fn(&Tenant, u64) + Sync) {
    thread::scope(|scope| {
        for ms in AROUND_THE_DEADLINE {
            let play = &play;
            scope.spawn(move || {
                let upstream = Upstream::start(Duration::from_millis(ms));
                let tenant = Tenant::shared();
                tenant.compose(Some(&upstream));
                play(&tenant, ms);
                assert_eq!(
                    upstream.hits(),
                    1,
                    "an outcome after {ms} ms, deadline {DEADLINE_MS} ms"
                );
            });
        }
    });
}

/// Far from the deadline there is one right form of answer; near it, both are. `asked` says when it was asked: a busy
/// machine may come to the deadline with an early outcome as well, and never before it.
fn assert_form(spilled: bool, ms: u64, asked: Instant) {
    let late = asked.elapsed() >= Duration::from_millis(DEADLINE_MS);
    match ms {
        0..=100 => assert!(!spilled || late, "an outcome after {ms} ms is answered on the spot"),
        1000.. => assert!(spilled, "an outcome after {ms} ms comes as a job"),
        _ => {}
    }
}

#[test]
fn an_outcome_near_the_deadline_runs_once_on_a_socket() {
    around_the_deadline(|tenant, ms| {
        let mut socket = tenant.socket("alice");
        let asked = Instant::now();
        let request = socket.ask(hit());
        let first = socket.answer(&request);
        assert_form(first["type"] == "acknowledgment", ms, asked);
        if first["type"] == "acknowledgment" {
            let end = socket.end(&request);
            assert_eq!(end["type"], "complete", "{end}");
            assert_eq!(tenant.observer.ends(&job_of(&first)), 1);
        } else {
            assert_eq!(first["type"], "response", "{first}");
        }
    });
}

#[test]
fn an_outcome_near_the_deadline_runs_once_over_http() {
    around_the_deadline(|tenant, ms| {
        let client = tenant.client("alice");
        let asked = Instant::now();
        let answer = client.post("/v1/requests", &hit());
        assert_form(answer.status == 202, ms, asked);
        if answer.status == 202 {
            let job = job_of(&answer.json(202));
            let done = client.get(&format!("/v1/jobs/{job}?wait=30")).json(200);
            assert_eq!(done["status"], "succeeded", "{done}");
        } else {
            answer.json(200);
        }
    });
}

#[test]
fn an_outcome_near_the_deadline_runs_once_with_a_key() {
    around_the_deadline(|tenant, ms| {
        let client = tenant.client("alice");
        let mut body = hit();
        body["idempotency_key"] = json!(unique());
        let asked = Instant::now();
        let answer = client.post("/v1/requests", &body);
        assert_form(answer.status == 202, ms, asked);
        let data = if answer.status == 202 {
            let job = job_of(&answer.json(202));
            client.get(&format!("/v1/jobs/{job}?wait=30")).json(200)["result"].clone()
        } else {
            answer.json(200)["data"].clone()
        };
        let again = client.post("/v1/requests", &body).json(200);
        assert_eq!(again["data"], data);
        assert_eq!(again["deduplicated"], true, "{again}");
    });
}

#[test]
fn a_request_whose_client_has_gone_still_runs_once() {
    around_the_deadline(|tenant, _| {
        let mut socket = tenant.socket("alice");
        let mut frame = hit();
        frame["idempotency_key"] = json!(unique());
        socket.ask(frame.clone());
        // An answer to something sent later shows that the frame has arrived.
        socket.echoes();
        socket.cut();
        let client = tenant.client("alice");
        let done = eventually("the stored answer", || {
            let answer = client.post("/v1/requests", &frame);
            (answer.status == 200).then(|| answer.json(200))
        });
        assert_eq!(done["deduplicated"], true, "{done}");
    });
}

#[test]
fn a_spilled_http_request_still_runs_a_minute_after_its_202() {
    const MS: u64 = 61_000;
    let tenant = Tenant::shared();
    tenant.compose(None);
    let client = tenant.client("alice");
    let body = json!({ "action": "spill", "payload": { "ms": MS, "steps": 30 } });
    let job = job_of(&client.post("/v1/requests", &body).json(202));
    let mut done = client.get(&format!("/v1/jobs/{job}?wait=60")).json(200);
    if done["status"] == "running" {
        done = client.get(&format!("/v1/jobs/{job}?wait=20")).json(200);
    }
    assert_eq!(done["status"], "succeeded", "{done}");
    assert_eq!(done["result"]["waited_ms"], MS, "{done}");
    assert_eq!(done["attempt"], 1, "{done}");
}
