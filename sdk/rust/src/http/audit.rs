//! The audit trail: who changed what by hand.

use std::collections::BTreeMap;

use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_protocol::time::UnixMs;

use super::types::query;
use super::{Ask, Http};
use crate::error::Error;

/// Which entries are meant. What is `None` does not narrow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFilter {
    /// Only of this kind, such as `queue.paused`.
    pub what: Option<String>,
    /// Only by this user.
    pub user: Option<String>,
    /// Only done at this moment or later: RFC 3339 text.
    pub from: Option<String>,
    /// Only done before this moment: RFC 3339 text.
    pub to: Option<String>,
    /// So many at most, 200 at most.
    pub limit: Option<u32>,
    /// Where an earlier page ended.
    pub cursor: Option<String>,
}

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditWho {
    /// The subject of the token.
    pub user: String,
    /// How they were authenticated: `token` or `socket`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
}

/// Of how many jobs a call was that was about several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditCounts {
    /// So many were changed, or made.
    pub done: u64,
    /// So many were refused.
    #[serde(default)]
    pub refused: u64,
}

/// One act. What is not named here, of this or a later version, is in `more`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its name in the tenant.
    #[serde(default)]
    pub id: String,
    /// When it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<UnixMs>,
    /// Who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<AuditWho>,
    /// What was done.
    pub what: String,
    /// What it was done to: only what there is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub target: BTreeMap<String, Value>,
    /// `done`, or `partly` where some jobs were refused.
    #[serde(default)]
    pub outcome: String,
    /// Of how many jobs, where the call was about several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<AuditCounts>,
    /// What else there is.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// A page of the audit trail, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// Where the next page begins; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl Http {
    /// `GET /v1/admin/audit`: who changed what by hand, newest first.
    ///
    /// Errors: [`Error::Api`] (`FORBIDDEN` without the scope `admin`), [`Error::Unreachable`].
    pub async fn audit(&self, filter: &AuditFilter) -> Result<AuditPage, Error> {
        let limit = filter.limit.map(|limit| limit.to_string());
        let query = query([
            ("what", filter.what.as_deref()),
            ("user", filter.user.as_deref()),
            ("from", filter.from.as_deref()),
            ("to", filter.to.as_deref()),
            ("limit", limit.as_deref()),
            ("cursor", filter.cursor.as_deref()),
        ]);
        self.fetch(Ask::new(Method::GET, format!("/v1/admin/audit{query}")))
            .await
    }
}
