//! What a tenant uses, and its budgets.

use hyper::Method;
use serde::Serialize;
use tidegate_protocol::http::{BudgetsView, UsageExported, UsageView};
use tidegate_protocol::time::UnixMs;

use super::types::{escape, query};
use super::{Ask, Http};
use crate::error::Error;
use crate::random;

/// Which windows are meant. What is `None` is as the server has it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct UsageFilter {
    /// How long they are: `hour`, `day` or `month`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// From when on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<UnixMs>,
    /// Until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<UnixMs>,
}

/// How an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UsageFormat {
    /// CSV (RFC 4180), with a header.
    Csv,
    /// A line of JSON for each window.
    Ndjson,
}

#[derive(Serialize)]
struct Export<'a> {
    format: UsageFormat,
    #[serde(flatten)]
    filter: &'a UsageFilter,
}

impl UsageFilter {
    fn query(&self) -> String {
        let (from, to) = (self.from.map(|at| at.to_string()), self.to.map(|at| at.to_string()));
        query([
            ("window", self.window.as_deref()),
            ("from", from.as_deref()),
            ("to", to.as_deref()),
        ])
    }
}

impl Http {
    /// `GET /v1/admin/usage`: what the tenant used, by the window.
    ///
    /// Errors: [`Error::Api`] (`FORBIDDEN` without the scope `admin`), [`Error::Unreachable`].
    pub async fn usage(&self, filter: &UsageFilter) -> Result<UsageView, Error> {
        let path = format!("/v1/admin/usage{}", filter.query());
        self.fetch(Ask::new(Method::GET, path)).await
    }

    /// `GET /v1/admin/tenants/{tenant}/usage`: what another tenant used.
    ///
    /// Errors: [`Error::Api`] (`FORBIDDEN` without the scope `operator`, `NOT_FOUND`), [`Error::Unreachable`].
    pub async fn usage_of(&self, tenant: &str, filter: &UsageFilter) -> Result<UsageView, Error> {
        let path = format!("/v1/admin/tenants/{}/usage{}", escape(tenant, b""), filter.query());
        self.fetch(Ask::new(Method::GET, path)).await
    }

    /// `POST /v1/admin/usage/export`: stores what the tenant used as one of its objects.
    ///
    /// Errors: [`Error::Api`], [`Error::Unreachable`].
    pub async fn export_usage(&self, filter: &UsageFilter, format: UsageFormat) -> Result<UsageExported, Error> {
        let body = serde_json::to_string(&Export { format, filter });
        let body = body.map_err(|error| Error::Invalid(error.to_string()))?;
        let ask = Ask::new(Method::POST, "/v1/admin/usage/export").json(&body);
        self.fetch(ask.header("idempotency-key", random::name("key_")?)).await
    }

    /// `PUT /v1/admin/tenants/{tenant}/budgets`: an operator's budgets for a tenant, which take the place of those before.
    /// `budgets` is the JSON object of them, by name.
    ///
    /// Errors: [`Error::Api`] with every fault, [`Error::Unreachable`].
    pub async fn set_budgets(&self, tenant: &str, budgets: &str) -> Result<BudgetsView, Error> {
        let path = format!("/v1/admin/tenants/{}/budgets", escape(tenant, b""));
        let body = format!(r#"{{"budgets":{budgets}}}"#);
        let ask = Ask::new(Method::PUT, path).json(&body);
        self.fetch(ask.header("idempotency-key", random::name("key_")?)).await
    }
}
