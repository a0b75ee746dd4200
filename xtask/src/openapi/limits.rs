//! What the HTTP API tells of limits on requests.

use serde_json::json;
use tidegate_protocol::ErrorCode::Forbidden;
use tidegate_protocol::http::LimitsView;

use super::operation::Operation;
use super::problems::{FAULTS, of};
use super::schemas::Schemas;

/// `/v1/admin/limits`.
pub fn limits(schemas: &mut Schemas) -> Operation {
    let text = || json!({ "type": "string" });
    Operation::new(
        "/v1/admin/limits",
        "get",
        "getLimits",
        "administration",
        "Tells how often limits on requests have refused, and what is left of one",
    )
    .about(
        "How often is counted in the memory of the tenant's gate, and begins anew where that does. What is left is told of the \
        limit that the query names, by key; a key of which nothing is taken may be missing.",
    )
    .parameter("query", "limit", text(), "The limit whose keys are shown.")
    .parameter(
        "query",
        "count",
        json!({ "type": "integer", "minimum": 1, "maximum": 200, "default": 50 }),
        "So many keys at most.",
    )
    .parameter("query", "cursor", text(), "Where an earlier page ended.")
    .answer(200, "The counts, and a page of keys.", schemas.of::<LimitsView>())
    .refused(&[of(Forbidden), FAULTS])
}
