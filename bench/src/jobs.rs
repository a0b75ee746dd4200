//! Jobs from end to end: how soon one begins and ends at a modest pace, and how many go through one shard.

use anyhow::Result;

use crate::Plan;
use crate::load::{Measured, Shape, closed_loop, paced};
use crate::report::{Report, Target};
use crate::server::System;

/// Jobs a second at which latency is measured.
const PACE: f64 = 100.0;
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

/// Measures the times at a pace, and the rate when saturated.
pub async fn measure(system: &System, plan: Plan, report: &mut Report) -> Result<()> {
    let target = system.target("bench-jobs")?;
    let (mut calm, mut started, mut full) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..plan.runs {
        eprintln!("jobs, run {} of {}", run + 1, plan.runs);
        calm.push(paced(&target, PACED, PACE, plan.measured).await?);
        started.push(paced(&target, STARTED, PACE, plan.measured).await?);
        full.push(closed_loop(&target, SATURATING, plan.measured).await?);
    }
    let mut row = |what: &str, unit: &str, of: &dyn Fn(&Measured) -> f64, runs: &[Measured], target| {
        report.absolute(what, unit, &runs.iter().map(of).collect::<Vec<_>>(), target);
    };
    row(
        "100 jobs/s: send to acknowledgment, p50",
        "ms",
        &|run| run.latency_ms(0.5),
        &calm,
        Target::None,
    );
    row("– p99", "ms", &|run| run.latency_ms(0.99), &calm, Target::None);
    row(
        "100 jobs/s: send to `complete` of an echo, p50",
        "ms",
        &|run| run.completion_ms(0.5),
        &calm,
        Target::None,
    );
    row("– p99", "ms", &|run| run.completion_ms(0.99), &calm, Target::None);
    let what = "100 jobs/s: send to the handler's first progress at the client, p50";
    row(what, "ms", &|run| run.latency_ms(0.5), &started, Target::AtMost(10.0));
    row(
        "– p99",
        "ms",
        &|run| run.latency_ms(0.99),
        &started,
        Target::AtMost(50.0),
    );
    row(
        "jobs through one shard, 20 sockets × 16",
        "/s",
        &Measured::completion_rate,
        &full,
        Target::AtLeast(2000.0),
    );
    row(
        "– p50 of send to `complete`",
        "ms",
        &|run| run.completion_ms(0.5),
        &full,
        Target::None,
    );
    row("– p99", "ms", &|run| run.completion_ms(0.99), &full, Target::None);
    row(
        "– CPU time of workerd",
        "µs a job",
        &Measured::cpu_us,
        &full,
        Target::None,
    );
    row(
        "– CPU that workerd took",
        "cores",
        &Measured::cores,
        &full,
        Target::None,
    );
    Ok(())
}
