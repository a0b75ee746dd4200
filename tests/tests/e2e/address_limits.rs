//! What one address may do before any object is asked: open sockets, and come with credentials that are refused.

use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tidegate_tests::eventually;
use tidegate_tests::http::{Answer, Client};
use tidegate_tests::server::Server;
use tidegate_tests::socket::Socket;
use tidegate_tests::tenant::Tenant;

/// What the server of these tests allows in a window.
const LIMIT: u32 = 20;
/// The local server counts in windows of so many milliseconds, which begin with the clock's.
const WINDOW_MS: u128 = 10_000;

fn guarded() -> Arc<Server> {
    static GUARDED: OnceLock<Arc<Server>> = OnceLock::new();
    GUARDED.get_or_init(|| Arc::new(Server::start_guarded(LIMIT))).clone()
}

/// Waits until most of a window is left.
fn begin_of_a_window() {
    let gone = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
        since.as_millis() % WINDOW_MS
    };
    while gone() > 3_000 {
        thread::sleep(Duration::from_millis(50));
    }
}

/// Opens a socket from `address`; gives the status of a refusal, and what it says.
fn connect(tenant: &Tenant, address: &str, token: &str) -> Result<Socket, (u16, String)> {
    let token = format!("Bearer {token}");
    let headers = [("cf-connecting-ip", address), ("authorization", token.as_str())];
    Socket::connect(tenant.server.port(), "/v1/connect", &headers, &tenant.observer)
        .map_err(|refused| (refused.status, refused.body))
}

/// What a client with this token is told, from `address`.
fn jobs(tenant: &Tenant, address: &str, token: &str) -> Answer {
    let client = Client::new(&tenant.server.url(), Some(token));
    client.send("GET", "/v1/jobs", &[("cf-connecting-ip", address)], &[])
}

#[test]
fn a_flood_of_connects_from_one_address_is_refused_and_asks_no_object() {
    let tenant = Tenant::new(guarded());
    let token = tenant.token("ann", "");
    begin_of_a_window();
    let mut sockets = Vec::new();
    let (status, body) = (0..=LIMIT)
        .find_map(|_| match connect(&tenant, "203.0.113.20", &token) {
            Ok(socket) => {
                sockets.push(socket);
                None
            }
            Err(refused) => Some(refused),
        })
        .expect("one too many");
    assert_eq!((sockets.len(), status), (20, 429), "{body}");
    assert!(
        body.contains("RATE_LIMITED") && body.contains("connects_by_address"),
        "{body}"
    );
    // Whoever comes next from there reaches no object: those of a tenant of which nothing was asked yet stay unmade.
    let other = Tenant::new(tenant.server.clone());
    for _ in 0..50 {
        let refused = connect(&other, "203.0.113.20", &other.token("bob", ""));
        assert_eq!(refused.err().map(|(status, _)| status), Some(429));
    }
    for (_, name) in other.objects() {
        assert_eq!(other.server.constructed(&name), 0, "{name}");
    }
    // Another address is served, and so are the sockets that are there, and requests over HTTP.
    connect(&other, "203.0.113.21", &other.token("bob", ""))
        .expect("another address")
        .echoes();
    sockets.iter_mut().for_each(Socket::echoes);
    jobs(&tenant, "203.0.113.20", &token).json(200);
    // It recovers by itself.
    eventually("the next window", || connect(&tenant, "203.0.113.20", &token).ok()).echoes();
}

#[test]
fn an_ipv6_network_is_one_address() {
    let tenant = Tenant::new(guarded());
    let token = tenant.token("ann", "");
    begin_of_a_window();
    let refused = (0..=LIMIT).find_map(|n| connect(&tenant, &format!("2001:db8:0:20::{n:x}"), &token).err());
    assert_eq!(refused.map(|(status, _)| status), Some(429));
    connect(&tenant, "2001:db8:0:21::1", &token).expect("another network");
}

#[test]
fn refused_credentials_of_one_address_are_bounded_and_then_not_looked_at() {
    let tenant = Tenant::new(guarded());
    let (good, bad) = (tenant.token("ann", ""), format!("{}x", tenant.token("ann", "")));
    begin_of_a_window();
    let mut refused = 0;
    let limited = loop {
        let answer = jobs(&tenant, "203.0.113.30", &bad);
        if answer.status == 429 {
            break answer;
        }
        answer.problem(401, "UNAUTHORIZED");
        refused += 1;
        assert!(refused <= 2 * LIMIT, "it is bounded");
    };
    // The one that passes the bound is still told what is wrong.
    assert_eq!(refused, LIMIT + 1);
    let problem = limited.problem(429, "RATE_LIMITED");
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|text| text.contains("`refusals_by_address`")),
        "{problem}"
    );
    assert_eq!(problem["details"][0]["pointer"], "/limits/refusals_by_address");
    let after: u64 = limited.header("retry-after").parse().expect("seconds");
    assert!((1..=10).contains(&after), "{problem}");
    // Nothing is looked at, whatever it is and wherever it goes.
    jobs(&tenant, "203.0.113.30", &good).problem(429, "RATE_LIMITED");
    assert_eq!(
        connect(&tenant, "203.0.113.30", &good).err().map(|(status, _)| status),
        Some(429)
    );
    // What takes no credentials is answered, and so is everybody else.
    let client = Client::new(&tenant.server.url(), None);
    let healthy = client.send("GET", "/healthz", &[("cf-connecting-ip", "203.0.113.30")], &[]);
    assert_eq!(healthy.status, 200);
    jobs(&tenant, "203.0.113.31", &good).json(200);
    jobs(&tenant, "203.0.113.31", &bad).problem(401, "UNAUTHORIZED");
    eventually("the next window", || {
        let answer = jobs(&tenant, "203.0.113.30", &good);
        (answer.status == 200).then_some(())
    });
}

#[test]
fn a_deployment_without_the_bindings_works_and_says_so() {
    let server = Arc::new(Server::start_without("CONNECTS_BY_ADDRESS"));
    let tenant = Tenant::new(server.clone());
    for _ in 0..3 {
        connect(&tenant, "203.0.113.40", &tenant.token("ann", ""))
            .expect("nobody counts")
            .echoes();
    }
    let ready = Client::new(&server.url(), None).get("/readyz").json(200);
    let checks = ready["checks"].as_array().expect("checks");
    let found = checks.iter().find(|check| check["name"] == "limits by address");
    let found = found.expect("the check");
    assert_eq!(
        (&found["status"], &found["ready"]),
        (&json!("warn"), &json!(true)),
        "{ready}"
    );
    assert!(
        found["remedy"]
            .as_str()
            .is_some_and(|remedy| remedy.contains("CONNECTS_BY_ADDRESS")),
        "{ready}"
    );
}
