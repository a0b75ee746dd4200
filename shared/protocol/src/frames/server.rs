//! What a client is sent, and how a job's history becomes frames. It reads nothing that comes from outside.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::channels::{Message, Published};
use crate::error::Error;
use crate::event::{Event, Happening, JobState, JsonText, Output, Payload, Progress, Snapshot};
use crate::http::{LeaseRenewed, LeasedJob};
use crate::ids::{ChannelName, ConnectionId, Epoch, JobId, Offset, RequestId, Seq, TenantId, UserId};
use crate::presence::{Member, Roster};
use crate::time::UnixMs;

/// The limits that a client is told at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Limits {
    /// Bytes of one frame.
    pub frame_bytes: usize,
    /// Jobs followed and requests under way at once.
    pub in_flight: usize,
}

/// A frame to a client.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame {
    /// The first frame of a connection.
    Welcome {
        /// The connection's id.
        connection_id: ConnectionId,
        /// The protocol spoken: `tidegate.v1`.
        protocol: &'static str,
        /// The tenant of the token.
        tenant: TenantId,
        /// The user of the token.
        user: UserId,
        /// The server's clock.
        server_time: UnixMs,
        /// What the server takes.
        limits: Limits,
        /// How often to send a ping. Milliseconds.
        heartbeat_ms: u64,
    },
    /// The answer to a request, on the spot.
    Response {
        /// The request.
        request_id: RequestId,
        /// Always true.
        success: bool,
        /// What the action gave.
        data: JsonText,
    },
    /// The request is stored as a job.
    Acknowledgment {
        /// The request.
        request_id: RequestId,
        /// The job.
        job_id: JobId,
        /// The job's state now.
        status: JobState,
        /// A sentence for a person.
        message: &'static str,
        /// Whether the job was there already, by its idempotency key.
        deduplicated: bool,
        /// Not before this moment.
        #[serde(skip_serializing_if = "Option::is_none")]
        run_at: Option<UnixMs>,
        /// The latest event of the job.
        seq: Seq,
    },
    /// An attempt got further.
    Progress {
        /// The request or attach that this answers.
        request_id: RequestId,
        /// The job.
        job_id: JobId,
        /// The event's place.
        seq: Seq,
        /// The attempt.
        attempt: u32,
        /// 0 to 100, and what else is known.
        #[serde(flatten)]
        progress: Progress,
        /// When it was stored.
        timestamp: UnixMs,
    },
    /// An attempt failed, another follows.
    Retrying {
        /// The request or attach that this answers.
        request_id: RequestId,
        /// The job.
        job_id: JobId,
        /// The event's place.
        seq: Seq,
        /// The attempt that failed.
        attempt: u32,
        /// Not before then.
        next_attempt_at: UnixMs,
        /// Why it failed.
        error: Error,
    },
    /// The job ended with a result.
    Complete {
        /// The request or attach that this answers.
        request_id: RequestId,
        /// The job.
        job_id: JobId,
        /// The event's place.
        seq: Seq,
        /// The attempt.
        attempt: u32,
        /// The result, where it is small.
        #[serde(skip_serializing_if = "Option::is_none")]
        result: Option<JsonText>,
        /// Where the result is, where it is large.
        #[serde(skip_serializing_if = "Option::is_none")]
        result_url: Option<String>,
        /// When it was stored.
        timestamp: UnixMs,
    },
    /// Where a job stands.
    Snapshot {
        /// The attach that this answers.
        request_id: RequestId,
        /// The job.
        job_id: JobId,
        /// The latest event that this contains.
        seq: Seq,
        /// The job's state.
        status: JobState,
        /// How far it is.
        #[serde(flatten)]
        progress: Progress,
        /// Whether stored events after the client's cursor are no longer kept.
        gap: bool,
    },
    /// Something failed.
    Error {
        /// The request that failed, where it could be read.
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<RequestId>,
        /// The job that ended.
        #[serde(skip_serializing_if = "Option::is_none")]
        job_id: Option<JobId>,
        /// The event's place, where it is a job's.
        #[serde(skip_serializing_if = "Option::is_none")]
        seq: Option<Seq>,
        /// What failed.
        error: Error,
        /// When.
        timestamp: UnixMs,
    },
    /// An attempt wrote text.
    Output {
        /// The request or attach that this answers.
        request_id: RequestId,
        /// The job.
        job_id: JobId,
        /// The event's place.
        seq: Seq,
        /// The attempt.
        attempt: u32,
        /// The stream, the place of the text in it, and the text.
        #[serde(flatten)]
        output: Output,
        /// When it was stored.
        timestamp: UnixMs,
    },
    /// Done.
    Ok {
        /// The frame that this answers.
        request_id: RequestId,
    },
    /// A channel is followed.
    Subscribed {
        /// The `subscribe` that this answers. Not there where the server says by itself that there is a gap.
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<RequestId>,
        /// The channel.
        channel: ChannelName,
        /// The life of its log.
        epoch: Epoch,
        /// From here on the messages follow: those after the client's cursor where it was recovered, else all after this one.
        offset: Offset,
        /// Whether everything after the client's cursor follows. `false`: there is a gap, or no cursor was sent.
        recovered: bool,
        /// Who is there, where the `subscribe` asked for it.
        #[serde(skip_serializing_if = "Option::is_none")]
        presence: Option<Roster>,
    },
    /// Who is in a channel: the answer to `presence`; without `request_id`, what takes the place of everything that was said
    /// before.
    Presence {
        /// The `presence` that this answers.
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<RequestId>,
        /// The channel.
        channel: ChannelName,
        /// The members by name, the first of them where there are very many. Not there where only their number has changed.
        #[serde(skip_serializing_if = "Option::is_none")]
        members: Option<Vec<Member>>,
        /// How many there are.
        count: u64,
    },
    /// Somebody is in a channel, or says something else of themselves.
    Join {
        /// The channel.
        channel: ChannelName,
        /// Who.
        member: Member,
    },
    /// Somebody is no longer in a channel.
    Leave {
        /// The channel.
        channel: ChannelName,
        /// Who.
        member: Member,
    },
    /// A channel is no longer followed, because its rules do not allow it any more.
    Unsubscribed {
        /// The channel.
        channel: ChannelName,
        /// Why.
        error: Error,
    },
    /// A message was stored.
    Published {
        /// The `publish` that this answers.
        request_id: RequestId,
        /// The channel.
        channel: ChannelName,
        /// Where it stands.
        #[serde(flatten)]
        published: Published,
    },
    /// A message of a channel.
    Message {
        /// The channel.
        channel: ChannelName,
        /// The life of its log.
        epoch: Epoch,
        /// Its place and what it says.
        #[serde(flatten)]
        message: Message,
    },
    /// A limit on requests is near: a tenth of it is left, or less.
    Usage {
        /// Its name in the composition.
        limit: String,
        /// Units that are left.
        remaining: u64,
        /// When all of them are there again, if none are taken. Milliseconds.
        reset_ms: u64,
    },
    /// The token expires soon; send another with `auth`.
    AuthExpiring {
        /// When it expires.
        expires_at: UnixMs,
    },
    /// The server is about to close.
    Goodbye {
        /// The close code that follows.
        code: u16,
        /// Why.
        reason: &'static str,
        /// Whether to come back.
        reconnect: bool,
        /// Not before so many milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        after_ms: Option<u64>,
    },
    /// Jobs for a worker.
    Leased {
        /// The `lease` that this answers.
        request_id: RequestId,
        /// The jobs; none where the wait is over.
        jobs: Vec<LeasedJob>,
        /// Whether another frame brings more of the same answer.
        more: bool,
    },
    /// An attempt goes on.
    Renewed {
        /// The `report` that this answers.
        request_id: RequestId,
        /// Until when, and whether its job was cancelled.
        #[serde(flatten)]
        lease: LeaseRenewed,
    },
    /// An attempt began. Only of a job of which each event is kept.
    Started {
        /// The request or attach that this answers.
        request_id: RequestId,
        /// The job.
        job_id: JobId,
        /// The event's place.
        seq: Seq,
        /// The attempt.
        attempt: u32,
        /// When it began.
        timestamp: UnixMs,
    },
}

impl ServerFrame {
    /// The frame's text.
    pub fn encode(&self) -> String {
        // Every variant has text keys and finite numbers, so that this cannot fail; the fallback is an honest frame.
        serde_json::to_string(self).unwrap_or_else(|_| {
            String::from(r#"{"type":"error","error":{"code":"INTERNAL_ERROR","message":"A frame could not be written.","retryable":true}}"#)
        })
    }

    /// The frame for `event` of `job`, as the answer to `request_id`.
    pub fn event(request_id: RequestId, job_id: JobId, event: &Event) -> Self {
        let Event {
            seq,
            attempt,
            at: timestamp,
            what,
        } = event;
        let (seq, attempt, timestamp) = (*seq, *attempt, *timestamp);
        match what {
            Happening::Progress(progress) => Self::Progress {
                request_id,
                job_id,
                seq,
                attempt,
                progress: progress.clone(),
                timestamp,
            },
            Happening::Retrying { next_attempt_at, error } => {
                let (next_attempt_at, error) = (*next_attempt_at, error.clone());
                Self::Retrying {
                    request_id,
                    job_id,
                    seq,
                    attempt,
                    next_attempt_at,
                    error,
                }
            }
            Happening::Completed { result } => {
                let (result, result_url) = match result {
                    Payload::Inline(value) => (Some(value.clone()), None),
                    Payload::Stored { .. } => (None, Some(result_url(job_id))),
                };
                Self::Complete {
                    request_id,
                    job_id,
                    seq,
                    attempt,
                    result,
                    result_url,
                    timestamp,
                }
            }
            Happening::Failed { error } => Self::Error {
                request_id: Some(request_id),
                job_id: Some(job_id),
                seq: Some(seq),
                error: error.clone(),
                timestamp,
            },
            Happening::Output(output) => Self::Output {
                request_id,
                job_id,
                seq,
                attempt,
                output: output.clone(),
                timestamp,
            },
            Happening::Started => Self::Started {
                request_id,
                job_id,
                seq,
                attempt,
                timestamp,
            },
        }
    }

    /// The frame for a snapshot of `job`, as the answer to `request_id`.
    pub fn snapshot(request_id: RequestId, job_id: JobId, snapshot: Snapshot) -> Self {
        let Snapshot {
            seq,
            status,
            progress,
            gap,
            ..
        } = snapshot;
        Self::Snapshot {
            request_id,
            job_id,
            seq,
            status,
            progress,
            gap,
        }
    }
}

/// Where the result of `job` can be read.
pub fn result_url(job: JobId) -> String {
    format!("/v1/jobs/{job}/result")
}
