//! The bytes of a part: a sequence of CBOR items (RFC 8742), each an array that begins with what it is. Whoever has a part and
//! a reader of CBOR can read it without Tidegate.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

use crate::database::{Cell, DatabaseError};

/// The items of a part, by the number at the beginning of each.
const TABLE: u8 = 1;
const ROW: u8 = 2;
const STORED: u8 = 3;

/// An item of a part.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// The rows behind this are of a table, with these columns.
    Table(String, Vec<String>),
    /// A row.
    Row(Vec<Field>),
    /// Something from object storage, or a piece of it.
    Stored {
        /// Its key.
        key: String,
        /// The type of its content.
        content_type: Option<String>,
        /// How many bytes there are of it in all.
        size: u64,
        /// Where in it these begin.
        offset: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
}

/// A value of a row, exactly as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Field {
    /// NULL.
    Null,
    /// INTEGER.
    Integer(i64),
    /// REAL.
    Real(f64),
    /// TEXT.
    Text(String),
    /// BLOB.
    Blob(Vec<u8>),
}

fn broken(cause: impl ToString) -> DatabaseError {
    DatabaseError::new(cause.to_string())
}

/// The bytes of a part while it is written.
pub(super) struct Writer(Encoder<Vec<u8>>);

impl Writer {
    pub(super) fn new() -> Self {
        Self(Encoder::new(Vec::new()))
    }

    pub(super) fn len(&self) -> usize {
        self.0.writer().len()
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0.into_writer()
    }

    pub(super) fn table(&mut self, name: &str, columns: &[&str]) -> Result<(), DatabaseError> {
        let count = u64::try_from(columns.len()).unwrap_or(u64::MAX);
        let head = self.0.array(3).and_then(|e| e.u8(TABLE)).and_then(|e| e.str(name));
        head.and_then(|e| e.array(count)).map_err(broken)?;
        for column in columns {
            self.0.str(column).map_err(broken)?;
        }
        Ok(())
    }

    /// A row of so many cells. The whole numbers among them are read as text, because a double does not hold all of them.
    pub(super) fn row(&mut self, integers: &[bool], cells: &[Cell]) -> Result<(), DatabaseError> {
        let count = u64::try_from(cells.len()).unwrap_or(u64::MAX).saturating_add(1);
        self.0.array(count).and_then(|e| e.u8(ROW)).map_err(broken)?;
        for (is_integer, cell) in integers.iter().zip(cells) {
            let written = match cell {
                Cell::Null => self.0.null(),
                Cell::Number(number) => self.0.f64(*number),
                Cell::Text(text) if *is_integer => {
                    let number = text.parse().map_err(|_| broken("a whole number was not read"))?;
                    self.0.i64(number)
                }
                Cell::Text(text) => self.0.str(text),
                Cell::Blob(bytes) => self.0.bytes(bytes),
            };
            written.map_err(broken)?;
        }
        Ok(())
    }
}

/// Writes something from object storage behind what is in `part`.
///
/// Errors: where it cannot be written, which memory excludes.
pub fn stored(
    part: Vec<u8>,
    key: &str,
    content_type: Option<&str>,
    (size, offset): (u64, u64),
    bytes: &[u8],
) -> Result<Vec<u8>, DatabaseError> {
    let mut encoder = Encoder::new(part);
    let head = encoder.array(6).and_then(|e| e.u8(STORED)).and_then(|e| e.str(key));
    let head = head.and_then(|e| match content_type {
        Some(kind) => e.str(kind),
        None => e.null(),
    });
    head.and_then(|e| e.u64(size))
        .and_then(|e| e.u64(offset))
        .and_then(|e| e.bytes(bytes))
        .map_err(broken)?;
    Ok(encoder.into_writer())
}

/// The items of a part, one after the other.
pub fn items(part: &[u8]) -> impl Iterator<Item = Result<Item, DatabaseError>> {
    let mut decoder = Decoder::new(part);
    core::iter::from_fn(move || {
        (decoder.position() < decoder.input().len()).then(|| item(&mut decoder).map_err(broken))
    })
}

fn item(decoder: &mut Decoder<'_>) -> Result<Item, minicbor::decode::Error> {
    let unknown = || minicbor::decode::Error::message("an item of an unknown kind");
    let length = decoder.array()?.ok_or_else(unknown)?;
    match decoder.u8()? {
        TABLE => {
            let name = decoder.str()?.into();
            let count = decoder.array()?.ok_or_else(unknown)?;
            let columns = (0..count).map(|_| decoder.str().map(String::from));
            Ok(Item::Table(name, columns.collect::<Result<_, _>>()?))
        }
        ROW => {
            let fields = (1..length).map(|_| field(decoder));
            Ok(Item::Row(fields.collect::<Result<_, _>>()?))
        }
        STORED => Ok(Item::Stored {
            key: decoder.str()?.into(),
            content_type: match decoder.datatype()? {
                Type::Null => decoder.null().map(|()| None)?,
                _ => Some(decoder.str()?.into()),
            },
            size: decoder.u64()?,
            offset: decoder.u64()?,
            bytes: decoder.bytes()?.into(),
        }),
        _ => Err(unknown()),
    }
}

fn field(decoder: &mut Decoder<'_>) -> Result<Field, minicbor::decode::Error> {
    Ok(match decoder.datatype()? {
        Type::Null => decoder.null().map(|()| Field::Null)?,
        Type::F64 => Field::Real(decoder.f64()?),
        Type::String => Field::Text(decoder.str()?.into()),
        Type::Bytes => Field::Blob(decoder.bytes()?.into()),
        _ => Field::Integer(decoder.i64()?),
    })
}
