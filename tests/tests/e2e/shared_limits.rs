//! Limits on jobs that run at once hold for a tenant, not for a shard: its shards share the places.

use serde_json::{Value, json};
use tidegate_tests::http::Client;
use tidegate_tests::socket::job_of;
use tidegate_tests::stage::{Between, Stage};
use tidegate_tests::tenant::composition;
use tidegate_tests::{eventually, unique};

use crate::queue::ended_at;
use crate::three_ways;

three_ways! {
    a_limit_of_one_is_one_over_four_shards(super::one_at_a_time);
    a_full_limit_refuses_on_every_shard(super::refuses);
    the_newest_wins_on_every_shard(super::replaces);
}

/// The shards of the tenant: more than any of the limits allows.
const SHARDS: u16 = 4;

/// How long a job holds its place. Milliseconds.
const HELD_MS: u64 = 60;

fn stage(between: Between, limit: &Value) -> Stage {
    let stage = Stage::new(between, None);
    let mut document = composition(None);
    document["scale"]["shards"] = json!(SHARDS);
    document["queue"] = json!({ "limits": { "single": limit } });
    stage.tenant.put_composition(&document);
    stage
}

fn jobs_objects(stage: &Stage) -> impl Iterator<Item = String> {
    let tenant = stage.tenant.id.clone();
    (0..SHARDS).map(move |shard| format!("t:{tenant}:jobs:{shard}"))
}

fn interrupt(stage: &mut Stage) {
    if stage.between == Between::Eviction {
        for name in jobs_objects(stage) {
            stage.tenant.server.evict("Jobs", &name);
        }
    }
    stage.interrupt();
}

/// What is said of a job names the one that holds the limit, on whatever shard it runs.
#[test]
fn a_job_that_waits_says_who_holds_the_limit_on_another_shard() {
    let stage = stage(Between::Nothing, &json!({ "actions": "slow", "concurrency": 1 }));
    let client = stage.tenant.client("alice");
    let holder = start(&client, 60_000);
    let waiting: Vec<String> = (0..8).map(|_| start(&client, 1)).collect();
    for job in &waiting {
        eventually("the limit it waits for", || {
            let why = client.get(&format!("/v1/jobs/{job}/why")).json(200);
            let reasons = why["waits_for"].as_array().expect("a list");
            let limit = reasons.iter().find(|reason| reason["kind"] == "limit")?;
            (limit["about"]["held_by"] == json!([holder])).then_some(())
        });
    }
    // Who may not see the holder is not told of it.
    let other = stage.tenant.client("bob");
    let own = start(&other, 1);
    let why = other.get(&format!("/v1/jobs/{own}/why")).json(200);
    assert_eq!(why["waits_for"][0]["about"]["held_by"], json!([]), "{why}");
    client
        .post(&format!("/v1/jobs/{holder}:cancel"), &json!(null))
        .json(202);
    for job in waiting.iter() {
        assert_eq!(ended(&client, job)["status"], "succeeded");
    }
}

/// A request for a job of so many milliseconds. Its key decides which shard it lies on, by chance.
fn request(ms: u64) -> Value {
    json!({ "action": "slow", "payload": { "ms": ms, "steps": 1 }, "idempotency_key": unique() })
}

fn start(client: &Client, ms: u64) -> String {
    job_of(&client.post("/v1/requests", &request(ms)).json(202))
}

fn ended(client: &Client, job: &str) -> Value {
    let job = client.get(&format!("/v1/jobs/{job}?wait=60")).json(200);
    assert!(job["ended_at"].is_string(), "{job}");
    job
}

fn one_at_a_time(between: Between) {
    let mut stage = stage(between, &json!({ "actions": "slow", "concurrency": 1 }));
    let client = stage.tenant.client("alice");
    let mut jobs: Vec<String> = (0..60).map(|_| start(&client, HELD_MS)).collect();
    interrupt(&mut stage);
    let client = stage.tenant.client("alice");
    jobs.extend((0..40).map(|_| start(&client, HELD_MS)));

    let mut ends = Vec::new();
    for job in &jobs {
        let job = ended(&client, job);
        assert_eq!(job["status"], "succeeded", "{job}");
        ends.push(ended_at(&job));
    }
    ends.sort_unstable();
    for two in ends.windows(2) {
        assert!(two[1] - two[0] >= HELD_MS, "two of them ran at once: {ends:?}");
    }
    for name in jobs_objects(&stage) {
        // Its log may be read a little later.
        eventually("the construction of each object", || {
            (stage.tenant.server.constructed(&name) > 0).then_some(())
        });
    }
    stage.finish(None);
}

fn refuses(between: Between) {
    let limit = json!({ "actions": "slow", "concurrency": 1, "when_full": "refuse" });
    let mut stage = stage(between, &limit);
    let client = stage.tenant.client("alice");
    let first = start(&client, 60_000);
    let refused = |client: &Client| {
        // So many that no shard is likely to be left out.
        for _ in 0..16 {
            let answer = client.post("/v1/requests", &request(1));
            let problem = answer.problem(429, "QUEUE_FULL");
            let detail = problem["detail"].as_str().unwrap_or_default();
            assert!(detail.contains("single"), "{problem}");
        }
    };
    refused(&client);
    // An object is not evicted while it waits for an attempt: this one holds the place.
    if between == Between::Kill {
        stage.interrupt();
    }
    let client = stage.tenant.client("alice");
    refused(&client);
    client.post(&format!("/v1/jobs/{first}:cancel"), &json!(null)).json(202);
    assert_eq!(ended(&client, &first)["status"], "cancelled");
    if between == Between::Eviction {
        interrupt(&mut stage);
    }
    // Wherever they lie: a place that is free is found, and given back.
    for _ in 0..16 {
        let next = start(&client, 1);
        assert_eq!(ended(&client, &next)["status"], "succeeded");
    }
    let listed = client.get("/v1/jobs?action=slow&limit=100").json(200);
    let listed = listed["jobs"].as_array().map(Vec::len);
    assert_eq!(listed, Some(17), "what was refused is not stored");
    stage.finish(None);
}

fn replaces(between: Between) {
    let limit = json!({ "actions": "slow", "concurrency": 1, "when_full": "replace" });
    let mut stage = stage(between, &limit);
    let client = stage.tenant.client("alice");
    let mut last = start(&client, 60_000);
    for round in 0..12 {
        if round == 6 && between == Between::Kill {
            stage.interrupt();
        }
        let client = stage.tenant.client("alice");
        let next = start(&client, 60_000);
        let replaced = ended(&client, &last);
        assert_eq!(
            (&replaced["status"], &replaced["error"]["code"]),
            (&json!("cancelled"), &json!("CANCELLED")),
            "{replaced}"
        );
        last = next;
    }
    let client = stage.tenant.client("alice");
    client.post(&format!("/v1/jobs/{last}:cancel"), &json!(null)).json(202);
    assert_eq!(ended(&client, &last)["status"], "cancelled");
    if between == Between::Eviction {
        interrupt(&mut stage);
        let after = start(&client, 1);
        assert_eq!(ended(&client, &after)["status"], "succeeded");
    }
    stage.finish(None);
}
