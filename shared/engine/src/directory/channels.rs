//! Channels that a gate may have forgotten, because it went back to a time before it noted them: the directory, which does not go
//! back, keeps their names for the tenant's erasure.

use alloc::vec::Vec;

use tidegate_protocol::ids::{ChannelName, TenantId};

use crate::database::{Database, DatabaseError, Value};

/// The table.
pub(super) const TABLE: &[&str] = &[
    "-- directory::schema
    CREATE TABLE channels (tenant TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (tenant, name)) STRICT, WITHOUT ROWID",
];

/// Names of one list.
pub const LISTED_MAX: usize = 100;

/// Keeps the names of channels that the gate knows now.
///
/// Errors: the database's.
pub fn keep(db: &impl Database, tenant: &TenantId, names: &[ChannelName]) -> Result<(), DatabaseError> {
    for name in names {
        db.run(
            "-- directory::channels
            INSERT INTO channels (tenant, name) VALUES (?, ?) ON CONFLICT (tenant, name) DO NOTHING",
            &[Value::Text(tenant.as_str()), Value::Text(name.as_str())],
        )?;
    }
    Ok(())
}

/// The first names that are kept, [`LISTED_MAX`] at most.
///
/// Errors: the database's.
pub fn kept(db: &impl Database, tenant: &TenantId) -> Result<Vec<ChannelName>, DatabaseError> {
    let rows = db.run(
        "-- directory::channels
        SELECT name FROM channels WHERE tenant = ? ORDER BY name LIMIT 100",
        &[Value::Text(tenant.as_str())],
    )?;
    let names = rows.into_iter().map(|mut row| row.text());
    let names = names.collect::<Result<Vec<_>, _>>()?;
    Ok(names.iter().filter_map(|name| ChannelName::parse(name)).collect())
}

/// These hold nothing any more.
///
/// Errors: the database's.
pub fn forget(db: &impl Database, tenant: &TenantId, names: &[ChannelName]) -> Result<(), DatabaseError> {
    for name in names {
        db.run(
            "-- directory::channels\nDELETE FROM channels WHERE tenant = ? AND name = ?",
            &[Value::Text(tenant.as_str()), Value::Text(name.as_str())],
        )?;
    }
    Ok(())
}

#[cfg(test)]
#[cfg(feature = "native")]
mod tests {
    use super::*;
    use crate::database::migrate;
    use crate::database::native::Native;

    #[test]
    fn names_are_kept_for_each_tenant_until_they_are_forgotten() {
        let db = Native::in_memory().unwrap();
        migrate(&db, &[TABLE]).unwrap();
        let tenant = |name: &str| TenantId::parse(name).unwrap();
        let names: Vec<ChannelName> = (0..150)
            .map(|n| ChannelName::parse(&alloc::format!("c:{n:03}")).unwrap())
            .collect();
        keep(&db, &tenant("a"), &names).unwrap();
        keep(&db, &tenant("a"), &names).unwrap();
        keep(&db, &tenant("b"), names.get(..1).unwrap()).unwrap();
        assert_eq!(kept(&db, &tenant("a")).unwrap(), names.get(..LISTED_MAX).unwrap());
        forget(&db, &tenant("a"), names.get(..LISTED_MAX).unwrap()).unwrap();
        assert_eq!(kept(&db, &tenant("a")).unwrap(), names.get(LISTED_MAX..).unwrap());
        assert_eq!(kept(&db, &tenant("b")).unwrap().len(), 1);
    }
}
