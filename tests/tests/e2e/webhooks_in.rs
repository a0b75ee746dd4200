//! Webhooks that come in: what is signed becomes one job, and nothing else does anything.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Sha256, Sha512};
use tidegate_tests::http::{Answer, Client};
use tidegate_tests::server::Server;
use tidegate_tests::tenant::{Tenant, composition};
use tidegate_tests::{eventually, token, unique};

use super::access::{operator, operator_issuer};

/// Within so long an isolate knows what was set, or has passed.
const SECONDS: Duration = Duration::from_secs(5);
/// What the sources of the tests sign with.
const SECRET: &str = "whsec_dGlkZWdhdGUgZW5kIHRvIGVuZCB0ZXN0cw==";

type Headers = Vec<(&'static str, String)>;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(key: &[u8], content: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(content.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn sha512(key: &[u8], content: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha512>::new_from_slice(key).expect("a key of any length");
    mac.update(content.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// What `preset` sends beside `body`: signed with `secret`, at `seconds`, and named `id` where it names it in a header.
fn signed(preset: &str, secret: &str, id: &str, seconds: u64, body: &str) -> Headers {
    let at = seconds.to_string();
    match preset {
        "standard" | "svix" => {
            let key = STANDARD.decode(secret.trim_start_matches("whsec_")).expect("base64");
            let signature = STANDARD.encode(sha256(&key, &format!("{id}.{at}.{body}")));
            let names = match preset {
                "svix" => ["svix-id", "svix-timestamp", "svix-signature"],
                _ => ["webhook-id", "webhook-timestamp", "webhook-signature"],
            };
            names
                .into_iter()
                .zip([id.into(), at, format!("v1,{signature}")])
                .collect()
        }
        "stripe" => {
            let signature = hex(&sha256(secret.as_bytes(), &format!("{at}.{body}")));
            vec![("stripe-signature", format!("t={at},v1={signature},v0=abc"))]
        }
        "github" => {
            let signature = hex(&sha256(secret.as_bytes(), body));
            vec![
                ("x-hub-signature-256", format!("sha256={signature}")),
                ("x-github-event", "push".into()),
            ]
        }
        "slack" => {
            let signature = hex(&sha256(secret.as_bytes(), &format!("v0:{at}:{body}")));
            vec![
                ("x-slack-signature", format!("v0={signature}")),
                ("x-slack-request-timestamp", at),
            ]
        }
        // The configuration of [`document`]: SHA-512, and the time in the signature's own header.
        "own" => {
            let signature = STANDARD.encode(sha512(secret.as_bytes(), &format!("{at}\n{body}")));
            vec![("x-sign", format!("at:{at};sig:{signature}"))]
        }
        other => panic!("{other}"),
    }
}

const SOURCES: [&str; 6] = ["standard", "svix", "stripe", "github", "slack", "own"];

/// A composition with a source of each kind, whose events are delayed for no time.
fn document() -> Value {
    let mut document = composition(None);
    document["actions"]["take"] = json!({ "run": "core.echo", "mode": "async", "scopes": ["hooks:take"] });
    for preset in SOURCES {
        document["webhooks"][preset] = json!({ "preset": preset, "action": "take", "secret": "signing" });
    }
    document["webhooks"]["own"] = json!({ "action": "take", "secret": "signing", "tolerance": "1m", "verify": {
        "algorithm": "hmac-sha512", "header": "X-Sign", "encoding": "base64", "separator": ";", "prefix": "sig:",
        "content": "{timestamp}\n{body}", "timestamp": { "item": "at:" }, "id": { "field": "event.id" },
        "type": { "field": "event.type" },
    } });
    document
}

fn admin(tenant: &Tenant) -> Client {
    tenant.client_with("root", "admin jobs:write")
}

fn set_secret(tenant: &Tenant, value: &str, overlap_ms: u64) {
    let body = json!({ "value": value, "overlap_ms": overlap_ms }).to_string();
    let headers = [("content-type", "application/json")];
    let answer = admin(tenant).send("PUT", "/v1/admin/secrets/signing", &headers, body.as_bytes());
    assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
}

/// A tenant with `document`, which has the secret.
fn receiving(tenant: Tenant, document: &Value) -> Tenant {
    set_secret(&tenant, SECRET, 0);
    tenant.put_composition(document);
    eventually("the composition", || {
        (sources(&tenant).len() == document["webhooks"].as_object().expect("webhooks").len()).then_some(())
    });
    thread::sleep(Duration::from_millis(1_500));
    tenant
}

fn sources(tenant: &Tenant) -> Vec<Value> {
    let list = admin(tenant).get("/v1/admin/webhooks").json(200);
    list["webhooks"].as_array().expect("a list").clone()
}

/// The path of a source's address.
fn path(tenant: &Tenant, source: &str) -> String {
    let found = sources(tenant).into_iter().find(|known| known["source"] == source);
    let url = found.expect("the source")["url"].as_str().expect("a URL").to_owned();
    let path = url
        .strip_prefix(&tenant.server.url())
        .expect("an address of this server");
    path.to_owned()
}

fn send(tenant: &Tenant, path: &str, headers: &Headers, body: &str) -> Answer {
    let mut all: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    all.push(("content-type", "application/json"));
    Client::new(&tenant.server.url(), None).send("POST", path, &all, body.as_bytes())
}

fn event(number: &str) -> String {
    json!({ "id": number, "event_id": number, "type": "invoice.paid", "event": { "id": number, "type": "invoice.paid" } })
        .to_string()
}

fn jobs(tenant: &Tenant) -> Vec<Value> {
    let page = admin(tenant).get("/v1/jobs?action=take&limit=100").json(200);
    page["jobs"].as_array().expect("a list").clone()
}

fn job(tenant: &Tenant, taken: &Value) -> Value {
    let id = taken["job_id"].as_str().unwrap_or_else(|| panic!("no job: {taken}"));
    admin(tenant).get(&format!("/v1/jobs/{id}?wait=30")).json(200)
}

#[test]
fn what_each_source_signs_becomes_one_job_and_one_other_byte_becomes_none() {
    let tenant = receiving(Tenant::shared(), &document());
    for source in SOURCES {
        let (path, now, id) = (path(&tenant, source), token::now_seconds(), format!("evt_{}", unique()));
        let body = event(&id);
        let headers = signed(source, SECRET, &id, now, &body);
        // Whatever is changed: nothing of it is taken, and the answer says nothing.
        let other = body.replace("paid", "paic");
        let mut refused = vec![
            (headers.clone(), other.clone()),
            (headers.clone(), format!("{body} ")),
            (headers.clone(), String::new()),
            (Vec::new(), body.clone()),
            (
                signed(source, "whsec_bm90IHRoZSBzZWNyZXQ=", &id, now, &body),
                body.clone(),
            ),
        ];
        for at in 0..headers.len() {
            if headers[at].0 == "x-github-event" {
                continue;
            }
            let mut changed = headers.clone();
            // A digit in the middle of a time, or of a signature, or of an id.
            let middle = changed[at].1.len() / 2;
            let other = if changed[at].1.as_bytes()[middle] == b'1' {
                "2"
            } else {
                "1"
            };
            changed[at].1.replace_range(middle..=middle, other);
            refused.push((changed, body.clone()));
            let mut without = headers.clone();
            without.remove(at);
            refused.push((without, body.clone()));
        }
        let tolerance = if source == "own" { 60 } else { 300 };
        if source != "github" {
            for at in [now - tolerance - 5, now + tolerance + 5] {
                refused.push((signed(source, SECRET, &id, at, &body), body.clone()));
            }
        }
        let mut answers = Vec::new();
        for (headers, body) in &refused {
            let answer = send(&tenant, &path, headers, body);
            answer.problem(401, "UNAUTHORIZED");
            answers.push(String::from_utf8_lossy(&answer.body).into_owned());
        }
        let plain = |text: &String| serde_json::from_str::<Value>(text).expect("JSON")["detail"].clone();
        assert!(
            answers.iter().all(|answer| plain(answer) == plain(&answers[0])),
            "{answers:?}"
        );
        // As it is, it is a job of the source, with the body that was signed.
        let taken = send(&tenant, &path, &headers, &body).json(202);
        assert_eq!(taken["outcome"], "accepted", "{source}: {taken}");
        let job = job(&tenant, &taken);
        assert_eq!(
            (&job["status"], &job["user"]),
            (&json!("succeeded"), &json!(format!("webhook:{source}")))
        );
        let result = &job["result"];
        assert_eq!(
            (&result["source"], &result["body"]),
            (&json!(source), &serde_json::from_str(&body).expect("JSON"))
        );
        let kind = if source == "github" { "push" } else { "invoice.paid" };
        assert_eq!(result["type"], kind, "{source}");
        // Sent again, with another time and another signature, or as it was: the same job.
        for headers in [headers, signed(source, SECRET, &id, now - 30, &body)] {
            let again = send(&tenant, &path, &headers, &body).json(200);
            assert_eq!(
                (&again["outcome"], &again["job_id"]),
                (&json!("duplicate"), &taken["job_id"])
            );
        }
        if source != "github" {
            // What else the sender says of the same event makes no other job either.
            let body = body.replace("\"type\":\"invoice.paid\"}", "\"type\":\"invoice.paid\",\"pending\":0}");
            let again = send(&tenant, &path, &signed(source, SECRET, &id, now, &body), &body).json(200);
            assert_eq!(again["job_id"], taken["job_id"], "{source}");
        }
    }
    assert_eq!(jobs(&tenant).len(), SOURCES.len());
    // Whoever administers the tenant finds out what was wrong; the rest is told within a minute.
    let trail = admin(&tenant)
        .get("/v1/admin/audit?what=requests.refused")
        .json(200)
        .to_string();
    assert!(trail.contains("standard: wrong_signature"), "{trail}");
}

#[test]
fn both_values_of_a_secret_are_good_in_an_overlap_and_the_old_one_is_not_behind_it() {
    let tenant = receiving(Tenant::shared(), &document());
    let path = path(&tenant, "stripe");
    let status = |secret: &str| {
        let body = event(&format!("evt_{}", unique()));
        let headers = signed("stripe", secret, "", token::now_seconds(), &body);
        send(&tenant, &path, &headers, &body).status
    };
    assert_eq!((status(SECRET), status("whsec_new")), (202, 401));
    set_secret(&tenant, "whsec_new", 12_000);
    eventually("the new secret", || (status("whsec_new") == 202).then_some(()));
    assert_eq!(status(SECRET), 202, "in the overlap");
    thread::sleep(Duration::from_secs(12) + SECONDS);
    assert_eq!((status(SECRET), status("whsec_new")), (401, 202));
    // A secret that a source of Standard Webhooks cannot use: an operator is told, and a sender to try again.
    let listed = sources(&tenant);
    let problem = |source: &str| {
        let found = listed.iter().find(|known| known["source"] == source).expect("a source");
        found["problem"].as_str().unwrap_or_default().to_owned()
    };
    assert!(problem("standard").contains("base64"), "{listed:?}");
    assert_eq!(problem("stripe"), "");
    let answer = send(
        &tenant,
        &self::path(&tenant, "standard"),
        &signed("standard", SECRET, "m", token::now_seconds(), "{}"),
        "{}",
    );
    answer.problem(503, "UNAVAILABLE");
    assert_eq!(answer.header("retry-after"), "60");
}

#[test]
fn an_address_that_was_not_given_out_is_nothing_whosever_it_names() {
    let (tenant, other) = (
        receiving(Tenant::shared(), &document()),
        receiving(Tenant::shared(), &document()),
    );
    let body = event("evt_1");
    let headers = signed("stripe", SECRET, "", token::now_seconds(), &body);
    let own = path(&tenant, "stripe");
    let (_, tag) = own.rsplit_once('/').expect("a tag");
    let stranger = format!("t-{}", unique());
    let absent = |path: &str| {
        let answer = send(&tenant, path, &headers, &body);
        let mut problem = answer.problem(404, "NOT_FOUND");
        problem.as_object_mut().expect("an object").remove("request_id");
        // The connection is the server's affair: it closes one whose body it did not read.
        let names = answer.headers.keys().map(ToString::to_string);
        let names: Vec<String> = names.filter(|name| name != "connection").collect();
        (problem, names)
    };
    let nothing = absent(&format!("/v1/webhooks/{stranger}/stripe/{tag}"));
    for path in [
        // The tag of another source, of another tenant, one other character, and what cannot be one.
        format!("/v1/webhooks/{}/github/{tag}", tenant.id),
        format!("/v1/webhooks/{}/stripe/{tag}", other.id),
        own.replace(tag, &tag.chars().rev().collect::<String>()),
        format!("/v1/webhooks/{}/stripe/x", tenant.id),
        format!("/v1/webhooks/{}/nothing/{tag}", tenant.id),
        format!("/v1/webhooks/Not%20A%20Tenant/stripe/{tag}"),
        format!("/v1/webhooks/{stranger}/stripe/{}", "a".repeat(5000)),
    ] {
        assert_eq!(absent(&path), nothing, "{path}");
    }
    // No object was asked, nor made, for the stranger.
    for object in ["gate", "hub:0", "jobs:0"] {
        assert_eq!(
            tenant.server.constructed(&format!("t:{stranger}:{object}")),
            0,
            "{object}"
        );
    }
    assert!(
        tenant.server.constructed(&format!("t:{}:gate", tenant.id)) > 0,
        "it is seen where one is made"
    );
    assert_eq!((jobs(&tenant).len(), jobs(&other).len()), (0, 0));
    // An address that is good, of a source that the composition has no longer.
    let mut document = document();
    document["webhooks"].as_object_mut().expect("webhooks").remove("stripe");
    tenant.put_composition(&document);
    thread::sleep(Duration::from_millis(2_500));
    assert_eq!(absent(&own), nothing);
    // It takes POST alone, and a body that fits.
    let client = Client::new(&tenant.server.url(), None);
    client.get(&own).problem(405, "METHOD_NOT_ALLOWED");
    let large = "x".repeat(1024 * 1024 + 1);
    send(
        &tenant,
        &path(&tenant, "github"),
        &signed("github", SECRET, "", 0, &large),
        &large,
    )
    .problem(413, "PAYLOAD_TOO_LARGE");
}

#[test]
fn what_needs_no_job_makes_none() {
    let mut document = document();
    document["webhooks"]["stripe"]["events"] = json!(["invoice.*"]);
    document["webhooks"]["github"]["headers"] = json!(["X-GitHub-Delivery"]);
    let tenant = receiving(Tenant::shared(), &document);
    let now = token::now_seconds();
    let post = |source: &str, more: &[(&'static str, &str)], body: &str| {
        let mut headers = signed(source, SECRET, "msg", now, body);
        headers.retain(|(name, _)| more.iter().all(|(other, _)| name != other));
        headers.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        send(&tenant, &path(&tenant, source), &headers, body)
    };
    let ignored = json!({ "outcome": "ignored" });
    assert_eq!(
        post("github", &[("x-github-event", "ping")], "{\"zen\":1}").json(200),
        ignored
    );
    assert_eq!(
        post("stripe", &[], "{\"id\":\"e\",\"type\":\"charge.failed\"}").json(200),
        ignored
    );
    let question = json!({ "type": "url_verification", "challenge": "3eZbrw1a" }).to_string();
    assert_eq!(
        post("slack", &[], &question).json(200),
        json!({ "challenge": "3eZbrw1a" })
    );
    // Unsigned, the question is not answered.
    send(&tenant, &path(&tenant, "slack"), &Vec::new(), &question).problem(401, "UNAUTHORIZED");
    assert_eq!(jobs(&tenant), Vec::<Value>::new());
    // A form, and a header that the job is given.
    let form = "token=x&command=%2Fweather&text=94070";
    let taken = post("slack", &[("content-type", "application/x-www-form-urlencoded")], form).json(202);
    assert_eq!(job(&tenant, &taken)["result"]["body"], form);
    let taken = post("github", &[("x-github-delivery", "72d3")], "{}").json(202);
    let given = job(&tenant, &taken)["result"].clone();
    assert_eq!(
        (&given["headers"], &given["type"]),
        (&json!({ "x-github-delivery": "72d3" }), &json!("push"))
    );
}

#[test]
fn a_source_passes_limits_and_policies_as_any_caller_does() {
    let mut document = document();
    let limit = json!({ "actions": "take", "key": "user", "quota": { "units": 2, "per": "1h" } });
    document["admission"] = json!({ "limits": { "events": limit } });
    document["policies"]["no-slack"] = json!({ "when": "user == 'webhook:slack'", "effect": "deny" });
    let tenant = receiving(Tenant::shared(), &document);
    let post = |source: &str| {
        let id = format!("evt_{}", unique());
        let body = event(&id);
        send(
            &tenant,
            &path(&tenant, source),
            &signed(source, SECRET, &id, token::now_seconds(), &body),
            &body,
        )
    };
    for _ in 0..2 {
        assert_eq!(post("stripe").status, 202);
    }
    let refused = post("stripe");
    refused.problem(429, "QUOTA_EXCEEDED");
    assert!(
        refused.header("retry-after").parse::<u64>().is_ok(),
        "senders are told when to try again"
    );
    assert_eq!(post("github").status, 202, "each source is a user of its own");
    post("slack").problem(403, "FORBIDDEN");
    // What is paused waits, and the sender does not.
    let pause = json!({ "action": "take" });
    admin(&tenant).post("/v1/queue:pause", &pause).json(200);
    let taken = post("github").json(202);
    let path = format!("/v1/jobs/{}", taken["job_id"].as_str().expect("an id"));
    assert_eq!(admin(&tenant).get(&path).json(200)["status"], "queued");
}

#[test]
fn a_suspended_tenants_sources_are_refused_until_it_is_resumed() {
    let server = Arc::new(Server::start_with_issuers(&[operator_issuer()]));
    let tenant = receiving(Tenant::new(Arc::clone(&server)), &document());
    let path = path(&tenant, "github");
    let post = || send(&tenant, &path, &signed("github", SECRET, "", 0, "{}"), "{}");
    assert_eq!(post().status, 202);
    let hold = |what: &str| {
        let path = format!("/v1/admin/tenants/{}:{what}", tenant.id);
        operator(&server).post(&path, &json!({})).json(200);
        thread::sleep(Duration::from_millis(2_500));
    };
    hold("suspend");
    post().problem(403, "TENANT_SUSPENDED");
    hold("resume");
    assert_eq!(post().json(200)["outcome"], "duplicate");
    // The server's own death loses nothing of it.
    server.kill();
    server.start_again();
    let again = eventually("the server", || Some(post()).filter(|answer| answer.status == 200));
    assert_eq!(again.json(200)["outcome"], "duplicate");
}

#[test]
fn a_composition_whose_sources_cannot_work_is_refused_with_all_faults() {
    let tenant = Tenant::shared();
    let mut document = document();
    document["webhooks"]["stripe"]["secret"] = json!("nothing");
    let problem = tenant.try_composition(&document).problem(422, "VALIDATION_ERROR");
    let details = problem["details"].as_array().expect("details");
    assert_eq!(details.len(), SOURCES.len(), "{problem}");
    assert!(
        details
            .iter()
            .any(|fault| fault["pointer"] == "/webhooks/stripe/secret"),
        "{problem}"
    );
    document["webhooks"]["slack"]["action"] = json!("tak");
    document["webhooks"]["github"]["preset"] = json!("gitub");
    let problem = tenant.try_composition(&document).problem(422, "VALIDATION_ERROR");
    let suggested: Vec<&Value> = problem["details"]
        .as_array()
        .expect("details")
        .iter()
        .map(|fault| &fault["suggestion"])
        .collect();
    assert_eq!(suggested, ["github", "take"], "{problem}");
    // The list is for administrators, and shows what is active.
    tenant.client("ann").get("/v1/admin/webhooks").problem(403, "FORBIDDEN");
    assert_eq!(sources(&tenant), Vec::<Value>::new());
}
