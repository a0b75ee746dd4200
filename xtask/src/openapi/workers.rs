//! What the HTTP API gives to workers.

use serde_json::json;
use tidegate_protocol::ErrorCode::{Forbidden, LeaseLost, NotFound};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::{LEASE_WAIT_MS_MAX, LEASED_JOBS_MAX, LeasedJobs};
use tidegate_protocol::ids::{ActionName, JobId, PoolName};
use tidegate_protocol::limits::BODY_BYTES_MAX;

use super::again::BODY;
use super::operation::Operation;
use super::problems::of;
use super::schemas::Schemas;

/// Every operation of this group.
pub fn operations(schemas: &mut Schemas) -> Vec<Operation> {
    vec![lease(schemas), payload(schemas)]
}

fn lease(schemas: &mut Schemas) -> Operation {
    let body = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["max", "worker"],
        "properties": {
            "max": {
                "description": "So many jobs at most. 0 from a worker that leaves: it ends the call that still waits.",
                "type": "integer", "minimum": 0, "maximum": LEASED_JOBS_MAX,
            },
            "wait_ms": {
                "description": "How long to wait where there are none.",
                "type": "integer", "minimum": 0, "maximum": LEASE_WAIT_MS_MAX, "default": 0,
            },
            "worker": {
                "description": "The worker's name, one of its own. It waits with one call at a time: a newer one ends the older.",
                "type": "string", "minLength": 1, "maxLength": 128,
            },
            "actions": {
                "description": "Only jobs of these actions.",
                "type": "array", "minItems": 1, "maxItems": 100, "items": schemas.of::<ActionName>(),
            },
        },
    });
    Operation::new("/v1/workers/{pool}:lease", "post", "leaseJobs", "attempts", "Gives jobs to a worker")
        .about(
            "Jobs of actions whose pattern is `pull`, for workers of the pool. Each comes with a lease, which lasts as long as \
            the worker reports in time, and with the token with which it reports. Takes the scope `jobs:work`.",
        )
        .parameter("path", "pool", schemas.of::<PoolName>(), "The pool.")
        .body("application/json", body, format!("At most {BODY_BYTES_MAX} bytes."))
        .answer(200, "The jobs; none where the wait is over.", schemas.of::<LeasedJobs>())
        .refused(&BODY)
        .refused(&[of(Forbidden), of(NotFound)])
}

fn payload(schemas: &mut Schemas) -> Operation {
    Operation::new(
        "/v1/attempts/{id}/payload",
        "get",
        "readAttemptPayload",
        "attempts",
        "Reads the input of an attempt",
    )
    .about("Where it was too large to come with the lease.")
    .parameter("path", "id", schemas.of::<JobId>(), "The job.")
    .answer(200, "The input.", schemas.of::<JsonText>())
    .by_attempt()
    .refused(&[of(LeaseLost), of(tidegate_protocol::ErrorCode::Gone)])
}
