//! What a hub counts of its tenant's use, and the budgets that it goes by.

use alloc::vec::Vec;
use core::mem;

use tidegate_protocol::Error;
use tidegate_protocol::calls::usage::{Counts, Meter};
use tidegate_protocol::time::UnixMs;

use super::{Effect, Hub, Session};
use crate::usage::{self, Tally};

/// How old the count of an open socket's time may be before it is counted up. Milliseconds. Each time costs a write of its
/// attachment, no row.
pub const SOCKET_COUNT_MS: u64 = 600_000;

impl Session {
    /// Counts the time until now. Nothing of before is known of a socket that an instance of older code accepted.
    pub(super) fn count(&mut self, now: UnixMs) -> u64 {
        let since = self.counted_until.replace(now);
        since.map_or(0, |since| now.since(since))
    }
}

impl Hub {
    /// Errors: `QUOTA_EXCEEDED` while a budget is spent, as far as this hub heard.
    pub(super) fn check_budgets(&self, now: UnixMs) -> Result<(), Error> {
        usage::check(&self.access, now)
    }

    /// Counts the time of the sockets that are open, where it was not counted for `age_ms`. A socket that sleeps keeps in its
    /// attachment how far that has got.
    pub fn count_sockets(&mut self, now: UnixMs, age_ms: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (connection, session) in &mut self.sessions {
            if session.counted_until.is_none_or(|until| now.since(until) >= age_ms) {
                self.untold.add(Meter::ConnectionMs, session.count(now));
                effects.push(Effect::Save { of: connection.clone() });
            }
        }
        effects
    }

    /// Hands over what was counted here.
    pub fn take_used(&mut self, tally: &mut Tally) {
        // Below zero where requests were refused by the job queue after they had been handed over.
        let admitted = u64::try_from(self.admitted).unwrap_or(0);
        self.admitted = self.admitted.min(0);
        tally.add(Meter::Requests, admitted);
        tally.add_all(&mem::take(&mut self.untold));
    }

    /// Has a socket keep what was counted and is in no report, while the hub sleeps. It stays counted where there is no socket.
    pub fn keep_used(&mut self, tally: &mut Tally) -> Vec<Effect> {
        let Some((connection, session)) = self.sessions.iter_mut().next() else {
            return Vec::new();
        };
        let mut counts = Counts(mem::take(&mut session.untold));
        counts.add_all(&tally.keep());
        session.untold = counts.0;
        alloc::vec![Effect::Save { of: connection.clone() }]
    }

    /// Counts back what sockets have kept. They keep it no longer, so that it is told once.
    pub fn take_kept(&mut self, tally: &mut Tally) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (connection, session) in &mut self.sessions {
            if !session.untold.is_empty() {
                tally.add_all(&Counts(mem::take(&mut session.untold)));
                effects.push(Effect::Save { of: connection.clone() });
            }
        }
        effects
    }
}
