//! Attempts: claiming a job, signs of life, outcomes, lost leases, cancels. The only place where a job changes state.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::executor::{Execute, Outcome};
use tidegate_protocol::calls::hooks::Hook;
use tidegate_protocol::calls::hub::Delivery;
use tidegate_protocol::calls::jobs::Reply;
use tidegate_protocol::calls::reporting::Notes;
use tidegate_protocol::changes::ChangeKind;
use tidegate_protocol::error::TimeLimit;
use tidegate_protocol::event::{Event, Happening, JobState, Payload, Progress};
use tidegate_protocol::ids::{FencingToken, JobId, JobNumber};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::backoff::wait_ms;
use super::heads::Heads;
use super::lanes::Shape;
use super::notes::{check_streams, news, progressed};
use super::ordered::is_ordered;
use super::row::Job;
use super::state::{Lease, Undelivered, Waiting};
use super::{CallId, Effect, LOSSES_MAX, PROGRESS_BYTES_MAX, REDELIVERY_MS, TURN_ROWS_MAX, Turn};
use crate::database::{Database, DatabaseError};
use crate::reporting::check;

impl<D: Database> Turn<'_, D> {
    /// What the executor is told of an attempt.
    pub(super) fn execution(&self, job: &Job, payload: Payload) -> Box<Execute> {
        let spec = &job.spec;
        Box::new(Execute {
            job: job.id,
            token: job.token,
            attempt: job.attempt,
            user: spec.user.clone(),
            action: spec.action.clone(),
            revision: spec.revision.clone(),
            payload,
            metadata: spec.metadata.clone(),
            checkpoint: job.checkpoint.clone(),
            deadline: job.attempt_until,
            lease_ms: spec.policy.lease_ms,
            cancel_grace_ms: spec.policy.cancel_grace_ms,
            sharing: spec.policy.sharing,
            reporting: spec.policy.reporting,
            traceparent: spec.traceparent.clone(),
            message: spec
                .hook
                .as_ref()
                .and_then(Hook::message)
                .map(|message| self.state.endpoints.addressed(message)),
            runs: spec.policy.revision,
        })
    }

    /// Starts waiting jobs while there is a place: whichever is next, see [`super::lanes`].
    pub(super) fn fill(&mut self) -> Result<(), DatabaseError> {
        self.place_freed = false;
        let mut heads = Heads::new();
        let mut turns = TURN_ROWS_MAX;
        while self.state.has_place() && turns > 0 {
            let Some(lane) = self.state.lanes.next(&self.state.gates, self.now) else {
                break;
            };
            turns -= 1;
            self.write_packs()?;
            // Where lanes take turns, the next job of this one may not be the next to start.
            let ahead = if self.state.lanes.one_is_ready() {
                self.state.places()
            } else {
                1
            };
            match heads.take((self.db, self.state), &lane, self.now, ahead)? {
                Some((job, payload)) => {
                    let claimed = self.claim(job, payload, heads.next_due(&lane))?;
                    self.effects.extend(claimed.map(Effect::Execute));
                }
                None => self.look_again(&lane)?,
            }
        }
        Ok(())
    }

    /// Nothing of the lane may start now, whatever memory says.
    pub(super) fn look_again(&mut self, lane: &str) -> Result<(), DatabaseError> {
        match self.head(lane, 0)? {
            Some(head) => self.state.lanes.set_head(lane, head.max(self.now.plus(1))),
            None => self.state.lanes.remove(lane, None),
        }
        Ok(())
    }

    /// A doorbell. A job doubly rung runs once: only one that waits is claimed. One that something else holds back as
    /// well waits for that, no longer for its doorbell.
    pub(super) fn start(&mut self, call: CallId, id: JobId) -> Result<(), DatabaseError> {
        if let Some(mut job) = self.load(id)?
            && job.state == JobState::Queued
            && job.spec.policy.pool.is_none()
        {
            let shape = Shape::of(&job.spec);
            if self.state.has_place() && self.state.gates.closed(&shape, self.now).next().is_none() {
                let payload = self.payload_of(id.number())?;
                let claimed = self.claim(job, payload, None)?;
                self.effects.extend(claimed.map(Effect::Execute));
            } else if job.due_at.is_some_and(|due| due > self.now) {
                self.own_row(&job)?;
                job.set_due(self.db, Some(self.now))?;
                self.wait_otherwise(&job)?;
                self.place_freed = true;
            }
        }
        self.reply(call, Ok(Reply::Done));
        Ok(())
    }

    /// Starts an attempt of a job that waits, and gives what is to be done; `None` where the job's time is over, or its
    /// batch was cancelled. `head` is
    /// the time of the one behind it in its lane, where that is known.
    pub(super) fn claim(
        &mut self,
        mut job: Job,
        payload: Payload,
        head: Option<UnixMs>,
    ) -> Result<Option<Box<Execute>>, DatabaseError> {
        if job.is_over(self.now) {
            self.give_up(job)?;
            return Ok(None);
        }
        if self.is_cancelled(job.spec.batch.as_ref())? {
            self.cancel_by_force(job)?;
            return Ok(None);
        }
        // A lost lease or an unfinished run goes on with its attempt; a failed attempt is followed by the next. One that
        // put itself off goes on as well, with all its time.
        let counts = job.state == JobState::Retrying || job.attempt == 0;
        if counts || job.state == JobState::Scheduled {
            job.attempt_until = self.now.plus(job.spec.policy.timeout_ms);
        }
        if counts {
            job.attempt += 1;
            job.progress = Progress::default();
            job.started_at = Some(self.now);
            self.limit_again(&mut job)?;
        }
        job.state = JobState::Running;
        job.token = FencingToken(job.token.0 + 1);
        job.changed_at = self.now;
        let begun = if counts {
            self.note_start(&mut job, self.now)?
        } else {
            None
        };
        if self.state.packs.holds(job.id.number()) {
            // Its row comes without an entry in the index: its pack tells of it until an alarm has seen to that.
            job.due_at = None;
        }
        self.save_with(&job, Some(&payload))?;
        self.note_change(&job, ChangeKind::Started, None);
        if let Some(event) = begun {
            self.tell(&job, &event)?;
        }
        // The row's entry in the index may lie beyond this lease: that of a doorbell that rang before its grace was over.
        let until = self.now.plus(job.spec.policy.lease_ms);
        let lease = Lease {
            until,
            stored_until: until,
            ..Lease::stored(&job)
        };
        self.state.gates.take(self.db, self.now, &lease.shape)?;
        let lane = lease.shape.name()?;
        let head = match head {
            Some(head) => Some(head),
            None => self.head(&lane, 1)?,
        };
        self.state.backlog.leaves(&job, self.now);
        self.state.lanes.charge(&lane);
        self.state.lanes.remove(&lane, head);
        self.state.running.insert(job.id.number(), lease);
        Ok(Some(self.execution(&job, payload)))
    }

    /// Whether `token` is the one under which the job runs. An old token changes nothing.
    pub(super) fn holds(&self, id: JobId, token: FencingToken) -> bool {
        self.state
            .running
            .get(&id.number())
            .is_some_and(|lease| lease.token == token)
    }

    /// Whether `token` is the one under which a job without a row runs.
    fn holds_unstored(&self, id: JobId, token: FencingToken) -> bool {
        let unstored = self.state.unstored.get(&id.number());
        unstored.is_some_and(|unstored| unstored.id == id && unstored.token == token)
    }

    /// A sign of life: renews the lease, and stores how far the attempt is.
    pub(super) fn report(
        &mut self,
        call: CallId,
        id: JobId,
        token: FencingToken,
        progress: Option<Progress>,
        checkpoint: Option<String>,
        notes: Option<Notes>,
    ) -> Result<(), DatabaseError> {
        let progress = progress.map(bounded);
        if let Some(Err(error)) = notes.as_ref().map(check) {
            self.reply(call, Err(error));
            return Ok(());
        }
        // What is written is kept in rows of its own, which take one of the job.
        if notes.as_ref().is_some_and(|notes| !notes.is_empty()) && self.holds_unstored(id, token) {
            self.store(id.number())?;
        }
        if let Some(unstored) = self
            .state
            .unstored
            .get_mut(&id.number())
            .filter(|u| u.id == id && u.token == token)
        {
            let lease_until = self.now.plus(unstored.enqueue.job.policy.lease_ms);
            unstored.progress = progress.or(unstored.progress.take());
            let old = if checkpoint.is_some() {
                unstored.checkpoint.take()
            } else {
                None
            };
            let replaced = old.filter(|old| checkpoint.as_ref() != Some(old));
            unstored.checkpoint = checkpoint.or(unstored.checkpoint.take());
            if let Some(old) = replaced {
                self.effects.push(Effect::DeleteBlobs { keys: alloc::vec![old] });
            }
            self.reply(
                call,
                Ok(Reply::Continue {
                    lease_until,
                    cancelled_until: None,
                }),
            );
            return Ok(());
        }
        let loaded = if self.holds(id, token) { self.load(id)? } else { None };
        let Some(mut job) = loaded else {
            let lost = self.lease_lost(id, token)?;
            self.reply(call, Err(lost));
            return Ok(());
        };
        let notes = news(&job, token, notes);
        if let Some(Err(error)) = notes.as_ref().map(|notes| check_streams(&job, notes)) {
            self.reply(call, Err(error));
            return Ok(());
        }
        // A lease outlives its attempt's time by one lease at most, in which the executor says so itself.
        let limit = job.attempt_until.plus(job.spec.policy.lease_ms);
        let lease_until = self.now.plus(job.spec.policy.lease_ms).min(limit);
        // The lease of an attempt that was handed over is longer already. A cancel ends either.
        let lease_until = lease_until.max(job.handed_over_until().unwrap_or_default());
        let cancelled_until = job.cancelled_until();
        let lease_until = cancelled_until.map_or(lease_until, |at| lease_until.min(at));
        if let Some(lease) = self.state.running.get_mut(&id.number()) {
            lease.until = lease_until;
        }
        if let Some(checkpoint) = &checkpoint {
            let old = job.checkpoint.replace(checkpoint.clone());
            (job.losses, job.snoozes) = (0, 0);
            if let Some(old) = old.filter(|old| old != checkpoint) {
                self.effects.push(Effect::DeleteBlobs { keys: alloc::vec![old] });
            }
        }
        let mut events = Vec::new();
        if let Some(notes) = &notes {
            self.take_notes(&mut job, token, notes, &mut events)?;
        }
        if let Some(mut progress) = progressed(&job, progress, notes.as_ref()) {
            progress.percentage = progress.percentage.max(job.progress.percentage);
            job.progress = progress.clone();
            job.snoozes = 0;
            events.push(self.record(&mut job, Happening::Progress(progress))?);
            self.got_on(&job);
        }
        for event in &events {
            self.tell(&job, event)?;
        }
        if !events.is_empty() || checkpoint.is_some() || notes.is_some() {
            job.changed_at = self.now;
            self.save(&job)?;
            if let Some(lease) = self.state.running.get_mut(&id.number()) {
                lease.stored_until = lease_until;
            }
        }
        self.reply(
            call,
            Ok(Reply::Continue {
                lease_until,
                cancelled_until,
            }),
        );
        Ok(())
    }

    /// The outcome of an attempt.
    pub(super) fn finish(
        &mut self,
        call: CallId,
        id: JobId,
        token: FencingToken,
        outcome: Outcome,
    ) -> Result<(), DatabaseError> {
        let number = id.number();
        if self.holds_unstored(id, token) {
            self.place_freed = true;
            self.finish_unstored(number, outcome)?;
            self.reply(call, Ok(Reply::Done));
            return Ok(());
        }
        if !self.holds(id, token) {
            let known = self
                .load(id)?
                .is_some_and(|job| job.ended_attempt_with(token, &outcome));
            let reply = if known {
                Ok(Reply::Done)
            } else {
                Err(self.lease_lost(id, token)?)
            };
            self.reply(call, reply);
            return Ok(());
        }
        let Some(job) = self.load(id)? else {
            let lost = self.lease_lost(id, token)?;
            self.reply(call, Err(lost));
            return Ok(());
        };
        self.place_freed = true;
        self.settle(job, outcome)?;
        self.reply(call, Ok(Reply::Done));
        Ok(())
    }

    /// A job without a row has ended before its deadline: the answer is all there is of it. One that is to be tried
    /// again gets its row now.
    fn finish_unstored(&mut self, number: JobNumber, outcome: Outcome) -> Result<(), DatabaseError> {
        let again = match &outcome {
            // A large result is found by its job, which must be there then.
            Outcome::Succeeded { result } => matches!(result, Payload::Stored { .. }),
            Outcome::Failed { error } => {
                let attempts_max = self
                    .state
                    .unstored
                    .get(&number)
                    .map_or(1, |unstored| unstored.enqueue.job.policy.attempts_max);
                error.retryable && attempts_max > 1
            }
            Outcome::Unfinished | Outcome::Snoozed { .. } | Outcome::HandedOver => true,
        };
        if again {
            let Some(job) = self.store(number)? else { return Ok(()) };
            self.settle(job, outcome)?;
            return self.give_up_waiting(number);
        }
        let what = match outcome {
            Outcome::Succeeded { result } => Happening::Completed { result },
            Outcome::Failed { error } => Happening::Failed { error },
            Outcome::Unfinished | Outcome::Snoozed { .. } | Outcome::HandedOver => return Ok(()),
        };
        self.end_unstored(number, what);
        Ok(())
    }

    /// Ends a job without a row: whoever waits for it is told, and nothing is left of it.
    pub(super) fn end_unstored(&mut self, number: JobNumber, what: Happening) {
        let Some(unstored) = self.state.unstored.remove(&number) else {
            return;
        };
        self.state.give_back(&unstored.shape);
        let event = Event {
            seq: super::row::FIRST.next(),
            attempt: 1,
            at: self.now,
            what,
        };
        self.settle_waiters(unstored.id, &event, false);
        if let Some(key) = unstored.checkpoint {
            self.effects.push(Effect::DeleteBlobs { keys: alloc::vec![key] });
        }
    }

    /// Applies an outcome to a running job: it ends, waits for its next attempt, or goes on.
    pub(super) fn settle(&mut self, mut job: Job, outcome: Outcome) -> Result<(), DatabaseError> {
        self.watch_endpoint(&job, &outcome)?;
        if job.cancelled_until().is_some() {
            return self.end_cancelled(job, outcome);
        }
        let number = job.id.number();
        let error = match outcome {
            Outcome::Succeeded { result } => {
                job.progress.percentage = 100.0;
                return self.end(job, JobState::Succeeded, Happening::Completed { result });
            }
            Outcome::Unfinished => {
                self.state.release(number);
                job.state = JobState::Queued;
                job.attempt_until = self.now.plus(job.spec.policy.timeout_ms);
                job.changed_at = self.now;
                self.save(&job)?;
                job.set_due(self.db, Some(self.now))?;
                self.note_change(&job, ChangeKind::Waiting, None);
                return self.wait(&job);
            }
            Outcome::Snoozed { ms } => return self.snooze(job, ms),
            Outcome::HandedOver => return self.hand_over(job),
            Outcome::Failed { error } => error,
        };
        if !error.retryable || job.attempt >= job.spec.policy.attempts_max {
            return self.end(job, JobState::Failed, Happening::Failed { error });
        }
        let random = (self.random)();
        let wait = wait_ms(&job.spec.policy, job.attempt, error.retry_after_ms, random);
        let next_attempt_at = self.now.plus(wait);
        if job.is_over(next_attempt_at) {
            // There is no time left for another attempt: nothing is gained by waiting for the end of it.
            return self.end(job, JobState::Failed, Happening::Failed { error });
        }
        self.state.release(number);
        job.state = JobState::Retrying;
        let code = Some(error.code);
        let event = self.record(&mut job, Happening::Retrying { next_attempt_at, error })?;
        self.save(&job)?;
        job.set_due(self.db, Some(next_attempt_at))?;
        self.wait(&job)?;
        self.note_change(&job, ChangeKind::Retrying, code);
        self.tell(&job, &event)
    }

    /// Ends a job, once and for all.
    pub(super) fn end(&mut self, mut job: Job, state: JobState, what: Happening) -> Result<(), DatabaseError> {
        let number = job.id.number();
        let waited = job.state.is_waiting();
        if waited || job.state == JobState::Paused {
            self.state.backlog.leaves(&job, self.now);
        }
        job.control = None;
        self.state.release(number);
        let expires_at = job.kept_until(self.now, state);
        let expires_at = expires_at.max(self.aliased_until(&job, state)?.unwrap_or_default());
        job.state = state;
        job.ended_at = Some(self.now);
        job.expires_at = Some(expires_at);
        if let Some(key) = job.checkpoint.take() {
            self.effects.push(Effect::DeleteBlobs { keys: alloc::vec![key] });
        }
        if self.state.packs.holds(number) {
            // Its row, which is written now, needs no entry in the index.
            job.due_at = None;
        }
        let (kind, code) = match &what {
            Happening::Failed { error } => (ChangeKind::Error, Some(error.code)),
            _ => (ChangeKind::Complete, None),
        };
        let event = self.record(&mut job, what)?;
        self.note_change(&job, kind, code);
        self.forget_limit(&mut job)?;
        self.save(&job)?;
        self.end_in_batch(&job)?;
        if waited {
            self.wait_no_more(&job)?;
        }
        self.sweep_by(expires_at);
        self.stays(number)?;
        self.limit_result(&job)?;
        if job.followers.is_empty() {
            job.set_due(self.db, None)?;
        } else {
            let hubs = job.followers.iter().copied().collect();
            let retry_at = self.now.plus(REDELIVERY_MS);
            self.state.undelivered.insert(
                number,
                Undelivered {
                    hubs,
                    indexed: job.due_at.is_some(),
                    retry_at,
                },
            );
        }
        self.tell(&job, &event)?;
        self.settle_waiters(job.id, &event, true);
        if is_ordered(&job.spec) {
            self.advance(&job.spec)?;
        }
        self.tell_endpoint(&job, &event)
    }

    /// Tells hubs and waiting calls that `event` happened.
    pub(super) fn tell(&mut self, job: &Job, event: &Event) -> Result<(), DatabaseError> {
        for hub in &job.followers {
            let delivery = Delivery {
                job: job.id,
                event: event.clone(),
            };
            self.effects.push(Effect::Deliver { hub: *hub, delivery });
        }
        let terminal = event.what.is_terminal();
        let ready = self.state.take_waiters(job.id.number(), |waiter| match waiter.waiting {
            Waiting::Outcome { .. } => false,
            Waiting::Events { until_end, .. } => terminal || !until_end,
        });
        for (call, waiter) in ready {
            let Waiting::Events { after, .. } = waiter.waiting else {
                continue;
            };
            let reply = self.following(job, Some(after))?;
            self.reply(call, Ok(reply));
        }
        Ok(())
    }

    /// Answers the calls that wait for the outcome of `job`.
    fn settle_waiters(&mut self, job: JobId, event: &Event, stored: bool) {
        let ready = self
            .state
            .take_waiters(job.number(), |waiter| matches!(waiter.waiting, Waiting::Outcome { .. }));
        for (call, waiter) in ready {
            let Waiting::Outcome { deduplicated } = waiter.waiting else {
                continue;
            };
            self.reply(
                call,
                Ok(Reply::Ended {
                    job,
                    event: event.clone(),
                    deduplicated,
                    stored,
                }),
            );
        }
    }

    /// A lease ended without an outcome: the job waits for another claim, unless it has lost too many.
    pub(super) fn lose(&mut self, number: JobNumber) -> Result<(), DatabaseError> {
        let Some(lease) = self.state.release(number) else {
            return Ok(());
        };
        let Some(mut job) = self.load_number(number)?.filter(|job| job.state == JobState::Running) else {
            self.state.rows.remove(&number);
            return Ok(());
        };
        self.effects.push(Effect::Abandon {
            job: job.id,
            token: lease.token,
        });
        if self.now >= job.attempt_until || job.cancelled_until().is_some() {
            let error = Error::timed_out(TimeLimit::Action, job.spec.policy.timeout_ms);
            return self.settle(job, Outcome::Failed { error });
        }
        job.losses += 1;
        if job.losses > LOSSES_MAX {
            let message = format!("The attempt ended {LOSSES_MAX} times without a sign of life.");
            let error = Error::new(ErrorCode::ProcessingFailed, message);
            return self.end(job, JobState::Failed, Happening::Failed { error });
        }
        job.state = JobState::Queued;
        job.changed_at = self.now;
        self.save(&job)?;
        job.set_due(self.db, Some(self.now))?;
        self.note_change(&job, ChangeKind::Waiting, None);
        self.wait(&job)
    }

    /// The job `id`, where `caller` may change it; `what` names the change in a refusal.
    pub(super) fn changeable(
        &self,
        id: JobId,
        caller: &Caller,
        what: &str,
    ) -> Result<Result<Job, Error>, DatabaseError> {
        let found = self.load(id)?.filter(|job| caller.may_read(&job.spec.user));
        Ok(match found {
            None => Err(Error::not_found()),
            Some(job) if !caller.may_write(&job.spec.user) => {
                let message = format!("{what} another user's job takes the scope `jobs:write`.");
                Err(Error::new(ErrorCode::Forbidden, message))
            }
            Some(job) if matches!(job.spec.hook, Some(Hook::Tells(_))) && !caller.writes_all => {
                let message = format!("{what} what tells an endpoint takes the scope `jobs:write`.");
                Err(Error::new(ErrorCode::Forbidden, message))
            }
            Some(job) => Ok(job),
        })
    }
}

/// A report cut to what a row takes: a percentage that is one, and no more text than fits.
fn bounded(progress: Progress) -> Progress {
    let percentage = if progress.percentage.is_finite() {
        progress.percentage.clamp(0.0, 100.0)
    } else {
        0.0
    };
    let message = progress.message.filter(|message| message.len() <= PROGRESS_BYTES_MAX);
    let metadata = progress
        .metadata
        .filter(|metadata| metadata.as_str().len() <= PROGRESS_BYTES_MAX);
    Progress {
        percentage,
        message,
        metadata,
    }
}
