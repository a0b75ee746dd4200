//! Taking a tenant back to a time, where the platform cannot: workerd says so, and nothing has changed.

use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_tests::http::{Answer, Client};
use tidegate_tests::server::Server;
use tidegate_tests::tenant::{Tenant, composition};

use crate::access::{operator, operator_issuer};

fn server() -> Arc<Server> {
    Arc::new(Server::start_with_issuers(&[operator_issuer()]))
}

fn path(tenant: &Tenant, below: &str) -> String {
    format!("/v1/admin/tenants/{}{below}", tenant.id)
}

fn shown(operator: &Client, tenant: &Tenant) -> Value {
    operator.get(&path(tenant, "")).json(200)
}

fn recover(operator: &Client, tenant: &Tenant, at: &Value) -> Answer {
    operator.post(&path(tenant, "/recovery"), &json!({ "at": at }))
}

#[test]
fn where_the_platform_has_no_recovery_it_is_refused_and_nothing_has_changed() {
    let server = server();
    let (tenant, operator) = (Tenant::new(server.clone()), operator(&server));
    let mut document = composition(None);
    document["scale"] = json!({ "hubs": 2, "shards": 3 });
    tenant.put_composition(&document);
    let body = json!({ "action": "slow", "payload": { "ms": 1 } });
    let job = tenant.client("ann").post("/v1/requests", &body).json(202)["job_id"].clone();
    let job_path = format!("/v1/jobs/{}?wait=10", job.as_str().expect("a job"));
    let before = tenant.client("ann").get(&job_path).json(200);
    operator.post(&path(&tenant, ":suspend"), &json!({})).json(200);
    let suspended = shown(&operator, &tenant);
    assert_eq!(suspended["state"], "suspended");

    for _ in 0..2 {
        let refused = recover(&operator, &tenant, &suspended["suspended_at"]).json(501);
        assert_eq!(refused["code"], "NOT_IMPLEMENTED");
        let text = refused["detail"].as_str().expect("a text");
        assert!(text.contains("backups"), "{text}");
        assert_eq!(shown(&operator, &tenant), suspended);
    }
    operator.post(&path(&tenant, ":resume"), &json!({})).json(200);
    assert_eq!(tenant.client("ann").get(&job_path).json(200), before);
}

#[test]
fn what_cannot_be_gone_back_to_is_said_with_all_its_faults() {
    let server = server();
    let (tenant, operator) = (Tenant::new(server.clone()), operator(&server));
    tenant.put_composition(&composition(None));
    let created = shown(&operator, &tenant)["created_at"].clone();
    let refused = recover(&operator, &tenant, &created).json(409);
    assert!(
        refused["detail"].as_str().expect("a text").contains("suspend it first"),
        "{refused}"
    );
    operator.post(&path(&tenant, ":suspend"), &json!({})).json(200);

    let faults = |at: &str| {
        let refused = recover(&operator, &tenant, &json!(at)).json(422);
        assert_eq!(refused["code"], "VALIDATION_ERROR");
        let details = refused["details"].as_array().expect("details").clone();
        assert!(details.iter().all(|fault| fault["pointer"] == "/at"), "{refused}");
        details.len()
    };
    assert_eq!(faults("2026-01-01T00:00:00Z"), 2);
    assert_eq!(faults("9999-01-01T00:00:00Z"), 1);
    assert_eq!(faults("yesterday"), 1);

    let unknown = operator.post("/v1/admin/tenants/nobody-here/recovery", &json!({ "at": created }));
    assert_eq!(unknown.status, 404);
    let admin = Tenant::new(server.clone()).client_with("root", "admin");
    assert_eq!(
        admin
            .post(&path(&tenant, "/recovery"), &json!({ "at": created }))
            .status,
        403
    );
}
