//! Tickets for a WebSocket: each is good once. A hub keeps the ones that were spent for as long as any is good.

use tidegate_protocol::time::UnixMs;

use crate::database::{Database, DatabaseError, Value};

/// The migrations of a hub's tables, oldest first. A step is only ever appended.
pub const STEPS: &[&[&str]] = &[&["-- hub::schema
    CREATE TABLE spent_ticket (id TEXT PRIMARY KEY, spent_at INTEGER NOT NULL) STRICT, WITHOUT ROWID"]];

/// How long a spent ticket is remembered: longer than any is good. Milliseconds.
pub const SPENT_MS: u64 = 60_000;

/// What became of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// This is the first to come with it, and passes.
    Now,
    /// Someone came with it before.
    Before,
}

/// Spends a ticket. One row, and one more for each that is forgotten.
///
/// Errors: the database's. The turn is rolled back, and the ticket is as good as before.
pub fn spend(db: &impl Database, now: UnixMs, ticket: &str) -> Result<Spent, DatabaseError> {
    db.run(
        "-- hub::spend
        DELETE FROM spent_ticket WHERE spent_at < CAST(? AS INTEGER)",
        &[Value::Number(now.0.saturating_sub(SPENT_MS))],
    )?;
    let spent = db.run(
        "-- hub::spend
        INSERT INTO spent_ticket (id, spent_at) VALUES (?, ?) ON CONFLICT (id) DO NOTHING RETURNING 1",
        &[Value::Text(ticket), Value::Number(now.0)],
    )?;
    Ok(if spent.is_empty() { Spent::Before } else { Spent::Now })
}

#[cfg(test)]
#[cfg(feature = "native")]
mod tests {
    use super::*;
    use crate::database::migrate;
    use crate::database::native::Native;

    #[test]
    fn a_ticket_is_good_once_for_as_long_as_any_is_good() {
        let db = Native::in_memory().unwrap();
        migrate(&db, STEPS).unwrap();
        let begin = UnixMs(1_800_000_000_000);
        assert_eq!(spend(&db, begin, "a"), Ok(Spent::Now));
        for later in [0, 1, 30_000, SPENT_MS] {
            assert_eq!(spend(&db, begin.plus(later), "a"), Ok(Spent::Before), "{later}");
        }
        assert_eq!(spend(&db, begin.plus(1), "b"), Ok(Spent::Now));
    }

    #[test]
    fn what_is_no_longer_good_is_forgotten() {
        let db = Native::in_memory().unwrap();
        migrate(&db, STEPS).unwrap();
        for n in 0..100 {
            let now = UnixMs(1_800_000_000_000 + n * 10_000);
            spend(&db, now, &alloc::format!("{n}")).unwrap();
        }
        let mut rows = db.run("SELECT count(*) FROM spent_ticket", &[]).unwrap();
        assert!(rows.remove(0).number().unwrap() <= SPENT_MS / 10_000 + 1);
    }
}
