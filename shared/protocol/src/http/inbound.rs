//! Bodies about webhooks that come in.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::{ActionName, JobId, SecretName, UserId, WebhookSource};

/// What became of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WebhookOutcome {
    /// It is stored as a job.
    Accepted,
    /// The event was a job already.
    Duplicate,
    /// Its type is none that is asked for.
    Ignored,
}

/// The answer to a webhook that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WebhookTaken {
    /// What became of it.
    pub outcome: WebhookOutcome,
    /// The job; absent where the event was ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
}

/// A source of webhooks, with its address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WebhookView {
    /// Its name in the composition.
    pub source: WebhookSource,
    /// Where it sends to. Who knows the address can knock; who does not know the secret is not let in.
    pub url: String,
    /// The action that its events ask for.
    pub action: ActionName,
    /// Whose the jobs are.
    pub user: UserId,
    /// The secret that it signs with.
    pub secret: SecretName,
    /// Why nothing can be verified now; absent where all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The sources of a tenant's webhooks, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WebhookList {
    /// The sources.
    pub webhooks: Vec<WebhookView>,
}
