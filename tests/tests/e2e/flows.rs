//! The ways of a request: answered, acknowledged, followed, waited for, cancelled, tried again.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::eventually;
use tidegate_tests::history::is_terminal;
use tidegate_tests::socket::job_of;
use tidegate_tests::sse::Events;
use tidegate_tests::stage::{Between, Follower, Stage};

use crate::three_ways;

three_ways! {
    a_sync_request_is_answered_on_the_spot(super::answered_on_the_spot);
    an_async_request_is_acknowledged_progresses_and_completes_once(super::acknowledged_then_completed);
    a_cut_socket_loses_no_event(super::cut_socket);
    a_second_client_sees_the_same_end(super::second_client);
    three_clients_see_the_same_end(super::three_clients);
    an_event_stream_resumes_after_its_last_event(super::event_stream_resumes);
    a_client_can_wait_for_the_end_over_http(super::waits_over_http);
    a_waiting_job_can_be_cancelled(super::cancelled_while_waiting);
    a_running_job_can_be_cancelled(super::cancelled_while_running);
    delayed_work_is_never_early(super::never_early);
    a_failure_is_final_only_after_its_retries(super::retried_then_failed);
    a_retry_can_succeed(super::retried_then_succeeded);
    a_large_result_is_kept_apart_and_read_whole(super::large_result);
}

/// A job of `ms` milliseconds that reports on `steps` steps.
fn slow(ms: u64, steps: u64) -> Value {
    json!({ "type": "request", "action": "slow", "payload": { "ms": ms, "steps": steps } })
}

/// A follower of a new job that has just shown its first progress.
fn under_way(stage: &Stage, ms: u64, steps: u64) -> Follower {
    let mut socket = stage.tenant.socket("alice");
    let (request, job) = socket.enqueue(slow(ms, steps));
    let mut follower = Follower::new(socket, "alice", request, job);
    let progress = follower.next_frame();
    assert_eq!(progress["type"], "progress", "{progress}");
    follower
}

fn assert_waited(end: &Value, ms: u64) {
    assert_eq!(end["type"], "complete", "{end}");
    assert_eq!(end["result"]["waited_ms"], ms, "{end}");
}

fn job(stage: &Stage, id: &str) -> Value {
    stage.tenant.client("alice").get(&format!("/v1/jobs/{id}")).json(200)
}

fn answered_on_the_spot(between: Between) {
    let mut stage = Stage::new(between, None);
    let mut socket = stage.tenant.socket("alice");
    assert_eq!(socket.welcome["tenant"], stage.tenant.id, "{}", socket.welcome);
    assert_eq!(socket.welcome["user"], "alice", "{}", socket.welcome);
    assert_eq!(socket.welcome["protocol"], "tidegate.v1", "{}", socket.welcome);
    socket.echoes();
    stage.interrupt();
    let mut socket = stage.socket(socket, "alice");
    socket.echoes();
    let body = json!({ "id": "mine:1", "action": "core.echo", "payload": [1, "two", null] });
    let answer = stage.tenant.client("alice").post("/v1/requests", &body).json(200);
    assert_eq!(answer["request_id"], "mine:1", "{answer}");
    assert_eq!(answer["data"], json!([1, "two", null]), "{answer}");
    stage.finish(None);
}

fn acknowledged_then_completed(between: Between) {
    let mut stage = Stage::new(between, None);
    let follower = under_way(&stage, 1500, 5);
    stage.interrupt();
    let mut follower = stage.resume(follower);
    assert_waited(&follower.end(), 1500);
    let stored = job(&stage, &follower.job);
    assert_eq!(stored["status"], "succeeded", "{stored}");
    assert_eq!(stored["result"]["waited_ms"], 1500, "{stored}");
    let result = stage
        .tenant
        .client("alice")
        .get(&format!("/v1/jobs/{}/result", follower.job))
        .json(200);
    assert_eq!(result["waited_ms"], 1500, "{result}");
    stage.finish(Some(&follower.job));
}

fn cut_socket(between: Between) {
    let mut stage = Stage::new(between, None);
    let Follower {
        socket, job, request, ..
    } = under_way(&stage, 2000, 8);
    let last = socket.seq(&request).expect("progress has a seq");
    socket.cut();
    stage.interrupt();
    let mut socket = stage.tenant.socket("alice");
    let attach = socket.attach(&job, Some(last));
    let events = socket.until_end(&attach);
    // Where every event is still kept there is no snapshot, so the first is one that was not seen.
    assert!(events[0]["seq"].as_u64() > Some(last), "{events:#?}");
    assert_waited(&events[events.len() - 1], 2000);
    stage.finish(Some(&job));
}

fn second_client(between: Between) {
    let mut stage = Stage::new(between, None);
    let first = under_way(&stage, 2500, 10);
    let mut socket = stage.tenant.socket("alice");
    let attach = socket.attach(&first.job, None);
    let snapshot = socket.answer(&attach);
    assert_eq!(snapshot["type"], "snapshot", "{snapshot}");
    assert_eq!(snapshot["status"], "running", "{snapshot}");
    assert_eq!(snapshot["gap"], false, "{snapshot}");
    let second = Follower::new(socket, "alice", attach, first.job.clone());
    stage.interrupt();
    let mut first = stage.resume(first);
    let mut second = stage.resume(second);
    let (one, other) = (first.end(), second.end());
    assert_waited(&one, 2500);
    assert_eq!(one["seq"], other["seq"], "{one} {other}");
    stage.finish(Some(&first.job));
}

fn three_clients(between: Between) {
    let mut stage = Stage::new(between, None);
    let first = under_way(&stage, 2500, 10);
    let mut socket = stage.tenant.socket("alice");
    let attach = socket.attach(&first.job, None);
    let second = Follower::new(socket, "alice", attach, first.job.clone());
    let observer = &stage.tenant.observer;
    let mut third = Events::open(&stage.tenant.client("alice"), observer, &first.job, None);
    let seen = third.next_event().expect("the stream begins");
    let observer = std::sync::Arc::clone(observer);
    stage.interrupt();
    if between == Between::Kill {
        third = Events::open(
            &stage.tenant.client("alice"),
            &observer,
            &first.job,
            seen["seq"].as_u64(),
        );
    }
    let mut first = stage.resume(first);
    let mut second = stage.resume(second);
    let (one, two) = (first.end(), second.end());
    let three = third.until_end().pop().expect("the stream has an end");
    assert_waited(&one, 2500);
    assert_eq!(one["seq"], two["seq"], "{one} {two}");
    assert_eq!(one["seq"], three["seq"], "{one} {three}");
    stage.finish(Some(&first.job));
}

fn event_stream_resumes(between: Between) {
    let mut stage = Stage::new(between, None);
    let client = stage.tenant.client("alice");
    let job = job_of(&client.post("/v1/requests", &slow(2000, 8)).json(202));
    let observer = std::sync::Arc::clone(&stage.tenant.observer);
    let mut events = Events::open(&client, &observer, &job, None);
    let mut last = events.next_event().expect("the stream begins");
    while last["type"] != "progress" {
        last = events.next_event().expect("the stream goes on");
    }
    drop(events);
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let last = last["seq"].as_u64();
    let rest = Events::open(&client, &observer, &job, last).until_end();
    assert!(
        rest.iter().all(|event| event["seq"].as_u64() > last),
        "after {last:?}: {rest:#?}"
    );
    assert_waited(&rest[rest.len() - 1], 2000);

    // What is stored can be read as a page, too, and a stream that is opened after the end has the end.
    let page = client
        .send(
            "GET",
            &format!("/v1/jobs/{job}/events"),
            &[("accept", "application/json")],
            &[],
        )
        .json(200);
    let stored = page["events"].as_array().expect("a list of events");
    assert_eq!(page["ended"], true, "{page}");
    assert_eq!(stored.iter().filter(|event| is_terminal(event)).count(), 1, "{page}");
    assert_waited(
        &Events::open(&client, &observer, &job, None)
            .until_end()
            .pop()
            .expect("an end"),
        2000,
    );
    stage.finish(Some(&job));
}

fn waits_over_http(between: Between) {
    let mut stage = Stage::new(between, None);
    let client = stage.tenant.client("alice");
    let answer = client.post_with("/v1/requests", &[("prefer", "respond-async")], &slow(1500, 3));
    let accepted = answer.json(202);
    let job = job_of(&accepted);
    assert!(
        accepted["status"].is_string() && accepted["request_id"].is_string(),
        "{accepted}"
    );
    assert_eq!(answer.header("location"), format!("/v1/jobs/{job}"));
    assert_eq!(answer.header("preference-applied"), "respond-async");
    stage.interrupt();
    let waited = stage
        .tenant
        .client("alice")
        .get(&format!("/v1/jobs/{job}?wait=30"))
        .json(200);
    assert_eq!(waited["status"], "succeeded", "{waited}");
    assert_eq!(waited["result"]["waited_ms"], 1500, "{waited}");

    let answer = stage
        .tenant
        .client("alice")
        .post_with("/v1/requests", &[("prefer", "wait=20")], &slow(300, 1));
    assert_eq!(answer.json(200)["data"]["waited_ms"], 300, "{}", answer.text());
    assert_eq!(answer.header("preference-applied"), "wait=20");
    stage.finish(None);
}

fn cancelled_while_waiting(between: Between) {
    let mut stage = Stage::new(between, None);
    let mut socket = stage.tenant.socket("alice");
    let request = socket.ask(json!({ "action": "slow", "payload": { "ms": 1 }, "delay_ms": 600_000 }));
    let acknowledgment = socket.answer(&request);
    assert_eq!(acknowledgment["status"], "scheduled", "{acknowledgment}");
    assert!(acknowledgment["run_at"].is_string(), "{acknowledgment}");
    let id = job_of(&acknowledgment);
    let follower = Follower::new(socket, "alice", request, id);
    stage.interrupt();
    let mut follower = stage.resume(follower);
    cancel(&stage, &mut follower);
    stage.finish(Some(&follower.job));
}

fn cancelled_while_running(between: Between) {
    let mut stage = Stage::new(between, None);
    let follower = under_way(&stage, 600_000, 200);
    stage.interrupt_during_an_endless_attempt();
    let mut follower = stage.resume(follower);
    cancel(&stage, &mut follower);
    stage.finish(Some(&follower.job));
}

fn cancel(stage: &Stage, follower: &mut Follower) {
    let cancel = follower.socket.ask(json!({ "type": "cancel", "job_id": follower.job }));
    let answer = follower.socket.answer(&cancel);
    assert_eq!(answer["type"], "ok", "{answer}");
    let end = follower.end();
    assert_eq!(end["error"]["code"], "CANCELLED", "{end}");
    assert_eq!(job(stage, &follower.job)["status"], "cancelled");
    // An ended job stays ended.
    let again = stage
        .tenant
        .client("alice")
        .send("POST", &format!("/v1/jobs/{}:cancel", follower.job), &[], &[]);
    assert!(matches!(again.status, 202 | 409), "{}", again.text());
    assert_eq!(job(stage, &follower.job)["status"], "cancelled");
}

fn never_early(between: Between) {
    let mut stage = Stage::new(between, None);
    let mut socket = stage.tenant.socket("alice");
    let request = socket.ask(json!({ "action": "slow", "payload": { "ms": 1 }, "delay_ms": 2500 }));
    let acknowledgment = socket.answer(&request);
    let run_at = acknowledgment["run_at"]
        .as_str()
        .expect("a scheduled job has a time")
        .to_owned();
    let mut follower = Follower::new(socket, "alice", request, job_of(&acknowledgment));
    stage.interrupt();
    follower = stage.resume(follower);
    for frame in follower.socket.until_end(&follower.request) {
        if let Some(at) = frame["timestamp"].as_str() {
            // RFC 3339 in UTC with milliseconds sorts as time does.
            assert!(at >= run_at.as_str(), "before {run_at}: {frame}");
        }
    }
    stage.finish(Some(&follower.job));
}

fn retried_then_failed(between: Between) {
    let mut stage = Stage::new(between, None);
    let mut socket = stage.tenant.socket("alice");
    let payload = json!({ "message": "no luck today", "retryable": true });
    let (request, job_id) = socket.enqueue(json!({ "action": "boom", "payload": payload }));
    let mut follower = Follower::new(socket, "alice", request, job_id);
    let retrying = follower.next_frame();
    assert_eq!(retrying["type"], "retrying", "{retrying}");
    assert_eq!(retrying["attempt"], 1, "{retrying}");
    assert!(retrying["next_attempt_at"].is_string(), "{retrying}");
    stage.interrupt();
    let mut follower = stage.resume(follower);
    let rest = follower.socket.until_end(&follower.request);
    assert!(
        rest.iter().all(|frame| frame["type"] != "retrying"),
        "two attempts have one retry: {rest:#?}"
    );
    let end = &rest[rest.len() - 1];
    assert_eq!(end["error"]["code"], "PROCESSING_FAILED", "{end}");
    let stored = job(&stage, &follower.job);
    assert_eq!(stored["status"], "failed", "{stored}");
    assert_eq!(stored["attempt"], 2, "{stored}");
    stage.finish(Some(&follower.job));
}

fn retried_then_succeeded(between: Between) {
    let mut stage = Stage::new(between, None);
    let client = stage.tenant.client("alice");
    let payload = json!({ "message": "once", "retryable": true, "times": 1 });
    let id = job_of(
        &client
            .post("/v1/requests", &json!({ "action": "boom", "payload": payload }))
            .json(202),
    );
    eventually("the first failure", || {
        (job(&stage, &id)["status"] == "retrying").then_some(())
    });
    stage.interrupt();
    let done = stage
        .tenant
        .client("alice")
        .get(&format!("/v1/jobs/{id}?wait=30"))
        .json(200);
    assert_eq!(done["status"], "succeeded", "{done}");
    assert_eq!(done["attempt"], 2, "{done}");
    stage.finish(None);
}

fn large_result(between: Between) {
    let mut stage = Stage::new(between, None);
    let text = "0123456789abcdef".repeat(10_000);
    let socket = stage.tenant.socket("alice");
    let mut follower = {
        let mut socket = socket;
        let frame = json!({ "action": "core.echo", "mode": "async", "payload": { "text": text } });
        let (request, id) = socket.enqueue(frame);
        Follower::new(socket, "alice", request, id)
    };
    let end = follower.end();
    assert_eq!(end["type"], "complete", "{end}");
    let url = end["result_url"]
        .as_str()
        .unwrap_or_else(|| panic!("160 kB do not stand in a frame: {end}"))
        .to_owned();
    assert_eq!(url, format!("/v1/jobs/{}/result", follower.job));
    stage.interrupt();
    let result = stage.tenant.client("alice").get(&url).json(200);
    assert_eq!(result["text"], text);
    stage.finish(Some(&follower.job));
}

/// An object that is awake costs, and holds up whatever wants to move it: the timer of a wait ends with the wait.
#[test]
fn a_wait_that_is_over_keeps_no_object_awake() {
    let stage = Stage::new(Between::Nothing, None);
    let client = stage.tenant.client("alice");
    let accepted = client.post_with("/v1/requests", &[("prefer", "respond-async")], &slow(200, 1));
    let job = job_of(&accepted.json(202));
    let waited = client.get(&format!("/v1/jobs/{job}?wait=60")).json(200);
    assert_eq!(waited["status"], "succeeded", "{waited}");
    let over = Instant::now();
    let objects = stage.tenant.objects();
    for (class, name) in objects.iter().filter(|(class, _)| *class == "Jobs") {
        assert!(stage.tenant.server.evict(class, name), "{name} is awake");
    }
    let took = over.elapsed();
    assert!(
        took < Duration::from_secs(25),
        "the object went to sleep after {took:?}"
    );
}
