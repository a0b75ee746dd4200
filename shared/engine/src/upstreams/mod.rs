//! Calls of upstreams that can be relied on: breakers, retries, and what an isolate remembers of an upstream.
//!
//! A breaker belongs to the tenant's gate ([`Breakers`]), which alone changes its state ([`Breaker`]). Whoever calls goes
//! by what it heard last ([`Edge`]): while an upstream is well, nobody is asked before a call, and what came of many calls
//! is told at once. What may follow a call that failed is decided by [`Retry`]. Nothing here knows HTTP's wire or the clock.

mod breaker;
mod edge;
mod gate;
mod retry;

#[cfg(test)]
#[cfg(feature = "native")]
mod tests;

pub use breaker::{Breaker, Reason};
pub use edge::{Edge, Passage};
pub use gate::{BREAKERS, Breakers, Changed};
pub use retry::{Failure, Retry, Tried};
