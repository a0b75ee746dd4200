//! What a `Tenant` object can be asked.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use tidegate_cbor::{Decode, Encode};

use super::access::{Access, Change};
use super::admission::{Ask, Decided, Returned};
use super::audit::Act;
use super::schedules::Schedule;
use super::secrets::Sealed;
use super::spread::Spreads;
use super::upstreams::{Consult, SetBreaker, Standing};
use super::{Caller, Principal};
use crate::event::JsonText;
use crate::http::{AuditRefusal, QueueView};
use crate::ids::{ChannelName, EndpointId, HubIndex, Revision, SecretName, ShardIndex, UserId};
use crate::time::UnixMs;

/// How a tenant is spread over objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Scale {
    /// How many hubs hold the tenant's sockets.
    pub hubs: u16,
    /// How many objects hold the tenant's jobs.
    pub shards: u16,
}

impl Default for Scale {
    fn default() -> Self {
        Self { hubs: 1, shards: 1 }
    }
}

/// What the other parts need to know of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Description {
    /// The active composition; `None`: the default one.
    pub revision: Option<Revision>,
    /// How the tenant is spread.
    pub scale: Scale,
    /// Rises with every change of this, so that an older description can be told.
    pub version: u64,
    /// Every number of shards that the tenant has had; empty from a gate of before tenants could grow.
    #[serde(default)]
    pub spreads: Spreads,
    /// How many shards there will be, while the tenant grows. Some of them may hold jobs already.
    #[serde(default)]
    pub growing_to: Option<u16>,
    /// How often what messages to endpoints are signed with was changed.
    #[serde(default)]
    pub webhook_generation: u64,
    /// Until when messages are signed with what was there before as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_old_until: Option<UnixMs>,
    /// Who may not come in.
    #[serde(default, skip_serializing_if = "Access::is_open")]
    pub access: Access,
    /// What the deployment's operator allows the tenant, as text: the body of `PUT /v1/admin/tenants/{tenant}/limits`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<JsonText>,
}

impl Description {
    /// Every number of shards that the tenant has had.
    pub fn spreads(&self) -> Spreads {
        if self.spreads.0.is_empty() {
            return Spreads::only(self.scale.shards);
        }
        self.spreads.clone()
    }

    /// How many objects may hold jobs: what is asked of all of a tenant's jobs is asked of all of these.
    pub fn reach(&self) -> u16 {
        self.growing_to.unwrap_or(self.scale.shards)
    }
}

/// A call to a `Tenant` object.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Call {
    /// What is active?
    Describe,
    /// Keep a checked composition and make it the active one.
    Activate {
        /// The document.
        document: String,
        /// Its revision, by content.
        revision: Revision,
        /// How it spreads the tenant.
        scale: Scale,
        /// Its schedules, compiled.
        #[serde(default)]
        schedules: Vec<Schedule>,
        /// Who did it.
        by: String,
        /// The act that it is, for the audit trail.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        act: Option<Box<Act>>,
        /// The secrets that it refers to, each with the pointer to where it does. Where one is not set, it is refused.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        secrets: Vec<(String, SecretName)>,
    },
    /// The text of a composition.
    Document {
        /// Its revision.
        revision: Revision,
    },
    /// Take down what was done in an object of the job queue. What was taken down before changes nothing.
    Record {
        /// The object.
        shard: ShardIndex,
        /// Its entries, in the order of their numbers: each a [`crate::http::AuditEntry`], as the text that the API shows.
        entries: Vec<Recorded>,
    },
    /// Show the audit trail, newest first.
    Audit(AuditQuery),
    /// Do the limits of these requests have room? Answered by [`Reply::Decided`].
    Admit(Box<Ask>),
    /// What a hub has not used of its leases.
    GiveBack {
        /// The hub.
        hub: HubIndex,
        /// The leases.
        returned: Vec<Returned>,
    },
    /// What was refused elsewhere, of callers that are known. Answered by [`Reply::TakenBack`].
    Refused {
        /// How many requests, by the reason.
        refused: Vec<AuditRefusal>,
    },
    /// A hub has `live` connections, and needs a place for one more. Answered by [`Reply::Places`].
    Connect {
        /// The hub.
        hub: HubIndex,
        /// Its connections.
        live: u32,
        /// How many the tenant may have, on all hubs.
        most: NonZeroU32,
    },
    /// How often limits on requests have refused, and how full the buckets of one are.
    Limits {
        /// That one.
        limit: String,
        /// Its buckets from this key on.
        from: String,
        /// At most so many.
        count: u32,
    },
    /// What is active, where that is another version than this one? Answered by [`Reply::Description`] or [`Reply::Same`].
    Since {
        /// The version that is known.
        version: u64,
    },
    /// Whom does the API key with this hash speak for? Answered by [`Reply::Principal`].
    Identify {
        /// The hash.
        hash: String,
    },
    /// Change who may come in. Answered by [`Reply::Shown`].
    Access {
        /// The change.
        change: Change,
        /// Who makes it.
        caller: Caller,
    },
    /// The API keys; answered by [`Reply::Shown`].
    Keys,
    /// The revocations in force; answered by [`Reply::Shown`].
    Revocations,
    /// How does this breaker stand, after these outcomes? Answered by [`Reply::Standing`].
    Consult(Box<Consult>),
    /// Show the breakers.
    Upstreams,
    /// Open, close or disable a breaker by hand. Answered by [`Reply::Upstreams`].
    SetBreaker(Box<SetBreaker>),
    /// A request with an idempotency key begins. Answered by [`Reply::Begun`], or refused: `IDEMPOTENCY_IN_PROGRESS`,
    /// `IDEMPOTENCY_MISMATCH`, `RATE_LIMITED`.
    Begin {
        /// The key within its scope, hashed.
        name: String,
        /// What tells the request from others, hashed.
        fingerprint: String,
        /// Drawn for this request alone, below 2^53.
        token: u64,
    },
    /// A request with an idempotency key has ended. Answered by [`Reply::Ended`].
    End {
        /// As it began.
        name: String,
        /// As it began.
        token: u64,
        /// What is answered to whoever comes with the key again: a [`crate::http::KeptAnswer`], as text. `None` where
        /// nothing was decided, which frees the key.
        answer: Option<String>,
    },
    /// Keep a value of a secret, sealed, as its next version. Answered by [`Reply::Shown`]; `CONFLICT` where it is another
    /// version's turn. The same once more changes nothing.
    SetSecret {
        /// The value.
        secret: Sealed,
        /// How long the version before it stays good. Milliseconds.
        overlap_ms: u64,
        /// Who sets it.
        caller: Caller,
    },
    /// Delete a secret with all its versions. Answered by [`Reply::Ended`].
    DeleteSecret {
        /// Its name.
        name: SecretName,
        /// Who deletes it.
        caller: Caller,
    },
    /// Show the secrets, without their values. Answered by [`Reply::Shown`].
    ListSecrets {
        /// What those begin with that were sealed with the deployment's key of now.
        key: String,
    },
    /// How the tenant is, with what its queue says. Answered by [`Reply::Shown`].
    Health {
        /// What sealed secrets begin with, as in [`Call::ListSecrets`].
        key: String,
        /// The queue, over all objects that answered.
        queue: Box<QueueView>,
        /// The objects of it that did not answer.
        unreachable: Vec<ShardIndex>,
    },
    /// The versions of these secrets that are good, sealed. Answered by [`Reply::Secrets`].
    Secrets {
        /// Their names.
        names: Vec<SecretName>,
    },
    /// What an object has counted: a [`Report`](super::usage::Report), as numbers. What was told before changes nothing.
    /// Answered by [`Reply::Ended`].
    Used(Vec<u64>),
    /// Show what was used. Answered by [`Reply::Shown`].
    Usage {
        /// In windows of this length, as the API writes it.
        window: String,
        /// From this moment on.
        from: UnixMs,
        /// Until this one.
        to: UnixMs,
        /// What a unit of each meter costs, in their order: in billionths of a thousandth of the currency.
        prices: Vec<u64>,
        /// What the prices are in.
        currency: String,
        /// How it is written.
        form: UsageForm,
    },
    /// An operator's budgets for the tenant take the place of those before: the body of
    /// `PUT /v1/admin/tenants/{tenant}/budgets`. Answered by [`Reply::Shown`].
    SetBudgets {
        /// The budgets, as JSON.
        budgets: String,
        /// Who sets them.
        caller: Caller,
    },
    /// An operator's limits for the tenant take the place of those before: the body of
    /// `PUT /v1/admin/tenants/{tenant}/limits`. Answered by [`Reply::Ended`].
    SetLimits {
        /// The limits, as JSON.
        limits: String,
        /// Who sets them.
        caller: Caller,
    },
    /// Change the endpoints. Answered by [`Reply::Shown`].
    ChangeEndpoints {
        /// The change.
        change: EndpointChange,
        /// Who makes it.
        caller: Caller,
    },
    /// Show the endpoints. Answered by [`Reply::Shown`].
    Endpoints,
    /// Something about the channels that hold anything.
    Channels(Channels),
}

/// How what was used is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub enum UsageForm {
    /// As the API shows it.
    #[default]
    View,
    /// A line of JSON for each window; all of them as a JSON string.
    Lines,
    /// CSV (RFC 4180), with a header; all of it as a JSON string.
    Csv,
}

/// A change of a tenant's endpoints, or of what messages to them are signed with.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum EndpointChange {
    /// Sign with another secret, and for so long with the old one as well. Milliseconds.
    Rotate {
        /// So long.
        overlap_ms: u64,
    },
    /// Make an endpoint.
    Create {
        /// Its id.
        id: EndpointId,
        /// What it is to be, as the client wrote it.
        body: String,
    },
    /// Change an endpoint.
    Change {
        /// Its id.
        id: EndpointId,
        /// What is to be different, as the client wrote it.
        body: String,
    },
    /// Delete an endpoint.
    Delete {
        /// Its id.
        id: EndpointId,
    },
}

/// An entry of the audit trail on its way to the gate.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Recorded {
    /// Its number in the object that it comes from, one higher than that of the entry before.
    pub number: u64,
    /// The entry.
    pub entry: JsonText,
}

/// Which entries of the audit trail are meant. What is `None` does not narrow.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct AuditQuery {
    /// Only of this kind: an [`crate::http::AuditWhat`], as the API writes it.
    pub what: Option<String>,
    /// Only by this user.
    pub user: Option<UserId>,
    /// Only done at this moment or later.
    pub from: Option<UnixMs>,
    /// Only done before this moment.
    pub to: Option<UnixMs>,
    /// Only taken down before the entry with this number.
    pub below: Option<u64>,
    /// Only taken down after the entry with this number; then as they were written, and oldest first.
    #[serde(default)]
    pub after: Option<u64>,
    /// At most so many.
    pub limit: u32,
}

/// Channels of one list.
pub const CHANNELS_LISTED_MAX: usize = 100;

/// Something about the tenant's channels that hold anything.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Channels {
    /// One is about to store its first row. Answered by [`Reply::Recorded`].
    Note(ChannelName),
    /// Which are there after this one, in the order of their names? Answered by [`Reply::Channels`].
    List(Option<ChannelName>),
    /// These hold nothing any more. Answered by [`Reply::Recorded`].
    Forget(Vec<ChannelName>),
}

/// What a `Tenant` object answers.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Reply {
    /// What is active.
    Description(Description),
    /// The text of a composition.
    Document(String),
    /// The entries are taken down.
    Recorded,
    /// A part of the audit trail as the API shows it: an [`crate::http::AuditPage`]. As text, which whoever asked passes on.
    Audit(JsonText),
    /// What was decided.
    Decided(Box<Decided>),
    /// It is taken back.
    TakenBack,
    /// How many connections the hub may have now. Not more than it has: there is no place for another.
    Places(u32),
    /// The limits, as the API shows them: a [`crate::http::LimitsView`]. As text, which whoever asked passes on.
    Limits(JsonText),
    /// What is active is what is known.
    Same,
    /// Whom a key speaks for; `None`: it is none, or no longer.
    Principal(Option<Box<Principal>>),
    /// What was asked for, as the API shows it.
    Shown(JsonText),
    /// How a breaker stands.
    Standing(Standing),
    /// The breakers, as the API shows them: a [`crate::http::UpstreamsView`]. As text, which whoever asked passes on.
    Upstreams(JsonText),
    /// The request is whoever asked's to make; or the answer that it had before, as text.
    Begun(Option<String>),
    /// It is noted.
    Ended,
    /// What is good of the secrets that were asked for, each in its current version, and behind that in the one before
    /// where that is good still. What is not there is left out.
    Secrets(Vec<Sealed>),
    /// Channels that hold something, in the order of their names. Fewer than [`CHANNELS_LISTED_MAX`]: there are no more.
    Channels(Vec<ChannelName>),
}
