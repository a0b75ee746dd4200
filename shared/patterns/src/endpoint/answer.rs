//! What an endpoint's answer means.

use alloc::format;
use alloc::string::String;

use tidegate_protocol::error::Retry;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use crate::http::{ANSWER_BYTES_MAX, is_json, parse_retry_after};
use crate::operation::{Done, Incoming};

/// Whether an endpoint that was told something has heard it: any 2xx. Everything else may pass, but for 410: it wants to
/// hear no more.
///
/// Errors: `UPSTREAM_ERROR`.
pub(super) fn told(status: u16, retry_after: Option<&str>, now: UnixMs) -> Result<(), Error> {
    match status {
        200..=299 => Ok(()),
        410 => Err(failed(410)),
        _ => Err(later(status, retry_after, now)),
    }
}

/// What came of a job that an endpoint was given: its result with 2xx, nothing yet with 202.
///
/// Errors: `UPSTREAM_ERROR`. Another attempt may help after 408, 409 (it is at this very work), 425, 429 and 5xx.
pub(super) fn done(given: &Incoming, now: UnixMs) -> Result<Done, Error> {
    match given.status {
        202 => return Ok(Done::HandedOver),
        204 => return Ok(Done::Result(JsonText::null())),
        200..=299 => {}
        408 | 409 | 425 | 429 | 500..=599 => return Err(later(given.status, given.retry_after.as_deref(), now)),
        status => return Err(failed(status)),
    }
    let unusable = |message: String| Error::new(ErrorCode::UpstreamError, message);
    let bytes = given.body.as_deref().filter(|bytes| bytes.len() <= ANSWER_BYTES_MAX);
    let bytes = bytes.ok_or_else(|| unusable(format!("The endpoint's answer is over {ANSWER_BYTES_MAX} bytes.")))?;
    if bytes.is_empty() {
        return Ok(Done::Result(JsonText::null()));
    }
    let text = core::str::from_utf8(bytes).ok();
    let text = text.filter(|_| given.content_type.as_deref().is_some_and(is_json));
    text.and_then(JsonText::parse)
        .map(Done::Result)
        .ok_or_else(|| unusable("The endpoint's answer is no JSON, does not say so, or nests too deep.".into()))
}

fn failed(status: u16) -> Error {
    Error::new(ErrorCode::UpstreamError, format!("The endpoint answered {status}."))
}

fn later(status: u16, retry_after: Option<&str>, now: UnixMs) -> Error {
    let error = failed(status).with_retry(Retry::Later);
    match retry_after.and_then(|text| parse_retry_after(text, now)) {
        Some(after_ms) => error.retry_after(after_ms),
        None => error,
    }
}
