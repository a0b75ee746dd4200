//! The audit trail: who changed what by hand. No payload, no secret and no note of a job is part of it.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::calls::Caller;
use crate::calls::audit::{Act, Via};
use crate::calls::queueing::PauseScope;
use crate::error::ErrorCode;
use crate::event::{JobState, JsonText};
use crate::ids::{
    ActionName, ApiKeyId, BatchId, JobId, RequestId, Revision, ScheduleName, TokenId, TraceParent, UserId,
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
    /// A breaker was opened by hand.
    UpstreamOpened = "upstream.opened",
    /// A breaker was closed by hand.
    UpstreamClosed = "upstream.closed",
    /// A breaker was disabled.
    UpstreamDisabled = "upstream.disabled",
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
        Self {
            id: alloc::format!("aud_{:011x}{source:04x}{number:08x}", at.0),
            at,
            who: AuditWho {
                user: caller.user.clone(),
                via: act.map(|act: &Act| act.via),
            },
            what,
            target,
            outcome: AuditOutcome::Done,
            counts: None,
            request_id: act.map(|act| act.request_id.clone()),
            traceparent: act.and_then(|act| act.traceparent.clone()),
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

    /// Takes in another part of the same act.
    pub fn take_part(&mut self, part: Self) {
        let free = AUDIT_JOBS_MAX.saturating_sub(self.target.jobs.len());
        self.target.jobs.extend(part.target.jobs.into_iter().take(free));
        if part.outcome == AuditOutcome::Partly {
            self.outcome = AuditOutcome::Partly;
        }
        self.counts = match (self.counts, part.counts) {
            (Some(ours), Some(theirs)) => Some(AuditCounts {
                done: ours.done.saturating_add(theirs.done),
                refused: ours.refused.saturating_add(theirs.refused),
            }),
            (ours, theirs) => ours.or(theirs),
        };
    }
}

/// A page of the audit trail, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditPage {
    /// The entries, each an [`AuditEntry`].
    #[cfg_attr(feature = "schema", schemars(with = "Vec<AuditEntry>"))]
    pub entries: Vec<JsonText>,
    /// Where the next page begins, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
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

    #[test]
    fn parts_of_an_act_add_up_and_name_a_bounded_number_of_jobs() {
        let caller = Caller {
            user: UserId::parse("op").unwrap(),
            reads_all: true,
            writes_all: true,
            act: None,
        };
        let job = JobId::parse("job_0000000000a000001").unwrap();
        let part = |jobs: usize, done, refused| {
            let target = AuditTarget {
                jobs: alloc::vec![job; jobs],
                ..AuditTarget::default()
            };
            AuditEntry::new(&caller, UnixMs(1), 0, 1, AuditWhat::JobsCancelled, target)
                .counting(AuditCounts { done, refused })
        };
        let mut entry = part(7, 7, 0);
        assert_eq!(entry.outcome, AuditOutcome::Done);
        entry.take_part(part(7, 9, 2));
        assert_eq!(entry.counts, Some(AuditCounts { done: 16, refused: 2 }));
        assert_eq!(
            (entry.outcome, entry.target.jobs.len()),
            (AuditOutcome::Partly, AUDIT_JOBS_MAX)
        );
    }
}
