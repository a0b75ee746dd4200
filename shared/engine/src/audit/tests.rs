//! What the audit trail guarantees, one test for each guarantee, on native SQLite.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use tidegate_protocol::calls::audit::{Act, Via};
use tidegate_protocol::calls::tenant::AuditQuery;
use tidegate_protocol::chain::{Broken, Fault, Walk};
use tidegate_protocol::http::{AuditCounts, AuditOutcome};
use tidegate_protocol::ids::{RequestId, UserId};

use super::archive::{SEGMENT_MAX, archived, checkpoint, due};
use super::*;
use crate::database::migrate;
use crate::database::native::Native;

const NOW: UnixMs = UnixMs(1_800_000_000_000);

fn trail() -> Native {
    let db = Native::in_memory().unwrap();
    migrate(&db, &[TRAIL, CHAIN]).unwrap();
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

fn acts(db: &Native, now: UnixMs, query: &AuditQuery) -> Vec<AuditEntry> {
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
    let at: Vec<_> = acts(&db, NOW, &all()).iter().map(|entry| entry.at.since(NOW)).collect();
    assert_eq!(at, [4, 3, 2, 1], "each once, newest first");
    // Another object has numbers of its own.
    record(&db, NOW, ShardIndex(1), &told[..1]).unwrap();
    assert_eq!(acts(&db, NOW, &all()).len(), 5);
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
    let counts: Vec<_> = acts(&db, NOW, &all()).iter().map(|entry| entry.counts).collect();
    let sum = |done, refused| Some(AuditCounts { done, refused });
    assert_eq!(counts, [None, None, sum(3, 1), sum(9, 3)]);
    assert_eq!(acts(&db, NOW, &all())[3].outcome, AuditOutcome::Partly);
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
    let count = |query: AuditQuery| acts(&db, NOW.plus(20), &query).len();
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

/// The trail as it was written, behind an entry.
fn written_after(db: &Native, after: u64) -> Vec<alloc::string::String> {
    let mut query = AuditQuery {
        after: Some(after),
        ..all()
    };
    let mut entries = Vec::new();
    loop {
        let page = list(db, NOW, &query).unwrap();
        entries.extend(page.entries.iter().map(|entry| entry.as_str().into()));
        let Some(cursor) = page.cursor else { return entries };
        query.after = cursor.parse().ok();
    }
}

/// Walks what is kept of the trail.
fn walk(db: &Native, noted: &[Head]) -> Result<Head, Broken> {
    let start = checkpoint(db).unwrap().unwrap_or(Head::unchained(0));
    let mut walk = Walk::new(start, noted.to_vec())?;
    for entry in written_after(db, start.seq) {
        walk.take(&entry)?;
    }
    walk.finish()?;
    assert_eq!(walk.head(), head(db).unwrap());
    Ok(walk.head())
}

/// So many acts of ann's, in turns of at most 50, from the next number on.
fn act(db: &Native, at: UnixMs, count: u64) {
    let ann = caller("ann", "req_1");
    let first = heard(db, ShardIndex(0)).unwrap() + 1;
    let told: Vec<_> = (first..first + count)
        .map(|number| entry(number, at, &ann, AuditWhat::JobRetried))
        .collect();
    for part in told.chunks(50) {
        record(db, at, ShardIndex(0), part).unwrap();
    }
}

fn count(db: &Native) -> u64 {
    let rows = db.run("SELECT count(*) FROM audit", &[]).unwrap();
    rows.into_iter().next().unwrap().number().unwrap()
}

#[test]
fn every_entry_is_chained_to_the_one_before_the_parts_of_an_act_as_well() {
    let db = trail();
    assert_eq!(walk(&db, &[]), Ok(Head::unchained(0)));
    act(&db, NOW, 3);
    let noted = head(&db).unwrap();
    for shard in 1..=3 {
        let part = entry(1, NOW, &caller("ann", "req_2"), AuditWhat::JobsCancelled);
        let told = [part];
        record(&db, NOW, ShardIndex(shard), &told).unwrap();
        record(&db, NOW, ShardIndex(shard), &told).unwrap();
    }
    note(
        &db,
        NOW,
        &caller("op", "req_3"),
        AuditWhat::QueuePaused,
        AuditTarget::default(),
    )
    .unwrap();
    let end = walk(&db, &[noted]).unwrap();
    assert_eq!(end.seq, 7, "told twice, taken down once");
    // The sum is no entry of the chain, and says so.
    let page = list(&db, NOW, &all()).unwrap();
    assert_eq!(page.entries.len(), 5);
    let sum: Json = serde_json::from_str(page.entries[1].as_str()).unwrap();
    assert_eq!((&sum["seq"], &sum["hash"]), (&4.into(), &Json::Null));
    assert_eq!(sum["parts"], serde_json::json!([5, 6]));
    assert_eq!(sum["counts"], serde_json::json!({ "done": 9, "refused": 3 }));
    let parts = written_after(&db, 4);
    assert!(parts[0].contains("\"part_of\":4"), "{}", parts[0]);
    assert_eq!(page.head, Some(format!("{end}")));
}

#[test]
fn parts_of_an_act_add_up_and_name_a_bounded_number_of_jobs() {
    use tidegate_protocol::http::AUDIT_JOBS_MAX;
    use tidegate_protocol::ids::JobId;

    let db = trail();
    let job = JobId::parse("job_0000000000a000001").unwrap();
    // The first names none; each of the others more than there is room for in the end.
    for (shard, jobs, refused) in [(0, 0, 0), (1, 7, 0), (2, 7, 2)] {
        let target = AuditTarget {
            jobs: vec![job; jobs],
            ..AuditTarget::default()
        };
        let entry = AuditEntry::new(&caller("ann", "req_1"), NOW, shard, 1, AuditWhat::JobsCancelled, target);
        let entry = written(&entry.counting(AuditCounts { done: 8, refused })).unwrap();
        record(&db, NOW, ShardIndex(shard), &[Recorded { number: 1, entry }]).unwrap();
    }
    let sum = acts(&db, NOW, &all()).remove(0);
    assert_eq!(sum.counts, Some(AuditCounts { done: 24, refused: 2 }));
    assert_eq!(
        (sum.outcome, sum.target.jobs.len()),
        (AuditOutcome::Partly, AUDIT_JOBS_MAX)
    );
    assert_eq!(sum.request_id, RequestId::parse("req_1"));
}

#[test]
fn a_row_that_is_changed_removed_or_renumbered_by_hand_is_found() {
    let tampered = |sql: &'static str| {
        let db = trail();
        act(&db, NOW, 6);
        let noted = head(&db).unwrap();
        assert_eq!(walk(&db, &[noted]), Ok(noted));
        db.run(sql, &[]).unwrap();
        let start = Head::unchained(0);
        let mut walk = Walk::new(start, vec![noted])?;
        written_after(&db, 0).iter().try_for_each(|entry| walk.take(entry))?;
        walk.finish()
    };
    let broken = |seq, fault| Err(Broken { seq, fault });
    for (sql, found) in [
        (
            "UPDATE audit SET entry = replace(entry, 'ann', 'bob') WHERE seq = 3",
            broken(3, Fault::Changed),
        ),
        (
            "UPDATE audit SET previous = hash WHERE seq = 3",
            broken(3, Fault::Changed),
        ),
        (
            "UPDATE audit SET hash = previous WHERE seq = 3",
            broken(3, Fault::Changed),
        ),
        (
            "UPDATE audit SET hash = NULL WHERE seq = 3",
            broken(3, Fault::Unchained),
        ),
        ("DELETE FROM audit WHERE seq = 3", broken(4, Fault::Missing(3))),
        ("DELETE FROM audit WHERE seq < 3", broken(3, Fault::Missing(1))),
        ("DELETE FROM audit WHERE seq > 4", broken(6, Fault::CutOff)),
        ("DELETE FROM audit", broken(6, Fault::CutOff)),
        (
            "UPDATE audit SET seq = CASE seq WHEN 3 THEN 40 WHEN 4 THEN 30 ELSE seq END",
            broken(5, Fault::Missing(3)),
        ),
        ("UPDATE audit SET seq = 7 WHERE seq = 6", broken(7, Fault::Changed)),
        // Columns that are only there to find entries by prove nothing, and change nothing.
        ("UPDATE audit SET what = 'x', user = 'y', at = 0", Ok(())),
    ] {
        assert_eq!(tampered(sql), found, "{sql}");
    }
}

#[test]
fn a_trail_of_before_the_chain_gets_one_from_its_next_entry_on() {
    let db = Native::in_memory().unwrap();
    migrate(&db, &[TRAIL]).unwrap();
    db.run(
        "WITH RECURSIVE n(i) AS (SELECT 41 UNION ALL SELECT i + 1 FROM n WHERE i < 45)
        INSERT INTO audit (seq, at, what, user, entry) SELECT i, 1, '', '', '{}' FROM n",
        &[],
    )
    .unwrap();
    migrate(&db, &[TRAIL, CHAIN]).unwrap();
    assert_eq!(walk(&db, &[]), Ok(Head::unchained(45)));
    act(&db, NOW, 2);
    let end = walk(&db, &[Head::unchained(45)]).unwrap();
    assert_eq!(end.seq, 47);
    let entries = written_after(&db, 44);
    assert_eq!(entries[0], "{\"seq\":45}");
    let first = format!("{{\"seq\":46,\"previous_hash\":\"{}\"", Head::unchained(45).hash);
    assert!(entries[1].starts_with(&first), "{}", entries[1]);
}

#[test]
fn the_oldest_are_deleted_once_their_segment_is_stored_and_the_rest_can_be_checked() {
    let db = trail();
    act(&db, NOW, ENTRIES_MIN + SEGMENT_MAX - 1);
    let later = NOW.plus(KEPT_MS + 1);
    assert_eq!(
        due(&db, NOW, 0).unwrap(),
        None,
        "not enough for a segment, and none too old"
    );
    assert_eq!(acts(&db, later, &all()).len(), 0, "no longer shown");
    assert_eq!(due(&db, later, ENTRIES_MAX).unwrap(), None, "for a day more");
    act(&db, NOW, 1);
    assert_eq!(
        due(&db, NOW, u64::MAX).unwrap(),
        None,
        "a deployment may keep fewer, not more or none"
    );
    let segment = due(&db, NOW, 0).unwrap().unwrap();
    assert_eq!((segment.first, segment.last.seq), (1, SEGMENT_MAX));
    assert_eq!(
        due(&db, NOW, 0).unwrap().as_ref(),
        Some(&segment),
        "nothing goes before it is stored"
    );
    assert_eq!(count(&db), ENTRIES_MIN + SEGMENT_MAX);
    let noted = [Head::unchained(0), segment.last, head(&db).unwrap()];
    for _ in 0..2 {
        archived(&db, segment.last).unwrap();
        assert_eq!(count(&db), ENTRIES_MIN);
        assert_eq!(checkpoint(&db).unwrap(), Some(segment.last));
    }
    assert_eq!(walk(&db, &noted[1..]), Ok(noted[2]));
    // From the archive into what is kept, as one walk.
    let mut whole = Walk::new(noted[0], noted.to_vec()).unwrap();
    let kept = written_after(&db, segment.last.seq);
    for entry in segment.text.lines().chain(kept.iter().map(|entry| &**entry)) {
        whole.take(entry).unwrap();
    }
    assert_eq!((whole.head(), whole.finish()), (noted[2], Ok(())));
}

#[test]
fn what_is_too_old_goes_a_segment_at_a_time_and_numbers_go_on_behind_an_empty_trail() {
    let db = trail();
    act(&db, NOW, SEGMENT_MAX + 50);
    act(&db, NOW.plus(5), 1);
    let later = NOW.plus(KEPT_MS + 2 * 86_400_000);
    let mut sizes = Vec::new();
    while let Some(segment) = due(&db, later, ENTRIES_MAX).unwrap() {
        sizes.push(segment.last.seq + 1 - segment.first);
        archived(&db, segment.last).unwrap();
    }
    assert_eq!((sizes, count(&db)), (vec![SEGMENT_MAX, 51], 0));
    let end = SEGMENT_MAX + 51;
    assert_eq!(head(&db).unwrap().seq, end);
    act(&db, later, 1);
    assert_eq!(walk(&db, &[]).unwrap().seq, end + 1);
}

#[test]
fn a_follower_gets_what_is_new_oldest_first_and_filters_hold() {
    let db = trail();
    act(&db, NOW, 3);
    note(
        &db,
        NOW,
        &caller("op", "req_3"),
        AuditWhat::QueuePaused,
        AuditTarget::default(),
    )
    .unwrap();
    let query = AuditQuery {
        after: Some(1),
        limit: 2,
        ..AuditQuery::default()
    };
    let page = list(&db, NOW, &query).unwrap();
    let seqs = |page: &tidegate_protocol::http::AuditPage| -> Vec<Json> {
        let entries = page.entries.iter();
        entries
            .map(|text| serde_json::from_str::<Json>(text.as_str()).unwrap()["seq"].clone())
            .collect()
    };
    assert_eq!(seqs(&page), [2, 3]);
    assert_eq!(page.cursor.as_deref(), Some("3"));
    let user = UserId::parse("op");
    let only = list(&db, NOW, &AuditQuery { user, ..query }).unwrap();
    assert_eq!((seqs(&only), only.cursor), (vec![Json::from(4)], None));
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
    assert!(page.entries[1].as_str().ends_with(r#","what":"key.made"}"#));
    assert_eq!(walk(&db, &[]).unwrap().seq, 2);
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
            secrets: Vec::new(),
        };
        crate::tenancy::handle(&db, NOW, call).unwrap().0.unwrap();
    }
    let entries = acts(&db, NOW, &all());
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
