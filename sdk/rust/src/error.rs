//! Everything that can go wrong for a caller: what the server said, or why it could not be asked.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::{ErrorCode, Fault};

use crate::ids::JobId;

/// A stable error code, which may be one that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Code {
    /// A code of the protocol as this version knows it.
    Known(ErrorCode),
    /// A code of a later version.
    Other(String),
}

impl Code {
    /// The code as it stands in frames and problem documents.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(code) => code.as_str(),
            Self::Other(code) => code,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the server said when something failed: an `error` frame or a problem document (RFC 9457).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApiError {
    /// What kind of failure this is.
    pub code: Code,
    /// One sentence for a person.
    #[serde(alias = "detail", default)]
    pub message: String,
    /// Whether the same request may succeed later.
    #[serde(default)]
    pub retryable: bool,
    /// The earliest time, from now, at which trying again makes sense. Milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Every fault of the input, each with its place. Entries of another form are passed over.
    #[serde(default, deserialize_with = "faults", skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Fault>,
    /// The HTTP status, where the answer came over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The request that failed, as the server names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The job that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// The trace this belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

impl ApiError {
    /// An error as this library itself finds it, with the code's own retryability.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code: Code::Known(code),
            message: message.into(),
            retryable: matches!(code.retry(), tidegate_protocol::error::Retry::Later),
            retry_after_ms: None,
            details: Vec::new(),
            status: None,
            request_id: None,
            job_id: None,
            trace_id: None,
        }
    }

    /// The error of an HTTP answer: its problem document, or what the status alone says.
    pub fn from_http(status: u16, body: &[u8]) -> Self {
        let read = serde_json::from_slice::<Self>(body);
        let mut error = read.unwrap_or_else(|_| {
            let code = match status {
                400 | 422 => ErrorCode::ValidationError,
                401 => ErrorCode::Unauthorized,
                403 => ErrorCode::Forbidden,
                404 => ErrorCode::NotFound,
                405 => ErrorCode::MethodNotAllowed,
                409 => ErrorCode::Conflict,
                410 => ErrorCode::Gone,
                412 => ErrorCode::PreconditionFailed,
                413 => ErrorCode::PayloadTooLarge,
                415 => ErrorCode::UnsupportedMediaType,
                416 => ErrorCode::RangeNotSatisfiable,
                429 => ErrorCode::RateLimited,
                501 => ErrorCode::NotImplemented,
                502 | 503 => ErrorCode::Unavailable,
                504 => ErrorCode::Timeout,
                _ => ErrorCode::InternalError,
            };
            Self::new(code, format!("The server answered {status} without saying why."))
        });
        error.status = Some(status);
        error
    }
}

fn faults<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Fault>, D::Error> {
    let raw = JsonText::deserialize(deserializer)?;
    let entries: Vec<JsonText> = serde_json::from_str(raw.as_str()).unwrap_or_default();
    let read = |entry: &JsonText| serde_json::from_str(entry.as_str()).ok();
    Ok(entries.iter().filter_map(read).collect())
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        for fault in &self.details {
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}

/// Why a call or a request has no good answer.
#[derive(Debug, Clone)]
pub enum Error {
    /// The server refused, or the job failed.
    Api(Box<ApiError>),
    /// The server closed the connection and asks not to come back.
    Closed {
        /// The WebSocket close code, 3500 to 3999.
        code: u16,
        /// Why, in the server's words.
        reason: String,
    },
    /// The server could not be reached, or went away before it answered.
    Unreachable(String),
    /// The server's answer is not one of this protocol.
    Protocol(String),
    /// The client was given something that it cannot use: an address, a token, a name.
    Invalid(String),
    /// A local file or stream failed.
    Io(Arc<std::io::Error>),
}

impl Error {
    /// The stable code, where the server or the protocol gives one.
    pub fn code(&self) -> Option<&Code> {
        match self {
            Self::Api(error) => Some(&error.code),
            _ => None,
        }
    }

    /// The stable code, where it is one that this version knows.
    pub fn known_code(&self) -> Option<ErrorCode> {
        match self {
            Self::Api(error) => match error.code {
                Code::Known(code) => Some(code),
                Code::Other(_) => None,
            },
            Self::Closed { code: 3500, .. } => Some(ErrorCode::Unauthorized),
            Self::Closed { code: 3501, .. } => Some(ErrorCode::Forbidden),
            Self::Closed { code: 3502, .. } => Some(ErrorCode::TenantSuspended),
            Self::Unreachable(_) => Some(ErrorCode::Unavailable),
            Self::Invalid(_) => Some(ErrorCode::ValidationError),
            Self::Closed { .. } | Self::Protocol(_) | Self::Io(_) => None,
        }
    }
}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        Self::Api(Box::new(error))
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api(error) => error.fmt(f),
            Self::Closed { code, reason } if reason.is_empty() => {
                write!(f, "The server closed the connection for good (code {code}).")
            }
            Self::Closed { code, reason } => {
                write!(f, "The server closed the connection for good (code {code}): {reason}")
            }
            Self::Unreachable(why) => write!(f, "The server cannot be reached: {why}"),
            Self::Protocol(what) => write!(f, "The answer cannot be understood: {what}"),
            Self::Invalid(what) => f.write_str(what),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_document_is_read_with_all_its_faults() {
        let body = br#"{"type":"urn:tidegate:error:validation-error","title":"validation error","status":422,
            "detail":"Two faults.","code":"VALIDATION_ERROR","retryable":false,"new":1,
            "details":[{"pointer":"/a","expected":"x","got":"y","suggestion":"z"},7,{"pointer":"/b","expected":"x","got":"y"}]}"#;
        let error = ApiError::from_http(422, body);
        assert_eq!(error.code, Code::Known(ErrorCode::ValidationError));
        assert_eq!(error.message, "Two faults.");
        let places: Vec<_> = error.details.iter().map(|f| f.pointer.as_str()).collect();
        assert_eq!(places, ["/a", "/b"]);
    }

    #[test]
    fn an_unknown_code_and_odd_details_do_not_spoil_an_error() {
        let error: ApiError =
            serde_json::from_str(r#"{"code":"TOO_TIRED","message":"m","details":{"which":"run"}}"#).unwrap();
        assert_eq!(error.code.as_str(), "TOO_TIRED");
        assert!(error.details.is_empty() && !error.retryable);
    }

    #[test]
    fn an_answer_without_a_problem_document_is_told_by_its_status() {
        for (status, code) in [
            (401, "UNAUTHORIZED"),
            (404, "NOT_FOUND"),
            (502, "UNAVAILABLE"),
            (500, "INTERNAL_ERROR"),
        ] {
            let error = ApiError::from_http(status, b"<html>");
            assert_eq!((error.code.as_str(), error.status), (code, Some(status)));
        }
    }
}
