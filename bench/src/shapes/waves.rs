//! A backlog that comes and goes: a thousand jobs at once every two seconds, and between them a few, whose starts show what
//! the wave does to them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{STARTS, tell};
use crate::Plan;
use crate::http::Http;
use crate::load::{count, paced};
use crate::report::{Report, Target};
use crate::server::System;

const TENANT: &str = "bench-waves";
const WAVE: usize = 1000;
const BETWEEN: Duration = Duration::from_secs(2);
/// Jobs a second that come in between.
const PROBES: f64 = 20.0;
/// A wave has passed when no more than so many jobs are left.
const PASSED: u64 = 1;
const POLL: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures the starts of those in between, and how soon a wave has passed.
pub async fn measure(system: &System, plan: Plan, report: &mut Report) -> Result<()> {
    let (mut probes, mut passed, mut most) = (Vec::new(), Vec::new(), Vec::new());
    // A wave at least has to come.
    let measured = plan.measured.max(BETWEEN * 2);
    for run in 0..plan.runs {
        eprintln!("waves, run {} of {}", run + 1, plan.runs);
        let target = system.target(TENANT)?;
        let (starts, waves) = tokio::try_join!(paced(&target, STARTS, PROBES, measured), waves(system, measured))?;
        probes.push(starts);
        let took: Vec<f64> = waves.iter().map(|wave| wave.took.as_secs_f64()).collect();
        passed.push(count(waves.len() * WAVE) / took.iter().sum::<f64>());
        most.push(waves.iter().map(|wave| wave.left).fold(0.0, f64::max));
    }
    tell(report, "waves of 1,000 jobs, 20 jobs/s between them", &probes);
    report.shape(
        "– of a wave, from its request to its last end",
        "jobs/s",
        &passed,
        Target::None,
    );
    report.shape(
        "– left at most once its request is answered",
        "jobs",
        &most,
        Target::None,
    );
    Ok(())
}

/// One wave: until when it had passed, and how many were left at most once its request was answered.
struct Wave {
    took: Duration,
    left: f64,
}

async fn waves(system: &System, measured: Duration) -> Result<Vec<Wave>> {
    let requests: Vec<String> = (0..WAVE)
        .map(|order| format!(r#"{{"action":"core.echo","mode":"async","payload":{{"order":{order}}}}}"#))
        .collect();
    let body = format!("[{}]", requests.join(","));
    let mut http = system.http(TENANT).await?;
    let (start, mut waves) = (Instant::now(), Vec::new());
    let mut due = start;
    while due < start + measured {
        tokio::time::sleep_until(due.into()).await;
        waves.push(wave(&mut http, &body).await?);
        // A wave that has not passed puts the next one off: the backlog comes and goes, it does not grow.
        due = (due + BETWEEN).max(Instant::now());
    }
    Ok(waves)
}

async fn wave(http: &mut Http, body: &str) -> Result<Wave> {
    let sent = Instant::now();
    http.json("POST", "/v1/requests:batch", body).await?;
    let mut left = 0.0;
    loop {
        let queue = http.json("GET", "/v1/queue", "").await?;
        let of = |name: &str| queue.get(name).and_then(Value::as_u64).context("no number");
        let now = of("waiting")? + of("running")?;
        left = f64::from(u32::try_from(now)?).max(left);
        // Those in between come and go.
        if now <= PASSED {
            return Ok(Wave {
                took: sent.elapsed(),
                left,
            });
        }
        if sent.elapsed() > PATIENCE {
            bail!("a wave does not pass: {queue}");
        }
        tokio::time::sleep(POLL).await;
    }
}
