//! Rows written per job, over all objects of a tenant, each set alarm counted as one: what the platform charges for.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::timeout;

use crate::connection::Connection;
use crate::report::{Report, Target};
use crate::server::System;

const PLAIN_JOBS: usize = 200;
const KEYED_JOBS: usize = 50;
/// Keyed jobs under way at a time; each takes 400 ms. Plain jobs come one by one, so that no row is shared.
const KEYED_AT_ONCE: usize = 10;
const PLAIN_MAX: Target = Target::AtMost(5.0);
const KEYED_MAX: Target = Target::AtMost(10.0);
/// 0 %, 50 % and 100 %: jumps of ten points and more are stored at once.
const PROGRESS_EVENTS: usize = 3;

/// Objects write a little after the last event, too: the sum counts once it has stood still for so many looks.
const QUIET_LOOKS: usize = 8;
const LOOK: Duration = Duration::from_millis(250);
const LOOKS_MAX: usize = 120;
/// The jobs end this soon, or the measurement has failed.
const JOBS_MAX: Duration = Duration::from_secs(120);

fn plain(id: usize) -> String {
    format!(r#"{{"type":"request","id":"{id}","action":"core.echo","mode":"async","payload":{{"order":{id}}}}}"#)
}

fn keyed(id: usize) -> String {
    format!(
        r#"{{"type":"request","id":"{id}","action":"core.delay","mode":"async","idempotency_key":"rows-{id}","payload":{{"ms":400,"steps":2}}}}"#
    )
}

/// Measures both kinds of job. `false`: one of them writes more than it may.
pub async fn measure(system: &System, report: &mut Report) -> Result<bool> {
    let plain = per_job(system, "bench-plain", PLAIN_JOBS, 1, 0, plain, report).await?;
    report.absolute("rows written per plain job", "rows", &[plain], PLAIN_MAX);
    let keyed = per_job(
        system,
        "bench-keyed",
        KEYED_JOBS,
        KEYED_AT_ONCE,
        PROGRESS_EVENTS,
        keyed,
        report,
    )
    .await?;
    report.absolute(
        "rows written per job with a key and 3 progress events",
        "rows",
        &[keyed],
        KEYED_MAX,
    );
    Ok(PLAIN_MAX.is_met(plain) && KEYED_MAX.is_met(keyed))
}

/// Rows per job of `jobs` jobs of a tenant of their own.
async fn per_job(
    system: &System,
    tenant: &str,
    jobs: usize,
    at_once: usize,
    progress: usize,
    frame: fn(usize) -> String,
    report: &mut Report,
) -> Result<f64> {
    let mut connection = Connection::open(&system.target(tenant)?).await?;
    // The first job of a tenant finds no tables yet.
    timeout(JOBS_MAX, run_jobs(&mut connection, 0..1, 1, progress, frame))
        .await
        .context("a job did not end")??;
    let before = settled(system, tenant).await?;
    let run = run_jobs(&mut connection, 1..jobs + 1, at_once, progress, frame);
    timeout(JOBS_MAX, run).await.context("the jobs did not end")??;
    let after = settled(system, tenant).await?;
    let mut parts = Vec::new();
    let mut sum = 0.0;
    for ((class, before), (_, after)) in before.iter().zip(&after) {
        let each = (after - before) / f64::from(u32::try_from(jobs)?);
        sum += each;
        parts.push(format!("{class} {each:.2}"));
    }
    report.note(format!("Rows per job of {tenant} ({jobs} jobs): {}.", parts.join(", ")));
    Ok(sum)
}

/// Runs the jobs with these numbers to their end, and checks that each sent `progress` events.
async fn run_jobs(
    connection: &mut Connection,
    numbers: std::ops::Range<usize>,
    at_once: usize,
    progress: usize,
    frame: fn(usize) -> String,
) -> Result<()> {
    let mut events: HashMap<String, usize> = HashMap::new();
    let mut numbers = numbers.into_iter().peekable();
    while numbers.peek().is_some() || !events.is_empty() {
        while events.len() < at_once
            && let Some(number) = numbers.next()
        {
            events.insert(number.to_string(), 0);
            connection.send(frame(number)).await?;
        }
        let incoming = connection.next().await?;
        let head = incoming.head()?;
        let seen = events
            .get_mut(head.request_id)
            .context("an answer to a request that was not sent")?;
        match head.kind {
            "progress" => *seen += 1,
            "complete" if *seen == progress => {
                events.remove(head.request_id);
            }
            "complete" => bail!("a job sent {seen} progress events instead of {progress}"),
            _ => {}
        }
    }
    Ok(())
}

/// Rows written by each object of the tenant, once they have come to rest.
pub async fn settled(system: &System, tenant: &str) -> Result<Vec<(&'static str, f64)>> {
    let objects = [("Hub", "hub:0"), ("Jobs", "jobs:0"), ("Tenant", "gate")];
    let mut last = Vec::new();
    let mut quiet = 0;
    for _ in 0..LOOKS_MAX {
        let mut rows = Vec::with_capacity(objects.len());
        for (class, kind) in objects {
            let text = system
                .ask(class, &format!("t:{tenant}:{kind}"), "/rows-written")
                .await?;
            let written: f64 = text.parse().with_context(|| format!("{class} counts {text:?} rows"))?;
            rows.push((class, written));
        }
        quiet = if rows == last { quiet + 1 } else { 0 };
        if quiet >= QUIET_LOOKS {
            return Ok(rows);
        }
        last = rows;
        tokio::time::sleep(LOOK).await;
    }
    bail!("the objects of {tenant} go on writing")
}
