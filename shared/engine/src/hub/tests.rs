//! What a hub guarantees its sockets: every event once and in order, whatever overtakes what.

mod batch;
mod followed;
#[cfg(feature = "native")]
mod log;
mod spread;
mod tokens;
mod workers;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::executor::{Backoff, Dispatch, Policy, Sharing};
use tidegate_protocol::calls::hub::{Delivery, Prefer, Reply as HubReply};
use tidegate_protocol::calls::jobs::{Call, Enqueue, Reply};
use tidegate_protocol::calls::spread::Spreads;
use tidegate_protocol::calls::tenant::Scale;
use tidegate_protocol::event::{Event, Happening, JobState, JsonText, Payload, Progress, Snapshot};
use tidegate_protocol::ids::{
    ActionName, ConnectionId, HubIndex, JobId, JobNumber, Revision, Seq, ShardIndex, TenantId, UserId,
};
use tidegate_protocol::limits::FOLLOWS_MAX;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::*;
use crate::composition::{Action, DeclaredMode, Plan};
use crate::connections::Bounds;
use tidegate_protocol::{SortedMap, SortedSet};

struct Bench {
    hub: Hub,
    plan: Plan,
    now: UnixMs,
    random: u64,
}

fn action(name: &str, mode: DeclaredMode, scopes: &[&str]) -> Action {
    Action {
        name: ActionName::parse(name).unwrap(),
        description: None,
        instance: "i".into(),
        pattern: "p".into(),
        operation: "o".into(),
        mode,
        policy: Policy {
            attempts_max: 3,
            backoff: Backoff::Constant { ms: 10 },
            jitter: None,
            timeout_ms: 1000,
            queue_timeout_ms: None,
            total_timeout_ms: None,
            heartbeat_timeout_ms: None,
            lease_ms: 1000,
            cancel_grace_ms: 0,
            retention_ms: 1000,
            result_retention_ms: None,
            dispatch: Dispatch::Queue,
            sharing: Sharing::Alone,
            reporting: Default::default(),
            pool: None,
            revision: Default::default(),
        },
        policies: Vec::new(),
        admission: Default::default(),
        queue: Default::default(),
        once: Default::default(),
        scopes: scopes.iter().map(ToString::to_string).collect(),
        on_end: None,
        away: Default::default(),
        settings: JsonText::parse("{}").unwrap(),
        runs_in_hub: mode == DeclaredMode::Sync,
    }
}

fn principal(expires_at: u64) -> Principal {
    Principal {
        tenant: TenantId::parse("acme").unwrap(),
        user: UserId::parse("ann").unwrap(),
        scopes: SortedSet::new(),
        expires_at: UnixMs(expires_at),
        credential: Default::default(),
        network: Default::default(),
    }
}

impl Bench {
    fn new() -> Self {
        let actions = [
            action("work", DeclaredMode::Async, &[]),
            action("quick", DeclaredMode::Auto { deadline_ms: 700 }, &[]),
            action("echo", DeclaredMode::Sync, &[]),
            action("secret", DeclaredMode::Async, &["jobs:secret"]),
        ];
        let plan = Plan {
            schedules: Vec::new(),
            revision: Revision::parse("rev").unwrap(),
            scale: Scale { hubs: 1, shards: 4 },
            connections: Default::default(),
            actions: actions
                .into_iter()
                .map(|action| (action.name.clone(), action.into()))
                .collect(),
            patterns: SortedMap::new(),
            webhooks: SortedMap::new(),
            channels: Default::default(),
            channel_limits: Default::default(),
            origins: Default::default(),
        };
        Self {
            hub: {
                let mut hub = Hub::new(HubIndex(3));
                hub.spread(Spreads::only(4));
                hub
            },
            plan,
            now: UnixMs(1_800_000_000_000),
            random: 0,
        }
    }

    fn open(&mut self) -> ConnectionId {
        self.open_until(u64::MAX >> 12)
    }

    fn open_until(&mut self, expires_at: u64) -> ConnectionId {
        let mut random = || {
            self.random += 1;
            self.random
        };
        let mut moment = Moment {
            now: self.now,
            random: &mut random,
        };
        self.hub
            .open(&mut moment, principal(expires_at), Bounds::default(), 1)
            .unwrap()
            .0
    }

    fn frame(&mut self, from: &ConnectionId, text: &str) -> Vec<Effect> {
        let mut random = || {
            self.random += 1;
            self.random
        };
        let mut moment = Moment {
            now: self.now,
            random: &mut random,
        };
        self.hub.frame(&mut moment, &self.plan, from, text)
    }

    fn http(&mut self, body: &str, key: Option<&str>, prefer: Prefer) -> Vec<Effect> {
        let mut random = || 5;
        let mut moment = Moment {
            now: self.now,
            random: &mut random,
        };
        let who = principal(u64::MAX >> 12);
        self.hub
            .request(&mut moment, &self.plan, HttpId(1), &who, body, key, None, prefer)
    }

    fn replied(&mut self, id: CallId, reply: Result<Reply, Error>) -> Vec<Effect> {
        self.hub.replied(self.now, id, reply)
    }

    fn deliver(&mut self, deliveries: Vec<Delivery>) -> (Vec<Effect>, Vec<JobId>) {
        self.hub.deliver(self.now, deliveries)
    }

    /// A socket that follows `job()` up to its first event.
    fn following(&mut self) -> ConnectionId {
        let socket = self.open();
        let (id, _) = call(&self.frame(&socket, r#"{"id":"r","action":"work"}"#));
        self.replied(id, acknowledged(1));
        socket
    }
}

fn job() -> JobId {
    JobId::new(JobNumber(123_456_789), 7)
}

fn acknowledged(seq: u64) -> Result<Reply, Error> {
    let (job, status) = (job(), JobState::Running);
    Ok(Reply::Acknowledged {
        job,
        status,
        seq: Seq(seq),
        deduplicated: false,
        run_at: None,
    })
}

fn event(seq: u64, what: Happening) -> Event {
    Event {
        seq: Seq(seq),
        attempt: 1,
        at: UnixMs(5),
        what,
    }
}

fn progress(seq: u64) -> Delivery {
    let progress = Progress {
        percentage: 1.0,
        message: None,
        metadata: None,
    };
    Delivery {
        job: job(),
        event: event(seq, Happening::Progress(progress)),
    }
}

fn completed() -> Happening {
    Happening::Completed {
        result: Payload::Inline(JsonText::parse("42").unwrap()),
    }
}

fn end(seq: u64) -> Delivery {
    Delivery {
        job: job(),
        event: event(seq, completed()),
    }
}

/// The one call among the effects.
fn call(effects: &[Effect]) -> (CallId, Box<Call>) {
    let calls = effects.iter().filter_map(|effect| match effect {
        Effect::Call { id, call, .. } => Some((*id, call.clone())),
        _ => None,
    });
    let mut calls: Vec<_> = calls.collect();
    assert_eq!(calls.len(), 1, "{effects:?}");
    calls.remove(0)
}

fn enqueue(effects: &[Effect]) -> Enqueue {
    match *call(effects).1 {
        Call::Enqueue(enqueue) => *enqueue,
        other => panic!("{other:?}"),
    }
}

fn frames(effects: &[Effect]) -> Vec<String> {
    let frames = effects.iter().filter_map(|effect| match effect {
        Effect::Send { frame, .. } => Some(frame.clone()),
        _ => None,
    });
    frames.collect()
}

/// `type` and `seq` of each frame.
fn told(effects: &[Effect]) -> Vec<(String, u64)> {
    let read = |frame: &String| {
        let value: serde_json::Value = serde_json::from_str(frame).unwrap();
        (
            value["type"].as_str().unwrap().into(),
            value["seq"].as_u64().unwrap_or(0),
        )
    };
    frames(effects).iter().map(read).collect()
}

fn pairs(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected.iter().map(|(kind, seq)| ((*kind).into(), *seq)).collect()
}

#[test]
fn a_request_is_acknowledged_then_told_its_events_and_its_end_once() {
    let mut bench = Bench::new();
    let socket = bench.open();
    let effects = bench.frame(&socket, r#"{"id":"r","action":"work"}"#);
    assert_eq!(enqueue(&effects).follower, Some(HubIndex(3)));
    let effects = bench.replied(call(&effects).0, acknowledged(1));
    assert_eq!(told(&effects), pairs(&[("acknowledgment", 1)]));
    assert!(effects.contains(&Effect::Save { of: socket.clone() }));
    let (effects, not_followed) = bench.deliver(vec![progress(2), progress(2), end(3), end(3)]);
    assert_eq!(told(&effects), pairs(&[("progress", 2), ("complete", 3)]));
    assert_eq!(not_followed, [job()], "what comes after the end finds nobody");
    assert!(bench.hub.session(&socket).unwrap().follows.is_empty());
}

#[test]
fn events_that_overtake_their_acknowledgment_are_told_after_it() {
    let mut bench = Bench::new();
    let socket = bench.open();
    let (id, _) = call(&bench.frame(&socket, r#"{"action":"work"}"#));
    let (effects, not_followed) = bench.deliver(vec![progress(2), end(3)]);
    assert!(effects.is_empty() && not_followed.is_empty());
    let effects = bench.replied(id, acknowledged(1));
    assert_eq!(
        told(&effects),
        pairs(&[("acknowledgment", 1), ("progress", 2), ("complete", 3)])
    );
    assert_eq!(
        bench.deliver(vec![end(3)]).1,
        [job()],
        "nothing is kept once nobody is asking"
    );
}

#[test]
fn an_end_that_overtakes_its_acknowledgment_is_kept_however_much_came_before_it() {
    let mut bench = Bench::new();
    let socket = bench.open();
    let (_slow, _) = call(&bench.frame(&socket, r#"{"action":"quick"}"#));
    let stranger = |n: u64| Delivery {
        job: JobId::new(JobNumber(n), 1),
        ..end(2)
    };
    bench.deliver((0..2 * PARKED_MAX as u64).map(stranger).collect());
    let (id, _) = call(&bench.frame(&socket, r#"{"action":"work"}"#));
    bench.deliver(vec![end(2)]);
    assert_eq!(
        told(&bench.replied(id, acknowledged(1))),
        pairs(&[("acknowledgment", 1), ("complete", 2)])
    );
}

#[test]
fn an_attach_gets_what_it_missed_and_then_what_comes() {
    let mut bench = Bench::new();
    let socket = bench.open();
    let text = format!(r#"{{"type":"attach","id":"a","job_id":"{}","after":2}}"#, job());
    let (id, _) = call(&bench.frame(&socket, &text));
    bench.deliver(vec![progress(4), progress(5)]);
    let events = vec![progress(3).event, progress(4).event];
    let reply = Reply::Following {
        job: job(),
        snapshot: None,
        events,
        ended: false,
    };
    let effects = bench.replied(id, Ok(reply));
    assert_eq!(
        told(&effects),
        pairs(&[("progress", 3), ("progress", 4), ("progress", 5)])
    );
    assert_eq!(
        told(&bench.deliver(vec![progress(4), end(6)]).0),
        pairs(&[("complete", 6)])
    );
}

#[test]
fn an_attach_that_misses_nothing_is_told_where_the_job_stands_and_then_what_comes() {
    for after in [4, 1000] {
        let mut bench = Bench::new();
        let socket = bench.open();
        let text = format!(r#"{{"type":"attach","id":"a","job_id":"{}","after":{after}}}"#, job());
        let (id, _) = call(&bench.frame(&socket, &text));
        bench.deliver(vec![progress(4), progress(5)]);
        let snapshot = Snapshot {
            seq: Seq(4),
            attempt: 1,
            status: JobState::Running,
            progress: Progress::default(),
            gap: false,
            at: bench.now,
        };
        let reply = Reply::Following {
            job: job(),
            snapshot: Some(snapshot),
            events: vec![],
            ended: false,
        };
        let effects = bench.replied(id, Ok(reply));
        assert_eq!(
            told(&effects),
            pairs(&[("snapshot", 4), ("progress", 5)]),
            "after {after}"
        );
        assert!(frames(&effects)[0].contains(r#""gap":false"#));
        assert_eq!(told(&bench.deliver(vec![end(6)]).0), pairs(&[("complete", 6)]));
    }
}

#[test]
fn a_follow_outlives_the_hubs_sleep() {
    let mut bench = Bench::new();
    let socket = bench.following();
    bench.deliver(vec![progress(2)]);
    let bytes = bench.hub.session(&socket).unwrap().to_attachment().unwrap();
    bench.hub = Hub::new(HubIndex(3));
    bench.hub.restore(Session::from_attachment(&bytes).unwrap());
    let (effects, _) = bench.deliver(vec![progress(2), end(3)]);
    assert_eq!(told(&effects), pairs(&[("complete", 3)]));
}

#[test]
fn a_socket_that_is_gone_or_detached_is_told_nothing() {
    for detach in [false, true] {
        let mut bench = Bench::new();
        let socket = bench.following();
        if detach {
            let text = format!(r#"{{"type":"detach","id":"d","job_id":"{}"}}"#, job());
            assert_eq!(told(&bench.frame(&socket, &text)), pairs(&[("ok", 0)]));
        } else {
            assert_eq!(bench.hub.closed(bench.now, &socket), []);
        }
        assert_eq!(bench.deliver(vec![end(2)]), (vec![], vec![job()]));
    }
}

#[test]
fn modes_choose_who_runs_and_who_waits() {
    let async_wait = |body: &str| {
        let mut bench = Bench::new();
        let socket = bench.open();
        let effects = bench.frame(&socket, body);
        match effects.first() {
            Some(Effect::Run { run, .. }) => Ok(run.timeout_ms),
            _ => Err(Box::new(enqueue(&effects))),
        }
    };
    assert_eq!(async_wait(r#"{"action":"echo"}"#), Ok(1000));
    assert_eq!(async_wait(r#"{"action":"echo","timeout_ms":50}"#), Ok(50));
    let keyed = async_wait(r#"{"action":"echo","idempotency_key":"k"}"#).unwrap_err();
    assert_eq!((keyed.answer_within_ms, keyed.job.policy.attempts_max), (Some(2000), 1));
    let auto = async_wait(r#"{"action":"quick"}"#).unwrap_err();
    assert_eq!(
        (auto.answer_within_ms, auto.job.policy.dispatch),
        (Some(700), Dispatch::Direct)
    );
    let background = async_wait(r#"{"action":"quick","mode":"async"}"#).unwrap_err();
    assert_eq!(
        (background.answer_within_ms, background.job.policy.dispatch),
        (None, Dispatch::Queue)
    );
    let later = async_wait(r#"{"action":"quick","delay_ms":100}"#).unwrap_err();
    assert_eq!(later.answer_within_ms, None);
    assert_eq!(later.job.run_at, Some(Bench::new().now.plus(100)));
}

#[test]
fn a_request_may_shorten_the_wait_for_a_first_attempt_and_never_lengthens_it() {
    for (own, asked, limit) in [
        (None, "", None),
        (None, r#","queue_timeout_ms":9000"#, Some(9000)),
        (Some(5000), "", Some(5000)),
        (Some(5000), r#","queue_timeout_ms":4000"#, Some(4000)),
        (Some(5000), r#","queue_timeout_ms":9000"#, Some(5000)),
    ] {
        let mut bench = Bench::new();
        let mut limited = action("quick", DeclaredMode::Auto { deadline_ms: 700 }, &[]);
        limited.policy.queue_timeout_ms = own;
        bench.plan.actions.insert(limited.name.clone(), limited.into());
        for mode in ["auto", "sync", "async"] {
            let socket = bench.open();
            let frame = format!(r#"{{"action":"quick","mode":"{mode}"{asked}}}"#);
            let effects = bench.frame(&socket, &frame);
            let policy = enqueue(&effects).job.policy;
            assert_eq!(policy.queue_timeout_ms, limit, "{mode} {own:?} {asked}");
        }
    }
}

#[test]
fn a_refusal_asks_nobody() {
    for (body, code) in [
        (r#"{"action":"nothing"}"#, ErrorCode::InvalidAction),
        (r#"{"action":"secret"}"#, ErrorCode::Forbidden),
        (r#"{"action":"work","mode":"sync"}"#, ErrorCode::ValidationError),
        (
            r#"{"action":"quick","mode":"sync","delay_ms":5}"#,
            ErrorCode::ValidationError,
        ),
        ("nonsense", ErrorCode::ValidationError),
    ] {
        let mut bench = Bench::new();
        let socket = bench.open();
        let effects = bench.frame(&socket, body);
        assert!(effects.iter().all(|effect| matches!(
            effect,
            Effect::Send { .. } | Effect::Save { .. } | Effect::TellRefused { .. }
        )));
        assert!(frames(&effects)[0].contains(code.as_str()), "{effects:?}");
        let Some(Effect::Answer { reply: Err(error), .. }) = bench.http(body, None, Prefer::default()).pop() else {
            panic!("{body}")
        };
        assert_eq!(error.code, code);
    }
}

#[test]
fn a_socket_has_a_bound_on_what_it_follows_and_asks() {
    let mut bench = Bench::new();
    let socket = bench.following();
    for _ in 1..FOLLOWS_MAX {
        call(&bench.frame(&socket, r#"{"action":"work"}"#));
    }
    let effects = bench.frame(&socket, r#"{"action":"work"}"#);
    assert!(frames(&effects)[0].contains("RATE_LIMITED"));
    let other = bench.open();
    call(&bench.frame(&other, r#"{"action":"work"}"#));
}

#[test]
fn one_key_reaches_one_shard_and_the_same_fingerprint_from_socket_and_http() {
    let mut bench = Bench::new();
    let socket = bench.open();
    let on_socket = bench.frame(&socket, r#"{"action":"work","payload":{"a":1},"idempotency_key":"k"}"#);
    let over_http = bench.http(
        r#"{"action":"work","payload":{ "a": 1 }}"#,
        Some("\"k\""),
        Prefer::default(),
    );
    let shard = |effects: &[Effect]| match effects {
        [Effect::Call { shard, .. }] => *shard,
        other => panic!("{other:?}"),
    };
    assert_eq!(shard(&on_socket), shard(&over_http));
    assert!(shard(&on_socket) < ShardIndex(4));
    assert_eq!(enqueue(&on_socket).keyed, enqueue(&over_http).keyed);
    let text = r#"{"type":"attach","action":"work","idempotency_key":"k"}"#;
    assert_eq!(shard(&bench.frame(&socket, text)), shard(&on_socket));
}

#[test]
fn an_answer_in_time_is_a_response_and_a_stored_one_is_given_again() {
    let mut bench = Bench::new();
    let socket = bench.open();
    let ended = || {
        Ok(Reply::Ended {
            job: job(),
            event: event(2, completed()),
            deduplicated: true,
            stored: true,
        })
    };
    let (id, _) = call(&bench.frame(&socket, r#"{"action":"quick"}"#));
    assert_eq!(told(&bench.replied(id, ended())), pairs(&[("response", 0)]));
    let (id, _) = call(&bench.frame(&socket, r#"{"action":"work","idempotency_key":"k"}"#));
    assert_eq!(
        told(&bench.replied(id, ended())),
        pairs(&[("acknowledgment", 1), ("complete", 2)])
    );
    let (id, _) = call(&bench.http(r#"{"action":"quick"}"#, None, Prefer::default()));
    let effects = bench.replied(id, ended());
    assert!(matches!(
        effects.as_slice(),
        [Effect::Answer {
            reply: Ok(HubReply::Answer {
                result: Ok(_),
                deduplicated: true,
                ..
            }),
            ..
        }]
    ));
}

#[test]
fn a_flood_of_bad_frames_is_ended_and_one_good_frame_forgives() {
    let mut bench = Bench::new();
    let socket = bench.open();
    for _ in 1..FAULTS_MAX {
        let effects = bench.frame(&socket, "{");
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Close { .. })));
    }
    bench.frame(&socket, r#"{"action":"work"}"#);
    for n in 1..=FAULTS_MAX {
        let closes = bench
            .frame(&socket, "{")
            .iter()
            .any(|effect| matches!(effect, Effect::Close { .. }));
        assert_eq!(closes, n == FAULTS_MAX);
    }
}

#[test]
fn a_frame_that_comes_while_nothing_can_be_decided_is_answered_and_is_no_fault() {
    let mut bench = Bench::new();
    let socket = bench.open();
    let busy = || Error::new(ErrorCode::Unavailable, "later");
    for _ in 0..2 * FAULTS_MAX {
        let effects = bench
            .hub
            .not_now(bench.now, &socket, r#"{"id":"r1","action":"work"}"#, busy());
        let [Effect::Send { frame, .. }] = &effects[..] else {
            panic!("{effects:?}")
        };
        assert!(frame.contains("\"r1\"") && frame.contains("UNAVAILABLE"), "{frame}");
    }
    // What is wrong with the frame itself is said, and counted.
    let mut closed = false;
    for _ in 0..FAULTS_MAX {
        let effects = bench.hub.not_now(bench.now, &socket, "{", busy());
        assert!(matches!(&effects[1], Effect::Send { frame, .. } if frame.contains("VALIDATION_ERROR")));
        closed = effects.iter().any(|effect| matches!(effect, Effect::Close { .. }));
    }
    assert!(closed);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Batches lost, doubled and late: what is told is in order, without repetition, and nothing follows the end.
    #[test]
    fn a_socket_is_told_a_strictly_rising_story(batches in proptest::collection::vec(2_u64..9, 0..30), at in 0_usize..30) {
        let mut bench = Bench::new();
        let socket = bench.open();
        let (id, _) = call(&bench.frame(&socket, r#"{"id":"r","action":"work"}"#));
        let mut seen = Vec::new();
        let mut answer = Some(id);
        for (n, seq) in batches.into_iter().enumerate() {
            if n == at && let Some(id) = answer.take() {
                seen.extend(told(&bench.replied(id, acknowledged(1))));
            }
            let delivery = if seq == 8 { end(8) } else { progress(seq) };
            seen.extend(told(&bench.deliver(vec![delivery]).0));
        }
        if let Some(id) = answer {
            seen.extend(told(&bench.replied(id, acknowledged(1))));
        }
        prop_assert!(seen.windows(2).all(|two| two[0].1 < two[1].1), "{seen:?}");
        prop_assert!(seen.iter().filter(|(kind, _)| kind == "complete").count() <= 1);
    }
}
