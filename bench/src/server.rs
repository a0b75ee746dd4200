//! The two servers: the built Worker, and the baseline. Each is a Node.js process with workerd below it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::Http;
use crate::token::Issuer;

/// Memory as a file system, where the machine has it.
const TMPFS: &str = "/dev/shm";
/// Whose the requests are, where it does not matter.
const USER: &str = "bench";
/// How long a server may take to start.
const START: Duration = Duration::from_secs(60);
/// How long a server may take to end by itself.
const STOP: Duration = Duration::from_secs(4);

/// Where load goes: an address, and what the upgrade has to carry.
#[derive(Clone)]
pub struct Target {
    /// `ws://…`.
    pub url: String,
    /// The bearer token, where the server asks for one.
    pub token: Option<String>,
    /// The process that does the work.
    pub workerd_pid: i32,
}

/// The built Worker.
pub struct System {
    process: Process,
    issuer: Issuer,
}

/// The bare JavaScript objects.
pub struct Baseline(Process);

struct Process {
    node: Child,
    ready: Value,
    /// Removed when the server is gone.
    _state: TempDir,
}

impl System {
    /// Starts the Worker of `build/`, or of `TIDEGATE_BUNDLE`.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// The same for thousands of sockets, which all come from one machine: the platform's limit by address is set out of reach.
    pub fn start_for_many() -> Result<Self> {
        Self::start_with(&["--address-limits", "1000000"])
    }

    fn start_with(options: &[&str]) -> Result<Self> {
        let bundle = env::var_os("TIDEGATE_BUNDLE").map_or_else(|| root().join("build"), |path| root().join(path));
        if !bundle.join("index_bg.wasm").exists() {
            bail!(
                "there is no bundle in {}: `cargo xtask build` makes one",
                bundle.display()
            );
        }
        let issuer = Issuer::new()?;
        let state = state()?;
        let vars = state.path().join("vars");
        issuer.write_vars(&vars)?;
        let mut command = node("harness/serve.mjs")?;
        command.args(["--port", "0", "--control-port", "0"]).args(options);
        command.arg("--vars").arg(vars).arg("--bundle").arg(bundle);
        Ok(Self {
            process: Process::start(command, state)?,
            issuer,
        })
    }

    /// The socket of a user of `tenant`.
    pub fn target(&self, tenant: &str) -> Result<Target> {
        let token = Some(self.issuer.token(tenant, USER)?);
        Ok(Target {
            token,
            ..self.process.target("/v1/connect")?
        })
    }

    /// A connection of a user of `tenant`.
    pub async fn http(&self, tenant: &str) -> Result<Http> {
        let url = self.process.text("url")?;
        let address = url.strip_prefix("http://").context("an address")?;
        Http::open(address, &self.issuer.token(tenant, USER)?).await
    }

    /// A token of `user`.
    pub fn token(&self, tenant: &str, user: &str) -> Result<String> {
        self.issuer.token(tenant, user)
    }

    /// Activates `document` for `tenant`.
    pub async fn compose(&self, tenant: &str, document: &Value) -> Result<()> {
        let mut http = self.http(tenant).await?;
        http.json("PUT", "/v1/admin/composition", &document.to_string()).await?;
        Ok(())
    }

    /// What an object of the Worker answers to `GET path`.
    pub async fn ask(&self, class: &str, name: &str, path: &str) -> Result<String> {
        let url = self.process.text("control_url")?;
        let address = url.strip_prefix("http://").context("a control address")?;
        let mut stream = TcpStream::connect(address).await?;
        let request = format!(
            "GET /object?class={class}&name={name}&path={path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let body: Value = answer
            .lines()
            .find_map(|line| line.starts_with('{').then(|| serde_json::from_str(line)))
            .with_context(|| format!("the control server answered: {answer}"))??;
        let text = body.get("text").and_then(Value::as_str);
        match body.get("status").and_then(Value::as_u64) {
            Some(200) => Ok(text.unwrap_or_default().to_owned()),
            _ => bail!("{class} {name} answered: {body}"),
        }
    }
}

impl Baseline {
    /// Starts the baseline objects.
    pub fn start() -> Result<Self> {
        Ok(Self(Process::start(node("bench/baseline/serve.mjs")?, state()?)?))
    }

    /// Starts the object of `bench/baseline/realtime/<name>.mjs`.
    pub fn realtime(name: &str) -> Result<Self> {
        let mut command = node("bench/baseline/serve.mjs")?;
        command.args(["--realtime", name]);
        Ok(Self(Process::start(command, state()?)?))
    }

    /// Starts a server that is a program of its own.
    pub fn program(path: &Path) -> Result<Self> {
        Ok(Self(Process::start(Command::new(path), state()?)?))
    }

    /// The socket of the baseline `name`.
    pub fn target(&self, name: &str) -> Result<Target> {
        self.0.target(&format!("/{name}"))
    }
}

impl Process {
    fn start(mut command: Command, state: TempDir) -> Result<Self> {
        let log = fs::File::create(state.path().join("server.log"))?;
        command.arg("--state").arg(state.path().join("state"));
        let mut node = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let stdout = node.stdout.take().context("stdout is piped")?;
        let (line, lines) = mpsc::channel();
        thread::spawn(move || {
            // Read to the end, so that the server never blocks on a full pipe.
            for text in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _nobody_listens = line.send(text);
            }
        });
        let line = lines.recv_timeout(START).unwrap_or_default();
        let Ok(ready) = serde_json::from_str(&line) else {
            let log = fs::read_to_string(state.path().join("server.log")).unwrap_or_default();
            bail!("a server did not start:\n{log}");
        };
        Ok(Self {
            node,
            ready,
            _state: state,
        })
    }

    fn text(&self, name: &str) -> Result<&str> {
        let text = self.ready.get(name).and_then(Value::as_str);
        text.with_context(|| format!("the server names no {name}"))
    }

    /// The process that does the work: workerd, or a server that is its own.
    fn workerd_pid(&self) -> Option<i32> {
        let pid = self.ready.get("workerd_pid").or_else(|| self.ready.get("pid"));
        pid?.as_i64()?.try_into().ok()
    }

    fn target(&self, path: &str) -> Result<Target> {
        let url = self.text("url")?.replacen("http", "ws", 1) + path;
        let workerd_pid = self.workerd_pid().context("the server names no workerd")?;
        Ok(Target {
            url,
            token: None,
            workerd_pid,
        })
    }

    fn runs(&mut self) -> bool {
        matches!(self.node.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.runs() {
            let _gone = kill_process(Pid::from_child(&self.node), Signal::TERM);
        }
        let until = Instant::now() + STOP;
        while self.runs() && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
        if self.runs() {
            if let Some(workerd) = self.workerd_pid().and_then(Pid::from_raw) {
                let _gone = kill_process(workerd, Signal::KILL);
            }
            let _gone = self.node.kill();
            let _reaped = self.node.wait();
        }
    }
}

/// A directory that is gone with its server.
pub fn state() -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("tidegate-bench-");
    let directory = if on_tmpfs() {
        builder.tempdir_in(TMPFS)
    } else {
        builder.tempdir()
    };
    directory.context("no directory for the state")
}

/// Whether the state of the servers lies in memory.
pub fn on_tmpfs() -> bool {
    Path::new(TMPFS).is_dir()
}

/// The repository.
pub fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_path_buf()
}

/// Node.js from npm with `script`.
pub fn node(script: &str) -> Result<Command> {
    let program = root().join("node_modules/.bin/node");
    if !program.exists() {
        bail!("{} is missing: `npm ci` brings it", program.display());
    }
    let mut node = Command::new(program);
    node.arg(root().join(script)).current_dir(root());
    // What the machine's user has set is none of a benchmark's.
    for name in ["TIDEGATE_ISSUERS", "TIDEGATE_DEPLOYMENT_KEY", "TIDEGATE_BUNDLE"] {
        node.env_remove(name);
    }
    node.env("TIDEGATE_LOG", "info");
    Ok(node)
}
