//! How long to wait before the next attempt to connect: exponential, with full jitter.

/// The first ceiling. Milliseconds.
pub const BASE_MS: u64 = 250;
/// No wait is longer, unless the server itself asks for it. Milliseconds.
pub const CAP_MS: u64 = 30_000;

/// The wait before attempt `failures + 1`: uniform from 0 to `min(CAP_MS, BASE_MS * 2^failures)`.
///
/// `roll` is uniform over all of `u64`.
pub fn full_jitter(failures: u32, roll: u64) -> u64 {
    let ceiling = BASE_MS.saturating_mul(1_u64.checked_shl(failures.min(32)).unwrap_or(u64::MAX));
    roll % (ceiling.min(CAP_MS) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_wait_never_exceeds_its_ceiling(failures in any::<u32>(), roll in any::<u64>()) {
            let wait = full_jitter(failures, roll);
            prop_assert!(wait <= CAP_MS);
            prop_assert!(failures > 6 || wait <= BASE_MS << failures);
        }
    }

    #[test]
    fn the_jitter_is_full_from_zero_to_the_ceiling() {
        for (failures, ceiling) in [(0, 250), (1, 500), (3, 2000), (7, 30_000), (4_000_000_000, 30_000)] {
            assert_eq!(full_jitter(failures, 0), 0);
            assert_eq!(full_jitter(failures, ceiling), ceiling);
            assert_eq!(full_jitter(failures, ceiling + 1), 0, "{failures}");
        }
    }
}
