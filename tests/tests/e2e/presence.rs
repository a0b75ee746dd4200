//! Presence: who is in a channel, as everybody there is told, and whatever becomes of the objects.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::eventually;
use tidegate_tests::socket::Socket;
use tidegate_tests::tenant::{Tenant, composition};

/// A tenant whose channels have presence, with a grace that a test can wait for.
fn with_presence(grace: &str) -> Tenant {
    let tenant = Tenant::shared();
    let mut document = composition(None);
    document["channels"] = json!({
        "room": { "publish": true, "presence": true, "presence_grace": grace },
        "desk": { "presence": { "scopes": ["staff"] } },
        "plain": {},
    });
    tenant.put_composition(&document);
    tenant
}

/// Subscribes with presence, and gives the answer.
fn enter(socket: &mut Socket, channel: &str, presence: &Value) -> Value {
    let id = socket.ask(json!({ "type": "subscribe", "channel": channel, "presence": presence }));
    let answer = socket.answer(&id);
    assert_eq!(answer["type"], "subscribed", "{answer}");
    answer
}

/// Who is there, by name, and what they say of themselves.
fn members(presence: &Value) -> BTreeMap<String, Value> {
    let listed = presence["members"].as_array().expect("members").iter();
    listed
        .map(|member| (member["user"].as_str().expect("a user").into(), member["data"].clone()))
        .collect()
}

fn names(presence: &Value) -> Vec<String> {
    members(presence).into_keys().collect()
}

/// The next frame that tells of presence.
fn next(socket: &mut Socket, channel: &str) -> (String, String) {
    let frame = socket.frame(|frame| {
        frame["channel"] == channel && ["join", "leave"].contains(&frame["type"].as_str().unwrap_or_default())
    });
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&frame["type"]), text(&frame["member"]["user"]))
}

fn is(kind: &str, user: &str) -> (String, String) {
    (kind.into(), user.into())
}

fn object(tenant: &Tenant, channel: &str) -> String {
    format!("t:{}:ch:{channel}", tenant.id)
}

#[test]
fn everybody_is_told_who_comes_and_who_goes() {
    let tenant = with_presence("0s");
    let (mut ann, mut bob, mut eve) = (tenant.socket("ann"), tenant.socket("bob"), tenant.socket("eve"));
    let answer = enter(&mut ann, "room:1", &json!({ "data": { "mood": "fine" } }));
    assert_eq!(
        members(&answer["presence"]),
        BTreeMap::from([("ann".into(), json!({ "mood": "fine" }))])
    );
    assert_eq!(answer["presence"]["count"], 1);
    let answer = enter(&mut bob, "room:1", &json!(true));
    assert_eq!(names(&answer["presence"]), ["ann", "bob"]);
    assert_eq!(next(&mut ann, "room:1"), is("join", "bob"));
    // One who watches is told, and is not there.
    let answer = enter(&mut eve, "room:1", &json!({ "member": false }));
    assert_eq!(names(&answer["presence"]), ["ann", "bob"]);
    // Whoever says something else comes again; whoever asks is told.
    let answer = enter(&mut bob, "room:1", &json!({ "data": "busy" }));
    assert_eq!(members(&answer["presence"])["bob"], "busy");
    assert_eq!(next(&mut eve, "room:1"), is("join", "bob"));
    let id = eve.ask(json!({ "type": "presence", "channel": "room:1" }));
    let listed = eve.answer(&id);
    assert_eq!((&listed["type"], &listed["count"]), (&json!("presence"), &json!(2)));
    assert_eq!(names(&listed), ["ann", "bob"]);
    let over_http = tenant.client("eve").get("/v1/channels/room:1/presence").json(200);
    assert_eq!(members(&over_http)["bob"], "busy");
    // One unsubscribes, one is cut off.
    let id = bob.ask(json!({ "type": "unsubscribe", "channel": "room:1" }));
    assert_eq!(bob.answer(&id)["type"], "ok");
    assert_eq!(next(&mut eve, "room:1"), is("leave", "bob"));
    drop(ann);
    assert_eq!(next(&mut eve, "room:1"), is("leave", "ann"));
    let over_http = tenant.client("eve").get("/v1/channels/room:1/presence").json(200);
    assert_eq!(over_http, json!({ "members": [], "count": 0 }));
}

#[test]
fn a_reconnect_does_not_flash_and_two_sockets_are_one_member() {
    let tenant = with_presence("2s");
    let mut eve = tenant.socket("eve");
    let (mut first, mut second) = (tenant.socket("ann"), tenant.socket("ann"));
    enter(&mut first, "room:1", &json!(true));
    enter(&mut second, "room:1", &json!(true));
    let answer = enter(&mut eve, "room:1", &json!({ "member": false }));
    assert_eq!(names(&answer["presence"]), ["ann"]);
    drop(first);
    drop(second);
    let mut again = tenant.socket("ann");
    let answer = enter(&mut again, "room:1", &json!(true));
    assert_eq!(answer["presence"]["count"], 1);
    let since = answer["presence"]["members"][0]["since"].clone();
    let cut = Instant::now();
    drop(again);
    // The first thing that is told is that the last of them has gone, and not before the grace is over.
    assert_eq!(next(&mut eve, "room:1"), is("leave", "ann"));
    assert!(cut.elapsed() >= Duration::from_millis(1_900), "{:?}", cut.elapsed());
    let mut later = tenant.socket("ann");
    let answer = enter(&mut later, "room:1", &json!(true));
    assert_ne!(answer["presence"]["members"][0]["since"], since);
}

#[test]
fn presence_outlives_naps_of_every_object() {
    let tenant = with_presence("1s");
    let (mut ann, mut bob) = (tenant.socket("ann"), tenant.socket("bob"));
    enter(&mut ann, "room:1", &json!({ "data": 1 }));
    enter(&mut bob, "room:1", &json!({ "data": 2 }));
    assert_eq!(next(&mut ann, "room:1"), is("join", "bob"));
    for round in 0..4 {
        // What the hub has to keep is kept a moment after the last message.
        std::thread::sleep(Duration::from_millis(400));
        tenant.server.evict("Channel", &object(&tenant, "room:1"));
        tenant.server.evict("Hub", &format!("t:{}:hub:0", tenant.id));
        let name = format!("guest-{round}");
        let mut guest = tenant.socket(&name);
        let answer = enter(&mut guest, "room:1", &json!(true));
        assert_eq!(names(&answer["presence"]), ["ann", "bob", name.as_str()], "{answer}");
        // Neither of them is told anything but what happened.
        assert_eq!(next(&mut ann, "room:1"), is("join", &name));
        assert_eq!(next(&mut bob, "room:1"), is("join", &name));
        std::thread::sleep(Duration::from_millis(400));
        tenant.server.evict("Hub", &format!("t:{}:hub:0", tenant.id));
        drop(guest);
        assert_eq!(next(&mut ann, "room:1"), is("leave", &name));
        assert_eq!(next(&mut bob, "room:1"), is("leave", &name));
    }
}

#[test]
fn members_of_many_hubs_see_each_other() {
    let tenant = Tenant::shared();
    let mut document = composition(None);
    document["scale"] = json!({ "hubs": 4, "shards": 1 });
    document["channels"] = json!({ "room": { "presence": true, "presence_grace": "0s" } });
    tenant.put_composition(&document);
    let users: Vec<String> = (0..12).map(|n| format!("user-{n:02}")).collect();
    let mut sockets: Vec<Socket> = users.iter().map(|user| tenant.socket(user)).collect();
    for socket in &mut sockets {
        enter(socket, "room:1", &json!(true));
    }
    eventually("everybody is there", || {
        let listed = tenant.client("x").get("/v1/channels/room:1/presence").json(200);
        (names(&listed) == users).then_some(())
    });
    // The first one saw all others come, in whatever order they did.
    let mut seen: Vec<String> = (1..12).map(|_| next(&mut sockets[0], "room:1").1).collect();
    seen.sort();
    assert_eq!(seen, users[1..]);
    let last = sockets.pop().expect("a socket");
    drop(last);
    for socket in &mut sockets {
        let gone = socket.frame(|frame| frame["type"] == "leave");
        assert_eq!(gone["member"]["user"], "user-11");
    }
}

#[test]
fn presence_takes_what_the_rules_say() {
    let tenant = with_presence("5s");
    let client = tenant.client("ann");
    // What may be followed and not seen is FORBIDDEN, what may neither is NOT_FOUND.
    let refused = client.get("/v1/channels/plain:1/presence").json(403);
    assert_eq!(refused["code"], "FORBIDDEN", "{refused}");
    assert_eq!(
        client.get("/v1/channels/nothing:1/presence").json(404)["code"],
        "NOT_FOUND"
    );
    let refused = client.get("/v1/channels/desk:1/presence").json(403);
    assert_eq!(refused["details"][0]["expected"], "the scope `staff`", "{refused}");
    let mut ann = tenant.socket("ann");
    let id = ann.ask(json!({ "type": "subscribe", "channel": "desk:1", "presence": true }));
    assert_eq!(ann.answer(&id)["error"]["code"], "FORBIDDEN");
    let id = ann.ask(json!({ "type": "subscribe", "channel": "desk:1" }));
    assert_eq!(ann.answer(&id)["type"], "subscribed");
    let staff = tenant.token("ann", "staff");
    let mut ann = tenant.socket_with(&staff);
    assert_eq!(names(&enter(&mut ann, "desk:1", &json!(true))["presence"]), ["ann"]);
    // A server sees everything.
    let listed = tenant
        .client_with("server", "channels:read")
        .get("/v1/channels/desk:1/presence")
        .json(200);
    assert_eq!(listed["count"], 1);
    // Every fault of a frame is told at once.
    let id = ann.ask(json!({ "type": "subscribe", "channel": "desk:1", "presence": { "member": 1, "extra": 2 } }));
    let answer = ann.answer(&id);
    let pointers: Vec<&Value> = answer["error"]["details"]
        .as_array()
        .expect("details")
        .iter()
        .map(|fault| &fault["pointer"])
        .collect();
    assert_eq!(pointers, ["/presence/extra", "/presence/member"], "{answer}");
}

#[test]
fn a_member_costs_the_rows_that_the_how_to_says() {
    let tenant = with_presence("1s");
    let (mut ann, mut bob) = (tenant.socket("ann"), tenant.socket("bob"));
    enter(&mut ann, "room:1", &json!({ "member": false }));
    let rows = || -> u64 {
        let counted = tenant
            .server
            .ask("Channel", &object(&tenant, "room:1"), "/rows-written");
        counted.trim().parse().expect("a number")
    };
    // Whatever is written after the answer is written by then.
    let settled = || std::thread::sleep(Duration::from_millis(300));
    settled();
    let begin = rows();
    enter(&mut bob, "room:1", &json!(true));
    settled();
    let came = rows();
    enter(&mut bob, "room:1", &json!({ "data": 1 }));
    settled();
    let said = rows();
    enter(&mut bob, "room:1", &json!({ "data": 1 }));
    settled();
    assert_eq!(rows(), said, "nothing was new");
    drop(bob);
    loop {
        if next(&mut ann, "room:1") == is("leave", "bob") {
            break;
        }
    }
    settled();
    let left = rows();
    // Coming sets the alarm by which hubs are asked; going sets one for the grace, and one for asking again.
    assert_eq!((came - begin, said - came, left - said), (2, 1, 4));
}
