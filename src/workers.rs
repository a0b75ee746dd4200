//! `/v1/workers/{pool}:lease`: gives jobs of a pool to a worker that asks, from every shard.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tidegate_durable_objects::platform::{now, random};
use tidegate_durable_objects::{attempts, remote};
use tidegate_engine::leasing::{Ask, Search};
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::jobs::{Call, LeaseJobs, Reply};
use tidegate_protocol::http::{LeaseBody, LeasedJob, LeasedJobs};
use tidegate_protocol::ids::{ObjectName, PoolName, ShardIndex};
use tidegate_protocol::limits::BODY_BYTES_MAX;
use tidegate_protocol::{Error, ErrorCode};
use worker::{Env, Request, Response};

use crate::answer;
use crate::jobs::unexpected;
use crate::requests::read_text;
use crate::tenants::scale;

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
    let shards = scale(env, &principal.tenant).await?.shards;
    let mut search = Search::new(shards, body.max, now().plus(body.wait_ms), random());
    let (mut jobs, mut refused) = (Vec::new(), None);
    loop {
        // All at once; where one gives something, what waits beside it is ended.
        let ask = |ask| one(env, principal, &pool, &body, ask);
        let mut asked: FuturesUnordered<_> = search.next(now()).into_iter().map(ask).collect();
        if asked.is_empty() {
            return answer::json(&LeasedJobs { jobs }, 200);
        }
        while let Some(answered) = asked.next().await {
            match answered {
                Ok((shard, found)) => {
                    asked.extend(search.answered(shard, found.len()).into_iter().map(ask));
                    jobs.extend(found);
                }
                Err(error) => refused = Some(error),
            }
        }
        // One shard that cannot be reached keeps nothing of the others from the worker.
        match refused {
            Some(error) if jobs.is_empty() => return Err(error),
            Some(_) => return answer::json(&LeasedJobs { jobs }, 200),
            None => {}
        }
    }
}

/// Asks one shard.
async fn one(
    env: &Env,
    principal: &Principal,
    pool: &PoolName,
    body: &LeaseBody,
    ask: Ask,
) -> Result<(ShardIndex, Vec<LeasedJob>), Error> {
    let asks = LeaseJobs {
        pool: pool.clone(),
        worker: body.worker.clone(),
        max: ask.max,
        actions: body.actions.clone(),
        wait_ms: ask.wait_ms,
    };
    let (tenant, shard) = (&principal.tenant, ask.shard);
    let object = ObjectName::Jobs(tenant.clone(), shard);
    let Reply::Leased { jobs, now: leased_at } = remote::jobs(env, &object, Call::Lease(asks)).await? else {
        return Err(unexpected());
    };
    let jobs = jobs
        .into_iter()
        .map(|job| attempts::shown(env, tenant, shard, job, leased_at));
    Ok((shard, jobs.collect::<Result<_, Error>>()?))
}
