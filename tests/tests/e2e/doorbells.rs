//! What brings a job to its attempt; and a queue in which not every message is a doorbell.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::http::Client;
use tidegate_tests::socket::job_of;
use tidegate_tests::stage::{Between, Stage};
use tidegate_tests::tenant::{Tenant, composition};

use crate::three_ways;

three_ways! {
    an_auto_job_starts_at_once_or_by_its_doorbell(super::auto);
    a_doorbell_that_the_queue_lost_is_seen_and_its_job_is_not_lost(super::lost);
}

/// A job that waits for its doorbell starts without it after 30 s: what is done sooner was rung.
const RUNG_WITHIN: Duration = Duration::from_secs(20);

/// How long a job of a tenant takes from its request to its end while another tenant's jobs compute in the same process.
const STARTED_WITHIN: Duration = Duration::from_secs(3);

fn dispatched(dispatch: &str, queue: Value) -> Value {
    let mut document = composition(None);
    document["actions"]["work"] = json!({ "run": "core.delay", "mode": "async", "lease": "2s", "dispatch": dispatch });
    document["queue"] = queue;
    document
}

fn work(client: &Client, ms: u64) -> Value {
    let body = json!({ "action": "work", "payload": { "ms": ms, "steps": 1 } });
    client.post("/v1/requests", &body).json(202)
}

fn succeeded(client: &Client, job: &str) {
    let job = client.get(&format!("/v1/jobs/{job}?wait=60")).json(200);
    assert_eq!(job["status"], "succeeded", "{job}");
}

fn auto(between: Between) {
    let mut stage = Stage::with_its_own_queue(between);
    let one = json!({ "limits": { "one": { "actions": "work", "concurrency": 1 } } });
    stage.tenant.put_composition(&dispatched("auto", one));
    let client = stage.tenant.client("alice");
    let begun = Instant::now();
    let first = work(&client, 1500);
    assert_eq!(first["status"], "running", "there was a place: {first}");
    let second = work(&client, 10);
    assert_eq!(second["status"], "queued", "there was none: {second}");
    let why = client.get(&format!("/v1/jobs/{}/why", job_of(&second))).json(200);
    let kinds: Vec<&str> = why["waits_for"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|w| w["kind"].as_str())
        .collect();
    // Until it rang, the doorbell; all the time, the limit.
    assert!(kinds.contains(&"limit"), "{why}");
    stage.interrupt();
    let client = stage.tenant.client("alice");
    succeeded(&client, &job_of(&first));
    succeeded(&client, &job_of(&second));
    if between != Between::Kill {
        // A doorbell may die with the server; then its time brings the job to its attempt.
        assert!(begun.elapsed() < RUNG_WITHIN, "{:?}", begun.elapsed());
    }
    stage.finish(None);
}

fn lost(between: Between) {
    let mut stage = Stage::with_its_own_queue(between);
    stage.tenant.put_composition(&dispatched("queue", json!({})));
    let client = stage.tenant.client("alice");
    let job = job_of(&work(&client, 10));
    succeeded(&client, &job);
    // Not before the job's own doorbell is done with: what is looked at is the one of the dead.
    assert_eq!(client.get("/v1/dead-letters").json(200)["dead_letters"], json!([]));
    // An object to which a message was delivered by hand cannot be evicted for a while: that comes before.
    stage.interrupt();
    let bell = format!("t:{}:jobs:0 {job}", stage.tenant.id);
    for _ in 0..2 {
        let message = json!([{ "type": "text", "body": bell }]);
        let done = stage.tenant.server.deliver("tidegate-doorbells-dead", &message);
        assert_eq!(
            (&done["outcome"], &done["retries"]),
            (&json!("ok"), &json!([])),
            "{done}"
        );
    }
    if between == Between::Kill {
        stage.interrupt();
    }
    let client = stage.tenant.client("alice");
    let page = client.get("/v1/dead-letters").json(200);
    let letter = &page["dead_letters"][0];
    assert_eq!(page["dead_letters"].as_array().map(Vec::len), Some(1), "{page}");
    assert_eq!(
        (&letter["job_id"], &letter["status"]),
        (&json!(job), &json!("succeeded"))
    );
    assert_eq!(letter["error"]["code"], "DOORBELL_LOST", "{letter}");
    assert_eq!(letter["doorbell"]["times"], 2, "{letter}");
    assert!(
        letter["doorbell"]["last_at"].is_string() && letter["failed_at"].is_null(),
        "{letter}"
    );
    let others = client.get("/v1/dead-letters?code=UPSTREAM_ERROR").json(200);
    assert_eq!(others["dead_letters"], json!([]));
    let one = json!({ "ids": [job] });
    let redriven = client.post("/v1/dead-letters:redrive", &one).json(200);
    assert_eq!(redriven["jobs"][0]["error"]["code"], "CONFLICT", "{redriven}");
    let discarded = client.post("/v1/dead-letters:discard", &one).json(200);
    assert_eq!(discarded["jobs"], json!([{ "job_id": job }]), "{discarded}");
    assert_eq!(client.get("/v1/dead-letters").json(200)["dead_letters"], json!([]));
    // The job stays as it ended.
    succeeded(&client, &job);
    stage.finish(None);
}

/// Messages of every type that no doorbell is.
fn junk() -> Vec<Value> {
    vec![
        json!({ "type": "text", "body": "" }),
        json!({ "type": "text", "body": "t:acme:jobs:0" }),
        json!({ "type": "text", "body": "t:acme:hub:0 job_0000000000a000001" }),
        json!({ "type": "text", "body": "x".repeat(10_000) }),
        json!({ "type": "text", "body": "\u{0}\n\u{1F514} job" }),
        json!({ "type": "json", "body": null }),
        json!({ "type": "json", "body": 7 }),
        json!({ "type": "json", "body": { "job": "job_0000000000a000001" } }),
        json!({ "type": "json", "body": ["t:acme:jobs:0", "job_0000000000a000001"] }),
        json!({ "type": "bytes", "body": "/////w==" }),
        json!({ "type": "bytes", "body": "" }),
        json!({ "type": "v8", "body": "a map" }),
    ]
}

#[test]
fn what_is_no_doorbell_spoils_no_batch_and_is_not_sent_again() {
    let tenant = Tenant::shared();
    tenant.put_composition(&dispatched("queue", json!({})));
    let client = tenant.client("alice");
    let begun = Instant::now();
    let jobs: Vec<String> = (0..junk().len()).map(|_| job_of(&work(&client, 10))).collect();
    for queue in ["tidegate-doorbells", "tidegate-doorbells-dead"] {
        let mut messages = Vec::new();
        for (junk, job) in junk().into_iter().zip(&jobs) {
            let good = format!("t:{}:jobs:0 {job}", tenant.id);
            messages.extend([junk, json!({ "type": "text", "body": good })]);
        }
        let count = messages.len();
        let done = tenant.server.deliver(queue, &json!(messages));
        assert_eq!(done["outcome"], "ok", "{queue}: {done}");
        assert_eq!(done["acks"].as_array().map(Vec::len), Some(count), "{queue}: {done}");
        assert_eq!(done["retries"], json!([]), "{queue}: {done}");
        assert_eq!(done["retry_batch"], false, "{queue}: {done}");
    }
    for job in &jobs {
        succeeded(&client, job);
    }
    assert!(begun.elapsed() < RUNG_WITHIN, "{:?}", begun.elapsed());
}

#[test]
fn long_jobs_of_one_tenant_hold_up_neither_doorbells_nor_another_tenant() {
    let (loud, quiet) = (Tenant::shared(), Tenant::shared());
    loud.put_composition(&dispatched("auto", json!({})));
    quiet.put_composition(&dispatched("queue", json!({})));
    let (busy, client) = (loud.client("alice"), quiet.client("bob"));
    let running: Vec<String> = (0..60).map(|_| job_of(&work(&busy, 30_000))).collect();
    for job in &running {
        assert_eq!(busy.get(&format!("/v1/jobs/{job}")).json(200)["status"], "running");
    }
    // Behind sixty attempts of half a minute: doorbells of another tenant, one after the other.
    let begun = Instant::now();
    for _ in 0..10 {
        succeeded(&client, &job_of(&work(&client, 1)));
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let cancelled = busy
        .post("/v1/jobs:cancel", &json!({ "filter": { "action": "work" } }))
        .json(200);
    assert_eq!(cancelled["jobs"].as_array().map(Vec::len), Some(60), "{cancelled}");
}

/// How many rows the tenant's queue has written for one job from its request to its end.
fn rows_of_one(tenant: &Tenant, dispatch: &str) -> u64 {
    tenant.put_composition(&dispatched(dispatch, json!({})));
    let client = tenant.client("alice");
    // Whatever is written once is written before.
    succeeded(&client, &job_of(&work(&client, 1)));
    let written = || -> u64 {
        let rows = tenant
            .server
            .ask("Jobs", &format!("t:{}:jobs:0", tenant.id), "/rows-written");
        rows.parse().expect("a number")
    };
    let of_one = |_| {
        let before = written();
        succeeded(&client, &job_of(&work(&client, 1)));
        written() - before
    };
    // An alarm that comes in between writes a row of its own: not with every one of them.
    (0..5).map(of_one).min().unwrap_or_default()
}

#[test]
fn an_auto_job_that_starts_at_once_writes_the_rows_of_a_direct_one() {
    let [direct, auto, queue] = ["direct", "auto", "queue"].map(|dispatch| rows_of_one(&Tenant::shared(), dispatch));
    assert_eq!(auto, direct);
    assert!(queue > direct, "{queue} against {direct}");
}

/// A table of so many rows, some fifty bytes each.
fn table(rows: u64) -> String {
    let mut text = String::from("number,city,amount,note\n");
    for row in 0..rows {
        text.push_str(&format!(
            "{},Bergen,{},a note on the row\n",
            10_000_000 + row,
            row % 1000
        ));
    }
    text
}

#[test]
fn a_job_that_computes_holds_up_no_other_tenant() {
    let (loud, quiet) = (Tenant::shared(), Tenant::shared());
    loud.compose(None);
    quiet.put_composition(&dispatched("direct", json!({})));
    let (busy, client) = (loud.client("alice"), quiet.client("bob"));
    let csv = [("content-type", "text/csv")];
    let stored = busy.send("PUT", "/v1/objects/large.csv", &csv, table(300_000).as_bytes());
    assert_eq!(stored.status, 201, "{}", stored.text());
    let payload = json!({ "object": "large.csv" });
    let report = |_| {
        job_of(
            &busy
                .post(
                    "/v1/requests",
                    &json!({ "action": "report.summarize", "payload": payload }),
                )
                .json(202),
        )
    };
    let reports: Vec<String> = (0..3).map(report).collect();
    let running = || {
        let states = reports.iter().map(|job| busy.get(&format!("/v1/jobs/{job}")).json(200));
        states.filter(|job| job["ended_at"].is_null()).count()
    };
    let mut beside = 0;
    while running() > 0 {
        let begun = Instant::now();
        succeeded(&client, &job_of(&work(&client, 1)));
        // A turn of a report is some ten milliseconds; the rest is the machine's.
        assert!(begun.elapsed() < STARTED_WITHIN, "{:?}", begun.elapsed());
        beside += 1;
    }
    assert!(beside > 0, "the reports were over before another tenant asked");
    for job in &reports {
        succeeded(&busy, job);
    }
}
