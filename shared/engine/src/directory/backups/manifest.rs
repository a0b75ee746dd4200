//! What a backup says of itself: a line of JSON about all of it, and one for each of its parts.

use alloc::format;
use alloc::string::String;

use serde::{Deserialize, Serialize};
use tidegate_protocol::ids::{ObjectName, TenantId};
use tidegate_protocol::time::UnixMs;

use super::work::Work;
use crate::database::{Database, DatabaseError, Value};
use crate::{channels, hub, jobs, tenancy};

/// What the first line calls itself.
const FORMAT: &str = "tidegate-backup";
/// The version of parts and manifest.
const VERSION: u32 = 1;

/// The first line.
#[derive(Serialize, Deserialize)]
struct Head {
    format: String,
    version: u32,
    tenant: TenantId,
    taken_at: UnixMs,
    hubs: u16,
    shards: u16,
    parts: u64,
}

/// A part of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its number, from 1.
    pub part: u64,
    /// What it holds: rows of the object of this name, or what lies in object storage under this kind of prefix.
    pub of: String,
    /// The steps of the object's schema; 0 for object storage.
    pub schema: u64,
    /// How many rows, or things that begin in it.
    pub holds: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Their SHA-256, in hex.
    pub sha256: String,
}

impl Part {
    /// The line of the manifest.
    ///
    /// Errors: where it cannot be written, which memory excludes.
    pub fn line(&self) -> Result<String, DatabaseError> {
        serde_json::to_string(self).map_err(|_| DatabaseError::new("a part could not be described"))
    }
}

fn read_line(line: &str) -> Result<Part, DatabaseError> {
    serde_json::from_str(line).map_err(|_| DatabaseError::new("a part was not described"))
}

/// A part of the backup was stored.
pub(super) fn add(db: &impl Database, work: &mut Work, line: &str) -> Result<(), DatabaseError> {
    count(work, &read_line(line)?);
    keep(db, work, line)
}

fn count(work: &mut Work, part: &Part) {
    work.parts += 1;
    work.bytes = work.bytes.saturating_add(part.bytes);
    let holds = match ObjectName::parse(&part.of) {
        Some(_) => &mut work.rows,
        None => &mut work.stored_objects,
    };
    *holds = holds.saturating_add(part.holds);
}

fn keep(db: &impl Database, work: &Work, line: &str) -> Result<(), DatabaseError> {
    db.run(
        "-- manifest::keep
        INSERT OR REPLACE INTO backup_part (tenant, id, number, line) VALUES (?, ?, ?, ?)",
        &[
            Value::Text(work.tenant.as_str()),
            Value::Text(work.id.as_str()),
            Value::Number(work.parts),
            Value::Text(line),
        ],
    )?;
    Ok(())
}

/// A part, where there is one of this number.
pub(super) fn part(db: &impl Database, work: &Work, number: u64) -> Result<Option<Part>, DatabaseError> {
    let rows = db.run(
        "-- manifest::part
        SELECT line FROM backup_part WHERE tenant = ? AND id = ? AND number = CAST(? AS INTEGER)",
        &[
            Value::Text(work.tenant.as_str()),
            Value::Text(work.id.as_str()),
            Value::Number(number),
        ],
    )?;
    rows.into_iter()
        .next()
        .map(|mut row| read_line(&row.text()?))
        .transpose()
}

/// The lines are in object storage, or nothing comes of them.
pub(super) fn forget(db: &impl Database, work: &Work) -> Result<(), DatabaseError> {
    db.run(
        "-- manifest::forget\nDELETE FROM backup_part WHERE tenant = ? AND id = ?",
        &[Value::Text(work.tenant.as_str()), Value::Text(work.id.as_str())],
    )?;
    Ok(())
}

/// The manifest.
///
/// Errors: the database's.
pub fn text(db: &impl Database, work: &Work) -> Result<String, DatabaseError> {
    let head = Head {
        format: FORMAT.into(),
        version: VERSION,
        tenant: work.tenant.clone(),
        taken_at: work.taken_at.unwrap_or(work.created_at),
        hubs: work.hubs,
        shards: work.shards,
        parts: work.parts,
    };
    let mut text = serde_json::to_string(&head).map_err(|_| DatabaseError::new("a backup could not be described"))?;
    let rows = db.run(
        "-- manifest::text\nSELECT line FROM backup_part WHERE tenant = ? AND id = ? ORDER BY number",
        &[Value::Text(work.tenant.as_str()), Value::Text(work.id.as_str())],
    )?;
    for mut row in rows {
        text.push('\n');
        text.push_str(&row.text()?);
    }
    text.push('\n');
    Ok(text)
}

/// Takes in a manifest. Within: why it cannot be used.
pub(super) fn read(
    db: &impl Database,
    work: &mut Work,
    text: &str,
    sha256: &str,
) -> Result<Result<(), String>, DatabaseError> {
    if work.manifest.as_deref().is_some_and(|known| known != sha256) && work.is_own {
        return Ok(Err("Part 0, the manifest, is not the one that was written.".into()));
    }
    let mut lines = text.lines();
    let head = lines.next().and_then(|line| serde_json::from_str::<Head>(line).ok());
    let Some(head) = head.filter(|head| head.format == FORMAT) else {
        return Ok(Err("Part 0 is no manifest of a backup.".into()));
    };
    if head.version != VERSION {
        return Ok(Err(format!(
            "The backup is of version {}; this deployment reads version {VERSION}.",
            head.version
        )));
    }
    if head.tenant != work.tenant {
        return Ok(Err(format!(
            "The backup is of tenant {}: the ids in it carry that name.",
            head.tenant
        )));
    }
    forget(db, work)?;
    (work.hubs, work.shards) = (head.hubs, head.shards);
    work.taken_at = Some(head.taken_at);
    work.manifest = Some(sha256.into());
    (work.parts, work.rows, work.bytes, work.stored_objects) = (0, 0, 0, 0);
    let objects = work.objects();
    let mut has_gate = false;
    for line in lines {
        let Ok(part) = read_line(line) else {
            return Ok(Err(format!("Line {} of the manifest is no part.", work.parts + 2)));
        };
        if let Err(reason) = check(&part, &objects, work.parts + 1) {
            return Ok(Err(reason));
        }
        // It is written last, so that nobody comes to a tenant of which something is missing.
        if has_gate && !is_gate(&part) {
            return Ok(Err(format!("Part {} stands behind the gate's.", part.part)));
        }
        has_gate |= is_gate(&part);
        count(work, &part);
        keep(db, work, line)?;
    }
    if work.parts != head.parts || !has_gate {
        return Ok(Err(format!(
            "The manifest names {} of {} parts.",
            work.parts, head.parts
        )));
    }
    Ok(Ok(()))
}

fn is_gate(part: &Part) -> bool {
    matches!(ObjectName::parse(&part.of), Some(ObjectName::Tenant(_)))
}

fn check(part: &Part, objects: &[ObjectName], number: u64) -> Result<(), String> {
    if part.part != number {
        return Err(format!(
            "The manifest has part {} in place of part {number}.",
            part.part
        ));
    }
    let Some(object) = ObjectName::parse(&part.of) else {
        return Ok(());
    };
    if !objects.contains(&object) {
        return Err(format!(
            "Part {number} is of {object}, which is no object of this tenant."
        ));
    }
    let known = match object {
        ObjectName::Tenant(_) => tenancy::STEPS.len(),
        ObjectName::Jobs(..) => jobs::STEPS.len(),
        ObjectName::Hub(..) => hub::tickets::STEPS.len(),
        ObjectName::Channel(..) => channels::STEPS.len(),
    };
    if part.schema > u64::try_from(known).unwrap_or(u64::MAX) {
        return Err(format!(
            "The backup is of a later version: {object} has schema {}, and this deployment knows {known}.",
            part.schema
        ));
    }
    Ok(())
}
