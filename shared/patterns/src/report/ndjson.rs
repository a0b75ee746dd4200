//! Splits NDJSON into lines, from chunks cut anywhere, and a line into the fields of its object.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::ReportError;
use super::limits::{EXCERPT_BYTES_MAX, KEYS_MAX, RECORD_BYTES_MAX};

/// The lines, as far as they are cut in two.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Lines {
    /// Lines ended so far.
    ended: u64,
    /// The beginning of the line that goes on.
    partial: Vec<u8>,
    /// Whether the line is over its bound; only its beginning is kept then.
    is_over: bool,
}

/// One line.
pub(super) struct Line<'a> {
    /// Its number, from 1.
    pub(super) number: u64,
    /// Its bytes without the line end, or the beginning of them.
    pub(super) bytes: &'a [u8],
    /// Whether it is over its bound.
    pub(super) is_over: bool,
}

impl Lines {
    /// Goes on with some bytes.
    pub(super) fn feed(
        &mut self,
        mut rest: &[u8],
        sink: &mut impl FnMut(Line<'_>) -> Result<(), ReportError>,
    ) -> Result<(), ReportError> {
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, end) = rest.split_at(at);
            rest = end.get(1..).unwrap_or_default();
            if self.partial.is_empty() && line.len() <= RECORD_BYTES_MAX {
                self.ended += 1;
                sink(Line {
                    number: self.ended,
                    bytes: line,
                    is_over: false,
                })?;
            } else {
                self.keep(line);
                self.end(sink)?;
            }
        }
        self.keep(rest);
        Ok(())
    }

    /// Ends the object, and with it a line without an end.
    pub(super) fn finish(
        &mut self,
        sink: &mut impl FnMut(Line<'_>) -> Result<(), ReportError>,
    ) -> Result<(), ReportError> {
        if self.partial.is_empty() {
            Ok(())
        } else {
            self.end(sink)
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if !self.is_over && self.partial.len() + bytes.len() > RECORD_BYTES_MAX {
            self.is_over = true;
            let room = EXCERPT_BYTES_MAX.saturating_sub(self.partial.len());
            self.partial.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            self.partial.truncate(EXCERPT_BYTES_MAX);
            self.partial.shrink_to_fit();
        } else if !self.is_over {
            self.partial.extend_from_slice(bytes);
        }
    }

    fn end(&mut self, sink: &mut impl FnMut(Line<'_>) -> Result<(), ReportError>) -> Result<(), ReportError> {
        self.ended += 1;
        let kept = sink(Line {
            number: self.ended,
            bytes: &self.partial,
            is_over: self.is_over,
        });
        self.partial.clear();
        self.is_over = false;
        kept
    }
}

/// A value of a row, as JSON writes it.
pub(super) enum Field<'a> {
    /// A string, unescaped.
    Text(Cow<'a, str>),
    /// Anything else: a number, a literal, an array, an object.
    Raw(&'a str),
}

/// The fields of a row.
pub(super) type Fields<'a> = Vec<(Cow<'a, str>, Field<'a>)>;

/// The fields of the object on a line.
///
/// Errors: a reason for a person.
pub(super) fn fields(line: &str) -> Result<Fields<'_>, String> {
    let Object(fields) = serde_json::from_str(line).map_err(|fault| {
        if fault.is_data() {
            String::from("no JSON object")
        } else {
            format!("no JSON: {fault}")
        }
    })?;
    if fields.len() > KEYS_MAX {
        return Err(format!("an object of more than {KEYS_MAX} keys"));
    }
    fields
        .into_iter()
        .map(|(name, raw)| Ok((name.0, field(raw)?)))
        .collect()
}

fn field(raw: &RawValue) -> Result<Field<'_>, String> {
    if !raw.get().starts_with('"') {
        return Ok(Field::Raw(raw.get()));
    }
    match serde_json::from_str(raw.get()) {
        Ok(Text(text)) => Ok(Field::Text(text)),
        Err(fault) => Err(format!("no JSON: {fault}")),
    }
}

/// An object, split but not understood. Of more keys than are read, only one too many.
struct Object<'a>(Vec<(Text<'a>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::with_capacity(16);
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                    if pairs.len() > KEYS_MAX {
                        // It is refused; whether the rest of it is JSON does not matter, but it must be passed.
                        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                    }
                }
                Ok(Object(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// A string, borrowed where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unescaped;
        impl<'de> Visitor<'de> for Unescaped {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.into())))
            }
        }
        deserializer.deserialize_str(Unescaped)
    }
}
