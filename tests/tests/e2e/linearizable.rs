//! Linearizability: what clients and workers are told of the jobs of a key can be put into one order, as if one thing
//! happened after another, although several ask at once and the server is killed meanwhile.
//!
//! Each round has a tenant and a few keys, each with an action of its own, so that a worker that asks for the jobs of one
//! action is told of one key. Clients enqueue with the key, lease, finish with any token that anybody was given, and look,
//! in random order, most of them at the same keys at the same time; in the middle the server is killed and started again,
//! and later the objects are evicted. Then each key's history is checked on its own, as linearizability allows.
//!
//! `TIDEGATE_LINEAR_ROUNDS` says how many rounds, 4 by default; `TIDEGATE_SEED` replays the choices of an earlier run,
//! as far as time lets it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::http::{Answer, Client};
use tidegate_tests::server::Server;
use tidegate_tests::tenant::{Tenant, composition};

use specification::{Operation, Outcome, Recorded, Seen, Token, is_linearizable};

mod specification;

/// Clients at once.
const CLIENTS: usize = 4;
/// Keys of a round.
const KEYS: usize = 6;
/// What each client does in a round.
const STEPS: usize = 60;
/// The longest pause between two steps. Milliseconds.
const PAUSE_MS: u64 = 25;
/// The lease of a job: the shortest there is. Milliseconds.
const LEASE_MS: u64 = 1000;
/// How much earlier than the end of that a lease may be seen to end: clocks are read in whole milliseconds, and the
/// server's may be one of some moments before.
const CLOCKS_MS: u64 = 20;
/// What the kill is aimed at, in turn; nothing where its moment is random.
const AIMS: [Option<&str>; 4] = [Some("enqueue"), Some("complete"), None, Some("claim")];
/// How long the phase aimed at may let itself be waited for before the kill comes anyway.
const PATIENCE: Duration = Duration::from_millis(200);

/// What every body is.
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// A round's tenant, and what was done in it.
struct Round {
    tenant: Tenant,
    began: Instant,
    keys: Vec<Key>,
    unanswered_leases: AtomicUsize,
}

/// What clients know of a key, all of them together.
#[derive(Default)]
struct Key {
    history: Mutex<Vec<Recorded>>,
    jobs: Mutex<Vec<String>>,
    leased: Mutex<Vec<Leased>>,
}

#[derive(Clone)]
struct Leased {
    job: String,
    token: String,
}

/// Whom a client speaks to, and as whom.
struct Speaker {
    user: Client,
    worker: Client,
    url: String,
    name: String,
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn what_clients_and_workers_are_told_of_a_key_has_one_order_whenever_the_server_is_killed() {
    let rounds = setting("TIDEGATE_LINEAR_ROUNDS").unwrap_or(4);
    let seed = setting("TIDEGATE_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("{rounds} rounds, TIDEGATE_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let server = Arc::new(Server::start_traced());
    let mut seen = Counts::default();
    for (round, aim) in (0..rounds).zip(AIMS.into_iter().cycle()) {
        let played = Round::play(&server, aim, &mut random);
        for (number, key) in played.keys.iter().enumerate() {
            let history = locked(&key.history);
            seen.count(&history);
            let lease = Duration::from_millis(LEASE_MS - CLOCKS_MS);
            assert!(
                is_linearizable(&history, lease),
                "round {round}, key {number} of TIDEGATE_SEED={seed} has no order:\n{}",
                told(&history)
            );
        }
        println!("round {round}, aimed at {aim:?}: {seen:?}");
    }
    seen.say_something();
}

impl Round {
    fn play(server: &Arc<Server>, aim: Option<&'static str>, random: &mut fastrand::Rng) -> Self {
        let round = Self {
            tenant: Tenant::new(Arc::clone(server)),
            began: Instant::now(),
            keys: (0..KEYS).map(|_| Key::default()).collect(),
            unanswered_leases: AtomicUsize::new(0),
        };
        round.tenant.put_composition(&pulled());
        let played = &round;
        let mut choices: Vec<fastrand::Rng> = (0..CLIENTS).map(|_| random.fork()).collect();
        // A third of the steps at the earliest, so that there is something to lose.
        let steps = STEPS as u64;
        let kill_after = Duration::from_millis(random.u64(steps / 3..steps) * PAUSE_MS / 2);
        let steps_done = thread::scope(|scope| {
            let clients = choices.iter_mut().enumerate();
            let clients: Vec<_> = clients
                .map(|(client, random)| scope.spawn(move || played.act(client, 0, random)))
                .collect();
            thread::sleep(kill_after);
            if let Some(phase) = aim {
                server.aim(phase, Duration::from_micros(random.u64(0..1500)));
                thread::sleep(PATIENCE);
            }
            server.kill();
            let steps = clients.into_iter().map(|client| client.join().expect("a client"));
            steps.collect::<Vec<usize>>()
        });
        server.start_again();
        let evict_after = Duration::from_millis(random.u64(0..PAUSE_MS * 20));
        thread::scope(|scope| {
            for ((client, random), step) in choices.iter_mut().enumerate().zip(steps_done) {
                scope.spawn(move || played.act(client, step, random));
            }
            thread::sleep(evict_after);
            for (class, name) in played.tenant.objects() {
                server.evict(class, &name);
            }
        });
        round.look_back();
        round
    }

    fn speaker(&self, client: usize) -> Speaker {
        Speaker {
            user: self.tenant.client("alice"),
            worker: self.tenant.client_with("worker", "jobs:work"),
            url: self.tenant.server.url(),
            name: format!("w{client}"),
        }
    }

    /// What one client does from this step on, until it is done or the server is gone. The step that comes next.
    fn act(&self, client: usize, from: usize, random: &mut fastrand::Rng) -> usize {
        let speaker = self.speaker(client);
        for step in from..STEPS {
            thread::sleep(Duration::from_millis(random.u64(0..=PAUSE_MS)));
            // Most of what is done at a time is done to the same two keys; some goes back to an older one, or ahead.
            let key = match random.u8(0..5) {
                0 => random.usize(..KEYS),
                _ => (step * KEYS / STEPS + random.usize(..2)).min(KEYS - 1),
            };
            if !self.step(&speaker, key, random) {
                return step + 1;
            }
        }
        STEPS
    }

    /// Does one thing to a key. Whether it was answered.
    fn step(&self, speaker: &Speaker, number: usize, random: &mut fastrand::Rng) -> bool {
        let key = &self.keys[number];
        let jobs = locked(&key.jobs).clone();
        let leased = locked(&key.leased).clone();
        match (random.u8(0..10), random.choice(&jobs), random.choice(&leased)) {
            (0..3, _, _) => self.enqueue(speaker, number),
            (3..6, Some(job), _) => self.read(speaker, number, job),
            // Workers of every other key mostly fall silent, so that leases end by themselves.
            (6..8, _, Some(leased)) if number.is_multiple_of(2) || random.u8(0..16) == 0 => {
                self.finish(speaker, number, leased, random.u64(..3))
            }
            _ => self.lease(speaker, number, random.u64(..4)),
        }
    }

    fn enqueue(&self, speaker: &Speaker, number: usize) -> bool {
        let body = json!({ "action": action(number), "payload": number, "idempotency_key": "the-key" });
        let call = self.call(number, Operation::EnqueueUnanswered);
        let answer = speaker
            .user
            .try_send("POST", "/v1/requests", &JSON, body.to_string().as_bytes());
        self.returned(call, answer, |answer| {
            let body = answer.json(answer.status);
            let job = body["job_id"].as_str();
            let job = job.unwrap_or_else(|| panic!("no job: {}", answer.text())).to_owned();
            locked(&self.keys[number].jobs).push(job.clone());
            let seen = match answer.status {
                200 => Seen::Ended(Outcome::Succeeded(number_in(&body["data"]))),
                202 => shown(&body),
                _ => Seen::Ended(failure(&body)),
            };
            Operation::Enqueue {
                job,
                // An outcome that is there already is one of before.
                deduplicated: body["deduplicated"] == true || answer.status >= 400,
                seen,
            }
        })
    }

    fn lease(&self, speaker: &Speaker, number: usize, patience: u64) -> bool {
        let wait_ms = if patience == 0 { 100 } else { 0 };
        let body = json!({ "max": 1, "wait_ms": wait_ms, "worker": speaker.name, "actions": [action(number)] });
        let lost = self.unanswered_leases.fetch_add(1, Ordering::Relaxed);
        let call = self.call(number, Operation::LeaseUnanswered(lost));
        let answer = speaker
            .worker
            .try_send("POST", "/v1/workers/gpu:lease", &JSON, body.to_string().as_bytes());
        self.returned(call, answer, |answer| {
            let body = answer.json(200);
            let jobs = body["jobs"].as_array().expect("a list");
            assert!(jobs.len() <= 1, "one was asked for: {body}");
            let Some(job) = jobs.first() else {
                return Operation::LeaseNothing;
            };
            assert_eq!(job["payload"], json!(number), "a job of another action: {body}");
            let text = |name: &str| job[name].as_str().expect("a text").to_owned();
            let leased = Leased {
                job: text("job_id"),
                token: text("attempt_token"),
            };
            locked(&self.keys[number].leased).push(leased.clone());
            Operation::Lease {
                job: leased.job,
                token: Token::Given(leased.token),
            }
        })
    }

    fn finish(&self, speaker: &Speaker, number: usize, leased: &Leased, which: u64) -> bool {
        let (outcome, body) = if which == 0 {
            let message = "no luck".to_owned();
            let error = json!({ "message": message, "retryable": false });
            (Outcome::Failed(message), json!({ "outcome": "failed", "error": error }))
        } else {
            let body = json!({ "outcome": "succeeded", "result": which });
            (Outcome::Succeeded(which), body)
        };
        let token = Token::Given(leased.token.clone());
        let unanswered = Operation::FinishUnanswered {
            token: token.clone(),
            outcome: outcome.clone(),
        };
        let attempt = Client::new(&speaker.url, Some(&leased.token));
        let path = format!("/v1/attempts/{}:finish", leased.job);
        let call = self.call(number, unanswered);
        let answer = attempt.try_send("POST", &path, &JSON, body.to_string().as_bytes());
        self.returned(call, answer, |answer| {
            let done = answer.status == 200;
            if !done {
                answer.problem(409, "LEASE_LOST");
            }
            Operation::Finish { token, outcome, done }
        })
    }

    fn read(&self, speaker: &Speaker, number: usize, job: &str) -> bool {
        let called = self.began.elapsed();
        let path = format!("/v1/jobs/{job}");
        let Some(answer) = speaker.user.try_send("GET", &path, &[], &[]) else {
            // It changes nothing, and nobody knows what it would have said.
            return false;
        };
        let returned = self.began.elapsed();
        let seen = if answer.status == 404 {
            Seen::Nowhere
        } else {
            shown(&answer.json(200))
        };
        locked(&self.keys[number].history).push(Recorded {
            called,
            returned: Some(returned),
            operation: Operation::Read {
                job: job.to_owned(),
                seen,
            },
        });
        true
    }

    /// Every key is asked for once more, now that nobody disturbs.
    fn look_back(&self) {
        let speaker = self.speaker(0);
        for (number, key) in self.keys.iter().enumerate() {
            self.enqueue(&speaker, number);
            let job = locked(&key.jobs).last().cloned().expect("a job");
            self.read(&speaker, number, &job);
        }
    }

    /// An operation begins; as long as nothing else is said it stays without an answer.
    fn call(&self, key: usize, unanswered: Operation) -> (usize, usize) {
        let mut history = locked(&self.keys[key].history);
        history.push(Recorded {
            called: self.began.elapsed(),
            returned: None,
            operation: unanswered,
        });
        (key, history.len() - 1)
    }

    /// Its answer is there, or the server is gone. Whether it was answered.
    fn returned(
        &self,
        (key, call): (usize, usize),
        answer: Option<Answer>,
        operation: impl FnOnce(&Answer) -> Operation,
    ) -> bool {
        let returned = self.began.elapsed();
        let Some(answer) = answer else { return false };
        let operation = operation(&answer);
        let mut history = locked(&self.keys[key].history);
        (history[call].returned, history[call].operation) = (Some(returned), operation);
        true
    }
}

fn action(key: usize) -> String {
    format!("key-{key}")
}

/// An action for workers for each key.
fn pulled() -> Value {
    let mut document = composition(None);
    document["patterns"]["gpu"] = json!({ "use": "pull" });
    for key in 0..KEYS {
        let lease = format!("{LEASE_MS}ms");
        document["actions"][action(key)] = json!({ "run": "gpu.handle", "lease": lease, "timeout": "5m" });
    }
    document
}

/// What a job shows of itself, or an acknowledgment of its job.
fn shown(job: &Value) -> Seen {
    match job["status"].as_str() {
        Some("queued") => Seen::Waits,
        Some("running") => Seen::Runs,
        Some("succeeded") => Seen::Ended(Outcome::Succeeded(number_in(&job["result"]))),
        Some("failed") => Seen::Ended(failure(&job["error"])),
        other => panic!("no state of these jobs, {other:?}: {job}"),
    }
}

fn number_in(result: &Value) -> u64 {
    result.as_u64().unwrap_or_else(|| panic!("no number: {result}"))
}

fn failure(error: &Value) -> Outcome {
    let message = error["message"].as_str().or(error["detail"].as_str());
    Outcome::Failed(message.unwrap_or_else(|| panic!("no message: {error}")).to_owned())
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The history as text, for whoever has to find out.
fn told(history: &[Recorded]) -> String {
    let mut history: Vec<&Recorded> = history.iter().collect();
    history.sort_by_key(|one| one.called);
    let lines = history.iter().map(|one| {
        let returned = one.returned.map_or_else(|| "never".into(), |at| format!("{at:?}"));
        format!("{:?} to {returned}: {:?}\n", one.called, one.operation)
    });
    lines.collect()
}

/// What happened in all histories, to show that they mean something.
#[derive(Debug, Default)]
struct Counts {
    operations: usize,
    unanswered: usize,
    deduplicated: usize,
    leases: usize,
    /// Leases of jobs that had been leased before.
    leases_again: usize,
    nothing_to_lease: usize,
    ended: usize,
    refused: usize,
}

impl Counts {
    fn count(&mut self, history: &[Recorded]) {
        let mut leases = 0;
        for one in history {
            self.operations += 1;
            self.unanswered += usize::from(one.returned.is_none());
            match &one.operation {
                Operation::Enqueue { deduplicated: true, .. } => self.deduplicated += 1,
                Operation::Lease { .. } => leases += 1,
                Operation::LeaseNothing => self.nothing_to_lease += 1,
                Operation::Finish { done: true, .. } => self.ended += 1,
                Operation::Finish { done: false, .. } => self.refused += 1,
                _ => {}
            }
        }
        self.leases += leases;
        self.leases_again += leases.saturating_sub(1);
    }

    fn say_something(&self) {
        let all = [
            self.unanswered,
            self.deduplicated,
            self.leases,
            self.leases_again,
            self.nothing_to_lease,
            self.ended,
            self.refused,
        ];
        assert!(
            all.iter().all(|count| *count > 0),
            "histories without something: {self:?}"
        );
    }
}
