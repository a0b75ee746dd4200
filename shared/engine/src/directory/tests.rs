//! The directory against a plain list, and erasures against a tenant that is made of numbers.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;
use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::access::Change;
use tidegate_protocol::calls::tenant;

use super::erasure::{BUSY_PAUSE_MS, Erasure, Outcome, PAUSE_MS, RETRY_MS, Removed, SETTLE_MS, STORED_KINDS, Step};
use tidegate_protocol::http::ErasureView;
use tidegate_protocol::ids::{ObjectName, ShardIndex};

use super::*;
use crate::database::migrate;
use crate::database::native::Native;
use crate::tenancy;
use tidegate_protocol::SortedMap;

fn directory() -> Native {
    let db = Native::in_memory().unwrap();
    migrate(&db, STEPS).unwrap();
    db
}

fn id(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

fn operator() -> Caller {
    Caller {
        user: UserId::parse("op").unwrap(),
        reads_all: false,
        writes_all: false,
        act: None,
    }
}

fn ask(db: &Native, now: u64, call: Call) -> Result<Reply, Error> {
    handle(db, UnixMs(now), call).unwrap()
}

fn announce_of(db: &Native, now: u64, name: &str, version: u64, suspended_at: Option<u64>) -> (u64, Option<u64>) {
    let call = Call::Announce {
        tenant: id(name),
        version,
        suspended_at: suspended_at.map(UnixMs),
        resident: false,
    };
    match ask(db, now, call) {
        Ok(Reply::Standing { version, erased_at }) => (version, erased_at.map(|at| at.0)),
        other => panic!("{other:?}"),
    }
}

fn create_of(db: &Native, now: u64, name: &str, template: Option<&str>) -> Result<TenantView, Error> {
    let call = Call::Create {
        tenant: id(name),
        template: template.map(Into::into),
        resident: false,
        by: operator(),
    };
    ask(db, now, call).map(read)
}

fn erase_of(db: &Native, now: u64, name: &str) -> Result<TenantView, Error> {
    let call = Call::Erase {
        tenant: id(name),
        by: operator(),
        keep_backups: false,
    };
    ask(db, now, call).map(read)
}

fn show_of(db: &Native, name: &str) -> Result<TenantView, Error> {
    ask(db, 0, Call::Show { tenant: id(name) }).map(read)
}

fn read(reply: Reply) -> TenantView {
    match reply {
        Reply::Shown(text) => serde_json::from_str(text.as_str()).unwrap(),
        other @ Reply::Standing { .. } => panic!("{other:?}"),
    }
}

fn page(db: &Native, state: Option<&str>, after: Option<&str>, limit: u32) -> TenantPage {
    let call = Call::List {
        state: state.map(Into::into),
        after: after.map(id),
        limit,
    };
    match ask(db, 0, call) {
        Ok(Reply::Shown(text)) => serde_json::from_str(text.as_str()).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Takes every step, of which the second and later passes find nothing.
fn run_to_the_end(db: &Native, mut now: u64) -> u64 {
    for _ in 0..1000 {
        let Some(at) = erasure::next_wake(db).unwrap() else {
            return now;
        };
        now = now.max(at.0);
        while let Some(erasure) = erasure::due(db, UnixMs(now)).unwrap() {
            step_to_the_pause(db, now, erasure, |_| Removed::default());
        }
    }
    panic!("it does not end")
}

fn suspend(db: &Native, now: u64, erasure: Erasure, (hubs, shards): (u16, u16), version: u64) -> Erasure {
    let outcome = Outcome::Suspended { hubs, shards, version };
    erasure::took(db, UnixMs(now), erasure, outcome).unwrap()
}

fn step_to_the_pause(db: &Native, now: u64, mut erasure: Erasure, mut remove: impl FnMut(&Step) -> Removed) {
    while erasure.is_due(UnixMs(now)) {
        erasure = match erasure.step() {
            Step::Suspend => suspend(db, now, erasure, (2, 3), 7),
            step => {
                let found = remove(&step);
                erasure::took(db, UnixMs(now), erasure, Outcome::Removed(found)).unwrap()
            }
        };
    }
}

#[test]
fn a_tenant_that_comes_by_itself_is_listed_as_one_that_was_created_is() {
    let db = directory();
    assert_eq!(announce_of(&db, 5, "acme", 0, None), (0, None));
    create_of(&db, 6, "eu.globex", None).unwrap();
    let listed: Vec<_> = page(&db, None, None, 50).tenants;
    let shown: Vec<_> = listed
        .iter()
        .map(|one| (one.tenant.as_str(), one.state, one.created_at.0))
        .collect();
    assert_eq!(
        shown,
        [("acme", TenantState::Active, 5), ("eu.globex", TenantState::Active, 6)]
    );
    assert_eq!(
        (listed[1].jurisdiction.as_deref(), listed[1].jurisdiction_enforced),
        (Some("eu"), Some(false))
    );
    assert_eq!(show_of(&db, "nobody").unwrap_err().code, ErrorCode::NotFound);
    let acts = show_of(&db, "eu.globex").unwrap().acts;
    assert_eq!((acts[0].what.as_str(), acts[0].by.as_str()), ("created", "op"));
}

#[test]
fn a_tenant_is_created_once_and_again_only_until_it_has_its_template() {
    let db = directory();
    let view = create_of(&db, 1, "acme", Some("free")).unwrap();
    assert_eq!(
        (view.state, view.template.as_deref()),
        (TenantState::Creating, Some("free"))
    );
    // Its gate comes to be while the template is activated.
    announce_of(&db, 2, "acme", 0, None);
    assert_eq!(show_of(&db, "acme").unwrap().state, TenantState::Creating);
    let again = create_of(&db, 3, "acme", Some("pro")).unwrap();
    assert_eq!((again.created_at, again.template.as_deref()), (UnixMs(1), Some("pro")));
    let view = read(ask(&db, 4, Call::Created { tenant: id("acme") }).unwrap());
    assert_eq!(view.state, TenantState::Active);
    assert_eq!(
        create_of(&db, 5, "acme", Some("pro")).unwrap_err().code,
        ErrorCode::Conflict
    );
    // Told twice, it changes nothing.
    let again = read(ask(&db, 6, Call::Created { tenant: id("acme") }).unwrap());
    assert_eq!(again.changed_at, UnixMs(4));
}

#[test]
fn an_older_word_of_a_gate_changes_nothing() {
    let db = directory();
    announce_of(&db, 1, "acme", 0, None);
    announce_of(&db, 2, "acme", 4, Some(2));
    assert_eq!(show_of(&db, "acme").unwrap().suspended_at, Some(UnixMs(2)));
    announce_of(&db, 3, "acme", 3, None);
    assert_eq!(show_of(&db, "acme").unwrap().state, TenantState::Suspended);
    announce_of(&db, 4, "acme", 5, None);
    assert_eq!(show_of(&db, "acme").unwrap().state, TenantState::Active);
}

#[test]
fn an_erased_tenant_stays_out_until_it_is_created_again_and_begins_above_what_it_was() {
    let db = directory();
    announce_of(&db, 1, "acme", 3, None);
    assert_eq!(erase_of(&db, 2, "acme").unwrap().state, TenantState::Erasing);
    assert_eq!(create_of(&db, 3, "acme", None).unwrap_err().code, ErrorCode::Conflict);
    assert_eq!(announce_of(&db, 3, "acme", 9, None).1, Some(2));
    let end = run_to_the_end(&db, 3);
    let view = show_of(&db, "acme").unwrap();
    assert_eq!((view.state, view.changed_at), (TenantState::Erased, UnixMs(end)));
    assert_eq!(view.erasure.unwrap().verified_at, Some(UnixMs(end)));
    // Whoever comes by a credential of before is told so, by a version above every one of before (7, see above).
    assert_eq!(announce_of(&db, end + 1, "acme", 0, None), (8, Some(end)));
    assert_eq!(erase_of(&db, end + 2, "acme").unwrap().changed_at, UnixMs(end));
    create_of(&db, end + 3, "acme", None).unwrap();
    assert_eq!(announce_of(&db, end + 4, "acme", 0, None), (9, None));
    let view = show_of(&db, "acme").unwrap();
    assert_eq!(view.state, TenantState::Active);
    let whats: Vec<String> = view.acts.into_iter().map(|act| act.what).collect();
    assert_eq!(whats, ["created", "erased"]);
    // It can be erased once more.
    erase_of(&db, end + 5, "acme").unwrap();
    run_to_the_end(&db, end + 6);
    assert_eq!(show_of(&db, "acme").unwrap().state, TenantState::Erased);
}

#[test]
fn every_place_is_gone_through_and_only_a_pass_that_finds_nothing_ends_it() {
    let db = directory();
    announce_of(&db, 1, "acme", 0, None);
    erase_of(&db, 10, "acme").unwrap();
    let mut seen = Vec::new();
    let first = erasure::due(&db, UnixMs(10)).unwrap().unwrap();
    assert_eq!(first.step(), Step::Suspend);
    step_to_the_pause(&db, 10, first, |_| panic!("not before isolates have heard it"));
    let now = 10 + SETTLE_MS;
    assert_eq!(erasure::due(&db, UnixMs(now - 1)).unwrap(), None);
    let pass = erasure::due(&db, UnixMs(now)).unwrap().unwrap();
    step_to_the_pause(&db, now, pass, |step| {
        seen.push(step.clone());
        match step {
            Step::Object(ObjectName::Jobs(_, ShardIndex(1))) => Removed {
                objects: 1,
                rows: 5,
                busy: true,
                ..Removed::default()
            },
            // Two pages.
            Step::Stored(2) => Removed {
                stored_objects: 10,
                stored_bytes: 100,
                more: seen.len() == 10,
                ..Removed::default()
            },
            _ => Removed::default(),
        }
    });
    let object = |name: &str| Step::Object(ObjectName::parse(name).unwrap());
    let expected = [
        Step::Channels,
        object("t:acme:gate"),
        object("t:acme:hub:0"),
        object("t:acme:hub:1"),
        object("t:acme:jobs:0"),
        object("t:acme:jobs:1"),
        object("t:acme:jobs:2"),
        Step::Stored(0),
        Step::Stored(1),
        Step::Stored(2),
        Step::Stored(2),
        Step::Stored(3),
        Step::Stored(4),
        Step::Stored(5),
        Step::Keys,
    ];
    assert_eq!(seen, expected);
    assert_eq!(STORED_KINDS, 6);
    // Work was under way, so that the proof waits until it has heard.
    assert_eq!(erasure::next_wake(&db).unwrap(), Some(UnixMs(now + BUSY_PAUSE_MS)));
    assert_eq!(show_of(&db, "acme").unwrap().state, TenantState::Erasing);
    let now = now + BUSY_PAUSE_MS;
    let proof = erasure::due(&db, UnixMs(now)).unwrap().unwrap();
    step_to_the_pause(&db, now, proof, |_| Removed::default());
    let view = show_of(&db, "acme").unwrap().erasure.unwrap();
    assert_eq!(
        view,
        ErasureView {
            asked_at: UnixMs(10),
            objects: 1,
            rows: 5,
            keys: 0,
            stored_objects: 20,
            stored_bytes: 200,
            passes: 2,
            verified_at: Some(UnixMs(now)),
            backups_kept: false,
        }
    );
    assert_eq!(erasure::next_wake(&db).unwrap(), None);
}

#[test]
fn a_step_that_fails_is_taken_again_and_holds_up_no_other_tenant() {
    let db = directory();
    for name in ["a", "b"] {
        announce_of(&db, 1, name, 0, None);
        erase_of(&db, 2, name).unwrap();
    }
    let first = erasure::due(&db, UnixMs(2)).unwrap().unwrap();
    let failing = first.tenant.clone();
    erasure::took(&db, UnixMs(2), first, Outcome::Failed).unwrap();
    let other = erasure::due(&db, UnixMs(2)).unwrap().unwrap();
    assert_ne!(other.tenant, failing);
    suspend(&db, 2, other, (0, 0), 0);
    assert_eq!(
        erasure::next_wake(&db).unwrap(),
        Some(UnixMs(2 + SETTLE_MS.min(RETRY_MS)))
    );
    run_to_the_end(&db, 3);
    for name in ["a", "b"] {
        assert_eq!(show_of(&db, name).unwrap().state, TenantState::Erased);
    }
}

/// A gate of a new tenant.
fn gate() -> Native {
    let db = Native::in_memory().unwrap();
    migrate(&db, tenancy::STEPS).unwrap();
    db
}

fn at_gate(db: &Native, now: u64, call: tenant::Call) -> tenant::Reply {
    tenancy::handle(db, UnixMs(now), call).unwrap().0.unwrap()
}

fn hold(db: &Native, now: u64, change: Change) {
    let caller = operator();
    at_gate(db, now, tenant::Call::Access { change, caller });
}

#[test]
fn a_gate_tells_whatever_differs_from_what_it_told() {
    let db = gate();
    // A gate of before there was a directory has told nothing.
    assert_eq!(untold(&db).unwrap(), Some((0, None)));
    tenancy::begin(&db, 0).unwrap();
    assert_eq!(untold(&db).unwrap(), None);
    hold(&db, 5, Change::Suspend);
    let (version, suspended_at) = untold(&db).unwrap().unwrap();
    assert_eq!((version, suspended_at), (1, Some(UnixMs(5))));
    // It is resumed before the directory has answered: what it heard is old by then.
    hold(&db, 6, Change::Resume);
    told(&db, suspended_at).unwrap();
    assert_eq!(untold(&db).unwrap(), Some((2, None)));
    told(&db, None).unwrap();
    assert_eq!(untold(&db).unwrap(), None);
}

#[test]
fn a_gate_of_a_tenant_that_was_erased_begins_with_a_higher_version() {
    let db = gate();
    tenancy::begin(&db, 9).unwrap();
    let tenant::Reply::Description(first) = at_gate(&db, 1, tenant::Call::Describe) else {
        panic!("no description")
    };
    assert!(first.version > 9 && first.scale.hubs > 0 && first.access.suspended_at.is_none());
    // Said once more, it changes nothing.
    tenancy::begin(&db, 20).unwrap();
    let tenant::Reply::Same = at_gate(&db, 2, tenant::Call::Since { version: first.version }) else {
        panic!("changed")
    };
    let of_erased = |call: tenant::Call| tenancy::of_erased(&call, UnixMs(7), 12);
    let Ok(tenant::Reply::Description(erased)) = of_erased(tenant::Call::Describe) else {
        panic!("who only asks is told")
    };
    assert_eq!((erased.version, erased.access.suspended_at), (12, Some(UnixMs(7))));
    // Whoever asks for hubs gets a number that can be divided by.
    assert!(erased.scale.hubs > 0 && erased.scale.shards > 0);
    // Anything else is refused, and why it is may be told to operators alone.
    let code = |call| of_erased(call).unwrap_err().code;
    assert_eq!(code(tenant::Call::Keys), ErrorCode::TenantSuspended);
    let (change, caller) = (Change::Resume, operator());
    assert_eq!(code(tenant::Call::Access { change, caller }), ErrorCode::Conflict);
}

/// What a tenant is made of, in the order of the passes.
#[derive(Debug, Clone, Default)]
struct World {
    held: SortedMap<String, u64>,
}

proptest! {
    #[test]
    fn pages_give_every_tenant_once_whatever_their_size(
        names in proptest::collection::btree_set("[a-z]{1,6}", 0..30),
        limit in 1_u32..8,
    ) {
        let db = directory();
        for name in &names {
            announce_of(&db, 1, name, 1, name.starts_with('a').then_some(1));
        }
        for (state, expected) in [
            (None, names.iter().cloned().collect::<Vec<_>>()),
            (Some("suspended"), names.iter().filter(|name| name.starts_with('a')).cloned().collect()),
        ] {
            let (mut listed, mut after) = (Vec::new(), None::<String>);
            loop {
                let page = page(&db, state, after.as_deref(), limit);
                prop_assert!(page.tenants.len() <= limit as usize);
                listed.extend(page.tenants.into_iter().map(|one| one.tenant.to_string()));
                match page.cursor {
                    Some(cursor) => after = Some(cursor),
                    None => break,
                }
            }
            prop_assert_eq!(listed, expected);
        }
    }

    #[test]
    fn whatever_is_written_late_and_wherever_it_crashes_nothing_is_left_when_it_is_verified(
        first in proptest::collection::vec(0_u64..4, 14),
        late in proptest::collection::vec((0_usize..14, 0_usize..14, any::<bool>()), 0..6),
        crashes in proptest::collection::vec(0_usize..60, 0..6),
    ) {
        // Places by number: gate, two hubs, three shards, five kinds of stored things, keys, channels; the last is no place.
        // Nothing late makes a channel: a gate that is suspended notes none.
        let db = directory();
        announce_of(&db, 1, "acme", 0, None);
        erase_of(&db, 2, "acme").unwrap();
        let mut world = World::default();
        for (place, count) in first.iter().enumerate().take(13) {
            world.held.insert(place.to_string(), *count);
        }
        let (mut now, mut steps, mut removals, mut late) = (2, 0, 0_u64, late);
        while let Some(at) = erasure::next_wake(&db).unwrap() {
            now = now.max(at.0);
            let Some(mut erasure) = erasure::due(&db, UnixMs(now)).unwrap() else { break };
            while erasure.is_due(UnixMs(now)) {
                steps += 1;
                prop_assert!(steps < 1000, "it does not end");
                let step = erasure.step();
                let place = match &step {
                    Step::Suspend => {
                        erasure = suspend(&db, now, erasure, (2, 3), 1);
                        continue;
                    }
                    Step::Object(ObjectName::Tenant(_)) => 0,
                    Step::Object(ObjectName::Hub(_, hub)) => 1 + usize::from(hub.0),
                    Step::Object(ObjectName::Jobs(_, shard)) => 3 + usize::from(shard.0),
                    Step::Stored(kind) => 6 + usize::from(*kind),
                    Step::Keys => 11,
                    Step::Channels | Step::Object(ObjectName::Channel(..)) => 12,
                };
                let held = world.held.insert(place.to_string(), 0).unwrap_or(0);
                removals += u64::from(held > 0);
                // Something is still written before that place is verified, while work is under way.
                let busy = late.iter().any(|(_, at, _)| *at == place) && held > 0;
                if let Some(found) = late.iter().position(|(_, at, _)| *at == place) {
                    let (to, _, _) = late.remove(found);
                    if busy && to < 12 {
                        *world.held.entry(to.to_string()).or_default() += 1;
                    }
                }
                if crashes.contains(&steps) {
                    // The step was taken, and its row was not written.
                    break;
                }
                let removed = Removed { rows: held, objects: u64::from(held > 0), busy, ..Removed::default() };
                erasure = erasure::took(&db, UnixMs(now), erasure, Outcome::Removed(removed)).unwrap();
            }
        }
        prop_assert_eq!(show_of(&db, "acme").unwrap().state, TenantState::Erased);
        prop_assert!(world.held.values().all(|held| *held == 0), "{:?}", world.held);
        let report = show_of(&db, "acme").unwrap().erasure.unwrap();
        prop_assert!(report.objects <= removals && report.verified_at.is_some());
    }
}

#[test]
fn a_pass_follows_soon_where_nothing_was_under_way() {
    let db = directory();
    announce_of(&db, 1, "acme", 0, None);
    erase_of(&db, 2, "acme").unwrap();
    let first = erasure::due(&db, UnixMs(2)).unwrap().unwrap();
    step_to_the_pause(&db, 2, first, |_| Removed::default());
    let now = 2 + SETTLE_MS;
    let pass = erasure::due(&db, UnixMs(now)).unwrap().unwrap();
    step_to_the_pause(&db, now, pass, |_| Removed {
        rows: 1,
        objects: 1,
        ..Removed::default()
    });
    assert_eq!(erasure::next_wake(&db).unwrap(), Some(UnixMs(now + PAUSE_MS)));
    // A store that lists what is deleted is waited for longer each time, and its keys are counted once.
    let mut now = now + PAUSE_MS;
    for pause in [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
        let pass = erasure::due(&db, UnixMs(now)).unwrap().unwrap();
        step_to_the_pause(&db, now, pass, |step| Removed {
            keys: if *step == Step::Keys { 3 } else { 0 },
            ..Removed::default()
        });
        assert_eq!(erasure::next_wake(&db).unwrap(), Some(UnixMs(now + pause)));
        now += pause;
    }
    run_to_the_end(&db, now);
    assert_eq!(show_of(&db, "acme").unwrap().erasure.unwrap().keys, 3);
}
