//! What a job writes while it runs, what its metadata comes to, and what is kept of its events.

use serde_json::{Value, json};
use tidegate_tests::http::Client;
use tidegate_tests::socket::job_of;
use tidegate_tests::sse::Events;
use tidegate_tests::stage::{Between, Stage};
use tidegate_tests::tenant::composition;

use crate::three_ways;

three_ways! {
    text_is_told_in_order_and_read_from_any_byte(super::written);
    the_whole_history_is_kept_where_that_is_asked_for(super::all_events);
    forgotten_text_is_a_gap(super::forgotten);
    a_client_that_comes_back_is_told_the_text_that_it_missed(super::missed);
}

/// The tests' composition with actions that count.
fn counting() -> Value {
    let mut document = composition(None);
    document["actions"]["count"] = json!({ "run": "core.count", "progress": { "every": "200ms" } });
    document["actions"]["count.all"] = json!({ "run": "core.count", "progress": { "durability": "all" } });
    document["actions"]["count.little"] = json!({ "run": "core.count", "output": { "keep": "32KiB" } });
    document["actions"]["fail.all"] = json!({
        "run": "core.fail", "progress": { "durability": "all" }, "retry": { "attempts": 2, "initial": "100ms" },
    });
    document
}

fn stage(between: Between) -> Stage {
    let stage = Stage::new(between, None);
    stage.tenant.put_composition(&counting());
    stage
}

fn start(client: &Client, action: &str, payload: &Value) -> String {
    let body = json!({ "action": action, "payload": payload });
    job_of(&client.post("/v1/requests", &body).json(202))
}

fn ended(client: &Client, job: &str) -> Value {
    let job = client.get(&format!("/v1/jobs/{job}?wait=60")).json(200);
    assert!(job["ended_at"].is_string(), "{job}");
    job
}

/// The lines that counting to `to` writes.
fn lines(to: u64) -> String {
    (1..=to).map(|number| format!("{number}\n")).collect()
}

/// A page of the stored events of a job.
fn stored(client: &Client, job: &str, query: &str) -> Value {
    let path = format!("/v1/jobs/{job}/events{query}");
    client
        .send("GET", &path, &[("accept", "application/json")], &[])
        .json(200)
}

fn page(client: &Client, job: &str, rest: &str) -> Value {
    client.get(&format!("/v1/jobs/{job}/output/{rest}")).json(200)
}

/// What a stream of events says was written to `stream`, each chunk right behind the one before.
fn joined(events: &[Value], stream: &str) -> String {
    let mut text = String::new();
    for event in events.iter().filter(|event| event["type"] == "output") {
        if event["stream"] == stream {
            assert_eq!(event["offset"], text.len(), "{event}");
            text.push_str(event["chunk"].as_str().expect("text"));
        }
    }
    text
}

fn written(between: Between) {
    let mut stage = stage(between);
    let client = stage.tenant.client("alice");
    let job = start(
        &client,
        "count",
        &json!({ "to": 300, "ms": 1500, "stream": "num/bers" }),
    );
    // Whoever asks before there is text waits for it.
    let first = page(&client, &job, "num%2Fbers?wait=20");
    assert!(lines(300).starts_with(first["text"].as_str().expect("text")), "{first}");
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let job_view = ended(&client, &job);
    let text = page(&client, &job, "num%2Fbers");
    let attempts = match between {
        // An attempt that a kill has ended is made again, and writes behind what the first had written.
        Between::Kill => {
            let text = text["text"].as_str().expect("text");
            assert!(text.ends_with(&lines(300)), "{text}");
            text.to_owned()
        }
        Between::Nothing | Between::Eviction => lines(300),
    };
    assert_eq!(text["text"], attempts.as_str());
    assert_eq!((&text["offset"], &text["written"]), (&json!(0), &json!(attempts.len())));
    assert_eq!((&text["gap"], &text["ended"]), (&json!(false), &json!(true)));
    let from = page(&client, &job, "num%2Fbers?offset=10");
    assert_eq!(from["text"], &attempts[10..]);
    assert_eq!(page(&client, &job, "other")["text"], "");
    client
        .get(&format!("/v1/jobs/{job}/output/log?offset=x"))
        .problem(422, "VALIDATION_ERROR");
    stage
        .tenant
        .client("bob")
        .get(&format!("/v1/jobs/{job}/output/log"))
        .problem(404, "NOT_FOUND");
    if between != Between::Kill {
        let metadata = &job_view["progress"]["metadata"];
        assert_eq!(metadata["tenths"], 10, "{job_view}");
        assert_eq!(
            (&metadata["latest"], &metadata["passed"][9]),
            (&json!(300), &json!(300))
        );
    }
    // The same by events, on a stream of them.
    let events = Events::open(&client, &stage.tenant.observer, &job, None).until_end();
    assert_eq!(joined(&events, "num/bers"), attempts);
    stage.finish(None);
}

fn all_events(between: Between) {
    let mut stage = stage(between);
    let client = stage.tenant.client("alice");
    let job = start(&client, "count.all", &json!({ "to": 150 }));
    let failed = start(&client, "fail.all", &json!({ "retryable": true }));
    stage.interrupt();
    let client = stage.tenant.client("alice");
    ended(&client, &job);
    let failed_job = ended(&client, &failed);
    let (mut events, mut after) = (Vec::new(), json!(0));
    loop {
        let page = stored(&client, &job, &format!("?after={after}"));
        assert_eq!(page["gap"], false, "{page}");
        events.extend(page["events"].as_array().expect("a list").iter().cloned());
        after = page["next_after"].clone();
        if after.is_null() {
            assert_eq!(page["ended"], true);
            break;
        }
    }
    let places: Vec<u64> = events.iter().filter_map(|event| event["seq"].as_u64()).collect();
    assert!(
        places.iter().zip(2..).all(|(place, expected)| *place == expected),
        "{places:?}"
    );
    let steps = events
        .iter()
        .filter(|event| event["type"] == "progress" && event["message"].is_string());
    assert!(steps.count() >= 150, "each step is there, far beyond what a row holds");
    let page = stored(&client, &failed, "");
    let kinds: Vec<&str> = page["events"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|e| e["type"].as_str())
        .collect();
    // Each attempt has one start, however many runs it took.
    assert_eq!(kinds, ["started", "retrying", "started", "error"], "{page}");
    assert_eq!(failed_job["started_at"], page["events"][2]["timestamp"], "{failed_job}");
    assert!(
        failed_job["started_at"].is_string() && failed_job["started_at"].as_str() <= failed_job["ended_at"].as_str()
    );
    stage.finish(None);
}

fn forgotten(between: Between) {
    let mut stage = stage(between);
    let client = stage.tenant.client("alice");
    let job = start(&client, "count.little", &json!({ "to": 20_000 }));
    ended(&client, &job);
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let text = page(&client, &job, "log");
    assert_eq!(
        (&text["gap"], &text["written"]),
        (&json!(true), &json!(lines(20_000).len())),
        "{text}"
    );
    let offset = usize::try_from(text["offset"].as_u64().expect("a number")).expect("small");
    let kept = text["text"].as_str().expect("text");
    assert!(
        kept.len() <= 32 * 1024 && kept.len() > 16 * 1024,
        "{} bytes are kept",
        kept.len()
    );
    assert_eq!(kept, &lines(20_000)[offset..]);
    let events = stored(&client, &job, "");
    assert_eq!(events["gap"], true, "{events}");
    stage.finish(None);
}

fn missed(between: Between) {
    let mut stage = stage(between);
    let mut socket = stage.tenant.socket("alice");
    let payload = json!({ "to": 200, "ms": 3000 });
    let (request, job) = socket.enqueue(json!({ "action": "count", "payload": payload }));
    let mut events = Vec::new();
    while !events.iter().any(|event: &Value| event["type"] == "output") {
        events.push(socket.answer(&request));
    }
    // The socket is gone while more is written; what it missed comes first on the next one.
    let last = socket.seq(&request);
    socket.cut();
    let client = stage.tenant.client("alice");
    let seen = joined(&events, "log").len();
    page(&client, &job, &format!("log?offset={seen}&wait=20"));
    stage.interrupt();
    let mut socket = stage.tenant.socket("alice");
    let attach = socket.attach(&job, last);
    events.extend(socket.until_end(&attach));
    let text = joined(&events, "log");
    assert!(text.ends_with(&lines(200)), "{text}");
    assert!(between == Between::Kill || text == lines(200), "{text}");
    assert!(
        !events.iter().any(|event| event["type"] == "snapshot"),
        "nothing is forgotten"
    );
    stage.finish(Some(&job));
}
