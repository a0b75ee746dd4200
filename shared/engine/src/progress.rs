//! Thins the progress of one attempt: at most one report in an interval, the newest value winning, but the first, the
//! last and jumps of ten points at once.

use tidegate_protocol::event::Progress;
use tidegate_protocol::time::UnixMs;

/// The default interval. Milliseconds.
pub const INTERVAL_MS: u64 = 1000;
/// A jump that passes at once. Percentage points.
pub const JUMP_POINTS: f64 = 10.0;

/// Decides which reports of an attempt are worth storing.
#[derive(Debug, Clone, Default)]
pub struct Thinner {
    last: Option<(UnixMs, f64)>,
    held: Option<Progress>,
}

impl Thinner {
    /// Gives `progress` back where it is to be stored now; else it is held until [`Self::flush`] or a newer one.
    pub fn offer(&mut self, now: UnixMs, progress: Progress) -> Option<Progress> {
        let passes = match self.last {
            None => true,
            Some((at, percentage)) => {
                now.since(at) >= INTERVAL_MS
                    || progress.percentage - percentage >= JUMP_POINTS
                    || (progress.percentage >= 100.0 && percentage < 100.0)
            }
        };
        if passes {
            self.last = Some((now, progress.percentage));
            self.held = None;
            Some(progress)
        } else {
            self.held = Some(progress);
            None
        }
    }

    /// The newest report that was held back, where its time has come.
    pub fn flush(&mut self, now: UnixMs) -> Option<Progress> {
        let ready = self.last.is_none_or(|(at, _)| now.since(at) >= INTERVAL_MS);
        let held = if ready { self.held.take() } else { None };
        if let Some(progress) = &held {
            self.last = Some((now, progress.percentage));
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(percentage: f64) -> Progress {
        Progress {
            percentage,
            message: None,
            metadata: None,
        }
    }

    #[test]
    fn the_first_the_last_and_jumps_pass_and_the_newest_wins() {
        let mut thinner = Thinner::default();
        let mut offer = |ms, percentage| thinner.offer(UnixMs(ms), at(percentage)).is_some();
        assert!(offer(0, 0.0), "the first");
        assert!(!offer(10, 1.0));
        assert!(offer(20, 11.0), "a jump");
        assert!(!offer(30, 12.0));
        assert!(!offer(40, 13.0));
        assert!(offer(1020, 14.0), "an interval later");
        assert!(offer(1030, 100.0), "the last");
        assert_eq!(
            thinner.flush(UnixMs(5000)),
            None,
            "nothing is held once something newer passed"
        );
        thinner.offer(UnixMs(1040), at(100.0));
        assert_eq!(thinner.flush(UnixMs(1050)), None, "not before its time");
        assert_eq!(thinner.flush(UnixMs(2030)), Some(at(100.0)));
    }
}
