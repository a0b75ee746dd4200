//! One piece of work, once: what a request's own key, and what it says of itself, must lead to.

use std::collections::BTreeMap;

use tidegate_protocol::Error;
use tidegate_protocol::calls::jobs::{Enqueue, Reply};
use tidegate_protocol::calls::once::{DedupeRule, Once};
use tidegate_protocol::calls::spread::owner;
use tidegate_protocol::ids::{JobId, JobNumber};
use tidegate_protocol::time::UnixMs;

use super::{RowView, SUCCEEDED};
use crate::setting::{KEY_LIFE_MS, short_lived};
use crate::world::{Check, Tenant, World};

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

    /// The same tenant, action and key: the same job, for as long as the key lives. A job that has not ended keeps it.
    pub(super) fn check_key(
        &mut self,
        shard: usize,
        enqueue: &Enqueue,
        reply: Option<&Result<Reply, Error>>,
        before: &BTreeMap<JobNumber, RowView>,
        now: UnixMs,
    ) -> Check {
        let (Some(keyed), Some(Ok(reply))) = (&enqueue.keyed, reply) else {
            return Ok(());
        };
        let job = match reply {
            Reply::Acknowledged { job, .. } | Reply::Ended { job, .. } => *job,
            Reply::Elsewhere { .. } => return Ok(()),
            _ => return Err(format!("a request was answered by {reply:?}")),
        };
        let tenant = self.shards[shard].tenant;
        let Tenant { scale, first_shard, .. } = &self.tenants[tenant];
        let first = first_shard + usize::from(owner(enqueue.partition, scale.shards).0);
        self.counters.keys_moved += u64::from(first != shard);
        let Some(key) = key_name(enqueue) else { return Ok(()) };
        let of_values = !key.1.is_empty();
        let name = (tenant, enqueue.job.action.as_str().to_owned(), key);
        if !of_values
            && let Some((other, _)) = self
                .oracle
                .keys
                .iter()
                .find(|(other, known)| known.job == job && **other != name)
        {
            return Err(format!("one job, two keys: {job} of {name:?} and {other:?}"));
        }
        let known = self.oracle.keys.get(&name);
        let of = known.and_then(|known| self.oracle.shard_of(known.job));
        let since = known.map_or(0, |known| known.since);
        let moved = of.is_some_and(|of| of != shard);
        // Another object has said that its key is free: the clock may have jumped back since.
        let at = if moved { self.latest_clock } else { now.0 };
        let lapsed = |row: &RowView| {
            let of_life = short_lived(&enqueue.job.action) && row.ended();
            let since = if of_values { since } else { row.created_at };
            of_life && (row.state != SUCCEEDED || at >= since + KEY_LIFE_MS)
        };
        let rows = of.and_then(|of| self.oracle.rows.get(&of)).unwrap_or(before);
        let over = known
            .and_then(|known| rows.get(&known.job.number()))
            .is_some_and(lapsed);
        if over {
            if known.is_some_and(|known| known.job == job) && !of_values {
                return Err(format!("{job} was given for a key that names it no longer"));
            }
            self.counters.keys_freed += 1;
            self.oracle.keys.remove(&name);
        }
        if of_values && !self.oracle.keys.contains_key(&name) {
            // Another body may have taken the key, where it was free.
            let oracle = &mut self.oracle;
            let here = |job: JobId| oracle.jobs.get(&job).is_some_and(|facts| facts.shard == shard);
            let same_key = |(of, action, (key, _)): &(usize, String, (String, String))| {
                (*of, action, key) == (name.0, &name.1, &name.2.0)
            };
            oracle.keys.retain(|other, known| !(same_key(other) && here(known.job)));
            self.counters.keys_joined += u64::from(before.contains_key(&job.number()));
        }
        // The answer to the request that made the job may have been its outcome, or lost: its key counts from then on.
        let made_under = self.oracle.jobs.get(&job).and_then(|facts| facts.made_under.as_ref());
        let since = made_under
            .filter(|(made, _)| *made == name.2)
            .map_or(now.0, |(_, at)| *at);
        let known = self.oracle.keys.entry(name).or_insert_with(|| KeyFacts {
            job,
            fingerprint: keyed.fingerprint.clone(),
            since,
        });
        if known.job != job {
            return Err(format!("one key, two jobs: {} and {job}", known.job));
        }
        if known.fingerprint != keyed.fingerprint {
            return Err(format!("{job} answered another request with its key"));
        }
        Ok(())
    }
}
