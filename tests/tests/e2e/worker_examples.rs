//! The examples of workers do what they say: each runs a job to its result, and stops when it is told to.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tidegate_tests::socket::job_of;
use tidegate_tests::tenant::{Tenant, composition};

/// How long a worker may take to stop.
const STOPPED: Duration = Duration::from_secs(20);

fn house() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A tenant whose action `shout` is for workers of the pool `gpu`.
fn tenant() -> Tenant {
    let tenant = Tenant::shared();
    let mut document = composition(None);
    document["patterns"]["gpu"] = json!({ "use": "pull" });
    document["actions"]["shout"] = json!({ "run": "gpu.handle", "lease": "20s" });
    tenant.put_composition(&document);
    tenant
}

fn start(tenant: &Tenant, payload: &Value) -> String {
    let body = json!({ "action": "shout", "payload": payload });
    job_of(&tenant.client("alice").post("/v1/requests", &body).json(202))
}

fn ended(tenant: &Tenant, job: &str) -> Value {
    let client = tenant.client("alice");
    client.get(&format!("/v1/jobs/{job}?wait=60")).json(200)
}

/// A program with what it needs to find the server. It writes nothing here, and is in no shell.
fn program(tenant: &Tenant, name: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(name);
    command
        .env("TIDEGATE_URL", tenant.server.url())
        .env("TIDEGATE_TOKEN", tenant.token("worker", "jobs:work"))
        .current_dir(house())
        .stdin(Stdio::null());
    command
}

/// A child that does not outlive its test.
struct Running(Child);

impl Running {
    /// Tells it to stop, and sees it end by itself.
    fn stop(mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("it runs");
        let until = Instant::now() + STOPPED;
        loop {
            if let Some(status) = self.0.try_wait().expect("a child") {
                assert!(status.success(), "{status}");
                return;
            }
            assert!(Instant::now() < until, "it does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended is not killed again.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn is_there(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

fn shouts(mut worker: Command, tenant: &Tenant) {
    let worker = Running(worker.spawn().expect("the worker starts"));
    let job = start(tenant, &json!("ahoy"));
    let done = ended(tenant, &job);
    assert_eq!(
        (&done["status"], &done["result"]),
        (&json!("succeeded"), &json!("AHOY"))
    );
    let wrong = start(tenant, &json!(7));
    assert_eq!(ended(tenant, &wrong)["status"], "failed");
    // One that is too large to come along.
    let large = start(tenant, &json!("x".repeat(100_000)));
    assert!(ended(tenant, &large)["result_url"].is_string());
    worker.stop(Signal::TERM);
}

#[test]
fn the_worker_in_node() {
    let tenant = tenant();
    let mut worker = program(&tenant, house().join("node_modules/.bin/node"));
    worker.args(["examples/workers/worker.mjs", "gpu"]);
    shouts(worker, &tenant);
}

#[test]
fn the_worker_in_python() {
    if !is_there("python3") {
        eprintln!("python3 is not there: its worker is not run");
        return;
    }
    let tenant = tenant();
    let mut worker = program(&tenant, "python3");
    worker.args(["examples/workers/worker.py", "gpu"]);
    shouts(worker, &tenant);
}

#[test]
fn the_lines_of_curl_in_the_guide() {
    if !(is_there("jq") && is_there("curl") && is_there("bash")) {
        eprintln!("bash, curl and jq are not all there: the lines are not run");
        return;
    }
    let guide = std::fs::read_to_string(house().join("docs/how-to/run-work-in-your-own-processes.md"));
    let guide = guide.expect("the guide");
    let section = guide.split("\n## ").find(|section| section.starts_with("With curl"));
    let blocks = section.expect("the section").split("```sh\n").skip(1);
    let lines: Vec<&str> = blocks.filter_map(|block| block.split("```").next()).collect();
    assert_eq!(lines.len(), 3, "a lease, a report, an end");
    let tenant = tenant();
    let job = start(&tenant, &json!("ahoy"));
    let ran = program(&tenant, "bash")
        .args(["-euo", "pipefail", "-c", &lines.concat()])
        .output()
        .expect("a shell");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let done = ended(&tenant, &job);
    assert_eq!(
        (&done["status"], &done["result"]),
        (&json!("succeeded"), &json!("AHOY"))
    );
    assert_eq!(done["progress"]["message"], "half of it");
}

#[test]
fn the_worker_in_rust() {
    let cargo = std::env::var_os("CARGO").expect("cargo runs the tests");
    let built = Command::new(&cargo)
        .args(["build", "--quiet", "--package", "tidegate-sdk", "--example", "worker"])
        .args(["--message-format", "json"])
        .current_dir(house())
        .output()
        .expect("cargo");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let text = String::from_utf8_lossy(&built.stdout);
    let said = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let path = said
        .filter(|line| line["target"]["name"] == "worker" && line["target"]["kind"][0] == "example")
        .find_map(|line| line["executable"].as_str().map(PathBuf::from));
    let tenant = tenant();
    let mut worker = program(&tenant, path.expect("the example"));
    worker.arg("gpu");
    let worker = Running(worker.spawn().expect("the worker starts"));
    let job = start(&tenant, &json!("ahoy"));
    assert_eq!(ended(&tenant, &job)["result"], "AHOY");
    // It listens for Ctrl-C.
    worker.stop(Signal::INT);
}
