//! A worker: leases jobs of a pool, runs them with handlers of its own, and reports on them.
//!
//! It keeps each lease alive while the handler runs, tells the handler when the lease is lost or the job was cancelled,
//! and says the outcome until the server has taken it. When it is told to stop, it takes no more jobs, lets those that
//! run finish within a grace, and gives the rest back without costing them an attempt.
//!
//! ```no_run
//! # async fn example() -> Result<(), tidegate_sdk::Error> {
//! use tidegate_sdk::Client;
//! use tidegate_sdk::worker::{Failure, Worker};
//!
//! let client = Client::new("http://127.0.0.1:8787", "a token with the scope jobs:work")?;
//! let worker = Worker::builder(&client, "gpu")
//!     .concurrency(4)
//!     .handler("shout", |job, context| async move {
//!         context.progress(50.0, "half of it");
//!         let text: String = serde_json::from_str(job.payload.as_str())?;
//!         Ok::<_, Failure>(text.to_uppercase())
//!     })
//!     .build()?;
//! let drained = worker.run(std::future::pending()).await?;
//! println!("{drained:?}");
//! # Ok(())
//! # }
//! ```

mod attempt;
mod handler;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub use self::handler::{Context, Failure, Job};

use self::attempt::{Ended, see_through};
use self::handler::Handler;
use crate::ErrorCode;
use crate::backoff::full_jitter;
use crate::client::Client;
use crate::error::Error;
use crate::http::Lease;
use crate::random;

/// How long a call waits for jobs where there are none. Milliseconds.
const WAIT_MS: u64 = 20_000;
/// How long the last call may take to come back once the worker has said that it leaves.
const LEAVE: Duration = Duration::from_secs(3);
/// Jobs that the server gives at once at most.
const LEASE_MAX: usize = 100;

/// What became of the jobs of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Attempts that gave a result.
    pub succeeded: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Attempts that put themselves off.
    pub snoozed: u64,
    /// Attempts whose lease was lost, or whose job was cancelled.
    pub lost: u64,
    /// Attempts given back because the worker stopped.
    pub handed_back: u64,
    /// Outcomes that no server took.
    pub unreported: u64,
}

impl Drained {
    fn count(&mut self, ended: Ended) {
        let counter = match ended {
            Ended::Succeeded => &mut self.succeeded,
            Ended::Failed => &mut self.failed,
            Ended::Snoozed => &mut self.snoozed,
            Ended::Lost => &mut self.lost,
            Ended::HandedBack => &mut self.handed_back,
            Ended::Unreported => &mut self.unreported,
        };
        *counter += 1;
    }
}

/// Puts a worker together.
pub struct Builder {
    worker: Worker,
}

/// Runs jobs of a pool.
pub struct Worker {
    client: Client,
    pool: String,
    name: Option<String>,
    concurrency: usize,
    grace: Duration,
    handlers: BTreeMap<String, Handler>,
    any: Option<Handler>,
}

impl Builder {
    /// How many jobs run at once; 1 where nothing is said.
    pub fn concurrency(mut self, jobs: usize) -> Self {
        self.worker.concurrency = jobs.max(1);
        self
    }

    /// The worker's name, unlike that of any other in the pool; a random one where nothing is said.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.worker.name = Some(name.into());
        self
    }

    /// How long jobs that run may go on once the worker is told to stop; 30 s where nothing is said.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.worker.grace = grace;
        self
    }

    /// Runs the jobs of `action` with `handler`. Only actions with a handler are leased.
    pub fn handler<H, F, R>(mut self, action: impl Into<String>, handler: H) -> Self
    where
        H: Fn(Job, Context) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, Failure>> + Send + 'static,
        R: Serialize,
    {
        let handler = handler::boxed(handler);
        self.worker.handlers.insert(action.into(), handler);
        self
    }

    /// Runs the jobs of every action that has no handler of its own: all of the pool's are leased.
    pub fn any_action<H, F, R>(mut self, handler: H) -> Self
    where
        H: Fn(Job, Context) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, Failure>> + Send + 'static,
        R: Serialize,
    {
        self.worker.any = Some(handler::boxed(handler));
        self
    }

    /// The worker.
    ///
    /// Errors: [`Error::Invalid`] where there is no handler; [`Error::Io`] without randomness for a name.
    pub fn build(mut self) -> Result<Worker, Error> {
        if self.worker.handlers.is_empty() && self.worker.any.is_none() {
            return Err(Error::Invalid("A worker needs a handler.".to_owned()));
        }
        if self.worker.name.is_none() {
            self.worker.name = Some(random::name("worker_")?);
        }
        Ok(self.worker)
    }
}

impl Worker {
    /// A worker for `pool`.
    pub fn builder(client: &Client, pool: impl Into<String>) -> Builder {
        Builder {
            worker: Self {
                client: client.clone(),
                pool: pool.into(),
                name: None,
                concurrency: 1,
                grace: Duration::from_secs(30),
                handlers: BTreeMap::new(),
                any: None,
            },
        }
    }

    /// Runs jobs until `shutdown` is ready and those under way have ended. While the server cannot be reached, it goes on
    /// trying. Must be called inside a tokio runtime.
    ///
    /// Errors: [`Error::Api`] where the server will not have this worker (`UNAUTHORIZED`, `FORBIDDEN`, …). What runs is
    /// finished first.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<Drained, Error> {
        let (stop, stopped) = watch::channel(false);
        let mut running = JoinSet::new();
        let mut drained = Drained::default();
        let mut shutdown = std::pin::pin!(shutdown);
        let mut failures = 0;
        let refused = loop {
            while let Some(ended) = running.try_join_next() {
                drained.count(ended.unwrap_or(Ended::Unreported));
            }
            let free = self.concurrency.saturating_sub(running.len());
            if free == 0 {
                tokio::select! {
                    () = &mut shutdown => break None,
                    ended = running.join_next() => {
                        drained.count(ended.map_or(Ended::Unreported, |ended| ended.unwrap_or(Ended::Unreported)));
                    }
                }
                continue;
            }
            let asks = self.asks(free.min(LEASE_MAX), WAIT_MS);
            let mut lease = std::pin::pin!(self.client.http().lease(&self.pool, &asks));
            let (answer, leaves) = tokio::select! {
                answer = &mut lease => (answer, false),
                () = &mut shutdown => (self.leave(&mut lease).await, true),
            };
            match answer {
                Ok(leased) => {
                    failures = 0;
                    for job in leased.jobs {
                        let handler = self.handlers.get(&job.action).or(self.any.as_ref()).cloned();
                        running.spawn(see_through(self.client.http().clone(), job, handler, stopped.clone()));
                    }
                }
                Err(error) if is_final(&error) => break Some(error),
                Err(_) if leaves => {}
                Err(error) => {
                    failures += 1;
                    let asked_ms = match &error {
                        Error::Api(error) => error.retry_after_ms.unwrap_or(0),
                        _ => 0,
                    };
                    let wait_ms = asked_ms.max(full_jitter(failures, random::roll()?));
                    tokio::select! {
                        () = &mut shutdown => break None,
                        () = sleep(Duration::from_millis(wait_ms)) => {}
                    }
                }
            }
            if leaves {
                break None;
            }
        };
        self.drain(running, &stop, &mut drained).await;
        match refused {
            Some(error) => Err(error),
            None => Ok(drained),
        }
    }

    fn asks(&self, max: usize, wait_ms: u64) -> Lease {
        let names = self.handlers.keys().cloned().collect();
        Lease {
            max,
            wait_ms,
            worker: self.name.clone().unwrap_or_default(),
            actions: self.any.is_none().then_some(names),
        }
    }

    /// Ends the call under way, so that no job is given to one who has left. What it brings all the same is run.
    async fn leave(
        &self,
        lease: &mut std::pin::Pin<&mut impl Future<Output = Result<crate::http::LeasedJobs, Error>>>,
    ) -> Result<crate::http::LeasedJobs, Error> {
        let leaving = self.asks(0, 0);
        let both = async {
            let (answer, _left) = tokio::join!(lease, self.client.http().lease(&self.pool, &leaving));
            answer
        };
        let late = |_| Err(Error::Unreachable("no answer in time".to_owned()));
        timeout(LEAVE, both).await.unwrap_or_else(late)
    }

    async fn drain(&self, mut running: JoinSet<Ended>, stop: &watch::Sender<bool>, drained: &mut Drained) {
        let mut count = async || {
            while let Some(ended) = running.join_next().await {
                drained.count(ended.unwrap_or(Ended::Unreported));
            }
        };
        if timeout(self.grace, count()).await.is_err() {
            let _nobody_left = stop.send(true);
            count().await;
        }
    }
}

/// Whether the server will give the same answer again, whatever is waited for.
fn is_final(error: &Error) -> bool {
    match error {
        Error::Api(api) => !api.retryable && error.known_code() != Some(ErrorCode::LeaseLost),
        Error::Invalid(_) => true,
        _ => false,
    }
}
