//! What each object and the executor can be asked, and what it answers.

pub mod access;
pub mod admission;
pub mod audit;
pub mod backup;
pub mod channel;
pub mod directory;
pub mod executor;
pub mod feeds;
pub mod hooks;
pub mod hub;
pub mod jobs;
pub mod network;
pub mod once;
pub mod places;
pub mod queueing;
pub mod reporting;
pub mod schedules;
pub mod secrets;
mod selection;
pub mod spread;
pub mod tenant;
pub mod upstreams;
pub mod usage;
pub mod versions;

use alloc::boxed::Box;
use alloc::string::String;

use serde::{Deserialize, Serialize};
use tidegate_cbor::{Decode, Encode};

use self::access::Credential;
use self::network::Network;
use crate::SortedSet;
use crate::error::{Error, ErrorCode};
use crate::ids::{ObjectName, TenantId, UserId};
use crate::time::UnixMs;

/// The header that carries the verified principal from the Worker to a hub. Stripped from everything that comes from
/// outside.
pub const PRINCIPAL_HEADER: &str = "x-tidegate-principal";

/// Who is calling: what the verified token says, and nothing that the request says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, Encode, Decode)]
pub struct Principal {
    /// The tenant.
    pub tenant: TenantId,
    /// The user.
    pub user: UserId,
    /// What the token allows beyond the user's own things.
    pub scopes: SortedSet<String>,
    /// When the token is no longer good.
    pub expires_at: UnixMs,
    /// What the caller was authenticated by.
    #[serde(default)]
    pub credential: Credential,
    /// Where the caller comes from. No credential says this: the edge does.
    #[serde(default, skip_serializing_if = "Network::is_unknown")]
    pub network: Network,
}

impl Principal {
    /// The end of a credential that does not expire: later than any, and still a date.
    pub const NEVER: UnixMs = UnixMs(253_402_300_799_999);

    /// Whether other users' jobs are theirs to see.
    pub fn reads_all_jobs(&self) -> bool {
        self.scopes.contains("jobs:read") || self.scopes.contains("jobs:write")
    }

    /// The caller, as the objects need it.
    pub fn caller(&self) -> Caller {
        Caller {
            user: self.user.clone(),
            reads_all: self.reads_all_jobs(),
            writes_all: self.scopes.contains("jobs:write"),
            act: None,
        }
    }

    /// The caller, who does something that the audit trail may tell of.
    pub fn acting(&self, act: audit::Act) -> Caller {
        Caller {
            act: Some(Box::new(act)),
            ..self.caller()
        }
    }
}

/// A user of a tenant, and whether other users' jobs are theirs to see.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Caller {
    /// The user.
    pub user: UserId,
    /// Scope `jobs:read`: may see every job of the tenant.
    pub reads_all: bool,
    /// Scope `jobs:write`: may change every job of the tenant.
    pub writes_all: bool,
    /// The act that the call is part of, where the audit trail may tell of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Box<audit::Act>>,
}

impl Caller {
    /// Whether a job of `owner` may be seen.
    pub fn may_read(&self, owner: &UserId) -> bool {
        self.reads_all || self.writes_all || self.user == *owner
    }

    /// Whether a job of `owner` may be changed.
    pub fn may_write(&self, owner: &UserId) -> bool {
        self.writes_all || self.user == *owner
    }
}

/// A call to an object, with the tenant that it is made for. The object compares it with its own name.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Addressed<C> {
    /// The tenant of the verified token.
    pub tenant: TenantId,
    /// The call.
    pub call: C,
}

impl<C> Addressed<C> {
    /// The call, for the object `name` that it reached.
    ///
    /// Errors: `INTERNAL_ERROR` where it was made for another tenant, or the object has no name of ours.
    pub fn open(self, name: Option<&ObjectName>) -> Result<C, Error> {
        match name {
            Some(name) if *name.tenant() == self.tenant => Ok(self.call),
            _ => Err(elsewhere()),
        }
    }
}

fn elsewhere() -> Error {
    Error::new(ErrorCode::InternalError, "A call reached the object of another tenant.")
}

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Answered<R> {
    /// The reply.
    Reply(R),
    /// The refusal.
    Refused(Error),
}

impl<R> Answered<R> {
    /// The reply, or the refusal as an error.
    pub fn into_result(self) -> Result<R, Error> {
        match self {
            Self::Reply(reply) => Ok(reply),
            Self::Refused(error) => Err(error),
        }
    }
}

impl<R> From<Result<R, Error>> for Answered<R> {
    fn from(result: Result<R, Error>) -> Self {
        match result {
            Ok(reply) => Self::Reply(reply),
            Err(error) => Self::Refused(error),
        }
    }
}
