//! Which composition a job runs with, where others are activated while it waits.

use serde_json::{Value, json};
use tidegate_tests::eventually;
use tidegate_tests::http::Client;
use tidegate_tests::socket::job_of;
use tidegate_tests::stage::{Between, Stage};
use tidegate_tests::tenant::{Tenant, composition};

use crate::three_ways;

three_ways! {
    a_waiting_job_runs_as_it_was_accepted_whatever_is_activated(super::as_accepted);
    a_waiting_job_of_latest_runs_as_is_active_when_it_starts(super::as_is_active);
    a_job_whose_action_is_gone_is_a_dead_letter_until_a_rollback(super::rolled_back);
}

/// How long jobs wait here unless they are started by hand: longer than any test. Milliseconds.
const LONG_MS: u64 = 600_000;

/// The tests' composition with these actions besides.
fn with(actions: &Value) -> Value {
    let mut document = composition(None);
    for (name, action) in actions.as_object().expect("actions by name") {
        document["actions"][name] = action.clone();
    }
    document
}

fn runs(operation: &str, rule: &str) -> Value {
    let retry = json!({ "attempts": 2, "backoff": "constant", "initial": "10m" });
    json!({ "run": operation, "mode": "async", "lease": "2s", "retry": retry, "revision": rule })
}

/// Activates a composition, and gives its revision.
fn activate(tenant: &Tenant, actions: &Value) -> String {
    let headers = [("content-type", "application/json")];
    let body = with(actions).to_string();
    let admin = tenant.client_with("admin", "admin");
    let answer = admin.send("PUT", "/v1/admin/composition", &headers, body.as_bytes());
    answer.json(200)["revision"].as_str().expect("a revision").to_owned()
}

fn wait_for(client: &Client, job: &str, status: &str) -> Value {
    eventually(&format!("a job that is {status}"), || {
        let job = client.get(&format!("/v1/jobs/{job}")).json(200);
        (job["status"] == status).then_some(job)
    })
}

/// A job of `work` that waits: what `core.echo` and `core.delay` make of it differs.
fn waiting(client: &Client) -> String {
    let body = json!({ "action": "work", "payload": { "ms": 1 }, "delay_ms": LONG_MS });
    job_of(&client.post("/v1/requests", &body).json(202))
}

const ECHOED: &str = r#"{"ms":1}"#;
const WAITED: &str = r#"{"waited_ms":1}"#;

/// A job of `mended` whose first attempt has failed.
fn retrying(client: &Client) -> String {
    let body = json!({ "action": "mended", "payload": { "message": "not yet", "retryable": true } });
    let job = job_of(&client.post("/v1/requests", &body).json(202));
    wait_for(client, &job, "retrying");
    job
}

/// Lets a job begin that waits, or makes the new one of a job that has ended. Gives the job that is tried.
fn begin(client: &Client, job: &str) -> String {
    job_of(&client.post(&format!("/v1/jobs/{job}:retry"), &json!({})).json(202))
}

fn ended(client: &Client, job: &str) -> Value {
    let job = client.get(&format!("/v1/jobs/{job}?wait=30")).json(200);
    assert!(job["ended_at"].is_string(), "{job}");
    job
}

#[track_caller]
fn check_result(client: &Client, job: &str, result: &str) {
    let job = ended(client, &begin(client, job));
    assert_eq!(job["status"], "succeeded", "{job}");
    assert_eq!(job["result"].to_string(), result, "{job}");
}

fn as_accepted(between: Between) {
    let mut stage = Stage::new(between, None);
    activate(
        &stage.tenant,
        &json!({ "work": runs("core.echo", "accepted"), "mended": runs("core.fail", "accepted") }),
    );
    let client = stage.tenant.client("alice");
    let (first, failing) = (waiting(&client), retrying(&client));
    // The same names do other things, then more happens, then they are gone.
    activate(
        &stage.tenant,
        &json!({ "work": runs("core.delay", "accepted"), "mended": runs("core.echo", "accepted") }),
    );
    let second = waiting(&client);
    for n in 0..3 {
        activate(
            &stage.tenant,
            &json!({ format!("other.{n}"): runs("core.echo", "accepted") }),
        );
    }
    client
        .post("/v1/requests", &json!({ "action": "work", "payload": { "ms": 1 } }))
        .problem(404, "INVALID_ACTION");
    stage.interrupt();
    let client = stage.tenant.client("alice");
    check_result(&client, &first, ECHOED);
    check_result(&client, &second, WAITED);
    assert_eq!(begin(&client, &failing), failing);
    let failed = ended(&client, &failing);
    assert_eq!(
        (&failed["status"], &failed["attempt"]),
        (&json!("failed"), &json!(2)),
        "{failed}"
    );
    assert_eq!(failed["error"]["code"], "PROCESSING_FAILED", "{failed}");
    // So does what is done again: it takes the revision of the old one.
    let redriven = begin(&client, &failing);
    assert_ne!(redriven, failing);
    wait_for(&client, &redriven, "retrying");
    stage.finish(None);
}

fn as_is_active(between: Between) {
    let mut stage = Stage::new(between, None);
    activate(
        &stage.tenant,
        &json!({ "work": runs("core.echo", "latest"), "mended": runs("core.fail", "latest") }),
    );
    let client = stage.tenant.client("alice");
    let (first, failing) = (waiting(&client), retrying(&client));
    // What counts is what was frozen with the job: these would keep to their own.
    activate(
        &stage.tenant,
        &json!({ "work": runs("core.delay", "accepted"), "mended": runs("core.echo", "accepted") }),
    );
    stage.interrupt();
    let client = stage.tenant.client("alice");
    check_result(&client, &first, WAITED);
    assert_eq!(begin(&client, &failing), failing);
    let mended = ended(&client, &failing);
    assert_eq!(
        (&mended["status"], &mended["attempt"]),
        (&json!("succeeded"), &json!(2)),
        "{mended}"
    );
    assert_eq!(mended["result"]["message"], "not yet", "{mended}");
    stage.finish(None);
}

fn rolled_back(between: Between) {
    let mut stage = Stage::new(between, None);
    let before = json!({ "work": runs("core.echo", "latest") });
    let revision = activate(&stage.tenant, &before);
    let client = stage.tenant.client("alice");
    let job = waiting(&client);
    let other = activate(&stage.tenant, &json!({}));
    assert_ne!(other, revision);
    assert_eq!(begin(&client, &job), job);
    let failed = ended(&client, &job);
    assert_eq!(
        (&failed["status"], &failed["attempt"]),
        (&json!("failed"), &json!(1)),
        "{failed}"
    );
    assert_eq!(failed["error"]["code"], "INVALID_ACTION", "{failed}");
    let message = failed["error"]["message"].as_str().expect("a message");
    assert!(message.contains("`work`") && message.contains(&other), "{failed}");
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let letters = client.get("/v1/dead-letters?code=INVALID_ACTION").json(200);
    assert_eq!(job_of(&letters["dead_letters"][0]), job, "{letters}");
    assert_eq!(activate(&stage.tenant, &before), revision, "the same content");
    let answer = client
        .post("/v1/dead-letters:redrive", &json!({ "ids": [job] }))
        .json(200);
    let redriven = answer["jobs"][0]["redriven_to"].as_str().expect("a new job");
    let done = ended(&client, redriven);
    assert_eq!(
        (&done["status"], &done["result"]),
        (&json!("succeeded"), &json!({ "ms": 1 })),
        "{done}"
    );
    stage.finish(None);
}
