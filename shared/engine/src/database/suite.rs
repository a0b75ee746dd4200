//! One suite of statements that runs on every database behind [`Database`]: natively in tests, and inside an object.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::{Cell, Database, DatabaseError, Row, Value};

struct Case {
    name: &'static str,
    sql: &'static str,
    values: Vec<Value<'static>>,
    expected: Vec<Cell>,
}

fn cases() -> Vec<Case> {
    let case = |name, sql, values, expected| Case {
        name,
        sql,
        values,
        expected,
    };
    vec![
        case(
            "a bound number is REAL, so it divides as one",
            "SELECT ? / 2",
            vec![Value::Number(5)],
            vec![Cell::Number(2.5)],
        ),
        case(
            "a CAST makes it whole",
            "SELECT CAST(? AS INTEGER) / 2",
            vec![Value::Number(5)],
            vec![Cell::Number(2.0)],
        ),
        case(
            "a STRICT integer column keeps a whole number whole",
            "INSERT INTO suite (id, text, bytes) VALUES (?, ?, ?) RETURNING typeof(id), id / 2, text, bytes",
            vec![
                Value::Number(9_007_199_254_740_991),
                Value::Text("ä€😀\u{0}x"),
                Value::Blob(&[0, 255, 7]),
            ],
            vec![
                Cell::Text("integer".into()),
                Cell::Number(4_503_599_627_370_495.0),
                Cell::Text("ä€😀\u{0}x".into()),
                Cell::Blob(vec![0, 255, 7]),
            ],
        ),
        case(
            "NULL is bound and read",
            "INSERT INTO suite (id, text) VALUES (?, ?) RETURNING text, bytes IS NULL",
            vec![Value::Number(2), Value::Null],
            vec![Cell::Null, Cell::Number(1.0)],
        ),
        case(
            "a partial index holds what its condition says",
            "SELECT count(*) FROM suite INDEXED BY suite_text WHERE text IS NOT NULL",
            vec![],
            vec![Cell::Number(1.0)],
        ),
        case(
            "empty bytes are bytes",
            "UPDATE suite SET bytes = ? WHERE id = ? RETURNING length(bytes), typeof(bytes)",
            vec![Value::Blob(&[]), Value::Number(2)],
            vec![Cell::Number(0.0), Cell::Text("blob".into())],
        ),
    ]
}

/// Runs the suite on `db`; gives the name of every case that did not hold. It leaves a table behind: roll it back.
///
/// Errors: where the database refuses what it must take.
pub fn run(db: &impl Database) -> Result<Vec<String>, DatabaseError> {
    db.run(
        "-- suite::run\nCREATE TABLE suite (id INTEGER PRIMARY KEY, text TEXT, bytes BLOB) STRICT",
        &[],
    )?;
    db.run(
        "-- suite::run\nCREATE INDEX suite_text ON suite(text) WHERE text IS NOT NULL",
        &[],
    )?;
    let mut broken = Vec::new();
    for case in cases() {
        let rows = db.run(case.sql, &case.values)?;
        if rows != vec![Row::new(case.expected.clone())] {
            broken.push(format!("{}: {rows:?}", case.name));
        }
    }
    if db
        .run(
            "-- suite::run\nINSERT INTO suite (id, text) VALUES (?, ?)",
            &[Value::Text("x"), Value::Null],
        )
        .is_ok()
    {
        broken.push("a STRICT table took text for a number".into());
    }
    if db.run("-- suite::run\nSELECT nothing FROM nowhere", &[]).is_ok() {
        broken.push("a broken statement was taken".into());
    }
    Ok(broken)
}

#[cfg(test)]
#[cfg(feature = "native")]
mod tests {
    use super::*;
    use crate::database::migrate;
    use crate::database::native::Native;

    #[test]
    fn the_native_database_behaves_as_an_objects_does() {
        let db = Native::in_memory().unwrap();
        assert_eq!(run(&db).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_failed_turn_leaves_nothing_behind() {
        let db = Native::in_memory().unwrap();
        migrate(&db, &[&["CREATE TABLE t (x INTEGER) STRICT"]]).unwrap();
        let failed: Result<(), _> = db.transaction(|db| {
            db.run("INSERT INTO t VALUES (1)", &[])?;
            Err(DatabaseError::new("no"))
        });
        assert!(failed.is_err());
        assert_eq!(
            db.run("SELECT count(*) FROM t", &[]).unwrap()[0].clone().number(),
            Ok(0)
        );
    }
}
