//! The queue's consumer. A doorbell says that a job may be started, and nothing else: it asks the job's object to
//! start it, and is done. No work runs inside a batch.

use tidegate_durable_objects::platform::log_error;
use tidegate_durable_objects::remote;
use tidegate_protocol::calls::jobs::Call;
use tidegate_protocol::ids::{JobId, ObjectName};
use worker::{Env, MessageBatch, MessageExt};

/// Rings each doorbell of a batch. A message that cannot be read is dropped: its job starts by its alarm.
pub async fn handle(batch: &MessageBatch<serde_json::Value>, env: &Env) {
    for message in batch.raw_iter() {
        let text = message.body().as_string().unwrap_or_default();
        let Some((name, job)) = parse(&text) else {
            log_error("a doorbell", "a message is not of the form `<object> <job>`");
            message.ack();
            continue;
        };
        match remote::jobs(env, &name, Call::Start { job }).await {
            Ok(_) => message.ack(),
            Err(error) => {
                log_error("a doorbell", error);
                message.retry();
            }
        }
    }
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
