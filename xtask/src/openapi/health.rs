//! How a tenant is, and whether the deployment is complete.

use tidegate_protocol::ErrorCode::Forbidden;
use tidegate_protocol::http::HealthView;

use super::operation::Operation;
use super::problems::of;
use super::schemas::Schemas;

/// `/v1/admin/health`.
pub fn health(schemas: &mut Schemas) -> Operation {
    Operation::new(
        "/v1/admin/health",
        "get",
        "getTenantHealth",
        "administration",
        "Tells how the tenant is",
    )
    .about(
        "`healthy` where there is nothing to do, `degraded` where somebody should look, `unhealthy` where a part of the tenant \
        itself does not answer; `reasons` says why. A growth under way is no reason.",
    )
    .answer(200, "How it is, whatever that is.", schemas.of::<HealthView>())
    .refused(&[of(Forbidden)])
}
