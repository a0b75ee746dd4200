//! The job queue's decisions without a platform: what one shard decides in a second, on SQLite in memory.

use std::time::{Duration, Instant};
use tidegate_protocol::SortedSet;

use anyhow::{Context as _, Result, bail, ensure};
use tidegate_engine::composition::{DEFAULT, DeploymentLimits, compile};
use tidegate_engine::database::migrate;
use tidegate_engine::database::native::Native;
use tidegate_engine::hub::{Admitted, Context, admit};
use tidegate_engine::jobs::{CallId, Effect, RUNNING_MAX, STEPS, State, handle, wake};
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::executor::Outcome;
use tidegate_protocol::calls::hub::Prefer;
use tidegate_protocol::calls::jobs::{Call, Enqueue};
use tidegate_protocol::calls::spread::Spreads;
use tidegate_protocol::event::{JsonText, Payload};
use tidegate_protocol::frames::Request;
use tidegate_protocol::ids::{RequestId, TenantId, UserId};
use tidegate_protocol::time::UnixMs;

use crate::Plan;
use crate::report::{Report, Target};

/// When the clock of the measured object begins.
const BEGIN: UnixMs = UnixMs(1_800_000_000_000);
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
        let state = State::recover(&db, BEGIN)?;
        Ok(Self {
            db,
            state,
            now: BEGIN,
            calls: 0,
        })
    }

    /// Jobs a second over a time that a real clock tells.
    fn run(mut self, measured: Duration) -> Result<f64> {
        let job = plain()?;
        let begun = Instant::now();
        let mut jobs = 0_u32;
        while begun.elapsed() < measured {
            // As many as run at once share a turn, as with an object whose tenant is alone in its process.
            let accepted = self.turn((0..RUNNING_MAX).map(|_| Call::Enqueue(Box::new(job.clone()))))?;
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
        ensure!(jobs > 0, "no job was started");
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

/// A job without a key that nobody follows, as a hub makes it of a request.
fn plain() -> Result<Enqueue> {
    let plan = compile(DEFAULT, tidegate_patterns::MANIFESTS)?;
    let principal = Principal {
        tenant: TenantId::parse("bench").context("a tenant")?,
        user: UserId::parse("ann").context("a user")?,
        scopes: SortedSet::new(),
        expires_at: BEGIN.plus(3_600_000),
        credential: Default::default(),
        network: Default::default(),
    };
    let context = Context {
        plan: &plan,
        spreads: &Spreads::only(1),
        deployment: &DeploymentLimits::default(),
        principal: &principal,
        now: BEGIN,
        follower: None,
    };
    let request = Request::parse(r#"{"action":"core.echo","mode":"async","payload":{"order":1}}"#)?;
    let id = RequestId::parse("req_measured").context("a request's id")?;
    match admit(context, &request, &id, Prefer::default(), 7)?.0 {
        Admitted::Job { enqueue, .. } => Ok(*enqueue),
        Admitted::Here(_) | Admitted::Message { .. } => bail!("the request became no job"),
    }
}
