//! Where things lie in object storage: a kind, then the verified tenant. Nothing else may make a key. And how they are read
//! and written.

use futures_util::future::LocalBoxFuture;
use tidegate_engine::directory::backups::folder;
use tidegate_engine::directory::erasure::STORED_KINDS;
use tidegate_protocol::ids::{BackupId, JobId, TenantId};
use worker::{GetOptionsBuilder, Object, PutOptionsBuilder};

/// What reading or writing an object comes to. Boxed as what it gives, as a call of another part is
/// ([`Asked`](crate::remote::Asked)).
pub type Stored<'a> = LocalBoxFuture<'a, worker::Result<Option<Object>>>;

/// Reads an object.
pub fn read(get: GetOptionsBuilder<'_>) -> Stored<'_> {
    Box::pin(get.execute())
}

/// Writes an object.
pub fn write(put: PutOptionsBuilder<'_>) -> Stored<'_> {
    Box::pin(put.execute())
}

/// The kinds of things that a tenant has in object storage.
const KINDS: [&str; 6] = ["objects/", "payloads/", "results/", "audit/", CHECKPOINTS, BACKUPS];
const _: () = assert!(KINDS.len() == STORED_KINDS as usize);

/// What the keys of all of a tenant's things of one kind, below [`STORED_KINDS`], begin with.
pub fn prefix(tenant: &TenantId, kind: u16) -> String {
    format!("{}{tenant}/", kind_name(kind))
}

/// What a kind of things is called: what all keys of it begin with, whoever's they are.
pub fn kind_name(kind: u16) -> &'static str {
    KINDS.get(usize::from(kind)).unwrap_or(&CHECKPOINTS)
}

/// What the keys of all parts of backups begin with.
const BACKUPS: &str = "backups/";

/// What the keys of all parts of a backup begin with.
pub fn backup(tenant: &TenantId, id: &BackupId) -> String {
    format!("{BACKUPS}{tenant}/{}", folder(id))
}

/// What the keys of all checkpoints begin with.
pub const CHECKPOINTS: &str = "checkpoints/";

/// The key of an object of the tenant's own.
pub fn object(tenant: &TenantId, key: &str) -> String {
    format!("objects/{tenant}/{key}")
}

/// The key of a request's payload that is too large for a row.
pub fn payload(tenant: &TenantId, random: u128) -> String {
    format!("payloads/{tenant}/{random:032x}")
}

/// The key of a result that is too large for a row. The token keeps a late attempt from another's result, the name of
/// its content an attempt that ends twice from its own.
pub fn result(tenant: &TenantId, job: JobId, token: u64, name: u128) -> String {
    format!("results/{tenant}/{job}/{token}-{name:032x}")
}

/// The key of a checkpoint. No two checkpoints share one, so that a late attempt cannot overwrite a newer one. `work` is
/// the name of what wrote it, where another composition may say what goes on with it.
pub fn checkpoint(tenant: &TenantId, job: JobId, token: u64, number: u64, work: Option<&str>) -> String {
    let key = format!("{CHECKPOINTS}{tenant}/{job}/{token}-{number}");
    match work {
        Some(work) => format!("{key}-{work}"),
        None => key,
    }
}

/// What the keys of a tenant's archived audit trail begin with.
pub fn audit(tenant: &TenantId) -> String {
    format!("audit/{tenant}/")
}

/// The name of a segment of the audit trail, by the numbers of its first and last entry: names sort as their entries do.
pub fn segment(first: u64, last: u64) -> String {
    format!("{first:016}-{last:016}.ndjson")
}
