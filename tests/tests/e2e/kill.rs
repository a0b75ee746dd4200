//! `kill -9` of the whole server at random moments, with jobs under way: every acknowledged job ends exactly once.
//!
//! `TIDEGATE_KILL_ROUNDS` says how often; `TIDEGATE_SEED` replays the moments of an earlier run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::history::{Stream, is_terminal};
use tidegate_tests::server::Server;
use tidegate_tests::socket::{Incoming, Socket, job_of};
use tidegate_tests::tenant::{DEADLINE_MS, Tenant, composition};
use tidegate_tests::unique;
use tidegate_tests::upstream::Upstream;

/// Jobs under way in each round.
const JOBS: usize = 20;
/// The longest time between the first request and the kill. Milliseconds.
const LIFE_MS: u64 = 1800;

/// What a client knew of a request when the server died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    /// Sent, and nothing heard: in or before the enqueue.
    Enqueuing,
    /// Acknowledged, and nothing more: in or just after the claim.
    Claiming,
    /// Progress seen.
    Running,
    /// Its work was done, and no end was heard: around the completion.
    Completing,
    /// Its deadline had come, and nothing was heard: around the spill.
    Spilling,
    /// A retry announced.
    Retrying,
    /// Ended.
    Ended,
}

/// How near to a moment a kill counts as having fallen into it. Milliseconds.
const NEAR_MS: u64 = 40;

struct Asked {
    frame: Value,
    /// When it was sent. Milliseconds from the beginning of the round.
    sent_ms: u64,
    known: Known,
    job: Option<String>,
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
    let server = Arc::new(Server::start());
    let mut counts: BTreeMap<Known, usize> = BTreeMap::new();
    let (mut acknowledged, mut ended) = (0, 0);
    for round in 0..rounds {
        let tenant = Tenant::new(Arc::clone(&server));
        tenant.put_composition(&short_leases(composition(Some(&upstream))));
        let mut asked = ask(&tenant, &mut random);
        for one in &asked {
            *counts.entry(one.known).or_default() += 1;
        }
        server.start_again();
        acknowledged += asked.iter().filter(|one| one.job.is_some()).count();
        for one in &mut asked {
            let end = follow_to_the_end(&tenant, one);
            assert!(is_terminal(&end), "round {round}: {end}");
            ended += 1;
        }
        println!("round {round}: {}", summary(&counts));
    }
    println!(
        "{acknowledged} jobs acknowledged before a kill, {ended} requests ended once; at the kill: {}",
        summary(&counts)
    );
    assert!(acknowledged > 0, "the kills came before any acknowledgment");
    if rounds >= 50 {
        for known in [
            Known::Enqueuing,
            Known::Claiming,
            Known::Running,
            Known::Completing,
            Known::Spilling,
        ] {
            assert!(
                counts.contains_key(&known),
                "no kill fell into {known:?}: {}",
                summary(&counts)
            );
        }
    }
}

fn summary(counts: &BTreeMap<Known, usize>) -> String {
    counts
        .iter()
        .map(|(known, count)| format!("{known:?} {count}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A request, and when to send it so that a kill at `kill_ms` may fall into a step of it. It has a key, so that it can be
/// asked for again.
fn random_request(random: &mut fastrand::Rng, kill_ms: u64) -> (u64, Value) {
    let before = |random: &mut fastrand::Rng, ms: u64| kill_ms.saturating_sub(random.u64(0..=ms));
    let near_end =
        |ms: u64, random: &mut fastrand::Rng| (kill_ms + NEAR_MS).saturating_sub(ms + random.u64(0..NEAR_MS));
    let (at, action, payload) = match random.u8(0..12) {
        // The enqueue, the claim.
        0 => (before(random, 10), "slow", json!({ "ms": 100, "steps": 2 })),
        1 => (before(random, 60), "slow", json!({ "ms": 300, "steps": 2 })),
        // Progress.
        2..=4 => (
            before(random, 500),
            "slow",
            json!({ "ms": random.u64(500..1000), "steps": random.u64(1..9) }),
        ),
        // The completion.
        5..=7 => {
            let ms = random.u64(1..400);
            (near_end(ms, random), "slow", json!({ "ms": ms, "steps": 2 }))
        }
        // The spill; of one that goes on, and of one whose outcome comes at about the same time.
        8 => (
            near_end(DEADLINE_MS, random),
            "spill",
            json!({ "ms": random.u64(600..900), "steps": 3 }),
        ),
        9 => (near_end(DEADLINE_MS, random), "hit.auto", json!({})),
        10 => (before(random, 800), "hit.async", json!({})),
        _ => (
            before(random, 1500),
            "boom",
            json!({ "message": "no luck", "retryable": true }),
        ),
    };
    let id = format!("r-{}", unique());
    let frame = json!({ "type": "request", "id": id, "action": action, "payload": payload, "idempotency_key": id });
    (at, frame)
}

/// Sends the requests of one round over the time that the server has left to live, kills it, and says what was known.
fn ask(tenant: &Tenant, random: &mut fastrand::Rng) -> Vec<Asked> {
    let mut socket = tenant.socket("alice");
    // Everything is awake, so that the times of this round mean what they say.
    socket.echoes();
    let kill_ms = random.u64(1..LIFE_MS);
    let mut plan: Vec<(u64, Value)> = (0..JOBS).map(|_| random_request(random, kill_ms)).collect();
    plan.sort_by_key(|(at, _)| *at);
    let begin = Instant::now();
    let since = || u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut asked: Vec<Asked> = Vec::new();
    for (at, frame) in plan {
        listen(&mut socket, &mut asked, begin + Duration::from_millis(at));
        socket.send(&frame);
        asked.push(Asked {
            frame,
            sent_ms: since(),
            known: Known::Enqueuing,
            job: None,
        });
    }
    listen(&mut socket, &mut asked, begin + Duration::from_millis(kill_ms));
    tenant.server.kill();
    let killed_ms = since();
    // What had already been sent when the server died still arrives, and counts.
    while let Incoming::Frame(frame) = socket.next_within(Duration::from_millis(200)) {
        learn(&mut asked, &frame);
    }
    for one in &mut asked {
        let age_ms = killed_ms.saturating_sub(one.sent_ms);
        let work_ms = one.frame["payload"]["ms"].as_u64().unwrap_or(DEADLINE_MS);
        let is_auto = one.frame["action"] == "hit.auto" || one.frame["action"] == "spill";
        one.known = match one.known {
            Known::Enqueuing if is_auto && age_ms + NEAR_MS >= DEADLINE_MS => Known::Spilling,
            Known::Claiming | Known::Running if age_ms >= work_ms => Known::Completing,
            known => known,
        };
    }
    asked
}

fn listen(socket: &mut Socket, asked: &mut [Asked], until: Instant) {
    loop {
        match socket.next_within(until.saturating_duration_since(Instant::now())) {
            Incoming::Frame(frame) => learn(asked, &frame),
            Incoming::Nothing => return,
            Incoming::Closed(code) => panic!("the server ended the connection before it was killed: {code:?}"),
        }
    }
}

fn learn(asked: &mut [Asked], frame: &Value) {
    let Some(one) = asked.iter_mut().find(|one| one.frame["id"] == frame["request_id"]) else {
        return;
    };
    one.known = match frame["type"].as_str() {
        Some("acknowledgment") => {
            one.job = Some(job_of(frame));
            Known::Claiming
        }
        Some("progress") => Known::Running,
        Some("retrying") => Known::Retrying,
        Some("response" | "complete") => Known::Ended,
        Some("error") if frame["job_id"].is_string() => Known::Ended,
        other => panic!("an unexpected answer, {other:?}: {frame}"),
    };
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
