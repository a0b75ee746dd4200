//! The queue: what a job waits for, what waits at all, and holding jobs back.

use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_protocol::time::UnixMs;

pub use tidegate_protocol::calls::queueing::{ActionPattern, PauseScope};

use super::{Ask, Http};
use crate::error::Error;
use crate::ids::{JobId, Status};

/// What a pause holds back, which may be something that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scope {
    /// What this version can ask for.
    Known(PauseScope),
    /// A scope of a later version.
    Other(Value),
}

/// A pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// What is held back.
    pub scope: Scope,
    /// Who did it.
    #[serde(default)]
    pub by: String,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<UnixMs>,
}

/// One thing that a job waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "about")]
pub enum Cause {
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
        by: String,
        /// Since when.
        since: UnixMs,
    },
    /// A limit of jobs that run at once.
    Limit {
        /// The limit.
        limit: String,
        /// The key; empty where the limit has none.
        #[serde(default)]
        key: String,
        /// How many may run.
        max: u32,
        /// Jobs that run under it, the oldest of those that the token may see.
        #[serde(default)]
        held_by: Vec<JobId>,
    },
    /// A limit of starts over time.
    Throttled {
        /// The limit.
        limit: String,
        /// The key; empty where the limit has none.
        #[serde(default)]
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
    /// A throttle, in a shard that has joined others before the growth is over.
    Growing {
        /// The limit.
        limit: String,
        /// The key; empty where the limit has none.
        #[serde(default)]
        key: String,
    },
    /// A worker of a pool that asks for it.
    Worker {
        /// The pool.
        pool: String,
        /// When a worker of the pool last asked for work; absent where none did of late.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        asked_at: Option<UnixMs>,
    },
}

/// One thing that a job waits for, which may be one that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reason {
    /// A reason as this version knows it.
    Known(Cause),
    /// A reason of a later version.
    Other {
        /// Its name.
        kind: String,
        /// What there is to know of it.
        #[serde(default)]
        about: Value,
    },
}

/// Why a job is not running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The job.
    pub job_id: JobId,
    /// Its state.
    pub status: Status,
    /// All that it waits for; empty for one that runs or has ended, and for one that is about to start.
    #[serde(default)]
    pub waits_for: Vec<Reason>,
}

/// How many jobs of an action wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionQueue {
    /// The action.
    pub action: String,
    /// Jobs that wait.
    #[serde(default)]
    pub waiting: u64,
}

/// What runs, what waits, and what is held back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Queue {
    /// Jobs that run.
    #[serde(default)]
    pub running: u64,
    /// Jobs that wait.
    #[serde(default)]
    pub waiting: u64,
    /// The actions of which jobs wait, the first hundred of each shard.
    #[serde(default)]
    pub actions: Vec<ActionQueue>,
    /// Every pause.
    #[serde(default)]
    pub pauses: Vec<Pause>,
    /// How many shards the tenant's jobs are spread over.
    #[serde(default)]
    pub shards: u16,
    /// How many there will be, while the tenant grows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growing_to: Option<u16>,
    /// The pools of workers.
    #[serde(default)]
    pub pools: Vec<Pool>,
}

/// A worker that asked for jobs in the last minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSeen {
    /// Its name.
    pub worker: String,
    /// When it last asked or was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<UnixMs>,
}

/// A pool of workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The pool.
    pub pool: String,
    /// Jobs that wait for one of its workers.
    #[serde(default)]
    pub waiting: u64,
    /// Jobs that its workers run.
    #[serde(default)]
    pub leased: u64,
    /// Its workers of the last minute.
    #[serde(default)]
    pub workers: Vec<WorkerSeen>,
}

impl Http {
    /// `GET /v1/jobs/{id}/why`: what the job waits for.
    ///
    /// Errors: [`Error::Api`], [`Error::Unreachable`].
    pub async fn why(&self, job: &JobId) -> Result<Why, Error> {
        self.fetch(Ask::new(Method::GET, format!("/v1/jobs/{job}/why"))).await
    }

    /// `GET /v1/queue`: what runs, what waits, and what is held back, over all shards.
    ///
    /// Errors: [`Error::Api`] (`FORBIDDEN` without `jobs:read` or `jobs:write`), [`Error::Unreachable`].
    pub async fn queue(&self) -> Result<Queue, Error> {
        self.fetch(Ask::new(Method::GET, "/v1/queue")).await
    }

    /// `POST /v1/queue:pause`: holds jobs back. What runs goes on; a second time changes nothing.
    ///
    /// Errors: [`Error::Api`] (`FORBIDDEN` without `jobs:write`, `CONFLICT` where too much is paused already),
    /// [`Error::Unreachable`].
    pub async fn pause_queue(&self, scope: &PauseScope) -> Result<Queue, Error> {
        self.hold("/v1/queue:pause", scope).await
    }

    /// `POST /v1/queue:resume`: ends the pause of exactly this scope. A second time changes nothing.
    ///
    /// Errors: [`Error::Api`] (`FORBIDDEN` without `jobs:write`), [`Error::Unreachable`].
    pub async fn resume_queue(&self, scope: &PauseScope) -> Result<Queue, Error> {
        self.hold("/v1/queue:resume", scope).await
    }

    async fn hold(&self, path: &str, scope: &PauseScope) -> Result<Queue, Error> {
        self.fetch(Ask::new(Method::POST, path).json(&body(scope))).await
    }
}

fn body(scope: &PauseScope) -> String {
    let body = match scope {
        PauseScope::Tenant => json!({"tenant": true}),
        PauseScope::Action(pattern) => json!({"action": pattern}),
        PauseScope::Key(key) => json!({"key": key}),
    };
    body.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_protocol::calls::queueing as server;
    use tidegate_protocol::event::JobState;
    use tidegate_protocol::http as sent;
    use tidegate_protocol::ids;

    fn scopes() -> [PauseScope; 3] {
        let pattern = ActionPattern::parse("mail.*").unwrap();
        [
            PauseScope::Tenant,
            PauseScope::Action(pattern),
            PauseScope::Key("a \"b\"".into()),
        ]
    }

    #[test]
    fn the_server_reads_which_jobs_are_meant() {
        for scope in scopes() {
            assert_eq!(PauseScope::parse(&body(&scope)), Ok(scope));
        }
    }

    /// All that a job can wait for, as the server writes it, comes out of the client as it went in.
    #[test]
    fn what_the_server_writes_of_a_waiting_job_the_client_reads() {
        let until = UnixMs(1_795_244_400_000);
        let job = ids::JobId::new(ids::JobNumber(7), 9);
        let mut waits_for = vec![
            sent::Reason::Delayed { until },
            sent::Reason::Retrying { until },
            sent::Reason::Doorbell { until },
            sent::Reason::Limit {
                limit: "one".into(),
                key: String::new(),
                max: 1,
                held_by: vec![job],
            },
            sent::Reason::Throttled {
                limit: "rate".into(),
                key: "k".into(),
                until,
            },
            sent::Reason::Places { running: 128 },
            sent::Reason::Behind { ahead: 2 },
            sent::Reason::PausedAlone {
                by: ids::UserId::parse("ann").unwrap(),
                since: until,
            },
            sent::Reason::Growing {
                limit: "one".into(),
                key: String::new(),
            },
            sent::Reason::Worker {
                pool: ids::PoolName::parse("gpu").unwrap(),
                asked_at: Some(until),
            },
        ];
        waits_for.extend(scopes().map(|scope| {
            sent::Reason::Paused(server::Pause {
                scope,
                by: ids::UserId::parse("ann").unwrap(),
                since: until,
            })
        }));
        let written = serde_json::to_value(sent::Why {
            job_id: job,
            status: JobState::Queued,
            waits_for,
        })
        .unwrap();
        let why: Why = serde_json::from_str(&written.to_string()).unwrap();
        assert!(why.waits_for.iter().all(|reason| match reason {
            Reason::Known(Cause::Paused(pause)) => matches!(pause.scope, Scope::Known(_)),
            Reason::Known(_) => true,
            Reason::Other { .. } => false,
        }));
        assert_eq!(serde_json::to_value(&why).unwrap(), written);
    }

    #[test]
    fn a_reason_of_a_later_version_is_kept_as_it_came() {
        let text = r#"{"job_id":"job_1","status":"resting","waits_for":[{"kind":"moon","about":{"phase":1}},{"kind":"tide"},
            {"kind":"paused","about":{"scope":{"region":"eu"}}},{"kind":"behind","about":{"ahead":1,"lane":"x"}}],"new":1}"#;
        let why: Why = serde_json::from_str(text).unwrap();
        let other = |kind: &str, about| Reason::Other {
            kind: kind.into(),
            about,
        };
        assert_eq!(why.waits_for[0], other("moon", json!({"phase":1})));
        assert_eq!(why.waits_for[1], other("tide", Value::Null));
        let Reason::Known(Cause::Paused(pause)) = &why.waits_for[2] else {
            panic!("{why:?}")
        };
        assert_eq!(pause.scope, Scope::Other(json!({"region":"eu"})));
        assert_eq!(why.waits_for[3], Reason::Known(Cause::Behind { ahead: 1 }));
    }
}
