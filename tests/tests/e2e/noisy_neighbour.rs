//! A tenant that floods everything it can reach, and its neighbour in the same process, who is to notice nothing.
//!
//! What is measured is compared within one run, in turns: windows in which the neighbour is alone, and windows beside the noise. So a
//! machine that is slow, or busy with other tests, is so for both. What counts is a request that does something: an upstream of the
//! neighbour's own is asked, which takes as long as a quick one does. What a bare frame waits, a millisecond alone, is shown besides; how
//! that fares is for a machine with nothing else to do (`cargo xtask bench neighbour`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tidegate_tests::eventually;
use tidegate_tests::handler::Handler;
use tidegate_tests::receiver::Answer;
use tidegate_tests::server::Server;
use tidegate_tests::tenant::{Tenant, composition};
use tidegate_tests::upstream::Upstream;

/// Windows of each kind. The pairs take turns.
const WINDOWS: usize = 4;
const WINDOW: Duration = Duration::from_secs(4);
/// Between two rounds of the quiet tenant's requests.
const PACE: Duration = Duration::from_millis(20);
/// Every so many of these it asks for a job over HTTP besides.
const JOB_EVERY: usize = 25;
/// How many long jobs the noisy tenant holds.
const HELD: usize = 50;
/// Sockets that flood, and what each sends at once, again and again.
const FLOODING: usize = 4;
const BURST: usize = 3;
const BETWEEN_BURSTS: Duration = Duration::from_millis(15);
/// What the noisy tenant may do in a second; it tries several times as much.
const ALLOWED: u32 = 60;
/// How much longer the quiet tenant may wait beside the noise than alone, half of the time.
const RATIO_MAX: f64 = 1.5;
/// How long the quiet tenant's upstream takes.
const UPSTREAM: Duration = Duration::from_millis(20);

/// What the noisy tenant does while `on`.
struct Noise {
    on: AtomicBool,
    over: AtomicBool,
    admitted: AtomicUsize,
    refused: AtomicUsize,
    failed: AtomicUsize,
}

impl Noise {
    fn lasts(&self) -> bool {
        !self.over.load(Ordering::SeqCst)
    }

    /// Runs `once` again and again while the noise is on, with a pause behind each.
    fn make(&self, pause: Duration, mut once: impl FnMut()) {
        while self.lasts() {
            if self.on.load(Ordering::SeqCst) {
                once();
            }
            thread::sleep(pause);
        }
    }

    fn count(&self, code: Option<&str>) {
        let counter = match code {
            None => &self.admitted,
            Some("RATE_LIMITED") => &self.refused,
            Some("UPSTREAM_ERROR" | "CIRCUIT_OPEN") => &self.failed,
            Some(other) => panic!("not an answer to a flood: {other}"),
        };
        counter.fetch_add(1, Ordering::SeqCst);
    }

    fn seen(&self) -> [usize; 3] {
        [&self.admitted, &self.refused, &self.failed].map(|counter| counter.load(Ordering::SeqCst))
    }
}

/// A tenant that may do little, whose upstream is broken.
fn noisy(server: &Arc<Server>, upstream: &str) -> Tenant {
    let tenant = Tenant::new(Arc::clone(server));
    let mut document = composition(None);
    let breaker = json!({ "consecutive_failures": 5, "failure_percent": 0, "open": "1s", "successes": 1 });
    let main = json!({ "base_url": upstream, "allow_private": true, "timeout": "5s", "breaker": breaker });
    document["patterns"]["up"] = json!({ "use": "http", "config": { "upstreams": { "main": main } } });
    let with = json!({ "upstream": "main", "method": "GET" });
    document["actions"]["broken"] = json!({ "run": "up.call", "mode": "sync", "with": with });
    let rate = json!({ "units": ALLOWED, "per": "1s" });
    document["admission"] = json!({ "limits": { "all": { "rate": rate } } });
    tenant.put_composition(&document);
    tenant
}

fn flood_sockets(tenant: &Tenant, noise: &Noise) {
    let mut socket = tenant.socket("flood");
    noise.make(BETWEEN_BURSTS, || {
        let asked: Vec<String> = (0..BURST)
            .map(|_| socket.ask(json!({ "action": "core.echo", "payload": "noise" })))
            .collect();
        for id in asked {
            let answer = socket.frame(|frame| frame["request_id"] == id.as_str());
            noise.count(answer["error"]["code"].as_str());
        }
    });
}

fn flood_requests(tenant: &Tenant, noise: &Noise, action: &str) {
    let client = tenant.client("flood");
    noise.make(Duration::from_millis(15), || {
        let answer = client.post("/v1/requests", &json!({ "action": action }));
        noise.count(answer.json(answer.status)["code"].as_str());
    });
}

/// Starts the long jobs, waits until all of them run, and gives them; the rate lets them in by and by.
fn hold(tenant: &Tenant) {
    let client = tenant.client_with("holder", "jobs:read");
    for _ in 0..HELD {
        let body = json!({ "action": "slow", "payload": { "ms": 600_000, "steps": 20 } });
        eventually("a long job", || {
            (client.post("/v1/requests", &body).status == 202).then_some(())
        });
    }
    eventually("all long jobs", || {
        let queue = client.get("/v1/queue").json(200);
        (queue["running"].as_u64() >= Some(HELD as u64)).then_some(())
    });
}

fn release(tenant: &Tenant) {
    let client = tenant.client_with("admin", "jobs:read jobs:write");
    for _ in 0..HELD {
        let filter = json!({ "filter": { "action": "slow", "status": "running" } });
        if client.post("/v1/jobs:cancel", &filter).json(200)["cursor"].is_null() {
            break;
        }
    }
    eventually("the end of the long jobs", || {
        (client.get("/v1/queue").json(200)["running"] == 0).then_some(())
    });
}

/// How long the quiet tenant waited for its answers, in milliseconds.
#[derive(Default)]
struct Waits {
    echo: Vec<f64>,
    upstream: Vec<f64>,
}

/// What the quiet tenant does for one window. Each of its requests is answered with what it asked for.
fn quietly(tenant: &Tenant, waits: &mut Waits) {
    let mut socket = tenant.socket("quiet");
    let client = tenant.client("quiet");
    let end = Instant::now() + WINDOW;
    let mut asked = 0_usize;
    while Instant::now() < end {
        for (action, took) in [("core.echo", &mut waits.echo), ("hit.sync", &mut waits.upstream)] {
            let begun = Instant::now();
            let id = socket.ask(json!({ "action": action, "payload": {} }));
            let answer = socket.answer(&id);
            took.push(begun.elapsed().as_secs_f64() * 1_000.0);
            assert_eq!(answer["type"], "response", "{answer}");
        }
        asked += 1;
        if asked.is_multiple_of(JOB_EVERY) {
            let body = json!({ "action": "slow", "payload": { "ms": 1, "steps": 1 } });
            let job = tidegate_tests::socket::job_of(&client.post("/v1/requests", &body).json(202));
            let ended = client.get(&format!("/v1/jobs/{job}?wait=30")).json(200);
            assert_eq!(ended["status"], "succeeded", "{ended}");
        }
        thread::sleep(PACE);
    }
}

fn percentile(took: &mut [f64], part: usize) -> f64 {
    took.sort_by(f64::total_cmp);
    took[(took.len() * part / 100).min(took.len() - 1)]
}

#[test]
fn a_quiet_tenant_notices_nothing_of_one_that_floods_sockets_requests_and_a_broken_upstream() {
    let upstream = Handler::start(|_, _| Some(Answer::of(500, "{}")));
    let server = Arc::new(Server::start());
    let quiet = Tenant::new(Arc::clone(&server));
    let quick = Upstream::start(UPSTREAM);
    quiet.compose(Some(&quick));
    let noisy = noisy(&server, &upstream.url());
    let noise = Noise {
        on: AtomicBool::new(false),
        over: AtomicBool::new(false),
        admitted: AtomicUsize::new(0),
        refused: AtomicUsize::new(0),
        failed: AtomicUsize::new(0),
    };
    let (mut alone, mut beside) = (Waits::default(), Waits::default());
    thread::scope(|scope| {
        for _ in 0..FLOODING {
            scope.spawn(|| flood_sockets(&noisy, &noise));
        }
        for action in ["core.echo", "broken"] {
            let (noisy, noise) = (&noisy, &noise);
            scope.spawn(move || flood_requests(noisy, noise, action));
        }
        // The threads above end with this scope, however it ends.
        let _over = Ends(&noise);
        quietly(&quiet, &mut Waits::default());
        for _ in 0..WINDOWS {
            quietly(&quiet, &mut alone);
            hold(&noisy);
            noise.on.store(true, Ordering::SeqCst);
            quietly(&quiet, &mut beside);
            noise.on.store(false, Ordering::SeqCst);
            release(&noisy);
        }
    });
    let [admitted, refused, failed] = noise.seen();
    println!("the noise: {admitted} admitted, {refused} refused, {failed} that failed upstream");
    assert!(
        refused > admitted,
        "it was a flood: {admitted} admitted, {refused} refused"
    );
    assert!(failed > 0, "its upstream was broken");
    // The tail is the machine's as much as ours: `cargo xtask bench neighbour` holds the p99.
    for part in [90, 50] {
        let of = |took: &mut [f64]| percentile(took, part);
        let (echo_alone, echo_beside) = (of(&mut alone.echo), of(&mut beside.echo));
        println!("echo, p{part}: {echo_alone:.2} ms alone, {echo_beside:.2} ms beside the noise");
        let (alone, beside) = (of(&mut alone.upstream), of(&mut beside.upstream));
        println!("upstream, p{part}: {alone:.2} ms alone, {beside:.2} ms beside the noise");
        assert!(
            part > 50 || beside <= alone * RATIO_MAX,
            "p{part}: {beside:.2} ms beside the noise, {alone:.2} ms alone"
        );
    }
}

/// Ends the noise when it goes, also where the test has failed.
struct Ends<'a>(&'a Noise);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
    }
}
