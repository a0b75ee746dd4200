//! One attempt: its handler runs, its lease is kept alive, its progress is told, its outcome is said until it is taken.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::handler::{Context, Failure, Given, Handler, Job, Said};
use crate::ErrorCode;
use crate::backoff::full_jitter;
use crate::error::Error;
use crate::http::{AttemptOutcome, Http, LeasedJob};
use crate::random;

/// The shortest time between two reports of progress: each is a row written.
const PROGRESS: Duration = Duration::from_secs(1);
/// How long a handler may take to end once it was told that nobody wants its outcome.
const STOPPED: Duration = Duration::from_secs(5);
/// How often an outcome is said before it is left to the end of the lease.
const FINISH_TRIES: u32 = 8;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Succeeded,
    Failed,
    Snoozed,
    Lost,
    HandedBack,
    Unreported,
}

enum Came {
    /// The handler gave this.
    Given(Given),
    /// The lease is lost, or the job was cancelled.
    Lost,
    /// The worker's grace is over.
    Stopped,
}

/// Makes an attempt. `worker_stopped` turns true when the worker's grace is over.
pub(super) async fn see_through(
    http: Http,
    leased: LeasedJob,
    handler: Option<Handler>,
    worker_stopped: watch::Receiver<bool>,
) -> Ended {
    let Some(handler) = handler else {
        let failure = Failure::retryable("This worker has no handler for the action.");
        return finish(&http, &leased, failure.0, Ended::Failed).await;
    };
    let payload = match http.attempt_payload(&leased).await {
        Ok(payload) => payload,
        Err(error) if is_lost(&error) => return Ended::Lost,
        Err(error) => {
            let failure = Failure::retryable(format!("The payload cannot be read: {error}"));
            return finish(&http, &leased, failure.0, Ended::Failed).await;
        }
    };
    let job = Job {
        id: leased.job_id.clone(),
        action: leased.action.clone(),
        attempt: leased.attempt,
        payload,
        metadata: leased.metadata.clone(),
        effect_key: leased.effect_key.clone(),
        deadline: leased.deadline,
        traceparent: leased.traceparent.clone(),
    };
    let (said, to_say) = watch::channel(None);
    let (stop, stopped) = watch::channel(false);
    let mut work = tokio::spawn(handler(job, Context { said, stopped }));
    let came = tokio::select! {
        ended = &mut work => Came::Given(given(ended)),
        () = keep_alive(&http, &leased, to_say, &stop) => Came::Lost,
        () = over(worker_stopped) => Came::Stopped,
    };
    match came {
        Came::Given(Ok(result)) => finish(&http, &leased, AttemptOutcome::Succeeded(result), Ended::Succeeded).await,
        Came::Given(Err(failure)) => {
            let ended = match failure.0 {
                AttemptOutcome::Snoozed { .. } => Ended::Snoozed,
                AttemptOutcome::Failed { .. } | AttemptOutcome::Succeeded(_) => Ended::Failed,
            };
            finish(&http, &leased, failure.0, ended).await
        }
        Came::Lost => {
            halt(work, &stop).await;
            Ended::Lost
        }
        Came::Stopped => {
            halt(work, &stop).await;
            // Another worker goes on with the same attempt.
            finish(&http, &leased, AttemptOutcome::Snoozed { ms: 0 }, Ended::HandedBack).await
        }
    }
}

fn given(ended: Result<Given, tokio::task::JoinError>) -> Given {
    ended.unwrap_or_else(|_| Err(Failure::retryable("The handler panicked.")))
}

async fn over(mut stopped: watch::Receiver<bool>) {
    if stopped.wait_for(|stopped| *stopped).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Tells the handler, and drops it where it does not listen.
async fn halt(mut work: JoinHandle<Given>, stop: &watch::Sender<bool>) {
    stop.send_replace(true);
    if timeout(STOPPED, &mut work).await.is_err() {
        work.abort();
    }
}

/// Signs of life, a third of the lease apart, and the handler's progress as it comes. Tells the handler where its job was
/// cancelled, and ends where the lease is lost.
async fn keep_alive(
    http: &Http,
    leased: &LeasedJob,
    mut to_say: watch::Receiver<Option<Said>>,
    stop: &watch::Sender<bool>,
) {
    let beat = Duration::from_millis((leased.lease_ms / 3).max(200));
    let mut talks = true;
    loop {
        let reported_at = Instant::now();
        let progress = tokio::select! {
            () = sleep_until(reported_at + beat) => None,
            changed = to_say.changed(), if talks => {
                talks = changed.is_ok();
                // What comes meanwhile replaces it.
                sleep_until(reported_at + PROGRESS.min(beat)).await;
                to_say.borrow_and_update().clone()
            }
        };
        let progress = progress.as_ref().map(|said| (said.percentage, said.message.as_deref()));
        // One that did not get through is followed by the next; the server says when it is too late.
        match http.report_attempt(leased, progress).await {
            Ok(renewed) if renewed.cancelled_until.is_some() => {
                stop.send_replace(true);
            }
            Err(error) if is_lost(&error) => return,
            Ok(_) | Err(_) => {}
        }
    }
}

/// Says the outcome until it is taken or refused for good.
async fn finish(http: &Http, leased: &LeasedJob, outcome: AttemptOutcome, ended: Ended) -> Ended {
    for tries in 1..=FINISH_TRIES {
        match http.finish_attempt(leased, &outcome).await {
            Ok(()) => return ended,
            Err(error) if is_lost(&error) => return Ended::Lost,
            Err(Error::Api(error)) if !error.retryable => return Ended::Unreported,
            Err(_) => sleep(Duration::from_millis(full_jitter(tries, random::roll().unwrap_or(250)))).await,
        }
    }
    Ended::Unreported
}

/// Whether nothing that the attempt says counts any more. A token that has expired is that of a lease long gone.
fn is_lost(error: &Error) -> bool {
    matches!(error.known_code(), Some(ErrorCode::LeaseLost | ErrorCode::Unauthorized))
}
