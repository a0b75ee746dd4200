//! How the parts talk to each other: one typed enum for each object, versioned, in CBOR (RFC 8949).
//!
//! During a deployment old and new code talk to each other. CBOR with named fields reads like JSON: a field that is not
//! known is passed over, one that is missing takes its default. So a change adds optional fields or variants; anything
//! else raises [`VERSION`].

use alloc::vec::Vec;

use tidegate_cbor::{Decode, Encode, Reader, Writer};

use crate::error::{Error, ErrorCode};

/// The version of the calls between the parts.
pub const VERSION: u8 = 1;

/// Encodes a call or a reply: the version, then the value.
pub fn encode(value: &dyn Encode) -> Vec<u8> {
    let mut writer = Writer::behind(Vec::from([VERSION]));
    value.encode(&mut writer);
    writer.into_bytes()
}

/// Decodes a call or a reply.
///
/// Errors: `UNAVAILABLE` for another version: the other side is being deployed, and trying again helps. `INTERNAL_ERROR`
/// where the bytes are not such a value.
pub fn decode<T: Decode>(bytes: &[u8]) -> Result<T, Error> {
    let mut value = T::blank();
    read_over(bytes, &mut value).map(|()| value)
}

fn read_over(bytes: &[u8], value: &mut dyn Decode) -> Result<(), Error> {
    let Some((&VERSION, body)) = bytes.split_first() else {
        return Err(Error::new(ErrorCode::Unavailable, "A new version is being deployed.").retry_after(1000));
    };
    let mut reader = Reader::new(body);
    value.decode(&mut reader);
    let read = reader.finish();
    read.map_err(|_| Error::new(ErrorCode::InternalError, "A call between the parts could not be read."))
}
