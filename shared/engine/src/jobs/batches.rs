//! Batches: the jobs of one call, counted, awaited and cancelled as one.
//!
//! An object keeps one row for the jobs of a batch that lie in it, and writes it once at the end of each turn that
//! changed it, however many jobs were accepted or ended in that turn. Which of them run is in memory anyway, and which
//! wait is what remains: neither is counted in the row. The numbers of the first and the last job bound every
//! search, so that a job's batch needs no index. The row goes with its last job.
//!
//! A cancel is stored before it is answered. From then on no job of the batch starts, because a claim asks; those that
//! are there are ended in the order of their numbers, a bounded number in each turn, and the alarm goes on where a
//! turn stopped. What comes later is refused.

use alloc::vec::Vec;

use tidegate_cbor::{Decode, Encode};
use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::jobs::{BatchAsk, Reply};
use tidegate_protocol::event::{JobState, JsonText};
use tidegate_protocol::http::{AuditCounts, AuditFilter, AuditTarget, AuditWhat, BatchView};
use tidegate_protocol::ids::{BatchId, JobNumber, UserId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::enqueue::busy;
use super::row::Job;
use super::state::State;
use super::{CallId, SCAN_ROWS_MAX, TURN_ROWS_MAX, Turn, WAITERS_MAX};
use crate::database::{Database, DatabaseError, Value, from_blob, to_blob};
use tidegate_protocol::{SortedMap, SortedSet};

/// How long an object that has nothing of a cancelled batch remembers the cancel: longer than a call can be on its way.
/// Milliseconds.
const MARK_MS: u64 = 3_600_000;
/// Batches that one alarm looks at, at most: each may have nothing left to end.
const DUE_BATCHES_MAX: u64 = 16;

/// What an object has of a batch. Stored as a blob.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Batch {
    user: UserId,
    created_at: UnixMs,
    first: JobNumber,
    last: JobNumber,
    accepted: u64,
    succeeded: u64,
    failed: u64,
    cancelled: u64,
    expired: u64,
    /// Jobs that are past their retention.
    swept: u64,
    /// When the latest of those that have ended did so.
    ended_at: Option<UnixMs>,
    cancelled_at: Option<UnixMs>,
    /// While a cancel is under way: it has seen the jobs up to this one.
    cancel_after: Option<JobNumber>,
}

impl Batch {
    fn new(user: UserId, now: UnixMs) -> Self {
        Self {
            user,
            created_at: now,
            first: JobNumber(u64::MAX),
            last: JobNumber(0),
            accepted: 0,
            succeeded: 0,
            failed: 0,
            cancelled: 0,
            expired: 0,
            swept: 0,
            ended_at: None,
            cancelled_at: None,
            cancel_after: None,
        }
    }

    /// Jobs that have not ended.
    fn open(&self) -> u64 {
        let ended = self.succeeded + self.failed + self.cancelled + self.expired;
        self.accepted.saturating_sub(ended)
    }

    /// When the alarm has something to do for it: an entry of an index, which nearly none has.
    fn due_at(&self) -> Option<UnixMs> {
        let cancelled_at = self.cancelled_at?;
        match self.cancel_after {
            Some(_) => Some(cancelled_at),
            None => (self.accepted == 0).then(|| cancelled_at.plus(MARK_MS)),
        }
    }

    /// Whether its last job has gone.
    fn is_over(&self) -> bool {
        self.accepted > 0 && self.swept >= self.accepted
    }

    fn load(db: &impl Database, id: &BatchId) -> Result<Option<Self>, DatabaseError> {
        let rows = db.run(
            "-- batches::load
            SELECT body FROM batch WHERE id = ?",
            &[Value::Text(id.as_str())],
        )?;
        rows.into_iter()
            .next()
            .map(|mut row| from_blob(&row.blob()?))
            .transpose()
    }

    /// One row, and one more where it is due.
    fn store(&self, db: &impl Database, id: &BatchId) -> Result<(), DatabaseError> {
        db.run(
            "-- batches::store
            INSERT INTO batch (id, due_at, body) VALUES (?, ?, ?)
            ON CONFLICT (id) DO UPDATE SET due_at = excluded.due_at, body = excluded.body",
            &[
                Value::Text(id.as_str()),
                Value::optional(self.due_at().map(|at| at.0)),
                Value::Blob(&to_blob(self)?),
            ],
        )?;
        Ok(())
    }

    fn delete(db: &impl Database, id: &BatchId) -> Result<(), DatabaseError> {
        db.run(
            "-- batches::delete
            DELETE FROM batch WHERE id = ?",
            &[Value::Text(id.as_str())],
        )?;
        Ok(())
    }
}

/// A call that waits for the end of a batch.
#[derive(Debug, Clone)]
struct Waiter {
    batch: BatchId,
    deadline: UnixMs,
}

/// What is remembered of batches.
#[derive(Debug, Clone, Default)]
pub(super) struct Batches {
    /// Those of which jobs are open, as far as a turn has needed them, as they are stored.
    known: SortedMap<BatchId, Batch>,
    /// Those that this turn has looked at, and whether it has changed them.
    touched: SortedMap<BatchId, bool>,
    /// When the alarm has something to do for one.
    pub(super) due: Option<UnixMs>,
    waiters: SortedMap<CallId, Waiter>,
}

impl Batches {
    /// Reads what must be known before anybody asks.
    pub fn recover(db: &impl Database) -> Result<Self, DatabaseError> {
        Ok(Self {
            due: earliest_due(db)?,
            ..Self::default()
        })
    }

    /// When the first call has waited long enough.
    pub fn next_deadline(&self) -> Option<UnixMs> {
        self.waiters.values().map(|waiter| waiter.deadline).min()
    }

    /// Whether what is remembered is what a recovery would read.
    #[cfg(feature = "native")]
    pub fn mirror(&self, db: &impl Database) -> Result<bool, DatabaseError> {
        for (id, batch) in &self.known {
            if Batch::load(db, id)?.as_ref() != Some(batch) {
                return Ok(false);
            }
        }
        Ok(self.touched.is_empty() && self.due == earliest_due(db)?)
    }
}

fn earliest_due(db: &impl Database) -> Result<Option<UnixMs>, DatabaseError> {
    let rows = db.run(
        "-- batches::earliest_due
        SELECT min(due_at) FROM batch WHERE due_at IS NOT NULL",
        &[],
    )?;
    let at = rows
        .into_iter()
        .next()
        .map(|mut row| row.optional_number())
        .transpose()?;
    Ok(at.flatten().map(UnixMs))
}

impl State {
    /// What runs of a batch: how many, and the sum of their percentages.
    fn running_of(&self, id: &BatchId) -> (u64, f64) {
        let jobs = self.rows.values().filter(|job| job.spec.batch.as_ref() == Some(id));
        jobs.fold((0, 0.0), |(count, sum), job| (count + 1, sum + job.progress.percentage))
    }

    /// What is here of a batch.
    fn view_of(&self, id: &BatchId, batch: &Batch) -> BatchView {
        let (running, percentages) = self.running_of(id);
        let open = batch.open();
        let ended = count(batch.accepted.saturating_sub(open));
        BatchView {
            batch_id: id.clone(),
            user: batch.user.clone(),
            accepted: batch.accepted,
            waiting: open.saturating_sub(running),
            running,
            succeeded: batch.succeeded,
            failed: batch.failed,
            cancelled: batch.cancelled,
            expired: batch.expired,
            progress: (ended * 100.0 + percentages) / count(batch.accepted.max(1)),
            created_at: batch.created_at,
            ended_at: batch.ended_at.filter(|_| open == 0),
            cancelled_at: batch.cancelled_at,
        }
    }
}

#[cfg(feature = "native")]
impl State {
    /// What the object would say of each batch that it knows. For checks: no turn looks at all of them.
    ///
    /// Errors: the database's.
    pub fn batch_views(&self, db: &impl Database) -> Result<Vec<BatchView>, DatabaseError> {
        let rows = db.run("-- batches::batch_views\nSELECT id, body FROM batch ORDER BY id", &[])?;
        let view = |mut row: crate::database::Row| {
            let id = BatchId::parse(&row.text()?).ok_or_else(|| DatabaseError::new("a batch's id cannot be read"))?;
            Ok(self.view_of(&id, &from_blob(&row.blob()?)?))
        };
        rows.into_iter().map(view).collect()
    }
}

/// A number of jobs, to reckon with. Beyond what `u32` holds it is only about right.
fn count(jobs: u64) -> f64 {
    f64::from(u32::try_from(jobs).unwrap_or(u32::MAX))
}

impl<D: Database> Turn<'_, D> {
    /// What is known of a batch, to be looked at.
    fn batch(&mut self, id: &BatchId) -> Result<Option<&mut Batch>, DatabaseError> {
        let batches = &mut self.state.batches;
        if !batches.known.contains_key(id) {
            let Some(batch) = Batch::load(self.db, id)? else {
                return Ok(None);
            };
            batches.known.insert(id.clone(), batch);
        }
        if !batches.touched.contains_key(id) {
            batches.touched.insert(id.clone(), false);
        }
        Ok(batches.known.get_mut(id))
    }

    /// The same, to be changed: it is written at the end of the turn.
    fn batch_to_change(&mut self, id: &BatchId) -> Result<Option<&mut Batch>, DatabaseError> {
        if self.batch(id)?.is_some() {
            self.state.batches.touched.insert(id.clone(), true);
        }
        Ok(self.state.batches.known.get_mut(id))
    }

    /// Makes a batch known that is not, and gives it to be changed.
    fn batch_or_new(&mut self, id: &BatchId, user: &UserId) -> Result<Option<&mut Batch>, DatabaseError> {
        if self.batch(id)?.is_none() {
            let new = Batch::new(user.clone(), self.now);
            self.state.batches.known.insert(id.clone(), new);
        }
        self.batch_to_change(id)
    }

    /// A job was accepted.
    pub(super) fn join_batch(&mut self, job: &Job) -> Result<(), DatabaseError> {
        let Some(id) = &job.spec.batch else { return Ok(()) };
        let number = job.id.number();
        if let Some(batch) = self.batch_or_new(id, &job.spec.user)? {
            batch.accepted += 1;
            batch.first = batch.first.min(number);
            batch.last = batch.last.max(number);
        }
        Ok(())
    }

    /// A job has ended.
    pub(super) fn end_in_batch(&mut self, job: &Job) -> Result<(), DatabaseError> {
        let Some(id) = &job.spec.batch else { return Ok(()) };
        let now = self.now;
        if let Some(batch) = self.batch_to_change(id)? {
            match job.state {
                JobState::Succeeded => batch.succeeded += 1,
                JobState::Failed => batch.failed += 1,
                JobState::Cancelled => batch.cancelled += 1,
                JobState::Expired => batch.expired += 1,
                JobState::Scheduled | JobState::Queued | JobState::Retrying | JobState::Running | JobState::Paused => {}
            }
            batch.ended_at = batch.ended_at.max(Some(now));
        }
        Ok(())
    }

    /// An ended job of this batch is past its retention.
    pub(super) fn sweep_from_batch(&mut self, id: &str) -> Result<(), DatabaseError> {
        let Some(id) = BatchId::parse(id) else { return Ok(()) };
        if let Some(batch) = self.batch_to_change(&id)? {
            batch.swept += 1;
        }
        Ok(())
    }

    /// Whether a batch was cancelled: no job of it starts, and none is accepted.
    pub(super) fn is_cancelled(&mut self, batch: Option<&BatchId>) -> Result<bool, DatabaseError> {
        let Some(id) = batch else { return Ok(false) };
        Ok(self.batch(id)?.is_some_and(|batch| batch.cancelled_at.is_some()))
    }

    /// The numbers between which the jobs of a batch lie; `None` where there are none.
    pub(super) fn span_of(&self, id: &BatchId) -> Result<Option<(JobNumber, JobNumber)>, DatabaseError> {
        let batch = match self.state.batches.known.get(id) {
            Some(batch) => Some(batch.clone()),
            None => Batch::load(self.db, id)?,
        };
        let batch = batch.filter(|batch| batch.accepted > 0);
        Ok(batch.map(|batch| (batch.first, batch.last)))
    }

    /// Answers a question about a batch.
    pub(super) fn ask_batch(
        &mut self,
        call: CallId,
        id: &BatchId,
        caller: &Caller,
        ask: BatchAsk,
    ) -> Result<(), DatabaseError> {
        let reply = match ask {
            BatchAsk::Show { wait_ms } => {
                let found = self.batch(id)?.cloned().filter(|batch| caller.may_read(&batch.user));
                let Some(batch) = found else {
                    self.reply(call, Err(Error::not_found()));
                    return Ok(());
                };
                if wait_ms > 0 && batch.open() > 0 {
                    self.wait_for_batch(call, id, wait_ms);
                    return Ok(());
                }
                shown(&self.state.view_of(id, &batch))
            }
            BatchAsk::Cancel { owner } => self.cancel_batch(id, caller, &owner)?,
        };
        self.reply(call, reply);
        Ok(())
    }

    fn wait_for_batch(&mut self, call: CallId, id: &BatchId, wait_ms: u64) {
        if self.state.waiters.len() + self.state.batches.waiters.len() >= WAITERS_MAX {
            self.reply(call, Err(busy()));
            return;
        }
        let waiter = Waiter {
            batch: id.clone(),
            deadline: self.now.plus(wait_ms),
        };
        self.state.batches.waiters.insert(call, waiter);
    }

    fn cancel_batch(
        &mut self,
        id: &BatchId,
        caller: &Caller,
        owner: &UserId,
    ) -> Result<Result<Reply, Error>, DatabaseError> {
        let owner = match self.batch(id)? {
            Some(batch) => batch.user.clone(),
            None => owner.clone(),
        };
        if !caller.may_read(&owner) {
            return Ok(Err(Error::not_found()));
        }
        if !caller.may_write(&owner) {
            let message = "Cancelling another user's batch takes the scope `jobs:write`.";
            return Ok(Err(Error::new(ErrorCode::Forbidden, message)));
        }
        let now = self.now;
        if let Some(batch) = self.batch_or_new(id, &owner)?
            && batch.cancelled_at.is_none()
        {
            batch.cancelled_at = Some(now);
            let open = batch.open();
            batch.cancel_after = (open > 0).then(|| JobNumber(batch.first.0.saturating_sub(1)));
            self.cancel_next(id, TURN_ROWS_MAX)?;
            if open > 0 {
                self.note_cancelled(caller, id, open)?;
            }
        }
        Ok(match self.batch(id)?.cloned() {
            Some(batch) => shown(&self.state.view_of(id, &batch)),
            None => Err(Error::not_found()),
        })
    }

    fn note_cancelled(&mut self, caller: &Caller, id: &BatchId, open: u64) -> Result<(), DatabaseError> {
        let filter = AuditFilter {
            batch: Some(id.clone()),
            ..AuditFilter::default()
        };
        let target = AuditTarget {
            filter: Some(filter),
            ..AuditTarget::default()
        };
        let counts = AuditCounts { done: open, refused: 0 };
        self.note(caller, AuditWhat::BatchCancelled, target, Some(counts))
    }

    /// Goes on with the cancel of a batch: ends `limit` jobs at most, and says how many it has ended.
    fn cancel_next(&mut self, id: &BatchId, limit: u64) -> Result<u64, DatabaseError> {
        let Some(batch) = self.batch_to_change(id)? else {
            return Ok(0);
        };
        let Some(mut after) = batch.cancel_after else {
            return Ok(0);
        };
        let last = batch.last;
        let rows = self.db.run(
            "-- batches::cancel_next
            SELECT number, CASE WHEN batch = ?1 AND (state < 4 OR state = 8) THEN 1 END FROM (
                SELECT number, batch, state FROM job
                WHERE number > CAST(?2 AS INTEGER) AND number <= CAST(?3 AS INTEGER)
                ORDER BY number LIMIT CAST(?4 AS INTEGER))
            ORDER BY number",
            &[
                Value::Text(id.as_str()),
                Value::Number(after.0),
                Value::Number(last.0),
                Value::Number(SCAN_ROWS_MAX),
            ],
        )?;
        let mut found = Vec::with_capacity(rows.len());
        for mut row in rows {
            found.push((JobNumber(row.number()?), row.optional_number()?.is_some()));
        }
        let packs = &self.state.packs;
        let packed = packs.between(
            JobNumber(after.0.saturating_add(1)),
            JobNumber(last.0.saturating_add(1)),
        );
        let scan = usize::try_from(SCAN_ROWS_MAX).unwrap_or(usize::MAX);
        found.extend(
            packed
                .take(scan)
                .map(|number| (number, packs.batch_of(number) == Some(id))),
        );
        found.sort_unstable();
        found.truncate(scan);
        let more = found.len() >= scan;
        let (mut stopped, mut full) = (0, false);
        for (number, of_batch) in found {
            if stopped >= limit {
                full = true;
                break;
            }
            after = number;
            if of_batch && let Some(job) = self.load_number(after)? {
                self.stop(job)?;
                stopped += 1;
            }
        }
        if let Some(batch) = self.batch_to_change(id)? {
            batch.cancel_after = (more || full).then_some(after);
        }
        Ok(stopped)
    }

    /// The alarm: goes on with cancels, and forgets those of batches that have nothing here.
    pub(super) fn wake_batches(&mut self) -> Result<(), DatabaseError> {
        if self.state.batches.due.is_none_or(|at| at > self.now) {
            return Ok(());
        }
        let rows = self.db.run(
            "-- batches::due
            SELECT id FROM batch WHERE due_at <= CAST(? AS INTEGER) ORDER BY due_at LIMIT CAST(? AS INTEGER)",
            &[Value::Number(self.now.0), Value::Number(DUE_BATCHES_MAX)],
        )?;
        let mut left = TURN_ROWS_MAX;
        for mut row in rows {
            let Some(id) = BatchId::parse(&row.text()?) else {
                continue;
            };
            if left > 0 {
                left = left.saturating_sub(self.cancel_next(&id, left)?);
            }
        }
        Ok(())
    }

    /// Answers the calls that have waited for a batch long enough.
    pub(super) fn tick_batches(&mut self) -> Result<(), DatabaseError> {
        let now = self.now;
        let waiters = self.state.batches.waiters.iter();
        let late: Vec<CallId> = waiters
            .filter(|(_, waiter)| waiter.deadline <= now)
            .map(|(call, _)| *call)
            .collect();
        self.answer_waiters(late)
    }

    fn answer_waiters(&mut self, calls: Vec<CallId>) -> Result<(), DatabaseError> {
        for call in calls {
            let Some(waiter) = self.state.batches.waiters.remove(&call) else {
                continue;
            };
            let reply = match self.batch(&waiter.batch)?.cloned() {
                Some(batch) => shown(&self.state.view_of(&waiter.batch, &batch)),
                None => Err(Error::not_found()),
            };
            self.reply(call, reply);
        }
        Ok(())
    }

    /// Writes what the turn has changed: the last thing that it does with batches.
    pub(super) fn write_batches(&mut self) -> Result<(), DatabaseError> {
        if self.state.batches.touched.is_empty() {
            return Ok(());
        }
        self.answer_ended()?;
        let mut due_changes = false;
        for (id, changed) in core::mem::take(&mut self.state.batches.touched) {
            let Some(batch) = self.state.batches.known.get(&id) else {
                continue;
            };
            due_changes |= changed && batch.cancelled_at.is_some();
            let forgotten = batch.accepted == 0 && batch.due_at().is_none_or(|at| at <= self.now);
            if changed && (batch.is_over() || forgotten) {
                Batch::delete(self.db, &id)?;
                self.state.batches.known.remove(&id);
                continue;
            }
            if changed {
                batch.store(self.db, &id)?;
            }
            if batch.open() == 0 {
                self.state.batches.known.remove(&id);
            }
        }
        if due_changes {
            self.state.batches.due = earliest_due(self.db)?;
        }
        Ok(())
    }

    /// Answers the calls that wait for a batch of which every job has ended.
    fn answer_ended(&mut self) -> Result<(), DatabaseError> {
        let Batches {
            known,
            touched,
            waiters,
            ..
        } = &self.state.batches;
        if waiters.is_empty() {
            return Ok(());
        }
        let ended: SortedSet<&BatchId> = touched
            .keys()
            .filter(|id| known.get(*id).is_none_or(|batch| batch.open() == 0))
            .collect();
        let ready = waiters.iter().filter(|(_, waiter)| ended.contains(&waiter.batch));
        let ready = ready.map(|(call, _)| *call).collect();
        self.answer_waiters(ready)
    }
}

/// The refusal of what comes for a batch after its cancel.
pub(super) fn refused() -> Error {
    Error::new(
        ErrorCode::Cancelled,
        "The batch was cancelled before this request of it came.",
    )
}

fn shown(view: &BatchView) -> Result<Reply, Error> {
    let text = JsonText::of(view).ok_or_else(|| Error::new(ErrorCode::InternalError, "A batch could not be shown."))?;
    Ok(Reply::Batch(text))
}
