//! What the HTTP API tells of limits on requests.

use serde_json::{Value, json};
use tidegate_protocol::ErrorCode::{Forbidden, NotFound, TenantSuspended};
use tidegate_protocol::http::LimitsView;
use tidegate_protocol::ids::TenantId;

use super::access::UNREAD;
use super::operation::Operation;
use super::problems::{FAULTS, of};
use super::schemas::Schemas;

const TAG: &str = "administration";
/// What one object of the job queue takes: `WAITING_RANGE` and `WAITING_BYTES_RANGE` of the engine.
const WAITING_MAX: u64 = 100_000;
const WAITING_BYTES: [u64; 2] = [1_024, 100_000_000_000];

/// `/v1/admin/limits`, and those of a tenant that an operator names.
pub fn limits(schemas: &mut Schemas) -> Vec<Operation> {
    let own = Operation::new(
        "/v1/admin/limits",
        "get",
        "getLimits",
        TAG,
        "Tells how often limits on requests have refused, and what is left of one",
    )
    .about(
        "How often is counted in the memory of the tenant's gate, and begins anew where that does. What is left is told of the \
        limit that the query names, by key; a key of which nothing is taken may be missing. `deployment` is what the deployment's \
        operator allows the tenant, who cannot change it.",
    );
    let own = shown(own, schemas).refused(&[of(Forbidden), FAULTS]);
    let path = "/v1/admin/tenants/{tenant}/limits";
    let other = Operation::new(
        path,
        "get",
        "getLimitsOfTenant",
        TAG,
        "Tells of the limits of a tenant as its own administrator is told",
    );
    let other = other.parameter("path", "tenant", schemas.of::<TenantId>(), "The tenant.");
    let other = shown(other, schemas).refused(&[of(Forbidden), of(NotFound), of(TenantSuspended), FAULTS]);
    let set = Operation::new(path, "put", "setLimits", TAG, "Sets what the deployment allows a tenant")
        .about(
            "The body takes the place of the one before; `{}` limits nothing. A request has to pass these and the tenant's own \
            limits, in one decision. It is answered when every hub of the tenant has heard of it, or has had two seconds for that.",
        )
        .parameter("path", "tenant", schemas.of::<TenantId>(), "The tenant.");
    let set = shown(set, schemas)
        .body("application/json", body(), "What the deployment allows the tenant.")
        .refused(&UNREAD)
        .refused(&[of(Forbidden), of(NotFound), of(TenantSuspended), FAULTS]);
    vec![own, other, set]
}

fn shown(operation: Operation, schemas: &mut Schemas) -> Operation {
    let text = || json!({ "type": "string" });
    operation
        .parameter("query", "limit", text(), "The limit whose keys are shown.")
        .parameter(
            "query",
            "count",
            json!({ "type": "integer", "minimum": 1, "maximum": 200, "default": 50 }),
            "So many keys at most.",
        )
        .parameter("query", "cursor", text(), "Where an earlier page ended.")
        .answer(200, "The counts, and a page of keys.", schemas.of::<LimitsView>())
}

/// The parts of a composition that can be said of a tenant from outside.
fn body() -> Value {
    let between = |[least, most]: [u64; 2]| json!({ "type": "integer", "minimum": least, "maximum": most });
    let number = |most: u64| between([1, most]);
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "admission": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "limits": {
                        "description": "As `admission.limits` of a composition.",
                        "type": "object",
                        "maxProperties": 32,
                        "propertyNames": { "pattern": "^[a-z][a-z0-9_-]{0,47}$" },
                        "additionalProperties": { "type": "object" },
                    },
                    "connections": {
                        "type": "object",
                        "additionalProperties": false,
                        "minProperties": 1,
                        "properties": { "per_user": number(10_000), "per_tenant": number(10_000_000) },
                    },
                },
            },
            "queue": {
                "type": "object",
                "additionalProperties": false,
                "properties": { "concurrency": number(1_000_000), "waiting": number(WAITING_MAX), "waiting_bytes": between(WAITING_BYTES) },
            },
        },
    })
}
