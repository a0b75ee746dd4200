//! Sockets that come, sleep and go, and which of them follow which jobs.

use alloc::format;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::channel::Departure;
use tidegate_protocol::calls::usage::{Counts, Meter};
use tidegate_protocol::frames::{CloseCode, Limits, PROTOCOL, ServerFrame};
use tidegate_protocol::ids::{ConnectionId, JobId};
use tidegate_protocol::limits::{FOLLOWS_MAX, FRAME_BYTES_MAX};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use crate::access;
use crate::connections::{Bounds, Room};

use super::outgoing::close;
use super::{Effect, HEARTBEAT_MS, Hub, Moment, SCOPES_BYTES_MAX, Session};

/// Whether a sleeping socket can keep the token's scopes.
pub(super) fn check_scopes(principal: &Principal) -> Result<(), Error> {
    if principal.scopes.iter().map(|scope| scope.len() + 4).sum::<usize>() > SCOPES_BYTES_MAX {
        let message = format!("A token for a socket names at most {SCOPES_BYTES_MAX} bytes of scopes.");
        return Err(Error::new(ErrorCode::Forbidden, message));
    }
    Ok(())
}

impl Hub {
    /// Takes in a socket that slept through the hub's restart.
    pub fn restore(&mut self, session: Session) {
        for follow in &session.follows {
            self.followers
                .entry(follow.job)
                .or_default()
                .insert(session.connection.clone());
        }
        self.restore_feeds(&session);
        self.sessions.insert(session.connection.clone(), session);
    }

    /// A socket was accepted for `principal`, of which there may be as many as the composition (`bounds`) and the deployment say, on so
    /// many hubs. One too many is told so, and closed.
    ///
    /// Errors: `FORBIDDEN` for a token whose scopes a sleeping socket cannot keep; those of [`access::check`].
    pub fn open(
        &mut self,
        moment: &mut Moment<'_>,
        principal: Principal,
        bounds: Bounds,
        hubs: u16,
    ) -> Result<(ConnectionId, Vec<Effect>), Error> {
        check_scopes(&principal)?;
        access::check(&self.access, &principal, moment.now)?;
        let connection = ConnectionId::generate(moment.now, (moment.random)());
        let own = bounds;
        let bounds = self.deployment.connections(own);
        let of_user = || {
            bounds
                .per_user
                .is_some_and(|most| self.connections_of(&principal) >= most.get())
        };
        let reason = if of_user() {
            Some(match own.per_user == bounds.per_user {
                true => "the user has as many connections as are allowed",
                false => "the user has as many connections as the deployment allows",
            })
        } else if self.room(bounds, hubs) == Room::Ask {
            Some(match own.per_tenant == bounds.per_tenant {
                true => "the tenant has as many connections as are allowed",
                false => "the tenant has as many connections as the deployment allows",
            })
        } else {
            None
        };
        if let Some(reason) = reason {
            // Not a refused upgrade: a browser does not show why one was, and its page would try again and again.
            let mut effects = Vec::new();
            close(&connection, CloseCode::TooManyConnections, reason, false, &mut effects);
            return Ok((connection, effects));
        }
        let session = Session {
            counted_until: Some(moment.now),
            ..Session::new(connection.clone(), principal)
        };
        let welcome = ServerFrame::Welcome {
            connection_id: connection.clone(),
            protocol: PROTOCOL,
            tenant: session.principal.tenant.clone(),
            user: session.principal.user.clone(),
            server_time: moment.now,
            limits: Limits {
                frame_bytes: FRAME_BYTES_MAX,
                in_flight: FOLLOWS_MAX,
            },
            heartbeat_ms: HEARTBEAT_MS,
        };
        self.sessions.insert(connection.clone(), session);
        let effects = alloc::vec![
            Effect::Save { of: connection.clone() },
            Effect::Send {
                to: connection.clone(),
                frame: welcome.encode()
            },
        ];
        Ok((connection, effects))
    }

    /// What the gate is to be asked before one more connection is taken: whether there is a place for it, beside so many. `None`:
    /// nothing, and [`Hub::open`] decides.
    pub fn ask_for_place(&mut self, bounds: Bounds, hubs: u16) -> Option<(u32, NonZeroU32)> {
        let bounds = self.deployment.connections(bounds);
        let most = bounds.per_tenant.filter(|_| hubs > 1)?;
        if self.room(bounds, hubs) == Room::Yes {
            return None;
        }
        self.places.ask();
        Some((self.live(), most))
    }

    /// What the gate said; `None` where it did not answer.
    pub fn hear_places(&mut self, held: Option<u32>) {
        self.places.hear(held);
    }

    /// The gate calls back the places that nobody needs. Says how many are needed, and `None` where that cannot be said now.
    pub fn recall_places(&mut self) -> Option<u32> {
        let live = self.live();
        self.places.recalled(live)
    }

    fn room(&self, bounds: Bounds, hubs: u16) -> Room {
        match bounds.per_tenant {
            None => Room::Yes,
            // All of them are here.
            Some(most) if hubs <= 1 && self.live() < most.get() => Room::Yes,
            Some(_) if hubs <= 1 => Room::Ask,
            Some(_) => self.places.room(self.live()),
        }
    }

    fn live(&self) -> u32 {
        u32::try_from(self.sessions.len()).unwrap_or(u32::MAX)
    }

    /// How many connections the user has. All of them are here: a user belongs to one hub.
    fn connections_of(&self, principal: &Principal) -> u32 {
        let own = |session: &&Session| session.principal.user == principal.user;
        u32::try_from(self.sessions.values().filter(own).count()).unwrap_or(u32::MAX)
    }

    /// A socket is gone. Its jobs go on.
    #[must_use]
    pub fn closed(&mut self, now: UnixMs, connection: &ConnectionId) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(mut session) = self.sessions.remove(connection) {
            self.untold.add(Meter::ConnectionMs, session.count(now));
            self.untold.add_all(&Counts(session.untold));
            for follow in &session.follows {
                self.unfollow(follow.job, connection);
            }
            for subscription in &session.subscriptions {
                let of = (connection, &session.principal.user);
                self.leave(subscription, of, Departure::AfterGrace, &mut effects);
            }
        }
        effects
    }

    /// Requests under way and jobs followed share one bound.
    pub(super) fn has_room(&self, connection: &ConnectionId) -> Result<(), Error> {
        let Some(session) = self.sessions.get(connection) else {
            return Ok(());
        };
        let under_way = self.pending.of_socket(connection);
        if session.follows.len() + under_way < FOLLOWS_MAX && session.has_room(under_way + 1, 0) {
            return Ok(());
        }
        let message = format!(
            "This socket has {FOLLOWS_MAX} requests under way and jobs followed, or as many as its channels leave room for: limit `in_flight`."
        );
        Err(Error::new(ErrorCode::RateLimited, message).retry_after(1000))
    }

    pub(super) fn unfollow(&mut self, job: JobId, connection: &ConnectionId) {
        if let Some(connections) = self.followers.get_mut(&job) {
            connections.remove(connection);
            if connections.is_empty() {
                self.followers.remove(&job);
            }
        }
    }
}
