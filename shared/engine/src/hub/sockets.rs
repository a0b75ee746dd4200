//! Sockets that come, sleep and go, and which of them follow which jobs.

use alloc::format;
use alloc::vec::Vec;

use tidegate_protocol::calls::Principal;
use tidegate_protocol::frames::{Limits, PROTOCOL, ServerFrame};
use tidegate_protocol::ids::{ConnectionId, JobId};
use tidegate_protocol::limits::{FOLLOWS_MAX, FRAME_BYTES_MAX};
use tidegate_protocol::{Error, ErrorCode};

use crate::access;

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
        self.sessions.insert(session.connection.clone(), session);
    }

    /// A socket was accepted for `principal`.
    ///
    /// Errors: `FORBIDDEN` for a token whose scopes a sleeping socket cannot keep; those of [`access::check`].
    pub fn open(
        &mut self,
        moment: &mut Moment<'_>,
        principal: Principal,
    ) -> Result<(ConnectionId, Vec<Effect>), Error> {
        check_scopes(&principal)?;
        access::check(&self.access, &principal, moment.now)?;
        let connection = ConnectionId::generate(moment.now, (moment.random)());
        let session = Session::new(connection.clone(), principal);
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

    /// A socket is gone. Its jobs go on.
    pub fn closed(&mut self, connection: &ConnectionId) {
        if let Some(session) = self.sessions.remove(connection) {
            for follow in &session.follows {
                self.unfollow(follow.job, connection);
            }
        }
    }

    /// Requests under way and jobs followed share one bound.
    pub(super) fn has_room(&self, connection: &ConnectionId) -> Result<(), Error> {
        let follows = self.sessions.get(connection).map_or(0, |session| session.follows.len());
        if follows + self.pending.of_socket(connection) < FOLLOWS_MAX {
            return Ok(());
        }
        let message = format!("This socket has {FOLLOWS_MAX} requests under way and jobs followed: limit `in_flight`.");
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
