//! One piece of work, once: what a request's own key, and what it says of itself, must lead to.

use std::collections::BTreeMap;

use tidegate_protocol::Error;
use tidegate_protocol::calls::jobs::{Enqueue, Reply};
use tidegate_protocol::calls::once::{DedupeRule, Once};
use tidegate_protocol::ids::{JobId, JobNumber};

use super::RowView;
use crate::world::{Check, World};

/// What a client's key named: the job, the fingerprint that came with it, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyFacts {
    pub job: JobId,
    pub fingerprint: String,
    pub since: u64,
}

/// The client's key and, where an action tells requests apart by their values, those: they say which object is asked, and
/// another body under the same key is found out where both lie in the same one.
pub(super) fn key_name(enqueue: &Enqueue) -> Option<(String, String)> {
    let key = enqueue.keyed.as_ref()?.key.as_str();
    let dedupe = enqueue.job.once.as_ref().and_then(Once::dedupe);
    Some((
        key.to_owned(),
        dedupe.map(|dedupe| dedupe.key.clone()).unwrap_or_default(),
    ))
}

impl World {
    /// At most one open job for each dedupe key of a rule that says so, in whichever object; and a request is given it.
    pub(super) fn check_dedupe(
        &mut self,
        shard: usize,
        enqueue: &Enqueue,
        reply: Option<&Result<Reply, Error>>,
        before: &BTreeMap<JobNumber, RowView>,
        after: &BTreeMap<JobNumber, RowView>,
    ) -> Check {
        let Some(dedupe) = enqueue.job.once.as_ref().and_then(Once::dedupe) else {
            return Ok(());
        };
        let (given, again) = match reply {
            Some(Ok(Reply::Acknowledged { job, deduplicated, .. } | Reply::Ended { job, deduplicated, .. })) => {
                (*job, *deduplicated)
            }
            _ => return Ok(()),
        };
        let tenant = self.shards[shard].tenant;
        // What a later request may still be given, or take the place of.
        let counts = |row: &RowView| match dedupe.rule {
            DedupeRule::UntilEnded => !row.ended(),
            _ => !row.ended() && row.attempt == 0,
        };
        let of_key = |row: &RowView| {
            let facts = self.oracle.jobs.get(&row.id);
            facts.is_some_and(|facts| {
                facts.dedupe.as_ref() == Some(&dedupe.key) && facts.action.as_ref() == Some(&enqueue.job.action)
            })
        };
        let elsewhere = self.oracle.rows.iter();
        let elsewhere = elsewhere.filter(|(other, _)| **other != shard && self.shards[**other].tenant == tenant);
        let elsewhere: Vec<&RowView> = elsewhere.flat_map(|(_, rows)| rows.values()).collect();
        let open = |here: &BTreeMap<JobNumber, RowView>| -> Vec<JobId> {
            let rows = here.values().chain(elsewhere.iter().copied());
            rows.filter(|row| counts(row) && of_key(row))
                .map(|row| row.id)
                .collect()
        };
        let (was, is) = (open(before), open(after));
        if is.len() > 1 {
            return Err(format!("one dedupe key, several open jobs: {} of {is:?}", dedupe.key));
        }
        if let Some(there) = was.first().filter(|there| !again && is.contains(there)) {
            return Err(format!(
                "{given} was made although {there} of the same dedupe key was there"
            ));
        }
        if again {
            self.counters.requests_deduplicated += 1;
            // A job that waits takes its policy from the latest of its requests.
            let facts = self.oracle.jobs.entry(given).or_default();
            facts.attempts_max = facts.attempts_max.max(Some(enqueue.job.policy.attempts_max));
        }
        Ok(())
    }
}
