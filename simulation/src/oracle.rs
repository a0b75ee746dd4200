//! What must always hold. It sees every commit, and knows nothing of how the engine decides.

mod again;
mod batches;
mod changed;
mod left;
mod notes;
mod once;
mod started;

use std::collections::{BTreeMap, BTreeSet};

use tidegate_engine::database::{Database, Value};
use tidegate_engine::jobs::{Effect, State};
use tidegate_protocol::calls::executor::{Execute, Outcome};
use tidegate_protocol::calls::jobs::{Call, Enqueue, Reply};
use tidegate_protocol::calls::once::Once;
use tidegate_protocol::calls::queueing::{Pause, PauseScope};
use tidegate_protocol::calls::spread::{Growth, Standing, owner};
use tidegate_protocol::event::{Event, Happening, Payload};
use tidegate_protocol::http::AuditWhat;
use tidegate_protocol::ids::{ActionName, FencingToken, JobId, JobNumber, UserId};
use tidegate_protocol::time::UnixMs;
use tidegate_protocol::{Error, ErrorCode};

use self::once::{KeyFacts, key_name};
use crate::jobs::{Turn, own_reply};
use crate::schedules::Ticks;
use crate::setting::{
    ATTEMPT_MS, ATTEMPTS_MAX, AWAY, BACKOFF_MIN_MS, BRIEF_BURST, BRIEF_INTERVAL_MS, KEY_LIFE_MS, LEASE_MS, RUNNING_MAX,
    SHARDS_MAX, USER_RUNNING_MAX, revision_rule, short_lived,
};
use crate::world::{Check, Tenant, World};

/// The numbers of a row, as the engine stored them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowView {
    id: JobId,
    state: u64,
    due_at: Option<u64>,
    token: FencingToken,
    attempt: u64,
    seq: u64,
    expires_at: Option<u64>,
    changed_at: u64,
    give_up_at: Option<u64>,
    redriven_to: Option<JobId>,
    discarded_at: Option<u64>,
    created_at: u64,
    /// Whether someone holds it back, or has cancelled its attempt.
    controlled: bool,
    started_at: Option<u64>,
}

/// How states are stored.
const SCHEDULED: u64 = 0;
const RETRYING: u64 = 2;
const RUNNING: u64 = 3;
const SUCCEEDED: u64 = 4;
const FAILED: u64 = 5;
const CANCELLED: u64 = 6;
const EXPIRED: u64 = 7;
const PAUSED: u64 = 8;

impl RowView {
    /// Without what may still change after the end: whether it is delivered, and what becomes of a dead letter.
    fn as_it_ended(&self) -> Self {
        Self {
            due_at: None,
            redriven_to: None,
            discarded_at: None,
            ..*self
        }
    }

    fn ended(&self) -> bool {
        (SUCCEEDED..=EXPIRED).contains(&self.state)
    }
}

/// What is known of a job.
#[derive(Debug, Default)]
struct Facts {
    /// The limits on the wait for a first attempt, and on the whole. Milliseconds.
    limits_ms: (Option<u64>, Option<u64>),
    shard: usize,
    user: Option<UserId>,
    action: Option<ActionName>,
    /// The token of the attempt whose outcome is awaited.
    open: Option<FencingToken>,
    /// The key that its action found in its request.
    dedupe: Option<String>,
    /// The latest outcome that counted.
    said: Option<(FencingToken, Outcome)>,
    last_token: u64,
    attempt: u32,
    not_before: u64,
    /// `None`: whatever its revision allows.
    attempts_max: Option<u32>,
    /// When it must have had its first attempt.
    first_by: Option<u64>,
    /// When it must have ended.
    end_by: Option<u64>,
    /// How long an attempt may give no sign of its own.
    silence: Option<u64>,
    /// When it must have ended because it was cancelled.
    stop_by: Option<u64>,
    /// When the attempt under way began, and when it gave its last sign of its own.
    began_at: u64,
    sign_at: u64,
    /// The attempt that put itself off, until it runs again.
    snoozed: Option<u32>,
    stored: bool,
    /// It had no row when its object died: nobody was promised anything.
    forgotten: bool,
    swept: bool,
    acknowledged: bool,
    events: BTreeMap<u64, Event>,
    told_end: bool,
    /// The latest notes that counted, and under which token.
    noted: Option<(FencingToken, u64)>,
}

impl Facts {
    /// The limits of time count from `from`.
    fn limited_from(&mut self, from: u64) {
        self.first_by = self.limits_ms.0.map(|ms| from + ms);
        self.end_by = self.limits_ms.1.map(|ms| from + ms);
    }
}

/// Everything that was committed.
#[derive(Debug, Default)]
pub struct Oracle {
    jobs: BTreeMap<JobId, Facts>,
    rows: BTreeMap<usize, BTreeMap<JobNumber, RowView>>,
    undelivered: BTreeMap<usize, bool>,
    /// By tenant, action, and what the request says it is.
    keys: BTreeMap<(usize, String, (String, String)), KeyFacts>,
    /// What each object holds back.
    paused: BTreeSet<(usize, PauseScope)>,
    /// What was done by hand.
    pub acts: crate::trail::Acts,
    /// When each tenant started jobs of `brief`.
    brief: BTreeMap<usize, Vec<u64>>,
    /// Which new objects have woken up, at which growth.
    woken: BTreeSet<(usize, usize)>,
    /// What the old objects of a tenant held back as they were sealed, by the tenant.
    pub(crate) owed: BTreeMap<usize, BTreeSet<PauseScope>>,
    pub(crate) ticks: Ticks,
    /// Which job each new job of a redrive does again.
    redriven: BTreeMap<JobId, JobId>,
    batches: batches::Batches,
    company: BTreeMap<JobId, left::Company>,
}

impl Oracle {
    /// The event of a job.
    pub fn event(&self, job: JobId, seq: u64) -> Option<&Event> {
        self.jobs.get(&job)?.events.get(&seq)
    }

    /// A job whose owner is known although no client asked for it.
    pub fn owned(&mut self, job: JobId, user: UserId) {
        let facts = self.jobs.entry(job).or_default();
        facts.user.get_or_insert(user);
        facts.action = ActionName::parse("work");
    }

    /// Where the job lies.
    pub fn shard_of(&self, job: JobId) -> Option<usize> {
        self.jobs.get(&job).map(|facts| facts.shard)
    }

    /// Whether the job is past its retention.
    pub fn swept(&self, job: JobId) -> bool {
        self.jobs.get(&job).is_some_and(|facts| facts.swept)
    }

    /// A client was told that the job is stored.
    pub fn check_acknowledged(&self, job: JobId) -> Check {
        match self.jobs.get(&job) {
            Some(facts) if facts.stored => Ok(()),
            _ => Err(format!("{job} was acknowledged, and is not stored")),
        }
    }

    /// A client was given the result of a job.
    pub fn check_result(&self, job: JobId, text: &str) -> Check {
        let facts = self
            .jobs
            .get(&job)
            .ok_or_else(|| format!("the result of an unknown job: {text}"))?;
        match facts.events.last_key_value().map(|(_, event)| &event.what) {
            Some(Happening::Completed {
                result: Payload::Inline(value),
            }) if text.contains(value.as_str()) => Ok(()),
            other => Err(format!("{job} gave {text}, and ended with {other:?}")),
        }
    }

    /// An object lost its memory: jobs without a row are gone, and nobody was told that they are stored.
    pub fn forgotten(&mut self, shard: usize) {
        for facts in self
            .jobs
            .values_mut()
            .filter(|facts| facts.shard == shard && !facts.stored)
        {
            facts.open = None;
            facts.forgotten = true;
        }
    }

    /// A job that has not ended, or whose end is not delivered.
    pub fn unsettled(&self) -> Option<String> {
        let open = self.rows.values().flat_map(BTreeMap::values).find(|row| !row.ended());
        if let Some(row) = open {
            return Some(format!("{} has not ended: {row:?}", row.id));
        }
        let running = self.jobs.iter().find(|(_, facts)| facts.open.is_some());
        if let Some((job, _)) = running {
            return Some(format!("{job} still runs"));
        }
        self.undelivered
            .values()
            .any(|some| *some)
            .then(|| "an end is not delivered".to_owned())
    }

    /// In the end every job that was stored has ended once.
    pub fn at_rest(&self) -> Check {
        for (job, facts) in self.jobs.iter().filter(|(_, facts)| facts.stored || facts.acknowledged) {
            let row = self
                .rows
                .get(&facts.shard)
                .and_then(|rows| rows.get(&job.number()))
                .filter(|row| row.id == *job);
            if !facts.swept && !row.is_some_and(RowView::ended) {
                return Err(format!("{job} was stored, and has no end: {row:?}"));
            }
            let ends = facts.events.values().filter(|event| event.what.is_terminal()).count();
            if ends > 1 || (facts.told_end && ends != 1) {
                return Err(format!("{job} ended {ends} times"));
            }
        }
        self.count_at_rest()
    }

    /// What is held back, and where.
    pub fn paused(&self) -> Vec<(usize, PauseScope)> {
        self.paused.iter().cloned().collect()
    }

    /// Whether an object holds back the jobs of a user or an action.
    fn pauses(&self, shard: usize, user: &UserId, action: &ActionName) -> bool {
        self.paused.iter().any(|(of, scope)| {
            *of == shard
                && match scope {
                    PauseScope::Tenant => true,
                    PauseScope::Action(pattern) => pattern.matches(action),
                    PauseScope::Key(key) => key == user.as_str(),
                }
        })
    }

    /// Notes an event that someone is told of: the same for all, in order, one end.
    fn note(&mut self, job: JobId, event: &Event) -> Check {
        let facts = self.jobs.entry(job).or_default();
        if let Some(known) = facts.events.get(&event.seq.0) {
            return if known == event {
                Ok(())
            } else {
                Err(format!("{job}: {event:?} and {known:?}"))
            };
        }
        let before = facts.events.range(..event.seq.0).next_back().map(|(_, event)| event);
        let after = facts.events.range(event.seq.0..).next().map(|(_, event)| event);
        if before.is_some_and(|before| before.what.is_terminal()) || (event.what.is_terminal() && after.is_some()) {
            return Err(format!("{job} went on after its end: {event:?}"));
        }
        if before.is_some_and(|before| before.attempt > event.attempt) {
            return Err(format!("{job} went back an attempt: {event:?} after {before:?}"));
        }
        let right_before = before.filter(|before| before.seq.next() == event.seq);
        notes::check_output(job, right_before, event)?;
        started::check_told(job, &facts.events, event)?;
        let percentage = |event: &Event| match &event.what {
            Happening::Progress(progress) => Some((event.attempt, progress.percentage)),
            _ => None,
        };
        if let (Some((a, one)), Some((b, two))) = (before.and_then(percentage), percentage(event))
            && a == b
            && two < one
        {
            return Err(format!("{job} went from {one} back to {two}"));
        }
        facts.told_end |= event.what.is_terminal();
        facts.events.insert(event.seq.0, event.clone());
        Ok(())
    }
}

fn of_limit(action: &ActionName) -> bool {
    matches!(action.as_str(), "work" | "back" | AWAY)
}

fn read_rows(db: &impl Database) -> Result<BTreeMap<JobNumber, RowView>, String> {
    let rows = db
        .run(
            "SELECT number, tail, state, due_at, token, attempt, seq, expires_at, changed_at, give_up_at, discarded_at,
                created_at, control IS NOT NULL, started_at, redriven_to
            FROM job ORDER BY number",
            &[],
        )
        .map_err(|error| error.message)?;
    let mut views = BTreeMap::new();
    for mut row in rows {
        let mut number = || row.optional_number().map_err(|error| error.message);
        let mut whole = || number().map(Option::unwrap_or_default);
        let job = JobNumber(whole()?);
        let id = JobId::new(job, whole()? as u32);
        let state = whole()?;
        let due_at = number()?;
        let mut whole = || number().map(Option::unwrap_or_default);
        let (token, attempt, seq) = (FencingToken(whole()?), whole()?, whole()?);
        let (expires_at, changed_at) = (number()?, number()?.unwrap_or_default());
        let give_up_at = number()?;
        let discarded_at = number()?;
        let created_at = number()?.unwrap_or_default();
        let controlled = number()? == Some(1);
        let started_at = number()?;
        let redriven_to = row.optional_text().map_err(|error| error.message)?;
        let redriven_to = redriven_to.and_then(|text| JobId::parse(&text));
        views.insert(
            job,
            RowView {
                id,
                state,
                due_at,
                token,
                attempt,
                seq,
                expires_at,
                changed_at,
                give_up_at,
                redriven_to,
                discarded_at,
                created_at,
                controlled,
                started_at,
            },
        );
    }
    Ok(views)
}

impl World {
    /// Looks at a committed turn.
    pub fn observe(&mut self, shard: usize, turn: &Turn, effects: &[Effect], now: UnixMs) -> Check {
        // The clock may have jumped back since a lease was given.
        self.latest_clock = self.latest_clock.max(now.0);
        let before = self.oracle.rows.remove(&shard).unwrap_or_default();
        let after = read_rows(&self.shards[shard].db)?;
        self.check_rows(shard, turn, &before, &after, now)?;
        self.check_starts(&before, &after, now)?;
        if let Turn::Handle(_, call) = turn
            && let Call::Enqueue(enqueue) = &**call
        {
            let stored = after.values().filter(|row| !before.contains_key(&row.id.number()));
            let stored: Vec<JobId> = stored.map(|row| row.id).collect();
            self.note_enqueued(shard, enqueue, effects, &stored, now);
        }
        if let Turn::Handle(id, call) = turn {
            match &**call {
                _ if matches!(own_reply(*id, effects), Some(Err(_))) => {}
                Call::Grow(growth) => {
                    let Some(Ok(Reply::Grown(grown))) = own_reply(*id, effects) else {
                        return Err("a growth was not confirmed".into());
                    };
                    self.note_grown(shard, growth, &grown.pauses)?;
                }
                Call::DoorbellLost { job } => self.note_lost_doorbell(shard, *job, &before, &after)?,
                Call::Pause { scope, .. } => {
                    if self.oracle.paused.insert((shard, scope.clone())) {
                        self.note_act(shard, AuditWhat::QueuePaused);
                    }
                    self.counters.paused += 1;
                }
                Call::Resume { scope, .. } if self.oracle.paused.remove(&(shard, scope.clone())) => {
                    self.note_act(shard, AuditWhat::QueueResumed);
                }
                _ => {}
            }
        }
        self.check_changed(turn, effects, &before, &after, now)?;
        self.check_left(shard, turn, effects, &before, &after, now)?;
        self.check_schedules(shard, &before, now)?;
        self.check_again(shard, turn, effects, &before, &after)?;
        let refused = self.check_token(shard, turn, effects, &before, &after, now)?;
        self.counters.tokens_refused += u64::from(refused);
        for effect in effects {
            self.check_effect(shard, effect, &after, now)?;
        }
        if let Turn::Handle(id, call) = turn
            && let Call::Enqueue(enqueue) = &**call
        {
            let reply = own_reply(*id, effects);
            self.check_key(shard, enqueue, reply, &before, now)?;
            self.check_dedupe(shard, enqueue, reply, &before, &after)?;
        }
        if let Turn::Wake = turn {
            let again = effects.iter().filter(|effect| {
                matches!(effect, Effect::Deliver { delivery, .. } if before.get(&delivery.job.number()).is_some_and(RowView::ended))
            });
            self.counters.redelivered += again.count() as u64;
        }
        self.check_state(shard, &after, now)?;
        self.check_batches(shard, turn, effects, now)?;
        self.check_tables(shard)?;
        self.oracle.rows.insert(shard, after);
        Ok(())
    }

    /// An object has heard of a growth. One that wakes up holds back what the old ones held back as they were sealed; and
    /// each says truly what it holds back.
    fn note_grown(&mut self, shard: usize, growth: &Growth, told: &[Pause]) -> Check {
        let [.., from, to] = growth.history.as_slice() else {
            return Ok(());
        };
        let object = &mut self.shards[shard];
        object.shards = object.shards.max(*to);
        let wakes = growth.shard.0 >= *from && growth.standing > Standing::Asleep;
        if wakes && self.oracle.woken.insert((shard, growth.history.len())) {
            for scope in self.oracle.owed.get(&object.tenant).into_iter().flatten() {
                let fresh = self.oracle.paused.insert((shard, scope.clone()));
                self.counters.pauses_owed += u64::from(fresh);
            }
        }
        let told: BTreeSet<&PauseScope> = told.iter().map(|pause| &pause.scope).collect();
        let held = self.oracle.paused.iter().filter(|(of, _)| *of == shard);
        let held: BTreeSet<&PauseScope> = held.map(|(_, scope)| scope).collect();
        if told != held {
            return Err(format!("shard {shard} holds back {held:?}, and says {told:?}"));
        }
        Ok(())
    }

    /// What a turn may do to rows.
    fn check_rows(
        &mut self,
        shard: usize,
        turn: &Turn,
        before: &BTreeMap<JobNumber, RowView>,
        after: &BTreeMap<JobNumber, RowView>,
        now: UnixMs,
    ) -> Check {
        for (number, old) in before {
            let Some(new) = after.get(number) else {
                if !old.ended() || old.expires_at.is_none_or(|at| at > now.0) || old.due_at.is_some() {
                    return Err(format!("{} is gone before its time: {old:?}", old.id));
                }
                self.counters.jobs_swept += 1;
                self.oracle.jobs.entry(old.id).or_default().swept = true;
                self.oracle.keys.retain(|_, key| key.job != old.id);
                continue;
            };
            let same = new.id == old.id && new.seq >= old.seq && new.token >= old.token && new.attempt >= old.attempt;
            let stays = !old.ended() || new.as_it_ended() == old.as_it_ended();
            if !same || !stays {
                return Err(format!("a row went from {old:?} to {new:?} by {turn:?}"));
            }
            if new.state == CANCELLED && old.state != CANCELLED {
                self.counters.jobs_cancelled += 1;
            }
            self.check_times(turn, old, new, now)?;
        }
        for new in after.values().filter(|row| !before.contains_key(&row.id.number())) {
            self.counters.jobs_stored += 1;
            let facts = self.oracle.jobs.entry(new.id).or_default();
            if facts.open.is_some() {
                self.counters.jobs_spilled += 1;
            }
            if facts.forgotten {
                return Err(format!("{} came back from nothing", new.id));
            }
            (facts.shard, facts.stored) = (shard, true);
            self.check_number(shard, new.id, turn)?;
        }
        Ok(())
    }

    /// A sealed object gives out numbers of its own partitions, whatever it was asked for.
    fn check_number(&mut self, shard: usize, job: JobId, turn: &Turn) -> Check {
        let partition = job.number().partition();
        if let Turn::Handle(_, call) = turn
            && let Call::Enqueue(enqueue) = &**call
        {
            self.counters.jobs_renumbered += u64::from(enqueue.partition != partition);
        }
        let shards = self.shards[shard].shards;
        let index = shard - self.tenants[self.shards[shard].tenant].first_shard;
        if shards > 0 && usize::from(owner(partition, shards).0) != index && self.oracle.jobs[&job].open.is_none() {
            return Err(format!("{job} is numbered in {partition:?}, which the object has lost"));
        }
        Ok(())
    }

    /// Limits of time: nothing ends early by one, nothing goes on after one, and what expired never ran.
    fn check_times(&mut self, turn: &Turn, old: &RowView, new: &RowView, now: UnixMs) -> Check {
        let facts = self.oracle.jobs.entry(new.id).or_default();
        let passed = |limit: Option<u64>| limit.is_some_and(|at| at <= now.0);
        if new.state == EXPIRED && old.state != EXPIRED {
            self.counters.jobs_expired += 1;
            if facts.attempt != 0 || new.attempt != 0 {
                return Err(format!("{} expired although it ran: {old:?}", new.id));
            }
            if !passed(facts.first_by) && !passed(facts.end_by) {
                return Err(format!("{} expired early: {old:?} {:?}", new.id, facts.first_by));
            }
        }
        if new.state == RETRYING && facts.end_by.is_some_and(|at| new.due_at.is_none_or(|due| due >= at)) {
            return Err(format!("{} waits for an attempt that could not begin: {new:?}", new.id));
        }
        let by_alarm = matches!(turn, Turn::Wake);
        if by_alarm && new.state == FAILED && old.give_up_at.is_some_and(|at| at <= now.0) && !old.ended() {
            self.counters.jobs_over_time += 1;
        }
        if by_alarm && !new.ended() && passed(new.give_up_at) {
            return Err(format!("{} goes on after its limit was handled: {new:?}", new.id));
        }
        if new.ended() && new.give_up_at.is_some() {
            return Err(format!("{} has ended, and is to be given up: {new:?}", new.id));
        }
        Ok(())
    }

    fn note_enqueued(&mut self, shard: usize, enqueue: &Enqueue, effects: &[Effect], stored: &[JobId], now: UnixMs) {
        let rows = effects.iter().filter_map(|effect| match effect {
            Effect::Execute(execute) => Some(execute.job),
            Effect::RingDoorbell { job } => Some(*job),
            Effect::Reply {
                reply:
                    Ok(Reply::Acknowledged {
                        job,
                        deduplicated: false,
                        ..
                    }),
                ..
            } => Some(*job),
            _ => None,
        });
        for job in rows.chain(stored.iter().copied()).collect::<BTreeSet<_>>() {
            let facts = self.oracle.jobs.entry(job).or_default();
            facts.shard = shard;
            facts.user.get_or_insert_with(|| enqueue.job.user.clone());
            if facts.action.is_some() {
                // A place was free for one that was there before.
                continue;
            }
            facts.action = Some(enqueue.job.action.clone());
            let dedupe = enqueue.job.once.as_ref().and_then(Once::dedupe);
            facts.dedupe = dedupe.map(|dedupe| dedupe.key.clone());
            facts.not_before = enqueue.job.run_at.map_or(0, |at| at.0);
            let (policy, from) = (&enqueue.job.policy, facts.not_before.max(now.0));
            facts.attempts_max = Some(policy.attempts_max);
            facts.limits_ms = (policy.queue_timeout_ms, policy.total_timeout_ms);
            facts.limited_from(from);
            facts.silence = policy.heartbeat_timeout_ms;
        }
    }

    /// An old token changes nothing; the one that is awaited is taken. True where one was refused.
    fn check_token(
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
            if !refused || row(before) != row(after) || effects.len() != 1 {
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

    fn check_effect(
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
            | Effect::Probe { .. }
            | Effect::Tell { .. } => Ok(()),
        }
    }

    fn check_execution(
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
    fn check_limits(
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

    /// The same tenant, action and key: the same job, for as long as the key lives. A job that has not ended keeps it.
    fn check_key(
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
        let known = self.oracle.keys.entry(name).or_insert_with(|| KeyFacts {
            job,
            fingerprint: keyed.fingerprint.clone(),
            since: now.0,
        });
        if known.job != job {
            return Err(format!("one key, two jobs: {} and {job}", known.job));
        }
        if known.fingerprint != keyed.fingerprint {
            return Err(format!("{job} answered another request with its key"));
        }
        Ok(())
    }

    /// The memory agrees with the rows, and what is due has an alarm.
    fn check_state(&mut self, shard: usize, rows: &BTreeMap<JobNumber, RowView>, now: UnixMs) -> Check {
        let object = &self.shards[shard];
        let Some(state) = &object.state else { return Ok(()) };
        let unstored = self
            .oracle
            .jobs
            .values()
            .filter(|f| f.shard == shard && !f.stored && f.open.is_some())
            .count();
        let running = rows.values().filter(|row| row.state == RUNNING).count();
        let waiting = rows.values().filter(|row| row.state < RUNNING).count() as u64;
        if state.running() != running + unstored || state.waiting() != waiting {
            return Err(format!(
                "{} run and {} wait in memory; {running} (and {unstored} without a row) and {waiting} in rows",
                state.running(),
                state.waiting()
            ));
        }
        for row in rows.values().filter(|row| !row.ended()) {
            let open = self.oracle.jobs.get(&row.id).and_then(|facts| facts.open);
            if (row.state == RUNNING) != (open == Some(row.token)) || (row.state != RUNNING && open.is_some()) {
                return Err(format!("{row:?}, and {open:?} is awaited"));
            }
            let facts = self.oracle.jobs.get(&row.id);
            let (user, action) = match facts.map(|facts| (&facts.user, &facts.action)) {
                Some((Some(user), Some(action))) => (user, action),
                _ => return Err(format!("{} is stored, and nobody asked for it", row.id)),
            };
            let limited = of_limit(action) || action.as_str() == "brief";
            let latest = match (row.state, row.due_at) {
                // A lease that was renewed in memory goes as far as the alarm that found it alive has stored.
                (RUNNING, at) => Some(at.unwrap_or(0).max(self.latest_clock + LEASE_MS)),
                (PAUSED, None) => None,
                (_, None) => return Err(format!("{} waits for no moment", row.id)),
                // What the gate tells it next lets it go.
                _ if !state.is_open() => None,
                // A resume lets it go.
                _ if self.oracle.pauses(shard, user, action) => None,
                // What is a worker's waits for one that asks.
                _ if action.as_str() == AWAY => None,
                // What a limit holds back waits for a place to be given back, or for the time of its throttle.
                _ if limited => Some(u64::MAX),
                (_, Some(at)) => Some(at.max(self.latest_clock)),
            };
            let silence = facts.and_then(|facts| facts.silence);
            let silent_at = silence.filter(|_| row.state == RUNNING).map(|ms| row.changed_at + ms);
            let limits = row.give_up_at.into_iter().chain(silent_at).min();
            let limits = limits.map(|at| at.max(self.latest_clock));
            let Some(latest) = latest.into_iter().chain(limits).min() else {
                continue;
            };
            if object.alarm.is_none_or(|alarm| alarm.0 > latest) {
                return Err(format!("{row:?} has no alarm in time: {:?}", object.alarm));
            }
        }
        self.check_clock_alarm(shard)?;
        let object = &self.shards[shard];
        let due_ends = rows.values().any(|row| row.ended() && row.due_at.is_some());
        if due_ends && object.alarm.is_none() {
            return Err("an end that is not delivered has no alarm".into());
        }
        if self.random.permille(60) {
            self.counters.recoveries_compared += 1;
            let found = State::recover(&object.db, now).map_err(|error| format!("a recovery: {error}"))?;
            if found.running() != running || found.waiting() != waiting {
                return Err(format!("a recovery finds {} running of {running}", found.running()));
            }
        }
        self.oracle.undelivered.insert(shard, due_ends);
        Ok(())
    }

    /// What is deleted must not be needed any more.
    pub fn check_deleted(&mut self, shard: usize, keys: &[String]) -> Check {
        for key in keys {
            let rows = self.shards[shard]
                .db
                .run(
                    "SELECT number FROM job WHERE checkpoint = ? AND state < 4",
                    &[Value::Text(key)],
                )
                .map_err(|error| error.message)?;
            if !rows.is_empty() {
                return Err(format!("a checkpoint that is needed was deleted: {key}"));
            }
        }
        Ok(())
    }
}
