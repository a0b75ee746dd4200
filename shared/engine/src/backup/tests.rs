use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::tables::First;
use super::*;
use crate::database::native::Native;
use crate::database::{Row, migrate};
use crate::{hub, jobs, tenancy};

/// Tables of every kind of key, and every kind of value.
const SCHEMA: &[&[&str]] = &[
    &[
        "CREATE TABLE numbered (id INTEGER PRIMARY KEY, text TEXT, bytes BLOB, number INTEGER, real REAL) STRICT",
        "CREATE TABLE named (a TEXT, b INTEGER, c BLOB, PRIMARY KEY (b, a)) STRICT, WITHOUT ROWID",
        "CREATE TABLE loose (text TEXT, number INTEGER) STRICT",
        "CREATE TABLE empty (id INTEGER PRIMARY KEY) STRICT",
        "CREATE INDEX loose_text ON loose(text) WHERE text IS NOT NULL",
        "CREATE TABLE seeded (id INTEGER PRIMARY KEY, n INTEGER NOT NULL) STRICT",
        "INSERT INTO seeded (id, n) VALUES (1, 1)",
    ],
    &["ALTER TABLE named ADD COLUMN d INTEGER NOT NULL DEFAULT 7"],
    &["CREATE INDEX numbered_number ON numbered(number)"],
];

fn held(db: &Native) -> Vec<(String, Vec<Row>)> {
    let tables = db
        .run("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name", &[])
        .unwrap();
    tables
        .into_iter()
        .map(|mut row| row.text().unwrap())
        .filter(|name| !name.starts_with(OWN))
        .map(|name| {
            // `quote` is exact for every kind of value, whatever is read of a number.
            let columns = db.run_made(&format!("PRAGMA table_info({name})"), &[]).unwrap();
            let columns = columns.into_iter().map(|mut row| {
                row.skip().unwrap();
                format!("quote({})", row.text().unwrap())
            });
            let columns = columns.collect::<Vec<_>>().join(", ");
            let rows = db.run_made(&format!("SELECT {columns} FROM {name} ORDER BY 1, 2"), &[]);
            let rows = rows.or_else(|_| db.run_made(&format!("SELECT {columns} FROM {name} ORDER BY 1"), &[]));
            (name, rows.unwrap())
        })
        .collect()
}

/// Every part that is put by, fetched as an object fetches them.
fn parts(db: &Native) -> Vec<Staged> {
    let mut parts: Vec<Staged> = Vec::new();
    loop {
        let more = staged(db, parts.last().map_or(0, |part| part.number)).unwrap();
        if more.is_empty() {
            return parts;
        }
        parts.extend(more);
    }
}

fn restored_from(parts: &[Staged], schema: &[&[&'static str]], steps: u64) -> Native {
    let db = Native::in_memory().unwrap();
    for (place, part) in parts.iter().enumerate() {
        let first = if place == 0 { First::Yes } else { First::No };
        // A crash behind a part has it written once more.
        for first in [first, First::No] {
            restore(&db, schema, steps, first, &part.bytes).unwrap();
        }
        assert!(is_restoring(&db).unwrap());
    }
    assert!(restored(&db, schema).unwrap());
    assert!(!restored(&db, schema).unwrap(), "it is said once");
    db
}

fn real() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>().prop_filter("NaN is NULL", |f| !f.is_nan()),
        Just(0.1),
        Just(f64::MAX)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn whatever_tables_hold_comes_back_to_the_bit(
        numbered in prop::collection::vec(
            (any::<i64>(), any::<Option<String>>(), any::<Option<Vec<u8>>>(), any::<Option<i64>>(), prop::option::of(real())),
            0..450,
        ),
        named in prop::collection::vec((any::<String>(), any::<i64>(), any::<Option<Vec<u8>>>()), 0..450),
        loose in prop::collection::vec((any::<Option<String>>(), any::<Option<i64>>()), 0..450),
        large in 0_usize..3,
    ) {
        let db = Native::in_memory().unwrap();
        migrate(&db, &SCHEMA[..2]).unwrap();
        let integer = |number: &Option<i64>| number.map(|number| format!("{number}"));
        let text = |text: &'_ Option<String>| text.clone();
        for (id, t, bytes, number, real) in &numbered {
            let (id, number, t) = (format!("{id}"), integer(number), text(t));
            db.run(
                "INSERT OR REPLACE INTO numbered VALUES (CAST(? AS INTEGER), ?, ?, CAST(? AS INTEGER), ?)",
                &[
                    Value::Text(&id),
                    t.as_deref().map_or(Value::Null, Value::Text),
                    bytes.as_deref().map_or(Value::Null, Value::Blob),
                    number.as_deref().map_or(Value::Null, Value::Text),
                    real.map_or(Value::Null, Value::Real),
                ],
            ).unwrap();
        }
        for (a, b, c) in &named {
            let b = format!("{b}");
            db.run(
                "INSERT OR REPLACE INTO named (a, b, c) VALUES (?, CAST(? AS INTEGER), ?)",
                &[Value::Text(a), Value::Text(&b), c.as_deref().map_or(Value::Null, Value::Blob)],
            ).unwrap();
        }
        for (t, number) in &loose {
            let number = integer(number);
            db.run(
                "INSERT INTO loose VALUES (?, CAST(? AS INTEGER))",
                &[
                    t.as_deref().map_or(Value::Null, Value::Text),
                    number.as_deref().map_or(Value::Null, Value::Text),
                ],
            ).unwrap();
        }
        for _ in 0..large {
            db.run("INSERT INTO loose VALUES (NULL, 1)", &[]).unwrap();
            db.run("INSERT INTO numbered (bytes) VALUES (zeroblob(900000))", &[]).unwrap();
        }
        db.run("DELETE FROM seeded", &[]).unwrap();
        let (steps, rows) = snapshot(&db).unwrap().unwrap();
        prop_assert_eq!(steps, 2);
        let parts = parts(&db);
        prop_assert_eq!(parts.iter().map(|part| part.rows).sum::<u64>(), rows);
        prop_assert!(parts.iter().all(|part| part.bytes.len() < 2_000_000));
        prop_assert!(large < 2 || parts.len() >= 2);
        let same = restored_from(&parts, &SCHEMA[..2], steps);
        prop_assert_eq!(held(&same), held(&db));
        // A later deployment takes the steps that it has more.
        let later = restored_from(&parts, SCHEMA, steps);
        migrate(&db, SCHEMA).unwrap();
        prop_assert_eq!(held(&later), held(&db));
    }
}

#[test]
fn a_backup_of_a_later_schema_is_refused_before_anything_is_written() {
    let db = Native::in_memory().unwrap();
    migrate(&db, SCHEMA).unwrap();
    let (steps, _) = snapshot(&db).unwrap().unwrap();
    let part = parts(&db).remove(0);
    let earlier = Native::in_memory().unwrap();
    let refused = restore(&earlier, &SCHEMA[..2], steps, First::Yes, &part.bytes).unwrap_err();
    assert_eq!(refused.message, "the backup is of a later schema");
    assert!(!is_restoring(&earlier).unwrap());
}

#[test]
fn a_table_or_column_that_is_not_known_is_named() {
    let db = Native::in_memory().unwrap();
    migrate(&db, &[&["CREATE TABLE new_one (id INTEGER PRIMARY KEY) STRICT"]]).unwrap();
    snapshot(&db).unwrap();
    let part = parts(&db).remove(0);
    let other = Native::in_memory().unwrap();
    let refused = restore(&other, &SCHEMA[..1], 1, First::Yes, &part.bytes).unwrap_err();
    assert_eq!(refused.message, "the backup has a table new_one that is not known here");
}

#[test]
fn what_is_cut_short_or_changed_is_refused_or_gives_other_items_and_never_panics() {
    let db = Native::in_memory().unwrap();
    migrate(&db, SCHEMA).unwrap();
    snapshot(&db).unwrap();
    let part = parts(&db).remove(0).bytes;
    for end in 0..part.len() {
        let _ = items(&part[..end]).take_while(Result::is_ok).count();
        let mut changed = part.clone();
        changed[end] ^= 0x55;
        let _ = items(&changed).take_while(Result::is_ok).count();
    }
}

#[test]
fn deletions_wait_for_the_end_of_a_backup_and_are_no_part_of_the_next() {
    let db = Native::in_memory().unwrap();
    assert_eq!(snapshot(&db).unwrap(), None, "nothing is there");
    migrate(&db, SCHEMA).unwrap();
    assert!(!is_under_way(&db).unwrap());
    assert_eq!(released(&db).unwrap(), Vec::<String>::new());
    let first = snapshot(&db).unwrap();
    assert!(is_under_way(&db).unwrap());
    keep(&db, &["a".into(), "b".into(), "a".into()]).unwrap();
    uploaded(&db, 1).unwrap();
    assert!(is_under_way(&db).unwrap(), "until it is released");
    assert_eq!(released(&db).unwrap(), ["a", "b"]);
    assert!(!is_under_way(&db).unwrap());
    assert_eq!(snapshot(&db).unwrap(), first);
}

#[test]
fn every_table_of_every_object_can_be_dumped() {
    for schema in [tenancy::STEPS, jobs::STEPS, hub::tickets::STEPS] {
        let db = Native::in_memory().unwrap();
        migrate(&db, schema).unwrap();
        let (steps, _) = snapshot(&db).unwrap().unwrap();
        assert_eq!(usize::try_from(steps).unwrap(), schema.len());
        let same = restored_from(&parts(&db), schema, steps);
        assert_eq!(held(&same), held(&db));
    }
}
