//! Bodies about backups of a tenant.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::{BackupId, TenantId, UserId};
use crate::time::UnixMs;

/// How a backup stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BackupState {
    /// It is being taken.
    Running,
    /// Parts of it come from elsewhere.
    Uploading,
    /// It is whole, and can be downloaded and restored.
    Kept,
    /// The tenant is being restored from it.
    Restoring,
    /// Taking it came to nothing, or it could not be restored. `reason` says why.
    Failed,
    /// It is being deleted.
    Deleting,
}

impl BackupState {
    const ALL: [Self; 6] = [
        Self::Running,
        Self::Uploading,
        Self::Kept,
        Self::Restoring,
        Self::Failed,
        Self::Deleting,
    ];

    /// As the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Uploading => "uploading",
            Self::Kept => "kept",
            Self::Restoring => "restoring",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
        }
    }

    /// Reads what the API writes.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// A backup of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BackupView {
    /// The backup.
    pub backup: BackupId,
    /// Of this tenant.
    pub tenant: TenantId,
    /// How it stands.
    pub state: BackupState,
    /// When it was asked for, or the first part of it came.
    pub created_at: UnixMs,
    /// By whom.
    pub created_by: UserId,
    /// The moment that it shows; absent: not yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<UnixMs>,
    /// How long the tenant's objects answered nothing around that moment. Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_ms: Option<u64>,
    /// When it was whole, or came to nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<UnixMs>,
    /// Its parts, beside part 0, which is the manifest.
    pub parts: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows in them.
    pub rows: u64,
    /// Things of object storage in them: the tenant's own, payloads, results, checkpoints, the archived audit trail.
    pub stored_objects: u64,
    /// The SHA-256 of the manifest, in hex; the manifest has those of all parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest_sha256: Option<String>,
    /// Parts that the restoration has checked and written, each of which counts twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored_parts: Option<u64>,
    /// When all of the tenant was back from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored_at: Option<UnixMs>,
    /// Why it came to nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The backups of a tenant, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BackupList {
    /// All of them.
    pub backups: Vec<BackupView>,
}
