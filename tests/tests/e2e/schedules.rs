//! Schedules: a clock that fires each of its times once, whatever dies in between.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_tests::eventually;
use tidegate_tests::stage::{Between, Stage};
use tidegate_tests::tenant::{Tenant, composition};

use crate::three_ways;

three_ways! {
    a_schedule_of_every_second_fires_each_of_them_once(super::every_second);
    a_schedule_held_back_fires_by_hand_alone(super::by_hand);
}

const OPERATOR: &str = "jobs:write";

fn with_schedules(schedules: &Value) -> Value {
    let mut document = composition(None);
    document["schedules"] = schedules.clone();
    document
}

/// Every second, with a window that takes in a restart of the server.
fn tick() -> Value {
    json!({ "tick": {
        "cron": "* * * * * *", "action": "core.echo", "payload": { "from": "the clock" }, "overlap": "allow",
        "catch_up": "5m",
    } })
}

fn schedules(tenant: &Tenant) -> Vec<Value> {
    let list = tenant.client_with("op", OPERATOR).get("/v1/schedules").json(200);
    list["schedules"].as_array().cloned().unwrap_or_default()
}

/// The schedule `tick`, once it is there.
fn there(tenant: &Tenant) -> Value {
    eventually("the schedule", || {
        schedules(tenant).into_iter().find(|of| of["name"] == "tick")
    })
}

fn fired(tenant: &Tenant) -> u64 {
    there(tenant)["fired"].as_u64().unwrap_or_default()
}

/// The jobs of the schedule that its clock has fired, oldest first, each with its nominal time.
fn jobs(tenant: &Tenant) -> Vec<(String, Value)> {
    let list = tenant
        .client_with("op", OPERATOR)
        .get("/v1/jobs?user=schedule:tick&limit=100")
        .json(200);
    let jobs = list["jobs"].as_array().expect("jobs");
    let of = |job: &Value| {
        let nominal = job["metadata"]["scheduled_for"].as_str()?;
        Some((nominal.to_owned(), job.clone()))
    };
    jobs.iter().rev().filter_map(of).collect()
}

fn change(tenant: &Tenant, path: &str) -> Value {
    let answer = tenant
        .client_with("op", OPERATOR)
        .send("POST", &format!("/v1/schedules/tick:{path}"), &[], &[]);
    assert!(matches!(answer.status, 200 | 202), "{}", answer.text());
    answer.json(answer.status)
}

fn every_second(between: Between) {
    let mut stage = Stage::new(between, None);
    stage.tenant.put_composition(&with_schedules(&tick()));
    // The activation alone is confirmed; what it set in motion must survive by itself.
    stage.interrupt();
    eventually("three seconds", || (fired(&stage.tenant) >= 3).then_some(()));
    stage.interrupt();
    let before = fired(&stage.tenant);
    eventually("three more", || (fired(&stage.tenant) >= before + 3).then_some(()));
    change(&stage.tenant, "pause");
    let info = there(&stage.tenant);
    let jobs = jobs(&stage.tenant);
    let times: BTreeSet<&String> = jobs.iter().map(|(nominal, _)| nominal).collect();
    assert_eq!(times.len(), jobs.len(), "each time once: {times:?}");
    assert_eq!(jobs.len() as u64, info["fired"].as_u64().unwrap_or(0), "{info}");
    assert_eq!(info["missed"], 0, "{info}");
    let seconds: Vec<u64> = times.iter().map(|time| second_of_day(time)).collect();
    assert!(
        seconds.windows(2).all(|pair| (pair[0] + 1) % 86_400 == pair[1]),
        "no second is left out: {times:?}"
    );
    for (nominal, job) in &jobs {
        let created = job["created_at"].as_str().expect("a time");
        assert!(created >= nominal.as_str(), "{nominal} came early: {job}");
    }
    let last = jobs.last().map(|(_, job)| job["job_id"].clone()).expect("a job");
    assert_eq!(info["last_job"], last);
    eventually("the end of every job", || {
        let all = self::jobs(&stage.tenant);
        all.iter().all(|(_, job)| job["status"] == "succeeded").then_some(())
    });
    stage.finish(None);
}

fn second_of_day(time: &str) -> u64 {
    let part = |range| {
        time.get(range)
            .and_then(|text: &str| text.parse::<u64>().ok())
            .expect("a time")
    };
    part(11..13) * 3600 + part(14..16) * 60 + part(17..19)
}

fn by_hand(between: Between) {
    let mut stage = Stage::new(between, None);
    stage.tenant.put_composition(&with_schedules(&tick()));
    eventually("a first time", || (fired(&stage.tenant) >= 1).then_some(()));
    assert_eq!(change(&stage.tenant, "pause")["paused"], true);
    let (count, before) = (fired(&stage.tenant), jobs(&stage.tenant).len());
    stage.interrupt();
    sleep(Duration::from_millis(2500));
    assert_eq!((fired(&stage.tenant), jobs(&stage.tenant).len()), (count, before));

    let fire = |stage: &Stage, key: &str| {
        let headers = [("idempotency-key", key)];
        let operator = stage.tenant.client_with("op", OPERATOR);
        operator.send("POST", "/v1/schedules/tick:trigger", &headers, &[])
    };
    let first = fire(&stage, "one");
    let triggered = first.json(202);
    let id = triggered["job_id"].as_str().expect("a job").to_owned();
    assert_eq!(first.header("location"), format!("/v1/jobs/{id}"));
    stage.interrupt();
    assert_eq!(
        fire(&stage, "one").json(202),
        json!({ "job_id": id, "deduplicated": true })
    );
    let operator = stage.tenant.client_with("op", OPERATOR);
    let job = eventually("its end", || {
        let job = operator.get(&format!("/v1/jobs/{id}?wait=10")).json(200);
        (job["status"] == "succeeded").then_some(job)
    });
    assert_eq!(job["result"], json!({ "from": "the clock" }));
    assert_eq!(job["metadata"], json!({ "schedule": "tick" }));

    let oldest = jobs(&stage.tenant)
        .first()
        .map(|(nominal, _)| nominal.clone())
        .expect("a time");
    let end = format!("{}.900Z", oldest.trim_end_matches(".000Z"));
    let from = "2026-01-01T00:00:00Z";
    let body = json!({ "from": oldest, "to": end });
    let done = operator.post("/v1/schedules/tick:backfill", &body).json(202);
    assert_eq!(done, json!({ "fired": 0, "known": 1 }), "what has fired has a job");
    let body = json!({ "from": from, "to": "2026-01-01T00:00:10Z" });
    assert_eq!(
        operator.post("/v1/schedules/tick:backfill", &body).json(202),
        json!({ "fired": 10, "known": 0 })
    );
    stage.interrupt();
    let operator = stage.tenant.client_with("op", OPERATOR);
    assert_eq!(
        operator.post("/v1/schedules/tick:backfill", &body).json(202),
        json!({ "fired": 0, "known": 10 })
    );

    assert_eq!(change(&stage.tenant, "resume")["paused"], false);
    eventually("the next time", || (fired(&stage.tenant) > count).then_some(()));
    stage.tenant.put_composition(&composition(None));
    eventually("no schedule", || schedules(&stage.tenant).is_empty().then_some(()));
    stage.finish(None);
}

#[test]
fn schedules_are_seen_and_changed_by_their_scopes_and_inside_their_tenant() {
    let (tenant, other) = (Tenant::shared(), Tenant::shared());
    let paused =
        json!({ "tick": { "cron": "0 3 * * *", "time_zone": "Europe/Berlin", "action": "slow", "paused": true } });
    tenant.put_composition(&with_schedules(&paused));
    there(&tenant);
    let statuses: BTreeMap<&str, (u16, u16)> = [
        ("", (403, 403)),
        ("jobs:read", (200, 403)),
        ("jobs:write", (200, 200)),
        ("admin", (200, 200)),
    ]
    .into();
    for (scope, (list, pause)) in statuses {
        let client = tenant.client_with("u", scope);
        assert_eq!(client.get("/v1/schedules").status, list, "{scope}");
        assert_eq!(
            client.send("POST", "/v1/schedules/tick:pause", &[], &[]).status,
            pause,
            "{scope}"
        );
    }
    assert_eq!(schedules(&other), Vec::<Value>::new());
    for name in ["tick", "Tick!", "tick%2f"] {
        let path = format!("/v1/schedules/{name}:trigger");
        other
            .client_with("op", OPERATOR)
            .send("POST", &path, &[], &[])
            .is_not_found();
    }
    let client = tenant.client_with("op", OPERATOR);
    for body in [
        json!({}),
        json!({ "from": "2026-01-01T00:00:00Z", "to": "2999-01-01T00:00:00Z" }),
    ] {
        let answer = client.post("/v1/schedules/tick:backfill", &body);
        assert!(matches!(answer.status, 400 | 422), "{}", answer.text());
    }
    let mut document = with_schedules(&paused);
    document["schedules"]["tick"]["cron"] = json!("0 0 30 2 *");
    let admin = tenant.client_with("admin", "admin");
    let answer = admin.send(
        "PUT",
        "/v1/admin/composition",
        &[("content-type", "application/json")],
        document.to_string().as_bytes(),
    );
    assert!(answer.text().contains("/schedules/tick/cron"), "{}", answer.text());
}
