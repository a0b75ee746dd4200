//! Jobs from end to end, beside the same work on `BullMQ` in the same run: how many are done in a second, and how soon one
//! begins and ends at a modest pace.
//!
//! Both sides have one client, which speaks the system's own protocol; the handler does nothing; 128 jobs may run at once;
//! and what is stored lies on the same file system.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::Plan;
use crate::bullmq::{self, BullMq, Paced};
use crate::cost::cpu_time;
use crate::load::{Measured, Shape, WARM_UP, closed_loop, count, paced, quantile_ms};
use crate::redis::{self, Sync};
use crate::report::{Report, Target};
use crate::rows::settled;
use crate::server::System;

const TENANT: &str = "bench-jobs";
/// Its rows are counted: nothing else may write to its objects meanwhile.
const BULK_TENANT: &str = "bench-bulk";
/// Jobs a second at which latency is measured.
const PACE: f64 = 100.0;
/// Requests of one call, on both sides.
const BATCH: usize = 1000;
/// Batches for each second that a run may take: about as many as are done in one.
const BATCHES_A_SECOND: f64 = 2.0;
/// How often it is asked whether jobs are left; as `bench/baseline/bullmq/client.mjs` asks `BullMQ`.
const POLL: Duration = Duration::from_millis(20);
const BULK_MAX: Duration = Duration::from_secs(60);
const PACED: Shape = Shape {
    sockets: 10,
    in_flight: usize::MAX,
    until: "acknowledgment",
    completes: true,
    requests_max: usize::MAX,
    frame: echo,
};
/// Its first progress is the handler's first word.
const STARTED: Shape = Shape {
    until: "progress",
    frame: delay,
    ..PACED
};
const SATURATING: Shape = Shape {
    sockets: 20,
    in_flight: 16,
    until: "complete",
    ..PACED
};

fn echo(id: usize) -> String {
    format!(
        r#"{{"type":"request","id":"{id}","action":"core.echo","mode":"async","payload":{{"order":{id},"customer":"Example Trading Company","note":"by noon"}}}}"#
    )
}

/// Reports 0 % as it starts, and 100 % at once.
fn delay(id: usize) -> String {
    format!(r#"{{"type":"request","id":"{id}","action":"core.delay","mode":"async","payload":{{"ms":0,"steps":1}}}}"#)
}

/// A bulk of jobs.
struct Bulk {
    jobs: usize,
    took: Duration,
    cpu: Option<Duration>,
}

impl Bulk {
    fn rate(&self) -> f64 {
        count(self.jobs) / self.took.as_secs_f64()
    }

    /// CPU time of the servers and of what runs the handlers, for each job. Microseconds.
    fn cpu_us(&self) -> f64 {
        self.cpu
            .map_or(f64::NAN, |cpu| cpu.as_secs_f64() * 1e6 / count(self.jobs))
    }
}

/// A closed loop on `BullMQ`.
struct Closed {
    took: Duration,
    completion: Vec<u64>,
}

/// All runs of Tidegate.
#[derive(Default)]
struct Ours {
    bulk: Vec<Bulk>,
    full: Vec<Measured>,
    calm: Vec<Measured>,
    started: Vec<Measured>,
}

/// All runs of one `BullMQ`.
#[derive(Default)]
struct Theirs {
    bulk: Vec<Bulk>,
    full: Vec<Closed>,
    calm: Vec<Paced>,
    started: Vec<Paced>,
}

/// Measures bulks, the rate when saturated, and the times at a pace.
pub async fn measure(system: &System, plan: Plan, report: &mut Report) -> Result<()> {
    let mut peers = [BullMq::start(Sync::EverySecond)?, BullMq::start(Sync::Always)?];
    let mut ours = Ours::default();
    let mut theirs = [Theirs::default(), Theirs::default()];
    let jobs = bulk_of(plan.measured);
    warm_up(system, &mut peers).await?;
    let rows = rows_of_a_bulk(system, jobs).await?;
    for run in 0..plan.runs {
        eprintln!("jobs, run {} of {}", run + 1, plan.runs);
        ours.bulk.push(bulk(system, jobs).await?);
        for (peer, runs) in peers.iter_mut().zip(&mut theirs) {
            let (took, cpu) = peer.bulk(jobs, BATCH)?;
            runs.bulk.push(Bulk { jobs, took, cpu });
        }
        let target = system.target(TENANT)?;
        ours.full.push(closed_loop(&target, SATURATING, plan.measured).await?);
        for (peer, runs) in peers.iter_mut().zip(&mut theirs) {
            let in_flight = SATURATING.sockets * SATURATING.in_flight;
            let (took, completion) = peer.closed(in_flight, WARM_UP, plan.measured)?;
            runs.full.push(Closed { took, completion });
        }
        ours.calm.push(paced(&target, PACED, PACE, plan.measured).await?);
        for (peer, runs) in peers.iter_mut().zip(&mut theirs) {
            runs.calm.push(peer.paced(PACE, false, WARM_UP, plan.measured)?);
        }
        ours.started.push(paced(&target, STARTED, PACE, plan.measured).await?);
        for (peer, runs) in peers.iter_mut().zip(&mut theirs) {
            runs.started.push(peer.paced(PACE, true, WARM_UP, plan.measured)?);
        }
    }
    drop(peers);
    tell_rates(report, &ours, &theirs);
    tell_times(report, &ours, &theirs);
    report.beside(
        "rows written per job of a bulk",
        "rows",
        &[rows],
        [&[], &[]],
        Target::AtMost(5.0),
    );
    report.note(format!(
        "BullMQ {}, Redis {}; `everysec` and `always` are its `appendfsync`. Tidegate commits before it acknowledges, as `always` \
         does; on tmpfs a sync costs the call alone. Redis and its append-only file, and the state of Tidegate, lie in the same \
         place; each side has one client, a handler that does nothing, and 128 jobs at once. Bulks are {jobs} jobs in calls of \
         {BATCH}.",
        bullmq::version(),
        redis::version()
    ));
    Ok(())
}

/// A whole number of batches, at least one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "some batches for seconds from the command line; `as` saturates"
)]
fn bulk_of(measured: Duration) -> usize {
    BATCH.saturating_mul(((measured.as_secs_f64() * BATCHES_A_SECOND) as usize).max(1))
}

/// Objects wake up and code gets compiled, on both sides.
async fn warm_up(system: &System, peers: &mut [BullMq]) -> Result<()> {
    bulk(system, BATCH).await?;
    for peer in peers {
        peer.bulk(BATCH, BATCH)?;
    }
    Ok(())
}

/// Rows written per job. Objects count from when they woke up: nothing may come between, or they fall asleep.
async fn rows_of_a_bulk(system: &System, jobs: usize) -> Result<f64> {
    let before = written(system).await?;
    bulk(system, jobs).await?;
    Ok((written(system).await? - before) / count(jobs))
}

async fn written(system: &System) -> Result<f64> {
    let rows = settled(system, BULK_TENANT).await?;
    Ok(rows.iter().map(|(_, rows)| rows).sum())
}

/// Enqueues `jobs` jobs in batches, one after another, and waits until none is left.
async fn bulk(system: &System, jobs: usize) -> Result<Bulk> {
    let pid = system.target(BULK_TENANT)?.workerd_pid;
    let mut http = system.http(BULK_TENANT).await?;
    let cpu = cpu_time(pid);
    let started = Instant::now();
    for first in (0..jobs).step_by(BATCH) {
        let requests: Vec<String> = (first..jobs.min(first + BATCH)).map(echo).collect();
        let body = format!("[{}]", requests.join(","));
        let answer = http.json("POST", "/v1/requests:batch", &body).await?;
        let results = answer.get("results").and_then(Value::as_array).context("no results")?;
        let refused = results.iter().find(|result| result.get("accepted").is_none());
        if let Some(refused) = refused {
            bail!("a request of a batch was answered {refused}");
        }
    }
    loop {
        let queue = http.json("GET", "/v1/queue", "").await?;
        let left = |name: &str| queue.get(name).and_then(Value::as_u64).unwrap_or(u64::MAX);
        if (left("running"), left("waiting")) == (0, 0) {
            break;
        }
        if started.elapsed() > BULK_MAX {
            bail!("jobs are left: {queue}");
        }
        tokio::time::sleep(POLL).await;
    }
    let took = started.elapsed();
    let cpu = cpu_time(pid)
        .zip(cpu)
        .map(|(after, before)| after.saturating_sub(before));
    Ok(Bulk { jobs, took, cpu })
}

fn of<T>(runs: &[T], figure: impl Fn(&T) -> f64) -> Vec<f64> {
    runs.iter().map(figure).collect()
}

/// Adds a row: a figure of Tidegate's runs, and one of the runs of each `BullMQ`.
fn row(report: &mut Report, what: &str, unit: &str, ours: &[f64], theirs: [Vec<f64>; 2], target: Target) {
    report.beside(what, unit, ours, theirs.each_ref().map(Vec::as_slice), target);
}

fn tell_rates(report: &mut Report, ours: &Ours, theirs: &[Theirs; 2]) {
    let bulks = |figure: fn(&Bulk) -> f64| {
        (
            of(&ours.bulk, figure),
            theirs.each_ref().map(|runs| of(&runs.bulk, figure)),
        )
    };
    let (system, others) = bulks(Bulk::rate);
    let what = "in batches, from the first request to the last end";
    row(report, what, "jobs/s", &system, others, Target::None);
    let (system, others) = bulks(Bulk::cpu_us);
    let what = "– CPU time of servers and handlers";
    row(report, what, "µs a job", &system, others, Target::None);
    let rate = |run: &Closed| count(run.completion.len()) / run.took.as_secs_f64();
    row(
        report,
        "one by one, 320 under way: through one shard",
        "jobs/s",
        &of(&ours.full, Measured::completion_rate),
        theirs.each_ref().map(|runs| of(&runs.full, rate)),
        Target::AtLeast(2000.0),
    );
    for (name, quantile) in [("– sent to ended, p50", 0.5), ("– p99", 0.99)] {
        row(
            report,
            name,
            "ms",
            &of(&ours.full, |run| run.completion_ms(quantile)),
            theirs
                .each_ref()
                .map(|runs| of(&runs.full, |run| quantile_ms(&run.completion, quantile))),
            Target::None,
        );
    }
    row(
        report,
        "– CPU time of workerd",
        "µs a job",
        &of(&ours.full, Measured::cpu_us),
        [Vec::new(), Vec::new()],
        Target::None,
    );
}

fn tell_times(report: &mut Report, ours: &Ours, theirs: &[Theirs; 2]) {
    let quantiles = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)];
    let mut times = |what: &str,
                     runs: &[Measured],
                     ms: fn(&Measured, f64) -> f64,
                     of_theirs: fn(&Theirs) -> &Vec<Paced>,
                     figures: fn(&Paced) -> &Vec<u64>,
                     targets: [Target; 3]| {
        for ((name, quantile), target) in quantiles.into_iter().zip(targets) {
            let what = format!("100 jobs/s: {what}, {name}");
            let others = theirs
                .each_ref()
                .map(|runs| of(of_theirs(runs), |run| quantile_ms(figures(run), quantile)));
            row(report, &what, "ms", &of(runs, |run| ms(run, quantile)), others, target);
        }
    };
    let calm: fn(&Theirs) -> &Vec<Paced> = |runs| &runs.calm;
    let started: fn(&Theirs) -> &Vec<Paced> = |runs| &runs.started;
    let no_target = [Target::None; 3];
    times(
        "sent to stored",
        &ours.calm,
        Measured::latency_ms,
        calm,
        |run| &run.stored,
        no_target,
    );
    times(
        "sent to the handler's first progress at the client",
        &ours.started,
        Measured::latency_ms,
        started,
        |run| &run.progress,
        [Target::AtMost(10.0), Target::None, Target::AtMost(50.0)],
    );
    times(
        "sent to ended, as the client hears",
        &ours.calm,
        Measured::completion_ms,
        calm,
        |run| &run.completion,
        no_target,
    );
    for (name, quantile) in quantiles {
        let what = format!("100 jobs/s: sent to the handler's call, by BullMQ's worker itself, {name}");
        let others = theirs
            .each_ref()
            .map(|runs| of(&runs.calm, |run| quantile_ms(&run.called, quantile)));
        row(report, &what, "ms", &[], others, Target::None);
    }
}
