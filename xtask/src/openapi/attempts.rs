//! What the HTTP API takes from those who make attempts themselves.

use serde_json::{Value, json};
use tidegate_protocol::ErrorCode::{self, LeaseLost};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::LeaseRenewed;
use tidegate_protocol::ids::JobId;
use tidegate_protocol::limits::{
    BODY_BYTES_MAX, FAILURE_BYTES_MAX, FINISH_BYTES_MAX, PROGRESS_BYTES_MAX, QUEUE_TIMEOUT_MS_MAX,
};

use super::again::BODY;
use super::operation::Operation;
use super::problems::of;
use super::schemas::Schemas;

/// Every operation of this group.
pub fn operations(schemas: &mut Schemas) -> Vec<Operation> {
    vec![report(schemas), finish(schemas)]
}

fn milliseconds(description: &str) -> Value {
    json!({ "description": description, "type": "integer", "minimum": 0, "maximum": QUEUE_TIMEOUT_MS_MAX })
}

fn report(schemas: &mut Schemas) -> Operation {
    let bytes = u64::try_from(PROGRESS_BYTES_MAX).unwrap_or(u64::MAX);
    let body = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "progress": {
                "description": "How far the attempt is. Stored, and told to whoever follows the job.",
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "percentage": {
                        "description": "Never goes backwards within an attempt.",
                        "type": "number", "minimum": 0, "maximum": 100,
                    },
                    "message": { "description": "One line for a person.", "type": "string", "maxLength": bytes },
                    "metadata": { "description": "Facts for a program, at most 4096 bytes.", "type": "object" },
                },
            },
        },
    });
    Operation::new(
        "/v1/attempts/{id}:report",
        "post",
        "reportAttempt",
        "attempts",
        "Says that an attempt goes on",
    )
    .about(
        "Renews the lease. An empty body is a sign of life alone, and costs no write. Where the lease is lost, because it \
        was not renewed in time, the job was cancelled or its time is over, the answer is `LEASE_LOST`: the attempt \
        should stop, for nothing that it says counts any more.",
    )
    .parameter("path", "id", schemas.of::<JobId>(), "The job.")
    .body_or_none("application/json", body, format!("At most {BODY_BYTES_MAX} bytes."))
    .answer(200, "The attempt goes on.", schemas.of::<LeaseRenewed>())
    .by_attempt()
    .refused(&BODY)
    .refused(&[of(LeaseLost)])
}

fn finish(schemas: &mut Schemas) -> Operation {
    let variant = |outcome: &str, name: &str, schema: Value, required: bool| {
        let mut required_members = vec!["outcome"];
        if required {
            required_members.push(name);
        }
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": required_members,
            "properties": { "outcome": { "const": outcome }, name: schema },
        })
    };
    let error = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["message"],
        "properties": {
            "code": schemas.field::<ErrorCode>("What kind of failure this is; `PROCESSING_FAILED` where it is absent."),
            "message": {
                "description": "One sentence for a person.",
                "type": "string", "minLength": 1, "maxLength": FAILURE_BYTES_MAX,
            },
            "retryable": {
                "description": "Whether trying again may help. Where it is absent, the code decides: yes, unless its status is below 500.",
                "type": "boolean",
            },
            "retry_after_ms": milliseconds("The shortest wait before the next attempt."),
        },
    });
    let result = schemas.field::<JsonText>("The result; `null` where it is absent.");
    let body = json!({
        "oneOf": [
            variant("succeeded", "result", result, false),
            variant("failed", "error", error, true),
            variant("snoozed", "ms", milliseconds("How much later the attempt goes on. Costs no attempt."), true),
        ],
    });
    Operation::new(
        "/v1/attempts/{id}:finish",
        "post",
        "finishAttempt",
        "attempts",
        "Ends an attempt",
    )
    .about(
        "The same outcome under the same token is taken once, and answered as done again as long as that can be told; any \
        other outcome of an attempt that has ended is `LEASE_LOST`.",
    )
    .parameter("path", "id", schemas.of::<JobId>(), "The job.")
    .body("application/json", body, format!("At most {FINISH_BYTES_MAX} bytes."))
    .answer(200, "The outcome is stored.", json!({ "type": "object" }))
    .by_attempt()
    .refused(&BODY)
    .refused(&[of(LeaseLost)])
}
