//! Channels: which sockets follow which, and what they are sent.
//!
//! A hub follows a channel once, for all of its sockets. It knows one place in the log, up to which all of them were sent every
//! message; a socket that comes later is brought there first. What comes twice is passed over, what is missing is asked for by
//! saying where the hub is, and what is no longer kept is told to the sockets.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::admission::Need;
use tidegate_protocol::calls::channel::{Attendance, Attended, Call, Departure, Reply};
use tidegate_protocol::calls::hub::{self, ChannelAsked};
use tidegate_protocol::channels::{Cursor, Message, Publication, Published};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::frames::{CloseCode, ServerFrame};
use tidegate_protocol::ids::{ActionName, ChannelName, ConnectionId, Offset, RequestId, UserId};
use tidegate_protocol::limits::SUBSCRIPTIONS_MAX;
use tidegate_protocol::presence::{Attend, Roster};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode, SortedMap};

use super::outgoing::{close, send, send_error};
use super::pending::{Asked, Asker, Question, Subscribing};
use super::presence::{self, Again, Attending, Role};
use super::session::{Session, Subscription};
use super::{Admitted, CallId, Effect, HttpId, Hub, Moment};
use crate::access;
use crate::channels::{Act, Asking};
use crate::composition::{ChannelRules, Input, OnSubscribe, Plan};
use crate::policies::Transport;

/// The action of a message, as limits see it: a name that no action of a composition has.
const PUBLISH: &str = "tidegate.publish";
/// Messages that are kept for sockets that are about to follow, of one channel.
const RECENT_MAX: usize = 512;
/// Bytes of their data.
const RECENT_BYTES_MAX: usize = 1024 * 1024;
/// Batches that are kept until the first answer of a channel says where it is.
const PARKED_MAX: usize = 16;

/// Messages of a channel, as they came.
#[derive(Debug, Clone)]
struct Batch {
    after: Cursor,
    messages: Vec<Message>,
    until: Offset,
}

/// A channel that sockets of this hub follow.
#[derive(Debug, Clone, Default)]
pub(super) struct Feed {
    /// Every subscriber was sent everything up to here; `None`: the channel has not answered yet.
    at: Option<Cursor>,
    /// Who follows, each from behind a message on: those before were sent to it by themselves.
    subscribers: SortedMap<ConnectionId, Offset>,
    /// Calls that end in following.
    waiting: usize,
    /// The latest messages, while anybody waits: an answer may be older than they are.
    recent: VecDeque<Message>,
    recent_bytes: usize,
    /// What came before the first answer.
    parked: Vec<Batch>,
    newest: Option<Message>,
    /// Whether no attachment says how far it is.
    unsaved: bool,
    /// Who is there.
    pub(super) attendance: presence::Attendance,
}

impl Feed {
    fn remember(&mut self, message: &Message) {
        self.recent_bytes += message.data.as_str().len();
        self.recent.push_back(message.clone());
        while self.recent.len() > RECENT_MAX || self.recent_bytes > RECENT_BYTES_MAX {
            let Some(gone) = self.recent.pop_front() else { return };
            self.recent_bytes = self.recent_bytes.saturating_sub(gone.data.as_str().len());
        }
    }

    fn forget_recent(&mut self) {
        self.recent.clear();
        self.recent_bytes = 0;
    }

    /// What the attachments keep of it is no longer so.
    pub(super) fn is_unsaved(&mut self) {
        self.unsaved = true;
    }

    fn is_deserted(&self) -> bool {
        self.subscribers.is_empty() && self.waiting == 0
    }
}

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

fn message_frame(channel: &ChannelName, at: &Cursor, message: &Message) -> ServerFrame {
    ServerFrame::Message {
        channel: channel.clone(),
        epoch: at.epoch.clone(),
        message: message.clone(),
    }
}

fn subscribed(
    request_id: Option<RequestId>,
    channel: &ChannelName,
    epoch_of: &Cursor,
    offset: Offset,
    recovered: bool,
    presence: Option<Roster>,
) -> ServerFrame {
    ServerFrame::Subscribed {
        request_id,
        channel: channel.clone(),
        epoch: epoch_of.epoch.clone(),
        offset,
        recovered,
        presence,
    }
}

impl Hub {
    /// A socket wants to follow a channel.
    #[expect(clippy::too_many_arguments, reason = "each is one part of one frame")]
    pub(super) fn subscribe(
        &mut self,
        moment: &Moment<'_>,
        plan: &Plan,
        from: &ConnectionId,
        request_id: RequestId,
        channel: ChannelName,
        (after, presence): (Option<Cursor>, Option<Attend>),
        effects: &mut Vec<Effect>,
    ) {
        let rules = match self.may_subscribe(moment, plan, from, &channel, presence.is_some()) {
            Ok(rules) => rules,
            Err(error) => return effects.push(send_error(from, Some(request_id), error, moment.now)),
        };
        let subscribing = Subscribing {
            channel,
            after,
            keep: rules.keep,
            on_subscribe: rules.on_subscribe,
            again: false,
            presence: self.attendance(from, presence, rules.presence_grace_ms),
        };
        if self.is_there_already(moment.now, from, &request_id, &subscribing, effects) {
            return;
        }
        if let Some(wanted) = &subscribing.presence {
            let feed = self.feeds.entry(subscribing.channel.clone()).or_default();
            feed.attendance.expect(wanted);
        }
        self.ask_to_follow(Asker::Socket(from.clone(), None), request_id, subscribing, effects);
    }

    fn may_subscribe(
        &self,
        moment: &Moment<'_>,
        plan: &Plan,
        from: &ConnectionId,
        channel: &ChannelName,
        attends: bool,
    ) -> Result<Arc<ChannelRules>, Error> {
        let session = self.sessions.get(from).ok_or_else(Error::not_found)?;
        let asking = Asking {
            plan,
            principal: &session.principal,
            now: moment.now,
            transport: Transport::Socket,
        };
        let rules = asking.check(channel, Act::Subscribe)?.clone();
        if attends {
            asking.check(channel, Act::Presence)?;
        }
        self.has_room(from)?;
        let others = session
            .subscriptions
            .iter()
            .filter(|other| other.channel != *channel)
            .count();
        let under_way = self.pending.of_socket(from);
        if others + under_way >= SUBSCRIPTIONS_MAX
            || !session.has_room(under_way, Subscription::bytes(channel, attends))
        {
            let message = format!(
                "This socket follows as many channels as it can keep, {SUBSCRIPTIONS_MAX} at most: limit `subscriptions`."
            );
            return Err(Error::new(ErrorCode::RateLimited, message).retry_after(1000));
        }
        Ok(rules)
    }

    /// Lets a socket follow at once, where the hub knows all that it is to be sent first.
    fn is_there_already(
        &mut self,
        now: UnixMs,
        from: &ConnectionId,
        request_id: &RequestId,
        wanted: &Subscribing,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(feed) = self.feeds.get(&wanted.channel) else {
            return false;
        };
        if wanted.presence.is_some() {
            return false;
        }
        let Some(at) = feed.at.clone().filter(|_| !feed.subscribers.is_empty()) else {
            return false;
        };
        let recovered = wanted.after.as_ref() == Some(&at);
        let newest = feed
            .newest
            .as_ref()
            .filter(|newest| newest.offset == at.offset && newest.timestamp.plus(wanted.keep.age_ms) >= now);
        let first = match (&wanted.after, wanted.on_subscribe) {
            (Some(_), _) if !recovered => return false,
            (Some(_), _) | (None, OnSubscribe::Missed) => None,
            (None, OnSubscribe::Newest) => match newest {
                Some(newest) => Some(newest.clone()),
                None => return false,
            },
        };
        let offset = first
            .as_ref()
            .map_or(at.offset, |first| Offset(first.offset.0.saturating_sub(1)));
        let frame = subscribed(Some(request_id.clone()), &wanted.channel, &at, offset, recovered, None);
        effects.push(send(from, &frame));
        effects.extend(first.map(|first| send(from, &message_frame(&wanted.channel, &at, &first))));
        self.join(from, &wanted.channel, at, None, effects);
        true
    }

    fn ask_to_follow(
        &mut self,
        asker: Asker,
        request_id: RequestId,
        subscribing: Subscribing,
        effects: &mut Vec<Effect>,
    ) {
        self.feeds.entry(subscribing.channel.clone()).or_default().waiting += 1;
        let channel = subscribing.channel.clone();
        let call = Call::Follow {
            hub: self.index,
            after: subscribing.after.clone(),
            keep: subscribing.keep,
            presence: subscribing.presence.clone(),
        };
        let question = Question::Subscribe(Box::new(subscribing));
        self.ask_channel(asker, request_id, question, channel, call, effects);
    }

    pub(super) fn ask_channel(
        &mut self,
        asker: Asker,
        request_id: RequestId,
        question: Question,
        channel: ChannelName,
        call: Call,
        effects: &mut Vec<Effect>,
    ) {
        let id = self.pending.add(Asked {
            asker,
            request_id,
            question,
        });
        let call = Box::new(call);
        effects.push(Effect::Channel { id, channel, call });
    }

    /// A socket wants to publish.
    #[expect(clippy::too_many_arguments, reason = "each is one part of one frame")]
    pub(super) fn publish(
        &mut self,
        moment: &Moment<'_>,
        plan: &Plan,
        from: &ConnectionId,
        request_id: RequestId,
        channel: ChannelName,
        publication: Publication,
        effects: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.get(from) else { return };
        let asking = Asking {
            plan,
            principal: &session.principal,
            now: moment.now,
            transport: Transport::Socket,
        };
        let may = self.has_room(from);
        match may.and_then(|()| self.admit_message(asking, channel, publication)) {
            Ok(admitted) => {
                let asker = Asker::Socket(from.clone(), None);
                self.pass(moment.now, asker, request_id, admitted, effects);
            }
            Err(error) => {
                let refused = self.refusals.note(moment.now, error.code);
                effects.extend(refused.map(|refused| Effect::TellRefused { refused }));
                effects.push(send_error(from, Some(request_id), error, moment.now));
            }
        }
    }

    /// Whether a message may be published, and what it needs of limits. One that may not has consumed nothing.
    fn admit_message(
        &self,
        asking: Asking<'_>,
        channel: ChannelName,
        publication: Publication,
    ) -> Result<(Admitted, Vec<Need>), Error> {
        self.check_budgets(asking.now)?;
        let keep = asking.check(&channel, Act::Publish)?.keep;
        let user = &asking.principal.user;
        let needs = match ActionName::parse(PUBLISH) {
            Some(action) => {
                let (data, metadata) = (&publication.data, SortedMap::new());
                let input = Input::new(user, &action, &metadata, data).by(asking.principal);
                let input = input.in_channel(&channel);
                let mut needs = asking.plan.channel_limits.needs_in(&channel, &input)?;
                needs.extend(self.deployment.needs_in(&channel, &input)?);
                needs
            }
            None => Vec::new(),
        };
        let call = Box::new(Call::Publish {
            publisher: Some(user.clone()),
            publication,
            keep,
        });
        Ok((Admitted::Message { channel, call }, needs))
    }

    /// A caller over HTTP wants something of a channel.
    pub fn channel(
        &mut self,
        moment: &mut Moment<'_>,
        plan: &Plan,
        from: HttpId,
        principal: &Principal,
        channel: ChannelName,
        asked: ChannelAsked,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        let request_id = RequestId::generate(moment.now, (moment.random)());
        let asking = Asking {
            plan,
            principal,
            now: moment.now,
            transport: Transport::Http,
        };
        let may = access::check(&self.access, principal, moment.now);
        let asker = Asker::Http(from);
        let done = may.and_then(|()| match asked {
            ChannelAsked::Publish(publication) => {
                let admitted = self.admit_message(asking, channel, publication)?;
                self.pass(moment.now, asker, request_id, admitted, &mut effects);
                Ok(())
            }
            ChannelAsked::History { after, limit } => {
                let keep = asking.check(&channel, Act::Subscribe)?.keep;
                let call = Call::History { after, limit, keep };
                self.ask_channel(asker, request_id, Question::History, channel, call, &mut effects);
                Ok(())
            }
            ChannelAsked::Presence => {
                asking.check(&channel, Act::Presence)?;
                let question = Question::Roster(channel.clone());
                self.ask_channel(asker, request_id, question, channel, Call::Roster, &mut effects);
                Ok(())
            }
        });
        if let Err(error) = done {
            effects.push(Effect::Answer {
                to: from,
                reply: Err(error),
            });
        }
        effects
    }

    /// A channel replied, or could not be reached.
    pub fn channel_replied(&mut self, now: UnixMs, id: CallId, reply: Result<Reply, Error>) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(Asked {
            asker,
            request_id,
            question,
        }) = self.pending.take(id)
        else {
            return effects;
        };
        if let Err(error) = &reply {
            self.put_back(&question, error);
        }
        match (asker, question) {
            (Asker::Socket(to, _), Question::Subscribe(subscribing)) => {
                self.following(now, &to, request_id, *subscribing, reply, &mut effects);
            }
            (Asker::Socket(to, _), Question::Publish { channel, .. }) if self.sessions.contains_key(&to) => {
                effects.push(match reply.and_then(published) {
                    Ok(published) => send(
                        &to,
                        &ServerFrame::Published {
                            request_id,
                            channel,
                            published,
                        },
                    ),
                    Err(error) => send_error(&to, Some(request_id), error, now),
                });
            }
            (Asker::Socket(to, _), Question::Roster(channel)) if self.sessions.contains_key(&to) => {
                effects.push(self.listed(now, &to, request_id, channel, reply.and_then(roster)));
            }
            (Asker::Socket(to, _), Question::RosterAgain(channel)) => {
                self.attended_again(&to, request_id, &channel, reply.and_then(roster), &mut effects);
            }
            (Asker::Http(to), _) => {
                let text = reply.and_then(|reply| match reply {
                    Reply::Published(published) => JsonText::of(&published).ok_or_else(unexpected),
                    Reply::Page(page) => JsonText::of(&page).ok_or_else(unexpected),
                    Reply::Roster(attended) => JsonText::of(&attended.roster).ok_or_else(unexpected),
                    Reply::Following { .. } | Reply::Done => Err(unexpected()),
                });
                let reply = text.map(hub::Reply::Text);
                effects.push(Effect::Answer { to, reply });
            }
            _ => {}
        }
        effects
    }

    fn following(
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
    fn join(
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
    pub(super) fn unsubscribe(
        &mut self,
        from: &ConnectionId,
        request_id: RequestId,
        channel: &ChannelName,
        effects: &mut Vec<Effect>,
    ) {
        self.end_subscription(from, channel, effects);
        effects.push(send(from, &ServerFrame::Ok { request_id }));
    }

    fn end_subscription(&mut self, of: &ConnectionId, channel: &ChannelName, effects: &mut Vec<Effect>) {
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
    pub(super) fn leave(
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
    fn begin_anew(&mut self, channel: &ChannelName, to: Cursor, effects: &mut Vec<Effect>) {
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

    /// Whether a nap would lose how far a channel is.
    pub fn is_unsaved(&self) -> bool {
        self.feeds_unsaved
    }

    /// Keeps how far each channel is in the attachment of one of the sockets that follow it. To be asked once it is quiet, and
    /// before the hub sleeps.
    pub fn save_feeds(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.feeds_unsaved = false;
        for (channel, feed) in &mut self.feeds {
            if !core::mem::take(&mut feed.unsaved) {
                continue;
            }
            let (Some(at), Some((connection, from))) = (&feed.at, feed.subscribers.iter().next()) else {
                continue;
            };
            let Some(session) = self.sessions.get_mut(connection) else {
                continue;
            };
            for subscription in &mut session.subscriptions {
                if subscription.channel == *channel {
                    subscription.at = at.clone();
                    subscription.from = *from;
                }
            }
            effects.push(Effect::Save { of: connection.clone() });
            let Some((watcher, mark)) = feed.attendance.kept_by() else {
                continue;
            };
            let Some(session) = self.sessions.get_mut(watcher) else {
                continue;
            };
            for subscription in &mut session.subscriptions {
                if subscription.channel == *channel
                    && let Some(attending) = &mut subscription.presence
                {
                    attending.mark = Some(mark);
                }
            }
            if watcher != connection {
                effects.push(Effect::Save { of: watcher.clone() });
            }
        }
        effects
    }

    /// Takes in what a socket follows that slept through the hub's restart.
    pub(super) fn restore_feeds(&mut self, session: &Session) {
        for subscription in &session.subscriptions {
            let Subscription { channel, at, from, .. } = subscription;
            let feed = self.feeds.entry(channel.clone()).or_default();
            if let Some(attending) = subscription.presence {
                let user = &session.principal.user;
                feed.attendance.restore(&session.connection, user, attending);
            }
            let known = feed.at.as_ref().map(|known| &known.epoch);
            if known < Some(&at.epoch) {
                // What the others were sent by themselves was in another life of the log.
                for (_, from) in &mut feed.subscribers {
                    *from = Offset(0);
                }
            }
            let from = if known > Some(&at.epoch) { Offset(0) } else { *from };
            feed.subscribers.insert(session.connection.clone(), from);
            feed.at = feed.at.take().max(Some(at.clone()));
        }
    }

    /// The rules or the rights of a socket have changed: what it may no longer follow ends. `of`: of this socket alone.
    pub fn recheck(&mut self, now: UnixMs, plan: &Plan, of: Option<&ConnectionId>) -> Vec<Effect> {
        let mut ended = Vec::new();
        for (connection, session) in &self.sessions {
            if of.is_some_and(|of| of != connection) {
                continue;
            }
            let asking = Asking {
                plan,
                principal: &session.principal,
                now,
                transport: Transport::Socket,
            };
            for Subscription { channel, presence, .. } in &session.subscriptions {
                let may = asking.check(channel, Act::Subscribe);
                let may = may.and_then(|rules| match presence {
                    Some(_) => asking.check(channel, Act::Presence),
                    None => Ok(rules),
                });
                if let Err(error) = may {
                    ended.push((connection.clone(), channel.clone(), error));
                }
            }
        }
        let mut effects = Vec::new();
        for (connection, channel, error) in ended {
            self.end_subscription(&connection, &channel, &mut effects);
            effects.push(send(&connection, &ServerFrame::Unsubscribed { channel, error }));
        }
        effects
    }
}

fn published(reply: Reply) -> Result<Published, Error> {
    match reply {
        Reply::Published(published) => Ok(published),
        _ => Err(unexpected()),
    }
}

fn roster(reply: Reply) -> Result<Attended, Error> {
    match reply {
        Reply::Roster(attended) => Ok(attended),
        _ => Err(unexpected()),
    }
}

fn unexpected() -> Error {
    Error::new(ErrorCode::InternalError, "A channel answered another question.")
}
