//! Backups of a tenant, for the operators of the deployment.

use std::collections::BTreeMap;

use hyper::Method;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_protocol::ids::{BackupId, TenantId};
use tokio::io::AsyncRead;

use super::body::{Download, from_reader};
use super::{Ask, Http, parse, read};
use crate::error::Error;
use crate::random;

/// A backup of a tenant. What is not named here, of this or a later version, is in `more`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Backup {
    /// Its id.
    pub backup: String,
    /// The tenant.
    pub tenant: String,
    /// `running`, `uploading`, `kept`, `restoring`, `failed`, `deleting`, or what a later version adds.
    pub state: String,
    /// Its parts, beside part 0, which is the manifest.
    pub parts: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows in them.
    pub rows: u64,
    /// Things of object storage in them.
    pub stored_objects: u64,
    /// The SHA-256 of the manifest, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_sha256: Option<String>,
    /// Why it came to nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What else there is.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Backups {
    backups: Vec<Backup>,
}

fn path(tenant: &str, backup: Option<&str>, below: &str) -> Result<String, Error> {
    let tenant = TenantId::parse(tenant).ok_or_else(|| Error::Invalid(format!("`{tenant}` is no tenant's id.")))?;
    let all = format!("/v1/admin/tenants/{tenant}/backups");
    match backup.map(|text| (text, BackupId::parse(text))) {
        None => Ok(all),
        Some((_, Some(backup))) => Ok(format!("{all}/{backup}{below}")),
        Some((text, None)) => Err(Error::Invalid(format!("`{text}` is no backup's id."))),
    }
}

impl Http {
    /// `POST /v1/admin/tenants/{tenant}/backups`: takes a backup, which goes on by itself.
    ///
    /// Errors: [`Error::Invalid`] for what is no id; [`Error::Api`] (`CONFLICT` where one is under way),
    /// [`Error::Unreachable`].
    pub async fn take_backup(&self, tenant: &str) -> Result<Backup, Error> {
        let ask = Ask::new(Method::POST, path(tenant, None, "")?).header("idempotency-key", random::name("bak_")?);
        self.fetch(ask).await
    }

    /// `GET /v1/admin/tenants/{tenant}/backups`: the backups of a tenant, the newest first.
    ///
    /// Errors: as [`Self::take_backup`].
    pub async fn backups(&self, tenant: &str) -> Result<Vec<Backup>, Error> {
        let backups: Backups = self.fetch(Ask::new(Method::GET, path(tenant, None, "")?)).await?;
        Ok(backups.backups)
    }

    /// `GET /v1/admin/tenants/{tenant}/backups/{backup}`: a backup.
    ///
    /// Errors: as [`Self::take_backup`].
    pub async fn backup(&self, tenant: &str, backup: &str) -> Result<Backup, Error> {
        self.fetch(Ask::new(Method::GET, path(tenant, Some(backup), "")?)).await
    }

    /// `DELETE /v1/admin/tenants/{tenant}/backups/{backup}`: deletes a backup.
    ///
    /// Errors: as [`Self::take_backup`].
    pub async fn delete_backup(&self, tenant: &str, backup: &str) -> Result<Backup, Error> {
        self.fetch(Ask::new(Method::DELETE, path(tenant, Some(backup), "")?))
            .await
    }

    /// `POST /v1/admin/tenants/{tenant}/backups/{backup}:restore`: restores the tenant, which goes on by itself.
    ///
    /// Errors: as [`Self::take_backup`]; `CONFLICT` where there is the tenant.
    pub async fn restore_backup(&self, tenant: &str, backup: &str) -> Result<Backup, Error> {
        self.fetch(Ask::new(Method::POST, path(tenant, Some(backup), ":restore")?))
            .await
    }

    /// `GET /v1/admin/tenants/{tenant}/backups/{backup}/parts/{part}`: a part, to be read as a stream. Part 0 is the manifest.
    ///
    /// Errors: as [`Self::take_backup`].
    pub async fn backup_part(&self, tenant: &str, backup: &str, part: u64) -> Result<Download, Error> {
        let path = path(tenant, Some(backup), &format!("/parts/{part}"))?;
        Ok(Download::new(self.send(Ask::new(Method::GET, path)).await?))
    }

    /// `PUT /v1/admin/tenants/{tenant}/backups/{backup}/parts/{part}`: brings `size` bytes of a part, which are streamed.
    ///
    /// It is sent once: the caller tries again with a new reader. Errors: as [`Self::take_backup`].
    pub async fn put_backup_part(
        &self,
        (tenant, backup, part): (&str, &str, u64),
        reader: impl AsyncRead + Send + Unpin + 'static,
        size: u64,
    ) -> Result<Backup, Error> {
        let path = path(tenant, Some(backup), &format!("/parts/{part}"))?;
        let headers = [
            (CONTENT_LENGTH.as_str(), size.to_string()),
            (CONTENT_TYPE.as_str(), "application/octet-stream".to_owned()),
        ];
        let request = self.build(&Method::PUT, &path, &headers, from_reader(reader, size))?;
        parse(&read(self.send_stream(request).await?).await?)
    }
}
