//! What the tenants of the simulation run: actions that are quick to time out, so that a history holds much.

use std::collections::BTreeMap;

use tidegate_engine::composition::{Action, DeclaredMode, Plan};
use tidegate_protocol::calls::executor::{Backoff, Dispatch, Policy, Sharing};
use tidegate_protocol::calls::jobs::NewJob;
use tidegate_protocol::calls::schedules::{Overlap, Schedule};
use tidegate_protocol::calls::tenant::Scale;
use tidegate_protocol::event::{JsonText, Payload};
use tidegate_protocol::ids::{ActionName, RequestId, Revision, ScheduleName, UserId};

/// The lease of every action. Milliseconds.
pub const LEASE_MS: u64 = 5000;
/// The shortest wait between two attempts. Milliseconds.
pub const BACKOFF_MIN_MS: u64 = 100;
/// The revisions that a tenant switches between.
pub const REVISIONS: [&str; 3] = ["rev_1", "rev_2", "rev_3"];
/// The actions.
pub const ACTIONS: [&str; 5] = ["work", "back", "quick", "echo", "brief"];
/// The tenants.
pub const TENANTS: [&str; 2] = ["acme", "bolt"];
/// Idempotency keys are few, so that they meet.
pub const KEYS: u64 = 6;

/// Whose the jobs of schedules are.
pub const CLOCK_USER: &str = "clock";
/// The schedule that fires whatever happens, each of its times, in order.
pub const STEADY: &str = "steady";
/// The time between two nominal times of [`STEADY`]. Milliseconds.
pub const STEADY_MS: u64 = 4000;
/// The time between two nominal times of the other schedule. Milliseconds.
pub const FITFUL_MS: u64 = 5000;

/// The schedules of a tenant under a revision: one that fires always, and one with jitter, a small window, and an overlap
/// that the revision decides. Only the first tenant has them, so that histories hold other things too.
pub fn schedules(tenant: &str, revision: &str) -> Vec<Schedule> {
    if tenant != TENANTS[0] {
        return Vec::new();
    }
    let action = plan(revision, Scale::default())
        .actions
        .into_values()
        .find(|action| action.name.as_str() == "work")
        .expect("the action");
    let schedule = |name: &str, cron: &str, overlap, catch_up_ms, jitter_ms| Schedule {
        name: ScheduleName::parse(name).expect("a name"),
        cron: cron.into(),
        time_zone: "Europe/Berlin".into(),
        job: NewJob {
            request_id: RequestId::parse("schedule").expect("an id"),
            user: UserId::parse(CLOCK_USER).expect("a user"),
            action: action.name.clone(),
            revision: Revision::parse(revision).expect("a revision"),
            policy: action.policy.clone(),
            payload: Payload::Inline(JsonText::parse(&format!("\"{tenant}/{CLOCK_USER}\"")).expect("JSON")),
            metadata: BTreeMap::new(),
            run_at: None,
            traceparent: None,
        },
        overlap,
        catch_up_ms,
        jitter_ms,
        paused: false,
    };
    let overlap = match revision {
        "rev_1" => Overlap::QueueOne,
        "rev_2" => Overlap::Skip,
        _ => Overlap::CancelOld,
    };
    vec![
        schedule(STEADY, "*/4 * * * * *", Overlap::Allow, 3_600_000, 0),
        schedule("fitful", "*/5 * * * * *", overlap, 2000, 1500),
    ]
}

/// The plan of a revision.
pub fn plan(revision: &str, scale: Scale) -> Plan {
    let attempts_max = 2 + REVISIONS.iter().position(|r| *r == revision).unwrap_or(0) as u32;
    let mut actions = BTreeMap::new();
    for name in ACTIONS {
        let mode = match name {
            "quick" => DeclaredMode::Auto { deadline_ms: 1500 },
            "echo" => DeclaredMode::Sync,
            _ => DeclaredMode::Async,
        };
        let policy = Policy {
            attempts_max,
            backoff: if name == "back" {
                Backoff::Constant { ms: 500 }
            } else {
                Backoff::Exponential {
                    initial_ms: 2 * BACKOFF_MIN_MS,
                    cap_ms: 3000,
                }
            },
            timeout_ms: 20_000,
            lease_ms: LEASE_MS,
            retention_ms: if name == "brief" { 15_000 } else { 48 * 3_600_000 },
            dispatch: if name == "back" {
                Dispatch::Queue
            } else {
                Dispatch::Direct
            },
            sharing: Sharing::Alone,
        };
        let name = ActionName::parse(name).expect("a name");
        let action = Action {
            name: name.clone(),
            description: None,
            instance: "i".into(),
            pattern: "p".into(),
            operation: "o".into(),
            mode,
            policy,
            scopes: Vec::new(),
            settings: JsonText::parse("{}").expect("JSON"),
            runs_in_hub: mode == DeclaredMode::Sync,
        };
        actions.insert(name, action.into());
    }
    Plan {
        schedules: Vec::new(),
        revision: Revision::parse(revision).expect("a revision"),
        scale,
        actions,
        patterns: BTreeMap::new(),
    }
}
