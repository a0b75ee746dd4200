//! Programs that are built from Go modules, into `target/tools`: what load is made with, and what sockets are compared with.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result};

use crate::fingerprint;
use crate::process::{command, output, run, say};
use crate::project::Project;

/// k6, by the name of its module and the version that the scenarios are written for.
const K6: (&str, &str) = ("go.k6.io/k6", "v1.8.1");
/// The server of Centrifuge: where its source is, and what it is called.
const CENTRIFUGE: (&str, &str) = ("bench/baseline/realtime/centrifuge", "centrifuge-peer");
const NO_GO: &str = "Install Go (https://go.dev/dl), then run the same command again.";

/// k6: that of the machine, or one that is built here.
pub fn k6(project: &Project) -> Result<PathBuf> {
    let own = project.tool("k6");
    for program in [PathBuf::from("k6"), own.clone()] {
        if let Some(version) = output(Command::new(&program).arg("version")) {
            say(format!("{version}: there"));
            return Ok(program);
        }
    }
    let (module, version) = K6;
    say(format!("k6 {version}: building it from its Go module, a few minutes"));
    let mut install = command(project, "go");
    install.args(["install", &format!("{module}@{version}")]);
    run(install.env("GOBIN", bin(&own)), NO_GO).context("k6 is missing, and could not be built")?;
    Ok(own)
}

/// Builds the server of Centrifuge, unless it is there as its source is now. `false`: there is no Go.
pub fn centrifuge(project: &Project) -> Result<bool> {
    let (folder, name) = CENTRIFUGE;
    let source = project.root.join(folder);
    let (program, stamp) = (project.tool(name), project.tools().join(format!("{name}.fingerprint")));
    let wanted = fingerprint::of(&source, &["go.mod", "go.sum", "main.go"], "")?;
    if program.exists() && fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(true);
    }
    if output(Command::new("go").arg("version")).is_none() {
        say(format!("Centrifuge is left out of the comparison. {NO_GO}"));
        return Ok(false);
    }
    say("Centrifuge: building a server of it from its Go module");
    let mut build = command(project, "go");
    build.args(["build", "-trimpath", "-o"]).arg(&program).arg(".");
    run(build.current_dir(source), NO_GO).context("the server of Centrifuge does not build")?;
    fs::write(stamp, wanted)?;
    Ok(true)
}

/// The folder of `program`, which `go install` asks for as an absolute path.
fn bin(program: &Path) -> PathBuf {
    let folder = program.parent().unwrap_or(program);
    env::current_dir().map_or_else(|_| folder.to_path_buf(), |here| here.join(folder))
}
