//! Policies: who may do what, decided where every request passes; and why, told before anybody asks.

use serde_json::{Value, json};
use tidegate_tests::http::Client;
use tidegate_tests::socket::Socket;
use tidegate_tests::stage::{Between, Stage};
use tidegate_tests::tenant::{Tenant, composition};
use tidegate_tests::token;

use crate::three_ways;

three_ways! {
    what_was_denied_stays_denied(super::stays_denied);
}

/// Activates these policies.
fn put(tenant: &Tenant, policies: &Value) {
    let mut document = composition(None);
    document["policies"] = policies.clone();
    tenant.put_composition(&document);
}

/// A token of `user` with these claims beside those of every good token.
fn token_with(tenant: &Tenant, user: &str, scope: &str, more: &Value) -> String {
    let mut claims = token::claims(&tenant.id, user, scope);
    for (name, value) in more.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    token::sign(&token::header(), &claims)
}

fn client_with(tenant: &Tenant, scope: &str, more: &Value) -> Client {
    Client::new(&tenant.server.url(), Some(&token_with(tenant, "ann", scope, more)))
}

fn echo() -> Value {
    json!({ "action": "core.echo", "payload": 1 })
}

/// The answer to an echo over a socket: `response`, or the policy that refused.
fn asked(socket: &mut Socket) -> String {
    let id = socket.ask(echo());
    let answer = socket.answer(&id);
    match answer["type"].as_str() {
        Some("response") => "response".into(),
        _ => {
            assert_eq!(answer["error"]["code"], "FORBIDDEN", "{answer}");
            assert_eq!(answer["error"]["retryable"], false, "{answer}");
            let pointer = answer["error"]["details"][0]["pointer"].as_str().expect("a pointer");
            pointer.trim_start_matches("/policies/").into()
        }
    }
}

/// On the very next frame of a socket that is open, and with the next token on it.
#[test]
fn a_change_of_policies_or_claims_takes_effect_at_once() {
    let tenant = Tenant::shared();
    tenant.compose(None);
    let mut socket = tenant.socket_with(&token_with(&tenant, "ann", "", &json!({ "role": "guest" })));
    assert_eq!(asked(&mut socket), "response");
    for _ in 0..5 {
        put(
            &tenant,
            &json!({ "no-guests": { "when": "claims.role == 'guest'", "effect": "deny" } }),
        );
        assert_eq!(asked(&mut socket), "no-guests");
        put(
            &tenant,
            &json!({ "no-guests": { "when": "claims.role == 'other'", "effect": "deny" } }),
        );
        assert_eq!(asked(&mut socket), "response");
    }
    put(
        &tenant,
        &json!({ "no-guests": { "when": "claims.role == 'guest'", "effect": "deny" } }),
    );
    assert_eq!(asked(&mut socket), "no-guests");
    for (role, answer) in [("member", "response"), ("guest", "no-guests")] {
        let token = token_with(&tenant, "ann", "", &json!({ "role": role }));
        let id = socket.ask(json!({ "type": "auth", "token": token }));
        assert_eq!(socket.answer(&id)["type"], "ok");
        assert_eq!(asked(&mut socket), answer);
    }
    // Another tenant has policies of its own.
    Tenant::new(tenant.server.clone()).socket("ann").echoes();
}

fn stays_denied(between: Between) {
    let mut stage = Stage::new(between, None);
    put(
        &stage.tenant,
        &json!({ "only-socket-bob": {
        "when": "user == 'bob' && transport == 'socket' && !has(claims.role)", "effect": "deny" } }),
    );
    let mut socket = stage.tenant.socket("bob");
    assert_eq!(asked(&mut socket), "only-socket-bob");
    stage.interrupt();
    let mut socket = stage.socket(socket, "bob");
    assert_eq!(asked(&mut socket), "only-socket-bob");
    stage.tenant.client("bob").post("/v1/requests", &echo()).json(200);
}

#[test]
fn policies_hold_over_http_and_in_batches_and_name_themselves() {
    let tenant = Tenant::shared();
    put(
        &tenant,
        &json!({
            "staff": { "priority": 100, "when": "'staff' in claims.groups", "effect": "allow" },
            "large": { "priority": 50, "actions": "core.*", "when": "payload_bytes > 20", "effect": { "require_scope": "large" } },
            "slow": { "priority": 10, "actions": "slow", "when": "true", "effect": "deny" },
        }),
    );
    let large = json!({ "action": "core.echo", "payload": "x".repeat(19) });
    let small = json!({ "action": "core.echo", "payload": "x".repeat(18) });
    let ann = client_with(&tenant, "", &json!({}));
    ann.post("/v1/requests", &small).json(200);
    let problem = ann.post("/v1/requests", &large).problem(403, "FORBIDDEN");
    assert_eq!(problem["detail"], "The policy `large` asks for the scope `large`.");
    assert_eq!(problem["details"][0]["pointer"], "/policies/large");
    assert_eq!(problem["details"][0]["expected"], "the scope `large`");
    client_with(&tenant, "large", &json!({}))
        .post("/v1/requests", &large)
        .json(200);
    let slow = json!({ "action": "slow", "payload": { "ms": 1 } });
    let problem = ann.post("/v1/requests", &slow).problem(403, "FORBIDDEN");
    assert_eq!(problem["detail"], "The policy `slow` does not allow this.");
    let staff = client_with(&tenant, "", &json!({ "groups": ["a", "staff"] }));
    staff.post("/v1/requests", &slow).json(202);
    staff.post("/v1/requests", &large).json(200);
    // A bad item spoils no other.
    let batch = json!([{ "action": "slow", "payload": {} }, { "action": "core.echo", "payload": 1 }, large]);
    let answers = ann.post("/v1/requests:batch", &batch).json(200);
    let codes: Vec<_> = answers["results"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| item["problem"]["code"].clone())
        .collect();
    assert_eq!(
        codes,
        [json!("FORBIDDEN"), Value::Null, json!("FORBIDDEN")],
        "{answers}"
    );
}

/// Claims come along with a ticket, and an API key has none.
#[test]
fn claims_are_those_of_whatever_opened_the_socket() {
    let tenant = Tenant::shared();
    put(
        &tenant,
        &json!({ "members": { "when": "!has(claims.role) || claims.role != 'mémber'", "effect": "deny" } }),
    );
    let member = json!({ "role": "mémber", "groups": ["a"] });
    let ticket = client_with(&tenant, "", &member)
        .post("/v1/tickets", &json!({}))
        .json(201);
    let path = format!("/v1/connect?ticket={}", ticket["ticket"].as_str().expect("a ticket"));
    let mut socket = Socket::connect(tenant.server.port(), &path, &[], &tenant.observer).expect("a good ticket");
    assert_eq!(asked(&mut socket), "response");
    let body = json!({ "name": "ci", "user": "ann" });
    let made = tenant
        .client_with("root", "admin")
        .post("/v1/admin/keys", &body)
        .json(201);
    let by_key = Client::new(&tenant.server.url(), made["api_key"].as_str());
    by_key.post("/v1/requests", &echo()).problem(403, "FORBIDDEN");
    client_with(&tenant, "", &member)
        .post("/v1/requests", &echo())
        .json(200);
    // What is too large to keep beside the rest opens nothing.
    let large = json!({ "role": "mémber", "blob": "x".repeat(3000) });
    client_with(&tenant, "", &large).post("/v1/requests", &echo()).json(200);
    put(
        &tenant,
        &json!({ "blob": { "when": "has(claims.blob)", "effect": "deny" } }),
    );
    client_with(&tenant, "", &large)
        .post("/v1/requests", &echo())
        .problem(403, "FORBIDDEN");
    client_with(&tenant, "", &member)
        .post("/v1/requests", &echo())
        .json(200);
}

/// Limits and keys are behind the policies: what is refused has taken nothing.
#[test]
fn a_request_that_a_policy_refuses_consumes_nothing() {
    let tenant = Tenant::shared();
    let mut document = composition(None);
    document["admission"] = json!({ "limits": { "daily": { "key": "user", "quota": { "units": 2, "per": "1d" } } } });
    document["policies"] = json!({ "large": { "when": "payload_bytes > 1", "effect": "deny" } });
    tenant.put_composition(&document);
    let ann = tenant.client("ann");
    for _ in 0..5 {
        ann.post("/v1/requests", &json!({ "action": "core.echo", "payload": 12 }))
            .problem(403, "FORBIDDEN");
    }
    ann.post("/v1/requests", &echo()).json(200);
    ann.post("/v1/requests", &echo()).json(200);
    ann.post("/v1/requests", &echo()).problem(429, "QUOTA_EXCEEDED");
}

#[test]
fn an_explanation_says_what_each_policy_makes_of_it() {
    let tenant = Tenant::shared();
    put(
        &tenant,
        &json!({
            "staff": { "priority": 100, "when": "claims.role == 'staff'", "effect": "allow" },
            "night": { "priority": 10, "when": "now.getHours('Europe/Berlin') < 6 && payload_bytes >= 0", "effect": "deny" },
        }),
    );
    let admin = tenant.client_with("root", "admin");
    let path = "/v1/admin/policies/explain";
    let asked = json!({ "action": "core.echo", "claims": {}, "now": "2026-06-01T02:00:00Z", "payload_bytes": 7 });
    let told = admin.post(path, &asked).json(200);
    assert_eq!(
        (&told["decision"], &told["by"]),
        (&json!("forbidden"), &json!("night")),
        "{told}"
    );
    let policies = &told["policies"];
    assert_eq!(policies[0]["result"], "error", "{told}");
    assert_eq!(policies[0]["why"], "there is no `role`, at `claims.role`");
    assert_eq!(
        (&policies[1]["result"], &policies[1]["decides"]),
        (&json!("matched"), &json!(true))
    );
    let asked = json!({ "action": "core.echo", "claims": {}, "now": "2026-06-01T05:00:00Z" });
    let told = admin.post(path, &asked).json(200);
    assert_eq!(told["decision"], "allowed", "{told}");
    assert_eq!(
        told["policies"][1]["why"],
        "`now.getHours('Europe/Berlin') < 6` is false"
    );
    let refused = admin.post(path, &json!({ "action": "no such", "now": "noon", "more": 1 }));
    assert_eq!(
        refused.problem(422, "VALIDATION_ERROR")["details"]
            .as_array()
            .map(Vec::len),
        Some(3)
    );
    admin
        .post(path, &json!({ "action": "core.ecko" }))
        .problem(404, "INVALID_ACTION");
    tenant.client("ann").post(path, &asked).problem(403, "FORBIDDEN");
    assert_eq!(
        admin.get(path).problem(405, "METHOD_NOT_ALLOWED")["code"],
        "METHOD_NOT_ALLOWED"
    );
}

#[test]
fn a_composition_whose_policies_cannot_be_right_is_refused_with_all_faults() {
    let tenant = Tenant::shared();
    let mut document = composition(None);
    document["policies"] = json!({
        "a": { "when": "clams.role == 'x' && action > 1", "effect": "deny" },
        "b": { "when": "action.matches('x')", "effect": "permit" },
    });
    let answer = tenant.try_composition(&document);
    let problem = answer.problem(422, "VALIDATION_ERROR");
    let details = problem["details"].as_array().expect("a list");
    assert_eq!(details.len(), 4, "{problem}");
    assert_eq!(details[0]["pointer"], "/policies/a/when");
    assert_eq!(details[0]["suggestion"], "claims");
}
