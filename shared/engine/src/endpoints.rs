//! The endpoints of a tenant's customers: which there are, what each is told of, and whether it is told at all. And how
//! often what messages are signed with was changed.
//!
//! The gate owns the list. Objects of the job queue have all of it, because they decide in the turn in which a job ends
//! who is told; they are told of each change until they have confirmed it. What they see of an endpoint that no longer
//! hears comes to the gate with the audit trail, in order and once.
//!
//! All of it is one row, written at changes alone: a list of [`ENDPOINTS_MAX`] is small, and is told as a whole.

mod event;
mod settings;
#[cfg(test)]
#[cfg(feature = "native")]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;

use serde_json::Value as Json;
use tidegate_protocol::calls::Caller;
use tidegate_protocol::calls::tenant::{EndpointChange, Recorded};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::{AuditTarget, AuditWhat, Endpoint, EndpointList, WebhookSecretRotated};
use tidegate_protocol::ids::EndpointId;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

pub use event::{Told, VARIABLES};

use crate::audit;
use crate::database::{Database, DatabaseError, Value};

/// Endpoints of one tenant at most. Each end of a job looks at all of them, with a filter each, and may make as many jobs
/// in its turn.
pub const ENDPOINTS_MAX: usize = 50;
/// How long nothing may reach an endpoint before it is disabled. Milliseconds: 5 days, longer than one message is tried, so
/// that a message that an endpoint cannot take does not disable it where others come in between.
pub const FAILING_MS_MAX: u64 = 5 * 86_400_000;
const _: () = assert!(FAILING_MS_MAX > crate::composition::defaults::ON_END_TRIED_MS);

/// The table of the gate.
pub const ENDPOINTS: &[&str] = &["-- endpoints::schema
    CREATE TABLE webhook (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        generation INTEGER NOT NULL,
        old_until INTEGER,
        version INTEGER NOT NULL,
        told INTEGER NOT NULL,
        endpoints TEXT NOT NULL
    ) STRICT"];

/// What the gate keeps.
#[derive(Debug, Clone, Default)]
struct Kept {
    generation: u64,
    old_until: Option<UnixMs>,
    version: u64,
    told: bool,
    endpoints: Vec<Endpoint>,
}

/// What has to follow a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// Objects of the job queue have to hear of it.
    Endpoints(JsonText),
    /// Whoever signs has to hear of it.
    Secret(JsonText),
}

fn read(db: &impl Database) -> Result<Kept, DatabaseError> {
    let rows = db.run(
        "-- endpoints::read
        SELECT generation, old_until, version, told, endpoints FROM webhook WHERE id = 1",
        &[],
    )?;
    let Some(mut row) = rows.into_iter().next() else {
        return Ok(Kept {
            told: true,
            ..Kept::default()
        });
    };
    Ok(Kept {
        generation: row.number()?,
        old_until: row.optional_number()?.map(UnixMs),
        version: row.number()?,
        told: row.number()? != 0,
        endpoints: listed(&row.text()?)?,
    })
}

/// The endpoints of a list as it is kept and told.
///
/// Errors: where it is none.
pub fn listed(text: &str) -> Result<Vec<Endpoint>, DatabaseError> {
    serde_json::from_str(text).map_err(|error| DatabaseError::new(alloc::format!("endpoints cannot be read: {error}")))
}

fn write(db: &impl Database, kept: &Kept) -> Result<(), DatabaseError> {
    let endpoints = JsonText::of(&kept.endpoints).ok_or_else(|| DatabaseError::new("endpoints cannot be written"))?;
    db.run(
        "-- endpoints::write
        INSERT INTO webhook (id, generation, old_until, version, told, endpoints) VALUES (1, ?, ?, ?, ?, ?)
        ON CONFLICT (id) DO UPDATE SET generation = excluded.generation, old_until = excluded.old_until,
            version = excluded.version, told = excluded.told, endpoints = excluded.endpoints",
        &[
            Value::Number(kept.generation),
            Value::optional(kept.old_until.map(|until| until.0)),
            Value::Number(kept.version),
            Value::Number(kept.told.into()),
            Value::Text(endpoints.as_str()),
        ],
    )?;
    Ok(())
}

/// How often what messages are signed with was changed, and until when the one before signs as well.
///
/// Errors: the database's.
pub fn generation(db: &impl Database) -> Result<(u64, Option<UnixMs>), DatabaseError> {
    let rows = db.run(
        "-- endpoints::generation
        SELECT generation, old_until FROM webhook WHERE id = 1",
        &[],
    )?;
    match rows.into_iter().next() {
        Some(mut row) => Ok((row.number()?, row.optional_number()?.map(UnixMs))),
        None => Ok((0, None)),
    }
}

/// All endpoints, as the API shows them.
///
/// Errors: the database's.
pub fn list(db: &impl Database) -> Result<EndpointList, DatabaseError> {
    let endpoints = read(db)?.endpoints;
    Ok(EndpointList { endpoints })
}

/// Carries out `change` by `caller`.
///
/// Errors: the database's; within, `NOT_FOUND`, `CONFLICT` where there are too many, `VALIDATION_ERROR` with every fault.
pub fn change(
    db: &impl Database,
    now: UnixMs,
    change: EndpointChange,
    caller: &Caller,
) -> Result<Result<Changed, Error>, DatabaseError> {
    let mut kept = read(db)?;
    let (what, id, shown) = match change {
        EndpointChange::Rotate { overlap_ms } => {
            kept.generation += 1;
            kept.old_until = (overlap_ms > 0).then(|| now.plus(overlap_ms));
            write(db, &kept)?;
            audit::note(db, now, caller, AuditWhat::WebhookSecretRotated, AuditTarget::default())?;
            let rotated = JsonText::of(&WebhookSecretRotated {
                generation: kept.generation,
                old_until: kept.old_until,
            });
            return Ok(rotated.map(Changed::Secret).ok_or_else(unwritable));
        }
        EndpointChange::Create { id, body } => {
            if kept.endpoints.len() >= ENDPOINTS_MAX {
                let message = "A tenant has at most 50 endpoints: delete one first.";
                return Ok(Err(Error::new(ErrorCode::Conflict, message)));
            }
            let endpoint = match settings::create(id.clone(), &body, now) {
                Ok(endpoint) => endpoint,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let shown = JsonText::of(&endpoint);
            kept.endpoints.push(endpoint);
            (AuditWhat::EndpointCreated, id, shown)
        }
        EndpointChange::Change { id, body } => {
            let Some(endpoint) = kept.endpoints.iter_mut().find(|known| known.endpoint_id == id) else {
                return Ok(Err(Error::not_found()));
            };
            match settings::change(endpoint, &body, now) {
                Ok(changed) => *endpoint = changed,
                Err(refusal) => return Ok(Err(refusal)),
            }
            let shown = JsonText::of(endpoint);
            (AuditWhat::EndpointChanged, id, shown)
        }
        EndpointChange::Delete { id } => {
            let before = kept.endpoints.len();
            kept.endpoints.retain(|known| known.endpoint_id != id);
            if kept.endpoints.len() == before {
                return Ok(Err(Error::not_found()));
            }
            (AuditWhat::EndpointDeleted, id, Some(JsonText::null()))
        }
    };
    kept.version += 1;
    kept.told = false;
    write(db, &kept)?;
    let target = AuditTarget {
        endpoint_id: Some(id),
        ..AuditTarget::default()
    };
    audit::note(db, now, caller, what, target)?;
    Ok(shown.map(Changed::Endpoints).ok_or_else(unwritable))
}

fn unwritable() -> Error {
    Error::new(ErrorCode::InternalError, "What was changed could not be written.")
}

/// Disables what entries of the audit trail say, and tells whether there was anything. An entry that was heard before, or
/// is of an endpoint that was changed since, changes nothing.
///
/// Errors: the database's.
pub fn hear(db: &impl Database, entries: &[Recorded]) -> Result<bool, DatabaseError> {
    let (mut kept, mut changed) = (None, false);
    for told in entries {
        // Most entries are of other kinds, and need not be read for that.
        if !told.entry.as_str().contains(AuditWhat::EndpointDisabled.as_str()) {
            continue;
        }
        // By its members, as the trail reads entries: all that an entry may be would take more of the bundle.
        let Ok(entry) = serde_json::from_str::<Json>(told.entry.as_str()) else {
            continue;
        };
        let text = |pointer: &str| entry.pointer(pointer).and_then(Json::as_str);
        let Some(at) = text("/at").and_then(UnixMs::parse) else {
            continue;
        };
        let kept: &mut Kept = match &mut kept {
            Some(kept) => kept,
            slot => slot.insert(read(db)?),
        };
        let is_meant = |known: &&mut Endpoint| text("/target/endpoint_id") == Some(known.endpoint_id.as_str());
        let Some(endpoint) = kept.endpoints.iter_mut().find(is_meant) else {
            continue;
        };
        let says_so = text("/what") == Some(AuditWhat::EndpointDisabled.as_str());
        if says_so && endpoint.enabled && endpoint.updated_at <= at {
            endpoint.enabled = false;
            endpoint.disabled_at = Some(at);
            endpoint.disabled_reason = text("/target/reason").map(String::from);
            kept.told = false;
            kept.version += 1;
            changed = true;
        }
    }
    if let Some(kept) = kept.filter(|_| changed) {
        write(db, &kept)?;
    }
    Ok(changed)
}

/// What is still to be told, and of which version.
///
/// Errors: the database's.
pub fn untold(db: &impl Database) -> Result<Option<(u64, JsonText)>, DatabaseError> {
    let rows = db.run(
        "-- endpoints::untold
        SELECT version, endpoints FROM webhook WHERE id = 1 AND told = 0",
        &[],
    )?;
    let Some(mut row) = rows.into_iter().next() else {
        return Ok(None);
    };
    let (version, text): (u64, String) = (row.number()?, row.text()?);
    Ok(JsonText::parse(&text).map(|endpoints| (version, endpoints)))
}

/// Every object has the endpoints of `version`.
///
/// Errors: the database's.
pub fn told(db: &impl Database, version: u64) -> Result<(), DatabaseError> {
    db.run(
        "-- endpoints::told
        UPDATE webhook SET told = 1 WHERE id = 1 AND version = CAST(? AS INTEGER)",
        &[Value::Number(version)],
    )?;
    Ok(())
}

/// There come to be objects that have heard of no endpoint: all are told again.
///
/// Errors: the database's.
pub fn tell_all(db: &impl Database) -> Result<(), DatabaseError> {
    db.run(
        "-- endpoints::tell_all
        UPDATE webhook SET told = 0 WHERE id = 1 AND version > 0",
        &[],
    )?;
    Ok(())
}

/// The endpoint `id` among `endpoints`.
pub fn find<'e>(endpoints: &'e [Endpoint], id: &EndpointId) -> Option<&'e Endpoint> {
    endpoints.iter().find(|known| known.endpoint_id == *id)
}
