//! Messages to one endpoint in the order of their ends, one at a time: one that fails holds back those behind it.
//!
//! Such messages stand in a lane of their own. All but the first are held, by a time that does not come; whatever ends
//! lets the next one go. What is let go is found by the index of the lane, so that a long row costs no more than a
//! short one. It is decided in each object by itself.

use alloc::string::ToString;

use tidegate_protocol::calls::jobs::NewJob;
use tidegate_protocol::calls::queueing::{Counted, Rule, WhenFull};
use tidegate_protocol::event::JobState;
use tidegate_protocol::ids::{EndpointId, JobNumber};
use tidegate_protocol::time::UnixMs;

use super::Turn;
use super::lanes::Shape;
use crate::database::{Database, DatabaseError, Value};

/// The limit that a message in order counts under, by its endpoint: one at a time. No composition can have this name.
const LIMIT: &str = "tidegate.hook.order";
/// When a message starts that is held back: never. The platform's clock counts nanoseconds, and ends in 2262; this is 2200.
pub(super) const HELD: UnixMs = UnixMs(7_258_118_400_000);

/// The limit of a message to `endpoint` that keeps to the order.
pub(super) fn limit(endpoint: &EndpointId) -> Counted {
    Counted {
        limit: LIMIT.into(),
        key: endpoint.to_string(),
        rule: Rule::Concurrency { max: 1 },
        cost: 1,
        when_full: WhenFull::Wait,
    }
}

/// Whether a job is a message that keeps to an order.
pub(super) fn is_ordered(job: &NewJob) -> bool {
    job.queueing.limits.iter().any(|counted| counted.limit == LIMIT)
}

impl<D: Database> Turn<'_, D> {
    /// Lets the oldest message of the row go that `job` stands or stood in, unless one is on its way or waits for another
    /// attempt.
    pub(super) fn advance(&mut self, job: &NewJob) -> Result<(), DatabaseError> {
        let lane = Shape::of(job).name()?;
        for lease in self.state.running.values() {
            if lease.shape.limits().any(|(key, _)| key.limit == LIMIT) && lease.shape.name()? == lane {
                return Ok(());
            }
        }
        let rows = self.db.run(
            "-- jobs::advance
            SELECT number, due_at FROM job WHERE lane = CAST(? AS TEXT) AND due_at IS NOT NULL AND state < 3
            ORDER BY due_at, number LIMIT 1",
            &[Value::Text(&lane)],
        )?;
        let Some(mut row) = rows.into_iter().next() else {
            return Ok(());
        };
        let (number, due_at) = (JobNumber(row.number()?), UnixMs(row.number()?));
        if due_at < HELD {
            return Ok(());
        }
        let Some(mut next) = self.load_number(number)? else {
            return Ok(());
        };
        next.state = JobState::Queued;
        next.changed_at = self.now;
        self.save(&next)?;
        next.set_due(self.db, Some(self.now))?;
        self.wait_otherwise(&next)?;
        self.place_freed = true;
        Ok(())
    }
}
