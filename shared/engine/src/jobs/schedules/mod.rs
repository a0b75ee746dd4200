//! Schedules: a row for each, beside the jobs that they fire.
//!
//! A nominal time is done with in the transaction that stores its job, or that counts it as left out; from then on the
//! row's next one lies behind it, so that it fires once whatever the clock does. Its key says the same a second time, to
//! whoever asks for that time by hand. Only the first object of a tenant is ever told of schedules.

mod calls;
mod row;

use alloc::format;

use tidegate_protocol::calls::jobs::{Enqueue, Keyed, NewJob, Reply};
use tidegate_protocol::calls::schedules::Overlap;
use tidegate_protocol::event::JobState;
use tidegate_protocol::ids::{IdempotencyKey, JobId, Partition, RequestId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::row::fingerprint;
use super::{CallId, Effect, Turn};
use crate::composition::{SCHEDULE_KEY, SCHEDULED_FOR_KEY};
use crate::database::{Database, DatabaseError};
use crate::schedules::Timetable;
use row::Kept;

/// Nominal times of one schedule that are made up for at once. The rest is counted.
pub const CATCH_UP_TIMES_MAX: u64 = 100;
/// Nominal times that are counted one by one before a schedule jumps to the present. Some microseconds each.
pub const COUNTED_TIMES_MAX: u64 = 5_000;
/// Nominal times of all schedules in one turn before the next turn goes on. One more schedule may come on top.
pub const TURN_TIMES_MAX: u64 = 100;
/// How long to wait where the queue takes no more jobs. Milliseconds.
pub const FULL_QUEUE_MS: u64 = 5_000;

/// Shows the keys of schedules from those of clients, whose fingerprints are longer.
const FINGERPRINT: &str = "schedule";
/// The caller of what a schedule asks of its own object. Shells count from 0.
const OWN_CALL: CallId = CallId(u64::MAX);

/// What an object remembers of its schedules between turns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Watch {
    /// When the first of them is due.
    pub due: Option<UnixMs>,
    /// Whether a nominal time waits for the end of a job.
    pub held: bool,
}

impl Watch {
    /// Builds it from the rows.
    pub fn recover(db: &impl Database) -> Result<Self, DatabaseError> {
        let rows = db.run(
            "-- jobs::schedules::recover\nSELECT min(due_at), count(held) FROM schedule",
            &[],
        )?;
        match rows.into_iter().next() {
            Some(mut row) => Ok(Self {
                due: row.optional_number()?.map(UnixMs),
                held: row.number()? > 0,
            }),
            None => Ok(Self::default()),
        }
    }
}

/// What became of asking for a job.
enum Submitted {
    /// It is there.
    Job { job: JobId, new: bool },
    /// The queue takes no more for now.
    Full,
    /// It was refused for good, which nothing that was compiled is.
    Refused,
}

impl<D: Database> Turn<'_, D> {
    /// The alarm's part: fires what is due, and what waited for an end that has come.
    pub(super) fn run_schedules(&mut self) -> Result<(), DatabaseError> {
        if self.state.schedules.held {
            self.release_held()?;
        }
        if self.state.schedules.due.is_none_or(|due| due > self.now) {
            return Ok(());
        }
        // Jobs that wait already come before those of this turn.
        self.fill()?;
        let mut times = 0;
        for mut kept in row::load_due(self.db, self.now)? {
            if times >= TURN_TIMES_MAX {
                break;
            }
            times += self.run_schedule(&mut kept)?;
            kept.write(self.db)?;
        }
        self.state.schedules = Watch::recover(self.db)?;
        Ok(())
    }

    /// Fires nominal times that waited for the end of a job, where that has come.
    pub(super) fn release_held(&mut self) -> Result<(), DatabaseError> {
        if !self.state.schedules.held {
            return Ok(());
        }
        for mut kept in row::load_held(self.db)? {
            self.release(&mut kept)?;
            kept.write(self.db)?;
        }
        self.state.schedules = Watch::recover(self.db)?;
        Ok(())
    }

    fn release(&mut self, kept: &mut Kept) -> Result<(), DatabaseError> {
        let Some(nominal) = kept.held else { return Ok(()) };
        if self.open_job(kept)?.is_some() {
            return Ok(());
        }
        match self.fire(kept, nominal)? {
            // It goes on waiting; a queue that is full has an alarm soon.
            Submitted::Full => {}
            Submitted::Job { .. } => kept.held = None,
            Submitted::Refused => {
                kept.held = None;
                kept.missed += 1;
            }
        }
        Ok(())
    }

    /// Works off the nominal times of one schedule that are due, in order. Says how many it fired or left to its overlap.
    fn run_schedule(&mut self, kept: &mut Kept) -> Result<u64, DatabaseError> {
        let timetable = kept.timetable();
        let (mut taken, mut counted) = (0, 0);
        while let Some(nominal) = kept.nominal {
            let fires_at = kept.fires_at(nominal);
            if fires_at > self.now {
                break;
            }
            if self.now.since(fires_at) > kept.schedule.catch_up_ms || taken == CATCH_UP_TIMES_MAX {
                kept.missed += 1;
                counted += 1;
            } else if self.take(kept, nominal)? {
                taken += 1;
            } else {
                kept.due_at = Some(self.now.plus(FULL_QUEUE_MS));
                return Ok(taken);
            }
            kept.done_until = nominal;
            if counted == COUNTED_TIMES_MAX {
                // What lies before this is too late whatever its jitter: it is passed over, uncounted.
                let window_ms = if taken == CATCH_UP_TIMES_MAX {
                    0
                } else {
                    kept.schedule.catch_up_ms
                };
                let late_ms = window_ms.saturating_add(kept.schedule.jitter_ms).saturating_add(1);
                let until = UnixMs(self.now.0.saturating_sub(late_ms));
                kept.done_until = kept.done_until.max(until);
                counted = 0;
            }
            kept.advance(timetable.as_ref());
        }
        Ok(taken)
    }

    /// Does with a nominal time what the overlap says. False where the queue takes no more for now.
    fn take(&mut self, kept: &mut Kept, nominal: UnixMs) -> Result<bool, DatabaseError> {
        self.release(kept)?;
        if let Some(held) = kept.held {
            // Another composition held it back, which waited for ends: under this one its turn is now, or over.
            match kept.schedule.overlap {
                Overlap::Allow => match self.fire(kept, held)? {
                    Submitted::Full => return Ok(false),
                    Submitted::Job { .. } => kept.held = None,
                    Submitted::Refused => {
                        kept.held = None;
                        kept.missed += 1;
                    }
                },
                Overlap::CancelOld => {
                    kept.held = None;
                    kept.skipped += 1;
                }
                Overlap::Skip | Overlap::QueueOne => {}
            }
        }
        if let Some(open) = self.open_job(kept)? {
            match kept.schedule.overlap {
                Overlap::Allow => {}
                Overlap::QueueOne if kept.held.is_none() => {
                    kept.held = Some(nominal);
                    return Ok(true);
                }
                Overlap::Skip | Overlap::QueueOne => {
                    kept.skipped += 1;
                    return Ok(true);
                }
                Overlap::CancelOld => self.cancel_own(open)?,
            }
        }
        match self.fire(kept, nominal)? {
            Submitted::Full => Ok(false),
            Submitted::Job { .. } => Ok(true),
            Submitted::Refused => {
                kept.missed += 1;
                Ok(true)
            }
        }
    }

    /// Stores the job of a nominal time.
    fn fire(&mut self, kept: &mut Kept, nominal: UnixMs) -> Result<Submitted, DatabaseError> {
        let submitted = self.submit(kept, Some(nominal), nominal_key(kept, nominal))?;
        if let Submitted::Job { job, new } = submitted {
            kept.last_job = Some(job);
            kept.last_fired = Some(nominal);
            kept.fired += u64::from(new);
        }
        Ok(submitted)
    }

    /// Asks for a job as anyone else does. A client that took the key before for something of its own does not keep the
    /// schedule from firing: the job then has none.
    fn submit(
        &mut self,
        kept: &Kept,
        nominal: Option<UnixMs>,
        key: Option<IdempotencyKey>,
    ) -> Result<Submitted, DatabaseError> {
        let template = &kept.schedule.job;
        let key = match key {
            Some(key) if self.is_taken(template, &key)? => None,
            key => key,
        };
        let mut job = template.clone();
        let moment = nominal.unwrap_or(self.now);
        if let Some(request_id) = RequestId::parse(&format!("schedule:{}:{}", kept.schedule.name, moment.0)) {
            job.request_id = request_id;
        }
        job.metadata
            .insert(SCHEDULE_KEY.into(), kept.schedule.name.as_str().into());
        if let Some(nominal) = nominal {
            job.metadata.insert(SCHEDULED_FOR_KEY.into(), format!("{nominal}"));
        }
        let enqueue = Enqueue {
            job,
            // The first partition is the first object's, however many there are.
            partition: Partition::of_hash(0),
            keyed: key.map(|key| Keyed {
                key,
                fingerprint: FINGERPRINT.into(),
            }),
            answer_within_ms: None,
            follower: None,
            away_max_ms: None,
        };
        self.enqueue(OWN_CALL, enqueue)?;
        Ok(match self.own_reply() {
            Some(Ok(Reply::Acknowledged { job, deduplicated, .. } | Reply::Ended { job, deduplicated, .. })) => {
                let new = !deduplicated;
                Submitted::Job { job, new }
            }
            Some(Err(error)) if error.retryable => Submitted::Full,
            _ => Submitted::Refused,
        })
    }

    /// Whether a client has a job under this key.
    fn is_taken(&self, template: &NewJob, key: &IdempotencyKey) -> Result<bool, DatabaseError> {
        let Some(job) = self.named(template.action.as_str(), key.as_str())? else {
            return Ok(false);
        };
        Ok(fingerprint(self.db, job.id.number())?.as_deref() != Some(FINGERPRINT))
    }

    /// The last job of a schedule, where it has not ended.
    fn open_job(&self, kept: &Kept) -> Result<Option<JobId>, DatabaseError> {
        let Some(id) = kept.last_job else { return Ok(None) };
        let job = self.load(id)?;
        Ok(job.filter(|job| !JobState::is_ended(job.state)).map(|job| job.id))
    }

    fn cancel_own(&mut self, job: JobId) -> Result<(), DatabaseError> {
        let Some(open) = self.load(job)?.filter(|job| !job.state.is_ended()) else {
            return Ok(());
        };
        self.cancel_by_force(open)?;
        // Where several times are made up for at once, its attempt may not even have begun.
        self.effects
            .retain(|effect| !matches!(effect, Effect::Execute(execute) if execute.job == job));
        Ok(())
    }

    /// Takes the answer to a call of its own out of what is to be done.
    fn own_reply(&mut self) -> Option<Result<Reply, Error>> {
        let own = |effect: &Effect| matches!(effect, Effect::Reply { call, .. } if *call == OWN_CALL);
        let index = self.effects.iter().rposition(own)?;
        match self.effects.remove(index) {
            Effect::Reply { reply, .. } => Some(reply),
            _ => None,
        }
    }
}

/// The key of a nominal time: the same whoever asks for it.
fn nominal_key(kept: &Kept, nominal: UnixMs) -> Option<IdempotencyKey> {
    IdempotencyKey::parse(&format!("schedule:{}:{nominal}", kept.schedule.name))
}

/// The refusal of a caller who may not do this to schedules.
fn forbidden(what: &str) -> Error {
    Error::new(
        ErrorCode::Forbidden,
        format!("{what} takes the scope `jobs:write` or `admin`."),
    )
}

/// The nominal times from `kept`'s next one on.
fn upcoming<'a>(kept: &Kept, timetable: &'a Timetable) -> impl Iterator<Item = UnixMs> + use<'a> {
    core::iter::successors(kept.nominal, |nominal| timetable.next_after(*nominal))
}
