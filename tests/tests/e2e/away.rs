//! Jobs that are cancelled once nobody follows them, because their request asked for that; and all those that are not.

use serde_json::{Value, json};
use tidegate_tests::eventually;
use tidegate_tests::http::Client;
use tidegate_tests::socket::job_of;
use tidegate_tests::stage::{Between, Stage};
use tidegate_tests::tenant::{Tenant, composition};

use crate::three_ways;

three_ways! {
    only_who_asked_for_it_and_stays_away_loses_the_job(super::left_and_kept);
}

/// An action whose jobs wait for long, and may be without followers for `grace`.
fn document(grace: &str) -> Value {
    let mut document = composition(None);
    document["actions"]["later"] = json!({ "run": "core.delay", "mode": "async", "disconnect_grace": grace });
    document["actions"]["watched"] = json!({
        "run": "core.delay", "mode": "async", "disconnect_grace": grace, "on_disconnect": "cancel", "cancel_grace": "1s",
    });
    document
}

/// A request for a job that does not start before this test is over.
fn later(on_disconnect: &str) -> Value {
    let payload = json!({ "ms": 10 });
    json!({ "action": "later", "payload": payload, "delay_ms": 600_000, "on_disconnect": on_disconnect })
}

fn status(client: &Client, job: &str) -> Value {
    client.get(&format!("/v1/jobs/{job}")).json(200)["status"].clone()
}

fn cancelled(client: &Client, job: &str) {
    eventually("the cancel of a job that was left", || {
        (status(client, job) == "cancelled").then_some(())
    });
}

fn left_and_kept(between: Between) {
    let mut stage = Stage::new(between, None);
    stage.tenant.put_composition(&document("3s"));
    let ask = |body: Value| {
        let mut socket = stage.tenant.socket("alice");
        let (request, job) = socket.enqueue(body);
        (socket, request, job)
    };
    let (kept, _, of_kept) = ask(later("cancel"));
    let (left, _, of_left) = ask(later("cancel"));
    let (unasked, _, of_unasked) = ask(later("continue"));
    let (back, _, of_back) = ask(later("cancel"));
    stage.interrupt();
    left.cut();
    unasked.cut();
    back.cut();
    let mut again = stage.tenant.socket("alice");
    let attached = again.attach(&of_back, None);
    assert_eq!(again.answer(&attached)["type"], "snapshot");
    let kept = match between {
        Between::Nothing | Between::Eviction => kept,
        Between::Kill => {
            let mut new = stage.socket(kept, "alice");
            let attached = new.attach(&of_kept, None);
            new.answer(&attached);
            new
        }
    };
    let client = stage.tenant.client("alice");
    cancelled(&client, &of_left);
    for job in [&of_kept, &of_unasked, &of_back] {
        assert_eq!(status(&client, job), "scheduled", "{job}");
    }
    // Its end is told once, to whoever comes late.
    let attached = again.attach(&of_left, None);
    let end = again.end(&attached);
    assert_eq!(end["error"]["code"], "CANCELLED", "{end}");
    drop(kept);
    stage.finish(Some(&of_left));
}

#[test]
fn an_attempt_under_way_hears_of_it_and_the_action_may_ask_for_it_for_all() {
    let tenant = Tenant::shared();
    tenant.put_composition(&document("1s"));
    let mut socket = tenant.socket("alice");
    let payload = json!({ "ms": 120_000, "steps": 1000 });
    let (_, job) = socket.enqueue(json!({ "action": "watched", "payload": payload }));
    socket.frame(|frame| frame["type"] == "progress");
    socket.cut();
    cancelled(&tenant.client("alice"), &job);
}

#[test]
fn a_caller_over_http_follows_as_long_as_it_goes_on_waiting() {
    let tenant = Tenant::shared();
    tenant.put_composition(&document("1s"));
    let client = tenant.client("alice");
    let job = job_of(&client.post("/v1/requests", &later("cancel")).json(202));
    // Longer than the grace and the time between two questions.
    for _ in 0..8 {
        let waited = client.get(&format!("/v1/jobs/{job}?wait=1")).json(200);
        assert_eq!(waited["status"], "scheduled");
    }
    cancelled(&client, &job);
}

#[test]
fn what_it_asks_for_is_checked() {
    let tenant = Tenant::shared();
    tenant.put_composition(&document("1s"));
    let refused = tenant.client("alice").post("/v1/requests", &later("explode"));
    let fault = refused.problem(422, "VALIDATION_ERROR");
    assert_eq!(fault["details"][0]["pointer"], "/on_disconnect", "{fault}");
}
