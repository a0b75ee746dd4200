//! What outlives the hub's sleep, and rules that change while sockets follow.

use alloc::vec::Vec;

use tidegate_protocol::frames::ServerFrame;
use tidegate_protocol::ids::{ConnectionId, Offset};
use tidegate_protocol::time::UnixMs;

use crate::channels::{Act, Asking};
use crate::composition::Plan;
use crate::hub::outgoing::send;
use crate::hub::session::{Session, Subscription};
use crate::hub::{Effect, Hub};
use crate::policies::Transport;

impl Hub {
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
    pub(in crate::hub) fn restore_feeds(&mut self, session: &Session) {
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
