//! One of everything that the parts say to each other, at the bounds of what it can hold.
//!
//! Each list is followed by a match without a default: a new variant does not compile until the list has it.

use std::num::NonZeroU32;

use tidegate_protocol::calls::access;
use tidegate_protocol::calls::access::Credential;
use tidegate_protocol::calls::admission::{self, Bucket, Recalled, Returned};
use tidegate_protocol::calls::audit::{Act, Via};
use tidegate_protocol::calls::backup;
use tidegate_protocol::calls::channel::{self, Attendance, Attended, Departure, Keep, Medium, Presentation};
use tidegate_protocol::calls::directory::{self, BackupAct, Erased};
use tidegate_protocol::calls::executor::{
    Assignment, Backoff, Dispatch, Execute, Factor, Jitter, Outcome, Policy, Sharing,
};
use tidegate_protocol::calls::hooks::{self, Hook, OnEnd};
use tidegate_protocol::calls::hub::{self, ChannelAsked, Delivery, Prefer};
use tidegate_protocol::calls::jobs::{
    self, BatchAsk, Change, Enqueue, Filter, JobRef, Keyed, ManyAction, NewJob, Selection, Sort,
};
use tidegate_protocol::calls::network::Network;
use tidegate_protocol::calls::once::{Dedupe, DedupeRule, KeyLife, Once};
use tidegate_protocol::calls::places::{Ask, Places, Recall};
use tidegate_protocol::calls::queueing::{
    ActionPattern, Bounds, Counted, Pause, PauseScope, Priority, Queueing, Rule, Share, WhenFull,
};
use tidegate_protocol::calls::reporting::{Durability, MetadataPatch, Notes, PatchOp, Reporting, Written};
use tidegate_protocol::calls::schedules::{Overlap, Schedule};
use tidegate_protocol::calls::secrets::Sealed;
use tidegate_protocol::calls::spread::{Grown, Growth, Place, Spread, Spreads, Standing};
use tidegate_protocol::calls::tenant::{self, Description, Scale};
use tidegate_protocol::calls::upstreams::{self, BreakerChange, BreakerRule, BreakerState, Consult, Outcomes};
use tidegate_protocol::calls::versions::RevisionRule;
use tidegate_protocol::calls::{Answered, Caller, Principal};
use tidegate_protocol::channels::{Cursor, HistoryPage, Message, Publication, Published};
use tidegate_protocol::event::{Event, Happening, JobState, JsonText, Output, Payload, Progress, Snapshot};
use tidegate_protocol::http::{
    Accepted, ActionQueue, AttemptError, AuditRefusal, Backfilled, BulkItem, DeadLetter, DeadLetterPage, Job, JobPage,
    LostDoorbell, PoolQueue, QueueView, Reason, Signature, Why, WorkerSeen,
};
use tidegate_protocol::ids::{
    ActionName, ApiKeyId, BackupId, BatchId, ChannelName, EndpointId, Epoch, FencingToken, HubIndex, IdempotencyKey,
    JobId, JobNumber, Offset, Partition, PoolName, RequestId, Revision, ScheduleName, SecretName, Seq, ShardIndex,
    StreamName, TenantId, TokenId, TraceParent, UserId,
};
use tidegate_protocol::presence::{self, Became, Heard, Mark, Member, News, Own, Roster, Told, Watched};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode, Fault};
use tidegate_protocol::{SortedMap, SortedSet};

/// The largest number that survives a double, and so JavaScript and an object's SQLite.
pub const LARGEST: u64 = (1 << 53) - 1;
/// The end of the year 9999.
pub const LAST_MOMENT: UnixMs = UnixMs(253_402_300_799_999);
/// Bytes of the largest value that is tried: beyond what any body may have.
pub const LARGE_BYTES: usize = 1024 * 1024;

pub fn job() -> JobId {
    JobId::new(JobNumber(LARGEST), u32::MAX)
}

pub fn tenant() -> TenantId {
    TenantId::parse("eu.acme").unwrap()
}

pub fn user() -> UserId {
    UserId::parse(&"é".repeat(128)).unwrap()
}

pub fn request_id() -> RequestId {
    RequestId::parse(&"r".repeat(128)).unwrap()
}

pub fn action() -> ActionName {
    ActionName::parse(&"a".repeat(128)).unwrap()
}

pub fn key() -> IdempotencyKey {
    IdempotencyKey::parse("a key").unwrap()
}

pub fn revision() -> Revision {
    Revision::parse("rev-1").unwrap()
}

pub fn trace() -> Option<TraceParent> {
    TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
}

pub fn api_key_id() -> ApiKeyId {
    ApiKeyId::parse(&format!("key_{}", "x".repeat(124))).unwrap()
}

fn endpoint_id() -> EndpointId {
    EndpointId::parse(&format!("end_{}", "x".repeat(124))).unwrap()
}

fn secret_name() -> SecretName {
    SecretName::parse(&"s".repeat(64)).unwrap()
}

fn sealed() -> Sealed {
    Sealed {
        name: secret_name(),
        version: LARGEST,
        text: "x".repeat(22_000),
    }
}

pub fn caller() -> Caller {
    Caller {
        user: user(),
        reads_all: true,
        writes_all: false,
        act: Some(Box::new(act())),
    }
}

pub fn stream() -> StreamName {
    StreamName::parse("tokens / é").unwrap()
}

fn notes() -> Notes {
    let patch = |op, value| MetadataPatch {
        op,
        key: String::from("k"),
        value: JsonText::parse(value).unwrap(),
    };
    Notes {
        number: Some(LARGEST),
        metadata_patch: vec![
            patch(PatchOp::Set, "{\"a\":[null]}"),
            patch(PatchOp::Increment, "-1.5"),
            patch(PatchOp::Append, "\"\""),
        ],
        output: vec![Written {
            stream: stream(),
            chunk: "é".repeat(8 * 1024),
        }],
    }
}

/// JSON text of exactly `bytes` bytes.
pub fn text_of(bytes: usize) -> JsonText {
    JsonText::parse(&format!("\"{}\"", "x".repeat(bytes - 2))).unwrap()
}

pub fn payloads() -> Vec<Payload> {
    vec![
        Payload::Inline(JsonText::null()),
        Payload::Inline(JsonText::parse("\"\"").unwrap()),
        Payload::Inline(JsonText::parse(r#"{"a":[9007199254740991,-1.5e300,"\u0000é😀"]}"#).unwrap()),
        Payload::Inline(text_of(LARGE_BYTES)),
        Payload::Stored {
            key: String::new(),
            bytes: LARGEST,
        },
    ]
}

pub fn error() -> Error {
    let faults = vec![
        Fault::new("", "a thing", ""),
        Fault::new("/a~1b/0", "one of x", "é").suggest("pat", ["path"]),
    ];
    let error = Error::invalid("It cannot be used.", faults).retry_after(LARGEST);
    Error {
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
        ..error
    }
}

pub fn progress() -> Progress {
    Progress {
        percentage: 99.9,
        message: Some(String::new()),
        metadata: JsonText::parse("{}"),
    }
}

pub fn events() -> Vec<Event> {
    let happenings = vec![
        Happening::Progress(Progress::default()),
        Happening::Progress(progress()),
        Happening::Retrying {
            next_attempt_at: LAST_MOMENT,
            error: error(),
        },
        Happening::Completed {
            result: Payload::Inline(JsonText::null()),
        },
        Happening::Output(Output {
            stream: stream(),
            offset: LARGEST,
            chunk: String::from("é\u{0}\n😀"),
        }),
        Happening::Failed {
            error: Error::new(ErrorCode::Cancelled, ""),
        },
        Happening::Started,
    ];
    for happening in &happenings {
        match happening {
            Happening::Progress(_)
            | Happening::Retrying { .. }
            | Happening::Completed { .. }
            | Happening::Failed { .. }
            | Happening::Output(_)
            | Happening::Started => {}
        }
    }
    let event = |what| Event {
        seq: Seq(LARGEST),
        attempt: u32::MAX,
        at: LAST_MOMENT,
        what,
    };
    happenings.into_iter().map(event).collect()
}

fn filter() -> Filter {
    Filter {
        status: Some(JobState::Expired),
        action: Some(action()),
        user: Some(user()),
        code: Some(ErrorCode::UpstreamError),
        created_after: Some(UnixMs(0)),
        created_before: Some(LAST_MOMENT),
        metadata: SortedMap::from([(String::from("k"), String::from("v"))]),
        below: Some(JobNumber(LARGEST)),
        limit: u32::MAX,
        batch: Some(batch()),
        sort: Sort::Oldest,
        above: Some(JobNumber(LARGEST)),
    }
}

fn batch() -> BatchId {
    BatchId::parse("bat_0123456789abcdefghjkmnpqr").unwrap()
}

fn policy() -> Policy {
    Policy {
        attempts_max: u32::MAX,
        backoff: Backoff::Exponential {
            initial_ms: 0,
            factor: Factor(LARGEST),
            cap_ms: LARGEST,
        },
        jitter: Some(Jitter::PlusMinus { percent: u8::MAX }),
        timeout_ms: LARGEST,
        queue_timeout_ms: Some(LARGEST),
        total_timeout_ms: Some(0),
        heartbeat_timeout_ms: None,
        lease_ms: 1,
        cancel_grace_ms: LARGEST,
        retention_ms: 0,
        result_retention_ms: Some(LARGEST),
        dispatch: Dispatch::Queue,
        sharing: Sharing::Shared,
        reporting: Reporting {
            every_ms: 0,
            durability: Durability::All,
            keep_bytes: LARGEST,
        },
        pool: Some(pool()),
        revision: RevisionRule::Latest,
    }
}

/// One kind for values, the other for what lies elsewhere.
fn hook(payload: &Payload) -> Hook {
    match payload {
        Payload::Inline(_) => Hook::OnEnd(Box::new(OnEnd {
            url: String::new(),
            events: JobState::ALL.to_vec(),
            include_result: true,
            policy: policy(),
        })),
        Payload::Stored { .. } => Hook::Tells(message()),
    }
}

pub fn new_job(payload: Payload) -> NewJob {
    let hook = hook(&payload);
    NewJob {
        request_id: request_id(),
        user: user(),
        action: action(),
        revision: revision(),
        policy: policy(),
        queueing: Queueing {
            priority: Priority::Low,
            share: Some(Share {
                key: String::new(),
                weight: u32::MAX,
            }),
            limits: vec![
                Counted {
                    limit: String::from("l"),
                    key: String::new(),
                    rule: Rule::Concurrency { max: u32::MAX },
                    cost: u32::MAX,
                    when_full: WhenFull::Replace,
                },
                Counted {
                    limit: String::new(),
                    key: String::from("k"),
                    rule: Rule::Rate {
                        units: 0,
                        per_ms: LARGEST,
                        burst: u32::MAX,
                    },
                    cost: 0,
                    when_full: WhenFull::Refuse,
                },
            ],
            waiting_max: Some(u32::MAX),
            place: Place {
                shard: ShardIndex(u16::MAX),
                shards: u16::MAX,
            },
            bounds: Bounds {
                bytes: Some(LARGEST),
                tenant: Some(u32::MAX),
                tenant_bytes: Some(LARGEST),
            },
        },
        payload,
        metadata: SortedMap::from([(String::from("k"), String::new())]),
        run_at: Some(UnixMs(0)),
        traceparent: trace(),
        redriven_from: Some(job()),
        once: Some(Once::Dedupe(Dedupe {
            key: String::from("k"),
            rule: DedupeRule::KeepLast {
                wait_ms: 0,
                max_wait_ms: LARGEST,
            },
            key_life: Some(KeyLife {
                ttl_ms: Some(LARGEST),
                failed_frees: true,
            }),
        })),
        hook: Some(hook),
        batch: Some(batch()),
    }
}

fn message() -> hooks::Message {
    hooks::Message {
        url: String::from("https://é"),
        id: String::new(),
        endpoint: Some(endpoint_id()),
        signature: Signature::V1a,
        held: Some("é".repeat(128)),
    }
}

fn pause() -> Pause {
    Pause {
        scope: PauseScope::Key(String::from("k")),
        by: user(),
        since: LAST_MOMENT,
    }
}

fn growth(standing: Standing) -> jobs::Call {
    jobs::Call::Grow(Growth {
        shard: ShardIndex(u16::MAX),
        history: vec![1, u16::MAX],
        standing,
        pauses: vec![pause()],
        after: JobNumber(LARGEST),
    })
}

fn why() -> Why {
    let waits_for = vec![
        Reason::Delayed { until: LAST_MOMENT },
        Reason::Retrying { until: LAST_MOMENT },
        Reason::Doorbell { until: LAST_MOMENT },
        Reason::Paused(pause()),
        Reason::Limit {
            limit: String::new(),
            key: String::new(),
            max: u32::MAX,
            held_by: vec![job()],
        },
        Reason::Throttled {
            limit: String::new(),
            key: String::new(),
            until: LAST_MOMENT,
        },
        Reason::Places { running: u32::MAX },
        Reason::PausedAlone {
            by: user(),
            since: LAST_MOMENT,
        },
        Reason::Behind { ahead: LARGEST },
        Reason::Growing {
            limit: String::new(),
            key: String::new(),
        },
        Reason::Worker {
            pool: pool(),
            asked_at: Some(UnixMs(1_795_244_400_000)),
        },
    ];
    for reason in &waits_for {
        match reason {
            Reason::Delayed { .. }
            | Reason::Retrying { .. }
            | Reason::Doorbell { .. }
            | Reason::Paused(_)
            | Reason::PausedAlone { .. }
            | Reason::Limit { .. }
            | Reason::Throttled { .. }
            | Reason::Places { .. }
            | Reason::Behind { .. }
            | Reason::Growing { .. }
            | Reason::Worker { .. } => {}
        }
    }
    Why {
        job_id: job(),
        status: JobState::Queued,
        waits_for,
    }
}

pub fn pool() -> PoolName {
    PoolName::parse(&"p".repeat(48)).unwrap()
}

pub fn schedule_name() -> ScheduleName {
    ScheduleName::parse(&"s".repeat(48)).unwrap()
}

pub fn schedules() -> Vec<Schedule> {
    let of = |(overlap, payload)| Schedule {
        name: schedule_name(),
        cron: "*".repeat(256),
        time_zone: String::from("America/Argentina/ComodRivadavia"),
        job: new_job(payload),
        overlap,
        catch_up_ms: LARGEST,
        jitter_ms: LARGEST,
        paused: true,
    };
    let payloads = payloads().into_iter().cycle();
    Overlap::ALL.into_iter().zip(payloads).map(of).collect()
}

pub fn jobs_calls() -> Vec<jobs::Call> {
    let mut calls = vec![
        jobs::Call::Follow {
            job: JobRef::Id(job()),
            caller: caller(),
            hub: HubIndex(u16::MAX),
            after: None,
        },
        jobs::Call::Follow {
            job: JobRef::Anywhere {
                action: action(),
                key: key(),
                at: ShardIndex(u16::MAX),
                shards: u16::MAX,
            },
            caller: caller(),
            hub: HubIndex(u16::MAX),
            after: None,
        },
        jobs::Call::Follow {
            job: JobRef::Key(action(), key()),
            caller: caller(),
            hub: HubIndex(0),
            after: Some(Seq(LARGEST)),
        },
        jobs::Call::Watch {
            job: job(),
            caller: caller(),
            after: Some(Seq(0)),
            wait_ms: LARGEST,
            until_end: true,
        },
        jobs::Call::Cancel {
            job: job(),
            caller: caller(),
        },
        jobs::Call::Get {
            job: job(),
            caller: caller(),
        },
        jobs::Call::Result {
            job: job(),
            caller: caller(),
        },
        jobs::Call::List {
            caller: caller(),
            filter: filter(),
        },
        jobs::Call::Retry {
            job: job(),
            caller: caller(),
            payload: Some(Payload::Inline(text_of(2))),
        },
        jobs::Call::DeadLetters {
            caller: caller(),
            filter: Filter::default(),
        },
        jobs::Call::Many {
            caller: caller(),
            which: Selection::Filter(filter()),
            action: ManyAction::Redrive {
                payload: None,
                start: LAST_MOMENT,
                interval_us: LARGEST,
            },
            dry_run: true,
        },
        jobs::Call::Many {
            caller: caller(),
            which: Selection::Ids(vec![job()]),
            action: ManyAction::Discard,
            dry_run: false,
        },
        jobs::Call::Many {
            caller: caller(),
            which: Selection::Ids(Vec::new()),
            action: ManyAction::Cancel,
            dry_run: false,
        },
        jobs::Call::Why {
            job: job(),
            caller: caller(),
        },
        jobs::Call::Holders {
            limit: String::from("each"),
            key: String::from("acme"),
            caller: caller(),
        },
        jobs::Call::Pause {
            scope: PauseScope::Tenant,
            caller: caller(),
        },
        jobs::Call::Pause {
            scope: PauseScope::Action(ActionPattern::parse("a.*").unwrap()),
            caller: caller(),
        },
        jobs::Call::Resume {
            scope: PauseScope::Key(String::new()),
            caller: caller(),
        },
        jobs::Call::Queue { caller: caller() },
        jobs::Call::Start { job: job() },
        jobs::Call::DoorbellLost { job: job() },
        jobs::Call::SetSchedules {
            version: LARGEST,
            schedules: schedules(),
        },
        jobs::Call::SetEndpoints {
            version: LARGEST,
            endpoints: text_of(LARGE_BYTES),
        },
        jobs::Call::Schedules { caller: caller() },
        jobs::Call::PauseSchedule {
            name: schedule_name(),
            caller: caller(),
        },
        jobs::Call::ResumeSchedule {
            name: schedule_name(),
            caller: caller(),
        },
        jobs::Call::TriggerSchedule {
            name: schedule_name(),
            caller: caller(),
            key: Some(key()),
        },
        jobs::Call::Backfill {
            name: schedule_name(),
            caller: caller(),
            from: UnixMs(0),
            to: LAST_MOMENT,
        },
        growth(Standing::Asleep),
        growth(Standing::Limited),
        growth(Standing::Open),
        jobs::Call::Lease(jobs::LeaseJobs {
            pool: pool(),
            worker: String::new(),
            max: u32::MAX,
            actions: Some(vec![action()]),
            wait_ms: LARGEST,
        }),
        jobs::Call::Input {
            job: job(),
            token: FencingToken(LARGEST),
        },
        jobs::Call::Ask(Box::new(Ask {
            limit: "limit".into(),
            key: String::new(),
            rule: Rule::Concurrency { max: u32::MAX },
            since: UnixMs(LARGEST),
            shard: ShardIndex(u16::MAX),
            home: ShardIndex(0),
            first: u16::MAX,
            number: LARGEST,
            version: LARGEST,
            places: u32::MAX,
            want: 0,
            wait_ms: LARGEST,
            brief: true,
            force: false,
        })),
        jobs::Call::Recall(Recall {
            limit: "limit".into(),
            key: "key".into(),
            version: LARGEST,
            force: true,
        }),
        jobs::Call::Report {
            job: job(),
            token: FencingToken(LARGEST),
            progress: Some(progress()),
            checkpoint: Some(String::new()),
            notes: Some(notes()),
        },
        jobs::Call::Events {
            job: job(),
            caller: caller(),
            after: Seq(LARGEST),
        },
        jobs::Call::Output {
            job: job(),
            caller: caller(),
            stream: stream(),
            offset: LARGEST,
        },
        jobs::Call::Batch {
            batch: batch(),
            caller: caller(),
            ask: BatchAsk::Show { wait_ms: LARGEST },
        },
        jobs::Call::Batch {
            batch: batch(),
            caller: caller(),
            ask: BatchAsk::Cancel { owner: user() },
        },
        jobs::Call::Report {
            job: job(),
            token: FencingToken(0),
            progress: None,
            checkpoint: None,
            notes: None,
        },
    ];
    calls.extend(payloads().into_iter().map(|payload| {
        jobs::Call::Enqueue(Box::new(Enqueue {
            job: new_job(payload),
            partition: Partition::of_hash(u64::MAX),
            keyed: Some(Keyed {
                key: key(),
                fingerprint: "f".repeat(25),
            }),
            answer_within_ms: Some(0),
            follower: Some(HubIndex(u16::MAX)),
            away_max_ms: Some(1),
        }))
    }));
    calls.extend(outcomes().into_iter().map(|outcome| jobs::Call::Finish {
        job: job(),
        token: FencingToken(LARGEST),
        outcome,
    }));
    let changes = [Change::Pause, Change::Resume, Change::Reschedule(LAST_MOMENT)];
    calls.extend(changes.map(|change| jobs::Call::Change {
        job: job(),
        caller: caller(),
        change,
    }));
    for call in &calls {
        match call {
            jobs::Call::Enqueue(_)
            | jobs::Call::Follow { .. }
            | jobs::Call::Watch { .. }
            | jobs::Call::Cancel { .. }
            | jobs::Call::Get { .. }
            | jobs::Call::Result { .. }
            | jobs::Call::List { .. }
            | jobs::Call::Why { .. }
            | jobs::Call::Holders { .. }
            | jobs::Call::Pause { .. }
            | jobs::Call::Resume { .. }
            | jobs::Call::Queue { .. }
            | jobs::Call::Retry { .. }
            | jobs::Call::DeadLetters { .. }
            | jobs::Call::Many { .. }
            | jobs::Call::Start { .. }
            | jobs::Call::Report { .. }
            | jobs::Call::Finish { .. }
            | jobs::Call::SetSchedules { .. }
            | jobs::Call::SetEndpoints { .. }
            | jobs::Call::Schedules { .. }
            | jobs::Call::PauseSchedule { .. }
            | jobs::Call::ResumeSchedule { .. }
            | jobs::Call::TriggerSchedule { .. }
            | jobs::Call::Backfill { .. }
            | jobs::Call::Change { .. }
            | jobs::Call::Events { .. }
            | jobs::Call::Output { .. }
            | jobs::Call::Grow(_)
            | jobs::Call::Lease(_)
            | jobs::Call::Input { .. }
            | jobs::Call::Batch { .. }
            | jobs::Call::DoorbellLost { .. }
            | jobs::Call::Ask(_)
            | jobs::Call::Recall(_) => {}
        }
    }
    calls
}

pub fn outcomes() -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = payloads()
        .into_iter()
        .map(|result| Outcome::Succeeded { result })
        .collect();
    outcomes.extend([
        Outcome::Failed { error: error() },
        Outcome::Unfinished,
        Outcome::Snoozed { ms: LARGEST },
        Outcome::HandedOver,
    ]);
    for outcome in &outcomes {
        match outcome {
            Outcome::Succeeded { .. }
            | Outcome::Failed { .. }
            | Outcome::Unfinished
            | Outcome::Snoozed { .. }
            | Outcome::HandedOver => {}
        }
    }
    outcomes
}

fn shown() -> Job {
    Job {
        job_id: job(),
        request_id: request_id(),
        action: action(),
        user: user(),
        status: JobState::Retrying,
        attempt: 0,
        seq: Seq(LARGEST),
        progress: progress(),
        metadata: SortedMap::new(),
        created_at: UnixMs(0),
        run_at: Some(LAST_MOMENT),
        ended_at: None,
        expires_at: Some(LAST_MOMENT),
        result: Some(text_of(2)),
        result_url: None,
        error: Some(error()),
        redriven_from: None,
        redriven_to: Some(job()),
        batch_id: Some(batch()),
        started_at: Some(LAST_MOMENT),
    }
}

pub fn jobs_replies() -> Vec<jobs::Reply> {
    let mut replies = vec![
        jobs::Reply::Following {
            job: job(),
            snapshot: Some(Snapshot {
                seq: Seq(1),
                attempt: 0,
                status: JobState::Scheduled,
                progress: Progress::default(),
                gap: true,
                at: LAST_MOMENT,
            }),
            events: vec![],
            ended: false,
        },
        jobs::Reply::Following {
            job: job(),
            snapshot: None,
            events: events(),
            ended: true,
        },
        jobs::Reply::Job(Box::new(shown())),
        jobs::Reply::Jobs(JobPage {
            jobs: vec![shown(), shown()],
            cursor: Some(String::new()),
        }),
        jobs::Reply::Why(JsonText::of(&why()).unwrap()),
        jobs::Reply::Queue(QueueView {
            running: LARGEST,
            waiting: 0,
            actions: vec![ActionQueue {
                action: action(),
                waiting: LARGEST,
            }],
            pauses: vec![pause()],
            shards: u16::MAX,
            growing_to: Some(u16::MAX),
            pools: vec![PoolQueue {
                pool: pool(),
                waiting: LARGEST,
                leased: 0,
                workers: vec![WorkerSeen {
                    worker: String::new(),
                    seen_at: LAST_MOMENT,
                }],
            }],
            dead_letters: LARGEST,
            oldest_waiting_at: Some(LAST_MOMENT),
        }),
        jobs::Reply::Leased {
            jobs: payloads().into_iter().map(execute).collect(),
            now: LAST_MOMENT,
        },
        jobs::Reply::Continue {
            lease_until: LAST_MOMENT,
            cancelled_until: Some(LAST_MOMENT),
        },
        jobs::Reply::Schedules(JsonText::parse("{\"schedules\":[]}").unwrap()),
        jobs::Reply::Backfilled(Backfilled {
            fired: LARGEST,
            known: 0,
            rest_from: Some(LAST_MOMENT),
        }),
        jobs::Reply::Done,
        jobs::Reply::History(JsonText::parse("{\"events\":[]}").unwrap()),
        jobs::Reply::Grown(Grown {
            last: JobNumber(LARGEST),
            pauses: vec![pause()],
        }),
        jobs::Reply::Batch(JsonText::parse("{}").unwrap()),
        jobs::Reply::DeadLetters(DeadLetterPage {
            dead_letters: vec![DeadLetter {
                job_id: job(),
                request_id: request_id(),
                action: action(),
                user: user(),
                metadata: SortedMap::from([(String::from("k"), String::new())]),
                created_at: UnixMs(0),
                failed_at: Some(LAST_MOMENT),
                expires_at: None,
                attempts: u32::MAX,
                error: error(),
                earlier_errors: vec![AttemptError {
                    attempt: 1,
                    at: LAST_MOMENT,
                    error: error(),
                }],
                redriven_from: Some(job()),
                status: JobState::Succeeded,
                doorbell: Some(LostDoorbell {
                    times: LARGEST,
                    first_at: UnixMs(0),
                    last_at: LAST_MOMENT,
                }),
            }],
            cursor: Some(String::from("1")),
        }),
        jobs::Reply::Many {
            jobs: vec![BulkItem {
                job_id: job(),
                redriven_to: Some(job()),
                run_at: Some(LAST_MOMENT),
                error: Some(error()),
            }],
            next: Some(JobNumber(LARGEST)),
        },
    ];
    replies.extend(JobState::ALL.iter().map(|status| jobs::Reply::Acknowledged {
        job: job(),
        status: *status,
        seq: Seq(LARGEST),
        deduplicated: true,
        run_at: None,
    }));
    replies.push(jobs::Reply::Holders(vec![job()]));
    replies.push(jobs::Reply::Places(Places {
        places: u32::MAX,
        version: LARGEST,
        contended: true,
    }));
    replies.extend(events().into_iter().map(|event| jobs::Reply::Ended {
        job: job(),
        event,
        deduplicated: false,
        stored: true,
    }));
    replies.extend(payloads().into_iter().map(|result| jobs::Reply::Result { result }));
    replies.extend(jobs_calls().into_iter().map(|call| jobs::Reply::Elsewhere {
        shard: ShardIndex(u16::MAX),
        call: Box::new(call),
    }));
    for reply in &replies {
        match reply {
            jobs::Reply::Acknowledged { .. }
            | jobs::Reply::Ended { .. }
            | jobs::Reply::Following { .. }
            | jobs::Reply::Job(_)
            | jobs::Reply::Result { .. }
            | jobs::Reply::Jobs(_)
            | jobs::Reply::Why(_)
            | jobs::Reply::Queue(_)
            | jobs::Reply::DeadLetters(_)
            | jobs::Reply::Many { .. }
            | jobs::Reply::Continue { .. }
            | jobs::Reply::Schedules(_)
            | jobs::Reply::Backfilled(_)
            | jobs::Reply::Leased { .. }
            | jobs::Reply::Done
            | jobs::Reply::History(_)
            | jobs::Reply::Grown(_)
            | jobs::Reply::Elsewhere { .. }
            | jobs::Reply::Batch(_)
            | jobs::Reply::Places(_)
            | jobs::Reply::Holders(_) => {}
        }
    }
    replies
}

fn bucket() -> Bucket {
    Bucket {
        limit: "per-user".into(),
        key: "é".repeat(128),
    }
}

fn returned() -> Vec<Returned> {
    vec![Returned {
        bucket: bucket(),
        serial: LARGEST,
        left: u64::MAX,
    }]
}

fn ask() -> admission::Ask {
    let rate = admission::Rule::Rate {
        units: LARGEST,
        per_ms: LARGEST,
        burst: LARGEST,
    };
    let quota = admission::Rule::Quota { units: 1, per_ms: 1 };
    let need = |rule, consults, force| admission::Need {
        bucket: bucket(),
        rule,
        cost: LARGEST,
        consults,
        force,
    };
    admission::Ask {
        hub: HubIndex(u16::MAX),
        requests: vec![
            Vec::new(),
            vec![
                need(rate, admission::Consults::Leased, admission::Force::Counts),
                need(quota, admission::Consults::Always, admission::Force::Refuses),
            ],
        ],
        returned: returned(),
        refunds: vec![admission::Refund {
            bucket: bucket(),
            units: LARGEST,
            counted_at: LAST_MOMENT,
        }],
        wanted: vec![admission::Wanted {
            bucket: bucket(),
            rule: rate,
            units: u64::MAX,
        }],
    }
}

fn decided() -> admission::Decided {
    let rule = admission::Rule::Quota {
        units: LARGEST,
        per_ms: 1,
    };
    admission::Decided {
        at: LAST_MOMENT,
        verdicts: vec![
            admission::Verdict::Admitted,
            admission::Verdict::Refused(admission::Refusal {
                bucket: bucket(),
                rule,
                cost: 1,
                remaining: 0,
                after_ms: LARGEST,
            }),
        ],
        leases: vec![admission::Lease {
            bucket: bucket(),
            serial: LARGEST,
            units: LARGEST,
            lasts_ms: LARGEST,
        }],
        standings: vec![admission::Standing {
            bucket: bucket(),
            rule,
            remaining: LARGEST,
            reset_ms: LARGEST,
        }],
    }
}

pub fn hub_calls() -> Vec<hub::Call> {
    let request = |body: String, key: Option<String>| hub::Call::Request {
        principal: Principal {
            tenant: tenant(),
            user: user(),
            scopes: SortedSet::from([String::from("jobs:read"), String::from("x")]),
            expires_at: LAST_MOMENT,
            credential: Default::default(),
            network: Default::default(),
        },
        body,
        idempotency_key: key,
        traceparent: None,
        prefer: Prefer {
            respond_async: true,
            wait_ms: Some(LARGEST),
        },
    };
    let deliveries = events()
        .into_iter()
        .map(|event| Delivery { job: job(), event })
        .collect();
    let calls = vec![
        request(String::new(), None),
        request("é".repeat(LARGE_BYTES / 2), Some(String::new())),
        hub::Call::Batch {
            principal: Principal {
                tenant: tenant(),
                user: user(),
                scopes: SortedSet::new(),
                expires_at: LAST_MOMENT,
                credential: Credential::Token {
                    id: None,
                    issued_at: Some(LAST_MOMENT),
                    claims: JsonText::parse(r#"{"role":"é","groups":["a"]}"#),
                    claims_cut: true,
                },
                network: Default::default(),
            },
            items: vec![String::new(), String::from("{}")],
            traceparent: Some(String::new()),
            idempotency_key: Some(String::new()),
        },
        hub::Call::Request {
            principal: Principal {
                tenant: tenant(),
                user: user(),
                scopes: SortedSet::new(),
                expires_at: Principal::NEVER,
                credential: Credential::Signature { at: LAST_MOMENT },
                network: Default::default(),
            },
            body: String::from("{}"),
            idempotency_key: Some(String::new()),
            traceparent: None,
            prefer: Prefer::default(),
        },
        hub::Call::Deliver { deliveries: vec![] },
        hub::Call::Deliver { deliveries },
        hub::Call::Refresh {
            description: description(),
        },
        hub::Call::Followed { jobs: vec![job()] },
        hub::Call::Recall {
            recalled: vec![Recalled {
                bucket: bucket(),
                serial: LARGEST,
            }],
        },
        hub::Call::RecallPlaces,
        hub::Call::Messages {
            channel: channel_name(),
            after: cursor(),
            messages: messages(),
            until: Offset(LARGEST),
        },
        told(News::Changes(vec![presence::Change {
            version: LARGEST,
            member: member(None),
            became: Became::Absent,
        }])),
        told(News::Whole(attended().roster)),
        told(News::Count(LARGEST)),
        channel_call(ChannelAsked::Presence),
        channel_call(ChannelAsked::Publish(publication())),
        channel_call(ChannelAsked::History {
            after: Some(cursor()),
            limit: LARGEST,
        }),
    ];
    for call in &calls {
        match call {
            hub::Call::Request { .. }
            | hub::Call::Batch { .. }
            | hub::Call::Deliver { .. }
            | hub::Call::Refresh { .. }
            | hub::Call::Followed { .. }
            | hub::Call::Recall { .. }
            | hub::Call::Messages { .. }
            | hub::Call::Channel { .. }
            | hub::Call::Presence { .. }
            | hub::Call::RecallPlaces => {}
        }
    }
    calls
}

fn channel_name() -> ChannelName {
    ChannelName::parse(&"c".repeat(128)).unwrap()
}

fn cursor() -> Cursor {
    Cursor {
        epoch: Epoch::parse("0abc").unwrap(),
        offset: Offset(LARGEST),
    }
}

fn messages() -> Vec<Message> {
    let message = |data, publisher| Message {
        offset: Offset(LARGEST),
        timestamp: LAST_MOMENT,
        data,
        publisher,
    };
    vec![
        message(text_of(LARGE_BYTES), Some(user())),
        message(JsonText::null(), None),
    ]
}

fn member(data: Option<JsonText>) -> Member {
    Member {
        user: user(),
        data,
        since: LAST_MOMENT,
    }
}

fn mark() -> Mark {
    Mark {
        life: u64::MAX,
        version: LARGEST,
        digest: u64::MAX,
    }
}

fn attended() -> Attended {
    Attended {
        roster: Roster {
            members: vec![member(Some(JsonText::null())), member(None)],
            count: LARGEST,
        },
        mark: mark(),
    }
}

fn told(news: News) -> hub::Call {
    hub::Call::Presence {
        channel: channel_name(),
        told: Told {
            from: matches!(news, News::Changes(_)).then(mark),
            to: mark(),
            news,
            own: Some(u64::MAX),
        },
    }
}

fn publication() -> Publication {
    Publication {
        data: JsonText::null(),
        idempotency_key: IdempotencyKey::parse("é"),
    }
}

fn channel_call(asked: ChannelAsked) -> hub::Call {
    hub::Call::Channel {
        principal: Principal {
            tenant: tenant(),
            user: user(),
            scopes: SortedSet::new(),
            expires_at: LAST_MOMENT,
            credential: Default::default(),
            network: Default::default(),
        },
        channel: channel_name(),
        asked,
    }
}

fn keep(medium: Medium) -> Keep {
    Keep {
        messages: LARGEST,
        age_ms: 0,
        bytes: LARGEST,
        medium,
    }
}

pub fn channel_calls() -> Vec<channel::Call> {
    let calls = vec![
        channel::Call::Follow {
            hub: HubIndex(u16::MAX),
            after: Some(cursor()),
            keep: keep(Medium::Memory),
            presence: None,
        },
        channel::Call::Follow {
            hub: HubIndex(0),
            after: None,
            keep: keep(Medium::Rows),
            presence: Some(Attendance {
                member: Some(Presentation {
                    user: user(),
                    data: Some(JsonText::null()),
                }),
                grace_ms: LARGEST,
            }),
        },
        channel::Call::Leave {
            hub: HubIndex(u16::MAX),
            user: user(),
            departure: Departure::AfterGrace,
        },
        channel::Call::Roster,
        channel::Call::Publish {
            publication: publication(),
            publisher: Some(user()),
            keep: keep(Medium::Rows),
        },
        channel::Call::History {
            after: None,
            limit: LARGEST,
            keep: keep(Medium::Rows),
        },
    ];
    for call in &calls {
        match call {
            channel::Call::Follow { .. }
            | channel::Call::Publish { .. }
            | channel::Call::History { .. }
            | channel::Call::Leave { .. }
            | channel::Call::Roster => {}
        }
    }
    calls
}

pub fn channel_replies() -> Vec<channel::Reply> {
    let replies = vec![
        channel::Reply::Following {
            at: cursor(),
            recovered: true,
            messages: messages(),
            presence: Some(attended()),
        },
        channel::Reply::Roster(attended()),
        channel::Reply::Done,
        channel::Reply::Published(Published {
            epoch: cursor().epoch,
            offset: Offset(0),
            deduplicated: true,
        }),
        channel::Reply::Page(HistoryPage {
            epoch: cursor().epoch,
            offset: Offset(LARGEST),
            recovered: false,
            messages: messages(),
            next: Some(String::new()),
        }),
    ];
    for reply in &replies {
        match reply {
            channel::Reply::Following { .. }
            | channel::Reply::Published(_)
            | channel::Reply::Page(_)
            | channel::Reply::Roster(_)
            | channel::Reply::Done => {}
        }
    }
    replies
}

pub fn hub_replies() -> Vec<hub::Reply> {
    let answer = |result| hub::Reply::Answer {
        request_id: request_id(),
        result,
        job: Some(job()),
        deduplicated: true,
        result_url: Some(String::new()),
    };
    let replies = vec![
        answer(Ok(text_of(LARGE_BYTES))),
        answer(Err(error())),
        hub::Reply::Accepted(Accepted {
            request_id: request_id(),
            job_id: job(),
            status: JobState::Queued,
            deduplicated: false,
            seq: Seq(1),
            run_at: Some(LAST_MOMENT),
        }),
        hub::Reply::Delivered {
            not_followed: vec![job(), JobId::new(JobNumber(0), 0)],
        },
        hub::Reply::Batch {
            answers: vec![Answered::Reply(hub::Reply::Done), Answered::Refused(error())],
            batch: Some(batch()),
        },
        hub::Reply::Returned(returned()),
        hub::Reply::Places(None),
        hub::Reply::Places(Some(u32::MAX)),
        hub::Reply::Heard(None),
        hub::Reply::Heard(Some(cursor())),
        hub::Reply::HeardPresence(Heard {
            watched: Watched::No,
            own: None,
        }),
        hub::Reply::HeardPresence(Heard {
            watched: Watched::Yes(Some(mark())),
            own: Some(Own {
                here: vec![user()],
                coming: vec![],
            }),
        }),
        hub::Reply::Text(text_of(LARGE_BYTES)),
        hub::Reply::Done,
    ];
    for reply in &replies {
        match reply {
            hub::Reply::Answer { .. }
            | hub::Reply::Accepted(_)
            | hub::Reply::Batch { .. }
            | hub::Reply::Delivered { .. }
            | hub::Reply::Returned(_)
            | hub::Reply::Places(_)
            | hub::Reply::Heard(_)
            | hub::Reply::HeardPresence(_)
            | hub::Reply::Text(_)
            | hub::Reply::Done => {}
        }
    }
    replies
}

pub fn description() -> Description {
    Description {
        revision: Some(revision()),
        scale: Scale {
            hubs: u16::MAX,
            shards: 1,
        },
        version: LARGEST,
        spreads: Spreads(vec![Spread {
            shards: u16::MAX,
            from: JobNumber(LARGEST),
        }]),
        growing_to: Some(u16::MAX),
        webhook_generation: LARGEST,
        webhook_old_until: Some(UnixMs(LARGEST)),
        limits: JsonText::parse(r#"{"queue":{"waiting":1}}"#),
        access: access::Access {
            suspended_at: Some(UnixMs(LARGEST)),
            revocations: vec![
                access::Revocation {
                    of: access::Revoked::Token(TokenId::parse(&"t".repeat(64)).unwrap()),
                    at: UnixMs(LARGEST),
                    until: UnixMs(LARGEST),
                },
                access::Revocation {
                    of: access::Revoked::Key(api_key_id()),
                    at: UnixMs(0),
                    until: UnixMs(1),
                },
                access::Revocation {
                    of: access::Revoked::User(user()),
                    at: UnixMs(0),
                    until: UnixMs(1),
                },
            ],
            spent: Some(("b".repeat(48), UnixMs(LARGEST))),
        },
    }
}

fn act() -> Act {
    Act {
        request_id: request_id(),
        via: Via::Socket,
        traceparent: trace(),
    }
}

fn consult() -> Consult {
    Consult {
        upstream: "bank.main".into(),
        key: String::new(),
        rule: BreakerRule {
            consecutive: u32::MAX,
            failure_percent: 100,
            slow_percent: 0,
            window_calls: u32::MAX,
            window_ms: LARGEST,
            calls_min: u32::MAX,
            open_ms: LARGEST,
            probes: 1,
            successes: u32::MAX,
        },
        generation: LARGEST,
        outcomes: Outcomes {
            succeeded: u32::MAX,
            slow: 0,
            failed: 1,
            failed_slow: u32::MAX,
        },
        probe: Some(LARGEST),
        wants: true,
        probe_ms: LARGEST,
    }
}

pub fn directory_calls() -> Vec<directory::Call> {
    vec![
        directory::Call::Announce {
            tenant: tenant(),
            version: LARGEST,
            suspended_at: Some(LAST_MOMENT),
            resident: true,
        },
        directory::Call::Create {
            tenant: tenant(),
            template: Some("é".repeat(48)),
            resident: false,
            by: caller(),
        },
        directory::Call::Created { tenant: tenant() },
        directory::Call::Show { tenant: tenant() },
        directory::Call::List {
            state: None,
            after: Some(tenant()),
            limit: u32::MAX,
        },
        directory::Call::Erase {
            tenant: tenant(),
            by: caller(),
            keep_backups: true,
        },
        directory::Call::Backups {
            tenant: tenant(),
            backup: BackupId::parse("bak_1"),
            act: BackupAct::Restore,
            by: caller(),
        },
        directory::Call::Backups {
            tenant: tenant(),
            backup: None,
            act: BackupAct::Show,
            by: caller(),
        },
        directory::Call::Backups {
            tenant: tenant(),
            backup: None,
            act: BackupAct::Recover(UnixMs(LARGEST)),
            by: caller(),
        },
    ]
}

pub fn backup_calls() -> Vec<backup::Call> {
    vec![
        backup::Call::Hold { moment: LARGEST },
        backup::Call::Snapshot { moment: 1 },
        backup::Call::Upload {
            prefix: "é".repeat(300),
            after: LARGEST,
            number: LARGEST,
        },
        backup::Call::Release { by: None },
        backup::Call::Release { by: Some(caller()) },
        backup::Call::Restore {
            key: "k".into(),
            sha256: "0".repeat(64),
            schema: Some(LARGEST),
        },
        backup::Call::Finish {
            version: LARGEST,
            by: caller(),
        },
        backup::Call::Open,
        backup::Call::Bookmarks(UnixMs(LARGEST)),
        backup::Call::GoBack("00000000-00000000-00000000-é".into()),
    ]
}

pub fn backup_replies() -> Vec<backup::Reply> {
    vec![
        backup::Reply::default(),
        backup::Reply {
            parts: vec!["{}".into(), "é".repeat(300)],
            version: LARGEST,
        },
    ]
}

pub fn directory_replies() -> Vec<directory::Reply> {
    vec![
        directory::Reply::Standing {
            version: 0,
            erased_at: None,
        },
        directory::Reply::Standing {
            version: LARGEST,
            erased_at: Some(LAST_MOMENT),
        },
        directory::Reply::Shown(text_of(LARGE_BYTES)),
    ]
}

pub fn erased() -> Vec<Erased> {
    let most = Erased {
        rows: LARGEST,
        busy: true,
    };
    vec![Erased::default(), most]
}

pub fn tenant_calls() -> Vec<tenant::Call> {
    let calls = vec![
        tenant::Call::Describe,
        tenant::Call::Activate {
            document: "x".repeat(LARGE_BYTES),
            revision: revision(),
            scale: Scale::default(),
            schedules: schedules(),
            by: String::new(),
            act: Some(Box::new(act())),
            secrets: vec![("/é".repeat(64), secret_name())],
        },
        tenant::Call::Document { revision: revision() },
        tenant::Call::Record {
            shard: ShardIndex(u16::MAX),
            entries: vec![tenant::Recorded {
                number: LARGEST,
                entry: JsonText::null(),
            }],
        },
        tenant::Call::Audit(tenant::AuditQuery {
            what: Some("job.retried".into()),
            user: Some(user()),
            from: Some(LAST_MOMENT),
            to: Some(LAST_MOMENT),
            below: Some(LARGEST),
            after: Some(LARGEST),
            limit: u32::MAX,
        }),
        tenant::Call::Admit(Box::new(ask())),
        tenant::Call::GiveBack {
            hub: HubIndex(u16::MAX),
            returned: returned(),
        },
        tenant::Call::Connect {
            hub: HubIndex(u16::MAX),
            live: u32::MAX,
            most: NonZeroU32::MAX,
        },
        tenant::Call::Refused {
            refused: vec![AuditRefusal {
                code: ErrorCode::Forbidden,
                limit: Some("é".repeat(48)),
                webhook: Some("shop: too_old".into()),
                count: LARGEST,
            }],
        },
        tenant::Call::Limits {
            limit: String::new(),
            from: "é".repeat(128),
            count: u32::MAX,
        },
        tenant::Call::Consult(Box::new(consult())),
        tenant::Call::Upstreams,
        tenant::Call::SetBreaker(Box::new(upstreams::SetBreaker {
            upstream: "bank.main".into(),
            key: "é".repeat(128),
            change: BreakerChange::Disable,
            caller: caller(),
        })),
        tenant::Call::Since { version: LARGEST },
        tenant::Call::Identify { hash: "f".repeat(64) },
        tenant::Call::Keys,
        tenant::Call::Revocations,
        tenant::Call::Access {
            change: access::Change::CreateKey {
                id: api_key_id(),
                hash: "f".repeat(64),
                key: access::NewKey {
                    name: "é".repeat(64),
                    user: user(),
                    scopes: vec!["jobs:read".into()],
                    expires_at: Some(UnixMs(LARGEST)),
                },
            },
            caller: caller(),
        },
        tenant::Call::Access {
            change: access::Change::RotateKey {
                id: api_key_id(),
                hash: String::new(),
                overlap_ms: LARGEST,
            },
            caller: caller(),
        },
        tenant::Call::Access {
            change: access::Change::RevokeKey { id: api_key_id() },
            caller: caller(),
        },
        tenant::Call::Access {
            change: access::Change::Revoke {
                of: access::Revoked::Everyone,
                for_ms: LARGEST,
            },
            caller: caller(),
        },
        tenant::Call::Access {
            change: access::Change::Suspend,
            caller: caller(),
        },
        tenant::Call::Access {
            change: access::Change::Resume,
            caller: caller(),
        },
        tenant::Call::Begin {
            name: "k".repeat(25),
            fingerprint: "f".repeat(25),
            token: LARGEST,
        },
        tenant::Call::End {
            name: "k".repeat(25),
            token: LARGEST,
            answer: Some("x".repeat(LARGE_BYTES)),
        },
        tenant::Call::SetSecret {
            secret: sealed(),
            overlap_ms: LARGEST,
            caller: caller(),
        },
        tenant::Call::DeleteSecret {
            name: secret_name(),
            caller: caller(),
        },
        tenant::Call::Used(vec![LARGEST; 17]),
        tenant::Call::Usage {
            window: "month".into(),
            from: UnixMs(0),
            to: UnixMs(LARGEST),
            prices: vec![LARGEST; 14],
            currency: "USD".into(),
            form: tenant::UsageForm::Csv,
        },
        tenant::Call::SetBudgets {
            budgets: "{}".into(),
            caller: caller(),
        },
        tenant::Call::SetLimits {
            limits: "{}".into(),
            caller: caller(),
        },
        tenant::Call::ListSecrets { key: "f".repeat(9) },
        tenant::Call::Health {
            key: String::new(),
            queue: Box::default(),
            unreachable: vec![ShardIndex(u16::MAX)],
        },
        tenant::Call::Secrets {
            names: vec![secret_name()],
        },
        tenant::Call::ChangeEndpoints {
            change: tenant::EndpointChange::Rotate { overlap_ms: LARGEST },
            caller: caller(),
        },
        tenant::Call::ChangeEndpoints {
            change: tenant::EndpointChange::Create {
                id: endpoint_id(),
                body: "é".repeat(LARGE_BYTES),
            },
            caller: caller(),
        },
        tenant::Call::ChangeEndpoints {
            change: tenant::EndpointChange::Change {
                id: endpoint_id(),
                body: String::new(),
            },
            caller: caller(),
        },
        tenant::Call::ChangeEndpoints {
            change: tenant::EndpointChange::Delete { id: endpoint_id() },
            caller: caller(),
        },
        tenant::Call::Endpoints,
        tenant::Call::Channels(tenant::Channels::Note(channel_name())),
        tenant::Call::Channels(tenant::Channels::List(None)),
        tenant::Call::Channels(tenant::Channels::List(Some(channel_name()))),
        tenant::Call::Channels(tenant::Channels::Forget(vec![channel_name()])),
        tenant::Call::End {
            name: String::new(),
            token: 0,
            answer: None,
        },
    ];
    for call in &calls {
        match call {
            tenant::Call::Describe
            | tenant::Call::Activate { .. }
            | tenant::Call::Document { .. }
            | tenant::Call::Record { .. }
            | tenant::Call::Audit(_)
            | tenant::Call::Admit(_)
            | tenant::Call::GiveBack { .. }
            | tenant::Call::Limits { .. }
            | tenant::Call::Refused { .. }
            | tenant::Call::Connect { .. }
            | tenant::Call::Consult(_)
            | tenant::Call::Upstreams
            | tenant::Call::SetBreaker(_)
            | tenant::Call::Since { .. }
            | tenant::Call::Identify { .. }
            | tenant::Call::Access { .. }
            | tenant::Call::Keys
            | tenant::Call::Revocations
            | tenant::Call::Begin { .. }
            | tenant::Call::End { .. }
            | tenant::Call::SetSecret { .. }
            | tenant::Call::Used(_)
            | tenant::Call::Usage { .. }
            | tenant::Call::SetBudgets { .. }
            | tenant::Call::SetLimits { .. }
            | tenant::Call::DeleteSecret { .. }
            | tenant::Call::ListSecrets { .. }
            | tenant::Call::Health { .. }
            | tenant::Call::Secrets { .. }
            | tenant::Call::ChangeEndpoints { .. }
            | tenant::Call::Channels(_)
            | tenant::Call::Endpoints => {}
        }
    }
    calls
}

pub fn tenant_replies() -> Vec<tenant::Reply> {
    let replies = vec![
        tenant::Reply::Description(description()),
        tenant::Reply::Description(Description {
            revision: None,
            spreads: Spreads::default(),
            growing_to: None,
            ..description()
        }),
        tenant::Reply::Document(String::new()),
        tenant::Reply::Recorded,
        tenant::Reply::Decided(Box::new(decided())),
        tenant::Reply::TakenBack,
        tenant::Reply::Places(u32::MAX),
        tenant::Reply::Limits(JsonText::null()),
        tenant::Reply::Audit(JsonText::null()),
        tenant::Reply::Upstreams(JsonText::null()),
        tenant::Reply::Standing(upstreams::Standing {
            state: BreakerState::HalfOpen,
            generation: LARGEST,
            wait_ms: LARGEST,
            probe: Some(LARGEST),
        }),
        tenant::Reply::Same,
        tenant::Reply::Principal(None),
        tenant::Reply::Principal(Some(Box::new(Principal {
            tenant: tenant(),
            user: user(),
            scopes: Default::default(),
            expires_at: Principal::NEVER,
            credential: access::Credential::Key {
                id: api_key_id(),
                created_at: UnixMs(LARGEST),
            },
            network: Network::of("2001:db8:1:2::"),
        }))),
        tenant::Reply::Shown(JsonText::null()),
        tenant::Reply::Begun(None),
        tenant::Reply::Begun(Some("x".repeat(LARGE_BYTES))),
        tenant::Reply::Ended,
        tenant::Reply::Secrets(vec![sealed()]),
        tenant::Reply::Channels(vec![channel_name()]),
    ];
    for reply in &replies {
        match reply {
            tenant::Reply::Description(_)
            | tenant::Reply::Document(_)
            | tenant::Reply::Recorded
            | tenant::Reply::Decided(_)
            | tenant::Reply::TakenBack
            | tenant::Reply::Places(_)
            | tenant::Reply::Limits(_)
            | tenant::Reply::Audit(_)
            | tenant::Reply::Upstreams(_)
            | tenant::Reply::Standing(_)
            | tenant::Reply::Same
            | tenant::Reply::Principal(_)
            | tenant::Reply::Shown(_)
            | tenant::Reply::Begun(_)
            | tenant::Reply::Ended
            | tenant::Reply::Channels(_)
            | tenant::Reply::Secrets(_) => {}
        }
    }
    replies
}

fn execute(payload: Payload) -> Execute {
    Execute {
        job: job(),
        token: FencingToken(LARGEST),
        attempt: 1,
        user: user(),
        action: action(),
        revision: revision(),
        payload,
        metadata: SortedMap::new(),
        checkpoint: Some("c".into()),
        deadline: LAST_MOMENT,
        lease_ms: LARGEST,
        cancel_grace_ms: LARGEST,
        sharing: Sharing::Alone,
        reporting: Reporting::default(),
        traceparent: trace(),
        message: Some(message()),
        runs: RevisionRule::Latest,
    }
}

pub fn assignments() -> Vec<Assignment> {
    let assignment = |attempts| Assignment {
        tenant: tenant(),
        shard: ShardIndex(u16::MAX),
        attempts,
    };
    let all: Vec<Execute> = payloads().into_iter().map(execute).collect();
    let mut assignments: Vec<Assignment> = all.iter().map(|one| assignment(vec![one.clone()])).collect();
    assignments.extend([assignment(all), assignment(Vec::new())]);
    assignments
}
