//! What secrets look like, whatever they stand under.

use alloc::vec::Vec;

use super::{Range, part, run};

/// How credentials begin that say so themselves, and how much follows at least: our own API keys and webhook secrets (Standard
/// Webhooks), and those of well-known services, as each publishes them for scanners.
const PREFIXES: [(&str, usize); 18] = [
    ("tgk_", 16),
    ("whsec_", 16),
    ("sk_live_", 16),
    ("sk_test_", 16),
    ("rk_live_", 16),
    ("sk-", 20),
    ("ghp_", 30),
    ("gho_", 30),
    ("ghs_", 30),
    ("ghu_", 30),
    ("github_pat_", 30),
    ("glpat-", 20),
    ("xoxb-", 20),
    ("xoxp-", 20),
    ("AKIA", 16),
    ("ASIA", 16),
    ("AIza", 30),
    ("npm_", 30),
];
/// How a JSON Web Token begins: `{"` in base64url (RFC 7519).
const JWT: &str = "eyJ";
/// A shorter one has no header, no claims and no signature.
const JWT_CHARS_MIN: usize = 20;

/// Digits of a card number (ISO/IEC 7812).
const CARD_DIGITS: core::ops::RangeInclusive<usize> = 13..=19;

/// Bytes of credentials: of base64 in both alphabets, and of a token (RFC 6750, section 2.1).
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'~' | b'+' | b'/' | b'=')
}

/// Where a credential begins in `word`, bytes of which are all [those of one](is_token).
pub(super) fn credential(word: &str) -> Option<usize> {
    let behind = |at: usize| part(word, at, word.len());
    let jwt = word.find(JWT).filter(|at| {
        let token = behind(*at);
        token.len() >= JWT_CHARS_MIN && token.bytes().filter(|byte| *byte == b'.').count() >= 2
    });
    // With the rest of its word: what a range leaves of a word would be another one.
    let jwt = jwt.map(|at| {
        let before = part(word, 0, at).bytes().rev();
        at - before.take_while(u8::is_ascii_alphanumeric).count()
    });
    let prefixed = PREFIXES.iter().filter_map(|(prefix, length_min)| {
        let places = word.match_indices(prefix).map(|(at, _)| at);
        let begins = |at: &usize| {
            let before = at.checked_sub(1).and_then(|before| word.as_bytes().get(before));
            !before.is_some_and(u8::is_ascii_alphanumeric) && behind(*at).len() >= prefix.len() + length_min
        };
        { places }.find(begins)
    });
    jwt.into_iter().chain(prefixed).min()
}

/// Blocks of PEM (RFC 7468), whatever is in them. One without an end goes on to the end.
pub(super) fn pem(text: &str, found: &mut Vec<Range>) {
    let mut from = 0;
    while let Some(begin) = part(text, from, text.len()).find("-----BEGIN ") {
        let begin = from + begin;
        let to = match part(text, begin, text.len()).split_once("-----END ") {
            Some((block, rest)) => {
                let end = begin + block.len() + 9;
                end + rest.find("-----").map_or(rest.len(), |end| end + 5)
            }
            None => text.len(),
        };
        found.push(Range { from: begin, to });
        from = to;
    }
}

/// Card numbers: 13 to 19 digits, perhaps in groups, that pass the check of Luhn.
pub(super) fn cards(bytes: &[u8], found: &mut Vec<Range>) {
    let mut at = 0;
    while at < bytes.len() {
        let end = run(bytes, at, |byte| byte.is_ascii_digit());
        if end == at {
            at += 1;
            continue;
        }
        let before = |n: usize| at.checked_sub(n).and_then(|before| bytes.get(before)).copied();
        // The digits after a point are no card; those after a card are no such digits.
        let is_next = found.last().is_some_and(|card| card.to + 1 == at);
        let is_part = before(1).is_some_and(|byte| byte.is_ascii_alphanumeric())
            || (before(1) == Some(b'.') && before(2).is_some_and(|byte| byte.is_ascii_digit()) && !is_next);
        match card(bytes, at).filter(|_| !is_part) {
            Some(to) => {
                found.push(Range { from: at, to });
                at = to;
            }
            None => at = end,
        }
    }
}

/// Whether `digits` are the number of a card.
pub(super) fn is_card(digits: &[u8]) -> bool {
    card(digits, 0) == Some(digits.len())
}

/// Where the card number ends that begins at `from`.
fn card(bytes: &[u8], from: usize) -> Option<usize> {
    let mut digits: Vec<u8> = Vec::with_capacity(*CARD_DIGITS.end());
    let (mut at, mut found) = (from, None);
    loop {
        let byte = bytes.get(at).copied();
        match byte {
            Some(byte @ b'0'..=b'9') => {
                if digits.len() == *CARD_DIGITS.end() {
                    return found;
                }
                digits.push(byte - b'0');
                at += 1;
                let next = bytes.get(at);
                let ends = !next.is_some_and(u8::is_ascii_alphanumeric);
                if ends && CARD_DIGITS.contains(&digits.len()) && passes(&digits) {
                    found = Some(at);
                }
            }
            Some(b' ' | b'-') if bytes.get(at + 1).is_some_and(u8::is_ascii_digit) => at += 1,
            _ => return found,
        }
    }
}

/// The check of Luhn (ISO/IEC 7812-1, annex B), of a number as issuers give them out: it begins with 2 to 6.
fn passes(digits: &[u8]) -> bool {
    let mut sum = 0_u32;
    for (place, digit) in digits.iter().rev().enumerate() {
        let digit = u32::from(*digit);
        sum += match place % 2 {
            0 => digit,
            _ if digit > 4 => digit * 2 - 9,
            _ => digit * 2,
        };
    }
    sum.is_multiple_of(10) && digits.first().is_some_and(|first| (2..=6).contains(first))
}

/// What stands before the host of a URL: user and password.
pub(super) fn users(text: &str, found: &mut Vec<Range>) {
    let bytes = text.as_bytes();
    for (at, sign) in text.match_indices("://") {
        let from = at + sign.len();
        let is_user =
            |byte: u8| !byte.is_ascii_whitespace() && !matches!(byte, b'/' | b'?' | b'#' | b'"' | b'\\' | b'@');
        let to = run(bytes, from, is_user);
        if to > from && bytes.get(to) == Some(&b'@') {
            found.push(Range { from, to });
        }
    }
}

/// Addresses of e-mail. The part before the `@` has the letters of RFC 5322, section 3.2.3, but for those that end a value, a
/// text in quotes, JSON, or the host of a URL: what is left of the text would read as another one without them.
pub(super) fn emails(bytes: &[u8], found: &mut Vec<Range>) {
    let is_local = |byte: u8| byte.is_ascii_alphanumeric() || byte >= 0x80 || b"._%+-!$*^|~".contains(&byte);
    let is_domain = |byte: u8| byte.is_ascii_alphanumeric() || byte >= 0x80 || matches!(byte, b'.' | b'-');
    let mut done = 0;
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'@') {
        let local = bytes.get(done..at).unwrap_or_default();
        let from = at - local.iter().rev().take_while(|byte| is_local(**byte)).count();
        let end = run(bytes, at + 1, is_domain);
        let domain = bytes.get(at + 1..end).unwrap_or_default();
        let has_dot = domain.iter().skip(1).any(|byte| *byte == b'.');
        if from < at && has_dot {
            found.push(Range { from, to: end });
        }
        done = end;
    }
}
