//! How the command ends, as a number for scripts.

use std::process::ExitCode;

use tidegate_sdk::{Code, Error, ErrorCode};

/// The exit codes. They are listed in `tidegate --help`, and stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The action succeeded, or what was asked for is done.
    Succeeded = 0,
    /// The action failed, or the state of the thing does not allow this.
    Failed = 1,
    /// The command line, the payload or the document cannot be used.
    Invalid = 2,
    /// The token is missing, not good, or may not do this.
    Unauthorized = 3,
    /// There is no such thing that this token may see, or it is past its retention.
    NotFound = 4,
    /// The job was cancelled.
    Cancelled = 5,
    /// No outcome in time, or the server cannot be reached.
    Unavailable = 6,
    /// A limit or a quota refuses for now.
    Limited = 7,
    /// Ctrl-C: no longer followed. The job goes on.
    Detached = 130,
}

/// The table for `--help`.
pub const TABLE: &str = "\
Exit codes:
    0  the action succeeded, or what was asked for is done
    1  the action failed, or the state of the thing does not allow this
    2  the command line, the payload or the document cannot be used
    3  the token is missing, not good, or may not do this
    4  there is no such thing that this token may see, or it is gone
    5  the job was cancelled
    6  no outcome in time, or the server cannot be reached
    7  a limit or a quota refuses for now
  130  Ctrl-C: no longer followed; the job goes on

Settings, each from the first place that has it:
  --url and --token; TIDEGATE_URL and TIDEGATE_TOKEN; {\"url\": …, \"token\": …} in
  .tidegate/cli.json of this folder or one above (its token only for its own url).";

impl Exit {
    /// The exit code for an error of the server.
    pub fn of_code(code: &Code) -> Self {
        match code {
            Code::Known(code) => Self::of_known(*code),
            Code::Other(_) => Self::Failed,
        }
    }

    /// The exit code for an error of the client library.
    pub fn of_error(error: &Error) -> Self {
        match error {
            Error::Api(error) => Self::of_code(&error.code),
            Error::Closed { code: 3500..=3502, .. } => Self::Unauthorized,
            Error::Closed { .. } | Error::Unreachable(_) => Self::Unavailable,
            Error::Invalid(_) => Self::Invalid,
            Error::Protocol(_) | Error::Io(_) => Self::Failed,
        }
    }

    fn of_known(code: ErrorCode) -> Self {
        match code {
            ErrorCode::ValidationError
            | ErrorCode::IdempotencyMismatch
            | ErrorCode::PayloadTooLarge
            | ErrorCode::MethodNotAllowed
            | ErrorCode::NotAcceptable
            | ErrorCode::UnsupportedMediaType
            | ErrorCode::RangeNotSatisfiable
            | ErrorCode::NotImplemented => Self::Invalid,
            ErrorCode::Unauthorized | ErrorCode::Forbidden | ErrorCode::TenantSuspended => Self::Unauthorized,
            ErrorCode::InvalidAction | ErrorCode::NotFound | ErrorCode::Gone => Self::NotFound,
            ErrorCode::Cancelled => Self::Cancelled,
            ErrorCode::Timeout
            | ErrorCode::Unavailable
            | ErrorCode::CircuitOpen
            | ErrorCode::IdempotencyInProgress
            | ErrorCode::Expired => Self::Unavailable,
            ErrorCode::RateLimited | ErrorCode::QuotaExceeded | ErrorCode::QueueFull => Self::Limited,
            ErrorCode::Conflict
            | ErrorCode::LeaseLost
            | ErrorCode::PreconditionFailed
            | ErrorCode::UpstreamError
            | ErrorCode::ProcessingFailed
            | ErrorCode::InternalError
            | ErrorCode::DoorbellLost
            | ErrorCode::SecretUnusable => Self::Failed,
        }
    }

    /// The number.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_in_help_lists_every_code() {
        for exit in [
            Exit::Succeeded,
            Exit::Failed,
            Exit::Invalid,
            Exit::Unauthorized,
            Exit::NotFound,
            Exit::Cancelled,
            Exit::Unavailable,
            Exit::Limited,
            Exit::Detached,
        ] {
            assert!(TABLE.contains(&format!("\n  {:>3}  ", exit.number())), "{exit:?}");
        }
    }

    #[test]
    fn no_error_of_the_server_ends_as_a_success() {
        for code in ErrorCode::ALL {
            assert_ne!(Exit::of_known(*code), Exit::Succeeded, "{}", code.as_str());
        }
    }
}
