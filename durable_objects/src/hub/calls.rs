//! What the hub waits for: actions that it runs itself, and calls to the jobs.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context as TaskContext, Waker};

use futures_util::future::{Either, select};
use tidegate_engine::hub::{CallId, Run};
use tidegate_protocol::calls::jobs::{self, Batch};
use tidegate_protocol::calls::usage::Meter;
use tidegate_protocol::event::Payload;
use tidegate_protocol::ids::{ObjectName, ShardIndex};
use tidegate_protocol::limits::PAYLOAD_ROW_BYTES_MAX;
use tidegate_protocol::{Error, ErrorCode};

use super::{CallBox, Shell};
use crate::outbox::Outbox;
use crate::platform::{beside, now, random, unavailable};
use crate::timer::sleep;
use crate::{remote, runtime, storage};

/// How long object storage may take to store a payload, which is a megabyte at most, before its request is refused.
const STORING_MS_MAX: u64 = 20_000;

impl Shell {
    /// Runs a synchronous action. One that is ready at once is answered in this very turn.
    pub(super) fn run(self: &Rc<Self>, id: CallId, run: Run) {
        let (Some((tenant, _)), Some(known)) = (self.name.clone(), self.known.borrow().clone()) else {
            return;
        };
        let (env, shell) = (self.env.clone(), self.clone());
        let mut work: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async move {
            let result = runtime::run_here(env, tenant, &known.plan, run).await;
            let effects = shell.memory.borrow_mut().ran(now(), id, result);
            shell.perform(effects);
        });
        if work
            .as_mut()
            .poll(&mut TaskContext::from_waker(Waker::noop()))
            .is_pending()
        {
            let shell = self.clone();
            beside(&self.state, async move {
                work.await;
                shell.event();
            });
        }
    }

    pub(super) fn call(self: &Rc<Self>, id: CallId, shard: ShardIndex, call: jobs::Call) {
        let shell = self.clone();
        let large = match &call {
            jobs::Call::Enqueue(enqueue) => match &enqueue.job.payload {
                Payload::Inline(value) => value.as_str().len() > PAYLOAD_ROW_BYTES_MAX,
                Payload::Stored { .. } => false,
            },
            _ => false,
        };
        let waits = match &call {
            jobs::Call::Enqueue(enqueue) => enqueue.answer_within_ms.is_some(),
            jobs::Call::Lease(asked) => asked.wait_ms > 0,
            _ => false,
        };
        if large || waits {
            // Its answer may take long, so that it must not hold up others in one batch.
            beside(&self.state, async move {
                let reply = match shell.check_in(call).await {
                    Ok(call) => shell.exchange(shard, call).await,
                    Err(error) => Err(error),
                };
                shell.replied(id, reply);
            });
            return;
        }
        let Some(outbox) = self.outbox(shard) else { return };
        if outbox.push((id, call)) {
            beside(&self.state, async move {
                while let Some(batch) = outbox.next() {
                    shell.exchange_batch(&outbox, batch).await;
                }
            });
        }
    }

    pub(super) fn replied(self: &Rc<Self>, id: CallId, reply: core::result::Result<jobs::Reply, Error>) {
        let effects = self.memory.borrow_mut().replied(now(), id, reply);
        self.perform(effects);
        self.event();
        // The queue may have refused what its limits admitted: that goes back soon, whether anybody asks again or not.
        self.look_after_leases();
    }

    pub(super) async fn exchange(
        &self,
        shard: ShardIndex,
        call: jobs::Call,
    ) -> core::result::Result<jobs::Reply, Error> {
        let (tenant, _) = self.name.clone().ok_or_else(Error::not_found)?;
        remote::jobs(&self.env, &ObjectName::Jobs(tenant, shard), call).await
    }

    /// What is on its way to a shard.
    pub(super) fn outbox(&self, shard: ShardIndex) -> Option<Rc<CallBox>> {
        let (tenant, _) = self.name.as_ref()?;
        let new = || Rc::new(Outbox::new(ObjectName::Jobs(tenant.clone(), shard)));
        Some(self.outboxes.borrow_mut().entry(shard).or_insert_with(new).clone())
    }

    pub(super) async fn exchange_batch(self: &Rc<Self>, outbox: &CallBox, batch: Vec<(CallId, jobs::Call)>) {
        let (ids, calls): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        // Not by a way that is kept: one that has broken meanwhile would cost a client its answer.
        match remote::jobs_batch(&self.env, outbox.name(), &Batch { calls }).await {
            Ok(replies) => {
                let mut replies = replies.into_iter();
                for id in ids {
                    let reply = match replies.next() {
                        Some(answered) => answered.into_result(),
                        None => Err(Error::new(ErrorCode::InternalError, "An object answered too little.")),
                    };
                    self.replied(id, reply);
                }
            }
            Err(error) => {
                for id in ids {
                    self.replied(id, Err(error.clone()));
                }
            }
        }
    }

    /// Puts a large payload into object storage, and its claim check into the call.
    pub(super) async fn check_in(&self, call: jobs::Call) -> core::result::Result<jobs::Call, Error> {
        let jobs::Call::Enqueue(mut enqueue) = call else {
            return Ok(call);
        };
        if let Payload::Inline(value) = &enqueue.job.payload
            && value.as_str().len() > PAYLOAD_ROW_BYTES_MAX
        {
            let (tenant, _) = self.name.as_ref().ok_or_else(Error::not_found)?;
            let bytes = value.as_str().as_bytes().to_vec();
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let chance = u128::from(random()) << 64 | u128::from(random());
            let key = storage::payload(tenant, chance);
            let bucket = self.env.bucket("OBJECTS").map_err(unavailable("the binding OBJECTS"))?;
            let put = storage::write(bucket.put(key.as_str(), bytes));
            match select(put, pin!(sleep(STORING_MS_MAX))).await {
                Either::Left((stored, _)) => stored.map(drop).map_err(unavailable("storing a payload"))?,
                Either::Right(_) => return Err(unavailable("storing a payload")("it takes too long".into())),
            }
            self.usage.add(Meter::ObjectsStored, 1);
            self.usage.add(Meter::BytesStored, length);
            enqueue.job.payload = Payload::Stored { key, bytes: length };
        }
        Ok(jobs::Call::Enqueue(enqueue))
    }
}
