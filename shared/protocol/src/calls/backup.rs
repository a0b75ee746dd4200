//! How the directory of tenants has the objects of one write themselves into a backup, and come back from it.

use alloc::string::String;
use alloc::vec::Vec;

use tidegate_cbor::{Decode, Encode};

use super::Caller;
use crate::time::UnixMs;

/// What any object of a tenant can be told about a backup.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Call {
    /// Answer no call before [`Call::Snapshot`], which is about to come.
    Hold {
        /// The number of the moment.
        moment: u64,
    },
    /// Put by all that is held, and go on. Refused where the hold of this moment is over: `CONFLICT`.
    Snapshot {
        /// The number of the moment.
        moment: u64,
    },
    /// Carry parts into object storage. Answered with some of them at a time.
    Upload {
        /// What the names of the backup's parts begin with.
        prefix: String,
        /// The object's own number of the last part that the directory knows of.
        after: u64,
        /// The number of the next part in the backup.
        number: u64,
    },
    /// The backup needs nothing more.
    Release {
        /// Who took it, where this object is to note that it is there.
        by: Option<Caller>,
    },
    /// Write the rows of a part.
    Restore {
        /// The name of the part.
        key: String,
        /// Its SHA-256, in hex.
        sha256: String,
        /// The steps of the schema that it was made at; absent: other parts of this object were written before it.
        schema: Option<u64>,
    },
    /// All is back: what was written, or what the object was at an earlier time.
    Finish {
        /// The description of the tenant begins above this version.
        version: u64,
        /// Who restored it.
        by: Caller,
    },
    /// Go on with the work that the rows tell of.
    Open,
    /// Say what the platform calls the object as it was at this time, and as it is: the two [parts](Reply::parts) of the answer. Nothing
    /// changes. Refused where the platform cannot go back: `NOT_IMPLEMENTED`, or `CONFLICT` where this object cannot.
    Bookmarks(UnixMs),
    /// Be what it was at this bookmark of the platform's, and start again as that.
    GoBack(String),
}

/// What the object answers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Reply {
    /// Lines of the manifest, for the parts that were carried; none: there are no more.
    pub parts: Vec<String>,
    /// The version of the tenant's description, from a gate that is back.
    pub version: u64,
}
