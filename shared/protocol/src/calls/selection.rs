//! Which jobs a list, or a change of several jobs, is about. Read the same way from a query and from a body.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use tidegate_cbor::{Decode, Encode};

use crate::SortedMap;
use crate::error::ErrorCode;
use crate::event::{JobState, Payload};
use crate::ids::{ActionName, BatchId, JobId, JobNumber, UserId};
use crate::limits::METADATA_ENTRIES_MAX;
use crate::time::UnixMs;

/// Which jobs are meant. What is `None` does not narrow.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Filter {
    /// Only in this state.
    pub status: Option<JobState>,
    /// Only of this action.
    pub action: Option<ActionName>,
    /// Only of this user. A caller who may not reach all is narrowed to their own.
    pub user: Option<UserId>,
    /// Only failed with this code.
    #[serde(default)]
    pub code: Option<ErrorCode>,
    /// Only accepted at this moment or later.
    #[serde(default)]
    pub created_after: Option<UnixMs>,
    /// Only accepted before this moment.
    #[serde(default)]
    pub created_before: Option<UnixMs>,
    /// Only with all of these notes.
    #[serde(default)]
    pub metadata: SortedMap<String, String>,
    /// Only below this number.
    pub below: Option<JobNumber>,
    /// At most so many.
    pub limit: u32,
    /// Only of this batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchId>,
    /// Which come first.
    #[serde(default)]
    pub sort: Sort,
    /// Only above this number: where a list goes on whose oldest come first.
    #[serde(default)]
    pub above: Option<JobNumber>,
}

/// In which order jobs are listed: by their acceptance, which their numbers tell, so that no order takes an index of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// The newest first.
    #[default]
    Newest,
    /// The oldest first.
    Oldest,
}

impl Sort {
    /// What a query may say.
    pub const EXPECTED: &'static str = "`created` (oldest first) or `-created` (newest first)";

    /// The order that a query calls `text`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "created" => Some(Self::Oldest),
            "-created" => Some(Self::Newest),
            _ => None,
        }
    }
}

impl Filter {
    /// Takes the condition `name`, as a query writes it: `status`, `action`, `user`, `code`, `created_after`,
    /// `created_before`, `batch` or `metadata.<name>`.
    ///
    /// Errors: what was expected instead.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        match name {
            "status" => {
                let found = JobState::ALL.iter().find(|state| state.as_str() == value);
                self.status = Some(*found.ok_or("a job's state")?);
            }
            "action" => self.action = Some(ActionName::parse(value).ok_or(ActionName::EXPECTED)?),
            "user" => self.user = Some(UserId::parse(value).ok_or(UserId::EXPECTED)?),
            "code" => {
                let found = ErrorCode::ALL.iter().find(|code| code.as_str() == value);
                self.code = Some(*found.ok_or("an error code, such as UPSTREAM_ERROR")?);
            }
            "created_after" => self.created_after = Some(UnixMs::parse(value).ok_or(MOMENT)?),
            "created_before" => self.created_before = Some(UnixMs::parse(value).ok_or(MOMENT)?),
            "batch" => self.batch = Some(BatchId::parse(value).ok_or(BatchId::EXPECTED)?),
            _ => {
                let note = name.strip_prefix("metadata.").filter(|note| !note.is_empty());
                let note = note.ok_or("no such filter")?;
                if self.metadata.len() >= METADATA_ENTRIES_MAX {
                    return Err("at most 32 notes");
                }
                self.metadata.insert(note.to_owned(), value.to_owned());
            }
        }
        Ok(())
    }
}

const _: () = assert!(METADATA_ENTRIES_MAX == 32, "a message says so");

const MOMENT: &str = "a time as RFC 3339 text";

/// The jobs that a change of several is about.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Selection {
    /// These.
    Ids(Vec<JobId>),
    /// Those that fit, newest first, as many as the filter's limit says.
    Filter(Filter),
}

/// What is done to each of several jobs.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ManyAction {
    /// Does dead letters again, each as a new job.
    Redrive {
        /// Another input for the new jobs.
        payload: Option<Payload>,
        /// When the first of them may start.
        start: UnixMs,
        /// How much later each one starts than the one before. Microseconds; 0: all at once.
        interval_us: u64,
    },
    /// Takes dead letters out of the list. The jobs stay what they are.
    Discard,
    /// Ends jobs that have not ended.
    Cancel,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_takes_each_condition_in_its_own_form_and_no_other() {
        for (name, good, bad) in [
            ("status", "failed", "Failed"),
            ("action", "report.summarize", "a b"),
            ("user", "ann", ""),
            ("code", "UPSTREAM_ERROR", "upstream"),
            ("created_after", "2026-11-21T07:00:00Z", "yesterday"),
            ("created_before", "2026-11-21T07:00:00.000Z", "7"),
            ("batch", "bat_0123456789abcdefgh", "job_0123456789abcdefgh"),
        ] {
            let mut filter = Filter::default();
            assert_eq!(filter.set(name, good), Ok(()), "{name}");
            assert_ne!(filter, Filter::default(), "{name} narrows");
            assert!(filter.set(name, bad).is_err(), "{name}={bad}");
        }
        let mut filter = Filter::default();
        assert_eq!(filter.set("metadata.a.b", "c"), Ok(()));
        assert_eq!(filter.metadata.get("a.b").map(String::as_str), Some("c"));
        assert!(filter.set("metadata.", "c").is_err());
        assert!(filter.set("colour", "red").is_err());
        for (text, sort) in [
            ("created", Some(Sort::Oldest)),
            ("-created", Some(Sort::Newest)),
            ("+created", None),
            ("changed", None),
            ("", None),
        ] {
            assert_eq!(Sort::parse(text), sort, "{text}");
        }
    }
}
