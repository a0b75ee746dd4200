//! Showing jobs: one, its result, a page of them.

use alloc::boxed::Box;
use alloc::string::ToString;

use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::jobs::{Filter, Reply};
use tidegate_protocol::event::{Happening, JobState, Payload};
use tidegate_protocol::frames::result_url;
use tidegate_protocol::http::{self, JobPage};
use tidegate_protocol::ids::{JobId, JobNumber};
use tidegate_protocol::{Error, ErrorCode};

use super::row::{Job, columns, state_number};
use super::{CallId, SCAN_ROWS_MAX, Turn};
use crate::database::{Database, DatabaseError, Value};

impl Job {
    /// The job as its owner sees it.
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
            Some(Happening::Progress(_) | Happening::Retrying { .. }) | None => {}
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
        }
    }
}

impl<D: Database> Turn<'_, D> {
    pub(super) fn visible(&self, id: JobId, caller: &Caller) -> Result<Option<Job>, DatabaseError> {
        Ok(self.load(id)?.filter(|job| caller.may_read(&job.spec.user)))
    }

    pub(super) fn get(&mut self, call: CallId, id: JobId, caller: &Caller) -> Result<(), DatabaseError> {
        let reply = match self.visible(id, caller)? {
            Some(job) => Ok(Reply::Job(Box::new(job.view()))),
            None => Err(Error::not_found()),
        };
        self.reply(call, reply);
        Ok(())
    }

    pub(super) fn result(&mut self, call: CallId, id: JobId, caller: &Caller) -> Result<(), DatabaseError> {
        let reply = match self.visible(id, caller)? {
            None => Err(Error::not_found()),
            Some(job) => match job.outcome.map(|event| event.what) {
                Some(Happening::Completed { result }) => Ok(Reply::Result { result }),
                Some(Happening::Failed { error }) => Err(error),
                Some(Happening::Progress(_) | Happening::Retrying { .. }) | None => Err(Error::new(
                    ErrorCode::Conflict,
                    "The job has not ended: it has no result yet.",
                )),
            },
        };
        self.reply(call, reply);
        Ok(())
    }

    /// A page of jobs, newest first. A page looks at a bounded number of rows, so that it may be short, or even empty,
    /// and still have a cursor.
    pub(super) fn list(&mut self, call: CallId, caller: &Caller, filter: &Filter) -> Result<(), DatabaseError> {
        let below = filter.below.map_or(u64::MAX >> 11, |number| number.0);
        let limit = usize::try_from(filter.limit.clamp(1, 100)).unwrap_or(100);
        // Narrow in SQL what can be, so that rows are decoded only where they may be shown.
        let own = if caller.reads_all || caller.writes_all {
            filter.user.as_ref()
        } else {
            Some(&caller.user)
        };
        let hidden = filter.user.as_ref().is_some_and(|user| !caller.may_read(user));
        let mut page = JobPage {
            jobs: alloc::vec::Vec::new(),
            cursor: None,
        };
        if hidden {
            self.reply(call, Ok(Reply::Jobs(page)));
            return Ok(());
        }
        let rows = self.db.run(
            "-- jobs::list
            SELECT number FROM (
                SELECT number, state, user, action FROM job WHERE number < CAST(?1 AS INTEGER)
                ORDER BY number DESC LIMIT CAST(?5 AS INTEGER))
            WHERE (?2 IS NULL OR user = ?2) AND (?3 IS NULL OR action = ?3) AND (?4 IS NULL OR state = ?4)
            LIMIT CAST(?6 AS INTEGER)",
            &[
                Value::Number(below),
                own.map_or(Value::Null, |user| Value::Text(user.as_str())),
                filter
                    .action
                    .as_ref()
                    .map_or(Value::Null, |action| Value::Text(action.as_str())),
                filter
                    .status
                    .map_or(Value::Null, |status| Value::Number(state_number(status))),
                Value::Number(SCAN_ROWS_MAX),
                Value::Number(u64::try_from(limit).unwrap_or(100)),
            ],
        )?;
        for mut row in rows {
            if let Some(job) = self.load_number(JobNumber(row.number()?))? {
                page.jobs.push(job.view());
            }
        }
        let seen_to = if page.jobs.len() >= limit {
            page.jobs.last().map(|job| job.job_id.number())
        } else {
            let rows = self.db.run(
                columns!("WHERE number < CAST(? AS INTEGER) ORDER BY number DESC LIMIT 1 OFFSET CAST(? AS INTEGER)"),
                &[Value::Number(below), Value::Number(SCAN_ROWS_MAX - 1)],
            )?;
            Job::all(rows)?.first().map(|job| job.id.number())
        };
        page.cursor = seen_to.map(|number| number.0.to_string());
        self.reply(call, Ok(Reply::Jobs(page)));
        Ok(())
    }
}
