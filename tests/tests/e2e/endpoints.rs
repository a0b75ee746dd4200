//! Endpoints of a tenant's own: told when a job ends, and given jobs to do.

use serde_json::{Value, json};
use tidegate_tests::http::Client;
use tidegate_tests::receiver::{Answer, Received, Receiver};
use tidegate_tests::socket::job_of;
use tidegate_tests::stage::{Between, Stage};
use tidegate_tests::tenant::{Tenant, composition};

use crate::three_ways;

three_ways! {
    an_endpoint_is_told_of_an_end_until_it_has_heard(super::told);
    an_endpoint_that_is_gone_leaves_a_dead_letter(super::gone);
    an_endpoint_does_the_job(super::done_by_an_endpoint);
    an_endpoint_that_took_the_job_ends_it_later(super::ended_later);
    a_result_goes_before_its_job(super::faded);
    a_bound_worker_does_the_job(super::done_by_a_worker);
}

fn stage(between: Between, receiver: &Receiver) -> Stage {
    let stage = Stage::new(between, None);
    let url = receiver.url();
    let mut document = composition(None);
    let retry = json!({ "attempts": 4, "backoff": "constant", "initial": "1s" });
    document["patterns"]["own"] = json!({ "use": "http-handler", "config": { "url": format!("{url}/work") } });
    document["patterns"]["mirror"] =
        json!({ "use": "worker-handler", "config": { "binding": "MIRROR", "path": "/m" } });
    document["patterns"]["nobody"] = json!({ "use": "worker-handler", "config": { "binding": "NOBODY" } });
    let actions = &mut document["actions"];
    actions["slow"]["on_end"] = json!({
        "url": format!("{url}/end?x=1"), "retry": retry, "from_request": [format!("{url}/asked/*")],
    });
    for (action, run) in [
        ("own", "own.handle"),
        ("mirror", "mirror.handle"),
        ("nobody", "nobody.handle"),
    ] {
        actions[action] = json!({ "run": run, "lease": "2s", "timeout": "30s", "retry": retry });
    }
    stage.tenant.put_composition(&document);
    stage
}

fn secret(tenant: &Tenant) -> String {
    let body = tenant
        .client_with("root", "admin")
        .get("/v1/admin/webhook-secret")
        .json(200);
    body["secret"].as_str().expect("a secret").to_owned()
}

fn start(client: &Client, body: &Value) -> String {
    job_of(&client.post("/v1/requests", body).json(202))
}

fn ended(client: &Client, job: &str) -> Value {
    client.get(&format!("/v1/jobs/{job}?wait=60")).json(200)
}

/// The jobs that tell of the end of `job`.
fn hooks(client: &Client, job: &str) -> Vec<Value> {
    let page = client
        .get(&format!("/v1/jobs?action=tidegate.hook&metadata.job_id={job}"))
        .json(200);
    page["jobs"].as_array().expect("a list").clone()
}

fn slow(more: &Value) -> Value {
    let mut body = json!({ "action": "slow", "payload": { "ms": 300, "steps": 1 }, "metadata": { "k": "v" } });
    let fields = more.as_object().expect("an object").clone();
    body.as_object_mut().expect("an object").extend(fields);
    body
}

fn told(between: Between) {
    let receiver = Receiver::start();
    let mut stage = stage(between, &receiver);
    let secret = secret(&stage.tenant);
    receiver.answer([Answer::of(500, ""), Answer::of(302, "")]);
    let job = start(&stage.tenant.client("alice"), &slow(&json!({})));
    receiver.wait_for(1);
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let sent = receiver.wait_for(3);
    let telling = hooks(&client, &job);
    assert_eq!(telling.len(), 1, "{telling:#?}");
    let telling = ended(&client, telling[0]["job_id"].as_str().expect("an id"));
    assert_eq!(
        (&telling["status"], &telling["result"]),
        (&json!("succeeded"), &json!({ "status": 204 }))
    );
    for one in &sent {
        one.verify(&secret);
        assert_eq!(
            (one.path.as_str(), one.header("webhook-id")),
            ("/end?x=1", &*format!("evt_{job}"))
        );
        assert_eq!(one.body, sent[0].body, "the same message each time");
    }
    let event = sent[0].json();
    assert_eq!(
        (&event["type"], &event["id"]),
        (&json!("job.succeeded"), &json!(format!("evt_{job}")))
    );
    assert_eq!(event["data"]["job_id"], json!(job));
    assert_eq!(event["data"]["result"], json!({ "waited_ms": 300 }));
    assert_eq!(
        (&event["data"]["metadata"], &event["data"]["user"]),
        (&json!({ "k": "v" }), &json!("alice"))
    );
    if between != Between::Kill {
        // A kill may lose the answer to a message that was heard: then it is sent once more.
        assert_eq!(receiver.received().len(), 3);
    }
    // An endpoint of the request's own, where the composition lets it; nowhere else.
    let url = receiver.url();
    let before = receiver.received().len();
    start(
        &client,
        &slow(&json!({ "on_end": { "url": format!("{url}/asked/y") } })),
    );
    let asked = receiver.wait_for(before + 1);
    assert_eq!(asked[before].path, "/asked/y");
    asked[before].verify(&secret);
    for (action, url) in [
        ("slow", format!("{url}/end")),
        ("slow", "https://10.0.0.1/".into()),
        ("boom", url),
    ] {
        let body = slow(&json!({ "action": action, "on_end": { "url": url } }));
        let refused = client.post("/v1/requests", &body).json(422);
        assert_eq!(refused["details"][0]["pointer"], "/on_end/url", "{refused}");
    }
    let own = client
        .post("/v1/requests", &json!({ "action": "tidegate.hook", "payload": {} }))
        .json(404);
    assert_eq!(own["code"], "INVALID_ACTION");
    assert_eq!(client.get("/v1/admin/webhook-secret").json(403)["code"], "FORBIDDEN");
    stage.finish(None);
}

fn gone(between: Between) {
    let receiver = Receiver::start();
    let mut stage = stage(between, &receiver);
    receiver.answer([Answer::of(410, "")]);
    let job = start(&stage.tenant.client("alice"), &slow(&json!({})));
    receiver.wait_for(1);
    let telling = hooks(&stage.tenant.client("alice"), &job)[0]["job_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    ended(&stage.tenant.client("alice"), &telling);
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let letters = client.get("/v1/dead-letters?action=tidegate.hook").json(200);
    let letter = &letters["dead_letters"][0];
    assert_eq!(
        (&letter["job_id"], &letter["attempts"]),
        (&json!(telling), &json!(1)),
        "{letters}"
    );
    let path = format!("/v1/jobs/{telling}:retry");
    assert_eq!(client.post(&path, &json!({})).json(403)["code"], "FORBIDDEN");
    let writer = stage.tenant.client_with("root", "jobs:write");
    let edited = writer.post(&path, &json!({ "payload": { "type": "job.succeeded" } }));
    assert_eq!(edited.json(422)["details"][0]["pointer"], "/payload");
    writer.post(&path, &json!({})).json(202);
    let sent = receiver.wait_for(2);
    sent[1].verify(&secret(&stage.tenant));
    assert_eq!(sent[1].header("webhook-id"), sent[0].header("webhook-id"));
    assert_eq!(sent[1].body, sent[0].body);
    stage.finish(None);
}

fn done_by_an_endpoint(between: Between) {
    let receiver = Receiver::start();
    let mut stage = stage(between, &receiver);
    let secret = secret(&stage.tenant);
    receiver.answer([
        Answer {
            headers: vec![("retry-after", "2".into())],
            ..Answer::of(503, "")
        },
        Answer::of(200, r#"{"charged":5}"#),
    ]);
    let body = json!({ "action": "own", "payload": { "amount": 5 }, "metadata": { "k": "v" } });
    let job = start(&stage.tenant.client("alice"), &body);
    receiver.wait_for(1);
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let done = ended(&client, &job);
    assert_eq!(
        (&done["status"], &done["result"]),
        (&json!("succeeded"), &json!({ "charged": 5 })),
        "{done}"
    );
    let sent = receiver.received();
    for one in &sent {
        one.verify(&secret);
        let work = one.json();
        assert_eq!(
            (&work["job_id"], &work["payload"]),
            (&json!(job), &json!({ "amount": 5 }))
        );
        assert_eq!(
            (one.path.as_str(), one.header("idempotency-key")),
            ("/work", job.as_str())
        );
        assert_eq!((&work["user"], &work["effect_key"]), (&json!("alice"), &json!(job)));
        assert_eq!(
            (&work["tenant"], &work["action"]),
            (&json!(stage.tenant.id), &json!("own"))
        );
    }
    assert_ne!(sent[0].header("webhook-id"), sent[1].header("webhook-id"));
    // What is wrong with the job is not tried again.
    receiver.answer([Answer::of(400, "{}")]);
    let before = receiver.received().len();
    let refused = ended(&client, &start(&client, &body));
    assert_eq!(
        (&refused["status"], &refused["attempt"]),
        (&json!("failed"), &json!(1)),
        "{refused}"
    );
    assert_eq!(refused["error"]["code"], "UPSTREAM_ERROR");
    assert_eq!(receiver.received().len(), before + 1);
    stage.finish(None);
}

fn done_by_a_worker(between: Between) {
    let receiver = Receiver::start();
    let mut stage = stage(between, &receiver);
    let secret = secret(&stage.tenant);
    let job = start(
        &stage.tenant.client("alice"),
        &json!({ "action": "mirror", "payload": [1] }),
    );
    let done = ended(&stage.tenant.client("alice"), &job);
    assert_eq!(done["status"], "succeeded", "{done}");
    stage.interrupt();
    let client = stage.tenant.client("alice");
    let seen = ended(&client, &job)["result"].clone();
    let headers = seen["headers"].as_array().expect("a list").iter().map(|pair| {
        let text = |index: usize| pair[index].as_str().expect("a text").to_owned();
        (text(0), text(1))
    });
    let received = Received {
        path: seen["path"].as_str().expect("a path").to_owned(),
        headers: headers.collect(),
        body: seen["body"].as_str().expect("a body").to_owned(),
    };
    received.verify(&secret);
    assert_eq!(
        (received.path.as_str(), received.header("idempotency-key")),
        ("/m", job.as_str())
    );
    assert_eq!(
        (&received.json()["payload"], &received.json()["job_id"]),
        (&json!([1]), &json!(job))
    );
    let refused = start(&client, &json!({ "action": "mirror", "payload": { "status": 422 } }));
    assert_eq!(ended(&client, &refused)["status"], "failed");
    // A name that nothing is bound to, whatever else the deployment has bound.
    let nobody = ended(&client, &start(&client, &json!({ "action": "nobody" })));
    assert_eq!(
        (&nobody["status"], &nobody["error"]["code"]),
        (&json!("failed"), &json!("UPSTREAM_ERROR"))
    );
    stage.finish(None);
}

/// What the holder of an attempt's token says.
fn say(base: &str, received: &Received, what: &str, body: &Value) -> tidegate_tests::http::Answer {
    let callback = &received.json()["callback"];
    let token = callback["token"].as_str().expect("a token").to_owned();
    let path = callback["url"].as_str().expect("an address").to_owned();
    Client::new(base, Some(&token)).post(&format!("{path}:{what}"), body)
}

fn ended_later(between: Between) {
    let receiver = Receiver::start();
    let mut stage = stage(between, &receiver);
    receiver.answer([Answer::of(202, "")]);
    let job = start(&stage.tenant.client("alice"), &json!({ "action": "own", "payload": 1 }));
    let sent = receiver.wait_for(1).remove(0);
    // Longer than a lease, without a word: nobody else is given the job meanwhile.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    stage.interrupt();
    let url = stage.tenant.server.url();
    let half = json!({ "progress": { "percentage": 50, "message": "half" } });
    say(&url, &sent, "report", &half).json(200);
    let client = stage.tenant.client("alice");
    let shown = client.get(&format!("/v1/jobs/{job}")).json(200);
    assert_eq!(
        (&shown["status"], &shown["attempt"]),
        (&json!("running"), &json!(1)),
        "{shown}"
    );
    assert_eq!(shown["progress"]["percentage"], json!(50.0), "{shown}");
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let result = json!({ "outcome": "succeeded", "result": { "shipped": true } });
    say(&url, &sent, "finish", &result).json(200);
    let done = ended(&client, &job);
    assert_eq!(
        (&done["status"], &done["result"]),
        (&json!("succeeded"), &json!({ "shipped": true }))
    );
    let other = json!({ "outcome": "succeeded", "result": 2 });
    assert_eq!(say(&url, &sent, "finish", &other).json(409)["code"], "LEASE_LOST");
    assert_eq!(receiver.received().len(), 1);
    stage.finish(None);
}

fn faded(between: Between) {
    let receiver = Receiver::start();
    let mut stage = stage(between, &receiver);
    let mut document = composition(None);
    document["retention"] = json!({ "jobs": "1d", "results": "1s" });
    document["actions"]["large"] = json!({ "run": "core.echo", "mode": "async" });
    stage.tenant.put_composition(&document);
    let client = stage.tenant.client("alice");
    // The hub hears of the composition at once, or somewhat later.
    let body = json!({ "action": "large", "payload": "x".repeat(70_000) });
    let job = tidegate_tests::eventually("the composition", || {
        let answer = client.post("/v1/requests", &body);
        (answer.status == 202).then(|| job_of(&answer.json(202)))
    });
    assert_eq!(ended(&client, &job)["status"], "succeeded");
    std::thread::sleep(std::time::Duration::from_millis(1200));
    stage.interrupt();
    let client = stage.tenant.client("alice");
    assert_eq!(client.get(&format!("/v1/jobs/{job}/result")).json(410)["code"], "GONE");
    let shown = client.get(&format!("/v1/jobs/{job}")).json(200);
    assert_eq!(
        (&shown["status"], &shown["result"]),
        (&json!("succeeded"), &Value::Null),
        "{shown}"
    );
    stage.finish(None);
}
