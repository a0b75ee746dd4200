//! What the HTTP API takes of sources of webhooks, and tells of them.

use serde_json::json;
use tidegate_protocol::ErrorCode::{
    Forbidden, InternalError, InvalidAction, NotFound, PayloadTooLarge, QueueFull, QuotaExceeded, RateLimited,
    TenantSuspended, Unauthorized, Unavailable, ValidationError,
};
use tidegate_protocol::http::{WebhookList, WebhookTaken};
use tidegate_protocol::ids::{TenantId, WebhookSource};
use tidegate_protocol::limits::BODY_BYTES_MAX;

use super::operation::Operation;
use super::problems::{FAULTS, of};
use super::schemas::Schemas;

/// `/v1/webhooks/…` and `/v1/admin/webhooks`.
pub fn webhooks(schemas: &mut Schemas) -> Vec<Operation> {
    let receive = Operation::new(
        "/v1/webhooks/{tenant}/{source}/{tag}",
        "post",
        "receiveWebhook",
        "webhooks",
        "Takes a webhook",
    )
    .open()
    .about(
        "The sender has no token. It signs what it sends, as the source's preset or configuration says; the body is taken byte for \
        byte. An event is one job, however often it is sent. A signature that is not right is refused with the same words whatever is \
        wrong with it, and an address that is none with the same words for every tenant.",
    )
    .parameter("path", "tenant", schemas.of::<TenantId>(), "The tenant.")
    .parameter("path", "source", schemas.of::<WebhookSource>(), "The source, as the composition names it.")
    .parameter(
        "path",
        "tag",
        json!({ "type": "string" }),
        "What shows that the address was given out by this deployment.",
    )
    .body("*/*", json!({}), format!("The event, at most {BODY_BYTES_MAX} bytes of UTF-8."))
    .answer(200, "The event was a job already, or is none that is asked for.", schemas.of::<WebhookTaken>())
    .answer(202, "The event is stored as a job.", schemas.of::<WebhookTaken>())
    .refused(&[of(Unauthorized), of(NotFound), of(TenantSuspended), of(Forbidden), of(PayloadTooLarge)])
    .refused(&[of(ValidationError), FAULTS, of(InvalidAction), of(RateLimited), of(QuotaExceeded), of(QueueFull)])
    .refused(&[of(InternalError), of(Unavailable)]);
    let list = Operation::new(
        "/v1/admin/webhooks",
        "get",
        "listWebhooks",
        "administration",
        "Lists the sources of webhooks, with their addresses",
    )
    .about("Those of the active composition. An address is good for as long as the deployment's key that it was made with.")
    .answer(200, "The sources, in the order of their names.", schemas.of::<WebhookList>())
    .refused(&[of(Forbidden)]);
    vec![receive, list]
}
