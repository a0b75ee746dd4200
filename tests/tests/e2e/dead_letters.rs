//! Jobs that came to nothing: retried now, redriven exactly once, listed as dead letters, discarded; and several jobs at
//! once.

use serde_json::{Value, json};
use tidegate_tests::eventually;
use tidegate_tests::http::Client;
use tidegate_tests::socket::job_of;
use tidegate_tests::stage::{Between, Stage};
use tidegate_tests::tenant::Tenant;

use crate::three_ways;

three_ways! {
    a_scheduled_job_can_be_started_now(super::started_now);
    a_failed_job_is_a_dead_letter_and_is_redriven_once(super::redriven_once);
    dead_letters_are_redriven_with_a_rate_and_discarded(super::redriven_with_a_rate);
    several_jobs_are_cancelled_by_a_filter(super::cancelled_by_a_filter);
    a_large_payload_goes_along_with_a_redrive(super::large_payload);
}

/// A job of core.fail that fails once and for good, with a note.
fn failed(client: &Client, note: &str) -> String {
    let body = json!({
        "action": "boom", "metadata": { "of": note },
        "payload": { "message": "no luck", "retryable": false },
    });
    let job = job_of(&client.post("/v1/requests", &body).json(202));
    let ended = ended(client, &job);
    assert_eq!(ended["status"], "failed", "{ended}");
    job
}

fn ended(client: &Client, job: &str) -> Value {
    client.get(&format!("/v1/jobs/{job}?wait=30")).json(200)
}

fn letters(client: &Client, query: &str) -> Vec<String> {
    let page = client.get(&format!("/v1/dead-letters{query}")).json(200);
    let letters = page["dead_letters"].as_array().expect("a list");
    letters.iter().map(job_of).collect()
}

fn scheduled(client: &Client, note: &str) -> String {
    let body = json!({
        "action": "slow", "payload": { "ms": 1 }, "delay_ms": 600_000, "metadata": { "of": note },
    });
    job_of(&client.post("/v1/requests", &body).json(202))
}

fn started_now(between: Between) {
    let mut stage = Stage::new(between, None);
    let job = scheduled(&stage.tenant.client("alice"), "x");
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let answer = client.post(&format!("/v1/jobs/{job}:retry"), &json!({}));
    assert_eq!(job_of(&answer.json(202)), job);
    assert_eq!(answer.header("location"), format!("/v1/jobs/{job}"));
    let done = ended(&client, &job);
    assert_eq!(done["status"], "succeeded", "{done}");
    // There is nothing to try again; another payload is for a job that has ended.
    client
        .send("POST", &format!("/v1/jobs/{job}:retry"), &[], &[])
        .problem(409, "CONFLICT");
    let waiting = scheduled(&client, "y");
    let payload = json!({ "payload": { "ms": 2 } });
    let problem = client
        .post(&format!("/v1/jobs/{waiting}:retry"), &payload)
        .problem(422, "VALIDATION_ERROR");
    assert_eq!(problem["details"][0]["pointer"], "/payload", "{problem}");
    stage.finish(None);
}

fn redriven_once(between: Between) {
    let mut stage = Stage::new(between, None);
    let client = stage.tenant.client("alice");
    let body = json!({ "action": "boom", "payload": { "message": "again and again", "retryable": true } });
    let old = job_of(&client.post("/v1/requests", &body).json(202));
    assert_eq!(ended(&client, &old)["status"], "failed");
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let page = client.get("/v1/dead-letters").json(200);
    let letter = &page["dead_letters"][0];
    assert_eq!(job_of(letter), old, "{page}");
    assert_eq!(letter["attempts"], 2, "{letter}");
    assert_eq!(letter["error"]["code"], "PROCESSING_FAILED", "{letter}");
    assert_eq!(letter["error"]["message"], "again and again", "{letter}");
    assert_eq!(letter["earlier_errors"][0]["attempt"], 1, "{letter}");

    let retry = json!({ "payload": { "times": 0 } });
    let path = format!("/v1/jobs/{old}:retry");
    let new = client.post(&path, &retry).json(202);
    let next = job_of(&new);
    assert_ne!(next, old);
    assert_eq!(new["redriven_from"], old, "{new}");
    stage.interrupt();
    let client = stage.tenant.client("alice");
    assert_eq!(job_of(&client.post(&path, &retry).json(202)), next, "the same new job");
    assert_eq!(ended(&client, &next)["status"], "succeeded");
    let shown = client.get(&format!("/v1/jobs/{old}")).json(200);
    assert_eq!(
        (&shown["status"], &shown["redriven_to"]),
        (&json!("failed"), &json!(next)),
        "{shown}"
    );
    assert!(letters(&client, "").is_empty(), "it is none any more");
    let all = client.get("/v1/jobs").json(200);
    assert_eq!(all["jobs"].as_array().map(Vec::len), Some(2), "{all}");
    stage.finish(None);
}

fn redriven_with_a_rate(between: Between) {
    let mut stage = Stage::new(between, None);
    let client = stage.tenant.client("alice");
    let made: Vec<String> = (0..5)
        .map(|n| failed(&client, if n < 3 { "red" } else { "blue" }))
        .collect();
    let red = || json!({ "metadata": { "of": "red" } });
    let dry = client
        .post("/v1/dead-letters:redrive", &json!({ "filter": red(), "dry_run": true }))
        .json(200);
    assert_eq!(
        (dry["dry_run"].clone(), dry["jobs"].as_array().map(Vec::len)),
        (json!(true), Some(3)),
        "{dry}"
    );
    stage.interrupt();
    let client = stage.tenant.client("alice");
    assert_eq!(letters(&client, "?metadata.of=red").len(), 3, "a dry run did nothing");
    assert_eq!(letters(&client, "?metadata.of=red&code=TIMEOUT").len(), 0);

    // One a second, in two calls: the cursor carries the rate on.
    let mut body = json!({ "filter": red(), "limit": 2, "rate_per_second": 1 });
    let first = client.post("/v1/dead-letters:redrive", &body).json(200);
    assert_eq!(first["jobs"].as_array().map(Vec::len), Some(2), "{first}");
    body["cursor"] = first["cursor"].clone();
    let second = client.post("/v1/dead-letters:redrive", &body).json(200);
    let starts: Vec<String> = [&first, &second]
        .iter()
        .flat_map(|answer| answer["jobs"].as_array().expect("jobs"))
        .filter_map(|item| item["run_at"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(starts.len(), 3, "{first} {second}");
    assert!(
        starts.is_sorted() && starts[0] != starts[1] && starts[1] != starts[2],
        "{starts:?}"
    );
    stage.interrupt();
    let client = stage.tenant.client("alice");
    for item in first["jobs"].as_array().expect("jobs") {
        let next = item["redriven_to"].as_str().expect("a new job");
        let done = ended(&client, next);
        assert_eq!(done["redriven_from"], item["job_id"], "{done}");
        assert!(done["ended_at"].as_str() >= item["run_at"].as_str(), "{done} {item}");
    }
    let ids = json!({ "ids": [made[3], made[4]] });
    client.post("/v1/dead-letters:discard", &ids).json(200);
    assert!(letters(&client, "?metadata.of=blue").is_empty());
    assert_eq!(
        ended(&client, &made[3])["status"],
        "failed",
        "a discarded job stays as it ended"
    );
    stage.finish(None);
}

fn cancelled_by_a_filter(between: Between) {
    let mut stage = Stage::new(between, None);
    let client = stage.tenant.client("alice");
    let kept = scheduled(&client, "keep");
    let made: Vec<String> = (0..3).map(|_| scheduled(&client, "drop")).collect();
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let mut body = json!({ "filter": { "metadata": { "of": "drop" } }, "limit": 2 });
    let mut cancelled = Vec::new();
    loop {
        let answer = client.post("/v1/jobs:cancel", &body).json(200);
        cancelled.extend(answer["jobs"].as_array().expect("jobs").iter().map(job_of));
        if answer["cursor"].is_null() {
            break;
        }
        body["cursor"] = answer["cursor"].clone();
    }
    cancelled.sort();
    assert_eq!(cancelled, made);
    for job in &made {
        assert_eq!(ended(&client, job)["status"], "cancelled");
    }
    assert_eq!(client.get(&format!("/v1/jobs/{kept}")).json(200)["status"], "scheduled");
    let shown = client.get("/v1/jobs?metadata.of=keep").json(200);
    assert_eq!(shown["jobs"].as_array().map(Vec::len), Some(1), "{shown}");
    stage.finish(None);
}

/// A payload of 100 kB lies in object storage, and would be no JSON for the action where it got lost.
fn large_payload(between: Between) {
    let mut stage = Stage::new(between, None);
    let client = stage.tenant.client("alice");
    let text = "0123456789".repeat(10_000);
    let body = json!({
        "action": "boom", "payload": { "message": text, "times": 0, "retryable": false },
        "delay_ms": 600_000,
    });
    let old = job_of(&client.post("/v1/requests", &body).json(202));
    client
        .send("POST", &format!("/v1/jobs/{old}:cancel"), &[], &[])
        .json(202);
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let next = job_of(&client.post(&format!("/v1/jobs/{old}:retry"), &json!({})).json(202));
    let done = ended(&client, &next);
    assert_eq!(done["status"], "succeeded", "it has its payload: {done}");
    // Another payload of that size.
    let old = failed(&client, "x");
    let path = format!("/v1/jobs/{old}:retry");
    let retry = json!({ "payload": { "message": text, "times": 0 } });
    let next = job_of(&client.post(&path, &retry).json(202));
    assert_eq!(job_of(&client.post(&path, &retry).json(202)), next);
    let done = ended(&client, &next);
    assert_eq!(done["status"], "succeeded", "{done}");
    stage.finish(None);
}

#[test]
fn dead_letters_of_others_take_a_scope_and_are_else_not_there() {
    let tenant = Tenant::shared();
    tenant.compose(None);
    let alice = tenant.client("alice");
    let job = failed(&alice, "mine");
    let (bob, reader) = (tenant.client("bob"), tenant.client_with("bob", "jobs:read"));
    let writer = tenant.client_with("bob", "jobs:write");
    assert!(letters(&bob, "").is_empty() && letters(&bob, "?user=alice").is_empty());
    assert_eq!(letters(&reader, "?user=alice"), std::slice::from_ref(&job));
    let retry = |client: &Client| client.send("POST", &format!("/v1/jobs/{job}:retry"), &[], &[]);
    retry(&bob).is_not_found();
    retry(&reader).problem(403, "FORBIDDEN");
    for client in [&bob, &reader] {
        let done = client
            .post("/v1/dead-letters:discard", &json!({ "filter": {} }))
            .json(200);
        assert_eq!(done["jobs"], json!([]), "{done}");
    }
    let ids = json!({ "ids": [job] });
    let done = bob.post("/v1/dead-letters:redrive", &ids).json(200);
    assert_eq!(done["jobs"][0]["error"]["code"], "NOT_FOUND", "{done}");
    let done = writer.post("/v1/dead-letters:redrive", &ids).json(200);
    let next = done["jobs"][0]["redriven_to"].as_str().expect("a new job");
    assert_eq!(alice.get(&format!("/v1/jobs/{next}")).json(200)["user"], "alice");
    let stranger = Tenant::shared();
    stranger
        .client_with("alice", "jobs:write")
        .send("POST", &format!("/v1/jobs/{job}:retry"), &[], &[])
        .is_not_found();
}

#[test]
fn lists_are_narrowed_by_moments() {
    let tenant = Tenant::shared();
    tenant.compose(None);
    let client = tenant.client("alice");
    let first = failed(&client, "1");
    let at = client.get(&format!("/v1/jobs/{first}")).json(200)["created_at"].clone();
    let at = at.as_str().expect("a time");
    let later = eventually("another millisecond", || {
        let job = failed(&client, "2");
        let shown = client.get(&format!("/v1/jobs/{job}")).json(200);
        (shown["created_at"].as_str() > Some(at)).then_some(shown)
    });
    let moment = later["created_at"].as_str().expect("a time");
    for path in ["/v1/jobs", "/v1/dead-letters"] {
        let ids = |query: &str| {
            let page = client.get(&format!("{path}?{query}")).json(200);
            let list = page["jobs"].as_array().or(page["dead_letters"].as_array()).cloned();
            list.expect("a list").iter().map(job_of).collect::<Vec<_>>()
        };
        assert!(ids(&format!("created_before={moment}")).contains(&first));
        let after = ids(&format!("created_after={moment}"));
        assert!(after.contains(&job_of(&later)) && !after.contains(&first), "{after:?}");
        let problem = client
            .get(&format!("{path}?created_after=yesterday&colour=red"))
            .problem(422, "VALIDATION_ERROR");
        assert_eq!(problem["details"].as_array().map(Vec::len), Some(2), "{problem}");
    }
}

#[test]
fn every_fault_of_a_bulk_request_is_told_at_once() {
    let tenant = Tenant::shared();
    let client = tenant.client("alice");
    let body = json!({ "ids": ["nonsense"], "filter": {}, "limit": 1000, "rate_per_second": 0 });
    let problem = client
        .post("/v1/dead-letters:redrive", &body)
        .problem(422, "VALIDATION_ERROR");
    assert_eq!(problem["details"].as_array().map(Vec::len), Some(4), "{problem}");
    for path in [
        "/v1/dead-letters:redrive",
        "/v1/dead-letters:discard",
        "/v1/jobs:cancel",
    ] {
        client.post(path, &json!({})).problem(422, "VALIDATION_ERROR");
        let cursor = json!({ "filter": {}, "cursor": "nonsense" });
        client.post(path, &cursor).problem(422, "VALIDATION_ERROR");
        assert_eq!(client.get(path).status, 405);
    }
}
