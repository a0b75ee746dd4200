//! One job: paused and resumed, rescheduled, and cancelled while its attempt brings itself to an end.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::http::Client;
use tidegate_tests::socket::job_of;
use tidegate_tests::stage::{Between, Stage};

use crate::three_ways;

three_ways! {
    a_paused_job_waits_until_it_is_resumed(super::paused);
    a_rescheduled_job_starts_at_its_new_time(super::rescheduled);
    a_cancelled_attempt_stops_within_its_grace(super::stopped);
}

fn enqueue(client: &Client, body: Value) -> String {
    job_of(&client.post("/v1/requests", &body).json(202))
}

fn ended(client: &Client, job: &str) -> Value {
    client.get(&format!("/v1/jobs/{job}?wait=30")).json(200)
}

fn paused(between: Between) {
    let mut stage = Stage::new(between, None);
    let client = stage.tenant.client("alice");
    let job = enqueue(
        &client,
        json!({ "action": "slow", "payload": { "ms": 1 }, "delay_ms": 3000 }),
    );
    let shown = client.post(&format!("/v1/jobs/{job}:pause"), &json!({})).json(200);
    assert_eq!(shown["status"], "paused", "{shown}");
    stage.interrupt();
    let client = stage.tenant.client("alice");
    std::thread::sleep(Duration::from_millis(3200));
    let shown = client.get(&format!("/v1/jobs/{job}")).json(200);
    assert_eq!(shown["status"], "paused", "{shown}");
    let listed = client.get("/v1/jobs?status=paused").json(200);
    assert_eq!(job_of(&listed["jobs"][0]), job);
    let why = client.get(&format!("/v1/jobs/{job}/why")).json(200);
    assert_eq!(why["waits_for"][0]["kind"], "paused_alone", "{why}");
    assert_eq!(why["waits_for"][0]["about"]["by"], "alice", "{why}");
    // Another user has no such job.
    let bob = stage.tenant.client("bob");
    bob.post(&format!("/v1/jobs/{job}:resume"), &json!({}))
        .problem(404, "NOT_FOUND");
    client.post(&format!("/v1/jobs/{job}:resume"), &json!({})).json(200);
    assert_eq!(ended(&client, &job)["status"], "succeeded");
    client
        .post(&format!("/v1/jobs/{job}:pause"), &json!({}))
        .problem(409, "CONFLICT");
}

fn rescheduled(between: Between) {
    let mut stage = Stage::new(between, None);
    let client = stage.tenant.client("alice");
    let request = json!({ "action": "slow", "payload": { "ms": 1 }, "delay_ms": 600_000 });
    let job = enqueue(&client, request);
    let path = format!("/v1/jobs/{job}:reschedule");
    let problem = client
        .post(&path, &json!({ "delay_ms": -1, "when": 1 }))
        .problem(422, "VALIDATION_ERROR");
    assert_eq!(problem["details"].as_array().map(Vec::len), Some(2), "{problem}");
    client.post(&path, &json!({})).problem(422, "VALIDATION_ERROR");
    let asked = Instant::now();
    let shown = client.post(&path, &json!({ "delay_ms": 1500 })).json(200);
    assert_eq!(shown["status"], "scheduled", "{shown}");
    stage.interrupt();
    let client = stage.tenant.client("alice");
    assert_eq!(ended(&client, &job)["status"], "succeeded");
    assert!(asked.elapsed() >= Duration::from_millis(1500), "never early");
    client.post(&path, &json!({ "delay_ms": 1 })).problem(409, "CONFLICT");
}

fn stopped(between: Between) {
    let composition = json!({
        "tidegate": 1,
        "patterns": { "core": { "use": "core" } },
        "actions": { "slow": { "run": "core.delay", "cancel_grace": "6s" } },
    });
    let mut stage = Stage::new(between, None);
    stage.tenant.put_composition(&composition);
    let client = stage.tenant.client("alice");
    let job = enqueue(
        &client,
        json!({ "action": "slow", "payload": { "ms": 60_000, "steps": 600 } }),
    );
    tidegate_tests::eventually("the job runs", || {
        (client.get(&format!("/v1/jobs/{job}")).json(200)["status"] == "running").then_some(())
    });
    let asked = Instant::now();
    let shown = client.post(&format!("/v1/jobs/{job}:cancel"), &json!({})).json(202);
    assert_ne!(shown["status"], "succeeded", "{shown}");
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let done = ended(&client, &job);
    assert_eq!(done["status"], "cancelled", "{done}");
    assert_eq!(done["error"]["code"], "CANCELLED", "{done}");
    if matches!(between, Between::Nothing) {
        assert!(
            asked.elapsed() < Duration::from_secs(5),
            "it listened: {:?}",
            asked.elapsed()
        );
    }
}
