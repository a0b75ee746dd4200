//! The names under which secrets stand, and where their values end in a text.

use alloc::string::String;

use super::patterns::{credential, is_token};
use super::{REDACTED, Range, Redactor, part, run};

/// Names that a configuration can add.
pub const KEYS_MAX: usize = 64;

/// A name that has one of these in it …
const ANYWHERE: [&str; 2] = ["password", "passphrase"];
/// … or ends with one of these …
const ENDS: [&str; 19] = [
    "passwd",
    "pwd",
    "secret",
    "secrets",
    "token",
    "apikey",
    "authorization",
    "cookie",
    "cookies",
    "credential",
    "credentials",
    "privatekey",
    "accesskey",
    "secretkey",
    "signingkey",
    "encryptionkey",
    "jwt",
    "cvv",
    "cvc",
];
/// … or is one of these, whatever stands before it and a sign, is that of a secret.
const WHOLE: [&str; 6] = ["pass", "pin", "otp", "ssn", "auth", "sessionid"];
/// Of these, the value is the rest of the line.
const LINES: [&str; 2] = ["authorization", "cookie"];
/// What stands before the credential of a header (RFC 9110, section 11).
const SCHEMES: [&str; 4] = ["bearer", "basic", "digest", "negotiate"];
/// Values that tell nothing.
const EMPTY: [&str; 5] = ["null", "true", "false", "none", "undefined"];

/// A name as it is compared: its letters and digits, in lower case.
pub(super) fn plain(name: &str) -> String {
    let letters = name.chars().filter(|letter| letter.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect()
}

/// Whether the letters and digits of `name` end with `known`, which is in lower case, and no other one stands right before.
fn ends_with_word(name: &str, known: &str) -> bool {
    let mut letters = name.char_indices().rev().filter(|(_, letter)| letter.is_alphanumeric());
    let mut begin = name.len();
    let ends = known.chars().rev().all(|of_known| match letters.next() {
        Some((at, letter)) => {
            begin = at;
            letter.to_ascii_lowercase() == of_known
        }
        None => false,
    });
    let before = part(name, 0, begin).chars().next_back();
    ends && !before.is_some_and(char::is_alphanumeric)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// What can stand around a name or value, however often it was put into a text.
fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'`')
}

impl Redactor {
    /// Whether what stands under `name` is a secret.
    pub(super) fn is_secret(&self, name: &str) -> bool {
        let is_whole = WHOLE.iter().any(|known| ends_with_word(name, known));
        let name = plain(name);
        is_whole
            || ANYWHERE.iter().any(|known| name.contains(known))
            || ENDS.iter().any(|known| name.ends_with(known))
            || self.keys.iter().any(|known| name.ends_with(known.as_str()))
    }

    /// Credentials by what they look like, and values by the name in front of them.
    pub(super) fn words(&self, text: &str, found: &mut alloc::vec::Vec<Range>) {
        let bytes = text.as_bytes();
        let (mut at, mut looked_to) = (0, 0);
        while at < bytes.len() {
            let end = run(bytes, at, is_word);
            if end == at {
                // What was taken out before is no name.
                at += match part(text, at, at + REDACTED.len()) {
                    REDACTED => REDACTED.len(),
                    _ => 1,
                };
                continue;
            }
            if looked_to <= at {
                looked_to = run(bytes, at, is_token);
                if let Some(from) = credential(part(text, at, looked_to)) {
                    found.push(Range {
                        from: at + from,
                        to: looked_to,
                    });
                }
            }
            let word = part(text, at, end);
            at = match self.value(text, word, end) {
                Some(value) => {
                    found.push(value);
                    value.to.max(end)
                }
                None => end,
            };
        }
    }

    /// The value that stands behind `word`, which ends at `end`, where that makes it a secret.
    fn value(&self, text: &str, word: &str, end: usize) -> Option<Range> {
        let bytes = text.as_bytes();
        if SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme)) {
            let from = run(bytes, end, |byte| byte == b' ');
            let to = run(bytes, from, is_token);
            let value = part(text, from, to);
            let is_odd = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_uppercase();
            let is_secret = from > end && value.len() >= 8 && (value.len() >= 20 || value.bytes().any(is_odd));
            return is_secret.then_some(Range { from, to });
        }
        if !self.is_secret(word) {
            return None;
        }
        let sign = run(bytes, end, |byte| is_quote(byte) || matches!(byte, b'\\' | b']' | b' '));
        let behind = match (bytes.get(sign)?, bytes.get(sign + 1)) {
            (b'=', Some(b'>')) => sign + 2,
            (b'=' | b':', _) => sign + 1,
            (b'%', _) if matches!(part(text, sign, sign + 3), "%3D" | "%3d" | "%3A" | "%3a") => sign + 3,
            _ => return None,
        };
        let from = run(bytes, behind, |byte| byte == b' ');
        let quote = run(bytes, from, |byte| byte == b'\\');
        let value = match bytes.get(quote)? {
            byte if is_quote(*byte) => quoted(bytes, quote, *byte, quote - from),
            b'{' | b'[' => Range {
                from: quote,
                to: closed(bytes, quote),
            },
            _ => bare(text, from, LINES.iter().any(|line| plain(word).ends_with(line))),
        };
        let inside = part(text, value.from, value.to);
        let tells = !inside.is_empty() && !EMPTY.iter().any(|empty| inside.eq_ignore_ascii_case(empty));
        tells.then_some(value)
    }
}

/// What stands between the quote at `at`, which has so many backslashes before it, and the next one that has as many; or the
/// end.
fn quoted(bytes: &[u8], at: usize, quote: u8, backslashes: usize) -> Range {
    let (from, mut before) = (at + 1, 0);
    let mut end = from;
    for byte in bytes.get(from..).unwrap_or_default() {
        match byte {
            b'\\' => before += 1,
            byte if *byte == quote && before == backslashes => {
                return Range {
                    from,
                    to: end - backslashes,
                };
            }
            _ => before = 0,
        }
        end += 1;
    }
    Range { from, to: end }
}

/// Where the bracket at `at` is closed; the end where it never is.
fn closed(bytes: &[u8], at: usize) -> usize {
    let (mut open, mut end, mut in_text) = (0_u32, at, false);
    for byte in bytes.get(at..).unwrap_or_default() {
        end += 1;
        match byte {
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => open += 1,
            b'}' | b']' if !in_text => open = open.saturating_sub(1),
            _ => {}
        }
        if open == 0 {
            break;
        }
    }
    end
}

/// A value without quotes: the rest of the line, or as far as a word goes.
fn bare(text: &str, from: usize, is_line: bool) -> Range {
    let bytes = text.as_bytes();
    if is_line {
        let to = run(bytes, from, |byte| !matches!(byte, b'\n' | b'\r' | b'"'));
        return Range { from, to };
    }
    let is_value = |byte: u8| {
        !byte.is_ascii_whitespace()
            && !is_quote(byte)
            && !matches!(byte, b',' | b';' | b'&' | b')' | b'}' | b']' | b'\\')
    };
    let to = run(bytes, from, is_value);
    if SCHEMES
        .iter()
        .any(|scheme| part(text, from, to).eq_ignore_ascii_case(scheme))
    {
        let next = run(bytes, to, |byte| byte == b' ');
        return Range {
            from,
            to: run(bytes, next, is_value),
        };
    }
    Range { from, to }
}
