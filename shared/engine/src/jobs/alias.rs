//! Further keys of a job: those of requests that a composition's `dedupe` found to be the same.
//!
//! The key that a job was made with is a column of its row. A later request with a key of its own, which `dedupe` answers
//! with that job, must find it again when it is sent again, whatever has become of the job and of its dedupe key by then:
//! so its key is a row that names the job, with the fingerprint of its own body and a life of its own. It goes with the
//! job, which is kept until the last of its keys has had its time.

use alloc::format;
use alloc::string::String;

use tidegate_protocol::calls::jobs::Enqueue;
use tidegate_protocol::calls::once::Once;
use tidegate_protocol::event::JobState;
use tidegate_protocol::ids::JobNumber;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::Turn;
use super::row::{Job, fingerprint};
use super::state::State;
use crate::database::{Database, DatabaseError, Row, Value};

/// Further keys of one job at most. Each is two rows, which one sweep deletes with the job.
pub const ALIASES_MAX: u64 = 10_000;
/// How soon one may try again whose key is one too many. Milliseconds.
const FULL_MS: u64 = 5_000;

/// Further keys, by their job and in their order, and by what a request has of them.
pub(super) const ALIASES: &[&str] = &[
    "-- jobs::schema
    CREATE TABLE alias (
        number INTEGER NOT NULL,
        place INTEGER NOT NULL,
        action TEXT NOT NULL,
        key TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        until INTEGER,
        frees INTEGER NOT NULL,
        PRIMARY KEY (number, place)
    ) STRICT, WITHOUT ROWID",
    "-- jobs::schema
    CREATE UNIQUE INDEX alias_key ON alias(action, key)",
];

/// A further key of a job.
struct Alias {
    place: u64,
    fingerprint: String,
    /// Until when it names the job once that has ended; `None`: as long as the job is kept.
    until: Option<UnixMs>,
    /// Whether a job that ended without a result gives it back.
    frees: bool,
}

impl Alias {
    fn read(row: &mut Row) -> Result<Self, DatabaseError> {
        Ok(Self {
            place: row.number()?,
            fingerprint: row.text()?,
            until: row.optional_number()?.map(UnixMs),
            frees: row.number()? > 0,
        })
    }

    fn names(&self, job: &Job, now: UnixMs) -> bool {
        let freed = self.frees && job.state != JobState::Succeeded;
        !job.state.is_ended() || (!freed && self.until.is_none_or(|until| now < until))
    }
}

/// A job that a key names, or once did.
pub(super) struct Holder {
    pub(super) job: Job,
    alias: Option<Alias>,
}

impl Holder {
    /// Whether the key still names the job.
    pub(super) fn keeps_key(&self, now: UnixMs) -> bool {
        match &self.alias {
            None => self.job.keeps_key(now),
            Some(alias) => alias.names(&self.job, now),
        }
    }

    /// The fingerprint that came with the key.
    pub(super) fn fingerprint(&self, db: &impl Database) -> Result<Option<String>, DatabaseError> {
        match &self.alias {
            None => fingerprint(db, self.job.id.number()),
            Some(alias) => Ok(Some(alias.fingerprint.clone())),
        }
    }

    /// The key names the job no longer. One row, two for a further key.
    pub(super) fn free_key(&self, db: &impl Database) -> Result<(), DatabaseError> {
        let number = Value::Number(self.job.id.number().0);
        match &self.alias {
            None => db.run(
                "-- jobs::free_key
                UPDATE job SET key = NULL WHERE number = CAST(? AS INTEGER)",
                &[number],
            )?,
            Some(alias) => db.run(
                "-- jobs::free_key
                DELETE FROM alias WHERE number = CAST(? AS INTEGER) AND place = CAST(? AS INTEGER)",
                &[number, Value::Number(alias.place)],
            )?,
        };
        Ok(())
    }
}

impl State {
    /// Whether any job has a further key.
    pub(super) fn any_alias(db: &impl Database) -> Result<bool, DatabaseError> {
        let rows = db.run("-- jobs::any_alias\nSELECT 1 FROM alias LIMIT 1", &[])?;
        Ok(!rows.is_empty())
    }
}

impl<D: Database> Turn<'_, D> {
    /// The job to which a key was given last, whether that names it still or not.
    pub(super) fn holder(&self, action: &str, key: &str) -> Result<Option<Holder>, DatabaseError> {
        if let Some(job) = Job::load_key(self.db, action, key)? {
            return Ok(Some(Holder { job, alias: None }));
        }
        if !self.state.aliases {
            return Ok(None);
        }
        let rows = self.db.run(
            "-- jobs::holder
            SELECT number, place, fingerprint, until, frees FROM alias WHERE action = ? AND key = ?",
            &[Value::Text(action), Value::Text(key)],
        )?;
        let Some(mut row) = rows.into_iter().next() else {
            return Ok(None);
        };
        let number = JobNumber(row.number()?);
        let alias = Some(Alias::read(&mut row)?);
        Ok(self.load_number(number)?.map(|job| Holder { job, alias }))
    }

    /// The key of `enqueue`, where it has one, names `job` as well from now on: also where code from before there were such
    /// keys has deleted the job that it named. Two rows, one more where the job has ended
    /// and is to be kept longer for it. Gives the refusal where the job has too many keys.
    pub(super) fn name_also(&mut self, job: &Job, enqueue: &Enqueue) -> Result<Option<Error>, DatabaseError> {
        let Some(keyed) = &enqueue.keyed else {
            return Ok(None);
        };
        let number = Value::Number(job.id.number().0);
        let life = enqueue.job.once.as_ref().and_then(Once::key_life).unwrap_or_default();
        let alias = Alias {
            place: 1 + self.places_of_aliases(job.id.number())?,
            fingerprint: keyed.fingerprint.clone(),
            until: life.ttl_ms.map(|ms| self.now.plus(ms)),
            frees: life.failed_frees,
        };
        if !alias.names(job, self.now) {
            // It would be free at once.
            return Ok(None);
        }
        if alias.place > ALIASES_MAX {
            let message = format!("{ALIASES_MAX} further keys name the job {} already.", job.id);
            return Ok(Some(Error::new(ErrorCode::QueueFull, message).retry_after(FULL_MS)));
        }
        self.state.aliases = true;
        self.db.run(
            "-- jobs::name_also
            INSERT OR REPLACE INTO alias (number, place, action, key, fingerprint, until, frees) VALUES (?, ?, ?, ?, ?, ?, ?)",
            &[
                number,
                Value::Number(alias.place),
                Value::Text(enqueue.job.action.as_str()),
                Value::Text(keyed.key.as_str()),
                Value::Text(&alias.fingerprint),
                Value::optional(alias.until.map(|at| at.0)),
                Value::Number(u64::from(alias.frees)),
            ],
        )?;
        if let (Some(until), Some(expires_at)) = (alias.until, job.expires_at)
            && until > expires_at
        {
            self.db.run(
                "-- jobs::name_also
                UPDATE job SET expires_at = ? WHERE number = CAST(? AS INTEGER)",
                &[Value::Number(until.0), number],
            )?;
        }
        Ok(None)
    }

    fn places_of_aliases(&self, number: JobNumber) -> Result<u64, DatabaseError> {
        let rows = self.db.run(
            "-- jobs::places_of_aliases
            SELECT max(place) FROM alias WHERE number = CAST(? AS INTEGER)",
            &[Value::Number(number.0)],
        )?;
        let place = rows.into_iter().next().map(|mut row| row.optional_number());
        Ok(place.transpose()?.flatten().unwrap_or(0))
    }

    /// Until when `job`, which ends in `state`, is kept for the sake of its further keys.
    pub(super) fn aliased_until(&self, job: &Job, state: JobState) -> Result<Option<UnixMs>, DatabaseError> {
        if !self.state.aliases || job.spec.once.as_ref().and_then(Once::dedupe).is_none() {
            return Ok(None);
        }
        let failed = u64::from(state != JobState::Succeeded);
        let rows = self.db.run(
            "-- jobs::aliased_until
            SELECT max(until) FROM alias WHERE number = CAST(? AS INTEGER) AND frees + CAST(? AS INTEGER) < 2",
            &[Value::Number(job.id.number().0), Value::Number(failed)],
        )?;
        let until = rows.into_iter().next().map(|mut row| row.optional_number());
        Ok(until.transpose()?.flatten().map(UnixMs))
    }

    /// The job `number` is deleted: so are its further keys.
    pub(super) fn forget_aliases(&self, number: JobNumber) -> Result<(), DatabaseError> {
        if self.state.aliases {
            self.db.run(
                "-- jobs::forget_aliases
                DELETE FROM alias WHERE number = CAST(? AS INTEGER)",
                &[Value::Number(number.0)],
            )?;
        }
        Ok(())
    }
}
