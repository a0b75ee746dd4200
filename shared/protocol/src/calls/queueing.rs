//! How a job waits for its place: its priority, whose share of the places it takes, and the limits that it counts under.
//!
//! Frozen when the job is accepted, but for the rules of its limits: of those the newest that an object was told of
//! holds for all jobs, so that a limit which is lowered holds back work that waits already.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use tidegate_cbor::{Decode, Encode, Reader};

use super::spread::Place;
use crate::error::Error;
use crate::fault::Fault;
use crate::fields::Fields;
use crate::ids::{ActionName, UserId};
use crate::time::UnixMs;

/// Bytes of a key at most.
const KEY_BYTES_MAX: usize = 1024;

/// How soon a job is wanted, compared with others that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before the others.
    High,
    /// As it comes.
    #[default]
    Normal,
    /// When there is room.
    Low,
}

impl Priority {
    /// Every priority, the most urgent first.
    pub const ALL: &'static [Self] = &[Self::High, Self::Normal, Self::Low];

    /// The priority's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// The priority of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|priority| priority.as_str() == text)
    }
}

/// Whose share of a tenant's places a job takes. The places are divided between the keys that wait, by weight.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Encode, Decode)]
pub struct Share {
    /// The key; the same for all jobs of a tenant that does not divide its places.
    pub key: String,
    /// How many jobs of this key start for one of a key with the weight 1.
    pub weight: u32,
}

/// What a limit allows for each of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Jobs that run at once.
    Concurrency {
        /// At most so many.
        max: u32,
    },
    /// Starts over time, by the generic cell rate algorithm (GCRA, ITU-T I.371).
    Rate {
        /// So many units …
        units: u32,
        /// … in this time. Milliseconds.
        per_ms: u64,
        /// Units that may start at once after a pause.
        burst: u32,
    },
}

/// What becomes of a job for which a limit has no room as it is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// It waits.
    #[default]
    Wait,
    /// It is refused.
    Refuse,
    /// The oldest jobs that run under the limit are cancelled to make room.
    Replace,
}

/// A limit that a job counts under.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Counted {
    /// The limit's name in the composition.
    pub limit: String,
    /// The key that the job's own input names; empty for a limit without keys.
    pub key: String,
    /// What the limit allows in the whole tenant.
    pub rule: Rule,
    /// Units that the job takes of a rate. A running job takes one place, always.
    pub cost: u32,
    /// What becomes of the job where there is no room.
    pub when_full: WhenFull,
}

/// How a job waits for its place.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Queueing {
    /// How soon it is wanted.
    pub priority: Priority,
    /// Whose share it takes; `None`: the tenant does not divide its places.
    pub share: Option<Share>,
    /// The limits, all of which must have room.
    pub limits: Vec<Counted>,
    /// Jobs of this action that may wait at once; `None`: only the object's own bound.
    pub waiting_max: Option<u32>,
    /// Where the object stands that is asked, as far as the one who asks knows. Rules and bounds are those of the whole
    /// tenant: the object takes its part.
    #[serde(default)]
    pub place: Place,
    /// What else may wait at once.
    #[serde(default, skip_serializing_if = "Bounds::are_none")]
    pub bounds: Bounds,
}

/// What may wait at once in the whole tenant, beyond the bound on jobs of one action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Bounds {
    /// Bytes of the inputs of this action's jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Jobs of all actions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<u32>,
    /// Bytes of the inputs of all actions' jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_bytes: Option<u64>,
}

impl Bounds {
    /// Whether there is none.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Which actions are meant: a name, in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Encode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("pattern" = "^[A-Za-z0-9._*-]{1,128}$")))]
#[serde(transparent)]
pub struct ActionPattern(String);

impl ActionPattern {
    /// What a pattern looks like, for error messages.
    pub const EXPECTED: &'static str = "the name of an action, with `*` for any characters";

    /// Takes `text` where it has the form of a pattern.
    pub fn parse(text: &str) -> Option<Self> {
        // A star stands where a letter could: what is left must be a name.
        ActionName::parse(&text.replace('*', "x"))?;
        Some(Self(text.into()))
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `action` is meant. Takes a time proportional to the two lengths' product at most, both being short.
    pub fn matches(&self, action: &ActionName) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = action.as_str().strip_prefix(parts.next().unwrap_or_default()) else {
            return false;
        };
        let mut last = None;
        for part in parts {
            // Every part but the last is taken where it first stands: a later place leaves less for the others.
            if let Some(part) = last.replace(part) {
                match rest.find(part) {
                    Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
                    None => return false,
                }
            }
        }
        match last {
            None => rest.is_empty(),
            Some(last) => rest.ends_with(last),
        }
    }
}

impl Decode for ActionPattern {
    fn blank() -> Self {
        Self(String::new())
    }

    fn decode(&mut self, reader: &mut Reader<'_>) {
        match Self::parse(reader.text()) {
            Some(pattern) => *self = pattern,
            None => reader.fault(Self::EXPECTED),
        }
    }
}

impl<'de> Deserialize<'de> for ActionPattern {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(Self::EXPECTED))
    }
}

/// What is held back while it is paused. What runs goes on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PauseScope {
    /// Every job of the tenant.
    Tenant,
    /// The jobs of these actions.
    Action(ActionPattern),
    /// The jobs that take the share of this key.
    Key(String),
}

impl PauseScope {
    /// Reads what is meant: a JSON object with one of `tenant` (true), `action` (a pattern) and `key`.
    ///
    /// Errors: `VALIDATION_ERROR` with every fault.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut fields = Fields::split(text)?;
        fields.refuse_others(&["tenant", "action", "key"]);
        if let Some(false) = fields.optional::<bool>("tenant", "true") {
            fields.fault("tenant", "true", "false");
        }
        let action = fields.optional_text("action", ActionPattern::EXPECTED, ActionPattern::parse);
        let key = fields.optional_text("key", "a key of at most 1024 bytes", |text| {
            (text.len() <= KEY_BYTES_MAX).then(|| String::from(text))
        });
        let given = ["tenant", "action", "key"]
            .iter()
            .filter(|name| fields.raw(name).is_some())
            .count();
        if given != 1 {
            let got = if given == 0 { "none of them" } else { "several" };
            fields
                .faults
                .push(Fault::new("", "one of `tenant`, `action` and `key`", got));
        }
        fields.finish("The body does not say which jobs are meant.")?;
        Ok(match (action, key) {
            (Some(action), _) => Self::Action(action),
            (None, Some(key)) => Self::Key(key),
            (None, None) => Self::Tenant,
        })
    }
}

/// A pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Pause {
    /// What is held back.
    pub scope: PauseScope,
    /// Who did it.
    pub by: UserId,
    /// Since when.
    pub since: UnixMs,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pause_says_what_it_means_or_is_told_all_that_is_wrong() {
        for (text, scope) in [
            (r#"{"tenant":true}"#, PauseScope::Tenant),
            (r#"{"key":"ann"}"#, PauseScope::Key("ann".into())),
            (
                r#"{"action":"mail.*"}"#,
                PauseScope::Action(ActionPattern::parse("mail.*").unwrap()),
            ),
        ] {
            assert_eq!(PauseScope::parse(text), Ok(scope));
        }
        for (text, faults) in [
            ("{}", 1),
            (r#"{"tenant":false}"#, 1),
            (r#"{"tenant":true,"key":"k"}"#, 1),
            (r#"{"action":"a b","keys":"k"}"#, 2),
            (r#"{"key":5}"#, 1),
        ] {
            assert_eq!(PauseScope::parse(text).unwrap_err().details.len(), faults, "{text}");
        }
    }

    fn matches(pattern: &str, action: &str) -> bool {
        ActionPattern::parse(pattern)
            .unwrap()
            .matches(&ActionName::parse(action).unwrap())
    }

    #[test]
    fn a_star_stands_for_any_characters_and_nothing_else_does() {
        for (pattern, action, expected) in [
            ("report.daily", "report.daily", true),
            ("report.daily", "report.daily2", false),
            ("report.*", "report.daily", true),
            ("report.*", "reports", false),
            ("*", "anything", true),
            ("*.daily", "report.daily", true),
            ("*.daily", "report.daily.x", false),
            ("r*t.*y", "report.daily", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*b*b*", "abcb", true),
            ("*b*b*", "abc", false),
            ("**", "a", true),
        ] {
            assert_eq!(matches(pattern, action), expected, "{pattern} and {action}");
        }
        for wrong in ["", "a b", "a:b", "é"] {
            assert!(ActionPattern::parse(wrong).is_none(), "{wrong}");
        }
    }

    /// The plain definition: the first star takes none, one, two … characters.
    fn by_definition(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|taken| by_definition(rest, &text[taken..])),
            Some((byte, rest)) => text.first() == Some(byte) && by_definition(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_its_definition(pattern in "[ab*]{1,6}", action in "[ab]{1,8}") {
            prop_assert_eq!(matches(&pattern, &action), by_definition(pattern.as_bytes(), action.as_bytes()));
        }
    }
}
