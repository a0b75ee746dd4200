//! Taking a tenant back to a time, for the operators of the deployment.

use std::collections::BTreeMap;

use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_protocol::ids::TenantId;

use super::{Ask, Http};
use crate::error::Error;
use crate::random;

/// A tenant that is back at a time. What is not named here, of this or a later version, is in `more`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Recovery {
    /// The tenant.
    pub tenant: String,
    /// The time, as RFC 3339 text.
    pub at: String,
    /// Its objects.
    pub objects: Vec<RecoveredObject>,
    /// Everything else.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// An object that is back at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RecoveredObject {
    /// Its name.
    pub object: String,
    /// The platform's bookmark of the time.
    pub bookmark: String,
    /// The platform's bookmark of what it was before: what undoes it.
    pub undo: String,
}

impl Http {
    /// `POST /v1/admin/tenants/{tenant}/recovery`: takes a suspended tenant back to `at`, RFC 3339 text, by the platform's
    /// point-in-time recovery. It stays suspended.
    ///
    /// Errors: [`Error::Invalid`] for what is no id; [`Error::Api`] (`CONFLICT` where it is not suspended or an object cannot go back,
    /// `NOT_IMPLEMENTED` where the platform cannot), [`Error::Unreachable`].
    pub async fn recover_tenant(&self, tenant: &str, at: &str) -> Result<Recovery, Error> {
        let id = TenantId::parse(tenant).ok_or_else(|| Error::Invalid(format!("`{tenant}` is no tenant's id.")))?;
        let body = json!({ "at": at }).to_string();
        let ask = Ask::new(Method::POST, format!("/v1/admin/tenants/{id}/recovery"))
            .header("idempotency-key", random::name("rec_")?);
        self.fetch(ask.json(&body)).await
    }
}
