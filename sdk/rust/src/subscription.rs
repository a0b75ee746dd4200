//! Channels through a client: a subscription as a stream, and publishing.

use std::pin::Pin;
use std::task::{Context, Poll};

use serde::Serialize;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::{ChannelName, IdempotencyKey};
use tokio::sync::mpsc;

use crate::call::Call;
use crate::channels::{ChannelUpdate, Cursor, Follower, Published, publish_frame};
use crate::client::Client;
use crate::error::Error;
use crate::event::Outcome;
use crate::inbox::{Taker, inbox};
use crate::random;
use crate::socket::Command;

impl Client {
    /// Follows a channel: from the messages behind `after` on, or, where that is absent, as the channel's rules say, which is
    /// mostly from now on. It goes on through lost connections: each message comes once and in order, and where some cannot be
    /// had any more, a [gap](ChannelUpdate::Gap) says so.
    ///
    /// Subscriptions of one client to the same channel share what the server sends, each from its own cursor. Must be called
    /// inside a tokio runtime. Errors: [`Error::Invalid`] for what cannot be a channel's name, [`Error::Io`] without randomness.
    pub fn subscribe(&self, channel: &str, after: Option<Cursor>) -> Result<Subscription, Error> {
        let channel = checked(channel)?;
        let id = random::name("sub_")?;
        let commands = self.commands()?;
        let (putter, updates) = inbox();
        let follower = Follower::new(id.clone(), channel.to_owned(), after.clone());
        // Where the task has gone with its runtime, the subscription says so by its end.
        let _ = commands.send(Command::Subscribe(Box::new(follower), putter));
        Ok(Subscription {
            id,
            channel: channel.to_owned(),
            cursor: after,
            over: false,
            updates,
            commands,
        })
    }

    /// Publishes a message over the socket, and waits until it is stored. It carries an idempotency key, `idempotency_key` or a
    /// random one, so that it is sent again after a lost connection and still stored once.
    ///
    /// Must be called inside a tokio runtime. Errors: [`Error::Invalid`] for a channel, data or key that cannot be one,
    /// [`Error::Api`] where the server refuses, and as a call where the server cannot be asked.
    pub async fn publish(
        &self,
        channel: &str,
        data: &impl Serialize,
        idempotency_key: Option<&str>,
    ) -> Result<Published, Error> {
        let channel = checked(channel)?;
        let data = JsonText::of(data).ok_or_else(|| Error::Invalid("The data is no JSON.".to_owned()))?;
        let key = match idempotency_key {
            Some(key) if IdempotencyKey::parse(key).is_none() => {
                let expected = IdempotencyKey::EXPECTED;
                return Err(Error::Invalid(format!("The idempotency key has to be {expected}.")));
            }
            Some(key) => key.to_owned(),
            None => random::name("key_")?,
        };
        let id = random::name("pub_")?;
        let frame = publish_frame(&id, channel, &data, &key);
        match self.start(Call::request(id, frame), Some(key))?.outcome().await {
            Outcome::Answered { data } => {
                serde_json::from_str(data.as_str()).map_err(|error| Error::Protocol(error.to_string()))
            }
            Outcome::Rejected(error) | Outcome::Failed { error, .. } => Err(error.into()),
            Outcome::Lost { error, .. } => Err(error),
            Outcome::Completed(_) => Err(Error::Protocol("a job in place of a stored message".to_owned())),
        }
    }
}

pub(crate) fn checked(channel: &str) -> Result<&str, Error> {
    match ChannelName::parse(channel) {
        Some(_) => Ok(channel),
        None => {
            let expected = ChannelName::EXPECTED;
            Err(Error::Invalid(format!(
                "`{}` is no channel's name: it has to be {expected}.",
                channel.escape_debug()
            )))
        }
    }
}

/// A followed channel: a stream of [`ChannelUpdate`]s. Dropping it ends the following.
///
/// Updates wait in memory until they are taken, at most [`UPDATES_MAX`](crate::inbox::UPDATES_MAX) of them with
/// [`BYTES_MAX`](crate::inbox::BYTES_MAX) bytes of data. Where more come, the oldest messages go, and a
/// [gap](ChannelUpdate::Gap) stands in their place, from whose cursor they can be read with `Http::list_messages`.
#[derive(Debug)]
pub struct Subscription {
    id: String,
    channel: String,
    cursor: Option<Cursor>,
    over: bool,
    updates: Taker,
    commands: mpsc::UnboundedSender<Command>,
}

impl Subscription {
    /// The next update; `None` after the end.
    pub async fn next(&mut self) -> Option<ChannelUpdate> {
        std::future::poll_fn(|context| self.poll_update(context)).await
    }

    /// The channel.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// Behind the latest message that was taken: where to go on with [`Client::subscribe`]. Absent before the first update.
    pub fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }

    fn poll_update(&mut self, context: &Context<'_>) -> Poll<Option<ChannelUpdate>> {
        if self.over {
            return Poll::Ready(None);
        }
        let update = std::task::ready!(self.updates.poll(context));
        match &update {
            ChannelUpdate::Subscribed(at) | ChannelUpdate::Gap { until: at, .. } => self.cursor = Some(at.clone()),
            ChannelUpdate::Message(message) => self.cursor = Some(message.cursor()),
            ChannelUpdate::Ended { .. } => self.over = true,
            ChannelUpdate::Reconnecting { .. } | ChannelUpdate::Reconnected | ChannelUpdate::TokenExpiring { .. } => {}
        }
        Poll::Ready(Some(update))
    }
}

impl futures_core::Stream for Subscription {
    type Item = ChannelUpdate;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<ChannelUpdate>> {
        self.poll_update(context)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if !self.over {
            let _ = self.commands.send(Command::Unsubscribe(std::mem::take(&mut self.id)));
        }
    }
}
