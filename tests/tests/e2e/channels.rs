//! Channels: messages that are stored before they are confirmed, in order, each once, with cursors that recover what was
//! missed and say so where they cannot.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_tests::socket::{Incoming, Socket};
use tidegate_tests::tenant::{Tenant, composition};
use tidegate_tests::{eventually, unique};

/// Subscribes, and gives the answer.
fn subscribe(socket: &mut Socket, channel: &str, after: Option<&Value>) -> Value {
    let mut frame = json!({ "type": "subscribe", "channel": channel });
    if let Some(after) = after {
        frame["after"] = after.clone();
    }
    let id = socket.ask(frame);
    socket.answer(&id)
}

fn publish(socket: &mut Socket, channel: &str, data: &Value) -> Value {
    let id = socket.ask(json!({ "type": "publish", "channel": channel, "data": data }));
    let answer = socket.answer(&id);
    assert_eq!(answer["type"], "published", "{answer}");
    answer
}

fn message(socket: &mut Socket, channel: &str) -> Value {
    socket.frame(|frame| frame["type"] == "message" && frame["channel"] == channel)
}

/// The cursor behind a `subscribed`, `message` or `published` frame.
fn cursor(frame: &Value) -> Value {
    json!({ "epoch": frame["epoch"], "offset": frame["offset"] })
}

fn with_channels(tenant: &Tenant, channels: &Value) {
    let mut document = composition(None);
    document["channels"] = channels.clone();
    tenant.put_composition(&document);
}

fn object(tenant: &Tenant, channel: &str) -> String {
    format!("t:{}:ch:{channel}", tenant.id)
}

fn path(channel: &str) -> String {
    format!("/v1/channels/{channel}/messages")
}

#[test]
fn a_message_reaches_every_follower_in_order_and_its_publisher_is_told_where_it_stands() {
    let tenant = Tenant::shared();
    let (mut ann, mut bob) = (tenant.socket("ann"), tenant.socket("bob"));
    for socket in [&mut ann, &mut bob] {
        let answer = subscribe(socket, "chat:1", None);
        assert_eq!(answer["type"], "subscribed", "{answer}");
        assert_eq!((&answer["offset"], &answer["recovered"]), (&json!(0), &json!(false)));
    }
    for n in 1..=20 {
        let answer = publish(&mut ann, "chat:1", &json!({ "n": n }));
        assert_eq!(answer["offset"], n, "{answer}");
    }
    for socket in [&mut ann, &mut bob] {
        for n in 1..=20 {
            let message = message(socket, "chat:1");
            assert_eq!((&message["offset"], &message["data"]["n"]), (&json!(n), &json!(n)));
            assert_eq!(message["publisher"], "ann");
            assert!(
                message["timestamp"].is_string() && message["epoch"].is_string(),
                "{message}"
            );
        }
    }
    // Another channel, another tenant: nothing comes over.
    publish(&mut ann, "chat:2", &json!(1));
    let other = Tenant::shared();
    let mut eve = other.socket("ann");
    subscribe(&mut eve, "chat:1", None);
    publish(&mut ann, "chat:1", &json!("mine"));
    assert_eq!(message(&mut bob, "chat:1")["data"], "mine");
    assert!(matches!(eve.next_within(Duration::from_millis(300)), Incoming::Nothing));
    assert!(matches!(bob.next_within(Duration::from_millis(300)), Incoming::Nothing));
}

#[test]
fn a_cursor_recovers_what_was_missed_and_says_so_where_it_cannot() {
    let tenant = Tenant::shared();
    with_channels(
        &tenant,
        &json!({ "log": { "publish": true, "history": { "messages": 5 } } }),
    );
    let mut ann = tenant.socket("ann");
    let begin = subscribe(&mut ann, "log:a", None);
    let third = (1..=3).map(|n| publish(&mut ann, "log:a", &json!(n))).last().unwrap();
    for (after, from) in [(cursor(&begin), 1), (cursor(&third), 4)] {
        let mut bob = tenant.socket("bob");
        let answer = subscribe(&mut bob, "log:a", Some(&after));
        assert_eq!(
            (&answer["recovered"], &answer["offset"]),
            (&json!(true), &after["offset"])
        );
        for n in from..=3 {
            assert_eq!(message(&mut bob, "log:a")["offset"], n);
        }
        assert!(matches!(bob.next_within(Duration::from_millis(100)), Incoming::Nothing));
    }
    for n in 4..=40 {
        publish(&mut ann, "log:a", &json!(n));
    }
    // What lies before the last five is no longer shown; a cursor of another life, or from the future, recovers nothing.
    let head = json!({ "epoch": third["epoch"], "offset": 40 });
    let early = json!({ "epoch": third["epoch"], "offset": 34 });
    let within = json!({ "epoch": third["epoch"], "offset": 35 });
    let future = json!({ "epoch": third["epoch"], "offset": 41 });
    let elsewhere = json!({ "epoch": "0123", "offset": 39 });
    for (after, recovered, offset) in [
        (&head, true, 40),
        (&early, false, 40),
        (&within, true, 35),
        (&future, false, 40),
        (&elsewhere, false, 40),
    ] {
        let mut bob = tenant.socket("bob");
        let answer = subscribe(&mut bob, "log:a", Some(after));
        assert_eq!(
            (&answer["recovered"], &answer["offset"]),
            (&json!(recovered), &json!(offset)),
            "{after}"
        );
        for n in offset + 1..=40 {
            assert_eq!(message(&mut bob, "log:a")["offset"], n);
        }
    }
}

#[test]
fn followers_miss_nothing_when_objects_fall_asleep() {
    let tenant = Tenant::shared();
    let mut ann = tenant.socket("ann");
    let mut bob = tenant.socket("bob");
    subscribe(&mut ann, "news:1", None);
    subscribe(&mut bob, "news:1", None);
    let hub = format!("t:{}:hub:0", tenant.id);
    for round in 1..=4 {
        publish(&mut ann, "news:1", &json!({ "round": round }));
        for socket in [&mut ann, &mut bob] {
            let message = message(socket, "news:1");
            assert_eq!(message["offset"], round, "{message}");
        }
        match round {
            1 => tenant.server.evict("Channel", &object(&tenant, "news:1")),
            2 => tenant.server.evict("Hub", &hub),
            _ => {
                tenant.server.evict("Hub", &hub);
                tenant.server.evict("Channel", &object(&tenant, "news:1"))
            }
        };
    }
    for socket in [&mut ann, &mut bob] {
        let next = socket.next_within(Duration::from_millis(300));
        assert!(matches!(next, Incoming::Nothing), "{next:?}");
    }
}

#[test]
fn what_is_published_over_http_is_stored_told_and_read() {
    let tenant = Tenant::shared();
    let client = tenant.client("server");
    let mut bob = tenant.socket("bob");
    subscribe(&mut bob, "orders", None);
    let empty = client.get(&path("nothing:here")).json(200);
    assert_eq!((&empty["offset"], &empty["messages"]), (&json!(0), &json!([])));
    let key = unique();
    let body = json!({ "data": { "order": 7 } });
    let headers = [("idempotency-key", key.as_str())];
    let first = client.post_with(&path("orders"), &headers, &body);
    let stored = first.json(200);
    assert_eq!((&stored["offset"], &stored["deduplicated"]), (&json!(1), &json!(false)));
    let again = client.post_with(&path("orders"), &headers, &body);
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(
        (&again.json(200)["offset"], &again.json(200)["deduplicated"]),
        (&json!(1), &json!(true))
    );
    client
        .post_with(&path("orders"), &headers, &json!({ "data": 8 }))
        .problem(422, "IDEMPOTENCY_MISMATCH");
    let seen = message(&mut bob, "orders");
    assert_eq!(
        (&seen["data"]["order"], &seen["publisher"]),
        (&json!(7), &json!("server"))
    );
    for n in 2..=5 {
        client.post(&path("orders"), &json!({ "data": n })).json(200);
    }
    let page = client.get(&format!("{}?limit=2", path("orders"))).json(200);
    assert_eq!(page["messages"].as_array().unwrap().len(), 2);
    let next = page["next"].as_str().unwrap();
    let rest = client
        .get(&format!("{}?after={next}&limit=10", path("orders")))
        .json(200);
    let offsets: Vec<_> = rest["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["offset"].clone())
        .collect();
    assert_eq!(
        (offsets, &rest["recovered"]),
        (vec![json!(3), json!(4), json!(5)], &json!(true))
    );
    assert!(rest.get("next").is_none(), "{rest}");
}

#[test]
fn all_faults_of_a_frame_or_body_are_told() {
    let tenant = Tenant::shared();
    let mut ann = tenant.socket("ann");
    let id = ann.ask(json!({ "type": "subscribe", "channel": "a b", "after": { "epoch": 7 }, "chanel": "x" }));
    let error = ann.answer(&id);
    let pointers: Vec<_> = error["error"]["details"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(error["error"]["code"], "VALIDATION_ERROR");
    for pointer in ["/channel", "/chanel", "/after/epoch", "/after/offset"] {
        assert!(pointers.contains(&pointer), "{pointer}: {error}");
    }
    let id = ann.ask(json!({ "type": "publish", "channel": "a", "data": "x".repeat(70_000) }));
    assert_eq!(ann.answer(&id)["error"]["code"], "PAYLOAD_TOO_LARGE");
    let id = ann.ask(json!({ "type": "publish", "channel": "a" }));
    assert_eq!(ann.answer(&id)["error"]["details"][0]["pointer"], "/data");
    let client = tenant.client("ann");
    client
        .post(&path("a"), &json!({ "date": 1 }))
        .problem(422, "VALIDATION_ERROR");
    client
        .get(&format!("{}?after=x", path("a")))
        .problem(422, "VALIDATION_ERROR");
    client
        .post("/v1/channels/a%20b/messages", &json!({ "data": 1 }))
        .problem(422, "VALIDATION_ERROR");
    // Following twice is following; leaving twice is leaving.
    for _ in 0..2 {
        assert_eq!(subscribe(&mut ann, "a", None)["type"], "subscribed");
    }
    publish(&mut ann, "a", &json!(1));
    message(&mut ann, "a");
    assert!(matches!(ann.next_within(Duration::from_millis(200)), Incoming::Nothing));
    for _ in 0..2 {
        let id = ann.ask(json!({ "type": "unsubscribe", "channel": "a" }));
        assert_eq!(ann.answer(&id)["type"], "ok");
    }
    publish(&mut ann, "a", &json!(2));
    assert!(matches!(ann.next_within(Duration::from_millis(200)), Incoming::Nothing));
}

#[test]
fn the_rules_of_a_namespace_say_who_may_do_what() {
    let tenant = Tenant::shared();
    with_channels(
        &tenant,
        &json!({
            "news": {},
            "staff": { "subscribe": { "scopes": ["staff"] }, "publish": { "scopes": ["staff", "write"] } },
            "own": { "subscribe": { "when": "channel == 'own:' + user" }, "publish": true },
        }),
    );
    let socket = |scope: &str| tenant.socket_with(&tenant.token("ann", scope));
    let code = |scope: &str, frame: Value| {
        let mut socket = socket(scope);
        let id = socket.ask(frame);
        let answer = socket.answer(&id);
        answer["error"]["code"]
            .as_str()
            .map_or_else(|| answer["type"].as_str().unwrap().to_owned(), str::to_owned)
    };
    let follow = |channel: &str| json!({ "type": "subscribe", "channel": channel });
    let say = |channel: &str| json!({ "type": "publish", "channel": channel, "data": 1 });
    for (scope, frame, expected) in [
        ("", follow("news:1"), "subscribed"),
        ("", follow("news"), "subscribed"),
        ("", say("news:1"), "FORBIDDEN"),
        ("channels:write", say("news:1"), "published"),
        ("", follow("staff:1"), "NOT_FOUND"),
        ("staff", follow("staff:1"), "subscribed"),
        ("staff", say("staff:1"), "FORBIDDEN"),
        ("staff write", say("staff:1"), "published"),
        ("channels:read", follow("staff:1"), "subscribed"),
        ("", follow("own:ann"), "subscribed"),
        ("", follow("own:bob"), "FORBIDDEN"),
        ("", say("own:bob"), "published"),
        ("channels:read channels:write", follow("nowhere:1"), "NOT_FOUND"),
        ("", follow("job:1"), "NOT_FOUND"),
    ] {
        assert_eq!(code(scope, frame.clone()), expected, "{scope:?} {frame}");
    }
    let client = tenant.client("ann");
    client.get(&path("staff:1")).problem(404, "NOT_FOUND");
    client
        .post(&path("news:1"), &json!({ "data": 1 }))
        .problem(403, "FORBIDDEN");
    client.get(&path("news:1")).json(200);
    // Other rules, and those who are in are told.
    let mut ann = tenant.socket("ann");
    subscribe(&mut ann, "news:1", None);
    with_channels(&tenant, &json!({ "news": { "subscribe": { "scopes": ["paid"] } } }));
    let told = ann.frame(|frame| frame["type"] == "unsubscribed");
    assert_eq!(
        (&told["channel"], &told["error"]["code"]),
        (&json!("news:1"), &json!("NOT_FOUND"))
    );
}

#[test]
fn a_cached_channel_gives_its_newest_message_and_an_ephemeral_one_writes_no_row() {
    let tenant = Tenant::shared();
    with_channels(
        &tenant,
        &json!({ "price": { "publish": true, "cache": true }, "typing": { "publish": true, "ephemeral": true } }),
    );
    let mut ann = tenant.socket("ann");
    for n in 1..=3 {
        publish(&mut ann, "price:x", &json!(n));
    }
    // Asked of the channel, then answered by the hub that follows it already.
    for _ in 0..2 {
        let mut bob = tenant.socket("bob");
        assert_eq!(subscribe(&mut bob, "price:x", None)["offset"], 2);
        assert_eq!(message(&mut bob, "price:x")["data"], 3);
        std::mem::forget(bob);
    }
    subscribe(&mut ann, "typing:1", None);
    publish(&mut ann, "typing:1", &json!(0));
    let rows = || {
        tenant
            .server
            .ask("Channel", &object(&tenant, "typing:1"), "/rows-written")
    };
    let before = rows();
    for n in 1..=10 {
        publish(&mut ann, "typing:1", &json!(n));
    }
    for n in 0..=10 {
        assert_eq!(message(&mut ann, "typing:1")["data"], n);
    }
    assert_eq!(rows(), before);
}

#[test]
fn ten_thousand_messages_under_cuts_and_naps_reach_each_follower_once_and_in_order() {
    const MESSAGES: u64 = 10_000;
    let tenant = Tenant::shared();
    with_channels(
        &tenant,
        &json!({ "run": { "publish": true, "history": { "messages": 20000 } } }),
    );
    let channel = "run:1";
    let hub = format!("t:{}:hub:0", tenant.id);
    let publisher = {
        let mut socket = tenant.socket("publisher");
        std::thread::spawn(move || {
            let (mut sent, mut confirmed) = (0, 0);
            while confirmed < MESSAGES {
                while sent < MESSAGES && sent < confirmed + 50 {
                    sent += 1;
                    socket.send(
                        &json!({ "type": "publish", "id": format!("p{sent}"), "channel": channel, "data": sent }),
                    );
                }
                let answer = socket.frame(|frame| frame["type"] == "published" || frame["type"] == "error");
                assert_eq!(answer["type"], "published", "{answer}");
                confirmed += 1;
            }
        })
    };
    let follower = |user: &'static str, cuts: u64| {
        let tenant_id = tenant.id.clone();
        let server = tenant.server.clone();
        std::thread::spawn(move || {
            let tenant = Tenant {
                id: tenant_id,
                server,
                observer: std::sync::Arc::default(),
            };
            let mut socket = tenant.socket(user);
            let mut at = cursor(&subscribe(
                &mut socket,
                channel,
                Some(&json!({ "epoch": "0", "offset": 0 })),
            ));
            let mut gaps = u64::from(at["offset"] != json!(0));
            let first = at["offset"].as_u64().unwrap();
            let (mut seen, mut cut) = (first, 0);
            while seen < MESSAGES {
                let frame = message(&mut socket, channel);
                assert_eq!(frame["offset"].as_u64(), Some(seen + 1), "after {seen}: {frame}");
                assert_eq!(frame["data"], frame["offset"]);
                seen += 1;
                at = cursor(&frame);
                if cut < cuts && seen >= (cut + 1) * MESSAGES / (cuts + 1) {
                    cut += 1;
                    socket.cut();
                    socket = tenant.socket(user);
                    let answer = subscribe(&mut socket, channel, Some(&at));
                    assert_eq!(answer["recovered"], true, "{answer}");
                    gaps += u64::from(answer["recovered"] != json!(true));
                }
            }
            (first, gaps)
        })
    };
    let followers = [("f1", 0), ("f2", 3), ("f3", 7)].map(|(user, cuts)| follower(user, cuts));
    let mut naps: HashMap<&str, u64> = HashMap::new();
    while !publisher.is_finished() {
        std::thread::sleep(Duration::from_millis(700));
        if tenant.server.evict("Channel", &object(&tenant, channel)) {
            *naps.entry("channel").or_default() += 1;
        }
    }
    publisher.join().expect("the publisher");
    for follower in followers {
        follower.join().expect("a follower");
    }
    let mut late = tenant.socket("late");
    let head = eventually("the end", || {
        let page = tenant
            .client("late")
            .get(&format!("{}?limit=1", path(channel)))
            .json(200);
        (page["offset"] == json!(MESSAGES)).then_some(page)
    });
    let after = json!({ "epoch": head["epoch"], "offset": MESSAGES - 500 });
    assert_eq!(subscribe(&mut late, channel, Some(&after))["recovered"], true);
    for n in MESSAGES - 499..=MESSAGES {
        assert_eq!(message(&mut late, channel)["offset"], n);
    }
    assert!(naps["channel"] > 0, "it never slept");
    tenant.server.evict("Hub", &hub);
    publish(&mut late, channel, &json!("last"));
    assert_eq!(message(&mut late, channel)["data"], "last");
}

#[test]
fn a_limit_counts_messages_by_channel_and_one_that_is_refused_consumes_nothing() {
    let tenant = Tenant::shared();
    let mut document = composition(None);
    document["channels"] = json!({ "chat": { "publish": true }, "free": { "publish": true } });
    document["admission"] = json!({ "limits": {
        "by-channel": { "channels": "chat", "key": "channel", "quota": { "units": 5, "per": "1d" } },
        "in-all": { "channels": ["chat"], "quota": { "units": 8, "per": "1d" } },
    } });
    tenant.put_composition(&document);
    let client = tenant.client("ann");
    let say = |channel: &str| client.post(&path(channel), &json!({ "data": 1 }));
    for n in 1..=5 {
        assert_eq!(say("chat:a").json(200)["offset"], n);
    }
    // Refused by one limit, it takes nothing of the other: three are left there, for other channels.
    for _ in 0..4 {
        let refused = say("chat:a");
        assert!(!refused.header("retry-after").is_empty());
        let problem = refused.problem(429, "QUOTA_EXCEEDED");
        assert!(problem["detail"].as_str().unwrap().contains("by-channel"), "{problem}");
    }
    for n in 1..=3 {
        assert_eq!(say("chat:b").json(200)["offset"], n);
    }
    let problem = say("chat:b").problem(429, "QUOTA_EXCEEDED");
    assert!(problem["detail"].as_str().unwrap().contains("in-all"), "{problem}");
    // Neither counts requests, nor the messages of other namespaces.
    for _ in 0..10 {
        say("free:a").json(200);
        client
            .post("/v1/requests", &json!({ "action": "core.echo", "payload": 1 }))
            .json(200);
    }
    let mut socket = tenant.socket("ann");
    let id = socket.ask(json!({ "type": "publish", "channel": "chat:c", "data": 1 }));
    let answer = socket.answer(&id);
    assert_eq!(answer["error"]["code"], "QUOTA_EXCEEDED", "{answer}");
}
