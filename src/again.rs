//! Trying again, and several jobs at once: `:retry`, dead letters, bulk redrives, discards and cancels.
//!
//! Each `Jobs` object decides about its own jobs. Here they are asked in turn, a bounded number of them in one request,
//! and the answer's cursor says where the next request goes on.

use tidegate_durable_objects::platform::{now, unavailable};
use tidegate_durable_objects::{remote, storage};
use tidegate_engine::jobs::payload_name;
use tidegate_protocol::calls::jobs::{Call, Filter, ManyAction, Reply, Selection};
use tidegate_protocol::calls::spread::{Spreads, owner_after};
use tidegate_protocol::calls::{Caller, Principal};
use tidegate_protocol::event::{JsonText, Payload};
use tidegate_protocol::http::{BulkAnswer, BulkItem, BulkRequest, DeadLetterPage, RetryRequest};
use tidegate_protocol::ids::{JobId, JobNumber, ObjectName, ShardIndex};
use tidegate_protocol::limits::{BODY_BYTES_MAX, PAYLOAD_ROW_BYTES_MAX};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode, Fault};
use worker::{Env, Request, Response};

use crate::answer;
use crate::audit::acting;
use crate::jobs::{everywhere, filter, find, queries, unexpected};
use crate::requests::read_text;
use crate::tenants::describe;
use tidegate_protocol::SortedMap;

/// Calls to objects that one change of several jobs makes at most: each is a turn, and the client waits for all of them.
const CALLS_MAX: usize = 16;

/// `POST /v1/jobs/{id}:retry`: answers with the job that is tried now, which is a new one where the old one had ended.
///
/// Errors: `NOT_FOUND`, `FORBIDDEN`, `CONFLICT` for a job that runs or has succeeded, `QUEUE_FULL`, `VALIDATION_ERROR`.
pub async fn retry(request: &mut Request, env: &Env, principal: &Principal, job: &str) -> Result<Response, Error> {
    let body = read_text(request, BODY_BYTES_MAX).await?;
    let asked = RetryRequest::parse(&body)?;
    let (job, name) = find(env, principal, job).await?;
    let payload = match asked.payload {
        Some(raw) => Some(check_in(env, principal, &name, job, JsonText::from(raw)).await?),
        None => None,
    };
    let caller = acting(request, principal);
    match remote::jobs(env, &name, Call::Retry { job, caller, payload }).await? {
        Reply::Job(tried) => {
            let response = answer::json(&tried, 202)?;
            let location = format!("/v1/jobs/{}", tried.job_id);
            response.headers().set("location", &location).map_err(answer::broken)?;
            Ok(response)
        }
        _ => Err(unexpected()),
    }
}

/// Puts a payload that is too large for a row into object storage. Nothing is put there for a job that is not there.
async fn check_in(
    env: &Env,
    principal: &Principal,
    name: &ObjectName,
    job: JobId,
    value: JsonText,
) -> Result<Payload, Error> {
    if value.as_str().len() <= PAYLOAD_ROW_BYTES_MAX {
        return Ok(Payload::Inline(value));
    }
    let caller = principal.caller();
    remote::jobs(env, name, Call::Get { job, caller }).await?;
    let key = storage::payload(&principal.tenant, payload_name(job, value.as_str()));
    let bytes = value.as_str().as_bytes().to_vec();
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let bucket = env.bucket("OBJECTS").map_err(unavailable("the binding OBJECTS"))?;
    storage::write(bucket.put(key.as_str(), bytes))
        .await
        .map_err(unavailable("storing a payload"))?;
    Ok(Payload::Stored { key, bytes: length })
}

/// `GET /v1/dead-letters`: a page, newest first, from every shard.
///
/// Errors: `VALIDATION_ERROR` with every fault of the query.
pub async fn dead_letters(request: &Request, env: &Env, principal: &Principal) -> Result<Response, Error> {
    let filter = filter(&queries(request)?, &["action", "user", "code", "batch"])?;
    let caller = principal.caller();
    let call = |filter| Call::DeadLetters {
        caller: caller.clone(),
        filter,
    };
    let page = |reply| match reply {
        Reply::DeadLetters(page) => Ok((page.dead_letters, page.cursor)),
        _ => Err(unexpected()),
    };
    let number = |letter: &tidegate_protocol::http::DeadLetter| letter.job_id.number();
    let (dead_letters, cursor) = everywhere(env, principal, &filter, call, page, number).await?;
    answer::json(&DeadLetterPage { dead_letters, cursor }, 200)
}

/// `POST /v1/dead-letters:redrive`.
///
/// Errors: `VALIDATION_ERROR` with every fault of the body; what a single job is refused with stands beside it.
pub async fn redrive(request: &mut Request, env: &Env, principal: &Principal) -> Result<Response, Error> {
    let body = read_text(request, BODY_BYTES_MAX).await?;
    let asked = BulkRequest::redrive(&body)?;
    let payload = match (asked.payload, asked.ids.as_deref()) {
        (Some(raw), Some([job])) if !asked.dry_run => {
            let (job, name) = find(env, principal, &job.to_string()).await?;
            Some(check_in(env, principal, &name, job, JsonText::from(raw)).await?)
        }
        _ => None,
    };
    let interval_us = asked.rate.map_or(0, |rate| rate.interval_us());
    let action = |start| ManyAction::Redrive {
        payload: payload.clone(),
        start,
        interval_us,
    };
    many(env, acting(request, principal), principal, &asked, interval_us, action).await
}

/// `POST /v1/dead-letters:discard`.
///
/// Errors: as [`redrive`].
pub async fn discard(request: &mut Request, env: &Env, principal: &Principal) -> Result<Response, Error> {
    let body = read_text(request, BODY_BYTES_MAX).await?;
    many(
        env,
        acting(request, principal),
        principal,
        &BulkRequest::discard(&body)?,
        0,
        |_| ManyAction::Discard,
    )
    .await
}

/// `POST /v1/jobs:cancel`.
///
/// Errors: as [`redrive`].
pub async fn cancel(request: &mut Request, env: &Env, principal: &Principal) -> Result<Response, Error> {
    let body = read_text(request, BODY_BYTES_MAX).await?;
    many(
        env,
        acting(request, principal),
        principal,
        &BulkRequest::cancel(&body)?,
        0,
        |_| ManyAction::Cancel,
    )
    .await
}

/// Where a change of several jobs stands: which shard comes next, from where on, and when the next redriven job starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    shard: u16,
    below: Option<JobNumber>,
    start: UnixMs,
}

impl Place {
    fn write(self) -> String {
        let below = self.below.map_or(0, |number| number.0);
        format!("{}.{below}.{}", self.shard, self.start.0)
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('.').map(|part| part.parse::<u64>().ok());
        let mut part = || parts.next().flatten();
        let (shard, below, start) = (u16::try_from(part()?).ok()?, part()?, part()?);
        let fits = below < 1 << 53 && start < 1 << 53;
        (fits && parts.next().is_none()).then_some(Self {
            shard,
            below: (below > 0).then_some(JobNumber(below)),
            start: UnixMs(start),
        })
    }
}

async fn many(
    env: &Env,
    caller: Caller,
    principal: &Principal,
    asked: &BulkRequest<'_>,
    interval_us: u64,
    action: impl Fn(UnixMs) -> ManyAction,
) -> Result<Response, Error> {
    let first = Place {
        shard: 0,
        below: None,
        start: now(),
    };
    let mut place = match &asked.cursor {
        None => first,
        Some(text) => Place::read(text).ok_or_else(|| {
            let fault = Fault::new("/cursor", "the cursor of an earlier call", text);
            Error::invalid("The request cannot be used.", vec![fault])
        })?,
    };
    // Moments that have passed in the meantime are not made up for: the rate holds from now on.
    place.start = place.start.max(first.start);
    let description = describe(env, &principal.tenant).await?;
    let several = Several {
        env,
        principal,
        caller,
        shards: description.reach(),
        spreads: description.spreads(),
        interval_us,
        dry_run: asked.dry_run,
    };
    let (jobs, cursor) = match &asked.ids {
        Some(ids) => (several.by_ids(ids, place, action).await?, None),
        None => several.by_filter(&asked.filter, place, action).await?,
    };
    let dry_run = asked.dry_run;
    answer::json(&BulkAnswer { dry_run, jobs, cursor }, 200)
}

/// A change of several jobs.
struct Several<'a> {
    env: &'a Env,
    principal: &'a Principal,
    /// Who asks, for all of its calls.
    caller: Caller,
    /// How many objects may hold jobs.
    shards: u16,
    spreads: Spreads,
    interval_us: u64,
    dry_run: bool,
}

impl Several<'_> {
    /// Changes the jobs `ids`, each where it lies; the results come in their order.
    async fn by_ids(
        &self,
        ids: &[JobId],
        mut place: Place,
        action: impl Fn(UnixMs) -> ManyAction,
    ) -> Result<Vec<BulkItem>, Error> {
        let mut by_shard: SortedMap<ShardIndex, Vec<JobId>> = SortedMap::new();
        for id in ids {
            by_shard
                .entry(self.spreads.for_number(id.number()))
                .or_default()
                .push(*id);
        }
        let mut history = self.spreads.history();
        history.push(self.shards);
        let mut results = SortedMap::new();
        // Later owners have higher indexes: what is not there is asked of the next of them, in its turn.
        while let Some((shard, ids)) = by_shard.pop_first() {
            let asked = self.ask(shard, Selection::Ids(ids.clone()), action(place.start)).await;
            let items = match asked {
                Ok((items, _)) => items,
                // Others may be done already: what this object's jobs came to is told beside them.
                Err(error) => ids.into_iter().map(|id| refused(id, &error)).collect(),
            };
            self.advance(&mut place, &items);
            for item in items {
                let missing = item
                    .error
                    .as_ref()
                    .is_some_and(|error| error.code == ErrorCode::NotFound);
                match owner_after(item.job_id.number().partition(), shard, &history).filter(|_| missing) {
                    Some(next) => by_shard.entry(next).or_default().push(item.job_id),
                    None => {
                        results.insert(item.job_id, item);
                    }
                }
            }
        }
        Ok(ids.iter().filter_map(|id| results.remove(id)).collect())
    }

    /// Changes the jobs that fit, a shard after the other.
    async fn by_filter(
        &self,
        filter: &Filter,
        mut place: Place,
        action: impl Fn(UnixMs) -> ManyAction,
    ) -> Result<(Vec<BulkItem>, Option<String>), Error> {
        let mut jobs: Vec<BulkItem> = Vec::new();
        for _ in 0..CALLS_MAX {
            let left = filter
                .limit
                .saturating_sub(u32::try_from(jobs.len()).unwrap_or(u32::MAX));
            if place.shard >= self.shards {
                return Ok((jobs, None));
            }
            if left == 0 {
                break;
            }
            let which = Selection::Filter(Filter {
                below: place.below,
                limit: left,
                ..filter.clone()
            });
            let (items, next) = match self.ask(ShardIndex(place.shard), which, action(place.start)).await {
                Ok(done) => done,
                Err(error) if jobs.is_empty() => return Err(error),
                // What is done already must be told; the next call meets the same object again.
                Err(_) => break,
            };
            self.advance(&mut place, &items);
            let full = items.last().and_then(|item| item.error.as_ref());
            let full = full.is_some_and(|error| error.code == ErrorCode::QueueFull);
            jobs.extend(items);
            place.below = next;
            if next.is_none() {
                place.shard = place.shard.saturating_add(1);
            }
            if full {
                break;
            }
        }
        let cursor = (place.shard < self.shards).then(|| place.write());
        Ok((jobs, cursor))
    }

    async fn ask(
        &self,
        shard: ShardIndex,
        which: Selection,
        action: ManyAction,
    ) -> Result<(Vec<BulkItem>, Option<JobNumber>), Error> {
        let name = ObjectName::Jobs(self.principal.tenant.clone(), shard);
        let call = Call::Many {
            caller: self.caller.clone(),
            which,
            action,
            dry_run: self.dry_run,
        };
        match remote::jobs(self.env, &name, call).await? {
            Reply::Many { jobs, next } => Ok((jobs, next)),
            _ => Err(unexpected()),
        }
    }

    /// The next redriven job starts after those that were just made.
    fn advance(&self, place: &mut Place, items: &[BulkItem]) {
        let started = items.iter().filter(|item| item.run_at.is_some()).count();
        let started = u64::try_from(started).unwrap_or(u64::MAX);
        place.start = place.start.plus(started.saturating_mul(self.interval_us) / 1000);
    }
}

fn refused(job_id: JobId, error: &Error) -> BulkItem {
    BulkItem {
        job_id,
        redriven_to: None,
        run_at: None,
        error: Some(error.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is() {
        for below in [None, Some(JobNumber(7)), Some(JobNumber((1 << 53) - 1))] {
            let place = Place {
                shard: 3,
                below,
                start: UnixMs(1_800_000_000_000),
            };
            assert_eq!(Place::read(&place.write()), Some(place));
        }
        for text in [
            "",
            "1",
            "1.2",
            "1.2.3.4",
            "70000.1.1",
            "1.x.3",
            "-1.2.3",
            "1.9007199254740992.3",
        ] {
            assert_eq!(Place::read(text), None, "{text}");
        }
    }
}
