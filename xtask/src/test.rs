//! `cargo xtask test`: every check and every test, in order, with a table of results at the end.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::arguments::Arguments;
use crate::bundle::{self, Kind};
use crate::process::{self, output, path_with_npm, run, say};
use crate::project::Project;
use crate::toolchain::{self, WASM};
use crate::{bench, browser, data, gates, openapi, schemathesis};

/// What a whole run from a fresh clone takes of the disk, and something to spare.
const ROOM_MIB: u64 = 9 * 1024;
/// The version of cargo-deny that reads deny.toml.
const CARGO_DENY_VERSION: &str = "0.20.2";
/// The package of the end-to-end tests, which need a bundle.
const E2E: &str = "tidegate-tests";
/// End-to-end tests that run at once: each has a server of its own, and most of the time it waits.
const E2E_THREADS: &str = "4";
/// The end-to-end tests that measure, and so are run one by one with nothing beside them.
const E2E_ALONE: [&str; 2] = ["noisy_neighbour", "matrix::time"];
/// Seeds of the simulation in one run of every test, and the steps of each.
const SEEDS: &str = "2000";
const STEPS_OF_A_SEED: &str = "300";
/// Rounds of `kill -9` in one run of every test, unless the environment says otherwise.
const KILL_ROUNDS: &str = "50";
const NO_CARGO: &str = "Install rustup as https://rustup.rs says.";

/// One row of the table: a name to select it by, what it does, whether `--fast` includes it, how it is done.
type Step = (&'static str, &'static str, bool, fn(&Run) -> Result<Outcome>);

const STEPS: &[Step] = &[
    ("format", "the sources are formatted", true, format),
    ("openapi", "the API description is that of the types", true, openapi),
    ("clippy", "no warnings, natively and for wasm", true, clippy),
    ("native", "unit and property tests, a short simulation", true, native),
    ("simulation", "2,000 seeds of 300 steps", false, simulation),
    ("wasm", "tests of what only exists in wasm", true, wasm),
    ("bundle", "the Worker builds, with all its classes", true, build),
    ("gates", "size and start-up time of the bundle", false, gates),
    ("deploy", "wrangler accepts it (dry run)", false, deploy),
    ("e2e", "end to end, on workerd", true, end_to_end),
    (
        "browser",
        "the examples in Chromium, cut off and killed",
        false,
        in_browser,
    ),
    ("rows", "rows written per job", true, rows),
    (
        "schemathesis",
        "generated requests against the description of the API",
        false,
        generated,
    ),
    (
        "licences",
        "licences, sources and advisories of dependencies",
        false,
        licences,
    ),
];

/// What this run was asked for.
struct Run<'a> {
    project: &'a Project,
    kind: Kind,
    /// Selects tests inside the test binaries.
    filter: Option<String>,
    asked: Asked,
}

/// How a step came to be run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// By its name.
    ByName,
    /// As a part of all of them.
    AsPart,
}

/// How a step ended that did not fail, with what is worth knowing about it.
enum Outcome {
    Passed(String),
    Skipped(String),
}

fn passed() -> Result<Outcome> {
    Ok(Outcome::Passed(String::new()))
}

/// `cargo xtask test [--fast] [NAME]`. NAME is a step, or else a part of the names of tests.
pub fn test(project: &Project, mut arguments: Arguments) -> Result<()> {
    let fast = arguments.flag("--fast");
    let name = arguments.word();
    arguments.end()?;
    let of_name = |step: &&Step| name.as_deref().is_none_or(|name| step.0 == name);
    let is_step = STEPS.iter().any(|step| Some(step.0) == name.as_deref());
    let steps: Vec<&Step> = if is_step {
        STEPS.iter().filter(of_name).collect()
    } else if name.is_some() {
        STEPS.iter().filter(|step| matches!(step.0, "native" | "e2e")).collect()
    } else {
        STEPS.iter().filter(|step| step.2 || !fast).collect()
    };
    let kind = if fast { Kind::Quick } else { Kind::Release };
    if name.is_none() {
        has_room(project)?;
    }
    toolchain::ensure(project)?;
    let run = Run {
        project,
        kind,
        filter: name.filter(|_| !is_step),
        asked: if is_step { Asked::ByName } else { Asked::AsPart },
    };
    report(&steps.into_iter().map(|step| perform(&run, step)).collect::<Vec<_>>())
}

/// Ends a whole run at its beginning where the disk would be full in the middle of it: then every step fails for another reason.
fn has_room(project: &Project) -> Result<()> {
    let listed = output(Command::new("df").arg("-Pk").arg(&project.target));
    match listed.as_deref().and_then(free_mib) {
        Some(free) if free < ROOM_MIB => bail!(
            "{} MiB are free where {} is, and a whole run takes up to {ROOM_MIB}: make room, or set CARGO_TARGET_DIR",
            free,
            project.relative(&project.target).display()
        ),
        // Where there is no `df`, the run says by itself what is missing.
        _ => Ok(()),
    }
}

/// What is free, of the output of `df -Pk` for one folder.
fn free_mib(listed: &str) -> Option<u64> {
    let kib: u64 = listed.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kib / 1024)
}

/// A row of the report.
struct Row {
    name: &'static str,
    result: Result<Outcome>,
    took: Duration,
}

fn perform(run: &Run, (name, summary, _, function): &Step) -> Row {
    say(format!("{name}: {summary}"));
    let started = Instant::now();
    let result = function(run);
    if let Err(error) = &result {
        eprintln!("\x1b[31m{name} failed:\x1b[0m {error:#}");
    }
    Row {
        name,
        result,
        took: started.elapsed(),
    }
}

fn report(rows: &[Row]) -> Result<()> {
    println!();
    for Row { name, result, took } in rows {
        let (word, note) = match result {
            Ok(Outcome::Passed(note)) => ("ok", note.clone()),
            Ok(Outcome::Skipped(note)) => ("skipped", note.clone()),
            Err(error) => ("FAILED", format!("{error:#}")),
        };
        println!("{name:<12} {word:<8} {:>7.1} s  {note}", took.as_secs_f32());
    }
    let total: Duration = rows.iter().map(|row| row.took).sum();
    let failed: Vec<_> = rows
        .iter()
        .filter(|row| row.result.is_err())
        .map(|row| row.name)
        .collect();
    if failed.is_empty() {
        println!("\nall passed in {:.0} s", total.as_secs_f32());
        return Ok(());
    }
    bail!("{} failed", failed.join(", "))
}

/// Cargo, with its output on stdout, where the closing lines of tests are looked for.
fn cargo(run: &Run, arguments: &[&str]) -> Command {
    let mut cargo = process::cargo(run.project);
    cargo.stdout(Stdio::inherit()).args(arguments);
    cargo
}

fn format(on: &Run) -> Result<Outcome> {
    run(&mut cargo(on, &["fmt", "--all", "--check"]), NO_CARGO)?;
    passed()
}

fn openapi(on: &Run) -> Result<Outcome> {
    openapi::check(on.project)?;
    passed()
}

fn clippy(on: &Run) -> Result<Outcome> {
    let strict = ["--", "-D", "warnings"];
    let mut native = cargo(on, &["clippy", "--workspace", "--all-targets"]);
    run(native.args(strict), NO_CARGO)?;
    let mut wasm = cargo(on, &["clippy", "--package", "tidegate", "--target", WASM]);
    run(wasm.args(strict), NO_CARGO)?;
    passed()
}

fn native(on: &Run) -> Result<Outcome> {
    data::copy(on.project)?;
    let mut tests = cargo(on, &["test", "--workspace", "--exclude", E2E]);
    run(tests.args(on.filter.iter()), NO_CARGO)?;
    passed()
}

fn simulation(on: &Run) -> Result<Outcome> {
    let arguments = [
        "run",
        "--quiet",
        "--release",
        "--package",
        "tidegate-simulation",
        "--bin",
        "tidegate-simulation",
    ];
    let mut simulation = cargo(on, &arguments);
    run(
        simulation.args(["--", "--seeds", SEEDS, "--steps", STEPS_OF_A_SEED]),
        NO_CARGO,
    )?;
    passed()
}

/// Runs `tests/wasm.rs` of each package that has one.
fn wasm(on: &Run) -> Result<Outcome> {
    let packages = packages_with(on.project, Path::new("tests/wasm.rs"))?;
    if packages.is_empty() {
        return Ok(Outcome::Skipped("no package has a tests/wasm.rs".to_owned()));
    }
    let runner = toolchain::wasm_test_runner(on.project)?;
    for package in &packages {
        let mut tests = cargo(on, &["test", "--package", package, "--test", "wasm", "--target", WASM]);
        tests
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER", &runner)
            .env("PATH", path_with_npm(on.project));
        run(&mut tests, NO_CARGO)?;
    }
    Ok(Outcome::Passed(packages.join(", ")))
}

/// The names of the workspace's packages that have `file`.
fn packages_with(project: &Project, file: &Path) -> Result<Vec<String>> {
    let manifest = fs::read_to_string(project.root.join("Cargo.toml"))?.parse::<toml::Table>()?;
    let members = manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("members")?.as_array());
    let folders = members
        .context("Cargo.toml lists no members")?
        .iter()
        .filter_map(toml::Value::as_str);
    let mut names = Vec::new();
    for folder in folders
        .map(|folder| project.root.join(folder))
        .filter(|folder| folder.join(file).exists())
    {
        let manifest = fs::read_to_string(folder.join("Cargo.toml"))?.parse::<toml::Table>()?;
        let name = manifest
            .get("package")
            .and_then(|package| package.get("name")?.as_str());
        names.push(name.context("a package without a name")?.to_owned());
    }
    Ok(names)
}

fn build(on: &Run) -> Result<Outcome> {
    bundle::build(on.project, on.kind)?;
    passed()
}

fn gates(on: &Run) -> Result<Outcome> {
    bundle::build(on.project, Kind::Release)?;
    gates::check(on.project).map(Outcome::Passed)
}

fn deploy(on: &Run) -> Result<Outcome> {
    bundle::build(on.project, Kind::Release)?;
    run(process::wrangler(on.project).args(["deploy", "--dry-run"]), "")?;
    passed()
}

fn end_to_end(on: &Run) -> Result<Outcome> {
    bundle::build(on.project, on.kind)?;
    data::copy(on.project)?;
    let mut tests = cargo(on, &["test", "--package", E2E]);
    tests.args(on.filter.iter()).args(["--", "--test-threads", E2E_THREADS]);
    if on.filter.is_none() {
        tests.args(E2E_ALONE.iter().flat_map(|name| ["--skip", name]));
    }
    if on.kind == Kind::Release && std::env::var_os("TIDEGATE_KILL_ROUNDS").is_none() {
        tests.env("TIDEGATE_KILL_ROUNDS", KILL_ROUNDS);
    }
    let bundle = on.kind.directory(on.project);
    run(tests.env("TIDEGATE_BUNDLE", &bundle), NO_CARGO)?;
    if on.filter.is_none() {
        let mut alone = cargo(on, &["test", "--package", E2E, "--test", "e2e", "--"]);
        alone.args(E2E_ALONE).args(["--test-threads", "1"]);
        run(alone.env("TIDEGATE_BUNDLE", &bundle), NO_CARGO)?;
    }
    passed()
}

fn in_browser(on: &Run) -> Result<Outcome> {
    let chromium = match (browser::chromium(on.project), on.asked) {
        (Ok(chromium), _) => chromium,
        (Err(error), Asked::ByName) => return Err(error),
        // A machine that has no browser, and can install none, can still say whether everything else holds.
        (Err(error), Asked::AsPart) => return Ok(Outcome::Skipped(format!("NOT run: {error:#}"))),
    };
    bundle::build(on.project, on.kind)?;
    browser::check(on.project, on.kind, &chromium).map(Outcome::Passed)
}

fn rows(on: &Run) -> Result<Outcome> {
    bundle::build(on.project, on.kind)?;
    bench::rows(on.project, on.kind)?;
    passed()
}

fn generated(on: &Run) -> Result<Outcome> {
    bundle::build(on.project, on.kind)?;
    schemathesis::check(on.project, on.kind).map(Outcome::Passed)
}

fn licences(on: &Run) -> Result<Outcome> {
    toolchain::cargo_deny(on.project, CARGO_DENY_VERSION)?;
    let deny = || {
        let mut deny = process::command(on.project, on.project.tool("cargo-deny"));
        deny.args(["--log-level", "error", "check"]);
        deny
    };
    run(deny().args(["licenses", "bans", "sources"]), "")?;
    let fetched = output(process::command(on.project, on.project.tool("cargo-deny")).args(["fetch", "db"]));
    if fetched.is_none() {
        let note =
            "licences, bans and sources; the advisory database could not be reached, advisories were NOT checked";
        return Ok(Outcome::Passed(note.to_owned()));
    }
    run(deny().args(["advisories", "--disable-fetch"]), "")?;
    passed()
}

#[cfg(test)]
mod tests {
    use super::free_mib;

    #[test]
    fn what_is_free_is_the_fourth_word_of_the_second_line() {
        let listed = "Filesystem     1024-blocks     Used Available Capacity Mounted on\n/dev/vda         263174212 12058624  83886080      13% /\n";
        assert_eq!(free_mib(listed), Some(81_920));
        assert_eq!(free_mib("df: no such file"), None);
    }
}
