//! `BullMQ` on a Redis of its own: the same work as Tidegate's, asked for through `BullMQ`'s own client.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::cost::cpu_time;
use crate::redis::{Redis, Sync};
use crate::server;

/// Where its client is, and the packages that it takes.
const FOLDER: &str = "bench/baseline/bullmq";
const START: Duration = Duration::from_secs(60);
/// What is under way ends this long after a run, or the run has failed. A little longer than the client's own patience.
const ANSWER_MAX: Duration = Duration::from_secs(90);
const STOP: Duration = Duration::from_secs(4);

/// A Redis, a client and a worker, each a process. Dropping it ends them.
pub struct BullMq {
    client: Child,
    requests: Option<ChildStdin>,
    answers: Receiver<String>,
    worker_pid: i32,
    redis: Redis,
}

impl BullMq {
    /// Starts all three, and waits until the worker is ready.
    pub fn start(sync: Sync) -> Result<Self> {
        if !server::root().join(FOLDER).join("node_modules/bullmq").exists() {
            bail!("BullMQ is not installed: `cargo xtask bench jobs` does it");
        }
        let redis = Redis::start(sync)?;
        let mut client = server::node(&format!("{FOLDER}/client.mjs"))?
            .arg("--port")
            .arg(redis.port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let requests = client.stdin.take();
        let stdout = client.stdout.take().context("stdout is piped")?;
        let (line, answers) = mpsc::channel();
        thread::spawn(move || {
            for text in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _nobody_listens = line.send(text);
            }
        });
        let mut started = Self {
            client,
            requests,
            answers,
            worker_pid: 0,
            redis,
        };
        let ready = started.answer(START)?;
        let pid = ready.get("worker_pid").and_then(Value::as_i64).context("no worker")?;
        started.worker_pid = pid.try_into()?;
        Ok(started)
    }

    /// Enqueues `jobs` jobs in calls of `batch`; gives the time until none was left, and the CPU time of Redis and worker.
    pub fn bulk(&mut self, jobs: usize, batch: usize) -> Result<(Duration, Option<Duration>)> {
        let before = self.cpu();
        let answer = self.ask(
            &json!({ "do": "bulk", "jobs": jobs, "batch": batch }),
            Duration::from_secs(60),
        )?;
        let cpu = self
            .cpu()
            .zip(before)
            .map(|(after, before)| after.saturating_sub(before));
        Ok((took(&answer)?, cpu))
    }

    /// Keeps `in_flight` jobs under way; gives the time that counts, and how long each job took from sending to its end, in
    /// microseconds.
    pub fn closed(&mut self, in_flight: usize, warm_up: Duration, measured: Duration) -> Result<(Duration, Vec<u64>)> {
        let request = json!({
            "do": "closed", "in_flight": in_flight,
            "warm_up_ms": warm_up.as_secs_f64() * 1e3, "ms": measured.as_secs_f64() * 1e3,
        });
        let answer = self.ask(&request, measured)?;
        Ok((took(&answer)?, figures(&answer, "completion_us")?))
    }

    /// Adds `rate` jobs a second.
    pub fn paced(&mut self, rate: f64, progress: bool, warm_up: Duration, measured: Duration) -> Result<Paced> {
        let request = json!({
            "do": "paced", "rate": rate, "progress": progress,
            "warm_up_ms": warm_up.as_secs_f64() * 1e3, "ms": measured.as_secs_f64() * 1e3,
        });
        let answer = self.ask(&request, measured)?;
        Ok(Paced {
            stored: figures(&answer, "stored_us")?,
            completion: figures(&answer, "completion_us")?,
            progress: figures(&answer, "progress_us")?,
            called: figures(&answer, "called_us")?,
        })
    }

    fn cpu(&self) -> Option<Duration> {
        Some(cpu_time(self.redis.pid())? + cpu_time(self.worker_pid)?)
    }

    fn ask(&mut self, request: &Value, takes: Duration) -> Result<Value> {
        let requests = self.requests.as_mut().context("stdin is piped")?;
        writeln!(requests, "{request}")?;
        self.answer(takes + ANSWER_MAX)
    }

    fn answer(&self, within: Duration) -> Result<Value> {
        let line = self.answers.recv_timeout(within);
        let line = line.context("BullMQ's client gives no answer; what it says stands above")?;
        serde_json::from_str(&line).with_context(|| format!("BullMQ's client answered {line}"))
    }
}

/// What a paced run showed, each job by itself. Microseconds since it was sent.
pub struct Paced {
    /// Until it was stored.
    pub stored: Vec<u64>,
    /// Until the client had heard of its end.
    pub completion: Vec<u64>,
    /// Until the client had heard of its first progress.
    pub progress: Vec<u64>,
    /// Until its handler was called, by the worker's own word.
    pub called: Vec<u64>,
}

impl Drop for BullMq {
    fn drop(&mut self) {
        // The client ends with its input, and the worker with the client.
        self.requests = None;
        let until = Instant::now() + STOP;
        while matches!(self.client.try_wait(), Ok(None)) && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
        let _gone = self.client.kill();
        let _reaped = self.client.wait();
    }
}

fn took(answer: &Value) -> Result<Duration> {
    let ms = answer.get("took_ms").and_then(Value::as_f64).context("no time")?;
    Ok(Duration::from_secs_f64(ms / 1e3))
}

fn figures(answer: &Value, name: &str) -> Result<Vec<u64>> {
    let figures = answer.get(name).and_then(Value::as_array);
    let figures = figures.with_context(|| format!("no {name}"))?;
    // The clocks of two processes can differ by a little: what is below nothing is nothing.
    let one = |figure: &Value| figure.as_f64().map(|figure| figure.max(0.0));
    let whole = figures.iter().map(|figure| one(figure).map(to_whole));
    whole
        .collect::<Option<_>>()
        .with_context(|| format!("{name} holds no number"))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "microseconds of minutes, not negative"
)]
fn to_whole(figure: f64) -> u64 {
    figure as u64
}

/// The version that is installed, for the table.
pub fn version() -> String {
    let path = server::root().join(FOLDER).join("node_modules/bullmq/package.json");
    let package: Option<Value> = std::fs::read_to_string(path)
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok());
    let version = package.and_then(|package| Some(package.get("version")?.as_str()?.to_owned()));
    version.unwrap_or_else(|| String::from("of an unknown version"))
}
