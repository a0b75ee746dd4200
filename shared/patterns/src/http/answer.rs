//! What an upstream's answer means.

use alloc::format;
use alloc::string::String;

use tidegate_protocol::error::Retry;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::request::ANSWER_BYTES_MAX;
use crate::operation::Incoming;

/// The longest wait that an upstream can ask of us. A job must end while somebody still wants it. Milliseconds.
pub const RETRY_AFTER_MS_MAX: u64 = 24 * 3_600_000;

/// Whether `status` is a success, and if not, whether the same request may succeed later.
///
/// Errors: `UPSTREAM_ERROR`; retryable for 408, 425, 429 and 5xx, after what `retry_after` says. A redirect is an error:
/// it would lead to where the composition does not say.
pub fn classify(status: u16, retry_after: Option<&str>, now: UnixMs) -> Result<(), Error> {
    let failed = |words: &str| {
        Error::new(
            ErrorCode::UpstreamError,
            format!("The upstream answered {status}{words}."),
        )
    };
    match status {
        200..=299 => Ok(()),
        300..=399 => Err(failed(", which leads elsewhere and is not followed")),
        408 | 425 | 429 | 500..=599 => {
            let error = failed("").with_retry(Retry::Later);
            Err(match retry_after.and_then(|text| parse_retry_after(text, now)) {
                Some(after_ms) => error.retry_after(after_ms),
                None => error,
            })
        }
        _ => Err(failed("")),
    }
}

/// The result of a call: `{"status": 200, "body": …}`. The body is JSON where the upstream says that it is, else text;
/// `null` where there is none.
///
/// Errors: as [`classify`]; `UPSTREAM_ERROR`, not retryable, for a body over the bound, one that is not the JSON it claims
/// to be or nests too deep, and one that is no text.
pub fn result(answer: &Incoming, now: UnixMs) -> Result<JsonText, Error> {
    classify(answer.status, answer.retry_after.as_deref(), now)?;
    let unusable = |message: String| Error::new(ErrorCode::UpstreamError, message);
    let bytes = answer.body.as_deref().filter(|bytes| bytes.len() <= ANSWER_BYTES_MAX);
    let bytes = bytes.ok_or_else(|| unusable(format!("The upstream's answer is over {ANSWER_BYTES_MAX} bytes.")))?;
    let text = core::str::from_utf8(bytes);
    let text = text.map_err(|_| unusable("The upstream's answer is neither JSON nor text.".into()))?;
    let body = if text.is_empty() {
        Some(JsonText::null())
    } else if answer.content_type.as_deref().is_some_and(is_json) {
        JsonText::parse(text)
    } else {
        JsonText::of(text)
    };
    let result = body.and_then(|body| {
        let status = answer.status;
        JsonText::parse(&format!(r#"{{"status":{status},"body":{}}}"#, body.as_str()))
    });
    result.ok_or_else(|| unusable("The upstream's answer is not the JSON it claims to be, or nests too deep.".into()))
}

/// `application/json`, and everything that ends in `+json`.
pub(crate) fn is_json(content_type: &str) -> bool {
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

/// Reads `Retry-After`: seconds, or a date in its one current form (RFC 9110, IMF-fixdate). Milliseconds from `now`.
pub(crate) fn parse_retry_after(text: &str, now: UnixMs) -> Option<u64> {
    let text = text.trim();
    let ms = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // More seconds than fit are as good as the longest wait.
        text.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(1000)
    } else {
        parse_http_date(text)?.since(now)
    };
    Some(ms.min(RETRY_AFTER_MS_MAX))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
fn parse_http_date(text: &str) -> Option<UnixMs> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut parts = text.split_once(", ")?.1.split(' ');
    let (day, month, year, time) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let gmt = parts.next() == Some("GMT") && parts.next().is_none();
    gmt.then(|| UnixMs::parse(&format!("{year}-{month:02}-{day}T{time}Z")))?
}
