//! Faults of a configuration: each with its place, what was expected there, what stood there, and what may be meant.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde_json::{Map, Value};

/// One fault of a document. All faults of one document are reported together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where: a JSON pointer (RFC 6901); empty for the whole document.
    pub pointer: String,
    /// What would have been right there.
    pub expected: String,
    /// What stood there. Of a member that may hold key material, only its kind and length.
    pub got: String,
    /// What may have been meant.
    pub suggestion: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.pointer.is_empty() { "/" } else { &self.pointer };
        write!(f, "{place}: expected {}, got {}", self.expected, self.got)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, " (did you mean `{suggestion}`?)"),
            None => Ok(()),
        }
    }
}

/// Characters of an input that a fault repeats at most.
const GOT_CHARS_MAX: usize = 64;

/// The faults found so far in one document.
#[derive(Debug, Default)]
pub(crate) struct Faults(pub Vec<Fault>);

impl Faults {
    /// Notes a fault.
    pub fn add(&mut self, pointer: &str, expected: impl Into<String>, got: impl Into<String>) {
        let (expected, got) = (expected.into(), got.into());
        self.0.push(Fault {
            pointer: pointer.to_string(),
            expected,
            got,
            suggestion: None,
        });
    }

    /// Notes a fault with the nearest of `known` to `given` as a suggestion.
    pub fn add_name(&mut self, pointer: &str, expected: impl Into<String>, given: &str, known: &[&str]) {
        self.0.push(Fault {
            pointer: pointer.to_string(),
            expected: expected.into(),
            got: format!("`{}`", shorten(given)),
            suggestion: closest(given, known).map(ToString::to_string),
        });
    }

    /// Notes each member of `object` that is not in `known`.
    pub fn unknown_members(&mut self, pointer: &str, object: &Map<String, Value>, known: &[&str]) {
        for name in object.keys().filter(|name| !known.contains(&name.as_str())) {
            let expected = format!("one of {}", known.join(", "));
            self.add_name(&child(pointer, name), expected, name, known);
        }
    }

    /// `value` where nothing was found wrong.
    pub fn or<T>(self, value: Option<T>) -> Result<T, Vec<Fault>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self.0),
        }
    }
}

/// The pointer to the member `name` of what is at `pointer`.
pub(crate) fn child(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// What kind of value stands there, without its content.
pub(crate) fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_string(),
        Value::Bool(_) => "a boolean".to_string(),
        Value::Number(_) => "a number".to_string(),
        Value::String(text) if text.is_empty() => "an empty text".to_string(),
        Value::String(text) => format!("a text of {} characters", text.chars().count()),
        Value::Array(items) => format!("an array of {} items", items.len()),
        Value::Object(_) => "an object".to_string(),
    }
}

/// What stands there, with its content where that is short and simple. Not for members that may hold key material.
pub(crate) fn show(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() => format!("`{}`", shorten(text)),
        Value::Number(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        other => kind(other),
    }
}

fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(GOT_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Letters by which a name and what was meant may differ. More is another word, not a slip.
const SLIPS_MAX: usize = 3;

/// The name nearest to `given`, where it is near enough to have been meant: at most a third of the shorter of the two
/// differs, rounded up so that two swapped letters of `ES256` still do, and never more than three letters. Nothing that is longer than every name was meant as one.
fn closest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let given: Vec<char> = given.chars().take(GOT_CHARS_MAX + 1).collect();
    if given.len() > GOT_CHARS_MAX {
        return None;
    }
    known
        .iter()
        .filter_map(|name| Some((slips(&given, name)?, *name)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The edit distance of `name` from `given`, where that is near enough.
fn slips(given: &[char], name: &str) -> Option<usize> {
    let name: Vec<char> = name.chars().collect();
    let shorter = given.len().min(name.len());
    let allowed = shorter.div_ceil(3).clamp(1, SLIPS_MAX);
    if given.len().abs_diff(name.len()) > allowed {
        return None;
    }
    Some(distance(given, &name)).filter(|distance| *distance <= allowed && *distance < shorter)
}

/// Edit distance (Levenshtein), ignoring ASCII case.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut before = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b) {
            let here = (before + usize::from(!x.eq_ignore_ascii_case(y)))
                .min(left + 1)
                .min(*cell + 1);
            before = core::mem::replace(cell, here);
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_is_not() {
        let known = ["issuer", "audience", "tenant_claim"];
        assert_eq!(closest("isuer", &known), Some("issuer"));
        assert_eq!(closest("tenantClaim", &known), Some("tenant_claim"));
        assert_eq!(closest("colour", &known), None);
        assert_eq!(
            closest(
                "tenant_claim_of_the_identity_provider_that_signs_for_every_customer",
                &known
            ),
            None
        );
        assert_eq!(closest(&"a".repeat(500), &known), None);
        assert_eq!(closest("a", &["b"]), None);
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        assert_eq!(distance(&chars("kitten"), &chars("sitting")), 3);
    }

    #[test]
    fn a_pointer_escapes_what_it_must() {
        assert_eq!(child("/a", "b/c~d"), "/a/b~1c~0d");
    }
}
