//! Upstreams that fail on purpose: breakers, retries, bulkheads, fallbacks and hedges, as clients and operators see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::eventually;
use tidegate_tests::handler::Handler;
use tidegate_tests::http::Client;
use tidegate_tests::receiver::Answer;
use tidegate_tests::socket::job_of;
use tidegate_tests::stage::{Between, Stage};
use tidegate_tests::tenant::{Tenant, composition};

use crate::three_ways;

three_ways! {
    three_failures_open_a_breaker_and_a_probe_closes_it(super::opens_and_closes);
}

/// An upstream whose status is the test's to choose.
struct Moody {
    handler: Handler,
    status: Arc<AtomicU16>,
}

impl Moody {
    fn start() -> Self {
        let status = Arc::new(AtomicU16::new(200));
        let mood = Arc::clone(&status);
        let handler = Handler::start(move |before, _| {
            let body = format!("{{\"hit\":{}}}", before + 1);
            Some(Answer::of(mood.load(Ordering::SeqCst), &body))
        });
        Self { handler, status }
    }

    fn become_status(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn hits(&self) -> usize {
        self.handler.received().len()
    }
}

/// A composition with the upstream `main` and these sections, and an action of each method and mode that the tests use.
fn document(url: &str, sections: &Value, others: &Value) -> Value {
    let mut main = json!({ "base_url": url, "allow_private": true, "timeout": "5s" });
    for (name, value) in sections.as_object().expect("sections") {
        main[name] = value.clone();
    }
    let mut upstreams = others.clone();
    upstreams["main"] = main;
    let mut document = composition(None);
    document["patterns"]["up"] = json!({ "use": "http", "config": { "upstreams": upstreams } });
    for (action, method, mode) in [
        ("get", "GET", "sync"),
        ("post", "POST", "sync"),
        ("job", "POST", "async"),
    ] {
        let with = json!({ "upstream": "main", "method": method });
        let retry = json!({ "attempts": 1 });
        document["actions"][action] = json!({ "run": "up.call", "mode": mode, "with": with, "timeout": "20s" });
        if mode == "async" {
            document["actions"][action]["retry"] = retry;
            document["actions"][action]["lease"] = json!("2s");
        }
    }
    document
}

fn tenant(url: &str, sections: &Value) -> Tenant {
    let tenant = Tenant::shared();
    tenant.put_composition(&document(url, sections, &json!({})));
    tenant
}

fn ask(client: &Client, action: &str) -> (u16, Value) {
    let answer = client.post("/v1/requests", &json!({ "action": action }));
    (answer.status, answer.json(answer.status))
}

/// The code of a refusal, or the result's status.
fn code(client: &Client, action: &str) -> String {
    let (_, body) = ask(client, action);
    match body["code"].as_str() {
        Some(code) => code.to_owned(),
        None => body["data"]["status"].to_string(),
    }
}

fn job(client: &Client) -> Value {
    let body = json!({ "action": "job" });
    let job = job_of(&client.post("/v1/requests", &body).json(202));
    client.get(&format!("/v1/jobs/{job}?wait=60")).json(200)
}

fn breakers(tenant: &Tenant) -> Value {
    let admin = tenant.client_with("root", "admin");
    admin.get("/v1/admin/upstreams").json(200)["breakers"].clone()
}

fn breaker() -> Value {
    json!({ "consecutive_failures": 3, "failure_percent": 0, "open": "2s", "successes": 1 })
}

fn opens_and_closes(between: Between) {
    let upstream = Moody::start();
    let mut stage = Stage::new(between, None);
    let document = document(&upstream.handler.url(), &json!({ "breaker": breaker() }), &json!({}));
    stage.tenant.put_composition(&document);
    let client = stage.tenant.client("alice");
    eventually("the composition", || (code(&client, "get") == "200").then_some(()));
    let hits = upstream.hits();
    upstream.become_status(500);
    // Whoever calls, a hub or the executor: it is one breaker.
    assert_eq!(code(&client, "get"), "UPSTREAM_ERROR");
    // A restart may forget what was counted in the second before: what is written is a row a second.
    thread::sleep(Duration::from_millis(1_100));
    assert_eq!(job(&client)["error"]["code"], "UPSTREAM_ERROR");
    stage.interrupt();
    let client = stage.tenant.client("alice");
    assert_eq!(code(&client, "post"), "UPSTREAM_ERROR");
    assert_eq!(upstream.hits(), hits + 3);
    let opened = Instant::now();
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let refused = client.post("/v1/requests", &json!({ "action": "get" }));
    if opened.elapsed() < Duration::from_millis(1_500) {
        let problem = refused.problem(503, "CIRCUIT_OPEN");
        assert_eq!(problem["details"][0]["got"], "up.main", "{problem}");
        let wait_ms = problem["retry_after_ms"].as_u64().expect("a wait");
        assert!((1..=2_000).contains(&wait_ms), "{problem}");
        assert_eq!(job(&client)["error"]["code"], "CIRCUIT_OPEN");
        assert_eq!(upstream.hits(), hits + 3, "no call is made");
        // While it lasts, a failing probe opens it again.
        thread::sleep(Duration::from_millis(2_100));
        assert_eq!(code(&client, "get"), "UPSTREAM_ERROR");
        assert_eq!(code(&client, "get"), "CIRCUIT_OPEN");
        assert_eq!(upstream.hits(), hits + 4);
    }
    upstream.become_status(200);
    thread::sleep(Duration::from_millis(2_100));
    stage.interrupt();
    let client = stage.tenant.client("alice");
    assert_eq!(code(&client, "get"), "200", "the probe");
    assert_eq!(job(&client)["result"]["status"], 200);
    let shown = breakers(&stage.tenant);
    assert_eq!(
        (&shown[0]["upstream"], &shown[0]["state"]),
        (&json!("up.main"), &json!("closed"))
    );
    let changes = shown[0]["changes"].as_array().expect("changes");
    let last: Vec<&str> = changes
        .iter()
        .rev()
        .take(3)
        .filter_map(|change| change["to"].as_str())
        .collect();
    assert_eq!(last, ["closed", "half_open", "open"], "{shown}");
    stage.finish(None);
}

#[test]
fn a_400_is_one_call_and_opens_nothing() {
    let upstream = Moody::start();
    upstream.become_status(400);
    let tenant = tenant(
        &upstream.handler.url(),
        &json!({ "retry": "standard", "breaker": breaker() }),
    );
    let client = tenant.client("alice");
    eventually("the composition", || {
        (code(&client, "get") == "UPSTREAM_ERROR").then_some(())
    });
    let hits = upstream.hits();
    for calls in 1..=6 {
        assert_eq!(code(&client, "get"), "UPSTREAM_ERROR");
        assert_eq!(upstream.hits(), hits + calls);
    }
    assert!(
        breakers(&tenant)
            .as_array()
            .expect("a list")
            .iter()
            .all(|one| one["state"] == "closed")
    );
}

#[test]
fn retries_wait_as_the_upstream_asks_and_only_what_may_be_done_twice_is_tried_again() {
    let upstream = Handler::start(|before, _| {
        let busy = Answer {
            headers: vec![("retry-after", "1".into())],
            ..Answer::of(503, "{}")
        };
        Some(if before % 2 == 0 { busy } else { Answer::of(200, "{}") })
    });
    let tenant = tenant(&upstream.url(), &json!({ "retry": "standard", "idempotent": true }));
    let client = tenant.client("alice");
    let began = Instant::now();
    eventually("the composition", || (code(&client, "get") == "200").then_some(()));
    assert!(began.elapsed() >= Duration::from_millis(990), "{:?}", began.elapsed());
    assert_eq!(upstream.received().len(), 2);
    // A request on the spot has no key; a job has one, the same for both calls of its one attempt.
    assert_eq!(code(&client, "post"), "UPSTREAM_ERROR");
    assert_eq!(upstream.received().len(), 3);
    assert_eq!(code(&client, "get"), "200");
    let ended = job(&client);
    assert_eq!(
        (&ended["status"], &ended["attempt"]),
        (&json!("succeeded"), &json!(1)),
        "{ended}"
    );
    let received = upstream.received();
    let keys: Vec<&str> = received
        .iter()
        .rev()
        .take(2)
        .map(|one| one.header("idempotency-key"))
        .collect();
    assert_eq!((received.len(), keys[0]), (6, keys[1]));
    assert!(!keys[0].is_empty());
}

#[test]
fn an_open_breaker_is_never_tried_again() {
    let upstream = Moody::start();
    let sections = json!({ "breaker": breaker(), "retry": { "attempts": 10, "initial": "10ms" } });
    let tenant = tenant(&upstream.handler.url(), &sections);
    let client = tenant.client("alice");
    eventually("the composition", || (code(&client, "get") == "200").then_some(()));
    let hits = upstream.hits();
    upstream.become_status(503);
    assert_eq!(code(&client, "get"), "UPSTREAM_ERROR");
    assert_eq!(upstream.hits(), hits + 3, "the third failure opened it");
    assert_eq!(code(&client, "get"), "CIRCUIT_OPEN");
    assert_eq!(upstream.hits(), hits + 3);
}

#[test]
fn a_breaker_is_opened_disabled_and_closed_by_hand_and_the_trail_tells_who() {
    let upstream = Moody::start();
    let tenant = tenant(&upstream.handler.url(), &json!({ "breaker": breaker() }));
    let client = tenant.client("alice");
    eventually("the composition", || (code(&client, "get") == "200").then_some(()));
    let admin = tenant.client_with("root", "admin");
    let hand = |change: &str| {
        let view = admin
            .post(&format!("/v1/admin/upstreams/up.main:{change}"), &json!(null))
            .json(200);
        view["breakers"][0]["state"].clone()
    };
    assert_eq!(hand("open"), "held_open");
    // What is done by hand is known everywhere within some seconds.
    eventually("the refusal", || (code(&client, "get") == "CIRCUIT_OPEN").then_some(()));
    assert_eq!(hand("disable"), "disabled");
    eventually("calls", || (code(&client, "get") == "200").then_some(()));
    upstream.become_status(500);
    for _ in 0..6 {
        assert_eq!(code(&client, "get"), "UPSTREAM_ERROR", "nothing is counted");
    }
    upstream.become_status(200);
    assert_eq!(hand("close"), "closed");
    assert_eq!(hand("close"), "closed", "which changes nothing");
    assert_eq!(code(&client, "get"), "200");
    let entries = admin.get("/v1/admin/audit").json(200)["entries"].clone();
    let acts: Vec<&Value> = entries.as_array().expect("a list").iter().take(3).collect();
    for (act, what) in acts
        .iter()
        .zip(["upstream.closed", "upstream.disabled", "upstream.opened"])
    {
        assert_eq!(
            (&act["what"], &act["target"]["upstream"]),
            (&json!(what), &json!("up.main"))
        );
        assert_eq!(act["who"]["user"], "root");
    }
    // What is not there, has no breaker, or is not theirs.
    let open = |client: &Client, path: &str| client.post(&format!("/v1/admin/upstreams/{path}:open"), &json!(null));
    open(&admin, "up.other").is_not_found();
    open(&admin, "core.main").is_not_found();
    open(&admin, "up").is_not_found();
    // The breaker of a key is another one, and is named with it.
    let view = open(&admin, "up.main/a%2Fb").json(200);
    assert_eq!(
        (&view["breakers"][1]["key"], &view["breakers"][1]["state"]),
        (&json!("a/b"), &json!("held_open"))
    );
    let newest = admin.get("/v1/admin/audit?limit=1").json(200)["entries"][0].clone();
    assert_eq!(newest["target"]["upstream"], "up.main/a/b");
    open(&admin, &format!("up.main/{}", "k".repeat(129))).is_not_found();
    open(&client, "up.main").problem(403, "FORBIDDEN");
    client.get("/v1/admin/upstreams").problem(403, "FORBIDDEN");
    let other = Tenant::shared();
    open(&other.client_with("root", "admin"), "up.main").is_not_found();
    assert_eq!(breakers(&other), json!([]));
}

#[test]
fn a_fallback_answers_for_an_upstream_that_fails() {
    let (upstream, backup) = (Moody::start(), Moody::start());
    upstream.become_status(503);
    let stored = tenant(
        &upstream.handler.url(),
        &json!({ "fallback": { "body": { "rates": [1, 2] } } }),
    );
    let client = stored.client("alice");
    let result = eventually("the composition", || {
        let (status, body) = ask(&client, "get");
        (status == 200).then(|| body["data"].clone())
    });
    assert_eq!(
        result,
        json!({ "status": 200, "body": { "rates": [1, 2] }, "fallback": true })
    );

    let tenant = Tenant::shared();
    let others = json!({ "backup": { "base_url": backup.handler.url(), "allow_private": true } });
    let sections = json!({ "fallback": { "upstream": "backup" } });
    tenant.put_composition(&document(&upstream.handler.url(), &sections, &others));
    let client = tenant.client("alice");
    let result = eventually("the composition", || {
        let (status, body) = ask(&client, "get");
        (status == 200).then(|| body["data"].clone())
    });
    assert_eq!(result, json!({ "status": 200, "body": { "hit": 1 }, "fallback": true }));
    assert_eq!(code(&client, "post"), "UPSTREAM_ERROR", "it may have been done");
    assert_eq!(backup.hits(), 1);
}

#[test]
fn a_hedge_overtakes_a_slow_answer() {
    let upstream = Handler::start(|before, _| {
        if before % 2 == 0 {
            thread::sleep(Duration::from_secs(4));
        }
        Some(Answer::of(200, &format!("{{\"hit\":{}}}", before + 1)))
    });
    let tenant = tenant(&upstream.url(), &json!({ "hedge": { "after": "200ms" } }));
    let client = tenant.client("alice");
    let began = Instant::now();
    let result = eventually("the composition", || {
        let (status, body) = ask(&client, "get");
        (status == 200).then(|| body["data"].clone())
    });
    assert_eq!(result["body"], json!({ "hit": 2 }));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(upstream.received().len(), 2);
}

#[test]
fn a_bulkhead_bounds_the_calls_under_way() {
    let upstream = Handler::start(|_, _| {
        thread::sleep(Duration::from_millis(1_500));
        Some(Answer::of(200, "{}"))
    });
    let tenant = tenant(&upstream.url(), &json!({ "bulkhead": { "calls": 2 } }));
    let client = tenant.client("alice");
    eventually("the composition", || (code(&client, "get") == "200").then_some(()));
    let callers: Vec<_> = (0..6)
        .map(|_| {
            let client = client.clone();
            thread::spawn(move || client.post("/v1/requests", &json!({ "action": "get" })))
        })
        .collect();
    let answers: Vec<_> = callers
        .into_iter()
        .map(|caller| caller.join().expect("an answer"))
        .collect();
    let (full, done): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status != 200);
    assert_eq!((full.len(), done.len()), (4, 2));
    for refused in full {
        let problem = refused.problem(503, "UNAVAILABLE");
        assert_eq!(problem["details"][0]["got"], "up.main", "{problem}");
        assert_eq!(problem["retryable"], true);
    }
    assert_eq!(code(&client, "get"), "200", "the places are free again");
}

#[test]
fn every_fault_of_an_upstream_is_named_at_once() {
    let tenant = Tenant::shared();
    let sections = json!({
        "retry": "standart", "breaker": { "open": "1ms", "probes": 0 }, "fallback": { "upstream": "nobody" }, "hedge": {},
    });
    let document = document("http://127.0.0.1:9", &sections, &json!({}));
    let answer = tenant.try_composition(&document);
    let problem = answer.problem(422, "VALIDATION_ERROR");
    let pointers: Vec<&str> = problem["details"]
        .as_array()
        .expect("faults")
        .iter()
        .filter_map(|fault| fault["pointer"].as_str())
        .collect();
    for place in [
        "retry",
        "breaker/open",
        "breaker/probes",
        "fallback/upstream",
        "hedge/after",
    ] {
        let pointer = format!("/patterns/up/config/upstreams/main/{place}");
        assert!(pointers.contains(&pointer.as_str()), "{pointer}: {pointers:?}");
    }
}
