//! Holding jobs back and letting them go, and saying what a job waits for.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::jobs::Reply;
use tidegate_protocol::calls::queueing::{Counted, Pause, PauseScope, Queueing, Rule, WhenFull};
use tidegate_protocol::event::{Happening, JobState, JsonText};
use tidegate_protocol::http::{ActionQueue, AuditTarget, AuditWhat, QueueView, Reason, Why};
use tidegate_protocol::ids::{FencingToken, JobId, JobNumber};
use tidegate_protocol::limits::HOLDERS_SHOWN_MAX;
use tidegate_protocol::{Error, ErrorCode};

use super::change::Control;
use super::gates::{Gate, LimitKey};
use super::lanes::Shape;
use super::letters;
use super::row::Job;
use super::{CallId, Effect, PAUSES_MAX, Turn};
use crate::database::{Database, DatabaseError, Value};

/// Actions shown of a queue.
const ACTIONS_SHOWN_MAX: usize = 100;

impl<D: Database> Turn<'_, D> {
    /// Holds jobs back. What runs goes on; a scope that is paused already stays so.
    pub(super) fn pause(&mut self, call: CallId, scope: PauseScope, caller: &Caller) -> Result<(), DatabaseError> {
        let pauses = self.state.gates.pauses();
        let reply = if !caller.writes_all {
            Err(forbidden())
        } else if pauses.len() >= PAUSES_MAX && !pauses.iter().any(|pause| pause.scope == scope) {
            let message = format!("{PAUSES_MAX} pauses are in place already: resume some first.");
            Err(Error::new(ErrorCode::Conflict, message))
        } else {
            let pause = Pause {
                scope,
                by: caller.user.clone(),
                since: self.now,
            };
            let new = !pauses.iter().any(|known| known.scope == pause.scope);
            self.state.gates.pause(self.db, &pause)?;
            if new {
                let target = AuditTarget {
                    scope: Some(pause.scope),
                    ..AuditTarget::default()
                };
                self.note(caller, AuditWhat::QueuePaused, target, None)?;
            }
            Ok(Reply::Done)
        };
        self.reply(call, reply);
        Ok(())
    }

    /// Lets jobs go again. A scope that is not paused stays so.
    pub(super) fn resume(&mut self, call: CallId, scope: PauseScope, caller: &Caller) -> Result<(), DatabaseError> {
        let reply = if caller.writes_all {
            if self.state.gates.pauses().iter().any(|known| known.scope == scope) {
                let target = AuditTarget {
                    scope: Some(scope.clone()),
                    ..AuditTarget::default()
                };
                self.note(caller, AuditWhat::QueueResumed, target, None)?;
            }
            self.state.gates.resume(self.db, &scope)?;
            self.state.lanes.opened(&Gate::Paused(scope));
            self.place_freed = true;
            Ok(Reply::Done)
        } else {
            Err(forbidden())
        };
        self.reply(call, reply);
        Ok(())
    }

    /// Shows what runs, what waits, and what is held back.
    pub(super) fn queue(&mut self, call: CallId, caller: &Caller) -> Result<(), DatabaseError> {
        let reply = if caller.reads_all || caller.writes_all {
            let actions = self.state.lanes.by_action().take(ACTIONS_SHOWN_MAX);
            Ok(Reply::Queue(QueueView {
                running: u64::try_from(self.state.running()).unwrap_or(u64::MAX),
                waiting: self.state.lanes.jobs(),
                actions: actions
                    .map(|(action, waiting)| ActionQueue { action, waiting })
                    .collect(),
                pauses: self.state.gates.pauses(),
                pools: self.state.pools(self.now),
                dead_letters: letters::count(self.db)?,
                oldest_waiting_at: self.state.lanes.oldest().filter(|due| *due <= self.now),
                ..QueueView::default()
            }))
        } else {
            Err(Error::new(
                ErrorCode::Forbidden,
                "Showing a tenant's queue takes the scope `jobs:read`.",
            ))
        };
        self.reply(call, reply);
        Ok(())
    }

    /// Says what a job waits for.
    pub(super) fn why(&mut self, call: CallId, id: JobId, caller: &Caller) -> Result<(), DatabaseError> {
        let reply = match self.visible(id, caller)? {
            Some(job) => {
                let why = Why {
                    job_id: id,
                    status: job.state,
                    waits_for: self.reasons(&job, caller)?,
                };
                JsonText::of(&why)
                    .map(Reply::Why)
                    .ok_or_else(|| Error::new(ErrorCode::InternalError, "An answer could not be written."))
            }
            None => Err(Error::not_found()),
        };
        self.reply(call, reply);
        Ok(())
    }

    fn reasons(&self, job: &Job, caller: &Caller) -> Result<Vec<Reason>, DatabaseError> {
        let mut reasons = Vec::new();
        if let Some(Control::Paused { by, since, .. }) = &job.control {
            let (by, since) = (by.clone(), *since);
            reasons.push(Reason::PausedAlone { by, since });
            return Ok(reasons);
        }
        if !job.state.is_waiting() {
            return Ok(reasons);
        }
        if let Some(until) = job.due_at.filter(|due| *due > self.now) {
            reasons.push(match (job.state, job.spec.policy.dispatch) {
                (JobState::Retrying, _) => Reason::Retrying { until },
                (JobState::Queued, dispatch) if dispatch.rings() => Reason::Doorbell { until },
                _ => Reason::Delayed { until },
            });
        }
        let shape = Shape::of(&job.spec);
        for gate in self.state.gates.closed(&shape, self.now) {
            reasons.extend(self.reason(gate, &shape, caller));
        }
        let (has_place, running) = match shape.pool() {
            None => {
                let ours = self.state.running().saturating_sub(self.state.gates.pulled());
                (self.state.has_place(), ours)
            }
            Some(_) => (self.state.has_lease(), self.state.gates.pulled()),
        };
        if !has_place {
            let running = u32::try_from(running).unwrap_or(u32::MAX);
            reasons.push(Reason::Places { running });
        }
        let ahead = self.ahead(job, &shape)?;
        if ahead > 0 {
            reasons.push(Reason::Behind { ahead });
        }
        if let Some(pool) = shape.pool() {
            let asked_at = self.state.asked_at(pool, self.now);
            let pool = pool.clone();
            reasons.push(Reason::Worker { pool, asked_at });
        }
        Ok(reasons)
    }

    fn reason(&self, gate: Gate, shape: &Shape, caller: &Caller) -> Option<Reason> {
        let key = match gate {
            Gate::Paused(scope) => {
                let pauses = self.state.gates.pauses();
                return pauses
                    .into_iter()
                    .find(|pause| pause.scope == scope)
                    .map(Reason::Paused);
            }
            Gate::Limit(key) => key,
        };
        let rule = self.state.gates.rule(&key.limit)?;
        if self.state.spread.opened_at().is_none() && matches!(rule, Rule::Rate { .. }) {
            let LimitKey { limit, key } = key;
            return Some(Reason::Growing { limit, key });
        }
        Some(match rule {
            Rule::Concurrency { max } => Reason::Limit {
                max,
                held_by: self.visible_holders(&key, caller),
                limit: key.limit,
                key: key.key,
            },
            Rule::Rate { .. } => Reason::Throttled {
                until: self.state.gates.room_at(&key, shape.cost(&key))?,
                limit: key.limit,
                key: key.key,
            },
        })
    }

    /// Says which jobs here hold places under a limit.
    pub(super) fn holders_here(&mut self, call: CallId, limit: String, key: String, caller: &Caller) {
        let holders = self.visible_holders(&LimitKey { limit, key }, caller);
        self.reply(call, Ok(Reply::Holders(holders)));
    }

    /// Jobs that hold a place under a limit and that the caller may see, the oldest first.
    fn visible_holders(&self, key: &LimitKey, caller: &Caller) -> Vec<JobId> {
        self.holders(key)
            .filter(|job| caller.may_read(&job.spec.user))
            .map(|job| job.id)
            .take(HOLDERS_SHOWN_MAX)
            .collect()
    }

    /// Running jobs that hold a place under a limit, the oldest first.
    fn holders(&self, key: &LimitKey) -> impl Iterator<Item = &Job> {
        let holds = move |number: &JobNumber| {
            let lease = self.state.running.get(number);
            lease.is_some_and(|lease| lease.shape.limits().any(|(own, _)| own == key))
        };
        self.state
            .rows
            .iter()
            .filter(move |(number, _)| holds(number))
            .map(|(_, job)| job)
    }

    /// How many jobs of its lane come before a job.
    fn ahead(&self, job: &Job, shape: &Shape) -> Result<u64, DatabaseError> {
        let Some(due) = job.due_at else { return Ok(0) };
        let rows = self.db.run(
            "-- jobs::ahead
            SELECT count(*) FROM job WHERE lane = CAST(?1 AS TEXT) AND due_at IS NOT NULL AND state < 3
                AND (due_at, number) < (CAST(?2 AS INTEGER), CAST(?3 AS INTEGER))",
            &[
                Value::Text(&shape.name()?),
                Value::Number(due.0),
                Value::Number(job.id.number().0),
            ],
        )?;
        let stored = rows.into_iter().next().map_or(Ok(0), |mut row| row.number())?;
        Ok(stored + self.state.packs.ahead(&shape.name()?, due, job.id.number()))
    }

    /// Why a job cannot be accepted, where one of its limits refuses what it has no room for.
    pub(super) fn refusal(&self, queueing: &Queueing, shape: &Shape) -> Option<Error> {
        let refuses = |counted: &&Counted| counted.when_full == WhenFull::Refuse;
        queueing.limits.iter().filter(refuses).find_map(|counted| {
            let key = LimitKey::from(counted);
            let gate = Gate::Limit(key.clone());
            if self.state.gates.lets(&gate, shape, self.now) {
                return None;
            }
            let until = self.state.gates.room_at(&key, shape.cost(&key));
            let wait_ms = until.map_or(1000, |until| until.since(self.now));
            let message = match counted.key.as_str() {
                "" => format!("The limit `{}` has no room.", counted.limit),
                key => format!("The limit `{}` has no room for `{key}`.", counted.limit),
            };
            Some(Error::new(ErrorCode::QueueFull, message).retry_after(wait_ms))
        })
    }

    /// Makes room for a job by cancelling the oldest that run under limits which say so, where nothing else holds the new
    /// one back.
    pub(super) fn replace_running(&mut self, queueing: &Queueing, shape: &Shape) -> Result<(), DatabaseError> {
        let replacing = |counted: &&Counted| counted.when_full == WhenFull::Replace;
        let replaces = |gate: Gate| match gate {
            Gate::Paused(_) => false,
            Gate::Limit(key) => queueing
                .limits
                .iter()
                .filter(replacing)
                .any(|counted| LimitKey::from(counted) == key),
        };
        if !self.state.gates.closed(shape, self.now).all(replaces) {
            return Ok(());
        }
        for counted in queueing.limits.iter().filter(replacing) {
            let key = LimitKey::from(counted);
            let Some(Rule::Concurrency { max }) = self.state.gates.rule(&key.limit) else {
                continue;
            };
            if self.state.gates.is_shared(&key) {
                if !self.state.gates.lets(&Gate::Limit(key.clone()), shape, self.now) {
                    self.replace_shared(&key)?;
                }
                continue;
            }
            while self.state.gates.held(&key) >= max && self.end_oldest(&key)? {
                self.place_freed = true;
            }
        }
        Ok(())
    }

    /// Ends the oldest job that runs under a limit, for a newer one. False where none does.
    pub(super) fn end_oldest(&mut self, key: &LimitKey) -> Result<bool, DatabaseError> {
        let message = format!("A newer job took its place under the limit `{}`.", key.limit);
        let error = Error::new(ErrorCode::Cancelled, message);
        let what = Happening::Failed { error };
        let oldest = self.holders(key).next().cloned();
        if let Some(job) = oldest {
            if let Some(lease) = self.state.running.get(&job.id.number()) {
                let token = lease.token;
                self.effects.push(Effect::Abandon { job: job.id, token });
            }
            self.end(job, JobState::Cancelled, what)?;
        } else if let Some((job, token)) = self.unstored_holder(key) {
            self.effects.push(Effect::Abandon { job, token });
            self.end_unstored(job.number(), what);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// A job without a row that holds a place under a limit, and its token.
    fn unstored_holder(&self, key: &LimitKey) -> Option<(JobId, FencingToken)> {
        let mut unstored = self.state.unstored.values();
        let found = unstored.find(|unstored| unstored.shape.limits().any(|(own, _)| own == key));
        found.map(|unstored| (unstored.id, unstored.token))
    }
}

fn forbidden() -> Error {
    Error::new(
        ErrorCode::Forbidden,
        "Pausing and resuming a tenant's jobs takes the scope `jobs:write`.",
    )
}
