//! Attacks: every one is refused, each for its own reason.

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

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::*;
use serde_json::{Value, json};
use tidegate_identity::mint::SigningKey;
use tidegate_identity::{Algorithm, Reason};

fn encode(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// Whether a token with this header and these claims is accepted, and if not, why.
fn check(header: &Value, claims: &Value) -> Option<Reason> {
    check_text(&token(Algorithm::Es256, header, claims))
}

fn check_text(text: &str) -> Option<Reason> {
    issuers(&config())
        .verify(text, NOW_MS, None)
        .err()
        .map(|error| error.reason)
}

#[test]
fn what_a_header_must_not_say_is_refused() {
    let rows = [
        ("alg", json!("none"), Some(Reason::AlgorithmNone)),
        ("alg", json!("None"), Some(Reason::AlgorithmNone)),
        ("alg", json!("NONE"), Some(Reason::AlgorithmNone)),
        ("alg", json!("nOnE"), Some(Reason::AlgorithmNone)),
        ("alg", json!(" none "), Some(Reason::AlgorithmNone)),
        ("alg", json!(""), Some(Reason::AlgorithmUnsupported)),
        ("alg", json!("es256"), Some(Reason::AlgorithmUnsupported)),
        ("alg", json!("ES256 "), Some(Reason::AlgorithmUnsupported)),
        ("alg", json!("ES384"), Some(Reason::AlgorithmUnsupported)),
        ("alg", json!("PS256"), Some(Reason::AlgorithmUnsupported)),
        ("alg", json!("HS512"), Some(Reason::AlgorithmUnsupported)),
        ("alg", json!("dir"), Some(Reason::AlgorithmUnsupported)),
        ("alg", json!(["ES256"]), Some(Reason::HeaderMalformed)),
        ("alg", json!(null), Some(Reason::HeaderMalformed)),
        ("alg", json!("HS256"), Some(Reason::AlgorithmNotAllowed)),
        ("alg", json!("RS256"), Some(Reason::AlgorithmNotAllowed)),
        ("crit", json!(["exp"]), Some(Reason::HeaderCritical)),
        ("crit", json!([]), Some(Reason::HeaderCritical)),
        ("crit", json!("b64"), Some(Reason::HeaderCritical)),
        ("b64", json!(false), Some(Reason::HeaderCritical)),
        ("enc", json!("A256GCM"), Some(Reason::TokenEncrypted)),
        ("zip", json!("DEF"), Some(Reason::TokenEncrypted)),
        ("cty", json!("JWT"), Some(Reason::TypeUnexpected)),
        ("typ", json!("logout+jwt"), Some(Reason::TypeUnexpected)),
        ("typ", json!("dpop+jwt"), Some(Reason::TypeUnexpected)),
        ("typ", json!("JOSE"), Some(Reason::TypeUnexpected)),
        ("typ", json!(7), Some(Reason::HeaderMalformed)),
        ("typ", json!("at+jwt"), None),
        ("typ", json!("application/at+JWT"), None),
        ("typ", Value::Null, None),
        ("kid", json!("another"), Some(Reason::KeyNotFound)),
        ("kid", json!(""), Some(Reason::KeyNotFound)),
        ("kid", json!("../../dev/null"), Some(Reason::KeyNotFound)),
        ("kid", json!("ES256' OR '1'='1"), Some(Reason::KeyNotFound)),
        ("kid", json!("RS256"), Some(Reason::AlgorithmNotAllowed)),
        ("kid", json!("k".repeat(257)), Some(Reason::HeaderMalformed)),
        ("kid", json!(1), Some(Reason::HeaderMalformed)),
        // The only key for ES256, so that nothing is left to guess.
        ("kid", Value::Null, None),
        // Looked at by nobody: the configured key is used.
        ("jku", json!("https://evil.example/jwks.json"), None),
        ("x5u", json!("https://evil.example/cert.pem"), None),
        ("x5c", json!(["MIIB"]), None),
    ];
    for (name, value, reason) in rows {
        let header = if name == "alg" && value.is_null() {
            json!({"typ": "JWT", "alg": null})
        } else {
            with(header(Algorithm::Es256), name, value.clone())
        };
        assert_eq!(check(&header, &claims()), reason, "{name}: {value}");
    }
    assert_eq!(check(&json!({"typ": "JWT"}), &claims()), Some(Reason::HeaderMalformed));
}

#[test]
fn what_claims_must_not_say_is_refused() {
    let long = "ü".repeat(129);
    let rows = [
        ("iss", Value::Null, Some(Reason::IssuerMissing)),
        ("iss", json!("https://id.example/"), Some(Reason::IssuerUnknown)),
        ("iss", json!("https://ID.example"), Some(Reason::IssuerUnknown)),
        ("iss", json!(["https://id.example"]), Some(Reason::ClaimsMalformed)),
        ("aud", Value::Null, Some(Reason::AudienceMissing)),
        ("aud", json!("tidegat"), Some(Reason::AudienceWrong)),
        ("aud", json!("Tidegate"), Some(Reason::AudienceWrong)),
        ("aud", json!([]), Some(Reason::AudienceWrong)),
        ("aud", json!(["x", "y"]), Some(Reason::AudienceWrong)),
        ("aud", json!({"tidegate": 1}), Some(Reason::ClaimsMalformed)),
        ("aud", json!(["tidegate", 1]), Some(Reason::ClaimsMalformed)),
        ("aud", json!(["x", "other"]), None),
        ("exp", Value::Null, Some(Reason::ExpiryMissing)),
        ("exp", json!(NOW - 30), Some(Reason::Expired)),
        ("exp", json!(NOW - 29), None),
        ("exp", json!(0), Some(Reason::Expired)),
        ("exp", json!(-1), Some(Reason::ClaimsMalformed)),
        ("exp", json!(NOW.to_string()), Some(Reason::ClaimsMalformed)),
        ("exp", json!(NOW_MS), Some(Reason::ClaimsMalformed)),
        ("exp", json!(u64::MAX), Some(Reason::ClaimsMalformed)),
        ("exp", json!(1e300), Some(Reason::ClaimsMalformed)),
        ("exp", json!(1_799_999_970.9), Some(Reason::Expired)),
        ("exp", json!(1_799_999_971.5), None),
        ("exp", json!(true), Some(Reason::ClaimsMalformed)),
        ("nbf", json!(NOW + 30), None),
        ("nbf", json!(1_800_000_030.1), Some(Reason::NotYetValid)),
        ("nbf", json!(NOW + 31), Some(Reason::NotYetValid)),
        ("nbf", json!("soon"), Some(Reason::ClaimsMalformed)),
        ("nbf", Value::Null, None),
        ("iat", json!(NOW + 300), None),
        ("iat", json!(NOW + 301), Some(Reason::IssuedInFuture)),
        ("iat", json!(NOW * 1000), Some(Reason::ClaimsMalformed)),
        ("iat", Value::Null, None),
        ("sub", Value::Null, Some(Reason::SubjectMissing)),
        ("sub", json!(""), Some(Reason::SubjectInvalid)),
        ("sub", json!(7), Some(Reason::SubjectInvalid)),
        ("sub", json!(["ada"]), Some(Reason::SubjectInvalid)),
        ("sub", json!("a\u{0}b"), Some(Reason::SubjectInvalid)),
        ("sub", json!("a\r\nx-admin: 1"), Some(Reason::SubjectInvalid)),
        ("sub", json!("a\u{9b}"), Some(Reason::SubjectInvalid)),
        ("sub", json!(long), Some(Reason::SubjectInvalid)),
        ("sub", json!("ü".repeat(128)), None),
        ("tid", Value::Null, Some(Reason::TenantMissing)),
        ("tid", json!(""), Some(Reason::TenantInvalid)),
        ("tid", json!("Acme"), Some(Reason::TenantInvalid)),
        ("tid", json!("acme:hub:1"), Some(Reason::TenantInvalid)),
        ("tid", json!("../acme"), Some(Reason::TenantInvalid)),
        ("tid", json!("us.acme"), Some(Reason::TenantInvalid)),
        ("tid", json!("a".repeat(49)), Some(Reason::TenantInvalid)),
        ("tid", json!(["acme"]), Some(Reason::TenantInvalid)),
        ("tid", json!("eu.acme"), None),
        ("scope", json!(["admin"]), Some(Reason::ScopeInvalid)),
        ("scope", json!("a\u{1}"), Some(Reason::ScopeInvalid)),
        ("scope", json!("s".repeat(129)), Some(Reason::ScopeInvalid)),
        ("scope", json!(""), None),
        ("scope", Value::Null, None),
        ("jti", json!(1), Some(Reason::ClaimsMalformed)),
        ("jti", json!("j".repeat(257)), Some(Reason::ClaimsMalformed)),
        ("jti", Value::Null, None),
    ];
    for (name, value, reason) in rows {
        let claims = with(claims(), name, value.clone());
        assert_eq!(check(&header(Algorithm::Es256), &claims), reason, "{name}: {value}");
    }
}

#[test]
fn a_public_key_is_never_a_shared_secret() {
    // The classic confusion: the attacker signs with HMAC, taking what is public for the secret.
    for victim in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        let jwk = signing_key(victim).verifying_jwk();
        let coordinates: Vec<u8> = ["n", "x", "y"]
            .iter()
            .filter_map(|name| jwk[*name].as_str())
            .flat_map(|text| URL_SAFE_NO_PAD.decode(text).unwrap())
            .collect();
        for secret in [coordinates, jwk.to_string().into_bytes()] {
            let forger = json!({"kty": "oct", "k": encode(&secret)}).to_string();
            let forger = SigningKey::from_jwk(&forger).unwrap();
            for (kid, trusted) in [(json!(victim.name()), vec![victim]), (Value::Null, vec![victim])] {
                let header = with(with(header(Algorithm::Hs256), "kid", kid), "alg", json!("HS256"));
                let text = forger.sign(&header, &claims()).unwrap();
                let config = json!([with(config()[0].clone(), "keys", jwks(&trusted))]);
                let error = issuers(&config).verify(&text, NOW_MS, None).unwrap_err();
                assert_eq!(error.reason, Reason::AlgorithmNotAllowed, "{victim}");
            }
        }
    }
}

#[test]
fn a_key_that_comes_with_the_token_is_not_used() {
    let forger = SigningKey::generate(Algorithm::Es256, "ES256", [9; 32]).unwrap();
    for name in ["jwk", "x5c"] {
        let header = with(header(Algorithm::Es256), name, forger.verifying_jwk());
        assert_eq!(
            check_text(&forger.sign(&header, &claims()).unwrap()),
            Some(Reason::SignatureInvalid)
        );
    }
    let header = with(header(Algorithm::Es256), "jku", json!("https://evil.example/jwks.json"));
    assert_eq!(
        check_text(&forger.sign(&header, &claims()).unwrap()),
        Some(Reason::SignatureInvalid)
    );
}

#[test]
fn an_issuer_uses_only_the_algorithms_that_it_is_allowed() {
    let config = json!([with(config()[0].clone(), "algorithms", json!(["RS256", "EdDSA"]))]);
    for algorithm in Algorithm::ALL {
        let text = token(algorithm, &header(algorithm), &claims());
        let refused = issuers(&config)
            .verify(&text, NOW_MS, None)
            .is_err_and(|e| e.reason == Reason::AlgorithmNotAllowed);
        assert_eq!(
            refused,
            matches!(algorithm, Algorithm::Hs256 | Algorithm::Es256),
            "{algorithm}"
        );
    }
}

#[test]
fn a_token_has_one_spelling() {
    let good = token(Algorithm::EdDsa, &header(Algorithm::EdDsa), &claims());
    let [head, body, tag] = good.split('.').collect::<Vec<_>>()[..] else {
        panic!("{good}")
    };
    // The last character of 64 octets carries four bits that must be zero.
    let twin = |tag: &str| {
        let last = tag.chars().last().unwrap();
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let next = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
        format!("{}{next}", &tag[..tag.len() - 1])
    };
    let rows = [
        (format!("{head}.{body}"), Reason::TokenMalformed),
        (format!("{head}.{body}.{tag}.x"), Reason::TokenMalformed),
        (format!("{head}.{body}.{tag}."), Reason::TokenMalformed),
        (format!(".{head}.{body}.{tag}"), Reason::TokenMalformed),
        (format!("{head}.{body}.{tag}.a.b"), Reason::TokenEncrypted),
        (format!("{head}.{body}.{tag}.a.b.c"), Reason::TokenMalformed),
        (format!("{head}.{body}.{tag}=="), Reason::TokenMalformed),
        (format!("{head}.{body}.{}", twin(tag)), Reason::TokenMalformed),
        (format!("{head}.{body}.{}+", &tag[1..]), Reason::TokenMalformed),
        (format!(" {good}"), Reason::TokenMalformed),
        (format!("{good}\n"), Reason::TokenMalformed),
        (format!("{head}.{body}."), Reason::SignatureInvalid),
        (format!("{head}..{tag}"), Reason::ClaimsMalformed),
        (format!(".{body}.{tag}"), Reason::HeaderMalformed),
        (format!("{head}.{body}.é"), Reason::TokenMalformed),
        (String::new(), Reason::TokenMalformed),
        ("..".into(), Reason::HeaderMalformed),
        (format!("{head}.{body}.{}", encode([0; 64])), Reason::SignatureInvalid),
        (format!("{head}.{body}.{}", encode([255; 64])), Reason::SignatureInvalid),
        (
            format!("{}.{body}.{tag}", encode(r#"{"alg":"none"}"#)),
            Reason::AlgorithmNone,
        ),
        (
            format!("{}.{body}.", encode(r#"{"alg":"none"}"#)),
            Reason::AlgorithmNone,
        ),
        (
            format!("{}.{body}.{tag}", encode(r#"{"alg":"EdDSA","alg":"none"}"#)),
            Reason::HeaderMalformed,
        ),
        (
            format!("{}.{body}.{tag}", encode(r#""EdDSA""#)),
            Reason::HeaderMalformed,
        ),
        (format!("{}.{body}.{tag}", encode([0xff])), Reason::HeaderMalformed),
    ];
    assert_eq!(check_text(&good), None);
    for (text, reason) in rows {
        assert_eq!(check_text(&text), Some(reason), "{text}");
    }
}

#[test]
fn a_token_of_more_than_8_kib_is_refused_unread() {
    let sized = |padding: usize| {
        let claims = with(claims(), "padding", json!("p".repeat(padding)));
        token(Algorithm::Hs256, &header(Algorithm::Hs256), &claims)
    };
    let padding = (5_000..6_200)
        .rev()
        .find(|padding| sized(*padding).len() <= 8192)
        .unwrap();
    assert_eq!(check_text(&sized(padding)), None);
    assert_eq!(check_text(&sized(padding + 3)), Some(Reason::TokenTooLarge));
    assert_eq!(check_text(&"a".repeat(8193)), Some(Reason::TokenTooLarge));
}

#[test]
fn claims_are_one_plain_object_of_bounded_depth() {
    let signed = |payload: String| {
        // Signed by the right key, so that only the form of the claims is at fault.
        let key = signing_key(Algorithm::Hs256);
        let raw = key.sign(&header(Algorithm::Hs256), &json!({})).unwrap();
        let head = raw.split('.').next().unwrap().to_string();
        sign_hs256(&format!("{head}.{}", encode(payload)))
    };
    let base = claims().to_string();
    let base = base.trim_end_matches('}');
    let nested = |depth: usize| format!("{base},\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(check_text(&signed(nested(15))), None);
    for payload in [
        nested(16),
        nested(2_000),
        format!("{base},\"sub\":\"root\"}}"),
        format!("{base},\"s\\u0075b\":\"root\"}}"),
        format!("{base}}}{{}}"),
        "[]".into(),
        "null".into(),
        String::new(),
    ] {
        assert_eq!(
            check_text(&signed(payload.clone())),
            Some(Reason::ClaimsMalformed),
            "{payload:.80}"
        );
    }
}

/// Signs what stands before the second dot, whatever it is.
fn sign_hs256(message: &str) -> String {
    let key = signing_key(Algorithm::Hs256).private_jwk();
    let secret = URL_SAFE_NO_PAD.decode(key["k"].as_str().unwrap()).unwrap();
    let key = jsonwebtoken::EncodingKey::from_secret(&secret);
    let tag = jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
    format!("{message}.{tag}")
}
