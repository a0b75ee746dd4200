//! `cargo xtask fuzz`: every target of fuzz/ for a while, one after the other.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::arguments::{Arguments, nearest};
use crate::process::{command, run, say};
use crate::project::Project;
use crate::toolchain;

/// The version of cargo-fuzz that runs them.
const CARGO_FUZZ_VERSION: &str = "0.13.2";
const TARGETS: &str = "fuzz/fuzz_targets";
const SECONDS: u64 = 60;
const NO_NIGHTLY: &str = "Fuzzing takes a nightly compiler: `rustup toolchain install nightly`.";

/// `cargo xtask fuzz [NAME] [--seconds N]`. Errors: an input breaks a target; libFuzzer says where it keeps it.
pub fn fuzz(project: &Project, mut arguments: Arguments) -> Result<()> {
    let seconds: u64 = arguments.value("--seconds")?.unwrap_or(SECONDS);
    let name = arguments.word();
    arguments.end()?;
    let all = targets(project)?;
    let chosen: Vec<&String> = all
        .iter()
        .filter(|target| name.as_ref().is_none_or(|name| name == *target))
        .collect();
    if chosen.is_empty() {
        let name = name.unwrap_or_default();
        let hint = nearest(&name, all.iter().map(String::as_str)).map_or_else(
            || format!("there are {}", all.join(", ")),
            |word| format!("did you mean {word:?}?"),
        );
        bail!("there is no target {name:?}; {hint}");
    }
    toolchain::cargo_fuzz(project, CARGO_FUZZ_VERSION)?;
    for target in &chosen {
        say(format!("{target}: {seconds} s"));
        let mut fuzzing = command(project, "rustup");
        fuzzing.args(["run", "nightly"]).arg(project.tool("cargo-fuzz"));
        fuzzing.args(["run", "--fuzz-dir", "fuzz", target, "--"]);
        fuzzing.arg(format!("-max_total_time={seconds}"));
        // What is tuned for the rest of the build is not for this one.
        fuzzing.env_remove("RUSTFLAGS").env_remove("CARGO_TARGET_DIR");
        run(&mut fuzzing, NO_NIGHTLY).with_context(|| format!("the target {target}"))?;
    }
    say(format!("{} targets ran, and none of them broke", chosen.len()));
    Ok(())
}

/// The names of the targets, in order.
fn targets(project: &Project) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(project.root.join(TARGETS))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(name) = path.file_stem()
        {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
