//! A panic ends the request that caused it, and nothing else: shown on the bundle that is deployed.

use serde_json::json;
use tidegate_tests::tenant::Tenant;
use tidegate_tests::unique;

#[test]
fn a_panic_ends_its_own_request_and_no_other() {
    let tenant = Tenant::shared();
    tenant.compose(None);
    let neighbour = Tenant::shared();
    let mut watching = neighbour.socket("nora");
    let job = json!({ "action": "core.delay", "payload": { "ms": 3000, "steps": 6 } });
    let (job_request, _) = watching.enqueue(job);
    let mut idle = tenant.socket("alice");
    idle.echoes();

    let mut socket = tenant.socket("alice");
    let waiting = socket.ask(json!({ "action": "slow", "payload": { "ms": 1000, "steps": 2 } }));
    for _ in 0..3 {
        let payload = json!({ "message": "on purpose", "panic": true });
        let request = socket.ask(json!({ "action": "boom.sync", "payload": payload }));
        let error = socket.answer(&request);
        assert_eq!(error["type"], "error", "{error}");
        assert!(
            !error.to_string().contains("panicked at"),
            "nothing inside leaks out: {error}"
        );
        let answer = tenant
            .client("alice")
            .post("/v1/requests", &json!({ "action": "boom.sync", "payload": payload }));
        assert!(answer.status >= 500, "{}", answer.text());
        // The same socket, another socket of the tenant, another tenant.
        socket.echoes();
        idle.echoes();
        watching.echoes();
    }
    let end = socket.end(&waiting);
    assert_eq!(end["type"], "complete", "{end}");
    let end = watching.end(&job_request);
    assert_eq!(end["type"], "complete", "{end}");
    assert_eq!(end["attempt"], 1, "a neighbour's job was not even interrupted: {end}");
}

#[test]
fn a_job_that_panics_fails_and_no_neighbour_does() {
    let tenant = Tenant::shared();
    tenant.compose(None);
    let mut socket = tenant.socket("alice");
    let (neighbour, _) = socket.enqueue(json!({ "action": "slow", "payload": { "ms": 2000, "steps": 4 } }));
    let payload = json!({ "message": "on purpose", "panic": true });
    let (request, job) = socket.enqueue(json!({ "action": "boom", "payload": payload }));
    let end = socket.end(&request);
    assert_eq!(end["type"], "error", "{end}");
    assert_eq!(tenant.observer.ends(&job), 1);
    let end = socket.end(&neighbour);
    assert_eq!(end["type"], "complete", "{end}");
    assert_eq!(end["attempt"], 1, "{end}");
}

#[test]
fn a_request_over_http_that_panics_is_answered_and_no_neighbour_suffers() {
    let tenant = Tenant::shared();
    tenant.compose(None);
    let mut socket = tenant.socket("alice");
    let (neighbour, _) = socket.enqueue(json!({ "action": "slow", "payload": { "ms": 2000, "steps": 4 } }));
    let payload = json!({ "message": "on purpose", "panic": true });
    for key in [None, Some(unique())] {
        let mut body = json!({ "action": "boom.sync", "payload": payload });
        if let Some(key) = &key {
            body["idempotency_key"] = json!(key);
        }
        let answer = tenant.client("alice").post("/v1/requests", &body);
        assert!((500..=504).contains(&answer.status), "{key:?}: {}", answer.text());
        assert!(
            answer.json(answer.status)["code"].is_string(),
            "{key:?}: {}",
            answer.text()
        );
        socket.echoes();
    }
    let end = socket.end(&neighbour);
    assert_eq!(end["type"], "complete", "{end}");
    assert_eq!(end["attempt"], 1, "{end}");
}
