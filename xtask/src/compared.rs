//! What jobs and admission are compared with: packages from npm, of the versions that their lock files pin, a Redis from Debian, and a Go module.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::fingerprint;
use crate::process::{command, output, run, say};
use crate::project::Project;
use crate::toolchain::npm;

/// What jobs are compared with: where the packages and their lock file are.
pub const JOBS: &str = "bench/baseline/bullmq";
/// What admission is compared with.
pub const ADMISSION: &str = "bench/baseline/admission";
/// What sockets are compared with.
pub const REALTIME: &str = "bench/baseline/realtime";
const NO_NPM: &str = "Install Node.js with npm (https://nodejs.org), then run the same command again.";
const PROGRAM: &str = "redis-server";

/// Installs what is missing of the packages in `folder` and of Redis.
pub fn ensure(project: &Project, folder: &str) -> Result<()> {
    packages(project, folder)?;
    redis(project)
}

/// Installs what is missing of the packages in `folder`.
pub fn packages(project: &Project, name: &str) -> Result<()> {
    let folder = project.root.join(name);
    let wanted = fingerprint::of(&folder, &["package-lock.json"], "")?;
    let stamp = folder.join("node_modules/.tidegate-lock");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    say(format!("what is compared: npm ci in {name}"));
    let mut install = command(project, npm());
    // What it would build by a script comes ready made, too.
    install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    run(install.current_dir(&folder), NO_NPM)?;
    fs::write(stamp, wanted)?;
    Ok(())
}

fn redis(project: &Project) -> Result<()> {
    let starts = || output(Command::new(PROGRAM).arg("--version")).is_some();
    if starts() {
        return Ok(());
    }
    let is_root = output(Command::new("id").arg("-u")).is_some_and(|id| id == "0");
    let has_apt = output(Command::new("apt-get").arg("--version")).is_some();
    if !is_root || !has_apt {
        bail!(
            "{PROGRAM} is missing, which is part of the comparison; install it (`sudo apt-get install {PROGRAM}` on Debian), then \
             run the same command again"
        );
    }
    say(format!("{PROGRAM}: apt-get install"));
    let apt = |words: &[&str]| {
        let mut apt = command(project, "apt-get");
        apt.args(words).env("DEBIAN_FRONTEND", "noninteractive");
        run(&mut apt, "")
    };
    let install = || apt(&["install", "--yes", "--no-install-recommends", PROGRAM]);
    // The list of packages may be older than the packages.
    install()
        .or_else(|_| apt(&["update"]).and_then(|()| install()))
        .with_context(|| format!("{PROGRAM} could not be installed"))?;
    // The package starts a service of its own where there is systemd; the benchmark starts what it needs by itself.
    let _nothing_to_stop = output(Command::new("systemctl").args(["disable", "--now", PROGRAM]));
    if !starts() {
        bail!("{PROGRAM} was installed and does not start");
    }
    Ok(())
}
