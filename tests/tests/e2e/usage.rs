//! What a tenant uses: a known load shows as exactly what it was, whoever dies in between, and budgets warn and refuse.

use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::http::{Answer, Client};
use tidegate_tests::server::{Server, shared};
use tidegate_tests::socket::{Socket, job_of};
use tidegate_tests::tenant::{Tenant, composition};
use tidegate_tests::{eventually, unique};

use crate::access::{operator, operator_issuer};

/// How long an object gathers before it reports, as the tests' servers are told (`server.rs`).
const REPORT: Duration = Duration::from_millis(200);

/// The server that these tests share.
fn counting() -> Arc<Server> {
    static COUNTING: OnceLock<Arc<Server>> = OnceLock::new();
    COUNTING.get_or_init(|| Arc::new(Server::start_counting(&[]))).clone()
}

fn admin(tenant: &Tenant) -> Client {
    tenant.client_with("root", "admin")
}

fn usage(tenant: &Tenant) -> Value {
    admin(tenant).get("/v1/admin/usage").json(200)
}

fn total(tenant: &Tenant, meter: &str) -> u64 {
    usage(tenant)["total"]["meters"][meter].as_u64().expect("a count")
}

fn echo(tenant: &Tenant) -> Answer {
    let body = json!({ "action": "core.echo", "payload": "0123456789" });
    tenant.client("alice").post("/v1/requests", &body)
}

fn put(client: &Client, path: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json")];
    client.send("PUT", path, &headers, body.to_string().as_bytes())
}

/// A composition with these budgets.
fn with_budgets(budgets: &Value) -> Value {
    let mut document = composition(None);
    document["admission"] = json!({ "budgets": budgets });
    document
}

#[test]
fn a_known_load_shows_as_exactly_what_it_was() {
    let tenant = Tenant::new(counting());
    tenant.compose(None);
    let opened = Instant::now();
    let mut socket = tenant.socket("bob");
    for _ in 0..3 {
        echo(&tenant).json(200);
    }
    for _ in 0..4 {
        let id = socket.ask(json!({ "action": "core.echo", "payload": 1 }));
        assert_eq!(socket.answer(&id)["type"], "response");
    }
    // Refused, so that they are frames and nothing else.
    let id = socket.ask(json!({ "action": "nobody.knows" }));
    assert_eq!(
        socket.frame(|frame| frame["request_id"] == id.as_str())["type"],
        "error"
    );
    tenant
        .client("alice")
        .post("/v1/requests", &json!({ "action": "nobody.knows" }))
        .problem(404, "INVALID_ACTION");
    let client = tenant.client("alice");
    for n in 0..5 {
        let job = json!({ "action": "slow", "payload": { "ms": 1 }, "idempotency_key": format!("job-{n}") });
        let accepted = client.post("/v1/requests", &job).json(202);
        let ended = client.get(&format!("/v1/jobs/{}?wait=30", job_of(&accepted))).json(200);
        assert_eq!(ended["status"], "succeeded");
        if n == 0 {
            // A request that was admitted, and no other job.
            assert_eq!(client.post("/v1/requests", &job).json(200)["deduplicated"], true);
        }
    }
    // As large as that it is put into object storage.
    let large = json!({ "action": "slow", "payload": { "ms": 1, "text": "x".repeat(40_000) } });
    client.post("/v1/requests", &large).json(202);
    let open_for = u64::try_from(opened.elapsed().as_millis()).expect("a short time");
    socket.cut();
    let meters = eventually("the reports", || {
        let meters = usage(&tenant)["total"]["meters"].clone();
        let counted = meters["connection_ms"].as_u64()? > 0 && meters["attempts"] == 6;
        counted.then_some(meters)
    });
    for (meter, expected) in [
        ("requests", 3 + 4 + 5 + 1 + 1),
        ("messages_in", 5),
        ("messages_out", 1 + 5),
        ("jobs", 6),
        ("attempts", 6),
        ("objects_stored", 1),
    ] {
        assert_eq!(meters[meter], expected, "{meter}: {meters}");
    }
    let count = |meter: &str| meters[meter].as_u64().expect("a count");
    // What the objects themselves say; the gate's own counts go with the next report or question.
    let rows = tenant.objects().map(|(class, name)| {
        let rows = tenant.server.ask(class, &name, "/rows-written");
        rows.parse::<u64>().expect("a number")
    });
    let [hub, jobs, gate] = rows;
    let counted = count("rows_written");
    assert!(
        (hub + jobs + 1..=hub + jobs + gate).contains(&counted),
        "{rows:?} {meters}"
    );
    assert!(count("rows_read") > 0, "{meters}");
    assert!(
        count("bytes_stored") > 40_000 && count("bytes_in") > count("bytes_stored"),
        "{meters}"
    );
    assert!(count("bytes_out") > 3 * 12 && count("object_calls") > 14, "{meters}");
    let connected = count("connection_ms");
    assert!((1..=open_for + 2_000).contains(&connected), "{connected} of {open_for}");
    assert!(count("awake_ms") > 0, "{meters}");
    // Nothing happens any more: nothing is counted twice.
    thread::sleep(REPORT + Duration::from_secs(2));
    for meter in [
        "requests",
        "jobs",
        "attempts",
        "messages_in",
        "messages_out",
        "connection_ms",
    ] {
        assert_eq!(total(&tenant, meter), count(meter), "{meter}");
    }
    // Another tenant has used nothing of that.
    let other = Tenant::new(tenant.server.clone());
    assert_eq!(total(&other, "requests"), 0);
}

#[test]
fn an_export_says_what_the_answer_says() {
    let tenant = Tenant::new(counting());
    tenant.compose(None);
    for _ in 0..2 {
        echo(&tenant).json(200);
    }
    eventually("the report", || (total(&tenant, "requests") == 2).then_some(()));
    let admin = admin(&tenant);
    let shown = admin.get("/v1/admin/usage?window=hour").json(200);
    let export = |format: &str| {
        let body = json!({ "format": format, "window": "hour" });
        let made = admin.post("/v1/admin/usage/export", &body).json(201);
        let fetched = admin.get(made["url"].as_str().expect("an address"));
        assert_eq!(fetched.status, 200);
        assert_eq!(made["bytes"], fetched.body.len());
        fetched
    };
    let lines = export("ndjson");
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    let text = |answer: &Answer| String::from_utf8(answer.body.clone()).expect("text");
    let lines: Vec<Value> = text(&lines)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), shown["usage"].as_array().expect("a list").len());
    assert_eq!(lines[0]["meters"]["requests"], 2);
    let csv = text(&export("csv"));
    let mut records = csv.split("\r\n");
    let names: Vec<&str> = records.next().expect("a header").split(',').collect();
    let first: Vec<&str> = records.next().expect("a record").split(',').collect();
    assert_eq!(names.len(), first.len());
    let field = |name: &str| first[names.iter().position(|known| *known == name).expect("a field")];
    assert_eq!(
        (field("requests"), field("at")),
        ("2", lines[0]["at"].as_str().expect("a time"))
    );
    assert!(csv.ends_with("\r\n"));
    // What is wrong is told, all of it.
    let bad = json!({ "format": "xml", "window": "week", "x": 1 });
    let problem = admin
        .post("/v1/admin/usage/export", &bad)
        .problem(422, "VALIDATION_ERROR");
    assert!(problem["details"].as_array().expect("faults").len() >= 2, "{problem}");
    let problem = admin
        .get("/v1/admin/usage?window=week&frm=x")
        .problem(422, "VALIDATION_ERROR");
    assert_eq!(problem["details"].as_array().expect("faults").len(), 2);
    tenant.client("alice").get("/v1/admin/usage").problem(403, "FORBIDDEN");
}

#[test]
fn a_budget_warns_and_then_refuses_while_accepted_jobs_go_on() {
    let tenant = Tenant::new(counting());
    let budgets = json!({ "few": { "meter": "requests", "per": "day", "units": 4, "warn_percent": 50 } });
    tenant.put_composition(&with_budgets(&budgets));
    let client = tenant.client("alice");
    let later = json!({ "action": "slow", "payload": { "ms": 1 }, "delay_ms": 15_000 });
    let job = job_of(&client.post("/v1/requests", &later).json(202));
    echo(&tenant).json(200);
    let stands = |state: &str| {
        eventually(state, || {
            let budget = usage(&tenant)["budgets"][0].clone();
            (budget["state"] == state).then_some(budget)
        })
    };
    let warned = stands("warned");
    assert_eq!(
        (&warned["used"], &warned["units"], &warned["set_by"]),
        (&json!(2), &json!(4), &json!("composition"))
    );
    let mut socket = tenant.socket("bob");
    for _ in 0..2 {
        echo(&tenant).json(200);
    }
    stands("spent");
    let refused = eventually("the refusal", || {
        Some(echo(&tenant)).filter(|answer| answer.status == 429)
    });
    assert!(
        refused
            .header("retry-after")
            .parse::<u64>()
            .is_ok_and(|seconds| (1..=86_400).contains(&seconds))
    );
    let problem = refused.problem(429, "QUOTA_EXCEEDED");
    assert!(
        problem["detail"].as_str().is_some_and(|text| text.contains("`few`")),
        "{problem}"
    );
    // A socket that was open before hears the same; what is read and administered is not refused.
    let id = socket.ask(json!({ "action": "core.echo", "payload": 1 }));
    let answer = socket.frame(|frame| frame["request_id"] == id.as_str());
    assert_eq!(answer["error"]["code"], "QUOTA_EXCEEDED", "{answer}");
    let ended = client.get(&format!("/v1/jobs/{job}?wait=40")).json(200);
    assert_eq!(ended["status"], "succeeded");
    // What was refused counts nothing, and each entry is there once.
    assert_eq!(total(&tenant, "requests"), 4);
    let trail = admin(&tenant).get("/v1/admin/audit").json(200);
    for what in ["budget.warned", "budget.spent"] {
        let entries = trail["entries"].as_array().expect("a list").iter();
        assert_eq!(
            entries.filter(|entry| entry["what"] == what).count(),
            1,
            "{what}: {trail}"
        );
    }
    // A larger one lets them in again.
    let budgets = json!({ "few": { "meter": "requests", "per": "day", "units": 400 } });
    tenant.put_composition(&with_budgets(&budgets));
    eventually("a request is admitted", || (echo(&tenant).status == 200).then_some(()));
}

#[test]
fn an_operator_sets_budgets_that_the_tenant_cannot_change() {
    let server = Arc::new(Server::start_counting(&[operator_issuer()]));
    let operator = operator(&server);
    let tenant = Tenant::new(server.clone());
    let path = format!("/v1/admin/tenants/{}/budgets", tenant.id);
    let body = json!({ "budgets": { "plan": { "meter": "jobs", "per": "month", "units": 1 } } });
    // No tenant is made by asking for it.
    put(&operator, &path, &body).problem(404, "NOT_FOUND");
    tenant.compose(None);
    put(&admin(&tenant), &path, &body).problem(403, "FORBIDDEN");
    let bad = json!({ "budgets": { "A": { "meter": "job", "per": "week", "units": 0, "warn": 1 } } });
    let problem = put(&operator, &path, &bad).problem(422, "VALIDATION_ERROR");
    assert_eq!(problem["details"].as_array().expect("faults").len(), 5, "{problem}");
    let set = put(&operator, &path, &body).json(200);
    assert_eq!(
        (&set["budgets"][0]["set_by"], &set["budgets"][0]["state"]),
        (&json!("operator"), &json!("open"))
    );
    let job = json!({ "action": "slow", "payload": { "ms": 1 }, "idempotency_key": unique() });
    tenant.client("alice").post("/v1/requests", &job).json(202);
    eventually("the refusal", || (echo(&tenant).status == 429).then_some(()));
    let of_tenant = operator
        .get(&format!("/v1/admin/tenants/{}/usage?window=month", tenant.id))
        .json(200);
    assert_eq!(of_tenant["total"]["meters"]["jobs"], 1);
    // A composition of the tenant's own changes nothing of it, nor does a restart.
    tenant.put_composition(&with_budgets(&json!({})));
    server.kill();
    server.start_again();
    let operator = self::operator(&server);
    echo(&tenant).problem(429, "QUOTA_EXCEEDED");
    put(&operator, &path, &json!({ "budgets": {} })).json(200);
    eventually("a request is admitted", || (echo(&tenant).status == 200).then_some(()));
}

#[test]
fn a_kill_loses_at_most_what_was_not_reported() {
    let server = Arc::new(Server::start_counting(&[]));
    let tenant = Tenant::new(server.clone());
    tenant.compose(None);
    for _ in 0..5 {
        echo(&tenant).json(200);
    }
    eventually("the report", || (total(&tenant, "requests") == 5).then_some(()));
    // Not reported when everything dies.
    echo(&tenant).json(200);
    server.kill();
    server.start_again();
    echo(&tenant).json(200);
    eventually("the next report", || (total(&tenant, "requests") >= 6).then_some(()));
    thread::sleep(REPORT + Duration::from_secs(2));
    let counted = total(&tenant, "requests");
    assert!((6..=7).contains(&counted), "{counted}");
    // Objects that are evicted between their reports begin new runs, and none counts twice.
    for (class, name) in tenant.objects() {
        server.evict(class, &name);
    }
    echo(&tenant).json(200);
    eventually("the report behind an eviction", || {
        (total(&tenant, "requests") == counted + 1).then_some(())
    });
}

/// Asks `socket` for one more, and gives how long the hub was awake after it had answered.
fn awake_after_a_frame(tenant: &Tenant, socket: &mut Socket) -> Duration {
    let id = socket.ask(json!({ "action": "core.echo", "payload": 1 }));
    assert_eq!(socket.answer(&id)["type"], "response");
    let answered = Instant::now();
    let hub = format!("t:{}:hub:0", tenant.id);
    assert!(tenant.server.evict("Hub", &hub), "{hub} has not answered");
    answered.elapsed()
}

#[test]
fn a_hub_sleeps_soon_after_its_last_frame_and_loses_no_count_by_that() {
    let tenant = Tenant::new(shared());
    tenant.compose(None);
    let idle: Vec<Socket> = (0..10).map(|_| tenant.socket("idle")).collect();
    let mut socket = tenant.socket("bob");
    let id = socket.ask(json!({ "action": "core.echo", "payload": 1 }));
    assert_eq!(socket.answer(&id)["type"], "response");
    eventually("the first report", || (total(&tenant, "requests") == 1).then_some(()));
    // The next one comes too soon for a report of its own: a socket keeps the count while the hub sleeps.
    let awake = awake_after_a_frame(&tenant, &mut socket);
    assert!(awake < Duration::from_secs(5), "awake for {awake:?}");
    assert_eq!((total(&tenant, "requests"), total(&tenant, "messages_in")), (1, 1));
    // It begins anew, and tells both.
    let awake = awake_after_a_frame(&tenant, &mut socket);
    assert!(awake < Duration::from_secs(5), "awake for {awake:?}");
    let meters = eventually("the next report", || {
        let meters = usage(&tenant)["total"]["meters"].clone();
        (meters["requests"] == 3).then_some(meters)
    });
    assert_eq!(meters["messages_in"], 3, "{meters}");
    assert_eq!(meters["messages_out"], 11 + 3, "{meters}");
    // What the sockets that go keep is told as well, and nothing twice.
    awake_after_a_frame(&tenant, &mut socket);
    awake_after_a_frame(&tenant, &mut socket);
    socket.cut();
    idle.into_iter().for_each(Socket::cut);
    let meters = eventually("the last report", || {
        let meters = usage(&tenant)["total"]["meters"].clone();
        (meters["requests"] == 5 && meters["connection_ms"].as_u64()? > 0).then_some(meters)
    });
    assert_eq!(
        (&meters["messages_in"], &meters["messages_out"]),
        (&json!(5), &json!(16)),
        "{meters}"
    );
    let hub = tenant.server.constructed(&format!("t:{}:hub:0", tenant.id));
    assert_eq!(hub, 5, "it slept four times, and nothing else had it wake");
}
