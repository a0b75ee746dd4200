//! `GET /v1/jobs/{id}/why`: what a job waits for.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::calls::queueing::Pause;
use crate::event::JobState;
use crate::ids::{JobId, PoolName, UserId};
use crate::limits::HOLDERS_SHOWN_MAX;
use crate::time::UnixMs;

/// One thing that a job waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "kind", content = "about")]
pub enum Reason {
    /// Its own time.
    Delayed {
        /// When it may start.
        until: UnixMs,
    },
    /// Its next attempt, after one that failed.
    Retrying {
        /// When it may start.
        until: UnixMs,
    },
    /// The queue's doorbell.
    Doorbell {
        /// When it starts without one.
        until: UnixMs,
    },
    /// Someone paused it.
    Paused(Pause),
    /// Someone paused this very job.
    PausedAlone {
        /// Who did it.
        by: UserId,
        /// Since when.
        since: UnixMs,
    },
    /// A limit of jobs that run at once.
    Limit {
        /// The limit.
        limit: String,
        /// The key, where the limit has keys.
        key: String,
        /// How many may run.
        max: u32,
        /// Jobs that run under it, the first of them.
        held_by: Vec<JobId>,
    },
    /// A limit of starts over time.
    Throttled {
        /// The limit.
        limit: String,
        /// The key, where the limit has keys.
        key: String,
        /// When there is room for the next start.
        until: UnixMs,
    },
    /// A place of the queue itself.
    Places {
        /// How many run, and may.
        running: u32,
    },
    /// Jobs of the same kind that came before.
    Behind {
        /// How many.
        ahead: u64,
    },
    /// A limit, in an object that has joined others: they still hold more than their new part of it.
    Growing {
        /// The limit.
        limit: String,
        /// The key, where the limit has keys.
        key: String,
    },
    /// A worker of a pool that asks for it.
    Worker {
        /// The pool.
        pool: PoolName,
        /// When a worker of the pool last asked for work; absent where none did of late.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        asked_at: Option<UnixMs>,
    },
}

/// Why a job is not running.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Why {
    /// The job.
    pub job_id: JobId,
    /// Its state.
    pub status: JobState,
    /// What it waits for; empty for one that runs or has ended.
    pub waits_for: Vec<Reason>,
}

impl Why {
    /// The limits that are full, with their keys, of which other objects may name further holders.
    pub fn full_limits(&self) -> Vec<(String, String)> {
        let full = |reason: &Reason| match reason {
            Reason::Limit {
                limit,
                key,
                max,
                held_by,
            } if held_by.len() < HOLDERS_SHOWN_MAX.min(usize::try_from(*max).unwrap_or(usize::MAX)) => {
                Some((limit.clone(), key.clone()))
            }
            _ => None,
        };
        self.waits_for.iter().filter_map(full).collect()
    }

    /// Takes in what another object says of the jobs that hold a limit: the oldest stay first.
    pub fn add_holders(&mut self, of: &(String, String), jobs: Vec<JobId>) {
        for reason in &mut self.waits_for {
            if let Reason::Limit {
                limit, key, held_by, ..
            } = reason
                && (&*limit, &*key) == (&of.0, &of.1)
            {
                held_by.extend(jobs);
                held_by.sort_unstable();
                held_by.dedup();
                held_by.truncate(HOLDERS_SHOWN_MAX);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::JobNumber;

    fn job(number: u64) -> JobId {
        JobId::new(JobNumber(number), 7)
    }

    fn why(max: u32, held_by: &[u64]) -> Why {
        let limit = |limit: &str| Reason::Limit {
            limit: limit.into(),
            key: "acme".into(),
            max,
            held_by: held_by.iter().copied().map(job).collect(),
        };
        Why {
            job_id: job(99),
            status: JobState::Queued,
            waits_for: alloc::vec![Reason::Behind { ahead: 1 }, limit("each"), limit("all")],
        }
    }

    fn held_by(why: &Why, index: usize) -> &[JobId] {
        match &why.waits_for[index] {
            Reason::Limit { held_by, .. } => held_by,
            other => panic!("no limit: {other:?}"),
        }
    }

    #[test]
    fn holders_of_other_objects_join_their_limit_oldest_first() {
        let mut why = why(4, &[5]);
        let full = why.full_limits();
        assert_eq!(full, [("each".into(), "acme".into()), ("all".into(), "acme".into())]);
        why.add_holders(&full[1], alloc::vec![job(9), job(2), job(5)]);
        assert_eq!(held_by(&why, 1), [job(5)], "another limit");
        assert_eq!(held_by(&why, 2), [job(2), job(5), job(9)]);
    }

    #[test]
    fn nobody_is_asked_for_more_holders_than_there_can_be_or_are_shown() {
        assert!(why(1, &[5]).full_limits().is_empty());
        let many: Vec<u64> = (0..10).collect();
        assert!(why(50, &many).full_limits().is_empty());
        let mut why = why(50, &many[..9]);
        let full = why.full_limits();
        why.add_holders(&full[0], alloc::vec![job(20), job(21)]);
        assert_eq!(held_by(&why, 1).len(), HOLDERS_SHOWN_MAX);
    }
}
