//! What an attempt says beyond how far it is: text for named streams, changes of its metadata; and how often.

use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;
use tidegate_cbor::{Decode, Encode};

use crate::event::JsonText;
use crate::ids::StreamName;
use crate::limits::OUTPUT_KEEP_BYTES;

/// Which of an attempt's progress events are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// At most one in an interval, of which the latest are kept.
    #[default]
    Last,
    /// Each one, in a history of its own.
    All,
}

/// How often an attempt reports, and how much of what it writes is kept. Frozen when the job is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Reporting {
    /// At most one progress event in so long. Milliseconds.
    pub every_ms: u64,
    /// Which of them are kept.
    pub durability: Durability,
    /// How much of the output is kept. Bytes.
    pub keep_bytes: u64,
}

impl Reporting {
    /// The interval where nothing is said. Milliseconds.
    pub const EVERY_MS: u64 = 1000;

    /// Whether this is what a job has where nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Reporting {
    fn default() -> Self {
        Self {
            every_ms: Self::EVERY_MS,
            durability: Durability::Last,
            keep_bytes: OUTPUT_KEEP_BYTES,
        }
    }
}

/// What is done to one entry of the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PatchOp {
    /// The entry becomes the value.
    Set,
    /// The value, a number, is added to the entry; an entry that is missing or no number counts as 0.
    Increment,
    /// The value is put at the end of the entry, a list; an entry that is missing counts as an empty one, any other
    /// that is no list as a list of it alone.
    Append,
}

/// A change of one entry of the metadata that goes with an attempt's progress.
#[derive(Debug, Clone, PartialEq, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MetadataPatch {
    /// What is done.
    pub op: PatchOp,
    /// To which entry.
    pub key: String,
    /// With what.
    pub value: JsonText,
}

/// Text for the end of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Written {
    /// The stream.
    pub stream: StreamName,
    /// The text.
    pub chunk: String,
}

/// What an attempt reports beyond how far it is.
#[derive(Debug, Clone, PartialEq, Default, Encode, Decode)]
pub struct Notes {
    /// The number of these notes among those of the attempt's lease, rising from 1. Notes whose number has come already
    /// change nothing, so that a report that may have been lost can be sent again as it was. `None` is always new.
    #[serde(default)]
    pub number: Option<u64>,
    /// Changes of the metadata, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata_patch: Vec<MetadataPatch>,
    /// What it has written, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<Written>,
}

impl Notes {
    /// Whether they say nothing.
    pub fn is_empty(&self) -> bool {
        self.metadata_patch.is_empty() && self.output.is_empty()
    }
}
