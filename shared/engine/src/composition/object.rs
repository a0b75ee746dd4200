//! Reads one JSON object of a composition strictly, and notes every fault of it with its place.
//!
//! A field that is asked for is thereby known; [`Object::finish`] reports all others. So the list of known fields cannot
//! differ from what is read. `null` is a value like any other here, never "absent".

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use serde_json::{Map, Value};
use tidegate_protocol::Fault;
use tidegate_protocol::fault::{escape_pointer, shorten};
use tidegate_protocol::limits::ID_CHARS_MAX;
use tidegate_protocol::time::{format_duration, parse_duration};

use super::defaults::FAULTS_MAX;

/// Notes a fault, unless there are more than enough: one above [`FAULTS_MAX`] tells that there are more.
pub fn note(faults: &mut Vec<Fault>, fault: impl FnOnce() -> Fault) {
    if faults.len() <= FAULTS_MAX {
        faults.push(fault());
    }
}

/// `fault` with the nearest of `known` as a suggestion. A long text is not compared: it was no slip of the hand, and the
/// comparison would cost.
pub fn suggest<'a>(fault: Fault, given: &str, known: impl IntoIterator<Item = &'a str>) -> Fault {
    if given.len() > ID_CHARS_MAX / 2 {
        return fault;
    }
    fault.suggest(given, known)
}

/// The pointer of the field or item `token` of what `parent` points to. An endless name is cut, so that pointers stay
/// small whatever the document is.
pub fn child(parent: &str, token: &str) -> String {
    let cut = match token.char_indices().nth(ID_CHARS_MAX) {
        Some((end, _)) => Cow::Owned(format!("{}…", token.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(token),
    };
    format!("{parent}/{}", escape_pointer(&cut))
}

/// What a fault says of a value: scalars as they are, shortened; of the others only the kind.
pub fn describe(value: &Value) -> String {
    match value {
        Value::String(text) => format!("\"{}\"", shorten(text)),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
        scalar @ (Value::Null | Value::Bool(_) | Value::Number(_)) => scalar.to_string(),
    }
}

/// Whether `text` has the form of a duration, however long it is.
fn is_duration(text: &str) -> bool {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    unit.len() < text.len() && matches!(unit, "ms" | "s" | "m" | "h" | "d")
}

/// The duration `value`, inside `range`. Milliseconds.
///
/// Errors: what is expected instead.
pub(super) fn read_duration(value: &Value, range: &RangeInclusive<u64>) -> Result<u64, Cow<'static, str>> {
    let text = value.as_str().unwrap_or_default();
    match parse_duration(text) {
        Some(ms) if range.contains(&ms) => Ok(ms),
        _ if is_duration(text) => {
            let (from, to) = (format_duration(*range.start()), format_duration(*range.end()));
            Err(format!("a duration from {from} to {to}").into())
        }
        _ => Err("a duration with its unit (ms, s, m, h or d), such as \"30s\"".into()),
    }
}

/// One object under reading.
pub struct Object<'v, 'f> {
    fields: &'v Map<String, Value>,
    known: Vec<&'static str>,
    /// Where the object is.
    pub pointer: String,
    /// Takes every fault.
    pub faults: &'f mut Vec<Fault>,
}

impl<'v, 'f> Object<'v, 'f> {
    /// Reads `value`, which must be an object; notes a fault where it is none.
    pub fn read(value: &'v Value, pointer: &str, faults: &'f mut Vec<Fault>) -> Option<Self> {
        match value {
            Value::Object(fields) => Some(Self {
                fields,
                known: Vec::with_capacity(8),
                pointer: pointer.to_string(),
                faults,
            }),
            other => {
                note(faults, || Fault::new(pointer, "an object", &describe(other)));
                None
            }
        }
    }

    /// The pointer of the field `name`.
    pub fn at(&self, name: &str) -> String {
        child(&self.pointer, name)
    }

    /// The field `name` as it is.
    pub fn take(&mut self, name: &'static str) -> Option<&'v Value> {
        self.known.push(name);
        self.fields.get(name)
    }

    /// Whether the field `name` is there.
    pub fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// The field `name`, which must be there.
    pub fn require(&mut self, name: &'static str, expected: &'static str) -> Option<&'v Value> {
        let value = self.take(name);
        if value.is_none() {
            self.fault(name, expected, "nothing");
        }
        value
    }

    /// Which one of two fields is there. Notes where both are, or neither.
    pub fn either(&mut self, one: &'static str, other: &'static str) -> Option<&'static str> {
        let got = match (self.take(one), self.take(other)) {
            (Some(_), None) => return Some(one),
            (None, Some(_)) => return Some(other),
            (Some(_), Some(_)) => "both",
            (None, None) => "neither",
        };
        note(self.faults, || {
            Fault::new(self.pointer.as_str(), format!("either `{one}` or `{other}`"), got)
        });
        None
    }

    /// Notes a fault of the field `name`.
    pub fn fault(&mut self, name: &str, expected: impl Into<Cow<'static, str>>, got: &str) {
        let pointer = self.at(name);
        note(self.faults, || Fault::new(pointer, expected, got));
    }

    /// The text field `name`, where `parse` takes it.
    pub fn text<T>(
        &mut self,
        name: &'static str,
        expected: &'static str,
        parse: impl FnOnce(&'v str) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(name)?;
        let parsed = value.as_str().and_then(parse);
        if parsed.is_none() {
            self.fault(name, expected, &describe(value));
        }
        parsed
    }

    /// The text field `name`, which is one of the `names`; another one gets the nearest as a suggestion.
    pub fn one_of(&mut self, name: &'static str, names: &'static [&'static str]) -> Option<&'static str> {
        let value = self.take(name)?;
        let found = names.iter().copied().find(|known| value.as_str() == Some(known));
        if found.is_none() {
            let pointer = self.at(name);
            note(self.faults, || {
                let expected = format!("`{}`", names.join("`, `"));
                let fault = Fault::new(pointer, expected, &describe(value));
                suggest(fault, value.as_str().unwrap_or_default(), names.iter().copied())
            });
        }
        found
    }

    /// The duration field `name`, inside `range`. Milliseconds.
    pub fn duration(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.take(name)?;
        match read_duration(value, &range) {
            Ok(ms) => Some(ms),
            Err(expected) => {
                self.fault(name, expected, &describe(value));
                None
            }
        }
    }

    /// The whole number `name`, inside `range`.
    pub fn number(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.take(name)?;
        let number = value.as_u64().filter(|number| range.contains(number));
        if number.is_none() {
            let expected = format!("a whole number from {} to {}", range.start(), range.end());
            self.fault(name, expected, &describe(value));
        }
        number
    }

    /// The field `name`, true or false.
    pub fn flag(&mut self, name: &'static str) -> Option<bool> {
        let value = self.take(name)?;
        let flag = value.as_bool();
        if flag.is_none() {
            self.fault(name, "true or false", &describe(value));
        }
        flag
    }

    /// Every entry of the object with its pointer, for a map whose keys are names of the author's own.
    pub fn entries(&self) -> impl Iterator<Item = (&'v str, &'v Value, String)> + use<'v> {
        let pointer = self.pointer.clone();
        self.fields
            .iter()
            .map(move |(name, value)| (name.as_str(), value, child(&pointer, name)))
    }

    /// Notes every field that was never asked for, with the nearest one that was.
    pub fn finish(self) {
        for (name, value) in self.fields {
            if !self.known.contains(&name.as_str()) {
                let pointer = child(&self.pointer, name);
                note(self.faults, || {
                    let fault = Fault::new(pointer, "no such field", &describe(value));
                    suggest(fault, name, self.known.iter().copied())
                });
            }
        }
    }
}
