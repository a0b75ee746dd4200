//! `POST /v1/requests:batch`: several requests in one body, and a result for each.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Accepted, Answer, Problem};
use crate::error::{Error, ErrorCode};
use crate::fault::Fault;
use crate::ids::{BatchId, UserId};
use crate::limits::BATCH_REQUESTS_MAX;
use crate::time::UnixMs;

/// What became of one request of a batch: one of `accepted`, `answer` and `problem`, as for a request by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BatchItem {
    /// Its place in the batch, from 0.
    pub index: u32,
    /// The HTTP status that it would have had by itself.
    pub status: u16,
    /// It is stored as a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Accepted>,
    /// Its key's job has succeeded already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// It was refused and has consumed nothing, or its key's job has failed already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BatchAnswer {
    /// A result for each request, in their order.
    pub results: Vec<BatchItem>,
    /// Names what became jobs of it. Absent while an earlier version of the server is still at work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_id: Option<BatchId>,
}

/// How a batch stands: its jobs, counted.
///
/// Of a batch are the jobs that its call made. What a key had made before it is not, and neither is the job that does one of
/// them again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BatchView {
    /// The batch.
    pub batch_id: BatchId,
    /// Whose it is.
    pub user: UserId,
    /// Jobs in all.
    pub accepted: u64,
    /// Those that wait: for their time, a place or another attempt, or because they are paused.
    pub waiting: u64,
    /// Those that run.
    pub running: u64,
    /// Those that succeeded.
    pub succeeded: u64,
    /// Those that failed for good.
    pub failed: u64,
    /// Those that were cancelled.
    pub cancelled: u64,
    /// Those that waited too long.
    pub expired: u64,
    /// How far all of it is, 0 to 100: jobs that have ended count in full, those that run as far as they say.
    pub progress: f64,
    /// When its first job was accepted.
    pub created_at: UnixMs,
    /// When its last job ended, once all of them have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<UnixMs>,
    /// When it was cancelled. From then on no job of it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<UnixMs>,
}

impl BatchView {
    /// Jobs that have not ended.
    pub fn open(&self) -> u64 {
        self.waiting + self.running
    }

    /// The whole, from the parts of several objects. `None` where there is no part.
    pub fn sum(parts: impl IntoIterator<Item = Self>) -> Option<Self> {
        parts.into_iter().reduce(Self::with)
    }

    fn with(self, other: Self) -> Self {
        // A part without jobs knows of the cancel alone.
        if self.accepted == 0 {
            let cancelled_at = other.cancelled_at.or(self.cancelled_at);
            return Self { cancelled_at, ..other };
        }
        if other.accepted == 0 {
            return other.with(self);
        }
        let accepted = self.accepted + other.accepted;
        let done = self.progress * share(self.accepted) + other.progress * share(other.accepted);
        Self {
            accepted,
            waiting: self.waiting + other.waiting,
            running: self.running + other.running,
            succeeded: self.succeeded + other.succeeded,
            failed: self.failed + other.failed,
            cancelled: self.cancelled + other.cancelled,
            expired: self.expired + other.expired,
            progress: done / share(accepted),
            created_at: self.created_at.min(other.created_at),
            ended_at: self.ended_at.zip(other.ended_at).map(|(one, two)| one.max(two)),
            cancelled_at: match (self.cancelled_at, other.cancelled_at) {
                (Some(one), Some(two)) => Some(one.min(two)),
                (one, two) => one.or(two),
            },
            ..self
        }
    }
}

/// A number of jobs, to reckon with. Beyond what `u32` holds it is only about right.
fn share(jobs: u64) -> f64 {
    f64::from(u32::try_from(jobs).unwrap_or(u32::MAX))
}

/// How the requests of a batch are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchFormat {
    /// A JSON array.
    Array,
    /// JSON texts, one a line. Empty lines are passed over.
    Lines,
}

/// Splits the body of a batch into its requests, unread.
///
/// Errors: `VALIDATION_ERROR` for what is no array, or holds nothing; `PAYLOAD_TOO_LARGE` for more than
/// [`BATCH_REQUESTS_MAX`].
pub fn split_batch(text: &str, format: BatchFormat) -> Result<Vec<&str>, Error> {
    let items: Vec<&str> = match format {
        BatchFormat::Lines => text.lines().map(str::trim).filter(|line| !line.is_empty()).collect(),
        BatchFormat::Array => serde_json::from_str::<Vec<&RawValue>>(text)
            .map_err(|cause| {
                let fault = Fault::new("", "a JSON array of requests", text);
                Error::invalid(format!("The batch cannot be used: {cause}."), vec![fault])
            })?
            .into_iter()
            .map(RawValue::get)
            .collect(),
    };
    if items.is_empty() {
        let fault = Fault::new("", format!("1 to {BATCH_REQUESTS_MAX} requests"), "none");
        return Err(Error::invalid("The batch is empty.", vec![fault]));
    }
    if items.len() > BATCH_REQUESTS_MAX {
        let message = format!(
            "A batch holds at most {BATCH_REQUESTS_MAX} requests; this one has {}.",
            items.len()
        );
        return Err(Error::new(ErrorCode::PayloadTooLarge, message));
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(accepted: u64, succeeded: u64, progress: f64, ended_at: Option<u64>) -> BatchView {
        BatchView {
            batch_id: BatchId::parse("bat_0123456789abcdefgh").unwrap(),
            user: UserId::parse("ann").unwrap(),
            accepted,
            waiting: accepted - succeeded,
            running: 0,
            succeeded,
            failed: 0,
            cancelled: 0,
            expired: 0,
            progress,
            created_at: UnixMs(accepted),
            ended_at: ended_at.map(UnixMs),
            cancelled_at: None,
        }
    }

    #[test]
    fn the_parts_of_a_batch_sum_up_to_the_whole() {
        let whole = BatchView::sum([part(30, 30, 100.0, Some(70)), part(10, 0, 20.0, None)]).unwrap();
        assert_eq!((whole.accepted, whole.succeeded, whole.open()), (40, 30, 10));
        assert_eq!((whole.progress, whole.created_at), (80.0, UnixMs(10)));
        assert_eq!(whole.ended_at, None, "not before the last part");
        let ended = BatchView::sum([part(30, 30, 100.0, Some(70)), part(10, 10, 100.0, Some(90))]).unwrap();
        assert_eq!((ended.progress, ended.ended_at), (100.0, Some(UnixMs(90))));
        let mark = BatchView {
            cancelled_at: Some(UnixMs(9)),
            ..part(0, 0, 0.0, None)
        };
        for parts in [
            [mark.clone(), part(30, 30, 100.0, Some(70))],
            [part(30, 30, 100.0, Some(70)), mark],
        ] {
            let whole = BatchView::sum(parts).unwrap();
            assert_eq!(
                (whole.accepted, whole.progress, whole.ended_at),
                (30, 100.0, Some(UnixMs(70)))
            );
            assert_eq!(whole.cancelled_at, Some(UnixMs(9)));
        }
        assert_eq!(BatchView::sum([]), None);
    }

    #[test]
    fn a_batch_is_split_into_its_requests_and_no_more_than_it_may_hold() {
        let array = split_batch(r#" [{"a":[1,2]}, 7, "x" ] "#, BatchFormat::Array).unwrap();
        assert_eq!(array, [r#"{"a":[1,2]}"#, "7", r#""x""#]);
        let lines = split_batch("{\"a\":1}\r\n\n  nonsense \n", BatchFormat::Lines).unwrap();
        assert_eq!(lines, ["{\"a\":1}", "nonsense"]);
        for (text, format, code) in [
            ("[]", BatchFormat::Array, ErrorCode::ValidationError),
            ("{}", BatchFormat::Array, ErrorCode::ValidationError),
            ("[1", BatchFormat::Array, ErrorCode::ValidationError),
            (" \n", BatchFormat::Lines, ErrorCode::ValidationError),
        ] {
            assert_eq!(split_batch(text, format).unwrap_err().code, code, "{text}");
        }
        let most = "1\n".repeat(BATCH_REQUESTS_MAX);
        assert_eq!(
            split_batch(&most, BatchFormat::Lines).unwrap().len(),
            BATCH_REQUESTS_MAX
        );
        let more = split_batch(&"1\n".repeat(BATCH_REQUESTS_MAX + 1), BatchFormat::Lines).unwrap_err();
        assert_eq!(more.code, ErrorCode::PayloadTooLarge);
    }
}
