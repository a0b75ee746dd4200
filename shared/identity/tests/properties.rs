//! Properties: nothing that was altered verifies, and nothing that can be written makes the code panic.

#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]

mod common;

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_identity::api_key;
use tidegate_identity::ticket::{self, TicketClaims, TicketId};
use tidegate_identity::{Algorithm, DeploymentKey, Issuers, KeySet, Tenant, User};

static ISSUERS: LazyLock<Issuers> = LazyLock::new(|| issuers(&config()));
static TOKENS: LazyLock<Vec<String>> = LazyLock::new(|| {
    Algorithm::ALL
        .iter()
        .map(|one| token(*one, &header(*one), &claims()))
        .collect()
});
static KEY: LazyLock<DeploymentKey> = LazyLock::new(|| DeploymentKey::parse(&"c4".repeat(32)).unwrap());

/// Texts that look like a token's parts, so that the generator gets further than the first check.
fn json_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "HS256",
            "RS256",
            "ES256",
            "EdDSA",
            "none",
            "JWT",
            "https://id.example",
            "tidegate",
            "acme"
        ])
        .prop_map(Value::from),
    ];
    let name = prop_oneof![
        prop::sample::select(vec![
            "alg",
            "typ",
            "kid",
            "crit",
            "iss",
            "aud",
            "sub",
            "exp",
            "nbf",
            "iat",
            "scope",
            "jti",
            "tid",
            "keys",
            "kty",
            "crv",
            "n",
            "e",
            "x",
            "y",
            "k",
            "use",
            "key_ops",
            "issuer",
            "audience",
            "tenant",
            "jwks_url",
            "algorithms",
        ])
        .prop_map(String::from),
        "\\PC{0,6}",
    ];
    leaf.prop_recursive(4, 40, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map(name.clone(), inner, 0..8).prop_map(|map| json!(map)),
        ]
    })
    .prop_map(|value| value.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_token_altered_in_any_character_never_verifies(
        which in 0..4_usize, at in any::<prop::sample::Index>(), to in "[A-Za-z0-9_.=+/ -]",
    ) {
        let good = &TOKENS[which];
        let at = at.index(good.len());
        let altered = format!("{}{to}{}", &good[..at], &good[at + 1..]);
        prop_assume!(&altered != good);
        prop_assert!(ISSUERS.verify(&altered, NOW_MS, None).is_err());
    }

    #[test]
    fn a_token_cut_or_stretched_never_verifies(
        which in 0..4_usize, at in any::<prop::sample::Index>(), length in 0..20_usize, insert in "[A-Za-z0-9_.-]{0,4}",
    ) {
        let good = &TOKENS[which];
        let at = at.index(good.len());
        let end = (at + length).min(good.len());
        let altered = format!("{}{insert}{}", &good[..at], &good[end..]);
        prop_assume!(&altered != good);
        prop_assert!(ISSUERS.verify(&altered, NOW_MS, None).is_err());
    }

    #[test]
    fn parts_of_different_tokens_never_verify_together(a in 0..4_usize, b in 0..4_usize, claim in "[a-z]{1,8}") {
        let other = token(Algorithm::ALL[b], &header(Algorithm::ALL[b]), &with(claims(), "sub", json!(claim)));
        let (first, second): (Vec<_>, Vec<_>) = (TOKENS[a].split('.').collect(), other.split('.').collect());
        for parts in [[first[0], second[1], first[2]], [second[0], first[1], second[2]]] {
            prop_assert!(ISSUERS.verify(&parts.join("."), NOW_MS, None).is_err());
        }
    }

    #[test]
    fn no_token_panics(header in json_text(), claims in json_text(), tag in any::<Vec<u8>>(), now_ms in any::<u64>()) {
        let text = [header.as_bytes(), claims.as_bytes(), &tag].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        prop_assert!(ISSUERS.verify(&text, now_ms, None).is_err());
        let _ = ISSUERS.needs(&text);
    }

    #[test]
    fn no_signed_claims_panic(claims in json_text(), now_ms in any::<u64>()) {
        let claims: Value = serde_json::from_str(&claims).unwrap();
        let text = token(Algorithm::Hs256, &header(Algorithm::Hs256), &claims);
        let _ = ISSUERS.verify(&text, now_ms, None);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}", bytes in any::<Vec<u8>>(), now_ms in any::<u64>()) {
        let dotted = text.replace(' ', ".");
        for text in [text.as_str(), &dotted, &String::from_utf8_lossy(&bytes), &URL_SAFE_NO_PAD.encode(&bytes)] {
            prop_assert!(ISSUERS.verify(text, now_ms, None).is_err());
            prop_assert!(ticket::open(&KEY, text, now_ms).is_err());
            prop_assert!(api_key::open(&KEY, None, text).is_err());
            let _ = (Issuers::parse(text), KeySet::parse(text), KeySet::parse_fetched(text), DeploymentKey::parse(text));
            let _ = (Tenant::parse(text), User::parse(text));
        }
    }

    #[test]
    fn no_configuration_panics(text in json_text(), entry in json_text()) {
        let _ = (Issuers::parse(&text), KeySet::parse(&text), KeySet::parse_fetched(&text));
        let _ = Issuers::parse(&format!("[{entry}]"));
        let _ = (KeySet::parse(&format!("{{\"keys\":[{entry}]}}")), KeySet::parse_fetched(&format!("{{\"keys\":[{entry}]}}")));
    }

    #[test]
    fn a_ticket_comes_out_as_it_went_in_and_no_altered_one_opens(
        id in any::<[u8; 16]>(), hub in any::<u32>(), user in "[^\\p{Cc}]{1,128}", tenant in "(eu\\.)?[a-z0-9-]{1,48}",
        scopes in prop::collection::btree_set("[a-z:]{1,20}", 0..20), credential in ".{0,200}", now_ms in 0..(u64::MAX - 100_000), life in 1..=30_000_u64,
        at in any::<prop::sample::Index>(), to in "[A-Za-z0-9_-]",
    ) {
        let claims = TicketClaims {
            id: TicketId(id), tenant: Tenant::parse(&tenant).unwrap(), user: User::parse(&user).unwrap(), credential, scopes,
            token_expires_at_ms: now_ms + life, expires_at_ms: now_ms + life, hub,
        };
        let text = ticket::mint(&KEY, &claims, now_ms).unwrap();
        prop_assert_eq!(ticket::open(&KEY, &text, now_ms).unwrap(), claims);
        prop_assert!(ticket::open(&KEY, &text, now_ms + life).is_err());
        let at = at.index(text.len());
        let altered = format!("{}{to}{}", &text[..at], &text[at + 1..]);
        prop_assume!(altered != text);
        prop_assert!(ticket::open(&KEY, &altered, now_ms).is_err());
    }
}
