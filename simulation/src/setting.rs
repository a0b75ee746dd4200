//! What the tenants of the simulation run: actions that are quick to time out, so that a history holds much.

use tidegate_protocol::SortedMap;

use serde_json::json;
use tidegate_engine::composition::{
    Action, AwayRules, DeclaredMode, DedupeRules, Input, OnEndRules, OnceRules, Plan, Queue,
};
use tidegate_protocol::calls::executor::{Backoff, Dispatch, Factor, Jitter, Policy, Sharing};
use tidegate_protocol::calls::jobs::NewJob;
use tidegate_protocol::calls::once::{DedupeRule, KeyLife};
use tidegate_protocol::calls::reporting::{Durability, Reporting};
use tidegate_protocol::calls::schedules::{Overlap, Schedule};
use tidegate_protocol::calls::tenant::Scale;
use tidegate_protocol::calls::versions::RevisionRule;
use tidegate_protocol::event::{JsonText, Payload};
use tidegate_protocol::frames::OnDisconnect;
use tidegate_protocol::ids::{ActionName, PoolName, RequestId, Revision, ScheduleName, ShardIndex, UserId};

/// The lease of every action. Milliseconds.
pub const LEASE_MS: u64 = 5000;
/// How long one attempt of every action may take. Milliseconds.
pub const ATTEMPT_MS: u64 = 20_000;
/// The shortest wait between two attempts. Milliseconds.
pub const BACKOFF_MIN_MS: u64 = 100;
/// The revisions that a tenant switches between.
pub const REVISIONS: [&str; 3] = ["rev_1", "rev_2", "rev_3"];
/// The actions.
pub const ACTIONS: [&str; 12] = [
    "work", "back", "quick", "bound", "late", "echo", "brief", AWAY, SAME, LAST, ONE, NEWEST,
];
/// The action whose requests of one value are one job until that has ended.
pub const SAME: &str = "same";
/// The action whose job, until it begins, takes the input of the last request of its value.
pub const LAST: &str = "last";
/// The action that workers of the pool [`POOL`] run.
pub const AWAY: &str = "away";
/// The action of which a tenant runs one job, and refuses others meanwhile.
pub const ONE: &str = "one";
/// The action of which a user has one job that runs, the newest.
pub const NEWEST: &str = "newest";
/// The pool.
pub const POOL: &str = "far";
/// The tenants.
pub const TENANTS: [&str; 2] = ["acme", "bolt"];
/// Idempotency keys are few, so that they meet.
pub const KEYS: u64 = 3;

/// Jobs of `work`, `back` and `away` that run at once in a tenant: fewer than it may have objects.
pub const RUNNING_MAX: usize = 3;
/// Jobs of `work` of one user that run at once.
pub const USER_RUNNING_MAX: usize = 2;
/// Objects that a tenant's jobs may be spread over in the end. No throttle may be smaller.
pub const SHARDS_MAX: u16 = 4;
const _: () = assert!(RUNNING_MAX < SHARDS_MAX as usize && BRIEF_UNITS >= SHARDS_MAX as u64);
/// Starts of `brief` in a tenant: so many at once after a pause …
pub const BRIEF_BURST: u32 = 4;
/// … and one more in this time. Milliseconds.
pub const BRIEF_INTERVAL_MS: u64 = 250;
/// Starts of `brief` that are counted together.
const BRIEF_UNITS: u64 = 4;

/// How the tenants' jobs wait. The limits stay the same, whichever revision is active.
fn queue(scale: Scale) -> Queue {
    let section = json!({
        "share": { "key": "user", "weights": { "u0": 3 } },
        "limits": {
            "all": { "actions": ["work", "back", AWAY], "concurrency": RUNNING_MAX },
            "each": { "actions": "work", "key": "user", "concurrency": USER_RUNNING_MAX },
            "one": { "actions": ONE, "concurrency": 1, "when_full": "refuse" },
            "newest": { "actions": NEWEST, "key": "user", "concurrency": 1, "when_full": "replace" },
            "pace": {
                "actions": "brief",
                "throttle": {
                    "units": BRIEF_UNITS,
                    "per": format!("{}ms", BRIEF_UNITS * BRIEF_INTERVAL_MS),
                    "burst": u64::from(BRIEF_BURST)
                }
            }
        }
    });
    let mut faults = Vec::new();
    let queue = Queue::read(&section, "/queue", scale, &mut faults);
    assert!(faults.is_empty(), "{faults:?}");
    queue
}

/// The limits of time of an action, in milliseconds.
#[derive(Default)]
struct Limits {
    queue_ms: Option<u64>,
    total_ms: Option<u64>,
    silence_ms: Option<u64>,
}

fn limits(action: &str) -> Limits {
    let none = Limits::default();
    match action {
        "bound" => Limits {
            total_ms: Some(11_000),
            silence_ms: Some(2000),
            ..none
        },
        "late" => Limits {
            queue_ms: Some(2500),
            ..none
        },
        "quick" => Limits {
            total_ms: Some(12_000),
            ..none
        },
        "brief" => Limits {
            queue_ms: Some(3000),
            total_ms: Some(8000),
            ..none
        },
        _ => none,
    }
}

fn backoff(action: &str) -> Backoff {
    match action {
        "back" => Backoff::Constant { ms: 500 },
        "bound" => Backoff::Table {
            waits_ms: vec![8000, BACKOFF_MIN_MS],
        },
        "late" => Backoff::Linear {
            initial_ms: 2 * BACKOFF_MIN_MS,
            increment_ms: 400,
            cap_ms: 1000,
        },
        "brief" => Backoff::Polynomial {
            unit_ms: BACKOFF_MIN_MS,
            power: 3,
            cap_ms: 2000,
        },
        _ => Backoff::Exponential {
            initial_ms: 2 * BACKOFF_MIN_MS,
            factor: Factor::default(),
            cap_ms: 3000,
        },
    }
}

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
pub fn schedules(tenant: &str, revision: &str, scale: Scale) -> Vec<Schedule> {
    if tenant != TENANTS[0] {
        return Vec::new();
    }
    let action = plan(revision, scale)
        .actions
        .into_values()
        .find(|action| action.name.as_str() == "work")
        .expect("the action");
    let (user, metadata) = (UserId::parse(CLOCK_USER).expect("a user"), SortedMap::new());
    let payload = JsonText::parse(&format!("\"{tenant}/{CLOCK_USER}\"")).expect("JSON");
    let input = Input::new(&user, &action.name, &metadata, &payload);
    let queueing = action
        .queue
        .queueing(&input, None, ShardIndex(0), scale)
        .expect("no cost");
    let schedule = |name: &str, cron: &str, overlap, catch_up_ms, jitter_ms| Schedule {
        name: ScheduleName::parse(name).expect("a name"),
        cron: cron.into(),
        time_zone: "Europe/Berlin".into(),
        job: NewJob {
            request_id: RequestId::parse("schedule").expect("an id"),
            user: user.clone(),
            action: action.name.clone(),
            revision: Revision::parse(revision).expect("a revision"),
            policy: action.policy.clone(),
            queueing: queueing.clone(),
            payload: Payload::Inline(payload.clone()),
            metadata: metadata.clone(),
            run_at: None,
            redriven_from: None,
            batch: None,
            once: None,
            traceparent: None,
            hook: action.on_end.as_ref().and_then(OnEndRules::standing),
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

/// What is kept of the text of a job: little, so that it is forgotten while it is looked for. Bytes.
pub const KEEP_BYTES: u64 = 400;

/// Attempts of a job at most, under whichever revision.
pub const ATTEMPTS_MAX: u32 = 4;

/// How long a key of some actions names its job, unless that ended without a result: then it is free. Milliseconds.
pub const KEY_LIFE_MS: u64 = 3000;

/// How long a cancelled attempt of some actions may take to bring itself to an end. Milliseconds.
pub const GRACE_MS: u64 = 2500;

/// How long a job may be without followers whose request asked for that. Milliseconds.
pub const LEFT_MS: u64 = 3000;

/// Whether each event of an action's jobs is kept.
pub fn keeps_all(action: &str) -> bool {
    action == "late"
}

/// Whether an action's cancelled attempts have a grace of [`GRACE_MS`].
fn graceful(action: &str) -> bool {
    matches!(action, "work" | "late")
}

/// Whether keys of an action live for [`KEY_LIFE_MS`] and not as long as their jobs.
pub fn short_lived(action: &ActionName) -> bool {
    matches!(action.as_str(), "back" | "bound" | "quick" | SAME)
}

/// Whether attempts of an action do what the active composition says, or the one of their acceptance.
pub fn revision_rule(action: &str) -> RevisionRule {
    match action {
        "back" => RevisionRule::Latest,
        _ => RevisionRule::Accepted,
    }
}

/// How an action tells its requests apart by their own values.
fn dedupe(action: &str) -> Option<DedupeRules> {
    let rule = match action {
        SAME => DedupeRule::UntilEnded,
        LAST => DedupeRule::KeepLast {
            wait_ms: 1000,
            max_wait_ms: 2500,
        },
        _ => return None,
    };
    Some(DedupeRules::by("payload.n", rule).expect("a path"))
}

/// The plan of a revision.
pub fn plan(revision: &str, scale: Scale) -> Plan {
    let attempts_max = 2 + REVISIONS.iter().position(|r| *r == revision).unwrap_or(0) as u32;
    let queue = queue(scale);
    let mut actions = SortedMap::new();
    for name in ACTIONS {
        let mode = match name {
            "quick" => DeclaredMode::Auto { deadline_ms: 1500 },
            "echo" => DeclaredMode::Sync,
            _ => DeclaredMode::Async,
        };
        let limits = limits(name);
        let policy = Policy {
            attempts_max,
            backoff: backoff(name),
            jitter: (name == "late").then_some(Jitter::PlusMinus { percent: 50 }),
            timeout_ms: ATTEMPT_MS,
            queue_timeout_ms: limits.queue_ms,
            total_timeout_ms: limits.total_ms,
            heartbeat_timeout_ms: limits.silence_ms,
            lease_ms: LEASE_MS,
            cancel_grace_ms: if graceful(name) { GRACE_MS } else { 0 },
            retention_ms: if name == "brief" { 15_000 } else { 48 * 3_600_000 },
            result_retention_ms: None,
            dispatch: match name {
                "back" | "late" => Dispatch::Queue,
                "bound" => Dispatch::Auto,
                _ => Dispatch::Direct,
            },
            sharing: Sharing::Alone,
            reporting: Reporting {
                durability: if keeps_all(name) {
                    Durability::All
                } else {
                    Durability::Last
                },
                keep_bytes: KEEP_BYTES,
                ..Reporting::default()
            },
            pool: (name == AWAY).then(|| PoolName::parse(POOL).expect("a name")),
            revision: revision_rule(name),
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
            policies: Vec::new(),
            admission: Default::default(),
            queue: queue.rules_of(&name),
            once: OnceRules {
                key_life: short_lived(&name).then_some(KeyLife {
                    ttl_ms: Some(KEY_LIFE_MS),
                    failed_frees: true,
                }),
                dedupe: dedupe(name.as_str()),
            },
            scopes: Vec::new(),
            on_end: None,
            away: AwayRules {
                on_disconnect: if name.as_str() == "late" {
                    OnDisconnect::Cancel
                } else {
                    OnDisconnect::Continue
                },
                grace_ms: LEFT_MS,
            },
            settings: JsonText::parse("{}").expect("JSON"),
            runs_in_hub: mode == DeclaredMode::Sync,
        };
        actions.insert(name, action.into());
    }
    Plan {
        schedules: Vec::new(),
        revision: Revision::parse(revision).expect("a revision"),
        scale,
        connections: Default::default(),
        actions,
        patterns: SortedMap::new(),
        webhooks: SortedMap::new(),
        channels: Default::default(),
        channel_limits: Default::default(),
        origins: Default::default(),
    }
}
