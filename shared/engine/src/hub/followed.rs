//! What a hub answers a `Jobs` object that wants to know whether anybody still follows its jobs.

use alloc::vec::Vec;

use tidegate_protocol::ids::JobId;

use super::Hub;

impl Hub {
    /// Those of `jobs` that no socket follows. While somebody may be about to follow one, none is said to be left.
    pub fn not_followed(&self, jobs: Vec<JobId>) -> Vec<JobId> {
        if self.pending.awaits_followers() {
            return Vec::new();
        }
        jobs.into_iter()
            .filter(|job| !self.followers.contains_key(job))
            .collect()
    }
}
