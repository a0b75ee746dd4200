//! What can be asked of schedules: set them, show them, hold one back, fire one by hand.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::jobs::Reply;
use tidegate_protocol::calls::schedules::Schedule;
use tidegate_protocol::event::{JobState, JsonText};
use tidegate_protocol::http::{AuditCounts, AuditTarget, AuditWhat, Backfilled, ScheduleInfo, ScheduleList};
use tidegate_protocol::ids::{IdempotencyKey, ScheduleName};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode, Fault};

use super::super::{CallId, Turn};
use super::row::{self, Kept};
use super::{CATCH_UP_TIMES_MAX, Submitted, Watch, forbidden, nominal_key, upcoming};
use crate::database::{Database, DatabaseError};

/// Nominal times that are shown of each schedule.
const SHOWN_TIMES: usize = 5;

type Answer = Result<Reply, Error>;

impl<D: Database> Turn<'_, D> {
    /// Takes over the schedules of a version. What a schedule of the same name has done, and whether it was held back by
    /// hand, stays; a new timetable begins now.
    pub(in crate::jobs) fn set_schedules(
        &mut self,
        call: CallId,
        version: u64,
        schedules: Vec<Schedule>,
    ) -> Result<(), DatabaseError> {
        if version > row::version(self.db)? {
            let mut known = row::load_all(self.db)?;
            let stays = |kept: &Kept| schedules.iter().any(|schedule| schedule.name == kept.schedule.name);
            for gone in known.iter().filter(|kept| !stays(kept)) {
                row::delete(self.db, &gone.schedule.name)?;
            }
            for schedule in schedules {
                let old = known.iter().position(|kept| kept.schedule.name == schedule.name);
                let kept = match old {
                    Some(index) => self.changed(known.swap_remove(index), schedule),
                    None => self.begun(schedule),
                };
                kept.write(self.db)?;
            }
            row::set_version(self.db, version)?;
            self.state.schedules = Watch::recover(self.db)?;
        }
        self.reply(call, Ok(Reply::Done));
        Ok(())
    }

    fn begun(&self, schedule: Schedule) -> Kept {
        let mut kept = Kept::new(schedule, self.now);
        kept.advance(kept.timetable().as_ref());
        kept
    }

    fn changed(&self, mut kept: Kept, schedule: Schedule) -> Kept {
        let old = core::mem::replace(&mut kept.schedule, schedule);
        let new = &kept.schedule;
        let same_times = old.cron == new.cron && old.time_zone == new.time_zone;
        let turned = old.paused != new.paused;
        if turned {
            kept.paused = new.paused;
            kept.held = kept.held.filter(|_| !kept.paused);
        }
        if turned || !same_times {
            kept.done_until = kept.done_until.max(self.now);
        }
        kept.advance(kept.timetable().as_ref());
        kept
    }

    /// Every schedule, and how it stands.
    pub(in crate::jobs) fn schedules(&mut self, call: CallId, caller: &Caller) -> Result<(), DatabaseError> {
        let reply = if caller.reads_all || caller.writes_all {
            shown(&ScheduleList {
                schedules: row::load_all(self.db)?.iter().map(info).collect(),
            })
        } else {
            let message = "Seeing schedules takes the scope `jobs:read`, `jobs:write` or `admin`.";
            Err(Error::new(ErrorCode::Forbidden, message))
        };
        self.reply(call, reply);
        Ok(())
    }

    /// Holds a schedule back, or lets it go on. What comes in between is neither fired nor missed.
    pub(in crate::jobs) fn pause_schedule(
        &mut self,
        call: CallId,
        name: &ScheduleName,
        caller: &Caller,
        paused: bool,
    ) -> Result<(), DatabaseError> {
        let reply = match self.own_schedule(name, caller, "Holding a schedule back")? {
            Err(error) => Err(error),
            Ok(mut kept) => {
                if kept.paused != paused {
                    kept.paused = paused;
                    kept.held = None;
                    kept.done_until = kept.done_until.max(self.now);
                    kept.advance(kept.timetable().as_ref());
                    kept.write(self.db)?;
                    self.state.schedules = Watch::recover(self.db)?;
                    let what = if paused {
                        AuditWhat::SchedulePaused
                    } else {
                        AuditWhat::ScheduleResumed
                    };
                    self.note(caller, what, of_schedule(name), None)?;
                }
                shown(&info(&kept))
            }
        };
        self.reply(call, reply);
        Ok(())
    }

    /// Fires a schedule now, whatever its clock, its overlap and its pause say.
    pub(in crate::jobs) fn trigger_schedule(
        &mut self,
        call: CallId,
        name: &ScheduleName,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
    ) -> Result<(), DatabaseError> {
        let reply = match self.own_schedule(name, caller, "Firing a schedule")? {
            Err(error) => Err(error),
            Ok(kept) => self.trigger(kept, key)?,
        };
        if let Ok(Reply::Acknowledged {
            job,
            deduplicated: false,
            ..
        }) = &reply
        {
            let target = AuditTarget {
                jobs: vec![*job],
                ..of_schedule(name)
            };
            self.note(caller, AuditWhat::ScheduleTriggered, target, None)?;
        }
        self.reply(call, reply);
        Ok(())
    }

    fn trigger(&mut self, mut kept: Kept, given: Option<&IdempotencyKey>) -> Result<Answer, DatabaseError> {
        let key = given.map(|key| IdempotencyKey::parse(&format!("schedule:{}:trigger:{key}", kept.schedule.name)));
        if key == Some(None) {
            let fault = Fault::new(
                "/idempotency_key",
                "a shorter key: the name of the schedule is put before it",
                "a longer one",
            );
            return Ok(Err(Error::invalid("The schedule cannot be fired.", vec![fault])));
        }
        let (job, new) = match self.submit(&kept, None, key.flatten())? {
            Submitted::Job { job, new } => (job, new),
            Submitted::Full | Submitted::Refused => return Ok(Err(full())),
        };
        if new {
            kept.last_job = Some(job);
            kept.last_fired = None;
            kept.write(self.db)?;
        }
        let found = self.load(job)?;
        Ok(Ok(Reply::Acknowledged {
            job,
            status: found.as_ref().map_or(JobState::Queued, |job| job.state),
            seq: found.map(|job| job.seq).unwrap_or_default(),
            deduplicated: !new,
            run_at: None,
        }))
    }

    /// Fires a schedule for the nominal times of a part of the past that have no job, a bounded number at a time.
    pub(in crate::jobs) fn backfill(
        &mut self,
        call: CallId,
        name: &ScheduleName,
        caller: &Caller,
        (from, to): (UnixMs, UnixMs),
    ) -> Result<(), DatabaseError> {
        let reply = match self.own_schedule(name, caller, "Firing a schedule")? {
            Err(error) => Err(error),
            Ok(kept) => self.fill_back(&kept, from, to)?,
        };
        if let Ok(Reply::Backfilled(Backfilled { fired: done @ 1.., .. })) = &reply {
            let counts = AuditCounts {
                done: *done,
                refused: 0,
            };
            self.note(caller, AuditWhat::ScheduleBackfilled, of_schedule(name), Some(counts))?;
        }
        self.reply(call, reply);
        Ok(())
    }

    fn fill_back(&mut self, kept: &Kept, from: UnixMs, to: UnixMs) -> Result<Answer, DatabaseError> {
        let mut faults = Vec::new();
        if to > self.now {
            faults.push(Fault::new("/to", "a moment that is over", &format!("{to}")));
        }
        if from >= to {
            faults.push(Fault::new("/from", "a moment before `to`", &format!("{from}")));
        }
        if !faults.is_empty() {
            return Ok(Err(Error::invalid("This is no part of the past.", faults)));
        }
        let mut done = Backfilled {
            fired: 0,
            known: 0,
            rest_from: None,
        };
        let Some(timetable) = kept.timetable() else {
            return Ok(Ok(Reply::Backfilled(done)));
        };
        let first = timetable.next_after(UnixMs(from.0.saturating_sub(1)));
        let times = core::iter::successors(first, |nominal| timetable.next_after(*nominal));
        for nominal in times.take_while(|nominal| *nominal < to) {
            if done.fired + done.known == CATCH_UP_TIMES_MAX {
                done.rest_from = Some(nominal);
                break;
            }
            match self.submit(kept, Some(nominal), nominal_key(kept, nominal))? {
                Submitted::Job { new: true, .. } => done.fired += 1,
                Submitted::Job { new: false, .. } => done.known += 1,
                Submitted::Full | Submitted::Refused if done.fired == 0 => return Ok(Err(full())),
                Submitted::Full | Submitted::Refused => {
                    done.rest_from = Some(nominal);
                    break;
                }
            }
        }
        Ok(Ok(Reply::Backfilled(done)))
    }

    /// The schedule `name`, for a caller who may change it.
    fn own_schedule(
        &self,
        name: &ScheduleName,
        caller: &Caller,
        what: &str,
    ) -> Result<Result<Kept, Error>, DatabaseError> {
        if !caller.writes_all {
            return Ok(Err(forbidden(what)));
        }
        Ok(row::load(self.db, name)?.ok_or_else(Error::not_found))
    }
}

fn of_schedule(name: &ScheduleName) -> AuditTarget {
    AuditTarget {
        schedule: Some(name.clone()),
        ..AuditTarget::default()
    }
}

fn full() -> Error {
    Error::new(ErrorCode::QueueFull, "The queue takes no more jobs for now.").retry_after(5000)
}

/// As the API shows it.
fn shown(value: &impl serde::Serialize) -> Answer {
    JsonText::of(value)
        .map(Reply::Schedules)
        .ok_or_else(|| Error::new(ErrorCode::InternalError, "The schedules could not be written."))
}

fn info(kept: &Kept) -> ScheduleInfo {
    let schedule = &kept.schedule;
    let next = match kept.timetable() {
        Some(timetable) => upcoming(kept, &timetable).take(SHOWN_TIMES).collect(),
        None => Vec::new(),
    };
    ScheduleInfo {
        name: schedule.name.clone(),
        cron: schedule.cron.clone(),
        time_zone: schedule.time_zone.clone(),
        action: schedule.job.action.clone(),
        user: schedule.job.user.clone(),
        overlap: schedule.overlap,
        catch_up_ms: schedule.catch_up_ms,
        jitter_ms: schedule.jitter_ms,
        paused: kept.paused,
        next,
        held: kept.held,
        last_job: kept.last_job,
        last_fired: kept.last_fired,
        fired: kept.fired,
        skipped: kept.skipped,
        missed: kept.missed,
    }
}
