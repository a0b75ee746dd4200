//! Secrets through their lives, against a model that keeps what was set in memory.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;
use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::secrets::Sealed;
use tidegate_protocol::calls::tenant::{AuditQuery, Call, Reply, Scale};
use tidegate_protocol::http::SecretView;
use tidegate_protocol::ids::{Revision, SecretName, UserId};
use tidegate_protocol::time::UnixMs;

use super::{SECRETS_MAX, live};
use crate::database::native::Native;
use crate::database::{Database, migrate};
use crate::tenancy::{Effect, STEPS, handle};
use tidegate_protocol::SortedMap;

fn gate() -> Native {
    let db = Native::in_memory().unwrap();
    migrate(&db, STEPS).unwrap();
    db
}

fn name(text: &str) -> SecretName {
    SecretName::parse(text).unwrap()
}

fn admin() -> Caller {
    Caller {
        user: UserId::parse("root").unwrap(),
        reads_all: true,
        writes_all: true,
        act: None,
    }
}

fn sealed(of: &str, version: u64, text: &str) -> Sealed {
    Sealed {
        name: name(of),
        version,
        text: text.into(),
    }
}

fn ask(db: &Native, now: u64, call: Call) -> Result<Reply, ErrorCode> {
    let (reply, effects) = handle(db, UnixMs(now), call).unwrap();
    assert!(effects.iter().all(|effect| *effect == Effect::Archive), "{effects:?}");
    reply.map_err(|error| error.code)
}

fn set(db: &Native, now: u64, secret: Sealed, overlap_ms: u64) -> Result<SecretView, ErrorCode> {
    let call = Call::SetSecret {
        secret,
        overlap_ms,
        caller: admin(),
    };
    match ask(db, now, call)? {
        Reply::Shown(view) => Ok(serde_json::from_str(view.as_str()).unwrap()),
        other => panic!("{other:?}"),
    }
}

fn delete(db: &Native, now: u64, of: &str) -> Result<(), ErrorCode> {
    let call = Call::DeleteSecret {
        name: name(of),
        caller: admin(),
    };
    assert_eq!(ask(db, now, call)?, Reply::Ended);
    Ok(())
}

fn list(db: &Native, now: u64, key: &str) -> Vec<SecretView> {
    let Ok(Reply::Shown(list)) = ask(db, now, Call::ListSecrets { key: key.into() }) else {
        panic!("no list")
    };
    assert!(!list.as_str().contains("sealed"), "{}", list.as_str());
    let list: tidegate_protocol::http::SecretList = serde_json::from_str(list.as_str()).unwrap();
    list.secrets
}

fn texts(db: &Native, now: u64, of: &str) -> Vec<(u64, String)> {
    let Ok(Reply::Secrets(found)) = ask(db, now, Call::Secrets { names: vec![name(of)] }) else {
        panic!("no secrets")
    };
    found.into_iter().map(|one| (one.version, one.text)).collect()
}

fn acts(db: &Native) -> Vec<(String, String)> {
    let query = AuditQuery {
        limit: 100,
        ..AuditQuery::default()
    };
    let Ok(Reply::Audit(page)) = ask(db, 10, Call::Audit(query)) else {
        panic!("no trail")
    };
    assert!(!page.as_str().contains("sealed"), "{}", page.as_str());
    let page: serde_json::Value = serde_json::from_str(page.as_str()).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_string();
    let entries = page["entries"].as_array().unwrap().iter();
    entries
        .rev()
        .map(|entry| (text(&entry["what"]), text(&entry["target"]["secret"])))
        .collect()
}

#[test]
fn a_rotated_secret_keeps_the_version_before_until_its_time() {
    let db = gate();
    let first = set(&db, 1_000, sealed("bank", 1, "sealed 1"), 500).unwrap();
    assert_eq!(
        (first.version, first.rotated_at, first.old_value_until),
        (1, None, None)
    );
    let second = set(&db, 2_000, sealed("bank", 2, "sealed 2"), 500).unwrap();
    assert_eq!((second.version, second.created_at), (2, UnixMs(1_000)));
    assert_eq!(
        (second.rotated_at, second.old_value_until),
        (Some(UnixMs(2_000)), Some(UnixMs(2_500)))
    );
    let both = vec![(2, "sealed 2".to_string()), (1, "sealed 1".to_string())];
    assert_eq!(texts(&db, 2_499, "bank"), both);
    assert_eq!(texts(&db, 2_500, "bank"), both[..1]);
    // A third version leaves nothing of the first; one without an overlap leaves nothing at all.
    set(&db, 2_600, sealed("bank", 3, "sealed 3"), 1_000).unwrap();
    set(&db, 2_700, sealed("bank", 4, "sealed 4"), 1_000).unwrap();
    let versions = |now| {
        texts(&db, now, "bank")
            .iter()
            .map(|(version, _)| *version)
            .collect::<Vec<_>>()
    };
    assert_eq!(versions(2_700), [4, 3]);
    set(&db, 2_800, sealed("bank", 5, "sealed 5"), 0).unwrap();
    assert_eq!(versions(2_800), [5]);
    assert_eq!(texts(&db, 2_800, "other"), []);
    let acts = acts(&db);
    assert_eq!(acts.len(), 5);
    assert_eq!(acts[0], ("secret.created".into(), "bank".into()));
    assert!(
        acts[1..]
            .iter()
            .all(|act| *act == ("secret.rotated".into(), "bank".into()))
    );
}

#[test]
fn what_is_past_its_time_is_erased_and_not_only_hidden() {
    let db = gate();
    set(&db, 0, sealed("bank", 1, "sealed 1"), 0).unwrap();
    set(&db, 0, sealed("bank", 2, "sealed 2"), 100).unwrap();
    list(&db, 100, "");
    let rows = db.run("-- test\nSELECT old_version, old_until, old_sealed FROM secret", &[]);
    let mut row = rows.unwrap().remove(0);
    assert_eq!((row.optional_number(), row.optional_number()), (Ok(None), Ok(None)));
    assert_eq!(row.optional_text(), Ok(None));
}

#[test]
fn whoever_is_not_next_is_refused_and_the_same_once_more_changes_nothing() {
    let db = gate();
    for version in [0, 2, 7] {
        assert_eq!(set(&db, 0, sealed("a", version, "x"), 0), Err(ErrorCode::Conflict));
    }
    let first = set(&db, 5, sealed("a", 1, "x"), 0).unwrap();
    assert_eq!(set(&db, 9, sealed("a", 1, "x"), 77), Ok(first));
    assert_eq!(set(&db, 9, sealed("a", 1, "y"), 0), Err(ErrorCode::Conflict));
    assert_eq!(set(&db, 9, sealed("a", 3, "y"), 0), Err(ErrorCode::Conflict));
    assert_eq!(delete(&db, 9, "b"), Err(ErrorCode::NotFound));
    assert_eq!(acts(&db).len(), 1, "what changes nothing leaves no entry");
    delete(&db, 9, "a").unwrap();
    assert_eq!((texts(&db, 9, "a"), list(&db, 9, "")), (vec![], vec![]));
    assert_eq!(set(&db, 9, sealed("a", 2, "y"), 0), Err(ErrorCode::Conflict));
    set(&db, 9, sealed("a", 1, "y"), 0).unwrap();
}

#[test]
fn there_are_so_many_secrets_and_no_more() {
    let db = gate();
    for number in 0..SECRETS_MAX {
        set(&db, 0, sealed(&format!("s{number}"), 1, "x"), 0).unwrap();
    }
    assert_eq!(set(&db, 0, sealed("more", 1, "x"), 0), Err(ErrorCode::Conflict));
    set(&db, 0, sealed("s0", 2, "y"), 0).unwrap();
    delete(&db, 0, "s1").unwrap();
    set(&db, 0, sealed("more", 1, "x"), 0).unwrap();
}

#[test]
fn the_list_says_what_an_earlier_deployment_key_has_sealed() {
    let db = gate();
    set(&db, 0, sealed("a", 1, "key1.x"), 0).unwrap();
    set(&db, 0, sealed("b", 1, "key2.x"), 0).unwrap();
    set(&db, 0, sealed("c", 1, "key1.x"), 0).unwrap();
    set(&db, 0, sealed("c", 2, "key2.x"), 10).unwrap();
    let old = |now, key| -> Vec<bool> { list(&db, now, key).iter().map(|one| one.old_deployment_key).collect() };
    assert_eq!(old(1, "key1."), [false, true, true]);
    assert_eq!(old(1, "key2."), [true, false, true]);
    assert_eq!(old(10, "key2."), [true, false, false], "the version before is erased");
}

#[test]
fn a_composition_that_refers_to_secrets_which_are_not_set_is_refused_with_all_of_them() {
    let db = gate();
    set(&db, 0, sealed("bank-token", 1, "x"), 0).unwrap();
    let activate = |secrets: &[(&str, &str)]| {
        let call = Call::Activate {
            document: "{}".into(),
            revision: Revision::parse("rev_1").unwrap(),
            scale: Scale::default(),
            schedules: Vec::new(),
            by: "root".into(),
            act: None,
            secrets: secrets.iter().map(|(at, of)| ((*at).to_string(), name(of))).collect(),
        };
        handle(&db, UnixMs(1), call).unwrap()
    };
    let (refused, effects) = activate(&[("/a", "bank-tokens"), ("/b", "bank-token"), ("/c", "other")]);
    let refused = refused.unwrap_err();
    assert_eq!((refused.code, effects), (ErrorCode::ValidationError, vec![]));
    let told = refused.details.iter().map(|fault| {
        let suggestion = fault.suggestion.as_deref().unwrap_or_default();
        (fault.pointer.as_str(), fault.got.as_str(), suggestion)
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
        [("/a", "bank-tokens", "bank-token"), ("/c", "other", "")]
    );
    assert!(activate(&[("/b", "bank-token")]).0.is_ok());
}

/// What a model keeps of a secret: the current version, and the one before with its time.
type Model = SortedMap<&'static str, ((u64, String), Option<(u64, String, u64)>)>;

#[derive(Debug, Clone)]
enum Step {
    Set {
        of: &'static str,
        ahead: u64,
        overlap_ms: u64,
    },
    Delete(&'static str),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let of = || prop::sample::select(vec!["a", "b", "c_1"]);
    prop_oneof![
        4 => (of(), 0..3_u64, prop::sample::select(vec![0, 1, 50, 200])).prop_map(|(of, ahead, overlap_ms)| Step::Set {
            of,
            ahead,
            overlap_ms
        }),
        1 => of().prop_map(Step::Delete),
        2 => (1..150_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_good_is_what_a_model_says(steps in prop::collection::vec(step(), 1..40)) {
        let (db, mut model, mut now) = (gate(), Model::new(), 1_000);
        for (count, step) in steps.into_iter().enumerate() {
            match step {
                Step::Wait(ms) => now += ms,
                Step::Delete(of) => {
                    prop_assert_eq!(delete(&db, now, of).is_ok(), model.remove(of).is_some());
                }
                Step::Set { of, ahead, overlap_ms } => {
                    let known = model.get(of).map(|(current, _)| current.clone());
                    let version = known.as_ref().map_or(0, |(version, _)| *version) + ahead;
                    let text = format!("sealed {count}");
                    let done = set(&db, now, sealed(of, version, &text), overlap_ms);
                    prop_assert_eq!(done.is_ok(), ahead == 1);
                    if ahead == 1 {
                        let old = known.filter(|_| overlap_ms > 0).map(|(version, text)| (version, text, now + overlap_ms));
                        model.insert(of, ((version, text), old));
                    }
                }
            }
            for of in ["a", "b", "c_1"] {
                let expected: Vec<(u64, String)> = model.get(of).into_iter().flat_map(|(current, old)| {
                    let old = old.iter().filter(|(_, _, until)| now < *until);
                    core::iter::once(current.clone()).chain(old.map(|(version, text, _)| (*version, text.clone())))
                }).collect();
                // Through the gate, which erases; and as others read it, who do not.
                let read = live(&db, UnixMs(now), &name(of)).unwrap();
                let read: Vec<(u64, String)> = read.into_iter().map(|one| (one.version, one.text)).collect();
                prop_assert_eq!(&read, &expected);
                prop_assert_eq!(texts(&db, now, of), expected);
            }
            let listed: Vec<(String, u64)> =
                list(&db, now, "").into_iter().map(|one| (one.name.to_string(), one.version)).collect();
            let expected: Vec<(String, u64)> =
                model.iter().map(|(of, ((version, _), _))| ((*of).to_string(), *version)).collect();
            prop_assert_eq!(listed, expected);
        }
    }
}
