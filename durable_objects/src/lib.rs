//! One thin shell for each object class, and the runtime that operations run in.
//!
//! A shell loads, calls the engine module of its name, and carries out the effects; it decides nothing. What is shared
//! by the shells and the Worker is here too: SQL behind the engine's trait ([`sql`]), typed calls ([`remote`]), plans
//! by revision ([`plans`]), and the outside as an operation sees it ([`runtime`]).

pub mod access;
pub mod attempts;
mod backup;
mod bytes;
pub mod channel;
mod company;
pub mod directory;
mod erase;
mod gathering;
pub mod hub;
pub mod jobs;
pub mod microtasks;
mod object_reader;
mod outbox;
pub mod plans;
pub mod platform;
mod recovery;
pub mod remote;
mod reports;
pub mod request_log;
pub mod residence;
pub mod runtime;
pub mod secrets;
pub mod signing;
mod sockets;
pub mod sql;
pub mod storage;
pub mod tenant;
pub mod timer;
pub mod tokens;
mod trace;
mod upstreams;
mod usage;

pub use channel::Channel;
pub use hub::Hub;
pub use jobs::Jobs;
pub use tenant::Tenant;
