//! Shapes of load: how soon jobs start, and how many there are in a second, where load is steady, comes in bursts, in waves,
//! under a throttle, or beside a tenant who takes all there is.

mod neighbour;
mod throttle;
mod waves;

use std::time::Duration;

use anyhow::Result;

use crate::Plan;
use crate::load::{Measured, Shape, bursts, paced};
use crate::report::{Report, Target};
use crate::server::System;

/// Jobs a second where load is steady.
const STEADY: f64 = 100.0;
/// Jobs that come at the same moment on each of ten sockets.
const BURST: usize = 30;
const BETWEEN_BURSTS: Duration = Duration::from_secs(1);
/// The first progress of a job is its handler's first word: it has started.
const STARTS: Shape = Shape {
    sockets: 10,
    in_flight: usize::MAX,
    until: "progress",
    completes: true,
    requests_max: usize::MAX,
    frame: short,
};

/// A job that says that it starts, and ends.
fn short(id: usize) -> String {
    format!(r#"{{"type":"request","id":"{id}","action":"core.delay","mode":"async","payload":{{"ms":0,"steps":1}}}}"#)
}

/// Measures all of them.
pub async fn measure(system: &System, plan: Plan, report: &mut Report) -> Result<()> {
    let (mut steady, mut burst) = (Vec::new(), Vec::new());
    for run in 0..plan.runs {
        eprintln!("steady and burst, run {} of {}", run + 1, plan.runs);
        let target = system.target("bench-steady")?;
        steady.push(paced(&target, STARTS, STEADY, plan.measured).await?);
        burst.push(bursts(&target, STARTS, BURST, BETWEEN_BURSTS, plan.measured).await?);
    }
    tell(report, "steady, 100 jobs/s", &steady);
    tell(report, "bursts of 300 jobs, one a second", &burst);
    throttle::measure(system, plan, report).await?;
    waves::measure(system, plan, report).await?;
    Ok(())
}

/// Measures a quiet tenant beside a noisy one. A tenant that got no answer at all is a figure, too.
pub async fn measure_neighbour(system: &System, plan: Plan, report: &mut Report) {
    if let Err(error) = neighbour::measure(system, plan, report).await {
        report.shape(neighbour::RATIO, "×", &[f64::NAN], neighbour::RATIO_MAX);
        report.note(format!(
            "A noisy neighbour could not be measured to the end: {error:#}."
        ));
    }
}

/// Rows of the time to the start, and of the throughput.
fn tell(report: &mut Report, what: &str, runs: &[Measured]) {
    for (name, quantile) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
        let figures: Vec<f64> = runs.iter().map(|run| run.latency_ms(quantile)).collect();
        report.shape(
            &format!("{what}: sent to started, {name}"),
            "ms",
            &figures,
            Target::None,
        );
    }
    let rates: Vec<f64> = runs.iter().map(Measured::completion_rate).collect();
    report.shape("– ended", "jobs/s", &rates, Target::None);
}
