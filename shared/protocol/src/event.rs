//! What happens to a job, as it is stored and as every client sees it, on the socket and over HTTP alike.

use alloc::string::String;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidegate_cbor::{Decode, Encode};

use crate::error::Error;
use crate::ids::{Seq, StreamName};
use crate::time::UnixMs;

/// JSON that is passed through as it came: checked, never rebuilt.
pub type Json = alloc::boxed::Box<RawValue>;

/// The state of a job. The graph of transitions belongs to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Not before its time.
    Scheduled,
    /// Waits for a free place.
    Queued,
    /// Waits for its next attempt.
    Retrying,
    /// An attempt holds the lease.
    Running,
    /// Ended with a result.
    Succeeded,
    /// Ended with an error; nothing more is tried.
    Failed,
    /// Ended by a cancel.
    Cancelled,
    /// Ended because it waited longer than it may.
    Expired,
    /// Held back until someone resumes it: it then waits where it waited.
    Paused,
}

impl JobState {
    /// Whether the job has ended. An ended job stays ended.
    pub const fn is_ended(self) -> bool {
        match self {
            Self::Scheduled | Self::Queued | Self::Retrying | Self::Running | Self::Paused => false,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Expired => true,
        }
    }

    /// Whether the job waits to be claimed.
    pub const fn is_waiting(self) -> bool {
        match self {
            Self::Scheduled | Self::Queued | Self::Retrying => true,
            Self::Running | Self::Succeeded | Self::Failed | Self::Cancelled | Self::Expired | Self::Paused => false,
        }
    }

    /// The state's name in frames and filters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Retrying => "retrying",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Paused => "paused",
        }
    }

    /// Every state.
    pub const ALL: &'static [Self] = &[
        Self::Scheduled,
        Self::Queued,
        Self::Retrying,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
        Self::Paused,
    ];
}

/// How far an attempt is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Progress {
    /// 0 to 100. Never goes backwards within an attempt.
    pub percentage: f64,
    /// One line for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Facts for a program, as a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<JsonText>,
}

/// JSON kept as text. In JSON it stands as what it is; between the parts it is a string.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct JsonText(String);

impl JsonText {
    /// Takes text that is JSON, no deeper than the protocol allows.
    pub fn parse(text: &str) -> Option<Self> {
        if crate::fields::depth(text.as_bytes()) > crate::limits::JSON_DEPTH_MAX {
            return None;
        }
        serde_json::from_str::<&RawValue>(text)
            .ok()
            .map(|raw| Self(raw.get().into()))
    }

    /// Text that was JSON when it was stored.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// `value` as JSON. `None` where it cannot be written as JSON.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Option<Self> {
        serde_json::to_string(value).ok().map(Self)
    }

    /// The JSON value `null`.
    pub fn null() -> Self {
        Self("null".into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&RawValue> for JsonText {
    fn from(raw: &RawValue) -> Self {
        Self(raw.get().into())
    }
}

impl Serialize for JsonText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
            raw.serialize(serializer)
        } else {
            serializer.serialize_str(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            Json::deserialize(deserializer).map(|raw| Self(raw.get().into()))
        } else {
            String::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for JsonText {
    fn schema_name() -> alloc::borrow::Cow<'static, str> {
        "Json".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "description": "Any JSON value" })
    }
}

/// A value that is small enough to stand here, or the key of the object that holds it (a claim check).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// The value itself.
    Inline(JsonText),
    /// The value lies in object storage.
    Stored {
        /// The full key in object storage.
        key: String,
        /// Its length.
        bytes: u64,
    },
}

/// Something that happened to a job.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Event {
    /// Its place in the job's history.
    pub seq: Seq,
    /// The attempt it belongs to, from 1; 0 before the first.
    pub attempt: u32,
    /// When it was stored; of the start of an attempt, when that began.
    pub at: UnixMs,
    /// What happened.
    pub what: Happening,
}

/// What happened to a job.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Happening {
    /// An attempt got further.
    Progress(Progress),
    /// An attempt failed and another will follow.
    Retrying {
        /// Not before then.
        next_attempt_at: UnixMs,
        /// Why the attempt failed.
        error: Error,
    },
    /// The job ended with a result.
    Completed {
        /// The result, or where it lies.
        result: Payload,
    },
    /// The job ended without a result: failed, cancelled or expired, as the code says.
    Failed {
        /// Why.
        error: Error,
    },
    /// An attempt wrote text.
    Output(Output),
    /// An attempt began, at the event's own moment. Only in the history of a job of which each event is kept.
    Started,
}

/// Text that an attempt wrote to one of its job's streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Output {
    /// The stream.
    pub stream: StreamName,
    /// The bytes of the stream before this text, those of earlier attempts included.
    pub offset: u64,
    /// The text.
    pub chunk: String,
}

impl Happening {
    /// Whether this is the job's one terminal event.
    pub const fn is_terminal(&self) -> bool {
        match self {
            Self::Progress(_) | Self::Retrying { .. } | Self::Output(_) | Self::Started => false,
            Self::Completed { .. } | Self::Failed { .. } => true,
        }
    }
}

/// Where a job stands, for a client that cannot be given every event since it last looked.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Snapshot {
    /// The latest event that is contained in this.
    pub seq: Seq,
    /// The attempt under way, or the last.
    pub attempt: u32,
    /// The job's state.
    pub status: JobState,
    /// How far it is.
    pub progress: Progress,
    /// Whether stored events after the client's cursor are no longer kept.
    pub gap: bool,
    /// When the job was last changed.
    pub at: UnixMs,
}
