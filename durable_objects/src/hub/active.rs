//! What is active: the composition that this hub decides by, and how it hears of another.

use std::rc::Rc;

use tidegate_engine::composition::{DeploymentLimits, Plan};
use tidegate_engine::hub::{Hub as Memory, Moment};
use tidegate_protocol::calls::tenant::{self, Description};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::{DESCRIPTION_MS, Shell};
use crate::company::company;
use crate::platform::{beside, log_error, now, random};
use crate::{plans, remote};

/// What was heard of the active composition, and when.
pub(super) struct Known {
    pub description: Description,
    pub plan: Rc<Plan>,
    pub at: UnixMs,
}

impl Shell {
    /// What is active, from memory where that is recent, else from the gate.
    pub(super) async fn active(self: &Rc<Self>) -> core::result::Result<Rc<Known>, Error> {
        let known = self.known.borrow().clone();
        let Some(known) = known else { return self.ask().await };
        self.renew(&known, now());
        Ok(known)
    }

    /// Asks the gate again, beside the work and once, where what is known has become old.
    pub(super) fn renew(self: &Rc<Self>, known: &Rc<Known>, now: UnixMs) {
        if now.since(known.at) <= DESCRIPTION_MS {
            return;
        }
        let fresh = Known {
            description: known.description.clone(),
            plan: known.plan.clone(),
            at: now,
        };
        *self.known.borrow_mut() = Some(Rc::new(fresh));
        let shell = self.clone();
        beside(&self.state, async move {
            if let Err(error) = shell.ask().await {
                log_error("the gate was not reached", error);
            }
        });
    }

    pub(super) async fn ask(self: &Rc<Self>) -> core::result::Result<Rc<Known>, Error> {
        let (tenant, _) = self.name.as_ref().ok_or_else(Error::not_found)?;
        match remote::tenant(&self.env, tenant, &tenant::Call::Describe).await? {
            tenant::Reply::Description(description) => self.learn(description).await,
            _ => Err(Error::new(
                ErrorCode::InternalError,
                "The gate answered another question.",
            )),
        }
    }

    pub(super) async fn learn(self: &Rc<Self>, description: Description) -> core::result::Result<Rc<Known>, Error> {
        let (tenant, _) = self.name.as_ref().ok_or_else(Error::not_found)?;
        let plan = plans::plan(&self.env, tenant, description.revision.as_ref()).await?;
        let mut kept = self.known.borrow_mut();
        if let Some(newer) = kept
            .as_ref()
            .filter(|known| known.description.version > description.version)
        {
            return Ok(newer.clone());
        }
        let ended = {
            let mut memory = self.memory.borrow_mut();
            memory.spread(description.spreads());
            memory.limit(DeploymentLimits::kept(description.limits.as_ref()));
            let mut ended = memory.keep_out(now(), description.access.clone());
            if kept.as_ref().is_none_or(|known| known.plan.revision != plan.revision) {
                ended.extend(memory.recheck(now(), &plan, None));
            }
            ended
        };
        let known = Rc::new(Known {
            description,
            plan,
            at: now(),
        });
        *kept = Some(known.clone());
        drop(kept);
        self.perform(ended);
        Ok(known)
    }

    pub(super) fn decide<R>(
        &self,
        known: &Known,
        now: UnixMs,
        decide: impl FnOnce(&mut Memory, &mut Moment<'_>, &Plan) -> R,
    ) -> R {
        if let Some((tenant, _)) = &self.name {
            company(tenant, now);
        }
        let mut chance = random;
        let mut moment = Moment {
            now,
            random: &mut chance,
        };
        decide(&mut self.memory.borrow_mut(), &mut moment, &known.plan)
    }
}
