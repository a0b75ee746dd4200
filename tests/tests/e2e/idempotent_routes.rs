//! `Idempotency-Key` on the routes that change something and are no requests: done once, answered as the first was, and seen
//! by nobody else.

use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use serde_json::{Value, json};
use tidegate_tests::http::{Answer, Client};
use tidegate_tests::server::Server;
use tidegate_tests::socket::job_of;
use tidegate_tests::stage::{Between, Stage};
use tidegate_tests::tenant::{Tenant, composition};
use tidegate_tests::{SOON, eventually, unique};

use crate::three_ways;

three_ways! {
    a_request_sent_again_is_answered_as_the_first_was(super::answered_again);
}

fn waiting(client: &Client) -> String {
    let body = json!({ "action": "slow", "payload": { "ms": 1 }, "delay_ms": 600_000 });
    job_of(&client.post("/v1/requests", &body).json(202))
}

fn with_key(client: &Client, path: &str, key: &str, body: &Value) -> Answer {
    client.post_with(path, &[("idempotency-key", key)], body)
}

fn is_replay(answer: &Answer) -> bool {
    answer.header("idempotency-replayed") == "true"
}

/// Sends the same twice: the second answer is the first again, and says so.
fn twice(client: &Client, method: &str, path: &str, body: &Value, between: impl FnOnce()) -> Answer {
    let key = unique();
    let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
    let text = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let send = || client.send(method, path, &headers, text.as_bytes());
    let first = send();
    assert!(!is_replay(&first), "{}", first.text());
    between();
    let second = send();
    assert!(is_replay(&second), "{method} {path}: {}", second.text());
    assert_eq!((second.status, &second.body), (first.status, &first.body));
    for name in ["content-type", "location", "cache-control"] {
        assert_eq!(second.header(name), first.header(name), "{name} of {path}");
    }
    first
}

fn answered_again(between: Between) {
    let mut stage = Stage::new(between, None);
    let client = stage.tenant.client("alice");
    let job = waiting(&client);
    let path = format!("/v1/jobs/{job}:reschedule");
    // Each time that it is made, the start is another.
    let later = json!({ "delay_ms": 700_000 });
    let first = with_key(&client, &path, "\"one\"", &later);
    let shown = first.json(200);
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let again = with_key(&client, &path, "one", &later);
    assert_eq!(again.json(200), shown, "quoted or bare, it is the same key");
    assert!(is_replay(&again) && !is_replay(&first));
    let job_now = client.get(&format!("/v1/jobs/{job}")).json(200);
    assert_eq!(job_now["run_at"], shown["run_at"], "it was moved once");
    // Another body, another query and another path under the key are other requests.
    let other = waiting(&client);
    for (path, body) in [
        (path.clone(), json!({ "delay_ms": 1 })),
        (format!("{path}?x=1"), later.clone()),
        (format!("/v1/jobs/{other}:reschedule"), later.clone()),
    ] {
        with_key(&client, &path, "one", &body).problem(422, "IDEMPOTENCY_MISMATCH");
    }
    // Another key is another request, and another route has keys of its own.
    let moved = with_key(&client, &path, "two", &later).json(200);
    assert_ne!(moved["run_at"], shown["run_at"]);
    let paused = with_key(&client, &format!("/v1/jobs/{job}:pause"), "one", &json!({}));
    assert_eq!(paused.json(200)["status"], "paused");
    assert!(!is_replay(&paused));
    stage.finish(None);
}

#[test]
fn routes_of_every_kind_are_answered_again() {
    let tenant = Tenant::shared();
    tenant.compose(None);
    let client = tenant.client("alice");
    let operator = tenant.client_with("op", "jobs:write jobs:read admin");
    let (job, other) = (waiting(&client), waiting(&client));
    let retried = twice(&client, "POST", &format!("/v1/jobs/{job}:retry"), &json!({}), || ());
    assert_eq!(retried.header("location"), format!("/v1/jobs/{job}"));
    let held = twice(
        &operator,
        "POST",
        "/v1/queue:pause",
        &json!({ "action": "sl*" }),
        || {
            operator.post("/v1/queue:resume", &json!({ "action": "sl*" })).json(200);
        },
    );
    assert_eq!(held.status, 200, "{}", held.text());
    let queue = operator.get("/v1/queue").json(200);
    assert_eq!(queue["pauses"], json!([]), "the pause was not made again");
    twice(&client, "POST", "/v1/jobs:cancel", &json!({ "ids": [other] }), || ());
    // A refusal that looked at the state of things is an answer as well, of whichever kind.
    let refused = twice(&client, "POST", &format!("/v1/jobs/{other}:pause"), &json!({}), || ());
    refused.problem(409, "CONFLICT");
    let document = composition(None);
    let activated = twice(&operator, "PUT", "/v1/admin/composition", &document, || ());
    assert!(activated.json(200)["revision"].is_string());
    client.send("PUT", "/v1/objects/a.txt", &[], b"one");
    let deleted = twice(&client, "DELETE", "/v1/objects/a.txt", &json!(null), || {
        client.send("PUT", "/v1/objects/a.txt", &[], b"two");
    });
    assert_eq!(deleted.status, 204);
    let kept = client.get("/v1/objects/a.txt");
    assert_eq!((kept.status, kept.body.as_slice()), (200, b"two".as_slice()));
}

#[test]
fn what_was_refused_before_anything_was_looked_at_leaves_its_key_free() {
    let tenant = Tenant::shared();
    tenant.compose(None);
    let client = tenant.client("alice");
    let job = waiting(&client);
    let path = format!("/v1/jobs/{job}:reschedule");
    let bad = with_key(&client, &path, "k", &json!({ "delay_ms": -1 }));
    bad.problem(422, "VALIDATION_ERROR");
    assert!(!is_replay(&with_key(&client, &path, "k", &json!({ "delay_ms": -1 }))));
    with_key(&client, &path, "k", &json!({ "delay_ms": 700_000 })).json(200);
    let all = json!({ "tenant": true });
    with_key(&client, "/v1/queue:pause", "q", &all).problem(403, "FORBIDDEN");
    let operator = tenant.client_with("alice", "jobs:write");
    assert!(!is_replay(&with_key(&operator, "/v1/queue:pause", "q", &all)));
}

#[test]
fn a_key_that_cannot_be_read_is_400_everywhere() {
    let tenant = Tenant::shared();
    tenant.compose(None);
    let client = tenant.client_with("op", "jobs:write admin");
    let job = waiting(&client);
    let long = "k".repeat(129);
    for path in [
        "/v1/requests",
        "/v1/requests:batch",
        "/v1/schedules/x:trigger",
        "/v1/queue:pause",
        &format!("/v1/jobs/{job}:cancel"),
    ] {
        for key in ["\"open", "\"a\", \"b\"", "\"\"", long.as_str()] {
            let problem = with_key(&client, path, key, &json!({})).problem(400, "VALIDATION_ERROR");
            let fault = &problem["details"][0];
            assert_eq!(fault["pointer"], "/headers/idempotency-key", "{path}: {problem}");
            assert!(fault["expected"].as_str().is_some_and(|text| text.contains("1 to 128")));
        }
    }
    assert_eq!(client.get(&format!("/v1/jobs/{job}")).json(200)["status"], "scheduled");
    // What honours no key passes it over.
    assert_eq!(with_key(&client, "/v1/tickets", "\"open", &json!({})).status, 201);
}

#[test]
fn nobody_else_is_given_an_answer_by_sending_the_key() {
    let tenants = [Tenant::shared(), Tenant::shared()];
    let body = json!({ "ids": ["job_000000000000000000000000"] });
    for tenant in &tenants {
        tenant.compose(None);
        for user in ["alice", "bob"] {
            let client = tenant.client(user);
            let job = waiting(&client);
            let body = json!({ "ids": [job] });
            let answer = with_key(&client, "/v1/jobs:cancel", "shared", &body);
            assert_eq!(answer.json(200)["jobs"], json!([{ "job_id": job }]));
            assert!(!is_replay(&answer), "{user} of {}", tenant.id);
        }
    }
    let alice = tenants[0].client("alice");
    with_key(&alice, "/v1/jobs:cancel", "shared", &body).problem(422, "IDEMPOTENCY_MISMATCH");
}

#[test]
fn of_many_at_once_one_is_made() {
    let tenant = Tenant::shared();
    tenant.compose(None);
    let client = tenant.client("alice");
    for round in 0..5 {
        let job = waiting(&client);
        let path = format!("/v1/jobs/{job}:reschedule");
        let (key, at_once) = (unique(), Barrier::new(8));
        let answers: Vec<Answer> = thread::scope(|scope| {
            let sent: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        at_once.wait();
                        with_key(&client, &path, &key, &json!({ "delay_ms": 700_000 }))
                    })
                })
                .collect();
            sent.into_iter().map(|one| one.join().expect("an answer")).collect()
        });
        let mut made = 0;
        let now = client.get(&format!("/v1/jobs/{job}")).json(200);
        for answer in &answers {
            if answer.status == 409 {
                let problem = answer.problem(409, "IDEMPOTENCY_IN_PROGRESS");
                assert_eq!(problem["retryable"], true);
                assert!(
                    problem["retry_after_ms"]
                        .as_u64()
                        .is_some_and(|ms| (1..=1000).contains(&ms))
                );
                continue;
            }
            assert_eq!(answer.json(200)["run_at"], now["run_at"], "round {round}");
            made += usize::from(!is_replay(answer));
        }
        assert_eq!(made, 1, "round {round}");
    }
}

#[test]
fn a_key_is_held_while_its_request_is_under_way_and_freed_where_nothing_came_of_it() {
    let server = Arc::new(Server::start_faulty());
    let tenant = Tenant::new(Arc::clone(&server));
    let client = tenant.client("alice");
    let delete = |key: &str| client.send("DELETE", "/v1/objects/x", &[("idempotency-key", key)], &[]);
    server.objects("fail");
    delete("failed").problem(503, "UNAVAILABLE");
    server.objects("work");
    let done = delete("failed");
    assert_eq!((done.status, is_replay(&done)), (204, false), "the key was free");
    assert!(is_replay(&delete("failed")));

    server.objects("hang");
    // Of two at once one is made, and its answer never comes: the bucket's call hangs for good.
    let (sender, answers) = mpsc::channel();
    for _ in 0..2 {
        let (client, sender) = (client.clone(), sender.clone());
        thread::spawn(move || {
            let answer = client.try_send("DELETE", "/v1/objects/x", &[("idempotency-key", "held")], &[]);
            drop(sender.send(answer));
        });
    }
    // Where nothing else is under way, the runtime notices that the one can never end, and answers for it: in either order.
    let problem = (0..2)
        .filter_map(|_| answers.recv_timeout(SOON).expect("the other is answered"))
        .find(|answer| answer.status != 500)
        .expect("an answer of ours");
    problem.problem(409, "IDEMPOTENCY_IN_PROGRESS");
    assert!(!problem.header("retry-after").is_empty());
    delete("held").problem(409, "IDEMPOTENCY_IN_PROGRESS");
}

#[test]
fn a_client_that_goes_away_leaves_no_key_behind_that_is_held() {
    let tenant = Tenant::shared();
    tenant.compose(None);
    let client = tenant.client("alice");
    let token = tenant.token("alice", "");
    for _ in 0..5 {
        let (job, key) = (waiting(&client), unique());
        let path = format!("/v1/jobs/{job}:reschedule");
        let body = json!({ "delay_ms": 700_000 });
        let text = body.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", tenant.server.port())).expect("a connection");
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
             idempotency-key: {key}\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        );
        stream.write_all(request.as_bytes()).expect("it is sent");
        drop(stream);
        let answer = eventually("the key is not held", || {
            Some(with_key(&client, &path, &key, &body)).filter(|answer| answer.status != 409)
        });
        let now = client.get(&format!("/v1/jobs/{job}")).json(200);
        assert_eq!(answer.json(200)["run_at"], now["run_at"]);
    }
}

#[test]
fn requests_and_batches_mark_what_was_answered_before() {
    let tenant = Tenant::shared();
    tenant.compose(None);
    let client = tenant.client("alice");
    let one = json!({ "action": "slow", "payload": { "ms": 1 } });
    let several = json!([one, one]);
    for (path, body) in [("/v1/requests", &one), ("/v1/requests:batch", &several)] {
        let key = unique();
        assert!(!is_replay(&with_key(&client, path, &key, body)), "{path}");
        let again = with_key(&client, path, &key, body);
        assert!(is_replay(&again), "{path}: {}", again.text());
    }
    let other = json!({ "action": "slow", "payload": { "ms": 2 } });
    with_key(&client, "/v1/requests", "k", &one);
    with_key(&client, "/v1/requests", "k", &other).problem(422, "IDEMPOTENCY_MISMATCH");
}
