//! The decisions of one `Hub`: what a frame or request comes to, and what a socket is told of the jobs it follows.
//!
//! A hub owns sessions and nothing else. What it must not forget is in the sockets' attachments; it must not know how
//! a job runs, nor keep a row for one. [`Hub`] is the memory of one instance; [`Hub::restore`] fills it again.

mod admit;
mod batch;
mod channels;
mod deliveries;
mod followed;
mod frames;
mod limits;
mod log;
mod outgoing;
mod pending;
mod presence;
mod replies;
mod requests;
mod session;
mod sockets;
pub mod tickets;
mod tokens;
mod used;
mod workers;

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use tidegate_protocol::Error;
use tidegate_protocol::calls::access::Access;
use tidegate_protocol::calls::admission::Ask;
use tidegate_protocol::calls::channel;
use tidegate_protocol::calls::hub::{Delivery, Reply};
use tidegate_protocol::calls::jobs;
use tidegate_protocol::calls::spread::Spreads;
use tidegate_protocol::calls::usage::Counts;
use tidegate_protocol::frames::{AttemptSaid, CloseCode};
use tidegate_protocol::http::AuditRefusal;
use tidegate_protocol::ids::{ChannelName, ConnectionId, HubIndex, JobId, RequestId, ShardIndex};
use tidegate_protocol::time::UnixMs;

pub(crate) use admit::fingerprint_text;
pub use admit::{Admitted, Answers, Context, Run, admit, hub_of};
pub use batch::{BATCH_DATA_BYTES_MAX, BatchParts, batch_part_max};
pub use log::{Begun, Logged, Logging, Outcome};
pub use presence::{Attending, Role};
pub use session::{Follow, SCOPES_BYTES_MAX, Session, Subscription, Warned};
pub use tokens::WARNING_MS;
pub use used::SOCKET_COUNT_MS;
pub use workers::{Dealt, LEASES_MAX};

use batch::Batches;
use channels::Feed;
use limits::Limits;
use pending::Pending;
use workers::Leases;

use crate::audit::refusals::Tally;
use crate::composition::DeploymentLimits;
use crate::connections::Places;
use tidegate_protocol::{SortedMap, SortedSet};

/// How often a client sends a ping. Milliseconds.
pub const HEARTBEAT_MS: u64 = 30_000;
/// Bad frames in a row before the socket is closed. Enough for a person at a console, too few for a flood.
pub const FAULTS_MAX: u32 = 50;
/// Frames over the limit in a row before the socket is closed.
pub const OVERSIZE_MAX: u32 = 5;
/// Events kept for a job whose acknowledgment is still on its way. Each is at most some 70 KiB, most are tiny.
pub const PARKED_MAX: usize = 512;

/// Something the hub waits for. The hub numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A caller over HTTP. The shell numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpId(pub u64);

/// What the shell does after a turn. All of it may be lost with the hub: the client comes back and attaches.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send a text frame.
    Send {
        /// The socket.
        to: ConnectionId,
        /// The frame.
        frame: String,
    },
    /// Keep the session in the socket's attachment.
    Save {
        /// The socket.
        of: ConnectionId,
    },
    /// Close the socket.
    Close {
        /// The socket.
        to: ConnectionId,
        /// Why, and whether to come back.
        code: CloseCode,
        /// In words.
        reason: &'static str,
    },
    /// Call a `Jobs` object, then [`Hub::replied`].
    Call {
        /// This call.
        id: CallId,
        /// The object.
        shard: ShardIndex,
        /// What it is asked.
        call: Box<jobs::Call>,
    },
    /// Send the same text frames to many sockets.
    Broadcast {
        /// The sockets.
        to: Vec<ConnectionId>,
        /// The frames, in order.
        frames: Vec<String>,
    },
    /// Call a channel, then [`Hub::channel_replied`].
    Channel {
        /// This call.
        id: CallId,
        /// The channel.
        channel: ChannelName,
        /// What it is asked.
        call: Box<channel::Call>,
    },
    /// Run an action here, then [`Hub::ran`].
    Run {
        /// This run.
        id: CallId,
        /// What is run.
        run: Box<Run>,
    },
    /// Look at a token that is to take the place of a socket's, then [`Hub::authenticated`].
    Authenticate {
        /// The socket.
        to: ConnectionId,
        /// The frame that brought it.
        request_id: RequestId,
        /// The token, as it came.
        token: String,
    },
    /// Ask the tenant's gate whether limits have room, then [`Hub::decided`].
    Ask {
        /// What it is asked.
        ask: Box<Ask>,
    },
    /// Tell the tenant's gate what was refused here. Losing it loses a count.
    TellRefused {
        /// How many requests, by the reason.
        refused: Vec<AuditRefusal>,
    },
    /// Answer a caller over HTTP.
    Answer {
        /// The caller.
        to: HttpId,
        /// The reply or refusal.
        reply: Result<Reply, Error>,
    },
    /// Write a line of the request log, where its rules mean the request. Losing it loses the line.
    Log {
        /// The request.
        of: Box<Logged>,
    },
    /// Give jobs to a worker, each with the token of its attempt. Losing it is mended by the end of their leases.
    Lease {
        /// The socket.
        to: ConnectionId,
        /// The `lease` frame that this answers.
        request_id: RequestId,
        /// The jobs.
        jobs: Vec<Dealt>,
    },
    /// Hand on what an attempt says, if its token is good, then [`Hub::attempted`].
    Attempt {
        /// The socket.
        to: ConnectionId,
        /// The frame that said it.
        request_id: RequestId,
        /// The attempt's token, as it came.
        attempt_token: String,
        /// What it says.
        said: Box<AttemptSaid>,
    },
}

/// The memory of one hub.
#[derive(Debug, Clone)]
pub struct Hub {
    index: HubIndex,
    sessions: SortedMap<ConnectionId, Session>,
    followers: SortedMap<JobId, SortedSet<ConnectionId>>,
    pending: Pending,
    batches: Batches,
    feeds: SortedMap<ChannelName, Feed>,
    /// Whether one of them has an unsaved place.
    feeds_unsaved: bool,
    /// Events of jobs that no socket follows yet, while an acknowledgment may still be on its way.
    parked: VecDeque<Delivery>,
    spreads: Spreads,
    leases: Leases,
    limits: Limits,
    /// Who may not come in, as far as this hub heard.
    access: Access,
    /// What sockets were refused, for the audit trail.
    refusals: Tally,
    /// What the deployment allows the tenant, as far as this hub heard.
    deployment: DeploymentLimits,
    /// Places for connections that the gate has lent.
    places: Places,
    logging: Logging,
    /// Requests that were admitted, and not counted elsewhere yet.
    admitted: i64,
    /// The time of sockets, and what was kept by those that are gone, not counted elsewhere yet.
    untold: Counts,
}

/// The moment and the chance of a turn.
pub struct Moment<'a> {
    /// The clock.
    pub now: UnixMs,
    /// Randomness.
    pub random: &'a mut dyn FnMut() -> u64,
}

impl Hub {
    /// A hub with no sockets.
    pub fn new(index: HubIndex) -> Self {
        Self {
            index,
            sessions: SortedMap::new(),
            followers: SortedMap::new(),
            pending: Pending::default(),
            batches: Batches::default(),
            feeds: SortedMap::new(),
            feeds_unsaved: false,
            parked: VecDeque::new(),
            spreads: Spreads::only(1),
            leases: Leases::default(),
            limits: Limits::default(),
            access: Access::default(),
            refusals: Tally::default(),
            deployment: DeploymentLimits::default(),
            places: Places::default(),
            logging: Logging::Off,
            admitted: 0,
            untold: Counts::default(),
        }
    }

    /// From now on, the requests of sockets are told for the request log, or not.
    pub fn log(&mut self, logging: Logging) {
        self.logging = logging;
    }

    /// The tenant's jobs are spread so, as far as this hub heard. An older word than the last costs a detour, no more.
    pub fn spread(&mut self, spreads: Spreads) {
        self.spreads = spreads;
    }

    /// The deployment allows the tenant so much.
    pub fn limit(&mut self, limits: DeploymentLimits) {
        self.deployment = limits;
    }

    /// The session of a socket.
    pub fn session(&self, connection: &ConnectionId) -> Option<&Session> {
        self.sessions.get(connection)
    }

    /// Whether nothing is under way: no action runs here, and no call is on its way to a `Jobs` object.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// How many sockets there are.
    pub fn sockets(&self) -> usize {
        self.sessions.len()
    }
}
