//! What an endpoint is told of a job that has ended: an event in the form of CloudEvents.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::SortedMap;
use crate::error::Error;
use crate::event::{JobState, JsonText};
use crate::ids::{ActionName, JobId, RequestId, UserId};
use crate::time::UnixMs;

/// The event. The names of its members are those of CloudEvents 1.0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobEnded {
    /// `1.0`.
    pub specversion: String,
    /// Names the event, and is its `webhook-id`: the same for each time that it is sent.
    pub id: String,
    /// The path of the job.
    pub source: String,
    /// `job.succeeded`, `job.failed`, `job.cancelled` or `job.expired`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When the job ended.
    pub time: UnixMs,
    /// `application/json`.
    pub datacontenttype: String,
    /// The job.
    pub data: EndedJob,
}

/// A job that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EndedJob {
    /// The job.
    pub job_id: JobId,
    /// The request that it came from.
    pub request_id: RequestId,
    /// What it ran.
    pub action: ActionName,
    /// Whose it was.
    pub user: UserId,
    /// How it ended.
    pub status: JobState,
    /// Its last attempt; 0 where none began.
    pub attempt: u32,
    /// The client's own notes on it.
    pub metadata: SortedMap<String, String>,
    /// When it was accepted.
    pub created_at: UnixMs,
    /// When it ended.
    pub ended_at: UnixMs,
    /// The result, where it is small and the action tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<JsonText>,
    /// Where any other result is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_url: Option<String>,
    /// Why there is no result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
    /// The ended job that this one did again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redriven_from: Option<JobId>,
    /// When its last attempt began; absent where none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<UnixMs>,
}
