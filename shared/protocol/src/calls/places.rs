//! What the objects of one tenant say to each other about the places of a limit on jobs that run at once.
//!
//! Each limit, for each of its keys, has one object that keeps count: its home. Any other may start a job under it where
//! the home has given it a place. A home that gives draws a new version; an object that needs fewer says so under the
//! version that it was given, and the home takes it only where it has given nothing since. So a message that is lost,
//! doubled or late may leave places unused for a while, and never has one used twice.

use alloc::string::String;

use tidegate_cbor::{Decode, Encode};

use super::queueing::Rule;
use super::spread::owner;
use crate::ids::{Partition, ShardIndex, fnv1a};
use crate::time::UnixMs;

/// The most places of one key that make its home the object of its jobs: with more, one object could not hold them
/// beside its other work.
pub const KEPT_TOGETHER_MAX: u32 = 32;

/// The partition that a key of a limit lies in.
pub fn partition_of(limit: &str, key: &str) -> Partition {
    Partition::of_hash(fnv1a(&[limit.as_bytes(), key.as_bytes()]))
}

/// The object that keeps count of a key of a limit, in a tenant that began with `first` shards. It never changes.
pub fn home_of(limit: &str, key: &str, first: u16) -> ShardIndex {
    owner(partition_of(limit, key), first)
}

/// An object asks the home of a key for places, or says that it needs fewer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Ask {
    /// The limit.
    pub limit: String,
    /// Its key.
    pub key: String,
    /// The limit's rule, as whoever asks knows it …
    pub rule: Rule,
    /// … since this moment. The home takes over one that is newer than its own.
    pub since: UnixMs,
    /// Who asks.
    pub shard: ShardIndex,
    /// Who is asked, as the home of the key in a tenant that began with so many shards.
    pub home: ShardIndex,
    /// How many shards the tenant began with, as whoever asks knows it.
    pub first: u16,
    /// The asker's number for this question: it takes the answer to its latest alone.
    pub number: u64,
    /// The version of what it was last given; zero where it does not know.
    pub version: u64,
    /// So many places it goes on using under that version, and no more until it is answered.
    pub places: u32,
    /// So many more it could use now. None: it only gives back.
    pub want: u32,
    /// How long it waits where nothing is free. Milliseconds.
    pub wait_ms: u64,
    /// Whether it waits only until the others have given back what they do not use.
    pub brief: bool,
    /// Whether the oldest job of someone is to be ended for it.
    pub force: bool,
}

/// The home of a key wants back what an object does not use of what it was given.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Recall {
    /// The limit.
    pub limit: String,
    /// Its key.
    pub key: String,
    /// The version of what was last given.
    pub version: u64,
    /// Whether the oldest job there is to be ended where all are used.
    pub force: bool,
}

/// The places that an object has by now: the answer of a home, or of an object to a recall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Places {
    /// So many, those that its jobs hold included.
    pub places: u32,
    /// Their version.
    pub version: u64,
    /// Whether others wait for them: each that is given up goes back at once.
    pub contended: bool,
}
