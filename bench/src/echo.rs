//! A synchronous request on a socket, by the full path, against an object that parses and answers the same bytes.

use anyhow::{Result, bail};

use crate::Plan;
use crate::load::{Measured, Shape, closed_loop, first_answer};
use crate::report::{Report, Target};
use crate::server::{Baseline, System};

pub const SATURATING: Shape = Shape {
    sockets: 20,
    in_flight: 16,
    until: "response",
    completes: false,
    requests_max: usize::MAX,
    frame,
};
const SINGLE: Shape = Shape {
    sockets: 1,
    in_flight: 1,
    ..SATURATING
};

/// A request with a payload of about 100 bytes.
fn frame(id: usize) -> String {
    format!(
        r#"{{"type":"request","id":"{id}","action":"core.echo","payload":{{"order":{id},"customer":"Example Trading Company","currency":"EUR","lines":[1,2,3,4],"note":"by noon"}}}}"#
    )
}

/// Measures rate and latency, saturated and one at a time.
pub async fn measure(system: &System, baseline: &Baseline, plan: Plan, report: &mut Report) -> Result<()> {
    let (ours, bare) = (system.target("bench-echo")?, baseline.target("echo")?);
    let (answer, expected) = (
        first_answer(&ours, SATURATING).await?,
        first_answer(&bare, SATURATING).await?,
    );
    if answer != expected {
        bail!("the two sides answer differently: {answer} and {expected}");
    }
    let (mut system, mut baseline) = (Vec::new(), Vec::new());
    let (mut system_single, mut baseline_single) = (Vec::new(), Vec::new());
    for run in 0..plan.runs {
        eprintln!("echo, run {} of {}", run + 1, plan.runs);
        system.push(closed_loop(&ours, SATURATING, plan.measured).await?);
        baseline.push(closed_loop(&bare, SATURATING, plan.measured).await?);
        system_single.push(closed_loop(&ours, SINGLE, plan.measured / 3).await?);
        baseline_single.push(closed_loop(&bare, SINGLE, plan.measured / 3).await?);
    }
    let mut row = |what: &str, unit: &str, of: &dyn Fn(&Measured) -> f64, runs: [&[Measured]; 2], target| {
        let [ours, bare] = runs.map(|runs| runs.iter().map(of).collect::<Vec<_>>());
        report.ratio(what, unit, &ours, &bare, target);
    };
    let saturated = [system.as_slice(), baseline.as_slice()];
    let single = [system_single.as_slice(), baseline_single.as_slice()];
    row(
        "echo on 20 sockets × 16 in flight: rate",
        "/s",
        &Measured::rate,
        saturated,
        Target::AtLeast(0.9),
    );
    row(
        "– p99",
        "ms",
        &|run| run.latency_ms(0.99),
        saturated,
        Target::AtMost(1.5),
    );
    row("– p50", "ms", &|run| run.latency_ms(0.5), saturated, Target::None);
    row(
        "– CPU time of workerd",
        "µs a request",
        &Measured::cpu_us,
        saturated,
        Target::None,
    );
    row(
        "– CPU that workerd took",
        "cores",
        &Measured::cores,
        saturated,
        Target::None,
    );
    row(
        "echo, 1 socket × 1 in flight: p50",
        "ms",
        &|run| run.latency_ms(0.5),
        single,
        Target::None,
    );
    row("– p99", "ms", &|run| run.latency_ms(0.99), single, Target::None);
    Ok(())
}
