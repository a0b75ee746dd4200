//! Ten times as much as a throttle lets through: what starts is what it allows and no more, and what waits is bounded.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use crate::Plan;
use crate::connection::Connection;
use crate::load::{WARM_UP, count, quantile_ms};
use crate::report::{Report, Target};
use crate::server::System;

const TENANT: &str = "bench-throttled";
/// Starts a second that the throttle allows.
const ALLOWED: u32 = 50;
const OFFERED: u32 = ALLOWED * 10;
/// Jobs that may wait.
const WAITING: u64 = 200;
/// A socket follows 64 jobs at most: together these follow all that can wait, several times over.
const SOCKETS: u32 = 20;
const POLL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(60);

/// One run.
struct Run {
    /// When jobs ended: an echo ends as it starts.
    ended: Vec<Instant>,
    /// From sending to the end. Microseconds.
    took: Vec<u64>,
    refused: usize,
    waiting_most: u64,
}

impl Run {
    /// How many ended between the first end and the last, of those that the throttle allows in that time: all of it had more
    /// than enough to do. Percent.
    fn share(&self) -> f64 {
        let (Some(first), Some(last)) = (self.ended.iter().min(), self.ended.iter().max()) else {
            return f64::NAN;
        };
        let allowed = f64::from(ALLOWED) * last.duration_since(*first).as_secs_f64();
        100.0 * count(self.ended.len().saturating_sub(1)) / allowed
    }
}

/// Measures the count, the waiting and the refusals.
pub async fn measure(system: &System, plan: Plan, report: &mut Report) -> Result<()> {
    let throttle = json!({ "actions": "paced", "throttle": { "units": ALLOWED, "per": "1s" } });
    let document = json!({
        "tidegate": 1,
        "patterns": { "core": { "use": "core" } },
        "queue": { "limits": { "pace": throttle } },
        "actions": { "paced": { "run": "core.echo", "mode": "async", "waiting": WAITING } },
    });
    system.compose(TENANT, &document).await?;
    let mut runs = Vec::new();
    for run in 0..plan.runs {
        eprintln!("a throttle, run {} of {}", run + 1, plan.runs);
        runs.push(one(system, plan.measured).await?);
    }
    let mut row = |what: &str, unit: &str, figure: &dyn Fn(&Run) -> f64, target| {
        let figures: Vec<f64> = runs.iter().map(figure).collect();
        report.shape(what, unit, &figures, target);
    };
    let what = "500 jobs/s under a throttle of 50/s: starts, of those allowed";
    row(what, "%", &Run::share, Target::Between(98.0, 102.0));
    let waiting = |run: &Run| f64::from(u32::try_from(run.waiting_most).unwrap_or(u32::MAX));
    row(
        "– waiting at most, where 200 may",
        "jobs",
        &waiting,
        Target::AtMost(200.0),
    );
    row("– refused", "jobs", &|run| count(run.refused), Target::None);
    for (name, quantile) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
        let what = format!("– sent to ended of what was taken, {name}");
        row(&what, "ms", &|run| quantile_ms(&run.took, quantile), Target::None);
    }
    Ok(())
}

async fn one(system: &System, measured: Duration) -> Result<Run> {
    let start = Instant::now();
    let end = start + WARM_UP + measured;
    let mut sockets = Vec::new();
    for number in 0..SOCKETS {
        let socket = Connection::open(&system.target(TENANT)?).await?;
        sockets.push(offer(socket, start + Duration::from_secs(1) / OFFERED * number, end));
    }
    let mut waiting_most = 0;
    let watch = async {
        let mut http = system.http(TENANT).await?;
        loop {
            let queue = http.json("GET", "/v1/queue", "").await?;
            let waiting = queue.get("waiting").and_then(Value::as_u64).context("no waiting")?;
            waiting_most = waiting_most.max(waiting);
            tokio::time::sleep(POLL).await;
        }
    };
    let parts = tokio::select! {
        parts = tokio::time::timeout(measured + PATIENCE, try_join_all(sockets)) => parts.context("jobs did not end")??,
        failed = watch => return failed,
    };
    let mut run = Run {
        ended: Vec::new(),
        took: Vec::new(),
        refused: 0,
        waiting_most,
    };
    for (ended, refused) in parts {
        run.refused += refused;
        for (sent, at) in ended {
            run.ended.push(at);
            run.took.push(u64::try_from((at - sent).as_micros())?);
        }
    }
    Ok(run)
}

/// Offers jobs on one socket until `end`, and waits for those that were taken. Gives when each was sent and ended, and how many
/// were refused because too many waited, here or in the queue.
async fn offer(mut socket: Connection, first: Instant, end: Instant) -> Result<(Vec<(Instant, Instant)>, usize)> {
    let between = Duration::from_secs(1) * SOCKETS / OFFERED;
    let (mut due, mut next, mut refused) = (first, 0_usize, 0);
    let mut open: HashMap<String, Instant> = HashMap::new();
    let mut ended = Vec::new();
    while due < end || !open.is_empty() {
        let incoming = tokio::select! {
            () = tokio::time::sleep_until(due.into()), if due < end => None,
            incoming = socket.next_of_any_kind() => Some(incoming?),
        };
        let Some(incoming) = incoming else {
            let frame = json!({ "id": next.to_string(), "action": "paced", "payload": next });
            socket.send(frame.to_string()).await?;
            open.insert(next.to_string(), Instant::now());
            next += 1;
            due += between;
            continue;
        };
        let head = incoming.head()?;
        match head.kind {
            "complete" => {
                let sent = open.remove(head.request_id).context("an end of nothing")?;
                ended.push((sent, Instant::now()));
            }
            "error" => {
                let frame = incoming.value()?;
                let code = frame.pointer("/error/code").and_then(Value::as_str);
                if !matches!(code, Some("QUEUE_FULL" | "RATE_LIMITED")) {
                    bail!("the server answered {frame}");
                }
                open.remove(head.request_id);
                refused += 1;
            }
            _ => {}
        }
    }
    Ok((ended, refused))
}
