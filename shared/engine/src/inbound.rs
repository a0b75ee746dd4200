//! Webhooks that come in: what a source signs and where it says so, what of it is believed, and which job it asks for.
//!
//! What is signed is told from the headers and the body as they came; whether the signature is right, is found by whoever knows
//! the secret. Nothing here is believed before that but the name of a header. One event is one job: the job's idempotency key is
//! made of what the signature covers, so that neither a sender that tries again nor anybody who has overheard it makes another.

mod event;
mod presets;
mod scheme;
#[cfg(test)]
mod tests;

pub use event::{Came, Taken, take};
pub use presets::{PRESETS, preset};
pub use scheme::{Algorithm, Encoding, Part, Place, Scheme, SecretForm, Signed, Unsigned, content_of, signed};

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use tidegate_protocol::SortedSet;
use tidegate_protocol::ids::{ActionName, SecretName, UserId};

/// How old, or how far ahead, what says its time may be. Milliseconds. What Standard Webhooks, Stripe and Slack ask for.
pub const TOLERANCE_MS: u64 = 5 * 60_000;

/// A source of webhooks, as the composition has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Webhook {
    /// The action that each of its events asks for.
    pub action: ActionName,
    /// The scopes that the action takes: the composition gives them to the source.
    pub scopes: SortedSet<String>,
    /// Whose the jobs are.
    pub user: UserId,
    /// The secret that the source signs with.
    pub secret: SecretName,
    /// How it signs.
    pub scheme: Scheme,
    /// How old what it signs may be, where it says so. Milliseconds.
    pub tolerance_ms: u64,
    /// The types of events that become jobs, each perhaps with `*` for any characters. Empty: all.
    pub events: Vec<String>,
    /// Headers whose values the job is given, in lower case.
    pub headers: Vec<String>,
}

impl Webhook {
    /// Whether events of this type become jobs.
    pub fn wants(&self, kind: Option<&str>) -> bool {
        self.events.is_empty()
            || self
                .events
                .iter()
                .any(|pattern| fits(pattern, kind.unwrap_or_default()))
    }
}

/// Whether `text` is what `pattern` means, in which `*` stands for any characters.
fn fits(pattern: &str, text: &str) -> bool {
    let (Some((first, rest)), length) = (pattern.split_once('*'), pattern.len()) else {
        return pattern == text;
    };
    let Some(mut left) = text.strip_prefix(first).filter(|_| length <= PATTERN_BYTES_MAX) else {
        return false;
    };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        // The last part ends the text. Every other is taken where it first stands: a later place leaves less for what follows.
        if parts.peek().is_none() {
            return left.ends_with(part);
        }
        match left.find(part) {
            Some(at) => left = left.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    true
}

/// Bytes of a type of events at most, and of a pattern of them.
pub const PATTERN_BYTES_MAX: usize = 128;

/// A fixed text, or one of the composition's.
pub type Text = Cow<'static, str>;
