//! Request to acknowledgment, which means stored: against two bare objects, where the first has the second insert a row.

use anyhow::Result;

use crate::Plan;
use crate::load::{Measured, Shape, closed_loop, first_answer};
use crate::report::{Report, Target};
use crate::server::{Baseline, System};

const STORED: Shape = Shape {
    sockets: 100,
    in_flight: 1,
    until: "acknowledgment",
    completes: false,
    // Each is a job that its socket follows, of which there may be 64.
    requests_max: 60,
    frame: later,
};
/// These end, so that the time bounds them.
const EXECUTED: Shape = Shape {
    completes: true,
    requests_max: usize::MAX,
    frame: at_once,
    ..STORED
};
const BARE: Shape = Shape {
    completes: false,
    ..EXECUTED
};

/// A job for an hour from now: stored, not run.
fn later(id: usize) -> String {
    format!(
        r#"{{"type":"request","id":"{id}","action":"core.echo","mode":"async","delay_ms":3600000,"payload":{{"order":{id},"customer":"Example Trading Company","note":"by noon"}}}}"#
    )
}

/// A job that runs at once.
fn at_once(id: usize) -> String {
    format!(
        r#"{{"type":"request","id":"{id}","action":"core.echo","mode":"async","payload":{{"order":{id},"customer":"Example Trading Company","note":"by noon"}}}}"#
    )
}

/// Measures the rate of acknowledgments, of jobs that wait and of jobs that run and end meanwhile.
pub async fn measure(system: &System, baseline: &Baseline, plan: Plan, report: &mut Report) -> Result<()> {
    let (later, at_once) = (system.target("bench-stored")?, system.target("bench-executed")?);
    let bare = baseline.target("store")?;
    for (target, shape) in [(&later, STORED), (&at_once, EXECUTED), (&bare, BARE)] {
        first_answer(target, shape).await?;
    }
    let (mut stored, mut executed, mut bounded, mut endless) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for run in 0..plan.runs {
        eprintln!("store, run {} of {}", run + 1, plan.runs);
        // Bounded by the number of requests; the time is only a limit.
        stored.push(closed_loop(&later, STORED, plan.measured * 10).await?);
        bounded.push(closed_loop(&bare, STORED, plan.measured * 10).await?);
        executed.push(closed_loop(&at_once, EXECUTED, plan.measured).await?);
        endless.push(closed_loop(&bare, BARE, plan.measured).await?);
    }
    let mut row = |what: &str, unit: &str, of: &dyn Fn(&Measured) -> f64, runs: [&[Measured]; 2], target| {
        let [ours, bare] = runs.map(|runs| runs.iter().map(of).collect::<Vec<_>>());
        report.ratio(what, unit, &ours, &bare, target);
    };
    let waiting = [stored.as_slice(), bounded.as_slice()];
    let running = [executed.as_slice(), endless.as_slice()];
    row(
        "stored, 100 sockets × 1, jobs of later: rate",
        "/s",
        &Measured::rate,
        waiting,
        Target::AtLeast(0.9),
    );
    row("– p50", "ms", &|run| run.latency_ms(0.5), waiting, Target::None);
    row("– p99", "ms", &|run| run.latency_ms(0.99), waiting, Target::None);
    row(
        "– CPU time of workerd",
        "µs a request",
        &Measured::cpu_us,
        waiting,
        Target::None,
    );
    row(
        "– CPU that workerd took",
        "cores",
        &Measured::cores,
        waiting,
        Target::None,
    );
    row(
        "stored, 100 sockets × 1, jobs run meanwhile: rate",
        "/s",
        &Measured::rate,
        running,
        Target::AtLeast(0.9),
    );
    row("– p50", "ms", &|run| run.latency_ms(0.5), running, Target::None);
    row("– p99", "ms", &|run| run.latency_ms(0.99), running, Target::None);
    row(
        "– CPU time of workerd",
        "µs a request",
        &Measured::cpu_us,
        running,
        Target::None,
    );
    row(
        "– CPU that workerd took",
        "cores",
        &Measured::cores,
        running,
        Target::None,
    );
    Ok(())
}
