//! Workers that lease jobs over HTTP, report on them and end them; and what becomes of those that fall silent.

use serde_json::{Value, json};
use tidegate_tests::eventually;
use tidegate_tests::http::Client;
use tidegate_tests::socket::job_of;
use tidegate_tests::stage::{Between, Stage};
use tidegate_tests::tenant::{Tenant, composition};

use crate::three_ways;

three_ways! {
    a_worker_runs_a_job_from_its_lease_to_its_result(super::from_lease_to_result);
    a_worker_that_waits_is_given_the_job_that_comes(super::a_job_that_comes);
    the_job_of_a_worker_that_fell_silent_goes_to_another(super::silent);
    a_limit_holds_for_workers(super::limited);
}

/// The tests' composition with an action for workers, whose lease is `lease`.
fn pulled(lease: &str) -> Value {
    let mut document = composition(None);
    document["patterns"]["gpu"] = json!({ "use": "pull" });
    document["queue"] = json!({ "limits": { "one": { "actions": "single", "concurrency": 1 } } });
    let action = json!({
        "run": "gpu.handle",
        "lease": lease,
        "retry": { "attempts": 2, "backoff": "constant", "initial": "1s" },
    });
    document["actions"]["train"] = action.clone();
    document["actions"]["single"] = action;
    document
}

fn stage(between: Between, lease: &str) -> Stage {
    let stage = Stage::new(between, None);
    stage.tenant.put_composition(&pulled(lease));
    stage
}

fn start(tenant: &Tenant, action: &str, payload: &Value) -> String {
    let body = json!({ "action": action, "payload": payload, "metadata": { "team": "blue" } });
    job_of(&tenant.client("alice").post("/v1/requests", &body).json(202))
}

fn worker(tenant: &Tenant) -> Client {
    tenant.client_with("worker", "jobs:work")
}

fn lease(tenant: &Tenant, name: &str, max: u32, wait_ms: u64) -> Vec<Value> {
    let body = json!({ "max": max, "wait_ms": wait_ms, "worker": name });
    let leased = worker(tenant).post("/v1/workers/gpu:lease", &body).json(200);
    leased["jobs"].as_array().expect("a list").clone()
}

/// A job that waits, as soon as a worker is given one.
fn lease_one(tenant: &Tenant, name: &str) -> Value {
    eventually("a job for a worker", || lease(tenant, name, 1, 5000).pop())
}

/// A client with the token of an attempt.
fn attempt(tenant: &Tenant, job: &Value) -> Client {
    Client::new(&tenant.server.url(), job["attempt_token"].as_str())
}

fn path(job: &Value, what: &str) -> String {
    format!("/v1/attempts/{}{what}", job["job_id"].as_str().expect("an id"))
}

fn succeed(tenant: &Tenant, job: &Value, result: &Value) {
    let body = json!({ "outcome": "succeeded", "result": result });
    attempt(tenant, job).post(&path(job, ":finish"), &body).json(200);
}

fn shown(tenant: &Tenant, job: &str) -> Value {
    tenant.client("alice").get(&format!("/v1/jobs/{job}")).json(200)
}

fn from_lease_to_result(between: Between) {
    let mut stage = stage(between, "1m");
    let job = start(&stage.tenant, "train", &json!({ "n": 1 }));
    let why = stage
        .tenant
        .client("alice")
        .get(&format!("/v1/jobs/{job}/why"))
        .json(200);
    assert_eq!(
        why["waits_for"],
        json!([{ "kind": "worker", "about": { "pool": "gpu" } }])
    );
    stage.interrupt();
    let leased = lease_one(&stage.tenant, "w");
    assert_eq!((&leased["job_id"], &leased["attempt"]), (&json!(job), &json!(1)));
    assert_eq!(
        (&leased["action"], &leased["payload"]),
        (&json!("train"), &json!({ "n": 1 }))
    );
    assert_eq!(leased["metadata"], json!({ "team": "blue" }));
    assert_eq!(leased["effect_key"], json!(job));
    stage.interrupt();
    let body = json!({ "progress": { "percentage": 40, "message": "epoch 4" } });
    let renewed = attempt(&stage.tenant, &leased)
        .post(&path(&leased, ":report"), &body)
        .json(200);
    assert!(
        renewed["lease_until"].as_str() >= leased["lease_until"].as_str(),
        "{renewed}"
    );
    let seen = shown(&stage.tenant, &job);
    assert_eq!(
        (&seen["status"], &seen["progress"]["message"]),
        (&json!("running"), &json!("epoch 4"))
    );
    stage.interrupt();
    // The address is another where the server was killed; the token is good there too.
    let client = attempt(&stage.tenant, &leased);
    assert_eq!(client.send("POST", &path(&leased, ":report"), &[], &[]).status, 200);
    succeed(&stage.tenant, &leased, &json!({ "loss": 0.5 }));
    // The answer may have been lost: said again, it is done.
    succeed(&stage.tenant, &leased, &json!({ "loss": 0.5 }));
    let other = json!({ "outcome": "succeeded", "result": 7 });
    client
        .post(&path(&leased, ":finish"), &other)
        .problem(409, "LEASE_LOST");
    let ended = stage
        .tenant
        .client("alice")
        .get(&format!("/v1/jobs/{job}?wait=30"))
        .json(200);
    assert_eq!(
        (&ended["status"], &ended["result"]),
        (&json!("succeeded"), &json!({ "loss": 0.5 }))
    );
    stage.finish(None);
}

fn a_job_that_comes(between: Between) {
    let mut stage = stage(between, "5s");
    assert!(lease(&stage.tenant, "w", 1, 0).is_empty());
    stage.interrupt();
    let tenant = &stage.tenant;
    let job = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| lease(tenant, "w", 1, 20_000));
        eventually("the worker waits", || {
            let queue = tenant.client_with("op", "jobs:read").get("/v1/queue").json(200);
            (queue["pools"][0]["workers"][0]["worker"] == "w").then_some(())
        });
        let job = start(tenant, "train", &json!(1));
        let leased = waiting.join().expect("an answer");
        assert_eq!(leased.len(), 1);
        assert_eq!(leased[0]["job_id"], json!(job));
        succeed(tenant, &leased[0], &json!(2));
        job
    });
    assert_eq!(shown(&stage.tenant, &job)["result"], 2);
    stage.finish(None);
}

fn silent(between: Between) {
    let mut stage = stage(between, "2s");
    let job = start(&stage.tenant, "train", &json!(1));
    let first = lease_one(&stage.tenant, "first");
    stage.interrupt();
    let second = lease_one(&stage.tenant, "second");
    assert_eq!((&second["job_id"], &second["attempt"]), (&json!(job), &json!(1)));
    let late = json!({ "outcome": "succeeded", "result": "late" });
    let client = attempt(&stage.tenant, &first);
    client.post(&path(&first, ":finish"), &late).problem(409, "LEASE_LOST");
    client
        .send("POST", &path(&first, ":report"), &[], &[])
        .problem(409, "LEASE_LOST");
    let failed = json!({ "outcome": "failed", "error": { "message": "no memory" } });
    let client = attempt(&stage.tenant, &second);
    client.post(&path(&second, ":finish"), &failed).json(200);
    let third = lease_one(&stage.tenant, "third");
    assert_eq!(third["attempt"], 2);
    succeed(&stage.tenant, &third, &json!("in time"));
    assert_eq!(shown(&stage.tenant, &job)["result"], "in time");
    stage.finish(None);
}

fn limited(between: Between) {
    let mut stage = stage(between, "1m");
    for _ in 0..2 {
        start(&stage.tenant, "single", &json!(1));
    }
    let first = lease(&stage.tenant, "a", 10, 5000);
    assert_eq!(first.len(), 1);
    stage.interrupt();
    assert!(lease(&stage.tenant, "b", 10, 0).is_empty(), "the limit is full");
    succeed(&stage.tenant, &first[0], &json!(1));
    assert_eq!(lease(&stage.tenant, "b", 10, 5000).len(), 1);
    stage.finish(None);
}

#[test]
fn large_inputs_and_results_go_through_object_storage() {
    let tenant = Tenant::shared();
    tenant.put_composition(&pulled("1m"));
    let text = "x".repeat(200_000);
    let job = start(&tenant, "train", &json!(text));
    let leased = lease_one(&tenant, "w");
    assert_eq!(leased.get("payload"), None);
    let url = leased["payload_url"].as_str().expect("an address");
    assert_eq!(attempt(&tenant, &leased).get(url).json(200), json!(text));
    succeed(&tenant, &leased, &json!([text]));
    succeed(&tenant, &leased, &json!([text]));
    let other = json!({ "outcome": "succeeded", "result": [text, 1] });
    let refused = attempt(&tenant, &leased).post(&path(&leased, ":finish"), &other);
    refused.problem(409, "LEASE_LOST");
    let result = tenant.client("alice").get(&format!("/v1/jobs/{job}/result"));
    assert_eq!(result.json(200), json!([text]), "the first outcome stays");
}

#[test]
fn a_cancel_takes_the_lease_from_the_worker() {
    let tenant = Tenant::shared();
    tenant.put_composition(&pulled("1m"));
    let job = start(&tenant, "train", &json!(1));
    let leased = lease_one(&tenant, "w");
    let client = tenant.client("alice");
    assert_eq!(
        client.send("POST", &format!("/v1/jobs/{job}:cancel"), &[], &[]).status,
        202
    );
    let reported = attempt(&tenant, &leased).send("POST", &path(&leased, ":report"), &[], &[]);
    reported.problem(409, "LEASE_LOST");
}

#[test]
fn nobody_works_without_the_scope_and_no_token_is_good_for_another_job_or_tenant() {
    let tenant = Tenant::shared();
    tenant.put_composition(&pulled("1m"));
    let body = json!({ "max": 1, "worker": "w" });
    let reader = tenant.client_with("alice", "jobs:read jobs:write admin");
    reader.post("/v1/workers/gpu:lease", &body).problem(403, "FORBIDDEN");
    let anyone = Client::new(&tenant.server.url(), None);
    anyone.post("/v1/workers/gpu:lease", &body).problem(401, "UNAUTHORIZED");
    let faults = worker(&tenant).post("/v1/workers/gpu:lease", &json!({ "wait_ms": -1, "x": 1 }));
    let faults = faults.problem(422, "VALIDATION_ERROR");
    assert_eq!(faults["details"].as_array().map(Vec::len), Some(4), "{faults}");
    worker(&tenant)
        .post("/v1/workers/GPU:lease", &body)
        .problem(404, "NOT_FOUND");

    start(&tenant, "train", &json!(1));
    start(&tenant, "train", &json!(2));
    let (one, two) = (lease_one(&tenant, "w"), lease_one(&tenant, "w"));
    let report = |client: Client, job: &Value| client.send("POST", &path(job, ":report"), &[], &[]);
    report(attempt(&tenant, &one), &two).problem(401, "UNAUTHORIZED");
    report(worker(&tenant), &one).problem(401, "UNAUTHORIZED");
    report(Client::new(&tenant.server.url(), None), &one).problem(401, "UNAUTHORIZED");
    let token = one["attempt_token"].as_str().expect("a token");
    let forged = format!(
        "{}{}",
        &token[..token.len() - 2],
        if token.ends_with("AA") { "BB" } else { "AA" }
    );
    report(Client::new(&tenant.server.url(), Some(&forged)), &one).problem(401, "UNAUTHORIZED");
    // An attempt's token opens nothing else.
    attempt(&tenant, &one).get("/v1/jobs").problem(401, "UNAUTHORIZED");
    let faults = attempt(&tenant, &one).post(&path(&one, ":finish"), &json!({ "outcome": "failed", "x": 1 }));
    assert_eq!(
        faults.problem(422, "VALIDATION_ERROR")["details"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    // Another tenant's workers are given nothing of it.
    let other = Tenant::shared();
    other.put_composition(&pulled("1m"));
    start(&tenant, "train", &json!(3));
    assert!(lease(&other, "w", 10, 0).is_empty());
}
