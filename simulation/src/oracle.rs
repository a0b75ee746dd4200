//! What must always hold. It sees every commit, and knows nothing of how the engine decides.

mod again;
mod attempts;
mod batches;
mod changed;
mod left;
mod notes;
mod once;
mod rows;
mod started;
mod state;

use std::collections::{BTreeMap, BTreeSet};

use tidegate_engine::database::Database;
use tidegate_engine::jobs::{CallId, Effect, packed};
use tidegate_protocol::ErrorCode;
use tidegate_protocol::calls::executor::{Execute, Outcome};
use tidegate_protocol::calls::jobs::{Call, Enqueue, NewJob, Reply};
use tidegate_protocol::calls::once::Once;
use tidegate_protocol::calls::queueing::{Pause, PauseScope};
use tidegate_protocol::calls::spread::{Growth, Standing};
use tidegate_protocol::event::{Event, Happening, Payload};
use tidegate_protocol::http::AuditWhat;
use tidegate_protocol::ids::{ActionName, FencingToken, JobId, JobNumber, UserId};
use tidegate_protocol::time::UnixMs;

use self::once::{KeyFacts, key_name};
use crate::jobs::{Turn, own_reply};
use crate::schedules::Ticks;
use crate::setting::{AWAY, NEWEST, ONE};
use crate::world::{Check, World};

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
    /// The name of the key that came with the request it was made by, and when that was.
    made_under: Option<((String, String), u64)>,
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
    /// Requests that are not answered.
    undecided: BTreeMap<(usize, CallId), Box<Enqueue>>,
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
        self.undecided.retain(|(of, _), _| *of != shard);
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

/// Whether a place that another job has may be what a job of this action waits for.
fn is_limited(action: &ActionName) -> bool {
    of_limit(action) || matches!(action.as_str(), "brief" | ONE | NEWEST)
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
    for job in packed(db).map_err(|error| error.message)? {
        let view = RowView {
            id: job.id,
            state: job.state,
            due_at: Some(job.due_at.0),
            token: FencingToken(0),
            attempt: 0,
            seq: 1,
            expires_at: None,
            changed_at: job.created_at.0,
            give_up_at: None,
            redriven_to: None,
            discarded_at: None,
            created_at: job.created_at.0,
            controlled: false,
            started_at: None,
        };
        if views.insert(job.id.number(), view).is_some() {
            return Err(format!("{} has a row, and waits in a pack", job.id));
        }
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
        self.note_decided(shard, turn, effects, now);
        self.note_taken_in(shard, turn, (&before, &after), now);
        if let Turn::Together(calls) = turn {
            self.note_together(shard, calls, effects, (&before, &after), now)?;
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

    /// A request that a limit would refuse may have to wait until others were asked for its places: what it asks for is
    /// known from the turn that took it, and which job it became from the one that decided.
    fn note_decided(&mut self, shard: usize, turn: &Turn, effects: &[Effect], now: UnixMs) {
        if let Turn::Handle(id, call) = turn
            && let Call::Enqueue(enqueue) = &**call
            && own_reply(*id, effects).is_none()
        {
            self.oracle.undecided.insert((shard, *id), enqueue.clone());
        }
        for effect in effects {
            if let Effect::Execute(execute) = effect {
                self.note_begun(shard, execute, now);
            }
            let Effect::Reply { call, reply } = effect else {
                continue;
            };
            let Some(enqueue) = self.oracle.undecided.remove(&(shard, *call)) else {
                continue;
            };
            let known = |job: &JobId| self.oracle.jobs.get(job).is_some_and(|facts| facts.action.is_some());
            if let Ok(Reply::Acknowledged { job, .. }) = reply
                && !known(job)
            {
                self.counters.requests_decided_later += 1;
                self.note_enqueued(shard, &enqueue, &[], &[*job], now);
                self.note_company_of(*job, enqueue.away_max_ms, now);
            }
            let refused = matches!(reply, Err(error) if error.code == ErrorCode::QueueFull);
            self.counters.requests_refused_later += u64::from(refused);
        }
    }

    /// A job that is stored in somebody else's turn, and neither begins nor is told of, is one that a request had to wait for which
    /// is answered by its end.
    fn note_taken_in(
        &mut self,
        shard: usize,
        turn: &Turn,
        (before, after): (&BTreeMap<JobNumber, RowView>, &BTreeMap<JobNumber, RowView>),
        now: UnixMs,
    ) {
        if !matches!(turn, Turn::Told { .. } | Turn::Tick) {
            return;
        }
        let known = |job: &JobId| self.oracle.jobs.get(job).is_some_and(|facts| facts.action.is_some());
        let fresh = after.iter().filter(|(number, _)| !before.contains_key(number));
        let fresh: Vec<JobId> = fresh.map(|(_, row)| row.id).filter(|job| !known(job)).collect();
        for job in fresh {
            let mut undecided = self.oracle.undecided.iter();
            let waits = undecided.find(|((of, _), enqueue)| *of == shard && enqueue.answer_within_ms.is_some());
            if let Some(enqueue) = waits.map(|(_, enqueue)| enqueue.clone()) {
                self.counters.requests_decided_later += 1;
                self.note_enqueued(shard, &enqueue, &[], &[job], now);
                self.note_company_of(job, enqueue.away_max_ms, now);
            }
        }
    }

    /// A job that begins may be one that a request had to wait for which is answered by its end.
    fn note_begun(&mut self, shard: usize, execute: &Execute, now: UnixMs) {
        let facts = self.oracle.jobs.get(&execute.job);
        if facts.is_some_and(|facts| facts.action.is_some()) {
            return;
        }
        let mut undecided = self.oracle.undecided.iter();
        let made = undecided.find(|((of, _), enqueue)| {
            let same = |job: &NewJob| (&job.user, &job.action) == (&execute.user, &execute.action);
            *of == shard && same(&enqueue.job) && enqueue.job.payload == execute.payload
        });
        if let Some(enqueue) = made.map(|(_, enqueue)| enqueue.clone()) {
            self.counters.requests_decided_later += 1;
            self.note_enqueued(shard, &enqueue, &[], &[execute.job], now);
            self.note_company_of(execute.job, enqueue.away_max_ms, now);
        }
    }

    /// Each request of several that shared a turn is answered by a job of its own, or not at all.
    fn note_together(
        &mut self,
        shard: usize,
        calls: &[(CallId, Box<Enqueue>)],
        effects: &[Effect],
        (before, after): (&BTreeMap<JobNumber, RowView>, &BTreeMap<JobNumber, RowView>),
        now: UnixMs,
    ) -> Check {
        let fresh = after.values().filter(|row| !before.contains_key(&row.id.number()));
        let mut fresh: BTreeSet<JobId> = fresh.map(|row| row.id).collect();
        for (id, enqueue) in calls {
            match own_reply(*id, effects) {
                Some(Ok(Reply::Acknowledged { job, .. })) if fresh.remove(job) => {
                    self.note_enqueued(shard, enqueue, &[], &[*job], now);
                }
                Some(Err(_) | Ok(Reply::Elsewhere { .. })) => {}
                // Others are asked for its place.
                None if enqueue.job.action.as_str() == ONE => {
                    self.oracle.undecided.insert((shard, *id), enqueue.clone());
                }
                reply => return Err(format!("a request of a batch was answered {reply:?}")),
            }
        }
        if !fresh.is_empty() {
            return Err(format!("{fresh:?} were made, and nobody was told"));
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
            facts.made_under = key_name(enqueue).map(|name| (name, now.0));
            facts.not_before = enqueue.job.run_at.map_or(0, |at| at.0);
            let (policy, from) = (&enqueue.job.policy, facts.not_before.max(now.0));
            facts.attempts_max = Some(policy.attempts_max);
            facts.limits_ms = (policy.queue_timeout_ms, policy.total_timeout_ms);
            facts.limited_from(from);
            facts.silence = policy.heartbeat_timeout_ms;
        }
    }
}
