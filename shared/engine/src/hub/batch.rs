//! A batch of requests over HTTP: each is admitted as any other, and the answers are gathered in their order.
//!
//! A thousand of them are some thirty milliseconds of work. Whoever shares the thread has a turn between its parts.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use sha2::{Digest, Sha256};
use tidegate_protocol::calls::admission::Need;
use tidegate_protocol::calls::hub::{Prefer, Reply};
use tidegate_protocol::calls::{Answered, Principal};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::frames::{Mode, Request, result_url};
use tidegate_protocol::http::header_key;
use tidegate_protocol::ids::{BatchId, IdempotencyKey, RequestId, TraceParent};
use tidegate_protocol::limits::BODY_BYTES_MAX;
use tidegate_protocol::{Error, ErrorCode, Fault};

use super::pending::Asker;
use super::{Admitted, Context, Effect, HttpId, Hub, Moment, admit};
use crate::access;
use crate::company::Company;
use crate::composition::Plan;
use crate::digest::short;
use tidegate_protocol::SortedMap;

/// Bytes of results that the answer to one batch holds, of keys whose jobs have succeeded already. Each can be 64 KiB, so
/// that a thousand would be more than an object may hold; from here on the answer says where the result is.
pub const BATCH_DATA_BYTES_MAX: usize = 1024 * 1024;

/// The answers of a batch, as far as they are there.
#[derive(Debug, Clone)]
struct Gathering {
    answers: Vec<Option<Answered<Reply>>>,
    missing: usize,
    data_bytes: usize,
    id: BatchId,
}

/// Requests of a batch that are admitted in one turn at most: about a millisecond of work, or less than a quarter of it where
/// others share the thread. There it is what the job queue decides between two looks, so that a part is one turn and one row.
#[must_use]
pub const fn batch_part_max(company: Company) -> usize {
    match company {
        Company::Alone => 64,
        Company::Others => 8,
    }
}

/// A batch that has begun, and the parts of it that are still to be admitted.
#[derive(Debug)]
pub struct BatchParts {
    from: HttpId,
    named: Named,
    /// The place of the next request.
    next: usize,
}

/// The batch that its requests come as, and whether the client has named it.
#[derive(Debug)]
struct Named {
    id: BatchId,
    by_key: bool,
}

impl Named {
    /// With a key the id follows from tenant, user and key alone: the same call, the same batch.
    fn new(moment: &mut Moment<'_>, principal: &Principal, key: Option<&str>) -> Result<Self, Error> {
        let random = (moment.random)();
        let Some(key) = key.map(header_key).transpose()? else {
            let id = BatchId::generate(moment.now, random);
            return Ok(Self { id, by_key: false });
        };
        let mut hash = Sha256::new();
        for part in [
            "batch",
            principal.tenant.as_str(),
            principal.user.as_str(),
            key.as_str(),
        ] {
            hash.update(part.as_bytes());
            hash.update([0xff]);
        }
        let id = BatchId::parse(&format!("{}{}", BatchId::PREFIX, short(hash)));
        let id = id.ok_or_else(|| Error::new(ErrorCode::InternalError, "A batch could not be named."))?;
        Ok(Self { id, by_key: true })
    }

    /// The key of the request at `index` that has none of its own.
    fn key_of(&self, index: usize) -> Option<IdempotencyKey> {
        let key = format!("{}:{index}", self.id);
        self.by_key.then(|| IdempotencyKey::parse(&key)).flatten()
    }
}

/// The batches that are under way.
#[derive(Debug, Clone, Default)]
pub(super) struct Batches(SortedMap<HttpId, Gathering>);

impl Hub {
    /// Begins a batch of `count` requests over HTTP, which follow in their order by [`Self::batch_part`]. `key` is the header
    /// `Idempotency-Key`: it names the batch, and each request in it that has no key of its own.
    ///
    /// Errors: `VALIDATION_ERROR` for the key; those of [`access::check`].
    pub fn begin_batch(
        &mut self,
        moment: &mut Moment<'_>,
        from: HttpId,
        principal: &Principal,
        count: usize,
        key: Option<&str>,
    ) -> Result<BatchParts, Error> {
        access::check(&self.access, principal, moment.now)?;
        let named = Named::new(moment, principal, key)?;
        let gathering = Gathering {
            answers: vec![None; count],
            missing: count,
            data_bytes: 0,
            id: named.id.clone(),
        };
        self.batches.0.insert(from, gathering);
        Ok(BatchParts { from, named, next: 0 })
    }

    /// Admits the next requests of a batch: each becomes a job, or is refused by itself. The batch is answered once all of
    /// its requests are. `traceparent` is that of the call, for requests that have none of their own.
    pub fn batch_part(
        &mut self,
        moment: &mut Moment<'_>,
        plan: &Plan,
        principal: &Principal,
        parts: &mut BatchParts,
        items: &[String],
        traceparent: Option<&str>,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        for item in items {
            let index = parts.next;
            parts.next += 1;
            let asker = Asker::Item(parts.from, index);
            match self.admit_item(moment, plan, principal, item, traceparent, (&parts.named, index)) {
                Ok((request_id, admitted)) => self.pass(moment.now, asker, request_id, admitted, &mut effects),
                Err(error) => self.gather(parts.from, index, Err(error), &mut effects),
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
        (named, index): (&Named, usize),
    ) -> Result<(RequestId, (Admitted, Vec<Need>)), Error> {
        if item.len() > BODY_BYTES_MAX {
            let message = alloc::format!(
                "A request holds at most {BODY_BYTES_MAX} bytes; this one has {}.",
                item.len()
            );
            return Err(Error::new(ErrorCode::PayloadTooLarge, message));
        }
        self.check_budgets(moment.now)?;
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
        // What a composition names by its own values needs no other name, and takes none.
        let named_by_itself = plan
            .action(&request.action)
            .is_ok_and(|action| action.once.dedupe.is_some());
        if request.idempotency_key.is_none() && !named_by_itself {
            request.idempotency_key = named.key_of(index);
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
        let (mut admitted, needs) = admit(context, &request, &request_id, Prefer::default(), (moment.random)())?;
        if let Admitted::Job { enqueue, .. } = &mut admitted {
            enqueue.job.batch = Some(named.id.clone());
        }
        Ok((request_id, (admitted, needs)))
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
                reply: Ok(Reply::Batch {
                    answers,
                    batch: Some(gathering.id),
                }),
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
