//! Where things are in this repository.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result};

/// The version of a crate when Cargo.lock does not name it yet.
const WORKER_VERSION: &str = "0.8.7";
const WASM_BINDGEN_VERSION: &str = "0.2.130";

/// The repository and its directories.
pub struct Project {
    /// The folder of the workspace's Cargo.toml.
    pub root: PathBuf,
    /// Cargo's target directory: of this workspace, or what `CARGO_TARGET_DIR` says.
    pub target: PathBuf,
}

impl Project {
    /// The repository that this command was started in, by cargo.
    pub fn find() -> Result<Self> {
        let manifest =
            env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        let root = manifest
            .parent()
            .context("xtask has to lie in a folder of the workspace")?
            .to_path_buf();
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |path| root.join(path));
        fs::create_dir_all(&target).with_context(|| format!("cannot create {}", target.display()))?;
        Ok(Self { root, target })
    }

    /// Command-line tools that are built from crates.io, shared by all target directories.
    pub fn tools(&self) -> PathBuf {
        self.root.join("target/tools")
    }

    /// A tool of [`Self::tools`].
    pub fn tool(&self, name: &str) -> PathBuf {
        self.tools()
            .join("bin")
            .join(format!("{name}{}", env::consts::EXE_SUFFIX))
    }

    /// A command that an npm package brings.
    pub fn npm_bin(&self, name: &str) -> PathBuf {
        self.root.join("node_modules/.bin").join(name)
    }

    /// The version of `worker-build` that belongs to the crate `worker` in Cargo.lock.
    pub fn worker_version(&self) -> String {
        self.locked_version("worker")
            .unwrap_or_else(|| WORKER_VERSION.to_owned())
    }

    /// The version of the wasm-bindgen command: exactly that of the library in Cargo.lock.
    pub fn wasm_bindgen_version(&self) -> String {
        self.locked_version("wasm-bindgen")
            .unwrap_or_else(|| WASM_BINDGEN_VERSION.to_owned())
    }

    fn locked_version(&self, package: &str) -> Option<String> {
        let lock = fs::read_to_string(self.root.join("Cargo.lock")).ok()?;
        version_in(&lock, package)
    }

    /// `path` as it reads from the root, for messages.
    pub fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }
}

fn version_in(lock: &str, package: &str) -> Option<String> {
    let mut lines = lock.lines();
    lines.find(|line| *line == format!("name = \"{package}\""))?;
    Some(
        lines
            .next()?
            .strip_prefix("version = \"")?
            .trim_end_matches('"')
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::version_in;

    #[test]
    fn a_version_is_read_from_the_lock_file_by_exact_name() {
        let lock = "[[package]]\nname = \"worker-macros\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"worker\"\nversion = \"0.8.7\"\n";
        assert_eq!(version_in(lock, "worker").as_deref(), Some("0.8.7"));
        assert_eq!(version_in(lock, "wasm-bindgen"), None);
    }
}
