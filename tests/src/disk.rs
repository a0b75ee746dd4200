//! A disk of a size that can be filled: a file system in memory, mounted where a server keeps its state.
//!
//! Not everybody may mount. For whoever may not, the system is told to let workerd write nothing any more, which is the next
//! best: its writes fail with another code.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What fills the disk.
const BALLAST: &str = "ballast";

/// Where a server keeps its state, with room or without.
pub struct SmallDisk {
    path: PathBuf,
    is_mounted: bool,
}

impl SmallDisk {
    /// One of `bytes` at `path`, which is made.
    ///
    /// # Panics
    /// Where it cannot be.
    pub fn new(path: PathBuf, bytes: u64) -> Self {
        fs::create_dir(&path).expect("a folder for the state");
        let may_mount = std::env::var_os("TIDEGATE_MOUNT").is_none_or(|may| may != "0");
        let is_mounted = may_mount && mount(&path, bytes);
        if !is_mounted {
            eprintln!("no disk can be mounted: workerd is forbidden to write instead");
        }
        Self { path, is_mounted }
    }

    /// A program to start instead of `workerd`, where it will be forbidden to write: a write that is too much should fail,
    /// and not end the process.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn program(&self, workerd: &Path) -> Option<PathBuf> {
        if self.is_mounted {
            return None;
        }
        let program = self.path.join("workerd-that-may-not-write");
        let script = format!("#!/bin/sh\ntrap '' XFSZ\nexec '{}' \"$@\"\n", workerd.display());
        fs::write(&program, script).expect("a script");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a script that runs");
        Some(program)
    }

    /// Takes all the room that is left, to the last byte.
    ///
    /// # Panics
    /// Where the disk fails in another way than by being full.
    pub fn fill(&self, workerd_pid: u64) {
        if !self.is_mounted {
            return limit(workerd_pid, "1");
        }
        let mut ballast = File::create(self.path.join(BALLAST)).expect("a file on the disk");
        for bytes in [1 << 20, 4096, 1] {
            let chunk = vec![0; bytes];
            loop {
                match ballast.write(&chunk) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("the disk fails: {error}"),
                }
            }
        }
    }

    /// Gives the room back.
    ///
    /// # Panics
    /// Where it was not filled.
    pub fn free(&self, workerd_pid: u64) {
        if self.is_mounted {
            fs::remove_file(self.path.join(BALLAST)).expect("it was filled");
        } else {
            limit(workerd_pid, "unlimited");
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.is_mounted {
            unmount(&self.path);
        }
    }
}

fn mount(path: &Path, bytes: u64) -> bool {
    let size = format!("size={bytes},mode=700");
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &size, "tidegate-tests"]).arg(path);
    mount
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Takes away what may be mounted at `path`, also while something still holds a file of it.
pub fn unmount(path: &Path) {
    let mut umount = Command::new("umount");
    umount.arg("--lazy").arg(path);
    // Mostly nothing is mounted there.
    let _ = umount.stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// How large a process may make a file. What it may raise its limit to is left as it is.
fn limit(pid: u64, bytes: &str) {
    let mut prlimit = Command::new("prlimit");
    prlimit.args(["--pid", &pid.to_string(), &format!("--fsize={bytes}:")]);
    let limited = prlimit.status().expect("prlimit, of util-linux");
    assert!(limited.success(), "the limit of process {pid} cannot be set");
}
