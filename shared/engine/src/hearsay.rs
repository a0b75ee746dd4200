//! How long an isolate goes by what another object told it.
//!
//! What was heard lately is used. When it is too old, one asks again and the others go on with it until it is twice as old; from
//! then on everybody asks, because no request may wait for another's call. Where the other cannot be reached, what was heard is
//! better than nothing, for a while.

use tidegate_protocol::time::UnixMs;

/// How long an isolate goes on with what it heard where the other cannot be reached. Milliseconds.
pub const GRACE_MS: u64 = 30_000;

/// Something that was heard from another object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard<T> {
    value: T,
    heard_at: UnixMs,
    asked_at: UnixMs,
}

/// What to do with something that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Use it.
    Use,
    /// It is too old, and nobody is asking: ask.
    Ask,
}

impl<T> Heard<T> {
    /// The answer to a question that was asked at `asked_at`: it is as old as its question.
    pub fn new(value: T, asked_at: UnixMs) -> Self {
        Self {
            value,
            heard_at: asked_at,
            asked_at,
        }
    }

    /// The answer to a later question, or to an earlier one that took longer, which says nothing new.
    pub fn hear(&mut self, value: T, asked_at: UnixMs) {
        if asked_at >= self.heard_at {
            self.value = value;
            self.heard_at = asked_at;
            self.asked_at = self.asked_at.max(asked_at);
        }
    }

    /// What was heard.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Whether it is used, or asked for anew: by whoever is told to, who says what came of it with [`Heard::hear`].
    pub fn step(&mut self, now: UnixMs, age_ms: u64) -> Step {
        let age = now.since(self.heard_at);
        let is_asked = now.since(self.asked_at) <= age_ms && age <= age_ms.saturating_mul(2);
        if age <= age_ms || is_asked {
            return Step::Use;
        }
        self.asked_at = now;
        Step::Ask
    }

    /// Whether it is used although the question failed.
    pub fn is_excused(&self, now: UnixMs) -> bool {
        now.since(self.heard_at) <= GRACE_MS
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const AGE: u64 = 500;
    const START: UnixMs = UnixMs(1_800_000_000_000);

    #[test]
    fn one_asks_and_the_others_go_on() {
        let mut heard = Heard::new((), START);
        let steps: Vec<Step> = [0, 500, 501, 502, 1_000, 1_001, 1_002, 1_501, 1_502]
            .iter()
            .map(|ms| heard.step(START.plus(*ms), AGE))
            .collect();
        // At 501 one asks; until 1,000 others go on; nobody has answered by 1,001, and what is there is too old.
        let expected = [
            Step::Use,
            Step::Use,
            Step::Ask,
            Step::Use,
            Step::Use,
            Step::Ask,
            Step::Ask,
            Step::Ask,
            Step::Ask,
        ];
        assert_eq!(steps, expected);
    }

    #[test]
    fn an_answer_that_was_overtaken_says_nothing() {
        let mut heard = Heard::new("old", START);
        assert_eq!(heard.step(START.plus(501), AGE), Step::Ask);
        assert_eq!(heard.step(START.plus(1_100), AGE), Step::Ask);
        heard.hear("newer", START.plus(1_100));
        heard.hear("new", START.plus(501));
        assert_eq!(*heard.value(), "newer");
        assert_eq!(heard.step(START.plus(1_600), AGE), Step::Use);
    }

    #[test]
    fn what_was_heard_is_excused_for_a_while() {
        let heard = Heard::new((), START);
        assert!(heard.is_excused(START.plus(GRACE_MS)) && !heard.is_excused(START.plus(GRACE_MS + 1)));
    }

    proptest! {
        /// However requests come and however long answers take: what is used was true within twice the age, and while it is not
        /// older than that, one question is under way at most.
        #[test]
        fn what_is_used_is_young(gaps in prop::collection::vec(0_u64..400, 1..200), answer_ms in 0_u64..900) {
            let (mut now, mut heard) = (START, Heard::new((), START));
            let mut under_way = Vec::<UnixMs>::new();
            for gap in gaps {
                now = now.plus(gap);
                under_way.retain(|at| {
                    let came = now.since(*at) >= answer_ms;
                    if came {
                        heard.hear((), *at);
                    }
                    !came
                });
                match heard.step(now, AGE) {
                    Step::Use => prop_assert!(now.since(heard.heard_at) <= 2 * AGE),
                    Step::Ask => {
                        let lately = under_way.iter().any(|at| now.since(*at) <= AGE);
                        prop_assert!(!lately || now.since(heard.heard_at) > 2 * AGE);
                        under_way.push(now);
                    }
                }
            }
        }
    }
}
