//! `/v1/queue`: what runs, what waits, what is held back; holding jobs back and letting them go, on every shard.

use tidegate_durable_objects::remote;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::jobs::{Call, Reply};
use tidegate_protocol::calls::queueing::{Pause, PauseScope};
use tidegate_protocol::http::{ActionQueue, PoolQueue, QueueView};
use tidegate_protocol::ids::{ObjectName, ShardIndex};
use tidegate_protocol::limits::BODY_BYTES_MAX;
use tidegate_protocol::{Error, ErrorCode};
use worker::{Env, Request, Response};

use crate::answer;
use crate::audit::acting;
use crate::requests::read_text;
use crate::tenants::{describe, reach};

/// `GET /v1/queue`: the sum over all shards.
///
/// Errors: `FORBIDDEN` without the scope `jobs:read`.
pub async fn show(env: &Env, principal: &Principal) -> Result<Response, Error> {
    let description = describe(env, &principal.tenant).await?;
    let mut views = Vec::new();
    for shard in 0..description.reach() {
        let call = Call::Queue {
            caller: principal.caller(),
        };
        match remote::jobs(env, &object(principal, shard), call).await? {
            Reply::Queue(view) => views.push(view),
            _ => return Err(unexpected()),
        }
    }
    let view = QueueView {
        shards: description.scale.shards,
        growing_to: description.growing_to,
        ..sum(views)
    };
    answer::json(&view, 200)
}

/// `POST /v1/queue:pause` and `POST /v1/queue:resume`. A second time changes nothing, so that a call which reached only
/// some of the shards is simply made again.
///
/// Errors: `VALIDATION_ERROR` for a body that does not say what is meant; `FORBIDDEN` without the scope `jobs:write`.
pub async fn hold(request: &mut Request, env: &Env, principal: &Principal, held: Held) -> Result<Response, Error> {
    let scope = PauseScope::parse(&read_text(request, BODY_BYTES_MAX).await?)?;
    // A tenant may begin to grow in between: whatever an object is told before it is sealed reaches the new ones with its
    // seal, and whatever it is told later is told to them here, because the gate knew of them before.
    let mut done = 0;
    let acting = acting(request, principal);
    loop {
        let shards = reach(env, &principal.tenant).await?;
        if done >= shards {
            break;
        }
        for shard in done..shards {
            let (scope, caller) = (scope.clone(), acting.clone());
            let call = match held {
                Held::Back => Call::Pause { scope, caller },
                Held::NoMore => Call::Resume { scope, caller },
            };
            remote::jobs(env, &object(principal, shard), call).await?;
        }
        done = shards;
    }
    show(env, principal).await
}

/// Whether jobs are held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// From now on.
    Back,
    /// No longer.
    NoMore,
}

pub fn object(principal: &Principal, shard: u16) -> ObjectName {
    ObjectName::Jobs(principal.tenant.clone(), ShardIndex(shard))
}

pub fn sum(views: Vec<QueueView>) -> QueueView {
    let mut all = QueueView::default();
    for view in views {
        all.running += view.running;
        all.waiting += view.waiting;
        all.dead_letters += view.dead_letters;
        all.oldest_waiting_at = [all.oldest_waiting_at, view.oldest_waiting_at]
            .into_iter()
            .flatten()
            .min();
        for ActionQueue { action, waiting } in view.actions {
            match all.actions.iter_mut().find(|known| known.action == action) {
                Some(known) => known.waiting += waiting,
                None => all.actions.push(ActionQueue { action, waiting }),
            }
        }
        for pool in view.pools {
            match all.pools.iter_mut().find(|known| known.pool == pool.pool) {
                Some(known) => add(known, pool),
                None => all.pools.push(pool),
            }
        }
        let new = |pause: &Pause| !all.pauses.iter().any(|known| known.scope == pause.scope);
        let new: Vec<Pause> = view.pauses.into_iter().filter(new).collect();
        all.pauses.extend(new);
    }
    all
}

/// A worker asks every shard: it was seen when the last of them saw it.
fn add(all: &mut PoolQueue, shard: PoolQueue) {
    all.waiting += shard.waiting;
    all.leased += shard.leased;
    for seen in shard.workers {
        match all.workers.iter_mut().find(|known| known.worker == seen.worker) {
            Some(known) => known.seen_at = known.seen_at.max(seen.seen_at),
            None => all.workers.push(seen),
        }
    }
}

fn unexpected() -> Error {
    Error::new(ErrorCode::InternalError, "The job queue answered another question.")
}
