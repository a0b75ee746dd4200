//! Bodies about endpoints of a tenant's customers, and about what messages to them are signed with.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use tidegate_cbor::{Decode, Encode};

use super::access::{OVERLAP_MS, OVERLAP_MS_MAX};
use crate::error::Error;
use crate::event::JobState;
use crate::fields::Fields;
use crate::ids::EndpointId;
use crate::time::UnixMs;

/// What an endpoint can be told of: the `type` of the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum EndpointEvent {
    /// A job has succeeded.
    #[serde(rename = "job.succeeded")]
    Succeeded,
    /// A job has failed for good.
    #[serde(rename = "job.failed")]
    Failed,
    /// A job was cancelled.
    #[serde(rename = "job.cancelled")]
    Cancelled,
    /// A job has waited too long.
    #[serde(rename = "job.expired")]
    Expired,
}

impl EndpointEvent {
    /// Every event.
    pub const ALL: &'static [Self] = &[Self::Succeeded, Self::Failed, Self::Cancelled, Self::Expired];
    /// What a list of them looks like, for error messages.
    pub const EXPECTED: &'static str = "a list of `job.succeeded`, `job.failed`, `job.cancelled` and `job.expired`, each once at most, and one at least";

    /// The event of a job that has ended so; `None` for a state that is no end.
    pub fn of(state: JobState) -> Option<Self> {
        match state {
            JobState::Succeeded => Some(Self::Succeeded),
            JobState::Failed => Some(Self::Failed),
            JobState::Cancelled => Some(Self::Cancelled),
            JobState::Expired => Some(Self::Expired),
            JobState::Scheduled | JobState::Queued | JobState::Running | JobState::Retrying | JobState::Paused => None,
        }
    }
}

/// How messages to an endpoint are signed, by the names of Standard Webhooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Signature {
    /// HMAC-SHA256, with the tenant's secret.
    #[default]
    V1,
    /// Ed25519, with the tenant's private key: whoever verifies needs the public one alone.
    V1a,
}

/// An endpoint that is told of the ends of a tenant's jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Endpoint {
    /// Its id.
    pub endpoint_id: EndpointId,
    /// Where messages are sent.
    pub url: String,
    /// What people say of it; absent: nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it is told of.
    pub events: Vec<EndpointEvent>,
    /// A condition in CEL over `event` and `data`: of which of those events. Absent: of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// How messages are signed.
    #[serde(default)]
    pub signature: Signature,
    /// Whether messages are sent one at a time, in the order of the ends of each shard; one that fails holds back those behind it.
    #[serde(default)]
    pub ordered: bool,
    /// Whether messages are sent. What is not sent is kept, and can be replayed.
    pub enabled: bool,
    /// Since when it is disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_at: Option<UnixMs>,
    /// Why it is disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_reason: Option<String>,
    /// When it was made.
    pub created_at: UnixMs,
    /// When it was changed last; what was noted of it before says nothing about how it is now.
    pub updated_at: UnixMs,
}

/// The endpoints of a tenant, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EndpointList {
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// What came of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Replayed {
    /// So many messages are sent again.
    pub replayed: u64,
    /// Whether there are more: the same request goes on with them.
    pub more: bool,
}

/// What a tenant's endpoints verify signatures with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WebhookSecret {
    /// The secret in the form of Standard Webhooks: `whsec_` and base64.
    pub secret: String,
    /// The public key for endpoints whose messages are signed with Ed25519: `whpk_` and base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// The secret before the last rotation, while messages are signed with both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_secret: Option<String>,
    /// The public key before the last rotation, while messages are signed with both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_public_key: Option<String>,
    /// Until when messages are signed with both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_until: Option<UnixMs>,
}

/// That another secret signs from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WebhookSecretRotated {
    /// How often the secret was changed.
    pub generation: u64,
    /// Until when messages are signed with the one before as well; absent: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_until: Option<UnixMs>,
}

/// Reads the body of `POST /v1/admin/webhook-secret:rotate`, which may be empty: how long messages are signed with the old
/// secret as well. Milliseconds.
///
/// Errors: `VALIDATION_ERROR` with every fault.
pub fn parse_secret_rotation(text: &str) -> Result<u64, Error> {
    if text.trim().is_empty() {
        return Ok(OVERLAP_MS);
    }
    let mut fields = Fields::split(text)?;
    fields.refuse_others(&["overlap_ms"]);
    let expected = "milliseconds, at most 2592000000 (30 days)";
    let overlap_ms = fields.optional_number("overlap_ms", expected, 0, OVERLAP_MS_MAX);
    fields.finish("The secret cannot be rotated.")?;
    Ok(overlap_ms.unwrap_or(OVERLAP_MS))
}

/// Reads the body of `POST /v1/admin/endpoints/{id}:replay`, which may be empty: since when. `None`: all that is kept.
///
/// Errors: `VALIDATION_ERROR` with every fault.
pub fn parse_replay(text: &str) -> Result<Option<UnixMs>, Error> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let mut fields = Fields::split(text)?;
    fields.refuse_others(&["since"]);
    let since = fields.optional_text("since", "a time as RFC 3339 text", UnixMs::parse);
    fields.finish("The messages cannot be replayed.")?;
    Ok(since)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn pointers(error: &Error) -> Vec<&str> {
        error.details.iter().map(|fault| fault.pointer.as_str()).collect()
    }

    #[test]
    fn an_overlap_is_a_day_unless_said_otherwise_and_bounded() {
        assert_eq!(parse_secret_rotation(""), Ok(OVERLAP_MS));
        assert_eq!(parse_secret_rotation("{}"), Ok(OVERLAP_MS));
        assert_eq!(parse_secret_rotation(r#"{"overlap_ms":0}"#), Ok(0));
        for text in [r#"{"overlap_ms":2592000001}"#, r#"{"overlap_ms":"1d"}"#] {
            assert_eq!(
                pointers(&parse_secret_rotation(text).unwrap_err()),
                ["/overlap_ms"],
                "{text}"
            );
        }
        assert_eq!(
            pointers(&parse_secret_rotation(r#"{"overlap":1}"#).unwrap_err()),
            ["/overlap"]
        );
    }

    #[test]
    fn a_replay_says_since_when_or_nothing() {
        assert_eq!(parse_replay(" "), Ok(None));
        assert_eq!(
            parse_replay(r#"{"since":"1970-01-01T00:00:01.000Z"}"#),
            Ok(Some(UnixMs(1000)))
        );
        let error = parse_replay(r#"{"since":"yesterday","till":1}"#).unwrap_err();
        assert_eq!(pointers(&error), ["/till", "/since"]);
    }

    #[test]
    fn each_end_of_a_job_is_an_event() {
        let ends = JobState::ALL.iter().filter(|state| state.is_ended());
        for state in ends {
            let event = EndpointEvent::of(*state).unwrap();
            let text = serde_json::to_string(&event).unwrap();
            assert_eq!(text, alloc::format!("\"job.{}\"", state.as_str()));
        }
        assert_eq!(EndpointEvent::of(JobState::Retrying), None);
        assert_eq!(serde_json::to_string(&Signature::V1a).unwrap(), "\"v1a\"");
        assert!(EndpointEvent::EXPECTED.contains("job.expired"));
    }
}
