//! `tidegate worker`: leases jobs of a pool, and runs a command for each.

use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use tidegate_sdk::worker::{Context, Drained, Failure as JobFailure, Job, Worker as Runner};
use tidegate_sdk::{Client, ErrorCode, JsonText};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use crate::arguments::Worker;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, tame};

/// A result at most: what the server takes of an outcome, with room for what stands around it. Bytes.
const RESULT_BYTES_MAX: u64 = 15 * 1024 * 1024;

#[derive(Serialize)]
struct Counts {
    succeeded: u64,
    failed: u64,
    snoozed: u64,
    lost: u64,
    handed_back: u64,
    unreported: u64,
}

/// Runs jobs until it is told to stop.
pub async fn worker(client: &Client, worker: Worker, output: Output) -> Result<Exit, Failure> {
    let mut builder = Runner::builder(client, worker.pool)
        .concurrency(worker.concurrency)
        .grace(Duration::from_millis(worker.grace));
    if let Some(name) = worker.name {
        builder = builder.name(name);
    }
    let command = worker.exec;
    let handler = move |job: Job, context: Context| {
        let command = command.clone();
        async move { run(&command, &job, &context, output).await }
    };
    builder = if worker.actions.is_empty() {
        builder.any_action(handler)
    } else {
        let actions = worker.actions.into_iter();
        actions.fold(builder, |builder, action| builder.handler(action, handler.clone()))
    };
    let drained = builder.build()?.run(told_to_stop(output)).await?;
    tell(drained, output);
    Ok(Exit::Succeeded)
}

fn tell(drained: Drained, output: Output) {
    let Drained {
        succeeded,
        failed,
        snoozed,
        lost,
        handed_back,
        unreported,
    } = drained;
    if output.is_json() {
        output.event(
            "drained",
            &Counts {
                succeeded,
                failed,
                snoozed,
                lost,
                handed_back,
                unreported,
            },
        );
    } else {
        output.print(&format!(
            "{succeeded} succeeded, {failed} failed, {lost} lost, {handed_back} given back"
        ));
    }
}

/// SIGTERM or Ctrl-C.
async fn told_to_stop(output: Output) {
    let interrupted = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminated) => {
                tokio::select! {
                    _ = interrupted => {}
                    _ = terminated.recv() => {}
                }
            }
            Err(_) => drop(interrupted.await),
        }
    }
    #[cfg(not(unix))]
    drop(interrupted.await);
    output.say("Stopping: what runs is finished, or given back.");
}

/// Runs the command for one job. It is killed where nobody wants its outcome any more.
async fn run(command: &str, job: &Job, context: &Context, output: Output) -> Result<JsonText, JobFailure> {
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(command)
        .env("TIDEGATE_JOB_ID", job.id.as_str())
        .env("TIDEGATE_ACTION", &job.action)
        .env("TIDEGATE_ATTEMPT", job.attempt.to_string())
        .env("TIDEGATE_EFFECT_KEY", &job.effect_key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // A command that does not read its input has no use for it.
            let _unread = stdin.write_all(job.payload.as_str().as_bytes()).await;
        }
    };
    let talk = async { tokio::join!(write, read_all(stdout), listen(stderr, context, output)) };
    let ((), result, last) = tokio::select! {
        said = talk => said,
        () = context.stopped() => return Err(JobFailure::retryable("Nobody wants the outcome any more.")),
    };
    let result = result?;
    let status = child.wait().await?;
    if !status.success() {
        let why = last.map(|line| format!(": {line}")).unwrap_or_default();
        return Err(JobFailure::retryable(format!("The command ended with {status}{why}")));
    }
    Ok(JsonText::parse(result.trim()).unwrap_or_else(|| text(&result)))
}

/// What is no JSON is a string.
fn text(result: &str) -> JsonText {
    JsonText::of(result.trim_end_matches('\n')).unwrap_or_else(JsonText::null)
}

async fn read_all(stream: Option<impl AsyncRead + Unpin>) -> Result<String, JobFailure> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(RESULT_BYTES_MAX + 1).read_to_end(&mut bytes).await?;
    }
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > RESULT_BYTES_MAX {
        let message = format!("The command wrote more than {RESULT_BYTES_MAX} bytes.");
        return Err(JobFailure::permanent(message).with_code(ErrorCode::PayloadTooLarge));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Progress is told, everything else is passed on. Gives the last line that was no progress.
async fn listen(stream: Option<impl AsyncRead + Unpin>, context: &Context, output: Output) -> Option<String> {
    let mut lines = BufReader::new(stream?).lines();
    let mut last = None;
    while let Ok(Some(line)) = lines.next_line().await {
        match progress(&line) {
            Some((percentage, message)) => context.progress(percentage, message),
            None => {
                output.say(&tame(&line));
                last = Some(line);
            }
        }
    }
    last
}

/// Reads `progress 40 a message`.
fn progress(line: &str) -> Option<(f64, &str)> {
    let rest = line.strip_prefix("progress ")?.trim_start();
    let (number, message) = rest.split_once(' ').unwrap_or((rest, ""));
    let number = number.trim_end_matches('%').parse::<f64>().ok()?;
    (0.0..=100.0).contains(&number).then_some((number, message.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_progress_is_read_and_no_other() {
        for (line, expected) in [
            ("progress 40 half of it", Some((40.0, "half of it"))),
            ("progress 12.5%", Some((12.5, ""))),
            ("progress", None),
            ("progress x", None),
            ("progress 101", None),
            ("in progress 40", None),
        ] {
            assert_eq!(progress(line), expected, "{line}");
        }
    }
}
