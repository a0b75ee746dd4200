//! The breakers of a tenant, as its gate keeps them.
//!
//! In memory, and all of them in one row: it is written when a state changes or a probe is lent, and otherwise at most once in
//! [`COUNTS_MS`] while calls fail or are slow, or a success ends a row of failures. So upstreams that are well cost no row,
//! whatever fails costs a tenant a row a second at most, and an incident three (open, half-open, closed) and one for each
//! further probe. What was counted since the last row is forgotten where the gate restarts; a state never is.

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
/// Breakers kept of a tenant: one for each upstream, and one for each key of those that have keys. Some 100 bytes of the
/// row each, 1.1 KiB with the largest window of calls: the row stays well below its 2 MB. Beyond this, the one is forgotten
/// that is closed and has not been heard of for the longest.
pub const KEPT_MAX: usize = 256;
/// Changes of state that are remembered of a breaker.
const CHANGES_MAX: usize = 8;

/// The gate's table.
pub const BREAKERS: &[&str] = &["-- upstreams::schema
    CREATE TABLE breakers (id INTEGER PRIMARY KEY CHECK (id = 1), state BLOB NOT NULL) STRICT"];

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
    heard_at: UnixMs,
}

/// What the row holds of one: its upstream, its key, and numbers.
type Written = (String, String, Vec<u64>);

/// The breakers.
#[derive(Debug, Clone, Default)]
pub struct Breakers {
    /// By upstream and key. Read from the row where a call first needs them.
    kept: Option<Vec<Kept>>,
    written_at: UnixMs,
}

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
            Call::SetBreaker(set) => self.set(db, now, (&set.upstream, &set.key), set.change, &set.caller)?,
            _ => Vec::new(),
        };
        Ok((JsonText::of(&self.show(db, now)?).map(Reply::Upstreams), changes))
    }

    /// Counts what is told, and says how the breaker stands. What holds for the whole upstream by hand holds for each of
    /// its keys.
    ///
    /// Errors: as [`Self::handle`].
    pub fn consult(
        &mut self,
        db: &impl Database,
        now: UnixMs,
        consult: &Consult,
    ) -> Result<(Standing, Vec<Changed>), DatabaseError> {
        let counts_are_due = now.since(self.written_at) >= COUNTS_MS;
        let kept = self.read(db, now)?;
        if !consult.key.is_empty()
            && let Ok(place) = place(kept, &consult.upstream, "")
            && let Some(whole) = kept.get(place).filter(|whole| whole.is_held())
        {
            let mut standing = whole.breaker.standing(now);
            // The outcomes of these calls are nothing to the breaker of the key.
            standing.generation = 0;
            return Ok((standing, Vec::new()));
        }
        let kept = find(kept, now, &consult.upstream, &consult.key)?;
        kept.heard_at = now;
        let (mut from, streak) = (kept.breaker.state(), kept.breaker.streak());
        let recorded = kept
            .breaker
            .record(&consult.rule, now, consult.generation, &consult.outcomes, consult.probe);
        let counts = consult.outcomes.speak_against() || kept.breaker.streak() != streak;
        let mut changes = Vec::new();
        if let Some(why) = recorded {
            changes.push(kept.changed(now, from, why));
            from = kept.breaker.state();
        }
        let mut standing = kept.breaker.standing(now);
        if consult.wants {
            let (asked, why) = kept.breaker.ask(&consult.rule, now, consult.probe_ms);
            standing = asked;
            if let Some(why) = why {
                changes.push(kept.changed(now, from, why));
            }
        }
        // A probe that is lent is in the row, so that no restart lends it again.
        if !changes.is_empty() || standing.probe.is_some() || (counts && counts_are_due) {
            self.write(db, now)?;
        }
        Ok((standing, changes))
    }

    /// Opens, closes or disables a breaker by hand, with an entry in the audit trail where that changes anything.
    ///
    /// Errors: as [`Self::handle`].
    pub fn set(
        &mut self,
        db: &impl Database,
        now: UnixMs,
        (upstream, key): (&str, &str),
        change: BreakerChange,
        caller: &Caller,
    ) -> Result<Vec<Changed>, DatabaseError> {
        let kept = find(self.read(db, now)?, now, upstream, key)?;
        let from = kept.breaker.state();
        if !kept.breaker.set(change) {
            return Ok(Vec::new());
        }
        let changed = kept.changed(now, from, Reason::ByHand);
        self.write(db, now)?;
        let what = match change {
            BreakerChange::Open => AuditWhat::UpstreamOpened,
            BreakerChange::Close => AuditWhat::UpstreamClosed,
            BreakerChange::Disable => AuditWhat::UpstreamDisabled,
        };
        let mut whose = upstream.to_owned();
        if !key.is_empty() {
            whose.push('/');
            whose.push_str(key);
        }
        let target = AuditTarget {
            upstream: Some(whose),
            ..AuditTarget::default()
        };
        audit::note(db, now, caller, what, target)?;
        Ok(alloc::vec![changed])
    }

    /// Every breaker, by upstream and key.
    ///
    /// Errors: as [`Self::handle`].
    pub fn show(&mut self, db: &impl Database, now: UnixMs) -> Result<UpstreamsView, DatabaseError> {
        let mut breakers = Vec::new();
        for kept in self.read(db, now)? {
            breakers.push(kept.view(now));
        }
        Ok(UpstreamsView { breakers })
    }

    fn read(&mut self, db: &impl Database, now: UnixMs) -> Result<&mut Vec<Kept>, DatabaseError> {
        if self.kept.is_none() {
            let rows = db.run("-- upstreams::read\nSELECT state FROM breakers WHERE id = 1", &[])?;
            let written: Vec<Written> = match rows.into_iter().next() {
                Some(mut row) => from_blob(&row.blob()?)?,
                None => Vec::new(),
            };
            let mut kept = Vec::new();
            for written in written {
                kept.push(Kept::read(written, now));
            }
            self.kept = Some(kept);
        }
        Ok(self.kept.get_or_insert_default())
    }

    fn write(&mut self, db: &impl Database, now: UnixMs) -> Result<(), DatabaseError> {
        let mut written: Vec<Written> = Vec::new();
        for kept in self.kept.iter().flatten() {
            written.push(kept.written());
        }
        db.run(
            "-- upstreams::write
            INSERT INTO breakers (id, state) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state",
            &[Value::Blob(&to_blob(&written)?)],
        )?;
        self.written_at = now;
        Ok(())
    }
}

/// Where a breaker is, or belongs.
fn place(kept: &[Kept], upstream: &str, key: &str) -> Result<usize, usize> {
    kept.binary_search_by(|kept| (kept.upstream.as_str(), kept.key.as_str()).cmp(&(upstream, key)))
}

/// A breaker, or one that begins. Where there are too many, another is forgotten for it: one that stands by itself before one
/// that is held by hand, a closed one before one that is not, and the one of which nothing was heard for the longest.
fn find<'a>(kept: &'a mut Vec<Kept>, now: UnixMs, upstream: &str, key: &str) -> Result<&'a mut Kept, DatabaseError> {
    let mut found = place(kept, upstream, key);
    if found.is_err() && kept.len() >= KEPT_MAX {
        let least = kept.iter().enumerate().min_by_key(|(_, kept)| {
            let is_open = kept.breaker.state() != BreakerState::Closed;
            (kept.is_held(), is_open, kept.heard_at)
        });
        if let Some((least, _)) = least {
            kept.remove(least);
        }
        found = place(kept, upstream, key);
    }
    let place = match found {
        Ok(place) => place,
        Err(place) => {
            kept.insert(place, Kept::new(upstream.to_owned(), key.to_owned(), now));
            place
        }
    };
    kept.get_mut(place)
        .ok_or_else(|| DatabaseError::new("a breaker that was found is gone"))
}

impl Kept {
    fn new(upstream: String, key: String, now: UnixMs) -> Self {
        Self {
            upstream,
            key,
            breaker: Breaker::default(),
            changes: Vec::new(),
            heard_at: now,
        }
    }

    fn read((upstream, key, numbers): Written, now: UnixMs) -> Self {
        let mut kept = Self::new(upstream, key, now);
        let mut list = Numbers::new(numbers);
        kept.breaker = Breaker::read(&mut list);
        for _ in 0..list.take() {
            let (at, to) = (UnixMs(list.take()), BreakerState::of_number(list.take()));
            if let Some(why) = Reason::of_number(list.take()) {
                kept.changes.push((at, to, why));
            }
        }
        kept
    }

    fn written(&self) -> Written {
        let mut list = Vec::with_capacity(64);
        self.breaker.write(&mut list);
        list.push(u64::try_from(self.changes.len()).unwrap_or(0));
        for (at, to, why) in &self.changes {
            list.extend([at.0, to.number(), why.number()]);
        }
        (self.upstream.clone(), self.key.clone(), list)
    }

    /// Whether somebody has it in hand.
    fn is_held(&self) -> bool {
        matches!(self.breaker.state(), BreakerState::HeldOpen | BreakerState::Disabled)
    }

    fn changed(&mut self, now: UnixMs, from: BreakerState, why: Reason) -> Changed {
        let to = self.breaker.state();
        if self.changes.len() >= CHANGES_MAX {
            self.changes.remove(0);
        }
        self.changes.push((now, to, why));
        Changed {
            upstream: self.upstream.clone(),
            key: self.key.clone(),
            from,
            to,
            why,
        }
    }

    fn view(&self, now: UnixMs) -> BreakerView {
        let breaker = &self.breaker;
        let counted = breaker.counted();
        let mut changes = Vec::new();
        for (at, to, why) in &self.changes {
            changes.push(BreakerChanged {
                at: *at,
                to: *to,
                why: why.as_str().to_string(),
            });
        }
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
            changes,
        }
    }
}
