//! Bodies about trying again and about several jobs at once: dead letters, redrives, bulk cancels.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidegate_cbor::{Decode, Encode};

use crate::SortedMap;
use crate::calls::jobs::Filter;
use crate::error::Error;
use crate::event::{JobState, JsonText};
use crate::fault::{Fault, escape_pointer};
use crate::fields::Fields;
use crate::ids::{ActionName, JobId, RequestId, UserId};
use crate::time::UnixMs;

/// Jobs that one call changes at most: each may be a row written and a job started, all in one turn of their object.
pub const BULK_JOBS_MAX: u32 = 100;
/// Jobs that a redrive starts in a second at most, where it is told to spread them.
pub const REDRIVES_PER_SECOND_MAX: u64 = 1000;

/// An attempt that failed before the last one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AttemptError {
    /// The attempt, from 1.
    pub attempt: u32,
    /// When it failed.
    pub at: UnixMs,
    /// Why.
    pub error: Error,
}

/// A doorbell of a job that the platform's queue could not bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LostDoorbell {
    /// How often one came out of the queue of the dead; one that came twice counts twice.
    pub times: u64,
    /// When the first of them came.
    pub first_at: UnixMs,
    /// When the last of them came.
    pub last_at: UnixMs,
}

/// What a letter of a version without the field told of.
const fn failed() -> JobState {
    JobState::Failed
}

/// A job that failed for good, and that nobody has redriven or discarded yet; or one whose doorbell the platform's queue
/// lost, which nobody has discarded yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeadLetter {
    /// The job.
    pub job_id: JobId,
    /// The request that it came from.
    pub request_id: RequestId,
    /// What it ran.
    pub action: ActionName,
    /// Whose it is.
    pub user: UserId,
    /// The client's own notes on it.
    pub metadata: SortedMap<String, String>,
    /// When it was accepted.
    pub created_at: UnixMs,
    /// When it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<UnixMs>,
    /// When it is forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UnixMs>,
    /// How many attempts were made.
    pub attempts: u32,
    /// Why it failed; `DOORBELL_LOST` where it is here for its doorbell alone.
    pub error: Error,
    /// Why earlier attempts failed, oldest first, as far as that is kept.
    pub earlier_errors: Vec<AttemptError>,
    /// The ended job that this one did again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redriven_from: Option<JobId>,
    /// The job's state: it may have succeeded where its doorbell alone was lost.
    #[serde(default = "failed")]
    pub status: JobState,
    /// What is noted of its doorbell, where the platform's queue lost one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doorbell: Option<LostDoorbell>,
}

/// A page of dead letters, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeadLetterPage {
    /// The dead letters.
    pub dead_letters: Vec<DeadLetter>,
    /// Where the next page begins; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// What became of one of several jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BulkItem {
    /// The job.
    pub job_id: JobId,
    /// The job that does it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redriven_to: Option<JobId>,
    /// Not before this moment, where this call made the new job, or would have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<UnixMs>,
    /// Why nothing was done to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
}

/// What became of several jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BulkAnswer {
    /// Whether this only tells what would be done.
    pub dry_run: bool,
    /// Each job that was looked for.
    pub jobs: Vec<BulkItem>,
    /// With the same body and this cursor, the next call goes on; absent where nothing is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// How fast redriven jobs start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(u64);

impl Rate {
    /// How much later each job starts than the one before. Microseconds.
    pub const fn interval_us(self) -> u64 {
        // A rate is at least 1.
        match 1_000_000_u64.checked_div(self.0) {
            Some(interval) => interval,
            None => 0,
        }
    }
}

/// The body of `POST /v1/jobs/{id}:retry`.
#[derive(Debug, Clone)]
pub struct RetryRequest<'a> {
    /// Another input for the new job.
    pub payload: Option<&'a RawValue>,
}

impl<'a> RetryRequest<'a> {
    /// Reads the body, which may be empty.
    ///
    /// Errors: `VALIDATION_ERROR` with every fault.
    pub fn parse(text: &'a str) -> Result<Self, Error> {
        if text.trim().is_empty() {
            return Ok(Self { payload: None });
        }
        let mut fields = Fields::split(text)?;
        fields.refuse_others(&["payload"]);
        let payload = fields.raw("payload");
        fields.finish("The retry cannot be used.")?;
        Ok(Self { payload })
    }
}

/// The body of a call that changes several jobs.
#[derive(Debug, Clone)]
pub struct BulkRequest<'a> {
    /// These jobs; `None`: those that fit the filter.
    pub ids: Option<Vec<JobId>>,
    /// The filter, where there are no ids. Its limit is how many jobs are changed at most.
    pub filter: Filter,
    /// Only tell what would be done.
    pub dry_run: bool,
    /// Where an earlier call ended.
    pub cursor: Option<String>,
    /// How fast redriven jobs start; `None`: at once.
    pub rate: Option<Rate>,
    /// Another input for the one job that is redriven.
    pub payload: Option<&'a RawValue>,
}

impl<'a> BulkRequest<'a> {
    /// Reads the body of a redrive.
    ///
    /// Errors: `VALIDATION_ERROR` with every fault.
    pub fn redrive(text: &'a str) -> Result<Self, Error> {
        Self::read(text, &["action", "user", "code", "batch"], true)
    }

    /// Reads the body of a discard.
    ///
    /// Errors: as [`Self::redrive`].
    pub fn discard(text: &'a str) -> Result<Self, Error> {
        Self::read(text, &["action", "user", "code", "batch"], false)
    }

    /// Reads the body of a cancel.
    ///
    /// Errors: as [`Self::redrive`].
    pub fn cancel(text: &'a str) -> Result<Self, Error> {
        Self::read(text, &["status", "action", "user", "batch"], false)
    }

    fn read(text: &'a str, conditions: &[&str], redrives: bool) -> Result<Self, Error> {
        const COMMON: [&str; 5] = ["ids", "filter", "limit", "cursor", "dry_run"];
        const OF_A_REDRIVE: [&str; 2] = ["rate_per_second", "payload"];
        let mut fields = Fields::split(text)?;
        let known: Vec<&str> = COMMON
            .into_iter()
            .chain(OF_A_REDRIVE.into_iter().filter(|_| redrives))
            .collect();
        fields.refuse_others(&known);
        let ids = read_ids(&mut fields);
        let mut filter = Filter::default();
        match (fields.raw("ids"), fields.raw("filter")) {
            (None, None) => fields.fault("filter", "`ids`, or a `filter` (an empty one for all)", "neither"),
            (Some(_), Some(_)) => fields.fault("filter", "either `ids` or a `filter`", "both"),
            (None, Some(raw)) => read_filter(&mut fields, raw, conditions, &mut filter),
            (Some(_), None) => {}
        }
        let expected = "a whole number from 1 to 100";
        let limit = fields.optional_number("limit", expected, 1, u64::from(BULK_JOBS_MAX));
        filter.limit = limit
            .and_then(|limit| u32::try_from(limit).ok())
            .unwrap_or(BULK_JOBS_MAX);
        let cursor = fields.optional_text("cursor", "the cursor of an earlier call", |text| {
            Some(String::from(text))
        });
        let dry_run = fields.optional::<bool>("dry_run", "`true` or `false`").unwrap_or(false);
        let (mut rate, mut payload) = (None, None);
        if redrives {
            let expected = "a whole number from 1 to 1000";
            rate = fields.optional_number("rate_per_second", expected, 1, REDRIVES_PER_SECOND_MAX);
            payload = fields.raw("payload");
            if let Some(raw) = payload
                && ids.as_ref().is_none_or(|ids| ids.len() != 1)
            {
                fields.fault("payload", "a payload only with one id", raw.get());
            }
        }
        fields.finish("The request cannot be used.")?;
        Ok(Self {
            ids,
            filter,
            dry_run,
            cursor,
            rate: rate.map(Rate),
            payload,
        })
    }
}

fn read_ids(fields: &mut Fields<'_>) -> Option<Vec<JobId>> {
    let texts: Vec<String> = fields.optional("ids", "a list of job ids")?;
    let most = usize::try_from(BULK_JOBS_MAX).unwrap_or(usize::MAX);
    if texts.is_empty() || texts.len() > most {
        fields.fault(
            "ids",
            format!("1 to {BULK_JOBS_MAX} job ids"),
            &format!("{}", texts.len()),
        );
    }
    let mut ids = Vec::with_capacity(texts.len().min(most));
    for (index, text) in texts.iter().take(most).enumerate() {
        match JobId::parse(text) {
            Some(id) if ids.contains(&id) => {
                let fault = Fault::new(format!("/ids/{index}"), "each id once", text);
                fields.faults.push(fault);
            }
            Some(id) => ids.push(id),
            None => fields
                .faults
                .push(Fault::new(format!("/ids/{index}"), "a job id", text)),
        }
    }
    Some(ids)
}

fn read_filter(fields: &mut Fields<'_>, raw: &RawValue, conditions: &[&str], filter: &mut Filter) {
    let Ok(given) = serde_json::from_str::<SortedMap<String, &RawValue>>(raw.get()) else {
        fields.fault("filter", "an object of conditions", raw.get());
        return;
    };
    let mut set = |pointer: String, name: &str, raw: &RawValue| {
        let done = match serde_json::from_str::<String>(raw.get()) {
            Ok(value) => filter.set(name, &value),
            Err(_) => Err("a string"),
        };
        if let Err(expected) = done {
            fields.faults.push(Fault::new(pointer, expected, raw.get()));
        }
    };
    let mut unknown = Vec::new();
    for (name, raw) in given {
        let pointer = format!("/filter/{}", escape_pointer(&name));
        if name == "metadata" {
            match serde_json::from_str::<SortedMap<String, &RawValue>>(raw.get()) {
                Ok(notes) => {
                    for (note, raw) in notes {
                        let pointer = format!("{pointer}/{}", escape_pointer(&note));
                        set(pointer, &format!("metadata.{note}"), raw);
                    }
                }
                Err(_) => unknown.push(Fault::new(pointer, "an object of strings", raw.get())),
            }
        } else if conditions.contains(&name.as_str()) || matches!(name.as_str(), "created_after" | "created_before") {
            set(pointer, &name, raw);
        } else {
            let known = conditions.iter().copied();
            let fault = Fault::new(pointer, "no such condition", raw.get());
            unknown.push(fault.suggest(&name, known.chain(["created_after", "created_before", "metadata"])));
        }
    }
    fields.faults.append(&mut unknown);
}

impl From<&RawValue> for crate::event::Payload {
    fn from(raw: &RawValue) -> Self {
        Self::Inline(JsonText::from(raw))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn id() -> String {
        JobId::new(crate::ids::JobNumber(7), 9).to_string()
    }

    fn pointers(result: Result<BulkRequest<'_>, Error>) -> Vec<String> {
        let error = result.expect_err("a fault");
        error.details.into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn every_fault_of_a_bulk_request_is_told_at_once() {
        let text = format!(
            r#"{{"ids":["{}","x","{}"],"limit":0,"dry_run":"yes","rate_per_second":0,"payload":1,"other":2}}"#,
            id(),
            id()
        );
        let mut found = pointers(BulkRequest::redrive(&text));
        found.sort();
        assert_eq!(
            found,
            ["/dry_run", "/ids/1", "/ids/2", "/limit", "/other", "/rate_per_second"]
        );
        assert_eq!(pointers(BulkRequest::redrive("{}")), ["/filter"]);
        assert_eq!(
            pointers(BulkRequest::discard(r#"{"filter":{},"payload":1}"#)),
            ["/payload"]
        );
        assert_eq!(
            pointers(BulkRequest::redrive(r#"{"filter":{},"payload":1}"#)),
            ["/payload"]
        );
        let text = r#"{"filter":{"code":"X","status":"failed","metadata":{"a":1}}}"#;
        assert_eq!(
            pointers(BulkRequest::redrive(text)),
            ["/filter/code", "/filter/metadata/a", "/filter/status"]
        );
    }

    #[test]
    fn a_bulk_request_says_which_jobs_it_means() {
        let text = format!(r#"{{"ids":["{}"],"payload":{{"n":2}},"rate_per_second":4}}"#, id());
        let read = BulkRequest::redrive(&text).unwrap();
        assert_eq!(read.ids.map(|ids| ids.len()), Some(1));
        assert_eq!(read.payload.map(RawValue::get), Some(r#"{"n":2}"#));
        assert_eq!(read.rate.map(Rate::interval_us), Some(250_000));
        let text = r#"{"filter":{"status":"queued","metadata":{"a":"b"}},"limit":5,"cursor":"c","dry_run":true}"#;
        let read = BulkRequest::cancel(text).unwrap();
        assert!(read.ids.is_none() && read.dry_run);
        assert_eq!((read.filter.limit, read.cursor.as_deref()), (5, Some("c")));
        assert_eq!(read.filter.metadata.get("a").map(String::as_str), Some("b"));
    }

    #[test]
    fn the_body_of_a_retry_may_be_empty() {
        assert!(RetryRequest::parse("").unwrap().payload.is_none());
        assert!(RetryRequest::parse("{}").unwrap().payload.is_none());
        assert_eq!(
            RetryRequest::parse(r#"{"payload":[1]}"#)
                .unwrap()
                .payload
                .map(RawValue::get),
            Some("[1]")
        );
        assert!(RetryRequest::parse(r#"{"payloads":[1]}"#).is_err());
        assert!(RetryRequest::parse("[]").is_err());
    }
}
