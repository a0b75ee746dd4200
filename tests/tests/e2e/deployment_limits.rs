//! Limits of the deployment: what an operator allows a tenant holds beside its own limits, over all of its hubs, and only the
//! operator changes it.

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use tidegate_tests::http::{Answer, Client};
use tidegate_tests::server::Server;
use tidegate_tests::socket::job_of;
use tidegate_tests::tenant::{Tenant, composition};
use tidegate_tests::{eventually, unique};

use crate::access::{operator, operator_issuer};

/// The server that these tests share.
fn operated() -> Arc<Server> {
    static OPERATED: OnceLock<Arc<Server>> = OnceLock::new();
    OPERATED
        .get_or_init(|| Arc::new(Server::start_with_issuers(&[operator_issuer()])))
        .clone()
}

fn path(tenant: &Tenant) -> String {
    format!("/v1/admin/tenants/{}/limits", tenant.id)
}

fn put(client: &Client, path: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json")];
    client.send("PUT", path, &headers, body.to_string().as_bytes())
}

/// Has the deployment allow the tenant this.
fn allow(tenant: &Tenant, limits: &Value) -> Value {
    put(&operator(&tenant.server), &path(tenant), limits).json(200)
}

fn quota(units: u32) -> Value {
    json!({ "admission": { "limits": { "requests": { "quota": { "units": units, "per": "1d" } } } } })
}

/// A tenant with so many hubs, whose own limit has room for 500 requests.
fn tenant(hubs: u16) -> Tenant {
    let tenant = Tenant::new(operated());
    let mut document = composition(None);
    document["scale"]["hubs"] = json!(hubs);
    document["admission"] = json!({ "limits": { "requests": { "quota": { "units": 500, "per": "1d" } } } });
    tenant.put_composition(&document);
    tenant
}

fn echo(tenant: &Tenant, user: &str) -> Answer {
    let body = json!({ "action": "core.echo", "payload": 1 });
    tenant.client(user).post("/v1/requests", &body)
}

/// Eight users on all hubs send so many requests each, at once; gives how many were admitted.
fn admitted(tenant: &Tenant, each: usize) -> usize {
    std::thread::scope(|scope| {
        let users = (0..8).map(|n| {
            scope.spawn(move || {
                let mut socket = tenant.socket(&format!("user-{n}"));
                let mut admitted = 0;
                for _ in 0..each {
                    let id = socket.ask(json!({ "action": "core.echo", "payload": 1 }));
                    let answer = socket.answer(&id);
                    match answer["type"].as_str() {
                        Some("response") => admitted += 1,
                        _ => assert_eq!(answer["error"]["code"], "QUOTA_EXCEEDED", "{answer}"),
                    }
                }
                admitted
            })
        });
        let users: Vec<_> = users.collect();
        users.into_iter().map(|user| user.join().expect("no panic")).sum()
    })
}

/// What is left of the deployment's limit, once all that was lent is back.
fn remaining(tenant: &Tenant) -> Value {
    let admin = tenant.client_with("root", "admin");
    let view = admin.get("/v1/admin/limits?limit=deployment:requests").json(200);
    view["buckets"][0]["remaining"].clone()
}

/// Evicts the gate and all hubs.
fn evict(tenant: &Tenant, hubs: u16) {
    for hub in 0..hubs {
        tenant.server.evict("Hub", &format!("t:{}:hub:{hub}", tenant.id));
    }
    tenant.server.evict("Tenant", &format!("t:{}:gate", tenant.id));
}

#[test]
fn hubs_admit_exactly_the_lower_of_both_limits_and_go_on_after_an_eviction() {
    const HUBS: u16 = 4;
    let tenant = tenant(HUBS);
    // Hubs that have admitted by the tenant's own limit already hear of the other before the operator is answered.
    assert_eq!(admitted(&tenant, 3), 24);
    allow(&tenant, &quota(60));
    assert_eq!(admitted(&tenant, 20), 60);
    eventually("all that was lent is back", || (remaining(&tenant) == 0).then_some(()));
    evict(&tenant, HUBS);
    assert_eq!(admitted(&tenant, 3), 0);
    // A refused request has consumed nothing of the tenant's own limit either: 84 of 500 are gone.
    let view = tenant
        .client_with("root", "admin")
        .get("/v1/admin/limits?limit=requests")
        .json(200);
    assert_eq!(view["buckets"][0]["remaining"], 416, "{view}");
    // More at once, less at once, and none at all.
    allow(&tenant, &quota(80));
    assert_eq!(admitted(&tenant, 5), 20);
    evict(&tenant, HUBS);
    allow(&tenant, &quota(10));
    assert_eq!(admitted(&tenant, 1), 0);
    let view = allow(&tenant, &json!({}));
    assert!(view.get("deployment").is_none(), "{view}");
    assert_eq!(admitted(&tenant, 3), 24);
}

#[test]
fn only_the_operator_changes_what_the_tenants_administrator_sees() {
    let tenant = tenant(1);
    let (operator, admin) = (operator(&tenant.server), tenant.client_with("root", "admin"));
    let limits = quota(2);
    // Nobody else may, and no tenant is made by asking for it.
    for client in [&admin, &tenant.client("ann")] {
        put(client, &path(&tenant), &json!({})).problem(403, "FORBIDDEN");
        client.get(&path(&tenant)).problem(403, "FORBIDDEN");
    }
    let nobody = format!("/v1/admin/tenants/t-{}/limits", unique());
    put(&operator, &nobody, &limits).problem(404, "NOT_FOUND");
    put(&admin, "/v1/admin/limits", &json!({})).problem(405, "METHOD_NOT_ALLOWED");
    // All that is wrong is told.
    let bad = json!({
        "admission": { "limits": { "A": { "rate": { "units": 0, "per": "1m" } } }, "budgets": {} },
        "queue": { "waitng": 1 },
    });
    let problem = put(&operator, &path(&tenant), &bad).problem(422, "VALIDATION_ERROR");
    let faults = problem["details"].as_array().expect("faults");
    assert_eq!(faults.len(), 4, "{problem}");
    assert!(faults.iter().any(|fault| fault["suggestion"] == "waiting"), "{problem}");
    assert!(operator.get(&path(&tenant)).json(200).get("deployment").is_none());

    let set = put(&operator, &path(&tenant), &limits).json(200);
    assert_eq!(set["deployment"], limits);
    assert_eq!(operator.get(&path(&tenant)).json(200)["deployment"], limits);
    assert_eq!(admin.get("/v1/admin/limits").json(200)["deployment"], limits);
    // A composition of the tenant's own cannot reach it, by no name.
    for name in ["deployment:requests", "requests"] {
        let mut document = composition(None);
        document["admission"] = json!({ "limits": { name: { "quota": { "units": 900, "per": "1d" } } } });
        let answer = tenant.try_composition(&document);
        assert_eq!(answer.status == 200, name == "requests", "{}", answer.text());
    }
    echo(&tenant, "ann").json(200);
    echo(&tenant, "bob").json(200);
    let refused = echo(&tenant, "ann");
    assert!(
        refused
            .header("ratelimit-policy")
            .starts_with("\"deployment:requests\";q=2;")
    );
    assert!(!refused.header("retry-after").is_empty());
    let problem = refused.problem(429, "QUOTA_EXCEEDED");
    assert_eq!(problem["limit"]["name"], "deployment:requests");
    assert_eq!(
        problem["detail"],
        "The quota `deployment:requests` has no room: it allows 2 in 1d. It is the deployment's, not the tenant's own."
    );
    let counts = admin.get("/v1/admin/limits").json(200)["counts"].clone();
    assert_eq!(counts["deployment:requests"]["refused"], 1, "{counts}");
    // What the operator did is in the tenant's trail, with who did it.
    let trail = admin.get("/v1/admin/audit").json(200);
    let mut entries = trail["entries"].as_array().expect("entries").iter();
    let entry = entries.find(|entry| entry["what"] == "limits.set");
    assert_eq!(entry.expect("an entry")["who"]["user"], "op", "{trail}");
    // Another tenant has nothing to do with it.
    let other = Tenant::new(tenant.server.clone());
    for _ in 0..3 {
        echo(&other, "ann").json(200);
    }
    assert!(
        other
            .client_with("root", "admin")
            .get("/v1/admin/limits")
            .json(200)
            .get("deployment")
            .is_none()
    );
}

#[test]
fn connections_and_waiting_jobs_are_bounded_as_well() {
    let tenant = tenant(2);
    allow(
        &tenant,
        &json!({
            "admission": { "connections": { "per_tenant": 3, "per_user": 2 } },
            "queue": { "waiting": 2 },
        }),
    );
    let closed = |user: &str| tenant.socket(user).welcome;
    let mut sockets = vec![tenant.socket("ann"), tenant.socket("ann")];
    let third = closed("ann");
    assert_eq!(
        (&third["type"], &third["code"], &third["reason"]),
        (
            &json!("goodbye"),
            &json!(3505),
            &json!("the user has as many connections as the deployment allows")
        ),
    );
    sockets.push(tenant.socket("bob"));
    let fourth = closed("cem");
    assert_eq!(
        (&fourth["code"], &fourth["reason"]),
        (
            &json!(3505),
            &json!("the tenant has as many connections as the deployment allows")
        ),
    );
    sockets.iter_mut().for_each(|socket| socket.echoes());
    // Jobs that wait, whose own bound the composition does not say.
    let client = tenant.client("ann");
    tenant
        .client_with("root", "jobs:write")
        .post("/v1/queue:pause", &json!({ "tenant": true }))
        .json(200);
    let later = || client.post("/v1/requests", &json!({ "action": "slow", "payload": { "ms": 1 } }));
    later().json(202);
    later().json(202);
    let full = later().problem(429, "QUEUE_FULL");
    assert_eq!(full["retryable"], true);
    allow(&tenant, &json!({}));
    later().json(202);
    closed("cem");
    assert_eq!(closed("cem")["type"], "welcome");
}

/// Over two objects of the job queue, whichever way the jobs came: by requests, or by a schedule.
#[test]
fn no_more_jobs_run_at_once_than_the_deployment_allows() {
    let tenant = Tenant::new(operated());
    let mut document = composition(None);
    document["scale"]["shards"] = json!(2);
    document["schedules"] = json!({
        "yearly": { "cron": "0 0 1 1 *", "action": "slow", "payload": { "ms": 400 }, "overlap": "allow" }
    });
    tenant.put_composition(&document);
    allow(&tenant, &json!({ "queue": { "concurrency": 2 } }));
    let (client, admin) = (
        tenant.client("ann"),
        tenant.client_with("root", "admin jobs:read jobs:write"),
    );
    let mut jobs: Vec<String> = (0..6)
        .map(|n| {
            let user = tenant.client(&format!("user-{n}"));
            let job = json!({ "action": "slow", "payload": { "ms": 400 } });
            job_of(&user.post("/v1/requests", &job).json(202))
        })
        .collect();
    for _ in 0..3 {
        jobs.push(job_of(
            &admin.post("/v1/schedules/yearly:trigger", &json!({})).json(202),
        ));
    }
    let mut most = 0;
    eventually("all of them have ended", || {
        let queue = admin.get("/v1/queue").json(200);
        most = most.max(queue["running"].as_u64().expect("a number"));
        (queue["running"] == 0 && queue["waiting"] == 0).then_some(())
    });
    assert!((1..=2).contains(&most), "{most}");
    // By their own words: at no moment did three of them run.
    let mut moments: Vec<(String, i32)> = Vec::new();
    for job in &jobs {
        let job = admin.get(&format!("/v1/jobs/{job}")).json(200);
        assert_eq!(job["status"], "succeeded", "{job}");
        let at = |name: &str| job[name].as_str().expect("a time").to_owned();
        moments.push((at("started_at"), 1));
        moments.push((at("ended_at"), -1));
    }
    moments.sort();
    let mut running = 0;
    for (at, change) in &moments {
        running += change;
        assert!(running <= 2, "{running} at {at}");
    }
    // What it waits for is named.
    allow(&tenant, &json!({ "queue": { "concurrency": 1 } }));
    let long = || {
        job_of(
            &client
                .post("/v1/requests", &json!({ "action": "slow", "payload": { "ms": 3_000 } }))
                .json(202),
        )
    };
    let (_, waits) = (long(), long());
    let why = client.get(&format!("/v1/jobs/{waits}/why")).json(200);
    assert!(why.to_string().contains("deployment:concurrency"), "{why}");
}

#[test]
fn a_template_says_what_the_deployment_allows_its_tenants() {
    let server = operated();
    let operator = operator(&server);
    let id = format!("small-{}", unique());
    let bad = json!({ "tenant": id, "template": "broken-limits" });
    let problem = operator
        .post("/v1/admin/tenants", &bad)
        .problem(422, "VALIDATION_ERROR");
    let pointers: Vec<&str> = problem["details"]
        .as_array()
        .expect("faults")
        .iter()
        .filter_map(|fault| fault["pointer"].as_str())
        .collect();
    assert_eq!(
        pointers,
        ["/template/composition/actions/x/run", "/template/limits/queue/waiting"],
        "{problem}"
    );
    operator
        .get(&format!("/v1/admin/tenants/{id}"))
        .problem(404, "NOT_FOUND");
    let new = json!({ "tenant": id, "template": "small" });
    assert_eq!(operator.post("/v1/admin/tenants", &new).json(201)["state"], "active");
    let tenant = Tenant {
        id,
        ..Tenant::new(server)
    };
    let hello = || {
        tenant
            .client("ann")
            .post("/v1/requests", &json!({ "action": "hello", "payload": "a" }))
    };
    assert_eq!(hello().json(200)["data"], "a");
    hello().problem(429, "RATE_LIMITED");
    // A composition of its own changes nothing of that.
    tenant.compose(None);
    echo(&tenant, "ann").problem(429, "RATE_LIMITED");
}
