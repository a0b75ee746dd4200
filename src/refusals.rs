//! What callers that are known were refused, for the audit trail of their tenant.

use std::cell::RefCell;
use std::collections::BTreeMap;

use tidegate_durable_objects::platform::{log_error, now};
use tidegate_durable_objects::remote;
use tidegate_engine::audit::refusals::Tally;
use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::tenant::Call;
use tidegate_protocol::ids::TenantId;
use worker::{Context, Env};

/// Tenants of which refusals are counted at a time: what was not told of others is lost.
const TENANTS_MAX: usize = 1_000;

thread_local! {
    static TALLIES: RefCell<BTreeMap<TenantId, Tally>> = const { RefCell::new(BTreeMap::new()) };
}

/// Counts a refusal, and tells the tenant's gate once a minute, beside the answer.
pub fn note(env: &Env, context: &Context, tenant: TenantId, code: ErrorCode) {
    let refused = TALLIES.with_borrow_mut(|tallies| {
        while tallies.len() >= TENANTS_MAX && !tallies.contains_key(&tenant) {
            tallies.pop_first();
        }
        tallies.entry(tenant.clone()).or_default().note(now(), code)
    });
    let Some(refused) = refused else { return };
    let env = env.clone();
    context.wait_until(async move {
        if let Err(error) = remote::tenant(&env, &tenant, &Call::Refused { refused }).await {
            log_error("the gate was not told of refusals", error);
        }
    });
}
