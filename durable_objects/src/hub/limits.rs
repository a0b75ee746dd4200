//! Limits on requests: questions to the gate, and leases that go back to it.

use std::rc::Rc;

use tidegate_engine::admission::LOOK_MS;
use tidegate_protocol::calls::admission::{Ask, Decided};
use tidegate_protocol::calls::tenant;
use tidegate_protocol::http::AuditRefusal;
use tidegate_protocol::{Error, ErrorCode};

use super::Shell;
use crate::platform::{beside, log_error, now};
use crate::remote;
use crate::timer::sleep;

impl Shell {
    /// Asks the gate whether limits have room.
    pub(super) fn ask_gate(self: &Rc<Self>, ask: Box<Ask>) {
        let shell = self.clone();
        beside(&self.state, async move {
            let decided = shell.admitted(ask).await;
            let effects = shell.memory.borrow_mut().decided(now(), decided);
            shell.perform(effects);
            shell.event();
            shell.look_after_leases();
        });
    }

    async fn admitted(&self, ask: Box<Ask>) -> core::result::Result<Decided, Error> {
        match self.gate(&tenant::Call::Admit(ask)).await? {
            tenant::Reply::Decided(decided) => Ok(*decided),
            _ => Err(Error::new(
                ErrorCode::InternalError,
                "The gate answered another question.",
            )),
        }
    }

    async fn gate(&self, call: &tenant::Call) -> core::result::Result<tenant::Reply, Error> {
        let (tenant, _) = self.name.as_ref().ok_or_else(Error::not_found)?;
        remote::tenant(&self.env, tenant, call).await
    }

    /// Gives back what nobody uses, as long as there are leases. A hub that has none sleeps.
    pub(super) fn look_after_leases(self: &Rc<Self>) {
        if self.looks.get() || !self.memory.borrow().has_leases() {
            return;
        }
        self.looks.set(true);
        let shell = self.clone();
        beside(&self.state, async move {
            while shell.memory.borrow().has_leases() {
                sleep(LOOK_MS).await;
                let (returned, effects) = shell.memory.borrow_mut().idle_leases(now());
                shell.perform(effects);
                let Some((_, hub)) = shell.name else { break };
                if !returned.is_empty()
                    && let Err(error) = shell.gate(&tenant::Call::GiveBack { hub, returned }).await
                {
                    log_error("leases were not given back", error);
                }
            }
            shell.looks.set(false);
        });
    }

    /// Tells the gate what was refused here.
    pub(super) fn tell_refused(self: &Rc<Self>, refused: Vec<AuditRefusal>) {
        let shell = self.clone();
        beside(&self.state, async move {
            if let Err(error) = shell.gate(&tenant::Call::Refused { refused }).await {
                log_error("the gate was not told of refusals", error);
            }
        });
    }
}
