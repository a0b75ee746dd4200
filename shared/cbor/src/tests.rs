//! What is written is what `serde` writes through `minicbor-serde`, and what is read is what it reads; and whatever the
//! bytes are, reading them ends.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Debug;
use core::num::NonZeroU32;

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Decode, Encode, Error, NESTING_MAX, from_slice, to_vec};

/// Both write the same, and each reads what the other wrote.
fn alike<T: Encode + Decode + Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let (ours, theirs) = (to_vec(value), minicbor_serde::to_vec(value).unwrap());
    assert_eq!(ours, theirs, "{value:?}");
    assert_eq!(&from_slice::<T>(&theirs).unwrap(), value);
    assert_eq!(&minicbor_serde::from_slice::<T>(&ours).unwrap(), value);
    for cut in (0..ours.len()).take(4).chain(ours.len().saturating_sub(4)..ours.len()) {
        assert!(
            from_slice::<T>(ours.get(..cut).unwrap()).is_err(),
            "{value:?} cut to {cut}"
        );
    }
    assert!(
        from_slice::<T>(&[&ours[..], &[0xf6]].concat()).is_err(),
        "something behind {value:?}"
    );
}

fn fault<T: Decode + Debug>(bytes: &[u8]) -> Error {
    from_slice::<T>(bytes).unwrap_err()
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Encode, Decode)]
struct Fields {
    plain: u64,
    #[serde(rename = "type")]
    renamed: String,
    maybe: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left_out: Option<Box<Fields>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    list: Vec<i32>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    flag: bool,
    #[serde(default, skip_serializing_if = "Level::is_usual")]
    level: Level,
    #[serde(default = "seven")]
    seven: u32,
    r#final: f64,
}

fn seven() -> u32 {
    7
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
enum Level {
    #[serde(alias = "smallest")]
    VeryLow,
    #[default]
    Usual,
    #[serde(rename = "a name of more than twenty-three bytes")]
    Long,
}

impl Level {
    fn is_usual(&self) -> bool {
        *self == Self::Usual
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "lowercase")]
enum Choice<T> {
    NotHing,
    One(T),
    Two(u8, String),
    Named {
        a: T,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        b: Option<u8>,
        #[serde(default)]
        level: Level,
    },
    Empty {},
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
struct Unit;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[serde(transparent)]
struct Inner(u16);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
struct Pair(Inner, Unit);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[serde(into = "(u8, String)", from = "(u8, String)")]
struct Turned {
    number: u8,
    text: String,
}

impl From<Turned> for (u8, String) {
    fn from(turned: Turned) -> Self {
        (turned.number, turned.text)
    }
}

impl From<(u8, String)> for Turned {
    fn from((number, text): (u8, String)) -> Self {
        Self { number, text }
    }
}

fn level() -> impl Strategy<Value = Level> {
    prop_oneof![Just(Level::VeryLow), Just(Level::Usual), Just(Level::Long)]
}

fn fields() -> impl Strategy<Value = Fields> {
    let leaf = (
        any::<u64>(),
        "\\PC{0,30}",
        proptest::option::of("\\PC{0,300}"),
        proptest::collection::vec(any::<i32>(), 0..30),
        "[a-z]{0,3}",
        any::<bool>(),
        level(),
        any::<u32>(),
        proptest::num::f64::NORMAL,
    );
    let leaf = leaf.prop_map(
        |(plain, renamed, maybe, list, text, flag, level, seven, r#final)| Fields {
            plain,
            renamed,
            maybe,
            left_out: None,
            list,
            text,
            flag,
            level,
            seven,
            r#final,
        },
    );
    leaf.prop_recursive(4, 8, 1, |inner| {
        inner.clone().prop_map(|held| Fields {
            left_out: Some(Box::new(held.clone())),
            ..held
        })
    })
}

fn choice() -> impl Strategy<Value = Choice<Fields>> {
    prop_oneof![
        Just(Choice::NotHing),
        fields().prop_map(Choice::One),
        (any::<u8>(), "\\PC{0,9}").prop_map(|(number, text)| Choice::Two(number, text)),
        (fields(), any::<Option<u8>>(), level()).prop_map(|(a, b, level)| Choice::Named { a, b, level }),
        Just(Choice::Empty {}),
    ]
}

proptest! {
    #[test]
    fn a_struct_is_written_as_before(value in fields()) {
        alike(&value);
    }

    #[test]
    fn an_enum_is_written_as_before(value in choice()) {
        alike(&value);
        alike(&Some(vec![value]));
    }

    #[test]
    fn numbers_are_written_as_before(number: u64, signed: i64, bits in 0..64_u32, float in proptest::num::f64::NORMAL) {
        for number in [number, number >> bits, (1 << bits) - 1, 1 << bits] {
            alike(&number);
            alike(&usize::try_from(number).unwrap());
            for signed in [signed, signed >> bits, i64::from_ne_bytes(number.to_ne_bytes())] {
                alike(&signed);
                if let Ok(small) = i32::try_from(signed) {
                    alike(&small);
                }
            }
            if let Ok(small) = u32::try_from(number) {
                alike(&small);
            }
            if let Ok(small) = u16::try_from(number) {
                alike(&small);
            }
            if let Ok(small) = u8::try_from(number) {
                alike(&small);
            }
        }
        alike(&float);
    }

    #[test]
    fn lists_and_maps_are_written_as_before(members in proptest::collection::btree_map("\\PC{0,40}", any::<u16>(), 0..60)) {
        alike(&members.keys().cloned().collect::<BTreeSet<_>>());
        alike(&members.values().copied().collect::<VecDeque<_>>());
        alike(&members.iter().map(|(key, value)| (key.clone(), *value)).collect::<Vec<_>>());
        alike(&members);
    }

    #[test]
    fn reading_anything_ends(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = from_slice::<Choice<Fields>>(&bytes);
        let _ = from_slice::<BTreeMap<String, Vec<Fields>>>(&bytes);
        let _ = from_slice::<Vec<Choice<u8>>>(&bytes);
    }

    /// A good value with a byte changed is refused by one, or both read the same.
    #[test]
    fn a_changed_byte_is_no_other_value(value in choice(), at: prop::sample::Index, byte: u8) {
        let mut bytes = to_vec(&value);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let (ours, theirs) = (from_slice::<Choice<Fields>>(&bytes), minicbor_serde::from_slice::<Choice<Fields>>(&bytes));
        if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
            prop_assert_eq!(to_vec(&ours), to_vec(&theirs));
        }
    }
}

#[test]
fn small_things_are_written_as_before() {
    alike(&());
    alike(&true);
    alike(&false);
    alike(&Unit);
    alike(&Pair(Inner(300), Unit));
    alike(&(1_u8, String::from("é"), [1_u64, 2, 3]));
    alike(&Some(NonZeroU32::MAX));
    alike(&None::<Inner>);
    alike(&Ok::<u8, String>(1));
    alike(&Err::<u8, String>(String::from("no")));
    alike(&alloc::borrow::Cow::Borrowed("text"));
    alike(&Turned {
        number: 9,
        text: String::from("nine"),
    });
    for level in [Level::VeryLow, Level::Usual, Level::Long] {
        alike(&level);
    }
}

/// RFC 8949, appendix A, as far as its types are ours.
#[test]
fn the_examples_of_the_standard_hold() {
    for (number, bytes) in [
        (0_u64, &[0x00][..]),
        (10, &[0x0a]),
        (23, &[0x17]),
        (24, &[0x18, 0x18]),
        (100, &[0x18, 0x64]),
        (1000, &[0x19, 0x03, 0xe8]),
        (1_000_000, &[0x1a, 0x00, 0x0f, 0x42, 0x40]),
        (1_000_000_000_000, &[0x1b, 0, 0, 0, 0xe8, 0xd4, 0xa5, 0x10, 0]),
        (u64::MAX, &[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    ] {
        assert_eq!(to_vec(&number), bytes);
        assert_eq!(from_slice::<u64>(bytes), Ok(number));
    }
    for (number, bytes) in [
        (-1_i64, &[0x20][..]),
        (-10, &[0x29]),
        (-100, &[0x38, 0x63]),
        (-1000, &[0x39, 0x03, 0xe7]),
    ] {
        assert_eq!(to_vec(&number), bytes);
        assert_eq!(from_slice::<i64>(bytes), Ok(number));
    }
    assert_eq!(to_vec(&1.1), [0xfb, 0x3f, 0xf1, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9a]);
    assert_eq!(from_slice(&[0xfa, 0x47, 0xc3, 0x50, 0x00]), Ok(100_000.0));
    assert_eq!(to_vec(&"IETF"), b"\x64IETF");
    assert_eq!(to_vec(&vec![1_u8, 2, 3]), [0x83, 1, 2, 3]);
}

#[test]
fn a_longer_form_of_a_number_is_read_and_an_open_end_is_not() {
    assert_eq!(from_slice(&[0x18, 5]), Ok(5_u64));
    assert_eq!(from_slice(&[0x1b, 0, 0, 0, 0, 0, 0, 0, 5]), Ok(5_u8));
    assert_eq!(from_slice(&[0x39, 0, 0]), Ok(-1_i64));
    assert_eq!(from_slice(b"\x78\x02hi"), Ok(String::from("hi")));
    assert_eq!(from_slice(&[0x98, 1, 7]), Ok(vec![7_u8]));
    assert_eq!(
        from_slice(b"\xb9\0\x01\x78\x01a\x01"),
        Ok(BTreeMap::from([(String::from("a"), 1_u8)]))
    );
    // A name of a field or a variant too.
    assert_eq!(from_slice(b"\x78\x05usual"), Ok(Level::Usual));
    for open in [
        &[0x9f, 1, 0xff][..],
        &[0xbf, 0xff],
        &[0x7f, 0x61, b'a', 0xff],
        &[0x1f],
        &[0x1c],
        &[0xff],
    ] {
        assert!(from_slice::<Vec<u8>>(open).is_err(), "{open:x?}");
        assert!(from_slice::<String>(open).is_err(), "{open:x?}");
        assert!(from_slice::<u64>(open).is_err(), "{open:x?}");
        assert!(from_slice::<Fields>(open).is_err(), "{open:x?}");
    }
}

#[derive(Debug, PartialEq, Encode)]
struct Later {
    seven: u32,
    unknown: Vec<Vec<BTreeMap<String, Option<f64>>>>,
    r#type: String,
    plain: u64,
    also_unknown: (Level, bool),
    r#final: f64,
}

fn later() -> Later {
    Later {
        seven: 8,
        unknown: vec![
            vec![BTreeMap::from([
                (String::from("a"), None),
                (String::from("b"), Some(1.5)),
            ])],
            vec![],
        ],
        r#type: String::from("t"),
        plain: 1,
        also_unknown: (Level::Long, true),
        r#final: 0.5,
    }
}

#[test]
fn fields_are_read_in_any_order_and_unknown_ones_are_passed_over() {
    let read: Fields = from_slice(&to_vec(&later())).unwrap();
    let expected = Fields {
        seven: 8,
        renamed: String::from("t"),
        plain: 1,
        r#final: 0.5,
        ..Fields::default()
    };
    assert_eq!(read, expected);
}

#[test]
fn what_is_missing_takes_its_default_or_is_named() {
    let bare = b"\xa3\x65plain\x01\x64type\x60\x65final\xfa\0\0\0\0";
    let read: Fields = from_slice(bare).unwrap();
    assert_eq!(
        (read.seven, read.level, read.left_out, read.maybe),
        (7, Level::Usual, None, None)
    );
    let fault = fault::<Fields>(b"\xa2\x65plain\x01\x65final\xfa\0\0\0\0");
    assert_eq!(
        (fault.field, fault.expected),
        ("type", "a field that is missing before this")
    );
    // Of a variant's fields as well.
    let named: Choice<u8> = from_slice(b"\xa1\x65named\xa1\x61a\x05").unwrap();
    assert_eq!(
        named,
        Choice::Named {
            a: 5,
            b: None,
            level: Level::Usual
        }
    );
    assert!(from_slice::<Choice<u8>>(b"\xa1\x65named\xa0").is_err());
}

#[test]
fn what_is_wrong_is_refused_and_says_where() {
    let twice = b"\xa4\x65plain\x01\x64type\x60\x65plain\x02\x65final\xfa\0\0\0\0";
    assert_eq!(fault::<Fields>(twice).expected, "each field once");
    let other = b"\xa3\x65plain\x61a\x64type\x60\x65final\xfa\0\0\0\0";
    let fault_of_type = fault::<Fields>(other);
    assert_eq!((fault_of_type.at, fault_of_type.field), (7, "plain"));
    assert_eq!(
        format!("{fault_of_type}"),
        "byte 7: expected an unsigned number in the field `plain`"
    );
    for bytes in [
        // Names that are numbers, a list for a map, a variant that is unknown, one that holds something and none, two at once.
        &b"\xa1\x01\x01"[..],
        b"\x81\x01",
        b"\x61x",
        b"\x63one",
        b"\xa1\x67nothing\xf6",
        b"\xa2\x63one\xf6\x63two\xf6",
        b"\xa1\x63two\x81\x01",
        b"\xa0",
    ] {
        assert!(from_slice::<Choice<Fields>>(bytes).is_err(), "{bytes:x?}");
    }
    assert!(from_slice::<u8>(&[0x19, 1, 0]).is_err(), "256");
    assert!(from_slice::<i32>(&[0x1a, 0x80, 0, 0, 0]).is_err(), "2^31");
    assert!(
        from_slice::<i64>(&[0x3b, 0x80, 0, 0, 0, 0, 0, 0, 0]).is_err(),
        "-2^63 - 1"
    );
    assert!(from_slice::<u64>(&[0x20]).is_err(), "-1");
    assert!(from_slice::<NonZeroU32>(&[0]).is_err(), "0");
    assert!(from_slice::<bool>(&[0xf6]).is_err(), "null");
    assert!(from_slice::<String>(&[0x61, 0xff]).is_err(), "no UTF-8");
    assert!(from_slice::<[u8; 2]>(&[0x83, 1, 2, 3]).is_err(), "three");
    assert!(from_slice::<(u8, u8)>(&[0x81, 1]).is_err(), "one");
}

#[test]
fn another_name_of_a_variant_is_read_too() {
    assert_eq!(from_slice(b"\x68smallest"), Ok(Level::VeryLow));
    assert_eq!(to_vec(&Level::VeryLow), b"\x68very_low");
}

/// Four gigabytes and 2^64 items are claimed: the process would not live through making room for them.
#[test]
fn nothing_is_reserved_for_what_is_only_claimed() {
    for claim in [
        &[0x9a, 0xff, 0xff, 0xff, 0xff][..],
        &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ] {
        let bytes = [claim, &[1, 2, 3]].concat();
        assert!(from_slice::<Vec<u64>>(&bytes).is_err());
        assert!(from_slice::<Vec<()>>(&bytes).is_err());
        assert!(from_slice::<VecDeque<String>>(&bytes).is_err());
        let unknown = [b"\xa1\x61x", &bytes[..]].concat();
        assert!(from_slice::<Fields>(&unknown).is_err());
        let mut map = bytes.clone();
        map[0] |= 0xa0;
        assert!(from_slice::<BTreeMap<u8, u8>>(&map).is_err());
        assert!(from_slice::<Fields>(&map).is_err());
        let mut text = bytes;
        text[0] = text[0] & 0x1f | 0x60;
        assert!(from_slice::<String>(&text).is_err());
    }
}

#[test]
fn nesting_has_an_end() {
    let depth = |depth: usize| {
        let mut bytes = b"\xa1\x61x".to_vec();
        bytes.extend(core::iter::repeat_n(0x81, depth));
        bytes.push(0x01);
        bytes
    };
    // Of an unknown field: the missing one is said only where the rest was read.
    let expected = |bytes: &[u8]| fault::<Fields>(bytes).expected;
    assert_eq!(
        expected(&depth(usize::from(NESTING_MAX) - 1)),
        "a field that is missing before this"
    );
    assert_eq!(expected(&depth(usize::from(NESTING_MAX))), "less nesting");
    assert_eq!(expected(&depth(1_000_000)), "less nesting");
    // Of a type that holds itself.
    let mut held = Fields::default();
    for _ in 0..NESTING_MAX {
        held = Fields {
            left_out: Some(Box::new(held)),
            ..Fields::default()
        };
    }
    alike(&held);
    let deeper = Fields {
        left_out: Some(Box::new(held)),
        ..Fields::default()
    };
    assert_eq!(fault::<Fields>(&to_vec(&deeper)).expected, "less nesting");
}
