//! What makes several requests for an action one job: its fields `idempotency` and `dedupe`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;

use serde_json::Value;
use tidegate_protocol::calls::once::{Dedupe, DedupeRule, KeyLife, Once};
use tidegate_protocol::frames::Start;
use tidegate_protocol::time::format_duration;
use tidegate_protocol::{Error, Fault};

use super::defaults::{
    DEDUPE_MAX_WAIT_MS, DEDUPE_WAIT_MS, DEDUPE_WAIT_MS_RANGE, DEDUPE_WINDOW_MS, DEDUPE_WINDOW_MS_RANGE,
    IDEMPOTENCY_TTL_MS_RANGE,
};
use super::manifest::Mode;
use super::object::Object;
use super::queue::{Key, read_key};
use super::request::Input;

/// What makes several requests for an action one job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OnceRules {
    /// How long the client's keys live, where that is not as long as their jobs.
    pub key_life: Option<KeyLife>,
    /// How requests are told apart by their own values.
    pub dedupe: Option<DedupeRules>,
}

/// How requests are told apart by their own values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DedupeRules {
    key: Key,
    rule: DedupeRule,
}

impl OnceRules {
    /// What makes other requests the same job as this one. `keyed` tells whether it has a key of the client's, and
    /// `start` when it is to start.
    ///
    /// Errors: `VALIDATION_ERROR` for a delay that `dedupe` cannot keep.
    pub fn of(&self, input: &Input<'_>, keyed: bool, start: Start) -> Result<Option<Once>, Error> {
        let key_life = self.key_life.filter(|_| keyed);
        let Some(dedupe) = &self.dedupe else {
            return Ok(key_life.map(Once::Key));
        };
        let delay = match start {
            Start::Now => None,
            Start::After(_) => Some("/delay_ms"),
            Start::At(_) => Some("/run_at"),
        };
        if let (Some(pointer), DedupeRule::KeepLast { .. }) = (delay, dedupe.rule) {
            let expected = "no time of its own: the action's `dedupe` says when it starts";
            let fault = Fault::new(pointer, expected, "a later start");
            return Err(Error::invalid("The action's `dedupe` cannot keep this.", vec![fault]));
        }
        Ok(Some(Once::Dedupe(Dedupe {
            key: dedupe.key_of(input),
            rule: dedupe.rule,
            key_life,
        })))
    }
}

impl DedupeRules {
    /// Requests of the same value at `path` are the same; `None` for what is no path.
    pub fn by(path: &str, rule: DedupeRule) -> Option<Self> {
        let key = Key::at(path)?;
        Some(Self { key, rule })
    }

    /// The key of a request. The user is part of it: no one is given another's job by sending what they sent.
    fn key_of(&self, input: &Input<'_>) -> String {
        Value::from([input.user.as_str(), &self.key.of(input)].as_slice()).to_string()
    }
}

/// Reads both fields. What is wrong has been noted.
pub(super) fn read_once(fields: &mut Object<'_, '_>, mode: Option<Mode>) -> OnceRules {
    let key_life = fields.take("idempotency").and_then(|value| {
        let pointer = fields.at("idempotency");
        let mut fields = Object::read(value, &pointer, fields.faults)?;
        let ttl_ms = fields.duration("ttl", IDEMPOTENCY_TTL_MS_RANGE);
        let failed_frees = fields.one_of("failed", &["keep", "free"]) == Some("free");
        fields.finish();
        Some(KeyLife { ttl_ms, failed_frees })
    });
    let dedupe = fields.take("dedupe").and_then(|value| {
        let pointer = fields.at("dedupe");
        read_dedupe(Object::read(value, &pointer, fields.faults)?, mode)
    });
    OnceRules { key_life, dedupe }
}

fn read_dedupe(mut fields: Object<'_, '_>, mode: Option<Mode>) -> Option<DedupeRules> {
    fields.require("key", "the path to what requests are told apart by");
    let key = read_key(&mut fields);
    fields.require("mode", "what becomes of a request whose key is taken");
    let window_ms = fields.duration("window", DEDUPE_WINDOW_MS_RANGE);
    let wait_ms = fields.duration("wait", DEDUPE_WAIT_MS_RANGE);
    let max_wait_ms = fields.duration("max_wait", DEDUPE_WAIT_MS_RANGE);
    let name = fields.one_of("mode", &["window", "until_ended", "replace_waiting", "keep_last"]);
    let own: &[(&str, &str)] = &[("window", "window"), ("wait", "keep_last"), ("max_wait", "keep_last")];
    for (field, of) in own {
        if let Some(name) = name.filter(|name| name != of && fields.has(field)) {
            fields.fault(field, format!("`{field}` only where the mode is `{of}`"), name);
        }
    }
    let rule = name.map(|name| match name {
        "window" => DedupeRule::Window {
            ms: window_ms.unwrap_or(DEDUPE_WINDOW_MS),
        },
        "until_ended" => DedupeRule::UntilEnded,
        "replace_waiting" => DedupeRule::ReplaceWaiting,
        _ => {
            let wait_ms = wait_ms.unwrap_or(DEDUPE_WAIT_MS);
            let max_wait_ms = max_wait_ms.unwrap_or(DEDUPE_MAX_WAIT_MS.max(wait_ms));
            DedupeRule::KeepLast { wait_ms, max_wait_ms }
        }
    });
    if let Some(DedupeRule::KeepLast { wait_ms, max_wait_ms }) = rule {
        if max_wait_ms < wait_ms {
            let expected = format!("a duration not below `wait`, {}", format_duration(wait_ms));
            fields.fault("max_wait", expected, &format_duration(max_wait_ms));
        }
        if let Some(mode @ (Mode::Sync | Mode::Auto)) = mode {
            let expected = "`keep_last` only where the mode is `async`: its jobs begin later";
            fields.fault("mode", expected, mode.as_str());
        }
    }
    fields.finish();
    Some(DedupeRules { key, rule: rule? })
}
