//! What workers ask for and are given, and what is shown of them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use tidegate_cbor::{Decode, Encode};

use crate::SortedMap;
use crate::error::Error;
use crate::event::JsonText;
use crate::fault::Fault;
use crate::fields::Fields;
use crate::ids::{ActionName, JobId, PoolName, TraceParent};
use crate::limits::ID_CHARS_MAX;
use crate::time::UnixMs;

/// Jobs that one call leases at most: each is a row written, all in one turn of their object.
pub const LEASED_JOBS_MAX: u64 = 100;
/// The longest that a worker may ask to be waited for. Proxies close what is silent for a minute. Milliseconds.
pub const LEASE_WAIT_MS_MAX: u64 = 30_000;
/// Actions that a worker may name.
const ACTIONS_MAX: usize = 100;

/// The body of `POST /v1/workers/{pool}:lease`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseBody {
    /// So many jobs at most; none from a worker that leaves.
    pub max: u32,
    /// How long to wait where there are none. Milliseconds.
    pub wait_ms: u64,
    /// The worker's name.
    pub worker: String,
    /// Only jobs of these actions; `None`: of any.
    pub actions: Option<Vec<ActionName>>,
}

impl LeaseBody {
    /// Reads the body.
    ///
    /// Errors: `VALIDATION_ERROR` with every fault.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut fields = Fields::split(text)?;
        fields.refuse_others(&["max", "wait_ms", "worker", "actions"]);
        let expected = "a whole number from 0 to 100";
        if fields.raw("max").is_none() {
            fields.fault("max", expected, "nothing");
        }
        let max = fields.optional_number("max", expected, 0, LEASED_JOBS_MAX);
        let wait_ms = fields.optional_number("wait_ms", "milliseconds, at most 30000", 0, LEASE_WAIT_MS_MAX);
        let worker = fields.required_text("worker", "1 to 128 printable characters", |text| {
            let fits = (1..=ID_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control);
            fits.then(|| String::from(text))
        });
        let names: Option<Vec<String>> = fields.optional("actions", "a list of names of actions");
        let actions = names.map(|names| read_actions(&mut fields, &names));
        fields.finish("The call cannot be used.")?;
        Ok(Self {
            max: max.and_then(|max| u32::try_from(max).ok()).unwrap_or(1),
            wait_ms: wait_ms.unwrap_or(0),
            worker: worker.unwrap_or_default(),
            actions,
        })
    }
}

fn read_actions(fields: &mut Fields<'_>, names: &[String]) -> Vec<ActionName> {
    if names.is_empty() || names.len() > ACTIONS_MAX {
        fields.fault("actions", "1 to 100 names of actions", &format!("{}", names.len()));
    }
    let mut actions = Vec::new();
    for (index, name) in names.iter().take(ACTIONS_MAX).enumerate() {
        match ActionName::parse(name) {
            Some(action) => actions.push(action),
            None => {
                let fault = Fault::new(format!("/actions/{index}"), ActionName::EXPECTED, name);
                fields.faults.push(fault);
            }
        }
    }
    actions
}

/// A job that a worker is to run: one attempt of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LeasedJob {
    /// The job.
    pub job_id: JobId,
    /// What it runs.
    pub action: ActionName,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Its input, where it is small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<JsonText>,
    /// Where its input is, where it is large: a path, read with the attempt token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_url: Option<String>,
    /// The client's own notes on it.
    pub metadata: SortedMap<String, String>,
    /// The same for every attempt of the job, to pass downstream as an idempotency key.
    pub effect_key: String,
    /// When the attempt must be done.
    pub deadline: UnixMs,
    /// When the lease ends unless a report comes.
    pub lease_until: UnixMs,
    /// How long the lease lasts after each report. Milliseconds.
    pub lease_ms: u64,
    /// With this as its bearer token the attempt reports and ends.
    pub attempt_token: String,
    /// The caller's trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<TraceParent>,
}

/// What a worker is given (`200`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LeasedJobs {
    /// The jobs; none where the wait is over.
    pub jobs: Vec<LeasedJob>,
}

/// A worker that asked for jobs in the last minute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WorkerSeen {
    /// Its name.
    pub worker: String,
    /// When it last asked or was answered.
    pub seen_at: UnixMs,
}

/// A pool of workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PoolQueue {
    /// The pool.
    pub pool: PoolName,
    /// Jobs that wait for one of its workers.
    pub waiting: u64,
    /// Jobs that its workers run.
    pub leased: u64,
    /// Its workers of the last minute, the first hundred of them.
    pub workers: Vec<WorkerSeen>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_says_who_it_is_and_how_much_it_takes() {
        let read = LeaseBody::parse(r#"{"max":3,"worker":"w-1","wait_ms":20000,"actions":["a.b"]}"#).unwrap();
        assert_eq!((read.max, read.wait_ms, read.worker.as_str()), (3, 20_000, "w-1"));
        assert_eq!(read.actions.unwrap()[0].as_str(), "a.b");
        let read = LeaseBody::parse(r#"{"max":1,"worker":"w"}"#).unwrap();
        assert_eq!((read.wait_ms, read.actions), (0, None));
    }

    #[test]
    fn every_fault_of_a_lease_is_told_at_once() {
        for (text, expected) in [
            ("{}", &["/max", "/worker"] as &[&str]),
            (
                r#"{"max":-1,"worker":"","wait_ms":30001,"actions":["a b",""],"x":1}"#,
                &["/actions/0", "/actions/1", "/max", "/wait_ms", "/worker", "/x"],
            ),
            (r#"{"max":101,"worker":"w","actions":[]}"#, &["/actions", "/max"]),
            (r#"{"max":1,"worker":"w","actions":"a"}"#, &["/actions"]),
        ] {
            let error = LeaseBody::parse(text).unwrap_err();
            let mut found: Vec<_> = error.details.into_iter().map(|fault| fault.pointer).collect();
            found.sort();
            assert_eq!(found, expected, "{text}");
        }
    }
}
