//! JSON as a security decision needs it: a member named twice is an error and nesting is bounded, so that no two
//! readers can see different documents in the same bytes (RFC 7515, section 4; RFC 8725, section 2.4).

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Nesting of a token's header and claims. Real claims nest two or three deep; this leaves room for structured ones.
pub const TOKEN_DEPTH_MAX: usize = 16;

/// Nesting of a configuration or a key set: issuers, keys, members, lists of names.
pub const CONFIG_DEPTH_MAX: usize = 16;

/// Reads a JSON document of at most `depth_max` nested arrays and objects.
///
/// Errors: a sentence with the line and column, for syntax, excess depth, and a member named twice. It may repeat a
/// member's name, never a value.
pub fn parse(text: &[u8], depth_max: usize) -> Result<Value, String> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Strict { depth_left: depth_max }
        .deserialize(&mut reader)
        .map_err(|error| error.to_string())?;
    reader.end().map_err(|error| error.to_string())?;
    Ok(value)
}

/// Reads one value with `depth_left` levels of nesting below it.
#[derive(Clone, Copy)]
struct Strict {
    depth_left: usize,
}

impl Strict {
    /// One level further down.
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth_left = self
            .depth_left
            .checked_sub(1)
            .ok_or_else(|| E::custom("nested too deeply"))?;
        Ok(Self { depth_left })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_string()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let item = self.deeper()?;
        let mut list = alloc::vec::Vec::new();
        while let Some(value) = items.next_element_seed(item)? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let member = self.deeper()?;
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if map.contains_key(&name) {
                let short: String = name.chars().take(64).collect();
                return Err(A::Error::custom(format!("`{short}` is there twice")));
            }
            let value = members.next_value_seed(member)?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_named_twice_is_refused_at_any_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"[{"b":{"a":1,"\u0061":2}}]"#] {
            assert!(parse(text.as_bytes(), 16).unwrap_err().contains("twice"), "{text}");
        }
    }

    #[test]
    fn nesting_is_bounded_exactly() {
        assert!(parse(b"[[[]]]", 3).is_ok());
        assert!(parse(b"[[[[]]]]", 3).unwrap_err().contains("deeply"));
        assert!(parse(br#"{"a":{"a":{"a":{}}}}"#, 3).is_err());
        assert!(parse(&[b'['; 100_000], 16).is_err());
    }

    #[test]
    fn what_is_not_exactly_one_document_is_refused() {
        for text in [
            "",
            "{} {}",
            "{}x",
            "{'a':1}",
            "{\"a\":1,}",
            "\u{feff}{}",
            "NaN",
            "[1e999]",
        ] {
            assert!(parse(text.as_bytes(), 16).is_err(), "{text}");
        }
        assert!(parse(b"\"\xff\"", 16).is_err());
    }
}
