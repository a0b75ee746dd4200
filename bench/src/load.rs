//! Load: in a closed loop, where the next request follows an answer, or at a pace, where it follows the clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use serde_json::Value;

use crate::connection::Connection;
use crate::cost::cpu_time;
use crate::server::Target;

/// Runs before anything is counted: objects wake up, code gets compiled.
pub const WARM_UP: Duration = Duration::from_millis(500);
/// Jobs of one socket that have not ended. The server takes 64 requests and followed jobs on a socket.
const OPEN_MAX: usize = 56;
/// The last answers of a run come this soon, or it has failed.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Longer than this, a request counts as this long. Microseconds.
const MICROSECONDS_MAX: u64 = 120_000_000;

/// The requests of a run.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Connections.
    pub sockets: usize,
    /// Requests of one connection under way.
    pub in_flight: usize,
    /// The type of the frame that lets the next request follow.
    pub until: &'static str,
    /// Whether each request becomes a job whose `complete` comes, too.
    pub completes: bool,
    /// Requests of one connection, if fewer than the time allows.
    pub requests_max: usize,
    /// The frame of the request with this number; its `id` has to be the number.
    pub frame: fn(usize) -> String,
}

/// What a run showed.
pub struct Measured {
    /// Requests whose awaited frame came.
    pub requests: usize,
    /// Jobs whose `complete` came.
    pub completed: usize,
    /// How long was counted.
    pub took: Duration,
    /// From sending to the awaited frame. Microseconds.
    pub latency: Histogram<u64>,
    /// From sending to `complete`. Microseconds.
    pub completion: Histogram<u64>,
    /// CPU time of workerd.
    pub cpu: Option<Duration>,
}

impl Measured {
    fn new() -> Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, MICROSECONDS_MAX, 3);
        Ok(Self {
            requests: 0,
            completed: 0,
            took: Duration::ZERO,
            latency: histogram()?,
            completion: histogram()?,
            cpu: None,
        })
    }

    fn add(&mut self, other: &Self) -> Result<()> {
        self.requests += other.requests;
        self.completed += other.completed;
        self.latency.add(&other.latency)?;
        self.completion.add(&other.completion)?;
        Ok(())
    }

    /// Requests a second.
    pub fn rate(&self) -> f64 {
        count(self.requests) / self.took.as_secs_f64()
    }

    /// Jobs completed a second.
    pub fn completion_rate(&self) -> f64 {
        count(self.completed) / self.took.as_secs_f64()
    }

    /// A quantile of the time to the awaited frame. Milliseconds.
    pub fn latency_ms(&self, quantile: f64) -> f64 {
        milliseconds(self.latency.value_at_quantile(quantile))
    }

    /// A quantile of the time to `complete`. Milliseconds.
    pub fn completion_ms(&self, quantile: f64) -> f64 {
        milliseconds(self.completion.value_at_quantile(quantile))
    }

    /// CPU time of workerd for each request. Microseconds.
    pub fn cpu_us(&self) -> f64 {
        self.cpu
            .map_or(f64::NAN, |cpu| cpu.as_secs_f64() * 1e6 / count(self.requests))
    }

    /// How many cores workerd kept busy.
    pub fn cores(&self) -> f64 {
        self.cpu
            .map_or(f64::NAN, |cpu| cpu.as_secs_f64() / self.took.as_secs_f64())
    }
}

/// A quantile of `figures`, which are microseconds. Milliseconds; NaN for none.
pub fn quantile_ms(figures: &[u64], quantile: f64) -> f64 {
    let Ok(mut histogram) = Histogram::<u64>::new_with_bounds(1, MICROSECONDS_MAX, 3) else {
        return f64::NAN;
    };
    for figure in figures {
        histogram.saturating_record(*figure);
    }
    if figures.is_empty() {
        return f64::NAN;
    }
    milliseconds(histogram.value_at_quantile(quantile))
}

/// A number of things, to reckon with.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub fn count(number: usize) -> f64 {
    number as f64
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1000.0
}

fn microseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros())
        .unwrap_or(MICROSECONDS_MAX)
        .clamp(1, MICROSECONDS_MAX)
}

/// When a run counts.
#[derive(Clone, Copy)]
struct Window {
    from: Instant,
    to: Instant,
}

impl Window {
    fn is_open(self) -> bool {
        let now = Instant::now();
        now >= self.from && now < self.to
    }
}

async fn open(target: &Target, sockets: usize) -> Result<Vec<Connection>> {
    let mut connections = Vec::with_capacity(sockets);
    for _ in 0..sockets {
        connections.push(Connection::open(target).await?);
    }
    Ok(connections)
}

/// Runs `shape` on `target` in a closed loop, and counts for `measured` after the warm-up.
///
/// Errors: an answer is an `error`, or does not come.
pub async fn closed_loop(target: &Target, shape: Shape, measured: Duration) -> Result<Measured> {
    in_time(measured, run_closed(target, shape, measured)).await
}

/// Sends `rate` requests a second, spread over the sockets, whatever the answers do. Each becomes a job.
///
/// Errors: an answer is an `error`, or does not come.
pub async fn paced(target: &Target, shape: Shape, rate: f64, measured: Duration) -> Result<Measured> {
    let between = Duration::from_secs_f64(1.0 / rate);
    let pace = Pace {
        apart: between,
        between: between * u32::try_from(shape.sockets)?,
        at_once: 1,
    };
    in_time(measured, run_paced(target, shape, pace, measured)).await
}

/// Sends `at_once` requests on each socket at the same moment, and again each `between`, by when they should have ended.
///
/// Errors: as [`paced`].
pub async fn bursts(
    target: &Target,
    shape: Shape,
    at_once: usize,
    between: Duration,
    measured: Duration,
) -> Result<Measured> {
    let pace = Pace {
        apart: Duration::ZERO,
        between,
        at_once,
    };
    in_time(measured, run_paced(target, shape, pace, measured)).await
}

/// When a socket sends.
#[derive(Clone, Copy)]
struct Pace {
    /// Between the first requests of two sockets.
    apart: Duration,
    /// Between the groups of requests of one socket.
    between: Duration,
    /// Requests of a group.
    at_once: usize,
}

async fn in_time(measured: Duration, run: impl Future<Output = Result<Measured>>) -> Result<Measured> {
    let ended = tokio::time::timeout(measured + ANSWER_MAX, run).await;
    ended.context("answers did not come")?
}

async fn run_closed(target: &Target, shape: Shape, measured: Duration) -> Result<Measured> {
    let connections = open(target, shape.sockets).await?;
    // Where the number of requests is bounded, all of them count.
    let bounded = shape.requests_max != usize::MAX;
    let from = Instant::now() + if bounded { Duration::ZERO } else { WARM_UP };
    let window = Window {
        from,
        to: from + measured,
    };
    let loops = connections
        .into_iter()
        .map(|connection| keep_busy(connection, shape, window));
    let cost = async {
        tokio::time::sleep_until(window.from.into()).await;
        let before = cpu_time(target.workerd_pid);
        if bounded {
            return Ok((before, None));
        }
        tokio::time::sleep_until(window.to.into()).await;
        Ok((before, cpu_time(target.workerd_pid)))
    };
    let (parts, (before, after)) = tokio::try_join!(try_join_all(loops), cost)?;
    let mut whole = Measured::new()?;
    let ended = parts
        .iter()
        .map(|(_, ended)| *ended)
        .max()
        .context("a run without sockets")?;
    for (part, _) in &parts {
        whole.add(part)?;
    }
    whole.took = ended.min(window.to).saturating_duration_since(window.from);
    let after = after.or_else(|| cpu_time(target.workerd_pid));
    whole.cpu = after.and_then(|after| Some(after.saturating_sub(before?)));
    Ok(whole)
}

/// Keeps one socket busy until the window closes, then lets what is under way come to its end.
async fn keep_busy(mut connection: Connection, shape: Shape, window: Window) -> Result<(Measured, Instant)> {
    let mut measured = Measured::new()?;
    let mut sent_at: HashMap<usize, Instant> = HashMap::new();
    let (mut next, mut under_way, mut open) = (0, 0, 0);
    let mut last = Instant::now();
    loop {
        let goes_on = next < shape.requests_max && Instant::now() < window.to;
        while goes_on && under_way < shape.in_flight && open < OPEN_MAX && next < shape.requests_max {
            sent_at.insert(next, Instant::now());
            connection.send((shape.frame)(next)).await?;
            next += 1;
            under_way += 1;
            open += usize::from(shape.completes);
        }
        if under_way == 0 && open == 0 {
            return Ok((measured, last));
        }
        let incoming = connection.next().await?;
        let head = incoming.head()?;
        let id: usize = head
            .request_id
            .parse()
            .with_context(|| format!("an answer to {:?}", head.request_id))?;
        let sent = *sent_at.get(&id).context("an answer to a request that was not sent")?;
        if head.kind == shape.until {
            under_way -= 1;
            last = Instant::now();
            if window.is_open() {
                measured.requests += 1;
                measured.latency.saturating_record(microseconds(sent));
            }
        }
        if head.kind == "complete" && shape.completes {
            open -= 1;
            if window.is_open() {
                measured.completed += 1;
                measured.completion.saturating_record(microseconds(sent));
            }
        }
        if head.kind == "complete" || !shape.completes {
            sent_at.remove(&id);
        }
    }
}

async fn run_paced(target: &Target, shape: Shape, pace: Pace, measured: Duration) -> Result<Measured> {
    let connections = open(target, shape.sockets).await?;
    let start = Instant::now();
    let window = Window {
        from: start + WARM_UP,
        to: start + WARM_UP + measured,
    };
    let sockets = u32::try_from(shape.sockets)?;
    let loops = (0..sockets)
        .zip(connections)
        .map(|(index, connection)| keep_pace(connection, shape, start + pace.apart * index, pace, window));
    let mut whole = Measured::new()?;
    for part in try_join_all(loops).await? {
        whole.add(&part)?;
    }
    whole.took = measured;
    Ok(whole)
}

/// A request of a paced run.
struct Sent {
    at: Instant,
    /// Whether it was sent inside the window.
    counts: bool,
    /// Whether it counts, and the first frame of the awaited kind has not come: of progress, only the first is the beginning.
    awaited: bool,
}

/// Sends what is due from `first` on, and counts those sent inside the window.
async fn keep_pace(
    mut connection: Connection,
    shape: Shape,
    first: Instant,
    pace: Pace,
    window: Window,
) -> Result<Measured> {
    let mut measured = Measured::new()?;
    let mut sent_at: HashMap<usize, Sent> = HashMap::new();
    let (mut due, mut next) = (first, 0);
    loop {
        let goes_on = due < window.to;
        if !goes_on && sent_at.is_empty() {
            return Ok(measured);
        }
        let incoming = tokio::select! {
            () = tokio::time::sleep_until(due.into()), if goes_on => None,
            incoming = connection.next() => Some(incoming?),
        };
        let Some(incoming) = incoming else {
            let counts = window.is_open();
            let sent = Sent {
                at: Instant::now(),
                counts,
                awaited: counts,
            };
            sent_at.insert(next, sent);
            connection.send((shape.frame)(next)).await?;
            next += 1;
            if next % pace.at_once == 0 {
                due += pace.between;
            }
            continue;
        };
        let head = incoming.head()?;
        let id: usize = head
            .request_id
            .parse()
            .with_context(|| format!("an answer to {:?}", head.request_id))?;
        let sent = sent_at
            .get_mut(&id)
            .context("an answer to a request that was not sent")?;
        if head.kind == shape.until && sent.awaited {
            sent.awaited = false;
            measured.requests += 1;
            measured.latency.saturating_record(microseconds(sent.at));
        }
        if head.kind == "complete" {
            if sent.counts {
                measured.completed += 1;
                measured.completion.saturating_record(microseconds(sent.at));
            }
            sent_at.remove(&id);
        }
    }
}

/// The first answer to one request of `shape`: what the two sides give for the same frame can be compared.
pub async fn first_answer(target: &Target, shape: Shape) -> Result<Value> {
    let mut connection = Connection::open(target).await?;
    connection.send((shape.frame)(0)).await?;
    let answer = connection.next().await?;
    if answer.head()?.kind != shape.until {
        bail!("expected {:?} first, and {} came", shape.until, answer.value()?);
    }
    answer.value()
}
