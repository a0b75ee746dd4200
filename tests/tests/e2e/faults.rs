//! What the machine can do to a deployment: a disk that is full, and object storage that fails. Neither may make the system
//! say what is not so, and both pass without anybody's help.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_tests::handler::Handler;
use tidegate_tests::http::{Answer, Client};
use tidegate_tests::receiver;
use tidegate_tests::server::Server;
use tidegate_tests::socket::job_of;
use tidegate_tests::tenant::{Tenant, composition};
use tidegate_tests::{eventually, unique};

/// What the test needs is a fraction of it, and it is filled within a moment.
const DISK_BYTES: u64 = 48 << 20;
/// Requests that are sent to the full disk.
const REQUESTS: usize = 40;
/// More than a row holds of a payload, and of a result.
const LARGE: usize = 100_000;

fn server_of_its_own(server: Server) -> (Arc<Server>, Tenant) {
    let server = Arc::new(server);
    let tenant = Tenant::new(Arc::clone(&server));
    (server, tenant)
}

fn post(client: &Client, path: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json")];
    let answer = client.try_send("POST", path, &headers, body.to_string().as_bytes());
    answer.expect("an answer, whatever it says")
}

/// An echo of `payload` that is not made before a second is over, with a key of its own.
fn echo(payload: &Value) -> Value {
    json!({ "action": "echo", "payload": payload, "delay_ms": 1000, "idempotency_key": unique() })
}

fn ended(client: &Client, job: &str) -> Value {
    let job = client.get(&format!("/v1/jobs/{job}?wait=60")).json(200);
    assert!(job["ended_at"].is_string(), "{job}");
    job
}

/// Every job of `action` that there is.
fn listed(client: &Client, action: &str) -> Vec<String> {
    let (mut jobs, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client
            .get(&format!("/v1/jobs?action={action}&limit=100{cursor}"))
            .json(200);
        jobs.extend(page["jobs"].as_array().expect("a list").iter().map(job_of));
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return jobs,
        }
    }
}

fn one_by_one() -> Value {
    let mut document = composition(None);
    document["actions"]["echo"] = json!({ "run": "core.echo", "mode": "async" });
    document
}

#[test]
fn what_a_full_disk_cannot_store_is_refused_and_what_was_acknowledged_is_done() {
    let (server, tenant) = server_of_its_own(Server::start_on_a_disk(DISK_BYTES));
    tenant.put_composition(&one_by_one());
    let client = tenant.client("alice");
    // These fall due, and this one reports, ends and has its lease renewed, while nothing can be stored.
    let mut acknowledged: Vec<String> = (0..5)
        .map(|n| job_of(&post(&client, "/v1/requests", &echo(&json!(n))).json(202)))
        .collect();
    let slow = json!({ "action": "slow", "payload": { "ms": 1500, "steps": 3 } });
    let slow = job_of(&post(&client, "/v1/requests", &slow).json(202));

    server.fill_disk();
    let text = "x".repeat(20_000);
    let mut refused = Vec::new();
    for n in 0..REQUESTS {
        let request = echo(&json!([n, text]));
        let answer = post(&client, "/v1/requests", &request);
        // Room that the database had already may take the first of them.
        if answer.status == 202 {
            acknowledged.push(job_of(&answer.json(202)));
        } else {
            let problem = answer.problem(503, "UNAVAILABLE");
            assert_eq!(problem["retryable"], true, "{problem}");
            assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
            refused.push(request);
        }
    }
    assert!(
        refused.len() > REQUESTS / 2,
        "the disk was not full: {}",
        acknowledged.len()
    );
    // A batch has no way around it.
    let batch: Vec<Value> = (0..100).map(|n| echo(&json!([n, text]))).collect();
    let answer = post(&client, "/v1/requests:batch", &json!(batch));
    if answer.status == 200 {
        for (request, result) in batch
            .into_iter()
            .zip(answer.json(200)["results"].as_array().expect("results"))
        {
            match result["accepted"]["job_id"].as_str() {
                Some(job) => acknowledged.push(job.to_owned()),
                None => {
                    assert_eq!(result["problem"]["code"], "UNAVAILABLE", "{result}");
                    refused.push(request);
                }
            }
        }
    } else {
        answer.problem(503, "UNAVAILABLE");
        refused.extend(batch);
    }
    // What fell due meanwhile was tried, and not given up.
    thread::sleep(Duration::from_secs(3));

    server.free_disk();
    // It goes on by itself: nobody starts anything again, and nobody asks.
    thread::sleep(Duration::from_secs(20));
    for job in acknowledged.iter().chain([&slow]) {
        let job = client.get(&format!("/v1/jobs/{job}")).json(200);
        assert_eq!(job["status"], "succeeded", "{job}");
    }
    // A refused request is sent again, and is one job however often.
    for request in &refused {
        let again = eventually("room for what was refused", || {
            let answer = post(&client, "/v1/requests", request);
            (answer.status == 202).then(|| job_of(&answer.json(202)))
        });
        acknowledged.push(again);
    }
    for job in &acknowledged {
        assert_eq!(ended(&client, job)["status"], "succeeded");
    }
    let mut there = listed(&client, "echo");
    there.sort();
    acknowledged.sort();
    assert_eq!(
        there, acknowledged,
        "each acknowledged request is one job, and there is no other"
    );

    // All of it is on the disk, not in somebody's memory.
    server.kill();
    server.start_again();
    let client = tenant.client("alice");
    let mut there = listed(&client, "echo");
    there.sort();
    assert_eq!(there, acknowledged);
}

#[test]
fn while_object_storage_fails_no_large_job_is_taken_and_none_succeeds_without_its_result() {
    let handler = Handler::start(|_, _| {
        Some(receiver::Answer::of(
            200,
            &json!({ "text": "y".repeat(LARGE) }).to_string(),
        ))
    });
    let (server, tenant) = server_of_its_own(Server::start_faulty());
    let mut document = one_by_one();
    let patient = json!({ "attempts": 100, "backoff": "constant", "initial": "500ms" });
    let hasty = json!({ "attempts": 2, "backoff": "constant", "initial": "100ms" });
    let config = json!({ "url": handler.url() });
    document["patterns"]["handler"] = json!({ "use": "http-handler", "config": config });
    document["actions"]["echo"]["retry"] = patient.clone();
    document["actions"]["patient"] = json!({ "run": "handler.handle", "mode": "async", "retry": patient });
    document["actions"]["hasty"] = json!({ "run": "handler.handle", "mode": "async", "retry": hasty });
    tenant.put_composition(&document);
    let client = tenant.client("alice");
    let start = |body: &Value| job_of(&post(&client, "/v1/requests", body).json(202));
    let text = "x".repeat(LARGE);

    // Whole: a large input becomes a large result.
    let whole = start(&json!({ "action": "echo", "payload": text }));
    assert_eq!(ended(&client, &whole)["status"], "succeeded");
    let result = format!("/v1/jobs/{whole}/result");
    assert_eq!(client.get(&result).json(200), json!(text));
    // Its input is stored now, and will be asked for while it cannot be read.
    let unread = start(&json!({ "action": "echo", "payload": text, "delay_ms": 1500 }));

    server.objects("fail");
    let refused = json!({ "action": "echo", "payload": text, "idempotency_key": unique() });
    let problem = post(&client, "/v1/requests", &refused).problem(503, "UNAVAILABLE");
    assert_eq!(problem["retryable"], true, "{problem}");
    let mut socket = tenant.socket("alice");
    let asked = socket.ask(json!({ "action": "echo", "payload": text }));
    let answer = socket.answer(&asked);
    assert_eq!(
        (&answer["type"], &answer["error"]["code"]),
        (&json!("error"), &json!("UNAVAILABLE"))
    );
    client.get(&result).problem(503, "UNAVAILABLE");
    // What is small needs no storage.
    let small = start(&json!({ "action": "echo", "payload": 7 }));
    assert_eq!(ended(&client, &small)["result"], 7);
    // Their work is done, each time, and its result cannot be kept.
    let patient = start(&json!({ "action": "patient" }));
    let hasty = start(&json!({ "action": "hasty" }));
    let given_up = ended(&client, &hasty);
    assert_eq!(given_up["status"], "failed", "{given_up}");
    assert_eq!(given_up["error"]["code"], "UNAVAILABLE", "{given_up}");
    assert_eq!(given_up["attempt"], 2, "{given_up}");
    assert!(
        given_up["result"].is_null() && given_up["result_url"].is_null(),
        "{given_up}"
    );
    for job in [&unread, &patient] {
        let tried = eventually("a second attempt", || {
            let job = client.get(&format!("/v1/jobs/{job}")).json(200);
            (job["attempt"].as_u64() >= Some(2)).then_some(job)
        });
        assert!(tried["ended_at"].is_null(), "{tried}");
    }

    server.objects("work");
    for (job, expected) in [(&unread, json!(text)), (&patient, json!({ "text": "y".repeat(LARGE) }))] {
        assert_eq!(ended(&client, job)["status"], "succeeded");
        let kept = client.get(&format!("/v1/jobs/{job}/result")).json(200);
        assert!(kept == expected, "the result of {job} is not whole");
    }
    assert_eq!(client.get(&result).json(200), json!(text));
    // The key of what was refused is free.
    let again = start(&refused);
    assert_eq!(ended(&client, &again)["status"], "succeeded");
    assert_eq!(listed(&client, "echo").len(), 4, "nothing refused is there");
}

#[test]
fn object_storage_that_hangs_keeps_nobody_waiting_for_ever() {
    let answer = json!({ "text": "y".repeat(LARGE) });
    let body = answer.to_string();
    let handler = Handler::start(move |_, _| Some(receiver::Answer::of(200, &body)));
    let (server, tenant) = server_of_its_own(Server::start_faulty());
    let mut document = one_by_one();
    document["patterns"]["handler"] = json!({ "use": "http-handler", "config": { "url": handler.url() } });
    document["actions"]["large"] = json!({ "run": "handler.handle", "mode": "async", "lease": "2s" });
    tenant.put_composition(&document);
    let client = tenant.client("alice");

    server.objects("hang");
    let job = job_of(&post(&client, "/v1/requests", &json!({ "action": "large" })).json(202));
    // An attempt that cannot put its result away loses its lease, and another is made.
    handler.wait_for(2);
    let refused = json!({ "action": "echo", "payload": "x".repeat(LARGE), "idempotency_key": unique() });
    post(&client, "/v1/requests", &refused).problem(503, "UNAVAILABLE");

    server.objects("work");
    assert_eq!(ended(&client, &job)["status"], "succeeded");
    assert_eq!(client.get(&format!("/v1/jobs/{job}/result")).json(200), answer);
    let again = job_of(&post(&client, "/v1/requests", &refused).json(202));
    assert_eq!(ended(&client, &again)["status"], "succeeded");
}
