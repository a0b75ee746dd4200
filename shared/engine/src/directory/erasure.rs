//! The erasure of a tenant, one step after the other, over all that can hold anything of it.
//!
//! First its gate lets nobody in any more, and says how the tenant is spread. Then everything is gone through in passes:
//! the gate, the hubs, the shards of the job queue, object storage, the key-value store. Whatever is found is removed, and a
//! pass that found something is followed by another one; the pass that finds nothing is the proof. Every step can be taken
//! twice, so that a crash between a step and its row costs no more than taking it again. What a crash takes with it is the
//! count of that one step.

use tidegate_protocol::calls::directory::Erased;
use tidegate_protocol::http::{ErasureView, TenantState};
use tidegate_protocol::ids::{HubIndex, ObjectName, ShardIndex, TenantId};
use tidegate_protocol::time::UnixMs;

use crate::database::{Database, DatabaseError, Row, Value};

/// Kinds of things that a tenant has in object storage, each with a prefix of its own.
pub const STORED_KINDS: u16 = 6;
/// Those of them that a backup has copies of. The last kind are the backups.
pub const BACKED_UP_KINDS: u16 = STORED_KINDS - 1;
/// How long after the gate lets nobody in any more the first pass begins. Until then an isolate may go by what it heard
/// before, which is a second old at most. Milliseconds.
pub const SETTLE_MS: u64 = 2_000;
/// How long after the first pass that found something the next one begins; each one after that waits twice as long, up to
/// [`BUSY_PAUSE_MS`], because the key-value store may list for a minute what was deleted from it. Milliseconds.
pub const PAUSE_MS: u64 = 1_000;
/// The same where work was under way, which may store something until it hears that its job is gone: longer than a hub
/// stores a payload, and than an attempt goes without a sign of life. Milliseconds.
pub const BUSY_PAUSE_MS: u64 = 60_000;
/// How long after a step that failed it is taken again. Milliseconds.
pub const RETRY_MS: u64 = 5_000;

/// The table. One row for each tenant that was ever erased.
pub(super) const TABLE: &str = "-- erasure::schema
    CREATE TABLE erasure (
        tenant TEXT PRIMARY KEY,
        asked_at INTEGER NOT NULL,
        verified_at INTEGER,
        not_before INTEGER NOT NULL,
        pass INTEGER NOT NULL,
        next INTEGER NOT NULL,
        found INTEGER NOT NULL,
        hubs INTEGER NOT NULL,
        shards INTEGER NOT NULL,
        objects INTEGER NOT NULL,
        rows INTEGER NOT NULL,
        keys INTEGER NOT NULL,
        stored_objects INTEGER NOT NULL,
        stored_bytes INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID";

/// How far an erasure has got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// The tenant.
    pub tenant: TenantId,
    asked_at: UnixMs,
    verified_at: Option<UnixMs>,
    not_before: UnixMs,
    /// 0: the gate still lets people in.
    pass: u64,
    /// The place in the pass.
    next: u16,
    found: Found,
    hubs: u16,
    shards: u16,
    removed: Removed,
    keeps_backups: bool,
}

/// What the pass that is under way has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Nothing,
    Something,
    /// Something, and work that may store more.
    Work,
}

/// What a step removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Objects of the platform that held anything.
    pub objects: u64,
    /// Their rows.
    pub rows: u64,
    /// Entries of the key-value store.
    pub keys: u64,
    /// Things in object storage.
    pub stored_objects: u64,
    /// Their bytes.
    pub stored_bytes: u64,
    /// Whether there may be more in the same place.
    pub more: bool,
    /// Whether work was under way that may store something.
    pub busy: bool,
}

impl From<Erased> for Removed {
    fn from(erased: Erased) -> Self {
        Self {
            objects: u64::from(erased.rows > 0),
            rows: erased.rows,
            busy: erased.busy,
            ..Self::default()
        }
    }
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The gate lets nobody in any more, and says how the tenant is spread.
    Suspend,
    /// The channels that the gate knows of forget everything, some of them at a time.
    Channels,
    /// An object forgets everything.
    Object(ObjectName),
    /// What lies in object storage under a kind of prefix, below [`STORED_KINDS`], is deleted.
    Stored(u16),
    /// Entries of the key-value store are deleted.
    Keys,
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The gate lets nobody in any more.
    Suspended {
        /// Over so many hubs is the tenant spread …
        hubs: u16,
        /// … and over so many shards.
        shards: u16,
        /// The version of what the gate says.
        version: u64,
    },
    /// It removed this, or found nothing.
    Removed(Removed),
    /// It is to be taken again after a while.
    Failed,
}

impl Erasure {
    /// What is to be done next.
    pub fn step(&self) -> Step {
        if self.pass == 0 {
            return Step::Suspend;
        }
        let tenant = || self.tenant.clone();
        let hub = match self.next.checked_sub(2) {
            Some(hub) => hub,
            // The gate alone knows of the channels.
            None if self.next == 0 => return Step::Channels,
            None => return Step::Object(ObjectName::Tenant(tenant())),
        };
        if hub < self.hubs {
            return Step::Object(ObjectName::Hub(tenant(), HubIndex(hub)));
        }
        let shard = hub - self.hubs;
        if shard < self.shards {
            return Step::Object(ObjectName::Jobs(tenant(), ShardIndex(shard)));
        }
        let kind = shard - self.shards;
        let kinds = if self.keeps_backups {
            BACKED_UP_KINDS
        } else {
            STORED_KINDS
        };
        if kind < kinds { Step::Stored(kind) } else { Step::Keys }
    }

    /// Whether the next step is to be taken now.
    pub fn is_due(&self, now: UnixMs) -> bool {
        self.verified_at.is_none() && self.not_before <= now
    }
}

/// Begins the erasure of a tenant.
pub(super) fn begin(
    db: &impl Database,
    now: UnixMs,
    tenant: &TenantId,
    keeps_backups: bool,
) -> Result<(), DatabaseError> {
    let erasure = Erasure {
        tenant: tenant.clone(),
        asked_at: now,
        verified_at: None,
        not_before: now,
        pass: 0,
        next: 0,
        found: Found::Nothing,
        hubs: 0,
        shards: 0,
        removed: Removed::default(),
        keeps_backups,
    };
    write(db, &erasure)
}

/// The erasure whose next step has waited longest; `None` where none is due.
///
/// Errors: the database's.
pub fn due(db: &impl Database, now: UnixMs) -> Result<Option<Erasure>, DatabaseError> {
    let rows = db.run(
        "-- erasure::due
        SELECT tenant, asked_at, verified_at, not_before, pass, next, found, hubs, shards,
            objects, rows, keys, stored_objects, stored_bytes, keeps_backups
        FROM erasure WHERE verified_at IS NULL AND not_before <= CAST(? AS INTEGER) ORDER BY not_before LIMIT 1",
        &[Value::Number(now.0)],
    )?;
    rows.into_iter().next().map(erasure).transpose()
}

/// When the next step of any erasure is due; `None` where there is none.
///
/// Errors: the database's.
pub fn next_wake(db: &impl Database) -> Result<Option<UnixMs>, DatabaseError> {
    let rows = db.run(
        "-- erasure::next_wake\nSELECT min(not_before) FROM erasure WHERE verified_at IS NULL",
        &[],
    )?;
    let at = rows.into_iter().next().map(|mut row| row.optional_number());
    Ok(at.transpose()?.flatten().map(UnixMs))
}

/// A step was taken: how far the erasure has got then.
///
/// Errors: the database's.
pub fn took(db: &impl Database, now: UnixMs, mut erasure: Erasure, outcome: Outcome) -> Result<Erasure, DatabaseError> {
    match outcome {
        Outcome::Suspended { hubs, shards, version } => suspended(db, now, erasure, (hubs, shards), version),
        Outcome::Removed(found) => removed(db, now, erasure, found),
        Outcome::Failed => {
            erasure.not_before = now.plus(RETRY_MS);
            write(db, &erasure)?;
            Ok(erasure)
        }
    }
}

/// The gate lets nobody in any more. The tenant is spread over so many hubs and shards, and `version` is the gate's latest.
fn suspended(
    db: &impl Database,
    now: UnixMs,
    mut erasure: Erasure,
    (hubs, shards): (u16, u16),
    version: u64,
) -> Result<Erasure, DatabaseError> {
    erasure.hubs = hubs;
    erasure.shards = shards;
    erasure.pass = 1;
    erasure.not_before = now.plus(SETTLE_MS);
    write(db, &erasure)?;
    db.run(
        "-- erasure::suspended
        UPDATE tenants SET version = max(version, CAST(? AS INTEGER)) WHERE id = ?",
        &[Value::Number(version), Value::Text(erasure.tenant.as_str())],
    )?;
    Ok(erasure)
}

/// A step has removed something, or found nothing. What found nothing writes no row, except for the last of a pass.
fn removed(db: &impl Database, now: UnixMs, mut erasure: Erasure, removed: Removed) -> Result<Erasure, DatabaseError> {
    let is_last = erasure.step() == Step::Keys && !removed.more;
    let sum = &mut erasure.removed;
    for (sum, more) in [
        (&mut sum.objects, removed.objects),
        (&mut sum.rows, removed.rows),
        (&mut sum.stored_objects, removed.stored_objects),
        (&mut sum.stored_bytes, removed.stored_bytes),
    ] {
        *sum = sum.saturating_add(more);
    }
    // All of them are gone through in one step of each pass, and may be listed once more by the next.
    erasure.removed.keys = erasure.removed.keys.max(removed.keys);
    let found = if removed.busy {
        Found::Work
    } else if removed == Removed::default() {
        Found::Nothing
    } else {
        Found::Something
    };
    erasure.found = erasure.found.max(found);
    if !removed.more {
        erasure.next = erasure.next.saturating_add(1);
    }
    if is_last {
        match erasure.found {
            Found::Nothing => {
                erasure.verified_at = Some(now);
                db.run(
                    "-- erasure::verified
                    UPDATE tenants SET state = ?, changed_at = ?, suspended_at = NULL WHERE id = ?",
                    &[
                        Value::Text(TenantState::Erased.as_str()),
                        Value::Number(now.0),
                        Value::Text(erasure.tenant.as_str()),
                    ],
                )?;
            }
            found => {
                let longer = PAUSE_MS << erasure.pass.saturating_sub(1).min(6);
                let pause = if found == Found::Work {
                    BUSY_PAUSE_MS
                } else {
                    longer.min(BUSY_PAUSE_MS)
                };
                erasure.not_before = now.plus(pause);
                erasure.pass = erasure.pass.saturating_add(1);
                erasure.next = 0;
                erasure.found = Found::Nothing;
            }
        }
    }
    if is_last || found > Found::Nothing {
        write(db, &erasure)?;
    }
    Ok(erasure)
}

fn write(db: &impl Database, erasure: &Erasure) -> Result<(), DatabaseError> {
    let number = |number: u16| Value::Number(number.into());
    let found = match erasure.found {
        Found::Nothing => 0,
        Found::Something => 1,
        Found::Work => 2,
    };
    db.run(
        "-- erasure::write
        INSERT OR REPLACE INTO erasure (tenant, asked_at, verified_at, not_before, pass, next, found, hubs, shards,
            objects, rows, keys, stored_objects, stored_bytes, keeps_backups)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        &[
            Value::Text(erasure.tenant.as_str()),
            Value::Number(erasure.asked_at.0),
            Value::optional(erasure.verified_at.map(|at| at.0)),
            Value::Number(erasure.not_before.0),
            Value::Number(erasure.pass),
            number(erasure.next),
            Value::Number(found),
            number(erasure.hubs),
            number(erasure.shards),
            Value::Number(erasure.removed.objects),
            Value::Number(erasure.removed.rows),
            Value::Number(erasure.removed.keys),
            Value::Number(erasure.removed.stored_objects),
            Value::Number(erasure.removed.stored_bytes),
            Value::Number(erasure.keeps_backups.into()),
        ],
    )?;
    Ok(())
}

fn erasure(mut row: Row) -> Result<Erasure, DatabaseError> {
    let tenant = row.text()?;
    let tenant = TenantId::parse(&tenant).ok_or_else(|| DatabaseError::new("an erasure of no tenant"))?;
    let (asked_at, verified_at, not_before) = (row.number()?, row.optional_number()?, row.number()?);
    let pass = row.number()?;
    let mut small =
        || u16::try_from(row.number()?).map_err(|_| DatabaseError::new("a place in an erasure out of range"));
    let (next, found, hubs, shards) = (small()?, small()?, small()?, small()?);
    Ok(Erasure {
        tenant,
        asked_at: UnixMs(asked_at),
        verified_at: verified_at.map(UnixMs),
        not_before: UnixMs(not_before),
        pass,
        next,
        found: match found {
            0 => Found::Nothing,
            1 => Found::Something,
            _ => Found::Work,
        },
        hubs,
        shards,
        removed: Removed {
            objects: row.number()?,
            rows: row.number()?,
            keys: row.number()?,
            stored_objects: row.number()?,
            stored_bytes: row.number()?,
            ..Removed::default()
        },
        keeps_backups: row.number()? != 0,
    })
}

/// The latest erasure of a tenant, as the API shows it.
pub(super) fn view(db: &impl Database, tenant: &TenantId) -> Result<Option<ErasureView>, DatabaseError> {
    let rows = db.run(
        "-- erasure::view
        SELECT tenant, asked_at, verified_at, not_before, pass, next, found, hubs, shards,
            objects, rows, keys, stored_objects, stored_bytes, keeps_backups
        FROM erasure WHERE tenant = ?",
        &[Value::Text(tenant.as_str())],
    )?;
    let Some(erasure) = rows.into_iter().next().map(erasure).transpose()? else {
        return Ok(None);
    };
    Ok(Some(ErasureView {
        asked_at: erasure.asked_at,
        objects: erasure.removed.objects,
        rows: erasure.removed.rows,
        keys: erasure.removed.keys,
        stored_objects: erasure.removed.stored_objects,
        stored_bytes: erasure.removed.stored_bytes,
        passes: erasure.pass,
        verified_at: erasure.verified_at,
        backups_kept: erasure.keeps_backups,
    }))
}
