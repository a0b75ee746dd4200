//! `POST /v1/requests:batch`: many requests in one body, and a result for each.

use serde_json::{Value, json};
use tidegate_tests::http::{Answer, Client};
use tidegate_tests::socket::job_of;
use tidegate_tests::stage::{Between, Stage};
use tidegate_tests::tenant::Tenant;
use tidegate_tests::unique;

use crate::three_ways;

three_ways! {
    a_batch_is_taken_request_by_request(super::request_by_request);
    a_batch_that_is_sent_again_makes_nothing_new(super::sent_again);
}

const PATH: &str = "/v1/requests:batch";

fn lines(client: &Client, text: &str) -> Answer {
    client.send(
        "POST",
        PATH,
        &[("content-type", "application/x-ndjson")],
        text.as_bytes(),
    )
}

fn results(answer: &Answer) -> Vec<Value> {
    let results = answer.json(200)["results"].as_array().cloned().expect("results");
    for (at, result) in results.iter().enumerate() {
        assert_eq!(result["index"], at, "{result}");
    }
    results
}

fn request_by_request(between: Between) {
    let mut stage = Stage::new(between, None);
    let client = stage.tenant.client("alice");
    let large = "x".repeat(100_000);
    let answer = client.post(
        PATH,
        &json!([
            { "id": "one", "action": "core.echo", "payload": [1] },
            { "action": "nothing" },
            { "action": "core.echo", "payload": { "text": large } },
            "nonsense",
            { "action": "core.echo", "mode": "sync" },
            { "action": "slow", "payload": { "ms": 1 }, "delay_ms": 600_000 },
        ]),
    );
    let results = results(&answer);
    let statuses: Vec<u64> = results.iter().filter_map(|result| result["status"].as_u64()).collect();
    assert_eq!(statuses, [202, 404, 202, 422, 422, 202], "{}", answer.text());
    assert_eq!(results[0]["accepted"]["request_id"], "one", "{}", results[0]);
    assert_eq!(results[1]["problem"]["code"], "INVALID_ACTION", "{}", results[1]);
    assert_eq!(
        results[4]["problem"]["details"][0]["pointer"], "/mode",
        "{}",
        results[4]
    );
    assert_eq!(results[5]["accepted"]["status"], "scheduled", "{}", results[5]);
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let done = |at: usize| {
        let job = job_of(&results[at]["accepted"]);
        let shown = client.get(&format!("/v1/jobs/{job}?wait=30")).json(200);
        assert_eq!(shown["status"], "succeeded", "{shown}");
        client.get(&format!("/v1/jobs/{job}/result")).json(200)
    };
    assert_eq!(done(0), json!([1]));
    assert_eq!(done(2)["text"], large);
    let jobs = client.get("/v1/jobs").json(200);
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(3), "{jobs}");
    stage.finish(None);
}

fn sent_again(between: Between) {
    let mut stage = Stage::new(between, None);
    let key = unique();
    let item = |n: u64, payload: u64| json!({ "action": "core.echo", "idempotency_key": format!("{key}-{n}"), "payload": payload });
    let text: String = (0..20).map(|n| format!("{}\n", item(n, n))).collect();
    let first = results(&lines(&stage.tenant.client("alice"), &text));
    let jobs: Vec<String> = first.iter().map(|result| job_of(&result["accepted"])).collect();
    for job in &jobs {
        let shown = stage
            .tenant
            .client("alice")
            .get(&format!("/v1/jobs/{job}?wait=30"))
            .json(200);
        assert_eq!(shown["status"], "succeeded", "{shown}");
    }
    stage.interrupt();
    let client = stage.tenant.client("alice");
    for (at, result) in results(&lines(&client, &text)).iter().enumerate() {
        assert_eq!(
            (&result["status"], &result["answer"]["data"]),
            (&json!(200), &json!(at)),
            "{result}"
        );
        assert_eq!(result["answer"]["deduplicated"], true, "{result}");
        assert_eq!(job_of(&result["answer"]), jobs[at], "{result}");
    }
    let other = results(&lines(&client, &item(3, 4).to_string()));
    assert_eq!(other[0]["problem"]["code"], "IDEMPOTENCY_MISMATCH", "{}", other[0]);
    stage.finish(None);
}

#[test]
fn a_thousand_requests_are_taken_in_one_batch_and_not_one_more() {
    let tenant = Tenant::shared();
    tenant.compose(None);
    let client = tenant.client("alice");
    let text = "{\"action\":\"slow\",\"payload\":{\"ms\":1},\"delay_ms\":600000}\n".repeat(1000);
    let taken = results(&lines(&client, &text));
    assert_eq!(taken.len(), 1000);
    assert!(taken.iter().all(|result| result["status"] == 202));
    let mut jobs: Vec<String> = taken.iter().map(|result| job_of(&result["accepted"])).collect();
    jobs.sort();
    jobs.dedup();
    assert_eq!(jobs.len(), 1000, "a job for each");
    lines(&client, &format!("{text}{{}}")).problem(413, "PAYLOAD_TOO_LARGE");
    let padded = |bytes: usize| {
        let item = r#"{"action":"core.echo","payload":1}"#;
        format!("{item}{}", "\n".repeat(bytes - item.len()))
    };
    assert_eq!(results(&lines(&client, &padded(4 * 1024 * 1024)))[0]["status"], 202);
    // It is refused by its announced length, so that the connection may be gone before all of it is sent.
    let headers = [("content-type", "application/x-ndjson")];
    if let Some(answer) = client.try_send("POST", PATH, &headers, padded(4 * 1024 * 1024 + 1).as_bytes()) {
        answer.problem(413, "PAYLOAD_TOO_LARGE");
    }
}

#[test]
fn a_body_that_is_no_batch_is_refused_as_a_whole() {
    let tenant = Tenant::shared();
    let client = tenant.client("alice");
    for body in [json!({}), json!([]), json!("x")] {
        client.post(PATH, &body).problem(422, "VALIDATION_ERROR");
    }
    let items = json!([{ "action": "core.echo" }]);
    client
        .post_with(PATH, &[("idempotency-key", &"k".repeat(129))], &items)
        .problem(400, "VALIDATION_ERROR");
    client
        .send("POST", PATH, &[("content-type", "text/plain")], b"[]")
        .problem(415, "UNSUPPORTED_MEDIA_TYPE");
    assert_eq!(client.get(PATH).status, 405);
}
