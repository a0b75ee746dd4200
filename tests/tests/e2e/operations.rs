//! What an operator and a tool look at, and the rows of the protocol that are not there yet.

use serde_json::{Value, json};
use tidegate_tests::http::Client;
use tidegate_tests::socket::job_of;
use tidegate_tests::tenant::Tenant;

#[test]
fn health_readiness_and_the_description_of_the_api_need_no_token() {
    let tenant = Tenant::shared();
    let client = Client::new(&tenant.server.url(), None);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(client.get(path).status, 200, "{path}");
        assert_eq!(client.send("HEAD", path, &[], &[]).status, 200, "{path}");
    }
    let description = client.get("/openapi.json").json(200);
    let published = include_str!("../../../docs/reference/openapi.json");
    let published: Value = serde_json::from_str(published).expect("a description");
    assert!(
        description == published,
        "the description that is served is the published one"
    );
    assert!(
        description["openapi"]
            .as_str()
            .is_some_and(|version| version.starts_with("3.")),
        "{description}"
    );
    for path in [
        "/v1/requests",
        "/v1/jobs/{id}",
        "/v1/jobs/{id}/events",
        "/v1/objects/{key}",
        "/v1/tickets",
    ] {
        assert!(description["paths"][path].is_object(), "{path} is described");
    }
}

#[test]
fn an_objects_database_behaves_as_the_native_one_of_the_tests() {
    let tenant = Tenant::shared();
    let name = format!("t:{}:jobs:0", tenant.id);
    assert_eq!(tenant.server.ask("Jobs", &name, "/sql-suite"), "ok");
    // The suite was taken back, so that it runs again as on the first day.
    assert_eq!(tenant.server.ask("Jobs", &name, "/sql-suite"), "ok");
}

#[test]
fn rows_of_the_protocol_that_are_not_there_yet_say_so() {
    let tenant = Tenant::shared();
    let client = tenant.client_with("alice", "admin");
    for (method, path) in [("GET", "/v1/channels/c/members"), ("POST", "/v1/channels/c:publish")] {
        let body: &[u8] = if method == "POST" { b"{}" } else { b"" };
        let answer = client.send(method, path, &[("content-type", "application/json")], body);
        answer.problem(501, "NOT_IMPLEMENTED");
    }
}

#[test]
fn jobs_are_listed_newest_first_and_in_pages() {
    let tenant = Tenant::shared();
    let client = tenant.client("alice");
    let body = |ms: u64| json!({ "action": "core.delay", "payload": { "ms": ms } });
    let made: Vec<String> = (1..=5)
        .map(|ms| job_of(&client.post("/v1/requests", &body(ms)).json(202)))
        .collect();
    for job in &made {
        assert_eq!(
            client.get(&format!("/v1/jobs/{job}?wait=20")).json(200)["status"],
            "succeeded"
        );
    }
    let mut listed = Vec::new();
    let mut path = "/v1/jobs?limit=2&status=succeeded".to_owned();
    loop {
        let page: Value = client.get(&path).json(200);
        let jobs = page["jobs"].as_array().expect("a list of jobs");
        assert!(jobs.len() <= 2, "{page}");
        listed.extend(jobs.iter().map(job_of));
        match page["cursor"].as_str() {
            Some(cursor) => path = format!("/v1/jobs?limit=2&status=succeeded&cursor={cursor}"),
            None => break,
        }
        assert!(listed.len() <= made.len(), "the pages never end: {listed:?}");
    }
    let newest_first: Vec<String> = made.into_iter().rev().collect();
    assert_eq!(listed, newest_first);
    assert_eq!(client.get("/v1/jobs?status=failed").json(200)["jobs"], json!([]));
    client.get("/v1/jobs?status=dancing").problem(422, "VALIDATION_ERROR");
}

#[test]
fn a_bad_composition_is_refused_with_all_its_faults_and_changes_nothing() {
    let tenant = Tenant::shared();
    tenant.compose(None);
    let admin = tenant.client_with("admin", "admin");
    let document = json!({
        "tidegate": 1,
        "patterns": { "core": { "use": "cor" } },
        "actions": {
            "a": { "run": "core.nothing" },
            "b": { "run": "core.delay", "mode": "quick", "lease": "soon" },
            "c d": { "run": "core.echo" },
        },
        "colour": "blue",
    });
    let json_type = [("content-type", "application/json")];
    let answer = admin.send(
        "PUT",
        "/v1/admin/composition",
        &json_type,
        document.to_string().as_bytes(),
    );
    let problem = answer.problem(422, "VALIDATION_ERROR");
    let details = problem["details"].to_string();
    for pointer in [
        "/colour",
        "/patterns/core/use",
        "/actions/b/mode",
        "/actions/b/lease",
        "/actions/c d",
    ] {
        assert!(details.contains(&format!("\"{pointer}")), "{pointer}: {problem}");
    }
    let again = tenant
        .client("alice")
        .post("/v1/requests", &json!({ "action": "slow", "payload": { "ms": 1 } }));
    assert_eq!(
        again.status,
        202,
        "the composition before it is still active: {}",
        again.text()
    );
}

#[test]
fn an_action_asks_for_its_scopes() {
    let tenant = Tenant::shared();
    let mut document = tidegate_tests::tenant::composition(None);
    document["actions"]["guarded"] = json!({ "run": "core.echo", "mode": "sync", "scopes": ["guards"] });
    tenant.put_composition(&document);
    let body = json!({ "action": "guarded", "payload": 1 });
    tenant
        .client_with("alice", "other")
        .post("/v1/requests", &body)
        .problem(403, "FORBIDDEN");
    tenant
        .client_with("alice", "other guards")
        .post("/v1/requests", &body)
        .json(200);
}
