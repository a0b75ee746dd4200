//! Limits on requests: exact over all hubs of a tenant, and decided without a question to anybody in the steady state.
//!
//! The gate counts ([`Gate`]); hubs admit out of what it has leased to them ([`Leases`]). Three rules make that exact:
//!
//! - what is leased is counted when it is lent, so that admitted never exceeds a limit, whoever crashes;
//! - what is in a bucket and what is lent out of it are together never more than the bucket holds, so that units which
//!   are used later than they were counted make no burst larger;
//! - before the gate refuses, it takes back what others have not used, so that nobody is refused while units are left.
//!
//! A hub that crashes loses what it had leased, and nothing else: the shortfall is at most its outstanding leases, and
//! over with them.

mod bucket;
mod gate;
mod leases;

#[cfg(test)]
#[cfg(feature = "native")]
pub(crate) mod tests;

pub use gate::{BUCKETS, Gate, Outcome, Recalls};
pub use leases::{Leases, Taken, near, refusal};

/// How long a lease lasts. Short, because what a crash loses is gone for so long; long enough that a question is rare.
/// Milliseconds.
pub const LEASE_MS: u64 = 5_000;
/// How often a hub that has leases looks for some that it does not need. Milliseconds.
pub const LOOK_MS: u64 = 1_000;
