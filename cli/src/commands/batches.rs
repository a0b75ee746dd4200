//! `tidegate batch`: runs many requests as one batch, follows and cancels it.

use std::time::Duration;

use serde_json::json;
use tidegate_sdk::http::BatchStatus;
use tidegate_sdk::{BatchId, Client, Fault};
use tokio::time::Instant;

use super::batch::{Request, requests, tell};
use crate::arguments::Batch;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::bar::Bar;
use crate::output::Output;

/// The longest that the server waits in one request. Seconds.
const WAIT_S_MAX: u64 = tidegate_protocol::limits::WAIT_SECONDS_MAX;
/// Requests of one batch, as many as the server takes.
const REQUESTS_MAX: usize = tidegate_protocol::limits::BATCH_REQUESTS_MAX;
/// How often a batch that is followed is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Runs one of the commands on batches.
pub async fn batches(client: &Client, batch: Batch, output: Output) -> Result<Exit, Failure> {
    match batch {
        Batch::Send { file, key, follow } => send(client, requests(&file)?, key.as_deref(), follow, output).await,
        Batch::Show { id, wait } => show(client, &parse(&id)?, wait, output).await,
        Batch::Follow { id, timeout } => follow(client, &parse(&id)?, timeout, output).await,
        Batch::Cancel { id } => {
            let batch = client.http().cancel_batch(&parse(&id)?).await?;
            tell_status(&batch, output);
            Ok(Exit::Succeeded)
        }
    }
}

async fn send(
    client: &Client,
    requests: Vec<Request>,
    key: Option<&str>,
    follows: bool,
    output: Output,
) -> Result<Exit, Failure> {
    if requests.len() > REQUESTS_MAX {
        let message = format!(
            "A batch holds at most {REQUESTS_MAX} requests; this one has {}.",
            requests.len()
        );
        let failure = Failure::new(Exit::Invalid, message);
        return Err(failure.remedy("Split it, or run it as several batches: tidegate call --batch FILE"));
    }
    let answer = match key {
        Some(key) => client.http().batch_with_key(key, requests).await?,
        None => client.http().batch(requests).await?,
    };
    let mut exit = Exit::Succeeded;
    for item in &answer.results {
        if let Some(error) = item.error() {
            exit = Exit::of_code(&error.code);
        }
        // What was taken is told of by the batch; only what was not needs a line.
        if output.is_json() || item.error().is_some() {
            tell(item, output);
        }
    }
    let Some(id) = answer.batch_id else {
        output.say("The server is of an earlier version, and has no handle for the batch.");
        return Ok(exit);
    };
    let none = answer.results.iter().all(|item| item.error().is_some());
    if output.is_json() {
        output.event("batch_accepted", &json!({"batch_id": id}));
    } else {
        output.print(id.as_str());
        if !follows && !none {
            output.say(&format!("Follow it with: tidegate batch follow {id}"));
        }
    }
    if !follows || none {
        return Ok(exit);
    }
    let outcome = follow(client, &id, None, output).await?;
    Ok(if outcome == Exit::Succeeded { exit } else { outcome })
}

async fn show(client: &Client, id: &BatchId, wait_ms: Option<u64>, output: Output) -> Result<Exit, Failure> {
    let mut left_s = wait_ms.map(|ms| ms.div_ceil(1000));
    let batch = loop {
        let wait_s = left_s.map(|left| left.min(WAIT_S_MAX));
        let batch = client.http().batch_status(id, wait_s).await?;
        left_s = left_s.map(|left| left.saturating_sub(WAIT_S_MAX));
        if batch.is_ended() || left_s.unwrap_or(0) == 0 {
            break batch;
        }
    };
    tell_status(&batch, output);
    Ok(match wait_ms {
        None => Exit::Succeeded,
        Some(_) => outcome(&batch),
    })
}

async fn follow(client: &Client, id: &BatchId, timeout_ms: Option<u64>, output: Output) -> Result<Exit, Failure> {
    let deadline = timeout_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
    let mut bar = Bar::new(!output.is_json());
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let mut told = None;
    loop {
        let batch = client.http().batch_status(id, None).await?;
        if told.as_ref() != Some(&batch) {
            if output.is_json() && !batch.is_ended() {
                output.event("batch", &batch);
            }
            bar.set(batch.progress, &counts(&batch));
            told = Some(batch.clone());
        }
        if batch.is_ended() {
            bar.end(batch.succeeded == batch.accepted);
            tell_status(&batch, output);
            return Ok(outcome(&batch));
        }
        if deadline.is_some_and(|at| Instant::now() >= at) {
            bar.end(false);
            output.say(&format!("It goes on. Follow it with: tidegate batch follow {id}"));
            return Ok(Exit::Unavailable);
        }
        tokio::select! {
            _ = &mut interrupt => {
                bar.end(false);
                output.say(&format!("No longer followed; it goes on. Follow it with: tidegate batch follow {id}"));
                return Ok(Exit::Detached);
            }
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// The exit code that tells how a batch stands: the worst of what its jobs came to.
fn outcome(batch: &BatchStatus) -> Exit {
    if !batch.is_ended() || batch.expired > 0 {
        Exit::Unavailable
    } else if batch.failed > 0 {
        Exit::Failed
    } else if batch.cancelled > 0 {
        Exit::Cancelled
    } else {
        Exit::Succeeded
    }
}

fn tell_status(batch: &BatchStatus, output: Output) {
    if output.is_json() {
        output.event("batch", batch);
    } else {
        output.print(&describe(batch));
    }
}

/// The counts that are not 0, in words.
fn counts(batch: &BatchStatus) -> String {
    let parts = [
        (batch.waiting, "waiting"),
        (batch.running, "running"),
        (batch.succeeded, "succeeded"),
        (batch.failed, "failed"),
        (batch.cancelled, "cancelled"),
        (batch.expired, "expired"),
    ];
    let some = parts.iter().filter(|(count, _)| *count > 0);
    let words: Vec<String> = some.map(|(count, what)| format!("{count} {what}")).collect();
    words.join(", ")
}

fn describe(batch: &BatchStatus) -> String {
    let time = |time: Option<tidegate_sdk::UnixMs>| time.map(|time| time.to_string());
    let fields = [
        ("batch", Some(batch.batch_id.to_string())),
        ("jobs", Some(format!("{}: {}", batch.accepted, counts(batch)))),
        ("progress", Some(format!("{:.1} %", batch.progress))),
        ("created", time(batch.created_at)),
        ("cancelled", time(batch.cancelled_at)),
        ("ended", time(batch.ended_at)),
    ];
    let lines = fields.into_iter();
    let lines: Vec<String> = lines
        .filter_map(|(name, value)| Some(format!("{name:<9} {}", value?)))
        .collect();
    lines.join("\n")
}

/// Reads a batch's id. Errors: it is none.
fn parse(id: &str) -> Result<BatchId, Failure> {
    BatchId::parse(id).ok_or_else(|| {
        let mut failure = Failure::new(Exit::Invalid, "This is no batch's id.");
        failure.faults = vec![Fault::new("", "a batch's id, such as bat_0abc…", id)];
        failure.remedy("`tidegate batch send` prints it.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_that_of_the_worst_outcome() {
        let batch = |text: &str| -> BatchStatus {
            let counts = r#""batch_id":"bat_1","accepted":9,"waiting":0"#;
            serde_json::from_str(&format!("{{{counts},{text}}}")).unwrap()
        };
        for (text, exit, words) in [
            (
                r#""running":0,"succeeded":9,"failed":0,"cancelled":0,"expired":0"#,
                Exit::Succeeded,
                "9 succeeded",
            ),
            (
                r#""running":0,"succeeded":8,"failed":0,"cancelled":1,"expired":0"#,
                Exit::Cancelled,
                "8 succeeded, 1 cancelled",
            ),
            (
                r#""running":0,"succeeded":7,"failed":1,"cancelled":1,"expired":0"#,
                Exit::Failed,
                "7 succeeded, 1 failed, 1 cancelled",
            ),
            (
                r#""running":0,"succeeded":8,"failed":0,"cancelled":0,"expired":1"#,
                Exit::Unavailable,
                "8 succeeded, 1 expired",
            ),
            (
                r#""running":1,"succeeded":8,"failed":0,"cancelled":0,"expired":0"#,
                Exit::Unavailable,
                "1 running, 8 succeeded",
            ),
        ] {
            let batch = batch(text);
            assert_eq!((outcome(&batch), counts(&batch).as_str()), (exit, words));
        }
    }
}
