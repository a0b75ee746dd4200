//! What a `Hub` object can be asked.

use alloc::string::String;
use alloc::vec::Vec;

use tidegate_cbor::{Decode, Encode};

use super::admission::{Recalled, Returned};
use super::tenant::Description;
use super::{Answered, Principal, elsewhere};
use crate::channels::{Cursor, Message, Publication};
use crate::error::Error;
use crate::event::{Event, JsonText};
use crate::http::Accepted;
use crate::ids::{BatchId, ChannelName, JobId, Offset, RequestId, TenantId};
use crate::presence::{Heard, Told};

/// How an HTTP client prefers its answer (RFC 7240).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Prefer {
    /// `respond-async`.
    pub respond_async: bool,
    /// `wait=N`. Milliseconds.
    pub wait_ms: Option<u64>,
}

/// An event of a job, on its way to the sockets that follow it.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Delivery {
    /// The job.
    pub job: JobId,
    /// What happened.
    pub event: Event,
}

/// What a caller over HTTP asks of a channel.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum ChannelAsked {
    /// To publish a message.
    Publish(Publication),
    /// For a page of what is kept.
    History {
        /// Where it begins; `None`: with the oldest message.
        after: Option<Cursor>,
        /// So many messages at most.
        limit: u64,
    },
    /// Who is there.
    Presence,
}

/// A call to a `Hub` object.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Call {
    /// A request that came over HTTP: the same admission, the same enqueue.
    Request {
        /// Who asks.
        principal: Principal,
        /// The body, as it came.
        body: String,
        /// The `Idempotency-Key` header, where the body has no key of its own.
        idempotency_key: Option<String>,
        /// The `traceparent` header, where the body has none of its own.
        traceparent: Option<String>,
        /// The `Prefer` header.
        prefer: Prefer,
    },
    /// A batch of requests that came over HTTP: each is admitted as any other.
    Batch {
        /// Who asks.
        principal: Principal,
        /// The requests, as they came.
        items: Vec<String>,
        /// The `traceparent` header, where a request has none of its own.
        traceparent: Option<String>,
        /// The `Idempotency-Key` header: the batch and every request in it that has no key of its own is named by it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        idempotency_key: Option<String>,
    },
    /// Events for the sockets that follow their jobs.
    Deliver {
        /// The events, in order.
        deliveries: Vec<Delivery>,
    },
    /// Messages for the sockets that follow a channel. Answered by [`Reply::Heard`].
    Messages {
        /// The channel.
        channel: ChannelName,
        /// The cursor that they come after, as the channel believes the hub to be there.
        after: Cursor,
        /// The messages, in order. Where the first is not right behind the cursor, what lay between is no longer kept.
        messages: Vec<Message>,
        /// How far the hub is then.
        until: Offset,
    },
    /// What has become of a channel's presence. Answered by [`Reply::HeardPresence`].
    Presence {
        /// The channel.
        channel: ChannelName,
        /// What there is to tell.
        told: Told,
    },
    /// Something with a channel that came over HTTP. Answered by [`Reply::Text`].
    Channel {
        /// Who asks.
        principal: Principal,
        /// The channel.
        channel: ChannelName,
        /// What for.
        asked: ChannelAsked,
    },
    /// The tenant has changed.
    Refresh {
        /// What is active now.
        description: Description,
    },
    /// Which of these jobs does a socket follow? Answered by [`Reply::Delivered`].
    Followed {
        /// The jobs.
        jobs: Vec<JobId>,
    },
    /// Give back what is left of these leases: another hub needs it. Answered by [`Reply::Returned`].
    Recall {
        /// The leases.
        recalled: Vec<Recalled>,
    },
    /// Give up the places for connections that nobody needs. Answered by [`Reply::Places`].
    RecallPlaces,
}

impl Call {
    /// Checks that a call which speaks for somebody speaks for one of `tenant`. The envelope names the tenant of the object
    /// that it is sent to; whom it is sent for is said here.
    ///
    /// Errors: `INTERNAL_ERROR`.
    pub fn check(&self, tenant: &TenantId) -> Result<(), Error> {
        match self {
            Self::Request { principal, .. } | Self::Batch { principal, .. } | Self::Channel { principal, .. }
                if principal.tenant != *tenant =>
            {
                Err(elsewhere())
            }
            Self::Request { .. }
            | Self::Batch { .. }
            | Self::Deliver { .. }
            | Self::Messages { .. }
            | Self::Presence { .. }
            | Self::Channel { .. }
            | Self::Refresh { .. }
            | Self::Followed { .. }
            | Self::Recall { .. }
            | Self::RecallPlaces => Ok(()),
        }
    }
}

/// What a `Hub` object answers.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Reply {
    /// The request was answered on the spot.
    Answer {
        /// The request.
        request_id: RequestId,
        /// What the action gave, or why not.
        result: Result<JsonText, Error>,
        /// The job, where it became one.
        job: Option<JobId>,
        /// Whether the answer was stored by an earlier request with the same key.
        deduplicated: bool,
        /// Where a large result lies.
        result_url: Option<String>,
    },
    /// The request is stored as a job.
    Accepted(Accepted),
    /// What became of each request of a batch, in order: an answer, an acceptance, or a refusal.
    Batch {
        /// The answers.
        answers: Vec<Answered<Self>>,
        /// The batch. `None`: from a hub of an earlier version.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        batch: Option<BatchId>,
    },
    /// The events were taken; these jobs are followed by no socket any more.
    Delivered {
        /// The jobs.
        not_followed: Vec<JobId>,
    },
    /// How many places are needed; `None`: that cannot be said now, and none was given up.
    Places(Option<u32>),
    /// What was left of leases, which have ended.
    Returned(Vec<Returned>),
    /// Where the sockets of the hub are in a channel now; `None`: none of them follows it.
    Heard(Option<Cursor>),
    /// What the hub makes of a channel's presence.
    HeardPresence(Heard),
    /// What a caller over HTTP is answered, as it is.
    Text(JsonText),
    /// Done.
    Done,
}
