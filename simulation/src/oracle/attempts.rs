//! Attempts: their tokens, what is started, and how many run at once.

use std::collections::BTreeMap;

use tidegate_engine::jobs::Effect;
use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::executor::{Execute, Outcome};
use tidegate_protocol::calls::jobs::{Call, Reply};
use tidegate_protocol::event::Payload;
use tidegate_protocol::ids::{ActionName, JobId, JobNumber, UserId};
use tidegate_protocol::time::UnixMs;

use super::{FAILED, Facts, RETRYING, RUNNING, RowView, SCHEDULED, of_limit};
use crate::jobs::{Turn, own_reply};
use crate::setting::{
    ATTEMPT_MS, ATTEMPTS_MAX, AWAY, BACKOFF_MIN_MS, BRIEF_BURST, BRIEF_INTERVAL_MS, NEWEST, ONE, RUNNING_MAX,
    SHARDS_MAX, USER_RUNNING_MAX, revision_rule,
};
use crate::world::{Check, World};

impl World {
    /// An old token changes nothing; the one that is awaited is taken. True where one was refused.
    pub(super) fn check_token(
        &mut self,
        shard: usize,
        turn: &Turn,
        effects: &[Effect],
        before: &BTreeMap<JobNumber, RowView>,
        after: &BTreeMap<JobNumber, RowView>,
        now: UnixMs,
    ) -> Result<bool, String> {
        let Turn::Handle(id, call) = turn else { return Ok(false) };
        let (job, token, outcome) = match &**call {
            Call::Report { job, token, .. } => (*job, *token, None),
            Call::Finish { job, token, outcome } => (*job, *token, Some(outcome)),
            _ => return Ok(false),
        };
        let reply = own_reply(*id, effects).ok_or("a report was not answered")?;
        let facts = self.oracle.jobs.entry(job).or_default();
        if facts.open != Some(token) {
            let code = reply.as_ref().err().map(|error| error.code);
            let row = |rows: &BTreeMap<JobNumber, RowView>| rows.get(&job.number()).copied();
            // The answer to an outcome that counted may have been lost: said again, it is done already.
            let again = match (&facts.said, outcome) {
                // For how long an attempt put itself off is no part of what is known of its end.
                (Some((of, Outcome::Snoozed { .. })), Some(Outcome::Snoozed { .. })) => *of == token,
                (Some((of, said)), Some(outcome)) => *of == token && said == outcome,
                _ => false,
            };
            let refused = code == Some(ErrorCode::LeaseLost) || (again && reply.is_ok());
            // In the same turn the time of those may be over who wait at the object for jobs or for places.
            let waited_for = |effect: &&Effect| matches!(effect, Effect::Reply { call, reply: Ok(Reply::Leased { .. } | Reply::Places(_)) } if call != id);
            let of_its_own = effects.iter().filter(|effect| !waited_for(effect)).count();
            if !refused || row(before) != row(after) || of_its_own != 1 {
                return Err(format!(
                    "{job}: token {} counted, {:?} is awaited: {reply:?}",
                    token.0, facts.open
                ));
            }
            return Ok(true);
        }
        if reply.is_err() {
            return Err(format!("{job}: the awaited token {} was refused: {reply:?}", token.0));
        }
        let (events, fresh) = facts.note_report(call);
        let sign = fresh
            || matches!(&**call, Call::Report { progress, checkpoint, .. } if progress.is_some() || checkpoint.is_some());
        let places = |rows: &BTreeMap<JobNumber, RowView>| rows.get(&job.number()).map(|row| row.seq);
        if outcome.is_none()
            && let Some(place) = places(after)
            && place - places(before).unwrap_or(1) != events * u64::from(places(before).is_some() || fresh)
        {
            return Err(format!(
                "{job}: {events} events of {call:?}, from {:?} to {place}",
                places(before)
            ));
        }
        self.counters.notes_doubled += u64::from(matches!(&**call, Call::Report { notes: Some(_), .. }) && !fresh);
        let facts = self.oracle.jobs.entry(job).or_default();
        if sign {
            facts.sign_at = now.0;
        } else if outcome.is_none() && before.get(&job.number()) != after.get(&job.number()) {
            return Err(format!("{job}: a heartbeat changed its row, as if it were progress"));
        }
        let Some(outcome) = outcome else { return Ok(false) };
        facts.open = None;
        facts.said = Some((token, outcome.clone()));
        let state = after.get(&job.number()).map(|row| row.state);
        match outcome {
            Outcome::Failed { error } if error.retryable && state == Some(RETRYING) => {
                let least = error.retry_after_ms.unwrap_or(0).max(BACKOFF_MIN_MS);
                facts.not_before = now.plus(least).0;
                self.counters.retried += 1;
            }
            Outcome::Failed { error }
                if error.retryable
                    && state == Some(FAILED)
                    && facts.attempts_max.is_some_and(|max| facts.attempt < max) =>
            {
                if facts.end_by.is_none() {
                    return Err(format!(
                        "{job} was not tried again, with {} of {:?} attempts",
                        facts.attempt, facts.attempts_max
                    ));
                }
                self.counters.retries_without_time += 1;
            }
            Outcome::Unfinished => self.counters.unfinished += 1,
            Outcome::Snoozed { .. } if facts.stop_by.is_some() => {}
            // The place that it left was free: it goes on at once.
            Outcome::Snoozed { ms: 0 } if state == Some(RUNNING) => self.counters.snoozed += 1,
            Outcome::Snoozed { ms } => {
                if state != Some(SCHEDULED) {
                    return Err(format!("{job} put itself off, and its state is {state:?}"));
                }
                facts.not_before = now.plus(*ms).0;
                facts.snoozed = Some(facts.attempt);
                self.counters.snoozed += 1;
            }
            Outcome::Succeeded { .. } if state.is_none() => self.counters.jobs_unstored += 1,
            Outcome::Failed { error }
                if error.retryable && state.is_none_or(|state| state < 4) && facts.attempt == 0 =>
            {
                return Err(format!("shard {shard}: {job} failed before it began"));
            }
            _ => {}
        }
        Ok(false)
    }

    pub(super) fn check_effect(
        &mut self,
        shard: usize,
        effect: &Effect,
        after: &BTreeMap<JobNumber, RowView>,
        now: UnixMs,
    ) -> Check {
        match effect {
            Effect::Execute(execute) => {
                let action = self
                    .oracle
                    .jobs
                    .get(&execute.job)
                    .and_then(|facts| facts.action.as_ref());
                if action.is_some_and(|action| action.as_str() == AWAY) {
                    return Err(format!("{} was given to the executor", execute.job));
                }
                self.check_execution(shard, execute, after, now)
            }
            Effect::Abandon { job, token } => {
                let facts = self.oracle.jobs.entry(*job).or_default();
                if facts.open == Some(*token) {
                    facts.open = None;
                    let row = after.get(&job.number());
                    self.counters.leases_lost += u64::from(!row.is_some_and(RowView::ended));
                    let failed = row.is_some_and(|row| row.state == RETRYING);
                    let out_of_time = now.0 >= facts.began_at + ATTEMPT_MS;
                    let silent = facts.silence.is_some_and(|ms| now.0 >= facts.sign_at + ms);
                    if failed && !out_of_time && !silent {
                        return Err(format!("{job}: an attempt failed before its time was over"));
                    }
                    self.counters.attempts_silent += u64::from(failed && silent && !out_of_time);
                    if failed {
                        facts.not_before = now.plus(BACKOFF_MIN_MS).0;
                    }
                }
                Ok(())
            }
            Effect::Deliver { delivery, .. } => self.oracle.note(delivery.job, &delivery.event),
            Effect::Reply { reply: Ok(reply), .. } => match reply {
                Reply::Acknowledged { job, seq, .. } => {
                    let row = after.get(&job.number()).filter(|row| row.id == *job);
                    if row.is_none_or(|row| row.seq < seq.0) {
                        return Err(format!("{job} is acknowledged at {seq:?}, and its row is {row:?}"));
                    }
                    self.oracle.jobs.entry(*job).or_default().acknowledged = true;
                    Ok(())
                }
                Reply::Ended { job, event, .. } => self.oracle.note(*job, event),
                Reply::Elsewhere { .. } => {
                    self.counters.handed_on += 1;
                    Ok(())
                }
                Reply::Leased { jobs, .. } => jobs
                    .iter()
                    .try_for_each(|job| self.check_execution(shard, job, after, now)),
                Reply::Following { job, events, .. } => {
                    events.iter().try_for_each(|event| self.oracle.note(*job, event))
                }
                _ => Ok(()),
            },
            Effect::Reply { reply: Err(_), .. }
            | Effect::RingDoorbell { .. }
            | Effect::DeleteBlobs { .. }
            | Effect::Record { .. }
            | Effect::TellChanges { .. }
            | Effect::Probe { .. }
            | Effect::Tell { .. } => Ok(()),
        }
    }

    pub(super) fn check_execution(
        &mut self,
        shard: usize,
        execute: &Execute,
        after: &BTreeMap<JobNumber, RowView>,
        now: UnixMs,
    ) -> Check {
        let tenant = &self.tenants[self.shards[shard].tenant].id;
        let job = execute.job;
        let facts = self.oracle.jobs.entry(job).or_default();
        let row = after.get(&job.number()).filter(|row| row.id == job);
        if facts.user.as_ref() != Some(&execute.user) {
            return Err(format!("{job} of {tenant} runs for {}", execute.user));
        }
        let mark = format!("{tenant}/{}", execute.user);
        let blobs = &self.blobs;
        let text = match &execute.payload {
            Payload::Inline(text) => Some(text),
            Payload::Stored { key, .. } => blobs.get(key),
        };
        if !text.is_some_and(|text| text.as_str().contains(&mark)) {
            return Err(format!("{job} of {mark} runs on {:?}", execute.payload));
        }
        if execute.runs != revision_rule(execute.action.as_str()) {
            return Err(format!("{job} of {} runs with {:?}", execute.action, execute.runs));
        }
        if let Some(open) = facts.open {
            return Err(format!(
                "{job} runs under {} and under {} at once",
                open.0, execute.token.0
            ));
        }
        if execute.token.0 <= facts.last_token || execute.attempt < facts.attempt {
            return Err(format!(
                "{job} runs under token {} after {}",
                execute.token.0, facts.last_token
            ));
        }
        if execute.attempt > facts.attempts_max.unwrap_or(ATTEMPTS_MAX) {
            return Err(format!(
                "{job} has attempt {} of {:?}",
                execute.attempt, facts.attempts_max
            ));
        }
        if let Some(attempt) = facts.snoozed.take()
            && attempt != execute.attempt
        {
            return Err(format!(
                "{job} put off attempt {attempt}, and goes on with {}",
                execute.attempt
            ));
        }
        let first_by = facts.first_by.filter(|_| facts.attempt == 0);
        if first_by.into_iter().chain(facts.end_by).any(|at| at <= now.0) {
            return Err(format!(
                "{job} runs although its time is over: {:?} {:?}",
                first_by, facts.end_by
            ));
        }
        if execute.attempt > facts.attempt {
            facts.began_at = now.0;
        }
        facts.sign_at = now.0;
        if now.0 < facts.not_before {
            return Err(format!("{job} runs {} ms early", facts.not_before - now.0));
        }
        if row.is_some_and(|row| row.state != RUNNING || row.token != execute.token) {
            return Err(format!("{job} runs under {} and its row is {row:?}", execute.token.0));
        }
        facts.open = Some(execute.token);
        facts.last_token = execute.token.0;
        facts.attempt = execute.attempt;
        // It began in time; a clock that jumps back from here on does not undo that.
        facts.not_before = 0;
        let (user, action) = (facts.user.clone(), facts.action.clone());
        self.check_limits(shard, job, user, action, now)
    }

    /// No job starts that is held back, and no start exceeds a limit.
    pub(super) fn check_limits(
        &mut self,
        shard: usize,
        job: JobId,
        user: Option<UserId>,
        action: Option<ActionName>,
        now: UnixMs,
    ) -> Check {
        let (Some(user), Some(action)) = (user, action) else {
            return Err(format!("{job} runs, and nobody asked for it"));
        };
        if self.oracle.pauses(shard, &user, &action) {
            return Err(format!("{job} of {user} runs `{action}` while it is paused"));
        }
        let tenant = self.shards[shard].tenant;
        let running = |facts: &&Facts| facts.open.is_some() && self.shards[facts.shard].tenant == tenant;
        let of = |facts: &Facts, names: &[&str]| facts.action.as_ref().is_some_and(|a| names.contains(&a.as_str()));
        let all = self
            .oracle
            .jobs
            .values()
            .filter(running)
            .filter(|facts| of(facts, &["work", "back", AWAY]));
        if all.count() > RUNNING_MAX && of_limit(&action) {
            return Err(format!("more than {RUNNING_MAX} run as {job} starts"));
        }
        let own = |facts: &&Facts| of(facts, &["work"]) && facts.user.as_ref() == Some(&user);
        let each = self.oracle.jobs.values().filter(running).filter(own).count();
        if each > USER_RUNNING_MAX && action.as_str() == "work" {
            return Err(format!("more than {USER_RUNNING_MAX} of {user} run as {job} starts"));
        }
        let ones = self.oracle.jobs.values().filter(running);
        let ones = ones.filter(|facts| facts.action.as_ref() == Some(&action));
        let others = match action.as_str() {
            ONE => ones.count(),
            NEWEST => ones.filter(|facts| facts.user.as_ref() == Some(&user)).count(),
            _ => 0,
        };
        if others > 1 {
            return Err(format!("{others} of `{action}` run as {job} starts"));
        }
        if action.as_str() == "brief" {
            let latest = self.latest_clock.max(now.0);
            let starts = self.oracle.brief.entry(tenant).or_default();
            // GCRA: in any stretch of time, no more than its burst and what comes in meanwhile.
            for (number, earlier) in starts.iter().rev().enumerate() {
                let count = number as u64 + 2;
                let allowed = u64::from(BRIEF_BURST)
                    + (latest.saturating_sub(*earlier)) / BRIEF_INTERVAL_MS
                    + u64::from(SHARDS_MAX);
                if count > allowed {
                    return Err(format!("{count} starts of `brief` in {} ms", latest - earlier));
                }
            }
            starts.push(now.0);
            self.counters.throttled_starts += 1;
        }
        Ok(())
    }
}
