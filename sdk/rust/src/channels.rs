//! One subscription to a channel, from its first message to its end, whatever happens to the connection in between.
//!
//! Knows neither sockets nor time: it says what to send on a new connection ([`Follower::ask`]) and what a frame means. It keeps
//! one cursor. A message at or before it was seen already, the next one is news, and anything else means that messages are
//! missing: the follower then asks for them from its cursor, and tells a gap only where the server cannot give them.

use serde::{Deserialize, Serialize};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::time::UnixMs;

pub use tidegate_protocol::channels::Cursor;
pub use tidegate_protocol::ids::{Epoch, Offset};

use crate::error::{ApiError, Error};

/// A message of a channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The life of the log.
    pub epoch: Epoch,
    /// Its place in the log.
    pub offset: Offset,
    /// What it says.
    pub data: JsonText,
    /// The user who published it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    /// When it was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<UnixMs>,
}

impl Message {
    /// The cursor behind this message.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            epoch: self.epoch.clone(),
            offset: self.offset,
        }
    }
}

/// Where a message came to stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The life of the log.
    pub epoch: Epoch,
    /// Its place in the log.
    pub offset: Offset,
    /// Whether it was there already, by its idempotency key.
    #[serde(default)]
    pub deduplicated: bool,
}

impl Published {
    /// The cursor behind the message.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            epoch: self.epoch.clone(),
            offset: self.offset,
        }
    }
}

/// Something that a follower of a channel sees.
#[derive(Debug, Clone)]
pub enum ChannelUpdate {
    /// The channel is followed: the messages behind this cursor come. Told once, unless a [gap](Self::Gap) is told instead.
    Subscribed(Cursor),
    /// A message. Each comes once, in the order of the log.
    Message(Message),
    /// Messages are missing here. Those that are still kept can be read with `Http::list_messages` from `after` on.
    Gap {
        /// The last place before the gap: that of the latest message, or the cursor that the subscription began with.
        after: Cursor,
        /// The last place inside the gap: the messages behind it come. Of another epoch where the log began anew.
        until: Cursor,
    },
    /// The connection is lost (or could not be made); another attempt follows, and the subscription goes on from its cursor.
    Reconnecting {
        /// Which attempt in a row this will be, from 1.
        attempt: u32,
        /// When it will be made, from now. Milliseconds.
        in_ms: u64,
        /// Why the connection was lost.
        why: String,
    },
    /// The connection is there again.
    Reconnected,
    /// The client's token expires soon; give it another with `Client::set_token`.
    TokenExpiring {
        /// When it expires.
        expires_at: Option<UnixMs>,
    },
    /// The subscription is over: the channel may not be followed (any more), or the server cannot be asked. The last update.
    Ended {
        /// Why.
        error: Error,
    },
}

/// What a frame means for a follower.
#[derive(Debug)]
pub enum Heard {
    /// Nothing: it was seen already, or is not for this one.
    Nothing,
    /// The application is told this. After [`ChannelUpdate::Ended`] the subscription is over.
    Told(ChannelUpdate),
    /// Messages are missing: send [`Follower::ask`] now.
    Missing,
    /// The server cannot tell for now: ask again, not before so many milliseconds where it says so.
    AskAgain(Option<u64>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No question is under way: there is no connection, or the server asked to wait.
    Away,
    /// The server has been asked. Until it answers, messages are for others of the same channel.
    Asking,
    /// The messages behind the cursor come.
    Live,
}

/// One subscription.
#[derive(Debug)]
pub struct Follower {
    id: String,
    channel: String,
    /// Behind the latest message told.
    cursor: Option<Cursor>,
    state: State,
    /// Messages were missing, and none has come since in its order: asked for once, not for ever.
    asked_for_missing: bool,
    told: bool,
    /// How often the server was asked.
    asked: u32,
}

#[derive(Serialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    channel: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a Cursor>,
}

fn encode(frame: &Frame<'_>) -> String {
    // Text keys, texts and whole numbers only, so that this cannot fail.
    serde_json::to_string(frame).unwrap_or_default()
}

impl Follower {
    /// A follower of `channel` whose frames have the id `id`, from the messages behind `after` on.
    pub fn new(id: String, channel: String, after: Option<Cursor>) -> Self {
        Self {
            id,
            channel,
            cursor: after,
            state: State::Away,
            asked_for_missing: false,
            told: false,
            asked: 0,
        }
    }

    /// The id of its frames.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The channel.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// Whether the server was ever asked.
    pub fn was_asked(&self) -> bool {
        self.asked > 0
    }

    /// The `subscribe` frame, from the cursor as it is.
    pub fn ask(&mut self) -> String {
        self.state = State::Asking;
        self.asked = self.asked.saturating_add(1);
        encode(&Frame {
            kind: "subscribe",
            id: &self.id,
            channel: &self.channel,
            after: self.cursor.as_ref(),
        })
    }

    /// The connection is gone.
    pub fn lost(&mut self) {
        self.state = State::Away;
    }

    /// The server answered this one's `subscribe`.
    pub fn subscribed(&mut self, at: Cursor, recovered: bool) -> Heard {
        self.state = State::Live;
        let first = !std::mem::replace(&mut self.told, true);
        match self.cursor.replace(at.clone()) {
            Some(after) if !recovered || after != at => Heard::Told(ChannelUpdate::Gap { after, until: at }),
            _ if first => Heard::Told(ChannelUpdate::Subscribed(at)),
            _ => Heard::Nothing,
        }
    }

    /// The server answered the `subscribe` of another follower of this channel on the same socket: from then on it sends what is
    /// behind `at`. What this one has not seen up to there has to be asked for.
    pub fn another_subscribed(&mut self, at: &Cursor) -> Heard {
        match &self.cursor {
            Some(cursor) if self.state == State::Live && (cursor.epoch != at.epoch || cursor.offset < at.offset) => {
                Heard::Missing
            }
            _ => Heard::Nothing,
        }
    }

    /// The server says by itself that nothing up to `at` comes any more.
    pub fn gap(&mut self, at: &Cursor) -> Heard {
        match &self.cursor {
            Some(after) if self.state == State::Live && (after.epoch != at.epoch || after.offset < at.offset) => {
                let (after, until) = (after.clone(), at.clone());
                self.cursor = Some(until.clone());
                Heard::Told(ChannelUpdate::Gap { after, until })
            }
            _ => Heard::Nothing,
        }
    }

    /// A message of the channel came.
    pub fn message(&mut self, message: &Message) -> Vec<Heard> {
        let Some(cursor) = self.cursor.as_ref().filter(|_| self.state == State::Live) else {
            return Vec::new();
        };
        let same = cursor.epoch == message.epoch;
        if same && message.offset <= cursor.offset {
            return Vec::new();
        }
        if same && message.offset == cursor.offset.next() {
            self.asked_for_missing = false;
            self.cursor = Some(message.cursor());
            return vec![Heard::Told(ChannelUpdate::Message(message.clone()))];
        }
        if !std::mem::replace(&mut self.asked_for_missing, true) {
            return vec![Heard::Missing];
        }
        // Asked for once already, and they did not come.
        let until = Cursor {
            epoch: message.epoch.clone(),
            offset: Offset(message.offset.0.saturating_sub(1)),
        };
        let after = cursor.clone();
        self.asked_for_missing = false;
        self.cursor = Some(message.cursor());
        vec![
            Heard::Told(ChannelUpdate::Gap { after, until }),
            Heard::Told(ChannelUpdate::Message(message.clone())),
        ]
    }

    /// This one's `subscribe` was refused. "Not now" ends it only where it is the answer to the first question.
    pub fn refused(&mut self, error: ApiError) -> Heard {
        self.state = State::Away;
        if error.retryable && self.asked > 1 {
            return Heard::AskAgain(error.retry_after_ms);
        }
        Heard::Told(ChannelUpdate::Ended { error: error.into() })
    }

    /// The channel may not be followed any more.
    pub fn unsubscribed(&self, error: &ApiError) -> Heard {
        if self.state != State::Live {
            // Its own question is answered by itself.
            return Heard::Nothing;
        }
        let error = error.clone().into();
        Heard::Told(ChannelUpdate::Ended { error })
    }
}

/// The frame that ends the following of `channel` on this socket.
pub fn unsubscribe_frame(id: &str, channel: &str) -> String {
    encode(&Frame {
        kind: "unsubscribe",
        id,
        channel,
        after: None,
    })
}

/// The text of a `publish` frame. It carries an idempotency key, so that sending it again is safe.
pub(crate) fn publish_frame(id: &str, channel: &str, data: &JsonText, idempotency_key: &str) -> String {
    #[derive(Serialize)]
    struct Publish<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        id: &'a str,
        channel: &'a str,
        data: &'a JsonText,
        idempotency_key: &'a str,
    }
    let frame = Publish {
        kind: "publish",
        id,
        channel,
        data,
        idempotency_key,
    };
    // As in `encode`; the data is JSON already.
    serde_json::to_string(&frame).unwrap_or_default()
}

#[cfg(test)]
#[path = "channels_tests.rs"]
mod tests;

/// Who is in a channel.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Presence {
    /// The members by name, the first of them where there are very many.
    pub members: Vec<Member>,
    /// How many there are.
    pub count: u64,
}

/// A user who is in a channel.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Member {
    /// Who.
    pub user: String,
    /// What the user says of themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<JsonText>,
    /// Since when.
    pub since: UnixMs,
}
