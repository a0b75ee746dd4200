//! API keys and the headers that stand beside a credential: keys of requests, traces. And that a webhook's signature can be
//! made of whatever a message says.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tidegate_identity::api_key::{self, CHANCE_BYTES};
use tidegate_identity::webhook::WebhookSecret;
use tidegate_identity::{DeploymentKey, Tenant};
use tidegate_protocol::http::header_key;
use tidegate_protocol::ids::TraceParent;

static KEY: LazyLock<DeploymentKey> = LazyLock::new(|| DeploymentKey::parse(&"c4".repeat(32)).expect("a key"));

fuzz_target!(|text: &str| {
    let _ = (header_key(text), TraceParent::parse(text));
    let _ = api_key::hash(text);
    // Nobody finds the text of a key by chance: what opens was minted, and it was minted by nobody here.
    assert!(api_key::open(&KEY, Some(&KEY), text).is_err());
    if let Some(tenant) = Tenant::parse(text) {
        let key = api_key::mint(&KEY, &tenant, &[7; CHANCE_BYTES]);
        assert_eq!(api_key::open(&KEY, None, &key).ok(), Some(tenant));
    }
    let secret = WebhookSecret::of(&KEY, text, text.len() as u64);
    assert!(secret.sign(text, 1_800_000_000, text).starts_with("v1,"));
});
