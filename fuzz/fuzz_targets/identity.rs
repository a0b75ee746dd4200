//! Tokens, tickets, key sets, the configuration of the issuers and the deployment's key.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tidegate_identity::{DeploymentKey, Issuers, KeySet, Tenant, User, attempt, ticket};

static KEY: LazyLock<DeploymentKey> = LazyLock::new(|| DeploymentKey::parse(&"c4".repeat(32)).expect("a key"));
static ISSUERS: LazyLock<Issuers> = LazyLock::new(|| {
    let secret = "A".repeat(43);
    let text = format!(
        r#"[{{"issuer":"i","audience":"a","tenant_claim":"t","keys":{{"keys":[{{"kty":"oct","k":"{secret}"}}]}}}}]"#
    );
    Issuers::parse(&text).expect("issuers")
});

fuzz_target!(|text: &str| {
    let now_ms = 1_800_000_000_000;
    let _ = ISSUERS.needs(text);
    let _ = ISSUERS.verify(text, now_ms, None);
    let _ = ticket::open(&KEY, text, now_ms);
    let _ = attempt::open(&KEY, text, now_ms);
    let _ = (Issuers::parse(text), KeySet::parse(text), KeySet::parse_fetched(text));
    let _ = (DeploymentKey::parse(text), Tenant::parse(text), User::parse(text));
});
