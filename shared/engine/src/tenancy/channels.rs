//! Which channels of the tenant hold anything: without that, nobody could erase them.

use alloc::vec::Vec;

use tidegate_protocol::calls::tenant::{CHANNELS_LISTED_MAX, Channels, Reply};
use tidegate_protocol::ids::ChannelName;
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use crate::database::{Database, DatabaseError, Value};

/// The table of the gate: one row for each channel, written once.
pub const CHANNELS: &[&str] = &["-- tenancy::schema
    CREATE TABLE channels (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID"];

/// Answers what is asked. While the tenant is suspended no channel is noted, so that an erasure knows all of them.
///
/// Errors: within, `TENANT_SUSPENDED`; else the database's.
pub(super) fn handle(
    db: &impl Database,
    suspended_at: Option<UnixMs>,
    asked: Channels,
) -> Result<Result<Reply, Error>, DatabaseError> {
    match asked {
        Channels::Note(_) if suspended_at.is_some() => {
            let message = "The tenant is suspended. Its operator can say why.";
            Ok(Err(Error::new(ErrorCode::TenantSuspended, message)))
        }
        Channels::Note(name) => {
            db.run(
                "-- tenancy::channels
                INSERT INTO channels (name) VALUES (?) ON CONFLICT (name) DO NOTHING",
                &[Value::Text(name.as_str())],
            )?;
            Ok(Ok(Reply::Recorded))
        }
        Channels::List(after) => {
            let most = u64::try_from(CHANNELS_LISTED_MAX).unwrap_or(u64::MAX);
            let rows = db.run(
                "-- tenancy::channels
                SELECT name FROM channels WHERE name > ? ORDER BY name LIMIT CAST(? AS INTEGER)",
                &[
                    Value::Text(after.as_ref().map_or("", ChannelName::as_str)),
                    Value::Number(most),
                ],
            )?;
            let names = rows.into_iter().map(|mut row| row.text());
            let names = names.collect::<Result<Vec<_>, _>>()?;
            let names = names.iter().filter_map(|name| ChannelName::parse(name));
            Ok(Ok(Reply::Channels(names.collect())))
        }
        Channels::Forget(names) => {
            for name in names {
                db.run(
                    "-- tenancy::channels\nDELETE FROM channels WHERE name = ?",
                    &[Value::Text(name.as_str())],
                )?;
            }
            Ok(Ok(Reply::Recorded))
        }
    }
}

#[cfg(test)]
#[cfg(feature = "native")]
mod tests {
    use super::*;
    use crate::database::migrate;
    use crate::database::native::Native;

    fn name(n: usize) -> ChannelName {
        ChannelName::parse(&alloc::format!("c:{n:04}")).unwrap()
    }

    #[test]
    fn channels_are_noted_once_listed_by_pages_and_forgotten() {
        let db = Native::in_memory().unwrap();
        migrate(&db, &[CHANNELS]).unwrap();
        for n in (0..250).chain(0..10) {
            assert_eq!(handle(&db, None, Channels::Note(name(n))), Ok(Ok(Reply::Recorded)));
        }
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let Ok(Ok(Reply::Channels(page))) = handle(&db, None, Channels::List(after)) else {
                panic!("no page");
            };
            all.extend(page.clone());
            if page.len() < CHANNELS_LISTED_MAX {
                break;
            }
            after = page.last().cloned();
        }
        assert_eq!(all, (0..250).map(name).collect::<Vec<_>>());
        handle(&db, None, Channels::Forget(all.split_off(1))).unwrap().unwrap();
        assert_eq!(handle(&db, None, Channels::List(None)), Ok(Ok(Reply::Channels(all))));
        let late = handle(&db, Some(UnixMs(1)), Channels::Note(name(7))).unwrap();
        assert_eq!(late.unwrap_err().code, ErrorCode::TenantSuspended);
    }
}
