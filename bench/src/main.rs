//! What is fast, against what: load on the built Worker and on what it is compared with in turn, on one machine.
//!
//! `cargo xtask bench` builds the Worker and starts this; `rows` is the part that is a gate. The state of every server
//! lies on tmpfs where there is one, so that no disk is measured.

mod admission;
mod bullmq;
mod connection;
mod cost;
mod echo;
mod http;
mod jobs;
mod load;
mod native;
mod peers;
mod progress;
mod realtime;
mod redis;
mod report;
mod rows;
mod server;
mod shapes;
mod store;
mod token;

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use report::Report;
use server::{Baseline, System};

/// How each scenario is run.
#[derive(Clone, Copy)]
struct Plan {
    /// What is counted of each run.
    measured: Duration,
    /// Runs of each side, interleaved.
    runs: usize,
}

const USAGE: &str = "tidegate-bench [all|echo|store|jobs|native|admission|progress|shapes|neighbour|realtime|rows] [--seconds N] [--runs N]";
const SECONDS_DEFAULT: f64 = 3.0;
/// As few as a median should have.
const RUNS_DEFAULT: usize = 5;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what the command line asks for. `false`: a gate is not passed.
fn run() -> Result<bool> {
    let mut what = String::from("all");
    let mut seconds = SECONDS_DEFAULT;
    let mut runs = RUNS_DEFAULT;
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().with_context(|| format!("{word} needs a number"));
        match word.as_str() {
            "--seconds" => seconds = number()?.parse()?,
            "--runs" => runs = number()?.parse()?,
            "all" | "echo" | "store" | "jobs" | "native" | "admission" | "progress" | "shapes" | "neighbour"
            | "realtime" | "rows" => what = word,
            _ => bail!("there is no {word:?}: {USAGE}"),
        }
    }
    let plan = Plan {
        measured: Duration::from_secs_f64(seconds),
        runs: runs.max(1),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(&what, plan))
}

async fn measure(what: &str, plan: Plan) -> Result<bool> {
    let mut report = Report::start(plan);
    let wanted = |name: &str| what == "all" || what == name;
    if wanted("admission") {
        admission::measure(plan, &mut report)?;
        peers::measure(plan, &mut report)?;
    }
    if wanted("jobs") || wanted("native") {
        native::measure(plan, &mut report)?;
    }
    if what == "native" {
        report.print();
        return Ok(true);
    }
    if wanted("realtime") {
        let measured = realtime::measure(plan, &mut report).await;
        if measured.is_err() || what == "realtime" {
            report.print();
            return measured.map(|()| true);
        }
    }
    let system = System::start()?;
    // First, while the objects have written nothing else.
    let passed = if wanted("rows") || wanted("jobs") {
        rows::measure(&system, &mut report).await?
    } else {
        true
    };
    if wanted("admission") {
        admission::on_workerd(&system, plan, &mut report).await?;
    }
    if wanted("echo") || wanted("store") {
        let baseline = Baseline::start()?;
        if wanted("echo") {
            echo::measure(&system, &baseline, plan, &mut report).await?;
        }
        if wanted("store") {
            store::measure(&system, &baseline, plan, &mut report).await?;
        }
    }
    if wanted("jobs") {
        jobs::measure(&system, plan, &mut report).await?;
    }
    if wanted("jobs") || wanted("progress") {
        progress::measure(&system, plan, &mut report).await?;
    }
    if wanted("shapes") {
        shapes::measure(&system, plan, &mut report).await?;
    }
    // Last, because of what it leaves where it fails.
    if wanted("shapes") || wanted("neighbour") {
        shapes::measure_neighbour(&system, plan, &mut report).await;
    }
    report.print();
    Ok(passed)
}
