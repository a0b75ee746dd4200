//! What shards tell channels: the changes of jobs.

use alloc::vec::Vec;

use tidegate_cbor::{Decode, Encode};

use super::channel::Keep;
use crate::event::JsonText;

/// In which channels the changes of a job are told, and how much of those is kept where nobody has followed them yet. None of
/// them where the composition does not ask for it. Frozen when the job is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Feeds {
    /// In the channel of all jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Keep>,
    /// In the channel of the job's user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Keep>,
}

impl Feeds {
    /// Whether nobody is told.
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Changes of jobs that are told together: those of one turn, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Changes {
    /// Their place among all that the shard tells. It only rises, and is never given twice.
    pub number: u64,
    /// What the messages say: each a [`JobChange`](crate::changes::JobChange).
    pub changes: Vec<JsonText>,
}
