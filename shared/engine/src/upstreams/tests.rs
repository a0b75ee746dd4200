//! Tables of the breaker, the gate, what isolates remember, and of retries; and the breaker against a simple model.

mod model;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;
use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::tenant::AuditQuery;
use tidegate_protocol::calls::upstreams::{BreakerChange, BreakerRule, BreakerState, Consult, Outcomes, Standing};
use tidegate_protocol::ids::UserId;
use tidegate_protocol::time::UnixMs;

use super::edge::{GATHERED_MS, HEARD_MS};
use super::*;
use crate::database::native::Native;
use crate::database::{Database, migrate};
use crate::tenancy::STEPS;

const RULE: BreakerRule = BreakerRule {
    consecutive: 3,
    failure_percent: 0,
    slow_percent: 0,
    window_calls: 0,
    window_ms: 10_000,
    calls_min: 10,
    open_ms: 30_000,
    probes: 1,
    successes: 2,
};
const GOOD: Outcomes = Outcomes {
    succeeded: 1,
    slow: 0,
    failed: 0,
    failed_slow: 0,
};
const SLOW: Outcomes = Outcomes {
    succeeded: 0,
    slow: 1,
    failed: 0,
    failed_slow: 0,
};
const BAD: Outcomes = Outcomes {
    succeeded: 0,
    slow: 0,
    failed: 1,
    failed_slow: 0,
};

/// A breaker and its clock.
struct Bench {
    breaker: Breaker,
    rule: BreakerRule,
    now: UnixMs,
}

impl Bench {
    fn new(rule: BreakerRule) -> Self {
        Self {
            breaker: Breaker::default(),
            rule,
            now: UnixMs(1_000_000),
        }
    }

    fn told(&mut self, outcomes: &Outcomes) -> BreakerState {
        let generation = self.breaker.standing(self.now).generation;
        self.breaker.record(&self.rule, self.now, generation, outcomes, None);
        self.breaker.state()
    }

    fn ask(&mut self) -> Standing {
        self.breaker.ask(&self.rule, self.now, 5_000).0
    }

    fn probed(&mut self, probe: Option<u64>, outcomes: &Outcomes) -> BreakerState {
        let generation = self.breaker.standing(self.now).generation;
        self.breaker.record(&self.rule, self.now, generation, outcomes, probe);
        self.breaker.state()
    }

    /// Opens it by failures in a row, and waits until it may be tried.
    fn half_opened(rule: BreakerRule) -> Self {
        let mut bench = Self::new(rule);
        for _ in 0..bench.rule.consecutive {
            bench.told(&BAD);
        }
        assert_eq!(bench.breaker.state(), BreakerState::Open);
        bench.now = bench.now.plus(bench.rule.open_ms);
        bench
    }
}

#[test]
fn a_threshold_of_three_opens_after_three_failures_in_a_row() {
    use BreakerState::{Closed, Open};
    for (calls, states) in [
        (&[BAD, BAD, BAD][..], &[Closed, Closed, Open][..]),
        (&[BAD, BAD, GOOD, BAD, BAD], &[Closed, Closed, Closed, Closed, Closed]),
        (
            &[BAD, BAD, SLOW, BAD, BAD, BAD],
            &[Closed, Closed, Closed, Closed, Closed, Open],
        ),
    ] {
        let mut bench = Bench::new(RULE);
        let seen: Vec<BreakerState> = calls.iter().map(|call| bench.told(call)).collect();
        assert_eq!(seen, states);
    }
}

#[test]
fn a_batch_counts_its_successes_before_its_failures() {
    let batch = Outcomes {
        succeeded: 7,
        failed: 2,
        ..Outcomes::default()
    };
    let mut bench = Bench::new(RULE);
    bench.told(&BAD);
    assert_eq!((bench.told(&batch), bench.breaker.streak()), (BreakerState::Closed, 2));
    assert_eq!(bench.told(&BAD), BreakerState::Open);
}

#[test]
fn shares_count_from_enough_calls_on_in_a_window_of_calls_or_of_time() {
    let failures = BreakerRule {
        consecutive: 0,
        failure_percent: 50,
        calls_min: 4,
        ..RULE
    };
    for window_calls in [0, 4] {
        let rule = BreakerRule {
            window_calls,
            ..failures.clone()
        };
        let mut bench = Bench::new(rule.clone());
        for call in [BAD, BAD, GOOD] {
            assert_eq!(bench.told(&call), BreakerState::Closed, "too few calls say nothing");
        }
        assert_eq!(bench.told(&GOOD), BreakerState::Open, "2 of 4");
        let mut bench = Bench::new(rule);
        for call in [BAD, GOOD, GOOD, GOOD, GOOD, GOOD] {
            assert_eq!(bench.told(&call), BreakerState::Closed);
        }
    }
    let slow = BreakerRule {
        failure_percent: 0,
        slow_percent: 100,
        ..failures.clone()
    };
    let mut bench = Bench::new(slow);
    for call in [SLOW, SLOW, SLOW] {
        assert_eq!(bench.told(&call), BreakerState::Closed);
    }
    assert_eq!(bench.told(&SLOW), BreakerState::Open);
    // What is older than the window is forgotten.
    let mut bench = Bench::new(failures);
    for call in [BAD, BAD, BAD] {
        bench.told(&call);
    }
    bench.now = bench.now.plus(10_000);
    for call in [GOOD, GOOD, GOOD, BAD] {
        assert_eq!(bench.told(&call), BreakerState::Closed);
    }
}

#[test]
fn two_probes_of_two_close_a_half_open_breaker_and_one_that_fails_opens_it_again() {
    let mut bench = Bench::half_opened(RULE);
    let first = bench.ask();
    assert_eq!((first.state, first.probe), (BreakerState::HalfOpen, Some(1)));
    assert_eq!(bench.probed(first.probe, &GOOD), BreakerState::HalfOpen);
    let second = bench.ask();
    assert_eq!(bench.probed(second.probe, &GOOD), BreakerState::Closed);
    assert_eq!(bench.breaker.streak(), 0, "it begins anew");

    for good in [0, 1] {
        let mut bench = Bench::half_opened(RULE);
        for _ in 0..good {
            let probe = bench.ask().probe;
            bench.probed(probe, &GOOD);
        }
        let probe = bench.ask().probe;
        assert_eq!(bench.probed(probe, &BAD), BreakerState::Open);
        let standing = bench.ask();
        assert_eq!((standing.state, standing.wait_ms), (BreakerState::Open, 30_000));
    }
}

#[test]
fn no_more_probes_than_allowed_are_under_way_and_a_lost_one_holds_up_nobody_for_ever() {
    let rule = BreakerRule {
        probes: 2,
        successes: 3,
        ..RULE
    };
    let mut bench = Bench::half_opened(rule);
    let lent: Vec<_> = (0..5).map(|_| bench.ask().probe).collect();
    assert_eq!(lent, [Some(1), Some(2), None, None, None]);
    assert!(bench.ask().wait_ms > 0);
    bench.now = bench.now.plus(4_999);
    assert_eq!(bench.ask().probe, None);
    bench.now = bench.now.plus(1);
    assert_eq!(bench.ask().probe, Some(3), "the lease is over");
    // What a lapsed probe says comes too late.
    assert_eq!(bench.probed(Some(1), &BAD), BreakerState::HalfOpen);
    assert_eq!(bench.probed(Some(3), &BAD), BreakerState::Open);
    // A probe given back without an outcome frees its place, and says nothing.
    let mut bench = Bench::half_opened(RULE);
    let probe = bench.ask().probe;
    assert_eq!(bench.ask().probe, None);
    assert_eq!(bench.probed(probe, &Outcomes::default()), BreakerState::HalfOpen);
    assert!(bench.ask().probe.is_some());
}

#[test]
fn calls_of_an_earlier_standing_count_nothing() {
    let mut bench = Bench::half_opened(RULE);
    let closed = 1;
    let probe = bench.ask().probe;
    assert_eq!(bench.breaker.record(&RULE, bench.now, closed, &BAD, probe), None);
    assert_eq!(bench.breaker.state(), BreakerState::HalfOpen);
}

#[test]
fn by_hand_a_breaker_is_held_open_closed_or_disabled() {
    use BreakerState::{Closed, Disabled, HeldOpen};
    let mut bench = Bench::new(RULE);
    for (change, state, changes) in [
        (BreakerChange::Close, Closed, false),
        (BreakerChange::Open, HeldOpen, true),
        (BreakerChange::Open, HeldOpen, false),
        (BreakerChange::Disable, Disabled, true),
        (BreakerChange::Close, Closed, true),
    ] {
        assert_eq!((bench.breaker.set(change), bench.breaker.state()), (changes, state));
    }
    bench.breaker.set(BreakerChange::Open);
    bench.now = bench.now.plus(1 << 40);
    assert_eq!(bench.ask().state, HeldOpen, "no time closes it");
    bench.breaker.set(BreakerChange::Disable);
    for _ in 0..10 {
        assert_eq!(bench.told(&BAD), Disabled);
    }
}

fn gate() -> Native {
    let db = Native::in_memory().unwrap();
    migrate(&db, STEPS).unwrap();
    db
}

fn consult(key: &str, generation: u64, outcomes: Outcomes, wants: bool) -> Consult {
    Consult {
        upstream: "bank.main".into(),
        key: key.into(),
        rule: RULE,
        generation,
        outcomes,
        probe: None,
        wants,
        probe_ms: 5_000,
    }
}

fn rows(db: &Native) -> Vec<Vec<u8>> {
    let rows = db.run("-- tests::rows\nSELECT state FROM breakers", &[]);
    rows.unwrap().into_iter().map(|mut row| row.blob().unwrap()).collect()
}

#[test]
fn a_healthy_upstream_costs_no_row_and_a_failing_one_a_row_a_second_at_most() {
    let (db, mut gate) = (gate(), Breakers::default());
    let at = |ms: u64| UnixMs(1_000_000 + ms);
    for ms in 0..100 {
        gate.consult(&db, at(ms), &consult("", 1, GOOD, true)).unwrap();
    }
    assert!(rows(&db).is_empty());
    gate.consult(&db, at(100), &consult("", 1, BAD, false)).unwrap();
    let first = rows(&db);
    assert_eq!(first.len(), 1);
    gate.consult(&db, at(200), &consult("", 1, BAD, false)).unwrap();
    assert_eq!(rows(&db), first, "less than a second later");
    let (standing, changes) = gate.consult(&db, at(300), &consult("", 1, BAD, false)).unwrap();
    assert_eq!((standing.state, standing.wait_ms), (BreakerState::Open, 30_000));
    assert_eq!(changes[0].why, Reason::FailuresInARow);
    assert_ne!(rows(&db), first, "a state is written at once");
}

#[test]
fn a_gate_that_restarts_knows_every_state_and_lends_no_probe_twice() {
    let (db, mut gate) = (gate(), Breakers::default());
    let now = UnixMs(1_000_000);
    for _ in 0..3 {
        gate.consult(&db, now, &consult("", 1, BAD, false)).unwrap();
    }
    let restarted = |gate: &mut Breakers, ms, wants: &Consult| {
        *gate = Breakers::default();
        gate.consult(&db, now.plus(ms), wants).unwrap().0
    };
    let open = restarted(&mut gate, 10, &consult("", 0, Outcomes::default(), true));
    assert_eq!((open.state, open.wait_ms), (BreakerState::Open, 29_990));
    let half = restarted(&mut gate, 30_000, &consult("", 0, Outcomes::default(), true));
    assert_eq!((half.state, half.probe), (BreakerState::HalfOpen, Some(1)));
    let full = restarted(&mut gate, 30_001, &consult("", 0, Outcomes::default(), true));
    assert_eq!((full.state, full.probe), (BreakerState::HalfOpen, None));
    let view = Breakers::default().show(&db, now.plus(30_001)).unwrap();
    let changes: Vec<&str> = view.breakers[0].changes.iter().map(|c| c.why.as_str()).collect();
    assert_eq!(changes, ["failures in a row", "time to probe"]);
    assert_eq!(view.breakers[0].probes, 1);
}

#[test]
fn a_further_probe_is_in_the_row_before_it_is_lent() {
    let (db, mut gate) = (gate(), Breakers::default());
    let now = UnixMs(1_000_000);
    for _ in 0..3 {
        gate.consult(&db, now, &consult("", 1, BAD, false)).unwrap();
    }
    let ask = Consult {
        rule: BreakerRule { probes: 2, ..RULE },
        ..consult("", 0, Outcomes::default(), true)
    };
    // The gate restarts before each question.
    let lent: Vec<_> = (0..3)
        .map(|_| {
            Breakers::default()
                .consult(&db, now.plus(30_000), &ask)
                .unwrap()
                .0
                .probe
        })
        .collect();
    assert_eq!(lent, [Some(1), Some(2), None]);
}

#[test]
fn what_is_done_by_hand_is_in_the_trail_once_and_holds_for_every_key() {
    let (db, mut gate) = (gate(), Breakers::default());
    let now = UnixMs(1_000_000);
    let caller = Caller {
        user: UserId::parse("op").unwrap(),
        reads_all: true,
        writes_all: true,
        act: None,
    };
    let set = |gate: &mut Breakers, change| gate.set(&db, now, ("bank.main", ""), change, &caller).unwrap().len();
    assert_eq!(set(&mut gate, BreakerChange::Open), 1);
    assert_eq!(set(&mut gate, BreakerChange::Open), 0);
    let ask = |gate: &mut Breakers, key: &str| {
        let asked = consult(key, 0, Outcomes::default(), true);
        gate.consult(&db, now, &asked).unwrap().0.state
    };
    assert_eq!(ask(&mut gate, "eu"), BreakerState::HeldOpen);
    assert_eq!(set(&mut gate, BreakerChange::Disable), 1);
    assert_eq!(ask(&mut gate, "eu"), BreakerState::Disabled);
    assert_eq!(set(&mut gate, BreakerChange::Close), 1);
    assert_eq!(ask(&mut gate, "eu"), BreakerState::Closed);
    let query = AuditQuery {
        limit: 10,
        ..AuditQuery::default()
    };
    let page = crate::audit::list(&db, now, &query).unwrap();
    let acts: Vec<String> = page.entries.iter().map(|entry| entry.as_str().to_string()).collect();
    assert_eq!(acts.len(), 3, "{acts:?}");
    for (act, what) in acts
        .iter()
        .zip(["upstream.closed", "upstream.disabled", "upstream.opened"])
    {
        assert!(act.contains(what) && act.contains("bank.main"), "{act}");
    }
}

#[test]
fn of_keys_without_end_a_bounded_number_is_kept_and_what_is_held_or_open_stays() {
    let (db, mut gate) = (gate(), Breakers::default());
    let caller = Caller {
        user: UserId::parse("op").unwrap(),
        reads_all: true,
        writes_all: true,
        act: None,
    };
    let now = UnixMs(1_000_000);
    gate.set(&db, now, ("bank.held", ""), BreakerChange::Open, &caller)
        .unwrap();
    for _ in 0..3 {
        gate.consult(&db, now, &consult("open", 1, BAD, false)).unwrap();
    }
    for n in 0..1_200_u64 {
        let failed = consult(&alloc::format!("k{n}"), 1, BAD, false);
        gate.consult(&db, now.plus(n), &failed).unwrap();
    }
    let shown = gate.show(&db, now).unwrap().breakers;
    assert_eq!(shown.len(), super::gate::KEPT_MAX);
    for state in [BreakerState::HeldOpen, BreakerState::Open] {
        assert!(shown.iter().any(|view| view.state == state));
    }
    assert!(shown.iter().any(|view| view.key == "k1199"));
    assert!(shown.is_sorted_by_key(|view| (view.upstream.clone(), view.key.clone())));
}

#[test]
fn a_row_gives_back_what_was_written_whatever_stands_in_it() {
    let (db, mut gate) = (gate(), Breakers::default());
    let rule = BreakerRule {
        window_calls: 5,
        consecutive: 0,
        probes: 2,
        ..RULE
    };
    let now = UnixMs(1_000_000);
    let failed = Consult {
        rule,
        outcomes: Outcomes {
            succeeded: 2,
            slow: 1,
            failed: 3,
            failed_slow: 1,
        },
        ..consult("é", 1, BAD, false)
    };
    gate.consult(&db, now, &failed).unwrap();
    for _ in 0..3 {
        gate.consult(&db, now, &consult("", 1, BAD, false)).unwrap();
    }
    gate.consult(&db, now.plus(30_000), &consult("", 0, BAD, true)).unwrap();
    let shown = gate.show(&db, now.plus(30_000)).unwrap();
    assert_eq!(Breakers::default().show(&db, now.plus(30_000)).unwrap(), shown);
    assert_eq!(
        (
            shown.breakers[0].state,
            shown.breakers[0].probes,
            shown.breakers[0].changes.len()
        ),
        (BreakerState::HalfOpen, 1, 2)
    );
    assert_eq!((shown.breakers[1].calls, shown.breakers[1].failed), (5, 4));
}

#[test]
fn an_isolate_asks_nobody_while_the_breaker_is_closed_and_calls_go_on() {
    let mut edge = Edge::default();
    let at = |ms: u64| UnixMs(1_000_000 + ms);
    let standing = |state, generation, wait_ms| Standing {
        state,
        generation,
        wait_ms,
        probe: None,
    };
    assert_eq!(edge.passage(at(0)), Passage::Ask, "it has heard nothing");
    edge.hear(at(0), &standing(BreakerState::Closed, 1, 0));
    let go = Passage::Go { generation: 1 };
    assert_eq!(edge.passage(at(HEARD_MS - 1)), go);
    assert_eq!(edge.passage(at(HEARD_MS)), Passage::Ask, "what it heard is old");
    // Successes are gathered, and told after a while.
    assert!(!edge.note(at(10), 1, false, false));
    assert!(!edge.note(at(9 + GATHERED_MS), 1, false, false));
    assert!(edge.note(at(10 + GATHERED_MS), 1, false, false));
    assert_eq!(edge.take().1.succeeded, 3);
    // What speaks against the upstream is told at once, and before another call where that did not happen.
    assert!(edge.note(at(20), 1, true, false));
    assert_eq!(edge.passage(at(20)), Passage::Ask);
    assert_eq!(edge.take().1, BAD);
    edge.hear(at(30), &standing(BreakerState::Open, 2, 900));
    assert_eq!(edge.passage(at(129)), Passage::Refused { wait_ms: 801 });
    assert_eq!(edge.passage(at(930)), Passage::Ask);
    assert!(!edge.note(at(40), 1, true, false), "a call of an earlier standing");
    edge.hear(at(940), &standing(BreakerState::HalfOpen, 3, 0));
    assert_eq!(edge.passage(at(941)), Passage::Ask, "each probe is asked for");
    edge.hear(at(942), &standing(BreakerState::HalfOpen, 3, 1000));
    let wait_ms = 999;
    assert_eq!(
        edge.passage(at(943)),
        Passage::Refused { wait_ms },
        "all of them are lent"
    );
    assert_eq!(edge.passage(at(1_942)), Passage::Ask);
    // What was gathered under an earlier standing is not told under another.
    edge.hear(at(2_000), &standing(BreakerState::Closed, 4, 0));
    assert!(!edge.note(at(2_000), 4, false, false));
    edge.hear(at(2_001), &standing(BreakerState::Closed, 6, 0));
    assert_eq!(edge.take(), (6, Outcomes::default(), None));
    edge.hear(at(2_002), &standing(BreakerState::HalfOpen, 3, 0));
    // A probe of which nothing was heard is told as failed.
    edge.lose_probe(7);
    assert_eq!(edge.take(), (3, BAD, Some(7)));
}

#[test]
fn an_isolate_that_cannot_ask_calls_unless_it_knows_better() {
    let mut edge = Edge::default();
    let now = UnixMs(1_000_000);
    assert_eq!(edge.unheard(now), Passage::Go { generation: 0 });
    let open = Standing {
        state: BreakerState::Open,
        generation: 2,
        wait_ms: 30_000,
        probe: None,
    };
    edge.hear(now, &open);
    let later = now.plus(HEARD_MS);
    assert_eq!(edge.passage(later), Passage::Ask);
    assert_eq!(edge.unheard(later), Passage::Refused { wait_ms: 25_000 });
    assert_eq!(edge.unheard(now.plus(30_000)), Passage::Go { generation: 0 });
}

#[test]
fn retries_are_earned_by_calls() {
    let mut edge = Edge::default();
    let spent = (0..100).filter(|_| edge.spend()).count();
    assert_eq!(spent, 10);
    for _ in 0..4 {
        edge.earn(20);
        assert!(!edge.spend());
    }
    edge.earn(20);
    assert!(edge.spend() && !edge.spend());
}

#[test]
fn places_are_given_back() {
    let mut edge = Edge::default();
    assert!(edge.enter(2) && edge.enter(2) && !edge.enter(2));
    edge.leave();
    assert!(edge.enter(2) && !edge.enter(2));
}

fn retry() -> Retry {
    Retry {
        calls: 5,
        initial_ms: 1_000,
        cap_ms: 4_000,
        full_jitter: false,
        budget_percent: 20,
        on: ["5xx", "429", "timeout", "unreachable"].map(String::from).into(),
    }
}

const TRIED: Tried = Tried {
    failure: Failure::Status(503),
    made: 1,
    retry_after_ms: None,
    left_ms: 60_000,
    repeatable: true,
    open: false,
};

#[test]
fn retries_wait_one_second_two_and_four_and_no_longer_than_their_cap() {
    let waits: Vec<_> = (1..6)
        .map(|made| retry().wait_ms(&Tried { made, ..TRIED }, 0))
        .collect();
    assert_eq!(waits, [Some(1_000), Some(2_000), Some(4_000), Some(4_000), None]);
}

#[test]
fn what_may_follow_a_call_that_failed() {
    for (tried, wait) in [
        (TRIED, Some(1_000)),
        (
            Tried {
                failure: Failure::Status(400),
                ..TRIED
            },
            None,
        ),
        (
            Tried {
                failure: Failure::Status(404),
                ..TRIED
            },
            None,
        ),
        (
            Tried {
                failure: Failure::Status(429),
                ..TRIED
            },
            Some(1_000),
        ),
        (
            Tried {
                failure: Failure::Status(501),
                ..TRIED
            },
            Some(1_000),
        ),
        (
            Tried {
                failure: Failure::Timeout,
                ..TRIED
            },
            Some(1_000),
        ),
        (
            Tried {
                failure: Failure::Unreachable,
                ..TRIED
            },
            Some(1_000),
        ),
        // What the upstream asks for is the least, and where it is too long, somebody else tries again.
        (
            Tried {
                retry_after_ms: Some(3_000),
                ..TRIED
            },
            Some(3_000),
        ),
        (
            Tried {
                retry_after_ms: Some(200),
                ..TRIED
            },
            Some(1_000),
        ),
        (
            Tried {
                retry_after_ms: Some(4_001),
                ..TRIED
            },
            None,
        ),
        // The deadline is never passed.
        (
            Tried {
                left_ms: 1_001,
                ..TRIED
            },
            Some(1_000),
        ),
        (
            Tried {
                left_ms: 1_000,
                ..TRIED
            },
            None,
        ),
        // Neither what may not be done twice, nor what a breaker refuses.
        (
            Tried {
                repeatable: false,
                ..TRIED
            },
            None,
        ),
        (Tried { open: true, ..TRIED }, None),
    ] {
        assert_eq!(retry().wait_ms(&tried, 0), wait, "{tried:?}");
    }
}

proptest! {
    #[test]
    fn a_wait_is_anything_up_to_its_full_length_and_never_past_the_deadline(
        made in 1_u32..10, random: u64, left_ms in 0_u64..10_000, asked in proptest::option::of(0_u64..8_000),
    ) {
        let policy = Retry { full_jitter: true, calls: 20, ..retry() };
        let tried = Tried { made, left_ms, retry_after_ms: asked, ..TRIED };
        if let Some(wait) = policy.wait_ms(&tried, random) {
            prop_assert!(wait < left_ms);
            prop_assert!(wait >= asked.unwrap_or(0));
            prop_assert!(wait <= policy.full_ms(made).max(asked.unwrap_or(0)));
        }
    }
}
