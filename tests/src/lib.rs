//! What the end-to-end tests stand on: a real server on workerd, and clients that speak the public protocol alone.
//!
//! Nothing here may name another crate of the workspace: a mistake that the server and its client share would not show.
//! A fault of the server, or of the harness itself, is a panic with what was expected and what came, because that is how
//! a test fails.

pub mod channel_events;
pub mod disk;
pub mod handler;
pub mod history;
pub mod http;
pub mod issuer;
pub mod phases;
pub mod receiver;
pub mod server;
pub mod socket;
pub mod sse;
pub mod stage;
pub mod tenant;
pub mod token;
pub mod upstream;

use std::time::{Duration, Instant};

/// How long anything that should happen soon may take. Generous: the machine may be busy with other tests.
pub const SOON: Duration = Duration::from_secs(40);

/// Asks `probe` until it gives something, for [`SOON`] at most; `what` names it where it never comes.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + SOON;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "never came: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Text that no other test uses: 16 characters of a-z and 0-9.
pub fn unique() -> String {
    std::iter::repeat_with(fastrand::alphanumeric)
        .take(16)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}
