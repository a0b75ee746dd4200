//! Outcomes that are reported again: an answer that was lost on the way must not look like a lost lease.

use tidegate_protocol::calls::executor::Outcome;
use tidegate_protocol::event::{Happening, JobState};
use tidegate_protocol::ids::FencingToken;

use super::row::Job;

impl Job {
    /// Whether the latest attempt, that of `token`, ended with this very outcome. Not known any more once the job was
    /// claimed again, nor where nothing of the outcome was kept.
    pub(super) fn ended_attempt_with(&self, token: FencingToken, outcome: &Outcome) -> bool {
        if self.token != token {
            return false;
        }
        let last = self
            .outcome
            .as_ref()
            .or_else(|| self.log.last())
            .map(|event| &event.what);
        match (outcome, last) {
            (Outcome::Succeeded { result }, Some(Happening::Completed { result: kept })) => result == kept,
            (Outcome::Failed { error }, Some(Happening::Failed { error: kept })) => {
                self.state == JobState::Failed && error == kept
            }
            (Outcome::Failed { error }, Some(Happening::Retrying { error: kept, .. })) => {
                self.state == JobState::Retrying && error == kept
            }
            // Before its first attempt a job has no token that anyone holds.
            (Outcome::Snoozed { .. }, _) => self.state == JobState::Scheduled,
            _ => false,
        }
    }
}
