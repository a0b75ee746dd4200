//! One module for each command.

pub mod audit;
pub mod batch;
pub mod batches;
pub mod call;
pub mod composition;
pub mod history;
pub mod job;
pub mod letters;
pub mod limits;
pub mod objects;
pub mod queue;
pub mod schedules;
pub mod token;
pub mod upstreams;
pub mod worker;
