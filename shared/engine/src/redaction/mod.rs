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

/// What stands where JSON was while the text around it is looked at: an object, as far as patterns see.
const STAND_IN: &str = "{\u{10ffff}}";

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
        let is_deep = depth >= NESTING_MAX;
        let Some(found) = json::embedded(text).filter(|_| !is_deep) else {
            let plain = self.plain(text);
            // What is gone may be what kept the rest from being JSON.
            return match plain {
                Cow::Owned(plain) if !is_deep && json::embedded(&plain).is_some() => {
                    Cow::Owned(self.text_at(&plain, depth + 1).into_owned())
                }
                plain => plain,
            };
        };
        let inner = part(text, found.from, found.to);
        let redacted = self.json_at(inner, depth + 1);
        let (before, after) = (part(text, 0, found.from), part(text, found.to, text.len()));
        let together = |before: &str, after: &str| match [before, &redacted, after].concat() {
            same if same == text => Cow::Borrowed(text),
            whole => Cow::Owned(whole),
        };
        if before.trim().is_empty() && after.trim().is_empty() {
            return together(before, after);
        }
        // A name in front of it may say that all of it is a secret; what is in it is no name of what is behind.
        let around = [before, STAND_IN, after].concat();
        let around = self.plain(&around);
        match around.split_once(STAND_IN) {
            Some((before, after)) => together(before, after),
            None => Cow::Owned(self.text_at(&around, depth + 1).into_owned()),
        }
    }

    /// `text`, which is no JSON, without its secrets.
    ///
    /// The patterns look one after the other, each at what those before it have left. That is the same when done twice, because
    /// no pattern takes out what ended a match of one before it: a range begins and ends between words, and neither a card nor an
    /// address has a sign in it that ends a value, a text in quotes, or the user of a URL.
    fn plain<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let all: [fn(&Self, &str, &mut Vec<Range>); 5] = [
            |_, text, found| patterns::pem(text, found),
            Self::words,
            |_, text, found| patterns::cards(text.as_bytes(), found),
            |_, text, found| patterns::users(text, found),
            |redactor, text, found| {
                if redactor.emails == Emails::Redacted {
                    patterns::emails(text.as_bytes(), found);
                }
            },
        ];
        let (mut text, mut found) = (Cow::Borrowed(text), Vec::new());
        for pattern in all {
            pattern(self, &text, &mut found);
            if found.is_empty() {
                continue;
            }
            found.sort_unstable();
            let left = without(&text, &found);
            if left != text {
                text = Cow::Owned(left);
            }
            found.clear();
        }
        text
    }
}

/// `text` without these parts of it, which are in order and may overlap.
fn without(text: &str, found: &[Range]) -> String {
    let (mut out, mut done) = (String::with_capacity(text.len()), 0);
    for Range { from, to } in found {
        if *to <= done {
            continue;
        }
        if *from >= done {
            out.push_str(part(text, done, *from));
            out.push_str(REDACTED);
        }
        done = *to;
    }
    out.push_str(part(text, done, text.len()));
    out
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
