//! What a hub counts of its tenant's use.

use std::rc::Rc;

use tidegate_engine::hub::SOCKET_COUNT_MS;
use tidegate_protocol::calls::usage::{Meter, Report};
use tidegate_protocol::ids::TenantId;
use worker::{Env, State};

use super::Shell;
use crate::platform::now;
use crate::usage::{Counts, Usage, tell};

impl Shell {
    /// Something happens here.
    pub(super) fn event(self: &Rc<Self>) {
        if self.usage.event() {
            tell(self.clone());
        }
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

    fn place(&self) -> Option<(&Env, &State, &TenantId)> {
        let (tenant, _) = self.name.as_ref()?;
        Some((&self.env, &self.state, tenant))
    }

    fn report(&self) -> Option<Report> {
        let counted = self.memory.borrow_mut().count_sockets(now(), SOCKET_COUNT_MS);
        self.save_all(counted);
        let mut memory = self.memory.borrow_mut();
        self.usage.report(&self.db, |tally| memory.take_used(tally))
    }
}
