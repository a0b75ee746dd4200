//! Workers elsewhere: they ask for jobs, wait, take more than they can, die with what they have, come back under their
//! own name, and finish late. What they run is an [`crate::executor::Attempt`] that outlives the object that leased it.

use tidegate_engine::database::{Database, Value};
use tidegate_engine::jobs::packed;
use tidegate_protocol::calls::jobs::{Call, LeaseJobs, Reply};
use tidegate_protocol::ids::{ActionName, PoolName};
use tidegate_protocol::{Error, ErrorCode};

use crate::setting::{AWAY, POOL};
use crate::world::{Check, From, World};

/// Names of workers are few, so that calls of one name meet.
const WORKERS: u64 = 3;

impl World {
    /// A worker asks one of the objects.
    pub fn worker_asks(&mut self, shard: usize) -> Check {
        let wait_ms = if self.faults && self.random.permille(600) {
            self.random.below(6000)
        } else {
            0
        };
        // Now and then one leaves, and some can do other things only.
        let max = if self.faults { self.random.below(4) as u32 } else { 8 };
        let actions = match self.random.below(10) {
            0 if self.faults => Some(vec!["other"]),
            1 => Some(vec![AWAY, "other"]),
            _ => None,
        };
        let name = |action: &str| ActionName::parse(action).ok_or("an action's name");
        let actions = actions.map(|actions| actions.into_iter().map(name).collect::<Result<_, _>>());
        let asked = LeaseJobs {
            pool: PoolName::parse(POOL).ok_or("a pool's name")?,
            worker: format!("w{}", self.random.below(WORKERS)),
            max,
            actions: actions.transpose()?,
            wait_ms,
        };
        self.counters.workers_asked += 1;
        self.call_jobs(shard, Call::Lease(asked), From::Worker { shard })
    }

    /// Workers ask wherever jobs of theirs wait.
    pub fn workers_look_after(&mut self) -> Check {
        for shard in 0..self.shards.len() {
            let sql = "SELECT number FROM job WHERE state < 3 AND action = ?";
            let rows = self.shards[shard].db.run(sql, &[Value::Text(AWAY)]);
            let hidden = packed(&self.shards[shard].db).map_err(|error| error.message)?;
            let hidden = hidden.iter().any(|job| job.spec.action.as_str() == AWAY);
            if hidden || !rows.map_err(|error| error.message)?.is_empty() {
                self.worker_asks(shard)?;
            }
        }
        Ok(())
    }

    /// What a worker is told. One whose answer was lost, or that died, leaves its jobs to the end of their leases.
    pub fn worker_told(&mut self, shard: usize, reply: Result<Reply, Error>) -> Check {
        match reply {
            Ok(Reply::Leased { jobs, .. }) => {
                for job in jobs {
                    self.counters.leased += 1;
                    self.attempt(shard, job, true);
                }
                Ok(())
            }
            Err(error) if error.code == ErrorCode::Unavailable => Ok(()),
            other => Err(format!("a worker was told {other:?}")),
        }
    }
}
