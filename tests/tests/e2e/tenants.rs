//! Who sees what: nothing of one tenant reaches another, and inside a tenant a user reaches their own jobs.

use std::time::Instant;

use serde_json::{Value, json};
use tidegate_tests::http::Client;
use tidegate_tests::socket::{Socket, job_of};
use tidegate_tests::tenant::Tenant;
use tidegate_tests::{eventually, token, unique};

/// A job of `user` that runs until it is cancelled.
fn endless_job(tenant: &Tenant, user: &str) -> String {
    let body = json!({ "action": "core.delay", "payload": { "ms": 600_000, "steps": 2 } });
    job_of(&tenant.client(user).post("/v1/requests", &body).json(202))
}

fn cancel(tenant: &Tenant, user: &str, job: &str) {
    let answer = tenant
        .client(user)
        .send("POST", &format!("/v1/jobs/{job}:cancel"), &[], &[]);
    assert_eq!(answer.status, 202, "{}", answer.text());
}

/// Everything that can be asked about a job answers as if there were none.
fn assert_hidden(client: &Client, socket: &mut Socket, job: &str) {
    for path in ["", "?wait=1", "/events", "/result"] {
        client.get(&format!("/v1/jobs/{job}{path}")).is_not_found();
    }
    let json = [("accept", "application/json")];
    client
        .send("GET", &format!("/v1/jobs/{job}/events"), &json, &[])
        .is_not_found();
    client
        .send("POST", &format!("/v1/jobs/{job}:cancel"), &[], &[])
        .is_not_found();
    for frame in [
        json!({ "type": "attach", "job_id": job }),
        json!({ "type": "attach", "job_id": job, "after": 0 }),
        json!({ "type": "cancel", "job_id": job }),
    ] {
        let request = socket.ask(frame.clone());
        let answer = socket.answer(&request);
        assert_eq!(answer["error"]["code"], "NOT_FOUND", "{frame}: {answer}");
    }
    let list = client.get("/v1/jobs").json(200);
    assert!(!list.to_string().contains(job), "{list}");
}

/// A job id that has the right form and that no one has.
fn absent(job: &str) -> String {
    let (head, tail) = job.split_at(job.len() - 6);
    format!("{head}{}", if tail == "000000" { "000001" } else { "000000" })
}

fn assert_runs(tenant: &Tenant, user: &str, job: &str) {
    let stored = tenant.client(user).get(&format!("/v1/jobs/{job}")).json(200);
    assert!(
        matches!(stored["status"].as_str(), Some("running" | "queued")),
        "{stored}"
    );
}

#[test]
fn another_tenants_job_is_not_there() {
    let (mine, theirs) = (Tenant::shared(), Tenant::shared());
    let job = endless_job(&theirs, "alice");
    // The same user name, and every scope there is.
    let scope = "admin jobs:read jobs:write";
    let client = mine.client_with("alice", scope);
    let mut socket = mine.socket_with(&mine.token("alice", scope));
    assert_hidden(&client, &mut socket, &job);
    // What is hidden and what is absent are answered alike, to the letter.
    let bare = |answer: tidegate_tests::http::Answer| {
        let mut problem = answer.problem(404, "NOT_FOUND");
        if let Some(fields) = problem.as_object_mut() {
            fields.retain(|name, _| !matches!(name.as_str(), "request_id" | "trace_id" | "instance"));
        }
        problem
    };
    assert_eq!(
        bare(client.get(&format!("/v1/jobs/{job}"))),
        bare(client.get(&format!("/v1/jobs/{}", absent(&job))))
    );
    assert_runs(&theirs, "alice", &job);
    cancel(&theirs, "alice", &job);
}

/// Requests of each kind that a time is the median of.
const TIMED: usize = 200;

/// The median times of `GET` of these paths, in milliseconds, asked in turn so that whatever else the machine does meets
/// all of them alike.
fn medians(client: &Client, paths: &[String]) -> Vec<f64> {
    let mut times = vec![Vec::with_capacity(TIMED); paths.len()];
    for _ in 0..TIMED {
        for (path, times) in paths.iter().zip(&mut times) {
            let begin = Instant::now();
            client.get(path).is_not_found();
            times.push(begin.elapsed().as_secs_f64() * 1000.0);
        }
    }
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    times.into_iter().map(median).collect()
}

#[test]
fn another_tenants_job_takes_as_long_to_deny_as_one_that_nobody_has() {
    let (mine, theirs) = (Tenant::shared(), Tenant::shared());
    let job = endless_job(&theirs, "alice");
    let client = mine.client_with("alice", "jobs:read");
    // Twice what is absent: their difference is what no secret causes.
    let paths = [job.clone(), absent(&job), absent(&job)].map(|job| format!("/v1/jobs/{job}"));
    medians(&client, &paths);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let times = medians(&client, &paths);
        let [foreign, one, other] = times[..] else {
            unreachable!("three paths")
        };
        let noise = (one - other).abs();
        // A look into another object, or a row more, costs a fifth of the whole and more.
        let bound = (noise * 3.0).max(one.max(other) * 0.1).max(0.2);
        seen.push(format!("{foreign:.3} ms, absent {one:.3} and {other:.3} ms"));
        if (foreign - one).abs() <= bound && (foreign - other).abs() <= bound {
            println!("another tenant's job is denied in {}", seen.join("; "));
            return cancel(&theirs, "alice", &job);
        }
    }
    panic!("the time tells them apart: {seen:#?}");
}

#[test]
fn another_users_job_is_not_there_without_a_scope() {
    let tenant = Tenant::shared();
    let job = endless_job(&tenant, "alice");
    let mut bob = tenant.socket("bob");
    assert_hidden(&tenant.client("bob"), &mut bob, &job);
    assert_runs(&tenant, "alice", &job);

    let reader = tenant.client_with("carol", "jobs:read");
    assert_eq!(reader.get(&format!("/v1/jobs/{job}")).json(200)["user"], "alice");
    assert!(reader.get("/v1/jobs").json(200).to_string().contains(&job));
    let refused = reader.send("POST", &format!("/v1/jobs/{job}:cancel"), &[], &[]);
    assert!(
        matches!(refused.status, 403 | 404),
        "to read is not to write: {}",
        refused.text()
    );
    assert_runs(&tenant, "alice", &job);

    let writer = tenant.client_with("dave", "jobs:write");
    let cancelled = writer.send("POST", &format!("/v1/jobs/{job}:cancel"), &[], &[]);
    assert_eq!(cancelled.status, 202, "{}", cancelled.text());
    eventually("the end of the job", || {
        let stored = tenant.client("alice").get(&format!("/v1/jobs/{job}")).json(200);
        (stored["status"] == "cancelled").then_some(())
    });
}

#[test]
fn another_tenants_object_is_not_there() {
    let (mine, theirs) = (Tenant::shared(), Tenant::shared());
    let key = format!("secret-{}.txt", unique());
    let owner = theirs.client("alice");
    let put = owner.send(
        "PUT",
        &format!("/v1/objects/{key}"),
        &[("content-type", "text/plain")],
        b"theirs",
    );
    assert!(matches!(put.status, 200 | 201 | 204), "{}", put.text());
    let client = mine.client_with("alice", "admin jobs:read jobs:write");
    let names = [
        key.clone(),
        format!("../{}/{key}", theirs.id),
        format!("..%2F{}%2F{key}", theirs.id),
        format!("%2e%2e/{}/{key}", theirs.id),
        format!("/{}/{key}", theirs.id),
        format!("t:{}:{key}", theirs.id),
        format!("{}/{key}", theirs.id),
        format!("t/{}/o/{key}", theirs.id),
    ];
    // A job cannot reach it.
    let body = json!({ "action": "report.summarize", "payload": { "object": format!("../{}/{key}", theirs.id) } });
    let answer = client.post("/v1/requests", &body);
    if answer.status == 202 {
        let done = client
            .get(&format!("/v1/jobs/{}?wait=20", job_of(&answer.json(202))))
            .json(200);
        assert_eq!(done["status"], "failed", "{done}");
    } else {
        assert!((400..500).contains(&answer.status), "{}", answer.text());
    }
    for name in names {
        for method in ["GET", "HEAD", "DELETE"] {
            let answer = client.send(method, &format!("/v1/objects/{name}"), &[], &[]);
            let harmless = matches!(answer.status, 400 | 404 | 422) || (method == "DELETE" && answer.status == 204);
            assert!(harmless, "{method} {name}: {}", answer.text());
        }
        // Writing under such a name may be refused or may be the tenant's own; never the other's.
        let _ = client.send(
            "PUT",
            &format!("/v1/objects/{name}"),
            &[("content-type", "text/plain")],
            b"mine",
        );
        assert_eq!(
            owner.get(&format!("/v1/objects/{key}")).body,
            b"theirs",
            "after writing {name}"
        );
    }
}

#[test]
fn the_tenant_comes_from_the_token_and_from_nothing_else() {
    let (mine, theirs) = (Tenant::shared(), Tenant::shared());
    let principal = json!({
        "tenant": theirs.id, "user": "mallory", "scopes": ["admin", "jobs:read", "jobs:write"],
        "expires_at": token::now_seconds() * 1000 + 60_000,
    })
    .to_string();
    let headers = [
        ("x-tidegate-principal", principal.as_str()),
        ("x-tidegate-internal", "1"),
        ("x-tidegate-tenant", &theirs.id),
        ("x-tenant", &theirs.id),
        ("x-tenant-id", &theirs.id),
        ("x-user", "mallory"),
        ("x-forwarded-host", &theirs.id),
    ];
    let claims = json!({ "tenant": theirs.id, "tid": theirs.id, "user": "mallory", "sub": "mallory" });
    let query = format!("?tenant={0}&tid={0}&user=mallory", theirs.id);
    let body = json!({
        "action": "core.delay", "payload": { "ms": 1 }, "metadata": claims, "mode": "async",
    });
    let client = mine.client("alice");
    let job = job_of(
        &client
            .post_with(&format!("/v1/requests{query}"), &headers, &body)
            .json(202),
    );
    let stored = client.get(&format!("/v1/jobs/{job}")).json(200);
    assert_eq!(stored["user"], "alice", "{stored}");
    let scope = "admin jobs:read jobs:write";
    theirs
        .client_with("mallory", scope)
        .get(&format!("/v1/jobs/{job}"))
        .is_not_found();
    assert_eq!(
        theirs.client_with("mallory", scope).get("/v1/jobs").json(200)["jobs"],
        json!([])
    );

    // Nor do the headers open what the token does not.
    let secret = endless_job(&theirs, "mallory");
    client
        .send("GET", &format!("/v1/jobs/{secret}{query}"), &headers, &[])
        .is_not_found();
    let put = client.send(
        "PUT",
        "/v1/admin/composition",
        &[&headers[..], &[json_type()]].concat(),
        b"{}",
    );
    put.problem(403, "FORBIDDEN");
    let bare = Client::new(&mine.server.url(), None);
    bare.send("GET", &format!("/v1/jobs/{secret}"), &headers, &[])
        .problem(401, "UNAUTHORIZED");
    cancel(&theirs, "mallory", &secret);

    // The same on a socket, whose upgrade travels further inside with a principal of the server's own making.
    let bearer = format!("Bearer {}", mine.token("alice", ""));
    let headers = [
        ("authorization", bearer.as_str()),
        ("x-tidegate-principal", principal.as_str()),
        ("x-tidegate-internal", "1"),
        ("x-tenant", &theirs.id),
    ];
    let path = format!("/v1/connect{query}");
    let mut socket = Socket::connect(mine.server.port(), &path, &headers, &mine.observer).expect("a good token");
    assert_eq!(socket.welcome["tenant"], mine.id, "{}", socket.welcome);
    assert_eq!(socket.welcome["user"], "alice", "{}", socket.welcome);
    let frame = json!({ "action": "core.echo", "payload": claims, "metadata": claims });
    let request = socket.ask(frame);
    let answer = socket.answer(&request);
    assert_eq!(answer["data"], claims, "a payload is data: {answer}");
}

fn json_type() -> (&'static str, &'static str) {
    ("content-type", "application/json")
}

#[test]
fn a_header_of_the_servers_own_opens_no_socket() {
    let tenant = Tenant::shared();
    let principal = json!({ "tenant": tenant.id, "user": "mallory" }).to_string();
    let headers = [
        ("x-tidegate-principal", principal.as_str()),
        ("x-tidegate-internal", "1"),
    ];
    let refused = Socket::connect(tenant.server.port(), "/v1/connect", &headers, &tenant.observer);
    assert_eq!(refused.err().map(|refused| refused.status), Some(401));
}

#[test]
fn an_administrators_things_need_the_scope_admin() {
    let tenant = Tenant::shared();
    let document: Value = tidegate_tests::tenant::composition(None);
    let bytes = document.to_string();
    for scope in ["", "jobs:read jobs:write", "administrator", "admin:read"] {
        let client = tenant.client_with("alice", scope);
        let answer = client.send("PUT", "/v1/admin/composition", &[json_type()], bytes.as_bytes());
        answer.problem(403, "FORBIDDEN");
    }
    tenant.put_composition(&document);
}

#[test]
fn what_the_parts_ask_each_other_cannot_be_asked_from_outside() {
    let tenant = Tenant::shared();
    let principal =
        json!({ "tenant": tenant.id, "user": "mallory", "scopes": ["admin"], "expires_at": u64::MAX >> 12 });
    let principal = principal.to_string();
    let headers = [("x-tidegate-principal", principal.as_str())];
    for client in [
        tenant.client_with("alice", "admin"),
        Client::new(&tenant.server.url(), None),
    ] {
        for path in [
            "/internal/execute",
            "/internal",
            "/execute",
            "/answer",
            "/rows-written",
            "/connect",
            "/v1/internal/execute",
        ] {
            for method in ["GET", "POST"] {
                let body: &[u8] = if method == "POST" { b"\x01\xa0" } else { b"" };
                let answer = client.send(method, path, &headers, body);
                assert!(
                    matches!(answer.status, 401 | 403 | 404),
                    "{method} {path}: {}",
                    answer.text()
                );
            }
        }
    }
}
