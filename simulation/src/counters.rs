//! How often each thing happened: a fault that never happens proves nothing.

use std::fmt;
use std::ops::AddAssign;

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// How often each thing happened.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[doc = $doc])* pub $name: u64,)* }

        impl Counters {
            /// Every counter with its name.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }

        impl AddAssign for Counters {
            fn add_assign(&mut self, other: Self) { $(self.$name += other.$name;)* }
        }
    };
}

counters! {
    /// Events that were processed.
    events,
    /// Events after the faults stopped.
    events_while_draining,
    /// Calls that never arrived.
    requests_lost,
    /// Replies that never arrived.
    replies_lost,
    /// Calls that arrived twice.
    requests_doubled,
    /// Calls that arrived after a later one of the same sender.
    requests_reordered,
    /// Calls that took seconds.
    requests_delayed,
    /// Batches of events that never arrived at a hub.
    batches_lost,
    /// Batches whose confirmation never arrived.
    confirmations_lost,
    /// Batches that arrived twice.
    batches_doubled,
    /// Doorbells that never rang.
    doorbells_lost,
    /// Doorbells that rang twice.
    doorbells_doubled,
    /// Turns of a `Jobs` object that were rolled back by a crash.
    jobs_crashed_before_commit,
    /// Crashes after a commit, before any effect.
    jobs_crashed_after_commit,
    /// Crashes with some effects carried out.
    jobs_crashed_between_effects,
    /// `Jobs` objects that lost their memory while idle.
    jobs_evicted,
    /// Hubs that crashed, and their sockets with them.
    hubs_crashed,
    /// Hubs that crashed with some effects carried out.
    hubs_crashed_between_effects,
    /// Hubs that lost their memory while idle, their sockets asleep.
    hubs_evicted,
    /// Turns of a `Tenant` object that failed.
    gates_crashed,
    /// Everything at once.
    server_crashed,
    /// Sockets cut from outside.
    sockets_cut,
    /// Alarms that came again.
    alarms_repeated,
    /// Alarms that came late.
    alarms_late,
    /// Jumps of the clock forward.
    clock_jumped_forward,
    /// Jumps of the clock back.
    clock_jumped_back,
    /// Jobs that were held back alone.
    jobs_held,
    /// Jobs that were given another time.
    jobs_rescheduled,
    /// Attempts that heard in time that their job was cancelled.
    attempts_asked_to_stop,
    /// Cancelled jobs whose attempts did not stop by themselves.
    jobs_stopped_by_force,
    /// Keys that named another job than before.
    keys_freed,
    /// Keys of requests that were given a job which another request had made.
    keys_joined,
    /// Requests that were given a job which another one had made, or the same one before.
    requests_deduplicated,
    /// Executions that never began.
    attempts_lost,
    /// Executions that began twice.
    attempts_doubled,
    /// Executions that fell silent.
    attempts_hung,
    /// Executions that died with their object.
    attempts_killed,
    /// Outcomes that came late.
    outcomes_late,
    /// Outcomes given twice.
    outcomes_doubled,
    /// Outcomes that found their object restarted.
    outcomes_lost,
    /// Outcomes and reports refused for an old token.
    tokens_refused,
    /// Leases that ended without an outcome.
    leases_lost,
    /// Attempts that failed and were tried again.
    retried,
    /// Notes of an attempt that came a second time.
    notes_doubled,
    /// Doorbells that came out of the queue of the dead.
    doorbells_dead,
    /// Attempts whose start has a place among the events of their job.
    starts_kept,
    /// Text that reached a client.
    output_seen,
    /// Runs that went on in another run.
    unfinished,
    /// Runs that put themselves off.
    snoozed,
    /// Attempts that failed because they gave no sign of their own.
    attempts_silent,
    /// Jobs that waited longer for their first attempt than they may.
    jobs_expired,
    /// Jobs that took longer than they may, and lost an attempt or the next one.
    jobs_over_time,
    /// Attempts that failed, and were not tried again because there was no time left for it.
    retries_without_time,
    /// Jobs stored.
    jobs_stored,
    /// Jobs that were answered without a row.
    jobs_unstored,
    /// Jobs that got a row at their deadline.
    jobs_spilled,
    /// Jobs deleted after their retention.
    jobs_swept,
    /// Jobs cancelled.
    jobs_cancelled,
    /// Jobs cancelled because nobody followed them any more.
    jobs_left,
    /// Hubs that were asked whether anybody follows a job.
    hubs_asked,
    /// Such questions, or their answers, that were lost.
    questions_lost,
    /// Jobs that waited for their time and were retried before it.
    retried_early,
    /// New jobs that do an ended one again.
    jobs_redriven,
    /// Redrives that found their new job there already.
    redrives_repeated,
    /// Dead letters discarded.
    jobs_discarded,
    /// Dead letters listed.
    letters_seen,
    /// Changes of several jobs that were only tried.
    dry_runs,
    /// Payloads put into object storage.
    payloads_stored,
    /// Payloads deleted from object storage.
    payloads_deleted,
    /// Payloads in object storage that passed on to a new job.
    payloads_passed_on,
    /// Requests that found their key's job.
    deduplicated,
    /// Requests refused because their key had another body.
    mismatched,
    /// Terminal events delivered again.
    redelivered,
    /// Events that a socket was sent.
    events_seen,
    /// Terminal events that a socket was sent.
    ends_seen,
    /// Attaches answered by a snapshot.
    snapshots_seen,
    /// Answers on the spot.
    responses_seen,
    /// Watches over HTTP that were answered.
    watches_answered,
    /// Requests over HTTP that were answered.
    http_answered,
    /// Batches of requests over HTTP that were answered.
    batches_answered,
    /// Batches that were sent again with their key.
    batches_repeated,
    /// Jobs that came as part of a batch.
    batch_jobs,
    /// Jobs that waited in a pack after a turn, each as often.
    batch_jobs_packed,
    /// Requests of batches that shared a turn with others.
    requests_decided_together,
    /// Requests that became jobs after others were asked for places.
    requests_decided_later,
    /// Requests that were refused after others were asked for places.
    requests_refused_later,
    /// Parts of batches that were cancelled.
    batches_cancelled,
    /// Questions about batches that were answered.
    batches_shown,
    /// Attempts to reach what is not one's own.
    intrusions_refused,
    /// Tokens that expired on a live socket.
    tokens_expired,
    /// Pauses that an object took.
    paused,
    /// Calls of workers that asked for jobs.
    workers_asked,
    /// Jobs that reached a worker.
    leased,
    /// Starts under a throttle.
    throttled_starts,
    /// Sets of schedules that a gate told again.
    schedules_told_again,
    /// Nominal times that fired.
    ticks_fired,
    /// Nominal times that fired more than two seconds late.
    ticks_late,
    /// Nominal times that waited for the end of a job.
    ticks_held,
    /// Compositions activated.
    activations,
    /// Growths that were asked for.
    growths_begun,
    /// Growths that came to their end.
    growths_ended,
    /// Entries of the audit trail that never arrived at the gate.
    records_lost,
    /// Entries of the audit trail that arrived twice.
    records_doubled,
    /// Things done by hand of which the audit trail told in the end.
    acts_told,
    /// Places under limits that objects asked each other for.
    places_asked,
    /// Places that objects gave back unasked.
    places_returned,
    /// Places that the home of a limit wanted back.
    places_recalled,
    /// Spreads that were refused.
    spreads_refused,
    /// Calls that a sealed object handed on.
    handed_on,
    /// Keys that another object answered for than their first owner.
    keys_moved,
    /// Jobs that a sealed object numbered in a partition of its own.
    jobs_renumbered,
    /// Pauses that a new object was owed.
    pauses_owed,
    /// Reports of use that never arrived at the gate.
    reports_of_use_lost,
    /// Reports of use that arrived twice.
    reports_of_use_doubled,
    /// Reports of use that a gate took in.
    uses_heard,
    /// How often a socket kept what its hub had counted.
    uses_kept,
    /// Budgets that were spent.
    budgets_spent,
    /// Units of use that a crash took.
    uses_lost,
    /// Questions of hubs whether limits have room.
    limits_asked,
    /// Requests that were admitted out of leases.
    limits_admitted_by_leases,
    /// Requests that limits refused.
    limits_refused,
    /// Leases that hubs were lent.
    limits_leases,
    /// Questions for which the gate wanted leases of other hubs back.
    limits_recalls,
    /// Calls between hubs and the gate of limits, or their answers, that were lost or came too late.
    limits_calls_lost,
    /// Hubs that died with their leases.
    limits_hubs_crashed,
    /// Turns of the gate of limits that failed.
    limits_gates_crashed,
    /// Times that an object died which tells endpoints.
    endpoints_object_crashed,
    /// Calls between such an object and the gate that were lost.
    endpoints_calls_lost,
    /// Attempts to tell an endpoint, or their outcomes, that were lost.
    endpoints_outcomes_lost,
    /// Messages that were kept back for an endpoint that is disabled.
    endpoints_messages_held,
    /// Messages that an endpoint heard.
    endpoints_messages_heard,
    /// Messages that were given up, and sent again by hand.
    endpoints_messages_redriven,
    /// States built from the rows and compared with the live one.
    recoveries_compared,
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in self.all() {
            writeln!(f, "{count:>12}  {}", name.replace('_', " "))?;
        }
        Ok(())
    }
}
