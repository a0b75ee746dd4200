//! What a client keeps of ids and states: the text, whatever a later server makes of it.

use std::fmt;

use serde::{Deserialize, Serialize};
use tidegate_protocol::event::JobState;
use tidegate_protocol::limits::ID_CHARS_MAX;

/// A job's id. To a client it is opaque; only its characters are checked, because it stands in paths.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(String);

impl JobId {
    /// Takes text that can be an id: 1 to 128 characters of `[A-Za-z0-9._:-]`.
    pub fn parse(text: &str) -> Option<Self> {
        let good = (1..=ID_CHARS_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b));
        good.then(|| Self(text.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for JobId {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("expected a job id")
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A batch's id. To a client it is opaque; only its characters are checked, because it stands in paths.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BatchId(String);

impl BatchId {
    /// Takes text that can be an id: 1 to 128 characters of `[A-Za-z0-9._:-]`.
    pub fn parse(text: &str) -> Option<Self> {
        JobId::parse(text).map(|id| Self(id.0))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for BatchId {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("expected a batch id")
    }
}

impl From<BatchId> for String {
    fn from(id: BatchId) -> Self {
        id.0
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A job's state, which may be one that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Status {
    /// A state of the protocol as this version knows it.
    Known(JobState),
    /// A state of a later version.
    Other(String),
}

impl Status {
    /// The state's name.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(state) => state.as_str(),
            Self::Other(name) => name,
        }
    }

    /// Whether the job has surely ended. A state of a later version counts as not ended.
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Known(state) if state.is_ended())
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_would_change_a_path_is_refused() {
        for text in ["", "a/b", "..%2f", "a?b", "a b", &"a".repeat(129)] {
            assert_eq!(JobId::parse(text), None, "{text}");
        }
        assert!(JobId::parse("job_0123456789abcdefg").is_some());
        assert!(serde_json::from_str::<JobId>("\"a/b\"").is_err());
    }

    #[test]
    fn a_state_of_a_later_version_is_kept_as_it_came() {
        let status: Status = serde_json::from_str("\"hibernating\"").unwrap();
        assert_eq!((status.as_str(), status.is_ended()), ("hibernating", false));
        let status: Status = serde_json::from_str("\"failed\"").unwrap();
        assert_eq!(status, Status::Known(JobState::Failed));
    }
}
