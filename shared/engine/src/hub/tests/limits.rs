//! Limits under load, where the gate's answers take their time: requests go on coming meanwhile.

use alloc::collections::VecDeque;

use tidegate_protocol::calls::admission::{Ask, Bucket, Consults, Force, Need, Rule};
use tidegate_protocol::ids::RequestId;

use super::*;
use crate::admission::{BUCKETS, Gate, LOOK_MS, Outcome, Recalls};
use crate::audit;
use crate::database::migrate;
use crate::database::native::Native;
use crate::hub::pending::Asker;

/// How long the gate takes to answer. Milliseconds.
const ANSWER_MS: u64 = 3;
/// Requests of each millisecond, as a hub has them on workerd.
const REQUESTS: u64 = 20;
/// Requests that clients have under way at most: who waits sends no other.
const IN_FLIGHT_MAX: u64 = 320;

struct Load {
    hub: Hub,
    gate: Gate,
    db: Native,
    now: UnixMs,
    asked: VecDeque<(UnixMs, Ask)>,
    under_way: u64,
    next: u64,
    /// Questions that were asked.
    questions: u64,
    /// Requests that had to wait for the gate.
    waited: u64,
}

/// What a second of load came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Second {
    requests: u64,
    questions: u64,
    waited: u64,
}

fn need(limit: &str, key: String, rule: Rule) -> Need {
    let bucket = Bucket {
        limit: limit.into(),
        key,
    };
    Need {
        bucket,
        rule,
        cost: 1,
        consults: Consults::Leased,
        force: Force::Refuses,
    }
}

/// Three limits, as `tidegate-bench admission` has them.
fn needs(user: u64) -> Vec<Need> {
    let rate = |units, per_ms| Rule::Rate {
        units,
        per_ms,
        burst: units,
    };
    let daily = Rule::Quota {
        units: 1_000_000_000,
        per_ms: 86_400_000,
    };
    vec![
        need("all", String::new(), rate(1_000_000, 10_000)),
        need("daily", user.to_string(), daily),
        need("per-user", user.to_string(), rate(3_000_000, 60_000)),
    ]
}

impl Load {
    fn new() -> Self {
        let db = Native::in_memory().unwrap();
        migrate(&db, &[BUCKETS, audit::TRAIL, audit::CHAIN]).unwrap();
        Self {
            hub: Hub::new(HubIndex(0)),
            gate: Gate::default(),
            db,
            now: UnixMs(1_800_000_000_000),
            asked: VecDeque::new(),
            under_way: 0,
            next: 0,
            questions: 0,
            waited: 0,
        }
    }

    /// A second in which `user` says whose the request with a number is.
    fn second(&mut self, user: impl Fn(u64) -> u64) -> Second {
        let (begun, questions, waited) = (self.next - self.under_way, self.questions, self.waited);
        for _ in 0..1_000 {
            self.now = self.now.plus(1);
            if self.now.0.is_multiple_of(LOOK_MS) {
                let (returned, effects) = self.hub.idle_leases(self.now);
                self.gate.give_back(&self.db, self.now, HubIndex(0), &returned).unwrap();
                self.perform(effects);
            }
            for _ in 0..REQUESTS {
                if self.under_way < IN_FLIGHT_MAX {
                    self.request(user(self.next));
                }
            }
            while self.asked.front().is_some_and(|(at, _)| at.plus(ANSWER_MS) <= self.now) {
                let (_, ask) = self.asked.pop_front().unwrap();
                let decided = match self.gate.decide(&self.db, self.now, &ask, Recalls::Possible).unwrap() {
                    Outcome::Decided(decided) => decided,
                    Outcome::Recall(_) => panic!("there is no other hub"),
                };
                let effects = self.hub.decided(self.now, Ok(decided));
                self.perform(effects);
            }
        }
        Second {
            requests: self.next - self.under_way - begun,
            questions: self.questions - questions,
            waited: self.waited - waited,
        }
    }

    fn request(&mut self, user: u64) {
        let run = Run {
            action: action("echo", DeclaredMode::Sync, &[]).into(),
            payload: JsonText::null(),
            timeout_ms: 1_000,
            user: UserId::parse("ann").unwrap(),
        };
        let mut effects = Vec::new();
        let id = RequestId::parse(&format!("r-{}", self.next)).unwrap();
        let (asker, admitted) = (Asker::Http(HttpId(self.next)), Admitted::Here(Box::new(run)));
        self.hub
            .pass(self.now, asker, id, (admitted, needs(user)), &mut effects);
        self.next += 1;
        self.under_way += 1;
        let before = self.under_way;
        self.perform(effects);
        self.waited += u64::from(self.under_way == before);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Run { id, .. } => {
                    let effects = self.hub.ran(self.now, id, Ok(JsonText::null()));
                    self.perform(effects);
                }
                Effect::Ask { ask } => {
                    self.questions += 1;
                    self.asked.push_back((self.now, *ask));
                }
                Effect::Answer { reply: Ok(_), .. } => self.under_way -= 1,
                other => panic!("a request was not admitted: {other:?}"),
            }
        }
    }
}

#[test]
fn under_load_leases_are_used_and_not_handed_back_with_the_next_question() {
    let mut load = Load::new();
    load.second(|_| 1);
    for _ in 0..10 {
        let second = load.second(|_| 1);
        assert_eq!(second.requests, REQUESTS * 1_000, "{second:?}");
        assert!(second.questions <= 4, "{second:?}");
        assert_eq!(second.waited, 0, "{second:?}");
    }
}
