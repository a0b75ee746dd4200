//! What a `Jobs` object can be asked.

use alloc::string::String;
use alloc::vec::Vec;

use tidegate_cbor::{Decode, Encode};

pub use super::selection::{Filter, ManyAction, Selection, Sort};

use super::Caller;
use super::executor::{Execute, Outcome, Policy};
use super::hooks::Hook;
use super::once::Once;
use super::places::{Ask, Places, Recall};
use super::queueing::{PauseScope, Queueing};
use super::reporting::Notes;
use super::schedules::Schedule;
use super::spread::{Grown, Growth};
use crate::SortedMap;
use crate::event::{Event, JobState, JsonText, Payload, Progress, Snapshot};
use crate::http::{Backfilled, BulkItem, DeadLetterPage, Job, JobPage, QueueView};
use crate::ids::{
    ActionName, BatchId, FencingToken, HubIndex, IdempotencyKey, JobId, JobNumber, Partition, PoolName, RequestId,
    Revision, ScheduleName, Seq, ShardIndex, StreamName, TraceParent, UserId,
};
use crate::time::UnixMs;

/// A job that is to be accepted.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct NewJob {
    /// The request that it comes from.
    pub request_id: RequestId,
    /// Whose it is.
    pub user: UserId,
    /// What it runs.
    pub action: ActionName,
    /// The composition under which it was accepted, and runs.
    pub revision: Revision,
    /// How it is tried.
    pub policy: Policy,
    /// How it waits for its place.
    #[serde(default)]
    pub queueing: Queueing,
    /// Its input.
    pub payload: Payload,
    /// The client's own notes on it.
    pub metadata: SortedMap<String, String>,
    /// Not before this moment.
    pub run_at: Option<UnixMs>,
    /// The caller's trace.
    pub traceparent: Option<TraceParent>,
    /// The ended job that this one does again.
    #[serde(default)]
    pub redriven_from: Option<JobId>,
    /// What makes other requests the same job, beyond a key that lives as long as the job is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<Once>,
    /// What it has to do with messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<Hook>,
    /// The batch that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchId>,
}

/// An idempotency key, and the fingerprint of the body that it came with.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Keyed {
    /// The client's name for the work.
    pub key: IdempotencyKey,
    /// A hash of what was asked. Another body under the same key is a mistake of the client.
    pub fingerprint: String,
}

/// Asks for a job.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Enqueue {
    /// The job.
    pub job: NewJob,
    /// The partition that its number will carry.
    pub partition: Partition,
    /// The key that makes it one execution, however often it is asked for.
    pub keyed: Option<Keyed>,
    /// How long to wait for the outcome before the answer is an acknowledgment. `None`: do not wait. Milliseconds.
    ///
    /// A job without a key is stored only when this has passed; one with a key is stored first.
    pub answer_within_ms: Option<u64>,
    /// The hub that follows the job from its first event.
    pub follower: Option<HubIndex>,
    /// The job is cancelled once nobody has followed it for so long. `None`: it goes on without. Milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away_max_ms: Option<u64>,
}

/// What is done to one job that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Change {
    /// Hold it back.
    Pause,
    /// Let it wait again where it waited.
    Resume,
    /// Let it start not before this moment, whatever it waited for.
    Reschedule(UnixMs),
}

/// How a job is named.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum JobRef {
    /// By its id.
    Id(JobId),
    /// By its action and key.
    Key(ActionName, IdempotencyKey),
    /// By its action and key, where the key does not say which object has it: each is asked in turn.
    Anywhere {
        /// The action.
        action: ActionName,
        /// The key.
        key: IdempotencyKey,
        /// The object that is asked.
        at: ShardIndex,
        /// How many objects there are, as far as whoever asks knows.
        shards: u16,
    },
}

/// A call to a `Jobs` object.
#[allow(
    clippy::large_enum_variant,
    reason = "the largest is the commonest: a box would cost each request an allocation"
)]
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Call {
    /// Accept a job.
    Enqueue(alloc::boxed::Box<Enqueue>),
    /// Send a job's events to a hub from now on, and give what it missed.
    Follow {
        /// The job.
        job: JobRef,
        /// Who asks.
        caller: Caller,
        /// Where the events go.
        hub: HubIndex,
        /// The last event that the client has.
        after: Option<Seq>,
    },
    /// Give the events after `after`; where there are none yet, wait.
    Watch {
        /// The job.
        job: JobId,
        /// Who asks.
        caller: Caller,
        /// The last event that the client has.
        after: Option<Seq>,
        /// How long to wait. Milliseconds.
        wait_ms: u64,
        /// Whether only the end is worth an answer.
        until_end: bool,
    },
    /// End a job.
    Cancel {
        /// The job.
        job: JobId,
        /// Who asks.
        caller: Caller,
    },
    /// Try a job again: one that waits, now; one that failed, was cancelled or expired, as a new job, once.
    Retry {
        /// The job.
        job: JobId,
        /// Who asks.
        caller: Caller,
        /// Another input for the new job. A fault for a job that has not ended.
        payload: Option<Payload>,
    },
    /// Show a job.
    Get {
        /// The job.
        job: JobId,
        /// Who asks.
        caller: Caller,
    },
    /// Where a job's result lies.
    Result {
        /// The job.
        job: JobId,
        /// Who asks.
        caller: Caller,
    },
    /// List jobs.
    List {
        /// Who asks.
        caller: Caller,
        /// Which.
        filter: Filter,
    },
    /// Say what a job waits for.
    Why {
        /// The job.
        job: JobId,
        /// Who asks.
        caller: Caller,
    },
    /// Hold jobs back.
    Pause {
        /// Which.
        scope: PauseScope,
        /// Who asks.
        caller: Caller,
    },
    /// Let jobs go again.
    Resume {
        /// Which.
        scope: PauseScope,
        /// Who asks.
        caller: Caller,
    },
    /// Show what runs, what waits, and what is held back.
    Queue {
        /// Who asks.
        caller: Caller,
    },
    /// List dead letters.
    DeadLetters {
        /// Who asks.
        caller: Caller,
        /// Which.
        filter: Filter,
    },
    /// Do the same to several jobs. Each has its own result.
    Many {
        /// Who asks.
        caller: Caller,
        /// Which jobs.
        which: Selection,
        /// What is done to each.
        action: ManyAction,
        /// Only tell what would be done.
        dry_run: bool,
    },
    /// A doorbell: the job may be started.
    Start {
        /// The job.
        job: JobId,
    },
    /// A sign of life from an attempt.
    Report {
        /// The job.
        job: JobId,
        /// The lease that the attempt holds.
        token: FencingToken,
        /// How far it is; `None` is a heartbeat.
        progress: Option<Progress>,
        /// The key of the object that holds its latest checkpoint.
        checkpoint: Option<String>,
        /// What it has written and changed beyond that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        notes: Option<Notes>,
    },
    /// The outcome of an attempt.
    Finish {
        /// The job.
        job: JobId,
        /// The lease that the attempt holds.
        token: FencingToken,
        /// What came of it.
        outcome: Outcome,
    },
    /// These are the tenant's schedules, and no others. An older version than the one there is changes nothing.
    SetSchedules {
        /// The tenant's version that they come from.
        version: u64,
        /// All of them.
        schedules: Vec<Schedule>,
    },
    /// These are the tenant's endpoints, and no others. An older version than the one there is changes nothing.
    SetEndpoints {
        /// Their version.
        version: u64,
        /// All of them: a list of [`crate::http::Endpoint`], as text.
        endpoints: JsonText,
    },
    /// Show the schedules.
    Schedules {
        /// Who asks.
        caller: Caller,
    },
    /// Hold a schedule back.
    PauseSchedule {
        /// Which.
        name: ScheduleName,
        /// Who asks.
        caller: Caller,
    },
    /// Let a schedule go on, from its next nominal time.
    ResumeSchedule {
        /// Which.
        name: ScheduleName,
        /// Who asks.
        caller: Caller,
    },
    /// Fire a schedule now, once, whatever its clock and its last job say.
    TriggerSchedule {
        /// Which.
        name: ScheduleName,
        /// Who asks.
        caller: Caller,
        /// The client's name for this one time: the same key, the same job.
        key: Option<IdempotencyKey>,
    },
    /// Fire a schedule for each of its nominal times in a part of the past that has no job yet.
    Backfill {
        /// Which.
        name: ScheduleName,
        /// Who asks.
        caller: Caller,
        /// The first moment.
        from: UnixMs,
        /// The moment after the last.
        to: UnixMs,
    },
    /// Pause, resume or reschedule a job.
    Change {
        /// The job.
        job: JobId,
        /// Who asks.
        caller: Caller,
        /// What is done.
        change: Change,
    },
    /// Show the stored events of a job, oldest first.
    Events {
        /// The job.
        job: JobId,
        /// Who asks.
        caller: Caller,
        /// The last event that the client has.
        after: Seq,
    },
    /// Show the text of one of a job's streams.
    Output {
        /// The job.
        job: JobId,
        /// Who asks.
        caller: Caller,
        /// The stream.
        stream: StreamName,
        /// From which byte of the stream on.
        offset: u64,
    },
    /// The tenant grows, or has grown. What is older than what the object knows changes nothing.
    Grow(Growth),
    /// A worker asks for jobs.
    Lease(LeaseJobs),
    /// An attempt asks for its input, which was too large to come with it.
    Input {
        /// The job.
        job: JobId,
        /// The lease that the attempt holds.
        token: FencingToken,
    },
    /// A question about the jobs of a batch that lie here.
    Batch {
        /// The batch.
        batch: BatchId,
        /// Who asks.
        caller: Caller,
        /// What is asked.
        ask: BatchAsk,
    },
    /// Say which jobs here hold places under a limit, for the sum of all objects.
    Holders {
        /// The limit.
        limit: String,
        /// Its key; empty where it has none.
        key: String,
        /// Who asks.
        caller: Caller,
    },
    /// Another object of the tenant asks for places under a limit whose home this one is, or gives some back.
    Ask(alloc::boxed::Box<Ask>),
    /// The home of a limit wants back what this object does not use.
    Recall(Recall),
    /// A doorbell that the platform's queue could not bring: as [`Call::Start`], and noted for the dead letters.
    DoorbellLost {
        /// The job.
        job: JobId,
    },
}

/// What is asked about a batch.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum BatchAsk {
    /// How it stands; where jobs of it are open, once the last has ended or this time is over.
    Show {
        /// How long to wait. Milliseconds; 0: not at all.
        wait_ms: u64,
    },
    /// That everything of it ends that has not ended. An object that has nothing of it notes that nothing is to come.
    Cancel {
        /// Whose batch it is.
        owner: UserId,
    },
}

/// A worker asks for jobs of its pool.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LeaseJobs {
    /// The pool.
    pub pool: PoolName,
    /// The worker's name. It waits with one call at a time: a newer one ends the older.
    pub worker: String,
    /// So many at most. None from a worker that leaves: it only ends its older call.
    pub max: u32,
    /// Only jobs of these actions; `None`: of any.
    pub actions: Option<Vec<ActionName>>,
    /// How long to wait where there are none. Milliseconds.
    pub wait_ms: u64,
}

/// What a `Jobs` object answers.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Reply {
    /// The job is stored.
    Acknowledged {
        /// The job.
        job: JobId,
        /// Its state now.
        status: JobState,
        /// Its latest event.
        seq: Seq,
        /// Whether it was there already.
        deduplicated: bool,
        /// Not before this moment.
        run_at: Option<UnixMs>,
    },
    /// The job has ended already; this is its outcome.
    Ended {
        /// The job.
        job: JobId,
        /// Its terminal event.
        event: Event,
        /// Whether it was there already.
        deduplicated: bool,
        /// Whether the job can still be asked for: one that ended before its deadline left nothing behind.
        stored: bool,
    },
    /// The stored events after the cursor, or where the job stands.
    Following {
        /// The job.
        job: JobId,
        /// Where the job stands, where the cursor is absent, too old, or beyond everything.
        snapshot: Option<Snapshot>,
        /// The stored events after the cursor or the snapshot, oldest first.
        events: Vec<Event>,
        /// Whether the job has ended, so that nothing follows.
        ended: bool,
    },
    /// A job.
    Job(alloc::boxed::Box<Job>),
    /// A job's result.
    Result {
        /// The result, or where it lies.
        result: Payload,
    },
    /// A page of jobs.
    Jobs(JobPage),
    /// What a job waits for: a [`crate::http::Why`], as the text that the API shows, because nothing in between reads it.
    Why(JsonText),
    /// What runs, what waits, and what is held back.
    Queue(QueueView),
    /// A page of dead letters.
    DeadLetters(DeadLetterPage),
    /// What became of each of several jobs.
    Many {
        /// The jobs that were looked for, in order.
        jobs: Vec<BulkItem>,
        /// Jobs below this number were not looked at yet.
        next: Option<JobNumber>,
    },
    /// The attempt goes on, under its lease until then.
    Continue {
        /// When the lease ends unless another report comes.
        lease_until: UnixMs,
        /// Where the job was cancelled: until when the attempt may bring itself to an end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cancelled_until: Option<UnixMs>,
    },
    /// Schedules as the API shows them: a [`crate::http::ScheduleList`], or one [`crate::http::ScheduleInfo`]. As text,
    /// which whoever asked passes on: nothing between the object and the client reads it.
    Schedules(JsonText),
    /// Attempts that a worker is to make.
    Leased {
        /// The attempts.
        jobs: Vec<Execute>,
        /// The clock of the object: from then on their leases run.
        now: UnixMs,
    },
    /// What a backfill did.
    Backfilled(Backfilled),
    /// Done.
    Done,
    /// A part of a job's history as the API shows it: a [`crate::http::EventPage`], or a [`crate::http::OutputPage`]. As
    /// text, which whoever asked passes on.
    History(JsonText),
    /// The object was told of its tenant's growth.
    Grown(Grown),
    /// The object has no such key or job, and owns its partition no longer: ask this one, with the call as it was.
    Elsewhere {
        /// The next owner.
        shard: ShardIndex,
        /// The call.
        call: alloc::boxed::Box<Call>,
    },
    /// How the jobs of a batch stand that lie here: a [`crate::http::BatchView`], as text, because it is read once, by the
    /// Worker, which sums up those of all objects.
    Batch(JsonText),
    /// The places that an object has under a limit.
    Places(Places),
    /// Jobs that run under a limit, the oldest first; at most [`crate::limits::HOLDERS_SHOWN_MAX`].
    Holders(Vec<JobId>),
}

/// Calls to one `Jobs` object that travel together, to be answered one by one.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Batch {
    /// The calls, in order.
    pub calls: Vec<Call>,
}
