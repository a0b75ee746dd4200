//! The request log: one line for a request, as JSON, without secrets.
//!
//! Which requests are written is decided when they have been answered ([`Rules`]), by the hash of their id, so that whatever is
//! written of one request is written, or not, together. Names of fields follow OpenTelemetry's semantic conventions where those
//! have one. It must not know where lines go.

mod config;
mod record;

pub use config::{Config, DEFAULT, RULES_MAX};
pub use record::{PAYLOAD_BYTES_MAX, Record, Transport};

#[cfg(test)]
mod tests;
