//! What endpoints are sent, what their answers mean, and which of them are never called.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::pin::pin;
use core::task::{Poll, Waker};

use serde_json::{Value, json};
use tidegate_protocol::calls::hooks;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::Signature;
use tidegate_protocol::ids::{ActionName, FencingToken, JobId, JobNumber, TenantId, TraceParent, UserId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use tidegate_engine::composition::compile;

use super::{HTTP, WORKER, handle, tell};
use crate::operation::{Callback, Context, Done, Facts, Incoming, Invocation, Outgoing};
use crate::testing::stores_nothing;
use tidegate_protocol::SortedMap;

const NOW: UnixMs = UnixMs(1_800_000_000_999);
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Answers everything with the same, and remembers what it was asked, and by which binding.
struct Outside {
    answer: Incoming,
    loopback: bool,
    asked: RefCell<Vec<(Option<String>, Outgoing)>>,
}

impl Outside {
    fn new(status: u16, body: &str) -> Self {
        Self {
            answer: Incoming {
                status,
                content_type: Some("application/json".into()),
                retry_after: None,
                body: Some(body.into()),
            },
            loopback: false,
            asked: RefCell::default(),
        }
    }
}

impl Context for Outside {
    stores_nothing!();
    fn now(&self) -> UnixMs {
        NOW
    }
    async fn sleep(&self, _: u64) {}
    async fn fetch(&self, request: Outgoing) -> Result<Incoming, Error> {
        self.asked.borrow_mut().push((None, request));
        Ok(self.answer.clone())
    }
    async fn fetch_worker(&self, binding: &str, request: Outgoing) -> Result<Incoming, Error> {
        self.asked.borrow_mut().push((Some(binding.into()), request));
        Ok(self.answer.clone())
    }
    fn may_reach_loopback(&self) -> bool {
        self.loopback
    }
    fn callback(&self, job: &Facts) -> Result<Option<Callback>, Error> {
        Ok(Some(Callback {
            url: std::format!("/v1/attempts/{}", job.id),
            token: "secret".into(),
        }))
    }
    async fn sign(&self, how: Signature, id: &str, seconds: u64, body: &str) -> Result<String, Error> {
        let version = if how == Signature::V1 { "v1" } else { "v1a" };
        Ok(std::format!("{version},{id}.{seconds}.{body}"))
    }
}

fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut context = core::task::Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("it waits"),
    }
}

fn call(config: &Value) -> Invocation {
    let id = JobId::new(JobNumber(77), 7);
    Invocation {
        pattern: "http-handler".into(),
        operation: "handle".into(),
        instance: "here".into(),
        action: ActionName::parse("act").unwrap(),
        config: JsonText::parse(&config.to_string()).unwrap(),
        settings: JsonText::parse("{}").unwrap(),
        payload: JsonText::parse(r#"{"amount":5}"#).unwrap(),
        user: UserId::parse("ann").unwrap(),
        attempt: 2,
        effect_key: Some(id.to_string()),
        traceparent: TraceParent::parse(TRACE),
        timeout_ms: 60_000,
        job: Some(Facts {
            tenant: TenantId::parse("acme").unwrap(),
            id,
            token: FencingToken(3),
            action: ActionName::parse("charge").unwrap(),
            metadata: SortedMap::from([(String::from("k"), String::from("v"))]),
            deadline: NOW.plus(60_000),
        }),
    }
}

fn header<'a>(request: &'a Outgoing, name: &str) -> Option<&'a str> {
    let found = request.headers.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str())
}

fn endpoint() -> Value {
    json!({ "url": "https://work.example.com/jobs?v=1", "timeout": "5s" })
}

#[test]
fn a_handler_is_sent_the_job_signed_and_its_answer_is_the_result() {
    let outside = Outside::new(200, r#"{"charged":true}"#);
    let done = at_once(handle(&outside, &call(&endpoint()))).unwrap();
    assert_eq!(done, Done::Result(JsonText::parse(r#"{"charged":true}"#).unwrap()));
    let (binding, request) = outside.asked.borrow_mut().remove(0);
    assert_eq!((binding, request.method.as_str()), (None, "POST"));
    assert_eq!(
        (request.url.as_str(), request.timeout_ms),
        ("https://work.example.com/jobs?v=1", 5000)
    );
    let job = JobId::new(JobNumber(77), 7).to_string();
    let body = request.body.clone().unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&body).unwrap(),
        json!({
            "job_id": job, "tenant": "acme", "action": "charge", "attempt": 2, "payload": { "amount": 5 },
            "metadata": { "k": "v" }, "user": "ann", "effect_key": job, "deadline": NOW.plus(60_000).to_string(),
            "callback": { "url": std::format!("/v1/attempts/{job}"), "token": "secret" },
        })
    );
    let id = std::format!("run_{job}.3");
    let signature = std::format!("v1,{id}.1800000000.{body}");
    for (name, value) in [
        ("webhook-id", id.as_str()),
        ("webhook-timestamp", "1800000000"),
        ("webhook-signature", &signature),
        ("idempotency-key", &job),
        ("traceparent", TRACE),
        ("content-type", "application/json"),
    ] {
        assert_eq!(header(&request, name), Some(value), "{name}");
    }
}

#[test]
fn a_worker_is_only_ever_called_by_a_name_that_is_for_handlers() {
    let outside = Outside::new(204, "");
    let done = at_once(handle(
        &outside,
        &call(&json!({ "binding": "BILLING", "path": "/charge" })),
    ))
    .unwrap();
    assert_eq!(done, Done::Result(JsonText::null()));
    let (binding, request) = outside.asked.borrow_mut().remove(0);
    assert_eq!(binding.as_deref(), Some("HANDLER_BILLING"));
    assert_eq!(request.url, "https://handler.internal/charge");
    assert!(header(&request, "webhook-signature").is_some());
}

#[test]
fn each_answer_of_a_handler_means_one_thing() {
    let result = |text: &str| Ok(Done::Result(JsonText::parse(text).unwrap()));
    let check = |answer: Incoming, expected: Result<Done, (bool, Option<u64>)>| {
        let outside = Outside {
            answer: answer.clone(),
            ..Outside::new(0, "")
        };
        let done = at_once(handle(&outside, &call(&endpoint()))).map_err(|error| {
            assert_eq!(error.code, ErrorCode::UpstreamError);
            (error.retryable, error.retry_after_ms)
        });
        assert_eq!(done, expected, "{answer:?}");
    };
    let of = |status: u16, body: &str| Outside::new(status, body).answer;
    check(of(200, "[1]"), result("[1]"));
    check(of(201, ""), result("null"));
    check(of(204, ""), result("null"));
    check(of(202, "whatever"), Ok(Done::HandedOver));
    for status in [301, 302, 307, 308, 400, 401, 403, 404, 410, 422] {
        check(of(status, "{}"), Err((false, None)));
    }
    for status in [408, 409, 425, 429, 500, 502, 503, 504, 599] {
        check(of(status, "{}"), Err((true, None)));
        let later = Incoming {
            retry_after: Some("7".into()),
            ..of(status, "{}")
        };
        check(later, Err((true, Some(7000))));
    }
    check(of(200, "no json"), Err((false, None)));
    let text = Incoming {
        content_type: Some("text/plain".into()),
        ..of(200, "1")
    };
    check(text, Err((false, None)));
    let over = Incoming {
        body: None,
        ..of(200, "")
    };
    check(over, Err((false, None)));
}

fn told(status: u16, url: &str, loopback: bool, retry_after: Option<&str>) -> (Result<Done, Error>, Vec<Outgoing>) {
    let mut outside = Outside::new(status, "");
    outside.answer.retry_after = retry_after.map(String::from);
    outside.loopback = loopback;
    let message = hooks::Message {
        url: url.into(),
        id: "evt_1".into(),
        endpoint: None,
        signature: Signature::V1,
        held: None,
    };
    let done = at_once(tell(&outside, &call(&Value::Null), &message));
    (
        done,
        outside
            .asked
            .into_inner()
            .into_iter()
            .map(|(_, request)| request)
            .collect(),
    )
}

#[test]
fn an_endpoint_is_told_the_payload_itself_under_the_id_of_the_message() {
    let (done, asked) = told(204, "https://hooks.example.com/x", false, None);
    assert_eq!(
        done.unwrap(),
        Done::Result(JsonText::parse(r#"{"status":204}"#).unwrap())
    );
    assert_eq!(asked[0].body.as_deref(), Some(r#"{"amount":5}"#));
    assert_eq!(header(&asked[0], "webhook-id"), Some("evt_1"));
    assert_eq!(
        header(&asked[0], "webhook-signature"),
        Some(r#"v1,evt_1.1800000000.{"amount":5}"#)
    );
    assert_eq!(header(&asked[0], "traceparent"), Some(TRACE));
}

#[test]
fn an_endpoint_that_has_not_heard_is_told_again_unless_it_is_gone() {
    for status in [300, 302, 400, 401, 404, 429, 500, 503] {
        let (done, _) = told(status, "https://hooks.example.com/x", false, Some("9"));
        let error = done.unwrap_err();
        assert_eq!((error.retryable, error.retry_after_ms), (true, Some(9000)), "{status}");
    }
    let (done, _) = told(410, "https://hooks.example.com/x", false, Some("9"));
    assert!(!done.unwrap_err().retryable);
}

#[test]
fn what_lies_inside_is_never_called() {
    for url in [
        "https://10.0.0.1/",
        "https://metadata.google.internal/",
        "http://hooks.example.com/",
        "nonsense",
    ] {
        let (done, asked) = told(200, url, true, None);
        assert!(!done.unwrap_err().retryable, "{url}");
        assert!(asked.is_empty(), "{url}");
    }
    let (done, asked) = told(200, "http://127.0.0.1:9/", false, None);
    assert!(!done.unwrap_err().retryable && asked.is_empty());
    assert_eq!(
        told(200, "http://127.0.0.1:9/", true, None).1.len(),
        1,
        "unless the deployment says so"
    );
    let outside = Outside::new(200, "1");
    let done = at_once(handle(&outside, &call(&json!({ "url": "http://127.0.0.1:9/" }))));
    assert!(!done.unwrap_err().retryable && outside.asked.borrow().is_empty());
}

#[test]
fn every_fault_of_a_configuration_is_found_with_its_place() {
    let check = |manifest: &tidegate_engine::composition::Manifest, config: Value, expected: &[&str]| {
        let mut faults = Vec::new();
        (manifest.check_config)(&config, "", &mut faults);
        let found: Vec<&str> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(found, expected, "{config}");
    };
    check(&HTTP, endpoint(), &[]);
    check(&HTTP, json!({}), &["/url"]);
    check(
        &HTTP,
        json!({ "url": 7, "timeout": "1h", "x": 1 }),
        &["/timeout", "/url", "/x"],
    );
    check(&HTTP, json!({ "url": "https://192.168.0.1/" }), &["/url"]);
    check(
        &HTTP,
        json!({ "url": "https://a.example.com/", "binding": "B" }),
        &["/binding"],
    );
    check(
        &WORKER,
        json!({ "binding": "BILLING", "path": "/x/y", "timeout": "15m" }),
        &[],
    );
    check(&WORKER, json!({}), &["/binding"]);
    for name in ["", "billing", "A-B", "A B", "A/../EXECUTOR"] {
        check(&WORKER, json!({ "binding": name }), &["/binding"]);
    }
    check(&WORKER, json!({ "binding": "B", "path": "x" }), &["/path"]);
    check(
        &WORKER,
        json!({ "binding": "B", "path": "/../x", "url": "https://a.example.com/" }),
        &["/path", "/url"],
    );
}

/// The compositions in a document for people.
fn compositions(text: &str) -> Vec<Value> {
    let blocks = text
        .split("```json\n")
        .skip(1)
        .filter_map(|block| block.split("```").next());
    let blocks =
        blocks.map(|block| serde_json::from_str::<Value>(block).unwrap_or_else(|error| panic!("{error}: {block}")));
    blocks.filter(|block| block.get("tidegate").is_some()).collect()
}

#[test]
fn what_the_example_and_the_how_tos_show_is_right_for_the_schema_and_the_compiler() {
    let schema: Value =
        serde_json::from_str(include_str!("../../../../docs/reference/composition.schema.json")).unwrap();
    let schema = jsonschema::draft202012::new(&schema).unwrap();
    let mut documents = compositions(include_str!("../../../../docs/how-to/be-told-when-a-job-ends.md"));
    documents.extend(compositions(include_str!(
        "../../../../docs/how-to/let-your-own-endpoint-do-the-work.md"
    )));
    documents.push(serde_json::from_str(include_str!("../../../../examples/compositions/endpoints.json")).unwrap());
    assert_eq!(documents.len(), 3);
    for document in documents {
        let compiled = compile(&document.to_string(), crate::MANIFESTS);
        assert!(compiled.is_ok(), "{compiled:?}");
        assert!(schema.is_valid(&document), "{document}");
    }
}

#[test]
fn the_schema_of_a_handlers_configuration_is_what_reads_it() {
    let text = include_str!("../../../../docs/reference/composition.schema.json");
    let schema = |part: &str| {
        let mut schema: Value = serde_json::from_str(text).unwrap();
        let definitions = schema["$defs"].take();
        let schema = json!({ "$ref": std::format!("#/$defs/{part}"), "$defs": definitions });
        jsonschema::draft202012::new(&schema).unwrap()
    };
    let values = json!([
        null,
        1,
        "",
        "x",
        "A",
        "A-B",
        "/x",
        "5s",
        "1h",
        "https://a.example.com/",
        "https://10.0.0.1/",
        [],
        {}
    ]);
    for (part, manifest, good) in [
        ("http_handler_config", &HTTP, endpoint()),
        (
            "worker_handler_config",
            &WORKER,
            json!({ "binding": "BILLING", "path": "/x", "timeout": "5s" }),
        ),
    ] {
        let schema = schema(part);
        for name in ["url", "binding", "path", "timeout", "x"] {
            let values = values.as_array().unwrap().iter().cloned().map(Some).chain([None]);
            for value in values {
                let mut config = good.clone();
                let fields = config.as_object_mut().unwrap();
                match value {
                    Some(value) => fields.insert(name.into(), value),
                    None => fields.remove(name),
                };
                let mut faults = Vec::new();
                (manifest.check_config)(&config, "", &mut faults);
                if faults.is_empty() {
                    assert!(schema.is_valid(&config), "{config}");
                } else if schema.is_valid(&config) {
                    // What a schema does not say: bounds of durations, and where endpoints may lie.
                    let known = ["a duration from ", "a URL", "a public host", "a path that"];
                    let beyond =
                        |fault: &tidegate_protocol::Fault| known.iter().any(|words| fault.expected.contains(words));
                    assert!(faults.iter().all(beyond), "{config}: {faults:?}");
                }
            }
        }
    }
}
