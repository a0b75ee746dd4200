//! `cargo xtask`: every habit of this repository is a command.

#[cfg(test)]
mod architecture;
mod arguments;
mod bench;
mod browser;
mod bundle;
mod classes;
mod compared;
mod data;
mod demo;
mod example;
mod fingerprint;
mod fuzz;
mod gates;
mod go;
mod load;
mod openapi;
mod order;
mod process;
mod project;
mod schemathesis;
mod secrets;
mod serve;
mod test;
mod toolchain;
mod wasm;

use std::env;
use std::process::ExitCode;

use anyhow::{Result, bail};

use arguments::Arguments;
use project::Project;

/// A command: its name, the arguments it takes, what it does, and the function that does it.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    fn(&Project, Arguments) -> Result<()>,
);

const COMMANDS: &[Row] = &[
    (
        "demo",
        "[--port N]",
        "everything at once: install, build, serve, run a real job on real data",
        demo::demo,
    ),
    (
        "example",
        "chat|live-jobs [--port N] [--page-port N]",
        "a page of examples/ with a server behind it",
        example::example,
    ),
    (
        "dev",
        "[--port N] [--release]",
        "build, serve, rebuild on change",
        serve::dev,
    ),
    (
        "test",
        "[--fast] [NAME]",
        "every check and every test, or those that NAME selects",
        test::test,
    ),
    (
        "build",
        "[--quick|--release]",
        "build the Worker into build/ (quick: build/quick/)",
        bundle::build_command,
    ),
    (
        "serve",
        "[--port N] [--state DIR] [--control-port N] [--vars FILE] [--quick] [--no-build] [--outlive-parent]",
        "run the built Worker on workerd",
        serve::serve,
    ),
    (
        "bench",
        "[all|echo|store|jobs|native|admission|progress|shapes|neighbour|realtime|rows] [--seconds N] [--runs N]",
        "measure against bare JavaScript objects and others; rows: fail where a job writes too many",
        bench::bench,
    ),
    (
        "load",
        "[connect_storm|requests|jobs|fan_out|presence|all] [--url URL --token TOKEN] [--seconds N] [--set NAME=VALUE]",
        "load a deployment with k6, or a server that is started for it; fail where a threshold is crossed",
        load::load,
    ),
    (
        "fuzz",
        "[NAME] [--seconds N]",
        "feed every decoder, or one, with what nobody would send: a minute each",
        fuzz::fuzz,
    ),
    (
        "data",
        "[--large]",
        "put public sample data into examples/data (large: 200 MB and more)",
        data::data,
    ),
    (
        "openapi",
        "[--check]",
        "write docs/reference/openapi.json from the types (check: only compare)",
        openapi::openapi,
    ),
    (
        "toolchain",
        "[--again]",
        "install what is missing",
        toolchain::toolchain_command,
    ),
    ("help", "", "this list", help),
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\x1b[31merror:\x1b[0m {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut words = env::args().skip(1);
    let name = words.next().unwrap_or_else(|| "help".to_owned());
    let name = if matches!(name.as_str(), "-h" | "--help") {
        "help"
    } else {
        &name
    };
    let Some((_, _, _, function)) = COMMANDS.iter().find(|row| row.0 == name) else {
        let hint = match arguments::nearest(name, COMMANDS.iter().map(|row| row.0)) {
            Some(word) => format!("did you mean `cargo xtask {word}`?"),
            None => "`cargo xtask help` lists what there is".to_owned(),
        };
        bail!("there is no command {name:?}; {hint}");
    };
    function(&Project::find()?, Arguments::new(words))
}

fn help(_: &Project, _: Arguments) -> Result<()> {
    println!("cargo xtask COMMAND\n");
    for (name, arguments, summary, _) in COMMANDS {
        println!("  {name:<10} {summary}");
        if !arguments.is_empty() {
            println!("  {:<10} {arguments}", "");
        }
    }
    Ok(())
}
