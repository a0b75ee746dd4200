//! What calls cost the thread that the objects of a process share, for [`crate::breath`].

use tidegate_protocol::calls::jobs::Call;

/// What the calls may cost that are decided between two looks at sockets and timers: the ends of 128 attempts, which start
/// as many, or 64 requests of a batch. With 16 calls instead, a shard did half as many jobs in a second (what shares a turn
/// shares its commit, and the calls of executors and hubs that follow), and its neighbours waited as long as before.
pub const COST_MAX: usize = 256;

/// What all calls may cost that are decided before a look which is waited for: four of them. An object that is called now
/// and then answers at once; one that is called all the time decides what comes between two looks in one turn. With 1,000
/// progress events a second, which keep the thread busy, that made the wait of most of them a third of what it was.
pub const COST_EARLY: usize = 8;

/// What a call costs. A request of a batch is written with others, and as many of them as lie in one row are a part that
/// is worth a turn.
#[must_use]
pub fn cost(call: &Call) -> usize {
    match call {
        Call::Enqueue(enqueue) if enqueue.job.batch.is_some() => 4,
        _ => 2,
    }
}
