//! A fixed hash of 64 bits: the same value has the same hash on every machine and in every run, so that a checkpoint
//! of one run means the same in the next.

/// Odd constants with about as many ones as zeros.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const MULTIPLIER: u64 = 0xd6e8_feb8_6659_fd93;

/// The hash of some bytes.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut state = SEED ^ (bytes.len() as u64).wrapping_mul(MULTIPLIER);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = mix(state ^ u64::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        state = mix(state ^ tail(rest));
    }
    mix(state)
}

/// Up to seven bytes as one word.
fn tail(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// Folds the two halves of a product into each other: every bit of the input reaches every bit of the result.
fn mix(word: u64) -> u64 {
    let product = u128::from(word ^ SEED) * u128::from(MULTIPLIER);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves are wanted")]
    let (high, low) = ((product >> 64) as u64, product as u64);
    let folded = high ^ low;
    folded ^ folded >> 29
}
