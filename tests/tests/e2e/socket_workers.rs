//! Workers on a socket: they lease, report and finish by frames, and may go on over HTTP with the same attempt.

use serde_json::{Value, json};
use tidegate_tests::eventually;
use tidegate_tests::http::Client;
use tidegate_tests::socket::{Socket, job_of};
use tidegate_tests::stage::{Between, Stage};
use tidegate_tests::tenant::{Tenant, composition};

use crate::three_ways;

three_ways! {
    a_worker_on_a_socket_runs_a_job_from_its_lease_to_its_result(super::from_lease_to_result);
}

fn pulled(shards: u16) -> Value {
    let mut document = composition(None);
    document["scale"] = json!({ "hubs": 1, "shards": shards });
    document["patterns"]["gpu"] = json!({ "use": "pull" });
    let retry = json!({ "attempts": 2, "backoff": "constant", "initial": "1s" });
    document["actions"]["train"] = json!({ "run": "gpu.handle", "lease": "1m", "retry": retry });
    document
}

fn start(tenant: &Tenant, payload: &Value) -> String {
    let body = json!({ "action": "train", "payload": payload });
    job_of(&tenant.client("alice").post("/v1/requests", &body).json(202))
}

fn worker(tenant: &Tenant) -> Socket {
    tenant.socket_with(&tenant.token("worker", "jobs:work"))
}

fn ask(socket: &mut Socket, max: u32, wait_ms: u64) -> String {
    let body = json!({ "max": max, "worker": "w", "wait_ms": wait_ms });
    socket.ask(json!({ "type": "lease", "pool": "gpu", "body": body }))
}

/// What a `lease` was answered with, over all of its frames.
fn leased(socket: &mut Socket, request: &str) -> Vec<Value> {
    let mut jobs = Vec::new();
    loop {
        let frame = socket.answer(request);
        assert_eq!(frame["type"], "leased", "{frame}");
        jobs.extend(frame["jobs"].as_array().expect("a list").iter().cloned());
        if frame["more"] == false {
            return jobs;
        }
    }
}

fn say(socket: &mut Socket, kind: &str, job: &Value, body: &Value) -> Value {
    let frame = json!({ "type": kind, "attempt_token": job["attempt_token"], "body": body });
    let id = socket.ask(frame);
    socket.answer(&id)
}

fn shown(tenant: &Tenant, job: &str) -> Value {
    tenant.client("alice").get(&format!("/v1/jobs/{job}")).json(200)
}

fn from_lease_to_result(between: Between) {
    let mut stage = Stage::new(between, None);
    stage.tenant.put_composition(&pulled(1));
    let job = start(&stage.tenant, &json!({ "n": 1 }));
    let mut socket = worker(&stage.tenant);
    stage.interrupt();
    socket = match between {
        Between::Nothing | Between::Eviction => socket,
        Between::Kill => worker(&stage.tenant),
    };
    let given = eventually("a job for the worker", || {
        let asked = ask(&mut socket, 1, 5000);
        leased(&mut socket, &asked).pop()
    });
    assert_eq!((&given["job_id"], &given["payload"]), (&json!(job), &json!({ "n": 1 })));
    stage.interrupt();
    socket = match between {
        Between::Nothing | Between::Eviction => socket,
        // The attempt is the worker's still, on another socket.
        Between::Kill => worker(&stage.tenant),
    };
    let progress = json!({ "progress": { "percentage": 40, "message": "epoch 4" } });
    let renewed = say(&mut socket, "report", &given, &progress);
    assert_eq!(renewed["type"], "renewed", "{renewed}");
    assert!(renewed["lease_until"].is_string(), "{renewed}");
    assert_eq!(shown(&stage.tenant, &job)["progress"]["message"], "epoch 4");
    // A sign of life alone, over HTTP: it is the same attempt.
    let client = Client::new(&stage.tenant.server.url(), given["attempt_token"].as_str());
    assert_eq!(
        client
            .send("POST", &format!("/v1/attempts/{job}:report"), &[], &[])
            .status,
        200
    );
    let result = json!({ "outcome": "succeeded", "result": { "loss": 0.5 } });
    for _ in 0..2 {
        let done = say(&mut socket, "finish", &given, &result);
        assert_eq!(done["type"], "ok", "said again, it is done: {done}");
    }
    let late = say(&mut socket, "report", &given, &json!({}));
    assert_eq!(late["error"]["code"], "LEASE_LOST", "{late}");
    let why = late["error"]["message"].as_str().expect("a message");
    assert!(why.ends_with("the job has ended, as succeeded."), "{why}");
    let ended = shown(&stage.tenant, &job);
    assert_eq!(
        (&ended["status"], &ended["result"]),
        (&json!("succeeded"), &json!({ "loss": 0.5 }))
    );
    stage.finish(None);
}

#[test]
fn a_worker_that_waits_on_a_socket_is_given_the_job_that_comes_on_any_shard() {
    let tenant = Tenant::shared();
    tenant.put_composition(&pulled(3));
    let mut socket = worker(&tenant);
    // Jobs without keys go to any shard; each is found although one alone is wanted.
    for n in 0..4 {
        let asked = ask(&mut socket, 1, 20_000);
        let job = start(&tenant, &json!(n));
        let jobs = leased(&mut socket, &asked);
        assert_eq!((jobs.len(), &jobs[0]["job_id"]), (1, &json!(job)));
        let done = say(&mut socket, "finish", &jobs[0], &json!({ "outcome": "succeeded" }));
        assert_eq!(done["type"], "ok", "{done}");
    }
    // Who leaves is answered, and ends the call that waits.
    let waits = ask(&mut socket, 3, 20_000);
    let leaves = ask(&mut socket, 0, 0);
    assert_eq!(leased(&mut socket, &leaves), Vec::<Value>::new());
    assert_eq!(leased(&mut socket, &waits), Vec::<Value>::new());
}

#[test]
fn a_lease_may_bring_more_than_a_frame_holds() {
    let tenant = Tenant::shared();
    tenant.put_composition(&pulled(1));
    let text = "x".repeat(30_000);
    let mut jobs: Vec<String> = (0..20).map(|n| start(&tenant, &json!([n, text]))).collect();
    let mut socket = worker(&tenant);
    let asked = ask(&mut socket, 20, 0);
    let given = leased(&mut socket, &asked);
    let mut ids: Vec<String> = given.iter().map(job_of).collect();
    ids.sort();
    jobs.sort();
    assert_eq!(ids, jobs);
    assert!(given.iter().all(|job| job["payload"][1] == json!(text)));
}

#[test]
fn a_socket_without_the_scope_leases_nothing_and_a_token_of_another_tenant_says_nothing() {
    let tenant = Tenant::shared();
    tenant.put_composition(&pulled(1));
    let mut stranger = tenant.socket("alice");
    let asked = ask(&mut stranger, 1, 0);
    let refused = stranger.answer(&asked);
    assert_eq!(refused["error"]["code"], "FORBIDDEN", "{refused}");
    start(&tenant, &json!(1));
    let mut socket = worker(&tenant);
    let asked = ask(&mut socket, 1, 5000);
    let given = leased(&mut socket, &asked).pop().expect("a job");
    let other = Tenant::shared();
    let mut elsewhere = worker(&other);
    for (socket, token) in [
        (&mut elsewhere, given["attempt_token"].clone()),
        (&mut socket, json!("forged")),
    ] {
        let id = socket.ask(json!({ "type": "report", "attempt_token": token }));
        let refused = socket.answer(&id);
        assert_eq!(refused["error"]["code"], "UNAUTHORIZED", "{refused}");
    }
}
