//! One piece of work, once: which job a key names, and what becomes of a request whose key an earlier job has.
//!
//! There are keys of two kinds: the client's own, and those that a composition finds in a request (`dedupe`). Each is a
//! column of the job that it names. What a key is worth is decided when it is looked up, so that its end costs nothing:
//! a key that names nothing any more stays where it is until another job takes it, or its row goes.

use alloc::boxed::Box;
use alloc::format;

use tidegate_protocol::calls::jobs::{Enqueue, NewJob};
use tidegate_protocol::calls::once::{DedupeRule, Once};
use tidegate_protocol::event::{Happening, JobState, JsonText, Payload};
use tidegate_protocol::ids::{JobId, JobNumber};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

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

    /// How many waiting jobs there will be fewer.
    pub fn freed(&self) -> u64 {
        u64::from(self.replaced.as_ref().is_some_and(|job| job.state.is_waiting()))
    }
}

impl Job {
    /// Whether the client's key still names this job.
    fn keeps_key(&self, now: UnixMs) -> bool {
        let Some(Once::Key(life)) = &self.spec.once else {
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
        let found = Job::load_key(self.db, action, key)?;
        Ok(found
            .filter(|job| job.keeps_key(self.now))
            .map(|job| job.faded(self.now)))
    }

    /// The same for a request that takes the key where it names nothing.
    pub(super) fn named_or_freed(&self, action: &str, key: &str) -> Result<Option<Job>, DatabaseError> {
        let Some(job) = Job::load_key(self.db, action, key)? else {
            return Ok(None);
        };
        if job.keeps_key(self.now) {
            return Ok(Some(job));
        }
        self.db.run(
            "-- jobs::free_key
            UPDATE job SET key = NULL WHERE number = CAST(? AS INTEGER)",
            &[Value::Number(job.id.number().0)],
        )?;
        Ok(None)
    }

    /// Looks for the job of the same key that a composition found in the request, and applies its rule. Nothing is
    /// written where there is to be a new job.
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
                self.give_again(call, job, enqueue)?;
                return Ok(Earlier::Answered);
            }
            DedupeRule::UntilEnded if !job.state.is_ended() => {
                self.give_again(call, job, enqueue)?;
                return Ok(Earlier::Answered);
            }
            DedupeRule::KeepLast { wait_ms, max_wait_ms } if !job.has_begun() => {
                let start = self.now.plus(wait_ms).min(job.created_at.plus(max_wait_ms));
                self.take_over(call, job, enqueue, start)?;
                return Ok(Earlier::Answered);
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
            changed_at: self.now,
            spec: NewJob {
                payload: Payload::Inline(JsonText::null()),
                run_at: Some(start),
                ..enqueue.job.clone()
            },
            ..job.clone()
        };
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
            UPDATE job SET state = ?, due_at = ?, changed_at = ?, spec = ?, payload = ?, followers = ?, lane = ?, control = ?
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
                Value::Number(number.0),
            ],
        )?;
        self.limit_again(&mut new)?;
        if !waits {
            self.reply(call, Ok(acknowledgment(&new, true)));
            return Ok(());
        }
        if old_lane == lane {
            self.wait_otherwise(&new)?;
        } else {
            self.wait_no_more(&job)?;
            self.wait(&new)?;
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
    let sql = columns!("WHERE action = ? AND dedupe = ?");
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
