//! What a hub and the tenant's gate say to each other about limits on requests.
//!
//! The gate owns every limit. A hub admits out of leases, blocks of units that the gate has counted in advance; where a
//! lease does not reach, it asks. **Only the gate refuses**, and before it does so, it takes back what other hubs have
//! not used. So what is admitted never exceeds a limit, and nobody is refused while units are left elsewhere.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use tidegate_cbor::{Decode, Encode};

use crate::ids::HubIndex;
use crate::time::UnixMs;

/// A limit, for one of its keys: what units are counted in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Bucket {
    /// The limit's name in the composition.
    pub limit: String,
    /// The key that the request names by its own values; empty for a limit without keys.
    pub key: String,
}

/// What a limit allows for each of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Units over time, by the generic cell rate algorithm (GCRA, ITU-T I.371) in its form as a token bucket.
    Rate {
        /// So many units …
        units: u64,
        /// … in this time, evenly. Milliseconds.
        per_ms: u64,
        /// Units that may be taken at once after a pause.
        burst: u64,
    },
    /// Units in a window that slides.
    Quota {
        /// At most so many units …
        units: u64,
        /// … in any time of this length. Milliseconds.
        per_ms: u64,
    },
}

impl Rule {
    /// The most that one request can ever take.
    pub const fn units_max(&self) -> u64 {
        match self {
            Self::Rate { burst, .. } => *burst,
            Self::Quota { units, .. } => *units,
        }
    }

    /// Units in [`Self::per_ms`].
    pub const fn units(&self) -> u64 {
        match self {
            Self::Rate { units, .. } | Self::Quota { units, .. } => *units,
        }
    }

    /// The time in which the units are counted. Milliseconds.
    pub const fn per_ms(&self) -> u64 {
        match self {
            Self::Rate { per_ms, .. } | Self::Quota { per_ms, .. } => *per_ms,
        }
    }
}

/// Whether a hub may admit by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Consults {
    /// Out of leases.
    #[default]
    Leased,
    /// The gate is asked for each request.
    Always,
}

/// What a limit does where it has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Force {
    /// It refuses.
    #[default]
    Refuses,
    /// It counts what it would have refused, and refuses nothing.
    Counts,
}

/// A limit that a request has to pass.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Need {
    /// The limit and the key.
    pub bucket: Bucket,
    /// What it allows.
    pub rule: Rule,
    /// Units that the request takes: from 1 to [`Rule::units_max`].
    pub cost: u64,
    /// Whether the hub may decide by itself.
    pub consults: Consults,
    /// Whether it refuses.
    pub force: Force,
}

/// What a hub gives back of a lease, which ends with that.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Returned {
    /// Of which bucket.
    pub bucket: Bucket,
    /// Which lease.
    pub serial: u64,
    /// Units that were not used.
    pub left: u64,
}

/// Units that a hub would like to have in advance.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Wanted {
    /// Of which bucket.
    pub bucket: Bucket,
    /// What its limit allows.
    pub rule: Rule,
    /// How many.
    pub units: u64,
}

/// Units that were counted for a request which was then refused for another reason.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Refund {
    /// Of which bucket.
    pub bucket: Bucket,
    /// How many.
    pub units: u64,
    /// When they were counted, by the gate's clock.
    pub counted_at: UnixMs,
}

/// A hub asks the gate.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Ask {
    /// The hub.
    pub hub: HubIndex,
    /// What requests need that its leases do not cover, one list for each request.
    pub requests: Vec<Vec<Need>>,
    /// Leases that end.
    pub returned: Vec<Returned>,
    /// What was counted and not used, beside leases.
    pub refunds: Vec<Refund>,
    /// Leases that would spare it the next question.
    pub wanted: Vec<Wanted>,
}

/// What the gate says to one request.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every limit had room, and has counted it.
    Admitted,
    /// One had none, and none has counted anything.
    Refused(Refusal),
}

/// A limit that refused.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Refusal {
    /// Which, for which key.
    pub bucket: Bucket,
    /// What it allows.
    pub rule: Rule,
    /// Units that the request would have taken.
    pub cost: u64,
    /// Units that were left, too few.
    pub remaining: u64,
    /// When there can be room again, from now. Milliseconds.
    pub after_ms: u64,
}

/// Units that were counted in advance.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Lease {
    /// Of which bucket.
    pub bucket: Bucket,
    /// Its number in the bucket: higher than that of every lease before.
    pub serial: u64,
    /// How many.
    pub units: u64,
    /// How long they may be used, from when the hub asked. Milliseconds.
    pub lasts_ms: u64,
}

/// How full a bucket is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Standing {
    /// The bucket.
    pub bucket: Bucket,
    /// What its limit allows.
    pub rule: Rule,
    /// Units that can be taken now; those that are leased are not among them.
    pub remaining: u64,
    /// When all of them can be taken again, if none are taken. Milliseconds from now.
    pub reset_ms: u64,
}

/// What the gate answers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Decided {
    /// When it was decided, by the gate's clock.
    pub at: UnixMs,
    /// For each request, in order.
    pub verdicts: Vec<Verdict>,
    /// New leases.
    pub leases: Vec<Lease>,
    /// How full each bucket is that was asked for.
    pub standings: Vec<Standing>,
}

/// How often a limit has said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LimitCounts {
    /// Requests that it refused, beside those that hubs refused on its word.
    pub refused: u64,
    /// Requests that it would have refused, if it were not in shadow.
    pub would_have_refused: u64,
}

/// The gate takes back the leases of a bucket up to this number, used or on their way.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Recalled {
    /// The bucket.
    pub bucket: Bucket,
    /// The number of the hub's last lease.
    pub serial: u64,
}

impl Ask {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.returned.is_empty() && self.refunds.is_empty() && self.wanted.is_empty()
    }
}
