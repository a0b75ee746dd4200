//! The heads of lanes, read ahead within one turn.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use tidegate_protocol::event::Payload;
use tidegate_protocol::ids::JobNumber;
use tidegate_protocol::time::UnixMs;

use super::lanes::LaneName;
use super::packs::Packs;
use super::row::{Job, columns};
use super::state::State;
use crate::database::{Database, DatabaseError, Value, from_blob};
use tidegate_protocol::SortedMap;

/// Jobs that wait at the heads of lanes and whose time has come, as this turn found them.
pub(super) struct Heads(SortedMap<LaneName, VecDeque<(Job, Payload)>>);

impl Heads {
    pub fn new() -> Self {
        Self(SortedMap::new())
    }

    /// The first job of a lane. Reads up to `ahead` jobs where none is left of those read before.
    pub fn take(
        &mut self,
        (db, state): (&impl Database, &State),
        lane: &LaneName,
        now: UnixMs,
        ahead: u64,
    ) -> Result<Option<(Job, Payload)>, DatabaseError> {
        let heads = self.0.entry(lane.clone()).or_default();
        if heads.is_empty() {
            if state.wait_in_rows(lane, 0) {
                add_rows(heads, db, lane, now, ahead)?;
            }
            add_packed(heads, (db, &state.packs), lane, now, ahead)?;
        }
        Ok(heads.pop_front())
    }

    /// The time of the job that is first after those taken, where it was read.
    pub fn next_due(&self, lane: &LaneName) -> Option<UnixMs> {
        self.0.get(lane)?.front()?.0.due_at
    }
}

/// Adds the jobs with rows of their own that are first in a lane, `ahead` at most.
fn add_rows(
    heads: &mut VecDeque<(Job, Payload)>,
    db: &impl Database,
    lane: &LaneName,
    now: UnixMs,
    ahead: u64,
) -> Result<(), DatabaseError> {
    let rows = db.run(
        columns!(
            "payload, ",
            "WHERE lane = CAST(? AS TEXT) AND due_at <= CAST(? AS INTEGER) AND state < 3
            ORDER BY due_at, number LIMIT CAST(? AS INTEGER)"
        ),
        &[Value::Text(lane), Value::Number(now.0), Value::Number(ahead)],
    )?;
    for mut row in rows {
        let payload = from_blob(&row.blob()?)?;
        heads.push_back((Job::read(row)?, payload));
    }
    Ok(())
}

/// Adds the packed jobs that are among the first `ahead` of a lane. `heads` holds those that have rows.
fn add_packed(
    heads: &mut VecDeque<(Job, Payload)>,
    (db, packs): (&impl Database, &Packs),
    lane: &LaneName,
    now: UnixMs,
    ahead: u64,
) -> Result<(), DatabaseError> {
    let packed = packs.first_of(lane, now, ahead);
    if packed.is_empty() {
        return Ok(());
    }
    let ahead = usize::try_from(ahead).unwrap_or(usize::MAX);
    let place = |(job, _): &(Job, Payload)| (job.due_at, job.id.number());
    let mut order: Vec<_> = heads.iter().map(place).collect();
    order.extend(packed.iter().map(|(due, number)| (Some(*due), *number)));
    order.sort_unstable();
    order.truncate(ahead);
    let chosen = |place: &(Option<UnixMs>, JobNumber)| order.binary_search(place).is_ok();
    let packed = packed
        .into_iter()
        .filter(|(due, number)| chosen(&(Some(*due), *number)));
    let numbers: Vec<JobNumber> = packed.map(|(_, number)| number).collect();
    heads.extend(packs.load_all(db, &numbers)?);
    heads.make_contiguous().sort_by_key(place);
    heads.truncate(ahead);
    Ok(())
}
