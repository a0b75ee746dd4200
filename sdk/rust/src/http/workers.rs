//! What a worker asks of the server, a call at a time. [`crate::worker`] makes a worker of it.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::Method;
use hyper::header::AUTHORIZATION;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::time::UnixMs;

use super::{Ask, Http, parse, read};
use crate::error::Error;
use crate::ids::JobId;

/// What a worker asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lease {
    /// So many jobs at most, 100 at most. None from a worker that leaves, which ends its older call.
    pub max: usize,
    /// How long to wait where there are none, 30,000 at most. Milliseconds.
    pub wait_ms: u64,
    /// The worker's name. It waits with one call at a time: a newer one ends the older.
    pub worker: String,
    /// Only jobs of these actions; `None`: of any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions: Option<Vec<String>>,
}

/// A job that a worker is to run: one attempt of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct LeasedJob {
    /// The job.
    pub job_id: JobId,
    /// What it runs.
    pub action: String,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Its input, where it came along.
    #[serde(default)]
    pub payload: Option<JsonText>,
    /// Where its input is, where it was too large to come along.
    #[serde(default)]
    pub payload_url: Option<String>,
    /// The client's own notes on it.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// The same for every attempt of the job, to pass downstream as an idempotency key.
    pub effect_key: String,
    /// When the attempt must be done.
    pub deadline: UnixMs,
    /// When the lease ends unless a report comes.
    pub lease_until: UnixMs,
    /// How long the lease lasts after each report. Milliseconds.
    pub lease_ms: u64,
    /// What the attempt reports and ends with. A secret.
    pub attempt_token: String,
    /// The caller's trace.
    #[serde(default)]
    pub traceparent: Option<String>,
}

/// What a worker is given.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct LeasedJobs {
    /// The jobs; none where the wait is over.
    #[serde(default)]
    pub jobs: Vec<LeasedJob>,
}

/// How an attempt ends.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// With a result.
    Succeeded(JsonText),
    /// Without one.
    Failed {
        /// A code of the error catalogue; the server's own choice where it is absent.
        code: Option<String>,
        /// One sentence for a person.
        message: String,
        /// Whether trying again may help; as the code says where it is absent.
        retryable: Option<bool>,
        /// The shortest wait before the next attempt. Milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// Not yet: the same attempt goes on later.
    Snoozed {
        /// How much later. Milliseconds.
        ms: u64,
    },
}

impl Outcome {
    fn encode(&self) -> String {
        match self {
            // The result stands in the text as it came.
            Self::Succeeded(result) => format!(r#"{{"outcome":"succeeded","result":{}}}"#, result.as_str()),
            Self::Failed {
                code,
                message,
                retryable,
                retry_after_ms,
            } => {
                let mut error = serde_json::Map::new();
                let members = [
                    ("message", Some(json!(message))),
                    ("code", code.as_ref().map(|code| json!(code))),
                    ("retryable", retryable.map(|retryable| json!(retryable))),
                    ("retry_after_ms", retry_after_ms.map(|ms| json!(ms))),
                ];
                for (name, value) in members {
                    error.extend(value.map(|value| (name.to_owned(), value)));
                }
                json!({ "outcome": "failed", "error": error }).to_string()
            }
            Self::Snoozed { ms } => json!({ "outcome": "snoozed", "ms": ms }).to_string(),
        }
    }
}

fn of_attempt<'a>(job: &LeasedJob, method: Method, path: &str) -> Ask<'a> {
    let path = format!("/v1/attempts/{}{path}", job.job_id);
    Ask::new(method, path).header(AUTHORIZATION.as_str(), format!("Bearer {}", job.attempt_token))
}

/// An attempt goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct RenewedLease {
    /// When its lease ends unless another report comes.
    pub lease_until: UnixMs,
    /// Where its job was cancelled: until when it may bring itself to an end.
    pub cancelled_until: Option<UnixMs>,
}

impl Http {
    /// `POST /v1/workers/{pool}:lease`: jobs of the pool for this worker, which has to report on each before its lease ends.
    ///
    /// Errors: [`Error::Api`] (`FORBIDDEN` without the scope `jobs:work`), [`Error::Unreachable`].
    pub async fn lease(&self, pool: &str, asked: &Lease) -> Result<LeasedJobs, Error> {
        let body = serde_json::to_string(asked).map_err(|error| Error::Invalid(error.to_string()))?;
        let mut ask = Ask::new(Method::POST, format!("/v1/workers/{pool}:lease")).json(&body);
        ask.wait = Duration::from_millis(asked.wait_ms);
        self.fetch(ask).await
    }

    /// `GET /v1/attempts/{id}/payload`: the input of an attempt, where it did not come along.
    ///
    /// Errors: [`Error::Api`] (`LEASE_LOST`), [`Error::Unreachable`], [`Error::Protocol`].
    pub async fn attempt_payload(&self, job: &LeasedJob) -> Result<JsonText, Error> {
        if let Some(payload) = &job.payload {
            return Ok(payload.clone());
        }
        self.fetch(of_attempt(job, Method::GET, "/payload")).await
    }

    /// `POST /v1/attempts/{id}:report`: a sign of life, with progress or without. Gives the new end of the lease, and
    /// tells of a cancel.
    ///
    /// Errors: [`Error::Api`] (`LEASE_LOST`), [`Error::Unreachable`].
    pub async fn report_attempt(
        &self,
        job: &LeasedJob,
        progress: Option<(f64, Option<&str>)>,
    ) -> Result<RenewedLease, Error> {
        let body = match progress {
            None => String::from("{}"),
            Some((percentage, None)) => json!({ "progress": { "percentage": percentage } }).to_string(),
            Some((percentage, Some(message))) => {
                json!({ "progress": { "percentage": percentage, "message": message } }).to_string()
            }
        };
        self.fetch(of_attempt(job, Method::POST, ":report").json(&body)).await
    }

    /// `POST /v1/attempts/{id}:finish`: ends the attempt. The same outcome said again is no error.
    ///
    /// Errors: [`Error::Api`] (`LEASE_LOST`), [`Error::Unreachable`].
    pub async fn finish_attempt(&self, job: &LeasedJob, outcome: &Outcome) -> Result<(), Error> {
        let body = outcome.encode();
        let done = self.send(of_attempt(job, Method::POST, ":finish").json(&body)).await?;
        parse::<serde_json::Value>(&read(done).await?).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_protocol::http::{FinishBody, LeaseBody};

    #[test]
    fn the_server_reads_what_a_worker_asks_for_and_how_an_attempt_ends() {
        let lease = Lease {
            max: 3,
            wait_ms: 20_000,
            worker: "w \"1\"".into(),
            actions: Some(vec!["a.b".into()]),
        };
        let read = LeaseBody::parse(&serde_json::to_string(&lease).unwrap()).unwrap();
        assert_eq!((read.max, read.wait_ms, read.worker), (3, 20_000, lease.worker));
        let failed = |retryable, retry_after_ms| Outcome::Failed {
            code: Some("UPSTREAM_ERROR".into()),
            message: "m".into(),
            retryable,
            retry_after_ms,
        };
        for outcome in [
            Outcome::Succeeded(JsonText::parse("{\"a\": [1]}").unwrap()),
            failed(None, None),
            failed(Some(false), None),
            failed(None, Some(5)),
            Outcome::Snoozed { ms: 7 },
        ] {
            match (FinishBody::parse(&outcome.encode()).unwrap(), &outcome) {
                (FinishBody::Succeeded { result }, Outcome::Succeeded(sent)) => assert_eq!(result, *sent),
                (
                    FinishBody::Failed { error },
                    Outcome::Failed {
                        retryable,
                        retry_after_ms,
                        ..
                    },
                ) => {
                    assert_eq!((error.code.as_str(), &*error.message), ("UPSTREAM_ERROR", "m"));
                    assert_eq!(
                        (error.retryable, error.retry_after_ms),
                        (retryable.unwrap_or(true), *retry_after_ms)
                    );
                }
                (FinishBody::Snoozed { ms }, Outcome::Snoozed { ms: sent }) => assert_eq!(ms, *sent),
                other => panic!("{other:?}"),
            }
        }
    }
}
