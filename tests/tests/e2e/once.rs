//! One piece of work, once: keys that are given back, and requests that are told apart by their own values.

use serde_json::{Value, json};
use tidegate_tests::http::{Answer, Client};
use tidegate_tests::socket::job_of;
use tidegate_tests::stage::{Between, Stage};
use tidegate_tests::tenant::composition;
use tidegate_tests::unique;

use crate::three_ways;

three_ways! {
    inside_its_window_a_request_is_answered_with_the_job_and_then_with_its_outcome(super::window);
    until_it_has_ended_a_job_takes_every_request_of_its_key(super::until_ended);
    a_newer_request_takes_the_place_of_one_that_waits(super::replace_waiting);
    the_last_of_several_requests_runs_once(super::keep_last);
    a_failed_job_gives_its_key_back_where_that_is_said(super::freed);
    a_key_and_dedupe_hold_at_once(super::both);
    a_key_of_a_debounced_request_names_its_job(super::both_last);
}

fn stage(between: Between) -> Stage {
    let stage = Stage::new(between, None);
    let mut document = composition(None);
    let dedupe = |mode: &str| json!({ "key": "metadata[\"order\"]", "mode": mode });
    let actions = &mut document["actions"];
    actions["window"] = json!({ "run": "core.echo", "mode": "async", "dedupe": dedupe("window") });
    actions["window.sync"] = json!({ "run": "core.echo", "mode": "sync", "dedupe": dedupe("window") });
    actions["open"] = json!({ "run": "core.delay", "mode": "async", "lease": "2s", "dedupe": dedupe("until_ended") });
    actions["newest"] = json!({ "run": "core.echo", "mode": "async", "dedupe": dedupe("replace_waiting") });
    actions["last"] = json!({ "run": "core.echo", "mode": "async", "dedupe": dedupe("keep_last") });
    // Longer than a killed server takes to come back, on a busy machine too.
    actions["last"]["dedupe"]["wait"] = json!("12s");
    let once = json!({ "attempts": 1 });
    let freed = json!({ "ttl": "1h", "failed": "free" });
    actions["freed"] = json!({ "run": "core.fail", "mode": "async", "retry": once, "idempotency": freed });
    stage.tenant.put_composition(&document);
    stage
}

/// A request of the order `order`.
fn request(action: &str, order: &str, payload: Value) -> Value {
    json!({ "action": action, "payload": payload, "metadata": { "order": order } })
}

/// The answer to a request that was accepted, whether its outcome is there or not.
fn accepted(answer: &Answer) -> Value {
    assert!(matches!(answer.status, 200 | 202), "{}", answer.text());
    answer.json(answer.status)
}

fn ask(client: &Client, body: &Value) -> Value {
    accepted(&client.post("/v1/requests", body))
}

fn ended(client: &Client, job: &str) -> Value {
    let job = client.get(&format!("/v1/jobs/{job}?wait=20")).json(200);
    assert!(job["ended_at"].is_string(), "{job}");
    job
}

fn window(between: Between) {
    let mut stage = stage(between);
    let client = stage.tenant.client("alice");
    let first = ask(&client, &request("window", "7", json!(1)));
    assert_ne!(first["deduplicated"], true, "{first}");
    let job = job_of(&first);
    ended(&client, &job);
    let sync = ask(&client, &request("window.sync", "7", json!("a")));
    assert_eq!(sync["data"], "a", "{sync}");
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let again = ask(&client, &request("window", "7", json!(2)));
    assert_eq!(
        (job_of(&again), &again["deduplicated"]),
        (job.clone(), &json!(true)),
        "{again}"
    );
    assert_eq!(
        ended(&client, &job)["result"],
        1,
        "it ran once, as it was asked for first"
    );
    let sync = ask(&client, &request("window.sync", "7", json!("b")));
    assert_eq!(
        (&sync["data"], &sync["deduplicated"]),
        (&json!("a"), &json!(true)),
        "{sync}"
    );
    let other = ask(&client, &request("window", "8", json!(3)));
    assert_ne!(job_of(&other), job, "another order is other work");
    let bobs = ask(&stage.tenant.client("bob"), &request("window", "7", json!(4)));
    assert_ne!(job_of(&bobs), job, "another user is given nothing of it");
    stage.finish(None);
}

fn until_ended(between: Between) {
    let mut stage = stage(between);
    let client = stage.tenant.client("alice");
    let slow = json!({ "ms": 2500, "steps": 2 });
    let job = job_of(&ask(&client, &request("open", "7", slow.clone())));
    let again = ask(&client, &request("open", "7", json!({ "ms": 1 })));
    assert_eq!(
        (job_of(&again), &again["deduplicated"]),
        (job.clone(), &json!(true)),
        "{again}"
    );
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let mut socket = stage.tenant.socket("alice");
    let attached = socket.attach(&job, None);
    let end = socket.end(&attached);
    assert_eq!(end["result"]["waited_ms"], 2500, "{end}");
    let next = ask(&client, &request("open", "7", json!({ "ms": 1 })));
    assert_ne!(job_of(&next), job, "{next}");
    assert_eq!(ended(&client, &job_of(&next))["result"]["waited_ms"], 1);
    stage.finish(Some(&job));
}

fn replace_waiting(between: Between) {
    let mut stage = stage(between);
    let client = stage.tenant.client("alice");
    let mut waits = request("newest", "7", json!("old"));
    waits["delay_ms"] = json!(60_000);
    let old = job_of(&ask(&client, &waits));
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let answer = ask(&client, &request("newest", "7", json!("new")));
    let new = job_of(&answer);
    assert!(new != old && answer["deduplicated"] != true, "{answer}");
    let replaced = ended(&client, &old);
    assert_eq!(
        (&replaced["status"], &replaced["error"]["code"]),
        (&json!("cancelled"), &json!("CANCELLED")),
        "{replaced}"
    );
    let message = replaced["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains(&new), "it says by what: {replaced}");
    assert_eq!(ended(&client, &new)["result"], "new");
    stage.finish(None);
}

fn keep_last(between: Between) {
    let mut stage = stage(between);
    let mut socket = stage.tenant.socket("alice");
    let frame = socket.ask(request("last", "7", json!(1)));
    let first = socket.answer(&frame);
    let job = job_of(&first);
    assert_eq!(first["status"], "scheduled", "{first}");
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let mut run_at = first["run_at"].as_str().expect("its start").to_owned();
    for n in [2, 3] {
        let again = ask(&client, &request("last", "7", json!(n)));
        assert_eq!(
            (job_of(&again), &again["deduplicated"]),
            (job.clone(), &json!(true)),
            "{again}"
        );
        let later = again["run_at"].as_str().expect("its start").to_owned();
        assert!(later > run_at, "it waits anew: {again} after {run_at}");
        run_at = later;
    }
    // Whoever asked first is told the end of what was asked for last.
    let mut socket = stage.socket(socket, "alice");
    let followed = match stage.between {
        Between::Kill => socket.attach(&job, None),
        Between::Nothing | Between::Eviction => frame,
    };
    let end = socket.end(&followed);
    assert_eq!((&end["result"], &end["attempt"]), (&json!(3), &json!(1)), "{end}");
    let listed = client.get("/v1/jobs?action=last").json(200);
    assert_eq!(
        listed["jobs"].as_array().map(Vec::len),
        Some(1),
        "one job, one run: {listed}"
    );
    // What comes afterwards waits for itself.
    let next = ask(&client, &request("last", "7", json!(4)));
    assert!(job_of(&next) != job && next["status"] == "scheduled", "{next}");
    stage.finish(Some(&job));
}

fn freed(between: Between) {
    let mut stage = stage(between);
    let client = stage.tenant.client("alice");
    let body = json!({ "action": "freed", "idempotency_key": unique(), "payload": { "message": "no" } });
    let first = job_of(&ask(&client, &body));
    assert_eq!(ended(&client, &first)["status"], "failed");
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let second = job_of(&ask(&client, &body));
    assert_ne!(second, first);
    assert_eq!(
        ended(&client, &first)["status"],
        "failed",
        "the old one can still be read"
    );
    ended(&client, &second);
    stage.finish(None);
}

/// The request of the order with a key of the client's.
fn keyed(action: &str, order: &str, key: &str, payload: Value) -> Value {
    let mut body = request(action, order, payload);
    body["idempotency_key"] = json!(key);
    body
}

fn both(between: Between) {
    let mut stage = stage(between);
    let client = stage.tenant.client("alice");
    let (one, two, three) = (unique(), unique(), unique());
    let work = json!({ "ms": 1500, "steps": 2 });
    let first = ask(&client, &keyed("open", "7", &one, work.clone()));
    let job = job_of(&first);
    let second = ask(&client, &keyed("open", "7", &two, work.clone()));
    assert_eq!(
        (job_of(&second), &second["deduplicated"]),
        (job.clone(), &json!(true)),
        "{second}"
    );
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let other = keyed("open", "7", &two, json!({ "ms": 1, "steps": 1 }));
    client.post("/v1/requests", &other).problem(422, "IDEMPOTENCY_MISMATCH");
    assert_eq!(ended(&client, &job)["status"], "succeeded");
    stage.interrupt();
    let client = stage.tenant.client("alice");
    // The dedupe key is free, and another job has it; each key of the client's stays where it was.
    let next = job_of(&ask(&client, &keyed("open", "7", &three, work.clone())));
    assert_ne!(next, job);
    for (key, expected) in [(&one, &job), (&two, &job), (&three, &next)] {
        let again = ask(&client, &keyed("open", "7", key, work.clone()));
        assert_eq!(
            (&job_of(&again), &again["deduplicated"]),
            (expected, &json!(true)),
            "{again}"
        );
    }
    ended(&client, &next);
    stage.finish(None);
}

fn both_last(between: Between) {
    let mut stage = stage(between);
    let client = stage.tenant.client("alice");
    let (one, two) = (unique(), unique());
    let first = ask(&client, &keyed("last", "7", &one, json!(1)));
    let job = job_of(&first);
    let second = ask(&client, &keyed("last", "7", &two, json!(2)));
    assert_eq!(
        (job_of(&second), &second["deduplicated"]),
        (job.clone(), &json!(true)),
        "{second}"
    );
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let again = ask(&client, &keyed("last", "7", &one, json!(1)));
    assert_eq!(job_of(&again), job, "{again}");
    // The kill may have taken longer than the job waits.
    if again["status"] == "scheduled" {
        assert_eq!(
            again["run_at"], second["run_at"],
            "it waits no longer for that: {again}"
        );
    }
    assert_eq!(ended(&client, &job)["result"], 2, "what was asked last");
    stage.finish(None);
}

#[test]
fn what_dedupe_cannot_keep_is_refused() {
    let stage = stage(Between::Nothing);
    let client = stage.tenant.client("alice");
    let mut delayed = request("last", "7", json!(1));
    delayed["delay_ms"] = json!(1000);
    let refused = client.post("/v1/requests", &delayed).problem(422, "VALIDATION_ERROR");
    assert_eq!(refused["details"][0]["pointer"], "/delay_ms", "{refused}");
    let listed = client.get("/v1/jobs").json(200);
    assert_eq!(listed["jobs"], json!([]), "a refused request leaves nothing: {listed}");
}
