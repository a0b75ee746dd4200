//! Admission beside what others decide the same with, in Node.js: limits on a Redis, and breakers.
//!
//! What is compared is one decision, with all that it takes to be made there. A limiter on Redis asks Redis each time; a hub here
//! asks its gate for a few of a thousand requests. Both are on one machine: no network is in between that would make it longer.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tidegate_engine::upstreams::{Edge, Passage};
use tidegate_protocol::calls::upstreams::{BreakerState, Standing};
use tidegate_protocol::time::UnixMs;

use crate::Plan;
use crate::admission::three_limits_us;
use crate::redis::{self, Redis, Sync};
use crate::report::Report;
use crate::server;

const FOLDER: &str = "bench/baseline/admission";
const BEGIN: UnixMs = UnixMs(1_800_000_000_000);
/// Calls of a millisecond of the simulated clock.
const CALLS_A_MS: u64 = 100;
/// The first standing of a breaker.
const GENERATION: u64 = 1;

/// Measures both in turn.
pub fn measure(plan: Plan, report: &mut Report) -> Result<()> {
    let installed = server::root().join(FOLDER).join("node_modules/@upstash/ratelimit");
    if !installed.exists() {
        bail!("what admission is compared with is not installed: `cargo xtask bench admission` does it");
    }
    let (mut limits, mut breaker) = (Vec::new(), Vec::new());
    let mut theirs: [Vec<f64>; 4] = Default::default();
    for run in 0..plan.runs {
        eprintln!("admission beside others, run {} of {}", run + 1, plan.runs);
        limits.push(three_limits_us(plan.measured)?);
        breaker.push(breaker_us(plan.measured)?);
        for (figures, figure) in theirs.iter_mut().zip(others(plan.measured)?) {
            figures.push(figure);
        }
    }
    let [alone, beside, cockatiel, opossum] = &theirs;
    let upstash = format!("@upstash/ratelimit {}", version("@upstash/ratelimit"));
    let what = "three limits for a request, one after the other";
    report.peer(what, "µs", &upstash, &limits, alone);
    report.peer("– 64 under way", "µs", &upstash, &limits, beside);
    let what = "a closed breaker around a call";
    for (name, figures) in [("cockatiel", cockatiel), ("opossum", opossum)] {
        report.peer(what, "µs", &format!("{name} {}", version(name)), &breaker, figures);
    }
    report.note(format!(
        "Tidegate's decisions are measured natively, and hold reading the request, its plan, and the gate's part. @upstash/ratelimit has \
         Redis {} on this machine, over its own protocol instead of HTTP; it asks for each of the three limits in every request.",
        redis::version()
    ));
    Ok(())
}

/// Microseconds for what a closed breaker is asked and told around a call that succeeds. The gate's part, which is one call in a second, is
/// left out.
fn breaker_us(measured: Duration) -> Result<f64> {
    let standing = Standing {
        state: BreakerState::Closed,
        generation: GENERATION,
        wait_ms: 0,
        probe: None,
    };
    let (mut edge, mut now, mut calls) = (Edge::default(), BEGIN, 0_u32);
    edge.hear(now, &standing);
    let begun = Instant::now();
    while begun.elapsed() < measured {
        for _ in 0..CALLS_A_MS {
            match black_box(edge.passage(now)) {
                Passage::Go { generation } => {
                    if edge.note(now, generation, false, false) {
                        black_box(edge.take());
                        edge.hear(now, &standing);
                    }
                }
                Passage::Ask => edge.hear(now, &standing),
                Passage::Refused { .. } => bail!("the breaker has opened"),
            }
            calls += 1;
        }
        now = now.plus(1);
    }
    Ok(begun.elapsed().as_secs_f64() * 1e6 / f64::from(calls))
}

/// Microseconds for a decision: of the limiter alone, of the limiter with 64 under way, and of two breakers.
fn others(measured: Duration) -> Result<[f64; 4]> {
    let redis = Redis::start(Sync::EverySecond)?;
    let output = server::node(&format!("{FOLDER}/decide.mjs"))?
        .args(["--port", &redis.port.to_string()])
        .args(["--ms", &measured.as_millis().to_string()])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("decide.mjs failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let answer: Value = serde_json::from_str(text.trim()).with_context(|| format!("decide.mjs printed {text}"))?;
    let figure = |name: &str| {
        let figure = answer.get(name).and_then(Value::as_f64);
        figure.with_context(|| format!("no {name}"))
    };
    Ok([
        figure("limits_alone")?,
        figure("limits_beside")?,
        figure("cockatiel")?,
        figure("opossum")?,
    ])
}

/// The version of a package that is installed, for the table.
fn version(package: &str) -> String {
    let path = server::root()
        .join(FOLDER)
        .join("node_modules")
        .join(package)
        .join("package.json");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let found: Option<Value> = serde_json::from_str(&text).ok();
    let version = found.and_then(|package| Some(package.get("version")?.as_str()?.to_owned()));
    version.unwrap_or_else(|| String::from("of an unknown version"))
}
