//! Which composition says what the attempts of a job do, where there has been another since it was accepted.

use tidegate_cbor::{Decode, Encode};

/// Which composition says what an attempt does. How the job waits and is tried stays that of its acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum RevisionRule {
    /// The one that the job was accepted under.
    #[default]
    Accepted,
    /// The one that is active when a run begins.
    Latest,
}

impl RevisionRule {
    /// Whether this is what a job has where nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
