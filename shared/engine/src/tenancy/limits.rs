//! What the deployment's operator allows the tenant: one row, which travels to every hub with the tenant's description.

use tidegate_protocol::Error;
use tidegate_protocol::calls::Caller;
use tidegate_protocol::event::JsonText;
use tidegate_protocol::http::{AuditTarget, AuditWhat};
use tidegate_protocol::time::UnixMs;

use crate::audit;
use crate::composition::DeploymentLimits;
use crate::database::{Database, DatabaseError, Value};

/// The table of the gate. Without a row, the deployment limits nothing.
pub const LIMITS: &[&str] = &["-- tenancy::schema
    CREATE TABLE deployment_limits (id INTEGER PRIMARY KEY CHECK (id = 1), document TEXT NOT NULL) STRICT"];

/// The limits that are set.
///
/// Errors: the database's.
pub fn set_limits(db: &impl Database) -> Result<Option<JsonText>, DatabaseError> {
    let rows = db.run(
        "-- tenancy::set_limits\nSELECT document FROM deployment_limits WHERE id = 1",
        &[],
    )?;
    match rows.into_iter().next() {
        Some(mut row) => Ok(JsonText::parse(&row.text()?)),
        None => Ok(None),
    }
}

/// Has the limits of `text` take the place of those before. Gives whether they are others; the refusal is that of
/// [`DeploymentLimits::parse`].
///
/// Errors: the database's.
pub(super) fn set(
    db: &impl Database,
    now: UnixMs,
    text: &str,
    caller: &Caller,
) -> Result<Result<bool, Error>, DatabaseError> {
    let limits = match DeploymentLimits::parse(text) {
        Ok((_, limits)) => limits,
        Err(refusal) => return Ok(Err(refusal)),
    };
    audit::note(db, now, caller, AuditWhat::LimitsSet, AuditTarget::default())?;
    if set_limits(db)? == limits {
        return Ok(Ok(false));
    }
    match &limits {
        Some(limits) => db.run(
            "-- tenancy::set_limits
            INSERT OR REPLACE INTO deployment_limits (id, document) VALUES (1, ?)",
            &[Value::Text(limits.as_str())],
        )?,
        None => db.run("-- tenancy::set_limits\nDELETE FROM deployment_limits", &[])?,
    };
    Ok(Ok(true))
}
