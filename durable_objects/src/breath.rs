//! Lets sockets be read and timers fire while there is always something to do.
//!
//! The platform's event loop looks at sockets and timers only when nothing else is ready. Parts in one process that call
//! each other, as a queue does in which the end of each job starts the next, can keep it from that for seconds: nobody else
//! is heard, and no timer fires, until a backlog is done. Whoever waits for a timer lets the loop look.

use std::cell::Cell;

use crate::timer::sleep;

/// Calls that one object decides between two looks. The ends of so many attempts start as many, which is some ten
/// milliseconds of work. Counted, not timed: only the object that has so much to do waits, and the clock may stand still.
pub const CALLS_MAX: usize = 32;

/// How much was done since the loop looked at sockets and timers.
#[derive(Default)]
pub struct Breath {
    calls: Cell<usize>,
}

impl Breath {
    /// Whether so much was done that a look has to be waited for, with [`Self::take`].
    pub fn is_due(&self) -> bool {
        self.calls.get() >= CALLS_MAX
    }

    /// Counts what is done now. `true`, after a look: the next one has to be watched for, by a [`Self::take`] that nobody
    /// waits for.
    #[must_use]
    pub fn count(&self, calls: usize) -> bool {
        let before = self.calls.get();
        self.calls.set(before.saturating_add(calls));
        before == 0
    }

    /// Ends once the loop has looked at sockets and timers.
    pub async fn take(&self) {
        sleep(0).await;
        self.calls.set(0);
    }
}
