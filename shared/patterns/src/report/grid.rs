//! A histogram of equal bins whose width is a power of two and doubles as the range grows.
//!
//! Bins lie on a fixed grid, so joining two neighbours loses nothing: whatever the order of the rows, the result is
//! the finest grid that spans them all with [`GRID_BINS_MAX`] bins.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::limits::GRID_BINS_MAX;
use super::sketch::Interval;

/// The finest width, as an exponent of two: 5e-20.
const EXPONENT_MIN: i32 = -64;
/// Bits of a bin's index, so that it is exact in a double.
const INDEX_BITS: i32 = 50;
/// Two to that power.
const SCALED_MAX: f64 = (1_i64 << INDEX_BITS) as f64;

/// The histogram.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Grid {
    /// The width of a bin is two to this power.
    exponent: i32,
    /// The index of the first bin: its lower end by the width.
    first: i64,
    counts: Vec<u64>,
}

impl Grid {
    /// Takes one finite number in.
    pub(super) fn add(&mut self, value: f64) {
        let scaled = value * self.scale();
        if scaled.abs() < SCALED_MAX
            && let Ok(place) = usize::try_from(floor(scaled, value) - self.first)
            && let Some(count) = self.counts.get_mut(place)
        {
            *count += 1;
            return;
        }
        self.stretch(value);
    }

    /// Takes in a number that no bin holds yet.
    fn stretch(&mut self, value: f64) {
        let least = (libm::ilogb(value).clamp(-1100, 1100) - INDEX_BITS).max(EXPONENT_MIN);
        if self.counts.is_empty() {
            self.exponent = if value == 0.0 { EXPONENT_MIN } else { least };
            self.first = self.index(value);
            self.counts.push(0);
        }
        if value != 0.0 {
            while self.exponent < least {
                self.double();
            }
        }
        loop {
            let index = self.index(value);
            let last = self.first + i64::try_from(self.counts.len()).unwrap_or(0) - 1;
            let span = index.max(last) - index.min(self.first) + 1;
            if usize::try_from(span).is_ok_and(|span| span <= GRID_BINS_MAX) {
                self.reach(index, last);
                let place = usize::try_from(index - self.first).unwrap_or(0);
                if let Some(count) = self.counts.get_mut(place) {
                    *count += 1;
                }
                return;
            }
            self.double();
        }
    }

    /// The bins, from the least to the greatest.
    pub(super) fn bins(&self) -> impl Iterator<Item = (Interval, u64)> {
        let (mut index, exponent) = (self.first, self.exponent);
        self.counts.iter().map(move |count| {
            let interval = Interval {
                from: end(index, exponent),
                to: end(index + 1, exponent),
            };
            index += 1;
            (interval, *count)
        })
    }

    /// The interval of the number at `rank`, from 0 in ascending order.
    pub(super) fn at_rank(&self, rank: u64) -> Option<Interval> {
        let mut seen = 0;
        self.bins().find_map(|(interval, count)| {
            seen += count;
            (seen > rank).then_some(interval)
        })
    }

    /// The same counts in fewer bins.
    pub(super) fn coarser(&self, bins_max: usize) -> Self {
        let mut grid = self.clone();
        while grid.counts.len() > bins_max {
            grid.double();
        }
        grid
    }

    fn index(&self, value: f64) -> i64 {
        floor(libm::scalbn(value, -self.exponent), value)
    }

    /// Two to the power of `-exponent`, made from its bits.
    fn scale(&self) -> f64 {
        f64::from_bits(u64::try_from(1023 - self.exponent).unwrap_or(0) << 52)
    }

    fn reach(&mut self, index: i64, last: i64) {
        if index < self.first {
            let room = usize::try_from(self.first - index).unwrap_or(0);
            self.counts.splice(0..0, core::iter::repeat_n(0, room));
            self.first = index;
        } else if index > last {
            self.counts
                .resize(usize::try_from(index - self.first).unwrap_or(0) + 1, 0);
        }
    }

    fn double(&mut self) {
        let half = self.first.div_euclid(2);
        let mut counts = Vec::with_capacity(self.counts.len() / 2 + 1);
        for (place, count) in (self.first..).zip(&self.counts) {
            let place = usize::try_from(place.div_euclid(2) - half).unwrap_or(0);
            if place >= counts.len() {
                counts.push(0);
            }
            if let Some(joined) = counts.get_mut(place) {
                *joined += *count;
            }
        }
        self.exponent += 1;
        self.first = half;
        self.counts = counts;
    }
}

fn end(index: i64, exponent: i32) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "at most 51 bits")]
    let end = libm::scalbn(index as f64, exponent);
    end.clamp(f64::MIN, f64::MAX)
}

/// The whole number below a scaled value. The scaled one of a tiny value may be zero, which lost its sign.
fn floor(scaled: f64, value: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "the exponent leaves at most 51 bits")]
    let whole = scaled as i64;
    #[expect(clippy::cast_precision_loss, reason = "at most 51 bits")]
    let is_above = whole as f64 > scaled || (scaled == 0.0 && value < 0.0);
    whole - i64::from(is_above)
}
