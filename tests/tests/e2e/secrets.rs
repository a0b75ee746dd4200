//! Secrets: set, referred to, rotated, deleted; and that a value is nowhere but where it is sent.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::eventually;
use tidegate_tests::handler::Handler;
use tidegate_tests::http::{Answer, Client};
use tidegate_tests::receiver;
use tidegate_tests::server::{DEPLOYMENT_KEY, Server};
use tidegate_tests::socket::job_of;
use tidegate_tests::tenant::{Tenant, composition};
use tidegate_tests::unique;

/// Within so long an isolate sends what was set last.
const SECONDS: Duration = Duration::from_secs(5);

fn admin(tenant: &Tenant) -> Client {
    tenant.client_with("root", "admin jobs:write")
}

fn set(tenant: &Tenant, name: &str, body: &Value) -> Answer {
    let path = format!("/v1/admin/secrets/{name}");
    let headers = [("content-type", "application/json")];
    admin(tenant).send("PUT", &path, &headers, body.to_string().as_bytes())
}

fn delete(tenant: &Tenant, name: &str) -> Answer {
    admin(tenant).send("DELETE", &format!("/v1/admin/secrets/{name}"), &[], &[])
}

fn list(tenant: &Tenant) -> Value {
    admin(tenant).get("/v1/admin/secrets").json(200)["secrets"].clone()
}

/// An upstream that answers with the status in the path's last segment, and repeats what it is sent.
fn echo() -> Handler {
    Handler::start(|_, received| {
        let status = received.path.rsplit('/').next().and_then(|status| status.parse().ok());
        let body = json!({ "you_said": received.headers }).to_string();
        Some(receiver::Answer::of(status.unwrap_or(200), &body))
    })
}

/// What the upstream was sent last in `Authorization`.
fn sent(upstream: &Handler) -> Option<String> {
    let last = upstream.received().pop()?;
    let header = last.headers.into_iter().find(|(name, _)| name == "authorization");
    header.map(|(_, value)| value)
}

/// A composition whose upstream is sent this `Authorization`.
fn document(upstream: &Handler, authorization: &str) -> Value {
    let main = json!({
        "base_url": upstream.url(), "allow_private": true, "timeout": "5s",
        "headers": { "Authorization": authorization },
    });
    let mut document = composition(None);
    document["patterns"]["up"] = json!({ "use": "http", "config": { "upstreams": { "main": main } } });
    for (action, mode, path) in [
        ("get", "sync", "/200"),
        ("job", "async", "/200"),
        ("bad", "sync", "/401"),
    ] {
        let with = json!({ "upstream": "main", "method": "GET", "path": path });
        document["actions"][action] = json!({ "run": "up.call", "mode": mode, "with": with });
    }
    document["actions"]["job"]["retry"] = json!({ "attempts": 1 });
    document["actions"]["job"]["lease"] = json!("2s");
    document
}

fn ask(tenant: &Tenant, action: &str) -> Answer {
    tenant
        .client("alice")
        .post("/v1/requests", &json!({ "action": action }))
}

/// Runs the job to its end.
fn job(tenant: &Tenant) -> Value {
    let client = tenant.client("alice");
    let accepted = client.post("/v1/requests", &json!({ "action": "job" })).json(202);
    client.get(&format!("/v1/jobs/{}?wait=60", job_of(&accepted))).json(200)
}

/// The files below `folder` that hold `text`.
fn holding(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(holding(&path, text));
        } else if let Ok(bytes) = std::fs::read(&path)
            && bytes.windows(text.len()).any(|window| window == text.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn a_secret_is_sent_where_the_composition_refers_to_it_and_stands_nowhere_else() {
    let tenant = Tenant::new(Arc::new(Server::start()));
    let upstream = echo();
    let (name, value) = (format!("bank-{}", unique()), format!("hunter2-{}", unique()));
    let made = set(&tenant, &name, &json!({ "value": value }));
    assert_eq!(made.header("cache-control"), "no-store");
    let made = made.json(201);
    assert_eq!(
        (made["name"].as_str(), made["version"].as_u64()),
        (Some(name.as_str()), Some(1))
    );
    tenant.put_composition(&document(&upstream, &format!("Bearer ${{secret:{name}}}")));
    // By the hub, and by the executor.
    eventually("the composition", || (ask(&tenant, "get").status == 200).then_some(()));
    let bearer = Some(format!("Bearer {value}"));
    assert_eq!(sent(&upstream), bearer);
    let count = upstream.received().len();
    assert_eq!(job(&tenant)["result"]["status"], 200);
    assert_eq!(
        (sent(&upstream), upstream.received().len()),
        (bearer.clone(), count + 1)
    );
    // An upstream that repeats it in a refusal.
    let refused = ask(&tenant, "bad");
    assert_eq!((refused.status, sent(&upstream)), (502, bearer.clone()));
    assert!(!refused.text().contains(&value), "{}", refused.text());
    // What administrators see: no value, nor how long it is.
    let shown = [
        list(&tenant).to_string(),
        admin(&tenant).get("/v1/admin/composition").json(200).to_string(),
        admin(&tenant).get("/v1/admin/audit").json(200).to_string(),
    ];
    assert!(
        shown.iter().all(|text| text.contains(&name) && !text.contains(&value)),
        "{shown:?}"
    );
    assert!(shown[2].contains("secret.created"), "{}", shown[2]);
    let fields: Vec<String> = list(&tenant)[0]
        .as_object()
        .expect("an object")
        .keys()
        .cloned()
        .collect();
    assert_eq!(fields, ["created_at", "name", "version"]);
    // A kill keeps it. Neither state nor log hold it, and both can be looked into.
    tenant.server.kill();
    let files = tenant.server.files();
    assert!(!holding(files, &name).is_empty(), "the name is in the state");
    assert_eq!(holding(files, &value), Vec::<String>::new());
    tenant.server.start_again();
    eventually("the server", || (ask(&tenant, "get").status == 200).then_some(()));
    assert_eq!(sent(&upstream), bearer);
    assert_eq!(holding(tenant.server.files(), &value), Vec::<String>::new());
}

#[test]
fn a_rotated_secret_is_sent_within_seconds_and_a_deleted_one_fails_the_attempt() {
    let tenant = Tenant::shared();
    let upstream = echo();
    set(&tenant, "bank", &json!({ "value": "one" })).json(201);
    tenant.put_composition(&document(&upstream, "Bearer ${secret:bank}"));
    eventually("the composition", || (ask(&tenant, "get").status == 200).then_some(()));
    assert_eq!(job(&tenant)["result"]["status"], 200);
    let rotated = set(&tenant, "bank", &json!({ "value": "two", "overlap_ms": 60_000 })).json(200);
    assert_eq!(rotated["version"], 2);
    assert!(
        rotated["rotated_at"].is_string() && rotated["old_value_until"].is_string(),
        "{rotated}"
    );
    // The same once more is nothing new.
    let same = set(&tenant, "bank", &json!({ "value": "two", "overlap_ms": 0 })).json(200);
    assert_eq!(same, rotated);
    thread::sleep(SECONDS);
    assert_eq!(
        (ask(&tenant, "get").status, sent(&upstream)),
        (200, Some("Bearer two".into()))
    );
    job(&tenant);
    assert_eq!(sent(&upstream), Some("Bearer two".into()));
    // Both at once: each sets a version, or one is told of the other.
    let racers: Vec<u16> = thread::scope(|scope| {
        let racers: Vec<_> = (0..4)
            .map(|number| {
                let tenant = &tenant;
                scope.spawn(move || set_status(tenant, &format!("racer {number}")))
            })
            .collect();
        racers
            .into_iter()
            .map(|racer| racer.join().expect("a status"))
            .collect()
    });
    let wins = u64::try_from(racers.iter().filter(|status| **status == 200).count()).expect("few");
    assert!(
        wins > 0 && racers.iter().all(|status| matches!(status, 200 | 409)),
        "{racers:?}"
    );
    assert_eq!(list(&tenant)[0]["version"], 2 + wins);
    // Without it, the attempt fails, says so, and sends nothing.
    assert_eq!(delete(&tenant, "bank").status, 204);
    delete(&tenant, "bank").problem(404, "NOT_FOUND");
    thread::sleep(SECONDS);
    let count = upstream.received().len();
    let problem = ask(&tenant, "get").problem(500, "SECRET_UNUSABLE");
    assert_eq!(problem["details"][0]["got"], "bank", "{problem}");
    let failed = job(&tenant);
    assert_eq!(
        (failed["status"].as_str(), failed["error"]["code"].as_str()),
        (Some("failed"), Some("SECRET_UNUSABLE"))
    );
    assert_eq!(upstream.received().len(), count);
    set(&tenant, "bank", &json!({ "value": "three" })).json(201);
    let end = Instant::now() + SECONDS;
    while ask(&tenant, "get").status != 200 {
        assert!(Instant::now() < end, "it is not sent");
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(sent(&upstream), Some("Bearer three".into()));
}

fn set_status(tenant: &Tenant, value: &str) -> u16 {
    set(tenant, "bank", &json!({ "value": value })).status
}

#[test]
fn a_composition_cannot_refer_to_what_is_not_set_or_is_another_tenants() {
    let (tenant, other) = (Tenant::shared(), Tenant::shared());
    let upstream = echo();
    set(&other, "bank", &json!({ "value": "theirs" })).json(201);
    set(&tenant, "banks", &json!({ "value": "ours" })).json(201);
    let refused = |authorization: &str| {
        let document = document(&upstream, authorization).to_string();
        let headers = [("content-type", "application/json")];
        let answer = admin(&tenant).send("PUT", "/v1/admin/composition", &headers, document.as_bytes());
        answer.problem(422, "VALIDATION_ERROR")
    };
    let problem = refused("${secret:bank} ${secret:nothing}");
    let pointer = "/patterns/up/config/upstreams/main/headers/Authorization";
    let details = problem["details"].as_array().expect("details");
    assert_eq!(details.len(), 2, "{problem}");
    assert!(details.iter().all(|fault| fault["pointer"] == pointer), "{problem}");
    assert_eq!(
        (&details[0]["got"], &details[0]["suggestion"]),
        (&json!("bank"), &json!("banks"))
    );
    assert_eq!(refused("${secret:Bank}")["details"][0]["pointer"], pointer);
    // What is refused does not become active.
    ask(&tenant, "get").problem(404, "INVALID_ACTION");
    // Nobody else administers them, and nothing shows another tenant's.
    let names: Vec<Value> = list(&tenant)
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["name"].clone())
        .collect();
    assert_eq!(names, ["banks"]);
    delete(&tenant, "bank").problem(404, "NOT_FOUND");
    let nobody = tenant.client_with("ann", "jobs:write");
    nobody.get("/v1/admin/secrets").problem(403, "FORBIDDEN");
    for method in ["PUT", "DELETE"] {
        let answer = nobody.send(method, "/v1/admin/secrets/banks", &[], b"{\"value\":\"x\"}");
        answer.problem(403, "FORBIDDEN");
    }
}

#[test]
fn a_bad_secret_is_told_of_all_its_faults_and_never_repeated() {
    let tenant = Tenant::shared();
    let body = json!({ "value": ["hunter2"], "overlap_ms": "hunter2", "more": "hunter2" });
    let answer = set(&tenant, "No%20Name", &body);
    assert!(!answer.text().contains("hunter2"), "{}", answer.text());
    let problem = answer.problem(422, "VALIDATION_ERROR");
    assert_eq!(problem["details"].as_array().map(Vec::len), Some(4), "{problem}");
    let answer = set(&tenant, "bank", &json!("hunter2"));
    assert!(!answer.text().contains("hunter2"), "{}", answer.text());
    answer.problem(422, "VALIDATION_ERROR");
    let long = "é".repeat(8192);
    set(&tenant, "bank", &json!({ "value": long })).json(201);
    set(&tenant, "bank", &json!({ "value": format!("{long}x") })).problem(422, "VALIDATION_ERROR");
    // It is kept whole, and cannot stand in a header.
    let upstream = echo();
    tenant.put_composition(&document(&upstream, "${secret:bank}"));
    eventually("the composition", || (ask(&tenant, "get").status == 500).then_some(()));
    ask(&tenant, "get").problem(500, "SECRET_UNUSABLE");
    assert_eq!(upstream.received().len(), 0);
}

#[test]
fn secrets_survive_a_new_deployment_key_while_the_one_before_is_known() {
    let other = "YW5vdGhlci1kZXBsb3ltZW50LWtleS1vZi10ZXN0cyE";
    let tenant = Tenant::new(Arc::new(Server::start()));
    let upstream = echo();
    set(&tenant, "bank", &json!({ "value": "one" })).json(201);
    tenant.put_composition(&document(&upstream, "Bearer ${secret:bank}"));
    eventually("the composition", || (ask(&tenant, "get").status == 200).then_some(()));
    tenant.server.kill();
    tenant.server.start_again_with(other, Some(DEPLOYMENT_KEY));
    eventually("the server", || (ask(&tenant, "get").status == 200).then_some(()));
    assert_eq!(sent(&upstream), Some("Bearer one".into()));
    assert_eq!(list(&tenant)[0]["old_deployment_key"], true);
    // Without the old one it does not open, and says so.
    tenant.server.kill();
    tenant.server.start_again_with(other, None);
    eventually("the server", || (ask(&tenant, "get").status == 500).then_some(()));
    let problem = ask(&tenant, "get").problem(500, "SECRET_UNUSABLE");
    assert!(
        problem["detail"].as_str().expect("words").contains("deployment key"),
        "{problem}"
    );
    // Set again, be it the same, it is good under the new key.
    let again = set(&tenant, "bank", &json!({ "value": "one", "overlap_ms": 0 })).json(200);
    assert_eq!(
        (&again["version"], &again["old_deployment_key"]),
        (&json!(2), &Value::Null)
    );
    eventually("the secret", || (ask(&tenant, "get").status == 200).then_some(()));
    assert_eq!(sent(&upstream), Some("Bearer one".into()));
    assert_eq!(list(&tenant)[0]["old_deployment_key"], Value::Null);
}
