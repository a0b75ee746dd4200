//! The audit trail: who changed what by hand, once for each act, whatever dies in between.

use serde_json::{Value, json};
use tidegate_tests::eventually;
use tidegate_tests::http::Client;
use tidegate_tests::socket::job_of;
use tidegate_tests::stage::{Between, Stage};
use tidegate_tests::tenant::{Tenant, composition};

use crate::three_ways;

three_ways! {
    what_is_done_by_hand_is_told_once(super::told_once);
}

fn entries(admin: &Client, query: &str) -> Vec<Value> {
    let page = admin.get(&format!("/v1/admin/audit{query}")).json(200);
    page["entries"].as_array().expect("a list").clone()
}

/// The acts of the trail, oldest first, once there are `count` of them; a moment later there are still as many.
fn acts(admin: &Client, count: usize) -> Vec<String> {
    let enough = || Some(entries(admin, "")).filter(|entries| entries.len() >= count);
    let mut entries = eventually("the entries of the audit trail", enough);
    entries.reverse();
    let name = |entry: &Value| entry["what"].as_str().expect("a text").to_owned();
    entries.iter().map(name).collect()
}

fn failed(client: &Client) -> String {
    let body = json!({
        "action": "boom", "payload": { "message": "secret of the payload", "retryable": false },
        "metadata": { "note": "secret of the note" },
    });
    let job = job_of(&client.post("/v1/requests", &body).json(202));
    let ended = client.get(&format!("/v1/jobs/{job}?wait=30")).json(200);
    assert_eq!(ended["status"], "failed", "{ended}");
    job
}

fn told_once(between: Between) {
    let mut stage = Stage::new(between, None);
    let client = stage.tenant.client("alice");
    let dead: Vec<String> = (0..3).map(|_| failed(&client)).collect();
    let later = json!({ "action": "slow", "delay_ms": 600_000 });
    let [own, other] = [(); 2].map(|()| job_of(&client.post("/v1/requests", &later).json(202)));

    let operator = stage.tenant.client_with("op", "jobs:write jobs:read");
    operator.post("/v1/queue:pause", &json!({ "action": "ec*" })).json(200);
    operator.post("/v1/queue:pause", &json!({ "action": "ec*" })).json(200);
    let all = |dry_run: bool| json!({ "filter": { "action": "boom" }, "dry_run": dry_run });
    operator.post("/v1/dead-letters:redrive", &all(true)).json(200);
    let done = operator.post("/v1/dead-letters:redrive", &all(false)).json(200);
    assert_eq!(done["jobs"].as_array().map(Vec::len), Some(3), "{done}");
    stage.interrupt();

    let client = stage.tenant.client("alice");
    client.post(&format!("/v1/jobs/{own}:cancel"), &json!({})).json(202);
    let operator = stage.tenant.client_with("op", "jobs:write jobs:read");
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    operator
        .post_with(
            &format!("/v1/jobs/{other}:cancel"),
            &[("traceparent", trace)],
            &json!({}),
        )
        .json(202);
    operator.post("/v1/queue:resume", &json!({ "action": "ec*" })).json(200);
    stage.interrupt();

    let admin = stage.tenant.client_with("root", "admin");
    let expected = [
        "composition.activated",
        "queue.paused",
        "dead_letters.redriven",
        "job.cancelled",
        "queue.resumed",
    ];
    assert_eq!(acts(&admin, expected.len()), expected);
    let entry = &entries(&admin, "?what=dead_letters.redriven")[0];
    assert_eq!(entry["counts"], json!({ "done": 3, "refused": 0 }), "{entry}");
    assert_eq!(entry["who"], json!({ "user": "op", "via": "token" }), "{entry}");
    assert_eq!(entry["target"]["filter"], json!({ "action": "boom" }), "{entry}");
    for job in &dead {
        assert!(
            entry["target"]["jobs"].as_array().unwrap().contains(&json!(job)),
            "{entry}"
        );
    }
    let entry = &entries(&admin, "?what=job.cancelled")[0];
    assert_eq!(
        (&entry["target"]["jobs"], &entry["traceparent"]),
        (&json!([other]), &json!(trace))
    );
    assert!(
        entry["request_id"].as_str().is_some_and(|id| id.starts_with("req_")),
        "{entry}"
    );
    let whole = admin.get("/v1/admin/audit").text();
    assert!(!whole.contains("secret of"), "{whole}");
    stage.finish(None);
}

#[test]
fn the_trail_takes_the_scope_admin_and_is_narrowed_and_followed() {
    let tenant = Tenant::shared();
    let admin = tenant.client_with("root", "admin");
    let mut document = composition(None);
    tenant.put_composition(&document);
    document["actions"]["more"] = json!({ "run": "core.echo" });
    tenant.put_composition(&document);
    tenant.put_composition(&composition(None));
    let back = &entries(&admin, "?what=composition.rolled_back");
    assert_eq!(back.len(), 1, "{back:?}");
    assert_eq!(entries(&admin, "?user=admin").len(), 3);
    assert_eq!(entries(&admin, "?user=root").len(), 0);
    assert_eq!(entries(&admin, "?to=2026-01-01T00:00:00Z").len(), 0);
    let page = admin.get("/v1/admin/audit?limit=2").json(200);
    let cursor = page["cursor"].as_str().expect("there is more").to_owned();
    let rest = admin.get(&format!("/v1/admin/audit?limit=2&cursor={cursor}")).json(200);
    assert_eq!(rest["entries"].as_array().map(Vec::len), Some(1), "{rest}");
    assert!(rest["cursor"].is_null(), "{rest}");

    for scope in ["", "jobs:read jobs:write"] {
        let client = tenant.client_with("alice", scope);
        client.get("/v1/admin/audit").problem(403, "FORBIDDEN");
    }
    let problem = admin
        .get("/v1/admin/audit?what=job.made&form=x")
        .problem(422, "VALIDATION_ERROR");
    assert_eq!(problem["details"].as_array().map(Vec::len), Some(2), "{problem}");
    // Another tenant has a trail of its own.
    let other = Tenant::shared();
    assert!(entries(&other.client_with("root", "admin"), "").is_empty());
}
