//! Keys in tables of cases, and any history of requests, deaths and restarts against the plainest model there is.

extern crate std;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use proptest::prelude::*;
use tidegate_protocol::ErrorCode::{self, IdempotencyInProgress, IdempotencyMismatch, RateLimited};
use tidegate_protocol::time::UnixMs;

use super::{DROPPED, KEPT_MS, KEYS, KEYS_MAX, Keys, LEASE_MS, count, digest, is_kept};
use crate::database::native::Native;
use crate::database::{Database, migrate};
use tidegate_protocol::SortedMap;

const START: UnixMs = UnixMs(1_700_000_000_000);

/// What a begin comes to: it is to be made, it had this answer, or it is refused.
type Begun = Result<Option<String>, ErrorCode>;

struct Gate {
    db: Native,
    keys: Keys,
    now: UnixMs,
}

impl Gate {
    fn new(keys_max: u64) -> Self {
        let db = Native::in_memory().unwrap();
        migrate(&db, &[KEYS]).unwrap();
        let keys = Keys {
            keys_max,
            ..Keys::default()
        };
        Self { db, keys, now: START }
    }

    fn begin(&mut self, name: &str, fingerprint: &str, token: u64) -> Begun {
        let (keys, now) = (&mut self.keys, self.now);
        let begun = self
            .db
            .transaction(|db| keys.begin(db, now, (name, fingerprint), token))
            .unwrap();
        begun.map_err(|error| {
            assert_eq!(error.retryable, error.retry_after_ms.is_some(), "{error}");
            error.code
        })
    }

    fn end(&self, name: &str, token: u64, answer: Option<&str>) {
        self.db
            .transaction(|db| Keys::end(db, self.now, name, token, answer))
            .unwrap();
    }

    fn rows(&self) -> u64 {
        count(&self.db).unwrap()
    }

    /// The object starts anew: what it kept in memory is gone.
    fn restart(&mut self) {
        self.keys = Keys {
            keys_max: self.keys.keys_max,
            ..Keys::default()
        };
    }
}

fn replayed(answer: &str) -> Begun {
    Ok(Some(answer.into()))
}

#[test]
fn a_second_request_is_given_the_answer_of_the_first() {
    let mut gate = Gate::new(KEYS_MAX);
    assert_eq!(gate.begin("k", "f", 1), Ok(None));
    assert_eq!(gate.begin("k", "f", 1), Ok(None), "its own begin, repeated");
    assert_eq!(gate.begin("k", "f", 2), Err(IdempotencyInProgress));
    assert_eq!(gate.begin("k", "g", 2), Err(IdempotencyMismatch));
    assert_eq!(gate.begin("l", "g", 2), Ok(None), "another key");
    gate.end("k", 1, Some("first"));
    gate.end("k", 1, Some("second"));
    gate.end("k", 1, None);
    for token in 1..4 {
        gate.restart();
        assert_eq!(gate.begin("k", "f", token), replayed("first"));
        assert_eq!(gate.begin("k", "g", token), Err(IdempotencyMismatch));
    }
    gate.now = gate.now.plus(KEPT_MS - 1);
    assert_eq!(gate.begin("k", "f", 9), replayed("first"));
    gate.now = gate.now.plus(1);
    assert_eq!(gate.begin("k", "g", 9), Ok(None), "out of date");
    assert_eq!(gate.begin("k", "g", 10), Err(IdempotencyInProgress));
}

#[test]
fn what_came_to_nothing_frees_its_key() {
    let mut gate = Gate::new(KEYS_MAX);
    assert_eq!(gate.begin("k", "f", 1), Ok(None));
    gate.end("k", 1, None);
    assert_eq!(gate.rows(), 0);
    assert_eq!(gate.begin("k", "g", 2), Ok(None));
}

#[test]
fn a_key_whose_request_died_is_free_after_its_lease_and_the_dead_change_nothing_then() {
    let mut gate = Gate::new(KEYS_MAX);
    assert_eq!(gate.begin("k", "f", 1), Ok(None));
    gate.now = gate.now.plus(LEASE_MS - 1);
    assert_eq!(gate.begin("k", "f", 2), Err(IdempotencyInProgress));
    gate.now = gate.now.plus(1);
    assert_eq!(gate.begin("k", "g", 2), Ok(None));
    gate.end("k", 1, Some("late"));
    gate.end("k", 1, None);
    assert_eq!(gate.begin("k", "g", 3), Err(IdempotencyInProgress));
    gate.end("k", 2, Some("in time"));
    assert_eq!(gate.begin("k", "g", 3), replayed("in time"));
}

#[test]
fn an_answer_that_comes_after_the_lease_is_kept_where_nobody_has_the_key() {
    let mut gate = Gate::new(KEYS_MAX);
    assert_eq!(gate.begin("k", "f", 1), Ok(None));
    gate.now = gate.now.plus(10 * LEASE_MS);
    gate.end("k", 1, Some("late"));
    assert_eq!(gate.begin("k", "f", 2), replayed("late"));
}

#[test]
fn the_oldest_answers_make_way_and_what_is_under_way_never_does() {
    let mut gate = Gate::new(KEYS_MAX);
    for n in 0..KEYS_MAX {
        gate.now = gate.now.plus(1);
        assert_eq!(gate.begin(&format!("k{n}"), "f", n), Ok(None));
        if n >= 3 {
            gate.end(&format!("k{n}"), n, Some("done"));
        }
    }
    assert_eq!(gate.rows(), KEYS_MAX);
    assert_eq!(gate.begin("one more", "f", 1), Ok(None));
    assert_eq!(gate.rows(), KEYS_MAX - DROPPED + 1);
    assert_eq!(gate.begin("k0", "f", 7), Err(IdempotencyInProgress));
    assert_eq!(gate.begin("k2", "f", 7), Err(IdempotencyInProgress));
    let first_kept = 3 + DROPPED;
    assert_eq!(gate.begin(&format!("k{first_kept}"), "f", 7), replayed("done"));
    assert_eq!(gate.begin("k3", "f", 7), Ok(None), "dropped, and work of its own");
    assert_eq!(gate.begin(&format!("k{}", first_kept - 1), "f", 7), Ok(None));
}

#[test]
fn a_tenant_all_of_whose_keys_are_held_is_told_so_until_one_is_free() {
    let mut gate = Gate::new(3);
    for name in ["a", "b", "c"] {
        assert_eq!(gate.begin(name, "f", 1), Ok(None));
    }
    assert_eq!(gate.begin("d", "f", 1), Err(RateLimited));
    assert_eq!(gate.begin("a", "f", 2), Err(IdempotencyInProgress));
    gate.end("b", 1, None);
    assert_eq!(gate.begin("d", "f", 1), Ok(None));
    assert_eq!(gate.begin("e", "f", 1), Err(RateLimited));
    gate.end("c", 1, Some("done"));
    assert_eq!(gate.begin("e", "f", 1), Ok(None));
    gate.now = gate.now.plus(LEASE_MS);
    assert_eq!(gate.begin("f", "f", 1), Ok(None), "the dead make way");
}

#[test]
fn what_is_out_of_date_goes_as_new_keys_come() {
    let mut gate = Gate::new(KEYS_MAX);
    for day in 0..4 {
        for n in 0..200 {
            let name = digest(&[format!("{day}.{n}").as_bytes()]);
            assert_eq!(gate.begin(&name, "f", n), Ok(None));
            gate.end(&name, n, Some("done"));
        }
        assert!(gate.rows() <= 400, "{} on day {day}", gate.rows());
        gate.now = gate.now.plus(KEPT_MS);
    }
    assert_eq!(gate.db.compiled_again(), 0);
}

#[test]
fn a_digest_tells_apart_what_is_not_the_same() {
    let mut seen = Vec::new();
    let cases: [&[&str]; 6] = [&[], &[""], &["", ""], &["ab", "c"], &["a", "bc"], &["abc"]];
    for parts in cases {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        let one = digest(&parts);
        assert_eq!((one.len(), one.clone()), (25, digest(&parts)));
        assert!(!seen.contains(&one), "{parts:?}");
        seen.push(one);
    }
}

#[test]
fn an_answer_is_kept_where_it_says_what_was_decided() {
    for (status, kept) in [
        (200, true),
        (201, true),
        (202, true),
        (204, true),
        (400, false),
        (401, false),
        (403, false),
        (404, true),
        (409, true),
        (410, true),
        (412, true),
        (413, false),
        (415, false),
        (422, false),
        (429, false),
        (500, false),
        (501, false),
        (503, false),
        (504, false),
    ] {
        assert_eq!(is_kept(status), kept, "{status}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A request with a key comes; some are others than those before.
    Come(u8, bool),
    /// One that is being made asks again, as where the answer to its begin was lost.
    Repeat(usize),
    /// One that was made ends, with an answer or without.
    End(usize, bool),
    Restart,
    Later(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..6_u8, prop::bool::weighted(0.2)).prop_map(|(key, other)| Step::Come(key, other)),
        1 => any::<usize>().prop_map(Step::Repeat),
        5 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(which, answers)| Step::End(which, answers)),
        1 => Just(Step::Restart),
        3 => prop_oneof![Just(1), Just(LEASE_MS / 2), Just(LEASE_MS), Just(KEPT_MS / 3), Just(KEPT_MS)].prop_map(Step::Later),
    ]
}

/// A request that was made.
#[derive(Debug, Clone)]
struct Made {
    key: u8,
    fingerprint: &'static str,
    token: u64,
    began: UnixMs,
    ended: bool,
}

/// What a key is known to hold.
#[derive(Debug, Clone)]
enum Known {
    Answer { of: Made, at: UnixMs },
    Held(Made),
    Free,
}

/// Plays a history on a gate with `keys_max` keys.
fn play(keys_max: u64, steps: Vec<Step>) {
    let mut gate = Gate::new(keys_max);
    let mut made: Vec<Made> = Vec::new();
    let mut known: SortedMap<u8, Known> = SortedMap::new();
    let all_fit = keys_max >= 6;
    let answer_of = |token: u64| format!("answer of {token}");
    for (token, step) in (1_u64..).zip(steps) {
        match step {
            Step::Come(key, other) => {
                let fingerprint = if other { "other" } else { "usual" };
                let begun = gate.begin(&format!("k{key}"), fingerprint, token);
                let held = |known: &Known| match known {
                    Known::Held(of) => of.began.plus(LEASE_MS) > gate.now,
                    _ => false,
                };
                let held_count = known.values().filter(|known| held(known)).count();
                match known.get(&key).unwrap_or(&Known::Free) {
                    Known::Held(of) if of.began.plus(LEASE_MS) > gate.now => {
                        let same = of.fingerprint == fingerprint;
                        let expected = if same {
                            IdempotencyInProgress
                        } else {
                            IdempotencyMismatch
                        };
                        assert_eq!(begun, Err(expected), "nobody else makes it while the first may live");
                        continue;
                    }
                    Known::Answer { of, at } if at.plus(KEPT_MS) > gate.now => match &begun {
                        Ok(Some(answer)) => {
                            assert_eq!((answer, of.fingerprint), (&answer_of(of.token), fingerprint));
                            continue;
                        }
                        Err(IdempotencyMismatch) => {
                            assert_ne!(of.fingerprint, fingerprint);
                            continue;
                        }
                        // It has made way, or its end came after its lease and found nothing.
                        Ok(None) => assert!(!all_fit || *at >= of.began.plus(LEASE_MS)),
                        Err(_) => {}
                    },
                    Known::Held(_) | Known::Answer { .. } | Known::Free => {}
                }
                match begun {
                    Ok(None) => {
                        let of = Made {
                            key,
                            fingerprint,
                            token,
                            began: gate.now,
                            ended: false,
                        };
                        known.insert(key, Known::Held(of.clone()));
                        made.push(of);
                    }
                    Err(RateLimited) => {
                        assert_eq!(u64::try_from(held_count), Ok(keys_max), "full of what is under way")
                    }
                    other => panic!("{other:?} for a free key"),
                }
            }
            Step::Repeat(which) => {
                let Some(of) = made.get(which % made.len().max(1)) else {
                    continue;
                };
                let holds = matches!(known.get(&of.key), Some(Known::Held(held)) if held.token == of.token);
                if holds && of.began.plus(LEASE_MS) > gate.now {
                    let begun = gate.begin(&format!("k{}", of.key), of.fingerprint, of.token);
                    assert_eq!(begun, Ok(None));
                }
            }
            Step::End(which, answers) => {
                let index = which % made.len().max(1);
                let Some(of) = made.get_mut(index) else { continue };
                if of.ended {
                    continue;
                }
                of.ended = true;
                let answer = answers.then(|| answer_of(of.token));
                gate.end(&format!("k{}", of.key), of.token, answer.as_deref());
                let of = of.clone();
                if matches!(known.get(&of.key), Some(Known::Held(held)) if held.token == of.token) {
                    let now = if answers {
                        Known::Answer {
                            of: of.clone(),
                            at: gate.now,
                        }
                    } else {
                        Known::Free
                    };
                    known.insert(of.key, now);
                }
            }
            Step::Restart => gate.restart(),
            Step::Later(ms) => gate.now = gate.now.plus(ms),
        }
        assert!(gate.rows() <= keys_max);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_key_is_made_once_while_its_request_may_live_and_then_answered_as_the_first_was(
        steps in proptest::collection::vec(step(), 1..120)
    ) {
        play(KEYS_MAX, steps);
    }

    #[test]
    fn that_holds_too_where_keys_make_way(steps in proptest::collection::vec(step(), 1..120)) {
        play(2, steps);
    }
}

#[test]
fn the_table_has_one_row_for_a_key_and_no_index() {
    let gate = Gate::new(KEYS_MAX);
    let rows = gate
        .db
        .run(
            "-- idempotency::tests\nSELECT CAST(count(*) AS INTEGER) FROM sqlite_master WHERE tbl_name = 'idempotency'",
            &[],
        )
        .unwrap();
    assert_eq!(rows.into_iter().next().unwrap().number(), Ok(1));
}
