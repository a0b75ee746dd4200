//! The tokens of live sockets: another one before the first expires, a warning in time, and the end.

use alloc::vec::Vec;

use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::access::Access;
use tidegate_protocol::frames::{CloseCode, ServerFrame};
use tidegate_protocol::ids::{ConnectionId, RequestId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::outgoing::{close, send, send_error};
use super::session::Warned;
use super::sockets::check_scopes;
use super::{Effect, Hub};
use crate::access;

/// How long before its end a socket is told that its token expires. Milliseconds.
pub const WARNING_MS: u64 = 60_000;
/// How much earlier it may be told, so that sockets whose tokens expire one soon after the other wake the hub once.
/// Milliseconds.
const TOGETHER_MS: u64 = 300_000;

impl Hub {
    /// The token of an [`Effect::Authenticate`] was looked at. One of another tenant or user ends the socket; one that cannot be
    /// trusted changes nothing.
    pub fn authenticated(
        &mut self,
        now: UnixMs,
        to: &ConnectionId,
        request_id: RequestId,
        verified: Result<Principal, Error>,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(session) = self.sessions.get_mut(to) else {
            return effects;
        };
        let access = &self.access;
        let verified = verified.and_then(|principal| {
            check_scopes(&principal)?;
            access::check(access, &principal, now)?;
            Ok(principal)
        });
        match verified {
            Err(error) => effects.push(send_error(to, Some(request_id), error, now)),
            Ok(principal)
                if principal.tenant != session.principal.tenant || principal.user != session.principal.user =>
            {
                let reason = "the token is that of another tenant or user";
                close(to, CloseCode::Unauthorized, reason, false, &mut effects);
            }
            Ok(principal) => {
                // The socket is where it was, whatever way the token came.
                let network = core::mem::take(&mut session.principal.network);
                session.principal = Principal { network, ..principal };
                session.warned = Warned::NotYet;
                effects.push(Effect::Save { of: to.clone() });
                effects.push(send(to, &ServerFrame::Ok { request_id }));
            }
        }
        effects
    }

    /// Who may not come in from now on. Ends the sockets of those who are in.
    pub fn keep_out(&mut self, now: UnixMs, access: Access) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.access == access {
            return effects;
        }
        self.access = access;
        for (connection, session) in &self.sessions {
            if let Err(error) = access::check(&self.access, &session.principal, now) {
                let (code, reason) = match error.code {
                    ErrorCode::TenantSuspended => (CloseCode::TenantSuspended, "tenant suspended"),
                    _ => (CloseCode::Unauthorized, "credential revoked"),
                };
                close(connection, code, reason, false, &mut effects);
            }
        }
        effects
    }

    /// Warns the sockets whose tokens expire soon, and ends those whose tokens have.
    pub fn expire(&mut self, now: UnixMs) -> Vec<Effect> {
        let mut effects = Vec::new();
        let warned_until = now.plus(WARNING_MS + TOGETHER_MS);
        // Nobody is warned early for his own sake.
        let due = self
            .sessions
            .values()
            .any(|session| session.warning_at().is_some_and(|at| at <= now));
        for (connection, session) in &mut self.sessions {
            let expires_at = session.principal.expires_at;
            if expires_at <= now {
                close(connection, CloseCode::TokenExpired, "token expired", true, &mut effects);
            } else if due && session.warned == Warned::NotYet && expires_at <= warned_until {
                session.warned = Warned::Told;
                effects.push(Effect::Save { of: connection.clone() });
                effects.push(send(connection, &ServerFrame::AuthExpiring { expires_at }));
            }
        }
        effects
    }

    /// When the next socket is to be warned or ended; `None` where none ever is.
    pub fn next_expiry(&self) -> Option<UnixMs> {
        let next = |session: &super::Session| session.warning_at().unwrap_or(session.principal.expires_at);
        let ends = self
            .sessions
            .values()
            .filter(|session| session.principal.expires_at < Principal::NEVER);
        ends.map(next).min()
    }
}
