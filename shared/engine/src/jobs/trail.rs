//! What is done by hand in this object, on its way to the audit trail, which the tenant's gate keeps.
//!
//! An entry is a row of the outbox from the turn on in which the thing was done, and goes when the gate has confirmed it.
//! Told twice, late or in another order, it is taken down once: entries have numbers, and are told in their order. A plain
//! job's life writes none.

use alloc::vec::Vec;

use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::tenant::Recorded;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::{AuditCounts, AuditEntry, AuditFilter, AuditTarget, AuditWhat};
use tidegate_protocol::ids::JobId;
use tidegate_protocol::time::UnixMs;

use super::{Effect, REDELIVERY_MS, Turn};
use crate::audit::written;
use crate::database::{Database, DatabaseError, Value};
use tidegate_protocol::calls::jobs::Filter;

/// Entries told in one call at most. Some 300 bytes each, 2 KiB at most.
const TOLD_ENTRIES_MAX: u64 = 50;

/// The outbox. `audit_told` is the number up to which the gate has confirmed: it outlives the rows, so that no number is
/// given twice.
pub(super) const OUTBOX: &[&str] = &[
    "-- jobs::schema
    CREATE TABLE audit_outbox (number INTEGER PRIMARY KEY, entry TEXT NOT NULL) STRICT",
    "-- jobs::schema
    CREATE TABLE audit_told (id INTEGER PRIMARY KEY CHECK (id = 1), number INTEGER NOT NULL) STRICT",
];

/// How far the outbox is told.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Trail {
    /// The newest entry.
    last: u64,
    /// The newest entry that the gate has confirmed.
    told: u64,
    /// When what is not confirmed is told again.
    retry_at: UnixMs,
}

impl PartialEq for Trail {
    /// What can be built again from the rows.
    fn eq(&self, other: &Self) -> bool {
        (self.last, self.told) == (other.last, other.told)
    }
}

impl Trail {
    pub fn recover(db: &impl Database, now: UnixMs) -> Result<Self, DatabaseError> {
        let mut rows = db
            .run(
                "-- trail::recover
                SELECT (SELECT number FROM audit_told WHERE id = 1), (SELECT max(number) FROM audit_outbox)",
                &[],
            )?
            .into_iter();
        let (told, last) = match rows.next() {
            Some(mut row) => (row.optional_number()?, row.optional_number()?),
            None => (None, None),
        };
        let told = told.unwrap_or(0);
        Ok(Self {
            last: last.unwrap_or(told),
            told,
            retry_at: now,
        })
    }

    fn is_told(self) -> bool {
        self.last <= self.told
    }

    /// When the object must be woken to tell again what is not confirmed.
    pub fn next_wake(self) -> Option<UnixMs> {
        (!self.is_told()).then_some(self.retry_at)
    }
}

impl<D: Database> Turn<'_, D> {
    /// Notes for the audit trail that `caller` did something.
    pub(super) fn note(
        &mut self,
        caller: &Caller,
        what: AuditWhat,
        target: AuditTarget,
        counts: Option<AuditCounts>,
    ) -> Result<(), DatabaseError> {
        let number = self.state.trail.last + 1;
        let source = self.state.spread.place().shard.0;
        let mut entry = AuditEntry::new(caller, self.now, source, number, what, target);
        if let Some(counts) = counts {
            entry = entry.counting(counts);
        }
        self.db.run(
            "-- jobs::note
            INSERT INTO audit_outbox (number, entry) VALUES (?, ?)",
            &[Value::Number(number), Value::Text(written(&entry)?.as_str())],
        )?;
        self.state.trail.last = number;
        self.noted = true;
        Ok(())
    }

    /// Notes what was done to one job, where it is another's.
    pub(super) fn note_of_other(
        &mut self,
        caller: &Caller,
        what: AuditWhat,
        owner: &tidegate_protocol::ids::UserId,
        job: JobId,
    ) -> Result<(), DatabaseError> {
        if caller.user == *owner {
            return Ok(());
        }
        self.note(caller, what, target(job), None)
    }

    /// At the end of a turn: tells the gate what was noted in it.
    pub(super) fn tell_noted(&mut self) -> Result<(), DatabaseError> {
        if self.noted {
            self.noted = false;
            self.tell_gate()?;
        }
        Ok(())
    }

    /// At an alarm: tells the gate again what it has not confirmed.
    pub(super) fn tell_again(&mut self) -> Result<(), DatabaseError> {
        let due = self.state.trail.next_wake().is_some_and(|at| at <= self.now);
        if due { self.tell_gate() } else { Ok(()) }
    }

    /// Tells the gate the oldest entries that it has not confirmed.
    fn tell_gate(&mut self) -> Result<(), DatabaseError> {
        if self.state.trail.is_told() {
            return Ok(());
        }
        self.state.trail.retry_at = self.now.plus(REDELIVERY_MS);
        let rows = self.db.run(
            "-- jobs::tell_gate
            SELECT number, entry FROM audit_outbox ORDER BY number LIMIT CAST(? AS INTEGER)",
            &[Value::Number(TOLD_ENTRIES_MAX)],
        )?;
        let mut entries = Vec::with_capacity(rows.len());
        for mut row in rows {
            let (number, text) = (row.number()?, row.text()?);
            let entry = JsonText::parse(&text).unwrap_or_else(JsonText::null);
            entries.push(Recorded { number, entry });
        }
        self.effects.push(Effect::Record { entries });
        Ok(())
    }

    /// The gate has taken down everything up to `number`.
    pub(super) fn recorded(&mut self, number: u64) -> Result<(), DatabaseError> {
        let number = number.min(self.state.trail.last);
        if number <= self.state.trail.told {
            return Ok(());
        }
        self.db.run(
            "-- jobs::recorded
            DELETE FROM audit_outbox WHERE number <= CAST(? AS INTEGER)",
            &[Value::Number(number)],
        )?;
        self.db.run(
            "-- jobs::recorded
            INSERT INTO audit_told (id, number) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET number = excluded.number",
            &[Value::Number(number)],
        )?;
        self.state.trail.told = number;
        self.tell_gate()
    }
}

/// One job.
pub(super) fn target(job: JobId) -> AuditTarget {
    AuditTarget {
        jobs: alloc::vec![job],
        ..AuditTarget::default()
    }
}

/// What of a filter the trail repeats: not the notes, which are the client's own.
pub(super) fn filter(filter: &Filter) -> AuditFilter {
    AuditFilter {
        status: filter.status,
        action: filter.action.clone(),
        user: filter.user.clone(),
        code: filter.code,
        created_after: filter.created_after,
        created_before: filter.created_before,
        batch: filter.batch.clone(),
    }
}
