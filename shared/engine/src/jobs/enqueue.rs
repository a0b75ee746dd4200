//! Accepting a job, once for each key.

use alloc::sync::Arc;
use alloc::vec::Vec;

use tidegate_protocol::calls::jobs::{Enqueue, NewJob, Reply};
use tidegate_protocol::calls::queueing::Queueing;
use tidegate_protocol::changes::ChangeKind;
use tidegate_protocol::event::{JobState, JsonText, Payload, Progress};
use tidegate_protocol::ids::{FencingToken, HubIndex, JobId, JobNumber};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::alias::Holder;
use super::backlog::{Count, payload_bytes};
use super::batches::refused;
use super::gates::LimitKey;
use super::lanes::Shape;
use super::once::{Earlier, Leaves};
use super::packing::is_plain;
use super::row::{FIRST, Job};
use super::state::{Lease, Unstored, Waiter, Waiting};
use super::time_limits::limited_within;
use super::{CallId, DOORBELL_GRACE_MS, Effect, Turn, WAITERS_MAX};
use crate::database::{Database, DatabaseError};

/// The first token of a job that starts as it is accepted.
const FIRST_TOKEN: FencingToken = FencingToken(1);

impl<D: Database> Turn<'_, D> {
    /// Accepts a job as [`Self::enqueue`] does; where a limit would refuse it, once other objects were asked for the
    /// places of all its keys but `asked`.
    pub(super) fn enqueue_asking(
        &mut self,
        call: CallId,
        enqueue: Enqueue,
        asked: &[LimitKey],
    ) -> Result<(), DatabaseError> {
        self.learn_place(&enqueue.job.queueing)?;
        match self.park(call, enqueue, asked)? {
            Some(enqueue) => self.enqueue(call, enqueue),
            None => Ok(()),
        }
    }

    /// Accepts a job, or finds the one that its key names.
    pub(super) fn enqueue(&mut self, call: CallId, mut enqueue: Enqueue) -> Result<(), DatabaseError> {
        self.learn_place(&enqueue.job.queueing)?;
        let is_plain = is_plain(&enqueue);
        if !is_plain {
            self.write_packs()?;
        }
        if let Some(keyed) = &enqueue.keyed
            && let Some(holder) = self.named_or_freed(enqueue.job.action.as_str(), keyed.key.as_str())?
        {
            return self.answer_again(call, holder, &enqueue);
        }
        if self.is_cancelled(enqueue.job.batch.as_ref())? {
            self.reply(call, Err(refused()));
            return Ok(());
        }
        let leaves = match self.deduplicate(call, &mut enqueue)? {
            Earlier::Answered => return Ok(()),
            Earlier::New(leaves) => leaves,
        };
        let Some(enqueue) = self.hand_on_key(call, enqueue, leaves.as_ref())? else {
            return Ok(());
        };
        let freed = leaves.as_ref().map(Leaves::freed).unwrap_or_default();
        let more = Count {
            jobs: 1,
            bytes: payload_bytes(&enqueue.job.payload),
        };
        if let Some(full) = self.full(&enqueue.job.action, &enqueue.job.queueing, more, freed) {
            self.reply(call, Err(full));
            return Ok(());
        }
        let waits = enqueue.answer_within_ms.is_some();
        if waits && self.state.waiters.len() >= WAITERS_MAX {
            self.reply(call, Err(busy()));
            return Ok(());
        }
        let shape = Shape::of(&enqueue.job);
        self.learn_limits(&enqueue.job.queueing)?;
        let due = enqueue.job.run_at.filter(|at| *at > self.now);
        if due.is_none() {
            if let Some(refusal) = self.refusal(&enqueue.job.queueing, &shape) {
                self.reply(call, Err(refusal));
                return Ok(());
            }
            self.replace_running(&enqueue.job.queueing, &shape)?;
        }
        let number = JobNumber::next(
            self.now,
            self.state.spread.number_in(enqueue.partition),
            self.state.last,
        );
        let (tail, _) = split((self.random)());
        let id = JobId::new(number, tail);
        self.state.last = number;
        if let Some(leaves) = leaves {
            self.make_way(leaves, id)?;
        }

        // A job for workers is stored, and waits for one that asks.
        let pulled = enqueue.job.policy.pool.is_some();
        let dispatch = enqueue.job.policy.dispatch;
        let direct = due.is_none() && !pulled && dispatch.starts_at_once();
        if direct && self.state.lanes.may_wait_beside(&shape) {
            // A gate may have opened by its time alone: those that wait at it come first.
            self.fill()?;
        }
        if direct && self.state.has_place() && self.state.gates.closed(&shape, self.now).next().is_none() {
            // A job without a row has no alarm: one whose limits may pass before its deadline is stored at once.
            let limited = |ms| limited_within(&enqueue.job.policy, ms);
            // And so is one whose end is told: the message is part of what is stored.
            let nameless = enqueue.keyed.is_none() && enqueue.job.once.is_none() && enqueue.job.hook.is_none();
            // And so is one that goes with its followers: whether they are there is asked under its row.
            let nameless = nameless && enqueue.away_max_ms.is_none();
            if nameless && enqueue.answer_within_ms.is_some_and(|ms| !limited(ms)) {
                return self.start_unstored(call, id, enqueue);
            }
            let job = self.insert_running(id, &enqueue, None)?;
            self.cancel_when_left(number, enqueue.away_max_ms)?;
            return self.acknowledge(call, &job, &enqueue, false);
        }
        let mut job = fresh(id, self.now, &enqueue);
        let rings = due.is_none() && !pulled && dispatch.rings();
        (job.state, job.due_at) = match due {
            Some(at) => (JobState::Scheduled, Some(at)),
            None if rings => (JobState::Queued, Some(self.now.plus(DOORBELL_GRACE_MS))),
            None => (JobState::Queued, Some(self.now)),
        };
        self.limit(&mut job);
        if is_plain && !rings && job.give_up_at.is_none() {
            self.pack(&job, &enqueue.job.payload)?;
        } else {
            job.insert(self.db, &enqueue.job.payload, enqueue.keyed.as_ref())?;
        }
        self.state.accepted += 1;
        self.join_batch(&job)?;
        self.cancel_when_left(number, enqueue.away_max_ms)?;
        self.wait(&job)?;
        self.note_change(&job, ChangeKind::Acknowledgment, None);
        // Where objects share what it counts under, one of them is to be asked.
        self.place_freed |= due.is_none() && shape.limits().any(|(key, _)| self.state.gates.is_shared(key));
        if rings {
            self.effects.push(Effect::RingDoorbell { job: id });
        }
        let waits = waits && due.is_none();
        let answer_within_ms = if waits { enqueue.answer_within_ms } else { None };
        self.acknowledge(
            call,
            &job,
            &Enqueue {
                answer_within_ms,
                ..enqueue
            },
            false,
        )
    }

    /// The key is known: the stored answer, or a place beside the one who asked first.
    fn answer_again(&mut self, call: CallId, holder: Holder, enqueue: &Enqueue) -> Result<(), DatabaseError> {
        let own = enqueue.keyed.as_ref().map(|keyed| keyed.fingerprint.as_str());
        if holder.fingerprint(self.db)?.as_deref() != own {
            let message = "This idempotency key was used for another request: another payload or another user.";
            self.reply(call, Err(Error::new(ErrorCode::IdempotencyMismatch, message)));
            return Ok(());
        }
        self.give_again(call, holder.job, enqueue)
    }

    /// Answers with a job that is there: its stored answer, or a place beside those who asked before.
    pub(super) fn give_again(&mut self, call: CallId, mut job: Job, enqueue: &Enqueue) -> Result<(), DatabaseError> {
        job = job.faded(self.now);
        if let Some(event) = job.outcome {
            self.reply(
                call,
                Ok(Reply::Ended {
                    job: job.id,
                    event,
                    deduplicated: true,
                    stored: true,
                }),
            );
            return Ok(());
        }
        self.asked_again(job.id.number(), enqueue.away_max_ms)?;
        if let Some(hub) = enqueue.follower {
            self.add_follower(&mut job, hub)?;
        }
        self.acknowledge(call, &job, enqueue, true)
    }

    /// The rules that a job's limits come with hold from now on.
    pub(super) fn learn_limits(&mut self, queueing: &Queueing) -> Result<(), DatabaseError> {
        if self.state.gates.learn(self.db, self.now, &queueing.limits)? {
            self.state.lanes.all_opened();
            self.place_freed = true;
        }
        Ok(())
    }

    /// Answers with an acknowledgment, or lets the call wait for the outcome.
    fn acknowledge(
        &mut self,
        call: CallId,
        job: &Job,
        enqueue: &Enqueue,
        deduplicated: bool,
    ) -> Result<(), DatabaseError> {
        match enqueue.answer_within_ms {
            Some(ms) if self.state.waiters.len() < WAITERS_MAX => {
                let waiting = Waiting::Outcome { deduplicated };
                let waiter = Waiter {
                    job: job.id.number(),
                    deadline: self.now.plus(ms),
                    waiting,
                };
                self.state.waiters.insert(call, waiter);
            }
            _ => self.reply(call, Ok(acknowledgment(job, deduplicated))),
        }
        Ok(())
    }

    fn start_unstored(&mut self, call: CallId, id: JobId, enqueue: Enqueue) -> Result<(), DatabaseError> {
        let deadline = self.now.plus(enqueue.answer_within_ms.unwrap_or(0));
        let waiting = Waiting::Outcome { deduplicated: false };
        self.state.waiters.insert(
            call,
            Waiter {
                job: id.number(),
                deadline,
                waiting,
            },
        );
        let shape = Shape::of(&enqueue.job);
        self.state.gates.take(self.db, self.now, &shape)?;
        let job = started(fresh(id, self.now, &enqueue), self.now);
        let payload = enqueue.job.payload.clone();
        self.effects.push(Effect::Execute(self.execution(&job, payload)));
        let unstored = Unstored {
            id,
            enqueue,
            token: FIRST_TOKEN,
            progress: None,
            checkpoint: None,
            started_at: self.now,
            shape: Arc::new(shape),
        };
        self.state.unstored.insert(id.number(), unstored);
        Ok(())
    }

    /// Stores a job whose first attempt starts now, or has started already.
    fn insert_running(
        &mut self,
        id: JobId,
        enqueue: &Enqueue,
        under_way: Option<&Unstored>,
    ) -> Result<Job, DatabaseError> {
        let started_at = under_way.map_or(self.now, |unstored| unstored.started_at);
        let mut job = started(fresh(id, self.now, enqueue), started_at);
        if let Some(unstored) = under_way {
            job.created_at = unstored.started_at;
            job.progress = unstored.progress.clone().unwrap_or_default();
            job.checkpoint.clone_from(&unstored.checkpoint);
        }
        self.note_start(&mut job, started_at)?;
        // A recovery looks at rows above the watermark and at indexed ones: this row must be one of them.
        if id.number() <= self.state.watermark {
            job.due_at = Some(self.now);
        }
        self.limit(&mut job);
        job.insert(self.db, &enqueue.job.payload, enqueue.keyed.as_ref())?;
        self.state.accepted += 1;
        self.join_batch(&job)?;
        self.note_change(&job, ChangeKind::Acknowledgment, None);
        let lease = Lease::stored(&job);
        if under_way.is_none() {
            self.state.gates.take(self.db, self.now, &lease.shape)?;
        }
        self.state.running.insert(id.number(), lease);
        self.state.rows.insert(id.number(), job.clone());
        if under_way.is_none() {
            let execution = self.execution(&job, enqueue.job.payload.clone());
            self.effects.push(Effect::Execute(execution));
        }
        Ok(job)
    }

    /// Gives a row to the job `number`, which has none so far. Its attempt goes on under the same token.
    pub(super) fn store(&mut self, number: JobNumber) -> Result<Option<Job>, DatabaseError> {
        match self.state.unstored.remove(&number) {
            Some(unstored) => self
                .insert_running(unstored.id, &unstored.enqueue, Some(&unstored))
                .map(Some),
            None => Ok(None),
        }
    }
}

/// The refusal of a call for which there is no room to wait.
pub(super) fn busy() -> Error {
    Error::new(ErrorCode::Unavailable, "Too many calls are waiting here.").retry_after(1000)
}

pub(super) fn acknowledgment(job: &Job, deduplicated: bool) -> Reply {
    let run_at = if job.state == JobState::Scheduled {
        job.due_at
    } else {
        None
    };
    Reply::Acknowledged {
        job: job.id,
        status: job.state,
        seq: job.seq,
        deduplicated,
        run_at,
    }
}

pub(super) fn fresh(id: JobId, now: UnixMs, enqueue: &Enqueue) -> Job {
    let spec = NewJob {
        payload: Payload::Inline(JsonText::null()),
        ..enqueue.job.clone()
    };
    waiting_job(id, now, spec, enqueue.follower, payload_bytes(&enqueue.job.payload))
}

/// A job as it is before anything has happened to it.
pub(super) fn waiting_job(
    id: JobId,
    created_at: UnixMs,
    spec: NewJob,
    follower: Option<HubIndex>,
    payload_bytes: u64,
) -> Job {
    Job {
        id,
        state: JobState::Queued,
        due_at: None,
        created_at,
        spec,
        token: FencingToken(0),
        attempt: 0,
        attempt_until: UnixMs(0),
        losses: 0,
        seq: FIRST,
        progress: Progress::default(),
        log: Vec::new(),
        followers: follower.into_iter().collect(),
        checkpoint: None,
        changed_at: created_at,
        ended_at: None,
        expires_at: None,
        outcome: None,
        give_up_at: None,
        snoozes: 0,
        control: None,
        reported: None,
        payload_bytes,
        started_at: None,
    }
}

fn started(job: Job, at: UnixMs) -> Job {
    let attempt_until = at.plus(job.spec.policy.timeout_ms);
    Job {
        state: JobState::Running,
        token: FIRST_TOKEN,
        attempt: 1,
        attempt_until,
        started_at: Some(at),
        ..job
    }
}

/// The two halves of a random number.
pub(super) fn split(random: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = random.to_le_bytes();
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}
