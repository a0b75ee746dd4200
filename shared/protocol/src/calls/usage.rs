//! What is counted of a tenant's use, and how its objects tell the gate of it.

use alloc::vec::Vec;

/// What is counted. The order is that in which counts travel and rest, so that a meter is only ever appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Meter {
    /// Requests for actions that were admitted, over HTTP and sockets alike. One that the job queue then refuses is taken
    /// back.
    Requests,
    /// Frames that clients sent. The keep-alive, which wakes nobody, is not among them.
    MessagesIn,
    /// Frames that were sent to clients.
    MessagesOut,
    /// Jobs that were stored: of requests, batches, schedules and redrives. One that a known key gave again is not.
    Jobs,
    /// Attempts of jobs that the deployment's own executor was given.
    Attempts,
    /// Rows that the tenant's objects read, as the platform counts them.
    RowsRead,
    /// Rows that the tenant's objects wrote, as the platform counts them, each set alarm counted as one.
    RowsWritten,
    /// Bytes of the requests and frames that reached a hub.
    BytesIn,
    /// Bytes of the frames, and of the results in answers over HTTP, that a hub sent.
    BytesOut,
    /// Calls that the tenant's objects were sent.
    ObjectCalls,
    /// Time for which sockets were open, added up. Milliseconds.
    ConnectionMs,
    /// Time for which the tenant's objects were awake, added up: from one event to the next until they became quiet, and while
    /// they waited for something, where the next came within [`AWAKE_MS`]. Milliseconds.
    AwakeMs,
    /// Payloads that were put into object storage, because they are too large for a row.
    ObjectsStored,
    /// Bytes of those.
    BytesStored,
}

/// For how long an object that waits is taken to be awake without an event. Milliseconds.
pub const AWAKE_MS: u64 = 10_000;

impl Meter {
    /// Every meter, in its order.
    pub const ALL: [Self; 14] = [
        Self::Requests,
        Self::MessagesIn,
        Self::MessagesOut,
        Self::Jobs,
        Self::Attempts,
        Self::RowsRead,
        Self::RowsWritten,
        Self::BytesIn,
        Self::BytesOut,
        Self::ObjectCalls,
        Self::ConnectionMs,
        Self::AwakeMs,
        Self::ObjectsStored,
        Self::BytesStored,
    ];

    /// The names of all meters, in their order.
    pub const NAMES: [&'static str; 14] = [
        "requests",
        "messages_in",
        "messages_out",
        "jobs",
        "attempts",
        "rows_read",
        "rows_written",
        "bytes_in",
        "bytes_out",
        "object_calls",
        "connection_ms",
        "awake_ms",
        "objects_stored",
        "bytes_stored",
    ];

    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        Self::NAMES.get(self.index()).copied().unwrap_or_default()
    }

    /// The meter that is written so.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|meter| meter.as_str() == text)
    }

    /// Its place among the counts.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Counts, one for each [`Meter`]. Those of meters that newer code has are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts(pub Vec<u64>);

impl Counts {
    /// What `meter` has counted.
    pub fn of(&self, meter: Meter) -> u64 {
        self.0.get(meter.index()).copied().unwrap_or(0)
    }

    /// Counts `units` more. A count stays at its largest.
    pub fn add(&mut self, meter: Meter, units: u64) {
        if self.0.len() <= meter.index() {
            self.0.resize(meter.index() + 1, 0);
        }
        if let Some(count) = self.0.get_mut(meter.index()) {
            *count = count.saturating_add(units);
        }
    }

    /// Adds other counts.
    pub fn add_all(&mut self, others: &Self) {
        if self.0.len() < others.0.len() {
            self.0.resize(others.0.len(), 0);
        }
        for (count, more) in self.0.iter_mut().zip(&others.0) {
            *count = count.saturating_add(*more);
        }
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|count| *count == 0)
    }
}

/// Who tells of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source(pub u64);

impl Source {
    /// The tenant's gate itself.
    pub const GATE: Self = Self(1 << 32);

    /// A hub.
    pub fn hub(hub: crate::ids::HubIndex) -> Self {
        Self(u64::from(hub.0))
    }

    /// An object of the job queue.
    pub fn jobs(shard: crate::ids::ShardIndex) -> Self {
        Self(1 << 16 | u64::from(shard.0))
    }
}

/// What was counted by one instance of an object since its last report. It may be told several times, and counts once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The object.
    pub source: Source,
    /// The instance of it: a number drawn when it began.
    pub run: u64,
    /// The report's number in that run, from 1 up.
    pub seq: u64,
    /// What was counted.
    pub counts: Counts,
}

impl Report {
    /// As it travels: numbers alone, because each struct of a call costs the bundle a kilobyte.
    pub fn to_numbers(&self) -> Vec<u64> {
        let mut numbers = alloc::vec![self.source.0, self.run, self.seq];
        numbers.extend(&self.counts.0);
        numbers
    }

    /// What travelled so. `None` for anything else.
    pub fn of_numbers(numbers: &[u64]) -> Option<Self> {
        let (head, counts) = numbers.split_first_chunk::<3>()?;
        let [source, run, seq] = *head;
        Some(Self {
            source: Source(source),
            run,
            seq,
            counts: Counts(counts.to_vec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_meter_has_its_own_place_and_name() {
        for (at, meter) in Meter::ALL.into_iter().enumerate() {
            assert_eq!(meter.index(), at);
            assert_eq!(Meter::parse(meter.as_str()), Some(meter));
        }
        assert_eq!(Meter::parse("Requests"), None);
    }

    #[test]
    fn a_report_travels_as_numbers() {
        let mut counts = Counts::default();
        counts.add(Meter::Jobs, 3);
        counts.add(Meter::Jobs, u64::MAX);
        let report = Report {
            source: Source::jobs(crate::ids::ShardIndex(7)),
            run: 5,
            seq: 9,
            counts,
        };
        assert_eq!(Report::of_numbers(&report.to_numbers()), Some(report.clone()));
        assert_eq!(report.counts.of(Meter::Jobs), u64::MAX);
        assert_eq!(Report::of_numbers(&[1, 2]), None);
    }

    #[test]
    fn counts_of_newer_code_are_kept() {
        let mut counts = Counts(alloc::vec![1]);
        counts.add_all(&Counts((0..40).collect()));
        assert_eq!((counts.0.len(), counts.of(Meter::Requests)), (40, 1));
    }
}
