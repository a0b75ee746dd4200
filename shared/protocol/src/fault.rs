//! One fault of an input: where it is, what was expected there, what stood there, and what may have been meant.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

/// One fault of an input. All faults of one input are reported together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Fault {
    /// Where: a JSON pointer (RFC 6901), empty for the whole document.
    pub pointer: String,
    /// What would have been right there.
    pub expected: Cow<'static, str>,
    /// What stood there, shortened.
    pub got: String,
    /// What may have been meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

/// Characters of an input that a fault repeats at most: enough to recognise it, too few to carry a secret far.
const GOT_CHARS_MAX: usize = 64;

impl Fault {
    /// A fault at `pointer`.
    pub fn new(pointer: impl Into<String>, expected: impl Into<Cow<'static, str>>, got: &str) -> Self {
        Self {
            pointer: pointer.into(),
            expected: expected.into(),
            got: shorten(got),
            suggestion: None,
        }
    }

    /// The same fault with the closest of `known` to `given` as a suggestion, where one is close.
    #[must_use]
    pub fn suggest<'a>(mut self, given: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        self.suggestion = closest(given, known).map(ToString::to_string);
        self
    }
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

/// `text` cut to what a fault repeats of an input.
pub fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(GOT_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Escapes one reference token of a JSON pointer (RFC 6901, section 3).
pub fn escape_pointer(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

/// The candidate nearest to `given` by edit distance, where it is near enough to have been meant.
pub fn closest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (given.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (edit_distance(given, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edit distance (Levenshtein), ignoring ASCII case. Inputs are cut at 64 characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(GOT_CHARS_MAX).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(GOT_CHARS_MAX).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let cost = usize::from(!x.eq_ignore_ascii_case(y));
            let best = (diagonal + cost).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = best;
            left = best;
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
    fn a_near_miss_is_suggested_and_a_far_one_is_not() {
        let known = ["idempotency_key", "payload", "mode"];
        assert_eq!(closest("idempotencyKey", known), Some("idempotency_key"));
        assert_eq!(closest("paylod", known), Some("payload"));
        assert_eq!(closest("zzz", known), None);
    }

    #[test]
    fn edit_distance_is_that_of_the_textbook() {
        for (a, b, distance) in [
            ("kitten", "sitting", 3),
            ("", "abc", 3),
            ("abc", "", 3),
            ("flaw", "lawn", 2),
        ] {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
    }

    #[test]
    fn a_fault_never_repeats_a_long_input() {
        let fault = Fault::new("/token", "less", &"s".repeat(1000));
        assert!(fault.got.chars().count() <= GOT_CHARS_MAX + 1);
    }
}
