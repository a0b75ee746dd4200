//! The alarm: whatever must happen although nobody calls.

use alloc::vec::Vec;

use tidegate_protocol::calls::hub::Delivery;
use tidegate_protocol::event::{Happening, Payload};
use tidegate_protocol::ids::JobNumber;

use super::doorbells::{any_lost_doorbell, forget_lost_doorbell};
use super::follow::stored_key;
use super::history::{forget, sweepable};
use super::row::set_due;
use super::{Effect, REDELIVERY_MS, SWEEP_MS, Turn};
use crate::database::{Database, DatabaseError, Value, from_blob};

impl<D: Database> Turn<'_, D> {
    pub(super) fn wake(&mut self) -> Result<(), DatabaseError> {
        let now = self.now;
        self.give_up_due()?;
        let lost: Vec<JobNumber> = self
            .state
            .running
            .iter()
            .filter(|(_, lease)| lease.until <= now)
            .map(|(number, _)| *number)
            .collect();
        for number in lost {
            self.lose(number)?;
        }
        self.fail_silent()?;
        self.look_for_followers()?;
        self.redeliver()?;
        self.raise_watermark()?;
        self.sweep()?;
        self.wake_batches()?;
        self.tick()?;
        self.run_schedules()?;
        self.fill()
    }

    /// Sends ends again that were not confirmed.
    fn redeliver(&mut self) -> Result<(), DatabaseError> {
        let now = self.now;
        let due = self
            .state
            .undelivered
            .iter_mut()
            .filter(|(_, undelivered)| undelivered.retry_at <= now);
        let due: Vec<_> = due
            .map(|(number, undelivered)| {
                undelivered.retry_at = now.plus(REDELIVERY_MS);
                (*number, undelivered.hubs.clone())
            })
            .collect();
        for (number, hubs) in due {
            let job = self.load_number(number)?;
            let Some((id, event)) = job.and_then(|job| job.outcome.map(|event| (job.id, event))) else {
                self.state.undelivered.remove(&number);
                continue;
            };
            if hubs.is_empty() {
                self.state.undelivered.remove(&number);
                set_due(self.db, number, None)?;
            }
            for hub in hubs {
                self.effects.push(Effect::Deliver {
                    hub,
                    delivery: Delivery {
                        job: id,
                        event: event.clone(),
                    },
                });
            }
        }
        Ok(())
    }

    /// Gives an index entry to every row that is still alive without one, so that a recovery need not look at rows
    /// below the watermark, and stores how far the leases go that were renewed in memory.
    fn raise_watermark(&mut self) -> Result<(), DatabaseError> {
        let now = self.now;
        let running = self.state.running.iter_mut();
        for (number, lease) in running.filter(|(_, lease)| !lease.indexed || lease.stored_until <= now) {
            set_due(self.db, *number, Some(lease.until))?;
            if let Some(job) = self.state.rows.get_mut(number) {
                job.due_at = Some(lease.until);
            }
            lease.stored_until = lease.until;
            lease.indexed = true;
        }
        for (number, undelivered) in self
            .state
            .undelivered
            .iter_mut()
            .filter(|(_, undelivered)| !undelivered.indexed)
        {
            set_due(self.db, *number, Some(now))?;
            undelivered.indexed = true;
        }
        if self.state.watermark < self.state.last {
            self.state.watermark = self.state.last;
            self.db.run(
                "-- jobs::raise_watermark
                INSERT INTO watermark (id, number) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET number = excluded.number",
                &[Value::Number(self.state.last.0)],
            )?;
        }
        // Whatever has left a pack is found without it from here on.
        self.state.packs.settle(self.db)
    }

    /// Deletes jobs past their retention, a bounded number at a time, with what they own in object storage.
    fn sweep(&mut self) -> Result<(), DatabaseError> {
        if self.state.sweep_at.is_none_or(|at| at > self.now) {
            return Ok(());
        }
        self.state.gates.sweep(self.db, self.now)?;
        let limit = sweepable(self.db, self.now)?;
        let rows = self.db.run(
            "-- jobs::sweep
            DELETE FROM job WHERE number IN (
                SELECT number FROM job WHERE expires_at <= CAST(?1 AS INTEGER) AND due_at IS NULL
                ORDER BY number LIMIT CAST(?2 AS INTEGER))
            RETURNING number, payload, outcome, reported IS NOT NULL, batch",
            &[Value::Number(self.now.0), Value::Number(limit)],
        )?;
        let full = u64::try_from(rows.len()).unwrap_or(u64::MAX) >= limit;
        let any_doorbell = any_lost_doorbell(self.db)?;
        let mut keys = Vec::new();
        let full = self.sweep_results(&mut keys)? || full;
        for mut row in rows {
            let number = JobNumber(row.number()?);
            self.state.undelivered.remove(&number);
            self.forget_aliases(number)?;
            if any_doorbell {
                forget_lost_doorbell(self.db, number)?;
            }
            let payload: Payload = from_blob(&row.blob()?)?;
            keys.extend(stored_key(&payload).map(Into::into));
            let outcome = row.optional_blob()?;
            if row.number()? > 0 {
                forget(self.db, number)?;
            }
            if let Some(batch) = row.optional_text()? {
                self.sweep_from_batch(&batch)?;
            }
            if let Some(outcome) = outcome {
                let event: tidegate_protocol::event::Event = from_blob(&outcome)?;
                if let Happening::Completed { result } = event.what {
                    keys.extend(stored_key(&result).map(Into::into));
                }
            }
        }
        if !keys.is_empty() {
            self.effects.push(Effect::DeleteBlobs { keys });
        }
        let mut next = self.db.run(
            "-- jobs::sweep
            SELECT min(at) FROM (
                SELECT min(expires_at) AS at FROM job
                UNION ALL SELECT min(result_until) FROM job WHERE result_until IS NOT NULL)",
            &[],
        )?;
        let earliest = match next.pop() {
            Some(mut row) => row.optional_number()?,
            None => None,
        };
        let pause = if full { 1 } else { SWEEP_MS };
        self.state.sweep_at = earliest.map(|at| tidegate_protocol::time::UnixMs(at).max(self.now.plus(pause)));
        Ok(())
    }
}
