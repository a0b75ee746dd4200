//! `/v1/channels/{channel}/…`: hands what is wanted to the user's hub, which knows the rules and asks the channel.

use tidegate_durable_objects::remote;
use tidegate_engine::hub::hub_of;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::hub::{Call, ChannelAsked, Reply};
use tidegate_protocol::channels::{Cursor, Publication};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::{ChannelName, ObjectName};
use tidegate_protocol::limits::{FRAME_BYTES_MAX, RECOVERED_MESSAGES_MAX};
use tidegate_protocol::{Error, ErrorCode, Fault};
use worker::{Env, Request, Response};

use crate::jobs::{queries, query_number};
use crate::requests::read_text;
use crate::tenants::scale;
use crate::{answer, idempotency};

/// Messages of one page where nobody says how many.
const PAGE: u64 = 100;

/// `POST /v1/channels/{channel}/messages`: publishes a message, and answers once it is stored.
///
/// Errors: whatever the hub and the channel refuse.
pub async fn publish(request: &mut Request, env: &Env, principal: Principal, channel: &str) -> Result<Response, Error> {
    let key = request.headers().get("idempotency-key").ok().flatten();
    let body = read_text(request, FRAME_BYTES_MAX).await?;
    let publication = Publication::parse(&body, key.as_deref())?;
    let text = ask(env, principal, channel, ChannelAsked::Publish(publication)).await?;
    let response = answer::json(&text, 200)?;
    if key.is_some() && text.as_str().contains("\"deduplicated\":true") {
        idempotency::mark(&response)?;
    }
    Ok(response)
}

/// `GET /v1/channels/{channel}/messages`: a page of what is kept, the oldest first; with `after`, what comes behind a cursor.
///
/// Errors: `VALIDATION_ERROR` for a query that cannot be used; whatever the hub refuses.
pub async fn history(request: &Request, env: &Env, principal: Principal, channel: &str) -> Result<Response, Error> {
    let pairs = queries(request)?;
    let most = u64::try_from(RECOVERED_MESSAGES_MAX).unwrap_or(u64::MAX);
    let limit = query_number(&pairs, "limit", most)?.unwrap_or(PAGE).max(1);
    let after = match pairs.iter().find(|(name, _)| name == "after") {
        Some((_, text)) => Some(Cursor::parse(text).ok_or_else(|| {
            let fault = Fault::new("/query/after", Cursor::EXPECTED, text);
            Error::invalid("The query cannot be used.", vec![fault])
        })?),
        None => None,
    };
    let text = ask(env, principal, channel, ChannelAsked::History { after, limit }).await?;
    answer::json(&text, 200)
}

/// `GET /v1/channels/{channel}/presence`: who is there.
///
/// Errors: whatever the hub and the channel refuse.
pub async fn presence(env: &Env, principal: Principal, channel: &str) -> Result<Response, Error> {
    let text = ask(env, principal, channel, ChannelAsked::Presence).await?;
    answer::json(&text, 200)
}

async fn ask(env: &Env, principal: Principal, channel: &str, asked: ChannelAsked) -> Result<JsonText, Error> {
    let channel = ChannelName::parse(channel).ok_or_else(|| {
        let fault = Fault::new("/path/channel", ChannelName::EXPECTED, channel);
        Error::invalid("The path cannot be used.", vec![fault])
    })?;
    let hub = hub_of(&principal.user, scale(env, &principal.tenant).await?.hubs);
    let name = ObjectName::Hub(principal.tenant.clone(), hub);
    let call = Call::Channel {
        principal,
        channel,
        asked,
    };
    match remote::hub(env, &name, &call).await? {
        Reply::Text(text) => Ok(text),
        _ => Err(Error::new(
            ErrorCode::InternalError,
            "The hub answered another question.",
        )),
    }
}
