//! Hubs, jobs, tenants, the queue, executors and clients on one thread, with every fault that a seed can bring.
//!
//! The engine under test is the one that ships, asked through the same `Call`, `Reply` and `Effect` enums; only the
//! shells, the platform and the outside are models. Time is a number that jumps from event to event, chance comes from
//! the seed, so that a seed is a history and a failing one is a test. [`oracle`] holds what must always be true.

mod blobs;
mod clients;
mod counters;
mod endpoints;
mod executor;
mod gates;
mod hubs;
mod jobs;
mod limits;
mod network;
mod oracle;
mod random;
mod schedules;
mod setting;
mod trail;
mod usage;
mod workers;
mod world;

pub use counters::Counters;
pub use world::Options;

/// Runs one history: that of jobs, and those of parts whose clients are others.
///
/// Errors: the rule that was broken.
pub fn run(options: Options) -> Result<Counters, String> {
    let mut counters = world::run(options)?;
    counters += limits::run(options)?;
    counters += endpoints::run(options)?;
    Ok(counters)
}
