//! Pages of other origins: who may open a socket, who may read an answer, and what a preflight is told.

use serde_json::{Value, json};
use tidegate_tests::eventually;
use tidegate_tests::http::{Answer, Client};
use tidegate_tests::socket::{Refused, Socket};
use tidegate_tests::tenant::{Tenant, composition};

const LISTED: &str = "https://app.example.com";
const OTHER: &str = "https://evil.example.com";
const PREFLIGHT: [(&str, &str); 2] = [
    ("access-control-request-method", "POST"),
    (
        "access-control-request-headers",
        "authorization,content-type,idempotency-key",
    ),
];

fn with_origins(tenant: &Tenant, origins: &Value) {
    let mut document = composition(None);
    document["browsers"] = json!({ "origins": origins });
    tenant.put_composition(&document);
}

/// What the Worker heard of a tenant lately, it goes by: until then the old list holds for answers.
fn until_read(client: &Client, origin: &str) {
    let what = format!("answers are shared with {origin}");
    eventually(&what, || readable_by(client, "/v1/jobs", origin, 200));
}

fn connect(tenant: &Tenant, path: &str, headers: &[(&'static str, &str)]) -> Result<Socket, Refused> {
    Socket::connect(tenant.server.port(), path, headers, &tenant.observer)
}

/// Connects as a page of `origin` does: with the token in the list of subprotocols.
fn connect_from(tenant: &Tenant, origin: &str) -> Result<Socket, Refused> {
    let list = format!("tidegate.v1, bearer.{}", tenant.token("ann", ""));
    connect(
        tenant,
        "/v1/connect",
        &[("sec-websocket-protocol", &list), ("origin", origin)],
    )
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name).map(|value| value.to_str().unwrap())
}

fn allowed(answer: &Answer) -> Option<&str> {
    header(answer, "access-control-allow-origin")
}

/// Asks as a page of `origin`, and gives who may read the answer.
fn readable_by(client: &Client, path: &str, origin: &str, status: u16) -> Option<String> {
    let answer = client.send("GET", path, &[("origin", origin)], &[]);
    assert_eq!(answer.status, status, "{path}: {}", answer.text());
    assert_eq!(header(&answer, "vary"), Some("Origin"), "{path}");
    assert_eq!(header(&answer, "access-control-allow-credentials"), None, "{path}");
    allowed(&answer).map(str::to_owned)
}

#[test]
fn a_socket_opens_for_pages_of_listed_origins_alone() {
    let tenant = Tenant::shared();
    // No list: as ever.
    connect_from(&tenant, OTHER).expect("no list").echoes();
    with_origins(&tenant, &json!([LISTED, "http://localhost:*"]));
    for origin in [LISTED, "http://localhost:5173", "http://localhost"] {
        let mut socket = connect_from(&tenant, origin).expect(origin);
        assert_eq!(socket.subprotocol.as_deref(), Some("tidegate.v1"));
        socket.echoes();
    }
    for origin in [
        OTHER,
        "http://app.example.com",
        "https://app.example.com.evil.example",
        "https://localhost:5173",
        "null",
    ] {
        let refused = connect_from(&tenant, origin).map(|_| ()).expect_err(origin);
        assert_eq!(refused.status, 403, "{origin}: {}", refused.body);
        assert!(refused.body.contains("FORBIDDEN"), "{}", refused.body);
    }
    // What is no browser sends no origin.
    tenant.socket("ann").echoes();
    with_origins(&tenant, &json!([]));
    connect_from(&tenant, LISTED).map(|_| ()).expect_err("an empty list");
    with_origins(&tenant, &json!(["*"]));
    connect_from(&tenant, OTHER).expect("every origin").echoes();
}

#[test]
fn a_page_that_may_not_come_in_spends_no_ticket() {
    let tenant = Tenant::shared();
    with_origins(&tenant, &json!([LISTED]));
    let answer = tenant.client("ann").send("POST", "/v1/tickets", &[], &[]).json(201);
    let path = format!("/v1/connect?ticket={}", answer["ticket"].as_str().unwrap());
    let refused = connect(&tenant, &path, &[("origin", OTHER)])
        .map(|_| ())
        .expect_err("another page");
    assert_eq!(refused.status, 403, "{}", refused.body);
    connect(&tenant, &path, &[("origin", LISTED)])
        .expect("the ticket is still good")
        .echoes();
    let refused = connect(&tenant, &path, &[("origin", LISTED)])
        .map(|_| ())
        .expect_err("once");
    assert_eq!(refused.status, 401, "{}", refused.body);
}

#[test]
fn an_answer_is_read_by_pages_of_listed_origins_alone() {
    let tenant = Tenant::shared();
    let client = tenant.client("ann");
    // No list: no page reads anything.
    assert_eq!(readable_by(&client, "/v1/jobs", LISTED, 200), None);
    with_origins(&tenant, &json!([LISTED]));
    let other = Tenant::shared();
    with_origins(&other, &json!([OTHER]));
    let stranger = other.client("ann");
    until_read(&client, LISTED);
    until_read(&stranger, OTHER);
    // A route that asks a hub, one that does not, one that is refused, and one that streams.
    let job = client
        .post("/v1/requests", &json!({ "action": "slow", "payload": { "ms": 1 } }))
        .json(202);
    let id = job["job_id"].as_str().unwrap();
    for (path, status) in [
        ("/v1/jobs".to_owned(), 200),
        ("/v1/channels/chat:1/messages".to_owned(), 404),
        ("/v1/admin/limits".to_owned(), 403),
        (format!("/v1/jobs/{id}/events"), 200),
    ] {
        assert_eq!(readable_by(&client, &path, LISTED, status).as_deref(), Some(LISTED));
        assert_eq!(readable_by(&client, &path, OTHER, status), None, "{path}");
    }
    // A list is the tenant's own.
    assert_eq!(readable_by(&stranger, "/v1/jobs", LISTED, 200), None);
    assert_eq!(readable_by(&stranger, "/v1/jobs", OTHER, 200).as_deref(), Some(OTHER));
    // Without an origin nothing is said of any.
    let plain = client.get("/v1/jobs");
    assert_eq!((allowed(&plain), header(&plain, "vary")), (None, None));
}

#[test]
fn an_answer_that_was_kept_is_shared_with_whoever_asks_again() {
    let tenant = Tenant::shared();
    with_origins(&tenant, &json!([LISTED]));
    let client = tenant.client_with("ann", "jobs:write");
    until_read(&client, LISTED);
    let mut answers = Vec::new();
    for origin in [Some(LISTED), Some(OTHER), None, Some(LISTED)] {
        let mut headers = vec![("idempotency-key", "pause"), ("content-type", "application/json")];
        headers.extend(origin.map(|origin| ("origin", origin)));
        let answer = client.send("POST", "/v1/queue:pause", &headers, br#"{"tenant":true}"#);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(allowed(&answer), origin.filter(|origin| *origin == LISTED));
        answers.push(answer);
    }
    let exposed = header(&answers[3], "access-control-expose-headers").unwrap();
    for name in [
        "idempotency-replayed",
        "location",
        "retry-after",
        "ratelimit",
        "ratelimit-policy",
        "etag",
    ] {
        assert!(exposed.split(", ").any(|exposed| exposed == name), "{name}: {exposed}");
    }
    assert_eq!(answers[3].header("idempotency-replayed"), "true");
}

#[test]
fn a_page_can_read_that_its_token_is_good_no_longer() {
    let tenant = Tenant::shared();
    let client = Client::new(&tenant.server.url(), Some("not.a.token"));
    let answer = client.send("GET", "/v1/jobs", &[("origin", OTHER)], &[]);
    assert_eq!((answer.status, allowed(&answer)), (401, Some("*")));
    // What everybody may see is shared with no page all the same.
    let health = client.send("GET", "/healthz", &[("origin", OTHER)], &[]);
    assert_eq!((health.status, allowed(&health)), (200, None));
}

#[test]
fn a_preflight_is_answered_for_every_path_that_there_is() {
    let tenant = Tenant::shared();
    let client = Client::new(&tenant.server.url(), None);
    for (path, methods) in [
        ("/v1/requests", "POST, OPTIONS"),
        ("/v1/jobs/job_1", "GET, HEAD, OPTIONS"),
        ("/v1/objects/a/b", "GET, PUT, DELETE, HEAD, OPTIONS"),
        ("/v1/tickets", "POST, OPTIONS"),
    ] {
        let mut headers = vec![("origin", OTHER)];
        let plain = client.send("OPTIONS", path, &headers, &[]);
        assert_eq!(
            (plain.status, header(&plain, "access-control-allow-methods")),
            (204, None)
        );
        headers.extend(PREFLIGHT);
        let answer = client.send("OPTIONS", path, &headers, &[]);
        assert_eq!(
            (answer.status, allowed(&answer), answer.body.len()),
            (204, Some("*"), 0)
        );
        let mut said: Vec<&str> = answer.header("access-control-allow-methods").split(", ").collect();
        let mut expected: Vec<&str> = methods.split(", ").collect();
        said.sort_unstable();
        expected.sort_unstable();
        assert_eq!(said, expected, "{path}");
        assert_eq!(answer.header("allow"), answer.header("access-control-allow-methods"));
        let names: Vec<&str> = answer.header("access-control-allow-headers").split(", ").collect();
        for name in [
            "authorization",
            "content-type",
            "idempotency-key",
            "prefer",
            "traceparent",
        ] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
        assert_eq!(header(&answer, "access-control-allow-credentials"), None);
    }
    let mut headers = vec![("origin", OTHER)];
    headers.extend(PREFLIGHT);
    let nowhere = client.send("OPTIONS", "/v1/nowhere", &headers, &[]);
    assert_eq!(nowhere.status, 404);
}

#[test]
fn a_list_that_is_wrong_is_refused_with_every_fault() {
    let tenant = Tenant::shared();
    let mut document = composition(None);
    document["browsers"] =
        json!({ "origins": ["https://app.example.com/", "https://*.example.com", 7], "credentials": true });
    let refused = tenant.try_composition(&document);
    let problem = refused.problem(422, "VALIDATION_ERROR");
    let details = problem["details"].as_array().unwrap();
    let pointers: Vec<&str> = details.iter().filter_map(|fault| fault["pointer"].as_str()).collect();
    assert_eq!(
        pointers,
        [
            "/browsers/origins/0",
            "/browsers/origins/1",
            "/browsers/origins/2",
            "/browsers/credentials"
        ]
    );
    assert_eq!(details[0]["suggestion"], LISTED);
}
