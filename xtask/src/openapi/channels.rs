//! What the HTTP API does with channels: messages that are published, and those that are kept.

use serde_json::{Value, json};
use tidegate_protocol::ErrorCode::{
    Forbidden, IdempotencyMismatch, NotAcceptable, NotFound, NotImplemented, PayloadTooLarge, QuotaExceeded,
    RateLimited, TenantSuspended, UnsupportedMediaType,
};
use tidegate_protocol::channels::{HistoryPage, Message, Publication, Published};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::frames::ServerFrame;
use tidegate_protocol::ids::{ChannelName, Epoch, IdempotencyKey, Offset};
use tidegate_protocol::limits::{FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, PRESENCE_NAMED_MAX, RECOVERED_MESSAGES_MAX};
use tidegate_protocol::presence::Roster;
use tidegate_protocol::time::UnixMs;

use super::operation::{Access, Operation};
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
        .parameter("path", "channel", channel.clone(), "The channel.")
        .parameter(
            "query",
            "after",
            cursor(),
            "The cursor that the page begins behind, as `<epoch>:<offset>`: of a message, or `next` of the page before.",
        )
        .parameter(
            "query",
            "limit",
            json!({ "type": "integer", "minimum": 0 }),
            format!("So many messages at most; 100 where it is missing, and never more than {RECOVERED_MESSAGES_MAX}."),
        )
        .parameter(
            "query",
            "wait",
            json!({ "type": "integer", "minimum": 0 }),
            "A page that would be empty is answered once a message comes, or so many seconds are over; more than 30 are 30. `next` is \
            always there then.",
        )
        .answer(200, "The page.", schemas.of::<HistoryPage>())
        .refused(&[FAULTS, of(NotFound), of(Forbidden), of(NotImplemented), of(RateLimited), of(TenantSuspended)]);
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
    vec![publish, history, presence, events(channel)]
}

fn cursor() -> Value {
    json!({ "type": "string", "pattern": "^[a-z0-9]{1,32}:[0-9]{1,16}$" })
}

fn events(channel: Value) -> Operation {
    let path = "/v1/channels/{channel}/events";
    let mut events = Operation::new(path, "get", "followChannel", "channels", "Follows a channel")
        .about(
            "A stream of Server-Sent Events, of which the first is `subscribed`: its `recovered` says whether every message behind the \
            cursor follows. A stream that breaks off is taken up again with `Last-Event-ID`. It counts as a connection of the user. \
            Takes what the rules of the namespace say of `subscribe`, or the scope `channels:read`. A client that can set no header brings \
            a ticket.",
        )
        .parameter("path", "channel", channel, "The channel.")
        .parameter("header", "Last-Event-ID", cursor(), "Only messages behind this one. Goes before `after`.")
        .parameter("query", "after", cursor(), "Only messages behind this cursor, as `<epoch>:<offset>`.")
        .answer_as(200, "The events. They have no end.", &[("text/event-stream", event_stream())])
        .refused(&[FAULTS, of(NotFound), of(Forbidden), of(NotAcceptable), of(NotImplemented)])
        .refused(&[of(RateLimited), of(TenantSuspended)]);
    events.access = Access::Ticket;
    events
}

fn event_stream() -> Value {
    let frame = ChannelName::parse("chat:room-7").zip(Epoch::parse("01m85eb0c3"));
    let frame = frame.map(|(channel, epoch)| ServerFrame::Message {
        channel,
        epoch,
        message: Message {
            offset: Offset(13),
            timestamp: UnixMs(1_795_244_400_000),
            data: JsonText::stored(r#"{"text":"hello"}"#.into()),
            publisher: None,
        },
    });
    let frame = frame.map(|frame| frame.encode()).unwrap_or_default();
    // Without a type, as the events of a job.
    json!({
        "description": "`id` is the cursor, `event` the `type` of the frame that a socket would be sent, and `data` that frame: \
            `subscribed`, `message`, `unsubscribed`, `auth_expiring`, `goodbye`, `error`. A comment keeps a silent stream open.",
        "examples": [format!("id: 01m85eb0c3:13\nevent: message\ndata: {frame}\n\n")],
    })
}
