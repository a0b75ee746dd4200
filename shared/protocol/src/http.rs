//! The bodies of the HTTP API.

mod batch;
mod bulk;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

pub use batch::{BatchAnswer, BatchFormat, BatchItem, split_batch};
pub use bulk::{
    AttemptError, BULK_JOBS_MAX, BulkAnswer, BulkItem, BulkRequest, DeadLetter, DeadLetterPage,
    REDRIVES_PER_SECOND_MAX, Rate, RetryRequest,
};

use crate::error::Error;
use crate::event::{JobState, JsonText, Progress};
use crate::fault::Fault;
use crate::ids::{ActionName, JobId, RequestId, Seq, UserId};
use crate::time::UnixMs;

/// The namespace of the problem types: one for each error code, explained in `docs/errors/`.
pub const PROBLEM_TYPES: &str = "urn:tidegate:error:";

/// The answer to a request, on the spot (`200`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Answer {
    /// The request.
    pub request_id: RequestId,
    /// What the action gave.
    pub data: JsonText,
    /// Whether this answer was stored by an earlier request with the same key.
    #[serde(default)]
    pub deduplicated: bool,
    /// The job that gave the answer, where it is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// Where the result is, where it is too large to stand in `data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_url: Option<String>,
}

/// The request is stored as a job (`202`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Accepted {
    /// The request.
    pub request_id: RequestId,
    /// The job.
    pub job_id: JobId,
    /// The job's state now.
    pub status: JobState,
    /// Whether the job was there already, by its idempotency key.
    pub deduplicated: bool,
    /// The latest event of the job.
    pub seq: Seq,
    /// Not before this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<UnixMs>,
}

/// A job, as its owner sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Job {
    /// The job.
    pub job_id: JobId,
    /// The request that it came from.
    pub request_id: RequestId,
    /// What it runs.
    pub action: ActionName,
    /// Whose it is.
    pub user: UserId,
    /// Its state.
    pub status: JobState,
    /// The attempt under way, or the last; 0 before the first.
    pub attempt: u32,
    /// The latest event.
    pub seq: Seq,
    /// How far it is.
    pub progress: Progress,
    /// The client's own notes on it.
    pub metadata: BTreeMap<String, String>,
    /// When it was accepted.
    pub created_at: UnixMs,
    /// Not before this moment, while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<UnixMs>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<UnixMs>,
    /// When it is forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UnixMs>,
    /// Its result, where it is small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<JsonText>,
    /// Where its result is, where it is large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_url: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
    /// The ended job that this one does again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redriven_from: Option<JobId>,
    /// The job that does this one again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redriven_to: Option<JobId>,
}

/// A page of jobs, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// Where the next page begins; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A page of a job's stored events, as the frames a socket gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EventPage {
    /// The events, oldest first.
    pub events: Vec<JsonText>,
    /// Whether stored events after the cursor are no longer kept.
    pub gap: bool,
    /// Whether the job has ended, so that nothing follows.
    pub ended: bool,
}

/// A ticket for a WebSocket: good once, for 30 seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ticket {
    /// The value of `?ticket=`.
    pub ticket: String,
    /// When it is no longer good.
    pub expires_at: UnixMs,
}

/// An object in the tenant's storage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ObjectInfo {
    /// Its key.
    pub key: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its entity tag, quoted.
    pub etag: String,
}

/// The composition revision that is now active.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Activated {
    /// The revision, by content.
    pub revision: String,
}

/// An error as `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Problem {
    /// The problem type: the code, as a URN.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code, in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// The stable code.
    pub code: crate::ErrorCode,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// The earliest time, from now, at which trying again makes sense. Milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Every fault of the input.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Fault>,
    /// The request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// The job that failed, where the answer is a job's outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// The trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

impl Problem {
    /// The problem document of `error`, in answer to `request_id`.
    pub fn new(error: &Error, request_id: Option<RequestId>) -> Self {
        let slug = error.code.as_str().to_ascii_lowercase().replace('_', "-");
        Self {
            kind: format!("{PROBLEM_TYPES}{slug}"),
            title: error.code.as_str().to_ascii_lowercase().replace('_', " "),
            status: error.status(),
            detail: error.message.to_string(),
            code: error.code,
            retryable: error.retryable,
            retry_after_ms: error.retry_after_ms,
            details: error.details.clone(),
            request_id,
            job_id: None,
            trace_id: error.trace_id.clone(),
        }
    }
}
