//! What the HTTP API tells of taking a tenant back to a time.

use serde_json::json;
use tidegate_protocol::ErrorCode::{Conflict, Forbidden, NotFound, NotImplemented};
use tidegate_protocol::http::RecoveryView;
use tidegate_protocol::ids::TenantId;

use super::operation::Operation;
use super::problems::{FAULTS, of};
use super::schemas::Schemas;

/// `/v1/admin/tenants/{tenant}/recovery`.
pub fn recovery(schemas: &mut Schemas) -> Operation {
    let body = json!({
        "type": "object",
        "required": ["at"],
        "additionalProperties": false,
        "properties": {
            "at": {
                "type": "string",
                "format": "date-time",
                "description": "Within the last 30 days.",
            },
        },
    });
    Operation::new(
        "/v1/admin/tenants/{tenant}/recovery",
        "post",
        "recoverTenant",
        "administration",
        "Takes a suspended tenant back to a time",
    )
    .about("By the platform's point-in-time recovery of its objects: all of them or none. Takes the scope `operator`.")
    .parameter("path", "tenant", schemas.of::<TenantId>(), "The tenant.")
    .body("application/json", body, "The time.")
    .answer(
        200,
        "Every object goes back, with what undoes that.",
        schemas.of::<RecoveryView>(),
    )
    .refused(&[of(Forbidden), of(NotFound), FAULTS, of(Conflict), of(NotImplemented)])
}
