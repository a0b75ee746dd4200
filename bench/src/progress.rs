//! How soon what a handler says of its progress is at the client's socket, at 1,000 events a second.
//!
//! The handler is `core.delay`, whose steps are due at moments that follow from its beginning. When that was nobody says, but
//! not before its attempt was given out (`started_at`): the time from there is a little longer than it should be, by the way
//! to the executor, and counts whatever holds up the handler itself.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use crate::Plan;
use crate::connection::Connection;
use crate::load::{WARM_UP, count, quantile_ms};
use crate::report::{Report, Target};
use crate::server::System;

const TENANT: &str = "bench-progress";
/// Jobs that say something each 125 ms, which makes 1,000 events a second; 128 may run at once.
const JOBS: usize = 125;
const STEP_MS: usize = 125;
/// Between the starts of two jobs: so long that none waits for the start of another. It shares no factor with a step, so
/// that the steps of all of them are spread evenly.
const APART_MS: usize = 9;
const _: () = assert!(common_factor(STEP_MS, APART_MS) == 1 && JOBS <= STEP_MS);
/// Sockets that follow them.
const SOCKETS: usize = 5;
const JOBS_OF_A_SOCKET: usize = JOBS / SOCKETS;
const _: () = assert!(JOBS_OF_A_SOCKET * SOCKETS == JOBS);
/// After the last event is due, how long events are waited for.
const LAST: Duration = Duration::from_secs(60);
const DAY_MS: f64 = 86_400_000.0;

/// An event that came: of which job of the socket, which step, and when. Milliseconds of the day.
struct Event {
    job: usize,
    step: f64,
    at_ms: f64,
}

/// One run: how late each event was that counts, in microseconds, and how many should have come.
struct Run {
    late: Vec<u64>,
    due: usize,
}

/// Measures the times.
pub async fn measure(system: &System, plan: Plan, report: &mut Report) -> Result<()> {
    let document = json!({
        "tidegate": 1,
        "patterns": { "core": { "use": "core" } },
        // Each event is told: one that came a millisecond early would be thinned otherwise.
        "actions": { "watched": { "run": "core.delay", "progress": { "durability": "all" } } },
    });
    system.compose(TENANT, &document).await?;
    let mut runs = Vec::new();
    for run in 0..plan.runs {
        eprintln!("progress, run {} of {}", run + 1, plan.runs);
        runs.push(one(system, plan.measured).await?);
    }
    let mut row = |what: &str, unit: &str, figure: &dyn Fn(&Run) -> f64, target| {
        let figures: Vec<f64> = runs.iter().map(figure).collect();
        report.beside(what, unit, &figures, [&[], &[]], target);
    };
    let what = "1,000 progress events/s, handler to socket: p50";
    row(what, "ms", &|run| quantile_ms(&run.late, 0.5), Target::None);
    row("– p95", "ms", &|run| quantile_ms(&run.late, 0.95), Target::None);
    row("– p99", "ms", &|run| quantile_ms(&run.late, 0.99), Target::AtMost(25.0));
    let came = |run: &Run| 100.0 * count(run.late.len()) / count(run.due);
    row("– events that came, of those due", "%", &came, Target::AtLeast(100.0));
    Ok(())
}

/// The greatest number that divides both.
const fn common_factor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_factor(b, a % b) }
}

async fn one(system: &System, measured: Duration) -> Result<Run> {
    let ms = |time: Duration| usize::try_from(time.as_millis());
    // What is said while the jobs begin does not count.
    let early = (JOBS * APART_MS + ms(WARM_UP)?).div_ceil(STEP_MS);
    let steps = early + ms(measured)?.div_ceil(STEP_MS);
    let start = Instant::now();
    let mut followers = Vec::new();
    for socket in 0..SOCKETS {
        let connection = Connection::open(&system.target(TENANT)?).await?;
        followers.push(follow(connection, start, socket, steps));
    }
    let takes = Duration::from_millis(u64::try_from(steps * STEP_MS)?);
    let all = tokio::time::timeout(takes + LAST, try_join_all(followers)).await;
    let mut http = system.http(TENANT).await?;
    let mut late = Vec::new();
    for (jobs, events) in all.context("the jobs did not end")?? {
        let mut began = Vec::new();
        for job in jobs {
            let job = http.json("GET", &format!("/v1/jobs/{job}"), "").await?;
            let started = job.get("started_at").and_then(Value::as_str).context("no started_at")?;
            began.push(ms_of_day(started).with_context(|| format!("started_at {started}"))?);
        }
        for event in events.iter().filter(|event| event.step > count(early)) {
            let began = began.get(event.job).context("an event of no job")?;
            // Midnight may lie between the two.
            let after = (event.at_ms - began).rem_euclid(DAY_MS);
            late.push(to_us(after - event.step * count(STEP_MS)));
        }
    }
    Ok(Run {
        late,
        due: (steps - early) * JOBS,
    })
}

/// Starts the jobs of one socket, one after the other, so that their steps do not fall together; gives their ids, and what
/// they said until all had ended.
async fn follow(
    mut socket: Connection,
    start: Instant,
    number: usize,
    steps: usize,
) -> Result<(Vec<String>, Vec<Event>)> {
    let mut ids = vec![String::new(); JOBS_OF_A_SOCKET];
    let (mut events, mut next, mut ended) = (Vec::new(), 0, 0);
    let millisecond = |job: usize| u64::try_from((job * SOCKETS + number) * APART_MS);
    while ended < JOBS_OF_A_SOCKET {
        let due = start + Duration::from_millis(millisecond(next)?);
        let incoming = tokio::select! {
            () = tokio::time::sleep_until(due.into()), if next < JOBS_OF_A_SOCKET => None,
            incoming = socket.next() => Some(incoming?),
        };
        let Some(incoming) = incoming else {
            let payload = json!({ "ms": steps * STEP_MS, "steps": steps });
            let frame = json!({ "id": next.to_string(), "action": "watched", "mode": "async", "payload": payload });
            socket.send(frame.to_string()).await?;
            next += 1;
            continue;
        };
        let at_ms = now_ms_of_day()?;
        let frame = incoming.value()?;
        let text = |name: &str| frame.get(name).and_then(Value::as_str).unwrap_or_default();
        let job: usize = text("request_id").parse()?;
        match text("type") {
            "acknowledgment" => *ids.get_mut(job).context("no job")? = text("job_id").to_owned(),
            "progress" => {
                // `step 3 of 28`
                let step = text("message").split(' ').nth(1).context("no step")?.parse()?;
                events.push(Event { job, step, at_ms });
            }
            "complete" => ended += 1,
            other => bail!("a frame {other} came"),
        }
    }
    Ok((ids, events))
}

fn now_ms_of_day() -> Result<f64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok((now.as_secs_f64() * 1e3).rem_euclid(DAY_MS))
}

/// The time of the day of `2026-11-21T23:59:59.123Z`.
fn ms_of_day(text: &str) -> Option<f64> {
    let (_, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers: Vec<f64> = time.split(':').map_while(|part| part.parse().ok()).collect();
    let [hour, minute, second] = numbers.as_slice() else {
        return None;
    };
    Some(((hour * 60.0 + minute) * 60.0 + second) * 1e3)
}

/// The clock of the objects is whole milliseconds: what is a little less than nothing is nothing.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and at most a day"
)]
fn to_us(ms: f64) -> u64 {
    let ms = if ms > DAY_MS / 2.0 { 0.0 } else { ms.max(0.0) };
    (ms * 1e3) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_the_day_is_read_to_the_millisecond() {
        let read = ms_of_day("2026-11-21T23:59:59.123Z").map(to_us_of_any);
        assert_eq!(read, Some(86_399_123));
        assert_eq!(ms_of_day("2026-11-21"), None);
        assert_eq!(ms_of_day("2026-11-21T23:59Z"), None);
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a time of the day"
    )]
    fn to_us_of_any(ms: f64) -> u64 {
        ms.round() as u64
    }
}
