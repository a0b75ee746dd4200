//! The job queue's decisions without a platform: what one shard decides in a second, on SQLite in memory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tidegate_engine::database::migrate;
use tidegate_engine::database::native::Native;
use tidegate_engine::jobs::{CallId, Effect, STEPS, State, handle, wake};
use tidegate_protocol::calls::executor::{Backoff, Dispatch, Outcome, Policy, Sharing};
use tidegate_protocol::calls::jobs::{Call, Enqueue, NewJob};
use tidegate_protocol::event::{JsonText, Payload};
use tidegate_protocol::ids::{ActionName, Partition, RequestId, Revision, UserId};
use tidegate_protocol::time::UnixMs;

use crate::Plan;
use crate::report::{Report, Target};

/// Jobs that share a turn: as many as an object has decided together where nobody else is in its process.
const TURN_JOBS: u64 = 64;
const JOBS_MIN: Target = Target::AtLeast(50_000.0);

/// Measures whole jobs: accepted, started, ended.
pub fn measure(plan: Plan, report: &mut Report) -> Result<()> {
    let mut runs = Vec::with_capacity(plan.runs);
    for run in 0..plan.runs {
        eprintln!("jobs natively, run {} of {}", run + 1, plan.runs);
        runs.push(Shard::new()?.run(plan.measured)?);
    }
    report.absolute("jobs through one shard, natively", "jobs/s", &runs, JOBS_MIN);
    Ok(())
}

/// One object of the job queue, without a shell.
struct Shard {
    db: Native,
    state: State,
    now: UnixMs,
    calls: u64,
}

impl Shard {
    fn new() -> Result<Self> {
        let db = Native::in_memory()?;
        migrate(&db, STEPS)?;
        let now = UnixMs(1_800_000_000_000);
        let state = State::recover(&db, now)?;
        Ok(Self {
            db,
            state,
            now,
            calls: 0,
        })
    }

    /// Jobs a second over a time that a real clock tells.
    fn run(mut self, measured: Duration) -> Result<f64> {
        let job = plain().context("a name of the measured job is none")?;
        let begun = Instant::now();
        let mut jobs = 0_u32;
        while begun.elapsed() < measured {
            let accepted = self.turn((0..TURN_JOBS).map(|_| Call::Enqueue(Box::new(job.clone()))))?;
            let ends: Vec<Call> = accepted
                .into_iter()
                .filter_map(|effect| match effect {
                    Effect::Execute(execute) => Some(Call::Finish {
                        job: execute.job,
                        token: execute.token,
                        outcome: Outcome::Succeeded {
                            result: Payload::Inline(JsonText::null()),
                        },
                    }),
                    _ => None,
                })
                .collect();
            let started = ends.len();
            let ended = self.turn(ends)?;
            let confirmed = ended
                .iter()
                .filter(|effect| matches!(effect, Effect::Reply { reply: Ok(_), .. }));
            ensure!(started == confirmed.count(), "an end was refused");
            jobs += u32::try_from(started)?;
        }
        ensure!(u64::from(jobs) >= TURN_JOBS, "no job was started");
        Ok(f64::from(jobs) / begun.elapsed().as_secs_f64())
    }

    /// One turn, and the alarm's where it is due.
    fn turn(&mut self, calls: impl IntoIterator<Item = Call>) -> Result<Vec<Effect>> {
        self.now = self.now.plus(1);
        let mut random = self.calls;
        let mut random = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            random >> 8
        };
        let calls: Vec<_> = calls
            .into_iter()
            .map(|call| {
                self.calls += 1;
                (CallId(self.calls), call)
            })
            .collect();
        let (state, now) = (&mut self.state, self.now);
        if state.next_wake().is_some_and(|at| at <= now) {
            self.db.transaction(|db| wake(db, state, now, &mut random))?;
        }
        Ok(self.db.transaction(|db| handle(db, state, now, &mut random, calls))?)
    }
}

/// A job without a key that nobody follows, as `core.echo` in mode `async` makes one.
fn plain() -> Option<Enqueue> {
    Some(Enqueue {
        job: NewJob {
            request_id: RequestId::parse("req_measured")?,
            user: UserId::parse("ann")?,
            action: ActionName::parse("core.echo")?,
            revision: Revision::parse("rev")?,
            policy: Policy {
                attempts_max: 3,
                backoff: Backoff::Constant { ms: 1000 },
                jitter: None,
                timeout_ms: 60_000,
                queue_timeout_ms: None,
                total_timeout_ms: None,
                heartbeat_timeout_ms: None,
                lease_ms: 10_000,
                cancel_grace_ms: 0,
                retention_ms: 86_400_000,
                result_retention_ms: None,
                dispatch: Dispatch::Direct,
                sharing: Sharing::Shared,
                reporting: Default::default(),
                pool: None,
                revision: Default::default(),
            },
            queueing: Default::default(),
            payload: Payload::Inline(JsonText::null()),
            metadata: BTreeMap::new(),
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
    })
}
