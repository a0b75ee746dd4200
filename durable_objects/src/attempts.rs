//! Attempt tokens: what an attempt that is made elsewhere reports with. Minted and opened here alone.

use tidegate_identity::Tenant;
use tidegate_identity::attempt::{self, AttemptClaims};
use tidegate_protocol::ids::{FencingToken, JobId, JobNumber, ShardIndex, TenantId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};
use worker::Env;

use crate::platform::{deployment_key, now};

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
