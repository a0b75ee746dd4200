//! The matrix of access: every operation of the HTTP API, with every kind of credential that must not do.
//!
//! The operations come from the description of the API, so that a new route is here or fails here. Each is asked for
//! things that exist: a refusal that only comes of a wrong name would prove nothing. What was refused has changed nothing.

mod frames;
mod operations;
mod rows;
mod things;
mod time;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_tests::http::Client;
use tidegate_tests::server::Server;
use tidegate_tests::socket::Socket;
use tidegate_tests::tenant::Tenant;
use tidegate_tests::token;

use self::operations::{Credential, by_key, by_token, operations, plain};
use self::rows::Takes;
use self::things::{OWNER, SCOPES, Things, bearer, mark, operator, server, text};

/// What the Worker knows of a tenant may be a second old, by its own clock, which stands still while it computes. How soon a
/// revocation holds is what the tests of access look at; here it has to hold.
const SOON: Duration = Duration::from_millis(2_500);

/// Suspends a tenant or resumes it, as the deployment's operator.
fn hold(tenant: &Tenant, what: &str) {
    let path = format!("/v1/admin/tenants/{}:{what}", tenant.id);
    bearer(tenant, &operator()).post(&path, &json!({})).json(200);
}

/// A tenant with one of everything, and what it had when the test began.
struct Stocked {
    tenant: Tenant,
    things: Things,
    before: Vec<(String, Value)>,
}

impl Stocked {
    fn new(server: &Arc<Server>) -> Self {
        let tenant = Tenant::new(Arc::clone(server));
        let things = Things::make(&tenant);
        let mut stocked = Self {
            tenant,
            things,
            before: Vec::new(),
        };
        stocked.note();
        stocked
    }

    /// From now on, this is what must not change.
    fn note(&mut self) {
        self.before = self.things.snapshot(&self.tenant);
    }

    fn is_untouched(&self, by: &str) {
        let now = self.things.snapshot(&self.tenant);
        for ((path, before), (_, after)) in self.before.iter().zip(&now) {
            assert_eq!(before, after, "{by} has changed {path}");
        }
    }

    /// A token of its owner, with every scope and these changes of its claims.
    fn token(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = token::claims(&self.tenant.id, OWNER, SCOPES);
        change(&mut claims);
        token::sign(&token::header(), &claims)
    }

    fn admin(&self) -> Client {
        self.tenant.client_with("root", "admin")
    }

    /// An API key of the owner, with every scope: its id and its text.
    fn key(&self) -> (String, String) {
        let scopes: Vec<&str> = SCOPES.split(' ').collect();
        let body = json!({ "name": mark(&self.tenant), "user": OWNER, "scopes": scopes });
        let made = self.admin().post("/v1/admin/keys", &body).json(201);
        (text(&made["key"]["key_id"]), text(&made["api_key"]))
    }

    /// Credentials that are good for nothing, each for one reason. Makes what it takes; [`SOON`] later they hold.
    fn worthless(&self) -> Vec<(&'static str, Credential)> {
        let now = token::now_seconds();
        let good = token::claims(&self.tenant.id, OWNER, SCOPES);
        let mut none = token::header();
        none["alg"] = json!("none");
        let (id, deleted) = self.key();
        let gone = self.admin().send("DELETE", &format!("/v1/admin/keys/{id}"), &[], &[]);
        assert_eq!(gone.status, 204, "{}", gone.text());
        let (_, kept) = self.key();
        let revoked = format!("revoked-{}", self.tenant.id);
        for body in [json!({ "token": revoked }), json!({ "user": "gone" })] {
            self.admin().post("/v1/admin/revocations", &body).json(201);
        }
        vec![
            ("no token", Vec::new()),
            ("an empty token", by_token("")),
            ("what is no token", by_token("hello")),
            ("a password", vec![("authorization", "Basic YTpi".into())]),
            (
                "an expired token",
                by_token(&self.token(|of| of["exp"] = json!(now - 300))),
            ),
            (
                "a token of tomorrow",
                by_token(&self.token(|of| of["nbf"] = json!(now + 86_400))),
            ),
            (
                "another audience",
                by_token(&self.token(|of| of["aud"] = json!("another"))),
            ),
            (
                "another issuer",
                by_token(&self.token(|of| of["iss"] = json!("https://elsewhere.invalid"))),
            ),
            ("no tenant", by_token(&self.token(|of| of["tid"] = Value::Null))),
            (
                "another key's signature",
                by_token(&token::sign_with(
                    b"another key, also 32 bytes long.",
                    &token::header(),
                    &good,
                )),
            ),
            ("no signature", by_token(&format!("{}.", token::unsigned(&none, &good)))),
            (
                "a revoked token",
                by_token(&self.token(|of| of["jti"] = json!(revoked))),
            ),
            (
                "a revoked user's token",
                by_token(&self.token(|of| of["sub"] = json!("gone"))),
            ),
            ("a deleted API key", by_key(&deleted)),
            ("a forged API key", by_key(&format!("{kept}x"))),
            (
                "a key and a token",
                [by_key(&kept), by_token(&self.token(|_| {}))].concat(),
            ),
        ]
    }
}

#[test]
fn no_operation_is_done_for_a_credential_that_is_good_for_nothing() {
    let server = server();
    let mut mine = Stocked::new(&server);
    let nothing = mine.things.made_up();
    let operations = operations();
    let worthless = mine.worthless();
    std::thread::sleep(SOON);
    mine.note();
    for operation in &operations {
        for (what, credential) in &worthless {
            let answer = operation.ask(&server, credential, &mine.things);
            operation.is_refused(what, &answer, 401, "UNAUTHORIZED");
            // Whoever is nobody does not learn what there is.
            let absent = operation.ask(&server, credential, &nothing);
            assert_eq!(
                plain(&answer, &mine.things),
                plain(&absent, &nothing),
                "{}",
                operation.row.operation
            );
        }
        let query = format!("?access_token={}", mine.token(|_| {}));
        let answer = operation.ask_with(&server, &Vec::new(), &mine.things, &query);
        operation.is_refused("a token in the address", &answer, 401, "UNAUTHORIZED");
        mine.is_untouched(operation.row.operation);
    }
    let columns = worthless.len() + 1;
    println!(
        "{} operations × {columns} credentials = {} cells",
        operations.len(),
        operations.len() * columns
    );
}

#[test]
fn another_tenants_things_are_as_if_there_were_none() {
    let server = server();
    let (mut theirs, mine) = (Stocked::new(&server), Tenant::new(Arc::clone(&server)));
    mine.compose(None);
    // The same user name, and every scope there is.
    let keys = mine.client_with("root", "admin");
    let scopes: Vec<&str> = SCOPES.split(' ').collect();
    let key = json!({ "name": "ci", "user": OWNER, "scopes": scopes });
    let key = text(&keys.post("/v1/admin/keys", &key).json(201)["api_key"]);
    let credentials = [
        (
            "another tenant's token",
            by_token(&mine.token(OWNER, &format!("{SCOPES} operator"))),
        ),
        ("another tenant's API key", by_key(&key)),
    ];
    let nothing = theirs.things.made_up();
    let secrets = [&[mark(&theirs.tenant)][..], &theirs.things.names().map(str::to_owned)].concat();
    theirs.note();
    let operations = operations();
    let mut compared = 0;
    for operation in &operations {
        for (what, credential) in &credentials {
            let cell = format!("{} × {what}", operation.row.operation);
            if operation.row.operation == "connect" {
                let headers: Vec<(&str, &str)> =
                    credential.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let socket = Socket::connect(server.port(), "/v1/connect", &headers, &mine.observer);
                let socket = socket.expect("a connection of the other tenant's own");
                assert_eq!(socket.welcome["tenant"], mine.id, "{cell}");
                continue;
            }
            let answer = operation.ask(&server, credential, &theirs.things);
            assert!(answer.status < 500, "{cell}: {}", answer.text());
            if operation.row.takes == Takes::Attempt {
                operation.is_refused(what, &answer, 401, "UNAUTHORIZED");
            }
            if operation.row.takes == Takes::Operator {
                operation.is_refused(what, &answer, 403, "FORBIDDEN");
            }
            if operation.names_something(&theirs.things) {
                let absent = operation.ask(&server, credential, &nothing);
                assert_eq!(plain(&answer, &theirs.things), plain(&absent, &nothing), "{cell}");
                compared += 1;
            } else {
                let text = answer.text();
                assert!(!secrets.iter().any(|secret| text.contains(secret)), "{cell}: {text}");
            }
        }
        theirs.is_untouched(operation.row.operation);
    }
    println!(
        "{} operations × {} credentials, {compared} of them compared with what is not there",
        operations.len(),
        credentials.len()
    );
    assert!(compared >= 2 * 30, "{compared}");
}

#[test]
fn no_operation_is_done_for_a_suspended_tenant() {
    let server = server();
    let mut mine = Stocked::new(&server);
    let (_, key) = mine.key();
    let credentials = [("a token", by_token(&mine.token(|_| {}))), ("an API key", by_key(&key))];
    mine.note();
    hold(&mine.tenant, "suspend");
    std::thread::sleep(SOON);
    let operations = operations();
    let (nothing, mut cells) = (mine.things.made_up(), 0);
    for operation in &operations {
        for (what, credential) in &credentials {
            let answer = operation.ask(&server, credential, &mine.things);
            match operation.row.takes {
                Takes::Attempt => operation.is_refused(what, &answer, 401, "UNAUTHORIZED"),
                _ => operation.is_refused(what, &answer, 403, "TENANT_SUSPENDED"),
            }
            let absent = operation.ask(&server, credential, &nothing);
            assert_eq!(
                plain(&answer, &mine.things),
                plain(&absent, &nothing),
                "{}",
                operation.row.operation
            );
            cells += 1;
        }
    }
    println!("{cells} cells of a suspended tenant");
    // Jobs that were accepted go on: whoever makes an attempt may say so.
    let report = format!("/v1/attempts/{}:report", mine.things.leased);
    bearer(&mine.tenant, &mine.things.attempt)
        .post(&report, &json!({}))
        .json(200);
    hold(&mine.tenant, "resume");
    std::thread::sleep(SOON);
    for ((path, before), (_, after)) in mine.before.iter().zip(&mine.things.snapshot(&mine.tenant)) {
        // What the operator did is told to the tenant.
        if path != "/v1/admin/audit" {
            assert_eq!(before, after, "{path}");
        }
    }
}

#[test]
fn no_operation_is_done_without_what_it_takes_and_each_is_done_with_it() {
    let server = server();
    let mine = Stocked::new(&server);
    let of = |user: &str, scopes: &str| by_token(&mine.tenant.token(user, scopes));
    let (secret, nothing) = (mark(&mine.tenant), mine.things.made_up());
    let other = Stocked::new(&server);
    let operations = operations();
    let mut cells = 0;
    let every_scope = by_token(&mine.token(|_| {}));
    let (stranger, reader) = (of("mallory", "admin jobs:work"), of("mallory", "jobs:read"));
    for operation in &operations {
        let name = operation.row.operation;
        cells += 1;
        match operation.row.takes {
            Takes::Nothing => cells -= 1,
            Takes::OwnToRead | Takes::OwnToWrite => {
                let answer = operation.ask(&server, &stranger, &mine.things);
                operation.is_refused("another user", &answer, 404, "NOT_FOUND");
                let absent = operation.ask(&server, &stranger, &nothing);
                assert_eq!(plain(&answer, &mine.things), plain(&absent, &nothing), "{name}");
                let answer = operation.ask(&server, &reader, &mine.things);
                if operation.row.takes == Takes::OwnToRead {
                    assert_eq!(answer.status, operation.row.good, "{name}: {}", answer.text());
                } else {
                    operation.is_refused("a reader", &answer, 403, "FORBIDDEN");
                }
                cells += 1;
            }
            Takes::Rules => {
                let answer = operation.ask(&server, &stranger, &mine.things);
                operation.is_refused("another user", &answer, 404, "NOT_FOUND");
                let absent = operation.ask(&server, &stranger, &nothing);
                assert_eq!(plain(&answer, &mine.things), plain(&absent, &nothing), "{name}");
            }
            Takes::OwnOnly => {
                let answer = operation.ask(&server, &stranger, &mine.things);
                assert_eq!(answer.status, operation.row.good, "{name}: {}", answer.text());
                assert!(!answer.text().contains(&secret), "{name}: {}", answer.text());
                if operation.names_something(&mine.things) {
                    let absent = operation.ask(&server, &stranger, &nothing);
                    assert_eq!(plain(&answer, &mine.things), plain(&absent, &nothing), "{name}");
                }
            }
            Takes::Scope(others) => {
                let answer = operation.ask(&server, &by_token(&mine.tenant.token(OWNER, others)), &mine.things);
                operation.is_refused(others, &answer, 403, "FORBIDDEN");
                let absent = operation.ask(&server, &by_token(&mine.tenant.token(OWNER, others)), &nothing);
                assert_eq!(plain(&answer, &mine.things), plain(&absent, &nothing), "{name}");
            }
            Takes::Operator => {
                let pretender = by_token(&mine.token(|of| of["scope"] = json!(format!("{SCOPES} operator"))));
                let answer = operation.ask(&server, &pretender, &mine.things);
                operation.is_refused("a scope that the issuer may not give", &answer, 403, "FORBIDDEN");
            }
            Takes::Attempt => {
                for (what, credential) in [
                    ("the owner", every_scope.clone()),
                    ("another attempt", by_token(&other.things.attempt)),
                ] {
                    let answer = operation.ask(&server, &credential, &mine.things);
                    operation.is_refused(what, &answer, 401, "UNAUTHORIZED");
                }
                cells += 1;
            }
        }
        mine.is_untouched(name);
    }
    println!("{cells} cells of what is missing");
    // The same calls, by whoever may: what was refused above was refused for nothing else.
    for operation in &operations {
        let credential = match operation.row.takes {
            Takes::Operator => by_token(&operator()),
            Takes::Attempt => by_token(&mine.things.attempt),
            _ => every_scope.clone(),
        };
        if operation.row.operation == "connect" {
            mine.tenant.socket(OWNER).echoes();
            continue;
        }
        let answer = operation.ask(&server, &credential, &mine.things);
        assert_eq!(
            answer.status,
            operation.row.good,
            "{}: {}",
            operation.row.operation,
            answer.text()
        );
    }
}
