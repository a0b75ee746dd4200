//! The composition: a tenant's JSON document that says which actions there are and how each is run.
//!
//! The document names instances of patterns, each with its configuration, and actions, each an operation of one
//! instance with its mode, limits and scopes. [`compile`] turns it into a [`Plan`], or reports every fault at once.
//! What a pattern offers comes in as [`Manifest`]s, so that nothing here knows a pattern. What a configuration means is
//! the pattern's; who may call an action is decided elsewhere.
//!
//! The published form of all this is `docs/reference/composition.schema.json`; a test holds the two together. The
//! schema cannot say everything: names that must exist, bounds of durations, and what depends on an operation's own
//! default are found here alone.

mod admission;
#[cfg(test)]
mod admission_tests;
#[cfg(test)]
mod agreement;
mod away;
mod browsers;
mod channels;
mod compile;
pub mod defaults;
mod deployment;
#[cfg(test)]
#[cfg(feature = "native")]
mod deployment_tests;
mod document;
#[cfg(test)]
mod hook_tests;
mod hooks;
mod latest;
mod manifest;
mod object;
mod once;
mod path;
mod plan;
mod policies;
mod policy;
mod queue;
#[cfg(test)]
mod queue_tests;
mod reporting;
mod request;
mod retention;
mod retry;
mod schedules;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod webhook_tests;
mod webhooks;

pub use admission::{Admission, AdmissionRules};
pub use away::AwayRules;
pub use browsers::Origins;
pub use channels::{ChannelRules, Channels, OWN_NAMESPACES, OnSubscribe, Who};
pub use compile::compile;
pub(crate) use compile::is_instance;
pub use deployment::{DeploymentLimits, PREFIX as DEPLOYMENT_PREFIX};
pub use document::{canonical, revision};
pub use hooks::OnEndRules;
pub(crate) use hooks::standard_policy;
pub use latest::checkpoint_of;
pub use manifest::{
    CheckConfig, CheckSettings, Manifest, Mode, Modes, Operation, Runs, takes_no_settings, takes_nothing,
};
pub use object::{Object, child, describe, note, suggest};
pub use once::{DedupeRules, OnceRules};
pub use path::{EXPECTED as PATH, Path};
pub use plan::{Action, DeclaredMode, PatternInstance, Plan};
pub use queue::{Queue, QueueRules};
pub use request::Input;
pub use schedules::{SCHEDULE_KEY, SCHEDULED_FOR_KEY};
#[cfg(test)]
pub(crate) use tests::MANIFESTS as TEST_MANIFESTS;
pub use webhooks::{Webhooks, webhook_preset, webhook_secrets};

/// The composition of a tenant that has none of its own.
///
/// `core.fail` is not in it: it is for tests. No action asks for a scope, so that a first token can call everything.
pub const DEFAULT: &str = include_str!("default.json");
