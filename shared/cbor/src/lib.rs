//! CBOR (RFC 8949) for the calls between parts and for the rows, written and read by tables of fields.
//!
//! A type has a small table of its fields' names, and a list of its fields behind one trait. One loop, which is in the
//! module once, writes and reads them all. So a type costs a table and a few instructions instead of code for each field.
//!
//! The format is that of `serde`'s data model, as `minicbor-serde` writes it: a struct is a map with text keys; an enum's
//! variant is its name, or a map of one entry from its name to what it holds; `None` is null; a tuple is an array. A field
//! that is not known is passed over, and one that may be missing takes its default. All lengths are definite: the writer
//! never wrote others.
//!
//! This crate knows bytes, not what they mean.
#![no_std]

extern crate alloc;
extern crate self as tidegate_cbor;

mod names;
mod reader;
mod sequences;
#[cfg(test)]
mod tests;
mod values;
mod writer;

use alloc::vec::Vec;

pub use self::reader::{Error, Kind, NESTING_MAX, Reader};
pub use self::writer::Writer;
pub use tidegate_cbor_derive::{Decode, Encode};

/// What can be written. Derive it.
pub trait Encode {
    /// Writes this value.
    fn encode(&self, writer: &mut Writer);

    /// Whether a field that may be left out is, where it holds this value: nothing, an empty list or text, `false`.
    fn is_absent(&self) -> bool {
        false
    }
}

/// What can be read. Derive it.
pub trait Decode {
    /// A value to be read over: as cheap as can be, and never handed out before it was.
    fn blank() -> Self
    where
        Self: Sized;

    /// Reads over this value, which is a [blank](Decode::blank) one. What cannot be read is told to the reader.
    fn decode(&mut self, reader: &mut Reader<'_>);
}

/// The bytes of `value`.
pub fn to_vec(value: &dyn Encode) -> Vec<u8> {
    let mut writer = Writer::default();
    value.encode(&mut writer);
    writer.into_bytes()
}

/// The value that `bytes` are, to their end.
///
/// Errors: where they are not what [`to_vec`] writes of such a value.
pub fn from_slice<T: Decode>(bytes: &[u8]) -> Result<T, Error> {
    let mut value = T::blank();
    read_over(bytes, &mut value).map(|()| value)
}

fn read_over(bytes: &[u8], value: &mut dyn Decode) -> Result<(), Error> {
    let mut reader = Reader::new(bytes);
    value.decode(&mut reader);
    reader.finish()
}
