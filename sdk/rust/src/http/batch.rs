//! Batches of requests.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::Method;
use serde::{Deserialize, Serialize};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::time::UnixMs;

use super::types::{Accepted, Answer};
use super::{Ask, Http};
use crate::error::{ApiError, Error};
use crate::ids::BatchId;
use crate::random;

/// What became of one request of a batch: one of `accepted`, `answer` and `problem`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchItem {
    /// Its place in the batch, from 0.
    pub index: usize,
    /// The HTTP status that it would have had by itself.
    pub status: u16,
    /// It is stored as a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Accepted>,
    /// Its key's job has succeeded already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// It was refused, or its key's job has failed already: a problem document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<JsonText>,
}

impl BatchItem {
    /// Why there is neither a job nor an answer.
    pub fn error(&self) -> Option<ApiError> {
        let problem = self.problem.as_ref()?;
        Some(ApiError::from_http(self.status, problem.as_str().as_bytes()))
    }
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchAnswer {
    /// A result for each request, in their order.
    pub results: Vec<BatchItem>,
    /// Names what became jobs of it; absent from a server of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_id: Option<BatchId>,
}

/// How a batch stands: its jobs, counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchStatus {
    /// The batch.
    pub batch_id: BatchId,
    /// Whose it is.
    #[serde(default)]
    pub user: String,
    /// Jobs in all.
    pub accepted: u64,
    /// Those that wait.
    pub waiting: u64,
    /// Those that run.
    pub running: u64,
    /// Those that succeeded.
    pub succeeded: u64,
    /// Those that failed for good.
    pub failed: u64,
    /// Those that were cancelled.
    pub cancelled: u64,
    /// Those that waited too long.
    pub expired: u64,
    /// How far all of it is, 0 to 100.
    #[serde(default)]
    pub progress: f64,
    /// When its first job was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<UnixMs>,
    /// When its last job ended, once all of them have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<UnixMs>,
    /// When it was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<UnixMs>,
}

impl BatchStatus {
    /// Whether every job of it has ended.
    pub fn is_ended(&self) -> bool {
        self.waiting == 0 && self.running == 0
    }
}

/// The field that makes sending a request again harmless.
const KEY: &str = "idempotency_key";

impl Http {
    /// `POST /v1/requests:batch`: runs requests, each the fields of a `request` frame, at most 1,000 and 4 MiB. A random
    /// key goes with each that has none, so that all of them can be sent again where no answer comes.
    ///
    /// Errors: [`Error::Api`] where the batch is refused as a whole, [`Error::Unreachable`].
    pub async fn batch(&self, requests: Vec<BTreeMap<String, JsonText>>) -> Result<BatchAnswer, Error> {
        let body = encode(requests)?;
        self.fetch(Ask::new(Method::POST, "/v1/requests:batch").json(&body))
            .await
    }

    /// The same under a key that names the batch and every request in it that has none of its own: however often it is
    /// called, by whatever process, there is one batch, and one job for each place in it.
    ///
    /// Errors: as [`Self::batch`].
    pub async fn batch_with_key(
        &self,
        key: &str,
        requests: Vec<BTreeMap<String, JsonText>>,
    ) -> Result<BatchAnswer, Error> {
        let body = serde_json::to_string(&requests).map_err(|error| Error::Invalid(error.to_string()))?;
        let ask = Ask::new(Method::POST, "/v1/requests:batch").header("idempotency-key", key);
        self.fetch(ask.json(&body)).await
    }

    /// `GET /v1/batches/{id}`: how a batch stands; with `wait_s`, as soon as all of it has ended or so many seconds have
    /// passed.
    ///
    /// Errors: [`Error::Api`], [`Error::Unreachable`].
    pub async fn batch_status(&self, batch: &BatchId, wait_s: Option<u64>) -> Result<BatchStatus, Error> {
        let query = wait_s.map(|seconds| format!("?wait={seconds}")).unwrap_or_default();
        let mut ask = Ask::new(Method::GET, format!("/v1/batches/{batch}{query}"));
        ask.wait = Duration::from_secs(wait_s.unwrap_or(0));
        self.fetch(ask).await
    }

    /// `POST /v1/batches/{id}:cancel`: ends what has not ended. A batch that has ended stays as it is.
    ///
    /// Errors: [`Error::Api`], [`Error::Unreachable`].
    pub async fn cancel_batch(&self, batch: &BatchId) -> Result<BatchStatus, Error> {
        self.fetch(Ask::new(Method::POST, format!("/v1/batches/{batch}:cancel")))
            .await
    }
}

fn encode(mut requests: Vec<BTreeMap<String, JsonText>>) -> Result<String, Error> {
    for request in &mut requests {
        if !request.contains_key(KEY) {
            let key = JsonText::of(&random::name("key_")?).unwrap_or_else(JsonText::null);
            request.insert(KEY.to_owned(), key);
        }
    }
    serde_json::to_string(&requests).map_err(|error| Error::Invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_of_a_batch_has_a_key_and_keeps_its_own() {
        let requests: Vec<BTreeMap<String, JsonText>> = serde_json::from_str(
            r#"[{"action":"a","payload":1.10},{"action":"b","idempotency_key":"k"},{"action":"a"}]"#,
        )
        .unwrap();
        let text = encode(requests).unwrap();
        assert!(text.contains("1.10"), "a payload is passed on as it came: {text}");
        let sent: Vec<BTreeMap<String, serde_json::Value>> = serde_json::from_str(&text).unwrap();
        assert_eq!(sent[1][KEY], "k");
        assert!(sent[0][KEY].is_string() && sent[0][KEY] != sent[2][KEY]);
    }
}
