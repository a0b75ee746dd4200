//! Nothing is unbounded: text, height, steps.

extern crate std;

use std::format;
use std::string::ToString;
use std::vec;

use serde_json::{Value as Json, json};

use super::{Fields, parse};
use crate::expression::{Expression, HEIGHT_MAX, STEPS_MAX, TEXT_BYTES_MAX};

#[test]
fn what_is_too_long_deep_or_slow_is_refused() {
    assert!(Expression::parse(&" ".repeat(TEXT_BYTES_MAX + 1)).is_err());
    let deep = |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("-(", ")"),
        ("{1:", "}"),
        ("size(", ")"),
        ("[1].map(x,", ")"),
        ("true ? 1 : ", ""),
    ] {
        let n = HEIGHT_MAX * 3;
        assert!(Expression::parse(&deep(open, close, n)).is_err(), "{open}");
        assert!(Expression::parse(&deep(open, close, 12)).is_ok(), "{open}");
    }
    assert!(Expression::parse(&format!("{}true", "!".repeat(2000))).is_err());
    assert!(Expression::parse(&format!("x{}", ".a".repeat(900))).is_err());
    assert!(Expression::parse(&format!("1{}", " + 1".repeat(400))).is_err());
    // What the specification asks for: 32 terms, 24 fields.
    parse(&vec!["true"; 200].join(" && "));
    parse(&vec!["true"; 200].join(" || "));
    parse(&vec!["1"; 32].join(" + "));
    parse(&format!("x{}", ".a".repeat(24)));
    // 100 elements for each of 100 for each of 100.
    let items: Json = (0..100).collect();
    let given = json!({ "a": items, "text": "x".repeat(100_000), "yes": true });
    for text in [
        "a.all(x, a.all(y, a.all(z, true)))",
        "a.exists(x, a.exists(y, a.exists(z, false)))",
        "a.map(x, a.map(y, a)).size() > 0 && a.map(x, a + a + a).size() > 0",
        "a.map(x, text + text).size() > 0",
        "a.all(x, text == text)",
        "a.all(x, text.contains('y') || true)",
        "a.map(x, a == a).size() == 100 && a.map(x, 100 in a).size() == 100",
        "!(a.all(x, a.all(y, a.all(z, true))) && false)",
    ] {
        let expression = parse(text);
        let failure = expression.evaluate(&Fields(&given)).expect_err(text);
        assert!(failure.message.contains(&STEPS_MAX.to_string()), "{text}: {failure:?}");
    }
}
