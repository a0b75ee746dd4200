//! The bodies of the HTTP API.

mod access;
mod attempts;
mod audit;
mod backups;
mod batch;
mod bulk;
mod ended;
mod endpoints;
mod health;
mod idempotency;
mod inbound;
mod policies;
mod recovery;
mod secrets;
mod tenants;
mod upstreams;
mod usage;
mod why;
mod workers;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use tidegate_cbor::{Decode, Encode};

pub use access::{
    KeyList, KeyMade, KeyView, RevocationList, RevocationView, RevokeBody, RevokeWhom, parse_new_key, parse_rotation,
};
pub use attempts::{FinishBody, LeaseRenewed, ReportBody};
#[cfg(feature = "schema")]
pub use audit::ShownEntry;
pub use audit::{
    AUDIT_JOBS_MAX, AuditCounts, AuditEntry, AuditFilter, AuditOutcome, AuditPage, AuditRefusal, AuditTarget,
    AuditWhat, AuditWho,
};
pub use backups::{BackupList, BackupState, BackupView};
pub use batch::{BatchAnswer, BatchFormat, BatchItem, BatchView, split_batch};
pub use bulk::{
    AttemptError, BULK_JOBS_MAX, BulkAnswer, BulkItem, BulkRequest, DeadLetter, DeadLetterPage, LostDoorbell,
    REDRIVES_PER_SECOND_MAX, Rate, RetryRequest,
};
pub use ended::{EndedJob, JobEnded};
pub use endpoints::{
    Endpoint, EndpointEvent, EndpointList, Replayed, Signature, WebhookSecret, WebhookSecretRotated, parse_replay,
    parse_secret_rotation,
};
pub use health::{HealthCode, HealthReason, HealthStatus, HealthView, QueueHealth, UpstreamHealth};
pub use idempotency::{IDEMPOTENCY_KEY, IDEMPOTENCY_REPLAYED, KEPT_BODY_BYTES_MAX, KeptAnswer, header_key};
pub use inbound::{WebhookList, WebhookOutcome, WebhookTaken, WebhookView};
pub use policies::{PolicyDecision, PolicyExplanation, PolicyResult, PolicyTold};
pub use recovery::{RecoveredObject, RecoveryView, parse_recovery};
pub use secrets::{SECRET_BYTES_MAX, SecretBody, SecretList, SecretView};
pub use tenants::{ErasureView, NewTenant, TenantAct, TenantPage, TenantState, TenantView, parse_confirmation};
pub use upstreams::{BreakerChanged, BreakerView, UpstreamsView};
pub use usage::{
    BudgetView, BudgetsView, Meters, UsageExport, UsageExported, UsagePrices, UsageSum, UsageView, UsageWindow,
};
pub use why::{Reason, SpreadWhy, Why};

pub use workers::{LEASE_WAIT_MS_MAX, LEASED_JOBS_MAX, LeaseBody, LeasedJob, LeasedJobs, PoolQueue, WorkerSeen};

use crate::SortedMap;
use crate::calls::admission::LimitCounts;
use crate::calls::queueing::Pause;
use crate::calls::schedules::Overlap;
use crate::error::{Error, LimitState};
use crate::event::{JobState, JsonText, Progress};
use crate::fault::Fault;
use crate::ids::{ActionName, BatchId, JobId, RequestId, ScheduleName, Seq, StreamName, UserId};
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
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
    pub metadata: SortedMap<String, String>,
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
    /// The batch that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_id: Option<BatchId>,
    /// When the attempt under way began, or the last one; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<UnixMs>,
}

/// A page of jobs, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// Where the next page begins; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// How many jobs of an action wait.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ActionQueue {
    /// The action.
    pub action: ActionName,
    /// Jobs that wait.
    pub waiting: u64,
}

/// What runs, what waits, and what is held back.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QueueView {
    /// Jobs that run.
    pub running: u64,
    /// Jobs that wait.
    pub waiting: u64,
    /// The actions of which jobs wait, by name, the first hundred of them.
    pub actions: Vec<ActionQueue>,
    /// Every pause.
    pub pauses: Vec<Pause>,
    /// How many objects the tenant's jobs are spread over.
    #[serde(default)]
    pub shards: u16,
    /// How many there will be, while the tenant grows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growing_to: Option<u16>,
    /// The pools of workers in which jobs wait or are leased, or whose workers were seen, the first hundred of them.
    #[serde(default)]
    pub pools: Vec<PoolQueue>,
    /// Dead letters that nobody has redriven or discarded. Counted up to a thousand in each object.
    #[serde(default)]
    pub dead_letters: u64,
    /// Since when the job waits that could have started first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_waiting_at: Option<UnixMs>,
}

/// A schedule, and how it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ScheduleInfo {
    /// Its name.
    pub name: ScheduleName,
    /// When it fires: a cron expression after OCPS.
    pub cron: String,
    /// Where its clock stands: a name of the IANA database.
    pub time_zone: String,
    /// What it runs.
    pub action: ActionName,
    /// Whose its jobs are.
    pub user: UserId,
    /// What becomes of a nominal time while the last job has not ended.
    pub overlap: Overlap,
    /// How far back missed times are made up for. Milliseconds.
    pub catch_up_ms: u64,
    /// How much later than its nominal time it fires at most. Milliseconds.
    pub jitter_ms: u64,
    /// Whether it is held back.
    pub paused: bool,
    /// Its next nominal times, as far as it is not held back.
    pub next: Vec<UnixMs>,
    /// The nominal time that waits for the end of the last job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<UnixMs>,
    /// The last job that it fired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_job: Option<JobId>,
    /// The nominal time of that job; absent where it was triggered by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_fired: Option<UnixMs>,
    /// Jobs that its clock has fired.
    pub fired: u64,
    /// Nominal times left out because the last job had not ended.
    pub skipped: u64,
    /// Nominal times left out because they were found too late, or too many at once; the least there were.
    pub missed: u64,
}

/// All schedules of a tenant, by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ScheduleList {
    /// The schedules.
    pub schedules: Vec<ScheduleInfo>,
}

/// A schedule was fired by hand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Triggered {
    /// The job.
    pub job_id: JobId,
    /// Whether the job was there already, by its idempotency key.
    pub deduplicated: bool,
}

/// Which part of the past a backfill makes up for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BackfillBody {
    /// The first moment.
    pub from: UnixMs,
    /// The moment after the last; not in the future.
    pub to: UnixMs,
}

/// What a backfill did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Backfilled {
    /// Nominal times that have a job now and had none before.
    pub fired: u64,
    /// Nominal times that had a job already.
    pub known: u64,
    /// Where to go on, as `from`; absent where all is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest_from: Option<UnixMs>,
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
    /// Where the next page begins, as `after`; absent where this page is the last for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_after: Option<Seq>,
}

/// A part of the text of one of a job's streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OutputPage {
    /// The stream.
    pub stream: StreamName,
    /// The byte of the stream at which the text begins. Beyond the offset that was asked for where that is no longer
    /// kept; before it where it lies inside a character.
    pub offset: u64,
    /// The text.
    pub text: String,
    /// The byte after the text: the offset of the next page.
    pub next_offset: u64,
    /// How much has been written to the stream so far. Bytes.
    pub written: u64,
    /// Whether text at the offset that was asked for is no longer kept.
    pub gap: bool,
    /// Whether the job has ended, so that the stream grows no longer.
    pub ended: bool,
    /// The job's latest event when this was read.
    pub seq: Seq,
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

/// The limits on a tenant's requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LimitsView {
    /// What the deployment's operator allows the tenant, as it was set; absent where nothing was. Its limits have names that begin
    /// with `deployment:` in everything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<alloc::collections::BTreeMap<String, serde_json::Value>>")
    )]
    pub deployment: Option<JsonText>,
    /// Since when refusals are counted. The counts are in memory: they begin anew where the tenant's gate does.
    pub since: UnixMs,
    /// How often each limit has refused, by name; one that never has is not here.
    pub counts: SortedMap<String, LimitCounts>,
    /// How full the buckets of the limit are that the query names, by key.
    pub buckets: Vec<BucketView>,
    /// Where the next page begins; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// What is left of a limit for one of its keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BucketView {
    /// The key; empty for a limit without keys.
    pub key: String,
    /// The limit allows so many units …
    pub units: u64,
    /// … in this time. Milliseconds.
    pub per_ms: u64,
    /// Units that can be taken now, beside those that are lent to hubs.
    pub remaining: u64,
    /// When all of them can be taken again, if none are taken. Milliseconds from now.
    pub reset_ms: u64,
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
    /// The limit on requests that refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Box<LimitState>>,
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
            limit: error.limit.clone(),
            request_id,
            job_id: None,
            trace_id: error.trace_id.clone(),
        }
    }
}
