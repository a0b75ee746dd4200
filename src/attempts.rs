//! `/v1/attempts`: what attempts that are made elsewhere report. The token of the attempt is all that they need.

use tidegate_durable_objects::attempts::{self, Attempt};
use tidegate_durable_objects::remote;
use tidegate_protocol::Error;
use tidegate_protocol::calls::jobs::{Call, Reply};
use tidegate_protocol::http::{FinishBody, ReportBody};
use tidegate_protocol::ids::JobId;
use tidegate_protocol::limits::{BODY_BYTES_MAX, FINISH_BYTES_MAX};
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
    match route {
        Route::AttemptPayload(_) => payload(env, &attempt).await,
        Route::AttemptReport(_) => {
            let body = ReportBody::parse(&read_text(request, BODY_BYTES_MAX).await?)?;
            answer::json(&attempts::report(env, &attempt, body).await?, 200)
        }
        _ => {
            let body = FinishBody::parse(&read_text(request, FINISH_BYTES_MAX).await?)?;
            attempts::finish(env, &attempt, body).await?;
            answer::json(&serde_json::Map::new(), 200)
        }
    }
}

async fn payload(env: &Env, attempt: &Attempt) -> Result<Response, Error> {
    let (job, token) = (attempt.job, attempt.token);
    match remote::jobs(env, &attempts::object(attempt), Call::Input { job, token }).await? {
        Reply::Result { result } => stored(env, result, "The payload is gone.").await,
        _ => Err(unexpected()),
    }
}
