//! `POST /v1/requests:batch`: several requests in one body, and a result for each.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Accepted, Answer, Problem};
use crate::error::{Error, ErrorCode};
use crate::fault::Fault;
use crate::limits::BATCH_REQUESTS_MAX;

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
