//! Channels: which sockets follow which, and what they are sent.
//!
//! A hub follows a channel once, for all of its sockets. It knows one place in the log, up to which all of them were sent every
//! message; a socket that comes later is brought there first. What comes twice is passed over, what is missing is asked for by
//! saying where the hub is, and what is no longer kept is told to the sockets.

mod feed;
mod following;
mod hearing;
mod keeping;

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::admission::Need;
use tidegate_protocol::calls::channel::{Attended, Call, Reply};
use tidegate_protocol::calls::hub::{self, ChannelAsked};
use tidegate_protocol::channels::{Cursor, Publication, Published};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::frames::ServerFrame;
use tidegate_protocol::ids::{ActionName, ChannelName, ConnectionId, Offset, RequestId};
use tidegate_protocol::limits::SUBSCRIPTIONS_MAX;
use tidegate_protocol::presence::Attend;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode, SortedMap};

use super::outgoing::{send, send_error};
use super::pending::{Asked, Asker, Question, Subscribing};
use super::session::Subscription;
use super::{Admitted, CallId, Effect, HttpId, Hub, Moment};
use crate::access;
use crate::channels::{Act, Asking};
use crate::composition::{ChannelRules, Input, OnSubscribe, Plan};
use crate::policies::Transport;

/// The action of a message, as limits see it: a name that no action of a composition has.
const PUBLISH: &str = "tidegate.publish";

use feed::message_frame;
pub(super) use feed::{Feed, subscribed};

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
                    Reply::Following { .. } | Reply::Done | Reply::Taken(_) => Err(unexpected()),
                });
                let reply = text.map(hub::Reply::Text);
                effects.push(Effect::Answer { to, reply });
            }
            _ => {}
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
