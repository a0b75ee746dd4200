//! What the tenant's policies make of a request, and why.

use hyper::Method;
use serde_json::Value;

use super::{Ask, Http};
use crate::error::Error;

pub use tidegate_protocol::http::{PolicyDecision, PolicyExplanation, PolicyResult, PolicyTold};

impl Http {
    /// `POST /v1/admin/policies/explain`: what would become of a request that is not made. `asked` has at least `action`;
    /// beside it `claims`, `user`, `scopes`, `payload_bytes`, `now` and `transport`.
    ///
    /// Errors: [`Error::Api`] (`FORBIDDEN` without the scope `admin`, `INVALID_ACTION`, `VALIDATION_ERROR`),
    /// [`Error::Unreachable`].
    pub async fn explain_policies(&self, asked: &Value) -> Result<PolicyExplanation, Error> {
        let body = asked.to_string();
        self.fetch(Ask::new(Method::POST, "/v1/admin/policies/explain").json(&body))
            .await
    }
}
