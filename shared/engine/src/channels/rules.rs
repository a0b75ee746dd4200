//! Who may do what with a channel.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use tidegate_protocol::calls::Principal;
use tidegate_protocol::ids::ChannelName;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode, Fault};

use crate::composition::{ChannelRules, OWN_NAMESPACES, Plan, Who};
use crate::policies::{Facts, Subject, Transport};

/// The scope with which every channel may be followed and read.
pub const READ: &str = "channels:read";
/// The scope with which one may publish in every channel: that of a tenant's servers.
pub const WRITE: &str = "channels:write";

/// What somebody wants with a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// To follow it, or read what is kept of it.
    Subscribe,
    /// To publish in it.
    Publish,
    /// To be told who is there, and to be there.
    Presence,
}

/// What is known of whoever wants something with a channel.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// The composition.
    pub plan: &'a Plan,
    /// Who.
    pub principal: &'a Principal,
    /// The clock.
    pub now: UnixMs,
    /// The way.
    pub transport: Transport,
}

impl<'a> Asking<'a> {
    /// The rules of the channel, where they allow `act`.
    ///
    /// Errors: `NOT_FOUND` where the composition has no rules for it, or where the token may neither follow it nor publish in it,
    /// in the same words; `FORBIDDEN` where it may do the other of the two; `NOT_IMPLEMENTED` for the channels of jobs.
    pub fn check(self, channel: &ChannelName, act: Act) -> Result<&'a Arc<ChannelRules>, Error> {
        if OWN_NAMESPACES.contains(&channel.namespace()) {
            let message =
                "The channels of jobs are part of the protocol, but not there yet: attach to a job by its id.";
            return Err(Error::new(ErrorCode::NotImplemented, message));
        }
        let unseen = || {
            let message = "There is no channel of this name that this token may see.";
            Error::new(ErrorCode::NotFound, message)
        };
        let rules = self.plan.channels.of(channel).ok_or_else(unseen)?;
        let (own, other) = match act {
            Act::Subscribe => (&rules.subscribe, &rules.publish),
            Act::Publish => (&rules.publish, &rules.subscribe),
            Act::Presence => (&rules.presence, &rules.subscribe),
        };
        let (scope, others) = match act {
            Act::Subscribe => (READ, WRITE),
            Act::Publish => (WRITE, READ),
            Act::Presence => (READ, READ),
        };
        if self.allows(own, scope, channel) {
            return Ok(rules);
        }
        if !self.allows(other, others, channel) {
            return Err(unseen());
        }
        Err(self.refusal(own, scope, channel, act))
    }

    fn allows(self, who: &Who, server: &str, channel: &ChannelName) -> bool {
        if self.principal.scopes.contains(server) {
            return true;
        }
        match who {
            Who::Nobody => false,
            Who::Anybody => true,
            Who::Those { scopes, when } => {
                let facts = Facts::new(self.principal, Subject::Channel(channel), 0, self.now, self.transport);
                // What gives no value opens nothing.
                let holds = when.as_ref().is_none_or(|when| when.holds(&&facts) == Ok(true));
                holds && scopes.iter().all(|scope| self.principal.scopes.contains(scope))
            }
        }
    }

    fn refusal(self, who: &Who, server: &str, channel: &ChannelName, act: Act) -> Error {
        let doing = match act {
            Act::Subscribe => "following it",
            Act::Publish => "publishing in it",
            Act::Presence => "seeing who is there",
        };
        let mut faults = Vec::new();
        let pointer = "/channel";
        if let Who::Those { scopes, .. } = who {
            let missing = scopes.iter().filter(|scope| !self.principal.scopes.contains(*scope));
            faults
                .extend(missing.map(|scope| Fault::new(pointer, format!("the scope `{scope}`"), "a token without it")));
        }
        if faults.is_empty() {
            let expected = format!("a channel whose rules allow {doing}, or the scope `{server}`");
            faults.push(Fault::new(pointer, expected, channel.as_str()));
        }
        Error {
            details: faults,
            ..Error::new(
                ErrorCode::Forbidden,
                format!("The rules of this channel do not allow {doing}."),
            )
        }
    }
}
