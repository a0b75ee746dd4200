//! A batch of requests over HTTP: each is admitted as any other, and the answers are gathered in their order.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use tidegate_protocol::calls::hub::{Prefer, Reply};
use tidegate_protocol::calls::{Answered, Principal};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::frames::{Mode, Request, result_url};
use tidegate_protocol::ids::{RequestId, TraceParent};
use tidegate_protocol::limits::BODY_BYTES_MAX;
use tidegate_protocol::{Error, ErrorCode, Fault};

use super::pending::Asker;
use super::{Admitted, Context, Effect, HttpId, Hub, Moment, admit};
use crate::composition::Plan;

/// Bytes of results that the answer to one batch holds, of keys whose jobs have succeeded already. Each can be 64 KiB, so
/// that a thousand would be more than an object may hold; from here on the answer says where the result is.
pub const BATCH_DATA_BYTES_MAX: usize = 1024 * 1024;

/// The answers of a batch, as far as they are there.
#[derive(Debug, Clone)]
struct Gathering {
    answers: Vec<Option<Answered<Reply>>>,
    missing: usize,
    data_bytes: usize,
}

/// The batches that are under way.
#[derive(Debug, Clone, Default)]
pub(super) struct Batches(BTreeMap<HttpId, Gathering>);

impl Hub {
    /// A batch of requests over HTTP. Each becomes a job, or is refused by itself.
    pub fn batch(
        &mut self,
        moment: &mut Moment<'_>,
        plan: &Plan,
        from: HttpId,
        principal: &Principal,
        items: &[String],
        traceparent: Option<&str>,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        let gathering = Gathering {
            answers: vec![None; items.len()],
            missing: items.len(),
            data_bytes: 0,
        };
        self.batches.0.insert(from, gathering);
        for (index, item) in items.iter().enumerate() {
            let asker = Asker::Item(from, index);
            match self.admit_item(moment, plan, principal, item, traceparent) {
                Ok((request_id, admitted)) => self.dispatch(asker, request_id, admitted, &mut effects),
                Err(error) => self.gather(from, index, Err(error), &mut effects),
            }
        }
        effects
    }

    fn admit_item(
        &self,
        moment: &mut Moment<'_>,
        plan: &Plan,
        principal: &Principal,
        item: &str,
        traceparent: Option<&str>,
    ) -> Result<(RequestId, Admitted), Error> {
        if item.len() > BODY_BYTES_MAX {
            let message = alloc::format!(
                "A request holds at most {BODY_BYTES_MAX} bytes; this one has {}.",
                item.len()
            );
            return Err(Error::new(ErrorCode::PayloadTooLarge, message));
        }
        let mut request = Request::parse(item)?;
        if request.mode == Mode::Sync {
            let fault = Fault::new(
                "/mode",
                "`async` or `auto`: the requests of a batch become jobs",
                "sync",
            );
            return Err(Error::invalid("The request cannot be part of a batch.", vec![fault]));
        }
        request.mode = Mode::Async;
        if request.traceparent.is_none() {
            request.traceparent = traceparent.and_then(TraceParent::parse);
        }
        let request_id = match &request.id {
            Some(id) => id.clone(),
            None => RequestId::generate(moment.now, (moment.random)()),
        };
        let context = Context {
            plan,
            spreads: &self.spreads,
            principal,
            now: moment.now,
            follower: None,
        };
        let admitted = admit(context, &request, &request_id, Prefer::default(), (moment.random)())?;
        Ok((request_id, admitted))
    }

    /// The answer to one request of a batch is there; the last one answers the batch.
    pub(super) fn gather(
        &mut self,
        batch: HttpId,
        index: usize,
        reply: Result<Reply, Error>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(gathering) = self.batches.0.get_mut(&batch) else {
            return;
        };
        let Some(place @ None) = gathering.answers.get_mut(index) else {
            return;
        };
        *place = Some(bounded(reply, &mut gathering.data_bytes).into());
        gathering.missing = gathering.missing.saturating_sub(1);
        if gathering.missing == 0
            && let Some(gathering) = self.batches.0.remove(&batch)
        {
            let answers = gathering.answers.into_iter().flatten().collect();
            effects.push(Effect::Answer {
                to: batch,
                reply: Ok(Reply::Batch { answers }),
            });
        }
    }
}

/// The reply, with a result that no longer fits into the batch's answer left where it lies.
fn bounded(reply: Result<Reply, Error>, data_bytes: &mut usize) -> Result<Reply, Error> {
    match reply {
        Ok(Reply::Answer {
            request_id,
            result: Ok(data),
            job: Some(job),
            deduplicated,
            result_url: None,
        }) => {
            let fits = *data_bytes + data.as_str().len() <= BATCH_DATA_BYTES_MAX;
            if fits {
                *data_bytes += data.as_str().len();
            }
            Ok(Reply::Answer {
                request_id,
                result: Ok(if fits { data } else { JsonText::null() }),
                job: Some(job),
                deduplicated,
                result_url: (!fits).then(|| result_url(job)),
            })
        }
        other => other,
    }
}
