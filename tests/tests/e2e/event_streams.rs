//! Clients without a socket: event streams and long polls of channels, and event streams of jobs, beneath which objects sleep.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::channel_events::ChannelEvents;
use tidegate_tests::eventually;
use tidegate_tests::http::Client;
use tidegate_tests::socket::job_of;
use tidegate_tests::sse::Events;
use tidegate_tests::tenant::{Tenant, composition};
use tidegate_tests::token;

/// Longer than what a stream may be silent, and what a busy machine adds.
const NOTICED: Duration = Duration::from_secs(35);

fn events(channel: &str) -> String {
    format!("/v1/channels/{channel}/events")
}

fn messages(channel: &str) -> String {
    format!("/v1/channels/{channel}/messages")
}

fn publish(client: &Client, channel: &str, data: &Value) -> u64 {
    let stored = client.post(&messages(channel), &json!({ "data": data })).json(200);
    stored["offset"].as_u64().expect("an offset")
}

/// A tenant whose users have so many connections each.
fn with_connections(per_user: u64) -> Tenant {
    let tenant = Tenant::shared();
    let mut document = composition(None);
    document["channels"] = json!({ "*": { "publish": true } });
    document["admission"] = json!({ "connections": { "per_user": per_user } });
    tenant.put_composition(&document);
    tenant
}

fn hub(tenant: &Tenant) -> String {
    format!("t:{}:hub:0", tenant.id)
}

#[test]
fn a_stream_gives_each_message_in_order_and_resumes_behind_its_last_event() {
    let tenant = Tenant::shared();
    let client = tenant.client("ann");
    for n in 1..=3 {
        publish(&client, "log:a", &json!(n));
    }
    let (mut stream, first) = ChannelEvents::open(&client, &events("log:a"), None);
    assert_eq!((&first["offset"], &first["recovered"]), (&json!(3), &json!(false)));
    for n in 4..=6 {
        publish(&client, "log:a", &json!({ "n": n }));
        assert_eq!(stream.message()["data"]["n"], n);
    }
    let last = stream.last_id.clone();
    drop(stream);
    for n in 7..=9 {
        publish(&client, "log:a", &json!({ "n": n }));
    }
    // By the header as a browser sends it, and by the query.
    let by_query = format!("{}?after={last}", events("log:a"));
    for (path, header) in [(events("log:a"), Some(last.as_str())), (by_query, None)] {
        let (mut stream, first) = ChannelEvents::open(&client, &path, header);
        assert_eq!(first["recovered"], true, "{first}");
        for n in 7..=9 {
            assert_eq!(stream.message()["data"]["n"], n);
        }
    }
    // A cursor of another log: the client is told that there may be a gap.
    let (mut stream, first) = ChannelEvents::open(&client, &events("log:a"), Some("elsewhere:1"));
    assert_eq!((&first["offset"], &first["recovered"]), (&json!(9), &json!(false)));
    publish(&client, "log:a", &json!(10));
    assert_eq!(stream.message()["offset"], 10);
}

#[test]
fn lines_in_a_message_break_no_event() {
    let tenant = Tenant::shared();
    let client = tenant.client("ann");
    let (mut stream, _) = ChannelEvents::open(&client, &events("log:lines"), None);
    let headers = [("content-type", "application/json")];
    let body = b"{\"data\": {\r\n\r\n \"a\":\n\n \"b\\nc\"\r}}";
    client.send("POST", &messages("log:lines"), &headers, body).json(200);
    assert_eq!(stream.message()["data"], json!({ "a": "b\nc" }));
    assert_eq!(publish(&client, "log:lines", &json!(2)), 2);
    assert_eq!(stream.message()["data"], 2);
}

#[test]
fn what_is_refused_is_a_problem_before_any_stream() {
    let tenant = with_connections(2);
    let mut document = composition(None);
    document["channels"] =
        json!({ "open": { "publish": true }, "own": { "subscribe": { "scopes": ["staff"] }, "publish": true } });
    document["admission"] = json!({ "connections": { "per_user": 2 } });
    tenant.put_composition(&document);
    let client = tenant.client("ann");
    client.get(&events("nowhere:1")).is_not_found();
    client.get(&events("own:1")).problem(403, "FORBIDDEN");
    let wrong = client.send("GET", "/v1/channels/a%20b/events", &[("last-event-id", "x")], &[]);
    let problem = wrong.problem(422, "VALIDATION_ERROR");
    let pointers: Vec<_> = problem["details"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| &fault["pointer"])
        .collect();
    assert_eq!(pointers, [&json!("/path/channel"), &json!("/header/last-event-id")]);
    client
        .get(&format!("{}?after=x", events("open:1")))
        .problem(422, "VALIDATION_ERROR");
    client
        .send("GET", &events("open:1"), &[("accept", "application/json")], &[])
        .problem(406, "NOT_ACCEPTABLE");
    let anonymous = Client::new(&tenant.server.url(), None);
    anonymous.get(&events("open:1")).problem(401, "UNAUTHORIZED");
    let token = tenant.token("ann", "");
    anonymous
        .get(&format!("{}?token={token}", events("open:1")))
        .problem(401, "UNAUTHORIZED");
    client
        .post(&events("open:1"), &json!({}))
        .problem(405, "METHOD_NOT_ALLOWED");
    // Two streams are the two connections that the user may have.
    let _streams = [1, 2].map(|_| ChannelEvents::open(&client, &events("open:1"), None));
    let refused = client.get(&events("open:1"));
    assert!(!refused.header("retry-after").is_empty());
    let problem = refused.problem(429, "RATE_LIMITED");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("as many connections as are allowed"),
        "{problem}"
    );
    // A user of another tenant has a channel of that name, and none of these messages.
    publish(&client, "open:1", &json!("secret"));
    let other = Tenant::shared();
    let (_, first) = ChannelEvents::open(&other.client("ann"), &events("open:1"), None);
    assert_eq!(first["offset"], 0, "{first}");
    let mut document = composition(None);
    document["channels"] = json!({});
    other.put_composition(&document);
    other.client("ann").get(&events("open:1")).is_not_found();
}

#[test]
fn a_client_that_leaves_is_noticed_within_a_keep_alive_or_with_the_next_message() {
    let tenant = with_connections(1);
    let client = tenant.client("ann");
    let open = || ChannelEvents::try_open(&client, &events("log:a"), None);
    for by_a_message in [true, false] {
        let mut stream = open().unwrap_or_else(|answer| panic!("{}", answer.text()));
        stream.next_event().expect("the stream begins");
        assert_eq!(open().err().expect("there is one connection").status, 429);
        drop(stream);
        let left = Instant::now();
        loop {
            if by_a_message {
                publish(&tenant.client("server"), "log:a", &json!(1));
            }
            match open() {
                Ok(stream) => {
                    drop(stream);
                    break;
                }
                Err(answer) => assert_eq!(answer.status, 429, "{}", answer.text()),
            }
            assert!(left.elapsed() < NOTICED, "the hub still counts a client that has left");
            thread::sleep(Duration::from_millis(200));
        }
        eprintln!("noticed after {:?}, by a message: {by_a_message}", left.elapsed());
        // The one that was opened to see it leaves as well.
        eventually("room again", || {
            publish(&tenant.client("server"), "log:a", &json!(1));
            let socket = tenant.socket("ann");
            (socket.welcome["type"] == "welcome").then_some(())
        });
    }
}

#[test]
fn a_hub_that_sleeps_or_dies_beneath_a_stream_loses_no_message() {
    let tenant = Tenant::shared();
    let client = tenant.client("ann");
    let (mut stream, _) = ChannelEvents::open(&client, &events("log:naps"), None);
    for n in 1..=4 {
        publish(&client, "log:naps", &json!(n));
        assert_eq!(stream.message()["data"], n);
        assert!(tenant.server.evict("Hub", &hub(&tenant)), "the hub was awake");
        if n % 2 == 0 {
            tenant.server.evict("Channel", &format!("t:{}:ch:log:naps", tenant.id));
        }
    }
    // Its sockets go as well: the stream ends, and its client comes back.
    publish(&client, "log:naps", &json!(5));
    assert_eq!(stream.message()["data"], 5);
    tenant.server.evict_with_its_sockets("Hub", &hub(&tenant));
    publish(&client, "log:naps", &json!(6));
    while let Some(event) = stream.next_event() {
        assert_ne!(event.kind, "message", "nobody told the hub to send this: {event:?}");
    }
    let (mut stream, first) = ChannelEvents::open(&client, &events("log:naps"), Some(&stream.last_id));
    assert_eq!(first["recovered"], true, "{first}");
    assert_eq!(stream.message()["data"], 6);
}

#[test]
fn a_stream_ends_with_its_token_and_with_its_right() {
    let tenant = Tenant::shared();
    let mut document = composition(None);
    document["channels"] = json!({ "log": { "publish": true } });
    tenant.put_composition(&document);
    let mut claims = token::claims(&tenant.id, "ann", "");
    claims["exp"] = json!(token::now_seconds() + 4);
    let short = token::sign(&token::header(), &claims);
    let (mut stream, _) = ChannelEvents::open(&Client::new(&tenant.server.url(), Some(&short)), &events("log:a"), None);
    let mut seen = Vec::new();
    while let Some(event) = stream.next_event() {
        seen.push(event);
    }
    let kinds: Vec<&str> = seen.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["auth_expiring", "goodbye", "error"]);
    assert_eq!(seen[1].data["code"], 3011);
    assert_eq!(seen[2].data["error"]["code"], "UNAUTHORIZED");
    // Other rules: the stream says so, and ends.
    let client = tenant.client("ann");
    let (mut stream, _) = ChannelEvents::open(&client, &events("log:a"), None);
    document["channels"] = json!({ "log": { "subscribe": false, "publish": true } });
    tenant.put_composition(&document);
    let told = stream.next_event().expect("an event");
    assert_eq!(
        (told.kind.as_str(), &told.data["error"]["code"]),
        ("unsubscribed", &json!("FORBIDDEN"))
    );
    assert!(stream.next_event().is_none());
    client.get(&events("log:a")).problem(403, "FORBIDDEN");
}

#[test]
fn a_ticket_opens_one_stream() {
    let tenant = Tenant::shared();
    let client = tenant.client("ann");
    let ticket = client.post("/v1/tickets", &json!({})).json(201)["ticket"]
        .as_str()
        .unwrap()
        .to_owned();
    let page = Client::new(&tenant.server.url(), None);
    let path = format!("{}?ticket={ticket}", events("log:a"));
    let (mut stream, _) = ChannelEvents::open(&page, &path, None);
    publish(&client, "log:a", &json!("hello"));
    assert_eq!(stream.message()["data"], "hello");
    let again = ChannelEvents::try_open(&page, &path, None)
        .err()
        .expect("it is good once");
    again.problem(401, "UNAUTHORIZED");
}

#[test]
fn a_reader_that_is_too_slow_is_cut_off_and_misses_nothing_by_its_cursor() {
    let tenant = Tenant::shared();
    let mut document = composition(None);
    document["channels"] = json!({ "flood": { "publish": true, "history": { "bytes": "64MiB", "messages": 10000 } } });
    tenant.put_composition(&document);
    let client = tenant.client("ann");
    let (mut stream, _) = ChannelEvents::open(&client, &events("flood:a"), None);
    let text = "x".repeat(60_000);
    const MESSAGES: u64 = 400;
    for n in 1..=MESSAGES {
        publish(&client, "flood:a", &json!({ "n": n, "text": text }));
    }
    let mut seen = 0;
    while let Some(event) = stream.next_event() {
        if event.kind == "message" {
            seen += 1;
            assert_eq!(event.data["data"]["n"], seen);
        }
    }
    assert!((1..MESSAGES).contains(&seen), "it was cut off behind {seen}");
    eprintln!("cut off behind {seen} messages of 60 KB");
    let mut after = stream.last_id;
    while seen < MESSAGES {
        let page = client
            .get(&format!("{}?after={after}&wait=5", messages("flood:a")))
            .json(200);
        assert_eq!(page["recovered"], true);
        for message in page["messages"].as_array().unwrap() {
            seen += 1;
            assert_eq!(message["data"]["n"], seen);
        }
        after = page["next"].as_str().unwrap().to_owned();
    }
}

#[test]
fn a_poll_is_answered_by_the_next_message_or_when_its_time_is_over() {
    let tenant = with_connections(3);
    let client = tenant.client("ann");
    let poll = |after: &str, wait: u64| {
        let after = if after.is_empty() {
            String::new()
        } else {
            format!("after={after}&")
        };
        client
            .get(&format!("{}?{after}wait={wait}", messages("log:poll")))
            .json(200)
    };
    // Nobody has ever written there: it waits, and gives a cursor to go on with.
    let began = Instant::now();
    let page = poll("", 1);
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(page["messages"], json!([]), "{page}");
    let next = page["next"].as_str().unwrap().to_owned();
    // Many more polls than connections: none of them stays.
    for _ in 0..6 {
        let began = Instant::now();
        assert_eq!(poll(&next, 1)["next"], next.as_str());
        assert!(began.elapsed() >= Duration::from_secs(1));
    }
    let began = Instant::now();
    let (page, published) = thread::scope(|scope| {
        let polling = scope.spawn(|| poll(&next, 30));
        thread::sleep(Duration::from_secs(1));
        let published = publish(&tenant.client("bob"), "log:poll", &json!("now"));
        (polling.join().expect("a poll"), published)
    });
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(
        (&page["messages"][0]["data"], &page["recovered"]),
        (&json!("now"), &json!(true)),
        "{page}"
    );
    assert_eq!(published, 1);
    // What is there already is given at once; a gap is told at once.
    let began = Instant::now();
    assert_eq!(poll(&next, 30)["messages"].as_array().unwrap().len(), 1);
    assert_eq!(poll("elsewhere:3", 30)["recovered"], false);
    assert!(began.elapsed() < Duration::from_secs(20));
    client
        .get(&format!("{}?wait=soon", messages("log:poll")))
        .problem(422, "VALIDATION_ERROR");
    client
        .get(&format!("{}?wait=3", messages("a%20b")))
        .problem(422, "VALIDATION_ERROR");
    // Without `wait`, a page is what it was.
    assert!(client.get(&messages("log:poll")).json(200).get("next").is_none());
}

#[test]
fn polls_that_race_a_publisher_miss_nothing_and_give_nothing_twice() {
    const MESSAGES: u64 = 120;
    let tenant = Tenant::shared();
    let client = tenant.client("poller");
    let publisher = tenant.client("publisher");
    let naps = AtomicBool::new(true);
    let publishing = || {
        for n in 1..=MESSAGES {
            assert_eq!(publish(&publisher, "log:race", &json!(n)), n);
            if n % 7 == 0 {
                thread::sleep(Duration::from_millis(fastrand::u64(0..150)));
            }
        }
    };
    let napping = || {
        while naps.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(500));
            tenant.server.evict("Hub", &hub(&tenant));
        }
    };
    let (polls, seen) = thread::scope(|scope| {
        scope.spawn(publishing);
        scope.spawn(napping);
        let (mut after, mut seen, mut polls) = (String::new(), 0, 0);
        while seen < MESSAGES {
            let page = client
                .get(&format!("{}?limit=10&wait=10{after}", messages("log:race")))
                .json(200);
            polls += 1;
            for message in page["messages"].as_array().unwrap() {
                seen += 1;
                assert_eq!(
                    (&message["offset"], &message["data"]),
                    (&json!(seen), &json!(seen)),
                    "poll {polls}"
                );
            }
            after = format!("&after={}", page["next"].as_str().unwrap());
        }
        naps.store(false, Ordering::Relaxed);
        (polls, seen)
    });
    assert_eq!(seen, MESSAGES);
    eprintln!("{seen} messages in {polls} polls");
}

#[test]
fn objects_sleep_beneath_the_stream_of_a_job_and_nothing_of_it_wakes_them() {
    let tenant = Tenant::shared();
    tenant.compose(None);
    let client = tenant.client("ann");
    // It waits for its time, so that nothing but the stream could keep an object awake.
    let later = json!({ "action": "slow", "payload": { "ms": 10 }, "delay_ms": 40_000 });
    let job = job_of(&client.post("/v1/requests", &later).json(202));
    let mut stream = Events::open(&client, &Arc::clone(&tenant.observer), &job, None);
    thread::sleep(Duration::from_secs(1));
    let objects = || tenant.objects().into_iter();
    for (class, name) in objects() {
        tenant.server.evict(class, &name);
    }
    let constructed = || {
        objects()
            .map(|(_, name)| tenant.server.constructed(&name))
            .collect::<Vec<_>>()
    };
    let before = constructed();
    // Longer than a stream is silent: the keep-alive reaches the hub's end of the socket.
    thread::sleep(Duration::from_secs(17));
    assert_eq!(constructed(), before, "something of the stream has woken an object");
    for (class, name) in objects() {
        assert!(!tenant.server.evict(class, &name), "{class} was awake");
    }
    let mut last = stream.next_event().expect("an event");
    while last["type"] != "complete" {
        last = stream.next_event().expect("the stream goes on to the end");
    }
    assert!(stream.next_event().is_none(), "nothing comes behind the end");
}
