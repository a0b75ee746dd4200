//! Where in a request a value stands: `user`, `payload.customer.id`, `payload.items[0]`, `metadata["region"]`.
//!
//! A path is a member expression of CEL (the Common Expression Language) and means the same there, so that full
//! expressions can take its place without changing what compositions say.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::Value;
use tidegate_protocol::limits::ID_CHARS_MAX;

use sha2::{Digest, Sha256};

use super::object::child;
use super::request::Input;
use crate::digest::short;

/// What a path looks like, for error messages.
pub const EXPECTED: &str = "a path such as `user`, `api_key`, `ip`, `action`, `channel`, `payload.customer`, `payload.items[0].id` or `metadata[\"region\"]`";
/// Steps of a path at most.
const STEPS_MAX: usize = 16;
/// Bytes of a path at most.
const BYTES_MAX: usize = 256;

/// The value that a path begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Root {
    User,
    ApiKey,
    Ip,
    Action,
    Channel,
    Payload,
    Metadata,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    Item(usize),
}

/// A path that has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    root: Root,
    steps: Vec<Step>,
}

impl Path {
    /// Reads a path. `None` where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > BYTES_MAX {
            return None;
        }
        let (root, mut rest) = identifier(text)?;
        let root = match root {
            "user" => Root::User,
            "api_key" => Root::ApiKey,
            "ip" => Root::Ip,
            "action" => Root::Action,
            "channel" => Root::Channel,
            "payload" => Root::Payload,
            "metadata" => Root::Metadata,
            _ => return None,
        };
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = read_step(rest)?;
            steps.push(step);
            rest = after;
        }
        let scalar = matches!(
            root,
            Root::User | Root::ApiKey | Root::Ip | Root::Action | Root::Channel
        );
        let whole = root == Root::Metadata && steps.is_empty();
        if steps.len() > STEPS_MAX || (scalar && !steps.is_empty()) || whole {
            return None;
        }
        Some(Self { root, steps })
    }

    /// The pointer of what it leads to, in the request.
    pub fn pointer(&self) -> String {
        let root = match self.root {
            Root::User => "/user",
            Root::ApiKey => "/api_key",
            Root::Ip => "/ip",
            Root::Action => "/action",
            Root::Channel => "/channel",
            Root::Payload => "/payload",
            Root::Metadata => "/metadata",
        };
        self.steps.iter().fold(root.to_string(), |pointer, step| match step {
            Step::Field(name) => child(&pointer, name),
            Step::Item(index) => child(&pointer, &index.to_string()),
        })
    }

    /// The value there; `null` where there is none.
    fn find<'a>(&self, input: &'a Input<'_>) -> Found<'a> {
        match self.root {
            Root::User => Found::Text(input.user.as_str()),
            Root::ApiKey => Found::optional(input.api_key),
            Root::Ip => Found::optional(input.ip),
            Root::Action => Found::Text(input.action.as_str()),
            Root::Channel => Found::optional(input.channel),
            Root::Metadata => match self.steps.as_slice() {
                [Step::Field(name)] => input
                    .metadata
                    .get(name)
                    .map_or(Found::Value(&Value::Null), |value| Found::Text(value)),
                _ => Found::Value(&Value::Null),
            },
            Root::Payload => {
                let found = self.steps.iter().try_fold(input.payload(), |value, step| match step {
                    Step::Field(name) => value.get(name),
                    Step::Item(index) => value.get(index),
                });
                match found.unwrap_or(&Value::Null) {
                    Value::String(text) => Found::Text(text),
                    value => Found::Value(value),
                }
            }
        }
    }

    /// The value there, as a key: text as it is, anything else as JSON, what is too long by its hash. Where there is
    /// nothing, `null`: jobs without the value share a key.
    pub fn key(&self, input: &Input<'_>) -> String {
        let text = match self.find(input) {
            Found::Text(text) => text.to_string(),
            Found::Value(value) => super::document::canonical(value),
        };
        if text.chars().count() <= ID_CHARS_MAX {
            return text;
        }
        alloc::format!("sha256:{}", short(Sha256::new().chain_update(text)))
    }

    /// The value there, where it is a whole number from 1 that fits.
    pub fn number(&self, input: &Input<'_>) -> Option<u32> {
        match self.find(input) {
            Found::Text(_) => None,
            Found::Value(value) => value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0),
        }
    }
}

enum Found<'a> {
    Text(&'a str),
    Value(&'a Value),
}

impl<'a> Found<'a> {
    fn optional(text: Option<&'a str>) -> Self {
        text.map_or(Self::Value(&Value::Null), Self::Text)
    }
}

/// The identifier that `text` begins with, and what follows it.
fn identifier(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end)?;
    let first = name.chars().next()?;
    (!first.is_ascii_digit()).then_some((name, rest))
}

fn read_step(text: &str) -> Option<(Step, &str)> {
    if let Some(rest) = text.strip_prefix('.') {
        let (name, rest) = identifier(rest)?;
        return Some((Step::Field(name.to_string()), rest));
    }
    let rest = text.strip_prefix('[')?;
    if rest.starts_with('"') {
        // A JSON string: the reader says where it ends.
        let mut reader = serde_json::Deserializer::from_str(rest).into_iter::<String>();
        let name = reader.next()?.ok()?;
        let rest = rest.get(reader.byte_offset()..)?.strip_prefix(']')?;
        return Some((Step::Field(name), rest));
    }
    let (digits, rest) = rest.split_once(']')?;
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    Some((Step::Item(plain.then(|| digits.parse().ok())??), rest))
}
