//! How long a job may take: when it is given up, whether it waits or runs, and when an attempt says nothing for too long.
//!
//! The moment at which a job is given up is a column of its own, NULL where no limit is set, so that jobs without limits
//! pay nothing for it. How long an attempt has been silent is in memory, and in its row from which that is built: it costs
//! no row. All this is decided by the alarm, and by a claim, which starts nothing that is over.

use alloc::vec::Vec;

use tidegate_protocol::Error;
use tidegate_protocol::calls::executor::{Outcome, Policy};
use tidegate_protocol::error::TimeLimit;
use tidegate_protocol::event::{Happening, JobState};
use tidegate_protocol::ids::JobNumber;
use tidegate_protocol::time::UnixMs;

use super::cancel::cancelled;
use super::row::{Job, columns};
use super::state::State;
use super::{Effect, TURN_ROWS_MAX, Turn};
use crate::database::{Database, DatabaseError, Value};

/// Whether a limit may pass within `ms` milliseconds of the start of a first attempt.
pub(super) fn limited_within(policy: &Policy, ms: u64) -> bool {
    let limits = [policy.total_timeout_ms, policy.heartbeat_timeout_ms];
    limits.into_iter().flatten().any(|limit_ms| limit_ms <= ms)
}

impl Job {
    /// The limit that ends the job next unless something else does, and its length in milliseconds.
    fn limit(&self) -> Option<(TimeLimit, u64)> {
        let policy = &self.spec.policy;
        let queue = policy.queue_timeout_ms.filter(|_| self.attempt == 0);
        let queue = queue.map(|ms| (TimeLimit::Queue, ms));
        let total = policy.total_timeout_ms.map(|ms| (TimeLimit::Total, ms));
        queue.into_iter().chain(total).min_by_key(|(_, ms)| *ms)
    }

    /// When that limit passes. It counts from when the job may start.
    fn limit_at(&self) -> Option<UnixMs> {
        let from = self.spec.run_at.unwrap_or_default().max(self.created_at);
        self.limit().map(|(_, ms)| from.plus(ms))
    }

    /// Whether the job is to be given up.
    pub(super) fn is_over(&self, now: UnixMs) -> bool {
        self.give_up_at.is_some_and(|at| at <= now)
    }

    /// When the attempt under way has been silent for too long. A claim counts as a sign, and so do progress, text
    /// and a checkpoint: what else renews a lease leaves `changed_at` alone.
    fn silent_at(&self) -> Option<UnixMs> {
        let limit_ms = self.spec.policy.heartbeat_timeout_ms?;
        Some(self.changed_at.plus(limit_ms))
    }
}

impl State {
    /// When a limit of time may pass: the earliest of a job, and of the silence of an attempt.
    pub(super) fn limits_at(&self) -> Option<UnixMs> {
        let silent = self.rows.values().filter_map(Job::silent_at);
        silent.chain(self.give_up_at).min()
    }

    /// The earliest moment at which a stored job is to be given up.
    pub(super) fn earliest_give_up(db: &impl Database) -> Result<Option<UnixMs>, DatabaseError> {
        let rows = db.run(
            "-- jobs::earliest_give_up
            SELECT min(give_up_at) FROM job WHERE give_up_at IS NOT NULL",
            &[],
        )?;
        let at = rows
            .into_iter()
            .next()
            .map(|mut row| row.optional_number())
            .transpose()?;
        Ok(at.flatten().map(UnixMs))
    }
}

impl<D: Database> Turn<'_, D> {
    /// Notes when a job that is about to be inserted is given up.
    pub(super) fn limit(&mut self, job: &mut Job) {
        job.give_up_at = job.limit_at();
        let known = self.state.give_up_at.into_iter();
        self.state.give_up_at = known.chain(job.give_up_at).min();
    }

    /// The same for a job whose first attempt begins. Two rows where that changes anything: one in the index leaves, and
    /// another comes where there is a limit on the whole.
    pub(super) fn limit_again(&mut self, job: &mut Job) -> Result<(), DatabaseError> {
        let before = job.give_up_at;
        self.limit(job);
        if job.give_up_at == before {
            return Ok(());
        }
        store_limit(self.db, job)
    }

    /// Forgets the limit of a job that ends. Nothing is written where there is none. An alarm that was set for it finds
    /// nothing to do, and takes the next.
    pub(super) fn forget_limit(&mut self, job: &mut Job) -> Result<(), DatabaseError> {
        match job.give_up_at.take() {
            Some(_) => store_limit(self.db, job),
            None => Ok(()),
        }
    }

    /// Gives up the jobs whose time is over, a bounded number at a time, the longest due first.
    pub(super) fn give_up_due(&mut self) -> Result<(), DatabaseError> {
        if self.state.give_up_at.is_none_or(|at| at > self.now) {
            return Ok(());
        }
        let rows = self.db.run(
            columns!("WHERE give_up_at <= CAST(? AS INTEGER) ORDER BY give_up_at LIMIT CAST(? AS INTEGER)"),
            &[Value::Number(self.now.0), Value::Number(TURN_ROWS_MAX)],
        )?;
        for job in Job::all(rows)? {
            self.give_up(job)?;
        }
        let next = State::earliest_give_up(self.db)?;
        self.state.give_up_at = next.map(|at| at.max(self.now.plus(1)));
        Ok(())
    }

    /// Ends a job whose time is over. An attempt under way loses its lease, so that what it still says changes nothing.
    pub(super) fn give_up(&mut self, mut job: Job) -> Result<(), DatabaseError> {
        let Some((limit, ms)) = job.limit() else {
            self.forget_limit(&mut job)?;
            return self.save(&job);
        };
        if let Some(lease) = self.state.running.get(&job.id.number()) {
            self.effects.push(Effect::Abandon {
                job: job.id,
                token: lease.token,
            });
        }
        let (state, error) = if job.cancelled_until().is_some() {
            (JobState::Cancelled, cancelled())
        } else if job.attempt == 0 {
            (JobState::Expired, Error::expired(limit, ms))
        } else {
            (JobState::Failed, Error::timed_out(limit, ms))
        };
        self.end(job, state, Happening::Failed { error })
    }

    /// Fails the attempts that have been silent for too long.
    pub(super) fn fail_silent(&mut self) -> Result<(), DatabaseError> {
        let now = self.now;
        let rows = self.state.rows.iter();
        let silent: Vec<JobNumber> = rows
            .filter(|(_, job)| job.silent_at().is_some_and(|at| at <= now))
            .map(|(number, _)| *number)
            .collect();
        for number in silent {
            let Some(job) = self.load_number(number)? else { continue };
            if let Some(lease) = self.state.running.get(&number) {
                self.effects.push(Effect::Abandon {
                    job: job.id,
                    token: lease.token,
                });
            }
            let ms = job.spec.policy.heartbeat_timeout_ms.unwrap_or(0);
            let error = Error::timed_out(TimeLimit::Heartbeat, ms);
            self.settle(job, Outcome::Failed { error })?;
        }
        Ok(())
    }
}

fn store_limit(db: &impl Database, job: &Job) -> Result<(), DatabaseError> {
    db.run(
        "-- jobs::store_limit
        UPDATE job SET give_up_at = ? WHERE number = CAST(? AS INTEGER)",
        &[
            Value::optional(job.give_up_at.map(|at| at.0)),
            Value::Number(job.id.number().0),
        ],
    )?;
    Ok(())
}
