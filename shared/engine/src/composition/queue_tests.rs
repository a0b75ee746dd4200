//! The section `queue`: what it means for a request, and every fault of it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;
use serde_json::json;
use tidegate_protocol::Error;
use tidegate_protocol::calls::queueing::{Bounds, Priority, Queueing, Rule, WhenFull};
use tidegate_protocol::calls::tenant::Scale;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::{ActionName, ShardIndex, UserId};

use super::path::Path;
use super::tests::MANIFESTS;
use super::{Input, compile};
use tidegate_protocol::SortedMap;

/// What one request asks for under a document.
struct Ask<'a> {
    action: &'a str,
    payload: &'a str,
    priority: Option<Priority>,
    shard: u16,
    shards: u16,
}

const ASK: Ask<'static> = Ask {
    action: "report.daily",
    payload: "{}",
    priority: None,
    shard: 0,
    shards: 1,
};

fn document(queue: &serde_json::Value, shards: u16) -> String {
    json!({
        "tidegate": 1,
        "scale": { "shards": shards },
        "patterns": { "core": { "use": "core" } },
        "queue": queue,
        "actions": {
            "report.daily": { "run": "core.echo", "priority": "low", "waiting": 9, "waiting_bytes": 5000 },
            "report.monthly": { "run": "core.echo" },
            "mail": { "run": "core.echo" }
        }
    })
    .to_string()
}

fn queueing(queue: &serde_json::Value, ask: &Ask<'_>) -> Result<Queueing, Error> {
    let plan = compile(&document(queue, ask.shards), MANIFESTS)?;
    let name = ActionName::parse(ask.action).unwrap();
    let (user, payload) = (UserId::parse("ann").unwrap(), JsonText::parse(ask.payload).unwrap());
    let metadata = SortedMap::from([(String::from("region"), String::from("eu"))]);
    let input = Input::new(&user, &name, &metadata, &payload);
    let scale = Scale {
        hubs: 1,
        shards: ask.shards,
    };
    plan.action(&name)?
        .queue
        .queueing(&input, ask.priority, ShardIndex(ask.shard), scale)
}

fn pointers(queue: &serde_json::Value) -> Vec<String> {
    let error = compile(&document(queue, 1), MANIFESTS).unwrap_err();
    error.details.iter().map(|fault| fault.pointer.to_string()).collect()
}

#[test]
fn a_request_counts_under_every_limit_that_means_its_action() {
    let queue = json!({ "waiting": 70, "waiting_bytes": 2048, "limits": {
        "all": { "concurrency": 50 },
        "reports": { "actions": "report.*", "key": "payload.customer", "concurrency": 5, "when_full": "refuse" },
        "monthly": { "actions": ["report.monthly"], "concurrency": 1 },
        "mail": { "actions": "mail", "throttle": { "units": 60, "per": "1m" } }
    }});
    let names = |action: &str| -> Vec<(String, String)> {
        let payload = r#"{"customer":"c7"}"#;
        let queueing = queueing(&queue, &Ask { action, payload, ..ASK }).unwrap();
        let limits = queueing.limits.into_iter();
        limits.map(|counted| (counted.limit, counted.key)).collect()
    };
    let pair = |limit: &str, key: &str| (limit.to_string(), key.to_string());
    assert_eq!(names("report.daily"), [pair("all", ""), pair("reports", "c7")]);
    assert_eq!(
        names("report.monthly"),
        [pair("all", ""), pair("monthly", ""), pair("reports", "c7")]
    );
    assert_eq!(names("mail"), [pair("all", ""), pair("mail", "")]);
    let daily = queueing(&queue, &ASK).unwrap();
    assert_eq!(daily.limits[1].when_full, WhenFull::Refuse);
    assert_eq!((daily.priority, daily.waiting_max), (Priority::Low, Some(9)));
    let bounds = |bytes| Bounds {
        bytes,
        tenant: Some(70),
        tenant_bytes: Some(2048),
    };
    assert_eq!(daily.bounds, bounds(Some(5000)));
    let mail = Ask { action: "mail", ..ASK };
    assert_eq!(queueing(&queue, &mail).unwrap().bounds, bounds(None));
    let urgent = Ask {
        priority: Some(Priority::High),
        ..ASK
    };
    assert_eq!(queueing(&queue, &urgent).unwrap().priority, Priority::High);
}

#[test]
fn a_key_is_the_value_at_its_path_whatever_its_type() {
    let long = "x".repeat(500);
    let payload = format!(r#"{{"a":{{"b":[7,{{"c":"é"}}]}},"odd name":true,"long":"{long}","o":{{"y":1,"x":2}}}}"#);
    for (key, expected) in [
        (json!("user"), "ann"),
        (json!("action"), "report.daily"),
        (json!("metadata.region"), "eu"),
        (json!("metadata[\"region\"]"), "eu"),
        (json!("metadata.none"), "null"),
        (json!("payload.a.b[0]"), "7"),
        (json!("payload.a.b[1].c"), "é"),
        (json!("payload[\"odd name\"]"), "true"),
        (json!("payload.a.b[9].c"), "null"),
        (json!("payload.o"), r#"{"x":2,"y":1}"#),
        (json!(["user", "metadata.region"]), r#"["ann","eu"]"#),
    ] {
        let queue = json!({ "share": { "key": key, "weights": { "ann": 4 } } });
        let ask = Ask {
            payload: &payload,
            ..ASK
        };
        let share = queueing(&queue, &ask).unwrap().share.unwrap();
        assert_eq!(share.key, expected, "{key}");
        assert_eq!(share.weight, if expected == "ann" { 4 } else { 1 });
    }
    let queue = json!({ "share": { "key": "payload.long" } });
    let ask = Ask {
        payload: &payload,
        ..ASK
    };
    let key = queueing(&queue, &ask).unwrap().share.unwrap().key;
    assert!(key.starts_with("sha256:") && key.len() < 64, "{key}");
}

#[test]
fn a_cost_is_read_from_the_request_or_the_request_is_refused() {
    let queue = json!({ "limits": { "mail": {
        "throttle": { "units": 5, "per": "1s", "burst": 9 }, "cost": "payload.recipients" } } });
    let with = |payload| {
        queueing(
            &queue,
            &Ask {
                action: "mail",
                payload,
                ..ASK
            },
        )
    };
    assert_eq!(with(r#"{"recipients":7}"#).unwrap().limits[0].cost, 7);
    for wrong in [
        "{}",
        r#"{"recipients":0}"#,
        r#"{"recipients":"7"}"#,
        r#"{"recipients":1.5}"#,
    ] {
        let error = with(wrong).unwrap_err();
        assert_eq!(error.details[0].pointer, "/payload/recipients", "{wrong}");
    }
}

#[test]
fn every_fault_of_the_section_is_named() {
    for (queue, expected) in [
        (json!({ "limit": {} }), "/queue/limit"),
        (json!({ "share": {} }), "/queue/share/key"),
        (json!({ "share": { "key": "pay.x" } }), "/queue/share/key"),
        (
            json!({ "share": { "key": "user", "weights": { "a": 0 } } }),
            "/queue/share/weights/a",
        ),
        (json!({ "limits": { "A": { "concurrency": 1 } } }), "/queue/limits/A"),
        (json!({ "limits": { "a": {} } }), "/queue/limits/a"),
        (
            json!({ "limits": { "a": { "concurrency": 1, "throttle": { "units": 1, "per": "1s" } } } }),
            "/queue/limits/a",
        ),
        (
            json!({ "limits": { "a": { "concurrency": 0 } } }),
            "/queue/limits/a/concurrency",
        ),
        (
            json!({ "limits": { "a": { "throttle": { "units": 1 } } } }),
            "/queue/limits/a/throttle/per",
        ),
        (
            json!({ "limits": { "a": { "concurrency": 1, "cost": 2 } } }),
            "/queue/limits/a/cost",
        ),
        (
            json!({ "limits": { "a": { "concurrency": 1, "actions": ["report.*", "a b"] } } }),
            "/queue/limits/a/actions/1",
        ),
        (
            json!({ "limits": { "a": { "concurrency": 1, "actions": "reprot.daily" } } }),
            "/queue/limits/a/actions/0",
        ),
        (
            json!({ "limits": { "a": { "throttle": { "units": 1, "per": "1s" }, "when_full": "replace" } } }),
            "/queue/limits/a/when_full",
        ),
    ] {
        assert_eq!(pointers(&queue), [expected], "{queue}");
    }
}

#[test]
fn what_is_no_path_is_refused() {
    for wrong in [
        "",
        "payload.",
        "payload..a",
        "payload.a[",
        "payload.a[-1]",
        "payload[\"a]",
        "payload a",
        "payload.1a",
        "user.name",
        "metadata",
        "now",
        "payload + 1",
        "payload[99999999999999999999]",
    ] {
        assert!(Path::parse(wrong).is_none(), "{wrong}");
    }
}

#[test]
fn a_throttle_smaller_than_the_number_of_shards_would_hold_some_jobs_for_ever() {
    let queue = json!({ "limits": { "a": { "throttle": { "units": 3, "per": "1s" } } } });
    let error = compile(&document(&queue, 4), MANIFESTS).unwrap_err();
    assert_eq!(error.details[0].pointer, "/queue/limits/a/throttle");
    // Places of jobs that run at once are given by one object, however many there are.
    let queue = json!({ "limits": { "a": { "concurrency": 1 } } });
    compile(&document(&queue, 4), MANIFESTS).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Over all shards the parts are the whole: never more is admitted, and nothing is wasted.
    #[test]
    fn the_parts_of_a_throttle_add_up_to_it(shards in 1_u16..40, more in 0_u32..1000) {
        let max = u32::from(shards) + more;
        let queue = json!({ "limits": { "a": { "throttle": { "units": max, "per": "1s" } } } });
        let parts: Vec<u32> = (0..shards)
            .map(|shard| {
                let queueing = queueing(&queue, &Ask { shard, shards, ..ASK }).unwrap();
                match queueing.limits[0].rule {
                    Rule::Rate { units, .. } => queueing.place.part(units),
                    Rule::Concurrency { .. } => 0,
                }
            })
            .collect();
        prop_assert_eq!(parts.iter().sum::<u32>(), max);
        prop_assert!(parts.iter().all(|part| *part > 0));
    }

    #[test]
    fn reading_a_path_never_panics(text in "(payload|metadata|user|[a-z]*)[.\\[\\]\"a-z0-9\\\\ é]{0,20}") {
        let _ = Path::parse(&text);
    }
}
