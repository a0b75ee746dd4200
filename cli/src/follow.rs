//! Shows a call as it goes on, and says how it ended.

pub mod bar;
mod lines;

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_sdk::{Client, Handle, JobId, JsonText, Outcome, Update};
use tokio::time::{Instant, sleep_until, timeout};

use self::bar::Bar;
pub use self::lines::seconds;
use crate::commands::queue::explain;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, tame};

/// How a call is followed.
pub struct Following<'a> {
    /// Whether progress is shown.
    pub shown: bool,
    /// How long to wait for the outcome. Milliseconds.
    pub timeout_ms: Option<u64>,
    /// How to say the same request again, where it was not acknowledged yet.
    pub again: Option<&'a str>,
}

/// How long nothing may be heard of a job before it is asked what it waits for.
const QUIET: Duration = Duration::from_secs(3);
/// How long that answer is waited for.
const ANSWER: Duration = Duration::from_secs(2);

enum Step {
    Update(Option<Box<Update>>),
    Quiet,
    Interrupted,
    TimedOut,
}

/// Follows `call` to its outcome, Ctrl-C, or the end of the patience.
///
/// Errors: the outcome, where it is no success.
pub async fn follow(
    client: &Client,
    mut call: Handle,
    following: &Following<'_>,
    output: Output,
) -> Result<Exit, Failure> {
    let deadline = following
        .timeout_ms
        .map(|ms| Instant::now() + Duration::from_millis(ms));
    let mut bar = Bar::new(following.shown && !output.is_json());
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    // Asked once, where a person looks on.
    let mut quiet_until = (following.shown && !output.is_json()).then(|| Instant::now() + QUIET);
    loop {
        let quiet = async {
            match quiet_until {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let timed_out = async {
            match deadline {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let step = tokio::select! {
            // An outcome that is there counts, even where the time is up.
            biased;
            update = call.next() => Step::Update(update.map(Box::new)),
            _ = &mut interrupt => Step::Interrupted,
            () = timed_out => Step::TimedOut,
            () = quiet => Step::Quiet,
        };
        match step {
            Step::Update(Some(update)) => {
                if output.is_json() {
                    event(output, &update);
                }
                bar.update(&update);
                let heard = matches!(*update, Update::Progress(_) | Update::Output(_));
                quiet_until = quiet_until.filter(|_| !heard).map(|_| Instant::now() + QUIET);
                if let Update::Ended(outcome) = *update {
                    bar.end(matches!(outcome, Outcome::Answered { .. } | Outcome::Completed(_)));
                    return conclude(client, outcome, output).await;
                }
            }
            Step::Quiet => {
                quiet_until = None;
                if let Some(job) = call.job() {
                    for line in waits_for(client, job).await {
                        bar.say(&line);
                    }
                }
            }
            // The outcome ends the loop before this.
            Step::Update(None) => return Ok(Exit::Failed),
            Step::Interrupted => {
                bar.end(false);
                return Ok(detached(&call, following, output));
            }
            Step::TimedOut => {
                bar.end(false);
                return Err(timed_out_failure(&call, following));
            }
        }
    }
}

/// What a job waits for, in sentences. Nothing where it runs, or where that cannot be learnt soon.
async fn waits_for(client: &Client, job: &JobId) -> Vec<String> {
    match timeout(ANSWER, client.http().why(job)).await {
        Ok(Ok(why)) if !why.waits_for.is_empty() => explain(&why),
        _ => Vec::new(),
    }
}

fn detached(call: &Handle, following: &Following<'_>, output: Output) -> Exit {
    match call.job() {
        Some(job) => {
            let hint = follow_hint(job, call);
            output.say(&format!("Detached: the job goes on. Follow it again with: {hint}"));
            if output.is_json() {
                output.event("detached", &json!({"job_id": job, "seq": call.cursor()}));
            }
        }
        None => {
            output.say("Detached before the request was acknowledged: it may or may not have been taken.");
            if let Some(again) = following.again {
                output.say(&format!("Ask again, without running it twice, with: {again}"));
            }
            if output.is_json() {
                output.event("detached", &json!({"idempotency_key": call.idempotency_key()}));
            }
        }
    }
    Exit::Detached
}

fn follow_hint(job: &JobId, call: &Handle) -> String {
    match call.cursor() {
        Some(seq) => format!("tidegate job follow {job} --after {}", seq.0),
        None => format!("tidegate job follow {job}"),
    }
}

fn timed_out_failure(call: &Handle, following: &Following<'_>) -> Failure {
    let failure = Failure::new(Exit::Unavailable, "No outcome in the time given.");
    match (call.job(), following.again) {
        (Some(job), _) => failure.remedy(format!("The job goes on. Follow it with: {}", follow_hint(job, call))),
        (None, Some(again)) => failure.remedy(format!(
            "It was not acknowledged. Ask again, without running it twice, with: {again}"
        )),
        (None, None) => failure,
    }
}

/// Prints a success, and turns everything else into a failure.
///
/// Errors: the outcome, where it is no success.
pub async fn conclude(client: &Client, outcome: Outcome, output: Output) -> Result<Exit, Failure> {
    match outcome {
        Outcome::Answered { data } => {
            output.json_value("response", "data", &data);
            output_hints(output, &data);
            Ok(Exit::Succeeded)
        }
        Outcome::Completed(completed) => {
            if output.is_json() {
                output.event("complete", &completed);
                return Ok(Exit::Succeeded);
            }
            let job = completed.job_id;
            match (completed.result, completed.result_url) {
                (Some(result), _) => {
                    output.print(&crate::output::pretty(result.as_str()));
                    output_hints(output, &result);
                }
                (None, Some(_)) => {
                    output.say(&format!(
                        "The result is large. Read it with: tidegate job result {job} result.json"
                    ));
                }
                // Where the job had ended before it was followed, the server may say only that it did.
                (None, None) => {
                    if let Some(result) = client.http().job(&job, None).await?.result {
                        output.print(&crate::output::pretty(result.as_str()));
                        output_hints(output, &result);
                    } else {
                        output.say(&format!("The result: tidegate job result {job}"));
                    }
                }
            }
            Ok(Exit::Succeeded)
        }
        Outcome::Failed { job_id, mut error } => {
            error.job_id.get_or_insert(job_id.clone());
            let failure = Failure::of(error.into());
            Err(match failure.remedy {
                Some(_) => failure,
                None => failure.remedy(format!("More of it: tidegate job show {job_id}")),
            })
        }
        Outcome::Rejected(error) => Err(Failure::of(error.into())),
        Outcome::Lost { job_id, error } => {
            let failure = Failure::of(error);
            Err(match job_id {
                Some(job) => failure.remedy(format!(
                    "The job goes on. Follow it again with: tidegate job follow {job}"
                )),
                None => failure,
            })
        }
    }
}

/// An update as a line for machines, with the names of the protocol.
fn event(output: Output, update: &Update) {
    match update {
        Update::Reconnecting { attempt, in_ms, why } => {
            output.event("reconnecting", &json!({"attempt": attempt, "in_ms": in_ms, "why": why}));
        }
        Update::Reconnected => output.event("reconnected", &json!({})),
        Update::Acknowledged(event) => output.event("acknowledgment", event),
        Update::Progress(event) => output.event("progress", event),
        Update::Retrying(event) => output.event("retrying", event),
        Update::Output(event) => output.event("output", event),
        Update::Started(event) => output.event("started", event),
        Update::Snapshot(event) => output.event("snapshot", event),
        Update::CancelRefused(error) => output.event("cancel_refused", &json!({"error": error})),
        Update::TokenExpiring { expires_at } => output.event("auth_expiring", &json!({"expires_at": expires_at})),
        // Told by `conclude`, as the last line.
        Update::Ended(_) => {}
    }
}

/// Says how to get the objects that a result names as its report.
fn output_hints(output: Output, result: &JsonText) {
    let Ok(result) = serde_json::from_str::<Value>(result.as_str()) else {
        return;
    };
    let mut keys = Vec::new();
    report_keys(&result, false, &mut keys);
    for key in keys {
        let name = key.rsplit('/').next().unwrap_or(&key);
        let file = match name.rsplit_once('.') {
            Some((_, ending)) => format!("report.{}", tame(ending)),
            None => "report".to_owned(),
        };
        output.say(&format!("Get it with: tidegate get {} {}", quote(&key), quote(&file)));
    }
}

/// The texts below a member `report`, and those that name a page, as keys of objects.
fn report_keys(value: &Value, in_report: bool, keys: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            let named = in_report && [".html", ".json", ".csv"].iter().any(|ending| text.ends_with(ending));
            if (named || text.ends_with(".html")) && !keys.contains(text) {
                keys.push(text.clone());
            }
        }
        Value::Array(items) => items.iter().for_each(|item| report_keys(item, in_report, keys)),
        Value::Object(fields) => {
            for (name, field) in fields {
                report_keys(field, in_report || name == "report", keys);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `text` as one word of a shell.
pub fn quote(text: &str) -> String {
    let text = tame(text);
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_a_report_are_found_and_nothing_else() {
        let result = json!({"rows": 3, "columns": [{"name": "a.csv"}],
            "report": {"html": "r/1/report.html", "json": "r/1/report.json", "bytes": 4}, "page": "x.html"});
        let mut keys = Vec::new();
        report_keys(&result, false, &mut keys);
        keys.sort();
        assert_eq!(keys, ["r/1/report.html", "r/1/report.json", "x.html"]);
    }

    #[test]
    fn a_word_of_a_shell_stays_one_word() {
        for (text, quoted) in [
            ("a/b.csv", "a/b.csv"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            assert_eq!(quote(text), quoted);
        }
    }
}
