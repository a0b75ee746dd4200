//! What `Idempotency-Key` adds to each operation that honours it. Those that do are every one that changes something, but for
//! a few: which they are is said by the Worker's own table, and a test compares the two.

use serde_json::json;
use tidegate_protocol::ErrorCode::{Gone, IdempotencyInProgress, IdempotencyMismatch, RateLimited, ValidationError};
use tidegate_protocol::ids::IdempotencyKey;

use super::operation::Operation;
use super::problems::of;
use super::schemas::Schemas;

/// Operations that pass a key over, though they change something; or change nothing, though they are no `get`.
const WITHOUT: [&str; 10] = [
    "leaseJobs",
    "reportAttempt",
    "finishAttempt",
    "createTicket",
    "putObject",
    "putBackupPart",
    "createKey",
    "rotateKey",
    "explainPolicies",
    "receiveWebhook",
];
/// Operations whose key is honoured by the job that they make, or the message.
const BY_JOB: [&str; 4] = ["createRequest", "createRequests", "triggerSchedule", "publishMessage"];

/// The operation with what a key adds to it.
pub fn described(operation: Operation, schemas: &mut Schemas) -> Operation {
    if operation.method == "get" || operation.method == "head" || WITHOUT.contains(&operation.id) {
        return operation;
    }
    let mut operation = operation.refused(&[of(ValidationError)]);
    if !BY_JOB.contains(&operation.id) {
        operation = operation
            .parameter(
                "header",
                "Idempotency-Key",
                schemas.of::<IdempotencyKey>(),
                "The same key for the same request of the same user, done once and answered alike for 24 hours; quoted or \
                bare.",
            )
            .refused(&[
                of(IdempotencyInProgress),
                of(IdempotencyMismatch),
                of(RateLimited),
                of(Gone),
            ]);
    }
    for (_, answer) in &mut operation.answers {
        answer["headers"]["Idempotency-Replayed"] = json!({
            "description": "`true` where this is the answer to an earlier request with the same key.",
            "schema": { "type": "string", "const": "true" },
        });
    }
    operation
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::document;

    const ROUTES: &str = include_str!("../../../src/routes.rs");

    #[test]
    fn the_header_is_described_where_the_worker_honours_it() {
        let around: BTreeSet<&str> = ROUTES
            .split("Keys::Route(\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        assert!(around.len() > 10, "{around:?}");
        let document = document();
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
                let key = parameters.iter().filter(|one| one["name"] == "Idempotency-Key").count();
                let marked = operation.to_string().contains("Idempotency-Replayed");
                assert_eq!((key, marked), (usize::from(marked), key == 1), "{method} {path}");
                if operation.to_string().contains("IDEMPOTENCY_IN_PROGRESS") {
                    assert!(marked && method != "get", "{method} {path}");
                    described.insert(path.as_str());
                }
            }
        }
        assert_eq!(described, around);
    }
}
