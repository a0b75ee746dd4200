//! Hubs, jobs, tenants, the queue, executors and clients on one thread, with every fault that a seed can bring.
//!
//! The engine under test is the one that ships, asked through the same `Call`, `Reply` and `Effect` enums; only the
//! shells, the platform and the outside are models. Time is a number that jumps from event to event, chance comes from
//! the seed, so that a seed is a history and a failing one is a test. [`oracle`] holds what must always be true.

mod blobs;
mod clients;
mod counters;
mod executor;
mod gates;
mod hubs;
mod jobs;
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
pub use world::{Options, run};
