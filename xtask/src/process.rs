//! Running other programs. What people read goes to stderr: the stdout of `cargo xtask serve` belongs to programs.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::project::Project;

/// Where the npm package `node` keeps its program; npm links it elsewhere only if it may run install scripts.
const NPM_NODE: &str = "node_modules/node/bin";

/// Says in one line what is being done.
pub fn say(line: impl AsRef<str>) {
    eprintln!("\x1b[36m▸\x1b[0m {}", line.as_ref());
}

/// A command run at the root, with nothing to read and its output on stderr.
pub fn command(project: &Project, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(&project.root)
        .stdin(Stdio::null())
        .stdout(io::stderr());
    command
}

/// Cargo, the one that runs this command.
pub fn cargo(project: &Project) -> Command {
    command(project, "cargo")
}

/// Node.js from npm, of the pinned version; the machine's own where npm brought none.
pub fn node_program(project: &Project) -> PathBuf {
    let own = project.root.join(NPM_NODE).join("node");
    if own.exists() { own } else { "node".into() }
}

/// Node.js of the pinned version with `script`, quiet towards the network.
pub fn node(project: &Project, script: impl AsRef<Path>) -> Command {
    let mut command = command(project, node_program(project));
    command.arg(project.root.join(script));
    command.env("PATH", path_with_npm(project));
    for (name, value) in [
        ("CI", "true"),
        ("CLOUDFLARE_CF_FETCH_ENABLED", "false"),
        ("DO_NOT_TRACK", "1"),
        ("WRANGLER_SEND_METRICS", "false"),
        ("WRANGLER_SEND_ERROR_REPORTS", "false"),
    ] {
        command.env(name, value);
    }
    command
}

/// wrangler of the pinned version.
pub fn wrangler(project: &Project) -> Command {
    node(project, "node_modules/wrangler/bin/wrangler.js")
}

/// The search path with the commands of the npm packages first.
pub fn path_with_npm(project: &Project) -> std::ffi::OsString {
    let own = [NPM_NODE, "node_modules/.bin"].map(|folder| project.root.join(folder));
    let others = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(own.into_iter().chain(std::env::split_paths(&others))).unwrap_or(others)
}

/// Runs `command` to its end. `remedy` says in one sentence what to do when the program is not there.
pub fn run(command: &mut Command, remedy: &str) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => bail!("`{}` failed ({status})", line_of(command)),
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("{name} was not found. {remedy}"),
        Err(error) => bail!("{name} could not be started: {error}"),
    }
}

/// What `command` prints, where it succeeds.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::null()).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
