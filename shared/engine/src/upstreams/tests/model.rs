//! A breaker that remembers everything and works each answer out anew, and the real one beside it.

use alloc::vec::Vec;

use proptest::prelude::*;
use tidegate_protocol::calls::upstreams::{BreakerChange, BreakerRule, BreakerState, Outcomes};
use tidegate_protocol::time::UnixMs;

use super::super::Breaker;

/// A call that ended: when, whether it failed, whether it was slow.
type Call = (u64, bool, bool);

#[derive(Debug, Clone)]
enum State {
    Closed(Vec<Call>),
    Open { until: u64 },
    HalfOpen { under_way: Vec<(u64, u64)>, good: u32 },
    Held,
    Disabled,
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    /// Calls of the present standing, or of one long ago.
    Calls(Vec<(bool, bool)>, bool),
    Ask,
    /// The probe that was lent so many ago ends: with nothing, well, slowly, badly.
    Probe(usize, u8),
    Hand(BreakerChange),
}

struct Model {
    rule: BreakerRule,
    state: State,
    now: u64,
    lent: Vec<(u64, u64)>,
    standing: u64,
}

impl Model {
    fn enter(&mut self, state: State) {
        self.state = state;
        self.standing += 1;
    }

    fn calls(&mut self, calls: &[(bool, bool)]) {
        let (rule, now) = (&self.rule, self.now);
        let State::Closed(history) = &mut self.state else {
            return;
        };
        history.extend(calls.iter().map(|(failed, slow)| (now, *failed, *slow)));
        let in_a_row = history.iter().rev().take_while(|(_, failed, _)| *failed).count();
        let slot = |at: u64| at / (rule.window_ms / 10).max(1);
        let window: Vec<&Call> = if rule.window_calls > 0 {
            history.iter().rev().take(rule.window_calls as usize).collect()
        } else {
            history.iter().filter(|(at, ..)| slot(*at) + 10 > slot(now)).collect()
        };
        let share = |bad: usize, percent: u32| percent > 0 && bad * 100 >= window.len() * percent as usize;
        let enough = window.len() >= rule.calls_min.max(1) as usize;
        let failed = window.iter().filter(|(_, failed, _)| *failed).count();
        let slow = window.iter().filter(|(_, _, slow)| *slow).count();
        if (rule.consecutive > 0 && in_a_row >= rule.consecutive as usize)
            || (enough && (share(failed, rule.failure_percent) || share(slow, rule.slow_percent)))
        {
            let until = now + rule.open_ms;
            self.enter(State::Open { until });
        }
    }

    /// Whether a probe is lent.
    fn ask(&mut self, lease: u64) -> bool {
        if let State::Open { until } = self.state
            && until <= self.now
        {
            self.enter(State::HalfOpen {
                under_way: Vec::new(),
                good: 0,
            });
        }
        let State::HalfOpen { under_way, good } = &mut self.state else {
            return false;
        };
        under_way.retain(|(_, lapses)| *lapses > self.now);
        let places = self.rule.probes.min(self.rule.successes - *good).max(1);
        let lends = under_way.len() < places as usize;
        if lends {
            let id = self.lent.len() as u64 + 1;
            under_way.push((id, self.now + lease));
            self.lent.push((id, self.standing));
        }
        lends
    }

    fn probe(&mut self, id: u64, standing: u64, how: u8) {
        let State::HalfOpen { under_way, good } = &mut self.state else {
            return;
        };
        let known = under_way.iter().any(|(known, _)| *known == id);
        if standing != self.standing || !known {
            return;
        }
        under_way.retain(|(known, _)| *known != id);
        let until = self.now + self.rule.open_ms;
        match how {
            0 => {}
            2 if self.rule.slow_percent > 0 => self.enter(State::Open { until }),
            1 | 2 => {
                *good += 1;
                if *good >= self.rule.successes {
                    self.enter(State::Closed(Vec::new()));
                }
            }
            _ => self.enter(State::Open { until }),
        }
    }

    fn hand(&mut self, change: BreakerChange) {
        match (change, &self.state) {
            (BreakerChange::Open, State::Held)
            | (BreakerChange::Disable, State::Disabled)
            | (BreakerChange::Close, State::Closed(_)) => {}
            (BreakerChange::Open, _) => self.enter(State::Held),
            (BreakerChange::Disable, _) => self.enter(State::Disabled),
            (BreakerChange::Close, _) => self.enter(State::Closed(Vec::new())),
        }
    }

    fn is(&self) -> BreakerState {
        match self.state {
            State::Closed(_) => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
            State::Held => BreakerState::HeldOpen,
            State::Disabled => BreakerState::Disabled,
        }
    }
}

fn rules() -> impl Strategy<Value = BreakerRule> {
    let windows = prop_oneof![Just((0, 1_000)), Just((0, 37)), Just((3, 0)), Just((8, 0))];
    let shares = prop_oneof![Just(0_u32), 1_u32..=100];
    (
        0_u32..5,
        shares.clone(),
        shares,
        windows,
        0_u32..7,
        1_u64..500,
        1_u32..4,
        1_u32..4,
    )
        .prop_map(
            |(
                consecutive,
                failure_percent,
                slow_percent,
                (window_calls, window_ms),
                calls_min,
                open_ms,
                probes,
                successes,
            )| {
                BreakerRule {
                    consecutive,
                    failure_percent,
                    slow_percent,
                    window_calls,
                    window_ms,
                    calls_min,
                    open_ms,
                    probes,
                    successes,
                }
            },
        )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let call = (any::<bool>(), prop::bool::weighted(0.2));
    let step = prop_oneof![
        2 => (0_u64..400).prop_map(Step::Wait),
        6 => (prop::collection::vec(call, 1..4), prop::bool::weighted(0.1)).prop_map(|(calls, old)| Step::Calls(calls, old)),
        4 => Just(Step::Ask),
        4 => (0_usize..4, 0_u8..4).prop_map(|(back, how)| Step::Probe(back, how)),
        1 => prop_oneof![
            Just(BreakerChange::Open), Just(BreakerChange::Close), Just(BreakerChange::Close), Just(BreakerChange::Disable)
        ].prop_map(Step::Hand),
    ];
    prop::collection::vec(step, 1..120)
}

const LEASE_MS: u64 = 150;

/// One batch of calls, successes first as a batch counts them.
fn batch(calls: &[(bool, bool)]) -> (Outcomes, Vec<(bool, bool)>) {
    let mut outcomes = Outcomes::default();
    for call in calls {
        match call {
            (false, false) => outcomes.succeeded += 1,
            (false, true) => outcomes.slow += 1,
            (true, false) => outcomes.failed += 1,
            (true, true) => outcomes.failed_slow += 1,
        }
    }
    let mut ordered = calls.to_vec();
    ordered.sort_unstable();
    (outcomes, ordered)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_breaker_stands_as_one_that_remembers_everything(rule in rules(), steps in steps()) {
        let mut model = Model {
            rule: rule.clone(), state: State::Closed(Vec::new()), now: 1_000_000, lent: Vec::new(), standing: 1,
        };
        let mut breaker = Breaker::default();
        for step in steps {
            let now = UnixMs(model.now);
            match &step {
                Step::Wait(ms) => model.now += ms,
                Step::Calls(calls, old) => {
                    let (outcomes, ordered) = batch(calls);
                    let generation = breaker.standing(now).generation;
                    if *old {
                        breaker.record(&rule, now, generation - 1, &outcomes, None);
                    } else {
                        breaker.record(&rule, now, generation, &outcomes, None);
                        model.calls(&ordered);
                    }
                }
                Step::Ask => {
                    let (standing, _) = breaker.ask(&rule, now, LEASE_MS);
                    let lent = model.ask(LEASE_MS);
                    prop_assert_eq!(standing.probe, lent.then_some(model.lent.len() as u64));
                    prop_assert!(breaker.probes(now) <= rule.probes);
                    let passes = matches!(standing.state, BreakerState::Closed | BreakerState::Disabled) || lent;
                    prop_assert_eq!(standing.wait_ms == 0, passes);
                }
                Step::Probe(back, how) => {
                    let lent = model.lent.len().checked_sub(back + 1).and_then(|place| model.lent.get(place)).copied();
                    let Some((id, standing)) = lent else { continue };
                    let outcomes = match how {
                        0 => Outcomes::default(),
                        1 => super::GOOD,
                        2 => super::SLOW,
                        _ => super::BAD,
                    };
                    breaker.record(&rule, now, standing, &outcomes, Some(id));
                    model.probe(id, standing, *how);
                }
                Step::Hand(change) => {
                    breaker.set(*change);
                    model.hand(*change);
                }
            }
            prop_assert_eq!(breaker.state(), model.is(), "after {:?}", step);
            prop_assert_eq!(breaker.standing(now).generation, model.standing);
        }
    }
}
