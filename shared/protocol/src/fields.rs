//! Reads the fields of one JSON object and reports every fault of it at once.
//!
//! The object is split into its fields without being understood; then each field is read by what the caller expects of
//! it. So a wrong type in one field hides no fault of another, and a payload is never rebuilt.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorCode};
use crate::fault::{Fault, escape_pointer};
use crate::limits::JSON_DEPTH_MAX;

/// How deep `json` nests, by its brackets outside of strings. Reads every byte once and recurses nowhere.
pub fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0_usize, false, false);
    for byte in json {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (true, b'"') => in_string = false,
            (true, _) => {}
            (false, b'"') => in_string = true,
            (false, b'{' | b'[') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            (false, _) => {}
        }
    }
    deepest
}

/// The fields of an object, in the order they came.
struct Split<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Split<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Split<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(8);
                while let Some(name) = map.next_key::<Name<'de>>()? {
                    fields.push((name.0, map.next_value()?));
                }
                Ok(Split(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// A field's name, borrowed where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_string())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// The fields of one object, and the faults found in them so far.
pub struct Fields<'a> {
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
    prefix: String,
    /// Every fault found so far.
    pub faults: Vec<Fault>,
}

impl<'a> Fields<'a> {
    /// Splits the object `json`.
    ///
    /// Errors: `VALIDATION_ERROR` where `json` is no JSON object or nests too deep.
    pub fn split(json: &'a str) -> Result<Self, Error> {
        let deep = depth(json.as_bytes());
        if deep > JSON_DEPTH_MAX {
            let fault = Fault::new(
                "",
                format!("JSON nested at most {JSON_DEPTH_MAX} deep"),
                &format!("{deep} levels"),
            );
            return Err(Error::invalid("The JSON nests too deep.", alloc::vec![fault]));
        }
        match serde_json::from_str::<Split<'a>>(json) {
            Ok(Split(fields)) => Ok(Self {
                fields,
                prefix: String::new(),
                faults: Vec::new(),
            }),
            Err(fault) if fault.is_data() => {
                let fault = Fault::new("", "a JSON object", json);
                Err(Error::invalid("The message is no JSON object.", alloc::vec![fault]))
            }
            Err(fault) => Err(Error::new(
                ErrorCode::ValidationError,
                format!("The text is not JSON: {fault}."),
            )),
        }
    }

    /// Splits an object that we wrote ourselves, however deep it nests: what it holds is only passed on. `None` where it is none.
    pub fn split_trusted(json: &'a str) -> Option<Self> {
        let Split(fields) = serde_json::from_str(json).ok()?;
        Some(Self {
            fields,
            prefix: String::new(),
            faults: Vec::new(),
        })
    }

    /// The text of the field `name` where it is there and not null.
    pub fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.fields
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, raw)| *raw)
            .filter(|raw| raw.get() != "null")
    }

    /// The text of the field `name` where it is there, null or not.
    pub fn any(&self, name: &str) -> Option<&'a RawValue> {
        let found = self.fields.iter().find(|(field, _)| field == name);
        found.map(|(_, raw)| *raw)
    }

    /// The pointer of the field `name`.
    pub fn pointer(&self, name: &str) -> String {
        format!("{}/{}", self.prefix, escape_pointer(name))
    }

    /// Notes a fault of the field `name`.
    pub fn fault(&mut self, name: &str, expected: impl Into<Cow<'static, str>>, got: &str) {
        let fault = Fault::new(self.pointer(name), expected, got);
        self.faults.push(fault);
    }

    /// Reads the optional field `name`; a value of another type is a fault.
    pub fn optional<T: Deserialize<'a>>(&mut self, name: &str, expected: &'static str) -> Option<T> {
        let raw = self.raw(name)?;
        match serde_json::from_str(raw.get()) {
            Ok(value) => Some(value),
            Err(_) => {
                self.fault(name, expected, raw.get());
                None
            }
        }
    }

    /// Reads the optional text field `name` and takes it where `parse` does.
    pub fn optional_text<T>(
        &mut self,
        name: &str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let raw = self.raw(name)?;
        let parsed = match serde_json::from_str::<Name<'a>>(raw.get()) {
            Ok(Name(text)) => parse(&text),
            Err(_) => None,
        };
        if parsed.is_none() {
            self.fault(name, expected, raw.get());
        }
        parsed
    }

    /// Reads the text field `name`, which must be there.
    pub fn required_text<T>(
        &mut self,
        name: &str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        if self.raw(name).is_none() {
            self.fault(name, expected, "nothing");
            return None;
        }
        self.optional_text(name, expected, parse)
    }

    /// The fields of the object that the field `name` holds; another kind of value is a fault. Their faults point into
    /// the whole: hand them back by [`Self::take_faults`].
    pub fn object(&mut self, name: &str, expected: &'static str) -> Option<Self> {
        let raw = self.raw(name)?;
        match serde_json::from_str::<Split<'a>>(raw.get()) {
            Ok(Split(fields)) => Some(Self {
                fields,
                prefix: self.pointer(name),
                faults: Vec::new(),
            }),
            Err(_) => {
                self.fault(name, expected, raw.get());
                None
            }
        }
    }

    /// Takes over the faults of an object within.
    pub fn take_faults(&mut self, mut inner: Self) {
        self.faults.append(&mut inner.faults);
    }

    /// Reads the optional whole number `name`, from `min` to `max`.
    pub fn optional_number(&mut self, name: &str, expected: &'static str, min: u64, max: u64) -> Option<u64> {
        let raw = self.raw(name)?;
        let number = serde_json::from_str::<u64>(raw.get())
            .ok()
            .filter(|n| (min..=max).contains(n));
        if number.is_none() {
            self.fault(name, expected, raw.get());
        }
        number
    }

    /// Notes every field that is not in `known`, with the nearest known one, and every field that came twice.
    pub fn refuse_others(&mut self, known: &[&str]) {
        let mut faults = Vec::new();
        for (index, (name, raw)) in self.fields.iter().enumerate() {
            if !known.contains(&name.as_ref()) {
                let fault = Fault::new(self.pointer(name), "no such field", raw.get());
                faults.push(fault.suggest(name, known.iter().copied()));
            }
            if self.fields.iter().take(index).any(|(earlier, _)| earlier == name) {
                faults.push(Fault::new(self.pointer(name), "each field once", "it again"));
            }
        }
        self.faults.append(&mut faults);
    }

    /// All faults as one error, or nothing.
    pub fn finish(self, message: &'static str) -> Result<(), Error> {
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(Error::invalid(message, self.faults))
        }
    }
}
