//! One module for each command.

pub mod access;
pub mod audit;
pub mod audit_verify;
mod backups;
pub mod batch;
pub mod batches;
pub mod call;
pub mod channel;
pub mod composition;
pub mod endpoints;
pub mod health;
pub mod history;
pub mod inbound;
pub mod job;
pub mod letters;
pub mod limits;
pub mod objects;
pub mod policy;
pub mod queue;
mod recovery;
pub mod schedules;
pub mod secrets;
pub mod tenant;
pub mod token;
pub mod upstreams;
pub mod usage;
pub mod worker;
