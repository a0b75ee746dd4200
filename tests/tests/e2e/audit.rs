//! The audit trail: who changed what by hand, once for each act, whatever dies in between; and its chain, which is computed
//! here once more, from what the documentation says of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tidegate_tests::eventually;
use tidegate_tests::http::Client;
use tidegate_tests::server::Server;
use tidegate_tests::socket::job_of;
use tidegate_tests::stage::{Between, Stage};
use tidegate_tests::tenant::{Tenant, composition};

use crate::three_ways;

three_ways! {
    what_is_done_by_hand_is_told_once(super::told_once);
}

fn entries(admin: &Client, query: &str) -> Vec<Value> {
    let page = admin.get(&format!("/v1/admin/audit{query}")).json(200);
    page["entries"].as_array().expect("a list").clone()
}

/// The acts of the trail, oldest first, once there are `count` of them; a moment later there are still as many.
fn acts(admin: &Client, count: usize) -> Vec<String> {
    let enough = || Some(entries(admin, "")).filter(|entries| entries.len() >= count);
    let mut entries = eventually("the entries of the audit trail", enough);
    entries.reverse();
    let name = |entry: &Value| entry["what"].as_str().expect("a text").to_owned();
    entries.iter().map(name).collect()
}

fn failed(client: &Client) -> String {
    let body = json!({
        "action": "boom", "payload": { "message": "secret of the payload", "retryable": false },
        "metadata": { "note": "secret of the note" },
    });
    let job = job_of(&client.post("/v1/requests", &body).json(202));
    let ended = client.get(&format!("/v1/jobs/{job}?wait=30")).json(200);
    assert_eq!(ended["status"], "failed", "{ended}");
    job
}

fn told_once(between: Between) {
    let mut stage = Stage::new(between, None);
    let client = stage.tenant.client("alice");
    let dead: Vec<String> = (0..3).map(|_| failed(&client)).collect();
    let later = json!({ "action": "slow", "delay_ms": 600_000 });
    let [own, other] = [(); 2].map(|()| job_of(&client.post("/v1/requests", &later).json(202)));

    let operator = stage.tenant.client_with("op", "jobs:write jobs:read");
    operator.post("/v1/queue:pause", &json!({ "action": "ec*" })).json(200);
    operator.post("/v1/queue:pause", &json!({ "action": "ec*" })).json(200);
    let all = |dry_run: bool| json!({ "filter": { "action": "boom" }, "dry_run": dry_run });
    operator.post("/v1/dead-letters:redrive", &all(true)).json(200);
    let done = operator.post("/v1/dead-letters:redrive", &all(false)).json(200);
    assert_eq!(done["jobs"].as_array().map(Vec::len), Some(3), "{done}");
    stage.interrupt();

    let client = stage.tenant.client("alice");
    client.post(&format!("/v1/jobs/{own}:cancel"), &json!({})).json(202);
    let operator = stage.tenant.client_with("op", "jobs:write jobs:read");
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    operator
        .post_with(
            &format!("/v1/jobs/{other}:cancel"),
            &[("traceparent", trace)],
            &json!({}),
        )
        .json(202);
    operator.post("/v1/queue:resume", &json!({ "action": "ec*" })).json(200);
    stage.interrupt();

    let admin = stage.tenant.client_with("root", "admin");
    let expected = [
        "composition.activated",
        "queue.paused",
        "dead_letters.redriven",
        "job.cancelled",
        "queue.resumed",
    ];
    assert_eq!(acts(&admin, expected.len()), expected);
    let entry = &entries(&admin, "?what=dead_letters.redriven")[0];
    assert_eq!(entry["counts"], json!({ "done": 3, "refused": 0 }), "{entry}");
    assert_eq!(entry["who"], json!({ "user": "op", "via": "token" }), "{entry}");
    assert_eq!(entry["target"]["filter"], json!({ "action": "boom" }), "{entry}");
    for job in &dead {
        assert!(
            entry["target"]["jobs"].as_array().unwrap().contains(&json!(job)),
            "{entry}"
        );
    }
    let entry = &entries(&admin, "?what=job.cancelled")[0];
    assert_eq!(
        (&entry["target"]["jobs"], &entry["traceparent"]),
        (&json!([other]), &json!(trace))
    );
    assert!(
        entry["request_id"].as_str().is_some_and(|id| id.starts_with("req_")),
        "{entry}"
    );
    let whole = admin.get("/v1/admin/audit").text();
    assert!(!whole.contains("secret of"), "{whole}");
    let (entries, head) = trail(&admin, 0);
    assert_eq!(chained(&entries, 0, &genesis()), head, "{entries:?}");
    stage.finish(None);
}

#[test]
fn the_trail_takes_the_scope_admin_and_is_narrowed_and_followed() {
    let tenant = Tenant::shared();
    let admin = tenant.client_with("root", "admin");
    let mut document = composition(None);
    tenant.put_composition(&document);
    document["actions"]["more"] = json!({ "run": "core.echo" });
    tenant.put_composition(&document);
    tenant.put_composition(&composition(None));
    let back = &entries(&admin, "?what=composition.rolled_back");
    assert_eq!(back.len(), 1, "{back:?}");
    assert_eq!(entries(&admin, "?user=admin").len(), 3);
    assert_eq!(entries(&admin, "?user=root").len(), 0);
    assert_eq!(entries(&admin, "?to=2026-01-01T00:00:00Z").len(), 0);
    let page = admin.get("/v1/admin/audit?limit=2").json(200);
    let cursor = page["cursor"].as_str().expect("there is more").to_owned();
    let rest = admin.get(&format!("/v1/admin/audit?limit=2&cursor={cursor}")).json(200);
    assert_eq!(rest["entries"].as_array().map(Vec::len), Some(1), "{rest}");
    assert!(rest["cursor"].is_null(), "{rest}");

    for scope in ["", "jobs:read jobs:write"] {
        let client = tenant.client_with("alice", scope);
        client.get("/v1/admin/audit").problem(403, "FORBIDDEN");
    }
    let problem = admin
        .get("/v1/admin/audit?what=job.made&form=x")
        .problem(422, "VALIDATION_ERROR");
    assert_eq!(problem["details"].as_array().map(Vec::len), Some(2), "{problem}");
    // Another tenant has a trail of its own.
    let other = Tenant::shared();
    assert!(entries(&other.client_with("root", "admin"), "").is_empty());
}

fn hash(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn genesis() -> String {
    hash("tidegate-audit-1\ngenesis\n0")
}

/// JSON with the keys of every object in order, and without blanks.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<_, _> = members.iter().collect();
            let members: Vec<_> = sorted
                .into_iter()
                .map(|(key, value)| format!("{}:{}", json!(key), canonical(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(values) => format!("[{}]", values.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

/// The head of entries that follow the one with the number `seq` and the hash `hash`.
fn chained(entries: &[Value], mut seq: u64, before: &str) -> String {
    let mut before = before.to_owned();
    for entry in entries {
        seq += 1;
        assert_eq!((&entry["seq"], &entry["previous_hash"]), (&json!(seq), &json!(before)));
        let mut text = entry.clone();
        for member in ["seq", "previous_hash", "hash"] {
            text.as_object_mut().expect("an object").remove(member);
        }
        before = hash(&format!("tidegate-audit-1\n{seq}\n{before}\n{}", canonical(&text)));
        assert_eq!(entry["hash"], json!(before), "{entry}");
    }
    format!("{seq}:{before}")
}

/// What is kept behind an entry, as it was written; and the head.
fn trail(admin: &Client, mut after: u64) -> (Vec<Value>, String) {
    let mut all = Vec::new();
    loop {
        let page = admin.get(&format!("/v1/admin/audit?limit=200&after={after}")).json(200);
        all.extend(page["entries"].as_array().expect("a list").iter().cloned());
        match page["cursor"].as_str() {
            Some(cursor) => after = cursor.parse().expect("a number"),
            None => return (all, page["head"].as_str().expect("a head").to_owned()),
        }
    }
}

/// 300 acts and the composition's are 301 entries: 100 stay, and 200 are a segment.
#[test]
fn old_entries_are_stored_before_they_are_deleted_and_the_chain_goes_through() {
    let server = Arc::new(Server::start_faulty());
    let tenant = Tenant::new(server.clone());
    tenant.compose(None);
    server.objects("fail");
    let operator = tenant.client_with("op", "jobs:write jobs:read");
    let act = || {
        for what in ["pause", "resume"] {
            let path = format!("/v1/queue:{what}");
            operator.post(&path, &json!({ "action": "ec*" })).json(200);
        }
    };
    (0..150).for_each(|_| act());
    let admin = tenant.client_with("root", "admin");
    let all = || Some(trail(&admin, 0)).filter(|(entries, _)| entries.len() == 301);
    let (entries, head) = eventually("all entries", all);
    assert_eq!(chained(&entries, 0, &genesis()), head);
    let page = admin.get("/v1/admin/audit?limit=1").json(200);
    assert!(
        page["checkpoint"].is_null(),
        "nothing is deleted that is not stored: {page}"
    );

    server.objects("work");
    act();
    let stored = || {
        let page = admin.get("/v1/admin/audit/archive").json(200);
        Some(page).filter(|page| page["segments"].as_array().is_some_and(|all| !all.is_empty()))
    };
    let segments = eventually("a segment", stored);
    let segment = &segments["segments"][0];
    assert_eq!(
        (&segment["first"], &segment["last"]),
        (&json!(1), &json!(200)),
        "{segment}"
    );
    let path = format!("/v1/admin/audit/archive/{}", segment["name"].as_str().expect("a name"));
    let segment = admin.get(&path);
    assert_eq!(
        (segment.status, segment.header("content-type")),
        (200, "application/x-ndjson")
    );
    let text = String::from_utf8(segment.body).expect("text");
    let archived: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(archived, entries[..200], "to the letter");
    let end = chained(&archived, 0, &genesis());
    let (_, before) = end.split_once(':').expect("a head");

    // Deleted once it is stored, and never again there; the chain goes through, also after a kill.
    let checkpoint = || {
        let page = admin.get("/v1/admin/audit?limit=1").json(200);
        (page["checkpoint"] == json!(end)).then_some(())
    };
    eventually("the checkpoint", checkpoint);
    let whole = || Some(trail(&admin, 0)).filter(|(entries, _)| entries.len() == 103);
    let (kept, head) = eventually("the rest", whole);
    assert_eq!(chained(&kept, 200, before), head);
    server.kill();
    server.start_again();
    let admin = tenant.client_with("root", "admin");
    assert_eq!(trail(&admin, 0), (kept, head));

    // Only for administrators, and each tenant for itself; no object of the tenant's own is a segment.
    for scope in ["", "jobs:read jobs:write"] {
        let client = tenant.client_with("alice", scope);
        client.get("/v1/admin/audit/archive").problem(403, "FORBIDDEN");
        client.get(&path).problem(403, "FORBIDDEN");
    }
    let other = Tenant::new(server.clone()).client_with("root", "admin");
    assert_eq!(
        other.get("/v1/admin/audit/archive").json(200),
        json!({ "segments": [] })
    );
    other.get(&path).is_not_found();
    admin.get("/v1/admin/audit/archive/x").is_not_found();
    let problem = admin
        .get("/v1/admin/audit/archive?cursor=x&after=1")
        .problem(422, "VALIDATION_ERROR");
    assert_eq!(problem["details"].as_array().map(Vec::len), Some(2), "{problem}");
}

#[test]
fn a_follower_reads_what_is_new_oldest_first() {
    let tenant = Tenant::shared();
    let admin = tenant.client_with("root", "admin");
    tenant.put_composition(&composition(None));
    let (entries, head) = trail(&admin, 0);
    assert_eq!(
        (entries.len(), &entries[0]["what"]),
        (1, &json!("composition.activated"))
    );
    let mut document = composition(None);
    for name in ["more", "most"] {
        document["actions"][name] = json!({ "run": "core.echo" });
        tenant.put_composition(&document);
    }
    let (seq, before) = head.split_once(':').expect("a head");
    let seq = seq.parse().expect("a number");
    let (new, head) = trail(&admin, seq);
    assert_eq!(new.len(), 2);
    assert_eq!(chained(&new, seq, before), head);
    let problem = admin
        .get("/v1/admin/audit?after=x&limit=0")
        .problem(422, "VALIDATION_ERROR");
    assert_eq!(problem["details"].as_array().map(Vec::len), Some(2), "{problem}");
}

/// What `requests.refused` counts, entry by entry, the oldest first.
fn refused(admin: &Client) -> Vec<BTreeMap<String, u64>> {
    let mut entries = entries(admin, "?what=requests.refused&limit=200");
    entries.reverse();
    let kinds = |entry: &Value| {
        let kinds = entry["target"]["refused"].as_array().expect("a list").clone();
        let kind = |kind: &Value| {
            let name = kind["limit"].as_str().or(kind["code"].as_str()).expect("a name");
            (name.to_owned(), kind["count"].as_u64().expect("a number"))
        };
        kinds.iter().map(kind).collect()
    };
    entries.iter().map(kinds).collect()
}

#[test]
fn a_flood_of_refusals_is_a_few_entries() {
    let tenant = Tenant::shared();
    let mut document = composition(None);
    document["admission"] =
        json!({ "limits": { "few": { "key": "user", "quota": { "units": 1, "per": "1d" }, "exact": true } } });
    tenant.put_composition(&document);
    let admin = tenant.client_with("root", "admin");
    let client = tenant.client("ann");
    let echo = json!({ "action": "core.echo", "payload": 1 });
    client.post("/v1/requests", &echo).json(200);
    for _ in 0..40 {
        client.post("/v1/requests", &echo).problem(429, "QUOTA_EXCEEDED");
    }
    // What a hub refuses by itself, in the second after the gate has, is not counted; so the sum is what the gate refused.
    let counted = refused(&admin);
    assert_eq!(counted[0], BTreeMap::from([("few".into(), 1)]), "{counted:?}");
    assert!(counted.len() <= 2, "{counted:?}");
    let entry = &entries(&admin, "?what=requests.refused")[0];
    assert_eq!(entry["who"], json!({ "user": "tidegate" }), "{entry}");
    assert_eq!(entry["target"]["refused"][0]["code"], "QUOTA_EXCEEDED", "{entry}");
}

#[test]
fn a_missing_scope_is_in_the_trail_of_its_tenant() {
    let tenant = Tenant::shared();
    tenant.compose(None);
    for _ in 0..20 {
        tenant.client("eve").get("/v1/admin/keys").problem(403, "FORBIDDEN");
    }
    let admin = tenant.client_with("root", "admin");
    let counted = eventually("the refusal", || {
        Some(refused(&admin)).filter(|counted| !counted.is_empty())
    });
    assert_eq!(
        counted,
        [BTreeMap::from([("FORBIDDEN".into(), 1)])],
        "one call a minute, whatever comes"
    );
    // Of another tenant's trail it is no part.
    let other = Tenant::new(tenant.server.clone());
    other.compose(None);
    assert!(refused(&other.client_with("root", "admin")).is_empty());
}
