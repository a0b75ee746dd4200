//! The most frequent values: exact while they are few, Space-Saving beyond (Metwally, Agrawal, El Abbadi, 2005).
//!
//! A value that is not followed takes the place of the least frequent one, and its count as a possible error.

use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::limits::{Tier, VALUE_BYTES_MAX};

/// Places of the index: a quarter of them is taken at most.
const PLACES: usize = Tier::Narrow.candidates_max() * 4;
const _: () = assert!(PLACES.is_power_of_two() && PLACES < u16::MAX as usize);
/// An empty place.
const EMPTY: u16 = u16::MAX;

/// A value that is followed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Candidate {
    hash: u64,
    /// What the count may be too high by.
    pub(super) error: u64,
    /// The beginning of the value.
    pub(super) value: Vec<u8>,
    /// Whether the value goes on.
    pub(super) cut: bool,
}

/// The most frequent values so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Top {
    candidates: Vec<Candidate>,
    /// The count of each candidate, apart, because the least one is searched for.
    counts: Vec<u64>,
    /// No count is below.
    floor: u64,
    /// Where the search for the least count goes on.
    cursor: usize,
    /// Whether a value was displaced: counts are then upper bounds.
    displaced: bool,
    /// Where a hash is followed; built anew when it is missing, as after a checkpoint.
    #[serde(skip)]
    places: Vec<u16>,
}

impl Top {
    /// Counts a value; whether it was followed already.
    pub(super) fn add(&mut self, hash: u64, value: &[u8], tier: Tier) -> bool {
        if self.places.is_empty() {
            self.rebuild();
        }
        if let Some(count) = self.find(hash).and_then(|slot| self.counts.get_mut(slot)) {
            *count += 1;
            return true;
        }
        if self.candidates.len() < tier.candidates_max() {
            let slot = self.candidates.len();
            self.candidates.push(Candidate {
                hash,
                error: 0,
                value: Vec::new(),
                cut: false,
            });
            self.counts.push(1);
            self.keep(slot, value);
            self.link(hash, slot);
            return false;
        }
        self.displaced = true;
        let slot = self.least();
        self.unlink(slot);
        if let (Some(count), Some(candidate)) = (self.counts.get_mut(slot), self.candidates.get_mut(slot)) {
            candidate.error = *count;
            candidate.hash = hash;
            *count += 1;
        }
        self.keep(slot, value);
        self.link(hash, slot);
        false
    }

    /// Follows only the most frequent ones on that a lower tier has room for. What is let go is no more frequent than
    /// the least of them, so that it may take the place, and the count, of that one when it comes again.
    pub(super) fn shrink(&mut self, tier: Tier) {
        let kept = tier.candidates_max();
        if self.candidates.len() <= kept {
            return;
        }
        let candidates = core::mem::take(&mut self.candidates);
        let mut all: Vec<_> = candidates.into_iter().zip(core::mem::take(&mut self.counts)).collect();
        all.sort_by_key(|(_, count)| core::cmp::Reverse(*count));
        all.truncate(kept);
        (self.candidates, self.counts) = all.into_iter().unzip();
        self.displaced = true;
        (self.floor, self.cursor) = (0, 0);
        self.rebuild();
    }

    /// Whether the counts are estimates.
    pub(super) const fn is_approximate(&self) -> bool {
        self.displaced
    }

    /// The candidates with their counts, the most frequent first. Those that may be there by chance alone, because
    /// most of their count may be error, are left out.
    pub(super) fn ranked(&self) -> Vec<(&Candidate, u64)> {
        let mut ranked: Vec<_> = self
            .candidates
            .iter()
            .zip(self.counts.iter().copied())
            .filter(|(candidate, count)| candidate.error <= count / 2)
            .collect();
        ranked.sort_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then_with(|| a.value.cmp(&b.value)));
        ranked
    }

    fn keep(&mut self, slot: usize, value: &[u8]) {
        if let Some(candidate) = self.candidates.get_mut(slot) {
            let kept = beginning(value, VALUE_BYTES_MAX);
            candidate.cut = kept.len() < value.len();
            candidate.value.clear();
            candidate.value.extend_from_slice(kept);
        }
    }

    /// The slot of the least count. Counts only grow, so a search goes on where the last one ended.
    fn least(&mut self) -> usize {
        for _ in 0..2 {
            let after = self
                .counts
                .iter()
                .skip(self.cursor)
                .position(|count| *count <= self.floor);
            if let Some(slot) = after.map(|place| place + self.cursor) {
                self.cursor = slot + 1;
                return slot;
            }
            self.cursor = 0;
            self.floor = self.counts.iter().copied().min().unwrap_or(0);
        }
        0
    }

    fn rebuild(&mut self) {
        self.places = vec![EMPTY; PLACES];
        for slot in 0..self.candidates.len() {
            let hash = self.candidates.get(slot).map_or(0, |candidate| candidate.hash);
            self.link(hash, slot);
        }
    }

    fn hash_at(&self, slot: u16) -> Option<u64> {
        self.candidates.get(usize::from(slot)).map(|candidate| candidate.hash)
    }

    fn find(&self, hash: u64) -> Option<usize> {
        let mut at = home(hash);
        loop {
            let slot = *self.places.get(at)?;
            if slot == EMPTY {
                return None;
            }
            if self.hash_at(slot) == Some(hash) {
                return Some(usize::from(slot));
            }
            at = next(at);
        }
    }

    fn link(&mut self, hash: u64, slot: usize) {
        let mut at = home(hash);
        while let Some(place) = self.places.get_mut(at) {
            if *place == EMPTY {
                *place = u16::try_from(slot).unwrap_or(EMPTY);
                return;
            }
            at = next(at);
        }
    }

    /// Takes a slot out of the index, and moves up what stood behind it because its own place was taken.
    fn unlink(&mut self, slot: usize) {
        let mut hole = self.candidates.get(slot).map_or(0, |candidate| home(candidate.hash));
        loop {
            match self.places.get(hole) {
                Some(found) if usize::from(*found) == slot => break,
                Some(found) if *found != EMPTY => hole = next(hole),
                _ => return,
            }
        }
        let mut at = hole;
        loop {
            at = next(at);
            let Some(slot) = self.places.get(at).copied().filter(|slot| *slot != EMPTY) else {
                break;
            };
            let wanted = self.hash_at(slot).map_or(at, home);
            // Whether the way from its home to where it is leads over the hole.
            if (at.wrapping_sub(wanted) & (PLACES - 1)) >= (at.wrapping_sub(hole) & (PLACES - 1)) {
                if let Some(place) = self.places.get_mut(hole) {
                    *place = slot;
                }
                hole = at;
            }
        }
        if let Some(place) = self.places.get_mut(hole) {
            *place = EMPTY;
        }
    }
}

/// Where the search for a hash begins. Other bits than those of the exact set, so that neither depends on the other.
fn home(hash: u64) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are wanted")]
    let bits = (hash >> 20) as u16;
    usize::from(bits) & (PLACES - 1)
}

const fn next(at: usize) -> usize {
    (at + 1) & (PLACES - 1)
}

/// At most `max` bytes of the beginning, and no torn character.
pub(super) fn beginning(bytes: &[u8], max: usize) -> &[u8] {
    let Some(kept) = bytes.get(..max) else { return bytes };
    if bytes.len() == max {
        return kept;
    }
    let is_inside = |byte: &u8| byte & 0xc0 == 0x80;
    if bytes.get(max).is_none_or(|byte| !is_inside(byte)) {
        return kept;
    }
    let inside = kept.iter().rev().take_while(|byte| is_inside(byte)).count();
    bytes.get(..max.saturating_sub(inside + 1)).unwrap_or_default()
}
