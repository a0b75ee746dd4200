//! Secrets in JSON: by the names of members, in texts however they are escaped, and in JSON that is itself a text of JSON.

use alloc::borrow::Cow;
use alloc::string::String;

use serde_json::value::RawValue;

use super::patterns::is_card;
use super::{REDACTED, Range, Redactor, part, run};

/// Whether `text` is JSON.
pub(super) fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

/// The JSON in `text` that could hold a secret: all of it, or an object or a list with other text around it.
pub(super) fn embedded(text: &str) -> Option<Range> {
    let between = |open, close| {
        // What was taken out before is no list.
        let is_left = |at: &usize, back: usize| !part(text, at.saturating_sub(back), text.len()).starts_with(REDACTED);
        let mut opens = text.match_indices(open).map(|(at, _)| at);
        let mut closes = text.rmatch_indices(close).map(|(at, _)| at);
        let from = opens.find(|at| is_left(at, 0))?;
        let to = closes.find(|at| is_left(at, REDACTED.len() - 1))? + 1;
        (from < to && is_json(part(text, from, to))).then_some(Range { from, to })
    };
    let all = text.trim_start();
    if all.starts_with('"') && is_json(text) {
        let from = text.len() - all.len();
        return Some(Range {
            from,
            to: from + all.trim_end().len(),
        });
    }
    between('{', '}').or_else(|| between('[', ']'))
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

/// Behind the text whose quote is at `at`.
fn text_end(bytes: &[u8], at: usize) -> usize {
    let (mut end, mut escaped) = (at + 1, false);
    for byte in bytes.get(end..).unwrap_or_default() {
        end += 1;
        match byte {
            b'"' if !escaped => break,
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    end
}

/// Behind the value that begins at `at`.
fn value_end(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at) {
        Some(b'"') => text_end(bytes, at),
        Some(b'{' | b'[') => {
            let (mut end, mut open) = (at, 0_u32);
            while let Some(byte) = bytes.get(end) {
                match byte {
                    b'"' => {
                        end = text_end(bytes, end);
                        continue;
                    }
                    b'{' | b'[' => open += 1,
                    b'}' | b']' => open = open.saturating_sub(1),
                    _ => {}
                }
                end += 1;
                if open == 0 {
                    break;
                }
            }
            end
        }
        _ => run(bytes, at, |byte| !is_space(byte) && !matches!(byte, b',' | b'}' | b']')),
    }
}

/// JSON under change: what was copied so far, and what of it was something else.
struct Copy<'t> {
    json: &'t str,
    out: String,
    done: usize,
}

impl Copy<'_> {
    fn replace(&mut self, from: usize, to: usize, text: &str) {
        let Ok(text) = serde_json::to_string(text) else { return };
        self.out.push_str(part(self.json, self.done, from));
        self.out.push_str(&text);
        self.done = to;
    }
}

impl Redactor {
    /// `json`, which is JSON, without its secrets: JSON as well.
    pub(super) fn json_at<'t>(&self, json: &'t str, depth: u32) -> Cow<'t, str> {
        let bytes = json.as_bytes();
        let mut copy = Copy {
            json,
            out: String::new(),
            done: 0,
        };
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'"' => at = self.json_text(&mut copy, at, depth),
                b'0'..=b'9' | b'-' => {
                    let end = value_end(bytes, at);
                    if bytes.get(at..end).is_some_and(is_card) {
                        copy.replace(at, end, REDACTED);
                    }
                    at = end;
                }
                _ => at += 1,
            }
        }
        if copy.done == 0 {
            return Cow::Borrowed(json);
        }
        copy.out.push_str(part(json, copy.done, json.len()));
        Cow::Owned(copy.out)
    }

    /// Looks at the text whose quote is at `at`, and at what it is the name of. Where it goes on.
    fn json_text(&self, copy: &mut Copy<'_>, at: usize, depth: u32) -> usize {
        let bytes = copy.json.as_bytes();
        let end = text_end(bytes, at);
        // A text can be JSON and no text for all that: half of a surrogate pair. Nobody can say what it hides.
        let text = serde_json::from_str::<String>(part(copy.json, at, end)).ok();
        let is_broken = text.is_none();
        let text = text.unwrap_or_default();
        let redacted = self.text_at(&text, depth);
        if is_broken || redacted != text.as_str() {
            copy.replace(at, end, if is_broken { REDACTED } else { &redacted });
        }
        let sign = run(bytes, end, is_space);
        if bytes.get(sign) != Some(&b':') || !(is_broken || self.is_secret(&text) || self.is_secret(&redacted)) {
            return end;
        }
        let from = run(bytes, sign + 1, is_space);
        let to = value_end(bytes, from);
        let value = part(copy.json, from, to);
        if !matches!(
            value,
            "null" | "true" | "false" | "\"\"" | "{}" | "[]" | "\"[redacted]\""
        ) {
            copy.replace(from, to, REDACTED);
        }
        to
    }
}
