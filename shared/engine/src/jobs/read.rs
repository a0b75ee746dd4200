//! Showing jobs: one, its result, a page of them.

use alloc::boxed::Box;
use alloc::vec::Vec;

use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::jobs::{Filter, Reply};
use tidegate_protocol::event::{Happening, JobState, Payload};
use tidegate_protocol::frames::result_url;
use tidegate_protocol::http::{self, JobPage};
use tidegate_protocol::ids::JobId;
use tidegate_protocol::{Error, ErrorCode};

use super::letters::redriven_to;
use super::retention::gone;
use super::row::Job;
use super::select::{Source, Whose};
use super::{CallId, Turn};
use crate::database::{Database, DatabaseError};

impl Job {
    /// The job as its owner sees it, but for what its row does not load.
    fn view(&self) -> http::Job {
        let (mut result, mut url, mut error) = (None, None, None);
        match self.outcome.as_ref().map(|event| &event.what) {
            Some(Happening::Completed {
                result: Payload::Inline(value),
            }) => result = Some(value.clone()),
            Some(Happening::Completed {
                result: Payload::Stored { .. },
            }) => url = Some(result_url(self.id)),
            Some(Happening::Failed { error: cause }) => error = Some(cause.clone()),
            Some(Happening::Progress(_) | Happening::Output(_) | Happening::Started | Happening::Retrying { .. })
            | None => {}
        }
        http::Job {
            job_id: self.id,
            request_id: self.spec.request_id.clone(),
            action: self.spec.action.clone(),
            user: self.spec.user.clone(),
            status: self.state,
            attempt: self.attempt,
            seq: self.seq,
            progress: self.progress.clone(),
            metadata: self.spec.metadata.clone(),
            created_at: self.created_at,
            run_at: self
                .due_at
                .filter(|_| matches!(self.state, JobState::Scheduled | JobState::Retrying)),
            ended_at: self.ended_at,
            expires_at: self.expires_at,
            result,
            result_url: url,
            error,
            redriven_from: self.spec.redriven_from,
            redriven_to: None,
            batch_id: self.spec.batch.clone(),
            started_at: self.started_at,
        }
    }
}

impl<D: Database> Turn<'_, D> {
    pub(super) fn visible(&self, id: JobId, caller: &Caller) -> Result<Option<Job>, DatabaseError> {
        Ok(self.load(id)?.filter(|job| caller.may_read(&job.spec.user)))
    }

    pub(super) fn get(&mut self, call: CallId, id: JobId, caller: &Caller) -> Result<(), DatabaseError> {
        let reply = match self.visible(id, caller)? {
            Some(job) => Ok(Reply::Job(Box::new(self.shown(&job)?))),
            None => Err(Error::not_found()),
        };
        self.reply(call, reply);
        Ok(())
    }

    pub(super) fn result(&mut self, call: CallId, id: JobId, caller: &Caller) -> Result<(), DatabaseError> {
        let reply = match self.visible(id, caller)? {
            None => Err(Error::not_found()),
            Some(job) if job.has_faded(self.now) => Err(gone(&job)),
            Some(job) => match job.outcome.map(|event| event.what) {
                Some(Happening::Completed { result }) => Ok(Reply::Result { result }),
                Some(Happening::Failed { error }) => Err(error),
                Some(
                    Happening::Progress(_) | Happening::Output(_) | Happening::Started | Happening::Retrying { .. },
                )
                | None => Err(Error::new(
                    ErrorCode::Conflict,
                    "The job has not ended: it has no result yet.",
                )),
            },
        };
        self.reply(call, reply);
        Ok(())
    }

    /// A page of jobs. A page looks at a bounded number of rows, so that it may be short, or even empty,
    /// and still have a cursor.
    pub(super) fn list(&mut self, call: CallId, caller: &Caller, filter: &Filter) -> Result<(), DatabaseError> {
        let found = self.select(Source::Jobs, filter, &Whose::readable(caller, filter))?;
        let mut page = JobPage {
            jobs: Vec::with_capacity(found.numbers.len()),
            cursor: found.cursor(),
        };
        for number in found.numbers {
            if let Some(job) = self.load_number(number)? {
                page.jobs.push(self.shown(&job)?);
            }
        }
        self.reply(call, Ok(Reply::Jobs(page)));
        Ok(())
    }

    /// The job as its owner sees it, with the job that does it again.
    pub(super) fn shown(&self, job: &Job) -> Result<http::Job, DatabaseError> {
        let redriven_to = match job.state {
            JobState::Failed | JobState::Cancelled | JobState::Expired => redriven_to(self.db, job.id.number())?,
            _ => None,
        };
        Ok(http::Job {
            redriven_to,
            ..job.view()
        })
    }
}
