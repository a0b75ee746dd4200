//! What is told of an expression before and after it has values: flaws, failures and reasons.

extern crate std;

use std::vec;
use std::vec::Vec;

use super::{Fields, given, parse};
use crate::expression::{Expression, Flaw, Type};

pub(super) const DECLARED: &[(&str, Type)] = &[
    ("claims", Type::Map),
    ("action", Type::Text),
    ("payload_bytes", Type::Int),
    ("scopes", Type::List),
    ("now", Type::Timestamp),
];

/// Where a flaw is, what is expected there, and what was found.
type Told = (usize, &'static str, &'static str);

fn flaws(text: &str) -> Vec<Flaw> {
    Expression::compile(text, DECLARED, Type::Bool)
        .err()
        .unwrap_or_default()
}

#[test]
fn what_cannot_be_right_is_told_before_there_are_values() {
    let table: &[(&str, &[Told])] = &[
        (
            "clams.role == 'x'",
            &[(
                1,
                "one of the names claims, action, payload_bytes, scopes, now",
                "clams",
            )],
        ),
        (
            "payload_bytes > 'big'",
            &[(1, "values that `>` can be used with", "int > string")],
        ),
        ("action", &[(1, "bool", "string")]),
        (
            "action == 1 || nw > now",
            &[
                (1, "values that `==` can be used with", "string == int"),
                (16, "one of the names claims, action, payload_bytes, scopes, now", "nw"),
            ],
        ),
        ("é == 'x'", &[(1, "a value, a name or an operator", "é")]),
        ("'é' == \"x", &[(8, "a text that ends with its quote", "the end")]),
        (
            "action.matches('a.*')",
            &[(
                8,
                "`startsWith`, `endsWith` or `contains`: regular expressions are not supported",
                "matches",
            )],
        ),
        (
            "has(claims)",
            &[(1, "the field of something, as in `has(a.b)`", "has(…)")],
        ),
        ("size(action, action) > 1", &[(1, "1 arguments for `size`", "2")]),
        (
            "1u == 1",
            &[(
                1,
                "a number with a sign: unsigned numbers (`1u`) are not supported",
                "1u",
            )],
        ),
        ("b'x' == 'x'", &[(1, "text: bytes are not supported", "b")]),
        (
            "payload_bytes > 9223372036854775808",
            &[(17, "a whole number of 64 bits", "9223372036854775808")],
        ),
        ("true &&", &[(8, "a value, a name or `(`", "the end")]),
        ("(true", &[(6, "`)`", "the end")]),
        ("true true", &[(6, "an operator or the end", "true")]),
        ("[1, 2", &[(6, "`]`", "the end")]),
        ("action.size(", &[(13, "a value, a name or `(`", "the end")]),
        ("size(action,) > 1", &[(13, "an argument", ")")]),
        ("if == 1", &[(1, "a value, a name or `(`", "if")]),
        ("scopes.all(1, true)", &[(12, "a name for the elements", "1")]),
        ("scopes.all(s)", &[(8, "2 arguments for `all`", "1")]),
        (
            "'\\q' == action",
            &[(2, "an escape such as `\\n`, `\\\"`, `\\\\` or `\\u00e9`", "\\q")],
        ),
        (
            "now.getHours(action) > 1",
            &[(
                14,
                "a time zone of the IANA database, as a text, such as \"Europe/Berlin\"",
                "action",
            )],
        ),
        (
            "now + now == now",
            &[(1, "values that `+` can be used with", "timestamp + timestamp")],
        ),
        ("!payload_bytes", &[(2, "bool", "int")]),
        ("-action == 'a'", &[(2, "int or double", "string")]),
        ("payload_bytes.role == 1", &[(1, "map", "int")]),
        (
            "1 in action",
            &[(1, "values that `in` can be used with", "int in string")],
        ),
        ("1ee5 > 1", &[(1, "an operator behind the number", "1ee5")]),
        ("", &[(1, "a value, a name or `(`", "the end")]),
        ("1 & 2", &[(3, "a value, a name or an operator", "&")]),
    ];
    for (text, expected) in table {
        let found = flaws(text);
        let found: Vec<_> = found
            .iter()
            .map(|flaw| (flaw.at, flaw.expected.as_ref(), flaw.found.as_str()))
            .collect();
        assert_eq!(found, *expected, "{text}");
    }
}

#[test]
fn what_may_have_been_meant_is_suggested() {
    for (text, meant) in [
        ("clams.role == 'x'", "claims"),
        ("action.startWith('a')", "startsWith"),
        ("sise(action) > 1", "size"),
        ("scopes.exist(s, s == 'a')", "exists"),
        ("now.getHours('Europe/Berln') > 1", "Europe/Berlin"),
    ] {
        assert_eq!(flaws(text)[0].suggestion.as_deref(), Some(meant), "{text}");
    }
}

#[test]
fn what_may_be_right_compiles() {
    for text in [
        "claims.level >= 3",
        "claims.role in ['admin', 'owner'] && payload_bytes <= 100 * 1024",
        "scopes.exists(s, s.startsWith('jobs:')) || 'admin' in scopes",
        "now.getHours('Europe/Berlin') >= 8 && now.getDayOfWeek() in [1, 2, 3, 4, 5]",
        "now < timestamp('2030-01-01T00:00:00Z') - duration('24h')",
        "has(claims.team) ? claims.team == 'blue' : action.startsWith('read.')",
        "claims.a + claims.b == claims.c",
        "payload_bytes == null",
        "payload_bytes > 0.5",
        "claims.flag",
        "[1, 2].map(x, x + 1) == [2, 3]",
    ] {
        assert_eq!(flaws(text), vec![], "{text}");
    }
}

#[test]
fn failures_say_where_and_terms_say_why() {
    let given = given();
    let expression = parse("yes && (claims.gone == 1 || x / 0 > 1)");
    let failure = expression.evaluate(&Fields(&given)).unwrap_err();
    assert_eq!(failure.message, "there is no `gone`");
    assert_eq!(expression.place(&failure), Some("claims.gone"));
    for (text, why) in [
        ("yes && x > 8 && no", Some("x > 8")),
        ("no || x > 8 || ( x == 7 )", Some("( x == 7 )")),
        ("yes && x == 7", None),
        ("x == 7", None),
    ] {
        assert_eq!(parse(text).because(&Fields(&given)), why, "{text}");
    }
    assert!(parse("x").holds(&Fields(&given)).is_err());
}
