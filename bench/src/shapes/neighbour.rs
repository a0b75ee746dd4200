//! A noisy neighbour: what becomes of a quiet tenant's starts while another tenant of the same process holds long jobs, has one
//! that computes all the time, and floods its own queue.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{STARTS, tell};
use crate::Plan;
use crate::connection::Connection;
use crate::load::{Measured, paced};
use crate::report::{Report, Target};
use crate::server::System;

/// The row that has a target, and its target.
pub const RATIO: &str = "a noisy neighbour that floods as well: p99 against alone";
/// How much later a quiet tenant's jobs may start.
pub const RATIO_MAX: Target = Target::AtMost(1.5);

const QUIET: &str = "bench-quiet";
const NOISY: &str = "bench-noisy";
/// Jobs a second of the quiet tenant: a fifth of what other shapes hold steady, so that it takes little of the one thread
/// itself.
const QUIET_RATE: f64 = 20.0;
/// How much longer its starts are measured than those of other shapes, so that a p99 is more than the worst of them.
const LONGER: u32 = 3;
/// Long jobs that the noisy tenant has running all the time. A socket follows 64 at most.
const HELD: usize = 55;
const HELD_MIN: u64 = 50;
/// How long each of them is: longer than the runs that it has to outlast, however slow those are. They are cancelled.
const HELD_MS: u64 = 900_000;
/// Jobs that the flood brings each time, each as a batch.
const FLOOD: usize = 500;
/// What the flood is offered a second: more than a tenant's places do of it while the process is busy with the rest.
const FLOOD_EVERY: Duration = Duration::from_millis(500);
/// While more than this waits, the flood adds nothing: on a slow machine it would never end.
const FLOOD_WAITING_MAX: u64 = 5000;
/// What the report reads, again and again.
const TABLE: &str = "noise.csv";
const TABLE_ROWS: usize = 400_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures the quiet tenant alone, beside one that holds and computes, and beside one that floods as well.
pub async fn measure(system: &System, plan: Plan, report: &mut Report) -> Result<()> {
    put_table(system).await?;
    let target = system.target(QUIET)?;
    let measured = plan.measured * LONGER;
    let (mut alone, mut held, mut flooded) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..plan.runs {
        eprintln!("a noisy neighbour, run {} of {}", run + 1, plan.runs);
        alone.push(paced(&target, STARTS, QUIET_RATE, measured).await?);
        let holding = hold(system).await?;
        held.push(tokio::select! {
            measured = paced(&target, STARTS, QUIET_RATE, measured) => measured?,
            ended = compute(system) => return Err(ended.err().context("the report ended")?),
        });
        flooded.push(tokio::select! {
            measured = paced(&target, STARTS, QUIET_RATE, measured) => measured?,
            ended = compute(system) => return Err(ended.err().context("the report ended")?),
            ended = flood(system) => return Err(ended.err().context("the flood ended")?),
        });
        // What was to be measured was there to the end.
        if running(system).await? < HELD_MIN {
            bail!("the noisy tenant did not hold its jobs");
        }
        release(system).await?;
        drop(holding);
    }
    tell(report, "a quiet tenant alone, 20 jobs/s", &alone);
    tell(report, "– beside 55 long jobs and one that computes", &held);
    tell(report, "– and 1,000 short ones a second", &flooded);
    // Each run against itself, and then the median, as everywhere in these benches. One figure of all runs together would be
    // that of the single run in which the machine had something else to do: on either side.
    let ratios = |noisy: &[Measured]| -> Vec<f64> {
        noisy
            .iter()
            .zip(&alone)
            .map(|(noisy, alone)| noisy.latency_ms(0.99) / alone.latency_ms(0.99))
            .collect()
    };
    let what = "a noisy neighbour that holds and computes: p99 against alone";
    report.shape(what, "×", &ratios(&held), Target::None);
    report.shape(RATIO, "×", &ratios(&flooded), RATIO_MAX);
    Ok(())
}

/// A table that takes the report a while to read.
async fn put_table(system: &System) -> Result<()> {
    let mut table = String::from("number,city,amount,note\n");
    for row in 0..TABLE_ROWS {
        let city = ["Aarhus", "Bergen", "Coruna", "Dieppe"].get(row % 4).unwrap_or(&"");
        table.push_str(&format!(
            "{},{city},{},a note of some length\n",
            10_000_000 + row,
            row % 1000
        ));
    }
    let mut http = system.http(NOISY).await?;
    http.json("PUT", &format!("/v1/objects/{TABLE}"), &table).await?;
    Ok(())
}

/// Starts the long jobs, and waits until they run. Their socket has to stay, or what follows them is gone.
async fn hold(system: &System) -> Result<Connection> {
    let mut socket = Connection::open(&system.target(NOISY)?).await?;
    for id in 0..HELD {
        let frame = format!(
            r#"{{"type":"request","id":"{id}","action":"core.delay","mode":"async","payload":{{"ms":{HELD_MS},"steps":10}}}}"#
        );
        socket.send(frame).await?;
    }
    let until = tokio::time::Instant::now() + PATIENCE;
    while running(system).await? < HELD_MIN {
        if tokio::time::Instant::now() > until {
            bail!("the long jobs do not start");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(socket)
}

async fn running(system: &System) -> Result<u64> {
    let queue = system.http(NOISY).await?.json("GET", "/v1/queue", "").await?;
    queue.get("running").and_then(Value::as_u64).context("no running")
}

/// Cancels all that the noisy tenant has left.
async fn release(system: &System) -> Result<()> {
    let mut http = system.http(NOISY).await?;
    for status in ["running", "queued"] {
        let mut body = json!({ "filter": { "status": status } });
        loop {
            let answer = http.json("POST", "/v1/jobs:cancel", &body.to_string()).await?;
            match answer.get("cursor") {
                Some(cursor) => body = json!({ "filter": { "status": status }, "cursor": cursor }),
                None => break,
            }
        }
    }
    Ok(())
}

/// Has one report after another made, for ever.
async fn compute(system: &System) -> Result<()> {
    let mut socket = Connection::open(&system.target(NOISY)?).await?;
    for id in 0.. {
        let payload = json!({ "object": TABLE });
        let frame = json!({ "id": id.to_string(), "action": "report.summarize", "mode": "async", "payload": payload });
        socket.send(frame.to_string()).await?;
        while socket.next().await?.head()?.kind != "complete" {}
    }
    Ok(())
}

/// Enqueues batches at their pace, for ever, whatever becomes of their jobs. What is refused is part of a flood.
async fn flood(system: &System) -> Result<()> {
    let mut http = system.http(NOISY).await?;
    let requests: Vec<String> = (0..FLOOD)
        .map(|order| format!(r#"{{"action":"core.echo","mode":"async","payload":{{"order":{order}}}}}"#))
        .collect();
    let body = format!("[{}]", requests.join(","));
    let mut due = tokio::time::Instant::now();
    loop {
        tokio::time::sleep_until(due).await;
        let queue = http.json("GET", "/v1/queue", "").await?;
        let waiting = queue.get("waiting").and_then(Value::as_u64).context("no waiting")?;
        if waiting < FLOOD_WAITING_MAX {
            http.json("POST", "/v1/requests:batch", &body).await?;
        }
        // What could not be done in time is not made up for.
        due = (due + FLOOD_EVERY).max(tokio::time::Instant::now());
    }
}
