//! How long to wait before the next attempt.
//!
//! Whole numbers alone: a wait is the same on every machine. What grows beyond its cap, or beyond what a number holds,
//! stays there.

#[cfg(test)]
mod tests;

use tidegate_protocol::calls::executor::{Backoff, Factor, Jitter, Policy};

use crate::composition::defaults::ATTEMPTS_RANGE;

/// Times that an exponential wait grows at most: more than there are attempts.
const GROWTHS_MAX: u64 = 128;
const _: () = assert!(*ATTEMPTS_RANGE.end() <= GROWTHS_MAX);
/// Parts of a millisecond in which an exponential wait is multiplied. Each growth drops less than one of them, so that
/// after all of them the wait, of at most some 10^10 ms, is right to some hundredths of a millisecond.
const PARTS: u128 = 1_000_000_000_000;

/// The wait after attempt number `attempt` (from 1). Milliseconds.
///
/// The cap bounds the wait with its jitter, which comes from `random`. What the handler asks for is the least it gets,
/// whatever the cap.
pub(super) fn wait_ms(policy: &Policy, attempt: u32, retry_after_ms: Option<u64>, random: u64) -> u64 {
    let full = full_ms(&policy.backoff, attempt);
    let jitter = policy.jitter.unwrap_or(policy.backoff.own_jitter());
    let own = spread(full, jitter, random).min(cap_ms(&policy.backoff));
    own.max(retry_after_ms.unwrap_or(0))
}

/// The wait before its jitter.
fn full_ms(backoff: &Backoff, attempt: u32) -> u64 {
    let growths = u64::from(attempt.saturating_sub(1));
    match backoff {
        Backoff::Constant { ms } => *ms,
        Backoff::Linear {
            initial_ms,
            increment_ms,
            cap_ms,
        } => initial_ms
            .saturating_add(increment_ms.saturating_mul(growths))
            .min(*cap_ms),
        Backoff::Exponential {
            initial_ms,
            factor,
            cap_ms,
        } => exponential(*initial_ms, *factor, *cap_ms, growths),
        Backoff::Polynomial { unit_ms, power, cap_ms } => {
            let times = u128::from(attempt.max(1)).saturating_pow(*power);
            let wait = times.saturating_mul(u128::from(*unit_ms));
            u64::try_from(wait).unwrap_or(u64::MAX).min(*cap_ms)
        }
        Backoff::Table { waits_ms } => {
            let own = usize::try_from(growths).ok().and_then(|index| waits_ms.get(index));
            own.or(waits_ms.last()).copied().unwrap_or(0)
        }
    }
}

/// `initial_ms` times `factor` so many times, to the nearest millisecond, up to the cap.
fn exponential(initial_ms: u64, factor: Factor, cap_ms: u64, growths: u64) -> u64 {
    let cap = u128::from(cap_ms) * PARTS;
    let mut wait = u128::from(initial_ms) * PARTS;
    for _ in 0..growths.min(GROWTHS_MAX) {
        if wait >= cap {
            return cap_ms;
        }
        // What saturates is still far beyond every cap once it is divided.
        wait = wait.saturating_mul(u128::from(factor.0)) / u128::from(Factor::ONE.0);
    }
    u64::try_from((wait + PARTS / 2) / PARTS).map_or(cap_ms, |wait| wait.min(cap_ms))
}
const _: () = assert!(u128::MAX / Factor::ONE.0 as u128 >= u64::MAX as u128 * PARTS);

/// The longest wait; without one where nothing grows.
fn cap_ms(backoff: &Backoff) -> u64 {
    match backoff {
        Backoff::Linear { cap_ms, .. } | Backoff::Exponential { cap_ms, .. } | Backoff::Polynomial { cap_ms, .. } => {
            *cap_ms
        }
        Backoff::Constant { .. } | Backoff::Table { .. } => u64::MAX,
    }
}

/// A wait spread by chance (M. Brooker, "Exponential Backoff And Jitter", names the first three).
fn spread(full: u64, jitter: Jitter, random: u64) -> u64 {
    match jitter {
        Jitter::None => full,
        Jitter::Full => random % full.saturating_add(1),
        Jitter::Equal => full - full / 2 + random % (full / 2 + 1),
        Jitter::PlusMinus { percent } => {
            let percent = u64::from(percent.min(100));
            let most = full / 100 * percent + full % 100 * percent / 100;
            (full - most).saturating_add(random % most.saturating_mul(2).saturating_add(1))
        }
    }
}
