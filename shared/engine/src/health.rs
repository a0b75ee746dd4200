//! How a tenant is: what its gate knows of upstreams and secrets, and what its queue says, come to one word and its reasons.
//!
//! It reads and changes nothing. It must not ask anybody: whoever asks for it brings what the queue says.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tidegate_protocol::calls::queueing::{Pause, PauseScope};
use tidegate_protocol::calls::tenant::{Call, Reply};
use tidegate_protocol::calls::upstreams::BreakerState;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::{
    BreakerView, HealthCode, HealthReason, HealthStatus, HealthView, QueueHealth, QueueView, UpstreamHealth,
};
use tidegate_protocol::ids::ShardIndex;
use tidegate_protocol::time::{UnixMs, format_duration};
use tidegate_protocol::{Error, ErrorCode};

use crate::database::{Database, DatabaseError};
use crate::secrets;
use crate::upstreams::Breakers;

/// A job that could have started so long ago and has not: more than the alarms and retries of the queue itself ever take.
/// Milliseconds.
pub const WAITING_MS_MAX: u64 = 5 * 60 * 1000;

/// Answers [`Call::Health`], and no other question.
///
/// Errors: the database's.
pub fn handle(
    db: &impl Database,
    breakers: &mut Breakers,
    now: UnixMs,
    call: &Call,
) -> Result<Result<Reply, Error>, DatabaseError> {
    let Call::Health {
        key,
        queue,
        unreachable,
    } = call
    else {
        let message = "A question reached the wrong part of the gate.";
        return Ok(Err(Error::new(ErrorCode::InternalError, message)));
    };
    let breakers = breakers.show(db, now)?.breakers;
    let old = secrets::list(db, key)?.secrets.into_iter();
    let old: Vec<String> = old
        .filter(|secret| secret.old_deployment_key)
        .map(|secret| secret.name.to_string())
        .collect();
    let view = assess(now, &breakers, &old, queue, unreachable);
    let unwritten = || Error::new(ErrorCode::InternalError, "The health could not be written.");
    Ok(JsonText::of(&view).map(Reply::Shown).ok_or_else(unwritten))
}

/// What it all comes to.
fn assess(
    now: UnixMs,
    breakers: &[BreakerView],
    old_secrets: &[String],
    queue: &QueueView,
    unreachable: &[ShardIndex],
) -> HealthView {
    let mut reasons = Vec::new();
    let mut note = |code, name: String, message: String| reasons.push(HealthReason { code, name, message });
    for shard in unreachable {
        let message = "An object of the job queue does not answer: its jobs are not counted here.";
        note(
            HealthCode::QueueUnreachable,
            format!("jobs:{}", shard.0),
            message.into(),
        );
    }
    for breaker in breakers {
        let (code, message) = match breaker.state {
            BreakerState::Closed => continue,
            BreakerState::Open => (
                HealthCode::BreakerOpen,
                "The upstream fails, and is not called for a time.",
            ),
            BreakerState::HalfOpen => (
                HealthCode::BreakerOpen,
                "The upstream failed; probes tell whether it is back.",
            ),
            BreakerState::HeldOpen => (
                HealthCode::BreakerHeld,
                "The upstream is not called until its breaker is closed by hand.",
            ),
            BreakerState::Disabled => (
                HealthCode::BreakerHeld,
                "The breaker does nothing until it is closed by hand.",
            ),
        };
        let name = match breaker.key.as_str() {
            "" => breaker.upstream.clone(),
            key => format!("{}/{key}", breaker.upstream),
        };
        note(code, name, message.into());
    }
    if queue.dead_letters > 0 {
        let message = format!("{} jobs failed for good: redrive or discard them.", queue.dead_letters);
        note(HealthCode::DeadLetters, String::new(), message);
    }
    let waits_ms = queue.oldest_waiting_at.map_or(0, |since| now.since(since));
    if waits_ms > WAITING_MS_MAX {
        // In whole minutes: it is no measurement.
        let waits = format_duration(waits_ms - waits_ms % 60_000);
        let message = format!("A job has been waiting for {waits}: `tidegate job why` says what for.");
        note(HealthCode::JobsWaiting, String::new(), message);
    }
    for Pause { scope, .. } in &queue.pauses {
        let name = match scope {
            PauseScope::Tenant => String::from("tenant"),
            PauseScope::Action(pattern) => format!("action {}", pattern.as_str()),
            PauseScope::Key(key) => format!("key {key}"),
        };
        note(
            HealthCode::QueuePaused,
            name,
            "Jobs are held back by hand until they are resumed.".into(),
        );
    }
    for name in old_secrets {
        let message = "It was set under an earlier key of the deployment: set it again.";
        note(HealthCode::SecretOfOldKey, name.clone(), message.into());
    }
    let status = match (unreachable.is_empty(), reasons.is_empty()) {
        (false, _) => HealthStatus::Unhealthy,
        (true, false) => HealthStatus::Degraded,
        (true, true) => HealthStatus::Healthy,
    };
    HealthView {
        status,
        reasons,
        upstreams: breakers.iter().map(upstream).collect(),
        queue: QueueHealth {
            running: queue.running,
            waiting: queue.waiting,
            oldest_waiting_at: queue.oldest_waiting_at,
            dead_letters: queue.dead_letters,
            shards: queue.shards,
            growing_to: queue.growing_to,
        },
    }
}

fn upstream(breaker: &BreakerView) -> UpstreamHealth {
    UpstreamHealth {
        upstream: breaker.upstream.clone(),
        key: breaker.key.clone(),
        state: breaker.state,
        since: breaker.changes.last().map(|change| change.at),
        calls: breaker.calls,
        failed_percent: breaker
            .failed
            .saturating_mul(100)
            .checked_div(breaker.calls)
            .unwrap_or(0),
    }
}

#[cfg(test)]
#[cfg(feature = "native")]
mod tests;
