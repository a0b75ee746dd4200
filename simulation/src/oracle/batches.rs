//! What must hold of batches: a handle's totals are those of the jobs, and nothing of a cancelled one starts or comes in.

use std::collections::BTreeMap;

use tidegate_engine::database::Database;
use tidegate_engine::jobs::{Effect, packed};
use tidegate_protocol::calls::jobs::{BatchAsk, Call, Reply};
use tidegate_protocol::http::BatchView;
use tidegate_protocol::ids::BatchId;
use tidegate_protocol::time::UnixMs;

use super::{CANCELLED, EXPIRED, FAILED, RUNNING, SUCCEEDED};
use crate::jobs::{Turn, own_reply};
use crate::world::{Check, World};

/// For how long an object that has nothing of a cancelled batch must refuse what comes of it.
const MARK_MS: u64 = 3_600_000;

/// A batch in one object.
type Part = (usize, BatchId);

/// State and token of each job, by its number. Of those past their retention, the last ones.
type Jobs = BTreeMap<u64, (u64, u64)>;

/// What is known of batches.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    jobs: BTreeMap<Part, Jobs>,
    cancelled: BTreeMap<Part, u64>,
}

impl World {
    pub(super) fn check_batches(&mut self, shard: usize, turn: &Turn, effects: &[Effect], now: UnixMs) -> Check {
        let seen = self.jobs_of_batches(shard)?;
        self.note_cancel(shard, turn, effects, &seen, now);
        for (id, jobs) in &seen {
            let part = (shard, id.clone());
            let cancelled = self.oracle.batches.cancelled.contains_key(&part);
            let known = self.oracle.batches.jobs.entry(part).or_default();
            for (number, (state, token)) in jobs {
                let old = known.insert(*number, (*state, *token));
                let starts = *state == RUNNING && old != Some((*state, *token));
                if cancelled && (old.is_none() || starts) {
                    return Err(format!("{id} was cancelled, and then came or ran {number}: {turn:?}"));
                }
                self.counters.batch_jobs += u64::from(old.is_none());
            }
        }
        // A part goes with its last job, and with it goes what was cancelled.
        let batches = &mut self.oracle.batches;
        let gone = batches
            .jobs
            .extract_if(.., |(of, id), _| *of == shard && !seen.contains_key(id));
        for (part, _) in gone {
            batches.cancelled.remove(&part);
        }
        let Batches { jobs, cancelled } = batches;
        cancelled.retain(|part, at| part.0 != shard || jobs.contains_key(part) || now.0 < *at + MARK_MS);
        self.compare_batches(shard, turn, effects)
    }

    fn jobs_of_batches(&mut self, shard: usize) -> Result<BTreeMap<BatchId, Jobs>, String> {
        let sql = "SELECT batch, number, state, token FROM job WHERE batch IS NOT NULL";
        let rows = self.shards[shard].db.run(sql, &[]).map_err(|error| error.message)?;
        let mut seen: BTreeMap<BatchId, Jobs> = BTreeMap::new();
        for mut row in rows {
            let id = row.text().map_err(|error| error.message)?;
            let id = BatchId::parse(&id).ok_or("a job of no batch")?;
            let mut number = || row.number().map_err(|error| error.message);
            let (job, state, token) = (number()?, number()?, number()?);
            seen.entry(id).or_default().insert(job, (state, token));
        }
        for job in packed(&self.shards[shard].db).map_err(|error| error.message)? {
            self.counters.batch_jobs_packed += 1;
            let id = job.spec.batch.ok_or("a packed job of no batch")?;
            seen.entry(id).or_default().insert(job.id.number().0, (job.state, 0));
        }
        Ok(seen)
    }

    fn note_cancel(
        &mut self,
        shard: usize,
        turn: &Turn,
        effects: &[Effect],
        seen: &BTreeMap<BatchId, Jobs>,
        now: UnixMs,
    ) {
        if let Turn::Handle(call, asked) = turn
            && let Call::Batch {
                batch,
                ask: BatchAsk::Cancel { .. },
                ..
            } = &**asked
            && let Some(Ok(_)) = own_reply(*call, effects)
        {
            let part = (shard, batch.clone());
            self.counters.batches_cancelled += u64::from(seen.contains_key(batch));
            self.oracle.batches.cancelled.entry(part).or_insert(now.0);
        }
    }

    /// What the object would say of each batch, and what it said of one.
    fn compare_batches(&mut self, shard: usize, turn: &Turn, effects: &[Effect]) -> Check {
        let object = &self.shards[shard];
        let Some(state) = &object.state else { return Ok(()) };
        let views = state.batch_views(&object.db).map_err(|error| error.message)?;
        let batches = &self.oracle.batches;
        for view in &views {
            let part = (shard, view.batch_id.clone());
            let none = Jobs::new();
            let jobs = batches.jobs.get(&part).unwrap_or(&none);
            let count = |fits: &dyn Fn(u64) -> bool| jobs.values().filter(|(state, _)| fits(*state)).count() as u64;
            let true_counts = [
                jobs.len() as u64,
                count(&|state| !(RUNNING..=EXPIRED).contains(&state)),
                count(&|state| state == RUNNING),
                count(&|state| state == SUCCEEDED),
                count(&|state| state == FAILED),
                count(&|state| state == CANCELLED),
                count(&|state| state == EXPIRED),
            ];
            if counts(view) != true_counts {
                return Err(format!("{view:?} is said of {jobs:?}"));
            }
            if view.cancelled_at.is_some() != batches.cancelled.contains_key(&part) {
                return Err(format!(
                    "{view:?}, and it was cancelled: {:?}",
                    batches.cancelled.get(&part)
                ));
            }
        }
        let told = |id: &BatchId| views.iter().any(|view| view.batch_id == *id);
        if let Some((_, id)) = batches.jobs.keys().find(|(of, id)| *of == shard && !told(id)) {
            return Err(format!("{id} has jobs, and nothing is known of it"));
        }
        if let Turn::Handle(call, _) = turn
            && let Some(Ok(Reply::Batch(text))) = own_reply(*call, effects)
        {
            // As text: reading a number back may change its last digit.
            let is_told = |view: &BatchView| serde_json::to_string(view).is_ok_and(|view| view == text.as_str());
            if !views.iter().any(is_told) {
                return Err(format!("{} was said, and it is {views:?}", text.as_str()));
            }
        }
        Ok(())
    }
}

fn counts(view: &BatchView) -> [u64; 7] {
    [
        view.accepted,
        view.waiting,
        view.running,
        view.succeeded,
        view.failed,
        view.cancelled,
        view.expired,
    ]
}
