//! Those who do jobs and misbehave: they hang, fall silent, panic, answer twice, or answer when nobody waits any more. Every
//! job has one outcome all the same, and whoever comes too late is told so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};
use tidegate_tests::eventually;
use tidegate_tests::handler::Handler;
use tidegate_tests::history::is_terminal;
use tidegate_tests::http::{Answer as Said, Client};
use tidegate_tests::receiver::{Answer, Received};
use tidegate_tests::server::Server;
use tidegate_tests::socket::job_of;
use tidegate_tests::stage::{Between, Stage};
use tidegate_tests::tenant::{Tenant, composition};

use crate::three_ways;

three_ways! {
    an_endpoint_that_hangs_is_given_up_and_what_it_says_later_is_refused(super::hangs);
    an_endpoint_that_took_the_job_and_fell_silent_is_replaced(super::falls_silent);
    an_attempt_that_panics_is_followed_by_another(super::panics);
    a_worker_that_comes_back_with_its_successor_is_refused(super::comes_back);
    of_many_ends_by_one_endpoint_one_counts(super::endpoint_ends_often);
    of_many_ends_by_one_worker_one_counts(super::worker_ends_often);
    an_endpoint_that_reports_the_end_and_answers_as_well_is_heard_once(super::reports_and_answers);
    an_endpoint_that_ends_a_cancelled_job_changes_nothing(super::endpoint_ends_the_cancelled);
    an_endpoint_that_answers_after_a_cancel_changes_nothing(super::endpoint_answers_after_a_cancel);
    a_worker_that_ends_a_cancelled_job_changes_nothing(super::worker_ends_the_cancelled);
}

/// How many ends are sent at once.
const ENDS: u64 = 6;

/// Gives the tenant actions for `handler` and for workers.
fn compose(tenant: &Tenant, handler: Option<&Handler>) {
    let mut document = composition(None);
    let retry = json!({ "attempts": 3, "backoff": "constant", "initial": "1s" });
    document["patterns"]["pool"] = json!({ "use": "pull" });
    document["actions"]["pulled"] = json!({ "run": "pool.handle", "lease": "1m", "retry": retry });
    document["actions"]["brief"] = json!({ "run": "pool.handle", "lease": "1s", "retry": retry });
    document["actions"]["boom"]["retry"] = retry.clone();
    if let Some(handler) = handler {
        document["patterns"]["own"] =
            json!({ "use": "http-handler", "config": { "url": handler.url(), "timeout": "3s" } });
        let own = json!({ "run": "own.handle", "lease": "2s", "timeout": "30s", "retry": retry });
        document["actions"]["own"] = own.clone();
        document["actions"]["watched"] = own;
        document["actions"]["watched"]["heartbeat_timeout"] = json!("5s");
        document["queue"] = json!({ "limits": { "one": { "actions": "own", "concurrency": 1 } } });
    }
    tenant.put_composition(&document);
}

fn start(tenant: &Tenant, action: &str, payload: &Value) -> String {
    let body = json!({ "action": action, "payload": payload });
    job_of(&tenant.client("alice").post("/v1/requests", &body).json(202))
}

fn shown(tenant: &Tenant, job: &str) -> Value {
    tenant.client("alice").get(&format!("/v1/jobs/{job}")).json(200)
}

/// The job once it has ended, and that it did so once.
fn ended(tenant: &Tenant, job: &str) -> Value {
    let client = tenant.client("alice");
    let done = client.get(&format!("/v1/jobs/{job}?wait=30")).json(200);
    assert!(done["ended_at"].is_string(), "{done}");
    let accept = [("accept", "application/json")];
    let events = client.send("GET", &format!("/v1/jobs/{job}/events"), &accept, &[]);
    let events = events.json(200)["events"].as_array().expect("a list").clone();
    let ends = events.iter().filter(|event| is_terminal(event)).count();
    assert_eq!(ends, 1, "{events:#?}");
    done
}

fn succeeded(result: impl Into<Value>) -> Value {
    json!({ "outcome": "succeeded", "result": result.into() })
}

/// Whoever makes an attempt elsewhere: what it says, and with which token.
#[derive(Clone)]
struct Holder {
    path: String,
    token: String,
}

impl Holder {
    /// The endpoint that was sent this.
    fn sent(received: &Received) -> Self {
        let callback = &received.json()["callback"];
        Self {
            path: callback["url"].as_str().expect("an address").to_owned(),
            token: callback["token"].as_str().expect("a token").to_owned(),
        }
    }

    /// A worker that leases a job.
    fn leased(tenant: &Tenant) -> Self {
        let worker = tenant.client_with("worker", "jobs:work");
        let body = json!({ "max": 1, "wait_ms": 5000, "worker": "w" });
        let job = eventually("a job for a worker", || {
            let leased = worker.post("/v1/workers/pool:lease", &body).json(200);
            leased["jobs"].as_array().expect("a list").first().cloned()
        });
        Self {
            path: format!("/v1/attempts/{}", job["job_id"].as_str().expect("an id")),
            token: job["attempt_token"].as_str().expect("a token").to_owned(),
        }
    }

    fn finish(&self, server: &Server, outcome: &Value) -> Said {
        let client = Client::new(&server.url(), Some(&self.token));
        client.post(&format!("{}:finish", self.path), outcome)
    }

    fn report(&self, server: &Server) -> Said {
        let body = json!({ "progress": { "percentage": 10, "message": "still there" } });
        let client = Client::new(&server.url(), Some(&self.token));
        client.post(&format!("{}:report", self.path), &body)
    }

    /// Nothing that it says counts any more.
    fn is_too_late(&self, server: &Server) {
        self.report(server).problem(409, "LEASE_LOST");
        self.finish(server, &succeeded("late")).problem(409, "LEASE_LOST");
        let failed = json!({ "outcome": "failed", "error": { "message": "late" } });
        self.finish(server, &failed).problem(409, "LEASE_LOST");
        let snoozed = json!({ "outcome": "snoozed", "ms": 1000 });
        self.finish(server, &snoozed).problem(409, "LEASE_LOST");
    }
}

fn hangs(between: Between) {
    let handler = Handler::start(|before, _| (before > 0).then(|| Answer::of(200, r#""in time""#)));
    let mut stage = Stage::new(between, None);
    compose(&stage.tenant, Some(&handler));
    let job = start(&stage.tenant, "own", &json!(1));
    handler.wait_for(1);
    stage.interrupt();
    let sent = handler.wait_for(2);
    let done = ended(&stage.tenant, &job);
    assert_eq!(
        (&done["status"], &done["result"]),
        (&json!("succeeded"), &json!("in time")),
        "{done}"
    );
    if between == Between::Nothing {
        assert_eq!(done["attempt"], 2, "{done}");
    }
    assert_eq!(sent[0].header("idempotency-key"), sent[1].header("idempotency-key"));
    Holder::sent(&sent[0]).is_too_late(&stage.tenant.server);
    assert_eq!(shown(&stage.tenant, &job)["result"], "in time");
    stage.finish(None);
}

fn falls_silent(between: Between) {
    let handler = Handler::start(|_, _| Some(Answer::of(202, "")));
    let mut stage = Stage::new(between, None);
    compose(&stage.tenant, Some(&handler));
    let job = start(&stage.tenant, "watched", &json!(1));
    let first = Holder::sent(&handler.wait_for(1)[0]);
    eventually("the attempt goes on elsewhere", || {
        (first.report(&stage.tenant.server).status == 200).then_some(())
    });
    stage.interrupt();
    let sent = handler.wait_for(2);
    first.is_too_late(&stage.tenant.server);
    let second = Holder::sent(&sent[1]);
    assert_eq!(sent[1].json()["attempt"], 2);
    second.finish(&stage.tenant.server, &succeeded("second")).json(200);
    first.is_too_late(&stage.tenant.server);
    let done = ended(&stage.tenant, &job);
    assert_eq!(
        (&done["result"], &done["attempt"]),
        (&json!("second"), &json!(2)),
        "{done}"
    );
    stage.finish(None);
}

fn comes_back(between: Between) {
    let mut stage = Stage::new(between, None);
    compose(&stage.tenant, None);
    let job = start(&stage.tenant, "brief", &json!(1));
    let hung = Holder::leased(&stage.tenant);
    stage.interrupt();
    // Given as soon as the lease of the first is over, and not before.
    let successor = Holder::leased(&stage.tenant);
    assert_ne!(hung.token, successor.token);
    let server = &stage.tenant.server;
    thread::scope(|scope| {
        let late = scope.spawn(|| (0..ENDS).for_each(|_| hung.is_too_late(server)));
        successor.finish(server, &succeeded("successor")).json(200);
        late.join().expect("refusals");
    });
    let done = ended(&stage.tenant, &job);
    assert_eq!(
        (&done["status"], &done["result"]),
        (&json!("succeeded"), &json!("successor")),
        "{done}"
    );
    stage.finish(None);
}

fn panics(between: Between) {
    let mut stage = Stage::new(between, None);
    compose(&stage.tenant, None);
    let job = start(&stage.tenant, "boom", &json!({ "panic": true, "times": 1 }));
    let lost = start(&stage.tenant, "boom", &json!({ "panic": true }));
    let neighbour = start(&stage.tenant, "slow", &json!({ "ms": 1000, "steps": 2 }));
    stage.interrupt();
    let done = ended(&stage.tenant, &job);
    assert_eq!(
        (&done["status"], &done["result"]),
        (&json!("succeeded"), &json!({ "attempt": 2 })),
        "{done}"
    );
    let lost = ended(&stage.tenant, &lost);
    assert_eq!(
        (&lost["status"], &lost["attempt"]),
        (&json!("failed"), &json!(3)),
        "{lost}"
    );
    assert!(
        !lost.to_string().contains("panicked at"),
        "nothing inside leaks out: {lost}"
    );
    assert_eq!(ended(&stage.tenant, &neighbour)["attempt"], 1);
    stage.finish(None);
}

/// Ends an attempt in many ways at once; one of them counts, again and again, and no other.
fn ends_often(stage: &mut Stage, job: &str, holder: &Holder) {
    let server = Arc::clone(&stage.tenant.server);
    let said: Vec<Said> = thread::scope(|scope| {
        let ends = (0..ENDS).map(|end| {
            let server = &server;
            scope.spawn(move || holder.finish(server, &succeeded(end)))
        });
        let ends: Vec<_> = ends.collect();
        ends.into_iter().map(|end| end.join().expect("an answer")).collect()
    });
    let taken: Vec<usize> = (0..said.len()).filter(|end| said[*end].status == 200).collect();
    assert_eq!(taken.len(), 1, "{said:?}");
    for end in said.iter().filter(|end| end.status != 200) {
        end.problem(409, "LEASE_LOST");
    }
    stage.interrupt();
    let done = ended(&stage.tenant, job);
    assert_eq!(done["result"], taken[0], "{done}");
    for end in 0..ENDS {
        let again = holder.finish(&stage.tenant.server, &succeeded(end));
        if taken[0] as u64 == end {
            // Its answer may have been lost: said again, it is done.
            again.json(200);
        } else {
            again.problem(409, "LEASE_LOST");
        }
    }
    holder.is_too_late(&stage.tenant.server);
    assert_eq!(ended(&stage.tenant, job), done);
}

fn endpoint_ends_often(between: Between) {
    let handler = Handler::start(|_, _| Some(Answer::of(202, "")));
    let mut stage = Stage::new(between, None);
    compose(&stage.tenant, Some(&handler));
    let job = start(&stage.tenant, "own", &json!(1));
    let holder = Holder::sent(&handler.wait_for(1)[0]);
    ends_often(&mut stage, &job, &holder);
    assert_eq!(handler.received().len(), 1, "nobody else was sent the job");
    stage.finish(None);
}

fn worker_ends_often(between: Between) {
    let mut stage = Stage::new(between, None);
    compose(&stage.tenant, None);
    let job = start(&stage.tenant, "pulled", &json!(1));
    let holder = Holder::leased(&stage.tenant);
    ends_often(&mut stage, &job, &holder);
    stage.finish(None);
}

fn reports_and_answers(between: Between) {
    let mut stage = Stage::new(between, None);
    let server = Arc::clone(&stage.tenant.server);
    let handler = Handler::start(move |_, received| {
        let said = Holder::sent(received).finish(&server, &succeeded("reported"));
        assert_eq!(said.status, 200, "{}", said.text());
        let status = received.json()["payload"].as_u64().expect("a status");
        Some(Answer::of(u16::try_from(status).expect("a status"), r#""answered""#))
    });
    compose(&stage.tenant, Some(&handler));
    let statuses = [200, 202, 503, 400];
    let jobs = statuses.map(|status| start(&stage.tenant, "own", &json!(status)));
    handler.wait_for(statuses.len());
    for job in &jobs {
        assert_eq!(ended(&stage.tenant, job)["result"], "reported");
    }
    stage.interrupt();
    for job in &jobs {
        let done = ended(&stage.tenant, job);
        assert_eq!(
            (&done["status"], &done["result"], &done["attempt"]),
            (&json!("succeeded"), &json!("reported"), &json!(1)),
            "{done}"
        );
    }
    assert_eq!(handler.received().len(), statuses.len(), "no attempt was made again");
    stage.finish(None);
}

fn cancel(tenant: &Tenant, job: &str) {
    let path = format!("/v1/jobs/{job}:cancel");
    assert_eq!(tenant.client("alice").send("POST", &path, &[], &[]).status, 202);
    assert_eq!(ended(tenant, job)["status"], "cancelled");
}

fn endpoint_ends_the_cancelled(between: Between) {
    let handler = Handler::start(|_, _| Some(Answer::of(202, "")));
    let mut stage = Stage::new(between, None);
    compose(&stage.tenant, Some(&handler));
    let job = start(&stage.tenant, "own", &json!(1));
    let holder = Holder::sent(&handler.wait_for(1)[0]);
    cancel(&stage.tenant, &job);
    stage.interrupt();
    holder.is_too_late(&stage.tenant.server);
    assert_eq!(ended(&stage.tenant, &job)["status"], "cancelled");
    // Its place is free: the next one is sent, and ends.
    let next = start(&stage.tenant, "own", &json!(2));
    let holder = Holder::sent(&handler.wait_for(2)[1]);
    holder.finish(&stage.tenant.server, &succeeded(2)).json(200);
    assert_eq!(ended(&stage.tenant, &next)["result"], 2);
    stage.finish(None);
}

fn endpoint_answers_after_a_cancel(between: Between) {
    let cancelled = Arc::new(AtomicBool::new(false));
    let may_answer = Arc::clone(&cancelled);
    let handler = Handler::start(move |before, _| {
        if before == 0 {
            eventually("the cancel", || may_answer.load(Ordering::SeqCst).then_some(()));
        }
        Some(Answer::of(200, &before.to_string()))
    });
    let mut stage = Stage::new(between, None);
    compose(&stage.tenant, Some(&handler));
    let job = start(&stage.tenant, "own", &json!(1));
    handler.wait_for(1);
    cancel(&stage.tenant, &job);
    cancelled.store(true, Ordering::SeqCst);
    stage.interrupt();
    // Its place is free; and the answer is there before that of the next.
    let next = start(&stage.tenant, "own", &json!(2));
    assert_eq!(ended(&stage.tenant, &next)["result"], 1);
    let done = ended(&stage.tenant, &job);
    assert_eq!(
        (&done["status"], &done["result"]),
        (&json!("cancelled"), &Value::Null),
        "{done}"
    );
    stage.finish(None);
}

fn worker_ends_the_cancelled(between: Between) {
    let mut stage = Stage::new(between, None);
    compose(&stage.tenant, None);
    let job = start(&stage.tenant, "pulled", &json!(1));
    let holder = Holder::leased(&stage.tenant);
    cancel(&stage.tenant, &job);
    stage.interrupt();
    holder.is_too_late(&stage.tenant.server);
    assert_eq!(ended(&stage.tenant, &job)["status"], "cancelled");
    stage.finish(None);
}
