//! Attempts that workers make: the tokens that they report with, what a worker is given, and what it says.
//!
//! Attempt tokens are minted and opened here alone. Routes and sockets come to the same functions.

use tidegate_identity::Tenant;
use tidegate_identity::attempt::{self, AttemptClaims};
use tidegate_protocol::calls::executor::{Execute, Outcome};
use tidegate_protocol::calls::jobs::{Call, Reply};
use tidegate_protocol::event::Payload;
use tidegate_protocol::http::{FinishBody, LeaseRenewed, LeasedJob, ReportBody};
use tidegate_protocol::ids::{FencingToken, JobId, JobNumber, ObjectName, ShardIndex, TenantId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};
use worker::Env;

use crate::platform::{deployment_key, log_error, now};
use crate::{remote, runtime};

/// What a token gives the right to report on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The tenant.
    pub tenant: TenantId,
    /// The object that holds the job.
    pub shard: ShardIndex,
    /// The job.
    pub job: JobId,
    /// The lease under which the attempt is made.
    pub token: FencingToken,
}

/// The attempt token of `attempt`, good until `expires_at`: the end of the attempt's time and one lease more is enough,
/// because no lease outlives that.
///
/// Errors: `UNAVAILABLE` where the deployment has no key.
pub fn mint(env: &Env, attempt: &Attempt, expires_at: UnixMs) -> Result<String, Error> {
    let key = deployment_key(env)?;
    let tenant = Tenant::parse(attempt.tenant.as_str()).ok_or_else(Error::not_found)?;
    let claims = AttemptClaims {
        tenant,
        shard: attempt.shard.0,
        number: attempt.job.number().0,
        tail: attempt.job.tail(),
        lease: attempt.token.0,
        expires_at_ms: expires_at.0,
    };
    Ok(attempt::mint(&key, &claims))
}

/// The attempt that `text` is the token of. Whether it still holds the job's lease, the job's object knows.
///
/// Errors: `UNAUTHORIZED` with the reason; `UNAVAILABLE` where the deployment has no key.
pub fn open(env: &Env, text: &str) -> Result<Attempt, Error> {
    let key = deployment_key(env)?;
    let refused = |message: &'static str| Error::new(ErrorCode::Unauthorized, message);
    let claims = attempt::open(&key, text, now().0).map_err(|error| refused(error.message()))?;
    let tenant = TenantId::parse(claims.tenant.as_str())
        .ok_or_else(|| refused("The attempt token names a tenant that cannot be one."))?;
    Ok(Attempt {
        tenant,
        shard: ShardIndex(claims.shard),
        job: JobId::new(JobNumber(claims.number), claims.tail),
        token: FencingToken(claims.lease),
    })
}

/// An attempt as the worker is told of it that is to make it, with its token.
///
/// Errors: `UNAVAILABLE` where the deployment has no key.
#[inline(never)]
pub fn shown(
    env: &Env,
    tenant: &TenantId,
    shard: ShardIndex,
    job: Execute,
    leased_at: UnixMs,
) -> Result<LeasedJob, Error> {
    let attempt = Attempt {
        tenant: tenant.clone(),
        shard,
        job: job.job,
        token: job.token,
    };
    let (payload, payload_url) = match job.payload {
        Payload::Inline(value) => (Some(value), None),
        Payload::Stored { .. } => (None, Some(format!("/v1/attempts/{}/payload", job.job))),
    };
    Ok(LeasedJob {
        job_id: job.job,
        action: job.action,
        attempt: job.attempt,
        payload,
        payload_url,
        metadata: job.metadata,
        effect_key: job.job.to_string(),
        deadline: job.deadline,
        lease_until: leased_at.plus(job.lease_ms),
        // A cancelled attempt should hear of it well within its grace.
        lease_ms: match job.cancel_grace_ms {
            0 => job.lease_ms,
            grace_ms => job.lease_ms.min(grace_ms),
        },
        attempt_token: mint(env, &attempt, job.deadline.plus(job.lease_ms))?,
        traceparent: job.traceparent,
    })
}

/// A sign of life of an attempt, with progress or without.
///
/// Errors: `LEASE_LOST` where it no longer holds its job.
pub fn report<'a>(env: &'a Env, attempt: &'a Attempt, body: ReportBody) -> remote::Asked<'a, LeaseRenewed> {
    Box::pin(async move {
        let call = Call::Report {
            job: attempt.job,
            token: attempt.token,
            progress: body.progress,
            checkpoint: None,
            notes: body.notes,
        };
        match remote::jobs(env, &object(attempt), call).await? {
            Reply::Continue {
                lease_until,
                cancelled_until,
            } => Ok(LeaseRenewed {
                lease_until,
                cancelled_until,
            }),
            _ => Err(unexpected()),
        }
    })
}

/// The end of an attempt. A large result is stored first.
///
/// Errors: `LEASE_LOST` where it no longer holds its job; `PAYLOAD_TOO_LARGE`.
pub fn finish<'a>(env: &'a Env, attempt: &'a Attempt, body: FinishBody) -> remote::Asked<'a, ()> {
    Box::pin(async move {
        let (job, token) = (attempt.job, attempt.token);
        let outcome = match body {
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
        match remote::jobs(env, &object(attempt), Call::Finish { job, token, outcome }).await {
            Ok(Reply::Done) => Ok(()),
            Ok(_) => Err(unexpected()),
            Err(error) => {
                // Refused for good: the outcome of the job, if it has one, is another, and its object has another name.
                if let (ErrorCode::LeaseLost, Some(key)) = (error.code, kept) {
                    forget(env, key).await;
                }
                Err(error)
            }
        }
    })
}

/// The object that holds the attempt's job.
pub fn object(attempt: &Attempt) -> ObjectName {
    ObjectName::Jobs(attempt.tenant.clone(), attempt.shard)
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

fn unexpected() -> Error {
    Error::new(ErrorCode::InternalError, "A job's object answered another question.")
}
