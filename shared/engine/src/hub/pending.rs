//! What a hub waits for: calls to `Jobs` objects and runs of its own, who asked, and what a reply means to them.
//!
//! Two questions are put with every frame and every batch of events: how much a socket has under way, and whether
//! anybody may be about to follow a job. Both are counted as calls come and go, never by looking at all of them.

use alloc::boxed::Box;

use tidegate_protocol::calls::channel::{Attendance, Keep};
use tidegate_protocol::channels::Cursor;
use tidegate_protocol::ids::{ChannelName, ConnectionId, RequestId, Seq, ShardIndex};

use super::limits::Counted;
use super::log::Begun;
use super::{Answers, CallId, HttpId};
use crate::composition::OnSubscribe;
use tidegate_protocol::SortedMap;

/// Who waits for what comes of a call.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Asker {
    /// A socket, and what the request log is told of its request.
    Socket(ConnectionId, Option<Box<Begun>>),
    Http(HttpId),
    /// One request of a batch, by its place.
    Item(HttpId, usize),
    /// A call of a worker, by its number, at one shard.
    Worker(u64, ShardIndex),
}

/// What a reply means to the one who asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Question {
    Request {
        answers: Answers,
        /// What the limits of the request have counted.
        counted: Option<Box<Counted>>,
    },
    Attach {
        after: Option<Seq>,
    },
    Cancel,
    Run,
    /// Whether its limits have room.
    Limits,
    /// Jobs for a worker, or an end of such a call.
    Lease,
    /// To follow a channel.
    Subscribe(Box<Subscribing>),
    /// To publish a message in a channel.
    Publish {
        channel: ChannelName,
        /// What the limits of the message have counted.
        counted: Option<Box<Counted>>,
    },
    /// What is kept of a channel.
    History,
    /// Who is in a channel.
    Roster(ChannelName),
    /// The same, because an answer was behind.
    RosterAgain(ChannelName),
}

/// A socket that is about to follow a channel.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Subscribing {
    pub channel: ChannelName,
    pub after: Option<Cursor>,
    pub keep: Keep,
    pub on_subscribe: OnSubscribe,
    /// Whether the channel was asked before, and what it said was no longer true.
    pub again: bool,
    /// What the socket wants of presence.
    pub presence: Option<Attendance>,
}

impl Question {
    /// Whether the one who asked will follow a job whose events may overtake the reply.
    fn follows(&self) -> bool {
        match self {
            Self::Request { .. } | Self::Attach { .. } => true,
            Self::Cancel
            | Self::Run
            | Self::Limits
            | Self::Lease
            | Self::Subscribe(_)
            | Self::Publish { .. }
            | Self::History
            | Self::Roster(_)
            | Self::RosterAgain(_) => false,
        }
    }
}

/// A call or a run that is under way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    pub asker: Asker,
    pub request_id: RequestId,
    pub question: Question,
}

/// Everything that is under way.
#[derive(Debug, Clone, Default)]
pub(super) struct Pending {
    calls: SortedMap<CallId, Asked>,
    /// How many of them each socket has asked for; no socket stands here with none.
    by_socket: SortedMap<ConnectionId, usize>,
    /// How many of them end in following a job.
    following: usize,
    next: u64,
}

impl Pending {
    /// Notes what was asked, and gives it a number.
    pub fn add(&mut self, asked: Asked) -> CallId {
        let id = self.number();
        if let Asker::Socket(connection, _) = &asked.asker {
            *self.by_socket.entry(connection.clone()).or_default() += 1;
        }
        self.following += usize::from(asked.question.follows());
        self.calls.insert(id, asked);
        id
    }

    /// A number for a call that nobody waits for.
    pub fn number(&mut self) -> CallId {
        let id = CallId(self.next);
        self.next += 1;
        id
    }

    /// Takes out what was asked under `id`; `None` where nothing waits for it any more.
    pub fn take(&mut self, id: CallId) -> Option<Asked> {
        let asked = self.calls.remove(&id)?;
        if let Asker::Socket(connection, _) = &asked.asker
            && let Some(count) = self.by_socket.get_mut(connection)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_socket.remove(connection);
            }
        }
        self.following = self.following.saturating_sub(usize::from(asked.question.follows()));
        Some(asked)
    }

    /// Who asked under `id`.
    pub fn asker(&self, id: CallId) -> Option<&Asker> {
        self.calls.get(&id).map(|asked| &asked.asker)
    }

    /// How much `connection` has under way.
    pub fn of_socket(&self, connection: &ConnectionId) -> usize {
        self.by_socket.get(connection).copied().unwrap_or(0)
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Whether anybody may be about to follow a job, so that an event that finds no follower must be kept.
    pub fn awaits_followers(&self) -> bool {
        self.following > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn asked(n: u8) -> Asked {
        let asker = match n % 4 {
            0 => Asker::Http(HttpId(u64::from(n))),
            socket => Asker::Socket(
                ConnectionId::parse(["con_1", "con_2", "con_3"][usize::from(socket) - 1]).unwrap(),
                None,
            ),
        };
        let question = match n / 4 % 4 {
            0 => Question::Request {
                answers: Answers::ByEvents,
                counted: None,
            },
            1 => Question::Attach { after: None },
            2 => Question::Cancel,
            _ => Question::Run,
        };
        Asked {
            asker,
            request_id: RequestId::parse("r").unwrap(),
            question,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Replies come in any order, twice, or for what was never asked.
        #[test]
        fn the_counts_are_those_of_what_is_under_way(steps in proptest::collection::vec((any::<bool>(), 0_u8..16), 0..60)) {
            let mut pending = Pending::default();
            for (adds, n) in steps {
                if adds {
                    pending.add(asked(n));
                } else {
                    pending.take(CallId(u64::from(n)));
                }
                let of = |name: &str| {
                    let asker = Asker::Socket(ConnectionId::parse(name).unwrap(), None);
                    pending.calls.values().filter(|asked| asked.asker == asker).count()
                };
                for name in ["con_1", "con_2", "con_3", "con_4"] {
                    prop_assert_eq!(pending.of_socket(&ConnectionId::parse(name).unwrap()), of(name));
                }
                prop_assert!(pending.by_socket.values().all(|count| *count > 0));
                let follows: Vec<bool> = pending.calls.values().map(|asked| asked.question.follows()).collect();
                prop_assert_eq!(pending.awaits_followers(), follows.contains(&true));
            }
        }
    }
}
