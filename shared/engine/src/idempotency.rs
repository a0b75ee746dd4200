//! What an `Idempotency-Key` does for a request that changes something and is no job: the first with a key is made, a
//! second is given the answer of the first. Kept by the gate.
//!
//! A key is in one of three states. It is unknown; it is held, by one request, until a moment at which that one is taken
//! for dead; or it has an answer, for a day. Only its holder gives it an answer or frees it, and says who it is by a token
//! that it drew itself. What came to nothing frees its key, so that nothing is remembered of it.
//!
//! What this must not know: requests, routes and answers. Key and fingerprint are hashes, an answer is text.

use alloc::string::String;

use sha2::{Digest, Sha256};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use crate::database::{Database, DatabaseError, Value};
use crate::digest::short;

/// How long an answer is kept. Milliseconds: a day, beyond which no client sends again by itself.
pub const KEPT_MS: u64 = 24 * 3_600_000;
/// How long a request may take until it is taken for dead. Milliseconds. The platform ends what goes on for half as long
/// after its client has gone.
pub const LEASE_MS: u64 = 60_000;
/// Keys of a tenant. With the longest answers that are kept they take 640 MB, of the 10 GB of an object.
pub const KEYS_MAX: u64 = 10_000;
/// Keys that make way at once where there are too many: what is looked for then goes through all of them.
const DROPPED: u64 = 100;
/// When to ask again for what is under way: most requests take less. Milliseconds.
const AGAIN_MS: u64 = 1_000;
/// Rows that are looked at, for such as are out of date, each time that a key comes up.
const SWEPT: u64 = 4;

/// The keys, and what came of their requests. Found by name alone, without an index by time that would be a second row
/// with each change.
pub const KEYS: &[&str] = &["-- idempotency::schema
    CREATE TABLE idempotency (
        name TEXT PRIMARY KEY,
        until INTEGER NOT NULL,
        token INTEGER NOT NULL,
        fingerprint TEXT NOT NULL,
        answer TEXT
    ) STRICT, WITHOUT ROWID"];

/// A hash of `parts`, none of which but the last may hold a byte `0xff`: text has none.
pub fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
        hash.update([0xff]);
    }
    short(hash)
}

/// Whether an answer with this status is given again. One that says that something was done, or cannot be, in the state in
/// which things were. None where nothing was looked at yet (a token, a scope, a body that cannot be used), where the same
/// may be done later (429), and where it is not known what was done (5xx).
pub fn is_kept(status: u16) -> bool {
    matches!(status, 200..=299 | 404 | 409 | 410 | 412)
}

/// What the gate keeps of its keys in memory: nothing that a decision hangs on.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Keys there may be.
    keys_max: u64,
    /// So many more keys fit for certain.
    room: u64,
    /// Up to here rows were looked at.
    swept_to: String,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            keys_max: KEYS_MAX,
            room: 0,
            swept_to: String::new(),
        }
    }
}

impl Keys {
    /// A request with the key `name` begins, told from others by `fingerprint`. `None`: it is to be made, and then to be
    /// [ended](Self::end) with the same `token`, below 2^53 and no other request's. Else the answer that it had before. One
    /// row, and one for each that is swept. Repeating it is safe.
    ///
    /// Refusals: `IDEMPOTENCY_MISMATCH` for another fingerprint, `IDEMPOTENCY_IN_PROGRESS` while another request holds the
    /// key, `RATE_LIMITED` while all of [`KEYS_MAX`] are held. Errors: the database's, and nothing has happened.
    pub fn begin(
        &mut self,
        db: &impl Database,
        now: UnixMs,
        (name, fingerprint): (&str, &str),
        token: u64,
    ) -> Result<Result<Option<String>, Error>, DatabaseError> {
        let rows = db.run(
            "-- idempotency::begin
            SELECT until, token, fingerprint, answer FROM idempotency WHERE name = ?",
            &[Value::Text(name)],
        )?;
        let known = rows.into_iter().next();
        let is_new = known.is_none();
        if let Some(mut row) = known {
            let (until, holder, of) = (row.number()?, row.number()?, row.text()?);
            // A holder that is taken for dead, or an answer that is out of date, says nothing any more.
            if until > now.0 {
                return Ok(match row.optional_text()? {
                    _ if of != fingerprint => Err(mismatch()),
                    Some(answer) => Ok(Some(answer)),
                    None if holder == token => Ok(None),
                    None => Err(in_progress(until.saturating_sub(now.0))),
                });
            }
        } else if !self.make_room(db, now)? {
            return Ok(Err(self.full()));
        }
        db.run(
            "-- idempotency::begin
            INSERT INTO idempotency (name, until, token, fingerprint) VALUES (?, ?, ?, ?)
            ON CONFLICT (name) DO UPDATE SET until = excluded.until, token = excluded.token,
                fingerprint = excluded.fingerprint, answer = NULL",
            &[
                Value::Text(name),
                Value::Number(now.plus(LEASE_MS).0),
                Value::Number(token),
                Value::Text(fingerprint),
            ],
        )?;
        if is_new {
            self.room = self.room.saturating_sub(1);
            self.sweep(db, now)?;
        }
        Ok(Ok(None))
    }

    /// The request that began under `token` has ended: its answer is kept, or where there is none, the key is free. One row.
    /// Nothing changes where the key has come to another request since, or has an answer. Repeating it is safe.
    ///
    /// Errors: the database's.
    pub fn end(
        db: &impl Database,
        now: UnixMs,
        name: &str,
        token: u64,
        answer: Option<&str>,
    ) -> Result<(), DatabaseError> {
        let (name, token) = (Value::Text(name), Value::Number(token));
        match answer {
            Some(answer) => db.run(
                "-- idempotency::end
                UPDATE idempotency SET until = ?1, answer = ?2
                WHERE name = ?3 AND token = CAST(?4 AS INTEGER) AND answer IS NULL",
                &[Value::Number(now.plus(KEPT_MS).0), Value::Text(answer), name, token],
            ),
            None => db.run(
                "-- idempotency::end
                DELETE FROM idempotency WHERE name = ?1 AND token = CAST(?2 AS INTEGER) AND answer IS NULL",
                &[name, token],
            ),
        }?;
        Ok(())
    }

    /// Whether there is room for one more key. Where there is none, what is out of date makes way, and then the oldest
    /// answers; what is under way never does.
    fn make_room(&mut self, db: &impl Database, now: UnixMs) -> Result<bool, DatabaseError> {
        if self.room == 0 {
            self.room = self.keys_max.saturating_sub(count(db)?);
        }
        if self.room == 0 {
            db.run(
                "-- idempotency::make_room
                DELETE FROM idempotency WHERE name IN (
                    SELECT name FROM idempotency WHERE answer IS NOT NULL OR until <= CAST(?1 AS INTEGER)
                    ORDER BY until LIMIT CAST(?2 AS INTEGER))",
                &[Value::Number(now.0), Value::Number(DROPPED.min(self.keys_max))],
            )?;
            self.room = self.keys_max.saturating_sub(count(db)?);
        }
        Ok(self.room > 0)
    }

    fn full(&self) -> Error {
        let message = alloc::format!(
            "{} requests with idempotency keys are under way, as many as may be.",
            self.keys_max
        );
        Error::new(ErrorCode::RateLimited, message).retry_after(AGAIN_MS)
    }

    /// Looks at a few rows after those of the last time, and drops what is out of date. As each new key has more rows
    /// looked at than it adds, what is kept follows what is of use.
    fn sweep(&mut self, db: &impl Database, now: UnixMs) -> Result<(), DatabaseError> {
        let from = core::mem::take(&mut self.swept_to);
        let rows = db.run(
            "-- idempotency::sweep
            SELECT name, until FROM idempotency WHERE name > CAST(? AS TEXT)
            ORDER BY name LIMIT CAST(? AS INTEGER)",
            &[Value::Text(&from), Value::Number(SWEPT)],
        )?;
        for mut row in rows {
            let (name, until) = (row.text()?, row.number()?);
            if until <= now.0 {
                db.run(
                    "-- idempotency::sweep\nDELETE FROM idempotency WHERE name = ?",
                    &[Value::Text(&name)],
                )?;
            }
            self.swept_to = name;
        }
        Ok(())
    }
}

fn count(db: &impl Database) -> Result<u64, DatabaseError> {
    let rows = db.run("-- idempotency::count\nSELECT count(*) FROM idempotency", &[])?;
    rows.into_iter().next().map_or(Ok(0), |mut row| row.number())
}

fn mismatch() -> Error {
    Error::new(
        ErrorCode::IdempotencyMismatch,
        "The key was used before, for another request: its path, query, conditions or body were not these.",
    )
}

fn in_progress(left_ms: u64) -> Error {
    Error::new(
        ErrorCode::IdempotencyInProgress,
        "The request with this key is still under way.",
    )
    .retry_after(left_ms.clamp(1, AGAIN_MS))
}

#[cfg(test)]
#[cfg(feature = "native")]
mod tests;
