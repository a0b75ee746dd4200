//! `cargo xtask bench`: the figures of docs and README, and the gate on rows written, from the crate in bench/.

use std::process::{Command, Stdio};

use anyhow::Result;

use crate::arguments::Arguments;
use crate::bundle::{self, Kind};
use crate::compared;
use crate::go;
use crate::process::{cargo, run};
use crate::project::Project;

const PACKAGE: &str = "tidegate-bench";
const NO_CARGO: &str = "Install rustup as https://rustup.rs says.";

/// `cargo xtask bench [all|echo|store|jobs|native|admission|progress|shapes|neighbour|realtime|rows] [--seconds N] [--runs N]`: measures, and prints a table in Markdown.
/// Errors: `rows` finds more rows written per job than there may be.
pub fn bench(project: &Project, mut arguments: Arguments) -> Result<()> {
    let seconds: Option<f64> = arguments.value("--seconds")?;
    let runs: Option<usize> = arguments.value("--runs")?;
    let what = arguments.word();
    arguments.end()?;
    let wanted = |name| matches!(what.as_deref(), None | Some("all")) || what.as_deref() == Some(name);
    for (name, folder) in [("jobs", compared::JOBS), ("admission", compared::ADMISSION)] {
        if wanted(name) {
            compared::ensure(project, folder)?;
        }
    }
    if wanted("realtime") {
        compared::packages(project, compared::REALTIME)?;
        go::centrifuge(project)?;
    }
    bundle::build(project, Kind::Release)?;
    // The client must not be what is measured.
    let mut bench = command(project, Kind::Release, &["--release"]);
    bench.args(what);
    if let Some(seconds) = seconds {
        bench.arg("--seconds").arg(seconds.to_string());
    }
    if let Some(runs) = runs {
        bench.arg("--runs").arg(runs.to_string());
    }
    run(&mut bench, NO_CARGO)
}

/// The gate on rows written per job. Counting needs no fast client.
pub fn rows(project: &Project, kind: Kind) -> Result<()> {
    run(command(project, kind, &[]).arg("rows"), NO_CARGO)
}

fn command(project: &Project, kind: Kind, profile: &[&str]) -> Command {
    let mut bench = cargo(project);
    bench.stdout(Stdio::inherit());
    bench
        .args(["run", "--quiet", "--package", PACKAGE])
        .args(profile)
        .arg("--");
    bench.env("TIDEGATE_BUNDLE", kind.directory(project));
    bench
}
