//! What the HTTP API does: each operation with its parameters, its answers and the codes that it can be refused with.

use serde_json::{Value, json};
use tidegate_protocol::ErrorCode::{
    Cancelled, Conflict, Forbidden, Gone, IdempotencyMismatch, InvalidAction, NotAcceptable, NotFound, PayloadTooLarge,
    PreconditionFailed, ProcessingFailed, QueueFull, QuotaExceeded, RangeNotSatisfiable, RateLimited, Timeout,
    UnsupportedMediaType, UpstreamError, ValidationError,
};
use tidegate_protocol::event::{JobState, JsonText, Progress};
use tidegate_protocol::frames::ServerFrame;
use tidegate_protocol::http::{
    Accepted, Activated, Answer, AuditPage, AuditWhat, BatchAnswer, EventPage, Job, JobPage, ObjectInfo, OutputPage,
    ShownEntry, Ticket,
};
use tidegate_protocol::http::{BackfillBody, Backfilled, ScheduleInfo, ScheduleList, Triggered};
use tidegate_protocol::ids::{
    ActionName, BatchId, IdempotencyKey, JobId, JobNumber, RequestId, ScheduleName, Seq, StreamName, TraceParent,
    UserId,
};
use tidegate_protocol::limits::{
    BATCH_BYTES_MAX, BATCH_REQUESTS_MAX, BODY_BYTES_MAX, COMPOSITION_BYTES_MAX, OBJECT_KEY_BYTES_MAX, WAIT_SECONDS_MAX,
};
use tidegate_protocol::time::UnixMs;

use super::access::access;
use super::again;
use super::attempts;
use super::batches;
use super::channels;
use super::endpoints::endpoints;
use super::health::health;
use super::limits::limits;
use super::operation::{Access, Operation};
use super::problems::{FAULTS, Refusal, of};
use super::queue;
use super::schemas::{Schemas, by_name};
use super::secrets::secrets;
use super::upstreams::upstreams;
use super::usage::usage;
use super::workers;

/// The groups of operations, each with what it is about.
pub const TAGS: [(&str, &str); 11] = [
    ("requests", "Running actions."),
    (
        "jobs",
        "Jobs, their events and their results. What a token may not see is not there.",
    ),
    (
        "queue",
        "What runs, what waits, and what is held back. Seeing it takes the scope `jobs:read` or `jobs:write`; changing it \
            `jobs:write`.",
    ),
    (
        "schedules",
        "What the tenant's clock fires. Seeing it takes the scope `jobs:read`, `jobs:write` or `admin`; changing it \
            `jobs:write` or `admin`.",
    ),
    (
        "dead-letters",
        "Jobs that failed for good, until they are redriven or discarded.",
    ),
    (
        "attempts",
        "For workers, and whoever makes the attempts of jobs: leases, signs of life, progress, outcomes.",
    ),
    ("webhooks", "What others send. No token: it is signed."),
    ("connect", "The WebSocket."),
    ("objects", "The tenant's own storage."),
    ("administration", "What takes the scope `admin`."),
    ("operations", "What operators and tools ask for. No token."),
];

/// What an action can end with, when it is the action's outcome that is asked for.
const OUTCOME: [Refusal; 9] = [
    of(ValidationError),
    FAULTS,
    of(NotFound),
    of(Conflict),
    of(Cancelled),
    of(PayloadTooLarge),
    of(ProcessingFailed),
    of(UpstreamError),
    of(Timeout),
];

/// Every operation.
pub fn all(schemas: &mut Schemas) -> Vec<Operation> {
    let groups = [
        requests,
        jobs,
        again::operations,
        queue::operations,
        workers::operations,
        attempts::operations,
        batches::operations,
        channels::operations,
        schedules,
        connect,
        objects,
        administration,
        operations,
    ];
    groups.into_iter().flat_map(|group| group(schemas)).collect()
}

/// Any text.
pub fn text() -> Value {
    json!({ "type": "string" })
}

fn bytes() -> Value {
    json!({ "description": "The bytes, as they were stored." })
}

fn requests(schemas: &mut Schemas) -> Vec<Operation> {
    let applied = "What of `Prefer` was applied.";
    let create = Operation::new("/v1/requests", "post", "createRequest", "requests", "Runs an action")
        .about(
            "As the action is declared, or as `mode` and `Prefer` choose: on the spot, or as a job. A request that is \
            refused has consumed nothing. An action that fails on the spot is answered with its own error, and with \
            `job_id` where it was a job.",
        )
        .parameter(
            "header",
            "Idempotency-Key",
            schemas.of::<IdempotencyKey>(),
            "The same key for the same action, one execution; quoted or bare. The body may say it instead.",
        )
        .parameter(
            "header",
            "Prefer",
            json!({ "type": "string", "examples": ["respond-async", "wait=10"] }),
            format!(
                "RFC 7240: `respond-async` for a job at once, `wait=N` to wait up to N seconds for the outcome, at \
                most {WAIT_SECONDS_MAX}."
            ),
        )
        .parameter(
            "header",
            "traceparent",
            schemas.of::<TraceParent>(),
            "The caller's trace (W3C Trace Context). The body may say it instead.",
        )
        .body(
            "application/json",
            by_name("Request"),
            format!("At most {BODY_BYTES_MAX} bytes."),
        )
        .answer(200, "The action's answer.", schemas.of::<Answer>())
        .with_header("Preference-Applied", applied, "string")
        .answer(202, "The request is stored as a job.", schemas.of::<Accepted>())
        .with_header("Location", "The job.", "string")
        .with_header("Preference-Applied", applied, "string")
        .refused(&OUTCOME)
        .refused(&[of(InvalidAction), of(Forbidden), of(UnsupportedMediaType)])
        .refused(&[
            of(IdempotencyMismatch),
            of(QueueFull),
            of(RateLimited),
            of(QuotaExceeded),
        ]);
    let batch = Operation::new(
        "/v1/requests:batch",
        "post",
        "createRequests",
        "requests",
        "Runs several actions",
    )
    .about(
        "Each request becomes a job, whatever its action is declared as, and has its own result: a bad one spoils \
        nothing. The mode `sync` is a fault of its request. Keys in the requests hold as anywhere. What became jobs is of one \
        batch, named by `batch_id`.",
    )
    .parameter(
        "header",
        "traceparent",
        schemas.of::<TraceParent>(),
        "The caller's trace (W3C Trace Context). A request may say it instead.",
    )
    .parameter(
        "header",
        "Idempotency-Key",
        schemas.of::<IdempotencyKey>(),
        "Names the batch, and each request in it that has no key of its own by its place: sent again, there is the \
        same batch, and one job for each place. Quoted or bare.",
    )
    .body(
        "application/json",
        json!({ "type": "array", "minItems": 1, "maxItems": BATCH_REQUESTS_MAX, "items": by_name("Request") }),
        format!("1 to {BATCH_REQUESTS_MAX} requests, at most {BATCH_BYTES_MAX} bytes."),
    )
    .or_body(
        "application/x-ndjson",
        json!({ "type": "string", "description": "A request a line. Empty lines are passed over." }),
    )
    .answer(
        200,
        "A result for each request, in their order.",
        schemas.of::<BatchAnswer>(),
    )
    .refused(&[
        of(ValidationError),
        FAULTS,
        of(PayloadTooLarge),
        of(UnsupportedMediaType),
    ]);
    vec![create, batch]
}

fn jobs(schemas: &mut Schemas) -> Vec<Operation> {
    let id = schemas.of::<JobId>();
    let of_job = |operation: Operation| {
        operation
            .parameter("path", "id", id.clone(), "The job.")
            .refused(&[of(NotFound)])
    };
    let list = Operation::new("/v1/jobs", "get", "listJobs", "jobs", "Lists jobs, newest first")
        .about(
            "A token without the scope `jobs:read` or `jobs:write` sees its own user's jobs. A page may be short, or \
            even empty, and still have a cursor. Beside the filters named here, `metadata.<name>` takes the value that a \
            note must have.",
        )
        .parameter("query", "status", schemas.of::<JobState>(), "Only jobs in this state.")
        .parameter(
            "query",
            "action",
            schemas.of::<ActionName>(),
            "Only jobs of this action.",
        )
        .parameter("query", "user", schemas.of::<UserId>(), "Only jobs of this user.")
        .parameter("query", "batch", schemas.of::<BatchId>(), "Only jobs of this batch.");
    let list = paged(schemas, list)
        .answer(200, "A page of jobs.", schemas.of::<JobPage>())
        .refused(&[FAULTS]);
    let show = Operation::new("/v1/jobs/{id}", "get", "getJob", "jobs", "Shows a job");
    let show = of_job(show)
        .parameter(
            "query",
            "wait",
            json!({ "type": "integer", "minimum": 0 }),
            format!(
                "Wait up to so many seconds for the job's end; more than {WAIT_SECONDS_MAX} are {WAIT_SECONDS_MAX}."
            ),
        )
        .answer(200, "The job, ended or not.", schemas.of::<Job>())
        .refused(&[FAULTS]);
    let cancel = Operation::new("/v1/jobs/{id}:cancel", "post", "cancelJob", "jobs", "Cancels a job").about(
        "A job that waits ends at once. One that runs ends at once too, unless its action has a `cancel_grace`: its \
            attempt is then asked to stop, and the job ends as cancelled once that has, at the end of the grace at the \
            latest. Another user's job takes the scope `jobs:write`. Cancelling a cancelled job again changes nothing.",
    );
    let cancel = of_job(cancel)
        .answer(202, "The job is cancelled.", schemas.of::<Job>())
        .refused(&[of(Forbidden), of(Conflict)]);
    let events = Operation::new("/v1/jobs/{id}/events", "get", "listJobEvents", "jobs", "Follows a job").about(
        "A stream of Server-Sent Events until the job has ended, or, where `Accept` names `application/json` and \
            not `text/event-stream`, a page of the stored events. A stream that breaks off is taken up again with \
            `Last-Event-ID`.",
    );
    let events = of_job(events)
        .parameter(
            "header",
            "Last-Event-ID",
            schemas.of::<Seq>(),
            "Only events after this one. Goes before `after`.",
        )
        .parameter("query", "after", schemas.of::<Seq>(), "Only events after this one.")
        .answer_as(
            200,
            "The events.",
            &[
                ("text/event-stream", event_stream()),
                ("application/json", schemas.of::<EventPage>()),
            ],
        )
        .refused(&[FAULTS, of(NotAcceptable)]);
    let result = Operation::new(
        "/v1/jobs/{id}/result",
        "get",
        "getJobResult",
        "jobs",
        "Gives a job's result",
    )
    .about("A job that failed is answered with its own error; one that has not ended with `CONFLICT`.");
    let result = of_job(result)
        .answer(200, "The result, streamed where it is large.", schemas.of::<JsonText>())
        .refused(&OUTCOME)
        .refused(&[of(Gone)]);
    let output = Operation::new(
        "/v1/jobs/{id}/output/{stream}",
        "get",
        "readJobOutput",
        "jobs",
        "Reads what a job writes to a stream",
    )
    .about(
        "The text from `offset` on. The oldest text makes way for new; where what was asked for is no longer kept, the \
            page says `gap` and begins behind it.",
    );
    let output = of_job(output)
        .parameter("path", "stream", schemas.of::<StreamName>(), "The stream's name.")
        .parameter(
            "query",
            "offset",
            json!({ "type": "integer", "minimum": 0, "default": 0 }),
            "The first byte of the stream that is asked for.",
        )
        .parameter(
            "query",
            "wait",
            json!({ "type": "integer", "minimum": 0 }),
            format!("Where there is no text yet, waits so many seconds for something to happen to the job, {WAIT_SECONDS_MAX} at most."),
        )
        .answer(200, "The text.", schemas.of::<OutputPage>())
        .refused(&[FAULTS]);
    vec![list, show, cancel, events, output, result]
}

fn schedules(schemas: &mut Schemas) -> Vec<Operation> {
    let list = Operation::new(
        "/v1/schedules",
        "get",
        "listSchedules",
        "schedules",
        "Lists the schedules",
    )
    .about("The schedules of the active composition, by name, each with its next nominal times and its last job.")
    .answer(200, "All of them.", schemas.of::<ScheduleList>())
    .refused(&[of(Forbidden)]);
    let name = schemas.of::<ScheduleName>();
    let change = |path, id, summary| {
        Operation::new(path, "post", id, "schedules", summary)
            .parameter("path", "name", name.clone(), "The schedule.")
            .refused(&[of(Forbidden), of(NotFound)])
    };
    let pause = change("/v1/schedules/{name}:pause", "pauseSchedule", "Holds a schedule back")
        .about("Nothing of what comes while it is held back is made up for. An activation leaves it held back.")
        .answer(200, "How it stands.", schemas.of::<ScheduleInfo>());
    let resume = change("/v1/schedules/{name}:resume", "resumeSchedule", "Lets a schedule go on")
        .about("It goes on with its next nominal time.")
        .answer(200, "How it stands.", schemas.of::<ScheduleInfo>());
    let trigger = change(
        "/v1/schedules/{name}:trigger",
        "triggerSchedule",
        "Fires a schedule now",
    )
    .about("Once, whatever its clock, its overlap and a pause say.")
    .parameter(
        "header",
        "Idempotency-Key",
        schemas.of::<IdempotencyKey>(),
        "The same key, the same job; quoted or bare. 62 characters at most, more for a name shorter than 48.",
    )
    .answer(202, "The job is stored.", schemas.of::<Triggered>())
    .with_header("Location", "The job.", "string")
    .refused(&[of(ValidationError), FAULTS, of(QueueFull)]);
    let backfill = change(
        "/v1/schedules/{name}:backfill",
        "backfillSchedule",
        "Makes up for a part of the past",
    )
    .about(
        "Fires a job for each nominal time of that part that has none, in order, whatever the overlap says. At most \
            100 nominal times are looked at; `rest_from` says where to go on.",
    )
    .body("application/json", schemas.of::<BackfillBody>(), "Which part.")
    .answer(202, "What was done.", schemas.of::<Backfilled>())
    .refused(&[of(ValidationError), FAULTS, of(QueueFull)])
    .refused(&[of(PayloadTooLarge), of(UnsupportedMediaType)]);
    vec![list, pause, resume, trigger, backfill]
}

/// The parameters of every list: moments, and what makes it a page.
pub fn paged(schemas: &mut Schemas, operation: Operation) -> Operation {
    operation
        .parameter(
            "query",
            "created_after",
            schemas.of::<UnixMs>(),
            "Only jobs accepted at this moment or later.",
        )
        .parameter(
            "query",
            "created_before",
            schemas.of::<UnixMs>(),
            "Only jobs accepted before this moment.",
        )
        .parameter(
            "query",
            "limit",
            json!({ "type": "integer", "minimum": 1, "maximum": 100, "default": 20 }),
            "Jobs of one page.",
        )
        .parameter(
            "query",
            "sort",
            json!({ "enum": ["created", "-created"], "default": "-created" }),
            "Which come first: the oldest, or the newest.",
        )
        .parameter(
            "query",
            "cursor",
            text(),
            "The `cursor` of the page before, of the same `sort`.",
        )
}

fn event_stream() -> Value {
    let moment = UnixMs(1_795_244_400_000);
    let frame = ServerFrame::Progress {
        request_id: RequestId::generate(moment, 7),
        job_id: JobId::new(JobNumber::first_at(moment), 7),
        seq: Seq(2),
        attempt: 1,
        progress: Progress {
            percentage: 40.0,
            ..Progress::default()
        },
        timestamp: moment,
    };
    // Without a type: readers of 3.1 take the stream for one text, others each event for an object.
    json!({
        "description": "`id` is the event's `seq`, `event` its `type`, and `data` a `JobEvent`. A comment keeps a \
            silent stream open.",
        "examples": [format!("id: 2\nevent: progress\ndata: {}\n\n", frame.encode())],
    })
}

fn connect(schemas: &mut Schemas) -> Vec<Operation> {
    let mut socket = Operation::new("/v1/connect", "get", "connect", "connect", "Opens a WebSocket")
        .about(
            "The frames are those of the protocol `tidegate.v1`. A token in the address is refused; a client that can \
            set no header offers the subprotocols `tidegate.v1, bearer.<token>`, or brings a ticket.",
        )
        .parameter(
            "header",
            "Upgrade",
            json!({ "const": "websocket" }),
            "Required by WebSocket (RFC 6455).",
        )
        .answer_as(101, "The connection is a WebSocket. Its first frame is `welcome`.", &[])
        .with_header(
            "Sec-WebSocket-Protocol",
            "`tidegate.v1`, where it was offered.",
            "string",
        )
        .refused(&[of(ValidationError), of(Forbidden)]);
    socket.access = Access::Socket;
    let ticket = Operation::new(
        "/v1/tickets",
        "post",
        "createTicket",
        "connect",
        "Mints a ticket for a WebSocket",
    )
    .answer(201, "The ticket.", schemas.of::<Ticket>());
    vec![socket, ticket]
}

fn objects(schemas: &mut Schemas) -> Vec<Operation> {
    const PATH: &str = "/v1/objects/{key}";
    let key = json!({ "type": "string", "minLength": 1, "maxLength": OBJECT_KEY_BYTES_MAX });
    let of_object = |method, id, summary| {
        let about = "Percent-encoded UTF-8 without control characters. A slash may stand as it is.";
        Operation::new(PATH, method, id, "objects", summary)
            .parameter("path", "key", key.clone(), about)
            .refused(&[FAULTS])
    };
    let conditional = |operation: Operation, if_match: &str, if_none_match: &str| {
        operation
            .parameter("header", "If-Match", text(), if_match)
            .parameter("header", "If-None-Match", text(), if_none_match)
            .refused(&[of(PreconditionFailed)])
    };
    let read = |method, id, summary, contents: &[(&str, Value)]| {
        let operation = of_object(method, id, summary);
        let operation = conditional(
            operation,
            "Only an object with one of these entity tags; `*` for any.",
            "Only an object with none of these entity tags; else `304`.",
        );
        operation
            .parameter(
                "header",
                "Range",
                json!({ "type": "string", "examples": ["bytes=0-499", "bytes=-200"] }),
                "One range of bytes (RFC 9110). What is not understood is passed over.",
            )
            .parameter(
                "header",
                "If-Range",
                text(),
                "The range only of an object with this entity tag, else all of it.",
            )
            .answer_as(200, "The object.", contents)
            .with_header("ETag", "The entity tag.", "string")
            .with_header("Accept-Ranges", "`bytes`.", "string")
            .with_header("Content-Length", "How long the object is.", "integer")
            .answer_as(304, "The object is the one that the client has.", &[])
            .with_header("ETag", "The entity tag.", "string")
            .refused(&[of(NotFound), of(RangeNotSatisfiable)])
    };
    let get = read("get", "getObject", "Reads an object", &[("*/*", bytes())])
        .answer_as(206, "The range.", &[("*/*", bytes())])
        .with_header("ETag", "The entity tag.", "string")
        .with_header("Accept-Ranges", "`bytes`.", "string")
        .with_header("Content-Length", "How long the range is.", "integer")
        .with_header("Content-Range", "`bytes <first>-<last>/<size>`.", "string");
    let head = read("head", "headObject", "Describes an object", &[]);
    let put = of_object("put", "putObject", "Writes an object")
        .body(
            "*/*",
            bytes(),
            "Any bytes, kept with the media type that `Content-Type` says. `Content-Length` is required: an upload says its \
            length first.",
        )
        .answer(201, "The object is stored.", schemas.of::<ObjectInfo>())
        .with_header("ETag", "The entity tag.", "string");
    let put = conditional(
        put,
        "Only over an object with this entity tag. Of several, the first counts.",
        "Only where no object has this entity tag; `*` where there is none. Of several, the first counts.",
    );
    let delete = of_object("delete", "deleteObject", "Deletes an object").answer_as(
        204,
        "There is no object of this key, whether there was one or not.",
        &[],
    );
    vec![get, head, put, delete]
}

fn administration(schemas: &mut Schemas) -> Vec<Operation> {
    const PATH: &str = "/v1/admin/composition";
    let document = || {
        json!({
            "type": "object",
            "description": "A composition: a document of the schema `urn:tidegate:composition:1`.",
        })
    };
    let get = Operation::new(
        PATH,
        "get",
        "getComposition",
        "administration",
        "Gives the active composition",
    )
    .answer(200, "The document as it was activated, or the default one.", document())
    .refused(&[of(Forbidden)]);
    let put = Operation::new(
        PATH,
        "put",
        "putComposition",
        "administration",
        "Activates a composition",
    )
    .about(
        "All faults of a document are reported together. More shards for a tenant in use are there once its objects are \
         ready; fewer are a fault, more while it still grows are a `CONFLICT`, and another number of hubs is not there yet.",
    )
    .body(
        "application/json",
        document(),
        format!("At most {COMPOSITION_BYTES_MAX} bytes."),
    )
    .answer(200, "The revision is active.", schemas.of::<Activated>())
    .refused(&[of(Forbidden), of(ValidationError), FAULTS, of(Conflict)])
    .refused(&[of(PayloadTooLarge), of(UnsupportedMediaType)]);
    let mut operations = vec![get, put, audit(schemas)];
    operations.extend(limits(schemas));
    operations.extend(upstreams(schemas));
    operations.push(super::policies::explain(schemas));
    operations.extend(super::backups::backups(schemas));
    operations.push(super::recovery::recovery(schemas));
    operations.extend(access(schemas));
    operations.push(health(schemas));
    operations.extend(secrets(schemas));
    operations.extend(super::inbound::webhooks(schemas));
    operations.extend(usage(schemas));
    operations.extend(endpoints(schemas));
    operations.extend(audit_archive(schemas));
    operations
}

fn audit(schemas: &mut Schemas) -> Operation {
    let acts: Vec<&str> = AuditWhat::ALL.iter().map(|what| what.as_str()).collect();
    Operation::new(
        "/v1/admin/audit",
        "get",
        "getAudit",
        "administration",
        "Tells who changed what by hand, newest first",
    )
    .about(
        "One entry for one call, however many jobs it was about; what changed nothing, a dry run and what an owner does with \
        one of their own jobs leave none. An entry appears shortly after its act. Without payloads, notes and secrets. Shown \
        for 400 days, and 20,000 of them and a segment at most; older ones are in the archive. With `after`, entries come as \
        they were written, oldest first, the parts of one act each by itself: so their chain can be checked, and followed.",
    )
    .parameter("query", "what", json!({ "type": "string", "enum": acts }), "Only this.")
    .parameter("query", "user", schemas.of::<UserId>(), "Only by this user.")
    .parameter("query", "from", schemas.of::<UnixMs>(), "Only done at this moment or later.")
    .parameter("query", "to", schemas.of::<UnixMs>(), "Only done before this moment.")
    .parameter(
        "query",
        "limit",
        json!({ "type": "integer", "minimum": 1, "maximum": 200, "default": 50 }),
        "So many at most.",
    )
    .parameter("query", "cursor", text(), "Where an earlier page ended. Not beside `after`.")
    .parameter(
        "query",
        "after",
        json!({ "type": "integer", "minimum": 0 }),
        "Only behind the entry with this number: 0, the `seq` of an entry, or the `cursor` of an earlier such page.",
    )
    .answer(200, "A page of the audit trail.", schemas.of::<AuditPage>())
    .refused(&[of(Forbidden), FAULTS])
}

fn audit_archive(schemas: &mut Schemas) -> [Operation; 2] {
    let number = json!({ "type": "integer", "minimum": 1 });
    let segment = json!({
        "type": "object",
        "properties": { "name": { "type": "string" }, "first": number, "last": number, "bytes": number },
        "required": ["name", "first", "last", "bytes"],
    });
    let page = json!({
        "type": "object",
        "properties": { "segments": { "type": "array", "items": segment }, "cursor": { "type": "string" } },
        "required": ["segments"],
    });
    let list = Operation::new(
        "/v1/admin/audit/archive",
        "get",
        "listAuditArchive",
        "administration",
        "Lists the segments of the audit trail's archive, oldest first",
    )
    .about(
        "Each holds the entries from the number `first` to `last`. Two may overlap, where an answer of object storage was lost: \
        what both hold is the same.",
    )
    .parameter("query", "cursor", text(), "Where an earlier page ended.")
    .answer(200, "The segments.", page)
    .refused(&[of(Forbidden), FAULTS]);
    let one = Operation::new(
        "/v1/admin/audit/archive/{name}",
        "get",
        "getAuditSegment",
        "administration",
        "Gives a segment of the audit trail's archive",
    )
    .parameter("path", "name", text(), "The segment.")
    .answer_as(
        200,
        "Its entries, a line each, as they were shown behind a number.",
        &[("application/x-ndjson", schemas.of::<ShownEntry>())],
    )
    .refused(&[of(Forbidden), of(NotFound)]);
    [list, one]
}

fn operations(_: &mut Schemas) -> Vec<Operation> {
    let health = Operation::new(
        "/healthz",
        "get",
        "getHealth",
        "operations",
        "Says that the Worker runs",
    )
    .open()
    .answer(200, "It runs.", by_name("Health"));
    let ready = Operation::new(
        "/readyz",
        "get",
        "getReadiness",
        "operations",
        "Says whether the deployment is complete",
    )
    .open()
    .answer(200, "Everything is there.", by_name("Readiness"))
    .answer(
        503,
        "Something is missing; each check says what to do.",
        by_name("Readiness"),
    );
    let description = Operation::new(
        "/openapi.json",
        "get",
        "getDescription",
        "operations",
        "Gives this document",
    )
    .open()
    .answer(200, "An OpenAPI 3.1 document.", json!({ "type": "object" }));
    vec![health, ready, description]
}
