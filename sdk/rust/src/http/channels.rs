//! Channels: publishing, and what is kept of their messages.

use hyper::Method;
use serde::{Deserialize, Serialize};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::time::UnixMs;

use super::types::{escape, query};
use super::{Ask, Http};
use crate::channels::{Cursor, Epoch, Message, Offset, Presence, Published};
use crate::error::Error;
use crate::random;
use crate::subscription::checked;

/// A page of what is kept of a channel's messages.
#[derive(Debug, Clone, PartialEq)]
pub struct MessagePage {
    /// The life of the log, and its latest message.
    pub head: Cursor,
    /// Whether the page begins right behind the cursor that was asked for. `false`: what lay between is no longer kept.
    pub recovered: bool,
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// The cursor of the page after this one; absent where this is the last.
    pub next: Option<Cursor>,
}

#[derive(Deserialize)]
struct Stored {
    offset: Offset,
    data: JsonText,
    #[serde(default)]
    publisher: Option<String>,
    #[serde(default)]
    timestamp: Option<UnixMs>,
}

#[derive(Deserialize)]
struct Page {
    epoch: Epoch,
    offset: Offset,
    #[serde(default)]
    recovered: bool,
    #[serde(default)]
    messages: Vec<Stored>,
    #[serde(default)]
    next: Option<String>,
}

impl MessagePage {
    /// The messages of a page do not repeat the life of the log.
    fn of(page: Page) -> Result<Self, Error> {
        let Page {
            epoch,
            offset,
            recovered,
            messages,
            next,
        } = page;
        let unreadable = |text: String| Error::Protocol(format!("`{text}` in place of {}", Cursor::EXPECTED));
        let next = next.map(|text| Cursor::parse(&text).ok_or_else(|| unreadable(text)));
        let message = |stored: Stored| Message {
            epoch: epoch.clone(),
            offset: stored.offset,
            data: stored.data,
            publisher: stored.publisher,
            timestamp: stored.timestamp,
        };
        Ok(Self {
            recovered,
            messages: messages.into_iter().map(message).collect(),
            next: next.transpose()?,
            head: Cursor { epoch, offset },
        })
    }
}

impl Http {
    /// `POST /v1/channels/{channel}/messages`: publishes a message and answers once it is stored, with the caller's idempotency
    /// key or a random one.
    ///
    /// Errors: [`Error::Api`] (`FORBIDDEN` where the channel's rules do not allow it), [`Error::Invalid`],
    /// [`Error::Unreachable`].
    pub async fn publish_message(
        &self,
        channel: &str,
        data: &JsonText,
        idempotency_key: Option<&str>,
    ) -> Result<Published, Error> {
        #[derive(Serialize)]
        struct Body<'a> {
            data: &'a JsonText,
            idempotency_key: &'a str,
        }
        let key = match idempotency_key {
            Some(key) => key.to_owned(),
            None => random::name("key_")?,
        };
        let body = serde_json::to_string(&Body {
            data,
            idempotency_key: &key,
        });
        let body = body.map_err(|error| Error::Invalid(format!("The data is no JSON: {error}.")))?;
        self.fetch(Ask::new(Method::POST, path(channel)?).json(&body)).await
    }

    /// `GET /v1/channels/{channel}/messages`: a page of what is kept, the oldest first; with `after`, of what comes behind that
    /// cursor. `limit`: so many messages at most.
    ///
    /// Errors: [`Error::Api`] (`NOT_FOUND` where the channel may not be followed), [`Error::Invalid`], [`Error::Unreachable`].
    pub async fn list_messages(
        &self,
        channel: &str,
        after: Option<&Cursor>,
        limit: Option<u64>,
    ) -> Result<MessagePage, Error> {
        let after = after.map(ToString::to_string);
        let limit = limit.map(|limit| limit.to_string());
        let query = query([("after", after.as_deref()), ("limit", limit.as_deref())]);
        let ask = Ask::new(Method::GET, format!("{}{query}", path(channel)?));
        MessagePage::of(self.fetch(ask).await?)
    }

    /// `GET /v1/channels/{channel}/presence`: who is in a channel.
    ///
    /// Errors: [`Error::Api`] (`NOT_FOUND` where the channel may not be followed, `FORBIDDEN` where its presence may not be
    /// seen), [`Error::Invalid`], [`Error::Unreachable`].
    pub async fn list_members(&self, channel: &str) -> Result<Presence, Error> {
        let path = format!("/v1/channels/{}/presence", escape(checked(channel)?, b":"));
        self.fetch(Ask::new(Method::GET, path)).await
    }
}

fn path(channel: &str) -> Result<String, Error> {
    Ok(format!("/v1/channels/{}/messages", escape(checked(channel)?, b":")))
}
