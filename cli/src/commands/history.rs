//! `tidegate job output` and `tidegate job events`: what a job wrote, and what happened to it.

use serde_json::Value;
use tidegate_sdk::{Client, JobId, JsonText, Seq};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, compact, tame};

/// How long one request for more text may wait. Below the minute after which proxies close what is silent. Seconds.
const WAIT_S: u64 = 20;

/// Prints the text of a stream from a byte on; with `follow`, until the job has ended.
pub async fn output(
    client: &Client,
    job: &JobId,
    stream: &str,
    offset: u64,
    follow: bool,
    output: Output,
) -> Result<Exit, Failure> {
    let mut offset = offset;
    loop {
        let wait_s = if follow { WAIT_S } else { 0 };
        let page = client.http().output(job, stream, offset, wait_s).await?;
        if page.gap {
            output.say(&format!(
                "The bytes from {offset} to {} of `{stream}` are no longer kept.",
                page.offset
            ));
        }
        if output.is_json() && (page.gap || !page.text.is_empty()) {
            output.event("output", &page);
        } else if !output.is_json() {
            output.text(&page.text);
        }
        let done = page.next_offset >= page.written && (page.ended || !follow);
        if done || (page.text.is_empty() && !follow) {
            return Ok(Exit::Succeeded);
        }
        offset = page.next_offset;
    }
}

/// Prints the stored events of a job, oldest first.
pub async fn events(client: &Client, job: &JobId, after: Option<Seq>, output: Output) -> Result<Exit, Failure> {
    let mut after = after.unwrap_or_default();
    loop {
        let page = client.http().events(job, Some(after)).await?;
        if page.gap {
            output.say("Some events are no longer kept.");
        }
        for event in &page.events {
            if output.is_json() {
                output.print(&compact(event.as_str()));
            } else if let Some(line) = line(event) {
                output.print(&line);
            }
        }
        match page.next_after {
            Some(next) => after = next,
            None => return Ok(Exit::Succeeded),
        }
    }
}

/// An event as one line for a person. `None` for what is no event.
fn line(event: &JsonText) -> Option<String> {
    let event: Value = serde_json::from_str(event.as_str()).ok()?;
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let number = |pointer: &str| event.pointer(pointer).and_then(Value::as_u64);
    let error = || format!("{}: {}", text("/error/code"), text("/error/message"));
    let kind = text("/type");
    let what = match kind {
        "progress" => {
            let percentage = event.pointer("/percentage").and_then(Value::as_f64);
            format!("{:.1} % {}", percentage.unwrap_or(0.0), text("/message"))
        }
        "retrying" => format!("{}; the next attempt not before {}", error(), text("/next_attempt_at")),
        "output" => {
            let offset = number("/offset").unwrap_or(0);
            format!("{} at {offset}: {}", text("/stream"), text("/chunk").trim_end())
        }
        "complete" | "started" => String::new(),
        _ => error(),
    };
    let attempt = number("/attempt").map(|attempt| format!("attempt {attempt} "));
    let (seq, attempt) = (number("/seq")?, attempt.unwrap_or_default());
    let line = format!("{seq} {} {attempt}{kind} {what}", text("/timestamp"));
    Some(tame(line.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_a_line_that_cannot_move_the_cursor() {
        for (event, expected) in [
            (
                r#"{"type":"progress","seq":2,"attempt":1,"percentage":12.5,"message":"a\u001b[2J","timestamp":"T"}"#,
                "2 T attempt 1 progress 12.5 % a[2J",
            ),
            (
                r#"{"type":"output","seq":3,"attempt":1,"stream":"log","offset":7,"chunk":"b\nc\n","timestamp":"T"}"#,
                "3 T attempt 1 output log at 7: bc",
            ),
            (
                r#"{"type":"retrying","seq":4,"attempt":1,"next_attempt_at":"U","error":{"code":"C","message":"m"},"timestamp":"T"}"#,
                "4 T attempt 1 retrying C: m; the next attempt not before U",
            ),
            (
                r#"{"type":"started","seq":5,"attempt":2,"timestamp":"T"}"#,
                "5 T attempt 2 started",
            ),
            (
                r#"{"type":"complete","seq":5,"attempt":2,"result":1,"timestamp":"T"}"#,
                "5 T attempt 2 complete",
            ),
            (
                r#"{"type":"error","seq":5,"error":{"code":"C","message":"m"},"timestamp":"T"}"#,
                "5 T error C: m",
            ),
        ] {
            assert_eq!(line(&JsonText::parse(event).unwrap()).unwrap(), expected);
        }
    }
}
