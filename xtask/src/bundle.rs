//! The bundle: the Worker as wasm with its JavaScript glue, built by `worker-build`.

use std::fs::{self, File, TryLockError};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::arguments::Arguments;
use crate::process::{command, node_program, path_with_npm, run, say};
use crate::project::Project;
use crate::{classes, fingerprint, order, toolchain, wasm};

/// What a bundle is made from.
pub const SOURCES: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "build.rs",
    "docs/reference/openapi.json",
    "src",
    "durable_objects",
    "shared",
    "wrangler.toml",
];
/// Changing the way a bundle is built makes every bundle out of date.
const RECIPE: &str = "6";
/// The module that the platform loads first. It is no part of what `worker-build` makes.
const ENTRY: (&str, &str) = ("src/entry.mjs", "entry.mjs");

/// How much time goes into the bundle.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// For the inner loop: little optimisation, large, quick to build.
    Quick,
    /// What is deployed and measured.
    Release,
}

impl Kind {
    /// The folder of the bundle, which holds `entry.mjs`, `index.js` and `index_bg.wasm`.
    pub fn directory(self, project: &Project) -> PathBuf {
        project.root.join(self.folder())
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Quick => "build/quick",
            Self::Release => "build",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Release => "release",
        }
    }
}

/// `cargo xtask build [--quick|--release]`.
pub fn build_command(project: &Project, mut arguments: Arguments) -> Result<()> {
    let quick = arguments.flag("--quick");
    if arguments.flag("--release") && quick {
        bail!("--quick and --release are two different bundles; choose one");
    }
    arguments.end()?;
    build(project, if quick { Kind::Quick } else { Kind::Release })
}

/// Builds the bundle unless it is there as the sources are now. One build runs at a time; others wait for it.
pub fn build(project: &Project, kind: Kind) -> Result<()> {
    let toolchain = toolchain::ensure(project)?;
    let _lock = lock(project)?;
    let recipe = format!("{RECIPE} {} {}", kind.name(), toolchain.unwinds);
    let wanted = fingerprint::of(&project.root, SOURCES, &recipe)?;
    let stamp = kind.directory(project).join("fingerprint");
    let directory = kind.directory(project);
    let there = [ENTRY.1, "index.js", "index_bg.wasm"]
        .iter()
        .all(|name| directory.join(name).exists());
    if there && fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    say(format!("building the {} bundle into {}/", kind.name(), kind.folder()));
    let started = Instant::now();
    let _ = fs::remove_file(&stamp);
    if !run_worker_build(project, kind, toolchain.unwinds)? {
        say("wasm-bindgen could not be downloaded; the same tool comes from crates.io");
        toolchain::wasm_bindgen(project)?;
        if !run_worker_build(project, kind, toolchain.unwinds)? {
            bail!("worker-build needs a download that is refused here, and it is not wasm-bindgen");
        }
    }
    if kind == Kind::Release {
        shrink(project, &directory.join("index_bg.wasm"))?;
    }
    classes::check(&project.root, &directory)?;
    fs::copy(project.root.join(ENTRY.0), directory.join(ENTRY.1)).context("cannot copy the entry of the bundle")?;
    fs::write(&stamp, wanted)?;
    let bytes = fs::metadata(directory.join("index_bg.wasm"))?.len();
    say(format!(
        "bundle: {} KiB of wasm, after {:.1} s",
        bytes / 1024,
        started.elapsed().as_secs_f32()
    ));
    Ok(())
}

/// Held while a bundle is written; the system lets go of it when the process ends, however it ends.
fn lock(project: &Project) -> Result<File> {
    let path = project.target.join("bundle.lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        say("another build is running; waiting for it");
        file.lock()?;
    }
    Ok(file)
}

/// Runs `worker-build`. `false`: a tool could not be downloaded.
fn run_worker_build(project: &Project, kind: Kind, unwinds: bool) -> Result<bool> {
    let mut build = worker_build(project, kind, unwinds);
    let mut child = build
        .stderr(Stdio::piped())
        .spawn()
        .context("worker-build could not be started")?;
    let refused = AtomicBool::new(false);
    relay(&mut child, &refused);
    let status = child.wait()?;
    if refused.load(Ordering::Relaxed) {
        return Ok(false);
    }
    if !status.success() {
        bail!("the bundle could not be built (see above)");
    }
    Ok(true)
}

fn worker_build(project: &Project, kind: Kind, unwinds: bool) -> Command {
    let mut build = command(project, project.tool("worker-build"));
    build.args(["--out-dir", kind.folder()]);
    if unwinds {
        build.arg("--panic-unwind");
    }
    if unwinds && kind == Kind::Release {
        build.envs(LESS_OF_STD).env("RUSTFLAGS", without_debug_texts());
    }
    match kind {
        // `worker-build` would inline, and order functions by how often they are called: smaller, but larger once it is gzipped.
        Kind::Release => build.args(["--release", "--no-opt"]),
        Kind::Quick => build.args(["--dev", "--no-opt"]).envs([
            // Unoptimised wasm is several times as large and slow to load; the first level costs little time.
            ("CARGO_PROFILE_DEV_OPT_LEVEL", "1"),
            ("CARGO_PROFILE_DEV_DEBUG", "false"),
            // Not "symbols": wasm-bindgen reads the target's features from a section that goes with them.
            ("CARGO_PROFILE_DEV_STRIP", "debuginfo"),
        ]),
    };
    build.env("PATH", path_with_npm(project)).env("RUST_BACKTRACE", "0");
    build.env("ESBUILD_BIN", project.npm_bin("esbuild"));
    let bindgen = project.tool("wasm-bindgen");
    if is_version(&bindgen, &project.wasm_bindgen_version()) {
        build.env("WASM_BINDGEN_BIN", bindgen);
    }
    build
}

/// How the standard library is built, where the nightly compiler that unwinds builds it: for size where it has the choice, and
/// without the reader of backtraces, of which wasm has none.
const LESS_OF_STD: [(&str, &str); 2] = [
    ("RUSTUP_TOOLCHAIN", "nightly"),
    ("CARGO_UNSTABLE_BUILD_STD_FEATURES", "panic-unwind,optimize_for_size"),
];

/// The flags of the release build: no fields in texts for debugging, which nothing here shows to anybody, and no places in panics, whose
/// messages and stacks the log has all the same.
fn without_debug_texts() -> String {
    let others = std::env::var("RUSTFLAGS").unwrap_or_default();
    format!("{others} -Zlocation-detail=none -Zfmt-debug=shallow")
        .trim()
        .to_owned()
}

/// What of WebAssembly the module may use.
const FEATURES: &[&str] = &[
    "--enable-bulk-memory",
    "--enable-exception-handling",
    "--enable-multivalue",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
];
/// Of what makes modules small, these make them compress worse, by far more than they save.
const LEFT_OUT: &[&str] = &[
    "--skip-pass=inlining",
    "--skip-pass=inlining-optimizing",
    "--skip-pass=local-cse",
    "--skip-pass=memory-packing",
    "--skip-pass=reorder-functions",
    "--skip-pass=ssa-nomerge",
];

/// Makes the module at `path` compress well: less code, what is alike side by side ([`order`]), and no names.
fn shrink(project: &Project, path: &Path) -> Result<()> {
    let begun = Instant::now();
    let partly = path.with_extension("partly");
    let wasm_opt = |passes: &[&str], from: &Path, to: &Path| {
        let mut optimise = command(project, node_program(project));
        // It walks functions by recursion, and some of ours nest deeper than the usual stack of Node.js, a megabyte, has room for.
        optimise.arg("--stack-size=3900");
        optimise.arg(project.root.join("node_modules/binaryen/bin/wasm-opt"));
        optimise.args(FEATURES).args(passes).arg(from).arg("-o").arg(to);
        run(&mut optimise, "wasm-opt could not make the module smaller.")
    };
    wasm_opt(&[&["-Oz"], LEFT_OUT].concat(), path, &partly)?;
    let module = fs::read(&partly).with_context(|| format!("cannot read {}", partly.display()))?;
    let named = order::name_by_order(&module).context("wasm-opt has written what is no module")?;
    fs::write(&partly, named).with_context(|| format!("cannot write {}", partly.display()))?;
    wasm_opt(&["--reorder-functions-by-name"], &partly, path)?;
    let module = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    fs::write(&partly, wasm::without_names(&module)?).with_context(|| format!("cannot write {}", partly.display()))?;
    // Of the functions in their new order, without names, the same passes find what they had left: a fortieth of what is sent. A
    // second time before this step they find nothing.
    wasm_opt(&[&["-Oz"], LEFT_OUT].concat(), &partly, path)?;
    fs::remove_file(&partly).with_context(|| format!("cannot remove {}", partly.display()))?;
    say(format!("made smaller in {:.1} s", begun.elapsed().as_secs_f32()));
    Ok(())
}

fn is_version(program: &Path, version: &str) -> bool {
    let printed = crate::process::output(Command::new(program).arg("--version"));
    printed.is_some_and(|printed| printed.split_whitespace().any(|word| word == version))
}

/// Passes on what `child` says, until it ends. A refused download, which it would try again for half a minute, ends it.
fn relay(child: &mut Child, refused: &AtomicBool) {
    let Some(stderr) = child.stderr.take() else { return };
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line);
                if line.contains("Failed to download") {
                    refused.store(true, Ordering::Relaxed);
                    return;
                }
                eprintln!("{line}");
            }
        });
        let _ = reader.join();
    });
    if refused.load(Ordering::Relaxed) {
        let _ = child.kill();
    }
}
