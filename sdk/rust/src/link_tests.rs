//! The link against a simulated server, cut off at every possible point.

use std::collections::VecDeque;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::call::Target;
use crate::ids::JobId;

const JOB: &str = "job_1";
const WELCOME: &str = r#"{"type":"welcome","connection_id":"con_1","heartbeat_ms":1000}"#;
const REQUEST: &str = r#"{"type":"request","id":"r","action":"a","idempotency_key":"k"}"#;

/// A server with one job, as the protocol describes it.
#[derive(Default)]
struct Server {
    /// How often a new job was made.
    executions: u32,
    events: Vec<Value>,
    /// Events up to this place are no longer kept.
    forgotten: u64,
    following: bool,
    connected: bool,
    busy: bool,
    /// The end of the job was given in place of events that are no longer kept.
    skipped: bool,
    up: VecDeque<String>,
    down: VecDeque<String>,
}

impl Server {
    fn seq(&self) -> u64 {
        self.events.len() as u64
    }

    fn ended(&self) -> bool {
        self.events
            .last()
            .is_some_and(|event| event["type"] == "complete" || event["type"] == "error")
    }

    fn connect(&mut self) {
        self.connected = true;
        self.following = false;
        self.down.push_back(WELCOME.into());
    }

    fn cut(&mut self) {
        self.connected = false;
        self.following = false;
        self.up.clear();
        self.down.clear();
    }

    fn happen(&mut self, kind: &str) {
        if self.executions == 0 || self.ended() {
            return;
        }
        let seq = self.seq() + 1;
        let event = match kind {
            "error" => {
                json!({"type":"error","request_id":"r","job_id":JOB,"seq":seq,"error":{"code":"PROCESSING_FAILED","message":"m"}})
            }
            "retrying" => {
                json!({"type":"retrying","request_id":"r","job_id":JOB,"seq":seq,"error":{"code":"TIMEOUT","message":"m"}})
            }
            kind => json!({"type":kind,"request_id":"r","job_id":JOB,"seq":seq,"percentage":seq,"result":seq}),
        };
        if self.following {
            self.down.push_back(event.to_string());
        }
        self.events.push(event);
    }

    fn take(&mut self) {
        let Some(text) = self.up.pop_front() else {
            return;
        };
        if text == PING {
            self.down.push_back(tidegate_protocol::frames::PONG.into());
            return;
        }
        let frame: Value = serde_json::from_str(&text).unwrap();
        if std::mem::take(&mut self.busy) && self.executions > 0 {
            let error = json!({"type":"error","request_id":"r","error":{"code":"UNAVAILABLE","message":"m","retryable":true,"retry_after_ms":5}});
            self.down.push_back(error.to_string());
            return;
        }
        match frame["type"].as_str().unwrap() {
            "request" => {
                let deduplicated = self.executions > 0;
                self.executions = 1;
                let status = if self.ended() { "succeeded" } else { "running" };
                let acknowledgment = json!({"type":"acknowledgment","request_id":"r","job_id":JOB,"status":status,
                    "deduplicated":deduplicated,"seq":self.seq()});
                self.down.push_back(acknowledgment.to_string());
                if self.ended() {
                    self.down.extend(self.events.last().map(Value::to_string));
                }
                self.following = true;
            }
            "attach" => {
                let after = frame["after"].as_u64();
                match after {
                    Some(after) if after >= self.forgotten && after < self.seq() => {
                        let missed = self.events.iter().skip(usize::try_from(after).unwrap());
                        self.down.extend(missed.map(Value::to_string));
                    }
                    _ if self.ended() => {
                        self.skipped |= after.is_some_and(|after| after < self.seq());
                        self.down.extend(self.events.last().map(Value::to_string));
                    }
                    after => {
                        let snapshot = json!({"type":"snapshot","request_id":"r","job_id":JOB,"seq":self.seq(),"status":"running",
                            "percentage":self.seq(),"gap":after.is_some_and(|after| after < self.seq())});
                        self.down.push_back(snapshot.to_string());
                    }
                }
                self.following = true;
            }
            other => panic!("the server was sent {other}"),
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Happen(&'static str),
    Take,
    Give,
    GiveTwice,
    Forget,
    Busy,
    Cut(u8),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop_oneof![Just("progress"), Just("progress"), Just("retrying")].prop_map(Step::Happen),
        1 => prop_oneof![12 => Just("progress"), 1 => Just("complete"), 1 => Just("error")].prop_map(Step::Happen),
        4 => Just(Step::Take),
        5 => Just(Step::Give),
        2 => Just(Step::GiveTwice),
        1 => Just(Step::Forget),
        1 => Just(Step::Busy),
        3 => (0_u8..5).prop_map(Step::Cut),
        3 => (0_u64..3000).prop_map(Step::Pass),
    ]
}

struct World {
    link: Link,
    server: Server,
    now: Ms,
    roll: u64,
    updates: Vec<Update>,
}

impl World {
    fn new(call: Call) -> Self {
        // Endless patience: a link that gives up before its first connection is right to do so, and tested by itself.
        let patience = Patience {
            first_ms: None,
            again_ms: None,
        };
        let mut world = Self {
            link: Link::new(patience),
            server: Server::default(),
            now: 0,
            roll: 12_345,
            updates: Vec::new(),
        };
        world.link.start(0, call);
        world.settle();
        world
    }

    fn settle(&mut self) {
        while let Some(output) = self.link.poll() {
            match output {
                Output::Connect => {
                    assert!(!self.server.connected, "a second connection beside the first");
                    self.server.connect();
                    self.link.opened(self.now);
                }
                Output::Send(text) => {
                    assert!(self.server.connected, "sent without a connection");
                    self.server.up.push_back(text);
                }
                Output::Drop => self.server.cut(),
                Output::Deliver(id, update) => {
                    assert_eq!(id, "r");
                    self.updates.push(*update);
                }
                Output::Tell(id, update) => panic!("{id} follows nothing: {update:?}"),
            }
        }
    }

    fn next_roll(&mut self) -> u64 {
        self.roll = self
            .roll
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.roll >> 11
    }

    fn give(&mut self, times: u8) {
        if let Some(text) = self.server.down.pop_front() {
            for _ in 0..times {
                let roll = self.next_roll();
                // A welcome is said once; events may come twice, from a stored page and live.
                self.link.received(self.now, roll, &text);
                self.settle();
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now += ms;
        let roll = self.next_roll();
        self.link.tick(self.now, roll);
        self.settle();
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Happen(kind) => self.server.happen(kind),
            Step::Take => self.server.take(),
            Step::Give => self.give(1),
            Step::GiveTwice => self.give(2),
            Step::Forget => self.server.forgotten = self.server.seq(),
            Step::Busy => self.server.busy = true,
            Step::Cut(kind) => {
                if self.server.connected {
                    self.server.cut();
                    let loss = match kind {
                        0 => Loss::Closed {
                            code: 1012,
                            reason: "restart".into(),
                        },
                        1 => Loss::Closed {
                            code: 3010,
                            reason: String::new(),
                        },
                        2 => Loss::Closed {
                            code: 1000,
                            reason: String::new(),
                        },
                        _ => Loss::Failed {
                            why: "reset".into(),
                            retry_after_ms: None,
                        },
                    };
                    let roll = self.next_roll();
                    self.link.lost(self.now, roll, loss);
                }
            }
            Step::Pass(ms) => self.pass(*ms),
        }
        self.settle();
    }

    fn ended(&self) -> bool {
        matches!(self.updates.last(), Some(Update::Ended(_)))
    }

    /// Lets everything come to its end, without further cuts.
    fn finish(&mut self) {
        for round in 0.. {
            assert!(round < 2000, "the call never ends: {:?}", self.link);
            while !self.server.up.is_empty() || !self.server.down.is_empty() {
                self.server.take();
                self.give(1);
            }
            if self.ended() {
                return;
            }
            self.server.happen("complete");
            let wait = self
                .link
                .next_timeout()
                .map_or(1, |at| at.saturating_sub(self.now).max(1));
            self.pass(wait);
        }
    }
}

fn seq_of(update: &Update) -> Option<u64> {
    match update {
        Update::Progress(event) => Some(event.seq.0),
        Update::Retrying(event) => Some(event.seq.0),
        Update::Started(event) => Some(event.seq.0),
        Update::Snapshot(event) => Some(event.seq.0),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_is_cut_a_call_ends_once_and_nothing_comes_twice_or_backwards(
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let mut world = World::new(Call::request("r".into(), REQUEST.into()));
        for step in &steps {
            world.run(step);
        }
        world.finish();

        prop_assert_eq!(world.server.executions, 1);
        let endings = world.updates.iter().filter(|u| matches!(u, Update::Ended(_))).count();
        prop_assert_eq!(endings, 1, "exactly one outcome, and it is the last");
        let acknowledgments: Vec<u64> = world.updates.iter().filter_map(|u| match u {
            Update::Acknowledged(acknowledged) => Some(acknowledged.seq.0),
            _ => None,
        }).collect();
        prop_assert!(acknowledgments.len() == 1);
        let seen: Vec<u64> = world.updates.iter().filter_map(seq_of).collect();
        prop_assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "seq goes up: {:?}", seen);

        // Nothing is missed: each event after the acknowledgment was seen, or a snapshot that admits a gap.
        let last = world.server.events.last().unwrap();
        let snapshots: Vec<u64> = world.updates.iter().filter_map(|u| match u {
            Update::Snapshot(snapshot) if snapshot.gap => Some(snapshot.seq.0),
            _ => None,
        }).collect();
        let end = last["seq"].as_u64().unwrap();
        for seq in acknowledgments[0] + 1..end {
            let covered = seen.contains(&seq) || snapshots.iter().any(|s| *s >= seq) || world.server.skipped;
            prop_assert!(covered, "event {} was missed: {:?}", seq, seen);
        }
        let failed = last["type"] == "error";
        match world.updates.last() {
            Some(Update::Ended(Outcome::Completed(completed))) => {
                prop_assert!(!failed);
                prop_assert_eq!(completed.seq.0, end);
            }
            Some(Update::Ended(Outcome::Failed { .. })) => prop_assert!(failed),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn waits_between_attempts_never_exceed_the_cap(rolls in proptest::collection::vec(any::<u64>(), 1..40)) {
        let mut link = Link::new(Patience { first_ms: None, again_ms: None });
        link.start(0, Call::request("r".into(), REQUEST.into()));
        let mut now = 0;
        for roll in rolls {
            link.lost(now, roll, failed());
            let at = link.next_timeout().unwrap();
            prop_assert!(at - now <= crate::backoff::CAP_MS);
            now = at;
            link.tick(now, 0);
        }
    }
}

fn failed() -> Loss {
    Loss::Failed {
        why: "reset".into(),
        retry_after_ms: None,
    }
}

fn drain(link: &mut Link) -> Vec<Output> {
    std::iter::from_fn(|| link.poll()).collect()
}

fn open(link: &mut Link) {
    link.start(0, Call::request("r".into(), REQUEST.into()));
    link.opened(0);
    link.received(0, 0, WELCOME);
    drain(link);
}

fn ending(outputs: &[Output]) -> Option<&Outcome> {
    outputs.iter().find_map(|output| match output {
        Output::Deliver(_, update) => match &**update {
            Update::Ended(outcome) => Some(outcome),
            _ => None,
        },
        _ => None,
    })
}

#[test]
fn nothing_is_sent_before_the_welcome() {
    let mut link = Link::new(Patience::default());
    link.start(0, Call::request("r".into(), REQUEST.into()));
    link.opened(0);
    assert!(matches!(drain(&mut link).as_slice(), [Output::Connect]));
    link.received(0, 0, WELCOME);
    assert!(matches!(drain(&mut link).as_slice(), [Output::Send(text)] if text == REQUEST));
}

#[test]
fn close_codes_below_3500_reconnect_and_from_3500_stop() {
    for (code, stops) in [
        (1000, false),
        (1009, false),
        (1012, false),
        (3000, false),
        (3008, false),
        (3011, false),
        (3499, false),
        (3500, true),
        (3505, true),
        (3999, true),
        (4000, false),
    ] {
        let mut link = Link::new(Patience::default());
        open(&mut link);
        let reason = "r".to_owned();
        link.lost(10, 0, Loss::Closed { code, reason });
        let outputs = drain(&mut link);
        let stopped =
            matches!(ending(&outputs), Some(Outcome::Lost { error: Error::Closed { code: c, .. }, .. }) if *c == code);
        assert_eq!(stopped, stops, "{code}");
        assert_eq!(link.next_timeout().is_none(), stops, "{code}");
    }
}

#[test]
fn a_goodbye_is_honoured() {
    let mut link = Link::new(Patience::default());
    open(&mut link);
    link.received(
        5,
        0,
        r#"{"type":"goodbye","code":1012,"reason":"restart","reconnect":true,"after_ms":60000}"#,
    );
    let reason = String::new();
    link.lost(5, 100, Loss::Closed { code: 1012, reason });
    assert_eq!(
        link.next_timeout(),
        Some(60_105),
        "not before after_ms, and with jitter"
    );

    let mut link = Link::new(Patience::default());
    open(&mut link);
    link.received(
        5,
        0,
        r#"{"type":"goodbye","code":1000,"reason":"bye","reconnect":false}"#,
    );
    link.lost(5, 0, failed());
    assert!(ending(&drain(&mut link)).is_some());
}

#[test]
fn a_ping_is_sent_at_each_heartbeat_and_a_missing_pong_is_a_loss_within_two() {
    let mut link = Link::new(Patience::default());
    open(&mut link);
    assert_eq!(link.next_timeout(), Some(1000));
    link.tick(1000, 0);
    assert!(matches!(drain(&mut link).as_slice(), [Output::Send(text)] if text == r#"{"type":"ping"}"#));
    link.received(1100, 0, r#"{"type":"pong"}"#);
    link.tick(2000, 0);
    assert!(matches!(drain(&mut link).as_slice(), [Output::Send(_)]));
    link.tick(3000, 0);
    assert!(
        matches!(drain(&mut link).as_slice(), [Output::Send(_)]),
        "not yet two heartbeats"
    );
    link.tick(4000, 0);
    let outputs = drain(&mut link);
    assert!(matches!(outputs.first(), Some(Output::Drop)));
    assert!(
        matches!(outputs.last(), Some(Output::Deliver(_, update)) if matches!(**update, Update::Reconnecting { .. }))
    );
}

#[test]
fn an_address_that_never_answers_is_given_up_and_a_lost_connection_is_not() {
    let mut link = Link::new(Patience::default());
    link.start(0, Call::request("r".into(), REQUEST.into()));
    let mut now = 0;
    let gave_up = (0..100).find(|_| {
        link.lost(now, u64::MAX / 3, failed());
        now = link.next_timeout().unwrap_or(now);
        link.tick(now, 0);
        ending(&drain(&mut link)).is_some()
    });
    assert!(gave_up.is_some() && now <= 30_000, "given up after {now} ms");

    let mut link = Link::new(Patience::default());
    open(&mut link);
    let mut now = 0;
    for _ in 0..100 {
        link.lost(now, u64::MAX / 3, failed());
        now = link.next_timeout().unwrap();
        link.tick(now, 0);
        assert!(ending(&drain(&mut link)).is_none());
    }
}

#[test]
fn a_refused_upgrade_is_the_answer_to_a_call_that_was_never_sent() {
    let mut link = Link::new(Patience::default());
    link.start(0, Call::request("r".into(), REQUEST.into()));
    let refusal = ApiError::new(ErrorCode::Unauthorized, "m");
    link.lost(0, 0, Loss::Refused(refusal.into()));
    assert!(matches!(ending(&drain(&mut link)), Some(Outcome::Rejected(_))));

    let mut link = Link::new(Patience::default());
    open(&mut link);
    link.lost(0, 0, failed());
    drain(&mut link);
    let refusal = ApiError::new(ErrorCode::Unauthorized, "m");
    link.lost(0, 0, Loss::Refused(refusal.into()));
    assert!(
        matches!(ending(&drain(&mut link)), Some(Outcome::Lost { .. })),
        "it may have been taken"
    );
}

#[test]
fn a_frame_over_the_servers_limit_is_not_sent() {
    let mut link = Link::new(Patience::default());
    let frame = format!(r#"{{"id":"r","payload":"{}"}}"#, "x".repeat(200));
    link.start(0, Call::request("r".into(), frame));
    link.received(
        0,
        0,
        r#"{"type":"welcome","heartbeat_ms":1000,"limits":{"frame_bytes":100}}"#,
    );
    let outputs = drain(&mut link);
    assert!(!outputs.iter().any(|output| matches!(output, Output::Send(_))));
    match ending(&outputs) {
        Some(Outcome::Rejected(error)) => assert_eq!(error.code.as_str(), "PAYLOAD_TOO_LARGE"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_calls_on_one_job_both_get_its_end_and_share_its_following() {
    let target = || Target::Job(JobId::parse(JOB).unwrap());
    let mut link = Link::new(Patience::default());
    for id in ["a", "b", "c"] {
        link.start(0, Call::attach(id.into(), target(), None));
    }
    link.received(0, 0, WELCOME);
    drain(&mut link);
    link.abandon("c");
    assert!(drain(&mut link).is_empty(), "the others still follow the job");
    link.received(
        0,
        0,
        r#"{"type":"complete","request_id":"b","job_id":"job_1","seq":3,"result":1}"#,
    );
    let mut told: Vec<String> = drain(&mut link)
        .into_iter()
        .filter_map(|output| match output {
            Output::Deliver(id, _) => Some(id),
            _ => None,
        })
        .collect();
    told.sort();
    assert_eq!(told, ["a", "b"]);
}

#[test]
fn an_idle_link_that_is_cut_stays_away_until_it_is_needed() {
    let mut link = Link::new(Patience::default());
    open(&mut link);
    link.received(0, 0, r#"{"type":"response","request_id":"r","success":true,"data":1}"#);
    drain(&mut link);
    link.lost(10, 0, failed());
    assert!(drain(&mut link).is_empty() && link.next_timeout().is_none());
    link.start(20, Call::request("r".into(), REQUEST.into()));
    assert!(matches!(drain(&mut link).as_slice(), [Output::Connect]));
}
