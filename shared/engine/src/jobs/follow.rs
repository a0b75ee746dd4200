//! Who is told of a job's events: hubs with sockets, and calls that wait.

use alloc::vec::Vec;

use tidegate_protocol::Error;
use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::hub::Delivery;
use tidegate_protocol::calls::jobs::{JobRef, Reply};
use tidegate_protocol::event::Payload;
use tidegate_protocol::ids::{HubIndex, JobId, JobNumber, Seq};

use super::enqueue::{acknowledgment, busy};
use super::history::CATCH_UP_EVENTS_MAX;
use super::row::{Job, set_due};
use super::state::{Waiter, Waiting};
use super::{CallId, Turn, WAITERS_MAX};
use crate::database::{Database, DatabaseError};

impl<D: Database> Turn<'_, D> {
    /// What a follower with the cursor `after` is given now. Where that is not all, the answer does not say that the job
    /// has ended: whoever asks goes on from its last event.
    pub(super) fn following(&self, job: &Job, after: Option<Seq>) -> Result<Reply, DatabaseError> {
        let page = match after {
            Some(after) => Some(self.history(job, after, CATCH_UP_EVENTS_MAX)?),
            None => None,
        };
        let ended = job.state.is_ended();
        Ok(match page {
            Some(page) if !page.gap => Reply::Following {
                job: job.id,
                snapshot: None,
                events: page.events,
                ended: ended && !page.more,
            },
            // The snapshot of an ended job is its terminal event.
            _ if ended => Reply::Following {
                job: job.id,
                snapshot: None,
                events: job.outcome.iter().cloned().collect(),
                ended,
            },
            page => Reply::Following {
                job: job.id,
                snapshot: Some(job.snapshot(page.is_some())),
                events: Vec::new(),
                ended,
            },
        })
    }

    /// What a client that attaches with the cursor `after` is given.
    ///
    /// One that has the end of a job is given it again, because nothing else will ever come. A cursor beyond the job's
    /// latest event names nothing that happened, and counts as none: believed, it would keep the job's end from its
    /// client. One that has missed more than one answer can bring is told where the job stands, as after a gap.
    fn attached(&self, job: &Job, after: Option<Seq>) -> Result<Reply, DatabaseError> {
        let believed = after.filter(|after| *after < job.seq || (*after == job.seq && !job.state.is_ended()));
        let reply = self.following(job, believed)?;
        Ok(match reply {
            Reply::Following { job: id, events, .. } if events.last().is_some_and(|last| last.seq < job.seq) => {
                let ended = job.state.is_ended();
                Reply::Following {
                    job: id,
                    snapshot: (!ended).then(|| job.snapshot(true)),
                    events: job.outcome.iter().cloned().collect(),
                    ended,
                }
            }
            whole => whole,
        })
    }

    /// Adds a hub to the followers of a job and gives what it missed.
    pub(super) fn follow(
        &mut self,
        call: CallId,
        job: &JobRef,
        caller: &Caller,
        hub: HubIndex,
        after: Option<Seq>,
    ) -> Result<(), DatabaseError> {
        let found = match job {
            JobRef::Id(id) => self.load(*id)?,
            JobRef::Key(action, key) | JobRef::Anywhere { action, key, .. } => {
                self.named(action.as_str(), key.as_str())?
            }
        };
        let Some(mut job) = found.filter(|job| caller.may_read(&job.spec.user)) else {
            self.reply(call, Err(Error::not_found()));
            return Ok(());
        };
        if !job.state.is_ended() {
            self.add_follower(&mut job, hub)?;
        }
        let reply = self.attached(&job, after)?;
        self.reply(call, Ok(reply));
        Ok(())
    }

    /// Sends the events of `job` to `hub` from now on.
    pub(super) fn add_follower(&mut self, job: &mut Job, hub: HubIndex) -> Result<(), DatabaseError> {
        self.state.followed.insert((hub, job.id.number()));
        self.followed_by(job.id.number(), hub)?;
        if !job.followers.contains(&hub) {
            job.followers.push(hub);
            self.save(job)?;
        }
        Ok(())
    }

    /// Gives the events after a place; where there are none, waits for one.
    pub(super) fn watch(
        &mut self,
        call: CallId,
        id: JobId,
        caller: &Caller,
        after: Option<Seq>,
        wait_ms: u64,
        until_end: bool,
    ) -> Result<(), DatabaseError> {
        let Some(job) = self.load(id)?.filter(|job| caller.may_read(&job.spec.user)) else {
            self.reply(call, Err(Error::not_found()));
            return Ok(());
        };
        self.somebody_came(id.number())?;
        let after = after.unwrap_or(Seq(0));
        let happened = !job.log.is_empty() || job.outcome.is_some() || job.reported.is_some();
        let now = !until_end && job.seq > after && happened;
        if job.state.is_ended() || wait_ms == 0 || now {
            let reply = self.following(&job, Some(after))?;
            self.reply(call, Ok(reply));
        } else if self.state.waiters.len() >= WAITERS_MAX {
            self.reply(call, Err(busy()));
        } else {
            let waiting = Waiting::Events { after, until_end };
            let waiter = Waiter {
                job: id.number(),
                deadline: self.now.plus(wait_ms),
                waiting,
            };
            self.state.waiters.insert(call, waiter);
        }
        Ok(())
    }

    /// Answers the calls whose time is over; a job without a row gets one before it is acknowledged.
    pub(super) fn tick(&mut self) -> Result<(), DatabaseError> {
        let now = self.now;
        self.tick_batches()?;
        while let Some(number) = self.state.waiters.values().find(|w| w.deadline <= now).map(|w| w.job) {
            let late = self.state.take_waiters(number, |waiter| waiter.deadline <= now);
            let outcomes = late
                .iter()
                .any(|(_, waiter)| matches!(waiter.waiting, Waiting::Outcome { .. }));
            let stored = if outcomes { self.store(number)? } else { None };
            let job = match stored {
                Some(job) => Some(job),
                None => self.load_number(number)?,
            };
            for (call, waiter) in late {
                let reply = match (&job, waiter.waiting) {
                    (None, _) => Err(Error::not_found()),
                    (Some(job), Waiting::Outcome { deduplicated }) => Ok(acknowledgment(job, deduplicated)),
                    (Some(job), Waiting::Events { after, .. }) => Ok(self.following(job, Some(after))?),
                };
                self.reply(call, reply);
            }
        }
        Ok(())
    }

    /// Acknowledges a job to the calls that wait for its outcome: it will take longer.
    pub(super) fn give_up_waiting(&mut self, number: JobNumber) -> Result<(), DatabaseError> {
        let ready = self
            .state
            .take_waiters(number, |waiter| matches!(waiter.waiting, Waiting::Outcome { .. }));
        let job = self.load_number(number)?;
        for (call, waiter) in ready {
            let reply = match (&job, waiter.waiting) {
                (Some(job), Waiting::Outcome { deduplicated }) => Ok(acknowledgment(job, deduplicated)),
                _ => Err(Error::not_found()),
            };
            self.reply(call, reply);
        }
        Ok(())
    }

    /// A hub confirmed these events. An end that every hub has leaves the index of due rows.
    pub(super) fn delivered(
        &mut self,
        hub: HubIndex,
        deliveries: &[Delivery],
        not_followed: &[JobId],
    ) -> Result<(), DatabaseError> {
        for number in self.state.confirmed(hub, deliveries) {
            set_due(self.db, number, None)?;
        }
        for id in not_followed {
            if self.state.followed.contains(&(hub, id.number())) {
                continue;
            }
            if let Some(mut job) = self.load(*id)?.filter(|job| !job.state.is_ended()) {
                job.followers.retain(|follower| *follower != hub);
                self.save(&job)?;
                self.not_followed_by_one(id.number());
            }
        }
        self.state.followed.retain(|(follower, _)| *follower != hub);
        Ok(())
    }
}

/// The key under which a payload lies in object storage.
pub(super) fn stored_key(payload: &Payload) -> Option<&str> {
    match payload {
        Payload::Inline(_) => None,
        // A result past its retention lies nowhere.
        Payload::Stored { key, .. } => Some(key.as_str()).filter(|key| !key.is_empty()),
    }
}
