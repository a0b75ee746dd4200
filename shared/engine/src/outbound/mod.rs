//! Where requests may go that Tidegate makes for a tenant, and the one spelling in which such a place is taken.
//!
//! [`BaseUrl`] is the beginning of an upstream's URLs, which a composition lists. A [`Target`] is a whole URL of somebody
//! else's endpoint, of which less is trusted. Everything here is decided by the text alone: what a public name resolves
//! to, only the platform knows.

mod address;
mod location;
mod target;

pub use address::Host;
pub use location::{BASE_BYTES_MAX, BaseUrl, OTHER_PROTOCOL, Scheme, URL_BYTES_MAX, check_path, escape, is_segment};
pub use target::{Allowed, Target};
