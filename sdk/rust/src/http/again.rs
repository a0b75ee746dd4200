//! Jobs that came to nothing, and several jobs at once: retries, dead letters, redrives, discards, cancels.

use std::collections::BTreeMap;

use hyper::Method;
use serde::{Deserialize, Serialize};
use tidegate_protocol::event::JsonText;
use tidegate_protocol::time::UnixMs;

use super::types::{Job, JobFilter};
use super::{Ask, Http};
use crate::error::{ApiError, Error};
use crate::ids::{JobId, Status};

/// An attempt that failed before the last one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptError {
    /// The attempt, from 1.
    #[serde(default)]
    pub attempt: u32,
    /// When it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<UnixMs>,
    /// Why.
    pub error: ApiError,
}

/// A doorbell of a job that the platform's queue could not bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostDoorbell {
    /// How often one came out of the queue of the dead; one that came twice counts twice.
    #[serde(default)]
    pub times: u64,
    /// When the first of them came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_at: Option<UnixMs>,
    /// When the last of them came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<UnixMs>,
}

/// A job that failed for good, and that nobody has redriven or discarded yet; or one whose doorbell the platform's queue
/// lost, which nobody has discarded yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The job.
    pub job_id: JobId,
    /// What it ran.
    pub action: String,
    /// Whose it is.
    #[serde(default)]
    pub user: String,
    /// The caller's own notes on it.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// When it was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<UnixMs>,
    /// When it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<UnixMs>,
    /// When it is forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UnixMs>,
    /// How many attempts were made.
    #[serde(default)]
    pub attempts: u32,
    /// Why it failed; `DOORBELL_LOST` where it is here for its doorbell alone.
    pub error: ApiError,
    /// Why earlier attempts failed, oldest first, as far as that is kept.
    #[serde(default)]
    pub earlier_errors: Vec<AttemptError>,
    /// The ended job that this one did again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redriven_from: Option<JobId>,
    /// The job's state: it may have succeeded where its doorbell alone was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// What is noted of its doorbell, where the platform's queue lost one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doorbell: Option<LostDoorbell>,
}

/// A page of dead letters, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetterPage {
    /// The dead letters.
    pub dead_letters: Vec<DeadLetter>,
    /// Where the next page begins; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// What became of one of several jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BulkItem {
    /// The job.
    pub job_id: JobId,
    /// The job that does it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redriven_to: Option<JobId>,
    /// Not before this moment, where the call made the new job, or would have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<UnixMs>,
    /// Why nothing was done to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
}

/// What became of several jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BulkAnswer {
    /// Whether this only tells what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// Each job that was looked for.
    pub jobs: Vec<BulkItem>,
    /// With the same request and this cursor, the next call goes on; absent where nothing is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A change of several jobs: these, or with no ids those that fit the filter.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bulk {
    /// These jobs, at most 100.
    pub ids: Vec<JobId>,
    /// Which jobs, where there are no ids. Its limit and cursor are those of the call.
    pub filter: JobFilter,
    /// Only tell what would be done.
    pub dry_run: bool,
    /// For a redrive: so many of the new jobs start in a second.
    pub rate_per_second: Option<u64>,
    /// For a redrive of one job: another input.
    pub payload: Option<JsonText>,
}

#[derive(Serialize)]
struct Conditions<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_after: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_before: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct BulkBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<&'a [JobId]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<Conditions<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<&'a str>,
    dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_per_second: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a JsonText>,
}

impl Bulk {
    fn body(&self) -> Result<String, Error> {
        let filter = &self.filter;
        let by_filter = self.ids.is_empty();
        let conditions = Conditions {
            status: filter.status.as_deref(),
            action: filter.action.as_deref(),
            user: filter.user.as_deref(),
            batch: self.filter.batch.as_deref(),
            code: filter.code.as_deref(),
            created_after: filter.created_after.as_deref(),
            created_before: filter.created_before.as_deref(),
            metadata: &filter.metadata,
        };
        let body = BulkBody {
            ids: (!by_filter).then_some(&self.ids),
            filter: by_filter.then_some(conditions),
            limit: filter.limit,
            cursor: filter.cursor.as_deref(),
            dry_run: self.dry_run,
            rate_per_second: self.rate_per_second,
            payload: self.payload.as_ref(),
        };
        serde_json::to_string(&body).map_err(|error| Error::Invalid(error.to_string()))
    }
}

#[derive(Serialize)]
struct RetryBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a JsonText>,
}

impl Http {
    /// `POST /v1/jobs/{id}:retry`: the job that is tried now, which is a new one where the old one had ended; that can be
    /// given another payload. Asking again gives the same one.
    ///
    /// Errors: [`Error::Api`] (`CONFLICT` where it runs or has succeeded), [`Error::Unreachable`].
    pub async fn retry(&self, job: &JobId, payload: Option<&JsonText>) -> Result<Job, Error> {
        let body = serde_json::to_string(&RetryBody { payload }).map_err(|error| Error::Invalid(error.to_string()))?;
        self.fetch(Ask::new(Method::POST, format!("/v1/jobs/{job}:retry")).json(&body))
            .await
    }

    /// `POST /v1/jobs/{id}:pause`: holds a job back that waits. The job as it is then.
    ///
    /// Errors: [`Error::Api`] (`CONFLICT` where it does not wait), [`Error::Unreachable`].
    pub async fn pause_job(&self, job: &JobId) -> Result<Job, Error> {
        self.fetch(Ask::new(Method::POST, format!("/v1/jobs/{job}:pause")))
            .await
    }

    /// `POST /v1/jobs/{id}:resume`: lets a job wait again where it waited.
    ///
    /// Errors: as [`Self::pause_job`].
    pub async fn resume_job(&self, job: &JobId) -> Result<Job, Error> {
        self.fetch(Ask::new(Method::POST, format!("/v1/jobs/{job}:resume")))
            .await
    }

    /// `POST /v1/jobs/{id}:reschedule`: gives a job that waits another time, so many milliseconds from now.
    ///
    /// Errors: as [`Self::pause_job`].
    pub async fn reschedule_after(&self, job: &JobId, delay_ms: u64) -> Result<Job, Error> {
        let body = format!("{{\"delay_ms\":{delay_ms}}}");
        self.fetch(Ask::new(Method::POST, format!("/v1/jobs/{job}:reschedule")).json(&body))
            .await
    }

    /// The same with a moment, as RFC 3339 text.
    ///
    /// Errors: as [`Self::pause_job`], and `VALIDATION_ERROR` for a text that is no moment.
    pub async fn reschedule_at(&self, job: &JobId, run_at: &str) -> Result<Job, Error> {
        let body = serde_json::json!({ "run_at": run_at }).to_string();
        self.fetch(Ask::new(Method::POST, format!("/v1/jobs/{job}:reschedule")).json(&body))
            .await
    }

    /// `GET /v1/dead-letters`: a page of jobs that failed for good.
    ///
    /// Errors: [`Error::Api`], [`Error::Unreachable`].
    pub async fn dead_letters(&self, filter: &JobFilter) -> Result<DeadLetterPage, Error> {
        self.fetch(Ask::new(Method::GET, format!("/v1/dead-letters{}", filter.query())))
            .await
    }

    /// `POST /v1/dead-letters:redrive`: does dead letters again, each by a new job.
    ///
    /// Errors: [`Error::Api`], [`Error::Unreachable`]. What a single job is refused with stands beside it.
    pub async fn redrive(&self, bulk: &Bulk) -> Result<BulkAnswer, Error> {
        self.change("/v1/dead-letters:redrive", bulk).await
    }

    /// `POST /v1/dead-letters:discard`: takes dead letters out of the list.
    ///
    /// Errors: as [`Self::redrive`].
    pub async fn discard(&self, bulk: &Bulk) -> Result<BulkAnswer, Error> {
        self.change("/v1/dead-letters:discard", bulk).await
    }

    /// `POST /v1/jobs:cancel`: cancels several jobs.
    ///
    /// Errors: as [`Self::redrive`].
    pub async fn cancel_several(&self, bulk: &Bulk) -> Result<BulkAnswer, Error> {
        self.change("/v1/jobs:cancel", bulk).await
    }

    async fn change(&self, path: &str, bulk: &Bulk) -> Result<BulkAnswer, Error> {
        self.fetch(Ask::new(Method::POST, path).json(&bulk.body()?)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_several_jobs_names_either_ids_or_a_filter() {
        let mut bulk = Bulk {
            filter: JobFilter {
                code: Some("UPSTREAM_ERROR".into()),
                limit: Some(5),
                metadata: [("k".to_owned(), "v".to_owned())].into(),
                ..JobFilter::default()
            },
            rate_per_second: Some(3),
            ..Bulk::default()
        };
        assert_eq!(
            bulk.body().unwrap(),
            r#"{"filter":{"code":"UPSTREAM_ERROR","metadata":{"k":"v"}},"limit":5,"dry_run":false,"rate_per_second":3}"#
        );
        bulk = Bulk {
            ids: vec![JobId::parse("job_00000000000000000").unwrap()],
            dry_run: true,
            payload: JsonText::parse("1"),
            ..Bulk::default()
        };
        assert_eq!(
            bulk.body().unwrap(),
            r#"{"ids":["job_00000000000000000"],"dry_run":true,"payload":1}"#
        );
        assert_eq!(Bulk::default().body().unwrap(), r#"{"filter":{},"dry_run":false}"#);
    }
}
