//! The field `on_end`: what it means for a request, and its faults.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::{Value, json};
use tidegate_protocol::Error;
use tidegate_protocol::calls::executor::{Backoff, Jitter};
use tidegate_protocol::calls::hooks::{Hook, OnEnd};
use tidegate_protocol::event::JobState;
use tidegate_protocol::ids::ActionName;

use super::compile;
use super::defaults::{ON_END_TIMEOUT_MS, ON_END_WAITS_MS};
use super::tests::MANIFESTS;

fn document(on_end: &Value) -> String {
    let actions = json!({ "a": { "run": "core.echo", "on_end": on_end } });
    json!({ "tidegate": 1, "patterns": { "core": { "use": "core" } }, "actions": actions }).to_string()
}

fn hook(on_end: &Value, requested: Option<&str>) -> Result<Option<OnEnd>, Error> {
    let plan = compile(&document(on_end), MANIFESTS)?;
    let action = plan.action(&ActionName::parse("a").unwrap())?;
    let hook = action.on_end.as_ref().unwrap().of(requested)?;
    Ok(hook.map(|hook| match hook {
        Hook::OnEnd(on_end) => *on_end,
        other @ Hook::Tells(_) => panic!("{other:?}"),
    }))
}

fn faults(document: &str) -> Vec<String> {
    let error = compile(document, MANIFESTS).unwrap_err();
    error.details.iter().map(|fault| fault.pointer.clone()).collect()
}

#[test]
fn where_nothing_is_said_every_end_is_told_as_standard_webhooks_suggests() {
    let on_end = hook(&json!({ "url": "https://Hooks.example.com" }), None)
        .unwrap()
        .unwrap();
    assert_eq!(on_end.url, "https://hooks.example.com/");
    let (succeeded, failed) = (JobState::Succeeded, JobState::Failed);
    assert_eq!(
        on_end.events,
        [succeeded, failed, JobState::Cancelled, JobState::Expired]
    );
    assert!(on_end.include_result);
    let policy = on_end.policy;
    assert_eq!((policy.attempts_max, policy.timeout_ms), (10, ON_END_TIMEOUT_MS));
    let waits_ms = ON_END_WAITS_MS.to_vec();
    let hours: Vec<u64> = waits_ms.iter().map(|ms| ms / 3_600_000).collect();
    assert_eq!(hours, [0, 0, 0, 2, 5, 10, 14, 20, 24]);
    assert_eq!(policy.backoff, Backoff::Table { waits_ms });
    assert_eq!(policy.jitter, Some(Jitter::PlusMinus { percent: 10 }));
}

#[test]
fn a_request_names_an_endpoint_only_where_the_composition_lets_it() {
    let both = json!({ "url": "https://a.example.com/", "from_request": ["https://b.example.com/*"] });
    let open = json!({ "from_request": ["https://b.example.com/*"] });
    let closed = json!({ "url": "https://a.example.com/" });
    let url = |on_end: &Value, requested| hook(on_end, requested).map(|on_end| on_end.map(|on_end| on_end.url));
    let b = Some("https://b.example.com/x");
    assert_eq!(url(&both, None).unwrap().as_deref(), Some("https://a.example.com/"));
    assert_eq!(url(&both, b).unwrap().as_deref(), b);
    assert_eq!(url(&open, b).unwrap().as_deref(), b);
    assert_eq!(url(&open, None).unwrap(), None);
    for (on_end, requested) in [
        (&closed, b),
        (&closed, Some("https://a.example.com/")),
        (&both, Some("https://b.example.com.evil.org/x")),
        (&both, Some("https://10.0.0.1/")),
        (&both, Some("http://b.example.com/x")),
        (&both, Some("https://b.example.com@10.0.0.1/")),
    ] {
        let error = url(on_end, requested).unwrap_err();
        assert_eq!(error.details[0].pointer, "/on_end/url", "{requested:?}");
    }
}

#[test]
fn every_fault_is_found_with_its_place() {
    let check = |on_end: Value, expected: &[&str]| {
        let found = faults(&document(&on_end));
        let expected: Vec<String> = expected
            .iter()
            .map(|at| std::format!("/actions/a/on_end{at}"))
            .collect();
        assert_eq!(found, expected, "{on_end}");
    };
    let url = "https://a.example.com/";
    check(json!({}), &["/url"]);
    check(json!(url), &[""]);
    check(json!({ "url": "https://169.254.169.254/" }), &["/url"]);
    check(json!({ "url": "http://a.example.com/" }), &["/url"]);
    check(json!({ "url": 7 }), &["/url"]);
    check(json!({ "url": url, "from_request": [] }), &["/from_request"]);
    check(
        json!({ "from_request": ["https://*.example.com/", url, "*"] }),
        &["/from_request/0", "/from_request/2"],
    );
    check(
        json!({ "url": url, "events": ["failed", "running", "failed", 1] }),
        &["/events/1", "/events/2", "/events/3"],
    );
    check(
        json!({ "url": url, "timeout": "2m", "retry": { "attempts": 0 }, "include_result": 1, "to": 1 }),
        &["/timeout", "/retry/attempts", "/include_result", "/to"],
    );
}

#[test]
fn no_action_has_a_name_of_the_systems_own() {
    let text = json!({ "tidegate": 1, "patterns": { "core": { "use": "core" } },
        "actions": { "tidegate.hook": { "run": "core.echo" }, "tidegate": { "run": "core.echo" } } });
    assert_eq!(faults(&text.to_string()), ["/actions/tidegate.hook"]);
}

#[test]
fn what_an_action_does_not_say_of_its_retention_the_composition_says() {
    const HOUR_MS: u64 = 3_600_000;
    let retention = |whole: Value, own: Value| {
        let mut document = json!({ "tidegate": 1, "patterns": { "core": { "use": "core" } },
            "actions": { "a": { "run": "core.echo" } } });
        for (place, value) in [("", whole), ("/actions/a", own)] {
            if !value.is_null() {
                document.pointer_mut(place).unwrap()["retention"] = value;
            }
        }
        let plan = compile(&document.to_string(), MANIFESTS).map_err(|error| error.details[0].pointer.clone())?;
        let policy = &plan.action(&ActionName::parse("a").unwrap()).unwrap().policy;
        Ok((
            policy.retention_ms / HOUR_MS,
            policy.result_retention_ms.map(|ms| ms / HOUR_MS),
        ))
    };
    let none = Value::Null;
    let whole = || json!({ "jobs": "30d", "results": "7d" });
    for (document, own, expected) in [
        (none.clone(), none.clone(), Ok((7 * 24, None))),
        (whole(), none.clone(), Ok((30 * 24, Some(7 * 24)))),
        (whole(), json!("2d"), Ok((2 * 24, None))),
        (whole(), json!({ "results": "1d" }), Ok((30 * 24, Some(24)))),
        (whole(), json!({ "jobs": "8d" }), Ok((8 * 24, Some(7 * 24)))),
        (json!({ "results": "1h" }), json!("1d"), Ok((24, Some(1)))),
        (none.clone(), json!({ "jobs": "1d", "results": "1d" }), Ok((24, None))),
        (
            none.clone(),
            json!({ "jobs": "1d", "results": "2d" }),
            Err("/actions/a/retention/results"),
        ),
        (json!({ "results": "8d" }), none.clone(), Err("/retention/results")),
        (json!("1d"), none.clone(), Err("/retention")),
        (json!({ "jobs": "367d" }), none.clone(), Err("/retention/jobs")),
        (json!({ "rows": "1d" }), none.clone(), Err("/retention/rows")),
        (none, json!("0s"), Err("/actions/a/retention")),
    ] {
        let found = retention(document.clone(), own.clone());
        assert_eq!(found, expected.map_err(String::from), "{document} {own}");
    }
}
