//! Takes secrets out of what is written to a log: by the name that they stand under, and by what they look like.
//!
//! [`Redactor::text`] takes any text, [`Redactor::json`] gives JSON for JSON. Both take a time that is linear in the text, are
//! the same when done twice, and leave a text without a secret as it is. What is taken out too much costs a reader a word; what is
//! taken out too little costs a customer an account: where both are possible, it is taken out.

mod json;
mod keys;
mod patterns;

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

pub use keys::KEYS_MAX;

/// What stands where a secret was.
pub const REDACTED: &str = "[redacted]";

/// JSON inside the texts of JSON is read so deep; below that it is a text like any other.
const NESTING_MAX: u32 = 8;

/// Whether addresses of e-mail are secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Emails {
    /// They stay.
    #[default]
    Shown,
    /// They are taken out.
    Redacted,
}

/// What is taken out.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    /// Names besides our own under which secrets stand, as [`keys::plain`] writes them.
    keys: Vec<String>,
    emails: Emails,
}

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    from: usize,
    to: usize,
}

impl Redactor {
    /// One that knows these names of secrets besides its own. Case, `_`, `-` and `.` of a name say nothing.
    pub fn new<'k>(keys: impl IntoIterator<Item = &'k str>, emails: Emails) -> Self {
        let keys = keys.into_iter().map(keys::plain).filter(|key| !key.is_empty());
        Self {
            keys: keys.collect(),
            emails,
        }
    }

    /// `text` without its secrets. JSON in it is read as JSON, wherever it stands.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.text_at(text, 0)
    }

    /// `json` without its secrets: JSON as well. What is none is read as text.
    pub fn json<'t>(&self, json: &'t str) -> Cow<'t, str> {
        match json::is_json(json) {
            true => self.json_at(json, 0),
            false => self.text(json),
        }
    }

    fn text_at<'t>(&self, text: &'t str, depth: u32) -> Cow<'t, str> {
        let Some(found) = Some(depth)
            .filter(|depth| *depth < NESTING_MAX)
            .and(json::embedded(text))
        else {
            return self.plain(text);
        };
        let inner = part(text, found.from, found.to);
        let redacted = match self.json_at(inner, depth + 1) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(inner) => {
                let mut whole = String::with_capacity(text.len());
                whole.push_str(part(text, 0, found.from));
                whole.push_str(&inner);
                whole.push_str(part(text, found.to, text.len()));
                Cow::Owned(whole)
            }
        };
        if inner.len() == text.trim().len() {
            return redacted;
        }
        // A name in front of it may say that all of it is a secret.
        match self.plain(&redacted) {
            Cow::Borrowed(_) => redacted,
            Cow::Owned(plain) => Cow::Owned(plain),
        }
    }

    /// `text`, which is no JSON, without its secrets.
    fn plain<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut found = Vec::new();
        patterns::pem(text, &mut found);
        self.words(text, &mut found);
        patterns::cards(text.as_bytes(), &mut found);
        patterns::users(text, &mut found);
        if self.emails == Emails::Redacted {
            patterns::emails(text.as_bytes(), &mut found);
        }
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        found.sort_unstable();
        let (mut out, mut done) = (String::with_capacity(text.len()), 0);
        for Range { from, to } in found {
            if to <= done {
                continue;
            }
            if from >= done {
                out.push_str(part(text, done, from));
                out.push_str(REDACTED);
            }
            done = to;
        }
        out.push_str(part(text, done, text.len()));
        if out == text {
            Cow::Borrowed(text)
        } else {
            Cow::Owned(out)
        }
    }
}

/// A part of `text`; what does not begin and end between letters is nothing.
fn part(text: &str, from: usize, to: usize) -> &str {
    text.get(from..to).unwrap_or_default()
}

/// Where the bytes end, from `from` on, that are of a kind.
fn run(bytes: &[u8], from: usize, is: impl Fn(u8) -> bool) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    from + rest.iter().take_while(|byte| is(**byte)).count()
}

#[cfg(test)]
mod tests;
