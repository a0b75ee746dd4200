//! Frames, HTTP bodies, error codes, ids and the calls between the parts: the only place where they are defined.
//!
//! This crate knows shapes, not decisions: it must not know what an action does, who may do it, or where a row lies.
//! It reads untrusted text ([`frames`]) and reports every fault of it at once ([`fault`]).
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub mod calls;
pub mod chain;
pub mod channels;
pub mod envelope;
pub mod error;
pub mod event;
pub mod fault;
pub mod fields;
pub mod frames;
pub mod http;
pub mod ids;
pub mod limits;
pub mod presence;
pub mod sorted;
pub mod time;

pub use error::{Error, ErrorCode, LimitState};
pub use fault::Fault;
pub use sorted::{SortedMap, SortedSet};
