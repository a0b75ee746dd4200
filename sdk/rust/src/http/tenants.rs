//! The tenants of a deployment, for its operators.

use std::collections::BTreeMap;

use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_protocol::ids::TenantId;
use tidegate_protocol::time::UnixMs;

use super::types::query;
use super::{Ask, Http};
use crate::error::Error;
use crate::random;

/// What was erased of a tenant. What is not named here, of this or a later version, is in `more`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Erasure {
    /// When it was asked for.
    pub asked_at: UnixMs,
    /// When a pass through everything found nothing; `None`: not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<UnixMs>,
    /// What was removed: `objects`, `rows`, `keys`, `stored_objects`, `stored_bytes`; and how many `passes` it took.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// A tenant. What is not named here, of this or a later version, is in `more`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Tenant {
    /// Its id.
    pub tenant: String,
    /// `creating`, `active`, `suspended`, `erasing`, `erased`, or what a later version adds.
    pub state: String,
    /// When it was created, or the directory first heard of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<UnixMs>,
    /// Its latest erasure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erasure: Option<Erasure>,
    /// What else there is.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// A page of the tenants, by id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TenantPage {
    /// The tenants.
    pub tenants: Vec<Tenant>,
    /// Where the next page begins; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Which tenants are listed. What is `None` does not narrow.
#[derive(Debug, Clone, Default)]
pub struct TenantFilter {
    /// Only those in this state.
    pub state: Option<String>,
    /// At most so many.
    pub limit: Option<u32>,
    /// Where an earlier page ended.
    pub cursor: Option<String>,
}

/// What is to be created.
#[derive(Debug, Clone, Default)]
pub struct NewTenant {
    /// The id.
    pub tenant: String,
    /// The jurisdiction that the tenant's objects stay in.
    pub jurisdiction: Option<String>,
    /// The template that the first composition comes from.
    pub template: Option<String>,
}

/// Which backups of a tenant stay where it is erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeptBackups {
    /// None.
    #[default]
    None,
    /// All that are whole.
    All,
}

/// The path of a tenant.
fn path(tenant: &str, verb: &str) -> Result<String, Error> {
    let tenant = TenantId::parse(tenant).ok_or_else(|| Error::Invalid(format!("`{tenant}` is no tenant's id.")))?;
    Ok(format!("/v1/admin/tenants/{tenant}{verb}"))
}

impl Http {
    /// `POST /v1/admin/tenants`: creates a tenant.
    ///
    /// Errors: [`Error::Api`] (`FORBIDDEN` without the scope `operator`, `CONFLICT` where there is one),
    /// [`Error::Unreachable`].
    pub async fn create_tenant(&self, new: &NewTenant) -> Result<Tenant, Error> {
        let fields = [
            ("tenant", Some(&new.tenant)),
            ("jurisdiction", new.jurisdiction.as_ref()),
            ("template", new.template.as_ref()),
        ];
        let body: BTreeMap<&str, &String> = fields
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        let body = json!(body).to_string();
        let ask = Ask::new(Method::POST, "/v1/admin/tenants").header("idempotency-key", random::name("ten_")?);
        self.fetch(ask.json(&body)).await
    }

    /// `GET /v1/admin/tenants`: a page of the tenants.
    ///
    /// Errors: [`Error::Api`], [`Error::Unreachable`].
    pub async fn tenants(&self, filter: &TenantFilter) -> Result<TenantPage, Error> {
        let limit = filter.limit.map(|limit| limit.to_string());
        let query = query([
            ("state", filter.state.as_deref()),
            ("limit", limit.as_deref()),
            ("cursor", filter.cursor.as_deref()),
        ]);
        self.fetch(Ask::new(Method::GET, format!("/v1/admin/tenants{query}")))
            .await
    }

    /// `GET /v1/admin/tenants/{tenant}`: a tenant.
    ///
    /// Errors: [`Error::Invalid`] for what is no id; [`Error::Api`], [`Error::Unreachable`].
    pub async fn tenant(&self, tenant: &str) -> Result<Tenant, Error> {
        self.fetch(Ask::new(Method::GET, path(tenant, "")?)).await
    }

    /// `POST /v1/admin/tenants/{tenant}:suspend`: lets nobody of a tenant in.
    ///
    /// Errors: as [`Self::tenant`].
    pub async fn suspend_tenant(&self, tenant: &str) -> Result<Tenant, Error> {
        self.fetch(Ask::new(Method::POST, path(tenant, ":suspend")?)).await
    }

    /// `POST /v1/admin/tenants/{tenant}:resume`: lets them in again.
    ///
    /// Errors: as [`Self::tenant`].
    pub async fn resume_tenant(&self, tenant: &str) -> Result<Tenant, Error> {
        self.fetch(Ask::new(Method::POST, path(tenant, ":resume")?)).await
    }

    /// `DELETE /v1/admin/tenants/{tenant}`: begins to erase a tenant, with all that is stored of it. That cannot be undone,
    /// but where its backups are kept.
    ///
    /// Errors: as [`Self::tenant`].
    pub async fn erase_tenant(&self, tenant: &str, backups: KeptBackups) -> Result<Tenant, Error> {
        let body = match backups {
            KeptBackups::None => json!({ "confirm": tenant }),
            KeptBackups::All => json!({ "confirm": tenant, "keep_backups": true }),
        };
        let body = body.to_string();
        self.fetch(Ask::new(Method::DELETE, path(tenant, "")?).json(&body))
            .await
    }
}
