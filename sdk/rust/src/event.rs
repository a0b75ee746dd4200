//! What a caller sees of a call, from the first update to the one outcome.

use serde::{Deserialize, Serialize};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::Seq;
use tidegate_protocol::time::UnixMs;

use crate::error::{ApiError, Error};
use crate::ids::{JobId, Status};

/// The request is stored as a job: it survives any crash from here on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// The job.
    pub job_id: JobId,
    /// The job's state at that moment.
    pub status: Status,
    /// Whether the job was there already, by its idempotency key.
    #[serde(default)]
    pub deduplicated: bool,
    /// Not before this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<UnixMs>,
    /// The latest event of the job.
    #[serde(default)]
    pub seq: Seq,
}

/// An attempt got further.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The job.
    pub job_id: JobId,
    /// The event's place in the job's history.
    pub seq: Seq,
    /// The attempt, from 1.
    #[serde(default)]
    pub attempt: u32,
    /// 0 to 100.
    #[serde(default)]
    pub percentage: f64,
    /// One line for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Facts for a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<JsonText>,
    /// When it was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<UnixMs>,
}

/// An attempt began. Told of a job of which each event is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// The job.
    pub job_id: JobId,
    /// The event's place in the job's history.
    pub seq: Seq,
    /// The attempt, from 1.
    #[serde(default)]
    pub attempt: u32,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<UnixMs>,
}

/// An attempt failed, another follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retrying {
    /// The job.
    pub job_id: JobId,
    /// The event's place in the job's history.
    pub seq: Seq,
    /// The attempt that failed.
    #[serde(default)]
    pub attempt: u32,
    /// Not before then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<UnixMs>,
    /// Why it failed.
    pub error: ApiError,
}

/// An attempt wrote text to one of the job's streams.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// The job.
    pub job_id: JobId,
    /// The event's place in the job's history.
    pub seq: Seq,
    /// The attempt, from 1.
    #[serde(default)]
    pub attempt: u32,
    /// The stream.
    pub stream: String,
    /// The bytes of the stream before this text. Where that is more than was seen, something was missed: it is read with
    /// [`Http::output`](crate::http::Http::output), as far as it is still kept.
    #[serde(default)]
    pub offset: u64,
    /// The text.
    pub chunk: String,
    /// When it was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<UnixMs>,
}

/// Where a job stands, in place of events that were not seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The job.
    pub job_id: JobId,
    /// The latest event that this contains.
    pub seq: Seq,
    /// The job's state.
    pub status: Status,
    /// The attempt under way, or the last.
    #[serde(default)]
    pub attempt: u32,
    /// 0 to 100.
    #[serde(default)]
    pub percentage: f64,
    /// One line for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Facts for a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<JsonText>,
    /// Whether stored events since the last one seen are no longer kept.
    #[serde(default)]
    pub gap: bool,
    /// The result of an ended job, where it is small.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub result: Option<JsonText>,
    /// Where the result of an ended job is, where it is large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_url: Option<String>,
    /// Why an ended job failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
}

/// The job ended with a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completed {
    /// The job.
    pub job_id: JobId,
    /// The event's place in the job's history.
    pub seq: Seq,
    /// The attempt that did it.
    #[serde(default)]
    pub attempt: u32,
    /// The result, where it is small.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub result: Option<JsonText>,
    /// Where the result is (a path of the same server), where it is large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_url: Option<String>,
}

/// Reads a field that is there, `null` included, as its text.
pub(crate) fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<JsonText>, D::Error> {
    JsonText::deserialize(deserializer).map(Some)
}

/// How a call ended. There is exactly one for each call.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Answered on the spot.
    Answered {
        /// What the action gave.
        data: JsonText,
    },
    /// The job ended with a result.
    Completed(Completed),
    /// The job ended without a result: failed, cancelled or expired, as the code says.
    Failed {
        /// The job.
        job_id: JobId,
        /// Why.
        error: ApiError,
    },
    /// The server did not take the request, or knows no such job. Nothing was consumed.
    Rejected(ApiError),
    /// The server cannot be asked any more. A job that was acknowledged goes on without this client.
    Lost {
        /// The job, where it was acknowledged.
        job_id: Option<JobId>,
        /// Why.
        error: Error,
    },
}

/// Something that a caller sees of a call.
#[derive(Debug, Clone)]
pub enum Update {
    /// The connection is lost (or could not be made); another attempt follows. Nothing of the call is lost.
    Reconnecting {
        /// Which attempt in a row this will be, from 1.
        attempt: u32,
        /// When it will be made, from now. Milliseconds.
        in_ms: u64,
        /// Why the connection was lost.
        why: String,
    },
    /// The connection is there again, and the call goes on.
    Reconnected,
    /// The request is stored as a job.
    Acknowledged(Acknowledged),
    /// An attempt got further.
    Progress(Progress),
    /// An attempt failed, another follows.
    Retrying(Retrying),
    /// An attempt wrote text.
    Output(Written),
    /// An attempt began.
    Started(Started),
    /// Where the job stands, in place of events that were not seen, or to begin with where a followed job has none.
    Snapshot(Snapshot),
    /// A wish to cancel was refused; the job goes on, or has ended already.
    CancelRefused(ApiError),
    /// The client's token expires soon; give it another with `Client::set_token`.
    TokenExpiring {
        /// When it expires.
        expires_at: Option<UnixMs>,
    },
    /// The call ended. The last update of every call.
    Ended(Outcome),
}
