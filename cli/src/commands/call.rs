//! `tidegate call`: runs an action.

use std::io::Read;

use tidegate_sdk::http::{Posted, Prefer};
use tidegate_sdk::{CallOptions, Client, Fault, JsonText, Mode, OnDisconnect, Outcome, Start};

use crate::arguments::Call;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::follow::{Following, conclude, follow, quote};
use crate::output::Output;

/// Runs an action: over HTTP for an answer or an acknowledgment, over a socket to follow it to its outcome.
pub async fn call(client: &Client, call: &Call, output: Output) -> Result<Exit, Failure> {
    if let Some(file) = &call.batch {
        return super::batch::batch(client, file, output).await;
    }
    let action = call.action.as_deref().unwrap_or_default();
    let payload = payload(call.payload.as_deref())?;
    let options = CallOptions {
        mode: if call.asynchronous { Mode::Async } else { Mode::Auto },
        idempotency_key: call.key.clone(),
        priority: call.priority,
        timeout_ms: call.attempt_timeout,
        queue_timeout_ms: call.queue_timeout,
        start: call.delay.map_or(Start::Now, Start::After),
        metadata: call.metadata.iter().cloned().collect(),
        traceparent: None,
        on_end: call.on_end.clone(),
        on_disconnect: call.cancel_on_disconnect.then_some(OnDisconnect::Cancel),
    };
    if call.follow || call.timeout.is_some() {
        let handle = client.call(action, &payload, options)?;
        let again = handle.idempotency_key().map(|key| again(call, key));
        let following = Following {
            shown: call.follow,
            timeout_ms: call.timeout,
            again: again.as_deref(),
        };
        return follow(client, handle, &following, output).await;
    }
    let prefer = if call.asynchronous {
        Prefer::RespondAsync
    } else {
        Prefer::Unsaid
    };
    match client.http().request(action, &payload, &options, prefer).await? {
        Posted::Answered(answer) if answer.result_url.is_some() => {
            if output.is_json() {
                output.event("response", &answer);
            } else if let Some(job) = &answer.job_id {
                output.say(&format!(
                    "The result is large. Read it with: tidegate job result {job} result.json"
                ));
            }
            Ok(Exit::Succeeded)
        }
        Posted::Answered(answer) => conclude(client, Outcome::Answered { data: answer.data }, output).await,
        Posted::Accepted(accepted) => {
            if output.is_json() {
                output.event("acknowledgment", &accepted);
            } else {
                let job = &accepted.job_id;
                output.print(job.as_str());
                let known = if accepted.deduplicated {
                    "was there already by its key"
                } else {
                    "is stored"
                };
                output.say(&format!(
                    "The job {known} ({}). Follow it with: tidegate job follow {job}",
                    accepted.status
                ));
            }
            Ok(Exit::Succeeded)
        }
    }
}

/// The same request as a command line.
fn again(call: &Call, key: &str) -> String {
    let payload = match &call.payload {
        Some(payload) => format!(" --payload {}", quote(payload)),
        None => String::new(),
    };
    format!(
        "tidegate call {}{payload} --key {} --follow",
        quote(call.action.as_deref().unwrap_or_default()),
        quote(key)
    )
}

/// Reads the payload: JSON itself, a file, or standard input.
///
/// Errors: it cannot be read, or is no JSON.
pub fn payload(argument: Option<&str>) -> Result<JsonText, Failure> {
    let Some(argument) = argument else {
        return Ok(JsonText::null());
    };
    let help = "Put the JSON in single quotes, as in --payload '{\"object\":\"zips.csv\"}', or name a file with @FILE.";
    json_input(argument, "payload", "--payload", help)
}

/// Reads JSON itself, from a file (`@FILE`), or from standard input (`-`). `what` it is and how the argument is `named` stand in
/// what is said where it cannot be used, and `help` what to do then.
///
/// Errors: it cannot be read, or is no JSON.
pub fn json_input(argument: &str, what: &str, named: &str, help: &str) -> Result<JsonText, Failure> {
    let (source, text) = if argument == "-" {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        read.map_err(|error| Failure::of_io(&format!("The {what} on stdin cannot be read"), &error))?;
        ("stdin".to_owned(), text)
    } else if let Some(path) = argument.strip_prefix('@') {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::of_io(&format!("The {what}'s file {path} cannot be read"), &error))?;
        (path.to_owned(), text)
    } else {
        (named.to_owned(), argument.to_owned())
    };
    if let Some(json) = JsonText::parse(&text) {
        return Ok(json);
    }
    let why = match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
        Err(error) => error.to_string(),
        Ok(_) => format!(
            "it nests deeper than {} levels",
            tidegate_protocol::limits::JSON_DEPTH_MAX
        ),
    };
    let mut failure = Failure::new(
        Exit::Invalid,
        format!("The {what} of {source} is no JSON that can be sent: {why}."),
    );
    failure.faults = vec![Fault::new("", "JSON", &text)];
    Err(failure.remedy(help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_that_is_no_json_is_never_sent() {
        for text in ["{", "nonsense", "'{}'", ""] {
            assert_eq!(payload(Some(text)).unwrap_err().exit, Exit::Invalid, "{text}");
        }
        assert_eq!(payload(Some("{\"a\":1.10}")).unwrap().as_str(), "{\"a\":1.10}");
        assert_eq!(payload(None).unwrap().as_str(), "null");
    }
}
