//! `tidegate call --batch`: runs many requests of a file.

use std::collections::BTreeMap;
use std::io::Read;

use tidegate_sdk::http::BatchItem;
use tidegate_sdk::{Client, Fault, JsonText};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, tame};

pub(super) type Request = BTreeMap<String, JsonText>;

/// Requests of one call, as many as the server takes.
const CALL_REQUESTS_MAX: usize = tidegate_protocol::limits::BATCH_REQUESTS_MAX;

/// Runs the requests of `file`, or of standard input for `-`. The exit code is that of the last one that was refused.
pub async fn batch(client: &Client, file: &str, output: Output) -> Result<Exit, Failure> {
    let mut requests = requests(file)?.into_iter().peekable();
    let (mut exit, mut before) = (Exit::Succeeded, 0);
    while requests.peek().is_some() {
        let some: Vec<Request> = requests.by_ref().take(CALL_REQUESTS_MAX).collect();
        let count = some.len();
        for mut item in client.http().batch(some).await?.results {
            item.index += before;
            if let Some(error) = item.error() {
                exit = Exit::of_code(&error.code);
            }
            tell(&item, output);
        }
        before += count;
    }
    Ok(exit)
}

/// The requests of `file`, or of standard input for `-`.
pub(super) fn requests(file: &str) -> Result<Vec<Request>, Failure> {
    parse(&read(file)?, file)
}

/// Prints what became of a request.
pub(super) fn tell(item: &BatchItem, output: Output) {
    if output.is_json() {
        output.event("result", item);
    } else {
        output.print(&tame(&line(item)));
    }
}

fn read(file: &str) -> Result<String, Failure> {
    if file == "-" {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        read.map_err(|error| Failure::of_io("The batch on stdin cannot be read", &error))?;
        return Ok(text);
    }
    std::fs::read_to_string(file).map_err(|error| Failure::of_io(&format!("The batch {file} cannot be read"), &error))
}

/// Reads a JSON array of objects, or an object a line.
fn parse(text: &str, file: &str) -> Result<Vec<Request>, Failure> {
    let fail = |place: String, error: &serde_json::Error, got: &str| {
        let mut failure = Failure::new(Exit::Invalid, format!("The batch {file} cannot be used: {error}."));
        failure.faults = vec![Fault::new(place, "a request, such as {\"action\":\"core.echo\"}", got)];
        failure.remedy("A batch is a JSON array of requests, or one request a line.")
    };
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(|error| fail(String::new(), &error, text));
    }
    let lines = (0..).zip(text.lines().filter(|line| !line.trim().is_empty()));
    lines
        .map(|(index, line): (usize, &str)| {
            serde_json::from_str(line).map_err(|error| fail(format!("/{index}"), &error, line))
        })
        .collect()
}

fn line(item: &BatchItem) -> String {
    let index = item.index;
    match (&item.accepted, &item.answer) {
        (Some(accepted), _) => format!("{index}  {}  {}", accepted.job_id, accepted.status),
        (None, Some(answer)) => {
            let job = answer.job_id.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("{index}  {job}  succeeded already")
        }
        (None, None) => {
            let error = item.error().map(|error| error.to_string()).unwrap_or_default();
            format!("{index}  {error}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_an_array_or_a_request_a_line() {
        for text in [
            "[{\"action\":\"a\"}, {\"action\":\"b\"}]",
            "{\"action\":\"a\"}\n\n {\"action\":\"b\"}\n",
        ] {
            assert_eq!(parse(text, "f").unwrap().len(), 2, "{text}");
        }
        for text in ["[1]", "[", "{\"action\":\"a\"}\n7", "nonsense"] {
            assert_eq!(parse(text, "f").unwrap_err().exit, Exit::Invalid, "{text}");
        }
    }
}
