//! Who may come in: by header, by subprotocol, by ticket; and every token that may not.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::http::Client;
use tidegate_tests::socket::{Incoming, Refused, Socket};
use tidegate_tests::tenant::Tenant;
use tidegate_tests::token;

fn connect(tenant: &Tenant, path: &str, headers: &[(&'static str, &str)]) -> Result<Socket, Refused> {
    Socket::connect(tenant.server.port(), path, headers, &tenant.observer)
}

fn assert_unauthorized(connected: Result<Socket, Refused>, what: &str) {
    match connected {
        Ok(socket) => panic!("{what}: accepted: {}", socket.welcome),
        Err(refused) => assert_eq!(refused.status, 401, "{what}: {}", refused.body),
    }
}

#[test]
fn a_socket_opens_by_header_and_by_subprotocol() {
    let tenant = Tenant::shared();
    tenant.socket("alice").echoes();

    let list = format!("tidegate.v1, bearer.{}", tenant.token("alice", ""));
    let mut socket = connect(&tenant, "/v1/connect", &[("sec-websocket-protocol", &list)]).expect("a good token");
    assert_eq!(
        socket.subprotocol.as_deref(),
        Some("tidegate.v1"),
        "the token is not sent back"
    );
    assert_eq!(socket.welcome["user"], "alice");
    socket.echoes();
}

fn ticket(tenant: &Tenant, user: &str) -> (String, String) {
    let answer = tenant.client(user).send("POST", "/v1/tickets", &[], &[]);
    assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
    let body: Value = answer.json(answer.status);
    let text = |name: &str| {
        body[name]
            .as_str()
            .unwrap_or_else(|| panic!("no {name}: {body}"))
            .to_owned()
    };
    assert_eq!(answer.header("cache-control"), "no-store", "a ticket is a secret");
    (text("ticket"), text("expires_at"))
}

#[test]
fn a_ticket_opens_one_socket_once() {
    let tenant = Tenant::shared();
    let other = Tenant::shared();
    let (ticket, _) = ticket(&tenant, "alice");
    let path = format!("/v1/connect?ticket={ticket}");
    for spoiled in [
        format!("{path}x"),
        path.replace("ticket=", "ticket=x"),
        "/v1/connect?ticket=".into(),
    ] {
        assert_unauthorized(connect(&tenant, &spoiled, &[]), &spoiled);
    }
    // Whatever the connection says of another tenant: the ticket names the one it was made for.
    let mut socket = connect(&tenant, &format!("{path}&tenant={}", other.id), &[]).expect("a fresh ticket");
    assert_eq!(socket.welcome["tenant"], tenant.id);
    assert_eq!(socket.welcome["user"], "alice");
    socket.echoes();
    assert_unauthorized(connect(&tenant, &path, &[]), "the same ticket again");
    socket.cut();
    assert_unauthorized(
        connect(&tenant, &path, &[]),
        "the same ticket after its socket has gone",
    );
}

#[test]
fn a_ticket_is_spent_even_when_the_objects_were_evicted() {
    let tenant = Tenant::shared();
    let (ticket, _) = ticket(&tenant, "alice");
    let path = format!("/v1/connect?ticket={ticket}");
    let mut socket = connect(&tenant, &path, &[]).expect("a fresh ticket");
    for (class, name) in tenant.objects() {
        tenant.server.evict(class, &name);
    }
    assert_unauthorized(connect(&tenant, &path, &[]), "the same ticket after an eviction");
    socket.echoes();
}

#[test]
fn a_ticket_is_no_good_after_thirty_seconds() {
    let tenant = Tenant::shared();
    let (ticket, expires_at) = ticket(&tenant, "alice");
    assert!(expires_at.ends_with('Z'), "{expires_at}");
    // The server's own time limit is what is waited for; before it, the ticket must not be tried, because that spends it.
    std::thread::sleep(Duration::from_millis(30_500));
    assert_unauthorized(
        connect(&tenant, &format!("/v1/connect?ticket={ticket}"), &[]),
        "a late ticket",
    );
}

#[test]
fn a_token_in_the_url_is_refused() {
    let tenant = Tenant::shared();
    let token = tenant.token("alice", "");
    let bearer = format!("Bearer {token}");
    for name in ["token", "access_token", "bearer", "authorization", "jwt"] {
        let path = format!("/v1/connect?{name}={token}");
        assert_unauthorized(connect(&tenant, &path, &[]), name);
        let answer = Client::new(&tenant.server.url(), None).get(&format!("/v1/jobs?{name}={token}"));
        answer.problem(401, "UNAUTHORIZED");
    }
    // Not even beside a good one: it has been written to logs by now, and whoever sent it should hear of it.
    let connected = connect(
        &tenant,
        &format!("/v1/connect?access_token={token}"),
        &[("authorization", &bearer)],
    );
    assert!(connected.is_err_and(|refused| matches!(refused.status, 400 | 401)));
}

/// Tokens that may not come in, each for one reason.
fn bad_tokens(tenant: &Tenant) -> Vec<(&'static str, String)> {
    let header = token::header();
    let good = token::claims(&tenant.id, "alice", "");
    let claims = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        token::sign(&header, &claims)
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().expect("claims are an object").remove(name);
        token::sign(&header, &claims)
    };
    let with_header = |name: &str, value: Value| {
        let mut header = header.clone();
        header[name] = value;
        token::sign(&header, &good)
    };
    let now = token::now_seconds();
    let mut none = header.clone();
    none["alg"] = json!("none");
    let mut tampered = token::mint(&tenant.id, "alice", "");
    tampered.truncate(tampered.len() - 4);
    tampered.push_str("AAAA");
    vec![
        ("nothing", String::new()),
        ("no token at all", "hello".into()),
        ("two parts", token::unsigned(&header, &good)),
        ("expired", claims("exp", json!(now - 300))),
        ("not yet valid", claims("nbf", json!(now + 3600))),
        ("wrong audience", claims("aud", json!("someone-else"))),
        ("wrong issuer", claims("iss", json!("https://elsewhere.invalid"))),
        ("no expiry", without("exp")),
        ("expiry as text", claims("exp", json!("tomorrow"))),
        ("no subject", without("sub")),
        ("no tenant", without("tid")),
        ("a tenant with a colon", claims("tid", json!("a:hub:0"))),
        ("a tenant that is a number", claims("tid", json!(7))),
        ("no issuer", without("iss")),
        ("no audience", without("aud")),
        (
            "another key",
            token::sign_with(b"another key, also 32 bytes long.", &header, &good),
        ),
        ("tampered with", tampered),
        ("alg none", format!("{}.", token::unsigned(&none, &good))),
        ("alg none, signed", token::sign(&none, &good)),
        ("another algorithm", with_header("alg", json!("HS512"))),
        ("an asymmetric algorithm", with_header("alg", json!("RS256"))),
        ("an unknown key id", with_header("kid", json!("unknown"))),
        ("an unknown critical header", with_header("crit", json!(["exp"]))),
        ("oversize", claims("padding", json!("x".repeat(8 * 1024)))),
    ]
}

#[test]
fn a_bad_token_opens_nothing() {
    let tenant = Tenant::shared();
    for (what, token) in bad_tokens(&tenant) {
        let answer = Client::new(&tenant.server.url(), Some(&token)).get("/v1/jobs");
        assert_eq!(answer.status, 401, "{what}: {}", answer.text());
        answer.problem(401, "UNAUTHORIZED");
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{what}");
        let bearer = format!("Bearer {token}");
        assert_unauthorized(connect(&tenant, "/v1/connect", &[("authorization", &bearer)]), what);
        if !token.is_empty() {
            let list = format!("tidegate.v1, bearer.{token}");
            assert_unauthorized(
                connect(&tenant, "/v1/connect", &[("sec-websocket-protocol", &list)]),
                what,
            );
        }
    }
    assert_unauthorized(connect(&tenant, "/v1/connect", &[]), "nothing at all");
    let bare = Client::new(&tenant.server.url(), None);
    for (method, path) in [
        ("GET", "/v1/jobs"),
        ("POST", "/v1/requests"),
        ("POST", "/v1/tickets"),
        ("GET", "/v1/objects/a"),
        ("PUT", "/v1/admin/composition"),
    ] {
        bare.send(method, path, &[("content-type", "application/json")], &[])
            .problem(401, "UNAUTHORIZED");
    }
}

#[test]
fn a_socket_whose_token_has_expired_is_served_no_more() {
    let tenant = Tenant::shared();
    let mut claims = token::claims(&tenant.id, "alice", "");
    claims["exp"] = json!(token::now_seconds() + 3);
    let mut socket = tenant.socket_with(&token::sign(&token::header(), &claims));
    socket.echoes();
    // A minute of tolerance for clocks may follow the end, as RFC 7519 allows.
    let end = Instant::now() + Duration::from_secs(80);
    let (mut goodbye, mut code) = (None, None);
    while code.is_none() {
        assert!(Instant::now() < end, "the socket is still served");
        socket.ask(json!({ "action": "core.echo", "payload": 1 }));
        match socket.next_within(Duration::from_millis(100)) {
            Incoming::Frame(frame) if frame["type"] == "goodbye" => goodbye = Some(frame),
            Incoming::Frame(_) | Incoming::Nothing => std::thread::sleep(Duration::from_millis(50)),
            Incoming::Closed(closed) => code = Some(closed),
        }
    }
    assert_eq!(code, Some(Some(3011)));
    let goodbye = goodbye.expect("a close that the server starts is announced");
    assert_eq!(
        (&goodbye["code"], &goodbye["reconnect"]),
        (&json!(3011), &json!(true)),
        "{goodbye}"
    );
}

/// A token of `user` that is good for so many seconds.
fn short(tenant: &Tenant, user: &str, seconds: u64) -> String {
    let mut claims = token::claims(&tenant.id, user, "");
    claims["exp"] = json!(token::now_seconds() + seconds);
    token::sign(&token::header(), &claims)
}

/// It says nothing, sleeps, and follows nothing: its end comes by itself, and so does the warning before it.
#[test]
fn a_silent_socket_is_warned_and_ended_when_its_token_expires() {
    let tenant = Tenant::shared();
    let mut socket = tenant.socket_with(&short(&tenant, "alice", 5));
    let warning = socket.frame(|frame| frame["type"] == "auth_expiring");
    assert!(warning["expires_at"].is_string(), "{warning}");
    tenant.server.evict("Hub", &format!("t:{}:hub:0", tenant.id));
    let goodbye = socket.frame(|frame| frame["type"] == "goodbye");
    assert_eq!((&goodbye["code"], &goodbye["reconnect"]), (&json!(3011), &json!(true)));
    assert_eq!(socket.closed_within(Duration::from_secs(5)), Some(3011));
}

#[test]
fn a_socket_goes_on_with_a_new_token_of_the_same_user_alone() {
    let tenant = Tenant::shared();
    let mut socket = tenant.socket_with(&short(&tenant, "alice", 4));
    let refused = socket.ask(json!({ "type": "auth", "token": "x.y.z" }));
    assert_eq!(socket.answer(&refused)["error"]["code"], "UNAUTHORIZED");
    let renewed = socket.ask(json!({ "type": "auth", "token": tenant.token("alice", "jobs:read") }));
    assert_eq!(socket.answer(&renewed)["type"], "ok");
    // The first one has expired by then, and the socket has slept.
    std::thread::sleep(Duration::from_secs(5));
    tenant.server.evict("Hub", &format!("t:{}:hub:0", tenant.id));
    socket.echoes();
    // The new scope holds on this very socket: another user's job can be seen.
    let client = tenant.client("bob");
    let job = client.post(
        "/v1/requests",
        &json!({ "action": "core.delay", "mode": "async", "payload": { "ms": 1, "steps": 1 } }),
    );
    let job = job.json(202)["job_id"].as_str().expect("a job").to_owned();
    let attach = socket.attach(&job, None);
    let answer = socket.answer(&attach);
    assert_ne!(answer["type"], "error", "{answer}");
    for other in [
        token::mint(&tenant.id, "bob", ""),
        token::mint("another-tenant", "alice", ""),
    ] {
        let mut socket = tenant.socket("alice");
        socket.send(&json!({ "type": "auth", "id": "a", "token": other }));
        assert_eq!(socket.closed_within(Duration::from_secs(5)), Some(3500));
    }
}
