//! How long a job may take: for its first attempt, with all of them, and in silence; and a wait that holds no place.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::stage::{Between, Follower, Stage};
use tidegate_tests::tenant::{Tenant, composition};

use crate::three_ways;

three_ways! {
    a_job_that_takes_longer_than_it_may_fails_with_the_limit_and_not_before(super::too_long);
    a_job_that_no_worker_takes_in_time_expires(super::not_taken);
    a_run_that_puts_itself_off_goes_on_in_its_one_attempt(super::put_off);
}

/// Attempts under way at once in one shard, as the reference of limits says.
const PLACES: usize = 128;

fn stage(between: Between) -> Stage {
    let stage = Stage::new(between, None);
    stage.tenant.put_composition(&limited());
    stage
}

fn tenant() -> Tenant {
    let tenant = Tenant::shared();
    tenant.put_composition(&limited());
    tenant
}

fn limited() -> Value {
    let mut document = composition(None);
    document["patterns"]["crew"] = json!({ "use": "pull" });
    let actions = &mut document["actions"];
    actions["whole"] = json!({ "run": "core.delay", "mode": "async", "lease": "20s", "total_timeout": "1500ms" });
    actions["tried"] = json!({
        "run": "core.fail", "mode": "async", "total_timeout": "10s",
        "retry": { "attempts": 9, "backoff": "table", "waits": ["200ms", "1m"] },
    });
    actions["soon"] = json!({ "run": "core.echo", "mode": "async", "queue_timeout": "1s" });
    actions["patient"] = json!({ "run": "core.echo", "mode": "async" });
    actions["silent"] = json!({
        "run": "core.delay", "mode": "async", "heartbeat_timeout": "5s",
        "retry": { "attempts": 1 },
    });
    actions["pause"] = json!({ "run": "core.pause", "mode": "async", "retry": { "attempts": 1 } });
    actions["taken"] = json!({ "run": "crew.handle", "queue_timeout": "1500ms" });
    document
}

/// What `end` says of the limit that passed.
fn limit(end: &Value) -> (&str, &str) {
    let text = |value: &'static str| end.pointer(value).and_then(Value::as_str).unwrap_or_default();
    (text("/error/code"), text("/error/details/0/pointer"))
}

fn job(tenant: &Tenant, id: &str) -> Value {
    tenant.client("alice").get(&format!("/v1/jobs/{id}")).json(200)
}

/// The job is stored as `status`, after so many attempts.
fn assert_stored(tenant: &Tenant, id: &str, status: &str, attempts: u64) {
    let stored = job(tenant, id);
    assert_eq!(
        (&stored["status"], &stored["attempt"]),
        (&json!(status), &json!(attempts)),
        "{stored}"
    );
}

fn too_long(between: Between) {
    let mut stage = stage(between);
    let mut socket = stage.tenant.socket("alice");
    let begun = Instant::now();
    let (request, id) = socket.enqueue(json!({ "action": "whole", "payload": { "ms": 60_000, "steps": 200 } }));
    let mut follower = Follower::new(socket, "alice", request, id);
    let first = follower.next_frame();
    assert_eq!(first["type"], "progress", "it is under way: {first}");
    stage.interrupt();
    let mut follower = stage.resume(follower);
    let end = follower.end();
    assert!(begun.elapsed() >= Duration::from_millis(1500), "{end}");
    assert_eq!(limit(&end), ("TIMEOUT", "/total_timeout"), "{end}");
    assert_stored(&stage.tenant, &follower.job, "failed", 1);
    stage.finish(Some(&follower.job));
}

fn not_taken(between: Between) {
    let mut stage = stage(between);
    let mut socket = stage.tenant.socket("alice");
    let begun = Instant::now();
    let (request, id) = socket.enqueue(json!({ "action": "taken", "payload": 1 }));
    let follower = Follower::new(socket, "alice", request, id);
    stage.interrupt();
    let mut follower = stage.resume(follower);
    let end = follower.end();
    assert!(begun.elapsed() >= Duration::from_millis(1500), "{end}");
    assert_eq!(limit(&end), ("EXPIRED", "/queue_timeout"), "{end}");
    assert_stored(&stage.tenant, &follower.job, "expired", 0);
    stage.finish(Some(&follower.job));
}

#[test]
fn a_delay_is_no_part_of_the_time_that_a_job_may_take() {
    let tenant = tenant();
    let mut socket = tenant.socket("alice");
    let work = json!({ "action": "whole", "payload": { "ms": 200, "steps": 1 }, "delay_ms": 2500 });
    let (request, _) = socket.enqueue(work);
    let end = socket.end(&request);
    assert_eq!(end["result"]["waited_ms"], 200, "{end}");
}

#[test]
fn a_retry_that_could_not_begin_in_time_is_not_waited_for() {
    let tenant = tenant();
    let mut socket = tenant.socket("alice");
    let begun = Instant::now();
    let (request, _) = socket.enqueue(json!({ "action": "tried", "payload": { "retryable": true, "message": "no" } }));
    let frames = socket.until_end(&request);
    assert!(
        begun.elapsed() < Duration::from_secs(9),
        "it did not wait for its limit"
    );
    let kinds: Vec<&str> = frames.iter().filter_map(|frame| frame["type"].as_str()).collect();
    assert_eq!(kinds, ["retrying", "error"], "{frames:#?}");
    assert_eq!(
        limit(&frames[1]).0,
        "PROCESSING_FAILED",
        "the attempt's own error: {frames:#?}"
    );
}

#[test]
fn a_job_that_has_no_attempt_in_time_expires_and_its_time_counts_from_when_it_may_start() {
    let tenant = tenant();
    let mut socket = tenant.socket("alice");
    let early = socket.ask(json!({ "action": "soon", "payload": 1, "delay_ms": 2000 }));
    let end = socket.end(&early);
    assert_eq!(
        (&end["type"], &end["result"]),
        (&json!("complete"), &json!(1)),
        "a longer delay than limit: {end}"
    );

    // Every place is taken, so that nothing begins.
    let client = tenant.client("bob");
    for _ in 0..PLACES {
        let body = json!({ "action": "slow", "payload": { "ms": 30_000, "steps": 1 } });
        client.post("/v1/requests", &body).json(202);
    }
    let begun = Instant::now();
    let at_once = socket.ask(json!({ "action": "soon", "payload": 2 }));
    let later = socket.ask(json!({ "action": "soon", "payload": 3, "delay_ms": 2000 }));
    let shortened = socket.ask(json!({ "action": "patient", "payload": 4, "queue_timeout_ms": 700 }));
    for (request, least_ms) in [(shortened, 700), (at_once, 1000), (later, 3000)] {
        let frames = socket.until_end(&request);
        assert!(begun.elapsed() >= Duration::from_millis(least_ms), "early: {frames:#?}");
        let end = &frames[frames.len() - 1];
        assert_eq!(limit(end), ("EXPIRED", "/queue_timeout"), "{frames:#?}");
        let id = end["job_id"].as_str().unwrap_or_default();
        assert_stored(&tenant, id, "expired", 0);
    }
    let listed = tenant.client("alice").get("/v1/jobs?status=expired").json(200);
    assert_eq!(listed["jobs"].as_array().map(Vec::len), Some(3), "{listed}");
}

#[test]
fn an_attempt_that_says_nothing_fails_although_its_executor_lives() {
    let tenant = tenant();
    let mut socket = tenant.socket("alice");
    let begun = Instant::now();
    let (request, _) = socket.enqueue(json!({ "action": "silent", "payload": { "ms": 60_000, "steps": 1 } }));
    let end = socket.end(&request);
    assert!(begun.elapsed() >= Duration::from_secs(5), "{end}");
    assert_eq!(limit(&end), ("TIMEOUT", "/heartbeat_timeout"), "{end}");
}

fn put_off(between: Between) {
    let mut stage = stage(between);
    let mut socket = stage.tenant.socket("alice");
    let begun = Instant::now();
    let (request, id) = socket.enqueue(json!({ "action": "pause", "payload": { "ms": 3000 } }));
    let follower = Follower::new(socket, "alice", request, id);
    let asleep = tidegate_tests::eventually("a job that is put off", || {
        let stored = job(&stage.tenant, &follower.job);
        (stored["status"] == "scheduled" && stored["run_at"].is_string()).then_some(stored)
    });
    assert_eq!(asleep["attempt"], 1, "{asleep}");
    stage.interrupt();
    let mut follower = stage.resume(follower);
    let end = follower.end();
    assert!(begun.elapsed() >= Duration::from_millis(3000), "{end}");
    assert_eq!(
        (&end["result"]["waited_ms"], &end["attempt"]),
        (&json!(3000), &json!(1)),
        "{end}"
    );
    stage.finish(Some(&follower.job));
}
