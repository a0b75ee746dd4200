//! Policies: conditions over who asks and for what, and what follows where one holds.
//!
//! A composition names them; the hub asks them for every request, behind the scopes and before any limit. They are asked
//! in order, the highest priority first. The first `allow` or `deny` whose condition holds decides; so does a scope that
//! is required and not there, while one that is there lets the next policy be asked. Where none decides, the request may
//! go on.
//!
//! **What fails is taken for the worse**: a condition that gives no value counts as holding for `deny` and
//! `require_scope`, and as not holding for `allow`. So no claim that is missing or has another form opens anything.

mod explain;
mod facts;
#[cfg(test)]
mod tests;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use tidegate_protocol::calls::queueing::ActionPattern;
use tidegate_protocol::fault::escape_pointer;
use tidegate_protocol::{Error, ErrorCode, Fault};

use crate::expression::{Expression, Failure};

pub use explain::{Asked, explain};
pub use facts::{CHANNEL_VARIABLES, CLAIMS_BYTES_MAX, Facts, Subject, Transport, VARIABLES, keep_claims};

/// What follows where a policy's condition holds. In the order in which policies of one priority are asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// The request is refused.
    Deny,
    /// It is refused without this scope.
    RequireScope(String),
    /// It goes on, and no other policy is asked.
    Allow,
}

/// A policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Its name in the composition.
    pub name: String,
    /// The higher, the earlier it is asked.
    pub priority: u64,
    /// Which actions it is about.
    pub actions: Vec<ActionPattern>,
    /// Its condition.
    pub when: Expression,
    /// What follows.
    pub effect: Effect,
}

/// What one policy comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The next one is asked.
    GoesOn,
    /// The request may go on.
    Allowed,
    /// It may not.
    Refused,
}

impl Policy {
    /// The order in which policies are asked.
    pub fn order(&self, other: &Self) -> core::cmp::Ordering {
        let priority = other.priority.cmp(&self.priority);
        let effect = self.effect.cmp(&other.effect);
        priority.then(effect).then_with(|| self.name.cmp(&other.name))
    }

    fn holds<'v>(&'v self, facts: &'v Facts<'v>) -> Result<bool, Failure> {
        self.when.holds(&facts)
    }

    fn verdict(&self, holds: &Result<bool, Failure>, facts: &Facts<'_>) -> Verdict {
        match (&self.effect, holds) {
            (_, Ok(false)) | (Effect::Allow, Err(_)) => Verdict::GoesOn,
            (Effect::Allow, Ok(true)) => Verdict::Allowed,
            (Effect::Deny, _) => Verdict::Refused,
            (Effect::RequireScope(scope), _) if facts.principal.scopes.contains(scope) => Verdict::GoesOn,
            (Effect::RequireScope(_), _) => Verdict::Refused,
        }
    }

    fn refusal(&self, facts: &Facts<'_>) -> Error {
        let (message, expected) = match &self.effect {
            Effect::RequireScope(scope) => (
                format!("The policy `{}` asks for the scope `{scope}`.", self.name),
                format!("the scope `{scope}`"),
            ),
            Effect::Deny | Effect::Allow => (
                format!("The policy `{}` does not allow this.", self.name),
                String::from("a request that the policy allows"),
            ),
        };
        let pointer = format!("/policies/{}", escape_pointer(&self.name));
        let got = match &self.effect {
            Effect::RequireScope(_) => facts
                .principal
                .scopes
                .iter()
                .fold(String::new(), |all, scope| all + scope + " "),
            Effect::Deny | Effect::Allow => String::from(facts.subject.as_str()),
        };
        Error {
            details: vec![Fault::new(pointer, expected, got.trim_end())],
            ..Error::new(ErrorCode::Forbidden, message)
        }
    }
}

/// Decides whether a request may go on. `policies` are those about its action, in order.
///
/// Errors: `FORBIDDEN` with the name of the policy that decided.
pub fn decide(policies: &[Arc<Policy>], facts: &Facts<'_>) -> Result<(), Error> {
    for policy in policies {
        match policy.verdict(&policy.holds(facts), facts) {
            Verdict::GoesOn => {}
            Verdict::Allowed => return Ok(()),
            Verdict::Refused => return Err(policy.refusal(facts)),
        }
    }
    Ok(())
}
