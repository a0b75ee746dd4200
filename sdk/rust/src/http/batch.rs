//! Batches of requests.

use std::collections::BTreeMap;

use hyper::Method;
use serde::{Deserialize, Serialize};
use tidegate_protocol::event::JsonText;

use super::types::{Accepted, Answer};
use super::{Ask, Http};
use crate::error::{ApiError, Error};
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
