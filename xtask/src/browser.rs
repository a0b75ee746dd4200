//! `cargo xtask test browser`: the examples in a real browser, whose network is cut and whose server is killed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::bundle::Kind;
use crate::data;
use crate::process::{command, node, output, run, say};
use crate::project::Project;

/// The script that drives it.
const SCRIPT: &str = "tests/browser/run.mjs";
/// What Chromium is called, by the systems that have it.
const PROGRAMS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
/// Names a program that is called otherwise.
const PROGRAM: &str = "TIDEGATE_CHROMIUM";
const NO_CHROMIUM: &str = "Chromium is missing: install it (Debian: `apt-get install chromium`), or name the program of Chromium or \
                           Chrome in TIDEGATE_CHROMIUM";

/// Runs the tests in this browser, against the bundle of this kind. Errors: one fails.
pub fn check(project: &Project, kind: Kind, chromium: &Path) -> Result<String> {
    data::copy(project)?;
    let mut tests = node(project, SCRIPT);
    tests.arg("--bundle").arg(kind.directory(project));
    tests.arg("--chromium").arg(chromium);
    run(&mut tests, "").context("what the pages looked like is in target/browser")?;
    Ok(version(chromium).unwrap_or_default())
}

/// The browser, installed where it is missing and that can be done. Errors: there is none.
pub fn chromium(project: &Project) -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(PROGRAM) {
        let named = PathBuf::from(named);
        return match version(&named) {
            Some(_) => Ok(named),
            None => bail!("{PROGRAM} names {}, which does not start", named.display()),
        };
    }
    if let Some(found) = found() {
        return Ok(found);
    }
    if !is_root_of_debian() {
        bail!("{NO_CHROMIUM}");
    }
    say("Chromium: installing Debian's package");
    let apt = |arguments: &[&str]| {
        let mut apt = command(project, "apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq").args(arguments);
        run(&mut apt, "")
    };
    // What the machine knows of packages may be old or nothing.
    apt(&["update"])
        .and_then(|()| {
            apt(&[
                "install",
                "--yes",
                "--no-install-recommends",
                "chromium",
                "fonts-dejavu-core",
            ])
        })
        .context(NO_CHROMIUM)?;
    found().context(NO_CHROMIUM)
}

/// The first of the programs that starts.
fn found() -> Option<PathBuf> {
    PROGRAMS.iter().map(PathBuf::from).find_map(|name| {
        version(&name)?;
        let folders = std::env::var_os("PATH")?;
        std::env::split_paths(&folders)
            .map(|folder| folder.join(&name))
            .find(|path| path.exists())
    })
}

fn version(program: &Path) -> Option<String> {
    let printed = output(Command::new(program).arg("--version"))?;
    printed.lines().last().map(str::to_owned)
}

fn is_root_of_debian() -> bool {
    output(Command::new("id").arg("-u")).is_some_and(|id| id == "0")
        && output(Command::new("apt-get").arg("--version")).is_some()
}
