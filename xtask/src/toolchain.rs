//! Everything that building and serving needs, installed where it is missing.
//!
//! The usual way comes first (`rustup target add`, `worker-build`'s own downloads); where a download is refused, the
//! same tool comes from crates.io or npm.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::fingerprint;
use crate::process::{self, cargo, command, output, path_with_npm, run, say};
use crate::project::Project;

/// The target that Workers run.
pub const WASM: &str = "wasm32-unknown-unknown";
/// The oldest Node.js that wrangler and miniflare run on: major and minor version.
const NODE_MIN: (u32, u32) = (22, 12);
const NO_RUSTUP: &str = "Install rustup as https://rustup.rs says, then run the same command again.";
const NO_NPM: &str =
    "Install Node.js with npm (https://nodejs.org, any version from 20 on), then run the same command again.";

/// What was found or installed.
pub struct Toolchain {
    /// A nightly compiler with `rust-src` is there: the release build can unwind, so that a panic ends only its own call.
    pub unwinds: bool,
}

/// `cargo xtask toolchain [--again]`.
pub fn toolchain_command(project: &Project, mut arguments: Arguments) -> Result<()> {
    if arguments.flag("--again") {
        let _ = fs::remove_file(stamp(project));
    }
    arguments.end()?;
    let toolchain = ensure(project)?;
    say(if toolchain.unwinds {
        "everything is there"
    } else {
        "everything is there, except a nightly compiler"
    });
    Ok(())
}

/// Makes sure of everything; quick when nothing changed since the last time.
pub fn ensure(project: &Project) -> Result<Toolchain> {
    let versions = format!("{} {}", project.worker_version(), project.wasm_bindgen_version());
    let wanted = fingerprint::of(&project.root, &["package-lock.json"], &versions)?;
    if let Some(toolchain) = remembered(project, &wanted) {
        return Ok(toolchain);
    }
    fs::create_dir_all(project.tools())?;
    wasm_target(project)?;
    let unwinds = nightly(project);
    npm_packages(project)?;
    node_works(project)?;
    worker_build(project)?;
    let found = json!({ "fingerprint": wanted, "unwinds": unwinds });
    fs::write(stamp(project), found.to_string())?;
    Ok(Toolchain { unwinds })
}

fn stamp(project: &Project) -> std::path::PathBuf {
    project.tools().join("toolchain.json")
}

fn remembered(project: &Project, wanted: &str) -> Option<Toolchain> {
    let found: Value = serde_json::from_str(&fs::read_to_string(stamp(project)).ok()?).ok()?;
    let there = project.tool("worker-build").exists() && project.root.join("node_modules/miniflare").exists();
    (there && found["fingerprint"] == wanted).then(|| Toolchain {
        unwinds: found["unwinds"] == true,
    })
}

/// The wasm32 standard library for the compiler that builds this repository.
fn wasm_target(project: &Project) -> Result<()> {
    let directory = output(Command::new("rustc").args(["--print", "target-libdir", "--target", WASM]));
    if directory.is_some_and(|directory| has_std(Path::new(&directory))) {
        say(format!("{WASM}: there"));
        return Ok(());
    }
    say(format!("{WASM}: rustup target add"));
    let remedy = format!("This compiler has no standard library for {WASM}. {NO_RUSTUP}");
    run(command(project, "rustup").args(["target", "add", WASM]), &remedy)
}

fn has_std(directory: &Path) -> bool {
    let names = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name());
    names
        .into_iter()
        .any(|name| name.to_string_lossy().starts_with("libstd-"))
}

/// Whether a nightly compiler with the sources of the standard library is there, or could be installed.
fn nightly(project: &Project) -> bool {
    let there = || {
        let installed = output(Command::new("rustup").args(["toolchain", "list"]))?;
        installed.lines().find(|line| line.starts_with("nightly"))?;
        output(Command::new("rustc").args(["+nightly", "--print", "sysroot"]))
    };
    let has_source = |root: &str| {
        Path::new(root)
            .join("lib/rustlib/src/rust/library/std/Cargo.toml")
            .exists()
    };
    if there().is_some_and(|root| has_source(&root)) {
        say("nightly with rust-src: there");
        return true;
    }
    say("nightly with rust-src: rustup toolchain install (the release build unwinds with it)");
    let mut install = command(project, "rustup");
    install.args([
        "toolchain",
        "install",
        "nightly",
        "--profile",
        "minimal",
        "--component",
        "rust-src",
        "--target",
        WASM,
    ]);
    if run(&mut install, NO_RUSTUP).is_ok() && there().is_some_and(|root| has_source(&root)) {
        return true;
    }
    say(
        "no nightly compiler can be had: the bundle is built without unwinding, so a panic ends every request of its isolate instead of one (`cargo xtask toolchain --again` looks again)",
    );
    false
}

/// The npm packages of package-lock.json, when they are not installed as it says.
fn npm_packages(project: &Project) -> Result<()> {
    let wanted = fingerprint::of(&project.root, &["package-lock.json"], "")?;
    let stamp = project.root.join("node_modules/.tidegate-lock");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        say("npm packages: there");
        return Ok(());
    }
    say("npm packages (wrangler, workerd, Node.js, esbuild): npm ci");
    run(
        command(project, npm()).args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]),
        NO_NPM,
    )?;
    fs::write(stamp, wanted)?;
    Ok(())
}

/// The command of npm.
pub fn npm() -> &'static str {
    if cfg!(windows) { "npm.cmd" } else { "npm" }
}

/// Makes sure that Node.js, workerd and esbuild start. npm may refuse to run the scripts that put them in place.
fn node_works(project: &Project) -> Result<()> {
    if node_version(project).is_none() {
        say("Node.js 22: its npm package's own installer (npm leaves install scripts out)");
        let mut install = command(project, "node");
        install
            .current_dir(project.root.join("node_modules/node"))
            .arg("installArchSpecificPackage.js");
        run(&mut install, NO_NPM)
            .context("Node.js 22 could not be installed from npm; install Node.js 22.12 or newer")?;
    }
    let version = node_version(project).context("Node.js does not start; install Node.js 22.12 or newer")?;
    if version < NODE_MIN {
        bail!(
            "Node.js {}.{} is too old; install Node.js {}.{} or newer",
            version.0,
            version.1,
            NODE_MIN.0,
            NODE_MIN.1
        );
    }
    for name in ["workerd", "esbuild"] {
        let mut program = command(project, project.npm_bin(name));
        output(program.arg("--version").env("PATH", path_with_npm(project))).with_context(|| {
            format!("{name} from npm does not start on this machine; delete node_modules and run `cargo xtask toolchain --again`")
        })?;
    }
    say(format!(
        "Node.js {}.{}, workerd, esbuild: they start",
        version.0, version.1
    ));
    Ok(())
}

fn node_version(project: &Project) -> Option<(u32, u32)> {
    let printed = output(command(project, process::node_program(project)).arg("--version"))?;
    let mut numbers = printed
        .strip_prefix('v')?
        .split('.')
        .map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// `worker-build`, which knows how a Rust crate becomes a Worker, of the version of the crate `worker`.
fn worker_build(project: &Project) -> Result<()> {
    install(project, "worker-build", "worker-build", &project.worker_version())
}

/// The `wasm-bindgen` of exactly the library's version, where `worker-build` may not download it.
pub fn wasm_bindgen(project: &Project) -> Result<()> {
    install(
        project,
        "wasm-bindgen",
        "wasm-bindgen-cli",
        &project.wasm_bindgen_version(),
    )
}

/// `cargo-deny`, for `cargo xtask test`.
pub fn cargo_deny(project: &Project, version: &str) -> Result<()> {
    install(project, "cargo-deny", "cargo-deny", version)
}

/// `cargo-fuzz`, for `cargo xtask fuzz`.
pub fn cargo_fuzz(project: &Project, version: &str) -> Result<()> {
    install(project, "cargo-fuzz", "cargo-fuzz", version)
}

/// Builds `name` of `package` from crates.io unless it is there in this version.
fn install(project: &Project, name: &str, package: &str, version: &str) -> Result<()> {
    let is = |printed: String| {
        printed.split_whitespace().last().is_some_and(|last| last == version)
            || printed.split_whitespace().any(|word| word == version)
    };
    if output(Command::new(project.tool(name)).arg("--version")).is_some_and(is) {
        say(format!("{name} {version}: there"));
        return Ok(());
    }
    say(format!("{name} {version}: building it from crates.io, a few minutes"));
    let mut install = cargo(project);
    install
        .args(["install", "--quiet", "--force", package, "--version", version, "--root"])
        .arg(project.tools());
    install.arg("--target-dir").arg(project.root.join("target/tools-build"));
    // The tool is built whatever this build is tuned with, and to be there soon rather than to be fast: it works for seconds.
    install.env_remove("RUSTFLAGS").env_remove("CARGO_TARGET_DIR");
    install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    run(&mut install, NO_RUSTUP).with_context(|| format!("{name} {version} could not be installed"))
}

/// The runner of wasm tests: built here, or part of what `worker-build` downloaded.
pub fn wasm_test_runner(project: &Project) -> Result<std::path::PathBuf> {
    let own = project.tool("wasm-bindgen-test-runner");
    if !own.exists() {
        wasm_bindgen(project)?;
    }
    Ok(own)
}
