//! `/v1/batches/{id}`: what became of a call with many requests, its cancel as one, and a key for all of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_tests::eventually;
use tidegate_tests::http::{Answer, Client};
use tidegate_tests::server::Server;
use tidegate_tests::socket::job_of;
use tidegate_tests::stage::{Between, Stage};
use tidegate_tests::tenant::{Tenant, composition};
use tidegate_tests::unique;

use crate::three_ways;

three_ways! {
    a_handle_tells_how_its_jobs_stand(super::shown);
    a_batch_is_cancelled_as_one(super::cancelled);
    a_batch_with_a_key_is_one_batch_however_often_it_is_sent(super::repeated);
    the_jobs_of_a_batch_are_summed_over_a_growth(super::grown);
    the_waiting_jobs_of_a_batch_are_jobs_like_others(super::packed);
}

const PATH: &str = "/v1/requests:batch";
/// A time that no test waits for. Milliseconds.
const LATER_MS: u64 = 600_000;

fn send(client: &Client, key: Option<&str>, items: &[Value]) -> Answer {
    let headers: Vec<(&str, &str)> = key.map(|key| ("idempotency-key", key)).into_iter().collect();
    client.post_with(PATH, &headers, &json!(items))
}

/// The handle, and the result of each request.
fn taken(answer: &Answer) -> (String, Vec<Value>) {
    let answer = answer.json(200);
    let id = answer["batch_id"].as_str().expect("a handle").to_owned();
    (id, answer["results"].as_array().expect("results").clone())
}

fn jobs(results: &[Value]) -> Vec<String> {
    results.iter().map(|result| job_of(&result["accepted"])).collect()
}

fn batch(client: &Client, id: &str, query: &str) -> Value {
    client.get(&format!("/v1/batches/{id}{query}")).json(200)
}

/// Accepted, waiting, running, succeeded, failed, cancelled, expired.
fn counts(batch: &Value) -> [u64; 7] {
    [
        "accepted",
        "waiting",
        "running",
        "succeeded",
        "failed",
        "cancelled",
        "expired",
    ]
    .map(|name| batch[name].as_u64().unwrap_or_else(|| panic!("{batch}")))
}

/// Every job of a batch, newest first, a few to a page.
fn listed(client: &Client, id: &str) -> Vec<String> {
    let (mut jobs, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/v1/jobs?batch={id}&limit=90{cursor}")).json(200);
        jobs.extend(page["jobs"].as_array().expect("a list").iter().map(job_of));
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return jobs,
        }
    }
}

fn shown(between: Between) {
    let mut stage = Stage::new(between, None);
    let client = stage.tenant.client("alice");
    let mut items = vec![json!({ "action": "slow", "payload": { "ms": 300, "steps": 2 } }); 12];
    items.push(json!({ "action": "boom", "payload": { "retryable": false } }));
    items.push(json!({ "action": "nothing" }));
    let (id, results) = taken(&send(&client, None, &items));
    client.post("/v1/requests", &json!({ "action": "core.echo", "mode": "async" }));
    let now = batch(&client, &id, "");
    assert_eq!((&now["accepted"], &now["user"]), (&json!(13), &json!("alice")), "{now}");
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let done = batch(&client, &id, "?wait=60");
    assert_eq!(counts(&done), [13, 0, 0, 12, 1, 0, 0], "{done}");
    assert_eq!(done["progress"], 100.0, "{done}");
    assert!(done["ended_at"].is_string() && done["cancelled_at"].is_null(), "{done}");
    let mut own = jobs(&results[..13]);
    let shown = client.get(&format!("/v1/jobs/{}", own[0])).json(200);
    assert_eq!(shown["batch_id"], id, "{shown}");
    own.sort();
    own.reverse();
    assert_eq!(listed(&client, &id), own, "these, newest first, and no others");
    let stranger = stage.tenant.client("bob");
    stranger.get(&format!("/v1/batches/{id}")).is_not_found();
    stranger
        .post(&format!("/v1/batches/{id}:cancel"), &json!({}))
        .is_not_found();
    assert!(listed(&stranger, &id).is_empty());
    let reader = stage.tenant.client_with("op", "jobs:read");
    assert_eq!(batch(&reader, &id, ""), done);
    reader
        .post(&format!("/v1/batches/{id}:cancel"), &json!({}))
        .problem(403, "FORBIDDEN");
    stage.finish(None);
}

fn cancelled(between: Between) {
    let mut stage = Stage::new(between, None);
    let client = stage.tenant.client("alice");
    let key = unique();
    let mut items = vec![json!({ "action": "slow", "payload": { "ms": 60_000, "steps": 9 } }); 4];
    items.extend(vec![json!({ "action": "core.echo", "delay_ms": LATER_MS }); 500]);
    let (id, results) = taken(&send(&client, Some(&key), &items));
    let (other, _) = taken(&send(&client, None, &items[4..6]));
    let told = client.post(&format!("/v1/batches/{id}:cancel"), &json!({})).json(202);
    assert!(told["cancelled_at"].is_string(), "{told}");
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let done = batch(&client, &id, "?wait=60");
    assert_eq!(counts(&done), [504, 0, 0, 0, 0, 504, 0], "{done}");
    assert_eq!(done["cancelled_at"], told["cancelled_at"], "{done}");
    for job in jobs(&results).iter().step_by(50) {
        let job = client.get(&format!("/v1/jobs/{job}")).json(200);
        assert_eq!(
            (&job["status"], &job["error"]["code"]),
            (&json!("cancelled"), &json!("CANCELLED"))
        );
    }
    // Another changes nothing, and what comes later does not run.
    let again = client.post(&format!("/v1/batches/{id}:cancel"), &json!({})).json(202);
    assert_eq!(again, done);
    items.push(json!({ "action": "core.echo" }));
    let (same, late) = taken(&send(&client, Some(&key), &items));
    assert_eq!(same, id);
    assert!(
        late.iter().all(|item| item["problem"]["code"] == "CANCELLED"),
        "{}",
        late[504]
    );
    assert_eq!(batch(&client, &id, ""), done);
    assert_eq!(
        counts(&batch(&client, &other, ""))[..2],
        [2, 2],
        "another batch goes on"
    );
    stage.finish(None);
}

fn repeated(between: Between) {
    let mut stage = Stage::new(between, None);
    let client = stage.tenant.client("alice");
    let key = unique();
    let item = |n: u64| json!({ "action": "slow", "payload": { "ms": 1, "n": n }, "delay_ms": LATER_MS });
    let mut items: Vec<Value> = (0..30).map(item).collect();
    items[7]["idempotency_key"] = json!(format!("{key}-own"));
    let (id, first) = taken(&send(&client, Some(&key), &items));
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let (same, second) = taken(&send(&client, Some(&format!("\"{key}\"")), &items));
    assert_eq!((&same, jobs(&second)), (&id, jobs(&first)));
    assert!(second.iter().all(|item| item["accepted"]["deduplicated"] == true));
    items[3] = item(99);
    let (same, third) = taken(&send(&client, Some(&key), &items));
    assert_eq!(
        (&same, &third[3]["problem"]["code"]),
        (&id, &json!("IDEMPOTENCY_MISMATCH"))
    );
    assert_eq!(jobs(&third[4..]), jobs(&first[4..]));
    assert_eq!(counts(&batch(&client, &id, ""))[..2], [30, 30]);
    // A key is its user's own.
    let (theirs, _) = taken(&send(&stage.tenant.client("bob"), Some(&key), &items[..2]));
    assert_ne!(theirs, id);
    stage.finish(None);
}

fn grown(between: Between) {
    let document = |shards: u16| {
        let mut document = composition(None);
        document["scale"]["shards"] = json!(shards);
        document
    };
    let mut stage = Stage::new(between, None);
    let client = stage.tenant.client("alice");
    let key = unique();
    let items = vec![json!({ "action": "core.echo", "delay_ms": LATER_MS }); 60];
    let (id, first) = taken(&send(&client, Some(&key), &items[..20]));
    stage.tenant.put_composition(&document(4));
    let operator = stage.tenant.client_with("op", "jobs:write jobs:read");
    eventually("the new shards", || {
        let queue = operator.get("/v1/queue").json(200);
        (queue["shards"] == 4 && queue["growing_to"].is_null()).then_some(())
    });
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let (same, all) = taken(&send(&client, Some(&key), &items));
    assert_eq!((same, jobs(&all[..20])), (id.clone(), jobs(&first)));
    assert_eq!(counts(&batch(&client, &id, ""))[..2], [60, 60]);
    assert_eq!(listed(&client, &id).len(), 60);
    let told = client.post(&format!("/v1/batches/{id}:cancel"), &json!({})).json(202);
    assert_eq!(counts(&told), [60, 0, 0, 0, 0, 60, 0], "{told}");
    stage.finish(None);
}

/// Some hundred jobs that wait, several in a row of storage: each is shown, listed, changed and run as any other.
fn packed(between: Between) {
    let mut stage = Stage::new(between, None);
    let client = stage.tenant.client("alice");
    let items: Vec<Value> = (0..300)
        .map(|n| json!({ "action": "core.echo", "payload": n, "delay_ms": 6000, "metadata": { "n": (n % 10).to_string() } }))
        .collect();
    let (id, results) = taken(&send(&client, None, &items));
    let own = jobs(&results);
    let shown = client.get(&format!("/v1/jobs/{}", own[150])).json(200);
    assert_eq!(
        (&shown["status"], &shown["batch_id"]),
        (&json!("scheduled"), &json!(id))
    );
    let some = client
        .get(&format!("/v1/jobs?batch={id}&status=scheduled&metadata.n=7&limit=100"))
        .json(200);
    assert_eq!(some["jobs"].as_array().expect("a list").len(), 30, "{some}");
    client
        .post(&format!("/v1/jobs/{}:cancel", own[100]), &json!({}))
        .json(202);
    client
        .post(&format!("/v1/jobs/{}:pause", own[101]), &json!({}))
        .json(200);
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let paused = client.get(&format!("/v1/jobs/{}", own[101])).json(200);
    assert_eq!(paused["status"], "paused", "{paused}");
    client
        .post(&format!("/v1/jobs/{}:resume", own[101]), &json!({}))
        .json(200);
    let done = batch(&client, &id, "?wait=60");
    assert_eq!(counts(&done), [300, 0, 0, 299, 0, 1, 0], "{done}");
    for n in [0, 63, 64, 101, 255, 256, 299] {
        let result = client.get(&format!("/v1/jobs/{}", own[n])).json(200);
        assert_eq!(
            (&result["status"], &result["result"]),
            (&json!("succeeded"), &json!(n)),
            "{result}"
        );
    }
    let mut newest = own.clone();
    newest.sort();
    newest.reverse();
    assert_eq!(listed(&client, &id), newest);
    stage.finish(None);
}

/// How often a call is cut, at most, before none of them counts as cut in its middle.
const CUTS_MAX: u32 = 12;

/// The answer is lost, and so is whatever the server was in the middle of: the same call again makes the batch whole.
#[test]
fn a_batch_that_was_cut_in_the_middle_is_made_whole_by_the_same_call() {
    let server = Arc::new(Server::start_traced());
    let tenant = Tenant::new(server);
    tenant.compose(None);
    let items: Vec<Value> = (0..1000)
        .map(|n| json!({ "action": "core.echo", "payload": n, "delay_ms": LATER_MS }))
        .collect();
    let body = Value::from(items.clone()).to_string();
    // The jobs come to their object in several turns, which take as long as the machine takes: a kill before the first has
    // ended is followed by a later one, a kill after the last by an earlier one, until one falls in between.
    let (mut early, mut late, mut after_ms) = (0, None, 60);
    for _ in 0..CUTS_MAX {
        let key = unique();
        let client = tenant.client("alice");
        let (sent, with) = (body.clone(), key.clone());
        tenant.server.aim("enqueue", Duration::from_millis(after_ms));
        let asked = std::thread::spawn(move || {
            let headers = [("content-type", "application/json"), ("idempotency-key", with.as_str())];
            client.try_send("POST", PATH, &headers, sent.as_bytes()).is_some()
        });
        let answered = asked.join().expect("a client");
        tenant.server.kill();
        tenant.server.start_again();
        let client = tenant.client("alice");
        let (id, results) = taken(&send(&client, Some(&key), &items));
        let known = |item: &&Value| item["accepted"]["deduplicated"] == true;
        let stored = results.iter().filter(known).count();
        let distinct: BTreeSet<String> = jobs(&results).into_iter().collect();
        assert_eq!(distinct.len(), 1000, "after {after_ms} ms");
        assert_eq!(
            counts(&batch(&client, &id, ""))[..2],
            [1000, 1000],
            "after {after_ms} ms"
        );
        match stored {
            0 => early = after_ms,
            1..1000 if !answered => return,
            _ => late = Some(after_ms),
        }
        after_ms = late.map_or(after_ms * 3, |late| u64::midpoint(early, late));
    }
    panic!("no call was cut in its middle");
}

/// Rows that the objects of a tenant have written.
fn rows(tenant: &Tenant) -> u64 {
    let ask = |(class, name): (&str, String)| tenant.server.ask(class, &name, "/rows-written");
    let counts = tenant
        .objects()
        .map(|object| ask(object).parse::<u64>().expect("a number"));
    counts.iter().sum()
}

/// So many rows for each of a thousand jobs, in hundredths: to take them, and for the whole of their lives.
const TAKEN_MAX: u64 = 4;
const LIVED_MAX: u64 = 250;

#[test]
fn a_batch_of_a_thousand_jobs_writes_few_rows() {
    let tenant = Tenant::new(Arc::new(Server::start()));
    tenant.compose(None);
    let client = tenant.client("alice");
    let item = |delay_ms: u64| json!({ "action": "core.echo", "payload": 1, "delay_ms": delay_ms });
    // The first job of a tenant finds no tables yet.
    taken(&send(&client, None, &[item(0)]));
    let before = rows(&tenant);
    let (later, _) = taken(&send(&client, None, &vec![item(LATER_MS); 1000]));
    let scheduled = (rows(&tenant) - before) / 10;
    assert_eq!(counts(&batch(&client, &later, ""))[..2], [1000, 1000]);
    let before = rows(&tenant);
    let (id, _) = taken(&send(&client, None, &vec![item(0); 1000]));
    assert_eq!(batch(&client, &id, "?wait=60")["succeeded"], 1000);
    let lived = (rows(&tenant) - before) / 10;
    println!("hundredths of rows for each job: {scheduled} to take it for later, {lived} to run it");
    assert!(scheduled <= TAKEN_MAX && lived <= LIVED_MAX, "{scheduled} {lived}");
}

#[test]
fn what_is_no_batch_is_not_found() {
    let tenant = Tenant::shared();
    let client = tenant.client("alice");
    for id in ["bat_0123456789abcdefgh", "job_1", "x"] {
        client.get(&format!("/v1/batches/{id}")).is_not_found();
        client
            .post(&format!("/v1/batches/{id}:cancel"), &json!({}))
            .is_not_found();
    }
    client
        .get("/v1/batches/bat_0123456789abcdefgh?wait=soon")
        .problem(422, "VALIDATION_ERROR");
    client.get("/v1/jobs?batch=job_1").problem(422, "VALIDATION_ERROR");
}
