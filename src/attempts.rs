//! `/v1/attempts`: what attempts that are made elsewhere report. The token of the attempt is all that they need.

use tidegate_durable_objects::attempts::{self, Attempt};
use tidegate_durable_objects::platform::log_error;
use tidegate_durable_objects::{remote, runtime};
use tidegate_protocol::calls::executor::Outcome;
use tidegate_protocol::calls::jobs::{Call, Reply};
use tidegate_protocol::event::Payload;
use tidegate_protocol::http::{FinishBody, LeaseRenewed, ReportBody};
use tidegate_protocol::ids::{JobId, ObjectName};
use tidegate_protocol::limits::{BODY_BYTES_MAX, FINISH_BYTES_MAX};
use tidegate_protocol::{Error, ErrorCode};
use worker::{Env, Request, Response};

use crate::answer;
use crate::identify::{bearer, unauthorized};
use crate::jobs::{stored, unexpected};
use crate::requests::read_text;
use crate::routes::Route;

/// A report, an outcome, or the reading of a large input.
///
/// Errors: `UNAUTHORIZED` for a token that is not that of an attempt of this job; `LEASE_LOST` where the attempt no
/// longer holds its job; `VALIDATION_ERROR` with every fault of the body; `PAYLOAD_TOO_LARGE`.
pub async fn handle(request: &mut Request, env: &Env, route: &Route) -> Result<Response, Error> {
    let (Route::AttemptPayload(job) | Route::AttemptReport(job) | Route::AttemptFinish(job)) = route else {
        return Err(Error::not_found());
    };
    let attempt = attempts::open(env, &bearer(request)?)?;
    if JobId::parse(job) != Some(attempt.job) {
        return Err(unauthorized("The attempt token is that of another job."));
    }
    let object = ObjectName::Jobs(attempt.tenant.clone(), attempt.shard);
    match route {
        Route::AttemptPayload(_) => payload(env, &attempt, &object).await,
        Route::AttemptReport(_) => report(request, env, &attempt, &object).await,
        _ => finish(request, env, &attempt, &object).await,
    }
}

async fn payload(env: &Env, attempt: &Attempt, object: &ObjectName) -> Result<Response, Error> {
    let (job, token) = (attempt.job, attempt.token);
    match remote::jobs(env, object, Call::Input { job, token }).await? {
        Reply::Result { result } => stored(env, result, "The payload is gone.").await,
        _ => Err(unexpected()),
    }
}

async fn report(request: &mut Request, env: &Env, attempt: &Attempt, object: &ObjectName) -> Result<Response, Error> {
    let body = ReportBody::parse(&read_text(request, BODY_BYTES_MAX).await?)?;
    let call = Call::Report {
        job: attempt.job,
        token: attempt.token,
        progress: body.progress,
        checkpoint: None,
        notes: body.notes,
    };
    match remote::jobs(env, object, call).await? {
        Reply::Continue {
            lease_until,
            cancelled_until,
        } => answer::json(
            &LeaseRenewed {
                lease_until,
                cancelled_until,
            },
            200,
        ),
        _ => Err(unexpected()),
    }
}

async fn finish(request: &mut Request, env: &Env, attempt: &Attempt, object: &ObjectName) -> Result<Response, Error> {
    let (job, token) = (attempt.job, attempt.token);
    let outcome = match FinishBody::parse(&read_text(request, FINISH_BYTES_MAX).await?)? {
        FinishBody::Succeeded { result } => Outcome::Succeeded {
            result: runtime::keep(env, &attempt.tenant, job, token, result).await?,
        },
        FinishBody::Failed { error } => Outcome::Failed { error },
        FinishBody::Snoozed { ms } => Outcome::Snoozed { ms },
    };
    let kept = match &outcome {
        Outcome::Succeeded {
            result: Payload::Stored { key, .. },
        } => Some(key.clone()),
        _ => None,
    };
    match remote::jobs(env, object, Call::Finish { job, token, outcome }).await {
        Ok(Reply::Done) => answer::json(&serde_json::Map::new(), 200),
        Ok(_) => Err(unexpected()),
        Err(error) => {
            // Refused for good: the outcome of the job, if it has one, is another, and its object has another name.
            if let (ErrorCode::LeaseLost, Some(key)) = (error.code, kept) {
                forget(env, key).await;
            }
            Err(error)
        }
    }
}

async fn forget(env: &Env, key: String) {
    let deleted = match env.bucket("OBJECTS") {
        Ok(bucket) => bucket.delete(key).await,
        Err(cause) => Err(cause),
    };
    if let Err(cause) = deleted {
        log_error("deleting a result", cause);
    }
}
