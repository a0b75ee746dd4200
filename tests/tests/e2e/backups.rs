//! Backups of a tenant: whole, whatever is killed meanwhile; and a tenant that comes back from one as it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_tests::http::{Answer, Client};
use tidegate_tests::server::{DEPLOYMENT_KEY, Server};
use tidegate_tests::tenant::{Tenant, composition};
use tidegate_tests::{eventually, unique};

use crate::access::{operator, operator_issuer};
use crate::tenant_directory::command;

fn server() -> Arc<Server> {
    Arc::new(Server::start_with_issuers(&[operator_issuer()]))
}

/// Bytes of an object that is copied in pieces.
const LARGE: usize = 20_000_000;

fn large() -> Vec<u8> {
    (0..LARGE).map(|n| u8::try_from(n * 31 % 251).unwrap_or(0)).collect()
}

fn path(tenant: &Tenant, below: &str) -> String {
    format!("/v1/admin/tenants/{}{below}", tenant.id)
}

fn admin(tenant: &Tenant) -> Client {
    tenant.client_with("root", "admin jobs:read jobs:write")
}

fn put(client: &Client, path: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json")];
    client.send("PUT", path, &headers, body.to_string().as_bytes())
}

fn submit(tenant: &Tenant, user: &str, body: &Value) -> String {
    let accepted = tenant.client(user).post("/v1/requests", body).json(202);
    accepted["job_id"].as_str().expect("a job").to_owned()
}

/// A tenant with something of every kind: jobs in all states on three shards, a schedule, an endpoint, a key, a secret,
/// budgets, objects, and payloads and results that are too large for a row.
fn fill(tenant: &Tenant) -> Filled {
    let mut document = composition(None);
    document["scale"] = json!({ "hubs": 1, "shards": 3 });
    document["schedules"] = json!({ "yearly": { "cron": "0 0 1 1 *", "action": "slow", "payload": { "ms": 1 } } });
    document["actions"]["large"] = json!({ "run": "core.echo", "mode": "async", "lease": "2s" });
    tenant.put_composition(&document);
    let admin = admin(tenant);
    let key = admin
        .post("/v1/admin/keys", &json!({ "name": "ci", "user": "ci" }))
        .json(201);
    assert_eq!(
        put(&admin, "/v1/admin/secrets/bank", &json!({ "value": "hush" })).status,
        201
    );
    let endpoint = json!({ "url": "http://127.0.0.1:9/x", "events": ["job.failed"], "enabled": false });
    admin.post("/v1/admin/endpoints", &endpoint).json(201);
    let objects = [
        ("a.txt", b"mine".to_vec()),
        ("large.bin", large()),
        ("empty", Vec::new()),
    ];
    for (name, bytes) in &objects {
        let length = bytes.len().to_string();
        let headers = [("content-type", "text/x-test"), ("content-length", length.as_str())];
        let stored = admin.send("PUT", &format!("/v1/objects/{name}"), &headers, bytes);
        assert_eq!(stored.status, 201, "{}", stored.text());
    }
    let text = "x".repeat(300_000);
    let mut ended = Vec::new();
    for n in 0..12 {
        let body = json!({ "action": "slow", "payload": { "ms": 1 }, "idempotency_key": format!("key-{n}") });
        ended.push(submit(tenant, "ann", &body));
    }
    let large = submit(
        tenant,
        "ann",
        &json!({ "action": "large", "payload": { "text": text } }),
    );
    ended.push(large.clone());
    let failed = submit(tenant, "bob", &json!({ "action": "boom", "payload": {} }));
    ended.push(failed);
    let cancelled = submit(
        tenant,
        "bob",
        &json!({ "action": "slow", "payload": { "ms": 600_000 } }),
    );
    assert_eq!(
        admin
            .send("POST", &format!("/v1/jobs/{cancelled}:cancel"), &[], &[])
            .status,
        202
    );
    ended.push(cancelled);
    for job in &ended {
        admin.get(&format!("/v1/jobs/{job}?wait=30")).json(200);
    }
    let waiting = submit(
        tenant,
        "ann",
        &json!({ "action": "large", "payload": { "text": text }, "delay_ms": 3_600_000 }),
    );
    let running = submit(
        tenant,
        "ann",
        &json!({ "action": "slow", "payload": { "ms": 8_000, "steps": 8 } }),
    );
    Filled {
        key: key["api_key"].as_str().expect("a key").to_owned(),
        large,
        waiting,
        running,
    }
}

struct Filled {
    key: String,
    large: String,
    waiting: String,
    running: String,
}

/// Everything of a tenant that can be seen from outside, and does not change by itself.
fn seen(tenant: &Tenant, filled: &Filled) -> BTreeMap<String, Value> {
    let admin = admin(tenant);
    let mut seen = BTreeMap::new();
    let jobs = admin.get("/v1/jobs?limit=100").json(200)["jobs"].clone();
    for job in jobs.as_array().expect("jobs") {
        let id = job["job_id"].as_str().expect("an id");
        if id != filled.running {
            seen.insert(format!("job {id}"), job.clone());
            for below in ["", "/events"] {
                let path = format!("/v1/jobs/{id}{below}");
                let answer = admin.send("GET", &path, &[("accept", "application/json")], &[]);
                seen.insert(path, answer.json(200));
            }
        }
    }
    for path in [
        "/v1/admin/keys",
        "/v1/admin/secrets",
        "/v1/admin/endpoints",
        "/v1/admin/composition",
        "/v1/schedules",
        "/v1/dead-letters",
        "/v1/admin/webhook-secret",
    ] {
        seen.insert(path.into(), admin.get(path).json(200));
    }
    for name in ["a.txt", "large.bin", "empty"] {
        let answer = admin.get(&format!("/v1/objects/{name}"));
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let hash = answer.body.iter().fold(7_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let shown = json!([hash, answer.body.len(), answer.header("content-type")]);
        seen.insert(name.into(), shown);
    }
    let result = admin.get(&format!("/v1/jobs/{}/result", filled.large));
    seen.insert("large result".into(), result.json(200));
    seen
}

/// The entries of the audit trail, the oldest first.
fn trail(tenant: &Tenant) -> Vec<Value> {
    let page = admin(tenant).get("/v1/admin/audit?limit=200").json(200);
    let mut entries = page["entries"].as_array().expect("entries").clone();
    entries.reverse();
    entries
}

fn take(server: &Server, tenant: &Tenant) -> String {
    let taken = operator(server).post(&path(tenant, "/backups"), &json!({})).json(202);
    assert_eq!(taken["state"], "running", "{taken}");
    taken["backup"].as_str().expect("an id").to_owned()
}

fn ended(server: &Server, tenant: &Tenant, backup: &str) -> Value {
    let path = path(tenant, &format!("/backups/{backup}"));
    eventually("the backup stands still", || {
        let shown = operator(server).get(&path).json(200);
        let state = shown["state"].as_str()?.to_owned();
        (!matches!(state.as_str(), "running" | "restoring")).then_some(shown)
    })
}

fn erase(server: &Server, tenant: &Tenant, keep_backups: bool) {
    let headers = [("content-type", "application/json")];
    let body = json!({ "confirm": tenant.id, "keep_backups": keep_backups }).to_string();
    let operator = operator(server);
    let answer = operator.send("DELETE", &path(tenant, ""), &headers, body.as_bytes());
    assert_eq!(answer.status, 202, "{}", answer.text());
    let shown = eventually("the tenant is erased", || {
        let shown = operator.get(&path(tenant, "")).json(200);
        (shown["state"] == "erased").then_some(shown)
    });
    assert_eq!(shown["erasure"]["backups_kept"], json!(keep_backups));
}

fn restore(server: &Server, tenant: &Tenant, backup: &str) -> Answer {
    operator(server).post(&path(tenant, &format!("/backups/{backup}:restore")), &json!({}))
}

fn resume(server: &Server, tenant: &Tenant) {
    let resumed = operator(server).post(&path(tenant, ":resume"), &json!({})).json(200);
    assert_eq!(resumed["state"], "active");
    eventually("the tenant is let in", || {
        (tenant.client("ann").get("/v1/jobs").status == 200).then_some(())
    });
}

/// All parts of a backup, the manifest first.
fn parts(server: &Server, tenant: &Tenant, backup: &str) -> Vec<Vec<u8>> {
    let count = ended(server, tenant, backup)["parts"].as_u64().expect("a count");
    (0..=count)
        .map(|part| {
            let answer = operator(server).get(&path(tenant, &format!("/backups/{backup}/parts/{part}")));
            assert_eq!(answer.status, 200, "{}", answer.text());
            answer.body
        })
        .collect()
}

fn upload(server: &Server, tenant: &Tenant, backup: &str, part: usize, bytes: &[u8]) -> Answer {
    let path = path(tenant, &format!("/backups/{backup}/parts/{part}"));
    operator(server).send("PUT", &path, &[], bytes)
}

/// The tenant, on another server.
fn on(server: &Arc<Server>, tenant: &Tenant) -> Tenant {
    Tenant {
        id: tenant.id.clone(),
        ..Tenant::new(server.clone())
    }
}

fn succeeds(tenant: &Tenant, job: &str) {
    let done = admin(tenant).get(&format!("/v1/jobs/{job}?wait=60")).json(200);
    assert_eq!(done["status"], "succeeded", "{done}");
}

#[test]
fn a_tenant_comes_back_as_it_was_whatever_is_killed_meanwhile() {
    let server = server();
    let tenant = Tenant::new(server.clone());
    let filled = fill(&tenant);
    let (before, trailed) = (seen(&tenant, &filled), trail(&tenant));
    let backup = take(&server, &tenant);
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(fastrand::u64(5..250)));
        server.kill();
        server.start_again();
    }
    let shown = ended(&server, &tenant, &backup);
    assert_eq!(shown["state"], "kept", "{shown}\n{}", server.log_tail());
    assert!(shown["rows"].as_u64() > Some(20), "{shown}");
    // Three of its own, a payload, a result, and what a running job may have put by.
    assert!(shown["stored_objects"].as_u64() >= Some(5), "{shown}");
    assert!(shown["held_ms"].as_u64() < Some(10_000), "{shown}");
    // What is done after the moment is no part of it.
    let later = submit(&tenant, "ann", &json!({ "action": "slow", "payload": { "ms": 1 } }));
    succeeds(&tenant, &filled.running);
    let trail_of_backup = trail(&tenant).pop().expect("an entry");
    assert_eq!(trail_of_backup["what"], "tenant.backed_up");
    restore(&server, &tenant, &backup).problem(409, "CONFLICT");
    erase(&server, &tenant, true);
    let accepted = restore(&server, &tenant, &backup).json(202);
    assert_eq!(accepted["state"], "restoring");
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(fastrand::u64(5..250)));
        server.kill();
        server.start_again();
        tenant.client("ann").get("/v1/jobs").problem(403, "TENANT_SUSPENDED");
    }
    let shown = ended(&server, &tenant, &backup);
    assert!(shown["restored_at"].is_string(), "{shown}\n{}", server.log_tail());
    let listed = operator(&server).get(&path(&tenant, "")).json(200);
    assert_eq!(listed["state"], "suspended", "{listed}");
    let acts: Vec<&Value> = listed["acts"]
        .as_array()
        .expect("acts")
        .iter()
        .map(|act| &act["what"])
        .collect();
    assert_eq!(acts, ["restored", "erased", "backed_up"]);
    tenant.client("ann").get("/v1/jobs").problem(403, "TENANT_SUSPENDED");
    resume(&server, &tenant);
    assert_eq!(seen(&tenant, &filled), before);
    admin(&tenant).get(&format!("/v1/jobs/{later}")).is_not_found();
    // The trail is what it was, and goes on from there.
    let after = trail(&tenant);
    assert_eq!(after.get(..trailed.len()), Some(trailed.as_slice()));
    let more = after.iter().skip(trailed.len()).map(|entry| &entry["what"]);
    // Those who asked in between were refused, which is told as well.
    let whats: Vec<&Value> = more.filter(|what| **what != json!("requests.refused")).collect();
    assert_eq!(whats, ["tenant.restored", "tenant.suspended", "tenant.resumed"]);
    // What was running is tried again, without anybody asking for it; a key is known; the same request is the same job.
    succeeds(&tenant, &filled.running);
    let ci = Client::new(&server.url(), Some(&filled.key));
    assert_eq!(ci.get("/v1/jobs").status, 200);
    let again = json!({ "action": "slow", "payload": { "ms": 1 }, "idempotency_key": "key-3" });
    let again = tenant.client("ann").post("/v1/requests", &again).json(200);
    assert_eq!(again["deduplicated"], json!(true), "{again}");
    // A payload in object storage is there for the job that waits for it.
    let waiting = json!({ "run_at": "2026-01-01T00:00:00Z" });
    let moved = admin(&tenant).post(&format!("/v1/jobs/{}:reschedule", filled.waiting), &waiting);
    assert!(moved.status < 300, "{}", moved.text());
    succeeds(&tenant, &filled.waiting);
    // It can be restored once more from the same backup, and is gone with its tenant unless it is kept.
    assert_eq!(ended(&server, &tenant, &backup)["state"], "kept");
    erase(&server, &tenant, false);
    let operator = operator(&server);
    let none = operator.get(&path(&tenant, "/backups")).json(200);
    assert_eq!(none["backups"], json!([]));
    operator
        .get(&path(&tenant, &format!("/backups/{backup}/parts/0")))
        .is_not_found();
}

#[test]
fn a_backup_comes_to_another_deployment_and_a_broken_part_is_refused_by_name() {
    let (server, other) = (server(), server());
    let tenant = Tenant::new(server.clone());
    let filled = fill(&tenant);
    let before = seen(&tenant, &filled);
    let backup = take(&server, &tenant);
    assert_eq!(ended(&server, &tenant, &backup)["state"], "kept");
    let parts = parts(&server, &tenant, &backup);
    let there = on(&other, &tenant);
    for (part, bytes) in parts.iter().enumerate() {
        let shown = upload(&other, &there, &backup, part, bytes).json(200);
        assert_eq!(shown["state"], "uploading");
    }
    let bring = |part: usize, bytes: &[u8]| assert_eq!(upload(&other, &there, &backup, part, bytes).status, 200);
    let refused = || {
        restore(&other, &there, &backup).json(202);
        let shown = ended(&other, &there, &backup);
        assert_eq!(shown["state"], "failed", "{shown}");
        // Nothing of the tenant is there.
        operator(&other).get(&path(&there, "")).is_not_found();
        shown["reason"].as_str().expect("a reason").to_owned()
    };
    // A changed byte of a part, a part that is missing a byte, and a manifest that is cut short or of another tenant.
    for (part, bytes) in parts.iter().enumerate().skip(1) {
        if part > 2 && part < parts.len() - 1 {
            continue;
        }
        let mut changed = bytes.clone();
        let place = changed.len() / 2;
        changed[place] ^= 1;
        bring(part, &changed);
        assert_eq!(
            refused(),
            format!("Part {part} is broken: its SHA-256 is not the one in the manifest.")
        );
        bring(part, bytes);
    }
    let manifest = String::from_utf8(parts[0].clone()).expect("text");
    let short = manifest.trim_end().rsplit_once('\n').expect("lines").0;
    for (text, reason) in [
        (short.to_owned(), "parts."),
        (
            manifest.replacen(&tenant.id, "somebody", 1),
            "The backup is of tenant somebody",
        ),
        (manifest.replace(":jobs:0", ":jobs:9"), "is no object of this tenant"),
        (
            manifest.replace("\"schema\":", "\"schema\":9"),
            "The backup is of a later version",
        ),
        ("{}".to_owned(), "Part 0 is no manifest of a backup."),
    ] {
        bring(0, text.as_bytes());
        let said = refused();
        assert!(said.contains(reason), "{said}");
    }
    bring(0, &parts[0]);
    restore(&other, &there, &backup).json(202);
    let shown = ended(&other, &there, &backup);
    assert!(shown["restored_at"].is_string(), "{shown}");
    upload(&other, &there, &backup, 1, &parts[1]).problem(409, "CONFLICT");
    resume(&other, &there);
    assert_eq!(seen(&there, &filled), before);
    succeeds(&there, &filled.running);
    // With another deployment key, what it had sealed and signed is of no use, and said to be so.
    other.kill();
    other.start_again_with(&"k".repeat(DEPLOYMENT_KEY.len()), Some(DEPLOYMENT_KEY));
    let secrets = admin(&there).get("/v1/admin/secrets").json(200);
    assert_ne!(secrets, before["/v1/admin/secrets"], "{secrets}");
}

#[test]
fn a_tenant_is_carried_to_another_deployment_by_the_command() {
    let (server, other) = (server(), server());
    let tenant = Tenant::new(server.clone());
    let filled = fill(&tenant);
    let before = seen(&tenant, &filled);
    let folder = server.files().join("exported");
    let folder = folder.to_str().expect("a path");
    let exported = command(&server, &["tenant", "export", &tenant.id, "--to", folder]);
    assert_eq!(exported[0]["state"], "kept", "{exported:?}");
    let listed = command(&server, &["tenant", "backups", &tenant.id]);
    assert_eq!(listed[0]["backup"], exported[0]["backup"]);
    let imported = command(&other, &["tenant", "import", folder]);
    assert!(imported[0]["restored_at"].is_string(), "{imported:?}");
    assert_eq!(imported[0]["rows"], exported[0]["rows"]);
    let there = on(&other, &tenant);
    let resumed = command(&other, &["tenant", "resume", &tenant.id]);
    assert_eq!(resumed[0]["state"], "active");
    eventually("the tenant is let in", || {
        (there.client("ann").get("/v1/jobs").status == 200).then_some(())
    });
    assert_eq!(seen(&there, &filled), before);
    // And back again, in place of the one that is erased.
    let erased = [
        "tenant",
        "erase",
        &tenant.id,
        "--confirm",
        &tenant.id,
        "--keep-backups",
        "--wait",
    ];
    assert_eq!(command(&server, &erased)[0]["state"], "erased");
    let backup = exported[0]["backup"].as_str().expect("an id");
    let restored = command(&server, &["tenant", "restore", &tenant.id, backup, "--wait"]);
    assert!(restored[0]["restored_at"].is_string(), "{restored:?}");
}

#[test]
fn what_cannot_be_done_with_a_backup_is_said() {
    let server = server();
    let tenant = Tenant::new(server.clone());
    let operator = operator(&server);
    operator.post(&path(&tenant, "/backups"), &json!({})).is_not_found();
    operator.get(&path(&tenant, "/backups")).is_not_found();
    tenant.compose(None);
    let none = operator.get(&path(&tenant, "/backups")).json(200);
    assert_eq!(none["backups"], json!([]));
    let pretender = tenant.client_with("root", "admin operator");
    pretender.get(&path(&tenant, "/backups")).problem(403, "FORBIDDEN");
    pretender
        .post(&path(&tenant, "/backups"), &json!({}))
        .problem(403, "FORBIDDEN");
    let absent = format!("/backups/bak_{}", "0".repeat(18));
    for below in ["", "/parts/0", "/parts/x"] {
        operator.get(&path(&tenant, &format!("{absent}{below}"))).is_not_found();
    }
    operator
        .post(&path(&tenant, &format!("{absent}:restore")), &json!({}))
        .is_not_found();
    // The same key: one backup.
    let key = [("idempotency-key", unique())];
    let key = [(key[0].0, key[0].1.as_str())];
    let taken = operator
        .post_with(&path(&tenant, "/backups"), &key, &json!({}))
        .json(202);
    let again = operator
        .post_with(&path(&tenant, "/backups"), &key, &json!({}))
        .json(202);
    assert_eq!(taken["backup"], again["backup"]);
    let backup = taken["backup"].as_str().expect("an id");
    ended(&server, &tenant, backup);
    upload(&server, &tenant, backup, 1, b"mine").problem(409, "CONFLICT");
    let one = path(&tenant, &format!("/backups/{backup}"));
    let deleted = operator.send("DELETE", &one, &[], &[]).json(202);
    assert_eq!(deleted["state"], "deleting");
    eventually("the backup is gone", || {
        (operator.get(&one).status == 404).then_some(())
    });
    operator.get(&format!("{one}/parts/0")).is_not_found();
}
