//! What a hub knows of one socket. It travels in the socket's attachment, so that it outlives the hub's sleep.

use alloc::vec::Vec;

use tidegate_cbor::{Decode, Encode};
use tidegate_protocol::calls::Principal;
use tidegate_protocol::channels::Cursor;
use tidegate_protocol::ids::{ChannelName, ConnectionId, JobId, Offset, RequestId, Seq};
use tidegate_protocol::limits::FOLLOWS_MAX;
use tidegate_protocol::time::UnixMs;

use super::presence::Attending;
use super::tokens::WARNING_MS;

/// What a sleeping socket can keep: 16 KiB.
pub const ATTACHMENT_BYTES_MAX: usize = 16 * 1024;
/// Bytes of all scopes of a token that comes over a socket.
pub const SCOPES_BYTES_MAX: usize = 3 * 1024;
/// A follow at its largest: a request id of 128 bytes, and its names, number and seq in CBOR.
const FOLLOW_BYTES_MAX: usize = 128 + 64;
/// A subscription without its channel: its names, and a cursor in CBOR.
const SUBSCRIPTION_BYTES: usize = 96;
/// What presence adds to it: names, a grace and a state in CBOR.
const ATTENDING_BYTES: usize = 96;
const _: () = assert!(FOLLOWS_MAX * FOLLOW_BYTES_MAX + SCOPES_BYTES_MAX + 1024 <= ATTACHMENT_BYTES_MAX);

/// A job that a socket follows.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Follow {
    /// The job.
    pub job: JobId,
    /// The latest event that was sent.
    pub seq: Seq,
    /// The request or attach that the events answer.
    pub request_id: RequestId,
}

/// What a hub knows of one socket.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Session {
    /// The connection.
    pub connection: ConnectionId,
    /// Whose socket it is, as the token said.
    pub principal: Principal,
    /// The jobs that it follows.
    pub follows: Vec<Follow>,
    /// Bad frames in a row.
    pub faults: u32,
    /// Whether the socket was told that its token expires.
    #[serde(default)]
    pub warned: Warned,
    /// Until when its time is counted. `None`: by an instance that did not count.
    #[serde(default)]
    pub counted_until: Option<UnixMs>,
    /// The channels that it follows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscriptions: Vec<Subscription>,
    /// What the hub has counted of its tenant's use and not told, where this socket keeps it: of each meter.
    #[serde(default)]
    pub untold: Vec<u64>,
}

/// A channel that a socket follows.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Subscription {
    /// The channel.
    pub channel: ChannelName,
    /// How far all sockets of the hub were when this was written. One of those that follow a channel knows it best.
    pub at: Cursor,
    /// Up to here the socket was sent everything by itself, which may be further.
    pub from: Offset,
    /// What it has to do with its presence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<Attending>,
}

impl Subscription {
    /// What a sleeping socket keeps of one, at most. Bytes.
    pub fn bytes(channel: &ChannelName, attends: bool) -> usize {
        SUBSCRIPTION_BYTES + channel.as_str().len() + if attends { ATTENDING_BYTES } else { 0 }
    }
}

/// Whether a socket was told that its token expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Warned {
    /// It was not.
    #[default]
    NotYet,
    /// It was.
    Told,
}

impl Session {
    /// A session for a verified principal.
    pub fn new(connection: ConnectionId, principal: Principal) -> Self {
        Self {
            connection,
            principal,
            follows: Vec::new(),
            faults: 0,
            warned: Warned::NotYet,
            counted_until: None,
            untold: Vec::new(),
            subscriptions: Vec::new(),
        }
    }

    /// Whether a sleeping socket can keep so many jobs more, and so many bytes of subscriptions.
    pub fn has_room(&self, jobs: usize, bytes: usize) -> bool {
        let follows: usize = self
            .follows
            .iter()
            .map(|follow| 64 + follow.request_id.as_str().len())
            .sum();
        let of = |one: &Subscription| Subscription::bytes(&one.channel, one.presence.is_some());
        let subscriptions: usize = self.subscriptions.iter().map(of).sum();
        let more = jobs * FOLLOW_BYTES_MAX + bytes;
        follows + subscriptions + more <= FOLLOWS_MAX * FOLLOW_BYTES_MAX
    }

    /// When the socket is to be told that its token expires; `None`: it was told.
    pub fn warning_at(&self) -> Option<UnixMs> {
        let before = UnixMs(self.principal.expires_at.0.saturating_sub(WARNING_MS));
        Some(before).filter(|_| self.warned == Warned::NotYet)
    }

    /// Bytes for the attachment.
    ///
    /// Errors: `None` where it is too large, which the bounds above exclude.
    pub fn to_attachment(&self) -> Option<Vec<u8>> {
        Some(tidegate_cbor::to_vec(self)).filter(|bytes| bytes.len() <= ATTACHMENT_BYTES_MAX)
    }

    /// Reads an attachment. `None` where it is not one of ours.
    pub fn from_attachment(bytes: &[u8]) -> Option<Self> {
        tidegate_cbor::from_slice(bytes).ok()
    }

    /// Notes that the socket follows `job` and has its events up to `seq`.
    pub fn follow(&mut self, job: JobId, seq: Seq, request_id: RequestId) {
        match self
            .follows
            .iter_mut()
            .find(|follow| follow.job == job && follow.request_id == request_id)
        {
            Some(follow) => follow.seq = follow.seq.max(seq),
            None => self.follows.push(Follow { job, seq, request_id }),
        }
    }
}
