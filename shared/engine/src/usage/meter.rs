//! What one instance of an object counts, and tells the gate in batches.
//!
//! Counting is an addition in memory. A batch keeps its number until the gate has confirmed it, however often it is told;
//! what is counted meanwhile fills the next one. What is not told when the instance ends is lost: at most what was counted
//! within [`REPORT_MS`] and the time that the gate could not be reached.

use core::mem;

use tidegate_protocol::calls::usage::{AWAKE_MS, Counts, Meter, Report, Source};
use tidegate_protocol::time::UnixMs;

/// How long an object gathers what it counts before it tells the gate. Milliseconds. As long as the platform lets an idle object
/// stay in memory, so that a report keeps none awake for longer; and six reports a minute, each one row of the gate.
pub const REPORT_MS: u64 = 10_000;

/// What an instance has counted.
#[derive(Debug, Clone)]
pub struct Tally {
    source: Source,
    run: u64,
    seq: u64,
    counts: Counts,
    told: Option<Counts>,
    last_event: Option<UnixMs>,
}

impl Tally {
    /// Nothing yet, by the instance `run` of an object.
    pub fn new(source: Source, run: u64) -> Self {
        Self {
            source,
            run,
            seq: 0,
            counts: Counts::default(),
            told: None,
            last_event: None,
        }
    }

    /// Counts `units`.
    pub fn add(&mut self, meter: Meter, units: u64) {
        if units > 0 {
            self.counts.add(meter, units);
        }
    }

    /// Something happens in the object: it has been awake since the last time, if that was not too long ago.
    pub fn event(&mut self, now: UnixMs) {
        if let Some(last) = self.last_event {
            let gap = now.since(last);
            self.add(Meter::AwakeMs, if gap <= AWAKE_MS { gap } else { 0 });
        }
        self.last_event = Some(now);
    }

    /// Whether there is something to tell.
    pub fn has_news(&self) -> bool {
        self.told.is_some() || !self.counts.is_empty()
    }

    /// What the gate is to be told: the batch that it has not confirmed, or else a new one.
    pub fn report(&mut self) -> Option<Report> {
        if self.told.is_none() && !self.counts.is_empty() {
            self.told = Some(mem::take(&mut self.counts));
            self.seq += 1;
        }
        let counts = self.told.clone()?;
        Some(Report {
            source: self.source,
            run: self.run,
            seq: self.seq,
            counts,
        })
    }

    /// The gate has taken the report with this number.
    pub fn confirmed(&mut self, seq: u64) {
        if seq == self.seq {
            self.told = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: UnixMs = UnixMs(1_800_000_000_000);

    #[test]
    fn a_report_keeps_its_number_and_content_until_it_is_confirmed() {
        let mut tally = Tally::new(Source(3), 8);
        assert_eq!(tally.report(), None);
        tally.add(Meter::Jobs, 2);
        let first = tally.report().unwrap();
        tally.add(Meter::Jobs, 5);
        assert_eq!(tally.report().unwrap(), first);
        tally.confirmed(first.seq);
        let second = tally.report().unwrap();
        assert_eq!((second.seq, second.counts.of(Meter::Jobs)), (2, 5));
        // A late word on the first one says nothing of the second.
        tally.confirmed(first.seq);
        assert_eq!(tally.report().unwrap(), second);
        tally.confirmed(second.seq);
        assert!(!tally.has_news());
    }

    #[test]
    fn an_object_is_awake_between_events_that_are_close() {
        let mut tally = Tally::new(Source(3), 8);
        for at in [0, 4, 10_004, 30_000, 30_001, 29_000, 29_500] {
            tally.event(START.plus(at));
        }
        // 4 and 10,000; not the gap of 19,996; 1; nothing for the clock that stepped back; 500.
        assert_eq!(tally.report().unwrap().counts.of(Meter::AwakeMs), 10_505);
    }
}
