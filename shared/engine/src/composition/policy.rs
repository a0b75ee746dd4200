//! How an action is tried, read from its fields: timeout, lease, retry, retention, dispatch, and the deadline of `auto`.

use alloc::format;
use alloc::vec::Vec;

use serde_json::Value;
use tidegate_protocol::Fault;
use tidegate_protocol::calls::executor::{Backoff, Dispatch, Policy, Sharing};
use tidegate_protocol::time::format_duration;

use super::defaults::{
    ATTEMPT_TIMEOUT_MS, ATTEMPT_TIMEOUT_MS_RANGE, ATTEMPTS, ATTEMPTS_RANGE, AUTO_DEADLINE_MS, AUTO_DEADLINE_MS_RANGE,
    BACKOFF_CAP_MS, BACKOFF_INITIAL_MS, BACKOFF_MS_RANGE, DISPATCH, LEASE_MS, LEASE_MS_RANGE, RETENTION_MS,
    RETENTION_MS_RANGE, SYNC_TIMEOUT_MS, SYNC_TIMEOUT_MS_RANGE,
};
use super::manifest::Mode;
use super::object::Object;
use super::plan::DeclaredMode;

/// How the action is tried. What is wrong has been noted, and stands at its default.
pub(super) fn read_policy(fields: &mut Object<'_, '_>, mode: Option<Mode>, sharing: Sharing) -> Policy {
    let (range, default) = match mode {
        Some(Mode::Sync) => (SYNC_TIMEOUT_MS_RANGE, SYNC_TIMEOUT_MS),
        Some(Mode::Async | Mode::Auto) | None => (ATTEMPT_TIMEOUT_MS_RANGE, ATTEMPT_TIMEOUT_MS),
    };
    let timeout_ms = fields.duration("timeout", range).unwrap_or(default);
    let lease_ms = fields.duration("lease", LEASE_MS_RANGE).unwrap_or(LEASE_MS);
    let retention_ms = fields.duration("retention", RETENTION_MS_RANGE).unwrap_or(RETENTION_MS);
    let dispatch = match fields.one_of("dispatch", &["direct", "queue"]) {
        Some("direct") => Dispatch::Direct,
        Some(_) => Dispatch::Queue,
        None => DISPATCH,
    };
    if let (Dispatch::Queue, Some(mode @ (Mode::Sync | Mode::Auto))) = (dispatch, mode) {
        let got = format!("`queue` with the mode `{}`", mode.as_str());
        fields.fault("dispatch", "`queue` only where the mode is `async`", &got);
    }
    let (attempts_max, backoff) = match fields.take("retry") {
        Some(value) => read_retry(value, &fields.at("retry"), fields.faults),
        None => (ATTEMPTS, backoff(None, None)),
    };
    Policy {
        attempts_max,
        backoff,
        timeout_ms,
        lease_ms,
        retention_ms,
        dispatch,
        sharing,
    }
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

fn read_retry(value: &Value, pointer: &str, faults: &mut Vec<Fault>) -> (u32, Backoff) {
    let Some(mut fields) = Object::read(value, pointer, faults) else {
        return (ATTEMPTS, backoff(None, None));
    };
    let attempts = fields.number("attempts", ATTEMPTS_RANGE);
    let attempts = attempts
        .and_then(|attempts| u32::try_from(attempts).ok())
        .unwrap_or(ATTEMPTS);
    let kind = fields.one_of("backoff", &["exponential", "constant"]);
    let initial_ms = fields.duration("initial", BACKOFF_MS_RANGE);
    let cap_ms = fields.duration("cap", BACKOFF_MS_RANGE);
    let backoff = if kind == Some("constant") {
        if fields.take("cap").is_some() {
            fields.fault("cap", "a cap only where the backoff is `exponential`", "one");
        }
        Backoff::Constant {
            ms: initial_ms.unwrap_or(BACKOFF_INITIAL_MS),
        }
    } else {
        let initial = initial_ms.unwrap_or(BACKOFF_INITIAL_MS);
        if let Some(cap_ms) = cap_ms.filter(|cap_ms| *cap_ms < initial) {
            let expected = format!("a cap not below `initial`, {}", format_duration(initial));
            fields.fault("cap", expected, &format_duration(cap_ms));
        }
        backoff(initial_ms, cap_ms)
    };
    fields.finish();
    (attempts, backoff)
}

/// An exponential backoff; a first wait above the default cap raises the cap with it.
fn backoff(initial_ms: Option<u64>, cap_ms: Option<u64>) -> Backoff {
    let initial_ms = initial_ms.unwrap_or(BACKOFF_INITIAL_MS);
    Backoff::Exponential {
        initial_ms,
        cap_ms: cap_ms.unwrap_or(BACKOFF_CAP_MS.max(initial_ms)),
    }
}
