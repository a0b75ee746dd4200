//! `tidegate tenant` against a server in the same process: what it asks for, and what it never asks for.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "these are tests"
)]

#[path = "../../sdk/rust/tests/fake/mod.rs"]
mod fake;

use std::process::{Output, Stdio};

use fake::{Fake, Reply, within};
use serde_json::{Value, json};
use tokio::process::Command;

async fn run(fake: &Fake, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .env("TIDEGATE_URL", &fake.url)
        .env("TIDEGATE_TOKEN", "token-1")
        .args(arguments)
        .current_dir(folder.path())
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    within(child.wait_with_output()).await.unwrap()
}

async fn tenants() -> Fake {
    Fake::start(|received| {
        let state = match received.method.as_str() {
            "DELETE" => "erasing",
            "GET" => "erased",
            _ => "active",
        };
        let tenant =
            json!({ "tenant": "eu.acme", "state": state, "jurisdiction": "eu", "jurisdiction_enforced": true });
        match received.path.as_str() {
            "/v1/admin/tenants?state=suspended&limit=1" => {
                Some(Reply::json(200, &json!({ "tenants": [tenant], "cursor": "eu.acme" })))
            }
            _ => Some(Reply::json(200, &tenant)),
        }
    })
    .await
}

#[tokio::test]
async fn an_erasure_that_is_not_confirmed_asks_nobody() {
    let fake = tenants().await;
    let ended = run(&fake, &["tenant", "erase", "eu.acme", "--confirm", "acme"]).await;
    assert_eq!(ended.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("eu.acme"));
    let ended = run(&fake, &["tenant", "erase", "eu.acme"]).await;
    assert_eq!(ended.status.code(), Some(2));
    assert_eq!(fake.received().len(), 0);
}

#[tokio::test]
async fn an_erasure_repeats_the_id_and_is_waited_for() {
    let fake = tenants().await;
    let ended = run(
        &fake,
        &["tenant", "erase", "eu.acme", "--confirm", "eu.acme", "--wait", "--json"],
    )
    .await;
    assert_eq!(ended.status.code(), Some(0));
    let shown: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(
        (&shown["tenant"], &shown["state"]),
        (&json!("eu.acme"), &json!("erased"))
    );
    let received = fake.received();
    assert_eq!(
        (received[0].method.as_str(), received[0].path.as_str()),
        ("DELETE", "/v1/admin/tenants/eu.acme")
    );
    assert_eq!(received[0].json(), json!({ "confirm": "eu.acme" }));
    assert_eq!(received[1].method, "GET");
}

#[tokio::test]
async fn a_tenant_is_created_under_a_key_and_listed_a_page_at_a_time() {
    let fake = tenants().await;
    let create = ["tenant", "create", "acme", "--jurisdiction", "eu", "--template", "pro"];
    assert_eq!(run(&fake, &create).await.status.code(), Some(0));
    let listed = run(&fake, &["tenant", "list", "--state", "suspended", "--limit", "1"]).await;
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "eu.acme  erased  eu\n");
    assert!(String::from_utf8_lossy(&listed.stderr).contains("--cursor eu.acme"));
    let received = fake.received();
    assert_eq!(
        received[0].json(),
        json!({ "tenant": "acme", "jurisdiction": "eu", "template": "pro" })
    );
    assert!(received[0].header("idempotency-key").is_some());
    // What can be no id is never a path.
    let ended = run(&fake, &["tenant", "show", "../keys"]).await;
    assert_eq!((ended.status.code(), fake.received().len()), (Some(2), 2));
}
