//! What makes a tenant less than healthy, each by itself.

use alloc::string::String;
use alloc::vec::Vec;

use tidegate_protocol::calls::queueing::{ActionPattern, Pause, PauseScope};
use tidegate_protocol::calls::tenant::{Call, Reply};
use tidegate_protocol::calls::upstreams::BreakerState;
use tidegate_protocol::http::{BreakerChanged, BreakerView, HealthCode, HealthStatus, HealthView, QueueView};
use tidegate_protocol::ids::{ShardIndex, UserId};
use tidegate_protocol::time::UnixMs;

use super::{WAITING_MS_MAX, assess, handle};
use crate::database::migrate;
use crate::database::native::Native;
use crate::tenancy::STEPS;
use crate::upstreams::Breakers;

const NOW: UnixMs = UnixMs(1_800_000_000_000);

fn breaker(state: BreakerState, key: &str) -> BreakerView {
    BreakerView {
        upstream: "bank.main".into(),
        key: key.into(),
        state,
        until: None,
        streak: 0,
        calls: 8,
        failed: 2,
        slow: 0,
        probes: 0,
        changes: alloc::vec![BreakerChanged {
            at: UnixMs(7),
            to: state,
            why: String::new(),
        }],
    }
}

fn paused(scope: PauseScope) -> QueueView {
    QueueView {
        pauses: alloc::vec![Pause {
            scope,
            by: UserId::parse("op").unwrap(),
            since: NOW,
        }],
        ..QueueView::default()
    }
}

fn codes(view: &HealthView) -> Vec<(HealthCode, &str)> {
    let reasons = view.reasons.iter();
    reasons.map(|reason| (reason.code, reason.name.as_str())).collect()
}

#[test]
fn a_tenant_without_anything_is_healthy() {
    let db = Native::in_memory().unwrap();
    migrate(&db, STEPS).unwrap();
    let call = Call::Health {
        key: "k".into(),
        queue: alloc::boxed::Box::default(),
        unreachable: Vec::new(),
    };
    let Ok(Reply::Shown(shown)) = handle(&db, &mut Breakers::default(), NOW, &call).unwrap() else {
        panic!("another reply")
    };
    let view: HealthView = serde_json::from_str(shown.as_str()).unwrap();
    assert_eq!((view.status, view.reasons.len()), (HealthStatus::Healthy, 0));
    assert!(
        handle(&db, &mut Breakers::default(), NOW, &Call::Keys)
            .unwrap()
            .is_err()
    );
}

#[test]
fn what_works_as_it_should_is_no_reason() {
    let queue = QueueView {
        running: 5,
        waiting: 900,
        oldest_waiting_at: Some(UnixMs(NOW.0 - WAITING_MS_MAX)),
        growing_to: Some(4),
        ..QueueView::default()
    };
    let view = assess(NOW, &[breaker(BreakerState::Closed, "")], &[], &queue, &[]);
    assert_eq!((view.status, codes(&view)), (HealthStatus::Healthy, Vec::new()));
    assert_eq!(
        (view.upstreams[0].failed_percent, view.upstreams[0].since),
        (25, Some(UnixMs(7)))
    );
    assert_eq!((view.queue.waiting, view.queue.growing_to), (900, Some(4)));
}

#[test]
fn each_thing_that_somebody_should_look_at_is_a_reason() {
    let none = QueueView::default();
    let of = |state, key| assess(NOW, &[breaker(state, key)], &[], &none, &[]);
    let dead = QueueView {
        dead_letters: 3,
        ..QueueView::default()
    };
    let late = QueueView {
        oldest_waiting_at: Some(UnixMs(NOW.0 - WAITING_MS_MAX - 1)),
        ..QueueView::default()
    };
    let mail = PauseScope::Action(ActionPattern::parse("mail.*").unwrap());
    for (view, code, name) in [
        (of(BreakerState::Open, ""), HealthCode::BreakerOpen, "bank.main"),
        (
            of(BreakerState::HalfOpen, "eu"),
            HealthCode::BreakerOpen,
            "bank.main/eu",
        ),
        (of(BreakerState::HeldOpen, ""), HealthCode::BreakerHeld, "bank.main"),
        (of(BreakerState::Disabled, ""), HealthCode::BreakerHeld, "bank.main"),
        (assess(NOW, &[], &[], &dead, &[]), HealthCode::DeadLetters, ""),
        (assess(NOW, &[], &[], &late, &[]), HealthCode::JobsWaiting, ""),
        (
            assess(NOW, &[], &[], &paused(mail), &[]),
            HealthCode::QueuePaused,
            "action mail.*",
        ),
        (
            assess(NOW, &[], &["bank".into()], &none, &[]),
            HealthCode::SecretOfOldKey,
            "bank",
        ),
    ] {
        assert_eq!(codes(&view), [(code, name)]);
        assert_eq!(view.status, HealthStatus::Degraded, "{name}");
        assert!(!view.reasons[0].message.is_empty());
    }
}

#[test]
fn a_part_that_does_not_answer_makes_it_unhealthy_whatever_else_there_is() {
    let view = assess(
        NOW,
        &[breaker(BreakerState::Open, "")],
        &[],
        &paused(PauseScope::Tenant),
        &[ShardIndex(1)],
    );
    let expected = [
        (HealthCode::QueueUnreachable, "jobs:1"),
        (HealthCode::BreakerOpen, "bank.main"),
        (HealthCode::QueuePaused, "tenant"),
    ];
    assert_eq!(
        (view.status, codes(&view)),
        (HealthStatus::Unhealthy, Vec::from(expected))
    );
}
