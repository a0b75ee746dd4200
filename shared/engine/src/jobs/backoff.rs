//! How long to wait before the next attempt.

use tidegate_protocol::calls::executor::Backoff;

/// The wait after attempt number `attempt` (from 1). Milliseconds.
///
/// Exponential waits have equal jitter: half of the wait is sure, half comes from `random`, so that jobs that failed
/// together do not come back together (M. Brooker, "Exponential Backoff And Jitter"). What the handler asks for is the
/// least it gets.
pub(super) fn wait_ms(backoff: &Backoff, attempt: u32, retry_after_ms: Option<u64>, random: u64) -> u64 {
    let own = match backoff {
        Backoff::Constant { ms } => *ms,
        Backoff::Exponential { initial_ms, cap_ms } => {
            let doublings = attempt.saturating_sub(1).min(40);
            let full = initial_ms.saturating_mul(1 << doublings).min(*cap_ms);
            full - full / 2 + random % (full / 2 + 1)
        }
    };
    own.max(retry_after_ms.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waits_double_up_to_their_cap() {
        let backoff = Backoff::Exponential {
            initial_ms: 1000,
            cap_ms: 60_000,
        };
        for (attempt, full) in [
            (1, 1000),
            (2, 2000),
            (3, 4000),
            (7, 60_000),
            (100, 60_000),
            (u32::MAX, 60_000),
        ] {
            assert_eq!(wait_ms(&backoff, attempt, None, full / 2), full);
            assert_eq!(wait_ms(&backoff, attempt, None, 0), full / 2);
        }
    }

    #[test]
    fn a_constant_wait_is_exact_and_the_handler_may_ask_for_more() {
        let backoff = Backoff::Constant { ms: 250 };
        for (asked, wait) in [(None, 250), (Some(100), 250), (Some(9000), 9000)] {
            assert_eq!(wait_ms(&backoff, 4, asked, u64::MAX), wait);
        }
    }

    proptest! {
        #[test]
        fn a_wait_lies_between_half_and_the_whole(attempt: u32, initial in 0..100_000_u64, cap in 0..10_000_000_u64, random: u64) {
            let wait = wait_ms(&Backoff::Exponential { initial_ms: initial, cap_ms: cap }, attempt, None, random);
            prop_assert!(wait <= cap);
        }
    }
}
