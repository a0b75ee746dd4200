//! A job's history beyond its row: pages of its stored events, and the text of its streams.

use tidegate_durable_objects::remote;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::jobs::{Call, Reply};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::ids::{ObjectName, Seq, StreamName};
use tidegate_protocol::limits::WAIT_SECONDS_MAX;
use tidegate_protocol::{Error, Fault};
use worker::{Env, Request, Response};

use crate::answer;
use crate::jobs::{find, queries, query_number, unexpected};

/// `GET /v1/jobs/{id}/events` as JSON: the stored events after a place.
///
/// Errors: `NOT_FOUND`.
pub async fn events(env: &Env, principal: &Principal, job: &str, after: Option<u64>) -> Result<Response, Error> {
    let (job, name) = find(env, principal, job).await?;
    let call = Call::Events {
        job,
        caller: principal.caller(),
        after: Seq(after.unwrap_or(0)),
    };
    answer::json(&ask(env, &name, call).await?, 200)
}

/// `GET /v1/jobs/{id}/output/{stream}`: the text from `offset` on; with `?wait=N`, where there is none yet, once
/// something has happened to the job or N seconds are over.
///
/// Errors: `NOT_FOUND`; `VALIDATION_ERROR` for a query or a stream that cannot be one.
pub async fn output(
    request: &Request,
    env: &Env,
    principal: &Principal,
    job: &str,
    stream: &str,
) -> Result<Response, Error> {
    let pairs = queries(request)?;
    let offset = query_number(&pairs, "offset", OFFSET_MAX)?.unwrap_or(0);
    let wait = query_number(&pairs, "wait", WAIT_SECONDS_MAX)?.unwrap_or(0);
    let stream = StreamName::parse(stream).ok_or_else(|| {
        let fault = Fault::new("/path/stream", StreamName::EXPECTED, stream);
        Error::invalid("The path cannot be used.", vec![fault])
    })?;
    let (job, name) = find(env, principal, job).await?;
    let caller = principal.caller();
    let call = Call::Output {
        job,
        caller: caller.clone(),
        stream,
        offset,
    };
    let page = ask(env, &name, call.clone()).await?;
    let Some(after) = awaits_more(&page).filter(|_| wait > 0) else {
        return answer::json(&page, 200);
    };
    let watch = Call::Watch {
        job,
        caller,
        after: Some(after),
        wait_ms: wait * 1000,
        until_end: false,
    };
    remote::jobs(env, &name, watch).await?;
    answer::json(&ask(env, &name, call).await?, 200)
}

/// The largest offset: what a double holds exactly.
const OFFSET_MAX: u64 = (1 << 53) - 1;

async fn ask(env: &Env, name: &ObjectName, call: Call) -> Result<JsonText, Error> {
    match remote::jobs(env, name, call).await? {
        Reply::History(page) => Ok(page),
        _ => Err(unexpected()),
    }
}

/// The event after which there may be more text, where a page brings none yet and the job goes on.
#[inline(never)]
fn awaits_more(page: &JsonText) -> Option<Seq> {
    let page: tidegate_protocol::http::OutputPage = serde_json::from_str(page.as_str()).ok()?;
    (page.text.is_empty() && !page.ended).then_some(page.seq)
}
