//! `/v1/batches/{id}`: how a batch stands, and its cancel. Each `Jobs` object tells of the jobs that lie in it; here their
//! parts are summed up.

use tidegate_durable_objects::platform::now;
use tidegate_durable_objects::remote;
use tidegate_protocol::calls::jobs::{BatchAsk, Call, Reply};
use tidegate_protocol::calls::{Caller, Principal};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::BatchView;
use tidegate_protocol::ids::{BatchId, ObjectName, ShardIndex};
use tidegate_protocol::limits::WAIT_SECONDS_MAX;
use tidegate_protocol::{Error, ErrorCode};
use worker::{Env, Request, Response};

use crate::answer;
use crate::audit::acting;
use crate::jobs::{queries, query_number, unexpected};
use crate::tenants::reach;

/// `GET /v1/batches/{id}`; with `?wait=N`, once all of it has ended or N seconds are over.
///
/// Errors: `NOT_FOUND`; `VALIDATION_ERROR` for a `wait` that is no number.
pub async fn show(request: &Request, env: &Env, principal: &Principal, batch: &str) -> Result<Response, Error> {
    let wait = query_number(&queries(request)?, "wait", WAIT_SECONDS_MAX)?;
    let until = now().plus(wait.unwrap_or(0) * 1000);
    let parts = Parts::of(env, principal, principal.caller(), batch).await?;
    // What one object waits for has ended by the time that the next is asked, so that they can be asked in turn.
    let ask = || BatchAsk::Show {
        wait_ms: until.since(now()),
    };
    let whole = parts.ask(ask).await?.ok_or_else(Error::not_found)?;
    answer::json(&whole, 200)
}

/// `POST /v1/batches/{id}:cancel`: ends what has not ended, and answers with how the batch stands then.
///
/// Errors: `NOT_FOUND`, `FORBIDDEN`. After `UNAVAILABLE` a part may be cancelled, and the call is to be made again.
pub async fn cancel(request: &Request, env: &Env, principal: &Principal, batch: &str) -> Result<Response, Error> {
    let parts = Parts::of(env, principal, acting(request, principal), batch).await?;
    let whole = parts.ask(|| BatchAsk::Show { wait_ms: 0 }).await?;
    let owner = whole.ok_or_else(Error::not_found)?.user;
    let ask = || BatchAsk::Cancel { owner: owner.clone() };
    let whole = parts.ask(ask).await?.ok_or_else(Error::not_found)?;
    answer::json(&whole, 202)
}

/// The objects that may have jobs of a batch.
struct Parts<'a> {
    env: &'a Env,
    principal: &'a Principal,
    caller: Caller,
    batch: BatchId,
    shards: u16,
}

impl<'a> Parts<'a> {
    async fn of(env: &'a Env, principal: &'a Principal, caller: Caller, batch: &str) -> Result<Self, Error> {
        let batch = BatchId::parse(batch).ok_or_else(Error::not_found)?;
        let shards = reach(env, &principal.tenant).await?;
        Ok(Self {
            env,
            principal,
            caller,
            batch,
            shards,
        })
    }

    /// Asks each of them, and sums up what they say. `None` where none has anything of it.
    async fn ask(&self, ask: impl Fn() -> BatchAsk) -> Result<Option<BatchView>, Error> {
        let mut parts = Vec::new();
        for shard in 0..self.shards {
            let name = ObjectName::Jobs(self.principal.tenant.clone(), ShardIndex(shard));
            let call = Call::Batch {
                batch: self.batch.clone(),
                caller: self.caller.clone(),
                ask: ask(),
            };
            match remote::jobs(self.env, &name, call).await {
                Ok(Reply::Batch(text)) => parts.push(read(&text)?),
                Ok(_) => return Err(unexpected()),
                Err(error) if error.code == ErrorCode::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(BatchView::sum(parts))
    }
}

#[inline(never)]
fn read(text: &JsonText) -> Result<BatchView, Error> {
    serde_json::from_str(text.as_str()).map_err(|_| unexpected())
}
