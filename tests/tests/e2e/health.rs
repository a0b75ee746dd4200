//! Whether a deployment is ready, and how a tenant is.

use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_tests::eventually;
use tidegate_tests::handler::Handler;
use tidegate_tests::http::Client;
use tidegate_tests::receiver::Answer;
use tidegate_tests::server::{DEPLOYMENT_KEY, Server};
use tidegate_tests::tenant::{Tenant, composition};

fn readiness(server: &Server) -> (u16, Value) {
    let answer = Client::new(&server.url(), None).get("/readyz");
    assert_eq!(answer.header("cache-control"), "no-store");
    let status = answer.status;
    (status, answer.json(status))
}

/// The names of the checks that fail.
fn failing(readiness: &Value) -> Vec<String> {
    let checks = readiness["checks"].as_array().expect("checks").iter();
    let failing = checks.filter(|check| check["ready"] == false);
    failing
        .map(|check| {
            assert_eq!(check["status"], "fail");
            assert!(
                check["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()),
                "{check}"
            );
            check["name"].as_str().expect("a name").to_owned()
        })
        .collect()
}

fn health(tenant: &Tenant) -> Value {
    tenant.client_with("root", "admin").get("/v1/admin/health").json(200)
}

fn codes(health: &Value) -> Vec<String> {
    let reasons = health["reasons"].as_array().expect("reasons").iter();
    reasons
        .map(|reason| reason["code"].as_str().expect("a code").to_owned())
        .collect()
}

#[test]
fn a_deployment_that_has_everything_is_ready() {
    let tenant = Tenant::shared();
    let (status, ready) = readiness(&tenant.server);
    assert_eq!((status, &ready["status"]), (200, &json!("ready")));
    let checks = ready["checks"].as_array().expect("checks");
    assert!(
        checks.len() >= 10 && checks.iter().all(|check| check["status"] == "pass"),
        "{ready}"
    );
}

#[test]
fn a_binding_that_is_needed_and_missing_is_named() {
    for (binding, names) in [
        ("CONFIGURATION", ["configuration store"]),
        ("OBJECTS", ["object storage"]),
    ] {
        let (status, ready) = readiness(&Server::start_without(binding));
        assert_eq!((status, &ready["status"]), (503, &json!("not ready")));
        assert_eq!(failing(&ready), names, "{ready}");
        let remedies = ready["checks"].to_string();
        assert!(remedies.contains(&format!("as {binding};")), "{ready}");
    }
}

#[test]
fn what_is_missing_is_named_and_no_secret_is_told() {
    let server = Server::start();
    server.kill();
    server.start_again_with("too short", None);
    let (status, missing) = readiness(&server);
    assert_eq!((status, &missing["status"]), (503, &json!("not ready")));
    assert_eq!(failing(&missing), ["deployment key"]);
    assert!(!missing.to_string().contains("too short"));
    server.kill();
    server.start_again_with(DEPLOYMENT_KEY, None);
    assert_eq!(readiness(&server).0, 200);
}

#[test]
fn a_store_that_fails_or_hangs_is_named_and_holds_up_nobody_for_long() {
    let server = Server::start_faulty();
    assert_eq!(readiness(&server).0, 200);
    for state in ["fail", "hang"] {
        server.objects(state);
        eventually("object storage is missed", || {
            let (status, found) = readiness(&server);
            (status == 503).then(|| assert_eq!(failing(&found), ["object storage"], "{state}"))
        });
        server.objects("work");
        eventually("all is well again", || (readiness(&server).0 == 200).then_some(()));
    }
}

#[test]
fn a_tenant_to_which_nothing_has_happened_is_healthy() {
    let tenant = Tenant::shared();
    tenant.compose(None);
    let client = tenant.client("alice");
    client.post("/v1/requests", &json!({ "action": "core.echo" })).json(200);
    let seen = health(&tenant);
    assert_eq!(
        (&seen["status"], &seen["reasons"]),
        (&json!("healthy"), &json!([])),
        "{seen}"
    );
    assert_eq!(
        seen["queue"],
        json!({ "running": 0, "waiting": 0, "dead_letters": 0, "shards": 1 })
    );
    client.get("/v1/admin/health").problem(403, "FORBIDDEN");
}

#[test]
fn an_open_breaker_a_pause_and_dead_letters_are_reasons_until_they_are_gone() {
    let upstream = Handler::start(|_, _| Some(Answer::of(500, "{}")));
    let tenant = Tenant::shared();
    let mut document = composition(None);
    let breaker = json!({ "consecutive_failures": 2, "failure_percent": 0, "open": "10m" });
    let main = json!({ "base_url": upstream.url(), "allow_private": true, "timeout": "5s", "breaker": breaker });
    document["patterns"]["bank"] = json!({ "use": "http", "config": { "upstreams": { "main": main } } });
    let with = json!({ "upstream": "main", "method": "GET", "path": "/" });
    document["actions"]["pay"] = json!({ "run": "bank.call", "mode": "sync", "with": with });
    tenant.put_composition(&document);
    let (client, admin) = (tenant.client("alice"), tenant.client_with("root", "admin jobs:write"));
    eventually("the breaker opens", || {
        client.post("/v1/requests", &json!({ "action": "pay" }));
        (health(&tenant)["status"] == "degraded").then_some(())
    });
    let seen = health(&tenant);
    assert_eq!(
        (codes(&seen), &seen["reasons"][0]["name"]),
        (vec!["breaker_open".into()], &json!("bank.main"))
    );
    let bank = &seen["upstreams"][0];
    assert_eq!(
        (&bank["upstream"], &bank["state"]),
        (&json!("bank.main"), &json!("open"))
    );
    assert!(bank["since"].is_string(), "{bank}");
    admin.post("/v1/admin/upstreams/bank.main:close", &json!({})).json(200);
    assert_eq!(health(&tenant)["status"], "healthy");
    // What waits and what has failed for good.
    admin.post("/v1/queue:pause", &json!({ "action": "slow" })).json(200);
    client
        .post("/v1/requests", &json!({ "action": "slow", "payload": { "ms": 1 } }))
        .json(202);
    client.post("/v1/requests", &json!({ "action": "boom" })).json(202);
    let seen = eventually("the dead letter", || {
        let seen = health(&tenant);
        (seen["queue"]["dead_letters"] == 1).then_some(seen)
    });
    assert_eq!(codes(&seen), ["dead_letters", "queue_paused"]);
    assert_eq!(seen["queue"]["waiting"], 1);
    assert!(seen["queue"]["oldest_waiting_at"].is_string(), "{seen}");
    admin.post("/v1/queue:resume", &json!({ "action": "slow" })).json(200);
    let dead = admin.get("/v1/dead-letters").json(200)["dead_letters"][0]["job_id"].clone();
    admin
        .post("/v1/dead-letters:discard", &json!({ "ids": [dead] }))
        .json(200);
    eventually("it is healthy again", || {
        (health(&tenant)["status"] == "healthy").then_some(())
    });
}

#[test]
fn a_secret_of_an_earlier_deployment_key_is_a_reason() {
    let tenant = Tenant::new(Arc::new(Server::start()));
    let admin = || tenant.client_with("root", "admin");
    let headers = [("content-type", "application/json")];
    let set = || {
        // Nothing of the value before stays good, so that nothing is left of the key before.
        let body = json!({ "value": "hunter2", "overlap_ms": 0 }).to_string();
        admin().send("PUT", "/v1/admin/secrets/bank", &headers, body.as_bytes())
    };
    set().json(201);
    assert_eq!(health(&tenant)["status"], "healthy");
    tenant.server.kill();
    let key = "YW5vdGhlci1kZXBsb3ltZW50LWtleS1vZi0zMmJ5dGU";
    tenant.server.start_again_with(key, Some(DEPLOYMENT_KEY));
    let seen = health(&tenant);
    let expected = (vec!["secret_of_old_key".to_owned()], &json!("bank"));
    assert_eq!((codes(&seen), &seen["reasons"][0]["name"]), expected);
    set().json(200);
    assert_eq!(health(&tenant)["status"], "healthy");
}
