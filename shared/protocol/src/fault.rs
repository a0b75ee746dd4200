//! One fault of an input: where it is, what was expected there, what stood there, and what may have been meant.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};
use tidegate_cbor::{Decode, Encode};

use crate::limits::ID_CHARS_MAX;

/// One fault of an input. All faults of one input are reported together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
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

/// Letters by which a name and what was meant may differ. More is another word, not a slip.
const SLIPS_MAX: usize = 3;

/// The candidate nearest to `given` by edit distance, where it is near enough to have been meant: at most a third of
/// the shorter of the two differs, and never more than three letters.
///
/// Names have at most 128 characters; nothing longer was meant as one, and no time is spent on it.
pub fn closest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given: Vec<char> = given.chars().take(ID_CHARS_MAX + 1).collect();
    if given.len() > ID_CHARS_MAX {
        return None;
    }
    known
        .into_iter()
        .filter_map(|candidate| Some((slips(&given, candidate)?, candidate)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The edit distance of `candidate` from `given`, where that is near enough.
fn slips(given: &[char], candidate: &str) -> Option<usize> {
    let candidate: Vec<char> = candidate.chars().take(ID_CHARS_MAX + SLIPS_MAX).collect();
    let shorter = given.len().min(candidate.len());
    let allowed = (shorter / 3).clamp(1, SLIPS_MAX);
    if given.len().abs_diff(candidate.len()) > allowed {
        return None;
    }
    // Of what is one letter long, something must remain.
    Some(edit_distance(given, &candidate)).filter(|distance| *distance <= allowed && *distance < shorter)
}

/// Edit distance (Levenshtein), ignoring ASCII case.
fn edit_distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b) {
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
    use alloc::format;
    use proptest::prelude::*;

    #[test]
    fn a_near_miss_is_suggested_and_a_far_one_is_not() {
        let known = ["idempotency_key", "payload", "mode"];
        assert_eq!(closest("idempotencyKey", known), Some("idempotency_key"));
        assert_eq!(closest("paylod", known), Some("payload"));
        assert_eq!(closest("zzz", known), None);
    }

    #[test]
    fn whatever_is_suggested_is_near_however_long_the_input() {
        let far = "an.action.with.a.name.that.goes.on.and.on.and.on.and.on.until.sixty-four.and.beyond";
        let long = |end: &str| format!("{}{end}", "x".repeat(100));
        let (first, second) = (long("first"), long("second"));
        for (given, known, suggested) in [
            (far, "payload", None),
            (&*"p".repeat(500), "payload", None),
            (&*"p".repeat(500), &*"p".repeat(501), None),
            // What differs only behind the 64th character differs all the same.
            (&*first, &*second, None),
            (&*long("frist"), &*first, Some(&*first)),
            // A third of a long name would be another name.
            ("delivery.report.monthly", "delivery.invoice.monthly", None),
            ("a", "b", None),
            ("", "a", None),
            ("ids", "id", Some("id")),
        ] {
            assert_eq!(closest(given, [known]), suggested, "{given} {known}");
        }
    }

    proptest! {
        #[test]
        fn a_suggestion_is_never_further_than_three_letters(given in "[a-f.]{0,150}", known in proptest::collection::vec("[a-f.]{0,150}", 0..6)) {
            if let Some(suggested) = closest(&given, known.iter().map(String::as_str)) {
                let chars = |text: &str| text.chars().collect::<Vec<_>>();
                let distance = edit_distance(&chars(&given), &chars(suggested));
                prop_assert!(distance <= SLIPS_MAX && distance * 3 <= given.len().max(3), "{distance}");
            }
        }
    }

    #[test]
    fn edit_distance_is_that_of_the_textbook() {
        for (a, b, distance) in [
            ("kitten", "sitting", 3),
            ("", "abc", 3),
            ("abc", "", 3),
            ("flaw", "lawn", 2),
        ] {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            assert_eq!(edit_distance(&chars(a), &chars(b)), distance, "{a} {b}");
        }
    }

    #[test]
    fn a_fault_never_repeats_a_long_input() {
        let fault = Fault::new("/token", "less", &"s".repeat(1000));
        assert!(fault.got.chars().count() <= GOT_CHARS_MAX + 1);
    }
}
