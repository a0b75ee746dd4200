//! Limits on requests: how often they have refused, and what is left of them.

use std::collections::BTreeMap;

use hyper::Method;
use serde::{Deserialize, Serialize};

use super::types::{escape, query};
use super::{Ask, Http};
use crate::error::Error;
use crate::random;

/// How often a limit has said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LimitCounts {
    /// Requests that it refused.
    #[serde(default)]
    pub refused: u64,
    /// Requests that it would have refused, if it were not in shadow.
    #[serde(default)]
    pub would_have_refused: u64,
}

/// What is left of a limit for one of its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Bucket {
    /// The key; empty for a limit without keys.
    pub key: String,
    /// The limit allows so many units …
    pub units: u64,
    /// … in this time. Milliseconds.
    pub per_ms: u64,
    /// Units that can be taken now.
    pub remaining: u64,
    /// When all of them can be taken again, if none are taken. Milliseconds from now.
    pub reset_ms: u64,
}

/// The limits on a tenant's requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Limits {
    /// What the deployment's operator allows the tenant, as it was set; absent where nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<serde_json::Value>,
    /// How often each limit has refused, by name; one that never has is not here.
    pub counts: BTreeMap<String, LimitCounts>,
    /// What is left of the limit that was asked for, by key.
    pub buckets: Vec<Bucket>,
    /// Where the next page begins; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl Http {
    /// `GET /v1/admin/limits`: how often limits have refused, and the keys of `limit`, from `cursor` on.
    ///
    /// Errors: [`Error::Api`] (`FORBIDDEN` without the scope `admin`), [`Error::Unreachable`].
    pub async fn limits(&self, limit: Option<&str>, cursor: Option<&str>) -> Result<Limits, Error> {
        let query = query([("limit", limit), ("cursor", cursor)]);
        self.fetch(Ask::new(Method::GET, format!("/v1/admin/limits{query}")))
            .await
    }

    /// `GET /v1/admin/tenants/{tenant}/limits`: the same of a tenant that an operator names.
    ///
    /// Errors: [`Error::Api`] (`FORBIDDEN` without the scope `operator`, `NOT_FOUND`), [`Error::Unreachable`].
    pub async fn limits_of(&self, tenant: &str, limit: Option<&str>, cursor: Option<&str>) -> Result<Limits, Error> {
        let query = query([("limit", limit), ("cursor", cursor)]);
        let path = format!("/v1/admin/tenants/{}/limits{query}", escape(tenant, b""));
        self.fetch(Ask::new(Method::GET, path)).await
    }

    /// `PUT /v1/admin/tenants/{tenant}/limits`: what the deployment allows a tenant, instead of what was set before. `limits` is the
    /// JSON object; `{}` limits nothing.
    ///
    /// Errors: [`Error::Api`] with every fault, [`Error::Unreachable`].
    pub async fn set_limits(&self, tenant: &str, limits: &str) -> Result<Limits, Error> {
        let path = format!("/v1/admin/tenants/{}/limits", escape(tenant, b""));
        let ask = Ask::new(Method::PUT, path).json(limits);
        self.fetch(ask.header("idempotency-key", random::name("key_")?)).await
    }
}
