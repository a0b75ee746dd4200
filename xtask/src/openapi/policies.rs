//! What the HTTP API tells of policies.

use serde_json::json;
use tidegate_protocol::ErrorCode::{Forbidden, InvalidAction, PayloadTooLarge, UnsupportedMediaType, ValidationError};
use tidegate_protocol::http::PolicyExplanation;
use tidegate_protocol::ids::{ActionName, UserId};
use tidegate_protocol::limits::BODY_BYTES_MAX;
use tidegate_protocol::time::UnixMs;

use super::operation::Operation;
use super::problems::{FAULTS, of};
use super::schemas::Schemas;

/// `/v1/admin/policies/explain`.
pub fn explain(schemas: &mut Schemas) -> Operation {
    let body = json!({
        "type": "object",
        "required": ["action"],
        "additionalProperties": false,
        "properties": {
            "action": schemas.field::<ActionName>("What is asked for."),
            "claims": { "type": "object", "description": "The claims of the token.", "default": {} },
            "user": schemas.field::<UserId>("Who asks; without it, the claim `sub`, or whoever asks for the explanation."),
            "scopes": {
                "type": "array", "items": { "type": "string" },
                "description": "What the token allows; without it, the claim `scope`.",
            },
            "payload_bytes": {
                "type": "integer", "minimum": 0, "maximum": BODY_BYTES_MAX, "default": 0,
                "description": "Bytes of the payload.",
            },
            "now": schemas.field::<UnixMs>("When; without it, now."),
            "transport": { "enum": ["socket", "http"], "default": "http", "description": "How the request would come." },
        },
    });
    Operation::new(
        "/v1/admin/policies/explain",
        "post",
        "explainPolicies",
        "administration",
        "Tells what the active policies make of a request, and why",
    )
    .about(
        "The request is not made, counts under no limit and leaves no trace. Each policy about the action is told with what \
        its condition comes to, those behind the one that decides as well.",
    )
    .body("application/json", body, "What would be asked, and by whom.")
    .answer(200, "The decision.", schemas.of::<PolicyExplanation>())
    .refused(&[of(Forbidden), of(ValidationError), FAULTS, of(InvalidAction)])
    .refused(&[of(PayloadTooLarge), of(UnsupportedMediaType)])
}
