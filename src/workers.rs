//! `/v1/workers/{pool}:lease`: gives jobs of a pool to a worker that asks, from every shard.

use tidegate_durable_objects::attempts::{self, Attempt};
use tidegate_durable_objects::platform::{now, random};
use tidegate_durable_objects::remote;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::executor::Execute;
use tidegate_protocol::calls::jobs::{Call, LeaseJobs, Reply};
use tidegate_protocol::event::Payload;
use tidegate_protocol::http::{LeaseBody, LeasedJob, LeasedJobs};
use tidegate_protocol::ids::{ObjectName, PoolName, ShardIndex};
use tidegate_protocol::limits::BODY_BYTES_MAX;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};
use worker::{Env, Request, Response};

use crate::answer;
use crate::jobs::unexpected;
use crate::requests::read_text;
use crate::tenants::scale;

/// How long one of several shards is waited at before the next is asked. Milliseconds.
const SLICE_MS: u64 = 500;

/// Leases jobs, and waits for some where there are none.
///
/// Errors: `FORBIDDEN` without the scope `jobs:work`; `VALIDATION_ERROR` with every fault; `NOT_FOUND` for what cannot be a
/// pool; `UNAVAILABLE` where too many workers wait.
pub async fn lease(request: &mut Request, env: &Env, principal: &Principal, pool: &str) -> Result<Response, Error> {
    if !principal.scopes.contains("jobs:work") {
        let message = "Running a tenant's jobs takes the scope `jobs:work`.";
        return Err(Error::new(ErrorCode::Forbidden, message));
    }
    let pool = PoolName::parse(pool).ok_or_else(Error::not_found)?;
    let body = LeaseBody::parse(&read_text(request, BODY_BYTES_MAX).await?)?;
    let shards = scale(env, &principal.tenant).await?.shards.max(1);
    let until = now().plus(body.wait_ms);
    // From any shard on, so that no one's jobs always come last.
    let first = random() % u64::from(shards);
    let mut asked = 0_u64;
    loop {
        let shard = u16::try_from((first + asked) % u64::from(shards)).unwrap_or(0);
        asked += 1;
        let left_ms = until.since(now());
        // One shard is waited at; of several, all are asked before the first is waited at.
        let wait_ms = match shards {
            1 => left_ms,
            _ if asked <= u64::from(shards) => 0,
            _ => left_ms.min(SLICE_MS),
        };
        let asks = LeaseJobs {
            pool: pool.clone(),
            worker: body.worker.clone(),
            max: body.max,
            actions: body.actions.clone(),
            wait_ms,
        };
        let object = ObjectName::Jobs(principal.tenant.clone(), ShardIndex(shard));
        let Reply::Leased { jobs, now: leased_at } = remote::jobs(env, &object, Call::Lease(asks)).await? else {
            return Err(unexpected());
        };
        let over = asked >= u64::from(shards) && now() >= until;
        if !jobs.is_empty() || over || shards == 1 {
            let show = |job| show(env, principal, ShardIndex(shard), job, leased_at);
            let jobs = jobs.into_iter().map(show).collect::<Result<_, Error>>()?;
            return answer::json(&LeasedJobs { jobs }, 200);
        }
    }
}

fn show(
    env: &Env,
    principal: &Principal,
    shard: ShardIndex,
    job: Execute,
    leased_at: UnixMs,
) -> Result<LeasedJob, Error> {
    let attempt = Attempt {
        tenant: principal.tenant.clone(),
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
        attempt_token: attempts::mint(env, &attempt, job.deadline.plus(job.lease_ms))?,
        traceparent: job.traceparent,
    })
}
