//! What went wrong, in words that help: what happened, every fault with its place, and what to do about it.

use std::fmt;

use tidegate_sdk::{Code, Error, ErrorCode, Fault};

use crate::exit::Exit;

const NO_SERVER: &str = "Is the server running? `cargo xtask dev` starts one; --url or TIDEGATE_URL names another.";

/// Why a command did not do what it was asked to.
#[derive(Debug, Clone)]
pub struct Failure {
    /// How the command ends.
    pub exit: Exit,
    /// One sentence.
    pub message: String,
    /// Every fault of the input.
    pub faults: Vec<Fault>,
    /// What to do about it.
    pub remedy: Option<String>,
    /// The error as the server gave it, for machines.
    pub error: Option<Error>,
}

impl Failure {
    /// A failure of the command's own finding.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            faults: Vec::new(),
            remedy: None,
            error: None,
        }
    }

    /// A local file or stream failed.
    pub fn of_io(what: &str, error: &std::io::Error) -> Self {
        let exit = match error.kind() {
            std::io::ErrorKind::NotFound => Exit::Invalid,
            _ => Exit::Failed,
        };
        Self::new(exit, format!("{what}: {error}."))
    }

    /// What the client library reports.
    pub fn of(error: Error) -> Self {
        let mut failure = Self::new(Exit::of_error(&error), error.to_string());
        failure.remedy = match &error {
            Error::Unreachable(_) => Some(NO_SERVER.to_owned()),
            error => error.known_code().and_then(remedy).map(str::to_owned),
        };
        if let Error::Api(api) = &error {
            failure.message.clone_from(&api.message);
            failure.faults.clone_from(&api.details);
            if let (Some(ms), Code::Known(_)) = (api.retry_after_ms, &api.code) {
                let seconds = ms.div_ceil(1000);
                failure.remedy = Some(format!("Try again in {seconds} s."));
            }
            if api.details.iter().any(|fault| fault.pointer.starts_with("/policies/"))
                && api.code == Code::Known(ErrorCode::Forbidden)
            {
                failure.remedy = Some(POLICY.to_owned());
            }
        }
        failure.error = Some(error);
        failure
    }

    /// The same failure with another remedy.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::of(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.error.as_ref().and_then(Error::code) {
            Some(code) => write!(f, "error: {} ({code})", self.message)?,
            None => write!(f, "error: {}", self.message)?,
        }
        for fault in &self.faults {
            let place = if fault.pointer.is_empty() { "/" } else { &fault.pointer };
            write!(
                f,
                "\n  at {place}\n    expected {}\n    got      {}",
                fault.expected, fault.got
            )?;
            if let Some(suggestion) = &fault.suggestion {
                write!(f, "\n    meant    {suggestion}?")?;
            }
        }
        match &self.remedy {
            Some(remedy) => write!(f, "\nhelp: {remedy}"),
            None => Ok(()),
        }
    }
}

/// What to do where a policy refuses: it may ask for a scope, and for anything else.
const POLICY: &str =
    "`tidegate policy explain --action ACTION` says what the policies make of a request (scope `admin`).";

/// What to do about an error, where a person can do something.
fn remedy(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::Unauthorized => Some(
            "Give a good token with --token or TIDEGATE_TOKEN. For development: export TIDEGATE_TOKEN=$(tidegate token).",
        ),
        ErrorCode::Forbidden => {
            Some("The token lacks a scope. For development: tidegate token --scope NAME makes one that has it.")
        }
        ErrorCode::TenantSuspended => Some("Ask whoever runs this deployment."),
        ErrorCode::InvalidAction => Some("`tidegate composition show` lists the tenant's actions (scope `admin`)."),
        ErrorCode::NotFound => {
            Some("Look at the id or name again: what another tenant or user owns is not found either.")
        }
        ErrorCode::IdempotencyMismatch => {
            Some("This key was used for another input. Give another --key, or leave it out.")
        }
        ErrorCode::IdempotencyInProgress => Some("The first request with this key is still under way. Try again soon."),
        ErrorCode::PayloadTooLarge => {
            Some("Store large input with `tidegate put NAME FILE`, and name the object in the payload.")
        }
        ErrorCode::Unavailable => Some("The server is overloaded or restarts. Try again soon."),
        ErrorCode::RateLimited | ErrorCode::QuotaExceeded | ErrorCode::QueueFull | ErrorCode::CircuitOpen => {
            Some("Try again later.")
        }
        ErrorCode::SecretUnusable => Some("`tidegate secret set NAME` sets it (scope `admin`)."),
        ErrorCode::Gone => Some("Results are kept for a time only. Run the action again."),
        ErrorCode::ValidationError
        | ErrorCode::Conflict
        | ErrorCode::LeaseLost
        | ErrorCode::Expired
        | ErrorCode::MethodNotAllowed
        | ErrorCode::NotAcceptable
        | ErrorCode::PreconditionFailed
        | ErrorCode::UnsupportedMediaType
        | ErrorCode::RangeNotSatisfiable
        | ErrorCode::NotImplemented
        | ErrorCode::UpstreamError
        | ErrorCode::Timeout
        | ErrorCode::Cancelled
        | ErrorCode::ProcessingFailed
        | ErrorCode::InternalError
        | ErrorCode::DoorbellLost => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::ApiError;

    #[test]
    fn who_is_refused_by_a_policy_is_not_told_of_scopes() {
        let mut error = ApiError::new(ErrorCode::Forbidden, "The policy `big` does not allow this.");
        assert!(Failure::of(error.clone().into()).to_string().contains("lacks a scope"));
        error.details = vec![Fault::new(
            "/policies/big",
            "a request that the policy allows",
            "another",
        )];
        let text = Failure::of(error.into()).to_string();
        assert!(
            text.contains("policy explain") && !text.contains("lacks a scope"),
            "{text}"
        );
    }

    #[test]
    fn every_fault_is_listed_with_place_expectation_and_suggestion() {
        let mut error = ApiError::new(ErrorCode::ValidationError, "The request cannot be used.");
        error.details = vec![
            Fault::new("/mode", "`auto`, `sync` or `async`", "\"asinc\"").suggest("asinc", ["async"]),
            Fault::new("", "an object", "7"),
        ];
        let text = Failure::of(error.into()).to_string();
        for part in [
            "(VALIDATION_ERROR)",
            "at /mode",
            "expected `auto`",
            "got      \"asinc\"",
            "meant    async?",
            "at /\n",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }
}
