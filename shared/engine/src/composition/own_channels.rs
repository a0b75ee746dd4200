//! The namespaces whose channels the deployment itself gives: `user`, one for each user, and `tenant`, with `tenant:jobs`.
//!
//! Who may do what in them is no matter of the composition. It says whether changes of jobs are told there, and how much is kept.

use alloc::sync::Arc;
use alloc::vec::Vec;

use serde_json::Value;
use tidegate_protocol::Fault;
use tidegate_protocol::calls::channel::{Keep, Medium};

use super::channels::{ChannelRules, OnSubscribe, Who, read_history};
use super::defaults::{HISTORY_AGE_MS, HISTORY_BYTES, HISTORY_MESSAGES, PRESENCE_GRACE_MS};
use super::object::Object;

/// What is kept of a channel where nothing is said of that.
pub(super) const KEEP: Keep = Keep {
    messages: HISTORY_MESSAGES,
    age_ms: HISTORY_AGE_MS,
    bytes: HISTORY_BYTES,
    medium: Medium::Rows,
};

/// A namespace that the deployment gives.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnChannels {
    /// Its rules. They open nothing to anybody: whose channel it is, and the scopes of servers, do.
    pub rules: Arc<ChannelRules>,
    /// Whether changes of jobs are told in it.
    pub jobs: bool,
}

impl Default for OwnChannels {
    fn default() -> Self {
        Self::keeping(KEEP, false)
    }
}

impl OwnChannels {
    fn keeping(keep: Keep, jobs: bool) -> Self {
        let rules = Arc::new(ChannelRules {
            subscribe: Who::Nobody,
            publish: Who::Nobody,
            presence: Who::Nobody,
            presence_grace_ms: PRESENCE_GRACE_MS,
            keep,
            on_subscribe: OnSubscribe::Missed,
        });
        Self { rules, jobs }
    }

    /// How much is kept of the changes of jobs; `None` where they are not told.
    pub fn keep(&self) -> Option<Keep> {
        self.jobs.then_some(self.rules.keep)
    }

    /// Reads a namespace. What is wrong is noted.
    pub(super) fn read(value: &Value, pointer: &str, faults: &mut Vec<Fault>) -> Self {
        let Some(mut fields) = Object::read(value, pointer, faults) else {
            return Self::default();
        };
        fields.text("description", "a text", Some);
        let jobs = fields.flag("jobs").unwrap_or(false);
        let mut keep = KEEP;
        if let Some(value) = fields.take("history") {
            read_history(value, &fields.at("history"), &mut keep, fields.faults);
        }
        fields.finish();
        Self::keeping(keep, jobs)
    }
}
