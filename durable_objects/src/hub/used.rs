//! What a hub counts of its tenant's use.

use std::rc::Rc;

use tidegate_engine::hub::SOCKET_COUNT_MS;
use tidegate_engine::usage::{Next, Standing, Tally};
use tidegate_protocol::calls::usage::Meter;

use super::Shell;
use crate::platform::now;
use crate::sql::ObjectDatabase;
use crate::usage::{self, Counts, Usage};

impl Shell {
    /// Something happens here.
    pub(super) fn event(self: &Rc<Self>) {
        usage::event(&self.state, self);
    }

    /// Something happens here, by a call.
    pub(super) fn called(self: &Rc<Self>) {
        self.usage.add(Meter::ObjectCalls, 1);
        self.event();
    }
}

impl Counts for Shell {
    fn usage(&self) -> &Usage {
        &self.usage
    }

    fn db(&self) -> &ObjectDatabase {
        &self.db
    }

    fn standing(&self) -> Standing {
        let memory = self.memory.borrow();
        match () {
            () if !memory.is_idle() || memory.has_leases() || !self.asking.borrow().is_empty() => Standing::Busy,
            () if memory.sockets() > 0 => Standing::Keeping,
            () => Standing::Forgetful,
        }
    }

    fn collect(&self, next: Next, tally: &mut Tally) {
        let saved = {
            let mut memory = self.memory.borrow_mut();
            let mut saved = memory.count_sockets(now(), SOCKET_COUNT_MS);
            memory.take_used(tally);
            saved.extend(match next {
                Next::Keep => memory.keep_used(tally),
                _ => memory.take_kept(tally),
            });
            saved
        };
        self.save_all(saved);
    }
}
