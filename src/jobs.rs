//! `/v1/jobs`: a job, its events and its result. What a token may not see is not there.

use futures_util::future::join_all;
use tidegate_durable_objects::platform::{now, unavailable};
use tidegate_durable_objects::{remote, storage};
use tidegate_protocol::calls::jobs::{Call, Change, Filter, Reply, Sort};
use tidegate_protocol::calls::{Caller, Principal};
use tidegate_protocol::event::Payload;
use tidegate_protocol::fault::{escape_pointer, shorten};
use tidegate_protocol::frames::{self, Start};
use tidegate_protocol::http::{JobPage, SpreadWhy};
use tidegate_protocol::ids::{JobId, JobNumber, ObjectName, ShardIndex};
use tidegate_protocol::limits::{BODY_BYTES_MAX, WAIT_SECONDS_MAX};
use tidegate_protocol::{Error, ErrorCode, Fault};
use worker::{Env, Request, Response};

use crate::answer;
use crate::audit::acting;
use crate::requests::read_text;
use crate::tenants::{reach, spread};

/// A job of the tenant, and the object to ask for it: where that has it no longer or not yet, its answer leads on.
///
/// Errors: `NOT_FOUND` for what is no job's id; `UNAVAILABLE`.
pub async fn find(env: &Env, principal: &Principal, text: &str) -> Result<(JobId, ObjectName), Error> {
    let job = JobId::parse(text).ok_or_else(Error::not_found)?;
    let shard = spread(env, &principal.tenant).await?.1.for_number(job.number());
    Ok((job, ObjectName::Jobs(principal.tenant.clone(), shard)))
}

/// The refusal where an object answered another question.
pub fn unexpected() -> Error {
    Error::new(ErrorCode::InternalError, "The job queue answered another question.")
}

/// The query of a request, decoded.
///
/// Errors: where the address cannot be read.
pub fn queries(request: &Request) -> Result<Vec<(String, String)>, Error> {
    let url = request.url().map_err(unavailable("an address"))?;
    Ok(url
        .query_pairs()
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect())
}

/// The whole number `name` of a query, at most `max`.
///
/// Errors: `VALIDATION_ERROR` for what is no number.
pub fn query_number(pairs: &[(String, String)], name: &str, max: u64) -> Result<Option<u64>, Error> {
    let Some((_, text)) = pairs.iter().find(|(given, _)| given == name) else {
        return Ok(None);
    };
    match text.parse::<u64>() {
        Ok(number) => Ok(Some(number.min(max))),
        Err(_) => {
            let fault = Fault::new(format!("/query/{name}"), "a whole number from 0", text);
            Err(Error::invalid("The query cannot be used.", vec![fault]))
        }
    }
}

/// `GET /v1/jobs/{id}`; with `?wait=N`, once it has ended or N seconds are over.
///
/// Errors: `NOT_FOUND`; `VALIDATION_ERROR` for a `wait` that is no number.
pub async fn show(request: &Request, env: &Env, principal: &Principal, job: &str) -> Result<Response, Error> {
    let wait = query_number(&queries(request)?, "wait", WAIT_SECONDS_MAX)?;
    let (job, name) = find(env, principal, job).await?;
    let caller = principal.caller();
    if let Some(seconds) = wait.filter(|seconds| *seconds > 0) {
        let wait_ms = seconds * 1000;
        let watch = Call::Watch {
            job,
            caller: caller.clone(),
            after: None,
            wait_ms,
            until_end: true,
        };
        remote::jobs(env, &name, watch).await?;
    }
    match remote::jobs(env, &name, Call::Get { job, caller }).await? {
        Reply::Job(job) => answer::json(&job, 200),
        _ => Err(unexpected()),
    }
}

/// `POST /v1/jobs/{id}:cancel`.
///
/// Errors: `NOT_FOUND`, `FORBIDDEN`, and `CONFLICT` for a job that has ended.
pub async fn cancel(request: &Request, env: &Env, principal: &Principal, job: &str) -> Result<Response, Error> {
    let (job, name) = find(env, principal, job).await?;
    let cancel = Call::Cancel {
        job,
        caller: acting(request, principal),
    };
    remote::jobs(env, &name, cancel).await?;
    let caller = principal.caller();
    match remote::jobs(env, &name, Call::Get { job, caller }).await? {
        Reply::Job(job) => answer::json(&job, 202),
        _ => Err(unexpected()),
    }
}

/// `POST /v1/jobs/{id}:pause` and `:resume`: answers with the job as it is then.
///
/// Errors: `NOT_FOUND`, `FORBIDDEN`, and `CONFLICT` for a job that does not wait.
pub async fn change(
    request: &Request,
    env: &Env,
    principal: &Principal,
    job: &str,
    change: Change,
) -> Result<Response, Error> {
    let (job, name) = find(env, principal, job).await?;
    let caller = acting(request, principal);
    match remote::jobs(env, &name, Call::Change { job, caller, change }).await? {
        Reply::Job(job) => answer::json(&job, 200),
        _ => Err(unexpected()),
    }
}

/// `POST /v1/jobs/{id}:reschedule`: gives a job that waits another time.
///
/// Errors: as [`change`], and `VALIDATION_ERROR`.
pub async fn reschedule(request: &mut Request, env: &Env, principal: &Principal, job: &str) -> Result<Response, Error> {
    let start = frames::reschedule(&read_text(request, BODY_BYTES_MAX).await?)?;
    let at = match start {
        Start::Now => now(),
        Start::After(ms) => now().plus(ms),
        Start::At(at) => at,
    };
    change(request, env, principal, job, Change::Reschedule(at)).await
}

/// `GET /v1/jobs/{id}/why`: what the job waits for. Its object knows which jobs there hold a limit; the others are asked
/// for theirs.
///
/// Errors: `NOT_FOUND`.
pub async fn why(env: &Env, principal: &Principal, job: &str) -> Result<Response, Error> {
    let (job, name) = find(env, principal, job).await?;
    let caller = principal.caller();
    let Reply::Why(text) = remote::jobs(env, &name, Call::Why { job, caller }).await? else {
        return Err(unexpected());
    };
    let mut why = SpreadWhy::read(&text).ok_or_else(unexpected)?;
    let full_limits = why.full_limits();
    // Most jobs wait for no limit: then nobody else has to be asked.
    let shards = if full_limits.is_empty() {
        0
    } else {
        reach(env, &principal.tenant).await?
    };
    let others = (0..shards).map(|shard| ObjectName::Jobs(principal.tenant.clone(), ShardIndex(shard)));
    let others: Vec<ObjectName> = others.filter(|object| *object != name).collect();
    let questions = full_limits
        .iter()
        .flat_map(|full| others.iter().map(move |object| (full, object)));
    let asked = questions.map(|(full, object)| async move {
        let (limit, key) = full.clone();
        let caller = principal.caller();
        match remote::jobs(env, object, Call::Holders { limit, key, caller }).await? {
            Reply::Holders(jobs) => Ok((full, jobs)),
            _ => Err(unexpected()),
        }
    });
    for answered in join_all(asked).await {
        let (full, jobs) = answered?;
        why.add_holders(full, jobs);
    }
    answer::json(&why, 200)
}

/// `GET /v1/jobs/{id}/result`: the result, streamed where it is large.
///
/// Errors: `NOT_FOUND`; `CONFLICT` before the end; the job's own error where it failed; `GONE` past its retention.
pub async fn result(env: &Env, principal: &Principal, job: &str) -> Result<Response, Error> {
    let (job, name) = find(env, principal, job).await?;
    let Reply::Result { result } = remote::jobs(
        env,
        &name,
        Call::Result {
            job,
            caller: principal.caller(),
        },
    )
    .await?
    else {
        return Err(unexpected());
    };
    stored(env, result, "The result is past its retention.").await
}

/// A value as JSON, streamed where it lies in object storage.
///
/// Errors: `GONE`, with the message `gone`, where it is not there any more.
pub async fn stored(env: &Env, value: Payload, gone: &'static str) -> Result<Response, Error> {
    let key = match value {
        Payload::Inline(value) => return answer::json(&value, 200),
        Payload::Stored { key, .. } => key,
    };
    let bucket = env.bucket("OBJECTS").map_err(unavailable("the binding OBJECTS"))?;
    let object = storage::read(bucket.get(key))
        .await
        .map_err(unavailable("reading an object"))?;
    let gone = || Error::new(ErrorCode::Gone, gone);
    let body = object.as_ref().and_then(worker::Object::body).ok_or_else(gone)?;
    let builder = Response::builder()
        .with_header("content-type", "application/json")
        .map_err(answer::broken)?;
    Ok(builder.body(body.response_body().map_err(unavailable("reading an object"))?))
}

/// `GET /v1/jobs`: a page, from every shard.
///
/// Errors: `VALIDATION_ERROR` with every fault of the query.
pub async fn list(request: &Request, env: &Env, principal: &Principal) -> Result<Response, Error> {
    let filter = filter(&queries(request)?, &["status", "action", "user", "batch"])?;
    listed(env, principal, principal.caller(), filter).await
}

/// A page of the jobs that `caller` may see and that fit, from every shard.
///
/// Errors: `UNAVAILABLE`.
pub async fn listed(env: &Env, principal: &Principal, caller: Caller, filter: Filter) -> Result<Response, Error> {
    let call = |filter| Call::List {
        caller: caller.clone(),
        filter,
    };
    let page = |reply| match reply {
        Reply::Jobs(page) => Ok((page.jobs, page.cursor)),
        _ => Err(unexpected()),
    };
    let (jobs, cursor) = everywhere(env, principal, &filter, call, page, |job| job.job_id.number()).await?;
    answer::json(&JobPage { jobs, cursor }, 200)
}

/// Asks every shard for a page, and merges them. Errors: `UNAVAILABLE`.
pub async fn everywhere<T>(
    env: &Env,
    principal: &Principal,
    filter: &Filter,
    call: impl Fn(Filter) -> Call,
    page: impl Fn(Reply) -> Result<(Vec<T>, Option<String>), Error>,
    number: impl Fn(&T) -> JobNumber,
) -> Result<(Vec<T>, Option<String>), Error> {
    let shards = reach(env, &principal.tenant).await?;
    let mut pages = Vec::new();
    for shard in 0..shards {
        let name = ObjectName::Jobs(principal.tenant.clone(), ShardIndex(shard));
        pages.push(page(remote::jobs(env, &name, call(filter.clone())).await?)?);
    }
    let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    Ok(merge(pages, limit, filter.sort, number))
}

/// Reads the filter of a list: `conditions`, the moments, the notes, `limit`, `sort` and `cursor`.
///
/// Errors: `VALIDATION_ERROR` with every fault of the query.
pub fn filter(pairs: &[(String, String)], conditions: &[&str]) -> Result<Filter, Error> {
    let mut filter = Filter {
        limit: 20,
        ..Filter::default()
    };
    let (mut faults, mut cursor) = (Vec::new(), None);
    for (name, value) in pairs {
        let pointer = format!("/query/{}", escape_pointer(&shorten(name)));
        let mut fault = |expected: &'static str| faults.push(Fault::new(pointer.clone(), expected, value));
        match name.as_str() {
            "limit" => match value.parse::<u32>() {
                Ok(limit @ 1..=100) => filter.limit = limit,
                _ => fault("a whole number from 1 to 100"),
            },
            "cursor" => match value.parse::<u64>() {
                Ok(number) if number < 1 << 53 => cursor = Some(JobNumber(number)),
                _ => fault("the cursor of an earlier page"),
            },
            "sort" => match Sort::parse(value) {
                Some(sort) => filter.sort = sort,
                None => fault(Sort::EXPECTED),
            },
            condition
                if conditions.contains(&condition)
                    || matches!(condition, "created_after" | "created_before")
                    || condition.starts_with("metadata.") =>
            {
                if let Err(expected) = filter.set(condition, value) {
                    fault(expected);
                }
            }
            other => {
                let known = conditions.iter().copied();
                let known = known.chain(["created_after", "created_before", "limit", "sort", "cursor"]);
                faults.push(Fault::new(pointer, "no such filter", value).suggest(other, known));
            }
        }
    }
    match filter.sort {
        Sort::Newest => filter.below = cursor,
        Sort::Oldest => filter.above = cursor,
    }
    if faults.is_empty() {
        Ok(filter)
    } else {
        Err(Error::invalid("The query cannot be used.", faults))
    }
}

/// Merges pages of several shards. Beyond the nearest cursor of a page that is not at its end, another shard may have
/// jobs that were not looked at yet, so that the merged page ends there.
fn merge<T>(
    pages: Vec<(Vec<T>, Option<String>)>,
    limit: usize,
    sort: Sort,
    number: impl Fn(&T) -> JobNumber,
) -> (Vec<T>, Option<String>) {
    let cursors = pages
        .iter()
        .filter_map(|(_, cursor)| cursor.as_ref()?.parse::<u64>().ok());
    let end = match sort {
        Sort::Newest => cursors.max(),
        Sort::Oldest => cursors.min(),
    };
    let mut jobs: Vec<_> = pages.into_iter().flat_map(|(jobs, _)| jobs).collect();
    jobs.sort_by_key(|job| number(job));
    if sort == Sort::Newest {
        jobs.reverse();
    }
    if let Some(end) = end {
        jobs.retain(|job| match sort {
            Sort::Newest => number(job).0 >= end,
            Sort::Oldest => number(job).0 <= end,
        });
    }
    let cut = jobs.len() > limit;
    jobs.truncate(limit);
    let last = jobs.last().map(|job| number(job).0);
    let cursor = if cut { last } else { end };
    (jobs, cursor.map(|number| number.to_string()))
}
