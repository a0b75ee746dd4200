//! The audit trail: who changed what by hand.

use std::collections::BTreeMap;

use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_protocol::time::UnixMs;

use super::types::{escape, query};
use super::{Ask, Http, read};
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
    /// Only behind the entry with this number; then as they were written, oldest first.
    pub after: Option<u64>,
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
    /// Its number in the trail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
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
    /// The newest entry of the whole trail, as `SEQ:HASH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// The last entry that is only in the archive, as `SEQ:HASH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
}

/// A segment of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditSegment {
    /// Its name.
    pub name: String,
    /// The number of its first entry.
    pub first: u64,
    /// The number of its last entry.
    pub last: u64,
    /// How large it is.
    pub bytes: u64,
}

/// A page of the archive, oldest segment first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditArchive {
    /// The segments.
    pub segments: Vec<AuditSegment>,
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
        let after = filter.after.map(|after| after.to_string());
        let query = query([
            ("what", filter.what.as_deref()),
            ("user", filter.user.as_deref()),
            ("from", filter.from.as_deref()),
            ("to", filter.to.as_deref()),
            ("limit", limit.as_deref()),
            ("cursor", filter.cursor.as_deref()),
            ("after", after.as_deref()),
        ]);
        self.fetch(Ask::new(Method::GET, format!("/v1/admin/audit{query}")))
            .await
    }

    /// `GET /v1/admin/audit?after=…`: entries to the letter, oldest first, so that their chain can be checked.
    ///
    /// Errors: as [`Http::audit`].
    pub async fn audit_trail(&self, after: u64) -> Result<tidegate_protocol::http::AuditPage, Error> {
        let path = format!("/v1/admin/audit?limit=200&after={after}");
        self.fetch(Ask::new(Method::GET, path)).await
    }

    /// `GET /v1/admin/audit/archive`: the segments of the archive, oldest first.
    ///
    /// Errors: as [`Http::audit`].
    pub async fn audit_archive(&self, cursor: Option<&str>) -> Result<AuditArchive, Error> {
        let query = query([("cursor", cursor)]);
        self.fetch(Ask::new(Method::GET, format!("/v1/admin/audit/archive{query}")))
            .await
    }

    /// `GET /v1/admin/audit/archive/{name}`: a segment, an entry a line.
    ///
    /// Errors: [`Error::Api`] (`NOT_FOUND` for a name that is none), and as [`Http::audit`].
    pub async fn audit_segment(&self, name: &str) -> Result<String, Error> {
        let path = format!("/v1/admin/audit/archive/{}", escape(name, b""));
        let bytes = read(self.send(Ask::new(Method::GET, path)).await?).await?;
        String::from_utf8(bytes.to_vec()).map_err(|_| Error::Protocol("a segment that is no text".to_owned()))
    }
}
