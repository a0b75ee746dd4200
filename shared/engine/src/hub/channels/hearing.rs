//! What a channel tells: news to the sockets, gaps said, everything else passed over.

use alloc::vec;
use alloc::vec::Vec;

use tidegate_protocol::channels::{Cursor, Message};
use tidegate_protocol::frames::CloseCode;
use tidegate_protocol::ids::{ChannelName, ConnectionId, Offset};
use tidegate_protocol::time::UnixMs;

use super::feed::{Batch, PARKED_MAX, message_frame, subscribed};
use crate::hub::outgoing::close;
use crate::hub::session::Session;
use crate::hub::{Effect, Hub};

impl Hub {
    /// Messages of a channel. Says how far the sockets are then; `None`: none follows it.
    pub fn hear(
        &mut self,
        now: UnixMs,
        channel: &ChannelName,
        after: Cursor,
        messages: Vec<Message>,
        until: Offset,
    ) -> (Vec<Effect>, Option<Cursor>) {
        let mut effects = Vec::new();
        let Some(feed) = self.feeds.get_mut(channel) else {
            return (effects, None);
        };
        let Some(at) = feed.at.clone() else {
            // The first answer is on its way: it says what of this is news. What has no room is asked for again.
            let here = Cursor {
                offset: until,
                ..after.clone()
            };
            if feed.parked.len() < PARKED_MAX {
                feed.parked.push(Batch { after, messages, until });
            }
            return (effects, Some(here));
        };
        let at = if at.epoch == after.epoch {
            at
        } else {
            self.begin_anew(channel, after.clone(), &mut effects);
            after.clone()
        };
        if after.offset > at.offset {
            return (effects, Some(at));
        }
        let news: Vec<Message> = messages
            .into_iter()
            .filter(|message| message.offset > at.offset)
            .collect();
        let begins = news.first().map_or(until.next(), |first| first.offset);
        if until > at.offset && begins > at.offset.next() {
            let to = Cursor {
                offset: Offset(begins.0.saturating_sub(1)),
                ..at.clone()
            };
            self.begin_anew(channel, to, &mut effects);
        }
        self.end_expired(now, channel, &mut effects);
        let Some(feed) = self.feeds.get_mut(channel) else {
            return (effects, None);
        };
        if let (Some(first), Some(last)) = (news.first(), news.last()) {
            let frames = |from: Offset| {
                let later = news.iter().filter(move |message| message.offset > from);
                later
                    .map(|message| message_frame(channel, &at, message).encode())
                    .collect::<Vec<_>>()
            };
            let whole = |from: &Offset| *from < first.offset;
            let all = feed.subscribers.iter().filter(|(_, from)| whole(from));
            let to: Vec<ConnectionId> = all.map(|(to, _)| to.clone()).collect();
            if !to.is_empty() {
                let frames = frames(Offset(0));
                effects.push(Effect::Broadcast { to, frames });
            }
            for (to, from) in feed
                .subscribers
                .iter()
                .filter(|(_, from)| !whole(from) && **from < last.offset)
            {
                effects.push(Effect::Broadcast {
                    to: vec![to.clone()],
                    frames: frames(*from),
                });
            }
            if feed.waiting > 0 {
                for message in &news {
                    feed.remember(message);
                }
            }
            feed.newest = Some(last.clone());
        }
        let here = Cursor {
            offset: at.offset.max(until),
            ..at
        };
        if feed.at.as_ref() != Some(&here) {
            feed.unsaved = true;
            self.feeds_unsaved = true;
        }
        feed.at = Some(here.clone());
        (effects, Some(here))
    }

    /// There is a gap up to `to`, or another life of the log begins there: the sockets are told so.
    pub(super) fn begin_anew(&mut self, channel: &ChannelName, to: Cursor, effects: &mut Vec<Effect>) {
        let Some(feed) = self.feeds.get_mut(channel) else {
            return;
        };
        let frame = subscribed(None, channel, &to, to.offset, false, None);
        // Within a life, those who were sent more by themselves have no gap.
        let same = feed.at.as_ref().is_some_and(|at| at.epoch == to.epoch);
        let mut sockets = Vec::new();
        for (socket, from) in &mut feed.subscribers {
            if !same || *from < to.offset {
                *from = to.offset;
                sockets.push(socket.clone());
            }
        }
        feed.forget_recent();
        feed.newest = None;
        feed.unsaved = true;
        self.feeds_unsaved = true;
        feed.at = Some(to);
        if !sockets.is_empty() {
            effects.push(Effect::Broadcast {
                to: sockets,
                frames: vec![frame.encode()],
            });
        }
    }

    fn end_expired(&self, now: UnixMs, channel: &ChannelName, effects: &mut Vec<Effect>) {
        let Some(feed) = self.feeds.get(channel) else { return };
        for connection in feed.subscribers.keys() {
            let expired = |session: &Session| session.principal.expires_at <= now;
            if self.sessions.get(connection).is_some_and(expired) {
                close(connection, CloseCode::TokenExpired, "token expired", true, effects);
            }
        }
    }
}
