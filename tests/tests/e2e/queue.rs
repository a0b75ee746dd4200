//! How jobs wait for their places: limits by key, throttles, priorities, shares, pauses; and what is said of it.

use serde_json::{Value, json};
use tidegate_tests::http::Client;
use tidegate_tests::socket::job_of;
use tidegate_tests::stage::{Between, Stage};
use tidegate_tests::tenant::{Tenant, composition};

use crate::three_ways;

three_ways! {
    jobs_of_one_key_run_one_after_another(super::one_after_another);
    starts_under_a_throttle_keep_their_distance(super::throttled);
    the_more_urgent_goes_first(super::by_priority);
    what_is_paused_waits_and_says_so(super::paused);
    the_bytes_that_wait_are_bounded(super::bytes_bounded);
    more_than_may_wait_are_refused(super::number_bounded);
    a_loud_customer_does_not_hold_up_a_quiet_one(super::by_turns);
}

/// The tests' composition with this section `queue`, and actions that fill a place for a while.
fn queued(queue: Value) -> Value {
    let mut document = composition(None);
    document["queue"] = queue;
    document["actions"]["echo"] = json!({ "run": "core.echo", "mode": "async" });
    document
}

fn stage(between: Between, queue: Value) -> Stage {
    let stage = Stage::new(between, None);
    stage.tenant.put_composition(&queued(queue));
    stage
}

fn start(client: &Client, body: &Value) -> String {
    job_of(&client.post("/v1/requests", body).json(202))
}

fn slow(customer: &str, ms: u64) -> Value {
    json!({ "action": "slow", "payload": { "ms": ms, "steps": 1 }, "metadata": { "customer": customer } })
}

fn ended(client: &Client, job: &str) -> Value {
    let job = client.get(&format!("/v1/jobs/{job}?wait=60")).json(200);
    assert!(job["ended_at"].is_string(), "{job}");
    job
}

fn bytes_bounded(between: Between) {
    let mut stage = stage(between, json!({ "waiting_bytes": 3000 }));
    let client = stage.tenant.client("alice");
    let later = json!({ "action": "echo", "payload": "x".repeat(2000), "delay_ms": 600_000 });
    let job = start(&client, &later);
    let refused = |client: &Client| {
        let answer = client.post("/v1/requests", &later);
        let problem = answer.problem(429, "QUEUE_FULL");
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.contains("`queue.waiting_bytes` allows 3000"), "{problem}");
        let ms = problem["retry_after_ms"].as_u64().unwrap_or(0);
        assert!((1000..=60_000).contains(&ms), "{problem}");
    };
    refused(&client);
    // Held back alone it waits as well.
    client.post(&format!("/v1/jobs/{job}:pause"), &json!(null)).json(200);
    stage.interrupt();
    let client = stage.tenant.client("alice");
    refused(&client);
    client.post(&format!("/v1/jobs/{job}:cancel"), &json!(null)).json(202);
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let second = start(&client, &later);
    refused(&client);
    client
        .post(&format!("/v1/jobs/{second}:cancel"), &json!(null))
        .json(202);
    stage.finish(None);
}

#[test]
fn jobs_of_several_shards_are_listed_in_either_order() {
    let tenant = Tenant::new(tidegate_tests::server::shared());
    let mut document = queued(json!({}));
    document["scale"] = json!({ "shards": 3 });
    tenant.put_composition(&document);
    let client = tenant.client("alice");
    let made: Vec<String> = (0..7)
        .map(|n| start(&client, &json!({ "action": "echo", "payload": n })))
        .collect();
    let listed = |sort: &str| {
        let (mut listed, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = client.get(&format!("/v1/jobs?sort={sort}&limit=3{cursor}")).json(200);
            let jobs = page["jobs"].as_array().expect("a list");
            let text = |job: &Value, field: &str| job[field].as_str().expect("text").to_owned();
            listed.extend(jobs.iter().map(|job| (text(job, "created_at"), text(job, "job_id"))));
            match page["cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return listed,
            }
        }
    };
    let oldest = listed("created");
    assert!(oldest.is_sorted_by_key(|(at, _)| at), "{oldest:?}");
    assert!(
        oldest.iter().map(|(_, job)| job).eq(made.iter()),
        "{oldest:?} of {made:?}"
    );
    let mut newest = listed("-created");
    newest.reverse();
    assert_eq!(newest, oldest);
    let refused = client.get("/v1/jobs?sort=changed").problem(422, "VALIDATION_ERROR");
    assert_eq!(refused["details"][0]["pointer"], "/query/sort", "{refused}");
}

/// When a job ended, in milliseconds.
pub(crate) fn ended_at(job: &Value) -> u64 {
    moment(&job["ended_at"])
}

/// A moment in milliseconds. Days are all that is needed of the date: a test lasts no month.
fn moment(timestamp: &Value) -> u64 {
    let text = timestamp.as_str().expect("a moment");
    let numbers: Vec<u64> = text
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect();
    let [_, _, day, hour, minute, second, ms] = numbers[..] else {
        panic!("no time: {text}")
    };
    (((day * 24 + hour) * 60 + minute) * 60 + second) * 1000 + ms
}

fn reasons(client: &Client, job: &str) -> Vec<Value> {
    let why = client.get(&format!("/v1/jobs/{job}/why")).json(200);
    why["waits_for"].as_array().expect("a list").clone()
}

fn one_after_another(between: Between) {
    let limits =
        json!({ "limits": { "customer": { "actions": "slow", "key": "metadata.customer", "concurrency": 1 } } });
    let mut stage = stage(between, limits);
    let client = stage.tenant.client("alice");
    let holder = start(&client, &slow("acme", 60_000));
    let acme: Vec<String> = (0..3).map(|_| start(&client, &slow("acme", 600))).collect();
    let bolt = start(&client, &slow("bolt", 600));
    let waits = reasons(&client, &acme[2]);
    assert_eq!(waits[0]["kind"], "limit", "{waits:#?}");
    assert_eq!(waits[0]["about"]["held_by"], json!([holder]), "{waits:#?}");
    assert_eq!(waits[1], json!({ "kind": "behind", "about": { "ahead": 2 } }));
    cancel(&client, &holder);
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let mut ends: Vec<u64> = acme.iter().map(|job| ended_at(&ended(&client, job))).collect();
    ends.sort_unstable();
    for two in ends.windows(2) {
        assert!(two[1] - two[0] >= 600, "two of one customer ran at once: {ends:?}");
    }
    assert_eq!(ended(&client, &bolt)["status"], "succeeded");
    stage.finish(None);
}

fn cancel(client: &Client, job: &str) {
    client.post(&format!("/v1/jobs/{job}:cancel"), &json!(null)).json(202);
}

fn throttled(between: Between) {
    let limits = json!({ "limits": { "pace": { "actions": "echo", "throttle": { "units": 2, "per": "2s" } } } });
    let mut stage = stage(between, limits);
    let client = stage.tenant.client("alice");
    let jobs: Vec<String> = (0..6)
        .map(|n| start(&client, &json!({ "action": "echo", "payload": n })))
        .collect();
    let waits = reasons(&client, &jobs[5]);
    assert_eq!(waits[0]["kind"], "throttled", "{waits:#?}");
    assert_eq!(waits[0]["about"]["limit"], "pace");
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let jobs: Vec<Value> = jobs.iter().map(|job| ended(&client, job)).collect();
    // No start is seen, but an end is after its start, and the first start after the first request: so however late
    // an end is seen, it is never too early.
    let first = moment(&jobs[0]["created_at"]);
    for (job, count) in jobs.iter().zip(0..) {
        let after = ended_at(job).saturating_sub(first);
        assert!(after >= count * 1000, "the job {count} ended after {after} ms: {job}");
    }
    stage.finish(None);
}

fn by_priority(between: Between) {
    let limits = json!({ "limits": { "one": { "actions": ["slow", "echo"], "concurrency": 1 } } });
    let mut stage = stage(between, limits);
    let client = stage.tenant.client("alice");
    // Long enough for all of them to wait behind it, however busy the machine is.
    let first = start(&client, &slow("x", 5000));
    let of = |priority: &str| json!({ "action": "slow", "payload": { "ms": 100 }, "priority": priority });
    let [low, normal, high] = ["low", "normal", "high"].map(|priority| start(&client, &of(priority)));
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let [low, normal, high, _] = [low, normal, high, first].map(|job| ended_at(&ended(&client, &job)));
    assert!(high < normal && normal < low, "{high} {normal} {low}");
    stage.finish(None);
}

fn paused(between: Between) {
    let mut stage = stage(between, json!({}));
    let operator = stage.tenant.client_with("op", "jobs:write jobs:read");
    let shown = operator.post("/v1/queue:pause", &json!({ "action": "ec*" })).json(200);
    assert_eq!(shown["pauses"][0]["by"], "op", "{shown}");
    let client = stage.tenant.client("alice");
    let held = start(&client, &json!({ "action": "echo", "payload": 7 }));
    stage.interrupt();
    let client = stage.tenant.client("alice");
    // Another action runs.
    let other = start(&client, &slow("x", 10));
    assert_eq!(ended(&client, &other)["status"], "succeeded");
    let waits = reasons(&client, &held);
    assert_eq!(waits[0]["kind"], "paused", "{waits:#?}");
    assert_eq!(waits[0]["about"]["scope"], json!({ "action": "ec*" }));
    let operator = stage.tenant.client_with("op", "jobs:write jobs:read");
    let queue = operator.get("/v1/queue").json(200);
    assert_eq!(
        (&queue["waiting"], &queue["actions"]),
        (&json!(1), &json!([{ "action": "echo", "waiting": 1 }]))
    );
    let shown = operator.post("/v1/queue:resume", &json!({ "action": "ec*" })).json(200);
    assert_eq!(shown["pauses"], json!([]), "{shown}");
    assert_eq!(ended(&client, &held)["result"], 7);
    stage.finish(None);
}

fn by_turns(between: Between) {
    let mut stage = stage(
        between,
        json!({
            "share": { "key": "user" },
            "limits": { "one": { "actions": "slow", "concurrency": 1 } }
        }),
    );
    let operator = stage.tenant.client_with("op", "jobs:write");
    operator.post("/v1/queue:pause", &json!({ "tenant": true })).json(200);
    let (loud, quiet) = (stage.tenant.client("loud"), stage.tenant.client("quiet"));
    let loud_jobs: Vec<String> = (0..12).map(|_| start(&loud, &slow("x", 150))).collect();
    let asked = start(&quiet, &slow("y", 150));
    stage.interrupt();
    let operator = stage.tenant.client_with("op", "jobs:write");
    let (loud, quiet) = (stage.tenant.client("loud"), stage.tenant.client("quiet"));
    operator.post("/v1/queue:resume", &json!({ "tenant": true })).json(200);
    let done = ended_at(&ended(&quiet, &asked));
    let before = loud_jobs
        .iter()
        .filter(|job| ended_at(&ended(&loud, job)) < done)
        .count();
    // One whose turn had come, and one in turn.
    assert!(before <= 2, "{before} of the other's jobs ended first");
    stage.finish(None);
}

#[test]
fn a_full_limit_refuses_or_replaces_as_it_says() {
    let tenant = Tenant::shared();
    tenant.put_composition(&queued(json!({ "limits": {
        "single": { "actions": "slow", "key": "metadata.customer", "concurrency": 1, "when_full": "refuse" },
        "latest": { "actions": "spill", "concurrency": 1, "when_full": "replace" }
    }})));
    let client = tenant.client("alice");
    let first = start(&client, &slow("acme", 60_000));
    let refused = client.post("/v1/requests", &slow("acme", 1));
    let problem = refused.problem(429, "QUEUE_FULL");
    assert!(
        problem["detail"].as_str().is_some_and(|text| text.contains("single")),
        "{problem}"
    );
    assert!(!refused.header("retry-after").is_empty());
    start(&client, &slow("bolt", 1));
    cancel(&client, &first);
    assert_eq!(ended(&client, &first)["status"], "cancelled");
    start(&client, &slow("acme", 1));
    let latest = |ms: u64| json!({ "action": "spill", "mode": "async", "payload": { "ms": ms } });
    let old = start(&client, &latest(20_000));
    let new = start(&client, &latest(100));
    let replaced = ended(&client, &old);
    assert_eq!(
        (&replaced["status"], &replaced["error"]["code"]),
        (&json!("cancelled"), &json!("CANCELLED"))
    );
    assert_eq!(ended(&client, &new)["status"], "succeeded");
}

fn number_bounded(between: Between) {
    let mut stage = Stage::new(between, None);
    let mut document = queued(json!({ "limits": { "one": { "actions": "echo", "concurrency": 1 } } }));
    document["actions"]["echo"]["waiting"] = json!(2);
    stage.tenant.put_composition(&document);
    let operator = stage.tenant.client_with("op", "jobs:write");
    operator.post("/v1/queue:pause", &json!({ "tenant": true })).json(200);
    let client = stage.tenant.client("alice");
    let jobs: Vec<String> = (0..2).map(|_| start(&client, &json!({ "action": "echo" }))).collect();
    stage.interrupt();
    let operator = stage.tenant.client_with("op", "jobs:write");
    let client = stage.tenant.client("alice");
    client
        .post("/v1/requests", &json!({ "action": "echo" }))
        .problem(429, "QUEUE_FULL");
    operator.post("/v1/queue:resume", &json!({ "tenant": true })).json(200);
    for job in &jobs {
        assert_eq!(ended(&client, job)["status"], "succeeded");
    }
    start(&client, &json!({ "action": "echo" }));
    stage.finish(None);
}

#[test]
fn a_pause_takes_its_scope_and_a_clear_word() {
    let tenant = Tenant::shared();
    tenant.put_composition(&queued(json!({})));
    let client = tenant.client("alice");
    client.get("/v1/queue").problem(403, "FORBIDDEN");
    client
        .post("/v1/queue:pause", &json!({ "tenant": true }))
        .problem(403, "FORBIDDEN");
    let operator = tenant.client_with("op", "jobs:write");
    let problem = operator
        .post("/v1/queue:pause", &json!({ "actoin": "a", "key": 7 }))
        .problem(422, "VALIDATION_ERROR");
    let pointers: Vec<&str> = problem["details"]
        .as_array()
        .expect("faults")
        .iter()
        .filter_map(|fault| fault["pointer"].as_str())
        .collect();
    assert_eq!(pointers, ["/actoin", "/key"], "{problem}");
    // A resume of what is not paused changes nothing.
    operator.post("/v1/queue:resume", &json!({ "key": "k" })).json(200);
}
