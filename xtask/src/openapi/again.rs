//! What the HTTP API does about jobs that came to nothing, and with several jobs at once.

use serde_json::{Value, json};
use tidegate_protocol::ErrorCode::{
    self, Conflict, Forbidden, NotFound, PayloadTooLarge, QueueFull, UnsupportedMediaType, ValidationError,
};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::{BULK_JOBS_MAX, BulkAnswer, DeadLetterPage, Job, REDRIVES_PER_SECOND_MAX};
use tidegate_protocol::ids::{ActionName, BatchId, JobId, UserId};
use tidegate_protocol::limits::{BODY_BYTES_MAX, DELAY_MS_MAX};

use super::operation::Operation;
use super::operations::paged;
use super::problems::{FAULTS, Refusal, of};
use super::schemas::{Schemas, by_name};

/// What a body can be refused with.
pub const BODY: [Refusal; 4] = [
    of(ValidationError),
    FAULTS,
    of(PayloadTooLarge),
    of(UnsupportedMediaType),
];

/// Every operation of this group.
pub fn operations(schemas: &mut Schemas) -> Vec<Operation> {
    vec![
        retry(schemas),
        pause(schemas),
        resume(schemas),
        reschedule(schemas),
        list(schemas),
        redrive(schemas),
        discard(schemas),
        cancel(schemas),
    ]
}

fn retry(schemas: &mut Schemas) -> Operation {
    let body = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "payload": schemas.field::<JsonText>("Another input for the new job. Only for a job that has ended."),
        },
    });
    Operation::new("/v1/jobs/{id}:retry", "post", "retryJob", "jobs", "Tries a job again")
        .about(
            "A job that waits for its time becomes due now. One that failed, was cancelled or expired stays ended, and is \
            done again by a new job: asking again gives the same new job, whatever payload comes with that. A job that \
            runs or has succeeded is a `CONFLICT`. Another user's job takes the scope `jobs:write`.",
        )
        .parameter("path", "id", schemas.of::<JobId>(), "The job.")
        .body_or_none("application/json", body, format!("At most {BODY_BYTES_MAX} bytes."))
        .answer(202, "The job that is tried now: itself, or the new one.", schemas.of::<Job>())
        .with_header("Location", "That job.", "string")
        .refused(&BODY)
        .refused(&[of(NotFound), of(Forbidden), of(Conflict), of(QueueFull)])
}

fn change(schemas: &mut Schemas, path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation::new(path, "post", id, "jobs", summary)
        .parameter("path", "id", schemas.of::<JobId>(), "The job.")
        .answer(200, "The job as it is then.", schemas.of::<Job>())
        .refused(&[of(NotFound), of(Forbidden), of(Conflict)])
}

fn pause(schemas: &mut Schemas) -> Operation {
    change(schemas, "/v1/jobs/{id}:pause", "pauseJob", "Holds a job back").about(
        "A job that waits, for its time, a place or its next attempt, is `paused` until it is resumed; limits on its \
        waiting time go on. One that is paused already stays so; one that runs or has ended is a `CONFLICT`. Another \
        user's job takes the scope `jobs:write`.",
    )
}

fn resume(schemas: &mut Schemas) -> Operation {
    change(schemas, "/v1/jobs/{id}:resume", "resumeJob", "Lets a paused job go").about(
        "The job waits again where it waited, and starts at once where its time has come meanwhile. One that waits is \
        left as it is.",
    )
}

fn reschedule(schemas: &mut Schemas) -> Operation {
    let body = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "delay_ms": { "type": "integer", "minimum": 0, "maximum": DELAY_MS_MAX, "description": "So much later than now." },
            "run_at": { "type": "string", "format": "date-time", "description": "Not before this moment." },
        },
        "minProperties": 1,
        "maxProperties": 1,
    });
    change(
        schemas,
        "/v1/jobs/{id}:reschedule",
        "rescheduleJob",
        "Gives a waiting job another time",
    )
    .about(
        "Earlier or later than before; a time that has passed is now. A paused job stays paused. Limits of time count \
            from the new time for a job that has not begun; one that has cannot be put off beyond its `total_timeout`.",
    )
    .body("application/json", body, "When.")
    .refused(&BODY)
}

fn list(schemas: &mut Schemas) -> Operation {
    let list = Operation::new(
        "/v1/dead-letters",
        "get",
        "listDeadLetters",
        "dead-letters",
        "Lists dead letters, newest first",
    )
    .about(
        "A job that failed for good is a dead letter until it is redriven, discarded or forgotten. Seen as jobs are: \
        others' take the scope `jobs:read` or `jobs:write`. A job whose doorbell the platform's queue lost is listed, too, \
        whatever became of it, with the code `DOORBELL_LOST`, until that is discarded or the job is forgotten. Beside the filters named here, `metadata.<name>` takes the \
        value that a note must have. A page may be short, or even empty, and still have a cursor.",
    )
    .parameter(
        "query",
        "action",
        schemas.of::<ActionName>(),
        "Only jobs of this action.",
    )
    .parameter("query", "user", schemas.of::<UserId>(), "Only jobs of this user.")
    .parameter(
        "query",
        "code",
        schemas.of::<ErrorCode>(),
        "Only jobs that failed with this code; with `DOORBELL_LOST`, those of which a lost doorbell is noted.",
    )
    .parameter("query", "batch", schemas.of::<BatchId>(), "Only jobs of this batch.");
    paged(schemas, list)
        .answer(200, "A page of dead letters.", schemas.of::<DeadLetterPage>())
        .refused(&[FAULTS])
}

/// The members that every change of several jobs has.
fn selection(schemas: &mut Schemas) -> Value {
    json!({
        "ids": {
            "description": "These jobs.",
            "type": "array",
            "minItems": 1,
            "maxItems": BULK_JOBS_MAX,
            "uniqueItems": true,
            "items": schemas.of::<JobId>(),
        },
        "filter": by_name("JobFilter"),
        "limit": {
            "description": "With a filter: jobs that this call changes at most.",
            "type": "integer",
            "minimum": 1,
            "maximum": BULK_JOBS_MAX,
            "default": BULK_JOBS_MAX,
        },
        "cursor": { "description": "The `cursor` of the call before.", "type": "string" },
        "dry_run": { "description": "Only tell what would be done.", "type": "boolean", "default": false },
    })
}

fn several(schemas: &mut Schemas, operation: Operation, properties: Value) -> Operation {
    let body = json!({
        "type": "object",
        "description": "Either `ids` or a `filter`.",
        "additionalProperties": false,
        "oneOf": [{ "required": ["ids"] }, { "required": ["filter"] }],
        "properties": properties,
    });
    operation
        .body("application/json", body, format!("At most {BODY_BYTES_MAX} bytes."))
        .answer(
            200,
            "What became of each job. Where there is a `cursor`, the same body with it goes on.",
            schemas.of::<BulkAnswer>(),
        )
        .refused(&BODY)
}

fn redrive(schemas: &mut Schemas) -> Operation {
    let mut properties = selection(schemas);
    properties["rate_per_second"] = json!({
        "description": "So many of the new jobs start in a second; all at once where it is absent.",
        "type": "integer",
        "minimum": 1,
        "maximum": REDRIVES_PER_SECOND_MAX,
    });
    properties["payload"] = schemas.field::<JsonText>("Another input for the new job. Only with one id.");
    let operation = Operation::new(
        "/v1/dead-letters:redrive",
        "post",
        "redriveDeadLetters",
        "dead-letters",
        "Does dead letters again",
    )
    .about(
        "Each by a new job with `redriven_from`; the old one stays as it ended. A job that was redriven already is \
        answered with the same new job. One that has not failed, whose doorbell alone was lost, is a `CONFLICT`. Others' jobs take the scope `jobs:write`.",
    );
    several(schemas, operation, properties).refused(&[of(NotFound)])
}

fn discard(schemas: &mut Schemas) -> Operation {
    let properties = selection(schemas);
    let operation = Operation::new(
        "/v1/dead-letters:discard",
        "post",
        "discardDeadLetters",
        "dead-letters",
        "Takes dead letters out of the list",
    )
    .about(
        "The jobs stay as they ended, and can still be retried one by one. Of a job whose doorbell was lost, what is noted \
        of that goes.",
    );
    several(schemas, operation, properties)
}

fn cancel(schemas: &mut Schemas) -> Operation {
    let properties = selection(schemas);
    let operation = Operation::new("/v1/jobs:cancel", "post", "cancelJobs", "jobs", "Cancels several jobs")
        .about("A filter finds jobs that have not ended.");
    several(schemas, operation, properties)
}
