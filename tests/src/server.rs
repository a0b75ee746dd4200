//! A server of the tests' own: the built bundle on workerd, with its state in a temporary directory, killable as a whole.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process};
use serde_json::{Value, json};

use crate::disk::{SmallDisk, unmount};
use crate::phases::Phases;
use crate::{SOON, http, token};

/// How long a start may take before it counts as failed.
const START: Duration = Duration::from_secs(60);
/// How long the servers of one run may live. A run that hangs ends here, and its servers with it.
const RUN: Duration = Duration::from_secs(3600);
/// What the directories of the tests are called; the rest of the name is the process id and a number.
const DIRECTORY: &str = "tidegate-tests-";

/// A running server. Dropping it kills it and removes its state.
pub struct Server {
    /// Where its state is, where that is no part of the machine's own disk. Goes before the folder that it is mounted in.
    disk: Option<SmallDisk>,
    state: tempfile::TempDir,
    running: Mutex<Option<Running>>,
    log: Arc<Log>,
    kind: Kind,
}

/// What is particular about a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    /// Its objects say what they are in the middle of.
    Traced,
    /// Its object storage can be made to fail.
    Faulty,
    /// Its state is on a disk of so many bytes.
    OnADisk(u64),
    /// Its request log is configured so.
    Logged(&'static str),
    /// Its objects tell what they count at once. Others gather it for as long as those of a deployment.
    Counting,
    /// Each of its limits by address allows so many in ten seconds. Others allow more than tests can do: all come from one address.
    Guarded(u32),
    /// It lacks this binding.
    Without(&'static str),
}

struct Running {
    node: Child,
    /// Hangs up once its log is read to the end.
    log_read: mpsc::Receiver<()>,
    workerd_pid: u64,
    url: String,
    control_url: String,
}

/// What the servers on one state directory have written to their log.
struct Log {
    file: Mutex<fs::File>,
    path: PathBuf,
    constructed: Mutex<HashMap<String, u64>>,
    /// Since the latest start.
    phases: Mutex<Phases>,
    aim: Mutex<Option<Aim>>,
}

/// A kill that waits for a line of the log.
struct Aim {
    phase: &'static str,
    after: Duration,
    group: Pid,
}

/// The server that the tests of this process share; started by the first that asks.
pub fn shared() -> Arc<Server> {
    static SHARED: OnceLock<Arc<Server>> = OnceLock::new();
    Arc::clone(SHARED.get_or_init(|| Arc::new(Server::start())))
}

impl Server {
    /// Starts a server with state of its own.
    ///
    /// # Panics
    /// Where the bundle is not built, or the server does not start.
    pub fn start() -> Self {
        Self::start_with(Kind::Plain)
    }

    /// The same, with object storage that can be made to fail: see [`Self::objects`].
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_faulty() -> Self {
        Self::start_with(Kind::Faulty)
    }

    /// The same, with `TIDEGATE_REQUEST_LOG` set to `config`.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_logged(config: &'static str) -> Self {
        Self::start_with(Kind::Logged(config))
    }

    /// The same, whose limits by address allow only so many in ten seconds.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_guarded(limit: u32) -> Self {
        Self::start_with(Kind::Guarded(limit))
    }

    /// The same, without the binding of this name.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_without(binding: &'static str) -> Self {
        Self::start_with(Kind::Without(binding))
    }

    /// The same, with its state on a disk of so many bytes.
    ///
    /// # Panics
    /// As [`Self::start`], and where no disk can be mounted.
    pub fn start_on_a_disk(bytes: u64) -> Self {
        Self::start_with(Kind::OnADisk(bytes))
    }

    /// The same, with objects that say in the log what they are in the middle of: see [`crate::phases`].
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_traced() -> Self {
        Self::start_with(Kind::Traced)
    }

    /// The same, for a deployment with these issuers beside the tests' own.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_with_issuers(issuers: &[Value]) -> Self {
        Self::start_as(Kind::Plain, issuers)
    }

    /// The same, for a deployment whose objects tell what they count, with these issuers beside the tests' own.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_counting(issuers: &[Value]) -> Self {
        Self::start_as(Kind::Counting, issuers)
    }

    fn start_with(kind: Kind) -> Self {
        Self::start_as(kind, &[])
    }

    fn start_as(kind: Kind, issuers: &[Value]) -> Self {
        static HOUSEKEEPING: OnceLock<()> = OnceLock::new();
        HOUSEKEEPING.get_or_init(|| {
            remove_leftovers();
            bound_the_run();
        });
        let prefix = format!("{DIRECTORY}{}-", std::process::id());
        let state = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir()
            .expect("a temporary directory");
        let path = state.path().join("server.log");
        let log = Log {
            file: Mutex::new(fs::File::create(&path).expect("a log file")),
            path,
            constructed: Mutex::default(),
            phases: Mutex::default(),
            aim: Mutex::default(),
        };
        write_vars(&state.path().join("vars"), issuers);
        let disk = match kind {
            Kind::OnADisk(bytes) => Some(SmallDisk::new(state.path().join("state"), bytes)),
            Kind::Plain
            | Kind::Traced
            | Kind::Faulty
            | Kind::Logged(_)
            | Kind::Counting
            | Kind::Guarded(_)
            | Kind::Without(_) => None,
        };
        let server = Self {
            disk,
            state,
            running: Mutex::new(None),
            log: Arc::new(log),
            kind,
        };
        server.run();
        server
    }

    fn run(&self) {
        let root = root();
        let bundle = std::env::var_os("TIDEGATE_BUNDLE").map_or_else(|| root.join("build"), |dir| root.join(dir));
        let harness = root.join("harness/serve.mjs");
        let node = root.join("node_modules/.bin/node");
        for (path, remedy) in [
            (bundle.join("index_bg.wasm"), "cargo xtask build"),
            (node.clone(), "npm ci"),
            (harness.clone(), "git checkout -- harness"),
        ] {
            assert!(path.exists(), "{} is missing: run `{remedy}` first", path.display());
        }
        let workerd = root.join("node_modules/.bin/workerd");
        let instead = self.disk.as_ref().and_then(|disk| disk.program(&workerd));
        let started = Command::new(node)
            .envs(instead.map(|program| ("MINIFLARE_WORKERD_PATH", program)))
            .arg(harness)
            .arg("--state")
            .arg(self.state.path().join("state"))
            .arg("--vars")
            .arg(self.state.path().join("vars"))
            .arg("--bundle")
            .arg(bundle)
            .arg("--handler")
            .arg(format!("MIRROR={}", root.join("tests/handler.mjs").display()))
            .args(["--port", "0", "--control-port", "0"])
            .args((self.kind == Kind::Traced).then_some("--trace"))
            .args((self.kind == Kind::Faulty).then_some("--faults"))
            .arg("--address-limits")
            .arg(match self.kind {
                Kind::Guarded(limit) => limit.to_string(),
                _ => "1000000".to_owned(),
            })
            .args(match self.kind {
                Kind::Without(binding) => vec!["--without", binding],
                _ => Vec::new(),
            })
            .current_dir(root)
            .env("TIDEGATE_LOOPBACK_ENDPOINTS", "allow")
            .env("TIDEGATE_AUDIT_ENTRIES", "100")
            .env(
                "TIDEGATE_USAGE_REPORT_MS",
                if self.kind == Kind::Counting { "200" } else { "10000" },
            )
            .env("TIDEGATE_TEMPLATES", templates().to_string())
            // The local server waits for an eviction without reading the log, and a log that is full makes the Worker wait.
            .env(
                "TIDEGATE_REQUEST_LOG",
                match self.kind {
                    Kind::Logged(config) => config,
                    _ => "off",
                },
            )
            .env_remove("TIDEGATE_ISSUERS")
            .env_remove("TIDEGATE_DEPLOYMENT_KEY")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that node and workerd are killed in one stroke.
            .process_group(0)
            .spawn();
        let mut node = started.expect("node starts");
        *self.log.phases() = Phases::default();
        let log_read = self.log.follow(node.stderr.take().expect("stderr is piped"));
        let (ready, is_ready) = mpsc::channel();
        let stdout = node.stdout.take().expect("stdout is piped");
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Only the first line is waited for; the rest is read so that the server never blocks on a full pipe.
                let _ = ready.send(line);
            }
        });
        let line = is_ready.recv_timeout(START).unwrap_or_else(|_| {
            kill(&mut node);
            panic!("the server did not start:\n{}", self.log.tail());
        });
        let line: Value = serde_json::from_str(&line).expect("the server's first line is JSON");
        let text = |name: &str| {
            line[name]
                .as_str()
                .unwrap_or_else(|| panic!("no `{name}` in {line}"))
                .to_owned()
        };
        let running = Running {
            node,
            log_read,
            workerd_pid: line["workerd_pid"].as_u64().expect("the process id of workerd"),
            url: text("url"),
            control_url: text("control_url"),
        };
        *self.lock() = Some(running);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The origin of its HTTP API. Changes with a restart.
    pub fn url(&self) -> String {
        self.lock().as_ref().expect("the server runs").url.clone()
    }

    /// The port that it listens on, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        let url = self.url();
        url.rsplit(':')
            .next()
            .and_then(|port| port.parse().ok())
            .expect("a port in the URL")
    }

    /// `kill -9` of node and workerd together. Every line that they had written is in the log then.
    pub fn kill(&self) {
        if let Some(mut running) = self.lock().take() {
            kill(&mut running.node);
            // The end of the log, which comes once both are gone.
            let _ = running.log_read.recv_timeout(SOON);
        }
        *self.log.aim() = None;
    }

    /// From now on, the first line that begins `phase` is the last: the server is killed the time `after` it. Whoever
    /// aims calls [`Self::kill`] all the same, at a time of its own. A traced server alone can be aimed at.
    ///
    /// # Panics
    /// Where the server does not run.
    pub fn aim(&self, phase: &'static str, after: Duration) {
        let group = group(&self.lock().as_ref().expect("the server runs").node).expect("a process id");
        *self.log.aim() = Some(Aim { phase, after, group });
    }

    /// What its objects have been in the middle of since its latest start; of a traced server.
    pub fn phases(&self) -> MutexGuard<'_, Phases> {
        self.log.phases()
    }

    /// Starts it again on the same state.
    pub fn start_again(&self) {
        self.run();
    }

    /// The same as another deployment would be: with `key` for the deployment's key, and `before` for the one before it.
    pub fn start_again_with(&self, key: &str, before: Option<&str>) {
        write_vars_with(&self.state.path().join("vars"), key, before, &[]);
        self.run();
    }

    /// Where its state and its log are.
    pub fn files(&self) -> &Path {
        self.state.path()
    }

    /// Evicts one object, keeping its sockets as the platform does when an object falls asleep; first waits for the calls
    /// that it has under way, as the platform does. `false` where it is asleep already.
    ///
    /// # Panics
    /// Where the control server refuses for any other reason.
    pub fn evict(&self, class: &str, name: &str) -> bool {
        self.evict_with(class, name, "hibernate")
    }

    /// The same with its sockets closed, as where a deployment takes its place.
    ///
    /// # Panics
    /// As [`Self::evict`].
    pub fn evict_with_its_sockets(&self, class: &str, name: &str) -> bool {
        self.evict_with(class, name, "close")
    }

    fn evict_with(&self, class: &str, name: &str, sockets: &str) -> bool {
        let control = self.lock().as_ref().expect("the server runs").control_url.clone();
        let body = json!({ "class": class, "name": name, "webSockets": sockets });
        let end = Instant::now() + SOON;
        loop {
            let answer = http::Client::new(&control, None).post("/evict", &body);
            let says = |what: &str| answer.status == 500 && answer.text().contains(what);
            let asleep = says("not currently running");
            // On a busy machine the calls it has under way take longer than the control server waits.
            if says("it still has active references") && Instant::now() < end {
                // Whoever waits for the object until it is evicted gets through now.
                thread::sleep(Duration::from_secs(1));
                continue;
            }
            assert!(answer.status == 200 || asleep, "evicting {name}: {}", answer.text());
            return !asleep;
        }
    }

    /// What the object `name` of `class` says of itself at `path`; nothing from outside can ask it.
    ///
    /// # Panics
    /// Where the control server refuses.
    pub fn ask(&self, class: &str, name: &str, path: &str) -> String {
        let control = self.lock().as_ref().expect("the server runs").control_url.clone();
        let path = format!("/object?class={class}&name={name}&path={path}");
        let answer = http::Client::new(&control, None).get(&path).json(200);
        answer["text"].as_str().expect("a text").to_owned()
    }

    /// Hands the Worker one batch of a queue, each message with its type (`text`, `json`, `bytes` in base64, `v8`) and body,
    /// and gives what it did with them.
    ///
    /// # Panics
    /// Where the control server refuses.
    pub fn deliver(&self, queue: &str, messages: &Value) -> Value {
        let control = self.lock().as_ref().expect("the server runs").control_url.clone();
        let body = json!({ "queue": queue, "messages": messages });
        http::Client::new(&control, None).post("/queue", &body).json(200)
    }

    /// How often the object `name` has been constructed so far, over all restarts.
    pub fn constructed(&self, name: &str) -> u64 {
        let counts = self.log.constructed.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(name).copied().unwrap_or(0)
    }

    /// Leaves no room on its disk; of a server of [`Self::start_on_a_disk`].
    ///
    /// # Panics
    /// Where it is on none, or does not run.
    pub fn fill_disk(&self) {
        let disk = self.disk.as_ref().expect("a disk of its own");
        disk.fill(self.workerd_pid());
    }

    /// Gives the room back.
    ///
    /// # Panics
    /// As [`Self::fill_disk`], and where there is room.
    pub fn free_disk(&self) {
        let disk = self.disk.as_ref().expect("a disk of its own");
        disk.free(self.workerd_pid());
    }

    fn workerd_pid(&self) -> u64 {
        self.lock().as_ref().expect("the server runs").workerd_pid
    }

    /// From now on its object storage does this: `work`, `fail` as R2 does where it is unavailable, or `hang`. Of a server
    /// of [`Self::start_faulty`].
    ///
    /// # Panics
    /// Where the control server refuses.
    pub fn objects(&self, state: &str) {
        let control = self.lock().as_ref().expect("the server runs").control_url.clone();
        let answer = http::Client::new(&control, None).post("/objects", &json!({ "state": state }));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Where its state lies, as miniflare writes it.
    pub fn state(&self) -> PathBuf {
        self.state.path().join("state")
    }

    /// Everything that it has written so far, as it stands in its log.
    ///
    /// # Panics
    /// Where the log cannot be read.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log.path).expect("a log")).into_owned()
    }

    /// The lines of its request log.
    ///
    /// # Panics
    /// As [`Self::log`].
    pub fn requests(&self) -> Vec<Value> {
        let log = self.log();
        let lines = log.lines().filter_map(|line| line.strip_prefix("[log] "));
        let lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["event.name"] == "tidegate.request").collect()
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        self.log.tail()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("--- the end of the server's log ---\n{}", self.log.tail());
        }
    }
}

impl Log {
    /// Reads the log; the channel hangs up at its end.
    fn follow(self: &Arc<Self>, stderr: impl std::io::Read + Send + 'static) -> mpsc::Receiver<()> {
        let log = Arc::clone(self);
        let (reads, is_read) = mpsc::channel();
        thread::spawn(move || {
            // Whatever stands in it: a log that nobody reads on would stop the server.
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                log.take(&plain(&String::from_utf8_lossy(&line)));
            }
            drop(reads);
        });
        is_read
    }

    fn phases(&self) -> MutexGuard<'_, Phases> {
        self.phases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn aim(&self) -> MutexGuard<'_, Option<Aim>> {
        self.aim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, line: &str) {
        let begun = self.phases().take(line);
        if let Some(begun) = begun
            && let Some(aim) = self.aim().take_if(|aim| aim.phase == begun)
        {
            thread::sleep(aim.after);
            // It may have ended by itself.
            let _ = kill_process_group(aim.group, Signal::KILL);
        }
        // `[debug] constructed Hub t:acme:hub:0`
        if let Some(name) = line
            .split_once("constructed ")
            .and_then(|(_, rest)| rest.split_whitespace().nth(1))
        {
            let mut counts = self.constructed.lock().unwrap_or_else(PoisonError::into_inner);
            *counts.entry(name.to_owned()).or_default() += 1;
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(file, "{line}");
    }

    fn tail(&self) -> String {
        let text = fs::read(&self.path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("[debug]")).collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this crate lies in the repository")
}

/// What tenants can be created from: templates with limits of the deployment and without, and of each one that is not good.
fn templates() -> Value {
    json!({
        "free": {
            "tidegate": 1,
            "patterns": { "core": { "use": "core" } },
            "actions": { "hello": { "run": "core.echo", "mode": "sync" } },
        },
        "broken": {
            "tidegate": 1,
            "patterns": { "core": { "use": "core" } },
            "actions": { "x": { "run": "core.eccho", "mode": "sync" } },
        },
        "small": {
            "composition": {
                "tidegate": 1,
                "patterns": { "core": { "use": "core" } },
                "actions": { "hello": { "run": "core.echo", "mode": "sync" } },
            },
            "limits": { "admission": { "limits": { "requests": { "rate": { "units": 1, "per": "1h" } } } } },
        },
        "broken-limits": {
            "composition": {
                "tidegate": 1,
                "patterns": { "core": { "use": "core" } },
                "actions": { "x": { "run": "core.eccho", "mode": "sync" } },
            },
            "limits": { "queue": { "waiting": 0 } },
        },
    })
}

fn write_vars(path: &Path, issuers: &[Value]) {
    write_vars_with(path, DEPLOYMENT_KEY, None, issuers);
}

/// The key of a deployment that is given no other.
pub const DEPLOYMENT_KEY: &str = "dGVzdHMtb25seS1kZXBsb3ltZW50LWtleS0zMmJ5dGU";

fn write_vars_with(path: &Path, key: &str, before: Option<&str>, issuers: &[Value]) {
    let before = before.map(|key| format!("TIDEGATE_PREVIOUS_DEPLOYMENT_KEY='{key}'\n"));
    let vars = format!(
        "TIDEGATE_DEPLOYMENT_KEY='{key}'\n{}TIDEGATE_ISSUERS='{}'\n",
        before.unwrap_or_default(),
        token::issuers(issuers)
    );
    fs::write(path, vars).expect("the state directory can be written to");
}

/// A line of the log as the harness passes it on; of a traced server it is JSON, as workerd writes it.
fn plain(line: &str) -> Cow<'_, str> {
    if line.starts_with('{')
        && let Ok(log) = serde_json::from_str::<Value>(line)
        && let (Some(level), Some(message)) = (log["level"].as_str(), log["message"].as_str())
    {
        return format!("[{level}] {message}").into();
    }
    line.into()
}

/// The process group of node and workerd.
fn group(node: &Child) -> Option<Pid> {
    i32::try_from(node.id()).ok().and_then(Pid::from_raw)
}

fn kill(node: &mut Child) {
    if let Some(group) = group(node) {
        // It may have ended by itself.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = node.wait();
}

/// Removes what earlier runs left behind: the shared server is never dropped, so that its state and log can be looked at
/// after a failure, until the next run.
fn remove_leftovers() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(DIRECTORY)?.split('-').next()?.parse().ok());
        if owner
            .and_then(Pid::from_raw)
            .is_some_and(|pid| test_kill_process(pid).is_err())
        {
            unmount(&entry.path().join("state"));
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Ends this process, and with it its servers (they look for their parent), when the run takes too long.
fn bound_the_run() {
    let end = Instant::now() + RUN;
    thread::spawn(move || {
        thread::sleep(end.saturating_duration_since(Instant::now()));
        eprintln!("the tests have run for {} s: something hangs", RUN.as_secs());
        std::process::exit(1);
    });
}
