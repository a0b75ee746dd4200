//! In wasm: the same tokens verify as natively, and the same altered ones do not.

#![cfg(target_arch = "wasm32")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]

use serde_json::Value;
use tidegate_identity::ticket::{self, TicketClaims, TicketId};
use tidegate_identity::{Algorithm, DeploymentKey, Issuers, Reason, Tenant, User};
use wasm_bindgen_test::wasm_bindgen_test;

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/tokens.json")).unwrap()
}

#[wasm_bindgen_test]
fn a_token_of_each_algorithm_verifies_in_wasm() {
    let vectors = vectors();
    let now_ms = vectors["now_ms"].as_u64().unwrap();
    let issuers = Issuers::parse(&vectors["issuers"].to_string()).unwrap();
    let mut seen = Vec::new();
    for vector in vectors["tokens"].as_array().unwrap() {
        seen.push(Algorithm::parse(vector["algorithm"].as_str().unwrap()).unwrap());
        let text = vector["token"].as_str().unwrap();
        let principal = issuers.verify(text, now_ms, None).unwrap();
        assert_eq!((principal.tenant.as_str(), principal.user.as_str()), ("acme", "ada"));
        let later = issuers.verify(text, now_ms + 700_000, None).unwrap_err();
        assert_eq!(later.reason, Reason::Expired);
        let (message, tag) = text.rsplit_once('.').unwrap();
        let forged = format!(
            "{message}.{}{}",
            if tag.starts_with('A') { "B" } else { "A" },
            &tag[1..]
        );
        assert_eq!(
            issuers.verify(&forged, now_ms, None).unwrap_err().reason,
            Reason::SignatureInvalid
        );
    }
    assert_eq!(seen, Algorithm::ALL);
}

#[wasm_bindgen_test]
fn a_ticket_opens_in_wasm_and_a_forged_one_does_not() {
    let key = DeploymentKey::parse(&"a7".repeat(32)).unwrap();
    let now_ms = 1_800_000_000_000;
    let claims = TicketClaims {
        id: TicketId([1; 16]),
        tenant: Tenant::parse("acme").unwrap(),
        user: User::parse("ada").unwrap(),
        credential: "{}".into(),
        scopes: ["admin".to_string()].into(),
        token_expires_at_ms: now_ms + 60_000,
        expires_at_ms: now_ms + 30_000,
        hub: 7,
    };
    let text = ticket::mint(&key, &claims, now_ms).unwrap();
    assert_eq!(ticket::open(&key, &text, now_ms), Ok(claims));
    assert_eq!(
        ticket::open(&key, &text, now_ms + 30_000).unwrap_err().reason,
        Reason::TicketExpired
    );
    let other = DeploymentKey::parse(&"a8".repeat(32)).unwrap();
    assert_eq!(
        ticket::open(&other, &text, now_ms).unwrap_err().reason,
        Reason::TicketForged
    );
}
