//! A tenant that grows from one shard to four while jobs run: nothing is lost, doubled, or started that is held back.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tidegate_tests::eventually;
use tidegate_tests::http::Client;
use tidegate_tests::socket::job_of;
use tidegate_tests::stage::{Between, Stage};
use tidegate_tests::tenant::{Tenant, composition};

use crate::queue::ended_at;
use crate::three_ways;

three_ways! {
    a_tenant_grows_while_its_jobs_run(super::grows);
}

/// Jobs of `slow` that may run at once …
const AT_ONCE: usize = 4;

/// … and how long each of them takes. Milliseconds.
const SLOW_MS: u64 = 700;

fn document(shards: u16) -> Value {
    let mut document = composition(None);
    document["scale"]["shards"] = json!(shards);
    document["queue"] = json!({ "limits": { "few": { "actions": "slow", "concurrency": AT_ONCE } } });
    document["actions"]["held"] = json!({ "run": "core.echo", "mode": "async" });
    document["actions"]["keyed"] = json!({ "run": "core.echo", "mode": "async" });
    document
}

fn put(tenant: &Tenant, document: &Value) -> tidegate_tests::http::Answer {
    let headers = [("content-type", "application/json")];
    let body = document.to_string();
    let admin = tenant.client_with("admin", "admin");
    admin.send("PUT", "/v1/admin/composition", &headers, body.as_bytes())
}

fn start(client: &Client, body: &Value) -> String {
    job_of(&client.post("/v1/requests", body).json(202))
}

fn keyed(client: &Client, key: &str) {
    let body = json!({ "action": "keyed", "idempotency_key": key, "payload": key });
    let answer = client.post("/v1/requests", &body);
    assert!(matches!(answer.status, 200 | 202), "{}", answer.status);
}

fn slow(client: &Client) -> String {
    start(
        client,
        &json!({ "action": "slow", "payload": { "ms": SLOW_MS, "steps": 1 } }),
    )
}

fn ended(client: &Client, job: &str) -> Value {
    let job = client.get(&format!("/v1/jobs/{job}?wait=60")).json(200);
    assert_eq!(job["status"], "succeeded", "{job}");
    job
}

/// Shows from the ends alone that no more ran at once than may. With one more than that, all of them longer than the time
/// between the first and the last of their ends, there would be a moment at which every one of them ran. What is read
/// while they run would prove nothing: jobs that are read one after another may run one after another.
fn never_more_at_once_than_may(mut ends: Vec<u64>) {
    ends.sort_unstable();
    for window in ends.windows(AT_ONCE + 1) {
        let apart = window[AT_ONCE] - window[0];
        assert!(apart >= SLOW_MS, "{} jobs ran at once: {ends:?}", AT_ONCE + 1);
    }
}

/// Every job of an action, newest first, a few to a page.
fn listed(client: &Client, action: &str) -> Vec<String> {
    let (mut jobs, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client
            .get(&format!("/v1/jobs?action={action}&limit=7{cursor}"))
            .json(200);
        jobs.extend(page["jobs"].as_array().expect("a list").iter().map(job_of));
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return jobs,
        }
    }
}

fn grows(between: Between) {
    let mut stage = Stage::new(between, None);
    stage.tenant.put_composition(&document(1));
    let client = stage.tenant.client("alice");
    let operator = stage.tenant.client_with("op", "jobs:write jobs:read");
    operator.post("/v1/queue:pause", &json!({ "action": "held" })).json(200);
    let keys: Vec<String> = (0..12).map(|n| format!("before-{n}")).collect();
    keys.iter().for_each(|key| keyed(&client, key));
    let mut running: Vec<String> = (0..6).map(|_| slow(&client)).collect();
    let held = |client: &Client| start(client, &json!({ "action": "held", "payload": 7 }));
    let mut waiting: Vec<String> = (0..3).map(|_| held(&client)).collect();

    stage.tenant.put_composition(&document(4));
    running.extend((0..3).map(|_| slow(&client)));
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let operator = stage.tenant.client_with("op", "jobs:write jobs:read");
    let new: Vec<String> = (0..24).map(|n| format!("after-{n}")).collect();
    for key in keys.iter().chain(&new).chain(&keys).chain(&new) {
        keyed(&client, key);
    }
    running.extend((0..9).map(|_| slow(&client)));
    waiting.extend((0..12).map(|_| held(&client)));

    eventually("the end of the growth", || {
        let queue = operator.get("/v1/queue").json(200);
        (queue["shards"] == 4 && queue["growing_to"].is_null()).then_some(())
    });
    running.extend((0..9).map(|_| slow(&client)));
    waiting.extend((0..12).map(|_| held(&client)));
    let ends = running.iter().map(|job| ended_at(&ended(&client, job)));
    never_more_at_once_than_may(ends.collect());
    // Whatever shard they lie on, they wait for the pause of before.
    for job in &waiting {
        let why = client.get(&format!("/v1/jobs/{job}/why")).json(200);
        assert_eq!(why["waits_for"][0]["kind"], "paused", "{why}");
    }
    let queue = operator.get("/v1/queue").json(200);
    assert_eq!(queue["waiting"], 27, "{queue}");
    operator
        .post("/v1/queue:resume", &json!({ "action": "held" }))
        .json(200);
    for job in &waiting {
        assert_eq!(ended(&client, job)["result"], 7);
    }

    for key in keys.iter().chain(&new) {
        keyed(&client, key);
    }
    for (action, count) in [("keyed", keys.len() + new.len()), ("slow", 27), ("held", 27)] {
        let jobs = listed(&client, action);
        assert!(jobs.windows(2).all(|two| two[0] > two[1]), "newest first: {jobs:?}");
        assert_eq!(jobs.len(), count, "each once: {action}");
    }
    // All of them were asked. The server's log may be read a little later.
    for shard in 0..4 {
        eventually("the construction of each shard", || {
            (stage.tenant.server.constructed(&jobs_object(&stage, shard)) > 0).then_some(())
        });
    }
    stage.finish(None);
}

fn jobs_object(stage: &Stage, shard: u16) -> String {
    format!("t:{}:jobs:{shard}", stage.tenant.id)
}

#[test]
fn shards_never_become_fewer() {
    let tenant = Tenant::shared();
    tenant.put_composition(&document(2));
    let problem = put(&tenant, &document(1)).problem(422, "VALIDATION_ERROR");
    assert_eq!(problem["details"][0]["pointer"], "/scale/shards", "{problem}");
    tenant.put_composition(&document(2));
}

#[test]
fn several_jobs_are_changed_wherever_they_lie() {
    let tenant = Tenant::shared();
    tenant.put_composition(&document(1));
    let operator = tenant.client_with("op", "jobs:write jobs:read");
    operator.post("/v1/queue:pause", &json!({ "tenant": true })).json(200);
    let client = tenant.client("alice");
    let held = || start(&client, &json!({ "action": "held", "payload": 7 }));
    let mut jobs: BTreeSet<String> = (0..8).map(|_| held()).collect();
    tenant.put_composition(&document(4));
    eventually("the new shards", || {
        let queue = operator.get("/v1/queue").json(200);
        (queue["shards"] == 4).then_some(())
    });
    jobs.extend((0..16).map(|_| held()));
    let answer = client.post("/v1/jobs:cancel", &json!({ "ids": jobs })).json(200);
    let items = answer["jobs"].as_array().expect("a list");
    assert_eq!(items.len(), jobs.len());
    assert!(items.iter().all(|item| item["error"].is_null()), "{answer}");
    assert!(listed(&client, "held").iter().all(|job| {
        let job = client.get(&format!("/v1/jobs/{job}")).json(200);
        job["status"] == "cancelled"
    }));
}
