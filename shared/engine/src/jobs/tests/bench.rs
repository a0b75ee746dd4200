//! One `Jobs` object without a shell: a database, the state, a clock, and what the last turn wanted done.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::executor::{Backoff, Dispatch, Execute, Outcome, Policy, Sharing};
use tidegate_protocol::calls::hub::Delivery;
use tidegate_protocol::calls::jobs::{Call, Enqueue, Filter, Keyed, NewJob, Reply};
use tidegate_protocol::event::{Event, Happening, JobState, JsonText, Payload, Progress};
use tidegate_protocol::http;
use tidegate_protocol::ids::{
    ActionName, FencingToken, HubIndex, IdempotencyKey, JobId, Partition, RequestId, Revision, UserId,
};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::super::backlog::Count;
use super::super::lanes::Shape;
use super::super::{CallId, Effect, STEPS, State, delivered, delivered_without_rows, handle, tick, undelivered, wake};
use crate::database::migrate;
use crate::database::native::Native;
use tidegate_protocol::SortedMap;

/// A lease of the jobs of these tests. Milliseconds.
pub const LEASE_MS: u64 = 10_000;
/// How long an attempt may take here. Milliseconds.
pub const TIMEOUT_MS: u64 = 60_000;
/// How long an ended job is kept here. Milliseconds.
pub const RETENTION_MS: u64 = 7_200_000;
/// The wait after a failed attempt. Milliseconds.
pub const BACKOFF_MS: u64 = 1000;
/// The hub that follows.
pub const HUB: HubIndex = HubIndex(3);

pub struct Bench {
    pub db: Native,
    pub state: State,
    pub now: UnixMs,
    /// Whether memory and rows are compared after each turn, which takes a time that grows with them.
    pub compares: bool,
    calls: u64,
    delivered: u64,
    /// How many statements were compiled again by the changes of the schema.
    compiled_again: u64,
    random: u64,
}

/// A plain job: direct, no key, nobody follows, nobody waits.
pub fn plain() -> Enqueue {
    Enqueue {
        job: NewJob {
            request_id: RequestId::parse("r").unwrap(),
            user: UserId::parse("ann").unwrap(),
            action: ActionName::parse("a").unwrap(),
            revision: Revision::parse("rev").unwrap(),
            policy: Policy {
                attempts_max: 3,
                backoff: Backoff::Constant { ms: BACKOFF_MS },
                jitter: None,
                timeout_ms: TIMEOUT_MS,
                queue_timeout_ms: None,
                total_timeout_ms: None,
                heartbeat_timeout_ms: None,
                lease_ms: LEASE_MS,
                cancel_grace_ms: 0,
                retention_ms: RETENTION_MS,
                result_retention_ms: None,
                dispatch: Dispatch::Direct,
                sharing: Sharing::Alone,
                reporting: Default::default(),
                pool: None,
                revision: Default::default(),
                feeds: Default::default(),
            },
            queueing: Default::default(),
            payload: Payload::Inline(JsonText::parse("{\"n\":1}").unwrap()),
            metadata: SortedMap::new(),
            run_at: None,
            traceparent: None,
            redriven_from: None,
            once: None,
            hook: None,
            batch: None,
        },
        partition: Partition::of_hash(7),
        keyed: None,
        answer_within_ms: None,
        follower: None,
        away_max_ms: None,
    }
}

pub fn followed() -> Enqueue {
    Enqueue {
        follower: Some(HUB),
        ..plain()
    }
}

pub fn keyed(key: &str) -> Enqueue {
    let key = IdempotencyKey::parse(key).unwrap();
    Enqueue {
        keyed: Some(Keyed {
            key,
            fingerprint: "f".into(),
        }),
        ..plain()
    }
}

pub fn waiting(ms: u64) -> Enqueue {
    Enqueue {
        answer_within_ms: Some(ms),
        ..plain()
    }
}

pub fn delayed(at: UnixMs) -> Enqueue {
    let mut enqueue = plain();
    enqueue.job.run_at = Some(at);
    enqueue
}

pub fn rung() -> Enqueue {
    let mut enqueue = plain();
    enqueue.job.policy.dispatch = Dispatch::Queue;
    enqueue
}

pub fn caller(user: &str) -> Caller {
    Caller {
        user: UserId::parse(user).unwrap(),
        reads_all: false,
        writes_all: false,
        act: None,
    }
}

/// A filter that takes everything, a page of 100.
pub fn everything() -> Filter {
    Filter {
        limit: 100,
        ..Filter::default()
    }
}

/// A job with one note.
pub fn noted(name: &str, value: &str) -> Enqueue {
    let mut enqueue = plain();
    enqueue.job.metadata.insert(name.into(), value.into());
    enqueue
}

/// A job whose payload lies in object storage.
pub fn large(key: &str) -> Enqueue {
    let mut enqueue = plain();
    enqueue.job.payload = stored(key);
    enqueue
}

pub fn stored(key: &str) -> Payload {
    Payload::Stored {
        key: key.into(),
        bytes: 1,
    }
}

pub fn value(text: &str) -> Payload {
    Payload::Inline(JsonText::parse(text).unwrap())
}

pub fn success() -> Outcome {
    Outcome::Succeeded { result: value("42") }
}

pub fn failure(retryable: bool) -> Outcome {
    Outcome::Failed {
        error: Error {
            retryable,
            ..Error::new(ErrorCode::UpstreamError, "no")
        },
    }
}

pub fn percent(percentage: f64) -> Progress {
    Progress {
        percentage,
        message: None,
        metadata: None,
    }
}

impl Bench {
    pub fn new() -> Self {
        let db = Native::in_memory().unwrap();
        migrate(&db, STEPS).unwrap();
        let now = UnixMs(1_800_000_000_000);
        let state = State::recover(&db, now).unwrap();
        Self::of(db, state, now)
    }

    /// An object with this database.
    pub fn of(db: Native, state: State, now: UnixMs) -> Self {
        Self {
            compiled_again: db.compiled_again(),
            db,
            state,
            now,
            compares: true,
            calls: 0,
            delivered: 0,
            random: 0,
        }
    }

    /// Lets the object believe that so many more jobs wait, until it loses its memory.
    pub fn crowd(&mut self, jobs: u64) {
        self.compares = false;
        let elsewhere = Shape::of(&plain().job);
        let never = UnixMs(u64::MAX >> 12);
        self.state.lanes.add_many("crowd", &elsewhere, never, jobs);
        let more = Count { jobs, bytes: 0 };
        self.state.backlog.add(elsewhere.action(), more);
    }

    /// The schema is changed by hand: what is compiled again from now on is not looked at.
    pub fn alter(&mut self, statements: &[&'static str]) {
        use crate::database::Database;
        for statement in statements {
            self.db.run(statement, &[]).unwrap();
        }
        self.compiled_again = u64::MAX;
    }

    /// The object loses its memory, and starts again.
    pub fn crash(&mut self) {
        self.compares = true;
        self.state = State::recover(&self.db, self.now).unwrap();
    }

    pub fn later(&mut self, ms: u64) {
        self.now = self.now.plus(ms);
    }

    /// Makes a call: its id, and everything the turn wants done.
    pub fn send(&mut self, call: Call) -> (CallId, Vec<Effect>) {
        let (ids, effects) = self.send_all([call]);
        (ids[0], effects)
    }

    fn compare(&self) {
        let alike = !self.compares || self.state.mirrors(&self.db).unwrap();
        assert!(alike, "rows are remembered as they are");
        // Each run of such a statement would cost an object a compilation.
        let again = self.db.compiled_again();
        assert!(again <= self.compiled_again, "a bare `?` may decide on a partial index");
    }

    /// Makes several calls in one turn.
    pub fn send_all(&mut self, calls: impl IntoIterator<Item = Call>) -> (Vec<CallId>, Vec<Effect>) {
        let number = |call| {
            self.calls += 1;
            (CallId(self.calls), call)
        };
        let calls: Vec<_> = calls.into_iter().map(number).collect();
        let ids = calls.iter().map(|(id, _)| *id).collect();
        let (now, random, state) = (self.now, &mut self.random, &mut self.state);
        let mut random = || {
            *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *random >> 8
        };
        let effects = self
            .db
            .transaction(|db| handle(db, state, now, &mut random, calls))
            .unwrap();
        self.compare();
        (ids, effects)
    }

    /// Makes a call that is answered at once.
    pub fn call(&mut self, call: Call) -> (Result<Reply, Error>, Vec<Effect>) {
        let (id, effects) = self.send(call);
        let mut replies = replies(&effects);
        (replies.remove(&id).expect("the call is answered at once"), effects)
    }

    pub fn wake(&mut self) -> Vec<Effect> {
        let (now, state) = (self.now, &mut self.state);
        let effects = self.db.transaction(|db| wake(db, state, now, &mut || 0)).unwrap();
        self.compare();
        effects
    }

    pub fn tick(&mut self) -> Vec<Effect> {
        let (now, state) = (self.now, &mut self.state);
        self.db.transaction(|db| tick(db, state, now, &mut || 0)).unwrap()
    }

    /// Lets the clock go on to the time that the alarm is due, and wakes.
    pub fn alarm(&mut self) -> Vec<Effect> {
        self.now = self.now.max(self.next_wake().expect("an alarm is set"));
        self.wake()
    }

    pub fn next_wake(&self) -> Option<UnixMs> {
        self.state.next_wake()
    }

    pub fn delivered(&mut self, hub: HubIndex, deliveries: &[Delivery], not_followed: &[JobId]) {
        // As the object does it, and every other time by the whole turn, which then has to find no row to change.
        let needs_rows = self.state.needs_rows(hub, deliveries, not_followed);
        self.delivered += 1;
        if self.delivered.is_multiple_of(2) && delivered_without_rows(&mut self.state, hub, deliveries, not_followed) {
            assert!(!needs_rows);
            return;
        }
        let before = self.count("SELECT total_changes()");
        delivered(&self.db, &mut self.state, self.now, hub, deliveries, not_followed).unwrap();
        assert!(needs_rows || self.count("SELECT total_changes()") == before);
    }

    pub fn undelivered(&mut self, deliveries: &[Delivery]) {
        undelivered(&mut self.state, self.now, deliveries);
    }

    /// Enqueues a job that is acknowledged at once.
    pub fn enqueue(&mut self, enqueue: Enqueue) -> (JobId, Vec<Effect>) {
        let (reply, effects) = self.call(Call::Enqueue(Box::new(enqueue)));
        let Ok(Reply::Acknowledged { job, .. }) = reply else {
            panic!("{reply:?}")
        };
        (job, effects)
    }

    /// Enqueues a job that starts at once.
    pub fn start(&mut self, enqueue: Enqueue) -> Execute {
        let (_, effects) = self.enqueue(enqueue);
        execution(&effects)
    }

    pub fn finish(&mut self, execute: &Execute, outcome: Outcome) -> (Result<Reply, Error>, Vec<Effect>) {
        self.finish_as(execute.job, execute.token, outcome)
    }

    pub fn finish_as(
        &mut self,
        job: JobId,
        token: FencingToken,
        outcome: Outcome,
    ) -> (Result<Reply, Error>, Vec<Effect>) {
        self.call(Call::Finish { job, token, outcome })
    }

    pub fn report(
        &mut self,
        execute: &Execute,
        progress: Option<Progress>,
        checkpoint: Option<&str>,
    ) -> (Result<Reply, Error>, Vec<Effect>) {
        let checkpoint = checkpoint.map(ToOwned::to_owned);
        self.call(Call::Report {
            job: execute.job,
            token: execute.token,
            progress,
            checkpoint,
            notes: None,
        })
    }

    pub fn get(&mut self, job: JobId) -> http::Job {
        match self
            .call(Call::Get {
                job,
                caller: caller("ann"),
            })
            .0
        {
            Ok(Reply::Job(job)) => *job,
            other => panic!("{other:?}"),
        }
    }

    /// Runs a job that fails at once, for good.
    pub fn fail(&mut self, enqueue: Enqueue) -> JobId {
        let execute = self.start(enqueue);
        self.finish(&execute, failure(false)).0.unwrap();
        execute.job
    }

    /// Retries a job: the job that is tried now, and everything the turn wants done.
    pub fn retry(&mut self, job: JobId, payload: Option<Payload>) -> (http::Job, Vec<Effect>) {
        let caller = caller("ann");
        match self.call(Call::Retry { job, caller, payload }) {
            (Ok(Reply::Job(job)), effects) => (*job, effects),
            other => panic!("{other:?}"),
        }
    }

    pub fn dead_letters(&mut self, filter: Filter) -> http::DeadLetterPage {
        let caller = caller("ann");
        match self.call(Call::DeadLetters { caller, filter }).0 {
            Ok(Reply::DeadLetters(page)) => page,
            other => panic!("{other:?}"),
        }
    }

    pub fn status(&mut self, job: JobId) -> JobState {
        self.get(job).status
    }

    /// The first column of every row.
    pub fn numbers(&self, sql: &'static str) -> Vec<u64> {
        use crate::database::Database;
        let rows = self.db.run(sql, &[]).unwrap();
        rows.into_iter().map(|mut row| row.number().unwrap()).collect()
    }

    pub fn count(&self, sql: &'static str) -> u64 {
        use crate::database::Database;
        self.db.run(sql, &[]).unwrap().remove(0).number().unwrap()
    }
}

pub fn replies(effects: &[Effect]) -> SortedMap<CallId, Result<Reply, Error>> {
    let replies = effects.iter().filter_map(|effect| match effect {
        Effect::Reply { call, reply } => Some((*call, reply.clone())),
        _ => None,
    });
    replies.collect()
}

pub fn executions(effects: &[Effect]) -> Vec<Execute> {
    let executions = effects.iter().filter_map(|effect| match effect {
        Effect::Execute(execute) => Some((**execute).clone()),
        _ => None,
    });
    executions.collect()
}

/// The one execution among the effects.
pub fn execution(effects: &[Effect]) -> Execute {
    let mut executions = executions(effects);
    assert_eq!(executions.len(), 1, "{effects:?}");
    executions.remove(0)
}

pub fn deliveries(effects: &[Effect]) -> Vec<Delivery> {
    let deliveries = effects.iter().filter_map(|effect| match effect {
        Effect::Deliver { delivery, .. } => Some(delivery.clone()),
        _ => None,
    });
    deliveries.collect()
}

pub fn deleted(effects: &[Effect]) -> Vec<String> {
    let keys = effects.iter().filter_map(|effect| match effect {
        Effect::DeleteBlobs { keys } => Some(keys.clone()),
        _ => None,
    });
    keys.flatten().collect()
}

/// The terminal event of an `Ended` reply.
pub fn ended(reply: &Result<Reply, Error>) -> &Event {
    match reply {
        Ok(Reply::Ended { event, .. }) => event,
        other => panic!("{other:?}"),
    }
}

pub fn code<T: core::fmt::Debug>(reply: &Result<T, Error>) -> ErrorCode {
    reply.as_ref().expect_err("a refusal").code
}

/// The error code of a job's terminal event.
pub fn failure_code(event: &Event) -> Option<ErrorCode> {
    match &event.what {
        Happening::Failed { error } => Some(error.code),
        _ => None,
    }
}
