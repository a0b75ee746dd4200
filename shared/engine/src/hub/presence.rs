//! Who is in a channel, as the sockets of this hub are told, and who of them is there.
//!
//! A user is a member for as long as a socket of theirs says so; all sockets of a user are at one hub. What a socket was told
//! last is in one of the attachments, as the places of channels are: a hub that forgot it is told everything again.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use tidegate_cbor::{Decode, Encode};
use tidegate_protocol::Error;
use tidegate_protocol::calls::channel::{self, Attended, Call, Departure, Presentation};
use tidegate_protocol::frames::{CloseCode, ServerFrame};
use tidegate_protocol::ids::{ChannelName, ConnectionId, RequestId, UserId};
use tidegate_protocol::presence::{Attend, Became, Change, Heard, Mark, News, Own, Told, Watched, hash_of_user};
use tidegate_protocol::time::UnixMs;

use super::outgoing::{close, send, send_error};
use super::pending::{Asker, Question};
use super::{Effect, Hub, Moment};
use crate::channels::{Act, Asking};
use crate::composition::Plan;
use crate::policies::Transport;

/// What a socket has to do with the presence of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Attending {
    /// What it is there for.
    pub role: Role,
    /// The state that all who watch were told, when this was written. One of them knows it best.
    pub mark: Option<Mark>,
}

/// What a socket is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// To be told who is there.
    Watcher,
    /// That, and to be there.
    Member,
}

/// The sockets of a user.
#[derive(Debug, Clone, Copy, Default)]
struct Sockets {
    /// That make them a member.
    here: usize,
    /// That are about to.
    coming: usize,
}

/// The presence of a channel, as far as it concerns this hub.
#[derive(Debug, Clone, Default)]
pub(super) struct Attendance {
    /// The state that those who watch were told.
    mark: Option<Mark>,
    /// Who watches, each from a state on that was told to it by itself.
    watchers: Vec<(ConnectionId, Mark)>,
    /// How many have asked who is there, and have no answer yet.
    awaiting: usize,
    /// By how many sockets each user is a member.
    members: Vec<(UserId, Sockets)>,
}

impl Attendance {
    /// A socket that slept through the hub's restart.
    pub fn restore(&mut self, connection: &ConnectionId, user: &UserId, attending: Attending) {
        let mark = attending.mark;
        let newer = |known: &Mark| mark.is_some_and(|mark| mark.life != known.life || mark.version > known.version);
        if self.mark.as_ref().is_none_or(newer) {
            self.mark = mark;
        }
        let seen = mark.unwrap_or(Mark {
            life: 0,
            version: 0,
            digest: 0,
        });
        self.see(connection, seen);
        if attending.role == Role::Member {
            self.sockets(user, |sockets| sockets.here += 1);
        }
    }

    /// A socket has asked who is there, and is about to make its user a member, unless it only watches.
    pub fn expect(&mut self, wanted: &channel::Attendance) {
        self.awaiting += 1;
        if let Some(Presentation { user, .. }) = &wanted.member {
            self.sockets(user, |sockets| sockets.coming += 1);
        }
    }

    /// It has its answer, or is gone meanwhile.
    pub fn arrive(&mut self, wanted: &channel::Attendance) {
        self.awaiting = self.awaiting.saturating_sub(1);
        if let Some(Presentation { user, .. }) = &wanted.member {
            self.sockets(user, |sockets| {
                sockets.coming = sockets.coming.saturating_sub(1);
                sockets.here += 1;
            });
        }
    }

    /// A socket makes its user a member no longer. Says whether it was the last one.
    #[must_use]
    fn release(&mut self, user: &UserId) -> bool {
        self.sockets(user, |sockets| sockets.here = sockets.here.saturating_sub(1))
    }

    /// Counts the sockets of a user. Says whether there are none.
    fn sockets(&mut self, user: &UserId, count: impl FnOnce(&mut Sockets)) -> bool {
        let place = find(&self.members, user).unwrap_or_else(|place| {
            self.members.insert(place, (user.clone(), Sockets::default()));
            place
        });
        let Some((_, sockets)) = self.members.get_mut(place) else {
            return false;
        };
        count(sockets);
        let none = sockets.here + sockets.coming == 0;
        if none {
            self.members.remove(place);
        }
        none
    }

    /// A socket was told by itself, up to this state.
    fn see(&mut self, connection: &ConnectionId, mark: Mark) {
        match find(&self.watchers, connection) {
            Ok(place) => {
                if let Some((_, seen)) = self.watchers.get_mut(place) {
                    *seen = mark;
                }
            }
            Err(place) => self.watchers.insert(place, (connection.clone(), mark)),
        }
    }

    /// A socket watches, from the state that its answer brought.
    pub fn watch(&mut self, connection: &ConnectionId, mark: Mark) {
        self.mark.get_or_insert(mark);
        self.see(connection, mark);
    }

    /// It watches no longer.
    pub fn unwatch(&mut self, connection: &ConnectionId) {
        if let Ok(place) = find(&self.watchers, connection) {
            self.watchers.remove(place);
        }
        if self.watchers.is_empty() && self.awaiting == 0 {
            self.mark = None;
        }
    }

    /// The state to be kept, and a socket that can keep it.
    pub fn kept_by(&self) -> Option<(&ConnectionId, Mark)> {
        self.watchers.first().map(|(first, _)| first).zip(self.mark)
    }

    /// Whether what a socket was answered may be older than what the others were told since.
    fn is_behind(&self, answered: Mark, again: Again) -> bool {
        match self.mark {
            Some(mark) if mark.life == answered.life => answered.version < mark.version,
            Some(mark) => again == Again::No && mark.digest != answered.digest,
            None => false,
        }
    }

    /// Those who are there by sockets of this hub, where the channel's sum of them is another.
    fn own(&self, sum: Option<u64>) -> Option<Own> {
        let of = |is_here| {
            let some = self
                .members
                .iter()
                .filter(move |(_, sockets)| (sockets.here > 0) == is_here);
            some.map(|(user, _)| user)
        };
        let sum_of_here = of(true).map(hash_of_user).fold(0, u64::wrapping_add);
        sum.filter(|sum| *sum != sum_of_here).map(|_| Own {
            here: of(true).cloned().collect(),
            coming: of(false).cloned().collect(),
        })
    }

    /// Whether what goes out from one state may be told to those who are in another, and from which change on.
    fn takes(&self, from: Option<Mark>, to: Mark) -> Option<u64> {
        let (at, from) = (self.mark?, from?);
        if at.life == to.life {
            return (from.version <= at.version && at.version <= to.version).then_some(at.version);
        }
        (at.digest == from.digest).then_some(from.version)
    }
}

/// Where `key` stands in a list that is sorted by it, or is to be put.
fn find<K: Ord, V>(list: &[(K, V)], key: &K) -> Result<usize, usize> {
    list.binary_search_by(|(other, _)| other.cmp(key))
}

/// Whether an answer was asked for because the one before was behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    No,
    Yes,
}

fn changed(channel: &ChannelName, change: &Change) -> ServerFrame {
    let (channel, member) = (channel.clone(), change.member.clone());
    match change.became {
        Became::Present => ServerFrame::Join { channel, member },
        Became::Absent => ServerFrame::Leave { channel, member },
    }
}

impl Hub {
    /// What a socket wants of presence, as the channel is asked for it.
    pub(super) fn attendance(
        &self,
        from: &ConnectionId,
        attend: Option<Attend>,
        grace_ms: u64,
    ) -> Option<channel::Attendance> {
        let user = &self.sessions.get(from)?.principal.user;
        let member = match attend? {
            Attend::Member { data } => Some(Presentation {
                user: user.clone(),
                data,
            }),
            Attend::Watcher => None,
        };
        Some(channel::Attendance { member, grace_ms })
    }

    /// A socket asks who is there.
    pub(super) fn presence(
        &mut self,
        moment: &Moment<'_>,
        plan: &Plan,
        from: &ConnectionId,
        request_id: RequestId,
        channel: ChannelName,
        effects: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.get(from) else { return };
        let asking = Asking {
            plan,
            principal: &session.principal,
            now: moment.now,
            transport: Transport::Socket,
        };
        let may = asking.check(&channel, Act::Presence);
        match may.and_then(|_| self.has_room(from)) {
            Ok(()) => {
                let asker = Asker::Socket(from.clone(), None);
                let question = Question::Roster(channel.clone());
                self.ask_channel(asker, request_id, question, channel, Call::Roster, effects);
            }
            Err(error) => effects.push(send_error(from, Some(request_id), error, moment.now)),
        }
    }

    /// The answer to that.
    pub(super) fn listed(
        &self,
        now: UnixMs,
        to: &ConnectionId,
        request_id: RequestId,
        channel: ChannelName,
        answered: Result<Attended, Error>,
    ) -> Effect {
        match answered {
            Ok(Attended { roster, .. }) => {
                let frame = ServerFrame::Presence {
                    request_id: Some(request_id),
                    channel,
                    members: Some(roster.members),
                    count: roster.count,
                };
                send(to, &frame)
            }
            Err(error) => send_error(to, Some(request_id), error, now),
        }
    }

    /// A socket makes its user a member no longer: where it was the last one, the channel is told.
    pub(super) fn release(
        &mut self,
        channel: &ChannelName,
        user: &UserId,
        departure: Departure,
        effects: &mut Vec<Effect>,
    ) {
        let Some(feed) = self.feeds.get_mut(channel) else {
            return;
        };
        if !feed.attendance.release(user) {
            return;
        }
        // Nobody waits for the answer. Where the call is lost, the channel hears with its next question who is there.
        effects.push(Effect::Channel {
            id: self.pending.number(),
            channel: channel.clone(),
            call: Box::new(Call::Leave {
                hub: self.index,
                user: user.clone(),
                departure,
            }),
        });
    }

    /// A socket was answered who is there. What may be behind what the others were told since is asked for again.
    pub(super) fn attended(
        &mut self,
        to: &ConnectionId,
        request_id: RequestId,
        channel: &ChannelName,
        mark: Mark,
        again: Again,
        effects: &mut Vec<Effect>,
    ) {
        let Some(feed) = self.feeds.get_mut(channel) else {
            return;
        };
        let behind = feed.attendance.is_behind(mark, again);
        feed.attendance.watch(to, mark);
        feed.change();
        self.feeds_unsaved = true;
        if behind {
            let asker = Asker::Socket(to.clone(), None);
            let question = Question::RosterAgain(channel.clone());
            self.ask_channel(asker, request_id, question, channel.clone(), Call::Roster, effects);
        }
    }

    /// The answer to what was asked for again.
    pub(super) fn attended_again(
        &mut self,
        to: &ConnectionId,
        request_id: RequestId,
        channel: &ChannelName,
        answered: Result<Attended, Error>,
        effects: &mut Vec<Effect>,
    ) {
        let watches = self
            .feeds
            .get(channel)
            .is_some_and(|feed| find(&feed.attendance.watchers, to).is_ok());
        if !watches {
            return;
        }
        let Ok(Attended { roster, mark }) = answered else {
            // What it was told may be wrong, and nothing else would set it right: it comes back, and is told again.
            return close(
                to,
                CloseCode::Restart,
                "who is in a channel is not known",
                true,
                effects,
            );
        };
        let frame = ServerFrame::Presence {
            request_id: None,
            channel: channel.clone(),
            members: Some(roster.members),
            count: roster.count,
        };
        effects.push(send(to, &frame));
        self.attended(to, request_id, channel, mark, Again::Yes, effects);
    }

    /// What has become of a channel's presence.
    pub fn hear_presence(&mut self, channel: &ChannelName, told: Told) -> (Vec<Effect>, Heard) {
        let mut effects = Vec::new();
        let Some(feed) = self.feeds.get_mut(channel) else {
            let own = Attendance::default().own(told.own);
            let watched = Watched::No;
            return (effects, Heard { watched, own });
        };
        let attendance = &mut feed.attendance;
        let own = attendance.own(told.own);
        if attendance.watchers.is_empty() {
            // Whoever has an answer on its way finds by this state whether it is behind.
            attendance.mark = (attendance.awaiting > 0).then_some(told.to);
            let watched = match attendance.mark {
                Some(mark) => Watched::Yes(Some(mark)),
                None => Watched::No,
            };
            return (effects, Heard { watched, own });
        }
        let frame = |members, count| ServerFrame::Presence {
            request_id: None,
            channel: channel.clone(),
            members,
            count,
        };
        let all = |attendance: &Attendance| attendance.watchers.iter().map(|(to, _)| to.clone()).collect::<Vec<_>>();
        let known = attendance.takes(told.from, told.to);
        match (told.news, known) {
            (News::Whole(roster), _) => {
                for (_, seen) in &mut attendance.watchers {
                    *seen = told.to;
                }
                effects.push(Effect::Broadcast {
                    to: all(attendance),
                    frames: vec![frame(Some(roster.members), roster.count).encode()],
                });
            }
            (_, None) => {
                let watched = Watched::Yes(None);
                return (effects, Heard { watched, own });
            }
            (News::Count(count), Some(_)) => {
                if attendance.mark != Some(told.to) {
                    effects.push(Effect::Broadcast {
                        to: all(attendance),
                        frames: vec![frame(None, count).encode()],
                    });
                }
            }
            (News::Changes(mut changes), Some(since)) => {
                changes.retain(|change| change.version > since);
                let first = changes.first().map_or(u64::MAX, |first| first.version);
                let ahead = |seen: &Mark| seen.life == told.to.life && seen.version >= first;
                let to: Vec<ConnectionId> = attendance
                    .watchers
                    .iter()
                    .filter(|(_, seen)| !ahead(seen))
                    .map(|(to, _)| to.clone())
                    .collect();
                if !changes.is_empty() && !to.is_empty() {
                    let frames = changes.iter().map(|change| changed(channel, change).encode()).collect();
                    effects.push(Effect::Broadcast { to, frames });
                }
                for (to, seen) in attendance.watchers.iter().filter(|(_, seen)| ahead(seen)) {
                    let later = changes.iter().filter(|change| change.version > seen.version);
                    let frames: Vec<_> = later.map(|change| changed(channel, change).encode()).collect();
                    if !frames.is_empty() {
                        effects.push(Effect::Broadcast {
                            to: vec![to.clone()],
                            frames,
                        });
                    }
                }
            }
        }
        let watched = Watched::Yes(Some(told.to));
        if attendance.mark != Some(told.to) {
            attendance.mark = Some(told.to);
            feed.change();
            self.feeds_unsaved = true;
        }
        (effects, Heard { watched, own })
    }
}
