//! A schedule as the parts hand it on: compiled from a composition, and kept beside the jobs.

use alloc::string::String;

use serde::{Deserialize, Serialize};
use tidegate_cbor::{Decode, Encode};

use super::jobs::NewJob;
use crate::ids::ScheduleName;

/// What becomes of a nominal time while the schedule's last job has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, Encode, Decode)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It is left out.
    #[default]
    Skip,
    /// One of them waits for that end; what comes while one waits is left out.
    QueueOne,
    /// It fires all the same.
    Allow,
    /// The last job is cancelled, and it fires.
    CancelOld,
}

impl Overlap {
    /// Every policy.
    pub const ALL: [Self; 4] = [Self::Skip, Self::QueueOne, Self::Allow, Self::CancelOld];

    /// The policy's name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::QueueOne => "queue_one",
            Self::Allow => "allow",
            Self::CancelOld => "cancel_old",
        }
    }
}

/// A schedule of a composition, with everything that its jobs need: whoever keeps it needs no plan.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Schedule {
    /// Its name.
    pub name: ScheduleName,
    /// When it fires: a cron expression after OCPS, checked.
    pub cron: String,
    /// Where its clock stands: a name of the IANA database, checked.
    pub time_zone: String,
    /// What it fires. Request, time and notes on the nominal time are filled in for each job.
    pub job: NewJob,
    /// What becomes of a nominal time while the last job has not ended.
    pub overlap: Overlap,
    /// How far back missed times are made up for. Milliseconds.
    pub catch_up_ms: u64,
    /// How much later than its nominal time it fires at most. Milliseconds.
    pub jitter_ms: u64,
    /// Whether the composition holds it back.
    pub paused: bool,
}
