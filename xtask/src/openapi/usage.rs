//! What the HTTP API tells of what a tenant uses, and of budgets.

use serde_json::{Value, json};
use tidegate_protocol::ErrorCode::{Forbidden, NotFound, TenantSuspended};
use tidegate_protocol::calls::usage::Meter;
use tidegate_protocol::http::{BudgetsView, UsageExported, UsageView};
use tidegate_protocol::ids::TenantId;
use tidegate_protocol::time::UnixMs;

use super::access::UNREAD;
use super::operation::Operation;
use super::problems::{FAULTS, of};
use super::schemas::Schemas;

const TAG: &str = "administration";

/// `/v1/admin/usage`, and an operator's paths about other tenants.
pub fn usage(schemas: &mut Schemas) -> Vec<Operation> {
    let own = Operation::new("/v1/admin/usage", "get", "getUsage", TAG, "Tells what the tenant used").about(
        "By the hour (kept for 35 days), the day or the month (both for 400 days), in UTC, with an estimate of what it costs and \
        how the budgets stand. Objects report once they are quiet, and every ten seconds while they are busy, so that what happened since \
        may be missing; so is what an object had not reported when it ended by force.",
    );
    let own = windows(own, schemas)
        .answer(200, "What was used.", schemas.of::<UsageView>())
        .refused(&[of(Forbidden), FAULTS]);
    let other = Operation::new(
        "/v1/admin/tenants/{tenant}/usage",
        "get",
        "getUsageOfTenant",
        TAG,
        "Tells what a tenant of the deployment used",
    )
    .parameter("path", "tenant", schemas.of::<TenantId>(), "The tenant.");
    let other = windows(other, schemas)
        .answer(200, "What was used.", schemas.of::<UsageView>())
        .refused(&[of(Forbidden), of(NotFound), of(TenantSuspended), FAULTS]);
    let body = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["format"],
        "properties": {
            "format": { "enum": ["csv", "ndjson"] },
            "window": window(),
            "from": schemas.of::<UnixMs>(),
            "to": schemas.of::<UnixMs>(),
        },
    });
    let export = Operation::new(
        "/v1/admin/usage/export",
        "post",
        "exportUsage",
        TAG,
        "Stores what the tenant used as one of its objects",
    )
    .about("Its key follows from what is asked, so that the same once more takes its place.")
    .body("application/json", body, "Which windows, and how they are written.")
    .answer(201, "Where it is.", schemas.of::<UsageExported>())
    .refused(&UNREAD)
    .refused(&[of(Forbidden), FAULTS]);
    let budgets = Operation::new(
        "/v1/admin/tenants/{tenant}/budgets",
        "put",
        "setBudgets",
        TAG,
        "Sets an operator's budgets for a tenant",
    )
    .about(
        "They take the place of those that an operator set before, and stand beside the tenant's own, which are part of its \
        composition. A request has to keep all of them.",
    )
    .parameter("path", "tenant", schemas.of::<TenantId>(), "The tenant.")
    .body("application/json", budgets_body(), "The budgets, by name.")
    .answer(200, "All budgets of the tenant, and how they stand.", schemas.of::<BudgetsView>())
    .refused(&UNREAD)
    .refused(&[of(Forbidden), of(NotFound), of(TenantSuspended), FAULTS]);
    vec![own, export, other, budgets]
}

fn window() -> Value {
    json!({ "type": "string", "enum": ["hour", "day", "month"], "default": "day" })
}

fn windows(operation: Operation, schemas: &mut Schemas) -> Operation {
    operation
        .parameter("query", "window", window(), "How long the windows are.")
        .parameter(
            "query",
            "from",
            schemas.of::<UnixMs>(),
            "From the window of this time on; a day, 30 days or a year back where it is absent.",
        )
        .parameter(
            "query",
            "to",
            schemas.of::<UnixMs>(),
            "Until this time; now where it is absent.",
        )
}

fn budgets_body() -> Value {
    let budget = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["meter", "per", "units"],
        "properties": {
            "meter": { "type": "string", "enum": Meter::NAMES },
            "per": { "type": "string", "enum": ["day", "month"] },
            "units": { "type": "integer", "minimum": 1, "maximum": 1_u64 << 52 },
            "warn_percent": { "type": "integer", "minimum": 1, "maximum": 100, "default": 80 },
        },
    });
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["budgets"],
        "properties": { "budgets": {
            "type": "object",
            "maxProperties": 16,
            "propertyNames": { "pattern": "^[a-z][a-z0-9_-]{0,47}$" },
            "additionalProperties": budget,
        } },
    })
}
