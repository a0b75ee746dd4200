//! Every operation of the HTTP API: what a call of it looks like, and what it takes.

use serde_json::{Value, json};
use tidegate_tests::tenant::composition;

use super::things::Things;

/// What an operation takes beyond a good token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing: it does what any user of a tenant may do.
    Nothing,
    /// That the thing is the caller's own; a scope for others' jobs lets it be read.
    OwnToRead,
    /// The same, where the scope to read does not do.
    OwnToWrite,
    /// Nothing, but it sees and reaches the caller's own things alone.
    OwnOnly,
    /// That the rules of the composition allow it, which mean the owner alone. Who may not is told that nothing is there.
    Rules,
    /// A scope. These are all the others, which do not do.
    Scope(&'static str),
    /// The scope `operator`, of an issuer that may give it.
    Operator,
    /// The token of the attempt that the path names, and no user's.
    Attempt,
}

/// An operation.
pub struct Row {
    /// Its name in the description of the API.
    pub operation: &'static str,
    /// What it takes.
    pub takes: Takes,
    /// A body that is good.
    pub body: fn(&Things) -> Body,
    /// How it answers whoever may ask.
    pub good: u16,
}

/// What is sent.
pub enum Body {
    Nothing,
    Json(Value),
    Bytes(&'static [u8]),
}

/// Operations that take no token, each with the reason.
pub const PUBLIC: [(&str, &str); 4] = [
    (
        "getHealth",
        "a load balancer asks, and it says that the process answers",
    ),
    ("getDescription", "it is the same for everyone, and published"),
    (
        "getReadiness",
        "a load balancer asks, and it says whether the bindings are there",
    ),
    (
        "receiveWebhook",
        "who sends has no token: the address has a tag, and what is sent a signature; the tests of webhooks look at both",
    ),
];

const ADMIN: Takes = Takes::Scope("jobs:read jobs:write jobs:work operator");
const QUEUE_READ: Takes = Takes::Scope("admin jobs:work");
const QUEUE_WRITE: Takes = Takes::Scope("admin jobs:read jobs:work");
const SCHEDULE_READ: Takes = Takes::Scope("jobs:work");
const SCHEDULE_WRITE: Takes = Takes::Scope("jobs:read jobs:work");
const WORK: Takes = Takes::Scope("admin jobs:read jobs:write");

const fn row(operation: &'static str, takes: Takes, good: u16, body: fn(&Things) -> Body) -> Row {
    Row {
        operation,
        takes,
        body,
        good,
    }
}

fn nothing(_: &Things) -> Body {
    Body::Nothing
}

fn empty(_: &Things) -> Body {
    Body::Json(json!({}))
}

fn boom(_: &Things) -> Body {
    Body::Json(json!({ "action": "boom" }))
}

fn failed(things: &Things) -> Body {
    Body::Json(json!({ "ids": [things.failed] }))
}

fn later() -> Value {
    json!({ "action": "slow", "payload": { "ms": 1 }, "delay_ms": 36_000_000 })
}

/// Every operation that takes a token, in an order in which each can be done: what ends or removes a thing comes last.
pub const ROWS: &[Row] = &[
    row("createRequest", Takes::Nothing, 202, |_| Body::Json(later())),
    row("createRequests", Takes::Nothing, 200, |_| {
        Body::Json(json!([later(), later()]))
    }),
    row("publishMessage", Takes::Rules, 200, |_| {
        Body::Json(json!({ "data": 1 }))
    }),
    row("listMessages", Takes::Rules, 200, nothing),
    row("listMembers", Takes::Rules, 200, nothing),
    row("createTicket", Takes::Nothing, 201, nothing),
    row("connect", Takes::Nothing, 101, nothing),
    row("listJobs", Takes::OwnOnly, 200, nothing),
    row("getJob", Takes::OwnToRead, 200, nothing),
    row("listJobEvents", Takes::OwnToRead, 200, nothing),
    row("getJobResult", Takes::OwnToRead, 200, nothing),
    row("readJobOutput", Takes::OwnToRead, 200, nothing),
    row("explainJob", Takes::OwnToRead, 200, nothing),
    row("pauseJob", Takes::OwnToWrite, 200, nothing),
    row("resumeJob", Takes::OwnToWrite, 200, nothing),
    row("rescheduleJob", Takes::OwnToWrite, 200, |_| {
        Body::Json(json!({ "delay_ms": 36_000_000 }))
    }),
    row("cancelJob", Takes::OwnToWrite, 202, nothing),
    row("listDeadLetters", Takes::OwnOnly, 200, nothing),
    row("retryJob", Takes::OwnToWrite, 202, empty),
    row("redriveDeadLetters", Takes::OwnOnly, 200, failed),
    row("discardDeadLetters", Takes::OwnOnly, 200, failed),
    row("cancelJobs", Takes::OwnOnly, 200, |things| {
        Body::Json(json!({ "ids": [things.job] }))
    }),
    row("getBatch", Takes::OwnToRead, 200, nothing),
    row("cancelBatch", Takes::OwnToWrite, 202, nothing),
    row("getQueue", QUEUE_READ, 200, nothing),
    row("pauseQueue", QUEUE_WRITE, 200, boom),
    row("resumeQueue", QUEUE_WRITE, 200, boom),
    row("listSchedules", SCHEDULE_READ, 200, nothing),
    row("pauseSchedule", SCHEDULE_WRITE, 200, nothing),
    row("resumeSchedule", SCHEDULE_WRITE, 200, nothing),
    row("triggerSchedule", SCHEDULE_WRITE, 202, nothing),
    row("backfillSchedule", SCHEDULE_WRITE, 202, |_| {
        Body::Json(json!({ "from": "2026-02-01T00:00:00Z", "to": "2026-03-01T00:00:00Z" }))
    }),
    row("leaseJobs", WORK, 200, |_| {
        Body::Json(json!({ "max": 1, "wait_ms": 0, "worker": "w" }))
    }),
    row("readAttemptPayload", Takes::Attempt, 200, nothing),
    row("reportAttempt", Takes::Attempt, 200, empty),
    row("finishAttempt", Takes::Attempt, 200, |_| {
        Body::Json(json!({ "outcome": "succeeded", "result": 1 }))
    }),
    row("putObject", Takes::Nothing, 201, |_| Body::Bytes(b"written")),
    row("getObject", Takes::Nothing, 200, nothing),
    row("headObject", Takes::Nothing, 200, nothing),
    row("deleteObject", Takes::Nothing, 204, nothing),
    row("getAudit", ADMIN, 200, nothing),
    row("listAuditArchive", ADMIN, 200, nothing),
    // The trail of a new tenant is too short to have been archived.
    row("getAuditSegment", ADMIN, 404, nothing),
    row("getLimits", ADMIN, 200, nothing),
    row("getTenantHealth", ADMIN, 200, nothing),
    row("getUsage", ADMIN, 200, nothing),
    row("exportUsage", ADMIN, 201, |_| Body::Json(json!({ "format": "csv" }))),
    row("getUsageOfTenant", Takes::Operator, 200, nothing),
    row("getLimitsOfTenant", Takes::Operator, 200, nothing),
    row("setLimits", Takes::Operator, 200, empty),
    row("setBudgets", Takes::Operator, 200, |_| {
        Body::Json(json!({ "budgets": {} }))
    }),
    row("getUpstreams", ADMIN, 200, nothing),
    row("openUpstream", ADMIN, 200, nothing),
    row("closeUpstream", ADMIN, 200, nothing),
    row("disableUpstream", ADMIN, 200, nothing),
    row("getWebhookSecret", ADMIN, 200, nothing),
    row("rotateWebhookSecret", ADMIN, 200, empty),
    row("createEndpoint", ADMIN, 201, |_| {
        Body::Json(json!({ "url": "https://hooks.example.com/matrix" }))
    }),
    row("listEndpoints", ADMIN, 200, nothing),
    row("getEndpoint", ADMIN, 200, nothing),
    row("changeEndpoint", ADMIN, 200, |_| {
        Body::Json(json!({ "description": "of the matrix" }))
    }),
    row("listDeliveries", ADMIN, 200, nothing),
    row("replayEndpoint", ADMIN, 200, empty),
    row("deleteEndpoint", ADMIN, 204, nothing),
    row("listKeys", ADMIN, 200, nothing),
    row("createKey", ADMIN, 201, |_| {
        Body::Json(json!({ "name": "ci", "user": "bot" }))
    }),
    row("rotateKey", ADMIN, 200, empty),
    row("deleteKey", ADMIN, 204, nothing),
    row("listRevocations", ADMIN, 200, nothing),
    row("revoke", ADMIN, 201, |_| Body::Json(json!({ "token": "of nobody" }))),
    row("explainPolicies", ADMIN, 200, |_| {
        Body::Json(json!({ "action": "slow" }))
    }),
    row("setSecret", ADMIN, 201, |_| {
        Body::Json(json!({ "value": "of the matrix" }))
    }),
    row("listSecrets", ADMIN, 200, nothing),
    row("deleteSecret", ADMIN, 204, nothing),
    row("listWebhooks", ADMIN, 200, nothing),
    row("getComposition", ADMIN, 200, nothing),
    row("putComposition", ADMIN, 200, |_| Body::Json(composition(None))),
    row("listBackups", Takes::Operator, 200, nothing),
    row("getBackup", Takes::Operator, 200, nothing),
    row("getBackupPart", Takes::Operator, 200, nothing),
    // It is whole, and does not change any more.
    row("putBackupPart", Takes::Operator, 409, |_| Body::Bytes(b"written")),
    // There is the tenant.
    row("restoreBackup", Takes::Operator, 409, empty),
    row("takeBackup", Takes::Operator, 202, empty),
    row("deleteBackup", Takes::Operator, 202, nothing),
    // There was no such tenant yet.
    row("recoverTenant", Takes::Operator, 422, |_| {
        Body::Json(json!({ "at": "2026-01-01T00:00:00Z" }))
    }),
    row("listTenants", Takes::Operator, 200, nothing),
    row("createTenant", Takes::Operator, 201, |things| {
        Body::Json(json!({ "tenant": format!("{}-2", things.tenant) }))
    }),
    row("getTenant", Takes::Operator, 200, nothing),
    row("suspendTenant", Takes::Operator, 200, empty),
    row("resumeTenant", Takes::Operator, 200, empty),
    row("eraseTenant", Takes::Operator, 202, |things| {
        Body::Json(json!({ "confirm": things.tenant }))
    }),
];

/// A segment of the audit trail's archive, as it would be called in every tenant.
const SEGMENT: &str = "0000000000000001-0000000000000200.ndjson";

/// A secret of each tenant's own.
const SECRET: &str = "matrix";

/// `template` with the names of `things` in it.
pub fn path(template: &str, operation: &str, things: &Things) -> String {
    let id = match template.split('/').nth(2) {
        Some("jobs") => match operation {
            "retryJob" => &things.failed,
            "getJobResult" => &things.done,
            "readJobOutput" => &things.leased,
            _ => &things.job,
        },
        Some("attempts") => &things.leased,
        Some("batches") => &things.batch,
        Some("admin") if template.starts_with("/v1/admin/endpoints") => &things.endpoint,
        _ => &things.key,
    };
    let name = match template {
        archive if archive.starts_with("/v1/admin/audit") => SEGMENT,
        secret if secret.starts_with("/v1/admin/secrets") => SECRET,
        schedule if schedule.starts_with("/v1/schedules") => &things.schedule,
        _ => &things.upstream,
    };
    let filled = template
        .replace("{id}", id)
        .replace("{name}", name)
        .replace("{pool}", &things.pool)
        .replace("{channel}", &things.channel)
        .replace("{key}", &things.object)
        .replace("{stream}", "log")
        .replace("{backup}", &things.backup)
        .replace("{part}", "0")
        .replace("{tenant}", &things.tenant);
    assert!(!filled.contains('{'), "nothing is known that {template} could name");
    filled
}
