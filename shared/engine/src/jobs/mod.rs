//! The job queue of one `Jobs` object: accepts, starts, watches over, retries and ends jobs, and tells who follows them.
//!
//! One turn is one transaction: [`handle`], [`wake`] and [`tick`] read, decide, write, and name what is to be done
//! outside as [`Effect`]s, which the shell carries out after the commit. Everything in [`State`] is a cache that may
//! vanish after any turn; [`State::recover`] builds it again from the rows. A turn that fails as a whole is rolled
//! back, and its `State` is thrown away.
//!
//! What a row costs. A job that starts at once is inserted without an index entry, and ends with one update: two rows.
//! So that a crash loses nothing all the same, an alarm is always set while such jobs run, and a recovery looks at
//! every row above the `watermark` (see [`wake`]), which each alarm moves up, giving an index entry to what is still
//! alive then.

mod alias;
mod attempt;
mod away;
mod backlog;
mod backoff;
mod batches;
mod cancel;
mod change;
mod control;
mod cost;
mod doorbells;
mod endpoints;
mod enqueue;
mod feeds;
mod follow;
mod gates;
mod handed_over;
mod heads;
mod history;
mod hooks;
mod lanes;
mod letters;
mod lost;
mod many;
mod notes;
mod once;
mod ordered;
mod packing;
mod packs;
mod places;
mod pull;
mod queues;
mod read;
mod retention;
mod retry;
mod row;
mod said;
mod schedules;
mod schema;
mod select;
mod sharing;
mod snooze;
mod spread;
mod started;
mod state;
mod stored;
mod time_limits;
mod trail;
mod wake;

#[cfg(test)]
#[cfg(feature = "native")]
pub(crate) mod tests;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use tidegate_protocol::Error;
use tidegate_protocol::calls::channel::Keep;
use tidegate_protocol::calls::executor::Execute;
use tidegate_protocol::calls::feeds::Changes;
use tidegate_protocol::calls::hub::Delivery;
use tidegate_protocol::calls::jobs::{Call, Reply};
use tidegate_protocol::calls::tenant::Recorded;
use tidegate_protocol::ids::{ChannelName, FencingToken, HubIndex, JobId, ShardIndex};
use tidegate_protocol::time::UnixMs;

#[cfg(feature = "native")]
pub use packs::{Packed, packed};

pub use away::{PROBE_MS_MAX, PROBE_MS_MIN};
pub use cost::{COST_ALONE_MAX, COST_EARLY, allowance, cost};
pub use feeds::PROGRESS_MS;
pub use pull::{LEASED_MAX, POLLS_MAX, WORKER_SEEN_MS};
pub use retry::payload_name;
pub use schedules::{CATCH_UP_TIMES_MAX, COUNTED_TIMES_MAX, FULL_QUEUE_MS, TURN_TIMES_MAX};
pub use schema::STEPS;
pub use state::State;

use crate::database::{Database, DatabaseError};

/// Attempts under way at once in one object. Each holds one pending call; a binding takes 10,000 in a request.
pub const RUNNING_MAX: usize = 128;
/// Jobs waiting in one object. Some hundred bytes each: far below the 10 GB of an object.
pub const WAITING_MAX: u64 = 100_000;
/// Calls that wait for an event in one object. Each holds an open request of some KiB.
pub const WAITERS_MAX: usize = 4096;
/// Times a lease may be lost before the job is given up: a poison job must not restart its object for ever.
pub const LOSSES_MAX: u64 = 20;
/// Times in a row that an attempt may put itself off without progress or a checkpoint before the job is given up: one
/// that waits for what never comes must not wake its object for ever. A look a minute goes on for most of a day.
pub const SNOOZES_MAX: u64 = 1000;
/// How long a doorbell may take before the job is started without it. Milliseconds.
pub const DOORBELL_GRACE_MS: u64 = 30_000;
/// How long to wait before a delivery that was not confirmed is made again. Milliseconds.
pub const REDELIVERY_MS: u64 = 5_000;
/// Events kept in a job's row for clients that come back; older ones are summed up by a snapshot.
pub const LOG_EVENTS_MAX: usize = 64;
/// Bytes of the events kept in a job's row. A row is rewritten with every event.
pub const LOG_BYTES_MAX: usize = 16 * 1024;
/// Bytes of one progress report's message, and of its metadata.
pub const PROGRESS_BYTES_MAX: usize = tidegate_protocol::limits::PROGRESS_BYTES_MAX;
/// Jobs deleted, or started, in one turn at most.
pub const TURN_ROWS_MAX: u64 = 200;
/// The shortest time between two sweeps for jobs past their retention. Milliseconds.
pub const SWEEP_MS: u64 = 3_600_000;
/// Pauses in one object at most. Each is looked at for every job that starts.
pub const PAUSES_MAX: usize = 100;
/// Rows that one page of a list looks at.
pub const SCAN_ROWS_MAX: u64 = 1000;

/// A call that waits for its reply. The shell numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// What the shell does once the turn is stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Answer a call. Lost with the object, as the call is.
    Reply {
        /// The call.
        call: CallId,
        /// Its reply or refusal.
        reply: Result<Reply, Error>,
    },
    /// Make an attempt, and hand its outcome back as `Call::Finish`. Losing it is mended by the end of the lease.
    Execute(Box<Execute>),
    /// The attempt's outcome is no longer wanted. Losing it costs work, nothing else: its token is worth nothing.
    Abandon {
        /// The job.
        job: JobId,
        /// The lease that the attempt held.
        token: FencingToken,
    },
    /// Send an event to the sockets that follow the job on a hub; then [`delivered`] or [`undelivered`]. Losing a
    /// terminal one is mended by the next alarm.
    Deliver {
        /// The hub.
        hub: HubIndex,
        /// The event.
        delivery: Delivery,
    },
    /// Tell the queue's consumers that the job may be started. Losing it is mended after [`DOORBELL_GRACE_MS`].
    RingDoorbell {
        /// The job.
        job: JobId,
    },
    /// Delete objects that no row names any more. Losing it leaves them to the scheduled sweep.
    DeleteBlobs {
        /// Their keys.
        keys: Vec<String>,
    },
    /// Tell the tenant's gate what was done by hand; then [`recorded`]. Losing it is mended by the next alarm.
    Record {
        /// The entries, in the order of their numbers.
        entries: Vec<Recorded>,
    },
    /// Ask a hub whether a socket of its follows the job, then [`probed`]. Losing it is mended by the next question.
    Probe {
        /// The hub.
        hub: HubIndex,
        /// The job.
        job: JobId,
        /// The moment of the question, which tells its answer from others.
        at: UnixMs,
    },
    /// Tell a channel what happened to jobs; then [`changes_told`]. Losing it, or the answer, is mended by the next alarm.
    TellChanges {
        /// The channel.
        channel: ChannelName,
        /// What it is told: a call to take it.
        rows: Vec<Changes>,
        /// How much is kept there, where nobody has said that yet.
        keep: Keep,
    },
    /// Make a call to another `Jobs` object of the tenant; then [`told`]. Losing it, or the answer, is mended by asking
    /// again.
    Tell {
        /// Which object.
        shard: ShardIndex,
        /// The call.
        call: Box<Call>,
    },
}

/// One turn: what it reads from outside, and what it wants done.
struct Turn<'a, D> {
    db: &'a D,
    state: &'a mut State,
    now: UnixMs,
    random: &'a mut dyn FnMut() -> u64,
    effects: Vec<Effect>,
    /// Whether a place has become free in this turn that no waiting job was offered yet.
    place_freed: bool,
    /// Whether something was noted in this turn for the audit trail.
    noted: bool,
    /// Packs that are not written yet.
    filling: packing::Filling,
    /// What happened to jobs that is not written yet.
    changes: feeds::Unwritten,
}

impl<'a, D: Database> Turn<'a, D> {
    fn new(db: &'a D, state: &'a mut State, now: UnixMs, random: &'a mut dyn FnMut() -> u64) -> Self {
        Self {
            db,
            state,
            now,
            random,
            effects: Vec::new(),
            place_freed: false,
            noted: false,
            filling: packing::Filling::new(),
            changes: feeds::Unwritten::new(),
        }
    }

    fn call(&mut self, id: CallId, call: Call) -> Result<(), DatabaseError> {
        let Some(call) = self.hand_on(id, call)? else {
            return Ok(());
        };
        match call {
            Call::Enqueue(enqueue) => self.enqueue_asking(id, *enqueue, &[]),
            Call::Follow {
                job,
                caller,
                hub,
                after,
            } => self.follow(id, &job, &caller, hub, after),
            Call::Watch {
                job,
                caller,
                after,
                wait_ms,
                until_end,
            } => self.watch(id, job, &caller, after, wait_ms, until_end),
            Call::Cancel { job, caller } => self.cancel(id, job, &caller),
            Call::Get { job, caller } => self.get(id, job, &caller),
            Call::Result { job, caller } => self.result(id, job, &caller),
            Call::List { caller, filter } => self.list(id, &caller, &filter),
            Call::Why { job, caller } => self.why(id, job, &caller),
            Call::Pause { scope, caller } => self.pause(id, scope, &caller),
            Call::Resume { scope, caller } => self.resume(id, scope, &caller),
            Call::Queue { caller } => self.queue(id, &caller),
            Call::Retry { job, caller, payload } => self.retry(id, job, &caller, payload),
            Call::DeadLetters { caller, filter } => self.dead_letters(id, &caller, &filter),
            Call::Many {
                caller,
                which,
                action,
                dry_run,
            } => self.many(id, &caller, which, action, dry_run),
            Call::Start { job } => self.start(id, job),
            Call::Report {
                job,
                token,
                progress,
                checkpoint,
                notes,
            } => self.report(id, job, token, progress, checkpoint, notes),
            Call::Finish { job, token, outcome } => self.finish(id, job, token, outcome),
            Call::SetSchedules { version, schedules } => self.set_schedules(id, version, schedules),
            Call::SetEndpoints { version, endpoints } => self.set_endpoints(id, version, &endpoints),
            Call::Schedules { caller } => self.schedules(id, &caller),
            Call::PauseSchedule { name, caller } => self.pause_schedule(id, &name, &caller, true),
            Call::ResumeSchedule { name, caller } => self.pause_schedule(id, &name, &caller, false),
            Call::TriggerSchedule { name, caller, key } => self.trigger_schedule(id, &name, &caller, key.as_ref()),
            Call::Backfill { name, caller, from, to } => self.backfill(id, &name, &caller, (from, to)),
            Call::Change { job, caller, change } => self.change(id, job, &caller, change),
            Call::Events { job, caller, after } => self.events(id, job, &caller, after),
            Call::Output {
                job,
                caller,
                stream,
                offset,
            } => self.output(id, job, &caller, stream, offset),
            Call::Grow(growth) => self.grow(id, growth),
            Call::Lease(asked) => self.lease(id, asked),
            Call::Input { job, token } => self.input(id, job, token),
            Call::Batch { batch, caller, ask } => self.ask_batch(id, &batch, &caller, ask),
            Call::Holders { limit, key, caller } => {
                self.holders_here(id, limit, key, &caller);
                Ok(())
            }
            Call::Ask(ask) => self.asked(id, &ask),
            Call::Recall(recall) => self.recalled(id, &recall),
            Call::DoorbellLost { job } => self.doorbell_lost(id, job),
        }
    }

    fn reply(&mut self, call: CallId, reply: Result<Reply, Error>) {
        self.effects.push(Effect::Reply { call, reply });
    }

    /// What is to be done to the world. An attempt that was given up in the turn in which it began, because a later call
    /// cancelled its job or took its place, is not made.
    fn into_effects(self) -> Vec<Effect> {
        let mut effects = self.effects;
        let given_up = effects.iter().filter_map(|effect| match effect {
            Effect::Abandon { job, token } => Some((*job, *token)),
            _ => None,
        });
        for lease in given_up.collect::<Vec<_>>() {
            let before = effects.len();
            effects
                .retain(|effect| !matches!(effect, Effect::Execute(execute) if (execute.job, execute.token) == lease));
            if effects.len() < before {
                effects.retain(|effect| !matches!(effect, Effect::Abandon { job, token } if (*job, *token) == lease));
            }
        }
        effects
    }
}

/// Answers calls in one turn, in their order; each now or in a later turn, by an [`Effect::Reply`] for its id. A place
/// that one of them frees goes to a job that waits before a later call of the same turn may take it.
///
/// Errors: the database's. The turn is to be rolled back and `state` thrown away.
pub fn handle<D: Database>(
    db: &D,
    state: &mut State,
    now: UnixMs,
    random: &mut dyn FnMut() -> u64,
    calls: impl IntoIterator<Item = (CallId, Call)>,
) -> Result<Vec<Effect>, DatabaseError> {
    let mut turn = Turn::new(db, state, now, random);
    let mut may_release = false;
    for (id, call) in calls {
        may_release |= matches!(call, Call::Finish { .. } | Call::Cancel { .. } | Call::Many { .. });
        may_release |= matches!(call, Call::Batch { .. });
        if turn.place_freed && starts_a_job(&call) {
            turn.fill()?;
        }
        if !matches!(call, Call::Enqueue(_)) {
            turn.write_packs()?;
        }
        turn.call(id, call)?;
    }
    turn.write_packs()?;
    if turn.place_freed {
        turn.fill()?;
    }
    if may_release {
        turn.release_held()?;
    }
    turn.serve()?;
    turn.share()?;
    turn.drop_spent_packs()?;
    turn.write_batches()?;
    turn.tell_noted()?;
    turn.tell_changes()?;
    Ok(turn.into_effects())
}

/// Whether a call may take a place that an earlier one of the same turn has freed.
fn starts_a_job(call: &Call) -> bool {
    matches!(
        call,
        Call::Enqueue(_)
            | Call::Start { .. }
            | Call::DoorbellLost { .. }
            | Call::TriggerSchedule { .. }
            | Call::Backfill { .. }
    )
}

/// The alarm: leases that ended, jobs whose time has come, deliveries to be made again, retention.
///
/// Errors: the database's, as for [`handle`].
pub fn wake<D: Database>(
    db: &D,
    state: &mut State,
    now: UnixMs,
    random: &mut dyn FnMut() -> u64,
) -> Result<Vec<Effect>, DatabaseError> {
    let mut turn = Turn::new(db, state, now, random);
    turn.wake()?;
    turn.serve()?;
    turn.share()?;
    turn.write_batches()?;
    turn.tell_again()?;
    turn.tell_changes()?;
    Ok(turn.into_effects())
}

/// The timer of this instance: calls that have waited long enough. Nothing is lost where it never comes.
///
/// Errors: the database's, as for [`handle`].
pub fn tick<D: Database>(
    db: &D,
    state: &mut State,
    now: UnixMs,
    random: &mut dyn FnMut() -> u64,
) -> Result<Vec<Effect>, DatabaseError> {
    let mut turn = Turn::new(db, state, now, random);
    turn.tick()?;
    turn.serve()?;
    turn.share()?;
    turn.write_batches()?;
    turn.tell_changes()?;
    Ok(turn.into_effects())
}

/// What `shard` answered to the call of an [`Effect::Tell`]; or that it could not be reached.
///
/// Errors: the database's, as for [`handle`].
pub fn told<D: Database>(
    db: &D,
    state: &mut State,
    now: UnixMs,
    random: &mut dyn FnMut() -> u64,
    (shard, call, reply): (ShardIndex, &Call, Result<Reply, Error>),
) -> Result<Vec<Effect>, DatabaseError> {
    let mut turn = Turn::new(db, state, now, random);
    turn.told(shard, call, reply)?;
    if turn.place_freed {
        turn.fill()?;
    }
    turn.serve()?;
    turn.share()?;
    turn.write_batches()?;
    turn.tell_changes()?;
    Ok(turn.into_effects())
}

/// A hub took these events; it has no socket that follows the jobs of `not_followed`.
///
/// Errors: the database's, as for [`handle`].
pub fn delivered<D: Database>(
    db: &D,
    state: &mut State,
    now: UnixMs,
    hub: HubIndex,
    deliveries: &[Delivery],
    not_followed: &[JobId],
) -> Result<(), DatabaseError> {
    let mut random = || 0;
    let mut turn = Turn::new(db, state, now, &mut random);
    turn.delivered(hub, deliveries, not_followed)
}

/// As [`delivered`], where no row changes by it, as is the case for nearly all that a running job says: no transaction is
/// needed then. Says whether it was so; where it was not, nothing was done.
pub fn delivered_without_rows(
    state: &mut State,
    hub: HubIndex,
    deliveries: &[Delivery],
    not_followed: &[JobId],
) -> bool {
    if state.needs_rows(hub, deliveries, not_followed) {
        return false;
    }
    state.confirmed(hub, deliveries);
    state.followed.retain(|(follower, _)| *follower != hub);
    true
}

/// The tenant's gate has taken down what was done by hand, up to the entry `number`. Gives what is still to be told.
///
/// Errors: the database's, as for [`handle`].
pub fn recorded<D: Database>(
    db: &D,
    state: &mut State,
    now: UnixMs,
    number: u64,
) -> Result<Vec<Effect>, DatabaseError> {
    let mut random = || 0;
    let mut turn = Turn::new(db, state, now, &mut random);
    turn.recorded(number)?;
    Ok(turn.into_effects())
}

/// A channel was told by an [`Effect::TellChanges`]: it has stored everything up to a number; or it could not be reached.
///
/// Errors: the database's, as for [`handle`].
pub fn changes_told<D: Database>(
    db: &D,
    state: &mut State,
    now: UnixMs,
    channel: &ChannelName,
    said: Result<u64, Error>,
) -> Result<Vec<Effect>, DatabaseError> {
    let mut random = || 0;
    let mut turn = Turn::new(db, state, now, &mut random);
    turn.changes_told(channel, said)?;
    Ok(turn.into_effects())
}

/// A hub could not be reached with these events. The terminal ones are sent again by an alarm.
pub fn undelivered(state: &mut State, now: UnixMs, deliveries: &[Delivery]) {
    for delivery in deliveries.iter().filter(|delivery| delivery.event.what.is_terminal()) {
        state.redeliver_at(delivery.job.number(), now.plus(REDELIVERY_MS));
    }
}

/// A hub was asked about these jobs by [`Effect::Probe`]s, each at its moment; it has no socket that follows those of
/// `not_followed`.
///
/// Errors: the database's.
pub fn probed<D: Database>(
    db: &D,
    state: &mut State,
    now: UnixMs,
    hub: HubIndex,
    asked: &[(JobId, UnixMs)],
    not_followed: &[JobId],
) -> Result<(), DatabaseError> {
    let mut random = || 0;
    let mut turn = Turn::new(db, state, now, &mut random);
    turn.probed(hub, asked, not_followed)
}
