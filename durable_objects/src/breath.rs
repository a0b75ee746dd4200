//! Lets sockets be read and timers fire while there is always something to do.
//!
//! The platform's event loop looks at sockets and timers only when nothing else is ready. Parts in one process that call
//! each other, as a queue does in which the end of each job starts the next, can keep it from that for seconds: nobody else
//! is heard, and no timer fires, until a backlog is done. Whoever waits for a timer lets the loop look.

use std::cell::Cell;

use tidegate_protocol::time::UnixMs;

use crate::timer::sleep;

/// How long may be worked without a look at sockets and timers. Milliseconds. Looking costs some hundredth of one.
const UNSEEN_MS_MAX: u64 = 5;

/// Whether the loop still comes to look.
#[derive(Default)]
pub struct Breath {
    /// When the timer was set that has not fired yet.
    since: Cell<Option<UnixMs>>,
}

impl Breath {
    /// Whether there was no look for so long that one has to be waited for, with [`Self::take`].
    pub fn is_due(&self, now: UnixMs) -> bool {
        self.since.get().is_some_and(|since| now.since(since) >= UNSEEN_MS_MAX)
    }

    /// Begins to watch, unless it is watched already: `true` asks for a [`Self::take`] that nobody waits for.
    #[must_use]
    pub fn watch(&self, now: UnixMs) -> bool {
        let begins = self.since.get().is_none();
        if begins {
            self.since.set(Some(now));
        }
        begins
    }

    /// Ends once the loop has looked at sockets and timers.
    pub async fn take(&self) {
        sleep(0).await;
        self.since.set(None);
    }
}
