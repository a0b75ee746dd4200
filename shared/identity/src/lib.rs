//! Verifies tokens and tickets, and says who a caller is.
//!
//! Everything here is a function of its arguments: the time, the randomness and the fetched key sets are passed in, so
//! that the same code decides natively and in wasm. It knows nothing of requests, objects or the network.
//!
//! The way of a token: [`issuers`] finds the configured issuer that the token names, [`jws`] checks the signature
//! with that issuer's [`keys`], [`jwt`] checks the claims, and what remains is a [`Principal`].

#![no_std]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod algorithm;
pub mod api_key;
pub mod attempt;
pub mod deployment_key;
pub mod error;
pub mod fault;
pub mod inbound;
pub mod issuers;
pub mod jws;
pub mod jwt;
pub mod key_cache;
pub mod keys;
mod library;
#[cfg(all(feature = "mint", not(target_arch = "wasm32")))]
pub mod mint;
pub mod principal;
pub mod sealing;
pub mod strict_json;
pub mod ticket;
pub mod webhook;

pub use algorithm::Algorithm;
pub use deployment_key::DeploymentKey;
pub use error::{IdentityError, Reason};
pub use fault::Fault;
pub use issuers::{Issuers, JwksUrl};
pub use key_cache::KeyCache;
pub use keys::KeySet;
pub use principal::{Principal, Tenant, User};
