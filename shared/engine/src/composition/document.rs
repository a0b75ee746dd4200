//! The text of a composition: its limits, its one reading, its canonical form and its revision.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tidegate_protocol::fields::depth;
use tidegate_protocol::ids::Revision;
use tidegate_protocol::limits::{COMPOSITION_BYTES_MAX, JSON_DEPTH_MAX};
use tidegate_protocol::{Error, ErrorCode, Fault};

use super::object::{child, note};
use tidegate_protocol::SortedSet;

/// Stands before what is hashed, so that a revision is never the hash of anything else.
const REVISION_DOMAIN: &[u8] = b"tidegate composition 1\n";
/// Bytes of the hash that a revision keeps: 128 bits, far from any collision by chance or by work.
const REVISION_BYTES: usize = 16;

/// Reads the document and notes the fields that stand twice in an object. Size and depth are checked before anything is
/// built.
///
/// Errors: `PAYLOAD_TOO_LARGE` over the limit, `VALIDATION_ERROR` for what nests too deep or is no JSON.
pub(super) fn read(text: &str, faults: &mut Vec<Fault>) -> Result<Value, Error> {
    if text.len() > COMPOSITION_BYTES_MAX {
        let message = format!(
            "A composition has at most {COMPOSITION_BYTES_MAX} bytes; this one has {}.",
            text.len()
        );
        return Err(Error::new(ErrorCode::PayloadTooLarge, message));
    }
    let deep = depth(text.as_bytes());
    if deep > JSON_DEPTH_MAX {
        let expected = format!("JSON nested at most {JSON_DEPTH_MAX} deep");
        let fault = Fault::new("", expected, &format!("{deep} levels"));
        return Err(Error::invalid("The composition nests too deep.", alloc::vec![fault]));
    }
    let no_json = |fault: serde_json::Error| {
        let fault = Fault::new("", "JSON", &fault.to_string());
        Error::invalid("The composition is no JSON.", alloc::vec![fault])
    };
    let value = serde_json::from_str(text).map_err(no_json)?;
    // A second reading, because a built object has forgotten what it overwrote.
    let mut reader = serde_json::Deserializer::from_str(text);
    Unique { pointer: "", faults }
        .deserialize(&mut reader)
        .map_err(no_json)?;
    Ok(value)
}

/// The revision of a document, by content: order of fields and white space do not count.
///
/// Errors: as of reading it; a document with a field twice has no content that could be named, and so no revision.
pub fn revision(text: &str) -> Result<Revision, Error> {
    let mut faults = Vec::new();
    let value = read(text, &mut faults)?;
    if faults.is_empty() {
        revision_of(&value)
    } else {
        Err(Error::invalid("The composition has a field twice.", faults))
    }
}

/// The revision of a document that has been read.
pub(super) fn revision_of(document: &Value) -> Result<Revision, Error> {
    let hash = Sha256::new()
        .chain_update(REVISION_DOMAIN)
        .chain_update(canonical(document))
        .finalize();
    let hex: String = hash
        .iter()
        .take(REVISION_BYTES)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Revision::parse(&format!("rev_{hex}"))
        .ok_or_else(|| Error::new(ErrorCode::InternalError, "The revision could not be formed."))
}

/// `value` as JSON without white space, with the fields of each object in the order of their names' bytes.
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

/// Recurses as deep as the document nests, which is bounded.
fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            // The map may keep the order of the text: another crate's choice of features decides that.
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            out.push('{');
            for (index, (name, value)) in fields.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        scalar @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            out.push_str(&scalar.to_string());
        }
    }
}

/// Walks one value and notes each field that stands twice in its object.
struct Unique<'p, 'f> {
    pointer: &'p str,
    faults: &'f mut Vec<Fault>,
}

impl<'de> DeserializeSeed<'de> for Unique<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = SortedSet::new();
        while let Some(name) = map.next_key::<String>()? {
            let pointer = child(self.pointer, &name);
            if seen.contains(&name) {
                note(self.faults, || {
                    Fault::new(pointer.as_str(), "each field once", "it again")
                });
            }
            map.next_value_seed(Unique {
                pointer: &pointer,
                faults: self.faults,
            })?;
            seen.insert(name);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut index = 0_usize;
        loop {
            let pointer = child(self.pointer, &index.to_string());
            let item = Unique {
                pointer: &pointer,
                faults: self.faults,
            };
            if items.next_element_seed(item)?.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}
