//! What is taken out, and what is not.

extern crate std;

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Emails, Redactor};

fn text(text: &str) -> String {
    Redactor::default().text(text).into_owned()
}

#[test]
fn what_looks_like_a_secret_is_taken_out_of_any_text() {
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl";
    let pem = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----";
    for (given, expected) in [
        (format!("sent {jwt}, refused"), "sent [redacted], refused"),
        (format!("bearer.{jwt}"), "bearer.[redacted]"),
        ("Bearer abc12345".into(), "Bearer [redacted]"),
        ("basic dXNlcjpwYXNzd29yZA==".into(), "basic [redacted]"),
        (
            "key tgk_acme_0123456789abcdef0123 is old".into(),
            "key [redacted] is old",
        ),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw+/==".into(), "[redacted]"),
        (format!("a {pem} b"), "a [redacted] b"),
        ("-----BEGIN EC PRIVATE KEY-----\ncut off".into(), "[redacted]"),
        ("paid with 4111 1111 1111 1111.".into(), "paid with [redacted]."),
        ("4111-1111-1111-1111 12".into(), "[redacted] 12"),
        ("no 12 5555555555554444".into(), "no 12 [redacted]"),
        (
            "at https://me:hunter2@db.example/x".into(),
            "at https://[redacted]@db.example/x",
        ),
        (
            "https://x/?api_key=abc&page=2".into(),
            "https://x/?api_key=[redacted]&page=2",
        ),
        ("token%3Dabc".into(), "token%3D[redacted]"),
        ("password: hunter2".into(), "password: [redacted]"),
        (
            "Authorization: Bearer abc\nHost: x".into(),
            "Authorization: [redacted]\nHost: x",
        ),
        ("Cookie: a=b; c=d".into(), "Cookie: [redacted]"),
        (
            r#"got {\"password\":\"hun ter\\\"2\",\"a\":1"#.into(),
            r#"got {\"password\":\"[redacted]\",\"a\":1"#,
        ),
        ("secret = 'a b' and more".into(), "secret = '[redacted]' and more"),
        ("secrets: [1, {\"a\": 2}] end".into(), "secrets: [redacted] end"),
        (
            "failed with {\"pin\": 1234} there".into(),
            "failed with {\"pin\": \"[redacted]\"} there",
        ),
        ("AKIAIOSFODNN7EXAMPLE".into(), "[redacted]"),
    ] {
        assert_eq!(text(&given), expected, "{given}");
    }
}

#[test]
fn what_is_no_secret_stays() {
    for given in [
        "",
        "The action `report.summarize` takes the scope `jobs:read`.",
        "req_01kaqv2j5m3w8d9e0f job_01KAQV2J5M3W8D9E0F",
        "2026-11-21T07:00:00.000Z took 1234567 ms",
        "4111111111111112 is no card, 12345678901234567890123 neither",
        "0.4111111111111111",
        "tokens: 12, max_tokens=100, tokenizer=x, secretary",
        "the token is old; a password has letters",
        r#"{"token":null,"secret":"","idempotency_key":"k","a":[1,2.5e3,"ä\n"]}"#,
        "ann@example.com",
        "https://example.com/a@b",
        "basic understanding of tgk_ and eyJ",
        "Bearer with one",
    ] {
        assert!(
            matches!(Redactor::default().text(given), Cow::Borrowed(same) if same == given),
            "{given}"
        );
    }
}

#[test]
fn json_stays_json_and_loses_values_by_their_names() {
    let given = json!({
        "user": "ann", "Access-Token": "x", "clientSecret": { "deep": [1, 2] }, "db_password_old": 5,
        "nested": [{ "x-api-key": ["a"] }, "token=abc"],
        "card": 4_111_111_111_111_111_u64, "amount": 4_111_111_111_111_112_u64,
    });
    let shown: Value = serde_json::from_str(&Redactor::default().json(&given.to_string())).unwrap();
    let expected = json!({
        "user": "ann", "Access-Token": "[redacted]", "clientSecret": "[redacted]", "db_password_old": "[redacted]",
        "nested": [{ "x-api-key": "[redacted]" }, "token=[redacted]"],
        "card": "[redacted]", "amount": 4_111_111_111_111_112_u64,
    });
    assert_eq!(shown, expected);
    let escaped = r#"{"\u0070assword":"x","a":"\u0065yJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"}"#;
    let shown = Redactor::default().json(escaped).into_owned();
    assert_eq!(shown, r#"{"\u0070assword":"[redacted]","a":"[redacted]"}"#);
    let broken = r#"{"a":"\ud800 password=x","\udfff":1}"#;
    let shown = Redactor::default().json(broken).into_owned();
    assert_eq!(shown, r#"{"a":"[redacted]","[redacted]":"[redacted]"}"#);
}

#[test]
fn names_and_emails_can_be_added() {
    let redactor = Redactor::new(["IBAN", "date_of-birth", ""], Emails::Redacted);
    assert_eq!(
        redactor.text("iban=DE00 to ann.b+c@mail.example.com, x@y"),
        "iban=[redacted] to [redacted], x@y"
    );
    let given = r#"{"account_iban":"DE00","dateOfBirth":"2000-01-01","a":"b"}"#;
    let expected = r#"{"account_iban":"[redacted]","dateOfBirth":"[redacted]","a":"b"}"#;
    assert_eq!(redactor.json(given), expected);
}

#[test]
fn a_long_text_costs_a_time_in_proportion() {
    // Each of these made a scanner that looks back, or on to the end, take a time that grows with the square.
    for piece in [
        "eyJ",
        "=a",
        "a=",
        "password ",
        "-----BEGIN ",
        "@a",
        "://",
        "1",
        "1 ",
        "\\\"",
        "{",
        "[\"",
        "password={",
        "tgk_",
        "bearer ",
    ] {
        let long = piece.repeat(100_000 / piece.len());
        let start = std::time::Instant::now();
        let _redacted = Redactor::new(["x"], Emails::Redacted).text(&long);
        let took = start.elapsed();
        assert!(took.as_secs() < 10, "{piece}: {took:?}");
    }
}

/// All that redactors differ in.
fn redactors() -> [Redactor; 4] {
    [
        Redactor::default(),
        Redactor::new([], Emails::Redacted),
        Redactor::new(["iban", "k"], Emails::Shown),
        Redactor::new(["iban", "acted"], Emails::Redacted),
    ]
}

#[test]
fn what_is_left_of_a_text_is_not_read_as_another_one() {
    for given in [
        // An address took the sign with it that ended the user of a URL.
        "888::://:8::://ctad.Fe63@4.\u{1f}@4._ba7_a2367",
        "888::://:8::://ctad.Fe63@4.\u{1f}...@4._ba7_a2367",
        "://-4111 1111 1111 1111@x",
        "://password='a/b'@x",
        "://a.tgk_0123456789abcdef01/x@y",
        "://:a/b@x.y:c@z",
        "4111111111111111eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl",
        "4111111111111111.pin=1234",
        "4222222222222.4111111111111111",
        "password='x'a@b.c, d",
        "password=null&a@b.c",
        "4111111111111111=foo",
        r#"{"\u0070in":"1"} secret='}'"#,
        r#"secrets: {"a":1} ["\u0070in=12"]"#,
        r#"pin=1 ["\u0070in=12"]"#,
        r#"["password='a"," b'"] pin=1"#,
    ] {
        for redactor in redactors() {
            let once = redactor.text(given).into_owned();
            assert_eq!(redactor.text(&once), once, "{given}");
        }
    }
}

/// A secret, and whether it is one by the name that it stands under alone.
fn secret() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Za-z0-9_-]{10,40}".prop_map(|s| format!("eyJ{s}.{s}.{s}")),
        "[a-z]{1,8}".prop_flat_map(|t| "[A-Za-z0-9]{24,40}".prop_map(move |s| format!("tgk_{t}_{s}"))),
        "[A-Za-z0-9+/]{24,40}".prop_map(|s| format!("whsec_{s}")),
        "[A-Za-z0-9]{20,40}".prop_map(|s| format!("Bearer {s}")),
        "[A-Za-z0-9+/=\n]{20,90}".prop_map(|s| format!("-----BEGIN PRIVATE KEY-----\n{s}\n-----END PRIVATE KEY-----")),
        ("[2-6]", "[0-9]{11,17}").prop_map(|(first, rest)| with_check_digit(&format!("{first}{rest}"))),
    ]
}

fn with_check_digit(digits: &str) -> String {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u32::from(digit - b'0');
            if place % 2 == 1 {
                digit
            } else if digit > 4 {
                digit * 2 - 9
            } else {
                digit * 2
            }
        })
        .sum();
    format!("{digits}{}", (10 - sum % 10) % 10)
}

/// What texts are made of that are hard to read: signs that begin and end something, names, secrets, and next to nothing.
fn piece() -> impl Strategy<Value = String> {
    const PIECES: [&str; 62] = [
        "://",
        ":",
        "/",
        "?",
        "#",
        "@",
        ".",
        ",",
        ";",
        "&",
        "=",
        "=>",
        "%3D",
        "\"",
        "'",
        "`",
        "\\",
        "\\\"",
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        "-",
        "_",
        "+",
        "~",
        "|",
        "*",
        "$",
        " ",
        "\n",
        "\u{1f}",
        "ä",
        "a",
        "x",
        "4",
        "12",
        "null",
        "\"\"",
        "password",
        "pin",
        "token",
        "iban",
        "cookie: ",
        "authorization",
        "bearer ",
        "Basic ",
        "a@b.c",
        "o'b@c.d",
        "4111111111111111",
        "4111 1111 1111 1111",
        "4222222222222",
        "tgk_0123456789abcdef",
        "eyJhbGciOi.eyJzdWIi.c2",
        "-----BEGIN ",
        "-----END ",
        "-----",
        "[redacted]",
        "\"pin\":12",
        "\"\\u0070in\":\"12\"",
    ];
    (0..PIECES.len()).prop_map(|at| PIECES[at].into())
}

/// JSON somewhere in which `secret` stands, in texts around it, in lists and objects, and in JSON that is a text.
fn around(secret: String) -> impl Strategy<Value = Value> {
    let leaf = ("[a-z ,.]{0,12}", "[a-z ,.]{0,12}")
        .prop_map(move |(before, after)| json!(format!("{before} {secret} {after}")));
    leaf.prop_recursive(6, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|value| json!([1, value, "x"])),
            ("[a-z]{1,6}", inner.clone()).prop_map(|(name, value)| json!({ name: value, "b": null })),
            inner.clone().prop_map(|value| json!(value.to_string())),
            ("[a-z ]{1,6}", inner).prop_map(|(before, value)| json!(format!("{before}: {value} end"))),
        ]
    })
}

/// Every text in a value, those inside of texts that are JSON too.
fn texts(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            into.push(text.clone());
            if let Ok(inner @ (Value::String(_) | Value::Array(_) | Value::Object(_))) = serde_json::from_str(text) {
                texts(&inner, into);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, into)),
        Value::Object(members) => members.iter().for_each(|(name, item)| {
            into.push(name.clone());
            texts(item, into);
        }),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn no_secret_survives_however_deep_it_stands(
        (secret, value) in secret().prop_flat_map(|secret| (Just(secret.clone()), around(secret))),
    ) {
        let given = value.to_string();
        let shown = Redactor::default().json(&given).into_owned();
        let shown_value: Value = serde_json::from_str(&shown).unwrap();
        let mut all = Vec::from([shown.clone()]);
        texts(&shown_value, &mut all);
        let core = secret.strip_prefix("Bearer ").unwrap_or(&secret);
        for text in all {
            prop_assert!(!text.contains(core), "{core} in {text} of {given}");
        }
        prop_assert_eq!(Redactor::default().json(&shown), shown.as_str());
    }

    #[test]
    fn no_value_survives_under_the_name_of_a_secret(
        name in "(client_)?(secret|api[-_]?key|Token|PASSWORD|authorization)",
        value in "[a-z]{6}[0-9a-z]{1,20}",
        deep in 0_usize..5,
        around in "[ a-z]{0,10}",
    ) {
        let mut text = json!({ "a": [{ name.clone(): value.clone() }] }).to_string();
        for _ in 0..deep {
            text = Value::from(format!("{around}{text}")).to_string();
        }
        let shown = Redactor::default().text(&text).into_owned();
        prop_assert!(!shown.contains(&value), "{shown}");
        let assigned = format!("{around} {name}={value} x");
        prop_assert!(!Redactor::default().text(&assigned).contains(&value));
    }

    #[test]
    fn a_text_without_a_secret_stays_as_it_is(text in "[a-z äö,.!?(){}\\[\\]\"'\\\\@/\n-]{0,200}") {
        let is_plain = !["pass", "pin", "otp", "ssn", "auth", "token", "secret", "pwd", "jwt", "cv", "cookie", "://", "credential"]
            .iter().any(|word| text.contains(word));
        prop_assume!(is_plain);
        prop_assert_eq!(Redactor::default().text(&text), text.as_str());
    }

    #[test]
    fn the_same_is_left_when_done_twice(pieces in proptest::collection::vec(piece(), 1..24)) {
        let given = pieces.concat();
        for redactor in redactors() {
            let once = redactor.text(&given).to_string();
            prop_assert_eq!(redactor.text(&once), once.as_str(), "{}", given);
            let once = redactor.json(&given).to_string();
            prop_assert_eq!(redactor.json(&once), once.as_str(), "{}", given);
        }
    }

    #[test]
    fn anything_is_taken_and_the_same_twice(text in "\\PC{0,60}", piece in "(password|token)[=:]? ?[\\[{\"'\\\\a1]{0,9}", end in "\\PC{0,30}") {
        let redactor = Redactor::new(["k"], Emails::Redacted);
        let given = format!("{text}{piece}{end}");
        let once = redactor.text(&given).to_string();
        prop_assert_eq!(redactor.text(&once), once.as_str(), "{}", given);
    }
}
