//! The tokens of live sockets: new ones are looked at, and an alarm ends those that nobody has renewed.

use std::rc::Rc;

use tidegate_protocol::ids::{ConnectionId, RequestId};

use super::Shell;
use crate::platform::{beside, log_error, now};
use crate::tokens;

impl Shell {
    /// Looks at the token that is to take the place of a socket's.
    pub(super) fn authenticate(self: &Rc<Self>, to: ConnectionId, request_id: RequestId, token: String) {
        let shell = self.clone();
        beside(&self.state, async move {
            let verified = tokens::verify(&shell.env, &token).await;
            let effects = shell
                .memory
                .borrow_mut()
                .authenticated(now(), &to, request_id, verified);
            shell.perform(effects);
            let known = shell.known.borrow().clone();
            if let Some(known) = known {
                let ended = shell.memory.borrow_mut().recheck(now(), &known.plan, Some(&to));
                shell.perform(ended);
            }
            shell.event();
            shell.arm();
        });
    }

    /// The alarm: warns sockets, and ends those whose tokens have expired.
    pub(super) fn expire(self: &Rc<Self>) {
        self.alarm.set(None);
        let effects = self.memory.borrow_mut().expire(now());
        self.perform(effects);
        self.arm();
    }

    /// Sets the alarm for the next token that expires, where none is set for an earlier moment.
    pub(super) fn arm(&self) {
        let Some(next) = self.memory.borrow().next_expiry() else {
            return;
        };
        if self.alarm.get().is_some_and(|set| set <= next) {
            return;
        }
        match self.db.set_alarm(next) {
            Ok(()) => self.alarm.set(Some(next)),
            Err(error) => log_error("an alarm was not set", error),
        }
    }
}
