//! The built Worker on workerd: `serve` becomes the server, `dev` keeps one beside it and rebuilds.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::arguments::Arguments;
use crate::bundle::{self, Kind, SOURCES};
use crate::process::{node, say};
use crate::project::Project;
use crate::{fingerprint, secrets};

/// How often `dev` looks for changes.
const POLL: Duration = Duration::from_millis(300);
/// How long a reload may take.
const RELOAD: Duration = Duration::from_secs(30);

/// What a server is started with.
pub struct Options {
    /// 0: any free port.
    pub port: u16,
    /// Where state is kept; `None`: `.tidegate/state`.
    pub state: Option<PathBuf>,
    /// `Some(0)`: any free port; `None`: no control server.
    pub control_port: Option<u16>,
    /// The file of the secrets; `None`: `.dev.vars`.
    pub vars: Option<PathBuf>,
    /// Goes on when the process that started it ends.
    pub outlive_parent: bool,
    /// The bundle to serve.
    pub kind: Kind,
    /// Where its log goes; `None`: to the terminal.
    pub log: Option<File>,
}

impl Options {
    /// Takes the options of `serve` from the command line.
    fn take(arguments: &mut Arguments) -> Result<Self> {
        Ok(Self {
            port: arguments.value("--port")?.unwrap_or(8787),
            state: arguments.value("--state")?,
            control_port: arguments.value("--control-port")?,
            vars: arguments.value("--vars")?,
            outlive_parent: arguments.flag("--outlive-parent"),
            kind: if arguments.flag("--quick") {
                Kind::Quick
            } else {
                Kind::Release
            },
            log: None,
        })
    }

    fn command(&self, project: &Project) -> Result<Command> {
        let mut server = node(project, "harness/serve.mjs");
        server.stdout(Stdio::inherit()).arg("--port").arg(self.port.to_string());
        server.arg("--bundle").arg(self.kind.directory(project));
        for (name, path) in [("--state", &self.state), ("--vars", &self.vars)] {
            if let Some(path) = path {
                server.arg(name).arg(std::path::absolute(path)?);
            }
        }
        if let Some(port) = self.control_port {
            server.arg("--control-port").arg(port.to_string());
        }
        if let Some(log) = &self.log {
            server.stderr(log.try_clone()?);
        }
        if self.outlive_parent {
            server.arg("--outlive-parent");
        }
        Ok(server)
    }
}

/// `cargo xtask serve`: builds, then becomes the server, so that a signal to this process reaches it.
pub fn serve(project: &Project, mut arguments: Arguments) -> Result<()> {
    let options = Options::take(&mut arguments)?;
    let no_build = arguments.flag("--no-build");
    arguments.end()?;
    if !no_build {
        bundle::build(project, options.kind)?;
    }
    if options.vars.is_none() {
        secrets::ensure(project)?;
    }
    become_process(options.command(project)?)
}

#[cfg(unix)]
fn become_process(mut command: Command) -> Result<()> {
    use std::os::unix::process::CommandExt;
    Err(anyhow!("the server could not be started: {}", command.exec()))
}

#[cfg(not(unix))]
fn become_process(mut command: Command) -> Result<()> {
    let status = command.status()?;
    if status.success() {
        Ok(())
    } else {
        Err(anyhow!("the server ended ({status})"))
    }
}

/// A running server. It ends by itself when this process does.
pub struct Server {
    child: Child,
    /// Where clients reach it.
    pub url: String,
    control_url: Option<String>,
}

impl Server {
    /// Starts a server and waits until it answers.
    pub fn start(project: &Project, options: &Options) -> Result<Self> {
        let mut command = options.command(project)?;
        if options.log.is_none() {
            command.env("TIDEGATE_LOG", "info");
            if std::env::var_os("TIDEGATE_REQUEST_LOG").is_none() {
                // Whoever develops wants to see each request, not a sample of them.
                command.env("TIDEGATE_REQUEST_LOG", "all");
            }
        }
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .context("the server did not start")?;
        let stdout = child.stdout.take().context("the server has no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let ready: Value = serde_json::from_str(&line).map_err(|_| anyhow!("the server did not start"))?;
        let text = |name: &str| ready[name].as_str().map(str::to_owned);
        Ok(Self {
            child,
            url: text("url").context("the server names no address")?,
            control_url: text("control_url"),
        })
    }

    /// Whether it is still there.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Result<()> {
        self.child.wait()?;
        Ok(())
    }

    /// Lets it take in the bundle anew.
    fn reload(&self) -> Result<()> {
        let address = self.control_url.as_deref().and_then(|url| url.strip_prefix("http://"));
        let address: SocketAddr = address.context("the server has no control port")?.parse()?;
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(RELOAD))?;
        write!(
            stream,
            "POST /reload HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if !answer.starts_with("HTTP/1.1 200") {
            bail!(
                "the server could not reload: {}",
                answer.lines().last().unwrap_or_default()
            );
        }
        Ok(())
    }
}

/// `cargo xtask dev`: build, serve, rebuild on change, until Ctrl-C.
pub fn dev(project: &Project, mut arguments: Arguments) -> Result<()> {
    let kind = if arguments.flag("--release") {
        Kind::Release
    } else {
        Kind::Quick
    };
    let port = arguments.value("--port")?.unwrap_or(8787);
    arguments.end()?;
    let options = Options {
        port,
        state: None,
        control_port: Some(0),
        vars: None,
        outlive_parent: false,
        kind,
        log: None,
    };
    // Looked at before the build, so that a change during it is not overlooked.
    let mut seen = fingerprint::last_change(&project.root, SOURCES)?;
    bundle::build(project, kind)?;
    secrets::ensure(project)?;
    let mut server = Server::start(project, &options)?;
    if let Err(error) = crate::demo::introduce(project, &server.url) {
        say(format!(
            "serving at {}, without the command to use it with: {error:#}",
            server.url
        ));
    }
    say("watching for changes; Ctrl-C ends it");
    while server.runs() {
        thread::sleep(POLL);
        let now = fingerprint::last_change(&project.root, SOURCES)?;
        if now == seen {
            continue;
        }
        seen = now;
        match bundle::build(project, kind).and_then(|()| server.reload()) {
            Ok(()) => say(format!("serving the new bundle at {}", server.url)),
            Err(error) => eprintln!("\x1b[31merror:\x1b[0m {error:#}; the bundle before it goes on serving"),
        }
    }
    server.wait()
}
