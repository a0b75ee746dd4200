//! Every way a request can fail, as a stable code that clients may match on.
//!
//! A code without its page in `docs/errors/` fails a test. Another tenant's thing and an absent thing are the same code.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};
use tidegate_cbor::{Decode, Encode};

use crate::fault::Fault;
use crate::ids::SecretName;

/// Whether the same request may succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same request fails again until something about it changes.
    Never,
    /// The same request may succeed later.
    Later,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $status:literal, $retry:ident;)*) => {
        /// A stable error code. The HTTP status and the default retryability hang on it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $code)] $variant,)*
        }

        impl ErrorCode {
            /// Every code, in the order of the catalogue.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as it stands in frames and problem documents.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The HTTP status of a problem document with this code.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// Whether the same request may succeed later, where the error itself does not say otherwise.
            pub const fn retry(self) -> Retry {
                match self { $(Self::$variant => Retry::$retry,)* }
            }
        }
    };
}

error_codes! {
    /// The request is not well formed, or a field has the wrong type or value.
    ValidationError = "VALIDATION_ERROR", 400, Never;
    /// The tenant's composition has no action of this name.
    InvalidAction = "INVALID_ACTION", 404, Never;
    /// There is no token, or it cannot be trusted.
    Unauthorized = "UNAUTHORIZED", 401, Never;
    /// The token is good, but a scope is missing.
    Forbidden = "FORBIDDEN", 403, Never;
    /// There is no such thing that this token may see.
    NotFound = "NOT_FOUND", 404, Never;
    /// The state of the thing does not allow this.
    Conflict = "CONFLICT", 409, Never;
    /// The lease named by this call is no longer held.
    LeaseLost = "LEASE_LOST", 409, Never;
    /// The tenant is suspended.
    TenantSuspended = "TENANT_SUSPENDED", 403, Never;
    /// The thing is past its retention.
    Gone = "GONE", 410, Never;
    /// The job waited longer than it may.
    Expired = "EXPIRED", 410, Never;
    /// The path exists, the method does not.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", 405, Never;
    /// No representation that the client accepts.
    NotAcceptable = "NOT_ACCEPTABLE", 406, Never;
    /// A condition of the request is not met.
    PreconditionFailed = "PRECONDITION_FAILED", 412, Never;
    /// The body's media type is not understood.
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", 415, Never;
    /// The range lies outside the object.
    RangeNotSatisfiable = "RANGE_NOT_SATISFIABLE", 416, Never;
    /// The protocol names this; it is not there yet.
    NotImplemented = "NOT_IMPLEMENTED", 501, Never;
    /// The same idempotency key came with another body.
    IdempotencyMismatch = "IDEMPOTENCY_MISMATCH", 422, Never;
    /// A request with the same idempotency key is still under way.
    IdempotencyInProgress = "IDEMPOTENCY_IN_PROGRESS", 409, Later;
    /// A frame, body, token or document is over its limit.
    PayloadTooLarge = "PAYLOAD_TOO_LARGE", 413, Never;
    /// A rate limit refuses for now.
    RateLimited = "RATE_LIMITED", 429, Later;
    /// A quota is used up for now.
    QuotaExceeded = "QUOTA_EXCEEDED", 429, Later;
    /// The tenant has too many waiting jobs.
    QueueFull = "QUEUE_FULL", 429, Later;
    /// The upstream's breaker is open.
    CircuitOpen = "CIRCUIT_OPEN", 503, Later;
    /// An upstream failed or answered what cannot be used.
    UpstreamError = "UPSTREAM_ERROR", 502, Never;
    /// A time limit passed; `details` says which.
    Timeout = "TIMEOUT", 504, Later;
    /// The job was cancelled.
    Cancelled = "CANCELLED", 409, Never;
    /// The last attempt failed.
    ProcessingFailed = "PROCESSING_FAILED", 500, Never;
    /// Overload or restart.
    Unavailable = "UNAVAILABLE", 503, Later;
    /// A fault of ours. Nothing inside leaks out.
    InternalError = "INTERNAL_ERROR", 500, Later;
    /// The platform's queue gave up a job's doorbell. Only among the dead letters: no request is answered with it.
    DoorbellLost = "DOORBELL_LOST", 409, Never;
    /// A secret that the action needs is not set, or cannot be used.
    SecretUnusable = "SECRET_UNUSABLE", 500, Never;
}

/// A limit of time, as the details of a `TIMEOUT` name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeLimit {
    /// The `timeout` of an action, for a run on the spot or one attempt of a job. A request may shorten it.
    Action,
    /// The `queue_timeout` of an action: how long a job may wait for its first attempt. A request may shorten it.
    Queue,
    /// The `total_timeout` of an action, for a job with all its attempts and waits.
    Total,
    /// The `heartbeat_timeout` of an action: how long an attempt may go without progress or a checkpoint.
    Heartbeat,
    /// The `timeout` of an upstream, for one call. What the action has left may be less.
    Upstream,
}

impl TimeLimit {
    /// Every limit of time.
    pub const ALL: &'static [Self] = &[Self::Action, Self::Queue, Self::Total, Self::Heartbeat, Self::Upstream];

    /// The limit's name in `details`, as a JSON pointer.
    pub const fn pointer(self) -> &'static str {
        match self {
            Self::Action => "/timeout",
            Self::Queue => "/queue_timeout",
            Self::Total => "/total_timeout",
            Self::Heartbeat => "/heartbeat_timeout",
            Self::Upstream => "/upstream/timeout",
        }
    }
}

/// What a client is told when something fails. The shells turn it into an error frame or a problem document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Error {
    /// What kind of failure this is.
    pub code: ErrorCode,
    /// One sentence for a person.
    pub message: Cow<'static, str>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// The earliest time, from now, at which trying again makes sense. Milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Every fault of the input, each with its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Fault>,
    /// The limit on requests that refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Box<LimitState>>,
    /// The trace this belongs to, where the request carried one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

/// A limit on requests, and how much of it is left: for the key that the request has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LimitState {
    /// Its name in the composition.
    pub name: String,
    /// It allows so many units …
    pub units: u64,
    /// … in this time. Milliseconds.
    pub per_ms: u64,
    /// Units that are left.
    pub remaining: u64,
    /// When there is room again. Milliseconds from now.
    pub reset_ms: u64,
}

impl LimitState {
    /// The header fields `RateLimit-Policy` and `RateLimit`, after draft-ietf-httpapi-ratelimit-headers-10. They count in seconds:
    /// a time is rounded up.
    pub fn header_fields(&self) -> [(&'static str, String); 2] {
        let Self {
            name,
            units,
            per_ms,
            remaining,
            reset_ms,
        } = self;
        let (window, reset) = (per_ms.div_ceil(1000), reset_ms.div_ceil(1000));
        [
            ("ratelimit-policy", format!("\"{name}\";q={units};w={window}")),
            ("ratelimit", format!("\"{name}\";r={remaining};t={reset}")),
        ]
    }
}

impl Error {
    /// An error with the code's own retryability and no details.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            retryable: matches!(code.retry(), Retry::Later),
            retry_after_ms: None,
            details: Vec::new(),
            limit: None,
            trace_id: None,
        }
    }

    /// A `VALIDATION_ERROR` that names all `faults`.
    pub fn invalid(message: impl Into<Cow<'static, str>>, faults: Vec<Fault>) -> Self {
        Self {
            details: faults,
            ..Self::new(ErrorCode::ValidationError, message)
        }
    }

    /// A `SECRET_UNUSABLE` whose details name the secret, and never its value. `why` follows on its name.
    pub fn secret_unusable(name: &SecretName, why: &str) -> Self {
        let fault = Fault::new("/secret", "a secret of the tenant that can be used", name.as_str());
        Self {
            details: alloc::vec![fault],
            ..Self::new(ErrorCode::SecretUnusable, format!("The secret `{name}` {why}."))
        }
    }

    /// A `NOT_FOUND` that is the same for what is absent and for what may not be seen.
    pub fn not_found() -> Self {
        Self::new(ErrorCode::NotFound, "There is nothing here that this token may see.")
    }

    /// A `TIMEOUT` whose details name `limit` and its `ms` milliseconds.
    pub fn timed_out(limit: TimeLimit, ms: u64) -> Self {
        Self::over_time(ErrorCode::Timeout, limit, ms)
    }

    /// An `EXPIRED` whose details name `limit` and its `ms` milliseconds: the job never began.
    pub fn expired(limit: TimeLimit, ms: u64) -> Self {
        Self::over_time(ErrorCode::Expired, limit, ms)
    }

    fn over_time(code: ErrorCode, limit: TimeLimit, ms: u64) -> Self {
        let (message, wanted) = match limit {
            TimeLimit::Action => (
                format!("The action took longer than {ms} ms: limit `timeout`."),
                "an end",
            ),
            TimeLimit::Queue => (
                format!("The job waited longer than {ms} ms for its first attempt: limit `queue_timeout`."),
                "a first attempt",
            ),
            TimeLimit::Total if code == ErrorCode::Expired => (
                format!("The job had no attempt within the {ms} ms that it may take: limit `total_timeout`."),
                "a first attempt",
            ),
            TimeLimit::Total => (
                format!("The job took longer than {ms} ms with all its attempts and waits: limit `total_timeout`."),
                "an end",
            ),
            TimeLimit::Heartbeat => (
                format!("The attempt gave neither progress nor a checkpoint for {ms} ms: limit `heartbeat_timeout`."),
                "progress or a checkpoint",
            ),
            TimeLimit::Upstream => (format!("The upstream did not answer within {ms} ms."), "an end"),
        };
        let got = if wanted == "an end" { "no end" } else { "none" };
        let fault = Fault::new(limit.pointer(), format!("{wanted} within {ms} ms"), got);
        Self {
            details: alloc::vec![fault],
            ..Self::new(code, message)
        }
    }

    /// The same error, worth trying again after `after_ms` milliseconds.
    #[must_use]
    pub fn retry_after(mut self, after_ms: u64) -> Self {
        self.retryable = true;
        self.retry_after_ms = Some(after_ms);
        self
    }

    /// The same error with its retryability set by the cause.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retryable = matches!(retry, Retry::Later);
        self
    }

    /// The HTTP status: 422 for a body that is well formed and fails its schema, else the code's.
    pub fn status(&self) -> u16 {
        match self.code {
            ErrorCode::ValidationError if !self.details.is_empty() => 422,
            _ => self.code.status(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)?;
        for fault in &self.details {
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}

impl core::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_told_in_header_fields_in_whole_seconds() {
        let limit = LimitState {
            name: "per-user".into(),
            units: 100,
            per_ms: 60_000,
            remaining: 0,
            reset_ms: 2_001,
        };
        let [policy, state] = limit.header_fields();
        assert_eq!(policy, ("ratelimit-policy", r#""per-user";q=100;w=60"#.into()));
        assert_eq!(state, ("ratelimit", r#""per-user";r=0;t=3"#.into()));
    }

    #[test]
    fn a_timeout_says_which_limit_passed_and_how_long_it_was() {
        for limit in TimeLimit::ALL {
            let error = Error::timed_out(*limit, 2500);
            assert!(error.retryable && error.code == ErrorCode::Timeout && error.status() == 504);
            let [fault] = error.details.as_slice() else {
                panic!("{error}")
            };
            assert_eq!(fault.pointer, limit.pointer());
            assert!(fault.expected.contains(" 2500 ms"), "{fault}");
        }
    }

    #[test]
    fn a_job_that_never_began_has_expired_for_good_and_says_which_limit_passed() {
        for limit in [TimeLimit::Queue, TimeLimit::Total] {
            let error = Error::expired(limit, 2500);
            assert!(!error.retryable && error.code == ErrorCode::Expired && error.status() == 410);
            assert_eq!(error.details[0].pointer, limit.pointer());
        }
    }
}
