//! Short names for long texts.

use alloc::format;
use alloc::string::String;

use sha2::{Digest, Sha256};
use tidegate_protocol::ids::base32;

/// 125 bits of a SHA-256 hash as 25 characters: no one can find another text with the same ones.
pub fn short(hash: Sha256) -> String {
    let digest = hash.finalize();
    let (left, right) = digest.split_at(8);
    let half = |bytes: &[u8]| {
        bytes
            .iter()
            .take(8)
            .fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
    };
    format!("{}{}", base32(half(left), 13), base32(half(right), 12))
}
