//! The request log: one line for each request, over HTTP and on sockets, with what it says; which are written; and that no secret
//! stands in any line of what the server writes.

use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_tests::eventually;
use tidegate_tests::http::Client;
use tidegate_tests::server::Server;
use tidegate_tests::socket::job_of;
use tidegate_tests::tenant::Tenant;
use tidegate_tests::unique;

/// Everything, with frames and bodies.
const ALL: &str = r#"{"rules":[{"name":"all","rate":1}],"payload":"redacted","redact":{"keys":["iban"]}}"#;

fn tenant(config: &'static str) -> Tenant {
    let tenant = Tenant::new(Arc::new(Server::start_logged(config)));
    tenant.compose(None);
    tenant
}

/// The one line of which this holds. A second one would have been written by the time a later request is answered.
fn line(tenant: &Tenant, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || {
        let mut found: Vec<Value> = tenant
            .server
            .requests()
            .into_iter()
            .filter(|line| wanted(line))
            .collect();
        assert!(found.len() <= 1, "{what}: {found:?}");
        found.pop()
    })
}

fn of_id<'a>(id: &'a Value) -> impl Fn(&Value) -> bool + use<'a> {
    move |line| line["request_id"] == *id
}

#[test]
fn each_request_is_one_line_that_says_who_asked_for_what_and_what_came_of_it() {
    let tenant = tenant(ALL);
    let client = tenant.client("alice");
    // Over HTTP: answered, stored, refused.
    let body = json!({ "action": "core.echo", "payload": { "n": 1 }, "metadata": { "iban": "DE00" } });
    let answered = client.post("/v1/requests", &body);
    let sent = u64::try_from(answered.body.len()).expect("a length");
    let seen = line(&tenant, "an answer", of_id(&answered.json(200)["request_id"]));
    let expected = json!({
        "severity": "INFO", "network.protocol.name": "http", "http.request.method": "POST", "http.route": "/v1/requests",
        "http.response.status_code": 200, "tenant": tenant.id, "user.id": "alice", "credential.kind": "token",
        "action": "core.echo", "mode": "auto", "http.response.body.size": sent, "sampled_by": "all", "sample_rate": 1,
        "http.request.body.size": body.to_string().len(),
        "request": { "action": "core.echo", "payload": { "n": 1 }, "metadata": { "iban": "[redacted]" } },
    });
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(seen[name], *value, "{name}: {seen}");
    }
    assert!(seen["duration_ms"].is_u64() && seen["timestamp"].is_string(), "{seen}");
    assert!(seen.get("client.address").is_none(), "{seen}");
    let stored = client
        .post("/v1/requests", &json!({ "action": "slow", "payload": { "ms": 1 } }))
        .json(202);
    let seen = line(&tenant, "a job", of_id(&stored["request_id"]));
    assert_eq!(
        (&seen["job_id"], &seen["http.response.status_code"]),
        (&stored["job_id"], &json!(202))
    );
    let refused = client.post("/v1/requests", &json!({ "action": "nothing.like.it" }));
    let refused = refused.problem(404, "INVALID_ACTION");
    let seen = line(&tenant, "a refusal", |line| line["action"] == "nothing.like.it");
    assert_eq!(
        (&seen["error.type"], &seen["severity"]),
        (&json!("INVALID_ACTION"), &json!("WARN"))
    );
    assert_eq!(
        seen["request_id"], refused["request_id"],
        "the problem and the line name the same request"
    );
    // Routes are told by their templates: a path holds ids and names.
    let job = job_of(&stored);
    client.get(&format!("/v1/jobs/{job}?wait=30")).json(200);
    let seen = line(&tenant, "a job's page", |line| line["http.route"] == "/v1/jobs/{id}");
    assert_eq!(seen["http.request.method"], "GET");
    // Without a credential nobody is known.
    let nobody = Client::new(&tenant.server.url(), None)
        .get("/v1/jobs")
        .problem(401, "UNAUTHORIZED");
    let seen = line(&tenant, "nobody", of_id(&nobody["request_id"]));
    assert!(seen.get("tenant").is_none() && seen.get("user.id").is_none(), "{seen}");
    assert!(
        seen["error.message"]
            .as_str()
            .is_some_and(|text| text.contains("Authorization: Bearer <token>")),
        "{seen}"
    );
    // An API key is named by its id, and never shown.
    let admin = tenant.client_with("root", "admin");
    let key = admin
        .post("/v1/admin/keys", &json!({ "name": "ci", "user": "bot" }))
        .json(201);
    let text = key["api_key"].as_str().expect("a key");
    let by_key = Client::new(&tenant.server.url(), None);
    let answer = by_key.post_with(
        "/v1/requests",
        &[("x-api-key", text)],
        &json!({ "action": "core.echo", "id": "by-key" }),
    );
    assert_eq!(answer.json(200)["request_id"], "by-key");
    let seen = line(&tenant, "a key", of_id(&json!("by-key")));
    assert_eq!(
        (&seen["credential.kind"], &seen["user.id"]),
        (&json!("api_key"), &json!("bot"))
    );
    assert!(
        seen["credential.key_id"]
            .as_str()
            .is_some_and(|id| id.starts_with("key_")),
        "{seen}"
    );
    assert!(!tenant.server.log().contains(text));
}

#[test]
fn each_request_frame_is_one_line_as_well() {
    let tenant = tenant(ALL);
    let mut socket = tenant.socket("alice");
    let opened = line(&tenant, "the upgrade", |line| line["http.response.status_code"] == 101);
    assert_eq!(
        (&opened["http.route"], &opened["user.id"]),
        (&json!("/v1/connect"), &json!("alice"))
    );
    let echo = json!({ "type": "request", "action": "core.echo", "payload": { "n": 1 } });
    let id = socket.ask(echo);
    let answer = socket.answer(&id);
    let seen = line(&tenant, "an answer", of_id(&json!(id)));
    let expected = json!({
        "network.protocol.name": "websocket", "http.request.method": "request", "http.route": "/v1/connect",
        "http.response.status_code": 200, "tenant": tenant.id, "user.id": "alice", "action": "core.echo", "mode": "auto",
        "connection_id": socket.welcome["connection_id"], "http.response.body.size": answer.to_string().len(),
    });
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(seen[name], *value, "{name}: {seen}");
    }
    assert_eq!(seen["request"]["payload"], json!({ "n": 1 }));
    let (id, job) = socket.enqueue(json!({ "type": "request", "action": "slow", "payload": { "ms": 1 } }));
    let seen = line(&tenant, "a job", of_id(&json!(id)));
    assert_eq!(
        (&seen["job_id"], &seen["http.response.status_code"]),
        (&json!(job), &json!(202))
    );
    let id = socket.ask(json!({ "type": "request", "action": "nothing.like.it" }));
    let seen = line(&tenant, "a refusal", of_id(&json!(id)));
    assert_eq!(
        (&seen["error.type"], &seen["http.response.status_code"]),
        (&json!("INVALID_ACTION"), &json!(404))
    );
    let id = socket.ask(json!({ "type": "request", "action": "boom.sync", "payload": { "message": "token=abc123" } }));
    let seen = line(&tenant, "a failure", of_id(&json!(id)));
    assert_eq!(seen["error.message"], "token=[redacted]", "{seen}");
    socket.send_text(r#"{"type":"request","id":"broken","action":7}"#);
    let seen = line(&tenant, "a broken frame", of_id(&json!("broken")));
    assert_eq!(
        (&seen["error.type"], &seen["http.response.status_code"]),
        (&json!("VALIDATION_ERROR"), &json!(422))
    );
}

#[test]
fn no_secret_stands_in_anything_that_the_server_writes() {
    let tenant = tenant(ALL);
    let mark = unique().to_string();
    let secret = |kind: &str| format!("{kind}{mark}x");
    let card = "4111 1111 1111 1111";
    let jwt = format!("eyJhbGciOiJIUzI1NiJ9.{}.c2lnbmF0dXJl", secret("eyJzdWIi"));
    let (hook, key) = (secret("whsec_0123456789abcdef"), secret("tgk_acme_0123456789abcdef"));
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
        secret("MIIB")
    );
    let inner = json!({ "password": secret("inner"), "deep": json!({ "api_key": secret("deeper") }).to_string() });
    let payload = json!({
        "password": secret("pass"), "card": card, "nested": [{ "Authorization": secret("auth") }, format!("see {jwt}")],
        "text": inner.to_string(), "notes": format!("{hook} {key} {pem}"), "url": format!("https://me:{}@db/x", secret("pw")),
    });
    let metadata = json!({ "client_secret": secret("meta"), "note": format!("Bearer {}", secret("bear0")) });
    let echo = json!({ "action": "core.echo", "payload": payload, "metadata": metadata });
    let client = tenant.client("alice");
    client.post("/v1/requests", &echo).json(200);
    let fail =
        json!({ "action": "boom.sync", "payload": { "message": format!("{jwt} {card} password={}", secret("err")) } });
    client.post("/v1/requests", &fail).problem(500, "PROCESSING_FAILED");
    // A fault repeats a part of what was sent; so does an action that is none, and an id.
    let bad = json!({ "action": "core.echo", "mode": format!("token={}", secret("mode")), "metadata": { "a": 7 } });
    client.post("/v1/requests", &bad).problem(422, "VALIDATION_ERROR");
    client
        .post("/v1/requests", &json!({ "action": key, "id": hook }))
        .problem(404, "INVALID_ACTION");
    // Credentials that are good, or nearly.
    let own = tenant.token("alice", "");
    Client::new(&tenant.server.url(), Some(&format!("{own}x")))
        .get("/v1/jobs")
        .problem(401, "UNAUTHORIZED");
    Client::new(&tenant.server.url(), None).send("GET", "/v1/jobs", &[("x-api-key", &key)], &[]);
    client.get(&format!("/v1/jobs/{}", secret("job")));
    client.get(&format!("/v1/connect?ticket={}", secret("ticket")));
    client.send("PUT", &format!("/v1/objects/{}", secret("object")), &[], b"1");
    let admin = tenant.client_with("root", "admin");
    let value = json!({ "value": secret("sealed") }).to_string();
    admin
        .send(
            "PUT",
            "/v1/admin/secrets/bank",
            &[("content-type", "application/json")],
            value.as_bytes(),
        )
        .json(201);
    let mut socket = tenant.socket("alice");
    let ids: Vec<String> = [echo, fail, bad]
        .into_iter()
        .map(|mut frame| {
            frame["type"] = json!("request");
            socket.ask(frame)
        })
        .collect();
    for id in &ids {
        line(&tenant, "a frame", of_id(&json!(id)));
    }
    let log = tenant.server.log();
    for found in [mark.as_str(), own.as_str(), "4111 1111"] {
        let shown = log.lines().find(|line| line.contains(found));
        assert_eq!(shown, None, "{found}");
    }
}

#[test]
fn rules_say_which_requests_are_written() {
    let tenant = tenant(
        r#"{"rules":[
        {"status":"2xx","action":"core.*","rate":0},
        {"name":"bad","code":"INVALID_ACTION","rate":1},
        {"name":"late","route":"/v1/requests","slower_than":"200ms","rate":1},
        {"rate":0}
    ]}"#,
    );
    let client = tenant.client("alice");
    let mut socket = tenant.socket("alice");
    client
        .post("/v1/requests", &json!({ "action": "core.echo", "id": "unseen" }))
        .json(200);
    client.get("/v1/jobs").json(200);
    let unseen = socket.ask(json!({ "type": "request", "action": "core.echo" }));
    socket.answer(&unseen);
    let waits = json!({ "action": "slow", "payload": { "ms": 400 }, "mode": "async", "id": "late" });
    client
        .post_with("/v1/requests", &[("prefer", "wait=10")], &waits)
        .json(200);
    client
        .post("/v1/requests", &json!({ "action": "none" }))
        .problem(404, "INVALID_ACTION");
    let bad = socket.ask(json!({ "type": "request", "action": "none" }));
    let seen = line(&tenant, "the frame", of_id(&json!(bad)));
    assert_eq!(seen["sampled_by"], "bad");
    let mut by: Vec<(String, String)> = tenant
        .server
        .requests()
        .into_iter()
        .map(|line| {
            let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            (text("sampled_by"), text("network.protocol.name"))
        })
        .collect();
    by.sort();
    let expected = [("bad", "http"), ("bad", "websocket"), ("late", "http")];
    assert_eq!(by, expected.map(|(by, over)| (by.to_owned(), over.to_owned())));
    // Nothing is kept of a payload that nobody asked to see.
    assert!(
        tenant
            .server
            .requests()
            .iter()
            .all(|line| line.get("request").is_none())
    );
}

#[test]
fn a_configuration_that_cannot_be_used_is_told_and_breaks_no_request() {
    let tenant = tenant(r#"{"rules":[{"rate":2}],"payloads":"none"}"#);
    let client = tenant.client("alice");
    client.post("/v1/requests", &json!({ "action": "core.echo" })).json(200);
    client
        .post("/v1/requests", &json!({ "action": "none" }))
        .problem(404, "INVALID_ACTION");
    let seen = line(&tenant, "by what holds without it", |line| {
        line["error.type"] == "INVALID_ACTION"
    });
    assert_eq!(seen["sampled_by"], "failed");
    let log = tenant.server.log();
    for fault in [
        "/rules/0/rate: expected a number from 0 to 1, got 2",
        "/payloads: expected no such field",
    ] {
        assert!(log.contains(fault), "{fault}");
    }
    let ready = Client::new(&tenant.server.url(), None).get("/readyz").json(200);
    let checks = ready["checks"].as_array().expect("checks");
    let log = checks
        .iter()
        .find(|check| check["name"] == "request log")
        .expect("the check");
    assert_eq!((&log["status"], &log["ready"]), (&json!("warn"), &json!(true)));
    assert!(
        log["remedy"]
            .as_str()
            .is_some_and(|text| text.contains("TIDEGATE_REQUEST_LOG"))
    );
}
