//! API keys, revocations and suspended tenants: who may come in, and how soon who may not is out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::http::Client;
use tidegate_tests::server::Server;
use tidegate_tests::socket::Socket;
use tidegate_tests::tenant::Tenant;
use tidegate_tests::token;

/// Live sockets hear of a revocation within a second.
const SOON: Duration = Duration::from_millis(1_000);

fn admin(tenant: &Tenant) -> Client {
    tenant.client_with("root", "admin")
}

/// A key of the user `bot`: its id and its text.
fn key(tenant: &Tenant, scopes: &[&str]) -> (String, String) {
    let body = json!({ "name": "ci", "user": "bot", "scopes": scopes });
    let answer = admin(tenant).post("/v1/admin/keys", &body);
    assert_eq!(answer.header("cache-control"), "no-store", "a key is a secret");
    let made = answer.json(201);
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    (text(&made["key"]["key_id"]), text(&made["api_key"]))
}

/// What a client without a token says with this key in `X-Api-Key`.
fn by_key(tenant: &Tenant, key: &str, path: &str) -> tidegate_tests::http::Answer {
    let client = Client::new(&tenant.server.url(), None);
    client.send("GET", path, &[("x-api-key", key)], &[])
}

fn socket_by_key(tenant: &Tenant, key: &str) -> Socket {
    let headers = [("x-api-key", key)];
    Socket::connect(tenant.server.port(), "/v1/connect", &headers, &tenant.observer).expect("a good key")
}

fn echo(client: &Client) -> tidegate_tests::http::Answer {
    client.post("/v1/requests", &json!({ "action": "core.echo", "payload": 1 }))
}

#[test]
fn an_api_key_opens_what_a_token_of_its_user_would() {
    let tenant = Tenant::shared();
    tenant.compose(None);
    let (id, key) = key(&tenant, &["jobs:read"]);
    assert!(key.starts_with(&format!("tgk_{}_", tenant.id)), "{key}");
    by_key(&tenant, &key, "/v1/jobs").json(200);
    by_key(&tenant, &key, "/v1/queue").json(200);
    by_key(&tenant, &key, "/v1/admin/keys").problem(403, "FORBIDDEN");
    // As a bearer as well, for clients that know nothing else; and on sockets.
    let client = Client::new(&tenant.server.url(), Some(&key));
    assert_eq!(echo(&client).json(200)["data"], 1);
    let mut socket = socket_by_key(&tenant, &key);
    assert_eq!(socket.welcome["user"], "bot");
    socket.echoes();
    // Nothing lists the text, and its use is noted.
    let listed = admin(&tenant).get("/v1/admin/keys").json(200);
    let listed = &listed["keys"][0];
    assert_eq!(
        (listed["key_id"].as_str(), listed["user"].as_str()),
        (Some(id.as_str()), Some("bot"))
    );
    assert!(listed["used_at"].is_string(), "{listed}");
    assert!(!listed.to_string().contains(&key));
}

#[test]
fn a_key_that_was_never_issued_here_is_refused_and_costs_no_question() {
    let tenant = Tenant::shared();
    tenant.compose(None);
    let (_, key) = key(&tenant, &[]);
    by_key(&tenant, &key, "/v1/jobs").json(200);
    let stranger = format!("t-{}", tidegate_tests::unique());
    let of_a_stranger = key.replace(&tenant.id, &stranger);
    for bad in [
        format!("{key}x"),
        key[..key.len() - 1].to_owned(),
        of_a_stranger,
        "tgk_".into(),
        "x".into(),
    ] {
        by_key(&tenant, &bad, "/v1/jobs").problem(401, "UNAUTHORIZED");
    }
    let asked = tenant.server.constructed(&format!("t:{stranger}:gate"));
    assert_eq!(asked, 0, "a forged key reached an object");
    // With a token beside it, nobody could say who is meant.
    let both = tenant
        .client("ann")
        .send("GET", "/v1/jobs", &[("x-api-key", &key)], &[]);
    both.problem(401, "UNAUTHORIZED");
}

#[test]
fn a_deleted_key_opens_nothing_and_its_sockets_end() {
    let tenant = Tenant::shared();
    tenant.compose(None);
    let (id, key) = key(&tenant, &[]);
    let mut socket = socket_by_key(&tenant, &key);
    let mut other = tenant.socket("bot");
    by_key(&tenant, &key, "/v1/jobs").json(200);
    let gone = admin(&tenant).send("DELETE", &format!("/v1/admin/keys/{id}"), &[], &[]);
    assert_eq!(gone.status, 204);
    let deleted = Instant::now();
    assert_eq!(socket.closed_within(SOON), Some(3500));
    other.echoes();
    // The Worker goes by what it heard within the last second.
    let left = SOON.saturating_sub(deleted.elapsed());
    std::thread::sleep(left);
    by_key(&tenant, &key, "/v1/jobs").problem(401, "UNAUTHORIZED");
    by_key(&tenant, &key, "/v1/connect").problem(400, "VALIDATION_ERROR");
    echo(&Client::new(&tenant.server.url(), Some(&key))).problem(401, "UNAUTHORIZED");
    let again = admin(&tenant).send("DELETE", &format!("/v1/admin/keys/{id}"), &[], &[]);
    again.problem(404, "NOT_FOUND");
}

#[test]
fn a_rotated_key_has_two_texts_for_a_while() {
    let tenant = Tenant::shared();
    tenant.compose(None);
    let (id, old) = key(&tenant, &[]);
    by_key(&tenant, &old, "/v1/jobs").json(200);
    let rotate = |body: &Value| {
        let answer = admin(&tenant)
            .post(&format!("/v1/admin/keys/{id}:rotate"), body)
            .json(200);
        answer["api_key"].as_str().expect("a key").to_owned()
    };
    let new = rotate(&json!({ "overlap_ms": 600_000 }));
    assert_ne!(old, new);
    for text in [&old, &new] {
        by_key(&tenant, text, "/v1/jobs").json(200);
    }
    let newest = rotate(&json!({ "overlap_ms": 0 }));
    std::thread::sleep(SOON);
    for text in [&old, &new] {
        by_key(&tenant, text, "/v1/jobs").problem(401, "UNAUTHORIZED");
    }
    by_key(&tenant, &newest, "/v1/jobs").json(200);
}

#[test]
fn a_revoked_user_is_out_within_a_second_everywhere_and_back_with_a_new_token() {
    let tenant = Tenant::shared();
    tenant.compose(None);
    let (ann, bob) = (tenant.client("ann"), tenant.client("bob"));
    let (mut anns, mut bobs) = (tenant.socket("ann"), tenant.socket("bob"));
    ann.get("/v1/jobs").json(200);
    echo(&ann).json(200);
    let tickets = ann.send("POST", "/v1/tickets", &[], &[]).json(201);
    let ticket = tickets["ticket"].as_str().expect("a ticket");
    let revoked = admin(&tenant).post("/v1/admin/revocations", &json!({ "user": "ann" }));
    assert_eq!(revoked.json(201)["user"], "ann");
    let at = Instant::now();
    assert_eq!(anns.closed_within(SOON), Some(3500));
    // A hub hears of it at once; what asks none goes by what was heard within a second.
    echo(&ann).problem(401, "UNAUTHORIZED");
    std::thread::sleep(SOON.saturating_sub(at.elapsed()));
    ann.get("/v1/jobs").problem(401, "UNAUTHORIZED");
    let path = format!("/v1/connect?ticket={ticket}");
    let refused = Socket::connect(tenant.server.port(), &path, &[], &tenant.observer);
    assert_eq!(
        refused.err().map(|refused| refused.status),
        Some(401),
        "a ticket of before"
    );
    bobs.echoes();
    bob.get("/v1/jobs").json(200);
    // The hub still knows when it has been evicted, and when the server was killed.
    for (class, name) in tenant.objects() {
        tenant.server.evict(class, &name);
    }
    echo(&ann).problem(401, "UNAUTHORIZED");
    // What is issued in a later second is good.
    let later = tidegate_tests::eventually("a token of a later second is good", || {
        let client = tenant.client("ann");
        (echo(&client).status == 200).then_some(client)
    });
    later.get("/v1/jobs").json(200);
}

#[test]
fn one_token_is_revoked_by_its_name() {
    let tenant = Tenant::shared();
    tenant.compose(None);
    let named = |jti: &str| {
        let mut claims = token::claims(&tenant.id, "ann", "");
        claims["jti"] = json!(jti);
        token::sign(&token::header(), &claims)
    };
    // Longer than what is kept of it.
    let long = "j".repeat(200);
    let (mut lost, mut kept) = (tenant.socket_with(&named(&long)), tenant.socket_with(&named("other")));
    admin(&tenant)
        .post("/v1/admin/revocations", &json!({ "token": long, "for_ms": 3_600_000 }))
        .json(201);
    assert_eq!(lost.closed_within(SOON), Some(3500));
    kept.echoes();
    // It does not come in over a live socket either.
    kept.send(&json!({ "type": "auth", "id": "a", "token": named(&long) }));
    assert_eq!(kept.answer("a")["error"]["code"], "UNAUTHORIZED");
    let listed = admin(&tenant).get("/v1/admin/revocations").json(200);
    assert_eq!(listed["revocations"].as_array().map(Vec::len), Some(1));
}

#[test]
fn what_cannot_be_revoked_or_made_is_told_with_all_its_faults() {
    let tenant = Tenant::shared();
    let root = admin(&tenant);
    let problem = root
        .post("/v1/admin/keys", &json!({ "scopes": ["operator"], "nam": 1 }))
        .problem(422, "VALIDATION_ERROR");
    assert_eq!(problem["details"].as_array().map(Vec::len), Some(4), "{problem}");
    let problem = root
        .post("/v1/admin/revocations", &json!({}))
        .problem(422, "VALIDATION_ERROR");
    assert_eq!(problem["details"].as_array().map(Vec::len), Some(1), "{problem}");
    let ann = tenant.client("ann");
    ann.get("/v1/admin/keys").problem(403, "FORBIDDEN");
    ann.post("/v1/admin/revocations", &json!({ "everyone": true }))
        .problem(403, "FORBIDDEN");
    // An issuer that does not date its tokens would be locked out with those that it issues later.
    let mut claims = token::claims(&tenant.id, "root", "admin");
    claims.as_object_mut().expect("an object").remove("iat");
    let undated = Client::new(&tenant.server.url(), Some(&token::sign(&token::header(), &claims)));
    undated
        .post("/v1/admin/revocations", &json!({ "everyone": true }))
        .problem(409, "CONFLICT");
}

const OPERATOR_KEY: &[u8] = b"a key of operators only, 32 bytes";

/// The issuer of operators' tokens.
pub(crate) fn operator_issuer() -> Value {
    use base64::Engine;
    let key = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(OPERATOR_KEY);
    json!({
        "issuer": "https://operators.tidegate.invalid",
        "audience": token::AUDIENCE,
        "tenant": "operations",
        "operator": true,
        "keys": { "keys": [{ "kty": "oct", "kid": "op", "alg": "HS256", "k": key }] },
    })
}

/// A token of the deployment's operator.
pub(crate) fn operator_token() -> String {
    let mut claims = token::claims("operations", "op", "operator");
    claims["iss"] = json!("https://operators.tidegate.invalid");
    let header = json!({ "alg": "HS256", "typ": "JWT", "kid": "op" });
    token::sign_with(OPERATOR_KEY, &header, &claims)
}

/// A client of the deployment's operator.
pub(crate) fn operator(server: &Server) -> Client {
    Client::new(&server.url(), Some(&operator_token()))
}

#[test]
fn a_suspended_tenant_is_shut_until_it_is_resumed_and_others_notice_nothing() {
    let server = Arc::new(Server::start_with_issuers(&[operator_issuer()]));
    let (tenant, other) = (Tenant::new(server.clone()), Tenant::new(server.clone()));
    for tenant in [&tenant, &other] {
        tenant.compose(None);
    }
    let path = format!("/v1/admin/tenants/{}", tenant.id);
    // A tenant's own issuer can write what it likes into its tokens.
    let pretender = tenant.client_with("root", "admin operator");
    pretender
        .post(&format!("{path}:suspend"), &json!({}))
        .problem(403, "FORBIDDEN");
    let operator = operator(&server);
    assert_eq!(operator.get(&path).json(200)["suspended_at"], Value::Null);
    let mut socket = tenant.socket("ann");
    let suspended = operator.post(&format!("{path}:suspend"), &json!({})).json(200);
    assert!(suspended["suspended_at"].is_string(), "{suspended}");
    assert_eq!(socket.closed_within(SOON), Some(3502));
    std::thread::sleep(SOON);
    for between in 0..2 {
        let ann = tenant.client("ann");
        echo(&ann).problem(403, "TENANT_SUSPENDED");
        ann.get("/v1/jobs").problem(403, "TENANT_SUSPENDED");
        admin(&tenant).get("/v1/admin/keys").problem(403, "TENANT_SUSPENDED");
        if between == 0 {
            server.kill();
            server.start_again();
        }
    }
    other.socket("bob").echoes();
    // The server has another port now.
    let operator = self::operator(&server);
    operator
        .post("/v1/admin/tenants/operations:suspend", &json!({}))
        .problem(409, "CONFLICT");
    operator.post(&format!("{path}:resume"), &json!({})).json(200);
    echo(&tenant.client("ann")).json(200);
    std::thread::sleep(SOON);
    let trail = admin(&tenant).get("/v1/admin/audit").json(200);
    let whats: Vec<&str> = trail["entries"]
        .as_array()
        .expect("entries")
        .iter()
        .filter_map(|entry| entry["what"].as_str())
        // The refusals meanwhile are entries of their own, sooner or later.
        .filter(|what| *what != "requests.refused")
        .collect();
    assert!(whats.starts_with(&["tenant.resumed", "tenant.suspended"]), "{whats:?}");
}
