//! The language against facts of its specification.
//!
//! The tables follow the conformance tests of `google/cel-spec` (`tests/simple/testdata`, Apache-2.0): expressions, and
//! the values that they are said to have.

extern crate std;

mod bounds;
mod flaws;
mod properties;

use std::format;

use serde_json::{Value as Json, json};

use super::{Expression, Failure, Value, Variables};

/// Variables that are the fields of a JSON object.
struct Fields<'v>(&'v Json);

impl<'v> Variables<'v> for Fields<'v> {
    fn value(&self, name: &str) -> Result<Value<'v>, Failure> {
        let value = self.0.get(name).map(Value::of_json);
        value.ok_or_else(|| Failure::new(format!("nobody gives `{name}`")))
    }
}

fn parse(text: &str) -> Expression {
    Expression::parse(text).unwrap_or_else(|flaw| panic!("{text}: {flaw:?}"))
}

fn given() -> Json {
    json!({
        "claims": {"role": "admin", "level": 3, "ratio": 0.5, "groups": ["a", "b"], "none": null,
            "team": {"name": "blue", "size": 4}},
        "x": 7, "big": i64::MAX, "text": "tacocat", "items": [1, 2, 3], "yes": true, "no": false,
    })
}

/// Each expression with its value, as JSON writes it. Where the value is `"!"`, the evaluation fails.
fn check(table: &[(&str, Json)]) {
    let given = given();
    for (text, expected) in table {
        let expression = parse(text);
        let value = expression.evaluate(&Fields(&given));
        match value {
            Ok(value) => assert_eq!(value.to_json(), *expected, "{text}"),
            Err(failure) => assert_eq!(json!("!"), *expected, "{text}: {failure:?}"),
        }
    }
}

#[test]
fn literals_are_what_they_say() {
    check(&[
        ("0", json!(0)),
        ("-1", json!(-1)),
        ("-9223372036854775808", json!(i64::MIN)),
        ("9223372036854775807", json!(i64::MAX)),
        ("0x55555555", json!(0x5555_5555)),
        ("-0x55555555", json!(-0x5555_5555)),
        ("0.0", json!(0.0)),
        ("-2.3e+1", json!(-23.0)),
        ("1.5e-3", json!(0.0015)),
        (".5", json!(0.5)),
        ("00.25", json!(0.25)),
        ("''", json!("")),
        (r#""\"""#, json!("\"")),
        (r"'\''", json!("'")),
        (r#"'''x''x'''"#, json!("x''x")),
        (r#""""x""x""""#, json!("x\"\"x")),
        ("'''a\nb'''", json!("a\nb")),
        (r#"r'\n'"#, json!("\\n")),
        (r#""\a\b\f\n\r\t\v\\\?\`""#, json!("\u{7}\u{8}\u{c}\n\r\t\u{b}\\?`")),
        (r#""\x41\u00e9\U0001f431\101""#, json!("Aé🐱A")),
        ("'ÿ'", json!("ÿ")),
        ("true", json!(true)),
        ("null", json!(null)),
        ("[]", json!([])),
        ("[1, 'a', [2],]", json!([1, "a", [2]])),
        ("{}", json!({})),
        ("{'k': 'v', true: 1, 3: null}", json!({"k": "v", "true": 1, "3": null})),
        ("{'k': 1, 'k': 2}", json!("!")),
        ("{1.5: 1}", json!("!")),
        ("1 // a comment\n + 2", json!(3)),
    ]);
}

#[test]
fn arithmetic_is_checked() {
    check(&[
        ("40 + 2", json!(42)),
        ("42 - 12", json!(30)),
        ("3 * -4", json!(-12)),
        ("35 / 2", json!(17)),
        ("-35 / 2", json!(-17)),
        ("47 % 5", json!(2)),
        ("-47 % 5", json!(-2)),
        ("9223372036854775807 + 1", json!("!")),
        ("-9223372036854775808 - 1", json!("!")),
        ("5000000000 * 5000000000", json!("!")),
        ("-9223372036854775808 / -1", json!("!")),
        ("-9223372036854775808 % -1", json!("!")),
        ("-(-9223372036854775808)", json!("!")),
        ("1 / 0", json!("!")),
        ("1 % 0", json!("!")),
        ("4.25 + 15.25", json!(19.5)),
        ("42.0 - 12.0", json!(30.0)),
        ("-1.5 * 1.5", json!(-2.25)),
        ("4.5 / 2.0", json!(2.25)),
        ("1.0 / 0.0 > 1e300", json!(true)),
        ("1.0 + 1", json!("!")),
        ("5.0 % 2.0", json!("!")),
        ("'he' + 'llo'", json!("hello")),
        ("[0, 1] + [2]", json!([0, 1, 2])),
        ("items + [4]", json!([1, 2, 3, 4])),
        ("'a' + 1", json!("!")),
        ("1 + 2 * 3 - 4 / 2 % 3", json!(5)),
        ("10 - 3 - 2", json!(5)),
        ("-x", json!(-7)),
        ("--x", json!(7)),
        ("1 in [1] == true", json!(true)),
    ]);
}

#[test]
fn values_compare_as_numbers_texts_and_structures() {
    check(&[
        ("1 == 1.0", json!(true)),
        ("dyn(1) == 1.5", json!(false)),
        ("9223372036854775807 == 9223372036854775808.0", json!(false)),
        ("9223372036854775807 < 9223372036854775808.0", json!(true)),
        ("9007199254740993 > 9007199254740992.0", json!(true)),
        ("-9223372036854775808 >= -9223372036854775808.0", json!(true)),
        ("1 < 1.5 && 2 > 1.5 && -1 > -1.5", json!(true)),
        ("0.0 / 0.0 == 0.0 / 0.0", json!(false)),
        ("0.0 / 0.0 < 1 || 0.0 / 0.0 >= 1", json!(false)),
        ("'a' == 'b'", json!(false)),
        ("'abc' < 'abd' && 'Z' < 'a' && 'a' < 'ä'", json!(true)),
        ("dyn('1') == 1", json!(false)),
        ("dyn(null) == false", json!(false)),
        ("null == null", json!(true)),
        ("[1, 2.0] == [1.0, 2]", json!(true)),
        ("[1] == [1, 2]", json!(false)),
        ("{'a': 1, 'b': [2]} == {'b': [2.0], 'a': 1}", json!(true)),
        ("{'a': 1} == {'b': 1}", json!(false)),
        ("claims.groups == ['a', 'b']", json!(true)),
        ("claims.team == {'size': 4, 'name': 'blue'}", json!(true)),
        ("claims.team != {'size': 5, 'name': 'blue'}", json!(true)),
        ("false < true", json!(true)),
        ("dyn(1) < 'a'", json!("!")),
        ("[1] < [2]", json!("!")),
        ("null < null", json!("!")),
    ]);
}

/// What decides does so wherever it stands.
#[test]
fn logic_absorbs_what_fails() {
    check(&[
        ("true && true", json!(true)),
        ("false && 1 / 0 > 0", json!(false)),
        ("1 / 0 > 0 && false", json!(false)),
        ("1 / 0 > 0 && true", json!("!")),
        ("true && 1 / 0 > 0", json!("!")),
        ("true || 1 / 0 > 0", json!(true)),
        ("1 / 0 > 0 || true", json!(true)),
        ("1 / 0 > 0 || false", json!("!")),
        ("dyn(1) || true", json!(true)),
        ("dyn('horses') && false", json!(false)),
        ("dyn('horses') && true", json!("!")),
        ("dyn(32) || false", json!("!")),
        ("!true", json!(false)),
        ("!!true", json!(true)),
        ("!dyn(0)", json!("!")),
        ("true ? 1 : 1 / 0", json!(1)),
        ("false ? 1 / 0 : 2", json!(2)),
        ("dyn(0) ? 1 : 2", json!("!")),
        ("1 / 0 > 0 ? 1 : 2", json!("!")),
        ("true ? (false ? 1 : 2) : 3", json!(2)),
        ("false ? 1 : true ? 2 : 3", json!(2)),
        ("false || false && true || true", json!(true)),
        ("1 > 2 == false", json!(true)),
    ]);
}

#[test]
fn fields_and_elements_are_found_or_fail() {
    check(&[
        ("claims.role", json!("admin")),
        ("claims['role']", json!("admin")),
        ("claims.team.size + 1", json!(5)),
        ("claims.gone", json!("!")),
        ("claims['gone']", json!("!")),
        ("claims.role.gone", json!("!")),
        ("has(claims.role)", json!(true)),
        ("has(claims.gone)", json!(false)),
        ("has(claims.none)", json!(true)),
        ("has(claims.gone.deeper)", json!("!")),
        ("has(claims.team.size) && !has({'a': 1}.b)", json!(true)),
        ("claims.groups[1]", json!("b")),
        ("[7, 8, 9][0]", json!(7)),
        ("[7, 8, 9][dyn(0.0)]", json!(7)),
        ("[7, 8, 9][dyn(0.1)]", json!("!")),
        ("[7, 8, 9][3]", json!("!")),
        ("[7, 8, 9][-1]", json!("!")),
        ("[7][dyn('')]", json!("!")),
        ("{'a': 1}.a", json!(1)),
        ("{1: 'x', true: 'y'}[1.0]", json!("x")),
        ("{true: 5}[true]", json!(5)),
        ("{1: 2}[3]", json!("!")),
        ("'b' in claims.groups", json!(true)),
        ("'c' in claims.groups", json!(false)),
        ("'role' in claims", json!(true)),
        ("1 in claims", json!(false)),
        ("1.0 in [3, 2, 1]", json!(true)),
        ("2 in {1: 0, 2: 0}", json!(true)),
        ("1 in dyn(1)", json!("!")),
        ("undeclared", json!("!")),
    ]);
}

#[test]
fn macros_look_at_elements_and_keys() {
    check(&[
        ("[1, 2, 3].all(e, e > 0)", json!(true)),
        ("[1, 2, 3].all(e, e / 0 > 0)", json!("!")),
        ("[1, 'foo', 3].all(e, e % 2 == 1)", json!("!")),
        ("[1, 'foo', 2].all(e, e % 2 == 1)", json!(false)),
        ("[].all(e, e > 0)", json!(true)),
        ("[1, 'foo', 3].exists(e, e > 0)", json!(true)),
        ("[1, 'foo', 3].exists(e, e != '1')", json!(true)),
        ("[1, 'foo', 3].exists(e, e == '10')", json!(false)),
        ("['foal', 'foo'].exists(e, e + 1 == 2)", json!("!")),
        ("[].exists(e, true)", json!(false)),
        ("[7, 8].exists_one(a, a == 7)", json!(true)),
        ("[7, 7].exists_one(a, a == 7)", json!(false)),
        ("[3, 2, 1, 0].exists_one(n, 12 / n > 1)", json!("!")),
        ("[0, 1, 2].filter(x, x > 0)", json!([1, 2])),
        ("[0, 1, 2].filter(x, 4 / x > 0)", json!("!")),
        ("[1, 2, 3].map(n, n * n)", json!([1, 4, 9])),
        ("[1, 2, 3].map(n, n > 1, n * 10)", json!([20, 30])),
        ("{'key1': 1, 'key2': 2}.exists(k, k == 'key2')", json!(true)),
        ("claims.team.map(k, k)", json!(["name", "size"])),
        ("claims.groups.exists(g, g.startsWith('b'))", json!(true)),
        (
            "[['a'], ['b', 'c']].map(x, x.exists(y, x.size() > 1 && y == 'c'))",
            json!([false, true]),
        ),
        ("[1].all(x, [2].all(x, x == 2) && x == 1)", json!(true)),
        ("x.all(e, true)", json!("!")),
        ("dyn(1).exists(e, true)", json!("!")),
        ("[1].filter(e, dyn(2))", json!("!")),
    ]);
}

#[test]
fn texts_have_their_methods() {
    check(&[
        ("size('four')", json!(4)),
        ("'\u{1f431}cat'.size()", json!(4)),
        ("size([1, 2]) + size({'a': 1}) + size(items)", json!(6)),
        ("size(1)", json!("!")),
        (
            "'foobar'.startsWith('foo') && !'foobar'.startsWith('bar') && ''.startsWith('')",
            json!(true),
        ),
        ("'foobar'.endsWith('bar')", json!(true)),
        ("text.contains('aco') && !text.contains('dog')", json!(true)),
        ("dyn(1).contains('1')", json!("!")),
        ("text.contains(dyn(1))", json!("!")),
    ]);
}

#[test]
fn conversions_give_what_is_meant_or_fail() {
    check(&[
        ("int(42.9) + int(-123.9)", json!(-81)),
        ("int('-987')", json!(-987)),
        ("int(1e99)", json!("!")),
        ("int(-9223372036854775808.0)", json!("!")),
        ("int('7.5')", json!("!")),
        ("int(timestamp('2004-09-16T23:59:59Z'))", json!(1_095_379_199)),
        ("double(42) + double('1.5e1')", json!(57.0)),
        ("double('x')", json!("!")),
        ("double(' 1')", json!("!")),
        (
            "string(123) + string(true) + string('x') + string(1.5) + string(2.0)",
            json!("123truex1.52"),
        ),
        ("string(1.0 / 0.0)", json!("+Inf")),
        (
            "string(timestamp('2009-02-13T23:31:30Z'))",
            json!("2009-02-13T23:31:30Z"),
        ),
        (
            "string(duration('1000000s')) + string(duration('-1.5s')) + string(duration('1200ms'))",
            json!("1000000s-1.5s1.2s"),
        ),
        ("bool('true') && !bool('FALSE')", json!(true)),
        ("bool('TrUe')", json!("!")),
        (
            "timestamp('2009-02-13T23:31:30.25+01:00')",
            json!("2009-02-13T22:31:30.250Z"),
        ),
        ("timestamp(1234567890)", json!("2009-02-13T23:31:30Z")),
        ("timestamp('yesterday')", json!("!")),
        ("duration('1h30m') == duration('5400s')", json!(true)),
        (
            "duration('1.5h') == duration('90m') && duration('0') == duration('0s')",
            json!(true),
        ),
        ("duration('90')", json!("!")),
        ("duration('')", json!("!")),
        ("duration('99999999999999999999h')", json!("!")),
        ("duration('9999999999999999h')", json!("!")),
        ("dyn(1)", json!(1)),
        ("int(dyn(null))", json!("!")),
    ]);
}

#[test]
fn moments_have_parts_in_any_zone() {
    check(&[
        (
            "timestamp('2009-02-13T23:31:30Z') + duration('30s')",
            json!("2009-02-13T23:32:00Z"),
        ),
        (
            "duration('1h') + timestamp('2009-02-13T23:31:30Z')",
            json!("2009-02-14T00:31:30Z"),
        ),
        (
            "timestamp('2009-02-13T23:31:30Z') - timestamp('2009-02-13T23:31:00Z')",
            json!("30s"),
        ),
        (
            "timestamp('2009-02-13T23:31:30Z') - duration('24h') < timestamp('2009-02-13T00:00:00Z')",
            json!(true),
        ),
        ("timestamp('9999-12-31T23:59:59Z') + duration('1s')", json!("!")),
        ("timestamp('1970-01-01T00:00:00Z') - duration('1ms')", json!("!")),
        (
            "duration('60s') + duration('4ms') > duration('1m') - duration('1s')",
            json!(true),
        ),
        ("timestamp('2009-02-13T23:31:30.123Z').getFullYear()", json!(2009)),
        ("timestamp('2009-02-13T23:31:30Z').getMonth()", json!(1)),
        ("timestamp('2009-02-13T23:31:30Z').getDate()", json!(13)),
        ("timestamp('2009-02-13T23:31:30Z').getDayOfMonth()", json!(12)),
        ("timestamp('2009-02-13T23:31:30Z').getDayOfWeek()", json!(5)),
        ("timestamp('2009-02-13T23:31:30Z').getHours()", json!(23)),
        ("timestamp('2009-02-13T23:31:30Z').getMinutes()", json!(31)),
        ("timestamp('2009-02-13T23:31:30Z').getSeconds()", json!(30)),
        ("timestamp('2009-02-13T23:31:30.123Z').getMilliseconds()", json!(123)),
        ("timestamp('2009-02-13T23:31:30Z').getHours('Europe/Berlin')", json!(0)),
        (
            "timestamp('2009-02-13T23:31:30Z').getDate('Australia/Sydney')",
            json!(14),
        ),
        (
            "timestamp('2009-02-13T02:00:00Z').getMinutes('Asia/Kathmandu')",
            json!(45),
        ),
        (
            "duration('3730s').getHours() + duration('3730s').getMinutes()",
            json!(63),
        ),
        (
            "duration('3.123s').getSeconds() + duration('3.123s').getMilliseconds()",
            json!(126),
        ),
        ("dyn(duration('1s')).getDate()", json!("!")),
        ("dyn(1).getHours()", json!("!")),
    ]);
}
