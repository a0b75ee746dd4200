//! How many distinct values there are: exact up to a bound, a HyperLogLog beyond (Flajolet and others, 2007).

use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::limits::Tier;

/// Bits of a hash that choose the register.
const REGISTER_BITS: u32 = 12;
/// Registers of the HyperLogLog: a standard error of `1.04 / √4096`, 1.6 %.
pub(super) const REGISTERS: usize = 1 << REGISTER_BITS;
/// Places of an exact set at first. They double, so that half of them stay empty.
const PLACES_MIN: usize = 16;
const _: () = assert!(PLACES_MIN.is_power_of_two());

/// The distinct values so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub(super) enum Distinct {
    /// Every hash, by open addressing; 0 is an empty place.
    Exact {
        /// The places, or nothing before the first value.
        places: Vec<u64>,
        /// The places taken.
        count: usize,
    },
    /// The longest run of zeros in each register.
    Estimated(Vec<u8>),
}

/// As it stands in a checkpoint: without the empty places.
#[derive(Serialize, Deserialize)]
enum Stored {
    Exact(Vec<u64>),
    Estimated(Vec<u8>),
}

impl Default for Distinct {
    fn default() -> Self {
        Self::Exact {
            places: Vec::new(),
            count: 0,
        }
    }
}

impl From<Stored> for Distinct {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Exact(hashes) => {
                let mut distinct = Self::default();
                for hash in hashes {
                    // It was within the bound of its own tier, which is no greater.
                    distinct.add(hash, Tier::Narrow);
                }
                distinct
            }
            Stored::Estimated(mut registers) => {
                registers.resize(REGISTERS, 0);
                Self::Estimated(registers)
            }
        }
    }
}

impl From<Distinct> for Stored {
    fn from(distinct: Distinct) -> Self {
        match distinct {
            Distinct::Exact { mut places, .. } => {
                places.retain(|hash| *hash != 0);
                // In one order, so that equal states are equal bytes.
                places.sort_unstable();
                Self::Exact(places)
            }
            Distinct::Estimated(registers) => Self::Estimated(registers),
        }
    }
}

impl Distinct {
    /// Takes the hash of a value in.
    pub(super) fn add(&mut self, hash: u64, tier: Tier) {
        match self {
            Self::Estimated(registers) => observe(registers, hash),
            Self::Exact { places, count } => {
                if *count * 2 >= places.len() {
                    grow(places);
                }
                if insert(places, hash.max(1)) {
                    *count += 1;
                    self.shrink(tier);
                }
            }
        }
    }

    /// Goes over to an estimate where there are more values than the tier counts exactly.
    pub(super) fn shrink(&mut self, tier: Tier) {
        if let Self::Exact { places, count } = self
            && *count > tier.distinct_exact_max()
        {
            let mut registers = vec![0; REGISTERS];
            for hash in places.iter().filter(|hash| **hash != 0) {
                observe(&mut registers, *hash);
            }
            *self = Self::Estimated(registers);
        }
    }

    /// Whether the count is an estimate.
    pub(super) const fn is_approximate(&self) -> bool {
        matches!(self, Self::Estimated(_))
    }

    /// The distinct values so far.
    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Exact { count, .. } => *count as u64,
            Self::Estimated(registers) => estimate(registers),
        }
    }
}

/// Doubles the places.
fn grow(places: &mut Vec<u64>) {
    let doubled = vec![0; (places.len() * 2).max(PLACES_MIN)];
    for hash in core::mem::replace(places, doubled) {
        if hash != 0 {
            insert(places, hash);
        }
    }
}

/// Whether the hash is new. There is always an empty place.
fn insert(places: &mut [u64], hash: u64) -> bool {
    let mask = places.len().wrapping_sub(1);
    #[expect(clippy::cast_possible_truncation, reason = "masked to the number of places")]
    let mut at = hash as usize & mask;
    while let Some(place) = places.get_mut(at) {
        if *place == hash {
            return false;
        }
        if *place == 0 {
            *place = hash;
            return true;
        }
        at = (at + 1) & mask;
    }
    false
}

fn observe(registers: &mut [u8], hash: u64) {
    #[expect(clippy::cast_possible_truncation, reason = "12 bits; at most 53")]
    let (register, run) = ((hash >> (64 - REGISTER_BITS)) as usize, {
        let rest = hash << REGISTER_BITS | 1 << (REGISTER_BITS - 1);
        rest.leading_zeros() as u8 + 1
    });
    if let Some(longest) = registers.get_mut(register) {
        *longest = run.max(*longest);
    }
}

#[expect(clippy::cast_precision_loss, reason = "registers and runs are small")]
fn estimate(registers: &[u8]) -> u64 {
    let count = REGISTERS as f64;
    let sum: f64 = registers.iter().map(|run| libm::scalbn(1.0, -i32::from(*run))).sum();
    let raw = 0.7213 / (1.0 + 1.079 / count) * count * count / sum;
    let empty = registers.iter().filter(|run| **run == 0).count();
    let estimate = if raw <= 2.5 * count && empty > 0 {
        // Few values: counting the empty registers is the better estimate.
        count * libm::log(count / empty as f64)
    } else {
        raw
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive and below 2^64"
    )]
    let whole = libm::round(estimate) as u64;
    whole
}
