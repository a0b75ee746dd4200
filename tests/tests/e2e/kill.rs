//! `kill -9` of the whole server, at random moments and in the middle of each phase of a job, with jobs under way: every
//! acknowledged job ends exactly once.
//!
//! What the server was in the middle of is told by its own log: see [`tidegate_tests::phases`]. In every third round
//! the moment is random; in the others the log is watched, and the kill comes a random time of up to
//! [`AFTER_US`] after the beginning of a phase, the phases of [`AIMS`] in turn.
//!
//! `TIDEGATE_KILL_ROUNDS` says how often; `TIDEGATE_SEED` replays the moments of an earlier run.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::history::{Stream, is_terminal};
use tidegate_tests::phases::PHASES;
use tidegate_tests::server::Server;
use tidegate_tests::socket::{Incoming, Socket, job_of};
use tidegate_tests::tenant::{DEADLINE_MS, Tenant, composition};
use tidegate_tests::unique;
use tidegate_tests::upstream::Upstream;

/// Jobs under way in each round.
const JOBS: usize = 20;
/// Jobs beside them that are in the phase aimed at when it is aimed at.
const AIMED_JOBS: usize = 5;
/// The longest time between the first request and the kill. Milliseconds.
const LIFE_MS: u64 = 1800;
/// How near to a moment a request is timed. Milliseconds.
const NEAR_MS: u64 = 40;
/// How long an aimed kill comes after its line, at most. Microseconds.
const AFTER_US: f64 = 3000.0;
/// The phases aimed at in turn: those twice that the random moments seldom hit.
const AIMS: [&str; 7] = ["spill", "complete", "enqueue", "spill", "complete", "claim", "progress"];
/// How long the phase aimed at may let itself be waited for before the kill comes anyway. Milliseconds.
const PATIENCE_MS: u64 = 300;
/// Rounds from which on each phase must have been hit.
const ROUNDS_ENOUGH: u64 = 50;
/// Further rounds, all of them aimed at what was not hit yet, before a phase counts as one that is never hit: a
/// faster server makes phases shorter, and luck is nobody's fault.
const ROUNDS_MORE: u64 = 40;

struct Asked {
    frame: Value,
    job: Option<String>,
}

/// How the server dies.
struct Kill {
    /// When, from the beginning of the round; where it is aimed, when the aim is taken, roughly. Milliseconds.
    at_ms: u64,
    /// The phase aimed at, and how long after its beginning it comes.
    aim: Option<(&'static str, Duration)>,
}

impl Kill {
    fn of_round(round: u64, random: &mut fastrand::Rng) -> Self {
        if round.is_multiple_of(3) {
            return Self {
                at_ms: random.u64(1..LIFE_MS),
                aim: None,
            };
        }
        let index = usize::try_from(round - 1 - round / 3).unwrap_or_default() % AIMS.len();
        Self::aimed_at(AIMS[index], random)
    }

    fn aimed_at(phase: &'static str, random: &mut fastrand::Rng) -> Self {
        // Mostly soon: the shortest phases are over within a millisecond.
        let after_us = AFTER_US * random.f64().powi(3);
        Self {
            // Late enough for a deadline to have come.
            at_ms: random.u64(DEADLINE_MS + 2 * NEAR_MS..LIFE_MS),
            aim: Some((phase, Duration::from_secs_f64(after_us / 1e6))),
        }
    }
}

/// The same composition with the shortest leases there are: a round takes as long as they do.
fn short_leases(mut composition: Value) -> Value {
    for action in composition["actions"]
        .as_object_mut()
        .into_iter()
        .flat_map(|actions| actions.values_mut())
    {
        if action["mode"] != "sync" {
            action["lease"] = json!("1s");
        }
    }
    composition
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn every_acknowledged_job_ends_exactly_once_whenever_the_server_is_killed() {
    let rounds = setting("TIDEGATE_KILL_ROUNDS").unwrap_or(15);
    let seed = setting("TIDEGATE_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("{rounds} rounds, TIDEGATE_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let upstream = Upstream::start(Duration::from_millis(DEADLINE_MS));
    let server = Arc::new(Server::start_traced());
    let mut kills = Kills::default();
    let (mut acknowledged, mut ended) = (0, 0);
    for round in 0.. {
        let missing = PHASES.iter().find(|phase| !kills.inside.contains_key(*phase));
        let kill = match missing {
            _ if round < rounds => Kill::of_round(round, &mut random),
            Some(phase) if rounds >= ROUNDS_ENOUGH && round < rounds + ROUNDS_MORE => {
                Kill::aimed_at(phase, &mut random)
            }
            _ => break,
        };
        let tenant = Tenant::new(Arc::clone(&server));
        tenant.put_composition(&short_leases(composition(Some(&upstream))));
        let mut asked = ask(&tenant, &kill, &mut random);
        kills.count(&kill, &server);
        server.start_again();
        acknowledged += asked.iter().filter(|one| one.job.is_some()).count();
        for one in &mut asked {
            let end = follow_to_the_end(&tenant, one);
            assert!(is_terminal(&end), "round {round}: {end}");
            ended += 1;
        }
        println!("round {round}: {:?}", kills.inside);
    }
    println!("{acknowledged} jobs acknowledged before a kill, {ended} requests ended once\n{kills}");
    assert!(acknowledged > 0, "the kills came before any acknowledgment");
    if rounds >= ROUNDS_ENOUGH {
        for phase in PHASES {
            assert!(kills.inside.contains_key(phase), "no kill fell into {phase}:\n{kills}");
        }
    }
}

/// Into what the kills fell.
#[derive(Default)]
struct Kills {
    /// Kills inside each phase. One that fell into several, of several jobs, counts for each.
    inside: BTreeMap<&'static str, usize>,
    /// Those of them that came at a random moment.
    inside_at_random: BTreeMap<&'static str, usize>,
    /// Those of them that were aimed at it.
    inside_as_aimed: BTreeMap<&'static str, usize>,
    /// Kills aimed at each phase.
    aimed: BTreeMap<&'static str, usize>,
    /// Kills inside no phase.
    outside: usize,
    /// How often each phase began in all, to show that the counts mean something.
    begun: BTreeMap<&'static str, usize>,
}

impl Kills {
    /// Counts a kill that has just been.
    fn count(&mut self, kill: &Kill, server: &Server) {
        let phases = server.phases();
        let open = phases.open();
        self.outside += usize::from(open.is_empty());
        let aimed_at = kill.aim.map(|(phase, _)| phase);
        if let Some(phase) = aimed_at {
            *self.aimed.entry(phase).or_default() += 1;
        }
        for phase in open.into_keys() {
            *self.inside.entry(phase).or_default() += 1;
            if aimed_at.is_none() {
                *self.inside_at_random.entry(phase).or_default() += 1;
            } else if aimed_at == Some(phase) {
                *self.inside_as_aimed.entry(phase).or_default() += 1;
            }
        }
        for (phase, count) in phases.begun() {
            *self.begun.entry(phase).or_default() += count;
        }
    }
}

impl Display for Kills {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for phase in PHASES {
            let of = |counts: &BTreeMap<&str, usize>| counts.get(phase).copied().unwrap_or(0);
            writeln!(
                f,
                "{} kills inside {phase}: {} at a random moment, {} of the {} aimed at it, others in passing; it began {} times",
                of(&self.inside),
                of(&self.inside_at_random),
                of(&self.inside_as_aimed),
                of(&self.aimed),
                of(&self.begun)
            )?;
        }
        write!(f, "{} kills inside no phase", self.outside)
    }
}

/// A request, and when to send it so that a kill at `kill_ms` may fall into a step of it.
fn random_request(random: &mut fastrand::Rng, kill_ms: u64) -> (u64, Value) {
    let phase = match random.u8(0..12) {
        0 => "enqueue",
        1 => "claim",
        2..=4 => "progress",
        5..=7 => "complete",
        8 | 9 => "spill",
        10 => {
            let at = kill_ms.saturating_sub(random.u64(0..=800));
            return (at, request("hit.async", &json!({})));
        }
        _ => {
            let at = kill_ms.saturating_sub(random.u64(0..=1500));
            return (at, request("boom", &json!({ "message": "no luck", "retryable": true })));
        }
    };
    request_in(phase, random, kill_ms)
}

/// A request that is in `phase` at about `kill_ms`, and when to send it.
fn request_in(phase: &str, random: &mut fastrand::Rng, kill_ms: u64) -> (u64, Value) {
    let before = |random: &mut fastrand::Rng, ms: u64| kill_ms.saturating_sub(random.u64(0..=ms));
    let near_end =
        |ms: u64, random: &mut fastrand::Rng| (kill_ms + NEAR_MS).saturating_sub(ms + random.u64(0..NEAR_MS));
    let slow = |ms: u64, steps: u64| request("slow", &json!({ "ms": ms, "steps": steps }));
    match phase {
        "enqueue" => (before(random, 10), slow(100, 2)),
        "claim" => (before(random, 60), slow(300, 2)),
        "progress" => (before(random, 500), slow(random.u64(500..1000), random.u64(1..9))),
        "complete" => {
            let ms = random.u64(1..400);
            (near_end(ms, random), slow(ms, 2))
        }
        // One that goes on, or one whose outcome comes at about the same time.
        "spill" if random.bool() => {
            let payload = json!({ "ms": random.u64(600..900), "steps": 3 });
            (near_end(DEADLINE_MS, random), request("spill", &payload))
        }
        "spill" => (near_end(DEADLINE_MS, random), request("hit.auto", &json!({}))),
        other => panic!("no phase is called {other}"),
    }
}

/// A request with a key, so that it can be asked for again.
fn request(action: &str, payload: &Value) -> Value {
    let id = format!("r-{}", unique());
    json!({ "type": "request", "id": id, "action": action, "payload": payload, "idempotency_key": id })
}

/// Sends the requests of one round over the time that the server has left to live, and kills it.
fn ask(tenant: &Tenant, kill: &Kill, random: &mut fastrand::Rng) -> Vec<Asked> {
    let mut socket = tenant.socket("alice");
    // Everything is awake, so that the times of this round mean what they say.
    socket.echoes();
    let mut plan: Vec<(u64, Value)> = (0..JOBS).map(|_| random_request(random, kill.at_ms)).collect();
    if let Some((phase, _)) = kill.aim {
        plan.extend((0..AIMED_JOBS).map(|_| request_in(phase, random, kill.at_ms + NEAR_MS)));
    }
    plan.sort_by_key(|(at, _)| *at);
    let begin = Instant::now();
    let mut aim = kill.aim;
    let mut asked: Vec<Asked> = Vec::new();
    let mut lives = true;
    for (at, frame) in plan {
        if at >= kill.at_ms
            && let Some((phase, after)) = aim.take()
        {
            lives = lives && listen(&mut socket, &mut asked, kill, begin + Duration::from_millis(kill.at_ms));
            tenant.server.aim(phase, after);
        }
        lives = lives && listen(&mut socket, &mut asked, kill, begin + Duration::from_millis(at));
        socket.send(&frame);
        asked.push(Asked { frame, job: None });
    }
    let mut kill_ms = kill.at_ms;
    if let Some((phase, after)) = aim.take() {
        lives = lives && listen(&mut socket, &mut asked, kill, begin + Duration::from_millis(kill.at_ms));
        tenant.server.aim(phase, after);
    }
    if kill.aim.is_some() {
        kill_ms += PATIENCE_MS;
    }
    if lives {
        listen(&mut socket, &mut asked, kill, begin + Duration::from_millis(kill_ms));
    }
    tenant.server.kill();
    // What had already been sent when the server died still arrives, and counts.
    while let Incoming::Frame(frame) = socket.next_within(Duration::from_millis(200)) {
        learn(&mut asked, &frame);
    }
    asked
}

/// Listens until then, or until the server is gone, which it may be before where the kill is aimed. Whether it lives.
fn listen(socket: &mut Socket, asked: &mut [Asked], kill: &Kill, until: Instant) -> bool {
    loop {
        match socket.next_within(until.saturating_duration_since(Instant::now())) {
            Incoming::Frame(frame) => learn(asked, &frame),
            Incoming::Nothing => return true,
            Incoming::Closed(None) if kill.aim.is_some() => return false,
            Incoming::Closed(code) => panic!("the server ended the connection before it was killed: {code:?}"),
        }
    }
}

fn learn(asked: &mut [Asked], frame: &Value) {
    let Some(one) = asked.iter_mut().find(|one| one.frame["id"] == frame["request_id"]) else {
        return;
    };
    match frame["type"].as_str() {
        Some("acknowledgment") => one.job = Some(job_of(frame)),
        Some("progress" | "retrying" | "response" | "complete") => {}
        Some("error") if frame["job_id"].is_string() => {}
        other => panic!("an unexpected answer, {other:?}: {frame}"),
    }
}

/// Asks for the same work again, by its key, and follows it to its end; then reads its whole history.
///
/// A request that was answered on the spot before the kill has a stored answer, which comes again without the job's id;
/// the history of the job behind it is checked all the same.
fn follow_to_the_end(tenant: &Tenant, one: &mut Asked) -> Value {
    let client = tenant.client("alice");
    let job = match &one.job {
        // Acknowledged means stored: it is not asked for again, it must be there.
        Some(job) => job.clone(),
        None => {
            // Had it been stored all the same, it is the same job: the key says so.
            let answer = client.post_with("/v1/requests", &[("prefer", "respond-async")], &one.frame);
            let again = answer.json(answer.status);
            match again["job_id"].as_str() {
                Some(job) => job.to_owned(),
                None => job_by_key(tenant, &one.frame),
            }
        }
    };
    let done = client.get(&format!("/v1/jobs/{job}?wait=30")).json(200);
    let wanted = if one.frame["action"] == "boom" {
        "failed"
    } else {
        "succeeded"
    };
    assert_eq!(done["status"], wanted, "{} {done}", one.frame);
    let events = client
        .send(
            "GET",
            &format!("/v1/jobs/{job}/events"),
            &[("accept", "application/json")],
            &[],
        )
        .json(200);
    let mut stream = Stream::default();
    let events = events["events"].as_array().expect("a list of events");
    for event in events {
        stream.see(&tenant.observer, event);
    }
    assert_eq!(tenant.observer.ends(&job), 1, "{job}: {events:#?}");
    events.last().cloned().expect("an ended job has at least its end")
}

fn job_by_key(tenant: &Tenant, frame: &Value) -> String {
    let mut socket = tenant.socket("alice");
    let attach = json!({ "type": "attach", "action": frame["action"], "idempotency_key": frame["idempotency_key"] });
    let request = socket.ask(attach);
    job_of(&socket.answer(&request))
}
