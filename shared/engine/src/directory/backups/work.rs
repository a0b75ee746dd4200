//! How far a backup has got: its row.

use alloc::string::String;
use alloc::vec::Vec;

use tidegate_cbor::{Decode, Encode};
use tidegate_protocol::calls::Caller;
use tidegate_protocol::http::{BackupState, BackupView};
use tidegate_protocol::ids::{BackupId, HubIndex, ObjectName, ShardIndex, TenantId};
use tidegate_protocol::time::UnixMs;

use super::super::erasure::BACKED_UP_KINDS;
use crate::database::{Database, DatabaseError, Row, Value, from_blob, to_blob};

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(super) enum Phase {
    Spread,
    Cut,
    Parts,
    Release,
    /// Nothing: it is whole.
    Kept,
    Read,
    Check,
    Write,
    Finish,
    /// Nothing: the tenant is back, and suspended.
    Waits,
    Open,
    /// Nothing: it came to nothing.
    Failed,
    /// Nothing: parts come from elsewhere.
    Uploading,
    Delete,
}

/// A backup, and how far it has got.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Work {
    /// The tenant.
    pub tenant: TenantId,
    /// The backup.
    pub id: BackupId,
    pub(super) by: Caller,
    pub(super) created_at: UnixMs,
    pub(super) not_before: Option<UnixMs>,
    pub(super) phase: Phase,
    /// Whether it was taken here.
    pub(super) is_own: bool,
    pub(super) was_erased: bool,
    pub(super) hubs: u16,
    pub(super) shards: u16,
    /// The place in the phase.
    pub(super) next: u64,
    /// The place in that: an object's last part, or a byte of what lies under `key`.
    pub(super) after: u64,
    pub(super) key: String,
    pub(super) moments: u64,
    pub(super) taken_at: Option<UnixMs>,
    pub(super) held_ms: u64,
    pub(super) finished_at: Option<UnixMs>,
    pub(super) restored_at: Option<UnixMs>,
    pub(super) parts: u64,
    pub(super) rows: u64,
    pub(super) stored_objects: u64,
    pub(super) bytes: u64,
    pub(super) manifest: Option<String>,
    pub(super) reason: Option<String>,
}

/// A place that parts come from.
pub(super) enum Progress {
    Object(ObjectName),
    Stored(u16),
}

impl Work {
    pub(super) fn new(tenant: &TenantId, id: &BackupId, now: UnixMs, by: &Caller, phase: Phase) -> Self {
        let mut work = Self {
            tenant: tenant.clone(),
            id: id.clone(),
            by: by.clone(),
            created_at: now,
            not_before: None,
            phase,
            is_own: true,
            was_erased: false,
            hubs: 0,
            shards: 0,
            next: 0,
            after: 0,
            key: String::new(),
            moments: 0,
            taken_at: None,
            held_ms: 0,
            finished_at: None,
            restored_at: None,
            parts: 0,
            rows: 0,
            stored_objects: 0,
            bytes: 0,
            manifest: None,
            reason: None,
        };
        work.go_to(phase, now);
        work
    }

    /// Begins with a phase. Those in which nothing is to be done wait for somebody.
    pub(super) fn go_to(&mut self, phase: Phase, now: UnixMs) {
        self.phase = phase;
        self.next = 0;
        self.after = 0;
        self.key.clear();
        let waits = matches!(phase, Phase::Kept | Phase::Waits | Phase::Failed | Phase::Uploading);
        self.not_before = (!waits).then_some(now);
    }

    pub(super) fn fail(&mut self, now: UnixMs, reason: String) {
        self.go_to(Phase::Failed, now);
        self.finished_at.get_or_insert(now);
        self.reason = Some(reason);
    }

    /// Whether the next step is to be taken now.
    pub fn is_due(&self, now: UnixMs) -> bool {
        self.not_before.is_some_and(|at| at <= now)
    }

    pub(super) fn is_under_way(&self) -> bool {
        matches!(self.state(), BackupState::Running | BackupState::Restoring)
    }

    pub(super) fn state(&self) -> BackupState {
        match self.phase {
            Phase::Spread | Phase::Cut | Phase::Parts | Phase::Release => BackupState::Running,
            Phase::Kept | Phase::Waits | Phase::Open => BackupState::Kept,
            Phase::Read | Phase::Check | Phase::Write | Phase::Finish => BackupState::Restoring,
            Phase::Failed => BackupState::Failed,
            Phase::Uploading => BackupState::Uploading,
            Phase::Delete => BackupState::Deleting,
        }
    }

    /// The object at a place, the gate last: whoever restores the others first restores no tenant that anybody could come to.
    fn object_at(&self, place: u64) -> Option<ObjectName> {
        let tenant = self.tenant.clone();
        let place = u16::try_from(place).ok()?;
        let Some(hub) = place.checked_sub(self.shards) else {
            return Some(ObjectName::Jobs(tenant, ShardIndex(place)));
        };
        match hub.checked_sub(self.hubs) {
            None => Some(ObjectName::Hub(tenant, HubIndex(hub))),
            Some(0) => Some(ObjectName::Tenant(tenant)),
            Some(_) => None,
        }
    }

    /// The object that is next. The shards alone, where they are to go on with their work.
    pub(super) fn object(&self) -> Option<ObjectName> {
        let object = self.object_at(self.next);
        object.filter(|object| self.phase != Phase::Open || matches!(object, ObjectName::Jobs(..)))
    }

    /// All objects.
    pub(super) fn objects(&self) -> Vec<ObjectName> {
        (0..).map_while(|place| self.object_at(place)).collect()
    }

    /// Where the next parts come from: shards and hubs, object storage, and at last the gate.
    pub(super) fn place(&self) -> Option<Progress> {
        let others = u64::from(self.shards) + u64::from(self.hubs);
        let Some(behind) = self.next.checked_sub(others) else {
            return self.object_at(self.next).map(Progress::Object);
        };
        match u16::try_from(behind).ok()? {
            kind if kind < BACKED_UP_KINDS => Some(Progress::Stored(kind)),
            BACKED_UP_KINDS => self.object_at(others).map(Progress::Object),
            _ => None,
        }
    }

    pub(super) fn next_place(&mut self) {
        self.next += 1;
        self.after = 0;
        self.key.clear();
    }

    pub(super) fn into_view(self) -> BackupView {
        let restored_parts = match self.phase {
            Phase::Check => Some(self.next),
            Phase::Write => Some(self.parts + self.next),
            Phase::Finish => Some(self.parts * 2),
            _ => None,
        };
        BackupView {
            state: self.state(),
            backup: self.id,
            tenant: self.tenant,
            created_at: self.created_at,
            created_by: self.by.user,
            held_ms: self.taken_at.filter(|_| self.is_own).map(|_| self.held_ms),
            taken_at: self.taken_at,
            finished_at: self.finished_at,
            parts: self.parts,
            bytes: self.bytes,
            rows: self.rows,
            stored_objects: self.stored_objects,
            manifest_sha256: self.manifest,
            restored_parts,
            restored_at: self.restored_at,
            reason: self.reason,
        }
    }

    pub(super) fn write(&self, db: &impl Database) -> Result<(), DatabaseError> {
        db.run(
            "-- backups::write
            INSERT OR REPLACE INTO backup (tenant, id, created_at, not_before, body) VALUES (?, ?, ?, ?, ?)",
            &[
                Value::Text(self.tenant.as_str()),
                Value::Text(self.id.as_str()),
                Value::Number(self.created_at.0),
                Value::optional(self.not_before.map(|at| at.0)),
                Value::Blob(&to_blob(self)?),
            ],
        )?;
        Ok(())
    }

    /// The row goes.
    pub(super) fn forget(&self, db: &impl Database) -> Result<(), DatabaseError> {
        db.run(
            "-- backups::forget\nDELETE FROM backup WHERE tenant = ? AND id = ?",
            &[Value::Text(self.tenant.as_str()), Value::Text(self.id.as_str())],
        )?;
        Ok(())
    }
}

fn works(rows: Vec<Row>) -> Result<Vec<Work>, DatabaseError> {
    rows.into_iter().map(|mut row| from_blob(&row.blob()?)).collect()
}

pub(super) fn find(db: &impl Database, tenant: &TenantId, id: &BackupId) -> Result<Option<Work>, DatabaseError> {
    let rows = db.run(
        "-- backups::find\nSELECT body FROM backup WHERE tenant = ? AND id = ?",
        &[Value::Text(tenant.as_str()), Value::Text(id.as_str())],
    )?;
    Ok(works(rows)?.into_iter().next())
}

/// The backups of a tenant, the newest first.
pub(super) fn all(db: &impl Database, tenant: &TenantId) -> Result<Vec<Work>, DatabaseError> {
    works(db.run(
        "-- backups::all\nSELECT body FROM backup WHERE tenant = ? ORDER BY created_at DESC, id DESC",
        &[Value::Text(tenant.as_str())],
    )?)
}

pub(super) fn due(db: &impl Database, now: UnixMs) -> Result<Option<Work>, DatabaseError> {
    let rows = db.run(
        "-- backups::due
        SELECT body FROM backup WHERE not_before <= CAST(? AS INTEGER) ORDER BY not_before LIMIT 1",
        &[Value::Number(now.0)],
    )?;
    Ok(works(rows)?.into_iter().next())
}
