//! Keys through their lives, and who comes in while what is revoked.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;
use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::access::{Access, Change, Credential, NewKey, Revocation, Revoked};
use tidegate_protocol::calls::tenant::{AuditQuery, Call, Description, Reply, Scale};
use tidegate_protocol::calls::{Caller, Principal};
use tidegate_protocol::ids::{ApiKeyId, Revision, TenantId, TokenId, UserId};
use tidegate_protocol::time::UnixMs;

use super::{KEYS_MAX, REVOCATIONS_MAX, USED_MS, check, identify, keys, told};
use crate::database::migrate;
use crate::database::native::Native;
use crate::tenancy::{Effect, STEPS, handle, untold_access};

const DAY_MS: u64 = 86_400_000;

fn gate() -> Native {
    let db = Native::in_memory().unwrap();
    migrate(&db, STEPS).unwrap();
    db
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn admin() -> Caller {
    Caller {
        user: user("root"),
        reads_all: true,
        writes_all: true,
        act: None,
    }
}

fn key_id(number: u64) -> ApiKeyId {
    ApiKeyId::parse(&alloc::format!("key_{number:06}")).unwrap()
}

fn token(id: Option<&str>, issued_at: Option<u64>) -> Credential {
    Credential::Token {
        id: id.map(|id| TokenId::parse(id).unwrap()),
        issued_at: issued_at.map(UnixMs),
        claims: None,
        claims_cut: false,
    }
}

fn caller(name: &str, credential: Credential) -> Principal {
    Principal {
        tenant: TenantId::parse("acme").unwrap(),
        user: user(name),
        scopes: Default::default(),
        expires_at: Principal::NEVER,
        credential,
        network: Default::default(),
    }
}

fn new_key(expires_at: Option<u64>) -> NewKey {
    NewKey {
        name: "ci".into(),
        user: user("bot"),
        scopes: vec!["jobs:read".to_string()],
        expires_at: expires_at.map(UnixMs),
    }
}

/// Makes a change, and gives what the hubs are told of it, where they are.
fn change(db: &Native, now: u64, change: Change) -> Result<Option<Description>, ErrorCode> {
    let call = Call::Access {
        change,
        caller: admin(),
    };
    let (reply, effects) = handle(db, UnixMs(now), call).unwrap();
    reply.map_err(|error| error.code)?;
    Ok(effects.into_iter().find_map(|effect| match effect {
        Effect::TellAccess { description } => Some(description),
        _ => None,
    }))
}

fn create(db: &Native, now: u64, number: u64, hash: &str, expires_at: Option<u64>) -> Result<(), ErrorCode> {
    let create = Change::CreateKey {
        id: key_id(number),
        hash: hash.into(),
        key: new_key(expires_at),
    };
    change(db, now, create).map(|told| assert_eq!(told, None))
}

fn asked(db: &Native, now: u64, hash: &str) -> Option<Principal> {
    identify(db, UnixMs(now), &TenantId::parse("acme").unwrap(), hash).unwrap()
}

fn revoke(db: &Native, now: u64, of: Revoked) -> Access {
    let revoke = Change::Revoke { of, for_ms: DAY_MS };
    change(db, now, revoke).unwrap().unwrap().access
}

#[test]
fn a_key_speaks_for_its_user_until_it_expires() {
    let db = gate();
    create(&db, 1_000, 1, "h1", None).unwrap();
    create(&db, 1_000, 2, "h2", Some(5_000)).unwrap();
    let bot = asked(&db, 2_000, "h1").unwrap();
    assert_eq!((bot.user.as_str(), bot.expires_at), ("bot", Principal::NEVER));
    assert_eq!(bot.scopes.iter().map(String::as_str).collect::<Vec<_>>(), ["jobs:read"]);
    assert_eq!(bot.credential.key(), Some(&key_id(1)));
    assert_eq!(asked(&db, 4_999, "h2").unwrap().expires_at, UnixMs(5_000));
    assert_eq!(asked(&db, 5_000, "h2"), None);
    assert_eq!(asked(&db, 2_000, "h3"), None);
}

#[test]
fn both_texts_of_a_rotated_key_are_good_for_a_while_and_then_the_new_one() {
    let db = gate();
    create(&db, 0, 1, "h1", None).unwrap();
    let rotate = |hash: &str, overlap_ms| Change::RotateKey {
        id: key_id(1),
        hash: hash.into(),
        overlap_ms,
    };
    assert!(change(&db, 1_000, rotate("h2", 500)).unwrap().is_some());
    // A socket that was opened with the old text ends with it.
    assert_eq!(asked(&db, 1_499, "h1").unwrap().expires_at, UnixMs(1_500));
    assert_eq!(asked(&db, 1_499, "h2").unwrap().expires_at, Principal::NEVER);
    assert_eq!(asked(&db, 1_500, "h1"), None);
    change(&db, 2_000, rotate("h3", 10_000)).unwrap();
    change(&db, 3_000, rotate("h4", 10_000)).unwrap();
    let good: Vec<bool> = ["h1", "h2", "h3", "h4"]
        .iter()
        .map(|hash| asked(&db, 3_001, hash).is_some())
        .collect();
    assert_eq!(good, [false, false, true, true], "two texts at most");
    assert_eq!(change(&db, 0, rotate("h", 0)).map(|_| ()), Ok(()));
    let other = Change::RotateKey {
        id: key_id(2),
        hash: "x".into(),
        overlap_ms: 0,
    };
    assert_eq!(change(&db, 0, other), Err(ErrorCode::NotFound));
}

#[test]
fn the_last_use_of_a_key_costs_a_row_an_hour() {
    let db = gate();
    create(&db, 0, 1, "h1", None).unwrap();
    let used = || keys(&db).unwrap().keys[0].used_at;
    assert_eq!(used(), None);
    for (now, expected) in [(10, 10), (USED_MS + 9, 10), (USED_MS + 10, USED_MS + 10)] {
        asked(&db, now, "h1").unwrap();
        assert_eq!(used(), Some(UnixMs(expected)));
    }
}

#[test]
fn a_deleted_key_is_unknown_and_what_was_let_in_with_it_is_refused() {
    let db = gate();
    create(&db, 0, 1, "h1", None).unwrap();
    let in_before = asked(&db, 1, "h1").unwrap();
    let access = change(&db, 5, Change::RevokeKey { id: key_id(1) })
        .unwrap()
        .unwrap()
        .access;
    assert_eq!(asked(&db, 5, "h1"), None);
    assert_eq!(
        check(&access, &in_before, UnixMs(5)).unwrap_err().code,
        ErrorCode::Unauthorized
    );
    assert_eq!(
        change(&db, 6, Change::RevokeKey { id: key_id(1) }),
        Err(ErrorCode::NotFound)
    );
}

#[test]
fn there_are_so_many_keys_and_revocations_and_no_more() {
    let db = gate();
    for number in 0..KEYS_MAX {
        create(&db, 0, number, &number.to_string(), None).unwrap();
    }
    assert_eq!(create(&db, 0, KEYS_MAX, "one more", None), Err(ErrorCode::Conflict));
    for number in 0..REVOCATIONS_MAX {
        revoke(&db, 10, Revoked::Token(TokenId::parse(&number.to_string()).unwrap()));
    }
    let one_more = |name: &str, now| {
        let of = Revoked::User(user(name));
        change(&db, now, Change::Revoke { of, for_ms: 1 }).map(|_| ())
    };
    assert_eq!(one_more("ann", 11), Err(ErrorCode::Conflict));
    // One that is there already is renewed, and the deletion of a key is never refused.
    revoke(&db, 11, Revoked::Token(TokenId::parse("7").unwrap()));
    change(&db, 11, Change::RevokeKey { id: key_id(3) }).unwrap();
    assert_eq!(one_more("ann", 10 + DAY_MS), Ok(()), "what is over makes room");
}

#[test]
fn who_is_refused_by_which_revocation() {
    let access = |of| revoke(&gate(), 5_000, of);
    let is_refused = |access: &Access, who: &Principal| check(access, who, UnixMs(6_000)).is_err();
    let (ann, bob) = (
        |credential| caller("ann", credential),
        |credential| caller("bob", credential),
    );
    let key = |created_at| Credential::Key {
        id: key_id(1),
        created_at: UnixMs(created_at),
    };
    let by_token = access(Revoked::Token(TokenId::parse("t1").unwrap()));
    let by_key = access(Revoked::Key(key_id(1)));
    let by_user = access(Revoked::User(user("ann")));
    let by_all = access(Revoked::Everyone);
    for (who, expected) in [
        // By token, key, user, everyone.
        (ann(token(Some("t1"), Some(1))), [true, false, true, true]),
        (bob(token(Some("t1"), Some(9_000))), [true, false, false, false]),
        (ann(token(Some("t2"), Some(5_000))), [false, false, true, true]),
        (ann(token(Some("t2"), Some(5_001))), [false, false, false, false]),
        (ann(token(None, None)), [false, false, true, true]),
        (bob(token(None, Some(1))), [false, false, false, true]),
        (ann(key(1)), [false, true, true, true]),
        (bob(key(5_001)), [false, true, false, false]),
    ] {
        let refused = [&by_token, &by_key, &by_user, &by_all].map(|access| is_refused(access, &who));
        assert_eq!(refused, expected, "{who:?}");
    }
}

#[test]
fn a_suspended_tenant_lets_nobody_in_until_it_is_resumed() {
    let db = gate();
    let who = caller("ann", token(None, Some(9_000)));
    let suspended = change(&db, 5_000, Change::Suspend).unwrap().unwrap();
    assert_eq!(suspended.access.suspended_at, Some(UnixMs(5_000)));
    let refusal = check(&suspended.access, &who, UnixMs(6_000)).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::TenantSuspended);
    assert_eq!(
        change(&db, 6_000, Change::Suspend).unwrap(),
        None,
        "nothing new to tell"
    );
    let resumed = change(&db, 7_000, Change::Resume).unwrap().unwrap();
    assert!(resumed.version > suspended.version);
    assert_eq!(check(&resumed.access, &who, UnixMs(7_000)), Ok(()));
}

#[test]
fn hubs_are_told_again_until_all_have_heard_the_newest() {
    let db = gate();
    let first = change(&db, 1, Change::Suspend).unwrap().unwrap();
    let second = change(&db, 2, Change::Resume).unwrap().unwrap();
    told(&db, first.version).unwrap();
    let again = untold_access(&db).unwrap();
    assert!(matches!(again, Some(Effect::TellAccess { description }) if description == second));
    told(&db, second.version).unwrap();
    assert_eq!(untold_access(&db).unwrap(), None);
    // Another composition has a version of its own, and what was heard before it stays heard.
    change(&db, 3, Change::Suspend).unwrap();
    told(&db, second.version + 9).unwrap();
    assert_eq!(untold_access(&db).unwrap(), None);
}

#[test]
fn whoever_knows_the_version_is_told_nothing_again() {
    let db = gate();
    let since = |version| match handle(&db, UnixMs(1), Call::Since { version }).unwrap().0.unwrap() {
        Reply::Description(description) => Some(description),
        Reply::Same => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        since(0).map(|description| description.version),
        Some(0),
        "nothing is known, and nothing made"
    );
    let Ok(Reply::Description(first)) = handle(&db, UnixMs(1), Call::Describe).unwrap().0 else {
        panic!("no description")
    };
    assert_eq!(since(0), Some(first.clone()));
    assert_eq!(since(first.version), None);
    change(&db, 2, Change::Suspend).unwrap();
    assert!(since(first.version).unwrap().access.suspended_at.is_some());
}

#[test]
fn whoever_asks_who_may_come_in_does_not_fix_how_the_tenant_is_spread() {
    let db = gate();
    assert!(handle(&db, UnixMs(1), Call::Since { version: 0 }).unwrap().0.is_ok());
    create(&db, 2, 1, "h1", None).unwrap();
    let suspended = change(&db, 3, Change::Suspend).unwrap().unwrap();
    assert_eq!(suspended.scale.hubs, 0, "there is no hub to tell");
    let scale = Scale { hubs: 4, shards: 2 };
    let activate = Call::Activate {
        document: "{}".into(),
        revision: Revision::parse("rev_1").unwrap(),
        scale,
        schedules: Vec::new(),
        by: "root".into(),
        act: None,
        secrets: Vec::new(),
    };
    let Ok(Reply::Description(active)) = handle(&db, UnixMs(4), activate).unwrap().0 else {
        panic!("not activated")
    };
    assert_eq!(active.scale, scale);
    assert!(active.version > suspended.version && active.access.suspended_at.is_some());
    assert!(asked(&db, 5, "h1").is_some());
    // Without a composition, the first question after the first key fixes it.
    let db = gate();
    change(&db, 1, Change::Suspend).unwrap();
    let Ok(Reply::Description(first)) = handle(&db, UnixMs(2), Call::Describe).unwrap().0 else {
        panic!("no description")
    };
    assert_eq!(first.scale, Scale::default());
    assert!(first.access.suspended_at.is_some());
}

#[test]
fn every_change_is_in_the_audit_trail_and_no_key_is() {
    let db = gate();
    create(&db, 1, 1, "secret-hash", None).unwrap();
    let rotate = Change::RotateKey {
        id: key_id(1),
        hash: "other-hash".into(),
        overlap_ms: 0,
    };
    change(&db, 2, rotate).unwrap();
    change(&db, 3, Change::RevokeKey { id: key_id(1) }).unwrap();
    revoke(&db, 4, Revoked::User(user("ann")));
    change(&db, 5, Change::Suspend).unwrap();
    change(&db, 6, Change::Suspend).unwrap();
    change(&db, 7, Change::Resume).unwrap();
    let query = AuditQuery {
        limit: 50,
        ..AuditQuery::default()
    };
    let page = crate::audit::list(&db, UnixMs(8), &query).unwrap();
    let texts: Vec<&str> = page.entries.iter().map(|entry| entry.as_str()).collect();
    for (what, text) in [
        "tenant.resumed",
        "tenant.suspended",
        "credentials.revoked",
        "key.revoked",
        "key.rotated",
        "key.created",
    ]
    .iter()
    .zip(&texts)
    {
        assert!(text.contains(what), "{text}");
    }
    assert_eq!(texts.len(), 6);
    assert!(
        texts
            .iter()
            .all(|text| !text.contains("secret-hash") && !text.contains("other-hash"))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The model: a credential is refused where some revocation in force names it, and was not issued after that.
    #[test]
    fn whoever_is_revoked_is_refused_and_nobody_else(
        revocations in prop::collection::vec((0..4_u8, 0..3_u8, 0..20_u64, 1..20_u64), 0..6),
        (name, id, issued_at, is_key) in (0..3_u8, 0..3_u8, prop::option::of(0..20_u64), any::<bool>()),
        now in 0..40_u64,
    ) {
        let names = ["ann", "bob", "eve"];
        let name_of = |index: u8| names[usize::from(index)];
        let key = |index: u8| key_id(u64::from(index));
        let of = |kind: u8, index: u8| match kind {
            0 => Revoked::Token(TokenId::parse(name_of(index)).unwrap()),
            1 => Revoked::Key(key(index)),
            2 => Revoked::User(user(name_of(index))),
            _ => Revoked::Everyone,
        };
        let access = Access {
            suspended_at: None,
            spent: None,
            revocations: revocations
                .iter()
                .map(|(kind, index, at, life)| Revocation { of: of(*kind, *index), at: UnixMs(*at), until: UnixMs(at + life) })
                .collect(),
        };
        let credential = if is_key {
            Credential::Key { id: key(id), created_at: UnixMs(issued_at.unwrap_or(0)) }
        } else {
            token(Some(name_of(id)), issued_at)
        };
        let since = if is_key { Some(issued_at.unwrap_or(0)) } else { issued_at };
        let expected = revocations.iter().any(|(kind, index, at, life)| {
            let old = since.is_none_or(|since| since <= *at);
            now < at + life && match kind {
                0 => !is_key && *index == id,
                1 => is_key && *index == id,
                2 => *index == name && old,
                _ => old,
            }
        });
        let who = caller(name_of(name), credential);
        prop_assert_eq!(check(&access, &who, UnixMs(now)).is_err(), expected);
    }
}
