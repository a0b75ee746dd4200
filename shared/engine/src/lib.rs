//! The decisions of Tidegate, pure: time, randomness and the database are arguments.
//!
//! Every object has a module of its name here, and is a thin shell around it: it loads, calls, and carries out the
//! effects. The engine must not know the platform, the Worker or any pattern.
#![no_std]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub mod access;
pub mod admission;
pub mod audit;
pub mod backup;
pub mod breath;
pub mod channels;
pub mod company;
pub mod composition;
pub mod connections;
pub mod database;
mod digest;
pub mod directory;
pub mod endpoints;
pub mod event_streams;
pub mod expression;
pub mod flood;
pub mod health;
pub mod hearsay;
pub mod hub;
pub mod idempotency;
pub mod inbound;
pub mod jobs;
pub mod leasing;
pub mod outbound;
pub mod policies;
pub mod progress;
pub mod redaction;
pub mod reporting;
pub mod request_log;
pub mod schedules;
pub mod secrets;
pub mod tenancy;
pub mod upstreams;
pub mod usage;
