//! The breakers of a tenant, as its gate keeps them.
//!
//! In memory, and in a row each: written when a state changes or a probe is lent, and otherwise at most once in
//! [`COUNTS_MS`] while calls fail or are slow, or a success ends a row of failures. So an upstream that is well costs no row,
//! one that fails a row a second at most, and an incident three (open, half-open, closed) and one for each further probe.
//! What was counted since the last row is forgotten where the gate restarts; a state never is.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::tenant::{Call, Reply};
use tidegate_protocol::calls::upstreams::{BreakerChange, BreakerState, Consult, Numbers, Standing};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::{AuditTarget, AuditWhat, BreakerChanged, BreakerView, UpstreamsView};
use tidegate_protocol::time::UnixMs;

use super::breaker::{Breaker, Reason};
use crate::audit;
use crate::database::{Database, DatabaseError, Value, from_blob, to_blob};

/// How often counts alone are written at most. Milliseconds.
const COUNTS_MS: u64 = 1_000;
/// Breakers kept in memory. Some 300 bytes each, 1.3 KiB with the largest window of calls.
const KEPT_MAX: usize = 256;
/// Breakers kept in rows: one for each upstream, and one for each key of those that have keys.
const ROWS_MAX: u64 = 1_000;
/// How long a breaker is remembered that is closed. Milliseconds: a week.
const REMEMBERED_MS: u64 = 7 * 86_400_000;
/// What is held by hand is remembered until it is let go.
const FOREVER: u64 = (1 << 53) - 1;
/// Changes of state that are remembered of a breaker.
const CHANGES_MAX: usize = 8;

/// The gate's table.
pub const BREAKERS: &[&str] = &["-- upstreams::schema
    CREATE TABLE breaker (
        upstream TEXT NOT NULL,
        key TEXT NOT NULL,
        kept_until INTEGER NOT NULL,
        state BLOB NOT NULL,
        PRIMARY KEY (upstream, key)
    ) STRICT, WITHOUT ROWID"];

/// A breaker has changed its state: for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The upstream.
    pub upstream: String,
    /// The breaker's key.
    pub key: String,
    /// What it was.
    pub from: BreakerState,
    /// What it became.
    pub to: BreakerState,
    /// Why.
    pub why: Reason,
}

#[derive(Debug, Clone)]
struct Kept {
    upstream: String,
    key: String,
    breaker: Breaker,
    /// When its state changed of late, to what, and why.
    changes: Vec<(UnixMs, BreakerState, Reason)>,
    has_row: bool,
    written_at: UnixMs,
    heard_at: UnixMs,
}

/// The breakers that are in memory.
#[derive(Debug, Clone, Default)]
pub struct Breakers(Vec<Kept>);

impl Breakers {
    /// Answers a call about breakers, any other one with all of them, and says what has changed. `None` where the answer
    /// cannot be written.
    ///
    /// Errors: the database's. What is in memory is no longer right then.
    pub fn handle(
        &mut self,
        db: &impl Database,
        now: UnixMs,
        call: &Call,
    ) -> Result<(Option<Reply>, Vec<Changed>), DatabaseError> {
        let changes = match call {
            Call::Consult(consult) => {
                let (standing, changes) = self.consult(db, now, consult)?;
                return Ok((Some(Reply::Standing(standing)), changes));
            }
            Call::SetBreaker {
                upstream,
                key,
                change,
                caller,
            } => self.set(db, now, (upstream, key), *change, caller)?,
            _ => Vec::new(),
        };
        Ok((JsonText::of(&self.show(db, now)?).map(Reply::Upstreams), changes))
    }

    /// Counts what is told, and says how the breaker stands. What holds for the whole upstream by hand holds for each of
    /// its keys.
    ///
    /// Errors: the database's. What is in memory is no longer right then.
    pub fn consult(
        &mut self,
        db: &impl Database,
        now: UnixMs,
        consult: &Consult,
    ) -> Result<(Standing, Vec<Changed>), DatabaseError> {
        if !consult.key.is_empty() {
            let whole = &self.find(db, now, &consult.upstream, "")?.breaker;
            if matches!(whole.state(), BreakerState::HeldOpen | BreakerState::Disabled) {
                let mut standing = whole.standing(now);
                // The outcomes of these calls are nothing to the breaker of the key.
                standing.generation = 0;
                return Ok((standing, Vec::new()));
            }
        }
        let kept = self.find(db, now, &consult.upstream, &consult.key)?;
        kept.heard_at = now;
        let breaker = &mut kept.breaker;
        let (mut from, streak) = (breaker.state(), breaker.streak());
        let recorded = breaker.record(&consult.rule, now, consult.generation, &consult.outcomes, consult.probe);
        let counts = consult.outcomes.speak_against() || breaker.streak() != streak;
        let mut changes = Vec::new();
        if let Some(why) = recorded {
            changes.push(kept.changed(now, from, why));
            from = kept.breaker.state();
        }
        let mut standing = kept.breaker.standing(now);
        if consult.wants {
            let (asked, why) = kept.breaker.ask(&consult.rule, now, consult.probe_ms);
            standing = asked;
            changes.extend(why.map(|why| kept.changed(now, from, why)));
        }
        // A probe that is lent is in the row of its half-open breaker, so that no restart lends it again.
        let lent = standing.probe.is_some();
        let counts = counts && now.since(kept.written_at) >= COUNTS_MS;
        if !changes.is_empty() || lent || counts {
            kept.write(db, now)?;
        }
        Ok((standing, changes))
    }

    /// Opens, closes or disables a breaker by hand, with an entry in the audit trail where that changes anything.
    ///
    /// Errors: as [`Self::consult`].
    pub fn set(
        &mut self,
        db: &impl Database,
        now: UnixMs,
        (upstream, key): (&str, &str),
        change: BreakerChange,
        caller: &Caller,
    ) -> Result<Vec<Changed>, DatabaseError> {
        let kept = self.find(db, now, upstream, key)?;
        let from = kept.breaker.state();
        if !kept.breaker.set(change) {
            return Ok(Vec::new());
        }
        let changed = kept.changed(now, from, Reason::ByHand);
        kept.write(db, now)?;
        let what = match change {
            BreakerChange::Open => AuditWhat::UpstreamOpened,
            BreakerChange::Close => AuditWhat::UpstreamClosed,
            BreakerChange::Disable => AuditWhat::UpstreamDisabled,
        };
        let target = AuditTarget {
            upstream: Some(upstream.to_owned()),
            key: Some(key.to_owned()).filter(|key| !key.is_empty()),
            ..AuditTarget::default()
        };
        audit::note(db, now, caller, what, target)?;
        Ok(alloc::vec![changed])
    }

    /// Every breaker that has changed its state or failed lately, by upstream and key, and then those that are only in
    /// memory.
    ///
    /// Errors: the database's.
    pub fn show(&self, db: &impl Database, now: UnixMs) -> Result<UpstreamsView, DatabaseError> {
        let rows = db.run(
            "-- upstreams::show\nSELECT upstream, key, state FROM breaker ORDER BY upstream, key",
            &[],
        )?;
        let mut breakers = Vec::with_capacity(rows.len());
        for mut row in rows {
            let (upstream, key) = (row.text()?, row.text()?);
            if let Some(kept) = self.place(&upstream, &key).and_then(|place| self.0.get(place)) {
                breakers.push(kept.view(now));
                continue;
            }
            let mut stored = Kept::new(&upstream, &key, now);
            stored.read(&row.blob()?)?;
            breakers.push(stored.view(now));
        }
        breakers.extend(self.0.iter().filter(|kept| !kept.has_row).map(|kept| kept.view(now)));
        Ok(UpstreamsView { breakers })
    }

    fn place(&self, upstream: &str, key: &str) -> Option<usize> {
        self.0
            .iter()
            .position(|kept| kept.upstream == upstream && kept.key == key)
    }

    fn find(&mut self, db: &impl Database, now: UnixMs, upstream: &str, key: &str) -> Result<&mut Kept, DatabaseError> {
        let place = match self.place(upstream, key) {
            Some(place) => place,
            None => {
                let rows = db.run(
                    "-- upstreams::find
                    SELECT state FROM breaker WHERE upstream = ? AND key = ?",
                    &[Value::Text(upstream), Value::Text(key)],
                )?;
                let mut kept = Kept::new(upstream, key, now);
                if let Some(mut row) = rows.into_iter().next() {
                    kept.read(&row.blob()?)?;
                }
                if self.0.len() >= KEPT_MAX {
                    let longest = self.0.iter().enumerate().min_by_key(|(_, kept)| kept.heard_at);
                    let longest = longest.map_or(0, |(place, _)| place);
                    self.0.swap_remove(longest);
                }
                self.0.push(kept);
                self.0.len() - 1
            }
        };
        self.0
            .get_mut(place)
            .ok_or_else(|| DatabaseError::new("a breaker that was found is gone"))
    }
}

impl Kept {
    fn new(upstream: &str, key: &str, now: UnixMs) -> Self {
        Self {
            upstream: upstream.to_owned(),
            key: key.to_owned(),
            breaker: Breaker::default(),
            changes: Vec::new(),
            has_row: false,
            written_at: UnixMs(0),
            heard_at: now,
        }
    }

    /// Takes over what its row holds: a list of numbers.
    fn read(&mut self, row: &[u8]) -> Result<(), DatabaseError> {
        let mut list = Numbers::new(from_blob(row)?);
        self.breaker = Breaker::read(&mut list);
        for _ in 0..list.take() {
            let (at, to) = (UnixMs(list.take()), BreakerState::of_number(list.take()));
            self.changes.extend(Reason::of_number(list.take()).map(|why| (at, to, why)));
        }
        self.has_row = true;
        Ok(())
    }

    /// What its row holds.
    fn row(&self) -> Result<Vec<u8>, DatabaseError> {
        let mut list = Vec::with_capacity(64);
        self.breaker.write(&mut list);
        list.push(u64::try_from(self.changes.len()).unwrap_or(0));
        for (at, to, why) in &self.changes {
            list.extend([at.0, to.number(), why.number()]);
        }
        to_blob(&list)
    }

    fn changed(&mut self, now: UnixMs, from: BreakerState, why: Reason) -> Changed {
        let to = self.breaker.state();
        let changes = &mut self.changes;
        if changes.len() >= CHANGES_MAX {
            changes.remove(0);
        }
        changes.push((now, to, why));
        Changed {
            upstream: self.upstream.clone(),
            key: self.key.clone(),
            from,
            to,
            why,
        }
    }

    fn write(&mut self, db: &impl Database, now: UnixMs) -> Result<(), DatabaseError> {
        let kept_until = match self.breaker.state() {
            BreakerState::HeldOpen | BreakerState::Disabled => FOREVER,
            BreakerState::Closed | BreakerState::Open | BreakerState::HalfOpen => now.0.saturating_add(REMEMBERED_MS),
        };
        if !self.has_row {
            make_room(db, now)?;
        }
        db.run(
            "-- upstreams::write
            INSERT INTO breaker (upstream, key, kept_until, state) VALUES (?, ?, ?, ?)
            ON CONFLICT (upstream, key) DO UPDATE SET kept_until = excluded.kept_until, state = excluded.state",
            &[
                Value::Text(&self.upstream),
                Value::Text(&self.key),
                Value::Number(kept_until),
                Value::Blob(&self.row()?),
            ],
        )?;
        (self.has_row, self.written_at) = (true, now);
        Ok(())
    }

    fn view(&self, now: UnixMs) -> BreakerView {
        let breaker = &self.breaker;
        let counted = breaker.counted();
        BreakerView {
            upstream: self.upstream.clone(),
            key: self.key.clone(),
            state: breaker.state(),
            until: Some(breaker.until()).filter(|_| breaker.state() == BreakerState::Open),
            streak: breaker.streak(),
            calls: counted.calls,
            failed: counted.failed,
            slow: counted.slow,
            probes: breaker.probes(now),
            changes: self
                .changes
                .iter()
                .map(|(at, to, why)| BreakerChanged {
                    at: *at,
                    to: *to,
                    why: why.as_str().to_string(),
                })
                .collect(),
        }
    }
}

/// Before another row: forgets what is past its time, and where there are too many rows, the one that is next.
fn make_room(db: &impl Database, now: UnixMs) -> Result<(), DatabaseError> {
    db.run(
        "-- upstreams::make_room
        DELETE FROM breaker WHERE kept_until < CAST(?1 AS INTEGER) OR (
            (SELECT count(*) FROM breaker) >= CAST(?2 AS INTEGER)
            AND (upstream, key) IN (SELECT upstream, key FROM breaker ORDER BY kept_until LIMIT 1))",
        &[Value::Number(now.0), Value::Number(ROWS_MAX)],
    )?;
    Ok(())
}
