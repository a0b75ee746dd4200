//! The subscriptions of a link: which of them a frame is for.
//!
//! The server follows a channel once for a socket. Followers of the same channel therefore share what comes, each by its own
//! cursor, and the channel is left with the last of them.

use super::{Link, Ms, Output, State};
use crate::backoff::full_jitter;
use crate::channels::{ChannelUpdate, Cursor, Follower, Heard, Message, unsubscribe_frame};
use crate::error::{ApiError, Error};

/// A frame of a channel.
#[derive(Debug, Clone, PartialEq)]
pub enum ChannelFrame {
    /// A channel is followed, or a gap is told by the server itself.
    Subscribed {
        /// The channel.
        channel: String,
        /// The messages behind it come.
        at: Cursor,
        /// Whether everything behind the cursor that was sent comes.
        recovered: bool,
    },
    /// A channel may not be followed any more.
    Unsubscribed {
        /// The channel.
        channel: String,
        /// Why.
        error: ApiError,
    },
    /// A message of a channel.
    Message {
        /// The channel.
        channel: String,
        /// What came.
        message: Message,
    },
}

impl Link {
    /// Takes on a subscription.
    pub fn subscribe(&mut self, now: Ms, follower: Follower) {
        let id = follower.id().to_owned();
        self.followers.insert(id.clone(), follower);
        match self.state {
            State::Open { .. } => self.ask_to_follow(&id),
            State::Idle => self.connect(now),
            State::Waiting { .. } | State::Connecting { .. } => {}
        }
    }

    /// The application does not follow any more.
    pub fn unsubscribe(&mut self, id: &str) {
        self.again.remove(id);
        if let Some(gone) = self.followers.remove(id) {
            self.leave(gone.id(), gone.channel());
        }
    }

    /// Leaves a channel that nobody here follows.
    fn leave(&mut self, id: &str, channel: &str) {
        let followed = self.followers.values().any(|other| other.channel() == channel);
        if let (State::Open { .. }, false) = (&self.state, followed) {
            let frame = unsubscribe_frame(&format!("{id}.unsubscribe"), channel);
            self.outputs.push_back(Output::Send(frame));
        }
    }

    /// Sends the `subscribe` frame of a follower.
    pub(super) fn ask_to_follow(&mut self, id: &str) {
        if let Some(follower) = self.followers.get_mut(id) {
            let frame = follower.ask();
            self.outputs.push_back(Output::Send(frame));
        }
    }

    /// A frame of a channel came.
    pub(super) fn channel_frame(&mut self, now: Ms, roll: u64, request_id: Option<&str>, frame: &ChannelFrame) {
        let (ChannelFrame::Subscribed { channel, .. }
        | ChannelFrame::Unsubscribed { channel, .. }
        | ChannelFrame::Message { channel, .. }) = frame;
        let mut heard = Vec::new();
        for follower in self.followers.values_mut().filter(|one| one.channel() == channel) {
            let id = follower.id().to_owned();
            let what = match frame {
                ChannelFrame::Subscribed { at, recovered, .. } => vec![match request_id {
                    Some(answered) if answered == id => follower.subscribed(at.clone(), *recovered),
                    Some(_) => follower.another_subscribed(at),
                    None => follower.gap(at),
                }],
                ChannelFrame::Unsubscribed { error, .. } => vec![follower.unsubscribed(error)],
                ChannelFrame::Message { message, .. } => follower.message(message),
            };
            heard.extend(what.into_iter().map(|heard| (id.clone(), heard)));
        }
        for (id, heard) in heard {
            self.heard(now, roll, &id, heard);
        }
        // An answer that crossed the end of the last subscription.
        if let (ChannelFrame::Subscribed { .. }, Some(id)) = (frame, request_id)
            && !self.followers.contains_key(id)
        {
            self.leave(id, channel);
        }
    }

    /// A `subscribe` was refused. Says whether there was one of that id.
    pub(super) fn subscribe_refused(&mut self, now: Ms, roll: u64, id: &str, error: &ApiError) -> bool {
        let Some(follower) = self.followers.get_mut(id) else {
            return false;
        };
        let heard = follower.refused(error.clone());
        self.heard(now, roll, id, heard);
        true
    }

    fn heard(&mut self, now: Ms, roll: u64, id: &str, heard: Heard) {
        match heard {
            Heard::Nothing => {}
            Heard::Missing => self.ask_to_follow(id),
            Heard::AskAgain(after_ms) => self.ask_later(now, roll, id, after_ms),
            Heard::Told(update) => {
                if let ChannelUpdate::Ended { .. } = update {
                    self.followers.remove(id);
                    self.again.remove(id);
                }
                self.outputs.push_back(Output::Tell(id.to_owned(), Box::new(update)));
            }
        }
    }

    /// The series of failures is the connection's; a server that is up but busy is asked about each second.
    pub(super) fn ask_later(&mut self, now: Ms, roll: u64, id: &str, after_ms: Option<u64>) {
        let wait = after_ms.unwrap_or(0).saturating_add(full_jitter(2, roll)).max(1);
        self.again.insert(id.to_owned(), now.saturating_add(wait));
    }

    /// Tells every follower the same.
    pub(super) fn tell_followers(&mut self, update: impl Fn() -> ChannelUpdate) {
        for id in self.followers.keys() {
            self.outputs.push_back(Output::Tell(id.clone(), Box::new(update())));
        }
    }

    /// Ends every subscription: the server cannot be asked any more.
    pub(super) fn end_followers(&mut self, error: &Error) {
        for id in std::mem::take(&mut self.followers).into_keys() {
            let error = error.clone();
            self.outputs
                .push_back(Output::Tell(id, Box::new(ChannelUpdate::Ended { error })));
        }
    }
}

#[cfg(test)]
#[path = "channels_tests.rs"]
mod tests;
