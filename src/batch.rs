//! `POST /v1/requests:batch`: hands all requests of a body to the user's hub in one call, and writes a result for each.

use tidegate_durable_objects::remote;
use tidegate_engine::hub::hub_of;
use tidegate_protocol::calls::hub::{Call, Reply};
use tidegate_protocol::calls::{Answered, Principal};
use tidegate_protocol::http::{Answer, BatchAnswer, BatchFormat, BatchItem, Problem, split_batch};
use tidegate_protocol::ids::{JobId, ObjectName, RequestId};
use tidegate_protocol::limits::BATCH_BYTES_MAX;
use tidegate_protocol::{Error, ErrorCode};
use worker::{Env, Request, Response};

use crate::jobs::unexpected;
use crate::requests::{is_replay, media, read_any_text, read_text};
use crate::tenants::scale;
use crate::{answer, idempotency};

/// Takes a batch.
///
/// Errors: `VALIDATION_ERROR`, `PAYLOAD_TOO_LARGE` and `UNSUPPORTED_MEDIA_TYPE` for the body as a whole; what a single
/// request is refused with is its result.
pub async fn create(request: &mut Request, env: &Env, principal: Principal) -> Result<Response, Error> {
    let lines = matches!(
        media(request).as_deref(),
        Some("application/x-ndjson" | "application/jsonl")
    );
    let (body, format) = if lines {
        (read_any_text(request, BATCH_BYTES_MAX).await?, BatchFormat::Lines)
    } else {
        (read_text(request, BATCH_BYTES_MAX).await?, BatchFormat::Array)
    };
    let items: Vec<String> = split_batch(&body, format)?.into_iter().map(str::to_owned).collect();
    let hub = hub_of(&principal.user, scale(env, &principal.tenant).await?.hubs);
    let name = ObjectName::Hub(principal.tenant.clone(), hub);
    let header = |name: &str| request.headers().get(name).ok().flatten();
    let idempotency_key = header("idempotency-key");
    let has_key = idempotency_key.is_some();
    let call = Call::Batch {
        principal,
        items,
        traceparent: header("traceparent"),
        idempotency_key,
    };
    let Reply::Batch {
        answers,
        batch: batch_id,
    } = remote::hub(env, &name, &call).await?
    else {
        return Err(unexpected());
    };
    let replayed = answers
        .iter()
        .all(|answer| matches!(answer, Answered::Reply(reply) if is_replay(reply)));
    let results = (0..).zip(answers).map(|(index, answer)| item(index, answer)).collect();
    let response = answer::json(&BatchAnswer { results, batch_id }, 200)?;
    if has_key && replayed {
        idempotency::mark(&response)?;
    }
    Ok(response)
}

fn item(index: u32, answered: Answered<Reply>) -> BatchItem {
    let empty = BatchItem {
        index,
        status: 202,
        accepted: None,
        answer: None,
        problem: None,
    };
    let failed = |error: &Error, request_id: Option<RequestId>, job_id: Option<JobId>| BatchItem {
        status: error.status(),
        problem: Some(Problem {
            job_id,
            ..Problem::new(error, request_id)
        }),
        ..empty.clone()
    };
    match answered {
        Answered::Refused(error) => failed(&error, None, None),
        Answered::Reply(Reply::Accepted(accepted)) => BatchItem {
            accepted: Some(accepted),
            ..empty
        },
        Answered::Reply(Reply::Answer {
            request_id,
            result: Ok(data),
            job,
            deduplicated,
            result_url,
        }) => BatchItem {
            status: 200,
            answer: Some(Answer {
                request_id,
                data,
                deduplicated,
                job_id: job,
                result_url,
            }),
            ..empty
        },
        Answered::Reply(Reply::Answer {
            request_id,
            result: Err(error),
            job,
            ..
        }) => failed(&error, Some(request_id), job),
        Answered::Reply(
            Reply::Batch { .. }
            | Reply::Delivered { .. }
            | Reply::Returned(_)
            | Reply::Places(_)
            | Reply::Heard(_)
            | Reply::HeardPresence(_)
            | Reply::Text(_)
            | Reply::Done,
        ) => {
            let error = Error::new(ErrorCode::InternalError, "The hub answered another question.");
            failed(&error, None, None)
        }
    }
}
