//! What the tenant's objects tell of its use, and what the gate counts itself. Nobody has to tell the gate of that: it goes with
//! the next report of another object, or the next question.

use std::rc::Rc;

use tidegate_engine::tenancy;
use tidegate_protocol::Error;
use tidegate_protocol::calls::usage::Report;

use super::Shell;

/// The gate is awake for as long as this is there.
pub(super) struct Awake(Rc<Shell>);

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.usage.ends();
    }
}

impl Shell {
    /// Something happens here, until what is given is dropped.
    pub(super) fn awake(self: &Rc<Self>) -> Awake {
        self.usage.begins();
        Awake(self.clone())
    }

    /// Takes in a report, and with it what was counted here.
    pub(super) fn hear_used(self: &Rc<Self>, told: Option<Report>) -> Result<(), Error> {
        let own = self.usage.report(&self.db);
        let seq = own.as_ref().map(|own| own.seq);
        let effects = self.turn(|_, db| tenancy::used(db, crate::platform::now(), own.into_iter().chain(told)))?;
        if let Some(seq) = seq {
            self.usage.confirmed(seq);
        }
        self.perform(effects);
        Ok(())
    }
}
