//! Sockets that begin to follow a channel, and end it: each is brought to where the others are first.

use alloc::vec;
use alloc::vec::Vec;

use tidegate_protocol::Error;
use tidegate_protocol::calls::channel::{Attendance, Attended, Departure, Reply};
use tidegate_protocol::channels::{Cursor, Message};
use tidegate_protocol::frames::ServerFrame;
use tidegate_protocol::ids::{ChannelName, ConnectionId, Offset, RequestId, UserId};
use tidegate_protocol::time::UnixMs;

use super::feed::{Batch, Feed, message_frame, subscribed};
use super::unexpected;
use crate::composition::OnSubscribe;
use crate::hub::job_channels::job_of;
use crate::hub::outgoing::{send, send_error};
use crate::hub::pending::{Asker, Subscribing};
use crate::hub::presence::{Again, Attending, Role};
use crate::hub::session::{Form, Subscription};
use crate::hub::{Effect, Hub};

/// What has become of a socket that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brought {
    /// It follows.
    There,
    /// The channel is asked again.
    Later,
    /// It does not follow.
    Not,
}

impl Hub {
    pub(super) fn following(
        &mut self,
        now: UnixMs,
        to: &ConnectionId,
        request_id: RequestId,
        wanted: Subscribing,
        reply: Result<Reply, Error>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(feed) = self.feeds.get_mut(&wanted.channel) else {
            return;
        };
        feed.waiting = feed.waiting.saturating_sub(1);
        let answered = match reply {
            Ok(Reply::Following {
                at,
                recovered,
                messages,
                presence,
            }) => Ok((at, recovered, messages, presence)),
            Ok(_) => Err(unexpected()),
            Err(error) => Err(error),
        };
        let brought = match answered {
            Ok(answer) if self.sessions.contains_key(to) => {
                self.bring(now, to, request_id, wanted.clone(), answer, effects)
            }
            Ok(_) => Brought::Not,
            Err(error) => {
                if self.sessions.contains_key(to) {
                    effects.push(send_error(to, Some(request_id), error, now));
                }
                Brought::Not
            }
        };
        // Whoever is asked about again is still coming.
        if let (Brought::There | Brought::Not, Some(attendance), Some(feed)) =
            (brought, &wanted.presence, self.feeds.get_mut(&wanted.channel))
        {
            feed.attendance.arrive(attendance);
        }
        if let (
            Brought::Not,
            Some(Attendance {
                member: Some(member), ..
            }),
        ) = (brought, &wanted.presence)
        {
            self.release(&wanted.channel, &member.user, Departure::AfterGrace, effects);
        }
        if let Some(feed) = self.feeds.get_mut(&wanted.channel)
            && feed.waiting == 0
        {
            feed.forget_recent();
            if feed.is_deserted() {
                self.feeds.remove(&wanted.channel);
            }
        }
    }

    /// Brings a socket to where the others are.
    fn bring(
        &mut self,
        now: UnixMs,
        to: &ConnectionId,
        request_id: RequestId,
        wanted: Subscribing,
        (at, recovered, messages, attended): (Cursor, bool, Vec<Message>, Option<Attended>),
        effects: &mut Vec<Effect>,
    ) -> Brought {
        let Some(feed) = self.feeds.get_mut(&wanted.channel) else {
            return Brought::Not;
        };
        let stale = match &feed.at {
            // An answer from an earlier life; the second time it is no longer believed to be one.
            Some(known) if known.epoch != at.epoch => at.epoch < known.epoch && !wanted.again,
            // Or one after which more came than was kept here.
            Some(known) if known.offset > at.offset => {
                feed.recent.front().is_none_or(|first| first.offset > at.offset.next())
            }
            _ => false,
        };
        if stale {
            let subscribing = Subscribing { again: true, ..wanted };
            let asker = Asker::Socket(to.clone(), None);
            self.ask_to_follow(asker, request_id, subscribing, effects);
            return Brought::Later;
        }
        let first_answer = feed.at.is_none();
        match &feed.at {
            Some(known) if known.epoch == at.epoch => {}
            Some(_) => {
                self.begin_anew(&wanted.channel, at.clone(), effects);
            }
            None => feed.at = Some(at.clone()),
        }
        let sent = if recovered || wanted.on_subscribe == OnSubscribe::Newest {
            messages
        } else {
            vec![]
        };
        let offset = match (&wanted.after, sent.first()) {
            (Some(after), _) if recovered => after.offset,
            (_, Some(first)) => Offset(first.offset.0.saturating_sub(1)),
            (_, None) => at.offset,
        };
        let (roster, mark) = match attended {
            Some(Attended { roster, mark }) => (Some(roster), Some(mark)),
            None => (None, None),
        };
        let told = Some(request_id.clone());
        effects.push(send(
            to,
            &subscribed(told, &wanted.channel, &at, offset, recovered, roster),
        ));
        for message in &sent {
            effects.push(send(to, &message_frame(&wanted.channel, &at, message)));
        }
        let Some(feed) = self.feeds.get_mut(&wanted.channel) else {
            return Brought::Not;
        };
        if let Some(newest) = sent.last().filter(|last| last.offset == at.offset)
            && feed.newest.as_ref().is_none_or(|known| known.offset < newest.offset)
        {
            feed.newest = Some(newest.clone());
        }
        // What the others were sent since the channel answered.
        let since = feed.recent.iter().filter(|message| message.offset > at.offset);
        let since: Vec<Effect> = since
            .map(|message| send(to, &message_frame(&wanted.channel, &at, message)))
            .collect();
        effects.extend(since);
        let known = feed.at.as_ref().map_or(at.offset, |known| known.offset);
        let joined = Cursor {
            offset: known.max(at.offset),
            ..at
        };
        let attending = wanted.presence.map(|wanted| Attending {
            role: match wanted.member {
                Some(_) => Role::Member,
                None => Role::Watcher,
            },
            // What it was answered may be ahead of what the others were told.
            mark: None,
        });
        self.join(to, &wanted.channel, joined, attending, effects);
        if let Some(mark) = mark {
            self.attended(to, request_id, &wanted.channel, mark, Again::No, effects);
        }
        if first_answer && let Some(feed) = self.feeds.get_mut(&wanted.channel) {
            for Batch { after, messages, until } in core::mem::take(&mut feed.parked) {
                let (heard, _) = self.hear(now, &wanted.channel, after, messages, until);
                effects.extend(heard);
            }
        }
        Brought::There
    }

    /// From here on the socket is sent every message.
    pub(super) fn join(
        &mut self,
        to: &ConnectionId,
        channel: &ChannelName,
        at: Cursor,
        presence: Option<Attending>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.get_mut(to) else {
            return;
        };
        let Some(feed) = self.feeds.get_mut(channel) else {
            return;
        };
        feed.subscribers.insert(to.clone(), at.offset);
        let (name, from) = (channel.clone(), at.offset);
        let at = feed.at.clone().unwrap_or(at);
        if presence.is_none() {
            feed.attendance.unwatch(to);
        }
        let user = session.principal.user.clone();
        let before = session.subscriptions.iter().find(|other| other.channel == *channel);
        let before = before.and_then(|before| before.presence);
        session.subscriptions.retain(|other| other.channel != *channel);
        session.subscriptions.push(Subscription {
            channel: name,
            at,
            from,
            presence,
        });
        effects.push(Effect::Save { of: to.clone() });
        if let Some(Attending { role: Role::Member, .. }) = before {
            self.release(channel, &user, Departure::Now, effects);
        }
    }

    /// A socket wants to follow a channel no longer.
    pub(in crate::hub) fn unsubscribe(
        &mut self,
        from: &ConnectionId,
        request_id: RequestId,
        channel: &ChannelName,
        effects: &mut Vec<Effect>,
    ) {
        match job_of(channel) {
            Some(job) => self.let_go(from, job, Form::Messages, effects),
            None => self.end_subscription(from, channel, effects),
        }
        effects.push(send(from, &ServerFrame::Ok { request_id }));
    }

    pub(super) fn end_subscription(&mut self, of: &ConnectionId, channel: &ChannelName, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(of) else {
            return;
        };
        let place = session.subscriptions.iter().position(|other| other.channel == *channel);
        let Some(place) = place else { return };
        let subscription = session.subscriptions.remove(place);
        let user = session.principal.user.clone();
        self.leave(&subscription, (of, &user), Departure::Now, effects);
        effects.push(Effect::Save { of: of.clone() });
    }

    /// A socket follows no longer. The channel hears of it with its next message.
    pub(in crate::hub) fn leave(
        &mut self,
        subscription: &Subscription,
        (connection, user): (&ConnectionId, &UserId),
        departure: Departure,
        effects: &mut Vec<Effect>,
    ) {
        let channel = &subscription.channel;
        let Some(feed) = self.feeds.get_mut(channel) else {
            return;
        };
        feed.subscribers.remove(connection);
        feed.attendance.unwatch(connection);
        // Its attachment may have been the one that said how far the others are.
        feed.unsaved = true;
        self.feeds_unsaved = true;
        if let Some(Attending { role: Role::Member, .. }) = subscription.presence {
            self.release(channel, user, departure, effects);
        }
        if self.feeds.get(channel).is_some_and(Feed::is_deserted) {
            self.feeds.remove(channel);
        }
    }
}
