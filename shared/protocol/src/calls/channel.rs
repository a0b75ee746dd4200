//! What a `Channel` object can be asked.

use alloc::vec::Vec;

use tidegate_cbor::{Decode, Encode};

use super::Answered;
use crate::channels::{Cursor, HistoryPage, Message, Publication, Published};
use crate::event::JsonText;
use crate::ids::{HubIndex, UserId};
use crate::presence::{Mark, Roster};

/// Where a channel's messages are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Medium {
    /// In rows: a message that was published outlives whatever dies.
    #[default]
    Rows,
    /// In the memory of the object, for as long as it is awake: no message writes a row.
    Memory,
}

/// How much of a channel's log is kept, as its namespace says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Keep {
    /// So many messages at most.
    pub messages: u64,
    /// None that is older. Milliseconds.
    pub age_ms: u64,
    /// So many bytes of data at most, and the newest message in any case.
    pub bytes: u64,
    /// Where.
    #[serde(default)]
    pub medium: Medium,
}

/// A user who begins to follow, and wants to know who is there.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Attendance {
    /// Who is there from now on, unless they only watch.
    pub member: Option<Presentation>,
    /// How long a member whose sockets are gone is still there. Milliseconds.
    pub grace_ms: u64,
}

/// How a member presents themselves.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Presentation {
    /// Who.
    pub user: UserId,
    /// What they say of themselves.
    pub data: Option<JsonText>,
}

/// How a member goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Departure {
    /// At once: they said so.
    Now,
    /// Once the grace is over: their sockets are gone, and may come back.
    AfterGrace,
}

/// A call to a `Channel` object.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Call {
    /// A hub has sockets that follow the channel: it is told of every message from now on. Answered by [`Reply::Following`].
    Follow {
        /// The hub.
        hub: HubIndex,
        /// Where one of its sockets was.
        after: Option<Cursor>,
        /// How much is kept.
        keep: Keep,
        /// What its user wants of presence.
        #[serde(default)]
        presence: Option<Attendance>,
    },
    /// The last socket of a user that made them a member is gone. Answered by [`Reply::Done`].
    Leave {
        /// The hub.
        hub: HubIndex,
        /// Who.
        user: UserId,
        /// How.
        departure: Departure,
    },
    /// Who is there. Answered by [`Reply::Roster`].
    Roster,
    /// A message. Answered by [`Reply::Published`].
    Publish {
        /// The message.
        publication: Publication,
        /// Who publishes it.
        publisher: Option<UserId>,
        /// How much is kept.
        keep: Keep,
    },
    /// A page of what is kept. Answered by [`Reply::Page`].
    History {
        /// Where the page begins; `None`: with the oldest message.
        after: Option<Cursor>,
        /// So many messages at most.
        limit: u64,
        /// How much is kept.
        keep: Keep,
    },
}

/// Calls of one hub, answered in order.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Batch {
    /// The calls.
    pub calls: Vec<Call>,
}

/// What a `Channel` object answers.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Reply {
    /// The hub is told from here on.
    Following {
        /// The latest message.
        at: Cursor,
        /// Whether `messages` are all those after the cursor that was asked for.
        recovered: bool,
        /// Those up to `at`. The newest one alone where nothing was recovered.
        messages: Vec<Message>,
        /// Who is there, where that was asked for.
        #[serde(default)]
        presence: Option<Attended>,
    },
    /// The message is stored.
    Published(Published),
    /// A page.
    Page(HistoryPage),
    /// Who is there.
    Roster(Attended),
    /// Done.
    Done,
}

/// Who is in a channel, and of which state that is.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Attended {
    /// Who is there.
    pub roster: Roster,
    /// The state.
    pub mark: Mark,
}

/// The answers to a [`Batch`].
pub type Replies = Vec<Answered<Reply>>;
