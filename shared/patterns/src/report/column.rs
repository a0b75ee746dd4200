//! What is kept of one column while the rows go by.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::distinct::Distinct;
use super::grid::Grid;
use super::hash::hash;
use super::limits::{Tier, VALUE_BYTES_MAX};
use super::moments::Moments;
use super::sketch::Sketch;
use super::top::{Top, beginning};
use super::value::{KINDS, Kind, Value};

/// A moment with the text it was read from.
pub(super) type Instant = (i64, Vec<u8>);

/// One column.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Column {
    pub(super) name: String,
    /// Values that are not null.
    pub(super) count: u64,
    /// Values by [`Kind`].
    pub(super) kinds: [u64; KINDS],
    pub(super) numbers: Numbers,
    pub(super) earliest: Option<Instant>,
    pub(super) latest: Option<Instant>,
    /// All moments, in milliseconds since 1970.
    pub(super) instants: Grid,
    pub(super) texts: Texts,
    pub(super) distinct: Distinct,
    pub(super) top: Top,
}

/// The numbers of a column.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Numbers {
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) moments: Moments,
    pub(super) sketch: Sketch,
    pub(super) grid: Grid,
}

impl Numbers {
    pub(super) fn add(&mut self, value: f64, tier: Tier) {
        if self.moments.count() == 0 {
            (self.min, self.max) = (value, value);
        }
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.moments.add(value);
        self.sketch.add(value, tier);
        self.grid.add(value);
    }
}

/// All values of a column, as they are written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Texts {
    count: u64,
    /// The first and the last one in the order of their bytes, or the beginnings of them.
    pub(super) least: Vec<u8>,
    pub(super) greatest: Vec<u8>,
    /// Characters.
    pub(super) length_min: u64,
    pub(super) length_max: u64,
    pub(super) length_sum: u64,
}

impl Texts {
    fn add(&mut self, value: &[u8]) {
        // Every byte of UTF-8 that does not continue a character begins one.
        let length = value.iter().filter(|byte| **byte & 0xc0 != 0x80).count() as u64;
        let is_first = self.count == 0;
        self.count += 1;
        self.length_sum += length;
        self.length_min = if is_first { length } else { self.length_min.min(length) };
        self.length_max = self.length_max.max(length);
        let kept = if value.len() > VALUE_BYTES_MAX {
            beginning(value, VALUE_BYTES_MAX)
        } else {
            value
        };
        if is_first || kept < self.least.as_slice() {
            self.least.clear();
            self.least.extend_from_slice(kept);
        }
        if is_first || kept > self.greatest.as_slice() {
            self.greatest.clear();
            self.greatest.extend_from_slice(kept);
        }
    }
}

impl Column {
    /// An empty column.
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            ..Self::default()
        }
    }

    /// Takes one value in, as it is written.
    pub(super) fn add(&mut self, value: Value, text: &[u8], tier: Tier) {
        self.count += 1;
        if let Some(count) = self.kinds.get_mut(value.kind() as usize) {
            *count += 1;
        }
        match value {
            Value::Integer(number) | Value::Number(number) => self.numbers.add(number, tier),
            Value::Date(at) | Value::DateTime(at) => self.add_instant(at, text),
            Value::Boolean | Value::Code | Value::Text | Value::Json => {}
        }
        self.texts.add(text);
        let hash = hash(text);
        // A value that is followed was counted as a distinct one when it was first met.
        if !self.top.add(hash, text, tier) {
            self.distinct.add(hash, tier);
        }
    }

    /// Lets go of what a lower tier does not keep.
    pub(super) fn shrink(&mut self, tier: Tier) {
        self.numbers.sketch.shrink(tier);
        self.distinct.shrink(tier);
        self.top.shrink(tier);
    }

    /// The values of one kind.
    pub(super) fn of_kind(&self, kind: Kind) -> u64 {
        self.kinds.get(kind as usize).copied().unwrap_or(0)
    }

    fn add_instant(&mut self, at: i64, text: &[u8]) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "the years to 9999 have 48 bits of milliseconds"
        )]
        self.instants.add(at as f64);
        if self.earliest.as_ref().is_none_or(|(earliest, _)| at < *earliest) {
            self.earliest = Some((at, text.to_vec()));
        }
        if self.latest.as_ref().is_none_or(|(latest, _)| at > *latest) {
            self.latest = Some((at, text.to_vec()));
        }
    }
}
