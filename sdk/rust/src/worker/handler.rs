//! What a handler is given, and what it can give back.

use std::collections::BTreeMap;
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{ErrorCode, limits};
use tokio::sync::watch;

use crate::http::AttemptOutcome;
use crate::ids::JobId;

/// A job, as its handler sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The job.
    pub id: JobId,
    /// What it runs.
    pub action: String,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Its input.
    pub payload: JsonText,
    /// The client's own notes on it.
    pub metadata: BTreeMap<String, String>,
    /// The same for every attempt of the job: pass it downstream as an idempotency key.
    pub effect_key: String,
    /// When the attempt must be done.
    pub deadline: UnixMs,
    /// The caller's trace.
    pub traceparent: Option<String>,
}

/// How a handler ends without a result. Every error of the standard kind becomes one that is worth trying again.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure(pub(super) AttemptOutcome);

impl Failure {
    fn failed(message: impl Into<String>, retryable: bool) -> Self {
        let mut message = message.into();
        while message.len() > limits::FAILURE_BYTES_MAX {
            message.pop();
        }
        if message.is_empty() {
            message.push_str("The handler failed.");
        }
        Self(AttemptOutcome::Failed {
            code: None,
            message,
            retryable: Some(retryable),
            retry_after_ms: None,
        })
    }

    /// Trying again may help.
    pub fn retryable(message: impl Into<String>) -> Self {
        Self::failed(message, true)
    }

    /// Trying again does not help.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::failed(message, false)
    }

    /// Trying again may help, but not before `ms` milliseconds have passed.
    pub fn retry_after(ms: u64, message: impl Into<String>) -> Self {
        let mut failure = Self::retryable(message);
        if let AttemptOutcome::Failed { retry_after_ms, .. } = &mut failure.0 {
            *retry_after_ms = Some(ms);
        }
        failure
    }

    /// What the handler waits for is not there yet: the same attempt goes on after `ms` milliseconds. Costs no attempt.
    pub fn snooze(ms: u64) -> Self {
        Self(AttemptOutcome::Snoozed { ms })
    }

    /// The same failure with a code of the error catalogue.
    #[must_use]
    pub fn with_code(mut self, code: ErrorCode) -> Self {
        if let AttemptOutcome::Failed { code: kept, .. } = &mut self.0 {
            *kept = Some(code.as_str().to_owned());
        }
        self
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::retryable(error.to_string())
    }
}

/// How far a handler is.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Said {
    pub percentage: f64,
    pub message: Option<String>,
}

/// A handler's way to its worker.
#[derive(Debug, Clone)]
pub struct Context {
    pub(super) said: watch::Sender<Option<Said>>,
    pub(super) stopped: watch::Receiver<bool>,
}

impl Context {
    /// Says how far the job is, from 0 to 100. May be called as often as one likes: about one a second is sent.
    pub fn progress(&self, percentage: f64, message: impl Into<String>) {
        let (percentage, mut message) = (percentage.clamp(0.0, 100.0), message.into());
        while message.len() > limits::PROGRESS_BYTES_MAX {
            message.pop();
        }
        self.said.send_replace(Some(Said {
            percentage: if percentage.is_nan() { 0.0 } else { percentage },
            message: Some(message).filter(|message| !message.is_empty()),
        }));
    }

    /// Whether nobody wants the outcome any more: the lease is lost, the job was cancelled, or the worker's grace is over.
    pub fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Waits until nobody wants the outcome any more. The handler is dropped a little later.
    pub async fn stopped(&self) {
        let mut stopped = self.stopped.clone();
        if stopped.wait_for(|stopped| *stopped).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What a handler came to.
pub(super) type Given = Result<JsonText, Failure>;
/// A handler, whatever its own types.
pub(super) type Handler = Arc<dyn Fn(Job, Context) -> Pin<Box<dyn Future<Output = Given> + Send>> + Send + Sync>;

pub(super) fn boxed<H, F, R>(handler: H) -> Handler
where
    H: Fn(Job, Context) -> F + Send + Sync + 'static,
    F: Future<Output = Result<R, Failure>> + Send + 'static,
    R: Serialize,
{
    Arc::new(move |job, context| {
        let run = handler(job, context);
        Box::pin(async move {
            let result = run.await?;
            JsonText::of(&result).ok_or_else(|| Failure::permanent("The handler's result cannot be written as JSON."))
        })
    })
}
