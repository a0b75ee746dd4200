//! Quantiles within 1 % of the value, in bounded memory: a DDSketch (Masson, Rim, Lee, VLDB 2019).
//!
//! Bucket `i` counts the numbers in `(γ^(i-1), γ^i]`. Where more buckets are needed than there may be, the smallest
//! magnitudes share one, so the bound holds for the larger ones; what comes out does not hang on the order of the rows.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::limits::Tier;

/// The relative error of a quantile.
pub(super) const RELATIVE_ERROR: f64 = 0.01;
/// The ratio of a bucket's ends.
const GAMMA: f64 = (1.0 + RELATIVE_ERROR) / (1.0 - RELATIVE_ERROR);
/// `1 / ln γ`.
const PER_LN: f64 = 49.998_333_288_887;
/// Magnitudes below count as zero: nothing that is measured is smaller.
const MAGNITUDE_MIN: f64 = 1e-100;

/// Counts by magnitude, on one side of zero.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Side {
    /// The index of the first bucket.
    first: i32,
    counts: Vec<u64>,
}

impl Side {
    fn add(&mut self, magnitude: f64, tier: Tier) {
        let bucket = index(magnitude);
        if let Ok(place) = usize::try_from(bucket - self.first)
            && let Some(count) = self.counts.get_mut(place)
        {
            *count += 1;
            return;
        }
        self.make_room(bucket, tier.buckets_max());
        // Below the first bucket only where the buckets are used up: the first one then takes all smaller magnitudes.
        let place = usize::try_from(bucket - self.first).unwrap_or(0);
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
    }

    fn make_room(&mut self, bucket: i32, buckets_max: usize) {
        if self.counts.is_empty() {
            self.first = bucket;
            self.counts.push(0);
            return;
        }
        if let Ok(lower) = usize::try_from(self.first - bucket) {
            let room = lower.min(buckets_max.saturating_sub(self.counts.len()));
            self.counts.splice(0..0, core::iter::repeat_n(0, room));
            self.first -= i32::try_from(room).unwrap_or(0);
        } else {
            let len = usize::try_from(bucket - self.first).unwrap_or(0) + 1;
            let excess = len.saturating_sub(buckets_max);
            self.share(excess);
            self.counts.resize(len - excess, 0);
        }
    }

    /// Joins the first `excess` buckets with the one behind them.
    fn share(&mut self, excess: usize) {
        if excess == 0 {
            return;
        }
        let shared: u64 = self.counts.drain(..excess.min(self.counts.len())).sum();
        self.first += i32::try_from(excess).unwrap_or(0);
        if let Some(first) = self.counts.first_mut() {
            *first += shared;
        } else {
            self.counts.push(shared);
        }
    }

    fn shrink(&mut self, tier: Tier) {
        self.share(self.counts.len().saturating_sub(tier.buckets_max()));
    }
}

/// The quantile sketch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sketch {
    negative: Side,
    zeros: u64,
    positive: Side,
}

/// An interval that certainly holds a number, as long as its bucket is not the shared one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Interval {
    /// The lower end.
    pub(super) from: f64,
    /// The upper end.
    pub(super) to: f64,
}

impl Interval {
    /// The point whose relative distance to both ends is the same; the middle where zero lies within.
    pub(super) fn point(self) -> f64 {
        if self.from > 0.0 || self.to < 0.0 {
            // Not `2ab / (a + b)`, whose product may overflow.
            2.0 * self.from / (1.0 + self.from / self.to)
        } else {
            self.middle()
        }
    }

    /// The middle.
    pub(super) fn middle(self) -> f64 {
        self.from / 2.0 + self.to / 2.0
    }

    /// What two intervals share; `self` where they share nothing.
    pub(super) fn narrowed(self, other: Self) -> Self {
        let (from, to) = (self.from.max(other.from), self.to.min(other.to));
        if from <= to { Self { from, to } } else { self }
    }
}

impl Sketch {
    /// Takes one finite number in.
    pub(super) fn add(&mut self, value: f64, tier: Tier) {
        if value >= MAGNITUDE_MIN {
            self.positive.add(value, tier);
        } else if value <= -MAGNITUDE_MIN {
            self.negative.add(-value, tier);
        } else {
            self.zeros += 1;
        }
    }

    /// Joins the buckets that a lower tier does not keep.
    pub(super) fn shrink(&mut self, tier: Tier) {
        self.negative.shrink(tier);
        self.positive.shrink(tier);
    }

    /// The buckets with their counts, from the least number to the greatest.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (Interval, u64)> {
        let negative = indexed(&self.negative).rev().map(|(index, count)| {
            let interval = Interval {
                from: -power(index),
                to: -power(index - 1),
            };
            (interval, count)
        });
        let zeros = core::iter::once((Interval { from: 0.0, to: 0.0 }, self.zeros));
        let positive = indexed(&self.positive).map(|(index, count)| {
            let interval = Interval {
                from: power(index - 1),
                to: power(index),
            };
            (interval, count)
        });
        negative.chain(zeros).chain(positive).filter(|(_, count)| *count > 0)
    }

    /// The interval of the number at `rank`, from 0 in ascending order.
    pub(super) fn at_rank(&self, rank: u64) -> Option<Interval> {
        let mut seen = 0;
        self.buckets().find_map(|(interval, count)| {
            seen += count;
            (seen > rank).then_some(interval)
        })
    }
}

fn indexed(side: &Side) -> impl DoubleEndedIterator<Item = (i32, u64)> {
    let last = side.first + i32::try_from(side.counts.len()).unwrap_or(0);
    (side.first..last)
        .zip(side.counts.iter().copied())
        .collect::<Vec<_>>()
        .into_iter()
}

fn index(magnitude: f64) -> i32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the logarithm of a double is below 36 000 here"
    )]
    let index = libm::ceil(libm::log(magnitude) * PER_LN) as i32;
    index
}

/// The upper end of a bucket. Finite: the last bucket ends at the greatest double.
fn power(index: i32) -> f64 {
    libm::pow(GAMMA, f64::from(index)).min(f64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{GAMMA, PER_LN};

    #[test]
    fn the_constants_agree() {
        assert!(
            (PER_LN - 1.0 / libm::log(GAMMA)).abs() < 1e-9,
            "{}",
            1.0 / libm::log(GAMMA)
        );
    }
}
