//! A Redis of the benchmark's own: on 127.0.0.1 and a free port, with its append-only file where Tidegate has its state.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::server;

const PROGRAM: &str = "redis-server";
const START: Duration = Duration::from_secs(10);
const STOP: Duration = Duration::from_secs(4);
/// Between the choice of a port and its use another process can take it.
const STARTS_MAX: usize = 5;

/// When Redis syncs its append-only file.
#[derive(Clone, Copy)]
pub enum Sync {
    /// Once a second: a crash of the machine loses the last second of what was acknowledged. What most people run.
    EverySecond,
    /// Before each answer, as Tidegate commits.
    Always,
}

/// A running server. Dropping it ends it and removes its state.
pub struct Redis {
    process: Child,
    /// Where it listens.
    pub port: u16,
    _state: TempDir,
}

impl Redis {
    /// Starts a server with nothing in it.
    pub fn start(sync: Sync) -> Result<Self> {
        for _ in 0..STARTS_MAX {
            let mut redis = Self::launch(sync)?;
            if redis.answers()? {
                return Ok(redis);
            }
        }
        bail!("{PROGRAM} ends as soon as it is started");
    }

    fn launch(sync: Sync) -> Result<Self> {
        let state = server::state()?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let sync = match sync {
            Sync::EverySecond => "everysec",
            Sync::Always => "always",
        };
        let mut command = Command::new(PROGRAM);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", sync, "--dir"]);
        let process = command
            .arg(state.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("{PROGRAM} does not start: `cargo xtask bench jobs` installs it"))?;
        Ok(Self {
            process,
            port,
            _state: state,
        })
    }

    /// Waits until it listens. `false`: it has ended.
    fn answers(&mut self) -> Result<bool> {
        let until = Instant::now() + START;
        while Instant::now() < until {
            if self.process.try_wait()?.is_some() {
                return Ok(false);
            }
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return Ok(true);
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("{PROGRAM} does not answer");
    }

    /// The process that does the work.
    pub fn pid(&self) -> i32 {
        Pid::from_child(&self.process).as_raw_pid()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _gone = kill_process(Pid::from_child(&self.process), Signal::TERM);
        let until = Instant::now() + STOP;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// Its version, for the table.
pub fn version() -> String {
    let output = Command::new(PROGRAM).arg("--version").output();
    let text = output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    );
    let word = text.split(' ').find_map(|word| word.strip_prefix("v="));
    word.unwrap_or("of an unknown version").to_owned()
}
