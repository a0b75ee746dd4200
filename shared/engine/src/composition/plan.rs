//! A composition that has been checked: what is asked of it on every request.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use tidegate_protocol::calls::executor::Policy;
use tidegate_protocol::calls::schedules::Schedule;
use tidegate_protocol::calls::tenant::Scale;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::fault::closest;
use tidegate_protocol::ids::{ActionName, Revision};
use tidegate_protocol::{Error, ErrorCode, Fault};

use super::admission::AdmissionRules;
use super::away::AwayRules;
use super::browsers::Origins;
use super::channels::Channels;
use super::hooks::OnEndRules;
use super::once::OnceRules;
use super::queue::QueueRules;
use super::webhooks::Webhooks;
use crate::connections::Bounds;
use crate::policies;
use tidegate_protocol::SortedMap;

/// Actions that are looked at for a name that may have been meant. A wrong name costs about a millisecond at most.
const SUGGESTION_CANDIDATES_MAX: usize = 256;

/// A composition, checked and with every default filled in. The same revision gives the same plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The revision of the document.
    pub revision: Revision,
    /// How the tenant is spread.
    pub scale: Scale,
    /// How many connections there may be at a time.
    pub connections: Bounds,
    /// The actions, by name.
    pub actions: SortedMap<ActionName, Arc<Action>>,
    /// The instances of patterns, by name.
    pub patterns: SortedMap<String, PatternInstance>,
    /// The schedules, in the order of their names.
    pub schedules: Vec<Schedule>,
    /// The sources of webhooks, by name.
    pub webhooks: Webhooks,
    /// The rules of channels.
    pub channels: Channels,
    /// The limits that their messages have to pass.
    pub channel_limits: AdmissionRules,
    /// Pages of which origins may use the tenant.
    pub origins: Origins,
}

/// A pattern in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternInstance {
    /// The pattern.
    pub pattern: String,
    /// Its configuration: a JSON object that the pattern found right.
    pub config: JsonText,
}

/// How an action answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeclaredMode {
    /// On the spot.
    Sync,
    /// As a job.
    Async,
    /// On the spot until the deadline, as a job from then on.
    Auto {
        /// The deadline, from the start of the request. Milliseconds.
        deadline_ms: u64,
    },
}

/// What a client can ask for.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Its name.
    pub name: ActionName,
    /// What it is for, where the composition says so.
    pub description: Option<String>,
    /// The instance of a pattern that runs it: a key of [`Plan::patterns`].
    pub instance: String,
    /// The pattern of the instance.
    pub pattern: String,
    /// The pattern's operation.
    pub operation: String,
    /// How it answers.
    pub mode: DeclaredMode,
    /// How it is tried. `timeout_ms` is that of the answer for a `sync` action, and of one attempt for any other.
    pub policy: Policy,
    /// The policies about it, in the order in which they are asked.
    pub policies: Vec<Arc<policies::Policy>>,
    /// Which limits its requests have to pass.
    pub admission: AdmissionRules,
    /// How its jobs wait.
    pub queue: QueueRules,
    /// What makes several requests for it one job.
    pub once: OnceRules,
    /// Scopes that a token must have, all of them.
    pub scopes: Vec<String>,
    /// Who is told of the ends of its jobs.
    pub on_end: Option<OnEndRules>,
    /// What becomes of its jobs that nobody follows any more.
    pub away: AwayRules,
    /// The operation's settings: a JSON object that the pattern found right.
    pub settings: JsonText,
    /// Whether a hub may run it itself.
    pub runs_in_hub: bool,
}

impl Plan {
    /// The action `name`.
    ///
    /// Errors: `INVALID_ACTION` where there is none, with the nearest name in its details.
    pub fn action(&self, name: &ActionName) -> Result<&Arc<Action>, Error> {
        self.actions.get(name).ok_or_else(|| self.unknown_action(name.as_str()))
    }

    fn unknown_action(&self, name: &str) -> Error {
        // A name whose length alone is too far off cannot be near: skip it before its distance is taken.
        let near = self.actions.keys().map(ActionName::as_str);
        let near = near.filter(|known| known.len().abs_diff(name.len()) <= (name.len() / 3).max(1));
        let mut fault = Fault::new("/action", "an action of the composition", name);
        // Who leaves out what groups actions names one all the same, where there is only one of that.
        let mut ends = self.actions.keys().map(ActionName::as_str).filter(|known| {
            let before = known.strip_suffix(name);
            before.is_some_and(|before| before.ends_with('.'))
        });
        let meant = closest(name, near.take(SUGGESTION_CANDIDATES_MAX));
        let meant = meant.or_else(|| ends.next().filter(|_| ends.next().is_none()));
        fault.suggestion = meant.map(String::from);
        let message = match &fault.suggestion {
            Some(meant) => format!("There is no action of this name. Did you mean `{meant}`?"),
            None => "There is no action of this name.".into(),
        };
        Error {
            details: alloc::vec![fault],
            ..Error::new(ErrorCode::InvalidAction, message)
        }
    }
}
