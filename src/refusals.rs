//! What callers that are known were refused, for the audit trail of their tenant.

use std::cell::RefCell;

use tidegate_durable_objects::platform::{log_error, now};
use tidegate_durable_objects::remote;
use tidegate_engine::audit::refusals::Tally;
use tidegate_engine::inbound::Unsigned;
use tidegate_protocol::ErrorCode;
use tidegate_protocol::SortedMap;
use tidegate_protocol::calls::tenant::Call;
use tidegate_protocol::http::AuditRefusal;
use tidegate_protocol::ids::{TenantId, WebhookSource};
use worker::{Context, Env};

/// Tenants of which refusals are counted at a time: what was not told of others is lost.
const TENANTS_MAX: usize = 1_000;

thread_local! {
    static TALLIES: RefCell<SortedMap<TenantId, Tally>> = const { RefCell::new(SortedMap::new()) };
}

/// Counts a refusal, and tells the tenant's gate once a minute, beside the answer.
pub fn note(env: &Env, context: &Context, tenant: TenantId, code: ErrorCode) {
    count(env, context, tenant, &|tally| tally.note(now(), code));
}

/// The same for a webhook whose signature is not right.
pub fn note_webhook(env: &Env, context: &Context, tenant: TenantId, source: &WebhookSource, why: Unsigned) {
    count(env, context, tenant, &|tally| tally.note_webhook(now(), source, why));
}

fn count(env: &Env, context: &Context, tenant: TenantId, note: &dyn Fn(&mut Tally) -> Option<Vec<AuditRefusal>>) {
    let refused = TALLIES.with_borrow_mut(|tallies| {
        while tallies.len() >= TENANTS_MAX && !tallies.contains_key(&tenant) {
            tallies.pop_first();
        }
        note(tallies.entry(tenant.clone()).or_default())
    });
    let Some(refused) = refused else { return };
    let env = env.clone();
    context.wait_until(async move {
        if let Err(error) = remote::tenant(&env, &tenant, &Call::Refused { refused }).await {
            log_error("the gate was not told of refusals", error);
        }
    });
}
