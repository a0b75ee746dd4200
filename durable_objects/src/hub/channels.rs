//! Channels: calls to them, messages of theirs, and how far they are before the hub sleeps.

use std::rc::Rc;

use tidegate_engine::hub::CallId;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::channel::{Batch, Call};
use tidegate_protocol::calls::hub::{ChannelAsked, Reply};
use tidegate_protocol::calls::usage::Meter;
use tidegate_protocol::channels::{Cursor, Message};
use tidegate_protocol::ids::{ChannelName, ConnectionId, ObjectName, Offset};
use tidegate_protocol::presence::{Heard, Told};
use tidegate_protocol::{Error, ErrorCode};

use super::{Shell, answered};
use crate::outbox::Outbox;
use crate::platform::{beside, now};
use crate::remote;
use crate::timer::sleep;

/// How long after the last message the places of channels are kept, so that an object which naps finds them. No object naps as
/// long as this is waited for. Milliseconds.
const KEEP_AFTER_MS: u64 = 200;

/// Calls on their way to one channel.
pub(super) type ChannelBox = Outbox<(CallId, Call)>;

impl Shell {
    /// Asks a channel. Calls to the same one share batches, and keep their order.
    pub(super) fn ask_channel(self: &Rc<Self>, id: CallId, channel: ChannelName, call: Call) {
        let Some((tenant, _)) = &self.name else { return };
        let object = || ObjectName::Channel(tenant.clone(), channel.clone());
        let outbox = {
            let mut outboxes = self.channels.borrow_mut();
            outboxes
                .entry(channel.clone())
                .or_insert_with(|| Rc::new(Outbox::new(object())))
                .clone()
        };
        if !outbox.push((id, call)) {
            return;
        }
        let shell = self.clone();
        beside(&self.state, async move {
            while let Some(batch) = outbox.next() {
                shell.exchange_with_channel(&outbox, batch).await;
            }
            shell.channels.borrow_mut().remove(&channel);
        });
    }

    async fn exchange_with_channel(self: &Rc<Self>, outbox: &ChannelBox, batch: Vec<(CallId, Call)>) {
        let (ids, calls): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let replies = remote::channel(&self.env, outbox.name(), &Batch { calls }).await;
        let mut replies = replies.map(Vec::into_iter);
        for id in ids {
            let reply = match &mut replies {
                Ok(replies) => match replies.next() {
                    Some(answered) => answered.into_result(),
                    None => Err(Error::new(ErrorCode::InternalError, "A channel answered too little.")),
                },
                Err(error) => Err(error.clone()),
            };
            let effects = self.memory.borrow_mut().channel_replied(now(), id, reply);
            self.perform(effects);
        }
        self.event();
    }

    /// Messages for the sockets that follow a channel.
    pub(super) fn hear(
        self: &Rc<Self>,
        channel: &ChannelName,
        after: Cursor,
        messages: Vec<Message>,
        until: Offset,
    ) -> Option<Cursor> {
        let (effects, at) = self.memory.borrow_mut().hear(now(), channel, after, messages, until);
        self.perform(effects);
        at
    }

    /// What has become of a channel's presence.
    pub(super) fn hear_presence(self: &Rc<Self>, channel: &ChannelName, told: Told) -> Heard {
        let (effects, heard) = self.memory.borrow_mut().hear_presence(channel, told);
        self.perform(effects);
        heard
    }

    /// What a caller over HTTP wants of a channel.
    pub(super) async fn channel(
        self: &Rc<Self>,
        principal: Principal,
        channel: ChannelName,
        asked: ChannelAsked,
    ) -> core::result::Result<Reply, Error> {
        if let ChannelAsked::Publish(publication) = &asked {
            self.usage.add_len(Meter::BytesIn, publication.data.as_str().len());
        }
        let known = self.active().await?;
        let (id, receiver) = self.http_caller();
        let effects = self.decide(&known, now(), |memory, moment, plan| {
            memory.channel(moment, plan, id, &principal, channel, asked)
        });
        self.perform(effects);
        answered(receiver).await
    }

    /// Keeps how far channels are, a moment after the last message: once for a burst of them.
    pub(super) fn keep_feeds(self: &Rc<Self>) {
        if !self.memory.borrow().is_unsaved() || self.keeps_feeds.replace(true) {
            return;
        }
        let shell = self.clone();
        beside(&self.state, async move {
            sleep(KEEP_AFTER_MS).await;
            shell.keeps_feeds.set(false);
            let effects = shell.memory.borrow_mut().save_feeds();
            shell.save_all(effects);
        });
    }

    /// Sends the same frames to many sockets.
    pub(super) fn broadcast(self: &Rc<Self>, to: &[ConnectionId], frames: &[String]) {
        for connection in to {
            for frame in frames {
                self.send(connection, frame);
            }
        }
    }
}
