//! Why policies let a request through or refuse it: what `POST /v1/admin/policies/explain` answers.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::Revision;

/// What would become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PolicyDecision {
    /// It may go on, to the limits.
    Allowed,
    /// It is refused.
    Forbidden,
}

/// What the condition of a policy comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PolicyResult {
    /// It holds.
    Matched,
    /// It does not.
    NotMatched,
    /// It has no value: taken as holding by `deny` and `require_scope`, and as not holding by `allow`.
    Error,
}

/// Why policies would let a request through or refuse it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PolicyExplanation {
    /// The revision of the composition whose policies were asked.
    pub revision: Revision,
    /// What would become of the request.
    pub decision: PolicyDecision,
    /// Why, in words.
    pub reason: String,
    /// The policy that decides; absent where none does, or the action's own scopes do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Scopes of the action itself that are missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_scopes: Vec<String>,
    /// The policies about the action, in the order in which they are asked; those behind the one that decides as well.
    pub policies: Vec<PolicyTold>,
}

/// What one policy makes of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PolicyTold {
    /// Its name in the composition.
    pub name: String,
    /// The higher, the earlier it is asked.
    pub priority: u64,
    /// `deny`, `require_scope` or `allow`.
    pub effect: String,
    /// The scope that it requires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// What its condition comes to.
    pub result: PolicyResult,
    /// Why: the part of the condition that decides it, or what went wrong.
    pub why: String,
    /// Whether it decides where no policy before it does.
    pub decides: bool,
}
