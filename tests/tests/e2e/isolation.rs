//! One tenant cannot slow another beyond the share of the machine that its work takes: places, queues and outboxes are
//! each tenant's own.
//!
//! What a quiet tenant waits is measured on the same server, in the same minute, alone and beside a noisy one, and
//! compared with that and with what the noisy one waits itself. It is one process with one thread: a turn of one tenant
//! takes its time from all, and that is the share that the bounds allow for.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::server::Server;
use tidegate_tests::socket::{Incoming, Socket, job_of};
use tidegate_tests::tenant::Tenant;
use tidegate_tests::{eventually, unique};

/// Attempts under way at once in one shard, as docs/reference/limits.md has it.
const PLACES: usize = 128;
/// How long the noisy tenant's jobs hold their places: no place comes free while a test looks.
const HELD_MS: u64 = 60_000;
/// How long a job of the quiet tenant works. Milliseconds.
const SHORT_MS: u64 = 5;
/// Round trips of each kind that a figure is the median of.
const ROUNDS: usize = 30;
/// Jobs of a batch, and batches: a backlog that takes a second to work off, or several.
const BATCH: usize = 1000;
const BATCHES: usize = 5;
/// Round trips that another tenant makes meanwhile, at least.
const ROUNDS_MIN: usize = 5;

/// The medians of a tenant's round trips.
#[derive(Debug, Clone, Copy)]
struct Waits {
    /// A `sync` echo, there and back.
    echo: Duration,
    /// An `async` request, until it is acknowledged.
    acknowledgment: Duration,
    /// The same, until the job's end.
    end: Duration,
    /// The longest wait for an end.
    end_max: Duration,
}

/// A tenant whose jobs have the usual leases: short ones would be noise of their own.
fn tenant(server: &Arc<Server>) -> Tenant {
    let tenant = Tenant::new(Arc::clone(server));
    tenant.put_composition(&json!({
        "tidegate": 1,
        "scale": { "hubs": 1, "shards": 1 },
        "patterns": { "core": { "use": "core" } },
        "actions": {
            "core.echo": { "run": "core.echo", "mode": "sync" },
            "echo.stored": { "run": "core.echo", "mode": "async" },
            "slow": { "run": "core.delay", "mode": "async" },
        },
    }));
    tenant
}

/// Measures, one round trip after the other. Nothing may be refused.
fn measure(socket: &mut Socket) -> Waits {
    // Objects and plans are loaded, so that both times measure the same.
    socket.echoes();
    let warm = json!({ "action": "slow", "payload": { "ms": 0, "steps": 1 } });
    let (request, _) = socket.enqueue(warm);
    socket.end(&request);
    let (mut echoes, mut acknowledgments, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        socket.echoes();
        echoes.push(begin.elapsed());
        let begin = Instant::now();
        let frame = json!({ "action": "slow", "payload": { "ms": SHORT_MS, "steps": 1 } });
        // Anything but an acknowledgment fails here.
        let (request, _) = socket.enqueue(frame);
        acknowledgments.push(begin.elapsed());
        let end = socket.end(&request);
        ends.push(begin.elapsed());
        assert_eq!(end["type"], "complete", "{end}");
        assert_eq!(end["attempt"], 1, "{end}");
    }
    ends.sort();
    Waits {
        echo: median(echoes),
        acknowledgment: median(acknowledgments),
        end: ends[ends.len() / 2],
        end_max: ends[ends.len() - 1],
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Sends `count` requests on one socket that follows none of the jobs, so that it may have more than it may follow.
fn enqueue_many(tenant: &Tenant, count: usize, frame: &Value) {
    let mut socket = tenant.socket("noisy");
    for _ in 0..count {
        let (_, job) = socket.enqueue(frame.clone());
        socket.ask(json!({ "type": "detach", "job_id": job }));
    }
}

/// How many jobs of `tenant` are in the state `status`.
fn count(tenant: &Tenant, status: &str) -> usize {
    let client = tenant.client("noisy");
    let (mut found, mut cursor) = (0, String::new());
    loop {
        let page = client
            .get(&format!("/v1/jobs?status={status}&limit=100{cursor}"))
            .json(200);
        found += page["jobs"].as_array().expect("a list of jobs").len();
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

#[test]
fn jobs_start_at_once_while_another_tenant_holds_all_its_places() {
    let server = Arc::new(Server::start());
    let (quiet, noisy) = (tenant(&server), tenant(&server));
    let mut socket = quiet.socket("quiet");
    let alone = measure(&mut socket);
    let begin = Instant::now();
    enqueue_many(
        &noisy,
        PLACES + 200,
        &json!({ "action": "slow", "payload": { "ms": HELD_MS, "steps": 1 } }),
    );
    // Every place is taken, and the rest waits: a job of the noisy tenant's own does not start now.
    assert_eq!(count(&noisy, "running"), PLACES);
    let own = noisy.client("noisy").post(
        "/v1/requests",
        &json!({ "action": "slow", "payload": { "ms": 0, "steps": 1 } }),
    );
    let own = job_of(&own.json(202));

    let beside = measure(&mut socket);
    println!("alone {alone:?}\nbeside a tenant that holds all its places {beside:?}");
    let waiting = noisy.client("noisy").get(&format!("/v1/jobs/{own}")).json(200);
    assert_eq!(
        waiting["status"], "queued",
        "the noisy tenant's own job waits: {waiting}"
    );
    assert!(
        begin.elapsed() < Duration::from_millis(HELD_MS),
        "the machine is too slow for this test: places came free while it ran"
    );
    // Held places cost no processor time. What they may cost is noise: half a second and twice the time alone for the
    // median, a few seconds for the worst of all. Waiting for a place would cost what is left of the minute.
    assert!(beside.end <= alone.end * 2 + Duration::from_millis(500), "{beside:?}");
    assert!(beside.end_max <= Duration::from_secs(10), "{beside:?}");
}

#[test]
fn a_backlog_that_drains_lets_others_in_all_the_while() {
    let server = Arc::new(Server::start());
    let (quiet, noisy) = (tenant(&server), tenant(&server));
    let mut socket = quiet.socket("quiet");
    let alone = measure(&mut socket);
    let client = noisy.client_with("noisy", "jobs:read jobs:write");
    client
        .post("/v1/queue:pause", &json!({ "action": "echo.stored" }))
        .json(200);
    let batch: Vec<Value> = (0..BATCH)
        .map(|order| json!({ "action": "echo.stored", "payload": { "order": order } }))
        .collect();
    for _ in 0..BATCHES {
        client.post("/v1/requests:batch", &json!(batch)).json(200);
    }
    let begin = Instant::now();
    let mut rounds: Vec<Duration> = Vec::new();
    thread::scope(|scope| {
        // The end of one job starts the next: from here on the thread always has something to do.
        scope.spawn(|| {
            client
                .post("/v1/queue:resume", &json!({ "action": "echo.stored" }))
                .json(200)
        });
        let mut waiting = true;
        while waiting {
            let begin = Instant::now();
            socket.echoes();
            let (request, _) = socket.enqueue(json!({ "action": "slow", "payload": { "ms": SHORT_MS, "steps": 1 } }));
            assert_eq!(socket.end(&request)["type"], "complete");
            waiting = client.get("/v1/queue").json(200)["waiting"] != json!(0);
            rounds.push(begin.elapsed());
        }
    });
    let took = begin.elapsed();
    let longest = rounds.iter().max().copied().unwrap_or_default();
    println!(
        "alone {alone:?}\nbeside a backlog that drained in {took:?}: {} rounds, the longest {longest:?}",
        rounds.len()
    );
    // Whatever the machine: where no socket is read, or no timer fires, before all of the backlog is done, there is a round or two,
    // and one of them takes all of the time.
    assert!(rounds.len() >= ROUNDS_MIN, "{rounds:?} in {took:?}");
    assert!(longest < took / 2, "{longest:?} of {took:?}");
}

#[test]
fn a_flood_of_one_tenant_costs_another_its_share_of_the_thread_and_no_more() {
    let server = Arc::new(Server::start());
    let (quiet, noisy) = (tenant(&server), tenant(&server));
    let mut socket = quiet.socket("quiet");
    let alone = measure(&mut socket);
    let (stop, stored) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (beside, noise) = thread::scope(|scope| {
        let (noisy, stop, stored) = (&noisy, &stop, &stored);
        let threads: Vec<_> = FLOOD
            .iter()
            .flat_map(|flood| (0..flood.sockets).map(move |_| flood))
            .map(|flood| scope.spawn(move || (flood.name, drown(noisy, flood, stop, stored))))
            .collect();
        let ending = Stop(stop);
        eventually("a full queue of the noisy tenant", || {
            (stored.load(Ordering::SeqCst) > PLACES + 1000).then_some(())
        });
        let beside = measure(&mut socket);
        drop(ending);
        let mut noise: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
        for thread in threads {
            let (name, times) = thread.join().expect("the noise is no test of its own");
            noise.entry(name).or_default().extend(times);
        }
        let noise: BTreeMap<&str, (usize, Duration)> = noise
            .into_iter()
            .map(|(name, times)| (name, (times.len(), median(times))))
            .collect();
        (beside, noise)
    });
    println!("alone {alone:?}\nbeside a flood {beside:?}\nanswers of the flood, and their medians: {noise:?}");
    assert!(
        noise.values().all(|(answers, _)| *answers >= ROUNDS),
        "every kind of noise was there: {noise:?}"
    );
    // One thread serves both tenants, so that a request waits while the ones under way of the noisy tenant are taken,
    // some hundred of a millisecond or less each, once for each hop of its way: a tenth of a second is usual. Half a
    // second and ten times the time alone leave room for a busy machine. Places or a queue that were shared would cost
    // what is left of a minute.
    for (what, alone, beside, same) in [
        ("an echo", alone.echo, beside.echo, "echoes"),
        (
            "an acknowledgment",
            alone.acknowledgment,
            beside.acknowledgment,
            "slow jobs",
        ),
        ("an end", alone.end, beside.end, "slow jobs"),
    ] {
        assert!(beside <= alone * 10 + Duration::from_millis(500), "{what}: {beside:?}");
        // Whatever the machine: a tenant with one request under way is not served worse than one that has a hundred.
        let (_, theirs) = noise[same];
        assert!(
            beside <= theirs * 3 + Duration::from_millis(100),
            "{what}: {beside:?}, the flood's own {theirs:?}"
        );
    }
    assert!(beside.end_max <= Duration::from_secs(10), "{beside:?}");
}

/// Stops the noise, also where the test fails meanwhile.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// One kind of noise.
struct Flood {
    name: &'static str,
    /// Connections.
    sockets: usize,
    /// Requests under way on each: a new one is sent when one is answered.
    window: usize,
    action: &'static str,
    /// Of the payload.
    bytes: usize,
    /// How long a job works.
    ms: Option<u64>,
}

/// All of them at once.
const FLOOD: [Flood; 3] = [
    Flood {
        name: "echoes",
        sockets: 8,
        window: 4,
        action: "core.echo",
        bytes: 100,
        ms: None,
    },
    Flood {
        name: "slow jobs",
        sockets: 8,
        window: 8,
        action: "slow",
        bytes: 0,
        ms: Some(HELD_MS),
    },
    Flood {
        name: "huge payloads",
        sockets: 2,
        window: 1,
        action: "echo.stored",
        bytes: 200_000,
        ms: None,
    },
];

/// Keeps a socket of `tenant` full until it is told to stop; gives the times to the first answers.
fn drown(tenant: &Tenant, flood: &Flood, stop: &AtomicBool, stored: &AtomicUsize) -> Vec<Duration> {
    let mut socket = tenant.socket("noisy");
    let payload = match flood.ms {
        Some(ms) => json!({ "ms": ms, "steps": 1 }),
        None => json!({ "text": "x".repeat(flood.bytes) }),
    };
    let mut frame = json!({ "action": flood.action, "payload": payload });
    let mut under_way: HashMap<String, Instant> = HashMap::new();
    let mut times = Vec::new();
    let mut ask = |socket: &mut Socket, under_way: &mut HashMap<String, Instant>| {
        let id = unique();
        frame["id"] = json!(id);
        socket.send(&frame);
        under_way.insert(id, Instant::now());
    };
    for _ in 0..flood.window {
        ask(&mut socket, &mut under_way);
    }
    while !stop.load(Ordering::SeqCst) {
        let answer = match socket.next_within(Duration::from_millis(100)) {
            Incoming::Frame(answer) => answer,
            Incoming::Nothing => continue,
            Incoming::Closed(code) => panic!("the noise was cut off: {code:?}"),
        };
        let Some(sent) = answer["request_id"].as_str().and_then(|id| under_way.remove(id)) else {
            continue;
        };
        times.push(sent.elapsed());
        // A refusal for what is the noisy tenant's own fault is an answer too.
        if answer["type"] == "acknowledgment" {
            stored.fetch_add(1, Ordering::SeqCst);
            socket.ask(json!({ "type": "detach", "job_id": answer["job_id"] }));
        }
        ask(&mut socket, &mut under_way);
    }
    times
}
