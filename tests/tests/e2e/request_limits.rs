//! Limits on requests: what is admitted is the limit, exactly, over all hubs of a tenant.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::http::Client;
use tidegate_tests::socket::Socket;
use tidegate_tests::stage::{Between, Stage};
use tidegate_tests::tenant::{Tenant, composition};
use tidegate_tests::{eventually, unique};

use crate::three_ways;

three_ways! {
    what_was_taken_stays_taken(super::stays_taken);
}

/// A tenant whose requests have to pass `limits`, with so many hubs.
fn tenant(hubs: u16, limits: &Value) -> Tenant {
    let tenant = Tenant::shared();
    limit(&tenant, hubs, limits);
    tenant
}

fn limit(tenant: &Tenant, hubs: u16, limits: &Value) {
    let mut document = composition(None);
    document["scale"]["hubs"] = json!(hubs);
    document["admission"] = json!({ "limits": limits });
    tenant.put_composition(&document);
}

fn echo() -> Value {
    json!({ "action": "core.echo", "payload": 1 })
}

/// What is left of the limit `name` for `key`, once all that was lent is back.
fn remaining(tenant: &Tenant, name: &str, key: &str) -> Value {
    let admin = tenant.client_with("admin", "admin");
    let view = admin.get(&format!("/v1/admin/limits?limit={name}")).json(200);
    let buckets = view["buckets"].as_array().expect("a list").clone();
    let of_key = buckets.into_iter().find(|bucket| bucket["key"] == key);
    of_key.map_or(Value::Null, |bucket| bucket["remaining"].clone())
}

fn stays_taken(between: Between) {
    let mut stage = Stage::new(between, None);
    limit(
        &stage.tenant,
        1,
        &json!({ "daily": { "key": "user", "quota": { "units": 40, "per": "1d" } } }),
    );
    let mut socket = stage.tenant.socket("alice");
    for _ in 0..25 {
        let id = socket.ask(echo());
        assert_eq!(socket.answer(&id)["type"], "response");
    }
    // What the hub had in hand and did not use has gone back by then.
    eventually("what is left", || {
        (remaining(&stage.tenant, "daily", "alice") == 15).then_some(())
    });
    stage.interrupt();
    let mut socket = stage.socket(socket, "alice");
    let mut kinds = BTreeMap::<String, u32>::new();
    for _ in 0..30 {
        let id = socket.ask(echo());
        let answer = socket.frame(|frame| frame["request_id"] == id.as_str());
        *kinds
            .entry(answer["type"].as_str().expect("a type").into())
            .or_default() += 1;
    }
    assert_eq!(kinds, BTreeMap::from([("response".into(), 15), ("error".into(), 15)]));
    // Another user has a bucket of their own, and another tenant nothing to do with it.
    stage.tenant.client("bob").post("/v1/requests", &echo()).json(200);
    Tenant::new(stage.tenant.server.clone())
        .client("alice")
        .post("/v1/requests", &echo())
        .json(200);
}

/// Sends so many echoes, a dozen of them under way at once; gives how many were admitted.
fn admitted(tenant: &Tenant, user: &str, count: usize, code: &str) -> usize {
    let mut socket = tenant.socket(user);
    let mut admitted = 0;
    for part in (0..count).collect::<Vec<_>>().chunks(12) {
        let asked: Vec<String> = part.iter().map(|_| socket.ask(echo())).collect();
        for id in asked {
            let answer = socket.answer(&id);
            match answer["type"].as_str() {
                Some("response") => admitted += 1,
                _ => assert_eq!(answer["error"]["code"], code, "{answer}"),
            }
        }
    }
    admitted
}

/// Users lie on all hubs, and one of them has most of the demand; all of them send at once.
#[test]
fn hubs_with_skewed_demand_admit_exactly_the_limit() {
    const UNITS: usize = 300;
    for (limit, code) in [
        (json!({ "quota": { "units": UNITS, "per": "1d" } }), "QUOTA_EXCEEDED"),
        (json!({ "rate": { "units": UNITS, "per": "30d" } }), "RATE_LIMITED"),
    ] {
        let tenant = tenant(4, &json!({ "all": limit }));
        let sum: usize = std::thread::scope(|scope| {
            let counts = [400, 20, 20, 20, 20, 20, 20, 20];
            let users = counts.into_iter().enumerate().map(|(n, count)| {
                let tenant = &tenant;
                scope.spawn(move || admitted(tenant, &format!("user-{n}"), count, code))
            });
            let users: Vec<_> = users.collect();
            users.into_iter().map(|user| user.join().expect("no panic")).sum()
        });
        assert_eq!(sum, UNITS, "{limit}");
        assert_eq!(remaining(&tenant, "all", ""), 0);
    }
}

#[test]
fn a_refusal_names_the_limit_and_says_when() {
    let tenant = tenant(
        1,
        &json!({
            "burst": { "rate": { "units": 2, "per": "1h" }, "actions": "slow" },
            "daily": { "quota": { "units": 10, "per": "1d" } },
        }),
    );
    let client = tenant.client("alice");
    let slow = || json!({ "action": "slow", "payload": { "ms": 1, "steps": 1 } });
    for _ in 0..2 {
        client.post("/v1/requests", &slow()).json(202);
    }
    let refused = client.post("/v1/requests", &slow());
    let problem = refused.problem(429, "RATE_LIMITED");
    assert_eq!(problem["retryable"], true);
    assert_eq!(
        problem["detail"],
        "The rate limit `burst` has no room: it allows 2 in 1h."
    );
    let limit = &problem["limit"];
    assert_eq!(
        (&limit["name"], &limit["units"]),
        (&json!("burst"), &json!(2)),
        "{problem}"
    );
    assert_eq!((&limit["per_ms"], &limit["remaining"]), (&json!(3_600_000), &json!(0)));
    let after_ms = problem["retry_after_ms"].as_u64().expect("a number");
    assert!((1_700_000..=1_800_000).contains(&after_ms), "{problem}");
    assert_eq!(refused.header("ratelimit-policy"), "\"burst\";q=2;w=3600");
    assert!(
        refused.header("ratelimit").starts_with("\"burst\";r=0;t=17")
            || refused.header("ratelimit").starts_with("\"burst\";r=0;t=18")
    );
    let seconds: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!((1_700..=1_800).contains(&seconds));
    // It has taken nothing of the other limit: 2 of 10 are gone.
    let answers = client
        .post("/v1/requests:batch", &json!(vec![echo_async(); 12]))
        .json(200);
    let items = answers["results"].as_array().expect("a list").clone();
    let refused: Vec<&Value> = items
        .iter()
        .filter(|item| item["problem"]["code"] == "QUOTA_EXCEEDED")
        .collect();
    assert_eq!((items.len(), refused.len()), (12, 4), "{answers}");
    assert_eq!(refused[0]["problem"]["limit"]["name"], "daily");
}

fn echo_async() -> Value {
    json!({ "action": "core.echo", "payload": 1, "mode": "async" })
}

#[test]
fn a_socket_is_told_when_a_limit_is_near() {
    let tenant = tenant(
        1,
        &json!({ "few": { "rate": { "units": 10, "per": "1h" }, "exact": true } }),
    );
    let mut socket = tenant.socket("alice");
    for _ in 0..9 {
        let id = socket.ask(echo());
        assert_eq!(socket.answer(&id)["type"], "response");
    }
    let usage = socket.frame(|frame| frame["type"] == "usage");
    assert_eq!(
        (&usage["limit"], &usage["remaining"]),
        (&json!("few"), &json!(1)),
        "{usage}"
    );
    assert!(
        usage["reset_ms"]
            .as_u64()
            .is_some_and(|ms| (3_000_000..=3_600_000).contains(&ms))
    );
}

#[test]
fn what_the_queue_refuses_has_consumed_nothing() {
    let tenant = tenant(1, &json!({ "few": { "quota": { "units": 3, "per": "1d" } } }));
    let client = tenant.client("alice");
    let keyed =
        |payload: u32| json!({ "action": "slow", "payload": { "ms": payload, "steps": 1 }, "idempotency_key": "k" });
    client.post("/v1/requests", &keyed(1)).json(202);
    for _ in 0..5 {
        client
            .post("/v1/requests", &keyed(2))
            .problem(422, "IDEMPOTENCY_MISMATCH");
    }
    for _ in 0..2 {
        client.post("/v1/requests", &echo()).json(200);
    }
    client.post("/v1/requests", &echo()).problem(429, "QUOTA_EXCEEDED");
}

#[test]
fn a_limit_in_shadow_refuses_nothing_and_shows_what_it_would_have() {
    let shadow =
        |shadow: bool| json!({ "trial": { "key": "user", "rate": { "units": 3, "per": "1h" }, "shadow": shadow } });
    let tenant = tenant(1, &shadow(true));
    let client = tenant.client("alice");
    for _ in 0..8 {
        client.post("/v1/requests", &echo()).json(200);
    }
    let admin = tenant.client_with("admin", "admin");
    let view = admin.get("/v1/admin/limits?limit=trial").json(200);
    assert_eq!(
        view["counts"]["trial"],
        json!({ "refused": 0, "would_have_refused": 5 }),
        "{view}"
    );
    assert_eq!(
        (&view["buckets"][0]["key"], &view["buckets"][0]["remaining"]),
        (&json!("alice"), &json!(0))
    );
    client.get("/v1/admin/limits").problem(403, "FORBIDDEN");
    admin
        .get("/v1/admin/limits?limits=x&count=0")
        .problem(422, "VALIDATION_ERROR");
    // In earnest, and at once.
    limit(&tenant, 1, &shadow(false));
    eventually("the new composition", || {
        let answer = client.post("/v1/requests", &echo());
        (answer.status == 429).then_some(())
    });
    // What is raised has room again.
    limit(
        &tenant,
        1,
        &json!({ "trial": { "key": "user", "rate": { "units": 100, "per": "1h" } } }),
    );
    eventually("the rule that was raised", || {
        let answer = client.post("/v1/requests", &echo());
        (answer.status == 200).then_some(())
    });
}

/// A cost that the request itself names, and a key that has more than others.
#[test]
fn a_request_costs_what_it_says_and_a_key_can_have_more() {
    let tenant = tenant(
        1,
        &json!({ "pages": { "key": "user", "cost": "payload.pages", "quota": { "units": 10, "per": "1d" },
            "overrides": { "vip": { "units": 1000 } } } }),
    );
    let pages = |pages: Value| json!({ "action": "core.echo", "payload": { "pages": pages } });
    let (alice, vip) = (tenant.client("alice"), tenant.client("vip"));
    alice.post("/v1/requests", &pages(json!(8))).json(200);
    alice
        .post("/v1/requests", &pages(json!(3)))
        .problem(429, "QUOTA_EXCEEDED");
    alice.post("/v1/requests", &pages(json!(2))).json(200);
    for wrong in [json!(0), json!(11), json!("many"), Value::Null] {
        let problem = alice
            .post("/v1/requests", &pages(wrong))
            .problem(422, "VALIDATION_ERROR");
        assert_eq!(problem["details"][0]["pointer"], "/payload/pages", "{problem}");
    }
    vip.post("/v1/requests", &pages(json!(900))).json(200);
}

/// A hub that has been refused refuses by itself for a moment, and a client that waits as it is told gets through.
#[test]
fn who_waits_as_told_gets_through() {
    let tenant = tenant(
        1,
        &json!({ "quick": { "rate": { "units": 5, "per": "2s", "burst": 1 } } }),
    );
    let client = tenant.client(&unique());
    let (mut refused, began) = (0, Instant::now());
    for _ in 0..10 {
        loop {
            let answer = client.post("/v1/requests", &echo());
            if answer.status == 200 {
                break;
            }
            refused += 1;
            let problem = answer.problem(429, "RATE_LIMITED");
            std::thread::sleep(Duration::from_millis(
                problem["retry_after_ms"].as_u64().expect("a number"),
            ));
        }
    }
    let took = began.elapsed();
    // Nine times 400 milliseconds, and never twice for one.
    assert!(took >= Duration::from_millis(3_590), "{took:?}");
    assert!(refused <= 12, "{refused} refusals");
}

/// A limit for each network: who comes from one takes nothing of another, whatever the token.
#[test]
fn each_network_has_a_bucket_of_its_own() {
    let tenant = tenant(
        2,
        &json!({ "visitors": { "key": "ip", "quota": { "units": 3, "per": "1d" } } }),
    );
    let echoes_from = |address: &str, count: usize| {
        let passes = |_: &usize| {
            let client = tenant.client(&unique());
            let answer = client.post_with("/v1/requests", &[("cf-connecting-ip", address)], &echo());
            if answer.status != 200 {
                answer.problem(429, "QUOTA_EXCEEDED");
            }
            answer.status == 200
        };
        (0..count).filter(passes).count()
    };
    assert_eq!(echoes_from("203.0.113.7", 5), 3);
    assert_eq!(echoes_from("203.0.113.8", 2), 2);
    // All of a /64 is one network; what is no address is unknown, and counts together.
    assert_eq!(
        echoes_from("2001:db8:0:1::1", 2) + echoes_from("2001:db8:0:1:ffff::2", 3),
        3
    );
    assert_eq!(echoes_from("2001:db8:0:2::1", 1), 1);
    // A socket counts with the network from which it was opened.
    let headers = [
        ("cf-connecting-ip", "203.0.113.8"),
        ("authorization", &format!("Bearer {}", tenant.token("ann", ""))),
    ];
    let mut socket =
        Socket::connect(tenant.server.port(), "/v1/connect", &headers, &tenant.observer).expect("a good token");
    let kinds: Vec<String> = (0..2)
        .map(|_| {
            let id = socket.ask(echo());
            let answer = socket.frame(|frame| frame["request_id"] == id.as_str());
            answer["type"].as_str().expect("a type").to_owned()
        })
        .collect();
    assert_eq!(kinds, ["response", "error"]);
}

/// A limit of each API key, with more for one of them; callers with tokens share one bucket.
#[test]
fn each_api_key_has_a_bucket_of_its_own() {
    let tenant = tenant(1, &json!({}));
    let admin = tenant.client_with("root", "admin");
    let key = || {
        let body = json!({ "name": "ci", "user": "bot", "scopes": [] });
        let made = admin.post("/v1/admin/keys", &body).json(201);
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        (text(&made["key"]["key_id"]), text(&made["api_key"]))
    };
    let ((small, small_key), (large, large_key)) = (key(), key());
    let rule = json!({ "key": "api_key", "quota": { "units": 2, "per": "1d" }, "overrides": { large.as_str(): { "units": 4 } } });
    limit(&tenant, 1, &json!({ "keys": rule }));
    let passes = |token: &str| {
        let client = Client::new(&tenant.server.url(), Some(token));
        (0..6)
            .filter(|_| client.post("/v1/requests", &echo()).status == 200)
            .count()
    };
    assert_eq!((passes(&small_key), passes(&large_key)), (2, 4));
    assert_eq!(passes(&tenant.token("bot", "")), 2);
    let listed = admin.get("/v1/admin/limits?limit=keys").json(200);
    let listed: Vec<&Value> = listed["buckets"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|b| &b["key"])
        .collect();
    for key in [small.as_str(), large.as_str(), "null"] {
        assert!(listed.contains(&&json!(key)), "{key} in {listed:?}");
    }
}

/// So many connections of a user and no more; one that ends makes room for another.
#[test]
fn a_user_has_as_many_connections_as_are_allowed() {
    let tenant = Tenant::shared();
    let mut document = composition(None);
    document["admission"] = json!({ "connections": { "per_user": 2 } });
    tenant.put_composition(&document);
    let (mut first, mut second) = (tenant.socket("ann"), tenant.socket("ann"));
    let mut third = tenant.socket("ann");
    assert_eq!(
        (
            &third.welcome["type"],
            &third.welcome["code"],
            &third.welcome["reconnect"]
        ),
        (&json!("goodbye"), &json!(3505), &json!(false))
    );
    assert_eq!(third.closed_within(Duration::from_secs(5)), Some(3505));
    // The others stay, and other users have their own.
    first.echoes();
    second.echoes();
    tenant.socket("bob").echoes();
    first.cut();
    let next = eventually("room for another", || {
        let socket = tenant.socket("ann");
        (socket.welcome["type"] == "welcome").then_some(socket)
    });
    let mut next = next;
    next.echoes();
}

three_ways! {
    a_tenant_has_as_many_connections_as_are_allowed(super::connections_of_a_tenant);
}

/// Users on all hubs connect at once: as many as are allowed come in, whoever they are, and the others are told so.
fn connections_of_a_tenant(between: Between) {
    const MOST: usize = 24;
    const USERS: usize = 40;
    let mut stage = Stage::new(between, None);
    // How many hubs a tenant has is fixed with its first composition.
    stage.tenant = Tenant::new(stage.tenant.server.clone());
    let mut document = composition(None);
    document["scale"]["hubs"] = json!(4);
    document["admission"] = json!({ "connections": { "per_tenant": MOST } });
    stage.tenant.put_composition(&document);
    let come = |tenant: &Tenant, from: usize| -> Vec<Socket> {
        let come = std::thread::scope(|scope| {
            let users = (from..from + USERS).map(|n| scope.spawn(move || tenant.socket(&format!("user-{n}"))));
            let users: Vec<_> = users.collect();
            users
                .into_iter()
                .map(|user| user.join().expect("no panic"))
                .collect::<Vec<Socket>>()
        });
        let refused = come.iter().filter(|socket| socket.welcome["code"] == 3505).count();
        let (inside, outside): (Vec<_>, Vec<_>) =
            come.into_iter().partition(|socket| socket.welcome["type"] == "welcome");
        assert_eq!(outside.len(), refused, "who does not come in is told why");
        inside
    };
    let mut inside = come(&stage.tenant, 0);
    assert_eq!(inside.len(), MOST);
    stage.interrupt();
    // A kill has ended all of them. Else they are there still, and so there is no room.
    if between == Between::Kill {
        inside = come(&stage.tenant, 1_000);
        assert_eq!(inside.len(), MOST, "as many come again");
    } else {
        assert_eq!(come(&stage.tenant, 1_000).len(), 0, "there is no room");
    }
    for socket in &mut inside {
        socket.echoes();
    }
    // Who leaves makes room for anybody, on any hub.
    inside.drain(..5).for_each(Socket::cut);
    let mut more = Vec::new();
    for n in 0..5 {
        more.push(eventually("room for another", || {
            let socket = stage.tenant.socket(&format!("late-{n}"));
            (socket.welcome["type"] == "welcome").then_some(socket)
        }));
    }
    assert_eq!(come(&stage.tenant, 2_000).len(), 0, "and for no more than have left");
    stage.finish(None);
}
