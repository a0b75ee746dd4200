//! What the HTTP API says of jobs that wait, and how it holds them back.

use serde_json::json;
use tidegate_protocol::ErrorCode::{Conflict, Forbidden, NotFound};
use tidegate_protocol::calls::queueing::ActionPattern;
use tidegate_protocol::http::{QueueView, Why};
use tidegate_protocol::ids::JobId;
use tidegate_protocol::limits::BODY_BYTES_MAX;

use super::again::BODY;
use super::operation::Operation;
use super::problems::of;
use super::schemas::Schemas;

/// Every operation of this group.
pub fn operations(schemas: &mut Schemas) -> Vec<Operation> {
    vec![
        why(schemas),
        show(schemas),
        change(
            schemas,
            Operation::new("/v1/queue:pause", "post", "pauseQueue", "queue", "Holds jobs back")
                .about(
                    "None of the jobs that are meant starts before a resume of the same scope; what runs goes on. Pauses \
                    add up: a job starts when none of them means it. A scope that is paused already stays as it is. A \
                    call that reached only some of the shards is simply made again.",
                )
                .refused(&[of(Conflict)]),
        ),
        change(
            schemas,
            Operation::new("/v1/queue:resume", "post", "resumeQueue", "queue", "Lets jobs go again").about(
                "Ends the pause of exactly this scope, and of no other. A scope that is not paused stays as it is.",
            ),
        ),
    ]
}

fn why(schemas: &mut Schemas) -> Operation {
    Operation::new(
        "/v1/jobs/{id}/why",
        "get",
        "explainJob",
        "jobs",
        "Says what a job waits for",
    )
    .about(
        "Everything that keeps the job from running now: its own time, its next attempt or its doorbell, pauses, limits \
        without room, the places of the queue itself, and how many jobs of its kind come first. Empty for a job that \
        runs or has ended. Of the jobs that hold a limit, those are named that the token may see.",
    )
    .parameter("path", "id", schemas.of::<JobId>(), "The job.")
    .answer(200, "What it waits for.", schemas.of::<Why>())
    .refused(&[of(NotFound)])
}

fn show(schemas: &mut Schemas) -> Operation {
    Operation::new("/v1/queue", "get", "getQueue", "queue", "Shows the queue")
        .about("The sum over all shards, each asked in turn.")
        .answer(
            200,
            "What runs, what waits, and what is held back.",
            schemas.of::<QueueView>(),
        )
        .refused(&[of(Forbidden)])
}

fn change(schemas: &mut Schemas, operation: Operation) -> Operation {
    let body = json!({
        "type": "object",
        "description": "Which jobs: exactly one of the members.",
        "additionalProperties": false,
        "minProperties": 1,
        "maxProperties": 1,
        "properties": {
            "tenant": { "description": "All of the tenant's jobs.", "const": true },
            "action": schemas.field::<ActionPattern>("The jobs of these actions."),
            "key": { "description": "The jobs that take the share of this key.", "type": "string", "maxLength": 1024 },
        },
    });
    operation
        .body("application/json", body, format!("At most {BODY_BYTES_MAX} bytes."))
        .answer(200, "The queue as it is now.", schemas.of::<QueueView>())
        .refused(&BODY)
        .refused(&[of(Forbidden)])
}
