//! What one instance of an object counts, and tells the gate in batches.
//!
//! Counting is an addition in memory. A batch keeps its number until the gate has confirmed it, however often it is told;
//! what is counted meanwhile fills the next one. What is not told when the instance ends is lost: at most what was counted
//! within [`REPORT_MS`](super::REPORT_MS) and the time that the gate could not be reached. When it is told is decided in [`super::quiet`].

use core::mem;

use tidegate_protocol::calls::usage::{AWAKE_MS, Counts, Meter, Report, Source};
use tidegate_protocol::time::UnixMs;

use super::quiet::{Next, Quiet, Standing};

/// What an instance has counted.
#[derive(Debug, Clone)]
pub struct Tally {
    source: Source,
    run: u64,
    seq: u64,
    counts: Counts,
    told: Option<Counts>,
    /// Since when the object has been awake and was not counted to be.
    awake_since: Option<UnixMs>,
    quiet: Quiet,
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
            awake_since: None,
            quiet: Quiet::default(),
        }
    }

    /// Nothing yet, by the instance that goes on as `run`. Whoever waits to tell goes on waiting.
    pub fn begin_anew(&mut self, run: u64) {
        let quiet = mem::take(&mut self.quiet);
        *self = Self {
            quiet,
            ..Self::new(self.source, run)
        };
    }

    /// Counts `units`.
    pub fn add(&mut self, meter: Meter, units: u64) {
        if units > 0 {
            self.counts.add(meter, units);
        }
    }

    /// Something happens in the object, which has been awake since the last time, if that was not too long ago. Gives whether
    /// somebody has to begin to ask for what is [`next`](Self::next).
    pub fn event(&mut self, now: UnixMs) -> bool {
        self.awake_until(now);
        self.awake_since = Some(now);
        self.quiet.stir()
    }

    /// The object is awake until now, and may sleep from now on.
    pub fn slept(&mut self, now: UnixMs) {
        self.awake_until(now);
    }

    fn awake_until(&mut self, now: UnixMs) {
        if let Some(since) = self.awake_since.take() {
            let gap = now.since(since);
            self.add(Meter::AwakeMs, if gap <= AWAKE_MS { gap } else { 0 });
        }
    }

    /// What the shell does next: see [`Quiet::next`].
    pub fn next(&mut self, now: UnixMs, longest_ms: u64, standing: Standing) -> Next {
        let next = self.quiet.next(now, longest_ms, standing);
        if matches!(next, Next::Tell | Next::Keep) {
            self.awake_until(now);
            if standing == Standing::Busy {
                self.awake_since = Some(now);
            }
        }
        next
    }

    /// Hands over what is in no report yet, for whoever keeps it until it is [counted back](Self::add_all).
    pub fn keep(&mut self) -> Counts {
        mem::take(&mut self.counts)
    }

    /// Counts what was counted before, and kept.
    pub fn add_all(&mut self, kept: &Counts) {
        self.counts.add_all(kept);
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
        let Some(counts) = self.told.clone() else {
            self.quiet.rest();
            return None;
        };
        Some(Report {
            source: self.source,
            run: self.run,
            seq: self.seq,
            counts,
        })
    }

    /// The gate has taken the report with this number.
    pub fn confirmed(&mut self, now: UnixMs, seq: u64) {
        if seq == self.seq {
            self.told = None;
            self.quiet.told(now, !self.counts.is_empty());
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
        tally.confirmed(START, first.seq);
        let second = tally.report().unwrap();
        assert_eq!((second.seq, second.counts.of(Meter::Jobs)), (2, 5));
        // A late word on the first one says nothing of the second.
        tally.confirmed(START, first.seq);
        assert_eq!(tally.report().unwrap(), second);
        tally.confirmed(START, second.seq);
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
        // One that sleeps is awake from its next event on.
        tally.confirmed(START, 1);
        tally.slept(START.plus(29_600));
        tally.event(START.plus(31_000));
        tally.event(START.plus(31_007));
        assert_eq!(tally.report().unwrap().counts.of(Meter::AwakeMs), 107);
    }
}
