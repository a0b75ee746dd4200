//! What the attempts of one invocation tell the object that holds their jobs: while one call is under way, what comes
//! meanwhile waits for the next, so that many attempts that end together cost one call.

use std::rc::Rc;

use futures_channel::oneshot;
use tidegate_protocol::calls::jobs::{Batch, Call, Reply};
use tidegate_protocol::ids::ObjectName;
use tidegate_protocol::{Error, ErrorCode};
use worker::Env;
use worker::wasm_bindgen_futures::spawn_local;

use crate::outbox::Outbox;

type Waiting = (Call, oneshot::Sender<Result<Reply, Error>>);

/// The way from the attempts of one invocation to their object. It must not outlive the invocation: what is sent
/// belongs to it.
pub struct Reports {
    env: Env,
    outbox: Outbox<Waiting>,
}

impl Reports {
    /// The way to the object `jobs`.
    pub fn new(env: Env, jobs: ObjectName) -> Self {
        Self {
            env,
            outbox: Outbox::new(jobs),
        }
    }

    /// The object.
    pub fn object(&self) -> &ObjectName {
        self.outbox.name()
    }

    /// Makes one call, perhaps together with others.
    ///
    /// Errors: the object's refusals, and `UNAVAILABLE`.
    pub async fn call(self: &Rc<Self>, call: Call) -> Result<Reply, Error> {
        let (sender, receiver) = oneshot::channel();
        if self.outbox.push((call, sender)) {
            // Not by whoever came first: an attempt whose time is over is dropped, and the others must not wait for it.
            let reports = self.clone();
            spawn_local(async move {
                while let Some(batch) = reports.outbox.next() {
                    reports.send(batch).await;
                }
            });
        }
        receiver
            .await
            .unwrap_or_else(|_| Err(Error::new(ErrorCode::Unavailable, "The report was not sent.").retry_after(1000)))
    }

    async fn send(&self, batch: Vec<Waiting>) {
        let (calls, senders): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        match self.outbox.way().jobs_batch(&self.env, &Batch { calls }).await {
            Ok(replies) => {
                // Whoever no longer listens has been dropped, and one without a reply is told by its channel's end.
                for (sender, reply) in senders.into_iter().zip(replies) {
                    let _gone = sender.send(reply.into_result());
                }
            }
            Err(error) => {
                for sender in senders {
                    let _gone = sender.send(Err(error.clone()));
                }
            }
        }
    }
}
