//! The shape of a column's numbers, from the grid where it is fine enough, else from the sketch.

use alloc::vec::Vec;

use serde::Serialize;

use super::column::Numbers;
use super::grid::Grid;
use super::sketch::Interval;
use super::summary::Quantiles;

/// Bins of a histogram at most.
const BINS_MAX: usize = 40;
/// Bins of a histogram that leaves the outliers out.
const CLIPPED_BINS: u32 = 30;
/// The middle 98 % must have at least this share of the range, or else outliers would press them into a few bins.
const MIDDLE_MIN: f64 = 0.2;

/// A histogram.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Histogram {
    /// The bins, from the least to the greatest, without gaps.
    pub bins: Vec<Bin>,
    /// Numbers below the first bin.
    pub below: u64,
    /// Numbers above the last bin.
    pub above: u64,
}

/// A bin: the numbers from `from`, below `to`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// The lower end.
    pub from: f64,
    /// The upper end.
    pub to: f64,
    /// The numbers in it; estimated where outliers are left out.
    pub count: u64,
}

/// The number at `rank`, from 0 in ascending order, within 1 %.
pub(super) fn at_rank(numbers: &Numbers, rank: u64) -> f64 {
    // The number lies in an interval of each, so it lies in what they share.
    match (numbers.sketch.at_rank(rank), numbers.grid.at_rank(rank)) {
        (Some(coarse), Some(fine)) => {
            let range = Interval {
                from: numbers.min,
                to: numbers.max,
            };
            coarse.narrowed(fine).narrowed(range).point()
        }
        _ => numbers.min,
    }
}

/// The histogram of some numbers.
pub(super) fn of(numbers: &Numbers, quantiles: &Quantiles) -> Histogram {
    let (range, middle) = (
        numbers.max / 2.0 - numbers.min / 2.0,
        quantiles.p99 / 2.0 - quantiles.p1 / 2.0,
    );
    if middle > 0.0 && middle < range * MIDDLE_MIN {
        return clipped(numbers, quantiles.p1, quantiles.p99);
    }
    whole(&numbers.grid)
}

/// The histogram of a grid, from the least to the greatest.
pub(super) fn whole(grid: &Grid) -> Histogram {
    let grid = grid.coarser(BINS_MAX);
    let bins = grid.bins().map(|(interval, count)| Bin {
        from: interval.from,
        to: interval.to,
        count,
    });
    Histogram {
        bins: bins.collect(),
        below: 0,
        above: 0,
    }
}

/// Equal bins from `from` to `to`. A bucket of the sketch that reaches over several bins is shared out among them.
fn clipped(numbers: &Numbers, from: f64, to: f64) -> Histogram {
    let width = (to - from) / f64::from(CLIPPED_BINS);
    if !width.is_finite() || width <= 0.0 {
        return Histogram::default();
    }
    let edge = |at: u32| from + width * f64::from(at);
    let mut shares = alloc::vec![0.0; CLIPPED_BINS as usize];
    let (mut below, mut above) = (0.0, 0.0);
    for (interval, count) in numbers.sketch.buckets() {
        #[expect(clippy::cast_precision_loss, reason = "no file has 2^53 rows")]
        let count = count as f64;
        let (low, high) = (interval.from.max(numbers.min), interval.to.min(numbers.max));
        let length = high - low;
        let share = |a: f64, b: f64| {
            if length > 0.0 {
                count * ((high.min(b) - low.max(a)) / length).clamp(0.0, 1.0)
            } else if low >= a && low < b {
                count
            } else {
                0.0
            }
        };
        below += share(f64::NEG_INFINITY, from);
        above += share(to, f64::INFINITY);
        for (at, bin) in (0..).zip(shares.iter_mut()) {
            *bin += share(edge(at), edge(at + 1));
        }
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to the number of rows"
    )]
    let whole = |share: f64| libm::round(share) as u64;
    let bins = (0..).zip(shares).map(|(at, share)| Bin {
        from: edge(at),
        to: edge(at + 1),
        count: whole(share),
    });
    Histogram {
        bins: bins.collect(),
        below: whole(below),
        above: whole(above),
    }
}
