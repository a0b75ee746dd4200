//! `GET /v1/jobs/{id}/why`: what a job waits for.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::calls::queueing::Pause;
use crate::event::{JobState, JsonText};
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
    /// A throttle, in an object that has joined others before the growth is over.
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

/// The same, as far as it is read where the parts of several objects are put together: each reason stays as its object
/// wrote it, but for those who hold a limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpreadWhy {
    job_id: JobId,
    status: JobState,
    waits_for: Vec<JsonText>,
}

/// A [`Reason::Limit`].
#[derive(Serialize, Deserialize)]
struct FullLimit {
    kind: String,
    about: FullLimitAbout,
}

#[derive(Serialize, Deserialize)]
struct FullLimitAbout {
    limit: String,
    key: String,
    max: u32,
    held_by: Vec<JobId>,
}

impl FullLimit {
    fn read(reason: &JsonText) -> Option<Self> {
        serde_json::from_str::<Self>(reason.as_str())
            .ok()
            .filter(|reason| reason.kind == "limit")
    }
}

impl SpreadWhy {
    /// Reads what an object says of a job.
    pub fn read(why: &JsonText) -> Option<Self> {
        serde_json::from_str(why.as_str()).ok()
    }

    /// The limits that are full, with their keys, of which other objects may name further holders.
    pub fn full_limits(&self) -> Vec<(String, String)> {
        let full = |about: &FullLimitAbout| {
            let shown_max = HOLDERS_SHOWN_MAX.min(usize::try_from(about.max).unwrap_or(usize::MAX));
            about.held_by.len() < shown_max
        };
        let limits = self.waits_for.iter().filter_map(FullLimit::read);
        limits
            .filter(|limit| full(&limit.about))
            .map(|limit| (limit.about.limit, limit.about.key))
            .collect()
    }

    /// Takes in what another object says of the jobs that hold a limit: the oldest stay first.
    pub fn add_holders(&mut self, of: &(String, String), jobs: Vec<JobId>) {
        for reason in &mut self.waits_for {
            let Some(mut limit) = FullLimit::read(reason) else {
                continue;
            };
            let about = &mut limit.about;
            if (&about.limit, &about.key) == (&of.0, &of.1) {
                about.held_by.extend(jobs);
                about.held_by.sort_unstable();
                about.held_by.dedup();
                about.held_by.truncate(HOLDERS_SHOWN_MAX);
                if let Some(text) = JsonText::of(&limit) {
                    *reason = text;
                }
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
        let until = UnixMs(1_800_000_000_000);
        let throttled = Reason::Throttled {
            limit: "each".into(),
            key: "acme".into(),
            until,
        };
        Why {
            job_id: job(99),
            status: JobState::Queued,
            waits_for: alloc::vec![Reason::Behind { ahead: 1 }, throttled, limit("each"), limit("all")],
        }
    }

    fn spread(why: &Why) -> SpreadWhy {
        SpreadWhy::read(&JsonText::of(why).expect("it can be written")).expect("it can be read")
    }

    /// As the client reads it.
    fn told(why: &SpreadWhy) -> Why {
        let text = JsonText::of(why).expect("it can be written");
        serde_json::from_str(text.as_str()).expect("it is a `Why` again")
    }

    fn held_by(why: &Why, index: usize) -> &[JobId] {
        match &why.waits_for[index] {
            Reason::Limit { held_by, .. } => held_by,
            other => panic!("no limit: {other:?}"),
        }
    }

    #[test]
    fn what_nobody_adds_to_stays_as_it_was() {
        let why = why(4, &[5]);
        assert_eq!(told(&spread(&why)), why);
    }

    #[test]
    fn holders_of_other_objects_join_their_limit_oldest_first() {
        let mut why = spread(&why(4, &[5]));
        let full = why.full_limits();
        assert_eq!(full, [("each".into(), "acme".into()), ("all".into(), "acme".into())]);
        why.add_holders(&full[1], alloc::vec![job(9), job(2), job(5)]);
        let told = told(&why);
        assert_eq!(held_by(&told, 2), [job(5)], "another limit");
        assert_eq!(held_by(&told, 3), [job(2), job(5), job(9)]);
    }

    #[test]
    fn nobody_is_asked_for_more_holders_than_there_can_be_or_are_shown() {
        assert!(spread(&why(1, &[5])).full_limits().is_empty());
        let many: Vec<u64> = (0..10).collect();
        assert!(spread(&why(50, &many)).full_limits().is_empty());
        let mut why = spread(&why(50, &many[..9]));
        let full = why.full_limits();
        why.add_holders(&full[0], alloc::vec![job(20), job(21)]);
        assert_eq!(held_by(&told(&why), 2).len(), HOLDERS_SHOWN_MAX);
    }
}
