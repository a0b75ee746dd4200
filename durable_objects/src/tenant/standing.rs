//! What the gate and the directory of tenants tell each other: that there is the tenant, whether it is suspended, and that
//! it is erased.

use std::rc::Rc;

use tidegate_engine::admission::Gate;
use tidegate_engine::idempotency::Keys;
use tidegate_engine::upstreams::Breakers;
use tidegate_engine::{directory, tenancy};
use tidegate_protocol::Error;
use tidegate_protocol::calls::directory::{Call as Telling, Erased, Reply as Told};
use tidegate_protocol::calls::tenant::{Call, Reply};
use tidegate_protocol::ids::TenantId;
use tidegate_protocol::time::UnixMs;
use worker::Env;

use super::{Shell, restarting};
use crate::access::unexpected;
use crate::platform::{beside, log_error, now};
use crate::{backup, erase, remote, residence};

/// How long the gate of an erased tenant goes by what the directory said. Milliseconds.
const ERASED_MS: u64 = 1_000;

/// The directory's word that the tenant is erased.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tombstone {
    /// When it was heard.
    at: UnixMs,
    /// Since when.
    erased_at: UnixMs,
    /// What the version of its description was.
    version: u64,
}

impl Shell {
    /// Before a gate that holds nothing does anything, it asks the directory: that enters the tenant, or says that it is
    /// erased. Then this gives the answer, and the gate goes on holding nothing. Any other gate goes on at once.
    ///
    /// Errors: `CONFLICT` and `TENANT_SUSPENDED` for what cannot be asked of an erased tenant; `UNAVAILABLE`.
    pub(super) async fn begin_tenant(self: &Rc<Self>, call: &Call) -> Result<Option<Reply>, Error> {
        if self.begun.get() {
            return Ok(None);
        }
        let is_blank = self.db.is_blank().map_err(|error| {
            log_error("a gate was not looked at", error);
            restarting()
        })?;
        if !is_blank {
            backup::open(&**self).await?;
            self.begun.set(true);
            self.announce();
            return Ok(None);
        }
        // Whoever only asks is not worth a question each. Before it refuses, the gate asks: the tenant may be there again.
        let lately = self.erased.get().filter(|heard| now().since(heard.at) <= ERASED_MS);
        if let Some(Ok(reply)) = lately.map(|heard| tenancy::of_erased(call, heard.erased_at, heard.version)) {
            return Ok(Some(reply));
        }
        let tenant = self.name.as_ref().ok_or_else(Error::not_found)?.tenant();
        let telling = Telling::Announce {
            tenant: tenant.clone(),
            version: 0,
            suspended_at: None,
            resident: residence::is_kept(&self.env, tenant)?,
        };
        let Told::Standing { version, erased_at } = remote::directory(&self.env, &telling).await? else {
            return Err(unexpected());
        };
        let Some(erased_at) = erased_at else {
            self.turn(|_, db| tenancy::begin(db, version))?;
            self.begun.set(true);
            return Ok(None);
        };
        self.erased.set(Some(Tombstone {
            at: now(),
            erased_at,
            version,
        }));
        tenancy::of_erased(call, erased_at, version).map(Some)
    }

    /// Tells the directory what it has not confirmed. Where it is not reached, it is told again by the alarm.
    pub(super) fn announce(self: &Rc<Self>) {
        let Some(name) = self.name.clone() else { return };
        let untold = match self.turn(|_, db| directory::untold(db)) {
            Ok(Some(untold)) => untold,
            Ok(None) | Err(_) => return,
        };
        let (version, suspended_at) = untold;
        let shell = self.clone();
        beside(&self.state, async move {
            let resident = residence::is_kept(&shell.env, name.tenant()).unwrap_or(false);
            let telling = Telling::Announce {
                tenant: name.tenant().clone(),
                version,
                suspended_at,
                resident,
            };
            let told = remote::directory(&shell.env, &telling).await;
            // An erased gate has no such rows any more, and is not to get them back.
            let told = told.map(|_| shell.db.transaction(|db| directory::told(db, suspended_at)));
            match told {
                Ok(Ok(())) => {}
                Ok(Err(error)) => log_error("a turn was rolled back", error),
                Err(error) => {
                    log_error("the directory of tenants was not told", error);
                    shell.arm();
                }
            }
        });
    }

    /// Forgets what is in memory.
    pub(super) fn forget_memory(&self) {
        self.begun.set(false);
        self.migrated.set(false);
        *self.limits.borrow_mut() = Gate::default();
        *self.breakers.borrow_mut() = Breakers::default();
        *self.keys.borrow_mut() = Keys::default();
    }

    /// Forgets everything, in memory and in rows.
    pub(super) async fn erase(&self) -> Result<Erased, Error> {
        self.forget_memory();
        // A segment of the audit trail may be on its way into object storage.
        let erased = erase::everything(&self.state, &self.db, self.archiving.get()).await;
        self.usage.forget(&self.db);
        erased
    }
}

/// Whether a tenant is erased, or is being erased, as the directory says.
///
/// Errors: `UNAVAILABLE`.
pub async fn is_gone(env: &Env, tenant: &TenantId) -> Result<bool, Error> {
    let telling = Telling::Announce {
        tenant: tenant.clone(),
        version: 0,
        suspended_at: None,
        resident: false,
    };
    match remote::directory(env, &telling).await? {
        Told::Standing { erased_at, .. } => Ok(erased_at.is_some()),
        Told::Shown(_) => Err(unexpected()),
    }
}
