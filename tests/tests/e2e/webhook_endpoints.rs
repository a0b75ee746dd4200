//! Endpoints of a tenant's customers: told what they ask for, signed as they ask, disabled when they are gone, and told
//! again what they missed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::{Value, json};
use tidegate_tests::eventually;
use tidegate_tests::http::{Answer as Answered, Client};
use tidegate_tests::receiver::{Answer, Received, Receiver};
use tidegate_tests::socket::job_of;
use tidegate_tests::stage::{Between, Stage};
use tidegate_tests::tenant::Tenant;

use crate::three_ways;

three_ways! {
    an_endpoint_is_told_what_it_asks_for_and_signed_as_it_asks(super::told);
    an_endpoint_that_is_gone_is_disabled_and_told_again_what_it_missed(super::gone);
    messages_come_in_order_to_an_endpoint_that_wants_it(super::in_order);
    messages_are_signed_with_both_secrets_for_as_long_as_a_rotation_says(super::rotated);
}

const PATH: &str = "/v1/admin/endpoints";

fn admin(tenant: &Tenant) -> Client {
    tenant.client_with("root", "admin")
}

fn patch(tenant: &Tenant, endpoint: &Value, body: &Value) -> Answered {
    let headers = [("content-type", "application/json")];
    admin(tenant).send("PATCH", &at(endpoint), &headers, body.to_string().as_bytes())
}

fn at(endpoint: &Value) -> String {
    format!("{PATH}/{}", endpoint["endpoint_id"].as_str().expect("an id"))
}

fn create(tenant: &Tenant, body: &Value) -> Value {
    admin(tenant).post(PATH, body).json(201)
}

fn shown(tenant: &Tenant, endpoint: &Value) -> Value {
    admin(tenant).get(&at(endpoint)).json(200)
}

fn secret(tenant: &Tenant) -> Value {
    admin(tenant).get("/v1/admin/webhook-secret").json(200)
}

/// Runs a job to its end, and gives its id.
fn run(tenant: &Tenant, customer: &str) -> String {
    let body = json!({ "action": "slow", "payload": { "ms": 1, "steps": 1 }, "metadata": { "customer": customer } });
    let client = tenant.client("alice");
    let job = job_of(&client.post("/v1/requests", &body).json(202));
    let ended = client.get(&format!("/v1/jobs/{job}?wait=60")).json(200);
    assert_eq!(ended["status"], "succeeded", "{ended}");
    job
}

/// The messages that failed for good, the oldest first, once there are so many.
fn not_delivered(tenant: &Tenant, endpoint: &Value, count: usize) -> Vec<Value> {
    let failed = format!("{}/deliveries?status=failed&sort=created", at(endpoint));
    eventually("what was not delivered", || {
        let page = admin(tenant).get(&failed).json(200);
        let jobs = page["jobs"].as_array().expect("a list").clone();
        Some(jobs).filter(|jobs| jobs.len() == count)
    })
}

/// Verifies a message with a public key as Standard Webhooks writes it, by another implementation than the one that signs.
fn verified(message: &Received, public_key: &str) -> bool {
    let key = STANDARD
        .decode(public_key.strip_prefix("whpk_").expect("a public key"))
        .expect("base64");
    let key = VerifyingKey::from_bytes(&key.try_into().expect("32 bytes")).expect("a point");
    let signed = format!(
        "{}.{}.{}",
        message.header("webhook-id"),
        message.header("webhook-timestamp"),
        message.body
    );
    message.header("webhook-signature").split(' ').any(|signature| {
        let bytes = signature
            .strip_prefix("v1a,")
            .map(|text| STANDARD.decode(text).expect("base64"));
        bytes.is_some_and(|bytes| {
            let signature = Signature::from_slice(&bytes).expect("64 bytes");
            key.verify_strict(signed.as_bytes(), &signature).is_ok()
        })
    })
}

fn sent_to(receiver: &Receiver, path: &str) -> Vec<Received> {
    receiver.received().into_iter().filter(|one| one.path == path).collect()
}

fn told(between: Between) {
    let receiver = Receiver::start();
    let mut stage = Stage::new(between, None);
    let url = receiver.url();
    let all = create(&stage.tenant, &json!({ "url": format!("{url}/all") }));
    assert_eq!((&all["enabled"], &all["signature"]), (&json!(true), &json!("v1")));
    create(
        &stage.tenant,
        &json!({
            "url": format!("{url}/acme"), "signature": "v1a", "events": ["job.succeeded", "job.failed"],
            "filter": "event.type == 'job.succeeded' && data.metadata.customer == 'acme'",
        }),
    );
    create(
        &stage.tenant,
        &json!({ "url": format!("{url}/failed"), "events": ["job.failed"] }),
    );
    let beta = run(&stage.tenant, "beta");
    stage.interrupt();
    let acme = run(&stage.tenant, "acme");
    let ids = |path: &str| -> Vec<String> {
        let ids = sent_to(&receiver, path);
        let mut ids: Vec<String> = ids.iter().map(|one| one.header("webhook-id").to_owned()).collect();
        ids.sort();
        ids.dedup();
        ids
    };
    let both = eventually("both messages", || Some(ids("/all")).filter(|ids| ids.len() == 2));
    assert_eq!(both, [format!("evt_{beta}"), format!("evt_{acme}")]);
    let chosen = eventually("the filtered message", || {
        Some(ids("/acme")).filter(|ids| !ids.is_empty())
    });
    assert_eq!(chosen, [format!("evt_{acme}")]);
    assert!(sent_to(&receiver, "/failed").is_empty());
    let secret = secret(&stage.tenant);
    for message in sent_to(&receiver, "/all") {
        message.verify(secret["secret"].as_str().expect("a secret"));
    }
    for message in sent_to(&receiver, "/acme") {
        assert!(verified(&message, secret["public_key"].as_str().expect("a key")));
        assert!(!message.header("webhook-signature").contains("v1,"));
    }
    // A URL that is changed holds for what waits already.
    receiver.answer([Answer::of(500, "")]);
    let moved = create(
        &stage.tenant,
        &json!({ "url": format!("{url}/old"), "filter": "data.metadata.customer == 'moved'" }),
    );
    patch(&stage.tenant, &all, &json!({ "enabled": false })).json(200);
    run(&stage.tenant, "moved");
    eventually("the first attempt", || {
        (!sent_to(&receiver, "/old").is_empty()).then_some(())
    });
    patch(&stage.tenant, &moved, &json!({ "url": format!("{url}/new") })).json(200);
    eventually("the second attempt", || {
        (!sent_to(&receiver, "/new").is_empty()).then_some(())
    });
    let deliveries = admin(&stage.tenant)
        .get(&format!("{}/deliveries", at(&moved)))
        .json(200);
    assert_eq!(deliveries["jobs"].as_array().map(Vec::len), Some(1), "{deliveries}");
    assert_eq!(admin(&stage.tenant).send("DELETE", &at(&moved), &[], &[]).status, 204);
    assert_eq!(admin(&stage.tenant).get(&at(&moved)).json(404)["code"], "NOT_FOUND");
    stage.finish(None);
}

fn gone(between: Between) {
    let receiver = Receiver::start();
    let mut stage = Stage::new(between, None);
    let endpoint = create(&stage.tenant, &json!({ "url": format!("{}/x", receiver.url()) }));
    receiver.answer([Answer::of(410, "")]);
    let first = run(&stage.tenant, "a");
    // The attempt's end is stored, and with it that the gate is to be told; whether it has been is open.
    not_delivered(&stage.tenant, &endpoint, 1);
    stage.interrupt();
    let disabled = eventually("the endpoint is disabled", || {
        Some(shown(&stage.tenant, &endpoint)).filter(|shown| shown["enabled"] == false)
    });
    assert_eq!(disabled["disabled_reason"], "The endpoint answered 410.");
    assert!(disabled["disabled_at"].is_string());
    let refused = admin(&stage.tenant)
        .post(&format!("{}:replay", at(&endpoint)), &json!({}))
        .json(409);
    assert_eq!(refused["code"], "CONFLICT");
    // What happens meanwhile is kept, and not sent.
    let second = run(&stage.tenant, "b");
    let third = run(&stage.tenant, "c");
    let kept = not_delivered(&stage.tenant, &endpoint, 3);
    let of = |job: &Value| job["metadata"]["job_id"].as_str().expect("a job").to_owned();
    assert_eq!(
        kept.iter().map(of).collect::<Vec<_>>(),
        [first.clone(), second.clone(), third.clone()]
    );
    assert_eq!(receiver.received().len(), 1, "nothing was sent meanwhile");
    let enabled = patch(&stage.tenant, &endpoint, &json!({ "enabled": true })).json(200);
    assert_eq!(
        (&enabled["enabled"], &enabled["disabled_reason"]),
        (&json!(true), &Value::Null)
    );
    let replayed = admin(&stage.tenant)
        .post(&format!("{}:replay", at(&endpoint)), &json!({}))
        .json(200);
    assert_eq!(replayed, json!({ "replayed": 3, "more": false }));
    let again = receiver.wait_for(4);
    let mut ids: Vec<&str> = again.iter().skip(1).map(|one| one.header("webhook-id")).collect();
    ids.sort_unstable();
    let mut expected = [first, second, third].map(|job| format!("evt_{job}"));
    expected.sort_unstable();
    assert_eq!(ids, expected, "under the ids that they had");
    let replayed = admin(&stage.tenant)
        .post(&format!("{}:replay", at(&endpoint)), &json!({}))
        .json(200);
    assert_eq!(replayed["replayed"], 0, "{replayed}");
    let audit = admin(&stage.tenant)
        .get("/v1/admin/audit?what=endpoint.disabled")
        .json(200);
    let entry = &audit["entries"][0];
    assert_eq!(entry["target"]["endpoint_id"], endpoint["endpoint_id"], "{audit}");
    assert_eq!(entry["who"]["user"], "tidegate");
    stage.finish(None);
}

fn rotated(between: Between) {
    let receiver = Receiver::start();
    let mut stage = Stage::new(between, None);
    create(&stage.tenant, &json!({ "url": format!("{}/v1", receiver.url()) }));
    create(
        &stage.tenant,
        &json!({ "url": format!("{}/v1a", receiver.url()), "signature": "v1a" }),
    );
    let before = secret(&stage.tenant);
    assert_eq!(before["old_secret"], Value::Null);
    let rotate = |body: &Value| {
        admin(&stage.tenant)
            .post("/v1/admin/webhook-secret:rotate", body)
            .json(200)
    };
    let answer = rotate(&json!({ "overlap_ms": 3_600_000 }));
    assert_eq!(answer["generation"], 1);
    assert!(!answer.to_string().contains("whsec_"));
    let during = secret(&stage.tenant);
    assert_eq!(
        (&during["old_secret"], &during["old_public_key"]),
        (&before["secret"], &before["public_key"])
    );
    assert_ne!(during["secret"], before["secret"]);
    assert_eq!(during["old_until"], answer["old_until"]);
    stage.interrupt();
    // An isolate hears of it within a second.
    let last = |path: &str, signatures: usize| {
        eventually("the signatures", || {
            let before = sent_to(&receiver, path).len();
            run(&stage.tenant, "a");
            let sent = eventually("a message", || {
                Some(sent_to(&receiver, path)).filter(|all| all.len() > before)
            });
            let last = sent.last().expect("one").clone();
            let count = last.header("webhook-signature").split(' ').count();
            (count == signatures).then_some(last)
        })
    };
    let text = |secret: &Value, field: &str| secret[field].as_str().expect("a text").to_owned();
    let message = last("/v1", 2);
    message.verify(&text(&before, "secret"));
    message.verify(&text(&during, "secret"));
    let message = last("/v1a", 2);
    assert!(verified(&message, &text(&before, "public_key")));
    assert!(verified(&message, &text(&during, "public_key")));
    // Without an overlap the one before is good no longer.
    let answer = admin(&stage.tenant)
        .post("/v1/admin/webhook-secret:rotate", &json!({ "overlap_ms": 0 }))
        .json(200);
    assert_eq!(answer, json!({ "generation": 2 }));
    let after = secret(&stage.tenant);
    assert_eq!(after["old_secret"], Value::Null);
    last("/v1", 1).verify(&text(&after, "secret"));
    let message = last("/v1a", 1);
    assert!(verified(&message, &text(&after, "public_key")));
    assert!(!verified(&message, &text(&during, "public_key")));
    stage.finish(None);
}

fn in_order(between: Between) {
    let receiver = Receiver::start();
    let mut stage = Stage::new(between, None);
    create(
        &stage.tenant,
        &json!({ "url": format!("{}/x", receiver.url()), "ordered": true }),
    );
    receiver.answer([Answer::of(503, "")]);
    let jobs = ["a", "b", "c"].map(|customer| run(&stage.tenant, customer));
    receiver.wait_for(1);
    stage.interrupt();
    let sent = eventually("the last message", || {
        let last = format!("evt_{}", jobs[2]);
        let sent = receiver.received();
        sent.iter().any(|one| one.header("webhook-id") == last).then_some(sent)
    });
    let mut ids: Vec<&str> = sent.iter().map(|one| one.header("webhook-id")).collect();
    // The first was refused once; and where the server is killed, what was heard may come again.
    let first = format!("evt_{}", jobs[0]);
    assert!(ids.iter().filter(|id| **id == first).count() >= 2, "{ids:?}");
    ids.dedup();
    assert_eq!(ids, jobs.map(|job| format!("evt_{job}")));
    stage.finish(None);
}

#[test]
fn an_endpoint_that_cannot_be_kept_is_told_of_all_faults() {
    let tenant = Tenant::shared();
    let pointers = |answer: &Value| -> Vec<String> {
        let details = answer["details"].as_array().expect("details").iter();
        details
            .map(|fault| fault["pointer"].as_str().expect("a pointer").to_owned())
            .collect()
    };
    for (body, expected) in [
        (json!({}), vec!["/url"]),
        (
            json!({ "url": "https://169.254.169.254/latest", "events": [], "filter": "data.user ==", "signature": "v2",
                "enabled": "yes", "ordered": "yes", "description": 7, "filtre": "true" }),
            vec![
                "/filtre",
                "/url",
                "/description",
                "/events",
                "/filter",
                "/signature",
                "/ordered",
                "/enabled",
            ],
        ),
        (
            json!({ "url": "https://a.example.com/", "events": ["job.failed", "job.failed"], "filter": "user == 'ann'" }),
            vec!["/events", "/filter"],
        ),
        (
            json!({ "url": "https://a.example.com/", "filter": "data.user" }),
            vec![],
        ),
        (
            json!({ "url": "https://a.example.com/", "filter": "1 + 1" }),
            vec!["/filter"],
        ),
    ] {
        let answer = admin(&tenant).post(PATH, &body);
        if expected.is_empty() {
            answer.json(201);
        } else {
            assert_eq!(pointers(&answer.json(422)), expected, "{body}");
        }
    }
    let endpoint = create(&tenant, &json!({ "url": "https://a.example.com/hook" }));
    let answer = patch(&tenant, &endpoint, &json!({ "url": "http://a.example.com/", "id": 1 })).json(422);
    assert_eq!(pointers(&answer), ["/id", "/url"]);
    assert!(
        !answer.to_string().contains("http://a.example.com"),
        "a URL may hold a secret"
    );
    assert_eq!(shown(&tenant, &endpoint), endpoint, "nothing of it was changed");
    let none = json!({ "endpoint_id": "end_0000000000000000" });
    for answer in [
        admin(&tenant).get(&at(&none)),
        admin(&tenant).get(&format!("{}/deliveries", at(&none))),
        admin(&tenant).post(&format!("{}:replay", at(&none)), &json!({})),
        patch(&tenant, &none, &json!({})),
        Tenant::shared().client_with("root", "admin").get(&at(&endpoint)),
    ] {
        assert_eq!(answer.json(404)["code"], "NOT_FOUND");
    }
    let answer = admin(&tenant)
        .post(&format!("{}:replay", at(&endpoint)), &json!({ "since": "yesterday" }))
        .json(422);
    assert_eq!(pointers(&answer), ["/since"]);
    assert_eq!(tenant.client("alice").get(PATH).json(403)["code"], "FORBIDDEN");
    for number in 2..50 {
        create(&tenant, &json!({ "url": format!("https://a.example.com/{number}") }));
    }
    let answer = admin(&tenant)
        .post(PATH, &json!({ "url": "https://a.example.com/51" }))
        .json(409);
    assert_eq!(answer["code"], "CONFLICT");
}
