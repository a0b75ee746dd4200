//! What the audit trail guarantees, one test for each guarantee, on native SQLite.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use tidegate_protocol::calls::audit::{Act, Via};
use tidegate_protocol::http::{AuditCounts, AuditOutcome};
use tidegate_protocol::ids::{RequestId, UserId};

use super::*;
use crate::database::migrate;
use crate::database::native::Native;

const NOW: UnixMs = UnixMs(1_800_000_000_000);

fn trail() -> Native {
    let db = Native::in_memory().unwrap();
    migrate(&db, &[TRAIL]).unwrap();
    db
}

fn caller(user: &str, request: &str) -> Caller {
    Caller {
        user: UserId::parse(user).unwrap(),
        reads_all: true,
        writes_all: true,
        act: Some(alloc::boxed::Box::new(Act {
            request_id: RequestId::parse(request).unwrap(),
            via: Via::Token,
            traceparent: None,
        })),
    }
}

fn entry(number: u64, at: UnixMs, by: &Caller, what: AuditWhat) -> Recorded {
    let mut entry = AuditEntry::new(by, at, 0, number, what, AuditTarget::default());
    if what.has_parts() {
        entry = entry.counting(AuditCounts { done: 3, refused: 1 });
    }
    Recorded {
        number,
        entry: written(&entry).unwrap(),
    }
}

fn all() -> AuditQuery {
    AuditQuery {
        limit: PAGE_MAX,
        ..AuditQuery::default()
    }
}

fn shown(db: &Native, now: UnixMs, query: &AuditQuery) -> Vec<AuditEntry> {
    let page = list(db, now, query).unwrap();
    let entries = page.entries.iter();
    entries
        .map(|text| serde_json::from_str(text.as_str()).unwrap())
        .collect()
}

#[test]
fn an_entry_told_twice_late_or_beside_others_is_taken_down_once() {
    let db = trail();
    let ann = caller("ann", "req_1");
    let told: Vec<_> = (1..=4)
        .map(|number| entry(number, NOW.plus(number), &ann, AuditWhat::JobRetried))
        .collect();
    let shard = ShardIndex(0);
    // The second call comes first, and holds what the first one does.
    record(&db, NOW, shard, &told[..3]).unwrap();
    record(&db, NOW, shard, &told[..2]).unwrap();
    record(&db, NOW, shard, &told[2..]).unwrap();
    record(&db, NOW, shard, &told).unwrap();
    let at: Vec<_> = shown(&db, NOW, &all())
        .iter()
        .map(|entry| entry.at.since(NOW))
        .collect();
    assert_eq!(at, [4, 3, 2, 1], "each once, newest first");
    // Another object has numbers of its own.
    record(&db, NOW, ShardIndex(1), &told[..1]).unwrap();
    assert_eq!(shown(&db, NOW, &all()).len(), 5);
}

#[test]
fn the_parts_of_one_act_are_one_entry_and_those_of_another_are_not() {
    let db = trail();
    let (one, other) = (caller("ann", "req_1"), caller("ann", "req_2"));
    for shard in 0..3 {
        let part = entry(1, NOW, &one, AuditWhat::DeadLettersRedriven);
        record(&db, NOW, ShardIndex(shard), &[part]).unwrap();
    }
    let part = entry(2, NOW, &other, AuditWhat::DeadLettersRedriven);
    record(&db, NOW, ShardIndex(0), &[part]).unwrap();
    // What has no parts is an entry of its own, whatever request it names: a socket's frames name theirs themselves.
    for number in [3, 4] {
        let cancel = entry(number, NOW, &one, AuditWhat::JobCancelled);
        record(&db, NOW, ShardIndex(0), &[cancel]).unwrap();
    }
    let counts: Vec<_> = shown(&db, NOW, &all()).iter().map(|entry| entry.counts).collect();
    let sum = |done, refused| Some(AuditCounts { done, refused });
    assert_eq!(counts, [None, None, sum(3, 1), sum(9, 3)]);
    assert_eq!(shown(&db, NOW, &all())[3].outcome, AuditOutcome::Partly);
}

#[test]
fn a_page_is_narrowed_by_each_filter_and_followed_by_the_next() {
    let db = trail();
    let kinds = [AuditWhat::JobRetried, AuditWhat::JobCancelled];
    for number in 1..=10_u64 {
        let by = caller(if number % 2 == 0 { "ann" } else { "bob" }, "req_1");
        let what = kinds[usize::from(number > 5)];
        let one = entry(number, NOW.plus(number), &by, what);
        record(&db, NOW.plus(number), ShardIndex(0), &[one]).unwrap();
    }
    let count = |query: AuditQuery| shown(&db, NOW.plus(20), &query).len();
    let user = UserId::parse("ann");
    assert_eq!(count(AuditQuery { user, ..all() }), 5);
    let what = Some("job.cancelled".into());
    assert_eq!(count(AuditQuery { what, ..all() }), 5);
    let (from, to) = (Some(NOW.plus(3)), Some(NOW.plus(6)));
    assert_eq!(count(AuditQuery { from, to, ..all() }), 3);

    let mut seen = Vec::new();
    let mut query = AuditQuery { limit: 4, ..all() };
    loop {
        let page = list(&db, NOW.plus(20), &query).unwrap();
        seen.push(page.entries.len());
        let Some(cursor) = page.cursor else { break };
        query.below = cursor.parse().ok();
    }
    assert_eq!(seen, [4, 4, 2]);
}

#[test]
fn what_is_too_old_or_too_much_goes_a_bounded_number_at_a_time() {
    let db = trail();
    let ann = caller("ann", "req_1");
    let old: Vec<_> = (1..=250)
        .map(|number| entry(number, NOW, &ann, AuditWhat::JobRetried))
        .collect();
    record(&db, NOW, ShardIndex(0), &old).unwrap();
    let later = NOW.plus(KEPT_MS + 1);
    assert_eq!(shown(&db, later, &all()).len(), 0, "no longer shown");
    let rows = || {
        let rows = db.run("SELECT count(*) FROM audit", &[]).unwrap();
        rows.into_iter().next().unwrap().number().unwrap()
    };
    assert_eq!(rows(), 250);
    for left in [150, 50, 0] {
        sweep(&db, later).unwrap();
        assert_eq!(rows(), left);
    }
    // As many as are kept, and some more.
    db.run(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20050)
        INSERT INTO audit (at, what, user, entry) SELECT CAST(? AS INTEGER), '', '', '{}' FROM n",
        &[Value::Number(later.0)],
    )
    .unwrap();
    sweep(&db, later).unwrap();
    assert_eq!(rows(), ENTRIES_MAX);
    sweep(&db, later).unwrap();
    assert_eq!(rows(), ENTRIES_MAX, "and no more than that");
}

#[test]
fn what_newer_code_tells_is_kept_and_holds_nothing_up() {
    let db = trail();
    let ann = caller("ann", "req_1");
    let unknown = Recorded {
        number: 1,
        entry: JsonText::parse(r#"{"what":"key.made"}"#).unwrap(),
    };
    let known = entry(2, NOW, &ann, AuditWhat::JobRetried);
    record(&db, NOW, ShardIndex(0), &[unknown, known]).unwrap();
    let page = list(&db, NOW, &all()).unwrap();
    assert_eq!(page.entries.len(), 2);
    assert_eq!(page.entries[1].as_str(), r#"{"what":"key.made"}"#);
}

#[test]
fn a_new_composition_an_earlier_one_and_the_same_one_are_told_apart() {
    use tidegate_protocol::calls::tenant::{Call, Scale};
    use tidegate_protocol::ids::Revision;

    let db = Native::in_memory().unwrap();
    migrate(&db, crate::tenancy::STEPS).unwrap();
    for (number, revision) in ["rev_1", "rev_2", "rev_2", "rev_1"].into_iter().enumerate() {
        let call = Call::Activate {
            document: "{}".into(),
            revision: Revision::parse(revision).unwrap(),
            scale: Scale::default(),
            schedules: Vec::new(),
            by: "ann".into(),
            act: caller("ann", &format!("req_{number}")).act,
        };
        crate::tenancy::handle(&db, NOW, call).unwrap().0.unwrap();
    }
    let entries = shown(&db, NOW, &all());
    let acts: Vec<_> = entries.iter().map(|entry| entry.what).collect();
    let (new, back) = (AuditWhat::CompositionActivated, AuditWhat::CompositionRolledBack);
    assert_eq!(acts, vec![back, new, new]);
    let target = &entries[0].target;
    assert_eq!(target.revision, Revision::parse("rev_1"));
    assert_eq!(target.replaced, Revision::parse("rev_2"));
    assert_eq!(entries[0].request_id, RequestId::parse("req_3"));
    assert_eq!(
        (entries[0].who.user.as_str(), entries[0].who.via),
        ("ann", Some(Via::Token))
    );
}
