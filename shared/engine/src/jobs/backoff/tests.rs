//! Waits: what each kind gives, what bounds them, and the tables that others publish, each from a composition.

extern crate std;

use alloc::string::ToString;
use alloc::vec::Vec;

use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_protocol::calls::executor::{Dispatch, Sharing};
use tidegate_protocol::ids::ActionName;

use super::*;
use crate::composition::{Manifest, Mode, Modes, Operation, Runs, compile, takes_no_settings, takes_nothing};

const MANIFEST: Manifest = Manifest {
    pattern: "core",
    description: "For tests.",
    operations: &[Operation {
        name: "work",
        description: "For tests.",
        modes: Modes::ASYNC,
        default_mode: Mode::Async,
        runs_in_hub: false,
        runs: Runs::Executor,
        sharing: Sharing::Alone,
        check_settings: takes_no_settings,
    }],
    check_config: takes_nothing,
};

/// The policy of an action whose composition says `retry`.
fn composed(retry: &Value) -> Policy {
    let document = json!({
        "tidegate": 1, "patterns": {"core": {"use": "core"}}, "actions": {"a": {"run": "core.work", "retry": retry}},
    });
    let plan = compile(&document.to_string(), &[MANIFEST]).unwrap_or_else(|error| panic!("{retry}: {error}"));
    plan.action(&ActionName::parse("a").unwrap()).unwrap().policy.clone()
}

fn policy(backoff: Backoff, jitter: Option<Jitter>) -> Policy {
    Policy {
        attempts_max: 3,
        backoff,
        jitter,
        timeout_ms: 1,
        queue_timeout_ms: None,
        total_timeout_ms: None,
        heartbeat_timeout_ms: None,
        lease_ms: 1,
        cancel_grace_ms: 0,
        retention_ms: 1,
        result_retention_ms: None,
        dispatch: Dispatch::Direct,
        sharing: Sharing::Alone,
        reporting: Default::default(),
        pool: None,
        revision: Default::default(),
        feeds: Default::default(),
    }
}

/// The shortest and the longest wait after each of the first attempts.
fn bounds(policy: &Policy, attempts: u32) -> Vec<(u64, u64)> {
    let all = |attempt| {
        let full = full_ms(&policy.backoff, attempt);
        let most = full.min(5_000_000_000);
        // The remainders at which every kind of jitter is least and most, and some between.
        let randoms = [0, most / 2, most / 5, most / 5 * 2, most, u64::MAX];
        randoms.map(|random| wait_ms(policy, attempt, None, random))
    };
    let bound = |attempt| {
        (
            all(attempt).into_iter().min().unwrap(),
            all(attempt).into_iter().max().unwrap(),
        )
    };
    (1..=attempts).map(bound).collect()
}

/// The waits of a policy that leaves nothing to chance.
fn waits(policy: &Policy, attempts: u32) -> Vec<u64> {
    let bounds = bounds(policy, attempts);
    assert!(bounds.iter().all(|(least, most)| least == most), "{bounds:?}");
    bounds.into_iter().map(|(wait, _)| wait).collect()
}

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// <https://www.inngest.com/docs/features/inngest-functions/error-retries/retries>, `pkg/backoff/backoff.go` of
/// inngest/inngest: a table of ten waits, the last of which repeats (and up to 30 seconds more by chance, left out here).
#[test]
fn the_waits_of_inngest_are_a_table() {
    let waits_of = json!(["15s", "30s", "1m", "2m", "5m", "10m", "20m", "40m", "1h", "2h"]);
    let policy = composed(&json!({"attempts": 21, "backoff": "table", "waits": waits_of}));
    let published = [
        15 * SECOND,
        30 * SECOND,
        MINUTE,
        2 * MINUTE,
        5 * MINUTE,
        10 * MINUTE,
        20 * MINUTE,
        40 * MINUTE,
        HOUR,
        2 * HOUR,
        2 * HOUR,
        2 * HOUR,
    ];
    assert_eq!(waits(&policy, 12), published);
}

/// <https://riverqueue.com/docs/job-retries>, `retry_policy.go` of riverqueue/river: attempt^4 seconds, ten percent more or
/// less, for 25 attempts.
#[test]
fn the_waits_of_river_are_the_fourth_power() {
    let retry = json!({"attempts": 25, "backoff": "polynomial", "unit": "1s", "power": 4, "cap": "5d"});
    let exact = {
        let mut retry = retry.clone();
        retry["jitter"] = "none".into();
        composed(&retry)
    };
    let published: Vec<u64> = (1..=24_u64).map(|attempt| attempt.pow(4) * SECOND).collect();
    assert_eq!(published[..4], [SECOND, 16 * SECOND, 81 * SECOND, 256 * SECOND]);
    assert_eq!(waits(&exact, 24), published);
    let spread = {
        let mut retry = retry;
        retry["jitter"] = "plus_minus".into();
        retry["percent"] = 10.into();
        composed(&retry)
    };
    let published: Vec<_> = published
        .into_iter()
        .map(|wait| (wait * 9 / 10, wait * 11 / 10))
        .collect();
    assert_eq!(bounds(&spread, 24), published);
}

/// <https://upstash.com/docs/qstash/features/retry>: min(86400, e ** (2.5 * n)) seconds, published as 12s, 2m28s, 30m8s,
/// 6h7m6s, 24h, 24h.
#[test]
fn the_waits_of_qstash_are_powers_of_a_broken_number() {
    let table = ["12182ms", "148413ms", "1808042ms", "22026466ms", "24h"];
    let to_the_millisecond = composed(&json!({"backoff": "table", "waits": table}));
    for (n, wait) in (1_u32..).zip(waits(&to_the_millisecond, 8)) {
        let formula = (f64::from(n) * 2.5).exp().min(86_400.0) * 1000.0;
        let wait = f64::from(u32::try_from(wait).unwrap());
        assert!((formula - wait).abs() <= 0.5, "{wait} of {formula}");
    }
    let factor = composed(&json!({"initial": "12182ms", "factor": 12.1825, "cap": "24h", "jitter": "none"}));
    let seconds: Vec<u64> = waits(&factor, 6).into_iter().map(|ms| (ms + 500) / SECOND).collect();
    let published = [12, 2 * 60 + 28, 30 * 60 + 8, 6 * 3600 + 7 * 60 + 6, 86_400, 86_400];
    assert_eq!(seconds, published);
}

/// <https://trigger.dev/docs/errors-retrying>, `packages/core/src/v3/utils/retries.ts` of triggerdotdev/trigger.dev, with the
/// defaults of a new project: minTimeoutInMs 1000, maxTimeoutInMs 10000, factor 2, maxAttempts 3, and randomize, which
/// multiplies a wait by 1 to 2 before the cap: the same for the two waits of three attempts, which stay below it.
#[test]
fn the_waits_of_trigger_dev_double_to_ten_seconds() {
    let exact = composed(&json!({"initial": "1s", "factor": 2, "cap": "10s", "jitter": "none"}));
    assert_eq!(waits(&exact, 6), [1000, 2000, 4000, 8000, 10_000, 10_000]);
    let randomized = composed(&json!({"attempts": 3, "initial": "2s", "factor": 2, "cap": "10s", "jitter": "equal"}));
    assert_eq!(bounds(&randomized, 2), [(1000, 2000), (2000, 4000)]);
}

/// <https://docs.restate.dev/services/configuration> (the server's default retry policy): from 50 ms, factor 2, at most 60 s.
#[test]
fn the_waits_of_restate_double_from_fifty_milliseconds_to_a_minute() {
    let policy = composed(&json!({"initial": "50ms", "factor": 2.0, "cap": "60s", "jitter": "none"}));
    let published: Vec<u64> = (0..20).map(|n| (50 << n).min(MINUTE)).collect();
    assert_eq!(waits(&policy, 20), published);
}

/// <https://developers.cloudflare.com/workflows/build/sleeping-and-retrying>, `packages/workflows-shared/src/lib/retries.ts`
/// of cloudflare/workers-sdk, with the default delay of 10 seconds: the delay, the delay times n, the delay times 2^(n-1).
#[test]
fn the_waits_of_cloudflare_workflows_come_in_three_kinds() {
    let constant = composed(&json!({"attempts": 6, "backoff": "constant", "initial": "10s"}));
    assert_eq!(waits(&constant, 5), [10_000; 5]);
    let linear = composed(&json!({"attempts": 6, "backoff": "linear", "initial": "10s", "cap": "1h"}));
    assert_eq!(waits(&linear, 5), [10_000, 20_000, 30_000, 40_000, 50_000]);
    let exponential = json!({"attempts": 6, "backoff": "exponential", "initial": "10s", "cap": "1h", "jitter": "none"});
    assert_eq!(
        waits(&composed(&exponential), 5),
        [10_000, 20_000, 40_000, 80_000, 160_000]
    );
}

#[test]
fn what_a_composition_says_nothing_of_waits_as_it_always_did() {
    let policy = composed(&json!({}));
    for (attempt, full) in [
        (1, 1000),
        (2, 2000),
        (3, 4000),
        (7, 60_000),
        (100, 60_000),
        (u32::MAX, 60_000),
    ] {
        assert_eq!(wait_ms(&policy, attempt, None, full / 2), full);
        assert_eq!(wait_ms(&policy, attempt, None, 0), full / 2);
    }
}

#[test]
fn a_constant_wait_is_exact_and_the_handler_may_ask_for_more_than_any_cap() {
    let constant = policy(Backoff::Constant { ms: 250 }, None);
    for (asked, wait) in [(None, 250), (Some(100), 250), (Some(9000), 9000)] {
        assert_eq!(wait_ms(&constant, 4, asked, u64::MAX), wait);
    }
    assert_eq!(wait_ms(&composed(&json!({})), 1, Some(3_600_000), 5), 3_600_000);
}

#[test]
fn a_broken_factor_is_right_to_the_millisecond() {
    let policy = policy(
        Backoff::Exponential {
            initial_ms: 1000,
            factor: Factor(1_100_000),
            cap_ms: u64::MAX,
        },
        Some(Jitter::None),
    );
    // 1000 * 1.1^n, in fractions.
    for (attempt, wait) in [(2, 1100), (3, 1210), (4, 1331), (5, 1464), (6, 1611), (99, 11_388_936)] {
        assert_eq!(wait_ms(&policy, attempt, None, 0), wait, "attempt {attempt}");
    }
}

#[test]
fn what_is_beyond_every_number_stays_at_its_cap() {
    let (most, cap_ms) = (u64::MAX, u64::MAX);
    let (increment_ms, power) = (most, u32::MAX);
    for backoff in [
        Backoff::Linear {
            initial_ms: most,
            increment_ms,
            cap_ms,
        },
        Backoff::Exponential {
            initial_ms: most - 1,
            factor: Factor(most),
            cap_ms,
        },
        Backoff::Polynomial {
            unit_ms: most,
            power,
            cap_ms,
        },
    ] {
        for jitter in [Jitter::None, Jitter::Equal] {
            let policy = policy(backoff.clone(), Some(jitter));
            assert_eq!(
                wait_ms(&policy, u32::MAX, None, most / 2),
                most,
                "{backoff:?} {jitter:?}"
            );
        }
    }
    let waits_ms = Vec::new();
    assert_eq!(wait_ms(&policy(Backoff::Table { waits_ms }, None), 1, None, 7), 0);
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..100_000_u64, any::<u64>(), Just(u64::MAX)]
}

fn backoffs() -> impl Strategy<Value = Backoff> {
    let factor = prop_oneof![1_000_000..30_000_000_u64, any::<u64>()];
    prop_oneof![
        number().prop_map(|ms| Backoff::Constant { ms }),
        (number(), number(), number()).prop_map(|(initial_ms, increment_ms, cap_ms)| Backoff::Linear {
            initial_ms,
            increment_ms,
            cap_ms
        }),
        (number(), factor, number()).prop_map(|(initial_ms, factor, cap_ms)| Backoff::Exponential {
            initial_ms,
            factor: Factor(factor),
            cap_ms
        }),
        (number(), 0..20_u32, number()).prop_map(|(unit_ms, power, cap_ms)| Backoff::Polynomial {
            unit_ms,
            power,
            cap_ms
        }),
        prop::collection::vec(number(), 0..5).prop_map(|waits_ms| Backoff::Table { waits_ms }),
    ]
}

fn jitters() -> impl Strategy<Value = Option<Jitter>> {
    prop_oneof![
        Just(None),
        Just(Some(Jitter::None)),
        Just(Some(Jitter::Full)),
        Just(Some(Jitter::Equal)),
        any::<u8>().prop_map(|percent| Some(Jitter::PlusMinus { percent })),
    ]
}

proptest! {
    #[test]
    fn a_wait_is_never_above_its_cap_and_its_jitter_stays_in_its_range(
        backoff in backoffs(),
        jitter in jitters(),
        attempt in prop_oneof![0..200_u32, any::<u32>()],
        random: u64,
    ) {
        let policy = policy(backoff, jitter);
        let full = full_ms(&policy.backoff, attempt);
        let wait = wait_ms(&policy, attempt, None, random);
        prop_assert!(full <= cap_ms(&policy.backoff) && wait <= cap_ms(&policy.backoff));
        let part = |percent: u64| u64::try_from(u128::from(full) * u128::from(percent) / 100).unwrap();
        let (least, most) = match jitter.unwrap_or(policy.backoff.own_jitter()) {
            Jitter::None => (full, full),
            Jitter::Full => (0, full),
            Jitter::Equal => (full / 2, full),
            Jitter::PlusMinus { percent } => {
                let part = part(u64::from(percent.min(100)));
                (full - part, full.saturating_add(part))
            }
        };
        prop_assert!((least..=most).contains(&wait), "{wait} of {full}");
    }

    #[test]
    fn a_wait_never_shrinks_from_one_attempt_to_the_next(backoff in backoffs(), attempt in 1..200_u32) {
        let grows = !matches!(backoff, Backoff::Table { .. })
            && !matches!(backoff, Backoff::Exponential { factor, .. } if factor < Factor::ONE);
        prop_assume!(grows);
        prop_assert!(full_ms(&backoff, attempt) <= full_ms(&backoff, attempt + 1));
    }
}
