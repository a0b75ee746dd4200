//! Issuers that publish their keys: they are asked seldom, by one request at a time, and may be away.

use serde_json::json;
use std::sync::Arc;
use tidegate_tests::http::{Answer, Client};
use tidegate_tests::issuer::Issuer;
use tidegate_tests::server::Server;
use tidegate_tests::tenant::Tenant;

fn echo(tenant: &Tenant, token: &str) -> Answer {
    let client = Client::new(&tenant.server.url(), Some(token));
    client.post("/v1/requests", &json!({ "action": "core.echo", "payload": 1 }))
}

/// Sends an echo with each of these tokens, all at once; gives the statuses.
fn at_once(tenant: &Tenant, tokens: &[String]) -> Vec<u16> {
    std::thread::scope(|scope| {
        let sent: Vec<_> = tokens
            .iter()
            .map(|token| scope.spawn(|| echo(tenant, token).status))
            .collect();
        sent.into_iter().map(|sent| sent.join().expect("no panic")).collect()
    })
}

#[test]
fn published_keys_are_fetched_by_one_and_looked_for_again_once() {
    let issuer = Issuer::start();
    let tenant = Tenant::new(Arc::new(Server::start_with_issuers(&[issuer.entry()])));
    let token = |name: &str| issuer.token(&tenant.id, "alice", name);

    // While the issuer is away there are no keys, and it is not asked for each request.
    issuer.is_away(true);
    for _ in 0..5 {
        let problem = echo(&tenant, &token("first")).problem(503, "UNAVAILABLE");
        assert!(
            problem["retry_after_ms"].as_u64().is_some_and(|ms| ms <= 5_000),
            "{problem}"
        );
    }
    assert_eq!(issuer.asked(), 1);
    issuer.is_away(false);
    std::thread::sleep(std::time::Duration::from_millis(5_100));

    // Many need the keys at once, and one fetches them.
    assert_eq!(at_once(&tenant, &vec![token("first"); 16]), [200; 16]);
    assert_eq!(issuer.asked(), 2);

    // Keys that nobody has published: within the cool-down, the issuer is not asked for them.
    let invented: Vec<String> = (0..16).map(|n| token(&format!("invented-{n}"))).collect();
    assert_eq!(at_once(&tenant, &invented), [401; 16]);
    assert_eq!(issuer.asked(), 2);
    echo(&tenant, &token("invented")).problem(401, "UNAUTHORIZED");

    // The issuer has another key, and keeps the first for a while: both are good once the cool-down is over.
    issuer.publish(&["first", "second"]);
    std::thread::sleep(std::time::Duration::from_secs(30));
    assert_eq!(at_once(&tenant, &vec![token("second"); 16]), [200; 16]);
    assert_eq!(issuer.asked(), 3);
    echo(&tenant, &token("first")).json(200);

    // A token signed with a key of the same name that is another one is not good.
    let (forged, _) = token("second")
        .rsplit_once('.')
        .map(|(signed, _)| (signed.to_owned(), ()))
        .expect("a signature");
    let (_, signature) = token("first")
        .rsplit_once('.')
        .map(|(_, signature)| ((), signature.to_owned()))
        .expect("a signature");
    echo(&tenant, &format!("{forged}.{signature}")).problem(401, "UNAUTHORIZED");
    assert_eq!(issuer.asked(), 3);
}
