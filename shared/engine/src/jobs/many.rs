//! The same change to several jobs: each has its own result, and what was not looked at is told.

use alloc::vec::Vec;

use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::jobs::{ManyAction, Reply, Selection};
use tidegate_protocol::event::Payload;
use tidegate_protocol::http::{AUDIT_JOBS_MAX, AuditCounts, AuditTarget, AuditWhat, BULK_JOBS_MAX, BulkItem};
use tidegate_protocol::ids::{JobId, JobNumber};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use super::letters::{check_dead, redriven_to};
use super::select::{Source, Whose};
use super::trail::filter;
use super::{CallId, Turn};
use crate::database::{Database, DatabaseError};

/// When redriven jobs start: each so much later than the one before.
struct Slots {
    start: UnixMs,
    interval_us: u64,
    taken: u64,
}

impl Slots {
    /// The next moment.
    fn next(&self) -> UnixMs {
        self.start.plus(self.taken.saturating_mul(self.interval_us) / 1000)
    }
}

impl<D: Database> Turn<'_, D> {
    /// Changes several jobs, and tells what became of each.
    pub(super) fn many(
        &mut self,
        call: CallId,
        caller: &Caller,
        which: Selection,
        action: ManyAction,
        dry_run: bool,
    ) -> Result<(), DatabaseError> {
        let mut target = AuditTarget {
            filter: match &which {
                Selection::Ids(_) => None,
                Selection::Filter(chosen) => Some(filter(chosen)),
            },
            ..AuditTarget::default()
        };
        let mut counts = AuditCounts::default();
        let (ids, mut next, by_filter) = match which {
            Selection::Ids(mut ids) => {
                ids.truncate(usize::try_from(BULK_JOBS_MAX).unwrap_or(usize::MAX));
                (ids, None, false)
            }
            Selection::Filter(filter) => {
                let whose = Whose::changeable(caller, &filter);
                let found = match action {
                    // What only lost its doorbell is not to be done again, unless one asks for just that: and is told so.
                    ManyAction::Redrive { .. } if filter.code != Some(ErrorCode::DoorbellLost) => {
                        self.select(Source::DeadLetters, &filter, &whose)?
                    }
                    ManyAction::Redrive { .. } | ManyAction::Discard => self.letters(&filter, &whose)?,
                    ManyAction::Cancel => self.select(Source::Open, &filter, &whose)?,
                };
                let mut ids = Vec::with_capacity(found.numbers.len());
                for number in found.numbers {
                    ids.extend(self.load_number(number)?.map(|job| job.id));
                }
                (ids, found.below, true)
            }
        };
        let mut slots = match &action {
            ManyAction::Redrive { start, interval_us, .. } => Slots {
                start: *start,
                interval_us: *interval_us,
                taken: 0,
            },
            ManyAction::Discard | ManyAction::Cancel => Slots {
                start: self.now,
                interval_us: 0,
                taken: 0,
            },
        };
        let mut jobs = Vec::with_capacity(ids.len());
        for id in ids {
            let (item, changed) = match &action {
                ManyAction::Redrive { payload, .. } => {
                    let item = self.redrive_one(call, id, caller, payload.as_ref(), &mut slots, dry_run)?;
                    // One that was redriven before has no time at which it starts.
                    let changed = item.run_at.is_some() && !dry_run;
                    (item, changed)
                }
                ManyAction::Discard => told(id, self.discard(id, caller, dry_run)?),
                ManyAction::Cancel => told(id, self.cancel_job(id, caller, dry_run)?),
            };
            counts.done += u64::from(changed);
            counts.refused += u64::from(item.error.is_some());
            if changed && target.jobs.len() < AUDIT_JOBS_MAX {
                target.jobs.push(id);
            }
            let full = item
                .error
                .as_ref()
                .is_some_and(|error| error.code == ErrorCode::QueueFull);
            jobs.push(item);
            if full && by_filter {
                // The next call begins with the job for which there was no room.
                next = Some(JobNumber(id.number().0 + 1));
                break;
            }
        }
        if counts.done > 0 {
            let what = match &action {
                ManyAction::Redrive { .. } => AuditWhat::DeadLettersRedriven,
                ManyAction::Discard => AuditWhat::DeadLettersDiscarded,
                ManyAction::Cancel => AuditWhat::JobsCancelled,
            };
            self.note(caller, what, target, Some(counts))?;
        }
        self.reply(call, Ok(Reply::Many { jobs, next }));
        Ok(())
    }

    fn redrive_one(
        &mut self,
        call: CallId,
        id: JobId,
        caller: &Caller,
        replaced: Option<&Payload>,
        slots: &mut Slots,
        dry_run: bool,
    ) -> Result<BulkItem, DatabaseError> {
        let refusal = match self.changeable(id, caller, "Redriving")? {
            Err(error) => error,
            Ok(job) => match check_dead(&job) {
                Err(error) => self.not_failed(&job, error)?,
                Ok(()) => {
                    let run_at = slots.next();
                    let redriven = if dry_run {
                        redriven_to(self.db, id.number())?
                    } else {
                        match self.redrive(call, &job, replaced.cloned(), Some(run_at))? {
                            Err(error) => return Ok(result(id, Err(error))),
                            Ok(redriven) if redriven.fresh => {
                                slots.taken += 1;
                                let mut item = result(id, Ok(()));
                                (item.redriven_to, item.run_at) = (Some(redriven.job), Some(run_at));
                                return Ok(item);
                            }
                            Ok(redriven) => Some(redriven.job),
                        }
                    };
                    let mut item = result(id, Ok(()));
                    item.redriven_to = redriven;
                    if redriven.is_none() {
                        slots.taken += 1;
                        item.run_at = Some(run_at);
                    }
                    return Ok(item);
                }
            },
        };
        Ok(result(id, Err(refusal)))
    }
}

/// What became of a job, and whether that is another than before.
fn told(job: JobId, done: Result<bool, Error>) -> (BulkItem, bool) {
    let changed = matches!(done, Ok(true));
    (result(job, done.map(|_| ())), changed)
}

fn result(job_id: JobId, done: Result<(), Error>) -> BulkItem {
    BulkItem {
        job_id,
        redriven_to: None,
        run_at: None,
        error: done.err(),
    }
}
