//! What must hold of retries, redrives and dead letters: one new job for each redrive, and an end that stays.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_engine::database::{Database, Row, Value, from_blob};
use tidegate_engine::jobs::Effect;
use tidegate_protocol::calls::jobs::{Call, ManyAction, Reply};
use tidegate_protocol::event::{Happening, JsonText, Payload};
use tidegate_protocol::http::{AuditWhat, BulkItem, DeadLetterPage, Job};
use tidegate_protocol::ids::{JobId, JobNumber};

use super::{Oracle, RETRYING, RUNNING, RowView};
use crate::jobs::{Turn, own_reply};
use crate::world::{Check, World};

/// How states are stored.
const SCHEDULED: u64 = 0;
const SUCCEEDED: u64 = 4;
const FAILED: u64 = 5;
const EXPIRED: u64 = 7;

type Rows = BTreeMap<JobNumber, RowView>;

impl Oracle {
    /// Whether a job that is still kept ended without a result.
    pub fn came_to_nothing(&self, job: JobId) -> bool {
        self.jobs.get(&job).is_some_and(|facts| {
            let last = facts.events.last_key_value().map(|(_, event)| &event.what);
            !facts.swept && matches!(last, Some(Happening::Failed { .. }))
        })
    }

    /// Whether a job waits for its time.
    pub fn waits(&self, job: JobId) -> bool {
        let mut rows = self.rows.values().filter_map(|rows| rows.get(&job.number()));
        rows.any(|row| row.id == job && matches!(row.state, SCHEDULED | RETRYING))
    }

    /// A client was told that `next` does `job` again.
    pub fn check_redriven(&self, job: JobId, next: JobId) -> Check {
        if self.redriven.get(&next) == Some(&job) {
            return Ok(());
        }
        Err(format!("{job} is said to be redriven as {next}, which is not so"))
    }

    /// What was enqueued or redriven has ended, is forgotten, or is still there: nothing else.
    pub(super) fn count_at_rest(&self) -> Check {
        let stored = self.jobs.values().filter(|facts| facts.stored).count();
        let swept = self.jobs.values().filter(|facts| facts.swept).count();
        let rows = || self.rows.values().flat_map(BTreeMap::values);
        let (ended, live) = (
            rows().filter(|row| row.ended()).count(),
            rows().filter(|row| !row.ended()).count(),
        );
        if stored != live + ended + swept {
            return Err(format!(
                "{stored} jobs were stored; {live} live, {ended} have ended, {swept} are forgotten"
            ));
        }
        Ok(())
    }
}

impl World {
    /// Links between old and new jobs, and what the calls that make them answer.
    pub(super) fn check_again(
        &mut self,
        shard: usize,
        turn: &Turn,
        effects: &[Effect],
        before: &Rows,
        after: &Rows,
    ) -> Check {
        let made = self.check_links(shard, before, after)?;
        let Turn::Handle(id, call) = turn else {
            return no_redrive(turn, &made);
        };
        let reply = own_reply(*id, effects);
        match (&**call, reply) {
            (Call::Retry { job, .. }, Some(Ok(Reply::Job(tried)))) => {
                self.check_retry(*job, tried, &made, before, after)?;
                if !made.is_empty() {
                    self.note_act(shard, AuditWhat::JobRetried);
                }
            }
            (
                Call::Many {
                    action, dry_run: false, ..
                },
                Some(Ok(Reply::Many { jobs, .. })),
            ) => {
                self.check_many(action, jobs, &made)?;
                if !made.is_empty() {
                    self.note_act(shard, AuditWhat::DeadLettersRedriven);
                }
            }
            (Call::Many { dry_run: true, .. }, _) => {
                self.counters.dry_runs += 1;
                if before != after || effects.len() != 1 {
                    return Err(format!("a dry run did something: {effects:?}"));
                }
            }
            (Call::DeadLetters { caller, .. }, Some(Ok(Reply::DeadLetters(page)))) => {
                let own = |row: &&RowView| self.oracle.jobs[&row.id].user.as_ref() == Some(&caller.user);
                let lost = self.lost_doorbells(shard)?;
                let dead: Vec<JobId> = after
                    .values()
                    .filter(own)
                    .filter(|row| row.dead() || lost.contains(&row.id.number()))
                    .map(|row| row.id)
                    .collect();
                check_letters(page, &dead)?;
                self.counters.letters_seen += dead.len() as u64;
            }
            _ => no_redrive(turn, &made)?,
        }
        let fresh = after.keys().filter(|number| !before.contains_key(number)).count();
        if matches!(&**call, Call::Retry { .. } | Call::Many { .. }) && fresh != made.len() {
            return Err(format!("{fresh} jobs came out of {} redrives", made.len()));
        }
        Ok(())
    }

    /// Each old job is linked once, after its end, to a new job of the same turn, which is nobody else's.
    fn check_links(&mut self, shard: usize, before: &Rows, after: &Rows) -> Result<BTreeSet<JobId>, String> {
        let mut made = BTreeSet::new();
        for (number, new) in after {
            let old = before.get(number);
            let (linked, discarded) = old.map_or((None, None), |old| (old.redriven_to, old.discarded_at));
            if discarded.is_some() && discarded != new.discarded_at {
                return Err(format!("{} was discarded, and then {new:?}", new.id));
            }
            self.counters.jobs_discarded += u64::from(discarded != new.discarded_at);
            if linked == new.redriven_to {
                continue;
            }
            let (None, Some(next)) = (linked, new.redriven_to) else {
                return Err(format!("{} was redriven as {linked:?}, and then {new:?}", new.id));
            };
            let there = after.get(&next.number()).is_some_and(|row| row.id == next);
            let ended = old.is_some_and(RowView::ended) && new.state != SUCCEEDED;
            if !ended || !there || before.contains_key(&next.number()) || !made.insert(next) {
                return Err(format!("{new:?} cannot have been redriven as {next}"));
            }
            self.oracle.redriven.insert(next, new.id);
            self.counters.jobs_redriven += 1;
            self.counters.payloads_passed_on += u64::from(self.gave_its_payload(shard, new.id)?);
            let old = self.oracle.jobs.entry(new.id).or_default();
            let (user, action, attempts_max) = (old.user.clone(), old.action.clone(), old.attempts_max);
            let (limits_ms, silence, now) = (old.limits_ms, old.silence, self.clock().0);
            let facts = self.oracle.jobs.entry(next).or_default();
            (facts.user, facts.action, facts.attempts_max) = (user, action, attempts_max);
            (facts.limits_ms, facts.silence, facts.acknowledged) = (limits_ms, silence, true);
            facts.limited_from(now);
        }
        Ok(made)
    }

    /// A doorbell came out of the queue of the dead: it is noted with its job, where that is there.
    pub(super) fn note_lost_doorbell(&mut self, shard: usize, job: JobId, before: &Rows, after: &Rows) -> Check {
        self.counters.doorbells_dead += 1;
        let there = |rows: &Rows| rows.get(&job.number()).is_some_and(|row| row.id == job);
        let noted = self.lost_doorbells(shard)?.contains(&job.number());
        if there(before) && there(after) && !noted {
            return Err(format!("{job} lost its doorbell, and nobody is told"));
        }
        Ok(())
    }

    /// The jobs of which a lost doorbell is noted.
    fn lost_doorbells(&self, shard: usize) -> Result<BTreeSet<JobNumber>, String> {
        let rows = self.shards[shard].db.run("SELECT number FROM lost_doorbell", &[]);
        let numbers = rows.map_err(|error| error.message)?.into_iter();
        let number = |mut row: Row| row.number().map(JobNumber).map_err(|error| error.message);
        numbers.map(number).collect()
    }

    /// Whether an old job has no payload any more.
    fn gave_its_payload(&self, shard: usize, job: JobId) -> Result<bool, String> {
        let rows = self.shards[shard].db.run(
            "SELECT payload FROM job WHERE number = CAST(? AS INTEGER)",
            &[Value::Number(job.number().0)],
        );
        let row = rows.map_err(|error| error.message)?.pop();
        let bytes = row.ok_or("an old job is gone")?.blob().map_err(|error| error.message)?;
        let payload: Payload = from_blob(&bytes).map_err(|error| error.message)?;
        Ok(payload == Payload::Inline(JsonText::null()))
    }

    fn check_retry(&mut self, job: JobId, tried: &Job, made: &BTreeSet<JobId>, before: &Rows, after: &Rows) -> Check {
        let number = job.number();
        if after
            .get(&tried.job_id.number())
            .is_none_or(|row| row.id != tried.job_id)
            && tried.job_id == job
        {
            return Err(format!("{job} is retried, and not there"));
        }
        if tried.job_id != job {
            self.counters.redrives_repeated += u64::from(made.is_empty());
            if made.first().is_some_and(|next| *next != tried.job_id) {
                return Err(format!(
                    "{job} was redriven as {made:?}, and answered by {}",
                    tried.job_id
                ));
            }
            return self.oracle.check_redriven(job, tried.job_id);
        }
        if let Some(SCHEDULED | RETRYING) = before.get(&number).map(|row| row.state) {
            self.counters.retried_early += 1;
            self.oracle.jobs.entry(job).or_default().not_before = 0;
        }
        let now = self.clock().0;
        let gives_up = before
            .get(&number)
            .and_then(|row| row.give_up_at)
            .is_some_and(|at| at <= now);
        match after.get(&number).map(|row| (row.state, row.due_at)) {
            Some((RUNNING, _)) => Ok(()),
            Some((state, Some(_))) if state < RUNNING => Ok(()),
            // Due now, and its time was over: the claim gave it up.
            Some((FAILED | EXPIRED, _)) if gives_up => Ok(()),
            other => Err(format!("{job} was retried, and is {other:?}")),
        }
    }

    fn check_many(&mut self, action: &ManyAction, jobs: &[BulkItem], made: &BTreeSet<JobId>) -> Check {
        let told: BTreeSet<JobId> = jobs
            .iter()
            .filter(|item| item.run_at.is_some())
            .filter_map(|item| item.redriven_to)
            .collect();
        if told != *made || (!made.is_empty() && !matches!(action, ManyAction::Redrive { .. })) {
            return Err(format!("{action:?} made {made:?} and told {jobs:?}"));
        }
        let now = self.clock();
        for item in jobs {
            if let (Some(next), Some(at)) = (item.redriven_to, item.run_at) {
                let facts = self.oracle.jobs.entry(next).or_default();
                facts.not_before = at.0;
                facts.limited_from(at.max(now).0);
            }
        }
        Ok(())
    }
}

impl RowView {
    fn dead(&self) -> bool {
        self.state == FAILED && self.redriven_to.is_none() && self.discarded_at.is_none()
    }
}

fn no_redrive(turn: &Turn, made: &BTreeSet<JobId>) -> Check {
    if made.is_empty() {
        return Ok(());
    }
    Err(format!("{made:?} came of {turn:?}"))
}

fn check_letters(page: &DeadLetterPage, dead: &[JobId]) -> Check {
    let mut told: Vec<JobId> = page.dead_letters.iter().map(|letter| letter.job_id).collect();
    told.reverse();
    if page.cursor.is_some() || told == dead {
        return Ok(());
    }
    Err(format!("the dead letters are {dead:?}, and {told:?} were listed"))
}
