//! The audit trail: who changed what by hand. No payload, no secret and no note of a job is part of it.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use tidegate_cbor::{Decode, Encode};

use crate::calls::Caller;
use crate::calls::audit::{Act, Via};
use crate::calls::queueing::PauseScope;
use crate::error::ErrorCode;
use crate::event::{JobState, JsonText};
use crate::ids::{
    ActionName, ApiKeyId, BatchId, EndpointId, JobId, RequestId, Revision, ScheduleName, SecretName, TokenId,
    TraceParent, UserId,
};
use crate::time::UnixMs;

/// Jobs that an entry names at most; its counts tell of all.
pub const AUDIT_JOBS_MAX: usize = 10;

macro_rules! acts {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal),+ $(,)?) => {
        /// What was done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub enum AuditWhat {
            $($(#[doc = $doc])+ #[serde(rename = $text)] $name),+
        }

        impl AuditWhat {
            /// Every act.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// As the API writes it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

acts! {
    /// A composition that was not active before became active.
    CompositionActivated = "composition.activated",
    /// A composition that had been active earlier became active again.
    CompositionRolledBack = "composition.rolled_back",
    /// Jobs are held back.
    QueuePaused = "queue.paused",
    /// Jobs are let go.
    QueueResumed = "queue.resumed",
    /// A schedule is held back.
    SchedulePaused = "schedule.paused",
    /// A schedule goes on.
    ScheduleResumed = "schedule.resumed",
    /// A schedule was fired by hand.
    ScheduleTriggered = "schedule.triggered",
    /// A schedule was fired for times that have passed.
    ScheduleBackfilled = "schedule.backfilled",
    /// A job was cancelled, by someone other than its owner.
    JobCancelled = "job.cancelled",
    /// Jobs were cancelled in one call.
    JobsCancelled = "jobs.cancelled",
    /// A job was held back, by someone other than its owner.
    JobPaused = "job.paused",
    /// A job was let go, by someone other than its owner.
    JobResumed = "job.resumed",
    /// A job was given another time, by someone other than its owner.
    JobRescheduled = "job.rescheduled",
    /// A job that had ended was done again; or one that waits was tried at once, by someone other than its owner.
    JobRetried = "job.retried",
    /// Dead letters were done again.
    DeadLettersRedriven = "dead_letters.redriven",
    /// Dead letters were taken out of the list.
    DeadLettersDiscarded = "dead_letters.discarded",
    /// What had not ended of a batch was cancelled.
    BatchCancelled = "batch.cancelled",
    /// An API key was made.
    KeyCreated = "key.created",
    /// An API key was given another text.
    KeyRotated = "key.rotated",
    /// An API key was deleted.
    KeyRevoked = "key.revoked",
    /// Credentials were refused from then on.
    CredentialsRevoked = "credentials.revoked",
    /// Nobody of the tenant was let in from then on.
    TenantSuspended = "tenant.suspended",
    /// They were let in again.
    TenantResumed = "tenant.resumed",
    /// A backup of the tenant was taken.
    TenantBackedUp = "tenant.backed_up",
    /// The tenant was restored from a backup.
    TenantRestored = "tenant.restored",
    /// A breaker was opened by hand.
    UpstreamOpened = "upstream.opened",
    /// A breaker was closed by hand.
    UpstreamClosed = "upstream.closed",
    /// A breaker was disabled.
    UpstreamDisabled = "upstream.disabled",
    /// Requests were refused, counted together. Nobody did this by hand.
    RequestsRefused = "requests.refused",
    /// A secret was set that was not there.
    SecretCreated = "secret.created",
    /// A secret was given another value.
    SecretRotated = "secret.rotated",
    /// A secret was deleted.
    SecretDeleted = "secret.deleted",
    /// An operator set the tenant's budgets.
    BudgetsSet = "budgets.set",
    /// An operator set the deployment's limits for the tenant.
    LimitsSet = "limits.set",
    /// More than its share of a budget was used. Nobody did this by hand.
    BudgetWarned = "budget.warned",
    /// A budget was spent: new requests are refused until its window ends. Nobody did this by hand.
    BudgetSpent = "budget.spent",
    /// An endpoint was made.
    EndpointCreated = "endpoint.created",
    /// An endpoint was changed by hand.
    EndpointChanged = "endpoint.changed",
    /// An endpoint was deleted.
    EndpointDeleted = "endpoint.deleted",
    /// An endpoint was disabled because of how it answered. Nobody did this by hand.
    EndpointDisabled = "endpoint.disabled",
    /// What messages to endpoints are signed with was changed.
    WebhookSecretRotated = "webhook_secret.rotated",
}

impl AuditWhat {
    /// The act that is written so.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|what| what.as_str() == text).copied()
    }

    /// Whether one act of this kind may be done by several objects, each its part: together they are one entry.
    pub fn has_parts(self) -> bool {
        matches!(
            self,
            Self::QueuePaused
                | Self::QueueResumed
                | Self::JobsCancelled
                | Self::DeadLettersRedriven
                | Self::DeadLettersDiscarded
                | Self::BatchCancelled
        )
    }
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditWho {
    /// The subject of the token.
    pub user: UserId,
    /// How they were authenticated, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<Via>,
}

/// Which jobs a call was about that named them by a filter. Notes on jobs are not repeated here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditFilter {
    /// Only in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<JobState>,
    /// Only of this action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<ActionName>,
    /// Only of this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// Only failed with this code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
    /// Only accepted at this moment or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_after: Option<UnixMs>,
    /// Only accepted before this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_before: Option<UnixMs>,
    /// Only of this batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchId>,
}

/// What it was done to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditTarget {
    /// The composition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// The composition that was active before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Revision>,
    /// Which jobs are held back, or let go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<PauseScope>,
    /// The schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleName>,
    /// The filter of a call that is about several jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<AuditFilter>,
    /// The jobs that were changed, the first ten of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<JobId>,
    /// The job that does an ended one again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redriven_to: Option<JobId>,
    /// The API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<ApiKeyId>,
    /// The token whose credentials were revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenId>,
    /// The user whom a key was made for, or whose credentials were revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// The upstream, with a slash and the key behind it where the breaker is one key's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// The secret, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretName>,
    /// The budget, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
    /// The endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_id: Option<EndpointId>,
    /// Why it was disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When the first of the requests was refused that this entry counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<UnixMs>,
    /// How many requests were refused since then, by the reason. At least: what an object has not told before it is evicted is not
    /// among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<AuditRefusal>,
}

/// How many requests were refused for a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditRefusal {
    /// The reason.
    pub code: ErrorCode,
    /// The limit that had no room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// The source of the webhook, and what was wrong with its signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// So many.
    pub count: u64,
}

/// How far it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AuditOutcome {
    /// All that was asked for was done.
    Done,
    /// Some of the jobs were refused.
    Partly,
}

/// Of how many jobs a call was that was about several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditCounts {
    /// So many were changed, or made.
    pub done: u64,
    /// So many were refused.
    pub refused: u64,
}

/// One act, done once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditEntry {
    /// The entry's name in its tenant. Sorts by time.
    pub id: String,
    /// When it was done.
    pub at: UnixMs,
    /// Who did it.
    pub who: AuditWho,
    /// What was done.
    pub what: AuditWhat,
    /// What it was done to.
    pub target: AuditTarget,
    /// How far it went.
    pub outcome: AuditOutcome,
    /// Of how many jobs, where the call was about several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<AuditCounts>,
    /// The request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// The caller's trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<TraceParent>,
}

impl AuditEntry {
    /// What `caller` has done, as a source's entry `number`.
    pub fn new(caller: &Caller, at: UnixMs, source: u16, number: u64, what: AuditWhat, target: AuditTarget) -> Self {
        let act = caller.act.as_deref();
        let who = AuditWho {
            user: caller.user.clone(),
            via: act.map(|act: &Act| act.via),
        };
        Self {
            request_id: act.map(|act| act.request_id.clone()),
            traceparent: act.and_then(|act| act.traceparent.clone()),
            ..Self::by(who, at, source, number, what, target)
        }
    }

    /// What `who` has done outside any request.
    pub fn by(who: AuditWho, at: UnixMs, source: u16, number: u64, what: AuditWhat, target: AuditTarget) -> Self {
        Self {
            id: alloc::format!("aud_{:011x}{source:04x}{number:08x}", at.0),
            at,
            who,
            what,
            target,
            outcome: AuditOutcome::Done,
            counts: None,
            request_id: None,
            traceparent: None,
        }
    }

    /// How far it went, as `counts` says.
    pub fn counting(mut self, counts: AuditCounts) -> Self {
        if counts.refused > 0 {
            self.outcome = AuditOutcome::Partly;
        }
        self.counts = Some(counts);
        self
    }
}

/// An entry as it is shown and archived: its place in the chain, and the act.
#[cfg(feature = "schema")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ShownEntry {
    /// Its number in the trail: one more than that of the entry before.
    pub seq: u64,
    /// The hash of the entry before, as 64 hexadecimal digits. Absent where the entry is of before the chain, or stands
    /// for several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_hash: Option<String>,
    /// The SHA-256 hash of the number, the hash before and the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// The numbers of the act's other parts, which are added up in this one. Such an entry has no hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<Vec<u64>>,
    /// The number of the entry that is the first part of the same act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<u64>,
    /// The act.
    #[serde(flatten)]
    pub entry: AuditEntry,
}

/// A page of the audit trail: newest first, or, behind a number, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditPage {
    /// The entries, each an [`AuditEntry`] with its place in the chain.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<ShownEntry>"))]
    pub entries: Vec<JsonText>,
    /// Where the next page begins, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// The newest entry of the whole trail, as `SEQ:HASH`: what is noted elsewhere to check the trail by later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// The last entry that is only in the archive, as `SEQ:HASH`. Absent where none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_act_is_read_as_it_is_written_and_no_two_are_written_alike() {
        for what in AuditWhat::ALL {
            assert_eq!(AuditWhat::parse(what.as_str()), Some(*what));
            assert_eq!(serde_json::to_value(what).unwrap(), what.as_str());
        }
        assert_eq!(AuditWhat::parse("job.made"), None);
    }
}
