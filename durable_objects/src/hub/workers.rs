//! Workers on sockets: the jobs that they are given, and what their attempts say.

use std::rc::Rc;

use tidegate_engine::hub::Dealt;
use tidegate_protocol::frames::{AttemptSaid, ServerFrame};
use tidegate_protocol::http::{LeaseRenewed, LeasedJob};
use tidegate_protocol::ids::{ConnectionId, RequestId};
use tidegate_protocol::limits::FRAME_BYTES_MAX;
use tidegate_protocol::{Error, ErrorCode};

use super::Shell;
use crate::attempts;
use crate::platform::{beside, log_error, now};

impl Shell {
    /// Gives a worker its jobs, in frames of a bounded size.
    pub(super) fn lease(self: &Rc<Self>, to: &ConnectionId, request_id: RequestId, jobs: Vec<Dealt>) {
        let Some((tenant, _)) = &self.name else { return };
        let (mut part, mut bytes) = (Vec::new(), 0);
        let shown = jobs.into_iter().filter_map(|Dealt { shard, job, leased_at }| {
            attempts::shown(&self.env, tenant, shard, job, leased_at)
                // The end of the lease gives it to another.
                .map_err(|error| log_error("an attempt token", error))
                .ok()
        });
        for job in shown {
            let size = size(&job);
            if bytes > 0 && bytes + size > FRAME_BYTES_MAX {
                self.send_jobs(to, &request_id, core::mem::take(&mut part), true);
                bytes = 0;
            }
            bytes += size;
            part.push(job);
        }
        self.send_jobs(to, &request_id, part, false);
    }

    fn send_jobs(self: &Rc<Self>, to: &ConnectionId, request_id: &RequestId, jobs: Vec<LeasedJob>, more: bool) {
        let request_id = request_id.clone();
        let frame = ServerFrame::Leased { request_id, jobs, more };
        self.send(to, &frame.encode());
    }

    /// Hands on what an attempt says.
    pub(super) fn attempt(
        self: &Rc<Self>,
        to: ConnectionId,
        request_id: RequestId,
        attempt_token: String,
        said: AttemptSaid,
    ) {
        let shell = self.clone();
        beside(&self.state, async move {
            let result = shell.said(&attempt_token, said).await;
            let effects = shell.memory.borrow().attempted(now(), &to, request_id, result);
            shell.perform(effects);
            shell.event();
        });
    }

    async fn said(&self, token: &str, said: AttemptSaid) -> Result<Option<LeaseRenewed>, Error> {
        let attempt = attempts::open(&self.env, token)?;
        if self.name.as_ref().is_none_or(|(tenant, _)| *tenant != attempt.tenant) {
            let message = "The attempt token is that of another tenant.";
            return Err(Error::new(ErrorCode::Unauthorized, message));
        }
        match said {
            AttemptSaid::Report(body) => attempts::report(&self.env, &attempt, body).await.map(Some),
            AttemptSaid::Finish(body) => attempts::finish(&self.env, &attempt, body).await.map(|()| None),
        }
    }
}

/// About so many bytes of a frame.
fn size(job: &LeasedJob) -> usize {
    let notes: usize = job
        .metadata
        .iter()
        .map(|(name, value)| name.len() + value.len() + 6)
        .sum();
    let payload = job.payload.as_ref().map_or(0, |payload| payload.as_str().len());
    1024 + notes + payload
}
