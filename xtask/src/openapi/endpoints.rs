//! What the HTTP API tells of endpoints of a tenant's customers, and of what messages to them are signed with.

use serde_json::{Value, json};
use tidegate_protocol::ErrorCode::{Conflict, Forbidden, NotFound};
use tidegate_protocol::event::JobState;
use tidegate_protocol::http::{
    Endpoint, EndpointEvent, EndpointList, JobPage, Replayed, Signature, WebhookSecret, WebhookSecretRotated,
};
use tidegate_protocol::ids::EndpointId;
use tidegate_protocol::time::UnixMs;

use super::access::UNREAD;
use super::operation::Operation;
use super::operations::paged;
use super::problems::{FAULTS, of};
use super::schemas::Schemas;

const TAG: &str = "administration";
const ALL: &str = "/v1/admin/endpoints";
const ONE: &str = "/v1/admin/endpoints/{id}";

/// `/v1/admin/webhook-secret` and `/v1/admin/endpoints`.
pub fn endpoints(schemas: &mut Schemas) -> Vec<Operation> {
    let mut operations = secret(schemas);
    let list = Operation::new(
        ALL,
        "get",
        "listEndpoints",
        TAG,
        "Lists the endpoints, the oldest first",
    )
    .answer(200, "The endpoints.", schemas.of::<EndpointList>())
    .refused(&[of(Forbidden)]);
    let mut body = settings(schemas);
    let change = of_one(schemas, "patch", "changeEndpoint", "Changes an endpoint")
        .about(
            "What is not said stays as it is; an empty `filter` takes the filter away. Messages that wait are sent to the URL that \
            holds when they are sent. `enabled` true enables an endpoint again that was disabled.",
        )
        .body("application/json", body.clone(), "What is to be different.")
        .answer(200, "The endpoint.", schemas.of::<Endpoint>())
        .refused(&UNREAD)
        .refused(&[FAULTS]);
    body["required"] = json!(["url"]);
    let create = Operation::new(ALL, "post", "createEndpoint", TAG, "Makes an endpoint")
        .about("It is told of the ends of jobs from then on, signed after Standard Webhooks. A tenant has at most 50.")
        .body("application/json", body, "What it is to be.")
        .answer(201, "The endpoint.", schemas.of::<Endpoint>())
        .refused(&UNREAD)
        .refused(&[of(Forbidden), FAULTS, of(Conflict)]);
    let show = of_one(schemas, "get", "getEndpoint", "Shows an endpoint").answer(
        200,
        "The endpoint.",
        schemas.of::<Endpoint>(),
    );
    let delete = of_one(schemas, "delete", "deleteEndpoint", "Deletes an endpoint")
        .about("Messages to it that wait are not sent.")
        .answer_as(204, "It is deleted.", &[]);
    let deliveries = Operation::new(
        "/v1/admin/endpoints/{id}/deliveries",
        "get",
        "listDeliveries",
        TAG,
        "Lists the messages to an endpoint, newest first",
    )
    .about("Each is a job that sends it: its attempts, and what came of them, are read like those of any job.")
    .parameter("path", "id", schemas.of::<EndpointId>(), "The endpoint.")
    .parameter("query", "status", schemas.of::<JobState>(), "Only in this state.");
    let deliveries = paged(schemas, deliveries)
        .answer(200, "A page of the jobs that send them.", schemas.of::<JobPage>())
        .refused(&[of(Forbidden), of(NotFound), FAULTS]);
    let since = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": { "since": schemas.of::<UnixMs>() },
    });
    let replay = Operation::new(
        "/v1/admin/endpoints/{id}:replay",
        "post",
        "replayEndpoint",
        TAG,
        "Sends again what was not delivered to an endpoint",
    )
    .about(
        "All messages that failed for good since then, as far as they are kept, the oldest of each shard first, under the ids \
        that they had.",
    )
    .parameter("path", "id", schemas.of::<EndpointId>(), "The endpoint.")
    .body("application/json", since, "Since when; where that is not said, all that is kept.")
    .answer(200, "How many are sent again.", schemas.of::<Replayed>())
    .refused(&UNREAD)
    .refused(&[of(Forbidden), of(NotFound), FAULTS, of(Conflict)]);
    operations.extend([list, create, show, change, deliveries, replay, delete]);
    operations
}

fn of_one(schemas: &mut Schemas, method: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation::new(ONE, method, id, TAG, summary)
        .parameter("path", "id", schemas.of::<EndpointId>(), "The endpoint.")
        .refused(&[of(Forbidden), of(NotFound)])
}

/// What can be said of an endpoint.
fn settings(schemas: &mut Schemas) -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "url": { "type": "string", "description": "Where messages are sent: `https`, on a public host." },
            "description": { "type": "string", "maxLength": 256, "description": "What people say of it." },
            "events": {
                "type": "array", "minItems": 1, "uniqueItems": true, "items": schemas.of::<EndpointEvent>(),
                "description": "What it is told of. Where nothing is said: of all.",
            },
            "filter": {
                "type": "string", "maxLength": 2048,
                "description": "A condition in CEL over `event` and `data`, which is the event's.",
            },
            "signature": schemas.of::<Signature>(),
            "ordered": {
                "type": "boolean",
                "description": "Whether messages are sent one at a time, in the order of the ends of each shard.",
            },
            "enabled": { "type": "boolean", "description": "Whether messages are sent." },
        },
    })
}

fn secret(schemas: &mut Schemas) -> Vec<Operation> {
    let show = Operation::new(
        "/v1/admin/webhook-secret",
        "get",
        "getWebhookSecret",
        TAG,
        "Gives the secret of the tenant's webhooks",
    )
    .about(
        "What Tidegate sends to the tenant's endpoints is signed with it after Standard Webhooks, or with the private key that \
        the public one belongs to. Both are derived from the deployment's key, stored nowhere, and change with that key and by \
        a rotation.",
    )
    .answer(200, "The secret.", schemas.of::<WebhookSecret>())
    .refused(&[of(Forbidden)]);
    let body = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": { "overlap_ms": {
            "type": "integer", "minimum": 0, "maximum": 2_592_000_000_u64, "default": 86_400_000,
            "description": "How long messages are signed with the old secret as well. Milliseconds.",
        } },
    });
    let rotate = Operation::new(
        "/v1/admin/webhook-secret:rotate",
        "post",
        "rotateWebhookSecret",
        TAG,
        "Changes the secret and the keys of the tenant's webhooks",
    )
    .about("For as long as `overlap_ms` says, each message bears a signature of the new one and one of the old.")
    .body("application/json", body, "How long both sign.")
    .answer(200, "It is changed.", schemas.of::<WebhookSecretRotated>())
    .refused(&UNREAD)
    .refused(&[of(Forbidden), FAULTS]);
    vec![show, rotate]
}
