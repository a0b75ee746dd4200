//! The Tidegate client for Rust.
//!
//! A [`Client`] sends requests over one WebSocket that it keeps open, and speaks the HTTP API through [`Client::http`].
//! A request always carries an idempotency key, so that it can be sent again after a lost connection without running
//! twice; a call that became a job is followed again from the last event seen. Each call ends with exactly one
//! [`Outcome`].
//!
//! ```no_run
//! # async fn example() -> Result<(), tidegate_sdk::Error> {
//! use tidegate_sdk::{CallOptions, Client, Update};
//!
//! let client = Client::new("http://127.0.0.1:8787", "a token")?;
//! let input = std::collections::BTreeMap::from([("object", "zips.csv")]);
//! let mut call = client.call("report.summarize", &input, CallOptions::default())?;
//! while let Some(update) = call.next().await {
//!     match update {
//!         Update::Progress(progress) => println!("{:.0} %", progress.percentage),
//!         Update::Ended(outcome) => println!("{outcome:?}"),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Client::subscribe`] follows a channel through lost connections, and [`Client::publish`] stores a message in it once.
//!
//! A [`worker::Worker`] runs jobs of a pool in a process of one's own.
//!
//! What is decided without I/O, and tested so: [`backoff`], [`call`], [`channels`], [`inbox`],
//! [`link`]. What does I/O: [`client`], [`http`].

pub mod backoff;
pub mod call;
pub mod channels;
pub mod client;
pub mod error;
pub mod event;
pub mod frame;
pub mod http;
pub mod ids;
pub mod inbox;
pub mod link;
mod options;
mod random;
mod socket;
pub mod subscription;
mod transport;
pub mod worker;

pub use call::Target;
pub use channels::{ChannelUpdate, Cursor, Member, Message, Presence, Published};
pub use client::{Client, Handle, Settings};
pub use error::{ApiError, Code, Error};
pub use event::{Outcome, Update};
pub use http::Http;
pub use ids::{BatchId, JobId, Status};
pub use options::{CallOptions, Start};
pub use subscription::Subscription;
pub use tidegate_protocol::calls::queueing::Priority;
pub use tidegate_protocol::event::JsonText;
pub use tidegate_protocol::frames::{Mode, OnDisconnect};
pub use tidegate_protocol::ids::Seq;
pub use tidegate_protocol::time::UnixMs;
pub use tidegate_protocol::{ErrorCode, Fault};
