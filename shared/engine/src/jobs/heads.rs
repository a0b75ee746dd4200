//! The heads of lanes, read ahead within one turn.

use alloc::collections::{BTreeMap, VecDeque};

use tidegate_protocol::event::Payload;
use tidegate_protocol::time::UnixMs;

use super::lanes::LaneName;
use super::row::{Job, columns};
use crate::database::{Database, DatabaseError, Value, from_blob};

/// Jobs that wait at the heads of lanes and whose time has come, as this turn found them.
pub(super) struct Heads(BTreeMap<LaneName, VecDeque<(Job, Payload)>>);

impl Heads {
    pub fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// The first job of a lane. Reads up to `ahead` rows where none is left of those read before.
    pub fn take(
        &mut self,
        db: &impl Database,
        lane: &LaneName,
        now: UnixMs,
        ahead: u64,
    ) -> Result<Option<(Job, Payload)>, DatabaseError> {
        let heads = self.0.entry(lane.clone()).or_default();
        if heads.is_empty() {
            let rows = db.run(
                columns!(
                    "payload, ",
                    "WHERE lane = ? AND due_at <= CAST(? AS INTEGER) AND state < 3
                    ORDER BY due_at, number LIMIT CAST(? AS INTEGER)"
                ),
                &[Value::Text(lane), Value::Number(now.0), Value::Number(ahead)],
            )?;
            for mut row in rows {
                let payload = from_blob(&row.blob()?)?;
                heads.push_back((Job::read(row)?, payload));
            }
        }
        Ok(heads.pop_front())
    }

    /// The time of the job that is first after those taken, where it was read.
    pub fn next_due(&self, lane: &LaneName) -> Option<UnixMs> {
        self.0.get(lane)?.front()?.0.due_at
    }
}
