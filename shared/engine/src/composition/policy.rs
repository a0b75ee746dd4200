//! How an action is tried, read from its fields: limits of time, lease, retry, retention, dispatch, and the deadline of
//! `auto`.

use alloc::format;
use core::ops::RangeInclusive;

use tidegate_protocol::calls::executor::{Dispatch, Policy, Sharing};
use tidegate_protocol::calls::feeds::Feeds;
use tidegate_protocol::calls::versions::RevisionRule;
use tidegate_protocol::time::format_duration;

use super::defaults::{
    ATTEMPT_TIMEOUT_MS, ATTEMPT_TIMEOUT_MS_RANGE, AUTO_DEADLINE_MS, AUTO_DEADLINE_MS_RANGE, CANCEL_GRACE_MS_RANGE,
    DISPATCH, HEARTBEAT_TIMEOUT_MS_RANGE, LEASE_MS, LEASE_MS_RANGE, QUEUE_TIMEOUT_MS_RANGE, SYNC_TIMEOUT_MS,
    SYNC_TIMEOUT_MS_RANGE, TOTAL_TIMEOUT_MS_RANGE,
};
use super::latest::read_revision;
use super::manifest::Mode;
use super::object::Object;
use super::plan::DeclaredMode;
use super::reporting::read_reporting;
use super::retention::{Retention, read_action_retention};
use super::retry::{Retry, read_retry};

/// How the action is tried. What is wrong has been noted, and stands at its default.
pub(super) fn read_policy(
    fields: &mut Object<'_, '_>,
    mode: Option<Mode>,
    sharing: Sharing,
    retention: Retention,
) -> Policy {
    let (range, default) = match mode {
        Some(Mode::Sync) => (SYNC_TIMEOUT_MS_RANGE, SYNC_TIMEOUT_MS),
        Some(Mode::Async | Mode::Auto) | None => (ATTEMPT_TIMEOUT_MS_RANGE, ATTEMPT_TIMEOUT_MS),
    };
    let timeout_ms = fields.duration("timeout", range).unwrap_or(default);
    let lease_ms = fields.duration("lease", LEASE_MS_RANGE).unwrap_or(LEASE_MS);
    let retention = read_action_retention(fields, retention);
    let dispatch = match fields.one_of("dispatch", &["direct", "queue", "auto"]) {
        Some("direct") => Dispatch::Direct,
        Some("auto") => Dispatch::Auto,
        Some(_) => Dispatch::Queue,
        None => DISPATCH,
    };
    if let (true, Some(mode @ (Mode::Sync | Mode::Auto))) = (dispatch.rings(), mode) {
        let got = format!("{dispatch:?} with the mode `{}`", mode.as_str()).to_lowercase();
        fields.fault("dispatch", "`queue` and `auto` only where the mode is `async`", &got);
    }
    let retry = match fields.take("retry") {
        Some(value) => read_retry(value, &fields.at("retry"), fields.faults),
        None => Retry::default(),
    };
    let revision = read_revision(fields, mode);
    Policy {
        attempts_max: retry.attempts_max,
        backoff: retry.backoff,
        jitter: Some(retry.jitter),
        timeout_ms,
        queue_timeout_ms: read_limit(fields, "queue_timeout", QUEUE_TIMEOUT_MS_RANGE, mode),
        total_timeout_ms: read_limit(fields, "total_timeout", TOTAL_TIMEOUT_MS_RANGE, mode),
        heartbeat_timeout_ms: read_limit(fields, "heartbeat_timeout", HEARTBEAT_TIMEOUT_MS_RANGE, mode),
        lease_ms,
        cancel_grace_ms: read_limit(fields, "cancel_grace", CANCEL_GRACE_MS_RANGE, mode).unwrap_or(0),
        retention_ms: retention.jobs_ms,
        result_retention_ms: retention
            .results_ms
            .filter(|results_ms| *results_ms < retention.jobs_ms),
        dispatch,
        // What another composition makes of the action may need an invocation of its own.
        sharing: match revision {
            RevisionRule::Accepted => sharing,
            RevisionRule::Latest => Sharing::Alone,
        },
        reporting: read_reporting(fields),
        pool: None,
        revision,
        feeds: Feeds::default(),
    }
}

/// A limit that only jobs have: an answer on the spot is tried once, and ends with its `timeout`.
fn read_limit(
    fields: &mut Object<'_, '_>,
    name: &'static str,
    range: RangeInclusive<u64>,
    mode: Option<Mode>,
) -> Option<u64> {
    if mode == Some(Mode::Sync) && fields.take(name).is_some() {
        fields.fault(name, "this limit only where the mode is `async` or `auto`", "sync");
        return None;
    }
    fields.duration(name, range)
}

/// `auto` needs a deadline below the timeout; the others have none.
pub(super) fn read_deadline(fields: &mut Object<'_, '_>, mode: Option<Mode>, timeout_ms: u64) -> Option<DeclaredMode> {
    let given = fields.duration("deadline", AUTO_DEADLINE_MS_RANGE);
    match mode? {
        Mode::Auto => {
            if given.is_some_and(|deadline_ms| deadline_ms >= timeout_ms) {
                let expected = format!("a deadline below the timeout of {}", format_duration(timeout_ms));
                fields.fault("deadline", expected, &given.map(format_duration).unwrap_or_default());
            }
            // A timeout below the default deadline: the action then never turns into a job.
            let deadline_ms = given.unwrap_or(AUTO_DEADLINE_MS.min(timeout_ms));
            Some(DeclaredMode::Auto { deadline_ms })
        }
        other @ (Mode::Sync | Mode::Async) => {
            if fields.take("deadline").is_some() {
                fields.fault("deadline", "a deadline only where the mode is `auto`", other.as_str());
            }
            Some(if other == Mode::Sync {
                DeclaredMode::Sync
            } else {
                DeclaredMode::Async
            })
        }
    }
}
