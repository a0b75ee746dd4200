//! One piece of work, once: which job a key names, and what becomes of a request whose key an earlier job has.
//!
//! There are keys of two kinds: the client's own, and those that a composition finds in a request (`dedupe`). Each is a
//! column of the job that it names. A request with both is looked up by the client's key first; where that names nothing
//! and `dedupe` finds a job, the client's key is one more name of that job (see [`super::alias`]). What a key is worth is decided when it is looked up, so that its end costs nothing:
//! a key that names nothing any more stays where it is until another job takes it, or its row goes.

use alloc::boxed::Box;
use alloc::format;

use tidegate_protocol::calls::jobs::{Enqueue, NewJob};
use tidegate_protocol::calls::once::{DedupeRule, Once};
use tidegate_protocol::changes::ChangeKind;
use tidegate_protocol::event::{Happening, JobState, JsonText, Payload};
use tidegate_protocol::ids::{JobId, JobNumber};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::alias::Holder;
use super::backlog::{Count, payload_bytes};
use super::change::Control;
use super::enqueue::acknowledgment;
use super::follow::stored_key;
use super::lanes::Shape;
use super::row::{Job, columns, payload, state_number};
use super::{CallId, Effect, Turn};
use crate::database::{Database, DatabaseError, Value, to_blob};

/// What an earlier job of the same key means for a request.
pub(super) enum Earlier {
    /// The request is answered.
    Answered,
    /// There is to be a new job.
    New(Option<Leaves>),
}

/// An earlier job that leaves its key to a new one.
pub(super) struct Leaves {
    pub(super) number: JobNumber,
    /// The job itself, where it is cancelled as well.
    replaced: Option<Box<Job>>,
}

impl Leaves {
    /// Whether the earlier job is cancelled.
    pub fn replaces(&self) -> bool {
        self.replaced.is_some()
    }

    /// How much less there will wait.
    pub fn freed(&self) -> Count {
        let replaced = self.replaced.as_ref().map(|job| Count {
            jobs: 1,
            bytes: job.payload_bytes,
        });
        replaced.unwrap_or_default()
    }
}

impl Job {
    /// Whether the client's key still names this job.
    pub(super) fn keeps_key(&self, now: UnixMs) -> bool {
        let Some(life) = self.spec.once.as_ref().and_then(Once::key_life) else {
            return true;
        };
        let freed = self.state != JobState::Succeeded && life.failed_frees;
        !self.state.is_ended() || (!freed && life.ttl_ms.is_none_or(|ms| now < self.created_at.plus(ms)))
    }

    /// Until when the job is kept that ends now in `state`: for its retention, and as long as its key names it.
    pub fn kept_until(&self, now: UnixMs, state: JobState) -> UnixMs {
        let kept = now.plus(self.spec.policy.retention_ms);
        let once = self.spec.once.as_ref();
        let named = once.and_then(|once| once.keeps_until(self.created_at, state != JobState::Succeeded));
        named.map_or(kept, |named| named.max(kept))
    }

    /// Whether an attempt was made. A job between its attempts is under way: nothing takes its place.
    fn has_begun(&self) -> bool {
        self.attempt > 0 || !(self.state.is_waiting() || self.state == JobState::Paused)
    }
}

impl<D: Database> Turn<'_, D> {
    /// The job that a client's key names now.
    pub(super) fn named(&self, action: &str, key: &str) -> Result<Option<Job>, DatabaseError> {
        let found = self.holder(action, key)?;
        Ok(found
            .filter(|holder| holder.keeps_key(self.now))
            .map(|holder| holder.job.faded(self.now)))
    }

    /// The same for a request that takes the key where it names nothing.
    pub(super) fn named_or_freed(&self, action: &str, key: &str) -> Result<Option<Holder>, DatabaseError> {
        let Some(holder) = self.holder(action, key)? else {
            return Ok(None);
        };
        if holder.keeps_key(self.now) {
            return Ok(Some(holder));
        }
        holder.free_key(self.db)?;
        Ok(None)
    }

    /// Looks for the job of the same key that a composition found in the request, and applies its rule. Nothing is
    /// written where there is to be a new job. A job that the request is given has its client's key from then on.
    pub(super) fn deduplicate(&mut self, call: CallId, enqueue: &mut Enqueue) -> Result<Earlier, DatabaseError> {
        let Some(dedupe) = enqueue.job.once.as_ref().and_then(Once::dedupe) else {
            return Ok(Earlier::New(None));
        };
        let rule = dedupe.rule;
        let Some(job) = load_dedupe(self.db, enqueue.job.action.as_str(), &dedupe.key)? else {
            enqueue.job.run_at = first_start(rule, self.now).or(enqueue.job.run_at);
            return Ok(Earlier::New(None));
        };
        let replaced = match rule {
            DedupeRule::Window { ms } if self.now < job.created_at.plus(ms) => {
                return self.give_also(call, job, enqueue, None);
            }
            DedupeRule::UntilEnded if !job.state.is_ended() => {
                return self.give_also(call, job, enqueue, None);
            }
            DedupeRule::KeepLast { wait_ms, max_wait_ms } if !job.has_begun() => {
                let start = self.now.plus(wait_ms).min(job.created_at.plus(max_wait_ms));
                return self.give_also(call, job, enqueue, Some(start));
            }
            DedupeRule::ReplaceWaiting => !job.has_begun(),
            DedupeRule::Window { .. } | DedupeRule::UntilEnded | DedupeRule::KeepLast { .. } => false,
        };
        enqueue.job.run_at = first_start(rule, self.now).or(enqueue.job.run_at);
        Ok(Earlier::New(Some(Leaves {
            number: job.id.number(),
            replaced: replaced.then(|| Box::new(job)),
        })))
    }

    /// The request is answered with `job`, under its client's key as well; with a start, it becomes the job's input.
    fn give_also(
        &mut self,
        call: CallId,
        job: Job,
        enqueue: &Enqueue,
        start: Option<UnixMs>,
    ) -> Result<Earlier, DatabaseError> {
        if start.is_some()
            && let Some(full) = self.full_of(&job, enqueue)
        {
            self.reply(call, Err(full));
            return Ok(Earlier::Answered);
        }
        match (self.name_also(&job, enqueue)?, start) {
            (Some(refusal), _) => self.reply(call, Err(refusal)),
            (None, None) => self.give_again(call, job, enqueue)?,
            (None, Some(start)) => self.take_over(call, job, enqueue, start)?,
        }
        Ok(Earlier::Answered)
    }

    /// The earlier job of its key makes way for the new job `by`.
    pub(super) fn make_way(&mut self, leaves: Leaves, by: JobId) -> Result<(), DatabaseError> {
        free_dedupe(self.db, leaves.number)?;
        if let Some(job) = leaves.replaced {
            let message = format!("A newer request of the same key took its place, as {by}.");
            let error = Error::new(ErrorCode::Cancelled, message);
            self.end(*job, JobState::Cancelled, Happening::Failed { error })?;
        }
        Ok(())
    }

    /// Why there is no room for the larger input that `job`, which waits, would have by `enqueue`.
    fn full_of(&self, job: &Job, enqueue: &Enqueue) -> Option<Error> {
        let larger = payload_bytes(&enqueue.job.payload).saturating_sub(job.payload_bytes);
        let more = Count { jobs: 0, bytes: larger };
        let none = Count::default();
        self.full(&enqueue.job.action, &enqueue.job.queueing, more, none)
            .filter(|_| larger > 0)
    }

    /// `job`, which has not begun, becomes what `enqueue` asks for, and starts at `start`. It stays the same job.
    fn take_over(&mut self, call: CallId, job: Job, enqueue: &Enqueue, start: UnixMs) -> Result<(), DatabaseError> {
        let number = job.id.number();
        self.learn_limits(&enqueue.job.queueing)?;
        let before = payload(self.db, number)?;
        if let Some(key) = stored_key(&before).filter(|key| Some(*key) != stored_key(&enqueue.job.payload)) {
            let keys = alloc::vec![key.into()];
            self.effects.push(Effect::DeleteBlobs { keys });
        }
        // One that is held back stays so, and is let go to its new time.
        let held = job.control.clone().map(|control| match control {
            Control::Paused { by, since, .. } => Control::Paused {
                was: JobState::Scheduled,
                due_at: start,
                by,
                since,
            },
            other @ Control::Cancelled { .. } => other,
        });
        let waits = job.state.is_waiting();
        let mut new = Job {
            state: if waits { JobState::Scheduled } else { job.state },
            due_at: waits.then_some(start),
            control: held,
            payload_bytes: payload_bytes(&enqueue.job.payload),
            changed_at: self.now,
            spec: NewJob {
                payload: Payload::Inline(JsonText::null()),
                run_at: Some(start),
                // It counts where it was accepted.
                batch: job.spec.batch.clone(),
                ..enqueue.job.clone()
            },
            ..job.clone()
        };
        if let Some(Once::Dedupe(dedupe)) = &mut new.spec.once {
            // The key that the job was made with lives on as it did.
            dedupe.key_life = job.spec.once.as_ref().and_then(Once::key_life);
        }
        self.asked_again(number, enqueue.away_max_ms)?;
        if let Some(hub) = enqueue.follower {
            self.followed_by(number, hub)?;
            self.state.followed.insert((hub, number));
            if !new.followers.contains(&hub) {
                new.followers.push(hub);
            }
        }
        let (old_lane, lane) = (Shape::of(&job.spec).name()?, Shape::of(&new.spec).name()?);
        let control = new.control.as_ref().map(to_blob).transpose()?;
        self.db.run(
            "-- jobs::take_over
            UPDATE job SET state = ?, due_at = ?, changed_at = ?, spec = ?, payload = ?, followers = ?, lane = ?, control = ?,
                payload_bytes = ?
            WHERE number = CAST(? AS INTEGER)",
            &[
                Value::Number(state_number(new.state)),
                Value::optional(new.due_at.map(|at| at.0)),
                Value::Number(self.now.0),
                Value::Blob(&to_blob(&new.spec)?),
                Value::Blob(&to_blob(&enqueue.job.payload)?),
                Value::Blob(&to_blob(&new.followers)?),
                Value::Text(&lane),
                control.as_deref().map_or(Value::Null, Value::Blob),
                Value::Number(new.payload_bytes),
                Value::Number(number.0),
            ],
        )?;
        self.state.backlog.changes(&job, &new);
        self.limit_again(&mut new)?;
        if !waits {
            self.reply(call, Ok(acknowledgment(&new, true)));
            return Ok(());
        }
        self.note_change(&new, ChangeKind::Waiting, None);
        if old_lane == lane {
            self.wait_otherwise(&new)?;
        } else {
            self.wait_no_more(&job)?;
            self.line_up(&new)?;
        }
        self.reply(call, Ok(acknowledgment(&new, true)));
        Ok(())
    }
}

/// When a job of this rule starts that is the first of its key.
fn first_start(rule: DedupeRule, now: UnixMs) -> Option<UnixMs> {
    match rule {
        DedupeRule::KeepLast { wait_ms, max_wait_ms } => Some(now.plus(wait_ms.min(max_wait_ms))),
        DedupeRule::Window { .. } | DedupeRule::UntilEnded | DedupeRule::ReplaceWaiting => None,
    }
}

fn load_dedupe(db: &impl Database, action: &str, key: &str) -> Result<Option<Job>, DatabaseError> {
    let sql = columns!("WHERE action = CAST(? AS TEXT) AND dedupe = CAST(? AS TEXT)");
    let rows = db.run(sql, &[Value::Text(action), Value::Text(key)])?;
    rows.into_iter().next().map(Job::read).transpose()
}

pub(super) fn free_dedupe(db: &impl Database, number: JobNumber) -> Result<(), DatabaseError> {
    db.run(
        "-- jobs::free_dedupe
        UPDATE job SET dedupe = NULL WHERE number = CAST(? AS INTEGER)",
        &[Value::Number(number.0)],
    )?;
    Ok(())
}
