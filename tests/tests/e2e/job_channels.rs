//! What happens to jobs, as messages of `tenant:jobs` and of users: each change once, in the order of each job, whatever dies; and
//! channels of users, in which servers publish.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::server::Server;
use tidegate_tests::socket::{Incoming, Socket};
use tidegate_tests::tenant::{Tenant, composition};
use tidegate_tests::{eventually, unique};

const ALL: &str = "tenant:jobs";

fn with_feeds(tenant: &Tenant) {
    let mut document = composition(None);
    document["channels"] = json!({ "tenant": { "jobs": true }, "user": { "jobs": true } });
    for action in ["slow", "boom"] {
        document["actions"][action]["lease"] = json!("1s");
    }
    tenant.put_composition(&document);
}

fn subscribe(socket: &mut Socket, channel: &str, after: Option<&Value>) -> Value {
    let mut frame = json!({ "type": "subscribe", "channel": channel });
    if let Some(after) = after {
        frame["after"] = after.clone();
    }
    let id = socket.ask(frame);
    socket.answer(&id)
}

fn cursor(frame: &Value) -> Value {
    json!({ "epoch": frame["epoch"], "offset": frame["offset"] })
}

fn dashboard(tenant: &Tenant) -> Socket {
    tenant.socket_with(&tenant.token("ops", "jobs:read"))
}

/// Sends a request that becomes a job: its id.
fn ask(tenant: &Tenant, user: &str, action: &str, payload: &Value) -> String {
    let key = unique();
    let body = json!({ "action": action, "payload": payload, "idempotency_key": key });
    let headers = [("prefer", "respond-async")];
    let answer = tenant.client(user).post_with("/v1/requests", &headers, &body);
    answer.json(202)["job_id"].as_str().expect("a job").to_owned()
}

/// The changes that a dashboard was told, by job.
#[derive(Default)]
struct Seen {
    by_job: BTreeMap<String, Vec<Value>>,
    at: Option<Value>,
}

impl Seen {
    /// Takes in a message, which must come right behind the one before.
    fn take(&mut self, frame: &Value) {
        if let Some(at) = &self.at {
            assert_eq!(frame["epoch"], at["epoch"], "{frame}");
            assert_eq!(
                frame["offset"].as_u64(),
                at["offset"].as_u64().map(|n| n + 1),
                "{frame}"
            );
        }
        self.at = Some(cursor(frame));
        let change = &frame["data"];
        assert!(
            change.get("result").is_none() && change.get("payload").is_none(),
            "{change}"
        );
        let job = change["job_id"].as_str().expect("a job").to_owned();
        self.by_job.entry(job).or_default().push(change.clone());
    }

    fn has_ended(&self, job: &str) -> bool {
        let changes = self.by_job.get(job).and_then(|changes| changes.last());
        changes.is_some_and(is_end)
    }

    /// Whether these are the changes of `job`, which has ended: each once, in order.
    fn check(&self, tenant: &Tenant, user: &str, job: &str) -> Vec<&str> {
        let shown = tenant.client(user).get(&format!("/v1/jobs/{job}")).json(200);
        let changes = &self.by_job[job];
        let kinds: Vec<&str> = changes.iter().filter_map(|change| change["type"].as_str()).collect();
        assert_eq!(kinds[0], "acknowledgment", "{changes:?}");
        assert_eq!(changes.iter().filter(|change| is_end(change)).count(), 1, "{changes:?}");
        let last = &changes[changes.len() - 1];
        assert!(is_end(last), "{changes:?}");
        assert_eq!(
            (&last["status"], &last["seq"]),
            (&shown["status"], &shown["seq"]),
            "{shown}"
        );
        for pair in changes.windows(2) {
            assert!(pair[0]["seq"].as_u64() <= pair[1]["seq"].as_u64(), "{changes:?}");
            assert_ne!(pair[0], pair[1]);
        }
        for change in changes {
            assert_eq!(change["user"], user, "{change}");
        }
        kinds
    }
}

fn is_end(change: &Value) -> bool {
    change["type"] == "complete" || change["type"] == "error"
}

/// Takes in what comes, until all of these jobs have ended.
fn watch(socket: &mut Socket, seen: &mut Seen, jobs: &[String]) {
    let until = Instant::now() + Duration::from_secs(60);
    while !jobs.iter().all(|job| seen.has_ended(job)) {
        assert!(Instant::now() < until, "{:?}", seen.by_job);
        if let Incoming::Frame(frame) = socket.next_within(Duration::from_secs(1))
            && frame["type"] == "message"
        {
            seen.take(&frame);
        }
    }
}

#[test]
fn a_dashboard_sees_what_happens_to_every_job_and_a_user_what_happens_to_theirs() {
    let tenant = Tenant::shared();
    with_feeds(&tenant);
    let mut ops = dashboard(&tenant);
    let mut ann = tenant.socket("ann");
    let begin = subscribe(&mut ops, ALL, None);
    assert_eq!(begin["type"], "subscribed", "{begin}");
    assert_eq!(subscribe(&mut ann, "user:ann", None)["type"], "subscribed");
    // Another tenant, whose jobs run meanwhile, and whose dashboard sees these alone.
    let other = Tenant::shared();
    with_feeds(&other);
    let mut eve = dashboard(&other);
    subscribe(&mut eve, ALL, None);
    let well = ask(&tenant, "ann", "slow", &json!({ "ms": 300, "steps": 3 }));
    let broken = ask(
        &tenant,
        "bob",
        "boom",
        &json!({ "message": "no luck", "retryable": true }),
    );
    let endless = ask(&tenant, "ann", "slow", &json!({ "ms": 60_000, "steps": 2 }));
    let theirs = ask(&other, "ann", "slow", &json!({ "ms": 1 }));
    eventually("it runs", || {
        let job = tenant.client("ann").get(&format!("/v1/jobs/{endless}")).json(200);
        (job["status"] == "running").then_some(())
    });
    tenant
        .client("ann")
        .post(&format!("/v1/jobs/{endless}:cancel"), &json!({}))
        .json(202);
    let jobs = [well.clone(), broken.clone(), endless.clone()];
    let mut seen = Seen {
        at: Some(cursor(&begin)),
        ..Seen::default()
    };
    watch(&mut ops, &mut seen, &jobs);
    assert_eq!(seen.by_job.len(), 3, "{:?}", seen.by_job.keys());
    let kinds = seen.check(&tenant, "ann", &well);
    assert!(
        kinds.contains(&"progress") && kinds.ends_with(&["complete"]),
        "{kinds:?}"
    );
    let kinds = seen.check(&tenant, "bob", &broken);
    assert!(kinds.ends_with(&["retrying", "started", "error"]), "{kinds:?}");
    let last = &seen.by_job[&broken][kinds.len() - 1];
    assert_eq!(
        (&last["code"], &last["status"]),
        (&json!("PROCESSING_FAILED"), &json!("failed"))
    );
    seen.check(&tenant, "ann", &endless);
    let last = seen.by_job[&endless].last().unwrap();
    assert_eq!(
        (&last["type"], &last["status"], &last["code"]),
        (&json!("error"), &json!("cancelled"), &json!("CANCELLED"))
    );
    // The user was told the same of their own jobs, and nothing of others'.
    let mut own = Seen::default();
    watch(&mut ann, &mut own, &[well.clone(), endless.clone()]);
    seen.by_job.remove(&broken);
    assert_eq!(own.by_job, seen.by_job);
    let mut others = Seen::default();
    watch(&mut eve, &mut others, std::slice::from_ref(&theirs));
    assert_eq!(others.by_job.keys().collect::<Vec<_>>(), [&theirs]);
    // What is kept can be read, and a cursor gives what came after it.
    let page = tenant
        .client_with("ops", "jobs:read")
        .get("/v1/channels/tenant:jobs/messages?limit=1000")
        .json(200);
    assert_eq!(
        page["messages"].as_array().map(Vec::len).map(|n| json!(n)),
        Some(page["offset"].clone())
    );
    let mut late = dashboard(&tenant);
    let answer = subscribe(&mut late, ALL, Some(&cursor(&begin)));
    assert_eq!(answer["recovered"], true, "{answer}");
    let mut again = Seen {
        at: Some(cursor(&begin)),
        ..Seen::default()
    };
    watch(&mut late, &mut again, &jobs);
    again.by_job.remove(&broken);
    assert_eq!(again.by_job, seen.by_job);
}

#[test]
fn every_end_is_told_once_while_objects_are_evicted_and_the_server_is_killed() {
    let server = Arc::new(Server::start());
    let tenant = Tenant::new(server.clone());
    with_feeds(&tenant);
    let mut ops = dashboard(&tenant);
    let mut seen = Seen {
        at: Some(cursor(&subscribe(&mut ops, ALL, None))),
        ..Seen::default()
    };
    let mut random = fastrand::Rng::with_seed(7);
    let mut jobs: Vec<(String, String)> = Vec::new();
    for round in 0..6 {
        for n in 0..6 {
            let user = ["ann", "bob"][n % 2].to_owned();
            let job = match n % 3 {
                0 => ask(&tenant, &user, "slow", &json!({ "ms": random.u64(1..600), "steps": 3 })),
                1 => ask(&tenant, &user, "boom", &json!({ "message": "no", "retryable": n == 1 })),
                _ => ask(&tenant, &user, "slow", &json!({ "ms": 1 })),
            };
            jobs.push((job, user));
        }
        if round % 2 == 0 {
            for (class, name) in [
                ("Jobs", format!("t:{}:jobs:0", tenant.id)),
                ("Channel", format!("t:{}:ch:{ALL}", tenant.id)),
            ] {
                server.evict(class, &name);
            }
        } else {
            std::thread::sleep(Duration::from_millis(random.u64(0..250)));
            server.kill();
            server.start_again();
            // What had been sent before is in the socket's buffer still.
            while let Incoming::Frame(frame) = ops.next_within(Duration::from_millis(100)) {
                if frame["type"] == "message" {
                    seen.take(&frame);
                }
            }
            ops = dashboard(&tenant);
            let answer = subscribe(&mut ops, ALL, seen.at.as_ref());
            assert_eq!(answer["recovered"], true, "{answer}");
        }
    }
    let ids: Vec<String> = jobs.iter().map(|(job, _)| job.clone()).collect();
    watch(&mut ops, &mut seen, &ids);
    for (job, user) in &jobs {
        seen.check(&tenant, user, job);
    }
    assert_eq!(seen.by_job.len(), jobs.len());
    // Nothing comes after that, and nothing was told that the log does not have.
    assert!(matches!(ops.next_within(Duration::from_secs(6)), Incoming::Nothing));
}

#[test]
fn what_is_published_to_a_user_reaches_all_of_their_sockets_and_nobody_else() {
    let tenant = Tenant::shared();
    let sockets = |user: &str| [tenant.socket(user), tenant.socket(user)];
    // Whatever a user is called, they have a channel.
    for (user, channel) in [("ann", "user:ann"), ("auth0|1", "user:b64:YXV0aDB8MQ")] {
        let mut theirs = sockets(user);
        for socket in &mut theirs {
            let answer = subscribe(socket, channel, None);
            assert_eq!(answer["type"], "subscribed", "{answer}");
            // And do not publish in it themselves.
            let id = socket.ask(json!({ "type": "publish", "channel": channel, "data": 1 }));
            assert_eq!(socket.answer(&id)["error"]["code"], "FORBIDDEN");
        }
        let path = format!("/v1/channels/{channel}/messages");
        let body = json!({ "data": { "hello": user } });
        let server = tenant.client_with("server", "channels:write");
        server.post(&path, &body).json(200);
        for socket in &mut theirs {
            let message = socket.frame(|frame| frame["type"] == "message");
            assert_eq!(
                (&message["data"], &message["publisher"]),
                (&body["data"], &json!("server"))
            );
        }
        let mut bob = tenant.socket("bob");
        assert_eq!(subscribe(&mut bob, channel, None)["error"]["code"], "NOT_FOUND");
        tenant.client("bob").post(&path, &body).problem(404, "NOT_FOUND");
        tenant.client("bob").get(&path).problem(404, "NOT_FOUND");
        server.get(&path).problem(403, "FORBIDDEN");
        let page = tenant.client_with("bot", "channels:read").get(&path).json(200);
        assert_eq!(page["messages"][0]["data"], body["data"]);
    }
}

#[test]
fn the_channel_of_all_jobs_is_for_those_who_may_see_them_and_says_how_it_is_turned_on() {
    let tenant = Tenant::shared();
    let code = |scope: &str, frame: Value| {
        let mut socket = tenant.socket_with(&tenant.token("ann", scope));
        let id = socket.ask(frame);
        let answer = socket.answer(&id);
        let code = answer["error"]["code"].as_str().unwrap_or_default().to_owned();
        (code, answer["error"]["message"].as_str().unwrap_or_default().to_owned())
    };
    let follow = |channel: &str| json!({ "type": "subscribe", "channel": channel });
    let say = |channel: &str| json!({ "type": "publish", "channel": channel, "data": 1 });
    let (unseen, unconfigured) = (code("", follow(ALL)), code("jobs:read", follow(ALL)));
    assert_eq!((unseen.0.as_str(), unconfigured.0.as_str()), ("NOT_FOUND", "NOT_FOUND"));
    assert!(unconfigured.1.contains("\"jobs\": true"), "{unconfigured:?}");
    assert!(!unseen.1.contains("jobs"), "{unseen:?}");
    with_feeds(&tenant);
    assert_eq!(code("", follow(ALL)), unseen);
    for (scope, frame, expected) in [
        ("jobs:read", follow(ALL), ""),
        ("jobs:write", follow(ALL), ""),
        ("channels:read channels:write", follow(ALL), "NOT_FOUND"),
        ("channels:read channels:write", say(ALL), "NOT_FOUND"),
        ("jobs:read channels:write", say(ALL), "FORBIDDEN"),
        ("jobs:read", follow("tenant:other"), "NOT_FOUND"),
        ("jobs:read", follow("tenant"), "NOT_FOUND"),
        ("", follow("user:ann"), ""),
        ("", follow("user:bob"), "NOT_FOUND"),
        ("channels:read", follow("user:bob"), ""),
        ("", follow("user:"), "NOT_FOUND"),
        ("channels:write", say("user:bob"), ""),
    ] {
        assert_eq!(code(scope, frame.clone()).0, expected, "{scope:?} {frame}");
    }
    // Turned off again, whoever follows is told so.
    let mut ops = dashboard(&tenant);
    subscribe(&mut ops, ALL, None);
    tenant.put_composition(&composition(None));
    let told = ops.frame(|frame| frame["type"] == "unsubscribed");
    assert_eq!(
        (&told["channel"], &told["error"]["code"]),
        (&json!(ALL), &json!("NOT_FOUND"))
    );
    // What is wrong in the section is said with all else that is.
    let mut document = composition(None);
    document["channels"] = json!({
        "tenant": { "jobs": "yes", "history": { "messages": 0 } },
        "user": { "subscribe": true },
        "job": {},
    });
    let faults = tenant.try_composition(&document).json(422);
    let pointers: Vec<&str> = faults["details"]
        .as_array()
        .expect("faults")
        .iter()
        .filter_map(|fault| fault["pointer"].as_str())
        .collect();
    for pointer in [
        "/channels/tenant/jobs",
        "/channels/tenant/history/messages",
        "/channels/user/subscribe",
        "/channels/job",
    ] {
        assert!(pointers.contains(&pointer), "{faults}");
    }
}

#[test]
fn the_rows_that_the_changes_of_a_job_cost_are_those_of_the_docs() {
    let rows = |tenant: &Tenant, class: &str, name: &str| {
        let written = tenant
            .server
            .ask(class, &format!("t:{}:{name}", tenant.id), "/rows-written");
        written.parse::<u64>().expect("a number")
    };
    // A job without a key or progress, which starts at once and succeeds.
    let run = |tenant: &Tenant| {
        let before = rows(tenant, "Jobs", "jobs:0");
        let body = json!({ "action": "work" });
        let answer = tenant
            .client("ann")
            .post_with("/v1/requests", &[("prefer", "respond-async")], &body);
        let job = answer.json(202)["job_id"].as_str().expect("a job").to_owned();
        eventually("it ends", || {
            let job = tenant.client("ann").get(&format!("/v1/jobs/{job}")).json(200);
            (job["status"] == "succeeded").then_some(())
        });
        // What tells of it arrives, and is confirmed.
        std::thread::sleep(Duration::from_millis(500));
        rows(tenant, "Jobs", "jobs:0") - before
    };
    let tenant = |channels: Value| {
        let tenant = Tenant::shared();
        let mut document = composition(None);
        document["actions"]["work"] = json!({ "run": "core.echo", "mode": "async", "lease": "30s" });
        document["channels"] = channels;
        tenant.put_composition(&document);
        run(&tenant);
        tenant
    };
    let plain = tenant(json!({}));
    let told = tenant(json!({ "tenant": { "jobs": true } }));
    let both = tenant(json!({ "tenant": { "jobs": true }, "user": { "jobs": true } }));
    let of_channels = |tenant: &Tenant| {
        let channels = [format!("ch:{ALL}"), "ch:user:ann".into()];
        channels.map(|channel| rows(tenant, "Channel", &channel))
    };
    let before = of_channels(&both);
    let in_shards = [&plain, &told, &both].map(run);
    let after = of_channels(&both);
    let in_channels = [after[0] - before[0], after[1] - before[1]];
    println!("rows of a job: {in_shards:?} in its object, {in_channels:?} in the channels");
    // Of each the acknowledgment and the end: a row of the outbox that comes and goes, a message, and how far the shard was heard.
    assert_eq!(in_shards, [2, 6, 10]);
    assert_eq!(in_channels, [4, 4]);
}

#[test]
fn the_channel_of_a_job_is_its_events_with_cursors() {
    let tenant = Tenant::shared();
    tenant.compose(None);
    let job = ask(&tenant, "ann", "slow", &json!({ "ms": 1500, "steps": 5 }));
    let channel = format!("job:{job}");
    let (mut ann, mut other) = (tenant.socket("ann"), tenant.socket("bob"));
    let begin = subscribe(&mut ann, &channel, Some(&json!({ "epoch": "0", "offset": 0 })));
    assert_eq!(
        (&begin["type"], &begin["recovered"]),
        (&json!("subscribed"), &json!(false)),
        "{begin}"
    );
    assert_eq!(subscribe(&mut other, &channel, None)["error"]["code"], "NOT_FOUND");
    let hub = format!("t:{}:hub:0", tenant.id);
    let mut at = begin;
    let mut kinds = Vec::new();
    let mut last_seq = at["offset"].as_u64();
    while kinds.last().is_none_or(|kind| kind != "complete") {
        let message = ann.frame(|frame| frame["type"] == "message");
        assert_eq!(
            (&message["channel"], &message["epoch"]),
            (&json!(channel), &at["epoch"]),
            "{message}"
        );
        assert_eq!(
            (&message["data"]["seq"], &message["data"]["job_id"]),
            (&message["offset"], &json!(job))
        );
        assert!(message["offset"].as_u64() > last_seq, "{message}");
        last_seq = message["offset"].as_u64();
        kinds.push(message["data"]["type"].as_str().unwrap_or_default().to_owned());
        at = message;
        match kinds.len() {
            1 => drop(tenant.server.evict("Hub", &hub)),
            2 => {
                // Cut, and back with the cursor.
                ann.cut();
                ann = tenant.socket("ann");
                let answer = subscribe(&mut ann, &channel, Some(&cursor(&at)));
                assert_eq!(
                    (&answer["recovered"], &answer["offset"]),
                    (&json!(true), &at["offset"]),
                    "{answer}"
                );
            }
            _ => {}
        }
    }
    assert!(
        kinds.len() >= 4 && kinds[..kinds.len() - 1].iter().all(|kind| kind == "progress"),
        "{kinds:?}"
    );
    // Whoever comes after the end is given it, once; whoever has it has missed nothing.
    let mut late = dashboard(&tenant);
    let answer = subscribe(&mut late, &channel, None);
    assert_eq!(answer["recovered"], false, "{answer}");
    let message = late.frame(|frame| frame["type"] == "message");
    assert_eq!(
        (&message["offset"], &message["data"]["type"]),
        (&at["offset"], &json!("complete"))
    );
    let answer = subscribe(&mut late, &channel, Some(&cursor(&at)));
    assert_eq!(
        (&answer["recovered"], &answer["offset"]),
        (&json!(true), &at["offset"]),
        "{answer}"
    );
    assert!(matches!(
        late.next_within(Duration::from_millis(300)),
        Incoming::Nothing
    ));
    // Over HTTP its log is the job's, and nobody publishes there.
    let path = format!("/v1/channels/{channel}/messages");
    tenant.client("ann").get(&path).problem(501, "NOT_IMPLEMENTED");
    tenant
        .client_with("ann", "channels:write")
        .post(&path, &json!({ "data": 1 }))
        .problem(403, "FORBIDDEN");
}
