//! The queue's consumer. A doorbell says that a job may be started, and nothing else: it asks the job's object to
//! start it, and is done. No work runs inside a batch.

use tidegate_durable_objects::platform::log_error;
use tidegate_durable_objects::remote;
use tidegate_protocol::calls::jobs::Call;
use tidegate_protocol::ids::{JobId, ObjectName};
use worker::{Env, MessageBatch, MessageExt};

/// Where a doorbell comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The queue of the doorbells.
    Queue,
    /// The queue of those that nobody answered.
    Dead,
}

impl Source {
    /// The source that the queue of this name is.
    fn of(queue: &str) -> Self {
        match queue {
            "tidegate-doorbells-dead" => Self::Dead,
            _ => Self::Queue,
        }
    }

    /// What is asked of the job's object: a dead doorbell is rung once more, and noted there.
    const fn call(self, job: JobId) -> Call {
        match self {
            Self::Queue => Call::Start { job },
            Self::Dead => Call::DoorbellLost { job },
        }
    }

    /// What the log calls a doorbell from here.
    const fn name(self) -> &'static str {
        match self {
            Self::Queue => "a doorbell",
            Self::Dead => "a dead doorbell",
        }
    }
}

/// Characters of a message that cannot be read, in the log.
const SHOWN_CHARS_MAX: usize = 80;

/// Rings each doorbell of a batch. A message that cannot be read is dropped: its job starts by its alarm.
///
/// One from the queue of the dead rings once more, like any other: its job starts, has started long since, or waits for
/// something else. That it was dead is noted with the job, for the list of dead letters. Where its object is still not reached, the alarm of that object is left, which no doorbell is needed for.
pub async fn handle(batch: &MessageBatch<serde_json::Value>, env: &Env) {
    let source = Source::of(&batch.queue());
    for message in batch.raw_iter() {
        let body = message.body();
        let Some((name, job)) = body.as_string().as_deref().and_then(parse) else {
            log_error(
                source.name(),
                format!("not of the form `<object> <job>`: {}", shown(&body)),
            );
            message.ack();
            continue;
        };
        match remote::jobs(env, &name, source.call(job)).await {
            Ok(_) => message.ack(),
            Err(error) => {
                log_error(source.name(), error);
                message.retry();
            }
        }
    }
}

/// What a message holds, as far as a line of the log takes it.
fn shown(body: &worker::wasm_bindgen::JsValue) -> String {
    match body.as_string() {
        Some(text) => bounded(&text),
        None => String::from("no text"),
    }
}

/// The beginning of a text from outside, on one line.
fn bounded(text: &str) -> String {
    text.chars()
        .take(SHOWN_CHARS_MAX)
        .flat_map(char::escape_debug)
        .collect()
}

fn parse(text: &str) -> Option<(ObjectName, JobId)> {
    let (name, job) = text.split_once(' ')?;
    let name = ObjectName::parse(name).filter(|name| matches!(name, ObjectName::Jobs(..)))?;
    Some((name, JobId::parse(job)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_shown_on_one_line_and_no_further_than_its_beginning() {
        assert_eq!(bounded("a\nb\u{7}"), "a\\nb\\u{7}");
        assert_eq!(bounded(&"\u{1F514}".repeat(1000)).chars().count(), SHOWN_CHARS_MAX);
    }

    #[test]
    fn a_doorbell_of_the_dead_is_noted_and_any_other_only_rung() {
        let job = JobId::parse("job_0000000000a000001").unwrap();
        assert_eq!(Source::of("tidegate-doorbells").call(job), Call::Start { job });
        assert_eq!(
            Source::of("tidegate-doorbells-dead").call(job),
            Call::DoorbellLost { job }
        );
    }

    #[test]
    fn a_doorbell_names_a_jobs_object_and_a_job() {
        assert!(parse("t:acme:jobs:0 job_0000000000a000001").is_some());
        for wrong in [
            "",
            "t:acme:jobs:0",
            "t:acme:hub:0 job_0000000000a000001",
            "t:acme:jobs:0 job_x",
            "a b c",
        ] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }
}
