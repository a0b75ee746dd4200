//! Endpoints as the gate keeps them: what one may be, who is told of a change, and who may disable one.

use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;
use serde_json::json;
use tidegate_protocol::ErrorCode;
use tidegate_protocol::http::{AuditEntry, AuditWho, EndpointEvent, Signature};
use tidegate_protocol::ids::UserId;

use super::*;
use crate::database::migrate;
use crate::database::native::Native;
use crate::tenancy::STEPS;

const NOW: UnixMs = UnixMs(1_800_000_000_000);

fn gate() -> Native {
    let db = Native::in_memory().unwrap();
    migrate(&db, STEPS).unwrap();
    db
}

fn caller() -> Caller {
    Caller {
        user: UserId::parse("root").unwrap(),
        reads_all: true,
        writes_all: true,
        act: None,
    }
}

fn id(name: &str) -> EndpointId {
    EndpointId::parse(&alloc::format!("end_{name}")).unwrap()
}

fn create(db: &Native, name: &str, body: &serde_json::Value) -> Result<Changed, Error> {
    let body = alloc::format!("{body}");
    let made = EndpointChange::Create { id: id(name), body };
    change(db, NOW, made, &caller()).unwrap()
}

fn alter(db: &Native, now: UnixMs, name: &str, body: &serde_json::Value) -> Result<Changed, Error> {
    let body = alloc::format!("{body}");
    let changed = EndpointChange::Change { id: id(name), body };
    change(db, now, changed, &caller()).unwrap()
}

fn one(db: &Native, name: &str) -> Endpoint {
    find(&list(db).unwrap().endpoints, &id(name)).unwrap().clone()
}

/// What an object of the job queue says of an endpoint, as its entry `number`.
fn disabled(name: &str, at: UnixMs, number: u64) -> Recorded {
    let who = AuditWho {
        user: UserId::parse("tidegate").unwrap(),
        via: None,
    };
    let target = AuditTarget {
        endpoint_id: Some(id(name)),
        reason: Some("The endpoint answered 410.".into()),
        ..AuditTarget::default()
    };
    let entry = AuditEntry::by(who, at, 0, number, AuditWhat::EndpointDisabled, target);
    Recorded {
        number,
        entry: JsonText::of(&entry).unwrap(),
    }
}

#[test]
fn an_endpoint_is_as_it_was_asked_for_and_changes_by_what_is_said_alone() {
    let db = gate();
    create(&db, "a", &json!({ "url": "https://a.example.com/hook" })).unwrap();
    let made = one(&db, "a");
    assert_eq!((made.url.as_str(), made.enabled), ("https://a.example.com/hook", true));
    assert_eq!(
        (made.events.as_slice(), made.signature),
        (EndpointEvent::ALL, Signature::V1)
    );
    let later = NOW.plus(5);
    let body =
        json!({ "signature": "v1a", "filter": "data.user == 'ann'", "events": ["job.failed"], "description": "x" });
    alter(&db, later, "a", &body).unwrap();
    let changed = one(&db, "a");
    assert_eq!(
        (changed.url, changed.updated_at, changed.created_at),
        (made.url, later, NOW)
    );
    assert_eq!(
        (changed.filter.as_deref(), changed.signature),
        (Some("data.user == 'ann'"), Signature::V1a)
    );
    alter(&db, later, "a", &json!({ "filter": "", "enabled": false })).unwrap();
    let changed = one(&db, "a");
    assert_eq!((changed.filter, changed.disabled_at), (None, Some(later)));
    assert_eq!(changed.events, [EndpointEvent::Failed]);
    alter(&db, later, "a", &json!({ "enabled": true })).unwrap();
    assert_eq!((one(&db, "a").disabled_at, one(&db, "a").disabled_reason), (None, None));
}

#[test]
fn faults_are_told_together_and_change_nothing() {
    let db = gate();
    create(&db, "a", &json!({ "url": "https://a.example.com/" })).unwrap();
    let before = (list(&db).unwrap(), untold(&db).unwrap());
    for (body, expected) in [
        (
            json!({ "url": "http://10.0.0.1/", "filter": "x" }),
            vec!["/url", "/filter"],
        ),
        (json!({ "filter": "1 +" }), vec!["/filter"]),
        (
            json!({ "filter": "data.user" , "events": ["job.started"] }),
            vec!["/events"],
        ),
        (
            json!({ "events": [], "enabled": 1, "signature": "v2" }),
            vec!["/events", "/signature", "/enabled"],
        ),
        (json!({ "ordered": 1, "order": true }), vec!["/order", "/ordered"]),
        (json!({ "description": "x".repeat(257) }), vec!["/description"]),
    ] {
        let error = alter(&db, NOW, "a", &body).unwrap_err();
        let pointers: Vec<&str> = error.details.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(pointers, expected, "{body}");
        assert_eq!((list(&db).unwrap(), untold(&db).unwrap()), before);
    }
    assert_eq!(alter(&db, NOW, "b", &json!({})).unwrap_err().code, ErrorCode::NotFound);
}

#[test]
fn there_is_a_bound_on_endpoints_and_one_that_is_deleted_makes_room() {
    let db = gate();
    let body = json!({ "url": "https://a.example.com/" });
    for number in 0..ENDPOINTS_MAX {
        create(&db, &alloc::format!("{number}"), &body).unwrap();
    }
    assert_eq!(create(&db, "x", &body).unwrap_err().code, ErrorCode::Conflict);
    let delete = |name| change(&db, NOW, EndpointChange::Delete { id: id(name) }, &caller()).unwrap();
    delete("7").unwrap();
    assert_eq!(delete("7").unwrap_err().code, ErrorCode::NotFound);
    create(&db, "x", &body).unwrap();
    assert_eq!(
        list(&db).unwrap().endpoints.last().unwrap().endpoint_id,
        id("x"),
        "the oldest come first"
    );
}

#[test]
fn a_change_is_told_until_that_version_is_confirmed() {
    let db = gate();
    assert_eq!(untold(&db).unwrap(), None);
    create(&db, "a", &json!({ "url": "https://a.example.com/" })).unwrap();
    let (first, _) = untold(&db).unwrap().unwrap();
    alter(&db, NOW, "a", &json!({ "enabled": false })).unwrap();
    told(&db, first).unwrap();
    let (second, text) = untold(&db).unwrap().unwrap();
    assert!(
        second > first,
        "the confirmation of an older version says nothing of this one"
    );
    assert!(!listed(text.as_str()).unwrap()[0].enabled);
    told(&db, second).unwrap();
    assert_eq!(untold(&db).unwrap(), None);
    tell_all(&db).unwrap();
    assert_eq!(untold(&db).unwrap().unwrap().0, second);
}

#[test]
fn a_rotation_counts_up_and_keeps_the_endpoints() {
    let db = gate();
    assert_eq!(generation(&db).unwrap(), (0, None));
    create(&db, "a", &json!({ "url": "https://a.example.com/" })).unwrap();
    let rotate = |overlap_ms| {
        change(&db, NOW, EndpointChange::Rotate { overlap_ms }, &caller())
            .unwrap()
            .unwrap()
    };
    assert!(matches!(rotate(10), Changed::Secret(_)));
    assert_eq!(generation(&db).unwrap(), (1, Some(NOW.plus(10))));
    rotate(0);
    assert_eq!(generation(&db).unwrap(), (2, None));
    assert_eq!(list(&db).unwrap().endpoints.len(), 1);
}

#[test]
fn what_an_object_saw_of_an_endpoint_holds_unless_it_was_changed_since() {
    let db = gate();
    create(&db, "a", &json!({ "url": "https://a.example.com/" })).unwrap();
    assert!(!hear(&db, &[disabled("b", NOW.plus(1), 1)]).unwrap(), "of another");
    assert!(hear(&db, &[disabled("a", NOW.plus(1), 2)]).unwrap());
    let gone = one(&db, "a");
    assert_eq!((gone.enabled, gone.disabled_at), (false, Some(NOW.plus(1))));
    assert_eq!(gone.disabled_reason.as_deref(), Some("The endpoint answered 410."));
    alter(&db, NOW.plus(5), "a", &json!({ "enabled": true })).unwrap();
    assert!(
        !hear(&db, &[disabled("a", NOW.plus(1), 2)]).unwrap(),
        "told twice, it is of before"
    );
    assert!(one(&db, "a").enabled);
    assert!(hear(&db, &[disabled("a", NOW.plus(6), 3)]).unwrap());
}

#[derive(Debug, Clone)]
enum Step {
    Enable,
    Disable,
    Move,
    /// An object says so, of a moment so long ago.
    Say(u64),
    Tell,
}

proptest! {
    /// Whatever happens in whatever order: an endpoint is enabled exactly where nothing newer than its last change by hand
    /// speaks against it, what was changed is untold until it is told, and versions only rise.
    #[test]
    fn the_standing_of_an_endpoint_is_that_of_its_last_word(steps in prop::collection::vec(
        prop_oneof![
            Just(Step::Enable), Just(Step::Disable), Just(Step::Move), (0_u64..30).prop_map(Step::Say), Just(Step::Tell),
        ],
        1..40,
    )) {
        let db = gate();
        create(&db, "a", &json!({ "url": "https://a.example.com/" })).unwrap();
        let (mut enabled, mut changed_at, mut dirty, mut version) = (true, NOW, true, 0);
        for (index, step) in steps.into_iter().enumerate() {
            let now = NOW.plus(10 * (index as u64 + 1));
            match step {
                Step::Enable | Step::Disable => {
                    enabled = matches!(step, Step::Enable);
                    changed_at = now;
                    dirty = true;
                    alter(&db, now, "a", &json!({ "enabled": enabled })).unwrap();
                }
                Step::Move => {
                    changed_at = now;
                    dirty = true;
                    alter(&db, now, "a", &json!({ "url": "https://b.example.com/" })).unwrap();
                }
                Step::Say(ago) => {
                    let at = UnixMs(now.0 - ago);
                    let counts = enabled && changed_at <= at;
                    prop_assert_eq!(hear(&db, &[disabled("a", at, 1)]).unwrap(), counts);
                    if counts {
                        enabled = false;
                        dirty = true;
                    }
                }
                Step::Tell => {
                    if let Some((version, _)) = untold(&db).unwrap() {
                        told(&db, version).unwrap();
                    }
                    dirty = false;
                }
            }
            let kept = one(&db, "a");
            prop_assert_eq!(kept.enabled, enabled);
            prop_assert_eq!(kept.disabled_reason.is_none(), enabled);
            let (told, now_at) = (untold(&db).unwrap(), read(&db).unwrap().version);
            prop_assert_eq!(told.is_some(), dirty);
            prop_assert!(now_at >= version);
            version = now_at;
        }
    }
}

#[test]
fn a_filter_that_gives_no_value_lets_nothing_pass() {
    let event = JsonText::parse(r#"{"type":"job.failed","data":{"user":"ann","metadata":{"n":"1"}}}"#).unwrap();
    let told = Told::of(&event);
    for (text, passes) in [
        ("event.type == 'job.failed'", true),
        ("data.user == 'bob'", false),
        ("data.metadata.n == '1' && data.user.startsWith('a')", true),
        ("data.metadata.missing == '1'", false),
        ("data.metadata.missing != '1'", false),
        ("data.user", false),
        ("has(data.metadata.missing) || data.user == 'ann'", true),
    ] {
        let filter = crate::expression::Expression::compile(text, VARIABLES, crate::expression::Type::Bool).unwrap();
        assert_eq!(told.passes(&filter), passes, "{text}");
    }
}
