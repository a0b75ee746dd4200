//! What the HTTP API does with channels: messages that are published, and those that are kept.

use serde_json::json;
use tidegate_protocol::ErrorCode::{
    Forbidden, IdempotencyMismatch, NotFound, NotImplemented, PayloadTooLarge, QuotaExceeded, TenantSuspended,
    UnsupportedMediaType,
};
use tidegate_protocol::channels::{HistoryPage, Publication, Published};
use tidegate_protocol::ids::{ChannelName, IdempotencyKey};
use tidegate_protocol::limits::{FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, PRESENCE_NAMED_MAX, RECOVERED_MESSAGES_MAX};
use tidegate_protocol::presence::Roster;

use super::operation::Operation;
use super::problems::{FAULTS, of};
use super::schemas::Schemas;

/// Every operation of this group.
pub fn operations(schemas: &mut Schemas) -> Vec<Operation> {
    let path = "/v1/channels/{channel}/messages";
    let channel = schemas.of::<ChannelName>();
    let publish = Operation::new(path, "post", "publishMessage", "channels", "Publishes a message")
        .about(
            "Answered once the message is stored; whoever follows the channel is sent it. Takes what the rules of the \
            channel's namespace say of `publish`, or the scope `channels:write`. What a token may neither follow nor publish \
            in is `NOT_FOUND`.",
        )
        .parameter("path", "channel", channel.clone(), "The channel.")
        .parameter(
            "header",
            "Idempotency-Key",
            schemas.of::<IdempotencyKey>(),
            "The same key within ten minutes, one message; quoted or bare. The body may say it instead.",
        )
        .body(
            "application/json",
            schemas.of::<Publication>(),
            format!("At most {FRAME_BYTES_MAX} bytes; `data` has at most {MESSAGE_BYTES_MAX}."),
        )
        .answer(200, "Where the message stands.", schemas.of::<Published>())
        .refused(&[FAULTS, of(NotFound), of(Forbidden), of(PayloadTooLarge), of(UnsupportedMediaType)])
        .refused(&[of(IdempotencyMismatch), of(QuotaExceeded), of(NotImplemented), of(TenantSuspended)]);
    let history = Operation::new(path, "get", "listMessages", "channels", "Shows what is kept of a channel")
        .about(
            "A page of messages, the oldest first. `recovered` says whether the page begins right behind the cursor: where it \
            does not, what lay between is no longer kept. Takes what the rules of the namespace say of `subscribe`, or the \
            scope `channels:read`.",
        )
        .parameter("path", "channel", channel, "The channel.")
        .parameter(
            "query",
            "after",
            json!({ "type": "string", "pattern": "^[a-z0-9]{1,32}:[0-9]{1,16}$" }),
            "The cursor that the page begins behind, as `<epoch>:<offset>`: of a message, or `next` of the page before.",
        )
        .parameter(
            "query",
            "limit",
            json!({ "type": "integer", "minimum": 0 }),
            format!("So many messages at most; 100 where it is missing, and never more than {RECOVERED_MESSAGES_MAX}."),
        )
        .answer(200, "The page.", schemas.of::<HistoryPage>())
        .refused(&[FAULTS, of(NotFound), of(Forbidden), of(NotImplemented)]);
    let presence = Operation::new(
        "/v1/channels/{channel}/presence",
        "get",
        "listMembers",
        "channels",
        "Shows who is in a channel",
    )
    .about(format!(
        "The members by name, the first {PRESENCE_NAMED_MAX} of them, and how many there are. A member is a user who follows the \
        channel on a socket with `presence`, and for the grace of its namespace after. Takes what the rules of the namespace say \
        of `presence`, or the scope `channels:read`."
    ))
    .parameter("path", "channel", schemas.of::<ChannelName>(), "The channel.")
    .answer(200, "Who is there.", schemas.of::<Roster>())
    .refused(&[FAULTS, of(NotFound), of(Forbidden), of(NotImplemented)]);
    vec![publish, history, presence]
}
