//! `GET /v1/admin/health`: how a tenant is. The gate decides ([`tidegate_engine::health`]); here the objects of the job queue are
//! asked first, because it asks nobody.

use futures_util::future::join_all;
use tidegate_durable_objects::{remote, secrets};
use tidegate_protocol::Error;
use tidegate_protocol::calls::tenant::{Call, Reply};
use tidegate_protocol::calls::{Caller, Principal, jobs};
use tidegate_protocol::http::QueueView;
use tidegate_protocol::ids::ShardIndex;
use worker::{Env, Response};

use crate::answer;
use crate::queue::{object, sum};
use crate::tenants::{check_admin, describe, unexpected};

/// Shows how the tenant is. An object of the queue that does not answer is part of the answer.
///
/// Errors: `FORBIDDEN` without the scope `admin`; `UNAVAILABLE` where the gate cannot be reached.
pub async fn show(env: &Env, principal: &Principal) -> Result<Response, Error> {
    check_admin(principal)?;
    let description = describe(env, &principal.tenant).await?;
    // Counts of the queue are not jobs: whoever administers the tenant may see them.
    let caller = Caller {
        reads_all: true,
        ..principal.caller()
    };
    let asked = (0..description.reach()).map(|shard| {
        let call = jobs::Call::Queue { caller: caller.clone() };
        let name = object(principal, shard);
        async move { (shard, remote::jobs(env, &name, call).await) }
    });
    let (mut views, mut unreachable) = (Vec::new(), Vec::new());
    for (shard, answered) in join_all(asked).await {
        match answered {
            Ok(jobs::Reply::Queue(view)) => views.push(view),
            _ => unreachable.push(ShardIndex(shard)),
        }
    }
    let queue = QueueView {
        shards: description.scale.shards,
        growing_to: description.growing_to,
        ..sum(views)
    };
    let call = Call::Health {
        key: secrets::key(env, &principal.tenant)?.beginning,
        queue: Box::new(queue),
        unreachable,
    };
    match remote::tenant(env, &principal.tenant, &call).await? {
        Reply::Shown(view) => answer::json(&view, 200),
        _ => Err(unexpected()),
    }
}
