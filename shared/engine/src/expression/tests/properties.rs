//! Any tree, and any text: what is printed reads as the same, and nothing panics.

extern crate std;

use std::boxed::Box;
use std::string::String;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::flaws::DECLARED;
use super::{Fields, given};
use crate::expression::print::print;
use crate::expression::tree::{Function, InZone, Kind, Literal, Macro, Node, Operator, Over, Part};
use crate::expression::{Expression, HEIGHT_MAX, TEXT_BYTES_MAX, Type};
use crate::schedules::Zone;

fn node(kind: Kind) -> Node {
    let mut below = 0;
    kind.parts(&mut |part| below = below.max(part.height));
    Node {
        span: (0, 0),
        height: below + 1,
        kind,
    }
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z_]{1,3}",
        Just(String::from("claims")),
        Just(String::from("items")),
        Just(String::from("x"))
    ]
    .prop_filter("no word of the language", |name| {
        !["as", "if", "in", "for", "let", "var", "has", "int"].contains(&name.as_str())
    })
}

/// Any tree that a text can have.
fn trees() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        Just(Literal::Null).prop_map(Kind::Literal),
        any::<bool>().prop_map(|value| Kind::Literal(Literal::Bool(value))),
        any::<i64>().prop_map(|number| Kind::Literal(Literal::Int(number))),
        (-3_i64..4).prop_map(|number| Kind::Literal(Literal::Int(number))),
        (-1e6..1e6).prop_map(|number| Kind::Literal(Literal::Double(number))),
        any::<String>().prop_map(|text| Kind::Literal(Literal::Text(text))),
        names().prop_map(|name| Kind::Name(name.into())),
    ];
    leaf.prop_map(node).prop_recursive(5, 60, 4, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        let pair = (inner.clone(), inner.clone()).prop_map(Box::new);
        let several = prop::collection::vec(inner.clone(), 2..4);
        let globals = prop::sample::select(&Function::GLOBAL[..]);
        let methods = prop::sample::select(&Function::METHODS[1..]);
        let operators = prop::sample::select(&Operator::ALL[..]);
        let zones = prop::sample::select(vec!["Europe/Berlin", "Asia/Kathmandu"]);
        let zone = prop::option::of(zones).prop_map(|name| name.map(|name| InZone(Zone::find(name).unwrap())));
        prop_oneof![
            (boxed.clone(), names()).prop_map(|(of, name)| Kind::Field(of, name.into())),
            (boxed.clone(), names()).prop_map(|(of, name)| Kind::Has(of, name.into())),
            pair.clone().prop_map(Kind::Index),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Kind::List),
            prop::collection::vec((inner.clone(), inner.clone()), 0..3).prop_map(Kind::Map),
            boxed.clone().prop_map(Kind::Not),
            boxed.clone().prop_map(Kind::Negate),
            several.clone().prop_map(Kind::All),
            several.prop_map(Kind::Any),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|three| Kind::Choose(Box::new(three))),
            (operators, pair).prop_map(|((_, operator, _), pair)| Kind::Binary(operator, pair)),
            (globals, inner.clone()).prop_map(|((_, function), of)| Kind::Call(function, vec![of])),
            (methods, inner.clone(), inner.clone())
                .prop_map(|((_, function, _), of, argument)| Kind::Call(function, vec![of, argument])),
            (prop::sample::select(&Part::ALL[..]), boxed, zone)
                .prop_map(|((_, part), of, zone)| Kind::Part(part, of, zone)),
            (
                prop::sample::select(&Macro::ALL[..]),
                inner.clone(),
                names(),
                prop::option::of(inner.clone()),
                inner
            )
                .prop_map(|((_, what), range, name, filter, body)| {
                    let filter = filter.filter(|_| what == Macro::Map);
                    Kind::Over(Box::new(Over {
                        what,
                        range,
                        name: name.into(),
                        filter,
                        body,
                    }))
                }),
        ]
        .prop_map(node)
    })
}

/// Pieces that make up what nearly is an expression.
fn soup() -> impl Strategy<Value = String> {
    let pieces = vec![
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ".",
        ",",
        ":",
        "?",
        "&&",
        "||",
        "!",
        "-",
        "+",
        "*",
        "/",
        "%",
        "<",
        "<=",
        "==",
        "!=",
        "in",
        "1",
        "0x",
        "1e",
        ".5",
        "1.5",
        "9223372036854775808",
        "'",
        "\"",
        "'''",
        "\\",
        "r'",
        "a",
        "claims",
        "has",
        "size",
        "all",
        "map",
        "getHours",
        "true",
        "null",
        "é",
        "//",
        "\n",
        " ",
        "'a'",
        "x",
    ];
    prop::collection::vec(prop::sample::select(pieces), 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_reads_as_the_same(tree in trees()) {
        let text = print(&tree);
        prop_assume!(text.len() <= TEXT_BYTES_MAX && tree.height * 2 < HEIGHT_MAX);
        let read = Expression::parse(&text);
        prop_assert_eq!(read.map(|read| read.root), Ok(tree), "{}", text);
    }

    /// A value or a failure, the same each time, whatever is evaluated; and a part of the text where it failed.
    #[test]
    fn no_expression_panics_or_wavers(tree in trees()) {
        let given = given();
        let text = print(&tree);
        let expression = Expression { text: text.into(), root: tree };
        let once = expression.evaluate(&Fields(&given)).map(|value| value.to_json());
        let again = expression.evaluate(&Fields(&given)).map(|value| value.to_json());
        prop_assert_eq!(once, again);
        expression.because(&Fields(&given));
    }

    /// What the checker takes never fails for what it has checked: a name that nobody gives.
    #[test]
    fn what_is_checked_knows_its_names(tree in trees()) {
        let given = given();
        let text = print(&tree);
        let names: Vec<(&str, Type)> = given.as_object().unwrap().keys().map(|name| (name.as_str(), Type::Any)).collect();
        if let Ok(expression) = Expression::compile(&text, &names, Type::Any)
            && let Err(failure) = expression.evaluate(&Fields(&given))
        {
            prop_assert!(!failure.message.contains("nobody gives"), "{}: {:?}", text, failure);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in prop_oneof![soup(), any::<String>()]) {
        match Expression::compile(&text, DECLARED, Type::Any) {
            Ok(expression) => {
                let reread = Expression::parse(&print(&expression.root)).map(|read| read.root);
                // What is printed nests deeper by its parentheses, and may be longer.
                prop_assert!(reread.is_err() || reread == Ok(expression.root), "{}", text);
            }
            Err(flaws) => {
                prop_assert!(!flaws.is_empty());
                let places = flaws.iter().all(|flaw| (1..=text.chars().count() + 1).contains(&flaw.at));
                prop_assert!(places, "{:?}", flaws);
            }
        }
    }

    /// The order of terms decides nothing but which failure is told.
    #[test]
    fn terms_may_change_places(one in trees(), other in trees()) {
        let given = given();
        let value = |kind| {
            let expression = Expression { text: "".into(), root: node(kind) };
            expression.evaluate(&Fields(&given)).map(|value| value.to_json()).ok()
        };
        prop_assert_eq!(value(Kind::All(vec![one.clone(), other.clone()])), value(Kind::All(vec![other.clone(), one.clone()])));
        prop_assert_eq!(value(Kind::Any(vec![one.clone(), other.clone()])), value(Kind::Any(vec![other, one])));
    }
}
