//! Channels: streams of messages that many follow, each with a log from which those who were away are told.

use alloc::format;
use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};
use tidegate_cbor::{Decode, Encode};

use crate::error::{Error, ErrorCode};
use crate::event::JsonText;
use crate::fields::Fields;
use crate::http::header_key;
use crate::ids::{Epoch, IdempotencyKey, Offset, UserId};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::time::UnixMs;

/// A place in a channel's log, which a client comes back with. As text: `<epoch>:<offset>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cursor {
    /// The life of the log.
    pub epoch: Epoch,
    /// The latest message that is behind the cursor.
    pub offset: Offset,
}

impl Cursor {
    /// What a cursor looks like as text.
    pub const EXPECTED: &'static str = "a cursor: an epoch, a colon and an offset";

    /// Reads a cursor from text.
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, offset) = text.split_once(':')?;
        Some(Self {
            epoch: Epoch::parse(epoch)?,
            offset: Offset(offset.parse().ok().filter(|offset| *offset < 1 << 53)?),
        })
    }

    /// Reads a cursor from the object `{"epoch": …, "offset": …}`, the field `name` of a frame.
    pub fn read(fields: &mut Fields<'_>, name: &str) -> Option<Self> {
        fields.raw(name)?;
        let mut inner = fields.object(name, "a cursor: an object with `epoch` and `offset`")?;
        inner.refuse_others(&["epoch", "offset"]);
        let epoch = inner.required_text("epoch", Epoch::EXPECTED, Epoch::parse);
        let offset = inner.optional_number("offset", "an offset: a whole number from 0", 0, (1 << 53) - 1);
        if inner.raw("offset").is_none() {
            inner.fault("offset", "an offset: a whole number from 0", "nothing");
        }
        fields.take_faults(inner);
        Some(Self {
            epoch: epoch?,
            offset: Offset(offset?),
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset.0)
    }
}

/// A message of a channel, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Message {
    /// Its place.
    pub offset: Offset,
    /// When it was published.
    pub timestamp: UnixMs,
    /// What it says.
    pub data: JsonText,
    /// The user who published it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<UserId>,
}

/// What is to be published: the body of `POST /v1/channels/{channel}/messages`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Publication {
    /// What the message says.
    pub data: JsonText,
    /// The client's name for it: the same key within ten minutes, the same message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<IdempotencyKey>,
}

impl Publication {
    /// Reads a body. `header` is the `Idempotency-Key` header, where the body has no key of its own.
    ///
    /// Errors: `VALIDATION_ERROR` with every fault; `PAYLOAD_TOO_LARGE`.
    pub fn parse(text: &str, header: Option<&str>) -> Result<Self, Error> {
        let mut fields = Fields::split(text)?;
        fields.refuse_others(&["data", "idempotency_key"]);
        let mut read = Self::read(&mut fields);
        if let (Some(publication), Some(header)) = (&mut read, header) {
            let key = header_key(header)?;
            match &publication.idempotency_key {
                Some(own) if *own != key => {
                    fields.fault(
                        "idempotency_key",
                        "the same key as in the header, or none",
                        own.as_str(),
                    );
                }
                _ => publication.idempotency_key = Some(key),
            }
        }
        fields.finish("The message cannot be used.")?;
        let read = read.ok_or_else(Error::not_found)?;
        read.check_size()?;
        Ok(read)
    }

    /// Reads the fields `data` and `idempotency_key` of a frame or body.
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let key = fields.optional_text("idempotency_key", IdempotencyKey::EXPECTED, IdempotencyKey::parse);
        let Some(data) = fields.any("data") else {
            fields.fault("data", "the message: any JSON value", "nothing");
            return None;
        };
        Some(Self {
            data: data.into(),
            idempotency_key: key,
        })
    }

    /// Whether the message is small enough.
    ///
    /// Errors: `PAYLOAD_TOO_LARGE`.
    pub fn check_size(&self) -> Result<(), Error> {
        let bytes = self.data.as_str().len();
        if bytes <= MESSAGE_BYTES_MAX {
            return Ok(());
        }
        let message = format!(
            "The data of a message has at most {MESSAGE_BYTES_MAX} bytes; this one has {bytes}. Put large data into an object, and send its name."
        );
        Err(Error::new(ErrorCode::PayloadTooLarge, message))
    }
}

/// Where a message came to stand: the answer to a publication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Published {
    /// The life of the log.
    pub epoch: Epoch,
    /// Its place.
    pub offset: Offset,
    /// Whether it was there already, by its idempotency key.
    pub deduplicated: bool,
}

/// A page of a channel's history: the answer of `GET /v1/channels/{channel}/messages`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HistoryPage {
    /// The life of the log.
    pub epoch: Epoch,
    /// The latest message of the log.
    pub offset: Offset,
    /// Whether the page begins right after the cursor that was asked for. `false`: what lay between is no longer kept.
    pub recovered: bool,
    /// The messages, oldest first.
    pub messages: alloc::vec::Vec<Message>,
    /// The cursor of the page after this one; not there where this is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
