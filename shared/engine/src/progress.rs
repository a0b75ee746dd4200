//! Thins the progress of one attempt: at most one report in an interval, the newest value winning, but the first, the
//! last and jumps of ten points at once. Where all are to be kept, all pass.

use tidegate_protocol::calls::reporting::{Durability, Reporting};
use tidegate_protocol::event::Progress;
use tidegate_protocol::time::UnixMs;

/// A jump that passes at once. Percentage points.
pub const JUMP_POINTS: f64 = 10.0;

/// Decides which reports of an attempt are worth storing.
#[derive(Debug, Clone, Default)]
pub struct Thinner {
    reporting: Reporting,
    last: Option<(UnixMs, f64)>,
    held: Option<Progress>,
}

impl Thinner {
    /// One that lets pass what the action asks for.
    pub fn new(reporting: Reporting) -> Self {
        Self {
            reporting,
            ..Self::default()
        }
    }

    fn is_over(&self, since: UnixMs, now: UnixMs) -> bool {
        self.reporting.durability == Durability::All || now.since(since) >= self.reporting.every_ms
    }

    /// Gives `progress` back where it is to be stored now; else it is held until [`Self::flush`] or a newer one.
    pub fn offer(&mut self, now: UnixMs, progress: Progress) -> Option<Progress> {
        let passes = match self.last {
            None => true,
            Some((at, percentage)) => {
                self.is_over(at, now)
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
        let ready = self.last.is_none_or(|(at, _)| self.is_over(at, now));
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

    #[test]
    fn the_interval_is_the_actions_own_and_where_all_are_kept_all_pass() {
        for (every_ms, durability, passed) in [
            (200, Durability::Last, [true, false, true, false]),
            (5000, Durability::Last, [true, false, false, false]),
            (5000, Durability::All, [true, true, true, true]),
        ] {
            let mut thinner = Thinner::new(Reporting {
                every_ms,
                durability,
                ..Reporting::default()
            });
            let offers = [(0, 1.0), (100, 2.0), (250, 3.0), (400, 3.0)];
            let offers = offers.map(|(ms, percentage)| thinner.offer(UnixMs(ms), at(percentage)).is_some());
            assert_eq!(offers, passed, "{every_ms} {durability:?}");
        }
    }
}
