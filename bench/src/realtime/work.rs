//! The work that each server does while it is measured. All of it is the same for all of them, to the byte of the data.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use serde_json::{Map, Value};

use super::dialect::Meaning;
use super::side::Side;
use super::swarm::{Heard, Swarm};
use crate::cost::cpu_time;
use crate::load::{WARM_UP, count, quantile_ms};

/// The last answer or message comes this soon, or the run has failed.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Between two messages to all: what is left of the first is over then.
const PAUSE: Duration = Duration::from_millis(50);
/// Messages to all that count for nothing: objects wake up, code gets compiled.
const WARM_MESSAGES: usize = 3;
/// Nanoseconds longer than this count as this long.
const NANOSECONDS_MAX: u64 = 120_000_000_000;

/// A clock that payloads carry.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn now(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(NANOSECONDS_MAX)
    }

    /// Microseconds since `sent`; none for what another run sent.
    fn since(self, sent: u64) -> Option<u64> {
        Some((self.now().checked_sub(sent)? / 1000).max(1))
    }
}

/// What a side answers to one request, and tells of one message: the fields of both frames, with the values that are the same each time.
/// Sides that give the same here move the same bytes, but for ids, offsets and times.
pub async fn sample(side: &Side) -> Result<Vec<Vec<String>>> {
    let mut swarm = Swarm::new()?;
    side.open(&mut swarm, 1, true).await?;
    let mut frames = Vec::new();
    for frame in [side.dialect.request(1, 7), side.dialect.publish(2, side.channel, 7)] {
        swarm.say(0, &frame)?;
        let (wanted, until) = (frames.len() + 1, Instant::now() + ANSWER_MAX);
        while frames.len() < wanted && Instant::now() < until {
            swarm.hear(until, &mut |_, heard| {
                if let Heard::Text(text) = heard
                    && matches!(side.dialect.meaning(text)?, Meaning::Payload(_))
                {
                    let fields: Map<String, Value> = serde_json::from_str(text)?;
                    let shown = |(name, value): (String, Value)| match name.as_str() {
                        "data" | "success" | "type" | "channel" | "publisher" => format!("{name}={value}"),
                        _ => name,
                    };
                    frames.push(fields.into_iter().map(shown).collect());
                }
                Ok(None)
            })?;
        }
    }
    Ok(frames)
}

/// What echoes showed.
pub struct Echoes {
    /// A second.
    pub rate: f64,
    /// Milliseconds.
    pub p99_ms: f64,
    /// CPU time of the server for each. Microseconds.
    pub cpu_us: f64,
}

/// Requests in a closed loop: `in_flight` on each of `sockets`.
pub async fn echoes(side: &Side, sockets: usize, in_flight: usize, measured: Duration) -> Result<Echoes> {
    let mut swarm = Swarm::new()?;
    side.open(&mut swarm, sockets, false).await?;
    let (clock, dialect) = (Clock::start(), side.dialect);
    for socket in 0..sockets {
        for id in 0..in_flight {
            swarm.say(socket, &dialect.request(id + 1, clock.now()))?;
        }
    }
    let from = Instant::now() + WARM_UP;
    let to = from + measured;
    let mut latency = Histogram::<u64>::new_with_bounds(1, NANOSECONDS_MAX / 1000, 3)?;
    let (mut answers, mut id, mut cpu) = (0, in_flight, None);
    loop {
        let now = Instant::now();
        if cpu.is_none() && now >= from {
            cpu = cpu_time(side.pid);
        }
        if now >= to {
            break;
        }
        swarm.hear(to, &mut |_, heard| {
            let Heard::Text(text) = heard else { return Ok(None) };
            Ok(match dialect.meaning(text)? {
                Meaning::Payload(sent) => {
                    answers += usize::from(now >= from);
                    if let (true, Some(took)) = (now >= from, clock.since(sent)) {
                        latency.saturating_record(took);
                    }
                    id += 1;
                    Some(dialect.request(id, clock.now()))
                }
                meaning => answer(&meaning),
            })
        })?;
    }
    let took = from.elapsed();
    if answers == 0 {
        bail!("{} answered nothing", side.kind.name());
    }
    let used = cpu.zip(cpu_time(side.pid));
    Ok(Echoes {
        rate: count(answers) / took.as_secs_f64(),
        p99_ms: milliseconds(latency.value_at_quantile(0.99)),
        cpu_us: used.map_or(f64::NAN, |(before, after)| {
            after.saturating_sub(before).as_secs_f64() * 1e6 / count(answers)
        }),
    })
}

/// How long messages took to those who follow.
pub struct Delivery {
    /// Milliseconds.
    pub p50_ms: f64,
    /// Milliseconds.
    pub p99_ms: f64,
}

/// `rate` messages a second to `sockets`, one of which publishes.
pub async fn steady(side: &Side, sockets: usize, rate: u32, measured: Duration) -> Result<Delivery> {
    let mut swarm = Swarm::new()?;
    side.open(&mut swarm, sockets, true).await?;
    let clock = Clock::start();
    let between = Duration::from_secs(1) / rate;
    let (begun, mut due) = (Instant::now(), Instant::now());
    let (mut published, mut wanted, mut took) = (0, 0, Vec::new());
    let mut heard_all = 0;
    let last = begun + WARM_UP + measured;
    loop {
        let goes_on = due < last;
        if !goes_on && heard_all >= wanted {
            break;
        }
        if Instant::now() > last + ANSWER_MAX {
            bail!("{heard_all} of {wanted} messages came from {}", side.kind.name());
        }
        if goes_on && Instant::now() >= due {
            published += 1;
            wanted += sockets;
            swarm.say(0, &side.dialect.publish(published, side.channel, clock.now()))?;
            due += between;
        }
        let until = if goes_on { due } else { last + ANSWER_MAX };
        let warm = WARM_UP.as_nanos();
        hear(side, &mut swarm, until, &mut |sent| {
            heard_all += 1;
            if u128::from(sent) >= warm
                && let Some(microseconds) = clock.since(sent)
            {
                took.push(microseconds);
            }
        })?;
    }
    Ok(Delivery {
        p50_ms: quantile_ms(&took, 0.5),
        p99_ms: quantile_ms(&took, 0.99),
    })
}

/// What messages to all showed: the medians of several.
pub struct FanOut {
    /// From sending to the last of the sockets. Milliseconds.
    pub last_ms: f64,
    /// CPU time of the server for each delivery. Microseconds.
    pub cpu_us: f64,
    /// How long the sockets took to open and follow, each. Microseconds.
    pub join_us: f64,
}

/// One message at a time to each of `sockets`, for as long as `measured`, and three at least.
pub async fn fan_out(side: &Side, sockets: usize, measured: Duration) -> Result<FanOut> {
    let mut swarm = Swarm::new()?;
    let opening = Instant::now();
    side.open(&mut swarm, sockets, true).await?;
    let join_us = opening.elapsed().as_secs_f64() * 1e6 / count(sockets);
    let clock = Clock::start();
    let (mut lasts, mut costs) = (Vec::new(), Vec::new());
    let (mut rounds, mut ends) = (0, Instant::now() + measured);
    while rounds < WARM_MESSAGES + 3 || Instant::now() < ends {
        rounds += 1;
        let before = cpu_time(side.pid);
        let (sent, begun) = (clock.now(), Instant::now());
        swarm.say(0, &side.dialect.publish(rounds, side.channel, sent))?;
        let (mut came, until) = (0, begun + ANSWER_MAX);
        while came < sockets {
            if Instant::now() >= until {
                bail!("{came} of {sockets} heard a message of {}", side.kind.name());
            }
            hear(side, &mut swarm, until, &mut |of| came += usize::from(of == sent))?;
        }
        let took = begun.elapsed();
        // What the server still does for this message counts, and what it does after is awaited.
        let pause = Instant::now() + PAUSE;
        while Instant::now() < pause {
            hear(side, &mut swarm, pause, &mut |_| came += 1)?;
        }
        if came != sockets {
            bail!("{} told {came} messages to {sockets} sockets", side.kind.name());
        }
        if rounds == WARM_MESSAGES {
            ends = Instant::now() + measured;
        }
        if rounds > WARM_MESSAGES {
            lasts.push(took.as_secs_f64() * 1e3);
            let cost = before.zip(cpu_time(side.pid));
            costs.push(cost.map_or(f64::NAN, |(before, after)| {
                after.saturating_sub(before).as_secs_f64() * 1e6 / count(sockets)
            }));
        }
    }
    // The system counts in hundredths of a second: only the sum tells.
    let cpu_us = costs.iter().sum::<f64>() / count(costs.len());
    Ok(FanOut {
        last_ms: crate::report::median(&lasts),
        cpu_us,
        join_us,
    })
}

/// Has every socket ask whether the server is there; gives how many were answered within `wait`.
pub fn pings(side: &Side, swarm: &mut Swarm, wait: Duration) -> Result<usize> {
    let until = Instant::now() + wait;
    let mut answered = vec![false; swarm.len()];
    let (mut asked, mut there) = (0, 0);
    while there < answered.len() && Instant::now() < until {
        // A few at a time, as from clients that do not ask in step.
        while asked < answered.len() && asked - there < 256 {
            match side.dialect.ping() {
                Some(text) => swarm.say(asked, text)?,
                None => swarm.ping(asked)?,
            }
            asked += 1;
        }
        swarm.hear(until, &mut |socket, heard| {
            let meaning = match heard {
                Heard::Text(text) => side.dialect.meaning(text)?,
                Heard::Pong => Meaning::Pong,
                Heard::Upgraded => Meaning::Other,
            };
            if let (Meaning::Pong, Some(answered)) = (&meaning, answered.get_mut(socket)) {
                there += usize::from(!*answered);
                *answered = true;
            }
            Ok(answer(&meaning))
        })?;
    }
    Ok(there)
}

/// Keeps sockets open for `time`, and answers what has to be.
pub fn idle(side: &Side, swarm: &mut Swarm, time: Duration) -> Result<()> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        hear(side, swarm, until, &mut |_| {})?;
    }
    Ok(())
}

/// Hears what comes once, and gives each payload to `payload`.
fn hear(side: &Side, swarm: &mut Swarm, until: Instant, payload: &mut dyn FnMut(u64)) -> Result<()> {
    swarm.hear(until, &mut |_, heard| {
        let Heard::Text(text) = heard else { return Ok(None) };
        let meaning = side.dialect.meaning(text)?;
        if let Meaning::Payload(sent) = meaning {
            payload(sent);
        }
        Ok(answer(&meaning))
    })
}

fn answer(meaning: &Meaning) -> Option<String> {
    match meaning {
        Meaning::Answer(answer) => Some((*answer).to_owned()),
        _ => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1000.0
}
