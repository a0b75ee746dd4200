//! The section `channels` of a composition: who may do what with which channels, and what is kept of them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde_json::Value;
use tidegate_protocol::calls::channel::{Keep, Medium};
use tidegate_protocol::ids::ChannelName;
use tidegate_protocol::{Fault, SortedMap};

use super::compile::read_scopes;
use super::defaults::{
    CHANNELS_MAX, EPHEMERAL_AGE_MS, EPHEMERAL_BYTES, EPHEMERAL_MESSAGES, HISTORY_AGE_MS, HISTORY_AGE_MS_RANGE,
    HISTORY_BYTES, HISTORY_BYTES_RANGE, HISTORY_MESSAGES, HISTORY_MESSAGES_RANGE, PRESENCE_GRACE_MS,
    PRESENCE_GRACE_MS_RANGE,
};
use super::object::{Object, describe, note};
use super::reporting::parse_size;
use crate::expression::{Expression, Type};
use crate::policies::CHANNEL_VARIABLES;

/// The namespace that means every channel which no other one means.
const ALL_OTHERS: &str = "*";
/// The namespaces of the channels that the deployment itself fills.
pub const OWN_NAMESPACES: [&str; 3] = ["job", "user", "tenant"];
const NAMESPACE: &str = "a namespace: 1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-', or `*` for all others";
const WHO: &str = "true, false, or an object with `scopes` or `when`";

/// Who may do something with a channel.
#[derive(Debug, Clone, PartialEq)]
pub enum Who {
    /// No user, but for those with the scope of the server.
    Nobody,
    /// Every user of the tenant.
    Anybody,
    /// Those who have all the scopes, and for whom the condition holds.
    Those {
        /// The scopes.
        scopes: Vec<String>,
        /// The condition.
        when: Option<Arc<Expression>>,
    },
}

/// What is sent to a socket that begins to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnSubscribe {
    /// What it missed, where it says where it was.
    #[default]
    Missed,
    /// The newest message too, where it says nothing, or where what it missed is no longer kept.
    Newest,
}

/// The rules of a namespace.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelRules {
    /// Who may follow its channels and read what is kept of them.
    pub subscribe: Who,
    /// Who may publish in them.
    pub publish: Who,
    /// Who may see who is there, and be there.
    pub presence: Who,
    /// How long a member whose sockets are gone is still there. Milliseconds.
    pub presence_grace_ms: u64,
    /// How much of their logs is kept.
    pub keep: Keep,
    /// What is sent to whom begins to follow.
    pub on_subscribe: OnSubscribe,
}

/// The rules of all namespaces.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Channels(SortedMap<String, Arc<ChannelRules>>);

impl Channels {
    /// The rules of a channel; `None` where the composition knows no such namespace.
    pub fn of(&self, channel: &ChannelName) -> Option<&Arc<ChannelRules>> {
        let namespace = channel.namespace();
        if OWN_NAMESPACES.contains(&namespace) {
            return None;
        }
        self.0.get(namespace).or_else(|| self.0.get(ALL_OTHERS))
    }

    /// Whether every channel has rules.
    pub(super) fn has_all_others(&self) -> bool {
        self.0.contains_key(ALL_OTHERS)
    }

    /// The names of the namespaces.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Reads the section. What is wrong is noted.
    pub(super) fn read(value: &Value, pointer: &str, faults: &mut Vec<Fault>) -> Self {
        let mut channels = Self::default();
        let Some(fields) = Object::read(value, pointer, faults) else {
            return channels;
        };
        for (index, (name, value, pointer)) in fields.entries().enumerate() {
            if index == CHANNELS_MAX {
                note(faults, || {
                    Fault::new(pointer, format!("at most {CHANNELS_MAX} namespaces"), "more of them")
                });
                break;
            }
            if OWN_NAMESPACES.contains(&name) {
                let expected =
                    "another name: what happens to jobs is told in the channels of `job`, `user` and `tenant`";
                note(faults, || Fault::new(pointer.as_str(), expected, name));
            } else if !is_namespace(name) {
                note(faults, || Fault::new(pointer.as_str(), NAMESPACE, name));
            }
            if let Some(fields) = Object::read(value, &pointer, faults) {
                channels.0.insert(name.to_string(), Arc::new(read_rules(fields)));
            }
        }
        channels
    }
}

fn is_namespace(name: &str) -> bool {
    name == ALL_OTHERS || (name.len() <= 64 && !name.contains(':') && ChannelName::parse(name).is_some())
}

fn read_rules(mut fields: Object<'_, '_>) -> ChannelRules {
    fields.text("description", "a text", Some);
    let subscribe = read_who(&mut fields, "subscribe", Who::Anybody);
    let publish = read_who(&mut fields, "publish", Who::Nobody);
    let presence = read_who(&mut fields, "presence", Who::Nobody);
    let presence_grace_ms = fields.duration("presence_grace", PRESENCE_GRACE_MS_RANGE);
    let ephemeral = fields.flag("ephemeral").unwrap_or(false);
    let mut keep = Keep {
        messages: HISTORY_MESSAGES,
        age_ms: HISTORY_AGE_MS,
        bytes: HISTORY_BYTES,
        medium: Medium::Rows,
    };
    if ephemeral {
        keep = Keep {
            messages: EPHEMERAL_MESSAGES,
            age_ms: EPHEMERAL_AGE_MS,
            bytes: EPHEMERAL_BYTES,
            medium: Medium::Memory,
        };
    }
    if let Some(value) = fields.take("history") {
        if ephemeral {
            fields.fault(
                "history",
                "no history where the channels are ephemeral",
                &describe(value),
            );
        }
        read_history(value, &fields.at("history"), &mut keep, fields.faults);
    }
    let on_subscribe = match fields.flag("cache") {
        Some(true) => OnSubscribe::Newest,
        Some(false) | None => OnSubscribe::Missed,
    };
    fields.finish();
    ChannelRules {
        subscribe,
        publish,
        presence,
        presence_grace_ms: presence_grace_ms.unwrap_or(PRESENCE_GRACE_MS),
        keep,
        on_subscribe,
    }
}

fn read_history(value: &Value, pointer: &str, keep: &mut Keep, faults: &mut Vec<Fault>) {
    let Some(mut fields) = Object::read(value, pointer, faults) else {
        return;
    };
    keep.messages = fields
        .number("messages", HISTORY_MESSAGES_RANGE)
        .unwrap_or(keep.messages);
    keep.age_ms = fields.duration("age", HISTORY_AGE_MS_RANGE).unwrap_or(keep.age_ms);
    if let Some(value) = fields.take("bytes") {
        match value
            .as_str()
            .and_then(parse_size)
            .filter(|bytes| HISTORY_BYTES_RANGE.contains(bytes))
        {
            Some(bytes) => keep.bytes = bytes,
            None => {
                let (from, to) = (HISTORY_BYTES_RANGE.start() >> 10, HISTORY_BYTES_RANGE.end() >> 20);
                fields.fault("bytes", format!("a size from {from}KiB to {to}MiB"), &describe(value));
            }
        }
    }
    fields.finish();
}

fn read_who(fields: &mut Object<'_, '_>, name: &'static str, default: Who) -> Who {
    let Some(value) = fields.take(name) else {
        return default;
    };
    match value {
        Value::Bool(true) => Who::Anybody,
        Value::Bool(false) => Who::Nobody,
        Value::Object(inner) if !inner.is_empty() => {
            let pointer = fields.at(name);
            read_those(value, &pointer, fields.faults).unwrap_or(Who::Nobody)
        }
        other => {
            fields.fault(name, WHO, &describe(other));
            Who::Nobody
        }
    }
}

fn read_those(value: &Value, pointer: &str, faults: &mut Vec<Fault>) -> Option<Who> {
    let mut fields = Object::read(value, pointer, faults)?;
    let scopes = match fields.take("scopes") {
        Some(value) => read_scopes(value, &fields.at("scopes"), fields.faults),
        None => Vec::new(),
    };
    let when = fields.text("when", "a condition, an expression in CEL, as a text", Some);
    let when = when.and_then(|text| match Expression::compile(text, CHANNEL_VARIABLES, Type::Bool) {
        Ok(expression) => Some(Arc::new(expression)),
        Err(flaws) => {
            let pointer = fields.at("when");
            for flaw in flaws {
                note(fields.faults, || flaw.fault(&pointer));
            }
            None
        }
    });
    fields.finish();
    Some(Who::Those { scopes, when })
}
