//! Mean and standard deviation in one pass, by Welford's recurrence: no sum of squares that loses the small digits.

use serde::{Deserialize, Serialize};

/// The mean and the spread of the numbers so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Moments {
    count: u64,
    mean: f64,
    /// The sum of the squared distances from the mean.
    squares: f64,
}

impl Moments {
    /// Takes one number in.
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1;
        let delta = value - self.mean;
        #[expect(clippy::cast_precision_loss, reason = "no file has 2^53 rows")]
        let count = self.count as f64;
        self.mean += delta / count;
        self.squares += delta * (value - self.mean);
    }

    /// The numbers so far.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// The mean; none without a number, or where it left the range of a double on the way.
    pub(super) fn mean(&self) -> Option<f64> {
        Some(self.mean).filter(|mean| self.count > 0 && mean.is_finite())
    }

    /// The standard deviation of a sample; none below two numbers, or where it is no finite number.
    pub(super) fn deviation(&self) -> Option<f64> {
        if self.count < 2 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "no file has 2^53 rows")]
        let deviation = libm::sqrt(self.squares / (self.count - 1) as f64);
        Some(deviation).filter(|deviation| deviation.is_finite())
    }
}
