//! How an object forgets everything: its rows and its alarm.

use tidegate_protocol::calls::directory::Erased;
use tidegate_protocol::{Error, ErrorCode};
use worker::State;

use crate::platform::{log_error, unavailable};
use crate::sql::ObjectDatabase;

/// Deletes all that is stored in an object, and gives what that was. Whoever calls it forgets what is in memory first, so
/// that nothing is written from there.
///
/// Errors: `UNAVAILABLE`.
pub async fn everything(state: &State, db: &ObjectDatabase, busy: bool) -> Result<Erased, Error> {
    let held = db
        .is_blank()
        .and_then(|blank| if blank { Ok(None) } else { db.rows_held().map(Some) });
    let rows = held.map_err(|error| {
        log_error("rows were not counted", error);
        Error::new(ErrorCode::Unavailable, "The object is restarting.").retry_after(1000)
    })?;
    let storage = state.storage();
    storage.delete_alarm().await.map_err(unavailable("an object's alarm"))?;
    if rows.is_some() {
        storage.delete_all().await.map_err(unavailable("an object's storage"))?;
    }
    Ok(Erased {
        rows: rows.unwrap_or(0),
        busy,
    })
}
