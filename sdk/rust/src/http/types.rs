//! The bodies of the HTTP API as a client reads them: what it does not know is passed over.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::Seq;
use tidegate_protocol::time::UnixMs;

use crate::error::ApiError;
use crate::event::present;
use crate::ids::{BatchId, JobId, Status};

/// How an answer to `POST /v1/requests` is wanted (RFC 7240).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prefer {
    /// As the request's mode and the action say.
    #[default]
    Unsaid,
    /// An acceptance now, the outcome later.
    RespondAsync,
    /// The outcome, where it comes within so many seconds.
    Wait(u64),
}

/// The answer to `POST /v1/requests`.
#[derive(Debug, Clone, PartialEq)]
pub enum Posted {
    /// Answered on the spot (`200`).
    Answered(Answer),
    /// Stored as a job (`202`).
    Accepted(Accepted),
}

/// An answer on the spot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The request, as the server names it.
    #[serde(default)]
    pub request_id: String,
    /// What the action gave; `null` where it is too large to stand here.
    #[serde(default = "JsonText::null")]
    pub data: JsonText,
    /// Whether this answer was stored by an earlier request with the same key.
    #[serde(default)]
    pub deduplicated: bool,
    /// The job that gave the answer, where it is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// Where the result is (a path of the same server), where it is too large for `data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_url: Option<String>,
}

/// A request that is stored as a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accepted {
    /// The request, as the server names it.
    #[serde(default)]
    pub request_id: String,
    /// The job.
    pub job_id: JobId,
    /// The job's state.
    pub status: Status,
    /// Whether the job was there already, by its idempotency key.
    #[serde(default)]
    pub deduplicated: bool,
    /// The latest event of the job.
    #[serde(default)]
    pub seq: Seq,
    /// Not before this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<UnixMs>,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobProgress {
    /// 0 to 100.
    #[serde(default)]
    pub percentage: f64,
    /// One line for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Facts for a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<JsonText>,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The job.
    pub job_id: JobId,
    /// The request that it came from.
    #[serde(default)]
    pub request_id: String,
    /// What it runs.
    pub action: String,
    /// Whose it is.
    #[serde(default)]
    pub user: String,
    /// Its state.
    pub status: Status,
    /// The attempt under way, or the last; 0 before the first.
    #[serde(default)]
    pub attempt: u32,
    /// The latest event.
    #[serde(default)]
    pub seq: Seq,
    /// How far it is.
    #[serde(default)]
    pub progress: JobProgress,
    /// The caller's own notes on it.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// When it was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<UnixMs>,
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
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub result: Option<JsonText>,
    /// Where its result is (a path of the same server), where it is large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_url: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
    /// The ended job that this one does again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redriven_from: Option<JobId>,
    /// The job that does this one again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redriven_to: Option<JobId>,
    /// The batch that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_id: Option<BatchId>,
    /// When the attempt under way began, or the last one; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<UnixMs>,
}

/// A page of jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// Where the next page begins; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Which jobs are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobFilter {
    /// In this state.
    pub status: Option<String>,
    /// Of this action.
    pub action: Option<String>,
    /// Of this user; another's only with the scope `jobs:read`.
    pub user: Option<String>,
    /// Failed with this code. For dead letters.
    pub code: Option<String>,
    /// Of this batch.
    pub batch: Option<String>,
    /// Accepted at this moment (RFC 3339) or later.
    pub created_after: Option<String>,
    /// Accepted before this moment (RFC 3339).
    pub created_before: Option<String>,
    /// With all of these notes.
    pub metadata: BTreeMap<String, String>,
    /// At most so many.
    pub limit: Option<u32>,
    /// From where an earlier page of the same order ended.
    pub cursor: Option<String>,
    /// Which come first: `created` the oldest, `-created` the newest, as where nothing is said.
    pub sort: Option<String>,
}

impl JobFilter {
    /// The filter as a query with its question mark; empty without any condition.
    pub(super) fn query(&self) -> String {
        let limit = self.limit.map(|limit| limit.to_string());
        let fields = [
            ("status", &self.status),
            ("action", &self.action),
            ("user", &self.user),
            ("code", &self.code),
            ("batch", &self.batch),
            ("created_after", &self.created_after),
            ("created_before", &self.created_before),
            ("limit", &limit),
            ("cursor", &self.cursor),
            ("sort", &self.sort),
        ];
        let mut all = query(fields.map(|(name, value)| (name, value.as_deref())));
        for (name, value) in &self.metadata {
            add(&mut all, &format!("metadata.{}", escape(name, b"")), value);
        }
        all
    }
}

/// The fields that there are as a query with its question mark; empty where there are none.
pub(super) fn query<const N: usize>(fields: [(&str, Option<&str>); N]) -> String {
    let mut query = String::new();
    for (name, value) in fields {
        if let Some(value) = value {
            add(&mut query, name, value);
        }
    }
    query
}

fn add(query: &mut String, name: &str, value: &str) {
    query.push(if query.is_empty() { '?' } else { '&' });
    query.push_str(name);
    query.push('=');
    query.push_str(&escape(value, b""));
}

/// Percent-encodes everything but unreserved characters (RFC 3986) and `kept`.
pub(super) fn escape(text: &str, kept: &[u8]) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || kept.contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// A page of a job's stored events, as the frames that a socket gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventPage {
    /// The events, oldest first.
    pub events: Vec<JsonText>,
    /// Whether stored events after the cursor are no longer kept.
    #[serde(default)]
    pub gap: bool,
    /// Whether the job has ended, so that nothing follows.
    #[serde(default)]
    pub ended: bool,
    /// Where the next page begins; absent where this is the last for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_after: Option<Seq>,
}

/// A part of the text of one of a job's streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputPage {
    /// The stream.
    pub stream: String,
    /// The byte of the stream at which the text begins.
    pub offset: u64,
    /// The text.
    pub text: String,
    /// The offset of the next page.
    pub next_offset: u64,
    /// How much has been written to the stream so far. Bytes.
    #[serde(default)]
    pub written: u64,
    /// Whether text at the offset that was asked for is no longer kept.
    #[serde(default)]
    pub gap: bool,
    /// Whether the job has ended, so that the stream grows no longer.
    #[serde(default)]
    pub ended: bool,
}

/// A ticket for one WebSocket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ticket {
    /// The value of `?ticket=`.
    pub ticket: String,
    /// When it is no longer good.
    pub expires_at: UnixMs,
}

/// An object in the tenant's storage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObjectInfo {
    /// Its key.
    pub key: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its entity tag, quoted.
    #[serde(default)]
    pub etag: String,
}

/// The composition revision that is now active.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Activated {
    /// The revision, by content.
    pub revision: String,
}

/// What the tenant's endpoints verify signatures with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookSecret {
    /// `whsec_` and base64, after Standard Webhooks.
    pub secret: String,
    /// `whpk_` and base64: the public key for endpoints whose messages are signed with Ed25519.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// The secret before the last rotation, while both sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_secret: Option<String>,
    /// The public key before the last rotation, while both sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_public_key: Option<String>,
    /// Until when both sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_until: Option<UnixMs>,
}

impl core::fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_cannot_break_out_of_its_field() {
        let filter = JobFilter {
            status: Some("failed".into()),
            user: Some("a&limit=9 ü".into()),
            limit: Some(5),
            metadata: [("a=b".to_owned(), "c&d".to_owned())].into(),
            ..JobFilter::default()
        };
        assert_eq!(
            filter.query(),
            "?status=failed&user=a%26limit%3D9%20%C3%BC&limit=5&metadata.a%3Db=c%26d"
        );
        assert_eq!(JobFilter::default().query(), "");
    }

    #[test]
    fn what_the_server_writes_of_a_job_the_client_reads() {
        let text = r#"{"job_id":"job_1","request_id":"r","action":"a","user":"u","status":"running","attempt":1,"seq":4,
            "progress":{"percentage":12.5,"metadata":{"rows":1}},"metadata":{"k":"v"},"created_at":"2026-11-21T07:00:00.000Z","started_at":"2026-11-21T07:00:01.000Z",
            "new":{}}"#;
        let job: Job = serde_json::from_str(text).unwrap();
        assert_eq!(job.started_at, UnixMs::parse("2026-11-21T07:00:01Z"));
        assert_eq!(
            (job.seq, job.status.as_str(), job.progress.percentage),
            (Seq(4), "running", 12.5)
        );
    }
}
