//! What an operation is given and what it gives back: the only door between a pattern and the outside.
//!
//! A pattern knows neither the platform nor the engine's rows. It reads and writes the tenant's storage, calls
//! configured upstreams, waits, and says how far it is, all through a [`Context`], which the executor provides and a
//! test can write in a few lines.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;

use tidegate_engine::upstreams::Edge;
use tidegate_protocol::SortedMap;
use tidegate_protocol::calls::reporting::MetadataPatch;
use tidegate_protocol::calls::upstreams::{Consult, Standing};
use tidegate_protocol::event::{JsonText, Progress};
use tidegate_protocol::http::Signature;
use tidegate_protocol::ids::{ActionName, FencingToken, JobId, SecretName, StreamName, TenantId, TraceParent, UserId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

/// One run of an operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// The pattern.
    pub pattern: String,
    /// Its operation.
    pub operation: String,
    /// The name of the pattern's instance.
    pub instance: String,
    /// The action.
    pub action: ActionName,
    /// The configuration of the pattern's instance.
    pub config: JsonText,
    /// The settings of the action.
    pub settings: JsonText,
    /// The input.
    pub payload: JsonText,
    /// Whose request it is.
    pub user: UserId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The same for every attempt of one job, to pass downstream; absent where the run is no job.
    pub effect_key: Option<String>,
    /// The caller's trace.
    pub traceparent: Option<TraceParent>,
    /// How long the run may take. Milliseconds.
    pub timeout_ms: u64,
    /// The job, where the run is an attempt of one.
    pub job: Option<Facts>,
}

/// What is known of the job that a run is an attempt of.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// The tenant.
    pub tenant: TenantId,
    /// The job.
    pub id: JobId,
    /// The lease that the attempt holds: no two runs have the same.
    pub token: FencingToken,
    /// The action.
    pub action: ActionName,
    /// The client's own notes on it.
    pub metadata: SortedMap<String, String>,
    /// When the attempt must be done.
    pub deadline: UnixMs,
}

/// Where whoever goes on with an attempt reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// The address, behind which `:report` and `:finish` follow.
    pub url: String,
    /// What gives the right to it. A secret.
    pub token: String,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Done {
    /// Its result.
    Result(JsonText),
    /// It did as much as one run may do; the next goes on from its checkpoint.
    Unfinished,
    /// What it waits for is not there yet: it is to be run again later, from its checkpoint. Costs no attempt.
    Snoozed {
        /// How much later. Milliseconds.
        ms: u64,
    },
    /// Somebody else goes on with the attempt, under its lease.
    HandedOver,
}

/// An object of the tenant's storage, opened for reading.
pub struct Opened<R> {
    /// Its whole length, wherever the reading begins. Bytes.
    pub size: u64,
    /// Changes whenever its content does.
    pub etag: String,
    /// The bytes.
    pub reader: R,
}

/// Bytes that come in chunks.
#[expect(async_fn_in_trait, reason = "everything runs on one thread")]
pub trait Reader {
    /// The next chunk; `None` at the end.
    ///
    /// Errors: `UNAVAILABLE` where the storage stops in the middle.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Error>;
}

/// The value of a secret. Its `Debug` form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(String);

impl SecretValue {
    /// A secret whose value is `text`.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The value itself, for whoever sends it.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// A request to an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The method.
    pub method: String,
    /// The whole URL.
    pub url: String,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Option<String>,
    /// Bytes of the answer that are read at most.
    pub answer_bytes_max: usize,
    /// How long the upstream may take. Milliseconds.
    pub timeout_ms: u64,
}

/// The answer of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// The status.
    pub status: u16,
    /// The `Content-Type` header.
    pub content_type: Option<String>,
    /// The `Retry-After` header.
    pub retry_after: Option<String>,
    /// The body, unless it was over the bound.
    pub body: Option<Vec<u8>>,
}

/// The outside, as an operation sees it.
#[expect(async_fn_in_trait, reason = "everything runs on one thread")]
pub trait Context {
    /// Reads an object.
    type Reader: Reader;

    /// The clock. It moves only while something is awaited.
    fn now(&self) -> UnixMs;

    /// Waits.
    async fn sleep(&self, ms: u64);

    /// Says how far the run is. Thinned before it is stored, so that it may be called as often as one likes. Metadata that
    /// it does not give stays as it is.
    ///
    /// Errors: `LEASE_LOST` where the run is no longer wanted: it stops then. `CANCELLED`, once, where its job was
    /// cancelled and it may still tidy up: it stops soon, and may report on the way.
    async fn progress(&self, progress: Progress) -> Result<(), Error>;

    /// Writes text to the end of one of the job's streams. Text is gathered for a moment before it is stored, so that it
    /// may be written in pieces as small as one likes. Where the run is no job, nobody could read it: it is dropped.
    ///
    /// Errors: `VALIDATION_ERROR` for one stream more than a job may have; else as [`Self::progress`].
    async fn output(&self, stream: &StreamName, chunk: &str) -> Result<(), Error>;

    /// Changes entries of the metadata that goes with the job's progress, one after the other. Nothing is thinned away:
    /// changes are gathered for a moment, as text is.
    ///
    /// Errors: `VALIDATION_ERROR` for a change that cannot be made; else as [`Self::progress`].
    async fn patch_metadata(&self, patches: Vec<MetadataPatch>) -> Result<(), Error>;

    /// The latest checkpoint of the job.
    ///
    /// Errors: `UNAVAILABLE` where the storage cannot be reached.
    async fn checkpoint(&self) -> Result<Option<Vec<u8>>, Error>;

    /// Stores a checkpoint, from which a further run goes on whatever happens to this one.
    ///
    /// Errors: as [`Self::progress`] and [`Self::checkpoint`].
    async fn save_checkpoint(&self, bytes: Vec<u8>, progress: Progress) -> Result<(), Error>;

    /// Opens an object of the tenant's storage at an offset; `None` where there is none. Where an `etag` is given, the
    /// object must still be that one.
    ///
    /// Errors: `CONFLICT` where the object was replaced; `UNAVAILABLE` where the storage cannot be reached.
    async fn open(&self, key: &str, offset: u64, etag: Option<&str>) -> Result<Option<Opened<Self::Reader>>, Error>;

    /// Writes an object of the tenant's storage.
    ///
    /// Errors: `UNAVAILABLE` where the storage cannot be reached.
    async fn put(&self, key: &str, content_type: &str, bytes: Vec<u8>) -> Result<(), Error>;

    /// Calls an upstream. Follows no redirect.
    ///
    /// Errors: `UPSTREAM_ERROR` where it cannot be reached, `TIMEOUT` where it takes too long.
    async fn fetch(&self, request: Outgoing) -> Result<Incoming, Error>;

    /// 64 bits of chance.
    fn random(&self) -> u64 {
        0
    }

    /// What is remembered here of an upstream, and of its breaker under `key`.
    fn edge(&self, _upstream: &str, _key: &str) -> Rc<RefCell<Edge>> {
        Rc::default()
    }

    /// Tells the tenant's gate of calls, and asks it how a breaker stands.
    ///
    /// Errors: `UNAVAILABLE` where it cannot be reached.
    async fn consult(&self, _consult: Consult) -> Result<Standing, Error> {
        Err(Error::new(ErrorCode::Unavailable, "Nobody can be asked here."))
    }

    /// Calls a Worker that the deployment has bound under this name, as [`Self::fetch`] calls an upstream.
    ///
    /// Errors: `UPSTREAM_ERROR` where there is none of this name, else as [`Self::fetch`].
    async fn fetch_worker(&self, _binding: &str, _request: Outgoing) -> Result<Incoming, Error> {
        Err(Error::new(
            ErrorCode::UpstreamError,
            "The deployment has bound no Worker of this name.",
        ))
    }

    /// Whether the deployment lets endpoints lie on the machine itself: for development.
    fn may_reach_loopback(&self) -> bool {
        false
    }

    /// Where whoever goes on with the attempt reports.
    ///
    /// Errors: `UNAVAILABLE` where the deployment has no key.
    fn callback(&self, _job: &Facts) -> Result<Option<Callback>, Error> {
        Ok(None)
    }

    /// The current values of secrets of the tenant, in the order of their names.
    ///
    /// Errors: `SECRET_UNUSABLE` for one that is not set or cannot be opened; `UNAVAILABLE` where nobody can be asked.
    async fn secrets(&self, _names: &[SecretName]) -> Result<Vec<Rc<SecretValue>>, Error> {
        Err(Error::new(ErrorCode::Unavailable, "There are no secrets here."))
    }

    /// The signatures of a message to an endpoint of the tenant, after Standard Webhooks: of its id, the second it is sent
    /// in, and its body. More than one while a change of what they are made with is under way.
    ///
    /// Errors: `UNAVAILABLE` where the deployment has no key, or the tenant's gate cannot be reached.
    async fn sign(&self, _how: Signature, _id: &str, _seconds: u64, _body: &str) -> Result<String, Error> {
        Err(Error::new(ErrorCode::Unavailable, "Nothing can be signed here."))
    }
}
