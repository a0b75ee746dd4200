//! Plans by revision, compiled once in an isolate.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use tidegate_engine::composition::{self, Plan};
use tidegate_protocol::calls::tenant;
use tidegate_protocol::ids::{Revision, TenantId};
use tidegate_protocol::{Error, ErrorCode};
use worker::Env;

use crate::access::{Wanted, known};
use crate::platform::log_error;
use crate::remote::{self, Asked};

/// Plans kept in an isolate. A document is at most 256 KiB, most are a few KiB: a few MiB of the 128 that are shared.
const PLANS_MAX: usize = 32;

thread_local! {
    static PLANS: RefCell<VecDeque<(TenantId, Rc<Plan>)>> = const { RefCell::new(VecDeque::new()) };
    static DEFAULT: RefCell<Option<Rc<Plan>>> = const { RefCell::new(None) };
}

/// The key of a document in KV.
pub fn document_key(tenant: &TenantId, revision: &Revision) -> String {
    format!("{}composition:{revision}", prefix(tenant))
}

/// What the keys of all entries of a tenant begin with.
pub fn prefix(tenant: &TenantId) -> String {
    format!("t:{tenant}:")
}

fn compile(text: &str) -> Result<Rc<Plan>, Error> {
    composition::compile(text, tidegate_patterns::MANIFESTS)
        .map(Rc::new)
        .map_err(|error| {
            log_error("a stored composition", &error);
            Error::new(
                ErrorCode::InternalError,
                "The tenant's composition cannot be used any more.",
            )
        })
}

/// The plan of a tenant that has activated none.
///
/// Errors: `INTERNAL_ERROR` where the default composition is broken, which a test excludes.
pub fn default_plan() -> Result<Rc<Plan>, Error> {
    DEFAULT.with_borrow_mut(|kept| match kept {
        Some(plan) => Ok(plan.clone()),
        None => {
            let plan = compile(composition::DEFAULT)?;
            *kept = Some(plan.clone());
            Ok(plan)
        }
    })
}

/// The plan of a revision: from this isolate, else from KV, else from the tenant's gate, which keeps every document.
///
/// Errors: `NOT_FOUND` for a revision that the tenant never had, `UNAVAILABLE` where neither can be reached.
pub async fn plan(env: &Env, tenant: &TenantId, revision: Option<&Revision>) -> Result<Rc<Plan>, Error> {
    let default = default_plan()?;
    let Some(revision) = revision.filter(|revision| **revision != default.revision) else {
        return Ok(default);
    };
    let kept = PLANS.with_borrow(|plans| {
        plans
            .iter()
            .find(|(of, plan)| of == tenant && plan.revision == *revision)
            .map(|(_, plan)| plan.clone())
    });
    if let Some(plan) = kept {
        return Ok(plan);
    }
    let text = document(env, tenant, revision).await?;
    let plan = compile(&text)?;
    PLANS.with_borrow_mut(|plans| {
        if plans.len() >= PLANS_MAX {
            plans.pop_front();
        }
        plans.push_back((tenant.clone(), plan.clone()));
    });
    Ok(plan)
}

/// The same, for whoever is in another crate: there it would be compiled once more.
///
/// Errors: those of [`plan`].
pub fn of_revision<'a>(env: &'a Env, tenant: &'a TenantId, revision: Option<&'a Revision>) -> Asked<'a, Rc<Plan>> {
    Box::pin(plan(env, tenant, revision))
}

/// The plan that is active now, as the tenant's gate says: it is asked each time, because no one else knows at once.
///
/// Errors: `UNAVAILABLE` where it cannot be reached.
pub fn active<'a>(env: &'a Env, tenant: &'a TenantId) -> Asked<'a, Rc<Plan>> {
    Box::pin(async move {
        match remote::tenant(env, tenant, &tenant::Call::Describe).await? {
            tenant::Reply::Description(description) => plan(env, tenant, description.revision.as_ref()).await,
            _ => Err(Error::new(
                ErrorCode::InternalError,
                "The gate answered another question.",
            )),
        }
    })
}

/// Whether the tenant lists `origin`, as far as this isolate heard within the last second. A part of its own for the sake of whoever
/// is in another crate, as [`of_revision`] is.
///
/// Errors: `UNAVAILABLE` where neither gate nor plan can be reached.
pub fn lists_origin<'a>(env: &'a Env, tenant: &'a TenantId, origin: &'a str) -> Asked<'a, bool> {
    Box::pin(async move {
        let description = known(env, tenant, Wanted::Access).await?;
        let plan = of_revision(env, tenant, description.revision.as_ref()).await?;
        Ok(plan.origins.lists(origin))
    })
}

async fn document(env: &Env, tenant: &TenantId, revision: &Revision) -> Result<String, Error> {
    if let Ok(kv) = env.kv("CONFIGURATION") {
        match kv.get(&document_key(tenant, revision)).text().await {
            Ok(Some(text)) => return Ok(text),
            Ok(None) => {}
            Err(cause) => log_error("KV", cause),
        }
    }
    match remote::tenant(
        env,
        tenant,
        &tenant::Call::Document {
            revision: revision.clone(),
        },
    )
    .await?
    {
        tenant::Reply::Document(text) => Ok(text),
        _ => Err(Error::new(
            ErrorCode::InternalError,
            "The gate answered another question.",
        )),
    }
}
