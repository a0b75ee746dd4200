//! How the parts talk to each other: one typed enum for each object, versioned, in CBOR (RFC 8949).
//!
//! During a deployment old and new code talk to each other. CBOR with named fields reads like JSON: a field that is not
//! known is passed over, one that is missing takes its default. So a change adds optional fields or variants; anything
//! else raises [`VERSION`].

use alloc::vec::Vec;

use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Error, ErrorCode};

/// The version of the calls between the parts.
pub const VERSION: u8 = 1;

/// Encodes a call or a reply: the version, then the value.
///
/// Errors: `INTERNAL_ERROR` where a value cannot be encoded, which no type of this crate can cause.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    let mut bytes = minicbor_serde::to_vec(value).map_err(|_| {
        Error::new(
            ErrorCode::InternalError,
            "A call between the parts could not be written.",
        )
    })?;
    bytes.insert(0, VERSION);
    Ok(bytes)
}

/// Decodes a call or a reply.
///
/// Errors: `UNAVAILABLE` for another version: the other side is being deployed, and trying again helps.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    match bytes.split_first() {
        Some((&VERSION, body)) => minicbor_serde::from_slice(body)
            .map_err(|_| Error::new(ErrorCode::InternalError, "A call between the parts could not be read.")),
        _ => Err(Error::new(ErrorCode::Unavailable, "A new version is being deployed.").retry_after(1000)),
    }
}
