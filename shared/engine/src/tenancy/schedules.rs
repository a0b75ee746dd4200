//! That the schedules of the active composition reach the object that keeps them, whatever dies in between.
//!
//! An activation and what is still to be told of it are one commit. What has no confirmation is told again, by an alarm,
//! until it has one; the version makes that harmless.

use alloc::vec::Vec;

use tidegate_protocol::calls::schedules::Schedule;
use tidegate_protocol::calls::tenant::Scale;

use super::{Effect, set_limits};
use crate::composition::DeploymentLimits;
use crate::database::{Database, DatabaseError, Value, from_blob, to_blob};

/// How long to wait for a confirmation before the schedules are told again. Milliseconds.
pub const RETELL_MS: u64 = 5_000;

/// The schedules of a new version. Where there never were any, there is nothing to tell.
///
/// Their jobs say how the tenant is spread now, not how the composition wants it to be: an object that hears it too early
/// would look for the homes of limits where they are not.
pub(super) fn replace(
    db: &impl Database,
    version: u64,
    mut schedules: Vec<Schedule>,
    scale: Scale,
) -> Result<(), DatabaseError> {
    for schedule in &mut schedules {
        schedule.job.queueing.place.shards = scale.shards;
    }
    let known = db.run(
        "-- tenancy::schedules::replace\nSELECT 1 FROM schedules WHERE id = 1",
        &[],
    )?;
    if schedules.is_empty() && known.is_empty() {
        return Ok(());
    }
    db.run(
        "-- tenancy::schedules::replace
        INSERT INTO schedules (id, version, told, schedules) VALUES (1, ?, 0, ?)
        ON CONFLICT (id) DO UPDATE SET version = excluded.version, told = 0, schedules = excluded.schedules",
        &[Value::Number(version), Value::Blob(&to_blob(&schedules)?)],
    )?;
    Ok(())
}

/// The deployment's limits are others: schedules are told anew, as those of this version.
pub(super) fn tell_again(db: &impl Database, version: u64) -> Result<(), DatabaseError> {
    db.run(
        "-- tenancy::schedules::tell_again
        UPDATE schedules SET version = ?, told = 0 WHERE id = 1",
        &[Value::Number(version)],
    )?;
    Ok(())
}

/// What is still to be told: jobs that wait under the deployment's limits as those of requests do.
///
/// Errors: the database's.
pub fn untold(db: &impl Database) -> Result<Option<Effect>, DatabaseError> {
    let rows = db.run(
        "-- tenancy::schedules::untold
        SELECT version, schedules FROM schedules WHERE id = 1 AND told = 0",
        &[],
    )?;
    let Some(mut row) = rows.into_iter().next() else {
        return Ok(None);
    };
    let version = row.number()?;
    let mut schedules: Vec<Schedule> = from_blob(&row.blob()?)?;
    let limits = DeploymentLimits::kept(set_limits(db)?.as_ref());
    for schedule in &mut schedules {
        limits.bound(&mut schedule.job.queueing);
    }
    Ok(Some(Effect::TellSchedules { version, schedules }))
}

/// The schedules of `version` have arrived. Those of a later one may still be on their way.
///
/// Errors: the database's.
pub fn told(db: &impl Database, version: u64) -> Result<(), DatabaseError> {
    db.run(
        "-- tenancy::schedules::told
        UPDATE schedules SET told = 1 WHERE id = 1 AND version = CAST(? AS INTEGER)",
        &[Value::Number(version)],
    )?;
    Ok(())
}
